// For the benchmarks that tools/compare sets beside Go's: their first argument is the number of Ps,
// 0 for all of the machine's.
//
//   void BM_Something(benchmark::State& state) {
//     weft::testing::OnGoroutine(state, [&] {
//       for (auto _ : state) { ... }
//     });
//   }
//   BENCHMARK(BM_Something)->Arg(1)->Arg(0)->UseRealTime();
#ifndef WEFT_SCHED_BENCHMARK_ARGS_H_
#define WEFT_SCHED_BENCHMARK_ARGS_H_

#include <benchmark/benchmark.h>

#include "absl/functional/function_ref.h"
#include "sched/goroutine.h"
#include "sched/testing.h"

namespace weft::testing {

// Sets the number of Ps that a benchmark asks for, until the end of the scope.
class BenchmarkProcs {
 public:
  explicit BenchmarkProcs(const benchmark::State& state) : before_(MaxProcs()) {
    const int procs = static_cast<int>(state.range(0));
    if (procs != 0) SetMaxProcs(procs);
  }
  ~BenchmarkProcs() { SetMaxProcs(before_); }
  BenchmarkProcs(const BenchmarkProcs&) = delete;
  BenchmarkProcs& operator=(const BenchmarkProcs&) = delete;

 private:
  const int before_;
};

// Runs `body` as a goroutine with that number of Ps.
inline void OnGoroutine(const benchmark::State& state, absl::FunctionRef<void()> body) {
  const BenchmarkProcs procs(state);
  RunOnGoroutine(body);
}

}  // namespace weft::testing

#endif  // WEFT_SCHED_BENCHMARK_ARGS_H_
