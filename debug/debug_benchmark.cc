// What it costs to be watched: the argument is 0 for a program that is not, 1 for one whose
// execution is traced, 2 for one that is traced without a limit of events per second. With one P.
//
//   bazel run -c opt //debug:debug_benchmark --
//       --benchmark_repetitions=20 --benchmark_enable_random_interleaving=true
//
// With WEFTDEBUG=schedtrace=1000 around it, all of it is watched by that too.
#include <benchmark/benchmark.h>

#include <cstdint>

#include "absl/strings/string_view.h"
#include "chan/chan.h"
#include "debug/trace.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"

namespace weft {
namespace {

// One P, and what the argument asks for.
class Watched {
 public:
  explicit Watched(const benchmark::State& state)
      : traced_(state.range(0) != 0), procs_(SetMaxProcs(1)) {
    debug::RecordingOptions options;
    if (state.range(0) == 2) options.events_per_second = 0;
    if (traced_) (void)debug::StartTrace(options);
  }
  ~Watched() {
    SetMaxProcs(procs_);
    // Of a program that has ended there is little to write: the last of it.
    if (traced_) (void)debug::StopTrace([](absl::string_view) {});
  }
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

 private:
  const bool traced_;
  const int procs_;
};

// A round trip over two unbuffered channels, as in chan_benchmark.
void BM_PingPong(benchmark::State& state) {
  const Watched watched(state);
  testing::RunOnGoroutine([&] {
    Chan<int64_t> a(0);
    Chan<int64_t> b(0);
    Go([a, b] {
      for (const int64_t v : a) b.Send(v);
    });
    int64_t i = 0;
    for (auto _ : state) {
      a.Send(i++);
      benchmark::DoNotOptimize(b.Recv());
    }
    a.Close();
  });
}

// A goroutine that ends at once, a thousand at a time, as in sched_benchmark.
void BM_SpawnExit(benchmark::State& state) {
  constexpr int kBatch = 1000;
  const Watched watched(state);
  testing::RunOnGoroutine([&] {
    while (state.KeepRunningBatch(kBatch)) {
      WaitGroup ended;
      ended.Add(kBatch);
      for (int i = 0; i < kBatch; ++i) {
        Go([&ended] { ended.Done(); });
      }
      ended.Wait();
    }
  });
}

BENCHMARK(BM_PingPong)->DenseRange(0, 2)->UseRealTime();
BENCHMARK(BM_SpawnExit)->DenseRange(0, 2)->UseRealTime();

}  // namespace
}  // namespace weft
