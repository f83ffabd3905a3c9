/*
 * The sending side: send and reserve, which wait for the same thing, and permits.
 */
#include "sync/mpsc.h"

#include <errno.h>

/* ---- one step ---- */

/* Makes a block for an unbounded channel that wants one. The lock is given up meanwhile. -ENOMEM;
 * 0: look again. */
static int add_block(struct weft__mpsc *ch)
{
    weft__lock_release(&ch->q.lock);
    struct weft__mpsc_block *b = weft__mpsc_block_create(&ch->q);
    weft__lock_acquire(&ch->q.lock);
    if (b == NULL)
        return weft__mpsc_queue_wants_block(&ch->q) ? -ENOMEM : 0; /* somebody else had luck */
    b->next = ch->q.free;
    ch->q.free = b;
    ch->q.free_count++;
    return 0;
}

/* Under the lock: 0; -EPIPE; -EAGAIN; -ENOMEM. */
static inline int send_now(struct weft__mpsc *ch, const void *elem, struct weft__wake_list *wakes)
{
    while (WEFT__UNLIKELY(weft__mpsc_queue_wants_block(&ch->q)) &&
           !weft__mpsc_has(ch, WEFT__MPSC_CLOSED)) {
        int rc = add_block(ch);
        if (rc < 0)
            return rc;
    }
    if (WEFT__UNLIKELY(weft__mpsc_has(ch, WEFT__MPSC_CLOSED)))
        return -EPIPE;
    if (!weft__mpsc_has_room(ch, 1))
        return -EAGAIN;
    weft__mpsc_push(ch, elem, wakes);
    return 0;
}

/* Under the lock, which it gives up. */
static int try_send_locked(struct weft__mpsc *ch, const void *elem)
{
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    int rc = send_now(ch, elem, &wakes);
    weft__lock_release(&ch->q.lock);
    weft__wake_list_flush(&wakes);
    return rc;
}

static int try_send(struct weft__mpsc *ch, const void *elem)
{
    weft__lock_acquire(&ch->q.lock);
    return try_send_locked(ch, elem);
}

/* Under the lock: sends a word to a ring that has room, as last looked at, when nobody waits. */
static inline bool send_plainly(struct weft__mpsc *ch, const void *elem)
{
    bool is_plain = weft__waitq_is_empty(&ch->receiving) && ch->q.ring != NULL &&
                    ch->q.elem_bytes == sizeof(uint64_t) &&
                    weft__a32_load_relaxed(&ch->flags) == 0 && /* written under the lock */
                    weft__waitq_is_empty(&ch->wanting) && weft__mpsc_room(ch) != 0;
    if (is_plain)
        weft__mpsc_queue_push_word(&ch->q, elem);
    return is_plain;
}

/* Slots were reserved for the caller: they become a permit. */
static void permit_set(weft_mpsc_permit *ret, struct weft__mpsc *ch, size_t count)
{
    ret->opaque = count ? ch : NULL;
    ret->count = count;
    if (count)
        weft__mpsc_strong_ref(ch); /* the sender that reserves keeps it above zero */
}

/* Under the lock: 0; -EPIPE; -EAGAIN. */
static int reserve_now(struct weft__mpsc *ch, size_t count)
{
    if (weft__mpsc_has(ch, WEFT__MPSC_CLOSED))
        return -EPIPE;
    if (count && !weft__mpsc_has_room(ch, count))
        return -EAGAIN;
    ch->reserved += count;
    return 0;
}

static int try_reserve(struct weft__mpsc *ch, size_t count, weft_mpsc_permit *ret_permit)
{
    if (weft__mpsc_is_inherited(ch, "weft_mpsc_reserve", NULL))
        return -EPERM;
    weft__lock_acquire(&ch->q.lock);
    int rc = reserve_now(ch, count);
    weft__lock_release(&ch->q.lock);
    if (rc == 0)
        permit_set(ret_permit, ch, count);
    return rc;
}

/* ---- the wait ---- */

_Static_assert(sizeof(struct weft__mpsc_want) <= sizeof(weft_mpsc_send_future) &&
                   sizeof(struct weft__mpsc_want) <= sizeof(weft_mpsc_reserve_future),
               "the futures are too small");

static struct weft__mpsc_want *want_of(weft_future *f)
{
    return WEFT__CONTAINER_OF(f, struct weft__mpsc_want, future);
}

static WEFT__NOINLINE int want_now(struct weft__mpsc_want *w, struct weft__wake_list *wakes)
{
    return w->ret_permit ? reserve_now(w->ch, w->count) : send_now(w->ch, w->elem, wakes);
}

