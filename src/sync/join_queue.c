/*
 * Join queues: a ring of handles, of which the first is joined. So it is the first one's joiner
 * that is woken, and nobody for the others.
 */
#include <weft/join_queue.h>

#include "sync/members.h"
#include "task/panic.h"
#include "task/spawn.h"
#include "task/task.h"

#include <errno.h>
#include <string.h>

#define CAP_MIN 8

struct weft_join_queue {
    weft_task **ring;
    size_t cap; /* a power of two, or 0 */
    size_t head, count;
};

/* ---- the ring ---- */

static weft_task **slot(const weft_join_queue *q, size_t i)
{
    return &q->ring[(q->head + i) & (q->cap - 1)];
}

static int reserve_one(weft_join_queue *q)
{
    if (q->count < q->cap)
        return 0;
    size_t cap = q->cap ? 2 * q->cap : CAP_MIN;
    weft_task **ring = weft__malloc(cap * sizeof(void *));
    if (ring == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < q->count; i++)
        ring[i] = *slot(q, i);
    weft__free(q->ring);
    q->ring = ring;
    q->cap = cap;
    q->head = 0;
    return 0;
}

static weft_task *pop(weft_join_queue *q)
{
    weft_task *task = *slot(q, 0);
    q->head = (q->head + 1) & (q->cap - 1);
    q->count--;
    return task;
}

/* ---- creating and destroying ---- */

int weft_join_queue_create(weft_join_queue **ret_queue)
{
    if (ret_queue == NULL)
        return weft__misuse("weft_join_queue_create", -EINVAL, "ret_queue is NULL", WEFT__CALLER);
    weft_join_queue *q = weft__calloc(1, sizeof *q);
    if (q == NULL)
        return -ENOMEM;
    *ret_queue = q;
    return 0;
}

static int null_queue(const char *call, const void *caller)
{
    return weft__misuse(call, -EINVAL, "the queue is NULL", caller);
}

static void abort_all(weft_join_queue *q)
{
    for (size_t i = 0; i < q->count; i++)
        (void)weft_abort(*slot(q, i)); /* the queue has the handles */
}

void weft_join_queue_abort_all(weft_join_queue *q)
{
    if (!weft__is_null("weft_join_queue_abort_all", q, WEFT__CALLER))
        abort_all(q);
}

static void detach_all(weft_join_queue *q)
{
    while (q->count > 0)
        weft_task_detach(pop(q));
}

void weft_join_queue_detach_all(weft_join_queue *q)
{
    if (!weft__is_null("weft_join_queue_detach_all", q, WEFT__CALLER))
        detach_all(q);
}

/* Aborts all, waits for each, and drops its outcome, whatever else is asked of the caller; those it
 * cannot wait for are left in the queue. */
static void abort_and_wait(weft_join_queue *q)
{
    abort_all(q);
    if (!weft__can_wait_for_ends())
        return;
    WEFT_SHIELD
        while (q->count > 0) {
            weft_task *first = *slot(q, 0);
            if (!weft__can_wait_for_end_of(first, weft__task_address(first)->core)) {
                weft_task_detach(pop(q));
                continue;
            }
            weft_join_future j;
            weft_join_future_init(&j, first);
            if (weft__wait_for(&j.future) < 0)
                continue;             /* unwound in a boundary of ours */
            weft_task_detach(pop(q)); /* it has ended */
        }
}

static void finish(void *arg)
{
    weft_join_queue *q = arg;
    abort_and_wait(q);
    detach_all(q);
    weft__free(q->ring);
    weft__free(q);
}

void weft_join_queue_destroy(weft_join_queue *q)
{
    if (q == NULL)
        return;
    /* When shutdown unwinds the caller while it waits, the rest is done by its cleanups. */
    weft_cleanup rest = {NULL, finish, q};
    weft__cleanup_enter(&rest);
    abort_and_wait(q);
    weft__locals_now()->cleanups = rest.below;
    finish(q);
}

