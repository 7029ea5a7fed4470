#include "stack/internal/task.h"

#include <cstdio>
#include <cstdlib>

namespace weft::stack {

Task::Task(SlotCache& cache, Body body, SizeClass size_class)
    : cache_(cache),
      body_(std::move(body)),
      slot_(Acquire(cache, size_class)),
      pinned_(AcquirePinned(cache)) {
  if (slot_ == nullptr || (kHasPinnedStack && pinned_ == nullptr)) {
    std::fprintf(stderr, "no slot: %s\n", WhyNoSlot());
    std::abort();
  }
  MakeContext(context_, *slot_, pinned_, Run, this);
}

Task::~Task() {
  DestroyContext(context_);
  Release(cache_, slot_);
  ReleasePinned(cache_, pinned_);
}

bool Task::Resume() {
  Switch(thread_, context_);
  return !done_;
}

void Task::Pause() { Switch(context_, thread_); }

void Task::Run(void* arg) {
  auto* task = static_cast<Task*>(arg);
  task->body_(*task);
  task->done_ = true;
  SwitchFinal(task->context_, task->thread_);
}

void RunOnSlot(const std::function<void()>& body, SizeClass size_class) {
  SlotCache cache;
  Task task(cache, [&](Task&) { body(); }, size_class);
  while (task.Resume()) {
  }
}

}  // namespace weft::stack
