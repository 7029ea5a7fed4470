// __morestack on x86-64. See morestack.h.
//
// A prologue calls it with the frame's size in r10 and the bytes of stack arguments in r11, before
// anything else: all registers that carry arguments (rax too, for variadic callees and for nested
// functions) are live, the vector registers at their full width among them. The byte at the return
// address is a `ret`, and the function's body begins at the next one: adding one to the return
// address goes on into the body, and keeps calls and returns paired for the processor's predictor.

#include "stack/context_layout.h"
#include "stack/mode.h"
#include "stack/morestack_layout.h"

#if WEFT_HAS_GUARD_WORD

#define GUARD_REQUEST 0x7fffffffffffffff

// What a callee that is not instrumented may need without asking.
#define NON_SPLIT_ROOM 0x4000

// The bytes of `lea 0x18(%rbp), %r11`.
#define GCC_VARIADIC_LEA 0x185d8d4c

// A stack may move while it is in here, and in nothing else that is assembly.
#if WEFT_STACK_MOVES
        .section weft_text, "ax", @progbits
#else
        .text
#endif

        .hidden weft_vector_bytes

// The vector arguments, as wide as this processor has them, to below the frame at rbp.
.macro FOR_VECTORS move:req, vmove:req, to_memory:req
        cmpb    $32, weft_vector_bytes(%rip)
        je      .Lymm\@
        ja      .Lzmm\@
.irp n, 0, 1, 2, 3, 4, 5, 6, 7
.if \to_memory
        \move   %xmm\n, (WEFT_STOP_VECTORS + 64 * \n)(%rbp)
.else
        \move   (WEFT_STOP_VECTORS + 64 * \n)(%rbp), %xmm\n
.endif
.endr
        jmp     .Ldone\@
.Lymm\@:
.irp n, 0, 1, 2, 3, 4, 5, 6, 7
.if \to_memory
        \vmove  %ymm\n, (WEFT_STOP_VECTORS + 64 * \n)(%rbp)
.else
        \vmove  (WEFT_STOP_VECTORS + 64 * \n)(%rbp), %ymm\n
.endif
.endr
        jmp     .Ldone\@
.Lzmm\@:
.irp n, 0, 1, 2, 3, 4, 5, 6, 7
.if \to_memory
        \vmove  %zmm\n, (WEFT_STOP_VECTORS + 64 * \n)(%rbp)
.else
        \vmove  (WEFT_STOP_VECTORS + 64 * \n)(%rbp), %zmm\n
.endif
.endr
.Ldone\@:
.endm

// All registers that a function's arguments are in, to and from the frame at rbp, but for rax.
.macro SAVE_ARGUMENTS
        leaq    WEFT_STOP_VECTORS(%rbp), %rsp
        movq    %r10, WEFT_STOP_FRAME(%rbp)
        movq    %r11, WEFT_STOP_ARGUMENTS(%rbp)
        movq    %rdi, WEFT_STOP_RDI(%rbp)
        movq    %rsi, WEFT_STOP_RSI(%rbp)
        movq    %rdx, WEFT_STOP_RDX(%rbp)
        movq    %rcx, WEFT_STOP_RCX(%rbp)
        movq    %r8, WEFT_STOP_R8(%rbp)
        movq    %r9, WEFT_STOP_R9(%rbp)
        FOR_VECTORS movups, vmovups, 1
.endm
.macro LOAD_ARGUMENTS
        FOR_VECTORS movups, vmovups, 0
        movq    WEFT_STOP_FRAME(%rbp), %r10
        movq    WEFT_STOP_ARGUMENTS(%rbp), %r11
        movq    WEFT_STOP_RDI(%rbp), %rdi
        movq    WEFT_STOP_RSI(%rbp), %rsi
        movq    WEFT_STOP_RDX(%rbp), %rdx
        movq    WEFT_STOP_RCX(%rbp), %rcx
        movq    WEFT_STOP_R8(%rbp), %r8
        movq    WEFT_STOP_R9(%rbp), %r9
