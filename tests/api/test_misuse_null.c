/* ctest: parallel */
/* NULL in the place of an object, a key or a function: one line in the log that names the call, and
 * what returns an error says -EINVAL. See test_channel_null.c for channels. */
#include "harness.h"

#include <weft/cancel.h>
#include <weft/future.h>
#include <weft/interval.h>
#include <weft/iter.h>
#include <weft/join_all.h>
#include <weft/join_map.h>
#include <weft/join_queue.h>
#include <weft/join_set.h>
#include <weft/local.h>
#include <weft/mpsc.h>
#include <weft/once.h>
#include <weft/oneshot.h>
#include <weft/queue.h>
#include <weft/rwlock.h>
#include <weft/scope.h>
#include <weft/select.h>
#include <weft/semaphore.h>
#include <weft/sim.h>
#include <weft/task_local.h>
#include <weft/task_tracker.h>
#include <weft/time.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>

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

static void task_trackers(struct test_env *env)
{
    SAYS("weft_task_tracker_spawn", -EINVAL, weft_task_tracker_spawn(NULL, test_noop, env, NULL));
    REFUSES(weft_task_tracker_wait, NULL);
    REFUSES(weft_task_tracker_blocking_wait, NULL);
    EXPECT(weft_task_tracker_ref(NULL) == NULL);
    EXPECT_LOGGED("weft_task_tracker_ref: ");
    ANSWERS(0, weft_task_tracker_len, NULL);
    ANSWERS(false, weft_task_tracker_close, NULL);
    ANSWERS(false, weft_task_tracker_reopen, NULL);
    ANSWERS(true, weft_task_tracker_is_closed, NULL);
    DOES_NOTHING(weft_task_tracker_acquire, NULL);
    DOES_NOTHING(weft_task_tracker_release, NULL);
    FUTURE_REFUSES(weft_task_tracker_wait_future, NULL);
    CASE_REFUSES(weft_case_task_tracker_wait(NULL));
    IS_SILENT(weft_task_tracker_unref(NULL));
}

static void scopes(struct test_env *env)
{
    weft_panic_info *info = (weft_panic_info *)env;
    REFUSES(weft_scope_enter, NULL, NULL);
    REFUSES(weft_scope_wait, NULL);
    REFUSES(weft_scope_leave, NULL, &info);
    EXPECT(info == NULL);
    ANSWERS(false, weft_scope_is_cancelled, NULL);
    ANSWERS(0, weft_scope_len, NULL);
    DOES_NOTHING(weft_scope_cancel, NULL);
}

/* The handles of a future of several tasks: its first poll looks. */
static void arrays_of_handles(struct test_env *env)
{
    weft_join_all_future j;
    size_t failed;
    (void)env;
    weft_join_all_future_init(&j, NULL, 2, NULL);
    SAYS("weft_join_all", -EINVAL, weft_await(&j.future));
    weft_join_all_ok_future_init(&j, NULL, 2, NULL, &failed);
    SAYS("weft_join_all_ok", -EINVAL, weft_await(&j.future));
    weft_race_future_init(&j, NULL, 2, NULL);
    SAYS("weft_race", -EINVAL, weft_await(&j.future));
    weft_join_all_future_init(&j, NULL, 2, NULL);
    weft_future_cancel(&j.future);
    weft_join_all_future_init(&j, NULL, 0, NULL);
    EXPECT_EQ(weft_await(&j.future), 0);
}

/* ---- locks and cells, given no function; permits ---- */

static void locks_and_cells(struct test_env *env)
{
    weft_rwlock lock = WEFT_RWLOCK_INIT;
    weft_once once = WEFT_ONCE_INIT;
    void *value = NULL;
    CHECK_EQ(weft_rwlock_try_write(&lock), 0);
    REFUSES(weft_rwlock_try_downgrade, &lock, NULL, env);
    EXPECT_EQ(weft_rwlock_try_read(&lock), -EAGAIN); /* still written */
    weft_rwlock_write_unlock(&lock);

    REFUSES(weft_once_get_or_init, &once, NULL, env, &value);
    REFUSES(weft_once_blocking_get_or_init, &once, NULL, env, &value);
    EXPECT_EQ(weft_once_set(&once, env), 0); /* it is nobody's turn */
    weft_once_fini(&once, NULL);
}

static void permits(struct test_env *env)
{
    weft_semaphore s;
    weft_permit p;
    (void)env;
    CHECK_EQ(weft_semaphore_init(&s, 2), 0);
    CHECK_EQ(weft_permit_try_acquire(&s, 2, &p), 0);
    REFUSES(weft_permit_merge, NULL, &p);
    REFUSES(weft_permit_merge, &p, NULL);
    EXPECT_EQ(p.count, 2);
    DOES_NOTHING(weft_permit_forget, NULL);
    IS_SILENT(weft_permit_release(NULL));
    weft_permit_release(&p);
}

/* ---- channels ---- */

