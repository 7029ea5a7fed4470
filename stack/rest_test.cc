#include "stack/rest.h"

#include <cxxabi.h>
#include <sys/mman.h>

#include <algorithm>
#include <deque>
#include <iterator>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "stack/text_range.h"
#include "tests/rounds.h"

namespace weft::stack {
namespace {

// What the C++ runtime keeps for a thread (the Itanium C++ ABI's __cxa_eh_globals).
struct ExceptionState {
  void* caught = nullptr;
  unsigned int uncaught = 0;
};

struct Fiber : Resident {
  using Body = void (*)(Fiber&);

  Fiber(Body b, int64_t n) : body(b), number(n) {}
  // Back to the thread that runs it; goes on when it is resumed.
  void Pause() { Switch(context, *thread); }

  const Body body;
  const int64_t number;
  int64_t result = 0;
  int pauses_with_exception = 0;
  bool done = false;
  bool held = false;
  Context* thread = nullptr;
  ExceptionState exceptions;  // the thread's are exchanged for these while it runs
};

void RunFiber(void* arg) {
  auto* fiber = static_cast<Fiber*>(static_cast<Resident*>(arg));
  fiber->body(*fiber);
  fiber->done = true;
  SwitchFinal(fiber->context, *fiber->thread);
}

// Fibers that can run, for all threads.
struct Queue {
  std::mutex lock;
  std::deque<Fiber*> fibers;

  void Push(Fiber* fiber) {
    std::lock_guard<std::mutex> hold(lock);
    fibers.push_back(fiber);
  }
  Fiber* Pop() {
    std::lock_guard<std::mutex> hold(lock);
    if (fibers.empty()) return nullptr;
    Fiber* fiber = fibers.front();
    fibers.pop_front();
    return fiber;
  }
};

// What a P is, as far as stacks are concerned.
class Proc final : public StackMover {
 public:
  Proc(Queue& queue, RestPolicy policy, size_t budget)
      : StackMover(slots_, RunFiber, policy, budget), queue_(queue), before_(GetRestStats()) {}
  ~Proc() { Drain(); }

  // Runs the fiber until it pauses or ends.
  Residence::Entry Resume(Fiber& fiber) {
    const Residence::Entry entry = residence().Enter(fiber);
    if (entry != Residence::Entry::kRuns) return entry;
    fiber.thread = &thread_;
    auto* const exceptions = reinterpret_cast<ExceptionState*>(abi::__cxa_get_globals());
    std::swap(*exceptions, fiber.exceptions);
    Switch(thread_, fiber.context);
    std::swap(*exceptions, fiber.exceptions);
    if (!fiber.done) {
      residence().Leave(fiber);
      return entry;
    }
    DestroyContext(fiber.context);
    End(fiber);
    return entry;
  }

  // Runs fibers from the queue until all have ended.
  void Run(std::atomic<int>& unfinished) {
    while (unfinished.load(std::memory_order_acquire) > 0) {
      Fiber* fiber = queue_.Pop();
      if (fiber == nullptr) {
        std::this_thread::yield();
        continue;
      }
      switch (Resume(*fiber)) {
        case Residence::Entry::kLeftToCopier:
          break;
        case Residence::Entry::kNoSlot:
          queue_.Push(fiber);
          break;
        case Residence::Entry::kRuns:
          if (fiber->done) {
            unfinished.fetch_sub(1, std::memory_order_acq_rel);
          } else {
            queue_.Push(fiber);
          }
          break;
      }
    }
  }

  void Ready(Resident& resident) override { queue_.Push(static_cast<Fiber*>(&resident)); }
  bool MayRest(const Resident& resident) const override {
    return !static_cast<const Fiber&>(resident).held;
  }

  // Since this was made; where it is the only one.
  uint64_t Since(uint64_t RestStats::* count) const {
    return GetRestStats().*count - before_.*count;
  }

 private:
  Queue& queue_;
  SlotCache slots_;
  RestStats before_;
  Context thread_;
};

#ifdef __OPTIMIZE__
constexpr bool kOptimized = true;
#else
constexpr bool kOptimized = false;
#endif

class RestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!IsMovableCode(reinterpret_cast<const void*>(&RunFiber))) {
      GTEST_SKIP() << "this build has no code that may move";
    }
    PoisonLeftStacks();
  }
  // Else growing is somebody else's (grow.h), who is not here.
  static bool GrowsInPlace() { return StackGrowth() == Growth::kInPlace; }

  Queue queue_;
};

