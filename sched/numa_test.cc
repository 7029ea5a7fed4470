// The policy `numa`: who belongs where, which processors threads run on, and that the program's own
// choice of them is respected.
#include <errno.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/goroutine.h"
#include "sched/internal/thread.h"
#include "sched/runtime.h"
#include "sched/snapshot.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "sched/topology.h"
#include "sched/waiter.h"
#include "stack/slots.h"
#include "tests/debug_setting.h"
#include "tests/rounds.h"
#include "tests/subprocess.h"

namespace weft {
namespace {

using testing::Eventually;
using testing::HasDebugSetting;
using testing::ProcessResult;
using testing::Rounds;
using testing::RunOnGoroutine;
using testing::RunProcess;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr absl::string_view kFourNodes =
    "node 0 cpus 0-1 distances 10 12 32 32\n"
    "node 1 cpus 2-3 distances 12 10 32 32\n"
    "node 2 cpus 4-5 distances 32 32 10 12\n"
    "node 3 cpus 6 distances 32 32 12 10\n";

void Use(const RuntimeOptions& options) {
  ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  ASSERT_EQ(Runtime::Start(options), absl::OkStatus());
}

std::vector<int> NodesOfPs() {
  std::vector<int> nodes;
  for (const ProcSnapshot& proc : GetSchedSnapshot().procs) nodes.push_back(proc.node);
  return nodes;
}

// Of the calling thread.
std::vector<int> Affinity() {
  cpu_set_t set;
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

void SetAffinity(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
}

class NumaTest : public ::testing::Test {
 protected:
  ~NumaTest() override {
    EXPECT_EQ(Runtime::Drain(kLong), absl::OkStatus());
    Use({.policy = Policy::kGpm});
  }
};

TEST_F(NumaTest, PsAreDealtToNodesHoweverManyThereAre) {
  Use({.max_procs = 7, .policy = Policy::kNuma, .topology = kFourNodes});
  EXPECT_EQ(GetSchedSnapshot().nodes, 4);
  EXPECT_EQ(NodesOfPs(), (std::vector<int>{0, 1, 2, 0, 1, 2, 3}));
  SetMaxProcs(3);
  EXPECT_EQ(GetSchedSnapshot().nodes, 3);
  EXPECT_EQ(NodesOfPs(), (std::vector<int>{0, 1, 2}));
  SetMaxProcs(1);
  EXPECT_EQ(GetSchedSnapshot().nodes, 1);
  SetMaxProcs(8);
  EXPECT_EQ(NodesOfPs(), (std::vector<int>{0, 1, 2, 0, 1, 2, 3, 0}));
  // The topology stays, the policy goes.
  Use({.policy = Policy::kGpm});
  EXPECT_EQ(GetSchedSnapshot().nodes, 1);
  EXPECT_EQ(NodesOfPs(), std::vector<int>(8, 0));
  Use({.policy = Policy::kNuma});
  EXPECT_EQ(GetSchedSnapshot().nodes, 4);
}

TEST_F(NumaTest, ATopologyThatMakesNoSenseIsRefused) {
  ASSERT_EQ(Runtime::Stop(kLong), absl::OkStatus());
  const absl::Status status =
      Runtime::Start({.policy = Policy::kNuma, .topology = "node 0 cpus 0-"});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "line 1: '0-' is not")) << status;
  EXPECT_FALSE(Runtime::IsRunning());
}

// What a ring has no room for waits in the node's queue, and all of it runs.
TEST_F(NumaTest, NodesQueuesAreServed) {
  Use({.max_procs = 4, .policy = Policy::kNuma, .topology = kFourNodes});
  for (int i = 0; i < Rounds(20, 2); ++i) {
    constexpr int kTasks = 3000;
    WaitGroup all;
    all.Add(kTasks);
    std::atomic<int> most_queued{0};
    std::atomic<int> held{0};
    std::atomic<bool> made{false};
    // The other Ps are held meanwhile, as these would take what is made as fast as it is.
    for (int n = 0; n < 3; ++n) {
      Go([&] {
        const internal::RuntimeSection section;
        held.fetch_add(1);
        while (!made.load()) {
        }
        held.fetch_sub(1);
      });
    }
    RunOnGoroutine([&] {
      while (held.load() < 3) Yield();
      const internal::RuntimeSection section;
      for (int n = 0; n < kTasks; ++n) {
        Go([&] { all.Done(); });
        if (n % 500 == 499) {
          most_queued = std::max(most_queued.load(), GetSchedSnapshot().global_queue_size);
        }
      }
      made.store(true);
    });
    all.Wait();
    EXPECT_TRUE(Eventually([&] { return held.load() == 0; }));
    EXPECT_GT(most_queued.load(), 0);
    EXPECT_TRUE(Eventually([] {
      const SchedSnapshot s = GetSchedSnapshot();
      return s.global_queue_size == 0 && s.idle_procs == 4;
    }));
  }
}

// Work that one P has is run by all, in whatever node.
TEST_F(NumaTest, FarPsHelpWhereTheNearOnesAreBusy) {
  Use({.max_procs = 7, .policy = Policy::kNuma, .topology = kFourNodes});
  const uint64_t before = GetSchedSnapshot().far_steals;
  RunOnGoroutine([&] {
    WaitGroup all;
    constexpr int kTasks = 7;
    std::atomic<int> arrived{0};
    all.Add(kTasks);
    for (int i = 0; i < kTasks; ++i) {
      Go([&] {
        // All at once, so on seven Ps.
        arrived.fetch_add(1);
        while (arrived.load() < kTasks) std::this_thread::yield();
        all.Done();
      });
    }
    all.Wait();
  });
  EXPECT_GT(GetSchedSnapshot().far_steals, before);
}

// The tests below bind threads to one of two processors that there are.
class TwoCpuTest : public NumaTest {
 protected:
  void SetUp() override {
    cpus_ = AllowedCpus();
    if (cpus_.size() < 2) GTEST_SKIP() << "one processor";
    topology_ =
        absl::StrCat("node 0 cpus ", cpus_[0], "\nnode 1 cpus ", cpus_[1], "\nnode 2 cpus 4000");
    Use({.max_procs = 2, .policy = Policy::kNuma, .topology = topology_});
    ASSERT_EQ(GetSchedSnapshot().nodes, 2);
  }

