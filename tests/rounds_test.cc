#include "tests/rounds.h"

#include <cstdlib>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace weft::testing {
namespace {

// The only test of this program: what the environment says is read once.
TEST(RoundsTest, LessIsDoneUnderValgrind) {
  unsetenv("WEFT_DELAY_SEED");
  setenv("WEFT_VALGRIND", "1", 1);
  EXPECT_TRUE(Repeated());
  EXPECT_EQ(Rounds(500), 5);
  EXPECT_EQ(Rounds(500, 70), 70);
  EXPECT_EQ(Shortened(absl::Seconds(1)), absl::Milliseconds(100));
  EXPECT_EQ(AllInTurn({1, 2, 4}).size(), 1u);
  // There are no other repetitions, which would have the others' turns.
  for (const char* name : {"one", "two", "three", "four"}) EXPECT_TRUE(IsTurn(name, 4)) << name;
}

}  // namespace
}  // namespace weft::testing
