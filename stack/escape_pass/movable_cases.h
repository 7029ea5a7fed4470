// Functions of all sorts, for movable_test: frames of some may move, frames of others may not. They
// are compiled several times, at each level of optimization.
#ifndef WEFT_STACK_ESCAPE_PASS_MOVABLE_CASES_H_
#define WEFT_STACK_ESCAPE_PASS_MOVABLE_CASES_H_

#include <cstddef>

namespace weft::escape_pass {

// Notes where it was called. Opaque to the compiler.
void Here();

// Tells an address to somebody, who does nothing with it.
void Tell(const void* address);

struct MovableCase {
  const char* name;
  void (*run)();  // calls Here() in the function of interest, the last time at least
  bool movable;
};
extern const MovableCase kMovableCases[];
extern const size_t kMovableCaseCount;

// Whether the pass was there when they were compiled.
extern const bool kWithEscapePass;

// Where Here() returned to when an initializer of a global variable called it.
extern const void* const at_initialization;
const void* CalledHere();

// r10, after a function that promises to keep it has been called with the guard word holding a
// request: it was 42.
long CallPreserveMost();

}  // namespace weft::escape_pass

#endif  // WEFT_STACK_ESCAPE_PASS_MOVABLE_CASES_H_
