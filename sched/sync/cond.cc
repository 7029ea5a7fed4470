// Whoever waits queues in the parking table before it unlocks the mutex, so a signal that follows
// the unlocking finds it there. Go has tickets for the same end, as its queue is behind a semaphore
// that knows no order.
//
// Who signals looks at waiting_ first. It has seen the mutex unlocked since the waiter has queued
// (or else the waiter will see the change), and so reads what the waiter has written there before.
#include "sched/sync/cond.h"

#include "sched/internal/delay.h"
#include "sched/sync/internal/parking_table.h"

namespace weft {
namespace {

constexpr uint32_t kToken = 1;

}  // namespace

template <typename L>
void Cond::WaitWith(L& mutex) noexcept {
  bool unlocked = false;
  internal::Park(
      this, internal::ParkPlace::kBack, Instant(), WaitReason::kCondWait,
      [this] {
        waiting_.store(waiting_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        return true;
      },
      [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        if (!unlocked) {
          unlocked = true;
          WEFT_DELAY_POINT("cond.queued");
          mutex.Unlock();
        }
        return Instant::Never();
      });
  mutex.Lock();
}

void Cond::Wait(Mutex& mutex) { WaitWith(mutex); }
void Cond::Wait(RWMutex& mutex) { WaitWith(mutex); }

void Cond::Signal() {
  if (waiting_.load(std::memory_order_relaxed) == 0) return;
  internal::UnparkOne(this, [this](const internal::ParkRecord* first) {
    if (first == nullptr) return internal::kNotParked;
    waiting_.store(waiting_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    return kToken;
  });
}

void Cond::Broadcast() {
  if (waiting_.load(std::memory_order_relaxed) == 0) return;
  internal::UnparkAll(this, kToken, [this] { waiting_.store(0, std::memory_order_relaxed); });
}

}  // namespace weft
