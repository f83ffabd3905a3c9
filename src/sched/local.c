#include "sched/local.h"

#include "task/panic.h"
#include "task/slab.h"
#include "task/timeout.h"
#include "task/waitq.h"

#include <errno.h>

/* Runs of a tick. Then the driver looks at what it waits for itself, and the others of its runtime
 * have a turn. As many as a worker does between two looks at its driver. */
#define TICK_RUNS 61

static struct weft__worker *worker_of(const struct weft__local *l)
{
    return weft__aptr_load_relaxed(&l->sched.worker[0]); /* made with the set */
}

static struct weft__driving *innermost(const struct weft__task *t)
{
    return (struct weft__driving *)t->locals->drive;
}

static struct weft__driving *outer(const struct weft__driving *d)
{
    return (struct weft__driving *)d->drive.outer;
}

/* ---- waking the driver ---- */

static void ring(struct weft__local *l)
{
    /* seq_cst, after what the driver is to see was stored, seq_cst too; pairs with
     * start_listening(). */
    if (weft__aptr_load_seq_cst(&l->sleeper) == NULL)
        return; /* nobody sleeps: the driver looks at the queue before it does */
    /* acquire pairs with the swap in start_listening(): the task's fields are readable.
     * mutation: the models make the drivers before the threads start. */
    struct weft__task *t = weft__aptr_swap_acquire(&l->sleeper, NULL);
    if (t)
        weft__waker_wake_release(weft__task_waker(t));
}

/* From now on ring() wakes self. */
static void start_listening(struct weft__local *l, struct weft__task *self)
{
    weft__task_ref(self);
    /* seq_cst: announced before the look at the queue; and a release, see ring(). */
    struct weft__task *before = weft__aptr_swap_seq_cst(&l->sleeper, self);
    if (before)
        weft__task_unref(before); /* another driver, which we stand in for */
}

static void stop_listening(struct weft__local *l, struct weft__task *self)
{
    void *expected = self;
    /* Not there: it was taken, or another driver has put itself there. relaxed: if it is, it is our
     * own. */
    if (weft__aptr_cas_relaxed(&l->sleeper, &expected, NULL))
        weft__task_unref(self);
}

void weft__local_enqueue(struct weft__core *core, struct weft__task *task)
{
    struct weft__ctx *c = weft__ctx_now();
    if (c && c->worker && &c->worker->sched->core == core) {
        weft__sched_enqueue(core, task);
        return;
    }
    /* As in weft__sched_enqueue: once queued the task may end, and the set with it. */
    weft__core_ref(core);
    weft__sched_enqueue(core, task);
    ring(weft__local_of(core));
    weft__core_unref(core);
}

struct weft__timers *weft__local_timers_here(struct weft__core *core)
{
    return &worker_of(weft__local_of(core))->timers;
}

void weft__local_timers_rearmed(struct weft__core *core, struct weft__timers *ts)
{
    (void)ts; /* the only wheel of the set */
    ring(weft__local_of(core));
}

/* Under the lock; the caller flushes after unlocking. */
static void claim_drivers(struct weft__local *l, struct weft__wake_list *list,
                          bool only_end_waiters)
{
    for (struct weft__node *n = l->drivers.next; n != &l->drivers; n = n->next) {
        struct weft__driving *d = WEFT__CONTAINER_OF(n, struct weft__driving, node);
        if (d->waits_for_end || !only_end_waiters)
            weft__wake_list_claim(list, weft__task_waker(d->task));
    }
}

static void wake_drivers(struct weft__local *l, bool only_end_waiters)
{
    struct weft__wake_list list = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&l->lock);
    claim_drivers(l, &list, only_end_waiters);
    weft__lock_release(&l->lock);
    weft__wake_list_flush(&list);
}

static void wake_end_waiters(struct weft__local *l)
{
    /* relaxed: those that are there came on this thread */
    if (weft__a32_load_relaxed(&l->end_waiters) > 0 && weft__sched_is_quiescent(&l->sched))
        wake_drivers(l, true);
}

/* ---- ticks ---- */

bool weft__local_is_ticking(const struct weft__local *l)
{
    return worker_of(l)->ctx != NULL;
}

/* The runtime of a task that drives; NULL: none. */
static struct weft__core *leader_of(const struct weft__local *l, const struct weft__task *task)
{
    return task->core == &l->sched.core ? NULL : task->core;
}

/* Under the lock. */
static void leave_clock(struct weft__local *l)
{
    struct weft__clock *before = weft__aptr_load_relaxed(&l->follows);
    if (before)
        weft__clock_leave(&l->sched.core.clock, before);
    weft__aptr_store_relaxed(&l->follows, NULL);
}

struct shift {
    uint64_t from_ns, to_ns;
};

