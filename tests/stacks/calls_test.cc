// Ways to call: what is passed where, and how the callee is found.
#include <immintrin.h>

#include <atomic>
#include <cstdarg>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "tests/stacks/torture.h"

namespace weft {
namespace {

using testing::OnGoroutines;
using testing::Opaque;
using testing::Pause;
using testing::Paused;
using testing::UseStack;

class CallsTest : public testing::OverProcsTest {};
INSTANTIATE_TEST_SUITE_P(, CallsTest, testing::OverProcs(), testing::ProcsName);

[[gnu::noinline]] int64_t Take20(int64_t a, int b, char c, double d, int64_t e, float f, short g,
                                 int64_t h, int64_t i, int64_t j, int64_t k, double l, double m,
                                 double n, double o, double p, double q, double r, double s,
                                 int64_t t) {
  Pause();
  return a + b * 2 + c * 3 + static_cast<int64_t>(d) * 4 + e * 5 + static_cast<int64_t>(f) * 6 +
         g * 7 + h * 8 + i * 9 + j * 10 + k * 11 +
         static_cast<int64_t>(l + m + n + o + p + q + r + s) + t * 20;
}

TEST_P(CallsTest, ManyArguments) {
  OnGoroutines([](int i) {
    // Some are made while others lie on the stack already.
    EXPECT_EQ(Take20(Paused(i), 2, 3, 4.5, Paused(5), 6.5F, 7, 8, Paused(9), 10, 11, 1, 2, 3, 4, 5,
                     6, 7, Paused(8.0), 20),
              i + 4 + 9 + 16 + 25 + 36 + 49 + 64 + 81 + 100 + 121 + 36 + 400);
  });
}

// Clang refuses variadic definitions that check their stack.
#if defined(__clang__)
#define NO_SPLIT_STACK __attribute__((no_split_stack))
#else
#define NO_SPLIT_STACK
#endif

[[gnu::noinline]] int64_t SumOf(int count, va_list arguments) {
  UseStack(3000);
  int64_t sum = 0;
  for (int i = 0; i < count; ++i) {
    sum += va_arg(arguments, int);
    sum += static_cast<int64_t>(va_arg(arguments, double));
    Pause();
  }
  return sum;
}

NO_SPLIT_STACK __attribute__((noinline)) int64_t Variadic(int count, ...) {
  va_list arguments;
  va_start(arguments, count);
  const int64_t sum = SumOf(count, arguments);
  va_end(arguments);
  return sum;
}

TEST_P(CallsTest, VariadicFunctions) {
  OnGoroutines([](int i) {
    EXPECT_EQ(Variadic(0), 0);
    EXPECT_EQ(Variadic(6, i, 1.0, 2, 2.0, 3, 3.0, 4, 4.0, 5, 5.0, 6, 6.0), i + 1 + 2 * 20);
  });
}

template <typename... T>
[[gnu::noinline]] int64_t SumOfPack(T... values) {
  return (Paused(static_cast<int64_t>(values)) + ...);
}

TEST_P(CallsTest, ParameterPacks) {
  OnGoroutines(
      [](int i) { EXPECT_EQ(SumOfPack(i, 2, 3L, 4.0, 'a', short{6}, 7U, 8, 9, 10), i + 49 + 97); });
}

// Wide vectors are passed whole in registers that __morestack must not touch.
using Wide [[gnu::vector_size(32)]] = float;
#if defined(__clang__)
#define WITH_AVX __attribute__((target("avx"), noinline))
#else
#define WITH_AVX __attribute__((target("avx,no-avx512f"), noinline))
#endif
WITH_AVX void AddWide(Wide a, Wide b, Wide c, Wide d, Wide e, Wide f, Wide g, Wide h, float* sums) {
  UseStack(1000);
  const Wide sum = a + b + c + d + e + f + g + h;
  _mm256_storeu_ps(sums, sum);
}
WITH_AVX void AddWideHere(float seed, float* sums) {
  const Wide one = _mm256_set_ps(7, 6, 5, 4, 3, 2, 1, 0);
  const Wide start = one + seed;
  AddWide(start, one, one, one, one, one, one, one, sums);
  Pause();
  float again[8];
  AddWide(start, one, one, one, one, one, one, one, again);
  for (int i = 0; i < 8; ++i) sums[i] += again[i];
}

TEST_P(CallsTest, VectorArguments) {
  if (__builtin_cpu_supports("avx") == 0) GTEST_SKIP() << "this processor has no AVX";
  OnGoroutines([](int i) {
    float sums[8];
    AddWideHere(static_cast<float>(i), sums);
    for (int n = 0; n < 8; ++n) EXPECT_EQ(sums[n], static_cast<float>(2 * (i + 8 * n)));
  });
}

struct Shape {
  virtual ~Shape() = default;
  virtual int64_t Area(int scale) const = 0;
  virtual int64_t Name() const { return 0; }
};
struct Named {
  virtual ~Named() = default;
  virtual int64_t Name() const { return 7; }
  int64_t tag = 70;
};
struct Square : Shape {
  explicit Square(int64_t side) : side(side) {}
  [[gnu::noinline]] int64_t Area(int scale) const override {
    Pause();
    return side * side * scale;
  }
  int64_t side;
};
// Its second base is reached through a thunk that adjusts `this`.
struct Badge : Square, Named {
  using Square::Square;
  [[gnu::noinline]] int64_t Name() const override {
    Pause();
    return side + tag;
  }
};
struct Nested : Square {
  Nested(int64_t side, std::unique_ptr<Shape> inner) : Square(side), inner(std::move(inner)) {}
  [[gnu::noinline]] int64_t Area(int scale) const override {
    const int64_t own = Square::Area(scale);
    UseStack(200);
    return own - inner->Area(scale);
  }
  std::unique_ptr<Shape> inner;
};
// `virtual` bases are found through the object.
struct Root {
  virtual ~Root() = default;
  int64_t root = 5;
};
struct Left : virtual Root {
  int64_t left = 6;
};
struct Right : virtual Root {
  int64_t right = 7;
};
struct Diamond : Left, Right {
  [[gnu::noinline]] int64_t Sum() {
    Pause();
    return root + left + right;
  }
};

TEST_P(CallsTest, VirtualFunctions) {
  OnGoroutines([](int i) {
    Badge badge(i);
    const Named& named = badge;
    EXPECT_EQ(named.Name(), i + 70);
    EXPECT_EQ(badge.Area(2), int64_t{i} * i * 2);
    std::unique_ptr<Shape> shape = std::make_unique<Square>(0);
    int64_t expected = 0;
    for (int n = 1; n <= 10; ++n) {
      shape = std::make_unique<Nested>(n, std::move(shape));
      expected = n * n * 3 - expected;
    }
    EXPECT_EQ(shape->Area(3), expected);
    Diamond diamond;
    EXPECT_EQ(diamond.Sum(), 18);
    EXPECT_EQ(dynamic_cast<Root&>(static_cast<Right&>(diamond)).root, 5);
  });
}

TEST_P(CallsTest, PointersToMembers) {
  OnGoroutines([](int i) {
    int64_t (Shape::*area)(int) const = &Shape::Area;
    int64_t (Named::*name)() const = &Named::Name;
    int64_t Named::* tag = &Named::tag;
    Badge badge(i);
    Pause();
    EXPECT_EQ((badge.*area)(1), int64_t{i} * i);
    EXPECT_EQ((badge.*name)(), i + 70);
    EXPECT_EQ(badge.*tag, 70);
    const std::function<int64_t(const Shape&)> bound =
        std::bind(area, std::placeholders::_1, Opaque(4));
    EXPECT_EQ(bound(badge), int64_t{i} * i * 4);
  });
}

// Closures that refer to locals of frames above, some of which have parked since.
[[gnu::noinline]] int64_t Apply(const std::function<int64_t(int64_t)>& function, int64_t value,
                                int depth) {
  if (depth == 0) return function(value);
  int64_t mine = depth;
  const auto wrapped = [&](int64_t v) {
    Pause();
    mine += v;
    return function(mine) + 1;
  };
  const int64_t result = Apply(wrapped, value, depth - 1);
  EXPECT_GE(mine, depth + value);
  return result;
}

TEST_P(CallsTest, ClosuresByReference) {
  OnGoroutines([](int i) {
    int64_t seen = 0;
    const int64_t result = Apply(
        [&](int64_t v) {
          seen = v;
          Pause();
          return 2 * v;
        },
        i, 20);
    EXPECT_EQ(seen, i + 20 * 21 / 2);
    EXPECT_EQ(result, 2 * seen + 20);
  });
}

// Tail calls have no frame of their own to come back to.
[[gnu::noinline]] int64_t CountDown(int64_t n, int64_t sum) {
  if (n == 0) return Paused(sum);
  if (n % 97 == 0) Pause();
  return CountDown(n - 1, sum + n);
}

TEST_P(CallsTest, TailCalls) {
  OnGoroutines([](int i) { EXPECT_EQ(CountDown(300 + i, 0), (300 + i) * (301 + i) / 2); });
}

// The same by order, with arguments on the stack, which each call writes over its own.
#if defined(__clang__)
#define MUST_TAIL [[clang::musttail]]
#else
#define MUST_TAIL
#endif
int64_t Pong(int64_t n, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f, int64_t g,
             int64_t h, double x);
[[gnu::noinline]] int64_t Ping(int64_t n, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e,
                               int64_t f, int64_t g, int64_t h, double x) {
  if (n == 0) return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
  if (n % 3 == 0) Pause();
  MUST_TAIL return Pong(n - 1, h, a, b, c, d, e, f, g, x + 1);
}
[[gnu::noinline]] int64_t Pong(int64_t n, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e,
                               int64_t f, int64_t g, int64_t h, double x) {
  if (n == 0) return static_cast<int64_t>(x);
  UseStack(300);
  if (n % 5 == 0) Pause();
  MUST_TAIL return Ping(n - 1, h, a, b, c, d, e, f, g, x + 1);
}

TEST_P(CallsTest, TailCallsWithArgumentsOnTheStack) {
  OnGoroutines([](int i) {
    // After 48 rounds all are where they were.
    int64_t expected = 0;
    for (int n = 1; n <= 8; ++n) expected += int64_t{n} * (i + n);
    EXPECT_EQ(Ping(48, i + 1, i + 2, i + 3, i + 4, i + 5, i + 6, i + 7, i + 8, 0), expected);
    EXPECT_EQ(Ping(49, 1, 2, 3, 4, 5, 6, 7, 8, i), i + 49);
  });
}

// An argument that the caller has copied to the stack, whose address the callee tells another
// goroutine. It is neither moved nor returned.
struct Passed {
  int64_t values[6];
};
using Told = std::atomic<Passed*>;

[[gnu::noinline]] int64_t TellAddress(Passed argument, Told& told) {
  told.store(&argument, std::memory_order_release);
  while (told.load(std::memory_order_acquire) != nullptr) Pause();
  Pause();
  int64_t sum = 0;
  for (const int64_t value : argument.values) sum = sum * 10 + value;
  return sum;
}
[[gnu::noinline]] int64_t TellAddressOfNumber(int64_t number, std::atomic<int64_t*>& told) {
  told.exchange(&number, std::memory_order_acq_rel);
  while (told.load(std::memory_order_acquire) != nullptr) Pause();
  Pause();
  return number;
}

TEST_P(CallsTest, AddressesOfArgumentsThatOthersWriteThrough) {
  OnGoroutines([](int i) {
    Told told{nullptr};
    std::atomic<int64_t*> told_number{nullptr};
    WaitGroup writer;
    writer.Go([&] {
      while (told.load(std::memory_order_acquire) == nullptr) Yield();
      told.load(std::memory_order_acquire)->values[2] = 9;
      UseStack(700);
      Yield();
      told.load(std::memory_order_acquire)->values[5] += 3;
      told.store(nullptr, std::memory_order_release);
      while (told_number.load(std::memory_order_acquire) == nullptr) Yield();
      Yield();
      *told_number.load(std::memory_order_acquire) += 5;
      told_number.store(nullptr, std::memory_order_release);
    });
    const Passed passed = {{1, 2, 3, 4, 5, 6}};
    EXPECT_EQ(TellAddress(passed, told), 129459);
    EXPECT_EQ(passed.values[2], 3);
    EXPECT_EQ(TellAddressOfNumber(i, told_number), i + 5);
    writer.Wait();
  });
}

// A function whose result is larger than registers writes it where its caller says.
struct Big {
  int64_t values[12];
  Big& operator+=(const Big& other) {
    for (int i = 0; i < 12; ++i) values[i] += other.values[i];
    return *this;
  }
};
[[gnu::noinline]] Big BigSum(int64_t seed, int depth) {
  Big big;
  for (int64_t& value : big.values) value = seed;
  Pause();
  if (depth > 0) big += BigSum(seed + 1, depth - 1);
  return big;
}

TEST_P(CallsTest, ResultsLargerThanRegisters) {
  OnGoroutines([](int i) {
    const Big big = BigSum(i, 10);
    for (const int64_t value : big.values) EXPECT_EQ(value, 11 * i + 55);
  });
}

}  // namespace
}  // namespace weft
