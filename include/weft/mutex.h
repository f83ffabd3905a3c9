/*
 * Mutexes for tasks: held across waits, released on another worker or by another task.
 *
 * Fair: an unlock hands the mutex to whoever has waited longest, and nobody takes it past a waiter,
 * the try_ form included. For a section without any wait in it a pthread_mutex_t costs less and
 * serves as well.
 *
 *     static weft_mutex m = WEFT_MUTEX_INIT;
 *
 *     int rc = weft_mutex_lock(&m);
 *     if (rc < 0)
 *         return rc;
 *     WEFT_LOCK_GUARD(&m);
 *     ... unlocked when the block is left, also by a panic or an unwinding abort ...
 *
 * A mutex does not know who holds it. So who holds it may hand it on, to be unlocked by another
 * task; and a task that locks it twice waits for itself. A panic does not poison it.
 *
 * Who locks a mutex may free its memory after unlocking if it knows that nobody else will use it:
 * an unlock that hands it over does not touch it afterwards.
 */
#ifndef WEFT_MUTEX_H
#define WEFT_MUTEX_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/panic.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

/* In the caller's memory; needs no fini. Zeroed memory is an unlocked mutex. */
typedef struct weft_mutex {
    void *opaque[4];
} weft_mutex;

#define WEFT_MUTEX_INIT                                                                            \
    {                                                                                              \
        {                                                                                          \
            NULL, NULL, NULL, NULL                                                                 \
        }                                                                                          \
    }

/* The same for memory of any content, when nobody uses the mutex. Never suspends. */
WEFT_API void weft_mutex_init(weft_mutex *m);

/*
 * Locks the mutex, suspending the calling task until it is free and everybody who came before has
 * had it.
 *
 * Returns 0 with the mutex locked. Otherwise it is not the caller's, and it is
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ECANCELED  the calling task was aborted
 *   -EPERM      nothing here can wait (reported), see weft_await()
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Threads:       any.
 * Cancellation:  safe; the place in the queue is lost. A mutex already assigned goes to the next.
 */
WEFT_API WEFT_MUST_CHECK int weft_mutex_lock(weft_mutex *m);

/* The same without waiting: -EAGAIN when it is locked. Any thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_mutex_try_lock(weft_mutex *m);

/*
 * The same for plain threads and blocking jobs: blocks the thread. Needs no runtime.
 *
 * Returns 0; -EPERM (reported, not locked) inside a task or a body of weft_block_on(), also when
 * the mutex is free; -ENOMEM when the thread cannot wait; in a runtime, not locked either, for a
 * timeout scope or a token around the call -ETIMEDOUT, -ECANCELED, -ESHUTDOWN as weft_await().
 */
WEFT_API WEFT_MUST_CHECK int weft_mutex_blocking_lock(weft_mutex *m);

/* The same as a future: 0. Cancelled, it does not hold the mutex. */
typedef struct weft_mutex_lock_future {
    weft_future future;
    void *opaque[5];
} weft_mutex_lock_future;
WEFT_API void weft_mutex_lock_future_init(weft_mutex_lock_future *f, weft_mutex *m);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_mutex_lock(weft_mutex *m);

/* Unlocks: hands the mutex to the first who waits. Unlocking what is not locked is reported, and
 * does nothing. Any thread or task; never suspends. */
WEFT_API void weft_mutex_unlock(weft_mutex *m);

/* True while anybody holds it: of use in assertions. Any thread; never suspends. */
WEFT_API bool weft_mutex_is_locked(const weft_mutex *m);

/* Unlocks m, which the caller has locked, when the enclosing block is left, also when the task
 * panics or is unwound; see WEFT_DEFER. */
#define WEFT_LOCK_GUARD(m) WEFT_DEFER(weft__mutex_guard, (m))

/* Behind the macro. */
WEFT_API void weft__mutex_guard(void *mutex);

WEFT_END_DECLS

#endif
