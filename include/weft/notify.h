/*
 * Notify: tells tasks that something has happened, without saying what.
 *
 * A semaphore of at most one permit: weft_notify_one() wakes one who waits, or is remembered, once,
 * for the next who comes. weft_notify_waiters() wakes all who wait, and is not remembered. The
 * usual loop looks at the state after each wait:
 *
 *     while (!queue_has_items(q))
 *         if ((rc = weft_notify_wait(&q->changed)) < 0)
 *             return rc;
 *
 * With weft_notify_waiters() a look and a wait would leave a gap between them. A wait future closes
 * it: from its init on it counts for weft_notify_waiters(), so init it, look, then await it.
 *
 * Who waited may free the memory if it knows that nobody else will use it: the notification that
 * let it go on does not touch it afterwards.
 */
#ifndef WEFT_NOTIFY_H
#define WEFT_NOTIFY_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

/* In the caller's memory; needs no fini. Zeroed memory is one without a notification. */
typedef struct weft_notify {
    uint64_t word;
    void *opaque[3];
} weft_notify;

#define WEFT_NOTIFY_INIT                                                                           \
    {                                                                                              \
        0,                                                                                         \
        {                                                                                          \
            NULL, NULL, NULL                                                                       \
        }                                                                                          \
    }

/* The same for memory of any content, when nobody uses it. Never suspends. */
WEFT_API void weft_notify_init(weft_notify *n);

/* These three: any thread or task; never suspend. */

/* Wakes the one who has waited longest; the one who came last. If nobody waits, the next wait
 * returns at once; however often that is said, it is remembered once. */
WEFT_API void weft_notify_one(weft_notify *n);
WEFT_API void weft_notify_last(weft_notify *n);
/* Wakes all who wait now, and completes the wait futures that have been initialised. */
WEFT_API void weft_notify_waiters(weft_notify *n);

/*
 * Takes the notification that is remembered, or suspends the calling task until it is notified.
 *
 * Returns 0. Otherwise no notification was taken, and it is
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ECANCELED  the calling task was aborted
 *   -EPERM      nothing here can wait (reported), see weft_await()
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Threads:       any.
 * Cancellation:  safe; the place in the queue is lost. A notification that had been given already
 *                goes to the one who has waited longest, or to the last one if it was given by
 *                weft_notify_last(), or is remembered.
 */
WEFT_API WEFT_MUST_CHECK int weft_notify_wait(weft_notify *n);

/* Takes the notification that is remembered, or returns -EAGAIN. Any thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_notify_try_wait(weft_notify *n);

/* weft_notify_wait() for plain threads and blocking jobs: blocks the thread. Needs no runtime.
 * Returns 0; -EPERM (reported) inside a task or a body of weft_block_on(); -ENOMEM when the thread
 * cannot wait; in a runtime, for a timeout scope or a token around the call -ETIMEDOUT, -ECANCELED,
 * -ESHUTDOWN as weft_await(). */
WEFT_API WEFT_MUST_CHECK int weft_notify_blocking_wait(weft_notify *n);

/* The same as a future: 0. It may be awaited by another task than before; the latest is woken. */
typedef struct weft_notify_wait_future {
    weft_future future;
    uint64_t words[1];
    void *opaque[5];
} weft_notify_wait_future;
WEFT_API void weft_notify_wait_future_init(weft_notify_wait_future *f, weft_notify *n);
/* The same as a case of a select, which initialises it anew each time. To miss nothing between a
 * look and the select give that a future instead: weft_case_future(). */
WEFT_API weft_case weft_case_notify_wait(weft_notify *n);

/*
 * Puts f into the queue now, before it is awaited, so that it counts for weft_notify_one() and
 * weft_notify_last() too. From here on f has to be awaited to its end, or cancelled: also when
 * weft_await() fails, since it may have refused to begin, and then f is in the queue still.
 * Cancelling f more than once is fine.
 *
 * Returns true when f is complete: it took a notification that was remembered, or had got one
 * already. By the owner of f, on any thread; never suspends.
 */
WEFT_API bool weft_notify_wait_future_enable(weft_notify_wait_future *f);

WEFT_END_DECLS

#endif
