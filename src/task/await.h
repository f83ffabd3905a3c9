/*
 * The inside of a wait: what a task does between two looks at what it waits for. For await.c, and
 * for those that wait so often that they look by themselves instead of through a future.
 */
#ifndef WEFT_TASK_AWAIT_H
#define WEFT_TASK_AWAIT_H

#include "task/state.h"
#include "task/task.h"

/* Why a wait is over before what it waits for is ready; negative: the result of the wait. */
enum {
    WEFT__WAIT_ABORTED = 1,
    WEFT__WAIT_CANCELLED = 2, /* a token around it is */
};

/* Takes effect: the result of the wait that was stopped, unless the task is unwound. After what it
 * has registered was taken back. */
int weft__wait_stopped(struct weft__task *t, int why);

/* With a scope around the wait; both before they go through a lock, of the wheel's or the
 * token's. */
int weft__wait_check_timeout(struct weft__task *t);
bool weft__wait_check_cancel(struct weft__task *t);
void weft__wait_park_thread(struct weft__task *t);

/* Aborts do not reach through a shield, except shutdown's second phase. */
static inline bool weft__abort_is_due(const struct weft__task *t, uint64_t state)
{
    if (WEFT__LIKELY(!(state & (WEFT__TASK_ABORT | WEFT__TASK_UNWIND))))
        return false;
    if (t->kind == WEFT__TASK_BLOCKING || t->locals->is_panicking || t->locals->is_unwinding)
        return false; /* a job that runs is not aborted; cleanups may wait */
    return t->locals->shield_depth == 0 || (state & WEFT__TASK_UNWIND);
}

/* Not 0: the task cannot wait any more for as long as it drives its local set. */
static inline int weft__drive_error(const struct weft__task *t)
{
    const struct weft__drive *d = t->locals->drive;
    if (WEFT__LIKELY(d == NULL) || t->locals->shield_depth)
        return 0;
    return -(int)weft__a32_load_relaxed(&d->error);
}

/* Parks until woken; the wake is still noted in the state. what: for dumps. */
static inline void weft__wait_switch(struct weft__task *t, const weft_future_ops *what)
{
    weft__aptr_store_relaxed(&t->waiting_for, (void *)(uintptr_t)what);
    if (WEFT__UNLIKELY(t->locals->drive != NULL))
        t->locals->drive->park(t);
    else if (WEFT__LIKELY(t->kind <= WEFT__TASK_FUTURE))
        t->core->ops->park(t);
    else
        weft__wait_park_thread(t);
    /* The task is the same one, but maybe not the thread. */
    weft__aptr_store_relaxed(&t->waiting_for, NULL);
}

/* What a wake may have been, other than the one that was waited for; s: the state since. */
static inline int weft__wait_woken(struct weft__task *t, uint64_t s)
{
    if (s & WEFT__TASK_NOTIFIED)
        weft__task_clear_notified(t);
    if (weft__abort_is_due(t, weft__a64_load_relaxed(&t->state)))
        return WEFT__WAIT_ABORTED;
    return weft__drive_error(t);
}

/* A task waits by itself. Not a thread that is none (NULL); nor in a forked child, of whichever
 * kind, which weft__wait_for() refuses. */
static inline bool weft__waits_by_itself(const struct weft__task *self)
{
    return self != NULL && !weft__sys_is_forked_child();
}

/* t has looked, in vain, and will be woken. 0: it looks again. Else the wait is over: it takes back
 * what it has registered, and passes this to weft__wait_stopped(). */
static inline int weft__wait_pending(struct weft__task *t, const weft_future_ops *what)
{
    if (WEFT__UNLIKELY(t->locals->timeout != NULL)) {
        int rc = weft__wait_check_timeout(t);
        if (rc != 0)
            return rc;
    }
    if (WEFT__UNLIKELY(t->locals->cancel != NULL) && weft__wait_check_cancel(t))
        return WEFT__WAIT_CANCELLED;
    weft__wait_switch(t, what);
    /* One look at the state for all of it; acquire as in clear_notified. */
    uint64_t s = weft__a64_load_acquire(&t->state);
    if (WEFT__UNLIKELY((s & (WEFT__TASK_NOTIFIED | WEFT__TASK_ABORT | WEFT__TASK_UNWIND)) ||
                       t->locals->drive != NULL))
        return weft__wait_woken(t, s);
    return 0;
}

/*
 * Tries have a measure of their own in place of the budget: with that used up, what is polled
 * inside would say for ever that it is not ready, to who tries again without a wait; and without
 * any, a loop over what is always ready would not return. Restores what was there: a try may be
 * made in a poll of another.
 */
#define WEFT__TRY_LOOKS 16384 /* some hundred microseconds */

static inline uint32_t weft__try_begin(struct weft__locals *l)
{
    uint32_t outer = l->looks_left;
    l->looks_left = WEFT__TRY_LOOKS + 1;
    l->unconstrained_depth++;
    return outer;
}

static inline void weft__try_end(struct weft__locals *l, uint32_t outer)
{
    l->unconstrained_depth--;
    l->looks_left = outer;
}

#endif
