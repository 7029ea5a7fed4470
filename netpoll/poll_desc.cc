#include "netpoll/poll_desc.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstddef>
#include <new>

#include "sched/internal/delay.h"
#include "sched/internal/thread.h"

namespace weft::internal {

std::atomic<int> PollDesc::waiting_{0};

// The free records, and where new ones come from.
class PollDesc::Pool {
 public:
  PollDesc* Get() {
    RuntimeSection section;
    LockGuard guard(lock_);
    if (free_ == nullptr) Grow();
    PollDesc* desc = free_;
    free_ = desc->next_free_;
    return desc;
  }

  void Put(PollDesc* desc) {
    RuntimeSection section;
    LockGuard guard(lock_);
    desc->next_free_ = free_;
    free_ = desc;
  }

 private:
  static constexpr int kRecordsAtOnce = 32;

  void Grow() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    static_assert(sizeof(PollDesc) <= 256);
    auto* memory = static_cast<std::byte*>(
        ::operator new(kRecordsAtOnce * sizeof(PollDesc), std::align_val_t(alignof(PollDesc))));
    for (int i = kRecordsAtOnce - 1; i >= 0; --i) {
      auto* desc = ::new (memory + i * sizeof(PollDesc)) PollDesc;
      desc->next_free_ = free_;
      free_ = desc;
    }
  }

  Lock lock_;
  PollDesc* free_ ABSL_GUARDED_BY(lock_) = nullptr;
};

// Needs no destruction: descriptors may be closed as late as by static destructors.
PollDesc::Pool& PollDesc::pool() {
  static constinit Pool pool;
  return pool;
}

PollDesc* PollDesc::Get() { return pool().Get(); }

void PollDesc::Put() {
  for (auto& word : words_) word.store(kNil, std::memory_order_relaxed);
  tag_.store((tag_.load(std::memory_order_relaxed) + 1) & kTagMask, std::memory_order_relaxed);
  {
    RuntimeSection section;
    LockGuard guard(lock_);
    info_.store(0, std::memory_order_relaxed);
  }
  pool().Put(this);
}

PollResult PollDesc::Wait(PollMode mode) {
  std::atomic<uintptr_t>& word = words_[static_cast<int>(mode)];
  for (;;) {
    // Acquire: pairs with the poller's or timer's compare-exchange in Wake().
    uintptr_t seen = word.load(std::memory_order_acquire);
    if (seen == kReadyWord) {
      word.exchange(kNil, std::memory_order_seq_cst);
      return PollResult::kReady;
    }
    if (const PollResult result = Check(mode); result != PollResult::kReady) return result;

    Waiter* const self = Waiter::Current();
    const auto published = reinterpret_cast<uintptr_t>(self);
    // Before it is published, so that the waker's subtraction never comes first.
    waiting_.fetch_add(1, std::memory_order_relaxed);
    WEFT_DELAY_POINT("poll_desc.publish");
    if (!word.compare_exchange_strong(seen, published, std::memory_order_seq_cst,
                                      std::memory_order_relaxed)) {
      SubtractWaiting(1);
      continue;
    }
    WEFT_DELAY_POINT("poll_desc.published");
    const PollResult result = Decode(info_.load(std::memory_order_seq_cst), mode);
    if (result != PollResult::kReady) {
      seen = published;
      if (word.compare_exchange_strong(seen, kNil, std::memory_order_seq_cst,
                                       std::memory_order_relaxed)) {
        SubtractWaiting(1);
        return result;
      }
      continue;  // a waker was faster, and has taken us off the count
    }
    while (word.load(std::memory_order_acquire) == published) self->Park(WaitReason::kIoWait);
    // Ready, or nil: a deadline or the close, or a deadline that has been moved away since.
  }
}

// Moves the word for an event, or for a deadline or close. Returns who must be unparked and taken
// off the count, or null.
Waiter* PollDesc::Wake(PollMode mode, Cause cause) {
  std::atomic<uintptr_t>& word = words_[static_cast<int>(mode)];
  uintptr_t old = word.load(std::memory_order_seq_cst);
  const uintptr_t next = cause == Cause::kEvent ? kReadyWord : kNil;
  while (old != kReadyWord && old != next) {
    WEFT_DELAY_POINT("poll_desc.wake");
    if (word.compare_exchange_weak(old, next, std::memory_order_seq_cst,
                                   std::memory_order_seq_cst)) {
      return old == kNil ? nullptr : reinterpret_cast<Waiter*>(old);
    }
  }
  return nullptr;
}

