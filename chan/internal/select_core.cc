#include "chan/internal/select_core.h"

#include <algorithm>
#include <utility>

#include "chan/internal/transfer.h"
#include "sched/internal/delay.h"
#include "sched/internal/thread.h"

namespace weft::internal {
namespace {

// Whether it can be done now; without the lock a hint.
bool SeemsReady(const SelectRecord& r) {
  const ChanCore* c = r.chan;
  if (c == nullptr) return false;
  const uint64_t count = c->count.load(std::memory_order_relaxed);
  if (c->closed.load(std::memory_order_relaxed)) return true;
  return r.is_send ? count < c->capacity || !c->receivers.empty()
                   : count > 0 || !c->senders.empty();
}

// One of those that seem ready, each as likely as any other; null where there is none. Reservoir
// sampling (Vitter's algorithm R for a sample of one): no random number where only one is ready.
SelectRecord* PickReady(SelectState& s) {
  SelectRecord* pick = nullptr;
  uint32_t ready = 0;
  for (SelectRecord *r = s.records(), *end = r + s.size; r != end; ++r) {
    if (!SeemsReady(*r)) continue;
    if (++ready == 1 || RandomBelow(ready) == 0) pick = r;
  }
  return pick;
}

// Under the lock of the record's channel.
Step Try(SelectRecord& r) {
  return r.is_send ? SendLocked<MoveAny>(*r.chan, r.value) : RecvLocked<MoveAny>(*r.chan, r.value);
}

int Served(SelectState& s, const SelectRecord& r, const Step& step) {
  s.outcome.store(static_cast<Outcome>(step.result), std::memory_order_relaxed);
  if (step.wake != nullptr) {
    WEFT_DELAY_POINT("select.finished");
    step.wake->Unpark();
  }
  return r.index;
}

// Not inlined: the sort's iterators stay out of the frame that parks.
__attribute__((noinline)) void SortByAddress(SelectState& s) {
  const SelectRecord* records = s.records();
  std::sort(s.lock_order(), s.lock_order() + s.size,
            [records](uint16_t a, uint16_t b) { return records[a].chan < records[b].chan; });
}

void MakeLockOrder(SelectState& s) {
  uint16_t* order = s.lock_order();
  if (s.size > 16) {
    for (uint32_t i = 0; i < s.size; ++i) order[i] = static_cast<uint16_t>(i);
    SortByAddress(s);
    return;
  }
  const SelectRecord* records = s.records();
  for (uint32_t i = 0; i < s.size; ++i) {
    uint32_t at = i;
    for (; at > 0 && records[i].chan < records[order[at - 1]].chan; --at) order[at] = order[at - 1];
    order[at] = static_cast<uint16_t>(i);
  }
}

// Each channel once, nil ones not at all: they come first in the order.
template <typename Fn>
inline void ForEachChannel(SelectState& s, Fn fn) {
  const SelectRecord* records = s.records();
  const uint16_t* order = s.lock_order();
  ChanCore* last = nullptr;
  for (uint32_t i = 0; i < s.size; ++i) {
    ChanCore* c = records[order[i]].chan;
    if (c != last) fn(*c);
    last = c;
  }
}

void LockAll(SelectState& s) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  ForEachChannel(s, [](ChanCore& c) ABSL_NO_THREAD_SAFETY_ANALYSIS { c.lock.Acquire(); });
}

void UnlockAll(SelectState& s) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  ForEachChannel(s, [](ChanCore& c) ABSL_NO_THREAD_SAFETY_ANALYSIS { c.lock.Release(); });
}

// Under all the locks. Several cases of one channel are queued in random order, as the first of
// them in its queue is the one to be served.
void EnqueueAll(SelectState& s, Waiter* self) {
  SelectRecord* records = s.records();
  uint16_t* order = s.lock_order();
  for (uint32_t i = 0; i < s.size; ++i) {
    ChanCore* c = records[order[i]].chan;
    if (c == nullptr) continue;
    uint32_t same = 1;  // cases of this channel, from here on
    while (i + same < s.size && records[order[i + same]].chan == c) ++same;
    if (same > 1) std::swap(order[i], order[i + RandomBelow(same)]);
    SelectRecord* r = &records[order[i]];
    r->waiter = self;
    r->select = &s;
    (r->is_send ? c->senders : c->receivers).PushBack(r);
  }
}

// Takes back what is still queued, when this select has been served by record `fired`, or by none.
void DequeueOthers(SelectState& s, int fired) {
  for (SelectRecord *r = s.records(), *end = r + s.size; r != end; ++r) {
    if (r->chan == nullptr || r->index == fired) continue;
    // Also where it is not queued any more: the waker that has dropped it reads our claim word
    // under this lock.
    r->chan->lock.Acquire();
    if (r->queued) (r->is_send ? r->chan->senders : r->chan->receivers).Remove(r);
    r->chan->lock.Release();
  }
}

}  // namespace

int RunSelect(SelectState* state, SelectMode mode, Instant deadline, WaitReason reason) {
  SelectState& s = *state;
  RuntimeSection section;
  if (SelectRecord* r = s.size > 1 ? PickReady(s) : nullptr; r != nullptr) {
    r->chan->lock.Acquire();
    const Step step = Try(*r);
    r->chan->lock.Release();
    if (step.result != TryResult::kWouldBlock) return Served(s, *r, step);
  }

  MakeLockOrder(s);
  LockAll(s);
  // A pick may fail: who waited there may be a select that has been served elsewhere. It is gone
  // from the queue then, and not picked again.
  while (SelectRecord* r = PickReady(s)) {
    const Step step = Try(*r);
    if (step.result == TryResult::kWouldBlock) continue;
    UnlockAll(s);
    return Served(s, *r, step);
  }
  if (mode == SelectMode::kDefault) {
    UnlockAll(s);
    return kSelectDefault;
  }
  Waiter* self = Waiter::Current();
  EnqueueAll(s, self);
  UnlockAll(s);

  WEFT_DELAY_POINT("select.queued");
  int fired = kSelectTimedOut;
  for (;;) {
    const bool in_time = self->ParkUntil(deadline, reason);
    // Acquire: pairs with the release in Finish().
    if (s.outcome.load(std::memory_order_acquire) != Outcome::kPending) {
      fired = static_cast<int>(s.fired);
      break;
    }
    if (in_time) continue;
    WEFT_DELAY_POINT("select.timed_out");
    if (Claim(s)) break;
    deadline = Instant::Never();  // a waker was first, and is about to finish
  }
  DequeueOthers(s, fired);
  return fired;
}

__attribute__((noinline)) uint32_t RandomBelow(uint32_t n) {
  // Read in one function that is never inlined and calls nothing, so that the address of the
  // thread_local cannot be kept while the goroutine changes threads.
  static std::atomic<uint64_t> seeds{0x9e3779b97f4a7c15};
  static constinit thread_local uint64_t state __attribute__((tls_model("initial-exec"))) = 0;
  uint64_t x = state;
  if (x == 0) x = seeds.fetch_add(0x9e3779b97f4a7c15, std::memory_order_relaxed) | 1;
  // xorshift64* (Vigna, 2016): three shifts and a multiplication.
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  state = x;
  const uint32_t high = static_cast<uint32_t>((x * 0x2545f4914f6cdd1d) >> 32);
  // Lemire's reduction without its rejection step: off by less than n / 2^32.
  return static_cast<uint32_t>((uint64_t{high} * n) >> 32);
}

}  // namespace weft::internal
