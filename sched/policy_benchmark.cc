// The same work under each policy, on all of the machine's Ps: what it is worth that each P has a
// queue of its own. Where the machine has one node, `numa` is to take as long as `gpm`.
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "sched/runtime.h"
#include "sched/testing.h"
#include "sched/workloads.h"

namespace weft {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(10);

// Runs `body` as a goroutine under `policy`.
void Under(Policy policy, absl::FunctionRef<void()> body) {
  if (!Runtime::Stop(kLimit).ok() || !Runtime::Start({.policy = policy}).ok()) std::abort();
  testing::RunOnGoroutine(body);
}

template <Policy kPolicy>
void BM_SpawnExit(benchmark::State& state) {
  Under(kPolicy, [&] { testing::SpawnExit(state); });
}

template <Policy kPolicy>
void BM_Skynet(benchmark::State& state) {
  Under(kPolicy, [&] { testing::Skynet(state); });
}

template <Policy kPolicy>
void BM_Crowd(benchmark::State& state) {
  Under(kPolicy, [&] { testing::Crowd(state, 100'000); });
}

BENCHMARK_TEMPLATE(BM_SpawnExit, Policy::kGlobal)->UseRealTime();
BENCHMARK_TEMPLATE(BM_SpawnExit, Policy::kGpm)->UseRealTime();
BENCHMARK_TEMPLATE(BM_SpawnExit, Policy::kNuma)->UseRealTime();
BENCHMARK_TEMPLATE(BM_Skynet, Policy::kGlobal)->UseRealTime();
BENCHMARK_TEMPLATE(BM_Skynet, Policy::kGpm)->UseRealTime();
BENCHMARK_TEMPLATE(BM_Skynet, Policy::kNuma)->UseRealTime();
BENCHMARK_TEMPLATE(BM_Crowd, Policy::kGlobal)->UseRealTime();
BENCHMARK_TEMPLATE(BM_Crowd, Policy::kGpm)->UseRealTime();
BENCHMARK_TEMPLATE(BM_Crowd, Policy::kNuma)->UseRealTime();

}  // namespace
}  // namespace weft
