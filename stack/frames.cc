#include "stack/frames.h"

#include "stack/text_range.h"

namespace weft::stack {

extern "C" __attribute__((visibility("hidden"))) const char weft_context_base[];
namespace {

// The outermost frame: MakeContext leaves two null words at the top, below them are the return
// address to weft_context_base and the null frame pointer that the entry function saved.
constexpr size_t kOutermostFrame = 4 * sizeof(uintptr_t);

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

}  // namespace

StackSurvey SurveyStack(const void* sp, const Slot& slot) {
  StackSurvey survey;
  survey.movability =
      WalkFrames(SavedState(sp), reinterpret_cast<uintptr_t>(slot.hi), survey.frames);
  return survey;
}

size_t ShiftFramePointers(void* sp, ptrdiff_t by) {
  size_t shifted = 0;
  uintptr_t* fp = SavedFramePointer(sp);
  // The outermost frame has saved none.
  while (*fp != 0) {
    *fp += static_cast<uintptr_t>(by);
    ++shifted;
    fp = reinterpret_cast<uintptr_t*>(*fp);
  }
  return shifted;
}

}  // namespace weft::stack
