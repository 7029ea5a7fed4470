#include "sched/clock.h"

#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace weft {
namespace {

TEST(ClockTest, ZeroLiesBeforeNowAndNeverAfter) {
  EXPECT_LT(Instant(), Instant::Now());
  EXPECT_LT(Instant::Now(), Instant::Never());
  EXPECT_TRUE(Instant::Never().IsNever());
  EXPECT_FALSE(Instant::Now().IsNever());
}

TEST(ClockTest, NowNeverGoesBack) {
  Instant last = Instant::Now();
  for (int i = 0; i < 100'000; ++i) {
    const Instant now = Instant::Now();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(ClockTest, DurationsAddAndSubtract) {
  const Instant start = Instant::FromNanos(1'000);
  EXPECT_EQ((start + absl::Nanoseconds(5)).nanos(), 1'005);
  EXPECT_EQ((start + absl::Nanoseconds(-5)).nanos(), 995);
  EXPECT_EQ((start + absl::Milliseconds(3)) - start, absl::Milliseconds(3));
  EXPECT_EQ(start - (start + absl::Milliseconds(3)), -absl::Milliseconds(3));
}

TEST(ClockTest, AdditionSaturates) {
  for (const Instant i : {Instant(), Instant::FromNanos(1), Instant::Now(), Instant::Never()}) {
    EXPECT_TRUE((i + absl::InfiniteDuration()).IsNever());
    EXPECT_EQ(i + -absl::InfiniteDuration(), Instant());
  }
  EXPECT_TRUE((Instant::Now() + absl::Hours(24 * 365 * 1000)).IsNever());
  EXPECT_EQ(Instant::FromNanos(5) + absl::Nanoseconds(-6), Instant());
}

TEST(ClockTest, WallClockTimesBecomeInstants) {
  EXPECT_TRUE(Instant::FromTime(absl::InfiniteFuture()).IsNever());
  EXPECT_EQ(Instant::FromTime(absl::InfinitePast()), Instant());
  const Instant before = Instant::Now();
  const Instant in_an_hour = Instant::FromTime(absl::Now() + absl::Hours(1));
  EXPECT_GE(in_an_hour, before + absl::Minutes(59));
  EXPECT_LE(in_an_hour, Instant::Now() + absl::Minutes(61));
}

}  // namespace
}  // namespace weft
