// Faults on goroutines, reported as Go does: a stack that grew past its limit, and any other access
// to memory that is not there. Both print the goroutine's trace and end the process with status 2.
//
//     runtime: goroutine stack exceeds 1073741824-byte limit
//     runtime: sp=0x7f01c1fff008 stack=[0x7f01c2000000, 0x7f0202040000]
//     fatal error: stack overflow
//
// An overflow shows as a fault in the gap below a stack, or in a prologue that finds itself at the
// limit (morestack.h). For the first the handler needs a stack of its own: ThreadSignalStack.
#ifndef WEFT_STACK_OVERFLOW_H_
#define WEFT_STACK_OVERFLOW_H_

#include <signal.h>

#include <cstddef>

namespace weft::stack {

// Handles SIGSEGV and SIGBUS, and the limits of stacks, from now on. Process-wide; the second call
// does nothing. A handler that the program has installed before goes on to get the faults of
// threads that run no goroutine at that moment, and under a sanitizer, whose reports say more, all
// but overflows. One that the program installs later replaces this one.
void InstallOverflowHandler();

// An alternate signal stack for the calling thread, and a pinned stack to go with it. Each thread
// that runs goroutines needs one, for as long as it does.
//
//     static thread_local ThreadSignalStack signal_stack;
//     signal_stack.Install();
class ThreadSignalStack {
 public:
  ThreadSignalStack() = default;
  ~ThreadSignalStack();  // on the same thread; puts back what was there before
  ThreadSignalStack(const ThreadSignalStack&) = delete;
  ThreadSignalStack& operator=(const ThreadSignalStack&) = delete;

  // False when the system refuses the memory, 200 KiB of address space of which little is touched;
  // the thread works without, but then an overflow on it kills the process silently.
  bool Install();

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
  stack_t previous_{};
};

}  // namespace weft::stack

#endif  // WEFT_STACK_OVERFLOW_H_
