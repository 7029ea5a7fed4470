// Locking is an exchange, unlocking a plain store: a locked instruction costs as much as all the
// rest. What it takes is that no waiter is missed by an unlock that it cannot stop.
//
// Those who wait are in the parking table. Two marks say who sees to them; they and the queue are
// changed under the lock of the bucket:
//
//   wake_    the next unlock takes the slow way: under the lock of the bucket it wakes the first
//            waiter, or hands the mutex to one who has waited for too long
//   kWoken   one waiter has been woken and competes with whoever comes: no unlock need wake
//            another. It clears the mark as it gets the mutex, and sets wake_; or as it queues
//            again
//
// Whenever nobody holds the bucket's lock, one of the two is set if anybody waits; never both. A
// holder that sets wake_ (one that was woken, or was handed the mutex) sees it itself. But a waiter
// W sets it while another one, H, holds the mutex, and H may have looked at it already:
//
//   H, unlocking              W, about to sleep
//   1 read wake_: 0           1 under the bucket's lock, and only if the mutex is locked:
//   2 locked_ = 0               queue, wake_ = 1, open the gate
//   3 read the gate: open?    2 membarrier
//     then look again         3 read locked_: 0? then look again
//
//   look again: under the bucket's lock, if somebody waits, the mutex is free and kWoken is not
//   set, wake the first.
//
// The membarrier puts a full barrier into each thread, somewhere. In the thread of the H whose
// value of locked_ W reads in step 3 that is
//   before H's 1: H sees wake_;
//   between 1 and 3: H sees the gate, or somebody has closed it, who has then woken a waiter;
//   after H's 2: then W reads 0, or the value of a later holder, for whom the same is true.
// Who takes the mutex after that read sees wake_. A look that finds the mutex taken again leaves it
// to the one who has taken it: that one sees wake_, or the gate, which stays open until a waiter is
// woken. sched/models/mutex.pml goes through every interleaving of small numbers.
//
// Where the kernel has no membarrier W looks again every millisecond instead.
//
// A membarrier costs microseconds, so wake_ is not cleared at once when nobody waits any more, but
// after kQuietUnlocks: a mutex that is waited for often is unlocked the slow way, which costs one
// locked instruction, and W finds wake_ set.
//
// The last access to the object is the store of locked_ in either way: H's further looks use its
// address. That those who wait are waiting in a Lock() proves that there is a Mutex.
#include "sched/sync/mutex.h"

#include "absl/time/time.h"
#include "sched/clock.h"
#include "sched/fatal.h"
#include "sched/internal/delay.h"
#include "sched/internal/membarrier.h"
#include "sched/sync/internal/parking_table.h"
#include "sched/sync/internal/spin.h"
#include "sched/waiter.h"

