#include "debug/http/vars.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "sched/goroutine.h"
#include "sched/snapshot.h"
#include "sched/sysmon.h"
#include "stack/grow.h"
#include "stack/rest.h"
#include "stack/segment.h"
#include "stack/slots.h"

namespace weft::debug::internal {
namespace {

using Kind = Variable::Kind;
using Labels = std::vector<std::pair<std::string, std::string>>;

class List {
 public:
  explicit List(std::string section) : section_(std::move(section)) {}

  template <typename T>
  void Gauge(absl::string_view name, absl::string_view help, T value, Labels labels = {}) {
    Add(name, help, Kind::kGauge, static_cast<double>(value), std::move(labels));
  }
  template <typename T>
  void Counter(absl::string_view name, absl::string_view help, T value, Labels labels = {}) {
    Add(name, help, Kind::kCounter, static_cast<double>(value), std::move(labels));
  }
  void AppendTo(std::vector<Variable>& all) {
    for (Variable& variable : list_) all.push_back(std::move(variable));
  }

 private:
  void Add(absl::string_view name, absl::string_view help, Kind kind, double value, Labels labels) {
    list_.push_back({section_, std::string(name), help, kind, std::move(labels), value, {}});
  }

  std::string section_;
  std::vector<Variable> list_;
};

absl::string_view HelpOf(absl::string_view go_name) {
  constexpr std::pair<absl::string_view, absl::string_view> kHelp[] = {
      {"/sched/gomaxprocs:threads", "Ps: how many goroutines run at once"},
      {"/sched/goroutines-created:goroutines", "goroutines started since the start"},
      {"/sched/goroutines/not-in-go:goroutines", "goroutines in blocking sections or without a P"},
      {"/sched/goroutines/runnable:goroutines", "goroutines in a queue"},
      {"/sched/goroutines/running:goroutines", "goroutines that run"},
      {"/sched/goroutines/waiting:goroutines", "goroutines that wait"},
      {"/sched/goroutines:goroutines", "goroutines that exist"},
      {"/sched/latencies:seconds", "from being made runnable to running, a sample"},
      {"/sched/pauses/stopping/other:seconds", "until all Ps stood still"},
      {"/sched/pauses/total/other:seconds", "until all Ps went on"},
      {"/sched/threads/total:threads", "threads of the scheduler and its monitor"},
  };
  for (const auto& [name, help] : kHelp) {
    if (name == go_name) return help;
  }
  return "a figure of the scheduler";
}

void AddMetrics(std::vector<Variable>& all) {
  const SchedMetrics metrics = GetSchedMetrics();
  for (const NamedMetric& metric : ByName(metrics)) {
    Variable variable = {"metrics", std::string(metric.name), HelpOf(metric.name), Kind::kGauge};
    if (metric.histogram != nullptr) {
      variable.kind = Kind::kHistogram;
      variable.histogram = *metric.histogram;
    } else {
      if (absl::StrContains(metric.name, "-created:")) variable.kind = Kind::kCounter;
      variable.value = static_cast<double>(metric.value);
    }
    all.push_back(std::move(variable));
  }
}

void AddSched(std::vector<Variable>& all) {
  const SchedSnapshot s = GetSchedSnapshot();
  List list("sched");
  list.Gauge("idle_procs", "Ps that nobody holds", s.idle_procs);
  list.Gauge("spinning_threads", "threads that look for work", s.spinning_threads);
  list.Gauge("idle_threads", "threads asleep until there is work", s.idle_threads);
  list.Gauge("locked_threads", "threads asleep until their locked goroutine can run",
             s.locked_threads);
  list.Gauge("outlaws", "goroutines that run on without a P, as theirs was taken", s.outlaws);
  list.Gauge("global_queue", "goroutines in the queue that all Ps share", s.global_queue_size);
  for (const ProcSnapshot& p : s.procs) {
    list.Gauge("run_queue", "goroutines in a P's own queue", p.run_queue_size,
               {{"p", absl::StrCat(p.id)}});
  }
  for (const ProcSnapshot& p : s.procs) {
    list.Counter("ticks", "goroutines that a P has run", p.schedtick, {{"p", absl::StrCat(p.id)}});
  }
  list.Counter("steals", "times that a P took goroutines from another's queue", s.steals);
  list.Counter("far_steals", "of these, from another node", s.far_steals);
  const LeaseCounts& l = s.leases;
  const absl::string_view taken = "Ps taken from goroutines";
  list.Counter("leases_taken", taken, l.taken_blocking, {{"why", "blocking section"}});
  list.Counter("leases_taken", taken, l.taken_asleep, {{"why", "blocked"}});
  list.Counter("leases_taken", taken, l.taken_slice, {{"why", "slice"}});
  list.Counter("leases_taken", taken, l.taken_stop, {{"why", "stop"}});
  list.Counter("leases_asked", "times a goroutine was asked to yield", l.asked);
  list.Counter("leases_yielded", "times it did so in a function call", l.yielded_in_place);
  list.Counter("leases_refused", "times it was inside the runtime then", l.refused);
  list.Counter("barriers", "calls of membarrier for leases", l.barriers);
  MonitorDutyStats duties[32];
  const int count = std::min(GetMonitorStats(duties, 32), 32);
  for (int i = 0; i < count; ++i) {
    list.Counter("monitor_runs", "runs of the monitor's duties", duties[i].runs,
                 {{"duty", duties[i].name}});
  }
  for (int i = 0; i < count; ++i) {
    list.Counter("monitor_finds", "runs that found work", duties[i].finds,
                 {{"duty", duties[i].name}});
  }
  list.AppendTo(all);
}

void AddStacks(std::vector<Variable>& all) {
  List list("stack");
  const stack::Stats s = stack::GetStats();
  const struct {
    const char* state;
    size_t stack::Stats::Class::* member;
  } kStates[] = {{"in_use", &stack::Stats::Class::in_use},
                 {"cached", &stack::Stats::Class::cached},
                 {"central", &stack::Stats::Class::central}};
  for (size_t i = 0; i < s.classes.size(); ++i) {
    const stack::Stats::Class& c = s.classes[i];
    for (const auto& state : kStates) {
      list.Gauge("slots", "slots for stacks, by their class and who has them", c.*state.member,
                 {{"class", SlotClassName(i)}, {"state", state.state}});
    }
  }
  list.Gauge("reserved_bytes", "address space of all slots and gaps", s.bytes_reserved);
  list.Gauge("mappings", "mappings that they take", s.mappings);
  const stack::RestStats r = stack::GetRestStats();
  list.Counter("rests", "stacks copied out of their slots", r.rests);
  list.Counter("rested_bytes", "bytes of these", r.bytes_rested);
  list.Counter("wakes_at_home", "stacks copied in where they came from", r.wakes_at_home);
  list.Counter("wakes_elsewhere", "stacks copied in to another slot", r.moves);
  list.Gauge("block_bytes", "memory for stacks at rest", r.block_bytes);
  list.Counter("given_back", "slots whose unused pages went back to the system", r.given_back);
  const stack::GrowStats g = stack::GetGrowStats();
  list.Counter("moves", "running stacks that moved", g.moves);
  list.Counter("growths", "of these, to a larger slot", g.growths);
  list.Counter("moved_bytes", "bytes of these", g.bytes_moved);
  const stack::SegmentStats segments = stack::GetSegmentStats();
  list.Counter("segment_links", "calls that went to a segment", segments.links);
  list.Gauge("segments", "segments made", segments.made);
  list.AppendTo(all);
}

std::string ReadSmallFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

int64_t CountOpenFiles() {
  DIR* const directory = opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  int64_t count = -1;  // without its own
  while (const dirent* entry = readdir(directory)) count += entry->d_name[0] != '.';
  closedir(directory);
  return count;
}

// Fields of /proc/self/stat from the third, "state", on: the second may have anything in it.
std::vector<std::string> StatFields() {
  const std::string stat = ReadSmallFile("/proc/self/stat");
  const size_t end = stat.rfind(") ");
  if (end == std::string::npos) return {};
  return absl::StrSplit(stat.substr(end + 2), ' ');
}

double SecondsOf(absl::string_view ticks) {
  uint64_t value = 0;
  if (!absl::SimpleAtoi(ticks, &value)) return 0;
  return static_cast<double>(value) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double BootTime() {
  for (const absl::string_view line : absl::StrSplit(ReadSmallFile("/proc/stat"), '\n')) {
    int64_t seconds = 0;
    if (absl::StartsWith(line, "btime ") && absl::SimpleAtoi(line.substr(6), &seconds)) {
      return static_cast<double>(seconds);
    }
  }
  return 0;
}

void AddProcess(std::vector<Variable>& all) {
  const BlockingSection section;
  List list("process");
  const std::vector<std::string> stat = StatFields();
  if (stat.size() > 21) {  // numbered as in proc(5), less three
    list.Counter("cpu_seconds", "processor time, the system's included",
                 SecondsOf(stat[11]) + SecondsOf(stat[12]));
    list.Gauge("start_time_seconds", "when it was started, since 1970",
               BootTime() + SecondsOf(stat[19]));
    int64_t pages = 0;
    if (absl::SimpleAtoi(stat[21], &pages)) {
      list.Gauge("resident_memory_bytes", "memory that it has", pages * sysconf(_SC_PAGESIZE));
    }
    int64_t bytes = 0;
    if (absl::SimpleAtoi(stat[20], &bytes)) {
      list.Gauge("virtual_memory_bytes", "address space that it has", bytes);
    }
    int64_t threads = 0;
    if (absl::SimpleAtoi(stat[17], &threads)) {
      list.Gauge("threads", "threads, the program's own included", threads);
    }
  }
  list.Gauge("open_fds", "open descriptors", CountOpenFiles());
  list.Gauge("max_fds", "how many there may be", sysconf(_SC_OPEN_MAX));
  list.AppendTo(all);
}

}  // namespace

std::string SlotClassName(size_t index) {
  constexpr const char* kFirst[] = {"64KiB", "256KiB", "1MiB",         "8MiB",       "64MiB",
                                    "large", "pinned", "pinned-64MiB", "pinned-1GiB"};
  if (index < std::size(kFirst)) return kFirst[index];
  const size_t kib = size_t{64} << (index - static_cast<size_t>(stack::SizeClass::kFirstCopy));
  return kib < 1024 ? absl::StrCat("copied-", kib, "KiB")
                    : absl::StrCat("copied-", kib / 1024, "MiB");
}

std::vector<Variable> GetVariables() {
  std::vector<Variable> all;
  AddMetrics(all);
  AddSched(all);
  AddStacks(all);
  AddProcess(all);
  return all;
}

}  // namespace weft::debug::internal
