// What becomes of the runtime in the child of a fork(): nothing, in an orderly way.
//
// The child has one thread, the one that called fork(), and of all others what they had in memory
// at that moment: held locks, half-made queues. So nothing of the scheduler can be used there. It
// would have to be locked as a whole before each fork, and its threads made anew after, for the
// sake of children of which nearly all call exec; instead
//
// - the thread becomes a plain one, if it ran a goroutine too: what waits there waits as a thread,
//   and entries into the runtime are none;
// - whoever needs the scheduler, which all comes by way of EnsureStarted(), ends the child with one
//   line;
// - goroutines that the child's code wakes, as it closes a channel or gives back a lock, are left
//   alone, and so are timers: no lock of the scheduler's is touched.
#include <pthread.h>

#include "sched/fatal.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"
#include "sched/sysmon.h"

namespace weft::internal {
namespace {

void LeaveAsleep(Waiter*) noexcept {}
bool MayNotSpin() noexcept { return false; }

// No goroutine parks there, as there is none.
constexpr GoroutineWaitOps kWaitOpsInChild = {nullptr, nullptr, LeaveAsleep, MayNotSpin};

void InChild() {
  sched.forked.store(true, std::memory_order_relaxed);
  sched.started.store(false, std::memory_order_relaxed);
  ForgetMonitor();
  goroutine_wait_ops.store(&kWaitOpsInChild, std::memory_order_relaxed);
  if (M* m = ThisM(); m != nullptr) {
    LeaveNode(m);
    SetThisThread(nullptr);
  }
}

}  // namespace

void HandleForks() { pthread_atfork(nullptr, nullptr, InChild); }

void RefuseInChild() {
  Fatal("the runtime does not run in the child of a fork(): exec, exit, or stop it before");
}

}  // namespace weft::internal
