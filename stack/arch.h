// What depends on the processor, besides the assembly itself: x86-64 so far.
#ifndef WEFT_STACK_ARCH_H_
#define WEFT_STACK_ARCH_H_

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace weft::stack {

#if defined(__x86_64__)

// The control words of the floating-point units, which the ABI makes callee-saved. The low six bits
// of mxcsr are sticky exception flags and no control.
struct FpControl {
  uint32_t mxcsr;
  uint16_t x87;
  // Whether the words above are known to be those of the context whenever it runs, so that leaving
  // it need not read them (HoldFpControl).
  bool steady;
};
inline constexpr FpControl kFpControlDefault = {0x1f80, 0x037f, false};

inline FpControl ReadFpControl() {
  FpControl control = {};
  asm volatile("stmxcsr %0" : "=m"(control.mxcsr));
  asm volatile("fnstcw %0" : "=m"(control.x87));
  return control;
}

// A place in a program that is not going on at the moment.
struct MachineState {
  uintptr_t pc = 0;
  uintptr_t sp = 0;
  uintptr_t fp = 0;  // frame pointer, where the code keeps one
};

// What weft_switch pushes, from its saved stack pointer up.
struct SavedRegisters {
  uintptr_t r15, r14, r13, r12, rbx, rbp, pc;
};

inline MachineState SavedState(const void* sp) {
  const auto* saved = static_cast<const SavedRegisters*>(sp);
  return {saved->pc, reinterpret_cast<uintptr_t>(saved + 1), saved->rbp};
}

// Where, of what is saved at `sp`, the frame pointer is.
inline uintptr_t* SavedFramePointer(void* sp) { return &static_cast<SavedRegisters*>(sp)->rbp; }

// From the third argument of a signal handler.
inline MachineState InterruptedState(const ucontext_t& context) {
  const auto& registers = context.uc_mcontext.gregs;
  return {static_cast<uintptr_t>(registers[REG_RIP]), static_cast<uintptr_t>(registers[REG_RSP]),
          static_cast<uintptr_t>(registers[REG_RBP])};
}

// Whether the bytes before `end`, kLongestCall of which can be read, are a call instruction: E8
// with an offset, or FF /2 in one of the lengths that compilers use.
inline constexpr int kLongestCall = 7;
inline bool EndsInCall(const unsigned char* end) {
  const auto indirect = [end](int length) {
    return end[-length] == 0xff && (end[1 - length] & 0x38) == 0x10;
  };
  return end[-5] == 0xe8 || indirect(2) || indirect(3) || indirect(6) || indirect(7);
}

// Whether the bytes from `at` on, kSignalReturn of which can be read, have the kernel go on where a
// signal has interrupted: `mov $15, %rax; syscall`, which is what a handler returns to.
inline constexpr size_t kSignalReturn = 9;
inline bool ReturnsFromSignal(const unsigned char* at) {
  constexpr unsigned char kCode[kSignalReturn] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
  return std::memcmp(at, kCode, sizeof kCode) == 0;
}

// The word that split-stack prologues compare the stack pointer with (__private_ss in glibc's
// thread control block). This thread's own: another thread may store to it to have the next
// prologue call __morestack. Inlined even when nothing is, as its own prologue would look at the
// word.
[[gnu::always_inline]] inline uintptr_t* GuardWord() {
  uintptr_t thread_pointer;
  asm volatile("movq %%fs:0, %0" : "=r"(thread_pointer));
  return reinterpret_cast<uintptr_t*>(thread_pointer + 0x70);
}

// Asks Valgrind for something by its number, as valgrind.h has it: a sequence of instructions that
// does nothing, and that Valgrind looks for. 0 where nobody answers.
inline uintptr_t ValgrindRequest(uintptr_t request, uintptr_t a, uintptr_t b) {
  const volatile uintptr_t words[6] = {request, a, b, 0, 0, 0};
  uintptr_t answer = 0;
  asm volatile(
      "rolq $3, %%rdi; rolq $13, %%rdi\n"
      "rolq $61, %%rdi; rolq $51, %%rdi\n"
      "xchgq %%rbx, %%rbx"
      : "+d"(answer)
      : "a"(words)
      : "cc", "memory");
  return answer;
}

#else
#error "stack/: give this architecture its branch here and its context_<arch>.S"
#endif

}  // namespace weft::stack

#endif  // WEFT_STACK_ARCH_H_
