// The context switch: one flow of control is set aside and another one goes on, on the same thread.
//
//     weft::stack::Context thread, task;             // zeroed; a thread's own needs no more than
//     that weft::stack::MakeContext(task, lo, hi, pinned_lo, pinned_hi, guard, entry, arg);
//     weft::stack::Switch(thread, task);             // entry(arg) runs, on task's stack, until
//     ...                                            //   it calls Switch(task, thread)
//     weft::stack::Switch(thread, task);             // and goes on from there
//                                                    // ... and ends by SwitchFinal(task, thread)
//
// What a switch exchanges: the callee-saved registers, the stack pointer, the pointer of the pinned
// stack and the guard word that function prologues look at (where the build's stack mode has them),
// and the control words of the floating-point units (rounding mode, masked exceptions) where they
// differ. The sticky exception flags stay with the thread, as the ABI has it for any call. Not
// exchanged, and the caller's business: thread-locals, C++'s exception state, the signal mask.
//
// A context may go on on another thread than it left. Nothing here allocates, locks or fails.
// Another architecture adds its context_<arch>.S and its branch in arch.h.
#ifndef WEFT_STACK_CONTEXT_H_
#define WEFT_STACK_CONTEXT_H_

#include <cstddef>
#include <cstdint>

#include "stack/arch.h"
#include "stack/context_layout.h"
#include "stack/mode.h"

namespace weft::stack {

// The state of a flow of control that is not running. Zeroed, it is ready to be the first argument
// of a Switch. It must stay in place while a switch to it may come.
struct Context {
  void* sp = nullptr;      // where the registers are saved
  void* pinned = nullptr;  // the pinned stack's pointer
  // The stack's limit for instrumented code, null for none. Read by each switch and never written
  // by one: the thread's guard word may hold a request instead of the limit.
  void* guard = nullptr;
  FpControl fp_control{};
  // The stack made for this context, both null for a thread's own: [stack_lo, stack_hi).
  void* stack_lo = nullptr;
  void* stack_hi = nullptr;
#if WEFT_ASAN
  const void* asan_stack_lo = nullptr;
  size_t asan_stack_size = 0;
  void* asan_fake_stack = nullptr;
#endif
#if WEFT_TSAN
  void* tsan_fiber = nullptr;
#endif
#if WEFT_ASAN || WEFT_TSAN
  void (*sanitized_entry)(void*) = nullptr;
  void* sanitized_arg = nullptr;
  // Of the latest switch to this context.
  void (*sanitized_arrival)(void*, void*) = nullptr;
  void* sanitized_a = nullptr;
  void* sanitized_b = nullptr;
#endif
};

static_assert(offsetof(Context, sp) == WEFT_CONTEXT_SP);
static_assert(offsetof(Context, pinned) == WEFT_CONTEXT_PINNED);
static_assert(offsetof(Context, guard) == WEFT_CONTEXT_GUARD);
static_assert(offsetof(Context, fp_control) == WEFT_CONTEXT_FP_CONTROL);
static_assert(offsetof(Context, fp_control.steady) == WEFT_CONTEXT_FP_STEADY);
static_assert(offsetof(Context, stack_lo) == WEFT_CONTEXT_STACK_LO);
static_assert(offsetof(Context, stack_hi) == WEFT_CONTEXT_STACK_HI);

// The function that a made context runs. It never returns: it ends in SwitchFinal.
using Entry = void (*)(void* arg);

// Prepares `context` so that the first Switch to it calls entry(arg) on the stack
// [stack_lo, stack_hi), with the floating-point units in their default state. The pinned stack and
// the guard count only in the modes that have them, and may be null otherwise. Writes about a
// hundred bytes below stack_hi. `context` may have been used before, if it was left by SwitchFinal
// or is never to be resumed.
void MakeContext(Context& context, void* stack_lo, void* stack_hi, void* pinned_lo, void* pinned_hi,
                 void* guard, Entry entry, void* arg);

// Sets the pinned pointer of the context that runs on this thread to the end of its pinned stack:
// with WEFT_STACK_BASE (mode.h), for who has caught an exception and has nothing on that stack.
void ResetPinnedStack(void* pinned_hi);

// Gives back what a sanitizer holds for a made context that will not be used again; nothing
// otherwise. Not for a context that is running.
void DestroyContext(Context& context);

// Promises that code on this thread's own context, `thread`, does not change the floating-point
// control words from now on, as a scheduler's loop does not. Switches away from it then need not
// read them, which on some processors is half of what a switch costs.
inline void HoldFpControl(Context& thread) {
  thread.fp_control = ReadFpControl();
  thread.fp_control.steady = true;
}

// What SwitchTo() calls on the stack that it has come to.
using Arrival = void (*)(void* a, void* b);

extern "C" {
// The assembly: Switch() and SwitchTo() are how to call it.
void weft_switch(Context* from, Context* to) noexcept;
void weft_switch_to(Context* from, Context* to, Arrival arrival, void* a, void* b) noexcept;

// The made context that this thread runs, null on the thread's own stack. __morestack and the fault
// handler find their goroutine's stack by it.
extern thread_local constinit Context* weft_current_context
    __attribute__((tls_model("initial-exec")));
}

namespace internal {
enum class Leaves { kToReturn, kForGood };
void SanitizedSwitch(Context& from, Context& to, Leaves leaves, Arrival arrival = nullptr,
                     void* a = nullptr, void* b = nullptr);
}  // namespace internal

// Saves the caller's state in `from` and goes on with `to`. Returns when somebody switches to
// `from`, perhaps on another thread. Both from and to are this thread's alone during the call.
inline void Switch(Context& from, Context& to) {
#if WEFT_ASAN || WEFT_TSAN
  internal::SanitizedSwitch(from, to, internal::Leaves::kToReturn);
#else
  weft_switch(&from, &to);
#endif
}

// As Switch(), and arrival(a, b) is called on the stack of `to`, as soon as `from` is left, before
// `to` goes on. Where the call of this is the last thing that a function does, its frame is gone
// meanwhile: what is to happen when `from` goes on again is the business of that one's arrival.
[[gnu::always_inline]] inline void SwitchTo(Context& from, Context& to, Arrival arrival, void* a,
                                            void* b) {
#if WEFT_ASAN || WEFT_TSAN
  internal::SanitizedSwitch(from, to, internal::Leaves::kToReturn, arrival, a, b);
#else
  weft_switch_to(&from, &to, arrival, a, b);
#endif
}

// The last switch of a made context: its stack may be used for something else from then on.
[[noreturn]] inline void SwitchFinal(Context& from, Context& to) {
#if WEFT_ASAN || WEFT_TSAN
  internal::SanitizedSwitch(from, to, internal::Leaves::kForGood);
#else
  weft_switch(&from, &to);
#endif
  __builtin_trap();  // a finished context was resumed
}

// The same with an arrival.
[[noreturn]] inline void SwitchFinalTo(Context& from, Context& to, Arrival arrival, void* a,
                                       void* b) {
#if WEFT_ASAN || WEFT_TSAN
  internal::SanitizedSwitch(from, to, internal::Leaves::kForGood, arrival, a, b);
#else
  weft_switch_to(&from, &to, arrival, a, b);
#endif
  __builtin_trap();  // a finished context was resumed
}

}  // namespace weft::stack

#endif  // WEFT_STACK_CONTEXT_H_
