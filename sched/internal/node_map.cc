#include "sched/internal/node_map.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace weft::internal {
namespace {

// A node's own distance, whatever the firmware says of it: nothing is nearer.
constexpr int kOwn = 0;

}  // namespace

std::vector<int> DealToNodes(const Topology& topology, int procs) {
  const int nodes = static_cast<int>(topology.nodes.size());
  std::vector<int64_t> dealt(nodes, 0);
  std::vector<int> result;
  result.reserve(procs);
  for (int p = 0; p < procs; ++p) {
    int best = 0;
    for (int n = 1; n < nodes; ++n) {
      // cpus[n] / (dealt[n] + 1) > cpus[best] / (dealt[best] + 1)
      const auto cpus = static_cast<int64_t>(topology.nodes[n].cpus.size());
      const auto best_cpus = static_cast<int64_t>(topology.nodes[best].cpus.size());
      if (cpus * (dealt[best] + 1) > best_cpus * (dealt[n] + 1)) best = n;
    }
    ++dealt[best];
    result.push_back(best);
  }
  return result;
}

NodeMap::NodeMap(int procs) : count_(1), nodes_(1), node_of_(procs, 0) {
  Node& node = nodes_[0];
  node.procs = procs;
  node.near_to_far = {0};
  node.procs_near_to_far.resize(procs);
  std::iota(node.procs_near_to_far.begin(), node.procs_near_to_far.end(), 0);
  node.tiers = {{kOwn, node.near_to_far, node.procs_near_to_far}};
}

NodeMap::NodeMap(const Topology& topology, int procs) {
  const std::vector<int> dealt = DealToNodes(topology, procs);
  std::vector<int> index(topology.nodes.size(), -1);
  std::vector<std::vector<uint16_t>> procs_of;
  for (size_t i = 0; i < topology.nodes.size(); ++i) {
    if (std::find(dealt.begin(), dealt.end(), static_cast<int>(i)) == dealt.end()) continue;
    index[i] = count_++;
    nodes_.emplace_back().topology_node = static_cast<int>(i);
    for (const int cpu : topology.nodes[i].cpus) {
      if (static_cast<size_t>(cpu) >= node_of_cpu_.size()) node_of_cpu_.resize(cpu + 1, 0);
      node_of_cpu_[cpu] = static_cast<uint16_t>(index[i]);
    }
  }
  procs_of.resize(nodes_.size());
  for (int p = 0; p < procs; ++p) {
    const int node = index[dealt[p]];
    node_of_.push_back(static_cast<uint16_t>(node));
    procs_of[node].push_back(static_cast<uint16_t>(p));
  }
  for (int from = 0; from < nodes(); ++from) {
    Node& node = nodes_[from];
    node.procs = static_cast<int>(procs_of[from].size());
    const auto distance = [&](int to) {
      return to == from ? kOwn
                        : topology.nodes[node.topology_node].distances[nodes_[to].topology_node];
    };
    node.near_to_far.resize(nodes_.size());
    std::iota(node.near_to_far.begin(), node.near_to_far.end(), 0);
    std::sort(node.near_to_far.begin(), node.near_to_far.end(),
              [&](int a, int b) { return std::pair(distance(a), a) < std::pair(distance(b), b); });
    // Whole before parts of it are named.
    for (const int to : node.near_to_far) {
      node.procs_near_to_far.insert(node.procs_near_to_far.end(), procs_of[to].begin(),
                                    procs_of[to].end());
    }
    const absl::Span<const uint16_t> all_nodes = node.near_to_far;
    const absl::Span<const uint16_t> all_procs = node.procs_near_to_far;
    size_t first_proc = 0;
    for (size_t first = 0; first < all_nodes.size();) {
      size_t last = first;
      size_t count = 0;
      while (last < all_nodes.size() && distance(all_nodes[last]) == distance(all_nodes[first])) {
        count += procs_of[all_nodes[last++]].size();
      }
      node.tiers.push_back({distance(all_nodes[first]), all_nodes.subspan(first, last - first),
                            all_procs.subspan(first_proc, count)});
      first_proc += count;
      first = last;
    }
  }
}

}  // namespace weft::internal
