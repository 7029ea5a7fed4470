#include "stack/context.h"

#include <new>

#include "stack/internal/memcheck.h"

#if WEFT_ASAN
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdlib>
#endif
#if WEFT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace weft::stack {

extern "C" {
constinit thread_local Context* weft_current_context = nullptr;
void weft_context_start();
}

namespace {

#if WEFT_ASAN
// A thread's own stack, as asan sees it. Found when the thread first leaves it: asan wants the
// bounds of the stack that a switch goes to, and LeakSanitizer searches by itself only the stacks
// that threads are on. What main() has in its frame is no leak because main's thread runs a
// goroutine as the process ends.
class ThreadStack {
 public:
  static ThreadStack& OfThisThread() {
    static constinit thread_local ThreadStack stack;
    if (stack.lo_ == nullptr) stack.Find();
    return stack;
  }

  void Describe(Context& thread) const {
    thread.asan_stack_lo = lo_;
    thread.asan_stack_size = size_;
  }

  // Where asan keeps those of the stack's variables whose addresses are taken, to detect their use
  // after they have gone. It makes one for a thread when there is a first such variable.
  void NoteFakeStack(void* fake) {
    if (fake == fake_) return;
    if (fake_ != nullptr) __lsan_unregister_root_region(fake_, FakeSize());
    fake_ = fake;
    if (fake_ != nullptr) __lsan_register_root_region(fake_, FakeSize());
  }

 private:
  void Find() {
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
    pthread_attr_getstack(&attributes, &lo_, &size_);
    pthread_attr_destroy(&attributes);
    __lsan_register_root_region(lo_, size_);
    // Not by a destructor of this object: exit() calls that of the thread that calls it, before
    // leaks are looked for.
    static const pthread_key_t at_thread_end = [] {
      pthread_key_t key;
      if (pthread_key_create(&key,
                             [](void* stack) { static_cast<ThreadStack*>(stack)->Forget(); })) {
        std::abort();
      }
      return key;
    }();
    pthread_setspecific(at_thread_end, this);
  }

  void Forget() {
    __lsan_unregister_root_region(lo_, size_);
    NoteFakeStack(nullptr);
    lo_ = nullptr;
  }

  // As compiler-rt's asan_fake_stack.h has it: a page, flags, and eleven arenas, for frames of
  // different sizes, each as large as the stack, but from 64 KiB to 1 MiB. Where another version
  // differs, what is searched is too little, or not of this stack.
  size_t FakeSize() const {
    const size_t arena = std::clamp(std::bit_ceil(size_), size_t{1} << 16, size_t{1} << 20);
    return 4096 + arena / 32 + 11 * arena;
  }

  void* lo_ = nullptr;
  size_t size_ = 0;
  void* fake_ = nullptr;
};
#endif

#if WEFT_ASAN || WEFT_TSAN
// The first thing on a made context: completes the switch to it as SanitizedSwitch does for others.
void SanitizedEntry(void* arg) {
  auto* context = static_cast<Context*>(arg);
#if WEFT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  if (context->sanitized_arrival != nullptr) {
    context->sanitized_arrival(context->sanitized_a, context->sanitized_b);
  }
  context->sanitized_entry(context->sanitized_arg);
}
#endif

}  // namespace

#if WEFT_ASAN || WEFT_TSAN
namespace internal {

void SanitizedSwitch(Context& from, Context& to, Leaves leaves, Arrival arrival, void* a, void* b) {
  to.sanitized_arrival = arrival;
  to.sanitized_a = a;
  to.sanitized_b = b;
#if WEFT_ASAN
  if (from.stack_hi == nullptr) ThreadStack::OfThisThread().Describe(from);
  // No place to keep the fake stack (use-after-return detection) means that it is to be freed.
  __sanitizer_start_switch_fiber(leaves == Leaves::kForGood ? nullptr : &from.asan_fake_stack,
                                 to.asan_stack_lo, to.asan_stack_size);
  if (from.stack_hi == nullptr) ThreadStack::OfThisThread().NoteFakeStack(from.asan_fake_stack);
#endif
#if WEFT_TSAN
  if (from.stack_hi == nullptr) from.tsan_fiber = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan_fiber, 0);
#endif
  (void)leaves;
  weft_switch(&from, &to);
#if WEFT_ASAN
  __sanitizer_finish_switch_fiber(from.asan_fake_stack, nullptr, nullptr);
#endif
  if (from.sanitized_arrival != nullptr) from.sanitized_arrival(from.sanitized_a, from.sanitized_b);
}

}  // namespace internal
#endif

void MakeContext(Context& context, void* stack_lo, void* stack_hi, void* pinned_lo, void* pinned_hi,
                 void* guard, Entry entry, void* arg) {
  static_cast<void>(pinned_lo);
  context.pinned = pinned_hi;
  context.guard = guard;
  context.fp_control = kFpControlDefault;
  context.stack_lo = stack_lo;
  context.stack_hi = stack_hi;
#if WEFT_ASAN
  context.asan_stack_lo = stack_lo;
  context.asan_stack_size = static_cast<char*>(stack_hi) - static_cast<char*>(stack_lo);
  context.asan_fake_stack = nullptr;
#endif
#if WEFT_TSAN
  if (context.tsan_fiber != nullptr) __tsan_destroy_fiber(context.tsan_fiber);
  context.tsan_fiber = __tsan_create_fiber(0);
#endif
#if WEFT_ASAN || WEFT_TSAN
  context.sanitized_entry = entry;
  context.sanitized_arg = arg;
  entry = SanitizedEntry;
  arg = &context;
#endif

  // From the top down: two null words, where whoever walks past the base finds an end; the
  // registers that the first switch pops. Its jump leaves the stack pointer at the null words, at a
  // multiple of 16 as a call wants it.
  uintptr_t top = reinterpret_cast<uintptr_t>(stack_hi) & ~uintptr_t{15};
  auto* end = reinterpret_cast<uintptr_t*>(top) - 2;
  auto* saved = reinterpret_cast<SavedRegisters*>(end) - 1;
  internal::NoteWrites(saved, stack_hi);
  end[0] = 0;
  end[1] = 0;
  new (saved) SavedRegisters{.r15 = 0,
                             .r14 = 0,
                             .r13 = 0,
                             .r12 = reinterpret_cast<uintptr_t>(arg),
                             .rbx = reinterpret_cast<uintptr_t>(entry),
                             .rbp = 0,
                             .pc = reinterpret_cast<uintptr_t>(&weft_context_start)};
  context.sp = saved;
}

#if WEFT_HAS_PINNED_STACK
// Of clang's runtime: this thread's pointer.
extern "C" thread_local void* __safestack_unsafe_stack_ptr
    __attribute__((tls_model("initial-exec")));

void ResetPinnedStack(void* pinned_hi) { __safestack_unsafe_stack_ptr = pinned_hi; }
#else
void ResetPinnedStack(void*) {}
#endif

void DestroyContext(Context& context) {
#if WEFT_TSAN
  if (context.tsan_fiber != nullptr) __tsan_destroy_fiber(context.tsan_fiber);
  context.tsan_fiber = nullptr;
#else
  static_cast<void>(context);
#endif
}

}  // namespace weft::stack
