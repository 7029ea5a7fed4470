// Goroutines whose stacks begin at 64 KiB, grow by being copied, and get small again.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "sched/goroutine.h"
#include "sched/internal/give_back.h"
#include "sched/snapshot.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "stack/context.h"
#include "stack/grow.h"
#include "stack/mode.h"
#include "stack/rest.h"
#include "stack/segment.h"
#include "stack/slots.h"
#include "tests/debug_setting.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::HasDebugSetting;
using testing::Rounds;

// Before any goroutine has a stack. The first segments are made before the first stacks, so that
// they lie above those.
[[maybe_unused]] const bool copying = [] {
  stack::SetStackGrowth(stack::Growth::kCopy);
  stack::SlotCache cache;
  for (const auto size : {stack::SizeClass::k64KiB, stack::RestingSizeClass()}) {
    stack::Release(cache, stack::Acquire(cache, size));
  }
  return true;
}();

volatile int64_t zero = 0;

__attribute__((noinline)) int64_t Deep(int64_t n) {
  volatile int64_t mine = n;
  const int64_t below = n == 0 ? 0 : Deep(n - 1);
  return below + mine + zero;
}
int64_t SumTo(int64_t n) { return n * (n + 1) / 2; }

size_t LargerSlotsInUse() {
  size_t slots = 0;
  const stack::Stats stats = stack::GetStats();
  for (auto c = static_cast<size_t>(stack::SizeClass::kFirstCopy) + 1; c < stack::kSizeClasses;
       ++c) {
    slots += stats.classes[c].in_use;
  }
  return slots;
}

// Whether it slept with frames on its stack.
__attribute__((noinline)) int64_t DeepAndYield(int64_t n) {
  volatile int64_t mine = n;
  if (n % 512 == 0) Yield();
  const int64_t below = n == 0 ? 0 : DeepAndYield(n - 1);
  return below + mine + zero;
}

TEST(StackGrowthTest, GoroutinesGrowWhileOthersWakeThem) {
  testing::ForEachMaxProcs([] {
    const uint64_t before = stack::GetGrowStats().growths;
    testing::RunOnGoroutine([] {
      // Each call is some thousand times as slow where it moves the stack.
      const int goroutines = HasDebugSetting("stackmove=always") ? 10 : Rounds(300, 30);
      Chan<int64_t> work(0);
      Chan<bool> results(0);
      for (int i = 0; i < goroutines; ++i) {
        Go([work, results] {
          for (int64_t depth : work) {
            const bool right =
                Deep(depth) == SumTo(depth) && DeepAndYield(depth / 4) == SumTo(depth / 4);
            results.Send(right);
          }
        });
      }
      Go([work, goroutines]() mutable {
        uint32_t random = 1;
        for (int i = 0; i < 3 * goroutines; ++i) {
          random = random * 1664525 + 1013904223;
          work.Send(random >> 20);
        }
        work.Close();
      });
      for (int i = 0; i < 3 * goroutines; ++i) EXPECT_TRUE(*results.Recv());
    });
    // Else on segments.
    if (stack::kMayMove) EXPECT_GT(stack::GetGrowStats().growths, before);
  });
}

TEST(StackGrowthTest, AStackThatStaysSmallGivesItsLargeSlotBack) {
  if (!stack::kMayMove) GTEST_SKIP() << "stacks do not move in this build";
  testing::RunOnGoroutine([] {
    Chan<int> gate(0);
    Chan<bool> grown(0);
    constexpr int kGoroutines = 20;
    for (int i = 0; i < kGoroutines; ++i) {
      Go([gate, grown] {
        grown.Send(Deep(10'000) == SumTo(10'000));
        while (gate.Recv().has_value()) {
        }
      });
    }
    for (int i = 0; i < kGoroutines; ++i) EXPECT_TRUE(*grown.Recv());
    EXPECT_TRUE(testing::Eventually([&] {
      for (int i = 0; i < 100; ++i) gate.Send(i);
      return LargerSlotsInUse() == 0;
    }));
    gate.Close();
  });
}

constexpr size_t kPage = 4096;

// Pages that are there, of all larger slots.
size_t PagesOfLargerSlots() {
  size_t pages = 0;
  for (auto c = static_cast<size_t>(stack::SizeClass::kFirstCopy) + 1; c < stack::kSizeClasses;
       ++c) {
    for (const stack::Slot* slot = stack::NewestSlot(static_cast<stack::SizeClass>(c));
         slot != nullptr; slot = slot->made_before) {
      const auto bytes = static_cast<size_t>(slot->hi - slot->lo);
      std::vector<unsigned char> there(bytes / kPage);
      if (mincore(slot->lo, bytes, there.data()) != 0) ADD_FAILURE() << "mincore";
      pages += static_cast<size_t>(
          std::count_if(there.begin(), there.end(), [](unsigned char p) { return (p & 1) != 0; }));
    }
  }
  return pages;
}

TEST(StackGrowthTest, WhatLargerSlotsDoNotNeedGoesBackToTheSystem) {
  if (!stack::kMayMove) GTEST_SKIP() << "stacks do not move in this build";
  if (HasDebugSetting("stackrest=always")) GTEST_SKIP() << "nobody stays in a larger slot";
  const auto give_back_until = [](size_t pages) {
    EXPECT_TRUE(testing::Eventually([&] {
      internal::GiveBackStacks(absl::ZeroDuration());
      return PagesOfLargerSlots() <= pages;
    })) << PagesOfLargerSlots();
  };
  Chan<bool> grown(0);
  Chan<int> gate(0);
  constexpr int kGoroutines = 5;
  for (int i = 0; i < kGoroutines; ++i) {
    Go([grown, gate] {
      // Where it has grown to, it parks a few times only.
      const bool right = Deep(20'000) == SumTo(20'000);
      grown.Send(right);
      gate.Recv();
    });
  }
  for (int i = 0; i < kGoroutines; ++i) EXPECT_TRUE(*grown.Recv());
  EXPECT_GT(PagesOfLargerSlots(), kGoroutines * 200u);
  EXPECT_GE(LargerSlotsInUse(), static_cast<size_t>(kGoroutines));
  give_back_until(kGoroutines * (stack::kKeptBytes / kPage + 4));
  gate.Close();
  // And when they have ended, all of it: the mover's own slots too.
  give_back_until(0);
}

