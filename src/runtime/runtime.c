#include "runtime/runtime_internal.h"

#include "fiber/fiber.h"
#include "task/panic.h"
#include "task/spawn.h"
#include "task/timeout.h"

#include <errno.h>
#include <execinfo.h>
#include <stdio.h>
#include <string.h>

static weft__a64 next_runtime_id = {1};

/* ---- core_ops ---- */

static int submit_blocking(struct weft__core *core, struct weft__task *task)
{
    return weft__pool_submit(&weft__runtime_of(core)->pool, task);
}

static void unhandled_panic(struct weft__core *core)
{
    weft__log(WEFT_LOG_ERROR,
              "runtime \"%s\" shuts down because a task panicked and nobody joins it", core->name);
    weft__runtime_stop(weft__runtime_of(core), WEFT__TASK_ABORT);
}

static const struct weft__core_ops core_ops = {
    .enqueue = weft__sched_enqueue,
    .park = weft__sched_park,
    .yield = weft__sched_yield,
    .exit = weft__sched_exit,
    .timers_here = weft__sched_timers_here,
    .timers_rearmed = weft__sched_timers_rearmed,
    .timeout_arm = weft__timeout_arm,
    .timeout_fired = weft__timeout_fired,
    .timeout_disarm = weft__timeout_disarm,
    .unhandled_panic = unhandled_panic,
    .ended_outside = weft__sched_ended_outside,
    .admit = weft__sched_admit,
    .submit_blocking = submit_blocking,
};

/* Names the task on a stack that overflowed. In a signal handler: no locks, no allocation. */
static size_t describe_owner(void *owner, char *buf, size_t cap)
{
    const struct weft__task *t = owner;
    const weft_site *site = t->site;
    char label[96];
    int n = snprintf(buf, cap, "%s, spawned at %s:%d", weft__task_label(t, label, sizeof label),
                     site ? site->file : "?", site ? site->line : 0);
    return n < 0 ? 0 : (size_t)n < cap ? (size_t)n : cap - 1;
}

static void free_core(struct weft__core *core)
{
    struct weft_runtime *rt = weft__runtime_of(core);
    uint32_t count = weft__a32_load_acquire(&rt->sched.worker_high);
    for (uint32_t i = 0; i < count; i++)
        weft__free(weft__sched_worker(&rt->sched, i));
    weft__driver_destroy(core->driver);
    weft__free(rt);
}

/* ---- create ---- */

static void *worker_main(void *arg)
{
    weft__worker_thread(arg);
    return NULL;
}

static void init_once(void)
{
    static weft__a32 done;
    if (weft__a32_load_acquire(&done))
        return;
    void *frames[2];
    weft__sys_fork_guard_init();
    weft__fault_handler_install(describe_owner);
    (void)backtrace(frames, 2); /* loads its library now, not in the first panic */
    weft__a32_store_release(&done, 1);
}

static void fill(struct weft_runtime *rt, const weft_config *c)
{
    struct weft__sched *s = &rt->sched;
    struct weft__core *core = &s->core;
    core->ops = &core_ops;
    core->id = weft__a64_add_relaxed(&next_runtime_id, 1);
    (void)snprintf(core->name, sizeof core->name, "%s", c->name ? c->name : "weft");
    weft__a64_store_relaxed(&core->refs, 1);
    core->panics_shut_down = c->unhandled_panic == WEFT_UNHANDLED_PANIC_SHUTDOWN;
    core->budget = (uint16_t)c->budget;
    core->stack_bytes = c->stack_bytes;
    core->has_time = c->enable_time;
    s->is_multi = c->flavor == WEFT_FLAVOR_MULTI_THREAD;
    s->worker_count = s->is_multi ? c->workers : 1;
    s->extra_max = c->extra_workers_max;
    s->event_interval = c->event_interval;
    s->global_interval = c->global_queue_interval;
    s->has_slot = !c->disable_next_slot;
    s->detects_deadlock = c->detect_deadlock;
    s->stuck_after_ns = c->stuck_after_ns;
    s->shutdown_grace_ns = c->shutdown_grace_ns;
    s->seed = c->seed ? c->seed : weft__sys_random();
    s->hooks = (struct weft__sched_hooks){c->on_thread_start, c->on_thread_stop, c->on_thread_park,
                                          c->on_thread_unpark, c->hook_arg};
    weft__inject_init(&s->inject);
    weft__list_init(&s->drive_waiters);
    weft__timers_init(&s->outer_timers, weft__sys_now_ns());
    weft__pool_init(&rt->pool, core, c->blocking_threads_max, c->blocking_keep_alive_ns,
                    &s->outside);
}

