// What a goroutine costs that is parked and waits for a channel, as most of a large server's do:
// memory, with page tables, and the time to start and park one and to wake one. For the plain case,
// and for goroutines that have a local of 64 bytes that others point to, which is on the pinned
// stack. One operation is one goroutine.
//
//     bazel run -c opt //stack:parked_benchmark
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "benchmark/benchmark.h"
#include "chan/chan.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"

namespace weft {
namespace {

constexpr int kGoroutines = 1'000'000;

// In KiB, from /proc/self/status.
int64_t Status(const char* key) {
  std::FILE* file = std::fopen("/proc/self/status", "r");
  if (file == nullptr) return 0;
  char line[256];
  long long value = 0;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::strncmp(line, key, std::strlen(key)) == 0) {
      value = std::strtoll(line + std::strlen(key), nullptr, 10);
    }
  }
  std::fclose(file);
  return value;
}

int64_t MemoryKiB() { return Status("VmRSS:") + Status("VmPTE:"); }

void WaitPlainly(const Chan<int>& gate) { benchmark::DoNotOptimize(gate.Recv()); }

__attribute__((noinline)) void WaitWithPinnedLocal(const Chan<int>& gate) {
  char local[64];
  benchmark::DoNotOptimize(&local[0]);
  benchmark::DoNotOptimize(gate.Recv());
  benchmark::DoNotOptimize(&local[0]);
}

template <void (*wait)(const Chan<int>&)>
void BM_Parked(benchmark::State& state) {
  SetMaxProcs(1);
  testing::RunOnGoroutine([&] {
    for (auto _ : state) {
      Chan<int> gate(0);
      WaitGroup all;
      all.Add(kGoroutines);
      const int64_t before = MemoryKiB();
      const Instant begin = Instant::Now();
      for (int i = 0; i < kGoroutines; ++i) {
        Go([&gate, &all] {
          wait(gate);
          all.Done();
        });
        // So that each runs, and parks, before many others are made.
        if (i % 100 == 99) Yield();
      }
      Yield();
      const Instant parked = Instant::Now();
      const int64_t after = MemoryKiB();
      for (int i = 0; i < kGoroutines; ++i) gate.Send(i);
      all.Wait();
      const Instant woken = Instant::Now();
      state.counters["bytes_per_goroutine"] =
          static_cast<double>(after - before) * 1024 / kGoroutines;
      state.counters["ns_to_start_and_park"] =
          static_cast<double>((parked - begin) / absl::Nanoseconds(1)) / kGoroutines;
      state.counters["ns_to_wake"] =
          static_cast<double>((woken - parked) / absl::Nanoseconds(1)) / kGoroutines;
    }
  });
  state.SetItemsProcessed(kGoroutines);
}
BENCHMARK(BM_Parked<WaitPlainly>)->Name("BM_Parked")->Iterations(1)->UseRealTime();
BENCHMARK(BM_Parked<WaitWithPinnedLocal>)->Name("BM_ParkedPinned")->Iterations(1)->UseRealTime();

}  // namespace
}  // namespace weft
