/*
 * Watch: one value that changes, and receivers that wait for it to change. Only the latest value is
 * ever seen; for configuration, state, progress.
 *
 * A published value never changes: sending replaces it as a whole, weft_watch_send_modify()
 * replaces it by a changed copy. So a receiver may borrow the value and look at it as long as it
 * likes, also while it waits: senders are not held up, and the value is destroyed when the last
 * borrow of it ends.
 *
 * A receiver knows which version it has seen. It starts with the one that is there when it
 * subscribes.
 *
 * Common to all functions:
 *   Threads:  any number of tasks and threads may use a weft_watch_sender at the same time. A
 *             weft_watch_receiver belongs to one task or thread at a time.
 *   Context:  anywhere, also without a runtime, and never suspends; unless it says otherwise.
 *   Misuse:   -EINVAL with a line in the log for NULL arguments; what returns no error says the
 *             same, and answers as for a channel that is closed and empty.
 *   Fork:     of a channel of its parent's a forked child may give its ends up. All else is -EPERM
 *             with a line in the log; what returns no error does nothing, and answers as for a
 *             channel that is closed and empty.
 *
 * Source: the channel of Tokio's sync::watch; values kept by reference count instead of a lock for
 * readers and writers.
 */
#ifndef WEFT_WATCH_H
#define WEFT_WATCH_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

typedef struct weft_watch_sender weft_watch_sender;
typedef struct weft_watch_receiver weft_watch_receiver;

typedef struct weft_watch_options {
    size_t elem_bytes; /* of the value; 0: the versions are all there is */
    /*
     * Makes an independent copy in uninitialised memory: for the functions that copy a value out,
     * and for those that modify. NULL: the bytes are copied, unless there is a drop function: then
     * values can only be borrowed and replaced. Returns 0 or a negative errno, which the caller
     * gets; -EIO for -EAGAIN, -EPIPE, -EOVERFLOW and -EOWNERDEAD, which would mean something else.
     * If it panics, the caller gets -EOWNERDEAD, and the log a line. It must not wait.
     */
    int (*clone)(void *to, const void *from);
    /* Destroys a value that was replaced, or is the last. Called without locks; it must not wait. A
     * panic is reported and goes no further. */
    void (*drop)(void *value);
} weft_watch_options;

/*
 * Creates a channel.
 *
 *   options   borrowed for the call
 *   value     the first one: elem_bytes are copied; with a drop function, what they own is taken on
 *             success
 *   ret_tx    returned: the first sender, for weft_watch_sender_unref()
 *   ret_rx    returned: a first receiver, for weft_watch_receiver_destroy(). NULL: none yet
 *
 * Returns 0, -ENOMEM or -EINVAL.
 */
WEFT_API WEFT_MUST_CHECK int weft_watch_create(const weft_watch_options *options, const void *value,
                                               weft_watch_sender **ret_tx,
                                               weft_watch_receiver **ret_rx);

/* One more sender; returns tx. */
WEFT_API weft_watch_sender *weft_watch_sender_ref(weft_watch_sender *tx);
/* Gives a sender up. With the last one the channel is closed: receivers see the last value, and
 * then no more changes. NULL does nothing. */
WEFT_API void weft_watch_sender_unref(weft_watch_sender *tx);

/* A new receiver, which has seen the value that is there. 0, -ENOMEM, -EINVAL. */
WEFT_API WEFT_MUST_CHECK int weft_watch_subscribe(weft_watch_sender *tx,
                                                  weft_watch_receiver **ret_rx);
/* One more receiver of the same channel, which has seen what rx has. 0, -ENOMEM, -EINVAL. */
WEFT_API WEFT_MUST_CHECK int weft_watch_receiver_clone(const weft_watch_receiver *rx,
                                                       weft_watch_receiver **ret_rx);
/* Gives a receiver up; nobody may wait for it. NULL does nothing. */
WEFT_API void weft_watch_receiver_destroy(weft_watch_receiver *rx);

WEFT_API size_t weft_watch_receiver_count(weft_watch_sender *tx);
WEFT_API size_t weft_watch_sender_count(weft_watch_receiver *rx);
/* True when rx sees what tx sends. */
WEFT_API bool weft_watch_is_same(const weft_watch_sender *tx, const weft_watch_receiver *rx);

