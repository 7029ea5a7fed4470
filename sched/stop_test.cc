// Changing the number of Ps, which stops the world, while it is in use.
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/snapshot.h"
#include "sched/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::Eventually;
using testing::Rounds;
using testing::RunOnGoroutine;

TEST(SetMaxProcsTest, ReturnsWhatItWas) {
  SetMaxProcs(3);
  EXPECT_EQ(SetMaxProcs(5), 3);
  EXPECT_EQ(MaxProcs(), 5);
  EXPECT_EQ(SetMaxProcs(5), 5);
  EXPECT_EQ(SetMaxProcs(0), 5) << "less than one changes nothing";
  EXPECT_EQ(SetMaxProcs(-7), 5);
  EXPECT_EQ(MaxProcs(), 5);
  RunOnGoroutine([] {
    EXPECT_EQ(SetMaxProcs(1), 5);
    EXPECT_EQ(SetMaxProcs(2), 1);
  });
  EXPECT_EQ(MaxProcs(), 2);
}

TEST(SetMaxProcsTest, StopsAtTheLimit) {
  SetMaxProcs(1'000'000);
  EXPECT_EQ(MaxProcs(), 1'024);
  std::atomic<int> ran{0};
  for (int i = 0; i < 100; ++i) Go([&] { ran.fetch_add(1); });
  EXPECT_TRUE(Eventually([&] { return ran.load() == 100; }));
  EXPECT_EQ(SetMaxProcs(2), 1'024);
}

TEST(SetMaxProcsTest, QueuedGoroutinesOfAPThatGoesStillRun) {
  for (int round = 0; round < Rounds(50); ++round) {
    SetMaxProcs(4);
    std::atomic<int> ran{0};
    RunOnGoroutine([&] {
      for (int i = 0; i < 400; ++i) Go([&] { ran.fetch_add(1); });
      SetMaxProcs(1);
    });
    ASSERT_TRUE(Eventually([&] { return ran.load() == 400; })) << "round " << round;
  }
}

TEST(SetMaxProcsTest, WorksWhileThousandsRun) {
  for (const bool delays : AllInTurn({false, true})) {
    if (delays) internal::EnableRandomDelays(31);
    const int count = delays ? Rounds(300, 60) : Rounds(3'000, 100);
    std::atomic<int> left{count};
    for (int i = 0; i < count; ++i) {
      Go([&left, i] {
        for (int n = 0; n < 20; ++n) {
          if ((n + i) % 4 == 0) Sleep(absl::Microseconds(i % 100));
          if ((n + i) % 7 == 0) BlockingSection section;
          Yield();
        }
        left.fetch_sub(1);
      });
    }
    std::mt19937 random(5);
    for (int i = 0; left.load() > 0 && i < Rounds(300); ++i) {
      const int procs = 1 + static_cast<int>(random() % 8);
      SetMaxProcs(procs);
      EXPECT_EQ(MaxProcs(), procs);
    }
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }, absl::Seconds(120)));
    internal::SetDelayHook(nullptr);
  }
  SetMaxProcs(2);
}

TEST(SetMaxProcsTest, ManyMayAskAtOnce) {
  std::atomic<int> left{6};
  for (int i = 0; i < 3; ++i) {
    Go([&, i] {
      for (int n = 0; n < Rounds(100, 20); ++n) SetMaxProcs(1 + (n + i) % 5);
      left.fetch_sub(1);
    });
    std::thread([&, i] {
      for (int n = 0; n < Rounds(100, 20); ++n) SetMaxProcs(1 + (n * 3 + i) % 5);
      left.fetch_sub(1);
    }).detach();
  }
  EXPECT_TRUE(Eventually([&] { return left.load() == 0; }, absl::Seconds(120)));
  SetMaxProcs(2);
}

// SC-09: goroutines that compute and never call the runtime cannot hold a stop up; nor can those
// whose thread blocks without saying so.
TEST(SetMaxProcsTest, DoesNotWaitForUserCode) {
  SetMaxProcs(6);
  std::atomic<bool> stop{false};
  std::atomic<int> running{0};
  std::atomic<int> left{5};
  for (int i = 0; i < 5; ++i) {
    Go([&, i] {
      running.fetch_add(1);
      while (!stop.load()) {
        if (i == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      left.fetch_sub(1);
    });
  }
  ASSERT_TRUE(Eventually([&] { return running.load() == 5; }));
  for (int i = 0; i < 10; ++i) {
    const Instant start = Instant::Now();
    SetMaxProcs(6 + i % 2);
    EXPECT_LT(Instant::Now() - start, absl::Seconds(10));
  }
  EXPECT_EQ(left.load(), 5);
  stop.store(true);
  EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  SetMaxProcs(2);
}

// The same from a goroutine, which gives the hogs' Ps to itself.
TEST(SetMaxProcsTest, DoesNotWaitForUserCodeFromAGoroutine) {
  SetMaxProcs(3);
  std::atomic<bool> stop{false};
  std::atomic<int> left{2};
  for (int i = 0; i < 2; ++i) {
    Go([&] {
      while (!stop.load()) {
      }
      left.fetch_sub(1);
    });
  }
  RunOnGoroutine([] {
    for (int i = 0; i < 20; ++i) SetMaxProcs(3 + i % 2);
  });
  stop.store(true);
  EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  SetMaxProcs(2);
}

__attribute__((noinline)) int LargeFrame(int n) {
  volatile char frame[8 << 10];
  frame[n] = static_cast<char>(n);
  return frame[n];
}

// SC-11: nor is a request lost that finds it on its way into a function with a large frame.
TEST(SetMaxProcsTest, DoesNotWaitForLongLoopsAndLargeFrames) {
  SetMaxProcs(2);
  std::atomic<bool> stop{false};
  std::atomic<int> rounds{0};
  std::atomic<bool> ended{false};
  Go([&] {
    while (!stop.load()) {
      for (volatile int i = 0; i < 1'000'000;) {
        i = i + 1;
      }
      LargeFrame(rounds.fetch_add(1) % 8'192);
    }
    ended.store(true);
  });
  for (int i = 0; i < 3; ++i) {
    const int before = rounds.load();
    ASSERT_TRUE(Eventually([&] { return rounds.load() > before; }));
    const Instant start = Instant::Now();
    SetMaxProcs(3 + i % 2);
    EXPECT_LT(Instant::Now() - start, absl::Seconds(10));
  }
  stop.store(true);
  EXPECT_TRUE(Eventually([&] { return ended.load(); }));
  SetMaxProcs(2);
}

// After any change all Ps are in use or idle; none is lost.
TEST(SetMaxProcsTest, NoPIsLost) {
  std::mt19937 random(8);
  for (int i = 0; i < Rounds(100, 15); ++i) {
    const int procs = 1 + static_cast<int>(random() % 8);
    std::atomic<int> left{20};
    for (int g = 0; g < 20; ++g) {
      Go([&] {
        {
          BlockingSection section(BlockingSection::Expect::kLong);
        }
        left.fetch_sub(1);
      });
    }
    SetMaxProcs(procs);
    ASSERT_TRUE(Eventually([&] { return left.load() == 0; }));
    ASSERT_TRUE(Eventually([&] { return GetSchedSnapshot().idle_procs == procs; }))
        << GetSchedSnapshot().idle_procs << " of " << procs;
  }
  SetMaxProcs(2);
}

}  // namespace
}  // namespace weft
