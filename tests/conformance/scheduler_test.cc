// What Go's tests assert of its scheduler, where it takes more than //sched to say it: SC-02,
// SC-03, SC-05, SC-06, SC-14. The others are beside the scheduler (tests/README.md says where).
#include <atomic>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/select.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/sync/testing.h"
#include "sched/testing.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::ProcessResult;
using testing::RunOnGoroutine;
using testing::RunProcess;
using testing::Tasks;

class SchedulerConformance : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, SchedulerConformance, testing::Worlds(), testing::WorldName);

// One that does nothing but look into a channel and yield lets a sender through, and answers.
void AskOneThatYields(bool locked) {
  const Chan<bool> question(0);
  const Chan<bool> answer(0);
  Tasks tasks;
  tasks.Go([=] {
    if (locked) LockOSThread();
    while (question.TryRecv().result != TryResult::kDone) Yield();
    answer.Send(true);
    if (locked) UnlockOSThread();
  });
  Sleep(absl::Milliseconds(10));
  question.Send(true);
  EXPECT_EQ(answer.Recv(), true);
}

TEST_P(SchedulerConformance, SC02_YieldLetsOthersRun) {
  Run([] { AskOneThatYields(/*locked=*/false); });
}

TEST_P(SchedulerConformance, SC03_YieldOfOneLockedToItsThreadLetsOthersRun) {
  Run([] { AskOneThatYields(/*locked=*/true); });
}

// The two halves of `procs` goroutines, started by goroutines in turn, each of which spins until
// all are there and then waits for its turn to move a common counter on: there must be a P for each
// of them, and so a thread woken for each. The spinning does not enter the runtime.
void RunInParallel(int procs, int rounds) {
  constexpr int kStarters = 2;
  const int each = procs / kStarters;
  std::atomic<int> turn{0};
  Tasks tasks;
  for (int s = 0; s < kStarters; ++s) {
    tasks.Go([&, s] {
      for (int t = 0; t < each; ++t) {
        tasks.Go([&, number = s * each + t] {
          for (int r = 0; r < rounds; ++r) {
            const int mine = r * kStarters * each + number;
            // The machine may have fewer processors, which must switch.
            while (turn.load(std::memory_order_acquire) != mine) std::this_thread::yield();
            turn.store(mine + 1, std::memory_order_release);
          }
        });
      }
    });
  }
  tasks.Wait();
  EXPECT_EQ(turn.load(), rounds * kStarters * each);
}

// So much to do that every thread is woken, and parks again afterwards.
void RunALoad() {
  Tasks tasks;
  for (int i = 0; i < testing::Rounds(1000, 100); ++i) {
    tasks.Go([] {
      for (int n = 0; n < 10; ++n) Yield();
    });
  }
  tasks.Wait();
  Sleep(absl::Milliseconds(1));
}

void TestParallelism(bool load) {
  for (const int procs : testing::AllInTurn({2, 4, 8})) {
    testing::current_world = {testing::World::TasksAre::kGoroutines, procs};
    const int before = SetMaxProcs(procs);
    for (int round = 0; round < testing::Rounds(10, 2); ++round) {
      RunOnGoroutine([&] {
        if (load) RunALoad();
        RunInParallel(procs, 10);
      });
    }
    SetMaxProcs(before);
  }
}

// Makes the poller, which stays, so the tests without it come first.
void InitializePoller() {
  const absl::StatusOr<Listener> listener = Listen("tcp", "127.0.0.1:0");
  ASSERT_TRUE(listener.ok()) << listener.status();
}

TEST(SchedulerConformanceParallelism, SC05_NestedSpawnsGetAPEach) { TestParallelism(false); }
TEST(SchedulerConformanceParallelism, SC05_NestedSpawnsGetAPEachAfterALoad) {
  TestParallelism(true);
}
TEST(SchedulerConformanceParallelism, SC05_NestedSpawnsGetAPEachWithThePoller) {
  InitializePoller();
  TestParallelism(false);
}
TEST(SchedulerConformanceParallelism, SC05_NestedSpawnsGetAPEachAfterALoadWithThePoller) {
  InitializePoller();
  TestParallelism(true);
}

// Two that send all the time keep a third, which selects, no longer than its timer lets them.
void TestTimerFairness(bool with_after) {
  const Chan<int> work(0);
  const Chan<int> expired(0);
  const Chan<int> stop(0);
  Tasks tasks;
  for (int i = 0; i < 2; ++i) {
    tasks.Go([=] {
      while (Select(work.OnSend(i), stop.OnRecv()) == 0) {
      }
    });
  }
  const Instant start = Instant::Now();
  const Instant end = start + absl::Milliseconds(20);
  if (!with_after) {
    tasks.Go([expired] {
      Sleep(absl::Milliseconds(20));
      expired.Close();
    });
  }
  int chosen = 0;
  while (chosen == 0 && Instant::Now() - start < absl::Seconds(60)) {
    if (with_after) {
      chosen = Select(work.OnRecv(), After(end - Instant::Now()));
    } else {
      chosen = Select(work.OnRecv(), expired.OnRecv());
    }
  }
  EXPECT_EQ(chosen, 1) << "after a minute";
  EXPECT_GE(Instant::Now(), end);
  stop.Close();
}

TEST_P(SchedulerConformance, SC06_BusySendersDoNotStarveATimer) {
  Run([] { TestTimerFairness(false); });
}
TEST_P(SchedulerConformance, SC06_BusySendersDoNotStarveASelectsAfter) {
  Run([] { TestTimerFairness(true); });
}

// In a program that has just begun.
TEST(SchedulerConformanceProgram, SC14_MainIsTheOnlyGoroutineAtFirst) {
  for (const int procs : AllInTurn({1, 2, 4})) {
    const ProcessResult r = RunProcess({"tests/conformance/program", "count"},
                                       {.env = {absl::StrCat("WEFTMAXPROCS=", procs)}});
    EXPECT_EQ(r.exit_status, 0) << r.err;
    EXPECT_EQ(r.out, "1\n");
  }
}

// The program prints the count and dies of a deadlock, whose report has them all.
TEST(SchedulerConformanceProgram, SC14_TheCountIsThatOfADump) {
  for (const int procs : AllInTurn({1, 2, 4})) {
    const ProcessResult r = RunProcess({"tests/conformance/program", "count-and-dump"},
                                       {.env = {absl::StrCat("WEFTMAXPROCS=", procs)}});
    EXPECT_EQ(r.exit_status, 2) << r.err;
    int headers = 0;
    for (size_t at = 0; (at = r.err.find("\ngoroutine ", at)) != std::string::npos; ++at) ++headers;
    EXPECT_EQ(r.out, absl::StrCat(headers, "\n")) << r.err;
    EXPECT_EQ(headers, 51);
  }
}

}  // namespace
}  // namespace weft
