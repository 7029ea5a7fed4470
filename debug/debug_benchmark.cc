// What it costs to be watched. The argument: 0 for a program that is not, 1 for one whose execution
// is traced, 2 for one that is traced without a limit of events per second, 3 for one that has
// schedtrace=1000. With one P, but for BM_Httpd.
//
//   bazel run -c opt //debug:debug_benchmark --
//       --benchmark_repetitions=20 --benchmark_enable_random_interleaving=true
//
// Of schedtrace=1000 a second has one line: what that costs, BM_SchedTrace says by itself.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "debug/schedtrace.h"
#include "debug/trace.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/snapshot.h"
#include "sched/sync/wait_group.h"
#include "sched/sysmon.h"
#include "sched/testing.h"
#include "spawn/command.h"

namespace weft {
namespace {

constexpr int kTraced = 1, kTracedWithoutLimit = 2, kSchedTrace = 3;

int Nowhere() {
  static const int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
  return fd;
}

// As schedtrace=1000 does it, but into nothing, and as long as it is wanted.
void SetSchedTrace(bool wanted) {
  static std::atomic<bool> on{false};
  static const bool registered = [] {
    RegisterMonitorDuty({.name = "benchmark", .period = absl::Seconds(1), .run = [](Instant) {
                           if (on.load()) {
                             debug::WriteSchedTrace(Nowhere(), SnapshotDetail::kCounters);
                           }
                           return false;
                         }});
    return true;
  }();
  on.store(wanted && registered);
}

// One P, and what the argument asks for.
class Watched {
 public:
  explicit Watched(const benchmark::State& state)
      : traced_(state.range(0) == kTraced || state.range(0) == kTracedWithoutLimit),
        procs_(SetMaxProcs(1)) {
    debug::RecordingOptions options;
    if (state.range(0) == kTracedWithoutLimit) options.events_per_second = 0;
    if (traced_) (void)debug::StartTrace(options);
    SetSchedTrace(state.range(0) == kSchedTrace);
  }
  ~Watched() {
    SetSchedTrace(false);
    SetMaxProcs(procs_);
    // Of a program that has ended there is little to write: the last of it.
    if (traced_) (void)debug::StopTrace([](absl::string_view) {});
  }
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

 private:
  const bool traced_;
  const int procs_;
};

// A round trip over two unbuffered channels, as in chan_benchmark.
void BM_PingPong(benchmark::State& state) {
  const Watched watched(state);
  testing::RunOnGoroutine([&] {
    Chan<int64_t> a(0);
    Chan<int64_t> b(0);
    Go([a, b] {
      for (const int64_t v : a) b.Send(v);
    });
    int64_t i = 0;
    for (auto _ : state) {
      a.Send(i++);
      benchmark::DoNotOptimize(b.Recv());
    }
    a.Close();
  });
}

// A goroutine that ends at once, a thousand at a time, as in sched_benchmark.
void BM_SpawnExit(benchmark::State& state) {
  constexpr int kBatch = 1000;
  const Watched watched(state);
  testing::RunOnGoroutine([&] {
    while (state.KeepRunningBatch(kBatch)) {
      WaitGroup ended;
      ended.Add(kBatch);
      for (int i = 0; i < kBatch; ++i) {
        Go([&ended] { ended.Done(); });
      }
      ended.Wait();
    }
  });
}

// One line, or the lines with all details, with so many goroutines that wait.
void BM_SchedTrace(benchmark::State& state) {
  const auto detail = state.range(0) != 0 ? SnapshotDetail::kAll : SnapshotDetail::kCounters;
  const auto goroutines = static_cast<int>(state.range(1));
  const Chan<bool> end(0);
  WaitGroup ended;
  ended.Add(goroutines);
  for (int i = 0; i < goroutines; ++i) {
    Go([&] {
      end.Recv();
      ended.Done();
    });
  }
  for (auto _ : state) debug::WriteSchedTrace(Nowhere(), detail);
  end.Close();
  ended.Wait();
}

// //tools:httpd with the setting that the argument stands for.
class Httpd {
 public:
  explicit Httpd(int64_t watched) : directory_(MakeDirectory()) {
    std::vector<std::string> env = {absl::StrCat("PATH=", std::getenv("PATH"))};
    if (watched == kTraced) {
      env.push_back(absl::StrCat("WEFTDEBUG=trace=", directory_, "/trace.json"));
    } else if (watched == kSchedTrace) {
      env.emplace_back("WEFTDEBUG=schedtrace=1000");
    }
    command_ =
        Command("tools/httpd", {"--http=127.0.0.1:0", "--access_log=off", "--root=" + directory_},
                {.env = env, .out = Output::Pipe()});
  }
  ~Httpd() { (void)Command("rm", {"-r", directory_}).Run(); }
  Httpd(const Httpd&) = delete;
  Httpd& operator=(const Httpd&) = delete;

