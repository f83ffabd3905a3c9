/*
 * Local sets: making them, driving them, ending them. src/sched/local.h says how they run.
 */
#include "sched/local.h"

#include "runtime/runtime_internal.h"
#include "task/ending.h"
#include "task/panic.h"
#include "task/spawn.h"

#include <weft/local.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct weft_local_set {
    struct weft__local local; /* first: set, scheduler and core are one object */
    /* What a thread drives as that is no task and in no runtime. One is enough: it is a task then.
     * Made with the set, so that ending one takes no memory. */
    struct weft__task *guest;
    /* The signal stack of the home thread, so that an overflow in a local task is named; not when
     * the thread has one of its own, nor until it drives. Held until the set goes, since making it
     * takes longer than all else in run_until. */
    bool holds_signal_stack;
};

static struct weft__local *local_of(weft_local_set *set)
{
    return &set->local;
}

/* By an unhandled panic of one of its tasks. */
static bool is_shut(const weft_local_set *set)
{
    return weft__a32_load_relaxed(&set->local.sched.core.is_panic_shut); /* written at home */
}

/* ---- core_ops ---- */

static int submit_blocking(struct weft__core *core, struct weft__task *task)
{
    (void)core;
    return weft__misuse_at("weft_spawn_blocking", -EINVAL,
                           "options.local_set is set, but a blocking job has no home", task->site);
}

static const struct weft__core_ops core_ops = {
    .enqueue = weft__local_enqueue,
    .park = weft__sched_park,
    .yield = weft__sched_yield,
    .exit = weft__sched_exit,
    .timers_here = weft__local_timers_here,
    .timers_rearmed = weft__local_timers_rearmed,
    .timeout_arm = weft__timeout_arm,
    .timeout_state = weft__timeout_state,
    .timeout_disarm = weft__timeout_disarm,
    .unhandled_panic = weft__local_unhandled_panic,
    .ended_outside = weft__sched_ended_outside,
    .admit = weft__sched_admit,
    .start = weft__sched_start,
    .submit_blocking = submit_blocking,
    .count_outside = weft__runtime_count_outside,
};

/* ---- create ---- */

void weft_local_set_config_init(weft_local_set_config *c)
{
    if (weft__is_null("weft_local_set_config_init", c, WEFT__CALLER))
        return;
    memset(c, 0, sizeof *c);
    c->stack_bytes = WEFT__STACK_DEFAULT;
    c->budget = 128;
    c->shutdown_grace_ns = WEFT_SEC;
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t")] == '\0';
}

static int check_config(const weft_local_set_config *c, const void *caller)
{
    const char *why = NULL;
    if (c->name && is_blank(c->name))
        why = "config.name is blank";
    else if (c->stack_bytes < 1 || c->stack_bytes > WEFT__STACK_MAX)
        why = "config.stack_bytes must be 1 to 1 GiB";
    else if (c->budget < 1 || c->budget > 65535)
        why = "config.budget must be 1 to 65535";
    else if (c->unhandled_panic != WEFT_UNHANDLED_PANIC_IGNORE &&
             c->unhandled_panic != WEFT_UNHANDLED_PANIC_SHUTDOWN)
        why = "config.unhandled_panic is unknown";
    for (size_t i = 0; why == NULL && i < sizeof c->reserved / sizeof c->reserved[0]; i++)
        if (c->reserved[i] != 0)
            why = "config.reserved must be zero: fill it with weft_local_set_config_init()";
    return why ? weft__misuse("weft_local_set_create", -EINVAL, why, caller) : 0;
}

static void free_core(struct weft__core *core)
{
    weft__free(weft__sched_worker(weft__sched_of(core), 0));
    weft__free(core);
}

