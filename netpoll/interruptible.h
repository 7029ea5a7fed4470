// Waiting for what other goroutines do, until a deadline, or until a Context is done.
#ifndef WEFT_NETPOLL_INTERRUPTIBLE_H_
#define WEFT_NETPOLL_INTERRUPTIBLE_H_

#include <cstddef>
#include <memory>

#include "sched/clock.h"
#include "sched/sync/internal/interruption.h"
#include "sched/waiter.h"

namespace weft::internal {

// While it exists the caller is unparked when the interruption comes. Used only where it was made.
class Interruptible {
 public:
  explicit Interruptible(Interruption interruption)
      : waiter_(Waiter::Current()), interruption_(interruption) {
    if (interruption.ops == nullptr) return;
    // Not on the stack, which may move while it waits, nor in the waiter's own memory, which the
    // locks that are taken meanwhile use.
    space_ = std::make_unique<Space>();
    if (!interruption.ops->arm(interruption.object, waiter_, space_->bytes)) {
      space_.reset();
      came_before_ = true;
    }
  }
  ~Interruptible() {
    if (space_ != nullptr) interruption_.ops->disarm(interruption_.object, space_->bytes);
  }
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

  bool has_come() const {
    return came_before_ || (space_ != nullptr && interruption_.ops->has_come(space_->bytes));
  }

  // Whom others are to unpark.
  Waiter* waiter() const { return waiter_; }

  // Parks until someone unparks the caller, the interruption comes, or the deadline has passed; or
  // for no reason: look at what is waited for again.
  void Park(Instant deadline) {
    if (has_come()) return;
    if (deadline.IsNever()) {
      waiter_->Park(WaitReason::kSelect);
    } else {
      waiter_->ParkUntil(deadline, WaitReason::kSelect);
    }
  }

 private:
  struct Space {
    alignas(16) std::byte bytes[kInterruptionBytes];
  };

  Waiter* const waiter_;
  const Interruption interruption_;
  std::unique_ptr<Space> space_;
  bool came_before_ = false;
};

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_INTERRUPTIBLE_H_
