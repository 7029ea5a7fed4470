// What it costs to start a process, from one that has touched much memory.
//
// One operation is a start of /bin/true and the wait for its end. exec_us is the median of the time
// until the program has begun, exit_us until it has been waited for. GiB is the memory that the
// process has touched, in pages of 4 KiB.
//
// BM_InTurn is for the goals that are ratios, on a machine that does other things as well: two
// processes, one of which has touched that memory, start the program by ForkExec and posix_spawn,
// all four in turn. to_empty is ForkExec's time until the program has begun over that of the
// process without memory; to_posix_spawn and exit_to_posix_spawn are over posix_spawn's of the same
// process.
//
// BM_Command runs on a goroutine beside eight that are always busy: pause_us is the longest time
// that one of them did not get on, pause_p50_us the median over the starts of the longest in each.
// BM_NoCommand tells the same of eight that are left alone, a millisecond in place of a start, and
// BM_Elsewhere while another process starts the programs: the programs need processors too.
//
// BM_Exec is Go's os/exec as tools/compare knows it; its argument is the number of Ps.
//
//   bazel run -c opt //spawn:spawn_benchmark -- --benchmark_filter=GiB:0
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "netpoll/pollfd.h"
#include "sched/benchmark_args.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "spawn/command.h"
#include "spawn/fork_exec.h"

namespace {

constexpr char kProgram[] = "/bin/true";

void Require(bool held, const char* what) {
  if (held) return;
  perror(what);
  exit(1);
}

// This process has written to so much memory from now on, and has no more of it. (It is kept for
// the next benchmark.)
void Touch(int64_t gib) {
  static void* memory = nullptr;
  static size_t bytes = 0;
  const size_t wanted = static_cast<size_t>(gib) << 30;
  if (bytes == wanted) return;
  if (bytes != 0) munmap(memory, bytes);
  bytes = wanted;
  if (bytes == 0) return;
  memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Require(memory != MAP_FAILED, "mmap");
  madvise(memory, bytes, MADV_NOHUGEPAGE);
  for (size_t at = 0; at < bytes; at += 4096) static_cast<char*>(memory)[at] = 1;
}

// The ways. Each returns the pid of a child whose program has begun.

pid_t StartByForkExec() {
  const absl::StatusOr<weft::spawn::Child> child = weft::spawn::ForkExec(kProgram, {"true"});
  Require(child.ok(), "ForkExec");
  close(child->pidfd);
  return child->pid;
}

char name[] = "true";
char* const argv[] = {name, nullptr};

pid_t StartByPosixSpawn() {
  pid_t pid;
  Require(posix_spawn(&pid, kProgram, nullptr, nullptr, argv, environ) == 0, "posix_spawn");
  return pid;
}

// As one writes it by hand: exec closes the pipe.
pid_t StartByFork() {
  int ends[2];
  Require(pipe2(ends, O_CLOEXEC) == 0, "pipe");
  const pid_t pid = fork();
  Require(pid >= 0, "fork");
  if (pid == 0) {
    execve(kProgram, argv, environ);
    _exit(127);
  }
  close(ends[1]);
  char byte;
  Require(read(ends[0], &byte, 1) == 0, "read");
  close(ends[0]);
  return pid;
}

pid_t StartByVfork() {
  const pid_t pid = vfork();
  if (pid == 0) {
    execve(kProgram, argv, environ);
    _exit(127);
  }
  Require(pid >= 0, "vfork");
  return pid;
}

using Way = pid_t (*)();

// What single starts took, in microseconds.
struct Times {
  std::vector<double> until_exec;
  std::vector<double> until_exit;
};

struct Time {
  double until_exec;
  double until_exit;
};

Time StartAndWait(Way way) {
  const absl::Time begin = absl::Now();
  const pid_t pid = way();
  const absl::Time begun = absl::Now();
  int status;
  Require(waitpid(pid, &status, 0) == pid && status == 0, "waitpid");
  return {absl::ToDoubleMicroseconds(begun - begin),
          absl::ToDoubleMicroseconds(absl::Now() - begin)};
}

void Add(Times& times, const Time& time) {
  times.until_exec.push_back(time.until_exec);
  times.until_exit.push_back(time.until_exit);
}

double Median(std::vector<double>& samples) {
  if (samples.empty()) return 0;
  std::nth_element(samples.begin(), samples.begin() + samples.size() / 2, samples.end());
  return samples[samples.size() / 2];
}

void Report(benchmark::State& state, Times& times) {
  state.counters["exec_us"] = Median(times.until_exec);
  state.counters["exit_us"] = Median(times.until_exit);
}

template <Way way>
void Measure(benchmark::State& state) {
  Touch(state.range(0));
  Times times;
  for (auto _ : state) Add(times, StartAndWait(way));
  Report(state, times);
}
constexpr auto BM_ForkExec = Measure<StartByForkExec>;
constexpr auto BM_PosixSpawn = Measure<StartByPosixSpawn>;
constexpr auto BM_Vfork = Measure<StartByVfork>;
constexpr auto BM_Fork = Measure<StartByFork>;

// Another process, which has touched so much memory, and starts a program when it is told to.
class Elsewhere {
 public:
  explicit Elsewhere(int64_t gib) {
    int orders[2];
    int answers[2];
    Require(pipe2(orders, O_CLOEXEC) == 0 && pipe2(answers, O_CLOEXEC) == 0, "pipe");
    pid_ = fork();
    Require(pid_ >= 0, "fork");
    if (pid_ == 0) {
      close(orders[1]);
      Touch(gib);
      for (Way way; read(orders[0], &way, sizeof(way)) == sizeof(way);) {
        const Time time = StartAndWait(way);
        Require(write(answers[1], &time, sizeof(time)) == sizeof(time), "write");
      }
      _exit(0);
    }
    close(orders[0]);
    close(answers[1]);
    orders_ = orders[1];
    answers_ = answers[0];
    // It has touched its memory when this is done.
    Start(StartByVfork);
    Answer();
  }
  ~Elsewhere() {
    close(orders_);
    close(answers_);
    waitpid(pid_, nullptr, 0);
  }
  Elsewhere(const Elsewhere&) = delete;
  Elsewhere& operator=(const Elsewhere&) = delete;

