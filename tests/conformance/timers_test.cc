// What Go's tests assert of timers and sleeps, as far as it can be said with weft::CallbackTimer,
// Sleep and Select's After: TM-01 to TM-14. TM-13 is beside the timers (sched/timer_test.cc); what
// cannot be said is in tests/README.md.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/select.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/sync/testing.h"
#include "sched/testing.h"
#include "sched/timer.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Eventually;
using testing::Rounds;
using testing::Shortened;
using testing::Tasks;

class TimerConformance : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, TimerConformance, testing::Worlds(), testing::WorldName);

// For what a busy machine may delay.
constexpr absl::Duration kGenerous = absl::Seconds(30);

constexpr absl::Duration kLongest = absl::Nanoseconds(std::numeric_limits<int64_t>::max());
constexpr absl::Duration kShortest = absl::Nanoseconds(std::numeric_limits<int64_t>::min());

// Go's AfterFunc and NewTimer in one: counts how often it has fired, and can be waited for by
// whoever has set it.
class Alarm {
 public:
  // True: it was pending.
  bool Reset(absl::Duration wait) {
    // Before it can fire: one that found nobody to wake would not look again.
    waiter_.store(Waiter::Current(), std::memory_order_relaxed);
    return timer_.Start(Instant::Now() + wait);
  }
  bool Stop() { return timer_.Stop(); }
  int fired() const { return fired_.load(std::memory_order_acquire); }

  // Waits until it has fired `n` times.
  void Wait(int n) {
    while (fired() < n) Waiter::Current()->Park(WaitReason::kSleep);
  }

 private:
  static void Fire(CallbackTimer& timer) {
    // The timer is the first member.
    auto* self = reinterpret_cast<Alarm*>(&timer);
    // Who sees the count may destroy this.
    Waiter* const waiter = self->waiter_.load(std::memory_order_relaxed);
    self->fired_.fetch_add(1, std::memory_order_release);
    waiter->Unpark();
  }

  CallbackTimer timer_{Fire};
  std::atomic<int> fired_{0};
  std::atomic<Waiter*> waiter_{nullptr};
};

// A signal in the middle of a sleep does not shorten it.
TEST_P(TimerConformance, TM01_SleepSurvivesSignals) {
  static std::atomic<int> signals;
  signals.store(0);
  struct sigaction action = {};
  action.sa_handler = [](int) { signals.fetch_add(1); };
  struct sigaction old;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &old), 0);
  Run([] {
    Tasks tasks;
    tasks.Go([] {
      for (int i = 0; i < 5; ++i) {
        Sleep(absl::Milliseconds(15));
        kill(getpid(), SIGUSR1);
      }
    });
    const Instant start = Instant::Now();
    Sleep(absl::Milliseconds(100));
    EXPECT_GE(Instant::Now() - start, absl::Milliseconds(100));
    tasks.Wait();
  });
  EXPECT_TRUE(Eventually([] { return signals.load() > 0; }));
  sigaction(SIGUSR1, &old, nullptr);
}

// A callback that has something long to do starts a goroutine for it, and the timer, armed again
// for now each time, goes on at once. Long: until after the last one.
struct Chain {
  static constexpr int kLinks = 10;
  static void Fire(CallbackTimer& t) {
    auto* self = reinterpret_cast<Chain*>(&t);
    Go([self] {
      while (!self->done.load()) Sleep(absl::Milliseconds(10));
      self->slept.fetch_add(1);
    });
    if (++self->links < kLinks) {
      t.Start(Instant::Now());
    } else {
      Waiter* const owner = self->owner;
      self->done.store(true, std::memory_order_release);
      owner->Unpark();
    }
  }

  CallbackTimer timer{Fire};  // first
  int links = 0;
  std::atomic<int> slept{0};
  std::atomic<bool> done{false};
  Waiter* owner = Waiter::Current();
};

