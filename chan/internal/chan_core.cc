#include "chan/internal/chan_core.h"

#include <cstring>
#include <limits>
#include <new>

#include "absl/base/thread_annotations.h"
#include "chan/internal/transfer.h"
#include "sched/fatal.h"
#include "sched/internal/delay.h"
#include "sched/internal/thread.h"

namespace weft::internal {
namespace {

constexpr std::align_val_t kCoreAlignment{alignof(ChanCore)};

// More than any address space has, as in Go: such a capacity is a mistake, not a lack of memory.
constexpr uint64_t kMaxRingBytes = uint64_t{1} << 47;

[[noreturn]] void WaitForEver(WaitReason reason) noexcept {
  for (;;) Waiter::Current()->Park(reason);
}

// Makes the caller's record at `record` and queues it. Under the lock.
inline void Enqueue(WaitQueue& queue, WaitRecord* record, Waiter* self, void* value) {
  record->waiter = self;
  record->value = value;
  record->select = nullptr;
  record->outcome.store(Outcome::kPending, std::memory_order_relaxed);
  queue.PushBack(record);
}

inline void Wake(Waiter* waiter) {
  if (waiter == nullptr) return;
  WEFT_DELAY_POINT("chan.finished");
  waiter->Unpark();
}

inline WaitRecord* RecordIn(void* scratch) { return static_cast<WaitRecord*>(scratch); }

inline uint64_t* WordBehind(WaitRecord* record) {
  return reinterpret_cast<uint64_t*>(reinterpret_cast<std::byte*>(record) + kStageOffset);
}

constexpr size_t kWordScratchBytes = kStageOffset + sizeof(uint64_t);

// What a goroutine that waits has on its stack is kept for as long. So the functions that wait are
// called last in those before them, whose frames are gone then (WEFT_TAIL_CALL), and keep nothing
// themselves: the record is found again in the scratch memory. Nothing on the way may throw, or
// each frame would have to restore the pinned stack.

// Waits until a waker has finished the caller's record, then ends the runtime section. Without the
// lock.
template <WaitReason kReason>
[[gnu::always_inline]] inline const WaitRecord* AwaitFinish() noexcept {
  WEFT_DELAY_POINT("chan.queued");
  const WaitRecord* record;
  do {
    Waiter::Current()->Park(kReason);
    record = RecordIn(Waiter::Current()->LatestScratch());
    // Acquire: pairs with the release in Finish().
  } while (record->outcome.load(std::memory_order_acquire) == Outcome::kPending);
  LeaveRuntime();
  return record;
}

TryResult ResultOf(const WaitRecord* record) {
  return static_cast<TryResult>(record->outcome.load(std::memory_order_relaxed));
}

// They take what those take that call them last.
template <WaitReason kReason>
__attribute__((noinline)) TryResult AwaitStaged(ChanCore*, WaitRecord*, void*) noexcept {
  return ResultOf(AwaitFinish<kReason>());
}

__attribute__((noinline)) bool AwaitWordSent(ChanCore*, uint64_t) noexcept {
  return ResultOf(AwaitFinish<WaitReason::kChanSend>()) == TryResult::kDone;
}

__attribute__((noinline)) ReceivedWord AwaitWord(ChanCore*) noexcept {
  const WaitRecord* record = AwaitFinish<WaitReason::kChanReceive>();
  return {*WordBehind(const_cast<WaitRecord*>(record)), ResultOf(record)};
}

// An operation that does not wait.
template <Step (*kStep)(ChanCore&, void*)>
inline TryResult AtOnce(ChanCore* core, void* value) {
  RuntimeSection section;
  core->lock.Acquire();
  const Step step = kStep(*core, value);
  core->lock.Release();
  Wake(step.wake);
  return step.result;
}

// The beginning of one that waits if need be: then the lock is kept.
template <Step (*kStep)(ChanCore&, void*)>
__attribute__((noinline)) TryResult
AtOnceOrLocked(ChanCore* core, void* value) noexcept ABSL_NO_THREAD_SAFETY_ANALYSIS {
  core->lock.Acquire();
  const Step step = kStep(*core, value);
  if (step.result == TryResult::kWouldBlock) return step.result;
  core->lock.Release();
  Wake(step.wake);
  return step.result;
}

// One that waits in the channel's `kQueue` if need be.
template <Step (*kStep)(ChanCore&, void*), WaitQueue ChanCore::* kQueue, WaitReason kReason>
inline TryResult InTime(ChanCore* core, WaitRecord* record,
                        void* value) noexcept ABSL_NO_THREAD_SAFETY_ANALYSIS {
  EnterRuntime();
  const TryResult result = AtOnceOrLocked<kStep>(core, value);
  if (result != TryResult::kWouldBlock) {
    LeaveRuntime();
    return result;
  }
  Enqueue(core->*kQueue, record, Waiter::Current(), value);
  core->lock.Release();
  WEFT_TAIL_CALL return AwaitStaged<kReason>(core, record, value);
}

// Operations on words have a short way for what is done at once between a running goroutine and the
// ring: it calls nothing, so it saves no registers, and it enters and leaves the runtime by the one
// Thread that it has looked up. Everything else goes the long way: SendWordLong() from the start,
// SendWordLocked() from where the section is open and the lock taken.

// How the short way begins: in a runtime section of this thread, with the lock. Null, and neither
// of them, where that takes more than a look.
inline Thread* TryBegin(ChanCore* core)
    ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true, core->lock) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  if (core == nullptr) [[unlikely]]
    return nullptr;
  Thread* thread = TryEnterRuntime();
  if (thread == nullptr) [[unlikely]]
    return nullptr;
  if (!core->lock.TryAcquire()) [[unlikely]] {
    LeaveRuntimeOf(thread);
    return nullptr;
  }
  return thread;
}

