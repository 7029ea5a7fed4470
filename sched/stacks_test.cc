// Goroutines that give up their slots while they wait, and run on as if nothing had happened.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "chan/chan.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/internal/runtime.h"
#include "sched/snapshot.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "stack/grow.h"
#include "stack/mode.h"
#include "stack/rest.h"
#include "stack/slots.h"
#include "tests/debug_setting.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using stack::GetRestStats;
using stack::RestStats;

// Waits for its turn some frames down, with values on the stack above.
__attribute__((noinline)) int64_t SumBelow(const Chan<int>& gate, int64_t n) {
  if (n == 0) return *gate.Recv();
  const int64_t mine = n * n;
  return SumBelow(gate, n - 1) + mine;
}

constexpr int64_t kDepth = 10;
constexpr int64_t kSquares = kDepth * (kDepth + 1) * (2 * kDepth + 1) / 6;

// Many goroutines wait, and are woken in another order, over and over.
void WaitAndWake(int goroutines, int rounds) {
  testing::RunOnGoroutine([&] {
    std::vector<Chan<int>> gates;
    for (int i = 0; i < goroutines; ++i) gates.emplace_back(0);
    std::vector<int64_t> sums(static_cast<size_t>(goroutines));
    WaitGroup all;
    all.Add(goroutines);
    for (int i = 0; i < goroutines; ++i) {
      Go([&, i] {
        for (int round = 0; round < rounds; ++round) {
          sums[static_cast<size_t>(i)] += SumBelow(gates[static_cast<size_t>(i)], kDepth);
        }
        all.Done();
      });
    }
    for (int round = 0; round < rounds; ++round) {
      for (int i = 0; i < goroutines; ++i) {
        // 7 has no common divisor with the numbers of goroutines used here.
        gates[static_cast<size_t>(int64_t{i} * 7 % goroutines)].Send(round);
      }
    }
    all.Wait();
    const int64_t each = rounds * kSquares + rounds * (rounds - 1) / 2;
    for (const int64_t sum : sums) ASSERT_EQ(sum, each);
  });
}

class StacksTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { SetMaxProcs(GetParam()); }
};

