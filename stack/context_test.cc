#include "stack/context.h"

#include <sys/mman.h>
#include <unwind.h>

#include <cfenv>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/rounds.h"

namespace weft::stack {
namespace {

// A context on a stack of its own, with no help from slots.
class Fiber {
 public:
  static constexpr size_t kSize = 256 * 1024;

  explicit Fiber(std::function<void(Fiber&)> body, void* guard = nullptr)
      : body_(std::move(body)), stack_(Map()), pinned_(Map()) {
    MakeContext(context, stack_, stack_ + kSize, pinned_, pinned_ + kSize, guard, Run, this);
  }
  ~Fiber() {
    DestroyContext(context);
    munmap(stack_, kSize);
    munmap(pinned_, kSize);
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void Resume() { Switch(thread, context); }
  void Pause() { Switch(context, thread); }
  bool OnStack(const void* p) const { return p >= stack_ && p < stack_ + kSize; }
  bool OnPinned(const void* p) const { return p >= pinned_ && p < pinned_ + kSize; }
  void Remake() {
    done = false;
    MakeContext(context, stack_, stack_ + kSize, pinned_, pinned_ + kSize, nullptr, Run, this);
  }

  Context thread;
  Context context;
  bool done = false;
  const void* entry_frame = nullptr;

 private:
  static char* Map() {
    return static_cast<char*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  }
  static void Run(void* arg) {
    auto* fiber = static_cast<Fiber*>(arg);
    fiber->entry_frame = __builtin_frame_address(0);
    fiber->body_(*fiber);
    fiber->done = true;
    SwitchFinal(fiber->context, fiber->thread);
  }

  std::function<void(Fiber&)> body_;
  char* const stack_;
  char* const pinned_;
};

TEST(ContextTest, RunsUntilItSwitchesBackAndGoesOnFromThere) {
  std::string log;
  Fiber fiber([&](Fiber& self) {
    log += "a";
    self.Pause();
    log += "b";
    self.Pause();
    log += "c";
  });
  log += "1";
  fiber.Resume();
  log += "2";
  fiber.Resume();
  log += "3";
  fiber.Resume();
  EXPECT_TRUE(fiber.done);
  EXPECT_EQ(log, "1a2b3c");
}

TEST(ContextTest, AnArrivalComesFirstOnTheStackThatWasSwitchedTo) {
  struct Log {
    Fiber* fiber = nullptr;
    std::string text;
    bool on_fiber = false;
    bool aligned = true;
    bool unwinds = true;
  } log;
  const auto arrive = [](void* a, void* b) {
    Log& l = *static_cast<Log*>(a);
    l.text += static_cast<const char*>(b);
    l.on_fiber = l.fiber->OnStack(__builtin_frame_address(0));
    l.aligned &= reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) % 16 == 0;
    // Through the switch, out to where its caller will go on, or to the base.
    size_t frames = 0;
    const auto count = [](_Unwind_Context*, void* n) {
      ++*static_cast<size_t*>(n);
      return _URC_NO_REASON;
    };
    l.unwinds &= _Unwind_Backtrace(count, &frames) == _URC_END_OF_STACK && frames >= 2;
  };
  Fiber fiber([&](Fiber& self) {
    EXPECT_TRUE(log.on_fiber);
    log.text += "a";
    SwitchTo(self.context, self.thread, arrive, &log, const_cast<char*>("2"));
    EXPECT_TRUE(log.on_fiber);
    log.text += "b";
    self.done = true;
    SwitchFinalTo(self.context, self.thread, arrive, &log, const_cast<char*>("4"));
  });
  log.fiber = &fiber;
  SwitchTo(fiber.thread, fiber.context, arrive, &log, const_cast<char*>("1"));
  EXPECT_FALSE(log.on_fiber);
  SwitchTo(fiber.thread, fiber.context, arrive, &log, const_cast<char*>("3"));
  EXPECT_FALSE(log.on_fiber);
  EXPECT_TRUE(fiber.done);
  EXPECT_EQ(log.text, "1a23b4");
  EXPECT_TRUE(log.aligned);
  EXPECT_TRUE(log.unwinds);
}

TEST(ContextTest, RunsOnItsOwnAlignedStack) {
  Fiber fiber([](Fiber&) {});
  fiber.Resume();
  EXPECT_TRUE(fiber.OnStack(fiber.entry_frame));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(fiber.entry_frame) % 16, 0u);
}

TEST(ContextTest, AnUnalignedTopIsAligned) {
  static bool aligned;
  static Context thread;
  static Context odd;
  std::vector<char> memory(256 * 1024);
  std::vector<char> pinned(64 * 1024);
  MakeContext(
      odd, memory.data(), memory.data() + memory.size() - 5, pinned.data(),
      pinned.data() + pinned.size(), nullptr,
      [](void*) {
        aligned = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) % 16 == 0;
        SwitchFinal(odd, thread);
      },
      nullptr);
  Switch(thread, odd);
  EXPECT_TRUE(aligned);
}

