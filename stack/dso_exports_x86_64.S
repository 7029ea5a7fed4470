// What shared objects with split-stack code call in the program, by names of its own. Theirs are
// hidden in every object that has them (libgcc's make them so), and would not be found: see
// dso_shim_x86_64.S.

#include "stack/mode.h"

#if WEFT_HAS_GUARD_WORD

.macro EXPORT name
        .globl  weft_\name
        .type   weft_\name, @function
        .p2align 4
weft_\name:
        .cfi_startproc
        jmp     __\name
        .cfi_endproc
        .size   weft_\name, . - weft_\name
.endm

        .text
        EXPORT  morestack
        EXPORT  morestack_non_split
        EXPORT  morestack_allocate_stack_space

        // As in morestack_x86_64.S.
        .section .note.GNU-split-stack, "", @progbits
        .section .note.GNU-no-split-stack, "", @progbits
#endif

        .section .note.GNU-stack, "", @progbits
