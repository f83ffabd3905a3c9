/* ctest: parallel */
/* Task-locals: TL of BEHAVIOURS. */
#include "harness.h"

#include <weft/arc.h>
#include <weft/join_map.h>
#include <weft/join_queue.h>
#include <weft/join_set.h>
#include <weft/local.h>
#include <weft/panic.h>
#include <weft/scope.h>
#include <weft/task_local.h>
#include <weft/task_tracker.h>

#include <errno.h>
#include <stdatomic.h>

static const weft_task_local own = {.name = "own"};
static const weft_task_local other = {.name = "other"};
static const weft_task_local shared = {.name = "shared", .inherit = WEFT_INHERIT_SHARE};
static const weft_task_local counted = {
    .name = "counted", .inherit = WEFT_INHERIT_COPY, .copy = weft_arc_ref, .drop = weft_arc_unref};

#define V(n) ((void *)(intptr_t)(n))

static intptr_t value_of(const weft_task_local *key)
{
    void *v;
    return weft_task_local_try_get(key, &v) == 0 ? (intptr_t)v : -1;
}

/* ---- TL-01 ---- */

static int deep(int depth)
{
    if (depth == 0) {
        EXPECT_EQ(weft_sleep(WEFT_MS), 0);
        EXPECT_EQ(value_of(&own), 1);
        return (int)(intptr_t)weft_task_local_get(&own);
    }
    return deep(depth - 1);
}

static void tl_01_seen_in_the_block_and_only_there(struct test_env *env)
{
    (void)env;
    CHECK_EQ(value_of(&own), -1);
    WEFT_TASK_LOCAL(&own, V(1)) {
        for (int i = 0; i < 100; i++) {
            CHECK_EQ(weft_yield(), 0);
            CHECK_EQ(value_of(&own), 1);
        }
        CHECK_EQ(deep(10), 1);
    }
    CHECK_EQ(value_of(&own), -1);
}

static void *look_from_beside(void *arg)
{
    atomic_bool *stop = arg;
    do
        EXPECT_EQ(value_of(&own), -1);
    while (!atomic_load(stop) && weft_yield() == 0);
    return NULL;
}

/* On the threads that it comes to, and not on those that it has left: there run the others. */
static void tl_01_goes_with_its_task_to_other_threads(struct test_env *env)
{
    weft_task *t[4];
    atomic_bool stop = false;
    (void)env;
    for (int i = 0; i < 4; i++)
        t[i] = SPAWN(look_from_beside, &stop);
    WEFT_TASK_LOCAL(&own, V(1))
        for (int i = 0; i < 5; i++) {
            test_move();
            CHECK_EQ(value_of(&own), 1);
        }
    test_move();
    CHECK_EQ(value_of(&own), -1);
    atomic_store(&stop, true);
    for (int i = 0; i < 4; i++)
        (void)test_join_value(t[i]);
}

/* ---- TL-02 ---- */

static void *bind_and_look(void *arg)
{
    WEFT_TASK_LOCAL(&own, arg)
        for (int i = 0; i < 50; i++) {
            EXPECT_EQ(weft_yield(), 0);
            EXPECT_EQ(value_of(&own), (intptr_t)arg);
        }
    EXPECT_EQ(value_of(&own), -1);
    return NULL;
}

static void tl_02_tasks_differ_and_blocks_nest(struct test_env *env)
{
    (void)env;
    weft_task *t[20];
    for (int i = 0; i < 20; i++)
        t[i] = SPAWN(bind_and_look, V(i + 1));
    WEFT_TASK_LOCAL(&own, V(100)) {
        WEFT_TASK_LOCAL(&other, V(7))
            WEFT_TASK_LOCAL(&own, V(101)) {
                CHECK_EQ(value_of(&own), 101);
                CHECK_EQ(value_of(&other), 7);
            }
        CHECK_EQ(value_of(&own), 100);
        CHECK_EQ(value_of(&other), -1);
    }
    for (int i = 0; i < 20; i++)
        (void)test_join_value(t[i]);
}

/* ---- TL-03: inheritance is the key's choice ---- */

static void *look(void *arg)
{
    intptr_t *seen = arg;
    seen[0] = value_of(&own);
    seen[1] = value_of(&shared);
    void *v;
    seen[2] = weft_task_local_try_get(&counted, &v) == 0 ? *(int *)v : -1;
    return NULL;
}

static void *spawn_again(void *arg)
{
    (void)test_join_value(SPAWN(look, arg));
    return NULL;
}

static atomic_int boxes_dropped;

