/*
 * Mpsc: a queue of fixed-size elements from many senders to one receiver.
 *
 * Bounded, where a sender waits while the channel is full, or unbounded. Elements are copied in and
 * out, so nothing inside points into a task's stack; what they own goes with them. What one sender
 * sends arrives in that order. Who waits for a slot is served in order, and nobody overtakes it.
 *
 * Senders are counted. When the last one, permits included, is given up, the receiver drains what
 * is left and then gets -EPIPE. The receiver closes the channel, or is given up, and senders get
 * -EPIPE; an element that could not be sent stays the caller's.
 *
 *     weft_mpsc_sender *tx;
 *     weft_mpsc_receiver *rx;
 *     rc = weft_mpsc_create(sizeof(struct job), 100, NULL, &tx, &rx);
 *     ...
 *     rc = weft_spawn(producer, weft_mpsc_sender_ref(tx), NULL);   gives it up in the end
 *     weft_mpsc_sender_unref(tx);
 *     while (weft_mpsc_recv(rx, &job) == 0)
 *         ...
 *     weft_mpsc_receiver_unref(rx);
 *
 * Common to all functions:
 *   Threads:  any number of tasks and threads may use a sender at the same time. The receiver is
 *             used by one at a time.
 *   Context:  anywhere, also without a runtime, and never suspends; unless it says otherwise.
 *   Misuse:   -EINVAL with a line in the log for NULL arguments, in futures by their poll; what
 *             returns no error says the same, and answers as for a channel that is closed and
 * empty.
 *             Elements without bytes may be NULL.
 *   Fork:     of a channel of its parent's a forked child may give its ends up, and take what is in
 *             the queue without waiting. All else is -EPERM with a line in the log; what returns no
 *             error does nothing, or tells of the copy. A bounded one has no room there.
 *
 * Source: the interface follows Tokio's sync::mpsc.
 */
#ifndef WEFT_MPSC_H
#define WEFT_MPSC_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

typedef struct weft_mpsc_sender weft_mpsc_sender;
typedef struct weft_mpsc_weak_sender weft_mpsc_weak_sender;
typedef struct weft_mpsc_receiver weft_mpsc_receiver;

/* The largest capacity. */
#define WEFT_MPSC_CAPACITY_MAX (UINT32_C(1) << 30)

/*
 * Makes a bounded channel. The memory for all its elements is taken here.
 *
 *   elem_bytes   size of an element; 0: the elements are mere signals. Large ones are better passed
 *                by a pointer, since they are copied while other senders wait
 *   capacity     elements held, slots reserved included: 1 to WEFT_MPSC_CAPACITY_MAX
 *   drop         destroys an element that was sent and that nobody received; NULL: nothing to do.
 *                Called without locks, by whoever gives the receiver up, or sends through a permit
 *                afterwards. It must not wait. A panic is reported, and the others are destroyed
 *   ret_tx       returned: the first sender, for weft_mpsc_sender_unref()
 *   ret_rx       returned: for weft_mpsc_receiver_unref()
 *
 * Returns 0, -ENOMEM, or -EINVAL, logged.
 */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_create(size_t elem_bytes, size_t capacity,
                                              void (*drop)(void *elem), weft_mpsc_sender **ret_tx,
                                              weft_mpsc_receiver **ret_rx);
/* Makes an unbounded one: sending never waits, but takes memory, 32 elements at a time, and fails
 * with -ENOMEM when there is none. Memory of received elements is used again. */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_create_unbounded(size_t elem_bytes, void (*drop)(void *elem),
                                                        weft_mpsc_sender **ret_tx,
                                                        weft_mpsc_receiver **ret_rx);

/* ---- senders ---- */

/* One more sender; returns tx. */
WEFT_API weft_mpsc_sender *weft_mpsc_sender_ref(weft_mpsc_sender *tx);
/* Gives a sender up; with the last one the channel ends. NULL does nothing. */
WEFT_API void weft_mpsc_sender_unref(weft_mpsc_sender *tx);