TEST_P(TimerConformance, TM02_AChainOfTimersIsNotHeldUpByItsCallbacks) {
  Run([] {
    Chain chain;
    chain.timer.Start(Instant::Now());
    // For ever, if one link waited for what the one before has started.
    while (!chain.done.load(std::memory_order_acquire)) chain.owner->Park(WaitReason::kSleep);
    EXPECT_TRUE(Eventually([&] { return chain.slept.load() == Chain::kLinks; }));
  });
}

TEST_P(TimerConformance, TM04_AfterIsNotEarlyAndNotVeryLate) {
  Run([] {
    constexpr int kCount = 10;
    const Chan<int> silent(0);
    // The longer the wait, the less it is to a busy machine to be so late.
    for (absl::Duration wait = absl::Milliseconds(Rounds(100, 20));; wait *= 2) {
      ASSERT_LT(wait, absl::Seconds(5)) << "always late";
      const Instant start = Instant::Now();
      for (int i = 0; i < kCount; ++i) {
        const Instant before = Instant::Now();
        EXPECT_EQ(Select(silent.OnRecv(), After(wait)), 1);
        EXPECT_GE(Instant::Now() - before, wait);
      }
      if (Instant::Now() - start <= 3 * kCount * wait) break;
    }
  });
}

TEST_P(TimerConformance, TM05_StoppedTimersDoNotFire) {
  Run([] {
    // A busy machine may come to the Stop too late.
    for (absl::Duration wait = Shortened(absl::Milliseconds(50));; wait *= 2) {
      ASSERT_LT(wait, absl::Seconds(10)) << "always fires before it is stopped";
      Alarm near;
      Alarm far;
      far.Reset(3 * wait);
      near.Reset(wait);
      const bool near_stopped = near.Stop();
      const bool far_stopped = far.Stop();
      if (!near_stopped || !far_stopped) {
        if (!near_stopped) near.Wait(1);
        if (!far_stopped) far.Wait(1);
        continue;
      }
      EXPECT_FALSE(near.Stop());
      EXPECT_FALSE(far.Stop());
      Sleep(4 * wait);
      EXPECT_EQ(near.fired(), 0);
      EXPECT_EQ(far.fired(), 0);
      EXPECT_FALSE(near.Stop());
      break;
    }
  });
}

// Each of a hundred arms a timer and stops it long before its time.
TEST_P(TimerConformance, TM07_StopHoldsForEachOfMany) {
  Run([] {
    const absl::Duration until_fire = Shortened(absl::Seconds(2));
    std::vector<std::unique_ptr<Alarm>> alarms;
    for (int i = 0; i < 100; ++i) alarms.push_back(std::make_unique<Alarm>());
    std::atomic<int> late{0};
    const Instant start = Instant::Now();
    Tasks tasks;
    for (const auto& alarm : alarms) {
      tasks.Go([&late, until_fire, a = alarm.get()] {
        a->Reset(until_fire);
        Sleep(until_fire / 4);
        // Late only where the machine has kept this task away for longer than it slept.
        if (!a->Stop()) {
          late.fetch_add(1);
          a->Wait(1);
        }
      });
    }
    tasks.Wait();
    const Instant stopped = Instant::Now();
    Sleep(start + until_fire + Shortened(absl::Milliseconds(200)) - stopped);
    int fired = 0;
    for (const auto& alarm : alarms) fired += alarm->fired();
    EXPECT_EQ(fired, late.load());
    if (stopped - start < until_fire) {
      EXPECT_EQ(fired, 0);
    }
  });
}

// Sleeps of no length, with channel operations between them, beside a hundred stops of the world.
TEST(TimerConformanceProcs, TM08_SleepsOfNoLengthDoNotHang) {
  for (const int procs : testing::AllInTurn({1, 4})) {
    const int before = SetMaxProcs(procs);
    testing::RunOnGoroutine([procs] {
      const Chan<bool> done(0);
      Go([done, procs] {
        for (int i = 0; i < 100; ++i) SetMaxProcs(procs + i % 2);
        done.Send(true);
      });
      for (int i = 0; i < 100; ++i) {
        Sleep(absl::ZeroDuration());
        const Chan<bool> c(1);
        c.Send(true);
        EXPECT_EQ(c.Recv(), true);
      }
      EXPECT_EQ(done.Recv(), true);
    });
    SetMaxProcs(before);
  }
}

