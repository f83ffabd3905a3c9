/*
 * What any thread may do with a runtime: handles, entering it, looking at it.
 */
#include "runtime/runtime_internal.h"

#include "task/spawn.h"

#include <errno.h>
#include <string.h>

/* ---- handles ---- */

weft_handle *weft_runtime_handle(weft_runtime *rt)
{
    return weft_handle_ref((weft_handle *)rt);
}

weft_handle *weft_handle_ref(weft_handle *h)
{
    if (h) {
        struct weft__core *core = (struct weft__core *)h;
        weft__a64_add_relaxed(&core->handle_refs, 1);
        weft__core_ref(core);
    }
    return h;
}

void weft_handle_unref(weft_handle *h)
{
    if (h) {
        struct weft__core *core = (struct weft__core *)h;
        weft__a64_sub_relaxed(&core->handle_refs, 1);
        weft__core_unref(core);
    }
}

static int take_current(weft_handle **ret_handle)
{
    struct weft__core *core = weft__core_current();
    if (core == NULL)
        return -EPERM;
    *ret_handle = weft_handle_ref((weft_handle *)core);
    return 0;
}

int weft_handle_try_current(weft_handle **ret_handle)
{
    if (ret_handle == NULL)
        return weft__misuse("weft_handle_try_current", -EINVAL, "ret_handle is NULL", WEFT__CALLER);
    return take_current(ret_handle);
}

int weft_handle_current(weft_handle **ret_handle)
{
    if (ret_handle == NULL)
        return weft__misuse("weft_handle_current", -EINVAL, "ret_handle is NULL", WEFT__CALLER);
    int rc = take_current(ret_handle);
    return rc < 0 ? weft__misuse("weft_handle_current", rc, "the caller is in no runtime",
                                 WEFT__CALLER)
                  : 0;
}

uint64_t weft_handle_runtime_id(const weft_handle *h)
{
    return h ? ((const struct weft__core *)h)->id : 0;
}

const char *weft_handle_runtime_name(const weft_handle *h)
{
    return h ? ((const struct weft__core *)h)->name : "";
}

/* ---- enter ---- */

void weft__runtime_count_outside(struct weft__core *core, int by)
{
    weft__a32_add_seq_cst(&weft__sched_of(core)->outside, (uint32_t)by);
}

int weft_enter(weft_handle *h, weft_enter_guard *g)
{
    if (h == NULL || g == NULL)
        return weft__misuse("weft_enter", -EINVAL, "the handle or the guard is NULL", WEFT__CALLER);
    struct weft__ctx *c = weft__ctx_get();
    if (c->current != NULL)
        return weft__misuse("weft_enter", -EPERM,
                            "the caller is a task; name the runtime in weft_spawn_options",
                            WEFT__CALLER);
    struct weft__core *core = (struct weft__core *)h;
    if (weft__core_is_ancestral(core))
        return weft__misuse("weft_enter", -EPERM,
                            "this is a forked child; start a runtime of its own", WEFT__CALLER);
    struct weft__core *local = core->home == weft__thread_here() ? core : c->local;
    if (weft__guard_is_entered(c, g))
        return weft__misuse("weft_enter", -EINVAL, "the guard is entered already", WEFT__CALLER);
    weft__guard_enter(c, g, core, core, local);
    return 0;
}

/* g, which is entered, was entered around the hook that the caller is in. */
static bool is_around_hook(const struct weft__ctx *c, const weft_enter_guard *g)
{
    const weft_enter_guard *at = c->guards;
    if (!c->in_hook)
        return false;
    while (at != c->hook_guards && at != g)
        at = weft__guard_outer(at);
    return at == c->hook_guards;
}