/* Under the lock; the slots are assigned to w: uses them. */
static int use_assigned(struct weft__mpsc_want *w, struct weft__wake_list *wakes)
{
    struct weft__mpsc *ch = w->ch;
    if (WEFT__UNLIKELY(weft__mpsc_has(ch, WEFT__MPSC_NO_RECEIVER))) {
        weft__mpsc_unreserve(ch, w->count, wakes);
        return -EPIPE;
    }
    if (w->ret_permit == NULL) {
        ch->reserved--;
        weft__mpsc_push(ch, w->elem, wakes);
    }
    return 0;
}

/* Under the lock, after there was no room: says so to the receiver, looks once more, and waits. */
static int want_later(struct weft__mpsc_want *w, weft_waker *waker, struct weft__wake_list *wakes)
{
    struct weft__mpsc *ch = w->ch;
    /* seq_cst, both: see the top of mpsc.h */
    weft__a32_store_seq_cst(&ch->slots_wanted, 1);
    ch->q.head_seen = weft__a64_load_seq_cst(&ch->q.head);
    if (weft__mpsc_has_room(ch, w->count)) {
        weft__a32_store_relaxed(&ch->slots_wanted, 0); /* nobody waits: has_room would be false */
        return want_now(w, wakes);
    }
    weft__waitq_push_back(&ch->wanting, &w->waiter, waker);
    return WEFT_PENDING;
}

static int want_locked(struct weft__mpsc_want *w, weft_waker *waker, struct weft__wake_list *wakes)
{
    weft__waiter_settle(&w->waiter);
    switch (weft__a32_load_relaxed(&w->waiter.state)) { /* written under the lock */
    case WEFT__WAITER_QUEUED:
        w->waiter.waker = waker;
        return WEFT_PENDING;
    case WEFT__MPSC_ASSIGNED:
        return use_assigned(w, wakes);
    case WEFT__MPSC_REFUSED:
        return -EPIPE;
    default:
        break;
    }
    int rc = want_now(w, wakes);
    return rc == -EAGAIN ? want_later(w, waker, wakes) : rc;
}

static int want_poll(weft_future *f, weft_waker *waker)
{
    struct weft__mpsc_want *w = want_of(f);
    if (WEFT__UNLIKELY(w->ch == NULL))
        return -EINVAL;
    if (weft__mpsc_is_inherited(w->ch, f->ops->name, NULL))
        return -EPERM;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&w->ch->q.lock);
    int rc = want_locked(w, waker, &wakes);
    weft__lock_release(&w->ch->q.lock);
    weft__wake_list_flush(&wakes);
    if (rc == 0 && w->ret_permit)
        permit_set(w->ret_permit, w->ch, w->count);
    return rc;
}

static void want_cancel(weft_future *f)
{
    struct weft__mpsc_want *w = want_of(f);
    struct weft__mpsc *ch = w->ch;
    if (WEFT__UNLIKELY(ch == NULL) || weft__mpsc_is_ancestors(ch))
        return; /* misuse, and not polled; or nobody goes through the queue */
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&ch->q.lock);
    if (weft__waitq_leave(&ch->wanting, &w->waiter))
        /* It may have been the one that was too large for what is free. */
        weft__mpsc_assign(ch, &wakes);
    else if (weft__a32_load_relaxed(&w->waiter.state) == WEFT__MPSC_ASSIGNED)
        weft__mpsc_unreserve(ch, w->count, &wakes);
    weft__waiter_init(&w->waiter); /* a second cancel finds nothing to give back */
    weft__lock_release(&ch->q.lock);
    weft__wake_list_flush(&wakes);
}

static const weft_future_ops send_ops = {want_poll, want_cancel, "mpsc send"};
static const weft_future_ops reserve_ops = {want_poll, want_cancel, "mpsc reserve"};

static void want_init(struct weft__mpsc_want *w, const weft_future_ops *ops, struct weft__mpsc *ch,
                      size_t count)
{
    w->future.ops = ops;
    weft__waiter_init(&w->waiter);
    w->ch = ch;
    w->elem = NULL;
    w->ret_permit = NULL;
    w->count = count;
}

/* ---- send ---- */

static int null_argument(const char *call, const void *caller)
{
    return weft__misuse(call, -EINVAL, "an argument is NULL", caller);
}

static inline int check_send(const char *call, const weft_mpsc_sender *tx, const void *elem,
                             const void *caller)
{
    if (WEFT__UNLIKELY(weft__mpsc_lacks(weft__mpsc_of_tx(tx), elem)))
        return null_argument(call, caller);
    return weft__mpsc_is_inherited(weft__mpsc_of_tx(tx), call, caller) ? -EPERM : 0;
}

