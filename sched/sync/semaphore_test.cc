#include "sched/sync/semaphore.h"

#include <atomic>
#include <memory>
#include <random>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/lock.h"
#include "sched/internal/thread.h"
#include "sched/sync/internal/parking_table.h"
#include "sched/sync/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Eventually;
using testing::Rounds;
using testing::Tasks;

class SemaphoreTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, SemaphoreTest, testing::Worlds(), testing::WorldName);

int Waiting(const Semaphore& semaphore) {
  internal::RuntimeSection section;
  internal::ParkingBucket& bucket = internal::BucketOf(&semaphore);
  const internal::LockGuard guard(bucket.lock);
  return bucket.Count(&semaphore);
}

TEST_P(SemaphoreTest, SY03_OneUnitIsALock) {
  Run([] {
    Semaphore semaphore(1);
    const int rounds = Rounds(1000, 50);
    int counter = 0;
    Tasks tasks;
    for (int t = 0; t < 10; ++t) {
      tasks.Go([&] {
        for (int i = 0; i < rounds; ++i) {
          semaphore.Acquire();
          ++counter;
          if (i % 50 == 0) Yield();
          semaphore.Release();
        }
      });
    }
    tasks.Wait();
    EXPECT_EQ(counter, 10 * rounds);
    EXPECT_EQ(semaphore.available(), 1);
  });
}

TEST_P(SemaphoreTest, NeverMoreThanThereAre) {
  Run([] {
    constexpr int kUnits = 10;
    Semaphore semaphore(kUnits);
    std::atomic<int> held{0};
    Tasks tasks;
    for (int t = 0; t < 8; ++t) {
      tasks.Go([&, t] {
        std::minstd_rand random(static_cast<unsigned>(t) + 1);
        for (int i = 0; i < Rounds(500); ++i) {
          const int n = static_cast<int>(random() % (kUnits + 1));
          if (i % 4 == 0) {
            if (!semaphore.TryAcquire(n)) continue;
          } else if (i % 4 == 1) {
            if (!semaphore.AcquireFor(absl::Microseconds(random() % 200), n)) continue;
          } else {
            semaphore.Acquire(n);
          }
          EXPECT_LE(held.fetch_add(n) + n, kUnits);
          if (i % 10 == 0) Yield();
          held.fetch_sub(n);
          semaphore.Release(n);
        }
      });
    }
    tasks.Wait();
    EXPECT_EQ(semaphore.available(), kUnits);
    EXPECT_TRUE(semaphore.TryAcquire(kUnits));
    EXPECT_FALSE(semaphore.TryAcquire());
    EXPECT_TRUE(semaphore.TryAcquire(0));
  });
}

// x/sync's TestLargeAcquireDoesntStarve, and the order beside it.
TEST_P(SemaphoreTest, FirstComeFirstServedEvenForMany) {
  Run([] {
    Semaphore semaphore(3);
    semaphore.Acquire(3);
    std::vector<int> order;  // by one at a time: all three units, or the test itself
    Tasks tasks;
    const auto queue = [&](int name, int64_t n) {
      const int before = Waiting(semaphore);
      tasks.Go([&, name, n] {
        semaphore.Acquire(n);
        order.push_back(name);
        semaphore.Release(n);
      });
      EXPECT_TRUE(Eventually([&] { return Waiting(semaphore) == before + 1; }));
    };
    queue(0, 3);
    queue(1, 3);
    EXPECT_FALSE(semaphore.TryAcquire(0)) << "somebody waits";
    semaphore.Release(2);
    EXPECT_EQ(Waiting(semaphore), 2) << "two are not enough for the first";
    EXPECT_FALSE(semaphore.TryAcquire(1)) << "somebody waits";
    queue(2, 3);
    semaphore.Release(1);
    tasks.Wait();
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
    EXPECT_EQ(semaphore.available(), 3);
  });
}

TEST_P(SemaphoreTest, OneReleaseServesAllItCan) {
  Run([] {
    Semaphore semaphore(10);
    semaphore.Acquire(10);
    std::atomic<int> have{0};
    Tasks tasks;
    for (int i = 0; i < 5; ++i) {
      tasks.Go([&] {
        semaphore.Acquire(2);
        ++have;
        EXPECT_TRUE(Eventually([&] { return have == 5; }));
        semaphore.Release(2);
      });
    }
    EXPECT_TRUE(Eventually([&] { return Waiting(semaphore) == 5; }));
    semaphore.Release(10);
    tasks.Wait();
    EXPECT_EQ(semaphore.available(), 10);
  });
}

TEST_P(SemaphoreTest, WhoGivesUpLetsThoseBehindItGo) {
  Run([] {
    Semaphore semaphore(5);
    semaphore.Acquire(4);
    Tasks tasks;
    tasks.Go([&] {
      const Instant start = Instant::Now();
      EXPECT_FALSE(semaphore.AcquireFor(absl::Milliseconds(20), 5));
      EXPECT_GE(Instant::Now() - start, absl::Milliseconds(20));
    });
    EXPECT_TRUE(Eventually([&] { return Waiting(semaphore) == 1 || semaphore.TryAcquire(0); }));
    // There is one for it, once the one that wants five is gone.
    semaphore.Acquire(1);
    tasks.Wait();
    semaphore.Release(5);
    EXPECT_EQ(semaphore.available(), 5);
  });
}

TEST_P(SemaphoreTest, AcquireForGetsWhatComesInTime) {
  Run([] {
    Semaphore semaphore(1);
    semaphore.Acquire();
    Tasks tasks;
    tasks.Go([&] { EXPECT_TRUE(semaphore.AcquireFor(absl::Hours(1))); });
    EXPECT_TRUE(Eventually([&] { return Waiting(semaphore) == 1; }));
    EXPECT_FALSE(semaphore.AcquireFor(-absl::Seconds(1)));
    semaphore.Release();
    tasks.Wait();
    EXPECT_EQ(semaphore.available(), 0);
  });
}

TEST_P(SemaphoreTest, LastUserMayDestroyIt) {
  Run([] {
    struct Object {
      Semaphore semaphore{1};
      int users = 2;  // under the one unit
    };
    for (int i = 0; i < Rounds(500); ++i) {
      auto* object = new Object;
      const auto use = [object] {
        object->semaphore.Acquire();
        const bool last = --object->users == 0;
        object->semaphore.Release();
        if (last) delete object;
      };
      Tasks tasks;
      tasks.Go(use);
      use();
    }
  });
}

TEST(SemaphoreDeathTest, BrokenRulesPanic) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const ::testing::ExitedWithCode fatal(2);
  EXPECT_EXIT(
      {
        Semaphore semaphore(2);
        semaphore.Acquire(1);
        semaphore.Release(2);
      },
      fatal, "panic: semaphore: released more than held");
  EXPECT_EXIT(
      {
        Semaphore semaphore(2);
        semaphore.Acquire(3);
      },
      fatal, "panic: semaphore: acquired more than its size");
  EXPECT_EXIT(Semaphore(-1), fatal, "panic: semaphore: size out of range");
}

}  // namespace
}  // namespace weft