/*
 * Sends one element, suspending the calling task while a bounded channel is full.
 *
 *   elem      borrowed for the call; elem_bytes are copied from it. What it owns is taken when 0 is
 *             returned
 *
 * Returns 0 once the element is in the channel. Otherwise nothing was taken, and it is
 *   -EPIPE      the receiver was closed or given up, before the call or during it
 *   -ETIMEDOUT  a timeout scope around the call expired while the channel was full
 *   -ECANCELED  the calling task was aborted
 *   -ENOMEM     unbounded, and out of memory
 *   -EPERM      nothing here can wait, see weft_await(); -EINVAL
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Cancellation:  safe, but loses the place in the queue. The element is sent and 0 returned, or it
 *                is not sent at all.
 */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_send(weft_mpsc_sender *tx, const void *elem);
/* Sends if there is a slot. As weft_mpsc_send(); -EAGAIN when the channel is full, or others wait.
 * Never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_try_send(weft_mpsc_sender *tx, const void *elem);
/* Sends on a plain thread, which need not be in any runtime, and blocks it meanwhile. As
 * weft_mpsc_send(); -EPERM inside a task; -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_blocking_send(weft_mpsc_sender *tx, const void *elem);

/* Sending as a future: results of weft_mpsc_send(). elem is borrowed until it ends; tx outlives
 * it. */
typedef struct weft_mpsc_send_future {
    weft_future future;
    void *opaque[8];
} weft_mpsc_send_future;
WEFT_API void weft_mpsc_send_future_init(weft_mpsc_send_future *f, weft_mpsc_sender *tx,
                                         const void *elem);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_mpsc_send(weft_mpsc_sender *tx, const void *elem);

/* True once the receiver was closed or given up. */
WEFT_API bool weft_mpsc_sender_is_closed(const weft_mpsc_sender *tx);
/*
 * Waits until the receiver is closed or given up.
 *
 * Returns 0; -ECANCELED, -ETIMEDOUT, -EPERM as weft_await(); -EINVAL.
 * Context: as weft_await(); may suspend. Cancellation: safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_sender_closed(weft_mpsc_sender *tx);
/* The same as a future, with result 0. tx outlives it. */
typedef struct weft_mpsc_closed_future {
    weft_future future;
    void *opaque[6];
} weft_mpsc_closed_future;
WEFT_API void weft_mpsc_closed_future_init(weft_mpsc_closed_future *f, weft_mpsc_sender *tx);

/* Slots that are free this moment: what is in the channel and what is reserved does not count.
 * SIZE_MAX for an unbounded one. */
WEFT_API size_t weft_mpsc_sender_capacity(weft_mpsc_sender *tx);
/* What weft_mpsc_create() was given; SIZE_MAX for an unbounded one. */
WEFT_API size_t weft_mpsc_sender_max_capacity(const weft_mpsc_sender *tx);
/* Senders, permits included; weak senders. Others may change them at any time. */
WEFT_API size_t weft_mpsc_sender_strong_count(const weft_mpsc_sender *tx);
WEFT_API size_t weft_mpsc_sender_weak_count(const weft_mpsc_sender *tx);
/* True when both send to the same receiver. */
WEFT_API bool weft_mpsc_sender_is_same(const weft_mpsc_sender *a, const weft_mpsc_sender *b);

/* ---- weak senders: they do not keep the channel from ending ---- */

/* Returns a weak sender, for weft_mpsc_weak_unref(). tx stays. */
WEFT_API weft_mpsc_weak_sender *weft_mpsc_sender_downgrade(weft_mpsc_sender *tx);
/* Returns a sender, for weft_mpsc_sender_unref(); NULL when none was left. weak stays. */
WEFT_API WEFT_MUST_CHECK weft_mpsc_sender *weft_mpsc_weak_upgrade(weft_mpsc_weak_sender *weak);
WEFT_API weft_mpsc_weak_sender *weft_mpsc_weak_ref(weft_mpsc_weak_sender *weak);
/* NULL does nothing. */
WEFT_API void weft_mpsc_weak_unref(weft_mpsc_weak_sender *weak);
WEFT_API size_t weft_mpsc_weak_strong_count(const weft_mpsc_weak_sender *weak);
WEFT_API size_t weft_mpsc_weak_weak_count(const weft_mpsc_weak_sender *weak);

/* ---- permits: slots of a bounded channel, reserved before there is anything to send ---- */

/*
 * A number of reserved slots, and a sender of its own: it keeps the channel from ending. In the
 * caller's memory; may be copied to another place, also of another task, as long as one copy is
 * used. To be used up by weft_mpsc_permit_send() or given up by weft_mpsc_permit_release(); after
 * either it holds nothing. Zero holds nothing.
 */
