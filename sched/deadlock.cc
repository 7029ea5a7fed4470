// "All goroutines are asleep": when it is certain, and only then.
//
// The monitor asks when every P is idle, before it goes to sleep itself. The program is dead if no
// goroutine runs anywhere (a BlockingSection is running), none is queued, no timer is pending,
// nobody waits for an event from outside, and the process has no thread of the program's own, as
// that could call into the runtime. Threads are counted in /proc/self/task, and the state is looked
// at again afterwards: a thread that woke somebody and then ended leaves a trace in the counters.
// Between the two looks nobody may be waiting for an event by its own state either: the poller's
// count is ahead of that.
#include <dirent.h>

#include <cstdio>

#include "sched/fatal.h"
#include "sched/goroutine.h"
#include "sched/internal/fatal_report.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"
#include "stack/mode.h"

namespace weft::internal {
namespace {

struct Idleness {
  Liveness liveness;
  uint64_t activity;  // changes whenever a goroutine runs or is made
};

Idleness Look() {
  LockGuard guard(sched.lock);
  Idleness idleness = {Liveness::kAlive, sched.goroutines.started.load(std::memory_order_relaxed)};
  const int p_count = sched.p_count.load(std::memory_order_relaxed);
  if (sched.idle_p_count.load(std::memory_order_relaxed) != p_count ||
      !sched.global_queue.empty() || NodeQueueSizes() > 0 ||
      sched.poller.load(std::memory_order_relaxed)->waiters() > 0) {
    return idleness;
  }
  for (int i = 0; i < p_count; ++i) {
    const P* p = sched.ps[i].load(std::memory_order_relaxed);
    if (!p->run_queue.Empty() || p->timers.size() > 0) return idleness;
    idleness.activity += p->schedtick.load(std::memory_order_relaxed) +
                         p->goroutines.started.load(std::memory_order_relaxed);
  }
  int running = 0;
  for (const M* m = sched.all_ms.load(std::memory_order_acquire); m != nullptr; m = m->next_all) {
    if (m->current.load(std::memory_order_relaxed) != nullptr) ++running;
  }
  if (running > 0) return idleness;
  const int polling = sched.last_poll.load(std::memory_order_relaxed) == 0 ? 1 : 0;
  const bool all_asleep = sched.idle_m_count.load(std::memory_order_relaxed) +
                              sched.locked_idle_m_count.load(std::memory_order_relaxed) + polling ==
                          sched.m_count.load(std::memory_order_relaxed);
  idleness.liveness = all_asleep ? Liveness::kForeign : Liveness::kSettling;
  return idleness;
}

// The M that comes back from the poller has taken those whom it wakes off the count of waiters, and
// cannot be seen to be at work before it says so (last_poll): for a moment they are nobody's. They
// still wait for their event then, or what has become of them is seen by the look that follows. Who
// waits for another goroutine does so for another reason than kIoWait, whatever it is about.
bool SomebodyWaitsForAnEvent() {
  bool found = false;
  ForEachG([&](const G* g) {
    found |= g->status.load(std::memory_order_relaxed) == GStatus::kWaiting &&
             g->wait_reason.load(std::memory_order_relaxed) == WaitReason::kIoWait;
  });
  return found;
}

// Threads of the process that are neither Ms nor the monitor.
int ForeignThreads() {
  DIR* tasks = opendir("/proc/self/task");
  if (tasks == nullptr) return 1;  // unknown: never cry wolf
  int count = 0;
  while (const dirent* entry = readdir(tasks)) {
    if (entry->d_name[0] != '.') ++count;
  }
  closedir(tasks);
  int ours = sched.m_count.load(std::memory_order_relaxed) + 1;
  if (WEFT_TSAN) ++ours;  // the sanitizer's own
  return count - ours;
}

}  // namespace

Liveness CheckDeadlock() {
  const Idleness before = Look();
  if (before.liveness != Liveness::kForeign) return before.liveness;
  if (ForeignThreads() > 0 || SomebodyWaitsForAnEvent()) return Liveness::kForeign;
  const Idleness after = Look();
  if (after.liveness != Liveness::kForeign) return after.liveness;
  if (after.activity != before.activity) return Liveness::kSettling;
  if (!ClaimFatalReport()) return Liveness::kAlive;
  PrintReportPreamble();
  const char* text = NumGoroutine() == 0
                         ? "fatal error: no goroutines (main called runtime.Goexit) - deadlock!\n\n"
                         : "fatal error: all goroutines are asleep - deadlock!\n\n";
  WriteReport(text);
  PrintDeadlockReport();
  PrintAllGoroutines(2);
  EndProcess();
}

}  // namespace weft::internal