static void stop_threads(struct weft_runtime *rt)
{
    struct weft__sched *s = &rt->sched;
    weft__a32_store_seq_cst(&s->stop, 1);
    weft__monitor_stop(s);
    if (!s->is_multi) {
        weft__runtime_end_driving(rt);
        return;
    }
    /* Under the lock nobody adds a worker any more: adding looks at stop. */
    weft__lock_acquire(&s->lock);
    uint32_t count = weft__a32_load_acquire(&s->worker_high);
    weft__lock_release(&s->lock);
    weft__sched_wake_all(s);
    for (uint32_t i = 0; i < count; i++) {
        struct weft__worker *w = weft__sched_worker(s, i);
        if (!weft__a32_load_acquire(&w->has_no_thread))
            weft__sys_thread_join(&w->thread);
    }
}

/* Everything has ended, or never began: threads go, memory goes with the last reference. */
static void teardown(struct weft_runtime *rt)
{
    struct weft__sched *s = &rt->sched;
    struct weft__core *core = &s->core;
    weft__pool_close(&rt->pool);
    stop_threads(rt);
    weft__pool_join(&rt->pool);
    weft__a32_store_release(&core->phase, WEFT__PHASE_DOWN);
    if (core->driver)
        weft__driver_shutdown(core->driver);
    weft__timers_close(&s->outer_timers);
    uint32_t count = weft__a32_load_acquire(&s->worker_high);
    for (uint32_t i = 0; i < count; i++) {
        struct weft__worker *w = weft__sched_worker(s, i);
        weft__timers_close(&w->timers);
        weft__stack_cache_fini(&w->stacks);
        weft__slab_flush(core->slab, &w->tasks);
    }
    (void)weft__inject_close(&s->inject);
    weft__stack_pool_trim();
    weft__core_unref(core);
}

int weft_runtime_create(const weft_config *config, weft_runtime **ret_rt)
{
    weft_config defaults;
    if (ret_rt == NULL)
        return weft__misuse("weft_runtime_create", -EINVAL, "ret_rt is NULL", WEFT__CALLER);
    if (config == NULL) {
        weft_config_init(&defaults);
        config = &defaults;
    }
    int rc = weft__config_check(config, WEFT__CALLER);
    if (rc < 0)
        return rc;
    rc = weft__fiber_check_cpu();
    if (rc < 0)
        return weft__misuse("weft_runtime_create", rc,
                            "shadow stacks are on (GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)",
                            WEFT__CALLER);
    init_once();
    weft_runtime *rt = weft__aligned_alloc(WEFT__CACHE_LINE, sizeof *rt);
    if (rt == NULL)
        return -ENOMEM;
    memset(rt, 0, sizeof *rt);
    fill(rt, config);
    struct weft__sched *s = &rt->sched;
    rc = weft__slab_create(&s->core, free_core, &s->core.slab);
    if (rc < 0) {
        weft__free(rt);
        return rc;
    }
    if (config->enable_io)
        rc = weft__driver_create(&s->core.driver);
    for (uint32_t i = 0; rc == 0 && i < s->worker_count; i++)
        rc = weft__worker_create(s, i, false);
    if (rc < 0)
        goto err;
    for (uint32_t i = 0; s->is_multi && i < s->worker_count; i++) {
        struct weft__worker *w = weft__sched_worker(s, i);
        weft__core_ref(&s->core);
        weft__a32_store_release(&w->has_no_thread, 0);
        rc = weft__sys_thread_start(&w->thread, s->core.name, worker_main, w);
        if (rc < 0) {
            weft__a32_store_release(&w->has_no_thread, 1);
            weft__core_unref(&s->core);
            goto err;
        }
    }
    if (s->is_multi) {
        rc = weft__monitor_start(s);
        if (rc < 0)
            goto err;
    }
    *ret_rt = rt;
    return 0;

err:
    teardown(rt);
    return rc;
}

