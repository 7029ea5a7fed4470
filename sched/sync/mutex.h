// Mutual exclusion for goroutines and threads.
//
//   class Account {
//     void Deposit(int64_t amount) {
//       weft::MutexLock lock(mutex_);
//       balance_ += amount;
//     }
//     weft::Mutex mutex_;
//     int64_t balance_ ABSL_GUARDED_BY(mutex_) = 0;
//   };
//
// A goroutine that waits for it parks, and leaves its thread to others. A goroutine may hold it
// across any call into Weft, and may be on another thread when it unlocks; it may also be unlocked
// by another one than it was locked by. Not recursive. Not from signal handlers.
//
// Fairness, as in Go: a lock that is free goes to whoever comes first, be it one who has just
// arrived; but who has waited for more than a millisecond is handed the lock by the next Unlock.
// Waiters are woken first come, first served.
//
// Four bytes, no destructor work. Unlock() does not touch the object after the next one may have
// it, so the last user may destroy it. Where nobody waits, Lock() is one locked instruction and
// Unlock() none.
#ifndef WEFT_SCHED_SYNC_MUTEX_H_
#define WEFT_SCHED_SYNC_MUTEX_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "sched/internal/delay.h"
#include "sched/sync/internal/gate.h"

namespace weft {

class ABSL_LOCKABLE alignas(4) Mutex {
 public:
  constexpr Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  // Takes the lock, waiting for it. May park.
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    if (!TryLock()) [[unlikely]]
      LockSlow();
  }

  // Takes the lock if it is free. Never parks. False: somebody has it.
  bool TryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) {
    // Acquire: pairs with the releases of Unlock().
    return locked_.load(std::memory_order_relaxed) == 0 &&
           locked_.exchange(1, std::memory_order_acquire) == 0;
  }

  // Gives it back, to a waiter where there is one. Never parks. Ends the program with "fatal error:
  // sync: unlock of unlocked mutex" where nobody has it.
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    if (wake_.load(std::memory_order_relaxed) != 0 || locked_.load(std::memory_order_relaxed) == 0)
        [[unlikely]] {
      UnlockSlow();
      return;
    }
    WEFT_DELAY_POINT("mutex.unlock");
    locked_.store(0, std::memory_order_release);
    // The two stay in this order here; the barrier is the waiter's, see mutex.cc.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    WEFT_DELAY_POINT("mutex.unlocked");
    if (internal::GateOf(this).IsOpen()) [[unlikely]]
      LookAgain(this);
  }

 private:
  void LockSlow() noexcept ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void UnlockSlow() noexcept ABSL_NO_THREAD_SAFETY_ANALYSIS;
  // The object may be gone.
  static void LookAgain(Mutex* unlocked) noexcept;

  enum class Queueing : uint8_t { kNo, kSeen, kUnseen };

  void WokenHasIt() noexcept;
  Queueing MayQueue(bool woken);
  void WakeFirst();

  std::atomic<uint8_t> locked_{0};
  std::atomic<uint8_t> wake_{0};  // whoever unlocks shall see to those who wait
  // Under the lock of the bucket.
  uint8_t flags_ = 0;
  uint8_t quiet_unlocks_ = 0;
};

// Holds a mutex for a scope.
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_.Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace weft

#endif  // WEFT_SCHED_SYNC_MUTEX_H_
