/*
 * Fetching the next task ahead.
 *
 * Where many tasks take turns, what one needs has left the caches when its turn comes: the task,
 * the header of its stack, the saved context and the frames above it, each found by way of the one
 * before. Of a TCP server with a thousand connections those misses were half of all it did beside
 * system calls. So when a task parks and another is picked, the stack of the one after that is
 * fetched, and of the one behind it the first line, which says where its stack is.
 *
 * The saved stack pointer stands in the header, which is not there yet. But tasks mostly wait at
 * the same few places, so it is guessed to lie as far below its header as that of the task that
 * parked last. A task that is woken by a task has it fetched at once: it runs as soon as that one
 * parks.
 */
#ifndef WEFT_SCHED_AHEAD_H
#define WEFT_SCHED_AHEAD_H

#include "sched/sched.h"

/* From a line below the saved context up: the frames of a wait inside a socket call; and as much as
 * the switch itself needs. */
#define WEFT__AHEAD_LINES 12
#define WEFT__AHEAD_LINES_MIN 2

/* By the worker's thread, of a task in its queues. Perhaps a thief has it already, and it has
 * ended: task memory is type-stable, and of the stack nothing is read. False: it has none, being
 * new, and lies in the cache of who spawned it. */
static inline bool weft__fetch_stack(const struct weft__task *t, size_t depth, unsigned lines)
{
    if (!WEFT__FETCHES_AHEAD)
        return false;
    uintptr_t stack = (uintptr_t)weft__guess(&t->stack);
    if (stack == 0)
        return false;
    weft__fetch(stack, 1);
    weft__fetch(stack - depth - WEFT__CACHE_LINE, lines);
    return true;
}

/* By the worker's thread, after a pick. */
static inline void weft__fetch_next(const struct weft__worker *w)
{
    if (!WEFT__FETCHES_AHEAD)
        return;
    const struct weft__task *next = weft__runq_peek(&w->runq, 0);
    if (next == NULL || !weft__fetch_stack(next, w->wait_depth, WEFT__AHEAD_LINES))
        return;
    const struct weft__task *after = weft__runq_peek(&w->runq, 1);
    if (after)
        weft__fetch((uintptr_t)after, 1);
}

#endif
