// Frames upon frames: how deep a stack gets, and what is in it when it goes on.
#include <array>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "stack/mode.h"
#include "tests/rounds.h"
#include "tests/stacks/torture.h"

namespace weft {
namespace {

using testing::Depth;
using testing::Meet;
using testing::OnGoroutines;
using testing::Opaque;
using testing::Pause;
using testing::Rounds;

// ThreadSanitizer knows of 65,536 frames at most.
int AMillion() { return Depth(WEFT_TSAN ? 50'000 : Rounds(1'000'000, 100'000)); }

class RecursionTest : public testing::OverProcsTest {};
INSTANTIATE_TEST_SUITE_P(, RecursionTest, testing::OverProcs(), testing::ProcsName);

[[gnu::noinline]] int64_t SumTo(int64_t n) {
  if (n == 0) {
    Pause();
    return 0;
  }
  const int64_t below = SumTo(n - 1);
  if (n % 100'000 == 0) Pause();
  return below + n;
}

TEST_P(RecursionTest, AMillionFramesDeep) {
  const int64_t depth = AMillion();
  OnGoroutines([&](int) { EXPECT_EQ(SumTo(depth), depth * (depth + 1) / 2); }, 1);
}

// All of them are at the bottom at the same time, and wait there.
[[gnu::noinline]] int64_t MeetAtTheBottom(int64_t n) {
  if (n == 0) {
    Meet();
    Pause();
    return 0;
  }
  const int64_t below = MeetAtTheBottom(n - 1);
  if (n % 100'000 == 7) Pause();
  return below + n;
}

TEST_P(RecursionTest, ThreeAMillionFramesDeepAtATime) {
  const int64_t depth = AMillion();
  OnGoroutines(
      [&](int i) { EXPECT_EQ(MeetAtTheBottom(depth - i), (depth - i) * (depth - i + 1) / 2); }, 3);
}

// Deep and shallow in turn, so that each stack grows again and again.
TEST_P(RecursionTest, StacksGrowAgainAfterTheyHaveBeenSmall) {
  OnGoroutines([](int i) {
    for (int round = 0; round < 5; ++round) {
      const int64_t depth = Depth(1000 * (1 + (i + round * 7) % 20));
      ASSERT_EQ(SumTo(depth), depth * (depth + 1) / 2);
      Pause();
    }
  });
}

// Parks in every frame, on the way down and on the way up, so the stack rests at every depth.
[[gnu::noinline]] int64_t ParkInEachFrame(int depth, int64_t seed) {
  const int64_t mine = seed * 31 + depth;
  Pause();
  const int64_t below = depth == 0 ? 1 : ParkInEachFrame(depth - 1, mine);
  Pause();
  return below ^ mine;
}
int64_t WithoutParking(int depth, int64_t seed) {
  const int64_t mine = seed * 31 + depth;
  return (depth == 0 ? 1 : WithoutParking(depth - 1, mine)) ^ mine;
}

TEST_P(RecursionTest, ParksAtEveryDepth) {
  OnGoroutines([](int i) {
    const int depth = Rounds(60, 20);
    EXPECT_EQ(ParkInEachFrame(depth, i), WithoutParking(depth, i));
  });
}

int64_t Odd(int n, int64_t sum);
[[gnu::noinline]] int64_t Even(int n, int64_t sum) {
  const std::array<int64_t, 3> kept = {sum, n, sum ^ n};
  if (n == 0) {
    Pause();
    return kept[2];
  }
  const int64_t result = Odd(n - 1, sum + n);
  return result + kept[0] - sum + kept[1] - n + (kept[2] ^ sum ^ n);
}
[[gnu::noinline]] int64_t Odd(int n, int64_t sum) {
  const int64_t result = Even(n - 1, sum + n);
  if (n % 16 == 1) Pause();
  return result;
}

TEST_P(RecursionTest, FunctionsThatCallEachOther) {
  OnGoroutines([](int) { EXPECT_EQ(Even(100, 0), 100 * 101 / 2); });
}

// Two calls in each frame, with values that live across both.
[[gnu::noinline]] int64_t Fibonacci(int n) {
  if (n < 2) return n;
  const int64_t a = Fibonacci(n - 1);
  if (n > 9) Pause();
  const int64_t b = Fibonacci(n - 2);
  return a + b;
}

TEST_P(RecursionTest, ValuesLiveAcrossTwoCalls) {
  OnGoroutines([](int) { EXPECT_EQ(Fibonacci(13), 233); });
}

[[gnu::noinline]] int64_t Ackermann(int64_t m, int64_t n) {
  if (m == 0) return n + 1;
  if (n == 0) return Ackermann(m - 1, 1);
  const int64_t inner = Ackermann(m, n - 1);
  if (inner % 50 == 0) Pause();
  return Ackermann(m - 1, inner);
}

TEST_P(RecursionTest, DepthThatNobodyFoundByHand) {
  OnGoroutines([](int) { EXPECT_EQ(Ackermann(2, Opaque(20)), 43); }, 20);
}

// Each frame hands its callee the address of a local and waits for what it writes there.
struct Link {
  Link* caller;
  int64_t value;
};
[[gnu::noinline]] int64_t Chain(Link* caller, int depth) {
  Link mine = {caller, depth};
  if (depth == 0) {
    Pause();
    int64_t sum = 0;
    for (Link* link = &mine; link != nullptr; link = link->caller) {
      sum += link->value;
      link->value = -link->value;
      if (link->value % 10 == 0) Pause();
    }
    return sum;
  }
  const int64_t sum = Chain(&mine, depth - 1);
  EXPECT_EQ(mine.value, -depth);
  return sum;
}

TEST_P(RecursionTest, FramesThatPointToEachOther) {
  OnGoroutines([](int) { EXPECT_EQ(Chain(nullptr, 100), 100 * 101 / 2); });
}

}  // namespace
}  // namespace weft
