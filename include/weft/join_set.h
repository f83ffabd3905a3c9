/*
 * Join sets: tasks joined in the order in which they end.
 *
 *     weft_join_set *set;
 *     rc = weft_join_set_create(&set);
 *     for (size_t i = 0; rc == 0 && i < n; i++)
 *         rc = weft_join_set_spawn(set, fetch, &job[i], NULL);
 *     weft_outcome o;
 *     while (weft_join_set_join_next(set, &o) == 0)
 *         use(&o);
 *     weft_join_set_destroy(set);
 *
 * The set counts a task until its outcome was taken. Destroying the set aborts the tasks in it and
 * waits for their end, so they may point into the frame of the owner.
 *
 * Unless they say otherwise the functions may be called from any thread, by several at a time, also
 * by tasks in the set. When the set is destroyed none but the destroyer and those tasks may use it
 * any more, and what they spawn into it is aborted.
 *
 * Misuse: -EINVAL with a line in the log for NULL in the place of a set, in futures by their poll;
 * what returns no error says the same, does nothing, and answers as for an empty set.
 *
 * In a forked child a set of its parent's is not to be used: spawning, joining and shutting it down
 * return -EPERM with a line in the log, all else does nothing, and the set counts no task.
 * Destroying it leaves the tasks alone.
 *
 * Source: the interface is that of JoinSet in Tokio.
 */
#ifndef WEFT_JOIN_SET_H
#define WEFT_JOIN_SET_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>
#include <weft/task.h>

WEFT_BEGIN_DECLS

typedef struct weft_join_set weft_join_set;

/* An empty set, the caller's. 0; -ENOMEM; -EINVAL when ret_set is NULL (logged). Any thread, in a
 * runtime or in none. */
WEFT_API WEFT_MUST_CHECK int weft_join_set_create(weft_join_set **ret_set);

/*
 * Aborts all tasks in the set, waits until they have ended, drops what nobody has joined, and frees
 * the set. NULL does nothing.
 *
 * The wait ends when the tasks have, whatever becomes of the caller: neither its abort nor a
 * deadline cuts it short; as a join, it lasts for ever if nobody drives a task's runtime. A task of
 * the set that destroys it does not wait for itself. Where the caller cannot wait, or would block a
 * plain thread (outside tasks, bodies of weft_block_on() and blocking jobs, also in a function of
 * weft_block_in_place(); inside a polled future, WEFT_NO_WAIT or a hook), the tasks are aborted and
 * left to end by themselves. weft_join_set_shutdown() waits on a thread too.
 *
 * Context: anywhere; may suspend.
 */
WEFT_API void weft_join_set_destroy(weft_join_set *set);

/*
 * Spawns a task into the set.
 *
 *     int weft_join_set_spawn(set, fn, arg, ret_abort);
 *     int weft_join_set_spawn_with(set, options, fn, arg, ret_abort);
 *
 *   options, fn, arg   as weft_spawn_with()
 *   ret_abort          a handle to abort it with, the caller's, to be unreferenced; NULL: none
 *
 * Returns and context as weft_spawn(). Never suspends.
 */
#define weft_join_set_spawn(set, ...)                                                              \
    weft__join_set_spawn_at((set), WEFT_MEMBER_TASK, NULL, __VA_ARGS__, WEFT_SITE)
#define weft_join_set_spawn_with(set, ...)                                                         \
    weft__join_set_spawn_at((set), WEFT_MEMBER_TASK, __VA_ARGS__, WEFT_SITE)
/* weft_join_set_spawn_blocking(set, options, fn, arg, ret_abort): the same on a thread of the
 * blocking pool, see weft_spawn_blocking(). Once it has started, a destroy waits for its end. */
#define weft_join_set_spawn_blocking(set, ...)                                                     \
    weft__join_set_spawn_at((set), WEFT_MEMBER_BLOCKING, __VA_ARGS__, WEFT_SITE)
/* weft_join_set_spawn_future(set, options, f, ret_abort): the same for a future, see
 * weft_spawn_future(). */
#define weft_join_set_spawn_future(set, ...)                                                       \
    weft__join_set_spawn_future_at((set), __VA_ARGS__, WEFT_SITE)

/* weft_join_set_spawn_local(set, options, fn, arg, ret_abort): the same for a local task, see
 * weft_spawn_local(); options.local_set names its set. A destroy waits for its end only if the
 * caller drives that set, or is a task of it; otherwise it is just aborted. */
#define weft_join_set_spawn_local(set, ...)                                                        \
    weft__join_set_spawn_at((set), WEFT_MEMBER_LOCAL, __VA_ARGS__, WEFT_SITE)

/* What a member is made of. */
enum weft_member_kind {
    WEFT_MEMBER_TASK,
    WEFT_MEMBER_BLOCKING,
    WEFT_MEMBER_LOCAL,
    WEFT_MEMBER_FUTURE, /* fn is NULL, arg the weft_future */
};

WEFT_API WEFT_MUST_CHECK int weft__join_set_spawn_at(weft_join_set *set, enum weft_member_kind kind,
                                                     const weft_spawn_options *options,
                                                     weft_task_fn fn, void *arg,
                                                     weft_abort_handle **ret_abort,
                                                     const weft_site *site);
