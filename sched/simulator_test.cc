// What the policies promise, on machines that do not exist.
#include "sched/simulator.h"

#include <numeric>
#include <string>
#include <tuple>

#include "gtest/gtest.h"

namespace weft::simulation {
namespace {

struct Machine {
  int nodes;
  int procs;
};

constexpr int kTasks = 8'000;
constexpr Machine kMachines[] = {{2, 8}, {2, 32}, {4, 16}, {8, 64}, {8, 256}};

Options OptionsFor(const Machine& machine, Policy policy, Load load, uint64_t seed) {
  return {.topology = TwoSockets(machine.nodes, machine.procs / machine.nodes),
          .procs = machine.procs,
          .policy = policy,
          .load = load,
          .seed = seed,
          .tasks = kTasks};
}

class SimulatorTest : public ::testing::TestWithParam<std::tuple<Machine, Load>> {
 protected:
  Result RunWith(Policy policy, uint64_t seed = 1) const {
    return Simulate(OptionsFor(std::get<0>(GetParam()), policy, std::get<1>(GetParam()), seed));
  }
};

std::string NameOf(const ::testing::TestParamInfo<SimulatorTest::ParamType>& info) {
  const auto& [machine, load] = info.param;
  return (load == Load::kTrees ? "Trees" : "Requests") + std::to_string(machine.nodes) + "Nodes" +
         std::to_string(machine.procs) + "Ps";
}

INSTANTIATE_TEST_SUITE_P(Machines, SimulatorTest,
                         ::testing::Combine(::testing::ValuesIn(kMachines),
                                            ::testing::Values(Load::kTrees, Load::kRequests)),
                         NameOf);

TEST_P(SimulatorTest, NoGoroutineIsLeftWhileAPIsIdleAndNobodyLooks) {
  for (const Policy policy : {Policy::kGlobal, Policy::kGpm, Policy::kNuma}) {
    for (uint64_t seed = 1; seed <= 2; ++seed) {
      const Result r = RunWith(policy, seed);
      EXPECT_EQ(r.stranded_nanos, 0);
      // All of them ran, and were counted once.
      EXPECT_NEAR(r.tasks, kTasks, 300);
      EXPECT_EQ(std::accumulate(r.stolen_by_tier.begin(), r.stolen_by_tier.end(), int64_t{0}),
                r.stolen);
    }
  }
}

TEST_P(SimulatorTest, NumaStealsNearWhereGpmStealsAnywhere) {
  const Result gpm = RunWith(Policy::kGpm);
  const Result numa = RunWith(Policy::kNuma);
  const double nodes = std::get<0>(GetParam()).nodes;
  // What a random choice among all would give.
  EXPECT_GT(gpm.FarShare(), 0.7 * (nodes - 1) / nodes);
  EXPECT_LT(numa.FarShare(), gpm.FarShare());
  // Of trees it is a few anyway: a thief gets a branch with all that will grow on it.
  if (std::get<1>(GetParam()) == Load::kRequests) EXPECT_LT(numa.ran_away, gpm.ran_away);
}

TEST_P(SimulatorTest, NumaIsNotSlowerForIt) {
  double gpm = 0;
  double numa = 0;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    gpm += static_cast<double>(RunWith(Policy::kGpm, seed).nanos);
    numa += static_cast<double>(RunWith(Policy::kNuma, seed).nanos);
  }
  EXPECT_LT(numa, 1.02 * gpm);
}

TEST_P(SimulatorTest, TheSameSeedGivesTheSameResult) {
  for (const Policy policy : {Policy::kGpm, Policy::kNuma}) {
    const Result a = RunWith(policy, 7);
    const Result b = RunWith(policy, 7);
    EXPECT_EQ(a.nanos, b.nanos);
    EXPECT_EQ(a.stolen_by_tier, b.stolen_by_tier);
    EXPECT_EQ(a.mean_wait, b.mean_wait);
    EXPECT_NE(a.nanos, RunWith(policy, 8).nanos);
  }
}

// With one node there is nothing that numa could do otherwise.
TEST(SimulatorOneNodeTest, NumaIsGpm) {
  Topology one = TwoSockets(2, 4);
  one.nodes.resize(1);
  one.nodes[0].distances.resize(1);
  for (const Load load : {Load::kTrees, Load::kRequests}) {
    Options options = {.topology = one, .procs = 8, .load = load, .tasks = 10'000};
    const Result gpm = Simulate(options);
    options.policy = Policy::kNuma;
    const Result numa = Simulate(options);
    EXPECT_EQ(gpm.nanos, numa.nanos);
    EXPECT_EQ(gpm.stolen, numa.stolen);
    EXPECT_EQ(gpm.mean_wait, numa.mean_wait);
    EXPECT_EQ(numa.FarShare(), 0);
  }
}

TEST(SimulatorOnePTest, NothingIsStolen) {
  for (const Policy policy : {Policy::kGlobal, Policy::kGpm, Policy::kNuma}) {
    const Result r =
        Simulate({.topology = TwoSockets(2, 1), .procs = 1, .policy = policy, .tasks = 5'000});
    EXPECT_EQ(r.stolen, 0);
    EXPECT_EQ(r.tasks, 5'000);
    EXPECT_EQ(r.stranded_nanos, 0);
  }
}

}  // namespace
}  // namespace weft::simulation
