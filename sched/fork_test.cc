// fork() and exit() while the runtime is at work: they do no harm, to either process.
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/runtime.h"
#include "sched/snapshot.h"
#include "sched/sync/mutex.h"
#include "sched/testing.h"
#include "sched/timer.h"
#include "sched/waiter.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::Eventually;
using testing::ForEachMaxProcs;
using testing::ProcessResult;
using testing::Rounds;
using testing::RunOnGoroutine;
using testing::RunProcess;

constexpr absl::Duration kLimit = absl::Seconds(30);

struct Child {
  int exit_status = -1;  // -1: killed
  std::string err;
};

// Forks, and waits for the child, which runs `body` and then, if that returns, exits at once with
// 0. One that hangs is killed after kLimit.
Child Fork(const std::function<void()>& body) {
  int err[2];
  EXPECT_EQ(pipe(err), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(static_cast<unsigned>(absl::ToInt64Seconds(kLimit)));
    dup2(err[1], STDERR_FILENO);
    body();
    _exit(0);
  }
  EXPECT_GT(pid, 0);
  close(err[1]);
  Child child;
  const BlockingSection section(BlockingSection::Expect::kLong);
  char buffer[4096];
  for (ssize_t n; (n = read(err[0], buffer, sizeof(buffer))) > 0;) {
    child.err.append(buffer, static_cast<size_t>(n));
  }
  close(err[0]);
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  if (WIFEXITED(status)) child.exit_status = WEXITSTATUS(status);
  return child;
}

// Does what a runtime does for as long as it lives, on all Ps and a thread beside.
class Busy {
 public:
  Busy() {
    for (int i = 0; i < kTasks; ++i) {
      Go([this, i] {
        while (!stop_.load()) {
          {
            BlockingSection section;
          }
          left_.fetch_add(1);
          Go([this] { left_.fetch_sub(1); });
          Sleep(absl::Microseconds(i % 2 == 0 ? 20 : 100));
        }
        left_.fetch_sub(1);
      });
    }
  }
  ~Busy() {
    stop_.store(true);
    EXPECT_TRUE(Eventually([&] { return left_.load() == 0; }));
  }

 private:
  static constexpr int kTasks = 6;
  std::atomic<bool> stop_{false};
  std::atomic<int> left_{kTasks};
};

// From a plain thread and from a goroutine.
void FromBoth(const std::function<void()>& test) {
  for (const bool goroutine : AllInTurn({false, true}, /*every=*/4)) {
    if (goroutine) {
      RunOnGoroutine(test);
    } else {
      test();
    }
  }
}

TEST(ForkTest, TheChildComputesAndExits) {
  ForEachMaxProcs([] {
    const Busy busy;
    for (int i = 0; i < Rounds(8); ++i) {
      FromBoth([] {
        const Child child = Fork([] {});
        EXPECT_EQ(child.exit_status, 0);
        EXPECT_EQ(child.err, "");
      });
    }
  });
}

TEST(ForkTest, TheChildWorksAsAPlainThread) {
  FromBoth([] {
    const Busy busy;
    const Child child = Fork([] {
      Mutex mutex;
      Chan<int> c(3);
      {
        const MutexLock lock(mutex);
        c.Send(1);
        c.Send(2);
      }
      if (*c.Recv() + *c.Recv() != 3) _exit(3);
      Yield();
      Sleep(absl::Milliseconds(1));
      if (Waiter::Current()->ParkUntil(Instant::Now() + absl::Milliseconds(1),
                                       WaitReason::kSemacquire)) {
        _exit(4);
      }
      if (GoroutineId() != 0) _exit(5);
      BlockingSection section;
      LockOSThread();
      UnlockOSThread();
    });
    EXPECT_EQ(child.exit_status, 0);
    EXPECT_EQ(child.err, "");
  });
}

TEST(ForkTest, WhatNeedsTheRuntimeEndsTheChildWithALine) {
  static CallbackTimer timer([](CallbackTimer&) {});
  const std::function<void()> uses[] = {
      [] { Go([] {}); },
      [] { timer.Start(Instant::Now()); },
      [] { SetMaxProcs(3); },
      [] { (void)Runtime::Start(); },
  };
  for (const std::function<void()>& use : uses) {
    FromBoth([&] {
      const Busy busy;
      const Child child = Fork(use);
      EXPECT_EQ(child.exit_status, 2);
      EXPECT_TRUE(absl::StartsWith(
          child.err, "fatal error: the runtime does not run in the child of a fork()"))
          << child.err;
    });
  }
}

