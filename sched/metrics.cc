#include "sched/metrics.h"

#include <algorithm>

#include "sched/goroutine.h"
#include "sched/internal/histogram.h"
#include "sched/internal/numa.h"
#include "sched/internal/runtime.h"

namespace weft {
namespace internal {

constinit std::atomic<uint32_t> stamp_every{kStampEvery};

namespace {

// A stamp has 32 bits, so that a goroutine is no larger for it: units of 64 ns, which come round
// after 275 s, where the histogram ends. 0 says that there is none.
constexpr int kStampShift = DurationCounts::kLowestBit;

uint32_t StampNow() { return static_cast<uint32_t>(Instant::Now().nanos() >> kStampShift); }

}  // namespace

__attribute__((noinline)) void Stamp(G* g) noexcept {
  const uint32_t now = StampNow();
  g->runnable_since = now == 0 ? 1 : now;
}

__attribute__((noinline)) void CountLatency(P* p, G* g) noexcept {
  // Modulo 2^32, as the clock of the stamps goes.
  const uint32_t waited = StampNow() - g->runnable_since;
  g->runnable_since = 0;
  const int64_t nanos = int64_t{waited} << kStampShift;
  p->latencies.Add(nanos);
  ProfileLatency(g, nanos);
}

}  // namespace internal

namespace {

using internal::DurationCounts;
using internal::sched;

DurationHistogram EmptyHistogram() {
  DurationHistogram histogram;
  histogram.counts.resize(DurationCounts::kBuckets);
  histogram.bounds.reserve(DurationCounts::kBuckets + 1);
  for (int i = 0; i < DurationCounts::kBuckets; ++i) {
    histogram.bounds.push_back(absl::Nanoseconds(DurationCounts::LowerBound(i)));
  }
  histogram.bounds.push_back(absl::InfiniteDuration());
  return histogram;
}

// Those that are on a thread now.
void CountByThread(SchedMetrics& metrics) {
  for (const internal::M* m = sched.all_ms.load(std::memory_order_acquire); m != nullptr;
       m = m->next_all) {
    const internal::G* g = m->current.load(std::memory_order_acquire);
    // Null in the scheduler. One that waits in place for a P is in a queue.
    if (g == nullptr ||
        g->status.load(std::memory_order_relaxed) == internal::GStatus::kPreempted) {
      continue;
    }
    if (m->blocking.load(std::memory_order_relaxed) ||
        m->p.load(std::memory_order_relaxed) == nullptr) {
      ++metrics.not_in_go;
    } else {
      ++metrics.running;
    }
  }
  // A P that changes hands meanwhile may have been seen with both.
  metrics.running = std::min(metrics.running, metrics.gomaxprocs);
}

}  // namespace

uint64_t DurationHistogram::total() const {
  uint64_t sum = 0;
  for (const uint64_t count : counts) sum += count;
  return sum;
}

absl::Duration DurationHistogram::Quantile(double q) const {
  const auto all = static_cast<double>(total());
  uint64_t so_far = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    so_far += counts[i];
    if (so_far > 0 && static_cast<double>(so_far) >= q * all) return bounds[i + 1];
  }
  return absl::ZeroDuration();
}

SchedMetrics GetSchedMetrics() {
  internal::EnsureStarted();
  internal::RuntimeSection section;
  SchedMetrics metrics;
  metrics.latencies = metrics.pauses_stopping = metrics.pauses_total = EmptyHistogram();
  const int procs = sched.p_count.load(std::memory_order_acquire);
  metrics.gomaxprocs = procs;
  metrics.threads = sched.m_count.load(std::memory_order_relaxed) + 1;
  metrics.goroutines = NumGoroutine();
  metrics.goroutines_created =
      static_cast<int64_t>(sched.goroutines.started.load(std::memory_order_relaxed));
  metrics.runnable = sched.global_size.load(std::memory_order_relaxed) + internal::NodeQueueSizes();
  for (int i = 0; i < internal::kMaxProcsLimit; ++i) {
    // Those that there are no longer have counted too.
    const internal::P* p = sched.ps[i].load(std::memory_order_acquire);
    if (p == nullptr) break;
    metrics.goroutines_created +=
        static_cast<int64_t>(p->goroutines.started.load(std::memory_order_relaxed));
    p->latencies.AddTo(metrics.latencies.counts);
    if (i >= procs) continue;
    metrics.runnable += p->run_queue.Size() + (p->run_queue.HasNext() ? 1 : 0);
  }
  CountByThread(metrics);
  metrics.waiting = std::max<int64_t>(
      metrics.goroutines - metrics.running - metrics.runnable - metrics.not_in_go, 0);
  sched.pauses_stopping.AddTo(metrics.pauses_stopping.counts);
  sched.pauses_total.AddTo(metrics.pauses_total.counts);
  return metrics;
}

std::vector<NamedMetric> ByName(const SchedMetrics& metrics) {
  return {{"/sched/gomaxprocs:threads", metrics.gomaxprocs},
          {"/sched/goroutines-created:goroutines", metrics.goroutines_created},
          {"/sched/goroutines/not-in-go:goroutines", metrics.not_in_go},
          {"/sched/goroutines/runnable:goroutines", metrics.runnable},
          {"/sched/goroutines/running:goroutines", metrics.running},
          {"/sched/goroutines/waiting:goroutines", metrics.waiting},
          {"/sched/goroutines:goroutines", metrics.goroutines},
          {"/sched/latencies:seconds", 0, &metrics.latencies},
          {"/sched/pauses/stopping/other:seconds", 0, &metrics.pauses_stopping},
          {"/sched/pauses/total/other:seconds", 0, &metrics.pauses_total},
          {"/sched/threads/total:threads", metrics.threads}};
}

}  // namespace weft
