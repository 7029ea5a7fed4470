// For tests of what may be on a stack that rests and moves: each of them runs one construct of the
// language on many goroutines at once, and parks and wakes in the middle of it.
//
//   TEST_P(CallsTest, ManyArguments) {
//     OnGoroutines([](int i) { EXPECT_EQ(Take(i, Paused(1), 2, ...), ...); });
//   }
//   INSTANTIATE_TEST_SUITE_P(, CallsTest, OverProcs(), ProcsName);
//
// There are more goroutines than slots, so stacks rest by themselves; WEFTDEBUG=stackrest=always,
// stackmove=always and stackgrow=copy have every one rest, move or grow at every occasion
// (torture.bzl runs the tests with each). While they run, SIGPROF comes a thousand times a second
// of processor time, and its handler uses both stacks.
//
// A test of stacks that stay where they are says nothing. So OnGoroutines() fails if none has
// rested that had to, and at the end the program fails if no signal has come, or if fewer stacks
// rested, moved or grew than its target demands (torture.bzl, by the environment). Its last lines
// say how many did.
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

// More goroutines than all Ps together keep slots for. Fewer where stacks rest or move in any case.
int Crowd();

// Whether a Crowd() has to give up slots: its stacks rest always, or are more than there are slots.
bool StacksMustRest();

// How deep to go, for what is quadratic where each function entry copies all of the stack.
int Depth(int depth);

// The stack that constructs may need where stacks do not grow.
inline constexpr size_t kLargeStack = size_t{64} << 20;

// Calls body(i) on `count` goroutines at once, i from 0, and waits for all of them, while some more
// goroutines come and go. All have begun, and have waited for that, before any calls body. From
// plain threads.
void OnGoroutines(absl::FunctionRef<void(int)> body, int count);
inline void OnGoroutines(absl::FunctionRef<void(int)> body) { OnGoroutines(body, Crowd()); }

// In body: waits for all goroutines of the OnGoroutines() to come here. Once each.
void Meet();

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
