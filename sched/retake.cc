// Which Ps the monitor takes back, and when. How one is taken is in lease.cc.
//
// A goroutine keeps its P from the others in three ways, and each has its own answer:
//
// - It is in a BlockingSection, and says so. Its P goes to work that waits after a round of the
//   monitor, as Go does it with system calls; after 10 ms in any case.
// - It blocks its thread and does not say so: read() on a pipe, a lock, a sleep, a foreign library.
//   The thread's clock has hardly moved since the last look, and the system says that it sleeps; if
//   it did so kAsleepFor ago and has not entered the runtime in between, the P goes to work that
//   waits, and after 10 ms in any case.
// - It computes. After a slice of 10 ms it is asked to yield, which it does in its next entry into
//   the runtime (and moves on), or in its next function call if that was built with our flags (and
//   waits on its thread, bound.cc). If it does neither for another slice, its P is taken, and it
//   goes on as an *outlaw*, without one, until it next does either.
//
// A slice is time of the thread's own clock, not of the wall's. Outlaws take processors from those
// that hold Ps, who would else overrun their slices one after the other, and become outlaws. For
// the same reason the second slice is longer the more outlaws compute: their number then grows with
// the square root of time only. They are not given a lower priority: it could not be raised again
// without privilege, and they may hold malloc's lock.
//
// Each P that is taken from a goroutine that blocks costs a thread. Sixty-four and four for each P
// may block at once freely, then one more each millisecond, and beyond 2,048 one each 10 ms: a
// storm of ten thousand short sleeps then costs latency and not ten thousand threads. First a
// thread is had, then the P is taken: without one the lease stands, which SetMaxThreads() limits.
#include <unistd.h>

#include <cstdio>

#include "sched/internal/delay.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"
#include "sched/internal/thread_state.h"
#include "sched/sysmon.h"

