// Finds the functions that may keep an address of a local of their own which stays in the frame.
//
// SafeStack pins a local unless it can prove that its address stays within the function. But an
// address that stays within the function may still be kept there: a pointer to the element of an
// array that a loop goes through, or one that is computed once for two uses. It is in a
// callee-saved register or spilled while the function calls another one that waits, and if the
// frame were copied elsewhere it would have to be changed. But nothing tells such a word from a
// number, or from what is left of a pointer of which some bytes have been overwritten: a 2-byte
// number at the end of an array, say, and beside it the rest of what was there before.
//
// So the frame of such a function stays where it is. In all others the locals that are not pinned
// have no address but in the instructions, "frame pointer plus a constant": nothing in the frame
// has to be changed but the frame pointer that it saved.
#ifndef WEFT_STACK_ESCAPE_PASS_KEPT_ADDRESSES_H_
#define WEFT_STACK_ESCAPE_PASS_KEPT_ADDRESSES_H_

#include "llvm/IR/Function.h"
#include "llvm/IR/Value.h"

namespace weft::escape_pass {

// Whether some local or by-value argument that SafeStack may leave in the frame has its address
// used for anything but to load from it or store to it, at a place that is known. In linear time.
bool MayKeepAddressOfLocal(const llvm::Function& function);

// Has each instruction that works on part of a local in the frame make that part's address itself.
// An address that is made in one block and used in others may be kept between them, though it is
// but a constant away from the frame pointer; code generation undoes that in optimized code only.
void MakeAddressesWhereUsed(llvm::Function& function);

// Whether SafeStack certainly pins `local`, an alloca or a by-value argument.
bool IsPinnedBySafeStack(const llvm::Value& local);

}  // namespace weft::escape_pass

#endif  // WEFT_STACK_ESCAPE_PASS_KEPT_ADDRESSES_H_