.endm

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

        // On the stack of the current context. From here on this looks like the frame of the function
        // itself, with its caller's frame pointer below the return address to its caller, so that
        // whoever walks the frames sees that caller. The address that was there goes below.
        movq    8(%rsp), %rax
        .cfi_register %rip, %rax
        movq    %rbp, 8(%rsp)
        .cfi_rel_offset %rbp, 8
        leaq    8(%rsp), %rbp
        .cfi_def_cfa %rbp, 8
        pushq   %rax
        .cfi_offset %rip, WEFT_STOP_PC - 8
        SAVE_ARGUMENTS
        call    weft_check_off_stack
        testq   %rdx, %rdx
        jne     .Lelsewhere
        LOAD_ARGUMENTS
        movq    WEFT_STOP_PC(%rbp), %rax
        leaq    WEFT_STOP_RAX(%rbp), %rsp
        xchgq   %rax, (%rbp)
        .cfi_offset %rip, -8
        .cfi_register %rbp, %rax
        movq    %rax, %rbp
        .cfi_restore %rbp
        .cfi_def_cfa %rsp, 16
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

        .cfi_def_cfa %rbp, 8
        .cfi_offset %rbp, -8
        .cfi_offset %rip, WEFT_STOP_PC - 8
.Lelsewhere:
        cmpq    $1, %rdx
        jne     weft_call_on_segment
        movq    WEFT_STOP_PC(%rbp), %rsi
        movq    8(%rbp), %r8
        movq    %rbp, %rdx
        movq    (%rbp), %rbp
        jmp     weft_leave_stack_at_limit
        .cfi_endproc
        .size   __morestack, . - __morestack

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
        // A request in the guard word is left for the next prologue.
        cmpq    WEFT_CONTEXT_GUARD(%rcx), %rax
        jb      .Ltoo_large
.Llower:
        movq    %rax, %rsp
        pushq   %r11
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rip, 0
        ret

        .cfi_adjust_cfa_offset -8
        .cfi_register %rip, %r11
.Ltoo_large:
        pushq   %r11
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rip, 0
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        // The size counts as that of a frame; there is no place in a prologue.
        movq    $0, WEFT_STOP_PC(%rbp)
        movq    %rdi, %r10
        xorl    %r11d, %r11d
        SAVE_ARGUMENTS
        call    weft_check_off_stack
        movq    WEFT_STOP_RDI(%rbp), %rdi
        testq   %rdx, %rdx
        jne     .Lno_room_for_array
        leaq    16(%rbp), %rax
        movq    8(%rbp), %r11
        .cfi_register %rip, %r11
        movq    (%rbp), %rbp
        .cfi_restore %rbp
        .cfi_def_cfa %rax, 0
        movq    %rax, %rsp
        .cfi_def_cfa_register %rsp
        subq    %rdi, %rax
        andq    $-16, %rax
        jmp     .Llower

        .cfi_def_cfa %rbp, 16
        .cfi_offset %rbp, -16
        .cfi_offset %rip, -8
.Lno_room_for_array:
        movq    8(%rbp), %rsi
        leaq    16(%rbp), %rdx
        movq    (%rbp), %rbp
        movq    8(%rbp), %r8
        jmp     weft_leave_stack_at_limit
        .cfi_endproc
        .size   __morestack_allocate_stack_space, . - __morestack_allocate_stack_space

// Calls weft_stack_check (morestack.cc) on the thread's own stack, if that is known, as if this
// context had been switched away from: with what it saves for itself a stack can be walked, and put
// elsewhere, as one that has been left by weft_switch. Returns on the stack that it says; rdx is its
// other answer, zero to go on.
        .type   weft_check_off_stack, @function
        .p2align 4
