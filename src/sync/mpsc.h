/*
 * What the files of the mpsc channel share: the channel, and what is done under its lock.
 *
 * The lock guards the writers' side of the queue, slots that are reserved, the waiters, and the
 * flags. The receiver takes elements without it, and comes for it in three cases: to wait, to end a
 * block, and to hand slots on.
 *
 * Slots. A bounded channel has room for n when tail - head + reserved + n <= capacity and nobody
 * waits. Who waits for slots is assigned them, in order: they are reserved for it, and it is woken.
 * It then sends, or has its permit; if it was cancelled meanwhile it gives them back, to the next.
 *
 * The receiver frees a slot without the lock, and a sender that finds none goes to wait; both
 * store, then look at the other's store, and all four accesses are seq_cst: the receiver stores
 * head and loads slots_wanted, the sender stores slots_wanted and loads head. So either the sender
 * sees the slot or the receiver sees the sender.
 *
 * A forked child leaves a channel of its parent's alone: the lock may be held for ever, and who
 * waits is a copy. It may only take what was in the queue, which needs no lock.
 *
 * An end that is given up frees nothing: `refs` counts who may still touch the memory. All senders
 * are one of them, and so are all references to the receiver.
 */
#ifndef WEFT_SYNC_MPSC_H
#define WEFT_SYNC_MPSC_H

#include "sync/mpsc_queue.h"
#include "sync/value.h"
#include "task/waitq.h"

#include <weft/mpsc.h>

#define WEFT__MPSC_CLOSED 1u /* by the receiver */
#define WEFT__MPSC_NO_SENDER 2u
#define WEFT__MPSC_NO_RECEIVER 4u

/* Results of waits for slots; of the other waits ENDED says all. */
enum weft__mpsc_result {
    WEFT__MPSC_ASSIGNED = WEFT__WAITER_ENDED, /* slots are reserved for the waiter */
    WEFT__MPSC_REFUSED,                       /* closed */
};

struct weft__mpsc {
    struct weft__mpsc_queue q;

    /* By who reserves, under the lock; read by the receiver: somebody waits for a slot. */
    weft__a32 slots_wanted WEFT__ALIGNED(WEFT__CACHE_LINE);
    weft__a32 flags; /* written under the lock */
    /* Fixed. */
    struct weft__value_type type;
    size_t capacity; /* 0: unbounded */
    /* Under the lock. */
    uint64_t reserved;
    struct weft__waitq wanting; /* struct weft__mpsc_want: for slots, in order */
    struct weft__waitq receiving, closing;

    weft__a64 strong; /* senders, and permits with slots */
    weft__a64 weak;
    weft__a64 receivers;
    weft__a64 refs;
};

/* A wait for slots: behind send and reserve futures. */
struct weft__mpsc_want {
    weft_future future;
    struct weft__waiter waiter;
    struct weft__mpsc *ch;        /* NULL: misuse, reported when it was initialised */
    const void *elem;             /* to send */
    weft_mpsc_permit *ret_permit; /* or to reserve */
    size_t count;                 /* slots wanted */
};

static inline struct weft__mpsc *weft__mpsc_of_tx(const weft_mpsc_sender *tx)
{
    return (struct weft__mpsc *)(uintptr_t)tx;
}
static inline struct weft__mpsc *weft__mpsc_of_rx(const weft_mpsc_receiver *rx)
{
    return (struct weft__mpsc *)(uintptr_t)rx;
}

/* An argument that must be there is NULL. Elements without bytes need no memory. */
static inline bool weft__mpsc_lacks(const struct weft__mpsc *ch, const void *elems)
{
    return ch == NULL || (elems == NULL && ch->type.bytes);
}

/* True in a forked child, for a channel of its parent's; the first without a report. */
static inline bool weft__mpsc_is_ancestors(const struct weft__mpsc *ch)
{
    return weft__sys_is_ancestor(ch->q.process);
}
static inline bool weft__mpsc_is_inherited(const struct weft__mpsc *ch, const char *call,
                                           const void *caller)
{
    return weft__is_inherited(call, ch->q.process, caller);
}

void weft__mpsc_unref(struct weft__mpsc *ch);
/* One more sender, by one that is there; one less. */
void weft__mpsc_strong_ref(struct weft__mpsc *ch);
void weft__mpsc_strong_unref(struct weft__mpsc *ch);

/* ---- under the lock ---- */

static inline bool weft__mpsc_has(const struct weft__mpsc *ch, uint32_t flag)
{
    return weft__a32_load_relaxed(&ch->flags) & flag; /* written under the lock */
}

static inline void weft__mpsc_wake_receiver(struct weft__mpsc *ch, struct weft__wake_list *wakes)
{
    if (!weft__waitq_is_empty(&ch->receiving))
        weft__waitq_end_all(&ch->receiving, WEFT__WAITER_ENDED, wakes);
}

/* Nothing more can come: what is in the queue is the last. */
static inline bool weft__mpsc_is_over(const struct weft__mpsc *ch)
{
    uint32_t flags = weft__a32_load_relaxed(&ch->flags); /* written under the lock */
    return WEFT__UNLIKELY(flags != 0) &&
           ((flags & WEFT__MPSC_NO_SENDER) || ((flags & WEFT__MPSC_CLOSED) && ch->reserved == 0));
}

/* Slots free, by head as last looked at. */
static inline uint64_t weft__mpsc_room(const struct weft__mpsc *ch)
{
    uint64_t tail = weft__a64_load_relaxed(&ch->q.tail); /* written under the lock */
    return ch->capacity - (tail - ch->q.head_seen) - ch->reserved;
}

/* `count` slots are free, and nobody waits for them. */
static inline bool weft__mpsc_has_room(struct weft__mpsc *ch, size_t count)
{
    if (ch->capacity == 0)
        return true;
    if (WEFT__UNLIKELY(!weft__waitq_is_empty(&ch->wanting)))
        return false;
    if (WEFT__LIKELY(weft__mpsc_room(ch) >= count))
        return true;
    /* acquire pairs with the store in done(): the receiver has read what we shall overwrite. */
    ch->q.head_seen = weft__a64_load_acquire(&ch->q.head);
    return weft__mpsc_room(ch) >= count;
}

/* Sends; there is a slot. */
static inline void weft__mpsc_push(struct weft__mpsc *ch, const void *elem,
                                   struct weft__wake_list *wakes)
{
    weft__mpsc_queue_push(&ch->q, elem);
    weft__mpsc_wake_receiver(ch, wakes);
}

/* Assigns free slots to those who wait. */
void weft__mpsc_assign(struct weft__mpsc *ch, struct weft__wake_list *wakes);
/* Gives reserved slots up: to those who wait, and, if they were the last after a close, ends the
 * receiver's wait. */
void weft__mpsc_unreserve(struct weft__mpsc *ch, size_t count, struct weft__wake_list *wakes);

#endif
