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

/* Prepares s so that the first switch to it calls entry(arg) on it. entry never returns: it leaves
 * by weft__fiber_switch_final(). The fiber starts with the float control words of the caller. */
void weft__fiber_init(struct weft__stack *s, void (*entry)(void *), void *arg);

/* Describes the calling thread's own stack in *s, for switching away from and back to. */
void weft__fiber_adopt_thread(struct weft__stack *s);
void weft__fiber_unadopt_thread(struct weft__stack *s);

/* weft__fiber_switch() with all that it must tell others; use that one. */
void weft__fiber_switch_told(struct weft__stack *from, struct weft__stack *to);

/* Of the C++ runtime: the calling thread's caught exceptions (a pointer and a count). NULL when the
 * program has no C++ runtime, or loaded it later than us with dlopen(). */
extern void *__cxa_get_globals(void) __attribute__((weak));

/*
 * Leaves `from`, the running fiber, and resumes `to`. Returns when somebody switches to `from`,
 * maybe on another thread: every thread-local must be asked for again. Keeps callee-saved registers
 * and the float control words; errno is NOT kept.
 *
 * Inline, because every frame that returns after the switch costs a mispredicted return.
 */
static inline void weft__fiber_switch(struct weft__stack *from, struct weft__stack *to)
{
#if defined(NDEBUG) && !defined(WEFT__ASAN) && !defined(WEFT__TSAN)
    if (WEFT__LIKELY(__cxa_get_globals == NULL)) {
        weft__fiber_swap(&from->sp, &to->sp);
        return;
    }
#endif
    weft__fiber_switch_told(from, to);
}

/* The same, but `from` is never resumed: its fake stack (ASan) is freed. The fiber entered must put
 * `from` back (weft__stack_put), not before it runs. */
WEFT__NORETURN void weft__fiber_switch_final(struct weft__stack *from, struct weft__stack *to);

/* First thing a fiber's entry function must call: completes the switch for the sanitizers. (A
 * return from weft__fiber_switch has done so by itself.) */
void weft__fiber_entered(struct weft__stack *self);

#endif
