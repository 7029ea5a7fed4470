// Select beyond what Go's tests cover.
#include "chan/select.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/select_vector.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/sync/testing.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::Tasks;

class SelectTest : public testing::WorldTest {};
INSTANTIATE_TEST_SUITE_P(, SelectTest, testing::Worlds(), testing::WorldName);

TEST_P(SelectTest, AfterRunsWhenNothingElseIsPossible) {
  Run([] {
    Chan<int> never(0);
    const Instant start = Instant::Now();
    bool ran = false;
    EXPECT_EQ(Select(never.OnRecv(), After(absl::Milliseconds(20), [&] { ran = true; })), 1);
    EXPECT_TRUE(ran);
    EXPECT_GE(Instant::Now() - start, absl::Milliseconds(20));
    // At once, where it is not positive.
    EXPECT_EQ(Select(never.OnRecv(), After(absl::ZeroDuration())), 1);
    EXPECT_EQ(Select(never.OnRecv(), After(-absl::Seconds(1))), 1);
    // The earliest of several.
    EXPECT_EQ(Select(After(absl::Hours(1)), After(absl::Milliseconds(1)), never.OnRecv()), 1);
    // Alone it is a sleep.
    EXPECT_EQ(Select(After(absl::Milliseconds(1))), 0);
  });
}

TEST_P(SelectTest, AfterGivesWayToWhatIsPossible) {
  Run([] {
    Chan<int> ready(1);
    ready.Send(1);
    EXPECT_EQ(Select(After(absl::ZeroDuration()), ready.OnRecv()), 1);
    EXPECT_EQ(Select(After(absl::ZeroDuration()), ready.OnRecv(), Default()), 2);
    Tasks tasks;
    tasks.Go([&] { ready.Send(2); });
    EXPECT_EQ(Select(ready.OnRecv(), After(absl::InfiniteDuration())), 0);
  });
}

TEST_P(SelectTest, TimeoutLeavesTheQueue) {
  Run([] {
    Chan<int> c(0);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(Select(c.OnRecv(), c.OnSend(1), After(absl::Milliseconds(1))), 2);
      EXPECT_EQ(c.TrySend(1), TryResult::kWouldBlock);
      EXPECT_EQ(c.TryRecv().result, TryResult::kWouldBlock);
    }
  });
}

// A value is either received by the select or still with its sender, however close the race.
TEST_P(SelectTest, TimeoutRacesWithSendersAndLosesNothing) {
  Run([] {
    Chan<int> c(0);
    Chan<int> d(0);
    const int values = testing::Rounds(300, 60);
    int received = 0;
    Tasks tasks;
    tasks.Go([&] {
      for (int i = 0; i < values; ++i) {
        Sleep(absl::Microseconds(30 + i % 7 * 10));
        EXPECT_TRUE((i % 2 ? c : d).Send(i));
      }
      c.Close();
    });
    for (bool open = true; open;) {
      const auto take = [&](std::optional<int> v) {
        if (!v.has_value()) {
          open = false;
          return;
        }
        EXPECT_EQ(v, received);
        ++received;
      };
      Select(c.OnRecv(take), d.OnRecv(take), After(absl::Microseconds(50)));
    }
    EXPECT_EQ(received, values);
  });
}

TEST_P(SelectTest, FunctionsMaySelectAgainAndThrow) {
  Run([] {
    Chan<std::string> c(1);
    c.Send("outer");
    std::string got;
    Select(c.OnRecv([&](std::optional<std::string> v) {
      Chan<int> inner(1);
      Select(inner.OnSend(1), Chan<int>(0).OnRecv());
      got = *v;
    }));
    EXPECT_EQ(got, "outer");
    c.Send("thrown");
    EXPECT_THROW(Select(c.OnRecv([] { throw std::runtime_error("out"); }), Default()),
                 std::runtime_error);
    EXPECT_EQ(c.len(), 0);
  });
}