/* The scopes that a task of the set stands in. At home, so that none of them runs. */
static void shift_scopes(struct weft__task *t, void *arg)
{
    const struct shift *shift = arg;
    /* relaxed: tasks of a set run, and end, on this thread. Of one that has ended, or of a future,
     * which keeps none between its polls, the locals are another's by now. */
    uint64_t state = weft__a64_load_relaxed(&t->state);
    if (t->kind == WEFT__TASK_FIBER && !(state & WEFT__TASK_DONE) && t->locals != NULL)
        weft__timeouts_shift(t->locals, shift->from_ns, shift->to_ns);
}

/* All that waits in the set goes by another time from here on; what was left is left still. So it
 * does in the sets that its tasks drive: they are at home here too, and nobody else begins or ends
 * to follow it. */
static void shift_times(struct weft__local *l, uint64_t from_ns, uint64_t to_ns)
{
    struct shift shift = {from_ns, to_ns};
    weft__timers_shift(&worker_of(l)->timers, from_ns, to_ns);
    weft__slab_walk(l->sched.core.slab, shift_scopes, &shift);
    for (struct weft__clock *c = l->sched.core.clock.followers; c; c = c->next)
        shift_times(WEFT__CONTAINER_OF(c, struct weft__local, sched.core.clock), from_ns, to_ns);
}

/* The clock of a set is that of the runtime in which it is driven, the system's outside of any.
 * `task` drives it. */
static void follow_clock(struct weft__local *l, struct weft__task *task)
{
    struct weft__core *leader = leader_of(l, task);
    uint64_t id = leader ? leader->id : 0;
    /* relaxed: who makes it NULL is no driver that the set follows any more */
    if (weft__aptr_load_relaxed(&l->follows) == (leader ? &leader->clock : NULL) &&
        id == l->clock_of)
        return;
    struct weft__clock *clock = &l->sched.core.clock;
    bool was_systems = weft__clock_is_systems(clock);
    uint64_t before_ns = weft__clock_now(clock);
    weft__lock_acquire(&l->lock);
    leave_clock(l);
    weft__clock_follow(clock, leader ? &leader->clock : NULL);
    weft__aptr_store_relaxed(&l->follows, leader ? &leader->clock : NULL);
    weft__lock_release(&l->lock);
    bool is_systems = weft__clock_is_systems(clock);
    /* Of one runtime time only goes on. That of another one is another time, unless both have that
     * of the system. */
    if (id != l->clock_of && !(was_systems && is_systems))
        shift_times(l, before_ns, weft__clock_now(clock));
    l->clock_of = id;
}

/* Under the lock: d has left. The clock that it made the set follow may be gone afterwards. */
static void stop_following(struct weft__local *l, const struct weft__driving *d)
{
    if (weft__aptr_load_relaxed(&l->follows) != &d->task->core->clock)
        return;
    for (struct weft__node *n = l->drivers.next; n != &l->drivers; n = n->next)
        if (WEFT__CONTAINER_OF(n, struct weft__driving, node)->task->core == d->task->core)
            return;
    leave_clock(l);
}

/* As in weft__worker_look(). */
static void expire(struct weft__worker *w)
{
    struct weft__clock *clock = &w->sched->core.clock;
    uint64_t now_ns = weft__clock_now(clock);
    w->looked_at = weft__coarse(now_ns);
    w->timers.looked_ns = now_ns;
    if (weft__a64_load_relaxed(&w->timers.next_ns) == WEFT_NEVER)
        return;
    if (weft__clock_is_paused(clock))
        (void)weft__sched_expire_paused(w, now_ns);
    else
        (void)weft__timers_expire(&w->timers, now_ns);
}

static uint64_t next_timer_ns(struct weft__worker *w)
{
    /* On a clock that jumps it must be exact; else a time too early costs a look. seq_cst, after
     * start_listening(): who arms a timer stores, then rings. */
    if (weft__clock_is_paused(&w->sched->core.clock))
        return weft__timers_earliest(&w->timers);
    /* mutation: in no model a timer is armed from elsewhere */
    return weft__a64_load_seq_cst(&w->timers.next_ns);
}

/* True when there may be more to run. */
static bool tick(struct weft__driving *d)
{
    struct weft__local *l = d->set;
    struct weft__worker *w = worker_of(l);
    struct weft__nest nest;
    follow_clock(l, d->task);
    weft__worker_enter(w, &nest, &d->here);
    expire(w);
    bool more = weft__worker_run(w, TICK_RUNS);
    weft__worker_leave(w, &nest);
    wake_end_waiters(l);
    return more;
}

static inline bool is_home(const struct weft__driving *d)
{
    return d->drive.core->home == weft__thread_here();
}

