/*
 * Building a runtime and shutting it down.
 */
#include "runtime/runtime_internal.h"

#include "fiber/fiber.h"
#include "sched/halt.h"
#include "sys/virtual.h"
#include "task/ending.h"
#include "fiber/trace.h"
#include "task/panic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

uint64_t weft__runtime_id_take(void)
{
    static weft__a64 next = {1};
    return weft__a64_add_relaxed(&next, 1);
}

/* ---- core_ops ---- */

static int submit_blocking(struct weft__core *core, struct weft__task *task)
{
    return weft__pool_submit(&weft__runtime_of(core)->pool, task);
}

static void unhandled_panic(struct weft__core *core)
{
    /* release, before the aborts: whose wait ends by one of them knows why */
    if (weft__a32_swap_release(&core->is_panic_shut, 1) == 0)
        weft__log(WEFT_LOG_ERROR,
                  "runtime \"%s\" shuts down because a task panicked and nobody joins it",
                  core->name);
    weft__runtime_stop(weft__runtime_of(core));
}

static const struct weft__core_ops core_ops = {
    .enqueue = weft__sched_enqueue,
    .park = weft__sched_park,
    .yield = weft__sched_yield,
    .exit = weft__sched_exit,
    .timers_here = weft__sched_timers_here,
    .timers_rearmed = weft__sched_timers_rearmed,
    .timeout_arm = weft__timeout_arm,
    .timeout_state = weft__timeout_state,
    .timeout_disarm = weft__timeout_disarm,
    .unhandled_panic = unhandled_panic,
    .pin_home = weft__sched_pin_home,
    .task_spawned = weft__sched_task_spawned,
    .task_ends = weft__sched_task_ends,
    .ended_outside = weft__sched_ended_outside,
    .admit = weft__sched_admit,
    .start = weft__sched_start,
    .submit_blocking = submit_blocking,
    .count_outside = weft__runtime_count_outside,
};

/* Names the task on a stack that overflowed. In a signal handler: no locks, no allocation. */
static size_t describe_owner(void *owner, char *buf, size_t cap)
{
    const struct weft__task *t = owner;
    const weft_site *site = t->site;
    char label[96];
    int n = snprintf(buf, cap, "%s, spawned at %s:%d", weft__task_label(t, label, sizeof label),
                     site ? site->file : "?", site ? site->line : 0);
    return weft__printed(n, cap);
}

