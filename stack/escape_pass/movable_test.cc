// Linked with movable_cases.cc at each level of optimization.

#include <cstddef>
#include <string>

#include "gtest/gtest.h"
#include "stack/escape_pass/movable_cases.h"
#include "stack/mode.h"
#include "stack/text_range.h"

namespace weft::escape_pass {
namespace {

const void* called_here = nullptr;
const void* volatile told = nullptr;

}  // namespace

__attribute__((noinline)) void Here() { called_here = __builtin_return_address(0); }
__attribute__((noinline)) void Tell(const void* address) { told = address; }
__attribute__((noinline)) const void* CalledHere() { return called_here; }

namespace {

class MovableTest : public testing::TestWithParam<size_t> {};

TEST_P(MovableTest, IsInItsSection) {
  const MovableCase& c = kMovableCases[GetParam()];
  called_here = nullptr;
  c.run();
  ASSERT_NE(called_here, nullptr);
  EXPECT_EQ(stack::IsMovableReturnAddress(called_here),
            c.movable && kWithEscapePass && stack::kMayMove);
}

INSTANTIATE_TEST_SUITE_P(Cases, MovableTest, testing::Range(size_t{0}, kMovableCaseCount),
                         [](const auto& info) {
                           return std::string(kMovableCases[info.param].name);
                         });

TEST(MovableInitializerTest, IsInItsSection) {
  EXPECT_EQ(stack::IsMovableReturnAddress(at_initialization), kWithEscapePass && stack::kMayMove);
}

TEST(PreserveMostTest, KeepsItsPromiseAtTheStacksLimit) {
  if (!stack::kMayMove) GTEST_SKIP() << "no escape pass in this build";
  EXPECT_EQ(CallPreserveMost() == 42, kWithEscapePass);
}

}  // namespace
}  // namespace weft::escape_pass
