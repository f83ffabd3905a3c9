/*
 * Queues of many senders and receivers, under one lock.
 *
 * Nothing is handed over while its taker is not looking. A wake-up is a promise: of a value to the
 * first receiver that waits, or of a slot to the first sender. Promises are counted, and what is
 * promised nobody else may take, so those who wait are served in order; but the value stays where
 * it is until a poll of the receiver takes it, or a poll of the sender puts it in. So a wait that
 * is given up (abort, deadline, a select that was won by another) only passes its promise on, and a
 * value is always in exactly one pair of hands.
 *
 * In a rendezvous queue the sender waits in line with its value (an offer). A receiver that polls
 * takes it out of the sender's memory and ends that wait. This is the one thing that is done to a
 * waiter which it cannot give back; if it gives up before it has seen it, it is told afterwards:
 * is_sent. A task that waits in weft_queue_send() is told by its return, also when it is to be
 * unwound: then its next wait unwinds it. An offer that is withdrawn leaves a promise that cannot
 * be kept; the receiver then waits on, at its former place in the line. Only try_send(), which
 * cannot wait, puts a value into the ring of a rendezvous queue: when a receiver waits, to which it
 * is promised.
 *
 * Closing ends all promises: senders fail, and whoever looks first takes what is left.
 *
 * A forked child leaves a queue of its parent's alone: the lock may be held for ever, and who waits
 * is a copy.
 */
#include "sync/queue.h"

#include "sync/fifo.h"
#include "task/case.h"
#include "task/waitq.h"

#include <errno.h>

#define UNBOUNDED_START 16 /* slots of a queue that grows */

struct weft_queue {
    weft__a64 refs;
    struct weft__value_type type;
    size_t capacity;
    uint32_t process; /* that made it, as weft__sys_process() */

    struct weft__lock lock; /* guards the rest */
    bool is_closed;
    struct weft__fifo items;
    struct weft__waitq senders, receivers;
    size_t offers;         /* senders that wait in a rendezvous queue */
    size_t promised_items; /* receivers that were woken and have not looked yet */
    size_t promised_slots; /* senders likewise */
    uint64_t tickets;      /* given to receivers, in the order in which they came */
};

/* How a wait ended. */
enum {
    PROMISED = WEFT__WAITER_ENDED,
    CLOSED,
    TAKEN, /* the value was: rendezvous senders */
};

struct send_wait {
    weft_queue *q; /* NULL: misuse, reported when it was initialised */
    const void *elem;
    struct weft__waiter waiter;
};

struct recv_wait {
    weft_queue *q; /* likewise */
    void *elem;
    struct weft__waiter waiter;
    uint64_t ticket; /* by the queue; 0: it has not waited yet */
};

_Static_assert(sizeof(struct send_wait) <= sizeof(((weft_queue_send_future *)0)->opaque),
               "weft_queue_send_future.opaque is too small");
_Static_assert(sizeof(struct recv_wait) <= sizeof(((weft_queue_recv_future *)0)->opaque),
               "weft_queue_recv_future.opaque is too small");

/* ---- create and destroy ---- */

int weft_queue_create(const weft_queue_options *options, weft_queue **ret_queue)
{
    if (options == NULL || ret_queue == NULL)
        return weft__misuse("weft_queue_create", -EINVAL, "an argument is NULL", WEFT__CALLER);
    weft_queue *q = weft__calloc(1, sizeof *q);
    if (q == NULL)
        return -ENOMEM;
    bool grows = options->capacity == 0 || options->capacity == WEFT_QUEUE_UNBOUNDED;
    int rc = weft__fifo_init(&q->items, options->elem_bytes,
                             grows ? UNBOUNDED_START : options->capacity);
    if (rc < 0) {
        weft__free(q);
        return rc;
    }
    q->type = (struct weft__value_type){options->elem_bytes, NULL, options->drop};
    q->capacity = options->capacity;
    weft__a64_store_relaxed(&q->refs, 1); /* published with the pointer */
    weft__lock_claim(&q->lock);
    q->process = weft__sys_process();
    *ret_queue = q;
    return 0;
}

weft_queue *weft_queue_ref(weft_queue *q)
{
    if (q == NULL) {
        (void)weft__misuse("weft_queue_ref", -EINVAL, "q is NULL", WEFT__CALLER);
        return NULL;
    }
    weft__a64_add_relaxed(&q->refs, 1); /* the caller's own keeps it alive */
    return q;
}

