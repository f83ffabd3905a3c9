/*
 * What the tests of mpsc channels share: making, filling, tasks that send, receive and reserve.
 */
#ifndef WEFT_TESTS_MPSC_COMMON_H
#define WEFT_TESTS_MPSC_COMMON_H

#include "harness.h"

#include <weft/mpsc.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct ends {
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
};

static atomic_int dropped;
static atomic_long dropped_sum;

static inline void count_drop(void *elem)
{
    atomic_fetch_add(&dropped, 1);
    atomic_fetch_add(&dropped_sum, *(long *)elem);
}

/* capacity 0: unbounded */
static inline struct ends make_with(size_t capacity, void (*drop)(void *))
{
    struct ends e;
    atomic_store(&dropped, 0);
    atomic_store(&dropped_sum, 0);
    if (capacity)
        CHECK_EQ(weft_mpsc_create(sizeof(long), capacity, drop, &e.tx, &e.rx), 0);
    else
        CHECK_EQ(weft_mpsc_create_unbounded(sizeof(long), drop, &e.tx, &e.rx), 0);
    return e;
}

static inline struct ends make(size_t capacity)
{
    return make_with(capacity, count_drop);
}

static inline void give_up(struct ends e)
{
    weft_mpsc_sender_unref(e.tx);
    weft_mpsc_receiver_unref(e.rx);
}

static inline int send(weft_mpsc_sender *tx, long value)
{
    return weft_mpsc_send(tx, &value);
}

static inline int try_send(weft_mpsc_sender *tx, long value)
{
    return weft_mpsc_try_send(tx, &value);
}

/* What try_recv gives: the value, or the error. */
static inline long try_recv(weft_mpsc_receiver *rx)
{
    long v = -1;
    int rc = weft_mpsc_try_recv(rx, &v);
    return rc < 0 ? rc : v;
}

static inline long recv(weft_mpsc_receiver *rx)
{
    long v = -1;
    int rc = weft_mpsc_recv(rx, &v);
    return rc < 0 ? rc : v;
}

static inline long permit_send(weft_mpsc_permit *p, long value)
{
    return weft_mpsc_permit_send(p, &value);
}

static inline void fill(weft_mpsc_sender *tx, long from, long to)
{
    for (long i = from; i < to; i++)
        CHECK_EQ(try_send(tx, i), 0);
}

/* ---- tasks ---- */

struct job {
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    long from, to; /* values to send */
    size_t count;  /* slots to reserve */
    weft_mpsc_permit permit;
    long value;
    int rc;
    atomic_bool is_done;
    int order;
};

static atomic_int order;

static inline void *send_range(void *arg)
{
    struct job *j = arg;
    for (long i = j->from; i < j->to && j->rc == 0; i++)
        j->rc = send(j->tx, i);
    j->order = atomic_fetch_add(&order, 1);
    atomic_store(&j->is_done, true);
    return NULL;
}

static inline void *receive_one(void *arg)
{
    struct job *j = arg;
    j->value = recv(j->rx);
    atomic_store(&j->is_done, true);
    return NULL;
}

static inline void *reserve_some(void *arg)
{
    struct job *j = arg;
    j->rc = weft_mpsc_reserve_many(j->tx, j->count, &j->permit);
    j->order = atomic_fetch_add(&order, 1);
    atomic_store(&j->is_done, true);
    return NULL;
}

/* Starts it; it has come to its wait. */
static inline weft_task *start(weft_task_fn fn, struct job *j)
{
    weft_task *t = SPAWN(fn, j);
    CHECK_SOON(test_waits(NULL, t));
    return t;
}

#endif