/* ---- sending ---- */

/*
 * Replaces the value and tells all receivers. Senders take turns.
 *
 *   value     elem_bytes are copied from it; with a drop function, what they own is taken on
 *             success
 *
 * Returns 0; otherwise nothing was taken, and it is
 *   -EPIPE    there is no receiver; the value stays as it was. Works again once somebody subscribes
 *   -ENOMEM   the former values are all borrowed, and there is no memory for one more
 *   -EDEADLK  called by a function that modifies a value of this channel; logged
 */
WEFT_API WEFT_MUST_CHECK int weft_watch_send(weft_watch_sender *tx, const void *value);

/*
 * The same, also without receivers: who subscribes later sees the value.
 *
 *   ret_old   a copy of the value replaced; NULL: not wanted
 *
 * Returns 0, -ENOMEM, -EDEADLK, or what the clone function returned for the old value.
 */
WEFT_API WEFT_MUST_CHECK int weft_watch_send_replace(weft_watch_sender *tx, const void *value,
                                                     void *ret_old);

/*
 * Replaces the value by a copy that fn has changed, and tells all receivers; also without any.
 *
 *   fn        called once, with a copy that is its own to change. It must not wait, nor send to
 *             this channel: other senders are held up until it returns. Receivers are not
 *
 * Returns 0, or the value stays as it was and it is -ENOMEM, -EDEADLK, an error of the clone
 * function, -EINVAL (values have drop and no clone). A panic of fn goes on in the caller: the copy
 * is destroyed, the value stays, nobody is told.
 */
WEFT_API WEFT_MUST_CHECK int weft_watch_send_modify(weft_watch_sender *tx,
                                                    void (*fn)(void *value, void *arg), void *arg);

/* The same, but receivers are told only when fn returns true. The copy replaces the value in either
 * case. Returns 1 when they were told, 0 when not, or an error as above. */
WEFT_API WEFT_MUST_CHECK int weft_watch_send_if_modified(weft_watch_sender *tx,
                                                         bool (*fn)(void *value, void *arg),
                                                         void *arg);

/* True when there is no receiver. */
WEFT_API bool weft_watch_is_closed(weft_watch_sender *tx);

/*
 * Waits until there is no receiver; at once when there is none. If somebody subscribes before the
 * waiter has looked, it waits on.
 *
 * Returns 0, or as weft_await() -ECANCELED, -ETIMEDOUT, -EPERM; -EINVAL.
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Cancellation:  safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_watch_closed(weft_watch_sender *tx);
/* The same for plain threads: it blocks the thread. -EPERM inside a task; -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_watch_blocking_closed(weft_watch_sender *tx);

/* The same as a future, with result 0. tx must outlive it. */
typedef struct weft_watch_closed_future {
    weft_future future;
    void *opaque[6];
} weft_watch_closed_future;
WEFT_API void weft_watch_closed_future_init(weft_watch_closed_future *f, weft_watch_sender *tx);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_watch_closed(weft_watch_sender *tx);

/* ---- the value ---- */

/* Copies the value to *ret_value, by the clone function if there is one. get does not mark it as
 * seen. 0, an error of the clone function, -EOWNERDEAD, or -EINVAL (values have drop and no clone:
 * borrow them). */
WEFT_API WEFT_MUST_CHECK int weft_watch_get(weft_watch_receiver *rx, void *ret_value);
WEFT_API WEFT_MUST_CHECK int weft_watch_get_and_update(weft_watch_receiver *rx, void *ret_value);

/* A borrowed value. */
typedef struct weft_watch_ref {
    const void *value; /* does not change, and is there until the release */
    void *opaque[2];
} weft_watch_ref;

/*
 * Borrows the value: nothing is copied, and nobody is held up. A long borrow costs the memory of
 * one value. It may outlive the receiver or sender it came from.
 *
 *   ret_ref   ended by weft_watch_ref_release(), on any thread
 *
 * Returns ret_ref->value; NULL for NULL, and in a forked child, where ret_ref holds nothing then.
 * borrow does not mark it as seen.
 */
