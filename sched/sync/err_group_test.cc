#include "sched/sync/err_group.h"

#include <atomic>
#include <memory>
#include <stdexcept>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Eventually;
using testing::Rounds;

class ErrGroupTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, ErrGroupTest, testing::Worlds(), testing::WorldName);

TEST_P(ErrGroupTest, WaitsForAllAndReturnsTheFirstFailure) {
  Run([] {
    ErrGroup group;
    std::atomic<bool> first_has_failed{false};
    std::atomic<int> ended{0};
    group.Go([&] {
      EXPECT_TRUE(Eventually([&] { return first_has_failed.load(); }));
      for (int i = 0; i < 10; ++i) Yield();
      ++ended;
      return absl::InternalError("second");
    });
    group.Go([&] { ++ended; });
    group.Go([&] {
      struct AtEnd {
        std::atomic<bool>& flag;
        ~AtEnd() { flag = true; }
      } const at_end{first_has_failed};
      ++ended;
      return absl::NotFoundError("first");
    });
    const absl::Status status = group.Wait();
    EXPECT_EQ(ended, 3);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(group.Wait(), status) << "the failure stays";
  });
}

TEST_P(ErrGroupTest, WithoutFailureIsOk) {
  Run([] {
    ErrGroup group;
    EXPECT_TRUE(group.Wait().ok()) << "nobody to wait for";
    std::vector<int> squares(20);
    for (size_t i = 0; i < squares.size(); ++i) {
      group.Go([&squares, i]() -> absl::Status {
        squares[i] = static_cast<int>(i * i);
        return absl::OkStatus();
      });
    }
    EXPECT_TRUE(group.Wait().ok());
    for (size_t i = 0; i < squares.size(); ++i) EXPECT_EQ(squares[i], static_cast<int>(i * i));
  });
}

TEST_P(ErrGroupTest, ExceptionWins) {
  Run([] {
    for (int i = 0; i < Rounds(50); ++i) {
      std::vector<absl::Status> cancelled;
      ErrGroup group([&](const absl::Status& status) { cancelled.push_back(status); });
      group.Go([] { throw std::runtime_error("broken"); });
      try {
        static_cast<void>(group.Wait());
        ADD_FAILURE() << "not thrown";
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "broken");
      }
      ASSERT_EQ(cancelled.size(), 1u);
      EXPECT_EQ(cancelled[0], absl::UnknownError("exception: broken"));
    }
  });
}

TEST_P(ErrGroupTest, FirstFailureCancelsAtOnce) {
  Run([] {
    std::atomic<bool> cancel{false};
    absl::Status cause;
    ErrGroup group([&](const absl::Status& status) {
      cause = status;
      cancel = true;
    });
    for (int i = 0; i < 5; ++i) {
      group.Go([&] {
        EXPECT_TRUE(Eventually([&] { return cancel.load(); }));
        return absl::CancelledError("told to end");
      });
    }
    group.Go([] { return absl::DataLossError("the first"); });
    EXPECT_EQ(group.Wait(), absl::DataLossError("the first"));
    EXPECT_EQ(cause, absl::DataLossError("the first"));
  });
}

TEST_P(ErrGroupTest, WaitCancelsWithOkWhereNothingFailed) {
  Run([] {
    int calls = 0;
    ErrGroup group([&](const absl::Status& status) {
      EXPECT_TRUE(status.ok());
      ++calls;
    });
    group.Go([] {});
    EXPECT_TRUE(group.Wait().ok());
    EXPECT_TRUE(group.Wait().ok());
    EXPECT_EQ(calls, 1);
  });
}

// x/sync's TestGoLimit.
TEST_P(ErrGroupTest, NoMoreThanTheLimitRun) {
  Run([] {
    constexpr int kLimit = 10;
    ErrGroup group;
    group.SetLimit(kLimit);
    std::atomic<int> active{0};
    std::atomic<int> most{0};
    for (int i = 0; i < Rounds(1000); ++i) {
      group.Go([&] {
        const int now = ++active;
        EXPECT_LE(now, kLimit);
        if (now > most) most = now;
        Yield();
        --active;
      });
    }
    EXPECT_TRUE(group.Wait().ok());
    EXPECT_GT(most, 0);
  });
}

// x/sync's TestTryGo.
TEST_P(ErrGroupTest, TryGoStartsNothingBeyondTheLimit) {
  Run([] {
    ErrGroup group;
    group.SetLimit(2);
    std::atomic<bool> go_on{false};
    const auto hold = [&] { EXPECT_TRUE(Eventually([&] { return go_on.load(); })); };
    EXPECT_TRUE(group.TryGo(hold));
    EXPECT_TRUE(group.TryGo(hold));
    EXPECT_FALSE(group.TryGo([] { ADD_FAILURE() << "a third"; }));
    go_on = true;
    EXPECT_TRUE(group.Wait().ok());
    EXPECT_TRUE(group.TryGo([] {}));
    EXPECT_TRUE(group.Wait().ok());
    group.SetLimit(0);
    EXPECT_FALSE(group.TryGo([] { ADD_FAILURE() << "none may"; }));
    group.SetLimit(-1);
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(group.TryGo([] {}));
    EXPECT_TRUE(group.Wait().ok());
  });
}

TEST_P(ErrGroupTest, DestructorCancelsAndWaits) {
  Run([] {
    std::atomic<bool> cancelled{false};
    std::atomic<bool> ended{false};
    {
      ErrGroup group([&](const absl::Status& status) {
        EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
        cancelled = true;
      });
      group.Go([&] {
        EXPECT_TRUE(Eventually([&] { return cancelled.load(); }));
        ended = true;
      });
    }
    EXPECT_TRUE(ended);
  });
}

TEST_P(ErrGroupTest, ExitIsNoFailureAndFunctionsAreGoneWhenTheyCount) {
  Run([] {
    auto captured = std::make_shared<int>(0);
    ErrGroup group;
    group.Go([captured] { Exit(); });
    group.Go([captured] {});
    group.Go([captured] { return absl::AbortedError(""); });
    EXPECT_EQ(group.Wait(), absl::AbortedError(""));
    EXPECT_EQ(captured.use_count(), 1);
  });
}

TEST(ErrGroupDeathTest, ChangingTheLimitUnderwayPanics) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        ErrGroup group;
        group.SetLimit(3);
        std::atomic<bool> never{false};
        group.Go([&] { Eventually([&] { return never.load(); }); });
        group.SetLimit(4);
      },
      ::testing::ExitedWithCode(2),
      "panic: errgroup: modify limit while 1 goroutines in the group are still active");
}

}  // namespace
}  // namespace weft
