// BlockingSection and the lease behind it: a goroutine that blocks its thread holds nobody up.
// Where the kernel refuses membarrier the same tests run again (lease_without_membarrier_test).
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/delay.h"
#include "sched/internal/runtime.h"
#include "sched/internal/thread.h"
#include "sched/snapshot.h"
#include "sched/testing.h"
#include "sched/waiter.h"
#include "stack/context.h"
#include "stack/internal/stacks_lock.h"
#include "tests/debug_setting.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::AllInTurn;
using testing::Eventually;
using testing::ForEachMaxProcs;
using testing::HasDebugSetting;
using testing::Rounds;
using testing::RunOnGoroutine;

class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe2(fds_, O_CLOEXEC), 0); }
  ~Pipe() {
    close(fds_[0]);
    close(fds_[1]);
  }
  // Blocks the thread until Write().
  void Read() {
    char byte;
    EXPECT_EQ(read(fds_[0], &byte, 1), 1);
  }
  void Write() { EXPECT_EQ(write(fds_[1], "x", 1), 1); }

 private:
  int fds_[2];
};

class LeaseTest : public ::testing::TestWithParam<BlockingSection::Expect> {};

// The section is open until the others have done their work: with one P, only a P that was handed
// on lets them.
TEST_P(LeaseTest, OthersRunWhileOneBlocks) {
  ForEachMaxProcs([] {
    Pipe pipe;
    std::atomic<bool> blocking{false};
    std::atomic<bool> back{false};
    Go([&] {
      BlockingSection section(GetParam());
      blocking.store(true);
      pipe.Read();
      back.store(true);
    });
    ASSERT_TRUE(Eventually([&] { return blocking.load(); }));
    for (int i = 0; i < 20; ++i) {
      RunOnGoroutine([] {
        Yield();
        Sleep(absl::Microseconds(10));
      });
    }
    EXPECT_FALSE(back.load());
    pipe.Write();
    EXPECT_TRUE(Eventually([&] { return back.load(); }));
  });
}

TEST_P(LeaseTest, AllBlockAtOnce) {
  ForEachMaxProcs([] {
    constexpr int kCount = 20;
    Pipe pipe;
    std::atomic<int> blocking{0};
    std::atomic<int> left{kCount};
    for (int i = 0; i < kCount; ++i) {
      Go([&] {
        {
          BlockingSection section(GetParam());
          blocking.fetch_add(1);
          pipe.Read();
        }
        Yield();
        left.fetch_sub(1);
      });
    }
    // All of them are in the read at once, however few Ps there are.
    ASSERT_TRUE(Eventually([&] { return blocking.load() == kCount; }));
    for (int i = 0; i < kCount; ++i) pipe.Write();
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  });
}

// After an inner section the outer one still counts.
TEST_P(LeaseTest, SectionsNest) {
  ForEachMaxProcs([] {
    Pipe pipe;
    std::atomic<bool> blocking{false};
    std::atomic<bool> back{false};
    Go([&] {
      BlockingSection outer(GetParam());
      {
        BlockingSection inner(BlockingSection::Expect::kShort);
      }
      {
        BlockingSection inner(BlockingSection::Expect::kLong);
      }
      {
        BlockingSection inner(BlockingSection::Expect::kLong);
        {
          BlockingSection innermost;
        }
      }
      blocking.store(true);
      pipe.Read();
      back.store(true);
    });
    ASSERT_TRUE(Eventually([&] { return blocking.load(); }));
    for (int i = 0; i < 5; ++i) RunOnGoroutine([] { Yield(); });
    EXPECT_FALSE(back.load());
    pipe.Write();
    EXPECT_TRUE(Eventually([&] { return back.load(); }));
  });
}

