// No goroutine stalls the others, whatever C or C++ code it runs, with one P. The bounds are wide,
// for machines that do other things as well; :stall_benchmark prints the figures. (SystemCalls
// among the hogs is SC-12.)
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/snapshot.h"
#include "sched/stall/hogs.h"
#include "sched/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::AllHogs;
using testing::AllInTurn;
using testing::Eventually;
using testing::Hog;
using testing::IsTurn;
using testing::Rounds;
using testing::RunOnGoroutine;
using testing::TickerBeside;

class StallTest : public ::testing::TestWithParam<Hog> {};

TEST_P(StallTest, ATickerOfOneMillisecondGoesOn) {
  if (!IsTurn(GetParam().name, 3)) GTEST_SKIP() << "another one's turn";
  int at_it = 0;
  const std::vector<absl::Duration> late = TickerBeside(GetParam(), Rounds(200, 11), &at_it);
  EXPECT_EQ(at_it, 2) << "hogs that were at it until the end";
  EXPECT_LT(late[late.size() / 2], absl::Milliseconds(100)) << "the median";
  EXPECT_LT(late.back(), absl::Seconds(10)) << "the latest";
}

INSTANTIATE_TEST_SUITE_P(Hogs, StallTest, ::testing::ValuesIn(AllHogs()),
                         [](const ::testing::TestParamInfo<Hog>& info) {
                           return std::string(info.param.name);
                         });

__attribute__((noinline)) bool IsTurn(const std::atomic<int>& turn, int mine) {
  return turn.load(std::memory_order_acquire) == mine;
}

// SC-08: goroutines that spin until it is their turn, with fewer Ps than there are of them.
TEST(PreemptionTest, SC08_SpinningGoroutinesTakeTurns) {
  for (const int procs : AllInTurn({1, 2})) {
    SetMaxProcs(procs);
    constexpr int kGoroutines = 3;
    const int rounds = Rounds(5, 2);
    std::atomic<int> turn{0};
    std::atomic<int> left{kGoroutines};
    for (int i = 0; i < kGoroutines; ++i) {
      Go([&, i] {
        for (int round = 0; round < rounds; ++round) {
          while (!IsTurn(turn, round * kGoroutines + i)) {
          }
          turn.fetch_add(1, std::memory_order_release);
        }
        left.fetch_sub(1);
      });
    }
    ASSERT_TRUE(Eventually([&] { return left.load() == 0; }, absl::Seconds(60)));
  }
}

// A thousand goroutines block their threads at once, without saying so, and then come back.
TEST(ManyBlockedTest, OthersRunAndNoThreadIsLeftOver) {
  SetMaxProcs(1);
  const int count = Rounds(1'000, 30);
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  std::atomic<int> reading{0};
  std::atomic<int> left{count};
  for (int i = 0; i < count; ++i) {
    Go([&] {
      reading.fetch_add(1);
      char byte;
      EXPECT_EQ(read(fds[0], &byte, 1), 1);
      left.fetch_sub(1);
    });
  }
  ASSERT_TRUE(Eventually([&] { return reading.load() == count; }, absl::Seconds(120)));
  ASSERT_TRUE(Eventually([&] { return GetSchedSnapshot().outlaws >= count - 1; }));
  EXPECT_GE(GetSchedSnapshot().threads, count);
  EXPECT_EQ(left.load(), count);
  RunOnGoroutine([] { Yield(); });
  const std::string bytes(static_cast<size_t>(count), 'x');
  ASSERT_EQ(write(fds[1], bytes.data(), bytes.size()), count);
  ASSERT_TRUE(Eventually([&] { return left.load() == 0; }));
  EXPECT_TRUE(Eventually([] { return GetSchedSnapshot().outlaws == 0; }));
  // Two for each P and 16 sleep on, beside the monitor's and those at work.
  EXPECT_TRUE(
      Eventually([] { return GetSchedSnapshot().threads <= 2 + 16 + 4; }, absl::Seconds(60)))
      << GetSchedSnapshot().threads << " threads";
  close(fds[0]);
  close(fds[1]);
}

// Nothing waits: the P of a goroutine that sleeps is taken all the same after a while, or the
// monitor could never sleep.
TEST(BlockedAloneTest, TheMonitorGoesToSleep) {
  SetMaxProcs(2);
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  std::atomic<bool> ended{false};
  Go([&] {
    char byte;
    EXPECT_EQ(read(fds[0], &byte, 1), 1);
    ended.store(true);
  });
  EXPECT_TRUE(Eventually([] {
    const SchedSnapshot snapshot = GetSchedSnapshot();
    return snapshot.idle_procs == 2 && snapshot.outlaws == 1 && snapshot.monitor_waiting;
  }));
  EXPECT_FALSE(ended.load());
  ASSERT_EQ(write(fds[1], "x", 1), 1);
  EXPECT_TRUE(Eventually([&] { return ended.load(); }));
  close(fds[0]);
  close(fds[1]);
}

}  // namespace
}  // namespace weft