// --- bodies; each leaves fiber.result == fiber.number if all went well ---

// Values in registers, in the frame, and in frames below.
__attribute__((noinline)) int64_t SumBelow(Fiber& fiber, int64_t n) {
  if (n == 0) {
    fiber.Pause();
    return 0;
  }
  const int64_t mine = n * 3;
  const int64_t below = SumBelow(fiber, n - 1);
  fiber.Pause();
  return below + mine - 2 * n;
}

void Recurse(Fiber& fiber) {
  constexpr int64_t kDepth = 20;
  const int64_t sum = SumBelow(fiber, kDepth);
  fiber.result = sum == kDepth * (kDepth + 1) / 2 ? fiber.number : -1;
}

// An array that nobody else points to stays on the machine stack. Unoptimized, a loop over it
// reckons addresses anew each time; optimized, it may keep one in a register, under which the stack
// stays.
__attribute__((noinline)) void LoopOverArray(Fiber& fiber) {
  int64_t numbers[32];
  for (int64_t i = 0; i < 32; ++i) numbers[i] = fiber.number + i;
  int64_t sum = 0;
  for (int round = 0; round < 4; ++round) {
    for (int64_t& n : numbers) {
      n += sum;
      fiber.Pause();
      n -= sum;
    }
  }
  for (const int64_t n : numbers) sum += n;
  fiber.result = sum == 32 * fiber.number + 31 * 16 ? fiber.number : -1;
}

__attribute__((noinline)) void Add(int64_t* to, int64_t n) {
  asm volatile("" ::: "memory");
  *to += n;
}

// A local that others point to: it is pinned.
void UsePinned(Fiber& fiber) {
  int64_t sum = 0;
  for (int64_t i = 0; i < 10; ++i) {
    Add(&sum, fiber.number);
    fiber.Pause();
  }
  fiber.result = sum / 10;
}

struct CountsDown {
  explicit CountsDown(Fiber& f) : fiber(f) {}
  ~CountsDown() {
    fiber.Pause();
    --fiber.result;
  }
  Fiber& fiber;
};

__attribute__((noinline)) void Throw(Fiber& fiber, int depth) {
  CountsDown counts(fiber);
  if (depth == 0) throw std::runtime_error("thrown");
  Throw(fiber, depth - 1);
}

// Pauses while an exception unwinds and while it is handled: may not rest then.
void ThrowAndCatch(Fiber& fiber) {
  fiber.result = fiber.number + 6;
  fiber.Pause();
  fiber.held = true;
  try {
    Throw(fiber, 5);
  } catch (const std::runtime_error& error) {
    fiber.Pause();
    if (std::string(error.what()) != "thrown") fiber.result = -1;
  }
  fiber.held = false;
  fiber.Pause();
}

TEST_F(RestTest, StackComesHomeUnchanged) {
  Proc proc(queue_, RestPolicy::kAsNeeded, 1);
  Fiber first(Recurse, 1);
  Fiber second(Recurse, 2);
  // One slot for both, so each rests for the other.
  while (!first.done || !second.done) {
    for (Fiber* fiber : {&first, &second}) {
      if (fiber->done) continue;
      ASSERT_EQ(proc.Resume(*fiber), Residence::Entry::kRuns);
    }
  }
  EXPECT_EQ(first.result, 1);
  EXPECT_EQ(second.result, 2);
  EXPECT_GE(proc.Since(&RestStats::wakes_at_home), 40u);
  EXPECT_EQ(proc.Since(&RestStats::moves), 0u);
  EXPECT_EQ(proc.Since(&RestStats::moves), 0u);
}

