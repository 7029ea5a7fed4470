#include "sched/testing.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace weft::testing {
namespace {

// Waits until `done` is set by whoever then unparks the waiter.
void WaitFor(const std::atomic<bool>& done) {
  while (!done.load(std::memory_order_acquire)) {
    Waiter::Current()->Park(WaitReason::kSemacquire);
  }
}

// Runs `fn`, then tells `owner`.
void RunAndTell(absl::FunctionRef<void()> fn, std::atomic<bool>& done, Waiter* owner) {
  fn();
  done.store(true, std::memory_order_release);
  owner->Unpark();
}

}  // namespace

void RunOnGoroutine(absl::FunctionRef<void()> fn) {
  std::atomic<bool> done{false};
  Waiter* owner = Waiter::Current();
  Go({.name = "test"}, [&] { RunAndTell(fn, done, owner); });
  WaitFor(done);
}

void RunOnThread(absl::FunctionRef<void()> fn) {
  std::atomic<bool> done{false};
  Waiter* owner = Waiter::Current();
  std::thread thread([&] { RunAndTell(fn, done, owner); });
  WaitFor(done);
  thread.join();
}

void ForEachMaxProcs(absl::FunctionRef<void()> fn) {
  const int before = MaxProcs();
  for (const int procs : AllInTurn({1, 2, 4, 8}, 4)) {
    SetMaxProcs(procs);
    fn();
  }
  SetMaxProcs(before);
}

bool Eventually(absl::FunctionRef<bool()> condition, absl::Duration limit) {
  const Instant start = Instant::Now();
  while (!condition()) {
    const absl::Duration waited = Instant::Now() - start;
    if (waited > limit) return false;
    Sleep(std::clamp(waited / 8, absl::Microseconds(100), absl::Milliseconds(5)));
  }
  return true;
}

}  // namespace weft::testing
