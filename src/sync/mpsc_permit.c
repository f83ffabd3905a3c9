/*
 * Permits, and the sender that polls, which is a permit and the wait for it.
 */
#include "sync/mpsc.h"

#include <errno.h>

/* ---- permits ---- */

int weft_mpsc_permit_send(weft_mpsc_permit *p, const void *elem)
{
    if (p == NULL || p->count == 0)
        return weft__misuse("weft_mpsc_permit_send", -EINVAL, "the permit has no slot left",
                            WEFT__CALLER);
    struct weft__mpsc *ch = p->opaque;
    if (WEFT__UNLIKELY(weft__mpsc_lacks(ch, elem)))
        return weft__misuse("weft_mpsc_permit_send", -EINVAL, "an argument is NULL", WEFT__CALLER);
    if (weft__mpsc_is_inherited(ch, "weft_mpsc_permit_send", WEFT__CALLER))
        return -EPERM;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&ch->q.lock);
    bool has_receiver = !weft__mpsc_has(ch, WEFT__MPSC_NO_RECEIVER);
    ch->reserved--;
    if (has_receiver)
        weft__mpsc_push(ch, elem, &wakes);
    weft__lock_release(&ch->q.lock);
    weft__wake_list_flush(&wakes);
    bool is_last = --p->count == 0;
    if (is_last)
        p->opaque = NULL;
    if (!has_receiver)
        /* It is taken, as promised: destroyed where it lies. p may be gone with it. */
        weft__value_drop(&ch->type, (void *)(uintptr_t)elem);
    if (is_last)
        weft__mpsc_strong_unref(ch);
    return 0;
}

void weft_mpsc_permit_release(weft_mpsc_permit *p)
{
    if (p == NULL || p->count == 0)
        return;
    struct weft__mpsc *ch = p->opaque;
    if (!weft__mpsc_is_ancestors(ch)) {
        struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
        weft__lock_acquire(&ch->q.lock);
        weft__mpsc_unreserve(ch, p->count, &wakes);
        weft__lock_release(&ch->q.lock);
        weft__wake_list_flush(&wakes);
    }
    p->count = 0;
    p->opaque = NULL;
    weft__mpsc_strong_unref(ch);
}

/* ---- the sender that polls ---- */

void weft_mpsc_poll_sender_init(weft_mpsc_poll_sender *p, weft_mpsc_sender *tx)
{
    if (weft__is_null("weft_mpsc_poll_sender_init", p, WEFT__CALLER))
        return;
    memset(p, 0, sizeof *p);
    p->tx = weft_mpsc_sender_ref(tx);
}

int weft_mpsc_poll_sender_reserve(weft_mpsc_poll_sender *p, weft_waker *waker)
{
    if (p == NULL)
        return weft__misuse("weft_mpsc_poll_sender_reserve", -EINVAL, "the sender is NULL",
                            WEFT__CALLER);
    if (p->permit.count)
        return 0;
    if (p->tx == NULL)
        return -EPIPE;
    if (!p->is_pending)
        weft_mpsc_reserve_future_init(&p->reserve, p->tx, 1, &p->permit);
    /* Charged, so that a future which sends as long as there are slots yields in between. */
    int rc = weft_future_poll(&p->reserve.future, waker);
    p->is_pending = rc == WEFT_PENDING;
    return rc;
}

int weft_mpsc_poll_sender_send(weft_mpsc_poll_sender *p, const void *elem)
{
    if (p == NULL || p->permit.count == 0)
        return weft__misuse("weft_mpsc_poll_sender_send", -EINVAL,
                            "no slot is reserved: weft_mpsc_poll_sender_reserve() comes first",
                            WEFT__CALLER);
    return weft_mpsc_permit_send(&p->permit, elem);
}

static bool stop_waiting(weft_mpsc_poll_sender *p)
{
    if (!p->is_pending)
        return false;
    p->is_pending = false;
    p->reserve.future.ops->cancel(&p->reserve.future);
    return true;
}

bool weft_mpsc_poll_sender_abort(weft_mpsc_poll_sender *p)
{
    if (weft__is_null("weft_mpsc_poll_sender_abort", p, WEFT__CALLER))
        return false;
    bool had_slot = p->permit.count > 0;
    weft_mpsc_permit_release(&p->permit);
    return stop_waiting(p) || had_slot;
}

void weft_mpsc_poll_sender_close(weft_mpsc_poll_sender *p)
{
    if (weft__is_null("weft_mpsc_poll_sender_close", p, WEFT__CALLER))
        return;
    (void)stop_waiting(p); /* there may be no wait to end */
    weft_mpsc_sender_unref(p->tx);
    p->tx = NULL;
}

void weft_mpsc_poll_sender_fini(weft_mpsc_poll_sender *p)
{
    if (p == NULL)
        return;
    (void)weft_mpsc_poll_sender_abort(p); /* either way */
    weft_mpsc_poll_sender_close(p);
}

static int start_reserve(weft_case *c)
{
    weft_mpsc_reserve_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[2].size,
                                  c->arg[1].ptr);
    return 0;
}

weft_case weft_case_mpsc_reserve(weft_mpsc_sender *tx, size_t count, weft_mpsc_permit *ret_permit)
{
    weft_case c = weft_case_make(start_reserve, tx, ret_permit);
    c.arg[2].size = count;
    return c;
}
