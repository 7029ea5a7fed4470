#include "stack/internal/block_cache.h"

#include <cstring>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/rounds.h"

namespace weft::stack::internal {
namespace {

TEST(BlockCacheTest, BlocksDoNotOverlapAndAreAligned) {
  BlockCache cache;
  std::map<char*, size_t> blocks;
  for (size_t bytes = 1; bytes <= 2 * BlockCache::kLargest; bytes += 7) {
    for (int i = 0; i < 3; ++i) {
      auto* block = static_cast<char*>(cache.Allocate(bytes));
      ASSERT_NE(block, nullptr);
      const size_t alignment = bytes <= BlockCache::kLargest ? 64 : 16;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % alignment, 0u) << bytes;
      std::memset(block, 1, bytes);
      blocks.emplace(block, bytes);
    }
  }
  char* end = nullptr;
  for (const auto& [block, bytes] : blocks) {
    EXPECT_GE(block, end);
    end = block + bytes;
  }
  for (const auto& [block, bytes] : blocks) cache.Free(block, bytes);
}

TEST(BlockCacheTest, FreedBlockIsTheNextToBeHandedOut) {
  BlockCache cache;
  void* block = cache.Allocate(200);
  cache.Free(block, 200);
  EXPECT_EQ(cache.Allocate(193), block);
  cache.Free(block, 193);
}

TEST(BlockCacheTest, MemoryOfEmptySlabsIsGivenBack) {
  const size_t before = SlabBytes();
  BlockCache cache;
  std::vector<void*> blocks;
  for (int i = 0; i < 100'000; ++i) blocks.push_back(cache.Allocate(320));
  // Hardly more than what was asked for.
  EXPECT_GE(SlabBytes(), 32'000'000u);
  EXPECT_LE(SlabBytes() - before, 33'000'000u);
  for (void* block : blocks) cache.Free(block, 320);
  cache.Drain();
  EXPECT_LE(SlabBytes(), 2'000'000u);
}

TEST(BlockCacheTest, AnotherThreadsCacheMayFreeABlock) {
  BlockCache mine;
  std::vector<void*> blocks;
  for (int i = 0; i < 1'000; ++i) blocks.push_back(mine.Allocate(256));
  std::thread([&] {
    BlockCache theirs;
    for (void* block : blocks) theirs.Free(block, 256);
    // Theirs has kept the latest.
    EXPECT_EQ(theirs.Allocate(256), blocks.back());
    theirs.Free(blocks.back(), 256);
  }).join();
  std::set<void*> again;
  for (int i = 0; i < 1'000; ++i) again.insert(mine.Allocate(256));
  EXPECT_EQ(again.size(), 1'000u);
  for (void* block : again) mine.Free(block, 256);
}

TEST(BlockCacheTest, ThreadsThatPassBlocksOnKeepThemApart) {
  constexpr int kThreads = 4;
  const int rounds = testing::Rounds(20'000, 4'000);
  struct Held {
    unsigned char* block;
    size_t bytes;
    unsigned char mark;
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t, rounds] {
      BlockCache cache;
      std::mt19937 random(static_cast<uint32_t>(t));
      std::vector<Held> held;
      for (int i = 0; i < rounds; ++i) {
        if (held.size() < 200 && random() % 2 == 0) {
          const size_t bytes = 1 + random() % 1'000;
          const auto mark = static_cast<unsigned char>(random());
          auto* block = static_cast<unsigned char*>(cache.Allocate(bytes));
          std::memset(block, mark, bytes);
          held.push_back({block, bytes, mark});
        } else if (!held.empty()) {
          std::swap(held[random() % held.size()], held.back());
          const Held h = held.back();
          held.pop_back();
          for (size_t b = 0; b < h.bytes; ++b) ASSERT_EQ(h.block[b], h.mark);
          cache.Free(h.block, h.bytes);
        }
      }
      for (const Held& h : held) cache.Free(h.block, h.bytes);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace weft::stack::internal
