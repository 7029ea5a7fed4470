// Which goroutine has which slot: the scheduler's side of stack/residence.h.
//
// A goroutine is brought to a slot before it is switched to, by whoever has taken it from a queue,
// and leaves it, as far as others are concerned, first thing after it has been switched away from:
// before its status says that it waits, and so before anybody can make it ready. Both happen with a
// P, whose lists and caches they use.
//
// Where it was not built to move stacks, a goroutine has a slot from its first run to its end.
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "sched/debug_settings.h"
#include "sched/fatal.h"
#include "sched/internal/delay.h"
#include "sched/internal/runtime.h"
#include "stack/frames.h"
#include "stack/grow.h"

namespace weft::internal {
namespace {

constinit stack::RestPolicy rest_policy = stack::RestPolicy::kAsNeeded;

bool ApplyStackRest(absl::string_view value) {
  if (value == "on") {
    rest_policy = stack::RestPolicy::kAsNeeded;
  } else if (value == "off") {
    rest_policy = stack::RestPolicy::kNever;
  } else if (value == "always") {
    rest_policy = stack::RestPolicy::kAlways;
  } else {
    return false;
  }
  return true;
}

constexpr DebugSetting kStackRest = {
    "stackrest", "on (the default), off, or always (at each park, to wake in another slot)",
    ApplyStackRest};

bool ApplyStackPoison(absl::string_view value) {
  if (value == "1") stack::PoisonLeftStacks();
  return value == "0" || value == "1";
}

bool ApplyStackMove(absl::string_view value) {
  if (value == "always") {
    stack::MoveStacksAlways();
  } else {
    return value == "on";
  }
  return true;
}

constexpr DebugSetting kStackMove = {
    "stackmove", "on (the default), or always (at each function's entry)", ApplyStackMove};

bool ApplyStackGrow(absl::string_view value) {
  if (value == "copy") {
    stack::SetStackGrowth(stack::Growth::kCopy);
  } else if (value == "inplace") {
    stack::SetStackGrowth(stack::Growth::kInPlace);
  } else {
    return value == "auto";
  }
  return true;
}

constexpr DebugSetting kStackGrow = {
    "stackgrow",
    "auto (the default: copy where address space or commit is limited), inplace or copy",
    ApplyStackGrow};

constexpr DebugSetting kStackPoison = {
    "stackpoison", "0 or 1 (fill the memory that a resting stack has left)", ApplyStackPoison};

[[maybe_unused]] const bool registered = [] {
  RegisterDebugSetting(&kStackRest);
  RegisterDebugSetting(&kStackGrow);
  RegisterDebugSetting(&kStackMove);
  RegisterDebugSetting(&kStackPoison);
  return true;
}();

// The frames of code inside the runtime are as good as any, but the thread's exception state may be
// the next goroutine's already. For exceptions see GMover::MayRest().
stack::Resident* MovableNow(stack::Context& context) {
  static_assert(offsetof(stack::Resident, context) == 0);
  const M* m = ThisM();
  if (m == nullptr || m->in_runtime.load(std::memory_order_relaxed) != 0 ||
      m->exceptions->caught != nullptr || m->exceptions->uncaught != 0) {
    return nullptr;
  }
  return reinterpret_cast<stack::Resident*>(&context);
}

[[noreturn]] void NoStack() {
  Fatal(absl::StrCat("cannot start a goroutine: ", stack::WhyNoSlot()));
}

}  // namespace

G* AsG(stack::Resident& resident) {
  // Conditionally supported on a type with bases; both our compilers do.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
  static_assert(
      WEFT_ASAN || WEFT_TSAN || offsetof(G, stack) + offsetof(stack::Resident, pinned) <= 128,
      "what every switch touches is two cache lines");
  return reinterpret_cast<G*>(reinterpret_cast<char*>(&resident) - offsetof(G, stack));
#pragma GCC diagnostic pop
}

void InitStacks() { stack::InstallGrowth({.movable = MovableNow}); }

GMover::GMover(stack::SlotCache& slots)
    : StackMover(slots, GoroutineEntry, rest_policy, stack::kSlotBudget) {}

void GMover::Ready(stack::Resident& resident) { Enqueue(ThisM(), AsG(resident), Place::kTail); }

// libstdc++ finds handlers again by addresses that it has noted while it was searching, so frames
// must not move while an exception is on its way or being handled.
bool GMover::MayRest(const stack::Resident& resident) const {
  const G* g = AsG(const_cast<stack::Resident&>(resident));
  return g->exceptions.caught == nullptr && g->exceptions.uncaught == 0;
}

void GMover::DelayPoint([[maybe_unused]] const char* point) { WEFT_DELAY_POINT(point); }

P::P(int i) : id(i), stacks(slots) {}

void GiveStack(P* p, G* g) {
  stack::Resident& s = g->stack;
  stack::Slot* const home = stack::Acquire(p->slots, g->stack_class);
  if (home == nullptr) [[unlikely]]
    NoStack();
  s.SetPinned(stack::AcquirePinned(p->slots, s.pinned_class));
  if (stack::kHasPinnedStack && s.pinned == nullptr) [[unlikely]]
    NoStack();
  stack::MakeContext(s.context, *home, s.pinned, GoroutineEntry, &s);
  s.SetHome(home);
}

bool CannotRun(P*, G* g, stack::Residence::Entry entry) {
  if (entry == stack::Residence::Entry::kNoSlot) {
    if (g->stack.home == nullptr) NoStack();
    // Slots get free as others park and end.
    EnqueueShared(g);
  }
  return false;
}

void ReturnStacks(P* p, G* g) {
  stack::Resident& s = g->stack;
  stack::DestroyContext(s.context);
  if constexpr (stack::kMayMove) {
    p->stacks.End(s);
  } else {
    stack::Release(p->slots, s.home);
    stack::ReleasePinned(p->slots, s.pinned);
    s.SetHome(nullptr);
    s.SetPinned(nullptr);
  }
}

void DrainStacks(P* p) {
  if constexpr (stack::kMayMove) p->stacks.Drain();
  stack::Drain(p->slots);
}

}  // namespace weft::internal
