/*
 * The queues of a worker: where a task goes that may run, and which one comes next.
 *
 * A task woken by a task goes to the next-to-run slot, and what stood there to the worker's ring;
 * from outside it goes to the global queue. What runs once per task is inline.
 */
#ifndef WEFT_SCHED_QUEUES_H
#define WEFT_SCHED_QUEUES_H

#include "sched/sched.h"

/* So many runs in a row out of the slot while others are queued; then the queue has its turn.
 * Tokio's limit is 3, which makes it wake another worker for each ping-pong; the number only has to
 * be bounded. */
#define WEFT__SLOT_STREAK_MAX 32

/* ---- putting tasks in ---- */

static inline void weft__count_up(weft__a64 *a)
{
    /* one writer: no read-modify-write */
    weft__a64_store_relaxed(a, weft__a64_load_relaxed(a) + 1);
}

/* Moves half of the ring and the task to the global queue. By its thread. */
void weft__worker_overflow(struct weft__worker *w, struct weft__task *task);
/* Queues a task with this route, which is not 0, if it belongs elsewhere than a plain one does:
 * else false, and it is left to the caller. By w's thread. */
WEFT_MUST_CHECK
bool weft__worker_queue_routed(struct weft__worker *w, struct weft__task *task, uint32_t route);

/* To the ring. By its thread. */
static inline void weft__worker_push(struct weft__worker *w, struct weft__task *task)
{
    /* Too few for another worker to be woken, or to look for them before it sleeps. */
    if (w->sched->worker_count == 1 || weft__runq_len(&w->runq) + 1 < WEFT__WAKE_LEN) {
        if (WEFT__UNLIKELY(!weft__runq_push(&w->runq, task)))
            weft__worker_overflow(w, task);
        return;
    }
    /* seq_cst inside, so that a worker going to sleep sees the task or we see the worker. */
    if (WEFT__UNLIKELY(!weft__runq_push_seq_cst(&w->runq, task)))
        weft__worker_overflow(w, task);
    else
        weft__sched_wake_one(w->sched);
}

/* To the end of its class. By w's thread. */
static inline void weft__worker_queue(struct weft__worker *w, struct weft__task *task)
{
    uint32_t route = weft__a32_load_relaxed(&task->route);
    if (WEFT__UNLIKELY(route != 0) && weft__worker_queue_routed(w, task, route))
        return;
    weft__worker_push(w, task);
}

/* ---- taking tasks out ---- */

/* The oldest of the global queue, with some more moved to the ring; or NULL. By its thread. */
struct weft__task *weft__worker_take_global(struct weft__worker *w);
/* As weft__worker_pick_or(), when there is more than the normal class to choose from. */
struct weft__task *weft__worker_pick_class(struct weft__worker *w, struct weft__task *self);
/* The same for a worker that searches: NULL when no class but the normal one has tasks. */
struct weft__task *weft__worker_take_classed(struct weft__worker *w);

/* Any thread. */
static inline struct weft__task *weft__worker_take_slot(struct weft__worker *w)
{
    if (weft__aptr_load_relaxed(&w->slot) == NULL)
        return NULL;
    /* acquire pairs with the release of the worker's enqueue; nothing is published by taking.
     * Another one may have been faster. */
    return weft__aptr_swap_acquire(&w->slot, NULL);
}

/* The next task of the normal class. */
static inline struct weft__task *weft__worker_pick_normal(struct weft__worker *w)
{
    struct weft__task *t;
    if (WEFT__UNLIKELY(w->until_global == 0)) {
        w->until_global = w->sched->global_interval;
        t = weft__worker_take_global(w);
        if (t)
            return t;
    }
    w->until_global--;
    if (WEFT__UNLIKELY(w->slot_streak >= WEFT__SLOT_STREAK_MAX)) {
        w->slot_streak = 0;
        t = weft__runq_pop(&w->runq);
        if (t)
            return t;
    }
    t = weft__worker_take_slot(w);
    if (t) {
        w->slot_streak++;
        return t;
    }
    w->slot_streak = 0;
    return weft__runq_pop(&w->runq);
}

/* special: not 0 when there is more than the normal class to choose from. self: see pick_or. */
static inline struct weft__task *weft__worker_pick_from(struct weft__worker *w,
                                                        struct weft__task *self, uint32_t special)
{
    if (WEFT__UNLIKELY(w->until_events == 0))
        return NULL;
    w->until_events--;
    if (WEFT__UNLIKELY(special != 0))
        return weft__worker_pick_class(w, self);
    return weft__worker_pick_normal(w);
}

static inline uint32_t weft__worker_special(const struct weft__worker *w)
{
    return weft__lanes_look(&w->sched->lanes) | weft__lanes_look(&w->pinned);
}

/*
 * The next task, or NULL when the loop must look around: nothing is queued here, or events are due.
 * Called by the worker's loop and by fibers that leave.
 */
static inline struct weft__task *weft__worker_pick(struct weft__worker *w)
{
    return weft__worker_pick_from(w, NULL, weft__worker_special(w));
}

/* The same for a task that yields: it counts as the last one of its class, and is returned when it
 * is its turn again. */
static inline struct weft__task *weft__worker_pick_or(struct weft__worker *w,
                                                      struct weft__task *self)
{
    uint32_t route = weft__a32_load_relaxed(&self->route);
    return weft__worker_pick_from(w, self, weft__worker_special(w) | route);
}

#endif
