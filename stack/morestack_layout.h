// Where __morestack keeps what it has saved, as byte offsets from its frame pointer, and where it
// finds the fields of a Segment (segment.h): morestack.cc and segment.cc rely on the same.
#ifndef WEFT_STACK_MORESTACK_LAYOUT_H_
#define WEFT_STACK_MORESTACK_LAYOUT_H_

#define WEFT_STOP_RAX -8
// The place in the prologue to go on from; 0 in __morestack_allocate_stack_space.
#define WEFT_STOP_PC -16
#define WEFT_STOP_FRAME -24      // bytes wanted, r10
#define WEFT_STOP_ARGUMENTS -32  // bytes of arguments on the stack, r11
#define WEFT_STOP_RDI -40
#define WEFT_STOP_RSI -48
#define WEFT_STOP_RDX -56
#define WEFT_STOP_RCX -64
#define WEFT_STOP_R8 -72
#define WEFT_STOP_R9 -80
#define WEFT_STOP_SEGMENT -88  // the Segment on which the function goes on
// Eight times 64 bytes.
#define WEFT_STOP_VECTORS -608

#define WEFT_SEGMENT_OUTER_LO 0
#define WEFT_SEGMENT_OUTER_HI 8
#define WEFT_SEGMENT_OUTER_GUARD 16
#define WEFT_SEGMENT_NEXT 24

#endif  // WEFT_STACK_MORESTACK_LAYOUT_H_
