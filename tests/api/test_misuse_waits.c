/* ctest: parallel */
/* A plain thread outside every runtime cannot wait as a task does: each call that may suspend says
 * -EPERM, logs one line that names it, and changes nothing. And bad input to sets and joins. */
#include "harness.h"

#include <weft/barrier.h>
#include <weft/broadcast.h>
#include <weft/cancel.h>
#include <weft/delay_queue.h>
#include <weft/interval.h>
#include <weft/join_all.h>
#include <weft/join_map.h>
#include <weft/join_queue.h>
#include <weft/join_set.h>
#include <weft/mpsc.h>
#include <weft/mutex.h>
#include <weft/notify.h>
#include <weft/once.h>
#include <weft/oneshot.h>
#include <weft/queue.h>
#include <weft/rwlock.h>
#include <weft/scope.h>
#include <weft/select.h>
#include <weft/semaphore.h>
#include <weft/set_once.h>
#include <weft/task_local.h>
#include <weft/task_tracker.h>
#include <weft/wait_group.h>
#include <weft/watch.h>

#include <errno.h>
#include <stdint.h>

#define FAILS(name, rc, call)                                                                      \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT_EQ(call, rc);                                                                       \
        EXPECT_LOGGED(name ": ");                                                                  \
    } while (0)
#define FORBIDDEN(name, call) FAILS(name, -EPERM, call)
#define REFUSED(name, call) FAILS(name, -EINVAL, call)

static int init_nothing(void *arg, void **ret_value)
{
    *ret_value = arg;
    return 0;
}

static void locks_and_events(struct test_env *env)
{
    void *value = NULL;
    weft_barrier barrier;
    weft_mutex mutex = WEFT_MUTEX_INIT;
    weft_rwlock rwlock = WEFT_RWLOCK_INIT;
    weft_semaphore semaphore;
    weft_notify notify = WEFT_NOTIFY_INIT;
    weft_once once = WEFT_ONCE_INIT;
    weft_set_once set_once = WEFT_SET_ONCE_INIT;
    weft_wait_group group = WEFT_WAIT_GROUP_INIT;
    weft_task_tracker *tracker;
    weft_cancel_token *token;
    weft_barrier_init(&barrier, 1);
    CHECK_EQ(weft_semaphore_init(&semaphore, 1), 0);
    CHECK_EQ(weft_task_tracker_create(&tracker), 0);
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    weft_notify_one(&notify);

    FORBIDDEN("weft_barrier_wait", weft_barrier_wait(&barrier));
    FORBIDDEN("weft_mutex_lock", weft_mutex_lock(&mutex));
    FORBIDDEN("weft_rwlock_read", weft_rwlock_read(&rwlock));
    FORBIDDEN("weft_rwlock_write", weft_rwlock_write(&rwlock));
    FORBIDDEN("weft_semaphore_acquire", weft_semaphore_acquire(&semaphore));
    FORBIDDEN("weft_notify_wait", weft_notify_wait(&notify));
    FORBIDDEN("weft_once_get_or_init", weft_once_get_or_init(&once, init_nothing, env, &value));
    FORBIDDEN("weft_set_once_wait", weft_set_once_wait(&set_once, &value));
    FORBIDDEN("weft_wait_group_wait", weft_wait_group_wait(&group));
    FORBIDDEN("weft_task_tracker_wait", weft_task_tracker_wait(tracker));
    FORBIDDEN("weft_cancel_token_wait", weft_cancel_token_wait(token));

    /* All is as it was: free, full, remembered, not made. */
    CHECK_EQ(weft_mutex_try_lock(&mutex), 0);
    CHECK_EQ(weft_rwlock_try_write(&rwlock), 0);
    CHECK_EQ(weft_semaphore_available(&semaphore), 1);
    CHECK_EQ(weft_notify_try_wait(&notify), 0);
    CHECK_EQ(weft_once_try_get(&once, &value), -EAGAIN);
    CHECK(value == NULL);
    CHECK_EQ(weft_barrier_try_wait(&barrier), 1); /* the one that it is for */
    weft_task_tracker_unref(tracker);
    weft_cancel_token_unref(token);
}

