// Very many goroutines whose stacks grow and shrink at random while others wake them.
#include <atomic>
#include <cstdint>
#include <vector>

#include "chan/chan.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "stack/grow.h"
#include "stack/mode.h"
#include "stack/rest.h"
#include "tests/rounds.h"
#include "tests/stacks/torture.h"

namespace weft {
namespace {

using testing::Depth;
using testing::Rounds;

class ChurnTest : public testing::OverProcsTest {};
INSTANTIATE_TEST_SUITE_P(, ChurnTest, testing::OverProcs(), testing::ProcsName);

// Numbers in no order, the same for the same seed.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15U + 1) {}
  uint32_t Below(uint32_t n) {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<uint32_t>((state_ >> 33) % n);
  }

 private:
  uint64_t state_;
};

// Parks at the bottom, and in some frames on the way.
[[gnu::noinline]] uint64_t Wander(const Chan<uint64_t>& woken, Random& random, int depth) {
  const uint64_t mine = random.Below(1'000'000);
  uint64_t below = 0;
  if (depth > 0) {
    below = Wander(woken, random, depth - 1);
    if (random.Below(64) == 0) Yield();
  } else {
    below = woken.Recv().value_or(0);
  }
  return below * 31 + mine;
}

// The same without waiting.
uint64_t Expected(uint64_t value, Random& random, int depth) {
  const uint64_t mine = random.Below(1'000'000);
  uint64_t below = value;
  if (depth > 0) {
    below = Expected(value, random, depth - 1);
    random.Below(64);
  }
  return below * 31 + mine;
}

// Mostly small, one in so many large.
int DepthOfRound(uint64_t goroutine, int round, uint32_t one_in) {
  Random random(goroutine * 7 + static_cast<uint64_t>(round));
  return Depth(static_cast<int>(random.Below(random.Below(one_in) == 0 ? 200 : 8)));
}

TEST_P(ChurnTest, AHundredThousandGrowAndShrinkWhileOthersWakeThem) {
  // Where they move, each function entry copies the stack: fewer are deep, each waits once, and
  // with 2 Ps alone there are all of them, or it would take five minutes without optimization.
  const bool moves = testing::HasDebugSetting("stackmove=always");
  const uint32_t one_in = moves ? 1'000 : 10;
  const int rounds_of_one = moves ? 1 : 3;
  // Where stacks do not rest, each goroutine takes some pages.
  const int most = stack::kMayMove ? 100'000 : 10'000;
  const int goroutines = moves && GetParam() != 2 ? 1'000 : Rounds(most, 300);
  const uint64_t rests_before = stack::GetRestStats().rests;
  const uint64_t moves_before = stack::GetGrowStats().moves;
  constexpr int kChannels = 64;
  constexpr int kWakers = 8;
  std::atomic<int64_t> wrong{0};
  testing::RunOnGoroutine([&] {
    std::vector<Chan<uint64_t>> channels;
    for (int i = 0; i < kChannels; ++i) channels.emplace_back(0);
    WaitGroup all;
    all.Add(goroutines);
    for (int i = 0; i < goroutines; ++i) {
      Go([&, i] {
        const auto id = static_cast<uint64_t>(i);
        const Chan<uint64_t>& woken = channels[id % kChannels];
        for (int round = 0; round < rounds_of_one; ++round) {
          const int depth = DepthOfRound(id, round, one_in);
          Random random(id);
          const uint64_t result = Wander(woken, random, depth);
          Random again(id);
          // Every value that is sent is the same, as nobody knows who gets which.
          if (result != Expected(17, again, depth)) wrong.fetch_add(1, std::memory_order_relaxed);
        }
        all.Done();
      });
    }
    // Each sends its share of every channel's messages, channel by channel.
    WaitGroup wakers;
    wakers.Add(kWakers);
    for (int w = 0; w < kWakers; ++w) {
      Go([&, w] {
        for (int c = w; c < kChannels; c += kWakers) {
          const int receivers = goroutines / kChannels + (c < goroutines % kChannels ? 1 : 0);
          for (int n = 0; n < receivers * rounds_of_one; ++n) {
            channels[static_cast<size_t>(c)].Send(17);
          }
        }
        wakers.Done();
      });
    }
    wakers.Wait();
    all.Wait();
  });
  EXPECT_EQ(wrong.load(), 0);
  if (!stack::kMayMove || goroutines < 1'000) return;
  const auto each = static_cast<uint64_t>(goroutines);
  if (moves) EXPECT_GT(stack::GetGrowStats().moves - moves_before, each);
  // Most wait at the same time, and there are some hundred slots.
  if (!moves && !testing::HasDebugSetting("stackrest=off")) {
    EXPECT_GT(stack::GetRestStats().rests - rests_before, each);
  }
}

}  // namespace
}  // namespace weft
