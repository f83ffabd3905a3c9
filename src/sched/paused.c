/*
 * Time on a stopped clock. It passes in two ways: a task says so, weft_clock_advance(), or nothing
 * can run, and then it jumps to the next timer.
 *
 * What fires, fires in the order of the deadlines, and of equal ones in the order in which they
 * were armed: never by where they lie in the wheels. So a program that asks nobody outside makes
 * the same steps in each run.
 */
#include "sched/sched.h"

/* Due timers fire as long as the ring has room: what overflows it loses its place. */
#define RING_FULL (WEFT__RUNQ_CAP / 2)

/* The wheel that has the earliest timer. The worker's own comes first: what its tasks do is in the
 * program's hands, threads beside it come when they come. */
static struct weft__timers *earliest_timers(struct weft__worker *w, uint64_t *ret_deadline_ns)
{
    uint64_t own_ns = weft__timers_earliest(&w->timers);
    uint64_t outer_ns = weft__timers_earliest(&w->sched->outer_timers);
    *ret_deadline_ns = outer_ns < own_ns ? outer_ns : own_ns;
    return outer_ns < own_ns ? &w->sched->outer_timers : &w->timers;
}

/* How many may fire. Without room they wait for all that was ready when they were first held up,
 * and no longer: tasks that never wait would hold them up for ever. */
static unsigned may_fire(struct weft__worker *w)
{
    uint32_t len = weft__runq_len(&w->runq);
    uint64_t tick = weft__a64_load_relaxed(&w->tick);
    if (len >= RING_FULL && w->held_until_tick == 0)
        w->held_until_tick = tick + len + weft__inject_len(&w->sched->inject);
    if (len >= RING_FULL && tick < w->held_until_tick)
        return 0;
    w->held_until_tick = 0;
    return len < RING_FULL ? RING_FULL - len : (WEFT__RUNQ_CAP - len) / 2 + 1;
}

/* Not exactly: something may be due. relaxed: as in weft__timers_expire(). */
static bool may_be_due(struct weft__worker *w, uint64_t now_ns)
{
    return weft__a64_load_relaxed(&w->timers.next_ns) <= now_ns ||
           weft__a64_load_relaxed(&w->sched->outer_timers.next_ns) <= now_ns;
}

unsigned weft__sched_expire_paused(struct weft__worker *w, uint64_t now_ns)
{
    unsigned total = 0;
    /* Called again and again while tasks run: the exact answer, which walks a slot, comes last. */
    while (may_be_due(w, now_ns)) {
        uint64_t deadline_ns;
        unsigned max = may_fire(w);
        if (max == 0)
            return total;
        struct weft__timers *ts = earliest_timers(w, &deadline_ns);
        if (deadline_ns > now_ns)
            break;
        total += weft__timers_fire_earliest(ts, max);
    }
    w->held_until_tick = 0;
    return total;
}

uint64_t weft__sched_next_jump(struct weft__worker *w)
{
    /* seq_cst: the end of the last job wakes us if it does not find us awake; we have announced
     * that we sleep. mutation: weft__sched_check_quiescent() in between, on both sides, would do.
     */
    if (weft__a32_load_seq_cst(&w->sched->jobs) != 0)
        return WEFT_NEVER;
    uint64_t deadline_ns;
    (void)earliest_timers(w, &deadline_ns);
    return deadline_ns;
}
