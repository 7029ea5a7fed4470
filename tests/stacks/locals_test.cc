// What frames hold: arrays, structures, what is aligned, what has no fixed size.
#include <alloca.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "tests/stacks/torture.h"

namespace weft {
namespace {

using testing::Crowd;
using testing::OnGoroutines;
using testing::Opaque;
using testing::Pause;
using testing::Paused;
using testing::UseStack;

class LocalsTest : public testing::OverProcsTest {};
INSTANTIATE_TEST_SUITE_P(, LocalsTest, testing::OverProcs(), testing::ProcsName);

// The compiler keeps pointers into such an array, or offset from it, in registers across the call.
[[gnu::noinline]] int64_t IndexAcrossPauses(int start) {
  int64_t values[16];
  for (int i = 0; i < 16; ++i) values[i] = start + i;
  int64_t sum = 0;
  for (int i = 0; i < 16; ++i) {
    Pause();
    sum += values[i] * (i + 1);
    values[15 - i] ^= i;
  }
  for (int i = 15; i >= 0; --i) {
    if (i % 4 == 0) Pause();
    sum = sum * 3 + values[i];
  }
  return sum;
}

[[gnu::noinline]] int64_t IndexWithoutPauses(int start) {
  int64_t values[16];
  for (int i = 0; i < 16; ++i) values[i] = start + i;
  int64_t sum = 0;
  for (int i = 0; i < 16; ++i) {
    sum += values[i] * (i + 1);
    values[15 - i] ^= i;
  }
  for (int i = 15; i >= 0; --i) sum = sum * 3 + values[i];
  return sum;
}

TEST_P(LocalsTest, ArraysIndexedByLoopsAcrossParks) {
  OnGoroutines([](int i) { EXPECT_EQ(IndexAcrossPauses(i), IndexWithoutPauses(i)); });
}

// Starts at an index other than 0, in steps other than 1: pointers biased by a constant.
[[gnu::noinline]] int64_t Strided(int seed) {
  int32_t values[64] = {};
  for (int i = 5; i < 64; i += 3) {
    values[i] = seed + i;
    UseStack(300);
  }
  int64_t sum = 0;
  for (int i = 62; i >= 5; i -= 3) {
    Pause();
    sum += values[i];
  }
  return sum;
}

TEST_P(LocalsTest, ArraysIndexedInStrides) {
  OnGoroutines([](int i) {
    int64_t expected = 0;
    for (int n = 5; n < 64; n += 3) expected += i + n;
    EXPECT_EQ(Strided(i), expected);
  });
}

[[gnu::noinline]] int64_t Matrix(int seed) {
  int a[5][5];
  int b[5][5];
  int c[5][5] = {};
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 5; ++j) {
      a[i][j] = seed + i * j;
      b[i][j] = i - j;
    }
    Pause();
  }
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 5; ++j) {
      for (int k = 0; k < 5; ++k) c[i][j] += a[i][k] * b[k][j];
    }
    Pause();
  }
  int64_t sum = 0;
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 5; ++j) sum += int64_t{c[i][j]} * (5 * i + j);
  }
  return sum;
}

TEST_P(LocalsTest, ArraysOfArrays) {
  // Of what a plain thread reckons, where Pause() does nothing.
  std::vector<int64_t> expected(static_cast<size_t>(Crowd()));
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = Matrix(static_cast<int>(i));
  OnGoroutines([&](int i) { EXPECT_EQ(Matrix(i), expected[static_cast<size_t>(i)]); });
}

struct Small {
  int32_t a, b;
};
struct Medium {
  int64_t a;
  double b;
  char c[7];
};
struct Large {
  std::array<int64_t, 40> values;
};

[[gnu::noinline]] Large Make(int64_t seed) {
  Large large;
  for (size_t i = 0; i < large.values.size(); ++i) {
    if (i % 13 == 0) Pause();
    large.values[i] = seed * static_cast<int64_t>(i);
  }
  return large;
}
[[gnu::noinline]] Large Twice(Large large) {
  for (int64_t& value : large.values) value *= 2;
  Pause();
  return large;
}
[[gnu::noinline]] int64_t Total(Small s, Medium m, Large l, const Large& r) {
  Pause();
  return s.a + s.b + m.a + static_cast<int64_t>(m.b) + m.c[6] +
         std::accumulate(l.values.begin(), l.values.end(), int64_t{0}) -
         std::accumulate(r.values.begin(), r.values.end(), int64_t{0});
}

