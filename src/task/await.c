/*
 * The awaiting path: what happens to a task that waits, in every case.
 *
 * begin    who calls; abort; cancelled token; WEFT_NO_WAIT; budget
 * loop     poll: ready wins. Pending: has a deadline passed, was a token cancelled? Else park.
 *          Resumed: aborted? Else poll again.
 *
 * Primitives know poll and cancel only.
 */
#include "task/await.h"

#include "task/cancel.h"
#include "task/ending.h"
#include "task/panic.h"
#include "task/slab.h"
#include "task/spawn.h"
#include "task/timeout.h"

#include <weft/runtime.h>

#include <errno.h>
#include <sched.h>

static WEFT__NOINLINE void yield_forced(struct weft__task *t)
{
    weft__a64_add_relaxed(&t->core->forced_yields, 1);
    if (t->locals->drive)
        t->locals->drive->yield(t);
    else
        t->core->ops->yield(t);
}

/* An abort took effect: the wait returns -ECANCELED, or does not return. */
static WEFT__NOINLINE int aborted(struct weft__task *t)
{
    struct weft__locals *l = t->locals;
    /* acquire pairs with the release in set_aborted: what was done before the abort is seen by who
     * finds itself aborted. The look that brought us here was relaxed, and may have seen an abort
     * that came after the wake. */
    uint64_t state = weft__a64_load_acquire(&t->state);
    bool must_unwind = t->on_abort == WEFT_ON_ABORT_UNWIND || (state & WEFT__TASK_UNWIND);
    l->abort_seen = true;
    if (must_unwind && (l->boundary == NULL || l->boundary->lets_unwind))
        weft__task_end_early(t, WEFT_OUTCOME_CANCELLED, NULL);
    /* A body that ignores this and calls again must not keep the worker. */
    if (t->kind <= WEFT__TASK_FUTURE && (t->budget == 0 || --t->budget == 0))
        yield_forced(t);
    return -ECANCELED;
}

/* A token around the wait is cancelled: as an abort, but the outcome stays the body's. */
static WEFT__NOINLINE int cancelled(struct weft__task *t)
{
    if (t->kind <= WEFT__TASK_FUTURE && (t->budget == 0 || --t->budget == 0))
        yield_forced(t);
    return -ECANCELED;
}

static WEFT__NOINLINE struct weft__task *thread_task(struct weft__ctx *c)
{
    if (c->core == NULL || c->in_hook || weft__core_is_ancestral(c->core))
        return NULL;
    if (c->thread_task && c->thread_task->core == c->core)
        return c->thread_task;
    weft__thread_task_drop(c);
    c->thread_task = weft__thread_task_create(c->core, WEFT__TASK_THREAD);
    if (c->thread_task)
        c->thread_task->locals = &c->locals;
    return c->thread_task;
}

struct weft__task *weft__wait_task(void)
{
    struct weft__ctx *c = weft__ctx_now();
    if (c == NULL)
        return NULL;
    return c->current ? c->current : thread_task(c);
}

int weft__wait_refused(const char *call, const void *caller)
{
    const struct weft__ctx *c = weft__ctx_now();
    if (c && c->core && weft__core_is_ancestral(c->core))
        return weft__misuse(call, -EPERM, "this is a forked child; start a runtime of its own",
                            caller);
    if (c && c->core && !c->in_hook)
        return -ENOMEM; /* for the task that a thread waits as */
    return weft__misuse(call, -EPERM,
                        c && c->in_hook
                            ? "a hook must not wait"
                            : "the caller is in no runtime (a task, or inside weft_enter())",
                        caller);
}