int PollDesc::Deliver(uint64_t event_data, uint32_t epoll_flags, WakeBatch& ready) {
  auto* desc = reinterpret_cast<PollDesc*>(event_data >> 16 & ~uint64_t{alignof(PollDesc) - 1});
  WEFT_DELAY_POINT("poll_desc.deliver");
  if ((event_data & kTagMask) != desc->tag_.load(std::memory_order_relaxed)) return 0;
  // Before the word, so that whoever uses the event up sees it.
  if ((epoll_flags & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)) != 0 && !desc->hung_up()) {
    desc->info_.fetch_or(kHungUp, std::memory_order_relaxed);
  }
  int woken = 0;
  auto wake = [&](PollMode mode) {
    if (Waiter* waiter = desc->Wake(mode, Cause::kEvent); waiter != nullptr) {
      waiter->UnparkInto(ready);
      ++woken;
    }
  };
  if ((epoll_flags & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
    wake(PollMode::kRead);
  }
  if ((epoll_flags & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) wake(PollMode::kWrite);
  return woken;
}

namespace {
// Unparks after the lock is released, so that who is woken does not run into it.
struct Woken {
  Waiter* waiters[2] = {nullptr, nullptr};

  void UnparkAll() {
    for (Waiter* waiter : waiters) {
      if (waiter == nullptr) continue;
      PollDesc::SubtractWaiting(1);
      waiter->Unpark();
    }
  }
};
}  // namespace

void PollDesc::SetDeadline(PollModes modes, Instant deadline) {
  RuntimeSection section;
  Woken woken;
  {
    LockGuard guard(lock_);
    if ((info_.load(std::memory_order_relaxed) & kClosingBit) != 0) return;
    const bool past = !deadline.IsNever() && deadline <= Instant::Now();
    for (const PollMode mode : {PollMode::kRead, PollMode::kWrite}) {
      if ((modes & Bit(mode)) == 0) continue;
      const int i = static_cast<int>(mode);
      deadlines_[i] = deadline;
      if (past) {
        info_.fetch_or(Bit(mode), std::memory_order_seq_cst);
        woken.waiters[i] = Wake(mode, Cause::kGiveUp);
      } else if ((info_.load(std::memory_order_relaxed) & Bit(mode)) != 0) {
        info_.fetch_and(~uint32_t{Bit(mode)}, std::memory_order_relaxed);
      }
    }
    Rearm();
  }
  woken.UnparkAll();
}

// Makes the timer fire no later than the earlier deadline that has not expired.
void PollDesc::Rearm() {
  Instant next = Instant::Never();
  for (const PollMode mode : {PollMode::kRead, PollMode::kWrite}) {
    if ((info_.load(std::memory_order_relaxed) & Bit(mode)) != 0) continue;
    next = std::min(next, deadlines_[static_cast<int>(mode)]);
  }
  if (next.IsNever()) {
    // False, "the callback may be running", needs no care: it will find nothing expired.
    if (!armed_.IsNever()) timer_.Stop();
    armed_ = Instant::Never();
  } else if (next < armed_) {
    timer_.Start(next);
    armed_ = next;
  }
}

void PollDesc::OnTimer(CallbackTimer& timer) {
  PollDesc* desc = static_cast<DeadlineTimer&>(timer).desc;
  Woken woken;
  WEFT_DELAY_POINT("poll_desc.timer");
  {
    LockGuard guard(desc->lock_);
    const Instant now = Instant::Now();
    // A firing from before the timer was stopped or moved; if it is pending it will come again.
    if (desc->armed_ > now) return;
    desc->armed_ = Instant::Never();
    for (const PollMode mode : {PollMode::kRead, PollMode::kWrite}) {
      const int i = static_cast<int>(mode);
      if (desc->deadlines_[i] > now) continue;
      if ((desc->info_.fetch_or(Bit(mode), std::memory_order_seq_cst) & Bit(mode)) != 0) continue;
      woken.waiters[i] = desc->Wake(mode, Cause::kGiveUp);
    }
    desc->Rearm();
  }
  woken.UnparkAll();
}

void PollDesc::Evict() {
  RuntimeSection section;
  Woken woken;
  {
    LockGuard guard(lock_);
    info_.fetch_or(kClosingBit, std::memory_order_seq_cst);
    for (const PollMode mode : {PollMode::kRead, PollMode::kWrite}) {
      const int i = static_cast<int>(mode);
      deadlines_[i] = Instant::Never();
      woken.waiters[i] = Wake(mode, Cause::kGiveUp);
    }
    Rearm();
  }
  woken.UnparkAll();
}

}  // namespace weft::internal
