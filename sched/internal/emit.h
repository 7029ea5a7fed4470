// The scheduler's side of events.h: a line at each point.
#ifndef WEFT_SCHED_INTERNAL_EMIT_H_
#define WEFT_SCHED_INTERNAL_EMIT_H_

#include <atomic>
#include <cstdint>

#include "sched/internal/events.h"
#include "sched/internal/runtime.h"

namespace weft::internal {

// events.cc: where somebody wants to know.
void RecordCreate(M* m, const G* g) noexcept;
void RecordStart(M* m, const G* g) noexcept;
void RecordLeft(M* m, const G* g, Event how) noexcept;
void RecordUnpark(M* m, const G* g, Waker waker) noexcept;
void RecordOfG(M* m, const G* g, Event event, uint8_t arg) noexcept;
void RecordOfP(M* m, const P* p, Event event) noexcept;
void RecordTaken(const M* m, const P* p, Revoked why) noexcept;
void RecordOfM(M* m, Event event, uint64_t other) noexcept;
void RecordSteal(M* m, const G* g, int victim) noexcept;

inline bool WantsFrequent(const M* m) {
  return m->events.wanted.load(std::memory_order_relaxed) != 0;
}
inline bool WantsAny() { return events_wanted.load(std::memory_order_relaxed) != 0; }

// `m` is the caller's, or null on a plain thread. Each before anybody else may act on the
// goroutine.
inline void EmitCreate(M* m, const G* g) {
  if (m == nullptr ? WantsAny() : WantsFrequent(m)) [[unlikely]]
    RecordCreate(m, g);
}
inline void EmitUnpark(M* m, const G* g, Waker waker) {
  if (m == nullptr ? WantsAny() : WantsFrequent(m)) [[unlikely]]
    RecordUnpark(m, g, waker);
}

inline void EmitStart(M* m, const G* g) {
  if (WantsFrequent(m)) [[unlikely]]
    RecordStart(m, g);
}
// First thing on the stack of who comes next.
inline void EmitLeft(M* m, const G* g, Event how) {
  if (WantsFrequent(m)) [[unlikely]]
    RecordLeft(m, g, how);
}
inline void EmitBlocking(M* m, const G* g, Event event, uint8_t arg) {
  if (WantsFrequent(m)) [[unlikely]]
    RecordOfG(m, g, event, arg);
}
inline void EmitSteal(M* m, const G* g, int victim) {
  if (WantsFrequent(m)) [[unlikely]]
    RecordSteal(m, g, victim);
}
// kTimers, kPoll, kSpin, kSpinEnd.
inline void EmitFrequentOfM(M* m, Event event, uint64_t other = 0) {
  if (WantsFrequent(m)) [[unlikely]]
    RecordOfM(m, event, other);
}

inline void EmitWaitInPlace(M* m, const G* g) {
  if (WantsAny()) [[unlikely]]
    RecordOfG(m, g, Event::kWaitInPlace, 0);
}
// kProcStart and kProcStop, by the thread itself.
inline void EmitOfP(M* m, const P* p, Event event) {
  if (WantsAny()) [[unlikely]]
    RecordOfP(m, p, event);
}
// By whoever has taken it.
inline void EmitTaken(const M* m, const P* p, Revoked why) {
  if (WantsAny()) [[unlikely]]
    RecordTaken(m, p, why);
}
// Of the thread or of all; `m` may be null for the latter.
inline void EmitOfM(M* m, Event event, uint64_t other = 0) {
  if (WantsAny()) [[unlikely]]
    RecordOfM(m, event, other);
}

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_EMIT_H_
