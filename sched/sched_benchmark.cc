// What goroutines cost. The first argument is the number of Ps, 0 for all of the machine's. Each
// workload does the work of the same name in Go that tools/compare sets beside it; time is wall
// time.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "sched/benchmark_args.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "sched/timer.h"
#include "sched/waiter.h"
#include "sched/workloads.h"

namespace weft {
namespace {

using testing::OnGoroutine;

void BM_SpawnExit(benchmark::State& state) {
  OnGoroutine(state, [&] { testing::SpawnExit(state); });
}

// Starts one goroutine and waits for its message, one after the other.
void BM_SpawnJoin(benchmark::State& state) {
  OnGoroutine(state, [&] {
    Chan<int> c(0);
    for (auto _ : state) {
      Go([&c] { c.Send(1); });
      benchmark::DoNotOptimize(c.Recv());
    }
  });
}

// Two goroutines a P that do nothing else; per yield and P.
void BM_Yield(benchmark::State& state) {
  OnGoroutine(state, [&] {
    constexpr int64_t kEach = 200'000;
    const int tasks = 2 * MaxProcs();
    while (state.KeepRunningBatch(2 * kEach)) {
      WaitGroup all;
      all.Add(tasks);
      for (int t = 0; t < tasks; ++t) {
        Go([&all] {
          for (int64_t i = 0; i < kEach; ++i) Yield();
          all.Done();
        });
      }
      all.Wait();
    }
  });
}

void BM_Skynet(benchmark::State& state) {
  OnGoroutine(state, [&] { testing::Skynet(state); });
}

// 200,000 goroutines that each sleep 1 to 1000 us once; per goroutine.
void BM_Sleepers(benchmark::State& state) {
  constexpr int kSleepers = 200'000;
  const auto run = [] {
    WaitGroup all;
    all.Add(kSleepers);
    for (int i = 0; i < kSleepers; ++i) {
      Go([&all, i] {
        Sleep(absl::Microseconds(1 + i % 1'000));
        all.Done();
      });
    }
    all.Wait();
  };
  OnGoroutine(state, [&] {
    run();  // pays for the memory
    while (state.KeepRunningBatch(kSleepers)) run();
  });
}

// How late an otherwise idle program wakes from a sleep of 50 us.
void BM_SleepLate(benchmark::State& state) {
  constexpr absl::Duration kSleep = absl::Microseconds(50);
  OnGoroutine(state, [&] {
    for (auto _ : state) {
      const Instant start = Instant::Now();
      Sleep(kSleep);
      state.SetIterationTime(absl::ToDoubleSeconds(Instant::Now() - start - kSleep));
    }
  });
}

// Starts a timer that is an hour away and stops it.
void BM_Timer(benchmark::State& state) {
  OnGoroutine(state, [&] {
    for (auto _ : state) {
      CallbackTimer timer([](CallbackTimer&) {});
      timer.Start(Instant::Now() + absl::Hours(1));
      timer.Stop();
    }
  });
}

// Two goroutines that wake each other and wait; per wait, so there is one switch in it.
void BM_ContextSwitch(benchmark::State& state) {
  OnGoroutine(state, [&] {
    std::atomic<int64_t> turn{0};
    std::atomic<bool> stop{false};
    std::atomic<Waiter*> other{nullptr};
    Waiter* self = Waiter::Current();
    WaitGroup ended;
    ended.Add(1);
    Go([&] {
      other.store(Waiter::Current(), std::memory_order_release);
      self->Unpark();
      while (!stop.load(std::memory_order_acquire)) {
        if (turn.load(std::memory_order_acquire) % 2 == 0) {
          Waiter::Current()->Park(WaitReason::kNone);
          continue;
        }
        turn.fetch_add(1, std::memory_order_acq_rel);
        self->Unpark();
      }
      ended.Done();
    });
    while (other.load(std::memory_order_acquire) == nullptr) self->Park(WaitReason::kNone);
    while (state.KeepRunningBatch(2)) {
      turn.fetch_add(1, std::memory_order_acq_rel);
      other.load(std::memory_order_relaxed)->Unpark();
      while (turn.load(std::memory_order_acquire) % 2 == 1) self->Park(WaitReason::kNone);
    }
    stop.store(true, std::memory_order_release);
    other.load(std::memory_order_relaxed)->Unpark();
    ended.Wait();
  });
}

BENCHMARK(BM_SpawnExit)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_SpawnJoin)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_Yield)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_Skynet)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_Sleepers)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_SleepLate)->Arg(1)->Arg(0)->UseManualTime();
BENCHMARK(BM_Timer)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_ContextSwitch)->Arg(1)->Arg(0)->UseRealTime();

}  // namespace
}  // namespace weft