  void Start(Way way) { Require(write(orders_, &way, sizeof(way)) == sizeof(way), "write"); }
  // Readable when there is an answer.
  int answers() const { return answers_; }
  Time Answer() {
    Time time;
    Require(read(answers_, &time, sizeof(time)) == sizeof(time), "read");
    return time;
  }

 private:
  pid_t pid_;
  int orders_;
  int answers_;
};

void BM_InTurn(benchmark::State& state) {
  Touch(0);
  Elsewhere empty(0);
  Elsewhere full(state.range(0));
  Times fork_exec_empty;
  Times fork_exec_full;
  Times posix_spawn_full;
  Times posix_spawn_empty;
  struct Turn {
    Elsewhere* where;
    Way way;
    Times* times;
  };
  Turn turns[] = {{&empty, StartByForkExec, &fork_exec_empty},
                  {&full, StartByPosixSpawn, &posix_spawn_full},
                  {&full, StartByForkExec, &fork_exec_full},
                  {&empty, StartByPosixSpawn, &posix_spawn_empty}};
  for (auto _ : state) {
    for (const Turn& turn : turns) {
      turn.where->Start(turn.way);
      Add(*turn.times, turn.where->Answer());
    }
    // Whoever comes after whom, each as often as the others.
    std::next_permutation(std::begin(turns), std::end(turns),
                          [](const Turn& a, const Turn& b) { return a.times < b.times; });
  }
  Report(state, fork_exec_full);
  const double exec = state.counters["exec_us"];
  const double exit = state.counters["exit_us"];
  state.counters["to_empty"] = exec / Median(fork_exec_empty.until_exec);
  state.counters["to_posix_spawn"] = exec / Median(posix_spawn_full.until_exec);
  state.counters["exit_to_posix_spawn"] = exit / Median(posix_spawn_full.until_exit);
}

// Goroutines that run whenever they can, and notice when they could not.
class Busy {
 public:
  Busy() {
    for (int i = 0; i < 8; ++i) {
      group_.Go([this] {
        absl::Time last = absl::Now();
        while (!stop_.load(std::memory_order_relaxed)) {
          const absl::Time now = absl::Now();
          Note(absl::ToInt64Nanoseconds(now - last));
          last = now;
          weft::Yield();
        }
      });
    }
  }

