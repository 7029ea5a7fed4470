// What happens where, as counts by stack: blocking, contention, scheduling latency, new threads.
// //debug:profile makes files for pprof of them.
//
// The first three are off until they are turned on, and cost nothing then. They count from then on,
// for ever: readers take the difference of two, as of Go's.
#ifndef WEFT_SCHED_PROFILES_H_
#define WEFT_SCHED_PROFILES_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace weft {

// What has happened on one stack. Instructions as in GoroutineTrace::frames, of the innermost 64.
struct StackCount {
  std::vector<uintptr_t> frames;
  int64_t count = 0;
  absl::Duration total = absl::ZeroDuration();
};

// Blocking: goroutines that wait for channels, selects, locks, wait groups and the like, where they
// wait; not those that sleep or wait for the network, nor plain threads. On average one event in
// each `rate` of time that is spent blocked is looked at, and counts for those that are not: all
// that take as long as `rate`, shorter ones by chance. 1 ns: all. Zero or less: none, the default.
// As Go's runtime.SetBlockProfileRate. Starts the runtime if it is not running.
//
// Costs two looks at the clock for each wait, and a walk of the stack for each event that counts.
void SetBlockProfileRate(absl::Duration rate);
std::vector<StackCount> GetBlockProfile();

// Contention: how long others, all of them, have waited for a Mutex or RWMutex because of who had
// it, where that one unlocked it. On average one of n such events is looked at, and counts as n. 0:
// none, the default; 1: all. Returns what it was; n < 0 changes nothing. As Go's
// runtime.SetMutexProfileFraction.
int SetMutexProfileFraction(int n);
std::vector<StackCount> GetMutexProfile();

// Scheduling latency: how long goroutines were runnable before they ran, where they had waited, or,
// for one that had not run yet, where it was started. One of n times that a goroutine becomes
// runnable is looked at, and counts as n. 0: none, the default; 1: all. Returns what it was; n < 0
// changes nothing. Meanwhile SchedMetrics::latencies counts one of n too. Not of goroutines that
// give way in the middle of their code.
int SetSchedLatencyProfileFraction(int n);
std::vector<StackCount> GetSchedLatencyProfile();

// Threads that the scheduler has made so far, by what made it need one. Always on.
std::vector<StackCount> GetThreadCreateProfile();

}  // namespace weft

#endif  // WEFT_SCHED_PROFILES_H_
