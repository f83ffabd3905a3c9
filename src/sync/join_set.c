/*
 * Join sets: members.c with a public face.
 */
#include <weft/join_set.h>

#include "sync/members.h"
#include "task/panic.h"
#include "task/spawn.h"
#include "task/state.h"

#include <errno.h>

struct weft_join_set {
    struct weft__members members;
};

int weft_join_set_create(weft_join_set **ret_set)
{
    if (ret_set == NULL)
        return weft__misuse("weft_join_set_create", -EINVAL, "ret_set is NULL", WEFT__CALLER);
    weft_join_set *set = weft__malloc(sizeof *set);
    if (set == NULL)
        return -ENOMEM;
    weft__members_init(&set->members, sizeof(struct weft__member));
    *ret_set = set;
    return 0;
}

static void finish(void *arg)
{
    struct weft__members *g = arg;
    (void)weft__members_abort_and_wait(g); /* false: those left run on, aborted and detached */
    weft__members_release(g);
}

void weft_join_set_destroy(weft_join_set *set)
{
    if (set)
        weft__members_destroy(&set->members, finish);
}

static int null_set(const char *call, const void *caller)
{
    return weft__misuse(call, -EINVAL, "the set is NULL", caller);
}

/* ---- spawning ---- */

int weft__join_set_spawn_at(weft_join_set *set, enum weft_member_kind kind,
                            const weft_spawn_options *options, weft_task_fn fn, void *arg,
                            weft_abort_handle **ret_abort, const weft_site *site)
{
    if (WEFT__UNLIKELY(set == NULL))
        return weft__misuse_at("weft_join_set_spawn", -EINVAL, "the set is NULL", site);
    struct weft__core *core;
    if (weft__members_are_inherited(&set->members, "weft_join_set_spawn", NULL))
        return -EPERM;
    int rc = weft__member_find_core("weft_join_set_spawn", kind, options, fn, arg, site, &core);
    if (rc < 0)
        return rc;
    struct weft__member *m = weft__member_create(&set->members);
    if (m == NULL)
        return -ENOMEM;
    rc = weft__member_spawn(m, core, kind, options, fn, arg, ret_abort, site);
    if (rc < 0)
        weft__member_put(m);
    return weft__spawn_result(rc);
}

long weft__join_set_spawn_all_at(weft_join_set *set, const weft_spawn_options *options,
                                 const weft_body *bodies, size_t count, const weft_site *site)
{
    if (set == NULL || (bodies == NULL && count > 0))
        return weft__misuse_at("weft_join_set_spawn_all", -EINVAL,
                               "the set is NULL, or there are no bodies", site);
    for (size_t i = 0; i < count; i++) {
        int rc = weft__join_set_spawn_at(set, WEFT_MEMBER_TASK, options, bodies[i].fn,
                                         bodies[i].arg, NULL, site);
        if (rc < 0)
            return i > 0 ? (long)i : rc;
    }
    return (long)count;
}

size_t weft_join_set_len(weft_join_set *set)
{
    if (weft__is_null("weft_join_set_len", set, WEFT__CALLER))
        return 0;
    return weft__members_len(&set->members);
}

/* ---- joining the next ---- */

/* The member is the caller's. */
static int join_taken(struct weft__member *m, weft_outcome *ret_outcome)
{
    weft_task *task = m->task;
    weft__member_put(m);
    return weft_try_join(task, ret_outcome);
}

struct next {
    weft_future future;
    weft_join_set *set;
    weft_outcome *ret_outcome;
    struct weft__waiter waiter;
};
_Static_assert(sizeof(struct next) <= sizeof(weft_join_set_join_next_future),
               "weft_join_set_join_next_future.opaque is too small");

static int next_poll(weft_future *f, weft_waker *waker)
{
    struct next *n = WEFT__CONTAINER_OF(f, struct next, future);
    int rc;
    struct weft__member *m = weft__members_poll_take(&n->set->members, &n->waiter, waker, &rc);
    return m ? join_taken(m, n->ret_outcome) : rc;
}

static void next_cancel(weft_future *f)
{
    struct next *n = WEFT__CONTAINER_OF(f, struct next, future);
    weft__members_leave(&n->set->members, &n->waiter);
}

static const weft_future_ops next_ops = {next_poll, next_cancel, "join_set join_next"};

static void next_init(struct next *n, weft_join_set *set, weft_outcome *ret_outcome)
{
    n->future.ops = &next_ops;
    n->set = set;
    n->ret_outcome = ret_outcome;
    weft__waiter_init(&n->waiter);
}

void weft_join_set_join_next_future_init(weft_join_set_join_next_future *f, weft_join_set *set,
                                         weft_outcome *ret_outcome)
{
    next_init((struct next *)(void *)f, set, ret_outcome);
    if (set == NULL) {
        (void)null_set("weft_join_set_join_next_future_init", WEFT__CALLER); /* said by the poll */
        f->future.ops = &weft__future_invalid;
    }
}

