/* ctest: parallel */
/* The once cell: OC of BEHAVIOURS. */
#include "harness.h"
#include "watched.h"

#include <weft/once.h>
#include <weft/panic.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct scene {
    weft_once cell;
    atomic_int running, runs; /* initialisers now, and in all */
    int how; /* of the first: 0 succeeds, 1 fails, 2 panics, 3 waits to be aborted */
};

static int value_of_all;

/* Says how often it ran, and fails the first time if told so. */
static int make_value(void *arg, void **ret_value)
{
    struct scene *s = arg;
    EXPECT_EQ(atomic_fetch_add(&s->running, 1), 0);
    int run = atomic_fetch_add(&s->runs, 1);
    int rc = weft_yield();
    int how = run == 0 ? s->how : 0;
    if (how == 3)
        rc = weft_sleep(100 * WEFT_SEC); /* an unwinding abort does not return */
    atomic_fetch_sub(&s->running, 1);
    if (how == 1)
        return -EIO;
    if (how == 2)
        weft_panic("no value");
    if (rc < 0)
        return rc;
    *ret_value = &value_of_all;
    return 0;
}

static void *get(void *arg)
{
    struct scene *s = arg;
    void *value = NULL;
    int rc = weft_once_get_or_init(&s->cell, make_value, s, &value);
    EXPECT(rc < 0 || value == &value_of_all);
    return (void *)(intptr_t)rc;
}

/* ---- OC-01 ---- */

static void oc_01_one_initialiser_and_all_see_its_value(struct test_env *env)
{
    (void)env;
    for (unsigned round = 0; round < test_scaled(50); round++) {
        struct scene s = {.cell = WEFT_ONCE_INIT};
        weft_task *t[8];
        void *value;
        CHECK_EQ(weft_once_try_get(&s.cell, &value), -EAGAIN);
        for (int i = 0; i < 8; i++)
            t[i] = SPAWN(get, &s);
        for (int i = 0; i < 8; i++)
            CHECK_EQ((intptr_t)test_join_value(t[i]), 0);
        CHECK_EQ(atomic_load(&s.runs), 1);
        CHECK_EQ((intptr_t)get(&s), 0);
        CHECK_EQ(weft_once_try_get(&s.cell, &value), 0);
        CHECK(value == &value_of_all);
        weft_once_fini(&s.cell, NULL);
    }
}

static void oc_01_set_says_why_not(struct test_env *env)
{
    weft_once o;
    weft_once_turn_future f;
    void *value = NULL;
    int a, b;
    (void)env;
    memset(&o, 0xa5, sizeof(o));
    weft_once_init(&o);
    weft_once_turn_future_init(&f, &o);
    CHECK_EQ(weft_await(&f.future), 1); /* our turn */
    CHECK_EQ(weft_once_set(&o, &a), -EBUSY);
    CHECK_EQ(weft_once_abandon(&o), 0);
    CHECK_EQ(weft_once_set(&o, &a), 0);
    CHECK_EQ(weft_once_set(&o, &b), -EEXIST);
    weft_once_turn_future_init(&f, &o);
    CHECK_EQ(weft_await(&f.future), 0); /* it is there */
    CHECK_EQ(weft_once_try_get(&o, &value), 0);
    CHECK(value == &a);
    CHECK_EQ(weft_once_complete(&o, &b), -EPERM);
    EXPECT_LOGGED("weft_once_complete");
    CHECK_EQ(weft_once_abandon(&o), -EPERM);
    EXPECT_LOGGED("weft_once_abandon");
    CHECK_EQ(weft_once_take(&o, &value), 0);
    CHECK(value == &a);
}

/* ---- OC-02 ---- */