static void channels(struct test_env *env)
{
    (void)env;
    int v = 1;
    uint64_t lost;
    weft_mpsc_sender *mtx;
    weft_mpsc_receiver *mrx;
    weft_mpsc_permit permit = {0};
    CHECK_EQ(weft_mpsc_create(sizeof(int), 1, NULL, &mtx, &mrx), 0);
    FORBIDDEN("weft_mpsc_send", weft_mpsc_send(mtx, &v));
    FORBIDDEN("weft_mpsc_reserve", weft_mpsc_reserve(mtx, &permit));
    FORBIDDEN("weft_mpsc_reserve_many", weft_mpsc_reserve_many(mtx, 1, &permit));
    FORBIDDEN("weft_mpsc_recv", weft_mpsc_recv(mrx, &v));
    FORBIDDEN("weft_mpsc_recv_many", weft_mpsc_recv_many(mrx, &v, 1));
    FORBIDDEN("weft_mpsc_sender_closed", weft_mpsc_sender_closed(mtx));
    CHECK(weft_mpsc_receiver_is_empty(mrx));
    CHECK_EQ(weft_mpsc_sender_capacity(mtx), 1);
    weft_mpsc_sender_unref(mtx);
    weft_mpsc_receiver_unref(mrx);

    weft_oneshot_sender *otx;
    weft_oneshot_receiver *orx;
    CHECK_EQ(weft_oneshot_create(sizeof(int), NULL, &otx, &orx), 0);
    FORBIDDEN("weft_oneshot_recv", weft_oneshot_recv(orx, &v));
    FORBIDDEN("weft_oneshot_sender_closed", weft_oneshot_sender_closed(otx));
    CHECK_EQ(weft_oneshot_send(otx, &v), 0);
    weft_oneshot_receiver_destroy(orx);

    weft_queue_options qo = {.capacity = 1, .elem_bytes = sizeof(int)};
    weft_queue *q;
    CHECK_EQ(weft_queue_create(&qo, &q), 0);
    FORBIDDEN("weft_queue_send", weft_queue_send(q, &v));
    FORBIDDEN("weft_queue_recv", weft_queue_recv(q, &v));
    CHECK_EQ(weft_queue_len(q), 0);
    weft_queue_unref(q);

    weft_broadcast_options bo = {.capacity = 2, .elem_bytes = sizeof(int)};
    weft_broadcast_sender *btx;
    weft_broadcast_receiver *brx;
    CHECK_EQ(weft_broadcast_create(&bo, &btx, &brx), 0);
    FORBIDDEN("weft_broadcast_recv", weft_broadcast_recv(brx, &v, &lost));
    FORBIDDEN("weft_broadcast_closed", weft_broadcast_closed(btx));
    weft_broadcast_receiver_destroy(brx);
    weft_broadcast_sender_unref(btx);

    weft_watch_options wo = {.elem_bytes = sizeof(int)};
    weft_watch_sender *wtx;
    weft_watch_receiver *wrx;
    CHECK_EQ(weft_watch_create(&wo, &v, &wtx, &wrx), 0);
    weft_watch_mark_changed(wrx);
    FORBIDDEN("weft_watch_changed", weft_watch_changed(wrx));
    FORBIDDEN("weft_watch_wait_for",
              weft_watch_wait_for(wrx, (weft_watch_pred)(uintptr_t)1, NULL, NULL));
    FORBIDDEN("weft_watch_closed", weft_watch_closed(wtx));
    CHECK_EQ(weft_watch_has_changed(wrx), 1);
    weft_watch_receiver_destroy(wrx);
    weft_watch_sender_unref(wtx);
}

static int call_nothing(void *arg, size_t index)
{
    (void)index;
    ++*(int *)arg;
    return 0;
}

static void sets_and_selects(struct test_env *env)
{
    (void)env;
    int key = 1, calls = 0;
    weft_outcome o;
    weft_join_set *set;
    weft_join_map *map;
    weft_join_queue *queue;
    weft_join_map_options mo = {.key_bytes = sizeof(key)};
    weft_case cases[1] = {weft_case_sleep(0)};
    weft_interval interval;
    CHECK_EQ(weft_join_set_create(&set), 0);
    CHECK_EQ(weft_join_map_create(&mo, &map), 0);
    CHECK_EQ(weft_join_queue_create(&queue), 0);
    FORBIDDEN("weft_join_set_join_next", weft_join_set_join_next(set, &o));
    FORBIDDEN("weft_join_map_join_next", weft_join_map_join_next(map, &key, &o));
    FORBIDDEN("weft_join_queue_join_next", weft_join_queue_join_next(queue, &o));
    FORBIDDEN("weft_join_set_join_all", weft_join_set_join_all(set, NULL, 0));
    FORBIDDEN("weft_join_queue_join_all", weft_join_queue_join_all(queue, NULL, 0));
    FORBIDDEN("weft_join_set_shutdown", weft_join_set_shutdown(set));
    FORBIDDEN("weft_join_map_shutdown", weft_join_map_shutdown(map));
    FORBIDDEN("weft_join_queue_shutdown", weft_join_queue_shutdown(queue));
    FORBIDDEN("weft_select", weft_select(cases, 1));
    FORBIDDEN("weft_await_all", weft_await_all(cases, 1));
    FORBIDDEN("weft_interval_init", weft_interval_init(&interval, 1));
    FORBIDDEN("weft_for_each_concurrent", weft_for_each_concurrent(3, 2, call_nothing, &calls));
    CHECK_EQ(calls, 0);
    weft_join_set_destroy(set);
    weft_join_map_destroy(map);
    weft_join_queue_destroy(queue);
}