/* ---- shut down ---- */

static void abort_one(struct weft__task *t, void *arg)
{
    const uint64_t *bits = arg;
    if (t->kind == WEFT__TASK_THREAD || (t->kind == WEFT__TASK_BLOCKING && t->started))
        return;
    if (weft__task_set_aborted(t, *bits))
        weft__task_schedule(t);
}

void weft__runtime_stop(struct weft_runtime *rt, uint64_t bits)
{
    uint32_t running = WEFT__PHASE_RUNNING;
    /* seq_cst, as the counter and the load in weft__sched_admit. */
    (void)weft__a32_cas_seq_cst(&rt->sched.core.phase, &running, WEFT__PHASE_STOPPING);
    weft__slab_walk(rt->sched.core.slab, abort_one, &bits);
}

static bool is_quiescent(void *arg)
{
    return weft__sched_is_quiescent(arg);
}

static bool wait_quiescent(struct weft_runtime *rt, uint64_t deadline_ns)
{
    struct weft__sched *s = &rt->sched;
    if (s->is_multi)
        return weft__sched_wait_quiescent(s, deadline_ns);
    return weft__runtime_drive(rt, is_quiescent, s, deadline_ns, NULL) == 0;
}

/* Aborts until nothing lives, or until deadline_ns: false then. A task that was admitted just
 * before the phase changed is found by a later round. */
static bool drain(struct weft_runtime *rt, uint64_t deadline_ns)
{
    uint64_t grace_ends_ns = weft__add_sat(weft__sys_now_ns(), rt->sched.shutdown_grace_ns);
    uint64_t slice_ns = WEFT_MS;
    weft__runtime_stop(rt, WEFT__TASK_ABORT);
    weft__pool_close(&rt->pool);
    for (;;) {
        uint64_t now_ns = weft__sys_now_ns();
        uint64_t until_ns = weft__add_sat(now_ns, slice_ns);
        if (wait_quiescent(rt, until_ns < deadline_ns ? until_ns : deadline_ns))
            return true;
        if (weft__sys_now_ns() >= deadline_ns)
            return false;
        bool unwinds = weft__sys_now_ns() >= grace_ends_ns;
        weft__runtime_stop(rt, unwinds ? WEFT__TASK_ABORT | WEFT__TASK_UNWIND : WEFT__TASK_ABORT);
        if (slice_ns < 64 * WEFT_MS)
            slice_ns *= 2;
    }
}

static void *reaper_main(void *arg)
{
    (void)drain(arg, WEFT_NEVER);
    teardown(arg);
    return NULL;
}

static bool may_block(void)
{
    struct weft__ctx *c = weft__ctx_get();
    return c->current == NULL && c->worker == NULL && !c->in_hook;
}

