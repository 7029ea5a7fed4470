// What timer.h promises, with the scheduler running.
#include "sched/timer.h"

#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/testing.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::Eventually;
using testing::ForEachMaxProcs;
using testing::Rounds;
using testing::RunOnGoroutine;
using testing::RunOnThread;

void OnEachKind(absl::FunctionRef<void()> body) {
  ForEachMaxProcs([&] {
    RunOnThread(body);
    RunOnGoroutine(body);
  });
}

// Says when it ran, and wakes who made it.
struct Stopwatch {
  Stopwatch() : timer(Fire), owner(Waiter::Current()) {}
  static void Fire(CallbackTimer& t) {
    auto* self = reinterpret_cast<Stopwatch*>(&t);
    Waiter* owner = self->owner;
    self->at.store(Instant::Now().nanos());
    self->runs.fetch_add(1);  // the last touch: whoever sees it may destroy this
    owner->Unpark();
  }
  // Parks until it has run `n` times.
  void WaitFor(int n) {
    while (runs.load() < n) owner->Park(WaitReason::kSleep);
  }

  CallbackTimer timer;  // first
  Waiter* const owner;
  std::atomic<int64_t> at{0};
  std::atomic<int> runs{0};
};

TEST(TimerTest, RunsOnceAndNotEarly) {
  OnEachKind([] {
    for (const absl::Duration wait :
         {-absl::Seconds(1), absl::ZeroDuration(), absl::Microseconds(30), absl::Milliseconds(4)}) {
      Stopwatch watch;
      const Instant due = Instant::Now() + wait;
      EXPECT_FALSE(watch.timer.Start(due));
      watch.WaitFor(1);
      EXPECT_GE(watch.at.load(), due.nanos());
      EXPECT_FALSE(watch.timer.Stop()) << "it has run";
      EXPECT_EQ(watch.runs.load(), 1);
    }
  });
}

TEST(TimerTest, StoppedTimersDoNotRun) {
  OnEachKind([] {
    // A busy machine may come to the Stop() only when it is due: then it may run, and more time is
    // given to the next one.
    bool in_time = false;
    for (absl::Duration wait = absl::Milliseconds(20); !in_time; wait *= 2) {
      Stopwatch stopped;
      Stopwatch later;
      const Instant due = Instant::Now() + wait;
      stopped.timer.Start(due);
      later.timer.Start(due + absl::Milliseconds(5));
      const bool was_pending = stopped.timer.Stop();
      in_time = Instant::Now() < due;
      EXPECT_TRUE(was_pending || !in_time);
      EXPECT_FALSE(stopped.timer.Stop());
      later.WaitFor(1);
      if (!was_pending) stopped.WaitFor(1);
      EXPECT_EQ(stopped.runs.load(), was_pending ? 0 : 1);
    }
  });
}

TEST(TimerTest, StartMovesWhatIsPending) {
  OnEachKind([] {
    Stopwatch watch;
    EXPECT_FALSE(watch.timer.Start(Instant::Now() + absl::Hours(1)));
    EXPECT_TRUE(watch.timer.Start(Instant::Now() + absl::Milliseconds(1)));
    watch.WaitFor(1);
    EXPECT_FALSE(watch.timer.Start(Instant::Now() + absl::Hours(1)));
    EXPECT_TRUE(watch.timer.Stop());
    EXPECT_EQ(watch.runs.load(), 1);
  });
}

// Everything sleeps, the last thread until a far deadline; a nearer one must end that sleep.
TEST(TimerTest, EarlierTimerEndsALongerSleep) {
  ForEachMaxProcs([] {
    Stopwatch far;
    far.timer.Start(Instant::Now() + absl::Hours(1));
    for (int i = 0; i < Rounds(30, 6); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(i % 3));
      Stopwatch near;
      const Instant start = Instant::Now();
      near.timer.Start(start + absl::Milliseconds(1));
      near.WaitFor(1);
      EXPECT_LT(Instant::Now() - start, absl::Seconds(10));
    }
    EXPECT_TRUE(far.timer.Stop());
  });
}

struct Chain {
  Chain() : timer(Fire) {}
  static void Fire(CallbackTimer& t) {
    auto* self = reinterpret_cast<Chain*>(&t);
    if (self->runs.fetch_add(1) + 1 < 10) {
      EXPECT_FALSE(t.Start(Instant::Now())) << "not pending while its callback runs";
    } else {
      // What a callback may do besides.
      Waiter* waiter = self->waiter;
      Go([self] { self->spawned.store(true); });
      waiter->Unpark();
    }
  }
  CallbackTimer timer;
  std::atomic<int> runs{0};
  std::atomic<bool> spawned{false};
  Waiter* waiter = nullptr;
};

