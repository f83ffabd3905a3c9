/* ctest: parallel */
/* Options, arguments, keys and bodies written in place, as compound literals with several members:
 * the commas in them are no commas of the macros. */
#include "harness.h"

#include <weft/weft.h>

#include <stdio.h>
#include <string.h>

struct pair {
    int a, b;
};

static void *sum(void *pair)
{
    const struct pair *p = pair;
    return (void *)(intptr_t)(p->a + p->b);
}

static int store_sum(void *arg)
{
    int *const *p = arg;
    *p[0] = *p[1] + 1;
    return 0;
}

static int ready(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    return 7;
}

static void never_cancelled(weft_future *f)
{
    (void)f;
    EXPECT(false);
}
static const weft_future_ops ready_ops = {ready, never_cancelled, "ready"};

/* The options of every spawn below: more than one member. */
#define OPTIONS .name = "in place", .arg_bytes = sizeof(struct pair)

static intptr_t value_of(weft_task *t)
{
    return (intptr_t)test_join_value(t);
}

static void tasks(struct test_env *env)
{
    (void)env;
    weft_task *t;
    weft_future f = {&ready_ops};
    int rc = weft_spawn(sum, &(struct pair){1, 2}, &t);
    CHECK_EQ(rc, 0);
    CHECK_EQ(value_of(t), 3);
    rc = weft_spawn_with(&(weft_spawn_options){OPTIONS}, sum, &(struct pair){3, 4}, &t);
    CHECK_EQ(rc, 0);
    CHECK_EQ(strcmp(weft_task_name(t), "in place"), 0);
    CHECK_EQ(value_of(t), 7);
    rc = weft_spawn_blocking(sum, &(struct pair){5, 6}, &t);
    CHECK_EQ(rc, 0);
    CHECK_EQ(value_of(t), 11);
    rc = weft_spawn_blocking_with(&(weft_spawn_options){OPTIONS}, sum, &(struct pair){7, 8}, &t);
    CHECK_EQ(rc, 0);
    CHECK_EQ(value_of(t), 15);
    rc = weft_spawn_future(&(weft_spawn_options){.name = "f", .arg_bytes = sizeof f}, &f, &t);
    CHECK_EQ(rc, 0);
    CHECK_EQ(value_of(t), 7);
}

static void *spawn_local_tasks(void *set)
{
    weft_task *t;
    weft_future f = {&ready_ops};
    int rc = weft_spawn_local(sum, &(struct pair){1, 2}, &t);
    CHECK_EQ(rc, 0);
    CHECK_EQ(value_of(t), 3);
    rc = weft_spawn_local_with(&(weft_spawn_options){OPTIONS}, sum, &(struct pair){3, 4}, &t);
    CHECK_EQ(rc, 0);
    CHECK_EQ(value_of(t), 7);
    rc = weft_spawn_local_on(set, sum, &(struct pair){5, 6}, &t);
    CHECK_EQ(rc, 0);
    CHECK_EQ(value_of(t), 11);
    rc = weft_spawn_local_future(&(weft_spawn_options){.name = "f", .arg_bytes = sizeof f}, &f, &t);
    CHECK_EQ(rc, 0);
    CHECK_EQ(value_of(t), 7);
    return NULL;
}

static void local_tasks(struct test_env *env)
{
    (void)env;
    weft_local_set *set;
    CHECK_EQ(weft_local_set_create(NULL, &set), 0);
    CHECK_EQ(weft_local_set_run_until(set, spawn_local_tasks, set, NULL), 0);
    weft_local_set_destroy(set);
}

static void scopes(struct test_env *env)
{
    (void)env;
    int rc = -1, got[2] = {0}, want[2] = {4, 5};
    WEFT_SCOPE_WITH(s, &(weft_scope_options){.at_most = 1, .keeps_going = true}, &rc) {
        weft_scope_go(s, store_sum, &(int *[]){&got[0], &want[0]});
        weft_scope_go_with(s, &(weft_spawn_options){.name = "in place", .pinned = true}, store_sum,
                           &(int *[]){&got[1], &want[1]});
        weft_scope_spawn(s, sum, &(struct pair){1, 2});
        weft_scope_spawn_with(s, &(weft_spawn_options){OPTIONS}, sum, &(struct pair){1, 2});
        weft_scope_spawn_blocking(s, sum, &(struct pair){1, 2});
        CHECK_EQ(weft_scope_wait(s), 0);
    }
    CHECK_EQ(rc, 0);
    CHECK_EQ(got[0], 5);
    CHECK_EQ(got[1], 6);
}

static void task_locals(struct test_env *env)
{
    (void)env;
    static const weft_task_local key = {.name = "pair"};
    WEFT_TASK_LOCAL(&key, &(struct pair){1, 2})
        CHECK_EQ((intptr_t)sum(weft_task_local_get(&key)), 3);
}

