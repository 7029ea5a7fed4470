// Where a poller of outside events (//netpoll) plugs into the scheduler.
//
// The scheduler asks the poller for goroutines that have become ready: without waiting, when a P
// runs out of work, now and then under load, and from the monitor when nobody has for 10 ms; and
// waiting, from the last M that goes idle. A program that links no poller pays for none of this:
// idle Ms then sleep on futexes.
#ifndef WEFT_SCHED_POLLER_H_
#define WEFT_SCHED_POLLER_H_

#include "sched/clock.h"
#include "sched/waiter.h"

namespace weft {

class Poller {
 public:
  // Collects the waiters whose events have come, by Waiter::UnparkInto(ready). Waits for the
  // first one until `deadline` (Instant(): not at all; Instant::Never(): without limit), until
  // Break() or a signal. It is called on a scheduler's stack; several threads may be in it without
  // waiting, but only one waits.
  virtual void Poll(Instant deadline, WakeBatch& ready) = 0;

  // Ends the Poll() that is waiting, or the next one that would. From any thread; keep it cheap,
  // calls that find one pending do nothing.
  virtual void Break() = 0;

  // How many goroutines and threads wait for events. While there are any, the program is not
  // deadlocked.
  virtual int waiters() const = 0;

 protected:
  ~Poller() = default;
};

namespace internal {

// Registers the program's one poller and starts the runtime if it is not running: from then on
// some M always waits in Poll() when there is nothing else to do, so that threads that run no
// goroutines can wait for events too. `poller` lives for ever. At most once.
void RegisterPoller(Poller* poller);

}  // namespace internal
}  // namespace weft

#endif  // WEFT_SCHED_POLLER_H_