namespace weft::internal {
namespace {

// Go's number.
constexpr int64_t kTimeSliceNanos = 10'000'000;
// A thread that was asleep that long ago, and is now, is blocked; one lock that is handed on in
// between is not.
constexpr int64_t kAsleepForNanos = 100'000;
// How often a request to yield is repeated: the guard word is overwritten by each switch.
constexpr int64_t kRepeatNanos = 1'000'000;

constexpr int kFreelyBlocked = 64;
constexpr int kFreelyBlockedPerP = 4;
constexpr int kManyBlocked = 2'048;
constexpr int64_t kNextBlockedNanos = 1'000'000;
constexpr int64_t kNextOfManyNanos = 10'000'000;

Instant After(Instant now, int64_t nanos) { return Instant::FromNanos(now.nanos() + nanos); }

// Whether goroutines or timers wait for this P.
bool WorkWaitsFor(const P* p, Instant now) {
  return !p->run_queue.Empty() || SharedWorkWaits() || p->timers.Earliest() <= now;
}

bool NobodyLooksForWork() {
  return sched.spinning.load(std::memory_order_relaxed) +
             sched.idle_p_count.load(std::memory_order_relaxed) ==
         0;
}

// Outlaws that have run since the last count. Looks at all Ms, so not more often than each slice.
int ComputingOutlaws(Instant now) {
  static int64_t counted_at = 0;
  static int count = 0;
  if (now.nanos() - counted_at < kTimeSliceNanos) return count;
  counted_at = now.nanos();
  count = 0;
  if (sched.outlaws.load(std::memory_order_relaxed) == 0) return 0;
  for (M* m = sched.all_ms.load(std::memory_order_acquire); m != nullptr; m = m->next_all) {
    const Revoked why = m->revoked.load(std::memory_order_relaxed);
    if (why == Revoked::kNot || why == Revoked::kBlocking) continue;
    const int64_t cpu = ThreadCpuNanos(m->tid.load(std::memory_order_relaxed));
    if (cpu > m->seen_cpu + kTimeSliceNanos / 10) ++count;
    m->seen_cpu = cpu;
  }
  return count;
}

// Whether one more thread may block now.
bool MayBlockAnother(Instant now) {
  static int64_t last = 0;
  const int procs = sched.p_count.load(std::memory_order_relaxed);
  const int blocked = sched.m_count.load(std::memory_order_relaxed) -
                      sched.idle_m_count.load(std::memory_order_relaxed) - procs;
  if (blocked > kFreelyBlocked + kFreelyBlockedPerP * procs) {
    const int64_t pause = blocked > kManyBlocked ? kNextOfManyNanos : kNextBlockedNanos;
    if (now.nanos() - last < pause) {
      NextRoundBy(Instant::FromNanos(last + pause));
      return false;
    }
  }
  last = now.nanos();
  return true;
}

void SayThatThreadsAreShort() {
  static bool said = false;
  if (said) return;
  said = true;
  std::fprintf(stderr,
               "weft: no more threads are to be had (%d are in use, the limit is %d): goroutines "
               "that block keep others waiting\n",
               sched.m_count.load(std::memory_order_relaxed) + 1,
               sched.max_threads.load(std::memory_order_relaxed));
}

bool TakeBack(M* m, P* p, Revoked why) {
  M* spare = ObtainM(p->affinity.load(std::memory_order_relaxed));
  if (spare == nullptr) {
    SayThatThreadsAreShort();
    return false;
  }
  WEFT_DELAY_POINT("retake.spare");
  P* taken = Revoke(m, why, p);
  if (taken == nullptr) {
    ReturnM(spare);
    return false;
  }
  p->watch = LeaseWatch();
  HandOffP(taken, spare);
  return true;
}

bool RetakeBlocking(M* m, P* p, Instant now) {
  const bool wanted = WorkWaitsFor(p, now) || NobodyLooksForWork();
  if (!wanted && now.nanos() - p->watch.still_since < kTimeSliceNanos) return false;
  return TakeBack(m, p, Revoked::kBlocking);
}

// `ran`, of the `nanos` since the last look.
bool RetakeAsleep(M* m, P* p, Instant now, int64_t ran, int64_t nanos) {
  LeaseWatch& watch = p->watch;
  if (ran * 2 > nanos || m->in_runtime.load(std::memory_order_relaxed) != 0 ||
      !ThreadSleeps(m->tid.load(std::memory_order_relaxed))) {
    watch.asleep_since = 0;
    return false;
  }
  if (watch.asleep_since == 0) watch.asleep_since = now.nanos();
  const bool wanted = WorkWaitsFor(p, now) || sched.need_spinning.load(std::memory_order_relaxed);
  const int64_t enough = wanted ? kAsleepForNanos : kTimeSliceNanos;
  const int64_t asleep = now.nanos() - watch.asleep_since;
  if (asleep < enough) {
    NextRoundBy(After(now, enough - asleep));
    return false;
  }
  return MayBlockAnother(now) && TakeBack(m, p, Revoked::kAsleep);
}

bool EndSlice(M* m, P* p, Instant now) {
  LeaseWatch& watch = p->watch;
  if (!watch.asked) {
    const int64_t left = kTimeSliceNanos - (watch.cpu - watch.slice_cpu);
    if (left > 0) {
      NextRoundBy(After(now, left));
      return false;
    }
    watch.asked = true;
    watch.asked_cpu = watch.cpu;
    RequestYield(m, p);
    NextRoundBy(After(now, kRepeatNanos));
    return true;
  }
  if (!p->yield_requested.load(std::memory_order_relaxed)) {
    // It has answered, and runs again.
    watch.asked = false;
    watch.slice_cpu = watch.cpu;
    return false;
  }
  const int procs = sched.p_count.load(std::memory_order_relaxed);
  const int64_t slice = kTimeSliceNanos + kTimeSliceNanos * ComputingOutlaws(now) / procs;
  if (watch.cpu - watch.asked_cpu < slice) {
    RepeatRequest(m, p);
    NextRoundBy(After(now, kRepeatNanos));
    return false;
  }
  return TakeBack(m, p, Revoked::kSlice);
}

// A goroutine that was to run next on `p` waits for one that computes: see handoff.h.
void WakeForHandoff(P* p) {
  const uint32_t switches = p->switches.load(std::memory_order_relaxed);
  if (switches != p->watch.switches || !p->run_queue.HasNext()) {
    p->watch.switches = switches;
    return;
  }
  if (sched.idle_p_count.load(std::memory_order_relaxed) == 0) return;
  p->handoff_was_late.store(true, std::memory_order_relaxed);
  WakeP();
}

bool Watch(M* m, P* p, Instant now) {
  LeaseWatch& watch = p->watch;
  const uint32_t entries = m->entries.load(std::memory_order_relaxed);
  const uint32_t tick = p->schedtick.load(std::memory_order_relaxed);
  const bool new_slice = watch.m != m || watch.schedtick != tick;
  if (new_slice || watch.entries != entries) {
    watch.still_since = now.nanos();
    watch.looked_at = 0;
    watch.asleep_since = 0;
  }
  if (new_slice) {
    watch.slice_cpu = -1;
    watch.asked = false;
  }
  const bool still = !new_slice && watch.entries == entries;
  watch.m = m;
  watch.schedtick = tick;
  watch.entries = entries;

  if (m->blocking.load(std::memory_order_relaxed)) return still && RetakeBlocking(m, p, now);
  const bool wanted = WorkWaitsFor(p, now);
  if (!wanted && now.nanos() - watch.still_since < kTimeSliceNanos) return false;

  const int64_t cpu = ThreadCpuNanos(m->tid.load(std::memory_order_relaxed));
  if (cpu < 0) return false;
  const int64_t looked_at = watch.looked_at == 0 ? now.nanos() : watch.looked_at;
  const int64_t ran = watch.looked_at == 0 ? 0 : cpu - watch.cpu;
  watch.looked_at = now.nanos();
  watch.cpu = cpu;
  if (watch.slice_cpu < 0) watch.slice_cpu = cpu;
  if (still && RetakeAsleep(m, p, now, ran, now.nanos() - looked_at)) return true;
  return wanted && watch.asleep_since == 0 &&
         m->current.load(std::memory_order_relaxed) != nullptr && EndSlice(m, p, now);
}

}  // namespace

bool Retake(Instant now) {
  bool found = false;
  const int count = sched.p_count.load(std::memory_order_acquire);
  for (int i = 0; i < count; ++i) {
    // Two revokers would be in each other's way.
    if (sched.stopping.load(std::memory_order_relaxed)) return found;
    P* p = sched.ps[i].load(std::memory_order_acquire);
    M* m = p->m.load(std::memory_order_acquire);
    if (m == nullptr) continue;
    WakeForHandoff(p);
    found |= Watch(m, p, now);
  }
  return found;
}

}  // namespace weft::internal