static void box_drop(void *value)
{
    (void)value;
    atomic_fetch_add(&boxes_dropped, 1);
}

static void tl_03_children_inherit_as_the_key_says(struct test_env *env)
{
    (void)env;
    atomic_store(&boxes_dropped, 0);
    int *box = weft_arc_create(sizeof *box, box_drop);
    CHECK(box != NULL);
    *box = 55;
    intptr_t seen[3], again[3], job[3];
    WEFT_TASK_LOCAL(&own, V(1))
        WEFT_TASK_LOCAL(&shared, V(2))
            WEFT_TASK_LOCAL(&counted, box) {
                (void)test_join_value(SPAWN(look, seen));
                (void)test_join_value(SPAWN(spawn_again, again));
                weft_task *t;
                CHECK_EQ(weft_spawn_blocking(look, job, &t), 0);
                (void)test_join_value(t);
            }
    const intptr_t *const all[] = {seen, again, job};
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(all[i][0], -1);
        CHECK_EQ(all[i][1], 2);
        CHECK_EQ(all[i][2], 55);
    }
    CHECK_EQ(weft_arc_count(box), 1); /* every copy was given back */
    weft_arc_unref(box);
    CHECK_EQ(atomic_load(&boxes_dropped), 1);
}

static void tl_03_copies_of_tasks_that_never_ran_are_dropped(struct test_env *env)
{
    int *box = weft_arc_create(sizeof *box, box_drop);
    CHECK(box != NULL);
    WEFT_TASK_LOCAL(&counted, box)
        for (int i = 0; i < 10; i++) {
            weft_task *t = SPAWN_ON(env->handle, test_forever, NULL);
            CHECK_EQ(weft_abort(t), 0);
            weft_task_detach(t);
        }
    test_shutdown(env);
    CHECK_EQ(weft_arc_count(box), 1);
    weft_arc_unref(box);
}

static void *panicking_copy(void *value)
{
    (void)value;
    weft_panic("in a copy");
    return NULL;
}

static void *spawn_with_panicking_copy(void *arg)
{
    static const weft_task_local bad = {.inherit = WEFT_INHERIT_COPY, .copy = panicking_copy};
    WEFT_TASK_LOCAL(&bad, arg)
        (void)SPAWN(test_noop, NULL);
    return NULL;
}

static void tl_03_a_panic_of_a_copy_is_the_spawners(struct test_env *env)
{
    (void)env;
    CHECK_EQ(test_join_kind(SPAWN(spawn_with_panicking_copy, V(1))), WEFT_OUTCOME_PANICKED);
}

struct owners {
    weft_join_set *set;
    weft_join_map *map;
    weft_join_queue *queue;
    weft_task_tracker *tracker;
};

static void *spawn_in_scope(void *arg)
{
    WEFT_SCOPE(s)
        weft_scope_spawn(s, test_noop, arg);
    return NULL;
}

static void *spawn_in_set(void *arg)
{
    struct owners *o = arg;
    return (void *)(intptr_t)weft_join_set_spawn(o->set, test_noop, NULL, NULL);
}

static void *spawn_in_map(void *arg)
{
    struct owners *o = arg;
    int key = 1;
    return (void *)(intptr_t)weft_join_map_spawn(o->map, &key, test_noop, NULL, NULL);
}

static void *spawn_in_queue(void *arg)
{
    struct owners *o = arg;
    return (void *)(intptr_t)weft_join_queue_spawn(o->queue, test_noop, NULL, NULL);
}

static void *spawn_in_tracker(void *arg)
{
    struct owners *o = arg;
    return (void *)(intptr_t)weft_task_tracker_spawn(o->tracker, test_noop, NULL, NULL);
}

static void *spawn_in_tracker_with_handle(void *arg)
{
    struct owners *o = arg;
    weft_abort_handle *h;
    return (void *)(intptr_t)weft_task_tracker_spawn(o->tracker, test_noop, NULL, &h);
}

static void *spawn_job(void *arg)
{
    return (void *)(intptr_t)weft_spawn_blocking(test_noop, arg, NULL);
}

