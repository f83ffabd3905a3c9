/*
 * Lingering: who has run out of work looks out for a moment before he sleeps.
 *
 * Putting a thread to sleep and waking it costs two system calls, and 5 to 30 us where a core has
 * to be woken too. What comes sooner is cheaper to look out for; what does not costs the moment on
 * top. Which of the two it will be is guessed from the last times: each moment in vain doubles how
 * many sleeps follow without one, up to PENALTY_MAX, and the first that is not in vain ends that.
 * So looking out in vain costs a sleep less than a microsecond.
 *
 * The moment is longer than a wake-up: of two threads that wait for each other one must not give up
 * because the other one slept the last time, or both go on sleeping.
 */
#ifndef WEFT_SYS_LINGER_H
#define WEFT_SYS_LINGER_H

#include "base/model.h"
#include "sys/sys.h"

#define WEFT__LINGER_NS 50000
#define WEFT__LINGER_PENALTY_MAX 63

/* What the last times were like; of one thread at a time. All zero: begin with a moment. */
struct weft__linger {
    unsigned skips;   /* sleeps without a moment from now on */
    unsigned penalty; /* that many after the next moment in vain */
};

/* Once before each sleep: whether to linger. */
static inline bool weft__linger_is_due(struct weft__linger *l)
{
    WEFT__MODEL_WRITE(l);
    if (l->skips == 0)
        return true;
    l->skips--;
    return false;
}

/* After each moment. */
static inline void weft__linger_learn(struct weft__linger *l, bool in_vain)
{
    WEFT__MODEL_WRITE(l);
    if (!in_vain) {
        l->skips = l->penalty = 0;
        return;
    }
    l->skips = l->penalty;
    l->penalty = 2 * l->penalty + 1;
    if (l->penalty > WEFT__LINGER_PENALTY_MAX)
        l->penalty = WEFT__LINGER_PENALTY_MAX;
}

/* Looks for a moment, again and again. False: in vain. */
bool weft__linger(bool (*has_come)(void *arg), void *arg);

#endif
