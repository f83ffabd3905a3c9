/*
 * Delay queues, the waiting: who takes the next item, and when.
 */
#include "time/delay_queue.h"

#include <errno.h>

/* Results of waiters. */
#define ENDED_EMPTY WEFT__WAITER_ENDED
#define ENDED_DOWN (WEFT__WAITER_ENDED + 1)

struct next {
    weft_delay_queue *queue; /* NULL: misuse, reported when it was initialised */
    void *ret_item;
    weft_delay_entry *ret_entry;
    struct weft__waiter waiter;
};

/* ---- who waits, and the timer: under the lock ---- */

void weft__delay_queue_refresh(weft_delay_queue *q, uint64_t now_ns, struct weft__wake_list *woken)
{
    struct weft__waiter *leader = q->waiters.first;
    const struct weft__delay_node *first = weft__delay_heap_first(&q->heap);
    weft__timer_disarm(&q->timer);
    if (leader == NULL)
        return;
    if (first == NULL) {
        weft__waitq_end_all(&q->waiters, ENDED_EMPTY, woken);
        return;
    }
    if (first->deadline_ns <= now_ns) {
        (void)weft__wake_list_claim(woken, leader->waker); /* not parked: it will look by itself */
        return;
    }
    weft__timer_init(&q->timer);
    weft__timer_arm_here(q->core, &q->timer, first->deadline_ns, leader->waker);
}

static int result_of(uint32_t state)
{
    return state == ENDED_DOWN ? -ESHUTDOWN : -ENODATA;
}

static int poll_locked(struct next *n, weft_waker *waker, uint64_t now_ns,
                       struct weft__wake_list *woken)
{
    weft_delay_queue *q = n->queue;
    weft__waiter_settle(&n->waiter);
    uint32_t ended = weft__waiter_result(&n->waiter);
    if (ended)
        return result_of(ended);
    bool leads = q->waiters.first == NULL || q->waiters.first == &n->waiter;
    if (leads) {
        int rc = weft__delay_queue_take(q, now_ns, n->ret_item, n->ret_entry);
        if (rc != -EAGAIN) {
            if (weft__waitq_leave(&q->waiters, &n->waiter))
                weft__delay_queue_refresh(q, now_ns, woken);
            return rc;
        }
    }
    /* coverage: an assertion around a call with an effect */
    if (!weft__waiter_must_wait(&q->waiters, &n->waiter, waker))
        WEFT_ASSERT(!"a wait ended although we hold the lock");
    if (!leads)
        return WEFT_PENDING;
    weft__delay_queue_refresh(q, now_ns, woken);
    if (weft__timer_fired(&q->timer) != WEFT__TIMER_CLOSED)
        return WEFT_PENDING;
    (void)weft__waitq_leave(&q->waiters, &n->waiter); /* it has just queued */
    weft__waitq_end_all(&q->waiters, ENDED_DOWN, woken);
    return -ESHUTDOWN;
}

/* ---- waiting ---- */

static struct next *next_of(weft_future *f)
{
    _Static_assert(sizeof(struct next) <= sizeof(((weft_delay_queue_next_future *)0)->opaque),
                   "weft_delay_queue_next_future.opaque is too small");
    return (struct next *)(void *)WEFT__CONTAINER_OF(f, weft_delay_queue_next_future, future)
        ->opaque;
}

static int next_poll(weft_future *f, weft_waker *waker)
{
    struct next *n = next_of(f);
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    if (WEFT__UNLIKELY(n->queue == NULL))
        return -EINVAL;
    uint32_t ended = weft__waiter_result(&n->waiter);
    if (ended)
        return result_of(ended);
    if (weft__is_inherited(f->ops->name, n->queue->core->process, NULL))
        return -EPERM;
    uint64_t now_ns = weft__delay_queue_now(n->queue);
    weft__lock_acquire(&n->queue->lock);
    int rc = poll_locked(n, waker, now_ns, &woken);
    weft__lock_release(&n->queue->lock);
    weft__wake_list_flush(&woken);
    return rc;
}

static void next_cancel(weft_future *f)
{
    struct next *n = next_of(f);
    weft_delay_queue *q = n->queue;
    if (WEFT__UNLIKELY(q == NULL) || weft__core_is_ancestral(q->core))
        return; /* misuse, and not polled; or nobody goes through the queue */
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    uint64_t now_ns = weft__delay_queue_now(q);
    weft__lock_acquire(&q->lock);
    bool led = q->waiters.first == &n->waiter;
    if (weft__waitq_leave(&q->waiters, &n->waiter) && led)
        weft__delay_queue_refresh(q, now_ns, &woken);
    weft__lock_release(&q->lock);
    weft__wake_list_flush(&woken);
}

static const weft_future_ops next_ops = {next_poll, next_cancel, "delay queue"};

static void next_init(weft_delay_queue_next_future *f, weft_delay_queue *q, void *ret_item,
                      weft_delay_entry *ret_entry)
{
    f->future.ops = &next_ops;
    struct next *n = next_of(&f->future);
    n->queue = q;
    n->ret_item = ret_item;
    n->ret_entry = ret_entry;
    weft__waiter_init(&n->waiter);
}

void weft_delay_queue_next_future_init(weft_delay_queue_next_future *f, weft_delay_queue *q,
                                       void *ret_item, weft_delay_entry *ret_entry)
{
    int rc =
        weft__delay_queue_check_ret("weft_delay_queue_next_future_init", q, ret_item, WEFT__CALLER);
    next_init(f, rc == -EINVAL ? NULL : q, ret_item, ret_entry);
}

int weft_delay_queue_next(weft_delay_queue *q, void *ret_item, weft_delay_entry *ret_entry)
{
    int rc = weft__delay_queue_check_ret("weft_delay_queue_next", q, ret_item, WEFT__CALLER);
    if (rc == 0)
        rc = weft__wait_begin("weft_delay_queue_next", WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_delay_queue_next_future f;
    next_init(&f, q, ret_item, ret_entry);
    return weft__wait_for(&f.future);
}

int weft_delay_queue_blocking_next(weft_delay_queue *q, void *ret_item, weft_delay_entry *ret_entry)
{
    int rc =
        weft__delay_queue_check_ret("weft_delay_queue_blocking_next", q, ret_item, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_delay_queue_next_future f;
    next_init(&f, q, ret_item, ret_entry);
    return weft__wait_blocking("weft_delay_queue_blocking_next", &f.future, WEFT__CALLER);
}

static int start_next(weft_case *c)
{
    weft_delay_queue_next_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr,
                                      c->arg[2].ptr);
    return 0;
}

weft_case weft_case_delay_queue_next(weft_delay_queue *q, void *ret_item,
                                     weft_delay_entry *ret_entry)
{
    weft_case c = weft_case_make(start_next, q, ret_item);
    c.arg[2].ptr = ret_entry;
    return c;
}
