// What is behind Select: any number of sends and receives, of which one is done.
//
// In four passes, as in Go's runtime/select.go: (1) if something seems ready, try it under its own
// lock; (2) lock all channels, in the order of their addresses, and do what is ready; (3) else
// queue a record on every channel, unlock, park; (4) when served, take the other records back. Pass
// 1 is ours: most selects that find something ready lock one channel only. It decides nothing else:
// that nothing at all is ready is only true of one moment under all the locks, otherwise a value
// that moves from one channel to another could be missed in both.
//
// chan_core.h says who may touch a record when, and why a select is served once only.
#ifndef WEFT_CHAN_INTERNAL_SELECT_CORE_H_
#define WEFT_CHAN_INTERNAL_SELECT_CORE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "chan/internal/chan_core.h"
#include "sched/clock.h"
#include "sched/waiter.h"

namespace weft::internal {

struct SelectRecord : WaitRecord {
  ChanCore* chan;  // null: a nil channel, never ready
  uint64_t word;   // the element, on a channel of words
};

// One running select, in its owner's scratch memory: this, `size` records, their lock order, and
// the stages of elements that are not words.
struct SelectState {
  std::atomic<uint32_t> claim{0};
  std::atomic<Outcome> outcome{Outcome::kPending};
  uint32_t fired = 0;  // valid with the outcome
  uint32_t size;

  explicit SelectState(uint32_t n) : size(n) {}

  SelectRecord* records() { return reinterpret_cast<SelectRecord*>(this + 1); }
  uint16_t* lock_order() { return reinterpret_cast<uint16_t*>(records() + size); }

  static constexpr size_t kMaxSize = 65536;  // as in Go; an index has 16 bits
  static constexpr size_t BytesWithoutStages(size_t n) {
    return sizeof(SelectState) + n * (sizeof(SelectRecord) + sizeof(uint16_t));
  }
};

// True: the caller, and nobody else, may serve it.
inline bool Claim(SelectState& select) {
  uint32_t open = 0;
  // Acquire and release: the owner's timeout and the wakers order their accesses by it.
  return select.claim.compare_exchange_strong(open, 1, std::memory_order_acq_rel,
                                              std::memory_order_relaxed);
}

// What RunSelect returns besides an index.
inline constexpr int kSelectTimedOut = -1;
inline constexpr int kSelectDefault = -2;

enum class SelectMode { kWait, kDefault };

// Does one of the operations. The caller has filled in chan, is_send, value, index of each record,
// and for a send what `value` points to. Returns the index of the record that was served, with
// state->outcome telling how (kDone: a send has taken the element, a receive has put one there);
// or kSelectDefault: nothing was ready (mode kDefault); or kSelectTimedOut: nor was anything until
// the deadline (mode kWait). `reason` is what a dump says.
int RunSelect(SelectState* state, SelectMode mode, Instant deadline, WaitReason reason);

// A uniformly distributed number below `n`, of no cryptographic worth.
uint32_t RandomBelow(uint32_t n);

}  // namespace weft::internal

#endif  // WEFT_CHAN_INTERNAL_SELECT_CORE_H_
