/*
 * Local run queue: a bounded FIFO ring with one owner and many thieves.
 *
 * A full queue is reported, not grown: the caller spills to the injection queue, so a burst on one
 * worker becomes visible to all. head and tail count up for ever and are masked only to pick a
 * slot, so full and empty differ without a spare slot, and a stale head passes for a live one only
 * after 2^32 pops inside one steal.
 *
 * "Owner" is whoever runs the worker that the queue belongs to, one thread at a time; a worker that
 * is handed to another thread takes its queue along, and the handing over orders the two.
 */
#ifndef WEFT_SCHED_RUNQ_H
#define WEFT_SCHED_RUNQ_H

#include "atomic/atomic.h"
#include "base/base.h"

/* A power of two. The model explorer needs few, so that it gets to full and wrapped soon. */
#ifdef WEFT_MODEL
#define WEFT__RUNQ_CAP 4
#else
#define WEFT__RUNQ_CAP 256
#endif

struct weft__task;

struct weft__runq {
    weft__a32 head; /* written by owner and thieves, by compare-exchange; read by all */
    weft__a32 tail; /* written by the owner alone; read by all */

    /* Written by the owner, read by all. Atomic because a thief reads a slot before it has won it:
     * if the owner reuses the slot meanwhile, the thief's compare-exchange fails and what it read
     * is dropped. */
    weft__aptr slot[WEFT__RUNQ_CAP];
};

#define WEFT__RUNQ_MASK (WEFT__RUNQ_CAP - 1)
_Static_assert((WEFT__RUNQ_CAP & WEFT__RUNQ_MASK) == 0, "slots are picked by masking");

void weft__runq_init(struct weft__runq *q);

/* How many tasks lie between a head and a tail that were read one after the other, in this order.
 * The owner alone reads two values that existed at the same moment; for others head may have moved
 * on since, and the difference be larger than the ring. Then the compare-exchange would fail. */
static inline uint32_t weft__runq_between(uint32_t head, uint32_t tail)
{
    return tail - head;
}

/* Owner only. Free slots behind tail. */
static inline uint32_t weft__runq_room(const struct weft__runq *q, uint32_t tail)
{
    /* acquire pairs with the release of whoever moved head in steal_half: the thief is done reading
     * the slot before we see its head, hence before we write that slot again. The owner's own moves
     * are compare-exchanges too and so continue the release sequence of the thief before them.
     * mutation: the thief's loads come before its exchange, which the explorer lets nothing pass.
     * */
    uint32_t used = weft__runq_between(weft__a32_load_acquire(&q->head), tail);
    WEFT_DEBUG_ASSERT(used <= WEFT__RUNQ_CAP);
    return WEFT__RUNQ_CAP - used;
}

/* Owner only. False when full; the task stays the caller's. */
WEFT_MUST_CHECK
static inline bool weft__runq_push(struct weft__runq *q, struct weft__task *task)
{
    WEFT_DEBUG_ASSERT(task != NULL);
    uint32_t tail = weft__a32_load_relaxed(&q->tail); /* our own last store */
    if (weft__runq_room(q, tail) == 0)
        return false;
    weft__aptr_store_relaxed(&q->slot[tail & WEFT__RUNQ_MASK], task);
    /* release publishes the slot, and all that was written into the task before the push, to the
     * acquire of tail in steal_half. */
    weft__a32_store_release(&q->tail, tail + 1);
    return true;
}

/*
 * The same, for a caller that looks for idle workers afterwards: the push is ordered before the
 * caller's later seq_cst load of an idle flag, as weft__runq_len_seq_cst() is ordered after an
 * idle worker's seq_cst store to it. Of the two sides at least one sees the other.
 */
WEFT_MUST_CHECK
static inline bool weft__runq_push_seq_cst(struct weft__runq *q, struct weft__task *task)
{
    WEFT_DEBUG_ASSERT(task != NULL);
    uint32_t tail = weft__a32_load_relaxed(&q->tail); /* our own last store */
    if (weft__runq_room(q, tail) == 0)
        return false;
    weft__aptr_store_relaxed(&q->slot[tail & WEFT__RUNQ_MASK], task);
    /* seq_cst: release as above, and pairs with len_seq_cst: store the task, then look for the
     * idle; announce idleness, then look for tasks. Weaker, both may miss. */
    weft__a32_store_seq_cst(&q->tail, tail + 1);
    return true;
}

