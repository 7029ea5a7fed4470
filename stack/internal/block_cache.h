// Memory for stacks that rest: blocks of exact size, within 64 bytes.
//
// A malloc would do, but for three things: its header and rounding cost a tenth of a block of 200
// bytes; a block is often freed by another thread than took it, which general allocators make slow;
// and it may be any, with locks that a goroutine could be holding at this moment.
//
// As in Bonwick's slab allocator ("The Slab Allocator", 1994): a slab of 64 KiB holds blocks of one
// size, found from a block's address by rounding down. Each P keeps some free blocks of each size;
// the rest lie in their slabs, under one lock, which is taken for a batch. A slab whose blocks are
// all free is given back to the system, but for a few.
#ifndef WEFT_STACK_INTERNAL_BLOCK_CACHE_H_
#define WEFT_STACK_INTERNAL_BLOCK_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace weft::stack::internal {

struct FreeBlock {
  FreeBlock* next;
};

// A P's own free blocks. Not thread-safe: for the holder of the P.
class BlockCache {
 public:
  static constexpr size_t kStep = 64;
  static constexpr size_t kLargest = 4096;  // beyond: malloc

  constexpr BlockCache() = default;
  ~BlockCache() { Drain(); }
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  // At least `bytes` bytes, aligned to 64 (to 16 beyond kLargest); null when the system gives no
  // more. 2 ns where the cache has one.
  void* Allocate(size_t bytes) {
    if (bytes > kLargest) [[unlikely]]
      return AllocateLarge(bytes);
    Blocks& blocks = classes_[ClassOf(bytes)];
    if (blocks.first == nullptr && !Refill(ClassOf(bytes))) return nullptr;
    FreeBlock* block = blocks.first;
    blocks.first = block->next;
    --blocks.count;
    return block;
  }

  // Frees a block of whatever cache; `bytes` as it was asked for.
  void Free(void* block, size_t bytes) {
    if (bytes > kLargest) [[unlikely]]
      return FreeLarge(block);
    Blocks& blocks = classes_[ClassOf(bytes)];
    if (blocks.count == kMost) Flush(ClassOf(bytes), kMost / 2);
    auto* freed = static_cast<FreeBlock*>(block);
    freed->next = blocks.first;
    blocks.first = freed;
    ++blocks.count;
  }

  // Gives all free blocks back, as when the P goes away.
  void Drain();

  // What a block takes that was asked for with `bytes`.
  static constexpr size_t BytesOf(size_t bytes) {
    return bytes > kLargest ? bytes : (ClassOf(bytes) + 1) * kStep;
  }

 private:
  friend struct Slabs;
  struct Blocks {
    FreeBlock* first = nullptr;
    uint32_t count = 0;
  };
  static constexpr size_t kClasses = kLargest / kStep;
  static constexpr uint32_t kMost = 64;
  static constexpr size_t ClassOf(size_t bytes) { return (bytes + kStep - 1) / kStep - 1; }

  bool Refill(size_t size_class);
  void Flush(size_t size_class, uint32_t how_many);
  static void* AllocateLarge(size_t bytes);
  static void FreeLarge(void* block);

  std::array<Blocks, kClasses> classes_{};
};

// Bytes of all slabs that are mapped, used blocks or not.
size_t SlabBytes();

// Gives the memory of all slabs in which no block is used back to the system.
void TrimSlabs();

}  // namespace weft::stack::internal

#endif  // WEFT_STACK_INTERNAL_BLOCK_CACHE_H_
