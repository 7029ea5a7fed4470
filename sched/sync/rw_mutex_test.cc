#include "sched/sync/rw_mutex.h"

#include <array>
#include <atomic>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "gtest/gtest.h"
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

class RWMutexTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, RWMutexTest, testing::Worlds(), testing::WorldName);

static_assert(sizeof(RWMutex) == 4);

// For what the analysis of locks cannot follow.
void LockUnseen(RWMutex& mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.Lock(); }
void UnlockUnseen(RWMutex& mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.Unlock(); }
void RLockUnseen(RWMutex& mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.RLock(); }
void RUnlockUnseen(RWMutex& mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.RUnlock(); }
bool TryLockUnseen(RWMutex& mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS { return mutex.TryLock(); }
bool TryRLockUnseen(RWMutex& mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS { return mutex.TryRLock(); }

// How many are in its two queues.
struct Queued {
  int writers;
  int readers;
};
Queued Waiting(const RWMutex& mutex) {
  internal::RuntimeSection section;
  internal::ParkingBucket& bucket = internal::BucketOf(&mutex);
  const internal::LockGuard guard(bucket.lock);
  return {bucket.Count(&mutex), bucket.Count(reinterpret_cast<const char*>(&mutex) + 1)};
}

TEST_P(RWMutexTest, SY04_ReadersHoldItTogether) {
  Run([] {
    for (const int readers : {1, 3, 5}) {
      RWMutex mutex;
      std::atomic<int> inside{0};
      Tasks tasks;
      for (int i = 0; i < readers; ++i) {
        tasks.Go([&] {
          ReaderLock lock(mutex);
          ++inside;
          EXPECT_TRUE(Eventually([&] { return inside == readers; }));
        });
      }
      tasks.Wait();
    }
  });
}

TEST_P(RWMutexTest, SY05_TryForms) {
  Run([] {
    RWMutex mutex;
    LockUnseen(mutex);
    EXPECT_FALSE(TryLockUnseen(mutex));
    EXPECT_FALSE(TryRLockUnseen(mutex));
    UnlockUnseen(mutex);
    EXPECT_TRUE(TryLockUnseen(mutex));
    UnlockUnseen(mutex);
    EXPECT_TRUE(TryRLockUnseen(mutex));
    EXPECT_TRUE(TryRLockUnseen(mutex));
    EXPECT_FALSE(TryLockUnseen(mutex));
    RUnlockUnseen(mutex);
    RUnlockUnseen(mutex);
    EXPECT_TRUE(TryLockUnseen(mutex));
    UnlockUnseen(mutex);
  });
}

// SY-06, and SY-08, which asks the same of the runtime's own lock: +1 for each reader inside,
// +10,000 for a writer.
void Hammer(int writers, int readers, int iterations) {
  RWMutex mutex;
  std::atomic<int> activity{0};
  int written = 0;  // guarded by the lock
  Tasks tasks;
  for (int w = 0; w < writers; ++w) {
    tasks.Go([&] {
      for (int i = 0; i < iterations; ++i) {
        if (i % 3 != 0 || !TryLockUnseen(mutex)) LockUnseen(mutex);
        EXPECT_EQ(activity.fetch_add(10'000), 0);
        ++written;
        if (i % 20 == 0) Yield();  // hold it while others come to wait
        activity.fetch_sub(10'000);
        UnlockUnseen(mutex);
      }
    });
  }
  for (int r = 0; r < readers; ++r) {
    tasks.Go([&] {
      int seen = 0;
      for (int i = 0; i < iterations; ++i) {
        if (i % 3 != 0 || !TryRLockUnseen(mutex)) RLockUnseen(mutex);
        const int n = activity.fetch_add(1);
        EXPECT_GE(n, 0);
        EXPECT_LT(n, 10'000);
        EXPECT_GE(written, seen);
        seen = written;
        if (i % 20 == 0) Yield();
        activity.fetch_sub(1);
        RUnlockUnseen(mutex);
      }
    });
  }
  tasks.Wait();
  EXPECT_EQ(written, writers * iterations);
  EXPECT_TRUE(TryLockUnseen(mutex)) << "somebody is still registered";
  UnlockUnseen(mutex);
}

TEST_P(RWMutexTest, SY06_WritersAreAlone) {
  Run([] {
    for (const int readers : {1, 3, 5, 10}) Hammer(2, readers, Rounds(1000));
    Hammer(4, 0, Rounds(1000));
  });
}

TEST_P(RWMutexTest, ReadersThatComeLaterWaitBehindAWriter) {
  Run([] {
    RWMutex mutex;
    std::string order;  // under the lock, or by readers that are alone
    RLockUnseen(mutex);
    Tasks tasks;
    tasks.Go([&] {
      WriterLock lock(mutex);
      order += 'w';
    });
    EXPECT_TRUE(Eventually([&] { return Waiting(mutex).writers == 1; }));
    EXPECT_FALSE(TryRLockUnseen(mutex));
    tasks.Go([&] {
      ReaderLock lock(mutex);
      order += 'r';
    });
    EXPECT_TRUE(Eventually([&] { return Waiting(mutex).readers == 1; }));
    EXPECT_EQ(order, "");
    RUnlockUnseen(mutex);
    tasks.Wait();
    EXPECT_EQ(order, "wr");
  });
}

TEST_P(RWMutexTest, AllReadersThatWaitGoBeforeTheNextWriter) {
  Run([] {
    RWMutex mutex;
    constexpr int kReaders = 5;
    std::atomic<int> readers_done{0};
    std::atomic<int> inside{0};
    std::vector<int> writers;  // under the lock
    LockUnseen(mutex);
    Tasks tasks;
    // The writers wait first.
    for (int w = 0; w < 3; ++w) {
      tasks.Go([&, w] {
        WriterLock lock(mutex);
        EXPECT_EQ(readers_done, kReaders);
        writers.push_back(w);
      });
      EXPECT_TRUE(Eventually([&] { return Waiting(mutex).writers == w + 1; }));
    }
    for (int r = 0; r < kReaders; ++r) {
      tasks.Go([&] {
        ReaderLock lock(mutex);
        ++inside;
        // They are in together.
        EXPECT_TRUE(Eventually([&] { return inside == kReaders; }));
        ++readers_done;
      });
    }
    EXPECT_TRUE(Eventually([&] { return Waiting(mutex).readers == kReaders; }));
    UnlockUnseen(mutex);
    tasks.Wait();
    EXPECT_EQ(writers, (std::vector<int>{0, 1, 2})) << "first come, first served";
  });
}

TEST_P(RWMutexTest, LastUserMayDestroyIt) {
  Run([] {
    struct Object {
      RWMutex mutex;
      std::atomic<int> users{3};
    };
    for (int i = 0; i < Rounds(500); ++i) {
      auto* object = new Object;
      const auto leave = [object] { return object->users.fetch_sub(1) == 1; };
      const auto write = [=] {
        LockUnseen(object->mutex);
        const bool last = leave();
        UnlockUnseen(object->mutex);
        if (last) delete object;
      };
      const auto read = [=] {
        RLockUnseen(object->mutex);
        // With other readers inside only one that is alone may be the last: so it writes once more.
        RUnlockUnseen(object->mutex);
        write();
      };
      Tasks tasks;
      tasks.Go(write);
      tasks.Go(read);
      write();
    }
  });
}

TEST_P(RWMutexTest, LocksOfOneBucketDoNotMixUp) {
  Run([] {
    // More than there are buckets.
    constexpr size_t kMutexes = 600;
    std::vector<RWMutex> mutexes(kMutexes);
    std::vector<int> values(kMutexes);
    for (RWMutex& m : mutexes) LockUnseen(m);
    Tasks tasks;
    for (int t = 0; t < 4; ++t) {
      tasks.Go([&, t] {
        for (size_t i = 0; i < kMutexes; ++i) {
          const size_t at = (i * 7 + static_cast<size_t>(t) * 150) % kMutexes;
          {
            ReaderLock lock(mutexes[at]);
            EXPECT_GE(values[at], 0);
          }
          WriterLock lock(mutexes[at]);
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

TEST(RWMutexDeathTest, SY07_UnlockOfUnlockedIsFatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto unlock = [] {
    RWMutex mutex;
    UnlockUnseen(mutex);
  };
  const auto unlock_after_rlock = [] {
    RWMutex mutex;
    RLockUnseen(mutex);
    UnlockUnseen(mutex);
  };
  const auto runlock = [] {
    RWMutex mutex;
    RUnlockUnseen(mutex);
  };
  const auto runlock_after_lock = [] {
    RWMutex mutex;
    LockUnseen(mutex);
    RUnlockUnseen(mutex);
  };
  const ::testing::ExitedWithCode fatal(2);
  EXPECT_EXIT(unlock(), fatal, "fatal error: sync: Unlock of unlocked RWMutex");
  EXPECT_EXIT(unlock_after_rlock(), fatal, "fatal error: sync: Unlock of unlocked RWMutex");
  EXPECT_EXIT(runlock(), fatal, "fatal error: sync: RUnlock of unlocked RWMutex");
  EXPECT_EXIT(runlock_after_lock(), fatal, "fatal error: sync: RUnlock of unlocked RWMutex");
}

}  // namespace
}  // namespace weft
