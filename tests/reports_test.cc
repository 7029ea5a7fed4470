// How a program ends, and what it says then: exact texts, traces and exit statuses (DL-01, DL-04,
// DL-06, DL-07, DL-09, DL-12, DL-13, DL-15, DL-16, DL-18, and TM-10's endless sleep).
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft {
namespace {

using testing::AllInTurn;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using testing::IsTurn;
using ::testing::Not;
using testing::ProcessResult;
using testing::Rounds;
using testing::RunProcess;
using ::testing::StartsWith;

// Runs a program of reports_program with so many Ps.
ProcessResult RunProgram(const std::string& name, int procs = 2, std::vector<std::string> env = {},
                         absl::Duration limit = absl::Seconds(60)) {
  env.push_back(absl::StrCat("WEFTMAXPROCS=", procs));
  return RunProcess({"tests/reports_program", name}, {.env = env, .limit = limit});
}

// Runs it over several numbers of Ps; it must end by itself with `status`.
template <typename Check>
void OverProcs(const std::string& name, int status, Check check) {
  if (!IsTurn(name, 4)) return;
  for (const int procs : AllInTurn({1, 2, 4, 8})) {
    SCOPED_TRACE(absl::StrCat(name, " with ", procs, " Ps"));
    const ProcessResult result = RunProgram(name, procs);
    EXPECT_FALSE(result.timed_out);
    EXPECT_EQ(result.exit_status, status) << result.err;
    check(result);
  }
}

constexpr char kDeadlock[] = "fatal error: all goroutines are asleep - deadlock!\n";

// DL-01.
TEST(DeadlockTest, MainThatWaitsForEverIsReported) {
  OverProcs("deadlock", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, StartsWith(absl::StrCat(kDeadlock, "\ngoroutine 1 [select (no cases)]:\n")));
    EXPECT_THAT(r.err, HasSubstr("reports::Deadlock"));
    EXPECT_EQ(r.out, "");
  });
}

TEST(DeadlockTest, ReportListsEveryGoroutineWithItsReason) {
  OverProcs("deadlock-many", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, StartsWith(absl::StrCat(kDeadlock, "\ngoroutine 1 [semacquire]:\n")));
    size_t receivers = 0;
    for (size_t at = 0; (at = r.err.find("[chan receive]:\n", at)) != std::string::npos; ++at) {
      ++receivers;
    }
    EXPECT_EQ(receivers, 3u) << r.err;
    EXPECT_THAT(r.err, HasSubstr("[sync.Mutex.Lock]:\n"));
    EXPECT_THAT(r.err, HasSubstr("created by reports::DeadlockOfMany"));
    EXPECT_THAT(r.err, HasSubstr("in goroutine 1\n"));
    // What each one's stack takes.
    EXPECT_THAT(r.err, ContainsRegex("\nstack: (copying|reserved|segmented|fixed), limit [0-9]+, "
                                     "used [0-9]+"));
  });
}

TEST(DeadlockTest, IsNoticedAfterALoad) {
  OverProcs("deadlock-after-load", 2,
            [](const ProcessResult& r) { EXPECT_THAT(r.err, StartsWith(kDeadlock)); });
}

// A thread of the program's own could still wake somebody: only when it is gone is it certain.
TEST(DeadlockTest, IsReportedOnceForeignThreadsAreGone) {
  OverProcs("deadlock-threads-gone", 2,
            [](const ProcessResult& r) { EXPECT_THAT(r.err, StartsWith(kDeadlock)); });
}

TEST(DeadlockTest, IsReportedOnceTheLastTimerIsStopped) {
  OverProcs("deadlock-stopped-timer", 2,
            [](const ProcessResult& r) { EXPECT_THAT(r.err, StartsWith(kDeadlock)); });
}

