/*
 * Set-once cells: a value that somebody will put in, once, and that any number wait for and read.
 *
 * Unlike a once cell those who need it do not make it; unlike a oneshot all of them get it.
 */
#ifndef WEFT_SET_ONCE_H
#define WEFT_SET_ONCE_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

/* In the caller's memory. Zeroed memory is an empty cell. */
typedef struct weft_set_once {
    void *opaque[5];
} weft_set_once;

#define WEFT_SET_ONCE_INIT                                                                         \
    {                                                                                              \
        {                                                                                          \
            NULL, NULL, NULL, NULL, NULL                                                           \
        }                                                                                          \
    }

/* The same for memory of any content, when nobody uses it. Never suspends. */
WEFT_API void weft_set_once_init(weft_set_once *s);

/*
 * Puts the value in, and wakes all who wait for it.
 *
 *   value     taken, when 0 is returned
 *
 * Returns 0; -EEXIST when there is one: of several that set at the same time one succeeds. Any
 * thread or task; never suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_set_once_set(weft_set_once *s, void *value);

/*
 * The value, suspending the calling task until it is there.
 *
 *   *ret_value  borrowed from the cell, which keeps it until weft_set_once_fini() or
 *               weft_set_once_take()
 *
 * Returns 0 with *ret_value written. Otherwise
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ECANCELED  the calling task was aborted
 *   -EPERM      nothing here can wait (reported), see weft_await()
 *   -EINVAL     ret_value is NULL (reported); the other calls with a ret_value say the same
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Threads:       any. Who gets the value may free the cell if it knows that nobody else will use
 * it.
 * Cancellation:  safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_set_once_wait(weft_set_once *s, void **ret_value);

/* The value if it is there: 0, or -EAGAIN. Any thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_set_once_try_wait(weft_set_once *s, void **ret_value);

/* weft_set_once_wait() for plain threads and blocking jobs: blocks the thread. Needs no runtime.
 * -EPERM (reported) inside a task or a body of weft_block_on(), also when the value is there;
 * -ENOMEM when the thread cannot wait. */
WEFT_API WEFT_MUST_CHECK int weft_set_once_blocking_wait(weft_set_once *s, void **ret_value);

/* The same as a future: 0, and the value is there for weft_set_once_try_wait(). */
typedef struct weft_set_once_wait_future {
    weft_future future;
    void *opaque[5];
} weft_set_once_wait_future;
WEFT_API void weft_set_once_wait_future_init(weft_set_once_wait_future *f, weft_set_once *s);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_set_once_wait(weft_set_once *s);

/* Takes the value out, and leaves the cell empty, when nobody else uses it. 0 with *ret_value the
 * caller's; -EAGAIN when there is none. Never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_set_once_take(weft_set_once *s, void **ret_value);

/* Ends the cell, when nobody else uses it: drop is called with the value, if there is one; it may
 * be NULL. The cell is empty then. Never suspends. */
WEFT_API void weft_set_once_fini(weft_set_once *s, void (*drop)(void *value));

WEFT_END_DECLS

#endif
