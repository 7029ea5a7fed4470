#include "sched/sysmon.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "sched/internal/futex.h"
#include "sched/internal/lock.h"
#include "sched/internal/signal_mask.h"

namespace weft {
namespace {

constexpr int kMaxDuties = 32;
// The monitor's word, while there is a monitor, for signal handlers.
uint32_t* word_for_handlers = nullptr;

constexpr int64_t kFastestNanos = 20'000;
constexpr int64_t kSlowestNanos = 10'000'000;
constexpr int kRoundsBeforeSlowing = 50;

struct DutyState {
  MonitorDuty duty;
  Instant next;  // for periodic ones
  std::atomic<uint64_t> runs{0};
  std::atomic<uint64_t> finds{0};
};

class Monitor {
 public:
  void Register(const MonitorDuty& duty) {
    internal::LockGuard guard(lock_);
    const int count = count_.load(std::memory_order_relaxed);
    if (count == kMaxDuties) {
      std::fprintf(stderr, "weft: no room for monitor duty '%s': there are %d already\n", duty.name,
                   kMaxDuties);
      std::abort();
    }
    duties_[count].duty = duty;
    // Release: the monitor that acquires the count sees the duty.
    count_.store(count + 1, std::memory_order_release);
    Wake();
  }

  void Start(const internal::MonitorHost* host) {
    host_ = host;
    ends_.store(false, std::memory_order_relaxed);
    int error = 0;
    {
      // Signals are for the program's own threads.
      internal::AllSignalsBlocked blocked;
      error = pthread_create(
          &thread_, nullptr,
          [](void* self) -> void* {
            static_cast<Monitor*>(self)->Loop();
            return nullptr;
          },
          this);
    }
    if (error != 0) {
      std::fprintf(stderr, "weft: cannot create the monitor thread: error %d\n", error);
      std::exit(2);
    }
    static_assert(sizeof(word_) == sizeof(uint32_t));
    // Release: a handler that acquires it finds the monitor made.
    __atomic_store_n(&word_for_handlers, reinterpret_cast<uint32_t*>(&word_), __ATOMIC_RELEASE);
  }

  void End() {
    __atomic_store_n(&word_for_handlers, nullptr, __ATOMIC_RELEASE);
    ends_.store(true, std::memory_order_relaxed);
    Wake();
    pthread_join(thread_, nullptr);
  }

  void Wake() {
    if (word_.exchange(1, std::memory_order_release) == 0) internal::FutexWake(word_, 1);
  }

  void NextRoundBy(Instant when) { next_by_ = std::min(next_by_, when); }

  absl::Duration pace() const {
    return absl::Nanoseconds(pace_nanos_.load(std::memory_order_relaxed));
  }

  int Stats(MonitorDutyStats* stats, int capacity) const {
    const int count = count_.load(std::memory_order_acquire);
    for (int i = 0; i < std::min(count, capacity); ++i) {
      stats[i] = {duties_[i].duty.name, duties_[i].runs.load(std::memory_order_relaxed),
                  duties_[i].finds.load(std::memory_order_relaxed)};
    }
    return count;
  }

