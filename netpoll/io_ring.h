// io_uring: operations on files that the kernel carries out while the goroutine is parked.
//
// An operation is one entry of the submission queue, written under a lock, and one io_uring_enter.
// What the kernel can do at once it has then done; for the rest it has the goroutine wait. The
// ring's descriptor is in the netpoller's epoll set, so whichever thread polls takes what has
// completed and readies those who wait: no thread of ours waits for a disk.
//
// There is a ring for each processor, up to kMaxRings, and a thread uses that of the processor it
// happens to be on: few meet at a lock. Nothing else is tied to the thread, but that the kernel
// gives up on operations of a thread that ends: those are told ECANCELED and begin again.
//
// What must hold
// - The operation's record lies in the waiter's Scratch(), never on a stack that may move. Buffers
//   are the caller's: Run() returns only when the kernel has reported the operation's end,
//   cancelled or not, so nothing is touched afterwards.
// - Every entry is entered by whoever wrote it, and whoever enters takes completions after that: so
//   what completes at once is noticed with no help of the poller, be it somebody else's, as the
//   kernel takes entries in the order of the queue whoever enters.
// - Completions that the queue has no room for are kept by the kernel (IORING_FEAT_NODROP, without
//   which we have no rings), and asked for when the queue has been emptied.
#ifndef WEFT_NETPOLL_IO_RING_H_
#define WEFT_NETPOLL_IO_RING_H_

#include <linux/io_uring.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "netpoll/epoll_poller.h"
#include "sched/internal/lock.h"
#include "sched/waiter.h"

namespace weft::internal {

class IoRing final : public EventSink {
 public:
  // The ring for the calling thread, or null if there are none: the kernel or a sandbox refuses,
  // or WEFTDEBUG=files=blocking, or the process is the child of a fork(). The first call asks the
  // kernel and, with WEFTDEBUG=netpoll=1, says on stderr what it has found; it starts the runtime.
  static IoRing* Get();

  // "io_uring (2 rings)", or "blocking threads (io_uring_setup: operation not permitted)". The
  // first call as above.
  static std::string Description();

  // Whether the kernel can do what entry.opcode says.
  static bool Can(uint8_t opcode);

  // For tests: from now on as if there were none, or not.
  static void SetRefusedForTest(bool refused);

  // Carries out what `entry` says (its user_data is ours), and returns the kernel's result: a
  // number or -errno. From goroutines and threads. Parks.
  int64_t Run(io_uring_sqe entry);

  // Has the kernel end what is under way on `fd`, on any ring. What has not begun, or waits for
  // somebody, ends with ECANCELED; what cannot be interrupted goes on. Does not park.
  static void Cancel(int fd);

  IoRing(const IoRing&) = delete;
  IoRing& operator=(const IoRing&) = delete;

 private:
  struct Operation;
  class Rings;

  IoRing() = default;

  // 0 or -errno, and the call that has failed.
  int Open(const char** call);
  bool HasOperations() const;

  void Submit(const io_uring_sqe& entry);
  // Hands out what has completed. `wake` is called for each who waits, outside the lock.
  template <typename Wake>
  void Reap(Wake wake);
  int TakeCompleted(Waiter** waiters, int room) ABSL_EXCLUSIVE_LOCKS_REQUIRED(completion_lock_);
  void OnEvent(WakeBatch& ready) override;

  int64_t Enter(unsigned submit, unsigned flags);

  int fd_ = -1;
  // In memory that is shared with the kernel.
  uint32_t* sq_head_ = nullptr;
  uint32_t* sq_tail_ = nullptr;
  uint32_t* sq_flags_ = nullptr;
  uint32_t* cq_head_ = nullptr;
  uint32_t* cq_tail_ = nullptr;
  io_uring_sqe* entries_ = nullptr;
  io_uring_cqe* completions_ = nullptr;
  uint32_t entry_count_ = 0;
  uint32_t entry_mask_ = 0;
  uint32_t completion_mask_ = 0;

  alignas(64) Lock submission_lock_;
  alignas(64) Lock completion_lock_;
};

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_IO_RING_H_
