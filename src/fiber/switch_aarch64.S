/*
 * The switch for aarch64, AAPCS64.
 *
 * A saved context, from the stack pointer up:
 *
 *      0  x19 x20   16 x21 x22   32 x23 x24   48 x25 x26   64 x27 x28
 *     80  x29, where to go on
 *     96  d8 d9    112 d10 d11  128 d12 d13  144 d14 d15
 *    160  fpcr, unused
 *
 * The lower halves of v8 to v15 are the only vector state that a call keeps. x18 belongs to the
 * platform. Return addresses are not signed here; those that callers signed stay valid: each is
 * bound to the stack pointer, which is the same on any thread.
 */
#include "fiber/switch.h"

#if defined(__aarch64__) && !defined(WEFT__FIBER_UCONTEXT)

#define BTI_C hint #34 /* by number: assemblers without armv8.5 take it too */
#define FRAME 176

        .text

/* void weft__fiber_swap(void **save_sp [x0], void **load_sp [x1]) */
        .globl  weft__fiber_swap
        .hidden weft__fiber_swap
        .type   weft__fiber_swap, %function
        .p2align 5
weft__fiber_swap:
        .cfi_startproc
        BTI_C
        sub     sp, sp, #FRAME
        .cfi_adjust_cfa_offset FRAME
        stp     x19, x20, [sp, #0]
        stp     x21, x22, [sp, #16]
        stp     x23, x24, [sp, #32]
        stp     x25, x26, [sp, #48]
        stp     x27, x28, [sp, #64]
        stp     x29, x30, [sp, #80]
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        .cfi_rel_offset x19, 0
        .cfi_rel_offset x20, 8
        .cfi_rel_offset x21, 16
        .cfi_rel_offset x22, 24
        .cfi_rel_offset x23, 32
        .cfi_rel_offset x24, 40
        .cfi_rel_offset x25, 48
        .cfi_rel_offset x26, 56
        .cfi_rel_offset x27, 64
        .cfi_rel_offset x28, 72
        .cfi_rel_offset x29, 80
        .cfi_rel_offset x30, 88
        .cfi_rel_offset d8, 96
        .cfi_rel_offset d9, 104
        .cfi_rel_offset d10, 112
        .cfi_rel_offset d11, 120
        .cfi_rel_offset d12, 128
        .cfi_rel_offset d13, 136
        .cfi_rel_offset d14, 144
        .cfi_rel_offset d15, 152
        mrs     x9, fpcr
        str     x9, [sp, #160]
        mov     x10, sp
        str     x10, [x0]
        /* The other context has the same shape, so what is said above of this frame holds on. */
        ldr     x10, [x1]
        mov     sp, x10
        ldr     x11, [sp, #160]
        /* Writing fpcr drains the pipeline: only when it differs. */
        cmp     x9, x11
        b.eq    1f
        msr     fpcr, x11
1:      ldp     x19, x20, [sp, #0]
        ldp     x21, x22, [sp, #16]
        ldp     x23, x24, [sp, #32]
        ldp     x25, x26, [sp, #48]
        ldp     x27, x28, [sp, #64]
        ldp     x29, x30, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        add     sp, sp, #FRAME
        .cfi_adjust_cfa_offset -FRAME
        .cfi_restore x19
        .cfi_restore x20
        .cfi_restore x21
        .cfi_restore x22
        .cfi_restore x23
        .cfi_restore x24
        .cfi_restore x25
        .cfi_restore x26
        .cfi_restore x27
        .cfi_restore x28
        .cfi_restore x29
        .cfi_restore x30
        .cfi_restore d8
        .cfi_restore d9
        .cfi_restore d10
        .cfi_restore d11
        .cfi_restore d12
        .cfi_restore d13
        .cfi_restore d14
        .cfi_restore d15
        /* ret, unlike on x86-64: a return address has no landing pad, so a jump there would fault
         * on pages that are guarded by BTI. */
        ret
        .cfi_endproc
        .size   weft__fiber_swap, .-weft__fiber_swap

/*
 * Where a new fiber starts: x19 holds its entry, x20 the argument. This is the outermost frame, so
 * the return address is said to be undefined, and the frame pointer is cleared for those who follow
 * frame pointers. Unwinders look up the address before the one they return to: hence the nop.
 */
        .globl  weft__fiber_start
        .hidden weft__fiber_start
        .type   weft__fiber_start, %function
        .p2align 4
weft__fiber_start:
        .cfi_startproc
        .cfi_undefined x30
        .cfi_undefined x29
        nop
        .globl  weft__fiber_start_landing
        .hidden weft__fiber_start_landing
weft__fiber_start_landing:
        BTI_C
        mov     x29, xzr
        mov     x30, xzr
        mov     x0, x20
        blr     x19
        brk     #1 /* entry returned */
        .cfi_endproc
        .size   weft__fiber_start, .-weft__fiber_start

/*
 * void weft__fiber_call_above(void *sp [x0], void (*fn)(void *) [x1], void *arg [x2])
 *
 * Calls fn(arg). To an unwinder the caller of this frame is the context that was saved at sp, which
 * is only described: nothing of it is loaded. x19 holds sp, and fn keeps it.
 */
        .globl  weft__fiber_call_above
        .hidden weft__fiber_call_above
        .type   weft__fiber_call_above, %function
        .p2align 4
weft__fiber_call_above:
        .cfi_startproc
        BTI_C
        stp     x29, x30, [sp, #-32]!
        .cfi_adjust_cfa_offset 32
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        str     x19, [sp, #16]
        .cfi_rel_offset x19, 16
        mov     x29, sp
        mov     x19, x0
        mov     x0, x2
        .cfi_remember_state
        .cfi_def_cfa x19, FRAME
        .cfi_rel_offset x19, 0
        .cfi_rel_offset x20, 8
        .cfi_rel_offset x21, 16
        .cfi_rel_offset x22, 24
        .cfi_rel_offset x23, 32
        .cfi_rel_offset x24, 40
        .cfi_rel_offset x25, 48
        .cfi_rel_offset x26, 56
        .cfi_rel_offset x27, 64
        .cfi_rel_offset x28, 72
        .cfi_rel_offset x29, 80
        .cfi_rel_offset x30, 88
        blr     x1
        .globl  weft__fiber_called_above
        .hidden weft__fiber_called_above
weft__fiber_called_above:
        .cfi_restore_state
        ldr     x19, [sp, #16]
        .cfi_restore x19
        ldp     x29, x30, [sp], #32
        .cfi_adjust_cfa_offset -32
        .cfi_restore x29
        .cfi_restore x30
        ret
        .cfi_endproc
        .size   weft__fiber_call_above, .-weft__fiber_call_above

/* Every place that an indirect jump may reach has its landing pad: let the linker keep BTI on. */
#if defined(__ARM_FEATURE_BTI_DEFAULT)
        .section .note.gnu.property, "a"
        .p2align 3
        .word   4, 16, 5
        .asciz  "GNU"
        .word   0xc0000000, 4, 1, 0
#endif
#endif

        .section .note.GNU-stack, "", %progbits
