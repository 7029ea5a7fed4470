#include "sched/internal/lock.h"

#include "sched/internal/delay.h"
#include "sched/internal/futex.h"
#include "sched/internal/membarrier.h"

namespace weft::internal {
namespace {

// Sections are so short that a holder is hardly ever off its processor: 100 pauses, about 1 us, see
// most of them end.
constexpr int kSpins = 100;

// How long a sleeper trusts that it will be woken, where it could not be made sure.
constexpr absl::Duration kLookAgainEvery = absl::Milliseconds(1);

}  // namespace

void Lock::AcquireSlow() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  for (int i = 0; i < kSpins; ++i) {
    if (TryAcquire()) return;
    __builtin_ia32_pause();
  }
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  WEFT_DELAY_POINT("lock.sleep");
  const bool will_be_woken = Membarrier();
  while (word_.exchange(kHeld, std::memory_order_acquire) != kFree) {
    FutexWait(word_, kHeld, will_be_woken ? Instant::Never() : Instant::Now() + kLookAgainEvery);
  }
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

void Lock::WakeOne() { FutexWake(word_, 1); }

}  // namespace weft::internal
