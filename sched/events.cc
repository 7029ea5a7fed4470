#include "sched/internal/events.h"

#include <atomic>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "sched/internal/emit.h"
#include "sched/internal/lock.h"
#include "sched/internal/membarrier.h"
#include "sched/internal/probes.h"
#include "sched/internal/runtime.h"

namespace weft::internal {

constinit std::atomic<uint32_t> events_wanted{0};

namespace {

std::atomic<EventSink> event_sink{nullptr};

// Of threads that run no goroutines.
Lock other_lock;
constinit EventPort other_port;

uint64_t IdOf(const G* g) { return g == nullptr ? 0 : g->id.load(std::memory_order_relaxed); }
uint16_t TurnOf(const G* g) { return g == nullptr ? 0 : g->turns.load(std::memory_order_relaxed); }

uint16_t NumberOf(const P* p) {
  return p == nullptr ? EventHead::kNoP : static_cast<uint16_t>(p->id);
}
uint16_t ProcOf(const M* m) { return NumberOf(m->p.load(std::memory_order_relaxed)); }

// The goroutine on the thread that calls.
G* Current(const M* m) { return m->waiter == nullptr ? nullptr : AsG(m->waiter); }

void Tell(EventPort& port, EventHead head, uint64_t g, uint64_t other) noexcept {
  const uint32_t wanted = events_wanted.load(std::memory_order_relaxed);
  if ((wanted & EventPort::kBySink) != 0) {
    // Acquire: pairs with the release in StartEvents().
    if (EventSink sink = event_sink.load(std::memory_order_acquire)) sink(port, head, g, other);
  }
  if ((wanted & EventPort::kByProbes) != 0) FireProbe(port.m, head, g, other);
}

void TellByThread(M* m, EventHead head, uint64_t g, uint64_t other) noexcept {
  if (m != nullptr) {
    Tell(m->events, head, g, other);
    return;
  }
  LockGuard guard(other_lock);
  Tell(other_port, head, g, other);
}

}  // namespace

void RecordCreate(M* m, const G* g) noexcept {
  TellByThread(
      m,
      {.event = Event::kCreate, .turn = TurnOf(g), .p = m == nullptr ? EventHead::kNoP : ProcOf(m)},
      IdOf(g), reinterpret_cast<uintptr_t>(g->creation_site.load(std::memory_order_relaxed)));
  const absl::string_view name = g->name.load(std::memory_order_relaxed).Get();
  if (name.empty()) return;
  TellByThread(m, {.event = Event::kName}, IdOf(g),
               reinterpret_cast<uintptr_t>(name.data()) | static_cast<uint64_t>(name.size())
                                                              << kNameAddressBits);
}

void RecordStart(M* m, const G* g) noexcept {
  Tell(m->events, {.event = Event::kStart, .turn = TurnOf(g), .p = ProcOf(m)}, IdOf(g), 0);
}

void RecordLeft(M* m, const G* g, Event how) noexcept {
  const G* next = Current(m);
  uint8_t arg = 0;
  if (how == Event::kPark) {
    arg = static_cast<uint8_t>(g->wait_reason.load(std::memory_order_relaxed));
  }
  Tell(m->events,
       {.event = how, .arg = arg, .turn = TurnOf(g), .other_turn = TurnOf(next), .p = ProcOf(m)},
       IdOf(g), IdOf(next));
}

void RecordUnpark(M* m, const G* g, Waker waker) noexcept {
  const G* by = nullptr;
  if (waker == Waker::kGoroutine) {
    by = m == nullptr ? nullptr : Current(m);
    if (by == nullptr) waker = m == nullptr ? Waker::kThread : Waker::kScheduler;
  }
  TellByThread(m,
               {.event = Event::kUnpark,
                .arg = static_cast<uint8_t>(waker),
                .turn = TurnOf(g),
                .p = m == nullptr ? EventHead::kNoP : ProcOf(m)},
               IdOf(g), IdOf(by));
}

void RecordOfG(M* m, const G* g, Event event, uint8_t arg) noexcept {
  Tell(m->events, {.event = event, .arg = arg, .turn = TurnOf(g), .p = ProcOf(m)}, IdOf(g), 0);
}

void RecordOfP(M* m, const P* p, Event event) noexcept {
  const G* g = Current(m);
  Tell(m->events, {.event = event, .turn = TurnOf(g), .p = NumberOf(p)}, IdOf(g), 0);
}

void RecordTaken(const M* m, const P* p, Revoked why) noexcept {
  const G* g = m->current.load(std::memory_order_relaxed);
  TellByThread(ThisM(),
               {.event = Event::kProcTaken,
                .arg = static_cast<uint8_t>(why),
                .turn = TurnOf(g),
                .p = NumberOf(p)},
               IdOf(g), static_cast<uint64_t>(m->id));
}

void RecordOfM(M* m, Event event, uint64_t other) noexcept {
  const G* g = m == nullptr ? nullptr : Current(m);
  TellByThread(m,
               {.event = event, .turn = TurnOf(g), .p = m == nullptr ? EventHead::kNoP : ProcOf(m)},
               IdOf(g), other);
}

void RecordSteal(M* m, const G* g, int victim) noexcept {
  Tell(m->events, {.event = Event::kSteal, .turn = TurnOf(g), .p = ProcOf(m)}, IdOf(g),
       static_cast<uint64_t>(victim));
}

namespace {

void Want(uint32_t bit) {
  LockGuard guard(sched.lock);
  events_wanted.fetch_or(bit, std::memory_order_relaxed);
  for (M* m = sched.all_ms.load(std::memory_order_acquire); m != nullptr; m = m->next_all) {
    m->events.wanted.fetch_or(bit, std::memory_order_release);
  }
}

void WantNoMore(uint32_t bit) {
  LockGuard guard(sched.lock);
  events_wanted.fetch_and(~bit, std::memory_order_relaxed);
  for (M* m = sched.all_ms.load(std::memory_order_acquire); m != nullptr; m = m->next_all) {
    m->events.wanted.fetch_and(~bit, std::memory_order_release);
  }
}

}  // namespace

void StartEvents(EventSink sink) {
  RuntimeSection section;
  // Release: who finds it sees what the sink relies on.
  event_sink.store(sink, std::memory_order_release);
  Want(EventPort::kBySink);
  // No thread is still to act by what it has read of these before.
  Membarrier();
}

void StopEvents() {
  RuntimeSection section;
  WantNoMore(EventPort::kBySink);
  Membarrier();
}

void WantEventsByProbes(bool wanted) {
  const bool now = (events_wanted.load(std::memory_order_relaxed) & EventPort::kByProbes) != 0;
  if (wanted == now) return;
  wanted ? Want(EventPort::kByProbes) : WantNoMore(EventPort::kByProbes);
}

void ForEachEventPort(absl::FunctionRef<void(EventPort&)> visit) {
  visit(other_port);
  for (M* m = sched.all_ms.load(std::memory_order_acquire); m != nullptr; m = m->next_all) {
    visit(m->events);
  }
}

void WithEventPort(absl::FunctionRef<void(EventPort& port, EventHead head, uint64_t g)> fn) {
  RuntimeSection section;
  if (M* m = ThisM(); m != nullptr) {
    const G* g = Current(m);
    fn(m->events, {.turn = TurnOf(g), .p = ProcOf(m)}, IdOf(g));
    return;
  }
  LockGuard guard(other_lock);
  fn(other_port, EventHead(), 0);
}

}  // namespace weft::internal
