#include "sync/mpsc.h"

#include <errno.h>

/* ---- create and destroy ---- */

static int create(size_t elem_bytes, size_t capacity, void (*drop)(void *elem),
                  weft_mpsc_sender **ret_tx, weft_mpsc_receiver **ret_rx)
{
    struct weft__mpsc *ch = weft__aligned_alloc(WEFT__CACHE_LINE, sizeof *ch);
    if (ch == NULL)
        return -ENOMEM;
    memset(ch, 0, sizeof *ch);
    int rc = weft__mpsc_queue_init(&ch->q, elem_bytes, capacity);
    if (rc < 0) {
        weft__free(ch);
        return rc;
    }
    ch->type = (struct weft__value_type){.bytes = elem_bytes, .drop = drop};
    ch->capacity = capacity;
    weft__a64_store_relaxed(&ch->strong, 1);
    weft__a64_store_relaxed(&ch->receivers, 1);
    weft__a64_store_relaxed(&ch->refs, 2); /* all senders, the receiver */
    *ret_tx = (weft_mpsc_sender *)ch;
    *ret_rx = (weft_mpsc_receiver *)ch;
    return 0;
}

int weft_mpsc_create(size_t elem_bytes, size_t capacity, void (*drop)(void *elem),
                     weft_mpsc_sender **ret_tx, weft_mpsc_receiver **ret_rx)
{
    if (ret_tx == NULL || ret_rx == NULL)
        return weft__misuse("weft_mpsc_create", -EINVAL, "an argument is NULL", WEFT__CALLER);
    if (capacity == 0 || capacity > WEFT_MPSC_CAPACITY_MAX)
        return weft__misuse("weft_mpsc_create", -EINVAL,
                            "the capacity is not between 1 and WEFT_MPSC_CAPACITY_MAX",
                            WEFT__CALLER);
    return create(elem_bytes, capacity, drop, ret_tx, ret_rx);
}

int weft_mpsc_create_unbounded(size_t elem_bytes, void (*drop)(void *elem),
                               weft_mpsc_sender **ret_tx, weft_mpsc_receiver **ret_rx)
{
    if (ret_tx == NULL || ret_rx == NULL)
        return weft__misuse("weft_mpsc_create_unbounded", -EINVAL, "an argument is NULL",
                            WEFT__CALLER);
    return create(elem_bytes, 0, drop, ret_tx, ret_rx);
}

void weft__mpsc_unref(struct weft__mpsc *ch)
{
    /* acq_rel: the last one sees all that the others did */
    if (weft__a64_sub_acq_rel(&ch->refs, 1) != 1 || weft__mpsc_is_ancestors(ch))
        return;
    weft__mpsc_queue_fini(&ch->q);
    weft__free(ch);
}

/* ---- senders ---- */

void weft__mpsc_strong_ref(struct weft__mpsc *ch)
{
    weft__a64_add_relaxed(&ch->strong, 1); /* the caller's own keeps it above zero */
}

void weft__mpsc_strong_unref(struct weft__mpsc *ch)
{
    /* acq_rel: what all senders sent comes before NO_SENDER */
    if (weft__a64_sub_acq_rel(&ch->strong, 1) != 1 || weft__mpsc_is_ancestors(ch))
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&ch->q.lock);
    /* release pairs with the acquire in weft_mpsc_receiver_is_closed() */
    weft__a32_or_release(&ch->flags, WEFT__MPSC_NO_SENDER);
    weft__mpsc_wake_receiver(ch, &wakes);
    weft__lock_release(&ch->q.lock);
    weft__wake_list_flush(&wakes);
    weft__mpsc_unref(ch);
}

weft_mpsc_sender *weft_mpsc_sender_ref(weft_mpsc_sender *tx)
{
    if (weft__is_null("weft_mpsc_sender_ref", tx, WEFT__CALLER))
        return NULL;
    weft__mpsc_strong_ref(weft__mpsc_of_tx(tx));
    return tx;
}

