// Starting and stopping the runtime inside a program. The tests are the program: each one starts
// with the runtime stopped, and leaves it so.
#include "sched/runtime.h"

#include <dirent.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/snapshot.h"
#include "sched/sync/mutex.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "sched/timer.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::Eventually;
using testing::Rounds;
using testing::RunOnGoroutine;
using testing::Shortened;

constexpr absl::Duration kLong = absl::Seconds(60);

int Threads() {
  int count = 0;
  DIR* tasks = opendir("/proc/self/task");
  while (const dirent* entry = readdir(tasks)) {
    if (entry->d_name[0] != '.') ++count;
  }
  closedir(tasks);
  return count;
}

// Before any runtime, but with the one that a sanitizer may add to the first thread of a program's.
const int threads_at_first = [] {
  std::thread([] {}).join();
  absl::SleepFor(absl::Milliseconds(10));
  return Threads();
}();

// A thread that was joined is in the system's list for a moment still.
bool NoThreadIsLeft() {
  return Eventually([] { return Threads() <= threads_at_first; }, absl::Seconds(10));
}

class RuntimeTest : public ::testing::Test {
 protected:
  RuntimeTest() { EXPECT_FALSE(Runtime::IsRunning()); }
  ~RuntimeTest() override {
    (void)Runtime::Start();
    EXPECT_EQ(Runtime::Drain(kLong), absl::OkStatus());
    EXPECT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  }
};

// Goroutines that do something of everything, and end.
void Work(int count) {
  WaitGroup all;
  Mutex mutex;
  int done = 0;
  all.Add(count);
  for (int i = 0; i < count; ++i) {
    Go([&, i] {
      if (i % 3 == 0) Sleep(absl::Microseconds(i));
      if (i % 5 == 0) BlockingSection section(BlockingSection::Expect::kLong);
      if (i % 7 == 0) Yield();
      {
        const MutexLock lock(mutex);
        ++done;
      }
      all.Done();
    });
  }
  all.Wait();
  EXPECT_EQ(done, count);
}

TEST_F(RuntimeTest, NoThreadIsLeftWhenItIsStopped) {
  ASSERT_EQ(Runtime::Start({.max_procs = 4}), absl::OkStatus());
  EXPECT_TRUE(Runtime::IsRunning());
  EXPECT_EQ(MaxProcs(), 4);
  Work(200);
  EXPECT_GT(Threads(), threads_at_first);
  EXPECT_EQ(Runtime::Drain(kLong), absl::OkStatus());
  EXPECT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  EXPECT_FALSE(Runtime::IsRunning());
  EXPECT_TRUE(NoThreadIsLeft());
  EXPECT_EQ(Runtime::Stop(kLong), absl::OkStatus()) << "there is nothing to stop";
}

TEST_F(RuntimeTest, StartsAgainAndAgain) {
  for (int i = 0; i < Rounds(100, 5); ++i) {
    const int procs = 1 << i % 4;
    ASSERT_EQ(Runtime::Start({.max_procs = procs}), absl::OkStatus());
    EXPECT_EQ(MaxProcs(), procs);
    Work(i % 8 == 0 ? 0 : 100);
    ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
    ASSERT_TRUE(NoThreadIsLeft());
  }
}

