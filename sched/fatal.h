// How a program ends when it cannot go on: Go's texts, the goroutine's trace, exit status 2.
#ifndef WEFT_SCHED_FATAL_H_
#define WEFT_SCHED_FATAL_H_

#include "absl/strings/string_view.h"

namespace weft {

// Prints "fatal error: <text>" and the calling goroutine's (or thread's) trace to stderr and ends
// the process with status 2. For broken rules that nobody can recover from: unlocking an unlocked
// mutex, a deadlock. From anywhere but signal handlers; runs no destructors and no atexit.
[[noreturn]] void Fatal(absl::string_view text);

// The same with "panic: <text>", for a caller's mistake that Go reports by a panic.
[[noreturn]] void Panic(absl::string_view text);

}  // namespace weft

#endif  // WEFT_SCHED_FATAL_H_