TEST_F(RestTest, StackMovesAtEveryWake) {
  for (const Fiber::Body body : {Recurse, LoopOverArray, UsePinned, ThrowAndCatch}) {
    Proc proc(queue_, RestPolicy::kAlways, 4);
    std::vector<std::unique_ptr<Fiber>> fibers;
    for (int64_t i = 1; i <= 10; ++i) fibers.push_back(std::make_unique<Fiber>(body, i));
    for (int unfinished = 10; unfinished > 0;) {
      for (const auto& fiber : fibers) {
        if (fiber->done) continue;
        const Slot* home = fiber->home;
        const bool rested = fiber->block != nullptr;
        ASSERT_EQ(proc.Resume(*fiber), Residence::Entry::kRuns);
        if (rested && !fiber->done) {
          EXPECT_NE(fiber->home, home);
        }
        if (fiber->done) --unfinished;
      }
    }
    for (const auto& fiber : fibers) EXPECT_EQ(fiber->result, fiber->number);
    if (body == LoopOverArray && kOptimized && proc.Since(&RestStats::kept_foreign_frame) > 0) {
      continue;
    }
    EXPECT_GE(proc.Since(&RestStats::moves), 20u);
    EXPECT_EQ(proc.Since(&RestStats::kept_foreign_frame), 0u);
  }
}

TEST_F(RestTest, ResidentThatIsHeldKeepsItsSlot) {
  Proc proc(queue_, RestPolicy::kAsNeeded, 1);
  Fiber held(Recurse, 1);
  held.held = true;
  ASSERT_EQ(proc.Resume(held), Residence::Entry::kRuns);
  const Slot* slot = held.home;
  Fiber other(Recurse, 2);
  while (!other.done) ASSERT_EQ(proc.Resume(other), Residence::Entry::kRuns);
  EXPECT_EQ(held.home, slot);
  EXPECT_EQ(held.block, nullptr);
  EXPECT_GE(proc.Since(&RestStats::kept_held), 1u);
  while (!held.done) ASSERT_EQ(proc.Resume(held), Residence::Entry::kRuns);
  EXPECT_EQ(held.result, 1);
  EXPECT_EQ(other.result, 2);
}

__attribute__((noinline)) int64_t PauseBelow(Fiber& fiber, size_t frames) {
  if (frames == 0) {
    fiber.Pause();
    return fiber.number;
  }
  const int64_t result = PauseBelow(fiber, frames - 1);
  asm volatile("");
  return result;
}

// A frame has 16 bytes at least.
void PauseDeep(Fiber& fiber) { fiber.result = PauseBelow(fiber, kMostRestBytes / 16 + 1); }

TEST_F(RestTest, LargeStackKeepsItsSlot) {
  if (!GrowsInPlace()) GTEST_SKIP() << "it would have to grow by a copy";
  Proc proc(queue_, RestPolicy::kAlways, 1);
  Fiber fiber(PauseDeep, 1);
  ASSERT_EQ(proc.Resume(fiber), Residence::Entry::kRuns);
  EXPECT_EQ(fiber.block, nullptr);
  EXPECT_EQ(proc.Since(&RestStats::kept_too_large), 1u);
  ASSERT_EQ(proc.Resume(fiber), Residence::Entry::kRuns);
  EXPECT_EQ(fiber.result, 1);
}

void JustPause(Fiber& fiber) {
  fiber.Pause();
  fiber.Pause();
  fiber.result = fiber.number;
}

// One that may rest at any level of optimization.
void PauseOften(Fiber& fiber) {
  for (int i = 0; i < 150; ++i) fiber.Pause();
  fiber.result = fiber.number;
}

// Notes the pinned pointer, to put it back where it catches.
void CatchOnAnotherPinnedStack(Fiber& fiber) {
  try {
    fiber.Pause();
    int64_t n = 0;
    Add(&n, 1);
    if (n == 1) throw fiber.number;
  } catch (const int64_t& thrown) {
    fiber.result = thrown;
  }
  int64_t sum = 0;
  Add(&sum, 1);
  fiber.Pause();
  fiber.result += sum - 1;
}

TEST_F(RestTest, PinnedPointerIsResetOnTheNewPinnedStack) {
  Proc proc(queue_, RestPolicy::kAlways, 2);
  std::vector<std::unique_ptr<Fiber>> fibers;
  for (int64_t i = 1; i <= 20; ++i) {
    fibers.push_back(
        std::make_unique<Fiber>(i % 2 == 0 ? CatchOnAnotherPinnedStack : UsePinned, i));
  }
  for (int round = 0; round < 12; ++round) {
    // Each time in the other order, so that pinned stacks go round.
    std::reverse(fibers.begin(), fibers.end());
    for (const auto& fiber : fibers) {
      if (!fiber->done) ASSERT_EQ(proc.Resume(*fiber), Residence::Entry::kRuns);
    }
  }
  for (const auto& fiber : fibers) {
    EXPECT_TRUE(fiber->done);
    EXPECT_EQ(fiber->result, fiber->number);
  }
}

