#include "sched/internal/poll_history.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace weft::internal {
namespace {

// How many are left out before the next look.
uint32_t LeftOut(PollHistory& history) {
  uint32_t count = 0;
  while (!history.Look()) ++count;
  return count;
}

void TrustNoMore(PollHistory& history) {
  for (uint32_t i = 0; i < PollHistory::kTrust; ++i) {
    EXPECT_TRUE(history.Look());
    history.InVain();
  }
}

TEST(PollHistoryTest, LooksWhileThatFindsSomething) {
  PollHistory history;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(history.Look());
    if (i % PollHistory::kTrust == 0) {
      history.Busy();
    } else {
      history.InVain();
    }
  }
}

TEST(PollHistoryTest, LeavesOutMoreTheLongerItIsInVain) {
  PollHistory history;
  TrustNoMore(history);
  for (uint32_t expected = PollHistory::kLeastLeftOut; expected < PollHistory::kMostLeftOut;
       expected *= 2) {
    EXPECT_EQ(LeftOut(history), expected);
    history.InVain();
  }
  // But not for ever.
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(LeftOut(history), PollHistory::kMostLeftOut);
    history.InVain();
  }
}

TEST(PollHistoryTest, TrustsAgainAfterALookThatFoundSomething) {
  PollHistory history;
  TrustNoMore(history);
  LeftOut(history);
  history.InVain();
  LeftOut(history);
  history.Busy();
  TrustNoMore(history);
  EXPECT_EQ(LeftOut(history), PollHistory::kLeastLeftOut);
}

TEST(PollHistoryTest, TrustsAgainWhenThereWasWorkElsewhere) {
  PollHistory history;
  TrustNoMore(history);
  EXPECT_FALSE(history.Look());
  history.Busy();
  TrustNoMore(history);
  EXPECT_EQ(LeftOut(history), PollHistory::kLeastLeftOut);
}

}  // namespace
}  // namespace weft::internal
