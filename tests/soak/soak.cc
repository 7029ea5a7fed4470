// All of Weft's scheduler at work for a long time: nothing may be lost, and nothing may grow.
//
//   bazel run //tests:soak -- --duration=60s
//
// Rounds of some two seconds. In each, goroutines run workloads picked at random, while threads
// change the number of Ps, which stops the world each time. At its end every goroutine that was
// started has to have ended, or a wake-up was lost. Between some rounds the runtime is stopped and
// started again. What is in use after the last round is compared with what was after the first
// ones: goroutines, threads, and memory, where no sanitizer has its own.
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/metrics.h"
#include "sched/runtime.h"
#include "sched/snapshot.h"
#include "stack/context.h"
#include "tests/soak/workloads.h"

ABSL_FLAG(absl::Duration, duration, absl::Seconds(60), "how long it goes on");
ABSL_FLAG(uint32_t, seed, 1, "of all that is random");
ABSL_FLAG(int, workers, 24, "goroutines that run workloads at once");

namespace weft::soak {

void Fail(absl::string_view what) {
  std::fprintf(stderr, "soak: FAILED: %.*s\n", static_cast<int>(what.size()), what.data());
  for (const GoroutineSnapshot& g : GetGoroutineSnapshots()) {
    std::fprintf(stderr, "  goroutine %llu: status %d %s\n", static_cast<unsigned long long>(g.id),
                 g.status, g.wait_reason);
  }
  std::fflush(nullptr);
  _exit(1);
}

namespace {

constexpr absl::Duration kRound = absl::Seconds(2);
// For what must come, on a machine that is busy with other things.
constexpr absl::Duration kPatience = absl::Minutes(3);
constexpr int kMostProcs = 8;
// Rounds until all caches are full.
constexpr int kWarmUp = 3;
// What may come and go between two looks.
[[maybe_unused]] constexpr int64_t kSlackKiB = 24 << 10;
// Idle threads end after 5 s, but so many, and these for each P.
constexpr int kKeptThreads = 24;
constexpr int kKeptThreadsPerP = 3;

bool Await(const std::function<bool()>& condition, absl::Duration limit) {
  const Instant start = Instant::Now();
  while (!condition()) {
    if (Instant::Now() - start > limit) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

int64_t ResidentKiB() {
  std::ifstream status("/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  status >> size >> resident;
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

// Changes the number of Ps until told to stop.
class ProcsChanger {
 public:
  explicit ProcsChanger(uint32_t seed)
      : thread_([this, seed] {
          Random random(seed);
          while (!stop_.load()) {
            SetMaxProcs(Between(random, 1, kMostProcs));
            (void)GetSchedMetrics();
            (void)GetSchedSnapshot();
            absl::SleepFor(absl::Microseconds(Between(random, 10, 20'000)));
          }
        }) {}
  ~ProcsChanger() {
    stop_.store(true);
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class Soak {
 public:
  Soak() : random_(absl::GetFlag(FLAGS_seed)) {
    for (const Workload* w = kWorkloads; w->name != nullptr; ++w) ++workloads_;
    runs_ = std::vector<std::atomic<int64_t>>(static_cast<size_t>(workloads_));
  }

  void Run() {
    const Instant end = Instant::Now() + absl::GetFlag(FLAGS_duration);
    int64_t memory = 0;
    int rounds = 0;
    for (; Instant::Now() < end || rounds <= kWarmUp; ++rounds) {
      const absl::Duration left = end - Instant::Now();
      Round(std::clamp(left, absl::Milliseconds(200), kRound));
      if (rounds % 4 == 3) Restart();
      if (rounds == kWarmUp) memory = ResidentKiB();
    }
    CheckThreads();
    CheckMemory(memory);
    Report(rounds);
  }

 private:
  void Round(absl::Duration duration) {
    const ProcsChanger changer(random_());
    const Instant end = Instant::Now() + duration;
    for (int i = absl::GetFlag(FLAGS_workers); i > 0; --i) {
      ledger_.Go([this, end, seed = random_()] {
        Random random(seed);
        while (Instant::Now() < end) {
          const int pick = Between(random, 0, workloads_ - 1);
          kWorkloads[pick].run(ledger_, random);
          runs_[static_cast<size_t>(pick)].fetch_add(1, std::memory_order_relaxed);
        }
      });
    }
    if (!Await([&] { return Instant::Now() >= end && NumGoroutine() == 0; },
               duration + kPatience)) {
      Fail(absl::StrCat("a wake-up was lost: of ", ledger_.started(), " goroutines ",
                        ledger_.ended(), " have ended"));
    }
    if (ledger_.ended() != ledger_.started()) {
      Fail(absl::StrCat("of ", ledger_.started(), " goroutines that have ended ", ledger_.ended(),
                        " have run to their end"));
    }
  }

  static void Restart() {
    if (const absl::Status status = Runtime::Stop(kPatience); !status.ok()) {
      Fail(absl::StrCat("it cannot be stopped: ", std::string(status.message())));
    }
    if (const absl::Status status = Runtime::Start(); !status.ok()) {
      Fail(absl::StrCat("it cannot be started: ", std::string(status.message())));
    }
  }

  static void CheckThreads() {
    const int kept = kKeptThreads + kKeptThreadsPerP * MaxProcs();
    if (!Await([&] { return GetSchedMetrics().threads <= kept; }, absl::Minutes(1))) {
      Fail(absl::StrCat(GetSchedMetrics().threads, " threads are left, more than ", kept));
    }
    if (!Await([] { return GetSchedSnapshot().outlaws == 0; }, kPatience)) {
      Fail("goroutines without a P are left");
    }
  }

  static void CheckMemory(int64_t before) {
#if WEFT_ASAN || WEFT_TSAN
    (void)before;
#else
    Restart();  // gives back what is kept for stacks
    malloc_trim(0);
    if (const int64_t now = ResidentKiB(); now > before + kSlackKiB) {
      Fail(absl::StrCat("it has grown from ", before, " KiB to ", now));
    }
#endif
  }

  void Report(int rounds) const {
    const SchedMetrics metrics = GetSchedMetrics();
    const LeaseCounts leases = GetSchedSnapshot().leases;
    std::printf("soak: %d rounds, %lld goroutines, all of which have ended\n", rounds,
                static_cast<long long>(ledger_.started()));
    for (int i = 0; i < workloads_; ++i) {
      std::printf("  %-16s %lld\n", kWorkloads[i].name,
                  static_cast<long long>(runs_[static_cast<size_t>(i)].load()));
    }
    std::printf("  leases taken: blocking %llu, asleep %llu, slice %llu, stop %llu; yielded %llu\n",
                static_cast<unsigned long long>(leases.taken_blocking),
                static_cast<unsigned long long>(leases.taken_asleep),
                static_cast<unsigned long long>(leases.taken_slice),
                static_cast<unsigned long long>(leases.taken_stop),
                static_cast<unsigned long long>(leases.yielded_in_place));
    std::printf("  stops of the world: %llu, half of them within %s; latency 99%%: %s\n",
                static_cast<unsigned long long>(metrics.pauses_total.total()),
                absl::FormatDuration(metrics.pauses_total.Quantile(0.5)).c_str(),
                absl::FormatDuration(metrics.latencies.Quantile(0.99)).c_str());
    std::printf("  %lld threads, %lld KiB resident\n", static_cast<long long>(metrics.threads),
                static_cast<long long>(ResidentKiB()));
  }

  Random random_;
  Ledger ledger_;
  int workloads_ = 0;
  std::vector<std::atomic<int64_t>> runs_;
};

}  // namespace
}  // namespace weft::soak

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("keeps the scheduler busy, and finds what is lost or grows");
  absl::ParseCommandLine(argc, argv);
  weft::soak::Soak().Run();
  return 0;
}
