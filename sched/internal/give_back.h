#ifndef WEFT_SCHED_INTERNAL_GIVE_BACK_H_
#define WEFT_SCHED_INTERNAL_GIVE_BACK_H_

#include "absl/time/time.h"

namespace weft::internal {

// Gives memory of stacks that is not in use back to the system: what the monitor does every few
// minutes. Free slots, if that is what they have been for `idle_for`. On a thread without a P.
void GiveBackStacks(absl::Duration idle_for);

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_GIVE_BACK_H_
