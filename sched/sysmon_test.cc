// The monitor's thread and its duties. The host here is the test's own, so that it can be idle at
// will.
#include "sched/sysmon.h"

#include <signal.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace weft {
namespace {

std::atomic<bool> idle{false};
std::atomic<int> asked{0};
std::atomic<int> slept{0};
std::atomic<bool> asked_for_deadline{false};

const internal::MonitorHost kHost = {
    .try_sleep =
        [](Instant* until) {
          asked.fetch_add(1);
          if (!idle.load()) return false;
          if (asked_for_deadline.load()) *until = Instant::Now() + absl::Milliseconds(5);
          return true;
        },
    .slept = [] { slept.fetch_add(1); },
};

// Not a goroutine to be seen: the limit is on this thread's patience.
template <typename Condition>
bool Eventually(Condition condition) {
  const Instant limit = Instant::Now() + absl::Seconds(30);
  while (!condition()) {
    if (Instant::Now() > limit) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return true;
}

// A duty that counts its runs, and finds work while told so.
template <int N>
struct Duty {
  static inline std::atomic<int> runs{0};
  static inline std::atomic<bool> finds{false};
  static bool Run(Instant now) {
    EXPECT_LE(now, Instant::Now());
    runs.fetch_add(1);
    return finds.load();
  }
};

MonitorDutyStats StatsOf(const std::string& name) {
  MonitorDutyStats stats[32];
  const int count = GetMonitorStats(stats, 32);
  for (int i = 0; i < count; ++i) {
    if (name == stats[i].name) return stats[i];
  }
  ADD_FAILURE() << "no duty " << name;
  return {};
}

// Before main, as duties are registered in programs.
const bool registered = [] {
  RegisterMonitorDuty({.name = "always", .run = Duty<0>::Run});
  RegisterMonitorDuty({.name = "periodic", .period = absl::Milliseconds(10), .run = Duty<1>::Run});
  return true;
}();

class SysmonTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { internal::StartMonitor(&kHost); }
  void SetUp() override {
    ASSERT_TRUE(registered);
    idle.store(false);
    asked_for_deadline.store(false);
    internal::WakeMonitor();
  }
};

TEST_F(SysmonTest, RunsDutiesThatWereRegisteredBeforeItStarted) {
  EXPECT_TRUE(Eventually([] { return Duty<0>::runs.load() > 10 && Duty<1>::runs.load() > 2; }));
}

TEST_F(SysmonTest, TakesUpNewDutiesWhileItRuns) {
  RegisterMonitorDuty({.name = "late", .run = Duty<2>::Run});
  EXPECT_TRUE(Eventually([] { return Duty<2>::runs.load() > 2; }));
}

TEST_F(SysmonTest, SlowsDownWhileNothingIsFound) {
  EXPECT_TRUE(Eventually([] { return internal::MonitorPace() > absl::Milliseconds(5); }));
  EXPECT_LE(internal::MonitorPace(), absl::Milliseconds(10));
}

TEST_F(SysmonTest, ADutyThatFindsWorkSpeedsItUp) {
  ASSERT_TRUE(Eventually([] { return internal::MonitorPace() > absl::Milliseconds(5); }));
  const uint64_t finds = StatsOf("always").finds;
  Duty<0>::finds.store(true);
  // Not at the sight of the pace alone, which a wake-up from before may have changed.
  EXPECT_TRUE(Eventually([&] {
    return StatsOf("always").finds > finds && internal::MonitorPace() == absl::Microseconds(20);
  }));
  Duty<0>::finds.store(false);
  const MonitorDutyStats stats = StatsOf("always");
  EXPECT_GE(stats.runs, stats.finds);
}

TEST_F(SysmonTest, WakeShortensARound) {
  ASSERT_TRUE(Eventually([] { return internal::MonitorPace() > absl::Milliseconds(5); }));
  // 100 rounds at the slowest pace would take a second.
  const int before = Duty<0>::runs.load();
  const Instant start = Instant::Now();
  while (Duty<0>::runs.load() < before + 100) {
    internal::WakeMonitor();
    std::this_thread::yield();
  }
  EXPECT_LT(Instant::Now() - start, absl::Seconds(20));
}

TEST_F(SysmonTest, OnlyPeriodicDutiesRunWhileAllIsIdle) {
  idle.store(true);
  // Until it has noticed.
  const int slept_before = slept.load();
  ASSERT_TRUE(Eventually([&] { return slept.load() > slept_before + 1; }));
  // In this order, and in the other one below: what runs while this thread is kept from running is
  // counted for the periodic one.
  const int periodic_before = Duty<1>::runs.load();
  const int always_before = Duty<0>::runs.load();
  ASSERT_TRUE(Eventually([&] { return Duty<1>::runs.load() >= periodic_before + 10; }));
  const int always = Duty<0>::runs.load() - always_before;
  const int periodic = Duty<1>::runs.load() - periodic_before;
  // One ordinary round between two sleeps, and no more than that.
  EXPECT_LE(always, 2 * periodic + 4);
}

TEST_F(SysmonTest, PeriodsDoNotDrift) {
  idle.store(true);
  const Instant start = Instant::Now();
  const int before = Duty<1>::runs.load();
  ASSERT_TRUE(Eventually([&] { return Duty<1>::runs.load() >= before + 31; }));
  // Never early. The first run may have begun before the start, and the second have been late; the
  // third was due after the start, and the last of them 28 periods later. That it is not much later
  // only a quiet machine can show.
  EXPECT_GE(Instant::Now() - start, absl::Milliseconds(280));
}

TEST_F(SysmonTest, TheHostMaySetADeadlineForTheSleep) {
  asked_for_deadline.store(true);
  idle.store(true);
  const int before = asked.load();
  EXPECT_TRUE(Eventually([&] { return asked.load() > before + 5; }));
}

TEST_F(SysmonTest, WakeEndsTheSleep) {
  idle.store(true);
  for (int i = 0; i < 20; ++i) {
    const int before = slept.load();
    internal::WakeMonitor();
    ASSERT_TRUE(Eventually([&] { return slept.load() > before; }));
  }
}

TEST_F(SysmonTest, StatsTellHowManyThereAre) {
  MonitorDutyStats one[1];
  EXPECT_GE(GetMonitorStats(one, 1), 2);
  EXPECT_STREQ(one[0].name, "always");
  EXPECT_GE(GetMonitorStats(nullptr, 0), 2);
}

TEST(SysmonDeathTest, TooManyDutiesAreRefusedByName) {
  EXPECT_DEATH(
      for (int i = 0; i < 40;
           ++i) { RegisterMonitorDuty({.name = "one too many", .run = Duty<3>::Run}); },
      "weft: no room for monitor duty 'one too many': there are 32 already");
}

}  // namespace
}  // namespace weft
