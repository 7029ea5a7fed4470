// Which P belongs to which node, and who is near to whom: what the policy `numa` goes by.
//
// Ps are dealt to nodes in proportion to their processors, one after the other, so that a P's node
// is the same however many there are: its slots lie in that node's memory. (To fill one node before
// the next would keep a program with few Ps in one place, but all such programs in the same.)
//
// Under the other policies, and where all Ps are in one node, the map has one node.
//
// Immutable. A P is named by its number, a node by its index.
#ifndef WEFT_SCHED_INTERNAL_NODE_MAP_H_
#define WEFT_SCHED_INTERNAL_NODE_MAP_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "sched/topology.h"

namespace weft::internal {

class NodeMap {
 public:
  // One node.
  explicit NodeMap(int procs);
  // The nodes of `topology` that get any of so many Ps.
  NodeMap(const Topology& topology, int procs);
  NodeMap(const NodeMap&) = delete;
  NodeMap& operator=(const NodeMap&) = delete;

  int nodes() const { return count_; }
  int NodeOf(int p) const { return node_of_[p]; }
  int ProcsOf(int node) const { return nodes_[node].procs; }
  // Its index in the topology; 0 where there is one node.
  int TopologyNode(int node) const { return nodes_[node].topology_node; }
  // The node of a processor; that with index 0 where it is in none.
  int NodeOfCpu(int cpu) const {
    return cpu >= 0 && static_cast<size_t>(cpu) < node_of_cpu_.size() ? node_of_cpu_[cpu] : 0;
  }

  // Nodes that are equally far from one, and their Ps. Neither is empty.
  struct Tier {
    int distance;
    absl::Span<const uint16_t> nodes;
    absl::Span<const uint16_t> procs;
  };
  // The nearest first: that is the node itself, alone. All nodes and Ps are in one of them.
  absl::Span<const Tier> TiersFrom(int node) const { return nodes_[node].tiers; }
  // All nodes in that order.
  absl::Span<const uint16_t> NearToFar(int node) const { return nodes_[node].near_to_far; }

 private:
  struct Node {
    int topology_node = 0;
    int procs = 0;
    std::vector<uint16_t> near_to_far;
    std::vector<uint16_t> procs_near_to_far;
    std::vector<Tier> tiers;  // parts of the two above
  };

  int count_ = 0;
  std::vector<Node> nodes_;
  std::vector<uint16_t> node_of_;      // by P
  std::vector<uint16_t> node_of_cpu_;  // by the system's number
};

// The node, as an index in the topology, of each of so many Ps: the highest averages method (V.
// D'Hondt, 1882), which deals one P at a time.
std::vector<int> DealToNodes(const Topology& topology, int procs);

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_NODE_MAP_H_