static int start_next(weft_case *c)
{
    weft_join_set_join_next_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr);
    return 0;
}

weft_case weft_case_join_set_join_next(weft_join_set *set, weft_outcome *ret_outcome)
{
    return weft_case_make(start_next, set, ret_outcome);
}

int weft_join_set_join_next(weft_join_set *set, weft_outcome *ret_outcome)
{
    if (WEFT__UNLIKELY(set == NULL))
        return null_set("weft_join_set_join_next", WEFT__CALLER);
    int rc = weft__wait_begin("weft_join_set_join_next", WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct next n;
    next_init(&n, set, ret_outcome);
    return weft__wait_for(&n.future);
}

int weft_join_set_try_join_next(weft_join_set *set, weft_outcome *ret_outcome)
{
    if (set == NULL)
        return null_set("weft_join_set_try_join_next", WEFT__CALLER);
    int rc;
    struct weft__member *m = weft__members_try_take(&set->members, &rc);
    return m ? join_taken(m, ret_outcome) : rc;
}

int weft_join_set_blocking_join_next(weft_join_set *set, weft_outcome *ret_outcome)
{
    if (set == NULL)
        return null_set("weft_join_set_blocking_join_next", WEFT__CALLER);
    struct next n;
    next_init(&n, set, ret_outcome);
    return weft__wait_blocking("weft_join_set_blocking_join_next", &n.future, WEFT__CALLER);
}

/* ---- all of them ---- */

static void free_outcome(void *o)
{
    weft_outcome_fini(o);
}

/* m has failed, and is the caller's: ends the others, and raises its panic, or one in its place. */
static WEFT__NORETURN void fail(weft_join_set *set, struct weft__member *m)
{
    struct weft__members *g = &set->members;
    weft_outcome o = {.kind = WEFT_OUTCOME_CANCELLED};
    WEFT_DEFER(free_outcome, &o); /* when the wait is unwound */
    int rc = join_taken(m, &o);
    WEFT_DEBUG_ASSERT(rc == 0); /* it has ended */
    (void)rc;
    (void)weft__members_abort_and_wait(g); /* true: we have waited before */
    weft__members_detach_all(g);
    weft__member_raise("weft_join_set_join_all", &o);
}

long weft_join_set_join_all(weft_join_set *set, void **ret_values, size_t values_max)
{
    if (set == NULL)
        return null_set("weft_join_set_join_all", WEFT__CALLER);
    struct weft__members *g = &set->members;
    if (weft__members_are_inherited(g, "weft_join_set_join_all", WEFT__CALLER))
        return -EPERM;
    int rc = weft__wait_begin("weft_join_set_join_all", WEFT__CALLER);
    if (rc == 0 && weft__task_current() == NULL)
        rc = weft__misuse("weft_join_set_join_all", -EPERM,
                          "a thread that runs no task cannot panic", WEFT__CALLER);
    if (rc == 0 && weft__members_has_caller(g))
        rc = weft__misuse("weft_join_set_join_all", -EDEADLK, "a task of the set joins itself",
                          WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct weft__node all;
    long count;
    do {
        rc = weft__members_wait(g, true);
        if (rc < 0)
            return rc;
        count = weft__members_take_all(g, ret_values ? values_max : SIZE_MAX, &all);
        if (count == -ECHILD) {
            struct weft__member *failed = weft__members_take_failed(g);
            if (failed)
                fail(set, failed);
            count = -EAGAIN; /* somebody else has joined it meanwhile */
        }
    } while (count == -EAGAIN); /* or has spawned one */
    for (long i = 0; i < count; i++) {
        struct weft__node *n = weft__list_pop_front(&all);
        weft_outcome o;
        rc = join_taken(WEFT__CONTAINER_OF(n, struct weft__member, node), ret_values ? &o : NULL);
        WEFT_DEBUG_ASSERT(rc == 0); /* it has ended */
        if (ret_values)
            ret_values[i] = o.value;
    }
    return count;
}

void weft_join_set_abort_all(weft_join_set *set)
{
    if (!weft__is_null("weft_join_set_abort_all", set, WEFT__CALLER))
        weft__members_abort_all(&set->members);
}

int weft_join_set_shutdown(weft_join_set *set)
{
    if (set == NULL)
        return null_set("weft_join_set_shutdown", WEFT__CALLER);
    return weft__members_shutdown(&set->members, "weft_join_set_shutdown", WEFT__CALLER);
}

void weft_join_set_detach_all(weft_join_set *set)
{
    if (!weft__is_null("weft_join_set_detach_all", set, WEFT__CALLER))
        weft__members_detach_all(&set->members);
}