// DL-07.
TEST(DeadlockTest, IsNotReportedWhileSomebodyCanStillWakeMain) {
  for (const char* name : {"woken-by-thread", "woken-from-section", "woken-from-plain-blocking",
                           "woken-from-computing", "woken-by-timer"}) {
    OverProcs(name, 0, [](const ProcessResult& r) {
      EXPECT_EQ(r.out, "woken\n");
      EXPECT_EQ(r.err, "");
    });
  }
}

TEST(DeadlockTest, IsNotReportedInAProgramWithoutMain) {
  OverProcs("embedded", 0, [](const ProcessResult& r) {
    EXPECT_EQ(r.out, "still here\n");
    EXPECT_EQ(r.err, "");
  });
}

TEST(DeadlockTest, IsNotReportedWhileAPanicIs) {
  OverProcs("panic-blocks", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, StartsWith("panic: took its time\n\ngoroutine 1 [running]:\n"));
    EXPECT_THAT(r.err, Not(HasSubstr("deadlock")));
  });
}

TEST(DeadlockTest, APendingTimerHidesIt) {
  for (const char* name : AllInTurn({"pending-timer", "sleep-for-ever"})) {
    const ProcessResult r = RunProgram(name, 2, {}, absl::Milliseconds(Rounds(1000, 200)));
    EXPECT_TRUE(r.timed_out) << name;
    EXPECT_EQ(r.err, "") << name;
  }
}

// DL-09: a wait for the network is no deadlock, though no other goroutine could end it.
TEST(DeadlockTest, AWaitForTheNetworkIsNone) {
  for (const char* name : {"accept", "read"}) {
    for (const int procs : AllInTurn({1, 4})) {
      const ProcessResult r = RunProcess({"tests/accept_program", name},
                                         {.env = {absl::StrCat("WEFTMAXPROCS=", procs)},
                                          .limit = absl::Milliseconds(Rounds(1000, 200))});
      EXPECT_TRUE(r.timed_out) << name << ": " << r.exit_status;
      EXPECT_EQ(r.err, "");
    }
  }
}

TEST(DeadlockTest, AnEventThatHasJustComeIsNone) {
#ifdef NDEBUG
  GTEST_SKIP() << "no delay points";
#endif
  for (const int procs : AllInTurn({1, 2})) {
    const ProcessResult r = RunProcess({"tests/accept_program", "held"},
                                       {.env = {absl::StrCat("WEFTMAXPROCS=", procs)}});
    EXPECT_EQ(r.exit_status, 0);
    EXPECT_EQ(r.out, "held\n");
    EXPECT_EQ(r.err, "");
  }
}

TEST(DeadlockTest, IsReportedOnceNobodyWaitsForTheNetworkAnyMore) {
  for (const int procs : AllInTurn({1, 2, 4})) {
    const ProcessResult r = RunProcess({"tests/accept_program", "afterwards"},
                                       {.env = {absl::StrCat("WEFTMAXPROCS=", procs)}});
    EXPECT_EQ(r.exit_status, 2);
    EXPECT_THAT(r.err, StartsWith(kDeadlock));
  }
}

// The poller has nothing to do with a pipe in memory, though it waits for what is in the network.
TEST(DeadlockTest, AWaitForAPipeInMemoryIsOne) {
  for (const char* name : {"pipe-read", "pipe-write"}) {
    for (const int procs : AllInTurn({1, 4})) {
      const ProcessResult r = RunProcess({"tests/accept_program", name},
                                         {.env = {absl::StrCat("WEFTMAXPROCS=", procs)}});
      EXPECT_EQ(r.exit_status, 2) << name;
      EXPECT_THAT(r.err, StartsWith(absl::StrCat(kDeadlock, "\ngoroutine 1 [select]:\n"))) << name;
    }
  }
}

// DL-04: the others finish first.
TEST(DeadlockTest, MainThatHasExitedIsReportedWhenTheOthersHaveEnded) {
  OverProcs("main-exits", 2, [](const ProcessResult& r) {
    EXPECT_EQ(r.out, "other\n") << "no exit handlers run";
    EXPECT_EQ(r.err, "fatal error: no goroutines (main called runtime.Goexit) - deadlock!\n\n");
  });
}

