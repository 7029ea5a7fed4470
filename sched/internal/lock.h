// The runtime's own lock: one word, a short spin, then a futex.
//
// For critical sections of a few instructions inside the runtime (a channel's state, a queue, a
// timer heap). It blocks the thread, not the goroutine. Hold it only inside a RuntimeSection (see
// thread.h): there the thread keeps its P, so the holder cannot be descheduled by Weft with the
// lock in hand, and nothing that may park is called under it.
//
// Taking it is one locked instruction, releasing it none: a plain store, then a look at the gate,
// whether anybody sleeps. A store that is followed by a load may be overtaken by it, so the sleeper
// makes up for both sides:
//
//   releasing: word = free; compiler barrier; if (gate == 1 && exchange(gate, 0) == 1) wake one
//   sleeping:  gate = 1; membarrier; if (exchange(word, held) == free) done; futex_wait(gate, 1);
//              and again
//   done:      gate = 1, as others may sleep; this holder's release wakes the next
//
// The membarrier puts a full barrier into the releasing thread somewhere. If that falls before its
// load of the gate, the load sees the sleeper; if after, the store of the word came before it too,
// and the sleeper's exchange finds the lock free. Where the kernel has no membarrier the sleeper
// looks again every millisecond instead.
//
// The gate is closed by whoever wakes: until the one that was woken has run, further releases find
// it 0 and make no system call. Those that still sleep then are not forgotten: the one that was
// woken opens it again, when it goes back to sleep or when it has the lock. A wake-up that comes
// before the sleep shows as gate != 1, and the futex does not sleep.
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
    if (gate_.load(std::memory_order_relaxed) != 0) [[unlikely]]
      WakeOne();
  }

 private:
  static constexpr uint32_t kFree = 0;
  static constexpr uint32_t kHeld = 1;

  void AcquireSlow() noexcept;
  void WakeOne() noexcept;

  std::atomic<uint32_t> word_{kFree};
  std::atomic<uint32_t> gate_{0};  // 1: somebody sleeps and has not been woken
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
