#include "netpoll/fd_mutex.h"

#include <atomic>
#include <vector>

#include "gtest/gtest.h"
#include "netpoll/test_util.h"
#include "sched/internal/delay.h"
#include "tests/rounds.h"

namespace weft::internal {
namespace {

using ::weft::testing::Eventually;
using ::weft::testing::ForEachSetting;
using ::weft::testing::Rounds;
using ::weft::testing::TaskGroup;
using ::weft::testing::TaskKind;

constexpr PollMode kModes[] = {PollMode::kRead, PollMode::kWrite};

TEST(FdMutexTest, TheLastReferenceAfterTheCloseDestroys) {
  FdMutex mutex;
  ASSERT_TRUE(mutex.Ref());
  ASSERT_TRUE(mutex.Lock(PollMode::kRead));
  ASSERT_TRUE(mutex.Lock(PollMode::kWrite));
  EXPECT_FALSE(mutex.closed());
  ASSERT_TRUE(mutex.RefAndClose());
  EXPECT_TRUE(mutex.closed());
  EXPECT_FALSE(mutex.Unref());
  EXPECT_FALSE(mutex.Unlock(PollMode::kWrite));
  EXPECT_FALSE(mutex.Unref());
  EXPECT_TRUE(mutex.Unlock(PollMode::kRead));
}

TEST(FdMutexTest, BeforeTheCloseNobodyDestroys) {
  FdMutex mutex;
  ASSERT_TRUE(mutex.Lock(PollMode::kRead));
  EXPECT_FALSE(mutex.Unlock(PollMode::kRead));
  ASSERT_TRUE(mutex.Ref());
  EXPECT_FALSE(mutex.Unref());
}

TEST(FdMutexTest, AfterTheCloseNothingCanBeTaken) {
  FdMutex mutex;
  ASSERT_TRUE(mutex.RefAndClose());
  EXPECT_FALSE(mutex.Ref());
  EXPECT_FALSE(mutex.Lock(PollMode::kRead));
  EXPECT_FALSE(mutex.Lock(PollMode::kWrite));
  EXPECT_FALSE(mutex.RefAndClose());
  EXPECT_TRUE(mutex.Unref());
}

TEST(FdMutexTest, DirectionsDoNotDisturbEachOther) {
  FdMutex mutex;
  ASSERT_TRUE(mutex.Lock(PollMode::kRead));
  ASSERT_TRUE(mutex.Lock(PollMode::kWrite));
  EXPECT_FALSE(mutex.Unlock(PollMode::kRead));
  EXPECT_FALSE(mutex.Unlock(PollMode::kWrite));
}

// FP-02 of the list of behaviours.
TEST(FdMutexTest, CloseEndsThoseWhoWaitForALock) {
  for (const PollMode mode : kModes) {
    ForEachSetting([mode](TaskKind kind) {
      FdMutex mutex;
      ASSERT_TRUE(mutex.Lock(mode));
      std::atomic<int> refused{0};
      TaskGroup group(kind);
      for (int i = 0; i < 4; ++i) {
        group.Go([&] {
          if (!mutex.Lock(mode)) refused.fetch_add(1);
        });
      }
      Sleep(absl::Milliseconds(2));
      EXPECT_EQ(refused.load(), 0);
      ASSERT_TRUE(mutex.RefAndClose());
      group.Wait();
      EXPECT_EQ(refused.load(), 4);
      EXPECT_FALSE(mutex.Unref());
      EXPECT_TRUE(mutex.Unlock(mode));
    });
  }
}

TEST(FdMutexTest, OneAtATimeInEachDirection) {
  EnableRandomDelays(1);
  ForEachSetting([](TaskKind kind) {
    constexpr int kTasks = 8;
    const int rounds = Rounds(300);
    FdMutex mutex;
    int counts[2] = {0, 0};
    std::atomic<int> inside[2] = {0, 0};
    {
      TaskGroup group(kind);
      for (int task = 0; task < kTasks; ++task) {
        group.Go([&, task] {
          const PollMode mode = kModes[task % 2];
          const int i = task % 2;
          for (int round = 0; round < rounds; ++round) {
            ASSERT_TRUE(mutex.Lock(mode));
            EXPECT_EQ(inside[i].fetch_add(1), 0);
            ++counts[i];
            if (round % 16 == 0) Yield();
            inside[i].fetch_sub(1);
            EXPECT_FALSE(mutex.Unlock(mode));
          }
        });
      }
    }
    EXPECT_EQ(counts[0], kTasks / 2 * rounds);
    EXPECT_EQ(counts[1], kTasks / 2 * rounds);
  });
  SetDelayHook(nullptr);
}

TEST(FdMutexTest, ExactlyOneDestroysWhenCloseRacesWithUsers) {
  EnableRandomDelays(2);
  ForEachSetting([](TaskKind kind) {
    for (int round = 0; round < Rounds(50, 10); ++round) {
      FdMutex mutex;
      std::atomic<int> destroyed{0};
      std::atomic<int> closed{0};
      {
        TaskGroup group(kind);
        for (int task = 0; task < 6; ++task) {
          group.Go([&, task] {
            const PollMode mode = kModes[task % 2];
            while (mutex.Lock(mode)) {
              EXPECT_EQ(destroyed.load(), 0);
              Yield();
              if (mutex.Unlock(mode)) destroyed.fetch_add(1);
            }
          });
        }
        for (int task = 0; task < 2; ++task) {
          group.Go([&] {
            Yield();
            if (!mutex.RefAndClose()) return;
            closed.fetch_add(1);
            if (mutex.Unref()) destroyed.fetch_add(1);
          });
        }
      }
      EXPECT_EQ(closed.load(), 1);
      EXPECT_EQ(destroyed.load(), 1);
    }
  });
  SetDelayHook(nullptr);
}

// FP-03 of the list of behaviours.
TEST(FdMutexDeathTest, MisuseIsFatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto status = ::testing::ExitedWithCode(2);
  EXPECT_EXIT(
      {
        FdMutex mutex;
        static_cast<void>(mutex.Unref());
      },
      status, "panic: inconsistent poll.fdMutex");
  EXPECT_EXIT(
      {
        FdMutex mutex;
        static_cast<void>(mutex.Unlock(PollMode::kRead));
      },
      status, "inconsistent poll.fdMutex");
  EXPECT_EXIT(
      {
        FdMutex mutex;
        static_cast<void>(mutex.Lock(PollMode::kRead));
        static_cast<void>(mutex.Unlock(PollMode::kWrite));
      },
      status, "inconsistent poll.fdMutex");
  EXPECT_EXIT(
      {
        FdMutex mutex;
        for (int i = 0; i < 1 << 21; ++i) static_cast<void>(mutex.Ref());
      },
      status, "too many concurrent operations on a single file or socket .max 1048575.");
}

}  // namespace
}  // namespace weft::internal
