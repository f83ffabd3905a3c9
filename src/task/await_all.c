/*
 * Waiting for all of several futures: polls every one that has not completed, at each wake, from
 * another one on each time.
 */
#include <weft/join_all.h>

#include "task/case.h"

#include <errno.h>

static int poll_cases(weft_await_all_future *a, weft_waker *waker)
{
    size_t at = a->first;
    if (!(a->flags & WEFT_AWAIT_BIASED))
        a->first = a->first + 1 < a->count ? a->first + 1 : 0;
    bool is_pending = false;
    for (size_t i = 0; i < a->count; i++, at = at + 1 < a->count ? at + 1 : 0) {
        weft_case *c = &a->cases[at];
        if (!weft__case_is_live(c))
            continue;
        if (!weft__case_poll(c, waker)) {
            is_pending = true;
        } else if (c->rc < 0 && (a->flags & WEFT_AWAIT_OK)) {
            weft__cases_end(a->cases, a->count);
            return c->rc;
        }
    }
    if (is_pending)
        return WEFT_PENDING;
    weft__cases_end(a->cases, a->count); /* those that were disabled while they were pending */
    return 0;
}

static int begin(const char *call, unsigned flags, weft_case *cases, size_t count,
                 const void *caller)
{
    if (flags & ~(unsigned)(WEFT_AWAIT_OK | WEFT_AWAIT_BIASED))
        return weft__misuse(call, -EINVAL, "unknown flags", caller);
    return weft__cases_begin(call, cases, count, caller);
}

static int await_all_poll(weft_future *f, weft_waker *waker)
{
    weft_await_all_future *a = WEFT__CONTAINER_OF(f, weft_await_all_future, future);
    if (!a->is_begun) {
        int rc = begin("weft_await_all", a->flags, a->cases, a->count, NULL);
        if (rc < 0)
            return rc;
        a->is_begun = true;
    }
    struct weft__cases_guard guard;
    struct weft__locals *l = weft__cases_guard_enter(&guard, a->cases, a->count);
    int rc = poll_cases(a, waker);
    weft__cases_guard_leave(&guard, l);
    return rc;
}

static void await_all_cancel(weft_future *f)
{
    weft_await_all_future *a = WEFT__CONTAINER_OF(f, weft_await_all_future, future);
    if (a->is_begun) /* else there may be no cases */
        weft__cases_cancel(a->cases, a->count);
}

static const weft_future_ops await_all_ops = {await_all_poll, await_all_cancel, "await_all"};

void weft_await_all_future_init(weft_await_all_future *a, unsigned flags, weft_case *cases,
                                size_t count)
{
    a->future.ops = &await_all_ops;
    a->cases = cases;
    a->count = count;
    a->first = 0;
    a->flags = flags;
    a->is_begun = false;
}

static int await_here(const char *call, unsigned flags, weft_case *cases, size_t count,
                      const void *caller)
{
    int rc = begin(call, flags, cases, count, caller);
    if (rc == 0)
        rc = weft__wait_begin(call, caller);
    if (rc < 0)
        return rc;
    weft_await_all_future a;
    weft_await_all_future_init(&a, flags, cases, count);
    a.is_begun = true;
    return weft__wait_for(&a.future);
}

int weft_await_all(weft_case *cases, size_t count)
{
    return await_here("weft_await_all", 0, cases, count, WEFT__CALLER);
}

int weft_await_all_ok(weft_case *cases, size_t count)
{
    return await_here("weft_await_all_ok", WEFT_AWAIT_OK, cases, count, WEFT__CALLER);
}

int weft_await_all_with(unsigned flags, weft_case *cases, size_t count)
{
    return await_here("weft_await_all_with", flags, cases, count, WEFT__CALLER);
}