static void fill(struct weft__local *l, const weft_local_set_config *c)
{
    struct weft__sched *s = &l->sched;
    struct weft__core *core = &s->core;
    core->ops = &core_ops;
    core->id = weft__runtime_id_take();
    core->process = weft__sys_process();
    core->home = weft__thread_here();
    (void)snprintf(core->name, sizeof core->name, "%s", c->name ? c->name : "local set");
    weft__a64_store_relaxed(&core->refs, 1);
    core->panics_shut_down = c->unhandled_panic == WEFT_UNHANDLED_PANIC_SHUTDOWN;
    core->budget = (uint16_t)c->budget;
    core->stack_bytes = c->stack_bytes;
    core->has_time = true;
    s->worker_count = 1;
    s->event_interval = 61; /* not looked at: ticks are counted */
    s->global_interval = 31;
    s->has_slot = true;
    s->shutdown_grace_ns = c->shutdown_grace_ns;
    s->seed = weft__random_here(); /* of a seeded runtime, where there is one */
    weft__lock_claim(&s->lock);
    weft__lock_claim(&s->drive_lock);
    weft__inject_init(&s->inject);
    weft__lanes_init(&s->lanes, false);
    weft__list_init(&s->drive_waiters);
    weft__clock_init(&core->clock, false);
    weft__timers_init(&s->outer_timers, weft__clock_now(&core->clock));
    weft__lock_init(&l->lock);
    weft__list_init(&l->drivers);
}

/* A task of a runtime with several threads, which may go on on any of them. */
static bool may_move(const struct weft__task *t)
{
    return t && t->kind <= WEFT__TASK_FUTURE && weft__sched_of(t->core)->is_multi &&
           !weft__task_is_pinned(t);
}

