// Who may use a descriptor, and when it may be closed.
//
// A descriptor is a number that the system gives to somebody else as soon as it is closed. So every
// call that uses it holds a reference, close() only forbids new ones, and whoever gives the last
// one back closes the number. Reads are one at a time, and writes are, since the stream has an
// order and a PollDesc has room for one waiter in each direction; the lock includes a reference.
//
// The scheme, one word for all of it, is fdMutex of Go's internal/poll.
#ifndef WEFT_NETPOLL_FD_MUTEX_H_
#define WEFT_NETPOLL_FD_MUTEX_H_

#include <atomic>
#include <cstdint>

#include "absl/base/attributes.h"
#include "absl/base/thread_annotations.h"
#include "netpoll/poll_desc.h"
#include "sched/internal/lock.h"
#include "sched/waiter.h"

namespace weft::internal {

class FdMutex {
 public:
  FdMutex() = default;
  FdMutex(const FdMutex&) = delete;
  FdMutex& operator=(const FdMutex&) = delete;

  // Takes a reference. False: it is closed.
  ABSL_MUST_USE_RESULT bool Ref();

  // Forbids new references and locks, ends those who wait for a lock, and takes a reference for the
  // caller. False: somebody else has done it.
  ABSL_MUST_USE_RESULT bool RefAndClose();

  // Gives a reference back. True: it was the last one and the descriptor is closed, so the caller
  // must destroy it.
  ABSL_MUST_USE_RESULT bool Unref();

  // Takes a reference and the lock of that direction, in turn with others. Parks. False: it is
  // closed.
  ABSL_MUST_USE_RESULT bool Lock(PollMode mode);

  // Gives both back. True as in Unref().
  ABSL_MUST_USE_RESULT bool Unlock(PollMode mode);

  bool closed() const { return (state_.load(std::memory_order_relaxed) & kClosed) != 0; }

  // References and waiters of one direction at a time; one more is fatal, with Go's text.
  static constexpr uint64_t kMaxUsers = (1u << 20) - 1;

 private:
  // The state word: the closed bit, the two lock bits, then three counts of 20 bits.
  static constexpr uint64_t kClosed = 1;
  static constexpr uint64_t kLocked[2] = {2, 4};
  static constexpr uint64_t kRef = 1u << 3;
  static constexpr uint64_t kRefMask = kMaxUsers << 3;
  static constexpr uint64_t kWait[2] = {uint64_t{1} << 23, uint64_t{1} << 43};
  static constexpr uint64_t kWaitMask[2] = {kMaxUsers << 23, kMaxUsers << 43};

  // A semaphore whose waiters queue in their own Scratch().
  class Queue {
   public:
    void Acquire();
    void Release();

   private:
    struct Node;

    internal::Lock lock_;
    uint64_t permits_ ABSL_GUARDED_BY(lock_) = 0;
    Node* head_ ABSL_GUARDED_BY(lock_) = nullptr;
    Node* tail_ ABSL_GUARDED_BY(lock_) = nullptr;
  };

  std::atomic<uint64_t> state_{0};
  Queue queues_[2];
};

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_FD_MUTEX_H_
