/*
 * Call chains of others: of a fiber that does not run, and of another thread.
 *
 * A fiber's chain starts at the context that the switch saved. weft__fiber_call_above() (see the
 * switch) makes a frame whose caller, as its unwind information has it, is that context; a
 * backtrace() taken inside goes on into the fiber, wherever it stands, by the same tables that
 * exceptions and debuggers use. Nothing is resumed and no stack is switched, so any thread may look
 * who keeps the fiber from being resumed meanwhile.
 *
 * A thread is asked by SIGURG, which a process ignores unless it asks for it (Go preempts by it for
 * the same reason), and answers from the handler.
 */
#ifndef WEFT_FIBER_TRACE_H
#define WEFT_FIBER_TRACE_H

#include "fiber/stack.h"

#define WEFT__TRACE_FRAMES 64 /* the innermost of a longer chain */

struct weft__trace {
    size_t count;
    void *frame[WEFT__TRACE_FRAMES]; /* return addresses, innermost first */
};

/* Of the caller. */
WEFT__NOINLINE void weft__trace_here(struct weft__trace *ret);
/* Of a suspended fiber. No frames with ucontext, whose contexts are not described. */
void weft__fiber_trace(const struct weft__stack *s, struct weft__trace *ret);

/*
 * Of a thread of this process that is not the caller, if it answers within timeout_ns. One at a
 * time: a second caller waits for the first. 0; -ETIMEDOUT; -ESRCH; -EBUSY, when the program has
 * a handler of its own for SIGURG; -EOPNOTSUPP on valgrind; -EINTR when the thread waits in a call
 * that a signal would end, as a sleep: it is not asked, and *ret has the place of the call alone.
 */
int weft__thread_trace(int thread_id, uint64_t timeout_ns, struct weft__trace *ret);
/* The calling thread may be asked; unless SIGURG is the program's. */
void weft__thread_trace_allow(void);

/* In a forked child that starts anew: who asked is gone. */
void weft__trace_forget(void);

/* Loads what taking a trace needs, so that the first one in a handler or in a panic need not. */
void weft__trace_init(void);

#endif
