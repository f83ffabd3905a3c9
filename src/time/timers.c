#include "time/timers.h"

#include "task/task.h"

#include <weft/time.h>

#include <errno.h>

/* Woken per lock hold: long enough to be cheap, short enough that arming threads do not wait. */
#define FIRE_BATCH 64

void weft__timers_init(struct weft__timers *ts, uint64_t now_ns)
{
    weft__lock_init(&ts->lock);
    weft__wheel_init(&ts->wheel, now_ns);
    weft__a64_store_relaxed(&ts->next_ns, WEFT_NEVER);
    weft__a64_store_relaxed(&ts->count, 0);
    ts->is_closed = false;
    ts->looked_ns = WEFT_NEVER;
    ts->process = weft__sys_process();
}

/* Under the lock. relaxed: after timers have fired the next one comes later, never sooner, and who
 * does not see that yet looks in vain. */
static void publish(struct weft__timers *ts)
{
    weft__a64_store_relaxed(&ts->count, ts->wheel.count);
    uint64_t next_ns = weft__wheel_next_deadline(&ts->wheel);
    if (next_ns != weft__a64_load_relaxed(&ts->next_ns))
        weft__a64_store_relaxed(&ts->next_ns, next_ns);
}

void weft__timer_init(struct weft__timer *t)
{
    weft__wheel_entry_init(&t->entry);
    t->timers = NULL;
    t->waker = NULL;
    weft__a32_store_relaxed(&t->fired, WEFT__TIMER_WAITS);
}

bool weft__timer_arm(struct weft__timers *ts, struct weft__timer *t, uint64_t deadline_ns,
                     weft_waker *waker)
{
    weft__lock_acquire(&ts->lock);
    if (ts->is_closed) {
        weft__lock_release(&ts->lock);
        weft__a32_store_relaxed(&t->fired, WEFT__TIMER_CLOSED);
        weft_waker_wake(waker);
        return false;
    }
    t->timers = ts;
    t->waker = waker;
    weft__a32_store_relaxed(&t->fired, WEFT__TIMER_WAITS);
    uint64_t before = weft__a64_load_relaxed(&ts->next_ns);
    bool is_earliest = deadline_ns < before;
    weft__wheel_insert(&ts->wheel, &t->entry, deadline_ns);
    weft__a64_store_relaxed(&ts->count, ts->wheel.count);
    /* seq_cst: a worker that announced idleness reads next_ns afterwards, while who arms looks for
     * sleepers after this store; one of them sees the other. */
    if (is_earliest)
        weft__a64_store_seq_cst(&ts->next_ns, deadline_ns);
    weft__lock_release(&ts->lock);
    return is_earliest;
}

void weft__timer_set_waker(struct weft__timer *t, weft_waker *waker)
{
    struct weft__timers *ts = t->timers;
    /* NULL: it was armed where all is closed, and has fired. */
    if (ts == NULL || weft__sys_is_ancestor(ts->process))
        return;
    weft__lock_acquire(&ts->lock);
    t->waker = waker;
    weft__lock_release(&ts->lock);
}

void weft__timer_disarm(struct weft__timer *t)
{
    struct weft__timers *ts = t->timers;
    if (ts == NULL)
        return;
    t->timers = NULL;
    if (weft__sys_is_ancestor(ts->process))
        return;
    weft__lock_acquire(&ts->lock);
    if (weft__wheel_entry_is_linked(&t->entry)) {
        weft__wheel_remove(&ts->wheel, &t->entry);
        /* next_ns may stay too early: somebody looks for nothing, once. Recomputing it here would
         * make each cancelled timeout pay for a scan. */
        weft__a64_store_relaxed(&ts->count, ts->wheel.count);
    }
    weft__lock_release(&ts->lock);
}

/* Under the lock: marks t and returns its waker, held. The store is the last touch of t: its owner
 * may go on at once. */
static weft_waker *fire(struct weft__timer *t, enum weft__timer_fired how)
{
    weft_waker *w = t->waker;
    weft__waker_hold(w);
    weft__a32_store_release(&t->fired, how);
    return w;
}

static void wake_all(weft_waker **fired, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        weft__waker_wake_release(fired[i]);
}

static unsigned fire_until(struct weft__timers *ts, uint64_t now_ns, enum weft__timer_fired how)
{
    unsigned total = 0;
    for (;;) {
        weft_waker *due[FIRE_BATCH];
        unsigned n = 0;
        weft__lock_acquire(&ts->lock);
        if (how == WEFT__TIMER_CLOSED)
            ts->is_closed = true;
        while (n < FIRE_BATCH) {
            struct weft__wheel_entry *e = how == WEFT__TIMER_CLOSED
                                              ? weft__wheel_take_any(&ts->wheel)
                                              : weft__wheel_take_due(&ts->wheel, now_ns);
            if (e == NULL)
                break;
            due[n++] = fire(WEFT__CONTAINER_OF(e, struct weft__timer, entry), how);
        }
        publish(ts);
        weft__lock_release(&ts->lock);
        wake_all(due, n);
        total += n;
        if (n < FIRE_BATCH)
            return total;
    }
}

