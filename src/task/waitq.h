/*
 * Queues of waiters: who waits for a lock, a slot, a message, and how it is woken.
 *
 * A waiter belongs to a future and lies where that does, mostly in the frame of the task that
 * waits. Its links and its waker are guarded by the lock of the object it waits for. Zero is an
 * empty queue and an idle waiter, so objects with static initialisers can embed both.
 *
 * Ending a wait costs one read-modify-write of the task, and takes no reference. Under the lock,
 * weft__waitq_end() does three things in this order:
 *
 *   1. it unlinks the waiter;
 *   2. it claims the task: PARKED becomes runnable, which makes it ours alone to enqueue, so it
 *      cannot end meanwhile; or, if the task is not parked, NOTIFIED is set, and nothing is owed;
 *   3. it stores the result in `state` (release), its last touch of the waiter.
 *
 * After unlocking, weft__wake_list_flush() enqueues what was claimed. The order matters. With 3
 * before 2 the owner could see the result, return, and its task end, while we still hold its waker.
 * With 2 before 3 a task that looks in between finds no result: so who finds none must look again
 * under the lock before it waits on (weft__waiter_must_wait()), and there meets step 3 completed.
 *
 * The object may lie in the frame of who waits, and be gone as soon as the wait is over: unlocking
 * must have been the ender's last touch by then. A claimed task does not run before the flush. One
 * that was not parked may see the result at any moment: its state says UNCLAIMED, and the owner
 * passes through the lock before it believes it (weft__waiter_result() says nothing until then).
 *
 * Wakes are made without the lock. Wakers run no code of the user's, so it is not deadlock that
 * this avoids: a woken task on another core would find the lock still held.
 */
#ifndef WEFT_TASK_WAITQ_H
#define WEFT_TASK_WAITQ_H

#include "base/model.h"
#include "sys/lock.h"
#include "task/state.h"
#include "task/task.h"

/* ---- waking after the lock ---- */

/* Tasks claimed under a lock, in order; in no queue, they have their qnode to spare. */
struct weft__wake_list {
    struct weft__qnode *first, *last;
};

#define WEFT__WAKE_LIST_INIT                                                                       \
    {                                                                                              \
        NULL, NULL                                                                                 \
    }

static inline void weft__wake_list_add(struct weft__wake_list *list, struct weft__task *t)
{
    WEFT__MODEL_WRITE(&t->qnode);
    t->qnode.next = NULL;
    if (list->first == NULL)
        list->first = &t->qnode;
    else
        list->last->next = &t->qnode;
    list->last = &t->qnode;
}

/* Under the lock that guards the registration of w, which is borrowed. False: the task is not
 * parked, and will look again by itself. */
static inline bool weft__wake_list_claim(struct weft__wake_list *list, weft_waker *w)
{
    struct weft__task *t = weft__task_of_waker(w);
    if (!weft__task_set_notified(t))
        return false;
    weft__wake_list_add(list, t);
    return true;
}

/* Aborts t, which a reference of the caller's keeps alive; under any lock, or none. */
static inline void weft__wake_list_abort(struct weft__wake_list *list, struct weft__task *t)
{
    if (weft__task_set_aborted(t, WEFT__TASK_ABORT))
        weft__wake_list_add(list, t);
}

/* After unlocking. Empties the list. */
static inline void weft__wake_list_flush(struct weft__wake_list *list)
{
    struct weft__qnode *n = list->first;
    list->first = list->last = NULL;
    while (n != NULL) {
        /* Before it is scheduled: then the link is its queue's. */
        WEFT__MODEL_READ(n);
        struct weft__qnode *next = n->next;
        weft__task_schedule(WEFT__CONTAINER_OF(n, struct weft__task, qnode));
        n = next;
    }
}

/* ---- waiters ---- */

enum weft__waiter_state {
    WEFT__WAITER_IDLE,
    WEFT__WAITER_QUEUED,
    WEFT__WAITER_ENDED, /* this and above: results, as the object means them */
    /* beside a result: see above */
    WEFT__WAITER_UNCLAIMED = 1 << 30,
};

struct weft__waiter {
    struct weft__waiter *next, *prev; /* under the lock */
    /* Borrowed while QUEUED; under the lock. NULL: queued before anybody waits for it. */
    weft_waker *waker;
    /* Written under the lock; read by the owner, without the lock for a result. */
    weft__a32 state;
};

struct weft__waitq {
    struct weft__waiter *first, *last; /* under the lock */
};

static inline void weft__waiter_init(struct weft__waiter *w)
{
    w->next = w->prev = NULL;
    w->waker = NULL;
    weft__a32_store_relaxed(&w->state, WEFT__WAITER_IDLE);
}

/* By the owner, without the lock: the result, ENDED or above; 0 when there is none, or none yet
 * that may be believed without the lock. */
static inline uint32_t weft__waiter_result(const struct weft__waiter *w)
{
    /* acquire pairs with the release in weft__waitq_end: what was handed over is readable, and the
     * waiter is not touched any more. mutation: a task that was claimed runs after the flush, and
     * has synchronised with that. */
    uint32_t state = weft__a32_load_acquire(&w->state);
    return state >= WEFT__WAITER_ENDED && !(state & WEFT__WAITER_UNCLAIMED) ? state : 0;
}

/* The rest is under the lock of the queue. */