static void *spent_task(void)
{
    weft_task *t = SPAWN(test_noop, NULL);
    (void)test_join_value(t);
    return t;
}

static void sets_are_asked_for_the_impossible(struct test_env *env)
{
    (void)env;
    int key = 1, calls = 0;
    weft_join_set *set;
    weft_join_map *map = NULL;
    weft_abort_handle *abort = NULL;
    weft_join_map_options mo = {.key_bytes = SIZE_MAX};
    static const weft_future_ops no_poll = {0};
    weft_future without_ops = {NULL}, without_poll = {&no_poll};
    weft_outcome o[2];
    weft_task *tasks[2] = {NULL, NULL};
    size_t failed;
    REFUSED("weft_join_map_create", weft_join_map_create(&mo, &map));
    REFUSED("weft_join_map_create", weft_join_map_create(NULL, &map));
    EXPECT(map == NULL);
    mo.key_bytes = sizeof(key);
    CHECK_EQ(weft_join_set_create(&set), 0);
    REFUSED("weft_join_set_spawn", weft_join_set_spawn_future(set, NULL, NULL, &abort));
    REFUSED("weft_join_set_spawn", weft_join_set_spawn_future(set, NULL, &without_ops, &abort));
    REFUSED("weft_join_set_spawn", weft_join_set_spawn_future(set, NULL, &without_poll, &abort));
    REFUSED("weft_join_set_spawn", weft_join_set_spawn(set, NULL, NULL, &abort));
    EXPECT(abort == NULL);
    CHECK_EQ(weft_join_set_len(set), 0);
    weft_join_set_destroy(set);

    REFUSED("weft_join_all", weft_join_all(NULL, 2, o));
    REFUSED("weft_join_all", weft_join_all(tasks, 2, o));
    REFUSED("weft_join_all_ok", weft_join_all_ok(tasks, 2, o, &failed));
    REFUSED("weft_race", weft_race(tasks, 2, o));
    REFUSED("weft_race", weft_race(tasks, 0, o));
    tasks[0] = spent_task();
    REFUSED("weft_join_all", weft_join_all(tasks, 1, o));
    REFUSED("weft_for_each_concurrent", weft_for_each_concurrent(3, 1, NULL, NULL));
    CHECK_EQ(weft_for_each_concurrent(0, 1, call_nothing, &calls), 0);
    CHECK_EQ(calls, 0);
    CHECK_EQ(weft_for_each_concurrent(3, 1, call_nothing, &calls), 0);
    CHECK_EQ(calls, 3);
}

static int count_up(void *arg, size_t index)
{
    (void)index;
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED);
    return 0;
}

/* No limit, and one above the count, are the count. */
static void for_each_with_more_than_there_is(struct test_env *env)
{
    (void)env;
    int calls = 0;
    CHECK_EQ(weft_for_each_concurrent(5, 0, count_up, &calls), 0);
    CHECK_EQ(calls, 5);
    CHECK_EQ(weft_for_each_concurrent(5, 99, count_up, &calls), 0);
    CHECK_EQ(calls, 10);
}

/* A result with no place to go to: nothing is made, taken or changed. */
static void results_have_a_place(struct test_env *env)
{
    const weft_join_map_options mo = {.key_bytes = sizeof(int)};
    weft_cancel_token *token;
    REFUSED("weft_join_set_create", weft_join_set_create(NULL));
    REFUSED("weft_join_map_create", weft_join_map_create(&mo, NULL));
    REFUSED("weft_join_queue_create", weft_join_queue_create(NULL));
    REFUSED("weft_task_tracker_create", weft_task_tracker_create(NULL));
    REFUSED("weft_cancel_token_create", weft_cancel_token_create(NULL));
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    REFUSED("weft_cancel_token_child", weft_cancel_token_child(token, NULL));
    weft_cancel_token_unref(token);
    REFUSED("weft_handle_current", weft_handle_current(NULL));
    REFUSED("weft_handle_try_current", weft_handle_try_current(NULL));
    REFUSED("weft_panic_take_payload", weft_panic_take_payload(NULL, (void **)&env));
    EXPECT_EQ(weft_panic_backtrace(NULL, NULL), 0);
}

