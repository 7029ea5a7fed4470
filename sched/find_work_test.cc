// Who belongs where, and in which order a P looks at the others.
#include "sched/internal/find_work.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "sched/topology.h"

namespace weft::internal {
namespace {

using Numbers = std::vector<int>;

Topology Machine(absl::string_view text) { return ParseTopology(text).value(); }

Numbers Of(absl::Span<const uint16_t> span) { return {span.begin(), span.end()}; }

// Two sockets of two nodes each.
Topology FourNodes() {
  return Machine(
      "node 0 cpus 0-1 distances 10 12 32 32\n"
      "node 1 cpus 2-3 distances 12 10 32 32\n"
      "node 2 cpus 4-5 distances 32 32 10 12\n"
      "node 3 cpus 6-7 distances 32 32 12 10\n");
}

TEST(DealToNodesTest, InProportionToTheirProcessors) {
  const Topology t = Machine("node 0 cpus 0-5; node 1 cpus 6-7; node 2 cpus 8-11");
  EXPECT_EQ(DealToNodes(t, 12), (Numbers{0, 2, 0, 0, 1, 2, 0, 2, 0, 0, 1, 2}));
  for (const int times : {1, 2, 3, 85}) {
    std::map<int, int> dealt;
    for (const int node : DealToNodes(t, 12 * times)) ++dealt[node];
    EXPECT_EQ(dealt, (std::map<int, int>{{0, 6 * times}, {1, 2 * times}, {2, 4 * times}}));
  }
}

TEST(DealToNodesTest, APsNodeIsTheSameHoweverManyThereAre) {
  const Topology t = Machine("node 0 cpus 0-2; node 1 cpus 3-9; node 2 cpus 10");
  const Numbers many = DealToNodes(t, 1024);
  for (int procs = 1; procs < 1024; ++procs) {
    const Numbers fewer = DealToNodes(t, procs);
    ASSERT_TRUE(std::equal(fewer.begin(), fewer.end(), many.begin()));
  }
}

TEST(NodeMapTest, OneNode) {
  const NodeMap map(3);
  ASSERT_EQ(map.nodes(), 1);
  ASSERT_EQ(map.TiersFrom(0).size(), 1);
  EXPECT_EQ(Of(map.TiersFrom(0)[0].procs), (Numbers{0, 1, 2}));
  EXPECT_EQ(map.ProcsOf(0), 3);
  EXPECT_EQ(map.NodeOf(2), 0);
  EXPECT_EQ(map.NodeOfCpu(17), 0);
}

TEST(NodeMapTest, TiersByDistance) {
  const NodeMap map(FourNodes(), 8);
  ASSERT_EQ(map.nodes(), 4);
  for (int p = 0; p < 8; ++p) EXPECT_EQ(map.NodeOf(p), p % 4);
  const absl::Span<const NodeMap::Tier> tiers = map.TiersFrom(1);
  ASSERT_EQ(tiers.size(), 3);
  EXPECT_EQ(Of(tiers[0].nodes), (Numbers{1}));
  EXPECT_EQ(Of(tiers[0].procs), (Numbers{1, 5}));
  EXPECT_EQ(Of(tiers[1].nodes), (Numbers{0}));
  EXPECT_EQ(Of(tiers[1].procs), (Numbers{0, 4}));
  EXPECT_EQ(Of(tiers[2].nodes), (Numbers{2, 3}));
  EXPECT_EQ(Of(tiers[2].procs), (Numbers{2, 6, 3, 7}));
  EXPECT_EQ(tiers[2].distance, 32);
  EXPECT_EQ(Of(map.NearToFar(1)), (Numbers{1, 0, 2, 3}));
  EXPECT_EQ(map.NodeOfCpu(5), 2);
  EXPECT_EQ(map.NodeOfCpu(8), 0);
  EXPECT_EQ(map.NodeOfCpu(-1), 0);
}

TEST(NodeMapTest, NodesWithoutPsAreLeftOut) {
  const Topology t = Machine(
      "node 0 cpus 0 distances 10 20 30\n"
      "node 1 cpus 1-4 distances 20 10 15\n"
      "node 2 cpus 5-6 distances 30 15 10\n");
  const NodeMap map(t, 3);
  ASSERT_EQ(map.nodes(), 2);
  EXPECT_EQ(map.TopologyNode(0), 1);
  EXPECT_EQ(map.TopologyNode(1), 2);
  EXPECT_EQ(map.TiersFrom(1)[1].distance, 15);
  EXPECT_EQ(map.NodeOfCpu(6), 1);
  EXPECT_EQ(NodeMap(t, 1).nodes(), 1);
}

TEST(NodeMapTest, NothingIsNearerThanTheOwnNode) {
  const NodeMap map(Machine("node 0 cpus 0 distances 10 10; node 1 cpus 1 distances 10 10"), 2);
  ASSERT_EQ(map.TiersFrom(1).size(), 2);
  EXPECT_EQ(Of(map.TiersFrom(1)[0].nodes), (Numbers{1}));
}

TEST(NodeMapTest, EveryPIsInOneTierOfEachNode) {
  const Topology t = Machine(
      "node 2 cpus 0-6 distances 10 30 20 20\n"
      "node 3 cpus 7 distances 30 10 20 40\n"
      "node 5 cpus 8-9 distances 20 20 10 11\n"
      "node 9 cpus 10-29 distances 20 40 11 10\n");
  for (const int procs : {1, 2, 7, 30, 256, 1024}) {
    const NodeMap map(t, procs);
    for (int node = 0; node < map.nodes(); ++node) {
      std::multiset<int> seen;
      std::multiset<int> nodes;
      int before = -1;
      for (const NodeMap::Tier& tier : map.TiersFrom(node)) {
        EXPECT_GT(tier.distance, before);
        before = tier.distance;
        seen.insert(tier.procs.begin(), tier.procs.end());
        nodes.insert(tier.nodes.begin(), tier.nodes.end());
        for (const int p : tier.procs) {
          EXPECT_TRUE(std::count(tier.nodes.begin(), tier.nodes.end(), map.NodeOf(p)));
        }
      }
      EXPECT_EQ(seen.size(), procs);
      EXPECT_EQ(std::set<int>(seen.begin(), seen.end()).size(), procs);
      EXPECT_EQ(nodes.size(), map.nodes());
    }
  }
}

// Notes all that is looked at, and has what it is told.
struct Looker {
  using Task = std::string;