static void next_runs_its_own(int how, enum weft_on_abort on_abort, enum weft_outcome_kind expected)
{
    struct scene s = {.cell = WEFT_ONCE_INIT, .how = how};
    weft_spawn_options o = {.on_abort = on_abort};
    weft_task *first, *others[3];
    CHECK_EQ(weft_spawn_with(&o, get, &s, &first), 0);
    CHECK_SOON(atomic_load(&s.runs) == 1);
    for (int i = 0; i < 3; i++)
        others[i] = SPAWN(get, &s);
    if (how == 3) {
        CHECK_EQ(weft_sleep(WEFT_MS), 0); /* they wait for it */
        CHECK_EQ(atomic_load(&s.runs), 1);
        atomic_store(&s.running, 0); /* an unwound one does not say that it ends */
        CHECK_EQ(weft_abort(first), 0);
    }
    CHECK_EQ(test_join_kind(first), expected);
    for (int i = 0; i < 3; i++)
        CHECK_EQ((intptr_t)test_join_value(others[i]), 0);
    CHECK_EQ(atomic_load(&s.runs), 2);
    weft_once_fini(&s.cell, NULL);
}

static void oc_02_failed_initialiser(struct test_env *env)
{
    (void)env;
    next_runs_its_own(1, WEFT_ON_ABORT_RETURN, WEFT_OUTCOME_VALUE);
}

static void oc_02_panicking_initialiser(struct test_env *env)
{
    (void)env;
    next_runs_its_own(2, WEFT_ON_ABORT_RETURN, WEFT_OUTCOME_PANICKED);
}

static void oc_02_cancelled_initialiser(struct test_env *env)
{
    (void)env;
    next_runs_its_own(3, WEFT_ON_ABORT_UNWIND, WEFT_OUTCOME_CANCELLED);
}

static void oc_02_nobody_else_wanted_it(struct test_env *env)
{
    struct scene s = {.cell = WEFT_ONCE_INIT, .how = 1};
    (void)env;
    CHECK_EQ((intptr_t)get(&s), -EIO);
    CHECK_EQ((intptr_t)get(&s), 0);
    CHECK_EQ(atomic_load(&s.runs), 2);
}

struct taker {
    weft_once_turn_future future;
    struct watched watched;
};

static void *await_turn(void *arg)
{
    return (void *)(intptr_t)weft_await(&((struct taker *)arg)->watched.future);
}

static weft_task *taker_start(struct taker *t, weft_once *o)
{
    weft_once_turn_future_init(&t->future, o);
    watched_init(&t->watched, &t->future.future);
    weft_task *task = SPAWN(await_turn, t);
    CHECK_SOON(watched_waits(&t->watched));
    return task;
}

