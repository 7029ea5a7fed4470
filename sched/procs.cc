#include "sched/procs.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace weft::internal {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

int RoundUp(double quota, double period) {
  if (quota <= 0 || period <= 0) return 0;
  const double procs = quota / period;
  const int whole = static_cast<int>(procs);
  return procs > whole ? whole + 1 : whole;
}

int Smaller(int a, int b) {
  if (a == 0) return b;
  if (b == 0) return a;
  return std::min(a, b);
}

// cgroup v2: "<quota or max> <period>".
int ProcsOfV2(const std::string& text) {
  const std::vector<std::string> words = absl::StrSplit(text, absl::ByAnyChar(" \n"));
  double quota;
  double period;
  if (words.size() < 2 || !absl::SimpleAtod(words[0], &quota) ||
      !absl::SimpleAtod(words[1], &period)) {
    return 0;
  }
  return RoundUp(quota, period);
}

int ProcsOfV1(const std::string& directory) {
  double quota;
  double period;
  if (!absl::SimpleAtod(ReadFile(directory + "/cpu.cfs_quota_us"), &quota) ||
      !absl::SimpleAtod(ReadFile(directory + "/cpu.cfs_period_us"), &period)) {
    return 0;
  }
  return RoundUp(quota, period);
}

// Calls `procs_of` for the group and all its ancestors: the tightest limit holds.
template <typename Fn>
int TightestUpwards(std::string path, const Fn& procs_of) {
  int tightest = 0;
  for (;;) {
    tightest = Smaller(tightest, procs_of(path));
    if (path.empty() || path == "/") return tightest;
    path.erase(path.rfind('/'));
  }
}

}  // namespace

int CgroupProcs(const std::string& root, const std::string& self) {
  int tightest = 0;
  for (absl::string_view line : absl::StrSplit(self, '\n')) {
    // "<hierarchy>:<controllers>:<path>"; v2 has no controllers.
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() < 3) continue;
    const std::string& path = parts[2];
    if (parts[1].empty()) {
      tightest = Smaller(tightest, TightestUpwards(path, [&](const std::string& group) {
                           return ProcsOfV2(ReadFile(root + group + "/cpu.max"));
                         }));
      continue;
    }
    for (absl::string_view controller : absl::StrSplit(parts[1], ',')) {
      if (controller != "cpu") continue;
      tightest = Smaller(tightest, TightestUpwards(path, [&](const std::string& group) {
                           return Smaller(ProcsOfV1(root + "/cpu" + group),
                                          ProcsOfV1(root + "/cpu,cpuacct" + group));
                         }));
    }
  }
  return tightest;
}

int DefaultMaxProcs() {
  if (const char* value = std::getenv("WEFTMAXPROCS"); value != nullptr) {
    int procs;
    if (!absl::SimpleAtoi(value, &procs) || procs < 1 || procs > 1024) {
      std::fprintf(stderr, "WEFTMAXPROCS=%s: must be a number from 1 to 1024\n", value);
      // Not by exit(): its handlers may want the runtime, whose start this is.
      _exit(2);
    }
    return procs;
  }
  return SystemProcs();
}

bool MaxProcsIsGiven() { return std::getenv("WEFTMAXPROCS") != nullptr; }

int SystemProcs() {
  cpu_set_t allowed;
  int procs = 1;
  if (sched_getaffinity(getpid(), sizeof(allowed), &allowed) == 0) procs = CPU_COUNT(&allowed);
  const int quota = CgroupProcs("/sys/fs/cgroup", ReadFile("/proc/self/cgroup"));
  if (quota > 0) procs = std::min(procs, std::max(quota, 2));
  return std::clamp(procs, 1, 1024);
}

}  // namespace weft::internal
