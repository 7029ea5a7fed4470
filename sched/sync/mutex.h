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
// it, so the last user may destroy it.
#ifndef WEFT_SCHED_SYNC_MUTEX_H_
#define WEFT_SCHED_SYNC_MUTEX_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"

namespace weft {

class ABSL_LOCKABLE Mutex {
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
    uint32_t state = state_.load(std::memory_order_relaxed);
    // Acquire: pairs with the release of Unlock().
    return (state & kLocked) == 0 &&
           state_.compare_exchange_strong(state, state | kLocked, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }

  // Gives it back, to a waiter where there is one. Never parks. Ends the program with "fatal error:
  // sync: unlock of unlocked mutex" where nobody has it.
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    uint32_t state = state_.load(std::memory_order_relaxed);
    if (!IsPlainlyHeld(state) ||
        !state_.compare_exchange_strong(state, state & ~kLocked, std::memory_order_release,
                                        std::memory_order_relaxed)) [[unlikely]] {
      UnlockSlow();
    }
  }

 private:
  static constexpr uint32_t kLocked = 1;
  static constexpr uint32_t kParked = 2;  // somebody is in the queue
  static constexpr uint32_t kWoken = 4;   // one of them is on its way: wake no other

  // Held, and the unlock need wake nobody.
  static bool IsPlainlyHeld(uint32_t state) {
    return (state & kLocked) != 0 && (state & (kParked | kWoken)) != kParked;
  }

  void LockSlow() ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void UnlockSlow() ABSL_NO_THREAD_SAFETY_ANALYSIS;

  std::atomic<uint32_t> state_{0};
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
