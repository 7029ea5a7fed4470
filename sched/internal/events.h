// What happens in the scheduler, event by event, for who records it (//debug:trace).
//
// At each point where a goroutine, a P or a thread changes its state the scheduler looks whether
// anybody wants to know, and if so calls the one *sink*. A sink is told of the events of one thread
// in their order, on that thread. Who acts on a goroutine after an event (runs it, wakes it) does
// so after the sink has returned: so of any two events of one goroutine the earlier one is told
// first, whatever threads they are on, and a sink that stamps them finds its stamps in that order.
//
// What it costs where nobody wants to know: at the points on the way of each switch a comparison of
// a word in the M, which is in the cache, and a branch; at all others that of a global flag.
//
// A sink may find that a thread's events come too fast for it, and turn that port's *frequent*
// events (FrequentEvent()) off for a while, by `wanted`. All others it is always told of.
#ifndef WEFT_SCHED_INTERNAL_EVENTS_H_
#define WEFT_SCHED_INTERNAL_EVENTS_H_

#include <atomic>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace weft::internal {

// What `g`, `other` and `arg` of each are. "Left": the goroutine has left its thread, and `other`
// is the one that it has now, or 0 for none; the latter's start has no event of its own.
enum class Event : uint8_t {
  kNone = 0,

  // --- a goroutine ---
  kCreate,         // g is new and runnable; other: the address in the call of Go(), or 0 for main
  kName,           // and is called what NameIn(other) says
  kStart,          // g runs, where no goroutine did
  kPark,           // g has left and waits; arg: the WaitReason
  kYield,          // g has left and is runnable, of its own accord
  kPreempt,        // the same, as its time slice is over or the world stops
  kLostP,          // the same, as it has come back and found its P gone
  kEnd,            // g has left and is no more
  kUnpark,         // g is runnable; other: the goroutine that made it so, or 0; arg: the Waker
  kBlockingBegin,  // g is in a BlockingSection; arg: 1 if it is to be long
  kBlockingEnd,    // and no longer
  kWaitInPlace,    // g waits for a P in the middle of its code, and has it with kProcStart

  // --- a P: `p` in all of them ---
  kProcStart,  // the thread has it; g: the goroutine that goes on, or 0
  kProcStop,   // the thread has given it up; g: as above, and goes on without
  kProcTaken,  // it was taken from thread `other` and its goroutine g; arg: the Revoked
  kSteal,      // it takes g, and perhaps more, from P `other`
  kTimers,     // it has run `other` timers
  kPoll,       // a look at the poller has found `other` goroutines

  // --- a thread (M) ---
  kThreadStart,
  kThreadEnd,
  kThreadSleep,  // until somebody has a P for it
  kThreadWake,
  kSpin,       // it looks for work
  kSpinEnd,    // it has found some, or given up
  kPollSleep,  // it waits for events and timers
  kPollWake,

  // --- all ---
  kStopWorld,     // somebody wants to
  kWorldStopped,  // and has
  kStartWorld,    // and that is over
  kMaxProcs,      // there are `other` Ps

  // --- the program's own, by //debug:trace; the sink is told of them by that ---
  kRegionBegin,  // g; other: its task, or 0
  kRegionEnd,
  kTaskBegin,  // other: its number
  kTaskEnd,
  kLog,  // other: its task, or 0

  // --- the sink's own ---
  kGapBegin,  // this thread's frequent events are left out from here on
  kGapEnd,
};

// Who has made a goroutine runnable.
enum class Waker : uint8_t {
  kGoroutine,
  kScheduler,  // a timer, mostly
  kPoller,
  kThread,  // a plain one
  kItself,  // it was woken before it waited
};

constexpr bool FrequentEvent(Event event) {
  return event <= Event::kBlockingEnd || (event >= Event::kSteal && event <= Event::kPoll) ||
         event == Event::kSpin || event == Event::kSpinEnd;
}

// A name in a word, as addresses of a process have 47 bits. It lives as long as its goroutine.
constexpr int kNameAddressBits = 48;
inline absl::string_view NameIn(uint64_t word) {
  return {reinterpret_cast<const char*>(word & ((uint64_t{1} << kNameAddressBits) - 1)),
          word >> kNameAddressBits};
}

// The small parts of an event in one word, so that all of it is passed in registers: a goroutine
// whose stack the sink runs on has none of it on its pinned stack.
struct EventHead {
  static constexpr uint16_t kNoP = UINT16_MAX;

  Event event = Event::kNone;
  uint8_t arg = 0;
  uint16_t turn = 0;        // of g: how often it has left a thread so far, modulo 2^16
  uint16_t other_turn = 0;  // of `other`, where it starts by this event
  uint16_t p = kNoP;        // the thread's
};
static_assert(sizeof(EventHead) == 8);

// Where a thread's events come from. One for each M, and one for all other threads together, whose
// calls of the sink come one at a time.
struct EventPort {
  // Bits. Whether frequent events are to be told of. Acquire and release go with what the sink does
  // about a port that it has turned off.
  std::atomic<uint32_t> wanted{0};
  static constexpr uint32_t kBySink = 1;
  static constexpr uint32_t kByProbes = 2;

  std::atomic<void*> sink_data{nullptr};  // the sink's own
  int64_t m = -1;                         // -1: other threads
};

// Called inside the runtime, on any stack, in any state of the scheduler: it must not park, nor
// call anything that may, and allocates by nothing that the program could have replaced.
using EventSink = void (*)(EventPort& port, EventHead head, uint64_t g, uint64_t other) noexcept;

// Whether anybody wants events: bits, as EventPort::wanted.
extern std::atomic<uint32_t> events_wanted;

// From here on `sink` is told of everything. One at a time; it lives for ever. From any thread or
// goroutine.
void StartEvents(EventSink sink);
// And no longer. The sink may still be running, or about to be called, on other threads.
void StopEvents();

// Whether the probes of probes.h are to be told of everything, too.
void WantEventsByProbes(bool wanted);

// Calls visit(port) for all that there are now.
void ForEachEventPort(absl::FunctionRef<void(EventPort&)> visit);

// Calls the function with the calling thread's port, inside the runtime, so that it may pass the
// program's own events to a sink: `head.p` and the number of the goroutine, or 0, are filled in.
void WithEventPort(absl::FunctionRef<void(EventPort& port, EventHead head, uint64_t g)> fn);

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_EVENTS_H_