typedef struct weft_mpsc_permit {
    void *opaque;
    size_t count; /* slots left; to be read */
} weft_mpsc_permit;

/*
 * Reserves one slot, or `count` of them, suspending the calling task until they are free.
 *
 *   count        at most the capacity. 0 succeeds at once, unless the channel is closed
 *   ret_permit   returned
 *
 * Returns 0, or as weft_mpsc_send(); -EINVAL, logged, when count is larger than the capacity, or
 * the channel unbounded.
 * Context, cancellation: as weft_mpsc_send().
 */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_reserve(weft_mpsc_sender *tx, weft_mpsc_permit *ret_permit);
WEFT_API WEFT_MUST_CHECK int weft_mpsc_reserve_many(weft_mpsc_sender *tx, size_t count,
                                                    weft_mpsc_permit *ret_permit);
/* Reserves if enough is free and nobody waits; else -EAGAIN. Never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_try_reserve(weft_mpsc_sender *tx,
                                                   weft_mpsc_permit *ret_permit);
WEFT_API WEFT_MUST_CHECK int weft_mpsc_try_reserve_many(weft_mpsc_sender *tx, size_t count,
                                                        weft_mpsc_permit *ret_permit);
/* As a future: results of weft_mpsc_reserve_many(). ret_permit is borrowed until it ends; tx
 * outlives it. */
typedef struct weft_mpsc_reserve_future {
    weft_future future;
    void *opaque[8];
} weft_mpsc_reserve_future;
WEFT_API void weft_mpsc_reserve_future_init(weft_mpsc_reserve_future *f, weft_mpsc_sender *tx,
                                            size_t count, weft_mpsc_permit *ret_permit);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_mpsc_reserve(weft_mpsc_sender *tx, size_t count,
                                          weft_mpsc_permit *ret_permit);

/*
 * Sends one element through a reserved slot. Takes the element always: also after a close; when the
 * receiver has been given up, it is destroyed.
 *
 * Returns 0; -EINVAL, logged, and nothing is taken, when the permit has no slot left.
 */
WEFT_API int weft_mpsc_permit_send(weft_mpsc_permit *p, const void *elem);
/* Gives the slots that are left back: to whoever waits for one. */
WEFT_API void weft_mpsc_permit_release(weft_mpsc_permit *p);

/* ---- the receiver ---- */

/* One more reference to the receiver; returns rx. Still only one task may use it at a time. */
WEFT_API weft_mpsc_receiver *weft_mpsc_receiver_ref(weft_mpsc_receiver *rx);
/* Gives a reference up. The last one closes the channel and destroys what is in it. NULL does
 * nothing. */
WEFT_API void weft_mpsc_receiver_unref(weft_mpsc_receiver *rx);

/*
 * Receives one element, suspending the calling task while there is none.
 *
 *   ret_elem   elem_bytes are copied to it on success, and are the caller's, with what they own
 *
 * Returns 0 with an element; otherwise ret_elem is left alone, and it is
 *   -EPIPE      nothing is left, and nothing more can come: no sender and no permit is left, or
 *               the channel was closed and no permit is left
 *   -ETIMEDOUT  a timeout scope around the call expired while the channel was empty
 *   -ECANCELED  the calling task was aborted
 *   -EPERM      nothing here can wait, see weft_await(); -EINVAL
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Cancellation:  safe: no element is lost.
 */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_recv(weft_mpsc_receiver *rx, void *ret_elem);
/* Receives if there is an element. As weft_mpsc_recv(); -EAGAIN when there is none yet. Never
 * suspends. */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_try_recv(weft_mpsc_receiver *rx, void *ret_elem);
/* Receives on a plain thread, which need not be in any runtime, and blocks it meanwhile. As
 * weft_mpsc_recv(); -EPERM inside a task; -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_blocking_recv(weft_mpsc_receiver *rx, void *ret_elem);

/*
 * Receives what is there, up to limit elements, suspending the calling task only while there is
 * none.
 *
 *   ret_elems   an array of at least limit elements; the first ones are written. NULL with limit 0
 *   limit       0: returns 0 at once. At most INT_MAX are received
 *
 * Returns how many were received, or as weft_mpsc_recv().
 */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_recv_many(weft_mpsc_receiver *rx, void *ret_elems,
                                                 size_t limit);
