// The line's grammar and what its numbers promise: DB-01 and DB-02 of the list of Go's behaviours.
#include "debug/schedtrace.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft::debug {
namespace {

using weft::testing::AllInTurn;
using weft::testing::ProcessResult;
using weft::testing::Rounds;
using weft::testing::RunProcess;

struct Line {
  int64_t milliseconds;
  int max_procs, idle_procs, threads, spinning, idle_threads, global_queue;
  std::vector<int> queues;
};

// Takes "<name><number>" off the front of `text`.
bool Take(absl::string_view& text, absl::string_view name, int64_t* number) {
  if (!absl::ConsumePrefix(&text, name)) return false;
  size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  if (digits == 0 || !absl::SimpleAtoi(text.substr(0, digits), number)) return false;
  text.remove_prefix(digits);
  return true;
}

bool Take(absl::string_view& text, absl::string_view name, int* number) {
  int64_t wide;
  if (!Take(text, name, &wide)) return false;
  *number = static_cast<int>(wide);
  return true;
}

// A whole line without its newline, or nothing if it differs from the grammar in one character.
std::optional<Line> Parse(absl::string_view text) {
  Line line;
  if (!Take(text, "SCHED ", &line.milliseconds) ||
      !Take(text, "ms: gomaxprocs=", &line.max_procs) ||
      !Take(text, " idleprocs=", &line.idle_procs) || !Take(text, " threads=", &line.threads) ||
      !Take(text, " spinningthreads=", &line.spinning) ||
      !Take(text, " idlethreads=", &line.idle_threads) ||
      !Take(text, " runqueue=", &line.global_queue)) {
    return std::nullopt;
  }
  const char* separator = " [";
  for (int size; Take(text, separator, &size); separator = " ") line.queues.push_back(size);
  if (text != "]" || line.queues.empty()) return std::nullopt;
  return line;
}

// All SCHED lines of a process that has printed nothing else, in order.
std::vector<Line> ParseAll(const std::string& err) {
  std::vector<Line> lines;
  for (absl::string_view text : absl::StrSplit(err, '\n', absl::SkipEmpty())) {
    const std::optional<Line> line = Parse(text);
    EXPECT_TRUE(line.has_value()) << "not a SCHED line: " << text;
    if (line.has_value()) lines.push_back(*line);
  }
  return lines;
}

void ExpectInvariants(const Line& line) {
  EXPECT_EQ(static_cast<int>(line.queues.size()), line.max_procs);
  EXPECT_GE(line.idle_procs, 0);
  EXPECT_LE(line.idle_procs, line.max_procs);
  EXPECT_GE(line.threads, 1);  // the monitor
  EXPECT_LT(line.idle_threads, line.threads);
  EXPECT_GE(line.idle_threads, 0);
  EXPECT_LE(line.spinning, line.threads);
  EXPECT_GE(line.global_queue, 0);
  for (const int size : line.queues) {
    EXPECT_GE(size, 0);
    EXPECT_LE(size, 256);
  }
}

// Of most runs: 25 lines are due, of which a busy machine may swallow some, and more of a short
// run.
const int kPeriod = Rounds(20, 4);
const int kRunTime = 25 * kPeriod;
const size_t kFewest = static_cast<size_t>(Rounds(10, 3));

// How a traced run of `mode` looks: every line obeys the rules, the first is at 0ms, and the rest
// come about every `period`.
std::vector<Line> Trace(const std::string& mode, int period, int run_milliseconds, int procs) {
  const ProcessResult result =
      RunProcess({"debug/schedtrace_program", mode, absl::StrCat(run_milliseconds)},
                 {.env = {absl::StrCat("WEFTDEBUG=schedtrace=", period),
                          absl::StrCat("WEFTMAXPROCS=", procs)}});
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(result.out, "");
  const std::vector<Line> lines = ParseAll(result.err);
  if (lines.empty()) {
    ADD_FAILURE() << "no line at all";
    return lines;
  }
  EXPECT_EQ(lines.front().milliseconds, 0);
  for (size_t i = 0; i < lines.size(); ++i) {
    SCOPED_TRACE(absl::StrCat(mode, ", line ", i));
    ExpectInvariants(lines[i]);
    // Periods are counted from when a line was due, so a late line makes the next gap shorter. None
    // may come before its own time, bar a millisecond.
    EXPECT_GE(lines[i].milliseconds, static_cast<int64_t>(i) * period - 1);
    if (i > 0) EXPECT_GE(lines[i].milliseconds, lines[i - 1].milliseconds);
  }
  return lines;
}

TEST(SchedTraceTest, FormatIsExact) {
  SchedSnapshot snapshot;
  snapshot.max_procs = 4;
  snapshot.idle_procs = 0;
  snapshot.threads = 26;
  snapshot.spinning_threads = 0;
  snapshot.idle_threads = 20;
  snapshot.global_queue_size = 1;
  for (const int size : {3, 4, 0, 10}) {
    ProcSnapshot proc;
    proc.run_queue_size = size;
    snapshot.procs.push_back(proc);
  }
  EXPECT_EQ(FormatSchedTrace(snapshot, absl::Milliseconds(6016)),
            "SCHED 6016ms: gomaxprocs=4 idleprocs=0 threads=26 spinningthreads=0 idlethreads=20 "
            "runqueue=1 [3 4 0 10]\n");
  // Cut down, not rounded.
  EXPECT_TRUE(absl::StartsWith(FormatSchedTrace(snapshot, absl::Microseconds(1999)), "SCHED 1ms:"));
}

TEST(SchedTraceTest, ParserRefusesWhatDiffers) {
  const std::string good =
      "SCHED 0ms: gomaxprocs=1 idleprocs=1 threads=2 spinningthreads=0 idlethreads=0 runqueue=0 "
      "[0]";
  EXPECT_TRUE(Parse(good).has_value());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad.erase(i, 1);
    // Numbers may have any length, except that one must be there.
    if (good[i] >= '0' && good[i] <= '9') continue;
    EXPECT_FALSE(Parse(bad).has_value()) << bad;
  }
}