// The runtime may be used inside a section: the goroutine gets a P for that, and blocks on.
TEST_P(LeaseTest, TheRuntimeWorksInside) {
  ForEachMaxProcs([] {
    Pipe pipe;
    std::atomic<int> stage{0};
    std::atomic<int> spawned{0};
    Go([&] {
      BlockingSection section(GetParam());
      Yield();
      Sleep(absl::Microseconds(100));
      Go([&] { spawned.fetch_add(1); });
      Waiter::Current()->Unpark();
      Waiter::Current()->Park(WaitReason::kSelect);
      stage.store(1);
      pipe.Read();
      stage.store(2);
    });
    ASSERT_TRUE(Eventually([&] { return stage.load() == 1 && spawned.load() == 1; }));
    for (int i = 0; i < 5; ++i) RunOnGoroutine([] { Yield(); });
    EXPECT_EQ(stage.load(), 1);
    pipe.Write();
    EXPECT_TRUE(Eventually([&] { return stage.load() == 2; }));
  });
}

// The runtime is used inside a section, for long, and work waits: the monitor asks for each P, and
// is refused.
TEST_P(LeaseTest, NobodyTakesAPFromInsideTheRuntime) {
  ForEachMaxProcs([] {
    const int procs = MaxProcs();
    std::atomic<int> inside{0};
    std::atomic<int> asked{0};
    std::atomic<int> left{procs};
    std::atomic<bool> leave{false};
    for (int i = 0; i < procs; ++i) {
      Go([&] {
        {
          BlockingSection section(GetParam());
          const internal::RuntimeSection runtime;
          inside.fetch_add(1);
          // Lowest bit: somebody wants its P.
          const std::atomic<uint32_t>& attention = internal::ThisThread()->attn;
          for (bool seen = false; !leave.load();) {
            if (!seen && (attention.load() & 1) != 0) {
              seen = true;
              asked.fetch_add(1);
            }
            std::this_thread::sleep_for(std::chrono::microseconds(100));
          }
        }
        left.fetch_sub(1);
      });
    }
    ASSERT_TRUE(Eventually([&] { return inside.load() == procs; }));
    std::atomic<bool> ran{false};
    Go([&] { ran.store(true); });
    EXPECT_TRUE(Eventually([&] { return asked.load() == procs; }));
    // Rounds of the monitor.
    std::this_thread::sleep_for(std::chrono::milliseconds(Rounds(30, 10)));
    EXPECT_FALSE(ran.load()) << "on a P whose holder is inside the runtime";
    for (const ProcSnapshot& proc : GetSchedSnapshot().procs) EXPECT_GE(proc.m, 0);
    leave.store(true);
    EXPECT_TRUE(Eventually([&] { return ran.load() && left.load() == 0; }));
  });
}