TEST_F(RestTest, PinnedStackIsReturnedWhileNothingIsOnIt) {
  Proc proc(queue_, RestPolicy::kAlways, 1);
  Fiber pins(UsePinned, 1);
  ASSERT_EQ(proc.Resume(pins), Residence::Entry::kRuns);
  const Slot* pinned = pins.pinned;
  EXPECT_NE(pinned, nullptr);

  Fiber fiber(JustPause, 2);
  ASSERT_EQ(proc.Resume(fiber), Residence::Entry::kRuns);
  EXPECT_EQ(fiber.pinned, nullptr);
  ASSERT_EQ(proc.Resume(fiber), Residence::Entry::kRuns);
  ASSERT_EQ(proc.Resume(fiber), Residence::Entry::kRuns);
  EXPECT_EQ(fiber.result, 2);

  while (!pins.done) {
    EXPECT_EQ(pins.pinned, pinned);
    ASSERT_EQ(proc.Resume(pins), Residence::Entry::kRuns);
  }
  EXPECT_EQ(pins.result, 1);
}

TEST_F(RestTest, ThousandFibersShareAFewSlotsOfFourThreads) {
  constexpr int kThreads = 4;
  const int fiber_count = testing::UnderValgrind() ? 60 : 1'000;
  const uint64_t many = uint64_t{10} * static_cast<uint64_t>(fiber_count);
  for (const RestPolicy policy : {RestPolicy::kAsNeeded, RestPolicy::kAlways}) {
    std::vector<std::unique_ptr<Fiber>> fibers;
    constexpr Fiber::Body kBodies[] = {Recurse,       LoopOverArray, UsePinned,
                                       ThrowAndCatch, JustPause,     PauseOften};
    for (int64_t i = 0; i < fiber_count; ++i) {
      fibers.push_back(std::make_unique<Fiber>(kBodies[i % std::size(kBodies)], i));
      queue_.Push(fibers.back().get());
    }
    std::atomic<int> unfinished{fiber_count};
    const RestStats before = GetRestStats();
    // In one of them's home sits somebody who stays, so that it moves if it has gone from there.
    Proc stays(queue_, policy, 1);
    Fiber sitter(Recurse, 0);
    sitter.held = true;
    if (policy == RestPolicy::kAsNeeded) {
      Fiber* first = queue_.Pop();
      ASSERT_EQ(stays.Resume(*first), Residence::Entry::kRuns);
      ASSERT_EQ(stays.Resume(sitter), Residence::Entry::kRuns);
      ASSERT_NE(first->block, nullptr);
      ASSERT_EQ(first->home, sitter.home);
      queue_.Push(first);
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        Proc proc(queue_, policy, 2);
        proc.Run(unfinished);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& fiber : fibers) ASSERT_EQ(fiber->result, fiber->number);
    const RestStats after = GetRestStats();
    const uint64_t moves = after.moves - before.moves;
    const uint64_t home = after.wakes_at_home - before.wakes_at_home;
    if (policy == RestPolicy::kAlways) {
      EXPECT_GT(moves, many);
    } else {
      // Whose home belongs to a thread that is held up wakes elsewhere.
      EXPECT_GT(home + moves, many);
      EXPECT_GT(home, moves);
      EXPECT_GT(moves, 0u);
      while (!sitter.done) ASSERT_EQ(stays.Resume(sitter), Residence::Entry::kRuns);
    }
  }
}

TEST(StackUseTest, TheModeIsThatOfTheSlot) {
  struct Expected {
    SizeClass size_class;
    const char* mode;
    size_t limit;
  };
  const bool rests = kMayMove && RestingSizeClass() == SizeClass::kLarge;
  const char* const small = kHasGuardWord ? "segmented" : "fixed";
  for (const Expected& expected :
       {Expected{SizeClass::kLarge,
                 rests           ? "copying"
                 : kHasGuardWord ? "reserved"
                                 : "fixed",
                 kHasGuardWord ? MaxStack() : StackBytes(SizeClass::kLarge)},
        Expected{SizeClass::k256KiB, small,
                 kHasGuardWord ? MaxStack() : StackBytes(SizeClass::k256KiB)}}) {
    SlotCache cache;
    Slot* slot = Acquire(cache, expected.size_class);
    ASSERT_NE(slot, nullptr);
    Resident resident;
    MakeContext(resident.context, *slot, nullptr, RunFiber, &resident);
    resident.SetHome(slot);
    const StackUse use = UseOf(resident);
    EXPECT_STREQ(use.mode, expected.mode);
    EXPECT_EQ(use.limit, expected.limit);
    EXPECT_GT(use.used, 0u);
    EXPECT_LT(use.used, 200u);
    EXPECT_EQ(use.segments, 0u);
    // On a stack of the program's own.
    char elsewhere = 0;
    resident.context.sp = &elsewhere;
    EXPECT_EQ(UseOf(resident).used, 0u);
    DestroyContext(resident.context);
    Release(cache, slot);
  }
}

