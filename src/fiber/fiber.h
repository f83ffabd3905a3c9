/*
 * Fibers: the context switch.
 *
 * A fiber is a struct weft__stack with a saved context on it. A thread's own stack takes part
 * through a struct weft__stack that describes it (weft__fiber_adopt_thread), so that a switch
 * always goes from one to another. Sanitizers, valgrind and the C++ runtime are told of every
 * switch in the same function that makes it.
 */
#ifndef WEFT_FIBER_FIBER_H
#define WEFT_FIBER_FIBER_H

#include "fiber/stack.h"
#include "fiber/switch.h"

/* 0, or -ENOTSUP when the program runs with a hardware shadow stack, which a switch of stacks would
 * trip: the runtime refuses to start. */
int weft__fiber_check_cpu(void);
/* The sanitizer that the program was built for and this library was not, so that nobody tells it of
 * switches; NULL: none. */
const char *weft__fiber_untold_tool(void);

/* Prepares s so that the first switch to it calls entry(arg) on it. entry never returns: it leaves
 * by weft__fiber_switch_final(). The fiber starts with the float control words of the caller. */
void weft__fiber_init(struct weft__stack *s, void (*entry)(void *), void *arg);

/* Describes the calling thread's own stack in *s, for switching away from and back to. */
void weft__fiber_adopt_thread(struct weft__stack *s);
/* The same for the stack of a fiber that stands on `fiber`: for a loop nested on it, whose context
 * is kept apart from the fiber's own. */
void weft__fiber_adopt_fiber(struct weft__stack *s, const struct weft__stack *fiber);
void weft__fiber_unadopt_thread(struct weft__stack *s);
/* The calling thread stands on `fiber` instead of its own stack, NULL: on its own again. For
 * threads that are simulated on one: those who adopt it must find the right one. */
void weft__fiber_stand_on(const struct weft__stack *fiber);

/* weft__fiber_switch() with all that it must tell others; use that one. */
void weft__fiber_switch_told(struct weft__stack *from, struct weft__stack *to);
WEFT__NORETURN void weft__fiber_switch_final_told(struct weft__stack *from, struct weft__stack *to);

/* Of the C++ runtime: the calling thread's caught exceptions (a pointer and a count). NULL when the
 * program has no C++ runtime, or loaded it later than us with dlopen(). */
extern void *__cxa_get_globals(void) __attribute__((weak));

#if defined(__x86_64__) && !defined(WEFT__FIBER_UCONTEXT)
/* weft__fiber_swap() without a call: see switch_x86_64.S for what that is worth. Clobbers what a
 * call may clobber, and what it may not as well, but for rbp: the compiler saves what its function
 * uses of that, and describes where. It takes the function for one that calls nothing, and may keep
 * things in the red zone: hence the 128 bytes. Taking the frame address makes it use a frame
 * pointer, by which unwinders find their way whatever happens to rsp. */
static inline __attribute__((always_inline)) void weft__fiber_swap_here(void **save_sp,
                                                                        void **load_sp)
{
    void *frame = __builtin_frame_address(0);
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n\t"
                     "leaq 1f(%%rip), %%rdx\n\t"
                     "jmp weft__fiber_jump\n"
                     "1:\tsubq $-128, %%rsp"
                     : "+D"(save_sp), "+S"(load_sp), "+d"(frame)
                     :
                     : "rax", "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
                       "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
                       "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"
#ifdef __AVX512F__
                       ,
                       "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23",
                       "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1",
                       "k2", "k3", "k4", "k5", "k6", "k7"
#endif
    );
}
#else
static inline void weft__fiber_swap_here(void **save_sp, void **load_sp)
{
    weft__fiber_swap(save_sp, load_sp);
}
#endif

/*
 * Leaves `from`, the running fiber, and resumes `to`. Returns when somebody switches to `from`,
 * maybe on another thread: every thread-local must be asked for again. Keeps callee-saved registers
 * and the float control words; errno is NOT kept.
 *
 * Inline, because a call that is left by a switch makes the processor mispredict the returns after
 * it.
 */
static inline void weft__fiber_switch(struct weft__stack *from, struct weft__stack *to)
{
#if defined(NDEBUG) && !defined(WEFT__ASAN) && !defined(WEFT__TSAN)
    if (WEFT__LIKELY(__cxa_get_globals == NULL)) {
        weft__fiber_swap_here(&from->sp, &to->sp);
        return;
    }
#endif
    weft__fiber_switch_told(from, to);
}

/* The same, but `from` is never resumed: its fake stack (ASan) is freed. The fiber entered must put
 * `from` back (weft__stack_put), not before it runs. */
static inline WEFT__NORETURN void weft__fiber_switch_final(struct weft__stack *from,
                                                           struct weft__stack *to)
{
#if defined(NDEBUG) && !defined(WEFT__ASAN) && !defined(WEFT__TSAN)
    if (WEFT__LIKELY(__cxa_get_globals == NULL)) {
        weft__fiber_swap_here(&from->sp, &to->sp);
        __builtin_trap(); /* somebody resumed a fiber that had ended */
    }
#endif
    weft__fiber_switch_final_told(from, to);
}

/* First thing a fiber's entry function must call: completes the switch for the sanitizers. (A
 * return from weft__fiber_switch has done so by itself.) */
void weft__fiber_entered(struct weft__stack *self);

#endif