void weft_queue_unref(weft_queue *q)
{
    /* acq_rel: the last one sees all that the others did with the queue. */
    if (q == NULL || weft__a64_sub_acq_rel(&q->refs, 1) > 1 || weft__sys_is_ancestor(q->process))
        return;
    WEFT_DEBUG_ASSERT(weft__waitq_is_empty(&q->senders) && weft__waitq_is_empty(&q->receivers));
    for (size_t i = 0; i < q->items.count; i++)
        weft__value_drop(&q->type, weft__fifo_at(&q->items, i));
    weft__fifo_fini(&q->items);
    weft__free(q);
}

/* ---- promises; under the lock ---- */

static bool has_room(const weft_queue *q)
{
    return q->items.count + q->promised_slots < q->capacity;
}

/* What a receiver could take. Offers may be withdrawn, so that more is promised than there is. */
static size_t values(const weft_queue *q)
{
    return q->items.count + q->offers;
}

/* There is a value that nobody was promised. */
static bool has_value(const weft_queue *q)
{
    return values(q) > q->promised_items;
}

/* After any change: promises what is free to those who wait. */
static void promise(weft_queue *q, struct weft__wake_list *wakes)
{
    while (q->receivers.first && has_value(q)) {
        q->promised_items++;
        weft__waitq_end(&q->receivers, q->receivers.first, PROMISED, wakes);
    }
    while (q->senders.first && has_room(q)) {
        q->promised_slots++;
        weft__waitq_end(&q->senders, q->senders.first, PROMISED, wakes);
    }
}

/* How w's wait has ended, once: 0 when it has not. */
static uint32_t take_result(struct weft__waiter *w)
{
    weft__waiter_settle(w);
    uint32_t state = weft__a32_load_relaxed(&w->state); /* written under the lock */
    if (state < WEFT__WAITER_ENDED)
        return 0;
    weft__waiter_init(w);
    return state;
}

/* Puts a value in if there is room: -EAGAIN, -EPIPE, -ENOMEM. */
static int put(weft_queue *q, const void *elem, struct weft__wake_list *wakes)
{
    if (q->is_closed)
        return -EPIPE;
    if (!has_room(q))
        return -EAGAIN;
    int rc = weft__fifo_reserve(&q->items);
    if (rc < 0)
        return rc;
    weft__fifo_push(&q->items, elem);
    promise(q, wakes);
    return 0;
}

/* Takes a value out if there is one for the caller: -EAGAIN, -EPIPE. */
static int get(weft_queue *q, void *elem, bool is_promised, struct weft__wake_list *wakes)
{
    bool is_there = is_promised || q->is_closed ? values(q) > 0 : has_value(q);
    if (!is_there)
        return q->is_closed ? -EPIPE : -EAGAIN;
    if (q->items.count > 0) {
        weft__fifo_pop(&q->items, elem);
        promise(q, wakes);
        return 0;
    }
    struct send_wait *s = WEFT__CONTAINER_OF(q->senders.first, struct send_wait, waiter);
    weft__value_move(&q->type, elem, s->elem);
    q->offers--;
    weft__waitq_end(&q->senders, &s->waiter, TAKEN, wakes);
    return 0;
}

static void unlock_and_wake(weft_queue *q, struct weft__wake_list *wakes)
{
    weft__lock_release(&q->lock);
    weft__wake_list_flush(wakes);
}

/* ---- closing, counting ---- */

void weft_queue_close(weft_queue *q)
{
    if (q == NULL) {
        (void)weft__misuse("weft_queue_close", -EINVAL, "q is NULL", WEFT__CALLER);
        return;
    }
    if (weft__sys_is_ancestor(q->process))
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&q->lock);
    q->is_closed = true;
    q->offers = 0;
    weft__waitq_end_all(&q->senders, CLOSED, &wakes);
    weft__waitq_end_all(&q->receivers, CLOSED, &wakes);
    unlock_and_wake(q, &wakes);
}

bool weft_queue_is_closed(weft_queue *q)
{
    if (weft__is_null("weft_queue_is_closed", q, WEFT__CALLER) || weft__sys_is_ancestor(q->process))
        return true;
    weft__lock_acquire(&q->lock);
    bool is_closed = q->is_closed;
    weft__lock_release(&q->lock);
    return is_closed;
}

size_t weft_queue_len(weft_queue *q)
{
    if (weft__is_null("weft_queue_len", q, WEFT__CALLER) || weft__sys_is_ancestor(q->process))
        return 0;
    weft__lock_acquire(&q->lock);
    size_t len = q->items.count;
    weft__lock_release(&q->lock);
    return len;
}

const struct weft__value_type *weft__queue_type(const weft_queue *q)
{
    return &q->type;
}

size_t weft_queue_capacity(const weft_queue *q)
{
    if (weft__is_null("weft_queue_capacity", q, WEFT__CALLER))
        return 0;
    return q->capacity;
}

