// A function that runs on a slot, for tests: the least that a scheduler does.
#ifndef WEFT_STACK_INTERNAL_TASK_H_
#define WEFT_STACK_INTERNAL_TASK_H_

#include <functional>
#include <utility>

#include "stack/context.h"
#include "stack/slots.h"

namespace weft::stack {

// Not thread-safe, but it may be resumed by one thread after the other.
class Task {
 public:
  using Body = std::function<void(Task&)>;

  Task(SlotCache& cache, Body body, SizeClass size_class = DefaultSizeClass());
  ~Task();  // an unfinished one is abandoned: nothing on its stack is destroyed
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

  // Goes on with the body until it pauses (true) or returns (false).
  bool Resume();

  // From the body: returns from Resume(), and then when it is called again.
  void Pause();

  const Context& context() const { return context_; }
  const Slot& slot() const { return *slot_; }
  // That of the thread that resumes it.
  Context& thread_context() { return thread_; }

 private:
  static void Run(void* task);

  SlotCache& cache_;
  Body body_;
  Slot* slot_;
  Slot* pinned_;
  bool done_ = false;
  Context context_;
  Context thread_;
};

// Runs body() on a slot, to its end.
void RunOnSlot(const std::function<void()>& body, SizeClass size_class = DefaultSizeClass());

}  // namespace weft::stack

#endif  // WEFT_STACK_INTERNAL_TASK_H_
