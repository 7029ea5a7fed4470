// The scheduler's events as USDT probes: for bpftrace, perf, SystemTap and gdb, in a program that
// nobody has prepared for it.
//
//   bpftrace -e 'usdt:./server:weft:park { @[arg2] = count(); }'
//
// Each Event is a probe of the provider `weft` under the name below, with the same arguments: the
// goroutine g, `other`, `arg` (both as events.h says), the P or 65535, the thread's number or -1.
//
// Each probe has a semaphore, which whoever attaches to it increments. The monitor looks at them
// once in each of its rounds, and only where one is set are events passed on: so a probe costs
// nothing while nobody is attached, and the first 10 ms after that may be missed.
//
// Where <sys/sdt.h> is not installed (systemtap-sdt-dev) there are none.
#ifndef WEFT_SCHED_INTERNAL_PROBES_H_
#define WEFT_SCHED_INTERNAL_PROBES_H_

#include <cstdint>

#include "sched/clock.h"
#include "sched/internal/events.h"

#if defined(__has_include) && __has_include(<sys/sdt.h>)
#define WEFT_HAS_PROBES 1
#else
#define WEFT_HAS_PROBES 0
#endif

// V(the Event without its k, the probe)
#define WEFT_PROBES(V)             \
  V(Create, create)                \
  V(Start, start)                  \
  V(Park, park)                    \
  V(Yield, yield)                  \
  V(Preempt, preempt)              \
  V(LostP, lost_p)                 \
  V(End, end)                      \
  V(Unpark, unpark)                \
  V(BlockingBegin, blocking_begin) \
  V(BlockingEnd, blocking_end)     \
  V(WaitInPlace, wait_in_place)    \
  V(ProcStart, proc_start)         \
  V(ProcStop, proc_stop)           \
  V(ProcTaken, proc_taken)         \
  V(Steal, steal)                  \
  V(Timers, timers)                \
  V(Poll, poll)                    \
  V(ThreadStart, thread_start)     \
  V(ThreadEnd, thread_end)         \
  V(ThreadSleep, thread_sleep)     \
  V(ThreadWake, thread_wake)       \
  V(Spin, spin)                    \
  V(SpinEnd, spin_end)             \
  V(PollSleep, poll_sleep)         \
  V(PollWake, poll_wake)           \
  V(StopWorld, stop_world)         \
  V(WorldStopped, world_stopped)   \
  V(StartWorld, start_world)       \
  V(MaxProcs, max_procs)

namespace weft::internal {

// Fires the event's probe, for who is attached.
void FireProbe(int64_t m, EventHead head, uint64_t g, uint64_t other) noexcept;

// The monitor's duty: has events passed on while somebody is attached.
bool FollowProbes(Instant now);

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_PROBES_H_
