// In each shared object with split-stack code: what its prologues call, handed on to the program's.
//
// Without these the linker would take libgcc's, whose names are hidden and so cannot be imported: the
// object's functions would find neither the stack they are on nor its limit. Everything is as the
// prologue left it, r10 and r11 included.

#include "stack/mode.h"

#if WEFT_HAS_GUARD_WORD

.macro HAND_ON name
        .globl  __\name
        .hidden __\name
        .type   __\name, @function
        .p2align 4
__\name:
        .cfi_startproc
        jmp     *weft_\name@GOTPCREL(%rip)
        .cfi_endproc
        .size   __\name, . - __\name
.endm

        .text
        HAND_ON morestack
        HAND_ON morestack_non_split
        HAND_ON morestack_allocate_stack_space

        // As in morestack_x86_64.S.
        .section .note.GNU-split-stack, "", @progbits
        .section .note.GNU-no-split-stack, "", @progbits
#endif

        .section .note.GNU-stack, "", @progbits