void weft_mpsc_sender_unref(weft_mpsc_sender *tx)
{
    if (tx)
        weft__mpsc_strong_unref(weft__mpsc_of_tx(tx));
}

static struct weft__mpsc *of_weak(const weft_mpsc_weak_sender *weak)
{
    return (struct weft__mpsc *)(uintptr_t)weak;
}

static weft_mpsc_weak_sender *weak_ref(struct weft__mpsc *ch)
{
    weft__a64_add_relaxed(&ch->weak, 1);
    weft__a64_add_relaxed(&ch->refs, 1); /* the caller's own keeps it above zero */
    return (weft_mpsc_weak_sender *)ch;
}

weft_mpsc_weak_sender *weft_mpsc_sender_downgrade(weft_mpsc_sender *tx)
{
    if (weft__is_null("weft_mpsc_sender_downgrade", tx, WEFT__CALLER))
        return NULL;
    return weak_ref(weft__mpsc_of_tx(tx));
}

weft_mpsc_weak_sender *weft_mpsc_weak_ref(weft_mpsc_weak_sender *weak)
{
    if (weft__is_null("weft_mpsc_weak_ref", weak, WEFT__CALLER))
        return NULL;
    return weak_ref(of_weak(weak));
}

void weft_mpsc_weak_unref(weft_mpsc_weak_sender *weak)
{
    if (weak == NULL)
        return;
    weft__a64_sub_relaxed(&of_weak(weak)->weak, 1); /* a number to be shown */
    weft__mpsc_unref(of_weak(weak));
}

weft_mpsc_sender *weft_mpsc_weak_upgrade(weft_mpsc_weak_sender *weak)
{
    if (weft__is_null("weft_mpsc_weak_upgrade", weak, WEFT__CALLER))
        return NULL;
    struct weft__mpsc *ch = of_weak(weak);
    uint64_t strong = weft__a64_load_relaxed(&ch->strong);
    /* relaxed: nothing is read on the strength of it, and the memory is kept by the weak one */
    while (strong != 0)
        if (weft__a64_cas_weak_relaxed(&ch->strong, &strong, strong + 1))
            return (weft_mpsc_sender *)ch;
    return NULL;
}

/* ---- slots ---- */

void weft__mpsc_assign(struct weft__mpsc *ch, struct weft__wake_list *wakes)
{
    /* relaxed: written under the lock. Not the queue itself, which who was the last may have left:
     * then there is nobody to serve, but the receiver to be told. */
    if (weft__a32_load_relaxed(&ch->slots_wanted) == 0)
        return;
    /* acquire as in weft__mpsc_has_room. If the receiver frees more this moment, it sees
     * slots_wanted, which has been set since the first began to wait, and comes by itself. */
    ch->q.head_seen = weft__a64_load_acquire(&ch->q.head);
    while (ch->wanting.first) {
        struct weft__mpsc_want *w =
            WEFT__CONTAINER_OF(ch->wanting.first, struct weft__mpsc_want, waiter);
        if (weft__mpsc_room(ch) < w->count)
            return;
        ch->reserved += w->count;
        weft__waitq_end(&ch->wanting, &w->waiter, WEFT__MPSC_ASSIGNED, wakes);
    }
    weft__a32_store_relaxed(&ch->slots_wanted, 0); /* set again under this lock */
}

void weft__mpsc_unreserve(struct weft__mpsc *ch, size_t count, struct weft__wake_list *wakes)
{
    ch->reserved -= count;
    weft__mpsc_assign(ch, wakes);
    if (weft__mpsc_is_over(ch))
        weft__mpsc_wake_receiver(ch, wakes);
}

/* ---- close ---- */

