#include "sched/snapshot.h"

#include <unistd.h>

#include <algorithm>

#include "absl/base/thread_annotations.h"
#include "sched/goroutine.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"

namespace weft {
namespace {

using internal::G;
using internal::GStatus;
using internal::sched;

int64_t IdOf(const internal::G* g) {
  return g == nullptr ? -1 : static_cast<int64_t>(g->id.load(std::memory_order_relaxed));
}

LeaseCounts Counts(const internal::LeaseCounters& counters) {
  const auto taken = [&](internal::Revoked why) {
    return counters.taken[static_cast<int>(why)].load(std::memory_order_relaxed);
  };
  return {.taken_blocking = taken(internal::Revoked::kBlocking),
          .taken_asleep = taken(internal::Revoked::kAsleep),
          .taken_slice = taken(internal::Revoked::kSlice),
          .taken_stop = taken(internal::Revoked::kStop),
          .asked = counters.asked.load(std::memory_order_relaxed),
          .yielded_in_place = counters.yielded_in_place.load(std::memory_order_relaxed),
          .refused = counters.refused.load(std::memory_order_relaxed),
          .barriers = counters.barriers.load(std::memory_order_relaxed)};
}

std::vector<ThreadSnapshot> ListThreads() {
  std::vector<ThreadSnapshot> threads;
  for (const internal::M* m = sched.all_ms.load(std::memory_order_acquire); m != nullptr;
       m = m->next_all) {
    if (m->tid.load(std::memory_order_relaxed) == 0) continue;  // it has ended
    ThreadSnapshot& thread = threads.emplace_back();
    thread.id = m->id;
    if (const internal::P* p = m->p.load(std::memory_order_acquire); p != nullptr) thread.p = p->id;
    thread.goroutine = IdOf(m->current.load(std::memory_order_acquire));
    thread.runtime_sections = m->in_runtime.load(std::memory_order_relaxed);
    thread.spinning = m->spinning.load(std::memory_order_relaxed);
    thread.idle = m->is_idle.load(std::memory_order_relaxed);
    thread.locked_goroutine = IdOf(m->locked_g.load(std::memory_order_acquire));
  }
  return threads;
}

// Where they are is taken from the threads.
std::vector<GoroutineSnapshot> ListGoroutines(const std::vector<ThreadSnapshot>& threads) {
  std::vector<GoroutineSnapshot> goroutines = GetGoroutineSnapshots();
  std::sort(goroutines.begin(), goroutines.end(),
            [](const GoroutineSnapshot& a, const GoroutineSnapshot& b) { return a.id < b.id; });
  const auto find = [&](int64_t id) -> GoroutineSnapshot* {
    const auto found =
        std::lower_bound(goroutines.begin(), goroutines.end(), static_cast<uint64_t>(id),
                         [](const GoroutineSnapshot& g, uint64_t wanted) { return g.id < wanted; });
    const bool is_listed = found != goroutines.end() && found->id == static_cast<uint64_t>(id);
    return id > 0 && is_listed ? &*found : nullptr;
  };
  for (const ThreadSnapshot& thread : threads) {
    if (GoroutineSnapshot* g = find(thread.goroutine)) g->m = thread.id;
    if (GoroutineSnapshot* g = find(thread.locked_goroutine)) g->locked_m = thread.id;
  }
  return goroutines;
}

SchedSnapshot ReadUnderLock() ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock) {
  SchedSnapshot snapshot;
  snapshot.max_procs = sched.p_count.load(std::memory_order_acquire);
  snapshot.idle_procs = sched.idle_p_count.load(std::memory_order_relaxed);
  snapshot.threads = sched.m_count.load(std::memory_order_relaxed) + 1;
  snapshot.spinning_threads = sched.spinning.load(std::memory_order_relaxed);
  snapshot.idle_threads = sched.idle_m_count.load(std::memory_order_relaxed);
  snapshot.locked_threads = sched.locked_idle_m_count.load(std::memory_order_relaxed);
  snapshot.outlaws = sched.outlaws.load(std::memory_order_relaxed);
  snapshot.leases = Counts(sched.leases);
  snapshot.global_queue_size = sched.global_queue.size() + internal::NodeQueueSizes();
  snapshot.nodes = sched.node_count.load(std::memory_order_relaxed);
  snapshot.need_spinning = sched.need_spinning.load(std::memory_order_relaxed);
  snapshot.monitor_waiting = sched.monitor_waiting.load(std::memory_order_relaxed);
  snapshot.stopping = sched.stopping.load(std::memory_order_relaxed);
  if (snapshot.stopping) snapshot.stop_wait = std::max(snapshot.max_procs - sched.stopped, 0);
  snapshot.goroutines = NumGoroutine();
  snapshot.procs.reserve(snapshot.max_procs);
  for (int i = 0; i < snapshot.max_procs; ++i) {
    const internal::P* p = sched.ps[i].load(std::memory_order_acquire);
    const internal::M* m = p->m.load(std::memory_order_relaxed);
    ProcSnapshot proc;
    proc.id = p->id;
    proc.status = static_cast<int>(p->status.load(std::memory_order_relaxed));
    if (m != nullptr && m->blocking.load(std::memory_order_relaxed)) {
      proc.status = static_cast<int>(internal::PStatus::kSyscall);
    }
    proc.schedtick = p->schedtick.load(std::memory_order_relaxed);
    proc.syscalltick = p->syscalltick.load(std::memory_order_relaxed);
    proc.m = m == nullptr ? -1 : m->id;
    proc.node = p->node;
    proc.run_queue_size = static_cast<int>(p->run_queue.Size());
    proc.free_goroutines = p->free_g_count.load(std::memory_order_relaxed);
    proc.timers = p->timers.size();
    snapshot.procs.push_back(proc);
    snapshot.steals += p->steals.load(std::memory_order_relaxed);
    snapshot.far_steals += p->far_steals.load(std::memory_order_relaxed);
  }
  return snapshot;
}

void AddLists(SchedSnapshot& snapshot, SnapshotDetail detail) {
  if (detail == SnapshotDetail::kCounters) return;
  snapshot.thread_list = ListThreads();
  snapshot.goroutine_list = ListGoroutines(snapshot.thread_list);
}

// Takes the lock if it comes free within a moment. Its holder may be waiting for the caller.
bool TryForAMoment(internal::Lock& lock) ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true, lock) {
  constexpr int kTries = 20;
  for (int i = 0; i < kTries; ++i) {
    if (lock.TryAcquire()) return true;
    usleep(1000);
  }
  return false;
}

}  // namespace

