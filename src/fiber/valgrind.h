/*
 * Programs that valgrind runs.
 *
 * It takes a thread for one that has a single stack, and follows the stack pointer. It is told of
 * fibers' stacks (see stack.c), and looks which one a thread stands on whenever it lets that thread
 * run. In a handler on the alternate stack, which is none that it knows, it keeps the stack of
 * whichever thread ran before; back from the handler, it takes the next step of the stack pointer
 * for a switch, and complains of the frame made by it (3.19: VG_(unknown_SP_update), and who calls
 * that, VG_(acquire_BigLock)). So nothing of ours may wait, or take long, in a handler there.
 */
#ifndef WEFT_FIBER_VALGRIND_H
#define WEFT_FIBER_VALGRIND_H

#include "atomic/atomic.h"
#include "base/base.h"

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define WEFT__VALGRIND 1
#endif
#endif

#ifdef WEFT__VALGRIND
/* Asked each time, it took 2 of the 8 ns of a get and a put of a stack. */
static inline bool weft__on_valgrind(void)
{
    enum { UNKNOWN, NO, YES };
    static weft__a32 answer; /* every thread writes the same */
    uint32_t a = weft__a32_load_relaxed(&answer);
    if (WEFT__UNLIKELY(a == UNKNOWN)) {
        /* coverage: `make memcheck` is there, and counts nothing */
        a = RUNNING_ON_VALGRIND != 0 ? YES : NO;
        weft__a32_store_relaxed(&answer, a);
    }
    return a == YES;
}
#else
static inline bool weft__on_valgrind(void)
{
    return false;
}
#endif

#endif
