// What another thread of this process is doing, from the system's point of view.
//
// Its clock says how much it has run, for 0.2 us; that does not tell a thread that sleeps from one
// that waits for a processor. /proc/self/task/TID/stat does, for 1 to 3 us of formatting (its
// neighbours schedstat, wchan and syscall cost as much to open, and schedstat counts the waiting
// only when it is over). So ask the clock first.
#ifndef WEFT_SCHED_INTERNAL_THREAD_STATE_H_
#define WEFT_SCHED_INTERNAL_THREAD_STATE_H_

#include <cstdint>

namespace weft::internal {

// The processor time of a thread so far, in nanoseconds; -1: there is no such thread.
int64_t ThreadCpuNanos(int32_t tid);

// Whether a thread is asleep in the kernel, for an event, a lock, time or a disk. Where /proc is
// not to be had it is taken to be, once its clock has stood still.
bool ThreadSleeps(int32_t tid);

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_THREAD_STATE_H_
