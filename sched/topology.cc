#include "sched/topology.h"

#include <dirent.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace weft {
namespace {

constexpr int kOwnDistance = 10;
constexpr int kOtherDistance = 20;
constexpr int kFarthest = 1 << 16;
// Beyond what any kernel is built for.
constexpr int kMostCpus = 1 << 16;
constexpr int kMostNodes = 1 << 12;

using Words = std::vector<absl::string_view>;

Words Split(absl::string_view text) {
  return absl::StrSplit(text, absl::ByAnyChar(" \t\r\n"), absl::SkipEmpty());
}

bool ParseNumber(absl::string_view text, int below, int* number) {
  return absl::SimpleAtoi(text, number) && *number >= 0 && *number < below;
}

bool ParseDistances(const Words& words, std::vector<int>* distances) {
  for (const absl::string_view word : words) {
    int distance;
    if (!ParseNumber(word, kFarthest, &distance) || distance < kOwnDistance) return false;
    distances->push_back(distance);
  }
  return true;
}

std::vector<int> DefaultDistances(size_t nodes, size_t own) {
  std::vector<int> distances(nodes, kOtherDistance);
  distances[own] = kOwnDistance;
  return distances;
}

// Sorted by number, and only those with processors; distances have one entry for each node given.
Topology Arrange(const std::vector<Topology::Node>& given) {
  std::vector<size_t> order;
  for (size_t i = 0; i < given.size(); ++i) {
    if (!given[i].cpus.empty()) order.push_back(i);
  }
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return given[a].id < given[b].id; });
  Topology topology;
  for (const size_t i : order) {
    Topology::Node node = {.id = given[i].id, .cpus = given[i].cpus, .distances = {}};
    for (const size_t k : order) node.distances.push_back(given[i].distances[k]);
    topology.nodes.push_back(std::move(node));
  }
  return topology;
}

// One line of the text, which is not empty. Its distances may be none.
absl::Status ParseNode(absl::string_view line, Topology::Node* node) {
  Words words = Split(line);
  if (words.size() < 4 || words[0] != "node" || words[2] != "cpus" ||
      (words.size() > 4 && words[4] != "distances")) {
    return absl::InvalidArgumentError("not 'node N cpus LIST' or the same with 'distances N ...'");
  }
  if (!ParseNumber(words[1], kMostNodes, &node->id)) {
    return absl::InvalidArgumentError(absl::StrCat("'", words[1], "' is not a node's number"));
  }
  if (words[3] != "-" && !internal::ParseCpuList(words[3], &node->cpus)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", words[3], "' is not '-' or a list of processors such as 0-3,8"));
  }
  words.erase(words.begin(), words.begin() + std::min<ptrdiff_t>(5, words.end() - words.begin()));
  if (!ParseDistances(words, &node->distances)) {
    return absl::InvalidArgumentError("distances are numbers from 10 to 65535");
  }
  return absl::OkStatus();
}

absl::Status CheckNodes(std::vector<Topology::Node>& nodes) {
  std::vector<int> ids;
  std::vector<int> cpus;
  const bool given = std::any_of(nodes.begin(), nodes.end(), [](const Topology::Node& node) {
    return !node.distances.empty();
  });
  for (size_t i = 0; i < nodes.size(); ++i) {
    Topology::Node& node = nodes[i];
    ids.push_back(node.id);
    cpus.insert(cpus.end(), node.cpus.begin(), node.cpus.end());
    if (!given) {
      node.distances = DefaultDistances(nodes.size(), i);
    } else if (node.distances.size() != nodes.size()) {
      return absl::InvalidArgumentError(absl::StrCat("node ", node.id, " has ",
                                                     node.distances.size(), " distances, and ",
                                                     nodes.size(), " nodes are given"));
    }
  }
  if (cpus.empty()) return absl::InvalidArgumentError("no node has a processor");
  for (std::vector<int>* numbers : {&ids, &cpus}) {
    std::sort(numbers->begin(), numbers->end());
    const auto twice = std::adjacent_find(numbers->begin(), numbers->end());
    if (twice != numbers->end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(numbers == &ids ? "node " : "processor ", *twice, " is given twice"));
    }
  }
  return absl::OkStatus();
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The numbers of the nodes, ascending, as the kernel's `online` file has them, or else by the names
// of their directories.
std::vector<int> OnlineNodes(const std::string& directory) {
  std::vector<int> ids;
  if (internal::ParseCpuList(absl::StripAsciiWhitespace(ReadFile(directory + "/online")), &ids) &&
      !ids.empty()) {
    return ids;
  }
  ids.clear();
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(directory.c_str()), closedir);
  if (entries == nullptr) return ids;
  while (const dirent* entry = readdir(entries.get())) {
    absl::string_view name = entry->d_name;
    int id;
    if (absl::ConsumePrefix(&name, "node") && ParseNumber(name, kMostNodes, &id)) {
      ids.push_back(id);
    }
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

std::vector<int> Common(const std::vector<int>& a, const std::vector<int>& b) {
  std::vector<int> common;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(common));
  return common;
}

