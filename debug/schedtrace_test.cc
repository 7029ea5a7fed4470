// The line's grammar and what its numbers promise: DB-01 and DB-02 of the list of Go's behaviours.
#include "debug/schedtrace.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft::debug {
namespace {

using weft::testing::AllInTurn;
using weft::testing::ProcessResult;
using weft::testing::Rounds;
using weft::testing::RunProcess;

struct Line {
  std::string text;
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
  line.text = std::string(text);
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

const int kPeriod = Rounds(20, 4);
const int kLines = Rounds(20, 8);

// The `count` lines of a traced run of `mode` from the first on that contains all of `since`. Every
// line obeys the rules, the first is at 0ms, and no more come than there are periods.
std::vector<Line> Trace(const std::string& mode, int period, int procs, int count,
                        const std::vector<std::string>& since = {}) {
  std::vector<std::string> argv = {"debug/schedtrace_program", mode, absl::StrCat(count)};
  argv.insert(argv.end(), since.begin(), since.end());
  const Instant start = Instant::Now();
  const ProcessResult result =
      RunProcess(argv, {.env = {absl::StrCat("WEFTDEBUG=schedtrace=", period),
                                absl::StrCat("WEFTMAXPROCS=", procs)}});
  const absl::Duration took = Instant::Now() - start;
  EXPECT_EQ(result.exit_status, 0) << result.err;
  const std::vector<Line> lines = ParseAll(result.err);
  int first;
  if (!absl::SimpleAtoi(absl::StripSuffix(result.out, "\n"), &first) || first < 0 ||
      static_cast<int>(lines.size()) < first + count) {
    ADD_FAILURE() << lines.size() << " lines, counted from '" << result.out << "'";
    return {};
  }
  EXPECT_EQ(lines.front().milliseconds, 0);
  for (size_t i = 0; i < lines.size(); ++i) {
    SCOPED_TRACE(absl::StrCat(mode, ", line ", i));
    ExpectInvariants(lines[i]);
    if (i > 0) EXPECT_GE(lines[i].milliseconds, lines[i - 1].milliseconds);
  }
  // Periods are counted from when a line was due, so a late line makes the next gap shorter. But
  // none may come before its own time.
  EXPECT_GE(took, static_cast<int64_t>(lines.size() - 1) * absl::Milliseconds(period));
  return {lines.begin() + first, lines.begin() + first + count};
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

// The only thing running is the monitor, and it goes on. Once all threads have gone to sleep
// nothing wakes one.
TEST(SchedTraceTest, TicksWhileAllIsIdle) {
  for (const int procs : AllInTurn({1, 2, 8})) {
    // A thread that has given up its P may still count as spinning for a moment, but none begins.
    const std::string settled = absl::StrCat(" idleprocs=", procs, " ");
    for (const Line& line :
         Trace("idle", kPeriod, procs, kLines, {settled, " spinningthreads=0 "})) {
      EXPECT_EQ(line.max_procs, procs);
      EXPECT_EQ(line.idle_procs, procs) << line.text;
      EXPECT_EQ(line.global_queue, 0);
      for (const int size : line.queues) EXPECT_EQ(size, 0);
      EXPECT_EQ(line.spinning, 0);
    }
  }
}

TEST(SchedTraceTest, TicksUnderLoad) {
  for (const int procs : AllInTurn({1, 2, 4})) {
    int queued = 0;
    for (const Line& line : Trace("busy", kPeriod, procs, kLines)) {
      queued += line.global_queue;
      for (const int size : line.queues) queued += size;
    }
    EXPECT_GT(queued, 0) << "51 goroutines on so few Ps never showed in a queue";
  }
}

// Nobody calls the runtime: only a thread of its own can print.
TEST(SchedTraceTest, TicksWhileEveryPIsHogged) {
  for (const int procs : AllInTurn({1, 2})) {
    for (const Line& line : Trace("hog", kPeriod, procs, kLines, {" idleprocs=0 "})) {
      EXPECT_EQ(line.idle_procs, 0) << line.text;
    }
  }
}

TEST(SchedTraceTest, InvariantsHoldWhilePsComeAndGo) { Trace("churn", 1, 4, 10 * kLines); }

TEST(SchedTraceTest, WorksWithoutMain) { Trace("embedded", kPeriod, 2, kLines); }

TEST(SchedTraceTest, LongPeriodPrintsOnlyTheFirstLine) {
  EXPECT_EQ(Trace("short", 100'000, 2, 1).size(), 1u);
}

TEST(SchedTraceTest, ZeroAndUnsetPrintNothing) {
  EXPECT_EQ(RunProcess({"debug/schedtrace_program", "short", "0"}).err, "");
  const ProcessResult zero =
      RunProcess({"debug/schedtrace_program", "short", "0"}, {.env = {"WEFTDEBUG=schedtrace=0"}});
  EXPECT_EQ(zero.exit_status, 0);
  EXPECT_EQ(zero.err, "");
}

TEST(SchedTraceTest, BadValuesAreRefusedInOneLine) {
  for (const std::string& value :
       AllInTurn<std::string>({"", "x", "-1", "1.5", "10x", "99999999999"})) {
    const ProcessResult result = RunProcess({"debug/schedtrace_program", "short", "0"},
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
      RunProcess({"debug/schedtrace_program", "short", "0"}, {.env = {"WEFTDEBUG=shedtrace=100"}});
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
  // On a busy machine it may be over before the second line.
  size_t lines = 0;
  for (int run = 0; lines < 2 && run < 50; ++run) {
    const ProcessResult result =
        RunProcess({"debug/readme_example"}, {.env = {"WEFTDEBUG=schedtrace=100"}});
    EXPECT_EQ(result.exit_status, 0);
    lines = ParseAll(result.err).size();
    EXPECT_GE(lines, 1u);
  }
  EXPECT_GE(lines, 2u);
}

}  // namespace
}  // namespace weft::debug
