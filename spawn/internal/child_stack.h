// Stacks for children that share their parent's memory.
#ifndef WEFT_SPAWN_INTERNAL_CHILD_STACK_H_
#define WEFT_SPAWN_INTERNAL_CHILD_STACK_H_

#include <cstddef>

namespace weft::spawn::internal {

// A stack with an inaccessible page below. A few are kept for the next start, since mapping one and
// touching its pages would cost as much as the rest of the parent's work. From any thread.
class ChildStack {
 public:
  ChildStack();
  ~ChildStack();
  ChildStack(const ChildStack&) = delete;
  ChildStack& operator=(const ChildStack&) = delete;

  // 0, or the errno of why there is none.
  int error() const { return error_; }
  // Its lowest address.
  void* base() const;
  static constexpr size_t kBytes = 32 << 10;

 private:
  char* mapping_;
  int error_ = 0;
};

}  // namespace weft::spawn::internal

#endif  // WEFT_SPAWN_INTERNAL_CHILD_STACK_H_
