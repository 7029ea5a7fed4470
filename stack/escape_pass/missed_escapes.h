// Finds the locals that SafeStack leaves on the machine stack although somebody else may learn
// their address.
//
// SafeStack follows a local's address forward through the function and pins the local where the
// address is stored, returned or passed to a call. Of what it does not know it follows only the
// result, and it does not know three instructions by which an address leaves the function: atomic
// read-modify-write, compare-exchange, and asm goto. A waiter on the stack that is published by
// `slot.compare_exchange_strong(expected, &waiter)` stays in the frame.
#ifndef WEFT_STACK_ESCAPE_PASS_MISSED_ESCAPES_H_
#define WEFT_STACK_ESCAPE_PASS_MISSED_ESCAPES_H_

#include "llvm/ADT/SmallVector.h"
#include "llvm/IR/Function.h"
#include "llvm/IR/Value.h"

namespace weft::escape_pass {

// The allocas and by-value arguments of `function` whose address, or what is computed from it (tag
// bits, an offset, a member of an aggregate), is an operand of such an instruction; and the allocas
// of variable size, as these move the stack pointer. In linear time.
llvm::SmallVector<llvm::Value*, 8> MissedEscapes(llvm::Function& function);

// Makes SafeStack see that the address of `local` escapes: it becomes the operand of an empty asm
// statement, which survives whatever passes are still to come.
void MarkEscaping(llvm::Function& function, llvm::Value& local);

// Sees to it that no frame keeps the pointer of a pinned stack with nothing on it, so that such a
// stack may be taken away. SafeStack keeps the pointer, to set it back at each return, in all
// functions that have landing pads or locals of variable size. If such a function has no other
// pinned local, then
// - kHeld: it gets one, that takes room there whenever the function runs;
// - kNoSafeStack: SafeStack is not needed, as exceptions that come here end the program (the
//   function is `noexcept`) and nobody's pointer has to be set back.
// To be called when the locals that escape have been marked, for functions whose frames may move.
enum class PinnedPointer { kNotKept, kHeld, kNoSafeStack };
PinnedPointer HoldPinnedStack(llvm::Function& function);

}  // namespace weft::escape_pass

#endif  // WEFT_STACK_ESCAPE_PASS_MISSED_ESCAPES_H_