static void free_core(struct weft__core *core)
{
    struct weft_runtime *rt = weft__runtime_of(core);
    uint32_t count = weft__sched_worker_high(&rt->sched);
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

/* The threads of the parent are gone, and may have held any lock. */
static void start_anew(void)
{
    weft__stack_pool_forget();
    weft__runtime_list_forget();
    weft__trace_forget();
    weft__outside_forget();
    weft__leave_ancestors();
}

static weft__a32 is_prepared;

/* What a process does once. The loader is asked to pin, and for an unwinder. */
static void prepare(void)
{
    if (weft__a32_load_relaxed(&is_prepared))
        return;
    weft__exit_init();
    weft__sys_pin_code(); /* threads of ours run it, handlers of ours lie in it */
    weft__sys_thread_end_init(weft__thread_has_ended);
    weft__fault_handler_install(describe_owner);
    weft__trace_init();
    const char *tool = weft__fiber_untold_tool();
    if (tool != NULL)
        weft__log(WEFT_LOG_ERROR,
                  "the program is built for %s and weft is not: what that reports of tasks may be "
                  "wrong, and it may crash; build weft with -DWEFT_SANITIZE (docs/guide.md)",
                  tool);
    weft__a32_store_release(&is_prepared, 1);
}

static void init_once(void)
{
    if (weft__sys_fork_guard_init(weft__sched_after_fork)) /* each time: it may be a child */
        start_anew();
    if (!weft__a32_load_acquire(&is_prepared))
        weft__sys_prepare(prepare);
}

int weft__runtime_prepare(const char *call, const void *caller)
{
    int rc = weft__fiber_check_cpu();
    if (rc < 0)
        return weft__misuse(
            call, rc, "shadow stacks are on (GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)", caller);
    init_once();
    return 0;
}

static void fill_hooks(struct weft__sched *s, const weft_config *c)
{
    s->hooks = (struct weft__sched_hooks){
        .thread_start = c->on_thread_start,
        .thread_stop = c->on_thread_stop,
        .thread_park = c->on_thread_park,
        .thread_unpark = c->on_thread_unpark,
        .task_spawn = c->on_task_spawn,
        .task_terminate = c->on_task_terminate,
        .task_run_begin = c->on_task_run_begin,
        .task_run_end = c->on_task_run_end,
        .arg = c->hook_arg,
    };
    bool has_run_hooks = c->on_task_run_begin || c->on_task_run_end;
    bool stamps = has_run_hooks && c->measure_latency;
    s->is_seeded = c->deterministic;
    s->watches_runs = has_run_hooks || s->is_seeded;
    /* the end of a task ends its run as well */
    s->core.watches_tasks = c->on_task_spawn || c->on_task_terminate || s->watches_runs;
    s->core.needs_cold = stamps || s->is_seeded;
    s->core.route_extra =
        (stamps ? WEFT__ROUTE_STAMPED : 0) | (s->is_seeded ? WEFT__ROUTE_SEEDED : 0);
}

static void fill(struct weft_runtime *rt, const weft_config *c)
{
    struct weft__sched *s = &rt->sched;
    struct weft__core *core = &s->core;
    core->ops = &core_ops;
    core->id = weft__runtime_id_take();
    core->process = weft__sys_process();
    (void)snprintf(core->name, sizeof core->name, "%s", c->name ? c->name : "weft");
    weft__a64_store_relaxed(&core->refs, 1);
    core->panics_shut_down = c->unhandled_panic == WEFT_UNHANDLED_PANIC_SHUTDOWN;
    core->budget = (uint16_t)c->budget;
    core->stack_bytes = c->stack_bytes;
    core->has_time = c->enable_time;
    core->home = c->flavor == WEFT_FLAVOR_LOCAL ? weft__thread_here() : 0;
    s->is_multi = c->flavor == WEFT_FLAVOR_MULTI_THREAD;
    s->worker_count = s->is_multi ? c->workers : 1;
    core->route_pinned = s->is_multi ? WEFT__ROUTE_PINNED_BORN : 0;
    s->extra_max = c->extra_workers_max;
    s->event_interval = c->event_interval;
    s->global_interval = c->global_queue_interval;
    s->has_slot = !c->disable_next_slot;
    s->detects_deadlock = c->detect_deadlock;
    s->stuck_after_ns = c->stuck_after_ns;
    s->timer_slack_ns = c->timer_slack_ns;
    s->shutdown_grace_ns = c->shutdown_grace_ns;
    s->seed = c->seed ? c->seed : weft__sys_random();
    rt->is_simulated = weft__virtual_is_here();
    /* In a simulation threads take turns. */
    core->processors = rt->is_simulated || s->is_seeded ? 1 : weft__sys_affinity_count();
    fill_hooks(s, c);
    weft__lock_claim(&s->lock);
    weft__lock_claim(&s->drive_lock);
    weft__inject_init(&s->inject);
    weft__lanes_init(&s->lanes, s->watches_runs);
    weft__list_init(&s->drive_waiters);
    weft__clock_init(&core->clock, c->start_paused);
    weft__timers_init(&s->outer_timers, weft__clock_now(&core->clock));
    weft__pool_init(&rt->pool, core, c->blocking_threads_max, c->blocking_keep_alive_ns,
                    core->processors > 1, &s->jobs);
}

static void stop_threads(struct weft_runtime *rt)
{
    struct weft__sched *s = &rt->sched;
    weft__sched_stop(s);
    weft__monitor_stop(s);
    if (!s->is_multi) {
        weft__runtime_end_driving(rt);
        return;
    }
    /* Under the lock nobody adds a worker any more: adding looks at stop. */
    weft__lock_acquire(&s->lock);
    uint32_t count = weft__sched_worker_high(s);
    weft__lock_release(&s->lock);
    weft__sched_wake_all(s);
    for (uint32_t i = 0; i < count; i++) {
        struct weft__worker *w = weft__sched_worker(s, i);
        if (weft__a32_load_relaxed(&w->has_no_thread))
            continue;
        weft__sys_thread_join(&w->thread);
        weft__a32_store_relaxed(&w->has_no_thread, 1); /* handles may still ask who is there */
    }
}

/* Everything has ended, or never began: threads go, memory goes with the last reference. */
void weft__runtime_teardown(struct weft_runtime *rt)
{
    weft__runtime_list_remove(rt);
    struct weft__sched *s = &rt->sched;
    struct weft__core *core = &s->core;
    weft__pool_close(&rt->pool);
    stop_threads(rt);
    weft__pool_join(&rt->pool);
    weft__a32_store_release(&core->phase, WEFT__PHASE_DOWN);
    if (core->driver)
        weft__driver_shutdown(core->driver);
    weft__timers_close(&s->outer_timers);
    uint32_t count = weft__sched_worker_high(s);
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
    rc = weft__runtime_prepare("weft_runtime_create", WEFT__CALLER);
    if (rc < 0)
        return rc;
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
        weft__a32_store_relaxed(&w->has_no_thread, 0);
        rc = weft__sys_thread_start(&w->thread, s->core.name, worker_main, w);
        if (rc < 0) {
            weft__a32_store_relaxed(&w->has_no_thread, 1);
            weft__core_unref(&s->core);
            goto err_threads;
        }
    }
    if (s->is_multi) {
        rc = weft__monitor_start(s);
        if (rc < 0)
            goto err_threads;
    }
    weft__runtime_list_add(rt);
    *ret_rt = rt;
    return 0;

err_threads:
    if (rc == -EAGAIN) /* which tells nobody what to mend */
        weft__log(WEFT_LOG_ERROR, "weft_runtime_create: no thread to be had: memory, address space "
                                  "(ulimit -v), RLIMIT_NPROC or a cgroup's pids.max");
    (void)weft__runtime_drain(rt, WEFT_NEVER); /* hooks of the others may have spawned */
err:
    weft__runtime_teardown(rt);
    return rc;
}

