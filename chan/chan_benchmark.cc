// What a value through a channel costs. The first argument is the number of Ps, 0 for all of the
// machine's. Each workload does the work of the same name in Go that tools/compare sets beside it.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/context.h"
#include "chan/select.h"
#include "chan/timer.h"
#include "sched/benchmark_args.h"
#include "sched/goroutine.h"

namespace weft {
namespace {

using testing::OnGoroutine;

// A round trip over two unbuffered channels.
void BM_PingPong(benchmark::State& state) {
  OnGoroutine(state, [&] {
    Chan<int64_t> a(0);
    Chan<int64_t> b(0);
    Go([a, b] {
      for (const int64_t v : a) b.Send(v);
    });
    int64_t i = 0;
    for (auto _ : state) {
      a.Send(i++);
      b.Recv();
    }
    a.Close();
  });
}

// One producer, one consumer, a buffer of 128; per element.
void BM_Pipe(benchmark::State& state) {
  OnGoroutine(state, [&] {
    Chan<int64_t> a(128);
    Chan<int64_t> done(0);
    Go([a, done] {
      int64_t sum = 0;
      for (const int64_t v : a) sum += v;
      done.Send(sum);
    });
    int64_t i = 0;
    while (state.KeepRunningBatch(1000)) {
      for (int n = 0; n < 1000; ++n) a.Send(i++);
    }
    a.Close();
    benchmark::DoNotOptimize(done.Recv());
  });
}

// Eight producers and eight consumers on one channel with a buffer of 128; per element.
void BM_Crowd(benchmark::State& state) {
  OnGoroutine(state, [&] {
    constexpr int kEach = 8;
    constexpr int64_t kBatch = 500'000;  // of each producer
    while (state.KeepRunningBatch(kEach * kBatch)) {
      Chan<int64_t> a(128);
      Chan<int64_t> produced(0);
      Chan<int64_t> consumed(0);
      for (int t = 0; t < kEach; ++t) {
        Go([a, consumed] {
          int64_t sum = 0;
          for (const int64_t v : a) sum += v;
          consumed.Send(sum);
        });
        Go([a, produced] {
          for (int64_t i = 0; i < kBatch; ++i) a.Send(i);
          produced.Send(0);
        });
      }
      for (int t = 0; t < kEach; ++t) produced.Recv();
      a.Close();
      for (int t = 0; t < kEach; ++t) benchmark::DoNotOptimize(consumed.Recv());
    }
  });
}

// A sender that selects over two channels, a receiver that selects over three.
void BM_Select(benchmark::State& state) {
  OnGoroutine(state, [&] {
    Chan<int64_t> a(0);
    Chan<int64_t> b(0);
    Chan<int64_t> quit(0);
    Go([a, b, quit] {
      bool running = true;
      while (running) {
        Select(a.OnRecv(), b.OnRecv(), quit.OnRecv([&] { running = false; }));
      }
    });
    int64_t i = 0;
    for (auto _ : state) {
      Select(a.OnSend(i), b.OnSend(i));
      ++i;
    }
    quit.Close();
  });
}

// What does not wait: a try form that finds nothing, a buffered send and receive, a Select with a
// Default. They need no scheduler.
void BM_TryRecvEmpty(benchmark::State& state) {
  Chan<int64_t> c(1);
  for (auto _ : state) benchmark::DoNotOptimize(c.TryRecv().result);
}

void BM_BufferedSendRecv(benchmark::State& state) {
  Chan<int64_t> c(16);
  for (auto _ : state) {
    c.Send(1);
    benchmark::DoNotOptimize(c.Recv());
  }
}

void BM_SelectReady(benchmark::State& state) {
  Chan<int64_t> c(16);
  Chan<int64_t> never(0);
  for (auto _ : state) {
    Select(never.OnRecv(), c.OnSend(1));
    Select(never.OnRecv(), c.OnRecv());
  }
}

// A timer that is set anew and never fires, as a connection's deadline is.
void BM_TimerReset(benchmark::State& state) {
  const Timer timer(absl::Hours(1));
  for (auto _ : state) timer.Reset(absl::Hours(1));
  timer.Stop();
}

// Made and given up, as in a loop around a Select.
void BM_AfterChan(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(AfterChan(absl::Hours(1)));
}

// A child of a context that is not done, made and cancelled.
void BM_WithCancel(benchmark::State& state) {
  const ContextWithCancel parent = WithCancel(Background());
  for (auto _ : state) WithCancel(parent.context).cancel();
}

void BM_WithTimeout(benchmark::State& state) {
  const ContextWithCancel parent = WithCancel(Background());
  for (auto _ : state) WithTimeout(parent.context, absl::Hours(1)).cancel();
}

// Asked of a context four steps below the one that may be cancelled.
void BM_ContextErr(benchmark::State& state) {
  Context context = WithCancel(Background()).context;
  for (int i = 0; i < 4; ++i) context = WithValue(context, i, i);
  for (auto _ : state) benchmark::DoNotOptimize(context.Err().ok());
}

BENCHMARK(BM_PingPong)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_Pipe)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_Crowd)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_Select)->Arg(1)->Arg(0)->UseRealTime();
BENCHMARK(BM_TryRecvEmpty);
BENCHMARK(BM_BufferedSendRecv);
BENCHMARK(BM_SelectReady);
BENCHMARK(BM_TimerReset);
BENCHMARK(BM_AfterChan);
BENCHMARK(BM_WithCancel);
BENCHMARK(BM_WithTimeout);
BENCHMARK(BM_ContextErr);

}  // namespace
}  // namespace weft