TEST_P(LocalsTest, StructuresByValue) {
  OnGoroutines([](int i) {
    const Large once = Make(i);
    EXPECT_EQ(Total({1, 2}, {3, 4.5, {0, 0, 0, 0, 0, 0, 7}}, Twice(once), once),
              1 + 2 + 3 + 4 + 7 + int64_t{i} * 40 * 39 / 2);
  });
}

[[gnu::noinline]] int64_t ByAlloca(int size) {
  auto* const bytes = static_cast<unsigned char*>(alloca(static_cast<size_t>(size)));
  for (int i = 0; i < size; ++i) bytes[i] = static_cast<unsigned char>(i);
  Pause();
  int64_t sum = 0;
  for (int i = 0; i < size; ++i) {
    if (i % 64 == 0) Pause();
    sum += bytes[i];
  }
  return sum;
}

// alloca in a loop, as much in all as there are rounds.
[[gnu::noinline]] int64_t ByManyAllocas(int rounds) {
  int* chain[20];
  for (int i = 0; i < rounds; ++i) {
    chain[i] = static_cast<int*>(alloca(sizeof(int) * static_cast<size_t>(i + 1)));
    for (int n = 0; n <= i; ++n) chain[i][n] = i;
    Pause();
  }
  int64_t sum = 0;
  for (int i = 0; i < rounds; ++i) {
    for (int n = 0; n <= i; ++n) sum += chain[i][n];
  }
  return sum;
}

TEST_P(LocalsTest, Alloca) {
  OnGoroutines([](int i) {
    const int size = 1 + i * 11;
    int64_t expected = 0;
    for (int n = 0; n < size; ++n) expected += n % 256;
    EXPECT_EQ(ByAlloca(size), expected);
    expected = 0;
    for (int n = 0; n < 20; ++n) expected += n * (n + 1);
    EXPECT_EQ(ByManyAllocas(20), expected);
  });
}

// A C array of variable length, which GCC and clang have in C++ too.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wvla-cxx-extension"
#pragma GCC diagnostic ignored "-Wvla"
[[gnu::noinline]] int64_t ByVariableArray(int size) {
  int64_t sum = 0;
  for (int round = 1; round <= 3; ++round) {
    int values[size * round];
    for (int i = 0; i < size * round; ++i) values[i] = i + round;
    Pause();
    for (int i = 0; i < size * round; ++i) sum += values[i];
  }
  return sum;
}
#pragma GCC diagnostic pop

TEST_P(LocalsTest, ArraysOfVariableLength) {
  OnGoroutines([](int i) {
    const int64_t size = 1 + i * 3;
    int64_t expected = 0;
    for (int64_t round = 1; round <= 3; ++round) {
      const int64_t n = size * round;
      expected += n * (n - 1) / 2 + n * round;
    }
    EXPECT_EQ(ByVariableArray(static_cast<int>(size)), expected);
  });
}

template <size_t alignment>
[[gnu::noinline]] int Aligned(int seed) {
  alignas(alignment) volatile int local[4] = {seed, seed + 1, seed + 2, seed + 3};
  const int before = static_cast<int>(reinterpret_cast<uintptr_t>(&local[0]) % alignment);
  Pause();
  const int after = static_cast<int>(reinterpret_cast<uintptr_t>(&local[0]) % alignment);
  return local[0] + local[1] + local[2] + local[3] + before + after;
}

// The same where nobody takes the address, so that it is on the machine stack.
template <size_t alignment>
[[gnu::noinline]] int AlignedInFrame(int seed) {
  alignas(alignment) volatile int local = seed;
  Pause();
  local = local + 1;
  Pause();
  return local;
}

// Vectors are loaded by instructions that fault where the address is not a multiple of their size.
using Vector [[gnu::vector_size(16)]] = int;
[[gnu::noinline]] int AlignedVectors(int seed) {
  Vector vectors[4];
  for (int i = 0; i < 4; ++i) vectors[i] = Vector{i, seed, i, seed};
  Pause();
  Vector sum = {};
  for (int i = 0; i < 4; ++i) {
    sum += vectors[i];
    Pause();
  }
  return sum[0] + sum[1] + sum[2] + sum[3];
}

