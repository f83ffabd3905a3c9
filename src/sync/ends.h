/*
 * The two sides of a channel of many senders and many receivers: how many there are of each, who
 * waits for news, and who waits for the last receiver to go. What broadcast and watch share.
 *
 * It is the first member of the channel, so the address of the one is that of the other.
 *
 * A forked child leaves a channel of its parent's alone: the lock may be held for ever, and who
 * waits is a copy. What says how it went returns -EPERM, the rest does nothing, and ends that are
 * given up stay where they are.
 */
#ifndef WEFT_SYNC_ENDS_H
#define WEFT_SYNC_ENDS_H

#include "task/waitq.h"

struct weft__ends {
    /* For the memory alone: whoever may still touch it. Taken and given up by all. */
    weft__a64 refs;
    uint32_t process; /* that made it, as weft__sys_process() */

    struct weft__lock lock; /* guards the rest, and what the channel says */
    size_t sender_count, receiver_count;
    struct weft__waitq
        waiting;               /* receivers that wait for something new, or the last sender's end */
    struct weft__waitq closed; /* who waits for the last receiver's end */
};

/* With one sender and one reference, which are the same; the memory is zero. */
static inline void weft__ends_init(struct weft__ends *e)
{
    weft__a64_store_relaxed(&e->refs, 1); /* published with the pointer */
    weft__lock_claim(&e->lock);
    e->process = weft__sys_process();
    e->sender_count = 1;
}

/* True in a forked child, for a channel of its parent's; the first without a report. */
static inline bool weft__ends_are_ancestors(const struct weft__ends *e)
{
    return weft__sys_is_ancestor(e->process);
}
static inline bool weft__ends_are_inherited(const struct weft__ends *e, const char *call,
                                            const void *caller)
{
    return weft__is_inherited(call, e->process, caller);
}

static inline void weft__ends_ref(struct weft__ends *e)
{
    weft__a64_add_relaxed(&e->refs, 1); /* the caller's own keeps it alive */
}

/* True: it was the last, and the channel is the caller's to free. */
WEFT_MUST_CHECK static inline bool weft__ends_unref(struct weft__ends *e)
{
    /* acq_rel: the last one sees all that the others did with the channel */
    return weft__a64_sub_acq_rel(&e->refs, 1) == 1;
}

/* A sender more, with a reference; a sender less, whose reference stays. */
void weft__ends_add_sender(struct weft__ends *e);
void weft__ends_remove_sender(struct weft__ends *e);
/* Under the lock: a receiver less, whose reference stays. */
void weft__ends_remove_receiver(struct weft__ends *e, struct weft__wake_list *wakes);

/* Numbers to be shown. 0 for NULL, and in a forked child. */
size_t weft__ends_sender_count(struct weft__ends *e);
size_t weft__ends_receiver_count(struct weft__ends *e);

/* ---- waiting until there is no receiver ---- */

/* As a future. A wake means no more than "look again": somebody may have subscribed meanwhile. */
struct weft__ends_closed {
    weft_future future;
    struct weft__ends *ends; /* NULL: misuse, reported when it was initialised */
    struct weft__waiter waiter;
};

/* The operations; what they are called is the channel's to say. */
int weft__ends_closed_poll(weft_future *f, weft_waker *waker);
void weft__ends_closed_cancel(weft_future *f);

/* `call` is the public function; -EINVAL, reported, for NULL. */
void weft__ends_closed_init(struct weft__ends_closed *c, const weft_future_ops *ops,
                            struct weft__ends *e, const char *call, const void *caller);
int weft__ends_wait_closed(const weft_future_ops *ops, struct weft__ends *e, const char *call,
                           const void *caller);
int weft__ends_blocking_wait_closed(const weft_future_ops *ops, struct weft__ends *e,
                                    const char *call, const void *caller);

#endif
