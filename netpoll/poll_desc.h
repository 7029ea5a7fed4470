// What the netpoller knows about one descriptor: whether it is ready, who waits for it, until when.
//
// The problem. epoll, edge-triggered, says once that something has changed. Between a read that
// found nothing and the sleep that follows it the change may come; a deadline may pass, another
// thread may close; and while events are on their way to us the descriptor's number may already
// mean something else.
//
// The shape of the solution is the pollDesc of Go's runtime/netpoll.go. Each direction (read,
// write) has one word, and at most one waiter: callers order themselves before (fd_mutex.h).
//
//   nil      nothing is known, nobody waits
//   ready    an event has come that nobody has used yet
//   Waiter*  somebody waits
//
//   from     to       by             when
//   nil      ready    the poller     an event comes
//   ready    nil      the owner      Reset() before a system call, or Wait() using it up
//   nil      Waiter*  the owner      Wait() finds nothing
//   Waiter*  ready    the poller     an event comes; it then unparks the waiter, alone
//   Waiter*  nil      timer, Evict   a deadline has passed, or the descriptor is being closed; the
//                                    same
//   Waiter*  nil      the owner      Wait() finds a passed deadline or the close after it has
//                                    published itself
//
// Go has a fourth state, "wait", for the time between publishing and being off the stack. Here the
// Waiter's own token covers it: an Unpark() before the Park() is kept.
//
// Why no wake-up is lost:
// - Events. The owner resets the word, tries the system call, and waits if that found nothing. An
//   event that is collected after the reset finds nil or the Waiter, and is kept or delivered. One
//   that was collected before is about something that the system call, later, has seen itself. The
//   reset is an exchange, so it is in place before the system call looks.
// - Deadlines and closing. They set a bit of `info`, then look at the word; the owner writes the
//   word, then looks at the bits. All four are sequentially consistent, so at least one side sees
//   the other.
// - Nobody takes another's place: ready -> nil and nil -> Waiter* are the owner's alone, and
// whoever
//   changes Waiter* to something else, by compare-exchange, is the one who unparks.
//
// Deadlines. One timer serves both directions, armed for the earlier one. Moving a deadline to
// later, which servers do all the time, leaves the timer alone: when it fires too early it arms
// itself again. Whether a direction has expired is decided under the lock by its deadline and the
// clock, never by the mere fact that the timer has fired; so a callback that comes late, after the
// deadline was moved or even after the record serves another descriptor, does no harm and needs no
// sequence number.
//
// Reuse. Records are pooled and never freed, since a late event or timer may still point at one.
// The event data given to epoll carries a tag that changes at each reuse. (An event that slips
// through would be a wake-up for no reason, after which the owner tries in vain and waits again.)
#ifndef WEFT_NETPOLL_POLL_DESC_H_
#define WEFT_NETPOLL_POLL_DESC_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "sched/clock.h"
#include "sched/internal/lock.h"
#include "sched/timer.h"
#include "sched/waiter.h"

namespace weft::internal {

enum class PollMode : uint8_t { kRead = 0, kWrite = 1 };

// One direction, or both.
enum PollModes : uint8_t { kReadMode = 1, kWriteMode = 2, kBothModes = 3 };

enum class PollResult : uint8_t { kReady, kClosing, kTimeout };

class alignas(128) PollDesc {
 public:
  // A record in its initial state: nothing ready, no deadline. Allocates only when the pool is
  // empty. From goroutines and threads; does not park.
  static PollDesc* Get();

  // Gives it back. Nobody is in a call on it, Evict() has been called, and the poller has been told
  // to forget the descriptor.
  void Put();

  PollDesc(const PollDesc&) = delete;
  PollDesc& operator=(const PollDesc&) = delete;

  // Whether an operation may start: kClosing, kTimeout (the deadline has passed), or kReady if
  // nothing stands against it.
  PollResult Check(PollMode mode) const {
    return Decode(info_.load(std::memory_order_relaxed), mode);
  }

