// Every function here that looks at the guard finds itself on another stack when it begins.
#include "stack/grow.h"

#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "stack/internal/resident_task.h"
#include "stack/morestack.h"
#include "tests/rounds.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace weft::stack {
namespace {

#define NOINLINE __attribute__((noinline))

// The result of body() on a stack that moves; `moves`, if given, is how often it did.
template <typename Body>
auto OnMovingStack(Body body, uint64_t* moves = nullptr) {
  const uint64_t before = GetGrowStats().moves;
  decltype(body()) result{};
  RunAsResident([&] { result = body(); });
  if (moves != nullptr) *moves = GetGrowStats().moves - before;
  return result;
}

class GrowTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!kMayMove) GTEST_SKIP() << "stacks do not move in this build";
    MoveStacksAlways();
  }

  // A loop through a local array may keep an address of it in the frame, under which a stack stays.
  // Unoptimized code reckons it anew each time.
#ifdef __OPTIMIZE__
  static constexpr uint64_t kMovesWithArrays = 5;
#else
  static constexpr uint64_t kMovesWithArrays = 100;
#endif

  // The body's result must be what it is on a thread's own stack.
  template <typename Body>
  static void ExpectSame(Body body, uint64_t least_moves) {
    uint64_t moves = 0;
    EXPECT_EQ(OnMovingStack(body, &moves), body());
    EXPECT_GE(moves, least_moves);
  }
};

// What the compiler may not see through.
volatile int64_t opaque = 1;

NOINLINE int64_t Leaf(int64_t n) {
  volatile char frame[64];
  frame[0] = 0;
  return n * opaque + frame[0];
}

NOINLINE int64_t Deep(int64_t n) {
  volatile int64_t mine = n;
  const int64_t below = n == 0 ? 0 : Deep(n - 1);
  return below + mine - Leaf(0);
}

TEST_F(GrowTest, RecursionMovesAtEachCall) {
  const int64_t frames = testing::UnderValgrind() ? 50 : 200;
  ExpectSame([frames] { return Deep(frames); }, 2 * static_cast<uint64_t>(frames));
}

TEST_F(GrowTest, DeepRecursionMovesNowAndThen) {
  const int64_t frames = testing::UnderValgrind() ? 1'000 : 10'000;
  ExpectSame([frames] { return Deep(frames); }, 400);
}

NOINLINE double TakeMany(int a, int64_t b, const char* c, double d, float e, int f, int64_t g,
                         int h, double i, double j, double k, double l, double m, double n,
                         int64_t o, double p) {
  return static_cast<double>(Leaf(a)) + static_cast<double>(b) * 2 + c[0] + d * 3 + e * 5 + f * 7 +
         static_cast<double>(g) * 11 + h * 13 + i * 17 + j * 19 + k * 23 + l * 29 + m * 31 +
         n * 37 + static_cast<double>(o) * 41 + p * 43;
}

