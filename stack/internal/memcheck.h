// What Valgrind's Memcheck is told of stacks that it has not made itself.
//
// It takes memory that the stack pointer has risen above for freed, and a stack pointer that goes
// far for a stack that has grown or shrunk, unless it knows of both stacks. So it is told where
// stacks are, and where one that nobody runs on is written to. Elsewhere than under Valgrind all of
// this does nothing.
#ifndef WEFT_STACK_INTERNAL_MEMCHECK_H_
#define WEFT_STACK_INTERNAL_MEMCHECK_H_

#include <cstdint>

namespace weft::stack::internal {

// Set before static initialization, in which goroutines may already run.
extern bool under_valgrind;

// [lo, hi) is a stack from now on.
void NoteStack(const void* lo, const void* hi);

// [sp, hi), of such a stack, is about to be written to by somebody who runs elsewhere, so that a
// stack pointer may then be set to `sp`.
void NoteWritesUnderValgrind(const void* sp, const void* hi);
inline void NoteWrites(const void* sp, const void* hi) {
  if (under_valgrind) [[unlikely]]
    NoteWritesUnderValgrind(sp, hi);
}

// `word`, and that it is no fault to go by it: of who reads words of which nobody has to have
// written any.
uintptr_t GuessUnderValgrind(uintptr_t word);
inline uintptr_t Guess(uintptr_t word) { return under_valgrind ? GuessUnderValgrind(word) : word; }

}  // namespace weft::stack::internal

#endif  // WEFT_STACK_INTERNAL_MEMCHECK_H_
