// Goroutines that never give up their P by themselves, each in another way.
#ifndef WEFT_SCHED_STALL_HOGS_H_
#define WEFT_SCHED_STALL_HOGS_H_

#include <atomic>
#include <vector>

#include "absl/time/time.h"

namespace weft::testing {

struct Hog {
  const char* name;
  // Before any hog runs, and when they are to end. Both on the thread of the test.
  void (*begin)();
  void (*end)();
  // On a goroutine, until `stop` is set and `end` was called.
  void (*run)(const std::atomic<bool>& stop);
};

const std::vector<Hog>& AllHogs();

// How late a goroutine was that wanted to run every millisecond, `count` times, while two of the
// hogs ran with one P; sorted. `*at_it`: how many were at it until the end.
std::vector<absl::Duration> TickerBeside(const Hog& hog, int count, int* at_it);

}  // namespace weft::testing

#endif  // WEFT_SCHED_STALL_HOGS_H_
