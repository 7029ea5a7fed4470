// Goroutines that only one thread may run: those that called LockOSThread(), and those that were
// asked to give way in the middle of their code.
//
// The latter come from __morestack, in any function call, with perhaps a std::mutex, a lock of the
// C library or the address of a thread_local in hand. To go on elsewhere would be wrong, and
// another goroutine on this thread meanwhile would be as bad (it would find a recursive mutex its
// own). So the thread keeps its goroutine and gives up its P alone. It costs two switches of
// threads in a time slice of 10 ms.
//
// Both wait like any other goroutine, in a run queue, and who takes one from there does not run it,
// but gives its own P to the thread in question and looks for another one:
//
//     bound M                               an M that has taken its goroutine from a queue
//     1 gives up its P, if it has one       1 m->p = null
//     2 queues its goroutine; or that       2 owner->next_p = p, owner->wake = 1
//       parks, and others queue it
//     3 sleeps until wake == 1; p = next_p
//
// A goroutine is in one queue at most, so there is one P for it at a time. It may come before the M
// has reached 1, if the goroutine was queued first: its own P is given up and the other one taken,
// so it never has two. models/bound.pml checks this.
//
// Who is asked to give way first makes sure of a thread for its P: if none can be had, and others
// may wait for what this one holds, nobody would go on.
#include <errno.h>
#include <unistd.h>

#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/internal/emit.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"
#include "stack/slots.h"
#include "stack/traceback.h"

namespace weft::internal {
namespace {

// The thread that calls is in the middle of its goroutine's code and has no P.
void AwaitPInPlace(M* m, G* g, P* given_up, M* spare) {
  const GStatus status = g->status.load(std::memory_order_relaxed);
  g->status.store(GStatus::kPreempted, std::memory_order_relaxed);
  g->bound = true;
  EmitWaitInPlace(m, g);
  P* p = nullptr;
  {
    // "No idle P: queue the goroutine" and "no work: the P is idle" are critical sections of one
    // lock.
    LockGuard guard(sched.lock);
    if (given_up == nullptr && !sched.stopping.load(std::memory_order_relaxed))
      p = PopIdleP(NearNode());
    if (p == nullptr) {
      sched.global_queue.PushBack(g);
      sched.global_size.store(sched.global_queue.size(), std::memory_order_seq_cst);
    }
  }
  WEFT_DELAY_POINT("bound.queued");
  if (p != nullptr) {
    AcquireP(m, p);
  } else {
    if (given_up != nullptr) HandOffP(given_up, spare);
    AwaitP(m);
    p = m->p.load(std::memory_order_relaxed);
    p->schedtick.store(p->schedtick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  g->bound = m->locked_g.load(std::memory_order_relaxed) == g;
  g->status.store(status, std::memory_order_relaxed);
}

}  // namespace

bool PassToBoundThread(M* m, const G* g) {
  M* owner = g->m.load(std::memory_order_relaxed);
  if (owner == m) return false;
  P* p = ReleaseP(m);
  WEFT_DELAY_POINT("bound.pass");
  GivePTo(owner, p);
  return true;
}

void AwaitLockedG(M* m) {
  if (m->p.load(std::memory_order_relaxed) != nullptr) {
    HandOffP(ReleaseP(m), /*spare=*/nullptr, NoThread::kFatal);
  }
  WEFT_DELAY_POINT("bound.await");
  sched.locked_idle_m_count.fetch_add(1, std::memory_order_relaxed);
  AwaitP(m);
  sched.locked_idle_m_count.fetch_sub(1, std::memory_order_relaxed);
}

void EndLockedM(M* m, G* g) {
  g->bound = false;
  m->thread_locks = 0;
  m->locked_g.store(nullptr, std::memory_order_relaxed);
  m->ends = true;
}

// On the thread's own stack. The stack limit is back in the guard word.
void AnswerGuardRequest(stack::Context& context) {
  const int error = errno;
  M* m = ThisM();
  // Inside the runtime nobody gives way, nor with a lock of the stacks in hand, for which whoever
  // has the P then might wait with it: the monitor asks again. And in a BlockingSection the P has
  // been offered already.
  if (m == nullptr || m->in_runtime.load(std::memory_order_relaxed) != 0 || m->waiter == nullptr ||
      m->blocking.load(std::memory_order_relaxed) || stack::InSlots()) {
    return;
  }
  // What a signal handler has interrupted may have any lock in hand, malloc's for example, and a
  // thread for the P may have to be made.
  if (stack::HasSignalFrame(context)) {
    errno = error;
    return;
  }
  G* g = AsG(m->waiter);
  // An entry into the runtime, but one that does not change the thread.
  m->in_runtime.store(1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  m->entries.store(m->entries.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  P* p = TakeNotice(m);
  if (p == nullptr) {
    // It has gone on without: now it can wait.
    AwaitPInPlace(m, g, nullptr, nullptr);
  } else if (sched.stopping.load(std::memory_order_relaxed) ||
             p->yield_requested.exchange(false, std::memory_order_relaxed)) {
    if (M* spare = ObtainM(p->affinity.load(std::memory_order_relaxed)); spare != nullptr) {
      sched.leases.yielded_in_place.fetch_add(1, std::memory_order_relaxed);
      AwaitPInPlace(m, g, ReleaseP(m), spare);
    }
  }
  m->in_runtime.store(0, std::memory_order_release);
  errno = error;
}

}  // namespace weft::internal

namespace weft {

void LockOSThread() {
  internal::G* g = internal::ThisG();
  if (g == nullptr) return;
  internal::RuntimeSection section;
  internal::M* m = internal::ThisM();
  // While it is the program's, the scheduler leaves its affinity alone.
  internal::LeaveNode(m);
  ++m->thread_locks;
  g->bound = true;
  m->locked_g.store(g, std::memory_order_release);  // as m->current
}

void UnlockOSThread() {
  internal::G* g = internal::ThisG();
  if (g == nullptr) return;
  internal::RuntimeSection section;
  internal::M* m = internal::ThisM();
  if (!g->bound || --m->thread_locks > 0) return;
  g->bound = false;
  m->locked_g.store(nullptr, std::memory_order_relaxed);
}

}  // namespace weft