WEFT_MUST_CHECK static inline int weft__join_set_spawn_future_at(weft_join_set *set,
                                                                 const weft_spawn_options *options,
                                                                 weft_future *f,
                                                                 weft_abort_handle **ret_abort,
                                                                 const weft_site *site)
{
    return weft__join_set_spawn_at(set, WEFT_MEMBER_FUTURE, options, NULL, f, ret_abort, site);
}

typedef struct weft_body {
    weft_task_fn fn;
    void *arg;
} weft_body;

/*
 * Spawns a task for each of an array of bodies.
 *
 *     long weft_join_set_spawn_all(set, options, bodies, count);
 *
 *   options   for all of them; may be NULL
 *
 * Returns how many were spawned, in order; fewer than count when memory ran out. An error when not
 * even the first was, as weft_spawn(); -EINVAL, logged, also when there are no bodies and count is
 * not 0.
 */
#define weft_join_set_spawn_all(set, ...) weft__join_set_spawn_all_at((set), __VA_ARGS__, WEFT_SITE)
WEFT_API WEFT_MUST_CHECK long weft__join_set_spawn_all_at(weft_join_set *set,
                                                          const weft_spawn_options *options,
                                                          const weft_body *bodies, size_t count,
                                                          const weft_site *site);

/* How many tasks are in the set, ended or not. Never suspends. */
WEFT_API size_t weft_join_set_len(weft_join_set *set);

/*
 * Waits until a task of the set has ended, and takes it out.
 *
 *   ret_outcome   its outcome, with its id; NULL: the outcome is dropped, see weft_join()
 *
 * Returns 0; -ENOENT when the set is empty, also when it becomes so during the call and is so still
 * when the caller goes on. Otherwise nothing was taken:
 *   -ECANCELED, -ETIMEDOUT, -EPERM   as weft_await()
 *
 * Context:       as weft_await(). May suspend. Spends the task's budget.
 * Cancellation:  safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_join_set_join_next(weft_join_set *set, weft_outcome *ret_outcome);
/* The same without waiting: -EAGAIN while none has ended. Never suspends, spends no budget. */
WEFT_API WEFT_MUST_CHECK int weft_join_set_try_join_next(weft_join_set *set,
                                                         weft_outcome *ret_outcome);
/* The same on a plain thread, in a runtime or in none. -EPERM in a task (logged); -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_join_set_blocking_join_next(weft_join_set *set,
                                                              weft_outcome *ret_outcome);

/* The same as a future; its result is that of weft_join_set_join_next(). set and ret_outcome are
 * borrowed until it has completed or was cancelled. */
typedef struct weft_join_set_join_next_future {
    weft_future future;
    void *opaque[8];
} weft_join_set_join_next_future;
WEFT_API void weft_join_set_join_next_future_init(weft_join_set_join_next_future *f,
                                                  weft_join_set *set, weft_outcome *ret_outcome);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_join_set_join_next(weft_join_set *set, weft_outcome *ret_outcome);

/*
 * Waits until all tasks have ended, and takes all their values.
 *
 *   ret_values   an array of values_max, filled in the order of their ends. NULL: the values are
 *                dropped
 *
 * When one panics or is cancelled the others are aborted and waited for, their values are dropped,
 * and the calling task panics: with the same panic, or one that says who was cancelled. To have
 * outcomes instead use weft_join_set_join_next().
 *
 * Returns how many there were; the set is empty. Otherwise nothing was taken:
 *   -ENOSPC                          there are more than values_max
 *   -EDEADLK                         the calling task is one of them (logged)
 *   -ECANCELED, -ETIMEDOUT, -EPERM   as weft_await(); -EPERM (logged) also on a thread that is just
 *                                    inside weft_enter(), and could not panic
 *
 * Context:       tasks, bodies of weft_block_on(), blocking jobs. May suspend.
 * Cancellation:  safe; calling again continues.
 */
WEFT_API WEFT_MUST_CHECK long weft_join_set_join_all(weft_join_set *set, void **ret_values,
                                                     size_t values_max);

/* Aborts all tasks in the set; they stay in it, and are joined as cancelled, or with their values
 * if they had ended. Never suspends. */
WEFT_API void weft_join_set_abort_all(weft_join_set *set);

/*
 * Aborts all tasks, also those that are spawned during the call, waits until they have ended, and
 * drops their outcomes.
 *
 * Returns 0, and the set is empty. Otherwise the tasks are aborted, but may be in the set:
 *   -ECANCELED, -ETIMEDOUT, -EPERM   as weft_await()
 *   -EDEADLK                         the caller is one of them, and no abort ends its wait: a
 *                                    blocking job, or inside WEFT_SHIELD or weft_block_in_place()
 *                                    (logged)
 *
 * Context: as weft_await(). May suspend.
 */
WEFT_API WEFT_MUST_CHECK int weft_join_set_shutdown(weft_join_set *set);

/* Empties the set. Its tasks go on, detached. Never suspends. */
WEFT_API void weft_join_set_detach_all(weft_join_set *set);

WEFT_END_DECLS

#endif
