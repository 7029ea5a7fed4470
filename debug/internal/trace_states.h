// What every goroutine, P and thread was doing at each moment of a recorded trace: the events in
// their order, turned into spans of time.
//
//                          kCreate
//                             |
//                             v      kStart, or next of who left
//      kUnpark ---------> runnable -----------------------------> running <--> blocking section
//         |                   ^                                   |  |  |
//      waiting <-- kPark ---- | ------ kYield, kPreempt, kLostP --+  |  +-- kEnd --> (no more)
//                             +--------------------------------------|---- kLostP, without a P
//                                                          kProcStop, kProcTaken
//                                                                      |
//                                                                      v
//                               running <-- kProcStart -- without a P <--> waits in place
//
// An event that does not fit the state that the goroutine is in means that something before it was
// not recorded: at the beginning, where the state before is what the event says it was, or in a gap
// (trace_recorder.h), where nobody knows. Any other is counted as inconsistent, and never comes.
#ifndef WEFT_DEBUG_INTERNAL_TRACE_STATES_H_
#define WEFT_DEBUG_INTERNAL_TRACE_STATES_H_

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>

#include "debug/internal/trace_recorder.h"

namespace weft::debug::internal {

enum class GState : uint8_t {
  kUnknown,
  kRunnable,
  kRunning,
  kWaiting,
  kBlocking,  // in a BlockingSection
  kNoP,       // runs on without a P
  kInPlace,   // waits for a P in the middle of its code
};

struct GoroutineSpan {
  uint64_t g = 0;
  GState state = GState::kUnknown;
  int64_t begin = 0;  // nanoseconds
  int64_t end = 0;
  int p = -1;          // that it has, where it has one
  int64_t m = -1;      // its thread's number, where it is known
  uint8_t reason = 0;  // the WaitReason of kWaiting
  // Of kRunnable: who has made it so, and from where.
  weft::internal::Event cause = weft::internal::Event::kNone;  // kCreate, kUnpark, kYield, ...
  weft::internal::Waker waker = weft::internal::Waker::kGoroutine;
  uint64_t by = 0;  // the goroutine, or 0
  int by_p = -1;    // whose P that was
};

enum class PState : uint8_t {
  kIdle,
  kScheduler,  // a thread has it, and no goroutine runs
  kGoroutine,
  kNotRecorded,  // a gap
};

struct ProcSpan {
  int p = 0;
  PState state = PState::kIdle;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t m = -1;
  uint64_t g = 0;
  bool blocking = false;  // the goroutine was in a BlockingSection
  // Why the goroutine ran no longer: kPark, kYield, kProcTaken, ...
  weft::internal::Event left = weft::internal::Event::kNone;
  uint8_t reason = 0;  // with kPark
};

enum class MState : uint8_t { kElsewhere, kHasP, kAsleep, kPolling };

struct ThreadSpan {
  int64_t m = 0;
  MState state = MState::kElsewhere;
  int64_t begin = 0;
  int64_t end = 0;
  int p = -1;
};

class SpanSink {
 public:
  virtual void Goroutine(const GoroutineSpan& span) = 0;
  virtual void Proc(const ProcSpan& span) = 0;
  virtual void Thread(const ThreadSpan& span) = 0;
  // Each event before the spans that it ends.
  virtual void EventSeen(const TraceEvent& event) = 0;

 protected:
  ~SpanSink() = default;
};

struct SpanCounts {
  uint64_t gaps = 0;
  uint64_t inconsistent = 0;
};

// Tells `sink` of all spans, each when it ends; those of no length are left out, but for running.
SpanCounts BuildSpans(const RecordedTrace& trace, SpanSink& sink);

}  // namespace weft::debug::internal

#endif  // WEFT_DEBUG_INTERNAL_TRACE_STATES_H_
