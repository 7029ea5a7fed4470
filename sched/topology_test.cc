#include "sched/topology.h"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <numeric>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace weft {
namespace {

using Cpus = std::vector<int>;

Cpus UpTo(int count) {
  Cpus cpus(count);
  std::iota(cpus.begin(), cpus.end(), 0);
  return cpus;
}

Topology Parsed(absl::string_view text) {
  const absl::StatusOr<Topology> topology = ParseTopology(text);
  EXPECT_EQ(topology.status(), absl::OkStatus());
  return topology.value_or(Topology());
}

TEST(TopologyTextTest, NodesProcessorsAndDistances) {
  const Topology t = Parsed(
      "# a machine\n"
      "node 0 cpus 0-3,8-9 distances 10 21\n"
      "node 1 cpus 4-7     distances 22 10  # asymmetric\n");
  ASSERT_EQ(t.nodes.size(), 2);
  EXPECT_EQ(t.nodes[0].cpus, (Cpus{0, 1, 2, 3, 8, 9}));
  EXPECT_EQ(t.nodes[0].distances, (std::vector<int>{10, 21}));
  EXPECT_EQ(t.nodes[1].cpus, (Cpus{4, 5, 6, 7}));
  EXPECT_EQ(t.nodes[1].distances, (std::vector<int>{22, 10}));
  EXPECT_EQ(Parsed(t.ToText()), t);
}

TEST(TopologyTextTest, WithoutDistancesOthersAreTwiceAsFar) {
  const Topology t = Parsed("node 0 cpus 0;node 1 cpus 1;;node 2 cpus 2;");
  ASSERT_EQ(t.nodes.size(), 3);
  EXPECT_EQ(t.nodes[0].distances, (std::vector<int>{10, 20, 20}));
  EXPECT_EQ(t.nodes[2].distances, (std::vector<int>{20, 20, 10}));
}

TEST(TopologyTextTest, NumbersMayHaveHolesAndAnyOrder) {
  const Topology t = Parsed(
      "node 9 cpus 100,102 distances 10 12 30\n"
      "node 7 cpus -       distances 12 10 31\n"
      "node 3 cpus 7       distances 30 31 10\n");
  ASSERT_EQ(t.nodes.size(), 2);
  EXPECT_EQ(t.nodes[0].id, 3);
  EXPECT_EQ(t.nodes[0].distances, (std::vector<int>{10, 30}));
  EXPECT_EQ(t.nodes[1].id, 9);
  EXPECT_EQ(t.nodes[1].cpus, (Cpus{100, 102}));
  EXPECT_EQ(t.nodes[1].distances, (std::vector<int>{30, 10}));
}

TEST(TopologyTextTest, SaysWhatIsWrongAndWhere) {
  const struct {
    const char* text;
    const char* says;
  } kCases[] = {
      {"", "no nodes"},
      {"# nothing\n", "no nodes"},
      {"node 0 cpus 0\nnodes 1 cpus 1", "line 2: not 'node N"},
      {"node 0", "line 1: not 'node N"},
      {"node x cpus 0", "'x' is not a node's number"},
      {"node -1 cpus 0", "'-1' is not a node's number"},
      {"node 0 cpus 3-1", "'3-1' is not '-' or a list"},
      {"node 0 cpus 1-2-3", "is not '-' or a list"},
      {"node 0 cpus 0,", "is not '-' or a list"},
      {"node 0 cpus 99999999999", "is not '-' or a list"},
      {"node 0 cpus 0 distance 10", "line 1: not 'node N"},
      {"node 0 cpus 0 distances 9", "distances are numbers from 10"},
      {"node 0 cpus 0 distances ten", "distances are numbers from 10"},
      {"node 0 cpus 0 distances 10 20", "node 0 has 2 distances, and 1 nodes are given"},
      {"node 0 cpus 0; node 1 cpus 1 distances 20 10", "node 0 has 0"},
      {"node 0 cpus 0 distances 10 20; node 1 cpus 1", "node 1 has 0 distances"},
      {"node 0 cpus -", "no node has a processor"},
      {"node 0 cpus 0; node 0 cpus 1", "node 0 is given twice"},
      {"node 0 cpus 0-3; node 1 cpus 3", "processor 3 is given twice"},
  };
  for (const auto& c : kCases) {
    const absl::Status status = ParseTopology(c.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.text;
    EXPECT_TRUE(absl::StrContains(status.message(), c.says)) << c.text << ": " << status;
  }
}

// A directory like /sys/devices/system.
class FakeSystem {
 public:
  FakeSystem() {
    std::string path = absl::StrCat(std::getenv("TEST_TMPDIR"), "/sys.XXXXXX");
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    root_ = path;
    for (const char* directory : {"/node", "/cpu"}) mkdir((root_ + directory).c_str(), 0700);
  }

  const std::string& root() const { return root_; }

  FakeSystem& Write(const std::string& file, const std::string& text) {
    std::ofstream(root_ + file) << text << "\n";
    return *this;
  }
  FakeSystem& Node(int id, const std::string& cpus, const std::string& distances) {
    const std::string directory = absl::StrCat("/node/node", id);
    mkdir((root_ + directory).c_str(), 0700);
    return Write(directory + "/cpulist", cpus).Write(directory + "/distance", distances);
  }

 private:
  std::string root_;
};

TEST(SystemTopologyTest, ReadsNodes) {
  FakeSystem system;
  system.Write("/node/online", "0-1").Node(0, "0-3", "10 21").Node(1, "4-7", "21 10");
  EXPECT_EQ(SystemTopology(UpTo(8), system.root()),
            Parsed("node 0 cpus 0-3 distances 10 21\nnode 1 cpus 4-7 distances 21 10"));
}

TEST(SystemTopologyTest, LeavesOutWhatIsNotAllowedOrOffline) {
  FakeSystem system;
  system.Write("/node/online", "0-1").Write("/cpu/online", "0-2,4-7");
  system.Node(0, "0-3", "10 21").Node(1, "4-7", "21 10");
  EXPECT_EQ(SystemTopology({1, 2, 3, 6}, system.root()),
            Parsed("node 0 cpus 1-2 distances 10 21\nnode 1 cpus 6 distances 21 10"));
  EXPECT_EQ(SystemTopology({4, 5}, system.root()), Parsed("node 1 cpus 4-5"));
  // Nothing fits together: better one node than none.
  EXPECT_EQ(SystemTopology({3}, system.root()), Parsed("node 0 cpus 3"));
}

TEST(SystemTopologyTest, HolesInNumbersAndNodesOfMemoryOnly) {
  FakeSystem system;
  system.Write("/node/online", "0,2,5");
  system.Node(0, "0-1", "10 17 28").Node(2, "", "17 10 30").Node(5, "2-3", "28 30 10");
  EXPECT_EQ(SystemTopology(UpTo(4), system.root()),
            Parsed("node 0 cpus 0-1 distances 10 28\nnode 5 cpus 2-3 distances 28 10"));
}

TEST(SystemTopologyTest, WithoutAListOfNodesTheirDirectoriesDo) {
  FakeSystem system;
  system.Node(10, "2-3", "10 20").Node(2, "0-1", "10 20");
  const Topology t = SystemTopology(UpTo(4), system.root());
  ASSERT_EQ(t.nodes.size(), 2);
  EXPECT_EQ(t.nodes[0].id, 2);
  EXPECT_EQ(t.nodes[1].cpus, (Cpus{2, 3}));
}

TEST(SystemTopologyTest, DistancesThatMakeNoSenseAreNotBelieved) {
  for (const char* distances : {"", "21", "21 9", "a b", "10 20 30"}) {
    FakeSystem system;
    system.Write("/node/online", "0-1").Node(0, "0", "10 99").Node(1, "1", distances);
    EXPECT_EQ(SystemTopology(UpTo(2), system.root()), Parsed("node 0 cpus 0;node 1 cpus 1"))
        << distances;
  }
}

TEST(SystemTopologyTest, ProcessorsOfNoNodeAreInTheFirst) {
  FakeSystem system;
  system.Write("/node/online", "0-1").Node(0, "", "10 20").Node(1, "1-2", "20 10");
  EXPECT_EQ(SystemTopology(UpTo(5), system.root()), Parsed("node 1 cpus 0-4"));
}

TEST(SystemTopologyTest, NoProcessorIsInTwoNodes) {
  FakeSystem system;
  system.Write("/node/online", "0-1").Node(0, "0-2", "10 20").Node(1, "2-3", "20 10");
  EXPECT_EQ(SystemTopology(UpTo(4), system.root()), Parsed("node 0 cpus 0-2;node 1 cpus 3"));
}

TEST(SystemTopologyTest, OneNodeWhereTheSystemSaysNothing) {
  EXPECT_EQ(SystemTopology({2, 5}, "/nonexistent"), Parsed("node 0 cpus 2,5"));
  FakeSystem system;
  system.Write("/node/online", "0").Node(0, "0-junk", "10");
  EXPECT_EQ(SystemTopology({2, 5}, system.root()), Parsed("node 0 cpus 2,5"));
}

TEST(SystemTopologyTest, ThisMachinesProcessorsAreAllThere) {
  cpu_set_t mask;
  ASSERT_EQ(sched_getaffinity(getpid(), sizeof(mask), &mask), 0);
  const Cpus allowed = AllowedCpus();
  EXPECT_EQ(allowed.size(), CPU_COUNT(&mask));
  for (const int cpu : allowed) EXPECT_TRUE(CPU_ISSET(cpu, &mask));
  const Topology t = SystemTopology(allowed);
  size_t cpus = 0;
  for (const Topology::Node& node : t.nodes) {
    cpus += node.cpus.size();
    EXPECT_EQ(node.distances.size(), t.nodes.size());
  }
  EXPECT_EQ(cpus, allowed.size());
}

}  // namespace
}  // namespace weft
