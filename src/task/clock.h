/*
 * The clock of a runtime: the system's monotonic clock, or one that a test has stopped.
 *
 * All that belongs to the program's time asks here: weft_now(), sleeps, timers, deadlines of
 * scopes, and the workers that expire them. What guards the program (the monitor, the deadlock
 * check, the grace of a shutdown) asks the system.
 *
 *              pause              resume
 *     SYSTEM ---------> PAUSED <---------> SHIFTED
 *                          advances when told to, or when nothing can run
 *
 * A clock never runs backwards: resumed, it goes on from where it stood, at an offset from the
 * system's. Only the thread that drives the runtime stops it and moves it; any thread reads it.
 *
 * A forked child reads a clock of its parent's as it stood, without the lock, which may be held for
 * ever.
 *
 * A clock may follow another one: from then on it shows the same, whatever happens to that one.
 */
#ifndef WEFT_TASK_CLOCK_H
#define WEFT_TASK_CLOCK_H

#include "sys/lock.h"
#include "sys/sys.h"
#include "sys/ticker.h"

/* Where a clock begins that is paused from the start: the same in each run, and late enough that
 * "an hour ago" is a time. */
#define WEFT__CLOCK_START_NS (UINT64_C(1000000) * WEFT_SEC)

enum weft__clock_state { WEFT__CLOCK_SYSTEM, WEFT__CLOCK_PAUSED, WEFT__CLOCK_SHIFTED };

struct weft__clock {
    weft__a32 state;               /* enum weft__clock_state; written under lock, read by all */
    struct weft__lock lock;        /* guards what follows; not taken in state SYSTEM */
    uint64_t paused_ns;            /* what it says while paused, or said when it was resumed */
    uint64_t resumed_ns;           /* shifted: when that was, by the system's */
    struct weft__clock *followers; /* of this one */
    struct weft__clock *next;      /* of those that follow the same; under the lock of that */
    uint32_t process;              /* that made it, as weft__sys_process() */
    bool may_count;                /* weft__ticker_is_possible(); fixed */
};

/* Times for dumps: 32 bits in units of 2^20 ns, about a millisecond; differences up to 26 days. */
#define WEFT__COARSE_SHIFT 20
static inline uint32_t weft__coarse(uint64_t ns)
{
    return (uint32_t)(ns >> WEFT__COARSE_SHIFT);
}

void weft__clock_init(struct weft__clock *c, bool is_paused);

/* It says what the system's says. relaxed: all else is read under the lock. */
static inline bool weft__clock_is_systems(const struct weft__clock *c)
{
    return WEFT__LIKELY(weft__a32_load_relaxed(&c->state) == WEFT__CLOCK_SYSTEM);
}

uint64_t weft__clock_adjusted(struct weft__clock *c);

static inline uint64_t weft__clock_now(struct weft__clock *c)
{
    /* First the time, then the state: the other way round a thread that is held up in between would
     * return a time later than the one at which the clock was stopped meanwhile, and be shown an
     * earlier one next. */
    uint64_t now_ns = weft__sys_now_ns();
    if (weft__clock_is_systems(c))
        return now_ns;
    return weft__clock_adjusted(c);
}

/* The same for the beginning of what has a deadline: three microseconds later at most, and for less
 * than half. k: of the calling thread. */
static inline uint64_t weft__clock_about(struct weft__clock *c, struct weft__ticker *k)
{
    if (WEFT__UNLIKELY(!c->may_count))
        return weft__clock_now(c);
    /* in this order, as above */
    uint64_t now_ns = weft__ticker_now(k);
    if (weft__clock_is_systems(c))
        return now_ns;
    return weft__clock_adjusted(c);
}

static inline bool weft__clock_is_paused(const struct weft__clock *c)
{
    /* seq_cst, as the store in pause: a blocking job uncounts itself, then looks here whether to
     * wake who waits for that; who pauses stores, then looks at the count. (No model fails with
     * less: on both ways stands the read-modify-write of weft__sched_check_quiescent(), on which
     * this does not lean.) */
    return WEFT__UNLIKELY(weft__a32_load_seq_cst(&c->state) == WEFT__CLOCK_PAUSED);
}

/* False, and nothing is done, when it is paused already, or not paused. */
bool weft__clock_pause(struct weft__clock *c);
bool weft__clock_resume(struct weft__clock *c);
/* Moves a paused clock, never backwards. */
void weft__clock_move(struct weft__clock *c, uint64_t now_ns);

/* Makes c show what `leader` shows, from now until it is told to leave it; NULL: the system. For a
 * clock without a will of its own, which follows none. */
void weft__clock_follow(struct weft__clock *c, struct weft__clock *leader);
/* From now on c goes its own way: it stands where it stands, or runs on. */
void weft__clock_leave(struct weft__clock *c, struct weft__clock *leader);

/* When the system's clock will show what this one shows at deadline_ns: for sleeps in the kernel.
 * WEFT_NEVER while it is paused. */
uint64_t weft__clock_system_time(struct weft__clock *c, uint64_t deadline_ns);

#endif
