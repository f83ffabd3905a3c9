/*
 * Oneshot: one value from one task to another.
 *
 * A sender and a receiver, each of them one task's at a time, and free to move to another. The
 * value is copied in and out. Each end learns when the other one is given up, so neither waits for
 * ever. Sending never waits.
 *
 *     weft_oneshot_sender *tx;
 *     weft_oneshot_receiver *rx;
 *     rc = weft_oneshot_create(sizeof(long), NULL, &tx, &rx);
 *     ...
 *     rc = weft_spawn(compute, tx, NULL);    the task ends with weft_oneshot_send(tx, &result)
 *     ...
 *     rc = weft_oneshot_recv(rx, &result);   0, or -EPIPE: the task gave tx up without sending
 *     weft_oneshot_receiver_destroy(rx);
 *
 * Misuse: -EINVAL with a line in the log for NULL arguments; what returns no error says the same,
 * and answers as for a oneshot that is over.
 *
 * In a forked child a wait for the other end of one that its parent has created is -EPERM with a
 * line in the log; all else works, on the child's copy.
 */
#ifndef WEFT_ONESHOT_H
#define WEFT_ONESHOT_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

typedef struct weft_oneshot_sender weft_oneshot_sender;
typedef struct weft_oneshot_receiver weft_oneshot_receiver;

/*
 * Makes a oneshot on the heap; it is freed when both ends have been given up.
 *
 *   value_bytes    size of the value; 0: only the event counts
 *   drop           called with a value that was sent and that nobody received; NULL: nothing to do.
 *                  It may be called wherever the receiver is given up. A panic in it is reported.
 *   ret_tx         returned: to weft_oneshot_send() or weft_oneshot_sender_destroy()
 *   ret_rx         returned: to weft_oneshot_receiver_destroy()
 *
 * Returns 0, -ENOMEM, or -EINVAL without a place for an end. Context: anywhere, also without a
 * runtime; never suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_oneshot_create(size_t value_bytes, void (*drop)(void *value),
                                                 weft_oneshot_sender **ret_tx,
                                                 weft_oneshot_receiver **ret_rx);

/* A oneshot in the caller's memory. */
typedef struct weft_oneshot {
    void *opaque[7];
} weft_oneshot;

/*
 * The same in the caller's memory, without an allocation.
 *
 *   o, value    stay where they are until both ends have been given up: value is where the value
 *               lies meanwhile (value_bytes of it, NULL with 0). Giving up is the last touch of an
 *               end, so both may lie in the receiver's frame: when weft_oneshot_recv() has returned
 *               0, or -EPIPE without a weft_oneshot_receiver_close(), the sender is gone. After
 *               other results receive again, under WEFT_SHIELD, before the frame is left; or let
 *               the sender be a child of a scope.
 *
 * Misuse: both ends are NULL.
 */
WEFT_API void weft_oneshot_init(weft_oneshot *o, void *value, size_t value_bytes,
                                void (*drop)(void *value), weft_oneshot_sender **ret_tx,
                                weft_oneshot_receiver **ret_rx);

/* ---- the sender ---- */

/*
 * Sends the value and gives the sender up, whatever is returned: a sender sends once.
 *
 *   tx        taken, in any case
 *   value     borrowed for the call; value_bytes are copied from it. Ignored when that is 0
 *
 * Returns 0 once the value is there. Otherwise the value stays the caller's, and it is
 *   -EPIPE    the receiver was closed or given up
 *   -EINVAL   an argument is NULL; logged
 *
 * 0 does not say that the value will be received: the receiver may yet be given up, and the value
 * dropped. Context: anywhere, also without a runtime; never suspends.
 */
WEFT_API int weft_oneshot_send(weft_oneshot_sender *tx, const void *value);
/* Gives the sender up without sending: the receiver gets -EPIPE. NULL does nothing. Anywhere; never
 * suspends. */
WEFT_API void weft_oneshot_sender_destroy(weft_oneshot_sender *tx);
/* True once the receiver was closed or given up: nobody wants the value. Anywhere; never
 * suspends. */