TEST(ContextTest, AFinishedContextCanBeMadeAnew) {
  int runs = 0;
  Fiber fiber([&](Fiber&) { ++runs; });
  for (int i = 0; i < 100; ++i) {
    fiber.Resume();
    EXPECT_TRUE(fiber.done);
    fiber.Remake();
  }
  EXPECT_EQ(runs, 100);
}

TEST(ContextTest, ManyContextsTakeTurns) {
  constexpr int kFibers = 300;
  constexpr int kRounds = 20;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<int> counts(kFibers);
  for (int i = 0; i < kFibers; ++i) {
    fibers.push_back(std::make_unique<Fiber>([&counts, i](Fiber& self) {
      // Across the switches: in callee-saved registers, most of it, or in frames.
      int a = i, b = i * 3, c = i * 5, d = i * 7;
      for (int round = 0; round < kRounds; ++round) {
        self.Pause();
        a += 1;
        b += 2;
        c += 3;
        d += 4;
      }
      counts[i] = a + b + c + d;
    }));
  }
  for (int round = 0; round <= kRounds; ++round) {
    for (auto& fiber : fibers) fiber->Resume();
  }
  for (int i = 0; i < kFibers; ++i) {
    EXPECT_TRUE(fibers[i]->done);
    EXPECT_EQ(counts[i], 16 * i + 10 * kRounds);
  }
}

TEST(ContextTest, GoesOnOnAnotherThread) {
  std::vector<std::thread::id> ids;
  Fiber fiber([&](Fiber& self) {
    for (int i = 0; i < 4; ++i) self.Pause();
  });
  fiber.Resume();
  for (int i = 0; i < 4; ++i) {
    std::thread([&] {
      ids.push_back(std::this_thread::get_id());
      fiber.Resume();
    }).join();
  }
  EXPECT_TRUE(fiber.done);
  EXPECT_EQ(ids.size(), 4u);
}

TEST(ContextTest, TheCurrentContextIsTheMadeOneSwitchedTo) {
  const Context* inside = nullptr;
  Fiber fiber([&](Fiber&) { inside = weft_current_context; });
  fiber.Resume();
  EXPECT_EQ(inside, &fiber.context);
  EXPECT_EQ(weft_current_context, nullptr);
}

// A quotient that the rounding mode decides, in SSE and in x87 arithmetic. The compiler takes the
// mode to be the default and the result to be always the same, but for what is volatile.
volatile double one = 1;
volatile long double minus_one = -1;
double Third() { return one / 3; }
long double LongThird() { return minus_one / 3; }

