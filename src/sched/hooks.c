/*
 * Hooks: what the configuration asks to be called, and what a panic in one of them does.
 *
 * A hook runs outside any task, on whatever stack the thread stands on, and must not wait. Those
 * around runs are called by the worker's loop, on the thread's own stack: a fiber that leaves may
 * have little of its own left, which would be paid by a task that has nothing to do with the hook.
 */
#include "sched/sched.h"

#include "task/ending.h"
#include "task/panic.h"
#include "task/state.h"

struct call {
    void (*thread_hook)(void *arg);
    void (*task_hook)(const weft_task_meta *task, void *arg);
    const weft_task_meta *meta;
    void *arg;
};

static void call_inside(void *arg)
{
    const struct call *c = arg;
    if (c->thread_hook)
        c->thread_hook(c->arg);
    else
        c->task_hook(c->meta, c->arg);
}

/* Never suspends, so the thread stays the same. */
static void call_hook(struct weft__core *core, struct call *call)
{
    struct weft__ctx *c = weft__ctx_get();
    struct weft__task *current = c->current;
    struct weft__core *core_before = c->core;
    struct weft__core *local = c->local;
    weft_enter_guard *guards = c->guards, *guards_outside = c->hook_guards;
    bool was_in_hook = c->in_hook;
    c->hook_guards = guards;
    c->current = NULL;
    c->core = core;
    c->in_hook = true;
    weft_panic_info *info = weft__call_contained(call_inside, call);
    if (WEFT__UNLIKELY(weft__core_is_ancestral(core)))
        weft__end_child(NULL);
    /* One that it forgot may lie in a frame that is gone: it is not looked at. */
    if (WEFT__UNLIKELY(c->guards != guards))
        weft__log(WEFT_LOG_ERROR, "a hook has not left the runtime that it entered, which stays "
                                  "referenced");
    c->guards = guards;
    c->local = local;
    c->hook_guards = guards_outside;
    c->current = current;
    c->core = core_before;
    c->in_hook = was_in_hook;
    if (info == NULL)
        return;
    weft__panic_unhandled(core, info, "in a hook");
    weft_panic_free(info);
}

static void call_task_hook(struct weft__core *core,
                           void (*hook)(const weft_task_meta *task, void *arg),
                           const weft_task_meta *meta)
{
    struct call call = {.task_hook = hook, .meta = meta, .arg = weft__sched_of(core)->hooks.arg};
    if (hook)
        call_hook(core, &call);
}

static weft_task_meta meta_of(const struct weft__task *t)
{
    return (weft_task_meta){.id = weft__a64_load_relaxed(&t->id),
                            .name = t->cold ? t->cold->name : "",
                            .site = t->site,
                            .latency_ns = WEFT_NEVER};
}

/* The body of weft_block_on() is a fiber on a current_thread runtime, but no task. */
static bool is_hooked(const struct weft__task *t)
{
    return weft__a64_load_relaxed(&t->id) != 0;
}

void weft__worker_hook(struct weft__worker *w, void (*hook)(void *arg))
{
    struct call call = {.thread_hook = hook, .arg = w->sched->hooks.arg};
    if (hook)
        call_hook(&w->sched->core, &call);
}

void weft__worker_run_begins(struct weft__worker *w, struct weft__task *t)
{
    if (w->sched->is_seeded) {
        w->serial = t->cold->serial;
        weft__seeded_trace(w->sched, w->serial, WEFT__TRACE_RUNS);
    }
    if (!is_hooked(t))
        return;
    /* Until the run is over: name and site are read then, when the task may have ended. */
    weft__task_ref(t);
    w->watched = t;
    w->watched_meta = meta_of(t);
    if (weft__a32_load_relaxed(&t->route) & WEFT__ROUTE_STAMPED) {
        uint64_t now_ns = weft__sys_now_ns(), ready_ns = t->cold->ready_ns;
        w->watched_meta.latency_ns = now_ns > ready_ns ? now_ns - ready_ns : 0;
    }
    call_task_hook(&w->sched->core, w->sched->hooks.task_run_begin, &w->watched_meta);
}

void weft__worker_run_ended(struct weft__worker *w)
{
    struct weft__task *t = w->watched;
    if (t == NULL)
        return;
    w->watched = NULL;
    call_task_hook(&w->sched->core, w->sched->hooks.task_run_end, &w->watched_meta);
    weft__task_unref(t);
}

void weft__sched_task_spawned(struct weft__task *t)
{
    struct weft__sched *s = weft__sched_of(t->core);
    const struct weft__ctx *c = weft__ctx_now();
    if (s->is_seeded) {
        t->cold->serial = weft__a64_add_relaxed(&s->serial, 1) + 1;
        if (c && c->worker && c->worker->sched == s)
            weft__seeded_trace(s, t->cold->serial, WEFT__TRACE_SPAWNED);
    }
    weft_task_meta meta = meta_of(t);
    if (is_hooked(t))
        call_task_hook(t->core, s->hooks.task_spawn, &meta);
}

void weft__sched_task_ends(struct weft__task *t)
{
    if (!is_hooked(t))
        return;
    /* Its last run ends here, so that who joins it finds that all its hooks were called. */
    struct weft__ctx *c = weft__ctx_now();
    if (c && c->worker && c->worker->watched == t)
        weft__worker_run_ended(c->worker);
    weft_task_meta meta = meta_of(t);
    call_task_hook(t->core, weft__sched_of(t->core)->hooks.task_terminate, &meta);
}
