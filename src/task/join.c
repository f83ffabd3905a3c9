#include "task/await.h"
#include "task/panic.h"
#include "task/state.h"

#include <weft/select.h>
#include <weft/task.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct weft__task *weft__task_of_handle(const weft_task *handle)
{
    struct weft__task *t = weft__task_address(handle);
    if ((uintptr_t)t < 4096)
        return NULL;
    /* mutation: finds out spent handles, as well as that can be. What is read of a task whose
     * handle one has was written before one had it; the outcome is looked for by another load. */
    uint64_t s = weft__a64_load_acquire(&t->state);
    if ((s & WEFT__TASK_REFS_MASK) == 0 || !(s & WEFT__TASK_HANDLE) ||
        weft__task_handle(t) != handle)
        return NULL;
    return t;
}

static int spent(const char *call, const weft_task *handle, const void *caller)
{
    return weft__misuse(call, -EINVAL,
                        handle ? "the handle was joined or detached before" : "the handle is NULL",
                        caller);
}

/* It would wait for ever. */
static WEFT__NOINLINE int joins_itself(const void *caller)
{
    return weft__misuse("weft_join", -EDEADLK, "a task joins itself", caller);
}

/* In a forked child, where the task does not go on. */
static WEFT__COLD int never_ends(void)
{
    return weft__misuse("weft_join", -EPERM, "this is a forked child, and the task its parent's",
                        NULL);
}

/* ---- the wait ---- */

static void join_cancel(weft_future *f)
{
    weft_join_future *j = WEFT__CONTAINER_OF(f, weft_join_future, future);
    if (!j->is_pending)
        return; /* never polled: who waits for the task is another one */
    struct weft__task *t = weft__task_of_handle(j->task);
    if (t)
        weft__task_clear_joiner(t);
    j->is_pending = false;
}

static int join_poll(weft_future *f, weft_waker *waker)
{
    weft_join_future *j = WEFT__CONTAINER_OF(f, weft_join_future, future);
    struct weft__task *t = weft__task_of_handle(j->task);
    if (t == NULL)
        return -EINVAL;
    if (WEFT__UNLIKELY(t == weft__task_of_waker(waker) || weft__task_stands_here(t)))
        return joins_itself(NULL);
    j->is_pending = weft__task_set_joiner(t, waker);
    if (!j->is_pending)
        return 0;
    if (WEFT__LIKELY(!weft__core_is_ancestral(t->core)))
        return WEFT_PENDING;
    join_cancel(f);
    return never_ends();
}

static const weft_future_ops join_ops = {join_poll, join_cancel, "join"};

/* As weft__wait_for() a join future of the handle, which is that of t. */
static inline int wait_until_done(weft_task *handle, struct weft__task *t, struct weft__task *self)
{
    if (WEFT__UNLIKELY(weft__sys_is_forked_child() || weft__core_is_ancestral(t->core)))
        return never_ends();
    while (weft__task_set_joiner(t, weft__task_waker(self))) {
        int why = weft__wait_pending(self, &join_ops);
        bool is_ours =
            weft__task_of_handle(handle) != NULL; /* not joined, nor detached, by others */
        if (WEFT__UNLIKELY(why != 0)) {
            if (is_ours)
                weft__task_clear_joiner(t);
            return weft__wait_stopped(self, why);
        }
        if (WEFT__UNLIKELY(!is_ours))
            return -EINVAL;
    }
    return 0;
}

void weft_join_future_init(weft_join_future *f, weft_task *task)
{
    f->future.ops = &join_ops;
    f->task = task;
    f->is_pending = false;
}

