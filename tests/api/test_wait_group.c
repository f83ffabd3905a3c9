/* ctest: parallel */
/* Wait groups. */
#include "harness.h"

#include <weft/wait_group.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct work {
    weft_wait_group wg;
    atomic_int done, waited;
    int expected;
};

static void *do_one(void *arg)
{
    struct work *w = arg;
    if (atomic_fetch_add(&w->done, 1) % 3 == 0)
        EXPECT_EQ(weft_yield(), 0);
    weft_wait_group_done(&w->wg);
    return NULL;
}

static void *wait_for_all(void *arg)
{
    struct work *w = arg;
    EXPECT_EQ(weft_wait_group_wait(&w->wg), 0);
    EXPECT_EQ(atomic_load(&w->done), w->expected);
    atomic_fetch_add(&w->waited, 1);
    return NULL;
}

static void wait_returns_when_all_are_done(struct test_env *env)
{
    (void)env;
    for (unsigned round = 0; round < test_scaled(20); round++) {
        struct work w = {.wg = WEFT_WAIT_GROUP_INIT, .expected = 50};
        weft_task *t[3];
        CHECK_EQ(weft_wait_group_wait(&w.wg), 0); /* nothing to wait for */
        CHECK_EQ(weft_wait_group_add(&w.wg, 50), 0);
        CHECK_EQ(weft_wait_group_count(&w.wg), 50);
        CHECK_EQ(weft_wait_group_try_wait(&w.wg), -EAGAIN);
        for (int i = 0; i < 3; i++)
            t[i] = SPAWN(wait_for_all, &w);
        CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(atomic_load(&w.waited), 0);
        for (int i = 0; i < 50; i++)
            CHECK_EQ(weft_spawn(do_one, &w, NULL), 0);
        for (int i = 0; i < 3; i++)
            (void)test_join_value(t[i]);
        CHECK_EQ(weft_wait_group_try_wait(&w.wg), 0);
        CHECK_EQ(weft_wait_group_add(&w.wg, 1), 0); /* it can be used again */
        weft_wait_group_done(&w.wg);
        CHECK_EQ(weft_wait_group_wait(&w.wg), 0);
    }
}

static void misuse_is_reported(struct test_env *env)
{
    weft_wait_group wg;
    (void)env;
    memset(&wg, 0xa5, sizeof(wg));
    weft_wait_group_init(&wg);
    weft_wait_group_done(&wg);
    EXPECT_LOGGED("weft_wait_group_done");
    CHECK_EQ(weft_wait_group_add(&wg, SIZE_MAX), -EINVAL);
    EXPECT_LOGGED("weft_wait_group_add");
    CHECK_EQ(weft_wait_group_add(&wg, (size_t)1 << 32), 0);
    CHECK_EQ(weft_wait_group_add(&wg, 1), -EINVAL);
    EXPECT_LOGGED("weft_wait_group_add");
    CHECK_EQ(weft_wait_group_count(&wg), (size_t)1 << 32);
}

static void blocking_wait_is_misuse_in_a_task(struct test_env *env)
{
    weft_wait_group wg = WEFT_WAIT_GROUP_INIT;
    (void)env;
    CHECK_EQ(weft_wait_group_blocking_wait(&wg), -EPERM);
    EXPECT_LOGGED("weft_wait_group_blocking_wait");
}

static void *wait_until_aborted(void *arg)
{
    weft_wait_group_wait_future f;
    weft_wait_group_wait_future_init(&f, arg);
    EXPECT_EQ(weft_await(&f.future), -ECANCELED);
    return NULL;
}

static void waiter_that_gives_up_leaves(struct test_env *env)
{
    weft_wait_group wg = WEFT_WAIT_GROUP_INIT;
    int rc = 0;
    (void)env;
    CHECK_EQ(weft_wait_group_add(&wg, 1), 0);
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_wait_group_wait(&wg);
    CHECK_EQ(rc, -ETIMEDOUT);
    weft_task *t = SPAWN(wait_until_aborted, &wg);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    weft_wait_group_done(&wg);
    CHECK_EQ(weft_wait_group_wait(&wg), 0);
}

static void *done_on_a_thread(void *arg)
{
    weft_wait_group_done(arg);
    return NULL;
}

static void threads_without_a_runtime(struct test_env *env)
{
    (void)env;
    for (unsigned round = 0; round < test_scaled(50); round++) {
        weft_wait_group wg = WEFT_WAIT_GROUP_INIT;
        pthread_t thread[3];
        CHECK_EQ(weft_wait_group_add(&wg, 3), 0);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(pthread_create(&thread[i], NULL, done_on_a_thread, &wg), 0);
        CHECK_EQ(weft_wait_group_blocking_wait(&wg), 0);
        for (int i = 0; i < 3; i++)
            pthread_join(thread[i], NULL);
    }
}

static void *mark_done(void *arg)
{
    weft_wait_group_done(arg);
    return NULL;
}

static void memory_may_be_freed_by_who_waited(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(1000); i++) {
        weft_wait_group *wg = calloc(1, sizeof(*wg)); /* zeroed memory is an empty group */
        CHECK(wg != NULL);
        CHECK_EQ(weft_wait_group_add(wg, 2), 0);
        CHECK_EQ(weft_spawn(mark_done, wg, NULL), 0);
        CHECK_EQ(weft_spawn(mark_done, wg, NULL), 0);
        if (i % 2)
            CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(weft_wait_group_wait(wg), 0);
        free(wg);
    }
}

/* ---- the count is zero only while a task that waits lets others run for its budget ---- */

struct gap {
    weft_wait_group wg;
    atomic_bool is_waiting;
};

static void *pass_through_zero(void *arg)
{
    struct gap *g = arg;
    while (!atomic_load(&g->is_waiting))
        CHECK_EQ(weft_yield(), 0);
    weft_wait_group_done(&g->wg);
    CHECK_EQ(weft_wait_group_add(&g->wg, 1), 0);
    return NULL;
}

static void *wait_with_some_budget(void *arg)
{
    struct gap *g = arg;
    int rc = 0;
    atomic_store(&g->is_waiting, true);
    WEFT_TIMEOUT(20000 * WEFT_MS)
        rc = weft_wait_group_wait(&g->wg);
    CHECK_EQ(rc, 0);
    return NULL;
}

static void zero_during_a_forced_yield_counts(struct test_env *env)
{
    /* On one worker, so the other one runs meanwhile in the round that has no budget left only. */
    for (int spent = 0; spent < 200; spent++) {
        struct gap g = {.wg = WEFT_WAIT_GROUP_INIT};
        CHECK_EQ(weft_wait_group_add(&g.wg, 1), 0);
        weft_task *other = SPAWN(pass_through_zero, &g);
        CHECK_EQ(weft_yield(), 0);
        for (int i = 0; i < spent; i++)
            CHECK_EQ(weft_consume_budget(), 0);
        (void)wait_with_some_budget(&g);
        (void)test_join_value(other);
    }
    (void)env;
}

/* One thread runs both tasks there: else the moment could be over before the call. */
TEST_MAIN(IN_TASK_ON(zero_during_a_forced_yield_counts, TEST_CT),
          IN_TASK(wait_returns_when_all_are_done), PLAIN(misuse_is_reported),
          IN_TASK(blocking_wait_is_misuse_in_a_task), IN_TASK(waiter_that_gives_up_leaves),
          PLAIN(threads_without_a_runtime), IN_TASK(memory_may_be_freed_by_who_waited))
