// Decides whose frames may be on a stack that is copied elsewhere while it waits.
//
// Such a frame holds no address that somebody outside the stack has: SafeStack has moved every
// local whose address escapes to the pinned stack, and the function does not take the address of
// its own frame by other means. It is found by its frame pointer. All doubts make a function
// foreign: then a stack with a frame of it stays where it is.
#ifndef WEFT_STACK_ESCAPE_PASS_MOVABLE_H_
#define WEFT_STACK_ESCAPE_PASS_MOVABLE_H_

#include "llvm/IR/Function.h"

namespace weft::escape_pass {

// The section that movable functions are put in (stack/text_range.h).
inline constexpr char kMovableSection[] = "weft_text";

// Why frames of `function` may not move, in words for a remark; null if they may.
const char* WhyForeign(const llvm::Function& function);

// Has a function that knows where its frame is call nobody in its place (a tail call), who may be
// given that address: the stack would move as soon as this frame is gone.
void StayInKnownFrame(llvm::Function& function);

// Whether __morestack can keep the arguments of a function that is called like this. Otherwise its
// prologue must not call it at all: r10 and r11 would be lost on the way there already.
bool SplitStackCanKeepArguments(const llvm::Function& function);

// Whether the section of `function` is ours to decide: its author named none.
bool MayChooseSection(const llvm::Function& function);

}  // namespace weft::escape_pass

#endif  // WEFT_STACK_ESCAPE_PASS_MOVABLE_H_
