/*
 * A scheduler whose choices all come from a seed: the same program makes the same steps again.
 *
 * The order of a run queue hides bugs: tasks that take turns in one order never meet in another.
 * Here the next task is any of those that are ready, so that the interleavings of a program are
 * tried by trying seeds, and one that fails is had again by its seed. What else is chosen at random
 * (the branch at which a select starts) uses the same generator.
 *
 * The trace is a hash of what happened to which task, in order. Tasks are told apart by a serial of
 * the runtime: ids are the process's. What comes from other threads is queued as they come; it is
 * outside of what a seed can decide.
 */
#include "sched/queues.h"

void weft__seeded_trace(struct weft__sched *s, uint64_t serial, unsigned event)
{
    /* One writer at a time: the worker. Each step is a bijection of the state, so two traces that
     * differ once stay different but for later events that happen to undo it. */
    uint64_t h = weft__a64_load_relaxed(&s->trace);
    h = (h ^ (serial << 4 | event)) * UINT64_C(0x9E3779B97F4A7C15);
    weft__a64_store_relaxed(&s->trace, h ^ h >> 32);
}

struct weft__task *weft__seeded_pick(struct weft__worker *w)
{
    /* What came from outside, or was too much for the ring, is chosen from as well. */
    struct weft__task *t = NULL;
    if (weft__runq_len(&w->runq) < WEFT__RUNQ_CAP / 2)
        t = weft__worker_take_global(w);
    if (t != NULL)
        weft__worker_push(w, t);
    uint32_t len = weft__runq_len(&w->runq);
    size_t outside = weft__inject_len(&w->sched->inject);
    if (len + outside == 0)
        return NULL;
    /* What the ring has no room for is as likely, one after the other: tasks that are always ready
     * would keep it out of the ring. */
    uint64_t n = weft__random_next(&w->rng) % (len + outside);
    if (n >= len)
        return weft__inject_pop(&w->sched->inject); /* nobody else takes */
    weft__runq_bring_forward(&w->runq, (uint32_t)n);
    return weft__runq_pop(&w->runq);
}
