#include "sched/sync/mutex.h"

#include <atomic>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/internal/lock.h"
#include "sched/internal/thread.h"
#include "sched/sync/internal/parking_table.h"
#include "sched/sync/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Rounds;
using testing::Tasks;

class MutexTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, MutexTest, testing::Worlds(), testing::WorldName);

static_assert(sizeof(Mutex) == 4);

// For what the analysis of locks cannot follow.
void LockUnseen(Mutex& mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.Lock(); }
void UnlockUnseen(Mutex& mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.Unlock(); }

// How many are in its queue.
int Waiting(const Mutex& mutex) {
  internal::RuntimeSection section;
  internal::ParkingBucket& bucket = internal::BucketOf(&mutex);
  const internal::LockGuard guard(bucket.lock);
  return bucket.Count(&mutex);
}

TEST_P(MutexTest, SY01_OneHolderAtATime) {
  Run([] {
    Mutex mutex;
    mutex.Lock();
    EXPECT_FALSE(mutex.TryLock());
    mutex.Unlock();
    if (mutex.TryLock()) {
      mutex.Unlock();
    } else {
      ADD_FAILURE() << "nobody has it";
    }

    constexpr int kTasks = 10;
    const int rounds = Rounds(1000, 200);
    int counter = 0;
    std::atomic<int> holders{0};
    Tasks tasks;
    for (int t = 0; t < kTasks; ++t) {
      tasks.Go([&] {
        for (int i = 0; i < rounds; ++i) {
          if (i % 3 == 0) {
            // Others may have it; then this round has no part.
            if (!mutex.TryLock()) {
              mutex.Lock();
            }
          } else {
            mutex.Lock();
          }
          EXPECT_EQ(holders.fetch_add(1), 0);
          ++counter;
          if (i % 50 == 0) Yield();  // hold it while others come to wait
          holders.fetch_sub(1);
          mutex.Unlock();
        }
      });
    }
    tasks.Wait();
    EXPECT_EQ(counter, kTasks * rounds);
  });
}

TEST_P(MutexTest, SY02_WaiterIsNotStarvedByAHolderThatComesBack) {
  Run([] {
    Mutex mutex;
    std::atomic<bool> stop{false};
    const Instant deadline = Instant::Now() + absl::Seconds(10);
    Tasks tasks;
    tasks.Go([&] {
      while (!stop) {
        mutex.Lock();
        Sleep(absl::Microseconds(100));
        mutex.Unlock();
      }
    });
    for (int i = 0; i < 10; ++i) {
      Sleep(absl::Microseconds(100));
      mutex.Lock();
      mutex.Unlock();
    }
    stop = true;
    EXPECT_LT(Instant::Now(), deadline);
  });
}

// For WaiterIsNotMissedByAnUnlockThatHasLookedAlready.
std::atomic<bool> hold_the_unlock;
std::atomic<bool> is_queued;

void HoldUnlockUntilSomebodyIsQueued(const char* point) {
  const absl::string_view name = point;
  if (name == "mutex.queued") is_queued = true;
  if (name != "mutex.unlock" || !hold_the_unlock.exchange(false)) return;
  const BlockingSection section;
  const Instant deadline = Instant::Now() + absl::Seconds(30);
  while (!is_queued && Instant::Now() < deadline) absl::SleepFor(absl::Microseconds(50));
  EXPECT_TRUE(is_queued);
}

TEST_P(MutexTest, WaiterIsNotMissedByAnUnlockThatHasLookedAlready) {
  Run([] {
    for (int i = 0; i < 5; ++i) {
      Mutex mutex;
      mutex.Lock();
      is_queued = false;
#ifndef NDEBUG  // else there are no delay points
      hold_the_unlock = true;
#endif
      internal::SetDelayHook(HoldUnlockUntilSomebodyIsQueued);
      Tasks tasks;
      tasks.Go([&] { MutexLock lock(mutex); });
      mutex.Unlock();
      tasks.Wait();
      internal::SetDelayHook(nullptr);
    }
  });
}

TEST_P(MutexTest, WaitersGetItInTheOrderOfTheirComing) {
  Run([] {
    Mutex mutex;
    mutex.Lock();
    std::vector<int> order;
    Tasks tasks;
    for (int i = 0; i < 5; ++i) {
      tasks.Go([&, i] {
        MutexLock lock(mutex);
        order.push_back(i);
      });
      EXPECT_TRUE(testing::Eventually([&] { return Waiting(mutex) == i + 1; }));
    }
    mutex.Unlock();
    tasks.Wait();
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
  });
}

TEST_P(MutexTest, LastUserMayDestroyIt) {
  Run([] {
    struct Object {
      Mutex mutex;
      int users = 2;
    };
    for (int i = 0; i < 500; ++i) {
      auto* object = new Object;
      const auto use = [object] {
        object->mutex.Lock();
        const bool last = --object->users == 0;
        object->mutex.Unlock();
        if (last) delete object;
      };
      Tasks tasks;
      tasks.Go(use);
      use();
    }
  });
}

TEST_P(MutexTest, MutexesOfOneBucketDoNotMixUp) {
  Run([] {
    // More than there are buckets.
    constexpr size_t kMutexes = 600;
    std::vector<Mutex> mutexes(kMutexes);
    std::vector<int> values(kMutexes);
    for (Mutex& m : mutexes) LockUnseen(m);
    Tasks tasks;
    for (int t = 0; t < 4; ++t) {
      tasks.Go([&, t] {
        for (size_t i = 0; i < kMutexes; ++i) {
          const size_t at = (i * 7 + static_cast<size_t>(t) * 150) % kMutexes;
          MutexLock lock(mutexes[at]);
          ++values[at];
        }
      });
    }
    Yield();
    for (size_t i = kMutexes; i-- > 0;) UnlockUnseen(mutexes[i]);
    tasks.Wait();
    EXPECT_EQ(values, std::vector<int>(kMutexes, 4));
  });
}

TEST(MutexDeathTest, UnlockOfUnlockedIsFatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        Mutex mutex;
        mutex.Lock();
        mutex.Unlock();
        UnlockUnseen(mutex);
      },
      ::testing::ExitedWithCode(2), "fatal error: sync: unlock of unlocked mutex");
}

}  // namespace
}  // namespace weft
