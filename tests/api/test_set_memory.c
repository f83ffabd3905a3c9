/* ctest: parallel not-under=address,thread,memcheck,musl (their malloc is not glibc's) */
/* Sets of tasks and selects: each allocation fails once; none is made in steady state. */
#include "harness.h"
#include "own_malloc.h"

#include <weft/weft.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

/* ---- each allocation fails ---- */

enum { TASKS = 10 };

static atomic_int keys_alive;

static void drop_key(void *key)
{
    (void)key;
    atomic_fetch_sub(&keys_alive, 1);
}

static int fill_set(void)
{
    weft_join_set *set;
    int rc = weft_join_set_create(&set);
    if (rc < 0)
        return rc;
    for (int i = 0; rc == 0 && i < TASKS; i++)
        rc = weft_join_set_spawn(set, test_noop, NULL, NULL);
    weft_join_set_destroy(set);
    return rc;
}

/* Memory for a larger table is wanted, not needed. */
static int fill_map(void)
{
    weft_join_map_options options = {.key_bytes = sizeof(int), .drop_key = drop_key};
    weft_join_map *map;
    int rc = weft_join_map_create(&options, &map);
    if (rc < 0)
        return rc;
    for (int i = 0; rc == 0 && i < TASKS; i++) {
        atomic_fetch_add(&keys_alive, 1);
        rc = weft_join_map_spawn(map, &i, test_noop, NULL, NULL);
        if (rc < 0)
            atomic_fetch_sub(&keys_alive, 1); /* not taken */
        CHECK_EQ(weft_join_map_contains(map, &i), rc == 0);
    }
    weft_join_map_destroy(map);
    CHECK_EQ(atomic_load(&keys_alive), 0);
    return rc;
}

static int fill_queue(void)
{
    weft_join_queue *q;
    int rc = weft_join_queue_create(&q);
    if (rc < 0)
        return rc;
    for (int i = 0; rc == 0 && i < TASKS; i++)
        rc = weft_join_queue_spawn(q, test_noop, NULL, NULL);
    weft_join_queue_destroy(q);
    return rc;
}

static int fill_tracker(void)
{
    weft_spawn_options options = {.name = "needs memory"};
    weft_task_tracker *t;
    int rc = weft_task_tracker_create(&t);
    if (rc < 0)
        return rc;
    for (int i = 0; rc == 0 && i < TASKS; i++)
        rc = weft_task_tracker_spawn_with(t, &options, test_noop, NULL, NULL);
    (void)weft_task_tracker_close(t);
    CHECK_EQ(weft_task_tracker_wait(t),
             0); /* what was spawned has ended, what was not does not count */
    weft_task_tracker_unref(t);
    return rc;
}

/* Until it goes well without a failure. The last call makes no allocation fail. */
static void fail_each(const char *what, int (*fill)(void))
{
    for (int n = 0;; n++) {
        atomic_store(&until_failure, n);
        int rc = fill();
        bool was_reached = atomic_exchange(&until_failure, -1) < 0;
        if (rc != 0 && rc != -ENOMEM)
            test_record(__FILE__, __LINE__, "%s: %d with allocation %d failing", what, rc, n);
        if (!was_reached)
            break;
    }
}

static void fill_all(void)
{
    fail_each("set", fill_set);
    fail_each("map", fill_map);
    fail_each("queue", fill_queue);
    fail_each("tracker", fill_tracker);
}

static void filling_without_memory(struct test_env *env)
{
    (void)env;
    CHECK_EQ(fill_set(), 0); /* what the runtime needs is there */
    expect_nothing_left("filling", fill_all);
}

/* ---- steady state ---- */

/* JS-18, seen from the allocator. */
static void use_set(void *arg)
{
    weft_join_set *set = arg;
    CHECK_EQ(weft_join_set_join_next(set, NULL), 0);
    CHECK_EQ(weft_join_set_spawn(set, test_noop, NULL, NULL), 0);
}

static void use_set_in_batches(void *arg)
{
    weft_join_set *set = arg;
    for (int i = 0; i < 200; i++)
        CHECK_EQ(weft_join_set_spawn(set, test_noop, NULL, NULL), 0);
    for (int i = 0; i < 200; i++)
        CHECK_EQ(weft_join_set_join_next(set, NULL), 0);
}

static void use_map(void *arg)
{
    weft_join_map *map = arg;
    for (int key = 0; key < 10; key++)
        CHECK_EQ(weft_join_map_spawn(map, &key, test_noop, NULL, NULL), 0);
    int key = 3;
    CHECK_EQ(weft_join_map_spawn(map, &key, test_noop, NULL, NULL), 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weft_join_map_join_next(map, NULL, NULL), 0);
}

static void use_queue(void *arg)
{
    weft_join_queue *q = arg;
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weft_join_queue_spawn(q, test_noop, NULL, NULL), 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(weft_join_queue_join_next(q, NULL), 0);
}

static void use_tracker(void *arg)
{
    weft_task_tracker *t = arg;
    for (int i = 0; i < 5; i++)
        CHECK_EQ(weft_task_tracker_spawn(t, test_noop, NULL, NULL), 0);
    CHECK_EQ(weft_task_tracker_wait(t), 0);
}

struct two {
    weft_mpsc_sender *tx[2];
    weft_mpsc_receiver *rx[2];
};

static void *send_one(void *arg)
{
    long v = 1;
    CHECK_EQ(weft_mpsc_send(arg, &v), 0);
    return NULL;
}

static void select_from_two(void *arg)
{
    struct two *two = arg;
    weft_task *t[2];
    long v;
    weft_case c[] = {weft_case_mpsc_recv(two->rx[0], &v), weft_case_mpsc_recv(two->rx[1], &v),
                     weft_case_sleep(20 * WEFT_SEC)};
    for (int i = 0; i < 2; i++)
        t[i] = SPAWN(send_one, two->tx[i]);
    for (int i = 0; i < 2; i++)
        CHECK(weft_select(c, 3) < 2);
    CHECK_EQ(weft_join_all(t, 2, NULL), 0);
}

static void steady_state_calls_no_malloc(struct test_env *env)
{
    (void)env;
    struct two two;
    weft_join_set *set;
    weft_join_map *map;
    weft_join_queue *q;
    weft_task_tracker *t;
    weft_join_map_options options = {.key_bytes = sizeof(int)};
    CHECK_EQ(weft_join_set_create(&set), 0);
    expect_no_malloc("join set in batches", use_set_in_batches, set);
    CHECK_EQ(weft_join_set_spawn(set, test_noop, NULL, NULL), 0);
    expect_no_malloc("join set", use_set, set);
    weft_join_set_destroy(set);
    CHECK_EQ(weft_join_map_create(&options, &map), 0);
    expect_no_malloc("join map", use_map, map);
    weft_join_map_destroy(map);
    CHECK_EQ(weft_join_queue_create(&q), 0);
    expect_no_malloc("join queue", use_queue, q);
    weft_join_queue_destroy(q);
    CHECK_EQ(weft_task_tracker_create(&t), 0);
    (void)weft_task_tracker_close(t);
    expect_no_malloc("task tracker", use_tracker, t);
    weft_task_tracker_unref(t);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(weft_mpsc_create(sizeof(long), 1, NULL, &two.tx[i], &two.rx[i]), 0);
    expect_no_malloc("select", select_from_two, &two);
    for (int i = 0; i < 2; i++) {
        weft_mpsc_sender_unref(two.tx[i]);
        weft_mpsc_receiver_unref(two.rx[i]);
    }
}

TEST_MAIN(IN_TASK(filling_without_memory), IN_TASK(steady_state_calls_no_malloc))
