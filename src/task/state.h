/*
 * The transitions of the state word (diagram in task.h), one function each. What a function returns
 * is what its caller must do next.
 */
#ifndef WEFT_TASK_STATE_H
#define WEFT_TASK_STATE_H

#include "task/task.h"

/* Wake: true when the caller must enqueue the task, weft__task_schedule(). */
WEFT_MUST_CHECK static inline bool weft__task_set_notified(struct weft__task *t)
{
    uint64_t s = weft__a64_load_relaxed(&t->state), next;
    do {
        if (s & WEFT__TASK_DONE)
            return false;
        next = s & WEFT__TASK_PARKED ? s & ~WEFT__TASK_PARKED : s | WEFT__TASK_NOTIFIED;
        /* release publishes what happened before the wake to the task's acquire in clear_notified
         * or confirm_parked. The exchange is made even when NOTIFIED is set already: a mere load
         * could be satisfied before our earlier stores are visible, while the task clears the bit
         * and looks: a lost wake-up. */
    } while (!weft__a64_cas_weak_acq_rel(&t->state, &s, next));
    return s & WEFT__TASK_PARKED;
}
/* The same, and gives a reference of `unit` up. When true is returned the task is alive by the
 * runtime's reference. */
WEFT_MUST_CHECK bool weft__task_set_notified_release(struct weft__task *t, uint64_t unit);
/* Abort: as wake. `bits`: ABORT, or ABORT | UNWIND. */
WEFT_MUST_CHECK bool weft__task_set_aborted(struct weft__task *t, uint64_t bits);
/* By the context after a task that left to park. False: it was woken meanwhile; the caller must
 * enqueue it. */
WEFT_MUST_CHECK static inline bool weft__task_confirm_parked(struct weft__task *t)
{
    uint64_t s = weft__a64_load_relaxed(&t->state), next;
    do {
        WEFT_DEBUG_ASSERT(!(s & (WEFT__TASK_PARKED | WEFT__TASK_DONE)));
        next = s & WEFT__TASK_NOTIFIED ? s & ~WEFT__TASK_NOTIFIED : s | WEFT__TASK_PARKED;
        /* release: who takes the task out of PARKED sees its saved context. acquire: a wake that
         * came meanwhile. */
    } while (!weft__a64_cas_weak_acq_rel(&t->state, &s, next));
    return !(s & WEFT__TASK_NOTIFIED);
}
/* By who wants to look at a parked task, with a reference: takes it out of PARKED as a waker does,
 * so that nobody queues it and its stack stays as it is. False: it is not parked. */
WEFT_MUST_CHECK bool weft__task_hold_parked(struct weft__task *t);
/* Parks it again, or makes it run when it was woken meanwhile. */
void weft__task_let_go(struct weft__task *t);
/* By the running task, before it looks at what it waits for: forgets wakes it is about to act
 * on. */
static inline void weft__task_clear_notified(struct weft__task *t)
{
    /* acquire pairs with the release of the waker: what it did before waking is seen. The load
     * keeps the usual case, no second wake, free of a read-modify-write. mutation: with NOTIFIED
     * set the read-modify-write acquires; without, the task was parked, and the queue or
     * thread_word that it came back through orders the waker before it as well. */
    uint64_t s = weft__a64_load_acquire(&t->state);
    if (s & WEFT__TASK_NOTIFIED)
        weft__a64_and_acquire(&t->state, ~WEFT__TASK_NOTIFIED); /* there is nothing to publish */
}

/* Gives a reference of one kind up; frees the task with the last. */
void weft__task_unref_unit(struct weft__task *t, uint64_t unit);
static inline void weft__task_unref(struct weft__task *t)
{
    weft__task_unref_unit(t, WEFT__TASK_REF);
}
static inline void weft__task_ref(struct weft__task *t)
{
    /* the caller's own reference keeps it alive */
    weft__a64_add_relaxed(&t->state, WEFT__TASK_REF);
}

/* Frees a task without references. */
void weft__task_free(struct weft__task *t);

