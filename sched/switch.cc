// From one goroutine to the next.
//
// A goroutine that leaves (parks, yields, ends) may be made runnable again, or its stack reused,
// only once its stack is left. So it says what is to be done with it, and whoever runs next on the
// thread does that first: another goroutine, or the scheduler's loop.
//
// What a goroutine that waits has on its stack is kept for as long, so there should be little. The
// switch is the last thing that LeaveStack() does, and LeaveStack() the last that Park() does:
// their frames are gone when the stack is left. What is left to be done when the goroutine runs
// again, the end of Park()'s runtime section, is done by the switch.
//
// The next goroutine is switched to directly where the choice is the plain one, the head of the
// local queue: that saves the way over the scheduler's stack. Anything else (the timers' or the
// global queue's turn, a stop, an empty queue) is left to the loop in proc.cc.
#include <utility>

#include "absl/base/attributes.h"
#include "sched/internal/emit.h"
#include "sched/internal/runtime.h"

namespace weft::internal {
namespace {

constexpr uint32_t kTimerSwitches = 8;
constexpr size_t kCacheLine = 64;

// The goroutines at the head of the queue run next, and when many take turns, each one's memory has
// been out of the cache since its last turn. What they need comes while the one before them runs.
//
// Another thread may have taken them and be changing what is read here. No harm: it is but a hint.
__attribute__((no_sanitize("thread"))) void PrefetchNext(const P* p) {
  const G* soon[2];
  if (!p->run_queue.PeekTwo(soon)) return;
  const auto prefetch = [](const void* address) {
    __builtin_prefetch(address, /*rw=*/1);
    __builtin_prefetch(static_cast<const char*>(address) + kCacheLine, /*rw=*/1);
  };
  // The registers that it saved and the frame above them, wherever they are, or what it starts
  // with.
  const stack::Resident& stack = soon[0]->stack;
  prefetch(stack.home == nullptr    ? &soon[0]->closure
           : stack.block != nullptr ? stack.block
                                    : stack.context.sp);
  prefetch(soon[1]);
}

// Makes `g`, which has its slot, the goroutine of this thread; the switch itself is next.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void MakeCurrent(M* m, P* p, G* g, bool inherits_slice) {
  g->m.store(m, std::memory_order_relaxed);
  const bool blocking = g->blocking_sections > 0;
  g->status.store(blocking ? GStatus::kSyscall : GStatus::kRunning, std::memory_order_relaxed);
  // Release: who lists the threads' goroutines acquires what `g` was made with.
  m->current.store(g, std::memory_order_release);
  m->waiter = g;
  m->blocking.store(blocking, std::memory_order_relaxed);
  p->switches.store(p->switches.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (inherits_slice) {
    p->handoffs.Taken();
  } else {
    p->schedtick.store(p->schedtick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  *m->exceptions = g->exceptions;
  PrefetchNext(p);
}

// Saves what belongs to the goroutine; the switch away from it is next.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void Leave(M* m, G* g, int32_t ended_sections) {
  g->runtime_depth =
      static_cast<int16_t>(m->in_runtime.load(std::memory_order_relaxed) - ended_sections);
  m->in_runtime.store(1, std::memory_order_relaxed);
  g->exceptions = *m->exceptions;
  g->turns.store(static_cast<uint16_t>(g->turns.load(std::memory_order_relaxed) + 1),
                 std::memory_order_relaxed);
  g->m.store(nullptr, std::memory_order_relaxed);
}

// For the scheduler's stack, which no goroutine's state belongs to.
void ArriveAtScheduler(M* m) {
  *m->exceptions = ExceptionState();
  m->waiter = nullptr;
  // Release: pairs with LookAtMs() in runtime.cc, for locked_g.
  m->current.store(nullptr, std::memory_order_release);
}

// The goroutine to switch to directly, or null; m->next_inherits_slice goes with it. (Not a pair:
// who copies a structure cannot move, see stack/escape_pass, and nor can the goroutine then, where
// its frames are not optimized away.)
ABSL_ATTRIBUTE_ALWAYS_INLINE inline G* DirectNext(M* m, P* p) {
  if (p == nullptr || sched.stopping.load(std::memory_order_relaxed) ||
      p->schedtick.load(std::memory_order_relaxed) % kGlobalQueueTicks == 0) {
    return nullptr;
  }
  // Whether a timer is due takes a look at the clock, which costs more than the switch: the loop
  // looks each time it comes round, and it does after so many switches.
  if (p->switches.load(std::memory_order_relaxed) % kTimerSwitches == 0 &&
      !p->timers.Earliest().IsNever()) {
    return nullptr;
  }
  return p->run_queue.Take(&m->next_inherits_slice, Sharing());
}

// Whether a goroutine that was taken from the queue can be switched to just so. It has its slot
// then.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline bool ComesJustSo(G* next) {
  if (next->bound || next->runnable_since != 0) [[unlikely]]
    return false;
  if constexpr (stack::kMayMove) {
    return stack::Residence::EnterHot(next->stack, StackSharing());
  } else {
    return next->stack.home != nullptr;
  }
}

// What is taken from the queue after `g`, which calls, and can be switched to: `next`, or one that
// follows; null if that is for the loop. It has its slot then.
ABSL_ATTRIBUTE_NOINLINE WEFT_NO_LIMIT_CHECK G* BringNext(M* m, const G* g, P* p, G* next) noexcept {
  for (; next != nullptr; next = DirectNext(m, p)) {
    // One whose home is the slot of `g` has to wait until that is left; it could move, but need
    // not.
    if (next->bound || (stack::kMayMove && next->stack.home == g->stack.home)) {
      m->next_after_scheduler = next;
      return nullptr;
    }
    if (next->runnable_since != 0) CountLatency(p, next);
    if (BringToSlot(p, next)) break;
  }
  return next;
}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline void SwitchToNext(M* m, G* g, P* p, G* next,
                                                      stack::Arrival arrival,
                                                      int32_t ended_sections) {
  Leave(m, g, ended_sections);
  MakeCurrent(m, p, next, m->next_inherits_slice);
  stack::SwitchTo(g->stack.context, next->stack.context, arrival, m, g);
}

// LeaveStack() with what it has taken from the queue: all that is not done just so. Apart from it,
// as that has no other call to save registers for.
ABSL_ATTRIBUTE_NOINLINE WEFT_NO_LIMIT_CHECK void LeaveStackSlowly(stack::Arrival arrival,
                                                                  int32_t ended_sections,
                                                                  G* next) noexcept {
  M* m = ThisM();
  G* g = AsG(m->waiter);
  P* p = m->p.load(std::memory_order_relaxed);
  next = BringNext(m, g, p, next);
  if (next != nullptr) return SwitchToNext(m, g, p, next, arrival, ended_sections);
  Leave(m, g, ended_sections);
  if (g->bound) g->m.store(m, std::memory_order_relaxed);
  ArriveAtScheduler(m);
  stack::SwitchTo(g->stack.context, m->context, arrival, m, g);
}

Remainder AfterScheduler(M*, G*) { return nullptr; }

}  // namespace

WEFT_NO_LIMIT_CHECK void ArriveAndDo(M* m, G* left, Remainder remainder) {
  remainder(m, left);
  Resume(m);
}

WEFT_NO_LIMIT_CHECK void LeaveStack(stack::Arrival arrival, int32_t ended_sections) noexcept {
  M* m = ThisM();
  G* g = AsG(m->waiter);
  P* p = m->p.load(std::memory_order_relaxed);
  // The thread of one that is bound runs nobody else.
  G* next = g->bound ? nullptr : DirectNext(m, p);
  if (next == nullptr || !ComesJustSo(next)) [[unlikely]]
    return LeaveStackSlowly(arrival, ended_sections, next);
  SwitchToNext(m, g, p, next, arrival, ended_sections);
}

WEFT_NO_LIMIT_CHECK void LeaveStackForGood(stack::Arrival arrival) noexcept {
  M* m = ThisM();
  G* g = AsG(m->waiter);
  P* p = m->p.load(std::memory_order_relaxed);
  G* next = g->bound ? nullptr : DirectNext(m, p);
  if (next != nullptr && !ComesJustSo(next)) next = BringNext(m, g, p, next);
  Leave(m, g, 0);
  if (next != nullptr) {
    MakeCurrent(m, p, next, m->next_inherits_slice);
    stack::SwitchFinalTo(g->stack.context, next->stack.context, arrival, m, g);
  }
  ArriveAtScheduler(m);
  stack::SwitchFinalTo(g->stack.context, m->context, arrival, m, g);
}

void SwitchToGoroutine(M* m, G* g, bool inherits_slice) {
  while (g != nullptr) {
    if (g->bound && PassToBoundThread(m, g)) return;
    P* p = m->p.load(std::memory_order_relaxed);
    if (g->runnable_since != 0) CountLatency(p, g);
    if (!BringToSlot(p, g)) return;
    MakeCurrent(m, p, g, inherits_slice);
    EmitStart(m, g);
    stack::SwitchTo(m->context, g->stack.context, Arrive<AfterScheduler>, m, nullptr);
    g = std::exchange(m->next_after_scheduler, nullptr);
    inherits_slice = m->next_inherits_slice;
  }
}

}  // namespace weft::internal
