// Stacks of 64 KiB that move to larger slots when they need them.
#include <sys/resource.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "stack/grow.h"
#include "stack/internal/memcheck.h"
#include "stack/internal/resident_task.h"
#include "stack/overflow.h"
#include "stack/slots.h"

namespace weft::stack {
namespace {

#define NOINLINE __attribute__((noinline))

volatile int64_t zero = 0;

NOINLINE int64_t Deep(int64_t n) {
  volatile int64_t mine = n;
  const int64_t below = n == 0 ? 0 : Deep(n - 1);
  return below + mine + zero;
}
int64_t SumTo(int64_t n) { return n * (n + 1) / 2; }

size_t InUse() {
  size_t slots = 0;
  const Stats stats = GetStats();
  for (auto c = static_cast<size_t>(SizeClass::kFirstCopy); c < kSizeClasses; ++c) {
    slots += stats.classes[c].in_use;
  }
  return slots;
}

class CopyGrowthTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!kMayMove) GTEST_SKIP() << "stacks do not move in this build";
    SetStackGrowth(Growth::kCopy);
  }
  static void Run(const std::function<void()>& body) { RunAsResident(body, SizeClass::kFirstCopy); }
};

TEST_F(CopyGrowthTest, AMillionFramesFit) {
  const uint64_t before = GetGrowStats().growths;
  int64_t sum = 0;
  Run([&] { sum = Deep(1'000'000); });
  EXPECT_EQ(sum, SumTo(1'000'000));
  // Each time to twice the size, from 64 KiB.
  const uint64_t growths = GetGrowStats().growths - before;
  EXPECT_GE(growths, 6u);
  EXPECT_LE(growths, 14u);
}

TEST_F(CopyGrowthTest, AStackThatStaysSmallNeedsOneSlot) {
  const uint64_t before = GetGrowStats().moves;
  int64_t sum = 0;
  Run([&] {
    for (int i = 0; i < 100; ++i) sum += Deep(100);
  });
  EXPECT_EQ(sum, 100 * SumTo(100));
  EXPECT_EQ(GetGrowStats().moves, before);
}

TEST_F(CopyGrowthTest, SmallerSlotsAreFreeAfterwards) {
  Run([&] { Deep(10'000); });
  const size_t before = InUse();
  for (int i = 0; i < 20; ++i) {
    Run([&] { Deep(10'000); });
  }
  EXPECT_LE(InUse(), before);
}

struct CallsInDestructor {
  ~CallsInDestructor() { *sum += Deep(2'000) + 1; }
  int64_t* sum;
};
NOINLINE int64_t ThrowBelow(int64_t n, int64_t* sum) {
  const CallsInDestructor guard{sum};
  if (n == 0) throw std::runtime_error("thrown");
  return ThrowBelow(n - 1, sum) + 1;
}
TEST_F(CopyGrowthTest, ExceptionsPassThroughFramesThatGrew) {
  std::string what;
  int64_t after = 0;
  Run([&] {
    int64_t sum = 0;
    try {
      Deep(3'000);
      ThrowBelow(500, &sum);
    } catch (const std::exception& e) {
      what = e.what();
    }
    after = Deep(20'000) + sum;
  });
  EXPECT_EQ(what, "thrown");
  EXPECT_EQ(after, SumTo(20'000) + 501 * (SumTo(2'000) + 1));
}

// Uses some of what is left below the limit for code that does not look at it.
int Compare(const void* a, const void* b) {
  const int x = *static_cast<const int*>(a);
  const int y = *static_cast<const int*>(b);
  return static_cast<int>(Deep(40) - SumTo(40)) + (x < y ? -1 : x > y ? 1 : 0);
}
NOINLINE int64_t SortBelow(int64_t n) {
  volatile int64_t mine = n;
  if (n > 0) return SortBelow(n - 1) + mine - n;
  std::vector<int> values;
  for (int i = 0; i < 100; ++i) values.push_back(i * 37 % 101);
  std::qsort(values.data(), values.size(), sizeof(int), Compare);
  for (size_t i = 1; i < values.size(); ++i) {
    if (values[i - 1] >= values[i]) return 0;
  }
  return 1;
}
TEST_F(CopyGrowthTest, CallbacksOfForeignCodeUseTheRoomBelowTheLimit) {
  for (int64_t depth = 0; depth < 400; depth += 25) {
    int64_t sorted = 0;
    Run([&] { sorted = SortBelow(depth); });
    ASSERT_EQ(sorted, 1) << depth;
  }
}

using CopyGrowthDeathTest = CopyGrowthTest;

TEST_F(CopyGrowthDeathTest, TheLimitIsThatOfTheProgram) {
  EXPECT_EXIT(
      {
        InstallOverflowHandler();
        SetMaxStack(1 << 20);
        Run([] { Deep(1 << 30); });
      },
      testing::ExitedWithCode(2),
      "goroutine stack exceeds 1048576-byte limit(.|\n)*fatal error: stack overflow(.|\n)*Deep");
}

TEST_F(CopyGrowthDeathTest, WithoutMemoryItSaysSo) {
  if (internal::under_valgrind) GTEST_SKIP() << "the limit is Valgrind's own too";
  EXPECT_EXIT(
      {
        InstallOverflowHandler();
        Run([] {
          rlimit limit{};
          limit.rlim_cur = limit.rlim_max = 64 << 20;
          setrlimit(RLIMIT_AS, &limit);
          Deep(1 << 30);
        });
      },
      testing::ExitedWithCode(2), "bytes cannot grow: .*\nfatal error: out of memory");
}

}  // namespace
}  // namespace weft::stack
