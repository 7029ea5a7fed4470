// __morestack on x86-64. See morestack.h.
//
// A prologue calls it with the frame's size in r10 and the bytes of stack arguments in r11, before
// anything else: all registers that carry arguments (rax too, for variadic callees) are live, and so
// are the vector registers, which nothing here touches. The byte at the return address is a `ret`,
// and the function's body begins at the next one: adding one to the return address goes on into the
// body, and keeps calls and returns paired for the processor's predictor.

#include "stack/context_layout.h"
#include "stack/mode.h"

#if WEFT_HAS_GUARD_WORD

// What a callee that is not instrumented may need without asking.
#define NON_SPLIT_ROOM 0x4000

// The bytes of `lea 0x18(%rbp), %r11`.
#define GCC_VARIADIC_LEA 0x185d8d4c

        .text

        .globl  __morestack
        .type   __morestack, @function
        .p2align 4
__morestack:
        .cfi_startproc
        pushq   %rax
        .cfi_adjust_cfa_offset 8
        movq    weft_current_context@gottpoff(%rip), %rax
        movq    %fs:(%rax), %rax
        testq   %rax, %rax
        je      .Lgo_on
        cmpq    WEFT_CONTEXT_STACK_LO(%rax), %rsp
        jb      .Lgo_on
        cmpq    WEFT_CONTEXT_STACK_HI(%rax), %rsp
        jae     .Lgo_on

        movq    WEFT_CONTEXT_GUARD(%rax), %rax
        addq    %r10, %rax
        jc      .Lat_limit
        cmpq    %rax, %rsp
        jb      .Lat_limit
        // There is room: the guard word held something else.
        subq    %r10, %rax
        movq    %rax, %fs:0x70
.Lgo_on:
        // GCC's variadic functions expect to be called from here, with rbp a frame from which they
        // find the arguments on their caller's stack: what would be executed next is
        //     lea 0x18(%rbp), %r11
        // They stay where they are, so that is done here, correctly, and skipped there.
        movq    8(%rsp), %rax
        cmpl    $GCC_VARIADIC_LEA, 1(%rax)
        je      .Lvariadic
        popq    %rax
        .cfi_adjust_cfa_offset -8
        addq    $1, (%rsp)
        ret

        .cfi_adjust_cfa_offset 8
.Lvariadic:
        leaq    24(%rsp), %r11
        popq    %rax
        .cfi_adjust_cfa_offset -8
        addq    $5, (%rsp)
        ret

        .cfi_adjust_cfa_offset 8
.Lat_limit:
        movq    weft_stack_limit_handler@GOTPCREL(%rip), %rax
        cmpq    $0, (%rax)
        je      .Lgo_on
        movq    8(%rsp), %rsi
        movq    16(%rsp), %r8
        leaq    8(%rsp), %rdx
        jmp     weft_leave_stack_at_limit
        .cfi_endproc
        .size   __morestack, . - __morestack

// Linkers (gold, lld) make functions that call code without split stacks call this instead,
// unconditionally: off a goroutine, or with room enough, it must be quick.
        .globl  __morestack_non_split
        .type   __morestack_non_split, @function
        .p2align 4
__morestack_non_split:
        .cfi_startproc
        pushq   %rax
        .cfi_adjust_cfa_offset 8
        movq    %fs:0x70, %rax
        testq   %rax, %rax
        je      1f
        addq    %r10, %rax
        jc      2f
        addq    $NON_SPLIT_ROOM, %rax
        jc      2f
        cmpq    %rax, %rsp
        jb      2f
1:      movq    8(%rsp), %rax
        cmpl    $GCC_VARIADIC_LEA, 1(%rax)
        je      2f
        popq    %rax
        .cfi_adjust_cfa_offset -8
        addq    $1, (%rsp)
        ret
        .cfi_adjust_cfa_offset 8
2:      popq    %rax
        .cfi_adjust_cfa_offset -8
        jmp     __morestack
        .cfi_endproc
        .size   __morestack_non_split, . - __morestack_non_split

// void* __morestack_allocate_stack_space(size_t size /* rdi */): an alloca, or a variable-length
// array, that would go under the guard word. libgcc takes such memory from the heap. Here it is what
// the caller would have taken itself: it returns with the stack pointer lowered, which a function
// with variable-sized frames allows, as it restores its own from its frame pointer.
        .globl  __morestack_allocate_stack_space
        .type   __morestack_allocate_stack_space, @function
        .p2align 4
__morestack_allocate_stack_space:
        .cfi_startproc
        popq    %r11
        .cfi_adjust_cfa_offset -8
        .cfi_register %rip, %r11
        movq    %rsp, %rax
        subq    %rdi, %rax
        jb      .Ltoo_large
        andq    $-16, %rax
        movq    weft_current_context@gottpoff(%rip), %rcx
        movq    %fs:(%rcx), %rcx
        testq   %rcx, %rcx
        je      .Llower
        cmpq    WEFT_CONTEXT_STACK_LO(%rcx), %rsp
        jb      .Llower
        cmpq    WEFT_CONTEXT_STACK_HI(%rcx), %rsp
        jae     .Llower
        movq    WEFT_CONTEXT_GUARD(%rcx), %rcx
        cmpq    %rcx, %rax
        jb      .Ltoo_large
        movq    %rcx, %fs:0x70
.Llower:
        movq    %rax, %rsp
        pushq   %r11
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rip, 0
        ret

        .cfi_adjust_cfa_offset -8
        .cfi_register %rip, %r11
.Ltoo_large:
        movq    weft_stack_limit_handler@GOTPCREL(%rip), %rcx
        cmpq    $0, (%rcx)
        je      .Llower
        movq    %r11, %rsi
        movq    8(%rbp), %r8
        movq    %rsp, %rdx
        jmp     weft_leave_stack_at_limit
        .cfi_endproc
        .size   __morestack_allocate_stack_space, . - __morestack_allocate_stack_space

// Goes to the signal stack, where there is one, and on to weft_stack_limit_reached. rsi: the place
// in the function at the limit; rdx: its stack pointer; rbp: its caller's frame; r8: where it would
// return to. Never returns.
        .hidden weft_stack_limit_reached
        .type   weft_leave_stack_at_limit, @function
        .p2align 4
weft_leave_stack_at_limit:
        .cfi_startproc
        .cfi_undefined %rip
        movq    weft_current_context@gottpoff(%rip), %rax
        movq    %fs:(%rax), %rdi
        movq    %rbp, %rcx
        movq    $0, %fs:0x70
        movq    weft_signal_stack_top@gottpoff(%rip), %rax
        movq    %fs:(%rax), %rax
        testq   %rax, %rax
        je      1f
        movq    %rax, %rsp
#if WEFT_HAS_PINNED_STACK
        movq    weft_signal_pinned_top@gottpoff(%rip), %rax
        movq    %fs:(%rax), %rax
        movq    __safestack_unsafe_stack_ptr@gottpoff(%rip), %r9
        movq    %rax, %fs:(%r9)
#endif
1:      andq    $-16, %rsp
        xorl    %ebp, %ebp
        callq   weft_stack_limit_reached
        ud2
        .cfi_endproc
        .size   weft_leave_stack_at_limit, . - weft_leave_stack_at_limit

        // For linkers that adjust calls into code without split stacks: leave those to here, and those
        // from here, as they are.
        .section .note.GNU-split-stack, "", @progbits
        .section .note.GNU-no-split-stack, "", @progbits
#endif

        .section .note.GNU-stack, "", @progbits
