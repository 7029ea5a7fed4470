#include "sched/testing.h"

#include <atomic>
#include <thread>

#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/waiter.h"

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
  for (const int procs : {1, 2, 4, 8}) {
    SetMaxProcs(procs);
    fn();
  }
  SetMaxProcs(before);
}

bool Eventually(absl::FunctionRef<bool()> condition, absl::Duration limit) {
  const Instant deadline = Instant::Now() + limit;
  while (!condition()) {
    if (Instant::Now() > deadline) return false;
    Sleep(absl::Microseconds(100));
  }
  return true;
}

}  // namespace weft::testing
