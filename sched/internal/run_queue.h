// A P's queue of runnable goroutines: a ring of 256 and one `runnext`.
//
// One owner puts and takes at will; any thread may steal half. The ring is the bounded
// single-producer multi-consumer queue of Go's runtime (D. Vyukov's scheduler design, 2012):
//
//   tail_     written by the owner alone. Its store publishes the slots below it.
//   head_     advanced by compare-exchange, by the owner and by thieves. Success takes the slots
//             between the old and the new value; a slot read before a failed exchange is forgotten.
//   ring_     a slot is written by the owner only while it lies outside [head, tail), so a thief
//             that read it there and then wins the exchange on head_ read a value that was still
//             its own.
//   runnext_  what was made ready last: it runs next, in what is left of the time slice. The owner
//             exchanges it; a thief may take it only by compare-exchange, and only as a last
//             resort.
//
// Both ways of putting end in a locked instruction (exchange), which is the full barrier that the
// idle protocol needs between "work is queued" and "is anybody looking?" (see proc.cc).
//
// With one P there are no thieves and nobody to wake, and a locked instruction costs more than all
// else here: the owner then says kAlone, and plain loads and stores do.
#ifndef WEFT_SCHED_INTERNAL_RUN_QUEUE_H_
#define WEFT_SCHED_INTERNAL_RUN_QUEUE_H_

#include <atomic>
#include <cstdint>

#include "sched/internal/delay.h"

namespace weft::internal {

// Whether other threads may steal from a queue at this moment. The number of Ps changes only while
// no queue is in use, with the locks of a stop in between.
enum class QueueSharing { kAlone, kShared };

template <typename T>
class RunQueue {
 public:
  static constexpr uint32_t kCapacity = 256;

  // Owner. Makes `item` the next to run and returns what held that place, or null: the caller
  // puts it in the ring.
  T* ExchangeNext(T* item, QueueSharing sharing) {
    if (sharing == QueueSharing::kAlone) {
      T* next = runnext_.load(std::memory_order_relaxed);
      runnext_.store(item, std::memory_order_release);
      return next;
    }
    return runnext_.exchange(item, std::memory_order_acq_rel);
  }

  // Owner. False: the ring is full.
  bool PutTail(T* item, QueueSharing sharing) {
    // Acquire: pairs with a thief's release of head_; its reads of the slot are over.
    const uint32_t head = head_.load(std::memory_order_acquire);
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head >= kCapacity) return false;
    ring_[tail % kCapacity].store(item, std::memory_order_relaxed);
    // Release: a thief that acquires the new tail sees the slot. An exchange, not a store: see
    // above.
    if (sharing == QueueSharing::kAlone) {
      tail_.store(tail + 1, std::memory_order_release);
    } else {
      tail_.exchange(tail + 1, std::memory_order_acq_rel);
    }
    return true;
  }

  // Owner. The same for `count` items, for which there is room.
  void PutTail(T* const* items, uint32_t count) {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    for (uint32_t i = 0; i < count; ++i) {
      ring_[(tail + i) % kCapacity].store(items[i], std::memory_order_relaxed);
    }
    tail_.exchange(tail + count, std::memory_order_acq_rel);
  }

  // Owner. How many items there is room for in the ring; thieves may make more.
  uint32_t Room() const {
    return kCapacity -
           (tail_.load(std::memory_order_relaxed) - head_.load(std::memory_order_acquire));
  }

  // Owner. The first two items of the ring, if there are two. A guess: thieves may have them by
  // now.
  bool PeekTwo(const T** out) const {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    if (tail_.load(std::memory_order_relaxed) - head < 2) return false;
    out[0] = ring_[head % kCapacity].load(std::memory_order_relaxed);
    out[1] = ring_[(head + 1) % kCapacity].load(std::memory_order_relaxed);
    return true;
  }

