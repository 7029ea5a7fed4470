// What the runtime keeps for each thread, and how code finds it.
//
// A goroutine may resume on another thread after any call into the runtime, and compilers cache
// the address of a thread_local across calls. So nothing in Weft reads a thread_local directly:
// ThisThread() reads the thread pointer afresh each time, in an asm that the compiler may neither
// merge with another one nor move across a call.
#ifndef WEFT_SCHED_INTERNAL_THREAD_H_
#define WEFT_SCHED_INTERNAL_THREAD_H_

#include <atomic>
#include <cstdint>

// Before the return of a call: the caller's frame is gone during it, even where nothing else is
// optimized. Such a call passes what the caller was passed. (GCC 12 does so when it optimizes, and
// has no attribute for it.)
#if defined(__clang__)
#define WEFT_TAIL_CALL [[clang::musttail]]
#else
#define WEFT_TAIL_CALL
#endif

namespace weft {

class Waiter;

namespace internal {

// The part of a thread that every layer may look at. A scheduler thread (M) is one of these with
// more behind it; a plain thread gets one when it first waits. Never freed: a thread that ends
// leaves its Thread to the next one.
struct Thread {
  // Who waits when code on this thread waits: the running goroutine, or the thread itself. Null on
  // a scheduler's own stack, where nothing may wait.
  Waiter* waiter = nullptr;

  // The lease of the P, see sched/README.md. Written by this thread alone: how many runtime
  // sections the code on it is in. While it is 0 the P may be taken away.
  std::atomic<int32_t> in_runtime{0};

  // Set by others under the M's lock, answered by this thread at its next outermost entry.
  std::atomic<uint32_t> attn{0};

  // Whether goroutines run on this thread (an M).
  bool runs_goroutines = false;

  // Outermost entries so far: tells a look at one long call from a look at many short ones.
  std::atomic<uint32_t> entries{0};
};

extern "C" {
// This thread's Thread, or null. Use ThisThread().
extern thread_local constinit Thread* weft_this_thread __attribute__((tls_model("initial-exec")));
}

inline Thread* ThisThread() {
#if defined(__x86_64__)
  Thread* thread;
  asm volatile(
      "movq weft_this_thread@gottpoff(%%rip), %0\n\t"
      "movq %%fs:(%0), %0"
      : "=r"(thread));
  return thread;
#else
#error "ThisThread: give the sequence that reads a thread_local of this architecture"
#endif
}

// Sets it; for the scheduler and the waiter only.
void SetThisThread(Thread* thread);

// What an outermost entry does when attn is set. Registered by the scheduler. May switch
// goroutines: on return the code may be on another thread.
extern void (*answer_attention)() noexcept;

// Marks code inside the runtime: while a section is open the thread keeps its P. Entering the
// outermost one may first have to get a P back, and so may move the goroutine to another thread;
// inner ones only count. On a thread that runs no goroutines both do nothing.
//
// Open one around any use of Lock, and around a group of runtime calls that should pay for entry
// once. Do not run user code in it for long: nobody else can have the P meanwhile.
inline void EnterRuntime() noexcept {
  Thread* thread = ThisThread();
  if (thread == nullptr || !thread->runs_goroutines) return;
  const int32_t depth = thread->in_runtime.load(std::memory_order_relaxed);
  thread->in_runtime.store(depth + 1, std::memory_order_relaxed);
  if (depth == 0) {
    // Against the revoker's "attn = 1; membarrier; read in_runtime": the store above and the load
    // below need only keep their program order here, the barrier is the revoker's.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    thread->entries.store(thread->entries.load(std::memory_order_relaxed) + 1,
                          std::memory_order_relaxed);
    if (thread->attn.load(std::memory_order_relaxed) != 0) [[unlikely]] {
      answer_attention();
    }
  }
}

inline void LeaveRuntime() noexcept {
  Thread* thread = ThisThread();
  if (thread == nullptr || !thread->runs_goroutines) return;
  const int32_t depth = thread->in_runtime.load(std::memory_order_relaxed);
  // Release: a revoker that acquires the 0 sees everything this thread did with its P.
  thread->in_runtime.store(depth - 1, std::memory_order_release);
}

// EnterRuntime() for a short way that calls nothing else: where this is a thread that runs
// goroutines, outside of every section, and nothing is asked of it. Null, and no section, in all
// other cases.
inline Thread* TryEnterRuntime() noexcept {
  Thread* thread = ThisThread();
  if (thread == nullptr || !thread->runs_goroutines ||
      thread->in_runtime.load(std::memory_order_relaxed) != 0) [[unlikely]] {
    return nullptr;
  }
  thread->in_runtime.store(1, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (thread->attn.load(std::memory_order_relaxed) != 0) [[unlikely]] {
    thread->in_runtime.store(0, std::memory_order_release);
    return nullptr;
  }
  thread->entries.store(thread->entries.load(std::memory_order_relaxed) + 1,
                        std::memory_order_relaxed);
  return thread;
}

// Ends it, if nothing that could change the thread has been called since.
inline void LeaveRuntimeOf(Thread* thread) {
  thread->in_runtime.store(0, std::memory_order_release);
}

class RuntimeSection {
 public:
  RuntimeSection() { EnterRuntime(); }
  ~RuntimeSection() { LeaveRuntime(); }
  RuntimeSection(const RuntimeSection&) = delete;
  RuntimeSection& operator=(const RuntimeSection&) = delete;
};

}  // namespace internal
}  // namespace weft

#endif  // WEFT_SCHED_INTERNAL_THREAD_H_
