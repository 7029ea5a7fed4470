// What instrumented code calls when its stack pointer is under the guard word: __morestack and its
// two relatives. In the place of libgcc's, so every program with such code links this (the macros
// of defs.bzl see to it). Nothing in mode `fixed`.
//
// A function's prologue finds too little room above the guard word and calls __morestack, which
// - returns at once where the code is not on the stack of the current context: in a signal handler
//   on its alternate stack, say, while the guard word is still the goroutine's;
// - else saves the registers and asks, off that stack, what is to be done (`weft_stack_check`):
//   a request is answered, the stack moves to another place (grow.h), or has reached its limit;
// - puts the guard word back and goes on, on the stack that it was told, or calls
//   weft_stack_limit_handler.
// In any doubt it goes on: the gap below each stack is still there. About 30 ns if nothing is done.
//
// What runs in between runs on the thread's own stack, where the thread has told where that is: as
// code that the thread's scheduler would run there, with no current context and no guard. Signal
// handlers that interrupt it therefore find nothing to check either.
#ifndef WEFT_STACK_MORESTACK_H_
#define WEFT_STACK_MORESTACK_H_

#include <atomic>
#include <cstdint>

#include "stack/arch.h"
#include "stack/context.h"

namespace weft::stack {

struct Segment;

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

// A prologue on the stack of `context` that found too little room, or that was made to by what
// Context::guard is.
struct StackCheck {
  Context* context;
  // Where the registers are saved, as weft_switch saves them: with Context::stack_hi the bounds of
  // what is in use.
  void* sp;
  MachineState at;      // in the prologue; fp is its caller's
  uintptr_t caller_pc;  // where the function would return to
  uintptr_t wanted;     // bytes that it is about to take
  // The arguments that it has been given on the stack. Null for a variable-sized array, which can
  // not be had on a segment.
  const void* arguments;
  size_t argument_bytes;
  Segment** segment;  // to be set for a function that goes on on one
  bool fits;          // they are there: the limit is not reached
  bool may_move;      // the caller runs on another stack
};

// What becomes of it. Each but kGoOn goes with StackCheck::sp.
struct StackAnswer {
  static constexpr uintptr_t kGoOn = 0;
  static constexpr uintptr_t kLimit = 1;  // the limit handler is to be called

  void* sp;  // StackCheck::sp, or where those bytes are now
  // One of the above; or the function goes on on a segment, and this is where its arguments are.
  uintptr_t verdict;
};

using StackGrowHandler = StackAnswer (*)(const StackCheck& check);
using StackRequestHandler = void (*)(Context& context);

extern "C" {

// Called on the thread's signal stack where it has one, else in the room below the limit, with no
// guard. Must not return. Null, as long as nobody has set it: then functions go on past the limit.
extern std::atomic<StackLimitHandler> weft_stack_limit_handler;

// Called where kGuardRequest was found in the guard word, first of all, on the thread's own stack
// if weft_thread_context says where that is. It may block the thread, and must not switch contexts:
// a call of some function is no place at which code expects to go on on another thread. The stack
// does not move meanwhile. Null: the request is taken out of the guard word, and that is all.
extern std::atomic<StackRequestHandler> weft_stack_request_handler;

// Called when the limit is reached, or when Context::guard is kGuardPoison; grow.h's. Null: there
// is no growth.
extern std::atomic<StackGrowHandler> weft_stack_grow_handler;

// Has the context's stack be the one that `sp` is on, where that is one on which calls went on to
// segments: these have ended. segment.h's, set with it. Null: there are no segments.
extern std::atomic<void (*)(Context& context, uintptr_t sp)> weft_stack_leave_segments;

// What weft_prelude.h has setjmp() and sigsetjmp() call with their result, in code that the macros
// built: where they return a second time, calls that went on to segments have ended without having
// come back. Returns `result`.
int weft_after_setjmp(int result);

// The context of this thread's own stack, which it leaves by Switch() to run others: what is below
// its `sp` is free while they run. Null: unknown, and then stacks that run on this thread stay
// where they are.
extern thread_local constinit Context* weft_thread_context
    __attribute__((tls_model("initial-exec")));

// Why a stack that could grow does not, for the limit handler: an end to "the stack cannot grow: ".
// Null where it is as large as it may get. This thread's, set before the handler is called.
extern thread_local constinit const char* weft_stack_limit_reason
    __attribute__((tls_model("initial-exec")));

// The high ends of this thread's alternate signal stack and of the pinned stack to go with it, null
// for none. Set by ThreadSignalStack (overflow.h).
extern thread_local constinit void* weft_signal_stack_top
    __attribute__((tls_model("initial-exec")));
extern thread_local constinit void* weft_signal_pinned_top
    __attribute__((tls_model("initial-exec")));
}

// Says where this thread's own stack is, from now on; null: not any more. Returns what was said
// before.
Context* SetThreadContext(Context* thread);

}  // namespace weft::stack

#endif  // WEFT_STACK_MORESTACK_H_
