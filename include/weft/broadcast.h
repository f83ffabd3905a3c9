/*
 * Broadcast: a channel whose every receiver sees every item sent after it subscribed.
 *
 * The channel keeps the latest `capacity` items. A sender never waits: it overwrites the oldest
 * item, and a receiver that had not read it is told exactly how many it has lost, then goes on with
 * the oldest that is left. Nobody else notices.
 *
 * Each receiver gets a copy of its own: of the bytes, or, for items that own something, by a clone
 * function. The item itself is destroyed once, when the last receiver that could still read it has
 * read it or left, or when it is overwritten.
 *
 * A sender handle is counted: weft_broadcast_sender_ref() for one more sender. When the last one is
 * given up, receivers drain what is kept and then get -EPIPE.
 *
 * Common to all functions:
 *   Threads:  any number of tasks and threads may use a weft_broadcast_sender at the same time. A
 *             weft_broadcast_receiver belongs to one task or thread at a time.
 *   Context:  anywhere, also without a runtime, and never suspends; unless it says otherwise.
 *   Misuse:   -EINVAL with a line in the log for NULL arguments; what returns no error says the
 *             same, and answers as for a channel that is closed and empty.
 *   Fork:     of a channel of its parent's a forked child may give its ends up. All else is -EPERM
 *             with a line in the log; what returns no error does nothing, and answers as for a
 *             channel that is closed and empty.
 *
 * Source: the channel of Tokio's sync::broadcast; its ring with a lock a slot is one lock and
 * counted items here.
 */
#ifndef WEFT_BROADCAST_H
#define WEFT_BROADCAST_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

typedef struct weft_broadcast_sender weft_broadcast_sender;
typedef struct weft_broadcast_receiver weft_broadcast_receiver;

typedef struct weft_broadcast_options {
    size_t capacity;   /* items kept: 1 to 2^30; rounded up to a power of two */
    size_t elem_bytes; /* of an item; 0: the items are mere signals */
    /*
     * Makes the copy for one receiver in uninitialised memory. NULL: the bytes are copied. Returns
     * 0, or a negative errno, which the receive then returns; the item stays to be received. (-EIO
     * for -EAGAIN, -EPIPE, -EOVERFLOW and -EOWNERDEAD, which would mean something else.) If it
     * panics, the receive returns -EOWNERDEAD, with a line in the log, and that receiver goes on
     * after the item. Called without locks; it must not wait.
     */
    int (*clone)(void *to, const void *from);
    /* Destroys an item; a copy is the receiver's to destroy, mostly in the same way. Called without
     * locks, by whoever was the last to need the item; it must not wait. A panic is reported and
     * goes no further. Needs clone: copies of the mere bytes would outlive what they point to. */
    void (*drop)(void *elem);
} weft_broadcast_options;

/*
 * Creates a channel.
 *
 *   options   borrowed for the call
 *   ret_tx    returned: the first sender, for weft_broadcast_sender_unref()
 *   ret_rx    returned: a first receiver, for weft_broadcast_receiver_destroy(). NULL: none yet
 *
 * Returns 0, -ENOMEM (address space for all items is taken here; memory as items are kept), or
 * -EINVAL, logged: capacity 0 or above 2^30, drop without clone, NULL.
 */
WEFT_API WEFT_MUST_CHECK int weft_broadcast_create(const weft_broadcast_options *options,
                                                   weft_broadcast_sender **ret_tx,
                                                   weft_broadcast_receiver **ret_rx);

/* ---- sending ---- */

/* One more sender; returns tx. */
WEFT_API weft_broadcast_sender *weft_broadcast_sender_ref(weft_broadcast_sender *tx);
/* Gives a sender up. What is kept can still be received. NULL does nothing. */
WEFT_API void weft_broadcast_sender_unref(weft_broadcast_sender *tx);

/* A weak sender does not keep the channel from ending. downgrade returns one, for
 * weft_broadcast_weak_unref(); tx stays. upgrade returns a sender, for
 * weft_broadcast_sender_unref(); NULL when none is left. weak stays. ref makes one weak sender
 * more, and returns it. unref(NULL) does nothing. */
typedef struct weft_broadcast_weak_sender weft_broadcast_weak_sender;
WEFT_API weft_broadcast_weak_sender *weft_broadcast_sender_downgrade(weft_broadcast_sender *tx);
WEFT_API WEFT_MUST_CHECK weft_broadcast_sender *weft_broadcast_weak_upgrade(
    weft_broadcast_weak_sender *weak);
WEFT_API weft_broadcast_weak_sender *weft_broadcast_weak_ref(weft_broadcast_weak_sender *weak);
WEFT_API void weft_broadcast_weak_unref(weft_broadcast_weak_sender *weak);

/*
 * Sends one item to all receivers there are. Never suspends.
 *
 *   elem      elem_bytes are copied from it. With a drop function, what they own is taken on
 *             success
 *
 * Returns how many receivers will see it (at least 1, at most INT_MAX); otherwise nothing was
 * taken, and it is
 *   -EPIPE    there is no receiver; it may be tried again once somebody has subscribed
 *   -ENOMEM   as many items are being cloned or dropped this moment as there is memory for, and no
 *             more came
 */
