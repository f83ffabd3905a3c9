/*
 * The last to arrive ends the waits of all others, in the order of their arrival.
 */
#include "task/waitq.h"

#include <weft/barrier.h>

#include <errno.h>

struct barrier {
    uint32_t n;
    uint32_t arrived; /* in this round, and waiting; under the lock */
    struct weft__lock lock;
    struct weft__waitq waiters; /* under the lock */
};
_Static_assert(sizeof(struct barrier) <= sizeof(weft_barrier), "weft_barrier is too small");
_Static_assert(offsetof(struct barrier, n) == offsetof(weft_barrier, n), "WEFT_BARRIER_INIT");

struct wait {
    weft_future future;
    struct barrier *barrier;
    struct weft__waiter waiter;
};
_Static_assert(sizeof(struct wait) <= sizeof(weft_barrier_wait_future),
               "weft_barrier_wait_future is too small");

/* Under the lock. True: this arrival completes the round. */
static bool completes(struct barrier *b, struct weft__wake_list *woken)
{
    if (b->arrived + 1 < b->n)
        return false;
    b->arrived = 0;
    weft__waitq_end_all(&b->waiters, WEFT__WAITER_ENDED, woken);
    return true;
}

static int wait_poll(weft_future *f, weft_waker *waker)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    struct barrier *b = w->barrier;
    if (weft__waiter_result(&w->waiter))
        return 0;
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    int rc = 0;
    weft__lock_acquire(&b->lock);
    bool is_arriving = weft__waiter_is_idle(&w->waiter);
    if (is_arriving && completes(b, &woken)) {
        rc = 1;
    } else if (weft__waiter_must_wait(&b->waiters, &w->waiter, waker)) {
        b->arrived += is_arriving;
        rc = WEFT_PENDING;
    }
    weft__lock_release(&b->lock);
    weft__wake_list_flush(&woken);
    return rc;
}

static void wait_cancel(weft_future *f)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    struct barrier *b = w->barrier;
    weft__lock_acquire(&b->lock);
    if (weft__waitq_leave(&b->waiters, &w->waiter))
        b->arrived--;
    weft__lock_release(&b->lock);
}

static const weft_future_ops wait_ops = {wait_poll, wait_cancel, "barrier"};

void weft_barrier_init(weft_barrier *b, uint32_t n)
{
    *b = (weft_barrier)WEFT_BARRIER_INIT(n);
}

void weft_barrier_wait_future_init(weft_barrier_wait_future *f, weft_barrier *b)
{
    struct wait *w = (struct wait *)f;
    w->future.ops = &wait_ops;
    w->barrier = (struct barrier *)b;
    weft__waiter_init(&w->waiter);
}

int weft_barrier_wait(weft_barrier *b)
{
    int rc = weft__wait_begin("weft_barrier_wait", WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_barrier_wait_future f;
    weft_barrier_wait_future_init(&f, b);
    return weft__wait_for(&f.future);
}

int weft_barrier_try_wait(weft_barrier *barrier)
{
    struct barrier *b = (struct barrier *)barrier;
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&b->lock);
    bool is_leader = completes(b, &woken);
    weft__lock_release(&b->lock);
    weft__wake_list_flush(&woken);
    return is_leader ? 1 : -EAGAIN;
}

int weft_barrier_blocking_wait(weft_barrier *b)
{
    weft_barrier_wait_future f;
    weft_barrier_wait_future_init(&f, b);
    return weft__wait_blocking("weft_barrier_blocking_wait", &f.future, WEFT__CALLER);
}
