#include "sync/ends.h"

#include <errno.h>

void weft__ends_add_sender(struct weft__ends *e)
{
    weft__ends_ref(e);
    if (weft__ends_are_ancestors(e))
        return; /* and so does remove */
    weft__lock_acquire(&e->lock);
    e->sender_count++;
    weft__lock_release(&e->lock);
}

void weft__ends_remove_sender(struct weft__ends *e)
{
    if (weft__ends_are_ancestors(e))
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&e->lock);
    if (--e->sender_count == 0)
        weft__waitq_end_all(&e->waiting, WEFT__WAITER_ENDED, &wakes);
    weft__lock_release(&e->lock);
    weft__wake_list_flush(&wakes);
}

void weft__ends_remove_receiver(struct weft__ends *e, struct weft__wake_list *wakes)
{
    if (--e->receiver_count == 0)
        weft__waitq_end_all(&e->closed, WEFT__WAITER_ENDED, wakes);
}

size_t weft__ends_sender_count(struct weft__ends *e)
{
    if (e == NULL || weft__ends_are_ancestors(e))
        return 0;
    weft__lock_acquire(&e->lock);
    size_t count = e->sender_count;
    weft__lock_release(&e->lock);
    return count;
}

size_t weft__ends_receiver_count(struct weft__ends *e)
{
    if (e == NULL || weft__ends_are_ancestors(e))
        return 0;
    weft__lock_acquire(&e->lock);
    size_t count = e->receiver_count;
    weft__lock_release(&e->lock);
    return count;
}

/* ---- waiting until there is no receiver ---- */

static struct weft__ends_closed *closed_of(weft_future *f)
{
    return WEFT__CONTAINER_OF(f, struct weft__ends_closed, future);
}

int weft__ends_closed_poll(weft_future *f, weft_waker *waker)
{
    struct weft__ends_closed *c = closed_of(f);
    struct weft__ends *e = c->ends;
    if (e == NULL)
        return -EINVAL;
    if (weft__ends_are_inherited(e, f->ops->name, NULL))
        return -EPERM;
    int rc = 0;
    weft__lock_acquire(&e->lock);
    if (e->receiver_count == 0) {
        (void)weft__waitq_leave(&e->closed, &c->waiter); /* it may not have been queued */
    } else {
        weft__waitq_wait(&e->closed, &c->waiter, waker);
        rc = WEFT_PENDING;
    }
    weft__lock_release(&e->lock);
    return rc;
}

void weft__ends_closed_cancel(weft_future *f)
{
    struct weft__ends_closed *c = closed_of(f);
    if (c->ends == NULL || weft__ends_are_ancestors(c->ends))
        return; /* misuse, and not polled; or nobody goes through the queue */
    weft__lock_acquire(&c->ends->lock);
    (void)weft__waitq_leave(&c->ends->closed, &c->waiter); /* or it was woken: nothing is owed */
    weft__lock_release(&c->ends->lock);
}

static int check(const struct weft__ends *e, const char *call, const void *caller)
{
    return e ? 0 : weft__misuse(call, -EINVAL, "the sender is NULL", caller);
}

void weft__ends_closed_init(struct weft__ends_closed *c, const weft_future_ops *ops,
                            struct weft__ends *e, const char *call, const void *caller)
{
    (void)check(e, call, caller); /* said by the poll */
    c->future.ops = ops;
    c->ends = e;
    weft__waiter_init(&c->waiter);
}

int weft__ends_wait_closed(const weft_future_ops *ops, struct weft__ends *e, const char *call,
                           const void *caller)
{
    int rc = check(e, call, caller);
    if (rc == 0)
        rc = weft__wait_begin(call, caller);
    if (rc < 0)
        return rc;
    struct weft__ends_closed c;
    weft__ends_closed_init(&c, ops, e, call, caller);
    return weft__wait_for(&c.future);
}

int weft__ends_blocking_wait_closed(const weft_future_ops *ops, struct weft__ends *e,
                                    const char *call, const void *caller)
{
    int rc = check(e, call, caller);
    if (rc < 0)
        return rc;
    struct weft__ends_closed c;
    weft__ends_closed_init(&c, ops, e, call, caller);
    return weft__wait_blocking(call, &c.future, caller);
}
