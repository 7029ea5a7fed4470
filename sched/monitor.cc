// The scheduler's duties in the monitor: taking Ps back, polling the network that nobody polls,
// starting an M for timers that are overdue, and noticing that everything is asleep.
#include "sched/internal/probes.h"
#include "sched/internal/runtime.h"
#include "sched/procs.h"
#include "sched/sysmon.h"

namespace weft::internal {
namespace {

// Go's number.
constexpr int64_t kPollEveryNanos = 10'000'000;
// How often to ask whether the program's own threads have all gone, while only they could wake a
// goroutine.
constexpr absl::Duration kForeignThreadsEvery = absl::Milliseconds(100);
constexpr absl::Duration kLookAtSystemEvery = absl::Seconds(1);

// Looks at the poller by all Ps so far.
uint32_t PollsOfPs() {
  uint32_t polls = 0;
  const int count = sched.p_count.load(std::memory_order_acquire);
  for (int i = 0; i < count; ++i) {
    polls += sched.ps[i].load(std::memory_order_acquire)->polls.load(std::memory_order_relaxed);
  }
  return polls;
}

bool PollNetwork(Instant now) {
  int64_t last = sched.last_poll.load(std::memory_order_relaxed);
  Poller* poller = sched.poller.load(std::memory_order_acquire);
  if (last == 0 || now.nanos() - last < kPollEveryNanos || poller->waiters() == 0 ||
      !sched.last_poll.compare_exchange_strong(last, now.nanos(), std::memory_order_relaxed)) {
    return false;
  }
  // Ps that run out of work now and then look by themselves, and what they find they run. Taking it
  // from under them would only move goroutines to other Ps.
  static uint32_t seen_polls = 0;  // the monitor's alone
  const uint32_t polls = PollsOfPs();
  if (polls != seen_polls) {
    seen_polls = polls;
    return false;
  }
  WakeBatch ready;
  poller->Poll(Instant(), ready);
  if (ready.empty()) return false;
  EnqueueBatch(ready);
  return true;
}

// The P whose timer it is may be held by a goroutine that does not come back for long: whoever
// looks for work runs it.
bool RunOverdueTimers(Instant now) {
  if (EarliestTimer() > now || sched.idle_p_count.load(std::memory_order_relaxed) == 0 ||
      sched.spinning.load(std::memory_order_relaxed) > 0) {
    return false;
  }
  WakeP();
  return true;
}

// What the system gives the process may change. An idle program need not know.
bool FollowTheSystem(Instant now) {
  static Instant next = now + kLookAtSystemEvery;  // the monitor's alone
  if (now < next || !sched.procs_are_the_systems.load(std::memory_order_relaxed)) return false;
  next = now + kLookAtSystemEvery;
  const int procs = SystemProcs();
  if (procs == sched.p_count.load(std::memory_order_relaxed)) return false;
  // Not to wait for somebody else's stop: that may be the end of this thread.
  if (!TryStopTheWorld()) return false;
  // Who has called SetMaxProcs() meanwhile is right, be its own stop over or still to come.
  if (sched.procs_are_the_systems.load(std::memory_order_relaxed)) ResizeProcs(procs);
  StartTheWorld();
  return false;
}

bool TrySleep(Instant* until) {
  {
    LockGuard guard(sched.lock);
    if (sched.stopping.load(std::memory_order_relaxed) ||
        sched.idle_p_count.load(std::memory_order_relaxed) !=
            sched.p_count.load(std::memory_order_relaxed)) {
      return false;
    }
    sched.monitor_sleeping = true;
    sched.monitor_waiting.store(true, std::memory_order_relaxed);
  }
  if (!sched.has_main.load(std::memory_order_relaxed)) return true;
  switch (CheckDeadlock()) {
    case Liveness::kAlive:
      break;
    case Liveness::kSettling:
      *until = Instant::Now();
      break;
    case Liveness::kForeign:
      *until = Instant::Now() + kForeignThreadsEvery;
      break;
  }
  return true;
}

void Slept() {
  LockGuard guard(sched.lock);
  sched.monitor_sleeping = false;
  sched.monitor_waiting.store(false, std::memory_order_relaxed);
}

}  // namespace

void RegisterSchedulerDuties() {
  RegisterMonitorDuty({.name = "retake", .run = Retake});
  RegisterMonitorDuty({.name = "poll", .run = PollNetwork});
  RegisterMonitorDuty({.name = "timers", .run = RunOverdueTimers});
  RegisterMonitorDuty({.name = "procs", .run = FollowTheSystem});
  if (WEFT_HAS_PROBES) RegisterMonitorDuty({.name = "probes", .run = FollowProbes});
}

void StartSchedulerMonitor() {
  static constexpr MonitorHost kHost = {TrySleep, Slept};
  StartMonitor(&kHost);
}

}  // namespace weft::internal
