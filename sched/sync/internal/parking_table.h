// Queues of waiters, found by the address of what they wait for.
//
// A Mutex or WaitGroup is one small atomic word. The queue of those who wait for it is here, in a
// table that all share, and only while somebody waits. This has a second use: whoever unlocks
// changes the word under the lock of the table's bucket, as its last access to the object. So the
// object may be destroyed by whoever gets the lock next, which a queue inside it would not allow.
//
// The idea is Go's semaphore table and, in this form, F. Pizlo's ParkingLot (WebKit, 2015).
//
// Records live in the waiters' scratch memory (Waiter::Scratch). One is touched by its owner until
// Park() queues it under the bucket's lock; then by whoever holds that lock; once taken from the
// queue by the waker, whose last access is to store `token`; and then by its owner again.
#ifndef WEFT_SCHED_SYNC_INTERNAL_PARKING_TABLE_H_
#define WEFT_SCHED_SYNC_INTERNAL_PARKING_TABLE_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "sched/clock.h"
#include "sched/internal/contention.h"
#include "sched/internal/lock.h"
#include "sched/internal/thread.h"
#include "sched/sync/internal/gate.h"
#include "sched/waiter.h"

namespace weft::internal {

struct ParkRecord {
  const void* address;       // the first: for lock_holders.h
  ParkRecord* next;          // who waits for the same address
  ParkRecord* last;          // of them; valid in the first
  ParkRecord* next_address;  // the first record of another address; valid in the first
  Waiter* waiter;
  Instant since;
  // How much of it, where that has a meaning; of a lock, since when this waits, in nanoseconds of
  // the clock, or 0 where nobody wants to know.
  uint64_t amount;
  WaitReason reason;  // tells what kind of object is at the address
  std::atomic<uint32_t> token;
};
static_assert(sizeof(ParkRecord) <= Waiter::kScratchBytes);
static_assert(offsetof(ParkRecord, address) == 0);

class ABSL_LOCKABLE ParkingBucket {
 public:
  Lock lock;

  // All under the lock.
  void PushBack(ParkRecord* record);
  void PushFront(ParkRecord* record);
  // The first that waits for `address`; null: none.
  const ParkRecord* First(const void* address) const { return *Find(address); }
  // Likewise, no longer queued.
  ParkRecord* PopFront(const void* address);
  // All of them, linked by `next`.
  ParkRecord* PopAll(const void* address);
  // Takes it out, wherever in its queue it is. False: somebody has done so before.
  bool Remove(ParkRecord* record);
  bool Has(const void* address) const { return First(address) != nullptr; }
  // How many wait for it.
  int Count(const void* address) const;

 private:
  // The link to the first record of `address`, or to the null at the end.
  ParkRecord* const* Find(const void* address) const;
  ParkRecord** Find(const void* address) {
    return const_cast<ParkRecord**>(static_cast<const ParkingBucket*>(this)->Find(address));
  }

