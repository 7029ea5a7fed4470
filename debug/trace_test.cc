// The execution trace as it is written: its form, what it says of a program that is known, and the
// settings by which it is asked for.
#include "debug/trace.h"

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
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

namespace weft::debug {
namespace {

using ::testing::HasSubstr;
using weft::testing::ForEachMaxProcs;
using weft::testing::ProcessResult;
using weft::testing::RunOnGoroutine;
using weft::testing::RunProcess;

constexpr char kProgram[] = "debug/trace_program";

// Whether a text is one JSON value: objects, arrays, strings, numbers, true, false and null.
class JsonReader {
 public:
  explicit JsonReader(const std::string& text) : at_(text.data()), end_(at_ + text.size()) {}
  bool IsOneValue() { return Value() && (Blank(), at_ == end_); }

 private:
  void Blank() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n')) ++at_;
  }
  bool Take(char c) {
    Blank();
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  bool Word(absl::string_view word) {
    if (!absl::StartsWith({at_, static_cast<size_t>(end_ - at_)}, word)) return false;
    at_ += word.size();
    return true;
  }
  bool String() {
    if (!Take('"')) return false;
    for (; at_ < end_ && *at_ != '"'; ++at_) {
      if (static_cast<unsigned char>(*at_) < 0x20) return false;
      if (*at_ != '\\') continue;
      if (++at_ == end_ || std::string("\"\\/bfnrtu").find(*at_) == std::string::npos) return false;
    }
    return Take('"');
  }
  template <typename Item>
  bool List(char end, Item item) {
    if (Take(end)) return true;
    do {
      if (!item()) return false;
    } while (Take(','));
    return Take(end);
  }
  bool Value() {
    Blank();
    if (at_ == end_) return false;
    if (*at_ == '"') return String();
    if (Take('{')) return List('}', [&] { return String() && Take(':') && Value(); });
    if (Take('[')) return List(']', [&] { return Value(); });
    if (Word("true") || Word("false") || Word("null")) return true;
    char* after;
    std::strtod(at_, &after);
    const bool some = after != at_;
    at_ = after;
    return some;
  }

  const char* at_;
  const char* const end_;
};

struct Slice {
  int64_t begin;  // nanoseconds
  int64_t end;
  std::string category;
  std::string name;
  std::string args;
};

// The parts of a written trace that tests look at.
struct Written {
  std::string text;
  std::map<std::pair<int, int64_t>, std::vector<Slice>> tracks;  // process, track
  std::map<std::pair<int, int64_t>, std::string> names;
  std::map<int64_t, int64_t> arrows_begin;
  std::map<int64_t, int64_t> arrows_end;
  int64_t length = 0;
  std::string other;
};

int64_t Nanos(const std::string& micros) {
  const size_t point = micros.find('.');
  return std::strtoll(micros.c_str(), nullptr, 10) * 1000 +
         std::strtoll(micros.c_str() + point + 1, nullptr, 10);
}

Written Read(const std::string& text) {
  static const std::regex slice(
      R"re(\{"ph":"X","pid":(\d+),"tid":(\d+),"ts":(\d+\.\d{3}),"dur":(\d+\.\d{3}),)re"
      R"re("cat":"([^"]*)","name":"((?:[^"\\]|\\.)*)","args":\{(.*)\}\},)re");
  static const std::regex name(
      R"re(\{"ph":"M","pid":(\d+),"tid":(\d+),"name":"thread_name","args":\{"name":"(.*)"\}\},)re");
  static const std::regex arrow(
      R"re(\{"ph":"([sf])",.*"id":(\d+),"pid":1,"tid":\d+,"ts":(\d+\.\d{3})\},)re");
  static const std::regex end(R"re(.*"otherData":(\{.*"length_us":"(\d+\.\d{3})".*\})\})re");
  Written written;
  written.text = text;
  EXPECT_TRUE(JsonReader(text).IsOneValue());
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::string copy(line.data(), line.size());
    std::smatch m;
    if (absl::StartsWith(line, "{\"ph\":\"X\"")) {
      if (!std::regex_match(copy, m, slice)) {
        ADD_FAILURE() << "of no form: " << copy;
        continue;
      }
      const int64_t begin = Nanos(m[3]);
      written.tracks[{std::atoi(m[1].str().c_str()), std::atoll(m[2].str().c_str())}].push_back(
          {begin, begin + Nanos(m[4]), m[5], m[6], m[7]});
    } else if (std::regex_match(copy, m, name)) {
      written.names[{std::atoi(m[1].str().c_str()), std::atoll(m[2].str().c_str())}] = m[3];
    } else if (std::regex_match(copy, m, arrow)) {
      auto& arrows = m[1] == "s" ? written.arrows_begin : written.arrows_end;
      EXPECT_TRUE(arrows.insert({std::atoll(m[2].str().c_str()), Nanos(m[3])}).second);
    } else if (std::regex_match(copy, m, end)) {
      written.other = m[1];
      written.length = Nanos(m[2]);
    }
  }
  EXPECT_GT(written.length, 0);
  EXPECT_THAT(written.other, HasSubstr("\"inconsistent\":\"0\""));
  return written;
}

