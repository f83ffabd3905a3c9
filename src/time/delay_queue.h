/*
 * Delay queues: a heap of items under a lock, a queue of those who wait, and one timer.
 *
 * The first who waits is the leader: the timer is armed for it, at the earliest deadline, and it
 * alone of those who wait takes an item. When it goes, with an item or without, the next one leads.
 * An empty queue has nobody waiting: who does when the last item goes is told so under the same
 * lock.
 *
 * Locks: that of the queue, then that of a timer wheel. What the timer wakes takes the queue's lock
 * later, on its own.
 *
 * A forked child leaves a queue of its parent's alone: the locks may be held for ever, and who
 * waits is a copy.
 */
#ifndef WEFT_TIME_DELAY_QUEUE_H
#define WEFT_TIME_DELAY_QUEUE_H

#include "sys/lock.h"
#include "task/task.h"
#include "task/waitq.h"
#include "time/delay_heap.h"
#include "time/timers.h"

struct weft_delay_queue {
    weft__a64 refs;
    struct weft__core *core; /* a reference */
    size_t item_bytes;
    void (*drop)(void *item);
    struct weft__lock lock;
    struct weft__delay_heap heap; /* under lock */
    struct weft__waitq waiters;   /* under lock; empty while heap is */
    struct weft__timer timer;     /* armed and disarmed under lock; for the leader */
};

static inline uint64_t weft__delay_queue_now(const weft_delay_queue *q)
{
    return weft__clock_now(&q->core->clock);
}

/* Under the lock, after the leader or the earliest item has changed: arms the timer anew, or tells
 * the leader that its item is due, or all that there is none. */
void weft__delay_queue_refresh(weft_delay_queue *q, uint64_t now_ns, struct weft__wake_list *woken);
/* Under the lock: takes the earliest item. 0; -EAGAIN when it is not due; -ENODATA. */
int weft__delay_queue_take(weft_delay_queue *q, uint64_t now_ns, void *ret_item,
                           weft_delay_entry *ret_entry);
/* -EINVAL, reported for `call`, when q is NULL, or nobody would own an item that leaves; -EPERM in
 * a forked child, whose parent has made it. */
int weft__delay_queue_check_ret(const char *call, const weft_delay_queue *q, const void *ret_item,
                                const void *caller);

#endif
