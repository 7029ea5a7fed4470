// Stopping the runtime, and starting it again.
//
// To stop it is to stop the world for good: with all Ps collected nobody can begin to run a
// goroutine, and an M that has none on its hands, and so no P, only waits for one. So once no M is
// in user code the threads can go: the monitor's first, as it makes Ms, then those of the Ms, which
// are woken without a P. Goroutines are where they were, and go on with the world.
//
// Those in user code cannot be stopped. Some of them may wait for a P there (bound.cc), or for what
// others hold, so the world goes on between two tries.
#include "sched/runtime.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/runtime.h"
#include "sched/sysmon.h"
#include "sched/topology.h"

namespace weft {
namespace {

using internal::sched;

// How long one try waits for goroutines to leave user code, and the world goes on between two.
constexpr absl::Duration kTry = absl::Milliseconds(20);
constexpr absl::Duration kShortestPause = absl::Microseconds(50);
constexpr absl::Duration kLongestPause = absl::Milliseconds(5);

// Calls `condition` until it holds, at growing intervals; false after `limit`.
bool Await(absl::FunctionRef<bool()> condition, absl::Duration limit) {
  const Instant start = Instant::Now();
  absl::Duration pause = kShortestPause;
  while (!condition()) {
    const absl::Duration left = limit - (Instant::Now() - start);
    if (left <= absl::ZeroDuration()) return false;
    absl::SleepFor(std::min(pause, left));
    pause = std::min(2 * pause, kLongestPause);
  }
  return true;
}

struct Ms {
  int in_user_code = 0;  // have a goroutine on their hands
  int locked = 0;        // others, whose goroutine no other thread may run
};

// The world is stopped.
Ms LookAtMs() {
  Ms ms;
  for (const internal::M* m = sched.all_ms.load(std::memory_order_acquire); m != nullptr;
       m = m->next_all) {
    // Acquire: pairs with ArriveAtScheduler(). Who has left its goroutine and is seen without a
    // locked one has none.
    if (m->current.load(std::memory_order_acquire) != nullptr) {
      ++ms.in_user_code;
    } else if (m->locked_g.load(std::memory_order_relaxed) != nullptr) {
      ++ms.locked;
    }
  }
  return ms;
}

// Nobody runs a goroutine, and those that are locked to one have come to wait for it: an M on its
// way there from its goroutine, or to its end with it, is neither in user code nor asleep.
bool AllHaveLeft() {
  const Ms ms = LookAtMs();
  return ms.in_user_code == 0 &&
         ms.locked == sched.locked_idle_m_count.load(std::memory_order_relaxed);
}

absl::Status RefusedOnGoroutine() {
  return absl::FailedPreconditionError("weft: a goroutine cannot stop the runtime that runs it");
}

}  // namespace

absl::Status Runtime::Start(const RuntimeOptions& options) {
  if (options.max_procs < 0 || options.max_procs > internal::kMaxProcsLimit) {
    return absl::InvalidArgumentError(absl::StrCat("weft: max_procs is ", options.max_procs,
                                                   ", and must be from 1 to ",
                                                   internal::kMaxProcsLimit, ", or 0"));
  }
  // An M, the monitor, and one to replace the M.
  constexpr int kFewestThreads = 3;
  if (options.max_threads != 0 && options.max_threads < kFewestThreads) {
    return absl::InvalidArgumentError(absl::StrCat("weft: max_threads is ", options.max_threads,
                                                   ", and must be at least ", kFewestThreads,
                                                   ", or 0"));
  }
  if (!options.topology.empty()) {
    if (const absl::Status status = ParseTopology(options.topology).status(); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("weft: ", status.message()));
    }
  }
  if (!internal::StartWith(options)) {
    return absl::FailedPreconditionError("weft: the runtime runs already");
  }
  return absl::OkStatus();
}

absl::Status Runtime::Drain(absl::Duration limit) {
  if (internal::ThisG() != nullptr) return RefusedOnGoroutine();
  // What was seen together decides: others may start goroutines, or the runtime, at any time. Where
  // it does not run, none ends after that was seen.
  bool running = true;
  int64_t count = 0;
  const auto ended_or_stopped = [&] {
    running = IsRunning();
    count = NumGoroutine();
    return count == 0 || !running;
  };
  const bool in_time = Await(ended_or_stopped, limit);
  if (count == 0) return absl::OkStatus();
  if (in_time) {
    return absl::FailedPreconditionError(
        absl::StrCat("weft: ", count, " goroutines wait for the runtime to be started"));
  }
  return absl::DeadlineExceededError(absl::StrCat("weft: ", count, " goroutines have not ended"));
}

absl::Status Runtime::Stop(absl::Duration limit) {
  if (internal::ThisG() != nullptr) return RefusedOnGoroutine();
  // Before the lock too: in the child of a fork() that may be held for ever.
  if (!IsRunning()) return absl::OkStatus();
  const internal::StartLock start_lock;
  if (!IsRunning()) return absl::OkStatus();
  if (sched.has_main.load(std::memory_order_relaxed)) {
    return absl::FailedPreconditionError("weft: the runtime runs Main()");
  }
  const Instant deadline = Instant::Now() + limit;
  for (;;) {
    internal::StopTheWorld();
    const absl::Duration left = deadline - Instant::Now();
    if (Await(AllHaveLeft, std::clamp(left, absl::ZeroDuration(), kTry))) {
      break;
    }
    const int stay = LookAtMs().in_user_code;
    internal::StartTheWorld();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(
          absl::StrCat("weft: ", stay, " goroutines do not come back to the runtime"));
    }
    absl::SleepFor(std::min(left, kTry));
  }
  if (const int locked = sched.locked_idle_m_count.load(std::memory_order_relaxed); locked > 0) {
    internal::StartTheWorld();
    return absl::FailedPreconditionError(
        absl::StrCat("weft: ", locked, " goroutines are locked to their threads"));
  }
  internal::EndMonitor();
  internal::EndMs();
  internal::GiveBackAllStacks();
  // Release: pairs with the acquire in EnsureStarted().
  sched.started.store(false, std::memory_order_release);
  internal::LeaveTheWorldStopped();
  return absl::OkStatus();
}

bool Runtime::IsRunning() { return sched.started.load(std::memory_order_acquire); }

}  // namespace weft