TEST_P(StacksTest, GoroutinesThatWaitRestAndWake) {
  const int goroutines = testing::Rounds(2'000, 200);
  const int rounds = testing::Rounds(10, 4);
  const uint64_t half = static_cast<uint64_t>(goroutines) * static_cast<uint64_t>(rounds) / 2;
  const RestStats before = GetRestStats();
  WaitAndWake(goroutines, rounds);
  const RestStats after = GetRestStats();
  if (!stack::kMayMove) {
    EXPECT_EQ(after.rests, 0u);
    return;
  }
  const char* debug = std::getenv("WEFTDEBUG");
  EXPECT_GT(after.rests - before.rests, half);
  const uint64_t moves = after.moves - before.moves;
  EXPECT_GT(after.wakes_at_home - before.wakes_at_home + moves, half);
  // With one P, home is never taken; unless WEFTDEBUG says that everybody is to move.
  if (GetParam() == 1 && (debug == nullptr || !absl::StrContains(debug, "=always"))) {
    EXPECT_EQ(moves, 0u);
  }
  EXPECT_EQ(after.kept_broken_chain, before.kept_broken_chain);
#ifdef __OPTIMIZE__
  // Else there are copies of locals, by address.
  EXPECT_EQ(after.kept_foreign_frame, before.kept_foreign_frame);
  // Nothing of the runtime's own is on the pinned stack of one that waits.
  EXPECT_GT(after.pinned_returned - before.pinned_returned, half);
#endif
  // A few hundred bytes each; unoptimized code takes more.
  EXPECT_LT((after.bytes_rested - before.bytes_rested) / (after.rests - before.rests), 4'000u);
}

TEST_P(StacksTest, SnapshotsTellWhatAGoroutinesStacksTake) {
  testing::RunOnGoroutine([] {
    // More than there are slots listed.
    const int goroutines = 200 * MaxProcs();
    Chan<int> gate(0);
    WaitGroup all;
    all.Add(goroutines);
    for (int i = 0; i < goroutines; ++i) {
      Go({.name = "deep"}, [&] {
        SumBelow(gate, kDepth);
        all.Done();
      });
    }
    GoroutineSnapshot deep;
    EXPECT_TRUE(testing::Eventually([&] {
      Yield();
      for (const GoroutineSnapshot& g : GetGoroutineSnapshots()) {
        if (g.name != "deep" || g.status != 4) continue;
        deep = g;
        if (!stack::kMayMove || g.stack_rest_bytes != 0) return true;
      }
      return false;
    }));
    EXPECT_STREQ(deep.wait_reason, "chan receive");
    EXPECT_GT(deep.stack_used, kDepth * 2 * sizeof(void*));
    EXPECT_LT(deep.stack_used, 8'192u);
    if (stack::kMayMove) {
      EXPECT_STREQ(deep.stack_mode, "copying");
      EXPECT_EQ(deep.stack_limit, stack::MaxStack());
      EXPECT_GE(deep.stack_rest_bytes, deep.stack_used);
      EXPECT_LT(deep.stack_rest_bytes, deep.stack_used + 64);
    } else {
      EXPECT_STRNE(deep.stack_mode, "copying");
      EXPECT_GT(deep.stack_limit, deep.stack_used);
      EXPECT_EQ(deep.stack_rest_bytes, 0u);
    }
    for (int i = 0; i < goroutines; ++i) gate.Send(1);
    all.Wait();
  });
}

// On the pinned stack, where there is one.
__attribute__((noinline)) void Use(int64_t* locals) { asm volatile("" : : "r"(locals) : "memory"); }

__attribute__((noinline)) int64_t SumByAddress(int64_t n) {
  int64_t locals[8] = {n};
  Use(locals);
  if (n == 0) Yield();
  const int64_t below = n == 0 ? 0 : SumByAddress(n - 1);
  return below + locals[0];
}

TEST_P(StacksTest, AHintIsForLocalsWithAddressesToo) {
  testing::RunOnGoroutine([] {
    // More than the least pinned stack holds; ThreadSanitizer knows of 65,536 frames at most. Where
    // the stack moves at calls each copy is of all that is on it.
    const int64_t frames = testing::HasDebugSetting("stackmove=always") ? 10'000 : 50'000;
    constexpr int kGoroutines = 3;
    Chan<int64_t> sums(0);
    for (int i = 0; i < kGoroutines; ++i) {
      Go({.stack_bytes = 64 << 20}, [sums, frames] {
        Yield();
        sums.Send(SumByAddress(frames));
        sums.Send(SumByAddress(frames));
      });
    }
    for (int i = 0; i < 2 * kGoroutines; ++i) {
      EXPECT_EQ(*sums.Recv(), frames * (frames + 1) / 2);
    }
    // Who asks for nothing does not get what they have left.
    const auto large = static_cast<size_t>(stack::SizeClass::kPinned64MiB);
    EXPECT_TRUE(testing::Eventually([&] {
      Yield();
      return stack::GetStats().classes[large].in_use == 0;
    }));
    const int others = testing::Rounds(500, 100);
    Chan<int> gate(0);
    WaitGroup all;
    all.Add(others);
    for (int i = 0; i < others; ++i) {
      Go([&] {
        int64_t local = 0;
        Use(&local);
        gate.Recv();
        Use(&local);
        all.Done();
      });
    }
    for (int i = 0; i < others; ++i) gate.Send(i);
    EXPECT_EQ(stack::GetStats().classes[large].in_use, 0u);
    all.Wait();
  });
}

TEST(MainStackDeathTest, MainHasAPinnedStackAsLargeAsAThreads) {
  if (!stack::kHasPinnedStack) GTEST_SKIP() << "there are none in this build";
  if (testing::HasDebugSetting("stackgrow=copy")) GTEST_SKIP() << "not where addresses are few";
  // Anew: Main() comes before anything else.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  constexpr int64_t kFrames = 20'000;
  EXPECT_EXIT(Main([] { return SumByAddress(kFrames) == kFrames * (kFrames + 1) / 2 ? 3 : 1; }),
              ::testing::ExitedWithCode(3), "");
}

// Waits with more in use than a slot of 256 KiB has.
__attribute__((noinline)) int64_t WaitDeepBelow(const Chan<int>& gate, int64_t n) {
  volatile int64_t frame[64];
  frame[n & 63] = n;
  const int64_t below = n == 0 ? *gate.Recv() : WaitDeepBelow(gate, n - 1);
  return below + frame[n & 63] - n;
}

std::string AllGoroutines() {
  const int fd = memfd_create("goroutines", 0);
  internal::PrintAllGoroutines(fd);
  std::string text(static_cast<size_t>(lseek(fd, 0, SEEK_END)), ' ');
  EXPECT_EQ(pread(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  close(fd);
  return text;
}

TEST_P(StacksTest, SegmentsCountAsInUse) {
  if (!stack::kHasGuardWord || stack::DefaultSizeClass() == stack::SizeClass::kLarge) {
    GTEST_SKIP() << "stacks do not grow by segments in this build";
  }
  testing::RunOnGoroutine([] {
    constexpr size_t kBytes = 4'000 * 64 * sizeof(int64_t);
    Chan<int> gate(0);
    Chan<int64_t> result(0);
    Go({.name = "deep"}, [=] { result.Send(WaitDeepBelow(gate, 4'000)); });
    GoroutineSnapshot deep;
    EXPECT_TRUE(testing::Eventually([&] {
      Yield();
      for (const GoroutineSnapshot& g : GetGoroutineSnapshots()) {
        if (g.name == "deep") deep = g;
      }
      return deep.status == 4;
    }));
    EXPECT_STREQ(deep.stack_mode, "segmented");
    EXPECT_GE(deep.stack_segments, 1u);
    EXPECT_LE(deep.stack_segments, 4u);
    EXPECT_GE(deep.stack_used, kBytes);
    EXPECT_LT(deep.stack_used, 2 * kBytes);
    EXPECT_EQ(deep.stack_limit, stack::MaxStack());
    EXPECT_TRUE(absl::StrContains(
        AllGoroutines(),
        absl::StrCat("used ", deep.stack_used, ", segments ", deep.stack_segments)))
        << AllGoroutines();
    gate.Send(1);
    EXPECT_EQ(*result.Recv(), 1);
  });
}

TEST_P(StacksTest, WaitingGoroutinesNeedNoSlots) {
  if (!stack::kMayMove) GTEST_SKIP() << "each goroutine has its slot";
  WaitAndWake(20'000, 1);
  const stack::Stats stats = stack::GetStats();
  EXPECT_LT(stats.classes[static_cast<size_t>(stack::SizeClass::kLarge)].made, 1'000u);
  EXPECT_EQ(stats.classes[static_cast<size_t>(stack::SizeClass::k256KiB)].made, 0u);
}

TEST_P(StacksTest, GoroutinesThatWaitInACatchClauseGoOnThere) {
  testing::RunOnGoroutine([] {
    const int goroutines = testing::Rounds(500, 150);
    Chan<int> gate(0);
    Chan<std::string> caught(0);
    for (int i = 0; i < goroutines; ++i) {
      // By value: a value is received before its Send() has returned.
      Go([gate, caught] {
        try {
          throw std::runtime_error("thrown");
        } catch (const std::runtime_error& error) {
          gate.Recv();
          caught.Send(error.what());
        }
      });
    }
    for (int i = 0; i < goroutines; ++i) gate.Send(i);
    for (int i = 0; i < goroutines; ++i) EXPECT_EQ(caught.Recv().value(), "thrown");
  });
  // And afterwards they rest again.
  WaitAndWake(testing::Rounds(500, 150), 2);
}

TEST_P(StacksTest, LocalsThatOthersPointToStayInPlace) {
  testing::RunOnGoroutine([] {
    const int goroutines = testing::Rounds(500, 100);
    Chan<int64_t*> addresses(goroutines);
    Chan<int> gate(0);
    Chan<int64_t> results(0);
    for (int i = 0; i < goroutines; ++i) {
      Go([addresses, gate, results, i] {
        int64_t local = i;
        addresses.Send(&local);
        gate.Recv();
        results.Send(local);
      });
    }
    for (int i = 0; i < goroutines; ++i) *addresses.Recv().value() += 1'000;
    for (int i = 0; i < goroutines; ++i) gate.Send(i);
    int64_t sum = 0;
    for (int i = 0; i < goroutines; ++i) sum += results.Recv().value();
    EXPECT_EQ(sum, goroutines * (goroutines - 1) / 2 + goroutines * 1'000);
  });
}

TEST_P(StacksTest, ManyYieldWhileOthersComeAndGo) {
  testing::RunOnGoroutine([] {
    const int goroutines = testing::Rounds(300, 30);
    WaitGroup all;
    all.Add(goroutines);
    std::vector<int> counts(static_cast<size_t>(goroutines));
    for (int i = 0; i < goroutines; ++i) {
      Go([&, i] {
        for (int n = 0; n < 100; ++n) {
          ++counts[static_cast<size_t>(i)];
          Yield();
          if (n % 10 == 0) {
            all.Add(1);
            Go([&] { all.Done(); });
          }
        }
        all.Done();
      });
    }
    all.Wait();
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0), goroutines * 100);
  });
}

TEST_P(StacksTest, ChangesOfTheNumberOfProcsMoveResidents) {
  testing::RunOnGoroutine([] {
    constexpr int kGoroutines = 200;
    Chan<int> gate(0);
    WaitGroup all;
    all.Add(kGoroutines);
    for (int i = 0; i < kGoroutines; ++i) {
      Go([&] {
        for (int n = 0; n < 5; ++n) gate.Recv();
        all.Done();
      });
    }
    for (int i = 0; i < 5 * kGoroutines; ++i) {
      if (i % 50 == 0) SetMaxProcs(1 + i / 50 % 4);
      gate.Send(i);
    }
    all.Wait();
  });
}

TEST_P(StacksTest, ProtocolHoldsUnderDelays) {
  internal::EnableRandomDelays(static_cast<uint64_t>(GetParam()));
  WaitAndWake(testing::Rounds(200, 100), testing::Rounds(10, 4));
  internal::SetDelayHook(nullptr);
}

// --- WEFTDEBUG=stackgrow=auto ---

__attribute__((noinline)) int64_t Deep(int64_t n) {
  volatile int64_t mine = n;
  const int64_t below = n == 0 ? 0 : Deep(n - 1);
  return below + mine;
}

// Says, in a process of its own, how a stack that is to get large does so.
[[noreturn]] void GrowIn(rlim_t address_space) {
  if (address_space != RLIM_INFINITY) {
    const rlimit limit = {.rlim_cur = address_space, .rlim_max = address_space};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(1);
  }
  const stack::Growth growth = stack::StackGrowth();
  bool right = false;
  testing::RunOnGoroutine([&] {
    Chan<int64_t> results(0);
    constexpr int64_t kFrames = 20'000;
    Go([results] { results.Send(Deep(kFrames)); });
    right = results.Recv() == kFrames * (kFrames + 1) / 2;
  });
  std::fprintf(stderr, "%s, %s, %s\n", growth == stack::Growth::kCopy ? "copy" : "in place",
               stack::GetGrowStats().growths > 0 ? "grown" : "not grown",
               right ? "right" : "wrong");
  _exit(0);
}

class StackGrowAutoDeathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!stack::kMayMove) GTEST_SKIP() << "stacks do not move in this build";
    rlimit limit{};
    getrlimit(RLIMIT_AS, &limit);
    if (limit.rlim_cur != RLIM_INFINITY) GTEST_SKIP() << "address space is limited already";
    std::ifstream overcommit("/proc/sys/vm/overcommit_memory");
    int mode = 0;
    if (overcommit >> mode && mode == 2) GTEST_SKIP() << "commit is limited";
    const char* debug = std::getenv("WEFTDEBUG");
    if (debug != nullptr && absl::StrContains(debug, "stackgrow")) GTEST_SKIP() << debug;
    // Anew: this process has slots already.
    GTEST_FLAG_SET(death_test_style, "threadsafe");
  }
};

TEST_F(StackGrowAutoDeathTest, ByCopyingWhereAddressesAreLimited) {
  EXPECT_EXIT(GrowIn(rlim_t{4} << 30), ::testing::ExitedWithCode(0), "^copy, grown, right\n$");
}

TEST_F(StackGrowAutoDeathTest, InPlaceWhereTheyAreNot) {
  EXPECT_EXIT(GrowIn(RLIM_INFINITY), ::testing::ExitedWithCode(0),
              "^in place, not grown, right\n$");
}

INSTANTIATE_TEST_SUITE_P(Procs, StacksTest, ::testing::ValuesIn(testing::AllInTurn({1, 2, 4})));

}  // namespace
}  // namespace weft
