/*
 * Lanes: three FIFO queues, one for each class of priority, under one lock.
 *
 * One word says which of them hold tasks. A worker reads it between two tasks, so that classes cost
 * those who do not use them one load, and decides by it whether it may sleep. Intrusive and
 * unbounded like the injection queue: pushing allocates nothing and cannot fail.
 */
#ifndef WEFT_SCHED_LANES_H
#define WEFT_SCHED_LANES_H

#include "atomic/atomic.h"
#include "base/base.h"
#include "base/list.h"
#include "sys/lock.h"

#define WEFT__LANES 3
/* In `ready` for good, and no lane: see weft__lanes_look(). */
#define WEFT__LANES_ALWAYS (1u << WEFT__LANES)

/* Aligned: workers read `ready` all the time, and share its line with nothing else. */
struct weft__lanes {
    weft__a32 ready; /* bit n: lane n is not empty; written under lock, read by all */
    struct weft__lock lock;
    struct {
        struct weft__qnode *first, *last; /* under lock; last is valid while first is not NULL */
        weft__a64 len;                    /* written under lock, read by all */
    } lane[WEFT__LANES];
} WEFT__ALIGNED(WEFT__CACHE_LINE);

/* is_always: weft__lanes_look() is never 0. */
void weft__lanes_init(struct weft__lanes *l, bool is_always);

/*
 * Any thread. Returns how many the lane holds now.
 *
 * The push is ordered before the caller's later seq_cst load of an idle flag, as
 * weft__lanes_are_empty_seq_cst() is ordered after an idle worker's seq_cst store to it.
 */
size_t weft__lanes_push(struct weft__lanes *l, unsigned lane, struct weft__qnode *node);

/* Any thread. The oldest node, or NULL when empty; then the lock is not taken. */
struct weft__qnode *weft__lanes_pop(struct weft__lanes *l, unsigned lane);

/* Any thread. Not 0 when a lane held something a moment ago; and always, when the owner has asked
 * for that since it has something else to do at each look. */
static inline uint32_t weft__lanes_look(const struct weft__lanes *l)
{
    /* relaxed: a push missed by a hair is found next time round, or by the look before sleeping,
     * which is seq_cst. Nothing is read on the strength of it. */
    return weft__a32_load_relaxed(&l->ready);
}

/* Any thread; was true a moment ago: bit n for lane n. */
static inline uint32_t weft__lanes_ready(const struct weft__lanes *l)
{
    return weft__lanes_look(l) & ~WEFT__LANES_ALWAYS;
}

/* Any thread. For the look at all queues after announcing idleness. */
static inline bool weft__lanes_are_empty_seq_cst(const struct weft__lanes *l)
{
    /* pairs with the store in push */
    return (weft__a32_load_seq_cst(&l->ready) & ~WEFT__LANES_ALWAYS) == 0;
}

/* Any thread; was true a moment ago. */
static inline size_t weft__lanes_len(const struct weft__lanes *l, unsigned lane)
{
    return weft__a64_load_relaxed(&l->lane[lane].len); /* an estimate */
}

/* Asserts the invariants, under the lock; for tests. */
void weft__lanes_check(struct weft__lanes *l);

#endif
