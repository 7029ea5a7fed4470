#include "stack/morestack.h"

#include <utility>

#include "stack/morestack_layout.h"

namespace weft::stack {

extern "C" {

constinit std::atomic<StackLimitHandler> weft_stack_limit_handler{nullptr};
constinit std::atomic<StackRequestHandler> weft_stack_request_handler{nullptr};
constinit std::atomic<StackGrowHandler> weft_stack_grow_handler{nullptr};
constinit std::atomic<void (*)(Context&, uintptr_t)> weft_stack_leave_segments{nullptr};
#if WEFT_HAS_GUARD_WORD
constinit __attribute__((visibility("hidden"))) std::atomic<Segment*> weft_free_segments{nullptr};
#endif
constinit thread_local Context* weft_thread_context = nullptr;
constinit thread_local const char* weft_stack_limit_reason = nullptr;
constinit thread_local void* weft_signal_stack_top = nullptr;
constinit thread_local void* weft_signal_pinned_top = nullptr;
}

int weft_after_setjmp(int result) {
  Context* context = weft_current_context;
  if (result == 0 || context == nullptr) return result;
  const auto sp = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  if (sp >= reinterpret_cast<uintptr_t>(context->stack_lo) &&
      sp < reinterpret_cast<uintptr_t>(context->stack_hi)) {
    return result;
  }
  // Acquire: with who sets it, for what it uses.
  if (auto* leave = weft_stack_leave_segments.load(std::memory_order_acquire); leave != nullptr) {
    leave(*context, sp);
  }
  return result;
}

Context* SetThreadContext(Context* thread) { return std::exchange(weft_thread_context, thread); }

#if WEFT_HAS_GUARD_WORD
namespace {

uintptr_t Word(uintptr_t address) { return *reinterpret_cast<const uintptr_t*>(address); }

// What is in __morestack's frame, or in that of __morestack_allocate_stack_space.
StackCheck ReadStop(Context* context, void* sp, uintptr_t frame) {
  const uintptr_t caller_fp = Word(frame);
  const uintptr_t pc = Word(frame + WEFT_STOP_PC);
  StackCheck check{};
  check.context = context;
  check.sp = sp;
  check.wanted = Word(frame + WEFT_STOP_FRAME);
  if (pc != 0) {
    check.at = {.pc = pc, .sp = frame, .fp = caller_fp};
    check.caller_pc = Word(frame + 8);
    check.arguments = reinterpret_cast<const void*>(frame + 16);
    check.argument_bytes = Word(frame + WEFT_STOP_ARGUMENTS);
    check.segment = reinterpret_cast<Segment**>(frame + WEFT_STOP_SEGMENT);
  } else {
    check.at = {.pc = Word(frame + 8), .sp = frame + 16, .fp = caller_fp};
    check.caller_pc = Word(caller_fp + 8);
  }
  const auto guard = reinterpret_cast<uintptr_t>(context->guard);
  check.fits = check.at.sp >= check.wanted && check.at.sp - check.wanted >= guard;
  return check;
}

}  // namespace

extern "C" {

// How wide the vector registers are that arguments may be in. Set before static initialization, in
// which goroutines may already run.
__attribute__((visibility("hidden"))) uint8_t weft_vector_bytes = 16;

__attribute__((constructor(101))) static void FindVectorBytes() {
  __builtin_cpu_init();
  weft_vector_bytes = __builtin_cpu_supports("avx512f") ? 64
                      : __builtin_cpu_supports("avx")   ? 32
                                                        : 16;
}

// From the assembly, on the thread's stack if `thread` is not null; context->sp is `sp`, too.
// `frame` is the frame of the function in the assembly, in which the argument registers are; the
// others are at `sp`.
__attribute__((visibility("hidden"))) StackAnswer weft_stack_check(Context* context, void* sp,
                                                                   uintptr_t frame,
                                                                   uintptr_t guard_word,
                                                                   const Context* thread) {
  // All acquire: with the stores of those who set them, for what the handlers use.
  if (guard_word == kGuardRequest) {
    if (auto* answer = weft_stack_request_handler.load(std::memory_order_acquire);
        answer != nullptr) {
      answer(*context);
    }
  }
  StackCheck check = ReadStop(context, sp, frame);
  check.may_move = thread != nullptr;
  if (check.fits) return {sp, StackAnswer::kGoOn};
  if (auto* grow = weft_stack_grow_handler.load(std::memory_order_acquire); grow != nullptr) {
    return grow(check);
  }
  const bool has_handler = weft_stack_limit_handler.load(std::memory_order_acquire) != nullptr;
  return {sp, has_handler ? StackAnswer::kLimit : StackAnswer::kGoOn};
}

// From the assembly, which has already left the stack at its limit.
__attribute__((visibility("hidden"))) void weft_stack_limit_reached(Context* context, uintptr_t pc,
                                                                    uintptr_t sp, uintptr_t fp,
                                                                    uintptr_t caller_pc) {
  weft_stack_limit_handler.load(std::memory_order_acquire)(
      {.context = context, .at = {.pc = pc, .sp = sp, .fp = fp}, .caller_pc = caller_pc});
}
}
#endif

}  // namespace weft::stack