weft_check_off_stack:
        .cfi_startproc
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

        // First of all nothing is current any more: a signal handler that comes now, on either stack,
        // has __morestack return at once, whatever is in the guard word. If it looks for the frames,
        // it finds them from where this context has been left.
        //
        // This may be such a handler itself, which has interrupted weft_switch after that had noted
        // where it leaves its stack: the note is kept.
        movq    weft_current_context@gottpoff(%rip), %rax
        movq    %fs:(%rax), %rbx
        movq    WEFT_CONTEXT_SP(%rbx), %r14
        movq    %rsp, %r15
        movq    %rsp, WEFT_CONTEXT_SP(%rbx)
        movq    $0, %fs:(%rax)
        xorl    %ecx, %ecx
        xchgq   %rcx, %fs:0x70
        movq    %rbx, %rdi
        movq    %rsp, %rsi
        movq    %rbp, %rdx
        movq    weft_thread_context@gottpoff(%rip), %rax
        movq    %fs:(%rax), %r12
        movq    %r12, %r8
        testq   %r12, %r12
        je      1f
#if WEFT_HAS_PINNED_STACK
        movq    __safestack_unsafe_stack_ptr@gottpoff(%rip), %rax
        movq    %fs:(%rax), %r13
        movq    WEFT_CONTEXT_PINNED(%r12), %r9
        movq    %r9, %fs:(%rax)
#endif
        movq    WEFT_CONTEXT_SP(%r12), %rsp
1:      andq    $-16, %rsp
        .cfi_remember_state
        .cfi_undefined %rip
        xorl    %ebp, %ebp
        callq   weft_stack_check
        movq    %rax, %rsi
#if WEFT_HAS_PINNED_STACK
        testq   %r12, %r12
        je      2f
        movq    __safestack_unsafe_stack_ptr@gottpoff(%rip), %rax
        movq    %r13, %fs:(%rax)
2:
#endif
        movq    %rsi, %rsp
        .cfi_restore_state
        // Handlers' stacks do not move.
        cmpq    %r15, %rsi
        jne     3f
        movq    %r14, WEFT_CONTEXT_SP(%rbx)
3:
        movq    weft_current_context@gottpoff(%rip), %rax
        movq    %rbx, %fs:(%rax)
        // Whoever has made a request meanwhile gets its answer at the next prologue.
        movq    WEFT_CONTEXT_GUARD(%rbx), %rcx
        xorl    %eax, %eax
        lock cmpxchgq %rcx, %fs:0x70
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
        ret
        .cfi_endproc
        .size   weft_check_off_stack, . - weft_check_off_stack

        .text

// The rest of the function runs on a segment, to which its arguments have been copied: rdx is where.
// A stack with this on it does not move. rbp is the frame of __morestack.
//
// Unwinders find the caller of the function here, as the function itself is the one that was called
// on the segment. On their way they have the segment left, by a cleanup as C has them.
//
// Nothing is current meanwhile: a signal handler would find some of the bounds of one stack, and
// some of those of the other.
.macro LEAVE_SEGMENT
        movq    WEFT_STOP_SEGMENT(%rbp), %rcx
        movq    weft_current_context@gottpoff(%rip), %r9
        movq    %fs:(%r9), %rsi
        movq    $0, %fs:(%r9)
        leaq    WEFT_STOP_SEGMENT(%rbp), %rsp
        movq    WEFT_SEGMENT_OUTER_LO(%rcx), %rdi
        movq    %rdi, WEFT_CONTEXT_STACK_LO(%rsi)
        movq    WEFT_SEGMENT_OUTER_HI(%rcx), %rdi
        movq    %rdi, WEFT_CONTEXT_STACK_HI(%rsi)
        movq    WEFT_SEGMENT_OUTER_GUARD(%rcx), %rdi
        movq    %rdi, WEFT_CONTEXT_GUARD(%rsi)
        // A request in the guard word stays there.
        movabsq $GUARD_REQUEST, %r10
        xchgq   %rdi, %fs:0x70
        cmpq    %r10, %rdi
        jne     .Lno_request\@
        movq    %r10, %fs:0x70