// Destructors and the like give back what goroutines wait for that are not there.
TEST(ForkTest, WakingTheParentsGoroutinesDoesNothing) {
  FromBoth([] {
    const Busy busy;
    Chan<int> c(0);
    std::atomic<bool> ended{false};
    Go({.name = "receiver"}, [&] {
      while (c.Recv().has_value()) {
      }
      ended.store(true);
    });
    // It holds no lock any more.
    ASSERT_TRUE(Eventually([] {
      for (const GoroutineSnapshot& g : GetGoroutineSnapshots()) {
        if (g.name == "receiver" && g.status == 4) return true;
      }
      return false;
    }));
    const Child child = Fork([&] {
      c.Close();
      if (ended.load()) _exit(3);
    });
    EXPECT_EQ(child.exit_status, 0);
    EXPECT_EQ(child.err, "");
    c.Send(2);
    EXPECT_FALSE(ended.load());
    c.Close();
    EXPECT_TRUE(Eventually([&] { return ended.load(); }));
  });
}

TEST(ForkTest, TimersOfTheParentCanBeStoppedInTheChild) {
  static std::atomic<int> fired{0};
  FromBoth([] {
    CallbackTimer timer([](CallbackTimer&) { fired.fetch_add(1); });
    timer.Start(Instant::Now() + absl::Hours(1));
    EXPECT_EQ(Fork([&] { timer.Stop(); }).exit_status, 0);
    EXPECT_TRUE(timer.Stop());
  });
  EXPECT_EQ(fired.load(), 0);
}

TEST(ForkTest, TheChildCanExec) {
  FromBoth([] {
    const Busy busy;
    const Child child =
        Fork([] { execl("/bin/sh", "sh", "-c", "echo here >&2; exit 7", nullptr); });
    EXPECT_EQ(child.exit_status, 7);
    EXPECT_EQ(child.err, "here\n");
  });
}

TEST(ForkTest, ThereIsNothingToGoOnWithForAGoroutineThatReturns) {
  std::atomic<pid_t> child{0};
  const pid_t parent = getpid();
  RunOnGoroutine([&] {
    const pid_t pid = fork();
    if (pid != 0) {
      child.store(pid);
      return;
    }
    alarm(static_cast<unsigned>(absl::ToInt64Seconds(kLimit)));
    close(STDERR_FILENO);
  });
  // Only in the parent: the child's code after this is the end of its goroutine.
  ASSERT_EQ(getpid(), parent);
  int status = 0;
  ASSERT_EQ(waitpid(child.load(), &status, 0), child.load());
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 2);
}

// Not even one that was stopped before: what its parent left of it is not to be trusted.
TEST(ForkTest, AChildOfAStoppedRuntimeHasNoneEither) {
  RunOnGoroutine([] {});
  ASSERT_EQ(Runtime::Drain(kLimit), absl::OkStatus());
  ASSERT_EQ(Runtime::Stop(kLimit), absl::OkStatus());
  const Child child = Fork([] {
    if (Runtime::Stop(kLimit) != absl::OkStatus()) _exit(3);
    Go([] {});
  });
  EXPECT_EQ(child.exit_status, 2);
  RunOnGoroutine([] {});
}

// The program exits with what it says, whoever says it, while goroutines, timers and threads are at
// work.
TEST(ExitTest, DoesNoHarmWhileTheRuntimeWorks) {
  for (const std::string who :
       AllInTurn<const char*>({"return", "exit", "goroutine", "main", "child"})) {
    std::vector<std::string> env = {"WEFTMAXPROCS=4"};
    // The leak checker would stop the parent's threads, which there are none of in the child.
    if (who == "child") env.push_back("ASAN_OPTIONS=detect_leaks=0");
    for (int i = 0; i < Rounds(10); ++i) {
      const ProcessResult result = RunProcess({"sched/exit_program", who}, {.env = env});
      EXPECT_EQ(result.exit_status, 7) << who << " " << i << " signal " << result.signal;
      EXPECT_EQ(result.err, "") << who << " " << i;
      EXPECT_FALSE(result.timed_out) << who << " " << i;
    }
  }
}

}  // namespace
}  // namespace weft
