#include "stack/morestack.h"

#include <signal.h>
#include <sys/mman.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

#include "gtest/gtest.h"
#include "stack/internal/task.h"
#include "stack/overflow.h"

// libgcc's: there is none of it in a program that has ours.
extern "C" void __generic_morestack() __attribute__((weak));

namespace weft::stack {
namespace {

TEST(MorestackTest, ThatOfLibgccIsNotLinked) { EXPECT_EQ(&__generic_morestack, nullptr); }

#if WEFT_HAS_GUARD_WORD

// Each function below is called with a request in the guard word, and so through __morestack.

__attribute__((noinline)) double TakeMany(int a, int64_t b, const char* c, double d, float e, int f,
                                          int64_t g, int h, double i, double j, double k, double l,
                                          double m, double n, int64_t o, double p) {
  // A leaf without a frame is not checked.
  volatile char frame[64];
  frame[0] = 0;
  return frame[0] + a + static_cast<double>(b) * 2 + c[0] + d * 3 + e * 5 + f * 7 +
         static_cast<double>(g) * 11 + h * 13 + i * 17 + j * 19 + k * 23 + l * 29 + m * 31 +
         n * 37 + static_cast<double>(o) * 41 + p * 43;
}

struct Large {
  int64_t values[9];
};
__attribute__((noinline)) Large Double(Large in) {
  for (int64_t& value : in.values) value *= 2;
  return in;
}

// Clang has no check in variadic functions, and has to be told; GCC's expect something of it.
#if defined(__clang__)
__attribute__((no_split_stack))
#endif
__attribute__((noinline)) double
SumOf(int count, ...) {
  va_list arguments;
  va_start(arguments, count);
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += va_arg(arguments, double);
  va_end(arguments);
  return sum;
}

TEST(MorestackTest, ARequestIsTakenOutOfTheGuardWordAndNothingIsLost) {
  double sum = 0;
  double variadic = 0;
  Large large{};
  uintptr_t after = 0;
  const void* guard = nullptr;
  SlotCache cache;
  Task task(cache, [&](Task& self) {
    guard = self.context().guard;
    *GuardWord() = kGuardRequest;
    sum = TakeMany(1, 2, "A", 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    after = *GuardWord();
    *GuardWord() = kGuardRequest;
    large = Double({{1, 2, 3, 4, 5, 6, 7, 8, 9}});
    *GuardWord() = kGuardRequest;
    variadic = SumOf(10, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0);
  });
  while (task.Resume()) {
  }
  EXPECT_EQ(after, reinterpret_cast<uintptr_t>(guard));
  EXPECT_EQ(sum,
            1 + 4 + 65 + 9 + 20 + 35 + 66 + 91 + 136 + 171 + 230 + 319 + 372 + 481 + 574 + 645);
  EXPECT_EQ(large.values[0] + large.values[8], 20);
  EXPECT_EQ(variadic, 55);
}

int requests = 0;
bool on_the_stack = false;
void AnswerRequest(Context& context) {
  ++requests;
  const char here = 0;
  const void* address = &here;
  on_the_stack = address >= context.stack_lo && address < context.stack_hi;
  // What it calls may need the registers that arguments are in.
  asm volatile(
      "pxor %%xmm0, %%xmm0\n\tpxor %%xmm1, %%xmm1\n\tpxor %%xmm2, %%xmm2\n\tpxor %%xmm7, %%xmm7"
      :
      :
      : "xmm0", "xmm1", "xmm2", "xmm7", "rdi", "rsi", "rdx", "rcx", "r8", "r9", "r10", "r11");
}

TEST(MorestackTest, TheRequestHandlerRunsOffTheStackAndDisturbsNothing) {
  weft_stack_request_handler.store(AnswerRequest, std::memory_order_release);
  for (const bool known : {true, false}) {
    requests = 0;
    double sum = 0;
    bool left = false;
    uintptr_t after = 0;
    SlotCache cache;
    Task task(cache, [&](Task&) {
      *GuardWord() = kGuardRequest;
      sum = TakeMany(1, 2, "A", 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      after = *GuardWord();
      left = !on_the_stack;
    });
    if (known) SetThreadContext(&task.thread_context());
    while (task.Resume()) {
    }
    SetThreadContext(nullptr);
    EXPECT_EQ(requests, 1);
    EXPECT_EQ(after, reinterpret_cast<uintptr_t>(task.context().guard));
    EXPECT_EQ(sum,
              1 + 4 + 65 + 9 + 20 + 35 + 66 + 91 + 136 + 171 + 230 + 319 + 372 + 481 + 574 + 645);
    // Locals whose address is taken may be on the pinned stack, which says nothing.
    if (known || !kHasPinnedStack) EXPECT_EQ(left, known);
  }
  weft_stack_request_handler.store(nullptr, std::memory_order_release);
}

__attribute__((noinline)) int ThrowOrAdd(int depth) {
  *GuardWord() = kGuardRequest;
  if (depth == 0) throw std::runtime_error("thrown");
  return ThrowOrAdd(depth - 1) + 1;
}

TEST(MorestackTest, ExceptionsPassThroughFramesThatEnteredByIt) {
  std::string what;
  RunOnSlot([&] {
    try {
      ThrowOrAdd(20);
    } catch (const std::exception& e) {
      what = e.what();
    }
  });
  EXPECT_EQ(what, "thrown");
}

// Calls that need more than any guard that the handler's stack could satisfy by chance.
volatile int calls = 0;
__attribute__((noinline)) int Deep(int n) {
  volatile char frame[300];
  frame[0] = 0;
  const int depth = n == 0 ? frame[0] : Deep(n - 1) + 1;
  calls = calls + 1;  // after the call, so that it is no loop
  return depth;
}

int handled = 0;
void Handle(int) { handled = Deep(10); }

// A signal stack somewhere in the address space, wanted below or above all slots.
class SignalStackAt {
 public:
  static constexpr size_t kSize = 256 * 1024;
  explicit SignalStackAt(uintptr_t where)
      : memory_(mmap(reinterpret_cast<void*>(where), kSize, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)) {
    stack_t stack{};
    stack.ss_sp = memory_;
    stack.ss_size = kSize;
    sigaltstack(&stack, &previous_);
  }
  ~SignalStackAt() {
    previous_.ss_flags &= SS_DISABLE;
    sigaltstack(&previous_, nullptr);
    munmap(memory_, kSize);
  }
  bool mapped() const { return memory_ != MAP_FAILED; }

 private:
  void* memory_;
  stack_t previous_{};
};

TEST(MorestackTest, AHandlerOnAnAlternateStackIsLeftAlone) {
  struct sigaction action{};
  action.sa_handler = Handle;
  action.sa_flags = SA_ONSTACK;
  struct sigaction previous;
  sigaction(SIGUSR1, &action, &previous);
  InstallOverflowHandler();
  // Below everything, where each check fails, and near the top of the address space.
  for (uintptr_t where : {uintptr_t{0x10000000}, uintptr_t{0x7ffd00000000}}) {
    SignalStackAt signal_stack(where);
    if (!signal_stack.mapped()) continue;
    for (bool requested : {false, true}) {
      handled = 0;
      uintptr_t after = 0;
      SlotCache cache;
      Task task(cache, [&](Task&) {
        if (requested) *GuardWord() = kGuardRequest;
        raise(SIGUSR1);
        after = *GuardWord();
      });
      while (task.Resume()) {
      }
      EXPECT_EQ(handled, 10);
      // The request was the goroutine's, and is for it to find.
      EXPECT_EQ(after,
                requested ? kGuardRequest : reinterpret_cast<uintptr_t>(task.context().guard));
    }
  }
  sigaction(SIGUSR1, &previous, nullptr);
}

TEST(MorestackTest, OffAGoroutineItReturnsAtOnce) {
  *GuardWord() = kGuardRequest;
  const int depth = Deep(10);
  const uintptr_t after = *GuardWord();
  *GuardWord() = 0;
  EXPECT_EQ(depth, 10);
  EXPECT_EQ(after, kGuardRequest);
}

// The beginning of a function as gold and lld rewrite it; rdi is the size of its frame.
extern "C" int weft_test_non_split(size_t frame);
asm(R"(
        .text
        .type weft_test_non_split, @function
weft_test_non_split:
        .cfi_startproc
        movq %rdi, %r10
        xorl %r11d, %r11d
        call __morestack_non_split
        ret
        movl $1, %eax
        ret
        .cfi_endproc
        .size weft_test_non_split, . - weft_test_non_split
)");

TEST(MorestackTest, RewrittenProloguesGoOnToo) {
  // Off a goroutine, however large.
  EXPECT_EQ(weft_test_non_split(64), 1);
  EXPECT_EQ(weft_test_non_split(size_t{1} << 40), 1);
  int with_room = 0;
  int requested = 0;
  uintptr_t after = 0;
  RunOnSlot([&] {
    with_room = weft_test_non_split(64);
    *GuardWord() = kGuardRequest;
    requested = weft_test_non_split(64);
    after = *GuardWord();
  });
  EXPECT_EQ(with_room, 1);
  EXPECT_EQ(requested, 1);
  EXPECT_NE(after, kGuardRequest);
}

TEST(MorestackDeathTest, RewrittenProloguesMeetTheLimitToo) {
  EXPECT_EXIT(
      {
        InstallOverflowHandler();
        RunOnSlot([] { weft_test_non_split(size_t{2} << 30); });
      },
      testing::ExitedWithCode(2), "fatal error: stack overflow");
}

// Ten arguments: some go through the stack, right below what the array got.
__attribute__((noinline)) int64_t Sum(volatile int64_t* array, int64_t n, int64_t a, int64_t b,
                                      int64_t c, int64_t d, int64_t e, int64_t f, int64_t g,
                                      int64_t h) {
  int64_t sum = a + b + c + d + e + f + g + h;
  for (int64_t i = 0; i < n; ++i) sum += array[i];
  return sum;
}

#if defined(__clang__)
#define MACHINE_STACK __attribute__((no_sanitize("safe-stack")))
#else
#define MACHINE_STACK
#endif

// A variable-length array on the machine stack, made while there is a request in the guard word.
MACHINE_STACK __attribute__((noinline)) int64_t UseArray(int64_t n, bool* aligned) {
  int64_t total = 0;
  for (int round = 1; round <= 3; ++round) {
    *GuardWord() = kGuardRequest;
    auto* array = static_cast<volatile int64_t*>(__builtin_alloca(n * sizeof(int64_t)));
    *aligned = *aligned && reinterpret_cast<uintptr_t>(array) % 16 == 0;
    for (int64_t i = 0; i < n; ++i) array[i] = round;
    *GuardWord() = kGuardRequest;
    total += Sum(array, n, 1, 1, 1, 1, 1, 1, 1, 1);
    // What the call's own arguments and frame may not have written over.
    for (int64_t i = 0; i < n; ++i) total += array[i] == round ? 0 : 1000000;
  }
  return total;
}

TEST(MorestackTest, VariableArraysGetRoomUnderARequest) {
  for (int64_t n : {1, 2, 7, 100, 1001}) {
    int64_t total = 0;
    bool aligned = true;
    RunOnSlot([&] { total = UseArray(n, &aligned); });
    EXPECT_EQ(total, 6 * n + 24);
    EXPECT_TRUE(aligned);
    // And on a thread's own stack.
    total = UseArray(n, &aligned);
    *GuardWord() = 0;
    EXPECT_EQ(total, 6 * n + 24);
  }
}

TEST(MorestackDeathTest, AnArrayPastTheLimitIsAnOverflow) {
  bool aligned = true;
  EXPECT_EXIT(
      {
        InstallOverflowHandler();
        ThreadSignalStack signal_stack;
        signal_stack.Install();
        SetMaxStack(1 << 20);
        RunOnSlot([&] { UseArray(1 << 18, &aligned); });
      },
      testing::ExitedWithCode(2),
      "stack exceeds [0-9]+-byte limit(.|\n)*fatal error: stack overflow");
}

TEST(MorestackDeathTest, WithoutASignalStackTheLimitIsReportedFromTheRoomBelowIt) {
  EXPECT_EXIT(
      {
        InstallOverflowHandler();
        SetMaxStack(1 << 20);
        RunOnSlot([] { Deep(1 << 30); });
      },
      testing::ExitedWithCode(2), "fatal error: stack overflow(.|\n)*Deep");
}

#endif  // WEFT_HAS_GUARD_WORD

}  // namespace
}  // namespace weft::stack