  // Forgets an event that nobody has used. The owner of the direction calls it before the system
  // call that may make the event stale; leaving it out costs a try in vain, not a wake-up.
  void Reset(PollMode mode) {
    std::atomic<uintptr_t>& word = words_[static_cast<int>(mode)];
    if (word.load(std::memory_order_relaxed) == kReadyWord) {
      word.exchange(kNil, std::memory_order_seq_cst);
    }
  }

  // Waits for an event (kReady: use it by trying the system call again), for the deadline, or for
  // Evict(). Returns at once if an event has come since the last Reset(). One caller per direction
  // at a time. Parks. The descriptor must be registered with the poller.
  PollResult Wait(PollMode mode);

  // Sets the deadline of one or both directions. A past one (Instant() always is) fails operations
  // from now on and wakes who waits; Never() takes it away. Does not park. Does nothing after
  // Evict().
  void SetDeadline(PollModes modes, Instant deadline);

  // The descriptor is being closed: wakes who waits and makes every later Check() and Wait() return
  // kClosing. Does not park.
  void Evict();

  // The peer has ended or broken the connection, or sent urgent data: from here on an edge for what
  // is still unread may have come already, so that only a system call tells whether to wait.
  bool hung_up() const { return (info_.load(std::memory_order_relaxed) & kHungUp) != 0; }

  // What the poller gives to epoll, and gets back with each event.
  uint64_t event_data() const {
    return reinterpret_cast<uintptr_t>(this) << 16 | tag_.load(std::memory_order_relaxed);
  }

  // For the poller: an event with these epoll flags has come for `event_data`. Puts those whom it
  // wakes into `ready`; returns how many that are, for them to be taken off the count of waiters.
  static int Deliver(uint64_t event_data, uint32_t epoll_flags, WakeBatch& ready);

  // How many wait on any record, or for what an EventSink brings, which counts them by itself.
  static int waiting() { return waiting_.load(std::memory_order_relaxed); }
  static void AddWaiting(int n) { waiting_.fetch_add(n, std::memory_order_relaxed); }
  static void SubtractWaiting(int n) { waiting_.fetch_sub(n, std::memory_order_relaxed); }

 private:
  struct DeadlineTimer : CallbackTimer {
    explicit DeadlineTimer(PollDesc* d) : CallbackTimer(OnTimer), desc(d) {}
    PollDesc* const desc;
  };
  class Pool;
  static Pool& pool();

  static constexpr uintptr_t kNil = 0;
  static constexpr uintptr_t kReadyWord = 1;

  // Bits of info_. The expired bits are those of PollModes.
  static constexpr uint32_t kClosingBit = 4;
  static constexpr uint32_t kHungUp = 8;

  // Records are aligned to 2^7 and addresses have 48 bits: shifted up by 16, 23 bits are free.
  static constexpr uint32_t kTagMask = (1u << 23) - 1;

  PollDesc() : timer_(this) {}

  static PollModes Bit(PollMode mode) { return mode == PollMode::kRead ? kReadMode : kWriteMode; }
  static PollResult Decode(uint32_t info, PollMode mode) {
    if ((info & (kClosingBit | Bit(mode))) == 0) [[likely]]
      return PollResult::kReady;
    return (info & kClosingBit) != 0 ? PollResult::kClosing : PollResult::kTimeout;
  }

  enum class Cause { kEvent, kGiveUp };
  Waiter* Wake(PollMode mode, Cause cause);
  static void OnTimer(CallbackTimer& timer);
  void Rearm() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);

  static std::atomic<int> waiting_;

  std::atomic<uintptr_t> words_[2] = {kNil, kNil};
  // The bits are set and cleared under lock_, but kHungUp, which the poller sets.
  std::atomic<uint32_t> info_{0};
  std::atomic<uint32_t> tag_{0};

  Lock lock_;
  // Never(): none.
  Instant deadlines_[2] ABSL_GUARDED_BY(lock_) = {Instant::Never(), Instant::Never()};
  // What timer_ is armed for, at or before the earlier deadline that has not expired. Never(): it
  // is not pending, though its callback may be about to run.
  Instant armed_ ABSL_GUARDED_BY(lock_) = Instant::Never();
  DeadlineTimer timer_;

  PollDesc* next_free_ = nullptr;
};

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_POLL_DESC_H_
