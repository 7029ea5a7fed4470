// Traces with all details: the grammar of each line, what the lines say of a program whose state is
// known, and the one that a fatal error prints first (DB-04).
#include <stdio.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "debug/schedtrace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/snapshot.h"
#include "sched/testing.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft::debug {
namespace {

using weft::testing::AllInTurn;
using weft::testing::Eventually;
using weft::testing::ForEachMaxProcs;
using weft::testing::ProcessResult;
using weft::testing::Rounds;
using weft::testing::RunOnGoroutine;
using weft::testing::RunProcess;

struct Header {
  int64_t milliseconds, procs, idle_procs, threads, spinning, idle_threads, global_queue;
  int64_t stopping, idle_locked, stop_wait, monitor_waits;
};
struct Proc {
  int64_t status, schedtick, syscalltick, m, queue, free;
};
struct Thread {
  int64_t p, goroutine, sections, locked_goroutine;
  bool spinning, idle;
};
struct Goroutine {
  int64_t status, m, locked_m;
  std::string reason;
};

struct Trace {
  Header header;
  std::map<int64_t, Proc> procs;
  std::map<int64_t, Thread> threads;
  std::map<int64_t, Goroutine> goroutines;
};

const std::regex kHeader(
    R"(SCHED (\d+)ms: gomaxprocs=(\d+) idleprocs=(\d+) threads=(\d+) spinningthreads=(\d+) )"
    R"(idlethreads=(\d+) runqueue=(\d+) gcwaiting=([01]) nmidlelocked=(\d+) stopwait=(\d+) )"
    R"(sysmonwait=([01]))");
const std::regex kProc(
    R"(  P(\d+): status=([0-4]) schedtick=(\d+) syscalltick=(\d+) m=(-1|\d+) runqsize=(\d+) )"
    R"(gfreecnt=(\d+))");
const std::regex kThread(
    R"(  M(\d+): p=(-1|\d+) curg=(-1|\d+) mallocing=0 throwing=0 preemptoff= locks=(\d+) dying=0 )"
    R"(helpgc=0 spinning=(true|false) blocked=(true|false) lockedg=(-1|\d+))");
const std::regex kGoroutine(
    R"(  G(\d+): status=(\d)\(([a-z A-Z()]*)\) m=(-1|\d+) lockedm=(-1|\d+))");

std::vector<int64_t> Numbers(const std::smatch& match) {
  std::vector<int64_t> numbers;
  for (size_t i = 1; i < match.size(); ++i) {
    numbers.push_back(std::strtoll(match[i].str().c_str(), nullptr, 10));
  }
  return numbers;
}

// Whole traces, one after the other; lines that are of none are failures.
std::vector<Trace> Parse(const std::string& text) {
  std::vector<Trace> traces;
  for (const std::string& line :
       std::vector<std::string>(absl::StrSplit(text, '\n', absl::SkipEmpty()))) {
    std::smatch match;
    if (std::regex_match(line, match, kHeader)) {
      const std::vector<int64_t> n = Numbers(match);
      traces.push_back(
          {.header = {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10]},
           .procs = {},
           .threads = {},
           .goroutines = {}});
      continue;
    }
    bool is_new = false;
    if (traces.empty()) {
      ADD_FAILURE() << "before the first header: " << line;
      continue;
    }
    Trace& trace = traces.back();
    if (std::regex_match(line, match, kProc)) {
      const std::vector<int64_t> n = Numbers(match);
      EXPECT_TRUE(trace.threads.empty() && trace.goroutines.empty()) << line;
      is_new = trace.procs.insert({n[0], {n[1], n[2], n[3], n[4], n[5], n[6]}}).second;
    } else if (std::regex_match(line, match, kThread)) {
      const std::vector<int64_t> n = Numbers(match);
      EXPECT_TRUE(trace.goroutines.empty()) << line;
      is_new = trace.threads
                   .insert({n[0], {n[1], n[2], n[3], n[6], match[5] == "true", match[6] == "true"}})
                   .second;
    } else if (std::regex_match(line, match, kGoroutine)) {
      const std::vector<int64_t> n = Numbers(match);
      is_new = trace.goroutines.insert({n[0], {n[1], n[3], n[4], match[3]}}).second;
    } else {
      ADD_FAILURE() << "of no form: " << line;
      continue;
    }
    EXPECT_TRUE(is_new) << "twice: " << line;
  }
  return traces;
}

// What holds of a trace of a program that works meanwhile.
void ExpectInvariants(const Trace& trace) {
  EXPECT_EQ(static_cast<int64_t>(trace.procs.size()), trace.header.procs);
  EXPECT_LE(trace.header.idle_procs, trace.header.procs);
  EXPECT_LT(trace.header.idle_threads, trace.header.threads);
  for (const auto& [id, g] : trace.goroutines) {
    EXPECT_THAT(g.status, ::testing::AnyOf(1, 2, 3, 4, 9)) << id;
    EXPECT_EQ(g.reason.empty(), g.status != 4) << id;
  }
  for (const auto& [id, m] : trace.threads) {
    EXPECT_FALSE(m.spinning && m.idle) << "sleeps, and looks for work: M" << id;
  }
}