/* ---- shut down ---- */

struct abort_all {
    uint64_t bits;
    uint64_t unwound;
};

static void abort_one(struct weft__task *t, void *arg)
{
    struct abort_all *a = arg;
    if (t->kind == WEFT__TASK_THREAD)
        return; /* a thread of the user's; and a job that has started takes no notice */
    uint64_t before = weft__a64_load_relaxed(&t->state);
    a->unwound += (a->bits & WEFT__TASK_UNWIND) && t->kind == WEFT__TASK_FIBER &&
                  !(before & (WEFT__TASK_UNWIND | WEFT__TASK_DONE));
    if (weft__task_set_aborted(t, a->bits))
        weft__task_schedule(t);
}

/* How many are now to be unwound that were not before. */
static uint64_t stop_with(struct weft_runtime *rt, uint64_t bits)
{
    uint32_t running = WEFT__PHASE_RUNNING;
    /* seq_cst, as the counter and the load in weft__sched_admit. A read-modify-write, as in
     * block_on_thread(). */
    (void)weft__a32_cas_seq_cst(&rt->sched.core.phase, &running, WEFT__PHASE_STOPPING);
    struct abort_all a = {.bits = bits};
    weft__slab_walk(rt->sched.core.slab, abort_one, &a);
    return a.unwound;
}

void weft__runtime_stop(struct weft_runtime *rt)
{
    (void)stop_with(rt, WEFT__TASK_ABORT);
}

/* Tasks that hold what they did not register to be given back leak it: worth a line, as it may only
 * be that the machine was too busy to run them all in time. */
static void stop_by_unwinding(struct weft_runtime *rt)
{
    const struct weft__sched *s = &rt->sched;
    uint64_t count = stop_with(rt, WEFT__TASK_ABORT | WEFT__TASK_UNWIND);
    if (count && s->shutdown_grace_ns)
        weft__log(WEFT_LOG_WARN,
                  "runtime \"%s\" unwinds the tasks that have not ended within %llu ms, the grace "
                  "of its shutdown: %llu",
                  s->core.name, (unsigned long long)(s->shutdown_grace_ns / WEFT_MS),
                  (unsigned long long)count);
}

static bool is_quiescent(void *arg)
{
    return weft__sched_is_quiescent(arg);
}

