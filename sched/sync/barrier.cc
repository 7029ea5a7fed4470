#include "sched/sync/barrier.h"

#include "sched/fatal.h"
#include "sched/internal/delay.h"
#include "sched/sync/internal/parking_table.h"

namespace weft {
namespace {

constexpr uint32_t kToken = 1;

}  // namespace

Barrier::Barrier(int parties) : parties_(parties) {
  if (parties < 1) Panic("sync: barrier for nobody");
}

bool Barrier::ArriveAndWait() noexcept {
  // Arriving and queueing are one step under the bucket's lock: whoever comes for the next round
  // finds the others taken from the queue.
  internal::ParkRecord* others = nullptr;
  const uint32_t token = internal::Park(
      this, internal::ParkPlace::kBack, Instant(), WaitReason::kSemacquire,
      [&] {
        if (++arrived_ < parties_) return true;
        arrived_ = 0;
        others = internal::BucketOf(this).PopAll(this);
        return false;
      },
      [] { return Instant::Never(); });
  if (token == kToken) return false;
  WEFT_DELAY_POINT("barrier.last");
  internal::RuntimeSection section;
  internal::WakeAll(others, kToken);
  return true;
}

}  // namespace weft