WEFT_API WEFT_MUST_CHECK int weft_mpsc_try_recv_many(weft_mpsc_receiver *rx, void *ret_elems,
                                                     size_t limit);
WEFT_API WEFT_MUST_CHECK int weft_mpsc_blocking_recv_many(weft_mpsc_receiver *rx, void *ret_elems,
                                                          size_t limit);

/* Receiving as a future: results of weft_mpsc_recv(), or of weft_mpsc_recv_many(). ret_elems is
 * borrowed until it ends; rx outlives it. */
typedef struct weft_mpsc_recv_future {
    weft_future future;
    void *opaque[8];
} weft_mpsc_recv_future;
WEFT_API void weft_mpsc_recv_future_init(weft_mpsc_recv_future *f, weft_mpsc_receiver *rx,
                                         void *ret_elem);
WEFT_API void weft_mpsc_recv_many_future_init(weft_mpsc_recv_future *f, weft_mpsc_receiver *rx,
                                              void *ret_elems, size_t limit);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_mpsc_recv(weft_mpsc_receiver *rx, void *ret_elem);
WEFT_API weft_case weft_case_mpsc_recv_many(weft_mpsc_receiver *rx, void *ret_elems, size_t limit);

/* Refuses what has not been sent yet: senders, also those that wait, get -EPIPE. What is in the
 * channel, and what comes through permits, can still be received. Idempotent. */
WEFT_API void weft_mpsc_receiver_close(weft_mpsc_receiver *rx);
/* True when closed, or when no sender and no permit is left; also while elements are left. */
WEFT_API bool weft_mpsc_receiver_is_closed(const weft_mpsc_receiver *rx);
/* Elements in the channel. */
WEFT_API size_t weft_mpsc_receiver_len(const weft_mpsc_receiver *rx);
WEFT_API bool weft_mpsc_receiver_is_empty(const weft_mpsc_receiver *rx);
/* As for senders. */
WEFT_API size_t weft_mpsc_receiver_capacity(weft_mpsc_receiver *rx);
WEFT_API size_t weft_mpsc_receiver_max_capacity(const weft_mpsc_receiver *rx);
WEFT_API size_t weft_mpsc_receiver_strong_count(const weft_mpsc_receiver *rx);
WEFT_API size_t weft_mpsc_receiver_weak_count(const weft_mpsc_receiver *rx);

/* ---- a sender for poll functions ---- */

/*
 * Reserves by polling, for futures of one's own that send: first a slot, by as many polls as it
 * takes, then the element. In the caller's memory, where it stays while a reservation is pending;
 * used by one at a time.
 */
typedef struct weft_mpsc_poll_sender {
    weft_mpsc_sender *tx; /* a reference; NULL once closed */
    weft_mpsc_permit permit;
    weft_mpsc_reserve_future reserve;
    bool is_pending;
} weft_mpsc_poll_sender;

/* tx is borrowed: the poll sender takes a reference of its own. */
WEFT_API void weft_mpsc_poll_sender_init(weft_mpsc_poll_sender *p, weft_mpsc_sender *tx);
/* 0: a slot is reserved, by this call or a former one. WEFT_PENDING: the waker will be woken.
 * -EPIPE: the receiver is closed or gone, or p was closed and holds no slot. -EINVAL: the channel
 * is unbounded. As weft_future_poll() it charges the task's budget. */
WEFT_API WEFT_MUST_CHECK int weft_mpsc_poll_sender_reserve(weft_mpsc_poll_sender *p,
                                                           weft_waker *waker);
/* Sends through the reserved slot, as weft_mpsc_permit_send(). -EINVAL, logged, without one. */
WEFT_API int weft_mpsc_poll_sender_send(weft_mpsc_poll_sender *p, const void *elem);
/* Gives the slot back, or ends the wait for one. True when there was either. */
WEFT_API bool weft_mpsc_poll_sender_abort(weft_mpsc_poll_sender *p);
/* Gives the sender up; ends the wait for a slot. A slot that is reserved can still be used, and
 * until then keeps the channel from ending. Idempotent. */
WEFT_API void weft_mpsc_poll_sender_close(weft_mpsc_poll_sender *p);
/* Aborts and closes. Idempotent. NULL does nothing. */
WEFT_API void weft_mpsc_poll_sender_fini(weft_mpsc_poll_sender *p);

WEFT_END_DECLS

#endif