  // Its address: "http://127.0.0.1:1234".
  absl::StatusOr<std::string> Start() {
    if (absl::Status status = command_.Start(); !status.ok()) return status;
    std::string line;
    for (char c = 0; c != '\n'; line += c) {
      const absl::StatusOr<size_t> got = command_.out().Read({&c, 1});
      if (!got.ok() || *got == 0) return absl::InternalError("httpd does not start");
    }
    const std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(" ,"));
    for (const std::string& word : words) {
      if (absl::StartsWith(word, "http://")) return word;
    }
    return absl::InternalError(line);
  }

  // The processor time that it has used.
  absl::Duration Used() const {
    const std::string path = absl::StrCat("/proc/", command_.pid(), "/stat");
    const std::string text = Command("cat", {path}).Output().out;
    const std::vector<std::string> fields =
        absl::StrSplit(text.substr(text.rfind(')') + 2), ' ', absl::SkipWhitespace());
    int64_t user = 0, system = 0;
    if (fields.size() < 13 || !absl::SimpleAtoi(fields[11], &user) ||
        !absl::SimpleAtoi(fields[12], &system)) {
      return absl::ZeroDuration();
    }
    return absl::Seconds(user + system) / sysconf(_SC_CLK_TCK);
  }

  absl::Status Stop() {
    (void)command_.Signal(SIGTERM);
    return command_.Wait();
  }

 private:
  static std::string MakeDirectory() {
    std::string name = "/tmp/debug_benchmark.XXXXXX";
    if (mkdtemp(name.data()) == nullptr) std::abort();
    (void)Command("sh", {"-c", R"(head -c 1024 /dev/urandom >"$0"/file.bin)", name}).Run();
    return name;
  }

  const std::string directory_;
  Command command_{""};
};

// The number that ends with `after` in what wrk prints; 0: there is none.
double NumberBefore(absl::string_view text, absl::string_view after) {
  const size_t end = text.find(after);
  if (end == absl::string_view::npos) return 0;
  const std::vector<std::string> words =
      absl::StrSplit(text.substr(0, end), absl::ByAnyChar(" \n"));
  double number = 0;
  return absl::SimpleAtod(words.back(), &number) ? number : 0;
}

// httpd under wrk with 64 connections, a file of 1 KiB: the time is that of one request, cpu_us
// what the server has used for it. Wants wrk (tools/setup --bench), and to be started by bazel run.
void BM_Httpd(benchmark::State& state) {
  Httpd httpd(state.range(0));
  const absl::StatusOr<std::string> url = httpd.Start();
  if (!url.ok()) return state.SkipWithError(url.status().ToString().c_str());
  double requests = 0;
  const absl::Duration before = httpd.Used();
  for (auto _ : state) {
    const Instant start = Instant::Now();
    const CommandResult wrk =
        Command("wrk", {"-c", "64", "-t", "2", "-d", "2s", *url + "/file.bin"}).Output();
    const double done = NumberBefore(wrk.out, " requests in");
    if (!wrk.ok() || done == 0 || absl::StrContains(wrk.out, "Non-2xx")) {
      state.SkipWithError(absl::StrCat("wrk: ", wrk.status.ToString(), wrk.out, wrk.err).c_str());
      break;
    }
    requests += done;
    state.SetIterationTime(absl::ToDoubleSeconds(Instant::Now() - start) / done);
  }
  if (requests > 0) {
    state.counters["cpu_us"] = absl::ToDoubleMicroseconds(httpd.Used() - before) / requests;
  }
  if (const absl::Status status = httpd.Stop(); !status.ok()) {
    state.SkipWithError(status.ToString().c_str());
  }
}

BENCHMARK(BM_PingPong)->DenseRange(0, 3)->UseRealTime();
BENCHMARK(BM_SpawnExit)->DenseRange(0, 3)->UseRealTime();
BENCHMARK(BM_SchedTrace)->ArgsProduct({{0, 1}, {10, 10'000}});
BENCHMARK(BM_Httpd)->Arg(0)->Arg(kTraced)->Arg(kSchedTrace)->UseManualTime()->Iterations(1);

}  // namespace
}  // namespace weft