// DL-13.
TEST(PanicTest, UncaughtExceptionInMainIsGoroutine1s) {
  OverProcs("panic-main", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, StartsWith("panic: test\n\ngoroutine 1 [running]:\n"));
    EXPECT_THAT(r.err, HasSubstr("reports::PanicInMain"));
    EXPECT_THAT(r.err, Not(HasSubstr("created by")));
  });
}

// DL-06.
TEST(PanicTest, ACleanupOfMainThatExitsMayPanic) {
  OverProcs("panic-after-exit", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, StartsWith("panic: hello\n\ngoroutine 1 [running]:\n"));
    // Clang 14 calls std::terminate() by a function that makes no frame, and so hides who called
    // that.
#if !defined(__clang__) || __clang_major__ > 14
    EXPECT_THAT(r.err, HasSubstr("reports::PanicAfterExit"));
#endif
  });
}

TEST(PanicTest, TraceShowsTheThrowAndWhoStartedTheGoroutine) {
  OverProcs("panic-goroutine", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, ContainsRegex("^panic: crash\n\ngoroutine [0-9]+ \\[running\\]:\n"));
    EXPECT_THAT(r.err, HasSubstr("reports::ThrowDeep"));
    EXPECT_THAT(r.err, HasSubstr("created by reports::StartTheOne"));
    EXPECT_THAT(r.err, HasSubstr("in goroutine 1\n"));
  });
}

TEST(PanicTest, PlainThreadsPanicLikeGoroutines) {
  OverProcs("panic-thread", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, StartsWith("panic: in a thread\n\n"));
    EXPECT_THAT(r.err, HasSubstr("reports::ThrowInThread"));
  });
}

TEST(PanicTest, SaysWhatTheExceptionIs) {
  struct Case {
    const char* name;
    const char* text;
  };
  for (const Case& c :
       AllInTurn<Case>({{"panic-string", "panic: a string\n\n"},
                        {"panic-literal", "panic: a literal\n\n"},
                        {"panic-number", "panic: (int)\n\n"},
                        {"panic-type", "panic: (reports::Odd)\n\n"},
                        {"panic-noexcept", "panic: escaped\n\n"},
                        {"panic-handling", "panic: second\n\n"},
                        {"panic-text", "panic: send on closed channel\n\n"},
                        {"fatal-text", "fatal error: a broken rule\n\n"},
                        {"terminate", "fatal error: std::terminate was called\n\n"}})) {
    const ProcessResult r = RunProgram(c.name);
    EXPECT_EQ(r.exit_status, 2);
    EXPECT_THAT(r.err, StartsWith(absl::StrCat(c.text, "goroutine 1 [running]:\n")));
  }
}

// DL-15: the fatal path does not hang on the scheduler.
TEST(PanicTest, TextMayBeMadeByCodeThatYieldsOrBlocks) {
  OverProcs("panic-yields", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, StartsWith("panic: errorThatGosched\n\n"));
  });
  OverProcs("panics-yield", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, StartsWith("panic: errorThatGosched\n\n"));
  });
  OverProcs("panic-prints", 2,
            [](const ProcessResult& r) { EXPECT_THAT(r.err, StartsWith("1\n2\npanic: 3\n\n")); });
}

// DL-18.
TEST(PanicTest, TextThatThrowsEndsTheProgramAllTheSame) {
  OverProcs("panic-while-panicking", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, HasSubstr("panic while printing panic value: important\nmessage"));
  });
  OverProcs("panic-loop", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err,
                HasSubstr("panic while printing panic value: (reports::ErrorThatThrowsItself)"));
  });
}

