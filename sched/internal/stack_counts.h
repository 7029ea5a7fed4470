// Counts of events by the stack that they happened on.
#ifndef WEFT_SCHED_INTERNAL_STACK_COUNTS_H_
#define WEFT_SCHED_INTERNAL_STACK_COUNTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/types/span.h"
#include "sched/internal/lock.h"

namespace weft::internal {

// Memory for all that it may hold is reserved at the first event, and touched as it is needed, so
// that counting neither allocates nor fails: an event on a stack beyond the most that there is room
// for counts for none.
class StackCounts {
 public:
  static constexpr size_t kMostFrames = 64;
  static constexpr size_t kMostStacks = 8192;

  struct Entry {
    std::vector<uintptr_t> frames;  // none: of stacks that there was no room for
    double count;
    double nanos;
  };

  constexpr StackCounts() = default;
  StackCounts(const StackCounts&) = delete;
  StackCounts& operator=(const StackCounts&) = delete;

  // From goroutines, threads and the scheduler's stacks, inside the runtime. Of `frames`, innermost
  // first, kMostFrames count.
  void Add(absl::Span<const uintptr_t> frames, double count, double nanos);

  // Inside the runtime.
  std::vector<Entry> Get();
  // How many there are.
  size_t size();

 private:
  struct Record {
    double count;
    double nanos;
    uint64_t hash;
    uint32_t next;  // in its chain; 0: the last
    uint32_t depth;
    uintptr_t frames[kMostFrames];
  };
  struct Table {
    static constexpr size_t kChains = 2048;
    uint32_t chains[kChains];
    // The first is for what there is no room for, and in no chain.
    Record records[kMostStacks + 1];
  };

  Record& Find(absl::Span<const uintptr_t> frames) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);

  Lock lock_;
  Table* table_ ABSL_GUARDED_BY(lock_) = nullptr;
  uint32_t used_ ABSL_GUARDED_BY(lock_) = 0;
};

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_STACK_COUNTS_H_
