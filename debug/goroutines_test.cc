// Dumps: that each goroutine is there, with its state, frames, files and lines. DB-05, DB-08.
#include "debug/goroutines.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "debug/symbolizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"
#include "sched/testing.h"
#include "stack/mode.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft::debug {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;
using weft::testing::AllInTurn;
using weft::testing::Eventually;
using weft::testing::ForEachMaxProcs;
using weft::testing::IsTurn;
using weft::testing::ProcessResult;
using weft::testing::Rounds;
using weft::testing::RunOnGoroutine;
using weft::testing::RunProcess;

// ThreadSanitizer keeps signals back until the thread makes a call that it knows.
constexpr bool kSignalsAreLate = WEFT_TSAN != 0;

// A dump without frames, which takes no time to speak of.
std::string Headers(std::vector<GoroutineTrace> traces, bool group = false) {
  for (GoroutineTrace& trace : traces) {
    trace.frames.clear();
    trace.created_at = 0;
  }
  return FormatGoroutines(traces, group);
}

// The part of a dump that is about goroutine `id`; empty: there is none.
std::string Of(const std::string& dump, uint64_t id) {
  for (const absl::string_view part : absl::StrSplit(dump, "\n\n")) {
    if (absl::StartsWith(part, absl::StrCat("goroutine ", id, " ["))) return std::string(part);
  }
  return "";
}

__attribute__((noinline)) void WaitInHere(const Chan<int>& c) {
  c.Recv();
  asm volatile("");
}

TEST(SymbolizerTest, KnowsFunctionFileAndLine) {
  const int line = __LINE__ + 1;
  const std::string text = CurrentStack();
  EXPECT_THAT(text, HasSubstr(absl::StrCat("debug/goroutines_test.cc:", line)));
  EXPECT_THAT(text, HasSubstr("SymbolizerTest_KnowsFunctionFileAndLine_Test::TestBody(...)\n\t"));
  ASSERT_EQ(Symbolize(1).size(), 1u);
  EXPECT_EQ(Symbolize(1)[0].module, "");
  EXPECT_EQ(Symbolize(1)[0].function, "");
  // A function of a library that has no line table here.
  const SourceLocation at = Symbolize(reinterpret_cast<uintptr_t>(&getppid) + 1).back();
  EXPECT_THAT(at.module, HasSubstr("libc"));
  EXPECT_THAT(at.function, HasSubstr("getppid"));
}

TEST(SymbolizerTest, NamesAreWithoutArguments) {
  const std::pair<const char*, const char*> cases[] = {
      {"main", "main"},
      {"a::b(int, std::vector<int>)", "a::b"},
      {"void weft::Go<main::{lambda()#1}>(main::{lambda()#1}&&)", "weft::Go<>"},
      {"a::(anonymous namespace)::B<int>::c(long) const", "a::(anonymous namespace)::B<>::c"},
      {"main::$_0::operator()() const", "main::$_0::operator()"},
      {"std::ostream& operator<< <char>(std::ostream&, char)", "operator<< <char>"},
      {"a::B::operator->() const", "a::B::operator->"},
      {"f(int)::{lambda(std::pair<int, int>)#2}::operator()(std::pair<int, int>) const",
       "f()::{lambda(std::pair<int, int>)#2}::operator()"},
      {"a::f() const::$_1::operator()(int)", "a::f()::$_1::operator()"},
      {"a::text[abi:cxx11](int)", "a::text"},
      {"a::{lambda()#1}::operator()()", "a::{lambda()#1}::operator()"}};
  for (const auto& [whole, name] : cases) EXPECT_EQ(internal::WithoutArguments(whole), name);
}

// What is inlined has a line of its own, and so has what it is inlined into.
__attribute__((always_inline)) inline std::string StackOfInlined() { return CurrentStack() + "|"; }

__attribute__((noinline)) std::string StackOfCaller() {
  return StackOfInlined() + "|";  // not a call that comes last
}

