// What schedtrace_test runs and watches: `schedtrace_program MODE MILLISECONDS`.
#include <cstdlib>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "sched/clock.h"
#include "sched/goroutine.h"

namespace {

// Everything sleeps.
void Idle(absl::Duration time) { weft::Sleep(time); }

// Every P has goroutines that do nothing but yield, and more of them wait.
void Busy(absl::Duration time) {
  const weft::Instant end = weft::Instant::Now() + time;
  for (int i = 0; i < 50; ++i) {
    weft::Go([end] {
      while (weft::Instant::Now() < end) weft::Yield();
    });
  }
  while (weft::Instant::Now() < end) weft::Yield();
}

// One goroutine a P computes and does not call the runtime at all.
void Hog(absl::Duration time) {
  const weft::Instant end = weft::Instant::Now() + time;
  for (int i = 1; i < weft::MaxProcs(); ++i) {
    weft::Go([end] {
      while (weft::Instant::Now() < end) {
      }
    });
  }
  while (weft::Instant::Now() < end) {
  }
}

// All of the program's goroutines come and go, and so do the Ps.
void Churn(absl::Duration time) {
  const weft::Instant end = weft::Instant::Now() + time;
  for (int n = 0; weft::Instant::Now() < end; ++n) {
    for (int i = 0; i < 100; ++i) weft::Go([] { weft::Sleep(absl::Microseconds(50)); });
    weft::SetMaxProcs(1 + n % 4);
    weft::Sleep(absl::Milliseconds(1));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  const std::string mode = argv[1];
  const absl::Duration time = absl::Milliseconds(std::atoi(argv[2]));
  if (mode == "embedded") {
    // No Main(): a program of threads, of which one uses a goroutine.
    weft::Go([] {});
    std::this_thread::sleep_for(absl::ToChronoMilliseconds(time));
    return 0;
  }
  return weft::Main([&] {
    if (mode == "idle") Idle(time);
    if (mode == "busy") Busy(time);
    if (mode == "hog") Hog(time);
    if (mode == "churn") Churn(time);
    return 0;
  });
}