TEST_F(RuntimeTest, KeepsItsSettings) {
  ASSERT_EQ(Runtime::Start({.max_procs = 3, .max_threads = 77}), absl::OkStatus());
  ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  ASSERT_EQ(Runtime::Start(), absl::OkStatus());
  EXPECT_EQ(MaxProcs(), 3);
  EXPECT_EQ(SetMaxThreads(10'000), 77);
}

TEST_F(RuntimeTest, RefusesWhatCannotBe) {
  for (const RuntimeOptions& options :
       {RuntimeOptions{.max_procs = -1}, RuntimeOptions{.max_procs = 1'025},
        RuntimeOptions{.max_threads = -1}, RuntimeOptions{.max_threads = 2}}) {
    EXPECT_EQ(Runtime::Start(options).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(Runtime::IsRunning());
  }
  ASSERT_EQ(Runtime::Start(), absl::OkStatus());
  EXPECT_EQ(Runtime::Start().code(), absl::StatusCode::kFailedPrecondition);
  RunOnGoroutine([] {
    EXPECT_EQ(Runtime::Stop(kLong).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(Runtime::Drain(kLong).code(), absl::StatusCode::kFailedPrecondition);
  });
}

TEST_F(RuntimeTest, WhatUsesItStartsIt) {
  ASSERT_EQ(Runtime::Start(), absl::OkStatus());
  ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  RunOnGoroutine([] {});
  EXPECT_TRUE(Runtime::IsRunning());
  ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  SetMaxProcs(2);
  EXPECT_TRUE(Runtime::IsRunning());
}

TEST_F(RuntimeTest, DrainTellsOfThoseThatStay) {
  ASSERT_EQ(Runtime::Start(), absl::OkStatus());
  std::atomic<bool> go_on{false};
  std::atomic<Waiter*> waiter{nullptr};
  Go([&] {
    waiter.store(Waiter::Current());
    while (!go_on.load()) Waiter::Current()->Park(WaitReason::kChanReceive);
  });
  const absl::Status status = Runtime::Drain(absl::Milliseconds(20));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(status.message(), "weft: 1 goroutines have not ended");
  ASSERT_TRUE(Eventually([&] { return waiter.load() != nullptr; }));
  go_on.store(true);
  waiter.load()->Unpark();
  EXPECT_EQ(Runtime::Drain(kLong), absl::OkStatus());
}

// Those that wait, for somebody or for time, and those that could run: while it is stopped none of
// them does, and then all of them.
TEST_F(RuntimeTest, WhatIsLeftGoesOnWhenItStartsAgain) {
  for (const int procs : {1, 2, 4, 8}) {
    ASSERT_EQ(Runtime::Start({.max_procs = procs}), absl::OkStatus());
    const int tasks = Rounds(100, 20);
    std::atomic<bool> stop{false};
    std::atomic<int64_t> steps{0};
    std::atomic<int> parked{0};
    std::atomic<int> left{3 * tasks};
    std::vector<std::atomic<Waiter*>> waiters(static_cast<size_t>(tasks));
    for (std::atomic<Waiter*>& waiter : waiters) {
      Go([&] {
        waiter.store(Waiter::Current());
        parked.fetch_add(1);
        while (!stop.load()) {
          Waiter::Current()->Park(WaitReason::kChanReceive);
          steps.fetch_add(1);
        }
        left.fetch_sub(1);
      });
    }
    // Before the others: those are always ready.
    ASSERT_TRUE(Eventually([&] { return parked.load() == tasks; }));
    for (int i = 0; i < tasks; ++i) {
      Go([&] {
        while (!stop.load()) {
          steps.fetch_add(1);
          Yield();
        }
        left.fetch_sub(1);
      });
      Go([&] {
        while (!stop.load()) {
          steps.fetch_add(1);
          Sleep(absl::Microseconds(10));
        }
        left.fetch_sub(1);
      });
    }
    ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
    EXPECT_TRUE(NoThreadIsLeft());
    const int64_t steps_then = steps.load();
    // Made ready while nobody can run it, and queued.
    for (std::atomic<Waiter*>& waiter : waiters) waiter.load()->Unpark();
    absl::SleepFor(Shortened(absl::Milliseconds(20)));
    EXPECT_EQ(steps.load(), steps_then);
    EXPECT_EQ(NumGoroutine(), 3 * tasks);

    ASSERT_EQ(Runtime::Start({.max_procs = 1 + procs % 4}), absl::OkStatus());
    EXPECT_TRUE(Eventually([&] { return steps.load() > steps_then + 3 * tasks; }));
    stop.store(true);
    for (std::atomic<Waiter*>& waiter : waiters) waiter.load()->Unpark();
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
    ASSERT_EQ(Runtime::Drain(kLong), absl::OkStatus());
    ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  }
}

TEST_F(RuntimeTest, TimersThatAreStoppedMeanwhileDoNotFire) {
  ASSERT_EQ(Runtime::Start(), absl::OkStatus());
  static std::atomic<int> fired;
  fired.store(0);
  CallbackTimer late([](CallbackTimer&) { fired.fetch_add(1); });
  CallbackTimer never([](CallbackTimer&) { fired.fetch_add(100); });
  late.Start(Instant::Now() + absl::Milliseconds(50));
  never.Start(Instant::Now() + absl::Hours(1));
  ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  if (fired.load() == 0) {
    absl::SleepFor(absl::Milliseconds(60));
    EXPECT_EQ(fired.load(), 0);
  }
  EXPECT_TRUE(never.Stop());
  ASSERT_EQ(Runtime::Start(), absl::OkStatus());
  EXPECT_TRUE(Eventually([] { return fired.load() == 1; }));
  EXPECT_FALSE(late.Stop());
}

TEST_F(RuntimeTest, StopWaitsForUserCodeAndTellsOfIt) {
  ASSERT_EQ(Runtime::Start({.max_procs = 2}), absl::OkStatus());
  std::atomic<bool> computing{false};
  std::atomic<bool> stop{false};
  Go([&] {
    computing.store(true);
    while (!stop.load()) {
    }
    Yield();
  });
  ASSERT_TRUE(Eventually([&] { return computing.load(); }));
  const absl::Status status = Runtime::Stop(absl::Milliseconds(30));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(status.message(), "weft: 1 goroutines do not come back to the runtime");
  EXPECT_TRUE(Runtime::IsRunning());
  RunOnGoroutine([] {});
  std::thread releaser([&] {
    absl::SleepFor(absl::Milliseconds(30));
    stop.store(true);
  });
  EXPECT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  EXPECT_TRUE(stop.load());
  releaser.join();
  ASSERT_EQ(Runtime::Start(), absl::OkStatus());
}

TEST_F(RuntimeTest, StopRefusesWhereAGoroutineIsLockedToItsThread) {
  ASSERT_EQ(Runtime::Start(), absl::OkStatus());
  std::atomic<bool> go_on{false};
  std::atomic<Waiter*> waiter{nullptr};
  Go([&] {
    LockOSThread();
    waiter.store(Waiter::Current());
    while (!go_on.load()) Waiter::Current()->Park(WaitReason::kChanReceive);
    UnlockOSThread();
  });
  ASSERT_TRUE(Eventually([&] { return waiter.load() != nullptr; }));
  const absl::Status status = Runtime::Stop(kLong);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(status.message(), "1 goroutines are locked")) << status;
  EXPECT_TRUE(Runtime::IsRunning());
  go_on.store(true);
  waiter.load()->Unpark();
  EXPECT_EQ(Runtime::Drain(kLong), absl::OkStatus());
}

// Called after this thread has looked at a P, while it counts goroutines, with how often it has.
thread_local absl::FunctionRef<void(int)>* when_counted = nullptr;
thread_local int looked_at = 0;

void Counted(const char* point) {
  if (when_counted == nullptr || std::string_view(point) != "goroutine.counted") return;
  absl::FunctionRef<void(int)>* const call = std::exchange(when_counted, nullptr);
  (*call)(++looked_at);
  when_counted = call;
}

// What `fn` returns, while this thread calls `visit` so.
template <typename Fn>
auto WhileCounting(absl::FunctionRef<void(int)> visit, Fn fn) {
  internal::SetDelayHook(Counted);
  looked_at = 0;
  when_counted = &visit;
  const auto result = fn();
  when_counted = nullptr;
  internal::SetDelayHook(nullptr);
  return result;
}

// A goroutine that keeps its P, and starts another one when it is told to.
struct Hog {
  std::atomic<int64_t> id{0};
  std::atomic<bool> starts{false};
  std::atomic<bool> started{false};
  std::atomic<bool> ends{false};

  void Run() {
    id.store(static_cast<int64_t>(GoroutineId()));
    while (!starts.load() && !ends.load()) {
    }
    if (starts.load()) Go([] {});
    started.store(true);
    while (!ends.load()) {
    }
  }
  bool HasFirstP() const {
    for (const ThreadSnapshot& m : GetSchedSnapshot(SnapshotDetail::kAll).thread_list) {
      if (m.goroutine == id.load()) return m.p == 0;
    }
    return false;
  }
};

// One is started on the first P after that was looked at, and ends on another one before that is.
TEST_F(RuntimeTest, TheCountIsNeverTooLow) {
#ifdef NDEBUG
  GTEST_SKIP() << "no delay points";
#endif
  ASSERT_EQ(Runtime::Start({.max_procs = 2}), absl::OkStatus());
  // They may look once more when this function has returned.
  const auto shared = std::make_shared<std::array<Hog, 2>>();
  std::array<Hog, 2>& hogs = *shared;
  for (size_t i = 0; i < hogs.size(); ++i) {
    Go([shared, i] { (*shared)[i].Run(); });
  }
  ASSERT_TRUE(Eventually([&] {
    return hogs[0].id.load() != 0 && hogs[1].id.load() != 0 &&
           (hogs[0].HasFirstP() || hogs[1].HasFirstP());
  }));
  Hog& first = hogs[hogs[0].HasFirstP() ? 0 : 1];
  Hog& other = hogs[&first == &hogs[0] ? 1 : 0];
  other.ends.store(true);
  ASSERT_TRUE(Eventually([] { return NumGoroutine() == 1; }));
  const int64_t count = WhileCounting(
      [&](int looked_at) {
        if (looked_at > 1) return;
        first.starts.store(true);
        EXPECT_TRUE(Eventually([&] { return first.started.load() && NumGoroutine() == 1; }));
      },
      NumGoroutine);
  EXPECT_GE(count, 1);
  first.ends.store(true);
}

// Whatever is started meanwhile.
TEST_F(RuntimeTest, DrainHasSeenTheEndOfAllOnce) {
#ifdef NDEBUG
  GTEST_SKIP() << "no delay points";
#endif
  ASSERT_EQ(Runtime::Start({.max_procs = 2}), absl::OkStatus());
  RunOnGoroutine([] {});
  ASSERT_EQ(Runtime::Drain(kLong), absl::OkStatus());
  int all = 0;
  ASSERT_EQ(WhileCounting([&](int looked_at) { all = looked_at; }, NumGoroutine), 0);
  const auto may_end = std::make_shared<std::atomic<bool>>(false);
  const absl::Status status = WhileCounting(
      [&](int looked_at) {
        if (looked_at != all + 1) return;
        Go([may_end] {
          while (!may_end->load()) Yield();
        });
      },
      [] { return Runtime::Drain(kLong); });
  may_end->store(true);
  EXPECT_EQ(status, absl::OkStatus());
}

std::atomic<bool> on_its_way{false};

void HoldUpWhoIsLocked(const char* point) {
  if (std::string_view(point) != "bound.await") return;
  on_its_way.store(true);
  absl::SleepFor(absl::Milliseconds(50));
}

// The same while its thread has left the goroutine, and does not wait for it yet.
TEST_F(RuntimeTest, StopRefusesWhereALockedThreadIsOnItsWayToSleep) {
#ifdef NDEBUG
  GTEST_SKIP() << "no delay points";
#endif
  on_its_way.store(false);
  ASSERT_EQ(Runtime::Start({.max_procs = 2}), absl::OkStatus());
  internal::SetDelayHook(HoldUpWhoIsLocked);
  Go([] {
    LockOSThread();
    Sleep(absl::Milliseconds(500));
    UnlockOSThread();
  });
  ASSERT_TRUE(Eventually([] { return on_its_way.load(); }));
  EXPECT_EQ(Runtime::Stop(kLong).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Runtime::IsRunning());
  internal::SetDelayHook(nullptr);
  EXPECT_EQ(Runtime::Drain(kLong), absl::OkStatus());
}

// Threads that start goroutines and wait for them, while it is stopped and started: each of them
// runs, and once.
TEST_F(RuntimeTest, NothingIsLostWhileItStopsAndStarts) {
  for (const bool delays : AllInTurn({false, true})) {
    ASSERT_EQ(Runtime::Start({.max_procs = 4}), absl::OkStatus());
    if (delays) internal::EnableRandomDelays(91);
    std::atomic<bool> stop{false};
    std::atomic<int64_t> ran{0};
    std::atomic<int64_t> asked{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        while (!stop.load()) {
          WaitGroup all;
          all.Add(10);
          asked.fetch_add(10);
          for (int i = 0; i < 10; ++i) {
            Go([&, i] {
              if (i == 3) Sleep(absl::Microseconds(50));
              ran.fetch_add(1);
              all.Done();
            });
          }
          all.Wait();
        }
      });
    }
    for (int i = 0; i < Rounds(100, 20); ++i) {
      ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
      (void)Runtime::Start({.max_procs = 1 + i % 5});
    }
    stop.store(true);
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(ran.load(), asked.load());
    internal::SetDelayHook(nullptr);
    ASSERT_EQ(Runtime::Drain(kLong), absl::OkStatus());
    ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  }
}

// Who changes the number of Ps at the same time waits, or starts it again.
TEST_F(RuntimeTest, StopsBesideOtherStops) {
  ASSERT_EQ(Runtime::Start({.max_procs = 2}), absl::OkStatus());
  std::atomic<bool> stop{false};
  std::thread other([&] {
    for (int i = 0; !stop.load(); ++i) SetMaxProcs(1 + i % 4);
  });
  std::atomic<int> left{2};
  for (int g = 0; g < 2; ++g) {
    Go([&] {
      for (int i = 0; !stop.load(); ++i) SetMaxProcs(1 + i % 3);
      left.fetch_sub(1);
    });
  }
  for (int i = 0; i < Rounds(50, 10); ++i) {
    ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
    (void)Runtime::Start();
  }
  stop.store(true);
  other.join();
  EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
}

}  // namespace
}  // namespace weft
