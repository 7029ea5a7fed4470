// A lock of what the stacks share: a mutex of which the thread knows that it has it.
//
// It is held for a few steps, on goroutines too. Meanwhile a prologue that comes to __morestack
// neither takes a slot, which would want the lock, nor gives way to another goroutine, which might
// want it with the processor in hand.
#ifndef WEFT_STACK_INTERNAL_STACKS_LOCK_H_
#define WEFT_STACK_INTERNAL_STACKS_LOCK_H_

#include <mutex>

namespace weft::stack::internal {

// Nobody changes threads with one in hand.
class StacksLock {
 public:
  void lock() {
    ++held_here;
    mutex_.lock();
  }
  void unlock() {
    mutex_.unlock();
    --held_here;
  }
  static bool HeldHere() { return held_here > 0; }

 private:
  inline static constinit thread_local int held_here = 0;
  std::mutex mutex_;
};

}  // namespace weft::stack::internal

#endif  // WEFT_STACK_INTERNAL_STACKS_LOCK_H_