// The long way, with the lock: the attempt, and the wait if need be. A word is held in registers
// meanwhile, as all that takes its address here is inlined: nothing of it is on the pinned stack,
// of which a goroutine that waits should have none.
__attribute__((noinline)) bool SendWordLocked(ChanCore* core, uint64_t word) noexcept
    ABSL_UNLOCK_FUNCTION(core->lock) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  const Step step = SendLocked<MoveWord>(*core, &word);
  if (step.result != TryResult::kWouldBlock) {
    core->lock.Release();
    Wake(step.wake);
    LeaveRuntime();
    return step.result == TryResult::kDone;
  }
  Waiter* self = Waiter::Current();
  WaitRecord* record = RecordIn(self->Scratch(kWordScratchBytes));
  *WordBehind(record) = word;
  Enqueue(core->senders, record, self, WordBehind(record));
  core->lock.Release();
  WEFT_TAIL_CALL return AwaitWordSent(core, word);
}

__attribute__((noinline)) bool SendWordLong(ChanCore* core, uint64_t word) noexcept {
  if (core == nullptr) WaitForEver(WaitReason::kChanSendNilChan);
  EnterRuntime();
  core->lock.Acquire();
  WEFT_TAIL_CALL return SendWordLocked(core, word);
}

__attribute__((noinline)) ReceivedWord RecvWordLocked(ChanCore* core) noexcept
    ABSL_UNLOCK_FUNCTION(core->lock) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  uint64_t word = 0;
  const Step step = RecvLocked<MoveWord>(*core, &word);
  if (step.result != TryResult::kWouldBlock) {
    core->lock.Release();
    Wake(step.wake);
    LeaveRuntime();
    return {word, step.result};
  }
  Waiter* self = Waiter::Current();
  WaitRecord* record = RecordIn(self->Scratch(kWordScratchBytes));
  Enqueue(core->receivers, record, self, WordBehind(record));
  core->lock.Release();
  WEFT_TAIL_CALL return AwaitWord(core);
}

