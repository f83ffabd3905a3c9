/*
 * Time: the clock, sleeping, timers as futures, timeouts as scopes.
 *
 * Nothing fires early. A deadline beyond the end of time is WEFT_NEVER.
 *
 * In a forked child nothing can be waited for in a runtime of its parent's: sleeps and timers of
 * that return -EPERM with a line in the log. Timers may be ended.
 */
#ifndef WEFT_TIME_H
#define WEFT_TIME_H

#include <weft/base.h>
#include <weft/future.h>

WEFT_BEGIN_DECLS

/* Nanoseconds on the monotonic clock: that of the runtime the caller is in, blocking jobs and
 * threads inside weft_enter() included, which a test may have paused (<weft/clock.h>); outside, the
 * system's. Any thread; never suspends. */
WEFT_API uint64_t weft_now(void);

/*
 * Suspends the calling task for at least duration_ns, or until weft_now() has reached deadline_ns.
 * 0 and the past return at once, after a yield when the budget is used up.
 *
 * Returns 0, -ECANCELED, -ETIMEDOUT, -EPERM (nothing here can wait, or time is switched off in the
 * runtime),
 * -ESHUTDOWN (the runtime is shut down).
 *
 * Context: as weft_await(). Cancellation: safe.
 */
WEFT_API int weft_sleep(uint64_t duration_ns);
WEFT_API int weft_sleep_until(uint64_t deadline_ns);

/*
 * The same for who is not in a hurry: it wakes up between duration_ns and duration_ns + slack_ns
 * from now, at a moment that others with slack choose as well. Timers with a slack of s cause about
 * two wake-ups of a thread in each s, however many they are.
 */
WEFT_API int weft_sleep_slack(uint64_t duration_ns, uint64_t slack_ns);

/*
 * The wait of weft_sleep() as a future, for composites: its result is 0, -EPERM or -ESHUTDOWN. It
 * belongs to who polls it, must not move once it was polled, and needs no fini: it is over when it
 * has completed or was cancelled.
 */
typedef struct weft_sleep_future {
    weft_future future;
    void *opaque[12];
} weft_sleep_future;
/* The duration begins now; or with the first poll, when that is in another runtime with another
 * clock. deadline_ns is one on the clock of who polls. Never suspends; any thread. */
WEFT_API void weft_sleep_future_init(weft_sleep_future *f, uint64_t duration_ns);
WEFT_API void weft_sleep_future_init_until(weft_sleep_future *f, uint64_t deadline_ns);

/*
 * A timer: a future that is ready, with 0, once its deadline has passed. In the caller's memory;
 * must not move while it waits. It belongs to the runtime in which it was initialised.
 */
typedef struct weft_timer {
    weft_future future;
    void *opaque[12];
} weft_timer;

/* Returns 0; or t is as one that was ended, and it is -EPERM outside a runtime or with time
 * switched off, -ESHUTDOWN; -EINVAL for NULL (logged). Never suspends. What follows reports NULL on
 * the log, does nothing, and answers as for a timer that never began. */
WEFT_API WEFT_MUST_CHECK int weft_timer_init(weft_timer *t, uint64_t deadline_ns);
/* Moves the deadline: later, earlier, into the past; before the first wait, during it, or after it
 * fired. Whoever waits then waits for the new one. By the owner of t. */
WEFT_API void weft_timer_reset(weft_timer *t, uint64_t deadline_ns);
/* From the next wait or reset on it may fire up to slack_ns late, together with others: see
 * weft_sleep_slack(). 0, as it begins: on time. By the owner of t. */
WEFT_API void weft_timer_set_slack(weft_timer *t, uint64_t slack_ns);
/* True once it has fired, or its deadline has passed; not because its runtime was shut down. */
WEFT_API bool weft_timer_is_elapsed(const weft_timer *t);
WEFT_API uint64_t weft_timer_deadline(const weft_timer *t);
/* Ends the timer; it must not be waited for any more. Idempotent. NULL does nothing. */
WEFT_API void weft_timer_fini(weft_timer *t);

/*
 * Timeout scopes. Every wait inside, however deep, returns -ETIMEDOUT once the time has passed.
 * Scopes nest: the earliest deadline wins. A wait that is ready wins over a deadline that has
 * passed; but a loop of such waits looks at the clock each time that it has used up a budget, also
 * on threads, which have nobody to yield to. The cost is one timer, armed when something inside
 * first really waits. With time switched off (weft_config.enable_time) entering one is reported as
 * misuse: then nothing ends a wait, unless the time has passed when it begins.
 *
 *     WEFT_TIMEOUT(5 * WEFT_SEC)
 *         rc = handshake(conn);
 *
 *     WEFT_TIMEOUT_AS(t, 5 * WEFT_SEC)
 *         rc = handshake(conn);
 *         ... inside the block, weft_timeout_is_expired(&t) tells whether it was this one
 *
 * The block may be left by break, return or goto. In the functional form the scope outlives the
 * block:
 *
 *     weft_timeout t;
 *     weft_timeout_enter(&t, 5 * WEFT_SEC);
 *     rc = handshake(conn);
 *     weft_timeout_leave(&t);
 *     if (rc == -ETIMEDOUT && weft_timeout_is_expired(&t)) ...
 */
typedef struct weft_timeout {
    struct weft_timeout *outer;
    uint64_t deadline_ns;
    bool expired; /* this scope's deadline made a wait return -ETIMEDOUT */
    bool left;
    bool entered;
    void *opaque[12];
} weft_timeout;

#define WEFT_TIMEOUT(duration_ns)                                                                  \
    WEFT_TIMEOUT_AS(WEFT__CAT(weft__timeout_, __COUNTER__), duration_ns)
#define WEFT_TIMEOUT_AS(name, duration_ns) WEFT__TIMEOUT_AS(name, duration_ns)
#define WEFT__TIMEOUT_AS(name, duration_ns)                                                        \
    for (weft_timeout name __attribute__((cleanup(weft_timeout_leave))) = WEFT__ZERO,              \
                           *weft__p_##name = weft__timeout_start(&name, (duration_ns));            \
         !weft__p_##name->left; weft_timeout_leave(&name))

/* Opens a scope that ends duration_ns from now, or at deadline_ns. From now: 3 us later at most,
 * where that is 100 us or more, and never sooner. t stays where it is until it is left, in reverse
 * order. A panic or an unwinding abort leaves it. A body, or a callback, that returns without
 * leaving it is reported; if a wait inside has armed the scope, whose memory is gone by then, the
 * process ends. In a place where nothing can wait it has no effect. Never suspends. */
WEFT_API void weft_timeout_enter(weft_timeout *t, uint64_t duration_ns);
WEFT_API void weft_timeout_enter_until(weft_timeout *t, uint64_t deadline_ns);
/* Closes it. Idempotent. Never suspends. */
WEFT_API void weft_timeout_leave(weft_timeout *t);
/* True when a wait returned -ETIMEDOUT because of this scope. Stays readable after it was left. */
WEFT_API bool weft_timeout_is_expired(const weft_timeout *t);
/* How long until the earliest deadline around the caller, or 3 us less at most; WEFT_NEVER without
 * one. Never suspends. */
WEFT_API uint64_t weft_timeout_remaining(void);

/* Behind the macro. */
static inline weft_timeout *weft__timeout_start(weft_timeout *t, uint64_t duration_ns)
{
    weft_timeout_enter(t, duration_ns);
    WEFT__BLOCK_RUNS(t);
    return t;
}

WEFT_END_DECLS

#endif
