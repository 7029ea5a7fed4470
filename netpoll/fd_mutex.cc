#include "netpoll/fd_mutex.h"

#include <new>

#include "sched/fatal.h"
#include "sched/internal/delay.h"
#include "sched/internal/thread.h"

namespace weft::internal {
namespace {

[[noreturn]] void TooMany() {
  Panic("too many concurrent operations on a single file or socket (max 1048575)");
}

[[noreturn]] void Inconsistent() { Panic("inconsistent poll.fdMutex"); }

}  // namespace

// Orders: every successful change of the word is an acq_rel read-modify-write, so the one who gets
// the lock, or who is told to destroy, sees all that earlier holders did.

bool FdMutex::Ref() {
  uint64_t old = state_.load(std::memory_order_relaxed);
  do {
    if ((old & kClosed) != 0) return false;
    if ((old & kRefMask) == kRefMask) TooMany();
  } while (!state_.compare_exchange_weak(old, old + kRef, std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
  return true;
}

bool FdMutex::RefAndClose() {
  uint64_t old = state_.load(std::memory_order_relaxed);
  uint64_t next;
  do {
    if ((old & kClosed) != 0) return false;
    if ((old & kRefMask) == kRefMask) TooMany();
    next = ((old | kClosed) + kRef) & ~(kWaitMask[0] | kWaitMask[1]);
  } while (!state_.compare_exchange_weak(old, next, std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
  // Those who were counted as waiting are woken here and nowhere else; they find it closed.
  for (int i = 0; i < 2; ++i) {
    for (uint64_t n = (old & kWaitMask[i]) / kWait[i]; n > 0; --n) queues_[i].Release();
  }
  return true;
}

bool FdMutex::Unref() {
  uint64_t old = state_.load(std::memory_order_relaxed);
  do {
    if ((old & kRefMask) == 0) Inconsistent();
  } while (!state_.compare_exchange_weak(old, old - kRef, std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
  return ((old - kRef) & (kClosed | kRefMask)) == kClosed;
}

bool FdMutex::Lock(PollMode mode) {
  const int i = static_cast<int>(mode);
  uint64_t old = state_.load(std::memory_order_relaxed);
  for (;;) {
    if ((old & kClosed) != 0) return false;
    const bool free = (old & kLocked[i]) == 0;
    uint64_t next;
    if (free) {
      if ((old & kRefMask) == kRefMask) TooMany();
      next = (old | kLocked[i]) + kRef;
    } else {
      if ((old & kWaitMask[i]) == kWaitMask[i]) TooMany();
      next = old + kWait[i];
    }
    if (!state_.compare_exchange_weak(old, next, std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) {
      continue;
    }
    if (free) return true;
    WEFT_DELAY_POINT("fd_mutex.wait");
    // Whoever releases it has taken us off the count.
    queues_[i].Acquire();
    old = state_.load(std::memory_order_relaxed);
  }
}

bool FdMutex::Unlock(PollMode mode) {
  const int i = static_cast<int>(mode);
  uint64_t old = state_.load(std::memory_order_relaxed);
  uint64_t next;
  do {
    if ((old & kLocked[i]) == 0 || (old & kRefMask) == 0) Inconsistent();
    next = (old & ~kLocked[i]) - kRef;
    if ((old & kWaitMask[i]) != 0) next -= kWait[i];
  } while (!state_.compare_exchange_weak(old, next, std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
  // Ours may have been the last reference, but then the word is closed and nobody is counted.
  if ((old & kWaitMask[i]) != 0) queues_[i].Release();
  return (next & (kClosed | kRefMask)) == kClosed;
}

struct FdMutex::Queue::Node {
  Waiter* waiter;
  Node* next = nullptr;
  std::atomic<bool> granted{false};
};

void FdMutex::Queue::Acquire() {
  Waiter* const self = Waiter::Current();
  static_assert(sizeof(Node) <= Waiter::kScratchBytes);
  Node* node;
  {
    RuntimeSection section;
    LockGuard guard(lock_);
    if (permits_ > 0) {
      --permits_;
      return;
    }
    node = ::new (self->Scratch(sizeof(Node))) Node{self};
    (tail_ == nullptr ? head_ : tail_->next) = node;
    tail_ = node;
  }
  // Acquire: pairs with the release in Release().
  while (!node->granted.load(std::memory_order_acquire)) self->Park(WaitReason::kSemacquire);
}

void FdMutex::Queue::Release() {
  Waiter* waiter;
  {
    RuntimeSection section;
    LockGuard guard(lock_);
    if (head_ == nullptr) {
      ++permits_;
      return;
    }
    Node* node = head_;
    head_ = node->next;
    if (head_ == nullptr) tail_ = nullptr;
    // The last look at the node: its owner may reuse it from here on.
    waiter = node->waiter;
    node->granted.store(true, std::memory_order_release);
  }
  waiter->Unpark();
}

}  // namespace weft::internal
