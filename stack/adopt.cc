#include "stack/adopt.h"

#include <unistd.h>

#include <cstdlib>

#include "stack/mode.h"

#if WEFT_HAS_PINNED_STACK
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>

#include <cstddef>
#endif

namespace weft::stack {

#if WEFT_HAS_PINNED_STACK

// Of clang's runtime: this thread's pointer.
extern "C" thread_local void* __safestack_unsafe_stack_ptr
    __attribute__((tls_model("initial-exec")));

namespace {

constexpr size_t kStackBytes = 256 * 1024;
// As large as the largest frame that our warnings allow, so that nothing steps over it.
constexpr size_t kGuardBytes = 256 * 1024 + 4096;

// What was given to this thread, or null.
constinit thread_local char* given __attribute__((tls_model("initial-exec"))) = nullptr;
// Rounds of destructors for thread-specific data that are still to come. Other destructors may be
// instrumented code, so it is the last round that takes the stack.
constinit thread_local int rounds __attribute__((tls_model("initial-exec"))) = 0;

pthread_key_t key;

void AtThreadEnd(void* self) {
  if (--rounds > 0 && pthread_setspecific(key, self) == 0) return;
  DisownThread();
}

bool MakeKey() {
  static const bool made = pthread_key_create(&key, AtThreadEnd) == 0;
  return made;
}

}  // namespace

bool AdoptThread() {
  if (__safestack_unsafe_stack_ptr != nullptr) return true;
  if (!MakeKey()) return false;
  void* const memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  auto* const bytes = static_cast<char*>(memory);
  rounds = PTHREAD_DESTRUCTOR_ITERATIONS;
  if (mprotect(bytes + kGuardBytes, kStackBytes, PROT_READ | PROT_WRITE) != 0 ||
      pthread_setspecific(key, bytes) != 0) {
    munmap(memory, kGuardBytes + kStackBytes);
    return false;
  }
  given = bytes;
  __safestack_unsafe_stack_ptr = bytes + kGuardBytes + kStackBytes;
  return true;
}

void DisownThread() {
  if (given == nullptr) return;
  pthread_setspecific(key, nullptr);
  __safestack_unsafe_stack_ptr = nullptr;
  munmap(given, kGuardBytes + kStackBytes);
  given = nullptr;
}

#else

bool AdoptThread() { return true; }
void DisownThread() {}

#endif

namespace internal {

void CannotAdopt() {
  static const char kLine[] = "weft: no memory for a thread's pinned stack\n";
  if (write(STDERR_FILENO, kLine, sizeof kLine - 1) < 0) std::abort();
  _exit(2);
}

}  // namespace internal
}  // namespace weft::stack