static void close_with(struct weft__mpsc *ch, uint32_t flags)
{
    if (weft__mpsc_is_ancestors(ch))
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&ch->q.lock);
    /* release pairs with the acquire in weft_mpsc_sender_is_closed() */
    weft__a32_or_release(&ch->flags, flags);
    weft__waitq_end_all(&ch->wanting, WEFT__MPSC_REFUSED, &wakes);
    weft__a32_store_relaxed(&ch->slots_wanted, 0);
    weft__waitq_end_all(&ch->closing, WEFT__WAITER_ENDED, &wakes);
    /* A future of the receiver's own that is pending. */
    if (weft__mpsc_is_over(ch))
        weft__mpsc_wake_receiver(ch, &wakes);
    weft__lock_release(&ch->q.lock);
    weft__wake_list_flush(&wakes);
}

void weft_mpsc_receiver_close(weft_mpsc_receiver *rx)
{
    if (weft__is_null("weft_mpsc_receiver_close", rx, WEFT__CALLER))
        return;
    close_with(weft__mpsc_of_rx(rx), WEFT__MPSC_CLOSED);
}

/* Nothing is pushed any more, so the queue ends where the reader sees it end. */
static void destroy_elements(struct weft__mpsc *ch)
{
    struct weft__mpsc_queue *q = &ch->q;
    while (weft__mpsc_queue_look(q)) {
        size_t count;
        char *elem = weft__mpsc_queue_peek(q, SIZE_MAX, &count);
        if (ch->type.drop)
            for (size_t i = 0; i < count; i++)
                weft__value_drop(&ch->type, elem + i * q->elem_bytes);
        weft__mpsc_queue_done(q, count);
    }
}

weft_mpsc_receiver *weft_mpsc_receiver_ref(weft_mpsc_receiver *rx)
{
    if (weft__is_null("weft_mpsc_receiver_ref", rx, WEFT__CALLER))
        return NULL;
    weft__a64_add_relaxed(&weft__mpsc_of_rx(rx)->receivers, 1); /* the caller's own keeps it */
    return rx;
}

void weft_mpsc_receiver_unref(weft_mpsc_receiver *rx)
{
    struct weft__mpsc *ch = weft__mpsc_of_rx(rx);
    /* acq_rel: who gave up the others before us is done with the reader's side */
    if (rx == NULL || weft__a64_sub_acq_rel(&ch->receivers, 1) != 1 || weft__mpsc_is_ancestors(ch))
        return;
    close_with(ch, WEFT__MPSC_CLOSED | WEFT__MPSC_NO_RECEIVER);
    destroy_elements(ch);
    weft__mpsc_unref(ch);
}

/* ---- what can be asked ---- */

bool weft_mpsc_sender_is_closed(const weft_mpsc_sender *tx)
{
    if (weft__is_null("weft_mpsc_sender_is_closed", tx, WEFT__CALLER))
        return true;
    /* acquire: what the receiver did before it closed is seen */
    return weft__a32_load_acquire(&weft__mpsc_of_tx(tx)->flags) & WEFT__MPSC_CLOSED;
}

bool weft_mpsc_receiver_is_closed(const weft_mpsc_receiver *rx)
{
    if (weft__is_null("weft_mpsc_receiver_is_closed", rx, WEFT__CALLER))
        return true;
    /* acquire: what the senders did before they went is seen */
    return weft__a32_load_acquire(&weft__mpsc_of_rx(rx)->flags) &
           (WEFT__MPSC_CLOSED | WEFT__MPSC_NO_SENDER);
}

static size_t capacity(struct weft__mpsc *ch)
{
    if (ch->capacity == 0)
        return SIZE_MAX;
    if (weft__mpsc_is_ancestors(ch))
        return 0;
    weft__lock_acquire(&ch->q.lock);
    /* relaxed, both: a number to be shown. head_seen, by which slots are overwritten, is left
     * alone. */
    uint64_t head = weft__a64_load_relaxed(&ch->q.head);
    uint64_t used = weft__a64_load_relaxed(&ch->q.tail) - head + ch->reserved;
    weft__lock_release(&ch->q.lock);
    return ch->capacity - (size_t)used;
}

static size_t max_capacity(const struct weft__mpsc *ch)
{
    return ch->capacity ? ch->capacity : SIZE_MAX;
}

