/*
 * Timers: a wheel under a lock, with wakers. Each worker has one; any thread may insert, remove and
 * expire, so that a worker that is stuck in a task delays no timer.
 *
 * A forked child leaves wheels of its parent's alone: the locks may be held for ever, and nobody
 * expires them. It may disarm a timer of its parent's, which is then in no wheel that counts.
 */
#ifndef WEFT_TIME_TIMERS_H
#define WEFT_TIME_TIMERS_H

#include "atomic/atomic.h"
#include "sys/lock.h"
#include "time/wheel.h"

#include <weft/future.h>
#include <weft/time.h>

struct weft__core;

struct weft__timers {
    struct weft__lock lock;
    struct weft__wheel wheel; /* under lock */
    /* when expire has something to do; written under lock, read by all */
    weft__a64 next_ns;
    weft__a64 count;  /* armed entries; written under lock, read by all */
    bool is_closed;   /* under lock: what is armed fires at once, as WEFT__TIMER_CLOSED */
    uint32_t process; /* that made it, as weft__sys_process() */
    /* When a worker last looked here for what is due; by its thread alone. WEFT_NEVER: unknown, of
     * timers that are no worker's. */
    uint64_t looked_ns;
};

struct weft__timer {
    struct weft__wheel_entry entry; /* under timers->lock */
    struct weft__timers *timers;    /* where it was armed; NULL: never. Owner only */
    weft_waker *waker;              /* borrowed from the owner until disarmed; under lock */
    /* enum weft__timer_fired; written under lock, read by the owner */
    weft__a32 fired;
};

enum weft__timer_fired { WEFT__TIMER_WAITS, WEFT__TIMER_FIRED, WEFT__TIMER_CLOSED };

void weft__timers_init(struct weft__timers *ts, uint64_t now_ns);

void weft__timer_init(struct weft__timer *t);
/* Arms t, which must not be armed. True when it is now the earliest: who sleeps until next_ns must
 * be told. */
bool weft__timer_arm(struct weft__timers *ts, struct weft__timer *t, uint64_t deadline_ns,
                     weft_waker *waker);
/* Replaces the waker of an armed timer; does nothing to one that has fired. */
void weft__timer_set_waker(struct weft__timer *t, weft_waker *waker);
/* Disarms; on return nothing touches t any more. Idempotent. */
void weft__timer_disarm(struct weft__timer *t);
/* acquire pairs with the firing store, which is the last touch of t. */
static inline enum weft__timer_fired weft__timer_fired(const struct weft__timer *t)
{
    return (enum weft__timer_fired)weft__a32_load_acquire(&t->fired);
}
/* Fires what is due: marks it, wakes its task after unlocking. Returns how many. Any thread. */
unsigned weft__timers_expire(struct weft__timers *ts, uint64_t now_ns);

/* For a clock that stands still: the earliest deadline, exactly, WEFT_NEVER without one; and firing
 * the earliest timers alone, at most `max` of those whose deadline that is. */
uint64_t weft__timers_earliest(struct weft__timers *ts);
unsigned weft__timers_fire_earliest(struct weft__timers *ts, unsigned max);

/* The clock of these timers was set from from_ns to to_ns: what was left of each is left still. By
 * the only thread that expires them. */
void weft__timers_shift(struct weft__timers *ts, uint64_t from_ns, uint64_t to_ns);

/* Fires everything, now and later, as WEFT__TIMER_CLOSED: the runtime is down. */
void weft__timers_close(struct weft__timers *ts);

/* ---- sleep.c: public timers, for what is made of them ---- */

/* 0; -EPERM or -ESHUTDOWN, reported for `call`: no timer can be armed in this runtime; nor, in a
 * forked child, in one of its parent's. */
int weft__time_is_on(const char *call, const struct weft__core *core, const void *caller);
/* Makes timer one that has ended. */
void weft__timer_clear(weft_timer *timer);
/* weft_timer_init() for the public function `call`. */
int weft__timer_begin(const char *call, weft_timer *timer, uint64_t deadline_ns,
                      const void *caller);
bool weft__timer_has_ended(const weft_timer *timer);
uint64_t weft__timer_now(const weft_timer *timer); /* on the clock of its runtime */

/* The core_ops of timeout scopes. */
struct weft_timeout;
int weft__timeout_arm(struct weft__core *core, struct weft_timeout *scope, weft_waker *waker);
int weft__timeout_state(const struct weft_timeout *scope);
void weft__timeout_disarm(struct weft_timeout *scope);

/* Arms t on the wheel of the calling thread in `core`, and tells whoever sleeps past it. */
void weft__timer_arm_here(struct weft__core *core, struct weft__timer *t, uint64_t deadline_ns,
                          weft_waker *waker);

#endif