// Goes on until it is told to stop, by Fiber::result.
void RunUntilTold(Fiber& fiber) {
  fiber.Pause();
  while (__atomic_load_n(&fiber.result, __ATOMIC_ACQUIRE) == 0) std::this_thread::yield();
}

TEST_F(RestTest, WhoseHomeIsBeingRunOnWakesInAnotherSlot) {
  Proc proc(queue_, RestPolicy::kAsNeeded, 1);
  Proc other(queue_, RestPolicy::kAsNeeded, 1);
  Fiber sleeper(Recurse, 7);
  Fiber runner(RunUntilTold, 0);
  ASSERT_EQ(proc.Resume(sleeper), Residence::Entry::kRuns);
  const Slot* home = sleeper.home;
  ASSERT_EQ(proc.Resume(runner), Residence::Entry::kRuns);
  ASSERT_EQ(runner.home, home);
  ASSERT_NE(sleeper.block, nullptr);

  std::thread thread([&] { proc.Resume(runner); });
  while (home->owner.load() != Residence::Runs(runner)) std::this_thread::yield();
  while (!sleeper.done) {
    ASSERT_EQ(other.Resume(sleeper), Residence::Entry::kRuns);
    if (!sleeper.done) EXPECT_NE(sleeper.home, home);
  }
  __atomic_store_n(&runner.result, 1, __ATOMIC_RELEASE);
  thread.join();
  EXPECT_TRUE(runner.done);
  EXPECT_EQ(sleeper.result, 7);
  EXPECT_EQ(proc.Since(&RestStats::moves), 1u);
}

// Uses so many pages of the stack.
__attribute__((noinline)) int GoDown(int pages) {
  volatile char page[4096];
  page[pages & 4095] = 1;
  return pages <= 1 ? 1 : GoDown(pages - 1) + page[pages & 4095];
}

TEST_F(RestTest, ASlotThatIsNeverIdleGivesBackWhatWasDeepOnce) {
  if (!GrowsInPlace()) GTEST_SKIP() << "it would have to grow by a copy";
  constexpr int kPages = 100;
  Queue queue;
  Proc proc(queue, RestPolicy::kAsNeeded, 1);
  Fiber deep(
      [](Fiber& self) {
        self.result = GoDown(kPages);
        self.Pause();
      },
      0);
  Fiber other(
      [](Fiber& self) {
        while (self.result == 0) self.Pause();
      },
      1);
  proc.Resume(deep);
  Slot* slot = deep.home;
  const auto pages = [slot] {
    unsigned char there[2 * kPages];
    if (mincore(slot->hi - sizeof there * 4096, sizeof there * 4096, there) != 0) return -1L;
    return std::count_if(there, there + sizeof there, [](unsigned char p) { return (p & 1) != 0; });
  };
  EXPECT_GE(pages(), kPages);
  // Each has the other one rest.
  Fiber third(
      [](Fiber& self) {
        while (self.result == 0) self.Pause();
      },
      2);
  for (int i = 0; i < 200; ++i) {
    proc.Resume(other);
    proc.Resume(third);
  }
  EXPECT_EQ(other.home, slot);
  EXPECT_EQ(third.home, slot);
  EXPECT_LE(pages(), static_cast<long>((kMostRestBytes + kKeptBytes) / 4096));
  EXPECT_EQ(proc.Since(&RestStats::given_back), 1u);
  for (Fiber* fiber : {&deep, &other, &third}) {
    fiber->result = 1;
    proc.Resume(*fiber);
    EXPECT_TRUE(fiber->done);
  }
}

}  // namespace
}  // namespace weft::stack
