// Linked with pinning_cases.cc at each level of optimization.

#include <cstddef>
#include <cstdint>
#include <string>

#include "gtest/gtest.h"
#include "stack/escape_pass/pinning_cases.h"
#include "stack/mode.h"

namespace weft::escape_pass {

Published published;

namespace {

enum class Place { kNowhere, kPinnedStack, kMachineStack };
Place seen;

// This thread's pinned stack goes down from its pointer's value on entry; both stacks are far
// larger than what the cases use, and far from each other.
constexpr uintptr_t kNear = 64 * 1024;

Place PlaceOf(const void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto pinned = reinterpret_cast<uintptr_t>(PinnedPointer());
  const auto frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  if (at - pinned < kNear) return Place::kPinnedStack;
  if (at - frame < kNear) return Place::kMachineStack;
  return Place::kNowhere;
}

Node* TakePublished() {
  uintptr_t address = published.word.load() & ~uintptr_t{7};
  if (address == 0) address = reinterpret_cast<uintptr_t>(published.slot.load());
  if (address == 0) address = reinterpret_cast<uintptr_t>(published.plain);
  if (address == 0) address = reinterpret_cast<uintptr_t>(published.always);
  if (address == 0) address = static_cast<uintptr_t>(published.wide >> 64);
  if (address == 0) address = published.shifted >> 16;
  published.~Published();
  new (&published) Published;
  return reinterpret_cast<Node*>(address);
}

}  // namespace

__attribute__((noinline)) const char* PinnedPointer() {
#if WEFT_HAS_PINNED_STACK
  return static_cast<const char*>(__builtin___get_unsafe_stack_ptr());
#else
  return nullptr;
#endif
}

__attribute__((noinline)) void Park() {
  Node* const node = TakePublished();
  seen = PlaceOf(node);
  node->done.store(1, std::memory_order_release);
}

void PublishElsewhere(Node* node) {
  Node* expected = nullptr;
  published.slot.compare_exchange_strong(expected, node);
}

namespace {

class PinningTest : public testing::TestWithParam<size_t> {
 protected:
  void SetUp() override {
    if (!stack::kHasPinnedStack) GTEST_SKIP() << "no pinned stacks in this build";
    if (kWithEscapePass && !stack::kMayMove) GTEST_SKIP() << "no escape pass in this build";
  }
};

TEST_P(PinningTest, LocalLiesOnThePinnedStack) {
  const PinningCase& c = kPinningCases[GetParam()];
  seen = Place::kNowhere;
  c.run();
  const bool overlooked = !kWithEscapePass && c.missed_at_o2;
  EXPECT_EQ(seen, overlooked ? Place::kMachineStack : Place::kPinnedStack);
}

INSTANTIATE_TEST_SUITE_P(Cases, PinningTest, testing::Range(size_t{0}, kPinningCaseCount),
                         [](const auto& info) {
                           return std::string(kPinningCases[info.param].name);
                         });

TEST(PinningPrecisionTest, WhatIsNotPublishedStays) {
  if (!kOptimized) GTEST_SKIP() << "SafeStack pins it";
  EXPECT_EQ(PinnedByLocalCounter(), 0);
}

// So that nobody keeps the pointer of a pinned stack with nothing on it.
TEST(PinnedPointerTest, WhoKeepsItHasSomethingThere) {
  if (!stack::kHasPinnedStack) GTEST_SKIP() << "no pinned stacks in this build";
  if (!kWithEscapePass || !stack::kMayMove) GTEST_SKIP() << "no escape pass";
  EXPECT_GT(PinnedByFunctionThatMayBeUnwoundInto(), 0);
  EXPECT_GT(PinnedByFunctionWithVariableSize(), 0);
}

#if WEFT_HAS_PINNED_STACK
extern "C" thread_local void* __safestack_unsafe_stack_ptr;

// As one that waits does, and wakes with another pinned stack.
__attribute__((noinline, no_sanitize("safe-stack"))) void ChangePinnedStack() {
  static char other[4096];
  __safestack_unsafe_stack_ptr = other + sizeof other;
}

__attribute__((noinline, no_sanitize("safe-stack"))) bool ReturnsOnTheOtherPinnedStack() {
  void* const own = __safestack_unsafe_stack_ptr;
  CallWithoutUnwinding(ChangePinnedStack);
  const bool changed = __safestack_unsafe_stack_ptr != own;
  __safestack_unsafe_stack_ptr = own;
  return changed;
}

TEST(PinnedPointerTest, WhoEndsTheProgramForAnExceptionDoesNotSetItBack) {
  if (!kWithEscapePass || !stack::kMayMove) GTEST_SKIP() << "no escape pass";
  // Unoptimized, what is destroyed is pinned.
  if (!kOptimized) GTEST_SKIP() << "not optimized";
  EXPECT_TRUE(ReturnsOnTheOtherPinnedStack());
}
#endif

}  // namespace
}  // namespace weft::escape_pass
