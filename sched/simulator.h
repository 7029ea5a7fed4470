// A discrete-event simulation of the scheduler's policies on machines that do not exist: the code
// by which a P looks for work (internal/find_work.h, node_map.h) and its queues (run_queue.h,
// block_queue.h) are the scheduler's own; threads, locks and what things take are made up.
//
//   weft::simulation::Options options = {.topology = *weft::ParseTopology(text), .procs = 64};
//   weft::simulation::Result result = weft::simulation::Simulate(options);
//
// What is as in the scheduler (proc.cc): where a goroutine goes that is made ready, which P is
// woken for it and which looks for work, the second look of who gives up. What is not there:
// leases, timers, the poller, bound goroutines, and that a P wakes nobody for a goroutine that it
// is about to run itself (handoff.h).
//
// Deterministic: the same options, the same result.
#ifndef WEFT_SCHED_SIMULATOR_H_
#define WEFT_SCHED_SIMULATOR_H_

#include <cstdint>
#include <vector>

#include "sched/policy.h"
#include "sched/topology.h"

namespace weft::simulation {

enum class Load {
  // A few goroutines at the beginning, each of which starts a tree of others: all is made on a few
  // Ps, and must find the others.
  kTrees,
  // Requests from outside, at random times, each of which starts some goroutines: Ps run out of
  // work and into it all the time.
  kRequests,
};

struct Options {
  Topology topology;
  int procs = 8;
  Policy policy = Policy::kGpm;
  Load load = Load::kTrees;
  uint64_t seed = 1;

  // --- the load; times are in nanoseconds ---
  int tasks = 100'000;   // about that many in all
  int fan_out = 4;       // of a node of a tree
  int per_request = 32;  // goroutines that a request starts
  double busy = 0.7;     // kRequests: of the Ps' time, if all goroutines ran at home
  double work = 20'000;  // of a goroutine at home: exponentially distributed, this is the mean
  double memory = 0.3;   // of that, what is spent on memory: it grows with the distance from home

  // --- what things take ---
  // To get what another processor of the same node has written last; at a distance of d, d / 10
  // times as long.
  double line = 60;
  double spawn = 100;     // to start a goroutine
  double own_queue = 10;  // to put something in one's own queue, or take it
  double lock = 20;       // to have a lock, beside the line that it is on
  double item = 2;        // for each goroutine that is moved from one queue to another
  double wake = 1'000;    // to wake a thread
  double asleep = 5'000;  // until it runs
};

struct Result {
  int64_t tasks = 0;   // that have run: all
  int64_t nanos = 0;   // until the last of them had
  int64_t steals = 0;  // from other Ps' queues
  int64_t stolen = 0;  // goroutines so taken, from nodes' queues of other nodes too
  // Of these, by distance from the thief: the own node, each further tier of the nodes.
  std::vector<int64_t> stolen_by_tier;
  int64_t ran_away = 0;  // goroutines that ran in another node than where they were started
  double mean_wait = 0;  // in a queue, nanoseconds
  double p99_wait = 0;
  double mean_lock_wait = 0;  // for a queue's lock, per goroutine
  double busy = 0;            // of the Ps' time, that goroutines ran
  // While goroutines were queued, a P was idle, and nobody was looking for work or on its way to.
  int64_t stranded_nanos = 0;

  double FarShare() const;  // of `stolen`, what came from other nodes; 0 where nothing was stolen
};

Result Simulate(const Options& options);

// Two sockets, with so many nodes of so many processors, the nodes of a socket near each other: 2,
// 4 or 8 nodes.
Topology TwoSockets(int nodes, int cpus);

}  // namespace weft::simulation

#endif  // WEFT_SCHED_SIMULATOR_H_
