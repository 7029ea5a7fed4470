#include "sched/internal/stack_counts.h"

#include <sys/mman.h>

#include <algorithm>

namespace weft::internal {
namespace {

// FNV-1a (G. Fowler, L. C. Noll, P. Vo), by words.
uint64_t HashOf(absl::Span<const uintptr_t> frames) {
  uint64_t hash = 14695981039346656037u;
  for (const uintptr_t frame : frames) hash = (hash ^ frame) * 1099511628211u;
  return hash ^ hash >> 32;
}

}  // namespace

StackCounts::Record& StackCounts::Find(absl::Span<const uintptr_t> frames) {
  const uint64_t hash = HashOf(frames);
  uint32_t& first = table_->chains[hash % Table::kChains];
  for (uint32_t i = first; i != 0; i = table_->records[i].next) {
    Record& record = table_->records[i];
    if (record.hash == hash && record.depth == frames.size() &&
        std::equal(frames.begin(), frames.end(), record.frames)) {
      return record;
    }
  }
  if (used_ == kMostStacks) return table_->records[0];
  const uint32_t index = ++used_;
  Record& record = table_->records[index];
  record.hash = hash;
  record.depth = static_cast<uint32_t>(frames.size());
  std::copy(frames.begin(), frames.end(), record.frames);
  record.next = first;
  first = index;
  return record;
}

void StackCounts::Add(absl::Span<const uintptr_t> frames, double count, double nanos) {
  const LockGuard guard(lock_);
  if (table_ == nullptr) {
    void* const memory = mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    // What cannot be counted is not.
    if (memory == MAP_FAILED) return;
    table_ = static_cast<Table*>(memory);
  }
  Record& record = Find(frames.subspan(0, kMostFrames));
  record.count += count;
  record.nanos += nanos;
}

std::vector<StackCounts::Entry> StackCounts::Get() {
  // Not under the lock: who counts must not wait for an allocation.
  std::vector<Entry> entries;
  entries.reserve(size() + 1);
  for (uint32_t i = 0;; ++i) {
    Entry entry;
    entry.frames.reserve(kMostFrames);
    const LockGuard guard(lock_);
    if (table_ == nullptr || i > used_ || entries.size() == entries.capacity()) break;
    const Record& record = table_->records[i];
    if (i == 0 && record.count == 0) continue;
    entry.frames.assign(record.frames, record.frames + record.depth);
    entry.count = record.count;
    entry.nanos = record.nanos;
    entries.push_back(std::move(entry));
  }
  return entries;
}

size_t StackCounts::size() {
  const LockGuard guard(lock_);
  return used_;
}

}  // namespace weft::internal
