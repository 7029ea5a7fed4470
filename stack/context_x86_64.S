// The context switch on x86-64 System V. See context.h for what it exchanges.
//
// It ends in `pop; jmp` where a function would end in `ret`, unless both sides called it from the
// same place: the processor predicts a ret to go where the latest call came from.

#include "stack/context_layout.h"
#include "stack/mode.h"

// The bits of MXCSR that are control (masks, rounding, flush-to-zero); the rest are sticky flags.
#define MXCSR_CONTROL_BITS 0xffc0

        .text

// The body of both switches. `arrival` is 1 where a function is to be called on the new stack.
.macro SWITCH arrival
        .cfi_startproc
        // There is no cheaper way to know the control words than to read them, and STMXCSR alone
        // takes 3.3 ns on AMD's Zen 5: scheduler contexts promise not to change theirs.
        cmpb    $0, WEFT_CONTEXT_FP_STEADY(%rdi)
        jne     .Lsave_registers\@
        stmxcsr WEFT_CONTEXT_FP_CONTROL(%rdi)
        fnstcw  WEFT_CONTEXT_FP_CONTROL+4(%rdi)
.Lsave_registers\@:
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbx, 0
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r12, 0
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r13, 0
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r14, 0
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r15, 0
        movq    %rsp, WEFT_CONTEXT_SP(%rdi)
        // Where the caller goes on. By the time this is needed somebody may run there again.
        movq    48(%rsp), %r14
.if \arrival
        // In registers that the other side has saved.
        movq    %rdx, %rbx
        movq    %rcx, %r12
        movq    %r8, %r13
.endif

        // The order of the next stores is for signal handlers that run on the old stack meanwhile:
        // once the guard is the new one, the current context must be too, for __morestack to see
        // that the handler is not on its stack.
        movq    weft_current_context@gottpoff(%rip), %rax
        xorl    %edx, %edx
        cmpq    $0, WEFT_CONTEXT_STACK_HI(%rsi)
        cmovneq %rsi, %rdx
        movq    %rdx, %fs:(%rax)
#if WEFT_HAS_PINNED_STACK
        movq    __safestack_unsafe_stack_ptr@gottpoff(%rip), %rax
        movq    %fs:(%rax), %rcx
        movq    WEFT_CONTEXT_PINNED(%rsi), %rdx
        movq    %rcx, WEFT_CONTEXT_PINNED(%rdi)
        movq    %rdx, %fs:(%rax)
#endif
#if WEFT_HAS_GUARD_WORD
        movq    WEFT_CONTEXT_GUARD(%rsi), %rcx
        movq    %rcx, %fs:0x70
#endif
        // Load the control words only where the two sides differ, which is rare.
        movl    WEFT_CONTEXT_FP_CONTROL(%rdi), %eax
        xorl    WEFT_CONTEXT_FP_CONTROL(%rsi), %eax
        testl   $MXCSR_CONTROL_BITS, %eax
        jne     .Lload_fp_control\@
        movzwl  WEFT_CONTEXT_FP_CONTROL+4(%rdi), %eax
        cmpw    WEFT_CONTEXT_FP_CONTROL+4(%rsi), %ax
        jne     .Lload_fp_control\@
.Lresume\@:
        // Both stacks have the same layout here, so one description serves unwinders on either.
        movq    WEFT_CONTEXT_SP(%rsi), %rsp
        .cfi_remember_state
.if \arrival
        // The frame pointer first, for whoever walks the frames from in there.
        movq    40(%rsp), %rbp
        movq    %r12, %rdi
        movq    %r13, %rsi
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        callq   *%rbx
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
.endif
        // Back to the same place in the code as the one that called? Then ret: the prediction holds,
        // and so do those of the returns that follow, where both came there the same way.
        cmpq    48(%rsp), %r14
        popq    %r15
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r15
        popq    %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r14
        popq    %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r13
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r12
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbx
        popq    %rbp
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbp
        jne     .Lelsewhere\@
        ret
.Lelsewhere\@:
        popq    %rcx
        .cfi_adjust_cfa_offset -8
        .cfi_register %rip, %rcx
        jmp     *%rcx

        .cfi_restore_state
.Lload_fp_control\@:
        ldmxcsr WEFT_CONTEXT_FP_CONTROL(%rsi)
        fldcw   WEFT_CONTEXT_FP_CONTROL+4(%rsi)
        jmp     .Lresume\@
        .cfi_endproc
.endm

// void weft_switch(Context* from /* rdi */, Context* to /* rsi */)
        .globl  weft_switch
        .type   weft_switch, @function
        .p2align 4
weft_switch:
        SWITCH  0
        .size   weft_switch, . - weft_switch

// void weft_switch_to(Context* from /* rdi */, Context* to /* rsi */, Arrival arrival /* rdx */,
//                     void* a /* rcx */, void* b /* r8 */)
        .globl  weft_switch_to
        .type   weft_switch_to, @function
        .p2align 4
weft_switch_to:
        SWITCH  1
        .size   weft_switch_to, . - weft_switch_to

// Where a made context begins: rbx is its entry, r12 the argument, rbp 0. The undefined return
// address tells unwinders and debuggers that this is the end of the stack. They look up the address
// before a return address, hence the nop within the same frame description. weft_context_base is the
// return address of every outermost function.
        .globl  weft_context_start
        .hidden weft_context_start
        .type   weft_context_start, @function
        .p2align 4
        .cfi_startproc
        .cfi_undefined %rip
        nop
weft_context_start:
        movq    %r12, %rdi
        callq   *%rbx
        .globl  weft_context_base
        .hidden weft_context_base
weft_context_base:
        ud2
        .cfi_endproc
        .size   weft_context_start, . - weft_context_start

        .section .note.GNU-stack, "", @progbits
#if WEFT_HAS_GUARD_WORD
        // For linkers that adjust calls into code without split stacks: leave those to here, and those
        // from here, as they are.
        .section .note.GNU-split-stack, "", @progbits
        .section .note.GNU-no-split-stack, "", @progbits
#endif