WEFT_API WEFT_MUST_CHECK int weft_broadcast_send(weft_broadcast_sender *tx, const void *elem);

/* A new receiver, which sees what is sent from now on. 0, -ENOMEM, -EINVAL. */
WEFT_API WEFT_MUST_CHECK int weft_broadcast_subscribe(weft_broadcast_sender *tx,
                                                      weft_broadcast_receiver **ret_rx);

/* How many items are kept for somebody: what the slowest receiver has still to read, at most the
 * capacity. */
WEFT_API size_t weft_broadcast_sender_len(weft_broadcast_sender *tx);
WEFT_API size_t weft_broadcast_capacity(const weft_broadcast_sender *tx);
WEFT_API size_t weft_broadcast_receiver_count(weft_broadcast_sender *tx);
WEFT_API size_t weft_broadcast_sender_count(weft_broadcast_receiver *rx);
/* True when rx receives what tx sends. */
WEFT_API bool weft_broadcast_is_same(const weft_broadcast_sender *tx,
                                     const weft_broadcast_receiver *rx);

/* True when there is no receiver. */
WEFT_API bool weft_broadcast_is_closed(weft_broadcast_sender *tx);

/*
 * Waits until there is no receiver; at once when there is none, also when there has never been one.
 * If somebody subscribes before the waiter has looked, it waits on.
 *
 * Returns 0, or as weft_await() -ECANCELED, -ETIMEDOUT, -EPERM; -EINVAL.
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Cancellation:  safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_broadcast_closed(weft_broadcast_sender *tx);
/* The same for plain threads: it blocks the thread. -EPERM inside a task; -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_broadcast_blocking_closed(weft_broadcast_sender *tx);

/* The same as a future, with result 0. tx must outlive it. */
typedef struct weft_broadcast_closed_future {
    weft_future future;
    void *opaque[6];
} weft_broadcast_closed_future;
WEFT_API void weft_broadcast_closed_future_init(weft_broadcast_closed_future *f,
                                                weft_broadcast_sender *tx);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_broadcast_closed(weft_broadcast_sender *tx);

/* ---- receiving ---- */

/* Gives a receiver up: what it has not read is destroyed if nobody else needs it. Nobody may wait
 * for it. NULL does nothing. */
WEFT_API void weft_broadcast_receiver_destroy(weft_broadcast_receiver *rx);

/* A new receiver of the same channel, which sees what is sent from now on; also of one that has
 * lost items, and of one without senders. 0, -ENOMEM, -EINVAL. */
WEFT_API WEFT_MUST_CHECK int weft_broadcast_resubscribe(weft_broadcast_receiver *rx,
                                                        weft_broadcast_receiver **ret_rx);

/*
 * Receives the next item, suspending the calling task while there is none.
 *
 *   elem       borrowed for the call; elem_bytes are written to it when 0 is returned
 *   ret_lost   may be NULL. How many items were lost; written when -EOVERFLOW is returned
 *
 * Returns 0 with an item; otherwise elem is left alone, but for what a clone function that failed
 * has written there, and it is
 *   -EOVERFLOW   items were overwritten before they were read. The next receive goes on with the
 *                oldest that is kept
 *   -EPIPE       no sender is left, and all has been read
 *   -EOWNERDEAD  the clone function panicked; the item is skipped
 *   a negative errno of the clone function
 *   -ETIMEDOUT   a timeout scope around the call expired while there was no item
 *   -ECANCELED   the calling task was aborted
 *   -EPERM       nothing here can wait; -EINVAL
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Cancellation:  safe: no item is lost.
 */
WEFT_API WEFT_MUST_CHECK int weft_broadcast_recv(weft_broadcast_receiver *rx, void *elem,
                                                 uint64_t *ret_lost);
/* The same without waiting: -EAGAIN when there is no item. */
WEFT_API WEFT_MUST_CHECK int weft_broadcast_try_recv(weft_broadcast_receiver *rx, void *elem,
                                                     uint64_t *ret_lost);
/* The same for plain threads: it blocks the thread. -EPERM inside a task; -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_broadcast_blocking_recv(weft_broadcast_receiver *rx, void *elem,
                                                          uint64_t *ret_lost);

/* The same as a future. rx, elem and ret_lost must outlive it; cancelling loses nothing. */
typedef struct weft_broadcast_recv_future {
    weft_future future;
    void *opaque[8];
} weft_broadcast_recv_future;
WEFT_API void weft_broadcast_recv_future_init(weft_broadcast_recv_future *f,
                                              weft_broadcast_receiver *rx, void *elem,
                                              uint64_t *ret_lost);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_broadcast_recv(weft_broadcast_receiver *rx, void *elem,
                                            uint64_t *ret_lost);

/* How many items were sent that this receiver has not read, those included that it has lost without
 * having been told. */
WEFT_API uint64_t weft_broadcast_receiver_len(weft_broadcast_receiver *rx);

WEFT_END_DECLS

#endif
