// The lease of a P: how it is taken from an M whose goroutine does not come back.
//
// While a goroutine runs user code its M holds the P on a lease that any thread may revoke; inside
// the runtime it may not. No signal is sent and nothing is interrupted: the goroutine runs on, as
// on a plain thread, and finds out when it next enters the runtime.
//
//   enter (depth 0 -> 1): in_runtime = 1; compiler barrier; if (attn) answer; then m->p is its own
//   leave (1 -> 0):       in_runtime = 0, release
//   inner enter/leave:    change the depth, look at nothing
//   revoke, any thread:   lock m; attn = 1; membarrier; r = in_runtime (acquire)
//                         r == 0: p = m->p, read now; m->p = null; unlock; the P is the revoker's
//                         r != 0: unlock; attn stays 1: the next entry answers
//   answer, the M only:   lock m; p = m->p; attn = 0; unlock
//                         p == null: take an idle P, or queue the goroutine and let it wait for one
//                         p != null and it should yield: the goroutine goes to the global queue
//
// Who writes what: in_runtime its M; attn set by revokers and cleared by its M, both under m->lock;
// m->p by its M while in_runtime != 0, and by a revoker only after attn = 1, the barrier and
// in_runtime == 0, under m's lock, reading m->p after that load. The revoker never puts anything
// back: an M that was inside may have changed its P meanwhile.
//
// Why it is safe: the M's store of in_runtime and its load of attn are in program order. The
// membarrier makes every thread of the process pass a full barrier between the revoker's store of
// attn and its load of in_runtime. Either the M's store comes before the M's barrier, and the
// revoker sees 1; or it comes after, and so does the load, which sees attn.
//
// Why it is live: a failed revoke leaves attn set, so the M's next entry answers whatever the
// revoker saw.
//
// Where the kernel refuses membarrier (before 4.14, or a seccomp filter), bit kAlways of attn is
// set in every M for good: each entry then takes the slow path, whose first act is a full fence,
// and the revoker's fence pairs with that one.
//
// sched/models/lease.pml checks this protocol and the wrong turns beside it.
#include "sched/internal/delay.h"
#include "sched/internal/emit.h"
#include "sched/internal/membarrier.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"
#include "stack/morestack.h"

namespace weft::internal {
namespace {

constexpr uint32_t kAsked = 1;
constexpr uint32_t kAlways = 2;

// Whether entries into the runtime do without a fence of their own.
bool have_membarrier = false;

bool FenceAllThreads() {
  if (have_membarrier) return Membarrier();
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return true;
}

// On the scheduler's stack: the goroutine has no P to run on.
Remainder QueueWithoutP(M* m, G* g) {
  EmitLeft(m, g, Event::kLostP);
  LeaveSlot(m, g);
  g->status.store(GStatus::kRunnable, std::memory_order_release);  // see GStatus
  // "No idle P: queue the goroutine" and "no work: the P is idle" are critical sections of one
  // lock, so one of the two sees the other.
  P* p = nullptr;
  {
    LockGuard guard(sched.lock);
    if (!sched.stopping.load(std::memory_order_relaxed)) p = PopIdleP(NearNode());
    StampNowAndThen(sched.until_stamp, g);
    sched.global_queue.PushBack(g);
    sched.global_size.store(sched.global_queue.size(), std::memory_order_seq_cst);
  }
  if (p != nullptr) AcquireP(m, p);
  return nullptr;
}

Remainder QueueShared(M* m, G* g) {
  EmitLeft(m, g, Event::kPreempt);
  LeaveSlot(m, g);
  g->status.store(GStatus::kRunnable, std::memory_order_release);  // see GStatus
  EnqueueShared(g);
  return nullptr;
}

}  // namespace

void InitLease() {
  have_membarrier = HaveMembarrier();
  answer_attention = AnswerAttention;
  stack::weft_stack_request_handler.store(AnswerGuardRequest, std::memory_order_release);
}

uint32_t InitialAttention() { return have_membarrier ? 0 : kAlways; }

P* Revoke(M* m, Revoked why, const P* wanted) {
  LockGuard guard(m->lock);
  m->attn.fetch_or(kAsked, std::memory_order_seq_cst);
  sched.leases.barriers.fetch_add(1, std::memory_order_relaxed);
  if (!FenceAllThreads()) return nullptr;
  WEFT_DELAY_POINT("lease.revoke");
  // Acquire: pairs with the release in LeaveRuntime(), for what the M did with its P.
  if (m->in_runtime.load(std::memory_order_acquire) != 0) {
    sched.leases.refused.fetch_add(1, std::memory_order_relaxed);
    return nullptr;
  }
  P* p = m->p.load(std::memory_order_relaxed);
  if (p == nullptr || (wanted != nullptr && p != wanted)) return nullptr;
  m->p.store(nullptr, std::memory_order_relaxed);
  EmitTaken(m, p, why);
  sched.leases.taken[static_cast<int>(why)].fetch_add(1, std::memory_order_relaxed);
  m->revoked.store(why, std::memory_order_relaxed);
  if (why != Revoked::kBlocking) sched.outlaws.fetch_add(1, std::memory_order_relaxed);
  return p;
}

void RequestYield(M* m, P* p) {
  p->yield_requested.store(true, std::memory_order_relaxed);
  sched.leases.asked.fetch_add(1, std::memory_order_relaxed);
  RepeatRequest(m, p);
}

void RepeatRequest(M* m, const P* p) {
  LockGuard guard(m->lock);
  if (m->p.load(std::memory_order_relaxed) != p) return;
  m->attn.fetch_or(kAsked, std::memory_order_seq_cst);
  // Its thread is there as long as this is not null. It may store to the word at the same moment:
  // then the request is lost, and is repeated.
  if (m->guard_word != nullptr) {
    __atomic_store_n(m->guard_word, stack::kGuardRequest, __ATOMIC_RELAXED);
  }
}

P* SurrenderP(M* m) {
  LockGuard guard(m->lock);
  m->attn.fetch_or(kAsked, std::memory_order_relaxed);
  return ReleaseP(m);
}

P* TakeNotice(M* m) {
  LockGuard guard(m->lock);
  m->attn.fetch_and(~kAsked, std::memory_order_relaxed);
  const Revoked why = m->revoked.exchange(Revoked::kNot, std::memory_order_relaxed);
  if (why != Revoked::kNot && why != Revoked::kBlocking) {
    sched.outlaws.fetch_sub(1, std::memory_order_relaxed);
  }
  return m->p.load(std::memory_order_relaxed);
}

__attribute__((noinline)) void AnswerAttention() noexcept {
  M* m = ThisM();
  if (!have_membarrier) {
    // What the membarrier would have done between the store of in_runtime and this look at attn.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if ((m->attn.load(std::memory_order_relaxed) & kAsked) == 0) return;
  }
  WEFT_DELAY_POINT("lease.answer");
  P* p = TakeNotice(m);
  if (m->waiter == nullptr) return;  // on the scheduler's stack, which looks for a P by itself
  if (p == nullptr) {
    p = TakeIdleP(m->last_p.load(std::memory_order_relaxed));
    if (p != nullptr) {
      AcquireP(m, p);
    } else {
      SwitchAway<QueueWithoutP>();
    }
    return;
  }
  if (sched.stopping.load(std::memory_order_relaxed) ||
      p->yield_requested.exchange(false, std::memory_order_relaxed)) {
    SwitchAway<QueueShared>();
  }
}

}  // namespace weft::internal
