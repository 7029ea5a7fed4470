// How many Ps a program gets if it says nothing.
#ifndef WEFT_SCHED_PROCS_H_
#define WEFT_SCHED_PROCS_H_

#include <string>

namespace weft::internal {

// WEFTMAXPROCS if set (a number from 1 to 1024; anything else ends the program with one line), else
// SystemProcs().
int DefaultMaxProcs();

// Whether WEFTMAXPROCS is set.
bool MaxProcsIsGiven();

// The processors in the affinity mask of the program's first thread, but no more than the cgroup's
// CPU quota rounded up, and then at least two. Both may change at any time. Some 50 us.
int SystemProcs();

// The number of processors that a quota amounts to, rounded up; 0: no limit. `root` is where the
// cgroup file systems are mounted, `self` the contents of /proc/self/cgroup.
int CgroupProcs(const std::string& root, const std::string& self);

}  // namespace weft::internal

#endif  // WEFT_SCHED_PROCS_H_
