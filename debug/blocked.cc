#include "debug/blocked.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "debug/goroutines.h"
#include "sched/clock.h"
#include "sched/debug_settings.h"
#include "sched/goroutine.h"
#include "sched/internal/fatal_report.h"
#include "sched/sysmon.h"

namespace weft::debug {
namespace {

using Graph = std::map<uint64_t, std::vector<uint64_t>>;

// Who waits for a lock, and which of those that may hold it wait for one too.
Graph WaitGraph(const std::vector<GoroutineTrace>& traces) {
  Graph graph;
  for (const GoroutineTrace& trace : traces) {
    if (trace.waits_for != nullptr) graph[trace.goroutine.id] = trace.holders;
  }
  for (auto& [id, holders] : graph) {
    std::erase_if(holders, [&graph](uint64_t holder) { return !graph.contains(holder); });
  }
  return graph;
}

// The shortest way from `start` back to it, through goroutines that are not `used`: breadth first.
std::vector<uint64_t> ShortestCycle(const Graph& graph, uint64_t start,
                                    const std::map<uint64_t, bool>& used) {
  std::map<uint64_t, uint64_t> came_from;
  std::vector<uint64_t> queue = {start};
  for (size_t i = 0; i < queue.size(); ++i) {
    for (const uint64_t next : graph.at(queue[i])) {
      if (next == start) {
        std::vector<uint64_t> cycle;
        for (uint64_t at = queue[i]; at != start; at = came_from.at(at)) cycle.push_back(at);
        cycle.push_back(start);
        std::reverse(cycle.begin(), cycle.end());
        return cycle;
      }
      if (used.contains(next) || !came_from.try_emplace(next, queue[i]).second) continue;
      queue.push_back(next);
    }
  }
  return {};
}

bool WaitsLong(const GoroutineTrace& trace, absl::Duration longer_than) {
  return trace.goroutine.status == 4 && trace.waiting >= longer_than &&
         !IsIdleWait(trace.goroutine.wait_reason);
}

void WriteAll(int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

std::vector<std::vector<uint64_t>> LockCycles(const std::vector<GoroutineTrace>& traces) {
  const Graph graph = WaitGraph(traces);
  std::vector<std::vector<uint64_t>> cycles;
  std::map<uint64_t, bool> used;
  for (const auto& [id, holders] : graph) {
    if (used.contains(id)) continue;
    const std::vector<uint64_t> cycle = ShortestCycle(graph, id, used);
    if (cycle.empty()) continue;
    for (const uint64_t member : cycle) used[member] = true;
    cycles.push_back(cycle);
  }
  for (std::vector<uint64_t>& cycle : cycles) {
    std::rotate(cycle.begin(), std::min_element(cycle.begin(), cycle.end()), cycle.end());
  }
  return cycles;
}

std::string FormatLockCycles(const std::vector<GoroutineTrace>& traces) {
  std::string text;
  for (const std::vector<uint64_t>& cycle : LockCycles(traces)) {
    absl::StrAppend(&text, "lock cycle: goroutine ");
    for (size_t i = 0; i < cycle.size(); ++i) {
      absl::StrAppend(&text, i == 0 ? "" : ", ", cycle[i], i == 0 ? " waits" : "",
                      " for a lock of ", cycle[(i + 1) % cycle.size()]);
    }
    text += "\n";
  }
  return text;
}

std::string FormatBlocked(const std::vector<GoroutineTrace>& traces, absl::Duration longer_than) {
  std::vector<GoroutineTrace> blocked;
  for (const GoroutineTrace& trace : traces) {
    if (WaitsLong(trace, longer_than)) blocked.push_back(trace);
  }
  if (blocked.empty()) return "";
  return absl::StrCat(blocked.size(), blocked.size() == 1 ? " goroutine waits" : " goroutines wait",
                      " for longer than ", absl::FormatDuration(longer_than), "\n",
                      FormatLockCycles(blocked), "\n", FormatGoroutines(blocked, /*group=*/true));
}

void WriteBlocked(int fd, absl::Duration longer_than) {
  const std::string text = FormatBlocked(
      GetGoroutineTraces({.signal = DefaultTraceSignal(), .locks = true}), longer_than);
  const BlockingSection section;
  WriteAll(fd, text);
}

namespace {

absl::Duration setting;  // before threads start

// Where there are ever new ones, a report in each such time.
bool Look(Instant now) {
  static bool due = false;  // the monitor's alone, as the next
  static Instant not_before;
  NoteWaits();
  if (CountNewLongWaits(setting) > 0) due = true;
  if (!due || now < not_before) return false;
  const std::vector<GoroutineTrace> traces =
      GetGoroutineTraces({.signal = DefaultTraceSignal(), .locks = true, .only_at_once = true});
  if (traces.empty()) return false;  // the next time
  due = false;
  not_before = now + setting;
  WriteAll(STDERR_FILENO, FormatBlocked(traces, setting));
  return false;
}

constexpr absl::Duration kShortest = absl::Milliseconds(10);

bool Apply(absl::string_view value) {
  if (!absl::ParseDuration(value, &setting) || setting < kShortest ||
      setting == absl::InfiniteDuration()) {
    return false;
  }
  RegisterMonitorDuty({.name = "blocked", .period = setting / 4, .run = Look});
  return true;
}

constexpr internal::DebugSetting kBlocked = {
    "blocked", "a time of 10ms or more after which goroutines that wait are reported, such as 60s",
    Apply};

void PrintCycles() {
  const std::string text =
      FormatLockCycles(GetGoroutineTraces({.locks = true, .only_at_once = true}));
  if (!text.empty()) internal::WriteReport(absl::StrCat(text, "\n"));
}

[[maybe_unused]] const bool registered = [] {
  internal::RegisterDebugSetting(&kBlocked);
  internal::SetDeadlockReport(PrintCycles);
  return true;
}();

}  // namespace
}  // namespace weft::debug
