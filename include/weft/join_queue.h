/*
 * Join queues: tasks joined in the order in which they were spawned.
 *
 * As a join set (<weft/join_set.h>), except that a task which ends early waits for its turn.
 * Whoever waits is not woken by it.
 *
 * A queue is used by one task or thread at a time. Its tasks may end at any moment.
 *
 * Misuse: as for join sets.
 *
 * In a forked child the tasks of its parent do not end: waiting for one of them returns -EPERM with
 * a line in the log, and destroying a queue of them leaves them alone.
 *
 * Source: the interface is that of JoinQueue in tokio-util.
 */
#ifndef WEFT_JOIN_QUEUE_H
#define WEFT_JOIN_QUEUE_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/join_set.h>
#include <weft/select.h>
#include <weft/task.h>

WEFT_BEGIN_DECLS

typedef struct weft_join_queue weft_join_queue;

/* An empty queue, the caller's. 0; -ENOMEM; -EINVAL when ret_queue is NULL (logged). Any thread, in
 * a runtime or in none. */
WEFT_API WEFT_MUST_CHECK int weft_join_queue_create(weft_join_queue **ret_queue);
/* Aborts all tasks, waits for their end, drops their outcomes, and frees the queue: as
 * weft_join_set_destroy(). NULL does nothing. */
WEFT_API void weft_join_queue_destroy(weft_join_queue *queue);

/*
 * Spawns a task at the end of the queue.
 *
 *     int weft_join_queue_spawn(queue, fn, arg, ret_abort);
 *     int weft_join_queue_spawn_with(queue, options, fn, arg, ret_abort);
 *     int weft_join_queue_spawn_blocking(queue, options, fn, arg, ret_abort);
 *     int weft_join_queue_spawn_future(queue, options, f, ret_abort);
 *     int weft_join_queue_spawn_local(queue, options, fn, arg, ret_abort);
 *
 * Arguments, results and context as weft_join_set_spawn().
 */
#define weft_join_queue_spawn(queue, ...)                                                          \
    weft__join_queue_spawn_at((queue), WEFT_MEMBER_TASK, NULL, __VA_ARGS__, WEFT_SITE)
#define weft_join_queue_spawn_with(queue, ...)                                                     \
    weft__join_queue_spawn_at((queue), WEFT_MEMBER_TASK, __VA_ARGS__, WEFT_SITE)
#define weft_join_queue_spawn_blocking(queue, ...)                                                 \
    weft__join_queue_spawn_at((queue), WEFT_MEMBER_BLOCKING, __VA_ARGS__, WEFT_SITE)
#define weft_join_queue_spawn_future(queue, ...)                                                   \
    weft__join_queue_spawn_future_at((queue), __VA_ARGS__, WEFT_SITE)
#define weft_join_queue_spawn_local(queue, ...)                                                    \
    weft__join_queue_spawn_at((queue), WEFT_MEMBER_LOCAL, __VA_ARGS__, WEFT_SITE)
WEFT_API WEFT_MUST_CHECK int weft__join_queue_spawn_at(
    weft_join_queue *queue, enum weft_member_kind kind, const weft_spawn_options *options,
    weft_task_fn fn, void *arg, weft_abort_handle **ret_abort, const weft_site *site);
WEFT_MUST_CHECK static inline int weft__join_queue_spawn_future_at(
    weft_join_queue *queue, const weft_spawn_options *options, weft_future *f,
    weft_abort_handle **ret_abort, const weft_site *site)
{
    return weft__join_queue_spawn_at(queue, WEFT_MEMBER_FUTURE, options, NULL, f, ret_abort, site);
}

/* How many tasks are in the queue, ended or not. Never suspends. */
WEFT_API size_t weft_join_queue_len(weft_join_queue *queue);

/* Waits until the first task has ended, and takes it out. Arguments, results and context as
 * weft_join_set_join_next(): 0, -ENOENT when the queue is empty, ...; and -EDEADLK when the first
 * is the task that waits (logged). */
WEFT_API WEFT_MUST_CHECK int weft_join_queue_join_next(weft_join_queue *queue,
                                                       weft_outcome *ret_outcome);
/* The same without waiting: -EAGAIN while the first has not ended. Never suspends, spends no
 * budget. */
WEFT_API WEFT_MUST_CHECK int weft_join_queue_try_join_next(weft_join_queue *queue,
                                                           weft_outcome *ret_outcome);
/* The same on a plain thread, in a runtime or in none. -EPERM in a task (logged); -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_join_queue_blocking_join_next(weft_join_queue *queue,
                                                                weft_outcome *ret_outcome);

/* The same as a future. What it is given is borrowed until it has completed or was cancelled. While
 * it is pending its owner may spawn into the queue, abort, and ask, but not take the first out. */
typedef struct weft_join_queue_join_next_future {
    weft_future future;
    weft_join_queue *queue;
    weft_outcome *ret_outcome;
    weft_join_future first;
} weft_join_queue_join_next_future;
WEFT_API void weft_join_queue_join_next_future_init(weft_join_queue_join_next_future *f,
                                                    weft_join_queue *queue,
                                                    weft_outcome *ret_outcome);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_join_queue_join_next(weft_join_queue *queue,
                                                  weft_outcome *ret_outcome);

/* Waits until all tasks have ended, and takes all their values, in the order of spawning.
 * Arguments, results, panics and context as weft_join_set_join_all(), but that a failure is noticed
 * when it is that task's turn. */
WEFT_API WEFT_MUST_CHECK long weft_join_queue_join_all(weft_join_queue *queue, void **ret_values,
                                                       size_t values_max);

/* Aborts all tasks in the queue; they stay in it. Never suspends. */
WEFT_API void weft_join_queue_abort_all(weft_join_queue *queue);
/* Aborts all tasks, waits for their end, drops their outcomes: as weft_join_set_shutdown(). */
WEFT_API WEFT_MUST_CHECK int weft_join_queue_shutdown(weft_join_queue *queue);
/* Empties the queue. Its tasks go on, detached. Never suspends. */
WEFT_API void weft_join_queue_detach_all(weft_join_queue *queue);

WEFT_END_DECLS

#endif
