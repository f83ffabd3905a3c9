/*
 * Task trackers: waiting for the end of tasks that nobody joins.
 *
 *     rc = weft_task_tracker_create(&tracker);
 *     while (weft_tcp_accept(l, &conn) == 0)
 *         rc = weft_task_tracker_spawn(tracker, serve, conn, NULL);
 *     weft_task_tracker_close(tracker);
 *     rc = weft_task_tracker_wait(tracker);     all connections are closed
 *     weft_task_tracker_unref(tracker);
 *
 * A tracker counts. What a task returns is dropped when it ends, and nothing is kept of it. The
 * wait returns once the tracker is closed and its count is 0; closing it says that the count may
 * come to 0, not that nothing may be spawned any more. Other than a join set it aborts nothing.
 *
 * A tracker is counted: each holder has a reference. All functions may be called from any thread,
 * in a runtime or in none, and none suspends unless it says so.
 *
 * Misuse: -EINVAL with a line in the log for NULL in the place of a tracker, in the future by its
 * poll; what returns no error says the same, does nothing, and answers as for one that is closed
 * and counts nothing.
 *
 * In a forked child a tracker of its parent's may be given up. Spawning and waiting return -EPERM
 * with a line in the log; closing, reopening and releasing do nothing, with such a line.
 *
 * Source: the interface is that of TaskTracker in tokio-util.
 */
#ifndef WEFT_TASK_TRACKER_H
#define WEFT_TASK_TRACKER_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/join_set.h>
#include <weft/select.h>
#include <weft/task.h>

WEFT_BEGIN_DECLS

typedef struct weft_task_tracker weft_task_tracker;

/* An open tracker that counts nothing. 0 with a reference; -ENOMEM; -EINVAL when ret_tracker is
 * NULL (logged). */
WEFT_API WEFT_MUST_CHECK int weft_task_tracker_create(weft_task_tracker **ret_tracker);
/* Takes a reference; returns t. */
WEFT_API weft_task_tracker *weft_task_tracker_ref(weft_task_tracker *t);
/* Gives a reference up. The tasks run on, and so do waits that have begun. NULL does nothing. */
WEFT_API void weft_task_tracker_unref(weft_task_tracker *t);

/*
 * Spawns a task that is counted until it has ended, cleanup included.
 *
 *     int weft_task_tracker_spawn(t, fn, arg, ret_abort);
 *     int weft_task_tracker_spawn_with(t, options, fn, arg, ret_abort);
 *     int weft_task_tracker_spawn_blocking(t, options, fn, arg, ret_abort);
 *     int weft_task_tracker_spawn_local(t, options, fn, arg, ret_abort);
 *     int weft_task_tracker_spawn_future(t, options, f, ret_abort);
 *
 *   options, fn, arg   as weft_spawn_with()
 *   ret_abort          a handle to abort it with, the caller's, to be unreferenced; NULL: none. To
 *                      have a task's outcome spawn it as usual, with a token
 *
 * Returns as weft_spawn(), or weft_spawn_blocking(); -EOVERFLOW (logged) when 2^30 are counted.
 * Context as weft_spawn().
 */
#define weft_task_tracker_spawn(t, ...)                                                            \
    weft__task_tracker_spawn_at((t), WEFT_MEMBER_TASK, NULL, __VA_ARGS__, WEFT_SITE)
#define weft_task_tracker_spawn_with(t, ...)                                                       \
    weft__task_tracker_spawn_at((t), WEFT_MEMBER_TASK, __VA_ARGS__, WEFT_SITE)
#define weft_task_tracker_spawn_blocking(t, ...)                                                   \
    weft__task_tracker_spawn_at((t), WEFT_MEMBER_BLOCKING, __VA_ARGS__, WEFT_SITE)
#define weft_task_tracker_spawn_local(t, ...)                                                      \
    weft__task_tracker_spawn_at((t), WEFT_MEMBER_LOCAL, __VA_ARGS__, WEFT_SITE)
#define weft_task_tracker_spawn_future(t, ...)                                                     \
    weft__task_tracker_spawn_future_at((t), __VA_ARGS__, WEFT_SITE)
WEFT_API WEFT_MUST_CHECK int weft__task_tracker_spawn_at(
    weft_task_tracker *t, enum weft_member_kind kind, const weft_spawn_options *options,
    weft_task_fn fn, void *arg, weft_abort_handle **ret_abort, const weft_site *site);
WEFT_MUST_CHECK static inline int weft__task_tracker_spawn_future_at(
    weft_task_tracker *t, const weft_spawn_options *options, weft_future *f,
    weft_abort_handle **ret_abort, const weft_site *site)
{
    return weft__task_tracker_spawn_at(t, WEFT_MEMBER_FUTURE, options, NULL, f, ret_abort, site);
}

/* A token: counts as a task from acquire to release, for what is no task, or is one spawned
 * elsewhere. It holds the tracker as a reference does. A release without a token is misuse (logged)
 * when it is found, at a count of 0. So is an acquire at a count of 2^30: it counts nothing. */
WEFT_API void weft_task_tracker_acquire(weft_task_tracker *t);
WEFT_API void weft_task_tracker_release(weft_task_tracker *t);

/* How many tasks have not ended, and tokens not been released. One more while a spawn that returns
 * an abort handle is under way. */
WEFT_API size_t weft_task_tracker_len(const weft_task_tracker *t);

/* Lets waits end once the count is 0; they end at once if it is. True: it was open. */
WEFT_API bool weft_task_tracker_close(weft_task_tracker *t);
/* Takes that back, for waits that have not ended yet. True: it was closed. False for NULL. */
WEFT_API bool weft_task_tracker_reopen(weft_task_tracker *t);
WEFT_API bool weft_task_tracker_is_closed(const weft_task_tracker *t);

/*
 * Waits until the tracker is closed and counts nothing; at once if so. Once that was the case
 * during the wait it returns, even if the tracker was reopened, or counts again, before the caller
 * runs.
 *
 * Returns 0, or -ECANCELED, -ETIMEDOUT, -EPERM as weft_await().
 *
 * Context: as weft_await(); may suspend. Threads: any number may wait. Cancellation: safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_task_tracker_wait(weft_task_tracker *t);
/* The same on a plain thread, in a runtime or in none. -EPERM in a task (logged); -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_task_tracker_blocking_wait(weft_task_tracker *t);

/* The same as a future, whose result is 0. t is borrowed until the first poll; a pending one has a
 * reference of its own. The wait begins with the first poll. */
typedef struct weft_task_tracker_wait_future {
    weft_future future;
    void *opaque[6];
} weft_task_tracker_wait_future;
WEFT_API void weft_task_tracker_wait_future_init(weft_task_tracker_wait_future *f,
                                                 weft_task_tracker *t);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_task_tracker_wait(weft_task_tracker *t);

WEFT_END_DECLS

#endif
