/*
 * The switch for x86-64, System V calling convention.
 *
 * A saved context, from the stack pointer up:
 *
 *      0  mxcsr (4 bytes), x87 control word (2), unused (2)
 *      8  rbp
 *     16  where to go on
 *
 * The other registers that a call keeps are on the stack above, where the function that switches
 * has put those that it uses: it says that the switch keeps none. So they are saved once, by who
 * has its unwind information at hand. No vector registers: a call keeps none.
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
 * For who comes by a call: keeps what a call keeps.
 */
        .globl  weft__fiber_swap
        .hidden weft__fiber_swap
        .type   weft__fiber_swap, @function
        .p2align 5
weft__fiber_swap:
        .cfi_startproc
        endbr64
        leaq    -40(%rsp), %rsp
        .cfi_def_cfa_offset 48
        movq    %rbx, 32(%rsp)
        .cfi_rel_offset rbx, 32
        movq    %r12, 24(%rsp)
        .cfi_rel_offset r12, 24
        movq    %r13, 16(%rsp)
        .cfi_rel_offset r13, 16
        movq    %r14, 8(%rsp)
        .cfi_rel_offset r14, 8
        movq    %r15, (%rsp)
        .cfi_rel_offset r15, 0
        leaq    1f(%rip), %rdx
        jmp     weft__fiber_jump
1:      movq    (%rsp), %r15
        movq    8(%rsp), %r14
        movq    16(%rsp), %r13
        movq    24(%rsp), %r12
        movq    32(%rsp), %rbx
        movq    40(%rsp), %rdx
        leaq    48(%rsp), %rsp
        .cfi_def_cfa_offset 0
        .cfi_register rip, rdx
        .cfi_restore rbx
        .cfi_restore r12
        .cfi_restore r13
        .cfi_restore r14
        .cfi_restore r15
        /* Not ret: see below. */
        notrack jmp *%rdx
        .cfi_endproc
        .size   weft__fiber_swap, .-weft__fiber_swap

/*
 * For who comes by a jump, with the address to go on at in rdx: keeps rbp and the float control
 * words. Not calling matters more than all the rest: a call leaves its return address in the
 * processor's return predictor, which the jump at the end does not take out, so every return after
 * it, in all callers, would be predicted wrongly (8 ns of 13 for a switch from a function two calls
 * deep).
 */
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
        leaq    -24(%rsp), %rsp
        .cfi_def_cfa_offset 24
        movq    %rdx, 16(%rsp)
        .cfi_offset rip, -8
        movq    %rbp, 8(%rsp)
        .cfi_rel_offset rbp, 8
        /* 2 ns and 1.5 ns of the whole. */
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movq    (%rsi), %rax
        movq    %rsp, (%rdi)
        movl    (%rsp), %ecx
        movzwl  4(%rsp), %r8d
        /* From here on we stand in the other context, which has the same shape, but still on this
         * stack: a signal finds room below rsp. */
        .cfi_def_cfa rax, 24
        movq    16(%rax), %rdx
        movq    8(%rax), %rbp
        /* Loading a control word is dear and almost never needed: reload only what differs. */
        cmpl    (%rax), %ecx
        jne     3f
1:      cmpw    4(%rax), %r8w
        jne     4f
        /* What was loaded stays readable below rsp, in the red zone, for unwinders. */
2:      leaq    24(%rax), %rsp
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
 * Where a new fiber starts: its entry and the argument are on the stack. This is the outermost
 * frame, so the return address is said to be undefined, and the frame pointer is cleared for those
 * who follow frame pointers. Unwinders look up the address before the one they return to: hence the nop.
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
        movq    (%rsp), %rax
        movq    8(%rsp), %rdi
        leaq    16(%rsp), %rsp
        callq   *%rax
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
        .cfi_def_cfa rbx, 24
        .cfi_offset rip, -8
        .cfi_offset rbp, -16
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