unsigned weft__timers_expire(struct weft__timers *ts, uint64_t now_ns)
{
    /* acquire is not needed for the data, which the lock guards; a stale value is corrected by the
     * next look. */
    if (weft__a64_load_relaxed(&ts->next_ns) > now_ns)
        return 0;
    return fire_until(ts, now_ns, WEFT__TIMER_FIRED);
}

uint64_t weft__timers_earliest(struct weft__timers *ts)
{
    weft__lock_acquire(&ts->lock);
    uint64_t earliest_ns = weft__wheel_earliest(&ts->wheel);
    publish(ts); /* expire, which forgets timers that are gone, comes only when time does */
    weft__lock_release(&ts->lock);
    return earliest_ns;
}

unsigned weft__timers_fire_earliest(struct weft__timers *ts, unsigned max)
{
    weft_waker *due[FIRE_BATCH];
    unsigned n = 0;
    weft__lock_acquire(&ts->lock);
    uint64_t deadline_ns = weft__wheel_earliest(&ts->wheel);
    while (n < FIRE_BATCH && n < max && deadline_ns != WEFT_NEVER) {
        struct weft__wheel_entry *e = weft__wheel_take_due(&ts->wheel, deadline_ns);
        if (e == NULL)
            break;
        due[n++] = fire(WEFT__CONTAINER_OF(e, struct weft__timer, entry), WEFT__TIMER_FIRED);
    }
    publish(ts);
    weft__lock_release(&ts->lock);
    wake_all(due, n);
    return n;
}

void weft__timers_shift(struct weft__timers *ts, uint64_t from_ns, uint64_t to_ns)
{
    struct weft__node all;
    struct weft__wheel_entry *e;
    weft__list_init(&all);
    weft__lock_acquire(&ts->lock);
    while ((e = weft__wheel_take_any(&ts->wheel)) != NULL)
        weft__list_push_back(&all, &e->node);
    weft__wheel_init(&ts->wheel, to_ns);
    for (struct weft__node *n; (n = weft__list_pop_front(&all)) != NULL;) {
        e = WEFT__CONTAINER_OF(n, struct weft__wheel_entry, node);
        uint64_t left_ns = e->deadline_ns > from_ns ? e->deadline_ns - from_ns : 0;
        bool is_never = e->deadline_ns == WEFT_NEVER;
        weft__wheel_insert(&ts->wheel, e, is_never ? WEFT_NEVER : weft__add_sat(to_ns, left_ns));
    }
    publish(ts);
    weft__lock_release(&ts->lock);
}

void weft__timers_close(struct weft__timers *ts)
{
    (void)fire_until(ts, WEFT_NEVER, WEFT__TIMER_CLOSED);
}

/* On ts, the timers of the calling thread in core. */
static inline void arm_on(struct weft__core *core, struct weft__timers *ts, struct weft__timer *t,
                          uint64_t deadline_ns, weft_waker *waker)
{
    struct weft__core *waits = weft__task_of_waker(waker)->core;
    if (WEFT__UNLIKELY(waits != core && waits != NULL))
        weft__a32_store_relaxed(&waits->waits_elsewhere,
                                1); /* for what lasts, the deadlock check */
    if (weft__timer_arm(ts, t, deadline_ns, waker))
        core->ops->timers_rearmed(core, ts);
}

void weft__timer_arm_here(struct weft__core *core, struct weft__timer *t, uint64_t deadline_ns,
                          weft_waker *waker)
{
    arm_on(core, core->ops->timers_here(core), t, deadline_ns, waker);
}

/* ---- timeout scopes ---- */

/* Deadlines later than that after the last look at the wheel are taken for not reached: to ask the
 * clock costs as much as the timer. One that has been reached all the same, by a task that went on
 * for so long without a wait, fires when the worker looks next. */
#define UNLOOKED_NS WEFT_MS

/* opaque[0..1] belong to task/timeout.c. */
static struct weft__timer *timer_of(const weft_timeout *scope)
{
    return (struct weft__timer *)(uintptr_t)&scope->opaque[2];
}

_Static_assert(sizeof(struct weft__timer) <=
                   sizeof(((weft_timeout *)0)->opaque) - 2 * sizeof(void *),
               "weft_timeout.opaque is too small");

int weft__timeout_arm(struct weft__core *core, weft_timeout *scope, weft_waker *waker)
{
    struct weft__timers *ts = core->ops->timers_here(core);
    if (scope->deadline_ns <= weft__add_sat(ts->looked_ns, UNLOOKED_NS) &&
        scope->deadline_ns <= weft__clock_now(&core->clock))
        return -ETIMEDOUT;
    struct weft__timer *t = timer_of(scope);
    weft__timer_init(t);
    arm_on(core, ts, t, scope->deadline_ns, waker);
    return 0;
}

int weft__timeout_state(const weft_timeout *scope)
{
    enum weft__timer_fired fired = weft__timer_fired(timer_of(scope));
    return fired == WEFT__TIMER_WAITS ? 0 : fired == WEFT__TIMER_FIRED ? -ETIMEDOUT : -ESHUTDOWN;
}

void weft__timeout_disarm(weft_timeout *scope)
{
    weft__timer_disarm(timer_of(scope));
}