// A busy machine may keep the monitor from running for most of a run: one of a few has to do.
bool InOneOfFive(absl::FunctionRef<bool()> run) {
  for (int i = 0; i < 5; ++i) {
    if (run()) return true;
  }
  return false;
}

// The only thing running is the monitor, and it goes on.
TEST(SchedTraceTest, TicksWhileAllIsIdle) {
  for (const int procs : AllInTurn({1, 2, 8})) {
    EXPECT_TRUE(InOneOfFive([&] {
      const std::vector<Line> lines = Trace("idle", kPeriod, kRunTime, procs);
      // Once all threads have gone to sleep, nothing but the end of main's sleep wakes one. The
      // first line may come before main begins, or some time after.
      bool settled = false;
      for (size_t i = 1; i + 1 < lines.size(); ++i) {
        const Line& line = lines[i];
        EXPECT_EQ(line.max_procs, procs);
        // A line's state is of some time between its own and the next one's.
        if (lines[i + 1].milliseconds >= kRunTime / 2) break;
        settled |= line.idle_procs == procs && line.spinning == 0;
        if (!settled) continue;
        EXPECT_EQ(line.idle_procs, procs) << "at " << line.milliseconds << " ms";
        EXPECT_EQ(line.spinning, 0);
        EXPECT_EQ(line.global_queue, 0);
        for (const int size : line.queues) EXPECT_EQ(size, 0);
      }
      return lines.size() >= kFewest && settled;
    }));
  }
}

TEST(SchedTraceTest, TicksUnderLoad) {
  for (const int procs : AllInTurn({1, 2, 4})) {
    EXPECT_TRUE(InOneOfFive([&] {
      const std::vector<Line> lines = Trace("busy", kPeriod, kRunTime, procs);
      int queued = 0;
      for (const Line& line : lines) {
        queued += line.global_queue;
        for (const int size : line.queues) queued += size;
      }
      return lines.size() >= kFewest && queued > 0;
    })) << "51 goroutines on "
        << procs << " Ps never showed in a queue";
  }
}

