// The state word, and who changes it:
//
//   bits                         by                     when
//   .      -> LOCKED             a locker               it was not LOCKED
//   LOCKED -> LOCKED|PARKED      a locker               about to queue
//   LOCKED -> .                  the holder             not PARKED, or WOKEN
//   LOCKED|PARKED -> WOKEN[|PARKED]   the holder        normal unlock: the first waiter is woken,
//   and
//                                                       competes with whoever comes
//   LOCKED|PARKED -> LOCKED[|PARKED]  the holder        the first waiter has waited for too long:
//   it is
//                                                       given the lock itself
//   WOKEN  -> .                  the woken waiter       as it takes the lock, or queues again
//
// The two rows of a holder with PARKED and without WOKEN are done under the bucket's lock. The word
// cannot change otherwise then: lockers find all their bits set, and nobody is on the way. PARKED
// afterwards says whether the queue is empty. A locker queues only if it finds LOCKED and PARKED
// set under that lock: so the holder that will unlock it sees PARKED, and no wake-up is lost.
#include "sched/sync/mutex.h"

#include "absl/time/time.h"
#include "sched/clock.h"
#include "sched/fatal.h"
#include "sched/internal/delay.h"
#include "sched/sync/internal/parking_table.h"

namespace weft {
namespace {

constexpr uint32_t kTokenCompete = 1;
constexpr uint32_t kTokenOwner = 2;

// As in Go.
constexpr absl::Duration kTooLong = absl::Milliseconds(1);

// Spinning before queueing. The looks are far apart on purpose: between two of them a holder that
// locks and unlocks in a loop does so many times without losing the cache line. Doubling pauses,
// some microseconds in all.
constexpr int kLooks = 6;
constexpr int kFirstPauses = 8;

void PauseBeforeLook(int look) {
  for (int i = 0; i < kFirstPauses << look; ++i) __builtin_ia32_pause();
}

}  // namespace

void Mutex::LockSlow() {
  Instant since;
  bool has_waited = false;
  bool woken = false;
  int look = 0;
  uint32_t state = state_.load(std::memory_order_relaxed);
  for (;;) {
    const uint32_t without_me = woken ? state & ~kWoken : state;
    if ((state & kLocked) == 0) {
      // Acquire: pairs with the release of Unlock().
      if (state_.compare_exchange_weak(state, without_me | kLocked, std::memory_order_acquire,
                                       std::memory_order_relaxed)) {
        return;
      }
      continue;
    }
    if (look < kLooks) {
      PauseBeforeLook(look++);
      state = state_.load(std::memory_order_relaxed);
      continue;
    }
    const uint32_t queued = without_me | kParked;
    if (state != queued && !state_.compare_exchange_weak(state, queued, std::memory_order_relaxed,
                                                         std::memory_order_relaxed)) {
      continue;
    }
    woken = false;
    if (!has_waited) since = Instant::Now();
    WEFT_DELAY_POINT("mutex.park");
    const uint32_t token =
        internal::Park(this, has_waited ? internal::ParkPlace::kFront : internal::ParkPlace::kBack,
                       since, WaitReason::kMutexLock, [this] {
                         const uint32_t s = state_.load(std::memory_order_relaxed);
                         return (s & (kLocked | kParked)) == (kLocked | kParked);
                       });
    if (token == kTokenOwner) return;
    if (token == kTokenCompete) {
      has_waited = true;
      woken = true;
    }
    look = 0;
    state = state_.load(std::memory_order_relaxed);
  }
}

void Mutex::UnlockSlow() {
  uint32_t state = state_.load(std::memory_order_relaxed);
  for (;;) {
    if ((state & kLocked) == 0) Fatal("sync: unlock of unlocked mutex");
    if (!IsPlainlyHeld(state)) break;
    if (state_.compare_exchange_weak(state, state & ~kLocked, std::memory_order_release,
                                     std::memory_order_relaxed)) {
      return;
    }
  }
  WEFT_DELAY_POINT("mutex.unpark");
  internal::UnparkOne(this, [this](const internal::ParkRecord* first, bool more) {
    const uint32_t parked = more ? kParked : 0;
    if (first == nullptr) {
      state_.store(0, std::memory_order_release);
      return uint32_t{0};
    }
    if (Instant::Now() - first->since > kTooLong) {
      state_.store(kLocked | parked, std::memory_order_relaxed);
      return kTokenOwner;
    }
    state_.store(kWoken | parked, std::memory_order_release);
    return kTokenCompete;
  });
}

}  // namespace weft
