// A lock that many may hold for reading, or one for writing; for goroutines and threads.
//
//   class Routes {
//     std::optional<Route> Find(absl::string_view host) const {
//       weft::ReaderLock lock(mutex_);
//       ...
//     }
//     void Add(Route route) {
//       weft::WriterLock lock(mutex_);
//       ...
//     }
//     mutable weft::RWMutex mutex_;
//     std::map<std::string, Route> routes_ ABSL_GUARDED_BY(mutex_);
//   };
//
// Fairness, as in Go: once somebody waits for writing, readers that come later wait until that one
// has had its turn; and when a writer unlocks, all readers that wait then get in before the next
// writer. So neither side starves. Writers are served first come, first served. It follows that
// reading is not recursive: a second RLock() by a reader waits for ever if a writer has come
// between.
//
// A goroutine that waits parks. It may unlock on another thread than it locked on, and another one
// may unlock for it. Not from signal handlers.
//
// Four bytes, no destructor work; whoever is last to use it may destroy it right after unlocking.
// Where nobody waits, each operation is one locked instruction.
#ifndef WEFT_SCHED_SYNC_RW_MUTEX_H_
#define WEFT_SCHED_SYNC_RW_MUTEX_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"

namespace weft {

class ABSL_LOCKABLE RWMutex {
 public:
  constexpr RWMutex() = default;
  RWMutex(const RWMutex&) = delete;
  RWMutex& operator=(const RWMutex&) = delete;

  // Takes it for writing: waits until nobody else has it. May park.
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    if (!TryLock()) [[unlikely]]
      LockSlow();
  }

  // The same if nobody has it now. Never parks.
  bool TryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) {
    uint32_t state = 0;
    // Acquire: pairs with the releases of Unlock() and RUnlock().
    return state_.compare_exchange_strong(state, kWriter, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }

  // Ends the program with "fatal error: sync: Unlock of unlocked RWMutex" where nobody has it for
  // writing. Never parks.
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    uint32_t state = kWriter;
    if (!state_.compare_exchange_strong(state, 0, std::memory_order_release,
                                        std::memory_order_relaxed)) [[unlikely]] {
      UnlockSlow();
    }
  }

  // Takes it for reading: waits while somebody has it for writing, or waits to. May park.
  void RLock() ABSL_SHARED_LOCK_FUNCTION() {
    uint32_t state = state_.load(std::memory_order_relaxed);
    if ((state & (kWriter | kWaits)) != 0 ||
        !state_.compare_exchange_strong(state, state + kReader, std::memory_order_acquire,
                                        std::memory_order_relaxed)) [[unlikely]] {
      RLockSlow();
    }
  }

  // The same if RLock() would not wait. Never parks.
  bool TryRLock() ABSL_SHARED_TRYLOCK_FUNCTION(true) {
    uint32_t state = state_.load(std::memory_order_relaxed);
    while ((state & (kWriter | kWaits)) == 0) {
      if (state_.compare_exchange_weak(state, state + kReader, std::memory_order_acquire,
                                       std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

  // Ends the program with "fatal error: sync: RUnlock of unlocked RWMutex" where nobody has it for
  // reading. Never parks.
  void RUnlock() ABSL_UNLOCK_FUNCTION() {
    const uint32_t before = state_.fetch_sub(kReader, std::memory_order_release);
    // The last one sees to those who wait; everybody else has done.
    if (before < kReader || before == kReader + kWaits) [[unlikely]]
      RUnlockSlow(before);
  }

 private:
  // The state: two flags, and how many read in the upper bits. See rw_mutex.cc.
  static constexpr uint32_t kWriter = 1;
  static constexpr uint32_t kWaits = 2;
  static constexpr uint32_t kReader = 4;

  void LockSlow() noexcept ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void UnlockSlow() noexcept ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void RLockSlow() noexcept ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void RUnlockSlow(uint32_t before) noexcept ABSL_NO_THREAD_SAFETY_ANALYSIS;

  template <bool kWriting>
  bool MustQueue();
  template <bool kWriting>
  bool Spin();

  std::atomic<uint32_t> state_{0};
};

// Holds it for reading for a scope.
class ABSL_SCOPED_LOCKABLE ReaderLock {
 public:
  explicit ReaderLock(RWMutex& mutex) ABSL_SHARED_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_.RLock();
  }
  ~ReaderLock() ABSL_UNLOCK_FUNCTION() { mutex_.RUnlock(); }
  ReaderLock(const ReaderLock&) = delete;
  ReaderLock& operator=(const ReaderLock&) = delete;

 private:
  RWMutex& mutex_;
};

// Holds it for writing for a scope.
class ABSL_SCOPED_LOCKABLE WriterLock {
 public:
  explicit WriterLock(RWMutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_.Lock();
  }
  ~WriterLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  RWMutex& mutex_;
};

}  // namespace weft

#endif  // WEFT_SCHED_SYNC_RW_MUTEX_H_
