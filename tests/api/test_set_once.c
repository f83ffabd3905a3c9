/* ctest: parallel */
/* The set-once cell: SO of BEHAVIOURS. */
#include "harness.h"

#include <weft/set_once.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static int values[4];

struct scene {
    weft_set_once cell;
    atomic_int set, refused, got;
};

static void *set_a_value(void *arg)
{
    struct scene *s = arg;
    int rc = weft_set_once_set(&s->cell, &values[atomic_load(&s->set)]);
    EXPECT(rc == 0 || rc == -EEXIST);
    atomic_fetch_add(rc ? &s->refused : &s->set, 1);
    return NULL;
}

static void *wait_for_value(void *arg)
{
    struct scene *s = arg;
    void *value = NULL;
    EXPECT_EQ(weft_set_once_wait(&s->cell, &value), 0);
    EXPECT(value == &values[0]);
    atomic_fetch_add(&s->got, 1);
    return NULL;
}

static void *wait_on_a_thread(void *arg)
{
    struct scene *s = arg;
    void *value = NULL;
    EXPECT_EQ(weft_set_once_blocking_wait(&s->cell, &value), 0);
    EXPECT(value == &values[0]);
    return NULL;
}

static void so_01_waits_until_set_by_any_thread(struct test_env *env)
{
    (void)env;
    for (unsigned round = 0; round < test_scaled(20); round++) {
        struct scene s = {.cell = WEFT_SET_ONCE_INIT};
        weft_task *t[4];
        pthread_t setter, waiter;
        void *value = NULL;
        CHECK_EQ(weft_set_once_try_wait(&s.cell, &value), -EAGAIN);
        for (int i = 0; i < 4; i++)
            t[i] = SPAWN(wait_for_value, &s);
        CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(pthread_create(&waiter, NULL, wait_on_a_thread, &s), 0);
        CHECK_EQ(pthread_create(&setter, NULL, set_a_value, &s), 0);
        for (int i = 0; i < 4; i++)
            (void)test_join_value(t[i]);
        pthread_join(setter, NULL);
        pthread_join(waiter, NULL);
        CHECK_EQ(atomic_load(&s.got), 4);
        CHECK_EQ(weft_set_once_wait(&s.cell, &value), 0);
        CHECK_EQ(weft_set_once_try_wait(&s.cell, &value), 0);
    }
}

static void so_01_one_of_two_concurrent_sets_fails(struct test_env *env)
{
    (void)env;
    for (unsigned round = 0; round < test_scaled(100); round++) {
        struct scene s = {.cell = WEFT_SET_ONCE_INIT};
        weft_task *a = SPAWN(set_a_value, &s), *b = SPAWN(set_a_value, &s);
        (void)test_join_value(a);
        (void)test_join_value(b);
        CHECK_EQ(atomic_load(&s.set), 1);
        CHECK_EQ(atomic_load(&s.refused), 1);
    }
}

static atomic_int dropped;

static void drop(void *value)
{
    EXPECT(value == &values[1]);
    atomic_fetch_add(&dropped, 1);
}

static void value_is_dropped_once_or_taken(struct test_env *env)
{
    weft_set_once s;
    void *value = NULL;
    (void)env;
    memset(&s, 0xa5, sizeof(s));
    weft_set_once_init(&s);
    weft_set_once_fini(&s, drop);
    CHECK_EQ(weft_set_once_set(&s, &values[1]), 0);
    weft_set_once_fini(&s, drop);
    weft_set_once_fini(&s, drop);
    CHECK_EQ(atomic_load(&dropped), 1);
    CHECK_EQ(weft_set_once_set(&s, &values[1]), 0);
    CHECK_EQ(weft_set_once_take(&s, &value), 0);
    CHECK(value == &values[1]);
    CHECK_EQ(weft_set_once_take(&s, &value), -EAGAIN);
}

static void *wait_until_aborted(void *arg)
{
    weft_set_once_wait_future f;
    weft_set_once_wait_future_init(&f, arg);
    EXPECT_EQ(weft_await(&f.future), -ECANCELED);
    return NULL;
}

static void waiter_that_gives_up_leaves(struct test_env *env)
{
    weft_set_once s = WEFT_SET_ONCE_INIT;
    void *value = NULL;
    int rc = 0;
    (void)env;
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_set_once_wait(&s, &value);
    CHECK_EQ(rc, -ETIMEDOUT);
    weft_task *t = SPAWN(wait_until_aborted, &s);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(weft_set_once_set(&s, values), 0); /* nobody is left to wake */
    CHECK_EQ(weft_set_once_wait(&s, &value), 0);
    CHECK(value == values);
}

static void blocking_wait_is_misuse_in_a_task(struct test_env *env)
{
    weft_set_once s = WEFT_SET_ONCE_INIT;
    void *value = NULL;
    (void)env;
    CHECK_EQ(weft_set_once_set(&s, values), 0);
    CHECK_EQ(weft_set_once_blocking_wait(&s, &value), -EPERM);
    EXPECT_LOGGED("weft_set_once_blocking_wait");
    CHECK(value == NULL);
}

static void *set_it(void *arg)
{
    EXPECT_EQ(weft_set_once_set(arg, values), 0);
    return NULL;
}

static void memory_may_be_freed_by_who_waited(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(1000); i++) {
        weft_set_once *s = calloc(1, sizeof(*s)); /* zeroed memory is an empty cell */
        void *value = NULL;
        CHECK(s != NULL);
        CHECK_EQ(weft_spawn(set_it, s, NULL), 0);
        if (i % 2)
            CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(weft_set_once_wait(s, &value), 0);
        free(s);
    }
}

TEST_MAIN(IN_TASK(so_01_waits_until_set_by_any_thread),
          IN_TASK(so_01_one_of_two_concurrent_sets_fails), PLAIN(value_is_dropped_once_or_taken),
          IN_TASK(waiter_that_gives_up_leaves), IN_TASK(blocking_wait_is_misuse_in_a_task),
          IN_TASK(memory_may_be_freed_by_who_waited))
