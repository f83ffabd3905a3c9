/*
 * A case held by value is started by the first poll of it, and is over when what polls it is:
 * completed, or cancelled. A case of the caller's keeps its state from one use to the next.
 */
#include "task/case.h"

#include "task/state.h"

#include <errno.h>
#include <string.h>

static weft_future *future_of(weft_case *c)
{
    return c->kind == WEFT__CASE_BORROWED ? c->arg[0].ptr : (weft_future *)(void *)c->storage;
}

/* ---- making them ---- */

static weft_case case_of_kind(enum weft__case_kind kind)
{
    weft_case c;
    memset(&c, 0, sizeof c);
    c.rc = WEFT_PENDING;
    c.kind = (uint8_t)kind;
    return c;
}

weft_case weft_case_future(weft_future *f)
{
    weft_case c = case_of_kind(WEFT__CASE_BORROWED);
    c.arg[0].ptr = f;
    return c;
}

weft_case weft_case_make(int (*start)(weft_case *c), void *arg0, void *arg1)
{
    weft_case c = case_of_kind(WEFT__CASE_STARTED);
    c.start = start;
    c.arg[0].ptr = arg0;
    c.arg[1].ptr = arg1;
    return c;
}

weft_case weft_case_else(void)
{
    return case_of_kind(WEFT__CASE_ELSE);
}

/* What a plain thread waits as ends with the wait, or when the thread leaves the runtime. A future
 * of the caller's that is left pending may have its waker longer than that: the case, in arg[1],
 * keeps it until the future has another one (NULL: none). Not so of tasks, jobs and bodies, which
 * end after their selects: another case, or an await, may complete what they leave pending. */
static WEFT__NOINLINE void change_waker(weft_case *c, weft_waker *waker)
{
    weft_waker *former = c->arg[1].ptr;
    if (former == waker)
        return;
    if (waker)
        weft__waker_hold(waker);
    c->arg[1].ptr = waker;
    if (former)
        weft__task_unref(weft__task_of_waker(former));
}

static inline void keep_waker(weft_case *c, weft_waker *waker)
{
    bool is_threads = waker && weft__task_of_waker(waker)->kind == WEFT__TASK_THREAD;
    if (c->kind == WEFT__CASE_BORROWED && WEFT__UNLIKELY(is_threads || c->arg[1].ptr))
        change_waker(c, is_threads ? waker : NULL);
}

void weft_case_cancel(weft_case *c)
{
    if (weft__is_null("weft_case_cancel", c, WEFT__CALLER))
        return;
    if (c->kind != WEFT__CASE_BORROWED)
        return;
    if (c->state == WEFT__CASE_PENDING) {
        c->state = WEFT__CASE_SPENT;
        future_of(c)->ops->cancel(future_of(c));
    }
    keep_waker(c, NULL); /* also when the last poll has panicked */
}

/* ---- using them ---- */

static bool is_future(const weft_future *f)
{
    return f && f->ops && f->ops->poll && f->ops->cancel;
}

static WEFT__NOINLINE void reset_all(weft_case *cases, size_t count);

/* What an earlier use has left is gone, but for that of the caller's futures: also inside a select
 * that is a case, which the one around it need not come to. */
static inline void reset(weft_case *c)
{
    if (c->kind == WEFT__CASE_STARTED) {
        c->state = WEFT__CASE_IDLE;
        if (WEFT__UNLIKELY(c->start == weft__case_start_select) && !c->disabled && c->arg[0].ptr)
            reset_all(c->arg[0].ptr, c->arg[1].size);
    }
    if (c->state != WEFT__CASE_SPENT)
        c->rc = WEFT_PENDING;
}

static void reset_all(weft_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        reset(&cases[i]);
}

int weft__cases_begin(const char *call, weft_case *cases, size_t count, const void *caller)
{
    if (WEFT__UNLIKELY(cases == NULL && count > 0))
        return weft__misuse(call, -EINVAL, "there are no cases", caller);
    bool are_futures = true;
    for (size_t i = 0; i < count; i++) {
        reset(&cases[i]);
        /* Of the others there may be no future: not yet, or no more. */
        if (cases[i].kind == WEFT__CASE_BORROWED && weft__case_is_live(&cases[i]) &&
            !is_future(future_of(&cases[i])))
            are_futures = false;
    }
    return are_futures
               ? 0
               : weft__misuse(call, -EINVAL, "a future is NULL or has no operations", caller);
}

bool weft__case_poll(weft_case *c, weft_waker *waker)
{
    bool must_start = c->kind == WEFT__CASE_STARTED && c->state == WEFT__CASE_IDLE;
    c->state = WEFT__CASE_SPENT;
    int rc = must_start ? c->start(c) : 0;
    if (rc == WEFT__CASE_READY) {
        rc = 0;
    } else if (rc == 0) {
        weft_future *f = future_of(c);
        rc = f->ops->poll(f, waker);
        if (rc == WEFT_PENDING) {
            c->state = WEFT__CASE_PENDING;
            keep_waker(c, waker);
            return false;
        }
        keep_waker(c, NULL);
    }
    c->rc = rc;
    return true;
}

void weft__cases_end(weft_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        weft_case *c = &cases[i];
        if (c->kind != WEFT__CASE_STARTED || c->state != WEFT__CASE_PENDING)
            continue;
        c->state = WEFT__CASE_SPENT;
        future_of(c)->ops->cancel(future_of(c));
    }
}

void weft__cases_cancel(weft_case *cases, size_t count)
{
    struct weft__cases_guard guard;
    struct weft__locals *l = weft__cases_guard_enter(&guard, cases, count);
    weft__cases_end(cases, count);
    weft__cases_guard_leave(&guard, l);
}

void weft__cases_end_at_unwind(void *guard)
{
    struct weft__cases_guard *g = guard;
    weft__cases_cancel(g->cases, g->count); /* there may be another one that panics */
}
