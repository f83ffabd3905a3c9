/*
 * Waiting for several tasks, in two phases. The first watches all of them until it is decided what
 * is to become of them: one has ended, or has failed. The second waits for one after the other,
 * which takes as many polls as there are tasks and not their square. Waiting for all without
 * conditions is the second phase alone.
 */
#include <weft/join_all.h>

#include "sys/lock.h"
#include "task/state.h"
#include "task/task.h"

#include <errno.h>
#include <string.h>

enum { MODE_ALL, MODE_OK, MODE_RACE };
enum { PHASE_NEW, PHASE_WATCH, PHASE_DRAIN };

#define NONE SIZE_MAX

/* NULL for a spent handle. */
static struct weft__task *task_of(const weft_task *handle)
{
    return weft_task_id(handle) ? weft__task_address(handle) : NULL;
}

/* A spent handle counts as a task that has ended. */
static bool has_ended(const struct weft__task *t)
{
    /* acquire pairs with the release of the completer: the outcome is readable. mutation: the pair
     * is that of weft_join(), which has models; none joins several tasks. */
    return t == NULL || (weft__a64_load_acquire(&t->state) & WEFT__TASK_DONE);
}

static bool has_failed(const struct weft__task *t)
{
    return t == NULL || t->outcome != WEFT_OUTCOME_VALUE;
}

/* In a forked child: one of its parent's, which does not go on. */
static bool never_ends(const struct weft__task *t)
{
    return !has_ended(t) && weft__is_inherited("weft_join_all", t->core->process, NULL);
}

/* ---- the phases ---- */

/* WEFT_PENDING: the waker is registered with every task that has not ended. 0: decided. -EPERM. */
static int watch(weft_join_all_future *j, weft_waker *waker)
{
    bool is_pending = false;
    for (size_t i = j->waits_for; i < j->count; i++) {
        struct weft__task *t = task_of(j->tasks[i]);
        if (never_ends(t)) {
            return -EPERM;
        } else if (!has_ended(t) && weft__task_set_joiner(t, waker)) {
            is_pending = true;
        } else if (j->mode == MODE_RACE || has_failed(t)) {
            j->first = i;
            return 0;
        } else if (i == j->waits_for) {
            j->waits_for++; /* those in front are not looked at again */
        }
    }
    return is_pending ? WEFT_PENDING : 0;
}

static void abort_all(weft_join_all_future *j)
{
    for (size_t i = 0; i < j->count; i++)
        if (i != j->first && task_of(j->tasks[i]))
            (void)weft_abort(j->tasks[i]); /* the handle was just looked at */
}

/* WEFT_PENDING: the waker is registered with the first that has not ended. 0: all have. -EPERM. */
static int drain(weft_join_all_future *j, weft_waker *waker)
{
    for (; j->waits_for < j->count; j->waits_for++) {
        struct weft__task *t = task_of(j->tasks[j->waits_for]);
        if (never_ends(t))
            return -EPERM;
        if (!has_ended(t) && weft__task_set_joiner(t, waker))
            return WEFT_PENDING;
    }
    return 0;
}

/* Gives all handles up. Returns how many tasks did not end with a value. */
static int take_all(weft_join_all_future *j)
{
    int failed = 0;
    for (size_t i = 0; i < j->count; i++) {
        struct weft__task *t = task_of(j->tasks[i]);
        weft_outcome *o = j->ret_outcomes ? &j->ret_outcomes[i] : NULL;
        failed += has_failed(t);
        if (o) {
            memset(o, 0, sizeof *o);
            o->kind = WEFT_OUTCOME_CANCELLED; /* of a spent handle */
        }
        int rc = t ? weft_try_join(j->tasks[i], o) : 0;
        WEFT_DEBUG_ASSERT(rc == 0); /* it has ended */
        (void)rc;
    }
    return failed;
}

static int nothing_to_race(const void *caller)
{
    return weft__misuse("weft_race", -EINVAL, "there are no tasks to race", caller);
}

static int no_handles(const char *call, const void *caller)
{
    return weft__misuse(call, -EINVAL, "there are no handles", caller);
}

static int joins_itself(const char *call, const void *caller)
{
    return weft__misuse(call, -EDEADLK, "a task joins itself", caller);
}

/* By the first poll, before anything is registered or aborted. */
static int begin(weft_join_all_future *j, weft_waker *waker)
{
    static const char *const calls[] = {"weft_join_all", "weft_join_all_ok", "weft_race"};
    if (j->mode == MODE_RACE && j->count == 0)
        return nothing_to_race(NULL);
    if (j->tasks == NULL && j->count > 0)
        return no_handles(calls[j->mode], NULL);
    const struct weft__task *self = weft__task_of_waker(waker);
    for (size_t i = 0; i < j->count; i++) {
        const struct weft__task *t = task_of(j->tasks[i]);
        if (t != NULL && (t == self || weft__task_stands_here(t)))
            return joins_itself(calls[j->mode], NULL);
    }
    j->phase = j->mode == MODE_ALL ? PHASE_DRAIN : PHASE_WATCH;
    return 0;
}

