#include "stack/morestack.h"

namespace weft::stack {

extern "C" {

constinit std::atomic<StackLimitHandler> weft_stack_limit_handler{nullptr};
constinit thread_local void* weft_signal_stack_top = nullptr;
constinit thread_local void* weft_signal_pinned_top = nullptr;

#if WEFT_HAS_GUARD_WORD
// From the assembly, which has already left the stack at its limit.
__attribute__((visibility("hidden"))) void weft_stack_limit_reached(Context* context, uintptr_t pc,
                                                                    uintptr_t sp, uintptr_t fp,
                                                                    uintptr_t caller_pc) {
  weft_stack_limit_handler.load(std::memory_order_acquire)(
      {.context = context, .at = {.pc = pc, .sp = sp, .fp = fp}, .caller_pc = caller_pc});
}
#endif
}

}  // namespace weft::stack
