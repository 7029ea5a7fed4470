#include "sched/metrics.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/internal/histogram.h"
#include "sched/internal/thread.h"
#include "sched/testing.h"
#include "sched/waiter.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using internal::DurationCounts;
using testing::Eventually;
using testing::ForEachMaxProcs;
using testing::Rounds;
using testing::RunOnGoroutine;

// Go's test allows so many for what its runtime does beside.
constexpr int64_t kOthers = 4;

bool IsBetween(int64_t value, int64_t least, int64_t most) {
  return least <= value && value <= most;
}

TEST(DurationCountsTest, ABucketHoldsWhatLiesBetweenItsBounds) {
  for (int i = 1; i < DurationCounts::kBuckets; ++i) {
    const int64_t bound = DurationCounts::LowerBound(i);
    EXPECT_EQ(DurationCounts::BucketOf(bound), i);
    EXPECT_EQ(DurationCounts::BucketOf(bound - 1), i - 1);
    if (i > 2) EXPECT_LE(bound, DurationCounts::LowerBound(i - 1) * 5 / 4);
  }
  EXPECT_EQ(DurationCounts::BucketOf(0), 0);
  EXPECT_EQ(DurationCounts::BucketOf(-5), 0);
  EXPECT_EQ(DurationCounts::BucketOf(INT64_MAX), DurationCounts::kBuckets - 1);
}

TEST(DurationHistogramTest, TellsQuantilesByUpperBounds) {
  DurationHistogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5), absl::ZeroDuration());
  histogram.bounds = {absl::ZeroDuration(), absl::Seconds(1), absl::Seconds(2), absl::Seconds(3),
                      absl::InfiniteDuration()};
  histogram.counts = {0, 90, 9, 1};
  EXPECT_EQ(histogram.total(), 100u);
  EXPECT_EQ(histogram.Quantile(0.01), absl::Seconds(2));
  EXPECT_EQ(histogram.Quantile(0.9), absl::Seconds(2));
  EXPECT_EQ(histogram.Quantile(0.95), absl::Seconds(3));
  EXPECT_EQ(histogram.Quantile(1), absl::InfiniteDuration());
}

// Goroutines that compute, and end when told. They look in now and then: those that never do run on
// without a P after two time slices, and count as not-in-go then.
class Spinners {
 public:
  explicit Spinners(int count) : left_(count) {
    for (int i = 0; i < count; ++i) {
      Go([this] {
        while (!stop_.load()) {
          for (volatile int n = 0; n < 10'000;) {
            n = n + 1;
          }
          Yield();
        }
        left_.fetch_sub(1);
      });
    }
  }
  ~Spinners() {
    stop_.store(true);
    EXPECT_TRUE(Eventually([&] { return left_.load() == 0; }));
  }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<int> left_;
};

// DB-10, in its parts.
TEST(MetricsTest, DB10_CountsWhatRunsAndWhatCouldRun) {
  SetMaxProcs(1);
  RunOnGoroutine([] {
    ASSERT_TRUE(Eventually([] {
      const SchedMetrics m = GetSchedMetrics();
      return m.running == 1 && m.runnable <= kOthers && m.not_in_go <= kOthers;
    }));
    const SchedMetrics before = GetSchedMetrics();
    const Spinners spinners(10);
    EXPECT_EQ(GetSchedMetrics().goroutines_created - before.goroutines_created, 10);
    SetMaxProcs(14);
    EXPECT_TRUE(Eventually([&] {
      const SchedMetrics m = GetSchedMetrics();
      EXPECT_EQ(m.gomaxprocs, 14);
      // Threads of former tests may still be asleep.
      return IsBetween(m.running, 10, 14) && m.threads >= 10;
    }));
    SetMaxProcs(1);
    EXPECT_TRUE(Eventually([] {
      const SchedMetrics m = GetSchedMetrics();
      EXPECT_LE(m.running, 1);
      return m.running == 1 && IsBetween(m.runnable, 9, 14);
    }));
  });
  SetMaxProcs(2);
}

// Goroutines that read from a pipe to which nobody writes.
class Readers {
 public:
  Readers(int count, const std::function<void(int fd)>& read) : left_(count) {
    EXPECT_EQ(pipe(pipe_), 0);
    for (int i = 0; i < count; ++i) {
      Go([this, read] {
        read(pipe_[0]);
        left_.fetch_sub(1);
      });
    }
  }
  ~Readers() {
    close(pipe_[1]);
    EXPECT_TRUE(Eventually([&] { return left_.load() == 0; }));
    close(pipe_[0]);
  }

 private:
  int pipe_[2];
  std::atomic<int> left_;
};

void ReadByte(int fd) {
  char byte;
  EXPECT_EQ(read(fd, &byte, 1), 0);
}

// DB-10, DB-11: in foreign calls, whether announced or not, before and after a stop of the world.
TEST(MetricsTest, DB11_CountsWhatIsInForeignCalls) {
  const std::function<void(int)> announced = [](int fd) {
    const BlockingSection section;
    ReadByte(fd);
  };
  for (const std::function<void(int)>& read : {announced, std::function<void(int)>(ReadByte)}) {
    SetMaxProcs(4);
    ASSERT_TRUE(Eventually([] { return GetSchedMetrics().not_in_go == 0; }));
    const Readers readers(10, read);
    EXPECT_TRUE(Eventually([] { return GetSchedMetrics().not_in_go == 10; }));
    SetMaxProcs(3);
    EXPECT_EQ(GetSchedMetrics().not_in_go, 10);
  }
  SetMaxProcs(2);
}

