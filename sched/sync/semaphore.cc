// The quick ways change the state while nobody waits. While somebody does (kWaits), it is changed
// only under the lock of the bucket in the parking table, where the queue is: by those who release,
// who serve the queue as far as the units go, and by a waiter that gives up.
//
// The change of the state is the last access to the object in each way of releasing.
#include "sched/sync/semaphore.h"

#include <algorithm>

#include "sched/fatal.h"
#include "sched/internal/delay.h"
#include "sched/sync/internal/parking_table.h"
#include "sched/waiter.h"

namespace weft {

using internal::Interruption;
using internal::kInterruptionBytes;
using internal::ParkingBucket;
using internal::ParkRecord;

namespace {

constexpr uint32_t kTokenHasThem = 1;

ParkRecord* RecordOf(Waiter* self) {
  return static_cast<ParkRecord*>(self->Scratch(sizeof(ParkRecord) + kInterruptionBytes));
}
void* SpaceBehind(ParkRecord* record) { return record + 1; }

}  // namespace

Semaphore::Semaphore(int64_t units) : size_(units), state_(Change(units)) {
  if (units < 0 || units > int64_t{1} << 62) Panic("semaphore: size out of range");
}

void Semaphore::CheckSize(int64_t n) const {
  if (n < 0) Panic("semaphore: acquired less than nothing");
  if (n > size_) Panic("semaphore: acquired more than its size");
}

// Under the bucket's lock: whether the caller is to queue. False: it has the units.
bool Semaphore::MustQueue(int64_t n) {
  uint64_t state = state_.load(std::memory_order_relaxed);
  for (;;) {
    if ((state & kWaits) != 0) return true;
    const bool enough = Units(state) >= n;
    const uint64_t next = enough ? state - Change(n) : state | kWaits;
    if (state_.compare_exchange_weak(state, next, std::memory_order_acquire,
                                     std::memory_order_relaxed)) {
      return !enough;
    }
  }
}

// Under the bucket's lock, while somebody waits or has just given up: adds `released` units, and
// takes from the queue all who can have what they want, in their order. To be woken without the
// lock.
ParkRecord* Semaphore::Serve(int64_t released) {
  ParkingBucket& bucket = internal::BucketOf(this);
  int64_t units = Units(state_.load(std::memory_order_relaxed)) + released;
  ParkRecord* served = nullptr;
  ParkRecord** end = &served;
  while (const ParkRecord* first = bucket.First(this)) {
    const int64_t wanted = static_cast<int64_t>(first->amount);
    if (wanted > units) break;
    units -= wanted;
    *end = bucket.PopFront(this);
    end = &(*end)->next;
  }
  *end = nullptr;
  state_.store(Change(units) | (bucket.Has(this) ? kWaits : 0), std::memory_order_release);
  return served;
}

// Gives up waiting. False: too late, the units are on their way.
bool Semaphore::Leave(ParkRecord* record) noexcept {
  WEFT_DELAY_POINT("semaphore.leave");
  ParkingBucket& bucket = internal::BucketOf(this);
  bucket.lock.Acquire();
  if (!bucket.Remove(record)) {
    bucket.lock.Release();
    return false;
  }
  // Those behind it may want less.
  ParkRecord* served = Serve(0);
  bucket.lock.Release();
  internal::WakeAll(served, kTokenHasThem);
  return true;
}

// Waits for the units, by `sleep()`, which parks and returns whether to go on waiting. False: it
// has given up.
template <typename Sleep>
[[gnu::always_inline]] inline bool Semaphore::Wait(Waiter* self, ParkRecord* record, int64_t n,
                                                   Sleep sleep) noexcept {
  ParkingBucket& bucket = internal::BucketOf(this);
  bucket.lock.Acquire();
  if (!MustQueue(n)) {
    bucket.lock.Release();
    return true;
  }
  record->amount = static_cast<uint64_t>(n);
  internal::Queue(bucket, this, internal::ParkPlace::kBack, record, self, WaitReason::kSemacquire);
  bucket.lock.Release();
  bool may_leave = true;
  for (;;) {
    bool go_on = true;
    if (may_leave) {
      go_on = sleep();
    } else {
      self->Park(WaitReason::kSemacquire);
    }
    if (internal::TokenOf(record) != internal::kNotParked) return true;
    if (go_on) continue;
    if (Leave(record)) return false;
    may_leave = false;
  }
}

void Semaphore::Acquire(int64_t n) noexcept {
  CheckSize(n);
  if (TryAcquire(n)) return;
  WEFT_DELAY_POINT("semaphore.acquire");
  internal::RuntimeSection section;
  Waiter* self = Waiter::Current();
  Wait(self, RecordOf(self), n, [self] {
    self->Park(WaitReason::kSemacquire);
    return true;
  });
}

bool Semaphore::AcquireFor(absl::Duration timeout, int64_t n) noexcept {
  CheckSize(n);
  if (TryAcquire(n)) return true;
  if (timeout <= absl::ZeroDuration()) return false;
  const Instant deadline = Instant::Now() + timeout;
  internal::RuntimeSection section;
  Waiter* self = Waiter::Current();
  return Wait(self, RecordOf(self), n,
              [=] { return self->ParkUntil(deadline, WaitReason::kSemacquire); });
}

bool Semaphore::AcquireUnless(Interruption interruption, int64_t n) noexcept {
  if (interruption.ops == nullptr) {
    Acquire(n);
    return true;
  }
  internal::RuntimeSection section;
  Waiter* self = Waiter::Current();
  ParkRecord* record = RecordOf(self);
  void* space = SpaceBehind(record);
  if (!interruption.ops->arm(interruption.object, self, space)) return false;
  if (n > size_) {
    while (!interruption.ops->has_come(space)) self->Park(WaitReason::kSemacquire);
    interruption.ops->disarm(interruption.object, space);
    return false;
  }
  const bool acquired = Wait(self, record, n, [=] {
    self->Park(WaitReason::kSemacquire);
    return !interruption.ops->has_come(space);
  });
  // Where both have come, the interruption counts, as in x/sync.
  if (!interruption.ops->disarm(interruption.object, space)) return true;
  if (acquired) Release(n);
  return false;
}

void Semaphore::Release(int64_t n) noexcept {
  uint64_t state = state_.load(std::memory_order_relaxed);
  if (n > size_ - Units(state)) Panic("semaphore: released more than held");
  while ((state & kWaits) == 0) {
    if (state_.compare_exchange_weak(state, state + Change(n), std::memory_order_release,
                                     std::memory_order_relaxed)) {
      return;
    }
  }
  WEFT_DELAY_POINT("semaphore.release");
  internal::RuntimeSection section;
  ParkingBucket& bucket = internal::BucketOf(this);
  bucket.lock.Acquire();
  ParkRecord* served = Serve(n);
  bucket.lock.Release();
  internal::WakeAll(served, kTokenHasThem);
}

}  // namespace weft
