// One word holds everything that the quick ways need: how many read, whether somebody writes, and
// whether somebody waits (kWaits). While kWaits is set nobody takes the lock by the quick way, so
// it changes hands only under the lock of the bucket in the parking table, where the queues are:
// one of readers and one of writers.
//
//   state             who may change it, and how
//   free, readers     a comer takes it; a reader leaves; whoever must wait sets kWaits, under the
//                     bucket's lock, as it queues
//   readers | kWaits  a reader leaves; the last one hands the lock to the first writer
//   writer            the writer leaves; whoever must wait sets kWaits
//   writer | kWaits   the writer, as it leaves: to all readers that wait, else to the first writer
//   kWaits            the reader that has left last, and nobody else: it is about to hand over
//
// Readers wait only behind a writer, one that has the lock or one that waits; so whenever the last
// reader leaves and somebody waits, a writer does.
//
// Whoever hands over gives the lock, not the right to try for it: those who are woken have it. That
// is what makes the turns fair, and it keeps the object alive while the one that hands over is on
// its way to the bucket: those who wait are in Lock() or RLock(). The change of the state under the
// bucket's lock is the last access to the object in every way of unlocking.
//
// sched/models/rwmutex.pml goes through every interleaving of small numbers.
#include "sched/sync/rw_mutex.h"

#include "sched/fatal.h"
#include "sched/internal/delay.h"
#include "sched/sync/internal/parking_table.h"
#include "sched/sync/internal/spin.h"
#include "sched/waiter.h"

namespace weft {
namespace {

using internal::ParkingBucket;
using internal::ParkPlace;
using internal::ParkRecord;

constexpr uint32_t kTokenHasIt = 1;

// The addresses by which the two queues are known, both in the bucket of the first.
const void* WritersOf(const RWMutex* mutex) { return mutex; }
const void* ReadersOf(const RWMutex* mutex) { return reinterpret_cast<const char*>(mutex) + 1; }

uint32_t Length(const ParkRecord* record) {
  uint32_t n = 0;
  for (; record != nullptr; record = record->next) ++n;
  return n;
}

}  // namespace

// Looks again for a while, where that may pay. True: the caller has it.
template <bool kWriting>
bool RWMutex::Spin() {
  for (int look = 0; look < internal::kLooks; ++look) {
    if (kWriting ? TryLock() : TryRLock()) return true;
    // In a queue the lock is handed on, and never free.
    if ((state_.load(std::memory_order_relaxed) & kWaits) != 0 || !internal::MaySpin()) break;
    internal::PauseBeforeLook(look);
  }
  return false;
}

// Under the bucket's lock: whether the caller is to queue. False: it has the lock.
template <bool kWriting>
bool RWMutex::MustQueue() {
  uint32_t state = state_.load(std::memory_order_relaxed);
  for (;;) {
    if ((state & kWaits) != 0) return true;
    const bool is_free = kWriting ? state == 0 : (state & kWriter) == 0;
    const uint32_t next = !is_free ? state | kWaits : kWriting ? kWriter : state + kReader;
    if (state_.compare_exchange_weak(state, next, std::memory_order_acquire,
                                     std::memory_order_relaxed)) {
      return !is_free;
    }
  }
}

void RWMutex::LockSlow() noexcept {
  if (Spin<true>()) return;
  WEFT_DELAY_POINT("rwmutex.lock");
  internal::ParkIn(
      internal::BucketOf(this), WritersOf(this), ParkPlace::kBack, Instant(),
      WaitReason::kRWMutexLock, [this] { return MustQueue<true>(); },
      [] { return Instant::Never(); });
}

void RWMutex::RLockSlow() noexcept {
  if (Spin<false>()) return;
  WEFT_DELAY_POINT("rwmutex.rlock");
  internal::ParkIn(
      internal::BucketOf(this), ReadersOf(this), ParkPlace::kBack, Instant(),
      WaitReason::kRWMutexRLock, [this] { return MustQueue<false>(); },
      [] { return Instant::Never(); });
}

void RWMutex::UnlockSlow() noexcept {
  if ((state_.load(std::memory_order_relaxed) & kWriter) == 0) {
    Fatal("sync: Unlock of unlocked RWMutex");
  }
  WEFT_DELAY_POINT("rwmutex.unlock");
  internal::RuntimeSection section;
  ParkingBucket& bucket = internal::BucketOf(this);
  bucket.lock.Acquire();
  ParkRecord* served = bucket.PopAll(ReadersOf(this));
  uint32_t next = Length(served) * kReader;
  if (served == nullptr) {
    served = bucket.PopFront(WritersOf(this));
    served->next = nullptr;
    next = kWriter;
  }
  if (bucket.Has(WritersOf(this))) next |= kWaits;
  state_.store(next, std::memory_order_release);
  internal::Contention contention;
  contention.AddAll(served);
  bucket.lock.Release();
  internal::WakeAll(served, kTokenHasIt);
  contention.Report();
}

void RWMutex::RUnlockSlow(uint32_t before) noexcept {
  if (before < kReader) Fatal("sync: RUnlock of unlocked RWMutex");
  WEFT_DELAY_POINT("rwmutex.runlock");
  internal::RuntimeSection section;
  ParkingBucket& bucket = internal::BucketOf(this);
  bucket.lock.Acquire();
  // Acquire: pairs with the releases of all the readers that have left, for the writer's sake.
  static_cast<void>(state_.load(std::memory_order_acquire));
  ParkRecord* writer = bucket.PopFront(WritersOf(this));
  const bool others = bucket.Has(WritersOf(this)) || bucket.Has(ReadersOf(this));
  state_.store(others ? kWriter | kWaits : kWriter, std::memory_order_release);
  internal::Contention contention;
  writer->next = nullptr;
  contention.AddAll(writer);
  bucket.lock.Release();
  internal::Wake(writer, kTokenHasIt);
  contention.Report();
}

}  // namespace weft
