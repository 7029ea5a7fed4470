// A point on the monotonic clock, the one clock that the runtime waits by.
//
//   weft::Instant deadline = weft::Instant::Now() + absl::Milliseconds(5);
//   while (!ready && weft::Instant::Now() < deadline) ...
//
// Wall-clock deadlines (absl::Time) are turned into an Instant once, where they enter the runtime,
// so that a clock that is set back or forward does not move a wait that is under way.
#ifndef WEFT_SCHED_CLOCK_H_
#define WEFT_SCHED_CLOCK_H_

#include <time.h>

#include <compare>
#include <cstdint>
#include <limits>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace weft {

class Instant {
 public:
  // The zero Instant lies before every Now().
  constexpr Instant() = default;

  // Not inlined: what it gives the address of would be on the pinned stack of every function that
  // looks at the clock and then waits.
  __attribute__((noinline)) static Instant Now() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return FromNanos(now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec);
  }

  // Later than every other Instant: a wait without a deadline.
  static constexpr Instant Never() { return FromNanos(std::numeric_limits<int64_t>::max()); }

  static constexpr Instant FromNanos(int64_t nanos) {
    Instant i;
    i.nanos_ = nanos;
    return i;
  }

  // The Instant at which the wall clock shows `time` if nobody sets it in between.
  static Instant FromTime(absl::Time time) {
    if (time == absl::InfiniteFuture()) return Never();
    // The wall clock first: what passes between the two looks makes the Instant late, never early.
    const absl::Duration left = time - absl::Now();
    return Now() + left;
  }

  // Nanoseconds on CLOCK_MONOTONIC.
  constexpr int64_t nanos() const { return nanos_; }
  constexpr bool IsNever() const { return *this == Never(); }

  // Saturates: adding a huge duration gives Never(), a hugely negative one the zero Instant.
  friend Instant operator+(Instant i, absl::Duration d) {
    const int64_t delta = absl::ToInt64Nanoseconds(d);
    int64_t sum;
    if (__builtin_add_overflow(i.nanos_, delta, &sum)) return delta > 0 ? Never() : Instant();
    return FromNanos(sum < 0 ? 0 : sum);
  }

  friend absl::Duration operator-(Instant a, Instant b) {
    return absl::Nanoseconds(a.nanos_) - absl::Nanoseconds(b.nanos_);
  }

  friend constexpr auto operator<=>(Instant, Instant) = default;

 private:
  int64_t nanos_ = 0;
};

}  // namespace weft

#endif  // WEFT_SCHED_CLOCK_H_