void weft_mpsc_send_future_init(weft_mpsc_send_future *f, weft_mpsc_sender *tx, const void *elem)
{
    struct weft__mpsc_want *w = (struct weft__mpsc_want *)f;
    int rc = check_send("weft_mpsc_send_future_init", tx, elem, WEFT__CALLER);
    want_init(w, &send_ops, rc == -EINVAL ? NULL : weft__mpsc_of_tx(tx), 1);
    w->elem = elem;
}

static WEFT__NOINLINE int send_later(struct weft__mpsc *ch, const void *elem)
{
    struct weft__mpsc_want w;
    want_init(&w, &send_ops, ch, 1);
    w.elem = elem;
    return weft__wait_for(&w.future);
}

/* Under the lock, which it gives up. */
static WEFT__NOINLINE int send_locked(struct weft__mpsc *ch, const void *elem)
{
    int rc = try_send_locked(ch, elem);
    return WEFT__LIKELY(rc != -EAGAIN) ? rc : send_later(ch, elem);
}

static WEFT__NOINLINE int send_contended(struct weft__mpsc *ch, const void *elem)
{
    weft__lock_acquire_late(&ch->q.lock);
    return send_locked(ch, elem);
}

static WEFT__NOINLINE int send_slowly(weft_mpsc_sender *tx, const void *elem, const void *caller)
{
    int rc = check_send("weft_mpsc_send", tx, elem, caller);
    if (rc == 0)
        rc = weft__wait_begin_slow("weft_mpsc_send", caller);
    if (rc < 0)
        return rc;
    weft__lock_acquire(&weft__mpsc_of_tx(tx)->q.lock);
    return send_locked(weft__mpsc_of_tx(tx), elem);
}

/* Nothing is needed after a call, so no register is kept. */
int weft_mpsc_send(weft_mpsc_sender *tx, const void *elem)
{
    struct weft__mpsc *ch = weft__mpsc_of_tx(tx);
    if (WEFT__UNLIKELY(ch == NULL || elem == NULL || weft__mpsc_is_ancestors(ch) ||
                       !weft__wait_begins(weft__task_current())))
        return weft__stay_for(send_slowly(tx, elem, WEFT__CALLER));
    if (WEFT__UNLIKELY(!weft__lock_try_acquire(&ch->q.lock)))
        return weft__stay_for(send_contended(ch, elem));
    if (!send_plainly(ch, elem))
        return weft__stay_for(send_locked(ch, elem));
    weft__lock_release(&ch->q.lock);
    return 0;
}

int weft_mpsc_try_send(weft_mpsc_sender *tx, const void *elem)
{
    int rc = check_send("weft_mpsc_try_send", tx, elem, WEFT__CALLER);
    return rc < 0 ? rc : try_send(weft__mpsc_of_tx(tx), elem);
}

