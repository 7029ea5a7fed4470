// The scheduler's state in one line, once every few milliseconds: WEFTDEBUG=schedtrace=MS.
//
//   $ WEFTDEBUG=schedtrace=1000 ./server
//   SCHED 0ms: gomaxprocs=2 idleprocs=1 threads=4 ... idlethreads=0 runqueue=0 [0 0]
//   SCHED 1000ms: gomaxprocs=2 idleprocs=0 threads=9 ... idlethreads=2 runqueue=7 [3 4]
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
//   [3 4]            goroutines in each P's own ring, without the one it would run next
//
// With WEFTDEBUG=schedtrace=MS,scheddetail=1 other fields stand where [3 4] does, and a line for
// each P, each thread (M) and each goroutine (G) follows:
//
//   SCHED 1002ms: gomaxprocs=4 ... gcwaiting=0 nmidlelocked=0 stopwait=0 sysmonwait=0
//     P1: status=1 schedtick=2356 syscalltick=19060 m=11 runqsize=11 gfreecnt=0
//     M11: p=1 curg=6160 mallocing=0 ... locks=2 ... spinning=false blocked=false lockedg=-1
//     G1: status=4(chan receive) m=-1 lockedm=-1
//
//   gcwaiting        1: the world is stopped, or is to be
//   nmidlelocked     threads asleep until the one goroutine that is locked to them can run
//   stopwait         Ps that have not stopped yet
//   sysmonwait       1: the monitor sleeps
//   P: status        0 idle, 1 running, 2 in a blocking section, 3 stopped
//   P: schedtick     goroutines that it has run; those that another's slice went on to do not count
//   P: syscalltick   blocking sections on it
//   P: gfreecnt      goroutines' records that it keeps for new ones
//   M: curg          the goroutine on the thread; -1: none, as for p, m, lockedg and lockedm
//   M: locks         sections of the runtime that its code is in: meanwhile its P is not taken
//   M: blocked       asleep until there is work
//   G: status        1 runnable, 2 running, 3 in a blocking section, 4 waiting, 9 waits for a P in
//                    the middle of its code; and what for
//
// What this runtime has no such thing of (mallocing, throwing, preemptoff, dying, helpgc) is its
// zero.
//
// Where one of the two settings is given, a fatal error prints a trace with all details first.
#ifndef WEFT_DEBUG_SCHEDTRACE_H_
#define WEFT_DEBUG_SCHEDTRACE_H_

#include <string>

#include "absl/time/time.h"
#include "sched/snapshot.h"

namespace weft::debug {

// The line for `snapshot`, its newline included. `since_first` is cut down to whole milliseconds.
std::string FormatSchedTrace(const SchedSnapshot& snapshot, absl::Duration since_first);

// The lines with all details; of a snapshot with SnapshotDetail::kAll.
std::string FormatSchedDetail(const SchedSnapshot& snapshot, absl::Duration since_first);

// The time that lines begin with: since the first call of this or of WriteSchedTrace() in this
// process, which gets zero.
absl::Duration SchedTraceTime();

// Takes a snapshot and writes its line, or lines, to `fd` by one write(2), so that those of several
// writers do not mix. What a pipe or socket does not take is lost: whoever traces must not wait for
// whoever reads. The first one says 0ms. From any
// thread or goroutine; starts the scheduler if it is not running.
void WriteSchedTrace(int fd, SnapshotDetail detail = SnapshotDetail::kCounters);

}  // namespace weft::debug

#endif  // WEFT_DEBUG_SCHEDTRACE_H_