static void sets(struct test_env *env)
{
    (void)env;
    weft_join_set *set;
    weft_future f = {&ready_ops};
    CHECK_EQ(weft_join_set_create(&set), 0);
    int rc = weft_join_set_spawn(set, sum, &(struct pair){1, 2}, NULL);
    CHECK_EQ(rc, 0);
    rc = weft_join_set_spawn_with(set, &(weft_spawn_options){OPTIONS}, sum, &(struct pair){1, 2},
                                  NULL);
    CHECK_EQ(rc, 0);
    rc = weft_join_set_spawn_blocking(set, &(weft_spawn_options){OPTIONS}, sum,
                                      &(struct pair){1, 2}, NULL);
    CHECK_EQ(rc, 0);
    rc = weft_join_set_spawn_future(set, &(weft_spawn_options){.name = "f", .arg_bytes = sizeof f},
                                    &f, NULL);
    CHECK_EQ(rc, 0);
    long many = weft_join_set_spawn_all(
        set, NULL, ((weft_body[]){{sum, &(struct pair){1, 2}}, {sum, &(struct pair){3, 4}}}), 2);
    CHECK_EQ(many, 2);
    many = weft_join_set_spawn_all(set, NULL, (weft_body[]){{sum, &(struct pair){1, 2}}}, 1);
    CHECK_EQ(many, 1);
    CHECK_EQ(weft_join_set_join_all(set, NULL, 0), 7);
    weft_join_set_destroy(set);
}

static void maps_queues_and_trackers(struct test_env *env)
{
    (void)env;
    weft_join_map *map;
    weft_join_queue *queue;
    weft_task_tracker *tracker;
    weft_future f = {&ready_ops};
    const weft_join_map_options by_int = {.key_bytes = sizeof(int)};
    CHECK_EQ(weft_join_map_create(&by_int, &map), 0);
    int rc = weft_join_map_spawn(map, &(int){1}, sum, &(struct pair){1, 2}, NULL);
    CHECK_EQ(rc, 0);
    rc = weft_join_map_spawn_with(map, &(int){2}, &(weft_spawn_options){OPTIONS}, sum,
                                  &(struct pair){1, 2}, NULL);
    CHECK_EQ(rc, 0);
    rc = weft_join_map_spawn_blocking(map, &(int){3}, &(weft_spawn_options){OPTIONS}, sum,
                                      &(struct pair){1, 2}, NULL);
    CHECK_EQ(rc, 0);
    rc = weft_join_map_spawn_future(
        map, &(int){4}, &(weft_spawn_options){.name = "f", .arg_bytes = sizeof f}, &f, NULL);
    CHECK_EQ(rc, 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(weft_join_map_join_next(map, NULL, NULL), 0);
    weft_join_map_destroy(map);

    CHECK_EQ(weft_join_queue_create(&queue), 0);
    rc = weft_join_queue_spawn(queue, sum, &(struct pair){1, 2}, NULL);
    CHECK_EQ(rc, 0);
    rc = weft_join_queue_spawn_with(queue, &(weft_spawn_options){OPTIONS}, sum,
                                    &(struct pair){1, 2}, NULL);
    CHECK_EQ(rc, 0);
    rc = weft_join_queue_spawn_blocking(queue, &(weft_spawn_options){OPTIONS}, sum,
                                        &(struct pair){1, 2}, NULL);
    CHECK_EQ(rc, 0);
    rc = weft_join_queue_spawn_future(
        queue, &(weft_spawn_options){.name = "f", .arg_bytes = sizeof f}, &f, NULL);
    CHECK_EQ(rc, 0);
    CHECK_EQ(weft_join_queue_join_all(queue, NULL, 0), 4);
    weft_join_queue_destroy(queue);

    CHECK_EQ(weft_task_tracker_create(&tracker), 0);
    rc = weft_task_tracker_spawn(tracker, sum, &(struct pair){1, 2}, NULL);
    CHECK_EQ(rc, 0);
    rc = weft_task_tracker_spawn_with(tracker, &(weft_spawn_options){OPTIONS}, sum,
                                      &(struct pair){1, 2}, NULL);
    CHECK_EQ(rc, 0);
    rc = weft_task_tracker_spawn_blocking(tracker, &(weft_spawn_options){OPTIONS}, sum,
                                          &(struct pair){1, 2}, NULL);
    CHECK_EQ(rc, 0);
    rc = weft_task_tracker_spawn_future(
        tracker, &(weft_spawn_options){.name = "f", .arg_bytes = sizeof f}, &f, NULL);
    CHECK_EQ(rc, 0);
    (void)weft_task_tracker_close(tracker);
    CHECK_EQ(weft_task_tracker_wait(tracker), 0);
    weft_task_tracker_unref(tracker);
}

TEST_MAIN(IN_TASK(tasks), IN_TASK_ON(local_tasks, TEST_CT), IN_TASK(scopes), IN_TASK(task_locals),
          IN_TASK(sets), IN_TASK(maps_queues_and_trackers))
