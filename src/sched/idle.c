/*
 * Sleeping and waking.
 *
 * A worker without work announces that it sleeps, looks at every source once more, and sleeps: one
 * of them in the driver, the others on a futex each, all of them until the next timer of their own
 * wheel. Who makes work visible looks for sleepers afterwards. Both store first and look then, all
 * four seq_cst: one sees the other. A claimer exchanges `sleep` and owes exactly one wake-up; it
 * counts the worker as a searcher already, so that a burst of work wakes one worker, which wakes
 * the next when it finds something.
 *
 * Before it announces that, a worker may linger, when tasks are woken from outside: by blocking
 * jobs, by threads. It counts as a searcher meanwhile, so nobody wakes another one for what it is
 * about to find.
 *
 * idle_count and searchers are looked at by who has made work visible, and only what makes him do
 * nothing needs an order. That a count has grown to 1 (idle_count) or fallen to 0 (searchers) is
 * seq_cst, and who makes it so looks for work afterwards. The other way round the count may be as
 * old as it likes: he looks for a sleeper in vain, or wakes one more than was needed.
 */
#include "sched/sched.h"

#include <errno.h>

#define EVENTS_MAX 256
/* looked for even when the queue is nearly full: sockets are served whatever else runs */
#define EVENTS_MIN 16

static void wake_up(struct weft__worker *w, uint32_t slept)
{
    if (slept == WEFT__SLEEPS_IN_DRIVER) {
        weft__driver_wake(w->sched->core.driver);
        return;
    }
    /* mutation: the permit passes on nothing but itself; work is found through the queues, which
     * have orders of their own */
    weft__a32_store_release(&w->permit, 1);
    weft__sys_futex_wake(&w->permit, 1);
}

/* Takes w out of its sleep, if it sleeps. `as` is what it finds: CLAIMED, or CLAIMED_TO_SEARCH when
 * the claimer has counted it among the searchers already. */
static bool claim(struct weft__worker *w, enum weft__sleep as)
{
    uint32_t slept = weft__a32_load_seq_cst(&w->sleep);
    if (slept != WEFT__SLEEPS_ON_FUTEX && slept != WEFT__SLEEPS_IN_DRIVER)
        return false;
    /* acquire: w counted itself idle before it stored `sleep`, so neither count falls below zero.
     * release pairs with the swap in wake_self(): it is counted as a searcher before it uncounts
     * itself. mutation: in the explorer counts change in the order in which they are carried out */
    if (!weft__a32_cas_acq_rel(&w->sleep, &slept, as))
        return false;
    weft__a32_sub_relaxed(&w->sched->idle_count, 1); /* see the top */
    wake_up(w, slept);
    return true;
}

static bool claim_any(struct weft__sched *s)
{
    uint32_t count = weft__sched_worker_high(s);
    /* On a futex first: who sleeps in the driver is there to be found by events. */
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < count; i++) {
            struct weft__worker *w = weft__sched_worker(s, i);
            /* relaxed: no more than a preference, the second pass asks all of them */
            if (pass == 0 && weft__a32_load_relaxed(&w->sleep) != WEFT__SLEEPS_ON_FUTEX)
                continue;
            if (claim(w, WEFT__CLAIMED_TO_SEARCH))
                return true;
        }
    return false;
}

/* Not idle_count: a worker that counted itself and has announced nothing yet will look for work
 * when it has. Going round until it gets there would be a spin on a thread that may not have a
 * CPU. */
static bool is_anyone_asleep(struct weft__sched *s)
{
    uint32_t count = weft__sched_worker_high(s);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t sleep = weft__a32_load_seq_cst(&weft__sched_worker(s, i)->sleep);
        if (sleep == WEFT__SLEEPS_ON_FUTEX || sleep == WEFT__SLEEPS_IN_DRIVER)
            return true;
    }
    return false;
}

bool weft__sched_claim_one(struct weft__sched *s)
{
    for (;;) {
        /* Counted before the claim: the claimed worker may be running, and uncount itself, before
         * we get to it. relaxed: see the top. */
        weft__a32_add_relaxed(&s->searchers, 1);
        if (claim_any(s))
            return true;
        /* Who pushed meanwhile saw a searcher that there never was. seq_cst: either he sees it gone
         * or we see what he pushed. */
        if (weft__a32_sub_seq_cst(&s->searchers, 1) != 1 || !weft__sched_has_work(s) ||
            !is_anyone_asleep(s))
            return false;
    }
}