static int join_all_poll(weft_future *f, weft_waker *waker)
{
    weft_join_all_future *j = WEFT__CONTAINER_OF(f, weft_join_all_future, future);
    int rc = j->phase == PHASE_NEW ? begin(j, waker) : 0;
    if (rc < 0)
        return rc;
    if (j->phase == PHASE_WATCH) {
        rc = watch(j, waker);
        if (rc < 0)
            return rc; /* WEFT_PENDING too */
        j->phase = PHASE_DRAIN;
        j->waits_for = 0;
        if (j->first != NONE)
            abort_all(j);
    }
    rc = drain(j, waker);
    if (rc < 0)
        return rc;
    if (j->ret_failed && j->first != NONE)
        *j->ret_failed = j->first;
    int failed = take_all(j);
    return j->mode == MODE_RACE ? (int)j->first : failed;
}

static void join_all_cancel(weft_future *f)
{
    weft_join_all_future *j = WEFT__CONTAINER_OF(f, weft_join_all_future, future);
    if (j->phase == PHASE_NEW)
        return; /* never polled, or cancelled before: who waits for the tasks are others */
    for (size_t i = j->waits_for; i < j->count; i++) {
        struct weft__task *t = task_of(j->tasks[i]);
        if (t)
            weft__task_clear_joiner(t);
    }
    j->phase = PHASE_NEW;
    j->waits_for = 0;
}

static const weft_future_ops join_all_ops = {join_all_poll, join_all_cancel, "join_all"};

static void init(weft_join_all_future *j, int mode, weft_task *const *tasks, size_t count,
                 weft_outcome *ret_outcomes, size_t *ret_failed)
{
    j->future.ops = &join_all_ops;
    j->tasks = tasks;
    j->count = count;
    j->waits_for = 0;
    j->first = NONE;
    j->ret_outcomes = ret_outcomes;
    j->ret_failed = ret_failed;
    j->mode = (uint8_t)mode;
    j->phase = PHASE_NEW;
}

void weft_join_all_future_init(weft_join_all_future *j, weft_task *const *tasks, size_t count,
                               weft_outcome *ret_outcomes)
{
    init(j, MODE_ALL, tasks, count, ret_outcomes, NULL);
}

void weft_join_all_ok_future_init(weft_join_all_future *j, weft_task *const *tasks, size_t count,
                                  weft_outcome *ret_outcomes, size_t *ret_failed)
{
    init(j, MODE_OK, tasks, count, ret_outcomes, ret_failed);
}

void weft_race_future_init(weft_join_all_future *j, weft_task *const *tasks, size_t count,
                           weft_outcome *ret_outcomes)
{
    init(j, MODE_RACE, tasks, count, ret_outcomes, NULL);
}

/* ---- the functions ---- */

static int check(const char *call, weft_task *const *tasks, size_t count, const void *caller)
{
    if (tasks == NULL && count > 0)
        return no_handles(call, caller);
    for (size_t i = 0; i < count; i++) {
        struct weft__task *t = task_of(tasks[i]);
        if (t == NULL)
            return weft__misuse(call, -EINVAL, "a handle is NULL, or was joined or detached before",
                                caller);
        if (t == weft__task_current() || weft__task_stands_here(t))
            return joins_itself(call, caller);
    }
    return 0;
}

static int join_here(const char *call, weft_join_all_future *j, const void *caller)
{
    int rc = check(call, j->tasks, j->count, caller);
    if (rc == 0)
        rc = weft__wait_begin(call, caller);
    return rc < 0 ? rc : weft__wait_for(&j->future);
}

int weft_join_all(weft_task *const *tasks, size_t count, weft_outcome *ret_outcomes)
{
    weft_join_all_future j;
    init(&j, MODE_ALL, tasks, count, ret_outcomes, NULL);
    return join_here("weft_join_all", &j, WEFT__CALLER);
}

int weft_join_all_ok(weft_task *const *tasks, size_t count, weft_outcome *ret_outcomes,
                     size_t *ret_failed)
{
    weft_join_all_future j;
    init(&j, MODE_OK, tasks, count, ret_outcomes, ret_failed);
    return join_here("weft_join_all_ok", &j, WEFT__CALLER);
}

int weft_race(weft_task *const *tasks, size_t count, weft_outcome *ret_outcomes)
{
    if (count == 0)
        return nothing_to_race(WEFT__CALLER);
    weft_join_all_future j;
    init(&j, MODE_RACE, tasks, count, ret_outcomes, NULL);
    return join_here("weft_race", &j, WEFT__CALLER);
}
