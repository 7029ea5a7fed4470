// Has a fixed number of tasks wait for each other, again and again.
//
//   weft::Barrier barrier(4);
//   // in each of four tasks
//   for (int step = 0; step < kSteps; ++step) {
//     Compute(part, step);
//     barrier.ArriveAndWait();   // nobody begins the next step before all have done this one
//   }
//
// From goroutines and threads. Once all have arrived for the last time any of them may destroy it.
#ifndef WEFT_SCHED_SYNC_BARRIER_H_
#define WEFT_SCHED_SYNC_BARRIER_H_

#include <cstdint>

namespace weft {

class Barrier {
 public:
  // For `parties` tasks; fewer than one: "panic: sync: barrier for nobody".
  explicit Barrier(int parties);
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;

  // Waits until all have called it. What each did before is visible to all after. True for exactly
  // one of them, the last to come, who has not waited. May park.
  bool ArriveAndWait() noexcept;

 private:
  const int32_t parties_;
  int32_t arrived_ = 0;  // under the lock of the bucket, see internal/parking_table.h
};

}  // namespace weft

#endif  // WEFT_SCHED_SYNC_BARRIER_H_
