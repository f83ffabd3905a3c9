/*
 * Waiting on a plain thread, for the blocking_ forms: in a runtime or in none.
 *
 * Every waker is a task in a slab, since it may be used after the wait has ended. A thread outside
 * all runtimes takes its task from the slab of a core that is no runtime: it only lends tasks to
 * threads, is made at the first such wait, and stays.
 */
#include "task/ending.h"
#include "task/slab.h"
#include "task/spawn.h"
#include "task/state.h"
#include "task/task.h"

#include <weft/panic.h>

#include <errno.h>

static struct weft__core outside; /* ops are never asked for: a thread's task is woken by futex */
static struct weft__lock outside_lock;
static weft__aptr outside_slab; /* written under outside_lock, once */

static void never_freed(struct weft__core *core)
{
    (void)core;
}

static struct weft__core *outside_core(void)
{
    /* acquire pairs with the release below: the core is readable */
    if (WEFT__LIKELY(weft__aptr_load_acquire(&outside_slab) != NULL))
        return &outside;
    weft__lock_acquire(&outside_lock);
    if (weft__aptr_load_relaxed(&outside_slab) == NULL &&
        weft__slab_create(&outside, never_freed, &outside.slab) == 0) {
        weft__a64_store_relaxed(&outside.refs, 1);
        outside.process = weft__sys_process();
        weft__aptr_store_release(&outside_slab, outside.slab);
    }
    weft__lock_release(&outside_lock);
    return weft__aptr_load_relaxed(&outside_slab) ? &outside : NULL;
}

void weft__outside_forget(void)
{
    weft__lock_init(&outside_lock);
    weft__aptr_store_relaxed(&outside_slab, NULL); /* made anew; what the parent had stays */
}

static void give_back(void *task)
{
    weft__thread_task_destroy(task);
}

/* The task is made for this one wait: nothing would give it back when the thread ends. A panic out
 * of f gives it back as well. */
static int wait_outside(struct weft__ctx *c, weft_future *f)
{
    struct weft__core *core = outside_core();
    struct weft__task *t = core ? weft__thread_task_create(core, WEFT__TASK_THREAD) : NULL;
    if (t == NULL)
        return -ENOMEM;
    t->locals = &c->locals;
    WEFT_DEFER(give_back, t);
    int rc;
    while ((rc = f->ops->poll(f, weft__task_waker(t))) == WEFT_PENDING) {
        weft__task_park_thread(t);
        weft__task_clear_notified(t);
    }
    return rc;
}

int weft__blocking_begin(const char *call, const void *caller)
{
    struct weft__ctx *c = weft__ctx_now();
    if (c == NULL)
        return 0;
    if (c->in_hook)
        return weft__misuse(call, -EPERM, "a hook must not wait", caller);
    if (c->current && c->current->kind != WEFT__TASK_BLOCKING)
        return weft__misuse(call, -EPERM,
                            "the caller is a task: it would block its thread; use the form without "
                            "\"blocking\"",
                            caller);
    return 0;
}

int weft__wait_blocking(const char *call, weft_future *f, const void *caller)
{
    int may = weft__blocking_begin(call, caller);
    if (may < 0)
        return may;
    struct weft__ctx *c = weft__ctx_get();
    if (c->core == NULL)
        return wait_outside(c, f);
    /* In a runtime: deadlines around the call count. */
    int rc = weft__wait_begin(call, caller);
    return rc < 0 ? rc : weft__wait_for(f);
}
