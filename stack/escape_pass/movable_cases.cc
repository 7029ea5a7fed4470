#include "stack/escape_pass/movable_cases.h"

#include <alloca.h>

#include <algorithm>
#include <coroutine>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <vector>

#include "stack/arch.h"
#include "stack/morestack.h"

namespace weft::escape_pass {
namespace {

#define CASE __attribute__((noinline)) void

// Here(), and not as a tail call, which would have the function's caller noted.
#define HERE()        \
  do {                \
    Here();           \
    asm volatile(""); \
  } while (false)

// GCC cannot take the attribute here, and has no need of it.
#if defined(__clang__)
#define NO_SPLIT_STACK __attribute__((no_split_stack))
#else
#define NO_SPLIT_STACK
#endif

volatile int opaque = 3;

// Functions like any other.

CASE Ordinary() { HERE(); }

inline CASE Inline() { HERE(); }

template <typename T>
CASE Template() {
  HERE();
}

CASE WithPinnedLocal() {
  int local = opaque;
  Tell(&local);
  HERE();
}

// A C array of variable length, which GCC and clang have in C++ too.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wvla-cxx-extension"
CASE WithVariableArray() {
  const int size = opaque;
  for (int i = 0; i < 2; ++i) {
    char array[size];
    array[0] = static_cast<char>(i);
    Tell(array);
    HERE();
  }
}

#pragma GCC diagnostic pop

CASE WithAlloca() {
  auto* bytes = static_cast<char*>(alloca(static_cast<size_t>(opaque)));
  bytes[0] = 1;
  Tell(bytes);
  HERE();
}

// Locals in the frame that are only loaded and stored where they are.
CASE WithArrayAtKnownPlaces() {
  volatile int array[4];
  array[1] = opaque;
  HERE();
  opaque = array[1];
}

CASE WithAtomicLocal() {
  int local = opaque;
  __atomic_fetch_add(&local, opaque, __ATOMIC_RELAXED);
  HERE();
  opaque = __atomic_load_n(&local, __ATOMIC_RELAXED);
}

CASE WithAlignedLocal() {
  alignas(4096) char local[4096];
  local[0] = 1;
  Tell(local);
  HERE();
}

CASE WithAssembly() {
  long result;
  asm volatile("xorl %k0, %k0" : "=r"(result));
  HERE();
  opaque = opaque + static_cast<int>(result);
}

__attribute__((noinline, cold)) void Cold() { HERE(); }
__attribute__((noinline, hot)) void Hot() { HERE(); }

CASE NeverThrows() noexcept { HERE(); }

CASE ReadsReturnAddress() {
  Tell(__builtin_return_address(0));
  HERE();
}

CASE Catches() {
  try {
    throw opaque;
  } catch (int) {
    HERE();
  }
}

CASE UnwindsThrough() {
  struct AtExit {
    ~AtExit() { HERE(); }
  };
  try {
    AtExit at_exit;
    throw 1;
  } catch (int) {
  }
}

int Recurse(int n) {
  if (n == 0) {
    HERE();
    return 0;
  }
  return Recurse(n - 1) + opaque;
}
void Recursive() { Recurse(opaque); }

void Lambda() {
  auto lambda = [&]() __attribute__((noinline)) { HERE(); };
  lambda();
}

void InFunctionObject() {
  const std::function<void()> function = [] { HERE(); };
  function();
}

void InComparator() {
  std::vector<int> values = {opaque, 2, 1};
  std::sort(values.begin(), values.end(), [](int a, int b) {
    HERE();
    return a < b;
  });
}

struct Interface {
  virtual ~Interface() = default;
  virtual void Method() = 0;
};
struct Noted {
  ~Noted() { HERE(); }
};
struct Implementation : Interface {
  CASE Method() override { HERE(); }
  __attribute__((noinline)) Implementation() { HERE(); }
  // The destructor is implicit, and calls that of `noted`, which is inlined into it or is not.
  Noted noted;
};
// Most are never destroyed, as that would call HERE(). Leak checkers find them here.
Interface* volatile made[16];
size_t made_count = 0;
__attribute__((noinline)) Interface* Make() {
  Interface* object = new Implementation;
  made[made_count++ % std::size(made)] = object;
  return object;
}

void Virtual() {
  Interface* object = Make();
  object->Method();
  Tell(object);
}
void Constructor() { Tell(Make()); }
void ImplicitDestructor() { delete Make(); }

void ThroughPointerToMember() {
  void (Interface::* volatile method)() = &Interface::Method;
  (Make()->*method)();
}

__attribute__((noinline)) int Initialize() {
  struct Init {
    Init() { HERE(); }
  };
  static Init init;
  Tell(&init);
  return 1;
}
void StaticLocal() { Initialize(); }

struct Task {
  struct promise_type {
    Task get_return_object() { return {}; }
    std::suspend_never initial_suspend() { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};
struct Resumed {
  bool await_ready() { return false; }
  void await_suspend(std::coroutine_handle<> handle) { self = handle; }
  void await_resume() {}
  static std::coroutine_handle<> self;
};
std::coroutine_handle<> Resumed::self;
Task Coroutine() {
  co_await Resumed();
  HERE();
}
void ResumedCoroutine() {
  Coroutine();
  Resumed::self.resume();
}

// The frame address is the callee's, not its own.
__attribute__((noinline)) void TellFrameAddress() {
  Tell(__builtin_frame_address(0));
  HERE();
}
CASE CallsForeign() {
  TellFrameAddress();
  HERE();
}

// What keeps a frame where it is.

NO_SPLIT_STACK __attribute__((noinline)) int Sum(int count, ...) {
  va_list arguments;
  va_start(arguments, count);
  int sum = 0;
  for (int i = 0; i < count; ++i) sum += va_arg(arguments, int);
  va_end(arguments);
  HERE();
  return sum;
}
void Variadic() { opaque = Sum(2, 1, 2); }

std::jmp_buf jump_buffer;
CASE CallsSetjmp() {
  if (setjmp(jump_buffer) == 0) HERE();
}

CASE CallsSigsetjmp() {
  static sigjmp_buf buffer;
  if (sigsetjmp(buffer, 0) == 0) HERE();
}

CASE CallsBuiltinSetjmp() {
  static void* buffer[5];
  if (__builtin_setjmp(buffer) == 0) HERE();
}

// They may have the address of a local in a register, or on the stack, while they call another.

CASE WalksArray() {
  volatile int array[8];
  const int size = opaque;  // so that the loops stay loops
  for (int i = 0; i < size; ++i) array[i] = 3;
  for (int i = 0; i < size; ++i) {
    HERE();
    opaque = array[i];
  }
}

CASE ChoosesLocal() {
  volatile int one = opaque;
  volatile int other = opaque + 1;
  HERE();
  (opaque == 3 ? one : other) = 3;
  opaque = one;
}

struct Bytes {
  char bytes[300];
};
CASE CopiesLocal() {
  static volatile Bytes source;
  Bytes local;
  __builtin_memcpy(&local, const_cast<Bytes*>(&source), sizeof local);
  HERE();
  __builtin_memcpy(const_cast<Bytes*>(&source), &local, sizeof local);
}

__attribute__((noinline)) int WalkArgument(Bytes on_stack) {
  int sum = 0;
  for (int i = 0; i < opaque; ++i) {
    HERE();
    sum += on_stack.bytes[i];
  }
  return sum;
}
void WalksArgumentOnStack() { opaque = 3 + WalkArgument(Bytes{}); }

__attribute__((always_inline)) inline void TellFrameAddressInline() {
  Tell(__builtin_frame_address(0));
}
CASE InlinesFrameAddress() {
  TellFrameAddressInline();
  HERE();
}

// Who tells the address of its frame stays in it, also where a call comes last: that might go on
// with the address.
__attribute__((noinline)) void TellFrameAddressLast() {
  Tell(__builtin_frame_address(0));
  Here();
}
CASE TellsFrameAddressLast() {
  TellFrameAddressLast();
  asm volatile("");
}

__attribute__((noinline)) void TellStackPointerLast() {
  const void* sp;
  asm volatile("movq %%rsp, %0" : "=r"(sp));
  Tell(sp);
  Here();
}
CASE TellsStackPointerLast() {
  TellStackPointerLast();
  asm volatile("");
}

#if defined(__clang__)
__attribute__((noinline, no_sanitize("safe-stack"))) void WithoutSafeStack() { HERE(); }
#endif
NO_SPLIT_STACK __attribute__((noinline)) void WithoutSplitStack() { HERE(); }

CASE ReadsStackPointer() {
  const void* sp;
  asm volatile("movq %%rsp, %0" : "=r"(sp));
  Tell(sp);
  HERE();
}

CASE ReadsFramePointer() {
  uint32_t fp;
  asm volatile("movl %%EBP, %0" : "=r"(fp));
  opaque = opaque + static_cast<int>(fp & 0);
  HERE();
}

register void* stack_pointer asm("rsp");
CASE ReadsRegisterVariable() {
  Tell(stack_pointer);
  HERE();
}

CASE WithLocalAlignedBeyondPage() {
  alignas(8192) volatile char local[8192];
  local[0] = 1;
  HERE();
  local[1] = local[0];
}

__attribute__((noinline, section("weft_test_other"))) void InSectionOfItsOwn() { HERE(); }

#if defined(__clang__)
#pragma clang section text = "weft_test_pragma"
CASE InSectionOfPragma() { HERE(); }
#pragma clang section text = ""

__attribute__((noinline, preserve_most)) void PreserveMost() { HERE(); }
void CallsPreserveMost() { PreserveMost(); }
#if __has_attribute(preserve_none)
__attribute__((noinline, preserve_none)) void PreserveNone() { HERE(); }
void CallsPreserveNone() { PreserveNone(); }
#endif
#endif

}  // namespace

#if defined(__clang__)
extern "C" __attribute__((preserve_most, noinline, used)) void weft_test_preserve_most() {
  if (opaque == 77) HERE();
}
#endif

long CallPreserveMost() {
  long kept = 42;
#if defined(__clang__)
  Tell(nullptr);  // so that this function leaves nothing below its stack pointer
  *stack::GuardWord() = stack::kGuardRequest;
  asm volatile("movq $42, %%r10\n\tcallq weft_test_preserve_most\n\tmovq %%r10, %0"
               : "=r"(kept)
               :
               : "r10", "r11", "cc", "memory");
  *stack::GuardWord() = 0;
#endif
  return kept;
}

// Inlined, or its call is what counts: the initializer is a function of its own either way.
const void* const at_initialization = (Here(), CalledHere());

const bool kWithEscapePass = WEFT_WITH_ESCAPE_PASS;

const MovableCase kMovableCases[] = {
    {"Ordinary", Ordinary, true},
    {"Inline", Inline, true},
    {"Template", Template<int>, true},
    {"WithPinnedLocal", WithPinnedLocal, true},
    {"WithVariableArray", WithVariableArray, true},
    {"WithAlloca", WithAlloca, true},
    {"WithArrayAtKnownPlaces", WithArrayAtKnownPlaces, true},
    {"WithAtomicLocal", WithAtomicLocal, true},
    {"WithAlignedLocal", WithAlignedLocal, true},
    {"WithAssembly", WithAssembly, true},
    {"Cold", Cold, true},
    {"Hot", Hot, true},
    {"NeverThrows", NeverThrows, true},
    {"ReadsReturnAddress", ReadsReturnAddress, true},
    {"Catches", Catches, true},
    {"UnwindsThrough", UnwindsThrough, true},
    {"Recursive", Recursive, true},
    {"Lambda", Lambda, true},
    {"InFunctionObject", InFunctionObject, true},
    {"InComparator", InComparator, true},
    {"Virtual", Virtual, true},
    {"Constructor", Constructor, true},
    {"ImplicitDestructor", ImplicitDestructor, true},
    {"ThroughPointerToMember", ThroughPointerToMember, true},
    {"StaticLocal", StaticLocal, true},
    {"ResumedCoroutine", ResumedCoroutine, true},
    {"CallsForeign", CallsForeign, true},
    {"TellsFrameAddress", TellFrameAddress, false},
    {"Variadic", Variadic, false},
    {"CallsSetjmp", CallsSetjmp, false},
    {"CallsSigsetjmp", CallsSigsetjmp, false},
    {"CallsBuiltinSetjmp", CallsBuiltinSetjmp, false},
    {"InlinesFrameAddress", InlinesFrameAddress, false},
    {"TellsFrameAddressLast", TellsFrameAddressLast, false},
    {"TellsStackPointerLast", TellsStackPointerLast, false},
    {"WalksArray", WalksArray, false},
    {"ChoosesLocal", ChoosesLocal, false},
    {"CopiesLocal", CopiesLocal, false},
    {"WalksArgumentOnStack", WalksArgumentOnStack, false},
    {"WithoutSplitStack", WithoutSplitStack, false},
    {"ReadsStackPointer", ReadsStackPointer, false},
    {"ReadsFramePointer", ReadsFramePointer, false},
    {"ReadsRegisterVariable", ReadsRegisterVariable, false},
    {"WithLocalAlignedBeyondPage", WithLocalAlignedBeyondPage, false},
    {"InSectionOfItsOwn", InSectionOfItsOwn, false},
#if defined(__clang__)
    {"WithoutSafeStack", WithoutSafeStack, false},
    {"InSectionOfPragma", InSectionOfPragma, false},
    {"CallsPreserveMost", CallsPreserveMost, false},
#if __has_attribute(preserve_none)
    {"CallsPreserveNone", CallsPreserveNone, false},
#endif
#endif
};
const size_t kMovableCaseCount = sizeof(kMovableCases) / sizeof(kMovableCases[0]);

}  // namespace weft::escape_pass