/* ---- spawning ---- */

int weft__join_queue_spawn_at(weft_join_queue *q, enum weft_member_kind kind,
                              const weft_spawn_options *options, weft_task_fn fn, void *arg,
                              weft_abort_handle **ret_abort, const weft_site *site)
{
    if (q == NULL)
        return weft__misuse_at("weft_join_queue_spawn", -EINVAL, "the queue is NULL", site);
    struct weft__core *core;
    int rc = weft__member_find_core("weft_join_queue_spawn", kind, options, fn, arg, site, &core);
    if (rc == 0)
        rc = reserve_one(q);
    if (rc < 0)
        return rc;
    weft_task *task;
    rc = weft__task_spawn(core, weft__member_task_kind(kind), options, fn, arg, &task, site);
    if (rc < 0)
        return weft__spawn_result(rc);
    if (ret_abort)
        *ret_abort = weft_task_abort_handle(task);
    *slot(q, q->count++) = task;
    return 0;
}

size_t weft_join_queue_len(weft_join_queue *q)
{
    return weft__is_null("weft_join_queue_len", q, WEFT__CALLER) ? 0 : q->count;
}

/* ---- joining the next ---- */

static int try_next(weft_join_queue *q, weft_outcome *ret_outcome)
{
    if (q->count == 0)
        return -ENOENT;
    int rc = weft_try_join(*slot(q, 0), ret_outcome);
    if (rc == 0)
        (void)pop(q); /* spent */
    return rc;
}

int weft_join_queue_try_join_next(weft_join_queue *q, weft_outcome *ret_outcome)
{
    return q ? try_next(q, ret_outcome) : null_queue("weft_join_queue_try_join_next", WEFT__CALLER);
}

static int next_poll(weft_future *f, weft_waker *waker)
{
    weft_join_queue_join_next_future *n =
        WEFT__CONTAINER_OF(f, weft_join_queue_join_next_future, future);
    if (n->queue->count == 0)
        return -ENOENT;
    weft_join_future_init(&n->first, *slot(n->queue, 0));
    int rc = n->first.future.ops->poll(&n->first.future, waker);
    return rc < 0 ? rc : try_next(n->queue, n->ret_outcome);
}

static void next_cancel(weft_future *f)
{
    weft_join_queue_join_next_future *n =
        WEFT__CONTAINER_OF(f, weft_join_queue_join_next_future, future);
    if (n->first.future.ops != NULL) /* it was polled */
        n->first.future.ops->cancel(&n->first.future);
}

static const weft_future_ops next_ops = {next_poll, next_cancel, "join_queue join_next"};

void weft_join_queue_join_next_future_init(weft_join_queue_join_next_future *n, weft_join_queue *q,
                                           weft_outcome *ret_outcome)
{
    n->future.ops = q ? &next_ops : &weft__future_invalid;
    if (q == NULL)
        (void)null_queue("weft_join_queue_join_next_future_init",
                         WEFT__CALLER); /* said by the poll */
    n->queue = q;
    n->ret_outcome = ret_outcome;
    n->first.future.ops = NULL;
}

static int start_next(weft_case *c)
{
    weft_join_queue_join_next_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr);
    return 0;
}

weft_case weft_case_join_queue_join_next(weft_join_queue *q, weft_outcome *ret_outcome)
{
    return weft_case_make(start_next, q, ret_outcome);
}

int weft_join_queue_join_next(weft_join_queue *q, weft_outcome *ret_outcome)
{
    if (q == NULL)
        return null_queue("weft_join_queue_join_next", WEFT__CALLER);
    int rc = weft__wait_begin("weft_join_queue_join_next", WEFT__CALLER);
    if (rc == 0)
        rc = try_next(q, ret_outcome);
    if (rc != -EAGAIN)
        return rc;
    weft_join_queue_join_next_future n;
    weft_join_queue_join_next_future_init(&n, q, ret_outcome);
    return weft__wait_for(&n.future);
}