void weft__sched_wake_one(struct weft__sched *s)
{
    if (weft__a32_load_seq_cst(&s->idle_count) == 0)
        return;
    if (weft__a32_load_seq_cst(&s->searchers) != 0)
        return; /* it will find the work, or look once more after announcing that it sleeps */
    (void)weft__sched_claim_one(s);
}

void weft__sched_wake_worker(struct weft__worker *w)
{
    if (claim(w, WEFT__CLAIMED))
        return;
    /* The load is seq_cst: be_dormant() stores the word, then looks whether anything is pinned to
     * it, or whether to stop. The swap only makes one of several wake it. */
    if (weft__a32_load_seq_cst(&w->is_dormant) && weft__a32_swap_relaxed(&w->is_dormant, 0))
        weft__sys_futex_wake(&w->is_dormant, 1);
}

void weft__sched_wake_all(struct weft__sched *s)
{
    uint32_t count = weft__sched_worker_high(s);
    for (uint32_t i = 0; i < count; i++)
        weft__sched_wake_worker(weft__sched_worker(s, i));
}

void weft__sched_wake_extras(struct weft__sched *s)
{
    uint32_t count = weft__sched_worker_high(s);
    for (uint32_t i = s->worker_count; i < count; i++)
        (void)claim(weft__sched_worker(s, i), WEFT__CLAIMED);
}

void weft__sched_timers_rearmed(struct weft__core *core, struct weft__timers *ts)
{
    struct weft__sched *s = weft__sched_of(core);
    if (ts != &s->outer_timers)
        return; /* a worker's own wheel, armed by the worker: it is awake */
    if (core->driver)
        weft__driver_wake(core->driver);
    else
        (void)weft__sched_claim_one(s);
}

static bool try_poll_driver(struct weft__worker *w, uint64_t timeout_ns, int *ret_events)
{
    struct weft__sched *s = w->sched;
    unsigned room = WEFT__RUNQ_CAP - weft__runq_len(&w->runq);
    int max = room < EVENTS_MIN ? EVENTS_MIN : room > EVENTS_MAX ? EVENTS_MAX : (int)room;
    *ret_events = weft__driver_poll(s->core.driver, timeout_ns, max);
    return *ret_events > 0;
}

static unsigned expire(struct weft__worker *w)
{
    struct weft__sched *s = w->sched;
    uint64_t now_ns = weft__clock_now(&s->core.clock);
    w->looked_at = weft__coarse(now_ns);
    w->timers.looked_ns = now_ns;
    if (weft__clock_is_paused(&s->core.clock))
        return weft__sched_expire_paused(w, now_ns);
    unsigned woken = weft__timers_expire(&w->timers, now_ns);
    return woken + weft__timers_expire(&s->outer_timers, now_ns);
}

bool weft__worker_look(struct weft__worker *w)
{
    struct weft__sched *s = w->sched;
    weft__a64_store_relaxed(&w->looks, weft__a64_load_relaxed(&w->looks) + 1);
    unsigned woken = expire(w);
    /* The events of more than fits the queue stay in the kernel, which hands them out in turn: so a
     * thousand busy connections share one worker evenly, where a queue that overflows would not. */
    /* acquire pairs with the store of who sat there before: what the driver keeps for who polls */
    if (s->core.driver && weft__a32_load_relaxed(&s->polling) == 0 &&
        weft__a32_swap_acquire(&s->polling, 1) == 0) {
        int events;
        if (try_poll_driver(w, 0, &events))
            woken++;
        /* This worker is awake: no need to look for sleepers, unless it goes out of service.
         * seq_cst for that: see be_dormant(). mutation: check_quiescent() in between, there and by
         * the sleeper, would do. */
        weft__a32_store_seq_cst(&s->polling, 0);
    }
    return woken > 0;
}

