#include "sched/internal/lock_holders.h"

#include <algorithm>
#include <map>

#include "sched/internal/runtime.h"
#include "stack/slots.h"

namespace weft::internal {
namespace {

using Waiters = std::map<uintptr_t, std::vector<GoroutineTrace*>>;

uintptr_t Number(const void* address) { return reinterpret_cast<uintptr_t>(address); }

// Words in [begin, end), which others may be writing. The sanitizers would object to that.
class Words {
 public:
  explicit Words(const Waiters& wanted) : lowest_(wanted.begin()->first) {
    for (const auto& [address, waiters] : wanted) wanted_.push_back(address);
  }

  __attribute__((no_sanitize("address", "thread"))) void Find(uintptr_t begin, uintptr_t end) {
    for (uintptr_t at = (begin + 7) & ~uintptr_t{7}; at + 8 <= end; at += 8) {
      const uintptr_t word = *reinterpret_cast<const volatile uintptr_t*>(at);
      if (word >= lowest_ && word <= wanted_.back()) Note(word);
    }
  }

  std::vector<uintptr_t>& found() { return found_; }

 private:
  void Note(uintptr_t word) {
    if (std::binary_search(wanted_.begin(), wanted_.end(), word)) found_.push_back(word);
  }

  const uintptr_t lowest_;
  std::vector<uintptr_t> wanted_;  // sorted
  std::vector<uintptr_t> found_;
};

uintptr_t EndOf(const stack::Slot* slot) { return slot == nullptr ? 0 : Number(slot->hi); }

void LookThrough(const G* g, const RunningStacks* running, Words& words) {
  const stack::Resident& stack = g->stack;
  if (stack.home == nullptr) return;
  const uintptr_t hi = EndOf(stack.home);
  if (running != nullptr) {
    // It may be on a segment, or have left the slot that this is.
    if (running->sp >= Number(stack.home->lo) && running->sp < hi) words.Find(running->sp, hi);
    if (stack.pinned != nullptr && running->pinned >= Number(stack.pinned->lo)) {
      words.Find(running->pinned, EndOf(stack.pinned));
    }
    return;
  }
  const uintptr_t sp = Number(stack.context.sp);
  const uintptr_t shift = stack.block == nullptr ? 0 : Number(stack.block) - sp;
  words.Find(sp + shift, Number(stack.context.stack_hi) + shift);
  if (stack.pinned != nullptr) {
    words.Find(Number(stack.context.pinned), EndOf(stack.pinned));
  }
}

}  // namespace

const void* LockThatStops(const G* g) {
  // The record of whoever waits for a lock begins with its address (sync/internal/parking_table.h).
  const auto address = [g] { return *static_cast<const char* const*>(g->LatestScratch()); };
  switch (g->wait_reason.load(std::memory_order_relaxed)) {
    case WaitReason::kMutexLock:
    case WaitReason::kRWMutexLock:
      return address();
    case WaitReason::kRWMutexRLock:
      return address() - 1;
    default:
      return nullptr;
  }
}

void AddHolders(const std::vector<RunningStacks>& running, std::vector<GoroutineTrace>& traces) {
  Waiters waiters;
  for (GoroutineTrace& trace : traces) {
    if (trace.waits_for != nullptr) waiters[Number(trace.waits_for)].push_back(&trace);
  }
  if (waiters.empty()) return;
  Words words(waiters);
  ForEachG([&](const G* g) {
    const uint64_t id = g->id.load(std::memory_order_relaxed);
    const auto trace = std::lower_bound(
        traces.begin(), traces.end(), id,
        [](const GoroutineTrace& t, uint64_t wanted) { return t.goroutine.id < wanted; });
    if (trace == traces.end() || trace->goroutine.id != id || trace->unavailable) return;
    const auto runs = std::find_if(running.begin(), running.end(),
                                   [id](const RunningStacks& r) { return r.id == id; });
    const GStatus status = g->status.load(std::memory_order_acquire);
    const bool has_left = status == GStatus::kWaiting || status == GStatus::kRunnable;
    if (!has_left && runs == running.end()) return;
    LookThrough(g, has_left ? nullptr : &*runs, words);
    std::vector<uintptr_t>& found = words.found();
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    for (const uintptr_t lock : found) {
      if (lock == Number(trace->waits_for)) continue;
      for (GoroutineTrace* waiter : waiters[lock]) waiter->holders.push_back(id);
    }
    found.clear();
  });
  for (GoroutineTrace& trace : traces) std::sort(trace.holders.begin(), trace.holders.end());
}

}  // namespace weft::internal
