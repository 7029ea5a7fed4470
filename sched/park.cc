// How a goroutine waits and how it is made ready.
//
// Order of the steps of a park, each of which is needed:
//   1 on the goroutine: take the token if there is one;
//   2 switch to another stack (the next goroutine's or the scheduler's), registers saved;
//   3 status = waiting;
//   4 the waiter's word: empty -> wait.
// Only after 4 may anybody make the goroutine runnable, so by then its stack must be left (2): a
// waker that published earlier would put one stack on two threads. If a token came before 4, the
// goroutine is made ready exactly as a waker would, through the queue.
#include "sched/fatal.h"
#include "sched/internal/emit.h"
#include "sched/internal/runtime.h"

namespace weft::internal {
namespace {

void Ready(M* m, G* g, Waker waker) {
  // Whoever has won the word is alone here, and has acquired it from FinishPark(): no exchange
  // needed.
  if (g->status.load(std::memory_order_relaxed) != GStatus::kWaiting) [[unlikely]] {
    Fatal("a goroutine that does not wait was made ready");
  }
  EmitUnpark(m, g, waker);
  g->status.store(GStatus::kRunnable, std::memory_order_release);  // see GStatus
  Enqueue(m, g, Place::kNext);
}

void ReadyItself(M* m, G* g) { Ready(m, g, Waker::kItself); }

// Null, or what remains to be done after it.
Remainder PublishWait(G* g) {
  g->status.store(GStatus::kWaiting, std::memory_order_release);
  return WaiterProtocol::Publish(*g) ? nullptr : ReadyItself;
}

void FinishParkSlowly(M* m, G* g) {
  EmitLeft(m, g, Event::kPark);
  LeaveSlot(m, g);
  if (const Remainder remainder = PublishWait(g); remainder != nullptr) remainder(m, g);
}

Remainder FinishPark(M* m, G* g) {
  if (WantsFrequent(m) || !LeaveSlotJustSo(m->p.load(std::memory_order_relaxed), g)) [[unlikely]]
    return FinishParkSlowly;
  return PublishWait(g);
}

void Park(Waiter* self, WaitReason reason) noexcept {
  EnterRuntime();
  if (WaiterProtocol::TakeToken(*self)) {
    LeaveRuntime();
    return;
  }
  AsG(self)->wait_reason.store(reason, std::memory_order_relaxed);
  SwitchAwayAndLeave<FinishPark>();
}

bool ParkUntil(Waiter* self, Instant deadline, WaitReason reason) noexcept {
  EnterRuntime();
  if (WaiterProtocol::TakeToken(*self)) {
    LeaveRuntime();
    return true;
  }
  G* g = AsG(self);
  if (deadline <= Instant::Now()) {
    LeaveRuntime();
    return false;
  }
  g->wait_timer.Start(deadline);
  g->wait_reason.store(reason, std::memory_order_relaxed);
  SwitchAway<FinishPark>();
  // The timer's own wake-up is a token too: which of the two ended the wait shows in whether the
  // timer was still pending. One that fires at this moment leaves a token, which the next wait's
  // loop absorbs.
  const bool in_time = g->wait_timer.Stop() || Instant::Now() < deadline;
  LeaveRuntime();
  return in_time;
}

void ReadyWaiter(Waiter* waiter) noexcept {
  RuntimeSection section;
  Ready(ThisM(), AsG(waiter), Waker::kGoroutine);
}

// The conditions of Go's runtime_canSpin.
bool GoroutineMaySpin() noexcept {
  RuntimeSection section;
  const int running = sched.p_count.load(std::memory_order_relaxed) -
                      sched.idle_p_count.load(std::memory_order_relaxed) -
                      sched.spinning.load(std::memory_order_relaxed);
  return running > 1 && ThisM()->p.load(std::memory_order_relaxed)->run_queue.Empty();
}

}  // namespace

const GoroutineWaitOps kGoroutineWaitOps = {Park, ParkUntil, ReadyWaiter, GoroutineMaySpin};

}  // namespace weft::internal

namespace weft {

bool CallbackTimer::Start(Instant when) {
  internal::EnsureStarted();
  internal::RuntimeSection section;
  internal::M* m = internal::ThisM();
  internal::P* p = m == nullptr ? nullptr : m->p.load(std::memory_order_relaxed);
  if (p == nullptr) p = internal::sched.ps[0].load(std::memory_order_acquire);
  bool earliest;
  const bool pending = internal::TimerHeap::Start(*this, when, p->timers, &earliest);
  if (earliest) internal::WakePollerFor(when);
  return pending;
}

bool CallbackTimer::Stop() {
  // There nothing fires, and whoever held the heap's lock holds it for ever.
  if (internal::sched.forked.load(std::memory_order_relaxed)) [[unlikely]]
    return false;
  internal::RuntimeSection section;
  return internal::TimerHeap::Stop(*this);
}

}  // namespace weft