int CompareAndWait(const void* a, const void* b) {
  Yield();
  const int x = *static_cast<const int*>(a);
  const int y = *static_cast<const int*>(b);
  return static_cast<int>(Deep(500) - SumTo(500)) + (x < y ? -1 : x > y ? 1 : 0);
}

TEST(StackGrowthTest, CallbacksOfForeignCodeGrowAndPark) {
  testing::ForEachMaxProcs([] {
    testing::RunOnGoroutine([] {
      WaitGroup all;
      std::vector<char> sorted(static_cast<size_t>(Rounds(10, 4)));
      for (char& one : sorted) {
        all.Add(1);
        Go([&] {
          std::vector<int> values;
          for (int i = 0; i < 100; ++i) values.push_back(i * 37 % 101);
          std::qsort(values.data(), values.size(), sizeof(int), CompareAndWait);
          one = 1;
          for (size_t i = 1; i < values.size(); ++i) {
            if (values[i - 1] >= values[i]) one = 0;
          }
          all.Done();
        });
      }
      all.Wait();
      for (const char one : sorted) EXPECT_EQ(one, 1);
    });
  });
}

// Goes on to a segment, uses most of that, and waits at its beginning.
struct ParksOnASegment {
  Chan<bool> waiting = Chan<bool>(0);
  Chan<int> gate = Chan<int>(0);
};
ParksOnASegment* parks_on_a_segment = nullptr;

__attribute__((noinline)) int64_t ParkOnASegment(int64_t n) {
  volatile int64_t mine = n;
  const stack::Context& context = *stack::weft_current_context;
  const stack::Slot* slot = stack::FindSlot(context.stack_lo);
  int64_t below = 0;
  if (slot != nullptr && slot->segment != nullptr) {
    below = Deep(1'000) - SumTo(1'000);
    parks_on_a_segment->waiting.Send(context.stack_lo > slot->segment->outer_hi);
    parks_on_a_segment->gate.Recv();
  } else {
    below = ParkOnASegment(n + 1);
  }
  return below + mine - n;
}

int CompareOnASegment(const void* a, const void* b) {
  const int x = *static_cast<const int*>(a);
  const int y = *static_cast<const int*>(b);
  return static_cast<int>(ParkOnASegment(0)) + (x < y ? -1 : x > y ? 1 : 0);
}

TEST(StackGrowthTest, NothingIsGivenBackOfAStackThatIsLeftForASegment) {
  if (!stack::kMayMove) GTEST_SKIP() << "slots stay with their goroutines here";
  SetMaxProcs(2);
  ParksOnASegment parks;
  parks_on_a_segment = &parks;
  Chan<int> result(0);
  Go({.name = "on a segment"}, [result] {
    int values[2] = {2, 1};
    // The stack of a foreign function stays where it is.
    std::qsort(values, 2, sizeof(int), CompareOnASegment);
    result.Send(values[0]);
  });
  ASSERT_TRUE(*parks.waiting.Recv()) << "the segment lies below the stack";
  // When this one has given back what it does not use, the other has been looked at too.
  Chan<int> waiting(0);
  Chan<int> gate(0);
  Go([waiting, gate] {
    Deep(300);
    waiting.Send(1);
    gate.Recv();
  });
  waiting.Recv();
  const uint64_t before = stack::GetRestStats().given_back;
  EXPECT_TRUE(testing::Eventually([&] {
    internal::GiveBackStacks(absl::ZeroDuration());
    return stack::GetRestStats().given_back > before;
  }));
  // What lies on the outer stack counts too.
  const std::vector<GoroutineSnapshot> all = GetGoroutineSnapshots();
  const auto parked = std::find_if(
      all.begin(), all.end(), [](const GoroutineSnapshot& g) { return g.name == "on a segment"; });
  ASSERT_NE(parked, all.end());
  EXPECT_STREQ(parked->stack_mode, "copying");
  EXPECT_EQ(parked->stack_segments, 1u);
  EXPECT_GT(parked->stack_used, 32u << 10);
  EXPECT_LT(parked->stack_used, 128u << 10);
  gate.Send(1);
  parks.gate.Send(1);
  EXPECT_EQ(result.Recv(), 1);
}

__attribute__((noinline)) int64_t ThrowBelow(int64_t n) {
  volatile int64_t mine = n;
  if (n == 0) throw std::runtime_error("thrown");
  return ThrowBelow(n - 1) + mine;
}

TEST(StackGrowthTest, StacksGrowInHandlersToo) {
  testing::ForEachMaxProcs([] {
    testing::RunOnGoroutine([] {
      for (int i = 0; i < 20; ++i) {
        int64_t sum = 0;
        try {
          ThrowBelow(300);
        } catch (const std::runtime_error&) {
          Yield();
          sum = DeepAndYield(5'000);
        }
        EXPECT_EQ(sum, SumTo(5'000));
        EXPECT_EQ(Deep(2'000), SumTo(2'000));
      }
    });
  });
}

}  // namespace
}  // namespace weft
