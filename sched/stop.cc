// Stopping the world, and changing how many Ps there are.
//
// "The world" is the runtime: while it is stopped no goroutine runs inside it and none is
// scheduled. A goroutine in user code goes on, without its P, until it next enters the runtime.
//
// The stopper sets `stopping`, counts the idle Ps as stopped, and revokes the others again and
// again until it has all: an M seen inside the runtime has its attention set and gives its P at its
// next entry or in the scheduler's loop. The monitor takes nothing back meanwhile: two revokers
// could keep an M busy with each other's requests.
#include <algorithm>

#include "sched/goroutine.h"
#include "sched/internal/emit.h"
#include "sched/internal/futex.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"
#include "sched/procs.h"

namespace weft::internal {
namespace {

// One stop at a time. Its holder may resume on another thread, which Lock does not mind.
Lock stop_lock;

constexpr absl::Duration kRevokeEvery = absl::Microseconds(50);

// There is no runtime until it is started again.
bool left_stopped ABSL_GUARDED_BY(stop_lock) = false;
// When the present stop began.
Instant stop_began ABSL_GUARDED_BY(stop_lock);

int64_t NanosOfStop() ABSL_EXCLUSIVE_LOCKS_REQUIRED(stop_lock) {
  return Instant::Now().nanos() - stop_began.nanos();
}

void CountStopped(int count) ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock) {
  sched.stopped += count;
  if (sched.stopped == sched.p_count.load(std::memory_order_relaxed)) {
    sched.all_stopped.store(1, std::memory_order_release);
    FutexWake(sched.all_stopped, 1);
  }
}

// The rest of StopTheWorld(), with the lock.
void StopAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(stop_lock) {
  EnterRuntime();
  stop_began = Instant::Now();
  M* self = ThisM();
  EmitOfM(self, Event::kStopWorld);
  {
    LockGuard guard(sched.lock);
    sched.all_stopped.store(0, std::memory_order_relaxed);
    sched.stopped = 0;
    sched.stopping.store(true, std::memory_order_seq_cst);
    int count = 0;
    if (self != nullptr) {
      // Relaxed, like all of a P's status: who goes by it has the lock, or takes it for a hint.
      self->p.load(std::memory_order_relaxed)
          ->status.store(PStatus::kStopped, std::memory_order_relaxed);
      ++count;
    }
    while (P* p = PopIdleP(/*near=*/0)) {
      p->status.store(PStatus::kStopped, std::memory_order_relaxed);
      ++count;
    }
    CountStopped(count);
  }
  while (sched.all_stopped.load(std::memory_order_acquire) == 0) {
    for (M* m = sched.all_ms.load(std::memory_order_acquire); m != nullptr; m = m->next_all) {
      if (m == self || m->p.load(std::memory_order_relaxed) == nullptr) continue;
      if (P* p = Revoke(m, Revoked::kStop); p != nullptr) {
        p->m.store(nullptr, std::memory_order_relaxed);
        LockGuard guard(sched.lock);
        p->status.store(PStatus::kStopped, std::memory_order_relaxed);
        CountStopped(1);
      }
    }
    FutexWait(sched.all_stopped, 0, Instant::Now() + kRevokeEvery);
  }
  EmitOfM(self, Event::kWorldStopped);
  sched.pauses_stopping.Add(NanosOfStop());
}

}  // namespace

void GiveToStopper(P* p) {
  p->status.store(PStatus::kStopped, std::memory_order_relaxed);
  CountStopped(1);
}

void StopTheWorld() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  for (;;) {
    if (ThisG() == nullptr) {
      stop_lock.Acquire();
    } else {
      // Parked, not blocked: whoever has stopped the world may need this thread's P to start it
      // again, and who stops the runtime waits until nobody is in user code.
      while (!stop_lock.TryAcquire()) Sleep(kRevokeEvery);
    }
    if (!left_stopped) break;
    // The runtime was stopped while this thread waited.
    stop_lock.Release();
    EnsureStarted();
  }
  StopAll();
}

bool TryStopTheWorld() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  if (!stop_lock.TryAcquire()) return false;
  StopAll();
  return true;
}

void LeaveTheWorldStopped() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  left_stopped = true;
  LeaveRuntime();
  stop_lock.Release();
}

void ResumeTheWorld() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  stop_lock.Acquire();
  left_stopped = false;
  EnterRuntime();
  stop_began = Instant::Now();
  StartTheWorld();
}

