// The one way to wait in Weft.
//
// A Waiter is whoever can wait: a goroutine, or a plain thread where there is none. It holds one
// token, like a binary semaphore: Unpark() gives it, Park() takes it, waiting if it is not there.
// An Unpark() before the Park() is not lost, and two of them count as one.
//
//   // The waiting side. The condition is guarded by something of its own, here an atomic.
//   weft::Waiter* self = weft::Waiter::Current();
//   queue.Add(self);
//   while (!done.load(std::memory_order_acquire)) self->Park(weft::WaitReason::kSelect);
//
//   // The waking side: first the condition, then the token.
//   done.store(true, std::memory_order_release);
//   waiter->Unpark();
//
// A wake-up may come for no reason (a token left over from an earlier wait), so every caller tests
// its condition in a loop. Waiters are never freed: unparking one whose goroutine or thread has
// ended since is harmless.
//
// Channels, sync, netpoll and spawn wait only through this, and so work from goroutines and from
// threads in any mix. This target links no scheduler.
//
// States of the word, and who moves it:
//
//   from    to      by        when
//   empty   token   a waker   nobody waits yet
//   token   empty   owner     Park() finds it and returns at once
//   empty   wait    owner     about to sleep; for a goroutine: off its stack already
//   wait    empty   a waker   it has won the right to make the owner runnable, alone
//   wait    empty   owner     (threads) its deadline has passed
//
// Why none is lost: a waker writes its condition, then does a read-modify-write on the word. Either
// that comes before the owner's empty -> wait, which then fails and returns to the condition; or
// after it, and finds `wait`.
#ifndef WEFT_SCHED_WAITER_H_
#define WEFT_SCHED_WAITER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "sched/clock.h"
#include "sched/internal/delay.h"
#include "sched/internal/thread.h"

namespace weft {

// Why a goroutine waits, for dumps. The names are Go's.
enum class WaitReason : uint8_t {
  kNone,
  kIoWait,
  kChanReceiveNilChan,
  kChanSendNilChan,
  kSelect,
  kSelectNoCases,
  kChanReceive,
  kChanSend,
  kSemacquire,
  kSleep,
  kCondWait,
  kMutexLock,
  kRWMutexRLock,
  kRWMutexLock,
  kWaitGroupWait,
};

// "chan receive", "IO wait", ...; "" for kNone.
const char* WaitReasonName(WaitReason reason);

// Goroutines that were made ready together, on their way to the run queues.
struct WakeBatch {
  Waiter* head = nullptr;
  Waiter* tail = nullptr;
  int size = 0;

  bool empty() const { return head == nullptr; }
  void PushBack(Waiter* waiter);
  Waiter* PopFront();
};

class Waiter {
 public:
  enum class Kind : uint8_t { kThread, kGoroutine };

  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  // The goroutine that calls, or the thread if it runs none. Never null. From goroutines and
  // threads, not from signal handlers or scheduler callbacks (timers, pollers).
  static Waiter* Current() noexcept {
    internal::Thread* thread = internal::ThisThread();
    if (thread != nullptr && thread->waiter != nullptr) [[likely]]
      return thread->waiter;
    return AttachThread();
  }

  // Takes the token, waiting for it if need be. Only the owner calls it. Parks the goroutine, or
  // blocks the thread. On return a goroutine may be on another thread.
  void Park(WaitReason reason) noexcept;

  // As Park(), but also returns once `deadline` has passed. False: it has passed and no token was
  // taken.
  bool ParkUntil(Instant deadline, WaitReason reason) noexcept;

  // Gives the token and wakes the owner if it waits. From any thread or goroutine, from timer
  // and poller callbacks, not from signal handlers. Does not park, but as any entry into the
  // runtime may move the calling goroutine to another thread.
  void Unpark() noexcept;

  // As Unpark(), but a goroutine that must run now is appended to `batch` for the caller to
  // queue. For pollers and timer loops, which wake many at once.
  void UnparkInto(WakeBatch& batch);

  // Memory for the records of one wait (a channel's wait-queue entry, a select's cases), so that
  // no record lies on a stack that may be copied while it waits. At least `bytes` bytes aligned to
  // 16, valid and undisturbed until the owner's next call of Scratch(); never unmapped, so that a
  // late reader that holds a lock finds memory. Only the owner calls it. Does not allocate for
  // up to kScratchBytes, nor when an earlier call asked for as much.
  void* Scratch(size_t bytes) noexcept {
    return bytes <= scratch_bytes_ ? scratch_ : LargerScratch(bytes);
  }
  // What the latest call of Scratch() has returned: so a function that waits need not keep it.
  void* LatestScratch() const { return scratch_; }
  static constexpr size_t kScratchBytes = 64;