  // The end of one operation.
  void Lap() {
    laps_.push_back(static_cast<double>(longest_.exchange(0, std::memory_order_relaxed)) / 1000);
  }

  void StopAndReport(benchmark::State& state) {
    stop_.store(true, std::memory_order_relaxed);
    group_.Wait();
    state.counters["pause_us"] = laps_.empty() ? 0 : *std::max_element(laps_.begin(), laps_.end());
    state.counters["pause_p50_us"] = Median(laps_);
  }

 private:
  void Note(int64_t pause) {
    int64_t longest = longest_.load(std::memory_order_relaxed);
    while (pause > longest &&
           !longest_.compare_exchange_weak(longest, pause, std::memory_order_relaxed)) {
    }
  }

  std::atomic<bool> stop_{false};
  std::atomic<int64_t> longest_{0};
  std::vector<double> laps_;
  weft::WaitGroup group_;
};

void BM_Command(benchmark::State& state) {
  Touch(state.range(0));
  weft::testing::RunOnGoroutine([&] {
    Busy busy;
    Times times;
    for (auto _ : state) {
      const absl::Time begin = absl::Now();
      weft::Command command(kProgram);
      Require(command.Start().ok(), "Start");
      times.until_exec.push_back(absl::ToDoubleMicroseconds(absl::Now() - begin));
      Require(command.Wait().ok(), "Wait");
      times.until_exit.push_back(absl::ToDoubleMicroseconds(absl::Now() - begin));
      busy.Lap();
    }
    Report(state, times);
    busy.StopAndReport(state);
  });
}

void BM_NoCommand(benchmark::State& state) {
  weft::testing::RunOnGoroutine([&] {
    Busy busy;
    for (auto _ : state) {
      weft::Sleep(absl::Milliseconds(1));
      busy.Lap();
    }
    busy.StopAndReport(state);
  });
}

void BM_Elsewhere(benchmark::State& state) {
  Touch(0);
  Elsewhere elsewhere(0);
  weft::testing::RunOnGoroutine([&] {
    Busy busy;
    for (auto _ : state) {
      elsewhere.Start(StartByVfork);
      Require(weft::PollFd(elsewhere.answers(), weft::kReadable).ok(), "PollFd");
      elsewhere.Answer();
      busy.Lap();
    }
    busy.StopAndReport(state);
  });
}

void BM_Exec(benchmark::State& state) {
  Touch(0);
  weft::testing::OnGoroutine(state, [&] {
    for (auto _ : state) Require(weft::Command(kProgram).Run().ok(), "Run");
  });
}

// Those of one amount of memory together, since it takes seconds to touch.
const int registered = [] {
  for (const int64_t gib : {1, 4, 10}) {
    benchmark::RegisterBenchmark("BM_InTurn", BM_InTurn)->ArgName("GiB")->Arg(gib)->UseRealTime();
  }
  benchmark::RegisterBenchmark("BM_Exec", BM_Exec)->Arg(1)->Arg(0)->UseRealTime();
  benchmark::RegisterBenchmark("BM_NoCommand", BM_NoCommand)->UseRealTime();
  benchmark::RegisterBenchmark("BM_Elsewhere", BM_Elsewhere)->UseRealTime();
  for (const int64_t gib : {0, 1, 4, 10}) {
    const auto add = [gib](const char* title, void (*run)(benchmark::State&)) {
      benchmark::RegisterBenchmark(title, run)->ArgName("GiB")->Arg(gib)->UseRealTime();
    };
    add("BM_ForkExec", BM_ForkExec);
    add("BM_PosixSpawn", BM_PosixSpawn);
    add("BM_Vfork", BM_Vfork);
    add("BM_Command", BM_Command);
    add("BM_Fork", BM_Fork);
  }
  return 0;
}();

}  // namespace
