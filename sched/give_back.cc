// Memory of stacks that was needed once: every few minutes the monitor sees that it goes back to
// the system.
//
// Whether a slot was used since the last time is not noted, as that would cost something at each
// switch, where to give back what is in use after all costs a page fault every five minutes: less
// than a microsecond for each page.
//
// Slots and the caches of Ps belong to whoever holds the P, so this is done with idle Ps only.
// Where none is ever idle, a slot is still looked at after some hundred of its occupants
// (stack/rest.cc).
#include "sched/internal/give_back.h"

#include "absl/time/time.h"
#include "sched/internal/runtime.h"
#include "sched/sysmon.h"
#include "stack/grow.h"

namespace weft::internal {
namespace {

constexpr absl::Duration kEvery = absl::Minutes(5);

[[maybe_unused]] const bool registered = [] {
  RegisterMonitorDuty({.name = "give back", .period = kEvery, .run = [](Instant) {
                         GiveBackStacks(kEvery);
                         return false;
                       }});
  return true;
}();

}  // namespace

void GiveBackStacks(absl::Duration idle_for) {
  bool slots_are_done = !stack::kMayMove;
  const int count = sched.p_count.load(std::memory_order_acquire);
  for (int i = 0; i < count; ++i) {
    P* wanted = sched.ps[i].load(std::memory_order_acquire);
    if (wanted->status.load(std::memory_order_relaxed) != PStatus::kIdle) continue;
    P* p = TakeIdleP(wanted);
    if (p == nullptr) break;
    if (!slots_are_done) p->stacks.GiveBackUnused();
    // What it keeps for itself goes to all, and who is in its slots rests.
    DrainStacks(p);
    if (!slots_are_done) stack::StackMover::GiveBackFree(idle_for);
    slots_are_done = true;
    HandOffP(p);
  }
  stack::ReleaseGrowthSpares();
  stack::TrimIdle(idle_for);
  stack::TrimBlocks();
}

void GiveBackAllStacks() {
  for (const auto& slot : sched.ps) {
    P* p = slot.load(std::memory_order_acquire);
    if (p == nullptr) break;
    if constexpr (stack::kMayMove) p->stacks.GiveBackUnused();
    DrainStacks(p);
  }
  if constexpr (stack::kMayMove) stack::StackMover::GiveBackFree(absl::ZeroDuration());
  stack::ReleaseGrowthSpares();
  stack::TrimIdle(absl::ZeroDuration());
  stack::TrimBlocks();
}

}  // namespace weft::internal
