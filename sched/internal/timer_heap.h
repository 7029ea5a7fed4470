// A P's timers, in a heap.
#ifndef WEFT_SCHED_INTERNAL_TIMER_HEAP_H_
#define WEFT_SCHED_INTERNAL_TIMER_HEAP_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "sched/clock.h"
#include "sched/internal/lock.h"
#include "sched/timer.h"

namespace weft::internal {

// A four-ary min-heap: half the levels of a binary one, and the four children of a node share a
// cache line. The timers themselves are elsewhere and know their place.
//
// Which heap a timer is in is CallbackTimer::heap_, written only under that heap's lock; whoever
// finds it takes the lock and looks again.
class TimerHeap {
 public:
  TimerHeap() = default;
  TimerHeap(const TimerHeap&) = delete;
  TimerHeap& operator=(const TimerHeap&) = delete;

  // Arms `timer`, which may be pending in any heap: in the heap it is pending in, else in `home`.
  // True: it was pending. `*earliest` is set where it has become the first of its heap.
  static bool Start(CallbackTimer& timer, Instant when, TimerHeap& home, bool* earliest);

  // Disarms `timer`, whatever heap it is in. True: it was pending.
  static bool Stop(CallbackTimer& timer);

  // Runs the callbacks of all timers due at `now`, each without the lock. From any thread inside
  // the runtime, several at once too. Returns how many.
  int RunDue(Instant now);

  // When the first timer is due; Never() if there is none. A snapshot, without the lock.
  Instant Earliest() const {
    // Acquire: pairs with the store in UpdateEarliest(), so that the idle protocol's second look
    // sees a timer that was added before the look.
    return Instant::FromNanos(earliest_.load(std::memory_order_acquire));
  }

  int size() const { return size_.load(std::memory_order_relaxed); }

  // Moves all timers to `to`, for a P that goes away.
  void MoveAllTo(TimerHeap& to);

 private:
  struct Entry {
    int64_t when;
    CallbackTimer* timer;
  };

  void Insert(CallbackTimer& timer, Instant when) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void Remove(CallbackTimer& timer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  // Remove() that leaves CallbackTimer::heap_ for the caller to change, still under the lock.
  void Take(CallbackTimer& timer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void SiftUp(int32_t index, Entry entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void SiftDown(int32_t index, Entry entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void Place(int32_t index, Entry entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void UpdateEarliest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);

  Lock lock_;
  std::vector<Entry> heap_ ABSL_GUARDED_BY(lock_);
  std::atomic<int64_t> earliest_{Instant::Never().nanos()};
  std::atomic<int32_t> size_{0};
};

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_TIMER_HEAP_H_