static WEFT__NOINLINE int refuse(struct weft__task *t, const char *call, const void *caller)
{
    if (t == NULL)
        return weft__wait_refused(call, caller);
    if (weft__core_is_ancestral(t->core))
        return weft__misuse(call, -EPERM, "this is a forked child; start a runtime of its own",
                            caller);
    if (t->kind == WEFT__TASK_FUTURE)
        return weft__misuse(call, -EPERM, "nothing may suspend inside a polled future's poll()",
                            caller);
    if (t->locals->no_wait_depth)
        return weft__misuse(call, -EPERM, "a wait inside WEFT_NO_WAIT", caller);
    return 0;
}

void weft__wait_after_fork(void)
{
    const struct weft__ctx *c = weft__ctx_now();
    weft__outside_forget();
    if (c == NULL)
        return;
    if (c->current)
        c->current->budget = 0;
    if (c->thread_task)
        c->thread_task->budget = 0;
    if (c->in_place_task) /* a set may be driven in there, whose body is current */
        c->in_place_task->budget = 0;
}

/* What weft__wait_begin() does not do at once, and that again: the state may have changed. */
int weft__wait_begin_slow(const char *call, const void *caller)
{
    struct weft__task *t = weft__wait_task();
    if (WEFT__UNLIKELY(t == NULL || t->kind == WEFT__TASK_FUTURE || t->locals->no_wait_depth ||
                       weft__core_is_ancestral(t->core)))
        return refuse(t, call, caller);
    /* relaxed: an abort that arrives this moment is as good as one that arrives after the wait */
    if (weft__abort_is_due(t, weft__a64_load_relaxed(&t->state)))
        return aborted(t);
    if (WEFT__UNLIKELY(t->locals->cancel != NULL) && weft__cancel_check_now(t))
        return cancelled(t);
    if (WEFT__LIKELY(t->budget > 1)) {
        t->budget--;
        return 0;
    }
    bool is_alone = t->kind >= WEFT__TASK_BLOCKING && t->locals->drive == NULL;
    if (is_alone)
        t->budget = t->core->budget; /* a thread that has nobody to yield to */
    else if (!t->locals->unconstrained_depth)
        yield_forced(t);
    if (weft__abort_is_due(t, weft__a64_load_relaxed(&t->state)))
        return aborted(t);
    if (weft__drive_error(t))
        return weft__drive_error(t);
    /* A loop over ready waits never parks, so no timer of its scopes is ever looked at but here. */
    if (t->locals->timeout && weft__timeout_check_now(t))
        return -ETIMEDOUT;
    return 0;
}

/* A child that was forked in the poll goes no further: nobody would wake it. (A fiber comes to the
 * worker's loop, which ends it, unless something comes in between.) */
static void end_if_child(const struct weft__task *t)
{
    if (WEFT__UNLIKELY(weft__core_is_ancestral(t->core)))
        weft__end_child(t);
}

int weft__wait_check_timeout(struct weft__task *t)
{
    end_if_child(t);
    return weft__timeout_check(t);
}

bool weft__wait_check_cancel(struct weft__task *t)
{
    end_if_child(t);
    return weft__cancel_check(t);
}

void weft__wait_park_thread(struct weft__task *t)
{
    end_if_child(t);
    weft__task_park_thread(t);
}

int weft__wait_stopped(struct weft__task *t, int why)
{
    switch (why) {
    case WEFT__WAIT_ABORTED:
        return aborted(t);
    case WEFT__WAIT_CANCELLED:
        return cancelled(t);
    default:
        return why;
    }
}

/* is_done: NULL, or as for weft__wait_for_done(). Inline, so that it costs nobody else anything. */
static inline __attribute__((always_inline)) int wait_for(weft_future *f, const bool *is_done)
{
    struct weft__task *t = weft__wait_task();
    if (WEFT__UNLIKELY(t == NULL))
        return -EPERM;
    if (WEFT__UNLIKELY(weft__sys_is_forked_child()))
        return refuse(t, "weft_await", WEFT__CALLER);
    for (;;) {
        int rc = f->ops->poll(f, weft__task_waker(t));
        if (rc != WEFT_PENDING)
            return rc;
        int why = weft__wait_pending(t, f->ops);
        if (WEFT__LIKELY(why == 0))
            continue;
        f->ops->cancel(f);
        if (why == WEFT__WAIT_ABORTED && is_done && *is_done) {
            t->locals->abort_seen = true;
            return 0;
        }
        return weft__wait_stopped(t, why);
    }
}

