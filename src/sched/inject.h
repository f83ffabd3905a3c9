/*
 * Injection queue: an unbounded FIFO that any thread may push to and any worker pops from.
 *
 * An intrusive list under a lock, so that pushing allocates nothing and cannot fail for want of
 * memory. The length is readable without the lock: workers look at it between tasks, and an idle
 * one decides by it whether it may sleep.
 *
 * Tasks lie in it in bunches, of which the ends are known: one that is taken whole is taken off in
 * one step, and its links, each in a line that another core wrote last, are followed without the
 * lock. With sixteen workers it took longer to walk along the list under the lock than to run what
 * was on it.
 */
#ifndef WEFT_SCHED_INJECT_H
#define WEFT_SCHED_INJECT_H

#include "atomic/atomic.h"
#include "base/base.h"
#include "base/list.h"
#include "sys/lock.h"
#include "task/task.h"

/* A bunch has at most so many. */
#ifdef WEFT_MODEL
#define WEFT__BUNCH 2
#else
#define WEFT__BUNCH 64
#endif

/* Linked from first to last; both valid while count is not 0. */
struct weft__bunch {
    struct weft__qnode *first, *last;
    size_t count;
};

/* In this order. Of a full bunch between the other two the ends are kept in the tasks themselves:
 * the first knows the last, and that one how many they are, and its link leads to the next. */
struct weft__inject {
    struct weft__lock lock; /* guards what follows */
    struct weft__bunch front;
    struct weft__qnode *full_first; /* NULL: none */
    struct weft__qnode *full_last;  /* valid while there is one */
    struct weft__bunch back;        /* to which is added */
    bool is_closed;
    weft__a64 len; /* written under lock; read by all */
};

void weft__inject_init(struct weft__inject *q);

/*
 * Any thread. False when closed; the task stays the caller's.
 *
 * The push is ordered before the caller's later seq_cst load of an idle flag, as
 * weft__inject_is_empty_seq_cst() is ordered after an idle worker's seq_cst store to it.
 */
WEFT_MUST_CHECK
bool weft__inject_push(struct weft__inject *q, struct weft__task *task);

/* The same for `count` tasks, one at least, all or none. Others find them side by side. */
WEFT_MUST_CHECK
bool weft__inject_push_many(struct weft__inject *q, struct weft__task *const *tasks, size_t count);

/* Any thread. The oldest task, or NULL when empty; then the lock is not taken. Closed or not. */
struct weft__task *weft__inject_pop(struct weft__inject *q);

/* Any thread. About `want` tasks, the oldest first: exactly so many, if there are, where that is
 * less than a quarter of a bunch; else the rest of a bunch as well, and at most max. Returns how
 * many; *ret_first leads to the others by qnode.next, which is valid but for the last. */
size_t weft__inject_pop_many(struct weft__inject *q, size_t want, size_t max,
                             struct weft__task **ret_first);

/* What comes after it in what pop_many returned. */
static inline struct weft__task *weft__inject_next(const struct weft__task *t)
{
    return WEFT__CONTAINER_OF(t->qnode.next, struct weft__task, qnode);
}

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
