// The runtime's own lock: one word, a short spin, then a futex.
//
// For critical sections of a few instructions inside the runtime (a channel's state, a queue, a
// timer heap). It blocks the thread, not the goroutine. Hold it only inside a RuntimeSection (see
// thread.h): there the thread keeps its P, so the holder cannot be descheduled by Weft with the
// lock in hand, and nothing that may park is called under it.
//
// The three-state futex mutex of U. Drepper, "Futexes Are Tricky" (2011), with spinning added.
#ifndef WEFT_SCHED_INTERNAL_LOCK_H_
#define WEFT_SCHED_INTERNAL_LOCK_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"

namespace weft::internal {

class ABSL_LOCKABLE Lock {
 public:
  constexpr Lock() = default;
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  void Acquire() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    uint32_t expected = kFree;
    if (!word_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire,
                                       std::memory_order_relaxed)) [[unlikely]] {
      AcquireSlow();
    }
  }

  bool TryAcquire() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) {
    uint32_t expected = kFree;
    return word_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire,
                                         std::memory_order_relaxed);
  }

  // Also a full barrier on x86 (a locked instruction).
  void Release() ABSL_UNLOCK_FUNCTION() {
    if (word_.exchange(kFree, std::memory_order_release) == kContended) [[unlikely]] {
      WakeOne();
    }
  }

 private:
  static constexpr uint32_t kFree = 0;
  static constexpr uint32_t kHeld = 1;
  static constexpr uint32_t kContended = 2;  // held, and somebody may sleep on it

  void AcquireSlow();
  void WakeOne();

  std::atomic<uint32_t> word_{kFree};
};

class ABSL_SCOPED_LOCKABLE LockGuard {
 public:
  explicit LockGuard(Lock& lock) ABSL_EXCLUSIVE_LOCK_FUNCTION(lock) : lock_(lock) {
    lock_.Acquire();
  }
  ~LockGuard() ABSL_UNLOCK_FUNCTION() { lock_.Release(); }
  LockGuard(const LockGuard&) = delete;
  LockGuard& operator=(const LockGuard&) = delete;

 private:
  Lock& lock_;
};

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_LOCK_H_