// By a file, as a pipe may not take it whole.
std::string Written() {
  FILE* file = tmpfile();
  EXPECT_NE(file, nullptr);
  WriteSchedTrace(fileno(file), SnapshotDetail::kAll);
  const off_t size = lseek(fileno(file), 0, SEEK_END);
  EXPECT_GT(size, 0);
  std::string text(static_cast<size_t>(size), '\0');
  EXPECT_EQ(pread(fileno(file), text.data(), text.size(), 0), size);
  fclose(file);
  return text;
}

TEST(SchedDetailTest, FormatIsExact) {
  SchedSnapshot snapshot;
  snapshot.max_procs = 4;
  snapshot.threads = 13;
  snapshot.idle_threads = 7;
  snapshot.global_queue_size = 6;
  ProcSnapshot proc;
  proc.id = 1;
  proc.status = 1;
  proc.schedtick = 2356;
  proc.syscalltick = 19060;
  proc.m = 11;
  proc.run_queue_size = 11;
  snapshot.procs.push_back(proc);
  ThreadSnapshot thread;
  thread.id = 11;
  thread.p = 1;
  thread.goroutine = 6160;
  thread.runtime_sections = 2;
  snapshot.thread_list.push_back(thread);
  GoroutineSnapshot goroutine;
  goroutine.id = 1;
  goroutine.status = 4;
  goroutine.wait_reason = "chan receive";
  snapshot.goroutine_list.push_back(goroutine);
  EXPECT_EQ(FormatSchedDetail(snapshot, absl::Milliseconds(1002)),
            "SCHED 1002ms: gomaxprocs=4 idleprocs=0 threads=13 spinningthreads=0 idlethreads=7 "
            "runqueue=6 gcwaiting=0 nmidlelocked=0 stopwait=0 sysmonwait=0\n"
            "  P1: status=1 schedtick=2356 syscalltick=19060 m=11 runqsize=11 gfreecnt=0\n"
            "  M11: p=1 curg=6160 mallocing=0 throwing=0 preemptoff= locks=2 dying=0 helpgc=0 "
            "spinning=false blocked=false lockedg=-1\n"
            "  G1: status=4(chan receive) m=-1 lockedm=-1\n");
}

TEST(SchedDetailTest, SaysWhereEachGoroutineIs) {
  ForEachMaxProcs([] {
    std::atomic<uint64_t> receiver{0}, blocked{0}, locked{0}, writer{0}, queued{0};
    std::atomic<bool> stop{false};
    std::atomic<int> left{3};
    Chan<int> never(0);
    Go([&] {
      receiver.store(GoroutineId());
      never.Recv();
      left.fetch_sub(1);
    });
    Go([&] {
      const BlockingSection section;
      blocked.store(GoroutineId());
      while (!stop.load()) usleep(1000);
      left.fetch_sub(1);
    });
    Go([&] {
      LockOSThread();
      locked.store(GoroutineId());
      never.Recv();
      UnlockOSThread();
      left.fetch_sub(1);
    });
    Trace trace;
    const auto find = [&](const std::atomic<uint64_t>& id) -> const Goroutine* {
      const auto found = trace.goroutines.find(static_cast<int64_t>(id.load()));
      return found == trace.goroutines.end() ? nullptr : &found->second;
    };
    // Threads and goroutines are looked at one after the other, and move meanwhile.
    std::string text;
    EXPECT_TRUE(Eventually([&] {
      text = Written();
      trace = Parse(text).at(0);
      const Goroutine* a = find(receiver);
      const Goroutine* b = find(blocked);
      const Goroutine* c = find(locked);
      return a != nullptr && a->status == 4 && a->reason == "chan receive" && a->m == -1 &&
             a->locked_m == -1 && b != nullptr && b->status == 3 &&
             trace.threads.count(b->m) == 1 &&
             trace.threads[b->m].goroutine == static_cast<int64_t>(blocked.load()) &&
             c != nullptr && c->status == 4 && c->m == -1 &&
             trace.threads.count(c->locked_m) == 1 &&
             trace.threads[c->locked_m].locked_goroutine == static_cast<int64_t>(locked.load());
    })) << text;
    ExpectInvariants(trace);

    // Who writes it runs; what it has just started waits in its P's queue, or runs on another.
    EXPECT_TRUE(Eventually([&] {
      queued.store(0);
      RunOnGoroutine([&] {
        writer.store(GoroutineId());
        Go([&] { queued.store(GoroutineId()); });
        trace = Parse(Written()).at(0);
      });
      while (queued.load() == 0) Yield();
      const Goroutine* w = find(writer);
      const Goroutine* q = find(queued);
      return w != nullptr && w->status == 2 && trace.threads.count(w->m) == 1 &&
             trace.threads[w->m].goroutine == static_cast<int64_t>(writer.load()) &&
             (MaxProcs() > 1 || (q != nullptr && q->status == 1 && q->m == -1));
    }));
    stop.store(true);
    never.Close();
    ASSERT_TRUE(Eventually([&] { return left.load() == 0 && NumGoroutine() == 0; }));
    EXPECT_TRUE(Parse(Written()).at(0).goroutines.empty());
  });
}

