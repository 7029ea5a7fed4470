// Bringing the runtime up: from Main() on the program's main thread, or from the first use on any
// thread.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "sched/debug_settings.h"
#include "sched/fatal.h"
#include "sched/goroutine.h"
#include "sched/internal/fatal_report.h"
#include "sched/internal/futex.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"
#include "sched/procs.h"
#include "stack/traceback.h"

namespace weft::internal {
namespace {

// What idle Ms wait in when no poller is linked: only timers and wake-ups end it.
class SleepingPoller final : public Poller {
 public:
  void Poll(Instant deadline, WakeBatch&) override {
    if (deadline == Instant()) return;
    if (word_.load(std::memory_order_acquire) == 0) FutexWait(word_, 0, deadline);
    word_.exchange(0, std::memory_order_acquire);
  }
  void Break() override {
    if (word_.exchange(1, std::memory_order_release) == 0) FutexWake(word_, 1);
  }
  int waiters() const override { return 0; }

 private:
  std::atomic<uint32_t> word_{0};
};

SleepingPoller sleeping_poller;
std::mutex start_mutex;
bool initialized = false;  // under the mutex

bool ApplySched(absl::string_view value) {
  if (value == "gpm") {
    SetPolicy(Policy::kGpm);
  } else if (value == "global") {
    SetPolicy(Policy::kGlobal);
  } else if (value == "numa") {
    SetPolicy(Policy::kNuma);
  } else {
    return false;
  }
  return true;
}

constexpr DebugSetting kSched = {
    "sched",
    "gpm (the default: a queue for each P), global (one for all) or numa (gpm that keeps to nodes)",
    ApplySched};

[[maybe_unused]] const bool registered = [] {
  RegisterDebugSetting(&kSched);
  return true;
}();

// The first time.
void Initialize() {
  ApplyDebugSettings();
  InitLease();
  goroutine_wait_ops.store(&kGoroutineWaitOps, std::memory_order_relaxed);
  InstallFatalHandlers();
  stack::SetTraceHooks({.header = PrintCurrentGoroutineHeader,
                        .trailer = PrintCurrentGoroutineCreator,
                        .claim_fatal_report = ClaimFatalReport});
  stack::InstallOverflowHandler();
  InitStacks();
  Poller* none = nullptr;
  // A poller that was registered before is kept.
  sched.poller.compare_exchange_strong(none, &sleeping_poller, std::memory_order_release,
                                       std::memory_order_relaxed);
  HandleForks();
  RegisterSchedulerDuties();
  ResizeProcs(DefaultMaxProcs());
  sched.procs_are_the_systems.store(!MaxProcsIsGiven(), std::memory_order_relaxed);
}

// Under the mutex; it does not run.
void Start(const RuntimeOptions& options) {
  pthread_sigmask(SIG_SETMASK, nullptr, &sched.signal_mask);
  const bool first = !initialized;
  SetTopology(options.topology.empty() ? std::nullopt
                                       : std::optional(*ParseTopology(options.topology)));
  if (first) Initialize();
  SetPolicy(options.policy.value_or(sched.policy.load(std::memory_order_relaxed)));
  if (options.max_procs > 0) {
    ResizeProcs(options.max_procs);
    sched.procs_are_the_systems.store(false, std::memory_order_relaxed);
  }
  if (options.max_threads > 0) {
    sched.max_threads.store(options.max_threads, std::memory_order_relaxed);
  }
  if (first) {
    LockGuard guard(sched.lock);
    for (int i = sched.p_count.load(std::memory_order_relaxed) - 1; i >= 0; --i) {
      PushIdleP(sched.ps[i].load(std::memory_order_relaxed));
    }
    initialized = true;
  }
  StartSchedulerMonitor();
  // Before goroutines go on, which may want it. Release: pairs with the acquire in EnsureStarted().
  sched.started.store(true, std::memory_order_release);
  if (!first) ResumeTheWorld();
}

}  // namespace

void EnsureStarted() {
  if (sched.started.load(std::memory_order_acquire)) [[likely]]
    return;
  StartWith(RuntimeOptions());
}

bool StartWith(const RuntimeOptions& options) {
  // Before the mutex, which whoever held it at the fork holds for ever.
  if (sched.forked.load(std::memory_order_relaxed)) RefuseInChild();
  const StartLock lock;
  if (sched.started.load(std::memory_order_relaxed)) return false;
  Start(options);
  return true;
}

StartLock::StartLock() { start_mutex.lock(); }
StartLock::~StartLock() { start_mutex.unlock(); }

void StartHere(absl::AnyInvocable<void()> main) {
  EnsureStarted();
  M* m;
  {
    LockGuard guard(sched.lock);
    sched.m_count.fetch_add(1, std::memory_order_relaxed);
    m = NewM();
  }
  m->is_main_thread = true;
  EnterM(m);
  if (P* p = TakeIdleP(); p != nullptr) AcquireP(m, p);
  SpawnMain(std::move(main));
  RunScheduler(m);
  // Its goroutine was the first one, locked to it, and has ended. The others go on; the process
  // lasts as long as its first thread.
  sched.locked_idle_m_count.fetch_add(1, std::memory_order_relaxed);
  if (P* p = m->p.load(std::memory_order_relaxed); p != nullptr) {
    HandOffP(ReleaseP(m), /*spare=*/nullptr, NoThread::kFatal);
  }
  for (;;) pause();
}

void RegisterPoller(Poller* poller) {
  Poller* old = sched.poller.exchange(poller, std::memory_order_acq_rel);
  EnsureStarted();
  RuntimeSection section;
  if (old != nullptr) old->Break();
  // Somebody goes and waits in the new one.
  WakeP();
}

}  // namespace weft::internal
