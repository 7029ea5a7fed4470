// What the benchmarks of the scheduler do, for a benchmark::State.
#ifndef WEFT_SCHED_WORKLOADS_H_
#define WEFT_SCHED_WORKLOADS_H_

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>

#include "chan/chan.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"

namespace weft::testing {

// Starts goroutines that end at once, a thousand at a time, and waits for each thousand; per
// goroutine.
inline void SpawnExit(benchmark::State& state) {
  WaitGroup all;
  while (state.KeepRunningBatch(1'000)) {
    all.Add(1'000);
    for (int i = 0; i < 1'000; ++i) Go([&all] { all.Done(); });
    all.Wait();
  }
}

inline void SkynetNode(const Chan<int64_t>& parent, int64_t number, int64_t size) {
  if (size == 1) {
    parent.Send(number);
    return;
  }
  Chan<int64_t> children(0);
  for (int64_t i = 0; i < 10; ++i) {
    const int64_t child = number + i * (size / 10);
    Go([children, child, size] { SkynetNode(children, child, size / 10); });
  }
  int64_t sum = 0;
  for (int i = 0; i < 10; ++i) sum += *children.Recv();
  parent.Send(sum);
}

// A tree of 1,111,111 goroutines, ten children each, that sums its leaves; per goroutine. Like the
// Go programs it is compared with, which give the best of five, it runs once before.
inline void Skynet(benchmark::State& state) {
  const auto run = [] {
    Chan<int64_t> root(0);
    Go([root] { SkynetNode(root, 0, 1'000'000); });
    if (*root.Recv() != 499'999'500'000) std::abort();
  };
  run();  // pays for the memory
  while (state.KeepRunningBatch(1'111'111)) run();
}

// Eight producers and eight consumers on one channel with a buffer of 128; per element. `batch`:
// elements of each producer at a time.
inline void Crowd(benchmark::State& state, int64_t batch) {
  constexpr int kEach = 8;
  while (state.KeepRunningBatch(kEach * batch)) {
    Chan<int64_t> a(128);
    WaitGroup producing;
    Chan<int64_t> consumed(0);
    producing.Add(kEach);
    for (int t = 0; t < kEach; ++t) {
      Go([a, consumed] {
        int64_t sum = 0;
        for (const int64_t v : a) sum += v;
        consumed.Send(sum);
      });
      Go([a, batch, &producing] {
        for (int64_t i = 0; i < batch; ++i) a.Send(i);
        producing.Done();
      });
    }
    producing.Wait();
    a.Close();
    for (int t = 0; t < kEach; ++t) benchmark::DoNotOptimize(consumed.Recv());
  }
}

}  // namespace weft::testing

#endif  // WEFT_SCHED_WORKLOADS_H_