bool weft__runtime_wait_quiescent(struct weft_runtime *rt, uint64_t deadline_ns)
{
    struct weft__sched *s = &rt->sched;
    if (s->is_multi)
        return weft__sched_wait_quiescent(s, deadline_ns);
    return weft__runtime_drive(rt, is_quiescent, s, deadline_ns, NULL) == 0;
}

/* Aborts until nothing lives, or until deadline_ns: false then. A task that was admitted just
 * before the phase changed is found by a later round. */
bool weft__runtime_drain(struct weft_runtime *rt, uint64_t deadline_ns)
{
    uint64_t slice_ns = WEFT_MS;
    /* Once: a shutdown that is called again, or goes on on another thread, is the same one. */
    if (rt->grace_ends_ns == 0)
        rt->grace_ends_ns = weft__add_sat(weft__sys_now_ns(), rt->sched.shutdown_grace_ns);
    weft__runtime_stop(rt);
    weft__pool_close(&rt->pool);
    for (;;) {
        uint64_t now_ns = weft__sys_now_ns();
        uint64_t until_ns = weft__add_sat(now_ns, slice_ns);
        if (weft__runtime_wait_quiescent(rt, until_ns < deadline_ns ? until_ns : deadline_ns))
            return true;
        if (weft__sys_now_ns() >= deadline_ns)
            return false;
        if (weft__sys_now_ns() >= rt->grace_ends_ns)
            stop_by_unwinding(rt);
        else
            weft__runtime_stop(rt);
        if (slice_ns < 64 * WEFT_MS)
            slice_ns *= 2;
    }
}

static void *reaper_main(void *arg)
{
    (void)weft__runtime_drain(arg, WEFT_NEVER);
    weft__runtime_teardown(arg);
    return NULL;
}

bool weft__may_block(void)
{
    struct weft__ctx *c = weft__ctx_get();
    return c->current == NULL && c->worker == NULL && !c->in_hook;
}

/* And the end of rt does not wait for the caller: a task of its own in weft_block_in_place(), or a
 * thread of its pool at the destructors of its thread-locals. */
static bool may_wait_for(const weft_runtime *rt)
{
    const struct weft__ctx *c = weft__ctx_get();
    const struct weft__core *core = &rt->sched.core;
    return weft__may_block() && c->serves != core &&
           (c->in_place_task == NULL || c->in_place_task->core != core);
}

static int shut_down(const char *call, weft_runtime *rt, uint64_t timeout_ns, const void *caller)
{
    if (weft__core_is_ancestral(&rt->sched.core))
        return weft__misuse(call, -EPERM, "this is a forked child", caller);
    bool can_wait = may_wait_for(rt);
    if (timeout_ns != 0 && !can_wait)
        return weft__misuse(call, -EPERM,
                            "the caller is a task, a body of weft_block_on(), a hook or a thread "
                            "of the runtime's: only weft_runtime_shutdown() with a timeout of 0 is "
                            "allowed there",
                            caller);
    bool is_local = rt->sched.core.home != 0;
    if (is_local && (!weft__may_block() || rt->sched.core.home != weft__thread_here()))
        return weft__misuse(call, -EPERM,
                            "a local runtime is shut down by its own thread, outside its tasks",
                            caller);
    uint64_t deadline_ns = weft__add_sat(weft__sys_now_ns(), timeout_ns);
    weft__sched_resume(&rt->sched);     /* in a destructor of a static object */
    int held = weft__sys_cancel_hold(); /* half shut down it would never end */
    bool is_down = can_wait && weft__runtime_drain(rt, deadline_ns);
    if (is_down)
        weft__runtime_teardown(rt);
    weft__sys_cancel_restore(held);
    if (is_down)
        return 0;
    if (is_local)
        return -ETIMEDOUT; /* no other thread may run what is left */
    weft__runtime_stop(rt);
    struct weft__thread reaper;
    int rc = weft__sys_thread_start(&reaper, "weft-shutdown", reaper_main, rt);
    if (rc < 0) {
        weft__log(WEFT_LOG_ERROR,
                  "runtime \"%s\" stays the caller's: no thread to go on shutting it down",
                  rt->sched.core.name);
        return rc;
    }
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
    if (weft__core_is_ancestral(core))
        return weft__misuse("weft_stop", -EPERM, "this is a forked child", WEFT__CALLER);
    weft__runtime_stop(weft__runtime_of(core));
    return 0;
}
