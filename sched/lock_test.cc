#include "sched/internal/lock.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "sched/internal/futex.h"

namespace weft::internal {
namespace {

// Reads and writes two fields that only agree while nobody else is inside.
struct Pair {
  Lock lock;
  long a ABSL_GUARDED_BY(lock) = 0;
  long b ABSL_GUARDED_BY(lock) = 0;
};

TEST(LockTest, OnlyOneIsInside) {
  Pair pair;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50'000; ++i) {
        LockGuard guard(pair.lock);
        EXPECT_EQ(pair.a, pair.b);
        ++pair.a;
        ++pair.b;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  LockGuard guard(pair.lock);
  EXPECT_EQ(pair.a, 200'000);
}

TEST(LockTest, TryAcquireFailsWhileHeld) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  Lock lock;
  ASSERT_TRUE(lock.TryAcquire());
  EXPECT_FALSE(lock.TryAcquire());
  lock.Release();
  EXPECT_TRUE(lock.TryAcquire());
  lock.Release();
}

// Held for so long that the others give up spinning and sleep; all of them must be woken.
TEST(LockTest, SleepersAreWoken) {
  Lock lock;
  std::atomic<int> through{0};
  for (int round = 0; round < 20; ++round) {
    std::vector<std::thread> threads;
    {
      LockGuard guard(lock);
      for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
          LockGuard inner(lock);
          through.fetch_add(1);
        });
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      EXPECT_EQ(through.load(), round * 4);
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(through.load(), (round + 1) * 4);
  }
}

TEST(FutexTest, WaitReturnsAtOnceIfTheWordDiffers) {
  std::atomic<uint32_t> word{1};
  FutexWait(word, 0);
}

TEST(FutexTest, WaitEndsAtItsDeadline) {
  std::atomic<uint32_t> word{0};
  const Instant deadline = Instant::Now() + absl::Milliseconds(20);
  while (Instant::Now() < deadline) FutexWait(word, 0, deadline);
  EXPECT_GE(Instant::Now(), deadline);
  FutexWait(word, 0, Instant());  // long past
}

TEST(FutexTest, WakeEndsAWait) {
  std::atomic<uint32_t> word{0};
  std::thread waiter([&] {
    while (word.load() == 0) FutexWait(word, 0);
  });
  word.store(1);
  FutexWake(word, 1);
  waiter.join();
}

}  // namespace
}  // namespace weft::internal
