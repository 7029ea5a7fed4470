// Goroutines: functions that run concurrently, thousands to a thread.
//
//   #include "sched/goroutine.h"
//
//   int main() {
//     return weft::Main([] {
//       weft::Go([] { weft::Sleep(absl::Milliseconds(1)); });
//       weft::Go({.name = "reader"}, [] { ... });
//       weft::Yield();
//       return 0;
//     });
//   }
//
// Main() makes the whole program Weft's. A larger program may call Go() from any thread without
// it: the first call starts the scheduler beside the program's own threads.
//
// Rules for code on goroutines (sched/README.md has the reasons):
// - After any call into Weft the goroutine may be on another thread. Do not hold a lock that is
//   tied to a thread, nor an address of a thread_local, across one.
// - Any code may block its thread or compute for long: after a while the others go on without it.
//   What is known to block for long goes into a BlockingSection, and they do so at once.
#ifndef WEFT_SCHED_GOROUTINE_H_
#define WEFT_SCHED_GOROUTINE_H_

#include <cstddef>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "sched/internal/closure.h"

namespace weft {

struct GoOptions {
  // For dumps and traces. Must outlive the goroutine, as a literal does.
  absl::string_view name = {};
  // The stack that it may need, in bytes; 0: the build mode's default (stack/README.md). Rounded up
  // to a size class, the largest of which has 1 GiB. In mode `copying` it is the pinned stack that
  // has a size, for locals whose address is kept: 256 KiB, or 64 MiB or 1 GiB for who asks for
  // more.
  size_t stack_bytes = 0;
};

// Runs `main` as goroutine 1 on a scheduler with MaxProcs() Ps, and ends the process with its
// result when it returns, whatever the others are doing: exit handlers and static destructors run,
// destructors of other goroutines' frames do not. Ignores SIGPIPE, so that writes report EPIPE;
// while it runs, a program in which every goroutine waits for another one ends with "all goroutines
// are asleep - deadlock!". An exception that leaves `main` is reported like any other.
//
// Call it once, from the program's main thread, before any Go().
int Main(absl::AnyInvocable<int()> main);

// Starts a goroutine that runs `fn()`. From goroutines, threads, and timer callbacks; starts the
// scheduler if it is not running. Never parks. Ends the program with a clear line if memory for
// it cannot be had. The closure is kept in the goroutine, not on its stack, and destroyed on it
// when fn returns. An exception that leaves fn ends the program with its trace.
template <typename Fn, typename = std::enable_if_t<std::is_invocable_v<std::decay_t<Fn>&>>>
[[gnu::always_inline]] inline void Go(GoOptions options, Fn&& fn) {
  internal::Spawn(options, internal::Closure(std::forward<Fn>(fn)));
}

template <typename Fn, typename = std::enable_if_t<std::is_invocable_v<std::decay_t<Fn>&>>>
[[gnu::always_inline]] inline void Go(Fn&& fn) {
  Go(GoOptions{}, std::forward<Fn>(fn));
}

// Lets the other runnable goroutines of this P go first. On a plain thread: yields the processor.
void Yield();

// Waits for at least `duration`; at once where it is not positive. Parks the goroutine, or blocks
// the thread.
void Sleep(absl::Duration duration);

// Ends the calling goroutine after unwinding its frames, so that their destructors run. `catch
// (...)` handlers on the way see it and must rethrow. Ending main this way leaves the others
// running. Not from plain threads: fatal.
[[noreturn]] void Exit();

namespace internal {
// Whether it is what Exit() throws: for code that catches everything, to pass on or to keep.
bool IsExit(const std::exception_ptr& exception);
}  // namespace internal

// The number of Ps: how many goroutines run Weft code at once. Defaults to WEFTMAXPROCS, else to
// the processors that the affinity mask and the cgroup's quota allow.
int MaxProcs();

// Changes it, and returns what it was; n < 1 changes nothing. Stops the scheduler for a moment, not
// the program. From goroutines and threads; may park.
//
// Without this, and without WEFTMAXPROCS, the number follows the affinity mask and the quota: while
// the program is not idle it is looked at again every second.
int SetMaxProcs(int n);
// Has it follow them again; returns what it was.
int SetDefaultMaxProcs();

// Binds the calling goroutine to its thread until as many calls of UnlockOSThread() have come: it
// runs on no other one, and no other goroutine runs on that. For what the system or a library keeps
// by thread. Each wait then costs two switches of threads. If the goroutine ends meanwhile, so does
// the thread (the program's first thread only stops). May move it to another thread before. On
// plain threads both do nothing.
void LockOSThread();
void UnlockOSThread();

// The threads that there may be: 10,000 at first. Changes it, and returns what it was; n < 1
// changes nothing. Where goroutines block more threads than that, others wait for one of them to
// come back; where goroutines that are locked to their threads do so, or there are more threads
// already, the program ends with "thread exhaustion". From goroutines and threads; does not park.
int SetMaxThreads(int n);

// Goroutines that exist now: running, runnable or waiting. What one that is no longer counted has
// done is visible to the caller.
int64_t NumGoroutine();

// The calling goroutine's number, from 1 for main; 0 on a plain thread.
uint64_t GoroutineId();

// Marks a stretch in which the goroutine may block its thread: a read from a disk, a lock that
// others hold long, a foreign library. Its P is handed to other goroutines when there is work,
// within about 20 us, or at once if the section is announced as long. At the end the goroutine
// gets a P again, and may have to wait for one. On plain threads it does nothing.
class BlockingSection {
 public:
  enum class Expect { kShort, kLong };

  explicit BlockingSection(Expect expect = Expect::kShort);
  ~BlockingSection();
  BlockingSection(const BlockingSection&) = delete;
  BlockingSection& operator=(const BlockingSection&) = delete;
};

}  // namespace weft

#endif  // WEFT_SCHED_GOROUTINE_H_
