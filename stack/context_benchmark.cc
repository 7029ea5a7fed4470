// What a switch costs. One operation is there and back: two switches, which items_per_second
// counts.
#include <cfenv>
#include <memory>
#include <vector>

#include "benchmark/benchmark.h"
#include "stack/context.h"
#include "stack/slots.h"

namespace weft::stack {
namespace {

// Two contexts that alternate, as a goroutine and its thread's scheduler do.
struct Pair {
  explicit Pair(SlotCache& cache)
      : slot(Acquire(cache, DefaultSizeClass())), pinned(AcquirePinned(cache)) {
    MakeContext(task, *slot, pinned, Run, this);
  }
  static void Run(void* arg) {
    auto* pair = static_cast<Pair*>(arg);
    for (;;) Switch(pair->task, pair->thread);
  }
  Slot* slot;
  Slot* pinned;
  Context thread;
  Context task;
};

void BM_Switch(benchmark::State& state) {
  SlotCache cache;
  Pair pair(cache);
  for (auto _ : state) {
    Switch(pair.thread, pair.task);
  }
  state.SetItemsProcessed(2 * state.iterations());
  Release(cache, pair.slot);
  ReleasePinned(cache, pair.pinned);
}
BENCHMARK(BM_Switch);

// As in a scheduler, whose side promises not to change the floating-point control words.
void BM_SwitchHeldFpControl(benchmark::State& state) {
  SlotCache cache;
  Pair pair(cache);
  HoldFpControl(pair.thread);
  for (auto _ : state) {
    Switch(pair.thread, pair.task);
  }
  state.SetItemsProcessed(2 * state.iterations());
  Release(cache, pair.slot);
  ReleasePinned(cache, pair.pinned);
}
BENCHMARK(BM_SwitchHeldFpControl);

// The worst case: the control words differ and are loaded each time.
void BM_SwitchOtherRounding(benchmark::State& state) {
  SlotCache cache;
  Pair pair(cache);
  fesetround(FE_UPWARD);
  for (auto _ : state) {
    Switch(pair.thread, pair.task);
  }
  fesetround(FE_TONEAREST);
  state.SetItemsProcessed(2 * state.iterations());
  Release(cache, pair.slot);
  ReleasePinned(cache, pair.pinned);
}
BENCHMARK(BM_SwitchOtherRounding);

// Round a ring of contexts, each on a slot: with their number, stacks leave the caches and the TLB.
void BM_SwitchAmong(benchmark::State& state) {
  SlotCache cache;
  std::vector<std::unique_ptr<Pair>> ring;
  for (int64_t i = 0; i < state.range(0); ++i) ring.push_back(std::make_unique<Pair>(cache));
  size_t next = 0;
  for (auto _ : state) {
    Pair& pair = *ring[next];
    Switch(pair.thread, pair.task);
    if (++next == ring.size()) next = 0;
  }
  state.SetItemsProcessed(2 * state.iterations());
  for (auto& pair : ring) {
    Release(cache, pair->slot);
    ReleasePinned(cache, pair->pinned);
  }
}
BENCHMARK(BM_SwitchAmong)->Arg(2)->Arg(10)->Arg(100)->Arg(1000)->Arg(10000);

// Making a context and running it to its end, on a warm slot.
void BM_MakeAndFinish(benchmark::State& state) {
  SlotCache cache;
  static Context thread;
  static Context task;
  for (auto _ : state) {
    Slot* slot = Acquire(cache, DefaultSizeClass());
    Slot* pinned = AcquirePinned(cache);
    MakeContext(task, *slot, pinned, [](void*) { SwitchFinal(task, thread); }, nullptr);
    Switch(thread, task);
    Release(cache, slot);
    ReleasePinned(cache, pinned);
  }
}
BENCHMARK(BM_MakeAndFinish);

}  // namespace
}  // namespace weft::stack
