/*
 * Intervals: something to be done every so often.
 *
 *     weft_interval every;
 *     int rc = weft_interval_init(&every, 30 * WEFT_SEC);
 *     while ((rc = weft_interval_tick(&every, NULL)) == 0)
 *         report();
 *     weft_interval_fini(&every);
 *
 * The first tick is at once, or at a given start; from there a grid of one tick a period extends. A
 * sleep in a loop drifts by what each round takes; an interval does not.
 *
 * Misuse: -EINVAL with a line in the log for NULL in the place of an interval, in the future by its
 * poll; what returns no error says the same, does nothing, and answers as for one that was ended.
 *
 * In a forked child waiting for a tick of an interval of its parent's returns -EPERM with a line in
 * the log. It may be ended.
 *
 * Source: the three behaviours on missed ticks are those of Tokio.
 */
#ifndef WEFT_INTERVAL_H
#define WEFT_INTERVAL_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>
#include <weft/time.h>

WEFT_BEGIN_DECLS

/* What follows a tick that was taken late, because its owner was busy or the machine was. */
enum weft_missed_tick {
    /* The ticks missed are made up for, one by one, at once, until the grid is caught up with. For
     * what must happen so many times. The default. */
    WEFT_MISSED_TICK_BURST,
    /* The next tick is a period after the late one: the grid moves. For what needs a pause in
     * between. A tick that is taken less than half a period late, and less than 5 ms, is on time.
     * */
    WEFT_MISSED_TICK_DELAY,
    /* The next tick is the next on the grid that is still ahead. For what is stale if it is late.
     * */
    WEFT_MISSED_TICK_SKIP,
};

/*
 * In the caller's memory; must not move while a tick is waited for. It belongs to the runtime in
 * which it was initialised, and goes by its clock. One tick at a time is waited for, by the owner
 * of the interval, who alone calls what is below.
 */
typedef struct weft_interval {
    weft_timer timer; /* at the next tick */
    uint64_t period_ns;
    enum weft_missed_tick missed;
} weft_interval;

/*
 * An interval whose first tick is due now, or at start_ns, in the future or in the past.
 *
 *   period_ns   at least 1; a tick beyond the end of time never comes
 *
 * Returns 0; or i is as one that was ended, and it is -EINVAL (a period of 0), -EPERM outside a
 * runtime or with time switched off, -ESHUTDOWN. Never suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_interval_init(weft_interval *i, uint64_t period_ns);
WEFT_API WEFT_MUST_CHECK int weft_interval_init_at(weft_interval *i, uint64_t start_ns,
                                                   uint64_t period_ns);
/* Ends it; no tick may be waited for any more. Idempotent. NULL does nothing. Never suspends. */
WEFT_API void weft_interval_fini(weft_interval *i);

/* For the ticks from the next on. Neither of these suspends. */
WEFT_API void weft_interval_set_missed_tick(weft_interval *i, enum weft_missed_tick missed);
/* 0 for NULL. */
WEFT_API uint64_t weft_interval_period(const weft_interval *i);
/* When the next tick is due; WEFT_NEVER when there is none, as once it was ended. */
WEFT_API uint64_t weft_interval_next(const weft_interval *i);

/*
 * Waits for the next tick and takes it.
 *
 *   ret_scheduled_ns   when the tick was due, which is when it would have come on an idle machine;
 *                      NULL: not wanted
 *
 * Returns 0, or no tick was taken, and it is
 *   -ECANCELED, -ETIMEDOUT, -EPERM   as weft_await()
 *   -ESHUTDOWN  the runtime of the interval is shut down, and no tick was due
 *   -EINVAL     the interval was ended
 *
 * Context:       as weft_await(). May suspend.
 * Cancellation:  safe. The tick is still to be taken.
 */
WEFT_API WEFT_MUST_CHECK int weft_interval_tick(weft_interval *i, uint64_t *ret_scheduled_ns);
/* Takes a tick that is due: 0, -EAGAIN when none is, -EINVAL. Never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_interval_try_tick(weft_interval *i, uint64_t *ret_scheduled_ns);

/* The same as a future: 0, -ESHUTDOWN, -EINVAL. What it points to is borrowed until it ends. */
typedef struct weft_interval_tick_future {
    weft_future future;
    weft_interval *interval;
    uint64_t *ret_scheduled_ns;
    bool is_pending;
} weft_interval_tick_future;
WEFT_API void weft_interval_tick_future_init(weft_interval_tick_future *f, weft_interval *i,
                                             uint64_t *ret_scheduled_ns);

/* A tick in a select: a case that does not win has taken none. */
WEFT_API weft_case weft_case_tick(weft_interval *i, uint64_t *ret_scheduled_ns);

/* Move the next tick, and the grid with it: to a period from now, to now, to delay_ns from now, to
 * deadline_ns. A future that waits for a tick waits for the new one. Never suspend. */
WEFT_API void weft_interval_reset(weft_interval *i);
WEFT_API void weft_interval_reset_immediately(weft_interval *i);
WEFT_API void weft_interval_reset_after(weft_interval *i, uint64_t delay_ns);
WEFT_API void weft_interval_reset_at(weft_interval *i, uint64_t deadline_ns);

WEFT_END_DECLS

#endif
