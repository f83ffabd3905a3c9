/*
 * What is waited for on a broadcast channel: an item, the end of the receivers. A wake means no
 * more than "look again": nothing is assigned by it, so nothing is lost when the wait is given up.
 */
#include "sync/broadcast.h"

#include <errno.h>

/* ---- waiting for no receiver ---- */

_Static_assert(sizeof(struct weft__ends_closed) <= sizeof(weft_broadcast_closed_future),
               "weft_broadcast_closed_future is too small");

static const weft_future_ops closed_ops = {weft__ends_closed_poll, weft__ends_closed_cancel,
                                           "broadcast closed"};

void weft_broadcast_closed_future_init(weft_broadcast_closed_future *f, weft_broadcast_sender *tx)
{
    weft__ends_closed_init((struct weft__ends_closed *)f, &closed_ops, weft__broadcast_ends(tx),
                           "weft_broadcast_closed_future_init", WEFT__CALLER);
}

static int start_closed(weft_case *c)
{
    weft_broadcast_closed_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_broadcast_closed(weft_broadcast_sender *tx)
{
    return weft_case_make(start_closed, tx, NULL);
}

int weft_broadcast_closed(weft_broadcast_sender *tx)
{
    return weft__ends_wait_closed(&closed_ops, weft__broadcast_ends(tx), "weft_broadcast_closed",
                                  WEFT__CALLER);
}

int weft_broadcast_blocking_closed(weft_broadcast_sender *tx)
{
    return weft__ends_blocking_wait_closed(&closed_ops, weft__broadcast_ends(tx),
                                           "weft_broadcast_blocking_closed", WEFT__CALLER);
}

/* ---- receive ---- */

struct recv_wait {
    weft_broadcast_receiver *rx; /* NULL: misuse, reported when it was initialised */
    void *elem;
    uint64_t *ret_lost; /* may be NULL */
    struct weft__waiter waiter;
};

_Static_assert(sizeof(struct recv_wait) <= sizeof(((weft_broadcast_recv_future *)0)->opaque),
               "weft_broadcast_recv_future.opaque is too small");

/* Under the lock: 0 when there is an item at rx->next. */
static int look(weft_broadcast_receiver *rx, uint64_t *ret_lost)
{
    weft_broadcast_sender *ch = rx->ch;
    uint64_t oldest = weft__broadcast_oldest(ch);
    if (rx->next < oldest) {
        if (ret_lost)
            *ret_lost = oldest - rx->next;
        rx->next = oldest;
        return -EOVERFLOW;
    }
    if (rx->next == ch->tail)
        return ch->ends.sender_count ? -EAGAIN : -EPIPE;
    return 0;
}

/* The clone function runs without the lock, which is held on entry and on return. The item may be
 * overwritten meanwhile; the reference keeps it. */
static int clone_next(weft_broadcast_receiver *rx, void *elem, struct weft__broadcast_node **dead)
{
    weft_broadcast_sender *ch = rx->ch;
    struct weft__broadcast_node *n = *weft__broadcast_slot(ch, rx->next);
    n->refs++;
    weft__lock_release(&ch->ends.lock);
    int rc = weft__value_clone(&ch->type, elem, n->value);
    weft__lock_acquire(&ch->ends.lock);
    if (rc == 0 || rc == -EOWNERDEAD) {
        if (*weft__broadcast_slot(ch, rx->next) == n)
            weft__broadcast_mark_read(ch, rx->next, dead);
        rx->next++;
    }
    weft__broadcast_unref_node(ch, n, dead);
    return rc;
}

/* Under the lock. */
static int take_next(weft_broadcast_receiver *rx, void *elem, struct weft__broadcast_node **dead)
{
    weft_broadcast_sender *ch = rx->ch;
    if (ch->type.clone)
        return clone_next(rx, elem, dead);
    weft__value_move(&ch->type, elem, (*weft__broadcast_slot(ch, rx->next))->value);
    weft__broadcast_mark_read(ch, rx->next, dead);
    rx->next++;
    return 0;
}

static int try_recv(weft_broadcast_receiver *rx, void *elem, uint64_t *ret_lost)
{
    weft_broadcast_sender *ch = rx->ch;
    if (weft__ends_are_inherited(&ch->ends, "weft_broadcast_recv", NULL))
        return -EPERM;
    struct weft__broadcast_node *dead = NULL;
    weft__lock_acquire(&ch->ends.lock);
    int rc = look(rx, ret_lost);
    if (rc == 0)
        rc = take_next(rx, elem, &dead);
    weft__lock_release(&ch->ends.lock);
    weft__broadcast_bury(ch, dead);
    return rc;
}

static struct recv_wait *recv_wait_of(weft_future *f)
{
    return (void *)WEFT__CONTAINER_OF(f, weft_broadcast_recv_future, future)->opaque;
}

static int recv_poll(weft_future *f, weft_waker *waker)
{
    struct recv_wait *r = recv_wait_of(f);
    if (r->rx == NULL)
        return -EINVAL;
    weft_broadcast_sender *ch = r->rx->ch;
    if (weft__ends_are_inherited(&ch->ends, f->ops->name, NULL))
        return -EPERM;
    struct weft__broadcast_node *dead = NULL;
    weft__lock_acquire(&ch->ends.lock);
    int rc = look(r->rx, r->ret_lost);
    if (rc == -EAGAIN) {
        weft__waitq_wait(&ch->ends.waiting, &r->waiter, waker);
        rc = WEFT_PENDING;
    } else {
        (void)weft__waitq_leave(&ch->ends.waiting, &r->waiter); /* it may not have been queued */
        if (rc == 0)
            rc = take_next(r->rx, r->elem, &dead);
    }
    weft__lock_release(&ch->ends.lock);
    weft__broadcast_bury(ch, dead);
    return rc;
}

/* A wake assigns nothing: the item stays where it is until a poll takes it. */
static void recv_cancel(weft_future *f)
{
    struct recv_wait *r = recv_wait_of(f);
    if (r->rx == NULL)
        return; /* misuse, and not polled */
    weft_broadcast_sender *ch = r->rx->ch;
    if (weft__ends_are_ancestors(&ch->ends))
        return; /* nobody goes through the queue */
    weft__lock_acquire(&ch->ends.lock);
    (void)weft__waitq_leave(&ch->ends.waiting, &r->waiter); /* or it has been woken */
    weft__lock_release(&ch->ends.lock);
}

static const weft_future_ops recv_ops = {recv_poll, recv_cancel, "broadcast receive"};

static int check_recv(const char *call, const weft_broadcast_receiver *rx, const void *elem,
                      const void *caller)
{
    if (rx == NULL || (elem == NULL && rx->ch->type.bytes))
        return weft__misuse(call, -EINVAL, "an argument is NULL", caller);
    return 0;
}

void weft_broadcast_recv_future_init(weft_broadcast_recv_future *f, weft_broadcast_receiver *rx,
                                     void *elem, uint64_t *ret_lost)
{
    int rc = check_recv("weft_broadcast_recv_future_init", rx, elem, WEFT__CALLER);
    f->future.ops = &recv_ops;
    struct recv_wait *r = recv_wait_of(&f->future);
    r->rx = rc < 0 ? NULL : rx;
    r->elem = elem;
    r->ret_lost = ret_lost;
    weft__waiter_init(&r->waiter);
}

static int start_recv(weft_case *c)
{
    weft_broadcast_recv_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr,
                                    c->arg[2].ptr);
    return 0;
}

