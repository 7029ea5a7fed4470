// The runtime as a part of a larger program, which starts it, and ends it before it is done itself.
//
//   absl::Status status = weft::Runtime::Start({.max_procs = 4});
//   weft::Go(Serve);
//   ...
//   stop_serving.Close();                                 // tell the goroutines, as ever you do
//   status = weft::Runtime::Drain(absl::Seconds(10));     // and give them time to end
//   status = weft::Runtime::Stop(absl::Seconds(1));       // now there is no thread of Weft's
//   ...
//   status = weft::Runtime::Start({.max_procs = 2});      // and again
//
// None of it is needed: the first Go() starts the runtime, and a program may exit while it runs.
// It is for who wants to set it up first, or wants its threads gone: before a fork(), a change of
// the process's credentials or namespaces, the unloading of what goroutines run, a leak check.
//
// All of these from plain threads only. Programs that run by Main() cannot stop it.
//
// fork(). In the child the thread that has called it is a plain one, if it ran a goroutine too, and
// all goroutines but the code that runs are gone. Locks, channels and the like that nobody held at
// that moment work as they do between plain threads. What needs the runtime (Go(), a timer, the
// return of what was a goroutine) ends the child with a line that says so, exit status 2;
// waking a goroutine of the parent's does nothing. What a goroutine of the parent's was in the
// middle of never ends: a Conn that one was reading or writing cannot be closed there. It may exec,
// or exit.
#ifndef WEFT_SCHED_RUNTIME_H_
#define WEFT_SCHED_RUNTIME_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "sched/policy.h"

namespace weft {

struct RuntimeOptions {
  // As SetMaxProcs(): 1 to 1,024; 0: what WEFTMAXPROCS or the system says, or, when it is started
  // again, as many as there were.
  int max_procs = 0;
  // As SetMaxThreads(): at least 3; 0: 10,000, or what it was.
  int max_threads = 0;
  // Nothing: what WEFTDEBUG=sched=gpm, global or numa says, or it was; kGpm at first.
  std::optional<Policy> policy = {};
  // For kNuma: the machine to be taken for this one, as topology.h has it. Empty: what
  // WEFTTOPOLOGY says, which has the same form, or it was, or else what the system says.
  // Processors that there are not, or that the process may not use, may be given: threads of
  // nodes that have no other ones run anywhere.
  absl::string_view topology = {};
};

class Runtime {
 public:
  Runtime() = delete;  // there is one in a process

  // Starts it, with WEFTDEBUG's settings the first time. What Stop() has left goes on: goroutines
  // that waited or were queued, and timers, late ones at once. FailedPrecondition: it runs, as a
  // Go() may have come first. InvalidArgument: it was not started.
  static absl::Status Start(const RuntimeOptions& options = {});

  // Waits until there are no goroutines. Those that there are may start more. DeadlineExceeded:
  // there still are some after `limit`, as many as it says. FailedPrecondition: there are some, and
  // it does not run. Looks again and again, each 5 ms at last.
  static absl::Status Drain(absl::Duration limit);

  // Ends all threads of the runtime: when it returns they are gone, and the memory that was kept
  // for stacks is the system's. Goroutines that wait or are queued stay as they are until it is
  // started again. OK at once where it does not run.
  //
  // Waits until goroutines that are in user code (which computes, or blocks, or is in a
  // BlockingSection) call the runtime, as it cannot stop them there. DeadlineExceeded: some did not
  // within `limit`. FailedPrecondition: it runs Main(), or a goroutine is locked to its thread. In
  // both cases it runs on.
  //
  // What other threads do meanwhile is not lost: a Go() or SetMaxProcs() that comes after the stop
  // starts it again.
  static absl::Status Stop(absl::Duration limit);

  static bool IsRunning();
};

}  // namespace weft

#endif  // WEFT_SCHED_RUNTIME_H_
