// Whether a stack that is not running may leave its place, and what is to be changed when it is put
// in another one.
//
// That a machine stack can leave its place at all rests on the build: SafeStack moves what others
// may point to onto the pinned stack, so that the only pointers to a machine stack are on it. But
// that holds for code built so (IsMovableCode, text_range.h) and for no other. So the frames are
// walked, from what weft_switch saved out to the base that MakeContext laid: one return address
// into other code, and the stack stays. A function that keeps no frame pointer does not hide from
// the walk: the frame of the function that it called holds a return address into it.
//
// In another place, the words that point into the stack have to be shifted. Those are
// - the saved frame pointers, which are known exactly;
// - pointers that the compiler derived from a frame of the function's own, to the element of an
//   array say, in a spill or a saved register. Nothing tells those from numbers. So every aligned
//   word whose value lies in the stack's used part, or up to kStaleBytes below it, counts as one:
//   what points below is left over from deeper calls, and shifting it does no harm.
// A number that is taken for a pointer by mistake is changed, which would be a disaster; a random
// one falls into a used part of a few hundred bytes and the 64 KiB below with 2^-48. And it is only
// changed where a stack wakes in another place than it left, which is rare.
//
// Who will not have even that refuses guesses (RefuseGuessedWords): then a stack stays where it is
// if it has any word in that range that is not a saved frame pointer. Few stacks have none.
//
// A word that points elsewhere in what a slot has for itself (4 GiB, or the gaps beside a smaller
// one, SurroundingsOf() in slots.h) can hardly be a number, but
// may be a pointer to an array that the compiler has offset by a constant index (`base - 8 * n`),
// and then would have to be shifted, or is left over from calls deeper than kStaleBytes. Such a
// stack stays where it is: a slot in use costs less than a doubt.
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
  kDoubtfulWord,  // a word that may be an offset pointer
  kGuessedWord,   // a word that only looks like a pointer, where these are not accepted
};

struct StackSurvey {
  Movability movability = Movability::kMovable;
  size_t frames = 0;
};

// How far below the used part words are taken for pointers to it.
inline constexpr size_t kStaleBytes = 64 * 1024;

// Looks through a stack that nobody runs on and whose bytes are in place in `slot`: from `sp`,
// where the registers are saved as weft_switch does it, to the slot's end. About 1 ns for each
// frame and each two words.
StackSurvey SurveyStack(const void* sp, const Slot& slot);

// From now on SurveyStack() finds kGuessedWord where it would have to be guessed.
void RefuseGuessedWords();

// Adds `by` to those of the `count` words, copied from [sp, stack_hi) of a stack that was found
// movable, which point into that stack. Returns how many these were.
size_t ShiftPointers(uintptr_t* words, size_t count, uintptr_t sp, uintptr_t stack_hi,
                     ptrdiff_t by);

// For a stack that had nothing on its pinned stack, and gets another one. The only words that
// matter are those that functions will reset the pinned pointer to, all of them equal to its top,
// as nothing is on it: functions that may catch an exception, for one, note the pointer.
void ReplacePinnedTop(uintptr_t* words, size_t count, uintptr_t top, uintptr_t new_top);

}  // namespace weft::stack

#endif  // WEFT_STACK_FRAMES_H_
