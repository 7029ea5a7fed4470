// What stacks cost that grow where they are and rest when they are not needed, beside those of one
// size. For linked segments see hot_split_segments.
//
//     bazel run -c opt //stack:stack_benchmark
//
// and with --config=fixed for the numbers of that mode.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "stack/benchmark_code.h"
#include "stack/context.h"
#include "stack/hot_split.h"
#include "stack/internal/task.h"
#include "stack/mode.h"
#include "stack/residence.h"
#include "stack/rest.h"
#include "stack/slots.h"

namespace weft::stack {
namespace {

// --- Calls ---

// A call in a loop, by the place on the stack where it is most expensive; a loop of half a KiB
// frames at 256 places of the first 64 KiB. `fixed`: code without flags on a stack of 256 KiB.
// `reserved`: the same on one of 64 MiB. `checked`: with the flags of the build's mode, on its own
// sort of stack; in mode copying that is what grows and rests.
void BM_HotSplit(benchmark::State& state, int64_t (*call_below)(size_t, int64_t), SizeClass size) {
  HotSplit split;
  for (auto _ : state) {
    RunOnSlot([&] { split = MeasureHotSplit(call_below); }, size);
  }
  state.counters["usual_ns"] = split.usual_ns;
  state.counters["worst_ns"] = split.worst_ns;
}
BENCHMARK_CAPTURE(BM_HotSplit, fixed, plain::CallBelow, SizeClass::k256KiB)->Iterations(1);
BENCHMARK_CAPTURE(BM_HotSplit, reserved, plain::CallBelow, SizeClass::k64MiB)->Iterations(1);
BENCHMARK_CAPTURE(BM_HotSplit, checked, checked::CallBelow, DefaultSizeClass())->Iterations(1);

// What the flags of the build's mode cost. Fibonacci is nothing but calls, the worst case; sorting
// and searching call much and do something too.
void BM_Prologue(benchmark::State& state, int64_t (*fibonacci)(int)) {
  for (auto _ : state) benchmark::DoNotOptimize(fibonacci(20));
}
BENCHMARK_CAPTURE(BM_Prologue, fibonacci_plain, plain::Fibonacci);
BENCHMARK_CAPTURE(BM_Prologue, fibonacci_checked, checked::Fibonacci);

void BM_PrologueSort(benchmark::State& state, int64_t (*sort)(std::vector<int64_t>)) {
  std::vector<int64_t> numbers(1'000);
  std::iota(numbers.begin(), numbers.end(), 0);
  std::shuffle(numbers.begin(), numbers.end(), std::minstd_rand(1));
  for (auto _ : state) benchmark::DoNotOptimize(sort(numbers));
}
BENCHMARK_CAPTURE(BM_PrologueSort, plain, plain::SortAndSearch);
BENCHMARK_CAPTURE(BM_PrologueSort, checked, checked::SortAndSearch);

// --- Growing ---

// A stack that has one page goes down so many bytes: the first time (`warm` 0) each page has to
// come from the system.
void BM_Grow(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0));
  const bool warm = state.range(1) != 0;
  SlotCache cache;
  Task task(cache, [&](Task& self) {
    for (;;) {
      benchmark::DoNotOptimize(checked::GoDown(bytes));
      self.Pause();
    }
  });
  task.Resume();
  Slot* slot = FindSlot(task.slot().lo);
  for (auto _ : state) {
    if (!warm) {
      state.PauseTiming();
      GiveBackBelow(*slot, slot->hi - 4096);
      state.ResumeTiming();
    }
    task.Resume();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Grow)
    ->ArgNames({"bytes", "warm"})
    ->ArgsProduct({{16 << 10, 128 << 10, kMayMove ? 8 << 20 : 128 << 10}, {0, 1}});

// --- Resting ---

struct Fiber : Resident {
  explicit Fiber(size_t f) : frames(f) {}
  const size_t frames;
  bool done = false;
  Context* thread = nullptr;
};

// Pauses over and over, so many frames down, of 32 bytes or so.
__attribute__((noinline)) void PauseBelow(Fiber& fiber, size_t frames) {
  if (frames > 0) {
    PauseBelow(fiber, frames - 1);
    asm volatile("");
    return;
  }
  while (!fiber.done) Switch(fiber.context, *fiber.thread);
}

void RunFiber(void* arg) {
  auto* fiber = static_cast<Fiber*>(static_cast<Resident*>(arg));
  PauseBelow(*fiber, fiber->frames);
  SwitchFinal(fiber->context, *fiber->thread);
}

class Proc final : public StackMover {
 public:
  Proc(RestPolicy policy, size_t budget) : StackMover(slots_, RunFiber, policy, budget) {
    HoldFpControl(thread_);
  }
  void Resume(Fiber& fiber) {
    residence().Enter(fiber, ResidenceSharing::kAlone);
    fiber.thread = &thread_;
    Switch(thread_, fiber.context);
    if (fiber.done) {
      End(fiber);
    } else {
      residence().Leave(fiber);
    }
  }
  void Ready(Resident&) override {}
  bool MayRest(const Resident&) const override { return true; }