  bool IsANodes(const std::vector<int>& affinity) const {
    return affinity.size() == 1 && (affinity[0] == cpus_[0] || affinity[0] == cpus_[1]);
  }

  std::vector<int> cpus_;
  std::string topology_;
};

TEST_F(TwoCpuTest, ThreadsRunOnTheProcessorsOfTheirNode) {
  std::atomic<int> seen[2] = {};
  bool first = true;
  EXPECT_TRUE(Eventually([&] {
    std::atomic<int> arrived{0};
    WaitGroup all;
    all.Add(2);
    for (int i = 0; i < 2; ++i) {
      Go([&] {
        // On both Ps at once.
        arrived.fetch_add(1);
        while (arrived.load() < 2) std::this_thread::yield();
        const std::vector<int> affinity = Affinity();
        EXPECT_TRUE(IsANodes(affinity));
        EXPECT_EQ(sched_getcpu(), affinity[0]);
        const int node = affinity[0] == cpus_[0] ? 0 : 1;
        seen[node].fetch_add(1);
        // They are the first to run: nobody else has left a slot.
        if (first && !HasDebugSetting("stackmove=always"))
          EXPECT_EQ(stack::FindSlot(__builtin_frame_address(0))->place, node);
        all.Done();
      });
    }
    all.Wait();
    first = false;
    return seen[0].load() > 0 && seen[1].load() > 0;
  }));
  // As long as there are several nodes.
  EXPECT_EQ(Affinity(), cpus_);
  SetMaxProcs(1);
  EXPECT_TRUE(Eventually([&] {
    std::vector<int> affinity;
    RunOnGoroutine([&] { affinity = Affinity(); });
    return affinity == cpus_;
  }));
  SetMaxProcs(2);
}

TEST_F(TwoCpuTest, NodesWithoutProcessorsOfThisMachineRunAnywhere) {
  SetMaxProcs(3);
  ASSERT_EQ(GetSchedSnapshot().nodes, 3);
  EXPECT_TRUE(Eventually([&] {
    std::atomic<int> arrived{0};
    std::atomic<int> anywhere{0};
    WaitGroup all;
    all.Add(3);
    for (int i = 0; i < 3; ++i) {
      Go([&] {
        arrived.fetch_add(1);
        while (arrived.load() < 3) std::this_thread::yield();
        if (Affinity() == cpus_) anywhere.fetch_add(1);
        all.Done();
      });
    }
    all.Wait();
    return anywhere.load() == 1;
  }));
}

TEST_F(TwoCpuTest, AThreadThatIsLockedIsTheGoroutines) {
  for (int i = 0; i < 20; ++i) {
    RunOnGoroutine([&] {
      EXPECT_TRUE(IsANodes(Affinity()));
      LockOSThread();
      EXPECT_EQ(Affinity(), cpus_);
      // Wherever it gets a P.
      for (int n = 0; n < 5; ++n) {
        Sleep(absl::Microseconds(100));
        EXPECT_EQ(Affinity(), cpus_);
      }
      SetAffinity(cpus_[i % 2]);
      for (int n = 0; n < 5; ++n) {
        Sleep(absl::Microseconds(100));
        EXPECT_EQ(Affinity(), (std::vector<int>{cpus_[i % 2]}));
      }
      // And dies with it.
    });
  }
}

TEST_F(TwoCpuTest, WhatTheProgramChoosesStays) {
  SetMaxProcs(3);
  int met = 0;
  EXPECT_TRUE(Eventually([&] {
    RunOnGoroutine([&] {
      // What the scheduler would not choose for any P. Threads are many and some may sleep for
      // good: so it is this one's choice, and it is seen when the same thread gets the goroutine
      // again.
      LockOSThread();
      const int thread = gettid();
      SetAffinity(cpus_[0]);
      UnlockOSThread();
      for (int n = 0; n < 5; ++n) {
        Sleep(absl::Microseconds(50));
        if (gettid() != thread) continue;
        EXPECT_EQ(Affinity(), (std::vector<int>{cpus_[0]}));
        ++met;
      }
    });
    return met > 20;
  }));
}

TEST_F(TwoCpuTest, AChildOfForkRunsAnywhere) {
  int status = -1;
  RunOnGoroutine([&] {
    EXPECT_TRUE(IsANodes(Affinity()));
    const pid_t child = fork();
    if (child == 0) _exit(Affinity() == cpus_ ? 0 : 1);
    BlockingSection section;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
  });
  EXPECT_EQ(status, 0);
}

TEST(NumaProgramTest, TheEnvironmentChoosesPolicyAndTopology) {
  const std::string program = "sched/numa_program";
  const std::string topology = "WEFTTOPOLOGY=node 0 cpus 0-3; node 3 cpus 4-7";
  EXPECT_EQ(RunProcess({program}, {.env = {topology, "WEFTMAXPROCS=5"}}).out, "1 nodes\n");
  const ProcessResult two =
      RunProcess({program}, {.env = {topology, "WEFTMAXPROCS=5", "WEFTDEBUG=sched=numa"}});
  EXPECT_EQ(two.out, "2 nodes\n") << two.err;
  EXPECT_EQ(two.exit_status, 0);
  const ProcessResult bad = RunProcess(
      {program}, {.env = {"WEFTTOPOLOGY=node", "WEFTDEBUG=sched=numa", "WEFTMAXPROCS=2"}});
  EXPECT_EQ(bad.exit_status, 2);
  EXPECT_EQ(bad.err,
            "WEFTTOPOLOGY: topology, line 1: not 'node N cpus LIST' or the same with 'distances N "
            "...'\n");
}

// The number of Ps follows the affinity of the program's first thread, which is left alone.
TEST(NumaProgramTest, TheFirstThreadIsNotBound) {
  if (!testing::IsTurn("TheFirstThreadIsNotBound", 8)) GTEST_SKIP() << "another one's turn";
  const std::vector<int> cpus = AllowedCpus();
  if (cpus.size() < 2) GTEST_SKIP() << "one processor";
  const std::string topology =
      absl::StrCat("WEFTTOPOLOGY=node 0 cpus ", cpus[0], "; node 1 cpus ", cpus[1]);
  const ProcessResult result = RunProcess({"sched/threads_program", "follow-affinity"},
                                          {.env = {topology, "WEFTDEBUG=sched=numa"}});
  EXPECT_EQ(result.out, "OK\n") << result.err;
  EXPECT_EQ(result.exit_status, 0);
}

}  // namespace
}  // namespace weft
