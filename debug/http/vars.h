// The program's figures, in one list for all who print them.
#ifndef WEFT_DEBUG_HTTP_VARS_H_
#define WEFT_DEBUG_HTTP_VARS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "sched/metrics.h"

namespace weft::debug::internal {

struct Variable {
  enum class Kind { kGauge, kCounter, kHistogram };

  std::string section;  // "sched", "stack", "process", ...
  // Within it: "leases_taken". Those of metrics.h have Go's name, "/sched/goroutines:goroutines".
  std::string name;
  absl::string_view help;
  Kind kind = Kind::kGauge;
  std::vector<std::pair<std::string, std::string>> labels = {};
  double value = 0;
  DurationHistogram histogram = {};
};

// All of them; those of one name that differ by labels one after the other. Starts the scheduler if
// it is not running. Takes about 100 us.
std::vector<Variable> GetVariables();

// Of a class of slots, by its number in stack::Stats::classes: "256KiB", "pinned", "copied-64KiB".
std::string SlotClassName(size_t index);

// {"cmdline": [...], "sched": {"NAME": VALUE, ...}, ...}. Where there are labels, the value is a
// list of objects with them and "value"; of a histogram it is an object with "count", quantiles in
// seconds, and the buckets that are not empty as [upper bound, count].
std::string FormatJson(const std::vector<Variable>& variables);

// Prometheus' text format, version 0.0.4: names "weft_<section>_<name>", "_total" at the end of
// counters', and those that its client libraries have for a process.
std::string FormatPrometheus(const std::vector<Variable>& variables);

}  // namespace weft::debug::internal

#endif  // WEFT_DEBUG_HTTP_VARS_H_