TEST(SchedDetailTest, EachTraceOfARunIsWhole) {
  for (const char* procs : AllInTurn<const char*>({"1", "2", "4"})) {
    const ProcessResult result = RunProcess(
        {"debug/schedtrace_program", "idle", "100"},
        {.env = {"WEFTDEBUG=schedtrace=5,scheddetail=1", absl::StrCat("WEFTMAXPROCS=", procs)}});
    EXPECT_EQ(result.exit_status, 0);
    std::vector<Trace> traces = Parse(result.err);
    // The program may have ended in the middle of the last one.
    ASSERT_GE(traces.size(), 3u) << result.err;
    traces.pop_back();
    EXPECT_EQ(traces[0].header.milliseconds, 0);
    for (const Trace& trace : traces) {
      ExpectInvariants(trace);
      EXPECT_EQ(absl::StrCat(trace.header.procs), procs);
    }
    // Main sleeps.
    EXPECT_TRUE(traces.back().goroutines.count(1)) << result.err;
  }
}

TEST(SchedDetailTest, DB04_AFatalErrorPrintsADetailedTraceFirst) {
  const std::map<std::string, std::string> ends = {
      {"deadlock", "fatal error: all goroutines are asleep - deadlock!\n"},
      {"throw", "panic: thrown\n"},
      {"fatal", "fatal error: this is the end\n"}};
  for (const auto& [mode, message] : ends) {
    for (const char* setting :
         AllInTurn<const char*>({"schedtrace=100000", "scheddetail=1", "schedtrace=0"})) {
      SCOPED_TRACE(mode + " " + setting);
      const ProcessResult result = RunProcess({"debug/schedtrace_program", mode, "0"},
                                              {.env = {absl::StrCat("WEFTDEBUG=", setting)}});
      EXPECT_EQ(result.exit_status, 2);
      const size_t report = result.err.find(message);
      ASSERT_NE(report, std::string::npos) << result.err;
      const std::string before = result.err.substr(0, report);
      if (absl::EndsWith(setting, "=0")) {
        EXPECT_EQ(before, "");
        continue;
      }
      // The first one of the steady ones, which may have been under way, has no details.
      std::string detailed;
      for (const absl::string_view line : absl::StrSplit(before, '\n', absl::SkipEmpty())) {
        if (!absl::EndsWith(line, "]")) absl::StrAppend(&detailed, line, "\n");
      }
      const std::vector<Trace> traces = Parse(detailed);
      ASSERT_EQ(traces.size(), 1u) << result.err;
      ASSERT_TRUE(traces[0].goroutines.count(1)) << result.err;
      EXPECT_EQ(traces[0].goroutines.at(1).status, mode == "deadlock" ? 4 : 2);
      EXPECT_EQ(traces[0].goroutines.size(), mode == "deadlock" ? 2u : 1u);
    }
  }
}

TEST(SchedDetailTest, BadValuesAreRefusedInOneLine) {
  const ProcessResult result = RunProcess({"debug/schedtrace_program", "short", "0"},
                                          {.env = {"WEFTDEBUG=scheddetail=yes"}});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_EQ(result.err,
            "WEFTDEBUG: scheddetail=yes: 'yes' is not 1, for traces with a line for each P, M and "
            "G, or 0\n");
}

TEST(SchedDetailTest, MayBeTakenWhileAllComesAndGoes) {
  ForEachMaxProcs([] {
    std::atomic<bool> stop{false};
    std::atomic<int> left{4};
    for (int i = 0; i < 4; ++i) {
      Go([&, i] {
        while (!stop.load()) {
          // On a busy machine they come faster than they go.
          if (NumGoroutine() < 1000) Go([] { Sleep(absl::Microseconds(20)); });
          if (i == 0) LockOSThread();
          Sleep(absl::Microseconds(10));
          if (i == 0) UnlockOSThread();
        }
        left.fetch_sub(1);
      });
    }
    for (int i = 0; i < Rounds(300); ++i) {
      const std::vector<Trace> traces = Parse(Written());
      ASSERT_EQ(traces.size(), 1u);
      for (const auto& [id, g] : traces[0].goroutines) {
        EXPECT_EQ(g.reason.empty(), g.status != 4) << id;
      }
    }
    stop.store(true);
    EXPECT_TRUE(Eventually([&] { return left.load() == 0 && NumGoroutine() == 0; }));
  });
}

}  // namespace
}  // namespace weft::debug