 private:
  SlotCache slots_;
  Context thread_;
};

void Run(benchmark::State& state, int64_t fibers, size_t frames, RestPolicy policy, size_t budget) {
  Proc proc(policy, budget);
  std::vector<std::unique_ptr<Fiber>> ring;
  for (int64_t i = 0; i < fibers; ++i) ring.push_back(std::make_unique<Fiber>(frames));
  for (const auto& fiber : ring) proc.Resume(*fiber);
  const RestStats before = GetRestStats();
  size_t next = 0;
  for (auto _ : state) {
    proc.Resume(*ring[next]);
    if (++next == ring.size()) next = 0;
  }
  const RestStats after = GetRestStats();
  const uint64_t rests = after.rests - before.rests;
  state.SetItemsProcessed(state.iterations());
  state.counters["rests"] = static_cast<double>(rests) / static_cast<double>(state.iterations());
  if (rests > 0) {
    state.counters["bytes"] =
        static_cast<double>(after.bytes_rested - before.bytes_rested) / static_cast<double>(rests);
  }
  for (const auto& fiber : ring) {
    fiber->done = true;
    proc.Resume(*fiber);
  }
}

// Two that share one slot: each switch copies one out and one in. The argument is the number of
// frames that they have, beside two; bytes says what that makes.
[[maybe_unused]] void BM_Rest(benchmark::State& state) {
  Run(state, 2, static_cast<size_t>(state.range(0)), RestPolicy::kAsNeeded, 1);
}

// The same, and each wakes in the other's slot, so that its pointers are shifted.
[[maybe_unused]] void BM_Move(benchmark::State& state) {
  Run(state, 2, static_cast<size_t>(state.range(0)), RestPolicy::kAlways, 2);
}

// Round a ring, where those that are not among the latest 64 rest (rest:1), or each keeps its slot.
// Without resting 100,000 of them take more than a gigabyte.
void BM_SwitchAmong(benchmark::State& state) {
  if (state.range(1) != 0) {
    Run(state, state.range(0), 4, RestPolicy::kAsNeeded, 64);
  } else {
    Run(state, state.range(0), 4, RestPolicy::kNever, 0);
  }
}

[[maybe_unused]] const bool registered = [] {
  auto* among = benchmark::RegisterBenchmark("BM_SwitchAmong", BM_SwitchAmong);
  among->ArgNames({"N", "rest"});
  for (const int64_t n : {2, 10, 100, 1'000, 10'000, 100'000}) among->Args({n, 0});
  if constexpr (kMayMove) {
    for (const int64_t n : {2, 10, 100, 1'000, 10'000, 100'000, 1'000'000}) among->Args({n, 1});
    for (const int64_t frames : {0, 8, 50, 300}) {
      benchmark::RegisterBenchmark("BM_Rest", BM_Rest)->Arg(frames);
      benchmark::RegisterBenchmark("BM_Move", BM_Move)->Arg(frames);
    }
  }
  return true;
}();

}  // namespace
}  // namespace weft::stack
