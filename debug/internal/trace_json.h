// A recorded trace in the form that chrome://tracing and https://ui.perfetto.dev read: the "Trace
// Event Format", one JSON object with an array of events, here one to a line.
//
//   process "Ps"          a track for each P: which goroutine it runs; "scheduler" while it has
//   none
//                         but looks for one; nothing while it is idle. Arrows lead from who woke a
//                         goroutine to where that ran.
//   process "goroutines"  a track for each goroutine: running, runnable, or what it waits for; with
//                         who woke it, how long it was runnable, and what it logged
//   process "threads"     a track for each thread (M): the P that it has, asleep, waiting for
//   events process "regions"     the program's own regions, by goroutine, and tasks process "world"
//   when it is being stopped, and is
//
// Times are microseconds with three digits behind the point.
#ifndef WEFT_DEBUG_INTERNAL_TRACE_JSON_H_
#define WEFT_DEBUG_INTERNAL_TRACE_JSON_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "debug/internal/trace_recorder.h"

namespace weft::debug::internal {

// A goroutine that there is at the end of the trace.
struct AliveGoroutine {
  uint64_t id = 0;
  std::string name;
  std::string state;  // "runnable", "running", "chan receive", ...
};

struct TraceJsonOptions {
  // Those that have no event in the trace are shown as what they are.
  std::vector<AliveGoroutine> alive;
  // "main.cc:12 in Serve" for the address of a call of Go(); empty: not known.
  std::function<std::string(uintptr_t pc)> describe_site;
};

// Writes the whole text to `sink`, in pieces.
void WriteTraceJson(const RecordedTrace& trace, const TraceJsonOptions& options,
                    absl::FunctionRef<void(absl::string_view)> sink);

}  // namespace weft::debug::internal

#endif  // WEFT_DEBUG_INTERNAL_TRACE_JSON_H_
