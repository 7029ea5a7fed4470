// The scheduler's figures under the names that Go's runtime/metrics gives them, as plain data: for
// a page that a monitoring system reads.
//
//   const weft::SchedMetrics metrics = weft::GetSchedMetrics();
//   if (metrics.latencies.Quantile(0.99) > absl::Milliseconds(10)) ...
//   for (const weft::NamedMetric& m : weft::ByName(metrics)) Print(m.name, m.value);
//
// snapshot.h has the rest: what each P does at this moment, and what has become of leases.
#ifndef WEFT_SCHED_METRICS_H_
#define WEFT_SCHED_METRICS_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weft {

// How many durations of each size there have been since the start. Buckets are at most a quarter
// wide; the first holds all that is shorter than 64 ns, the last all from 275 s on.
struct DurationHistogram {
  // counts[i] lay in [bounds[i], bounds[i + 1]); the last of bounds, one more than there are
  // counts, is infinite.
  std::vector<absl::Duration> bounds;
  std::vector<uint64_t> counts;

  uint64_t total() const;
  // The upper bound of the bucket that the q-th of all durations fell in, 0 < q <= 1; zero where
  // there has been none.
  absl::Duration Quantile(double q) const;
};

struct SchedMetrics {
  int64_t gomaxprocs = 0;          // /sched/gomaxprocs:threads
  int64_t threads = 0;             // /sched/threads/total:threads; Ms and the monitor
  int64_t goroutines = 0;          // /sched/goroutines:goroutines
  int64_t goroutines_created = 0;  // /sched/goroutines-created:goroutines, since the start

  // By state. Read one after the other while goroutines go on, so they need not add up to the
  // number of all.
  int64_t running = 0;   // /sched/goroutines/running:goroutines; with a P, at most gomaxprocs
  int64_t runnable = 0;  // /sched/goroutines/runnable:goroutines; in a queue
  int64_t waiting = 0;   // /sched/goroutines/waiting:goroutines
  // /sched/goroutines/not-in-go:goroutines: in a BlockingSection, or on a thread whose P was
  // taken, as they blocked without saying so or computed for more than two time slices.
  int64_t not_in_go = 0;

  // /sched/latencies:seconds: from being made runnable to running. A sample, every 251st time; not
  // of goroutines that give way in the middle of their code.
  DurationHistogram latencies;
  // /sched/pauses/stopping/other:seconds: until all Ps stood still, for SetMaxProcs() and the like.
  DurationHistogram pauses_stopping;
  // /sched/pauses/total/other:seconds: until they went on.
  DurationHistogram pauses_total;
};

// From any thread or goroutine, at any time; starts the runtime if it is not running. Takes some
// microseconds, and one more for each hundred threads. As any entry into the runtime it may move
// the calling goroutine to another thread.
SchedMetrics GetSchedMetrics();

struct NamedMetric {
  absl::string_view name;  // Go's
  int64_t value = 0;
  const DurationHistogram* histogram = nullptr;  // instead of a value; in `metrics`
};

// All of them, in the order of their names.
std::vector<NamedMetric> ByName(const SchedMetrics& metrics);

}  // namespace weft

#endif  // WEFT_SCHED_METRICS_H_
