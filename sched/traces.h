// Where every goroutine is: what dumps and profiles of goroutines are made of.
#ifndef WEFT_SCHED_TRACES_H_
#define WEFT_SCHED_TRACES_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "sched/labels.h"
#include "sched/snapshot.h"

namespace weft {

struct GoroutineTrace {
  GoroutineSnapshot goroutine;
  uint64_t creator = 0;      // the goroutine that started it; 0: a thread did
  uintptr_t created_at = 0;  // in the call of Go(); 0: it is main
  // How long it has waited, as far as NoteWaits() has seen; zero for one that does not wait.
  absl::Duration waiting = absl::ZeroDuration();
  // Instructions, innermost first: those that are running calls, but for the first one of a
  // goroutine that runs. Of a deep stack the innermost 50 and the outermost 50.
  std::vector<uintptr_t> frames;
  uint64_t elided = 0;  // frames that were left out after the first 50
  LabelList labels;
  // It runs, and its thread did not answer: it has no frames.
  bool unavailable = false;
  // The Mutex or RWMutex that it waits for, or null; and with TraceOptions::locks the goroutines,
  // by number, that may hold it: those that have its address on their stacks, and do not wait for
  // it themselves. They need not hold it, and who holds it need not be among them.
  const void* waits_for = nullptr;
  std::vector<uint64_t> holders;
};

struct TraceOptions {
  // Asks threads that run a goroutine for its frames. A system call that one is in may return EINTR
  // by that, as by any signal. Zero: those that run have no frames.
  int signal = 0;
  // Threads that have not answered by then, as they have the signal blocked, are left out.
  absl::Duration limit = absl::Milliseconds(100);
  // Looks for who may hold the locks that others wait for, if there are such. Takes a nanosecond
  // for each few words on all stacks.
  bool locks = false;
  // Where somebody else stops the world at that moment there are no traces: for the monitor, which
  // may not wait for it.
  bool only_at_once = false;
};

// A signal for TraceOptions that glibc, debuggers and Go leave alone: SIGRTMIN + 8.
int DefaultTraceSignal();

// All goroutines that have not ended, by number. Stops the world meanwhile: about a microsecond for
// each goroutine that waits, and up to `limit` where threads have to be asked. Starts the scheduler
// if it is not running. From goroutines and threads; may park. Installs a handler for the signal,
// which passes on those that are not its own.
std::vector<GoroutineTrace> GetGoroutineTraces(const TraceOptions& options = {});

// Looks which goroutines wait since the last look: whoever calls it every minute finds minutes in
// GoroutineTrace::waiting. (A clock read at each park would cost more than the park.) Takes a few
// nanoseconds for each goroutine. From one thread at a time.
void NoteWaits();

// Of the waits that NoteWaits() knows, how many have lasted for that long, and have not been
// counted by an earlier call: but for those for time or for events from outside, which are meant to
// last. From the thread of NoteWaits().
int CountNewLongWaits(absl::Duration longer_than);

// Whether that is a wait for time or for events from outside.
bool IsIdleWait(absl::string_view wait_reason);

}  // namespace weft

#endif  // WEFT_SCHED_TRACES_H_
