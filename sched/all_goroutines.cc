#include <algorithm>
#include <vector>

#include "sched/internal/fatal_report.h"
#include "sched/internal/runtime.h"
#include "stack/internal/writer.h"
#include "stack/traceback.h"

namespace weft::internal {
namespace {

using stack::internal::Writer;

// All Gs, in blocks that never move: readers follow the links without a lock.
struct Block {
  static constexpr int kSize = 254;
  std::atomic<int> count{0};
  G* gs[kSize] = {};
  std::atomic<Block*> next{nullptr};
};

Lock blocks_lock;
constinit Block first_block;
Block* last_block ABSL_GUARDED_BY(blocks_lock) = &first_block;

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
  }
  return "???";
}

void PrintCreator(const G* g, int fd) {
  if (g->creation_site == nullptr) return;
  stack::PrintCreationSite(fd, g->creation_site, g->creator_id);
}

void PrintGoroutine(const G* g, int fd) {
  const GStatus status = g->status.load(std::memory_order_acquire);
  PrintGoroutineHeader(g, fd);
  if (status == GStatus::kRunning || status == GStatus::kSyscall) {
    Writer(fd).Text("\tgoroutine running on other thread; stack unavailable\n");
  } else if (g->slot != nullptr) {
    stack::PrintTrace(fd, g->context);
  }
  PrintCreator(g, fd);
  Writer(fd).Text("\n");
}

}  // namespace

void RememberG(G* g) {
  LockGuard guard(blocks_lock);
  int count = last_block->count.load(std::memory_order_relaxed);
  if (count == Block::kSize) {
    Block* block = new Block;
    last_block->next.store(block, std::memory_order_release);
    last_block = block;
    count = 0;
  }
  last_block->gs[count] = g;
  // Release: a reader that acquires the count sees the G.
  last_block->count.store(count + 1, std::memory_order_release);
}

void ForEachG(absl::FunctionRef<void(G*)> visit) {
  for (const Block* block = &first_block; block != nullptr;
       block = block->next.load(std::memory_order_acquire)) {
    const int count = block->count.load(std::memory_order_acquire);
    for (int i = 0; i < count; ++i) visit(block->gs[i]);
  }
}

void PrintGoroutineHeader(const G* g, int fd) {
  const GStatus status = g->status.load(std::memory_order_relaxed);
  const WaitReason reason = g->wait_reason.load(std::memory_order_relaxed);
  const char* state = status == GStatus::kWaiting && reason != WaitReason::kNone
                          ? WaitReasonName(reason)
                          : StatusName(status);
  Writer(fd).Text("goroutine ").Decimal(g->id).Text(" [").Text(state).Text("]:\n");
}

void PrintCurrentGoroutineHeader(int fd) {
  if (const G* g = ThisG(); g != nullptr) {
    PrintGoroutineHeader(g, fd);
  } else {
    Writer(fd).Text(ThisM() != nullptr ? "scheduler" : "thread").Text(" [running]:\n");
  }
}

void PrintCurrentGoroutineCreator(int fd) {
  if (const G* g = ThisG(); g != nullptr) PrintCreator(g, fd);
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
