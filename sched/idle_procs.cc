// Who has which P, and those that nobody has: a list for each node, last in, first out, all under
// sched.lock.
#include "sched/internal/emit.h"
#include "sched/internal/find_work.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"
#include "sched/sysmon.h"

namespace weft::internal {

void AcquireP(M* m, P* p) {
  // Stores do: the M is inside the runtime, where nobody else writes m->p. Release: who finds Ps by
  // their Ms, to stop the world, sees a new P whole.
  m->p.store(p, std::memory_order_release);
  m->last_p.store(p, std::memory_order_relaxed);
  // Release: the monitor, which finds Ms by their Ps, sees a new M whole.
  p->m.store(m, std::memory_order_release);
  p->yield_requested.store(false, std::memory_order_relaxed);
  p->status.store(PStatus::kRunning, std::memory_order_relaxed);
  if (m->affinity != p->affinity.load(std::memory_order_relaxed)) [[unlikely]]
    FollowNode(m, p);
  EmitOfP(m, p, Event::kProcStart);
}

P* ReleaseP(M* m) {
  P* p = m->p.load(std::memory_order_relaxed);
  EmitOfP(m, p, Event::kProcStop);
  m->p.store(nullptr, std::memory_order_relaxed);
  p->m.store(nullptr, std::memory_order_relaxed);
  return p;
}

void PushIdleP(P* p) {
  P*& idle_ps = sched.nodes[p->node].idle_ps;
  p->status.store(PStatus::kIdle, std::memory_order_relaxed);
  p->next_idle = idle_ps;
  idle_ps = p;
  sched.idle_p_count.fetch_add(1, std::memory_order_seq_cst);
}

P* PopIdleP(int near) {
  const int node = NearestNode(*sched.node_map.load(std::memory_order_relaxed), near,
                               [](int n) { return sched.nodes[n].idle_ps != nullptr; });
  if (node < 0) return nullptr;
  P*& idle_ps = sched.nodes[node].idle_ps;
  P* p = idle_ps;
  idle_ps = p->next_idle;
  sched.idle_p_count.fetch_sub(1, std::memory_order_seq_cst);
  if (sched.monitor_sleeping) {
    sched.monitor_sleeping = false;
    sched.monitor_waiting.store(false, std::memory_order_relaxed);
    WakeMonitor();
  }
  return p;
}

P* TakeIdleP(P* wanted) {
  LockGuard guard(sched.lock);
  if (sched.stopping.load(std::memory_order_relaxed)) return nullptr;
  if (wanted == nullptr || wanted->status.load(std::memory_order_relaxed) != PStatus::kIdle) {
    return PopIdleP(NearNode());
  }
  // To the front of the list, if it is there.
  P*& idle_ps = sched.nodes[wanted->node].idle_ps;
  for (P** link = &idle_ps; *link != nullptr; link = &(*link)->next_idle) {
    if (*link != wanted) continue;
    *link = wanted->next_idle;
    wanted->next_idle = idle_ps;
    idle_ps = wanted;
    break;
  }
  return PopIdleP(wanted->node);
}

P* TakeIdlePToSpin() {
  LockGuard guard(sched.lock);
  P* p = sched.stopping.load(std::memory_order_relaxed) ? nullptr : PopIdleP(NearNode());
  if (p == nullptr) sched.need_spinning.store(true, std::memory_order_seq_cst);
  return p;
}

}  // namespace weft::internal
