#include "sched/internal/lock.h"

#include "sched/internal/futex.h"

namespace weft::internal {

void Lock::AcquireSlow() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  // On one processor the holder cannot make progress while we spin, but sections are so short that
  // a holder is hardly ever off its processor; 100 pauses are about 1 us.
  for (int i = 0; i < 100; ++i) {
    if (word_.load(std::memory_order_relaxed) == kFree && TryAcquire()) return;
    __builtin_ia32_pause();
  }
  // From here on the word is taken as contended: we cannot know whether others sleep as well.
  while (word_.exchange(kContended, std::memory_order_acquire) != kFree) {
    FutexWait(word_, kContended);
  }
}

void Lock::WakeOne() { FutexWake(word_, 1); }

}  // namespace weft::internal
