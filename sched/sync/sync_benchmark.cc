// What locks cost. The first argument is the number of Ps, 0 for all of the machine's.
#include <benchmark/benchmark.h>

#include <cstdint>

#include "sched/benchmark_args.h"
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"
#include "sched/sync/wait_group.h"

namespace weft {
namespace {

// Eight goroutines that lock, add one and unlock; per lock. As tools/compare's Go program does it.
void BM_Mutex(benchmark::State& state) {
  testing::OnGoroutine(state, [&] {
    constexpr int kTasks = 8;
    constexpr int64_t kEach = 1'000'000;
    while (state.KeepRunningBatch(kTasks * kEach)) {
      Mutex mutex;
      WaitGroup group;
      int64_t x = 0;
      group.Add(kTasks);
      for (int t = 0; t < kTasks; ++t) {
        Go([&] {
          for (int64_t i = 0; i < kEach; ++i) {
            mutex.Lock();
            ++x;
            mutex.Unlock();
          }
          group.Done();
        });
      }
      group.Wait();
      benchmark::DoNotOptimize(x);
    }
  });
}

// Four goroutines that hold the lock while another one has its turn, so that all others queue; per
// lock.
void BM_MutexHeldAcrossYield(benchmark::State& state) {
  testing::OnGoroutine(state, [&] {
    constexpr int kTasks = 4;
    constexpr int64_t kEach = 2'000;
    while (state.KeepRunningBatch(kTasks * kEach)) {
      Mutex mutex;
      WaitGroup group;
      group.Add(kTasks);
      for (int t = 0; t < kTasks; ++t) {
        Go([&] {
          for (int64_t i = 0; i < kEach; ++i) {
            mutex.Lock();
            Yield();
            mutex.Unlock();
          }
          group.Done();
        });
      }
      group.Wait();
    }
  });
}

void BM_MutexUncontended(benchmark::State& state) {
  Mutex mutex;
  for (auto _ : state) {
    mutex.Lock();
    mutex.Unlock();
  }
}

BENCHMARK(BM_Mutex)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_MutexHeldAcrossYield)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_MutexUncontended);

}  // namespace
}  // namespace weft
