/*
 * Condition variables: wait, with a mutex let go meanwhile, until somebody says that it is worth to
 * look again.
 *
 *     rc = weft_mutex_lock(&q->lock);
 *     if (rc < 0)
 *         return rc;
 *     WEFT_LOCK_GUARD(&q->lock);
 *     while (q->is_empty)
 *         if ((rc = weft_cond_wait(&q->filled, &q->lock)) < 0)
 *             return rc;              // the mutex is locked here too, and the guard lets go of it
 *
 * Who changes what is waited for does so with the mutex locked, and signals then or after
 * unlocking. A wait may return without a signal, so it stands in a loop.
 */
#ifndef WEFT_COND_H
#define WEFT_COND_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/mutex.h>

WEFT_BEGIN_DECLS

/* In the caller's memory; needs no fini. Zeroed memory is one that nobody waits for. */
typedef struct weft_cond {
    void *opaque[3];
} weft_cond;

#define WEFT_COND_INIT                                                                             \
    {                                                                                              \
        {                                                                                          \
            NULL, NULL, NULL                                                                       \
        }                                                                                          \
    }

/* The same for memory of any content, when nobody uses it. Never suspends. */
WEFT_API void weft_cond_init(weft_cond *c);

/*
 * Unlocks m and suspends the calling task until it is signalled, then locks m again. Between the
 * unlocking and the wait no signal is missed.
 *
 *   m         locked by the caller; the same for all who wait for c at a time
 *
 * Returns, always with m locked by the caller:
 *   0           it was signalled
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ECANCELED  the calling task was aborted
 *   -EPERM      nothing here can wait, or m is not locked (reported); m was not let go
 *
 * Context:       as weft_await(); suspends, and may resume on another thread.
 * Threads:       any.
 * Cancellation:  as pthread_cond_wait(): m is locked again in every case, however long that takes,
 *                also before an unwinding abort runs the cleanups. A signal that had been given
 *                already goes to the next who waits.
 */
WEFT_API WEFT_MUST_CHECK int weft_cond_wait(weft_cond *c, weft_mutex *m);

/* The same for plain threads and blocking jobs: blocks the thread. Needs no runtime. -EPERM
 * (reported) also inside a task or a body of weft_block_on(); -ENOMEM when the thread cannot wait.
 * m is locked in every case. */
WEFT_API WEFT_MUST_CHECK int weft_cond_blocking_wait(weft_cond *c, weft_mutex *m);

/*
 * The same as a future. Its first poll unlocks m; it is ready, with 0, once it was signalled and
 * has m locked again; -EPERM (reported, no wait) when m is not locked. Cancelled after a poll, m is
 * not locked: a cancel cannot wait. Not polled at all, m is as it was.
 */
typedef struct weft_cond_wait_future {
    weft_future future;
    void *opaque[13];
} weft_cond_wait_future;
WEFT_API void weft_cond_wait_future_init(weft_cond_wait_future *f, weft_cond *c, weft_mutex *m);

/* Wakes the one who has waited longest; all who wait now. Nothing is remembered. Any thread or
 * task, with or without the mutex; never suspends. */
WEFT_API void weft_cond_signal(weft_cond *c);
WEFT_API void weft_cond_broadcast(weft_cond *c);

WEFT_END_DECLS

#endif
