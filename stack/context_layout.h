// Where the assembly finds the fields of a Context: byte offsets that context.h asserts.
#ifndef WEFT_STACK_CONTEXT_LAYOUT_H_
#define WEFT_STACK_CONTEXT_LAYOUT_H_

#define WEFT_CONTEXT_SP 0
#define WEFT_CONTEXT_PINNED 8
#define WEFT_CONTEXT_GUARD 16
#define WEFT_CONTEXT_FP_CONTROL 24
#define WEFT_CONTEXT_FP_STEADY 30
#define WEFT_CONTEXT_STACK_LO 32
#define WEFT_CONTEXT_STACK_HI 40

#endif  // WEFT_STACK_CONTEXT_LAYOUT_H_
