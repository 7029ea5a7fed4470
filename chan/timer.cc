// A timer is a channel with room for one value, and beside it the low-level timer that sends there.
// What users call a channel without a buffer is one whose value is taken back by Stop() and
// Reset().
//
// All of it is under the channel's lock: whether a sending is wanted, and for when (`due`), and
// what is in the buffer. The low-level timer's callback runs without any lock, perhaps long after
// the timer was taken from its heap, and several may be on their way at once if it was started
// again meanwhile. So a callback decides by what it finds: it sends if a sending is wanted and due,
// whichever start it comes from, and then none is wanted any more (or, for a ticker, the next one).
// One that comes too late finds nothing wanted, or not yet.
//
// Lifetime. `keepers` counts the callbacks that are to come or on their way (one for each Start()
// that was not answered by a Stop() or another Start() in time), and all the handles together as
// one. Whoever is the last to let go, when it has done with the lock, frees the memory. What
// AfterFunc has set has a handle to itself while it is to fire, and gives it to the goroutine that
// runs the function.
#include "chan/timer.h"

#include <atomic>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "chan/internal/chan_core.h"
#include "chan/internal/transfer.h"
#include "sched/clock.h"
#include "sched/fatal.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/internal/thread.h"
#include "sched/timer.h"

namespace weft {
namespace internal {
namespace {

static_assert(TransportOf<absl::Time>() == Transport::kStaged &&
              std::is_trivially_copyable_v<absl::Time>);
static_assert(sizeof(ChanCore) % alignof(absl::Time) == 0, "the ring lies behind the core");

void LastHandleGone(ChanCore* core);
void Fired(CallbackTimer& timer);

constexpr ElementOps kTimeOps = {.bytes = sizeof(absl::Time),
                                 .relocate = nullptr,
                                 .destroy = nullptr,
                                 .last_handle_gone = LastHandleGone,
                                 .hides_buffer = true};

}  // namespace

// The core with its ring of one behind it.
struct TimerCore {
  struct Alarm : CallbackTimer {
    explicit Alarm(TimerCore* o) : CallbackTimer(Fired), owner(o) {}
    TimerCore* const owner;
  };

  explicit TimerCore(Closure&& f)
      : chan(ChanCore::Kind::kStaged, 1, &kTimeOps),
        alarm(this),
        calls_function(!f.empty()),
        function(std::move(f)) {}

  static TimerCore* Of(ChanCore* core) { return reinterpret_cast<TimerCore*>(core); }

  ChanCore chan;
  alignas(absl::Time) std::byte slot[sizeof(absl::Time)];
  Alarm alarm;

  std::atomic<uint32_t> keepers{1};

  // Under chan.lock.
  bool wanted = false;
  Instant due;
  absl::Duration period;  // zero: once

  const bool calls_function;  // instead of sending
  // While there are handles; a late callback does not look at it.
  Closure function;

