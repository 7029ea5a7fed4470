#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "sched/internal/fatal_report.h"
#include "sched/internal/runtime.h"
#include "stack/internal/writer.h"
#include "stack/traceback.h"

namespace weft::internal {
namespace {

using stack::internal::Writer;

// All Gs, in slabs that never move: readers follow the links without a lock.
struct Slab {
  Slab* next;
  G* gs;
  int capacity;
  std::atomic<int> count{0};  // made so far
};

Lock slabs_lock;
std::atomic<Slab*> slabs{nullptr};  // newest first; only the newest has room

// A program with a few goroutines gets by with the first slab. A large one is a huge page where the
// system has them: goroutines that wake in any order would miss the TLB each time.
constexpr int kFirstSlabGs = 16;
constexpr size_t kHugePage = 2 << 20;

Slab* AddSlab(Slab* last) ABSL_EXCLUSIVE_LOCKS_REQUIRED(slabs_lock) {
  int capacity = last == nullptr ? kFirstSlabGs : 2 * last->capacity;
  size_t bytes = capacity * sizeof(G);
  void* memory;
  if (bytes <= kHugePage / 2) {
    memory = ::operator new(bytes, std::align_val_t(alignof(G)));
  } else {
    bytes = kHugePage;
    capacity = bytes / sizeof(G);
    memory = ::operator new(bytes, std::align_val_t(kHugePage));
    madvise(memory, bytes, MADV_HUGEPAGE);
  }
  Slab* slab = new Slab{last, static_cast<G*>(memory), capacity};
  // Release: a reader that acquires it sees its fields.
  slabs.store(slab, std::memory_order_release);
  return slab;
}

const char* StatusName(GStatus status) {
  switch (status) {
    case GStatus::kIdle:
      return "idle";
    case GStatus::kRunnable:
      return "runnable";
    case GStatus::kRunning:
      return "running";
    case GStatus::kSyscall:
      return "syscall";
    case GStatus::kWaiting:
      return "waiting";
    case GStatus::kDead:
      return "dead";
    case GStatus::kPreempted:
      return "preempted";
  }
  return "???";
}

void PrintCreator(const G* g, int fd) {
  const void* site = g->creation_site.load(std::memory_order_relaxed);
  if (site == nullptr) return;
  stack::PrintCreationSite(fd, site, g->creator_id.load(std::memory_order_relaxed));
}

bool IsRunning(GStatus status) {
  return status == GStatus::kRunning || status == GStatus::kSyscall ||
         status == GStatus::kPreempted;
}

void PrintStackUse(const G* g, int fd) {
  const stack::StackUse use = stack::UseOf(g->stack);
  if (use.limit == 0) return;
  Writer out(fd);
  out.Text("stack: ").Text(use.mode).Text(", limit ").Decimal(use.limit);
  if (!IsRunning(g->status.load(std::memory_order_relaxed))) {
    out.Text(", used ").Decimal(use.used);
    if (use.segments != 0) out.Text(", segments ").Decimal(use.segments);
    if (use.rest != 0) out.Text(", rests in ").Decimal(use.rest);
    if (use.pinned != 0) out.Text(", pinned ").Decimal(use.pinned);
  }
  if (use.moves != 0) out.Text(", moves ").Decimal(use.moves);
  out.Text("\n");
}

void PrintGoroutine(const G* g, int fd) {
  const GStatus status = g->status.load(std::memory_order_acquire);
  PrintGoroutineHeader(g, fd);
  if (IsRunning(status)) {
    Writer(fd).Text("\tgoroutine running on other thread; stack unavailable\n");
  } else if (g->stack.home != nullptr) {
    stack::PrintTrace(fd, g->stack.context, g->stack.block);
  }
  PrintCreator(g, fd);
  PrintStackUse(g, fd);
  Writer(fd).Text("\n");
}

}  // namespace

int MakeGs(G** out, int most) {
  LockGuard guard(slabs_lock);
  Slab* slab = slabs.load(std::memory_order_relaxed);
  if (slab == nullptr || slab->count.load(std::memory_order_relaxed) == slab->capacity) {
    slab = AddSlab(slab);
  }
  const int made = slab->count.load(std::memory_order_relaxed);
  const int count = std::min(most, slab->capacity - made);
  for (int i = 0; i < count; ++i) out[i] = ::new (static_cast<void*>(slab->gs + made + i)) G;
  // Release: a reader that acquires the count sees the Gs whole.
  slab->count.store(made + count, std::memory_order_release);
  return count;
}

void ForEachG(absl::FunctionRef<void(G*)> visit) {
  for (const Slab* slab = slabs.load(std::memory_order_acquire); slab != nullptr;
       slab = slab->next) {
    const int count = slab->count.load(std::memory_order_acquire);
    for (int i = 0; i < count; ++i) visit(&slab->gs[i]);
  }
}

void PrintGoroutineHeader(const G* g, int fd) {
  const GStatus status = g->status.load(std::memory_order_relaxed);
  const WaitReason reason = g->wait_reason.load(std::memory_order_relaxed);
  const char* state = status == GStatus::kWaiting && reason != WaitReason::kNone
                          ? WaitReasonName(reason)
                          : StatusName(status);
  Writer(fd)
      .Text("goroutine ")
      .Decimal(g->id.load(std::memory_order_relaxed))
      .Text(" [")
      .Text(state)
      .Text("]:\n");
}

void PrintCurrentGoroutineHeader(int fd) {
  if (const G* g = ThisG(); g != nullptr) {
    PrintGoroutineHeader(g, fd);
  } else {
    Writer(fd).Text(ThisM() != nullptr ? "scheduler" : "thread").Text(" [running]:\n");
  }
}

void PrintCurrentGoroutineCreator(int fd) {
  if (const G* g = ThisG(); g != nullptr) {
    PrintCreator(g, fd);
    PrintStackUse(g, fd);
  }
}

void PrintAllGoroutines(int fd) {
  std::vector<G*> live;
  ForEachG([&](G* g) {
    const GStatus status = g->status.load(std::memory_order_acquire);
    if (status != GStatus::kDead && status != GStatus::kIdle) live.push_back(g);
  });
  std::sort(live.begin(), live.end(), [](const G* a, const G* b) { return a->id < b->id; });
  for (const G* g : live) PrintGoroutine(g, fd);
}

}  // namespace weft::internal

