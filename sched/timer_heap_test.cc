#include "sched/internal/timer_heap.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "sched/internal/delay.h"
#include "tests/rounds.h"

namespace weft::internal {
namespace {

using ::weft::testing::AllInTurn;
using ::weft::testing::Rounds;

std::vector<int>* fired = nullptr;

struct TestTimer {
  TestTimer() : timer(Fire) {}
  static void Fire(CallbackTimer& t) {
    auto* self = reinterpret_cast<TestTimer*>(&t);
    self->runs.fetch_add(1);
    if (fired != nullptr) fired->push_back(self->number);
  }

  CallbackTimer timer;  // first, so that Fire() finds the rest
  int number = 0;
  std::atomic<int> runs{0};
};

Instant At(int64_t nanos) { return Instant::FromNanos(nanos); }

bool Start(TestTimer& t, int64_t nanos, TimerHeap& heap, bool* earliest = nullptr) {
  bool unused;
  return TimerHeap::Start(t.timer, At(nanos), heap, earliest == nullptr ? &unused : earliest);
}

TEST(TimerHeapTest, IsEmptyAtFirst) {
  TimerHeap heap;
  EXPECT_TRUE(heap.Earliest().IsNever());
  EXPECT_EQ(heap.size(), 0);
  EXPECT_EQ(heap.RunDue(Instant::Never()), 0);
}

TEST(TimerHeapTest, RunsInOrderOfTime) {
  std::mt19937 random(1);
  for (const int count : {1, 2, 3, 5, 21, 100, 1000}) {
    TimerHeap heap;
    std::vector<std::unique_ptr<TestTimer>> timers;
    std::vector<int64_t> times;
    for (int i = 0; i < count; ++i) times.push_back(static_cast<int64_t>(random() % 500));
    for (int i = 0; i < count; ++i) {
      timers.push_back(std::make_unique<TestTimer>());
      timers.back()->number = i;
      const int64_t before = heap.Earliest().nanos();
      bool earliest;
      EXPECT_FALSE(Start(*timers.back(), times[static_cast<size_t>(i)], heap, &earliest));
      EXPECT_EQ(earliest, times[static_cast<size_t>(i)] < before);
    }
    EXPECT_EQ(heap.size(), count);
    EXPECT_EQ(heap.Earliest().nanos(), *std::min_element(times.begin(), times.end()));
    std::vector<int> order;
    fired = &order;
    EXPECT_EQ(heap.RunDue(At(-1)), 0);
    int ran = 0;
    for (int64_t now = 0; now < 500; now += 7) {
      ran += heap.RunDue(At(now));
      // All that is due has run, and nothing else.
      EXPECT_GT(heap.Earliest(), At(now));
      EXPECT_EQ(static_cast<int>(order.size()), ran);
      for (const int i : order) EXPECT_LE(times[static_cast<size_t>(i)], now);
    }
    ran += heap.RunDue(At(500));
    fired = nullptr;
    EXPECT_EQ(ran, count);
    for (int i = 1; i < count; ++i) {
      EXPECT_LE(times[static_cast<size_t>(order[static_cast<size_t>(i) - 1])],
                times[static_cast<size_t>(order[static_cast<size_t>(i)])]);
    }
    EXPECT_TRUE(heap.Earliest().IsNever());
  }
}

TEST(TimerHeapTest, StoppedTimersDoNotRunAndTheRestKeepTheirOrder) {
  std::mt19937 random(2);
  for (int round = 0; round < Rounds(50, 3); ++round) {
    TimerHeap heap;
    std::vector<std::unique_ptr<TestTimer>> timers;
    for (int i = 0; i < 100; ++i) {
      timers.push_back(std::make_unique<TestTimer>());
      timers.back()->number = static_cast<int>(random() % 1000);
      Start(*timers.back(), timers.back()->number, heap);
    }
    std::vector<bool> stopped(timers.size());
    for (int i = 0; i < 60; ++i) {
      const size_t at = random() % timers.size();
      EXPECT_EQ(TimerHeap::Stop(timers[at]->timer), !stopped[at]);
      stopped[at] = true;
    }
    std::vector<int> order;
    fired = &order;
    heap.RunDue(At(1000));
    fired = nullptr;
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
    for (size_t i = 0; i < timers.size(); ++i) {
      EXPECT_EQ(timers[i]->runs.load(), stopped[i] ? 0 : 1);
      EXPECT_FALSE(TimerHeap::Stop(timers[i]->timer));
    }
  }
}

TEST(TimerHeapTest, StartMovesAPendingTimerAlsoFromAnotherHeap) {
  TimerHeap a;
  TimerHeap b;
  TestTimer t;
  EXPECT_FALSE(Start(t, 100, a));
  EXPECT_TRUE(Start(t, 50, a));
  EXPECT_EQ(a.Earliest(), At(50));
  EXPECT_TRUE(Start(t, 200, b));
  EXPECT_EQ(a.size() + b.size(), 1);
  EXPECT_EQ(a.RunDue(At(150)) + b.RunDue(At(150)), 0);
  EXPECT_EQ(a.RunDue(At(200)) + b.RunDue(At(200)), 1);
  EXPECT_FALSE(Start(t, 300, a)) << "it has fired, so it was not pending";
  EXPECT_TRUE(TimerHeap::Stop(t.timer));
}

TEST(TimerHeapTest, MoveAllToKeepsEveryTimer) {
  TimerHeap from;
  TimerHeap to;
  std::vector<std::unique_ptr<TestTimer>> timers;
  for (int i = 0; i < 100; ++i) {
    timers.push_back(std::make_unique<TestTimer>());
    Start(*timers.back(), (i * 37) % 100, i % 2 == 0 ? from : to);
  }
  from.MoveAllTo(to);
  EXPECT_EQ(from.size(), 0);
  EXPECT_TRUE(from.Earliest().IsNever());
  EXPECT_EQ(to.size(), 100);
  EXPECT_TRUE(TimerHeap::Stop(timers[0]->timer));
  EXPECT_EQ(to.RunDue(At(100)), 99);
}

struct Repeating {
  Repeating() : timer(Fire) {}
  static void Fire(CallbackTimer& t) {
    auto* self = reinterpret_cast<Repeating*>(&t);
    if (++self->runs < 5) {
      bool earliest;
      TimerHeap::Start(t, At(self->runs), *self->heap, &earliest);
    }
    if (self->runs == 1) self->stopped_other = TimerHeap::Stop(self->other->timer);
  }
  CallbackTimer timer;
  TimerHeap* heap = nullptr;
  int runs = 0;
  TestTimer* other = nullptr;
  bool stopped_other = false;
};

TEST(TimerHeapTest, CallbacksMayStartTheirTimerAgainAndStopOthers) {
  TimerHeap heap;
  Repeating repeating;
  TestTimer other;
  repeating.heap = &heap;
  repeating.other = &other;
  bool earliest;
  TimerHeap::Start(repeating.timer, At(0), heap, &earliest);
  Start(other, 10, heap);
  heap.RunDue(At(100));
  EXPECT_EQ(repeating.runs, 5);
  EXPECT_TRUE(repeating.stopped_other);
  EXPECT_EQ(other.runs.load(), 0);
  EXPECT_EQ(heap.size(), 0);
}

// One thread owns each timer and starts and stops it; others run the heaps and move timers between
// them, as when a P goes away. For every Start() the timer either runs or is stopped, never both.
TEST(TimerHeapRaceTest, EveryStartEndsInOneRunOrOneStop) {
  for (const uint64_t seed : AllInTurn({0u, 1u, 2u})) {
    if (seed != 0) EnableRandomDelays(seed);
    TimerHeap heaps[2];
    std::atomic<bool> done{false};
    std::vector<std::thread> threads;
    std::atomic<long> starts{0};
    std::atomic<long> stops{0};
    std::vector<std::unique_ptr<TestTimer>> timers;
    for (int i = 0; i < 16; ++i) timers.push_back(std::make_unique<TestTimer>());
    std::thread runner([&] {
      while (!done.load()) {
        heaps[0].RunDue(At(50));
        heaps[1].RunDue(At(50));
      }
    });
    std::thread mover([&] {
      for (int i = 0; !done.load(); ++i) heaps[i % 2].MoveAllTo(heaps[(i + 1) % 2]);
    });
    for (size_t owner = 0; owner < 2; ++owner) {
      threads.emplace_back([&, owner] {
        std::mt19937 random(static_cast<unsigned>(owner + seed));
        for (int i = 0; i < (seed == 0 ? Rounds(20'000, 300) : Rounds(2'000, 100)); ++i) {
          TestTimer& t = *timers[owner * 8 + random() % 8];
          // Never due, or due at once.
          const bool pending = Start(t, random() % 2 == 0 ? 10 : 1000, heaps[random() % 2]);
          starts.fetch_add(1);
          if (pending) stops.fetch_add(1);
          if (random() % 3 == 0 && TimerHeap::Stop(t.timer)) stops.fetch_add(1);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (auto& t : timers) {
      if (TimerHeap::Stop(t->timer)) stops.fetch_add(1);
    }
    done.store(true);
    runner.join();
    mover.join();
    SetDelayHook(nullptr);
    long runs = 0;
    for (auto& t : timers) runs += t->runs.load();
    EXPECT_EQ(runs + stops.load(), starts.load());
    EXPECT_EQ(heaps[0].size() + heaps[1].size(), 0);
  }
}

}  // namespace
}  // namespace weft::internal