static int shut_down(const char *call, weft_runtime *rt, uint64_t timeout_ns, const void *caller)
{
    if (weft__sys_is_forked_child())
        return weft__misuse(call, -EPERM, "this is a forked child", caller);
    if (timeout_ns != 0 && !may_block())
        return weft__misuse(call, -EPERM,
                            "the caller is a task, a body of weft_block_on() or a hook: only "
                            "weft_runtime_shutdown() with a timeout of 0 is allowed there",
                            caller);
    uint64_t deadline_ns = weft__add_sat(weft__sys_now_ns(), timeout_ns);
    bool can_drive = may_block();
    if (can_drive && drain(rt, deadline_ns)) {
        teardown(rt);
        return 0;
    }
    weft__runtime_stop(rt, WEFT__TASK_ABORT);
    struct weft__thread reaper;
    if (weft__sys_thread_start(&reaper, "weft-shutdown", reaper_main, rt) < 0)
        weft__log(WEFT_LOG_ERROR, "runtime \"%s\" is left behind: no thread to shut it down",
                  rt->sched.core.name);
    else
        weft__sys_thread_detach(&reaper);
    return -ETIMEDOUT;
}

int weft_runtime_shutdown(weft_runtime *rt, uint64_t timeout_ns)
{
    if (rt == NULL)
        return weft__misuse("weft_runtime_shutdown", -EINVAL, "the runtime is NULL", WEFT__CALLER);
    return shut_down("weft_runtime_shutdown", rt, timeout_ns, WEFT__CALLER);
}

int weft_runtime_destroy(weft_runtime *rt)
{
    return rt ? shut_down("weft_runtime_destroy", rt, WEFT_NEVER, WEFT__CALLER) : 0;
}

int weft_stop(void)
{
    struct weft__core *core = weft__core_current();
    if (core == NULL)
        return weft__misuse("weft_stop", -EPERM, "the caller is in no runtime", WEFT__CALLER);
    weft__runtime_stop(weft__runtime_of(core), WEFT__TASK_ABORT);
    return 0;
}

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

static void outcome_give(weft_outcome *ret, weft_panic_info *info, bool was_aborted, void *value)
{
    weft_outcome o = {.kind = info          ? WEFT_OUTCOME_PANICKED
                              : was_aborted ? WEFT_OUTCOME_CANCELLED
                                            : WEFT_OUTCOME_VALUE,
                      .value = info || was_aborted ? NULL : value,
                      .panic = info};
    if (ret) {
        *ret = o;
        return;
    }
    if (info)
        weft__panic_report(info, "nobody looks at the outcome");
    weft_outcome_fini(&o);
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
    struct weft__locals locals = {0};
    struct body body = {.fn = fn, .arg = arg};
    struct weft__core *core_before = c->core;
    t->locals = &locals;
    c->core = core;
    c->current = t;
    weft_panic_info *info = weft__call_contained(call_body, &body);
    weft__timeouts_drop(&locals, NULL);
    c->current = NULL;
    c->core = core_before;
    t->locals = NULL;
    weft__thread_task_destroy(t);
    outcome_give(ret, info, locals.abort_seen, body.value);
    return 0;
}

/* current_thread: the body is a fiber, so that it can be interleaved with the tasks. */

static bool root_is_done(void *arg)
{
    return weft_task_is_finished(*(weft_task **)arg);
}

static int drive_root(struct weft_runtime *rt, weft_task *root, weft_outcome *ret)
{
    struct weft__task *me = weft__thread_task_create(&rt->sched.core, WEFT__TASK_THREAD);
    if (me == NULL) {
        weft_task_abort_detach(root);
        return -ENOMEM;
    }
    weft_join_future done;
    weft_join_future_init(&done, root);
    /* Woken by its end even when another thread drives. */
    if (done.future.ops->poll(&done.future, weft__task_waker(me)) == WEFT_PENDING)
        (void)weft__runtime_drive(rt, root_is_done, &root, WEFT_NEVER, me);
    weft__thread_task_destroy(me);
    return weft_try_join(root, ret);
}

static int block_on_fiber(struct weft_runtime *rt, weft_task_fn fn, void *arg, weft_outcome *ret)
{
    static const weft_site site = {"weft_block_on", "weft_block_on", 0};
    weft_task *root;
    int rc = weft__task_spawn_root(&rt->sched.core, fn, arg, &root, &site);
    return rc < 0 ? rc : drive_root(rt, root, ret);
}

