// What lies on a stack that rests, moves or has grown while its goroutine waits for channels.
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "chan/chan.h"
#include "chan/select.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "tests/stacks/torture.h"

namespace weft {
namespace {

using testing::Crowd;
using testing::OnGoroutines;
using testing::Pause;
using testing::UseStack;

class ChannelsTest : public testing::OverProcsTest {};
INSTANTIATE_TEST_SUITE_P(, ChannelsTest, testing::OverProcs(), testing::ProcsName);

// How much of the stack a waiter has used before, and uses afterwards.
constexpr int kDepths[] = {0, 1'000, 10'000, 60'000};

// Half of the crowd waits; the other half awaits these, and answers when all of the waiting ones
// are there. What they do before that takes slots: so much of it that it does not depend on the
// time.
class Waiters {
 public:
  explicit Waiters(int count) { missing_.Add(count); }
  void Arrive() { missing_.Done(); }
  void Await() {
    for (int i = 0; i < 6; ++i) {
      if (i == 3) missing_.Wait();
      Pause();
      UseStack(2'000);
    }
  }

 private:
  WaitGroup missing_;
};

template <typename T>
std::vector<Chan<T>> Channels(int count) {
  std::vector<Chan<T>> channels;
  for (int i = 0; i < count; ++i) channels.emplace_back(0);
  return channels;
}

using Five = std::array<int64_t, 5>;
Five FiveFrom(int64_t first) { return {first, first + 1, first + 2, first + 3, first + 4}; }

// Sends from `depth` bytes further down, where each frame has something that must stay.
[[gnu::noinline]] bool SendBelow(const Chan<Five>& channel, int depth, int64_t first) {
  const Five value = FiveFrom(first + depth);
  const Five* const where = &value;
  const bool sent = depth < 500 ? channel.Send(value) : SendBelow(channel, depth - 500, first);
  return sent && *where == FiveFrom(first + depth);
}

TEST_P(ChannelsTest, CH25_ABlockedSend) {
  const int pairs = Crowd() / 2;
  const auto channels = Channels<Five>(pairs);
  std::deque<Waiters> waiters;
  for (size_t n = 0; n < std::size(kDepths); ++n) waiters.emplace_back(pairs);
  OnGoroutines(
      [&](int i) {
        const Chan<Five>& channel = channels[i / 2];
        for (size_t n = 0; n < std::size(kDepths); ++n) {
          const int depth = testing::Depth(kDepths[n]);
          if (i % 2 == 1) {
            waiters[n].Await();
            EXPECT_EQ(channel.Recv(), FiveFrom(i - 1));
            continue;
          }
          EXPECT_EQ(UseStack(depth), depth / 100 + 1);
          waiters[n].Arrive();
          EXPECT_TRUE(SendBelow(channel, depth / 500 * 500, i));
          EXPECT_EQ(UseStack(2 * depth), 2 * depth / 100 + 1);
        }
      },
      2 * pairs);
}

TEST_P(ChannelsTest, SE21_LocalsThatAWaitingSelectWillWrite) {
  const int pairs = Crowd() / 2;
  const auto values = Channels<std::unique_ptr<int>>(pairs);
  const auto ends = Channels<int>(pairs);
  std::deque<Waiters> waiters;
  for (size_t n = 0; n < 2 * std::size(kDepths); ++n) waiters.emplace_back(pairs);
  OnGoroutines(
      [&](int i) {
        const Chan<std::unique_ptr<int>>& c = values[i / 2];
        const Chan<int>& d = ends[i / 2];
        for (size_t n = 0; n < waiters.size(); ++n) {
          const int depth = testing::Depth(kDepths[n / 2]);
          const bool sends = n % 2 == 0;
          if (i % 2 == 1) {
            waiters[n].Await();
            EXPECT_TRUE(sends ? c.Send(std::make_unique<int>(42)) : d.Send(7));
            continue;
          }
          EXPECT_EQ(UseStack(depth), depth / 100 + 1);
          int x = 0;
          int end = 0;
          std::unique_ptr<int> value;
          const auto take = [&](std::optional<std::unique_ptr<int>> v) {
            if (v.has_value()) value = *std::move(v);
            ++x;
          };
          const auto take_end = [&](std::optional<int> v) {
            end = v.value_or(-1);
            x += 10;
          };
          waiters[n].Arrive();
          // Each channel twice.
          Select(c.OnRecv(take), d.OnRecv(take_end), c.OnRecv(take), d.OnRecv(take_end));
          EXPECT_EQ(UseStack(2 * depth), 2 * depth / 100 + 1);
          EXPECT_EQ(x, sends ? 1 : 10);
          EXPECT_EQ(end, sends ? 0 : 7);
          EXPECT_EQ(value != nullptr ? *value : 0, sends ? 42 : 0);
        }
      },
      2 * pairs);
}

}  // namespace
}  // namespace weft
