// Records the scheduler's events in memory: the newest that there is room for.
//
// Each thread that runs goroutines writes to a block of its own, without a lock: a record, then the
// number of records. A full block goes to a queue, under a lock that is taken once in 500 events,
// and the thread gets an empty one, or, where all the room is in use, the oldest of the queue. What
// was in that is lost, and with it everything older of other threads, so that of each goroutine
// there is always a whole end of its history. (One block for each thread would be simpler; but
// there may be thousands of threads, and most of them have little to say.)
//
// The clock is the processor's time stamp counter, read after all earlier loads, where that is the
// same for all processors and steady; else CLOCK_MONOTONIC. Two looks at both, when the recording
// begins and when it is collected, turn its ticks into nanoseconds.
//
// Two goroutines that only wake each other switch 20 million times a second, and to stamp each of
// these takes longer than to do it. So a thread that has had more than its share of events in 10 ms
// turns its frequent ones off until these are over: a *gap*. Programs that do something between two
// switches have none. Of gaps that begin before what is collected its first events tell.
#ifndef WEFT_DEBUG_INTERNAL_TRACE_RECORDER_H_
#define WEFT_DEBUG_INTERNAL_TRACE_RECORDER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "sched/internal/events.h"

namespace weft::debug::internal {

struct TraceEvent {
  int64_t at = 0;  // nanoseconds since the beginning
  int64_t m = -1;  // the thread that it was recorded on; -1: one that runs no goroutines
  weft::internal::EventHead head;
  uint64_t g = 0;
  uint64_t other = 0;
  int64_t text = -1;  // which of RecordedTrace::texts
};

struct RecordedTrace {
  std::vector<TraceEvent> events;  // in their order
  std::vector<std::string> texts;
  absl::Time began;
  int64_t length = 0;           // in nanoseconds
  bool beginning_lost = false;  // there was no room for it
};

struct RecorderLimits {
  size_t bytes = 0;
  uint64_t events_per_second = 0;  // of a thread; 0: no limit
};

// One at a time: the caller sees to that for all of these.
void StartRecorder(const RecorderLimits& limits);
// What is recorded of the last so many nanoseconds, or as far back as there is room. Recording goes
// on.
RecordedTrace CollectRecorded(int64_t last);
// The same, and that was it.
RecordedTrace StopRecorder(int64_t last);
// The same for who is about to end the process, and may hold any lock of the runtime's.
RecordedTrace LastRecorded(int64_t last);

// An event of the program's own, if something is being recorded. At most kMaxTextBytes of the text.
inline constexpr size_t kMaxTextBytes = 1024;
void RecordText(weft::internal::Event event, uint64_t other, absl::string_view text);

}  // namespace weft::debug::internal

#endif  // WEFT_DEBUG_INTERNAL_TRACE_RECORDER_H_