__attribute__((noinline)) ReceivedWord RecvWordLong(ChanCore* core) noexcept {
  if (core == nullptr) WaitForEver(WaitReason::kChanReceiveNilChan);
  EnterRuntime();
  core->lock.Acquire();
  WEFT_TAIL_CALL return RecvWordLocked(core);
}

}  // namespace

bool SendWord(ChanCore* core, uint64_t word) noexcept {
  Thread* thread = TryBegin(core);
  if (thread == nullptr) [[unlikely]]
    return SendWordLong(core, word);
  const uint64_t count = core->count.load(std::memory_order_relaxed);
  if (count != core->capacity && core->receivers.empty() &&
      !core->closed.load(std::memory_order_relaxed)) {
    MoveWord::Relocate(*core, MoveWord::Slot(*core, SlotAfter(*core, core->first, count)), &word);
    SetCount(*core, count + 1);
    core->lock.Release();
    LeaveRuntimeOf(thread);
    return true;
  }
  WEFT_TAIL_CALL return SendWordLocked(core, word);
}

ReceivedWord RecvWord(ChanCore* core) noexcept {
  Thread* thread = TryBegin(core);
  if (thread == nullptr) [[unlikely]]
    return RecvWordLong(core);
  const uint64_t count = core->count.load(std::memory_order_relaxed);
  if (count != 0 && core->senders.empty()) {
    const uint64_t slot = core->first;
    uint64_t word;
    MoveWord::Relocate(*core, &word, MoveWord::Slot(*core, slot));
    core->first = SlotAfter(*core, slot, 1);
    SetCount(*core, count - 1);
    core->lock.Release();
    LeaveRuntimeOf(thread);
    return {word, TryResult::kDone};
  }
  WEFT_TAIL_CALL return RecvWordLocked(core);
}

TryResult TrySendWord(ChanCore* core, uint64_t word) {
  if (core == nullptr || core->SendWouldBlock()) return TryResult::kWouldBlock;
  return AtOnce<SendLocked<MoveWord>>(core, &word);
}

ReceivedWord TryRecvWord(ChanCore* core) {
  if (core == nullptr || core->ReceiveWouldBlock()) return {0, TryResult::kWouldBlock};
  ReceivedWord received{0, TryResult::kWouldBlock};
  received.result = AtOnce<RecvLocked<MoveWord>>(core, &received.word);
  return received;
}

TryResult SendStaged(ChanCore* core, WaitRecord* record, void* value) noexcept {
  if (core == nullptr) [[unlikely]]
    WaitForEver(WaitReason::kChanSendNilChan);
  return InTime<SendLocked<MoveAny>, &ChanCore::senders, WaitReason::kChanSend>(core, record,
                                                                                value);
}

TryResult RecvStaged(ChanCore* core, WaitRecord* record, void* value) noexcept {
  if (core == nullptr) [[unlikely]]
    WaitForEver(WaitReason::kChanReceiveNilChan);
  return InTime<RecvLocked<MoveAny>, &ChanCore::receivers, WaitReason::kChanReceive>(core, record,
                                                                                     value);
}

TryResult TrySendStaged(ChanCore* core, void* value) {
  return AtOnce<SendLocked<MoveAny>>(core, value);
}

TryResult TryRecvStaged(ChanCore* core, void* value) {
  return AtOnce<RecvLocked<MoveAny>>(core, value);
}

bool CloseChan(ChanCore* core) {
  if (core == nullptr) return false;
  RuntimeSection section;
  core->lock.Acquire();
  if (core->closed.load(std::memory_order_relaxed)) {
    core->lock.Release();
    return false;
  }
  // Release: pairs with ReceiveWouldBlock(), SendWouldBlock().
  core->closed.store(true, std::memory_order_release);
  // All who wait are taken under the lock, and finished after it: there may be many. Between the
  // two they are ours, and linked by `next`.
  WaitRecord* taken = nullptr;
  WaitRecord** end = &taken;
  while (WaitRecord* receiver = Take(core->receivers)) {
    *end = receiver;
    end = &receiver->next;
  }
  WaitRecord* first_orphan = nullptr;
  while (WaitRecord* sender = Take(core->senders)) {
    if (sender->waiter == nullptr) {
      // Orphans stand together at the front: the queue is empty once they have been put aside.
      sender->next = first_orphan;
      first_orphan = sender;
    } else {
      *end = sender;
      end = &sender->next;
    }
  }
  *end = nullptr;
  while (first_orphan != nullptr) {
    core->senders.PushFront(std::exchange(first_orphan, first_orphan->next));
  }
  core->lock.Release();
  WEFT_DELAY_POINT("chan.close.taken");
  while (taken != nullptr) {
    WaitRecord* next = taken->next;
    Wake(Finish(taken, Outcome::kClosed));
    taken = next;
  }
  return true;
}

