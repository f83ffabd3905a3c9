/*
 * Threads that run a body of their own in a runtime: weft_block_on(), weft_run(),
 * weft_block_in_place().
 */
#include "runtime/runtime_internal.h"

#include "sched/halt.h"
#include "task/ending.h"
#include "task/panic.h"
#include "task/spawn.h"
#include "task/task_local.h"

#include <errno.h>

/* ---- blocking on a body ---- */

struct body {
    weft_task_fn fn;
    void *arg;
    void *value;
};

static void call_body(void *arg)
{
    struct body *b = arg;
    b->value = b->fn(b->arg);
}

static weft_outcome outcome_of(weft_panic_info *info, bool was_aborted, void *value)
{
    return (weft_outcome){.kind = info          ? WEFT_OUTCOME_PANICKED
                                  : was_aborted ? WEFT_OUTCOME_CANCELLED
                                                : WEFT_OUTCOME_VALUE,
                          .value = info || was_aborted ? NULL : value,
                          .panic = info};
}

/* A body that was cancelled because of a panic that nobody joins ends by a panic itself: whoever
 * blocks on the runtime shall not take that for an ordinary end. */
static void say_why_cancelled(const struct weft__core *core, weft_outcome *o)
{
    static const weft_site site = {"weft_block_on", "weft_block_on", 0};
    /* acquire pairs with the release in unhandled_panic() */
    if (o->kind != WEFT_OUTCOME_CANCELLED || !weft__a32_load_acquire(&core->is_panic_shut))
        return;
    o->kind = WEFT_OUTCOME_PANICKED;
    o->panic = weft__panic_create(
        &site, "runtime \"%s\" was shut down because a task panicked and nobody joins it",
        core->name);
}

static void hand_over(weft_outcome *ret, weft_outcome *o)
{
    if (ret) {
        *ret = *o;
        return;
    }
    if (o->panic)
        weft__panic_report(o->panic, "nobody looks at the outcome");
    weft_outcome_fini(o);
}

void weft__outcome_give(weft_outcome *ret, weft_panic_info *info, bool was_aborted, void *value)
{
    weft_outcome o = outcome_of(info, was_aborted, value);
    hand_over(ret, &o);
}

/* multi_thread, and whoever does not drive: the body runs on the calling thread, which waits by
 * parking. */
static int block_on_thread(struct weft_runtime *rt, weft_task_fn fn, void *arg, weft_outcome *ret)
{
    struct weft__core *core = &rt->sched.core;
    struct weft__ctx *c = weft__ctx_get();
    struct weft__task *t = weft__thread_task_create(core, WEFT__TASK_BODY);
    if (t == NULL)
        return -ENOMEM;
    /* Bodies are not counted: who stops the runtime changes the phase, walks over the tasks once,
     * and may be done. A read-modify-write, as his: if it comes first he synchronises with it, and
     * finds t; or we find what he has stored. */
    if (weft__a32_add_release(&core->phase, 0) != WEFT__PHASE_RUNNING) {
        weft__thread_task_destroy(t);
        return -ESHUTDOWN;
    }
    struct weft__inherited *inherited;
    int rc = weft__inherit(&inherited);
    if (rc < 0) {
        weft__thread_task_destroy(t);
        return rc;
    }
    struct weft__locals locals = {.bindings = weft__inherited_top(inherited)};
    struct body body = {.fn = fn, .arg = arg};
    struct weft__core *core_before = c->core;
    weft_enter_guard *guards = c->guards;
    t->locals = &locals;
    c->core = core;
    c->current = t;
    weft_panic_info *info = weft__call_contained(call_body, &body);
    weft__task_body_returned(t);
    weft__locals_end(&locals);
    locals.bindings = NULL;
    weft__inherited_drop(inherited);
    c->current = NULL;
    if (c->guards == guards) /* otherwise the body has left what the thread was in */
        c->core = core_before;
    t->locals = NULL;
    weft__thread_task_destroy(t);
    *ret = outcome_of(info, locals.abort_seen, body.value);
    return 0;
}

/* current_thread: the body is a fiber, so that it can be interleaved with the tasks. */

static bool root_is_done(void *arg)
{
    return weft_task_is_finished(*(weft_task **)arg);
}