/* What set_done does once a joiner has taken its waker back. */
WEFT_MUST_CHECK bool weft__task_set_done_rejoined(struct weft__task *t, weft_waker **ret_joiner);
/* Completion, outcome and result already stored: sets DONE and gives the runtime's reference up. t
 * may be gone afterwards. False: nothing was done, because nobody has the handle and the outcome is
 * not WEFT__OUTCOME_TAKEN: drop it, and call again. *ret_joiner: the waker of the joiner, to be
 * woken and released; or NULL. */
WEFT_MUST_CHECK static inline bool weft__task_set_done(struct weft__task *t,
                                                       weft_waker **ret_joiner)
{
    /* acquire pairs with the release in set_joiner: join_waker is readable */
    uint64_t s = weft__a64_load_acquire(&t->state), next;
    weft_waker *joiner;
    do {
        WEFT_DEBUG_ASSERT(!(s & (WEFT__TASK_PARKED | WEFT__TASK_DONE)));
        if (WEFT__UNLIKELY(s & WEFT__TASK_REJOINED))
            return weft__task_set_done_rejoined(t, ret_joiner);
        if (!(s & WEFT__TASK_HANDLE) && t->outcome != WEFT__OUTCOME_TAKEN)
            return false;
        /* Read before it is won: who would take it back meanwhile leaves a mark in the word. */
        joiner = s & WEFT__TASK_JOINED ? weft__aptr_load_relaxed(&t->join_waker) : NULL;
        next =
            ((s & ~(WEFT__TASK_JOINED | WEFT__TASK_NOTIFIED)) | WEFT__TASK_DONE) - WEFT__TASK_REF;
        /* release publishes the result to the joiner's acquire of DONE; acquire as above */
    } while (!weft__a64_cas_weak_acq_rel(&t->state, &s, next));
    *ret_joiner = joiner;
    if (WEFT__UNLIKELY((next & WEFT__TASK_REFS_MASK) == 0))
        weft__task_free(t);
    return true;
}
/* The handle is given up. True: the task is done, and its outcome is the caller's to drop before
 * weft__task_drop_handle(). */
WEFT_MUST_CHECK bool weft__task_detach(struct weft__task *t);
/* After the outcome of a done task was taken or dropped: gives the handle's reference up. */
static inline void weft__task_drop_handle(struct weft__task *t)
{
    /* No shortcut for the usual case of a last reference: a walk of the registry may take one at
     * any moment. */
    uint64_t s = weft__a64_sub_acq_rel(&t->state, WEFT__TASK_HANDLE + WEFT__TASK_REF);
    WEFT_DEBUG_ASSERT(s & WEFT__TASK_HANDLE);
    if ((s & WEFT__TASK_REFS_MASK) == WEFT__TASK_REF)
        weft__task_free(t);
}

/* By who has registered a waker: takes it back. */
void weft__task_clear_joiner(struct weft__task *t);
/* Join: registers w, with a reference taken. False: the task is done. */
WEFT_MUST_CHECK static inline bool weft__task_set_joiner(struct weft__task *t, weft_waker *w)
{
    uint64_t s = weft__a64_load_acquire(&t->state);
    if (s & WEFT__TASK_JOINED) {
        if (weft__aptr_load_relaxed(&t->join_waker) == w)
            /* stands already; if it is taken this moment, w is woken and looks again */
            return true;
        weft__task_clear_joiner(t);
        s = weft__a64_load_acquire(&t->state);
    }
    if (s & WEFT__TASK_DONE)
        return false;
    weft__waker_hold(w);
    weft__aptr_store_relaxed(&t->join_waker, w);
    /* release publishes join_waker to set_done. */
    while (!weft__a64_cas_weak_acq_rel(&t->state, &s, s | WEFT__TASK_JOINED)) {
        if (s & WEFT__TASK_DONE) {
            weft__task_unref(weft__task_of_waker(w));
            return false;
        }
    }
    return true;
}

/* Makes a task run that the caller took out of PARKED: to its run queue, or its thread out of the
 * futex. */
void weft__task_schedule(struct weft__task *t);

/* A thread task: sleeps until woken. At once when it was woken since it last looked. */
void weft__task_park_thread(struct weft__task *self);
/* The same, but at most until deadline_ns. */
void weft__task_park_thread_until(struct weft__task *self, uint64_t deadline_ns);

#endif
