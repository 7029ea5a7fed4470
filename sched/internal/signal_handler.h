// What a handler of asynchronous signals has to be, which may run on any thread at any time.
//
//   WEFT_SIGNAL_HANDLER void Handle(int signal);   // on a declaration: GCC takes it nowhere else
//   void Handle(int signal) { ... }
//   ...
//   SetSignalAction(SIGQUIT, &action, nullptr);
//
// It runs on an alternate stack, whose end the stack limit does not tell, or on a thread that has
// no pinned stack yet: so it asks for neither.
//
// ThreadSanitizer's sigaction() has handlers wait until the thread makes some call that it knows,
// and one that sleeps in a futex makes none: a handler that has to run at once is set by libc's
// own, and is kept free of all that calls the sanitizer. Which leaves it variables of plain types,
// by the compiler's __atomic functions (those of std::atomic are functions of the program, with
// instructions of the sanitizer in them), system calls by syscall(), and others of its kind.
#ifndef WEFT_SCHED_INTERNAL_SIGNAL_HANDLER_H_
#define WEFT_SCHED_INTERNAL_SIGNAL_HANDLER_H_

#include <signal.h>

#include "stack/mode.h"

#if WEFT_HAS_GUARD_WORD
#define WEFT_SIGNAL_HANDLER_LIMIT __attribute__((no_split_stack))
#else
#define WEFT_SIGNAL_HANDLER_LIMIT
#endif
#if WEFT_HAS_PINNED_STACK
#define WEFT_SIGNAL_HANDLER_PINNED __attribute__((no_sanitize("safe-stack")))
#else
#define WEFT_SIGNAL_HANDLER_PINNED
#endif
#if WEFT_TSAN && defined(__clang__)
#define WEFT_SIGNAL_HANDLER_PLAIN __attribute__((disable_sanitizer_instrumentation))
#elif WEFT_TSAN
#define WEFT_SIGNAL_HANDLER_PLAIN __attribute__((no_sanitize("thread")))
#else
#define WEFT_SIGNAL_HANDLER_PLAIN
#endif
#define WEFT_SIGNAL_HANDLER \
  WEFT_SIGNAL_HANDLER_LIMIT WEFT_SIGNAL_HANDLER_PINNED WEFT_SIGNAL_HANDLER_PLAIN

#if WEFT_TSAN
extern "C" int __sigaction(int signal, const struct sigaction* action,
                           struct sigaction* old) noexcept;
#endif

namespace weft::internal {

// sigaction().
inline int SetSignalAction(int signal, const struct sigaction* action, struct sigaction* old) {
#if WEFT_TSAN
  return __sigaction(signal, action, old);
#else
  return sigaction(signal, action, old);
#endif
}

}  // namespace weft::internal

#endif  // WEFT_SCHED_INTERNAL_SIGNAL_HANDLER_H_
