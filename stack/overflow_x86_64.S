// The signal handler's entry on x86-64, which gives it a pinned stack and takes the guard away
// before any code that uses them runs: the pinned pointer may be what overflowed, and the guard word
// is that of the interrupted goroutine.

#include "stack/mode.h"

#define RESERVE_BYTES (64 * 1024)

        .text

// void weft_fault_entry(int signal, siginfo_t* info, void* context)
        .globl  weft_fault_entry
        .hidden weft_fault_entry
        .type   weft_fault_entry, @function
        .p2align 4
weft_fault_entry:
        .cfi_startproc
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        pushq   %rbx
        .cfi_rel_offset %rbx, -8
        pushq   %r12
        .cfi_rel_offset %r12, -16
#if WEFT_HAS_GUARD_WORD
        movq    %fs:0x70, %r12
        movq    $0, %fs:0x70
#endif
#if WEFT_HAS_PINNED_STACK
        movq    __safestack_unsafe_stack_ptr@gottpoff(%rip), %rax
        movq    %fs:(%rax), %rbx
        movq    weft_signal_pinned_top@gottpoff(%rip), %rcx
        movq    %fs:(%rcx), %rcx
        testq   %rcx, %rcx
        jne     0f
        testq   %rbx, %rbx
        jne     1f                      // the thread's own will do
        leaq    weft_fault_reserve + RESERVE_BYTES(%rip), %rcx
0:      movq    %rcx, %fs:(%rax)
1:
#endif
        callq   weft_fault_handler
#if WEFT_HAS_PINNED_STACK
        movq    __safestack_unsafe_stack_ptr@gottpoff(%rip), %rax
        movq    %rbx, %fs:(%rax)
#endif
#if WEFT_HAS_GUARD_WORD
        movq    %r12, %fs:0x70
#endif
        popq    %r12
        popq    %rbx
        popq    %rbp
        .cfi_def_cfa %rsp, 8
        ret
        .cfi_endproc
        .size   weft_fault_entry, . - weft_fault_entry

#if WEFT_HAS_PINNED_STACK
        // For threads that have no pinned stack at all: those that are being born or are ending. The
        // process ends with the first of them.
        .local  weft_fault_reserve
        .comm   weft_fault_reserve, RESERVE_BYTES, 64
#endif

        .section .note.GNU-stack, "", @progbits
#if WEFT_HAS_GUARD_WORD
        // For linkers that adjust calls into code without split stacks: leave those to here, and those
        // from here, as they are.
        .section .note.GNU-split-stack, "", @progbits
        .section .note.GNU-no-split-stack, "", @progbits
#endif