int weft_join_queue_blocking_join_next(weft_join_queue *q, weft_outcome *ret_outcome)
{
    if (q == NULL)
        return null_queue("weft_join_queue_blocking_join_next", WEFT__CALLER);
    weft_join_queue_join_next_future n;
    weft_join_queue_join_next_future_init(&n, q, ret_outcome);
    return weft__wait_blocking("weft_join_queue_blocking_join_next", &n.future, WEFT__CALLER);
}

/* ---- all of them ---- */

static void free_outcome(void *o)
{
    weft_outcome_fini(o);
}

/* The i-th has failed: ends the others, and raises its panic, or one in its place. */
static WEFT__NORETURN void fail(weft_join_queue *q, size_t i)
{
    weft_task *failed = *slot(q, i);
    *slot(q, i) = *slot(q, 0); /* their order does not matter any more */
    (void)pop(q);
    weft_outcome o = {.kind = WEFT_OUTCOME_CANCELLED};
    WEFT_DEFER(free_outcome, &o); /* when the wait is unwound */
    int rc = weft_try_join(failed, &o);
    WEFT_DEBUG_ASSERT(rc == 0); /* it has ended */
    (void)rc;
    abort_and_wait(q);
    detach_all(q);
    weft__member_raise("weft_join_queue_join_all", &o);
}

/* All are waited for before the first is taken, so an abort of the caller loses no value. */
static int wait_for_all(weft_join_queue *q)
{
    for (size_t i = 0; i < q->count; i++) {
        weft_join_future j;
        weft_join_future_init(&j, *slot(q, i));
        int rc = weft__wait_for(&j.future);
        if (rc < 0)
            return rc;
        if (weft__task_address(*slot(q, i))->outcome != WEFT_OUTCOME_VALUE)
            fail(q, i);
    }
    return 0;
}

static bool has_caller(const weft_join_queue *q)
{
    const struct weft__task *self = weft__task_current();
    for (size_t i = 0; i < q->count; i++) {
        const struct weft__task *t = weft__task_address(*slot(q, i));
        if (t == self || weft__task_stands_here(t))
            return true;
    }
    return false;
}

long weft_join_queue_join_all(weft_join_queue *q, void **ret_values, size_t values_max)
{
    if (q == NULL)
        return null_queue("weft_join_queue_join_all", WEFT__CALLER);
    int rc = weft__wait_begin("weft_join_queue_join_all", WEFT__CALLER);
    if (rc == 0 && weft__task_current() == NULL)
        rc = weft__misuse("weft_join_queue_join_all", -EPERM,
                          "a thread that runs no task cannot panic", WEFT__CALLER);
    if (rc == 0 && has_caller(q))
        rc = weft__misuse("weft_join_queue_join_all", -EDEADLK, "a task of the queue joins itself",
                          WEFT__CALLER);
    if (rc == 0 && ret_values && q->count > values_max)
        rc = -ENOSPC;
    if (rc == 0)
        rc = wait_for_all(q);
    if (rc < 0)
        return rc;
    long count = 0;
    for (; q->count > 0; count++) {
        weft_outcome o;
        rc = weft_try_join(pop(q), ret_values ? &o : NULL);
        WEFT_DEBUG_ASSERT(rc == 0); /* it has ended */
        if (ret_values)
            ret_values[count] = o.value;
    }
    return count;
}

int weft_join_queue_shutdown(weft_join_queue *q)
{
    if (q == NULL)
        return null_queue("weft_join_queue_shutdown", WEFT__CALLER);
    abort_all(q);
    int rc = weft__wait_begin("weft_join_queue_shutdown", WEFT__CALLER);
    while (rc == 0 && q->count > 0) {
        weft_join_future j;
        weft_join_future_init(&j, *slot(q, 0));
        rc = weft__wait_for(&j.future);
        if (rc == 0)
            weft_task_detach(pop(q)); /* it has ended */
    }
    return rc;
}