TEST(SymbolizerTest, ShowsInlinedCalls) {
  EXPECT_THAT(StackOfCaller(), ContainsRegex("StackOfInlined\\(\\.\\.\\.\\)\n"
                                             "\t[^\n]*goroutines_test.cc:[0-9]+\n"
                                             "[^\n]*StackOfCaller\\(\\.\\.\\.\\)\n"
                                             "\t[^\n]*goroutines_test.cc:[0-9]+ "));
}

TEST(GoroutinesTest, DB05_OwnAndAllStacksStartWithGoroutine) {
  EXPECT_THAT(CurrentStack(), StartsWith("thread "));
  RunOnGoroutine([] {
    EXPECT_THAT(CurrentStack(),
                StartsWith(absl::StrCat("goroutine ", GoroutineId(), " [running]:\n")));
    EXPECT_THAT(FormatGoroutines(GetGoroutineTraces()), StartsWith("goroutine "));
  });
}

TEST(GoroutinesTest, ShowsEachStateWithItsFrames) {
  ForEachMaxProcs([] {
    std::atomic<uint64_t> receiver{0}, locked{0}, blocked{0}, spinner{0}, sleeper{0}, mutexer{0};
    std::atomic<bool> stop{false};
    std::atomic<int> left{6};
    const Chan<int> c(0);
    Mutex mutex;
    mutex.Lock();
    Go([&] {
      receiver.store(GoroutineId());
      WaitInHere(c);
      left.fetch_sub(1);
    });
    Go([&] {
      LockOSThread();
      locked.store(GoroutineId());
      WaitInHere(c);
      UnlockOSThread();
      left.fetch_sub(1);
    });
    Go([&] {
      const BlockingSection section;
      blocked.store(GoroutineId());
      while (!stop.load()) usleep(1000);
      left.fetch_sub(1);
    });
    Go([&] {
      sleeper.store(GoroutineId());
      while (!stop.load()) Sleep(absl::Milliseconds(20));
      left.fetch_sub(1);
    });
    Go([&] {
      mutexer.store(GoroutineId());
      mutex.Lock();
      mutex.Unlock();
      left.fetch_sub(1);
    });
    Go([&] {
      spinner.store(GoroutineId());
      while (!stop.load()) {
      }
      left.fetch_sub(1);
    });
    std::vector<GoroutineTrace> traces;
    std::string headers;
    // A thread that blocks may be late to answer, and the dump does not wait for it for long.
    const auto has_frames = [&](const std::atomic<uint64_t>& id) {
      return std::any_of(traces.begin(), traces.end(), [&](const GoroutineTrace& trace) {
        return trace.goroutine.id == id.load() && !trace.unavailable;
      });
    };
    const auto is = [&](const std::atomic<uint64_t>& id, const char* state) {
      return absl::StartsWith(Of(headers, id.load()),
                              absl::StrCat("goroutine ", id.load(), " [", state, "]:"));
    };
    EXPECT_TRUE(Eventually([&] {
      traces = GetGoroutineTraces({.signal = DefaultTraceSignal()});
      headers = Headers(traces);
      return is(receiver, "chan receive") && is(locked, "chan receive, locked to thread") &&
             is(blocked, "syscall") && (has_frames(blocked) || kSignalsAreLate) &&
             is(sleeper, "sleep") && is(mutexer, "sync.Mutex.Lock") &&
             (is(spinner, "running") || is(spinner, "preempted") || is(spinner, "runnable"));
    })) << headers;
    const std::string dump = FormatGoroutines(traces);
    for (const std::atomic<uint64_t>* id : {&receiver, &locked}) {
      EXPECT_THAT(Of(dump, id->load()), Not(HasSubstr("LeaveStack")));
      EXPECT_THAT(Of(dump, id->load()), HasSubstr("WaitInHere(...)\n\t"));
      EXPECT_THAT(Of(dump, id->load()),
                  ContainsRegex("goroutines_test.cc:[0-9]+ [+]0x[0-9a-f]+\n"));
    }
    for (const std::atomic<uint64_t>* id : {&receiver, &locked, &sleeper, &mutexer, &blocked}) {
      if (id == &blocked && kSignalsAreLate) continue;
      EXPECT_THAT(Of(dump, id->load()), HasSubstr("\ncreated by "));
      EXPECT_THAT(Of(dump, id->load()), HasSubstr("goroutines_test.cc:"));
      EXPECT_THAT(Of(dump, id->load()), Not(HasSubstr("unavailable")));
    }
    stop.store(true);
    c.Close();
    mutex.Unlock();
    EXPECT_TRUE(Eventually([&] { return left.load() == 0 && NumGoroutine() == 0; }));
  });
}

