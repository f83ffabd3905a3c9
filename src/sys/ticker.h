/*
 * The time between two readings of the clock, by the processor's counter.
 *
 * To read CLOCK_MONOTONIC takes 23 ns, two thirds of all that a timeout costs around something that
 * is ready; the counter of x86-64 takes 9. A thread that needs the time often reads the clock once
 * in two milliseconds, and counts on from there. How fast the counter runs it learns from those
 * readings; one that contradicts what was known, as where a virtual machine has moved, or that took
 * too long, is a mistake, and after some of them the thread keeps to the clock. So it need not be
 * known how processors and hypervisors keep their counters: what follows from one that is wrong
 * lasts for two milliseconds.
 *
 * On other processors, where the counter says that it does not run evenly, and where the clock is
 * not the system's, the clock is read each time.
 */
#ifndef WEFT_SYS_TICKER_H
#define WEFT_SYS_TICKER_H

#include "base/base.h"

#include <stdbool.h>
#include <stdint.h>

#if defined(__x86_64__) && !defined(WEFT_MODEL)
#define WEFT__HAS_COUNTER 1
#else
#define WEFT__HAS_COUNTER 0
#endif

#define WEFT__TICKER_SPAN_NS 2000000 /* counted on after a reading */
/* Between two readings that teach the rate: nearer they are too coarse, farther apart the machine
 * may have slept. */
#define WEFT__TICKER_LEARN_NS 1000000
#define WEFT__TICKER_LEARN_MAX_NS 1000000000
#define WEFT__TICKER_MISTAKES_MAX 8 /* without so many that were right in between */
#define WEFT__TICKER_RIGHT 1000
/* What was counted may be as far ahead of the clock; then time stands still rather than jump back,
 * if it is no farther. */
#define WEFT__TICKER_AHEAD_NS 1000
/* More than it can be behind. */
#define WEFT__TICKER_SLACK_NS 2000

/* Of one thread. All zero: nothing is known. */
struct weft__ticker {
    uint64_t ticks, ns; /* the last reading */
    uint64_t shown_ns;  /* what it showed then, without the slack: ns, or a little more */
    uint64_t span;      /* ticks that are counted on after it; 0: none */
    uint64_t scale;     /* nanoseconds of 2^32 ticks; 0: not known */
    unsigned mistakes;
    unsigned right; /* since the last of them */
};

/* Whether what is made now may use one: the counter runs evenly, and the clock of this process has
 * never been replaced, by a simulation or a test. */
bool weft__ticker_is_possible(void);

/* The clock showed `ns` when the counter showed `ticks`. The pure part. */
void weft__ticker_learn(struct weft__ticker *k, uint64_t ticks, uint64_t ns);
/* A reading that says nothing. */
void weft__ticker_mistake(struct weft__ticker *k);

/* Reads the clock, and learns. */
uint64_t weft__ticker_read(struct weft__ticker *k);

/* What the counter says, within the span. */
static inline uint64_t weft__ticker_count(const struct weft__ticker *k, uint64_t since)
{
    return k->shown_ns + (since * k->scale >> 32);
}

/* CLOCK_MONOTONIC, or a little later: by three microseconds at most. */
static inline uint64_t weft__ticker_now(struct weft__ticker *k)
{
#if WEFT__HAS_COUNTER
    uint64_t since = __builtin_ia32_rdtsc() - k->ticks;
    if (WEFT__LIKELY(since < k->span))
        return weft__ticker_count(k, since) + WEFT__TICKER_SLACK_NS;
#endif
    return weft__ticker_read(k) + WEFT__TICKER_SLACK_NS;
}

#endif
