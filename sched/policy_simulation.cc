// Prints what the policies do on machines that do not exist: how far goroutines are stolen from,
// and how long they wait.
//
//   bazel run -c opt //sched:policy_simulation                 # the tables of README.md
//   bazel run -c opt //sched:policy_simulation -- --topology="node 0 cpus 0-15; node 1 cpus 16-31"
#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_cat.h"
#include "sched/simulator.h"
#include "sched/topology.h"

ABSL_FLAG(std::string, topology, "",
          "the machine, as sched/topology.h has it; without it several, of two sockets");
ABSL_FLAG(int, procs, 0, "Ps; 0: as many as the machine has processors");
ABSL_FLAG(int, tasks, 200'000, "goroutines in each run, about");
ABSL_FLAG(int, seeds, 3, "runs, with the seeds 1 to this; the tables have the means");
ABSL_FLAG(double, work, 20'000, "nanoseconds that a goroutine runs, on average");
ABSL_FLAG(double, memory, 0.3, "of which so much is spent on its memory, where that is near");
ABSL_FLAG(double, busy, 0.7, "of the Ps' time, that requests keep them busy if all memory is near");

namespace {

using weft::Policy;
using weft::Topology;
using weft::simulation::Load;
using weft::simulation::Options;
using weft::simulation::Result;

const char* NameOf(Policy policy) {
  switch (policy) {
    case Policy::kGlobal:
      return "global";
    case Policy::kGpm:
      return "gpm";
    case Policy::kNuma:
      return "numa";
  }
  return "";
}

// The mean of something over all runs.
template <typename Fn>
double Mean(const std::vector<Result>& results, Fn of) {
  double sum = 0;
  for (const Result& result : results) sum += of(result);
  return sum / static_cast<double>(results.size());
}

// Of all that were stolen, what came from the nodes of this tier and, `beyond`, all farther ones.
double Share(const Result& r, size_t tier, bool beyond) {
  double sum = 0;
  for (size_t i = tier; i < r.stolen_by_tier.size() && (i == tier || beyond); ++i) {
    sum += static_cast<double>(r.stolen_by_tier[i]);
  }
  return r.stolen == 0 ? 0 : 100 * sum / static_cast<double>(r.stolen);
}

void PrintRow(Options options) {
  std::vector<Result> results;
  const int seeds = absl::GetFlag(FLAGS_seeds);
  for (int seed = 1; seed <= seeds; ++seed) {
    options.seed = static_cast<uint64_t>(seed);
    results.push_back(Simulate(options));
  }
  constexpr double kMicros = 1e-3;
  constexpr double kMillis = 1e-6;
  const auto mean = [&](auto of) { return Mean(results, of); };
  const double tasks = mean([](const Result& r) { return r.tasks; });
  std::printf(
      "| %zu | %d | %s | %.1f | %.0f %% | %.1f | %.0f / %.0f / %.0f %% | %.0f %% | %.1f | %.0f | "
      "%.2f |\n",
      options.topology.nodes.size(), options.procs, NameOf(options.policy),
      kMillis * mean([](const Result& r) { return r.nanos; }),
      100 * mean([](const Result& r) { return r.busy; }),
      100 * mean([](const Result& r) { return r.stolen; }) / tasks,
      mean([](const Result& r) { return Share(r, 0, false); }),
      mean([](const Result& r) { return Share(r, 1, false); }),
      mean([](const Result& r) { return Share(r, 2, true); }),
      100 * mean([](const Result& r) { return r.ran_away; }) / tasks,
      kMicros * mean([](const Result& r) { return r.mean_wait; }),
      kMicros * mean([](const Result& r) { return r.p99_wait; }),
      kMicros * mean([](const Result& r) { return r.mean_lock_wait; }));
}

struct Machine {
  Topology topology;
  int procs;
};

void PrintTable(const char* title, Load load, const std::vector<Machine>& machines) {
  std::printf(
      "\n%s\n\n"
      "| nodes | Ps | policy | ms | Ps busy | stolen, %% | of these by distance | ran away | wait, "
      "us | p99 | lock, us |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
      title);
  for (const Machine& machine : machines) {
    for (const Policy policy : {Policy::kGlobal, Policy::kGpm, Policy::kNuma}) {
      PrintRow({.topology = machine.topology,
                .procs = machine.procs,
                .policy = policy,
                .load = load,
                .tasks = absl::GetFlag(FLAGS_tasks),
                .busy = absl::GetFlag(FLAGS_busy),
                .work = absl::GetFlag(FLAGS_work),
                .memory = absl::GetFlag(FLAGS_memory)});
    }
  }
}

int CpusOf(const Topology& topology) {
  size_t cpus = 0;
  for (const Topology::Node& node : topology.nodes) cpus += node.cpus.size();
  return static_cast<int>(cpus);
}

}  // namespace

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "simulates the scheduler's policies on machines that do not exist\n\n"
      "Columns: how long all of it took; how much of the Ps' time goroutines ran; how many of them "
      "were taken from another P's or node's queue, and of these, how many from the own node, the "
      "nearest others, and all farther ones; how many ran in another node than where they were "
      "started; how long they waited, on average and all but one of a hundred; and how long Ps "
      "waited for locks of queues, per goroutine.");
  absl::ParseCommandLine(argc, argv);
  std::vector<Machine> machines;
  if (const std::string text = absl::GetFlag(FLAGS_topology); !text.empty()) {
    const absl::StatusOr<Topology> topology = weft::ParseTopology(text);
    if (!topology.ok()) {
      std::fprintf(stderr, "--topology: %s\n", std::string(topology.status().message()).c_str());
      return 2;
    }
    machines.push_back({*topology, CpusOf(*topology)});
  } else {
    for (const auto& [nodes, procs] :
         std::vector<std::pair<int, int>>{{2, 8}, {4, 32}, {8, 64}, {8, 256}}) {
      machines.push_back({weft::simulation::TwoSockets(nodes, procs / nodes), procs});
    }
  }
  for (Machine& machine : machines) {
    if (absl::GetFlag(FLAGS_procs) > 0) machine.procs = absl::GetFlag(FLAGS_procs);
  }
  PrintTable("Trees: one for each eight Ps, all at the beginning.", Load::kTrees, machines);
  PrintTable("Requests, each of which starts 32 goroutines.", Load::kRequests, machines);
  return 0;
}