  Kind kind() const { return kind_; }

 protected:
  // The memory that Scratch() begins with. A member of what derives from Waiter, at a place where
  // it does not come between what each wait touches.
  struct ScratchSpace {
    alignas(16) std::byte bytes[kScratchBytes];
  };

  Waiter(Kind kind, ScratchSpace& space) : scratch_(space.bytes), kind_(kind) {}
  ~Waiter() = default;

 private:
  friend class WaiterProtocol;
  friend struct WakeBatch;

  static Waiter* AttachThread() noexcept;
  void* LargerScratch(size_t bytes) noexcept;

  std::atomic<uint32_t> word_{0};
  uint32_t scratch_bytes_ = kScratchBytes;
  Waiter* next_ = nullptr;  // in a batch, of whoever made it ready
  void* scratch_;
  const Kind kind_;
};

// The word's transitions, for the two implementations of Park (threads here, goroutines in the
// scheduler).
class WaiterProtocol {
 public:
  // token -> empty. True: there was one.
  static bool TakeToken(Waiter& w) {
    if (w.word_.load(std::memory_order_relaxed) != kToken) return false;
    // Acquire: pairs with the release in Give(), so the owner sees the waker's condition.
    w.word_.exchange(kEmpty, std::memory_order_acquire);
    return true;
  }

  // empty -> wait; or, where a token has come, token -> empty and false.
  static bool Publish(Waiter& w) {
    WEFT_DELAY_POINT("waiter.publish");
    uint32_t expected = kEmpty;
    // Release: a waker that finds `wait` sees all that the owner's stack and state hold.
    if (w.word_.compare_exchange_strong(expected, kWait, std::memory_order_acq_rel,
                                        std::memory_order_acquire)) {
      return true;
    }
    w.word_.exchange(kEmpty, std::memory_order_acquire);
    return false;
  }

  // wait -> empty by the owner. False: a waker was first, and its wake-up is under way.
  static bool Withdraw(Waiter& w) {
    uint32_t expected = kWait;
    return w.word_.compare_exchange_strong(expected, kEmpty, std::memory_order_acq_rel,
                                           std::memory_order_acquire);
  }

  // What a waker does. True: wait -> empty, the caller must make the owner runnable.
  static bool Give(Waiter& w) {
    WEFT_DELAY_POINT("waiter.give");
    uint32_t word = w.word_.load(std::memory_order_relaxed);
    for (;;) {
      // A token that is already there is written again: only a read-modify-write orders this
      // waker's condition before the owner's taking of it.
      const uint32_t next = word == kWait ? kEmpty : kToken;
      if (w.word_.compare_exchange_weak(word, next, std::memory_order_acq_rel,
                                        std::memory_order_relaxed)) {
        return word == kWait;
      }
    }
  }

  static std::atomic<uint32_t>& word(Waiter& w) { return w.word_; }
  static Waiter*& next(Waiter& w) { return w.next_; }

  static constexpr uint32_t kEmpty = 0;
  static constexpr uint32_t kToken = 1;
  static constexpr uint32_t kWait = 2;
};

namespace internal {

// How the scheduler parks and readies goroutines; set before the first one exists, and changed
// where waits are to be profiled.
struct GoroutineWaitOps {
  void (*park)(Waiter* self, WaitReason reason) noexcept;
  bool (*park_until)(Waiter* self, Instant deadline, WaitReason reason) noexcept;
  void (*ready)(Waiter* waiter) noexcept;
  bool (*may_spin)() noexcept;
};
extern constinit std::atomic<const GoroutineWaitOps*> goroutine_wait_ops;

inline const GoroutineWaitOps& WaitOps() {
  return *goroutine_wait_ops.load(std::memory_order_relaxed);
}

// Whether it may pay for the caller to look again and again for some microseconds before it parks:
// somebody else runs meanwhile, and nobody waits for this P.
inline bool MaySpin() {
  return Waiter::Current()->kind() == Waiter::Kind::kThread || WaitOps().may_spin();
}

}  // namespace internal
}  // namespace weft

#endif  // WEFT_SCHED_WAITER_H_
