#include "sched/internal/lock.h"

#include "sched/internal/delay.h"
#include "sched/internal/futex.h"
#include "sched/internal/membarrier.h"

namespace weft::internal {
namespace {

// Sections are so short that a holder is hardly ever off its processor, and to sleep costs more
// than most waits: a membarrier and two system calls. A thousand pauses are 10 to 40 us.
constexpr int kSpins = 1000;

// Each look takes the lock's cache line from the holder, who may be about to take it again: looking
// less and less often lets one thread do many operations in a row, at a fraction of the cost.
constexpr int kMostPauses = 64;

// How long a sleeper trusts that it will be woken, where it could not be made sure.
constexpr absl::Duration kLookAgainEvery = absl::Milliseconds(1);

}  // namespace

void Lock::AcquireSlow() noexcept ABSL_NO_THREAD_SAFETY_ANALYSIS {
  for (int spins = 0, pauses = 1; spins < kSpins; spins += pauses) {
    for (int i = 0; i < pauses; ++i) __builtin_ia32_pause();
    if (TryAcquire()) return;
    if (pauses < kMostPauses) pauses *= 2;
  }
  for (;;) {
    gate_.store(1, std::memory_order_seq_cst);
    WEFT_DELAY_POINT("lock.sleep");
    const bool will_be_woken = Membarrier();
    if (word_.exchange(kHeld, std::memory_order_acquire) == kFree) break;
    FutexWait(gate_, 1, will_be_woken ? Instant::Never() : Instant::Now() + kLookAgainEvery);
    if (word_.exchange(kHeld, std::memory_order_acquire) == kFree) break;
  }
  gate_.store(1, std::memory_order_relaxed);
}

void Lock::WakeOne() noexcept {
  if (gate_.exchange(0, std::memory_order_relaxed) != 0) FutexWake(gate_, 1);
}

}  // namespace weft::internal