/* On one thread: the turn is given to a task that is aborted before it runs. */
static void oc_02_turn_of_an_aborted_task_is_passed_on(struct test_env *env)
{
    weft_once o = WEFT_ONCE_INIT;
    struct taker a, b;
    weft_once_turn_future f;
    int value;
    (void)env;
    weft_once_turn_future_init(&f, &o);
    CHECK_EQ(weft_await(&f.future), 1);
    weft_task *first = taker_start(&a, &o), *second = taker_start(&b, &o);
    CHECK_EQ(weft_once_abandon(&o), 0);
    CHECK_EQ(weft_abort(first), 0);
    CHECK_EQ(test_join_kind(first), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ((intptr_t)test_join_value(second), 1);
    first = taker_start(&a, &o);
    CHECK_EQ(weft_once_abandon(&o), 0);
    CHECK_EQ(weft_abort(first), 0);
    CHECK_EQ(test_join_kind(first), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(weft_once_set(&o, &value), 0); /* empty again */
}

/* ---- OC-03 ---- */

static atomic_int dropped;

static void drop(void *value)
{
    EXPECT(value == &value_of_all);
    atomic_fetch_add(&dropped, 1);
}

static void oc_03_destroyed_once_or_taken(struct test_env *env)
{
    weft_once o = WEFT_ONCE_INIT;
    void *value = NULL;
    (void)env;
    atomic_store(&dropped, 0);
    weft_once_fini(&o, drop); /* empty: nothing to drop */
    CHECK_EQ(weft_once_set(&o, &value_of_all), 0);
    weft_once_fini(&o, drop);
    weft_once_fini(&o, drop);
    CHECK_EQ(atomic_load(&dropped), 1);
    CHECK_EQ(weft_once_set(&o, &value_of_all), 0);
    CHECK_EQ(weft_once_take(&o, &value), 0);
    CHECK(value == &value_of_all);
    CHECK_EQ(weft_once_take(&o, &value), -EAGAIN);
    weft_once_fini(&o, drop);
    CHECK_EQ(atomic_load(&dropped), 1);
}

/* ---- threads, timeouts ---- */

static int make_slowly(void *arg, void **ret_value)
{
    struct scene *s = arg;
    EXPECT_EQ(atomic_fetch_add(&s->running, 1), 0);
    atomic_fetch_add(&s->runs, 1);
    struct timespec ms = {.tv_nsec = 1000000};
    (void)nanosleep(&ms, NULL);
    atomic_fetch_sub(&s->running, 1);
    *ret_value = &value_of_all;
    return s->how ? -EIO : 0;
}

static void *get_on_a_thread(void *arg)
{
    struct scene *s = arg;
    void *value = NULL;
    EXPECT_EQ(weft_once_blocking_get_or_init(&s->cell, make_slowly, s, &value), s->how ? -EIO : 0);
    EXPECT(s->how || value == &value_of_all);
    return NULL;
}

static void blocking_form_on_threads(struct test_env *env)
{
    (void)env;
    for (int how = 0; how < 2; how++) {
        struct scene s = {.cell = WEFT_ONCE_INIT, .how = how};
        pthread_t thread[4];
        for (int i = 0; i < 4; i++)
            CHECK_EQ(pthread_create(&thread[i], NULL, get_on_a_thread, &s), 0);
        for (int i = 0; i < 4; i++)
            pthread_join(thread[i], NULL);
        CHECK_EQ(atomic_load(&s.runs), how ? 4 : 1);
    }
}

static void blocking_form_is_misuse_in_a_task(struct test_env *env)
{
    struct scene s = {.cell = WEFT_ONCE_INIT};
    void *value = NULL;
    (void)env;
    CHECK_EQ(weft_once_set(&s.cell, &value_of_all), 0);
    CHECK_EQ(weft_once_blocking_get_or_init(&s.cell, make_slowly, &s, &value), -EPERM);
    EXPECT_LOGGED("weft_once_blocking_get_or_init");
    CHECK(value == NULL);
}

static void timed_out_waiter_leaves(struct test_env *env)
{
    struct scene s = {.cell = WEFT_ONCE_INIT};
    weft_once_turn_future f;
    void *value = NULL;
    int rc = 0;
    (void)env;
    weft_once_turn_future_init(&f, &s.cell);
    CHECK_EQ(weft_await(&f.future), 1);
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_once_get_or_init(&s.cell, make_value, &s, &value);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(weft_once_complete(&s.cell, &value_of_all), 0);
    CHECK_EQ(weft_once_get_or_init(&s.cell, make_value, &s, &value), 0);
    CHECK_EQ(atomic_load(&s.runs), 0);
}

TEST_MAIN(IN_TASK(oc_01_one_initialiser_and_all_see_its_value), IN_TASK(oc_01_set_says_why_not),
          IN_TASK(oc_02_failed_initialiser), IN_TASK(oc_02_panicking_initialiser),
          IN_TASK(oc_02_cancelled_initialiser), IN_TASK(oc_02_nobody_else_wanted_it),
          IN_TASK_ON(oc_02_turn_of_an_aborted_task_is_passed_on, TEST_CT),
          PLAIN(oc_03_destroyed_once_or_taken), PLAIN(blocking_form_on_threads),
          IN_TASK(blocking_form_is_misuse_in_a_task), IN_TASK(timed_out_waiter_leaves))
