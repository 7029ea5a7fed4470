// Timers and tickers that send the time on a channel, and timers that start a goroutine.
//
//   weft::Timer timeout(absl::Seconds(1));
//   weft::Select(reply.OnRecv([&](std::optional<Reply> r) { ... }),
//                timeout.C().OnRecv([&] { ... }));
//   timeout.Reset(absl::Seconds(5));
//
//   weft::Ticker ticker(absl::Milliseconds(100));
//   for (absl::Time t : ticker.C()) Redraw(t);
//
//   weft::Timer save = weft::AfterFunc(absl::Minutes(1), [document] { document->Save(); });
//   save.Stop();
//
// The semantics are those of Go from version 1.23:
// - Once Stop() or Reset() has returned, no value of the time before is received: nothing has to be
//   drained. The channel behaves as one without a buffer (len() and cap() are 0).
// - Nothing has to be stopped: a timer or ticker ends with the last handle to it or to its channel.
// Only
//   what AfterFunc has set goes on by itself.
// - A ticker whose receiver is slow drops ticks.
//
// Timers and Tickers are handles: copies are the same timer. All operations may be called at once,
// from goroutines and threads (but one handle object must not be assigned to while another thread
// uses it). Not from signal handlers. None parks, and after the making of a timer none allocates
// memory.
//
// A Select with a time limit needs none of this: weft::After(d, f) is a case of it (chan/select.h),
// and costs less. The low-level timers below are in sched/timer.h.
#ifndef WEFT_CHAN_TIMER_H_
#define WEFT_CHAN_TIMER_H_

#include <utility>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "sched/internal/closure.h"

namespace weft {

namespace internal {
struct TimerCore;
}  // namespace internal

class Timer {
 public:
  // Nobody's timer. Its channel is nil; to stop or reset it is a mistake.
  Timer() = default;

  // Sends the time on its channel once, when `wait` has passed; at once where that is not positive.
  // Starts the scheduler if it is not running.
  explicit Timer(absl::Duration wait);

  // Where it sends; nil for what AfterFunc has returned.
  const RecvChan<absl::Time>& C() const { return channel_; }

  // Makes it not fire. True: it would have, and now nothing is received (or the function not
  // called). False: it has fired, or was stopped before; a function may be running still. On
  // nobody's timer: "panic: time: Stop called on uninitialized Timer".
  bool Stop() const;

  // Makes it fire when `wait` has passed from now, whether it has fired or was stopped, or not.
  // True: it was still to fire. On nobody's timer: "panic: time: Reset called on uninitialized
  // Timer".
  bool Reset(absl::Duration wait) const;

 private:
  template <typename F>
  friend Timer AfterFunc(absl::Duration wait, F&& f);

  static Timer CallAfter(absl::Duration wait, internal::Closure&& f);

  internal::ChanHandle core_;
  RecvChan<absl::Time> channel_;
};

// Starts a goroutine that runs `f()` when `wait` has passed, and again after each Reset() of what
// is returned; it may run several times at once then, as in Go. `f` is destroyed when the timer has
// ended and nobody has a handle to it. An exception that leaves `f` ends the program. Starts the
// scheduler.
template <typename F>
Timer AfterFunc(absl::Duration wait, F&& f) {
  return Timer::CallAfter(wait, internal::Closure(std::forward<F>(f)));
}

class Ticker {
 public:
  // Nobody's ticker. Its channel is nil, Stop() does nothing, and Reset() is a mistake.
  Ticker() = default;

  // Sends the time on its channel each time that `period` has passed. Not positive: "panic:
  // non-positive interval for NewTicker".
  explicit Ticker(absl::Duration period);

  const RecvChan<absl::Time>& C() const { return channel_; }

  // No more ticks. The channel is not closed: a receiver waits on.
  void Stop() const;

  // Stops it and sets it going with another period: the next tick comes when that has passed. Not
  // positive: "panic: non-positive interval for Ticker.Reset". On nobody's: "panic: time: Reset
  // called on uninitialized Ticker".
  void Reset(absl::Duration period) const;

 private:
  RecvChan<absl::Time> channel_;
};

// The channel of a Timer, of which nothing else is needed. In a Select use weft::After.
RecvChan<absl::Time> AfterChan(absl::Duration wait);

// The channel of a Ticker; a nil one where `period` is not positive.
RecvChan<absl::Time> Tick(absl::Duration period);

}  // namespace weft

#endif  // WEFT_CHAN_TIMER_H_