/* The owner has come through the lock: from here on the result may be believed. */
static inline void weft__waiter_settle(struct weft__waiter *w)
{
    uint32_t state = weft__a32_load_relaxed(&w->state); /* written under the lock */
    if (state & WEFT__WAITER_UNCLAIMED)
        weft__a32_store_relaxed(&w->state, state & ~(uint32_t)WEFT__WAITER_UNCLAIMED);
}

static inline bool weft__waitq_is_empty(const struct weft__waitq *q)
{
    WEFT__MODEL_READ(q);
    return q->first == NULL;
}

/* Not queued, and without a result: it has not waited yet. */
static inline bool weft__waiter_is_idle(const struct weft__waiter *w)
{
    return weft__a32_load_relaxed(&w->state) == WEFT__WAITER_IDLE; /* written under the lock */
}

static inline bool weft__waiter_is_queued(const struct weft__waiter *w)
{
    return weft__a32_load_relaxed(&w->state) == WEFT__WAITER_QUEUED; /* written under the lock */
}

static inline void weft__waitq_push_back(struct weft__waitq *q, struct weft__waiter *w,
                                         weft_waker *waker)
{
    WEFT__MODEL_WRITE(q);
    WEFT__MODEL_WRITE(&w->waker);
    w->waker = waker;
    w->next = NULL;
    w->prev = q->last;
    if (q->last)
        q->last->next = w;
    else
        q->first = w;
    q->last = w;
    weft__a32_store_relaxed(&w->state, WEFT__WAITER_QUEUED); /* its readers hold the lock */
}

/* Before another one that is queued. NULL: at the end. */
static inline void weft__waitq_insert(struct weft__waitq *q, struct weft__waiter *w,
                                      struct weft__waiter *before, weft_waker *waker)
{
    if (before == NULL) {
        weft__waitq_push_back(q, w, waker);
        return;
    }
    WEFT__MODEL_WRITE(q);
    WEFT__MODEL_WRITE(&w->waker);
    w->waker = waker;
    w->prev = before->prev;
    w->next = before;
    if (before->prev)
        before->prev->next = w;
    else
        q->first = w;
    before->prev = w;
    weft__a32_store_relaxed(&w->state, WEFT__WAITER_QUEUED); /* its readers hold the lock */
}

/* Unlinks a queued waiter; its state is the caller's to set. */
static inline void weft__waitq_unlink(struct weft__waitq *q, struct weft__waiter *w)
{
    WEFT__MODEL_WRITE(q);
    WEFT__MODEL_WRITE(&w->next);
    if (w->prev)
        w->prev->next = w->next;
    else
        q->first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        q->last = w->prev;
    w->next = w->prev = NULL;
}

/* A cancel: takes a queued waiter out. False: it is not queued (any more), and may have a
 * result. */
static inline bool weft__waitq_leave(struct weft__waitq *q, struct weft__waiter *w)
{
    weft__waiter_settle(w);
    if (!weft__waiter_is_queued(w))
        return false;
    weft__waitq_unlink(q, w);
    weft__a32_store_relaxed(&w->state, WEFT__WAITER_IDLE);
    return true;
}

/* Ends the wait of a queued waiter with `result` (ENDED or above), see the top of this file. Who
 * waits may go on at once: w is gone for the caller. */
static inline void weft__waitq_end(struct weft__waitq *q, struct weft__waiter *w, uint32_t result,
                                   struct weft__wake_list *list)
{
    WEFT_DEBUG_ASSERT(weft__waiter_is_queued(w) && result >= WEFT__WAITER_ENDED);
    weft__waitq_unlink(q, w);
    WEFT__MODEL_READ(&w->waker);
    if (w->waker == NULL || !weft__wake_list_claim(list, w->waker))
        result |= WEFT__WAITER_UNCLAIMED;
    /* release pairs with the acquire in weft__waiter_result. mutation: as there. */
    weft__a32_store_release(&w->state, result);
}

/* Ends all waits. */
static inline void weft__waitq_end_all(struct weft__waitq *q, uint32_t result,
                                       struct weft__wake_list *list)
{
    while (q->first)
        weft__waitq_end(q, q->first, result, list);
}

/*
 * The pending half of a poll, under the lock, after the operation was tried in vain: queues w, or,
 * when it is queued already, replaces its waker. False: the wait has ended since the caller looked,
 * and w has its result.
 */
WEFT_MUST_CHECK
static inline bool weft__waiter_must_wait(struct weft__waitq *q, struct weft__waiter *w,
                                          weft_waker *waker)
{
    weft__waiter_settle(w);
    uint32_t state = weft__a32_load_relaxed(&w->state); /* written under the lock */
    if (state >= WEFT__WAITER_ENDED)
        return false;
    if (state == WEFT__WAITER_QUEUED) {
        WEFT__MODEL_WRITE(&w->waker);
        w->waker = waker;
    } else {
        weft__waitq_push_back(q, w, waker);
    }
    return true;
}

/* The same for objects whose results mean no more than "look again", which the caller has done: w
 * waits in every case. */
static inline void weft__waitq_wait(struct weft__waitq *q, struct weft__waiter *w,
                                    weft_waker *waker)
{
    if (weft__waiter_must_wait(q, w, waker))
        return;
    weft__waiter_init(w);
    weft__waitq_push_back(q, w, waker);
}

#endif