// Sends and selects of all sorts among many tasks; each value arrives once.
void SelectCrosswise(int values) {
  constexpr int kChannels = 4;
  constexpr int kSenders = 4;
  constexpr int kReceivers = 4;
  std::vector<Chan<int>> c;
  for (int i = 0; i < kChannels; ++i) c.emplace_back(i % 2);
  Chan<int> quit(0);
  std::vector<std::atomic<int>> times(static_cast<size_t>(kSenders * values));
  Tasks receivers;
  for (int r = 0; r < kReceivers; ++r) {
    receivers.Go([&] {
      bool running = true;
      const auto take = [&](std::optional<int> v) { ++times[static_cast<size_t>(*v)]; };
      while (running) {
        Select(c[0].OnRecv(take), c[1].OnRecv(take), quit.OnRecv([&] { running = false; }),
               c[2].OnRecv(take), c[3].OnRecv(take));
      }
    });
  }
  Tasks senders;
  for (int s = 0; s < kSenders; ++s) {
    senders.Go([&, s] {
      for (int i = 0; i < values; ++i) {
        const int v = s * values + i;
        if (i % 3 == 0) {
          c[static_cast<size_t>(i % kChannels)].Send(v);
        } else {
          Select(c[3].OnSend(v), c[2].OnSend(v), c[1].OnSend(v), c[0].OnSend(v));
        }
      }
    });
  }
  senders.Wait();
  // What is in a buffer has a receiver coming for it.
  ASSERT_TRUE(testing::Eventually([&] {
    for (const Chan<int>& channel : c) {
      if (channel.len() != 0) return false;
    }
    return true;
  }));
  quit.Close();
  receivers.Wait();
  for (const std::atomic<int>& n : times) EXPECT_EQ(n, 1);
}

TEST_P(SelectTest, ManySelectsOnManyChannelsDeliverEachValueOnce) {
  Run([] { SelectCrosswise(testing::Rounds(500, 100)); });
}

TEST_P(SelectTest, NothingIsLostHoweverTheStepsInterleave) {
  Run([] {
    for (int seed = 1; seed <= testing::Rounds(10, 4); ++seed) {
      internal::EnableRandomDelays(static_cast<uint64_t>(seed));
      SelectCrosswise(50);
    }
    internal::SetDelayHook(nullptr);
  });
}

TEST_P(SelectTest, VectorSelectsAmongCasesMadeWhileRunning) {
  Run([] {
    constexpr int kInputs = 100;
    std::vector<Chan<int>> inputs;
    SelectVector v;
    int sum = 0;
    int closed = 0;
    for (int i = 0; i < kInputs; ++i) {
      inputs.emplace_back(0);
      v.OnRecv(inputs.back(), [&](std::optional<int> value) {
        if (value.has_value()) {
          sum += *value;
        } else {
          ++closed;
        }
      });
    }
    Chan<std::unique_ptr<int>> out(1);
    v.OnSend(out, std::make_unique<int>(5), [] {});
    EXPECT_EQ(v.Run(), kInputs);  // only the send is possible
    EXPECT_EQ(**out.Recv(), 5);
    Tasks tasks;
    tasks.Go([&] {
      for (int i = 0; i < kInputs; ++i) inputs[static_cast<size_t>(i)].Send(i);
      inputs[7].Close();
    });
    // The send is spent: it is not possible any more.
    for (int i = 0; i < kInputs; ++i) EXPECT_EQ(v.Run(), i);
    EXPECT_EQ(sum, kInputs * (kInputs - 1) / 2);
    EXPECT_EQ(v.Run(), 7);
    EXPECT_EQ(closed, 1);

    SelectVector timed;
    timed.OnRecv(out, [](std::optional<std::unique_ptr<int>>) { ADD_FAILURE(); });
    int timeouts = 0;
    timed.After(absl::Milliseconds(1), [&] { ++timeouts; });
    EXPECT_EQ(timed.Run(), 1);
    EXPECT_EQ(timed.Run(), 1);
    timed.Default([] {});
    EXPECT_EQ(timed.Run(), 2);
    EXPECT_EQ(timeouts, 2);
  });
}

}  // namespace
}  // namespace weft
