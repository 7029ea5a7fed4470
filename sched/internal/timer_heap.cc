#include "sched/internal/timer_heap.h"

#include "sched/internal/delay.h"

namespace weft::internal {
namespace {

constexpr int32_t kArity = 4;

}  // namespace

bool TimerHeap::Start(CallbackTimer& timer, Instant when, TimerHeap& home, bool* earliest) {
  const bool pending = Stop(timer);
  LockGuard guard(home.lock_);
  home.Insert(timer, when);
  *earliest = timer.index_ == 0;
  return pending;
}

bool TimerHeap::Stop(CallbackTimer& timer) {
  for (;;) {
    // Acquire: pairs with the release in Insert(), for the heap itself.
    TimerHeap* heap = timer.heap_.load(std::memory_order_acquire);
    if (heap == nullptr) return false;
    WEFT_DELAY_POINT("timer.stop");
    LockGuard guard(heap->lock_);
    if (timer.heap_.load(std::memory_order_relaxed) != heap) continue;  // fired or moved meanwhile
    heap->Remove(timer);
    return true;
  }
}

int TimerHeap::RunDue(Instant now) {
  int ran = 0;
  while (earliest_.load(std::memory_order_relaxed) <= now.nanos()) {
    CallbackTimer* timer;
    {
      LockGuard guard(lock_);
      if (heap_.empty() || heap_[0].when > now.nanos()) break;
      timer = heap_[0].timer;
      Remove(*timer);
    }
    WEFT_DELAY_POINT("timer.run");
    timer->callback_(*timer);
    ++ran;
  }
  return ran;
}

void TimerHeap::MoveAllTo(TimerHeap& to) {
  for (;;) {
    CallbackTimer* timer;
    Instant when;
    {
      LockGuard guard(lock_);
      if (heap_.empty()) return;
      timer = heap_[0].timer;
      when = timer->when_;
      // CallbackTimer::heap_ goes from this heap to the other with no null in between, and both
      // locks are held: a Stop() finds one or the other, and waits for it.
      Take(*timer);
      WEFT_DELAY_POINT("timer.move");
      LockGuard to_guard(to.lock_);
      to.Insert(*timer, when);
    }
  }
}

void TimerHeap::Insert(CallbackTimer& timer, Instant when) {
  timer.when_ = when;
  timer.heap_.store(this, std::memory_order_release);
  heap_.push_back({});
  SiftUp(static_cast<int32_t>(heap_.size()) - 1, {when.nanos(), &timer});
  UpdateEarliest();
}

void TimerHeap::Remove(CallbackTimer& timer) {
  Take(timer);
  // Last, and release: who finds the timer in no heap may start it again in another one at once.
  timer.heap_.store(nullptr, std::memory_order_release);
}

void TimerHeap::Take(CallbackTimer& timer) {
  const int32_t index = timer.index_;
  timer.index_ = -1;
  const Entry last = heap_.back();
  heap_.pop_back();
  if (last.timer != &timer) {
    if (index > 0 && heap_[(index - 1) / kArity].when > last.when) {
      SiftUp(index, last);
    } else {
      SiftDown(index, last);
    }
  }
  UpdateEarliest();
}

void TimerHeap::SiftUp(int32_t index, Entry entry) {
  while (index > 0) {
    const int32_t parent = (index - 1) / kArity;
    if (heap_[parent].when <= entry.when) break;
    Place(index, heap_[parent]);
    index = parent;
  }
  Place(index, entry);
}

void TimerHeap::SiftDown(int32_t index, Entry entry) {
  const int32_t size = static_cast<int32_t>(heap_.size());
  for (;;) {
    const int32_t first = index * kArity + 1;
    if (first >= size) break;
    const int32_t end = first + kArity < size ? first + kArity : size;
    int32_t least = first;
    for (int32_t child = first + 1; child < end; ++child) {
      if (heap_[child].when < heap_[least].when) least = child;
    }
    if (heap_[least].when >= entry.when) break;
    Place(index, heap_[least]);
    index = least;
  }
  Place(index, entry);
}

void TimerHeap::Place(int32_t index, Entry entry) {
  heap_[index] = entry;
  entry.timer->index_ = index;
}

void TimerHeap::UpdateEarliest() {
  const int64_t earliest = heap_.empty() ? Instant::Never().nanos() : heap_[0].when;
  // Whoever waits in the poller needs to know of a change only, and the barrier is dear.
  if (earliest != earliest_.load(std::memory_order_relaxed)) {
    earliest_.store(earliest, std::memory_order_seq_cst);
  }
  size_.store(static_cast<int32_t>(heap_.size()), std::memory_order_relaxed);
}

}  // namespace weft::internal