TEST(TimerTest, CallbacksMayStartTheirTimerSpawnAndUnpark) {
  OnEachKind([] {
    Chain chain;
    chain.waiter = Waiter::Current();
    chain.timer.Start(Instant::Now());
    while (chain.runs.load() < 10) Waiter::Current()->Park(WaitReason::kSleep);
    EXPECT_TRUE(Eventually([&] { return chain.spawned.load(); }));
    EXPECT_EQ(chain.runs.load(), 10);
  });
}

// TM-13: a timer that is an hour away is stopped and started for the distant past, again and again.
TEST(TimerTest, MovedEarlierFiresAtOnce) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      for (int i = 0; i < Rounds(250); ++i) {
        Stopwatch watch;
        watch.timer.Start(Instant::Now() + absl::Hours(1));
        int runs = 0;
        for (int j = 0; j < 10; ++j) {
          if (!watch.timer.Stop()) {
            // It fired after the last Start(), perhaps at this moment.
            if (j > 0) ++runs;
            watch.WaitFor(runs);
          }
          watch.timer.Start(Instant());
        }
        const Instant start = Instant::Now();
        watch.WaitFor(runs + 1);
        ASSERT_LT(Instant::Now() - start, absl::Seconds(30));
      }
    });
  });
}

// Many timers, armed from everywhere, in any order; the Ps come and go meanwhile.
TEST(TimerTest, NoneIsLostWhilePsComeAndGo) {
  for (const bool delays : AllInTurn({false, true})) {
    if (delays) internal::EnableRandomDelays(11);
    std::atomic<bool> done{false};
    std::thread changer([&] {
      std::mt19937 random(1);
      while (!done.load()) {
        SetMaxProcs(1 + static_cast<int>(random() % 6));
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 2'000));
      }
    });
    for (int round = 0; round < Rounds(20, 3); ++round) {
      std::vector<std::unique_ptr<Stopwatch>> watches;
      for (int i = 0; i < 200; ++i) watches.push_back(std::make_unique<Stopwatch>());
      auto arm = [&](size_t from) {
        std::mt19937 random(static_cast<unsigned>(from));
        for (size_t i = from; i < watches.size(); i += 2) {
          watches[i]->timer.Start(Instant::Now() + absl::Microseconds(random() % 10'000));
          if (i % 16 == 0) Yield();
        }
      };
      std::atomic<bool> armed{false};
      Go([&] {
        arm(0);
        armed.store(true);
      });
      arm(1);
      ASSERT_TRUE(Eventually([&] {
        if (!armed.load()) return false;
        for (const auto& watch : watches) {
          if (watch->runs.load() == 0) return false;
        }
        return true;
      })) << "a timer did not fire, round "
          << round;
    }
    done.store(true);
    changer.join();
    internal::SetDelayHook(nullptr);
    SetMaxProcs(2);
  }
}

// The P goes whose timer it is, while the last thread looks for the deadline that it sleeps until:
// it may look at both Ps while the timer is on its way from one to the other.
TEST(TimerTest, TimersOfAPThatGoesAreNotForgotten) {
  internal::SetDelayHook([](const char* point) {
    const absl::string_view at = point;
    if (at == "timer.move") std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (at == "proc.earliest_timer") std::this_thread::sleep_for(std::chrono::microseconds(300));
  });
  for (int i = 0; i < Rounds(100); ++i) {
    SetMaxProcs(4);
    std::atomic<int> fired{0};
    // The first keeps the first P, so that the second has another one.
    std::atomic<bool> sleeping{false};
    std::atomic<bool> kept{false};
    Go([&] {
      while (!sleeping.load()) {
      }
      kept.store(true);
    });
    Go([&] {
      sleeping.store(true);
      Sleep(absl::Milliseconds(20));
      fired.fetch_add(1);
    });
    while (!sleeping.load()) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(i % 10 * 200));
    SetMaxProcs(1);
    // Nobody else touches the scheduler, which would hide a timer that was overlooked.
    const Instant limit = Instant::Now() + absl::Seconds(20);
    while (fired.load() < 1 && Instant::Now() < limit) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    ASSERT_EQ(fired.load(), 1) << "round " << i;
    while (!kept.load()) std::this_thread::yield();
  }
  internal::SetDelayHook(nullptr);
}

// SC-12's point: a P that is busy with short work does not starve timers.
TEST(TimerTest, BusyGoroutinesDoNotStarveTimers) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      std::atomic<bool> done{false};
      std::atomic<int> left{2 * MaxProcs()};
      for (int i = 0; i < 2 * MaxProcs(); ++i) {
        Go([&] {
          while (!done.load()) Yield();
          left.fetch_sub(1);
        });
      }
      const Instant start = Instant::Now();
      Sleep(absl::Milliseconds(10));
      EXPECT_LT(Instant::Now() - start, absl::Seconds(10));
      done.store(true);
      while (left.load() > 0) Yield();
    });
  });
}

}  // namespace
}  // namespace weft
