// What it costs to have stacks rest. One operation is one switch to a context and back.
//
//     bazel run -c opt //stack:rest_benchmark
#include <memory>
#include <vector>

#include "benchmark/benchmark.h"
#include "stack/context.h"
#include "stack/residence.h"
#include "stack/rest.h"
#include "stack/slots.h"

namespace weft::stack {
namespace {

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
void BM_Rest(benchmark::State& state) {
  Run(state, 2, static_cast<size_t>(state.range(0)), RestPolicy::kAsNeeded, 1);
}
BENCHMARK(BM_Rest)->Arg(0)->Arg(8)->Arg(50)->Arg(300);

// The same, and each wakes in the other's slot, so that its pointers are shifted.
void BM_Move(benchmark::State& state) {
  Run(state, 2, static_cast<size_t>(state.range(0)), RestPolicy::kAlways, 2);
}
BENCHMARK(BM_Move)->Arg(0)->Arg(8)->Arg(50)->Arg(300);

// Round a ring.
void BM_SwitchAmong(benchmark::State& state) {
  Run(state, state.range(0), 4, RestPolicy::kAsNeeded, 64);
}
BENCHMARK(BM_SwitchAmong)->Arg(2)->Arg(10)->Arg(100)->Arg(1'000)->Arg(10'000)->Arg(100'000);
BENCHMARK(BM_SwitchAmong)->Arg(1'000'000);

// The same where each keeps its slot: 10,000 large ones are what there is.
void BM_SwitchAmongHot(benchmark::State& state) {
  Run(state, state.range(0), 4, RestPolicy::kNever, 0);
}
BENCHMARK(BM_SwitchAmongHot)->Arg(2)->Arg(10)->Arg(100)->Arg(1'000)->Arg(10'000);

}  // namespace
}  // namespace weft::stack