static int check(const char *call, const weft_queue *q, const void *elem, const void *caller)
{
    if (q == NULL || (elem == NULL && q->type.bytes))
        return weft__misuse(call, -EINVAL, "an argument is NULL", caller);
    return weft__is_inherited(call, q->process, caller) ? -EPERM : 0;
}

/* ---- send ---- */

static weft_queue_send_future *send_future_of(weft_future *f)
{
    return WEFT__CONTAINER_OF(f, weft_queue_send_future, future);
}

static struct send_wait *send_wait_of(weft_future *f)
{
    return (void *)send_future_of(f)->opaque;
}

/* No room: waits in line, in a rendezvous queue with the value on offer. */
static void wait_to_send(struct send_wait *s, weft_waker *waker, struct weft__wake_list *wakes)
{
    weft_queue *q = s->q;
    if (q->capacity == 0 && !weft__waiter_is_queued(&s->waiter))
        q->offers++;
    weft__waitq_wait(&q->senders, &s->waiter, waker);
    promise(q, wakes);
}

static int send_poll(weft_future *f, weft_waker *waker)
{
    struct send_wait *s = send_wait_of(f);
    weft_queue *q = s->q;
    if (q == NULL)
        return -EINVAL;
    if (weft__is_inherited(f->ops->name, q->process, NULL))
        return -EPERM;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&q->lock);
    uint32_t result = take_result(&s->waiter);
    if (result == PROMISED)
        q->promised_slots--; /* and so there is room, unless it was closed */
    int rc = result == TAKEN ? 0 : put(q, s->elem, &wakes);
    if (rc == -EAGAIN) {
        wait_to_send(s, waker, &wakes);
        rc = WEFT_PENDING;
    }
    unlock_and_wake(q, &wakes);
    if (rc == 0)
        send_future_of(f)->is_sent = true;
    return rc;
}

static void send_cancel(weft_future *f)
{
    struct send_wait *s = send_wait_of(f);
    weft_queue *q = s->q;
    if (q == NULL || weft__sys_is_ancestor(q->process))
        return; /* misuse, and not polled; or nobody goes through the queue */
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&q->lock);
    if (weft__waitq_leave(&q->senders, &s->waiter)) {
        q->offers -= q->capacity == 0;
    } else {
        uint32_t result = take_result(&s->waiter);
        if (result == TAKEN) {
            send_future_of(f)->is_sent = true;
        } else if (result == PROMISED) {
            q->promised_slots--;
            promise(q, &wakes);
        }
    }
    unlock_and_wake(q, &wakes);
}

static const weft_future_ops send_ops = {send_poll, send_cancel, "queue send"};

void weft_queue_send_future_init(weft_queue_send_future *f, weft_queue *q, const void *elem)
{
    int rc = check("weft_queue_send_future_init", q, elem, WEFT__CALLER);
    f->future.ops = &send_ops;
    f->is_sent = false;
    struct send_wait *s = send_wait_of(&f->future);
    s->q = rc == -EINVAL ? NULL : q;
    s->elem = elem;
    weft__waiter_init(&s->waiter);
}

static int start_send(weft_case *c)
{
    weft_queue_send_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr);
    return 0;
}

weft_case weft_case_queue_send(weft_queue *q, const void *elem)
{
    return weft_case_make(start_send, q, (void *)(uintptr_t)elem);
}

bool weft_case_queue_was_sent(const weft_case *c)
{
    if (weft__is_null("weft_case_queue_was_sent", c, WEFT__CALLER))
        return false;
    if (c->state == WEFT__CASE_IDLE) /* and what is stored is of an earlier select */
        return false;
    return ((const weft_queue_send_future *)(const void *)c->storage)->is_sent;
}

int weft_queue_try_send(weft_queue *q, const void *elem)
{
    int rc = check("weft_queue_try_send", q, elem, WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&q->lock);
    rc = put(q, elem, &wakes);
    bool is_awaited = q->receivers.first || q->promised_items > values(q);
    if (rc == -EAGAIN && q->capacity == 0 && is_awaited) {
        rc = weft__fifo_reserve(&q->items);
        if (rc == 0) {
            weft__fifo_push(&q->items, elem);
            promise(q, &wakes);
        }
    }
    unlock_and_wake(q, &wakes);
    return rc;
}

int weft_queue_send(weft_queue *q, const void *elem)
{
    int rc = check("weft_queue_send", q, elem, WEFT__CALLER);
    if (rc == 0)
        rc = weft__wait_begin("weft_queue_send", WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&q->lock);
    rc = put(q, elem, &wakes);
    unlock_and_wake(q, &wakes);
    if (rc != -EAGAIN)
        return rc;
    weft_queue_send_future f;
    weft_queue_send_future_init(&f, q, elem);
    return weft__wait_for_done(&f.future, &f.is_sent);
}

