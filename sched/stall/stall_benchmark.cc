// How late a goroutine is that wants to run every millisecond, with one P and two goroutines beside
// it that never give it up by themselves; and how fast one computes beside a thousand that block.
//
//   bazel run -c opt //sched/stall:stall_benchmark
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/snapshot.h"
#include "sched/stall/hogs.h"
#include "sched/testing.h"

namespace {

constexpr int kTicks = 2'000;
constexpr int kBlocked = 1'000;
constexpr int kRounds = 7;

double Millis(absl::Duration d) { return absl::ToDoubleMilliseconds(d); }

absl::Duration Clock(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return absl::DurationFromTimespec(time);
}

struct Speed {
  double loops = 0;       // in a second
  absl::Duration own;     // its thread's processor time
  absl::Duration others;  // that of all other threads meanwhile
};

// On a goroutine.
Speed Measure() {
  Speed speed;
  weft::testing::RunOnGoroutine([&] {
    // It enters the runtime nowhere in between, so the thread is the same.
    const absl::Duration all = Clock(CLOCK_PROCESS_CPUTIME_ID);
    const absl::Duration own = Clock(CLOCK_THREAD_CPUTIME_ID);
    const weft::Instant end = weft::Instant::Now() + absl::Seconds(1);
    while (weft::Instant::Now() < end) {
      for (int i = 0; i < 100; ++i) asm volatile("" ::: "memory");
      ++speed.loops;
    }
    speed.own = Clock(CLOCK_THREAD_CPUTIME_ID) - own;
    speed.others = Clock(CLOCK_PROCESS_CPUTIME_ID) - all - speed.own;
  });
  return speed;
}

struct Beside {
  Speed speed;
  absl::Duration until_all;  // were blocked
  int threads = 0;
};

// With a thousand that read from an empty pipe.
Beside MeasureBesideBlocked() {
  Beside beside;
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) std::abort();
  std::atomic<int> left{kBlocked};
  const weft::Instant start = weft::Instant::Now();
  for (int i = 0; i < kBlocked; ++i) {
    weft::Go([&] {
      char byte;
      if (read(fds[0], &byte, 1) != 1) std::abort();
      left.fetch_sub(1);
    });
  }
  weft::testing::Eventually([] { return weft::GetSchedSnapshot().outlaws >= kBlocked - 1; },
                            absl::Seconds(60));
  beside.until_all = weft::Instant::Now() - start;
  beside.threads = weft::GetSchedSnapshot().threads;
  beside.speed = Measure();
  const std::string bytes(kBlocked, 'x');
  if (write(fds[1], bytes.data(), bytes.size()) != kBlocked) std::abort();
  weft::testing::Eventually([&] { return left.load() == 0; });
  close(fds[0]);
  close(fds[1]);
  return beside;
}

}  // namespace

int main() {
  std::printf("%-28s %9s %9s %9s   leases taken\n", "late by, ms", "median", "p99", "most");
  for (const weft::testing::Hog& hog : weft::testing::AllHogs()) {
    const weft::LeaseCounts before = weft::GetSchedSnapshot().leases;
    int at_it;
    const std::vector<absl::Duration> late = weft::testing::TickerBeside(hog, kTicks, &at_it);
    const weft::LeaseCounts after = weft::GetSchedSnapshot().leases;
    std::printf("%-28s %9.3f %9.3f %9.3f   %d asleep, %d slices, %d in place\n", hog.name,
                Millis(late[kTicks / 2]), Millis(late[kTicks * 99 / 100]), Millis(late.back()),
                static_cast<int>(after.taken_asleep - before.taken_asleep),
                static_cast<int>(after.taken_slice - before.taken_slice),
                static_cast<int>(after.yielded_in_place - before.yielded_in_place));
  }

  weft::SetMaxProcs(1);
  std::vector<double> speeds;  // in percent of those before
  Speed alone;
  Beside beside;
  for (int i = 0; i < kRounds; ++i) {
    alone = Measure();
    beside = MeasureBesideBlocked();
    speeds.push_back(100.0 * beside.speed.loops / alone.loops);
  }
  std::sort(speeds.begin(), speeds.end());
  weft::testing::Eventually([] { return weft::GetSchedSnapshot().threads < 30; });
  std::printf(
      "\n%d blocked after %.0f ms, %d threads; one that computes beside them has %.1f %% of its "
      "speed (median of %d; %.1f to %.1f) and %.1f %% of a processor, of which it has %.1f %% "
      "alone; all "
      "other threads take %.1f ms of processor time a second; %d threads 5 s after they have "
      "ended\n",
      kBlocked, Millis(beside.until_all), beside.threads, speeds[kRounds / 2], kRounds,
      speeds.front(), speeds.back(), Millis(beside.speed.own) / 10, Millis(alone.own) / 10,
      Millis(beside.speed.others), weft::GetSchedSnapshot().threads);
}
