// How late a goroutine is that wants to run every millisecond, with one P and two goroutines beside
// it that never give it up by themselves; and how fast one computes beside a thousand that block.
//
//   bazel run -c opt //sched/stall:stall_benchmark
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

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

double Millis(absl::Duration d) { return absl::ToDoubleMilliseconds(d); }

absl::Duration Clock(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return absl::DurationFromTimespec(time);
}

struct Speed {
  double loops = 0;       // in a second
  absl::Duration others;  // the processor time of all other threads meanwhile
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
    speed.others = (Clock(CLOCK_PROCESS_CPUTIME_ID) - all) - (Clock(CLOCK_THREAD_CPUTIME_ID) - own);
  });
  return speed;
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
  const Speed alone = Measure();
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
  const absl::Duration until_all = weft::Instant::Now() - start;
  const int threads = weft::GetSchedSnapshot().threads;
  const Speed beside = Measure();
  const std::string bytes(kBlocked, 'x');
  if (write(fds[1], bytes.data(), bytes.size()) != kBlocked) std::abort();
  weft::testing::Eventually([&] { return left.load() == 0; });
  weft::testing::Eventually([] { return weft::GetSchedSnapshot().threads < 30; });
  std::printf(
      "\n%d blocked after %.0f ms, %d threads; one that computes beside them has %.1f %% of its "
      "speed, and all other threads take %.1f ms of processor time a second; %d threads 5 s after "
      "they have ended\n",
      kBlocked, Millis(until_all), threads, 100.0 * beside.loops / alone.loops,
      Millis(beside.others), weft::GetSchedSnapshot().threads);
}