int weft_queue_blocking_send(weft_queue *q, const void *elem)
{
    int rc = check("weft_queue_blocking_send", q, elem, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_queue_send_future f;
    weft_queue_send_future_init(&f, q, elem);
    rc = weft__wait_blocking("weft_queue_blocking_send", &f.future, WEFT__CALLER);
    return f.is_sent ? 0 : rc;
}

/* ---- receive ---- */

static struct recv_wait *recv_wait_of(weft_future *f)
{
    return (void *)WEFT__CONTAINER_OF(f, weft_queue_recv_future, future)->opaque;
}

/* In line, in the order of coming. Who waits anew was promised an offer that was withdrawn, and so
 * were those that wait before it. */
static void wait_to_recv(struct recv_wait *r, weft_waker *waker)
{
    weft_queue *q = r->q;
    bool is_new = r->ticket == 0;
    if (is_new)
        r->ticket = ++q->tickets;
    if (is_new || weft__waiter_is_queued(&r->waiter)) {
        weft__waitq_wait(&q->receivers, &r->waiter, waker);
        return;
    }
    struct weft__waiter *behind = q->receivers.first;
    while (behind && WEFT__CONTAINER_OF(behind, struct recv_wait, waiter)->ticket < r->ticket)
        behind = behind->next;
    weft__waitq_insert(&q->receivers, &r->waiter, behind, waker);
}

static int recv_poll(weft_future *f, weft_waker *waker)
{
    struct recv_wait *r = recv_wait_of(f);
    weft_queue *q = r->q;
    if (q == NULL)
        return -EINVAL;
    if (weft__is_inherited(f->ops->name, q->process, NULL))
        return -EPERM;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&q->lock);
    bool is_promised = take_result(&r->waiter) == PROMISED;
    q->promised_items -= is_promised;
    int rc = get(q, r->elem, is_promised, &wakes);
    if (rc == -EAGAIN) {
        wait_to_recv(r, waker);
        rc = WEFT_PENDING;
    }
    unlock_and_wake(q, &wakes);
    return rc;
}

static void recv_cancel(weft_future *f)
{
    struct recv_wait *r = recv_wait_of(f);
    weft_queue *q = r->q;
    if (q == NULL || weft__sys_is_ancestor(q->process))
        return; /* misuse, and not polled; or nobody goes through the queue */
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&q->lock);
    if (!weft__waitq_leave(&q->receivers, &r->waiter) && take_result(&r->waiter) == PROMISED) {
        q->promised_items--;
        promise(q, &wakes);
    }
    unlock_and_wake(q, &wakes);
}

static const weft_future_ops recv_ops = {recv_poll, recv_cancel, "queue receive"};

void weft_queue_recv_future_init(weft_queue_recv_future *f, weft_queue *q, void *elem)
{
    int rc = check("weft_queue_recv_future_init", q, elem, WEFT__CALLER);
    f->future.ops = &recv_ops;
    struct recv_wait *r = recv_wait_of(&f->future);
    r->q = rc == -EINVAL ? NULL : q;
    r->elem = elem;
    r->ticket = 0;
    weft__waiter_init(&r->waiter);
}

static int start_recv(weft_case *c)
{
    weft_queue_recv_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr);
    return 0;
}

weft_case weft_case_queue_recv(weft_queue *q, void *elem)
{
    return weft_case_make(start_recv, q, elem);
}

static int try_recv(weft_queue *q, void *elem)
{
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&q->lock);
    int rc = get(q, elem, false, &wakes);
    unlock_and_wake(q, &wakes);
    return rc;
}

int weft_queue_try_recv(weft_queue *q, void *elem)
{
    int rc = check("weft_queue_try_recv", q, elem, WEFT__CALLER);
    return rc < 0 ? rc : try_recv(q, elem);
}

int weft_queue_recv(weft_queue *q, void *elem)
{
    int rc = check("weft_queue_recv", q, elem, WEFT__CALLER);
    if (rc == 0)
        rc = weft__wait_begin("weft_queue_recv", WEFT__CALLER);
    if (rc < 0)
        return rc;
    rc = try_recv(q, elem);
    if (rc != -EAGAIN)
        return rc;
    weft_queue_recv_future f;
    weft_queue_recv_future_init(&f, q, elem);
    return weft__wait_for(&f.future);
}

int weft_queue_blocking_recv(weft_queue *q, void *elem)
{
    int rc = check("weft_queue_blocking_recv", q, elem, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_queue_recv_future f;
    weft_queue_recv_future_init(&f, q, elem);
    return weft__wait_blocking("weft_queue_blocking_recv", &f.future, WEFT__CALLER);
}
