#include "stack/frames.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "stack/context.h"
#include "stack/internal/memcheck.h"
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

TEST_F(FramesTest, ShiftsSavedFramePointersAndNothingElse) {
  constexpr int kFrames = 5;
  const Paused paused(PauseBelowNumber, kFrames);
  const auto sp = reinterpret_cast<uintptr_t>(paused.own.sp);
  const auto used = reinterpret_cast<uintptr_t>(paused.slot->hi) - sp;
  // Saved frame pointers lead from one to the next, so they are shifted by as much as the copy is.
  const size_t page = 4096;
  const size_t bytes = (used / page + 2) * page;
  void* const copy =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(copy, MAP_FAILED);
  auto* const words = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(copy) + sp % page);
  const auto by = static_cast<ptrdiff_t>(reinterpret_cast<uintptr_t>(words) - sp);
  std::memcpy(words, paused.own.sp, used);

  const size_t shifted = ShiftFramePointers(words, by);
  // The outermost frame has saved none, but there is one in the saved registers.
  EXPECT_EQ(shifted, paused.Survey().frames);
  const auto* before = static_cast<const uintptr_t*>(paused.own.sp);
  size_t changed = 0;
  for (size_t i = 0; i < used / sizeof *words; ++i) {
    if (internal::Guess(words[i]) == internal::Guess(before[i])) continue;
    ++changed;
    EXPECT_EQ(words[i], before[i] + static_cast<uintptr_t>(by));
  }
  EXPECT_EQ(changed, shifted);
  munmap(copy, bytes);
}

}  // namespace
}  // namespace weft::stack
