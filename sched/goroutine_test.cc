// What goroutine.h promises of Go, Yield, Sleep, Exit and the counters.
#include "sched/goroutine.h"

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
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

// Counts down; whoever waits for zero is woken.
class Countdown {
 public:
  explicit Countdown(int count) : left_(count), owner_(Waiter::Current()) {}
  void Done() {
    Waiter* owner = owner_;
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) owner->Unpark();
  }
  void Wait() {
    while (left_.load(std::memory_order_acquire) > 0) owner_->Park(WaitReason::kWaitGroupWait);
  }

 private:
  std::atomic<int> left_;
  Waiter* const owner_;
};

TEST(GoTest, RunsFromThreadsAndGoroutines) {
  ForEachMaxProcs([] {
    auto body = [] {
      std::atomic<int> ran{0};
      Countdown all(100);
      for (int i = 0; i < 100; ++i) {
        Go([&] {
          ran.fetch_add(1);
          all.Done();
        });
      }
      all.Wait();
      EXPECT_EQ(ran.load(), 100);
    };
    RunOnThread(body);
    RunOnGoroutine(body);
  });
}

std::atomic<int> plain_calls{0};
void PlainFunction() { plain_calls.fetch_add(1); }

TEST(GoTest, TakesAnyCallable) {
  ForEachMaxProcs([] {
    plain_calls.store(0);
    std::atomic<int> sum{0};
    Go(PlainFunction);
    Go(&PlainFunction);
    Go(std::function<void()>(PlainFunction));
    auto owned = std::make_unique<int>(20);
    Go([&sum, owned = std::move(owned)] { sum.fetch_add(*owned); });
    std::array<int, 1000> large{};
    large[999] = 300;
    Go([&sum, large] { sum.fetch_add(large[999]); });
    Go({.name = "returns"}, [&sum] { return sum.fetch_add(1); });
    EXPECT_TRUE(Eventually([&] { return plain_calls.load() == 3 && sum.load() == 321; }));
  });
}

struct DiesOnGoroutine {
  explicit DiesOnGoroutine(std::atomic<uint64_t>* id) : id(id) {}
  DiesOnGoroutine(DiesOnGoroutine&& o) noexcept : id(std::exchange(o.id, nullptr)) {}
  ~DiesOnGoroutine() {
    if (id != nullptr) id->store(GoroutineId());
  }
  void operator()() { own = GoroutineId(); }
  std::atomic<uint64_t>* id;
  uint64_t own = 0;
};

TEST(GoTest, DestroysTheClosureOnItsGoroutine) {
  ForEachMaxProcs([] {
    std::atomic<uint64_t> died_on{0};
    Go(DiesOnGoroutine(&died_on));
    EXPECT_TRUE(Eventually([&] { return died_on.load() != 0; }));
  });
}

TEST(GoTest, NumbersAreUniqueAndStable) {
  EXPECT_EQ(GoroutineId(), 0u) << "a plain thread";
  ForEachMaxProcs([] {
    constexpr int kCount = 500;
    std::vector<uint64_t> ids(kCount);
    Countdown all(kCount);
    for (size_t i = 0; i < kCount; ++i) {
      Go([&, i] {
        ids[i] = GoroutineId();
        Yield();
        EXPECT_EQ(GoroutineId(), ids[i]);
        all.Done();
      });
    }
    all.Wait();
    EXPECT_EQ(std::set<uint64_t>(ids.begin(), ids.end()).size(), ids.size());
    EXPECT_EQ(std::set<uint64_t>(ids.begin(), ids.end()).count(0), 0u);
  });
}

TEST(GoTest, CountsThoseThatExist) {
  ForEachMaxProcs([] {
    ASSERT_TRUE(Eventually([] { return NumGoroutine() == 0; }));
    std::atomic<bool> go_on{false};
    for (int i = 0; i < 30; ++i) {
      Go([&] {
        while (!go_on.load()) Sleep(absl::Microseconds(200));
      });
    }
    EXPECT_EQ(NumGoroutine(), 30);
    RunOnGoroutine([] { EXPECT_EQ(NumGoroutine(), 31); });
    go_on.store(true);
    EXPECT_TRUE(Eventually([] { return NumGoroutine() == 0; }));
  });
}

TEST(GoTest, ManyThousandsAtOnce) {
  for (const int procs : AllInTurn({1, 4})) {
    SetMaxProcs(procs);
    ASSERT_TRUE(Eventually([] { return NumGoroutine() == 0; }));
    RunOnGoroutine([] {
      const int count = Rounds(20'000, 500);
      std::atomic<int> waiting{0};
      std::atomic<bool> open{false};
      std::vector<Waiter*> waiters(static_cast<size_t>(count));
      Countdown all(count);
      for (int i = 0; i < count; ++i) {
        Go([&, i] {
          waiters[static_cast<size_t>(i)] = Waiter::Current();
          waiting.fetch_add(1);
          while (!open.load()) Waiter::Current()->Park(WaitReason::kSemacquire);
          all.Done();
        });
      }
      ASSERT_TRUE(Eventually([&] { return waiting.load() == count; }));
      EXPECT_EQ(NumGoroutine(), count + 1);
      open.store(true);
      for (Waiter* waiter : waiters) waiter->Unpark();
      all.Wait();
    });
  }
}

// SC-02: a goroutine that only looks and yields lets the others run.
TEST(YieldTest, AlwaysLetsOthersRun) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      std::atomic<bool> said{false};
      std::atomic<bool> answered{false};
      Go([&] {
        while (!said.load()) Yield();
        answered.store(true);
      });
      Sleep(absl::Milliseconds(2));
      said.store(true);
      EXPECT_TRUE(Eventually([&] { return answered.load(); }));
    });
  });
}

