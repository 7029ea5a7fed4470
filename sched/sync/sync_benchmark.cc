// What locks cost. The first argument is the number of Ps, 0 for all of the machine's.
#include <benchmark/benchmark.h>

#include <cstdint>

#include "sched/benchmark_args.h"
#include "sched/goroutine.h"
#include "sched/sync/barrier.h"
#include "sched/sync/cond.h"
#include "sched/sync/mutex.h"
#include "sched/sync/once_value.h"
#include "sched/sync/rw_mutex.h"
#include "sched/sync/semaphore.h"
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

// Eight goroutines that read, and every n-th time write; per lock. As Go's BenchmarkRWMutexWrite100
// and -10, with nothing to do inside. The second argument is n; 0: nobody writes.
void BM_RWMutex(benchmark::State& state) {
  testing::OnGoroutine(state, [&] {
    constexpr int kTasks = 8;
    constexpr int64_t kEach = 100'000;
    const int64_t write_every = state.range(1);
    while (state.KeepRunningBatch(kTasks * kEach)) {
      RWMutex mutex;
      WaitGroup group;
      int64_t x = 0;
      for (int t = 0; t < kTasks; ++t) {
        group.Go([&] {
          for (int64_t i = 1; i <= kEach; ++i) {
            if (write_every != 0 && i % write_every == 0) {
              WriterLock lock(mutex);
              ++x;
            } else {
              ReaderLock lock(mutex);
              benchmark::DoNotOptimize(x);
            }
          }
        });
      }
      group.Wait();
    }
  });
}

// Four goroutines that hold it for reading while another one has its turn, and one in ten times for
// writing; per lock.
void BM_RWMutexHeldAcrossYield(benchmark::State& state) {
  testing::OnGoroutine(state, [&] {
    constexpr int kTasks = 4;
    constexpr int64_t kEach = 2'000;
    while (state.KeepRunningBatch(kTasks * kEach)) {
      RWMutex mutex;
      WaitGroup group;
      for (int t = 0; t < kTasks; ++t) {
        group.Go([&] {
          for (int64_t i = 0; i < kEach; ++i) {
            if (i % 10 == 0) {
              WriterLock lock(mutex);
              Yield();
            } else {
              ReaderLock lock(mutex);
              Yield();
            }
          }
        });
      }
      group.Wait();
    }
  });
}

void BM_RWMutexReadUncontended(benchmark::State& state) {
  RWMutex mutex;
  for (auto _ : state) {
    mutex.RLock();
    mutex.RUnlock();
  }
}

void BM_RWMutexWriteUncontended(benchmark::State& state) {
  RWMutex mutex;
  for (auto _ : state) {
    mutex.Lock();
    mutex.Unlock();
  }
}

void BM_SemaphoreUncontended(benchmark::State& state) {
  Semaphore semaphore(8);
  for (auto _ : state) {
    semaphore.Acquire(3);
    semaphore.Release(3);
  }
}

// Eight goroutines for two units that each holds while another one has its turn; per acquisition.
void BM_SemaphoreHeldAcrossYield(benchmark::State& state) {
  testing::OnGoroutine(state, [&] {
    constexpr int kTasks = 8;
    constexpr int64_t kEach = 2'000;
    while (state.KeepRunningBatch(kTasks * kEach)) {
      Semaphore semaphore(2);
      WaitGroup group;
      for (int t = 0; t < kTasks; ++t) {
        group.Go([&] {
          for (int64_t i = 0; i < kEach; ++i) {
            semaphore.Acquire();
            Yield();
            semaphore.Release();
          }
        });
      }
      group.Wait();
    }
  });
}

// Two goroutines that wake each other; per wake-up.
void BM_CondPingPong(benchmark::State& state) {
  testing::OnGoroutine(state, [&] {
    constexpr int64_t kRounds = 10'000;
    while (state.KeepRunningBatch(2 * kRounds)) {
      Mutex mutex;
      Cond turns[2];
      int turn = 0;
      WaitGroup group;
      for (int me = 0; me < 2; ++me) {
        group.Go([&, me] {
          for (int64_t i = 0; i < kRounds; ++i) {
            MutexLock lock(mutex);
            while (turn != me) turns[me].Wait(mutex);
            turn = 1 - me;
            turns[1 - me].Signal();
          }
        });
      }
      group.Wait();
    }
  });
}

void BM_CondSignalNobody(benchmark::State& state) {
  Cond cond;
  for (auto _ : state) cond.Signal();
}

// Eight goroutines, per round of all of them.
void BM_Barrier(benchmark::State& state) {
  testing::OnGoroutine(state, [&] {
    constexpr int kTasks = 8;
    constexpr int64_t kRounds = 2'000;
    while (state.KeepRunningBatch(kRounds)) {
      Barrier barrier(kTasks);
      WaitGroup group;
      for (int t = 0; t < kTasks; ++t) {
        group.Go([&] {
          for (int64_t i = 0; i < kRounds; ++i) barrier.ArriveAndWait();
        });
      }
      group.Wait();
    }
  });
}

void BM_OnceValue(benchmark::State& state) {
  OnceValue value([] { return 7; });
  for (auto _ : state) benchmark::DoNotOptimize(value());
}

BENCHMARK(BM_Mutex)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_MutexHeldAcrossYield)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_MutexUncontended);
BENCHMARK(BM_RWMutex)->ArgsProduct({{1, 0}, {0, 100, 10}})->UseRealTime();
BENCHMARK(BM_RWMutexHeldAcrossYield)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_RWMutexReadUncontended);
BENCHMARK(BM_RWMutexWriteUncontended);
BENCHMARK(BM_SemaphoreUncontended);
BENCHMARK(BM_SemaphoreHeldAcrossYield)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_CondPingPong)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_CondSignalNobody);
BENCHMARK(BM_Barrier)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_OnceValue);

}  // namespace
}  // namespace weft