size_t weft_mpsc_sender_capacity(weft_mpsc_sender *tx)
{
    if (weft__is_null("weft_mpsc_sender_capacity", tx, WEFT__CALLER))
        return 0;
    return capacity(weft__mpsc_of_tx(tx));
}

size_t weft_mpsc_receiver_capacity(weft_mpsc_receiver *rx)
{
    if (weft__is_null("weft_mpsc_receiver_capacity", rx, WEFT__CALLER))
        return 0;
    return capacity(weft__mpsc_of_rx(rx));
}

size_t weft_mpsc_sender_max_capacity(const weft_mpsc_sender *tx)
{
    if (weft__is_null("weft_mpsc_sender_max_capacity", tx, WEFT__CALLER))
        return 0;
    return max_capacity(weft__mpsc_of_tx(tx));
}

size_t weft_mpsc_receiver_max_capacity(const weft_mpsc_receiver *rx)
{
    if (weft__is_null("weft_mpsc_receiver_max_capacity", rx, WEFT__CALLER))
        return 0;
    return max_capacity(weft__mpsc_of_rx(rx));
}

size_t weft_mpsc_receiver_len(const weft_mpsc_receiver *rx)
{
    if (weft__is_null("weft_mpsc_receiver_len", rx, WEFT__CALLER))
        return 0;
    const struct weft__mpsc_queue *q = &weft__mpsc_of_rx(rx)->q;
    return (size_t)(weft__a64_load_relaxed(&q->tail) - q->next); /* a number to be shown */
}

bool weft_mpsc_receiver_is_empty(const weft_mpsc_receiver *rx)
{
    if (weft__is_null("weft_mpsc_receiver_is_empty", rx, WEFT__CALLER))
        return true;
    return weft_mpsc_receiver_len(rx) == 0;
}

/* relaxed, all of these: numbers to be shown */

size_t weft_mpsc_sender_strong_count(const weft_mpsc_sender *tx)
{
    if (weft__is_null("weft_mpsc_sender_strong_count", tx, WEFT__CALLER))
        return 0;
    return (size_t)weft__a64_load_relaxed(&weft__mpsc_of_tx(tx)->strong);
}

size_t weft_mpsc_sender_weak_count(const weft_mpsc_sender *tx)
{
    if (weft__is_null("weft_mpsc_sender_weak_count", tx, WEFT__CALLER))
        return 0;
    return (size_t)weft__a64_load_relaxed(&weft__mpsc_of_tx(tx)->weak);
}

size_t weft_mpsc_receiver_strong_count(const weft_mpsc_receiver *rx)
{
    if (weft__is_null("weft_mpsc_receiver_strong_count", rx, WEFT__CALLER))
        return 0;
    return (size_t)weft__a64_load_relaxed(&weft__mpsc_of_rx(rx)->strong);
}

size_t weft_mpsc_receiver_weak_count(const weft_mpsc_receiver *rx)
{
    if (weft__is_null("weft_mpsc_receiver_weak_count", rx, WEFT__CALLER))
        return 0;
    return (size_t)weft__a64_load_relaxed(&weft__mpsc_of_rx(rx)->weak);
}

size_t weft_mpsc_weak_strong_count(const weft_mpsc_weak_sender *weak)
{
    if (weft__is_null("weft_mpsc_weak_strong_count", weak, WEFT__CALLER))
        return 0;
    return (size_t)weft__a64_load_relaxed(&of_weak(weak)->strong);
}

size_t weft_mpsc_weak_weak_count(const weft_mpsc_weak_sender *weak)
{
    if (weft__is_null("weft_mpsc_weak_weak_count", weak, WEFT__CALLER))
        return 0;
    return (size_t)weft__a64_load_relaxed(&of_weak(weak)->weak);
}

bool weft_mpsc_sender_is_same(const weft_mpsc_sender *a, const weft_mpsc_sender *b)
{
    return a && a == b;
}
