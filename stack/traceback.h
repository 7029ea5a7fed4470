// Stack traces in Go's shape, for the fatal path and for dumps:
//
//     goroutine 7 [running]:
//     app::Parse(...)
//     	/usr/bin/app +0x1a2b3
//     created by app::Serve in goroutine 1
//     	/usr/bin/app +0x1a040
//
// The second line is the module and the offset in it, as addr2line takes it: there are no line
// tables at run time. Frames are found by frame pointers, which our code always keeps; a function
// of other code that keeps none is left out, and the trace may end early in such code.
//
// Everything here works in a signal handler and with 32 KiB of stack, and neither allocates nor
// takes a lock.
#ifndef WEFT_STACK_TRACEBACK_H_
#define WEFT_STACK_TRACEBACK_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "stack/arch.h"
#include "stack/context.h"

namespace weft::stack {

// What a layer above knows of the running goroutine. All are called on the thread whose trace is
// printed, maybe in a signal handler, so they must do with what such a handler may do (write, not
// dprintf, which allocates: stack/internal/writer.h). Each may be null.
struct TraceHooks {
  // Prints "goroutine 7 [running]:" and a newline. Without it the thread's id is printed.
  void (*header)(int fd) = nullptr;
  // Prints what follows the frames: "created by ...", see PrintCreationSite().
  void (*trailer)(int fd) = nullptr;
  // Whether the caller is the first to report why the process ends; the others then wait for that.
  bool (*claim_fatal_report)() = nullptr;
};

// Call it once, before threads that may print.
void SetTraceHooks(const TraceHooks& hooks);
TraceHooks GetTraceHooks();

// Whether a signal handler has one of the innermost 50 frames of a context that is not running. Not
// found is one behind functions that keep no frame pointer.
bool HasSignalFrame(const Context& context);

// A hundred frames at most, the innermost 50 and the outermost 50.
struct Trace {
  static constexpr size_t kEnd = 50;
  // Addresses of instructions, not return addresses: for who looks up functions and lines.
  // Innermost first.
  std::array<uintptr_t, 2 * kEnd> pcs;
  size_t count = 0;
  size_t elided = 0;  // left out after the first kEnd
};

// What PrintTrace() and PrintInterruptedTrace() print, as numbers.
void GetTrace(const Context& context, const void* block, Trace& trace);
void GetInterruptedTrace(const MachineState& state, Trace& trace);
// The same in a signal handler where the code that was interrupted is sound, and runs on `context`.
// In libraries that keep no frame pointers it goes by the unwinder, so that the function that has
// called them is not lost, and in a prologue that has left the stack by what that has saved.
void GetSampledTrace(const MachineState& state, const Context& context, Trace& trace);
// Of the calling goroutine or thread, from the caller's frame on.
void GetCurrentTrace(Trace& trace);

// The frames of a context that is not running. No header: the caller knows whose it is. A hundred
// frames at most, the innermost 50 and the outermost 50. `block`: where the bytes [sp, stack_hi)
// are while they are not in their place (residence.h).
void PrintTrace(int fd, const Context& context, const void* block = nullptr);

// Header, frames and trailer of the calling goroutine or thread, from the caller's frame on.
void PrintCurrentTrace(int fd);

// The same from a place where this thread was interrupted, or reached its limit. `caller_pc`, if
// not 0, is the return address of a function at `state` that has not yet made its frame.
void PrintInterruptedTrace(int fd, const MachineState& state, uintptr_t caller_pc = 0);

// "created by <function> in goroutine <creator>" and its module line; without the creator if it is
// 0.
void PrintCreationSite(int fd, const void* pc, uint64_t creator);

}  // namespace weft::stack

#endif  // WEFT_STACK_TRACEBACK_H_
