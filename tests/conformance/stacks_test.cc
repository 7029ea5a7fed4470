// What Go's tests assert of its stacks: ST-01, 02, 04, 05, 07, 08, 10. What a goroutine's stack
// does while it waits for a channel is in tests/stacks/channels_test.cc (CH-25, SE-21).
#include <unwind.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sched/clock.h"
#include "sched/goroutine.h"
#include "sched/sync/testing.h"
#include "sched/sync/wait_group.h"
#include "sched/timer.h"
#include "sched/waiter.h"
#include "stack/mode.h"
#include "tests/rounds.h"
#include "tests/stacks/torture.h"
#include "tests/subprocess.h"

namespace weft {
namespace {

using testing::Depth;
using ::testing::HasSubstr;
using testing::kLargeStack;
using testing::OnGoroutines;
using testing::ProcessResult;
using testing::Rounds;
using testing::RunProcess;
using ::testing::StartsWith;
using testing::UseStack;

class StackConformance : public testing::OverProcsTest {};
INSTANTIATE_TEST_SUITE_P(, StackConformance, testing::OverProcs(), testing::ProcsName);

int Deepest() { return Depth(Rounds(1023, 127)); }

// Tells its caller how deep it is through the pointer, and wants to be told by its callee. Returns
// how many frames heard something else.
[[gnu::noinline]] int TellDepth(int64_t* told, int depth) {
  *told = depth;
  if (depth == 0) return 0;
  int64_t heard = -1;
  const int wrong = TellDepth(&heard, depth - 1);
  return wrong + (heard == depth - 1 ? 0 : 1);
}

int TellEveryDepth() {
  int wrong = 0;
  for (int depth = 0; depth <= Deepest(); ++depth) {
    int64_t heard = -1;
    wrong += TellDepth(&heard, depth) + (heard == depth ? 0 : 1);
  }
  return wrong;
}

TEST_P(StackConformance, ST01_EachFrameKeepsWhatItsCalleeWrites) {
  OnGoroutines([](int) { EXPECT_EQ(TellEveryDepth(), 0); }, 2);
}

TEST_P(StackConformance, ST01_LockedToAThread) {
  OnGoroutines(
      [](int) {
        LockOSThread();
        EXPECT_EQ(TellEveryDepth(), 0);
        UnlockOSThread();
      },
      2);
}

// On the scheduler's stack: what comes nearest to a task of the runtime's own.
struct DepthTimer {
  DepthTimer() : timer(Fire) {}
  static void Fire(CallbackTimer& timer) {
    auto& self = reinterpret_cast<DepthTimer&>(timer);
    self.wrong.store(TellEveryDepth(), std::memory_order_relaxed);
    Waiter* const owner = self.owner;
    self.done.store(true, std::memory_order_release);
    owner->Unpark();
  }
  CallbackTimer timer;  // first
  Waiter* const owner = Waiter::Current();
  std::atomic<int> wrong{-1};
  std::atomic<bool> done{false};
};

TEST_P(StackConformance, ST01_InACallbackOfTheRuntime) {
  testing::RunOnGoroutine([] {
    DepthTimer callback;
    callback.timer.Start(Instant::Now());
    while (!callback.done.load(std::memory_order_acquire)) callback.owner->Park(WaitReason::kSleep);
    EXPECT_EQ(callback.wrong.load(), 0);
  });
}

[[gnu::noinline]] int CallAtDepth(absl::FunctionRef<int(int)> call, int depth, int deepest) {
  if (depth == deepest) return call(depth);
  return CallAtDepth(call, depth + 1, deepest) + testing::Opaque(0);
}

TEST_P(StackConformance, ST02_TheRuntimeCanBeCalledAtAnyDepth) {
  OnGoroutines(
      [](int) {
        const Chan<int> channel(1);
        std::unordered_map<int, int> squares;
        const auto call = [&](int depth) {
          channel.Send(depth);
          int sum = channel.Recv().value_or(-1);
          squares[depth % 10] = depth * depth;
          sum += squares[depth % 10] - depth * depth;
          Go([channel, depth] { channel.Send(2 * depth); });
          return sum + channel.Recv().value_or(-1);
        };
        for (int depth = 0; depth <= Deepest(); ++depth) {
          ASSERT_EQ(CallAtDepth(call, 0, depth), 3 * depth);
        }
      },
      2);
}

// Frames that an unwinder sees, from here to the end of the stack.
[[gnu::noinline]] int CountFrames() {
  int frames = 0;
  _Unwind_Backtrace(
      [](_Unwind_Context*, void* count) {
        ++*static_cast<int*>(count);
        return _URC_NO_REASON;
      },
      &frames);
  return frames;
}

// Throws from under `bytes` more of stack, catches that and goes on in the handler, `levels` times.
// Returns the frames at the deepest place.
[[gnu::noinline]] int ThrowBelow(int bytes, int levels);

// In frames of some 100 bytes, whatever the optimizer does.
[[gnu::noinline]] int ThrowAt(int bytes, int levels) {
  volatile int64_t a = bytes + 1, b = bytes + 2, c = bytes + 3, d = bytes + 4;
  volatile int64_t e = bytes + 5, f = bytes + 6, g = bytes + 7, h = bytes + 8;
  if (bytes < 100) throw std::runtime_error(std::to_string(levels));
  const int result = ThrowAt(bytes - 100, levels);
  return result + static_cast<int>(a + b + c + d + e + f + g + h);
}

int ThrowBelow(int bytes, int levels) {
  if (levels == 0) {
    UseStack(bytes);
    return CountFrames();
  }
  try {
    return ThrowAt(bytes, levels);
  } catch (const std::runtime_error& error) {
    EXPECT_EQ(error.what(), std::to_string(levels));
    UseStack(bytes);
    const int frames = ThrowBelow(bytes, levels - 1);
    EXPECT_EQ(error.what(), std::to_string(levels));
    return frames;
  }
}

[[gnu::noinline]] int ThrowBelowDepth(int depth, int bytes, int levels) {
  if (depth == 0) return ThrowBelow(bytes, levels) + testing::Opaque(0);
  return ThrowBelowDepth(depth - 1, bytes, levels) + testing::Opaque(0);
}

TEST_P(StackConformance, ST04_ErrorsInHandlersThatUseMuchStack) {
  OnGoroutines(
      [](int) {
        const int bytes = Depth(Rounds(150'000, 40'000));
        // A frame for each handler, and none of those that have thrown.
        const int frames = ThrowBelow(bytes, 0);
        for (int levels = 1; levels < 5; ++levels) {
          EXPECT_EQ(ThrowBelow(bytes, levels), frames + levels);
        }
      },
      Rounds(8, 2));
}

TEST_P(StackConformance, ST04_AStackThatThrowsFarUpCanBeWalked) {
  OnGoroutines(
      [](int) {
        const int depth = Depth(2000);
        // That many, one for the depth 0, and two handlers.
        const int frames = ThrowBelow(1000, 0);
        EXPECT_EQ(ThrowBelowDepth(depth, 1000, 2), frames + depth + 1 + 2);
      },
      Rounds(8, 2));
}

TEST_P(StackConformance, ST05_StacksOfAllSizesAreReused) {
  testing::RunOnGoroutine([] {
    const int goroutines = Rounds(200, 50);
    for (int round = 0; round < Rounds(4, 1); ++round) {
      WaitGroup all;
      all.Add(goroutines);
      std::atomic<int> frames{0};
      for (int i = 0; i < goroutines; ++i) {
        Go([&] {
          for (int kilobytes = 1; kilobytes <= 16; kilobytes *= 2) {
            frames.fetch_add(UseStack(kilobytes * 1000), std::memory_order_relaxed);
            Yield();
          }
          all.Done();
        });
      }
      all.Wait();
      EXPECT_EQ(frames.load(), goroutines * ((1 + 2 + 4 + 8 + 16) * 10 + 5));
    }
  });
}

// ST-08: numbers as chains of so many links, reckoned with by counting, a call for each one.
struct Number {
  const Number* less_one;
};

class Peano {
 public:
  const Number* Count(int n) {
    const Number* number = nullptr;
    for (int i = 0; i < n; ++i) number = Successor(number);
    return number;
  }
  [[gnu::noinline]] const Number* Add(const Number* a, const Number* b) {
    return b == nullptr ? a : Successor(Add(a, b->less_one));
  }
  [[gnu::noinline]] const Number* Multiply(const Number* a, const Number* b) {
    return a == nullptr || b == nullptr ? nullptr : Add(Multiply(a, b->less_one), a);
  }
  [[gnu::noinline]] const Number* Factorial(const Number* n) {
    return n == nullptr ? Count(1) : Multiply(n, Factorial(n->less_one));
  }
  [[gnu::noinline]] static int64_t Value(const Number* n) {
    return n == nullptr ? 0 : Value(n->less_one) + 1;
  }