static void poll_senders(struct test_env *env)
{
    int v = 1;
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    (void)env;
    CHECK_EQ(weft_mpsc_create(sizeof(v), 1, NULL, &tx, &rx), 0);
    DOES_NOTHING(weft_mpsc_poll_sender_init, NULL, tx);
    EXPECT_EQ(weft_mpsc_sender_strong_count(tx), 1);
    REFUSES(weft_mpsc_poll_sender_reserve, NULL, NULL);
    REFUSES(weft_mpsc_poll_sender_send, NULL, &v);
    ANSWERS(false, weft_mpsc_poll_sender_abort, NULL);
    DOES_NOTHING(weft_mpsc_poll_sender_close, NULL);
    IS_SILENT(weft_mpsc_poll_sender_fini(NULL));
    weft_mpsc_sender_unref(tx);
    weft_mpsc_receiver_unref(rx);
}

static void oneshots_in_memory(struct test_env *env)
{
    int value;
    weft_oneshot memory;
    weft_oneshot_sender *tx = (weft_oneshot_sender *)env;
    weft_oneshot_receiver *rx = (weft_oneshot_receiver *)env;
    DOES_NOTHING(weft_oneshot_init, NULL, &value, sizeof(value), NULL, &tx, &rx);
    EXPECT(tx == NULL && rx == NULL);
    DOES_NOTHING(weft_oneshot_init, &memory, NULL, sizeof(value), NULL, &tx, &rx);
    DOES_NOTHING(weft_oneshot_init, &memory, &value, sizeof(value), NULL, NULL, &rx);
    DOES_NOTHING(weft_oneshot_init, &memory, &value, sizeof(value), NULL, &tx, NULL);
    EXPECT(tx == NULL && rx == NULL);
    IS_SILENT(weft_oneshot_init(&memory, NULL, 0, NULL, &tx, &rx));
    weft_oneshot_sender_destroy(tx);
    weft_oneshot_receiver_destroy(rx);
}

static void cases_of_queues(struct test_env *env)
{
    (void)env;
    ANSWERS(false, weft_case_queue_was_sent, NULL);
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

/* ---- tasks ---- */

static void futures(struct test_env *env)
{
    weft_future without_ops = {NULL};
    (void)env;
    REFUSES(weft_future_poll, NULL, NULL);
    REFUSES(weft_future_poll, &without_ops, NULL);
    DOES_NOTHING(weft_future_cancel, NULL);
    DOES_NOTHING(weft_future_cancel, &without_ops);
    DOES_NOTHING(weft_case_cancel, NULL);
    DOES_NOTHING(weft_iter_cancel, NULL);
}

static void outcomes(struct test_env *env)
{
    char text[32];
    (void)env;
    REFUSES(weft_outcome_error, NULL);
    EXPECT_EQ(weft_outcome_describe(NULL, text, sizeof(text)), strlen("no outcome"));
    EXPECT_EQ(strcmp(text, "no outcome"), 0);
    IS_SILENT(weft_outcome_fini(NULL));
}

static void guards(struct test_env *env)
{
    (void)env;
    IS_SILENT(weft_task_guard_release(NULL));
    IS_SILENT(weft_cancel_guard_release(NULL));
    EXPECT(weft_task_guard_disarm(NULL) == NULL);
    EXPECT_LOGGED("weft_task_guard_disarm: ");
    EXPECT(weft_cancel_guard_disarm(NULL) == NULL);
    EXPECT_LOGGED("weft_cancel_guard_disarm: ");
}

/* The block is entered all the same, and what is spawned inside inherits what else there is. */
static void task_locals(struct test_env *env)
{
    weft_task_local_binding b;
    DOES_NOTHING(weft_task_local_enter, &b, NULL, env);
    EXPECT(test_join_value(SPAWN(test_noop, env)) == test_noop(env));
    EXPECT(weft_task_local_get(NULL) == NULL);
    EXPECT_LOGGED("weft_task_local_get: ");
    IS_SILENT(weft_task_local_leave(&b));
}

static void configs(struct test_env *env)
{
    (void)env;
    DOES_NOTHING(weft_config_init, NULL);
    DOES_NOTHING(weft_local_set_config_init, NULL);
    DOES_NOTHING(weft_sim_config_init, NULL, 1);
}

TEST_MAIN(IN_TASK_ON(join_sets, TEST_CT), IN_TASK_ON(join_maps, TEST_CT),
          IN_TASK_ON(join_queues, TEST_CT), IN_TASK_ON(task_trackers, TEST_CT),
          IN_TASK_ON(scopes, TEST_CT), IN_TASK_ON(arrays_of_handles, TEST_CT),
          PLAIN(locks_and_cells), PLAIN(permits), PLAIN(poll_senders), PLAIN(oneshots_in_memory),
          PLAIN(cases_of_queues), IN_TASK_ON(intervals, TEST_CT), IN_TASK_ON(timers, TEST_CT),
          PLAIN(futures), PLAIN(outcomes), PLAIN(guards), PLAIN(configs),
          IN_TASK_ON(task_locals, TEST_CT))
