// The execution trace: what every goroutine, P and thread did, and when, to the nanosecond, as a
// file that https://ui.perfetto.dev and chrome://tracing show.
//
//   $ WEFTDEBUG=trace=server.json ./server
//
// Linking this target is enough for that: the trace is written when the program ends, by a fatal
// error too. In a program:
//
//   weft::debug::StartTrace();
//   ...
//   {
//     weft::debug::Region region("parse");
//     weft::debug::Log("cache", "miss");
//   }
//   weft::debug::StopTrace([&](absl::string_view text) { file << text; });
//
// It is a flight recorder: it keeps the newest events that there is room for, and WriteTrace()
// gives them at any moment while it goes on.
#ifndef WEFT_DEBUG_TRACE_H_
#define WEFT_DEBUG_TRACE_H_

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weft::debug {

struct RecordingOptions {
  // Memory for events, of 32 bytes each. When it is full the oldest make room. At least 64 KiB.
  size_t bytes = 64 << 20;
  // Of what there is, only the last so long is written.
  absl::Duration last = absl::InfiniteDuration();
  // A thread that has more events than this leaves out those of goroutines until ten milliseconds
  // are over: this bounds what tracing costs. 0: all are recorded, whatever it costs.
  uint64_t events_per_second = 200'000;
};

// Takes pieces of the text, one after the other.
using TraceSink = absl::FunctionRef<void(absl::string_view)>;

// Begins to record. FailedPrecondition where something is being recorded already. From any thread
// or goroutine, as the following; may park.
absl::Status StartTrace(const RecordingOptions& options = {});

// Ends the recording, and writes it. FailedPrecondition where nothing is being recorded.
absl::Status StopTrace(TraceSink sink);

// Writes what is recorded, which goes on. FailedPrecondition where nothing is.
absl::Status WriteTrace(TraceSink sink);

bool TraceRuns();

// What follows is for the program to mark what it does. Where nothing is recorded it costs a look
// at a flag. Texts are cut after 1,024 bytes.

// A piece of work that may go through many goroutines: a request. It lasts as long as this object,
// which any thread or goroutine may destroy.
class Task {
 public:
  explicit Task(absl::string_view name);
  ~Task();
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

  uint64_t id() const { return id_; }

 private:
  const uint64_t id_;
};

// What the goroutine that calls does until the end of the scope; may lie in another one's. `task`:
// what it is for.
class Region {
 public:
  explicit Region(absl::string_view name, const Task* task = nullptr);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

 private:
  bool recorded_;
};

// A moment in the goroutine that calls.
void Log(absl::string_view category, absl::string_view message, const Task* task = nullptr);

}  // namespace weft::debug

#endif  // WEFT_DEBUG_TRACE_H_
