// LockOSThread, and the threads that come and go with it (LK-01 to LK-08, SC-03, SC-26, SC-27,
// DL-03, DL-10).
#include <dirent.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/snapshot.h"
#include "sched/testing.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::Eventually;
using testing::ForEachMaxProcs;
using testing::IsTurn;
using testing::ProcessResult;
using testing::Rounds;
using testing::RunOnGoroutine;
using testing::RunProcess;
using ::testing::StartsWith;

pid_t ThreadId() { return static_cast<pid_t>(syscall(SYS_gettid)); }

bool ThreadExists(pid_t tid) { return syscall(SYS_tgkill, getpid(), tid, 0) == 0; }

// While goroutines come and go all around, a locked one stays where it is.
TEST(LockOSThreadTest, TheThreadStaysTheSameAndIsNobodyElses) {
  ForEachMaxProcs([] {
    std::atomic<bool> stop{false};
    std::atomic<int> left{6};
    std::atomic<pid_t> locked_thread{0};
    std::atomic<int> intruders{0};
    for (int i = 0; i < 6; ++i) {
      Go([&] {
        while (!stop.load()) {
          if (ThreadId() == locked_thread.load()) intruders.fetch_add(1);
          Yield();
          Sleep(absl::Microseconds(20));
        }
        left.fetch_sub(1);
      });
    }
    RunOnGoroutine([&] {
      LockOSThread();
      LockOSThread();
      const pid_t thread = ThreadId();
      locked_thread.store(thread);
      for (int i = 0; i < Rounds(200, 40); ++i) {
        if (i % 3 == 0) Yield();
        if (i % 3 == 1) Sleep(absl::Microseconds(50));
        if (i % 3 == 2) BlockingSection section(BlockingSection::Expect::kLong);
        if (i == 10) UnlockOSThread();  // the inner one
        EXPECT_EQ(ThreadId(), thread);
      }
      locked_thread.store(0);
      UnlockOSThread();
      UnlockOSThread();  // one too many does nothing
    });
    EXPECT_EQ(intruders.load(), 0);
    stop.store(true);
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  });
}

// SC-03: a locked goroutine that yields all the time lets others through.
TEST(LockOSThreadTest, SC03_LockedYieldsLetOthersRun) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      const Chan<bool> question(0);
      const Chan<bool> answer(0);
      Go([question, answer] {
        LockOSThread();
        while (question.TryRecv().result != TryResult::kDone) Yield();
        answer.Send(true);
      });
      Sleep(absl::Milliseconds(10));
      question.Send(true);
      EXPECT_EQ(answer.Recv(), true);
    });
  });
}

TEST(LockOSThreadTest, LK01_ALockedGoroutineYieldsSleepsAndEnds) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      const Chan<int> done(0);
      Go([done] {
        LockOSThread();
        for (int i = 0; i < 10; ++i) {
          Yield();
          Sleep(absl::Milliseconds(1));
        }
        done.Send(1);
        // and ends, locked
      });
      EXPECT_EQ(done.Recv(), 1);
    });
  });
}

TEST(LockOSThreadTest, LK02_ALockedGoroutineSendsToAnother) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      const Chan<int> c(0);
      Go([c] {
        LockOSThread();
        for (int i = 0; i < 10; ++i) c.Send(i);
        UnlockOSThread();
        c.Close();
      });
      int sum = 0;
      for (const int i : c) sum += i;
      EXPECT_EQ(sum, 45);
    });
  });
}

// Two that are both locked, for each switch goes from thread to thread.
TEST(LockOSThreadTest, LockedGoroutinesPlayPingPong) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      const Chan<int> ping(0);
      const Chan<int> pong(0);
      Go([ping, pong] {
        LockOSThread();
        for (const int i : ping) pong.Send(i + 1);
        pong.Close();
      });
      LockOSThread();
      for (int i = 0; i < Rounds(500, 50); ++i) {
        ping.Send(i);
        EXPECT_EQ(pong.Recv(), i + 1);
      }
      ping.Close();
      EXPECT_EQ(pong.Recv(), std::nullopt);
      UnlockOSThread();
    });
  });
}

TEST(LockOSThreadTest, LK05_AThreadEndsWithTheGoroutineThatIsLockedToIt) {
  ForEachMaxProcs([] {
    for (int i = 0; i < Rounds(20, 5); ++i) {
      std::atomic<pid_t> thread{0};
      RunOnGoroutine([&] {
        Go([&] {
          LockOSThread();
          thread.store(ThreadId());
        });
      });
      ASSERT_TRUE(Eventually([&] { return thread.load() != 0; }));
      EXPECT_TRUE(Eventually([&] { return !ThreadExists(thread.load()); }));
    }
  });
}