TEST(GoroutinesTest, ThoseThatRunAreSampledWhereTheyAre) {
  if (kSignalsAreLate) GTEST_SKIP() << "signals come late under ThreadSanitizer";
  SetMaxProcs(2);
  std::atomic<uint64_t> id{0};
  std::atomic<bool> stop{false};
  std::atomic<bool> ended{false};
  Go([&] {
    id.store(GoroutineId());
    while (!stop.load()) {
    }
    ended.store(true);
  });
  ASSERT_TRUE(Eventually([&] { return id.load() != 0; }));
  EXPECT_TRUE(Eventually([&] {
    const std::string text =
        Of(FormatGoroutines(GetGoroutineTraces({.signal = DefaultTraceSignal()})), id.load());
    return absl::StrContains(text, "goroutines_test.cc:") &&
           !absl::StrContains(text, "unavailable");
  }));
  // Without a signal nobody asks.
  EXPECT_THAT(Of(FormatGoroutines(GetGoroutineTraces()), id.load()),
              HasSubstr("\tgoroutine running on other thread; stack unavailable\n"));
  stop.store(true);
  EXPECT_TRUE(Eventually([&] { return ended.load(); }));
}

TEST(GoroutinesTest, OfADeepStackTheMiddleIsLeftOut) {
  static Chan<int> c;
  c = Chan<int>(0);
  struct Deep {
    static __attribute__((noinline)) int Down(int n) {
      if (n == 0) return c.Recv().value_or(1);
      const int below = Down(n - 1);
      asm volatile("" ::"r"(below));
      return below + 1;
    }
  };
  std::atomic<bool> ended{false};
  std::atomic<uint64_t> id{0};
  Go([&] {
    id.store(GoroutineId());
    Deep::Down(1000);
    ended.store(true);
  });
  std::vector<GoroutineTrace> traces;
  EXPECT_TRUE(Eventually([&] {
    traces = GetGoroutineTraces();
    return absl::StrContains(Of(Headers(traces), id.load()), "[chan receive]");
  }));
  const std::string text = Of(FormatGoroutines(traces), id.load());
  EXPECT_THAT(text, ContainsRegex("\n[.]{3}9[0-9][0-9] frames elided[.]{3}\n"));
  c.Close();
  EXPECT_TRUE(Eventually([&] { return ended.load(); }));
}

TEST(GoroutinesTest, GroupsThoseThatAreAlike) {
  const Chan<int> c(0);
  std::atomic<int> left{20};
  for (int i = 0; i < 20; ++i) {
    Go([&] {
      WaitInHere(c);
      left.fetch_sub(1);
    });
  }
  std::vector<GoroutineTrace> traces;
  EXPECT_TRUE(Eventually([&] {
    traces = GetGoroutineTraces();
    return absl::StartsWith(Headers(traces, /*group=*/true), "20 goroutines [chan receive]: ");
  }));
  const std::string text = FormatGoroutines(traces, /*group=*/true);
  EXPECT_THAT(text, StartsWith("20 goroutines [chan receive]: "));
  EXPECT_EQ(std::vector<std::string>(absl::StrSplit(text, "WaitInHere(")).size(), 2u) << text;
  c.Close();
  EXPECT_TRUE(Eventually([&] { return left.load() == 0 && NumGoroutine() == 0; }));
}

