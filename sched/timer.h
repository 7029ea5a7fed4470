// Timers that call a function, for the layers above: deadlines, sleeps, tickers.
//
// A CallbackTimer is a member of whatever waits by it; arming one allocates nothing. Each P has a
// heap of its own, looked at by whoever schedules there and by thieves
// (sched/internal/timer_heap.h).
//
//   struct Request { weft::CallbackTimer deadline{[](weft::CallbackTimer& t) { ... }}; };
//   request.deadline.Start(weft::Instant::Now() + absl::Seconds(1));
#ifndef WEFT_SCHED_TIMER_H_
#define WEFT_SCHED_TIMER_H_

#include <atomic>
#include <cstdint>

#include "sched/clock.h"

namespace weft {

namespace internal {
class TimerHeap;
}

class CallbackTimer {
 public:
  // Runs on a scheduler's stack, inside the runtime: it must be short and must not park, but may
  // unpark waiters (Waiter::Unpark) and start or stop timers, this one too. No lock is held.
  using Callback = void (*)(CallbackTimer& timer);

  explicit constexpr CallbackTimer(Callback callback) : callback_(callback) {}
  // It must not be pending, nor its callback running.
  ~CallbackTimer() = default;
  CallbackTimer(const CallbackTimer&) = delete;
  CallbackTimer& operator=(const CallbackTimer&) = delete;

  // Arms it: the callback runs once, at `when` or as soon after as a P looks. If it was pending it
  // is moved. True: it was pending. Starts the runtime if it is not running. From any goroutine,
  // thread or timer callback; callers that start and stop one timer at once must order that
  // themselves.
  bool Start(Instant when);

  // Disarms it. True: it was pending and its callback will not run for that Start(). False: it was
  // not pending; the callback may be running at this moment on another thread.
  bool Stop();

 private:
  friend class internal::TimerHeap;

  const Callback callback_;
  Instant when_;
  // The heap it is in, or null. Written under that heap's lock.
  std::atomic<internal::TimerHeap*> heap_{nullptr};
  int32_t index_ = -1;  // its place there
};

}  // namespace weft

#endif  // WEFT_SCHED_TIMER_H_
