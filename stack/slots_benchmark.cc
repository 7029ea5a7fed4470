// What slots cost in time and memory. One operation is one slot.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "absl/time/time.h"
#include "benchmark/benchmark.h"
#include "stack/slots.h"

namespace weft::stack {
namespace {

void BM_AcquireRelease(benchmark::State& state) {
  SlotCache cache;
  for (auto _ : state) {
    Slot* slot = Acquire(cache, DefaultSizeClass());
    benchmark::DoNotOptimize(slot);
    Release(cache, slot);
  }
}
BENCHMARK(BM_AcquireRelease);

// A thousand taken and returned: all but 64 through the central list.
void BM_AcquireReleaseThousand(benchmark::State& state) {
  SlotCache cache;
  std::vector<Slot*> slots(1000);
  for (auto _ : state) {
    for (Slot*& slot : slots) slot = Acquire(cache, DefaultSizeClass());
    for (Slot* slot : slots) Release(cache, slot);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(slots.size()));
}
BENCHMARK(BM_AcquireReleaseThousand);

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

// New slots, their first page touched as a goroutine's first frames do, and what they take: pages
// and page tables. They stay made, so each size is run once.
void NewSlots(benchmark::State& state, SizeClass size_class) {
  constexpr int kSlots = 4000;
  SlotCache cache;
  std::vector<Slot*> slots;
  slots.reserve(kSlots);
  // Those that there are already.
  std::vector<Slot*> old;
  const size_t index = static_cast<size_t>(size_class);
  for (;;) {
    const Stats::Class before = GetStats().classes[index];
    if (before.cached + before.central == 0) break;
    old.push_back(Acquire(cache, size_class));
  }
  const int64_t pages = Status("VmRSS:");
  const int64_t tables = Status("VmPTE:");
  for (auto _ : state) {
    for (int i = 0; i < kSlots; ++i) {
      Slot* slot = Acquire(cache, size_class);
      if (slot == nullptr) return state.SkipWithError(WhyNoSlot());
      slot->hi[-64] = 1;
      slots.push_back(slot);
    }
  }
  state.SetItemsProcessed(kSlots);
  state.counters["KiB_pages"] = static_cast<double>(Status("VmRSS:") - pages) / kSlots;
  state.counters["KiB_page_tables"] = static_cast<double>(Status("VmPTE:") - tables) / kSlots;
  for (Slot* slot : slots) Release(cache, slot);
  for (Slot* slot : old) Release(cache, slot);
}
BENCHMARK_CAPTURE(NewSlots, BM_New64KiB, SizeClass::k64KiB)->Iterations(1);
BENCHMARK_CAPTURE(NewSlots, BM_New256KiB, SizeClass::k256KiB)->Iterations(1);
BENCHMARK_CAPTURE(NewSlots, BM_NewLarge, SizeClass::kLarge)->Iterations(1);
BENCHMARK_CAPTURE(NewSlots, BM_NewPinned, SizeClass::kPinned)->Iterations(1);

// Memory given back and touched anew.
void BM_TrimAndTouch(benchmark::State& state) {
  SlotCache cache;
  std::vector<Slot*> slots(100);
  for (auto _ : state) {
    for (Slot*& slot : slots) {
      slot = Acquire(cache, SizeClass::k256KiB);
      slot->hi[-64] = 1;
    }
    for (Slot* slot : slots) Release(cache, slot);
    Drain(cache);
    TrimIdle(absl::ZeroDuration());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(slots.size()));
}
BENCHMARK(BM_TrimAndTouch);

}  // namespace
}  // namespace weft::stack