std::string Stop() {
  std::string text;
  EXPECT_TRUE(StopTrace([&](absl::string_view piece) { absl::StrAppend(&text, piece); }).ok());
  return text;
}

std::string Contents(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string TempFile(const std::string& name) {
  return absl::StrCat(::testing::TempDir(), "/", name, "-", getpid(), ".json");
}

// How long slices for which wanted(slice) take in all.
template <typename Wanted>
int64_t Sum(const std::vector<Slice>& slices, Wanted wanted) {
  int64_t sum = 0;
  for (const Slice& slice : slices) sum += wanted(slice) ? slice.end - slice.begin : 0;
  return sum;
}

const std::vector<Slice>& TrackOf(const Written& trace, int process, const std::string& name) {
  for (const auto& [track, track_name] : trace.names) {
    if (track.first == process && absl::EndsWith(track_name, name)) return trace.tracks.at(track);
  }
  static const std::vector<Slice> none;
  ADD_FAILURE() << "no track " << name;
  return none;
}

// What every written trace has: no two slices of a track at the same time, and in each P's track
// what it runs and what it idles make up the whole.
void CheckTracks(const Written& trace) {
  for (const auto& [track, slices] : trace.tracks) {
    if (track.first == 4) continue;
    int64_t at = 0;
    int64_t idle = 0;
    for (const Slice& slice : slices) {
      ASSERT_GE(slice.begin, at) << "track " << track.first << "/" << track.second;
      ASSERT_LE(slice.end, trace.length);
      idle += slice.begin - at;
      at = slice.end;
    }
    idle += trace.length - at;
    EXPECT_EQ(idle + Sum(slices, [](const Slice&) { return true; }), trace.length);
    EXPECT_EQ(trace.names.count(track) + (track.first == 5 ? 1 : 0), 1u)
        << "a name for " << track.first << "/" << track.second;
  }
  for (const auto& [id, at] : trace.arrows_begin) {
    ASSERT_EQ(trace.arrows_end.count(id), 1u);
    EXPECT_LE(at, trace.arrows_end.at(id));
  }
  EXPECT_EQ(trace.arrows_begin.size(), trace.arrows_end.size());
}

// Whether the goroutine of that name waits for that reason.
bool IsIn(absl::string_view wait_reason, absl::string_view name) {
  for (const GoroutineSnapshot& g : GetGoroutineSnapshots()) {
    if (g.name == name) return g.status == 4 && g.wait_reason == wait_reason;
  }
  return false;
}

__attribute__((noinline)) void ComputeFor(absl::Duration duration) {
  const Instant end = Instant::Now() + duration;
  while (Instant::Now() < end) {
  }
}

TEST(TraceTest, SpansAddUpToTheTimeThatHasPassed) {
  ForEachMaxProcs([] {
    const absl::Duration step = weft::testing::Shortened(absl::Milliseconds(20));
    const Instant before = Instant::Now();
    ASSERT_TRUE(StartTrace().ok());
    Instant began;
    Instant ended;
    RunOnGoroutine([&] {
      Chan<int> done(0);
      std::atomic<bool> slept{false};
      began = Instant::Now();
      Go({.name = "worker"}, [=, &slept] {
        ComputeFor(step);
        // On a busy machine the time may have come before it can begin to wait.
        do {
          Sleep(step);
        } while (!slept.load());
        ComputeFor(step);
        done.Send(0);
      });
      while (!IsIn("sleep", "worker")) Sleep(step / 4);
      slept.store(true);
      done.Recv();
      ended = Instant::Now();
    });
    const Written trace = Read(Stop());
    const int64_t wall = (Instant::Now() - before) / absl::Nanoseconds(1);
    CheckTracks(trace);

    const int64_t inside = (ended - began) / absl::Nanoseconds(1);
    const int64_t nanos = step / absl::Nanoseconds(1);
    EXPECT_GE(trace.length, inside);
    EXPECT_LE(trace.length, wall);
    // What the goroutine was in, from its start to its end.
    const std::vector<Slice>& worker = TrackOf(trace, 2, "worker");
    const int64_t ran = Sum(worker, [](const Slice& s) { return s.name == "running"; });
    const int64_t slept = Sum(worker, [](const Slice& s) { return s.name == "sleep"; });
    const int64_t runnable = Sum(worker, [](const Slice& s) { return s.name == "runnable"; });
    // It computes until a time has come, be it that it waits for its turn meanwhile; and a sleep
    // begins a moment before its goroutine waits.
    EXPECT_GE(ran + runnable, 2 * nanos * 99 / 100);
    EXPECT_GE(ran, nanos / 4);
    EXPECT_GT(slept, 0);
    EXPECT_GE(ran + runnable + slept, 3 * nanos * 99 / 100);
    const int64_t all = worker.back().end - worker.front().begin;
    EXPECT_EQ(Sum(worker, [](const Slice&) { return true; }), all);
    EXPECT_LE(all, inside + 1'000'000'000);
    // The same on the Ps, whichever they were.
    int64_t on_ps = 0;
    for (const auto& [track, slices] : trace.tracks) {
      if (track.first != 1) continue;
      on_ps += Sum(slices, [](const Slice& s) { return absl::EndsWith(s.name, "worker"); });
    }
    EXPECT_EQ(on_ps, ran);
  });
}

TEST(TraceTest, ShowsWhoWokeWhom) {
  ForEachMaxProcs([] {
    ASSERT_TRUE(StartTrace().ok());
    uint64_t waker = 0;
    RunOnGoroutine([&] {
      // More than once: a goroutine is said to wait a moment before it can be woken, and who is
      // faster finds it on its way.
      constexpr int kRounds = 10;
      Chan<int> c(0);
      Chan<int> done(0);
      Go({.name = "sleeper"}, [=] {
        for (int i = 0; i < kRounds; ++i) {
          c.Recv();
          done.Send(0);
        }
      });
      waker = GoroutineId();
      for (int i = 0; i < kRounds; ++i) {
        while (!IsIn("chan receive", "sleeper")) Sleep(absl::Microseconds(100));
        c.Send(1);
        done.Recv();
      }
    });
    const Written trace = Read(Stop());
    CheckTracks(trace);
    bool found = false;
    for (const Slice& slice : TrackOf(trace, 2, "sleeper")) {
      if (slice.name == "runnable" &&
          absl::StrContains(slice.args, absl::StrCat("\"by\":", waker))) {
        found |= absl::StrContains(slice.args, "woken by a goroutine");
      }
    }
    EXPECT_TRUE(found) << trace.text;
    EXPECT_FALSE(trace.arrows_begin.empty());
  });
}

TEST(TraceTest, RunsOnceAtATime) {
  EXPECT_EQ(StopTrace([](absl::string_view) {}).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(WriteTrace([](absl::string_view) {}).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(TraceRuns());
  ASSERT_TRUE(StartTrace().ok());
  EXPECT_TRUE(TraceRuns());
  EXPECT_EQ(StartTrace().code(), absl::StatusCode::kFailedPrecondition);
  CheckTracks(Read(Stop()));
  EXPECT_FALSE(TraceRuns());
}

TEST(TraceTest, GoesOnWhenItIsWritten) {
  ASSERT_TRUE(StartTrace({.bytes = 1 << 20, .last = absl::Milliseconds(50)}).ok());
  int64_t written = 0;
  for (int i = 0; i < 3; ++i) {
    RunOnGoroutine([] {
      Go({.name = "short"}, [] {});
      Sleep(absl::Milliseconds(30));
    });
    std::string text;
    ASSERT_TRUE(WriteTrace([&](absl::string_view piece) { absl::StrAppend(&text, piece); }).ok());
    const Written trace = Read(text);
    CheckTracks(trace);
    EXPECT_LE(trace.length, 50'000'000);
    written += trace.length;
  }
  EXPECT_GT(written, 60'000'000);
  CheckTracks(Read(Stop()));
}

TEST(TraceTest, IsSwitchedOnAndOffByManyUnderLoad) {
  Chan<int> a(0);
  Chan<int> b(0);
  Go([=] {
    for (const int n : a) b.Send(n);
  });
  std::atomic<bool> stop{false};
  std::thread load([&] {
    RunOnGoroutine([&] {
      while (!stop) {
        a.Send(1);
        b.Recv();
      }
      a.Close();
    });
  });
  std::vector<std::thread> switchers;
  std::atomic<int> written{0};
  for (int i = 0; i < 3; ++i) {
    switchers.emplace_back([&] {
      for (int n = 0; n < weft::testing::Rounds(10, 2); ++n) {
        (void)StartTrace({.bytes = 256 << 10});
        usleep(1000);
        std::string text;
        if (StopTrace([&](absl::string_view piece) { absl::StrAppend(&text, piece); }).ok()) {
          CheckTracks(Read(text));
          ++written;
        }
      }
    });
  }
  for (std::thread& thread : switchers) thread.join();
  stop = true;
  load.join();
  EXPECT_GT(written, 0);
  EXPECT_FALSE(TraceRuns());
}

TEST(TraceTest, TextsAreWrittenAsTheyAre) {
  ASSERT_TRUE(StartTrace().ok());
  RunOnGoroutine([] {
    const Task task("a \"task\"\n");
    const Region outer("outer", &task);
    const Region inner(std::string(5000, 'x'));
    Log("category\\", "tab\there", &task);
  });
  Log("from a thread", "plain");
  const Written trace = Read(Stop());
  CheckTracks(trace);
  EXPECT_THAT(trace.text, HasSubstr(R"("name":"a \"task\"\u000a")"));
  EXPECT_THAT(trace.text, HasSubstr(R"("name":"tab\u0009here","args":{"category":"category\\",)"));
  EXPECT_THAT(trace.text, HasSubstr(absl::StrCat("\"", std::string(1024, 'x'), "\"")));
  EXPECT_THAT(trace.text, HasSubstr("\"name\":\"plain\""));
}

void CheckPipeline(const std::string& text) {
  const Written trace = Read(text);
  CheckTracks(trace);
  const std::vector<Slice>& consumer = TrackOf(trace, 2, "consumer");
  EXPECT_GE(Sum(consumer, [](const Slice& s) { return s.name == "running"; }), 2'000'000);
  EXPECT_GT(Sum(consumer, [](const Slice& s) { return s.name == "chan receive"; }), 0);
  EXPECT_GE(Sum(TrackOf(trace, 2, "main"), [](const Slice& s) { return s.name == "running"; }),
            10'000'000);
  for (const char* part : {"\"name\":\"pipeline\"", "\"name\":\"produce\"", "\"name\":\"consume\"",
                           "\"category\":\"got\""}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(TraceSettingTest, TheTraceIsWrittenWhenTheProgramEnds) {
  const std::string file = TempFile("ends");
  for (const auto& [how, status] : std::map<std::string, int>{{"", 0}, {"exit", 3}}) {
    const ProcessResult r =
        RunProcess({kProgram, how}, {.env = {absl::StrCat("WEFTDEBUG=trace=", file)}});
    EXPECT_EQ(r.exit_status, status) << r.err;
    EXPECT_EQ(r.err, "");
    CheckPipeline(Contents(file));
    unlink(file.c_str());
  }
}

TEST(TraceSettingTest, AFatalErrorWritesItFirst) {
  const std::string file = TempFile("fatal");
  for (const std::string how : {"fatal", "deadlock"}) {
    const ProcessResult r =
        RunProcess({kProgram, how}, {.env = {absl::StrCat("WEFTDEBUG=trace=", file)}});
    EXPECT_EQ(r.exit_status, 2);
    EXPECT_THAT(r.err, HasSubstr("fatal error: "));
    CheckPipeline(Contents(file));
    unlink(file.c_str());
  }
}

TEST(TraceSettingTest, OnlyTheLastSecondsIfSoAskedFor) {
  const std::string file = TempFile("last");
  const ProcessResult r =
      RunProcess({kProgram}, {.env = {absl::StrCat("WEFTDEBUG=trace=", file, ",tracelast=0.01")}});
  EXPECT_EQ(r.exit_status, 0) << r.err;
  const Written trace = Read(Contents(file));
  CheckTracks(trace);
  EXPECT_LE(trace.length, 10'000'000);
  unlink(file.c_str());
}

TEST(TraceSettingTest, RefusesWhatItCannotDo) {
  for (const std::string value : {"trace=/no/such/folder/file", "trace=", "tracelast=soon"}) {
    const ProcessResult r = RunProcess({kProgram}, {.env = {absl::StrCat("WEFTDEBUG=", value)}});
    EXPECT_EQ(r.exit_status, 2);
    EXPECT_THAT(r.err, HasSubstr(absl::StrCat("WEFTDEBUG: ", value)));
  }
  const ProcessResult help = RunProcess({kProgram}, {.env = {"WEFTDEBUG=help=1"}});
  EXPECT_THAT(help.out, HasSubstr("  trace=  a file that can be written"));
  EXPECT_THAT(help.out, HasSubstr("  tracelast=  a number of seconds"));
}

}  // namespace
}  // namespace weft::debug
