/*
 * Join maps: tasks with a key each, joined in the order in which they end.
 *
 *     weft_join_map_options options = {.key_bytes = sizeof(int)};
 *     rc = weft_join_map_create(&options, &map);
 *     rc = weft_join_map_spawn(map, &shard, serve, arg, NULL);
 *     ...
 *     while (weft_join_map_join_next(map, &shard, &o) == 0)
 *         ...
 *
 * A key has one task: spawning under a key in use aborts the former task, and its outcome is never
 * reported, even if it had ended. Destroying the map aborts its tasks and waits for their end.
 *
 * A map is used by one task or thread at a time. Its tasks may end at any moment.
 *
 * Misuse: -EINVAL with a line in the log for NULL in the place of a map, of a key to look for, or
 * of a function, in futures by their poll; what returns no error says the same, does nothing, and
 * answers as for an empty map.
 *
 * In a forked child a map of its parent's is not to be used: spawning, joining and shutting it down
 * return -EPERM with a line in the log; aborting, detaching and destroying do nothing.
 *
 * Source: the interface is that of JoinMap in tokio-util.
 */
#ifndef WEFT_JOIN_MAP_H
#define WEFT_JOIN_MAP_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/join_set.h>
#include <weft/select.h>
#include <weft/task.h>

WEFT_BEGIN_DECLS

typedef struct weft_join_map weft_join_map;

/* The functions are called without a lock held. They must neither suspend nor use the map. */
typedef struct weft_join_map_options {
    size_t key_bytes; /* of a key, which is copied into the map; at least 1 */
    /* Both or neither. NULL: of the bytes, so keys must have no padding. */
    uint64_t (*hash)(const void *key);
    bool (*equal)(const void *a, const void *b);
    /* Called with a key of the map that is not given back by a join; NULL: nothing to do. */
    void (*drop_key)(void *key);
} weft_join_map_options;

/* An empty map, the caller's. 0; -ENOMEM; -EINVAL for options that do not fit together, and when
 * ret_map is NULL (logged). Any thread, in a runtime or in none. */
WEFT_API WEFT_MUST_CHECK int weft_join_map_create(const weft_join_map_options *options,
                                                  weft_join_map **ret_map);
/* Aborts all tasks, also those that were replaced, waits for their end, drops outcomes and keys,
 * and frees the map: as weft_join_set_destroy(). NULL does nothing. */
WEFT_API void weft_join_map_destroy(weft_join_map *map);

/*
 * Spawns a task under a key.
 *
 *     int weft_join_map_spawn(map, key, fn, arg, ret_abort);
 *     int weft_join_map_spawn_with(map, key, options, fn, arg, ret_abort);
 *     int weft_join_map_spawn_blocking(map, key, options, fn, arg, ret_abort);
 *     int weft_join_map_spawn_future(map, key, options, f, ret_abort);
 *     int weft_join_map_spawn_local(map, key, options, fn, arg, ret_abort);
 *
 *   key         options.key_bytes are copied; taken when the call succeeds
 *   the rest    as weft_join_set_spawn()
 *
 * A task that had the key is aborted and forgotten, and its key dropped. If drop_key panics, so
 * does the caller, when all else is done.
 *
 * Returns and context as weft_spawn(), or weft_spawn_blocking(). Never suspends.
 */
#define weft_join_map_spawn(map, key, ...)                                                         \
    weft__join_map_spawn_at((map), (key), WEFT_MEMBER_TASK, NULL, __VA_ARGS__, WEFT_SITE)
#define weft_join_map_spawn_with(map, key, ...)                                                    \
    weft__join_map_spawn_at((map), (key), WEFT_MEMBER_TASK, __VA_ARGS__, WEFT_SITE)
#define weft_join_map_spawn_blocking(map, key, ...)                                                \
    weft__join_map_spawn_at((map), (key), WEFT_MEMBER_BLOCKING, __VA_ARGS__, WEFT_SITE)
#define weft_join_map_spawn_future(map, key, ...)                                                  \
    weft__join_map_spawn_future_at((map), (key), __VA_ARGS__, WEFT_SITE)