// Members of classes that are not plain: compilers lay them out all the same.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

extern "C" {

// What tools/weft-gdb.py goes by, so that it needs no debug information: addresses, offsets and
// sizes, in the order in which it names them. Whoever changes that changes the first of them.
extern const int64_t weft_debugger_layout[];
__attribute__((used)) const int64_t weft_debugger_layout[] = {
    1,
    offsetof(weft::internal::Slab, next),
    offsetof(weft::internal::Slab, gs),
    offsetof(weft::internal::Slab, count),
    sizeof(weft::internal::G),
    offsetof(weft::internal::G, id),
    offsetof(weft::internal::G, status),
    offsetof(weft::internal::G, wait_reason),
    offsetof(weft::internal::G, creator_id),
    offsetof(weft::internal::G, creation_site),
    offsetof(weft::internal::G, stack) + offsetof(weft::stack::Resident, home),
    offsetof(weft::internal::G, stack) + offsetof(weft::stack::Resident, block),
    offsetof(weft::internal::G, stack) + offsetof(weft::stack::Resident, context) +
        offsetof(weft::stack::Context, sp),
    offsetof(weft::internal::G, stack) + offsetof(weft::stack::Resident, context) +
        offsetof(weft::stack::Context, pinned),
    offsetof(weft::internal::G, stack) + offsetof(weft::stack::Resident, context) +
        offsetof(weft::stack::Context, stack_lo),
    offsetof(weft::internal::G, stack) + offsetof(weft::stack::Resident, context) +
        offsetof(weft::stack::Context, stack_hi),
    offsetof(weft::internal::M, next_all),
    offsetof(weft::internal::M, tid),
    offsetof(weft::internal::M, current),
};

// Where the lists begin, and the names of reasons to wait.
constexpr int kDebuggerReasons = 32;
__attribute__((used)) const char* weft_debugger_wait_reasons[kDebuggerReasons] = {};
extern const void* const weft_debugger_slabs;
extern const void* const weft_debugger_ms;
__attribute__((used)) const void* const weft_debugger_slabs = &weft::internal::slabs;
__attribute__((used)) const void* const weft_debugger_ms = &weft::internal::sched.all_ms;
}

[[maybe_unused]] static const bool debugger_reasons_are_set = [] {
  for (int i = 0; i < kDebuggerReasons; ++i) {
    weft_debugger_wait_reasons[i] = weft::WaitReasonName(static_cast<weft::WaitReason>(i));
  }
  return true;
}();
