#include "stack/text_range.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "stack/mode.h"
#include "tests/rounds.h"

namespace weft::stack {
namespace {

__attribute__((noinline)) int Instrumented(int n) { return n + 1; }

TEST(TextRangeTest, KnowsTheProgramsOwnCode) {
  EXPECT_EQ(IsMovableCode(reinterpret_cast<const void*>(&Instrumented)), kMayMove);
}

TEST(TextRangeTest, TakesOtherCodeForForeign) {
  EXPECT_FALSE(IsMovableCode(reinterpret_cast<const void*>(&std::qsort)));
  EXPECT_FALSE(IsMovableCode(reinterpret_cast<const void*>(&IsMovableCode)));
  EXPECT_FALSE(IsMovableCode(nullptr));
  EXPECT_FALSE(IsMovableCode(&errno));
}

// Ranges of what is no code, as good as any.
alignas(16) char fake[1024];

TEST(TextRangeTest, RegisteredRangesAreHalfOpen) {
  weft_register_movable_code(fake + 16, fake + 32);
  EXPECT_FALSE(IsMovableCode(fake + 15));
  EXPECT_TRUE(IsMovableCode(fake + 16));
  EXPECT_TRUE(IsMovableCode(fake + 31));
  EXPECT_FALSE(IsMovableCode(fake + 32));
  weft_deregister_movable_code(fake + 16, fake + 32);
  EXPECT_FALSE(IsMovableCode(fake + 16));
}

TEST(TextRangeTest, AReturnAddressBelongsToTheCallBeforeIt) {
  weft_register_movable_code(fake + 16, fake + 32);
  EXPECT_FALSE(IsMovableReturnAddress(fake + 16));
  EXPECT_TRUE(IsMovableReturnAddress(fake + 17));
  EXPECT_TRUE(IsMovableReturnAddress(fake + 32));
  EXPECT_FALSE(IsMovableReturnAddress(fake + 33));
  weft_deregister_movable_code(fake + 16, fake + 32);
}

TEST(TextRangeTest, EmptyRangesAreNone) {
  weft_register_movable_code(nullptr, nullptr);
  weft_register_movable_code(fake, fake);
  EXPECT_FALSE(IsMovableCode(nullptr));
  EXPECT_FALSE(IsMovableCode(fake));
}

TEST(TextRangeTest, WhatDoesNotFitIsForeign) {
  for (int i = 0; i < 257; ++i) weft_register_movable_code(fake + i, fake + i + 1);
  EXPECT_TRUE(IsMovableCode(fake));
  EXPECT_TRUE(IsMovableCode(fake + 255));
  EXPECT_FALSE(IsMovableCode(fake + 256));
  for (int i = 0; i < 256; ++i) weft_deregister_movable_code(fake + i, fake + i + 1);
  for (int i = 0; i < 257; ++i) EXPECT_FALSE(IsMovableCode(fake + i)) << i;

  weft_register_movable_code(fake + 256, fake + 257);  // now there is room
  EXPECT_TRUE(IsMovableCode(fake + 256));
  weft_deregister_movable_code(fake + 256, fake + 257);
}

// One entry is given from one of two ranges to the other and back, while readers ask for what lies
// in neither: lo of the one and hi of the other would enclose it.
TEST(TextRangeTest, NeverMixesTheBoundsOfTwoRanges) {
  std::atomic<bool> stop{false};
  std::atomic<int> mixed{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        if (IsMovableCode(fake + 128)) mixed.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (int i = 0; i < testing::Rounds(100'000, 20'000); ++i) {
    char* const lo = i % 2 == 0 ? fake : fake + 512;
    weft_register_movable_code(lo, lo + 64);
    weft_deregister_movable_code(lo, lo + 64);
  }
  stop.store(true, std::memory_order_relaxed);
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(mixed.load(std::memory_order_relaxed), 0);
}

}  // namespace
}  // namespace weft::stack
