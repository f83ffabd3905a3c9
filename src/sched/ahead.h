/*
 * Fetching the next task ahead.
 *
 * Where many tasks take turns, what one needs has left the caches when its turn comes: the task,
 * the header of its stack, the saved context and the frames above it, each found by way of the one
 * before. Of a TCP server with a thousand connections those misses were half of all it did beside
 * system calls. So a task that is picked has the next one's stack fetched, which is two misses at
 * a time when they pass, and the one behind it has its first line fetched, which says where its
 * stack is.
 *
 * The saved stack pointer stands in the header, which is not there yet. But tasks that queue up
 * behind each other mostly wait at the same place, so it is guessed to lie as far below its header
 * as that of the task that leaves.
 */
#ifndef WEFT_SCHED_AHEAD_H
#define WEFT_SCHED_AHEAD_H

#include "sched/sched.h"

/* From a line below the saved context up: the frames of a wait inside a socket call. */
#define WEFT__AHEAD_LINES 12

/* After a pick by a task that stands depth bytes below the header of its stack. */
static inline void weft__fetch_next(const struct weft__runq *q, size_t depth)
{
#if WEFT__FETCHES_AHEAD
    const struct weft__task *next = weft__runq_peek(q, 0);
    if (next == NULL)
        return;
    /* Perhaps a thief has it already, and it has ended: task memory is type-stable. */
    uintptr_t stack = (uintptr_t)weft__guess(&next->stack);
    if (stack == 0)
        return; /* new, and so are those behind it: whoever spawned them has just written them */
    weft__fetch(stack, 1);
    weft__fetch(stack - depth - WEFT__CACHE_LINE, WEFT__AHEAD_LINES);
    const struct weft__task *after = weft__runq_peek(q, 1);
    if (after)
        weft__fetch((uintptr_t)after, 1);
#else
    (void)q, (void)depth;
#endif
}

#endif
