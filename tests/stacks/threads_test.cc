// Threads, and what is theirs alone, on goroutines whose stacks move.
#include <signal.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/testing.h"
#include "sched/waiter.h"
#include "tests/stacks/torture.h"

namespace weft {
namespace {

using testing::OnGoroutines;
using testing::Pause;
using testing::UseStack;

class ThreadsTest : public testing::OverProcsTest {};
INSTANTIATE_TEST_SUITE_P(, ThreadsTest, testing::OverProcs(), testing::ProcsName);

// Counts in each thread, and tells the sum when the thread ends.
class Tally {
 public:
  Tally() {
    const std::lock_guard<std::mutex> hold(lock_);
    alive_.insert(this);
  }
  ~Tally() {
    const std::lock_guard<std::mutex> hold(lock_);
    alive_.erase(this);
    ended_ += counted_.load(std::memory_order_relaxed);
    ++threads_ended_;
  }
  void Count() {
    log_.push_back(static_cast<int>(log_.size()));
    counted_.store(counted_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  // Of all threads. While nobody counts.
  static int64_t Sum() {
    const std::lock_guard<std::mutex> hold(lock_);
    int64_t sum = ended_;
    for (const Tally* tally : alive_) sum += tally->counted_.load(std::memory_order_relaxed);
    return sum;
  }
  static int64_t ThreadsEnded() {
    const std::lock_guard<std::mutex> hold(lock_);
    return threads_ended_;
  }

 private:
  static inline std::mutex lock_;
  static inline std::set<const Tally*> alive_;
  static inline int64_t ended_ = 0;
  static inline int64_t threads_ended_ = 0;

  std::atomic<int64_t> counted_{0};
  std::vector<int> log_;  // has a destructor of its own
};
thread_local Tally tally;

// Not inlined: a caller would keep its address while it waits, and go on on another thread.
[[gnu::noinline]] void CountHere() { tally.Count(); }

[[gnu::noinline]] void CountBelow(int depth) {
  CountHere();
  Pause();
  if (depth > 0) CountBelow(depth - 1);
  Pause();
  CountHere();
}

TEST_P(ThreadsTest, ThreadLocalsWithDestructors) {
  const int64_t before = Tally::Sum();
  std::atomic<int64_t> goroutines{0};
  OnGoroutines([&](int i) {
    CountBelow(i % 10);
    goroutines.fetch_add(2 * (i % 10 + 1), std::memory_order_relaxed);
  });
  EXPECT_EQ(Tally::Sum() - before, goroutines.load());
}

TEST_P(ThreadsTest, ThreadLocalsOfALockedThread) {
  OnGoroutines([](int i) {
    LockOSThread();
    const Tally* const mine = &tally;
    for (int n = 0; n < 5; ++n) {
      CountBelow(i % 3);
      EXPECT_EQ(mine, &tally);
    }
    UnlockOSThread();
  });
}

// Without SIGPROF: its handler needs a pinned stack, which a thread that is being born or is ending
// has not.
class NoSignals {
 public:
  NoSignals() {
    sigset_t profiling;
    sigemptyset(&profiling);
    sigaddset(&profiling, SIGPROF);
    pthread_sigmask(SIG_BLOCK, &profiling, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

// The thread refers to locals of frames that park, while it runs and before it is joined.
[[gnu::noinline]] int64_t WithAThread(int depth, int64_t seed) {
  int64_t mine = seed;
  std::atomic<bool> counted{false};
  std::atomic<bool> seen{false};
  std::thread thread = [&] {
    const NoSignals none;  // which the thread inherits; nothing parks here
    return std::thread([&, seed] {
      CountHere();
      mine += seed;
      counted.store(true, std::memory_order_release);
      seen.wait(false, std::memory_order_acquire);
      mine += UseStack(1000);
    });
  }();
  while (!counted.load(std::memory_order_acquire)) Pause();
  EXPECT_EQ(mine, 2 * seed);
  const int64_t below = depth == 0 ? 0 : WithAThread(depth - 1, seed + 1);
  Pause();
  seen.store(true, std::memory_order_release);
  seen.notify_one();
  thread.join();
  return mine + below;
}

TEST_P(ThreadsTest, ThreadsThatAreStartedWhereStacksMove) {
  const int64_t before = Tally::ThreadsEnded();
  const int goroutines = 10;
  OnGoroutines([](int i) { EXPECT_EQ(WithAThread(2, i), 2 * (3 * i + 3) + 3 * 11); }, goroutines);
  // By pthread_join(), thread locals are destroyed.
  EXPECT_GE(Tally::ThreadsEnded() - before, 3 * goroutines);
}

}  // namespace
}  // namespace weft