Topology OneNode(std::vector<int> cpus) {
  return {.nodes = {{.id = 0, .cpus = std::move(cpus), .distances = {kOwnDistance}}}};
}

}  // namespace

namespace internal {

bool ParseCpuList(absl::string_view text, std::vector<int>* cpus) {
  cpus->clear();
  if (text.empty()) return true;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, '-');
    int first;
    int last;
    if (ends.size() > 2 || !ParseNumber(ends.front(), kMostCpus, &first) ||
        !ParseNumber(ends.back(), kMostCpus, &last) || last < first) {
      return false;
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus->push_back(cpu);
  }
  std::sort(cpus->begin(), cpus->end());
  cpus->erase(std::unique(cpus->begin(), cpus->end()), cpus->end());
  return true;
}

}  // namespace internal

std::string Topology::ToText() const {
  std::string text;
  for (const Node& node : nodes) {
    absl::StrAppend(&text, "node ", node.id, " cpus ");
    for (size_t i = 0; i < node.cpus.size();) {
      size_t last = i;
      while (last + 1 < node.cpus.size() && node.cpus[last + 1] == node.cpus[last] + 1) ++last;
      absl::StrAppend(&text, i == 0 ? "" : ",", node.cpus[i]);
      if (last > i) absl::StrAppend(&text, "-", node.cpus[last]);
      i = last + 1;
    }
    absl::StrAppend(&text, " distances ", absl::StrJoin(node.distances, " "), "\n");
  }
  return text;
}

absl::StatusOr<Topology> ParseTopology(absl::string_view text) {
  std::vector<Topology::Node> nodes;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, absl::ByAnyChar("\n;"))) {
    ++number;
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    if (const absl::Status status = ParseNode(line, &nodes.emplace_back()); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("topology, line ", number, ": ", status.message()));
    }
  }
  if (nodes.empty()) return absl::InvalidArgumentError("topology: no nodes are given");
  if (const absl::Status status = CheckNodes(nodes); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("topology: ", status.message()));
  }
  return Arrange(nodes);
}

Topology SystemTopology(const std::vector<int>& allowed, const std::string& root) {
  const std::string directory = root + "/node";
  std::vector<int> usable = allowed;
  std::vector<int> online;
  if (internal::ParseCpuList(absl::StripAsciiWhitespace(ReadFile(root + "/cpu/online")), &online) &&
      !online.empty()) {
    usable = Common(usable, online);
    if (usable.empty()) usable = allowed;
  }
  std::vector<Topology::Node> nodes;
  std::vector<int> left = usable;
  for (const int id : OnlineNodes(directory)) {
    const std::string path = absl::StrCat(directory, "/node", id);
    Topology::Node& node = nodes.emplace_back();
    node.id = id;
    std::vector<int> cpus;
    if (!internal::ParseCpuList(absl::StripAsciiWhitespace(ReadFile(path + "/cpulist")), &cpus)) {
      return OneNode(usable);
    }
    // No processor in two nodes, whatever the files say.
    node.cpus = Common(cpus, left);
    std::vector<int> rest;
    std::set_difference(left.begin(), left.end(), cpus.begin(), cpus.end(),
                        std::back_inserter(rest));
    left = std::move(rest);
    const std::string distances = ReadFile(path + "/distance");
    if (!ParseDistances(Split(distances), &node.distances)) node.distances.clear();
  }
  const auto first = std::find_if(nodes.begin(), nodes.end(),
                                  [](const Topology::Node& node) { return !node.cpus.empty(); });
  if (first == nodes.end()) return OneNode(usable);
  first->cpus.insert(first->cpus.end(), left.begin(), left.end());
  std::sort(first->cpus.begin(), first->cpus.end());
  // The kernel has a column for each node that is online. One row that is not so, and none is
  // believed.
  const bool believable = std::all_of(nodes.begin(), nodes.end(), [&](const Topology::Node& node) {
    return node.distances.size() == nodes.size();
  });
  for (size_t i = 0; i < nodes.size() && !believable; ++i) {
    nodes[i].distances = DefaultDistances(nodes.size(), i);
  }
  return Arrange(nodes);
}

std::vector<int> AllowedCpus() {
  std::vector<int> cpus;
  // The kernel refuses a mask that is smaller than its own.
  for (int most = 1024; most <= kMostCpus && cpus.empty(); most *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(most),
                                                               [](cpu_set_t* s) { CPU_FREE(s); });
    if (set == nullptr || sched_getaffinity(getpid(), CPU_ALLOC_SIZE(most), set.get()) != 0) {
      continue;
    }
    for (int cpu = 0; cpu < most; ++cpu) {
      if (CPU_ISSET_S(cpu, CPU_ALLOC_SIZE(most), set.get())) cpus.push_back(cpu);
    }
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

}  // namespace weft
