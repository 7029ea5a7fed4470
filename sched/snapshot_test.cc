#include "sched/snapshot.h"

#include <atomic>
#include <thread>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/thread.h"
#include "sched/testing.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Eventually;
using testing::ForEachMaxProcs;
using testing::Rounds;
using testing::RunOnGoroutine;

TEST(SnapshotTest, IdleProgramIsAllIdle) {
  ForEachMaxProcs([] {
    const int procs = MaxProcs();
    // It takes a moment until the threads have gone to sleep. One of them may be waiting for
    // events, and does not count as idle; the monitor never does.
    EXPECT_TRUE(Eventually([&] {
      const SchedSnapshot s = GetSchedSnapshot();
      return s.idle_procs == procs && s.spinning_threads == 0 && s.global_queue_size == 0 &&
             s.goroutines == 0 && s.idle_threads >= s.threads - 2;
    }));
    const SchedSnapshot s = GetSchedSnapshot();
    EXPECT_EQ(s.max_procs, procs);
    ASSERT_EQ(s.procs.size(), static_cast<size_t>(procs));
    for (int i = 0; i < procs; ++i) {
      const ProcSnapshot& proc = s.procs[static_cast<size_t>(i)];
      EXPECT_EQ(proc.id, i);
      EXPECT_EQ(proc.status, 0);
      EXPECT_EQ(proc.m, -1);
      EXPECT_EQ(proc.run_queue_size, 0);
      EXPECT_EQ(proc.timers, 0);
    }
    EXPECT_LE(s.idle_threads, s.threads - 1);
  });
}

TEST(SnapshotTest, CountsWhatRunsAndWhatWaits) {
  SetMaxProcs(1);
  RunOnGoroutine([] {
    SchedSnapshot s;
    // Where the machine is so busy that the time slice ends in between, the others have run: then
    // the P counts one goroutine more.
    for (uint32_t tick = ~0u; s.procs.empty() || s.procs[0].schedtick != tick;) {
      while (NumGoroutine() > 1) Yield();
      tick = GetSchedSnapshot().procs[0].schedtick;
      for (int i = 0; i < 10; ++i) Go([] {});
      s = GetSchedSnapshot();
    }
    EXPECT_EQ(s.goroutines, 11);
    EXPECT_EQ(s.idle_procs, 0);
    ASSERT_EQ(s.procs.size(), 1u);
    EXPECT_EQ(s.procs[0].status, 1);
    EXPECT_GE(s.procs[0].m, 0);
    EXPECT_EQ(s.procs[0].run_queue_size, 9) << "the one that runs next is not counted";
  });
}

TEST(SnapshotTest, CountsTheGlobalQueue) {
  SetMaxProcs(1);
  std::atomic<bool> hog{false};
  std::atomic<bool> stop{false};
  std::atomic<bool> ended{false};
  Go([&] {
    // From in there nobody takes its P.
    const internal::RuntimeSection section;
    hog.store(true);
    while (!stop.load()) {
    }
    ended.store(true);
  });
  ASSERT_TRUE(Eventually([&] { return hog.load(); }));
  std::atomic<int> ran{0};
  for (int i = 0; i < 7; ++i) Go([&] { ran.fetch_add(1); });  // from a thread: no P to queue at
  EXPECT_EQ(GetSchedSnapshot().global_queue_size, 7);
  stop.store(true);
  EXPECT_TRUE(Eventually([&] { return ran.load() == 7 && ended.load(); }));
  EXPECT_EQ(GetSchedSnapshot().global_queue_size, 0);
}

TEST(SnapshotTest, CountsTimersSectionsAndTicks) {
  SetMaxProcs(1);
  const SchedSnapshot before = GetSchedSnapshot();
  std::atomic<bool> seen{false};
  std::atomic<Waiter*> waiters[3] = {};
  std::atomic<int> left{3};
  for (std::atomic<Waiter*>& waiter : waiters) {
    Go([&] {
      {
        BlockingSection section;
      }
      waiter.store(Waiter::Current());
      while (!seen.load()) {
        Waiter::Current()->ParkUntil(Instant::Now() + absl::Hours(1), WaitReason::kSleep);
      }
      left.fetch_sub(1);
    });
  }
  ASSERT_TRUE(Eventually([] { return GetSchedSnapshot().procs[0].timers == 3; }));
  seen.store(true);
  for (std::atomic<Waiter*>& waiter : waiters) waiter.load()->Unpark();
  EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  const SchedSnapshot after = GetSchedSnapshot();
  EXPECT_EQ(after.procs[0].timers, 0);
  EXPECT_EQ(after.procs[0].syscalltick - before.procs[0].syscalltick, 3u);
  EXPECT_GE(after.procs[0].schedtick - before.procs[0].schedtick, 1u);
}

TEST(SnapshotTest, ShowsAPInABlockingSection) {
  SetMaxProcs(2);
  std::atomic<bool> stop{false};
  std::atomic<bool> ended{false};
  std::atomic<bool> seen{false};
  Go([&] {
    while (!stop.load()) {
      BlockingSection section;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    ended.store(true);
  });
  EXPECT_TRUE(Eventually([&] {
    for (const ProcSnapshot& proc : GetSchedSnapshot().procs) {
      if (proc.status == 2) seen.store(true);
    }
    return seen.load();
  }));
  stop.store(true);
  EXPECT_TRUE(Eventually([&] { return ended.load(); }));
}

TEST(SnapshotTest, MayBeTakenAnyTimeFromAnywhere) {
  ForEachMaxProcs([] {
    std::atomic<bool> stop{false};
    std::atomic<int> left{6};
    auto look = [&] {
      while (!stop.load()) {
        const SchedSnapshot s = GetSchedSnapshot();
        EXPECT_EQ(s.procs.size(), static_cast<size_t>(s.max_procs));
        EXPECT_GE(s.idle_procs, 0);
        EXPECT_LE(s.idle_procs, s.max_procs);
        EXPECT_LT(s.idle_threads, s.threads);
        Yield();
      }
      left.fetch_sub(1);
    };
    for (int i = 0; i < 4; ++i) Go(look);
    std::thread a(look);
    std::thread b(look);
    for (int i = 0; i < Rounds(100); ++i) {
      RunOnGoroutine([] { Sleep(absl::Microseconds(30)); });
    }
    stop.store(true);
    a.join();
    b.join();
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  });
}

// A goroutine's record is soon that of the next one. Whose name has the address of one and the size
// of the other ends where neither does.
TEST(SnapshotTest, NamesAreWholeWhileGoroutinesComeAndGo) {
  ForEachMaxProcs([] {
    ASSERT_TRUE(Eventually([] { return NumGoroutine() == 0; })) << "those of other tests";
    std::atomic<bool> stop{false};
    std::atomic<int> left{2};
    for (int i = 0; i < 2; ++i) {
      Go({.name = "spawner"}, [&] {
        while (!stop.load()) {
          Go({.name = "x"}, [] {});
          Go({.name = "a longer name"}, [] {});
          Yield();
        }
        left.fetch_sub(1);
      });
    }
    for (int i = 0; i < Rounds(3000, 100); ++i) {
      for (const GoroutineSnapshot& g : GetGoroutineSnapshots()) {
        ASSERT_TRUE(g.name == "x" || g.name == "a longer name" || g.name == "spawner") << g.name;
      }
    }
    stop.store(true);
    EXPECT_TRUE(Eventually([&] { return left.load() == 0 && NumGoroutine() == 0; }));
  });
}

}  // namespace
}  // namespace weft
