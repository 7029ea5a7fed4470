// One operation of BM_Echo is one round trip of 64 bytes over a loopback connection, client and
// server in this process, each end a goroutine: Write and Read on one side, Read and Write on the
// other. Its arguments are the number of Ps (0: all of the machine's) and that of connections,
// which share the round trips.
#include <atomic>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "benchmark/benchmark.h"
#include "netpoll/net.h"
#include "sched/benchmark_args.h"
#include "sched/goroutine.h"
#include "sched/waiter.h"

namespace weft {
namespace {

constexpr size_t kMessage = 64;

void Serve(const Conn& conn) {
  const auto buffer = std::make_unique<char[]>(4096);
  for (;;) {
    const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer.get(), 4096));
    if (!n.ok() || *n == 0) return;
    if (!conn.Write(absl::string_view(buffer.get(), *n)).ok()) return;
  }
}

// False: something failed.
bool RoundTrips(const Conn& conn, int64_t count) {
  const auto buffer = std::make_unique<char[]>(kMessage);
  for (int64_t i = 0; i < count; ++i) {
    if (!conn.Write(absl::string_view(buffer.get(), kMessage)).ok()) return false;
    if (!conn.ReadFull(absl::MakeSpan(buffer.get(), kMessage)).ok()) return false;
  }
  return true;
}

// Waits for a number of goroutines, from the benchmark's own thread.
class Countdown {
 public:
  explicit Countdown(int64_t count) : owner_(Waiter::Current()), left_(count) {}

  void Done() {
    Waiter* const owner = owner_;
    if (left_.fetch_sub(1, std::memory_order_release) == 1) owner->Unpark();
  }
  void Wait() {
    while (left_.load(std::memory_order_acquire) != 0) owner_->Park(WaitReason::kWaitGroupWait);
  }

 private:
  Waiter* const owner_;
  std::atomic<int64_t> left_;
};

void BM_Echo(benchmark::State& state) {
  const testing::BenchmarkProcs procs(state);
  const int64_t conns = state.range(1);

  absl::StatusOr<Listener> listener = Listen("tcp", "127.0.0.1:0");
  if (!listener.ok()) {
    state.SkipWithError("listen failed");
    return;
  }
  Go([l = *listener] {
    for (absl::StatusOr<Conn> c = l.Accept(); c.ok(); c = l.Accept()) {
      Go([conn = *std::move(c)] { Serve(conn); });
    }
  });

  const int64_t each = 100'000 / conns;
  std::atomic<bool> failed{false};
  while (state.KeepRunningBatch(each * conns)) {
    Countdown countdown(conns);
    for (int64_t i = 0; i < conns; ++i) {
      Go([&] {
        absl::StatusOr<Conn> conn = Dial("tcp", listener->addr().ToString());
        if (!conn.ok() || !RoundTrips(*conn, each)) failed.store(true);
        conn = absl::CancelledError();  // closes it
        countdown.Done();
      });
    }
    countdown.Wait();
  }
  if (failed.load()) state.SkipWithError("a connection failed");
  state.SetItemsProcessed(state.iterations());
  listener->Close().IgnoreError();
}
BENCHMARK(BM_Echo)
    ->Args({0, 1})
    ->Args({0, 64})
    ->Args({0, 1000})
    ->Args({1, 1})
    ->Args({1, 64})
    ->Args({1, 1000})
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace
}  // namespace weft