// DL-16.
TEST(PanicTest, ReportSurvivesARaceWithMainsEnd) {
  int full = 0;
  // Main mostly loses; on a busy machine it may win often.
  for (int i = 0; i < Rounds(10, 2) || (full == 0 && i < 200); ++i) {
    const ProcessResult r = RunProgram("panic-race");
    if (r.exit_status == 2 && absl::StrContains(r.err, "panic: crash") &&
        absl::StrContains(r.err, "reports::Crasher") && absl::StrContains(r.err, "created by ")) {
      ++full;
    }
  }
  EXPECT_GE(full, 1);
}

TEST(PanicTest, OnlyOneReportIsPrinted) {
  OverProcs("panic-many", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, StartsWith("panic: one of many\n\n"));
    EXPECT_EQ(r.err.find("panic:", 1), std::string::npos) << r.err;
    EXPECT_EQ(r.err.find("goroutine ", r.err.find("[running]")), r.err.rfind("goroutine 1\n"))
        << r.err;
  });
}

// DL-12.
TEST(MisuseTest, GoOfAnEmptyFunction) {
  OverProcs("go-nothing", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err, StartsWith("fatal error: go of nil func value\n\ngoroutine 1 [running]:\n"));
    EXPECT_THAT(r.err, HasSubstr("reports::GoOfNothing"));
  });
}

TEST(MisuseTest, ExitOnAPlainThread) {
  OverProcs("exit-on-thread", 2, [](const ProcessResult& r) {
    EXPECT_THAT(r.err,
                StartsWith("fatal error: Exit called on a thread that runs no goroutine\n\n"));
  });
}

TEST(EndTest, MainsResultIsTheStatusWhateverTheOthersDo) {
  OverProcs("returns-7", 7, [](const ProcessResult& r) { EXPECT_EQ(r.err, ""); });
}

TEST(EndTest, ExitHandlersMayUseTheRuntime) {
  OverProcs("used-at-exit", 3, [](const ProcessResult& r) {
    EXPECT_EQ(r.out, "exit handler\ndestructor\n");
    EXPECT_EQ(r.err, "");
  });
}

TEST(StartTest, GoroutinesMayStartInStaticInitialization) {
  for (const int procs : AllInTurn({1, 4})) {
    const ProcessResult r = RunProgram("woken-by-timer", procs, {"EARLY=1"});
    EXPECT_EQ(r.exit_status, 0) << r.err;
    EXPECT_EQ(r.out, "woken\n");
    // Main is goroutine 1 all the same, and is watched for a deadlock.
    const ProcessResult dead = RunProgram("deadlock", procs, {"EARLY=1"});
    EXPECT_EQ(dead.exit_status, 2);
    EXPECT_THAT(dead.err, StartsWith(absl::StrCat(kDeadlock, "\ngoroutine 1 [select")));
  }
}

TEST(StartTest, SignalsReachGoroutinesOnAllThreads) {
  OverProcs("signals", 0, [](const ProcessResult&) {});
}

TEST(StartTest, MainIgnoresSigpipe) {
  OverProcs("sigpipe", 0, [](const ProcessResult&) {});
}

TEST(ConfigurationTest, BadValuesAreOneClearLine) {
  for (const std::string& value : AllInTurn<std::string>({"0", "-3", "many", "1025", ""})) {
    const ProcessResult r = RunProcess({"tests/reports_program", "nothing"},
                                       {.env = {absl::StrCat("WEFTMAXPROCS=", value)}});
    EXPECT_EQ(r.exit_status, 2) << value;
    EXPECT_EQ(r.err, absl::StrCat("WEFTMAXPROCS=", value, ": must be a number from 1 to 1024\n"));
  }
  const ProcessResult r =
      RunProcess({"tests/reports_program", "nothing"}, {.env = {"WEFTDEBUG=nosuch=1"}});
  EXPECT_EQ(r.exit_status, 2);
  EXPECT_EQ(r.err,
            "WEFTDEBUG: nosuch=1: no such setting in this program, which has: stackrest, "
            "stackgrow, stackmove, stackpoison, sched\n");
}

}  // namespace
}  // namespace weft
