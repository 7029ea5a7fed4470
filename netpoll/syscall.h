// System calls that return -errno.
//
// errno is a thread_local whose address compilers remember across calls, and a goroutine may be on
// another thread after it has waited: a loop of "try, wait, try again" could read the errno of the
// thread that it started on. So nothing here goes through it. It also saves what libc does around
// calls that are cancellation points, which threads of ours never use.
#ifndef WEFT_NETPOLL_SYSCALL_H_
#define WEFT_NETPOLL_SYSCALL_H_

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <type_traits>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define WEFT_SYSCALL_BY_LIBC 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define WEFT_SYSCALL_BY_LIBC 1
#endif
#endif
#if !defined(__x86_64__)
#define WEFT_SYSCALL_BY_LIBC 1
#endif

namespace weft::internal {

// Turns what a libc call returned into the value or -errno, reading errno in the same breath.
template <typename Call>
[[gnu::noinline]] inline int64_t ByLibc(Call call) {
  const int64_t result = call();
  return result == -1 ? -errno : result;
}

#ifdef WEFT_SYSCALL_BY_LIBC

template <typename... Args>
[[gnu::noinline]] inline int64_t RawSyscall(long number, Args... args) {
  const int64_t result = ::syscall(number, args...);
  return result == -1 ? -errno : result;
}

#else

namespace syscall_internal {
template <typename T>
inline uint64_t Word(T value) {
  if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<uint64_t>(value);
  } else if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else {
    return static_cast<uint64_t>(static_cast<int64_t>(value));
  }
}

inline int64_t Call(long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0,
                    uint64_t e = 0, uint64_t f = 0) {
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
}  // namespace syscall_internal

template <typename... Args>
inline int64_t RawSyscall(long number, Args... args) {
  return syscall_internal::Call(number, syscall_internal::Word(args)...);
}

#endif

inline int64_t SysClose(int fd) {
#ifdef WEFT_SYSCALL_BY_LIBC
  // By its name: a sanitizer has to see that the number is free.
  return ByLibc([fd] { return ::close(fd); });
#else
  return RawSyscall(SYS_close, fd);
#endif
}

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_SYSCALL_H_