.Lno_request\@:
        movq    %rsi, %fs:(%r9)
        // Back among the free ones, of which nobody takes but all at once.
        movq    %rax, %r8
        movq    weft_free_segments(%rip), %rax
.Lagain\@:
        movq    %rax, WEFT_SEGMENT_NEXT(%rcx)
        lock cmpxchgq %rcx, weft_free_segments(%rip)
        jne     .Lagain\@
        movq    %r8, %rax
.endm

        .hidden weft_free_segments
        .type   weft_call_on_segment, @function
        .p2align 4
weft_call_on_segment:
.Lsegment_begin:
        .cfi_startproc
        .cfi_personality 0x9b, DW.ref.__gcc_personality_v0
        .cfi_lsda 0x1b, .Lsegment_lsda
        .cfi_def_cfa %rbp, 16
        .cfi_offset %rbp, -16
        .cfi_offset %rip, -8
        movq    %rdx, WEFT_STOP_ARGUMENTS(%rbp)
        LOAD_ARGUMENTS
        movq    %r11, %rsp
        movq    WEFT_STOP_PC(%rbp), %r10
        // See .Lvariadic.
        cmpl    $GCC_VARIADIC_LEA, 1(%r10)
        jne     1f
        leaq    16(%rbp), %r11
        addq    $4, %r10
1:      addq    $1, %r10
        movq    WEFT_STOP_RAX(%rbp), %rax
.Lsegment_call:
        callq   *%r10
.Lsegment_called:
        .globl  weft_segment_return
        .hidden weft_segment_return
weft_segment_return:
        // Live are the registers of results: rax, rdx, the first two vector registers, the x87 stack.
        LEAVE_SEGMENT
        // By the `ret` in the prologue, so that it pairs with the call from there.
        movq    WEFT_STOP_PC(%rbp), %rcx
        movq    (%rbp), %rdi
        .cfi_register %rbp, %rdi
        movq    %rcx, (%rbp)
        movq    %rbp, %rsp
        .cfi_def_cfa %rsp, 16
        movq    %rdi, %rbp
        .cfi_restore %rbp
        ret

        .cfi_def_cfa %rbp, 16
        .cfi_offset %rbp, -16
.Lsegment_cleanup:
        movq    %rax, WEFT_STOP_RAX(%rbp)
        LEAVE_SEGMENT
        movq    WEFT_STOP_RAX(%rbp), %rdi
        leaq    WEFT_STOP_VECTORS(%rbp), %rsp
        callq   _Unwind_Resume@PLT
        ud2
        .cfi_endproc
        .size   weft_call_on_segment, . - weft_call_on_segment

        // What the personality reads: of the one call here, where its cleanup is.
        .section .gcc_except_table, "a", @progbits
        .p2align 2
.Lsegment_lsda:
        .byte   0xff
        .byte   0xff
        .byte   0x01
        .uleb128 .Lsegment_calls_end - .Lsegment_calls
.Lsegment_calls:
        .uleb128 .Lsegment_call - .Lsegment_begin
        .uleb128 .Lsegment_called - .Lsegment_call
        .uleb128 .Lsegment_cleanup - .Lsegment_begin
        .uleb128 0
.Lsegment_calls_end:

        .section .data.rel.local.DW.ref.__gcc_personality_v0, "awG", @progbits, DW.ref.__gcc_personality_v0, comdat
        .hidden DW.ref.__gcc_personality_v0
        .weak   DW.ref.__gcc_personality_v0
        .p2align 3
        .type   DW.ref.__gcc_personality_v0, @object
        .size   DW.ref.__gcc_personality_v0, 8
DW.ref.__gcc_personality_v0:
        .quad   __gcc_personality_v0

        .text

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