/* A driver that went on on another thread must not run what is bound to the first. Sets that it has
 * begun to drive on that other thread are at home there. */
static WEFT__COLD void has_moved(struct weft__task *self)
{
    bool is_news = false;
    for (struct weft__driving *d = innermost(self); d; d = outer(d)) {
        if (is_home(d) || weft__a32_load_relaxed(&d->drive.error) == EPERM)
            continue;
        is_news = true;
        weft__a32_store_relaxed(&d->drive.error, EPERM);
        wake_drivers(d->set, false); /* whoever else there is */
    }
    if (is_news)
        (void)weft__misuse_at("weft_local_set_run_until", -EPERM,
                              "the task that drives a local set has resumed on another thread: of "
                              "several that block on a current_thread runtime one drives it at a "
                              "time",
                              self->site);
}

/* At home, and not in a tick that another driver has begun already: a task of this set drives that
 * of d->task. It runs the set then, and leaves it to the others when it ends. */
static bool may_tick(const struct weft__driving *d)
{
    return WEFT__LIKELY(is_home(d) && !weft__local_is_ticking(d->set));
}

/* True when there may be more to run. */
static bool tick_all(struct weft__task *self)
{
    bool more = false, has_left = false;
    for (struct weft__driving *d = innermost(self); d; d = outer(d)) {
        if (may_tick(d))
            more |= tick(d);
        else
            has_left |= !is_home(d);
    }
    if (WEFT__UNLIKELY(has_left))
        has_moved(self);
    return more;
}

/* ---- how a driver waits ---- */

static bool is_thread(const struct weft__task *t)
{
    return t->kind >= WEFT__TASK_BLOCKING;
}

static bool is_notified(const struct weft__task *t)
{
    /* relaxed: who goes on because of it clears it with acquire */
    return weft__a64_load_relaxed(&t->state) & WEFT__TASK_NOTIFIED;
}

/* The wait of self must end, whatever it waits for: the set is shut, or was left behind. A shield
 * holds that back, except for a wait for the set itself. */
static bool must_end(const struct weft__task *self)
{
    const struct weft__driving *d = innermost(self);
    return weft__a32_load_relaxed(&d->drive.error) != 0 &&
           (self->locals->shield_depth == 0 || d->waits_for_end);
}

/* deadline_ns is by the clock of the runtime of self. */
static void park_plainly(struct weft__task *self, uint64_t deadline_ns)
{
    struct weft__clock *clock = &self->core->clock;
    if (is_thread(self) && weft__clock_is_systems(clock)) {
        weft__task_park_thread_until(self, deadline_ns);
        return;
    }
    struct weft__timer timer;
    weft__timer_init(&timer);
    if (deadline_ns != WEFT_NEVER)
        weft__timer_arm_here(self->core, &timer, deadline_ns, weft__task_waker(self));
    if (is_thread(self))
        weft__task_park_thread(self);
    else
        self->core->ops->park(self);
    weft__timer_disarm(&timer);
}

/* By a driver whose sets have nothing to run. Those that it has moved away from it drives no
 * more. False: there is something by now, or a timer is due. */
static bool park_listening(struct weft__task *self, uint64_t deadline_ns)
{
    struct weft__clock *clock = &self->core->clock; /* that of its sets, too */
    bool has_work = false;
    for (struct weft__driving *d = innermost(self); d; d = outer(d))
        if (may_tick(d))
            start_listening(d->set, self);
    for (struct weft__driving *d = innermost(self); d; d = outer(d)) {
        if (!may_tick(d))
            continue;
        has_work |= weft__sched_has_work(&d->set->sched);
        uint64_t next_ns = next_timer_ns(worker_of(d->set));
        if (next_ns < deadline_ns)
            deadline_ns = next_ns;
    }
    bool parks = !has_work && (deadline_ns == WEFT_NEVER || deadline_ns > weft__clock_now(clock));
    if (parks)
        park_plainly(self, deadline_ns);
    for (struct weft__driving *d = innermost(self); d; d = outer(d))
        stop_listening(d->set, self);
    return parks;
}

/* The others of the driver's runtime have a turn, sockets and timers included. */
static void give_turn(struct weft__task *self)
{
    if (is_thread(self))
        return;
    weft__ctx_now()->worker->until_events = 0;
    self->core->ops->yield(self);
}

/* It does not leave its worker, as others that park do, as long as its budget lasts. */
static void go_on(struct weft__task *self)
{
    if (self->budget > 1)
        self->budget--;
    else
        give_turn(self);
}

