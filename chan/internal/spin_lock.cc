#include "chan/internal/spin_lock.h"

#include <sched.h>
#include <time.h>

#include <algorithm>

namespace weft::internal {

void SpinLock::AcquireSlow() {
  constexpr int kSpins = 200;  // with a pause each: a few microseconds
  constexpr int kYields = 20;
  constexpr long kMaxSleepNanos = 500'000;
  long sleep_nanos = 10'000;
  for (int round = 0;; ++round) {
    if (word_.load(std::memory_order_relaxed) == 0 &&
        word_.exchange(1, std::memory_order_acquire) == 0) {
      return;
    }
    if (round < kSpins) {
      __builtin_ia32_pause();
    } else if (round < kSpins + kYields) {
      sched_yield();
    } else {
      // The holder may have less priority than we have: a yield would not let it run.
      timespec pause = {0, sleep_nanos};
      nanosleep(&pause, nullptr);
      sleep_nanos = std::min(2 * sleep_nanos, kMaxSleepNanos);
    }
  }
}

}  // namespace weft::internal
