// What instrumented code calls when its stack pointer is under the guard word: __morestack and its
// two relatives. In the place of libgcc's, so every program with such code links this (the macros
// of defs.bzl see to it). Nothing in mode `fixed`.
//
// A function's prologue finds too little room above the guard word and calls __morestack, which
// - returns at once where the code is not on the stack of the current context: in a signal handler
//   on its alternate stack, say, while the guard word is still the goroutine's;
// - puts the guard word back where it held a request instead of the limit;
// - calls weft_stack_limit_handler where the limit is reached. That is where a stack that could
//   grow would: what is known of it is in StackLimitReached.
// In any doubt it returns: the gap below each stack is still there.
#ifndef WEFT_STACK_MORESTACK_H_
#define WEFT_STACK_MORESTACK_H_

#include <atomic>
#include <cstdint>

#include "stack/arch.h"
#include "stack/context.h"

namespace weft::stack {

// What to store in a thread's guard word to have its next prologue call __morestack: above every
// address, for prologues, which compare without sign, and for variable-sized frames, which compare
// with one.
inline constexpr uintptr_t kGuardRequest = INT64_MAX;

// A function was about to extend the stack of `context` past its limit.
struct StackLimitReached {
  Context* context;
  MachineState at;      // in the prologue of the function; fp is its caller's
  uintptr_t caller_pc;  // where it would return to
};

using StackLimitHandler = void (*)(const StackLimitReached& reached);

extern "C" {

// Called on the thread's signal stack where it has one, else in the room below the limit, with no
// guard. Must not return. Null, as long as nobody has set it: then functions go on past the limit.
extern std::atomic<StackLimitHandler> weft_stack_limit_handler;

// The high ends of this thread's alternate signal stack and of the pinned stack to go with it, null
// for none. Set by ThreadSignalStack (overflow.h).
extern thread_local constinit void* weft_signal_stack_top
    __attribute__((tls_model("initial-exec")));
extern thread_local constinit void* weft_signal_pinned_top
    __attribute__((tls_model("initial-exec")));
}

}  // namespace weft::stack

#endif  // WEFT_STACK_MORESTACK_H_