 private:
  void Loop() {
    prctl(PR_SET_NAME, "weft-sysmon");
    prctl(PR_SET_TIMERSLACK, 1);  // the default slack of 50 us is longer than the fastest round
    int quiet_rounds = 0;
    int64_t pace = kFastestNanos;
    while (!ends_.load(std::memory_order_relaxed)) {
      pace_nanos_.store(pace, std::memory_order_relaxed);
      Instant next = Instant::FromNanos(Instant::Now().nanos() + pace);
      if (next_by_ < next) next = next_by_;
      next_by_ = Instant::Never();
      if (SleepUntil(next)) {
        // Somebody wants it to look closely now.
        quiet_rounds = 0;
        pace = kFastestNanos;
      }
      Instant next_due;
      bool found = Round(/*idle=*/false, &next_due);
      Instant until = Instant::Never();
      if (!found && host_->try_sleep(&until)) {
        const Instant before = Instant::Now();
        SleepUntil(std::min(until, next_due));
        host_->slept();
        Round(/*idle=*/true, &next_due);
        // After a long sleep something new may have begun: look closely for a while. But a server
        // under load has nothing to do for a moment a thousand times a second.
        found = Instant::Now() - before >= absl::Nanoseconds(kSlowestNanos);
      }
      if (found) {
        quiet_rounds = 0;
        pace = kFastestNanos;
      } else if (++quiet_rounds > kRoundsBeforeSlowing) {
        pace = std::min(pace * 2, kSlowestNanos);
      }
      if (Instant::FromNanos(Instant::Now().nanos() + pace) > next_due) {
        pace = std::max<int64_t>(kFastestNanos, (next_due - Instant::Now()) / absl::Nanoseconds(1));
      }
    }
  }

  // Runs what is due. `idle`: only the periodic ones.
  bool Round(bool idle, Instant* next_due) {
    bool found = false;
    *next_due = Instant::Never();
    const int count = count_.load(std::memory_order_acquire);
    for (int i = 0; i < count; ++i) {
      DutyState& state = duties_[i];
      const Instant now = Instant::Now();
      if (state.duty.period > absl::ZeroDuration()) {
        if (state.next <= now) {
          // From the time it was due, so that periods do not drift, unless it is far behind.
          state.next = state.next + state.duty.period;
          if (state.next <= now) state.next = now + state.duty.period;
          found |= Run(state, now);
        }
        *next_due = std::min(*next_due, state.next);
      } else if (!idle) {
        found |= Run(state, now);
      }
    }
    return found;
  }

  static bool Run(DutyState& state, Instant now) {
    const bool found = state.duty.run(now);
    state.runs.fetch_add(1, std::memory_order_relaxed);
    if (found) state.finds.fetch_add(1, std::memory_order_relaxed);
    return found;
  }

  // True: Wake() ended it.
  bool SleepUntil(Instant deadline) {
    // Acquire: pairs with Wake(), for what the waker has changed.
    if (word_.load(std::memory_order_acquire) == 0) internal::FutexWait(word_, 0, deadline);
    return word_.exchange(0, std::memory_order_acquire) != 0;
  }

  internal::Lock lock_;
  DutyState duties_[kMaxDuties];
  std::atomic<int> count_{0};
  const internal::MonitorHost* host_ = nullptr;
  pthread_t thread_ = {};
  std::atomic<bool> ends_{false};
  std::atomic<uint32_t> word_{0};  // 1: woken
  std::atomic<int64_t> pace_nanos_{kFastestNanos};
  Instant next_by_ = Instant::Never();  // the monitor's own
};

Monitor& TheMonitor() {
  static Monitor* monitor = new Monitor;
  return *monitor;
}

}  // namespace

void RegisterMonitorDuty(const MonitorDuty& duty) { TheMonitor().Register(duty); }

int GetMonitorStats(MonitorDutyStats* stats, int capacity) {
  return TheMonitor().Stats(stats, capacity);
}

namespace internal {

void StartMonitor(const MonitorHost* host) { TheMonitor().Start(host); }
void EndMonitor() { TheMonitor().End(); }
void NextRoundBy(Instant when) { TheMonitor().NextRoundBy(when); }
void WakeMonitor() { TheMonitor().Wake(); }

bool WakeMonitorInHandler() {
  uint32_t* word = __atomic_load_n(&word_for_handlers, __ATOMIC_ACQUIRE);
  if (word == nullptr) return false;
  if (__atomic_exchange_n(word, 1, __ATOMIC_RELEASE) == 0) {
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
  }
  return true;
}

void ForgetMonitor() { __atomic_store_n(&word_for_handlers, nullptr, __ATOMIC_RELEASE); }

absl::Duration MonitorPace() { return TheMonitor().pace(); }

}  // namespace internal
}  // namespace weft
