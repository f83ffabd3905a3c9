#include "sched/queues.h"

/* The global queue is taken in batches of at most this, so that what overflowed is served at the
 * pace of the local queue. */
#define GLOBAL_BATCH 64

void weft__worker_overflow(struct weft__worker *w, struct weft__task *task)
{
    struct weft__task *half[WEFT__RUNQ_CAP / 2 + 1];
    unsigned n = weft__runq_take_half(&w->runq, half, WEFT__RUNQ_CAP / 2);
    half[n++] = task;
    for (unsigned i = 0; i + 1 < n; i++)
        half[i]->qnode.next = &half[i + 1]->qnode;
    weft__count_up(&w->overflows);
    if (!weft__inject_push_chain(&w->sched->inject, &half[0]->qnode, &half[n - 1]->qnode, n))
        WEFT_ASSERT(!"the global queue is closed while tasks live");
    weft__sched_wake_one(w->sched);
}

void weft__sched_enqueue(struct weft__core *core, struct weft__task *task)
{
    struct weft__sched *s = weft__sched_of(core);
    struct weft__ctx *c = weft__ctx_now();
    struct weft__worker *w = c ? c->worker : NULL;
    if (WEFT__UNLIKELY(w == NULL || w->sched != s)) {
        /* The caller may hold nothing but the task, which may run to its end, and its runtime be
         * gone, as soon as it is queued. */
        weft__core_ref(core);
        weft__a64_add_relaxed(&s->remote_schedules, 1);
        if (c == NULL || c->core == NULL)
            weft__a32_store_relaxed(&s->is_woken_outside, 1);
        if (!weft__inject_push(&s->inject, &task->qnode))
            WEFT_ASSERT(!"the global queue is closed while tasks live");
        weft__sched_wake_one(s);
        weft__core_unref(core);
        return;
    }
    /* A task woken by a task runs next, while what it needs is in the cache; one woken by an event
     * waits its turn. */
    if (s->has_slot && c->current != NULL) {
        struct weft__task *before = weft__aptr_swap_acq_rel(&w->slot, task);
        if (before)
            weft__worker_push(w, before);
        return;
    }
    weft__worker_push(w, task);
}

struct weft__task *weft__worker_take_global(struct weft__worker *w)
{
    struct weft__qnode *batch[GLOBAL_BATCH];
    struct weft__sched *s = w->sched;
    size_t len = weft__inject_len(&s->inject);
    if (len == 0)
        return NULL;
    size_t room = WEFT__RUNQ_CAP - weft__runq_len(&w->runq);
    size_t share = len / s->worker_count + 1;
    size_t max = share < GLOBAL_BATCH ? share : GLOBAL_BATCH;
    if (max > room / 2 + 1)
        max = room / 2 + 1;
    size_t n = weft__inject_pop_many(&s->inject, batch, max);
    if (n == 0)
        return NULL;
    for (size_t i = 1; i < n; i++)
        weft__worker_push(w, WEFT__CONTAINER_OF(batch[i], struct weft__task, qnode));
    return WEFT__CONTAINER_OF(batch[0], struct weft__task, qnode);
}

void weft__worker_spill_all(struct weft__worker *w)
{
    struct weft__task *t = weft__worker_take_slot(w);
    do {
        if (t && !weft__inject_push(&w->sched->inject, &t->qnode))
            WEFT_ASSERT(!"the global queue is closed while tasks live");
    } while ((t = weft__runq_pop(&w->runq)) != NULL);
}
