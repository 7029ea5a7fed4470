#include "stack/overflow.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "stack/arch.h"
#include "stack/internal/task.h"
#include "stack/slots.h"
#include "stack/traceback.h"

namespace weft::stack {
namespace {

using testing::ExitedWithCode;

// What comes after each recursive call, so that none of them is a tail call.
volatile int64_t sink = 0;

__attribute__((noinline)) int64_t Recurse(int64_t depth) {
  const int64_t below = depth == 0 ? 0 : Recurse(depth - 1);
  sink = below;
  return below + 1;
}

#if WEFT_HAS_PINNED_STACK
// A kilobyte of locals whose address escapes: on the pinned stack.
__attribute__((noinline)) void Fill(volatile char* bytes, size_t size) {
  for (size_t i = 0; i < size; i += 64) bytes[i] = static_cast<char>(i);
}
__attribute__((noinline)) int64_t RecurseWithLocals(int64_t depth) {
  volatile char locals[1024];
  Fill(locals, sizeof locals);
  const int64_t below = depth == 0 ? 0 : RecurseWithLocals(depth - 1);
  return below + locals[64];
}
#endif

// A frame larger than the usual guard page.
__attribute__((noinline)) int64_t RecurseInStrides(int64_t depth) {
  volatile char locals[60000];
  locals[0] = static_cast<char>(depth);
  const int64_t below = depth == 0 ? 0 : RecurseInStrides(depth - 1);
  return below + locals[0];
}

// What this thread does from now on is no error to Valgrind: it has a fault on purpose.
void SilenceValgrind() {
  constexpr uintptr_t kChangeErrorDisablement = 0x1801;  // by valgrind.h of its distribution
  ValgrindRequest(kChangeErrorDisablement, 1, 0);
}

__attribute__((noinline, no_sanitize("undefined"))) void StoreTo(volatile int* address) {
  *address = 1;
}
__attribute__((noinline)) void FaultAt(uintptr_t address) {
  SilenceValgrind();
  // Volatile: a compiler that knows the address to be null makes a trap of the store.
  volatile uintptr_t where = address;
  StoreTo(reinterpret_cast<volatile int*>(where));
  sink = 1;
}

void OnSlotOfAThread(const std::function<void()>& body) {
  InstallOverflowHandler();
  std::thread([&] {
    ThreadSignalStack signal_stack;
    if (!signal_stack.Install()) _exit(99);
    RunOnSlot(body);
  }).join();
  _exit(0);
}

constexpr int64_t kEndless = int64_t{1} << 40;

TEST(OverflowDeathTest, EndlessRecursionIsReportedAsGoDoes) {
  SetMaxStack(1 << 20);
  const std::string limit = kHasPinnedStack ? "1048576" : kHasGuardWord ? "196608" : "262144";
  EXPECT_EXIT(OnSlotOfAThread([] { Recurse(kEndless); }), ExitedWithCode(2),
              "^runtime: goroutine stack exceeds " + limit +
                  "-byte limit\n"
                  "runtime: sp=0x[0-9a-f]+ stack=\\[0x[0-9a-f]+, 0x[0-9a-f]+\\]\n"
                  "fatal error: stack overflow\n"
                  "\n"
                  "thread [0-9]+ \\[running\\]:\n");
  SetMaxStack(size_t{1} << 30);
}

TEST(OverflowDeathTest, TheTraceShowsBothEndsOfTheStack) {
  SetMaxStack(1 << 20);
  EXPECT_EXIT(OnSlotOfAThread([] { Recurse(kEndless); }), ExitedWithCode(2),
              "Recurse\\(\\.\\.\\.\\)\n\t/[^\n]*overflow_test \\+0x[0-9a-f]+\n"
              "(.|\n)*\\.\\.\\.[0-9]+ frames elided\\.\\.\\.\n"
              "(.|\n)*Task::Run\\(\\.\\.\\.\\)");
  SetMaxStack(size_t{1} << 30);
}

// As in a function of a library that never looks at the guard.
__attribute__((noinline)) int64_t Unaware(int64_t (*function)(int64_t)) {
  return function(kEndless) + sink;
}

TEST(OverflowDeathTest, AFrameThatSkipsAPageIsSeen) {
  EXPECT_EXIT(OnSlotOfAThread([] { Unaware(RecurseInStrides); }), ExitedWithCode(2),
              "fatal error: stack overflow");
}

TEST(OverflowDeathTest, OverflowOnAnyThreadThatHasASignalStack) {
  EXPECT_EXIT(
      {
        InstallOverflowHandler();
        ThreadSignalStack signal_stack;
        signal_stack.Install();
        SetMaxStack(1 << 20);
        RunOnSlot([] { Recurse(kEndless); });
      },
      ExitedWithCode(2), "fatal error: stack overflow");
}

#if WEFT_HAS_PINNED_STACK
TEST(OverflowDeathTest, ThePinnedStackIsNamedWhenItOverflows) {
  EXPECT_EXIT(OnSlotOfAThread([] { RecurseWithLocals(kEndless); }), ExitedWithCode(2),
              "^runtime: goroutine pinned stack exceeds 262144-byte limit\n"
              "runtime: sp=0x[0-9a-f]+ stack=\\[0x[0-9a-f]+, 0x[0-9a-f]+\\]\n"
              "fatal error: stack overflow\n(.|\n)*RecurseWithLocals");
}

TEST(OverflowTest, AStackGrowsInPlaceToAHundredMegabytes) {
  int64_t depth = 0;
  RunOnSlot([&] {
    // Each frame takes at least the return address, the frame pointer and a saved register.
    depth = Recurse((100 << 20) / 24);
  });
  EXPECT_EQ(depth, (100 << 20) / 24 + 1);
  TrimIdle(absl::ZeroDuration());
}

TEST(OverflowDeathTest, TheDefaultLimitIsAGibibyte) {
  // In strides, so as not to fill a gibibyte of memory.
  EXPECT_EXIT(OnSlotOfAThread([] { RecurseInStrides(kEndless); }), ExitedWithCode(2),
              "runtime: goroutine stack exceeds 1073741824-byte limit");
}
#endif

TEST(OverflowDeathTest, ANullPointerOnAGoroutineIsAFault) {
  if (WEFT_ASAN || WEFT_TSAN) GTEST_SKIP() << "the sanitizer reports it";
  EXPECT_EXIT(OnSlotOfAThread([] { FaultAt(0); }), ExitedWithCode(2),
              "^unexpected fault address 0x0\n"
              "fatal error: fault\n"
              "\\[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x[0-9a-f]+\\]\n"
              "\n"
              "thread [0-9]+ \\[running\\]:\n"
              ".*StoreTo\\(\\.\\.\\.\\)\n(.|\n)*FaultAt\\(\\.\\.\\.\\)");
}

// A function that keeps no frame pointer and has something else in its register, and faults.
extern "C" void weft_test_fault_without_frame();
asm(R"(
        .text
        .type weft_test_fault_without_frame, @function
weft_test_fault_without_frame:
        pushq %rbp
        subq $64, %rsp
        leaq 24(%rsp), %rbp
        movq $0x1234, 0(%rbp)
        movq $0x5678, 8(%rbp)
        movl $1, 16
        addq $64, %rsp
        popq %rbp
        ret
        .size weft_test_fault_without_frame, . - weft_test_fault_without_frame
)");
__attribute__((noinline)) void CallFaulting() {
  SilenceValgrind();
  weft_test_fault_without_frame();
  sink = 1;
}

TEST(OverflowDeathTest, TheTraceGoesOnAboveCodeWithoutFramePointers) {
  if (WEFT_ASAN || WEFT_TSAN) GTEST_SKIP() << "the sanitizer reports it";
  EXPECT_EXIT(
      OnSlotOfAThread([] { CallFaulting(); }), ExitedWithCode(2),
      "^unexpected fault address 0x10\n(.|\n)*weft_test_fault_without_frame\\(\\.\\.\\.\\)\n"
      "(.|\n)*CallFaulting\\(\\.\\.\\.\\)\n(.|\n)*Task::Run\\(\\.\\.\\.\\)");
}

TEST(OverflowDeathTest, AnotherSlotsGuardIsAFaultAndNoOverflow) {
  if (WEFT_ASAN || WEFT_TSAN) GTEST_SKIP() << "the sanitizer reports it";
  EXPECT_EXIT(OnSlotOfAThread([] {
                SlotCache cache;
                Slot* slot = Acquire(cache, DefaultSizeClass());
                FaultAt(reinterpret_cast<uintptr_t>(slot->lo) - 64);
              }),
              ExitedWithCode(2), "^unexpected fault address 0x[0-9a-f]+c0\nfatal error: fault");
}

TEST(OverflowDeathTest, ABusErrorIsAFault) {
  if (WEFT_ASAN || WEFT_TSAN) GTEST_SKIP() << "the sanitizer reports it";
  EXPECT_EXIT(OnSlotOfAThread([] {
                // A page of a file beyond its end.
                const int fd = memfd_create("empty", 0);
                void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                FaultAt(reinterpret_cast<uintptr_t>(page));
              }),
              ExitedWithCode(2), "\\[signal SIGBUS: bus error code=0x2 addr=0x[0-9a-f]+ pc=");
}

TEST(OverflowDeathTest, AFaultOnAPlainThreadIsReportedToo) {
  if (WEFT_ASAN || WEFT_TSAN) GTEST_SKIP() << "the sanitizer reports it";
  EXPECT_EXIT(
      {
        signal(SIGSEGV, SIG_DFL);  // ubsan has one of its own, which would get it
        InstallOverflowHandler();
        FaultAt(16);
      },
      ExitedWithCode(2), "^unexpected fault address 0x10\nfatal error: fault\n(.|\n)*FaultAt");
}

void ExitWithThree(int, siginfo_t*, void*) { _exit(3); }

void InstallOnesOwnHandler() {
  struct sigaction action{};
  action.sa_sigaction = ExitWithThree;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  InstallOverflowHandler();
}

#if WEFT_HAS_PINNED_STACK
extern "C" thread_local void* __safestack_unsafe_stack_ptr;

// As on a thread that is being born.
__attribute__((no_sanitize("safe-stack"))) void FaultWithoutPinnedStack() {
  InstallOverflowHandler();
  SilenceValgrind();
  __safestack_unsafe_stack_ptr = nullptr;
  StoreTo(reinterpret_cast<volatile int*>(sink));
}

TEST(OverflowDeathTest, AFaultOnAThreadWithoutAPinnedStackIsReportedToo) {
  sink = 0;
  EXPECT_EXIT(FaultWithoutPinnedStack(), ExitedWithCode(2), "unexpected fault address 0x0");
}
#endif

TEST(OverflowDeathTest, AnEarlierHandlerGetsTheFaultsOfPlainThreads) {
  EXPECT_EXIT(
      {
        InstallOnesOwnHandler();
        FaultAt(16);
      },
      ExitedWithCode(3), "");
}

TEST(OverflowDeathTest, AnEarlierHandlerDoesNotGetOverflows) {
  EXPECT_EXIT(
      {
        InstallOnesOwnHandler();
        SetMaxStack(1 << 20);
        OnSlotOfAThread([] { Recurse(kEndless); });
      },
      ExitedWithCode(2), "stack overflow");
}

// Not dprintf, which allocates: hooks are called in signal handlers.
bool Say(int fd, const std::string_view text) {
  return write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

TEST(OverflowDeathTest, TheHooksTellWhoseTraceItIs) {
  EXPECT_EXIT(
      {
        SetTraceHooks({
            .header = [](int fd) { Say(fd, "goroutine 7 [running]:\n"); },
            .trailer = [](int fd) { Say(fd, "created by nobody\n"); },
            .claim_fatal_report = [] { return Say(STDERR_FILENO, "claimed\n"); },
        });
        SetMaxStack(1 << 20);
        OnSlotOfAThread([] { Recurse(kEndless); });
      },
      ExitedWithCode(2),
      "^claimed\nruntime: (.|\n)*\n\ngoroutine 7 \\[running\\]:\n(.|\n)*\ncreated by nobody\n$");
}

// Installs one and takes it away again.
void ExpectThatItPutsBack(const stack_t& before) {
  {
    ThreadSignalStack signal_stack;
    ASSERT_TRUE(signal_stack.Install());
    stack_t during{};
    sigaltstack(nullptr, &during);
    EXPECT_NE(during.ss_sp, before.ss_sp);
    EXPECT_EQ(during.ss_flags, 0);
    EXPECT_GE(during.ss_size, 64u * 1024);
    EXPECT_TRUE(signal_stack.Install());
  }
  stack_t after{};
  sigaltstack(nullptr, &after);
  EXPECT_EQ(after.ss_flags, before.ss_flags);
  if (before.ss_flags == SS_DISABLE) return;  // the rest says nothing
  EXPECT_EQ(after.ss_sp, before.ss_sp);
  EXPECT_EQ(after.ss_size, before.ss_size);
}

TEST(ThreadSignalStackTest, PutsBackWhatTheThreadHad) {
  std::thread([] {
    const stack_t none = {.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
    sigaltstack(&none, nullptr);
    ExpectThatItPutsBack(none);

    std::vector<char> bytes(size_t{64} * 1024);
    const stack_t own = {.ss_sp = bytes.data(), .ss_flags = 0, .ss_size = bytes.size()};
    sigaltstack(&own, nullptr);
    ExpectThatItPutsBack(own);
    sigaltstack(&none, nullptr);
  }).join();
}

}  // namespace
}  // namespace weft::stack
