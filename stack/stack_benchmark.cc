// What stacks cost that grow where they are, are copied, or rest when they are not needed, beside
// those of one size.
//
//     bazel run -c opt //stack:stack_benchmark
//
// and with --config=fixed or segmented for the numbers of those modes. Segments as libgcc links
// them take a program of their own, hot_split_segments.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "stack/benchmark_code.h"
#include "stack/context.h"
#include "stack/grow.h"
#include "stack/hot_split.h"
#include "stack/internal/resident_task.h"
#include "stack/internal/task.h"
#include "stack/mode.h"
#include "stack/residence.h"
#include "stack/rest.h"
#include "stack/segment.h"
#include "stack/slots.h"

namespace weft::stack {
namespace {

// --- Calls ---

// A call in a loop, by the place on the stack where it is most expensive; a loop of half a KiB
// frames at 256 places of the first 64 KiB. `fixed`: code without flags on a stack of 256 KiB.
// `reserved`: the same on one of 64 MiB. `segmented`: code that looks for the limit, on a stack of
// 64 KiB that grows by Weft's segments (`links` of them). `copying`: the same on one that grows by
// being copied (`growths`). `in_place`: the same on what goroutines get by default in mode copying.
void ReportHotSplit(benchmark::State& state, const HotSplit& split) {
  state.counters["usual_ns"] = split.usual_ns;
  state.counters["worst_ns"] = split.worst_ns;
}

void BM_HotSplit(benchmark::State& state, int64_t (*call_below)(size_t, int64_t), SizeClass size) {
  HotSplit split;
  for (auto _ : state) {
    RunOnSlot([&] { split = MeasureHotSplit(call_below); }, size);
  }
  ReportHotSplit(state, split);
}

// On a stack that grows as the build's mode and its class have it. (Unoptimized, the function that
// measures copies structures, and so the stack is never copied.)
[[maybe_unused]] void BM_HotSplitOfOneThatGrows(benchmark::State& state,
                                                int64_t (*call_below)(size_t, int64_t),
                                                SizeClass size) {
  const uint64_t growths = GetGrowStats().growths;
  const uint64_t links = GetSegmentStats().links;
  HotSplit split;
  for (auto _ : state) {
    RunAsResident([&] { split = MeasureHotSplit(call_below); }, size);
  }
  ReportHotSplit(state, split);
  state.counters["growths"] = static_cast<double>(GetGrowStats().growths - growths);
  state.counters["links"] = static_cast<double>(GetSegmentStats().links - links);
}

[[maybe_unused]] const bool hot_split_is_registered = [] {
  const auto add = [](const char* name, auto* how, const BenchmarkCode& code, SizeClass size) {
    benchmark::RegisterBenchmark(absl::StrCat("BM_HotSplit/", name, "/at:", code.at).c_str(), how,
                                 code.call_below, size)
        ->Iterations(1);
  };
  for (const BenchmarkCode& code : plain::kCode) {
    add("fixed", BM_HotSplit, code, SizeClass::k256KiB);
    add("reserved", BM_HotSplit, code, SizeClass::k64MiB);
  }
  for (const BenchmarkCode& code : checked::kCode) {
    if (kHasGuardWord) add("segmented", BM_HotSplitOfOneThatGrows, code, SizeClass::k64KiB);
    if (kMayMove) add("copying", BM_HotSplitOfOneThatGrows, code, SizeClass::kFirstCopy);
    if (kHasPinnedStack) add("in_place", BM_HotSplit, code, SizeClass::kLarge);
  }
  benchmark::AddCustomContext("segments of libgcc", "bazel run -c opt //stack:hot_split_segments");
  return true;
}();

// What the flags of the build's mode cost. Fibonacci is nothing but calls, the worst case; sorting
// and searching call much and do something too.
void BM_Prologue(benchmark::State& state, int64_t (*fibonacci)(int)) {
  for (auto _ : state) benchmark::DoNotOptimize(fibonacci(20));
}

void BM_PrologueSort(benchmark::State& state, int64_t (*sort)(std::vector<int64_t>)) {
  std::vector<int64_t> numbers(1'000);
  std::iota(numbers.begin(), numbers.end(), 0);
  std::shuffle(numbers.begin(), numbers.end(), std::minstd_rand(1));
  for (auto _ : state) benchmark::DoNotOptimize(sort(numbers));
}

[[maybe_unused]] const bool prologues_are_registered = [] {
  const auto add = [](const char* kind, const BenchmarkCode& code) {
    const std::string rest = absl::StrCat(kind, "/at:", code.at);
    benchmark::RegisterBenchmark(absl::StrCat("BM_Prologue/fibonacci_", rest).c_str(), BM_Prologue,
                                 code.fibonacci);
    benchmark::RegisterBenchmark(absl::StrCat("BM_PrologueSort/", rest).c_str(), BM_PrologueSort,
                                 code.sort_and_search);
  };
  for (const BenchmarkCode& code : plain::kCode) add("plain", code);
  for (const BenchmarkCode& code : checked::kCode) add("checked", code);
  return true;
}();

// --- Growing ---

// A stack that has one page goes down so many bytes: the first time (`warm` 0) each page has to
// come from the system.
void BM_Grow(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0));
  const bool warm = state.range(1) != 0;
  SlotCache cache;
  Task task(cache, [&](Task& self) {
    for (;;) {
      benchmark::DoNotOptimize(checked0::GoDown(bytes));
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

// The same on a new stack of 64 KiB that grows by being copied: a copy for each doubling.
[[maybe_unused]] void BM_GrowByCopy(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0));
  const uint64_t growths = GetGrowStats().growths;
  for (auto _ : state) {
    RunAsResident([&] { benchmark::DoNotOptimize(checked0::GoDown(bytes)); },
                  SizeClass::kFirstCopy);
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
  state.counters["growths"] = benchmark::Counter(
      static_cast<double>(GetGrowStats().growths - growths), benchmark::Counter::kAvgIterations);
}

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

// Of PauseBelow(), so many that a stack has at least `bytes` in use.
size_t FramesFor(size_t bytes) {
  const auto used = [](size_t frames) {
    Proc proc(RestPolicy::kNever, 0);
    Fiber fiber(frames);
    proc.Resume(fiber);
    const size_t used = UseOf(fiber).used;
    fiber.done = true;
    proc.Resume(fiber);
    return used;
  };
  constexpr size_t kMany = 100;
  const size_t least = used(0);
  const size_t frame = (used(kMany) - least) / kMany;
  return bytes <= least ? 0 : (bytes - least + frame - 1) / frame;
}

// Two that share one slot: each switch copies one out and one in. The argument is the bytes that
// they have in use, or somewhat more; `bytes` says what was copied.
[[maybe_unused]] void BM_Rest(benchmark::State& state) {
  Run(state, 2, FramesFor(static_cast<size_t>(state.range(0))), RestPolicy::kAsNeeded, 1);
}

// The same, and each wakes in the other's slot, so that its pointers are shifted.
[[maybe_unused]] void BM_Move(benchmark::State& state) {
  Run(state, 2, FramesFor(static_cast<size_t>(state.range(0))), RestPolicy::kAlways, 2);
}

// Round a ring of a thousand, by how many of them have slots (kSlotBudget is 64).
[[maybe_unused]] void BM_Budget(benchmark::State& state) {
  Run(state, 1'000, 4, RestPolicy::kAsNeeded, static_cast<size_t>(state.range(0)));
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
    for (const int64_t bytes : {128, 512, 2'048, 8'192}) {
      benchmark::RegisterBenchmark("BM_Rest", BM_Rest)->Arg(bytes);
      benchmark::RegisterBenchmark("BM_Move", BM_Move)->Arg(bytes);
    }
    for (const int64_t budget : {16, 64, 256}) {
      benchmark::RegisterBenchmark("BM_Budget", BM_Budget)->Arg(budget);
    }
    for (const int64_t bytes : {128 << 10, 1 << 20, 8 << 20}) {
      benchmark::RegisterBenchmark("BM_GrowByCopy", BM_GrowByCopy)->Arg(bytes);
    }
  }
  return true;
}();

}  // namespace
}  // namespace weft::stack