weft_case weft_case_broadcast_recv(weft_broadcast_receiver *rx, void *elem, uint64_t *ret_lost)
{
    weft_case c = weft_case_make(start_recv, rx, elem);
    c.arg[2].ptr = ret_lost;
    return c;
}

int weft_broadcast_try_recv(weft_broadcast_receiver *rx, void *elem, uint64_t *ret_lost)
{
    int rc = check_recv("weft_broadcast_try_recv", rx, elem, WEFT__CALLER);
    return rc < 0 ? rc : try_recv(rx, elem, ret_lost);
}

int weft_broadcast_recv(weft_broadcast_receiver *rx, void *elem, uint64_t *ret_lost)
{
    int rc = check_recv("weft_broadcast_recv", rx, elem, WEFT__CALLER);
    if (rc == 0)
        rc = weft__wait_begin("weft_broadcast_recv", WEFT__CALLER);
    if (rc < 0)
        return rc;
    rc = try_recv(rx, elem, ret_lost);
    if (rc != -EAGAIN)
        return rc;
    weft_broadcast_recv_future f;
    weft_broadcast_recv_future_init(&f, rx, elem, ret_lost);
    return weft__wait_for(&f.future);
}

int weft_broadcast_blocking_recv(weft_broadcast_receiver *rx, void *elem, uint64_t *ret_lost)
{
    int rc = check_recv("weft_broadcast_blocking_recv", rx, elem, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_broadcast_recv_future f;
    weft_broadcast_recv_future_init(&f, rx, elem, ret_lost);
    return weft__wait_blocking("weft_broadcast_blocking_recv", &f.future, WEFT__CALLER);
}

uint64_t weft_broadcast_receiver_len(weft_broadcast_receiver *rx)
{
    if (weft__is_null("weft_broadcast_receiver_len", rx, WEFT__CALLER) ||
        weft__ends_are_ancestors(&rx->ch->ends))
        return 0;
    weft__lock_acquire(&rx->ch->ends.lock);
    uint64_t len = rx->ch->tail - rx->next;
    weft__lock_release(&rx->ch->ends.lock);
    return len;
}