int weft__wait_for(weft_future *f)
{
    return wait_for(f, NULL);
}

int weft__wait_for_done(weft_future *f, const bool *is_done)
{
    int rc = wait_for(f, is_done);
    return *is_done ? 0 : rc;
}

int weft__wait_for_held(weft_future *f)
{
    struct weft__task *t = weft__wait_task();
    if (WEFT__UNLIKELY(t == NULL))
        return -EPERM;
    if (WEFT__UNLIKELY(weft__sys_is_forked_child()))
        return refuse(t, "weft_await", WEFT__CALLER);
    /* A task that drives a local set would not park any more once the set is shut, and go round
     * here while the one that makes f ready waits for its turn. */
    t->locals->shield_depth++;
    int rc;
    while ((rc = f->ops->poll(f, weft__task_waker(t))) == WEFT_PENDING) {
        weft__wait_switch(t, f->ops);
        weft__task_clear_notified(t);
    }
    t->locals->shield_depth--;
    return rc;
}

int weft_await(weft_future *f)
{
    if (f == NULL || f->ops == NULL || f->ops->poll == NULL || f->ops->cancel == NULL)
        return weft__misuse("weft_await", -EINVAL, "the future is NULL or has no operations",
                            WEFT__CALLER);
    int rc = weft__wait_begin("weft_await", WEFT__CALLER);
    if (rc < 0)
        return rc;
    return weft__stay_for(weft__wait_for(f));
}

static int invalid_poll(weft_future *f, weft_waker *waker)
{
    (void)f;
    (void)waker;
    return -EINVAL;
}

static void invalid_cancel(weft_future *f)
{
    (void)f; /* it holds nothing */
}

const weft_future_ops weft__future_invalid = {invalid_poll, invalid_cancel, "nothing"};

int weft_future_poll(weft_future *f, weft_waker *waker)
{
    if (WEFT__UNLIKELY(f == NULL || f->ops == NULL))
        return weft__misuse("weft_future_poll", -EINVAL, "the future is NULL or has no operations",
                            WEFT__CALLER);
    struct weft__task *t = weft__task_current();
    struct weft__locals *l = t ? t->locals : weft__locals_now();
    bool pays = t && t->kind <= WEFT__TASK_FUTURE && !l->unconstrained_depth;
    if (WEFT__UNLIKELY(pays ? t->budget == 0 : l->looks_left == 1)) {
        if (pays)
            weft__a64_add_relaxed(&t->core->forced_yields, 1);
        /* Also in a try that has looked at enough: some of what was polled may stay pending, for a
         * poll around the try. */
        weft_waker_wake(waker);
        return WEFT_PENDING;
    }
    int rc = f->ops->poll(f, waker);
    if (rc == WEFT_PENDING)
        return rc;
    /* Afterwards, and for what is ready alone: a composite of more parts than there is budget, all
     * of them pending, would never come to the last ones. Inside the poll others may have used it
     * up, or a fork. */
    if (pays)
        t->budget -= t->budget > 0;
    else
        l->looks_left -= l->looks_left > 1;
    return rc;
}

void weft_future_cancel(weft_future *f)
{
    if (f != NULL && f->ops != NULL)
        f->ops->cancel(f);
    else
        (void)weft__misuse("weft_future_cancel", -EINVAL, "the future is NULL or has no operations",
                           WEFT__CALLER); /* there is nothing to undo */
}

/* ---- yield ---- */

