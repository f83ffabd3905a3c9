/*
 * Cases, for whatever polls an array of them: select.c and await_all.c.
 */
#ifndef WEFT_TASK_CASE_H
#define WEFT_TASK_CASE_H

#include "task/panic.h"
#include "task/task.h"

#include <weft/select.h>

#include <limits.h>

enum weft__case_kind {
    WEFT__CASE_BORROWED, /* arg[0] is the caller's future */
    WEFT__CASE_STARTED,  /* start() makes the future in storage */
    WEFT__CASE_ELSE,
};

enum weft__case_state {
    WEFT__CASE_IDLE, /* to be started, or polled for the first time */
    WEFT__CASE_PENDING,
    /* Completed. One of the caller's remains so. Also while in poll() or start(), so that it is not
     * cancelled if one of them panics. */
    WEFT__CASE_SPENT,
};

/* From a start() of weft's own: the case is ready, with 0, and needs no future. */
#define WEFT__CASE_READY INT_MAX

/* The start() of a select that is a case: arg holds its cases, and how many. */
int weft__case_start_select(weft_case *c);

/* It is to be polled. */
static inline bool weft__case_is_live(const weft_case *c)
{
    return c->kind != WEFT__CASE_ELSE && !c->disabled && c->state != WEFT__CASE_SPENT;
}

/* Before the first poll: what is held by value is to be started. -EINVAL, with misuse of `call`
 * reported: there are no cases, or a future is none. */
int weft__cases_begin(const char *call, weft_case *cases, size_t count, const void *caller);
/* Polls a live case, after starting it if need be. False: it is pending. Else rc is set. */
WEFT_MUST_CHECK bool weft__case_poll(weft_case *c, weft_waker *waker);
/* Cancels what is held by value and pending. Again does nothing. With a guard entered: */
void weft__cases_end(weft_case *cases, size_t count);
/* The same without one. */
void weft__cases_cancel(weft_case *cases, size_t count);

/*
 * A start, a poll, a cancel or a predicate of the user's may panic, and the frame be given up: what
 * other cases have registered must not outlive it. So ending them is a cleanup of the task while
 * they are polled or ended.
 */
struct weft__cases_guard {
    weft_cleanup cleanup;
    weft_case *cases;
    size_t count;
};

void weft__cases_end_at_unwind(void *guard);

static inline struct weft__locals *weft__cases_guard_enter(struct weft__cases_guard *g,
                                                           weft_case *cases, size_t count)
{
    struct weft__ctx *c = weft__ctx_now();
    struct weft__locals *l = c && c->current ? c->current->locals : weft__locals_now();
    g->cases = cases;
    g->count = count;
    g->cleanup.below = l->cleanups;
    g->cleanup.fn = weft__cases_end_at_unwind;
    g->cleanup.arg = g;
    l->cleanups = &g->cleanup;
    return l;
}

/* l: what enter has returned; polls do not suspend. */
static inline void weft__cases_guard_leave(const struct weft__cases_guard *g,
                                           struct weft__locals *l)
{
    l->cleanups = g->cleanup.below;
}

#endif
