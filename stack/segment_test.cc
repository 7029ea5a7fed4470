// Stacks of 64 KiB whose calls go to linked segments when they are full.
#include "stack/segment.h"

#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <csetjmp>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "stack/internal/resident_task.h"
#include "stack/morestack.h"
#include "stack/overflow.h"
#include "stack/slots.h"
#include "stack/traceback.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace weft::stack {
namespace {

#if WEFT_HAS_GUARD_WORD

#define NOINLINE __attribute__((noinline))

volatile int64_t zero = 0;

NOINLINE int64_t Deep(int64_t n) {
  volatile int64_t mine = n;
  const int64_t below = n == 0 ? 0 : Deep(n - 1);
  return below + mine + zero;
}
int64_t SumTo(int64_t n) { return n * (n + 1) / 2; }

void RunSmall(const std::function<void()>& body) { RunAsResident(body, SizeClass::k64KiB); }

// Calls leaf() below so many frames of some 300 bytes, and so many small ones.
NOINLINE int64_t Below(int64_t frames, int64_t small, const std::function<int64_t()>& leaf);
NOINLINE int64_t BelowSmall(int64_t frames, const std::function<int64_t()>& leaf) {
  volatile int64_t mine = frames;
  const int64_t result = frames == 0 ? leaf() : BelowSmall(frames - 1, leaf);
  return result + mine - frames;
}
int64_t Below(int64_t frames, int64_t small, const std::function<int64_t()>& leaf) {
  // By an index, or the compiler would keep one element only.
  volatile int64_t mine[32];
  mine[frames & 31] = frames;
  const int64_t result = frames == 0 ? BelowSmall(small, leaf) : Below(frames - 1, small, leaf);
  return result + mine[frames & 31] - frames;
}

// What leaf() returns is the same wherever the end of the stack comes, which is at one of the calls
// below some of the numbers of frames, and at leaf() and what it calls for some of them. Returns
// how often it was called.
int ExpectEverywhere(int64_t expected, const std::function<int64_t()>& leaf) {
  const uint64_t before = GetSegmentStats().links;
  int calls = 0;
  int wrong = 0;
  RunSmall([&] {
    for (int64_t frames = 100; frames < 600; ++frames) {
      for (int64_t small = 0; small < 5; ++small) {
        ++calls;
        if (Below(frames, small, leaf) != expected) ++wrong;
      }
    }
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(GetSegmentStats().links, before);
  return calls;
}

TEST(SegmentTest, AMillionFramesFit) {
  const SegmentStats before = GetSegmentStats();
  int64_t sum = 0;
  RunSmall([&] { sum = Deep(1'000'000); });
  EXPECT_EQ(sum, SumTo(1'000'000));
  EXPECT_LT(GetSegmentStats().links - before.links, 20u);
}

TEST(SegmentTest, SegmentsAreUsedAgain) {
  RunSmall([] { Deep(20'000); });
  const size_t made = GetSegmentStats().made;
  for (int i = 0; i < 50; ++i) {
    RunSmall([] { Deep(20'000); });
  }
  EXPECT_EQ(GetSegmentStats().made, made);
}

TEST(SegmentTest, ThoseThatNobodyIsOnGoBackToTheSystem) {
  RunSmall([] { Deep(20'000); });
  EXPECT_GT(GetSegmentStats().made, 0u);
  ReleaseFreeSegments();
  EXPECT_EQ(GetSegmentStats().made, 0u);
  EXPECT_GT(TrimIdle(absl::ZeroDuration()), 0u);
  int64_t sum = 0;
  RunSmall([&] { sum = Deep(20'000); });
  EXPECT_EQ(sum, SumTo(20'000));
  EXPECT_GT(GetSegmentStats().made, 0u);
  // Nor does anybody find one where there is none any more.
  ReleaseFreeSegments();
  SlotCache cache;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Acquire(cache, SizeClass::k64KiB)->segment, nullptr);
}

TEST(SegmentTest, ThoseOfAGoroutineStay) {
  int64_t sum = 0;
  RunSmall([&] {
    sum = Below(400, 0, [] {
      ReleaseFreeSegments();
      return Deep(10'000);
    });
  });
  EXPECT_EQ(sum, SumTo(10'000));
}

NOINLINE double TakeMany(int a, int64_t b, const char* c, double d, float e, int f, int64_t g,
                         int h, double i, double j, double k, double l, double m, double n,
                         int64_t o, double p) {
  volatile char frame[100];
  frame[0] = 0;
  return frame[0] + a + static_cast<double>(b) * 2 + c[0] + d * 3 + e * 5 + f * 7 +
         static_cast<double>(g) * 11 + h * 13 + i * 17 + j * 19 + k * 23 + l * 29 + m * 31 +
         n * 37 + static_cast<double>(o) * 41 + p * 43;
}
TEST(SegmentTest, ArgumentsComeAlong) {
  ExpectEverywhere(
      1 + 4 + 65 + 9 + 20 + 35 + 66 + 91 + 136 + 171 + 230 + 319 + 372 + 481 + 574 + 645, [] {
        return static_cast<int64_t>(
            TakeMany(1, 2, "A", 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
      });
}

struct Large {
  int64_t values[9];
};
NOINLINE Large Doubled(Large in) {
  volatile char frame[100];
  frame[0] = 0;
  for (int64_t& value : in.values) value = value * 2 + frame[0];
  return in;
}
struct Mixed {
  int64_t whole;
  double real;
};
NOINLINE Mixed MakeMixed(int64_t n) {
  volatile char frame[100];
  frame[0] = 0;
  return {n + frame[0], static_cast<double>(n) * 2};
}
NOINLINE long double MakeLong(int64_t n) {
  volatile char frame[100];
  frame[0] = 0;
  return static_cast<long double>(n + frame[0]) / 2;
}
TEST(SegmentTest, ResultsComeBackInMemoryAndInAllKindsOfRegisters) {
  ExpectEverywhere(18 + 3 + 6 + 5, [] {
    const Large large = Doubled({{1, 2, 3, 4, 5, 6, 7, 8, 9}});
    const Mixed mixed = MakeMixed(3);
    return large.values[8] + mixed.whole + static_cast<int64_t>(mixed.real) +
           static_cast<int64_t>(MakeLong(10));
  });
}

#if defined(__clang__)
__attribute__((no_split_stack))
#endif
NOINLINE int64_t
SumOf(int count, ...) {
  volatile char frame[100];
  frame[0] = 0;
  va_list arguments;
  va_start(arguments, count);
  int64_t sum = frame[0];
  for (int i = 0; i < count; ++i) sum += va_arg(arguments, int64_t);
  va_end(arguments);
  return sum;
}
TEST(SegmentTest, VariadicFunctionsFindTheirArguments) {
  ExpectEverywhere(45, [] {
    return SumOf(9, int64_t{1}, int64_t{2}, int64_t{3}, int64_t{4}, int64_t{5}, int64_t{6},
                 int64_t{7}, int64_t{8}, int64_t{9});
  });
}

#if defined(__x86_64__)
#define AVX __attribute__((target("avx"), noinline))
AVX __m256d AddLanes(__m256d a, __m256d b, __m256d c, __m256d d, __m256d e, __m256d f, __m256d g,
                     __m256d h, __m256d on_stack) {
  volatile char frame[100];
  frame[0] = 0;
  return a + b + c + d + e + f + g + h + on_stack + frame[0];
}
AVX int64_t CallLanes() {
  const __m256d one = {1, 2, 3, 4};
  const __m256d sum =
      AddLanes(one, one * 2, one * 3, one * 4, one * 5, one * 6, one * 7, one * 8, one * 9);
  return static_cast<int64_t>(sum[0] + 10 * sum[1] + 100 * sum[2] + 1000 * sum[3]);
}
TEST(SegmentTest, WideVectorsComeAlongAndBack) {
  if (!__builtin_cpu_supports("avx")) GTEST_SKIP() << "no AVX";
  ExpectEverywhere(45 * 4321, [] { return CallLanes(); });
}
#endif

// --- exceptions ---

struct Counts {
  explicit Counts(int64_t* c) : count(c) {}
  ~Counts() { *count += 1 + Deep(10) - 55; }
  int64_t* count;
};
NOINLINE int64_t ThrowBelow(int64_t n, int64_t* count) {
  const Counts guard(count);
  if (n == 0) throw std::runtime_error("thrown");
  return ThrowBelow(n - 1, count) + 1;
}
NOINLINE int64_t Rethrow(int64_t n, int64_t* count) {
  const Counts guard(count);
  try {
    return n == 0 ? ThrowBelow(1'000, count) : Rethrow(n - 1, count);
  } catch (const std::runtime_error&) {
    try {
      ThrowBelow(10, count);
    } catch (const std::exception&) {
      *count += 1;
    }
    throw;
  }
}
TEST(SegmentTest, ExceptionsPassThroughAndTheLimitIsTheOuterOneAgain) {
  int64_t count = 0;
  std::string what;
  bool restored = false;
  int64_t after = 0;
  RunSmall([&] {
    const Context* context = weft_current_context;
    const void* const lo = context->stack_lo;
    const uintptr_t guard = *GuardWord();
    for (int i = 0; i < 3; ++i) {
      try {
        Rethrow(200, &count);
      } catch (const std::exception& e) {
        what = e.what();
      }
    }
    restored = context->stack_lo == lo && *GuardWord() == guard &&
               reinterpret_cast<uintptr_t>(context->guard) == guard;
    after = Deep(10'000);
  });
  EXPECT_EQ(what, "thrown");
  EXPECT_EQ(count, 3 * (1'001 + 201 * (1 + 11 + 1)));
  EXPECT_TRUE(restored);
  EXPECT_EQ(after, SumTo(10'000));
}

// --- jumps ---

jmp_buf jump_target;

// Jumps from `n` frames below. It never returns, which the compiler must not know: GCC takes it for
// an endless recursion.
NOINLINE int64_t JumpBelow(int64_t n) {
  volatile int64_t mine = n;
  volatile bool jumps = true;
  if (n == 0) {
    if (jumps) std::longjmp(jump_target, 7);
    return 0;
  }
  return JumpBelow(n - 1) + mine;
}
// What setjmp() gives at last.
NOINLINE int64_t JumpBack() {
  volatile int64_t after = Deep(10);
  const int result = setjmp(jump_target);
  if (result == 0) return JumpBelow(20'000);
  return result + after - SumTo(10) + Deep(2'000) - SumTo(2'000);
}
TEST(SegmentTest, AJumpLeavesTheSegmentsThatItJumpsOver) {
  int64_t wrong = 0;
  int64_t not_restored = 0;
  size_t made = 0;
  RunSmall([&] {
    const Context* context = weft_current_context;
    for (int64_t frames = 0; frames < 300; ++frames) {
      const void* const lo = context->stack_lo;
      const uintptr_t guard = *GuardWord();
      if (Below(frames, 0, JumpBack) != 7) ++wrong;
      if (context->stack_lo != lo || *GuardWord() != guard ||
          reinterpret_cast<uintptr_t>(context->guard) != guard) {
        ++not_restored;
      }
      if (frames == 0) made = GetSegmentStats().made;
    }
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(not_restored, 0);
  EXPECT_GT(made, 0u);
  // They are used again; which sizes there are depends on where the first stack ended.
  EXPECT_LE(GetSegmentStats().made, 2 * made);
}

NOINLINE int64_t JumpWithin(int64_t) {
  if (setjmp(jump_target) == 0) JumpBelow(5);
  return weft_current_context->stack_lo != nullptr ? 1 : 0;
}
TEST(SegmentTest, AJumpWithinASegmentLeavesNone) {
  RunSmall([] {
    const int64_t sum = Below(400, 0, [] {
      const void* const lo = weft_current_context->stack_lo;
      const int64_t one = JumpWithin(1);
      return one + (weft_current_context->stack_lo == lo ? 10 : 0);
    });
    EXPECT_EQ(sum, 11);
  });
}

// --- who looks through the frames ---

_Unwind_Reason_Code CountFrame(_Unwind_Context*, void* count) {
  ++*static_cast<int64_t*>(count);
  return _URC_NO_REASON;
}
NOINLINE int64_t CountFrames() {
  int64_t count = 0;
  _Unwind_Backtrace(CountFrame, &count);
  return count;
}
TEST(SegmentTest, UnwindersSeeEachFunctionOnce) {
  int wrong = 0;
  RunSmall([&] {
    const int64_t first = Below(10, 0, CountFrames);
    for (int64_t frames = 11; frames < 600; ++frames) {
      // A boundary is a frame of its own.
      const int64_t seen = Below(frames, 0, CountFrames) - first - (frames - 10);
      if (seen < 0 || seen > 3) ++wrong;
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(SegmentTest, TracesGoOnInTheOuterStack) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  RunSmall([&] {
    Below(300, 0, [&] {
      PrintCurrentTrace(fds[1]);
      return int64_t{0};
    });
  });
  close(fds[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(fds[0], buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<size_t>(n));
  }
  close(fds[0]);
  // More frames than are printed, out to the first function.
  EXPECT_NE(text.find("frames elided"), std::string::npos) << text;
  EXPECT_NE(text.find("Begin"), std::string::npos) << text;
}

// --- others ---

int Compare(const void* a, const void* b) {
  const int x = *static_cast<const int*>(a);
  const int y = *static_cast<const int*>(b);
  return static_cast<int>(Deep(1'000) - SumTo(1'000)) + (x < y ? -1 : x > y ? 1 : 0);
}
TEST(SegmentTest, CallbacksOfForeignCodeGetThem) {
  bool sorted = false;
  RunSmall([&] {
    std::vector<int> values;
    for (int i = 0; i < 100; ++i) values.push_back(i * 37 % 101);
    std::qsort(values.data(), values.size(), sizeof(int), Compare);
    sorted = std::is_sorted(values.begin(), values.end());
  });
  EXPECT_TRUE(sorted);
}

TEST(SegmentTest, ARequestIsAnsweredOnASegmentToo) {
  static int requests = 0;
  weft_stack_request_handler.store([](Context&) { ++requests; }, std::memory_order_release);
  const int calls = ExpectEverywhere(SumTo(3), [] {
    *GuardWord() = kGuardRequest;
    return Deep(3);
  });
  weft_stack_request_handler.store(nullptr, std::memory_order_release);
  EXPECT_EQ(requests, calls);
}

// With the lock in hand that a segment would be had under.
TEST(SegmentTest, StacksAreCountedNearTheEndOfOne) {
  InstallOverflowHandler();
  const int calls = ExpectEverywhere(1, [] {
    const Stats stats = GetStats();
    return int64_t{stats.classes[static_cast<size_t>(SizeClass::k64KiB)].made > 0};
  });
  EXPECT_GT(calls, 0);
}

TEST(SegmentDeathTest, TheLimitIsThatOfTheProgram) {
  EXPECT_EXIT(
      {
        InstallOverflowHandler();
        SetMaxStack(4 << 20);
        RunSmall([] { Deep(1 << 30); });
      },
      testing::ExitedWithCode(2),
      "goroutine stack exceeds 4194304-byte limit(.|\n)*fatal error: stack overflow(.|\n)*Deep");
}

#else

TEST(SegmentTest, ThereAreNone) { EXPECT_EQ(GetSegmentStats().made, 0u); }

#endif  // WEFT_HAS_GUARD_WORD

}  // namespace
}  // namespace weft::stack
