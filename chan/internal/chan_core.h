// What is behind every channel handle: the state, the queues of waiters, and the operations, none
// of which know the element's type.
//
// A channel is a ring of `capacity` slots, a queue of waiting receivers and a queue of waiting
// senders, under one lock. This is the design of Go's runtime/chan.go and select.go, with the
// differences that C++ and copied stacks ask for.
//
// Invariants, true whenever nobody holds the lock (a waiter that can no longer be served because
// its select has been served elsewhere counts as not being there):
//   - Receivers wait only while the ring is empty and no sender waits.
//   - Senders wait only while the ring is full (always, where the capacity is 0).
//   - Once the channel is closed nobody waits. Exception: orphans, see below.
//
// A wait. Whoever waits has a WaitRecord for each channel it waits on, in the memory that its
// Waiter keeps for that (never on a stack: a parked goroutine's stack may be copied away). The
// value that it sends or receives lies in the same memory. A record is in one of these states:
//
//   state     reached by                              who may touch the record
//   private   -                                       its owner
//   queued    the owner, under the channel's lock     whoever holds that lock; the owner reads
//                                                     `outcome` at any time
//   taken     a waker, under the lock: unlinked, and  the waker; the owner still only reads
//             for a select its claim word won         `outcome`
//   finished  the waker stores `outcome`, its last    its owner
//             access
//   private   the owner unlinks it under the lock: a select that was served through another record,
//             or whose deadline has passed
//
// A select has one claim word for all its records, moved from 0 to 1 once: by the waker that takes
// one of them, under that record's lock, or by the owner when its deadline has passed. So exactly
// one wins. A waker that loses drops the record from the queue. The owner that has been served
// locks each of its other channels before it goes on, also where the record is no longer queued: a
// waker that has just lost reads the claim word under that lock.
//
// Why no wake-up is lost: the owner parks until it reads `outcome`, and the waker stores `outcome`
// before it unparks. Why a stale one does no harm: the owner looks at `outcome` again after each.
//
// Why the memory is valid: scratch memory is never unmapped and not reused before the wait is over,
// and a waker's last access precedes the end of the wait. A waker unparks after it has released
// the lock, when the record is no longer its own, so it reads `waiter` before it stores `outcome`;
// Waiters are never freed. The channel itself is kept by the handles that its users hold.
//
// Orphans. Where moving an element may throw (or it is large) the channel carries a pointer to a
// box on the heap. A receiver whose move throws gives the box back: to a waiting receiver, or to
// the front of the ring. A ring that is full then pushes its youngest element back into the
// senders' queue, as a sender that nobody waits for (`waiter` is null, the record is in the box):
// an orphan. They stand before all other senders and outlast Close().
#ifndef WEFT_CHAN_INTERNAL_CHAN_CORE_H_
#define WEFT_CHAN_INTERNAL_CHAN_CORE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "sched/internal/lock.h"
#include "sched/waiter.h"

namespace weft {

// How an operation on a channel has ended.
enum class TryResult : uint8_t {
  kWouldBlock,  // nobody on the other side, or no room: nothing has happened
  kDone,        // a value has been sent, or received
  kClosed,      // the channel is closed (and drained, for a receive): nothing has happened
};

namespace internal {

struct SelectState;

// How a wait has ended. The values are those of TryResult.
enum class Outcome : uint32_t {
  kPending = static_cast<uint32_t>(TryResult::kWouldBlock),
  kDone = static_cast<uint32_t>(TryResult::kDone),
  kClosed = static_cast<uint32_t>(TryResult::kClosed),
};

// Go's sudog.
struct WaitRecord {
  WaitRecord* next;
  WaitRecord* prev;
  Waiter* waiter;                // null: an orphan
  void* value;                   // what a sender sends; where a receiver wants it
  SelectState* select;           // null: an operation on this one channel
  std::atomic<Outcome> outcome;  // unused in a select, which has it in its SelectState
  uint16_t index;                // which case of the select
  bool is_send;                  // likewise
  bool queued;                   // under the channel's lock
};

// A circular, doubly linked list: waiters are served from the front, and a select leaves from
// anywhere. The head may be read without the lock, as a hint.
class WaitQueue {
 public:
  // Acquire: pairs with the release of whoever has changed the head.
  bool empty() const { return head_.load(std::memory_order_acquire) == nullptr; }
  WaitRecord* front() const { return head_.load(std::memory_order_relaxed); }

  void PushBack(WaitRecord* record) {
    WaitRecord* head = front();
    record->queued = true;
    if (head == nullptr) {
      record->next = record->prev = record;
      head_.store(record, std::memory_order_release);
      return;
    }
    Link(record, head);
  }

  void PushFront(WaitRecord* record) {
    PushBack(record);
    head_.store(record, std::memory_order_release);
  }

  void Remove(WaitRecord* record) {
    record->queued = false;
    WaitRecord* next = record->next;
    if (next == record) {
      head_.store(nullptr, std::memory_order_release);
      return;
    }
    next->prev = record->prev;
    record->prev->next = next;
    if (front() == record) head_.store(next, std::memory_order_release);
  }

 private:
  static void Link(WaitRecord* record, WaitRecord* before) {
    record->next = before;
    record->prev = before->prev;
    before->prev->next = record;
    before->prev = record;
  }

