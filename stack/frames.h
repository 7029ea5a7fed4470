// Whether a stack that is not running may leave its place, and what is to be changed when it is put
// in another one.
//
// That a machine stack can leave its place at all rests on the build: the escape pass
// (escape_pass/README.md) and SafeStack move to the pinned stack whatever has an address that
// anybody keeps, be it somebody else or the function itself. But that holds for code built so
// (IsMovableCode, text_range.h) and for no other. So the frames are walked, from what weft_switch
// saved out to the base that MakeContext laid: one return address into other code, and the stack
// stays. A function that keeps no frame pointer does not hide from the walk: the frame of the
// function that it called holds a return address into it.
//
// In another place, the saved frame pointers have to be shifted, and nothing else: they are the
// only addresses of the stack on the stack. Other words that look like one are left over from
// calls that have returned, or are numbers, or half of each, and nothing has to tell which.
#ifndef WEFT_STACK_FRAMES_H_
#define WEFT_STACK_FRAMES_H_

#include <cstddef>
#include <cstdint>

#include "stack/slots.h"

namespace weft::stack {

enum class Movability : uint8_t {
  kMovable,
  kForeignFrame,  // a function that is not movable code has a frame on it
  kBrokenChain,   // the saved frame pointers do not lead to the base
};

struct StackSurvey {
  Movability movability = Movability::kMovable;
  size_t frames = 0;
};

// Walks the frames of a stack that nobody runs on and whose bytes are in place in `slot`: from
// `sp`, where the registers are saved as weft_switch does it, to the slot's end. About 1 ns a
// frame.
StackSurvey SurveyStack(const void* sp, const Slot& slot);

// Adds `by` to the saved frame pointers of a stack that was found movable and has been copied, by
// that much, to `sp`. Returns how many these were.
size_t ShiftFramePointers(void* sp, ptrdiff_t by);

}  // namespace weft::stack

#endif  // WEFT_STACK_FRAMES_H_
