// What it costs to start a process, from one that has touched much memory.
//
// One operation is a start of /bin/true and the wait for its end. exec_us is the median of the time
// until the program has begun, exit_us until it has been waited for. The argument is the memory in
// GiB, of 4 KiB pages. BM_Command runs on a goroutine beside eight that are always busy: pause_us
// is the longest time that one of them did not get on, which BM_NoCommand tells for the same eight
// while nothing is started.
//
//   bazel run -c opt //spawn:spawn_benchmark -- --benchmark_filter=/0$
#include <benchmark/benchmark.h>
#include <fcntl.h>
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

// Memory that this process has written to.
class Touched {
 public:
  explicit Touched(int64_t gib) : bytes_(static_cast<size_t>(gib) << 30) {
    if (bytes_ == 0) return;
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Require(memory_ != MAP_FAILED, "mmap");
    madvise(memory_, bytes_, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < bytes_; at += 4096) static_cast<char*>(memory_)[at] = 1;
  }
  ~Touched() {
    if (bytes_ != 0) munmap(memory_, bytes_);
  }
  Touched(const Touched&) = delete;
  Touched& operator=(const Touched&) = delete;

 private:
  const size_t bytes_;
  void* memory_ = nullptr;
};

double Median(std::vector<double>& samples) {
  if (samples.empty()) return 0;
  std::nth_element(samples.begin(), samples.begin() + samples.size() / 2, samples.end());
  return samples[samples.size() / 2];
}

// `start` returns the pid of a child whose program has begun.
template <typename Start>
void Measure(benchmark::State& state, Start start) {
  const Touched memory(state.range(0));
  std::vector<double> until_exec;
  std::vector<double> until_exit;
  for (auto _ : state) {
    const absl::Time begin = absl::Now();
    const pid_t pid = start();
    const absl::Time begun = absl::Now();
    int status;
    Require(waitpid(pid, &status, 0) == pid && status == 0, "waitpid");
    until_exec.push_back(absl::ToDoubleMicroseconds(begun - begin));
    until_exit.push_back(absl::ToDoubleMicroseconds(absl::Now() - begin));
  }
  state.counters["exec_us"] = Median(until_exec);
  state.counters["exit_us"] = Median(until_exit);
}

void BM_ForkExec(benchmark::State& state) {
  Measure(state, [] {
    const absl::StatusOr<weft::spawn::Child> child = weft::spawn::ForkExec(kProgram, {"true"});
    Require(child.ok(), "ForkExec");
    close(child->pidfd);
    return child->pid;
  });
}

void BM_PosixSpawn(benchmark::State& state) {
  Measure(state, [] {
    char name[] = "true";
    char* const argv[] = {name, nullptr};
    pid_t pid;
    Require(posix_spawn(&pid, kProgram, nullptr, nullptr, argv, environ) == 0, "posix_spawn");
    return pid;
  });
}

// As one writes it by hand: exec closes the pipe.
void BM_Fork(benchmark::State& state) {
  Measure(state, [] {
    int ends[2];
    Require(pipe2(ends, O_CLOEXEC) == 0, "pipe");
    char name[] = "true";
    char* const argv[] = {name, nullptr};
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
  });
}

void BM_Vfork(benchmark::State& state) {
  Measure(state, [] {
    char name[] = "true";
    char* const argv[] = {name, nullptr};
    const pid_t pid = vfork();
    if (pid == 0) {
      execve(kProgram, argv, environ);
      _exit(127);
    }
    Require(pid >= 0, "vfork");
    return pid;
  });
}

// Goroutines that run whenever they can, and notice when they could not.
class Busy {
 public:
  explicit Busy(int goroutines) {
    for (int i = 0; i < goroutines; ++i) {
      group_.Go([this] {
        absl::Time last = absl::Now();
        while (!stop_.load(std::memory_order_relaxed)) {
          const absl::Time now = absl::Now();
          const int64_t pause = absl::ToInt64Nanoseconds(now - last);
          last = now;
          int64_t longest = longest_.load(std::memory_order_relaxed);
          while (pause > longest &&
                 !longest_.compare_exchange_weak(longest, pause, std::memory_order_relaxed)) {
          }
          weft::Yield();
        }
      });
    }
  }
  // The longest pause of any, in microseconds.
  double Stop() {
    stop_.store(true, std::memory_order_relaxed);
    group_.Wait();
    return static_cast<double>(longest_.load(std::memory_order_relaxed)) / 1000;
  }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> longest_{0};
  weft::WaitGroup group_;
};

void BM_Command(benchmark::State& state) {
  weft::testing::RunOnGoroutine([&] {
    const Touched memory(state.range(0));
    Busy busy(8);
    std::vector<double> until_exec;
    std::vector<double> until_exit;
    for (auto _ : state) {
      const absl::Time begin = absl::Now();
      weft::Command command(kProgram);
      Require(command.Start().ok(), "Start");
      until_exec.push_back(absl::ToDoubleMicroseconds(absl::Now() - begin));
      Require(command.Wait().ok(), "Wait");
      until_exit.push_back(absl::ToDoubleMicroseconds(absl::Now() - begin));
    }
    state.counters["exec_us"] = Median(until_exec);
    state.counters["exit_us"] = Median(until_exit);
    state.counters["pause_us"] = busy.Stop();
  });
}

// The same with nobody beside it, as Go's os/exec is measured.
void BM_CommandAlone(benchmark::State& state) {
  weft::testing::RunOnGoroutine([&] {
    const Touched memory(state.range(0));
    std::vector<double> until_exit;
    for (auto _ : state) {
      const absl::Time begin = absl::Now();
      Require(weft::Command(kProgram).Run().ok(), "Run");
      until_exit.push_back(absl::ToDoubleMicroseconds(absl::Now() - begin));
    }
    state.counters["exit_us"] = Median(until_exit);
  });
}

void BM_NoCommand(benchmark::State& state) {
  weft::testing::RunOnGoroutine([&] {
    const Touched memory(state.range(0));
    Busy busy(8);
    for (auto _ : state) weft::Sleep(absl::Milliseconds(1));
    state.counters["pause_us"] = busy.Stop();
  });
}

#define WEFT_SIZES ArgName("GiB")->Arg(0)->Arg(1)->Arg(4)->Arg(10)->UseRealTime()

BENCHMARK(BM_ForkExec)->WEFT_SIZES;
BENCHMARK(BM_PosixSpawn)->WEFT_SIZES;
BENCHMARK(BM_Vfork)->WEFT_SIZES;
BENCHMARK(BM_Fork)->WEFT_SIZES;
BENCHMARK(BM_CommandAlone)->WEFT_SIZES;
BENCHMARK(BM_Command)->WEFT_SIZES;
BENCHMARK(BM_NoCommand)->WEFT_SIZES;

}  // namespace
