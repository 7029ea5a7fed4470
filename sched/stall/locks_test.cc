// std::mutex and absl::Mutex on goroutines: whoever holds one may lose its P, and comes on all the
// same, however few Ps there are. (What may not be done with one in hand is to call Weft: see
// sched/README.md.)
#include <time.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/snapshot.h"
#include "sched/stall/plain_computation.h"
#include "sched/testing.h"
#include "stack/mode.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::Eventually;
using testing::ForEachMaxProcs;
using testing::Rounds;
using testing::RunOnGoroutine;

struct StdMutex {
  std::mutex mutex;
  void Lock() { mutex.lock(); }
  void Unlock() { mutex.unlock(); }
};

struct StdRecursiveMutex {
  std::recursive_mutex mutex;
  void Lock() {
    mutex.lock();
    mutex.lock();
  }
  void Unlock() {
    mutex.unlock();
    mutex.unlock();
  }
};

#if !WEFT_TSAN
struct AbslMutex {
  absl::Mutex mutex;
  void Lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.Lock(); }
  void Unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.Unlock(); }
};
#endif

template <typename Mutex>
class LocksTest : public ::testing::Test {};
#if WEFT_TSAN
// The thread sanitizer reports how absl::Mutex hands over between any two threads that wait for it.
using Mutexes = ::testing::Types<StdMutex, StdRecursiveMutex>;
#else
using Mutexes = ::testing::Types<StdMutex, StdRecursiveMutex, AbslMutex>;
#endif
TYPED_TEST_SUITE(LocksTest, Mutexes);

__attribute__((noinline)) int Fibonacci(int n) {
  return n < 2 ? n : Fibonacci(n - 1) + Fibonacci(n - 2);
}

// What slices are measured by. The thread does not change between two calls of Weft.
absl::Duration ThreadTime() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return absl::DurationFromTimespec(time);
}

// Holds the lock while it computes, for several time slices, so that it is preempted in there: in
// its own code (calls that look at the guard word) or in foreign code.
TYPED_TEST(LocksTest, TheHolderIsPreemptedAndTheOthersWait) {
  for (const bool plain : AllInTurn({false, true})) {
    for (const int procs : AllInTurn({1, 2}, 2)) {
      SetMaxProcs(procs);
      const int times = Rounds(2, 1);
      const int goroutines = Rounds(4, 3);
      TypeParam mutex;
      long inside = 0;  // by the lock
      long rounds = 0;
      std::atomic<long> locked{0};
      std::atomic<int> left{goroutines + 1};
      std::atomic<int> ticks{0};
      std::atomic<bool> stop{false};
      const LeaseCounts before = GetSchedSnapshot().leases;
      // With one P the holder is asked to yield, and those that wait for the lock lose it. A busy
      // machine may let the monitor see that late.
      const auto seen = [&] {
        const LeaseCounts now = GetSchedSnapshot().leases;
        return procs > 1 || (now.asked > before.asked && now.taken_asleep > before.taken_asleep);
      };
      for (int i = 0; i < goroutines; ++i) {
        Go([&] {
          for (int n = 0; n < times || (n < 100 && !seen()); ++n) {
            mutex.Lock();
            EXPECT_EQ(inside++, 0);
            const absl::Duration end = ThreadTime() + absl::Milliseconds(Rounds(40, 25));
            while (ThreadTime() < end) {
              if (plain) {
                ComputePlainly(1'000);
              } else {
                Fibonacci(20);
              }
            }
            EXPECT_EQ(--inside, 0);
            ++rounds;
            mutex.Unlock();
            locked.fetch_add(1);
            Yield();
          }
          left.fetch_sub(1);
        });
      }
      Go([&] {
        while (!stop.load()) {
          Sleep(absl::Milliseconds(1));
          ticks.fetch_add(1);
        }
        left.fetch_sub(1);
      });
      ASSERT_TRUE(Eventually([&] { return left.load() == 1; }, absl::Seconds(60)));
      EXPECT_EQ(rounds, locked.load());
      EXPECT_GE(rounds, times * goroutines);
      EXPECT_GT(ticks.load(), 0);
      stop.store(true);
      ASSERT_TRUE(Eventually([&] { return left.load() == 0; }));
      const LeaseCounts after = GetSchedSnapshot().leases;
      if (procs == 1) {
        EXPECT_GT(after.asked, before.asked);
        EXPECT_GT(after.taken_asleep, before.taken_asleep) << "of those that waited for the lock";
      }
    }
  }
}

// Many short critical sections, each of which may be cut short by the end of a slice.
TYPED_TEST(LocksTest, ManyShortSections) {
  ForEachMaxProcs([] {
    TypeParam mutex;
    long total = 0;
    constexpr int kGoroutines = 6;
    const int rounds = Rounds(20'000);
    std::atomic<int> left{kGoroutines};
    for (int i = 0; i < kGoroutines; ++i) {
      Go([&] {
        for (int n = 0; n < rounds; ++n) {
          mutex.Lock();
          ++total;
          mutex.Unlock();
          if (n % 100 == 0) Yield();
        }
        left.fetch_sub(1);
      });
    }
    ASSERT_TRUE(Eventually([&] { return left.load() == 0; }, absl::Seconds(60)));
    EXPECT_EQ(total, long{kGoroutines} * rounds);
  });
}

#if !WEFT_TSAN
// absl::Mutex::Await, whose waiters each have a condition.
TEST(AbslConditionTest, WaitersGoOnWithOneP) {
  SetMaxProcs(1);
  absl::Mutex mutex;
  int turn = 0;
  constexpr int kGoroutines = 5;
  const int rounds = Rounds(20, 4);
  std::atomic<int> left{kGoroutines};
  for (int i = 0; i < kGoroutines; ++i) {
    Go([&, i] {
      for (int n = 0; n < rounds; ++n) {
        const auto is_mine = [&] { return turn % kGoroutines == i; };
        mutex.LockWhen(absl::Condition(&is_mine));
        ++turn;
        mutex.Unlock();
      }
      left.fetch_sub(1);
    });
  }
  ASSERT_TRUE(Eventually([&] { return left.load() == 0; }, absl::Seconds(60)));
  EXPECT_EQ(turn, kGoroutines * rounds);
}
#endif

}  // namespace
}  // namespace weft
