// The scheduler's state in one line, once every few milliseconds: WEFTDEBUG=schedtrace=MS.
//
//   $ WEFTDEBUG=schedtrace=1000 ./server
//   SCHED 0ms: gomaxprocs=4 idleprocs=3 threads=5 spinningthreads=1 idlethreads=0 runqueue=0 [0 0 0
//   0] SCHED 1000ms: gomaxprocs=4 idleprocs=0 threads=9 spinningthreads=0 idlethreads=2 runqueue=7
//   [3 4 0 9]
//
// Linking this target is enough: it registers the setting by itself. The fields, in Go's form:
//
//   0ms              since the first line, in whole milliseconds
//   gomaxprocs       Ps
//   idleprocs        Ps that nobody holds
//   threads          threads of the scheduler and its monitor; not the program's own
//   spinningthreads  threads that look for work
//   idlethreads      threads asleep, without the one that waits for events
//   runqueue         goroutines in the queue that all Ps share
//   [3 4 0 9]        goroutines in each P's own ring, without the one it would run next
#ifndef WEFT_DEBUG_SCHEDTRACE_H_
#define WEFT_DEBUG_SCHEDTRACE_H_

#include <string>

#include "absl/time/time.h"
#include "sched/snapshot.h"

namespace weft::debug {

// The line for `snapshot`, its newline included. `since_first` is cut down to whole milliseconds.
std::string FormatSchedTrace(const SchedSnapshot& snapshot, absl::Duration since_first);

// Takes a snapshot and writes its line to `fd` by one write(2), so that lines of several writers
// do not mix. A pipe or socket that is full loses the line: whoever traces must not wait for
// whoever reads. Times count from the first call in this process, so that one says 0ms. From any
// thread or goroutine; starts the scheduler if it is not running.
void WriteSchedTrace(int fd);

}  // namespace weft::debug

#endif  // WEFT_DEBUG_SCHEDTRACE_H_