TEST_F(GrowTest, ArgumentsArriveInRegistersAndOnTheStack) {
  ExpectSame([] { return TakeMany(1, 2, "A", 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }, 2);
}

struct Large {
  int64_t values[20];
};
NOINLINE Large Doubled(Large in, int64_t rounds) {
  for (int64_t& value : in.values) value = Leaf(value) * 2;
  return rounds == 1 ? in : Doubled(in, rounds - 1);
}
TEST_F(GrowTest, StructsGoByValueAndComeBack) {
  ExpectSame(
      [] {
        Large in;
        std::iota(std::begin(in.values), std::end(in.values), 1);
        const Large out = Doubled(in, 5);
        return std::accumulate(std::begin(out.values), std::end(out.values), int64_t{0}) +
               in.values[7];
      },
      kMovesWithArrays);
}

struct alignas(256) OverAligned {
  char bytes[256];
};
NOINLINE void Fill(OverAligned* local) { std::memset(local, 1, sizeof *local); }
NOINLINE int64_t Misaligned(int64_t n) {
  OverAligned local;
  Fill(&local);
  const auto address = reinterpret_cast<uintptr_t>(&local);
  const int64_t below = n == 0 ? 0 : Misaligned(n - 1);
  return below + static_cast<int64_t>(address % 256) + Leaf(local.bytes[9]);
}
TEST_F(GrowTest, OverAlignedLocalsStayAligned) {
  ExpectSame([] { return Misaligned(20); }, 20);
}

// An array that is not pinned, walked by a pointer that may live across the calls: while this
// function has a frame, the stack stays.
NOINLINE int64_t WalkArray(int64_t seed) {
  int64_t array[32];
  for (int64_t i = 0; i < 32; ++i) array[i] = Leaf(seed + i);
  int64_t sum = 0;
  for (int64_t i = 0; i < 32; ++i) sum = sum * 3 + Leaf(array[i]);
  for (int64_t i = 31; i >= 0; --i) sum ^= Leaf(array[i] << i);
  return sum;
}
TEST_F(GrowTest, ArraysAreWalkedAcrossCalls) {
  ExpectSame([] { return WalkArray(5); }, 1);
}

NOINLINE int64_t Apply(const std::function<int64_t(int64_t)>& f, int64_t n) {
  return n == 0 ? f(0) : f(n) + Apply(f, n - 1);
}
TEST_F(GrowTest, ClosuresAndContainersWork) {
  ExpectSame(
      [] {
        int64_t calls = 0;
        std::map<std::string, int64_t> counts;
        const int64_t sum = Apply(
            [&](int64_t n) {
              ++calls;
              counts["key" + std::to_string(n % 7)] += Leaf(n);
              return n;
            },
            50);
        std::vector<std::string> words;
        for (const auto& [key, count] : counts) {
          std::ostringstream text;
          text << key << ':' << count << ' ' << 1.5 * static_cast<double>(count);
          words.push_back(text.str());
        }
        std::sort(words.begin(), words.end(), [](const std::string& a, const std::string& b) {
          return std::string(a.rbegin(), a.rend()) < std::string(b.rbegin(), b.rend());
        });
        std::string all = std::to_string(sum) + "/" + std::to_string(calls);
        for (const std::string& word : words) all += "," + word;
        return all;
      },
      200);
}

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wunknown-warning-option"
#pragma clang diagnostic ignored "-Wvla-cxx-extension"
#endif
NOINLINE int64_t UseVla(int64_t n) {
  volatile int64_t array[n];
  for (int64_t i = 0; i < n; ++i) array[i] = i;
  int64_t sum = Leaf(1);
  if (n > 1) sum += UseVla(n - 1);
  for (int64_t i = 0; i < n; ++i) sum += array[i];
  return sum;
}
NOINLINE int64_t UseAlloca(int64_t n) {
  auto* array = static_cast<volatile int64_t*>(__builtin_alloca(static_cast<size_t>(n) * 8));
  for (int64_t i = 0; i < n; ++i) array[i] = Leaf(i);
  int64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += array[i];
  return sum;
}
TEST_F(GrowTest, ArraysOfVariableSizeStayWhole) {
  ExpectSame([] { return UseVla(40) + UseAlloca(100); }, kMovesWithArrays);
}

struct Shape {
  virtual ~Shape() = default;
  virtual int64_t Area(int64_t n) const = 0;
};
struct Square : Shape {
  explicit Square(int64_t s) : side(s) {}
  int64_t Area(int64_t n) const override { return n == 0 ? side * side : Area(n - 1) + Leaf(side); }
  int64_t Perimeter(int64_t n) const { return Leaf(4 * side + n); }
  int64_t side;
};
TEST_F(GrowTest, VirtualCallsAndPointersToMembersWork) {
  ExpectSame(
      [] {
        const Square square(7);
        const Shape* shape = &square;
        int64_t (Square::*member)(int64_t) const = &Square::Perimeter;
        return shape->Area(20) + (square.*member)(3);
      },
      40);
}

// --- exceptions ---

struct CallsInDestructor {
  explicit CallsInDestructor(int64_t* count) : count_(count) {}
  ~CallsInDestructor() { *count_ += Leaf(1) + Deep(3) - 6; }
  int64_t* count_;
};
NOINLINE int64_t ThrowFrom(int64_t n, int64_t* count) {
  const CallsInDestructor guard(count);
  if (n == 0) throw std::runtime_error("from " + std::to_string(Leaf(0)));
  return ThrowFrom(n - 1, count) + 1;
}
NOINLINE int64_t Rethrow(int64_t n, int64_t* count) {
  try {
    return n == 0 ? ThrowFrom(10, count) : Rethrow(n - 1, count);
  } catch (const std::runtime_error&) {
    *count += Deep(2);
    try {
      ThrowFrom(2, count);
    } catch (const std::exception& inner) {
      *count += static_cast<int64_t>(std::strlen(inner.what()));
    }
    throw;
  }
}
TEST_F(GrowTest, ExceptionsPassThroughFramesThatMoveBeforeAndAfter) {
  ExpectSame(
      [] {
        int64_t count = 0;
        std::string what;
        try {
          Rethrow(5, &count);
        } catch (const std::exception& e) {
          what = e.what();
        }
        count += Deep(20);
        return what + "/" + std::to_string(count);
      },
      40);
}

TEST_F(GrowTest, WithAnExceptionUnderWayAStackStays) {
  const uint64_t before = GetGrowStats().kept_held;
  RunAsResident([] {
    try {
      throw 1;
    } catch (int) {
      Leaf(1);
    }
  });
  EXPECT_GT(GetGrowStats().kept_held, before);
}

// --- what may not move ---

int Compare(const void* a, const void* b) {
  const int64_t x = Leaf(*static_cast<const int*>(a));
  const int64_t y = Leaf(*static_cast<const int*>(b));
  return x < y ? -1 : x > y ? 1 : 0;
}
TEST_F(GrowTest, UnderAForeignFrameAStackStays) {
  const uint64_t before = GetGrowStats().kept_foreign_frame;
  ExpectSame(
      [] {
        std::vector<int> values;
        for (int i = 0; i < 100; ++i) values.push_back(i * 37 % 101);
        std::qsort(values.data(), values.size(), sizeof(int), Compare);
        int64_t sum = 0;
        for (size_t i = 0; i < values.size(); ++i) sum = sum * 31 + values[i];
        return sum;
      },
      5);
  EXPECT_GT(GetGrowStats().kept_foreign_frame, before);
}

#if defined(__clang__)
__attribute__((no_split_stack))
#endif
NOINLINE int64_t
SumOf(int count, ...) {
  va_list arguments;
  va_start(arguments, count);
  int64_t sum = 0;
  for (int i = 0; i < count; ++i) sum += Leaf(va_arg(arguments, int64_t));
  va_end(arguments);
  return sum;
}
TEST_F(GrowTest, VariadicFunctionsKeepTheirArguments) {
  ExpectSame(
      [] {
        return SumOf(9, int64_t{1}, int64_t{2}, int64_t{3}, int64_t{4}, int64_t{5}, int64_t{6},
                     int64_t{7}, int64_t{8}, int64_t{9}) +
               Leaf(1);
      },
      1);
}

// --- vector arguments ---

#if defined(__x86_64__)
#define AVX __attribute__((target("avx"), noinline))
#define AVX512 __attribute__((target("avx512f"), noinline))

AVX double Lanes(__m256d a, __m256d b, __m256d c, __m256d d, __m256d e, __m256d f, __m256d g,
                 __m256d h, __m256d on_stack) {
  const __m256d sum = a + 2 * b + 3 * c + 5 * d + 7 * e + 11 * f + 13 * g + 17 * h + 19 * on_stack;
  volatile double lanes[4] = {sum[0], sum[1], sum[2], sum[3]};
  return lanes[0] + 100 * lanes[1] + 10'000 * lanes[2] + 1'000'000 * lanes[3];
}
AVX double CallLanes() {
  const __m256d one = {1, 2, 3, 4};
  return Lanes(one, one * 2, one * 3, one * 4, one * 5, one * 6, one * 7, one * 8, one * 9);
}
TEST_F(GrowTest, WideVectorArgumentsKeepTheirUpperHalves) {
  if (!__builtin_cpu_supports("avx")) GTEST_SKIP() << "no AVX";
  ExpectSame([] { return CallLanes(); }, 1);
}

AVX512 double WideLanes(__m512d a, __m512d b, __m512d c, __m512d d, __m512d e, __m512d f, __m512d g,
                        __m512d h, __m512d on_stack) {
  const __m512d sum = a + 2 * b + 3 * c + 5 * d + 7 * e + 11 * f + 13 * g + 17 * h + 19 * on_stack;
  volatile double all = 0;
  for (int i = 0; i < 8; ++i) all = all * 100 + sum[i];
  return all;
}
AVX512 double CallWideLanes() {
  const __m512d one = {1, 2, 3, 4, 5, 6, 7, 8};
  return WideLanes(one, one * 2, one * 3, one * 4, one * 5, one * 6, one * 7, one * 8, one * 9);
}
TEST_F(GrowTest, TheWidestVectorArgumentsToo) {
  if (!__builtin_cpu_supports("avx512f")) GTEST_SKIP() << "no AVX-512";
  ExpectSame([] { return CallWideLanes(); }, 1);
}
#endif

// --- signals ---

volatile sig_atomic_t ticks = 0;
void OnTick(int) {
  Deep(3);
  ticks = ticks + 1;
}

TEST_F(GrowTest, SignalHandlersRunOnStacksThatMove) {
  struct sigaction action{};
  action.sa_handler = OnTick;
  action.sa_flags = SA_RESTART;
  struct sigaction previous;
  sigaction(SIGPROF, &action, &previous);
  const itimerval every = {{0, 1000}, {0, 1000}};
  setitimer(ITIMER_PROF, &every, nullptr);
  ticks = 0;
  uint64_t moves = 0;
  const int64_t rounds = OnMovingStack(
      [] {
        int64_t n = 0;
        for (; ticks < 100; ++n) {
          if (Deep(50) != 50 * 51 / 2) return int64_t{-1};
        }
        return n;
      },
      &moves);
  const itimerval none{};
  setitimer(ITIMER_PROF, &none, nullptr);
  signal(SIGPROF, SIG_IGN);  // the last one may come late: Valgrind holds it back for some time
  sigaction(SIGPROF, &previous, nullptr);
  EXPECT_GT(rounds, 0);
  EXPECT_GT(moves, 1'000u);
}

// --- what is left behind ---

// Not on the stack, where it would be taken for a pointer into it.
volatile char* volatile place = nullptr;
NOINLINE void NotePlace() { place = static_cast<char*>(__builtin_frame_address(0)); }

TEST_F(GrowTest, WhoWritesToWhatWasLeftBehindIsFoundOut) {
  EXPECT_DEATH(RunAsResident([] {
                 for (int i = 0; i < 20; ++i) {
                   NotePlace();
                   Leaf(1);
                   *place = 1;
                 }
               }),
               "");
}

TEST_F(GrowTest, MovesAreCounted) {
  const GrowStats before = GetGrowStats();
  RunAsResident([] { Deep(10); });
  const GrowStats after = GetGrowStats();
  EXPECT_GE(after.moves - before.moves, 20u);
  EXPECT_GE(after.bytes_moved - before.bytes_moved, 20u * 64);
}

}  // namespace
}  // namespace weft::stack
