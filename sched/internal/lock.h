// The runtime's own lock: one word, a short spin, then a futex.
//
// For critical sections of a few instructions inside the runtime (a channel's state, a queue, a
// timer heap). It blocks the thread, not the goroutine. Hold it only inside a RuntimeSection (see
// thread.h): there the thread keeps its P, so the holder cannot be descheduled by Weft with the
// lock in hand, and nothing that may park is called under it.
//
// Taking it is one locked instruction, releasing it none: a plain store, then a look whether
// anybody sleeps. A store that is followed by a load may be overtaken by it, so the sleeper makes
// up for both sides:
//
//   releasing: word = free; compiler barrier; if (sleepers != 0) wake one
//   sleeping:  ++sleepers; membarrier; while (exchange(word, held) != free) futex_wait(word, held)
//
// The membarrier puts a full barrier into the releasing thread somewhere. If that falls before its
// load of sleepers, the load sees the sleeper; if after, the store of the word came before it too,
// and the sleeper's exchange finds the lock free. Where the kernel has no membarrier the sleeper
// looks again every millisecond instead.
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
    // Acquire: pairs with the store in Release().
    if (word_.exchange(kHeld, std::memory_order_acquire) != kFree) [[unlikely]]
      AcquireSlow();
  }

  bool TryAcquire() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) {
    return word_.load(std::memory_order_relaxed) == kFree &&
           word_.exchange(kHeld, std::memory_order_acquire) == kFree;
  }

  // Touches the lock after it is free, so the caller keeps it alive until this returns.
  void Release() ABSL_UNLOCK_FUNCTION() {
    word_.store(kFree, std::memory_order_release);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_relaxed) != 0) [[unlikely]]
      WakeOne();
  }

 private:
  static constexpr uint32_t kFree = 0;
  static constexpr uint32_t kHeld = 1;

  void AcquireSlow();
  void WakeOne();

  std::atomic<uint32_t> word_{kFree};
  std::atomic<uint32_t> sleepers_{0};
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
