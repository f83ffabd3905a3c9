/*
 * Select: polls its cases until one is ready, then cancels those it holds.
 *
 * All cases are polled with the waker of whoever polls the select; which one woke it is not known,
 * so each wake polls them all. That is cheap next to what a waker for each would cost, up to some
 * hundreds of cases. Of two ready cases the second is not even started.
 */
#include <weft/select.h>

#include "task/await.h"
#include "task/case.h"

#include <errno.h>

enum {
    FILTER_NONE,
    FILTER_OK, /* the inline functions of the header know these two */
    FILTER_PREDICATE,
};

static bool case_matches(const weft_case *c)
{
    switch (c->filter) {
    case FILTER_OK:
        return c->rc >= 0;
    case FILTER_PREDICATE:
        return c->matches(c->rc, c->matches_arg);
    default:
        return true;
    }
}

static size_t random_below(size_t count)
{
    struct weft__ctx *c = weft__ctx_now();
    uint64_t bits = WEFT__LIKELY(c && c->rng) ? weft__random_next(c->rng) : weft__random_here();
    return (size_t)(((bits >> 32) * count) >> 32);
}

/* The index of the case that won, WEFT_PENDING, or -ENOENT. */
static int poll_cases(weft_select_future *s, weft_waker *waker)
{
    weft_case *cases = s->cases;
    size_t count = s->count;
    size_t at = s->is_biased || count < 2 ? 0 : random_below(count);
    bool is_pending = false;
    for (size_t i = 0; i < count; i++, at = at + 1 < count ? at + 1 : 0) {
        weft_case *c = &cases[at];
        if (!weft__case_is_live(c))
            continue;
        if (!weft__case_poll(c, waker)) {
            is_pending = true;
        } else if (case_matches(c)) {
            if (is_pending || s->was_pending) /* else none holds anything */
                weft__cases_end(cases, count);
            return (int)at;
        }
    }
    s->was_pending = is_pending;
    if (is_pending)
        return WEFT_PENDING;
    for (size_t i = 0; i < count; i++)
        if (cases[i].kind == WEFT__CASE_ELSE && !cases[i].disabled)
            return (int)i;
    return -ENOENT;
}

/* ---- as a future ---- */

static int select_poll(weft_future *f, weft_waker *waker)
{
    weft_select_future *s = WEFT__CONTAINER_OF(f, weft_select_future, future);
    if (!s->is_begun) {
        s->is_begun = true;
        int rc = weft__cases_begin("weft_select", s->cases, s->count, s->caller);
        if (rc < 0)
            return rc;
    }
    struct weft__cases_guard guard;
    struct weft__locals *l = weft__cases_guard_enter(&guard, s->cases, s->count);
    int rc = poll_cases(s, waker);
    weft__cases_guard_leave(&guard, l);
    if (WEFT__UNLIKELY(rc == -ENOENT))
        return weft__misuse("weft_select", rc,
                            "every case is disabled or did not match, and there is no else",
                            s->caller);
    return rc;
}

static void select_cancel(weft_future *f)
{
    weft_select_future *s = WEFT__CONTAINER_OF(f, weft_select_future, future);
    if (s->is_begun) /* else there may be no cases */
        weft__cases_cancel(s->cases, s->count);
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
    s->is_begun = s->was_pending = false;
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

int weft__case_start_select(weft_case *c)
{
    future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].size, c->arg[2].size != 0, NULL);
    return 0;
}

static weft_case case_select(weft_case *cases, size_t count, bool is_biased)
{
    weft_case c = weft_case_make(weft__case_start_select, cases, NULL);
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

/* ---- waiting ---- */

static int select_here(const char *call, weft_case *cases, size_t count, bool is_biased,
                       const void *caller)
{
    int rc = weft__cases_begin(call, cases, count, caller);
    if (rc == 0)
        rc = weft__wait_begin(call, caller);
    if (WEFT__UNLIKELY(rc < 0))
        return rc;
    weft_select_future s;
    future_init(&s, cases, count, is_biased, caller);
    s.is_begun = true;
    return weft__wait_for(&s.future);
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
    int rc = weft__cases_begin(call, cases, count, caller);
    if (rc < 0)
        return rc;
    struct weft__task *t = weft__wait_task();
    if (t == NULL)
        return weft__wait_refused(call, caller);
    weft_select_future s;
    future_init(&s, cases, count, is_biased, caller);
    s.is_begun = true;
    uint32_t outer = weft__try_begin(t->locals);
    rc = select_poll(&s.future, weft__task_waker(t));
    weft__try_end(t->locals, outer);
    if (rc != WEFT_PENDING)
        return rc;
    weft__cases_cancel(cases, count);
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
    int rc = weft__cases_begin("weft_blocking_select", cases, count, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_select_future s;
    future_init(&s, cases, count, false, WEFT__CALLER);
    s.is_begun = true;
    return weft__wait_blocking("weft_blocking_select", &s.future, WEFT__CALLER);
}
