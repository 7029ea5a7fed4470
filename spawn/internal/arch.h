// What starting a process needs of the processor: x86-64 so far.
//
// System calls without libc, whose wrappers write errno, a thread_local of the parent's, and are
// intercepted by sanitizers; and a clone whose child runs a function on a stack of its own.
#ifndef WEFT_SPAWN_INTERNAL_ARCH_H_
#define WEFT_SPAWN_INTERNAL_ARCH_H_

#include <cstdint>
#include <type_traits>

namespace weft::spawn::internal {

#if defined(__x86_64__)

template <typename T>
[[gnu::always_inline]] inline uint64_t SyscallWord(T value) {
  if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<uint64_t>(value);
  } else {
    return static_cast<uint64_t>(static_cast<int64_t>(value));
  }
}

[[gnu::always_inline]] inline int64_t RawSyscall6(long number, uint64_t a, uint64_t b, uint64_t c,
                                                  uint64_t d, uint64_t e, uint64_t f) {
  int64_t result = number;
  register uint64_t r10 asm("r10") = d;
  register uint64_t r8 asm("r8") = e;
  register uint64_t r9 asm("r9") = f;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

// The result, or -errno.
template <typename A = int, typename B = int, typename C = int, typename D = int, typename E = int,
          typename F = int>
[[gnu::always_inline]] inline int64_t RawSyscall(long number, A a = 0, B b = 0, C c = 0, D d = 0,
                                                 E e = 0, F f = 0) {
  return RawSyscall6(number, SyscallWord(a), SyscallWord(b), SyscallWord(c), SyscallWord(d),
                     SyscallWord(e), SyscallWord(f));
}

// Makes the system call `number`, a clone or clone3 whose arguments name a new stack. The parent
// gets its result. The child never returns: it calls run(argument) at the top of that stack.
[[gnu::always_inline]] inline int64_t RawClone(long number, uint64_t a, uint64_t b, uint64_t c,
                                               void (*run)(void*), void* argument) {
  int64_t result = number;
  register uint64_t r10 asm("r10") = 0;
  register uint64_t r8 asm("r8") = 0;
  register void (*r12)(void*) asm("r12") = run;
  register void* r13 asm("r13") = argument;
  asm volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xorl %%ebp, %%ebp\n\t"  // the outermost frame
      "movq %%r13, %%rdi\n\t"
      "callq *%%r12\n\t"
      "ud2\n"
      "1:"
      : "+a"(result)
      : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r12), "r"(r13)
      : "rcx", "r11", "memory", "cc");
  return result;
}

#else
#error "spawn: this processor is not supported yet"
#endif

}  // namespace weft::spawn::internal

#endif  // WEFT_SPAWN_INTERNAL_ARCH_H_