int weft_local_set_create(const weft_local_set_config *config, weft_local_set **ret_set)
{
    static const char call[] = "weft_local_set_create";
    weft_local_set_config defaults;
    if (ret_set == NULL)
        return weft__misuse(call, -EINVAL, "ret_set is NULL", WEFT__CALLER);
    if (config == NULL) {
        weft_local_set_config_init(&defaults);
        config = &defaults;
    }
    int rc = check_config(config, WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (may_move(weft__task_current()))
        return weft__misuse(call, -EPERM,
                            "the caller is a task of a multi_thread runtime, which has no thread "
                            "of its own",
                            WEFT__CALLER);
    rc = weft__runtime_prepare(call, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_local_set *set = weft__aligned_alloc(WEFT__CACHE_LINE, sizeof *set);
    if (set == NULL)
        return -ENOMEM;
    memset(set, 0, sizeof *set);
    struct weft__sched *s = &set->local.sched;
    fill(&set->local, config);
    rc = weft__slab_create(&s->core, free_core, &s->core.slab);
    if (rc < 0)
        goto err_free;
    rc = weft__worker_create(s, 0, false);
    if (rc == 0)
        set->guest = weft__thread_task_create(&s->core, WEFT__TASK_BODY);
    if (set->guest == NULL) {
        weft__core_unref(&s->core); /* frees the set */
        return -ENOMEM;
    }
    /* whom a dump asks */
    weft__a32_store_relaxed(&weft__sched_worker(s, 0)->thread_id, (uint32_t)weft__sys_thread_id());
    *ret_set = set;
    return 0;

err_free:
    weft__free(set);
    return rc;
}

/* ---- who drives ---- */

/* The task that drives: the caller's, or one that its thread waits as meanwhile. */
struct driver {
    struct weft__task *task;
    bool was_current, is_guest;
    struct weft__locals locals; /* of a guest */
};

/* 0, or -EPERM with a line in the log. */
static int check_driver(const char *call, const weft_local_set *set, const void *caller)
{
    struct weft__ctx *c = weft__ctx_get();
    struct weft__task *t = c->current;
    const struct weft__locals *l = t ? t->locals : &c->locals;
    const char *why = NULL;
    if (weft__core_is_ancestral(&set->local.sched.core))
        why = "this is a forked child";
    else if (set->local.sched.core.home != weft__thread_here())
        why = "the set is at home on another thread";
    else if (weft__local_is_ticking(&set->local))
        why = "the caller is inside a task of the set itself";
    else if (c->in_hook)
        why = "a hook must not wait";
    else if (t && t->kind == WEFT__TASK_FUTURE)
        why = "nothing may suspend inside a polled future's poll()";
    else if (l->no_wait_depth)
        why = "a wait inside WEFT_NO_WAIT";
    else if (may_move(t))
        why = "the caller is a task of a multi_thread runtime, which may go on on another thread";
    return why ? weft__misuse(call, -EPERM, why, caller) : 0;
}

/* After check_driver(). -ENOMEM, unless must_work: then the thread waits outside its runtime. */
static int driver_init(struct driver *d, weft_local_set *set, bool must_work)
{
    struct weft__ctx *c = weft__ctx_get();
    d->was_current = c->current != NULL;
    d->task = weft__wait_task(); /* NULL outside all runtimes, and in one of a parent's */
    if (d->task == NULL && c->core != NULL && !must_work && !weft__core_is_ancestral(c->core))
        return -ENOMEM;
    d->is_guest = d->task == NULL;
    if (d->is_guest) {
        d->task = set->guest;
        d->locals = (struct weft__locals){.bindings = c->locals.bindings};
        d->task->locals = &d->locals;
        weft__task_clear_notified(d->task); /* wakes from an earlier time */
    } else if (!d->was_current) {
        c->thread_task = NULL; /* ours until we give it back: the body may leave the runtime */
    }
    c->current = d->task;
    if (d->task->kind >= WEFT__TASK_BLOCKING && !set->holds_signal_stack)
        set->holds_signal_stack = weft__sigaltstack_hold(); /* or it is not named, no more */
    return 0;
}

/* Not after an unwinding, which only fibers have. */
static void driver_fini(struct driver *d)
{
    struct weft__ctx *c = weft__ctx_get();
    if (d->was_current)
        return;
    c->current = NULL;
    if (d->is_guest) {
        d->task->locals = NULL;
        return;
    }
    c->thread_task = d->task; /* nobody made another one: the thread was a task */
    if (c->core != d->task->core)
        weft__thread_task_drop(c); /* the body has left the runtime */
}

static void end_driving(void *arg)
{
    weft__local_end(arg);
}

enum purpose { TO_RUN, TO_WAIT, TO_DESTROY };

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

/* Runs the body on the calling task, which drives the set meanwhile. *ret_error: as in
 * weft__drive, negative. */
static int drive(weft_local_set *set, struct body *body, enum purpose purpose,
                 weft_panic_info **ret_panic, int *ret_error)
{
    struct driver driver;
    int rc = driver_init(&driver, set, purpose == TO_DESTROY);
    if (rc < 0)
        return rc;
    struct weft__driving d;
    /* When the task is unwound it runs with its other cleanups. */
    weft_cleanup ends = {0, end_driving, &d};
    weft__local_begin(&d, local_of(set), driver.task, purpose != TO_RUN);
    weft__cleanup_enter(&ends);
    bool can_unwind = driver.task->kind == WEFT__TASK_FIBER;
    *ret_panic =
        can_unwind ? weft__call_body(call_body, body) : weft__call_contained(call_body, body);
    weft__task_body_returned(driver.task); /* before it looks for more to do with what is shared */
    weft__cleanup_leave(&ends);
    *ret_error = -(int)weft__a32_load_relaxed(&d.drive.error);
    driver_fini(&driver);
    return 0;
}

/* Begin of a function that suspends, for callers that are tasks, and for others. */
static int begin(const char *call, const weft_local_set *set, const void *caller)
{
    int rc = check_driver(call, set, caller);
    if (rc == 0 && weft__ctx_get()->current) {
        rc = weft__wait_begin(call, caller);
        /* It may have yielded, and gone on elsewhere. */
        if (rc == 0)
            rc = check_driver(call, set, caller);
    }
    return rc;
}

static const weft_site run_until_site = {"weft_local_set_run_until", "weft_local_set_run_until", 0};

int weft_local_set_run_until(weft_local_set *set, weft_task_fn body, void *arg,
                             weft_outcome *ret_outcome)
{
    static const char call[] = "weft_local_set_run_until";
    if (set == NULL || body == NULL)
        return weft__misuse(call, -EINVAL, "the set or the body is NULL", WEFT__CALLER);
    int rc = begin(call, set, WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (is_shut(set))
        return -ESHUTDOWN;
    struct body b = {.fn = body, .arg = arg};
    weft_panic_info *panic;
    int error;
    rc = drive(set, &b, TO_RUN, &panic, &error);
    if (rc < 0)
        return rc;
    /* As in weft_block_on(): who drives shall not take that for an ordinary end. */
    if (panic == NULL && error == -ECANCELED)
        panic = weft__panic_create(
            &run_until_site, "\"%s\" was shut down because a task panicked and nobody joins it",
            set->local.sched.core.name);
    weft__outcome_give(ret_outcome, panic, false, b.value);
    return 0;
}

/* ---- the end of all tasks ---- */

struct end_future {
    weft_future future;
    struct weft__local *local;
};

/* The driver is woken by the tick that ends the last task (waits_for_end). */
static int end_poll(weft_future *f, weft_waker *waker)
{
    struct end_future *e = WEFT__CONTAINER_OF(f, struct end_future, future);
    const struct weft__drive *d = weft__task_of_waker(waker)->locals->drive;
    uint32_t error = weft__a32_load_relaxed(&d->error);
    if (error)
        return -(int)error; /* also inside a shield */
    return weft__sched_is_quiescent(&e->local->sched) ? 0 : WEFT_PENDING;
}

static void end_cancel(weft_future *f)
{
    (void)f;
}

static const weft_future_ops end_ops = {end_poll, end_cancel, "the end of a local set"};

static void *wait_for_end(void *arg)
{
    struct end_future e = {{&end_ops}, arg};
    return (void *)(intptr_t)weft__wait_for(&e.future);
}

int weft_local_set_wait(weft_local_set *set)
{
    static const char call[] = "weft_local_set_wait";
    if (set == NULL)
        return weft__misuse(call, -EINVAL, "the set is NULL", WEFT__CALLER);
    int rc = begin(call, set, WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct body b = {.fn = wait_for_end, .arg = local_of(set)};
    weft_panic_info *panic; /* nothing of the user's runs in this body */
    int error;
    rc = drive(set, &b, TO_WAIT, &panic, &error);
    if (rc == 0)
        rc = (int)(intptr_t)b.value;
    return rc == 0 && is_shut(set) ? -ESHUTDOWN : rc;
}

/* As a shutdown: abort, and after the grace unwind. Aborts and deadlines of the driver itself wait
 * until it is over. */
static void *end_all(void *arg)
{
    struct weft__local *l = arg;
    struct weft__task *self = weft__task_current();
    /* By the clock that ends it first: a paused one stands still while a task runs, and jumps when
     * none can. */
    uint64_t grace_ns = l->sched.shutdown_grace_ns;
    uint64_t ends_ns = weft__add_sat(weft__clock_now(&self->core->clock), grace_ns);
    uint64_t system_ends_ns = weft__add_sat(weft__sys_now_ns(), grace_ns);
    weft__aptr_store_relaxed(&self->waiting_for, (void *)(uintptr_t)&end_ops);
    weft__local_abort_all(l, WEFT__TASK_ABORT);
    while (!weft__sched_is_quiescent(&l->sched) &&
           weft__a32_load_relaxed(&self->locals->drive->error) == 0) {
        weft__task_clear_notified(self);
        weft__local_park_until(self, ends_ns);
        if (weft__clock_now(&self->core->clock) < ends_ns && weft__sys_now_ns() < system_ends_ns)
            continue;
        ends_ns = system_ends_ns = WEFT_NEVER;
        weft__local_abort_all(l, WEFT__TASK_ABORT | WEFT__TASK_UNWIND);
    }
    weft__aptr_store_relaxed(&self->waiting_for, NULL);
    return NULL;
}

static void tear_down(weft_local_set *set)
{
    struct weft__local *l = &set->local;
    struct weft__core *core = &l->sched.core;
    struct weft__worker *w = weft__sched_worker(&l->sched, 0);
    weft__a32_store_release(&core->phase, WEFT__PHASE_DOWN);
    weft__timers_close(&w->timers);
    weft__thread_task_destroy(set->guest);
    if (set->holds_signal_stack)
        weft__sigaltstack_release();
    weft__stack_cache_fini(&w->stacks);
    weft__slab_flush(core->slab, &w->tasks);
    (void)weft__inject_close(&l->sched.inject);
    weft__core_unref(core);
}

int weft_local_set_destroy(weft_local_set *set)
{
    static const char call[] = "weft_local_set_destroy";
    if (set == NULL)
        return 0;
    struct weft__local *l = local_of(set);
    int rc = check_driver(call, set, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft__lock_acquire(&l->lock);
    bool is_driven = !weft__list_is_empty(&l->drivers);
    weft__lock_release(&l->lock);
    if (is_driven || weft__a32_load_relaxed(&l->sched.outside) != 0)
        return weft__misuse(call, -EPERM,
                            is_driven ? "the set is being driven" : "the set is entered",
                            WEFT__CALLER);
    struct body b = {.fn = end_all, .arg = l};
    weft_panic_info *panic; /* nothing of the user's runs in this body */
    int error;
    rc = drive(set, &b, TO_DESTROY, &panic, &error);
    if (rc == 0)
        rc = error;
    if (rc == 0)
        tear_down(set);
    return rc;
}

/* ---- around it ---- */

int weft_local_set_enter(weft_local_set *set, weft_enter_guard *g)
{
    static const char call[] = "weft_local_set_enter";
    if (set == NULL || g == NULL)
        return weft__misuse(call, -EINVAL, "the set or the guard is NULL", WEFT__CALLER);
    struct weft__ctx *c = weft__ctx_get();
    struct weft__core *core = &set->local.sched.core;
    if (c->current != NULL)
        return weft__misuse(call, -EPERM, "the caller is a task; use weft_spawn_local_on()",
                            WEFT__CALLER);
    if (weft__core_is_ancestral(core))
        return weft__misuse(call, -EPERM, "this is a forked child", WEFT__CALLER);
    if (core->home != weft__thread_here())
        return weft__misuse(call, -EPERM, "the set is at home on another thread", WEFT__CALLER);
    if (weft__guard_is_entered(c, g))
        return weft__misuse(call, -EINVAL, "the guard is entered already", WEFT__CALLER);
    weft__guard_enter(c, g, core, c->core, core);
    return 0;
}

int64_t weft_local_set_alive(const weft_local_set *set)
{
    static const char call[] = "weft_local_set_alive";
    if (set == NULL)
        return weft__misuse(call, -EINVAL, "the set is NULL", WEFT__CALLER);
    if (set->local.sched.core.home != weft__thread_here())
        return weft__misuse(call, -EPERM, "the set is at home on another thread", WEFT__CALLER);
    return (int64_t)weft__sched_alive((struct weft__sched *)(uintptr_t)&set->local.sched);
}

int weft_local_set_dump(weft_local_set *set, int fd)
{
    if (set == NULL)
        return weft__misuse("weft_local_set_dump", -EINVAL, "the set is NULL", WEFT__CALLER);
    if (weft__core_is_ancestral(&set->local.sched.core))
        return weft__misuse("weft_local_set_dump", -EPERM, "this is a forked child", WEFT__CALLER);
    return (int)weft__sched_dump(&set->local.sched, fd, NULL);
}
