/*
 * Injection queue: an unbounded FIFO that any thread may push to and any worker pops from.
 *
 * An intrusive list under a lock, so that pushing allocates nothing and cannot fail for want of
 * memory. The length is readable without the lock: workers look at it between tasks, and an idle
 * one decides by it whether it may sleep.
 */
#ifndef WEFT_SCHED_INJECT_H
#define WEFT_SCHED_INJECT_H

#include "atomic/atomic.h"
#include "base/base.h"
#include "base/list.h"
#include "sys/lock.h"

struct weft__inject {
    struct weft__lock lock;
    struct weft__qnode *first, *last; /* under lock; last is valid while first is not NULL */
    bool is_closed;                   /* under lock */
    weft__a64 len;                    /* written under lock; read by all */
};

void weft__inject_init(struct weft__inject *q);

/*
 * Any thread. False when closed; the node stays the caller's.
 *
 * The push is ordered before the caller's later seq_cst load of an idle flag, as
 * weft__inject_is_empty_seq_cst() is ordered after an idle worker's seq_cst store to it.
 */
WEFT_MUST_CHECK
bool weft__inject_push(struct weft__inject *q, struct weft__qnode *node);

/* The same for `count` nodes (one at least) that are linked from `first` to `last`, all or none.
 * Others find them side by side. last->next need not be set. */
WEFT_MUST_CHECK
bool weft__inject_push_chain(struct weft__inject *q, struct weft__qnode *first,
                             struct weft__qnode *last, size_t count);

/* Any thread. The oldest node, or NULL when empty; then the lock is not taken. Closed or not. */
struct weft__qnode *weft__inject_pop(struct weft__inject *q);

/* Any thread. At most max nodes into nodes[], the oldest first; returns how many. */
size_t weft__inject_pop_many(struct weft__inject *q, struct weft__qnode **nodes, size_t max);

/* Any thread. From now on pushes are refused; what is queued can still be popped. True for the call
 * that closed it. After its return no push is under way: what is to be drained is all there. */
bool weft__inject_close(struct weft__inject *q);

/* Any thread; true at some moment not long ago. */
size_t weft__inject_len(const struct weft__inject *q);

/* Any thread. For the look at all queues after announcing idleness. */
bool weft__inject_is_empty_seq_cst(const struct weft__inject *q);

/* Asserts the invariants, under the lock; for tests. */
void weft__inject_check(struct weft__inject *q);

#endif
