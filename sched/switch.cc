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
  m->current.store(g, std::memory_order_relaxed);
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

// The goroutine to switch to directly, or null. Inlined, for what it gives the address of would be
// on the pinned stack of every goroutine that waits.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline G* DirectNext(P* p, bool* inherits_slice) {
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
  return p->run_queue.Take(inherits_slice, Sharing());
}

// Brings the goroutine that is to come after `g` to its slot; false if it cannot come yet. One
// whose home is the slot of `g` has to wait until that is left, and so is left to the loop: it
// could move, but need not. (Where stacks do not move nobody calls it.)
[[maybe_unused]] ABSL_ATTRIBUTE_NOINLINE bool BringBack(M* m, const G* g, P* p, G* next,
                                                        bool inherits_slice) noexcept {
  if (next->stack.home != g->stack.home) return BringToSlot(p, next);
  m->next_after_scheduler = next;
  m->next_inherits_slice = inherits_slice;
  return false;
}

struct Next {
  G* g;
  bool inherits_slice;
};

// DirectNext() with its slot; `g` is the goroutine that calls.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline Next DirectNextInSlot(M* m, const G* g, P* p) {
  // This thread runs nobody else.
  if (g->bound) [[unlikely]]
    return {nullptr, false};
  for (;;) {
    bool inherits_slice = false;
    G* next = DirectNext(p, &inherits_slice);
    if (next == nullptr) return {nullptr, false};
    if (next->bound) [[unlikely]] {
      m->next_after_scheduler = next;
      m->next_inherits_slice = inherits_slice;
      return {nullptr, false};
    }
    if (next->runnable_since != 0) [[unlikely]]
      CountLatency(p, next);
    if constexpr (stack::kMayMove) {
      if (stack::Residence::EnterHot(next->stack, StackSharing())) [[likely]]
        return {next, inherits_slice};
      if (BringBack(m, g, p, next, inherits_slice)) return {next, inherits_slice};
      if (m->next_after_scheduler != nullptr) return {nullptr, false};
    } else {
      if (BringToSlot(p, next)) return {next, inherits_slice};
    }
  }
}

// For one that will go on: what is on the pinned stack here would else be on its, while it waits.
ABSL_ATTRIBUTE_NOINLINE WEFT_NO_LIMIT_CHECK Next DirectNextAfter(M* m, const G* g, P* p) noexcept {
  return DirectNextInSlot(m, g, p);
}

void AfterScheduler(M*, G*) {}

}  // namespace

WEFT_NO_LIMIT_CHECK void LeaveStack(stack::Arrival arrival, int32_t ended_sections) noexcept {
  M* m = ThisM();
  G* g = AsG(m->waiter);
  P* p = m->p.load(std::memory_order_relaxed);
  const Next next = DirectNextAfter(m, g, p);
  Leave(m, g, ended_sections);
  stack::Context* to = &m->context;
  if (next.g != nullptr) {
    MakeCurrent(m, p, next.g, next.inherits_slice);
    to = &next.g->stack.context;
  } else {
    if (g->bound) g->m.store(m, std::memory_order_relaxed);
    ArriveAtScheduler(m);
  }
  stack::SwitchTo(g->stack.context, *to, arrival, m, g);
}

WEFT_NO_LIMIT_CHECK void LeaveStackForGood(stack::Arrival arrival) noexcept {
  M* m = ThisM();
  G* g = AsG(m->waiter);
  P* p = m->p.load(std::memory_order_relaxed);
  const Next next = DirectNextInSlot(m, g, p);
  Leave(m, g, 0);
  if (next.g != nullptr) {
    MakeCurrent(m, p, next.g, next.inherits_slice);
    stack::SwitchFinalTo(g->stack.context, next.g->stack.context, arrival, m, g);
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
