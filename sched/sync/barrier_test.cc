#include "sched/sync/barrier.h"

#include <atomic>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Rounds;
using testing::Tasks;

class BarrierTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, BarrierTest, testing::Worlds(), testing::WorldName);

TEST_P(BarrierTest, NobodyGoesOnBeforeAllHaveCome) {
  Run([] {
    for (const int parties : {1, 2, 7}) {
      Barrier barrier(parties);
      const int rounds = Rounds(200);
      std::vector<int> done(static_cast<size_t>(parties));  // each its own, read by all after
      std::atomic<int> last_to_come{0};
      Tasks tasks;
      for (int t = 0; t < parties; ++t) {
        tasks.Go([&, t] {
          for (int round = 1; round <= rounds; ++round) {
            done[static_cast<size_t>(t)] = round;
            if ((round + t) % 5 == 0) Yield();
            if (barrier.ArriveAndWait()) ++last_to_come;
            for (const int d : done) EXPECT_EQ(d, round);
            barrier.ArriveAndWait();
          }
        });
      }
      tasks.Wait();
      EXPECT_EQ(last_to_come, rounds) << "one in each round";
    }
  });
}

TEST_P(BarrierTest, AnyoneMayDestroyItAfterTheLastRound) {
  Run([] {
    for (int i = 0; i < Rounds(300); ++i) {
      auto barrier = std::make_unique<Barrier>(2);
      Tasks tasks;
      tasks.Go([b = barrier.get()] { b->ArriveAndWait(); });
      barrier->ArriveAndWait();
      barrier.reset();
    }
  });
}

TEST(BarrierDeathTest, ForNobodyPanics) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(Barrier(0), ::testing::ExitedWithCode(2), "panic: sync: barrier for nobody");
}

}  // namespace
}  // namespace weft