TEST(GoroutinesTest, SaysForHowLongTheyWait) {
  const Chan<int> c(0);
  std::atomic<uint64_t> id{0};
  std::atomic<bool> ended{false};
  Go([&] {
    id.store(GoroutineId());
    WaitInHere(c);
    ended.store(true);
  });
  const auto waiting = [&] {
    for (const GoroutineTrace& trace : GetGoroutineTraces()) {
      if (trace.goroutine.id == id.load() && trace.goroutine.status == 4) return trace.waiting;
    }
    return absl::InfiniteDuration();
  };
  ASSERT_TRUE(Eventually([&] { return waiting() == absl::ZeroDuration(); })) << "nobody looked yet";
  const Instant before = Instant::Now();
  NoteWaits();
  EXPECT_TRUE(Eventually([&] { return waiting() > absl::Milliseconds(5); }));
  NoteWaits();
  const absl::Duration waited = waiting();
  EXPECT_GE(waited, absl::Milliseconds(5)) << "it is the same wait";
  EXPECT_LE(waited, Instant::Now() - before);
  c.Close();
  EXPECT_TRUE(Eventually([&] { return ended.load(); }));

  std::vector<GoroutineTrace> traces(1);
  traces[0].goroutine.id = 7;
  traces[0].goroutine.status = 4;
  traces[0].goroutine.wait_reason = "chan receive";
  traces[0].waiting = absl::Seconds(179);
  EXPECT_THAT(FormatGoroutines(traces), StartsWith("goroutine 7 [chan receive, 2 minutes]:\n"));
  traces[0].waiting = absl::Seconds(59);
  EXPECT_THAT(FormatGoroutines(traces), StartsWith("goroutine 7 [chan receive]:\n"));
}

TEST(GoroutinesTest, MayBeTakenWhileAllComesAndGoes) {
  ForEachMaxProcs([] {
    std::atomic<bool> stop{false};
    std::atomic<int> left{4};
    for (int i = 0; i < 4; ++i) {
      Go([&, i] {
        while (!stop.load()) {
          // On a busy machine they come faster than they go.
          if (NumGoroutine() < 1000) Go([] { Sleep(absl::Microseconds(20)); });
          if (i == 0) {
            const BlockingSection section;
          }
          if (i == 1) Sleep(absl::Microseconds(10));
          Yield();
        }
        left.fetch_sub(1);
      });
    }
    for (int i = 0; i < Rounds(100); ++i) {
      for (const GoroutineTrace& trace : GetGoroutineTraces({.signal = DefaultTraceSignal()})) {
        EXPECT_NE(trace.goroutine.id, 0u);
        EXPECT_LE(trace.frames.size(), 100u);
      }
    }
    stop.store(true);
    EXPECT_TRUE(Eventually([&] { return left.load() == 0 && NumGoroutine() == 0; }));
  });
}

TEST(SigquitTest, DB08_PrintsAllStacksAndEndsTheProgram) {
  if (!IsTurn("DB08", 4)) GTEST_SKIP() << "in every fourth repetition";
  for (const char* procs : AllInTurn({"1", "4"}, 16)) {
    const ProcessResult result = RunProcess({"debug/goroutines_program", "quit"},
                                            {.env = {absl::StrCat("WEFTMAXPROCS=", procs)}});
    EXPECT_EQ(result.exit_status, 2) << result.signal;
    EXPECT_EQ(result.out, "ready\n");
    EXPECT_THAT(result.err, StartsWith("SIGQUIT: quit\n\ngoroutine 1 ["));
    EXPECT_THAT(result.err, HasSubstr("ReceiveForEver("));
    EXPECT_THAT(result.err, HasSubstr("goroutines_program.cc:"));
    if (kSignalsAreLate) continue;
    EXPECT_THAT(result.err, HasSubstr("ComputeForEver("));
    EXPECT_THAT(result.err, HasSubstr("BlockForEver("));
    EXPECT_THAT(result.err, Not(HasSubstr("unavailable")));
  }
}

// Where no runtime runs.
TEST(SigquitTest, EndsTheChildOfAFork) {
  if (!IsTurn("fork", 4)) GTEST_SKIP() << "in every fourth repetition";
  const ProcessResult result = RunProcess({"debug/goroutines_program", "fork"});
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_EQ(result.out, "signal 3\n");
}

TEST(SigquitTest, WhoIgnoresItGoesOn) {
  if (!IsTurn("ignore", 4)) GTEST_SKIP() << "in every fourth repetition";
  const ProcessResult result = RunProcess({"debug/goroutines_program", "ignore"});
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_EQ(result.out, "ready\n");
  EXPECT_EQ(result.err, "");
}

}  // namespace
}  // namespace weft::debug