int weft_leave(weft_enter_guard *g)
{
    struct weft__ctx *c = weft__ctx_get();
    if (c->current && c->current->kind <= WEFT__TASK_FUTURE)
        return weft__misuse("weft_leave", -EPERM,
                            "the caller is a task; what its thread has entered is not the task's",
                            WEFT__CALLER);
    if (g == NULL || !weft__guard_is_entered(c, g))
        return weft__misuse("weft_leave", -EINVAL, "the guard was not entered on this thread",
                            WEFT__CALLER);
    if (is_around_hook(c, g))
        return weft__misuse("weft_leave", -EPERM,
                            "the caller is a hook; what was entered around it is not its own",
                            WEFT__CALLER);
    bool was_innermost = c->guards == g;
    weft__guards_leave(c, weft__guard_outer(g));
    if (!was_innermost)
        return weft__misuse("weft_leave", -EINVAL,
                            "guards must be left in reverse order; those inside were left too",
                            WEFT__CALLER);
    return 0;
}

/* ---- introspection ---- */

int weft_worker_index(void)
{
    struct weft__ctx *c = weft__ctx_now();
    struct weft__worker *w = c ? c->worker : NULL;
    while (w && w->is_nested) /* a local set: where its driver runs */
        w = w->outer;
    return w ? (int)w->index : -1;
}

int weft_metrics_get(weft_handle *h, weft_metrics *m)
{
    struct weft__core *core = h ? (struct weft__core *)h : weft__core_current();
    if (m == NULL)
        return weft__misuse("weft_metrics_get", -EINVAL, "ret_metrics is NULL", WEFT__CALLER);
    if (core == NULL)
        return weft__misuse("weft_metrics_get", -EPERM, "the caller is in no runtime",
                            WEFT__CALLER);
    if (weft__core_is_ancestral(core))
        return weft__misuse("weft_metrics_get", -EPERM, "this is a forked child", WEFT__CALLER);
    struct weft__sched *s = weft__sched_of(core);
    memset(m, 0, sizeof *m);
    m->workers = s->worker_count;
    m->seed = s->seed;
    m->trace_hash = weft__a64_load_relaxed(&s->trace);
    m->alive_tasks = weft__sched_alive(s);
    m->spawned_tasks = weft__a64_load_relaxed(&s->outer_spawned);
    m->forced_yields = weft__a64_load_relaxed(&core->forced_yields);
    m->remote_schedules = weft__a64_load_relaxed(&s->remote_schedules);
    m->stuck_reports = weft__a64_load_relaxed(&s->stuck_reports);
    m->global_queue_depth = weft__inject_len(&s->inject);
    m->urgent_queue_depth = weft__lanes_len(&s->lanes, WEFT__CLASS_URGENT);
    m->background_queue_depth = weft__lanes_len(&s->lanes, WEFT__CLASS_BACKGROUND);
    uint32_t count = weft__sched_worker_high(s);
    for (uint32_t i = 0; i < count; i++) {
        struct weft__worker *w = weft__sched_worker(s, i);
        m->spawned_tasks += weft__a64_load_relaxed(&w->spawned);
        m->polls += weft__a64_load_relaxed(&w->tick);
        for (unsigned lane = 0; lane < WEFT__LANES; lane++)
            m->pinned_queue_depth += weft__lanes_len(&w->pinned, lane);
        m->urgent_polls += weft__a64_load_relaxed(&w->urgent_runs);
        m->background_polls += weft__a64_load_relaxed(&w->background_runs);
        m->steals += weft__a64_load_relaxed(&w->steals);
        m->overflows += weft__a64_load_relaxed(&w->overflows);
        m->parks += weft__a64_load_relaxed(&w->parks);
        if (w->is_extra && !weft__a32_load_relaxed(&w->has_no_thread) &&
            !weft__a32_load_relaxed(&w->is_dormant))
            m->workers_extra++;
    }
    size_t queued;
    weft__pool_counts(&weft__runtime_of(core)->pool, &m->blocking_threads,
                      &m->blocking_threads_idle, &queued);
    m->blocking_queue_depth = queued;
    if (core->driver) {
        struct weft__driver_stats d;
        weft__driver_stats(core->driver, &d);
        m->fds_registered = d.registered;
        m->fds_deregistered = d.deregistered;
        m->io_events = d.events;
    }
    return 0;
}
