// Goroutines that wait for too long, and those that wait for each other's locks:
//
//   2 goroutines wait for longer than 1m
//   lock cycle: goroutine 7 waits for a lock of 8, 8 for a lock of 7
//
//   1 goroutine [sync.Mutex.Lock, 2 minutes, perhaps held by 8]: 7
//   weft::Mutex::Lock(...)
//   ...
//
// Where //debug:blocked is linked, WEFTDEBUG=blocked=60s prints that to standard error whenever
// more goroutines have come to wait for so long; the monitor looks four times in that time. And a
// deadlock's report begins with the cycles.
//
// Who waits for time or for events from outside (sleep, IO wait) is meant to wait and left out. Who
// may hold a lock is known by GoroutineTrace::holders.
#ifndef WEFT_DEBUG_BLOCKED_H_
#define WEFT_DEBUG_BLOCKED_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "sched/traces.h"

namespace weft::debug {

// Goroutines of which each waits for a lock that the next one may hold, and the last one for one of
// the first, which has the lowest number. Of the cycles that share goroutines, one. `traces` as
// GetGoroutineTraces() returns them with `locks`.
std::vector<std::vector<uint64_t>> LockCycles(const std::vector<GoroutineTrace>& traces);

// "lock cycle: ..." for each, a line. "" where there is none.
std::string FormatLockCycles(const std::vector<GoroutineTrace>& traces);

// Those that have waited for so long, alike ones once, and the cycles among them. "" where there is
// none.
std::string FormatBlocked(const std::vector<GoroutineTrace>& traces, absl::Duration longer_than);

// The same of all goroutines now, to `fd`, which may block the thread. How long they have waited is
// known from one call of NoteWaits() to the next: by the setting above or //debug:sigquit, or the
// program's own. From goroutines and threads; may park.
void WriteBlocked(int fd, absl::Duration longer_than);

}  // namespace weft::debug

#endif  // WEFT_DEBUG_BLOCKED_H_