// Nobody calls the runtime: only a thread of its own can print.
TEST(SchedTraceTest, TicksWhileEveryPIsHogged) {
  for (const int procs : AllInTurn({1, 2})) {
    EXPECT_TRUE(InOneOfFive([&] {
      size_t hogged = 0;
      for (const Line& line : Trace("hog", kPeriod, kRunTime, procs)) {
        if (line.idle_procs == 0) ++hogged;
      }
      return hogged >= kFewest / 2;
    }));
  }
}

TEST(SchedTraceTest, InvariantsHoldWhilePsComeAndGo) {
  EXPECT_TRUE(InOneOfFive([] { return Trace("churn", 1, kRunTime, 4).size() >= 5 * kFewest; }));
}

TEST(SchedTraceTest, WorksWithoutMain) {
  EXPECT_TRUE(
      InOneOfFive([] { return Trace("embedded", kPeriod, kRunTime, 2).size() >= kFewest; }));
}

TEST(SchedTraceTest, LongPeriodPrintsOnlyTheFirstLine) {
  EXPECT_EQ(Trace("idle", 100'000, 50, 2).size(), 1u);
}

TEST(SchedTraceTest, ZeroAndUnsetPrintNothing) {
  EXPECT_EQ(RunProcess({"debug/schedtrace_program", "idle", "20"}).err, "");
  const ProcessResult zero =
      RunProcess({"debug/schedtrace_program", "idle", "20"}, {.env = {"WEFTDEBUG=schedtrace=0"}});
  EXPECT_EQ(zero.exit_status, 0);
  EXPECT_EQ(zero.err, "");
}

TEST(SchedTraceTest, BadValuesAreRefusedInOneLine) {
  for (const std::string& value :
       AllInTurn<std::string>({"", "x", "-1", "1.5", "10x", "99999999999"})) {
    const ProcessResult result = RunProcess({"debug/schedtrace_program", "idle", "20"},
                                            {.env = {"WEFTDEBUG=schedtrace=" + value}});
    EXPECT_EQ(result.exit_status, 2) << value;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err, "WEFTDEBUG: schedtrace=" + value + ": '" + value +
                              "' is not a number of milliseconds from 1 to 2147483647, or 0 for no "
                              "trace\n");
  }
}

TEST(SchedTraceTest, UnknownSettingsAreRefusedWithTheKnownOnes) {
  const ProcessResult result =
      RunProcess({"debug/schedtrace_program", "idle", "20"}, {.env = {"WEFTDEBUG=shedtrace=100"}});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err,
              ::testing::MatchesRegex(
                  "WEFTDEBUG: shedtrace=100: no such setting in this program, which has: "
                  "(.*, )?schedtrace(, .*)?\n"));
}

TEST(SchedTraceTest, WriteIsOneWholeLine) {
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC | O_DIRECT), 0);  // O_DIRECT: a packet for each write
  for (int i = 0; i < 3; ++i) {
    WriteSchedTrace(fds[1]);
    char buffer[4096];
    const ssize_t n = read(fds[0], buffer, sizeof(buffer));
    ASSERT_GT(n, 0);
    const absl::string_view text(buffer, static_cast<size_t>(n));
    ASSERT_EQ(text.back(), '\n');
    const std::optional<Line> line = Parse(text.substr(0, text.size() - 1));
    ASSERT_TRUE(line.has_value()) << text;
    ExpectInvariants(*line);
    if (i == 0) EXPECT_EQ(line->milliseconds, 0);
  }
  close(fds[0]);
  close(fds[1]);
}

TEST(SchedTraceTest, FullPipeLosesLinesAndHoldsNobodyUp) {
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  fcntl(fds[1], F_SETPIPE_SZ, 4096);
  for (int i = 0; i < 1000; ++i) WriteSchedTrace(fds[1]);  // would block for ever
  close(fds[0]);
  close(fds[1]);
}

// What the README shows.
TEST(SchedTraceTest, ReadmeExampleTraces) {
  const ProcessResult result =
      RunProcess({"debug/readme_example"}, {.env = {"WEFTDEBUG=schedtrace=100"}});
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_GE(ParseAll(result.err).size(), 2u);
}

}  // namespace
}  // namespace weft::debug