static int drive_root(struct weft_runtime *rt, weft_task *root, struct weft__task *me,
                      weft_outcome *ret)
{
    weft_join_future done;
    weft_join_future_init(&done, root);
    /* Woken by its end even when another thread drives. */
    if (done.future.ops->poll(&done.future, weft__task_waker(me)) == WEFT_PENDING)
        (void)weft__runtime_drive(rt, root_is_done, &root, WEFT_NEVER, me);
    return weft_try_join(root, ret);
}

static int block_on_fiber(struct weft_runtime *rt, weft_task_fn fn, void *arg, weft_outcome *ret)
{
    static const weft_site site = {"weft_block_on", "weft_block_on", 0};
    /* First what the caller waits as: once the root is there, another thread may run it. */
    struct weft__task *me = weft__thread_task_create(&rt->sched.core, WEFT__TASK_THREAD);
    if (me == NULL)
        return -ENOMEM;
    weft_task *root;
    int rc = weft__task_spawn_root(&rt->sched.core, fn, arg, &root, &site);
    if (rc == 0)
        rc = drive_root(rt, root, me, ret);
    weft__thread_task_destroy(me);
    return rc;
}

static int block_on(const char *call, struct weft_runtime *rt, weft_task_fn body, void *arg,
                    weft_outcome *ret_outcome, bool drives, const void *caller)
{
    if (rt == NULL || body == NULL)
        return weft__misuse(call, -EINVAL, "the runtime or the body is NULL", caller);
    if (weft__core_is_ancestral(&rt->sched.core))
        return weft__misuse(call, -EPERM, "this is a forked child; start a runtime of its own",
                            caller);
    if (!weft__may_block())
        return weft__misuse(
            call, -EPERM,
            "the caller is a task, a body of weft_block_on() or a hook already; spawn "
            "and join instead, or, in a task of a multi_thread runtime, use weft_block_in_place()",
            caller);
    uint64_t home = rt->sched.core.home;
    if (drives && home != 0 && home != weft__thread_here())
        return weft__misuse(call, -EPERM, "a local runtime is driven by its own thread alone",
                            caller);
    if (weft__a32_load_acquire(&rt->sched.core.phase) != WEFT__PHASE_RUNNING)
        return -ESHUTDOWN;
    weft__core_ref(&rt->sched.core);
    /* A thread that pthread_cancel() ended in here would leave the runtime undriven. */
    int held = weft__sys_cancel_hold();
    weft__sys_thread_watch_end();
    weft__sched_resume(&rt->sched); /* in a destructor of a static object */
    weft_outcome o;
    int rc = drives && !rt->sched.is_multi ? block_on_fiber(rt, body, arg, &o)
                                           : block_on_thread(rt, body, arg, &o);
    if (rc == 0) {
        say_why_cancelled(&rt->sched.core, &o);
        hand_over(ret_outcome, &o);
    }
    weft__core_unref(&rt->sched.core);
    weft__sys_cancel_restore(held);
    return weft__spawn_result(rc);
}

int weft_block_on(weft_runtime *rt, weft_task_fn body, void *arg, weft_outcome *ret_outcome)
{
    return block_on("weft_block_on", rt, body, arg, ret_outcome, true, WEFT__CALLER);
}

int weft_handle_block_on(weft_handle *h, weft_task_fn body, void *arg, weft_outcome *ret_outcome)
{
    return block_on("weft_handle_block_on", (struct weft_runtime *)h, body, arg, ret_outcome, false,
                    WEFT__CALLER);
}

/* ---- weft_run ---- */

struct main_call {
    int (*fn)(void *arg);
    void *arg;
};

static void *main_body(void *arg)
{
    struct main_call *m = arg;
    return (void *)(intptr_t)m->fn(m->arg);
}

static int run_main(const weft_config *config, int (*main_fn)(void *arg), void *arg)
{
    weft_runtime *rt;
    int rc = weft_runtime_create(config, &rt);
    if (rc < 0)
        return rc;
    struct main_call call = {main_fn, arg};
    weft_task *task;
    static const weft_site site = {"weft_run", "weft_run", 0};
    static const weft_spawn_options options = {.name = "main"};
    rc = weft__task_spawn(&rt->sched.core, WEFT__TASK_FIBER, &options, main_body, &call, &task,
                          &site);
    if (rc < 0) {
        (void)weft_runtime_destroy(rt);
        return rc;
    }
    /* After weft_stop() the tasks get the grace of a shutdown. */
    while (!weft__runtime_wait_quiescent(rt, weft__sys_now_ns() + 100 * WEFT_MS) &&
           weft__a32_load_acquire(&rt->sched.core.phase) == WEFT__PHASE_RUNNING)
        continue;
    (void)weft__runtime_drain(rt, WEFT_NEVER);
    weft_outcome o;
    rc = weft_try_join(task, &o);
    if (rc == 0) {
        say_why_cancelled(&rt->sched.core, &o);
        rc = weft_outcome_error(&o);
        if (rc == 0)
            rc = (int)(intptr_t)o.value;
        if (o.panic)
            weft__panic_report(o.panic, "in the main task");
        weft_outcome_fini(&o);
    }
    weft__runtime_teardown(rt);
    return rc;
}