WEFT_API const void *weft_watch_borrow(weft_watch_receiver *rx, weft_watch_ref *ret_ref);
WEFT_API const void *weft_watch_borrow_and_update(weft_watch_receiver *rx, weft_watch_ref *ret_ref);
WEFT_API const void *weft_watch_sender_borrow(weft_watch_sender *tx, weft_watch_ref *ret_ref);
/* Ends a borrow. Idempotent. */
WEFT_API void weft_watch_ref_release(weft_watch_ref *ref);

/* ---- changes ---- */

/* 1 when there is a version that rx has not seen, 0 when not; -EPIPE when no sender is left, seen
 * or not. Marks nothing. */
WEFT_API WEFT_MUST_CHECK int weft_watch_has_changed(weft_watch_receiver *rx);
/* What rx counts as seen: not the value that is there; or that one. Other receivers do not
 * notice. */
WEFT_API void weft_watch_mark_changed(weft_watch_receiver *rx);
WEFT_API void weft_watch_mark_unchanged(weft_watch_receiver *rx);

/*
 * Waits for a version that rx has not seen, and marks it as seen. Versions that were replaced
 * meanwhile are skipped.
 *
 * Returns 0; otherwise nothing was marked, and it is
 *   -EPIPE      no sender is left, and the last value has been seen
 *   -ETIMEDOUT, -ECANCELED, -EPERM   as weft_await(); -EINVAL
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Cancellation:  safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_watch_changed(weft_watch_receiver *rx);
/* The same without waiting: -EAGAIN when there is no such version. */
WEFT_API WEFT_MUST_CHECK int weft_watch_try_changed(weft_watch_receiver *rx);
/* The same for plain threads: it blocks the thread. -EPERM inside a task; -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_watch_blocking_changed(weft_watch_receiver *rx);

/* The same as a future. rx must outlive it. */
typedef struct weft_watch_changed_future {
    weft_future future;
    void *opaque[6];
} weft_watch_changed_future;
WEFT_API void weft_watch_changed_future_init(weft_watch_changed_future *f, weft_watch_receiver *rx);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_watch_changed(weft_watch_receiver *rx);

/* True when the value is what the caller waits for. Called without locks; it must not wait. A panic
 * is reported, and the wait returns -EOWNERDEAD. */
typedef bool (*weft_watch_pred)(const void *value, void *arg);

/*
 * Waits until the value fits: at once when the one that is there does, also when it was seen, and
 * also when no sender is left. Marks as seen what pred has been shown.
 *
 *   ret_value   a copy of the value that fits; NULL: not wanted
 *
 * Returns 0; otherwise
 *   -EPIPE      no sender is left, and the last value does not fit
 *   -EOWNERDEAD pred, or the clone function, panicked
 *   an error of the clone function
 *   -ETIMEDOUT, -ECANCELED, -EPERM   as weft_await()
 *   -EINVAL     also with a ret_value for values that have drop and no clone
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Cancellation:  safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_watch_wait_for(weft_watch_receiver *rx, weft_watch_pred pred,
                                                 void *arg, void *ret_value);
/* The same without waiting: -EAGAIN when the value does not fit. */
WEFT_API WEFT_MUST_CHECK int weft_watch_try_wait_for(weft_watch_receiver *rx, weft_watch_pred pred,
                                                     void *arg, void *ret_value);
/* The same for plain threads: it blocks the thread. -EPERM inside a task; -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_watch_blocking_wait_for(weft_watch_receiver *rx,
                                                          weft_watch_pred pred, void *arg,
                                                          void *ret_value);

/* The same as a future. What it is given must outlive it. */
typedef struct weft_watch_wait_for_future {
    weft_future future;
    void *opaque[10];
} weft_watch_wait_for_future;
WEFT_API void weft_watch_wait_for_future_init(weft_watch_wait_for_future *f,
                                              weft_watch_receiver *rx, weft_watch_pred pred,
                                              void *arg, void *ret_value);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_watch_wait_for(weft_watch_receiver *rx, weft_watch_pred pred,
                                            void *arg, void *ret_value);

WEFT_END_DECLS

#endif