  // These under the lock.
  void Want(Instant when) {
    wanted = true;
    due = when;
    if (!alarm.Start(when)) keepers.fetch_add(1, std::memory_order_relaxed);
  }
  // The caller keeps it, by a handle or as a callback.
  void Silence() {
    if (alarm.Stop()) keepers.fetch_sub(1, std::memory_order_relaxed);
  }
  // True: a sending was wanted, or has been done and not been received.
  bool Unwant() {
    Silence();
    const bool unreceived = chan.count.load(std::memory_order_relaxed) != 0;
    if (unreceived) {
      chan.first = 0;
      SetCount(chan, 0);
    }
    return std::exchange(wanted, false) || unreceived;
  }
};

namespace {

// A wait that is never over still is a timer.
Instant AfterNow(absl::Duration wait) {
  const Instant when = Instant::Now() + wait;
  return when.IsNever() ? Instant::FromNanos(when.nanos() - 1) : when;
}

// When the next tick is due after one that was due at `due`: a multiple of the period later, and
// not before now.
Instant NextTick(Instant due, absl::Duration period, Instant now) {
  const Instant next = due + period;
  if (next > now) return next;
  absl::Duration rest;
  const int64_t missed = absl::IDivDuration(now - due, period, &rest);
  return due + (missed + 1) * period;
}

void LetGo(TimerCore* core) {
  // Acquire and release: what other keepers did comes before the end.
  if (core->keepers.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  core->~TimerCore();
  ::operator delete(core, std::align_val_t{alignof(TimerCore)});
}

// On a goroutine of its own. `self` keeps the function alive.
struct CallFunction {
  ChanHandle self;
  void operator()() { TimerCore::Of(self.core())->function(); }
};

// On a scheduler's stack.
void Fired(CallbackTimer& timer) {
  WEFT_DELAY_POINT("timer_chan.fired");
  TimerCore* core = static_cast<TimerCore::Alarm&>(timer).owner;
  RuntimeSection section;
  Waiter* receiver = nullptr;
  bool call = false;
  core->chan.lock.Acquire();
  const Instant now = Instant::Now();
  if (core->wanted && core->due <= now) {
    core->wanted = false;
    core->Silence();  // a later start, which is due as well
    if (core->calls_function) {
      call = true;
    } else {
      // When it was due, in the wall clock's time, as far as that can be told.
      absl::Time time = absl::Now() - (now - core->due);
      receiver = SendLocked<MoveAny>(core->chan, &time).wake;
      if (core->period > absl::ZeroDuration()) core->Want(NextTick(core->due, core->period, now));
    }
  }
  core->chan.lock.Release();
  if (receiver != nullptr) receiver->Unpark();
  // The handle that the timer had to itself goes to the goroutine, with all that it may destroy.
  if (call) Spawn({.name = "timer"}, Closure(CallFunction{ChanHandle(&core->chan)}));
  LetGo(core);
}

void LastHandleGone(ChanCore* chan) {
  TimerCore* core = TimerCore::Of(chan);
  // Here and not where it is freed: that may be on a scheduler's stack. It is not to be called any
  // more, or there would be a handle.
  core->function.Reset();
  RuntimeSection section;
  chan->lock.Acquire();
  core->Unwant();
  chan->lock.Release();
  LetGo(core);
}

TimerCore* NewTimerCore(Closure&& f) {
  void* memory = ::operator new(sizeof(TimerCore), std::align_val_t{alignof(TimerCore)});
  return ::new (memory) TimerCore(std::move(f));
}

bool Stop(TimerCore* core) {
  core->chan.lock.Acquire();
  const bool was_wanted = core->Unwant();
  core->chan.lock.Release();
  return was_wanted;
}

bool Restart(TimerCore* core, Instant when, absl::Duration period) {
  core->chan.lock.Acquire();
  const bool was_wanted = core->Unwant();
  core->period = period;
  core->Want(when);
  core->chan.lock.Release();
  return was_wanted;
}

ChanHandle NewTimer(absl::Duration wait, absl::Duration period) {
  ChanHandle handle(&NewTimerCore(Closure())->chan);
  RuntimeSection section;
  Restart(TimerCore::Of(handle.core()), AfterNow(wait), period);
  return handle;
}

RecvChan<absl::Time> ChannelOf(const ChanHandle& timer) {
  return RecvChanMaker::Make<absl::Time>(timer);
}

}  // namespace
}  // namespace internal

using internal::TimerCore;

Timer::Timer(absl::Duration wait)
    : core_(internal::NewTimer(wait, absl::ZeroDuration())), channel_(internal::ChannelOf(core_)) {}

Timer Timer::CallAfter(absl::Duration wait, internal::Closure&& f) {
  if (f.empty()) Fatal("go of nil func value");
  Timer timer;
  TimerCore* core = internal::NewTimerCore(std::move(f));
  timer.core_ = internal::ChanHandle(&core->chan);
  timer.Reset(wait);
  return timer;
}

bool Timer::Stop() const {
  if (core_.core() == nullptr) Panic("time: Stop called on uninitialized Timer");
  TimerCore* core = TimerCore::Of(core_.core());
  internal::RuntimeSection section;
  const bool stopped = internal::Stop(core);
  // The handle that it had to itself. There is another one, this.
  if (stopped && core->calls_function) core->chan.Unref();
  return stopped;
}

bool Timer::Reset(absl::Duration wait) const {
  if (core_.core() == nullptr) Panic("time: Reset called on uninitialized Timer");
  TimerCore* core = TimerCore::Of(core_.core());
  const Instant when = internal::AfterNow(wait);
  internal::RuntimeSection section;
  // A handle to itself, before it can fire.
  if (core->calls_function) core->chan.Ref();
  const bool was_wanted = internal::Restart(core, when, absl::ZeroDuration());
  if (was_wanted && core->calls_function) core->chan.Unref();
  return was_wanted;
}

Ticker::Ticker(absl::Duration period) {
  if (period <= absl::ZeroDuration()) Panic("non-positive interval for NewTicker");
  channel_ = internal::ChannelOf(internal::NewTimer(period, period));
}

void Ticker::Stop() const {
  if (channel_.is_nil()) return;
  internal::RuntimeSection section;
  internal::Stop(TimerCore::Of(channel_.core()));
}

void Ticker::Reset(absl::Duration period) const {
  if (period <= absl::ZeroDuration()) Panic("non-positive interval for Ticker.Reset");
  if (channel_.is_nil()) Panic("time: Reset called on uninitialized Ticker");
  const Instant when = internal::AfterNow(period);
  internal::RuntimeSection section;
  internal::Restart(TimerCore::Of(channel_.core()), when, period);
}

RecvChan<absl::Time> AfterChan(absl::Duration wait) { return Timer(wait).C(); }

RecvChan<absl::Time> Tick(absl::Duration period) {
  return period <= absl::ZeroDuration() ? RecvChan<absl::Time>() : Ticker(period).C();
}

}  // namespace weft