int weft_mpsc_blocking_send(weft_mpsc_sender *tx, const void *elem)
{
    int rc = check_send("weft_mpsc_blocking_send", tx, elem, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_mpsc_send_future f;
    weft_mpsc_send_future_init(&f, tx, elem);
    return weft__wait_blocking("weft_mpsc_blocking_send", &f.future, WEFT__CALLER);
}

/* ---- reserve ---- */

/* 0, or why this many can never be reserved. */
static int check_reserve(const char *call, const weft_mpsc_sender *tx, size_t count,
                         const weft_mpsc_permit *ret_permit, const void *caller)
{
    if (tx == NULL || ret_permit == NULL)
        return null_argument(call, caller);
    struct weft__mpsc *ch = weft__mpsc_of_tx(tx);
    if (ch->capacity == 0)
        return weft__misuse(call, -EINVAL, "an unbounded channel has no slots to reserve", caller);
    if (count > ch->capacity)
        return weft__misuse(call, -EINVAL, "more slots than the channel has", caller);
    return 0;
}

void weft_mpsc_reserve_future_init(weft_mpsc_reserve_future *f, weft_mpsc_sender *tx, size_t count,
                                   weft_mpsc_permit *ret_permit)
{
    struct weft__mpsc_want *w = (struct weft__mpsc_want *)f;
    int rc = check_reserve("weft_mpsc_reserve_future_init", tx, count, ret_permit, WEFT__CALLER);
    want_init(w, &reserve_ops, rc < 0 ? NULL : weft__mpsc_of_tx(tx), count);
    w->ret_permit = ret_permit;
}

static int reserve(const char *call, weft_mpsc_sender *tx, size_t count,
                   weft_mpsc_permit *ret_permit, const void *caller)
{
    int rc = check_reserve(call, tx, count, ret_permit, caller);
    if (rc == 0)
        rc = weft__wait_begin(call, caller);
    if (rc == 0)
        rc = try_reserve(weft__mpsc_of_tx(tx), count, ret_permit);
    if (rc != -EAGAIN)
        return rc;
    weft_mpsc_reserve_future f;
    weft_mpsc_reserve_future_init(&f, tx, count, ret_permit);
    return weft__wait_for(&f.future);
}

int weft_mpsc_reserve(weft_mpsc_sender *tx, weft_mpsc_permit *ret_permit)
{
    return reserve("weft_mpsc_reserve", tx, 1, ret_permit, WEFT__CALLER);
}

int weft_mpsc_reserve_many(weft_mpsc_sender *tx, size_t count, weft_mpsc_permit *ret_permit)
{
    return reserve("weft_mpsc_reserve_many", tx, count, ret_permit, WEFT__CALLER);
}

int weft_mpsc_try_reserve(weft_mpsc_sender *tx, weft_mpsc_permit *ret_permit)
{
    int rc = check_reserve("weft_mpsc_try_reserve", tx, 1, ret_permit, WEFT__CALLER);
    return rc < 0 ? rc : try_reserve(weft__mpsc_of_tx(tx), 1, ret_permit);
}

int weft_mpsc_try_reserve_many(weft_mpsc_sender *tx, size_t count, weft_mpsc_permit *ret_permit)
{
    int rc = check_reserve("weft_mpsc_try_reserve_many", tx, count, ret_permit, WEFT__CALLER);
    return rc < 0 ? rc : try_reserve(weft__mpsc_of_tx(tx), count, ret_permit);
}

/* ---- waiting for the close ---- */

struct closed_wait {
    weft_future future;
    struct weft__waiter waiter;
    struct weft__mpsc *ch;
};

_Static_assert(sizeof(struct closed_wait) <= sizeof(weft_mpsc_closed_future),
               "weft_mpsc_closed_future is too small");

static int closed_poll(weft_future *f, weft_waker *waker)
{
    struct closed_wait *w = WEFT__CONTAINER_OF(f, struct closed_wait, future);
    struct weft__mpsc *ch = w->ch;
    if (WEFT__UNLIKELY(ch == NULL))
        return -EINVAL;
    if (weft__mpsc_is_inherited(ch, f->ops->name, NULL))
        return -EPERM;
    int rc = 0;
    weft__lock_acquire(&ch->q.lock);
    /* A close ends every wait, so who finds the channel closed is in no queue. */
    if (!weft__mpsc_has(ch, WEFT__MPSC_CLOSED) &&
        weft__waiter_must_wait(&ch->closing, &w->waiter, waker))
        rc = WEFT_PENDING;
    weft__lock_release(&ch->q.lock);
    return rc;
}

static void closed_cancel(weft_future *f)
{
    struct closed_wait *w = WEFT__CONTAINER_OF(f, struct closed_wait, future);
    if (WEFT__UNLIKELY(w->ch == NULL) || weft__mpsc_is_ancestors(w->ch))
        return; /* misuse, and not polled; or nobody goes through the queue */
    weft__lock_acquire(&w->ch->q.lock);
    (void)weft__waitq_leave(&w->ch->closing, &w->waiter); /* nothing to give back if it has ended */
    weft__lock_release(&w->ch->q.lock);
}

static const weft_future_ops closed_ops = {closed_poll, closed_cancel, "mpsc closed"};

void weft_mpsc_closed_future_init(weft_mpsc_closed_future *f, weft_mpsc_sender *tx)
{
    struct closed_wait *w = (struct closed_wait *)f;
    if (tx == NULL)
        (void)null_argument("weft_mpsc_closed_future_init", WEFT__CALLER); /* said by the poll */
    w->future.ops = &closed_ops;
    weft__waiter_init(&w->waiter);
    w->ch = weft__mpsc_of_tx(tx);
}

int weft_mpsc_sender_closed(weft_mpsc_sender *tx)
{
    if (tx == NULL)
        return null_argument("weft_mpsc_sender_closed", WEFT__CALLER);
    int rc = weft__wait_begin("weft_mpsc_sender_closed", WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_mpsc_closed_future f;
    weft_mpsc_closed_future_init(&f, tx);
    return weft__wait_for(&f.future);
}

static int start_send(weft_case *c)
{
    weft_mpsc_send_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr);
    return 0;
}

weft_case weft_case_mpsc_send(weft_mpsc_sender *tx, const void *elem)
{
    return weft_case_make(start_send, tx, (void *)(uintptr_t)elem);
}