  uint32_t Random() {
    random ^= random << 13;
    random ^= random >> 17;
    return random ^= random << 5;
  }
  bool MustStop() const { return looks.size() >= stop_after; }
  Task* Look(std::string place) {
    looks.push_back(place);
    found = std::move(place);
    return has.count(found) > 0 ? &found : nullptr;
  }
  Task* TakeOwn() { return Look("own"); }
  Task* TakeFromGlobal(uint32_t most) { return Look(absl::StrCat("global ", most)); }
  Task* TakeFromNode(int node, uint32_t most) {
    return Look(absl::StrCat("node ", node, " ", most));
  }
  Task* RunTimersOf(int victim) { return Look(absl::StrCat("timers ", victim)); }
  bool HasNothing(int victim) const { return idle.count(victim) > 0; }
  Task* StealHalf(int victim) { return Look(absl::StrCat("half ", victim)); }
  Task* StealNext(int victim) { return Look(absl::StrCat("next ", victim)); }

  uint32_t random = 1;
  size_t stop_after = SIZE_MAX;
  std::set<std::string> has;
  std::set<int> idle;
  std::vector<std::string> looks;
  std::string found;
};

using Looks = std::vector<std::string>;

TEST(TakeQueuedTest, OwnQueueFirstAndSharedOnesEach61stTime) {
  const NodeMap map(2);
  Looker looker;
  EXPECT_EQ(TakeQueued(looker, map, 0, 1, 128), nullptr);
  EXPECT_EQ(looker.looks, (Looks{"own", "global 128"}));
  looker = Looker();
  EXPECT_EQ(TakeQueued(looker, map, 0, 122, 128), nullptr);
  EXPECT_EQ(looker.looks, (Looks{"global 1", "own", "global 128"}));
}

TEST(TakeQueuedTest, NeitherSharedQueueStarvesTheOther) {
  const NodeMap map(FourNodes(), 8);
  for (const auto& [tick, place] : std::map<uint32_t, std::string>{
           {61, "node 2 1"}, {122, "global 1"}, {1, "node 2 9"}, {2, "global 9"}}) {
    Looker looker;
    looker.has = {"node 2 1", "global 1", "node 2 9", "global 9"};
    Looker::Task* found = TakeQueued(looker, map, 2, tick, 9);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(*found, place);
  }
}

TEST(StealTest, LooksAtAllOthersFourTimesAndAtWhatIsNextTheLastTime) {
  const NodeMap map(4);
  Looker looker;
  EXPECT_EQ(Steal(looker, map, 0, 2, 9), nullptr);
  std::map<std::string, int> times;
  for (const std::string& look : looker.looks) ++times[look];
  for (const int victim : {0, 1, 3}) {
    EXPECT_EQ(times[absl::StrCat("half ", victim)], 4);
    EXPECT_EQ(times[absl::StrCat("next ", victim)], 1);
    EXPECT_EQ(times[absl::StrCat("timers ", victim)], 1);
  }
  EXPECT_EQ(times.size(), 9);
}

TEST(StealTest, PassesByWhoHasNothingButForTimers) {
  const NodeMap map(3);
  Looker looker;
  looker.idle = {0, 2};
  EXPECT_EQ(Steal(looker, map, 0, 1, 9), nullptr);
  std::sort(looker.looks.begin(), looker.looks.end());
  EXPECT_EQ(looker.looks, (Looks{"timers 0", "timers 2"}));
}

TEST(StealTest, EachVictimMayBeTheFirst) {
  const NodeMap map(8);
  Looker looker;
  std::map<std::string, int> first;
  for (int i = 0; i < 4000; ++i) {
    looker.looks.clear();
    Steal(looker, map, 0, 0, 9);
    ++first[looker.looks.front()];
  }
  EXPECT_EQ(first.size(), 7);
  for (const auto& [look, times] : first) EXPECT_GT(times, 200) << look;
}

// The node that each look is at.
std::vector<int> NodesOf(const NodeMap& map, const Looks& looks) {
  std::vector<int> nodes;
  for (const std::string& look : looks) {
    const int number = std::stoi(look.substr(look.find(' ')));
    nodes.push_back(look[0] == 'n' && look[1] == 'o' ? number : map.NodeOf(number));
  }
  return nodes;
}

TEST(StealTest, FarOnesOnlyAfterAllThatIsNearWasSeenEmpty) {
  const NodeMap map(FourNodes(), 12);
  for (int self = 0; self < 12; ++self) {
    const int node = map.NodeOf(self);
    Looker looker;
    looker.random = self + 1;
    EXPECT_EQ(Steal(looker, map, node, self, 9), nullptr);
    std::vector<int> distances;
    for (const int n : NodesOf(map, looker.looks)) {
      for (const NodeMap::Tier& tier : map.TiersFrom(node)) {
        if (std::count(tier.nodes.begin(), tier.nodes.end(), n)) distances.push_back(tier.distance);
      }
    }
    EXPECT_TRUE(std::is_sorted(distances.begin(), distances.end()));
    // Of each tier all of them: 2 near, 3 in the next node, 6 in the far ones; and three queues.
    EXPECT_EQ(looker.looks.size(), (2 + 3 + 6) * (4 + 1 + 1) + 3);
  }
}

TEST(StealTest, WhatIsNearIsTakenWhereverElseThereIsSome) {
  const NodeMap map(FourNodes(), 8);
  const std::vector<std::pair<std::string, Looks>> kCases = {
      {"next 4", {"next 4", "node 1 9", "half 1", "half 2", "node 3 9"}},
      {"timers 4", {"timers 4", "next 4", "half 5"}},
      {"node 1 9", {"node 1 9", "half 1", "node 2 9", "half 6"}},
      {"next 5", {"next 5", "node 2 9", "half 2"}},
      {"node 3 9", {"node 3 9", "half 6"}},
      {"half 6", {"half 6"}},
  };
  for (const auto& [takes, has] : kCases) {
    Looker looker;
    looker.has = {has.begin(), has.end()};
    Looker::Task* found = Steal(looker, map, 0, 0, 9);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(*found, takes);
  }
}

TEST(StealTest, StopsAtOnceWhenTold) {
  const NodeMap map(FourNodes(), 8);
  for (const size_t looks : {1, 3, 7, 20}) {
    Looker looker;
    looker.stop_after = looks;
    EXPECT_EQ(Steal(looker, map, 0, 0, 9), nullptr);
    EXPECT_LE(looker.looks.size(), looks + 2);
  }
}

TEST(NearestNodeTest, OfThoseThatHave) {
  const NodeMap map(FourNodes(), 8);
  EXPECT_EQ(NearestNode(map, 1, [](int) { return true; }), 1);
  EXPECT_EQ(NearestNode(map, 1, [](int node) { return node != 1; }), 0);
  EXPECT_EQ(NearestNode(map, 1, [](int node) { return node > 1; }), 2);
  EXPECT_EQ(NearestNode(map, 1, [](int) { return false; }), -1);
}

TEST(ShareOfTest, AsManyAsEachShouldHave) {
  EXPECT_EQ(ShareOf(100, 4, 128, 256), 26);
  EXPECT_EQ(ShareOf(1, 4, 128, 256), 1);
  EXPECT_EQ(ShareOf(10'000, 4, 128, 256), 128);
  EXPECT_EQ(ShareOf(10'000, 4, 1, 256), 1);
  EXPECT_EQ(ShareOf(10'000, 4, 128, 0), 1);
  EXPECT_EQ(ShareOf(1, 1, 128, 256), 1);
}

}  // namespace
}  // namespace weft::internal