  std::atomic<WaitRecord*> head_{nullptr};
};

struct ChanCore;

// How a channel's elements are kept and moved.
struct ElementOps {
  size_t bytes;  // of a slot in the ring; 0: the elements have no contents
  // Moves an element to uninitialized memory and ends the old one. Null: copying the bytes does it.
  void (*relocate)(void* to, void* from);
  // Null: nothing to do.
  void (*destroy)(void* element);
  // Called instead of the end of the channel when the last handle is gone: where the core is part
  // of something larger (timer.cc, context.cc). Null: the core is all there is.
  void (*last_handle_gone)(ChanCore* core) = nullptr;
  // Its buffer is not for users to see: len() and cap() are 0.
  bool hides_buffer = false;
};

// All that an operation on a channel of words touches is in the first cache line and the slot.
struct alignas(64) ChanCore {
  // Elements are words: at most eight bytes that may be copied, passed in registers.
  enum class Kind : uint8_t { kWord, kStaged };

  Lock lock;
  std::atomic<bool> closed{false};
  const Kind kind;
  std::atomic<uint64_t> count{0};  // elements in the ring; written under the lock
  const uint64_t capacity;
  uint64_t first = 0;        // the slot of the oldest element
  const uint64_t slot_mask;  // 0 where elements have no contents, else all ones
  WaitQueue receivers;
  WaitQueue senders;

  alignas(64) const ElementOps* const ops;
  std::atomic<uint64_t> handles{1};

  ChanCore(Kind k, uint64_t c, const ElementOps* o)
      : kind(k), capacity(c), slot_mask(o->bytes == 0 ? 0 : ~uint64_t{0}), ops(o) {}

  // The ring lies behind the core.
  std::byte* ring() { return reinterpret_cast<std::byte*>(this + 1); }

  // Without the lock: whether a receive (a send) that must not wait is sure to find nothing. The
  // answer is as of some moment during the call.
  //
  // A closed channel never becomes open and, once drained, never gets an element. So where the ring
  // is seen empty first and the channel open after that, it was open and empty at the first look;
  // in the other order a drain and a close in between would be missed.
  bool ReceiveWouldBlock() const {
    // Acquire: pairs with the release of whoever took the last element, so that the second load
    // sees a close that came before that.
    const bool empty = capacity == 0 ? senders.empty() : count.load(std::memory_order_acquire) == 0;
    return empty && !closed.load(std::memory_order_acquire);
  }
  bool SendWouldBlock() const {
    if (closed.load(std::memory_order_acquire)) return false;
    return capacity == 0 ? receivers.empty() : count.load(std::memory_order_acquire) == capacity;
  }

  void Ref() { handles.fetch_add(1, std::memory_order_relaxed); }
  void Unref() {
    // Acquire and release: what other holders did comes before the destruction. The last holder
    // need not write.
    if (handles.load(std::memory_order_acquire) == 1 ||
        handles.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      Destroy();
    }
  }

 private:
  void Destroy();
};

// An empty open channel with one handle. InvalidArgument "makechan: size out of range" for a
// capacity that is negative or that no memory could hold, ResourceExhausted where this machine has
// not enough. `error` says which; null then.
ChanCore* NewChanCore(ChanCore::Kind kind, int64_t capacity, const ElementOps* ops,
                      absl::StatusCode* error);
absl::Status MakeChanError(absl::StatusCode code);
[[noreturn]] void MakeChanPanic(absl::StatusCode code);

// The operations. `core` may be null: a nil channel, on which the waiting ones wait for ever. Those
// named Word carry the element in a register.

struct ReceivedWord {
  uint64_t word;
  TryResult result;
};

bool SendWord(ChanCore* core, uint64_t word) noexcept;  // false: closed
ReceivedWord RecvWord(ChanCore* core) noexcept;         // kDone or kClosed
TryResult TrySendWord(ChanCore* core, uint64_t word);
ReceivedWord TryRecvWord(ChanCore* core);

// Those named Staged carry it in the scratch memory of the caller's Waiter, which holds `record`
// and behind it `value`: a sender puts the element there before, and has it back there if it was
// not sent; a receiver finds it there.
inline constexpr size_t kStageOffset = sizeof(WaitRecord);

// kDone or kClosed.
TryResult SendStaged(ChanCore* core, WaitRecord* record, void* value) noexcept;
TryResult RecvStaged(ChanCore* core, WaitRecord* record, void* value) noexcept;
TryResult TrySendStaged(ChanCore* core, void* value);
TryResult TryRecvStaged(ChanCore* core, void* value);

// False: it was closed already, or is nil.
bool CloseChan(ChanCore* core);

// An element on the heap; its channel carries the word `self`.
struct BoxBase {
  WaitRecord orphan;
  uint64_t self = reinterpret_cast<uintptr_t>(this);

  static BoxBase* Of(uint64_t word) { return reinterpret_cast<BoxBase*>(word); }
};

// Puts back what was received and could not be delivered, so that it is the next to be received.
void ReturnBox(ChanCore* core, BoxBase* box);

// A handle: shares the channel with its copies, ends it with the last one.
class ChanHandle {
 public:
  ChanHandle() = default;
  explicit ChanHandle(ChanCore* core) : core_(core) {}  // takes over one reference
  ChanHandle(const ChanHandle& other) : core_(other.core_) {
    if (core_ != nullptr) core_->Ref();
  }
  ChanHandle(ChanHandle&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
  ChanHandle& operator=(ChanHandle other) noexcept {
    std::swap(core_, other.core_);
    return *this;
  }
  ~ChanHandle() {
    if (core_ != nullptr) core_->Unref();
  }

  ChanCore* core() const { return core_; }

 private:
  ChanCore* core_ = nullptr;
};

}  // namespace internal
}  // namespace weft

#endif  // WEFT_CHAN_INTERNAL_CHAN_CORE_H_
