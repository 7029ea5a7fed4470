// The futex system call, private to the process.
#ifndef WEFT_SCHED_INTERNAL_FUTEX_H_
#define WEFT_SCHED_INTERNAL_FUTEX_H_

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "sched/clock.h"

namespace weft::internal {

// Sleeps while `word` holds `expected`, until FutexWake, a signal or `deadline`; may return for no
// reason, so callers loop. Blocks the thread.
inline void FutexWait(std::atomic<uint32_t>& word, uint32_t expected,
                      Instant deadline = Instant::Never()) {
  timespec absolute;
  timespec* timeout = nullptr;
  if (!deadline.IsNever()) {
    absolute.tv_sec = deadline.nanos() / 1'000'000'000;
    absolute.tv_nsec = deadline.nanos() % 1'000'000'000;
    timeout = &absolute;
  }
  // FUTEX_WAIT_BITSET takes an absolute time on CLOCK_MONOTONIC, FUTEX_WAIT a relative one.
  syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, timeout, nullptr,
          FUTEX_BITSET_MATCH_ANY);
}

// Wakes up to `count` threads that sleep on `word`. The word may already serve another purpose,
// but its memory must still be mapped.
inline void FutexWake(std::atomic<uint32_t>& word, int count) {
  syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, nullptr, nullptr, 0);
}

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_FUTEX_H_