TEST_P(LocalsTest, AlignedBeyondTheStacksOwn) {
  OnGoroutines([](int i) {
    EXPECT_EQ(Aligned<32>(i), 4 * i + 6);
    EXPECT_EQ(Aligned<64>(i), 4 * i + 6);
    EXPECT_EQ(Aligned<256>(i), 4 * i + 6);
    EXPECT_EQ(Aligned<4096>(i), 4 * i + 6);
    EXPECT_EQ(AlignedInFrame<32>(i), i + 1);
    EXPECT_EQ(AlignedInFrame<128>(i), i + 1);
    EXPECT_EQ(AlignedInFrame<1024>(i), i + 1);
    EXPECT_EQ(AlignedVectors(i), 12 + 8 * i);
  });
}

// A frame that aligns itself and takes memory of a size that is not known.
[[gnu::noinline]] int64_t AlignedWithAlloca(int size) {
  alignas(256) volatile int64_t local[8];
  auto* const bytes = static_cast<char*>(alloca(static_cast<size_t>(size)));
  for (int i = 0; i < 8; ++i) local[i] = size;
  std::memset(bytes, 1, static_cast<size_t>(size));
  Pause();
  int64_t sum = 0;
  for (int i = 0; i < 8; ++i) sum += local[i];
  for (int i = 0; i < size; ++i) sum += bytes[i];
  return sum + static_cast<int64_t>(reinterpret_cast<uintptr_t>(&local[0]) % 256);
}

TEST_P(LocalsTest, AlignedBesideAlloca) {
  OnGoroutines([](int i) { EXPECT_EQ(AlignedWithAlloca(1 + i * 9), 9 * (1 + i * 9)); });
}

// Many values that live across the park at once: more than there are registers.
[[gnu::noinline]] int64_t ManyLive(int64_t s) {
  const int64_t a = Opaque(s + 1), b = Opaque(s + 2), c = Opaque(s + 3), d = Opaque(s + 4);
  const int64_t e = Opaque(s + 5), f = Opaque(s + 6), g = Opaque(s + 7), h = Opaque(s + 8);
  const double x = Opaque(0.5 + static_cast<double>(s)), y = Opaque(1.5), z = Opaque(2.5);
  const int64_t i = Opaque(s + 9), j = Opaque(s + 10), k = Opaque(s + 11), l = Opaque(s + 12);
  Pause();
  return a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8 + i * 9 + j * 10 + k * 11 +
         l * 12 + static_cast<int64_t>((x + y + z) * 2);
}

TEST_P(LocalsTest, MoreLiveValuesThanRegisters) {
  OnGoroutines([](int i) {
    int64_t expected = 9 + 2 * i;
    for (int n = 1; n <= 12; ++n) expected += int64_t{n} * (i + n);
    EXPECT_EQ(ManyLive(i), expected);
  });
}

// Nearly all of a pinned stack, written and read by callees in between.
[[gnu::noinline]] void Stamp(unsigned char* bytes, int size, unsigned char stamp) {
  for (int i = 0; i < size; i += 1000) bytes[i] = static_cast<unsigned char>(bytes[i] + stamp);
}
[[gnu::noinline]] int64_t LargePinnedFrame(int seed) {
  constexpr int kSize = 200 * 1024;
  unsigned char bytes[kSize];
  for (int i = 0; i < kSize; i += 1000) bytes[i] = static_cast<unsigned char>(i / 1000);
  int64_t used = 0;
  for (int round = 0; round < 4; ++round) {
    Stamp(bytes, kSize, static_cast<unsigned char>(seed));
    Pause();
    used += UseStack(1000 * round);
  }
  for (int i = 0; i < kSize; i += 1000) {
    EXPECT_EQ(bytes[i], static_cast<unsigned char>(i / 1000 + 4 * seed));
  }
  return used;
}

TEST_P(LocalsTest, ALargePinnedFrameInALoopOfCalls) {
  OnGoroutines([](int i) { EXPECT_EQ(LargePinnedFrame(i), 4 + 60); });
}

// Strings keep short texts in themselves, and point to them.
TEST_P(LocalsTest, ObjectsThatPointIntoThemselves) {
  OnGoroutines([](int i) {
    std::string text = std::to_string(i);
    Pause();
    std::array<std::string, 5> texts;
    for (std::string& each : texts) {
      each = text + "x";
      Pause();
    }
    std::string all;
    for (const std::string& each : texts) all += each;
    EXPECT_EQ(all.size(), 5 * (text.size() + 1));
    EXPECT_EQ(text, std::to_string(i));
  });
}

}  // namespace
}  // namespace weft
