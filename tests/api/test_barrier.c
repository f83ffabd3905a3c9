/* ctest: parallel */
/* The barrier: BA of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"
#include "watched.h"

#include <weft/barrier.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define N 5

struct rounds {
    weft_barrier barrier;
    unsigned count;
    atomic_int arrived; /* in all rounds */
    atomic_int leaders;
};

static void one_round(struct rounds *r, unsigned round, int (*wait)(weft_barrier *))
{
    atomic_fetch_add(&r->arrived, 1);
    int rc = wait(&r->barrier);
    EXPECT(rc == 0 || rc == 1);
    atomic_fetch_add(&r->leaders, rc);
    /* Nobody goes on before all have come, and nobody is a round ahead by more than its arrival. */
    EXPECT(atomic_load(&r->arrived) >= (int)((round + 1) * N));
    EXPECT(atomic_load(&r->arrived) < (int)((round + 2) * N));
}

static void *run_rounds(void *arg)
{
    struct rounds *r = arg;
    for (unsigned i = 0; i < r->count; i++)
        one_round(r, i, weft_barrier_wait);
    return NULL;
}

static void *run_rounds_on_a_thread(void *arg)
{
    struct rounds *r = arg;
    for (unsigned i = 0; i < r->count; i++)
        one_round(r, i, weft_barrier_blocking_wait);
    return NULL;
}

static void ba_01_all_go_on_together_with_one_leader(struct test_env *env)
{
    struct rounds r = {.barrier = WEFT_BARRIER_INIT(N), .count = test_scaled(200)};
    weft_task *t[N];
    (void)env;
    for (int i = 0; i < N; i++)
        t[i] = SPAWN(run_rounds, &r);
    for (int i = 0; i < N; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(atomic_load(&r.leaders), r.count);
}

static void ba_01_threads_and_tasks(struct test_env *env)
{
    struct rounds r = {.barrier = WEFT_BARRIER_INIT(N), .count = test_scaled(50)};
    weft_task *t[N];
    (void)env;
    for (int i = 0; i < 3; i++)
        t[i] = SPAWN(run_rounds, &r);
    for (int i = 3; i < N; i++)
        CHECK_EQ(weft_spawn_blocking(run_rounds_on_a_thread, &r, &t[i]), 0);
    for (int i = 0; i < N; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(atomic_load(&r.leaders), r.count);
}

static void ba_01_none_or_one_never_parks(struct test_env *env)
{
    (void)env;
    for (uint32_t n = 0; n < 2; n++) {
        weft_barrier b;
        memset(&b, 0xa5, sizeof(b));
        weft_barrier_init(&b, n);
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(weft_barrier_wait(&b), 1);
            CHECK_EQ(weft_barrier_try_wait(&b), 1);
        }
    }
}

/* ---- arrivals that are taken back ---- */

struct arrival {
    weft_barrier_wait_future future;
    struct watched watched;
    weft_task *task;
};

static void *arrive(void *arg)
{
    return (void *)(intptr_t)weft_await(&((struct arrival *)arg)->watched.future);
}

static void arrival_start(struct arrival *a, weft_barrier *b)
{
    weft_barrier_wait_future_init(&a->future, b);
    watched_init(&a->watched, &a->future.future);
    a->task = SPAWN(arrive, a);
    CHECK_SOON(watched_waits(&a->watched));
}

static void aborted_arrival_is_taken_back(struct test_env *env)
{
    weft_barrier b = WEFT_BARRIER_INIT(3);
    struct arrival x, y, z;
    int rc = 0;
    (void)env;
    arrival_start(&x, &b);
    arrival_start(&y, &b);
    CHECK_EQ(weft_abort(x.task), 0);
    CHECK_EQ(test_join_kind(x.task), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(weft_barrier_try_wait(&b), -EAGAIN);
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_barrier_wait(&b);
    CHECK_EQ(rc, -ETIMEDOUT);
    arrival_start(&z, &b);
    CHECK_EQ(weft_barrier_try_wait(&b), 1);
    CHECK_EQ((intptr_t)test_join_value(y.task), 0);
    CHECK_EQ((intptr_t)test_join_value(z.task), 0);
}

static void blocking_wait_is_misuse_in_a_task(struct test_env *env)
{
    weft_barrier b = WEFT_BARRIER_INIT(1);
    (void)env;
    CHECK_EQ(weft_barrier_blocking_wait(&b), -EPERM);
    EXPECT_LOGGED("weft_barrier_blocking_wait");
}

TEST_MAIN(IN_TASK(ba_01_all_go_on_together_with_one_leader), IN_TASK(ba_01_threads_and_tasks),
          IN_TASK(ba_01_none_or_one_never_parks), IN_TASK(aborted_arrival_is_taken_back),
          IN_TASK(blocking_wait_is_misuse_in_a_task))