  // Owner. Takes half of a full ring into `out` (at least kCapacity / 2 places); returns how many,
  // 0 if thieves have made room meanwhile.
  uint32_t TakeHalfIfFull(T** out) {
    const uint32_t head = head_.load(std::memory_order_acquire);
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head < kCapacity) return 0;
    constexpr uint32_t kHalf = kCapacity / 2;
    for (uint32_t i = 0; i < kHalf; ++i) {
      out[i] = ring_[(head + i) % kCapacity].load(std::memory_order_relaxed);
    }
    uint32_t expected = head;
    return head_.compare_exchange_strong(expected, head + kHalf, std::memory_order_acq_rel,
                                         std::memory_order_relaxed)
               ? kHalf
               : 0;
  }

  // Owner. The next to run, or null. `*inherits_slice`: it came from runnext and runs in the rest
  // of the current time slice.
  T* Take(bool* inherits_slice, QueueSharing sharing) {
    if (T* next = runnext_.load(std::memory_order_relaxed); next != nullptr) {
      if (sharing == QueueSharing::kAlone) {
        runnext_.store(nullptr, std::memory_order_relaxed);
        *inherits_slice = true;
        return next;
      }
      // A thief may have taken it since; nobody else puts one there.
      if (runnext_.compare_exchange_strong(next, nullptr, std::memory_order_acq_rel,
                                           std::memory_order_relaxed)) {
        *inherits_slice = true;
        return next;
      }
    }
    *inherits_slice = false;
    return TakeHead(sharing);
  }

  // Owner. The head of the ring, or null; leaves runnext alone.
  T* TakeHead(QueueSharing sharing) {
    uint32_t head = head_.load(std::memory_order_acquire);
    if (sharing == QueueSharing::kAlone) {
      if (tail_.load(std::memory_order_relaxed) == head) return nullptr;
      T* item = ring_[head % kCapacity].load(std::memory_order_relaxed);
      head_.store(head + 1, std::memory_order_release);
      return item;
    }
    for (;;) {
      const uint32_t tail = tail_.load(std::memory_order_relaxed);
      if (tail == head) return nullptr;
      T* item = ring_[head % kCapacity].load(std::memory_order_relaxed);
      if (head_.compare_exchange_weak(head, head + 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
        return item;
      }
    }
  }

  // Any thread. Whether there was nothing at some moment during the call. Both parts are read
  // between two equal readings of tail_, as an item may move from runnext to the ring meanwhile.
  bool Empty() const {
    for (;;) {
      const uint32_t head = head_.load(std::memory_order_acquire);
      const uint32_t tail = tail_.load(std::memory_order_acquire);
      const T* next = runnext_.load(std::memory_order_acquire);
      if (tail == tail_.load(std::memory_order_seq_cst)) return head == tail && next == nullptr;
    }
  }

  // Any thread. Items in the ring, without runnext; a snapshot.
  uint32_t Size() const {
    const uint32_t head = head_.load(std::memory_order_acquire);
    const uint32_t tail = tail_.load(std::memory_order_acquire);
    const uint32_t size = tail - head;
    return size > kCapacity ? 0 : size;  // head moved on between the two loads
  }

  bool HasNext() const { return runnext_.load(std::memory_order_acquire) != nullptr; }

  // Owner of this queue: moves half of `victim`'s ring (rounded up) here and returns one of them to
  // run, or null.
  T* StealHalf(RunQueue& victim) {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    uint32_t count = victim.Grab(ring_, tail);
    if (count == 0) return nullptr;
    --count;
    T* item = ring_[(tail + count) % kCapacity].load(std::memory_order_relaxed);
    if (count > 0) tail_.exchange(tail + count, std::memory_order_acq_rel);
    return item;
  }

  // Any thread that has a P: takes `victim`'s runnext, or null.
  static T* StealNext(RunQueue& victim) {
    T* next = victim.runnext_.load(std::memory_order_acquire);
    if (next == nullptr) return nullptr;
    return victim.runnext_.compare_exchange_strong(next, nullptr, std::memory_order_acq_rel,
                                                   std::memory_order_relaxed)
               ? next
               : nullptr;
  }

 private:
  // Copies half of the items (rounded up) to `into` from `at` on, and takes them. This queue is the
  // victim; `into` is the caller's own ring, outside its head and tail.
  uint32_t Grab(std::atomic<T*>* into, uint32_t at) {
    for (;;) {
      uint32_t head = head_.load(std::memory_order_acquire);
      const uint32_t tail = tail_.load(std::memory_order_acquire);
      uint32_t count = tail - head;
      count -= count / 2;
      if (count == 0) return 0;
      if (count > kCapacity / 2) continue;  // head and tail were not read together
      for (uint32_t i = 0; i < count; ++i) {
        T* item = ring_[(head + i) % kCapacity].load(std::memory_order_relaxed);
        into[(at + i) % kCapacity].store(item, std::memory_order_relaxed);
      }
      WEFT_DELAY_POINT("run_queue.grab");
      if (head_.compare_exchange_strong(head, head + count, std::memory_order_acq_rel,
                                        std::memory_order_relaxed)) {
        return count;
      }
    }
  }

  std::atomic<uint32_t> head_{0};
  std::atomic<uint32_t> tail_{0};
  std::atomic<T*> runnext_{nullptr};
  std::atomic<T*> ring_[kCapacity] = {};
};

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_RUN_QUEUE_H_