TEST(YieldTest, OnOnePTakesTurns) {
  SetMaxProcs(1);
  RunOnGoroutine([] {
    // Nobody else runs between two yields of one's own: a counter that one P writes needs no
    // atomics.
    int turns = 0;
    Countdown all(10);
    for (int i = 0; i < 10; ++i) {
      Go([&] {
        for (int n = 0; n < 1'000; ++n) {
          ++turns;
          Yield();
        }
        all.Done();
      });
    }
    all.Wait();
    EXPECT_EQ(turns, 10'000);
  });
}

TEST(YieldTest, OnAThreadReturns) {
  for (int i = 0; i < 10; ++i) Yield();
}

TEST(SleepTest, IsNotShorterThanAsked) {
  auto body = [] {
    for (const absl::Duration wanted :
         {absl::Nanoseconds(1), absl::Microseconds(50), absl::Milliseconds(2)}) {
      const Instant start = Instant::Now();
      Sleep(wanted);
      EXPECT_GE(Instant::Now() - start, wanted);
    }
  };
  RunOnThread(body);
  ForEachMaxProcs([&] { RunOnGoroutine(body); });
}

// TM-10, its part for sleeps.
TEST(SleepTest, NothingAndLessReturnAtOnce) {
  auto body = [] {
    const Instant start = Instant::Now();
    Sleep(absl::ZeroDuration());
    Sleep(-absl::Nanoseconds(1));
    Sleep(-absl::InfiniteDuration());
    EXPECT_LT(Instant::Now() - start, absl::Seconds(20));
  };
  RunOnThread(body);
  ForEachMaxProcs([&] { RunOnGoroutine(body); });
}

TEST(SleepTest, TokensOfOtherWaitsDoNotEndIt) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      Waiter* self = Waiter::Current();
      std::atomic<bool> done{false};
      std::thread noise([&] {
        while (!done.load()) {
          self->Unpark();
          std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
      });
      const Instant start = Instant::Now();
      Sleep(absl::Milliseconds(5));
      EXPECT_GE(Instant::Now() - start, absl::Milliseconds(5));
      done.store(true);
      BlockingSection section;
      noise.join();
    });
  });
}