/* Owner only. The oldest task, or NULL when empty. */
static inline struct weft__task *weft__runq_pop(struct weft__runq *q)
{
    uint32_t tail = weft__a32_load_relaxed(&q->tail); /* our own last store */
    uint32_t head = weft__a32_load_relaxed(&q->head); /* only a guess, the exchange settles it */
    while (head != tail) {
        /* Our own store, and nobody else writes slots. */
        struct weft__task *task = weft__aptr_load_relaxed(&q->slot[head & WEFT__RUNQ_MASK]);
        /* release pairs with the acquire of head in steal_half: who sees this head sees a tail that
         * is not behind it. Failure needs nothing, it only brings a newer guess. */
        if (weft__a32_cas_weak_release(&q->head, &head, head + 1))
            return task;
    }
    return NULL;
}

/* Owner only. The task that is number n from the oldest, which is 0; NULL: there are no more than
 * n. A thief may be about to take it. */
static inline struct weft__task *weft__runq_peek(const struct weft__runq *q, uint32_t n)
{
    uint32_t head = weft__a32_load_relaxed(&q->head); /* thieves move it: then it is as well gone */
    if (weft__runq_between(head, weft__a32_load_relaxed(&q->tail)) <= n)
        return NULL;
    return weft__aptr_load_relaxed(&q->slot[(head + n) & WEFT__RUNQ_MASK]);
}

/* Owner only, of a queue from which nobody steals: the task that is number n from the oldest, which
 * is 0, changes places with it. There are more than n. */
void weft__runq_bring_forward(struct weft__runq *q, uint32_t n);

/*
 * Takes the older half of `from`, rounded up: the oldest task is returned in *ret_first, to be run
 * at once, the others go to the end of `to`; fewer when `to` has not the room. Nothing is seen
 * twice and the order is kept. The tasks in `to` are published as by weft__runq_push_seq_cst(), so
 * a thief that looks for idle workers afterwards may pass them on.
 *
 * Owner of `to` only, which is another queue than `from`. Returns how many were taken, *ret_first
 * included; 0 when `from` is empty. A queue that others empty meanwhile reads as empty; one they
 * only shorten is tried again.
 */
unsigned weft__runq_steal_half(struct weft__runq *from, struct weft__runq *to,
                               struct weft__task **ret_first);

/* Any thread. Takes the oldest tasks, at most max, into tasks[]; returns how many. For who has no
 * queue of its own to put them into. */
unsigned weft__runq_steal_some(struct weft__runq *from, struct weft__task **tasks, unsigned max);

/* Owner only. Takes the older half, rounded up, at most max, into tasks[]; returns how many. For
 * spilling: half, not one, or a producer that outruns the thieves would spill on every push. */
unsigned weft__runq_take_half(struct weft__runq *q, struct weft__task **tasks, unsigned max);

/* Any thread; was true at some moment for the owner, an estimate for the others. */
static inline unsigned weft__runq_len(const struct weft__runq *q)
{
    /* acquire so that tail is not behind head; see steal_half. mutation: if it is, CAP comes out,
     * an estimate like others. */
    uint32_t head = weft__a32_load_acquire(&q->head);
    uint32_t count = weft__runq_between(head, weft__a32_load_relaxed(&q->tail));
    return count <= WEFT__RUNQ_CAP ? count : WEFT__RUNQ_CAP;
}

/* Any thread. For the look at all queues after announcing idleness, see push_seq_cst: never too
 * few, as seen by who pushed with it; too many when the queue was popped from meanwhile. What a
 * thief has taken and not yet put into its own queue is in none: that thief is awake and will. */
unsigned weft__runq_len_seq_cst(const struct weft__runq *q);

/* Asserts the invariants; for tests, while nobody else works on the queue. */
void weft__runq_check(const struct weft__runq *q);

#endif
