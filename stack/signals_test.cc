// A signal after every single instruction of what leaves stacks and comes back to them. Its handler
// runs on the stack that it interrupts, and needs of it what any other function may need.
#include <signal.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "stack/grow.h"
#include "stack/internal/memcheck.h"
#include "stack/internal/resident_task.h"
#include "stack/internal/task.h"
#include "stack/morestack.h"
#include "stack/overflow.h"
#include "stack/segment.h"
#include "stack/slots.h"
#include "stack/traceback.h"

namespace weft::stack {
namespace {

#if WEFT_HAS_GUARD_WORD && defined(__x86_64__)

#define NOINLINE __attribute__((noinline))

// While this thread's trap flag is set, SIGTRAP follows each instruction, but for those of the
// handler. (A step takes some 70 us where the machine is a virtual one: a few thousand will do.)
// What is written lies below the red zone.
NOINLINE void BeginSteps() {
  asm volatile(
      "leaq -128(%%rsp), %%rsp\n\tpushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\tleaq 128(%%rsp), "
      "%%rsp" ::
          : "memory", "cc");
}
NOINLINE void EndSteps() {
  asm volatile(
      "leaq -128(%%rsp), %%rsp\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq\n\tleaq 128(%%rsp), "
      "%%rsp" ::
          : "memory", "cc");
}

// Frames of half a KiB, so that few are walked. The first word is at a known place: the frame may
// be moved.
constexpr int kWords = 64;

volatile int64_t zero = 0;

NOINLINE int64_t Deep(int64_t n) {
  volatile int64_t mine[kWords];
  mine[0] = n;
  const int64_t below = n == 0 ? 0 : Deep(n - 1);
  return below + mine[0] + zero;
}
int64_t SumTo(int64_t n) { return n * (n + 1) / 2; }

// What the handler does.
enum class Handler {
  kFindsARequest,   // in the guard word, as from a monitor that wants the thread to yield
  kNeedsMoreStack,  // than there is where stacks are small
  kTakesASample,    // as a profiler does
};
Handler handler;
volatile int64_t signals = 0;
volatile int64_t wrong = 0;
// Whose samples, and of how many frames at least.
const Context* sampled = nullptr;
size_t sampled_frames = 0;

NOINLINE void TakeSample(const ucontext_t& interrupted) {
  Trace trace;
  GetSampledTrace(InterruptedState(interrupted), *sampled, trace);
  if (trace.count + trace.elided < sampled_frames) wrong = wrong + 1;
}

void OnStep(int, siginfo_t*, void* context) {
  signals = signals + 1;
  if (handler == Handler::kTakesASample) {
    TakeSample(*static_cast<const ucontext_t*>(context));
    return;
  }
  if (handler == Handler::kFindsARequest) *GuardWord() = kGuardRequest;
  const int64_t depth = handler == Handler::kFindsARequest ? signals % 4 : 12;
  if (Deep(depth) != SumTo(depth)) wrong = wrong + 1;
}

class SignalsTest : public ::testing::TestWithParam<Handler> {
 protected:
  void SetUp() override {
    if (internal::under_valgrind) GTEST_SKIP() << "it runs no code by single steps";
    handler = GetParam();
    signals = 0;
    wrong = 0;
    struct sigaction action{};
    action.sa_sigaction = OnStep;
    action.sa_flags = SA_SIGINFO;
    ASSERT_EQ(sigaction(SIGTRAP, &action, &previous_), 0);
  }
  void TearDown() override {
    sigaction(SIGTRAP, &previous_, nullptr);
    EXPECT_EQ(wrong, 0);
  }