#define weft_join_map_spawn_local(map, key, ...)                                                   \
    weft__join_map_spawn_at((map), (key), WEFT_MEMBER_LOCAL, __VA_ARGS__, WEFT_SITE)
WEFT_API WEFT_MUST_CHECK int weft__join_map_spawn_at(weft_join_map *map, const void *key,
                                                     enum weft_member_kind kind,
                                                     const weft_spawn_options *options,
                                                     weft_task_fn fn, void *arg,
                                                     weft_abort_handle **ret_abort,
                                                     const weft_site *site);
WEFT_MUST_CHECK static inline int weft__join_map_spawn_future_at(
    weft_join_map *map, const void *key, const weft_spawn_options *options, weft_future *f,
    weft_abort_handle **ret_abort, const weft_site *site)
{
    return weft__join_map_spawn_at(map, key, WEFT_MEMBER_FUTURE, options, NULL, f, ret_abort, site);
}

/*
 * Waits until a task of the map has ended, and takes it out.
 *
 *   ret_key       key_bytes, the key is the caller's now; NULL: it is dropped
 *   ret_outcome   its outcome; NULL: dropped, see weft_join()
 *
 * Returns and context as weft_join_set_join_next(): 0, -ENOENT when the map is empty, ...
 */
WEFT_API WEFT_MUST_CHECK int weft_join_map_join_next(weft_join_map *map, void *ret_key,
                                                     weft_outcome *ret_outcome);
/* The same without waiting: -EAGAIN while none has ended. Never suspends, spends no budget. */
WEFT_API WEFT_MUST_CHECK int weft_join_map_try_join_next(weft_join_map *map, void *ret_key,
                                                         weft_outcome *ret_outcome);
/* The same on a plain thread, in a runtime or in none. -EPERM in a task (logged); -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_join_map_blocking_join_next(weft_join_map *map, void *ret_key,
                                                              weft_outcome *ret_outcome);

/* The same as a future. What it is given is borrowed until it has completed or was cancelled. While
 * it is pending the map may be used by its owner. */
typedef struct weft_join_map_join_next_future {
    weft_future future;
    void *opaque[9];
} weft_join_map_join_next_future;
WEFT_API void weft_join_map_join_next_future_init(weft_join_map_join_next_future *f,
                                                  weft_join_map *map, void *ret_key,
                                                  weft_outcome *ret_outcome);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_join_map_join_next(weft_join_map *map, void *ret_key,
                                                weft_outcome *ret_outcome);

/* None of the following suspends, but for weft_join_map_shutdown(). */

/* How many tasks, hence keys, are in the map, ended or not. */
WEFT_API size_t weft_join_map_len(weft_join_map *map);
/* True until the key's task was joined, or given up. */
WEFT_API bool weft_join_map_contains(weft_join_map *map, const void *key);
/* Calls visit for each key, in no particular order, until it returns false. It must not use the
 * map. */
WEFT_API void weft_join_map_each(weft_join_map *map,
                                 bool (*visit)(const void *key, uint64_t task_id, void *arg),
                                 void *arg);

/* Aborts the task of a key, which stays in the map and is joined as cancelled, or with its value if
 * it had ended. False: there is no such key. */
WEFT_API bool weft_join_map_abort(weft_join_map *map, const void *key);
/* The same for each key for which matches returns true, which must not use the map. Returns how
 * many there were. */
WEFT_API size_t weft_join_map_abort_matching(weft_join_map *map,
                                             bool (*matches)(const void *key, void *arg),
                                             void *arg);
WEFT_API void weft_join_map_abort_all(weft_join_map *map);
/* As weft_join_set_shutdown(), and drops the keys. May suspend. */
WEFT_API WEFT_MUST_CHECK int weft_join_map_shutdown(weft_join_map *map);
/* Empties the map and drops the keys. Its tasks go on, detached. */
WEFT_API void weft_join_map_detach_all(weft_join_map *map);

WEFT_END_DECLS

#endif