bool weft__sched_has_work(struct weft__sched *s)
{
    if (!weft__inject_is_empty_seq_cst(&s->inject) || !weft__lanes_are_empty_seq_cst(&s->lanes))
        return true;
    uint32_t count = weft__sched_worker_high(s);
    for (uint32_t i = 0; i < count; i++) {
        struct weft__worker *w = weft__sched_worker(s, i);
        bool is_stuck = weft__a32_load_seq_cst(&w->slot_is_open);
        unsigned len = weft__runq_len_seq_cst(&w->runq);
        if (len >= WEFT__WAKE_LEN || (is_stuck && len > 0))
            return true;
        /* relaxed: what the worker puts there now is for the monitor's next round to see */
        if (is_stuck && weft__aptr_load_relaxed(&w->slot))
            return true;
    }
    return false;
}

/* After announcing: is there anything for us after all? */
static bool has_work(struct weft__worker *w)
{
    return weft__sched_has_work(w->sched) || weft__runq_len(&w->runq) != 0 ||
           weft__aptr_load_relaxed(&w->slot) != NULL || /* nobody else puts anything into these */
           !weft__lanes_are_empty_seq_cst(&w->pinned);
}

/* Sleeps no longer: by itself, or because somebody claimed it. */
static void wake_self(struct weft__worker *w, enum weft__sleep how)
{
    struct weft__sched *s = w->sched;
    /* seq_cst: awake first, then the look at the monitor; see look_at() there */
    uint32_t found = weft__a32_swap_seq_cst(&w->sleep, WEFT__AWAKE);
    if (found == (uint32_t)how) {
        weft__a32_sub_relaxed(&s->idle_count, 1); /* see the top */
        return;
    }
    /* Claimed: on the futex exactly one permit is owed to us. In the driver it is a wake of the
     * driver, which at worst makes the next poll return for nothing. */
    if (how == WEFT__SLEEPS_ON_FUTEX) {
        /* mutation: as in wake_up */
        while (weft__a32_load_acquire(&w->permit) == 0)
            (void)weft__sys_futex_wait(&w->permit, 0, WEFT_NEVER);
        weft__a32_store_relaxed(&w->permit, 0);
    }
    if (found == WEFT__CLAIMED_TO_SEARCH)
        w->is_searching = true;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* current_thread has no monitor: when nothing is armed, the first sleep after a run lasts 100 ms at
 * most, and the second begins with a look for a deadlock. */
static uint64_t quiet_until(struct weft__worker *w)
{
    struct weft__sched *s = w->sched;
    uint64_t tick = weft__a64_load_relaxed(&w->tick);
    if (!s->detects_deadlock || weft__a64_load_relaxed(&w->timers.next_ns) != WEFT_NEVER)
        return WEFT_NEVER;
    if (tick != w->quiet_tick) {
        w->quiet_tick = tick;
        return weft__sys_now_ns() + 100 * WEFT_MS;
    }
    weft__sched_check_deadlock(s);
    /* Its report takes time, and holds the tasks that it shows: what was woken meanwhile is in our
     * own queue, for which nobody wakes us. */
    return has_work(w) ? 0 : WEFT_NEVER;
}

/* In the driver, or on the futex, until woken or until the next timer. Any return: look around. */
static void wait_in_kernel(struct weft__worker *w, bool polls)
{
    struct weft__sched *s = w->sched;
    weft__a64_store_relaxed(&w->parks, weft__a64_load_relaxed(&w->parks) + 1);
    /* relaxed: timers are put into this wheel by this thread alone */
    uint64_t timer_ns = weft__a64_load_relaxed(&w->timers.next_ns);
    /* Timers of threads that are no workers, and of extra workers: whoever polls sees to them.
     * Without a driver worker 0 does, and extra workers, which stand in for it. */
    if (polls || (s->core.driver == NULL && (w->index == 0 || w->is_extra)))
        timer_ns = min_u64(timer_ns, weft__a64_load_seq_cst(&s->outer_timers.next_ns));
    uint64_t until_ns = min_u64(w->wake_at_ns, weft__clock_system_time(&s->core.clock, timer_ns));
    if (!s->is_multi)
        until_ns = min_u64(until_ns, quiet_until(w));
    if (!polls) {
        (void)weft__sys_futex_wait(&w->permit, 0, until_ns);
        return;
    }
    uint64_t now_ns = until_ns == WEFT_NEVER ? 0 : weft__sys_now_ns();
    uint64_t wait_ns = until_ns == WEFT_NEVER ? WEFT_NEVER
                       : until_ns > now_ns    ? until_ns - now_ns
                                              : 0;
    int events;
    (void)try_poll_driver(w, wait_ns, &events);
}

/* The clock is paused: instead of sleeping until the next timer it jumps there, unless an event has
 * come. False: nothing to jump to. */
static bool jump(struct weft__worker *w, bool polls)
{
    uint64_t to_ns = weft__sched_next_jump(w);
    int events;
    if (to_ns == WEFT_NEVER)
        return false;
    if (!polls || !try_poll_driver(w, 0, &events))
        weft__clock_move(&w->sched->core.clock, to_ns);
    return true;
}

/* ---- lingering ---- */

/* Looks at the global queue alone between looks at everything: those at other workers take lines
 * from them. */
#define LOOKS_FAR 16

struct lookout {
    struct weft__worker *worker;
    bool (*should_stop)(void *arg);
    void *arg;
    unsigned looks;
};

static bool has_come(void *arg)
{
    struct lookout *l = arg;
    if (weft__inject_len(&l->worker->sched->inject) != 0)
        return true;
    return l->looks++ % LOOKS_FAR == 0 &&
           (has_work(l->worker) || l->should_stop(l->arg) || weft__worker_is_surplus(l->worker));
}

/* Whether a timer would be late if w lingered. It has looked at the clock a moment ago. */
static bool is_due_soon(const struct weft__worker *w, const struct weft__timers *ts)
{
    return weft__a64_load_relaxed(&ts->next_ns) <=
           weft__add_sat(w->timers.looked_ns, WEFT__LINGER_NS);
}

/* Whether a moment may be worth it: tasks have been woken from outside since the last time, and may
 * be again; and a processor is left for who wakes them. One worker at a time; its place is given up
 * by the caller then. */
static bool is_to_linger(struct weft__worker *w)
{
    struct weft__sched *s = w->sched;
    /* relaxed, all of these: only a guess, and whether somebody has the place is asked again */
    uint64_t remote = weft__a64_load_relaxed(&s->remote_schedules);
    if (remote == weft__a64_load_relaxed(&s->seen_remote) || s->core.processors == 1 ||
        weft__a32_load_relaxed(&s->idle_count) + s->core.processors <= s->worker_count ||
        weft__clock_is_paused(&s->core.clock) || weft__a32_load_relaxed(&s->is_lingering) != 0 ||
        is_due_soon(w, &w->timers) || is_due_soon(w, &s->outer_timers))
        return false;
    /* acquire pairs with the store of who had the place: its luck */
    if (weft__a32_swap_acquire(&s->is_lingering, 1) != 0)
        return false;
    weft__a64_store_relaxed(&s->seen_remote, remote);
    if (weft__linger_is_due(&s->luck))
        return true;
    weft__a32_store_release(&s->is_lingering, 0);
    return false;
}

bool weft__worker_linger(struct weft__worker *w, bool (*should_stop)(void *arg), void *arg)
{
    struct weft__sched *s = w->sched;
    if (!is_to_linger(w))
        return false;
    struct lookout l = {w, should_stop, arg, 0};
    weft__a32_add_relaxed(&s->searchers, 1); /* see the top */
    w->is_searching = true;
    bool found = weft__linger(has_come, &l);
    weft__linger_learn(&s->luck, !found);
    weft__a32_store_release(&s->is_lingering, 0);
    return found;
}

/* ---- sleeping ---- */

void weft__worker_sleep(struct weft__worker *w, bool (*should_stop)(void *arg), void *arg)
{
    struct weft__sched *s = w->sched;
    weft__worker_hook(w, s->hooks.thread_park);
    /* acquire: as in weft__worker_look() */
    bool polls = s->core.driver && weft__a32_swap_acquire(&s->polling, 1) == 0;
    enum weft__sleep how = polls ? WEFT__SLEEPS_IN_DRIVER : WEFT__SLEEPS_ON_FUTEX;
    weft__a32_add_seq_cst(&s->idle_count, 1);
    weft__a32_store_seq_cst(&w->sleep, how);
    /* After a seq_cst operation of ours: who waits for the end of all counted itself before it
     * looked at the counts. */
    weft__sched_check_quiescent(s);
    /* Who polled a moment ago, the monitor or a worker that just looks, may have let go since: then
     * the seat is ours on the next round. It lets go and then looks for sleepers; we announce and
     * then look whether it let go. */
    bool seat_is_free = !polls && s->core.driver && weft__a32_load_seq_cst(&s->polling) == 0;
    bool must_look = seat_is_free || has_work(w);
    if (!must_look && !should_stop(arg) && !weft__worker_is_surplus(w)) {
        if (!weft__clock_is_paused(&s->core.clock) || !jump(w, polls))
            wait_in_kernel(w, polls);
    }
    wake_self(w, how);
    /* Who pushed while this worker still counted as a searcher relied on it, also to wake the next
     * one: it is one again. */
    if (must_look && !w->is_searching) {
        weft__a32_add_relaxed(&s->searchers, 1); /* see the top */
        w->is_searching = true;
    }
    /* seq_cst: as in weft__worker_look(). mutation: as there */
    if (polls)
        weft__a32_store_seq_cst(&s->polling, 0);
    weft__monitor_poke(s);
    (void)expire(w);
    weft__worker_hook(w, s->hooks.thread_unpark);
}

/* ---- who is alive ---- */

uint64_t weft__sched_alive(struct weft__sched *s)
{
    /* Ended first, then spawned: both only grow, so equal sums mean that nobody was alive in
     * between. Hence acquire, which pairs with the release of who counts an end: what the task has
     * spawned is counted too.
     * seq_cst of outer_ended: who drives announces that it sleeps, then looks here; the end is
     * counted, then the sleeper looked for. mutation: check_quiescent() in between, on both sides,
     * would do. */
    uint64_t ended = weft__a64_load_seq_cst(&s->outer_ended), spawned = 0;
    uint32_t count = weft__sched_worker_high(s);
    for (uint32_t i = 0; i < count; i++)
        ended += weft__a64_load_acquire(&weft__sched_worker(s, i)->ended);
    count = weft__sched_worker_high(s);
    for (uint32_t i = 0; i < count; i++)
        spawned += weft__a64_load_relaxed(&weft__sched_worker(s, i)->spawned);
    /* seq_cst pairs with weft__sched_admit() */
    spawned += weft__a64_load_seq_cst(&s->outer_spawned);
    return spawned - ended;
}

bool weft__sched_is_quiescent(struct weft__sched *s)
{
    return weft__sched_alive(s) == 0;
}

void weft__sched_check_quiescent(struct weft__sched *s)
{
    /* A read-modify-write, not a load: the counts of ended tasks are stored with release. Either
     * this one comes after the waiter's and sees it, or the waiter's comes after this one,
     * synchronises with it, and sees the counts. A load could miss the waiter while the waiter
     * misses the counts, since a store that is not seq_cst has no place in the order of those that
     * are. */
    if (weft__a32_add_acq_rel(&s->quiesce_waiters, 0) == 0 || !weft__sched_is_quiescent(s))
        return;
    /* release pairs with the load in wait_quiescent: who is told sees the counts that we saw */
    weft__a32_add_release(&s->quiesce, 1);
    weft__sys_futex_wake(&s->quiesce, INT32_MAX);
}

bool weft__sched_wait_quiescent(struct weft__sched *s, uint64_t deadline_ns)
{
    bool done;
    weft__a32_add_acquire(&s->quiesce_waiters, 1); /* see check_quiescent */
    for (;;) {
        uint32_t seen = weft__a32_load_acquire(&s->quiesce);
        done = weft__sched_is_quiescent(s);
        if (done || weft__sys_futex_wait(&s->quiesce, seen, deadline_ns) == -ETIMEDOUT)
            break;
    }
    weft__a32_sub_relaxed(&s->quiesce_waiters, 1);
    return done || weft__sched_is_quiescent(s);
}
