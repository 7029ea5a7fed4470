// Goroutines share sets of labels: who is started by one that has a set has the same. A G has room
// for a number, so sets are in a table. Each is counted by those who have it: goroutines, scopes
// that will give it back to theirs, samples of a profiler.
//
// A goroutine's set is changed by itself alone, inside the runtime: while the world is stopped it
// stays. A handler of a signal may take part in a set of the goroutine that it has interrupted:
// that has one that it still counts in, as it stores the new one before it leaves the old.
#include "sched/labels.h"

#include <algorithm>
#include <atomic>

#include "sched/internal/runtime.h"
#include "sched/internal/sample.h"

namespace weft::internal {
namespace {

struct LabelSet {
  LabelList labels;
  std::atomic<uint32_t> users{1};
};

constexpr uint32_t kMostSets = 1 << 20;

// The first is that of no labels, and null. Read and written by SetAt(): atomics would have to be
// constructed, eight megabytes of them as each program starts.
constinit LabelSet* sets[kMostSets] = {};
Lock sets_lock;
uint32_t used ABSL_GUARDED_BY(sets_lock) = 1;
std::vector<uint32_t>& FreeSets() ABSL_EXCLUSIVE_LOCKS_REQUIRED(sets_lock) {
  static auto* free = new std::vector<uint32_t>;
  return *free;
}

std::atomic_ref<LabelSet*> SetAt(uint32_t number) {
  return std::atomic_ref<LabelSet*>(sets[number]);
}
LabelSet& SetOf(uint32_t number) { return *SetAt(number).load(std::memory_order_relaxed); }

uint32_t NewSet(LabelList labels) {
  if (labels.empty()) return 0;
  auto* set = new LabelSet{.labels = std::move(labels)};
  const RuntimeSection section;
  const LockGuard guard(sets_lock);
  uint32_t number = 0;
  if (std::vector<uint32_t>& free = FreeSets(); !free.empty()) {
    number = free.back();
    free.pop_back();
  } else if (used < kMostSets) {
    number = used++;
  } else {
    // A million sets: those that come now are lost, not the program.
    delete set;
    return 0;
  }
  SetAt(number).store(set, std::memory_order_relaxed);
  return number;
}

void Share(uint32_t number) {
  if (number != 0) SetOf(number).users.fetch_add(1, std::memory_order_relaxed);
}

void Leave(uint32_t number) {
  if (number == 0) return;
  LabelSet* set = &SetOf(number);
  // Acquire, release: whoever is the last has all others' uses behind it.
  if (set->users.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  {
    const RuntimeSection section;
    const LockGuard guard(sets_lock);
    SetAt(number).store(nullptr, std::memory_order_relaxed);
    FreeSets().push_back(number);
  }
  delete set;
}

// Stores the goroutine's new set; returns the old one.
uint32_t Exchange(G* g, uint32_t number) {
  const RuntimeSection section;
  const uint32_t old = g->labels.exchange(number, std::memory_order_relaxed);
  g->has_labels = number != 0;
  return old;
}

}  // namespace

void InheritLabels(const G* from, G* g) noexcept {
  const uint32_t number = from->labels.load(std::memory_order_relaxed);
  Share(number);
  g->labels.store(number, std::memory_order_relaxed);
  g->has_labels = true;
}

void DropLabels() noexcept { Leave(Exchange(ThisG(), 0)); }

LabelList LabelsOf(const G* g) {
  const uint32_t number = g->labels.load(std::memory_order_relaxed);
  if (number == 0) return {};
  return SetOf(number).labels;
}

LabelScope::LabelScope(const LabelList& labels) {
  G* g = ThisG();
  if (g == nullptr) return;
  LabelList all = LabelsOf(g);
  for (const auto& label : labels) {
    const auto at =
        std::lower_bound(all.begin(), all.end(), label,
                         [](const auto& a, const auto& wanted) { return a.first < wanted.first; });
    if (at != all.end() && at->first == label.first) {
      at->second = label.second;
    } else {
      all.insert(at, label);
    }
  }
  is_active_ = true;
  before_ = Exchange(g, NewSet(std::move(all)));
}

LabelScope::~LabelScope() {
  if (is_active_) Leave(Exchange(ThisG(), before_));
}

void SampleInterrupted(const ucontext_t& context, stack::Trace& trace, uint32_t* labels) noexcept {
  trace.count = 0;
  *labels = 0;
  const stack::MachineState state = stack::InterruptedState(context);
  const M* m = ThisM();
  const G* g = m == nullptr ? nullptr : m->current.load(std::memory_order_relaxed);
  // In the middle of a switch the stack is not the goroutine's.
  if (g == nullptr || m->waiter != g) {
    stack::GetInterruptedTrace(state, trace);
    return;
  }
  stack::GetSampledTrace(state, g->stack.context, trace);
  *labels = g->labels.load(std::memory_order_relaxed);
  Share(*labels);
}

LabelList TakeLabels(uint32_t labels) {
  if (labels == 0) return {};
  LabelList list = SetOf(labels).labels;
  Leave(labels);
  return list;
}

}  // namespace weft::internal

namespace weft {

LabelList CurrentLabels() {
  const internal::G* g = internal::ThisG();
  if (g == nullptr) return {};
  return internal::LabelsOf(g);
}

}  // namespace weft
