// The monitor: one thread that needs no P and looks after the rest.
//
// It runs duties that others register. A duty has a period; the monitor's pace adapts to the
// shortest need: 20 us between rounds at first, doubling after 50 rounds in which no duty found
// anything to do, up to 10 ms, and no round at all while the whole scheduler is idle and no
// periodic duty is due. (The pace is that of Go's sysmon, but for what follows an idle time: if
// that was shorter than 10 ms the pace stays as it was. A server under load is idle for a moment a
// thousand times a second.)
#ifndef WEFT_SCHED_SYSMON_H_
#define WEFT_SCHED_SYSMON_H_

#include <cstdint>

#include "absl/time/time.h"
#include "sched/clock.h"
#include "sched/internal/signal_handler.h"

namespace weft {

struct MonitorDuty {
  const char* name;
  // Zero: in every round while the scheduler is not idle. Else: once in each such period, idle or
  // not.
  absl::Duration period = absl::ZeroDuration();
  // True: it found work, so the pace goes back to the fastest. Runs on the monitor's thread, which
  // has no P: it must not park and not take long.
  bool (*run)(Instant now);
};

// Adds a duty for the rest of the process. From any thread, static initializers included; an
// already running monitor takes it up in its next round. At most 32: more are fatal.
void RegisterMonitorDuty(const MonitorDuty& duty);

// What the monitor has done so far, by duty.
struct MonitorDutyStats {
  const char* name;
  uint64_t runs;
  uint64_t finds;  // runs that found work
};
// Fills up to `capacity` entries and returns how many duties there are.
int GetMonitorStats(MonitorDutyStats* stats, int capacity);

namespace internal {

// What the scheduler tells the monitor.
struct MonitorHost {
  // Whether everything is idle. When true, the host has noted, in one critical section with the
  // look, that the monitor is going to sleep, and calls WakeMonitor() when that changes. It may
  // set `*until` to be asked again by then.
  bool (*try_sleep)(Instant* until);
  // Undoes the note after a sleep that a periodic duty ended.
  void (*slept)();
};

// Starts the thread, if it does not run; `host` lives for ever.
void StartMonitor(const MonitorHost* host);

// Ends it, after its present round. On return the thread is gone.
void EndMonitor();

// Ends the sleep that try_sleep() has begun, or shortens a round. From any thread.
void WakeMonitor();

// The same in a handler of asynchronous signals. False: there is no monitor at the moment.
WEFT_SIGNAL_HANDLER bool WakeMonitorInHandler();

// In the child of a fork(), which has no monitor: for WakeMonitorInHandler().
void ForgetMonitor();

// From a duty: the next round begins by `when`, whatever the pace. Holds for that round alone.
void NextRoundBy(Instant when);

// How long the monitor sleeps between rounds at this moment. A snapshot.
absl::Duration MonitorPace();

}  // namespace internal
}  // namespace weft

#endif  // WEFT_SCHED_SYSMON_H_
