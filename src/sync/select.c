/*
 * Select: polls its cases until one is ready, then cancels those it holds.
 *
 * A case held by value is started in the select that polls it first, and is over when the select is:
 * completed, or cancelled. So of two ready cases the second is never started. A case of the caller's
 * keeps its state from one select to the next.
 *
 * All cases are polled with the waker of whoever polls the select; which one woke it is not known, so
 * each wake polls them all. That is cheap next to what a set of wakers would cost, up to some
 * hundreds of cases.
 */
#include <weft/select.h>

#include "task/panic.h"
#include "task/task.h"

#include <errno.h>
#include <string.h>

enum kind {
    CASE_BORROWED, /* arg[0] is the caller's future */
    CASE_STARTED,  /* start() makes the future in storage */
    CASE_ELSE,
};

enum filter {
    FILTER_NONE,
    FILTER_OK, /* the inline functions of the header know these two */
    FILTER_PREDICATE,
};

enum state {
    CASE_IDLE, /* to be started, or polled for the first time */
    CASE_PENDING,
    CASE_SPENT, /* completed. One of the caller's remains so */
    /* In poll() or start(), so that it is not cancelled if one of them panics. */
    CASE_BUSY = CASE_SPENT,
};

/* ---- cases ---- */

static weft_future *future_of(weft_case *c)
{
    return c->kind == CASE_BORROWED ? c->arg[0].ptr : (weft_future *)(void *)c->storage;
}

static bool has_operations(const weft_future *f)
{
    return f && f->ops && f->ops->poll && f->ops->cancel;
}

static bool case_is_live(const weft_case *c)
{
    return c->kind != CASE_ELSE && !c->disabled && c->state != CASE_SPENT;
}

static weft_case case_of_kind(enum kind kind)
{
    weft_case c;
    memset(&c, 0, sizeof c);
    c.rc = WEFT_PENDING;
    c.kind = (uint8_t)kind;
    return c;
}

weft_case weft_case_future(weft_future *f)
{
    weft_case c = case_of_kind(CASE_BORROWED);
    c.arg[0].ptr = f;
    return c;
}

weft_case weft_case_make(int (*start)(weft_case *c), void *arg0, void *arg1)
{
    weft_case c = case_of_kind(CASE_STARTED);
    c.start = start;
    c.arg[0].ptr = arg0;
    c.arg[1].ptr = arg1;
    return c;
}

weft_case weft_case_else(void)
{
    return case_of_kind(CASE_ELSE);
}

void weft_case_cancel(weft_case *c)
{
    if (c->kind != CASE_BORROWED || c->state != CASE_PENDING)
        return;
    c->state = CASE_SPENT;
    future_of(c)->ops->cancel(future_of(c));
}

static bool case_matches(weft_case *c)
{
    switch ((enum filter)c->filter) {
    case FILTER_NONE:
        return true;
    case FILTER_OK:
        return c->rc >= 0;
    case FILTER_PREDICATE:
        return c->matches(c->rc, c->matches_arg);
    }
    return true;
}

/* True: it won. */
static bool case_poll(weft_case *c, weft_waker *waker)
{
    bool must_start = c->kind == CASE_STARTED && c->state == CASE_IDLE;
    c->state = CASE_BUSY;
    int rc = must_start ? c->start(c) : 0;
    if (rc == 0) {
        weft_future *f = future_of(c);
        rc = f->ops->poll(f, waker);
        if (rc == WEFT_PENDING) {
            c->state = CASE_PENDING;
            return false;
        }
    }
    c->rc = rc;
    return case_matches(c);
}

/* ---- the select ---- */

static void begin(weft_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        weft_case *c = &cases[i];
        if (c->kind == CASE_STARTED)
            c->state = CASE_IDLE;
        if (c->state != CASE_SPENT)
            c->rc = WEFT_PENDING;
    }
}

/* Cancels what the select holds. Again does nothing, which is how it serves as a cleanup too. */
static void end(weft_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        weft_case *c = &cases[i];
        if (c->kind != CASE_STARTED || c->state != CASE_PENDING)
            continue;
        c->state = CASE_SPENT;
        future_of(c)->ops->cancel(future_of(c));
    }
}

static size_t random_below(size_t count)
{
    return (size_t)(((weft__random_here() >> 32) * count) >> 32);
}

/* The index of the case that won, WEFT_PENDING, or -ENOENT. */
static int poll_cases(weft_case *cases, size_t count, bool is_biased, weft_waker *waker)
{
    size_t at = is_biased || count < 2 ? 0 : random_below(count);
    bool is_pending = false;
    for (size_t i = 0; i < count; i++, at = at + 1 < count ? at + 1 : 0) {
        weft_case *c = &cases[at];
        if (!case_is_live(c))
            continue;
        if (case_poll(c, waker)) {
            end(cases, count);
            return (int)at;
        }
        if (c->state == CASE_PENDING)
            is_pending = true;
    }
    if (is_pending)
        return WEFT_PENDING;
    for (size_t i = 0; i < count; i++)
        if (cases[i].kind == CASE_ELSE && !cases[i].disabled)
            return (int)i;
    return -ENOENT;
}

/* ---- as a future ---- */

static int select_poll(weft_future *f, weft_waker *waker)
{
    weft_select_future *s = WEFT__CONTAINER_OF(f, weft_select_future, future);
    if (!s->is_begun) {
        s->is_begun = true;
        begin(s->cases, s->count);
    }
    int rc = poll_cases(s->cases, s->count, s->is_biased, waker);
    if (rc == -ENOENT)
        return weft__misuse("weft_select", rc,
                            "every case is disabled or did not match, and there is no else",
                            s->caller);
    return rc;
}