 private:
  struct sigaction previous_{};
};

std::string NameOf(const ::testing::TestParamInfo<Handler>& tested) {
  constexpr std::array<const char*, 3> kNames = {"FindsARequest", "NeedsMoreStack", "TakesASample"};
  return kNames.at(static_cast<size_t>(tested.param));
}
INSTANTIATE_TEST_SUITE_P(, SignalsTest,
                         ::testing::Values(Handler::kFindsARequest, Handler::kNeedsMoreStack,
                                           Handler::kTakesASample),
                         NameOf);

TEST_P(SignalsTest, WhileOneStackIsLeftForAnother) {
  int64_t sum = 0;
  SlotCache cache;
  Task task(cache, [&sum](Task& self) {
    sampled = weft_current_context;
    sampled_frames = 1;
    for (int64_t i = 1; i <= 3; ++i) {
      BeginSteps();
      self.Pause();
      EndSteps();
      sum += i;
    }
  });
  SetThreadContext(&task.thread_context());
  // Where the body ends its steps, those of the thread end as well.
  while (task.Resume()) {
  }
  SetThreadContext(nullptr);
  EXPECT_EQ(sum, 6);
  EXPECT_GT(signals, 100);
}

// Recursions that end in several ways: true when they have ended as they should.
using Recursion = bool (*)(int64_t frames);

NOINLINE bool Returns(int64_t frames) { return Deep(frames) == SumTo(frames); }

// It never returns, which GCC must not know: it would take who calls it for endless recursion.
NOINLINE int64_t Throw() {
  if (zero == 0) throw std::runtime_error("at the end");
  return 0;
}
NOINLINE int64_t ThrowBelow(int64_t n) {
  volatile int64_t mine[kWords];
  mine[0] = n;
  return (n == 0 ? Throw() : ThrowBelow(n - 1)) + mine[0];
}
NOINLINE bool Throws(int64_t frames) {
  try {
    ThrowBelow(frames);
  } catch (const std::runtime_error&) {
    return true;
  }
  return false;
}

std::jmp_buf target;
NOINLINE int64_t JumpBelow(int64_t n) {
  volatile int64_t mine[kWords];
  mine[0] = n;
  if (n == zero) std::longjmp(target, 1);
  return (n == 0 ? 0 : JumpBelow(n - 1)) + mine[0];
}
NOINLINE bool Jumps(int64_t frames) {
  if (setjmp(target) != 0) return true;
  JumpBelow(frames);
  return false;
}

// Has a recursion of `frames` begin below so many others, with signals or without.
NOINLINE bool RecurseBelow(int64_t above, Recursion recursion, int64_t frames, bool steps) {
  volatile int64_t mine[kWords];
  mine[0] = above;
  bool result = false;
  if (above > 0) {
    result = RecurseBelow(above - 1, recursion, frames, steps);
  } else {
    if (steps) BeginSteps();
    result = recursion(frames);
    if (steps) EndSteps();
  }
  return result && mine[0] == above;
}

// Has the recursion, of so many frames, come to the end of the stack by single steps, and past it;
// so many times, each from one frame further away. `times_grown` tells how often stacks have grown.
void StepOverTheEnd(SizeClass size_class, Recursion recursion, int64_t frames, int64_t times,
                    uint64_t (*times_grown)()) {
  const auto grows_below = [&](int64_t above, bool steps) {
    const uint64_t before = times_grown();
    bool as_it_should = false;
    RunAsResident(
        [&] {
          sampled = weft_current_context;
          sampled_frames = static_cast<size_t>(above);
          as_it_should = RecurseBelow(above, recursion, frames, steps);
        },
        size_class);
    EXPECT_TRUE(as_it_should) << "below " << above;
    return times_grown() > before;
  };
  int64_t above = 1;
  while (!grows_below(above, false) && above < 10'000) ++above;
  ASSERT_GT(above, 10);
  // The handler has it grow earlier; or later, where it does so by moving: a stack that has just
  // stayed, because of a handler's frame, is not asked again at once.
  int grown = 0;
  for (int64_t i = 0; i < times; ++i) {
    signals = 0;
    if (grows_below(above + 1 - i, true)) ++grown;
    EXPECT_GT(signals, 100);
  }
  EXPECT_GT(grown, 0);
}

uint64_t Links() { return GetSegmentStats().links; }

// Has the next stack of 64 KiB lie far below the segments on which it goes on, further than stacks
// may be large: who takes the end of the one for that of the other finds it too large.
void PutSegmentsFarAbove() {
  ReleaseFreeSegments();
  SlotCache cache;
  std::vector<Slot*> slots;
  while (slots.size() < 64) slots.push_back(Acquire(cache, SizeClass::k64KiB));
  std::sort(slots.begin(), slots.end(), [](const Slot* a, const Slot* b) { return a->lo > b->lo; });
  // Those that went back last are the first to be used again, half a cache at a time.
  for (Slot* slot : slots) {
    Release(cache, slot);
    Drain(cache);
  }
  SetMaxStack(1 << 20);
}

void StepOverTheEndOfSegment(Recursion recursion, int64_t times) {
  InstallOverflowHandler();
  PutSegmentsFarAbove();
  StepOverTheEnd(SizeClass::k64KiB, recursion, 4, times, Links);
  SetMaxStack(1 << 30);
}

uint64_t Growths() { return GetGrowStats().growths; }

TEST_P(SignalsTest, WhileASegmentIsEnteredAndLeft) { StepOverTheEndOfSegment(Returns, 3); }

TEST_P(SignalsTest, WhileASegmentIsLeftByAnException) { StepOverTheEndOfSegment(Throws, 1); }

TEST_P(SignalsTest, WhileASegmentIsLeftByAJump) { StepOverTheEndOfSegment(Jumps, 3); }

TEST_P(SignalsTest, WhileAStackGrowsByBeingCopied) {
  if (!kMayMove) GTEST_SKIP() << "stacks do not move in this build";
  SetStackGrowth(Growth::kCopy);
  StepOverTheEnd(SizeClass::kFirstCopy, Returns, 24, 4, Growths);
}

#else

TEST(SignalsTest, NoFunctionLooksForTheEndOfItsStack) { EXPECT_FALSE(kHasGuardWord); }

#endif

}  // namespace
}  // namespace weft::stack
