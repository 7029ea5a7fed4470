#include "stack/frames.h"

#include <cstdlib>
#include <vector>

#include "gtest/gtest.h"
#include "stack/context.h"
#include "stack/slots.h"
#include "stack/text_range.h"

namespace weft::stack {
namespace {

// A function that runs on a slot until it pauses: only code of this file has frames there.
struct Paused {
  using Body = void (*)(Paused&);

  explicit Paused(Body b, intptr_t n = 0)
      : body(b), number(n), slot(Acquire(cache, DefaultSizeClass())), pinned(AcquirePinned(cache)) {
    MakeContext(own, *slot, pinned, Run, this);
    Switch(thread, own);
  }
  ~Paused() {
    while (!done) Switch(thread, own);
    DestroyContext(own);
    Release(cache, slot);
    ReleasePinned(cache, pinned);
  }
  static void Run(void* arg) {
    auto* self = static_cast<Paused*>(arg);
    self->body(*self);
    self->done = true;
    SwitchFinal(self->own, self->thread);
  }
  void Pause() { Switch(own, thread); }
  StackSurvey Survey() const { return SurveyStack(own.sp, *slot); }

  Body body;
  intptr_t number;
  SlotCache cache;
  Slot* slot;
  Slot* pinned;
  bool done = false;
  Context own;
  Context thread;
};

void JustPause(Paused& self) { self.Pause(); }

class FramesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!IsMovableCode(reinterpret_cast<const void*>(&JustPause))) {
      GTEST_SKIP() << "this build has no code that may move";
    }
  }
};

// Not inlined, nor turned into a loop.
__attribute__((noinline)) int PauseBelow(Paused& paused, intptr_t frames) {
  if (frames == 0) {
    paused.Pause();
    return 1;
  }
  const int below = PauseBelow(paused, frames - 1);
  asm volatile("");
  return below + 1;
}

void PauseBelowNumber(Paused& paused) { PauseBelow(paused, paused.number); }

TEST_F(FramesTest, FramesOfOurCodeAreMovable) {
  for (const int frames : {0, 1, 10, 100}) {
    const Paused paused(PauseBelowNumber, frames);
    EXPECT_EQ(paused.Survey().movability, Movability::kMovable) << frames;
    EXPECT_GE(paused.Survey().frames, static_cast<size_t>(frames));
    EXPECT_LE(paused.Survey().frames, static_cast<size_t>(frames + 12));
  }
}

Paused* sorting = nullptr;

int PauseAndCompare(const void* a, const void* b) {
  sorting->Pause();
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}

TEST_F(FramesTest, FrameOfALibraryFunctionIsSeenBelowOurs) {
  const Paused paused([](Paused& self) {
    sorting = &self;
    std::vector<int> numbers = {3, 1, 2};
    std::qsort(numbers.data(), numbers.size(), sizeof(int), PauseAndCompare);
    EXPECT_EQ(numbers, (std::vector<int>{1, 2, 3}));
  });
  EXPECT_EQ(paused.Survey().movability, Movability::kForeignFrame);
}

// Pauses with `word` on the machine stack.
__attribute__((noinline)) void PauseWith(Paused& paused, uintptr_t word) {
  volatile uintptr_t kept = word;
  paused.Pause();
  kept = kept + 1;
}

void PauseWithOffsetFromTop(Paused& self) {
  PauseWith(self, reinterpret_cast<uintptr_t>(self.slot->hi) + static_cast<uintptr_t>(self.number));
}

TEST_F(FramesTest, WordsNearTheStackButNotInItAreDoubtful) {
  constexpr intptr_t kMiB = 1 << 20;
  const struct {
    intptr_t from_top;
    Movability expected;
  } kCases[] = {
      {0, Movability::kMovable},                  // one past the end
      {-100, Movability::kMovable},               // in a frame
      {-10'000, Movability::kMovable},            // left over from a deeper call
      {-200'000, Movability::kDoubtfulWord},      // from a very deep one?
      {1, Movability::kDoubtfulWord},             // an offset pointer?
      {1'000 * kMiB, Movability::kDoubtfulWord},  // the same
      {-2'000 * kMiB, Movability::kDoubtfulWord},
      {2'000 * kMiB, Movability::kMovable},  // another stack's place: a number
      {-4'000 * kMiB, Movability::kMovable},
  };
  for (const auto& c : kCases) {
    const Paused paused(PauseWithOffsetFromTop, c.from_top);
    EXPECT_EQ(paused.Survey().movability, c.expected) << c.from_top;
  }
}

TEST_F(FramesTest, BrokenChainIsNotMovable) {
  const Paused paused(PauseBelowNumber, 3);
  auto* saved = static_cast<SavedRegisters*>(paused.own.sp);
  const uintptr_t fp = saved->rbp;
  for (const uintptr_t wrong : {uintptr_t{0}, fp + 1, fp - 4096, fp + (uintptr_t{1} << 40)}) {
    saved->rbp = wrong;
    EXPECT_EQ(paused.Survey().movability, Movability::kBrokenChain) << wrong;
  }
  saved->rbp = fp;
  EXPECT_EQ(paused.Survey().movability, Movability::kMovable);
}

TEST(ShiftPointersTest, ShiftsPointersIntoTheStackAndNothingElse) {
  constexpr uintptr_t kSp = 0x7000'0000'1000;
  constexpr uintptr_t kHi = 0x7000'0000'2000;
  constexpr ptrdiff_t kBy = -0x1'0000'0000;
  std::vector<uintptr_t> words = {
      kSp, kHi,           kHi - 8, kSp - kStaleBytes, kHi + 1, 0, kSp - kStaleBytes - 1,
      42,  ~uintptr_t{0}, kSp + 1};
  std::vector<uintptr_t> expected = words;
  for (const size_t pointer : {0, 1, 2, 3, 9}) expected[pointer] += static_cast<uintptr_t>(kBy);
  ShiftPointers(words.data(), words.size(), kSp, kHi, kBy);
  EXPECT_EQ(words, expected);
}

TEST(ShiftPointersTest, ReplacesThePinnedTopAndNothingElse) {
  std::vector<uintptr_t> words = {0x5000, 0x4ff8, 0x5001, 0, 0x5000};
  ReplacePinnedTop(words.data(), words.size(), 0x5000, 0x9000);
  EXPECT_EQ(words, (std::vector<uintptr_t>{0x9000, 0x4ff8, 0x5001, 0, 0x9000}));
}

}  // namespace
}  // namespace weft::stack
