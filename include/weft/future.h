/*
 * Futures and wakers: the one protocol behind every wait.
 *
 * Whatever can be awaited is a weft_future with two operations, poll and cancel. weft's own waits
 * (timers, sockets, join handles) are futures, and a future of your own works wherever they do:
 * embed a weft_future as a member, fill in its ops, and hand it to weft_await(), to a polled task,
 * or to your own composite future.
 *
 * The contract of a future:
 *   - poll() tries to finish. Ready: it returns the result, 0 or more, or a negative errno, and
 *     holds no registration any more. Not ready: it has registered the waker and returns
 *     WEFT_PENDING; when it may have become ready, somebody calls weft_waker_wake(). It may be
 *     polled again at any time, with another waker: only the latest counts.
 *   - The waker handed to poll() is borrowed until the future completes or is cancelled. Who wakes
 *     from outside that span (another thread, after dropping its lock) takes a reference first.
 *   - cancel() undoes the registration and gives back what had already been assigned. It is called
 *     at most once, and never on a future that completed. It may come without a poll before it: a
 *     composite cannot tell a WEFT_PENDING of weft_future_poll() that did not reach its part, for
 *     want of budget, from one of its part's. Then there is nothing to undo.
 *   - poll() and cancel() do not suspend. Wakers are called outside locks.
 *   - A poll() that panics is the last call: it is not cancelled, so it gives back what it and its
 *     parts have registered before (see WEFT_DEFER). Other cases of a select are cancelled.
 *
 * Source: the poll and waker protocol of Rust's std::task.
 */
#ifndef WEFT_FUTURE_H
#define WEFT_FUTURE_H

#include <weft/base.h>

#include <limits.h>

WEFT_BEGIN_DECLS

/* What poll() returns when the future is not ready. No result may have this value. */
#define WEFT_PENDING INT_MIN

typedef struct weft_waker weft_waker;
typedef struct weft_future weft_future;

typedef struct weft_future_ops {
    int (*poll)(weft_future *f, weft_waker *waker);
    void (*cancel)(weft_future *f);
    const char *name; /* what a dump says the task waits for; static storage */
} weft_future_ops;

struct weft_future {
    const weft_future_ops *ops;
};

/*
 * Waits for a future on the calling task's stack.
 *
 *   f         borrowed; not polled before. (One that a select has left pending is awaited by its
 *             case, which knows that, and given up by weft_case_cancel().)
 *
 * Returns what poll() returned when it was ready. Otherwise the future has been cancelled, or was
 * never polled, and it is
 *   -ECANCELED  the task was aborted, or a token around the call cancelled (also when the future
 *               was ready: after that no wait succeeds)
 *   -ETIMEDOUT  a timeout scope around the call expired; a future that is ready wins over it
 *   -EPERM      nothing here can wait: no runtime, a polled future's poll(), or inside WEFT_NO_WAIT
 *   -ESHUTDOWN  only on a thread inside weft_enter(): there is a timeout scope around the call, and
 *               the runtime, whose timers it needs, is shut down
 *   -ENOMEM     only on a thread inside weft_enter(): for what it waits as; f was not polled
 *   -EINVAL     f is NULL or has no operations
 *
 * Context:       tasks; the body of weft_block_on(); a blocking job or a thread inside
 *                weft_enter(), where it parks the thread. May suspend; a task may resume on another
 *                thread.
 * Threads:       a future belongs to one awaiter at a time.
 * Cancellation:  as safe as the future.
 */
WEFT_API WEFT_MUST_CHECK int weft_await(weft_future *f);

/*
 * Polls a future from inside another one's poll(), charging the task's budget when it is ready:
 * with that used up the waker is woken and WEFT_PENDING returned without polling f, so that a loop
 * over ready futures yields. In a try (weft_try_select(), weft_iter_try_next()) what it may spend
 * is the try's own.
 *
 * Returns f's result or WEFT_PENDING; -EINVAL when f is NULL or has no operations (logged).
 * Context: anywhere; never suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_future_poll(weft_future *f, weft_waker *waker);

/* Cancels a pending future; see the contract above. One of weft's own may be cancelled again, or
 * without a poll: nothing happens then. NULL is reported. Never suspends. */
WEFT_API void weft_future_cancel(weft_future *f);

/*
 * A waker is a counted reference to a task, or to a thread that waits. Waking twice equals once,
 * waking a finished task is harmless, and so is waking from any thread, from a thread-local's
 * destructor, or after the runtime has gone. None of these suspends; all are thread-safe.
 */

/* Takes a reference; returns w. More than 8 million to one task, which somebody must have
 * forgotten to give up, end the process. */
WEFT_API weft_waker *weft_waker_ref(weft_waker *w);
/* Gives a reference up. NULL does nothing. */
WEFT_API void weft_waker_unref(weft_waker *w);
/* Makes the task runnable. The reference, or the borrow, stays the caller's. */
WEFT_API void weft_waker_wake(weft_waker *w);
/* Makes the task runnable and gives the reference up, at the price of one. NULL does nothing. */
WEFT_API void weft_waker_wake_unref(weft_waker *w);
/* True when both wake the same task: a stored waker need not be replaced. */
WEFT_API bool weft_waker_is_same(const weft_waker *a, const weft_waker *b);

WEFT_END_DECLS

#endif
