#include "stack/internal/block_cache.h"

#include <sys/mman.h>

#include <cstdlib>
#include <mutex>
#include <new>

namespace weft::stack::internal {

namespace {

constexpr size_t kSlabBytes = 64 * 1024;
// Slabs are cut from mappings of this size, aligned to the slab's.
constexpr size_t kRegionBytes = 64 * kSlabBytes;
// Slabs without a used block that keep their memory.
constexpr size_t kSpareSlabs = 16;

}  // namespace

// At the low end of each slab, in the place of its first block or blocks.
struct Slab {
  Slab* next =
      nullptr;  // in its class's list of slabs with free blocks, or in a list of free slabs
  Slab* previous = nullptr;
  FreeBlock* free = nullptr;
  uint32_t used = 0;
  uint32_t untouched = 0;  // blocks from here on were never handed out
  uint32_t size_class = 0;
};

// What all caches share. Needs no destruction.
struct Slabs {
  std::mutex lock;
  std::array<Slab*, BlockCache::kClasses> with_free{};
  Slab* spare = nullptr;  // empty, with their memory
  size_t spares = 0;
  Slab* bare = nullptr;  // empty, their memory given back but for the header's page
  char* region = nullptr;
  char* region_end = nullptr;
  size_t mapped = 0;

  static constexpr size_t BlockBytes(size_t size_class) {
    return (size_class + 1) * BlockCache::kStep;
  }
  static constexpr uint32_t BlocksOf(size_t size_class) {
    return static_cast<uint32_t>((kSlabBytes - BlockCache::kStep) / BlockBytes(size_class));
  }
  static Slab* SlabOf(void* block) {
    return reinterpret_cast<Slab*>(reinterpret_cast<uintptr_t>(block) & ~(kSlabBytes - 1));
  }
  static bool HasFree(const Slab& slab) {
    return slab.free != nullptr || slab.untouched < BlocksOf(slab.size_class);
  }

  void Link(Slab* slab) {
    Slab*& first = with_free[slab->size_class];
    slab->previous = nullptr;
    slab->next = first;
    if (first != nullptr) first->previous = slab;
    first = slab;
  }
  void Unlink(Slab* slab) {
    (slab->previous != nullptr ? slab->previous->next : with_free[slab->size_class]) = slab->next;
    if (slab->next != nullptr) slab->next->previous = slab->previous;
  }

  bool MapRegion() {
    void* memory = mmap(nullptr, kRegionBytes + kSlabBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    const uintptr_t begin = reinterpret_cast<uintptr_t>(memory);
    region = reinterpret_cast<char*>((begin + kSlabBytes - 1) & ~(kSlabBytes - 1));
    region_end = region + kRegionBytes;
    return true;
  }

  Slab* NewSlab(size_t size_class) {
    void* memory;
    if (spare != nullptr) {
      memory = spare;
      spare = spare->next;
      --spares;
    } else {
      if (bare != nullptr) {
        memory = bare;
        bare = bare->next;
      } else {
        if (region == region_end && !MapRegion()) return nullptr;
        memory = region;
        region += kSlabBytes;
      }
      mapped += kSlabBytes;
    }
    auto* slab = new (memory) Slab;
    slab->size_class = static_cast<uint32_t>(size_class);
    Link(slab);
    return slab;
  }

  void Retire(Slab* slab) {
    if (spares < kSpareSlabs) {
      slab->next = spare;
      spare = slab;
      ++spares;
      return;
    }
    GiveBack(slab);
  }

  void GiveBack(Slab* slab) {
    constexpr size_t kPage = 4096;
    madvise(reinterpret_cast<char*>(slab) + kPage, kSlabBytes - kPage, MADV_DONTNEED);
    mapped -= kSlabBytes;
    slab->next = bare;
    bare = slab;
  }

  FreeBlock* Take(Slab* slab) {
    FreeBlock* block = slab->free;
    if (block != nullptr) {
      slab->free = block->next;
    } else {
      // From the low end up, so that memory is touched as it is needed.
      block = reinterpret_cast<FreeBlock*>(reinterpret_cast<char*>(slab) + BlockCache::kStep +
                                           slab->untouched * BlockBytes(slab->size_class));
      ++slab->untouched;
    }
    ++slab->used;
    if (!HasFree(*slab)) Unlink(slab);
    return block;
  }

  void Put(FreeBlock* block) {
    Slab* slab = SlabOf(block);
    if (!HasFree(*slab)) Link(slab);
    block->next = slab->free;
    slab->free = block;
    if (--slab->used == 0) {
      Unlink(slab);
      Retire(slab);
    }
  }
};

static_assert(sizeof(Slab) <= BlockCache::kStep);

namespace {

constinit Slabs slabs;

}  // namespace

bool BlockCache::Refill(size_t size_class) {
  Blocks& blocks = classes_[size_class];
  // Large blocks in smaller batches: a page or four at a time.
  const size_t bytes = Slabs::BlockBytes(size_class);
  const size_t batch = bytes <= 512 ? kMost / 2 : bytes <= 1024 ? kMost / 4 : 4;
  std::lock_guard<std::mutex> hold(slabs.lock);
  FreeBlock** link = &blocks.first;
  for (; blocks.count < batch; ++blocks.count) {
    Slab* slab = slabs.with_free[size_class];
    if (slab == nullptr) slab = slabs.NewSlab(size_class);
    if (slab == nullptr) break;
    // In the order of their addresses, which neighbours in time then are in memory.
    *link = slabs.Take(slab);
    link = &(*link)->next;
  }
  *link = nullptr;
  return blocks.count > 0;
}

void BlockCache::Flush(size_t size_class, uint32_t how_many) {
  Blocks& blocks = classes_[size_class];
  std::lock_guard<std::mutex> hold(slabs.lock);
  for (; how_many > 0; --how_many, --blocks.count) {
    FreeBlock* block = blocks.first;
    blocks.first = block->next;
    slabs.Put(block);
  }
}

void BlockCache::Drain() {
  for (size_t i = 0; i < kClasses; ++i) {
    if (classes_[i].count > 0) Flush(i, classes_[i].count);
  }
}

void* BlockCache::AllocateLarge(size_t bytes) { return std::malloc(bytes); }

void BlockCache::FreeLarge(void* block) { std::free(block); }

void TrimSlabs() {
  std::lock_guard<std::mutex> hold(slabs.lock);
  for (; slabs.spare != nullptr; --slabs.spares) {
    Slab* slab = slabs.spare;
    slabs.spare = slab->next;
    slabs.GiveBack(slab);
  }
}

size_t SlabBytes() {
  std::lock_guard<std::mutex> hold(slabs.lock);
  return slabs.mapped;
}

}  // namespace weft::stack::internal
