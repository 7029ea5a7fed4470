#include "stack/frames.h"

#include <atomic>

#include "stack/text_range.h"

namespace weft::stack {

extern "C" __attribute__((visibility("hidden"))) const char weft_context_base[];
namespace {

// The outermost frame: MakeContext leaves two null words at the top, below them are the return
// address to weft_context_base and the null frame pointer that the entry function saved.
constexpr size_t kOutermostFrame = 4 * sizeof(uintptr_t);

std::atomic<bool> refuse_guessed_words{false};

// A saved frame pointer and the return address above it.
struct Frame {
  uintptr_t caller;
  uintptr_t return_address;
};

Movability WalkFrames(const MachineState& state, uintptr_t hi, size_t& frames) {
  uintptr_t pc = state.pc;
  uintptr_t fp = state.fp;
  uintptr_t below = state.sp;
  for (;;) {
    ++frames;
    if (!IsMovableReturnAddress(reinterpret_cast<const void*>(pc))) {
      return Movability::kForeignFrame;
    }
    // Frames lie ever higher, and the outermost has its place.
    if (fp % sizeof(uintptr_t) != 0 || fp < below || fp > hi - kOutermostFrame) {
      return Movability::kBrokenChain;
    }
    const auto* frame = reinterpret_cast<const Frame*>(fp);
    pc = frame->return_address;
    if (fp == hi - kOutermostFrame) {
      return frame->caller == 0 && pc == reinterpret_cast<uintptr_t>(weft_context_base)
                 ? Movability::kMovable
                 : Movability::kBrokenChain;
    }
    below = fp + sizeof(Frame);
    fp = frame->caller;
  }
}

// [lo, lo + size], by the difference without sign: one comparison.
struct Range {
  uintptr_t lo;
  uint64_t size;
  bool Has(uintptr_t word) const { return word - lo <= size; }
};

// What counts as a pointer into the stack. The end counts too: it is one past the last object.
Range PointerRange(uintptr_t sp, uintptr_t hi) { return {sp - kStaleBytes, hi - sp + kStaleBytes}; }

// How many words are taken for pointers into the stack that are no saved frame pointers. Of these
// there is one in the saved registers and one in each frame but the outermost.
size_t GuessedWords(const uintptr_t* begin, const uintptr_t* end, const Range& stack,
                    size_t frames) {
  size_t words = 0;
  for (const uintptr_t* word = begin; word < end; ++word) words += stack.Has(*word) ? 1 : 0;
  return words - frames;
}

}  // namespace

void RefuseGuessedWords() { refuse_guessed_words.store(true, std::memory_order_relaxed); }

StackSurvey SurveyStack(const void* stack_sp, const Slot& slot) {
  StackSurvey survey;
  const auto sp = reinterpret_cast<uintptr_t>(stack_sp);
  const auto hi = reinterpret_cast<uintptr_t>(slot.hi);
  survey.movability = WalkFrames(SavedState(stack_sp), hi, survey.frames);
  if (survey.movability != Movability::kMovable) return survey;

  const Range stack = PointerRange(sp, hi);
  const Surroundings around = SurroundingsOf(slot);
  const Range unit = {around.lo, around.size};
  // No early way out: nearly always there is none, and so the loop is vectorized.
  bool doubtful = false;
  const auto* const begin = static_cast<const uintptr_t*>(stack_sp);
  const auto* const end = reinterpret_cast<const uintptr_t*>(slot.hi);
  for (const uintptr_t* word = begin; word < end; ++word) {
    doubtful |= unit.Has(*word) && !stack.Has(*word);
  }
  if (doubtful) {
    survey.movability = Movability::kDoubtfulWord;
  } else if (refuse_guessed_words.load(std::memory_order_relaxed) &&
             GuessedWords(begin, end, stack, survey.frames) > 0) [[unlikely]] {
    survey.movability = Movability::kGuessedWord;
  }
  return survey;
}

size_t ShiftPointers(uintptr_t* words, size_t count, uintptr_t sp, uintptr_t stack_hi,
                     ptrdiff_t by) {
  const Range stack = PointerRange(sp, stack_hi);
  size_t shifted = 0;
  for (size_t i = 0; i < count; ++i) {
    const bool shift = stack.Has(words[i]);
    words[i] += shift ? static_cast<uintptr_t>(by) : 0;
    shifted += shift ? 1 : 0;
  }
  return shifted;
}

void ReplacePinnedTop(uintptr_t* words, size_t count, uintptr_t top, uintptr_t new_top) {
  for (size_t i = 0; i < count; ++i) {
    if (words[i] == top) words[i] = new_top;
  }
}

}  // namespace weft::stack