WEFT_API bool weft_oneshot_sender_is_closed(const weft_oneshot_sender *tx);

/*
 * Waits until the receiver is closed or given up, so that work for nobody can be left.
 *
 * Returns 0; -ECANCELED, -ETIMEDOUT, -EPERM as weft_await(); -EINVAL when tx is NULL.
 * Context: as weft_await(); may suspend. Cancellation: safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_oneshot_sender_closed(weft_oneshot_sender *tx);

/* The same as a future, with result 0; -EINVAL, logged, when tx is NULL. It ends, completed or
 * cancelled, before tx is given up. */
typedef struct weft_oneshot_closed_future {
    weft_future future;
    void *opaque[1];
    bool is_pending;
} weft_oneshot_closed_future;
WEFT_API void weft_oneshot_closed_future_init(weft_oneshot_closed_future *f,
                                              weft_oneshot_sender *tx);

/* ---- the receiver ---- */

/*
 * Waits for the value.
 *
 *   rx           borrowed; used by one task at a time. Moved to another one while it waits, the
 *                last to wait is woken
 *   ret_value    value_bytes are copied to it on success; NULL with 0 bytes. May be the memory
 *                given to weft_oneshot_init()
 *
 * Returns 0 with the value, once. Otherwise ret_value is left alone, and it is
 *   -EPIPE       the sender was given up without sending; or the receiver was closed before
 *                anything was sent. Also, with a line in the log, when the receiver has already
 *                ended with the value or with -EPIPE
 *   -ECANCELED, -ETIMEDOUT, -EPERM    as weft_await()
 *   -EINVAL      an argument is NULL; logged
 *
 * Context:       as weft_await(); may suspend.
 * Threads:       the sender may act at the same time.
 * Cancellation:  safe: a value that arrives meanwhile can still be received.
 */
WEFT_API WEFT_MUST_CHECK int weft_oneshot_recv(weft_oneshot_receiver *rx, void *ret_value);
/* Takes the value if it is there. 0; -EAGAIN nothing yet; -EPIPE, -EINVAL as above, but nothing is
 * logged for a receiver that has ended. Anywhere; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_oneshot_try_recv(weft_oneshot_receiver *rx, void *ret_value);
/* Waits on a plain thread, which need not be in any runtime. As weft_oneshot_recv(); -EPERM inside
 * a task; -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_oneshot_blocking_recv(weft_oneshot_receiver *rx, void *ret_value);

/* Receiving as a future: results of weft_oneshot_recv(). ret_value is borrowed until it ends; rx
 * outlives it. */
typedef struct weft_oneshot_recv_future {
    weft_future future;
    void *opaque[2];
    bool is_pending;
} weft_oneshot_recv_future;
WEFT_API void weft_oneshot_recv_future_init(weft_oneshot_recv_future *f, weft_oneshot_receiver *rx,
                                            void *ret_value);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_oneshot_recv(weft_oneshot_receiver *rx, void *ret_value);

/* Lets nothing be sent any more: weft_oneshot_send() fails from now on, and
 * weft_oneshot_sender_closed() returns. A value sent before can still be received. Idempotent.
 * Anywhere; never suspends. */
WEFT_API void weft_oneshot_receiver_close(weft_oneshot_receiver *rx);
/* Closes and gives the receiver up; a value that nobody received is dropped. NULL does nothing.
 * Anywhere; never suspends. */
WEFT_API void weft_oneshot_receiver_destroy(weft_oneshot_receiver *rx);
/* True while no value is there to be received. Anywhere; never suspends. */
WEFT_API bool weft_oneshot_receiver_is_empty(const weft_oneshot_receiver *rx);
/* True once a receive has returned the value or -EPIPE. Anywhere; never suspends. */
WEFT_API bool weft_oneshot_receiver_is_terminated(const weft_oneshot_receiver *rx);

WEFT_END_DECLS

#endif
