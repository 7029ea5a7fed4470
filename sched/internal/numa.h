// Which P belongs to which node, the queues of the nodes, and the threads that are bound to them
// (numa.cc).
#ifndef WEFT_SCHED_INTERNAL_NUMA_H_
#define WEFT_SCHED_INTERNAL_NUMA_H_

#include <atomic>
#include <cstdint>
#include <optional>

#include "sched/internal/runtime.h"
#include "sched/topology.h"

namespace weft::internal {

// M::affinity where it is neither a node nor kEveryCpu:
inline constexpr int16_t kUnknownCpus = -2;  // what it has from the thread that made it
inline constexpr int16_t kUsersCpus = -3;    // what the program has chosen; left alone

// The machine to be taken for this one from the next SetPolicy() on; nothing: what WEFTTOPOLOGY
// says, which ends the program where it makes no sense, or it was, or the system's.
void SetTopology(std::optional<Topology> topology);
// What follows from the policy and the number of Ps. World stopped, or not started yet.
void SetPolicy(Policy policy);
// What the node of the caller is.
int NearNode() ABSL_EXCLUSIVE_LOCKS_REQUIRED(sched.lock);
// For the holder of `p`: queues goroutines where the Ps of its node find them. The caller wakes
// somebody.
void PutInNode(const P* p, G* const* items, uint32_t count);
// Takes some of a node's into the queue of `p`, whose holder calls, and one to run.
G* TakeFromNode(P* p, int node, uint32_t most);
// How many there are in the queues of all nodes.
int NodeQueueSizes();
// Has the thread of `m`, which calls, run on the processors of `p`, if it may.
void FollowNode(M* m, const P* p);
// The thread of `m`, which calls, runs on all of the process's processors again. In signal handlers
// and children of fork() too.
void LeaveNode(M* m);
int16_t InitialAffinity();

// Whether goroutines wait in any queue that Ps share. Part of the idle protocol's second look, by
// who may have no P: so it sees what was published before the look, node_count too.
inline bool SharedWorkWaits() {
  return sched.global_size.load(std::memory_order_seq_cst) > 0 ||
         (sched.node_count.load(std::memory_order_seq_cst) > 1 && NodeQueueSizes() > 0);
}

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_NUMA_H_