// Thousands of short sections against the monitor, which takes Ps back, and against each other.
TEST_P(LeaseTest, ThousandsOfShortOnesRace) {
  for (const bool delays : AllInTurn({false, true})) {
    if (delays) internal::EnableRandomDelays(23);
    ForEachMaxProcs([delays] {
      constexpr int kGoroutines = 8;
      const int rounds = delays ? Rounds(200) : Rounds(2'000, 60);
      // What a P's holder does between entries must look as if no other held that P.
      std::atomic<int> left{kGoroutines};
      std::atomic<long> total{0};
      for (int g = 0; g < kGoroutines; ++g) {
        Go([&, g] {
          std::mt19937 random(static_cast<unsigned>(g));
          for (int i = 0; i < rounds; ++i) {
            {
              BlockingSection section(GetParam());
              if (random() % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(60));
            }
            total.fetch_add(1);
            if (random() % 16 == 0) Yield();
            if (random() % 64 == 0) Sleep(absl::Microseconds(20));
          }
          left.fetch_sub(1);
        });
      }
      EXPECT_TRUE(Eventually([&] { return left.load() == 0; }, absl::Seconds(120)));
      EXPECT_EQ(total.load(), long{kGoroutines} * rounds);
    });
    internal::SetDelayHook(nullptr);
  }
}

INSTANTIATE_TEST_SUITE_P(Expect, LeaseTest,
                         ::testing::Values(BlockingSection::Expect::kShort,
                                           BlockingSection::Expect::kLong));

// With one P, and work that waits already: it runs long before a time slice is over.
TEST(LeaseLatencyTest, WaitingWorkGetsThePSoon) {
  SetMaxProcs(1);
  for (const auto expect : {BlockingSection::Expect::kShort, BlockingSection::Expect::kLong}) {
    // Of all tries the best counts: others use this machine too, and more than twenty are made only
    // where they leave it little.
    absl::Duration best = absl::InfiniteDuration();
    const Instant limit = Instant::Now() + absl::Seconds(60);
    for (int i = 0; i < 20 || (best >= absl::Milliseconds(5) && Instant::Now() < limit); ++i) {
      Pipe pipe;
      std::atomic<int64_t> ran{0};
      RunOnGoroutine([&] {
        Go([&] { ran.store(Instant::Now().nanos()); });
        const Instant start = Instant::Now();
        std::thread writer;
        {
          BlockingSection section(expect);
          writer = std::thread([&] {
            Eventually([&] { return ran.load() != 0; });
            pipe.Write();
          });
          pipe.Read();
          writer.join();
        }
        best = std::min(best, Instant::FromNanos(ran.load()) - start);
      });
    }
    EXPECT_LT(best, absl::Milliseconds(5));
  }
}

// SC-20: goroutines in short sections take turns, and all of them come to their end.
TEST(LeaseTurnsTest, GoroutinesInShortSectionsTakeTurns) {
  SetMaxProcs(2);
  for (const int microseconds : {10, 100, 1'000}) {
    for (int round = 0; round < Rounds(5); ++round) {
      const Instant start = Instant::Now();
      std::atomic<bool> stop{false};
      std::atomic<int> started{0};
      std::atomic<int> left{8};
      for (int i = 0; i < 8; ++i) {
        Go([&, microseconds] {
          started.fetch_add(1);
          while (!stop.load()) {
            BlockingSection section;
            std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
          }
          left.fetch_sub(1);
        });
      }
      ASSERT_TRUE(Eventually([&] { return started.load() == 8; }));
      stop.store(true);
      ASSERT_TRUE(Eventually([&] { return left.load() == 0; }));
      EXPECT_LT(Instant::Now() - start, absl::Seconds(30));
    }
  }
}

TEST(LeaseOnThreadsTest, SectionsDoNothing) {
  BlockingSection section;
  BlockingSection inner(BlockingSection::Expect::kLong);
}

// A function that has a frame, and so looks at the guard word when it is called.
__attribute__((noinline)) bool IsSet(const std::atomic<bool>& flag, int depth) {
  volatile int at = depth;
  if (depth == 0) return flag.load();
  const bool set = IsSet(flag, depth - 1);
  return set && at > 0;
}

// At the end of a slice, in a function call. Where the code does not look there, its P is taken.
TEST(LeaseSliceTest, WhoOnlyCallsFunctionsGivesWayInPlace) {
  if (HasDebugSetting("stackmove=always")) {
    GTEST_SKIP() << "each call is a system call too, in which a P may be taken";
  }
  for (const int procs : {1, 2}) {
    SetMaxProcs(procs);
    const LeaseCounts before = GetSchedSnapshot().leases;
    std::atomic<bool> stop{false};
    int started = 0;
    std::atomic<int> begun{0};
    std::atomic<int> left{0};
    const auto start = [&] {
      ++started;
      left.fetch_add(1);
      Go([&] {
        begun.fetch_add(1);
        while (!IsSet(stop, 5)) {
        }
        left.fetch_sub(1);
      });
    };
    LeaseCounts now;
    EXPECT_TRUE(Eventually([&] {
      // Somebody always waits, also where a thread that has to wait for a processor for long was
      // taken for one that sleeps, and has lost its P that way.
      if (started < procs + 2 || (begun.load() == started && started < 100)) start();
      now = GetSchedSnapshot().leases;
      return stack::kHasGuardWord ? now.yielded_in_place > before.yielded_in_place + 2
                                  : now.taken_slice > before.taken_slice;
    })) << started
        << " started; taken: " << now.taken_slice << ", of sleepers " << now.taken_asleep
        << ", asked " << now.asked << ", refused " << now.refused;
    stop.store(true);
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  }
}

// Calls functions on a goroutine that another one waits for, until it has been asked to give way
// and for some time after that; it must not give way meanwhile. (Before and after it may.)
void StayUntilAsked() {
  const std::atomic<uint64_t>& asked = internal::sched.leases.asked;
  const std::atomic<uint64_t>& yielded = internal::sched.leases.yielded_in_place;
  const uint64_t before = asked.load();
  const uint64_t yielded_before = yielded.load();
  const Instant limit = Instant::Now() + absl::Seconds(30);
  const std::atomic<bool> never{false};
  while (asked.load() == before && Instant::Now() < limit) IsSet(never, 5);
  EXPECT_GT(asked.load(), before);
  const Instant end = Instant::Now() + absl::Milliseconds(20);
  while (Instant::Now() < end) IsSet(never, 5);
  EXPECT_EQ(yielded.load(), yielded_before);
}

// What a goroutine does that is asked to give way where it must not.
class LeaseStayTest : public ::testing::Test {
 protected:
  static void OnItsGoroutine(void (*stay)()) {
    if (!stack::kHasGuardWord) GTEST_SKIP() << "no function asks";
    if (HasDebugSetting("stackmove=always")) {
      GTEST_SKIP() << "each call is a system call too, in which a P may be taken";
    }
    SetMaxProcs(1);
    RunOnGoroutine([&] {
      std::atomic<bool> other_ran{false};
      Go([&other_ran] { other_ran.store(true); });
      stay();
      while (!other_ran.load()) Yield();
    });
  }
};

TEST_F(LeaseStayTest, WithALockOfTheStacks) {
  OnItsGoroutine([] {
    static stack::internal::StacksLock lock;
    const std::lock_guard<stack::internal::StacksLock> hold(lock);
    StayUntilAsked();
  });
}

TEST_F(LeaseStayTest, InASignalHandler) {
  struct sigaction action{};
  action.sa_handler = [](int) { StayUntilAsked(); };
  struct sigaction previous;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &previous), 0);
  OnItsGoroutine([] { raise(SIGUSR1); });
  sigaction(SIGUSR1, &previous, nullptr);
}

// When a section ends and every P is taken, the goroutine waits for one instead of running beside.
TEST(LeaseReturnTest, NeverMoreRunThanThereArePs) {
  for (const int procs : AllInTurn({1, 2})) {
    SetMaxProcs(procs);
    // Those inside the runtime at once, counted between two entries, cannot exceed the Ps. What can
    // be seen from outside: a goroutine between Yield() calls holds a P, unless it was revoked.
    std::atomic<int> left{6};
    std::atomic<bool> stop{false};
    for (int g = 0; g < 6; ++g) {
      Go([&] {
        while (!stop.load()) {
          {
            BlockingSection section;
          }
          Yield();
        }
        left.fetch_sub(1);
      });
    }
    for (int i = 0; i < Rounds(200); ++i) {
      const SchedSnapshot snapshot = GetSchedSnapshot();
      int running = 0;
      for (const ProcSnapshot& proc : snapshot.procs) running += proc.m >= 0 ? 1 : 0;
      EXPECT_LE(running, procs);
      EXPECT_LE(running + snapshot.idle_procs, procs);
      std::this_thread::yield();
    }
    stop.store(true);
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  }
}

}  // namespace
}  // namespace weft