TEST(ContextTest, TheRoundingModeBelongsToTheContext) {
  const double nearest = Third();
  const long double long_nearest = LongThird();
  double upward = 0;
  long double long_upward = 0;
  int mode_elsewhere = -1;
  Fiber fiber([&](Fiber& self) {
    fesetround(FE_UPWARD);
    self.Pause();
    mode_elsewhere = fegetround();
    upward = Third();
    long_upward = LongThird();
    fesetround(FE_TONEAREST);
  });
  fiber.Resume();
  EXPECT_EQ(fegetround(), FE_TONEAREST);
  EXPECT_EQ(Third(), nearest);
  EXPECT_EQ(LongThird(), long_nearest);
  std::thread([&] {
    fiber.Resume();
    EXPECT_EQ(fegetround(), FE_TONEAREST);
  }).join();
  EXPECT_EQ(mode_elsewhere, FE_UPWARD);
  // Valgrind reckons with the default whatever the mode is.
  if (testing::UnderValgrind()) return;
  EXPECT_GT(upward, nearest);
  EXPECT_GT(long_upward, long_nearest);
}

TEST(ContextTest, EachOfTheControlWordsIsExchangedByItself) {
  constexpr uint32_t kSseDownward = 0x2000;
  constexpr uint16_t kX87Downward = 0x0400;
  const FpControl before = ReadFpControl();
  FpControl with_mxcsr, with_x87;
  Fiber mxcsr([&](Fiber& self) {
    const uint32_t value = kFpControlDefault.mxcsr | kSseDownward;
    asm volatile("ldmxcsr %0" ::"m"(value));
    self.Pause();
    with_mxcsr = ReadFpControl();
  });
  Fiber x87([&](Fiber& self) {
    const uint16_t value = kFpControlDefault.x87 | kX87Downward;
    asm volatile("fldcw %0" ::"m"(value));
    self.Pause();
    with_x87 = ReadFpControl();
  });
  for (Fiber* fiber : {&mxcsr, &x87, &mxcsr, &x87}) {
    fiber->Resume();
    EXPECT_EQ(ReadFpControl().mxcsr & kSseDownward, 0u);
    EXPECT_EQ(ReadFpControl().x87, before.x87);
  }
  EXPECT_EQ(with_mxcsr.mxcsr & kSseDownward, kSseDownward);
  EXPECT_EQ(with_mxcsr.x87, before.x87);
  EXPECT_EQ(with_x87.mxcsr & kSseDownward, 0u);
  EXPECT_EQ(with_x87.x87, kFpControlDefault.x87 | kX87Downward);
}

TEST(ContextTest, ANewContextStartsWithTheDefaultsWhateverTheThreadHas) {
  int mode = -1;
  Fiber fiber([&](Fiber&) { mode = fegetround(); });
  fesetround(FE_DOWNWARD);
  fiber.Resume();
  const int own = fegetround();
  fesetround(FE_TONEAREST);
  EXPECT_EQ(mode, FE_TONEAREST);
  EXPECT_EQ(own, FE_DOWNWARD);
}

TEST(ContextTest, AHeldControlWordIsRestoredWithoutBeingReadAgain) {
  Fiber fiber([&](Fiber& self) {
    fesetround(FE_UPWARD);
    self.Pause();
  });
  fesetround(FE_DOWNWARD);
  HoldFpControl(fiber.thread);
  fiber.Resume();
  const int after_first = fegetround();
  fiber.Resume();
  const int after_second = fegetround();
  fesetround(FE_TONEAREST);
  EXPECT_EQ(after_first, FE_DOWNWARD);
  EXPECT_EQ(after_second, FE_DOWNWARD);
}

struct CountsDestruction {
  int* count;
  ~CountsDestruction() { ++*count; }
};

__attribute__((noinline)) int ThrowAtDepth(int depth, int* destroyed) {
  CountsDestruction counter{destroyed};
  if (depth == 0) throw std::runtime_error("deep");
  return ThrowAtDepth(depth - 1, destroyed) + 1;
}

