// Which code may be on a stack that moves.
//
// The escape pass (//stack/escape_pass) puts each function whose frames may be copied elsewhere in
// the section `weft_text`: what it leaves in the machine stack points nowhere but into that stack,
// and nobody else points to it. All other code is foreign: a stack with a foreign frame on it stays
// where it is. Where the build has no escape pass (WEFT_STACK_MOVES is 0, see stack/mode.h), there
// is no such section and everything is foreign.
//
// The program's own section is known from the first instruction on. A shared object's is registered
// while it is loaded by what //stack:dso_shim puts in it.
#ifndef WEFT_STACK_TEXT_RANGE_H_
#define WEFT_STACK_TEXT_RANGE_H_

#include <cstdint>

namespace weft::stack {

// Whether the instruction at `pc` is in a function whose frames may move. From anywhere, signal
// handlers included; takes no lock. A few nanoseconds: there is one range for the program and one
// for each shared object with such code.
bool IsMovableCode(const void* pc);

// The same for an address that a call would return to. It may be that of the next function in
// memory where the callee never returns, so it is the call itself that counts.
inline bool IsMovableReturnAddress(const void* pc) {
  return IsMovableCode(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(pc) - 1));
}

extern "C" {

// For //stack:dso_shim: the code in [lo, hi) may be on a stack that moves, until it is deregistered
// by the same bounds. An empty range is none. Past 256 ranges at a time there is no more room, and
// the code counts as foreign. Neither may be called from a signal handler.
void weft_register_movable_code(const void* lo, const void* hi);
void weft_deregister_movable_code(const void* lo, const void* hi);
}

}  // namespace weft::stack

#endif  // WEFT_STACK_TEXT_RANGE_H_