std::atomic<int> signals_handled{0};

// Keeps an array where it can only be with a pinned stack, in builds that have those.
void HandleWithArray(int signal) {
  volatile char bytes[300];
  for (volatile char& byte : bytes) byte = static_cast<char>(signal);
  signals_handled.fetch_add(bytes[7] == signal ? 1 : 0, std::memory_order_relaxed);
}

// Sends a signal to all threads but its own, again and again.
class SignalStorm {
 public:
  explicit SignalStorm(int signal) {
    thread_ = std::thread([this, signal] {
      const pid_t own = ThreadId();
      while (!stop_.load()) {
        DIR* const tasks = opendir("/proc/self/task");
        while (const dirent* task = readdir(tasks)) {
          const pid_t tid = std::atoi(task->d_name);
          if (tid != 0 && tid != own) syscall(SYS_tgkill, getpid(), tid, signal);
        }
        closedir(tasks);
      }
    });
  }
  ~SignalStorm() {
    stop_.store(true);
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// A signal finds no thread of the runtime's that is not yet, or no longer, fit to handle it.
TEST(LockOSThreadTest, SignalsMeetThreadsThatBeginAndEnd) {
  struct sigaction action{};
  action.sa_handler = HandleWithArray;
  action.sa_flags = SA_RESTART;
  ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  {
    SignalStorm storm(SIGUSR1);
    for (int i = 0; i < Rounds(400, 40) || signals_handled.load() == 0; ++i) {
      std::atomic<pid_t> thread{0};
      Go([&] {
        LockOSThread();
        thread.store(ThreadId());
      });
      ASSERT_TRUE(Eventually([&] { return thread.load() != 0 && !ThreadExists(thread.load()); }));
    }
  }
  // One may still wait for a thread to unblock it.
  signal(SIGUSR1, SIG_IGN);
}

// SC-26: a P never goes to a thread that is about to end, however often the world is stopped.
TEST(LockOSThreadTest, SC26_StopsMeetThreadsThatEnd) {
  SetMaxProcs(4);
  std::atomic<bool> stop{false};
  std::atomic<int> left{2};
  for (int i = 0; i < 2; ++i) {
    Go([&] {
      while (!stop.load()) {
      }
      left.fetch_sub(1);
    });
  }
  for (int i = 0; i < Rounds(100, 20); ++i) {
    std::atomic<bool> ended{false};
    Go([&] {
      LockOSThread();
      ended.store(true);
    });
    SetMaxProcs(4 + i % 2);
    ASSERT_TRUE(Eventually([&] { return ended.load(); }));
  }
  stop.store(true);
  EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  SetMaxProcs(2);
}

// LK-07: locking meets stops of the world and spawns.
TEST(LockOSThreadTest, LK07_LockingMeetsStops) {
  for (const int procs : AllInTurn({2, 4})) {
    std::atomic<bool> stop{false};
    std::atomic<int> left{1};
    Go([&, procs] {
      for (int n = 0; !stop.load(); ++n) SetMaxProcs(procs + n % 2);
      left.fetch_sub(1);
    });
    for (int i = 0; i < Rounds(50, 10); ++i) {
      std::atomic<int> ended{0};
      for (int g = 0; g < 2; ++g) {
        Go([&] {
          LockOSThread();
          Go([&] { ended.fetch_add(1); });
          Yield();
          UnlockOSThread();
          ended.fetch_add(1);
        });
      }
      ASSERT_TRUE(Eventually([&] { return ended.load() == 4; }));
    }
    stop.store(true);
    ASSERT_TRUE(Eventually([&] { return left.load() == 0; }));
  }
  SetMaxProcs(2);
}

std::atomic<pid_t> signalled_thread{0};

TEST(LockOSThreadTest, LK08_ASignalToTheThreadArrivesThere) {
  struct sigaction action = {};
  action.sa_handler = [](int) { signalled_thread.store(ThreadId()); };
  action.sa_flags = SA_ONSTACK | SA_RESTART;
  ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  RunOnGoroutine([] {
    LockOSThread();
    const pid_t thread = ThreadId();
    ASSERT_EQ(syscall(SYS_tgkill, getpid(), thread, SIGUSR1), 0);
    EXPECT_TRUE(Eventually([&] { return signalled_thread.load() == thread; }));
    UnlockOSThread();
  });
}

// A locked goroutine is preempted like any other, and comes back on its thread.
TEST(LockOSThreadTest, ALockedGoroutineThatComputesLosesItsP) {
  SetMaxProcs(1);
  std::atomic<bool> stop{false};
  std::atomic<bool> ended{false};
  Go([&] {
    LockOSThread();
    const pid_t thread = ThreadId();
    while (!stop.load()) {
    }
    EXPECT_EQ(ThreadId(), thread);
    Yield();
    EXPECT_EQ(ThreadId(), thread);
    UnlockOSThread();
    ended.store(true);
  });
  for (int i = 0; i < 10; ++i) {
    RunOnGoroutine([] { Sleep(absl::Milliseconds(1)); });
  }
  EXPECT_FALSE(ended.load());
  stop.store(true);
  EXPECT_TRUE(Eventually([&] { return ended.load(); }));
}

TEST(LockOSThreadTest, OnAPlainThreadItDoesNothing) {
  LockOSThread();
  UnlockOSThread();
  UnlockOSThread();
}

TEST(SetMaxThreadsTest, ReturnsWhatItWas) {
  EXPECT_EQ(SetMaxThreads(5'000), 10'000);
  EXPECT_EQ(SetMaxThreads(0), 5'000);
  EXPECT_EQ(SetMaxThreads(10'000), 5'000);
}

// At the limit goroutines that block keep the others waiting, but nobody for ever.
TEST(SetMaxThreadsTest, AtTheLimitBlockedGoroutinesKeepTheirPs) {
  SetMaxProcs(1);
  const int before = SetMaxThreads(GetSchedSnapshot().threads + 3);
  std::atomic<int> left{30};
  for (int i = 0; i < 30; ++i) {
    Go([&] {
      usleep(5'000);
      Yield();
      usleep(5'000);
      left.fetch_sub(1);
    });
  }
  EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  SetMaxThreads(before);
}

ProcessResult RunProgram(const std::string& name, int procs) {
  return RunProcess({"sched/threads_program", name},
                    {.env = {absl::StrCat("WEFTMAXPROCS=", procs)}});
}

constexpr char kDeadlock[] = "fatal error: all goroutines are asleep - deadlock!\n";

TEST(LockedProgramTest, DL03_LockedGoroutinesThatWaitAreAsleep) {
  for (const char* name : {"locked-deadlock", "locked-deadlock-2", "locked-main-exits-deadlock"}) {
    if (!IsTurn(name, 3)) continue;
    for (const int procs : AllInTurn({1, 2, 4})) {
      const ProcessResult result = RunProgram(name, procs);
      EXPECT_EQ(result.exit_status, 2) << name;
      if (absl::StrContains(name, "exits")) {
        EXPECT_THAT(result.err, StartsWith("fatal error: no goroutines (main called "
                                           "runtime.Goexit) - deadlock!\n"))
            << name;
      } else {
        EXPECT_THAT(result.err, StartsWith(kDeadlock)) << name;
      }
    }
  }
}

TEST(LockedProgramTest, DL10_TooManyThreads) {
  for (const int procs : AllInTurn({1, 2, 4})) {
    const ProcessResult result = RunProgram("thread-exhaustion", procs);
    EXPECT_EQ(result.exit_status, 2);
    EXPECT_THAT(result.err, StartsWith("runtime: program exceeds 10-thread limit\n"
                                       "fatal error: thread exhaustion\n"));
  }
}

// SC-27, by the affinity mask: a cgroup's quota is read at the same place (procs_test), but not
// every machine lets a test change its own.
TEST(ProcsProgramTest, SC27_TheNumberOfPsFollowsTheSystem) {
  if (!IsTurn("SC27", 8)) GTEST_SKIP() << "another one's turn";
  const ProcessResult result = RunProcess({"sched/threads_program", "follow-affinity"}, {});
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(result.out, "OK\n");
}

// What frames have that nobody returns to any more is no leak to LeakSanitizer.
TEST(ProcsProgramTest, TheProcessEndsInTheMiddleOfThings) {
  for (const char* name : {"exit-while-main-computes", "exit-while-others-wait"}) {
    if (!IsTurn(name, 2)) continue;
    const ProcessResult result = RunProgram(name, 2);
    EXPECT_EQ(result.exit_status, 0) << result.err;
    EXPECT_EQ(result.out, "OK\n");
  }
}

// LK-04: the first goroutine ends, locked to the program's first thread, and the others go on.
TEST(LockedProgramTest, LK04_TheFirstThreadMayBeLockedToAGoroutineThatEnds) {
  for (const int procs : AllInTurn({1, 2, 4})) {
    const ProcessResult result = RunProgram("locked-main-exits", procs);
    EXPECT_EQ(result.exit_status, 0) << result.err;
    EXPECT_EQ(result.out, "OK\n");
  }
}

}  // namespace
}  // namespace weft