static void destroy_runtime(void *rt)
{
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

static void *block_on_other(void *arg)
{
    static const enum test_flavour flavours[] = {TEST_CT, TEST_MT1};
    weft_runtime *rt = test_runtime_create(flavours[arg != NULL]);
    WEFT_DEFER(destroy_runtime, rt); /* its descriptors are gone then */
    return (void *)(intptr_t)weft_block_on(rt, test_noop, NULL, NULL);
}

static void *block_on_in_place(void *arg)
{
    void *v;
    CHECK_EQ(weft_block_in_place(block_on_other, arg, &v), 0);
    return v;
}

static void *block_on_another_in_place(void *arg)
{
    (void)arg;
    return block_on_in_place(NULL);
}

struct spawner {
    weft_task_fn fn;
    struct owners *owners;
};

static void *call_with_panicking_copy(void *arg)
{
    static const weft_task_local bad = {.inherit = WEFT_INHERIT_COPY, .copy = panicking_copy};
    struct spawner *s = arg;
    WEFT_TASK_LOCAL(&bad, arg)
        (void)s->fn(s->owners);
    return NULL;
}

/* Whatever was to own the child: it counts none that never came to be. */
static void a_panic_of_a_copy_leaves_nothing_half_done(struct test_env *env)
{
    static const weft_task_fn fns[] = {
        spawn_in_scope,
        spawn_in_set,
        spawn_in_map,
        spawn_in_queue,
        spawn_job,
        spawn_in_tracker,
        spawn_in_tracker_with_handle,
        block_on_in_place, /* not on a current_thread runtime */
        block_on_another_in_place,
    };
    const size_t count = sizeof fns / sizeof fns[0] - (env->flavour == TEST_CT ? 2 : 0);
    const weft_join_map_options options = {.key_bytes = sizeof(int)};
    struct owners o;
    CHECK_EQ(weft_join_set_create(&o.set), 0);
    CHECK_EQ(weft_join_map_create(&options, &o.map), 0);
    CHECK_EQ(weft_join_queue_create(&o.queue), 0);
    CHECK_EQ(weft_task_tracker_create(&o.tracker), 0);
    for (size_t i = 0; i < count; i++) {
        struct spawner s = {fns[i], &o};
        CHECK_EQ(test_join_kind(SPAWN(call_with_panicking_copy, &s)), WEFT_OUTCOME_PANICKED);
    }
    EXPECT_EQ(weft_join_set_len(o.set), 0);
    EXPECT_EQ(weft_join_map_len(o.map), 0);
    EXPECT_EQ(weft_join_queue_len(o.queue), 0);
    EXPECT_EQ(weft_task_tracker_len(o.tracker), 0);
    weft_join_set_destroy(o.set);
    weft_join_map_destroy(o.map);
    weft_join_queue_destroy(o.queue);
    weft_task_tracker_unref(o.tracker);
}

static void tl_03_reading_outside_a_block_is_misuse(struct test_env *env)
{
    (void)env;
    void *v = V(9);
    CHECK_EQ(weft_task_local_try_get(&own, &v), -ENOENT);
    CHECK_EQ((intptr_t)v, 9);
    CHECK(weft_task_local_get(&own) == NULL);
    EXPECT_LOGGED("weft_task_local_get");
}

/* ---- TL-04, TL-05 ---- */

static void tl_04_a_value_can_be_taken_out(struct test_env *env)
{
    (void)env;
    WEFT_TASK_LOCAL(&own, V(1))
        WEFT_TASK_LOCAL(&own, V(2)) {
            void *v = NULL;
            CHECK_EQ(weft_task_local_take(&own, &v), 0);
            CHECK_EQ((intptr_t)v, 2);
            CHECK_EQ(value_of(&own), -1); /* not the outer one */
            CHECK_EQ(weft_task_local_take(&own, &v), -ENOENT);
        }
    WEFT_TASK_LOCAL(&own, V(1)) {
        void *v = NULL;
        WEFT_TASK_LOCAL(&own, V(2))
            CHECK_EQ(weft_task_local_take(&own, &v), 0);
        CHECK_EQ(value_of(&own), 1); /* that one was left alone */
    }
}

static void tl_05_blocks_are_left_in_reverse_order(struct test_env *env)
{
    (void)env;
    weft_task_local_binding a, b;
    weft_task_local_enter(&a, &own, V(1));
    weft_task_local_enter(&b, &own, V(2));
    weft_task_local_leave(&a);
    EXPECT_LOGGED("reverse order");
    weft_task_local_leave(&b);
    weft_task_local_leave(&b);
    CHECK_EQ(value_of(&own), -1);
}

/* ---- AB-14 ---- */

static atomic_int seen_in_cleanup;

static void look_in_cleanup(void *arg)
{
    (void)arg;
    atomic_store(&seen_in_cleanup, (int)value_of(&own) + 10 * (int)value_of(&shared));
}

static void *wait_with_cleanup(void *arg)
{
    WEFT_TASK_LOCAL(&own, V(4)) {
        WEFT_DEFER(look_in_cleanup, NULL);
        if (arg)
            (void)weft_sleep(60 * WEFT_SEC);
    }
    return NULL;
}

static void ab_14_readable_in_cleanup(struct test_env *env)
{
    (void)env;
    const weft_spawn_options unwind = {.on_abort = WEFT_ON_ABORT_UNWIND};
    WEFT_TASK_LOCAL(&shared, V(3))
        for (int how = 0; how < 3; how++) {
            atomic_store(&seen_in_cleanup, 0);
            weft_task *t;
            CHECK_EQ(weft_spawn_with(how == 2 ? &unwind : NULL, wait_with_cleanup, V(how), &t), 0);
            CHECK_SOON(test_waits(NULL, t)); /* or has ended, with how == 0 */
            if (how)
                CHECK_EQ(weft_abort(t), 0);
            (void)test_join_kind(t);
            CHECK_EQ(atomic_load(&seen_in_cleanup), 34);
        }
}

/* ---- where else ---- */

static void *look_in_place(void *arg)
{
    return look(arg);
}

static void works_on_threads_and_in_place(struct test_env *env)
{
    intptr_t seen[3];
    WEFT_TASK_LOCAL(&own, V(1)) {
        CHECK_EQ(value_of(&own), 1);
        if (env->flavour == TEST_MT4 || env->flavour == TEST_MT1) {
            CHECK_EQ(weft_block_in_place(look_in_place, seen, NULL), 0);
            CHECK_EQ(seen[0], 1);
        }
    }
}

static void *body_looks(void *arg)
{
    return look(arg);
}

static void block_on_inherits(struct test_env *env)
{
    intptr_t seen[3];
    WEFT_TASK_LOCAL(&own, V(1))
        WEFT_TASK_LOCAL(&shared, V(2))
            (void)test_block_on(env->rt, body_looks, seen);
    CHECK_EQ(seen[0], -1);
    CHECK_EQ(seen[1], 2);
}

static void *look_shared(void *arg)
{
    (void)arg;
    EXPECT_EQ(value_of(&own), -1);
    return weft_task_local_get(&shared);
}

static void *look_in_set(void *arg)
{
    EXPECT_EQ(value_of(&own), 6);
    EXPECT_EQ(value_of(&shared), 7);
    return arg;
}

static void *look_and_spawn_in_set(void *arg)
{
    weft_task *task;
    (void)look_in_set(arg);
    WEFT_TASK_LOCAL(&own, V(8))
        EXPECT_EQ(value_of(&own), 8);
    CHECK_EQ(weft_spawn_local(look_shared, NULL, &task), 0);
    EXPECT_EQ((intptr_t)test_join_value(task), 7);
    return arg;
}

/* Whatever the thread drives a local set as, the blocks around the call are around its body. */
static void the_body_of_a_local_set_is_inside_the_blocks(struct test_env *env)
{
    weft_local_set *set;
    CHECK_EQ(weft_local_set_create(NULL, &set), 0);
    WEFT_TASK_LOCAL(&own, V(6)) {
        WEFT_TASK_LOCAL(&shared, V(7)) {
            CHECK_EQ(weft_local_set_run_until(set, look_and_spawn_in_set, env, NULL), 0);
            EXPECT_EQ(value_of(&own), 6);
        }
    }
    CHECK_EQ(weft_local_set_destroy(set), 0);
}

TEST_MAIN(IN_TASK(tl_01_seen_in_the_block_and_only_there),
          IN_BODY(tl_01_seen_in_the_block_and_only_there),
          IN_TASK_ON(tl_01_goes_with_its_task_to_other_threads, TEST_MT4),
          IN_TASK(tl_02_tasks_differ_and_blocks_nest),
          IN_TASK(tl_03_children_inherit_as_the_key_says),
          ON_MAIN(tl_03_copies_of_tasks_that_never_ran_are_dropped),
          IN_TASK(tl_03_a_panic_of_a_copy_is_the_spawners),
          IN_TASK(a_panic_of_a_copy_leaves_nothing_half_done),
          IN_TASK(tl_03_reading_outside_a_block_is_misuse),
          PLAIN(tl_03_reading_outside_a_block_is_misuse), IN_TASK(tl_04_a_value_can_be_taken_out),
          IN_TASK(tl_05_blocks_are_left_in_reverse_order),
          PLAIN(tl_05_blocks_are_left_in_reverse_order), IN_TASK(ab_14_readable_in_cleanup),
          IN_TASK(works_on_threads_and_in_place), ON_MAIN(block_on_inherits),
          PLAIN(the_body_of_a_local_set_is_inside_the_blocks),
          IN_BODY(the_body_of_a_local_set_is_inside_the_blocks))