  ParkRecord* first_ = nullptr;
};

ParkingBucket& BucketOf(const void* address);

// Where a waiter that is served late, and so waits again, is queued.
enum class ParkPlace { kBack, kFront };

// What Park() returns where it has not waited; wakers give other tokens.
inline constexpr uint32_t kNotParked = 0;

// Queues the caller for `address`, in `bucket`, under whose lock this is called. `record` is in its
// scratch memory.
inline void Queue(ParkingBucket& bucket, const void* address, ParkPlace place, ParkRecord* record,
                  Waiter* self, WaitReason reason) {
  record->address = address;
  record->waiter = self;
  record->reason = reason;
  record->token.store(0, std::memory_order_relaxed);
  if (place == ParkPlace::kBack) {
    bucket.PushBack(record);
  } else {
    bucket.PushFront(record);
  }
}

// The token that a queued record has been given; kNotParked: none so far.
inline uint32_t TokenOf(const ParkRecord* record) {
  // Acquire: pairs with the release in Wake().
  return record->token.load(std::memory_order_acquire);
}

// Waits for `address`, in the queues of `bucket`, until a waker gives it a token, which it returns;
// at once (kNotParked) where `still_wanted()`, called under the bucket's lock, is false. `since` is
// when the wait began. `before_sleep()` is called without that lock, before each sleep, and says
// when to end it: to call it again.
//
// Inlined, and nothing throws, so that neither what the functions capture nor the section is
// anything that others have the address of: that would keep a page of the waiter's pinned stack.
template <typename StillWanted, typename BeforeSleep>
[[gnu::always_inline]] inline uint32_t ParkIn(ParkingBucket& bucket, const void* address,
                                              ParkPlace place, Instant since, WaitReason reason,
                                              StillWanted still_wanted,
                                              BeforeSleep before_sleep) noexcept {
  RuntimeSection section;
  Waiter* self = Waiter::Current();
  auto* record = static_cast<ParkRecord*>(self->Scratch(sizeof(ParkRecord)));
  bucket.lock.Acquire();
  if (!still_wanted()) {
    bucket.lock.Release();
    return kNotParked;
  }
  record->since = since;
  record->amount = ContentionIsObserved() ? static_cast<uint64_t>(Instant::Now().nanos()) : 0;
  if (const ParkRecord * first; place == ParkPlace::kFront && record->amount != 0 &&
                                (first = bucket.First(address)) != nullptr) {
    record->amount = first->amount;  // see Contention
  }
  Queue(bucket, address, place, record, self, reason);
  bucket.lock.Release();
  for (;;) {
    self->ParkUntil(before_sleep(), reason);
    if (const uint32_t token = TokenOf(record); token != kNotParked) return token;
  }
}

// The same in the bucket of `address`.
template <typename StillWanted, typename BeforeSleep>
[[gnu::always_inline]] inline uint32_t Park(const void* address, ParkPlace place, Instant since,
                                            WaitReason reason, StillWanted still_wanted,
                                            BeforeSleep before_sleep) noexcept {
  return ParkIn(BucketOf(address), address, place, since, reason, still_wanted, before_sleep);
}

// Ends the wait of a record that was taken from its queue.
inline void Wake(ParkRecord* record, uint32_t token) {
  Waiter* waiter = record->waiter;
  record->token.store(token, std::memory_order_release);
  waiter->Unpark();
}

// Likewise for all that are linked by `next`.
inline void WakeAll(ParkRecord* record, uint32_t token) {
  while (record != nullptr) {
    ParkRecord* next = record->next;
    Wake(record, token);
    record = next;
  }
}

// What others have waited for a lock because of who unlocks it now.
class Contention {
 public:
  // Under the lock of the bucket, of the first waiter, which is about to be taken from the queue:
  // charges what all in the queue have waited, as it is who had the lock that they all waited for,
  // and not who will have it while they wait on. From here on the others wait anew: the next one
  // has this moment for its beginning, and no record counts from before that of the first. So Go
  // has it.
  void Add(const ParkRecord* first) {
    if (first->amount == 0) [[likely]]
      return;
    const auto now = static_cast<uint64_t>(Instant::Now().nanos());
    for (ParkRecord* record = first->next; record != nullptr; record = record->next) {
      if (record->amount != 0) Charge(now - std::max(record->amount, first->amount));
    }
    Charge(now - first->amount);
    ++events_;
    if (first->next != nullptr && first->next->amount != 0) first->next->amount = now;
  }
  // Likewise of all that are linked by `next`, and are taken at once.
  void AddAll(const ParkRecord* first) {
    for (const ParkRecord* record = first; record != nullptr; record = record->next) {
      if (record->amount == 0) continue;
      Charge(static_cast<uint64_t>(Instant::Now().nanos()) - record->amount);
      ++events_;
    }
  }
  // Once the lock is passed on, by who did so.
  void Report() const {
    if (events_ != 0) [[unlikely]]
      ReportContention(nanos_, events_);
  }

 private:
  void Charge(uint64_t nanos) { nanos_ += static_cast<int64_t>(nanos); }

  int64_t nanos_ = 0;
  int events_ = 0;
};

// Takes the first waiter for `address` and gives it the token that `decide(first)` returns, or
// leaves it there for kNotParked. `decide` is called under the bucket's lock, with null where
// nobody waits; it is the place to change the object at `address` for the last time.
template <typename Decide>
void UnparkOne(const void* address, Decide decide) noexcept {
  RuntimeSection section;
  ParkingBucket& bucket = BucketOf(address);
  bucket.lock.Acquire();
  const uint32_t token = decide(bucket.First(address));
  ParkRecord* record = token == kNotParked ? nullptr : bucket.PopFront(address);
  bucket.lock.Release();
  if (record != nullptr) Wake(record, token);
}

// Wakes all who wait for `address`, with `token`, after `decide()` under the bucket's lock.
template <typename Decide>
void UnparkAll(const void* address, uint32_t token, Decide decide) noexcept {
  RuntimeSection section;
  ParkingBucket& bucket = BucketOf(address);
  bucket.lock.Acquire();
  decide();
  ParkRecord* record = bucket.PopAll(address);
  bucket.lock.Release();
  WakeAll(record, token);
}

}  // namespace weft::internal

#endif  // WEFT_SCHED_SYNC_INTERNAL_PARKING_TABLE_H_