namespace weft {
namespace {

using internal::ParkPlace;
using internal::ParkRecord;

constexpr uint32_t kTokenCompete = 1;
constexpr uint32_t kTokenOwner = 2;

// In flags_.
constexpr uint8_t kWoken = 1;
constexpr uint8_t kGateIsOpen = 2;

// What they cost, some 5 ns each more than the quick way, is about what a membarrier does.
constexpr uint8_t kQuietUnlocks = 200;

// As in Go.
constexpr absl::Duration kTooLong = absl::Milliseconds(1);

// How long a sleeper trusts that it will be woken, where it could not be made sure.
constexpr absl::Duration kLookAgainEvery = absl::Milliseconds(1);

}  // namespace

void Mutex::LockSlow() noexcept {
  Instant since;
  bool has_waited = false;
  bool woken = false;
  for (;;) {
    for (int look = 0;; ++look) {
      if (TryLock()) {
        if (woken) WokenHasIt();
        return;
      }
      if (look == internal::kLooks || !internal::MaySpin()) break;
      internal::PauseBeforeLook(look);
    }
    if (!has_waited) since = Instant::Now();
    WEFT_DELAY_POINT("mutex.park");
    // No address of a local is given away from here on: there would have to be memory for it as
    // long as this waits.
    Queueing queueing = Queueing::kNo;
    const uint32_t token = internal::Park(
        this, has_waited ? ParkPlace::kFront : ParkPlace::kBack, since, WaitReason::kMutexLock,
        [&] {
          queueing = MayQueue(woken);
          return queueing != Queueing::kNo;
        },
        [&] {
          if (queueing != Queueing::kUnseen) return Instant::Never();
          WEFT_DELAY_POINT("mutex.queued");
          if (internal::Membarrier()) queueing = Queueing::kSeen;
          if (locked_.load(std::memory_order_relaxed) == 0) LookAgain(this);
          return queueing == Queueing::kSeen ? Instant::Never() : Instant::Now() + kLookAgainEvery;
        });
    if (token == kTokenOwner) return;
    if (token == kTokenCompete) {
      has_waited = true;
      woken = true;
    }
  }
}

// Under the lock of the bucket: whether the caller is to queue, then with the marks set; kUnseen:
// it was this waiter that has set wake_, unseen perhaps by the holder.
Mutex::Queueing Mutex::MayQueue(bool woken) {
  if (locked_.load(std::memory_order_relaxed) == 0) return Queueing::kNo;
  if (woken) flags_ &= ~kWoken;
  if ((flags_ & kWoken) != 0 || wake_.load(std::memory_order_relaxed) != 0) return Queueing::kSeen;
  wake_.store(1, std::memory_order_relaxed);
  quiet_unlocks_ = 0;
  flags_ |= kGateIsOpen;
  internal::GateOf(this).OpenFor(this);
  return Queueing::kUnseen;
}

// The waiter that was woken has got the mutex.
void Mutex::WokenHasIt() noexcept {
  internal::RuntimeSection section;
  internal::ParkingBucket& bucket = internal::BucketOf(this);
  const internal::LockGuard guard(bucket.lock);
  flags_ &= ~kWoken;
  wake_.store(1, std::memory_order_relaxed);
  quiet_unlocks_ = 0;
}

// Under the lock of the bucket: what to do to the object when the first waiter is woken.
void Mutex::WakeFirst() {
  if ((flags_ & kGateIsOpen) != 0) internal::GateOf(this).Close();
  flags_ = kWoken;
  wake_.store(0, std::memory_order_relaxed);
}

void Mutex::UnlockSlow() noexcept {
  if (locked_.load(std::memory_order_relaxed) == 0) Fatal("sync: unlock of unlocked mutex");
  WEFT_DELAY_POINT("mutex.unpark");
  internal::Contention contention;
  internal::UnparkOne(this, [this, &contention](const ParkRecord* first) {
    if ((flags_ & kWoken) != 0 || first == nullptr) {
      if (first == nullptr && ++quiet_unlocks_ >= kQuietUnlocks) {
        wake_.store(0, std::memory_order_relaxed);
      }
      locked_.store(0, std::memory_order_release);
      return internal::kNotParked;
    }
    contention.Add(first);
    WakeFirst();
    if (Instant::Now() - first->since > kTooLong) {
      // Not on its way, as it has it already.
      flags_ = 0;
      wake_.store(1, std::memory_order_relaxed);
      quiet_unlocks_ = 0;
      return kTokenOwner;
    }
    locked_.store(0, std::memory_order_release);
    return kTokenCompete;
  });
  contention.Report();
}

void Mutex::LookAgain(Mutex* unlocked) noexcept {
  if (!internal::GateOf(unlocked).IsOpenFor(unlocked)) return;
  internal::Contention contention;
  internal::UnparkOne(unlocked, [unlocked, &contention](const ParkRecord* first) {
    // Where a mutex is waited for, there is one.
    if (first == nullptr || first->reason != WaitReason::kMutexLock ||
        (unlocked->flags_ & kWoken) != 0 ||
        unlocked->locked_.load(std::memory_order_relaxed) != 0) {
      return internal::kNotParked;
    }
    contention.Add(first);
    unlocked->WakeFirst();
    return kTokenCompete;
  });
  contention.Report();
}

}  // namespace weft
