/* ctest: parallel */
/* NULL in the place of an object, a key or a function: one line in the log that names the call, and
 * what returns an error says -EINVAL. See test_channel_null.c for channels. */
#include "harness.h"

#include <weft/interval.h>
#include <weft/join_all.h>
#include <weft/join_map.h>
#include <weft/join_queue.h>
#include <weft/join_set.h>
#include <weft/select.h>
#include <weft/time.h>

#include <errno.h>
#include <stdint.h>

#define SAYS(name, rc, call)                                                                       \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT_EQ(call, rc);                                                                       \
        EXPECT_LOGGED(name ": ");                                                                  \
    } while (0)
/* The call is a function with its arguments. */
#define REFUSES(function, ...) SAYS(#function, -EINVAL, function(__VA_ARGS__))
#define ANSWERS(result, function, ...) SAYS(#function, result, function(__VA_ARGS__))
#define DOES_NOTHING(function, ...)                                                                \
    do {                                                                                           \
        test_log_clear();                                                                          \
        function(__VA_ARGS__);                                                                     \
        EXPECT_LOGGED(#function ": ");                                                             \
    } while (0)
/* Ends of life, of which nothing is said. */
#define IS_SILENT(...)                                                                             \
    do {                                                                                           \
        test_log_clear();                                                                          \
        __VA_ARGS__;                                                                               \
        EXPECT_EQ(test_log_count(""), 0);                                                          \
    } while (0)
/* A future says it when it is made, and in its result; unpolled it is given up like any other. */
#define FUTURE_REFUSES(type, ...)                                                                  \
    do {                                                                                           \
        type refused;                                                                              \
        DOES_NOTHING(type##_init, &refused, __VA_ARGS__);                                          \
        EXPECT_EQ(weft_await(&refused.future), -EINVAL);                                           \
        DOES_NOTHING(type##_init, &refused, __VA_ARGS__);                                          \
        weft_future_cancel(&refused.future);                                                       \
    } while (0)
#define CASE_REFUSES(...)                                                                          \
    do {                                                                                           \
        weft_case refused[] = {__VA_ARGS__};                                                       \
        EXPECT_EQ(weft_select(refused, 1), 0);                                                     \
        EXPECT_EQ(refused[0].rc, -EINVAL);                                                         \
    } while (0)

/* ---- tasks that are joined ---- */

static void join_sets(struct test_env *env)
{
    weft_join_set *set;
    weft_outcome o;
    SAYS("weft_join_set_spawn", -EINVAL, weft_join_set_spawn(NULL, test_noop, env, NULL));
    SAYS("weft_join_set_spawn_all", -EINVAL, weft_join_set_spawn_all(NULL, NULL, NULL, 0));
    REFUSES(weft_join_set_join_next, NULL, &o);
    REFUSES(weft_join_set_try_join_next, NULL, &o);
    REFUSES(weft_join_set_blocking_join_next, NULL, &o);
    REFUSES(weft_join_set_join_all, NULL, NULL, 0);
    REFUSES(weft_join_set_shutdown, NULL);
    ANSWERS(0, weft_join_set_len, NULL);
    DOES_NOTHING(weft_join_set_abort_all, NULL);
    DOES_NOTHING(weft_join_set_detach_all, NULL);
    FUTURE_REFUSES(weft_join_set_join_next_future, NULL, &o);
    CASE_REFUSES(weft_case_join_set_join_next(NULL, &o));
    IS_SILENT(weft_join_set_destroy(NULL));

    CHECK_EQ(weft_join_set_create(&set), 0);
    SAYS("weft_join_set_spawn_all", -EINVAL, weft_join_set_spawn_all(set, NULL, NULL, 2));
    EXPECT_EQ(weft_join_set_spawn_all(set, NULL, NULL, 0), 0);
    EXPECT_EQ(weft_join_set_len(set), 0);
    weft_join_set_destroy(set);
}

static bool count_key(const void *key, void *arg)
{
    (void)key;
    ++*(int *)arg;
    return true;
}

static bool count_visit(const void *key, uint64_t task_id, void *arg)
{
    (void)task_id;
    return count_key(key, arg);
}

static void join_maps(struct test_env *env)
{
    const weft_join_map_options options = {.key_bytes = sizeof(int)};
    weft_join_map *map;
    weft_outcome o;
    int key = 1, calls = 0;
    SAYS("weft_join_map_spawn", -EINVAL, weft_join_map_spawn(NULL, &key, test_noop, env, NULL));
    REFUSES(weft_join_map_join_next, NULL, &key, &o);
    REFUSES(weft_join_map_try_join_next, NULL, &key, &o);
    REFUSES(weft_join_map_blocking_join_next, NULL, &key, &o);
    REFUSES(weft_join_map_shutdown, NULL);
    ANSWERS(0, weft_join_map_len, NULL);
    ANSWERS(false, weft_join_map_contains, NULL, &key);
    ANSWERS(false, weft_join_map_abort, NULL, &key);
    ANSWERS(0, weft_join_map_abort_matching, NULL, count_key, &calls);
    DOES_NOTHING(weft_join_map_each, NULL, count_visit, &calls);
    DOES_NOTHING(weft_join_map_abort_all, NULL);
    DOES_NOTHING(weft_join_map_detach_all, NULL);
    FUTURE_REFUSES(weft_join_map_join_next_future, NULL, &key, &o);
    CASE_REFUSES(weft_case_join_map_join_next(NULL, &key, &o));
    IS_SILENT(weft_join_map_destroy(NULL));

    CHECK_EQ(weft_join_map_create(&options, &map), 0);
    CHECK_EQ(weft_join_map_spawn(map, &key, test_forever, env, NULL), 0);
    SAYS("weft_join_map_spawn", -EINVAL, weft_join_map_spawn(map, NULL, test_noop, env, NULL));
    ANSWERS(false, weft_join_map_contains, map, NULL);
    ANSWERS(false, weft_join_map_abort, map, NULL);
    ANSWERS(0, weft_join_map_abort_matching, map, NULL, &calls);
    DOES_NOTHING(weft_join_map_each, map, NULL, &calls);
    EXPECT_EQ(calls, 0);
    EXPECT_EQ(weft_join_map_len(map), 1);
    weft_join_map_destroy(map);
}

static void join_queues(struct test_env *env)
{
    weft_outcome o;
    SAYS("weft_join_queue_spawn", -EINVAL, weft_join_queue_spawn(NULL, test_noop, env, NULL));
    REFUSES(weft_join_queue_join_next, NULL, &o);
    REFUSES(weft_join_queue_try_join_next, NULL, &o);
    REFUSES(weft_join_queue_blocking_join_next, NULL, &o);
    REFUSES(weft_join_queue_join_all, NULL, NULL, 0);
    REFUSES(weft_join_queue_shutdown, NULL);
    ANSWERS(0, weft_join_queue_len, NULL);
    DOES_NOTHING(weft_join_queue_abort_all, NULL);
    DOES_NOTHING(weft_join_queue_detach_all, NULL);
    FUTURE_REFUSES(weft_join_queue_join_next_future, NULL, &o);
    CASE_REFUSES(weft_case_join_queue_join_next(NULL, &o));
    IS_SILENT(weft_join_queue_destroy(NULL));
}

/* ---- time ---- */

static void intervals(struct test_env *env)
{
    uint64_t at_ns;
    (void)env;
    REFUSES(weft_interval_init, NULL, WEFT_SEC);
    REFUSES(weft_interval_init_at, NULL, 0, WEFT_SEC);
    REFUSES(weft_interval_tick, NULL, &at_ns);
    REFUSES(weft_interval_try_tick, NULL, &at_ns);
    ANSWERS(0, weft_interval_period, NULL);
    ANSWERS(WEFT_NEVER, weft_interval_next, NULL);
    DOES_NOTHING(weft_interval_set_missed_tick, NULL, WEFT_MISSED_TICK_SKIP);
    DOES_NOTHING(weft_interval_reset, NULL);
    DOES_NOTHING(weft_interval_reset_immediately, NULL);
    DOES_NOTHING(weft_interval_reset_after, NULL, WEFT_SEC);
    DOES_NOTHING(weft_interval_reset_at, NULL, 0);
    FUTURE_REFUSES(weft_interval_tick_future, NULL, &at_ns);
    CASE_REFUSES(weft_case_tick(NULL, &at_ns));
    IS_SILENT(weft_interval_fini(NULL));
}

static void timers(struct test_env *env)
{
    (void)env;
    REFUSES(weft_timer_init, NULL, 0);
    ANSWERS(false, weft_timer_is_elapsed, NULL);
    ANSWERS(WEFT_NEVER, weft_timer_deadline, NULL);
    DOES_NOTHING(weft_timer_reset, NULL, 0);
    DOES_NOTHING(weft_timer_set_slack, NULL, WEFT_MS);
    IS_SILENT(weft_timer_fini(NULL));
}

TEST_MAIN(IN_TASK_ON(join_sets, TEST_CT), IN_TASK_ON(join_maps, TEST_CT),
          IN_TASK_ON(join_queues, TEST_CT), IN_TASK_ON(intervals, TEST_CT),
          IN_TASK_ON(timers, TEST_CT))
