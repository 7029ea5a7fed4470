// For tests of what may be on a stack that rests and moves: each of them runs one construct of the
// language on many goroutines at once, and parks and wakes in the middle of it.
//
//   TEST_P(CallsTest, ManyArguments) {
//     OnGoroutines([](int i) { EXPECT_EQ(Take(i, Paused(1), 2, ...), ...); });
//   }
//   INSTANTIATE_TEST_SUITE_P(, CallsTest, OverProcs(), ProcsName);
//
// There are more goroutines than slots, so stacks rest by themselves; WEFTDEBUG=stackrest=always
// and stackmove=always have every one do it at every occasion (torture.bzl runs the tests with
// each). While they run, SIGPROF comes a thousand times a second of processor time, and its handler
// uses both stacks.
#ifndef WEFT_TESTS_STACKS_TORTURE_H_
#define WEFT_TESTS_STACKS_TORTURE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "tests/debug_setting.h"
#include "tests/rounds.h"
#include "tests/stacks/pause.h"

namespace weft::testing {

// Whether goroutines of OnGoroutines() with `procs` Ps have to give up their slots: they rest
// always, or are more than one P keeps slots for.
bool StacksMustRest(int procs);

// How deep to go, for what is quadratic where each function entry copies all of the stack.
int Depth(int depth);

// The stack that constructs may need where stacks do not grow.
inline constexpr size_t kLargeStack = size_t{64} << 20;

// Calls body(i) on `count` goroutines at once, i from 0, and waits for all of them, while some more
// goroutines come and go. From plain threads.
void OnGoroutines(absl::FunctionRef<void(int)> body, int count = 80);

// As often as the handler of SIGPROF has run.
int64_t ProfilingSignals();

// With 1, 2 and 4 Ps.
class OverProcsTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { before_ = SetMaxProcs(GetParam()); }
  void TearDown() override { SetMaxProcs(before_); }

 private:
  int before_ = 0;
};
inline auto OverProcs() { return ::testing::ValuesIn(AllInTurn({1, 2, 4})); }
inline std::string ProcsName(const ::testing::TestParamInfo<int>& info) {
  return "Procs" + std::to_string(info.param);
}

// What the optimizer cannot know.
template <typename T>
[[gnu::noinline]] T Opaque(T value) {
  asm volatile("" : "+m"(value));
  return value;
}

}  // namespace weft::testing

#endif  // WEFT_TESTS_STACKS_TORTURE_H_
