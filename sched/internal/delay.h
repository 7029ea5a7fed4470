// Named points in the lock-free protocols at which a test can hold a thread up.
//
// A protocol that is right must be right however long a thread pauses between two of its steps.
// Tests prove it by pausing at these points at random: `WEFT_DELAY_POINT("waiter.publish")` calls
// the function that SetDelayHook() has set. In optimized builds (NDEBUG) the points are not there.
//
// The environment variable WEFT_DELAY_SEED, a number that is not 0, turns random delays on in any
// program from its start, where no hook is set, and adds to the seeds that tests give themselves:
// tools/stress runs tests with one number after the other.
#ifndef WEFT_SCHED_INTERNAL_DELAY_H_
#define WEFT_SCHED_INTERNAL_DELAY_H_

#include <cstdint>

namespace weft::internal {

using DelayHook = void (*)(const char* point);

// Null: no delays (or the environment's), the default. Any thread may call it at any time; a thread
// that has just read the old hook may still call that.
void SetDelayHook(DelayHook hook);

// Sets a hook that at a pseudo-random share of the points yields the processor, or sleeps for up to
// 50 us. The same seed gives each thread the same sequence of decisions.
void EnableRandomDelays(uint64_t seed);

void DelayPoint(const char* point);

}  // namespace weft::internal

#ifdef NDEBUG
#define WEFT_DELAY_POINT(name) static_cast<void>(0)
#else
#define WEFT_DELAY_POINT(name) ::weft::internal::DelayPoint(name)
#endif

#endif  // WEFT_SCHED_INTERNAL_DELAY_H_