static void permits_have_a_place(struct test_env *env)
{
    weft_semaphore s;
    weft_permit p, part;
    (void)env;
    CHECK_EQ(weft_semaphore_init(&s, 3), 0);
    REFUSED("weft_permit_acquire", weft_permit_acquire(&s, 1, NULL));
    REFUSED("weft_permit_try_acquire", weft_permit_try_acquire(&s, 1, NULL));
    REFUSED("weft_permit_blocking_acquire", weft_permit_blocking_acquire(&s, 1, NULL));
    CHECK_EQ(weft_semaphore_available(&s), 3);
    CHECK_EQ(weft_permit_try_acquire(&s, 2, &p), 0);
    REFUSED("weft_permit_split", weft_permit_split(&p, 1, NULL));
    REFUSED("weft_permit_split", weft_permit_split(NULL, 1, &part));
    EXPECT_EQ(p.count, 2);
    weft_permit_release(&p);
    CHECK_EQ(weft_semaphore_available(&s), 3);
}

static int never_called(void *arg, void **ret_value)
{
    (void)ret_value;
    ++*(int *)arg;
    return 0;
}

static void *panic_with_a_payload(void *arg)
{
    weft_panic_payload(arg, NULL);
}

static void payloads_have_a_place(struct test_env *env)
{
    weft_task *t = SPAWN(panic_with_a_payload, env);
    weft_outcome o;
    void *payload;
    CHECK_EQ(weft_join(t, &o), 0);
    REFUSED("weft_panic_take_payload", weft_panic_take_payload(o.panic, NULL));
    EXPECT_EQ(weft_panic_take_payload(o.panic, &payload), 0); /* it was not taken */
    EXPECT(payload == env);
    (void)weft_panic_backtrace(o.panic, NULL);
    weft_panic_free(o.panic);
}

static void values_have_a_place(struct test_env *env)
{
    weft_once once = WEFT_ONCE_INIT;
    weft_set_once cell = WEFT_SET_ONCE_INIT;
    static const weft_task_local key = {.name = "key"};
    void *value;
    int calls = 0;
    REFUSED("weft_once_get_or_init", weft_once_get_or_init(&once, never_called, &calls, NULL));
    REFUSED("weft_once_blocking_get_or_init",
            weft_once_blocking_get_or_init(&once, never_called, &calls, NULL));
    CHECK_EQ(calls, 0);
    CHECK_EQ(weft_once_set(&once, env), 0);
    CHECK_EQ(weft_set_once_set(&cell, env), 0);
    REFUSED("weft_once_try_get", weft_once_try_get(&once, NULL));
    REFUSED("weft_once_take", weft_once_take(&once, NULL));
    REFUSED("weft_set_once_wait", weft_set_once_wait(&cell, NULL));
    REFUSED("weft_set_once_try_wait", weft_set_once_try_wait(&cell, NULL));
    REFUSED("weft_set_once_blocking_wait", weft_set_once_blocking_wait(&cell, NULL));
    REFUSED("weft_set_once_take", weft_set_once_take(&cell, NULL));
    EXPECT(weft_once_take(&once, &value) == 0 && value == env);
    EXPECT(weft_set_once_take(&cell, &value) == 0 && value == env);
    WEFT_TASK_LOCAL(&key, env) {
        REFUSED("weft_task_local_try_get", weft_task_local_try_get(&key, NULL));
        REFUSED("weft_task_local_take", weft_task_local_take(&key, NULL));
        EXPECT(weft_task_local_get(&key) == env);
    }
}

static void delays_have_a_place(struct test_env *env)
{
    weft_delay_queue *q;
    weft_delay_key key;
    (void)env;
    REFUSED("weft_delay_queue_create", weft_delay_queue_create(0, NULL, NULL));
    CHECK_EQ(weft_delay_queue_create(0, NULL, &q), 0);
    CHECK_EQ(weft_delay_queue_insert(q, NULL, WEFT_SEC, &key), 0);
    REFUSED("weft_delay_queue_peek", weft_delay_queue_peek(q, NULL));
    REFUSED("weft_delay_queue_deadline", weft_delay_queue_deadline(q, key, NULL));
    CHECK_EQ(weft_delay_queue_remove(q, key, NULL), 0);
    weft_delay_queue_unref(q);
}

TEST_MAIN(PLAIN(locks_and_events), PLAIN(channels), PLAIN(sets_and_selects),
          IN_TASK_ON(sets_are_asked_for_the_impossible, TEST_CT),
          IN_TASK(for_each_with_more_than_there_is), PLAIN(results_have_a_place),
          PLAIN(permits_have_a_place), IN_TASK_ON(payloads_have_a_place, TEST_CT),
          IN_TASK_ON(values_have_a_place, TEST_CT), IN_TASK_ON(delays_have_a_place, TEST_CT))