TEST(MetricsTest, DB10_CountsWhatWaits) {
  ForEachMaxProcs([] {
    static constexpr int kTasks = 1'000;
    // One that has done its work counts until its thread has left it.
    ASSERT_TRUE(Eventually([] { return NumGoroutine() == 0; }));
    std::atomic<bool> go_on{false};
    std::atomic<int> left{kTasks};
    std::atomic<int> started{0};
    std::vector<std::atomic<Waiter*>> waiters(kTasks);
    for (std::atomic<Waiter*>& waiter : waiters) {
      Go([&] {
        waiter.store(Waiter::Current());
        started.fetch_add(1);
        while (!go_on.load()) Waiter::Current()->Park(WaitReason::kChanReceive);
        left.fetch_sub(1);
      });
    }
    ASSERT_TRUE(Eventually([&] { return started.load() == kTasks; }));
    EXPECT_TRUE(Eventually([] {
      const SchedMetrics m = GetSchedMetrics();
      EXPECT_EQ(m.goroutines, kTasks);
      return m.waiting == kTasks && m.running + m.runnable + m.not_in_go == 0;
    }));
    go_on.store(true);
    for (std::atomic<Waiter*>& waiter : waiters) waiter.load()->Unpark();
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
    EXPECT_TRUE(Eventually([] { return GetSchedMetrics().waiting == 0; }));
  });
}

// One in so many of the times that a goroutine is made ready counts, whatever way it was.
TEST(MetricsTest, CountsHowLongGoroutinesWaitForTheirTurn) {
  ForEachMaxProcs([] {
    constexpr int kTasks = 10;
    const int each = Rounds(10'000, 2'000);
    const uint64_t before = GetSchedMetrics().latencies.total();
    std::atomic<int> left{kTasks};
    for (int i = 0; i < kTasks; ++i) {
      Go([&] {
        for (int n = 0; n < each; ++n) Yield();
        left.fetch_sub(1);
      });
    }
    ASSERT_TRUE(Eventually([&] { return left.load() == 0; }));
    const uint64_t counted = GetSchedMetrics().latencies.total() - before;
    const auto times = static_cast<uint64_t>(kTasks * each);
    EXPECT_GE(counted, times / 300);
    EXPECT_LE(counted, times / 200);
  });
}

TEST(MetricsTest, ALatencyIsAsLongAsItWas) {
  SetMaxProcs(1);
  const SchedMetrics before = GetSchedMetrics();
  constexpr int kTasks = 1'000;
  std::atomic<int> left{kTasks};
  // With one P all of these wait until the one that has it gives it up: no monitor takes it from
  // within the runtime.
  RunOnGoroutine([&] {
    const internal::RuntimeSection section;
    for (int i = 0; i < kTasks; ++i) Go([&] { left.fetch_sub(1); });
    for (const Instant end = Instant::Now() + absl::Milliseconds(20); Instant::Now() < end;) {
    }
  });
  // (From this thread: a goroutine that waits for them waits for its turn.)
  ASSERT_TRUE(Eventually([&] { return left.load() == 0; }));
  const SchedMetrics after = GetSchedMetrics();
  uint64_t long_ones = 0;
  for (size_t i = 0; i < after.latencies.counts.size(); ++i) {
    if (after.latencies.bounds[i + 1] <= absl::Milliseconds(20)) continue;
    long_ones += after.latencies.counts[i] - before.latencies.counts[i];
  }
  EXPECT_GE(long_ones, 3u);
  EXPECT_LE(long_ones, kTasks / 200u);
  SetMaxProcs(2);
}

TEST(MetricsTest, CountsStopsOfTheWorld) {
  const SchedMetrics before = GetSchedMetrics();
  for (int i = 0; i < 20; ++i) SetMaxProcs(2 + i % 2);
  const SchedMetrics after = GetSchedMetrics();
  const uint64_t stops = after.pauses_total.total() - before.pauses_total.total();
  EXPECT_GE(stops, 19u);
  EXPECT_EQ(after.pauses_stopping.total() - before.pauses_stopping.total(), stops);
  EXPECT_GE(after.pauses_total.Quantile(0.5), after.pauses_stopping.Quantile(0.5));
  SetMaxProcs(2);
}

TEST(MetricsTest, HasGosNamesInOrder) {
  SetMaxProcs(3);
  const SchedMetrics metrics = GetSchedMetrics();
  std::vector<std::string> names;
  for (const NamedMetric& m : ByName(metrics)) {
    names.emplace_back(m.name);
    if (m.name == "/sched/gomaxprocs:threads") EXPECT_EQ(m.value, 3);
    EXPECT_EQ(m.histogram != nullptr, absl::EndsWith(m.name, ":seconds")) << m.name;
  }
  EXPECT_EQ(names.size(), 11u);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  SetMaxProcs(2);
}

TEST(MetricsTest, MayBeReadAnyTimeFromAnywhere) {
  ForEachMaxProcs([] {
    std::atomic<bool> stop{false};
    std::atomic<int> left{6};
    const auto look = [&] {
      while (!stop.load()) {
        const SchedMetrics m = GetSchedMetrics();
        EXPECT_LE(m.running, m.gomaxprocs);
        EXPECT_GE(m.waiting, 0);
        EXPECT_LE(m.goroutines, m.goroutines_created);
        Yield();
      }
      left.fetch_sub(1);
    };
    for (int i = 0; i < 4; ++i) Go(look);
    std::thread a(look);
    std::thread b(look);
    for (int i = 0; i < Rounds(100); ++i) {
      RunOnGoroutine([] { Sleep(absl::Microseconds(30)); });
    }
    stop.store(true);
    a.join();
    b.join();
    EXPECT_TRUE(Eventually([&] { return left.load() == 0; }));
  });
}

}  // namespace
}  // namespace weft