void ReturnBox(ChanCore* core, BoxBase* box) {
  RuntimeSection section;
  core->lock.Acquire();
  ChanCore& c = *core;
  if (WaitRecord* receiver = Take(c.receivers); receiver != nullptr) {
    MoveWord::Relocate(c, receiver->value, &box->self);
    Waiter* waiter = Finish(receiver, Outcome::kDone);
    core->lock.Release();
    Wake(waiter);
    return;
  }
  const uint64_t count = c.count.load(std::memory_order_relaxed);
  BoxBase* orphan = box;
  if (c.capacity != 0) {
    const uint64_t front = c.first == 0 ? c.capacity - 1 : c.first - 1;
    uint64_t* slot = static_cast<uint64_t*>(MoveWord::Slot(c, front));
    // In a full ring the slot before the oldest element is that of the youngest.
    orphan = count == c.capacity ? BoxBase::Of(*slot) : nullptr;
    *slot = box->self;
    c.first = front;
    if (orphan == nullptr) SetCount(c, count + 1);
  }
  if (orphan != nullptr) {
    orphan->orphan.waiter = nullptr;
    orphan->orphan.select = nullptr;
    orphan->orphan.value = &orphan->self;
    c.senders.PushFront(&orphan->orphan);
  }
  core->lock.Release();
}

ChanCore* NewChanCore(ChanCore::Kind kind, int64_t capacity, const ElementOps* ops,
                      absl::StatusCode* error) {
  uint64_t ring_bytes;
  *error = absl::StatusCode::kInvalidArgument;
  if (capacity < 0 ||
      __builtin_mul_overflow(static_cast<uint64_t>(capacity), ops->bytes, &ring_bytes) ||
      ring_bytes > kMaxRingBytes) {
    return nullptr;
  }
  // Words without contents are read and written all the same, all in one slot.
  if (ops->bytes == 0) ring_bytes = sizeof(uint64_t);
  void* memory = ::operator new(sizeof(ChanCore) + ring_bytes, kCoreAlignment, std::nothrow);
  *error = absl::StatusCode::kResourceExhausted;
  if (memory == nullptr) return nullptr;
  return ::new (memory) ChanCore(kind, static_cast<uint64_t>(capacity), ops);
}

void ChanCore::Destroy() {
  if (ops->last_handle_gone != nullptr) return ops->last_handle_gone(this);
  if (ops->destroy != nullptr) {
    for (uint64_t n = count.load(std::memory_order_relaxed); n > 0; --n) {
      ops->destroy(MoveAny::Slot(*this, first));
      first = SlotAfter(*this, first, 1);
    }
    while (WaitRecord* orphan = senders.front()) {
      senders.Remove(orphan);
      ops->destroy(orphan->value);
    }
  }
  this->~ChanCore();
  ::operator delete(this, kCoreAlignment);
}

absl::Status MakeChanError(absl::StatusCode code) {
  return absl::Status(code, code == absl::StatusCode::kInvalidArgument
                                ? "makechan: size out of range"
                                : "makechan: out of memory");
}

void MakeChanPanic(absl::StatusCode code) {
  if (code == absl::StatusCode::kInvalidArgument) Panic("makechan: size out of range");
  Fatal("makechan: out of memory");
}

}  // namespace weft::internal
