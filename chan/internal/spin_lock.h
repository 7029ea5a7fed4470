// The lock of a channel: taken for a few instructions, by operations that hardly ever collide.
//
// Its release is a plain store, which halves what an uncontended operation pays for locking; a lock
// that puts its waiters to sleep on the word (sched/internal/lock.h) needs a read-modify-write
// there, to learn whether anybody sleeps. The price is paid by the waiter: it spins, then yields,
// then sleeps for short times, as nobody tells it that the lock is free. It comes to that only when
// the kernel takes the processor away from a holder.
//
// Hold it only inside a RuntimeSection, and call nothing that may park while holding it.
#ifndef WEFT_CHAN_INTERNAL_SPIN_LOCK_H_
#define WEFT_CHAN_INTERNAL_SPIN_LOCK_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"

namespace weft::internal {

class ABSL_LOCKABLE SpinLock {
 public:
  constexpr SpinLock() = default;
  SpinLock(const SpinLock&) = delete;
  SpinLock& operator=(const SpinLock&) = delete;

  void Acquire() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    // Acquire: pairs with the release in Release().
    if (word_.exchange(1, std::memory_order_acquire) != 0) [[unlikely]]
      AcquireSlow();
  }

  bool TryAcquire() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) {
    return word_.exchange(1, std::memory_order_acquire) == 0;
  }

  void Release() ABSL_UNLOCK_FUNCTION() { word_.store(0, std::memory_order_release); }

 private:
  void AcquireSlow();

  std::atomic<uint32_t> word_{0};
};

}  // namespace weft::internal

#endif  // WEFT_CHAN_INTERNAL_SPIN_LOCK_H_
