/*
 * The blocking pool: threads for calls that block.
 *
 * A queue under a lock. A submitter sends for a thread, unless one is coming already: for an idle
 * one, or else a new one up to a maximum. When it gets there it sends for two more, if as many jobs
 * are left. So a burst of short jobs wakes few threads and costs the submitter one wake-up at most,
 * and n jobs that block all run after log n wake-ups. A thread that idles for the keep-alive ends.
 * Idle threads stand in a list, each with a futex word of its own: it is taken off the list under
 * the lock that guards the queue, so a thread that was sent for is never counted idle, and no job
 * is left behind (a counter beside the queue would go wrong exactly there). One of them may linger
 * for a moment, when it has run out of jobs: it is taken first, and no system call wakes it.
 *
 * To wake threads for jobs that are over sooner than these get there is a waste, and took two
 * thirds of the time of such jobs. So who gets there and finds that those at work keep up, stands
 * by: nobody else is sent for then, and it looks every 50 us whether they still do. If not, as one
 * of them is blocked, say, it takes part, and sends for others.
 *
 * A thread that ends is joined by the next one that does, and the last by weft__pool_join(): after
 * that nothing of the pool runs any more, and before it at most one thread waits to be joined.
 */
#ifndef WEFT_BLOCKING_POOL_H
#define WEFT_BLOCKING_POOL_H

#include "base/list.h"
#include "sys/linger.h"
#include "sys/lock.h"
#include "task/task.h"

struct weft__pool {
    struct weft__core *core;
    unsigned threads_max;
    uint64_t keep_alive_ns;
    bool may_linger;
    weft__a32 *jobs; /* counts those that have not ended */

    struct weft__lock lock; /* guards what follows */
    struct weft__qnode *first, *last;
    size_t queued;
    size_t begun;           /* jobs ever taken from the queue, modulo 2^64 */
    struct weft__node idle; /* of threads, latest first: its cache is warm */
    unsigned idle_count, thread_count;
    struct weft__pool_thread *lingers;   /* one of the idle, that is awake; NULL: none */
    struct weft__linger luck;            /* of who lingers */
    struct weft__pool_thread *stands_by; /* neither idle nor at work; NULL: none */
    bool relies;                         /* somebody has sent for nobody because of who stands by */
    struct weft__pool_thread *ended;     /* the last one that did; NULL: none */
    unsigned coming; /* threads that were sent for, and have not got to the queue */
    bool is_closed;
    weft__a32 threads_word; /* futex: changes when a thread ends */
};

/* may_linger: threads may run beside each other; none lingers otherwise. */
void weft__pool_init(struct weft__pool *p, struct weft__core *core, unsigned threads_max,
                     uint64_t keep_alive_ns, bool may_linger, weft__a32 *jobs);
/* Queues a job. 0; -EAGAIN or -ENOMEM when there is no thread and none can be started: the job
 * stays the caller's. On a closed pool the job is completed as cancelled. */
int weft__pool_submit(struct weft__pool *p, struct weft__task *job);
/* Cancels the jobs that have not started, and refuses later ones. Idempotent. */
void weft__pool_close(struct weft__pool *p);
/* After close: waits until every thread has ended, and is gone. */
void weft__pool_join(struct weft__pool *p);
void weft__pool_counts(struct weft__pool *p, unsigned *ret_threads, unsigned *ret_idle,
                       size_t *ret_queued);

#endif
