#include "sched/sync/once.h"

#include <atomic>
#include <stdexcept>

#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Tasks;

class OnceTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, OnceTest, testing::Worlds(), testing::WorldName);

TEST_P(OnceTest, SY19_RunsOnceAndEveryoneSeesIt) {
  Run([] {
    for (int round = 0; round < testing::Rounds(100); ++round) {
      Once once;
      int value = 0;
      std::atomic<int> runs{0};
      Tasks tasks;
      for (int i = 0; i < 10; ++i) {
        tasks.Go([&] {
          once.Do([&] {
            ++runs;
            Yield();
            value = 7;
          });
          EXPECT_EQ(value, 7);
        });
      }
      tasks.Wait();
      EXPECT_EQ(runs, 1);
    }
  });
}

TEST_P(OnceTest, SY20_ThrowingCountsAsRun) {
  Run([] {
    Once once;
    EXPECT_THROW(once.Do([] { throw std::runtime_error("first"); }), std::runtime_error);
    once.Do([] { ADD_FAILURE() << "ran again"; });
  });
}

TEST(OnceGoroutineTest, SY23_EndingTheGoroutineCountsAsRun) {
  Once once;
  std::atomic<bool> ended{false};
  struct SetAtEnd {
    std::atomic<bool>& flag;
    ~SetAtEnd() { flag = true; }
  };
  Go([&] {
    const SetAtEnd at_end{ended};
    once.Do([] { Exit(); });
    ADD_FAILURE() << "Exit returned";
  });
  ASSERT_TRUE(testing::Eventually([&] { return ended.load(); }));
  once.Do([] { ADD_FAILURE() << "ran again"; });
}

}  // namespace
}  // namespace weft