// The longest waits do not return, nor hold up a short one; the shortest return at once.
TEST_P(TimerConformance, TM10_ExtremeDurations) {
  Run([] {
    const Chan<int> stop(0);
    Tasks tasks;
    for (const absl::Duration longest : {kLongest, absl::InfiniteDuration()}) {
      tasks.Go([=] { EXPECT_EQ(Select(After(longest), stop.OnRecv()), 1); });
    }
    Alarm never;
    never.Reset(kLongest);
    // This one does not end with the test: whoever is a thread does without.
    auto woke = std::make_shared<std::atomic<bool>>(false);
    if (Waiter::Current()->kind() == Waiter::Kind::kGoroutine) {
      Go([woke] {
        Sleep(kLongest);
        woke->store(true);
      });
    }
    const Chan<int> silent(0);
    const Instant start = Instant::Now();
    EXPECT_EQ(Select(silent.OnRecv(), After(absl::Milliseconds(25))), 1);
    EXPECT_GE(Instant::Now() - start, absl::Milliseconds(25));
    EXPECT_LT(Instant::Now() - start, kGenerous);
    EXPECT_EQ(never.fired(), 0);
    EXPECT_FALSE(woke->load());
    EXPECT_TRUE(never.Stop());
    stop.Close();
    tasks.Wait();

    const Instant before = Instant::Now();
    for (const absl::Duration shortest : {kShortest, -absl::InfiniteDuration()}) {
      Sleep(shortest);
      EXPECT_EQ(Select(silent.OnRecv(), After(shortest)), 1);
      Alarm alarm;
      alarm.Reset(shortest);
      alarm.Wait(1);
    }
    EXPECT_LT(Instant::Now() - before, kGenerous);
  });
}

// Go's timers without a function cannot be made here, so none can be started or stopped.
static_assert(!std::is_default_constructible_v<CallbackTimer>, "TM-11");

// A timer through all that can happen to it, a hundred of them in any order: what Start and Stop
// say is right at every step. Returns how long the last firing took at most.
absl::Duration DriveTimers() {
  struct Driven {
    Alarm alarm;
    int step = 0;
    Instant last_start;
  };
  std::vector<std::unique_ptr<Driven>> timers;
  for (int i = 0; i < 100; ++i) timers.push_back(std::make_unique<Driven>());
  std::mt19937 random(14);
  absl::Duration longest;
  while (!timers.empty()) {
    const size_t at = random() % timers.size();
    Driven& t = *timers[at];
    switch (t.step++) {
      case 0:
        EXPECT_FALSE(t.alarm.Reset(absl::ZeroDuration()));
        break;
      case 1:
        t.alarm.Wait(1);
        break;
      case 2:
        EXPECT_FALSE(t.alarm.Reset(absl::Minutes(1))) << "it has fired";
        break;
      case 4:
        EXPECT_FALSE(t.alarm.Reset(absl::Minutes(3))) << "it was stopped";
        break;
      case 6:
        EXPECT_FALSE(t.alarm.Reset(absl::Minutes(2))) << "it was stopped";
        break;
      case 3:
      case 5:
      case 7:
        EXPECT_TRUE(t.alarm.Stop()) << "it is minutes away";
        break;
      case 8:
        t.last_start = Instant::Now();
        EXPECT_FALSE(t.alarm.Reset(absl::ZeroDuration())) << "it was stopped";
        break;
      case 9:
        t.alarm.Wait(2);
        longest = std::max(longest, Instant::Now() - t.last_start);
        break;
      default:
        EXPECT_EQ(t.alarm.fired(), 2);
        timers.erase(timers.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  return longest;
}

TEST_P(TimerConformance, TM14_StartAndStopSayWhatWas) {
  Run([] { EXPECT_LT(DriveTimers(), kGenerous); });
}

}  // namespace
}  // namespace weft