TEST(ContextTest, ExceptionsAreThrownAndCaughtOnIt) {
  int destroyed = 0;
  std::string what;
  Fiber fiber([&](Fiber& self) {
    try {
      ThrowAtDepth(30, &destroyed);
    } catch (const std::exception& e) {
      what = e.what();
    }
    self.Pause();
    try {
      try {
        ThrowAtDepth(3, &destroyed);
      } catch (...) {
        throw;
      }
    } catch (const std::runtime_error&) {
      what += " again";
    }
  });
  fiber.Resume();
  EXPECT_EQ(what, "deep");
  EXPECT_EQ(destroyed, 31);
  fiber.Resume();
  EXPECT_EQ(what, "deep again");
  EXPECT_EQ(destroyed, 35);
}

TEST(ContextTest, UnwindersStopAtItsBase) {
  int frames = 0;
  _Unwind_Reason_Code code = _URC_NO_REASON;
  Fiber fiber([&](Fiber&) {
    code = _Unwind_Backtrace(
        [](_Unwind_Context*, void* count) {
          // Far more than there are: a walk that did not stop would go on for ever.
          return ++*static_cast<int*>(count) > 100 ? _URC_NORMAL_STOP : _URC_NO_REASON;
        },
        &frames);
  });
  fiber.Resume();
  EXPECT_EQ(code, _URC_END_OF_STACK);
  EXPECT_GT(frames, 1);
  EXPECT_LT(frames, 20);
}

TEST(ContextTest, TheChainOfFramePointersEndsInNull) {
  int frames = 0;
  bool inside = true;
  Fiber fiber([&](Fiber& self) {
    auto* frame = static_cast<void**>(__builtin_frame_address(0));
    for (; frame != nullptr && frames < 100; frame = static_cast<void**>(*frame)) {
      inside = inside && self.OnStack(frame);
      ++frames;
    }
  });
  fiber.Resume();
  EXPECT_TRUE(inside);
  EXPECT_LT(frames, 20);
}

#if WEFT_HAS_PINNED_STACK
__attribute__((noinline)) void Publish(const volatile int* p, const volatile int** out) {
  *out = p;
}

TEST(ContextTest, LocalsWhoseAddressEscapesAreOnItsPinnedStack) {
  const volatile int* first = nullptr;
  const volatile int* second = nullptr;
  int sum = 0;
  Fiber fiber([&](Fiber& self) {
    volatile int local = 41;
    Publish(&local, &first);
    self.Pause();
    volatile int other = 1;
    Publish(&other, &second);
    sum = local + other;
  });
  fiber.Resume();
  volatile int mine = 0;
  const volatile int* mine_at = nullptr;
  Publish(&mine, &mine_at);
  EXPECT_FALSE(fiber.OnPinned(const_cast<const int*>(mine_at)));
  std::thread([&] { fiber.Resume(); }).join();
  EXPECT_TRUE(fiber.OnPinned(const_cast<const int*>(first)));
  EXPECT_TRUE(fiber.OnPinned(const_cast<const int*>(second)));
  EXPECT_EQ(sum, 42);
}
#endif

#if WEFT_HAS_GUARD_WORD
TEST(ContextTest, TheGuardWordIsTheContextsOwn) {
  // Low enough to be no limit.
  void* const guard = reinterpret_cast<void*>(uintptr_t{4096});
  uintptr_t first = 0;
  uintptr_t second = 0;
  Fiber fiber(
      [&](Fiber& self) {
        first = *GuardWord();
        // A request from elsewhere, overtaken by the switch.
        *GuardWord() = 8192;
        self.Pause();
        second = *GuardWord();
      },
      guard);
  EXPECT_EQ(*GuardWord(), 0u);
  fiber.Resume();
  EXPECT_EQ(*GuardWord(), 0u);
  fiber.Resume();
  EXPECT_EQ(first, 4096u);
  EXPECT_EQ(second, 4096u);
  EXPECT_EQ(*GuardWord(), 0u);
}
#endif

}  // namespace
}  // namespace weft::stack