void StartTheWorld() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  M* self = ThisM();
  P* own = self == nullptr ? nullptr : self->p.load(std::memory_order_relaxed);
  P* with_work = nullptr;
  int waiting = 0;
  EmitOfM(self, Event::kStartWorld);
  {
    LockGuard guard(sched.lock);
    sched.stopping.store(false, std::memory_order_seq_cst);
    const int count = sched.p_count.load(std::memory_order_relaxed);
    for (int i = count - 1; i >= 0; --i) {
      P* p = sched.ps[i].load(std::memory_order_relaxed);
      if (p == own) {
        p->status.store(PStatus::kRunning, std::memory_order_relaxed);
      } else if (p->run_queue.Empty()) {
        PushIdleP(p);
      } else {
        p->next_idle = with_work;
        with_work = p;
      }
    }
    waiting = sched.global_queue.size() + NodeQueueSizes();
  }
  while (P* p = with_work) {
    with_work = p->next_idle;
    StartM(p, /*spinning=*/false);
  }
  for (; waiting > 0 && sched.idle_p_count.load(std::memory_order_relaxed) > 0; --waiting) {
    StartM(nullptr, /*spinning=*/false);
  }
  // Work may have come while nobody was woken for it.
  WakeP();
  // Whoever waits in the poller may have looked at the timers while one was on its way from a P
  // that went to the one that has it now, and have seen it in neither.
  if (const Instant earliest = EarliestTimer(); !earliest.IsNever()) WakePollerFor(earliest);
  sched.pauses_total.Add(NanosOfStop());
  LeaveRuntime();
  stop_lock.Release();
}

void ResizeProcs(int n) {
  const int old = sched.p_count.load(std::memory_order_relaxed);
  for (int i = old; i < n; ++i) {
    P* p = sched.ps[i].load(std::memory_order_relaxed);
    if (p == nullptr) sched.ps[i].store(p = new P(i), std::memory_order_release);
    p->status.store(PStatus::kStopped, std::memory_order_relaxed);
  }
  M* self = ThisM();
  for (int i = n; i < old; ++i) {
    P* p = sched.ps[i].load(std::memory_order_relaxed);
    if (self != nullptr && self->p.load(std::memory_order_relaxed) == p) {
      // The caller goes on with the first P, which is stopped like the others.
      ReleaseP(self);
      AcquireP(self, sched.ps[0].load(std::memory_order_relaxed));
    }
    {
      LockGuard guard(sched.lock);
      bool inherits;
      while (G* g = p->run_queue.Take(&inherits, QueueSharing::kShared))
        sched.global_queue.PushBack(g);
      sched.global_size.store(sched.global_queue.size(), std::memory_order_seq_cst);
      sched.free_gs.PushBack(p->free_gs, p->free_g_count.load(std::memory_order_relaxed));
      p->free_g_count.store(0, std::memory_order_relaxed);
    }
    p->timers.MoveAllTo(sched.ps[0].load(std::memory_order_relaxed)->timers);
    DrainStacks(p);
    p->status.store(PStatus::kDead, std::memory_order_relaxed);
  }
  sched.p_count.store(n, std::memory_order_release);
  EmitOfM(self, Event::kMaxProcs, static_cast<uint64_t>(n));
  SetPolicy(sched.policy.load(std::memory_order_relaxed));
}

}  // namespace weft::internal

namespace weft {
namespace {

int ChangeProcs(int n) {
  internal::StopTheWorld();
  const int before = internal::sched.p_count.load(std::memory_order_relaxed);
  internal::ResizeProcs(n);
  internal::StartTheWorld();
  return before;
}

}  // namespace

int MaxProcs() {
  internal::EnsureStarted();
  return internal::sched.p_count.load(std::memory_order_relaxed);
}

int SetMaxProcs(int n) {
  internal::EnsureStarted();
  const int old = internal::sched.p_count.load(std::memory_order_relaxed);
  if (n < 1) return old;
  internal::sched.procs_are_the_systems.store(false, std::memory_order_relaxed);
  return n == old ? old : ChangeProcs(std::min(n, internal::kMaxProcsLimit));
}

int SetDefaultMaxProcs() {
  internal::EnsureStarted();
  const int n = internal::DefaultMaxProcs();
  int old = internal::sched.p_count.load(std::memory_order_relaxed);
  if (n != old) old = ChangeProcs(n);
  internal::sched.procs_are_the_systems.store(!internal::MaxProcsIsGiven(),
                                              std::memory_order_relaxed);
  return old;
}

}  // namespace weft