 private:
  const Number* Successor(const Number* n) {
    if (used_ == kBlock) {
      blocks_.emplace_back(kBlock);
      used_ = 0;
    }
    Number* const next = &blocks_.back()[used_++];
    next->less_one = n;
    return next;
  }

  static constexpr size_t kBlock = 1 << 16;
  std::vector<std::vector<Number>> blocks_;
  size_t used_ = kBlock;
};

TEST_P(StackConformance, ST08_FactorialsByCounting) {
  const int most = Depth(1000) < 1000 ? 5 : Rounds(9, 7);
  OnGoroutines(
      [most](int) {
        Peano peano;
        int64_t expected = 1;
        for (int n = 0; n <= most; ++n) {
          if (n > 0) expected *= n;
          EXPECT_EQ(Peano::Value(peano.Factorial(peano.Count(n))), expected);
        }
      },
      1);
}

ProcessResult RunProgram(const std::string& name, int procs) {
  std::vector<std::string> env = {absl::StrCat("WEFTMAXPROCS=", procs)};
  const char* const debug = std::getenv("WEFTDEBUG");
  if (debug != nullptr) env.push_back(absl::StrCat("WEFTDEBUG=", debug));
  return RunProcess({"tests/conformance/program", name}, {.env = env});
}

TEST_P(StackConformance, ST07_EndlessRecursionIsReported) {
  const ProcessResult r = RunProgram("overflow", GetParam());
  // Where stacks do not grow it is the slot's size.
  const char* const limit = stack::kHasGuardWord ? "1474560" : "262144";
  EXPECT_THAT(
      r.err, StartsWith(absl::StrCat("runtime: goroutine stack exceeds ", limit, "-byte limit\n")));
  EXPECT_THAT(r.err, HasSubstr("runtime: sp="));
  EXPECT_THAT(r.err, HasSubstr("stack=["));
  EXPECT_THAT(r.err, HasSubstr("fatal error: stack overflow"));
  EXPECT_EQ(r.exit_status, 2);
}

TEST_P(StackConformance, ST10_ErrorsAreWrappedAndCaughtAndTheLastOneIsReported) {
  const ProcessResult r = RunProgram("recursive-panic", GetParam());
  EXPECT_THAT(r.out, HasSubstr("wrap: bad\n"));
  EXPECT_THAT(r.err, HasSubstr("panic: again"));
  EXPECT_EQ(r.exit_status, 2);
}

}  // namespace
}  // namespace weft
