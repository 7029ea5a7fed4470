#include "sched/internal/closure.h"

#include <array>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "absl/functional/any_invocable.h"
#include "gtest/gtest.h"

namespace weft::internal {
namespace {

int global_calls = 0;
void CountCall() { ++global_calls; }

// Counts itself: how many exist, and how often one was called.
struct Counted {
  Counted(int* alive, int* calls) : alive(alive), calls(calls) { ++*alive; }
  Counted(const Counted& o) : alive(o.alive), calls(o.calls) { ++*alive; }
  Counted(Counted&& o) noexcept : alive(o.alive), calls(o.calls) { ++*alive; }
  ~Counted() { --*alive; }
  void operator()() { ++*calls; }
  int* alive;
  int* calls;
};

template <size_t N>
struct Padded : Counted {
  using Counted::Counted;
  std::array<char, N> padding{};
};

template <typename F>
void CallMoveAndDestroy() {
  int alive = 0;
  int calls = 0;
  {
    Closure closure(F(&alive, &calls));
    EXPECT_EQ(alive, 1);
    EXPECT_FALSE(closure.empty());
    closure();
    Closure moved(std::move(closure));
    EXPECT_TRUE(closure.empty());
    EXPECT_EQ(alive, 1);
    moved();
    Closure assigned;
    assigned = std::move(moved);
    EXPECT_EQ(alive, 1);
    assigned();
    EXPECT_EQ(calls, 3);
    assigned = Closure(F(&alive, &calls));  // the old one goes
    EXPECT_EQ(alive, 1);
    assigned.Reset();
    EXPECT_EQ(alive, 0);
    EXPECT_TRUE(assigned.empty());
    Closure left(F(&alive, &calls));
  }
  EXPECT_EQ(alive, 0);
}

TEST(ClosureTest, OwnsSmallCallables) { CallMoveAndDestroy<Counted>(); }
TEST(ClosureTest, OwnsCallablesThatJustFit) { CallMoveAndDestroy<Padded<32>>(); }
TEST(ClosureTest, OwnsCallablesThatDoNotFit) { CallMoveAndDestroy<Padded<33>>(); }
TEST(ClosureTest, OwnsLargeCallables) { CallMoveAndDestroy<Padded<10'000>>(); }

struct alignas(64) Aligned : Counted {
  using Counted::Counted;
  void operator()() {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(this) % 64, 0u);
    Counted::operator()();
  }
};
TEST(ClosureTest, KeepsLargeAlignments) { CallMoveAndDestroy<Aligned>(); }

struct ThrowingMove : Counted {
  using Counted::Counted;
  ThrowingMove(ThrowingMove&& o) noexcept(false) : Counted(std::move(o)) {}
};
TEST(ClosureTest, DoesNotMoveWhatMayThrow) { CallMoveAndDestroy<ThrowingMove>(); }

TEST(ClosureTest, TakesMoveOnlyCallables) {
  auto owned = std::make_unique<int>(7);
  int seen = 0;
  Closure closure([owned = std::move(owned), &seen] { seen = *owned; });
  Closure moved(std::move(closure));
  moved();
  EXPECT_EQ(seen, 7);
}

TEST(ClosureTest, TakesFunctionsAndWrappers) {
  global_calls = 0;
  Closure plain(CountCall);
  plain();
  Closure pointer(&CountCall);
  pointer();
  std::function<void()> function = CountCall;
  Closure wrapped(function);
  wrapped();
  Closure any(absl::AnyInvocable<void()>{CountCall});
  any();
  Closure returns([] { return std::string("ignored"); });
  returns();
  EXPECT_EQ(global_calls, 4);
}

TEST(ClosureTest, IsEmptyForWhatCannotBeCalled) {
  EXPECT_TRUE(Closure().empty());
  EXPECT_TRUE(Closure(std::function<void()>()).empty());
  EXPECT_TRUE(Closure(absl::AnyInvocable<void()>()).empty());
  EXPECT_TRUE(Closure(static_cast<void (*)()>(nullptr)).empty());
  EXPECT_FALSE(Closure([] {}).empty());
}

struct ThrowingCopy {
  ThrowingCopy() = default;
  ThrowingCopy(const ThrowingCopy&) { throw std::runtime_error("no copy"); }
  void operator()() {}
};

TEST(ClosureTest, ThrowsWhatTheCallablesCopyThrows) {
  const ThrowingCopy callable;
  EXPECT_THROW(Closure{callable}, std::runtime_error);
}

}  // namespace
}  // namespace weft::internal
