// As Go's sync/waitgroup.go: one word holds the counter and the number of waiters. Who brings the
// counter to zero while others wait sets the word to zero, under the lock of the queue and as its
// last access, and wakes them. A waiter queues only if it still finds the word different from zero
// there: so it is woken, and not before the waker has done with the group, which may be gone right
// after.
#include "sched/sync/wait_group.h"

#include "sched/clock.h"
#include "sched/fatal.h"
#include "sched/internal/delay.h"
#include "sched/sync/internal/parking_table.h"

namespace weft {
namespace {

constexpr uint32_t kToken = 1;

int32_t CounterOf(uint64_t state) { return static_cast<int32_t>(state >> 32); }
uint32_t WaitersOf(uint64_t state) { return static_cast<uint32_t>(state); }

}  // namespace

void WaitGroup::Add(int delta) noexcept {
  const uint64_t change = static_cast<uint64_t>(static_cast<uint32_t>(delta)) << 32;
  // Release: what the task did. Acquire: the last one passes on what the others did.
  const uint64_t state = state_.fetch_add(change, std::memory_order_acq_rel) + change;
  const int32_t counter = CounterOf(state);
  if (counter < 0) Panic("sync: negative WaitGroup counter");
  if (counter > 0) {
    if (WaitersOf(state) != 0 && counter == delta) {
      Panic("sync: WaitGroup misuse: Add called concurrently with Wait");
    }
    return;
  }
  if (WaitersOf(state) == 0) return;
  WEFT_DELAY_POINT("wait_group.zero");
  internal::UnparkAll(this, kToken, [this, state] {
    // Nobody may change it now: adding is misuse, and who comes to wait sees zero.
    if (state_.load(std::memory_order_relaxed) != state) {
      Panic("sync: WaitGroup misuse: Add called concurrently with Wait");
    }
    state_.store(0, std::memory_order_release);
  });
}

void WaitGroup::Wait() noexcept {
  // Acquire: pairs with the release of the Done() that brought the counter to zero.
  uint64_t state = state_.load(std::memory_order_acquire);
  do {
    if (CounterOf(state) == 0) return;
  } while (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire));
  WEFT_DELAY_POINT("wait_group.counted");
  internal::Park(
      this, internal::ParkPlace::kBack, Instant(), WaitReason::kWaitGroupWait,
      [this] { return WaitersOf(state_.load(std::memory_order_relaxed)) != 0; },
      [] { return Instant::Never(); });
  if (state_.load(std::memory_order_acquire) != 0) {
    Panic("sync: WaitGroup is reused before previous Wait has returned");
  }
}

}  // namespace weft
