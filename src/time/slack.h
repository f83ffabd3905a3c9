/*
 * Slack of single timers: where in its window a timer is put, so that others are there too.
 */
#ifndef WEFT_TIME_SLACK_H
#define WEFT_TIME_SLACK_H

#include "base/base.h"

/*
 * The time from deadline_ns to slack_ns later that is a multiple of the highest power of two.
 * Timers that know nothing of each other meet there: with a slack of at least 2^k ns each window
 * holds a multiple of 2^k, so that all of a second wake its thread at most 10^9 / 2^k + 1 times.
 *
 * Source: apply_slack() of Linux before 4.8, kernel/time/timer.c.
 */
static inline uint64_t weft__slack_deadline(uint64_t deadline_ns, uint64_t slack_ns)
{
    if (slack_ns == 0 || deadline_ns == 0 || deadline_ns == WEFT_NEVER)
        return deadline_ns;
    uint64_t latest_ns = weft__add_sat(deadline_ns, slack_ns);
    if (latest_ns == WEFT_NEVER)
        latest_ns--; /* which would be none at all */
    /* The highest bit in which the end of the window differs from what is just before it: with that
     * bit set and zeros below it a number lies inside. */
    unsigned bit = 63 - (unsigned)__builtin_clzll(latest_ns ^ (deadline_ns - 1));
    return latest_ns >> bit << bit;
}

#endif