TEST(SleepTest, ManySleepersWakeInTime) {
  ForEachMaxProcs([] {
    RunOnGoroutine([] {
      const int count = Rounds(2'000);
      Countdown all(count);
      const Instant start = Instant::Now();
      for (int i = 0; i < count; ++i) {
        Go([&all, i] {
          Sleep(absl::Microseconds(1 + i % 1'000));
          all.Done();
        });
      }
      all.Wait();
      EXPECT_LT(Instant::Now() - start, absl::Seconds(30));
    });
  });
}

// TM-08: sleeps of no length beside stops of the world.
TEST(SleepTest, ZeroSleepsBesideStopsDoNotHang) {
  SetMaxProcs(4);
  std::atomic<int> left{2};
  Go([&] {
    for (int i = 0; i < 100; ++i) SetMaxProcs(3 + i % 2);
    left.fetch_sub(1);
  });
  Go([&] {
    for (int i = 0; i < 100; ++i) {
      Sleep(absl::ZeroDuration());
      Yield();
    }
    left.fetch_sub(1);
  });
  EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
}

struct NotesItsEnd {
  explicit NotesItsEnd(std::atomic<int>* count) : count(count) {}
  ~NotesItsEnd() { count->fetch_add(1); }
  std::atomic<int>* count;
};

// `leave` is Exit(), behind a type that does not say that it never returns: GCC would take the
// recursion for an endless one.
__attribute__((noinline)) void ExitDeep(int depth, std::atomic<int>* count, void (*leave)()) {
  NotesItsEnd notes(count);
  if (depth == 0) return leave();
  ExitDeep(depth - 1, count, leave);
}

TEST(ExitTest, UnwindsAndEndsTheGoroutine) {
  ForEachMaxProcs([] {
    std::atomic<int> destroyed{0};
    std::atomic<bool> after{false};
    Go([&, owned = std::make_shared<NotesItsEnd>(&destroyed)] {
      ExitDeep(20, &destroyed, [] { Exit(); });
      after.store(true);
    });
    EXPECT_TRUE(Eventually([&] { return destroyed.load() == 22; })) << destroyed.load();
    EXPECT_FALSE(after.load());
    EXPECT_TRUE(Eventually([] { return NumGoroutine() == 0; }));
  });
}

// SC-24: cleanups on the way see no error of the program's.
TEST(ExitTest, PassesStdExceptionHandlersAndIsSeenByCatchAll) {
  ForEachMaxProcs([] {
    std::atomic<int> seen{0};
    Go([&] {
      NotesItsEnd notes(&seen);
      try {
        try {
          Exit();
        } catch (const std::exception&) {
          seen.fetch_add(1'000);
        }
      } catch (...) {
        seen.fetch_add(10);
        throw;
      }
      seen.fetch_add(1'000);
    });
    EXPECT_TRUE(Eventually([&] { return seen.load() == 11; })) << seen.load();
  });
}

TEST(ExitTest, WorksWhileAnExceptionIsHandled) {
  RunOnThread([] {
    std::atomic<bool> handled{false};
    Go([&] {
      try {
        throw std::runtime_error("first");
      } catch (const std::exception&) {
        handled.store(true);
        Exit();
      }
    });
    EXPECT_TRUE(Eventually([&] { return handled.load() && NumGoroutine() == 0; }));
  });
}

// Every goroutine makes another one, of which each P has a share; the last one tells.
void Spread(int depth, std::atomic<int>* left) {
  if (depth > 0) {
    Go([=] { Spread(depth - 1, left); });
    Go([=] { Spread(depth - 1, left); });
  }
  left->fetch_sub(1);
}

TEST(GoTest, NestedSpawnsAllRun) {
  ForEachMaxProcs([] {
    const int depth = Rounds(12, 9);
    std::atomic<int> left{(2 << depth) - 1};
    Go([&] { Spread(depth, &left); });
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  });
}

// SC-05's point: goroutines that wait for each other by spinning need a P each, so every idle P
// must be woken; also after all have slept.
TEST(GoTest, RunsAsManyAtOnceAsThereArePs) {
  for (const int procs : AllInTurn({2, 3, 4})) {
    SetMaxProcs(procs);
    for (int round = 0; round < Rounds(30, 6); ++round) {
      std::atomic<int> arrived{0};
      std::atomic<int> ended{0};
      RunOnGoroutine([&] {
        for (int i = 0; i < procs; ++i) {
          Go([&] {
            arrived.fetch_add(1);
            while (arrived.load() < procs) {
              // No call of the runtime: its P is its own until all have come. But a machine with
              // fewer processors must switch.
              std::this_thread::yield();
            }
            ended.fetch_add(1);
          });
        }
      });
      ASSERT_TRUE(Eventually([&] { return ended.load() == procs; })) << "round " << round;
      if (round % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
  }
  SetMaxProcs(2);
}

// SC-15: two pairs wake each other on one P, one pair with turns a thousand times as long. A pair
// shares one time slice, so both get about the same.
TEST(FairnessTest, PairsShareTheirTimeSlice) {
  SetMaxProcs(1);
  RunOnGoroutine([] {
    struct Pair {
      std::atomic<int> turn{0};
      Waiter* waiters[2] = {nullptr, nullptr};
      std::atomic<long> work{0};
      std::atomic<int64_t> had{0};  // the P, in nanoseconds
    };
    Pair pairs[2];
    // Whose turn has begun last, and when.
    std::atomic<Pair*> running{&pairs[0]};
    std::atomic<int64_t> since{Instant::Now().nanos()};
    std::atomic<bool> stop{false};
    Countdown all(4);
    std::atomic<int> ready{0};
    for (int p = 0; p < 2; ++p) {
      for (int side = 0; side < 2; ++side) {
        Go([&, p, side] {
          Pair& pair = pairs[p];
          pair.waiters[side] = Waiter::Current();
          ready.fetch_add(1);
          while (ready.load() < 4) Yield();
          const long each = p == 0 ? 200'000 : 200;
          while (!stop.load()) {
            if (pair.turn.load() == side) {
              // All that passes between two turns counts for the pair of the first one: random
              // delays and a busy machine take more from where there are more switches.
              const int64_t now = Instant::Now().nanos();
              Pair* const before = running.exchange(&pair);
              before->had.fetch_add(now - since.exchange(now));
              for (long i = 0; i < each; ++i) {
                pair.work.store(pair.work.load(std::memory_order_relaxed) + 1,
                                std::memory_order_relaxed);
              }
              pair.turn.store(1 - side);
              pair.waiters[1 - side]->Unpark();
            }
            while (pair.turn.load() != side && !stop.load()) {
              Waiter::Current()->Park(WaitReason::kChanReceive);
            }
          }
          pair.waiters[1 - side]->Unpark();
          all.Done();
        });
      }
    }
    const auto shared = [&] {
      const int64_t a = pairs[0].had.load();
      const int64_t b = pairs[1].had.load();
      return a < 20 * b && b < 20 * a;
    };
    // A busy machine may give this program less than a time slice for long.
    for (int i = 0; i == 0 || (i < 100 && !shared()); ++i) {
      Sleep(absl::Milliseconds(Rounds(300, 100)));
    }
    EXPECT_TRUE(shared()) << pairs[0].had.load() << " and " << pairs[1].had.load() << " ns";
    stop.store(true);
    all.Wait();
  });
}

}  // namespace
}  // namespace weft