void weft__local_park_until(struct weft__task *self, uint64_t deadline_ns)
{
    while (!must_end(self)) {
        /* At least once: who wakes self all the time shall not keep the set from running. */
        bool more = tick_all(self);
        if (must_end(self))
            return;
        if (is_notified(self)) {
            go_on(self); /* what it waits for may have come */
            return;
        }
        if (!more) {
            if (!park_listening(self, deadline_ns))
                go_on(self); /* what is due each time it looks keeps the others waiting no longer */
            return;
        }
        give_turn(self);
        if (deadline_ns != WEFT_NEVER)
            return; /* the caller looks at the time */
    }
}

static void drive_park(struct weft__task *self)
{
    weft__local_park_until(self, WEFT_NEVER);
}

static void drive_yield(struct weft__task *self)
{
    (void)tick_all(self);
    if (is_thread(self))
        self->budget = self->core->budget;
    else
        self->core->ops->yield(self);
}

/* ---- driving ---- */

void weft__local_begin(struct weft__driving *d, struct weft__local *set, struct weft__task *task,
                       bool waits_for_end)
{
    d->drive = (struct weft__drive){.outer = task->locals->drive,
                                    .core = &set->sched.core,
                                    .park = drive_park,
                                    .yield = drive_yield};
    d->set = set;
    d->task = task;
    d->waits_for_end = waits_for_end;
    if (is_thread(task))
        weft__fiber_adopt_thread(&d->here);
    else
        weft__fiber_adopt_fiber(&d->here, task->locals->stack);
    weft__core_ref(&set->sched.core);
    /* Its tasks may be woken from anywhere, which the deadlock check of the driver's runtime does
     * not see. relaxed: it looks for what lasts. */
    weft__a32_add_relaxed(&weft__sched_of(task->core)->drives, 1);
    weft__lock_acquire(&set->lock);
    weft__list_push_back(&set->drivers, &d->node);
    weft__a32_add_relaxed(&set->end_waiters, waits_for_end);
    weft__lock_release(&set->lock);
    task->locals->drive = &d->drive;
    follow_clock(set, task);
    if (is_thread(task))
        task->budget = task->core->budget;
}

void weft__local_end(struct weft__driving *d)
{
    struct weft__local *set = d->set;
    struct weft__wake_list list = WEFT__WAKE_LIST_INIT;
    d->task->locals->drive = d->drive.outer;
    if (may_tick(d)) {
        struct weft__nest nest;
        weft__worker_enter(worker_of(set), &nest, &d->here);
        weft__worker_dismiss_spare(worker_of(set));
        weft__worker_leave(worker_of(set), &nest);
    }
    weft__lock_acquire(&set->lock);
    weft__list_remove(&d->node);
    stop_following(set, d);
    weft__a32_sub_relaxed(&set->end_waiters, d->waits_for_end);
    /* One would do, but which of them are about to go too is not known. There is hardly ever
     * another. */
    claim_drivers(set, &list, false);
    weft__lock_release(&set->lock);
    weft__wake_list_flush(&list);
    weft__a32_sub_relaxed(&weft__sched_of(d->task->core)->drives, 1);
    weft__core_unref(&set->sched.core);
}

/* ---- ending ---- */

static void abort_one(struct weft__task *t, void *arg)
{
    const uint64_t *bits = arg;
    if (t->kind > WEFT__TASK_FUTURE)
        return; /* a thread that drives the set */
    if (weft__task_set_aborted(t, *bits))
        weft__task_schedule(t);
}

void weft__local_abort_all(struct weft__local *l, uint64_t bits)
{
    /* relaxed: tasks are admitted at home, where this is */
    weft__a32_store_relaxed(&l->sched.core.phase, WEFT__PHASE_STOPPING);
    weft__slab_walk(l->sched.core.slab, abort_one, &bits);
}

void weft__local_unhandled_panic(struct weft__core *core)
{
    struct weft__local *l = weft__local_of(core);
    struct weft__wake_list list = WEFT__WAKE_LIST_INIT;
    /* A handle may be given up on any thread, and the set may be ending meanwhile at home: from
     * elsewhere the panic is reported, no more. */
    if (core->home != weft__thread_here() || weft__a32_swap_relaxed(&core->is_panic_shut, 1) != 0)
        return;
    weft__log(WEFT_LOG_ERROR, "\"%s\" shuts down because a task panicked and nobody joins it",
              core->name);
    weft__local_abort_all(l, WEFT__TASK_ABORT);
    weft__lock_acquire(&l->lock);
    for (struct weft__node *n = l->drivers.next; n != &l->drivers; n = n->next) {
        struct weft__driving *d = WEFT__CONTAINER_OF(n, struct weft__driving, node);
        uint32_t none = 0;
        if (!d->waits_for_end)
            (void)weft__a32_cas_relaxed(&d->drive.error, &none, ECANCELED);
    }
    claim_drivers(l, &list, false);
    weft__lock_release(&l->lock);
    weft__wake_list_flush(&list);
}