int weft_run_with(const weft_config *config, int (*main_fn)(void *arg), void *arg)
{
    if (main_fn == NULL)
        return weft__misuse("weft_run", -EINVAL, "main_fn is NULL", WEFT__CALLER);
    int rc = weft__runtime_prepare("weft_run", WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (!weft__may_block())
        return weft__misuse("weft_run", -EPERM, "the caller is a task already", WEFT__CALLER);
    int held = weft__sys_cancel_hold(); /* as in weft_block_on() */
    weft__sys_thread_watch_end();
    rc = run_main(config, main_fn, arg);
    weft__sys_cancel_restore(held);
    return weft__spawn_result(rc);
}

int weft_run(int (*main_fn)(void *arg), void *arg)
{
    return weft_run_with(NULL, main_fn, arg);
}

/* ---- block in place ---- */

int weft_block_in_place(weft_task_fn fn, void *arg, void **ret_value)
{
    if (fn == NULL)
        return weft__misuse("weft_block_in_place", -EINVAL, "fn is NULL", WEFT__CALLER);
    struct weft__ctx *c = weft__ctx_get();
    struct weft__worker *w = c->worker;
    struct weft__task *t = c->current;
    if (t && t->locals && t->locals->drive)
        return weft__misuse("weft_block_in_place", -EPERM,
                            "the caller drives a local set, whose tasks cannot run elsewhere",
                            WEFT__CALLER);
    if (w == NULL) {
        void *plain = fn(arg);
        if (ret_value)
            *ret_value = plain;
        return 0;
    }
    struct weft__sched *s = w->sched;
    if (weft__core_is_ancestral(&s->core)) /* another thread would run the parent's tasks */
        return weft__misuse("weft_block_in_place", -EPERM, "this is a forked child", WEFT__CALLER);
    if (!s->is_multi || t == NULL || t->kind != WEFT__TASK_FIBER)
        return weft__misuse(
            "weft_block_in_place", -EPERM,
            "a current_thread runtime, a local set, a hook or a polled future cannot block in "
            "place",
            WEFT__CALLER);
    /* The thread keeps the worker's name only: its queues go to the others, and a substitute takes
     * its turn. */
    weft__worker_spill_all(w);
    weft__a32_store_seq_cst(&w->in_place, 1);
    weft__a32_add_seq_cst(&s->in_place, 1);
    weft__sched_add_worker(s);
    struct weft__task *outer = c->in_place_task;
    struct weft__locals outer_locals = c->locals;
    weft_enter_guard *guards = c->guards;
    struct weft__core *local = c->local;
    struct weft_task_local_binding *bindings = weft__locals_now()->bindings;
    c->in_place_task = t;
    c->locals = (struct weft__locals){.bindings = bindings};
    c->current = NULL;
    c->worker = NULL;
    c->slab_cache = NULL;
    c->cache_core = NULL;
    struct body body = {.fn = fn, .arg = arg};
    weft_panic_info *info = weft__call_contained(call_body, &body);
    weft__thread_task_drop(c);
    /* One that fn forgot may lie in a frame that is gone: it is not looked at. */
    if (WEFT__UNLIKELY(c->guards != guards))
        (void)weft__misuse("weft_block_in_place", -EINVAL,
                           "fn has not left the runtime that it entered, which stays referenced",
                           WEFT__CALLER);
    c->guards = guards;
    c->local = local;
    c->in_place_task = outer;
    c->locals = outer_locals;
    c->core = &s->core;
    c->current = t;
    c->worker = w;
    c->rng = &w->rng;
    c->slab_cache = &w->tasks;
    c->cache_core = &s->core;
    weft__a32_sub_seq_cst(&s->in_place, 1);
    weft__a32_store_seq_cst(&w->in_place, 0);
    weft__sched_wake_extras(s);
    if (info)
        weft_panic_resume(info);
    if (ret_value)
        *ret_value = body.value;
    return 0;
}
