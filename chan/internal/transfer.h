// The steps of a channel operation that are done under the channel's lock, shared by the plain
// operations (chan_core.cc) and select (select_core.cc). See chan_core.h for the protocol.
#ifndef WEFT_CHAN_INTERNAL_TRANSFER_H_
#define WEFT_CHAN_INTERNAL_TRANSFER_H_

#include <cstdint>
#include <cstring>

#include "chan/internal/chan_core.h"
#include "chan/internal/select_core.h"

namespace weft::internal {

// How elements are moved. Word: eight bytes, known when compiling. Any: what the channel says.
struct MoveWord {
  static void Relocate(const ChanCore&, void* to, void* from) {
    std::memcpy(to, from, sizeof(uint64_t));
  }
  static void* Slot(ChanCore& c, uint64_t i) {
    return reinterpret_cast<uint64_t*>(c.ring()) + (i & c.slot_mask);
  }
};

struct MoveAny {
  static void Relocate(const ChanCore& c, void* to, void* from) {
    if (c.kind == ChanCore::Kind::kWord) {
      MoveWord::Relocate(c, to, from);
    } else if (c.ops->relocate == nullptr) {
      std::memcpy(to, from, c.ops->bytes);
    } else {
      c.ops->relocate(to, from);
    }
  }
  static void* Slot(ChanCore& c, uint64_t i) {
    if (c.kind == ChanCore::Kind::kWord) return MoveWord::Slot(c, i);
    return c.ring() + i * c.ops->bytes;
  }
};

// Takes the first waiter that can still be served; it is the caller's until Finish(). Null: none.
inline WaitRecord* Take(WaitQueue& queue) {
  for (;;) {
    WaitRecord* record = queue.front();
    if (record == nullptr) return nullptr;
    queue.Remove(record);
    if (record->select == nullptr || Claim(*record->select)) return record;
  }
}

// Ends the wait of a record that was taken. Returns whom to unpark once the lock is released. The
// record is its owner's from here on.
inline Waiter* Finish(WaitRecord* record, Outcome outcome) {
  Waiter* waiter = record->waiter;
  if (waiter == nullptr) return nullptr;
  // Release: the owner, who acquires the outcome, sees the value that was put into its memory.
  if (SelectState* select = record->select; select != nullptr) {
    select->fired = record->index;
    select->outcome.store(outcome, std::memory_order_release);
  } else {
    record->outcome.store(outcome, std::memory_order_release);
  }
  return waiter;
}

// Counts change under the lock only. Release: pairs with ReceiveWouldBlock(), SendWouldBlock().
inline void SetCount(ChanCore& c, uint64_t count) {
  c.count.store(count, std::memory_order_release);
}

inline uint64_t SlotAfter(const ChanCore& c, uint64_t slot, uint64_t n) {
  slot += n;
  return slot < c.capacity ? slot : slot - c.capacity;
}

struct Step {
  TryResult result;  // kWouldBlock: nothing has happened
  Waiter* wake;      // to be unparked once the lock is released; may be null
};

// Takes the element at `value` if it can be sent now.
template <typename Move>
[[gnu::always_inline]] inline Step SendLocked(ChanCore& c, void* value) {
  if (c.closed.load(std::memory_order_relaxed)) return {TryResult::kClosed, nullptr};
  if (!c.receivers.empty()) {
    if (WaitRecord* receiver = Take(c.receivers); receiver != nullptr) {
      Move::Relocate(c, receiver->value, value);
      return {TryResult::kDone, Finish(receiver, Outcome::kDone)};
    }
  }
  const uint64_t count = c.count.load(std::memory_order_relaxed);
  if (count == c.capacity) return {TryResult::kWouldBlock, nullptr};
  Move::Relocate(c, Move::Slot(c, SlotAfter(c, c.first, count)), value);
  SetCount(c, count + 1);
  return {TryResult::kDone, nullptr};
}

// Puts an element into `value` if there is one now.
template <typename Move>
[[gnu::always_inline]] inline Step RecvLocked(ChanCore& c, void* value) {
  const uint64_t count = c.count.load(std::memory_order_relaxed);
  if (count != 0) {
    const uint64_t slot = c.first;
    Move::Relocate(c, value, Move::Slot(c, slot));
    c.first = SlotAfter(c, slot, 1);
    if (!c.senders.empty()) {
      // The ring was full, so the slot that is free now is the one behind the youngest element.
      if (WaitRecord* sender = Take(c.senders); sender != nullptr) {
        Move::Relocate(c, Move::Slot(c, slot), sender->value);
        return {TryResult::kDone, Finish(sender, Outcome::kDone)};
      }
    }
    SetCount(c, count - 1);
    return {TryResult::kDone, nullptr};
  }
  if (!c.senders.empty()) {
    if (WaitRecord* sender = Take(c.senders); sender != nullptr) {
      Move::Relocate(c, value, sender->value);
      return {TryResult::kDone, Finish(sender, Outcome::kDone)};
    }
  }
  return {c.closed.load(std::memory_order_relaxed) ? TryResult::kClosed : TryResult::kWouldBlock,
          nullptr};
}

}  // namespace weft::internal

#endif  // WEFT_CHAN_INTERNAL_TRANSFER_H_
