// What holds under every policy, and what is different.
#include <atomic>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/internal/thread.h"
#include "sched/runtime.h"
#include "sched/snapshot.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::Eventually;
using testing::IsTurn;
using testing::Rounds;
using testing::RunOnGoroutine;

constexpr absl::Duration kLong = absl::Seconds(60);

// Machines that are not this one, whose processors are among theirs or not.
constexpr absl::string_view kOneNode = "node 0 cpus 0-7";
constexpr absl::string_view kTwoNodes = "node 0 cpus 0,2; node 1 cpus 1,3";
constexpr absl::string_view kFourNodes =
    "node 0 cpus 0-1 distances 10 12 32 32\n"
    "node 1 cpus 2-3 distances 12 10 32 32\n"
    "node 2 cpus 4-5 distances 32 32 10 12\n"
    "node 3 cpus 6 distances 32 32 12 10\n";

struct Chosen {
  const char* name;
  Policy policy;
  absl::string_view topology = {};
};

void Use(const Chosen& chosen, int procs) {
  ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  ASSERT_EQ(
      Runtime::Start({.max_procs = procs, .policy = chosen.policy, .topology = chosen.topology}),
      absl::OkStatus());
}

void Use(Policy policy, int procs) { Use({"", policy}, procs); }

class PolicyTest : public ::testing::TestWithParam<Chosen> {
 protected:
  ~PolicyTest() override {
    internal::SetDelayHook(nullptr);
    EXPECT_EQ(Runtime::Drain(kLong), absl::OkStatus());
  }
};

INSTANTIATE_TEST_SUITE_P(All, PolicyTest,
                         ::testing::Values(Chosen{"Gpm", Policy::kGpm},
                                           Chosen{"Global", Policy::kGlobal},
                                           Chosen{"NumaOneNode", Policy::kNuma, kOneNode},
                                           Chosen{"NumaTwoNodes", Policy::kNuma, kTwoNodes},
                                           Chosen{"NumaFourNodes", Policy::kNuma, kFourNodes}),
                         [](const ::testing::TestParamInfo<Chosen>& info) {
                           return info.param.name;
                         });

// Goroutines that wake each other in every way there is, and threads beside them, while the number
// of Ps changes: each of them runs to its end.
TEST_P(PolicyTest, NothingIsLost) {
  for (const int procs : AllInTurn({1, 2, 4, 8})) {
    Use(GetParam(), procs);
    for (const bool delays : AllInTurn({false, true}, 4)) {
      if (delays) internal::EnableRandomDelays(static_cast<uint64_t>(procs));
      const int tasks = Rounds(400, 60);
      Chan<int> c(3);
      WaitGroup all;
      all.Add(2 * tasks);
      for (int i = 0; i < tasks; ++i) {
        Go([&, i] {
          Yield();
          if (i % 3 == 0) Sleep(absl::Microseconds(i % 50));
          c.Send(i);
          all.Done();
        });
        Go([&, i] {
          if (i % 5 == 0) BlockingSection section(BlockingSection::Expect::kLong);
          c.Recv();
          all.Done();
        });
      }
      std::thread thread([&] {
        for (int i = 0; i < 50; ++i) {
          RunOnGoroutine([] { Yield(); });
          SetMaxProcs(1 + (procs + i) % 8);
        }
      });
      all.Wait();
      thread.join();
      internal::SetDelayHook(nullptr);
    }
    EXPECT_TRUE(Eventually([] {
      const SchedSnapshot s = GetSchedSnapshot();
      return s.idle_procs == s.max_procs && s.global_queue_size == 0 && s.goroutines == 0;
    }));
  }
}

// A goroutine that computes or blocks cannot hold the others up, whatever queue they are in.
TEST_P(PolicyTest, OthersGoOnBesideAHog) {
  if (!IsTurn(GetParam().name, 5)) GTEST_SKIP() << "another one's turn";
  for (const int procs : AllInTurn({1, 4})) {
    Use(GetParam(), procs);
    std::atomic<bool> stop{false};
    std::atomic<int> left{2};
    Go([&] {
      while (!stop.load()) {
      }
      left.fetch_sub(1);
    });
    Go([&] {
      while (!stop.load()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
      left.fetch_sub(1);
    });
    for (int i = 0; i < 20; ++i) RunOnGoroutine([] { Sleep(absl::Milliseconds(1)); });
    stop.store(true);
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  }
}

// With one P, goroutines that are made one after the other: the last one first under gpm, as it
// runs next on the P of who made it; in their order under global.
TEST_P(PolicyTest, OrderIsThePolicys) {
  Use(GetParam(), 1);
  std::vector<int> order;
  RunOnGoroutine([&] {
    {
      // Nobody takes its P from within the runtime.
      const internal::RuntimeSection section;
      for (int i = 0; i < 4; ++i) Go([&order, i] { order.push_back(i); });
    }
    while (order.size() < 4) Yield();
  });
  const std::vector<int> expected = GetParam().policy == Policy::kGlobal
                                        ? std::vector<int>{0, 1, 2, 3}
                                        : std::vector<int>{3, 0, 1, 2};
  EXPECT_EQ(order, expected);
}

TEST(GlobalPolicyTest, LocalQueuesAreEmpty) {
  Use(Policy::kGlobal, 1);
  std::atomic<int> ran{0};
  RunOnGoroutine([&] {
    const internal::RuntimeSection section;
    const int before = GetSchedSnapshot().global_queue_size;
    for (int i = 0; i < 10; ++i) Go([&] { ran.fetch_add(1); });
    const SchedSnapshot s = GetSchedSnapshot();
    EXPECT_EQ(s.global_queue_size - before, 10);
    EXPECT_EQ(s.procs[0].run_queue_size, 0);
  });
  EXPECT_TRUE(Eventually([&] { return ran.load() == 10; }));
  ASSERT_EQ(Runtime::Drain(kLong), absl::OkStatus());
  Use(Policy::kGpm, 2);
}

// What is in a P's queue, or a node's, when the policy changes runs all the same.
TEST(PolicyChangeTest, NothingIsLost) {
  constexpr Chosen kChosen[] = {{"", Policy::kGpm},
                                {"", Policy::kGlobal},
                                {"", Policy::kNuma, kTwoNodes},
                                {"", Policy::kNuma, kFourNodes}};
  const int tasks = Rounds(1'000, 100);
  for (int i = 0; i < Rounds(24, 4); ++i) {
    Use(kChosen[i % 4], 1 + i % 5);
    std::atomic<int> left{tasks};
    RunOnGoroutine([&] {
      for (int n = 0; n < tasks; ++n) {
        Go([&] {
          Yield();
          left.fetch_sub(1);
        });
      }
    });
    Use(kChosen[(i + 1 + i / 4) % 4], 1 + i % 4);
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
    ASSERT_EQ(Runtime::Drain(kLong), absl::OkStatus());
  }
}

}  // namespace
}  // namespace weft