SchedSnapshot GetSchedSnapshot(SnapshotDetail detail) {
  internal::EnsureStarted();
  internal::RuntimeSection section;
  SchedSnapshot snapshot;
  {
    internal::LockGuard guard(sched.lock);
    snapshot = ReadUnderLock();
  }
  AddLists(snapshot, detail);
  return snapshot;
}

SchedSnapshot GetLastSchedSnapshot(SnapshotDetail detail) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  const bool locked = TryForAMoment(sched.lock);
  SchedSnapshot snapshot = ReadUnderLock();
  if (locked) sched.lock.Release();
  AddLists(snapshot, detail);
  return snapshot;
}

GoroutineSnapshot internal::SnapshotOf(const G* g) {
  const GStatus status = g->status.load(std::memory_order_acquire);
  const stack::StackUse use = stack::UseOf(g->stack);
  GoroutineSnapshot s;
  s.id = g->id.load(std::memory_order_relaxed);
  s.status = static_cast<int>(status);
  s.name = g->name.load(std::memory_order_relaxed).Get();
  if (status == GStatus::kWaiting) {
    s.wait_reason = WaitReasonName(g->wait_reason.load(std::memory_order_relaxed));
  }
  s.stack_mode = use.mode;
  s.stack_limit = use.limit;
  s.stack_used = use.used;
  s.stack_segments = use.segments;
  s.stack_rest_bytes = use.rest;
  s.pinned_stack_used = use.pinned;
  s.stack_moves = use.moves;
  return s;
}

std::vector<GoroutineSnapshot> GetGoroutineSnapshots() {
  std::vector<GoroutineSnapshot> snapshots;
  internal::ForEachG([&](const internal::G* g) {
    GoroutineSnapshot snapshot = internal::SnapshotOf(g);
    const auto status = static_cast<internal::GStatus>(snapshot.status);
    if (status == internal::GStatus::kIdle || status == internal::GStatus::kDead) return;
    snapshots.push_back(snapshot);
  });
  return snapshots;
}

}  // namespace weft
