// For tests of code that runs on goroutines.
//
//   TEST(ChanTest, SendWakesReceiver) {
//     weft::testing::ForEachMaxProcs([] {
//       weft::testing::RunOnGoroutine([] { ... });
//     });
//   }
#ifndef WEFT_SCHED_TESTING_H_
#define WEFT_SCHED_TESTING_H_

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"

namespace weft::testing {

// Runs `fn` on a new goroutine and waits for its end. From plain threads and goroutines.
void RunOnGoroutine(absl::FunctionRef<void()> fn);

// Runs `fn` on a plain thread of its own and waits for its end, without blocking a P.
void RunOnThread(absl::FunctionRef<void()> fn);

// Runs `fn` with SetMaxProcs of 1, 2, 4 and 8 in turn, and restores the number. From plain threads.
// Where the test is repeated (tests/rounds.h), with one of these.
void ForEachMaxProcs(absl::FunctionRef<void()> fn);

// Calls `condition` again and again, at growing intervals, until it holds; false once `limit` has
// passed. For what must happen but has no event to wait for.
bool Eventually(absl::FunctionRef<bool()> condition, absl::Duration limit = absl::Seconds(30));

}  // namespace weft::testing

#endif  // WEFT_SCHED_TESTING_H_
