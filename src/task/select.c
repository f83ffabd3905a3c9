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

/* After predicates have spoken, which may disable other cases: whether one is left to wait for. */
static WEFT__NOINLINE bool is_any_left(const weft_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (cases[i].state == WEFT__CASE_PENDING && weft__case_is_live(&cases[i]))
            return true;
    return false;
}

/* The index of the case that won, WEFT_PENDING, or -ENOENT. */
static inline int poll_cases(weft_case *cases, size_t count, bool is_biased, bool was_pending,
                             weft_waker *waker)
{
    size_t at = is_biased || count < 2 ? 0 : random_below(count);
    bool is_pending = false, is_refused = false;
    for (size_t i = 0; i < count; i++, at = at + 1 < count ? at + 1 : 0) {
        weft_case *c = &cases[at];
        if (!weft__case_is_live(c))
            continue;
        if (!weft__case_poll(c, waker)) {
            is_pending = true;
        } else if (case_matches(c)) {
            if (is_pending || was_pending) /* else none holds anything */
                weft__cases_end(cases, count);
            return (int)at;
        } else {
            is_refused = true;
        }
    }
    if (is_pending && (WEFT__LIKELY(!is_refused) || is_any_left(cases, count)))
        return WEFT_PENDING;
    if (is_pending || was_pending) /* those that were disabled since */
        weft__cases_end(cases, count);
    for (size_t i = 0; i < count; i++)
        if (cases[i].kind == WEFT__CASE_ELSE && !cases[i].disabled)
            return (int)i;
    return -ENOENT;
}

static WEFT__NOINLINE int none_matches(const void *caller)
{
    return weft__misuse("weft_select", -ENOENT,
                        "every case is disabled or did not match, and there is no else", caller);
}

/* was_pending: a look before this one was, so that some cases may hold something. */
static WEFT__NOINLINE int look(weft_case *cases, size_t count, bool is_biased, bool was_pending,
                               weft_waker *waker, const void *caller)
{
    struct weft__cases_guard guard;
    struct weft__locals *l = weft__cases_guard_enter(&guard, cases, count);
    int rc = poll_cases(cases, count, is_biased, was_pending, waker);
    weft__cases_guard_leave(&guard, l);
    return WEFT__LIKELY(rc != -ENOENT) ? rc : none_matches(caller);
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
    int rc = look(s->cases, s->count, s->is_biased, s->was_pending, waker, s->caller);
    s->was_pending = rc == WEFT_PENDING;
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

/* Of a thread, or in a forked child, which is refused. */
static WEFT__COLD int select_as_future(weft_case *cases, size_t count, bool is_biased,
                                       const void *caller)
{
    weft_select_future s;
    future_init(&s, cases, count, is_biased, caller);
    s.is_begun = true;
    return weft__wait_for(&s.future);
}

/* Nothing was ready at the first look. */
static WEFT__NOINLINE int select_later(weft_case *cases, size_t count, bool is_biased,
                                       struct weft__task *t, const void *caller)
{
    for (;;) {
        int why = weft__wait_pending(t, &select_ops);
        if (WEFT__UNLIKELY(why != 0)) {
            weft__cases_cancel(cases, count);
            return weft__wait_stopped(t, why);
        }
        int rc = look(cases, count, is_biased, true, weft__task_waker(t), caller);
        if (rc != WEFT_PENDING)
            return rc;
    }
}

static inline int select_here(const char *call, weft_case *cases, size_t count, bool is_biased,
                              const void *caller)
{
    int rc = weft__cases_begin(call, cases, count, caller);
    if (rc == 0)
        rc = weft__wait_begin(call, caller);
    if (WEFT__UNLIKELY(rc < 0))
        return rc;
    struct weft__task *t = weft__task_current();
    if (WEFT__UNLIKELY(!weft__waits_by_itself(t)))
        return select_as_future(cases, count, is_biased, caller);
    rc = look(cases, count, is_biased, false, weft__task_waker(t), caller);
    return rc != WEFT_PENDING ? rc : select_later(cases, count, is_biased, t, caller);
}

int weft_select(weft_case *cases, size_t count)
{
    return weft__stay_for(select_here("weft_select", cases, count, false, WEFT__CALLER));
}

int weft_select_biased(weft_case *cases, size_t count)
{
    return weft__stay_for(select_here("weft_select_biased", cases, count, true, WEFT__CALLER));
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
