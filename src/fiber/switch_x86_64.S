/*
 * The switch for x86-64, System V calling convention.
 *
 * A saved context, from the stack pointer up:
 *
 *      0  mxcsr (4 bytes), x87 control word (2), unused (2)
 *      8  r15   16 r14   24 r13   32 r12   40 rbx   48 rbp
 *     56  where to go on
 *
 * No vector registers: the switch is a call, and a call keeps none.
 *
 * <cet.h> is not included: it would mark this object as fit for shadow stacks, which a switch of
 * stacks is not. endbr64 stands wherever an indirect jump may land.
 */
#include "fiber/switch.h"

#if defined(__x86_64__) && !defined(WEFT__FIBER_UCONTEXT)

        .text

/*
 * void weft__fiber_swap(void **save_sp [rdi], void **load_sp [rsi])
 *
 * weft__fiber_jump is the same for who comes by a jump, with the address to go on at in rdx. Not
 * calling matters more than all the rest: a call leaves its return address in the processor's
 * return predictor, which the jump at the end does not take out, so every return after it, in all
 * callers, would be predicted wrongly (8 ns of 13 for a switch from a function two calls deep).
 */
        .globl  weft__fiber_swap
        .hidden weft__fiber_swap
        .type   weft__fiber_swap, @function
        .p2align 5
weft__fiber_swap:
        .cfi_startproc
        endbr64
        movq    (%rsp), %rdx
        leaq    8(%rsp), %rsp
        .cfi_def_cfa_offset 0
        .cfi_register rip, rdx
        jmp     weft__fiber_jump
        .cfi_endproc
        .size   weft__fiber_swap, .-weft__fiber_swap

        .globl  weft__fiber_jump
        .hidden weft__fiber_jump
        .type   weft__fiber_jump, @function
        .p2align 5
weft__fiber_jump:
        .cfi_startproc
        .cfi_def_cfa rsp, 0
        .cfi_register rip, rdx
        /* Plain moves, not push and pop: a pop from the stack just loaded waits for the processor's
         * stack engine, which cost 1 ns of 7. */
        leaq    -64(%rsp), %rsp
        .cfi_def_cfa_offset 64
        movq    %rdx, 56(%rsp)
        .cfi_offset rip, -8
        movq    %rbp, 48(%rsp)
        .cfi_rel_offset rbp, 48
        movq    %rbx, 40(%rsp)
        .cfi_rel_offset rbx, 40
        movq    %r12, 32(%rsp)
        .cfi_rel_offset r12, 32
        movq    %r13, 24(%rsp)
        .cfi_rel_offset r13, 24
        movq    %r14, 16(%rsp)
        .cfi_rel_offset r14, 16
        movq    %r15, 8(%rsp)
        .cfi_rel_offset r15, 8
        /* 2 ns and 1.5 ns of the whole. */
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movq    (%rsi), %rax
        movq    %rsp, (%rdi)
        movl    (%rsp), %ecx
        movzwl  4(%rsp), %r8d
        /* From here on we stand in the other context, which has the same shape, but still on this
         * stack: a signal finds room below rsp. */
        .cfi_def_cfa rax, 64
        movq    56(%rax), %rdx
        movq    48(%rax), %rbp
        movq    40(%rax), %rbx
        movq    32(%rax), %r12
        movq    24(%rax), %r13
        movq    16(%rax), %r14
        movq    8(%rax), %r15
        /* Loading a control word is dear and almost never needed: reload only what differs. */
        cmpl    (%rax), %ecx
        jne     3f
1:      cmpw    4(%rax), %r8w
        jne     4f
        /* What was loaded stays readable below rsp, in the red zone, for unwinders. */
2:      leaq    64(%rax), %rsp
        /* Not ret: the processor would predict a return to whoever called this on the stack that
         * was left, always wrongly (5 ns against 28 measured). notrack, because a return address
         * carries no endbr64. */
        notrack jmp *%rdx
3:      ldmxcsr (%rax)
        jmp     1b
4:      fldcw   4(%rax)
        jmp     2b
        .cfi_endproc
        .size   weft__fiber_jump, .-weft__fiber_jump

/*
 * Where a new fiber starts: rbx holds its entry, r12 the argument. This is the outermost frame, so
 * the return address is said to be undefined, and the frame pointer is cleared for those who follow
 * frame pointers. Unwinders look up the address before the one they return to: hence the nop.
 */
        .globl  weft__fiber_start
        .hidden weft__fiber_start
        .type   weft__fiber_start, @function
        .p2align 4
weft__fiber_start:
        .cfi_startproc
        .cfi_undefined rip
        .cfi_undefined rbp
        nop
        .globl  weft__fiber_start_landing
        .hidden weft__fiber_start_landing
weft__fiber_start_landing:
        endbr64
        xorl    %ebp, %ebp
        movq    %r12, %rdi
        callq   *%rbx
        ud2 /* entry returned */
        .cfi_endproc
        .size   weft__fiber_start, .-weft__fiber_start

/*
 * void weft__fiber_call_above(void *sp [rdi], void (*fn)(void *) [rsi], void *arg [rdx])
 *
 * Calls fn(arg). To an unwinder the caller of this frame is the context that was saved at sp, which
 * is only described: nothing of it is loaded. rbx holds sp, and fn keeps it.
 */
        .globl  weft__fiber_call_above
        .hidden weft__fiber_call_above
        .type   weft__fiber_call_above, @function
        .p2align 4
weft__fiber_call_above:
        .cfi_startproc
        endbr64
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbx, 0
        movq    %rdi, %rbx
        movq    %rdx, %rdi
        .cfi_remember_state
        .cfi_def_cfa rbx, 64
        .cfi_offset rip, -8
        .cfi_offset rbp, -16
        .cfi_offset rbx, -24
        .cfi_offset r12, -32
        .cfi_offset r13, -40
        .cfi_offset r14, -48
        .cfi_offset r15, -56
        callq   *%rsi
        .globl  weft__fiber_called_above
        .hidden weft__fiber_called_above
weft__fiber_called_above:
        .cfi_restore_state
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbx
        ret
        .cfi_endproc
        .size   weft__fiber_call_above, .-weft__fiber_call_above

#endif

        .section .note.GNU-stack, "", @progbits