static int block_on(const char *call, struct weft_runtime *rt, weft_task_fn body, void *arg,
                    weft_outcome *ret_outcome, bool drives, const void *caller)
{
    if (rt == NULL || body == NULL)
        return weft__misuse(call, -EINVAL, "the runtime or the body is NULL", caller);
    if (weft__sys_is_forked_child())
        return weft__misuse(call, -EPERM, "this is a forked child; start a runtime of its own",
                            caller);
    if (!may_block())
        return weft__misuse(
            call, -EPERM,
            "the caller is a task, a body of weft_block_on() or a hook already; spawn "
            "and join instead, or use weft_block_in_place()",
            caller);
    if (weft__a32_load_acquire(&rt->sched.core.phase) != WEFT__PHASE_RUNNING)
        return -ESHUTDOWN;
    weft__core_ref(&rt->sched.core);
    int rc = drives && !rt->sched.is_multi ? block_on_fiber(rt, body, arg, ret_outcome)
                                           : block_on_thread(rt, body, arg, ret_outcome);
    weft__core_unref(&rt->sched.core);
    return rc;
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

int weft_run_with(const weft_config *config, int (*main_fn)(void *arg), void *arg)
{
    if (main_fn == NULL)
        return weft__misuse("weft_run", -EINVAL, "main_fn is NULL", WEFT__CALLER);
    if (!may_block())
        return weft__misuse("weft_run", -EPERM, "the caller is a task already", WEFT__CALLER);
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
    while (!wait_quiescent(rt, weft__sys_now_ns() + 100 * WEFT_MS) &&
           weft__a32_load_acquire(&rt->sched.core.phase) == WEFT__PHASE_RUNNING)
        continue;
    (void)drain(rt, WEFT_NEVER);
    weft_outcome o;
    rc = weft_try_join(task, &o);
    if (rc == 0) {
        rc = weft_outcome_error(&o);
        if (rc == 0)
            rc = (int)(intptr_t)o.value;
        if (o.panic)
            weft__panic_report(o.panic, "in the main task");
        weft_outcome_fini(&o);
    }
    teardown(rt);
    return rc;
}

int weft_run(int (*main_fn)(void *arg), void *arg)
{
    return weft_run_with(NULL, main_fn, arg);
}

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

int weft_handle_try_current(weft_handle **ret_handle)
{
    struct weft__core *core = weft__core_current();
    if (core == NULL)
        return -EPERM;
    *ret_handle = weft_handle_ref((weft_handle *)core);
    return 0;
}

int weft_handle_current(weft_handle **ret_handle)
{
    int rc = weft_handle_try_current(ret_handle);
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

/* opaque: the runtime entered, the runtime before, the guard before, spare */
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
    weft__core_ref(core);
    weft__a32_add_seq_cst(&weft__sched_of(core)->outside, 1);
    g->opaque[0] = core;
    g->opaque[1] = c->core;
    g->opaque[2] = c->guards;
    g->opaque[3] = NULL;
    c->guards = g;
    c->core = core;
    return 0;
}

static void leave_innermost(struct weft__ctx *c)
{
    weft_enter_guard *g = c->guards;
    struct weft__core *core = g->opaque[0];
    weft__thread_task_drop(c);
    weft__timeouts_forget_core(&c->locals, core);
    c->core = g->opaque[1];
    c->guards = g->opaque[2];
    weft__a32_sub_seq_cst(&weft__sched_of(core)->outside, 1);
    weft__core_unref(core);
}

int weft_leave(weft_enter_guard *g)
{
    struct weft__ctx *c = weft__ctx_get();
    weft_enter_guard *at = c->guards;
    while (at && at != g)
        at = at->opaque[2];
    if (g == NULL || at == NULL)
        return weft__misuse("weft_leave", -EINVAL, "the guard was not entered on this thread",
                            WEFT__CALLER);
    bool was_innermost = c->guards == g;
    while (c->guards != g)
        leave_innermost(c);
    leave_innermost(c);
    if (!was_innermost)
        return weft__misuse("weft_leave", -EINVAL,
                            "guards must be left in reverse order; those inside were left too",
                            WEFT__CALLER);
    return 0;
}

/* ---- block in place ---- */

int weft_block_in_place(weft_task_fn fn, void *arg, void **ret_value)
{
    if (fn == NULL)
        return weft__misuse("weft_block_in_place", -EINVAL, "fn is NULL", WEFT__CALLER);
    struct weft__ctx *c = weft__ctx_get();
    struct weft__worker *w = c->worker;
    struct weft__task *t = c->current;
    if (w == NULL) {
        void *plain = fn(arg);
        if (ret_value)
            *ret_value = plain;
        return 0;
    }
    struct weft__sched *s = w->sched;
    if (!s->is_multi || t == NULL || t->kind != WEFT__TASK_FIBER)
        return weft__misuse(
            "weft_block_in_place", -EPERM,
            "a current_thread runtime, a hook or a polled future cannot block in place",
            WEFT__CALLER);
    /* The thread keeps the worker's name only: its queues go to the others, and a substitute takes
     * its turn. */
    weft__worker_spill_all(w);
    weft__a32_store_seq_cst(&w->in_place, 1);
    weft__a32_add_seq_cst(&s->in_place, 1);
    weft__sched_add_worker(s);
    struct weft__task *outer = c->in_place_task;
    struct weft__locals outer_locals = c->locals;
    c->in_place_task = t;
    c->locals = (struct weft__locals){0};
    c->current = NULL;
    c->worker = NULL;
    c->slab_cache = NULL;
    c->cache_core = NULL;
    struct body body = {.fn = fn, .arg = arg};
    weft_panic_info *info = weft__call_contained(call_body, &body);
    weft__thread_task_drop(c);
    c->in_place_task = outer;
    c->locals = outer_locals;
    c->core = &s->core;
    c->current = t;
    c->worker = w;
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

/* ---- introspection ---- */

int weft_worker_index(void)
{
    struct weft__ctx *c = weft__ctx_now();
    return c && c->worker ? (int)c->worker->index : -1;
}

int weft_metrics_get(weft_handle *h, weft_metrics *m)
{
    struct weft__core *core = h ? (struct weft__core *)h : weft__core_current();
    if (m == NULL)
        return weft__misuse("weft_metrics_get", -EINVAL, "ret_metrics is NULL", WEFT__CALLER);
    if (core == NULL)
        return weft__misuse("weft_metrics_get", -EPERM, "the caller is in no runtime",
                            WEFT__CALLER);
    struct weft__sched *s = weft__sched_of(core);
    memset(m, 0, sizeof *m);
    m->workers = s->worker_count;
    m->alive_tasks = weft__sched_alive(s);
    m->spawned_tasks = weft__a64_load_relaxed(&s->outer_spawned);
    m->forced_yields = weft__a64_load_relaxed(&core->forced_yields);
    m->remote_schedules = weft__a64_load_relaxed(&s->remote_schedules);
    m->stuck_reports = weft__a64_load_relaxed(&s->stuck_reports);
    m->global_queue_depth = weft__inject_len(&s->inject);
    uint32_t count = weft__a32_load_acquire(&s->worker_high);
    for (uint32_t i = 0; i < count; i++) {
        struct weft__worker *w = weft__sched_worker(s, i);
        m->spawned_tasks += weft__a64_load_relaxed(&w->spawned);
        m->polls += weft__a64_load_relaxed(&w->tick);
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

int weft_dump(weft_handle *h, int fd)
{
    struct weft__core *core = h ? (struct weft__core *)h : weft__core_current();
    if (core == NULL)
        return weft__misuse("weft_dump", -EPERM, "the caller is in no runtime", WEFT__CALLER);
    return (int)weft__sched_dump(weft__sched_of(core), fd);
}