static int start_join(weft_case *c)
{
    weft_join_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_join(weft_task *task)
{
    return weft_case_make(start_join, task, NULL);
}

/* ---- taking the outcome ---- */

static void take(struct weft__task *t, weft_outcome *ret)
{
    if (ret) {
        memset(ret, 0, sizeof *ret);
        ret->task_id = weft__a64_load_relaxed(&t->id);
        ret->kind = (enum weft_outcome_kind)t->outcome;
        if (ret->kind == WEFT_OUTCOME_PANICKED)
            ret->panic = t->result.panic;
        else if (ret->kind == WEFT_OUTCOME_VALUE)
            ret->value = t->result.value;
        t->outcome = WEFT__OUTCOME_TAKEN;
    } else {
        weft__outcome_drop(t);
    }
    weft__task_drop_handle(t);
}

int weft_join(weft_task *task, weft_outcome *ret_outcome)
{
    struct weft__task *t = weft__task_of_handle(task);
    if (t == NULL)
        return spent("weft_join", task, WEFT__CALLER);
    struct weft__task *self = weft__task_current();
    if (t == self)
        return joins_itself(WEFT__CALLER);
    int rc = weft__wait_begin_of(self, "weft_join", WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (!(weft__a64_load_acquire(&t->state) & WEFT__TASK_DONE)) {
        if (weft__task_stands_here(t))
            return joins_itself(WEFT__CALLER);
        rc = wait_until_done(task, t, self ? self : weft__wait_task());
        if (rc < 0)
            return rc;
    }
    take(t, ret_outcome);
    return 0;
}

int weft_try_join(weft_task *task, weft_outcome *ret_outcome)
{
    struct weft__task *t = weft__task_of_handle(task);
    if (t == NULL)
        return spent("weft_try_join", task, WEFT__CALLER);
    if (!(weft__a64_load_acquire(&t->state) & WEFT__TASK_DONE))
        return -EAGAIN;
    take(t, ret_outcome);
    return 0;
}

void weft_task_detach(weft_task *task)
{
    if (task == NULL)
        return;
    struct weft__task *t = weft__task_of_handle(task);
    if (t == NULL) {
        (void)spent("weft_task_detach", task, WEFT__CALLER);
        return;
    }
    if (!weft__task_detach(t))
        return;
    if (t->outcome == WEFT_OUTCOME_PANICKED)
        weft__panic_unhandled(t->core, t->result.panic, "nobody joins");
    weft__outcome_drop(t);
    weft__task_drop_handle(t);
}

static void abort_detach(const char *call, weft_task *task, const void *caller)
{
    if (task == NULL)
        return;
    if (weft__task_of_handle(task) == NULL) {
        (void)spent(call, task, caller);
        return;
    }
    (void)weft_abort(task); /* the handle is not spent */
    weft_task_detach(task);
}

void weft_task_abort_detach(weft_task *task)
{
    abort_detach("weft_task_abort_detach", task, WEFT__CALLER);
}

void weft_task_guard_release(weft_task_guard *g)
{
    if (g == NULL)
        return;
    weft_task *task = g->task;
    g->task = NULL;
    abort_detach("weft_task_guard_release", task, WEFT__CALLER);
}

void weft__task_guard_at_end(void *guard)
{
    weft_task_guard_release(guard);
}

weft_task *weft_task_guard_disarm(weft_task_guard *g)
{
    if (weft__is_null("weft_task_guard_disarm", g, WEFT__CALLER))
        return NULL;
    weft_task *task = g->task;
    g->task = NULL;
    return task;
}

/* ---- outcomes ---- */

void weft_outcome_fini(weft_outcome *o)
{
    if (o == NULL)
        return;
    weft_panic_free(o->panic);
    o->panic = NULL;
}

int weft_outcome_error(const weft_outcome *o)
{
    if (o == NULL)
        return weft__misuse("weft_outcome_error", -EINVAL, "the outcome is NULL", WEFT__CALLER);
    switch (o->kind) {
    case WEFT_OUTCOME_VALUE:
        return 0;
    case WEFT_OUTCOME_PANICKED:
        return -EOWNERDEAD;
    case WEFT_OUTCOME_CANCELLED:
        return -ECANCELED;
    }
    return -EINVAL;
}

int weft_outcome_describe(const weft_outcome *o, char *buf, size_t cap)
{
    if (o == NULL)
        return snprintf(buf, cap, "no outcome");
    unsigned long long id = o->task_id;
    switch (o->kind) {
    case WEFT_OUTCOME_VALUE:
        return snprintf(buf, cap, "task %llu returned a value", id);
    case WEFT_OUTCOME_CANCELLED:
        return snprintf(buf, cap, "task %llu was cancelled", id);
    case WEFT_OUTCOME_PANICKED:
        if (weft_panic_message(o->panic)[0])
            return snprintf(buf, cap, "task %llu panicked with message \"%s\"", id,
                            weft_panic_message(o->panic));
        return snprintf(buf, cap, "task %llu panicked", id);
    }
    return snprintf(buf, cap, "task %llu: no outcome", id);
}

/* ---- abort ---- */

static void abort_task(struct weft__task *t)
{
    if (WEFT__UNLIKELY(weft__core_is_ancestral(t->core)))
        return; /* a guard in a forked child: its parent's queues are nobody's, and may be locked */
    if (weft__task_set_aborted(t, WEFT__TASK_ABORT))
        weft__task_schedule(t);
}

int weft_abort(weft_task *task)
{
    struct weft__task *t = weft__task_of_handle(task);
    if (t == NULL)
        return spent("weft_abort", task, WEFT__CALLER);
    abort_task(t);
    return 0;
}

weft_abort_handle *weft_task_abort_handle(weft_task *task)
{
    struct weft__task *t = weft__task_of_handle(task);
    if (t == NULL) {
        (void)spent("weft_task_abort_handle", task, WEFT__CALLER);
        return NULL;
    }
    weft__task_ref(t);
    return (weft_abort_handle *)t;
}

static struct weft__task *task_of_abort_handle(const weft_abort_handle *h)
{
    return (struct weft__task *)(uintptr_t)h;
}

weft_abort_handle *weft_abort_handle_ref(weft_abort_handle *h)
{
    if (h)
        weft__task_ref(task_of_abort_handle(h));
    return h;
}

void weft_abort_handle_unref(weft_abort_handle *h)
{
    if (h)
        weft__task_unref(task_of_abort_handle(h));
}

void weft_abort_handle_abort(weft_abort_handle *h)
{
    if (h)
        abort_task(task_of_abort_handle(h));
}

uint64_t weft_abort_handle_id(const weft_abort_handle *h)
{
    return h ? weft__a64_load_relaxed(&task_of_abort_handle(h)->id) : 0;
}

bool weft_abort_handle_is_finished(const weft_abort_handle *h)
{
    return h && (weft__a64_load_acquire(&task_of_abort_handle(h)->state) & WEFT__TASK_DONE);
}

/* ---- what a handle knows ---- */

bool weft_task_is_finished(const weft_task *task)
{
    struct weft__task *t = weft__task_of_handle(task);
    return t && (weft__a64_load_acquire(&t->state) & WEFT__TASK_DONE);
}

uint64_t weft_task_id(const weft_task *task)
{
    struct weft__task *t = weft__task_of_handle(task);
    return t ? weft__a64_load_relaxed(&t->id) : 0;
}

const char *weft_task_name(const weft_task *task)
{
    struct weft__task *t = weft__task_of_handle(task);
    return t && t->cold ? t->cold->name : "";
}

const weft_site *weft_task_site(const weft_task *task)
{
    struct weft__task *t = weft__task_of_handle(task);
    return t ? t->site : NULL;
}
