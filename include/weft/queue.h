/*
 * Queues between many senders and many receivers: bounded, unbounded, or with no room at all, where
 * sender and receiver meet (rendezvous).
 *
 * Each value goes to exactly one receiver. Values come out in the order in which they went in, and
 * those who wait are served in the order in which they came, senders and receivers alike: what
 * becomes free is promised to the first who waits, and nobody who comes later can take it. Which of
 * several that were woken at the same time looks first is the scheduler's choice.
 *
 * A queue is one counted object for all who use it. Closing it makes senders fail at once;
 * receivers still get what is in it. A value that was not sent stays the sender's; one that is left
 * in the queue when the last reference goes is destroyed.
 *
 * Common to all functions:
 *   Threads:  any number of tasks and threads may use a queue at the same time, in one runtime, in
 *             several, or in none.
 *   Context:  anywhere, and never suspends; unless it says otherwise.
 *   Misuse:   -EINVAL with a line in the log for NULL arguments; what returns no error says the
 *             same, and answers as for a queue that is closed and empty.
 *   Fork:     of a queue of its parent's a forked child may give its references up. All else is
 *             -EPERM with a line in the log; what returns no error does nothing, and answers as for
 *             a queue that is closed and empty.
 *
 * Source: the channels of Go, for the meaning of rendezvous and of closing.
 */
#ifndef WEFT_QUEUE_H
#define WEFT_QUEUE_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

typedef struct weft_queue weft_queue;

#define WEFT_QUEUE_UNBOUNDED SIZE_MAX

typedef struct weft_queue_options {
    /* values that fit: 0: rendezvous; WEFT_QUEUE_UNBOUNDED: as many as there is memory for */
    size_t capacity;
    size_t elem_bytes; /* of a value; 0: the values are mere signals */
    /* Destroys a value nobody received. Called without locks; it must not wait. A panic is reported
     * and goes no further. May be NULL. */
    void (*drop)(void *elem);
} weft_queue_options;

/* Creates a queue, with one reference. A bounded one takes its memory here; an unbounded one grows,
 * and gives back what a burst has taken. 0, -ENOMEM or -EINVAL. */
WEFT_API WEFT_MUST_CHECK int weft_queue_create(const weft_queue_options *options,
                                               weft_queue **ret_queue);
/* One more reference; returns q. */
WEFT_API weft_queue *weft_queue_ref(weft_queue *q);
/* Gives a reference up. With the last one, which nobody may wait on, the values left are destroyed.
 * NULL does nothing. */
WEFT_API void weft_queue_unref(weft_queue *q);

/* Closes the queue: senders get -EPIPE, also those who wait; receivers once it is empty.
 * Idempotent. */
WEFT_API void weft_queue_close(weft_queue *q);
WEFT_API bool weft_queue_is_closed(weft_queue *q);

/* Values in the queue; those that rendezvous senders wait with are not. */
WEFT_API size_t weft_queue_len(weft_queue *q);
WEFT_API size_t weft_queue_capacity(const weft_queue *q);

/* ---- sending ---- */

/*
 * Sends one value, suspending the calling task while there is no room; in a rendezvous queue until
 * a receiver has taken the value.
 *
 *   elem      elem_bytes are copied from it, during the call. What they own is taken on success
 *
 * Returns 0 once the value is in the queue, or taken. Otherwise it is still the caller's, and it is
 *   -EPIPE      the queue is closed, before the call or during it
 *   -ENOMEM     an unbounded queue could not grow
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ECANCELED  the calling task was aborted
 *   -EPERM      nothing here can wait; -EINVAL
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Cancellation:  safe: the value is sent and 0 returned, or it is not sent at all. So a rendezvous
 *                whose value was taken returns 0 although a deadline has passed or an abort has
 *                come meanwhile; one that unwinds does so at the next wait.
 */
WEFT_API WEFT_MUST_CHECK int weft_queue_send(weft_queue *q, const void *elem);
/* The same without waiting: -EAGAIN when there is no room; in a rendezvous queue when no receiver
 * waits. There the value is promised to the first receiver that waits; should that one give up at
 * this moment, it goes to the next one, or to the next that comes. */
WEFT_API WEFT_MUST_CHECK int weft_queue_try_send(weft_queue *q, const void *elem);
/* The same as weft_queue_send() for plain threads: it blocks the thread. -EPERM inside a task;
 * -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_queue_blocking_send(weft_queue *q, const void *elem);

/*
 * The same as a future. q and elem must outlive it.
 *
 * Whoever cancels it (a select does so with those that lose, and weft_await() when it returns an
 * error) reads is_sent before it uses the value again: in a rendezvous queue a receiver may have
 * taken it in the last moment. A task that an abort may unwind reads it in the cleanup that would
 * destroy the value (WEFT_DEFER): by then it is final. In the other queues a value is sent by a
 * poll that returns 0, and by nothing else.
 */
typedef struct weft_queue_send_future {
    weft_future future;
    bool is_sent; /* the value is not the caller's any more */
    void *opaque[8];
} weft_queue_send_future;
WEFT_API void weft_queue_send_future_init(weft_queue_send_future *f, weft_queue *q,
                                          const void *elem);
/* The same as a case of a select. After the select, was_sent tells whether the value has gone: also
 * when another case won; and in a cleanup, when an abort unwinds the select. (Cases in a disabled
 * weft_case_select() are left alone, and keep what an earlier select said.) */
WEFT_API weft_case weft_case_queue_send(weft_queue *q, const void *elem);
WEFT_API bool weft_case_queue_was_sent(const weft_case *c);

/* ---- receiving ---- */

/*
 * Receives one value, suspending the calling task while there is none.
 *
 *   elem      borrowed for the call; elem_bytes are written to it when 0 is returned
 *
 * Returns 0, and what the value owns is the caller's. Otherwise elem is left alone, and it is
 *   -EPIPE      the queue is closed and empty
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ECANCELED  the calling task was aborted
 *   -EPERM      nothing here can wait; -EINVAL
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Cancellation:  safe: a value that was promised to the caller goes to the next. It loses its place
 *                in the line.
 */
WEFT_API WEFT_MUST_CHECK int weft_queue_recv(weft_queue *q, void *elem);
/* The same without waiting: -EAGAIN when there is no value that is not promised. */
WEFT_API WEFT_MUST_CHECK int weft_queue_try_recv(weft_queue *q, void *elem);
/* The same as weft_queue_recv() for plain threads: it blocks the thread. -EPERM inside a task;
 * -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_queue_blocking_recv(weft_queue *q, void *elem);

/* The same as a future. q and elem must outlive it; cancelling loses nothing. */
typedef struct weft_queue_recv_future {
    weft_future future;
    void *opaque[8];
} weft_queue_recv_future;
WEFT_API void weft_queue_recv_future_init(weft_queue_recv_future *f, weft_queue *q, void *elem);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_queue_recv(weft_queue *q, void *elem);

WEFT_END_DECLS

#endif