int weft_yield(void)
{
    struct weft__ctx *c = weft__ctx_now();
    struct weft__task *t = c ? c->current : NULL;
    if (WEFT__UNLIKELY(t == NULL)) {
        if (c == NULL || c->core == NULL) {
            sched_yield();
            return 0;
        }
        t = weft__wait_task(); /* of a thread inside weft_enter() */
        if (t == NULL)
            return weft__wait_refused("weft_yield", WEFT__CALLER);
    }
    if (WEFT__UNLIKELY(t->kind == WEFT__TASK_FUTURE || t->locals->no_wait_depth ||
                       weft__sys_is_forked_child()))
        return refuse(t, "weft_yield", WEFT__CALLER);
    uint64_t s = weft__a64_load_relaxed(&t->state);
    if (weft__abort_is_due(t, s))
        return aborted(t);
    if (WEFT__UNLIKELY(t->locals->drive != NULL))
        t->locals->drive->yield(t);
    else if (t->kind >= WEFT__TASK_BLOCKING)
        sched_yield();
    else
        t->core->ops->yield(t);
    if (weft__abort_is_due(t, weft__a64_load_relaxed(&t->state)))
        return aborted(t);
    if (weft__drive_error(t))
        return weft__drive_error(t);
    if (t->locals->cancel && weft__cancel_check_now(t))
        return -ECANCELED;
    if (t->locals->timeout && weft__timeout_check_now(t))
        return -ETIMEDOUT;
    return 0;
}

int weft_consume_budget(void)
{
    if (weft__core_waiting() == NULL)
        return 0; /* outside a runtime */
    return weft__wait_begin("weft_consume_budget", WEFT__CALLER);
}

/* ---- modes ---- */

void weft__mode_enter(weft__mode_scope *s, enum weft__mode mode)
{
    struct weft__locals *l = weft__locals_now();
    s->mode = mode;
    switch (mode) {
    case WEFT__MODE_SHIELD:
        l->shield_depth++;
        s->timeout = l->timeout;
        s->cancel = l->cancel;
        l->timeout = NULL;
        l->cancel = NULL;
        break;
    case WEFT__MODE_UNCONSTRAINED:
        l->unconstrained_depth++;
        break;
    case WEFT__MODE_NO_WAIT:
        l->no_wait_depth++;
        break;
    case WEFT__MODE_PINNED:
        weft__pin_set_depth(l, l->pin_depth + 1);
        break;
    }
}

void weft__mode_leave(weft__mode_scope *s)
{
    if (s->left)
        return;
    s->left = true;
    struct weft__locals *l = weft__locals_now();
    switch (s->mode) {
    case WEFT__MODE_SHIELD:
        l->shield_depth--;
        l->timeout = s->timeout;
        l->cancel = s->cancel;
        break;
    case WEFT__MODE_UNCONSTRAINED:
        l->unconstrained_depth--;
        break;
    case WEFT__MODE_NO_WAIT:
        l->no_wait_depth--;
        break;
    case WEFT__MODE_PINNED:
        weft__pin_set_depth(l, l->pin_depth - 1);
        break;
    }
}

/* ---- the task itself ---- */

static struct weft__task *self_task(void)
{
    struct weft__ctx *c = weft__ctx_now();
    if (c == NULL)
        return NULL;
    struct weft__task *t = c->current ? c->current : c->in_place_task;
    return t;
}

uint64_t weft_self_try_id(void)
{
    struct weft__task *t = self_task();
    return t ? weft__a64_load_relaxed(&t->id) : 0;
}

uint64_t weft_self_id(void)
{
    uint64_t id = weft_self_try_id();
    if (id == 0)
        (void)weft__misuse("weft_self_id", -EPERM, "the caller is no task", WEFT__CALLER);
    return id;
}

const char *weft_self_name(void)
{
    struct weft__task *t = self_task();
    return t && t->cold ? t->cold->name : "";
}

bool weft_self_is_aborted(void)
{
    struct weft__task *t = self_task();
    return t &&
           weft__abort_is_due(t, weft__a64_load_acquire(&t->state)); /* acquire: as in aborted */
}
