// The machine's NUMA nodes: groups of processors that share a memory, and how far they are apart.
//
//   weft::Topology machine = weft::SystemTopology(weft::AllowedCpus());
//   for (const weft::Topology::Node& node : machine.nodes) ... node.cpus ... node.distances ...
//
// It can be given as text, so that a test or a simulation can have a machine that does not exist:
//
//   node 0 cpus 0-3,8-11 distances 10 21 17      # one node in a line; `;` ends a line too
//   node 1 cpus 4-7,12   distances 21 10 28
//   node 4 cpus -        distances 17 28 10      # memory and no processors
//
// Nodes have the system's numbers, in any order and with holes; so have processors, and none may be
// in two nodes. Distances are what the firmware says: 10 is the own memory's, 20 is twice as far;
// one for each node of the text, in the order of the lines. Left out, in all lines, every other
// node is 20 away.
#ifndef WEFT_SCHED_TOPOLOGY_H_
#define WEFT_SCHED_TOPOLOGY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weft {

struct Topology {
  struct Node {
    int id = 0;                  // the system's number
    std::vector<int> cpus;       // the system's numbers, ascending; at least one
    std::vector<int> distances;  // to each of Topology::nodes, in their order; 10 and more

    bool operator==(const Node&) const = default;
  };

  // In the order of their numbers, at least one. Nodes without processors are left out: nothing can
  // run there.
  std::vector<Node> nodes;

  bool operator==(const Topology&) const = default;

  // As ParseTopology() takes it, distances included.
  std::string ToText() const;
};

// InvalidArgument, with the line and what is wrong with it. Any thread; allocates.
absl::StatusOr<Topology> ParseTopology(absl::string_view text);

// What the system says of the processors in `allowed`, ascending. `root` is where it says so: for
// tests. Nodes of which none is allowed or online are left out, and processors that are in no node
// are in the first one. Where it says nothing (no /sys, a kernel without NUMA, files that make no
// sense) all are in one node. About 100 us for a small machine; reads files.
Topology SystemTopology(const std::vector<int>& allowed,
                        const std::string& root = "/sys/devices/system");

// The processors in the affinity mask of the program's first thread, ascending; at least one.
std::vector<int> AllowedCpus();

namespace internal {

// Processors as the kernel lists them: "0-3,8,10-11"; "" is none. False: it is not such a list.
bool ParseCpuList(absl::string_view text, std::vector<int>* cpus);

}  // namespace internal
}  // namespace weft

#endif  // WEFT_SCHED_TOPOLOGY_H_
