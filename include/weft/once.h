/*
 * Once cells: a value that is made when it is first needed, by one task, while the others wait.
 *
 *     static weft_once config = WEFT_ONCE_INIT;
 *
 *     static int load(void *path, void **ret_value) { ... may wait; 0 or a negative errno ... }
 *
 *     void *c;
 *     rc = weft_once_get_or_init(&config, load, "/etc/app.conf", &c);
 *
 * One initialiser runs at a time. If it fails, panics, or its task is aborted, the next who waits
 * runs its own.
 */
#ifndef WEFT_ONCE_H
#define WEFT_ONCE_H

#include <weft/base.h>
#include <weft/future.h>

WEFT_BEGIN_DECLS

/* In the caller's memory. Zeroed memory is an empty cell. */
typedef struct weft_once {
    void *opaque[5];
} weft_once;

#define WEFT_ONCE_INIT                                                                             \
    {                                                                                              \
        {                                                                                          \
            NULL, NULL, NULL, NULL, NULL                                                           \
        }                                                                                          \
    }

/* Makes the value: returns 0 with *ret_value written, or a negative errno. May suspend, where its
 * caller may; must not wait for the same cell. */
typedef int (*weft_once_fn)(void *arg, void **ret_value);

/* The same for memory of any content, when nobody uses it. Never suspends. */
WEFT_API void weft_once_init(weft_once *o);

/*
 * The value: at once if it is there, else made by init(arg), or by another task's while this one
 * waits.
 *
 *   *ret_value  borrowed from the cell, which keeps it until weft_once_fini() or weft_once_take()
 *
 * Returns 0 with *ret_value written. Otherwise
 *   another     what init returned; the cell is empty, or already somebody else's to fill
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ECANCELED  the calling task was aborted
 *   -EPERM      nothing here can wait (reported), see weft_await()
 *   -EINVAL     init or ret_value is NULL (reported); the other calls with them say the same
 * A panic in init goes on in the caller, as does an unwinding abort; the next who waits has its
 * turn.
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread. init is called
 *                with no lock held.
 * Threads:       any.
 * Cancellation:  safe; the place in the queue is lost. A turn already given goes to the next.
 */
WEFT_API WEFT_MUST_CHECK int weft_once_get_or_init(weft_once *o, weft_once_fn init, void *arg,
                                                   void **ret_value);

/* The same for plain threads and blocking jobs: blocks the thread. Needs no runtime. -EPERM
 * (reported) inside a task or a body of weft_block_on(), also when the value is there; -ENOMEM when
 * the thread cannot wait. */
WEFT_API WEFT_MUST_CHECK int weft_once_blocking_get_or_init(weft_once *o, weft_once_fn init,
                                                            void *arg, void **ret_value);

/* The value if it is there: 0, or -EAGAIN. Any thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_once_try_get(weft_once *o, void **ret_value);

/*
 * Puts a value in.
 *
 *   value     taken, when 0 is returned
 *
 * Returns 0; -EBUSY while an initialiser runs; -EEXIST when there is a value. Any thread; never
 * suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_once_set(weft_once *o, void *value);

/* Takes the value out, and leaves the cell empty, when nobody else uses it. 0 with *ret_value the
 * caller's; -EAGAIN when there is none. Never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_once_take(weft_once *o, void **ret_value);

/* Ends the cell, when nobody else uses it: drop is called with the value, if there is one; it may
 * be NULL. The cell is empty then. Never suspends. */
WEFT_API void weft_once_fini(weft_once *o, void (*drop)(void *value));

/*
 * The parts of weft_once_get_or_init(), for initialisers that are no function, and for composites.
 *
 * As a future: 0, the value is there; 1, it is the caller's turn, who now calls
 * weft_once_complete() with a value or weft_once_abandon(). Cancelled, it is not the caller's turn.
 */
typedef struct weft_once_turn_future {
    weft_future future;
    void *opaque[5];
} weft_once_turn_future;
WEFT_API void weft_once_turn_future_init(weft_once_turn_future *f, weft_once *o);

/* Ends a turn: with a value, which is taken; or without, for the next who waits. Out of turn it is
 * reported, and does nothing: -EPERM. Any thread or task; never suspends. */
WEFT_API int weft_once_complete(weft_once *o, void *value);
WEFT_API int weft_once_abandon(weft_once *o);

WEFT_END_DECLS

#endif
