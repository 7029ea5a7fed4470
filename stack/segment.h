// Linked segments: where a stack cannot grow, the call that finds no room runs on a piece of memory
// of its own.
//
// This is how stacks grow in mode `segmented`, for any code, and what is left in mode `copying` to
// a stack in a small slot that must not move. __morestack copies the arguments that were passed on
// the stack, calls the rest of the function there, and comes back; exceptions and traces pass
// through (morestack_x86_64.S). While a function runs on a segment, that is the stack of its
// Context.
//
// The cost is the hot split: a call in a loop that finds no room takes about 100 ns each time. Each
// segment is at least as large as all that the stack had before, so that deep recursion meets few
// of them.
#ifndef WEFT_STACK_SEGMENT_H_
#define WEFT_STACK_SEGMENT_H_

#include <cstddef>
#include <cstdint>

#include "stack/morestack.h"
#include "stack/slots.h"

namespace weft::stack {

// At the high end of the memory of a segment. They are kept for the next time.
struct Segment {
  // What the context had before.
  void* outer_lo;
  void* outer_hi;
  void* outer_guard;
  Segment* next;  // while free
  Slot* slot;
  size_t outer_bytes;  // of the stack, with all segments before this one
  size_t outer_used;   // what is in use of these
  uint32_t depth;      // which one of its stack it is, from 1
};

// Takes the memory that linking needs for itself. Before the first LinkSegment().
void PrepareSegments();

// Has the function of `check` go on on a segment, which becomes the stack of its context. kLimit:
// the stack would get larger than MaxStack(), or the system gives no memory, for which `*reason` is
// then set. On a thread's own stack, or where nothing of slots.h is under way.
uintptr_t LinkSegment(const StackCheck& check, const char** reason);

// Has those that nobody is on be slots like others again (slots.h), which go back to the system
// once they have been free for long. On a thread's own stack; on a goroutine it does nothing.
void ReleaseFreeSegments();

struct SegmentStats {
  uint64_t links = 0;  // calls that went to a segment
  size_t made = 0;     // segments that there are, in use or kept
};
SegmentStats GetSegmentStats();

}  // namespace weft::stack

#endif  // WEFT_STACK_SEGMENT_H_
