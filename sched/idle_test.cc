// Threads that go idle while work arrives: none is left lying. Whoever waits here polls an atomic
// and calls nothing of the runtime, as any call could wake the one that has been forgotten.
#include <sys/prctl.h>

#include <atomic>
#include <chrono>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/snapshot.h"
#include "sched/testing.h"
#include "sched/timer.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::Eventually;
using testing::Rounds;

// Whether `done` comes to hold before long, without a call of the runtime.
template <typename Done>
bool Comes(Done done) {
  const Instant limit = Instant::Now() + absl::Seconds(20);
  while (!done()) {
    if (Instant::Now() > limit) return false;
    std::this_thread::yield();
  }
  return true;
}

// Lets the scheduler's threads get to some point of their way to sleep.
void Pause(std::mt19937& random) {
  switch (random() % 4) {
    case 0:
      break;
    case 1:
      std::this_thread::yield();
      break;
    default:
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 120));
  }
}

// Over numbers of Ps from `least` on, without delays and with.
void OverProcs(int least, absl::FunctionRef<void(int rounds)> body) {
  for (const bool delays : AllInTurn({false, true})) {
    for (const int procs : AllInTurn({1, 2, 4, 8}, 4)) {
      if (procs < least) continue;
      if (delays) internal::EnableRandomDelays(static_cast<uint64_t>(procs));
      SetMaxProcs(procs);
      body(delays ? Rounds(300, 30) : Rounds(1'000, 50));
      internal::SetDelayHook(nullptr);
    }
  }
  SetMaxProcs(2);
}

TEST(IdleTest, GoroutinesFromThreadsRun) {
  OverProcs(1, [](int rounds) {
    std::mt19937 random(1);
    for (int i = 0; i < rounds; ++i) {
      std::atomic<bool> ran{false};
      Go([&] { ran.store(true); });
      ASSERT_TRUE(Comes([&] { return ran.load(); })) << "round " << i;
      Pause(random);
    }
  });
}

TEST(IdleTest, GoroutinesFromSeveralThreadsRun) {
  OverProcs(1, [](int rounds) {
    std::vector<std::thread> threads;
    std::atomic<int> failed{0};
    for (unsigned t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(t);
        for (int i = 0; i < rounds / 3; ++i) {
          std::atomic<bool> ran{false};
          Go([&] { ran.store(true); });
          if (!Comes([&] { return ran.load(); })) failed.fetch_add(1);
          Pause(random);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(failed.load(), 0);
  });
}

TEST(IdleTest, UnparksFromThreadsArrive) {
  OverProcs(1, [](int rounds) {
    std::mt19937 random(2);
    std::atomic<Waiter*> waiter{nullptr};
    std::atomic<int> asked{0};
    std::atomic<int> answered{0};
    std::atomic<bool> ended{false};
    Go([&] {
      waiter.store(Waiter::Current());
      while (answered.load() < rounds) {
        while (asked.load() == answered.load()) Waiter::Current()->Park(WaitReason::kSelect);
        answered.fetch_add(1);
      }
      ended.store(true);
    });
    ASSERT_TRUE(Comes([&] { return waiter.load() != nullptr; }));
    for (int i = 1; i <= rounds; ++i) {
      asked.store(i);
      waiter.load()->Unpark();
      ASSERT_TRUE(Comes([&] { return answered.load() == i; })) << "round " << i;
      Pause(random);
    }
    ASSERT_TRUE(Comes([&] { return ended.load(); }));
  });
}

// The goroutine makes another one ready and then computes: an idle P has to come for it.
TEST(IdleTest, WorkOfABusyGoroutineIsTakenByOthers) {
  OverProcs(2, [](int rounds) {
    std::atomic<int> result{0};
    Go([&] {
      std::mt19937 random(3);
      for (int i = 0; i < rounds; ++i) {
        std::atomic<bool> ran{false};
        Go([&] { ran.store(true); });
        if (!Comes([&] { return ran.load(); })) {
          result.store(-1);
          return;
        }
        Pause(random);
      }
      result.store(1);
    });
    ASSERT_TRUE(Eventually([&] { return result.load() != 0; }, absl::Seconds(100)));
    ASSERT_EQ(result.load(), 1);
  });
}

// ... also where it has always waited after making one ready, so far.
TEST(IdleTest, WorkOfAGoroutineThatBecomesBusyIsTakenByOthers) {
  OverProcs(2, [](int rounds) {
    std::atomic<int> result{0};
    Go([&] {
      for (int i = 0; i < rounds / 10; ++i) {
        for (int n = 0; n < 40; ++n) {
          std::atomic<bool> ran{false};
          Waiter* self = Waiter::Current();
          Go([&, self] {
            ran.store(true);
            self->Unpark();
          });
          while (!ran.load()) self->Park(WaitReason::kSelect);
        }
        std::atomic<bool> ran{false};
        Go([&] { ran.store(true); });
        if (!Comes([&] { return ran.load(); })) {
          result.store(-1);
          return;
        }
      }
      result.store(1);
    });
    ASSERT_TRUE(Eventually([&] { return result.load() != 0; }, absl::Seconds(100)));
    ASSERT_EQ(result.load(), 1);
  });
}

// A burst from one goroutine spreads over all Ps, each of which must be woken.
TEST(IdleTest, BurstsWakeEveryP) {
  OverProcs(2, [](int rounds) {
    const int procs = MaxProcs();
    for (int i = 0; i < rounds / 20; ++i) {
      std::atomic<int> arrived{0};
      std::atomic<int> left{procs + 1};
      Go([&] {
        for (int n = 0; n < procs; ++n) {
          Go([&] {
            arrived.fetch_add(1);
            // Not until all run at once, which needs all Ps.
            Comes([&] { return arrived.load() >= procs; });
            left.fetch_sub(1);
          });
        }
        left.fetch_sub(1);
      });
      ASSERT_TRUE(Comes([&] { return left.load() == 0; })) << "round " << i;
    }
  });
}

// The P whose timer it is belongs to a goroutine that computes.
TEST(IdleTest, TimersOfABusyGoroutineFire) {
  OverProcs(2, [](int rounds) {
    std::atomic<int> result{0};
    Go([&] {
      struct Flag {
        CallbackTimer timer{
            [](CallbackTimer& t) { reinterpret_cast<Flag*>(&t)->fired.store(true); }};
        std::atomic<bool> fired{false};
      };
      std::mt19937 random(4);
      for (int i = 0; i < rounds / 10; ++i) {
        Flag flag;
        flag.timer.Start(Instant::Now() + absl::Microseconds(random() % 300));
        if (!Comes([&] { return flag.fired.load(); })) {
          result.store(-1);
          return;
        }
      }
      result.store(1);
    });
    ASSERT_TRUE(Eventually([&] { return result.load() != 0; }, absl::Seconds(100)));
    ASSERT_EQ(result.load(), 1);
  });
}

TEST(IdleTest, SleepersWake) {
  OverProcs(1, [](int rounds) {
    std::mt19937 random(5);
    for (int i = 0; i < rounds / 5; ++i) {
      std::atomic<int> woken{0};
      const int sleepers = 1 + static_cast<int>(random() % 3);
      for (int n = 0; n < sleepers; ++n) {
        const int microseconds = static_cast<int>(random() % 400);
        Go([&, microseconds] {
          Sleep(absl::Microseconds(microseconds));
          woken.fetch_add(1);
        });
      }
      ASSERT_TRUE(Comes([&] { return woken.load() == sleepers; })) << "round " << i;
    }
  });
}

// The Ps come and go while there is hardly anything to do.
TEST(IdleTest, NothingIsForgottenWhenPsChange) {
  for (const bool delays : AllInTurn({false, true})) {
    if (delays) internal::EnableRandomDelays(77);
    std::mt19937 random(6);
    for (int i = 0; i < Rounds(delays ? 200 : 500); ++i) {
      std::atomic<int> done{0};
      Go([&] {
        Sleep(absl::Microseconds(50));
        done.fetch_add(1);
      });
      Go([&] {
        {
          BlockingSection section(BlockingSection::Expect::kLong);
        }
        done.fetch_add(1);
      });
      Pause(random);
      SetMaxProcs(1 + static_cast<int>(random() % 5));
      ASSERT_TRUE(Comes([&] { return done.load() == 2; })) << "round " << i;
    }
    internal::SetDelayHook(nullptr);
  }
  SetMaxProcs(2);
}

// The threads of the next test, where it holds them up.
struct MovingWork {
  std::atomic<bool> armed{false};
  std::atomic<bool> gives_up{false};  // a thread that looked for work, still counted as looking
  std::atomic<bool> may_give_up{false};
  std::atomic<bool> moves{false};  // another takes goroutines from the global queue
  std::atomic<bool> gave_up{false};
  std::atomic<bool> over{false};
} moving;

bool IsMonitor() {
  char name[16] = "";
  prctl(PR_GET_NAME, name);
  return std::string_view(name) == "weft-sysmon";
}

void HoldUpMovingWork(const char* point) {
  if (!moving.armed.load()) return;
  const std::string_view at = point;
  const auto await = [](auto done) {
    const Instant limit = Instant::Now() + absl::Seconds(20);
    while (!done() && Instant::Now() < limit) std::this_thread::yield();
  };
  if (at == "proc.stop_spinning" && !moving.gives_up.exchange(true)) {
    await([] { return moving.may_give_up.load(); });
  } else if (at == "proc.take_global" && moving.gives_up.load() && !moving.moves.exchange(true)) {
    moving.may_give_up.store(true);
    // Either it sleeps, or it has seen the work and waits for the scheduler's lock.
    const Instant limit = Instant::Now() + absl::Milliseconds(100);
    await([limit] { return moving.gave_up.load() || Instant::Now() > limit; });
  } else if (at == "proc.poll_until" && moving.may_give_up.load()) {
    moving.gave_up.store(true);
  } else if (at == "proc.earliest_timer" && IsMonitor()) {
    // It would see to it in the end.
    await([] { return moving.over.load(); });
  }
}

// One thread takes two goroutines from the global queue, and runs the first, while the last one
// that looks for work gives up.
TEST(IdleTest, WorkOnItsWayBetweenQueuesIsSeen) {
#ifdef NDEBUG
  GTEST_SKIP() << "no delay points";
#endif
  for (std::atomic<bool>* flag :
       {&moving.gives_up, &moving.may_give_up, &moving.moves, &moving.gave_up, &moving.over}) {
    flag->store(false);
  }
  SetMaxProcs(2);
  std::atomic<bool> started{false};
  std::atomic<bool> may_end{false};
  std::atomic<bool> second{false};
  std::atomic<int> ended{0};
  Go([&] {
    started.store(true);
    while (!may_end.load()) {
    }
    ended.fetch_add(1);
  });
  // Until the other P is idle and nobody counts as looking for work: only then does the one that
  // runs the next goroutine look for more afterwards.
  ASSERT_TRUE(Comes([&] {
    const SchedSnapshot now = GetSchedSnapshot();
    return started.load() && now.idle_procs == 1 && now.spinning_threads == 0;
  }));
  internal::SetDelayHook(HoldUpMovingWork);
  moving.armed.store(true);
  Go([&] { ended.fetch_add(1); });
  ASSERT_TRUE(Comes([] { return moving.gives_up.load(); }));
  Go([&] {
    while (!second.load()) {
    }
    ended.fetch_add(1);
  });
  Go([&] {
    second.store(true);
    ended.fetch_add(1);
  });
  may_end.store(true);
  EXPECT_TRUE(Comes([&] { return second.load(); })) << moving.moves.load();
  moving.may_give_up.store(true);
  moving.over.store(true);
  moving.armed.store(false);
  ASSERT_TRUE(Comes([&] { return ended.load() == 4; }));
  internal::SetDelayHook(nullptr);
}

}  // namespace
}  // namespace weft
