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

/* void weft__fiber_swap(void **save_sp [rdi], void **load_sp [rsi]) */
        .globl  weft__fiber_swap
        .hidden weft__fiber_swap
        .type   weft__fiber_swap, @function
        .p2align 5
weft__fiber_swap:
        .cfi_startproc
        endbr64
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbp, 0
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbx, 0
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r12, 0
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r13, 0
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r14, 0
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r15, 0
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movl    (%rsp), %eax
        movzwl  4(%rsp), %ecx
        movq    %rsp, (%rdi)
        /* The other context has the same shape, so what is said above of this frame holds on. */
        movq    (%rsi), %rsp
        /* Loading a control word is dear and almost never needed: reload only what differs. */
        cmpl    (%rsp), %eax
        jne     3f
1:      cmpw    4(%rsp), %cx
        jne     4f
2:      addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %r15
        .cfi_adjust_cfa_offset -8
        .cfi_restore r15
        popq    %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore r14
        popq    %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore r13
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore r12
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbx
        popq    %rbp
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbp
        /* Not ret: the processor would predict a return to whoever called this on the stack that
         * was left, always wrongly (5 ns against 28 measured). notrack, because a return address
         * carries no endbr64. */
        popq    %rdx
        .cfi_adjust_cfa_offset -8
        .cfi_register rip, rdx
        notrack jmp *%rdx

        /* Out of the way, with the frame as it was at 1 and 2. */
        .cfi_adjust_cfa_offset 64
        .cfi_rel_offset rip, 56
        .cfi_rel_offset rbp, 48
        .cfi_rel_offset rbx, 40
        .cfi_rel_offset r12, 32
        .cfi_rel_offset r13, 24
        .cfi_rel_offset r14, 16
        .cfi_rel_offset r15, 8
3:      ldmxcsr (%rsp)
        jmp     1b
4:      fldcw   4(%rsp)
        jmp     2b
        .cfi_endproc
        .size   weft__fiber_swap, .-weft__fiber_swap

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

#endif

        .section .note.GNU-stack, "", @progbits
