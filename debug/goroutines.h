// Dumps of goroutines in Go's form, with files and lines:
//
//   goroutine 7 [chan receive, 2 minutes]:
//   weft::Waiter::Park(...)
//   	sched/waiter.cc:171 +0x5d
//   app::Reader::Next(...)
//   	app/reader.cc:44 +0x1c
//   created by app::Serve in goroutine 1
//   	app/serve.cc:90 +0x61
//
// Linking //debug:sigquit is enough to get one, and the end of the program, by SIGQUIT.
#ifndef WEFT_DEBUG_GOROUTINES_H_
#define WEFT_DEBUG_GOROUTINES_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "sched/traces.h"

namespace weft::debug {

// All of them, with an empty line after each. Frames of functions in weft::internal are left out,
// but where there are no others. `group`: those that wait for the same at the same place, and were
// started at the same, once: "3 goroutines [chan receive]: 7 9 12".
std::string FormatGoroutines(const std::vector<GoroutineTrace>& traces, bool group = false);

struct DumpOptions {
  bool group = false;
  // See TraceOptions; signal 0: goroutines that run have no frames.
  int signal = DefaultTraceSignal();
  absl::Duration limit = TraceOptions().limit;
};

// Writes all goroutines to `fd`, with who may hold the locks that they wait for, which may block
// the thread. Stops the world while it looks, not while it writes. From goroutines and threads; may
// park.
void WriteGoroutines(int fd, const DumpOptions& options = {});

// The calling goroutine alone, from the caller's frame on. "thread 4711 [running]:" on a thread
// that runs none.
std::string CurrentStack();

}  // namespace weft::debug

#endif  // WEFT_DEBUG_GOROUTINES_H_