static void select_cancel(weft_future *f)
{
    weft_select_future *s = WEFT__CONTAINER_OF(f, weft_select_future, future);
    end(s->cases, s->count);
}

static const weft_future_ops select_ops = {select_poll, select_cancel, "select"};

static void future_init(weft_select_future *s, weft_case *cases, size_t count, bool is_biased,
                        const void *caller)
{
    s->future.ops = &select_ops;
    s->cases = cases;
    s->count = count;
    s->caller = caller;
    s->is_biased = is_biased;
    s->is_begun = false;
}

void weft_select_future_init(weft_select_future *s, weft_case *cases, size_t count)
{
    future_init(s, cases, count, false, WEFT__CALLER);
}

void weft_select_future_init_biased(weft_select_future *s, weft_case *cases, size_t count)
{
    future_init(s, cases, count, true, WEFT__CALLER);
}

/* ---- nested ---- */

static int start_select(weft_case *c)
{
    future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].size, c->arg[2].size != 0, NULL);
    return 0;
}

static weft_case case_select(weft_case *cases, size_t count, bool is_biased)
{
    weft_case c = weft_case_make(start_select, cases, NULL);
    c.arg[1].size = count;
    c.arg[2].size = is_biased;
    return c;
}

weft_case weft_case_select(weft_case *cases, size_t count)
{
    return case_select(cases, count, false);
}

weft_case weft_case_select_biased(weft_case *cases, size_t count)
{
    return case_select(cases, count, true);
}

/* ---- cases of the core ---- */

static int start_join(weft_case *c)
{
    weft_join_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_join(weft_task *task)
{
    return weft_case_make(start_join, task, NULL);
}

static int start_sleep(weft_case *c)
{
    weft_sleep_future_init(weft_case_storage(c), c->arg[0].u64);
    return 0;
}

weft_case weft_case_sleep(uint64_t duration_ns)
{
    weft_case c = weft_case_make(start_sleep, NULL, NULL);
    c.arg[0].u64 = duration_ns;
    return c;
}

static int start_sleep_until(weft_case *c)
{
    weft_sleep_future_init_until(weft_case_storage(c), c->arg[0].u64);
    return 0;
}

weft_case weft_case_sleep_until(uint64_t deadline_ns)
{
    weft_case c = weft_case_make(start_sleep_until, NULL, NULL);
    c.arg[0].u64 = deadline_ns;
    return c;
}

/* ---- waiting ---- */

static int check(const char *call, const weft_case *cases, size_t count, const void *caller)
{
    if (cases == NULL && count > 0)
        return weft__misuse(call, -EINVAL, "there are no cases", caller);
    for (size_t i = 0; i < count; i++)
        if (cases[i].kind == CASE_BORROWED && !has_operations(cases[i].arg[0].ptr))
            return weft__misuse(call, -EINVAL, "a future is NULL or has no operations", caller);
    return 0;
}

/* A start, a poll or a predicate of the user's may panic, and the frame be given up: what other cases
 * have registered must not outlive it. So the end of the select is a cleanup of the task meanwhile. */
static void end_at_unwind(void *arg)
{
    weft_select_future *s = arg;
    end(s->cases, s->count);
}

static void guard_enter(weft_cleanup *guard, weft_select_future *s)
{
    guard->fn = end_at_unwind;
    guard->arg = s;
    weft__cleanup_enter(guard);
}

static void guard_leave(const weft_cleanup *guard)
{
    weft__locals_now()->cleanups = guard->below;
}

static int select_here(const char *call, weft_case *cases, size_t count, bool is_biased,
                       const void *caller)
{
    int rc = check(call, cases, count, caller);
    if (rc == 0)
        rc = weft__wait_begin(call, caller);
    if (rc < 0)
        return rc;
    weft_select_future s;
    weft_cleanup guard;
    future_init(&s, cases, count, is_biased, caller);
    guard_enter(&guard, &s);
    rc = weft__wait_for(&s.future);
    guard_leave(&guard);
    return rc;
}

int weft_select(weft_case *cases, size_t count)
{
    return select_here("weft_select", cases, count, false, WEFT__CALLER);
}

int weft_select_biased(weft_case *cases, size_t count)
{
    return select_here("weft_select_biased", cases, count, true, WEFT__CALLER);
}

static int try_here(const char *call, weft_case *cases, size_t count, bool is_biased,
                    const void *caller)
{
    int rc = check(call, cases, count, caller);
    if (rc < 0)
        return rc;
    struct weft__task *t = weft__wait_task();
    if (t == NULL)
        return weft__misuse(call, -EPERM,
                            "the caller is in no runtime (a task, or inside weft_enter())", caller);
    weft_select_future s;
    weft_cleanup guard;
    future_init(&s, cases, count, is_biased, caller);
    guard_enter(&guard, &s);
    rc = select_poll(&s.future, weft__task_waker(t));
    guard_leave(&guard);
    if (rc != WEFT_PENDING)
        return rc;
    end(cases, count);
    return -EAGAIN;
}

int weft_try_select(weft_case *cases, size_t count)
{
    return try_here("weft_try_select", cases, count, false, WEFT__CALLER);
}

int weft_try_select_biased(weft_case *cases, size_t count)
{
    return try_here("weft_try_select_biased", cases, count, true, WEFT__CALLER);
}

int weft_blocking_select(weft_case *cases, size_t count)
{
    int rc = check("weft_blocking_select", cases, count, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_select_future s;
    weft_cleanup guard;
    future_init(&s, cases, count, false, WEFT__CALLER);
    guard_enter(&guard, &s);
    rc = weft__wait_blocking("weft_blocking_select", &s.future, WEFT__CALLER);
    guard_leave(&guard);
    return rc;
}
