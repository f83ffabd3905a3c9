/* ctest: parallel */
/* The semaphore and its permits: SE of BEHAVIOURS, and AB-15 for it. */
#include "harness.h"
#include "sync.h"
#include "watched.h"

#include <weft/semaphore.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- tasks that acquire and stay ---- */

struct acquirer {
    weft_semaphore *semaphore;
    size_t n;
    weft_semaphore_acquire_future future;
    struct watched watched;
    atomic_bool has_it;
    weft_task *task;
};

static void *acquire_and_end(void *arg)
{
    struct acquirer *a = arg;
    int rc = weft_await(&a->watched.future);
    atomic_store(&a->has_it, rc == 0);
    return (void *)(intptr_t)rc;
}

/* Starts a task, and returns when it stands in the queue. */
static void acquirer_start(struct acquirer *a, weft_semaphore *s, size_t n)
{
    memset(a, 0, sizeof(*a));
    a->semaphore = s;
    a->n = n;
    weft_semaphore_acquire_future_init(&a->future, s, n);
    watched_init(&a->watched, &a->future.future);
    a->task = SPAWN(acquire_and_end, a);
    CHECK_SOON(watched_waits(&a->watched));
}

static int acquirer_result(struct acquirer *a)
{
    return (int)(intptr_t)test_join_value(a->task);
}

/* Lets others run: whoever could have been woken by mistake has the time to be. */
static void let_others_run(void)
{
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
}

/* ---- SE-01 ---- */

static void se_01_release_wakes_in_order(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(0);
    struct acquirer a[4];
    (void)env;
    for (int i = 0; i < 4; i++)
        acquirer_start(&a[i], &s, 1);
    for (int i = 0; i < 4; i++) {
        let_others_run();
        CHECK(!atomic_load(&a[i].has_it));
        weft_semaphore_release(&s, 1);
        CHECK_EQ(acquirer_result(&a[i]), 0);
        for (int k = i + 1; k < 4; k++)
            CHECK(!atomic_load(&a[k].has_it));
    }
    CHECK_EQ(weft_semaphore_available(&s), 0);
}

static void se_01_many_wait_for_all_and_block_smaller_ones(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(2);
    struct acquirer many, one;
    (void)env;
    acquirer_start(&many, &s, 5);
    acquirer_start(&one, &s, 1); /* two are there, but it came later */
    CHECK_EQ(weft_semaphore_try_acquire(&s), -EAGAIN);
    CHECK_EQ(weft_semaphore_available(&s), 2);
    weft_semaphore_release(&s, 2);
    let_others_run();
    CHECK(!atomic_load(&many.has_it));
    CHECK(!atomic_load(&one.has_it));
    weft_semaphore_release(&s, 3);
    CHECK_EQ(acquirer_result(&many), 0);
    CHECK_EQ(acquirer_result(&one), 0);
    CHECK_EQ(weft_semaphore_available(&s), 1);
    CHECK_EQ(weft_semaphore_acquire_many(&s, 0), 0);
    CHECK_EQ(weft_semaphore_acquire(&s), 0);
    CHECK_EQ(weft_semaphore_acquire_many(&s, 0), 0);
}

/* Asks whether it is closed, and no more: so neither waits nor fails because others do. */
static void se_01_none_is_had_at_once(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(0);
    struct acquirer a;
    weft_semaphore_acquire_future f;
    weft_permit p;
    (void)env;
    acquirer_start(&a, &s, 1);
    CHECK_EQ(weft_semaphore_try_acquire_many(&s, 0), 0);
    weft_semaphore_acquire_future_init(&f, &s, 0);
    WEFT_TIMEOUT(20 * WEFT_SEC) {
        CHECK_EQ(weft_semaphore_acquire_many(&s, 0), 0);
        CHECK_EQ(weft_await(&f.future), 0);
        CHECK_EQ(weft_permit_acquire(&s, 0, &p), 0);
    }
    CHECK_EQ(p.count, 0);
    weft_semaphore_release(&s, 1);
    CHECK_EQ(acquirer_result(&a), 0);
    weft_semaphore_close(&s);
    CHECK_EQ(weft_semaphore_try_acquire_many(&s, 0), -EPIPE);
    weft_semaphore_acquire_future_init(&f, &s, 0);
    CHECK_EQ(weft_await(&f.future), -EPIPE);
}

static void se_01_one_release_serves_several(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(0);
    struct acquirer a[3];
    (void)env;
    for (int i = 0; i < 3; i++)
        acquirer_start(&a[i], &s, 2);
    weft_semaphore_release(&s, 5);
    CHECK_EQ(acquirer_result(&a[0]), 0);
    CHECK_EQ(acquirer_result(&a[1]), 0);
    let_others_run();
    CHECK(!atomic_load(&a[2].has_it));
    CHECK_EQ(weft_semaphore_available(&s), 1);
    weft_semaphore_release(&s, 4);
    CHECK_EQ(acquirer_result(&a[2]), 0);
    CHECK_EQ(weft_semaphore_available(&s), 3);
}

/* ---- SE-02 ---- */

static void se_02_more_than_the_maximum_is_misuse(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(7);
    (void)env;
    CHECK_EQ(weft_semaphore_init(&s, WEFT_SEMAPHORE_MAX + 1), -EINVAL);
    EXPECT_LOGGED("weft_semaphore_init");
    CHECK_EQ(weft_semaphore_available(&s), 7);
    CHECK_EQ(weft_semaphore_init(&s, WEFT_SEMAPHORE_MAX), 0);
    CHECK_EQ(weft_semaphore_available(&s), WEFT_SEMAPHORE_MAX);
    CHECK_EQ(weft_semaphore_add_permits(&s, 1), -EINVAL);
    EXPECT_LOGGED("weft_semaphore_add_permits");
    weft_semaphore_release(&s, 1);
    EXPECT_LOGGED("weft_semaphore_release");
    CHECK_EQ(weft_semaphore_available(&s), WEFT_SEMAPHORE_MAX);
    CHECK_EQ(weft_semaphore_acquire_many(&s, WEFT_SEMAPHORE_MAX), 0);
    CHECK_EQ(weft_semaphore_available(&s), 0);
    CHECK_EQ(weft_semaphore_add_permits(&s, WEFT_SEMAPHORE_MAX), 0);
    CHECK_EQ(weft_semaphore_add_permits(&s, SIZE_MAX), -EINVAL);
    EXPECT_LOGGED("weft_semaphore_add_permits");
    CHECK_EQ(weft_semaphore_acquire_many(&s, WEFT_SEMAPHORE_MAX + 1), -EINVAL);
    EXPECT_LOGGED("weft_semaphore_acquire_many");
    CHECK_EQ(weft_semaphore_try_acquire_many(&s, SIZE_MAX), -EINVAL);
    EXPECT_LOGGED("weft_semaphore_try_acquire_many");
    weft_semaphore_acquire_future f;
    weft_semaphore_acquire_future_init(&f, &s, SIZE_MAX);
    EXPECT_LOGGED("weft_semaphore_acquire_future_init");
    CHECK_EQ(weft_await(&f.future), -EINVAL);
}

static void se_02_the_maximum_through_a_waiter(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(0);
    struct acquirer all;
    (void)env;
    acquirer_start(&all, &s, WEFT_SEMAPHORE_MAX);
    weft_semaphore_release(&s, 5);
    weft_semaphore_release(&s, WEFT_SEMAPHORE_MAX - 5);
    CHECK_EQ(acquirer_result(&all), 0);
    CHECK_EQ(weft_semaphore_available(&s), 0);
}

static void se_02_more_than_the_maximum_beside_a_waiter(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(2);
    struct acquirer three;
    (void)env;
    acquirer_start(&three, &s, 3);
    CHECK_EQ(weft_semaphore_add_permits(&s, WEFT_SEMAPHORE_MAX - 1), -EINVAL);
    EXPECT_LOGGED("weft_semaphore_add_permits");
    weft_semaphore_release(&s, WEFT_SEMAPHORE_MAX);
    EXPECT_LOGGED("weft_semaphore_release");
    let_others_run();
    CHECK(!atomic_load(&three.has_it));
    CHECK_EQ(weft_semaphore_available(&s), 2);
    CHECK_EQ(weft_semaphore_add_permits(&s, WEFT_SEMAPHORE_MAX - 2), 0);
    CHECK_EQ(acquirer_result(&three), 0);
    CHECK_EQ(weft_semaphore_available(&s), WEFT_SEMAPHORE_MAX - 3);
}

/* ---- SE-03 ---- */

static void se_03_forgotten_permits_are_gone_for_good(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(10);
    weft_permit p;
    (void)env;
    CHECK_EQ(weft_permit_acquire(&s, 3, &p), 0);
    weft_permit_forget(&p);
    weft_permit_release(&p); /* nothing is left in it */
    CHECK_EQ(weft_semaphore_available(&s), 7);
    CHECK_EQ(weft_semaphore_forget_permits(&s, 5), 5);
    CHECK_EQ(weft_semaphore_available(&s), 2);
    CHECK_EQ(weft_semaphore_forget_permits(&s, 5), 2);
    CHECK_EQ(weft_semaphore_forget_permits(&s, 5), 0);
    CHECK_EQ(weft_semaphore_try_acquire(&s), -EAGAIN);
    CHECK_EQ(weft_semaphore_add_permits(&s, 1), 0);
    CHECK_EQ(weft_semaphore_try_acquire(&s), 0);
}

static void se_03_forget_beside_a_waiter(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(3);
    struct acquirer many;
    (void)env;
    acquirer_start(&many, &s, 4);
    CHECK_EQ(weft_semaphore_forget_permits(&s, 2), 2);
    weft_semaphore_release(&s, 2);
    let_others_run();
    CHECK(!atomic_load(&many.has_it));
    weft_semaphore_release(&s, 1);
    CHECK_EQ(acquirer_result(&many), 0);
    CHECK_EQ(weft_semaphore_available(&s), 0);
}

/* ---- SE-04 ---- */

static void se_04_split_and_merge_keep_totals(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(10), other = WEFT_SEMAPHORE_INIT(5);
    weft_permit p, part = {NULL, 77}, foreign;
    (void)env;
    CHECK_EQ(weft_permit_try_acquire(&s, 8, &p), 0);
    CHECK_EQ(weft_permit_split(&p, 9, &part), -EINVAL);
    CHECK_EQ(part.count, 77); /* written on success only */
    CHECK_EQ(weft_permit_split(&p, 3, &part), 0);
    CHECK_EQ(p.count, 5);
    CHECK_EQ(part.count, 3);
    CHECK_EQ(weft_semaphore_available(&s), 2);
    weft_permit_release(&part);
    CHECK_EQ(weft_semaphore_available(&s), 5);
    CHECK_EQ(weft_permit_try_acquire(&s, 6, &part), -EAGAIN);
    CHECK_EQ(weft_permit_acquire(&s, 1, &part), 0);
    CHECK_EQ(weft_permit_merge(&p, &part), 0);
    CHECK_EQ(p.count, 6);
    CHECK_EQ(part.count, 0);
    CHECK_EQ(weft_permit_merge(&p, &p), 0);
    CHECK_EQ(weft_permit_acquire(&other, 2, &foreign), 0);
    CHECK_EQ(weft_permit_merge(&p, &foreign), -EINVAL);
    EXPECT_LOGGED("weft_permit_merge");
    CHECK_EQ(p.count, 6);
    CHECK_EQ(foreign.count, 2);
    CHECK_EQ(weft_permit_merge(&part, &foreign), 0); /* an empty one takes any */
    weft_permit_release(&part);
    weft_permit_release(&p);
    CHECK_EQ(weft_semaphore_available(&s), 10);
    CHECK_EQ(weft_semaphore_available(&other), 5);
}

static void *release_own_copy(void *arg)
{
    weft_permit *p = arg;
    WEFT_PERMIT_GUARD(p);
    EXPECT_EQ(weft_yield(), 0);
    return NULL;
}

static void se_04_permits_move_into_tasks(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(5);
    static const weft_spawn_options by_value = {.arg_bytes = sizeof(weft_permit)};
    (void)env;
    for (int i = 0; i < 20; i++) {
        weft_permit p;
        CHECK_EQ(weft_permit_acquire(&s, 1, &p), 0);
        CHECK_EQ(weft_spawn_with(&by_value, release_own_copy, &p, NULL), 0);
    }
    CHECK_EQ(weft_semaphore_acquire_many(&s, 5), 0);
}

/* ---- SE-05 ---- */

static void se_05_close_fails_those_who_wait_and_who_come(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(1);
    struct acquirer a[2];
    weft_permit p;
    (void)env;
    acquirer_start(&a[0], &s, 2);
    acquirer_start(&a[1], &s, 1);
    CHECK(!weft_semaphore_is_closed(&s));
    weft_semaphore_close(&s);
    weft_semaphore_close(&s);
    CHECK(weft_semaphore_is_closed(&s));
    CHECK_EQ(acquirer_result(&a[0]), -EPIPE);
    CHECK_EQ(acquirer_result(&a[1]), -EPIPE);
    CHECK_EQ(weft_semaphore_acquire(&s), -EPIPE);
    CHECK_EQ(weft_semaphore_acquire_many(&s, 0), -EPIPE);
    CHECK_EQ(weft_semaphore_try_acquire(&s), -EPIPE);
    CHECK_EQ(weft_permit_acquire(&s, 1, &p), -EPIPE);
    CHECK_EQ(weft_semaphore_available(&s), 1);
    weft_semaphore_release(&s, 3);
    CHECK_EQ(weft_semaphore_add_permits(&s, 1), 0);
    CHECK_EQ(weft_semaphore_available(&s), 5);
    CHECK_EQ(weft_semaphore_forget_permits(&s, 4), 4);
    CHECK_EQ(weft_semaphore_available(&s), 1);
}

/* ---- SE-06 ---- */

static void se_06_blocking_acquire_is_misuse_in_a_task(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(3);
    weft_permit p = {NULL, 0};
    (void)env;
    CHECK_EQ(weft_semaphore_blocking_acquire(&s), -EPERM);
    EXPECT_LOGGED("weft_semaphore_blocking_acquire");
    CHECK_EQ(weft_semaphore_blocking_acquire_many(&s, 2), -EPERM);
    EXPECT_LOGGED("weft_semaphore_blocking_acquire_many");
    CHECK_EQ(weft_permit_blocking_acquire(&s, 1, &p), -EPERM);
    EXPECT_LOGGED("weft_semaphore_blocking_acquire_many");
    CHECK_EQ(weft_semaphore_available(&s), 3);
}

static void *acquire_on_a_thread(void *arg)
{
    weft_permit p;
    EXPECT_EQ(weft_semaphore_blocking_acquire(arg), 0);
    EXPECT_EQ(weft_permit_blocking_acquire(arg, 2, &p), 0);
    weft_permit_release(&p);
    weft_semaphore_release(arg, 1);
    return NULL;
}

static void *wait_for_close(void *arg)
{
    EXPECT_EQ(weft_semaphore_blocking_acquire_many(arg, 1000), -EPIPE);
    return NULL;
}

static void se_06_blocking_acquire_on_threads(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(0);
    pthread_t thread[2];
    (void)env;
    CHECK_EQ(pthread_create(&thread[0], NULL, acquire_on_a_thread, &s), 0);
    CHECK_EQ(pthread_create(&thread[1], NULL, acquire_on_a_thread, &s), 0);
    weft_semaphore_release(&s, 3);
    weft_semaphore_release(&s, 1); /* with three, each may hold one and want two */
    pthread_join(thread[0], NULL);
    pthread_join(thread[1], NULL);
    CHECK_EQ(weft_semaphore_available(&s), 4);
    CHECK_EQ(pthread_create(&thread[0], NULL, wait_for_close, &s), 0);
    weft_semaphore_close(&s);
    pthread_join(thread[0], NULL);
}

static void se_06_blocking_acquire_in_a_blocking_job(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(0);
    weft_task *t;
    (void)env;
    CHECK_EQ(weft_spawn_blocking(acquire_on_a_thread, &s, &t), 0);
    weft_semaphore_release(&s, 3);
    (void)test_join_value(t);
    CHECK_EQ(weft_semaphore_available(&s), 3);
}

/* ---- SE-07 ---- */

#define PERMITS 5

struct crowd {
    weft_semaphore semaphore;
    atomic_int inside, peak;
};

static void *pass_through(void *arg)
{
    struct crowd *c = arg;
    weft_permit p;
    EXPECT_EQ(weft_permit_acquire(&c->semaphore, 1, &p), 0);
    WEFT_PERMIT_GUARD(&p);
    int inside = atomic_fetch_add(&c->inside, 1) + 1;
    EXPECT(inside <= PERMITS);
    if (inside > atomic_load(&c->peak))
        atomic_store(&c->peak, inside);
    EXPECT_EQ(weft_yield(), 0);
    atomic_fetch_sub(&c->inside, 1);
    return NULL;
}

static void se_07_a_thousand_tasks_over_five_permits(struct test_env *env)
{
    struct crowd c = {.semaphore = WEFT_SEMAPHORE_INIT(PERMITS)};
    static weft_task *t[1000];
    unsigned n = test_scaled(1000);
    (void)env;
    for (unsigned i = 0; i < n; i++)
        t[i] = SPAWN(pass_through, &c);
    for (unsigned i = 0; i < n; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(weft_semaphore_available(&c.semaphore), PERMITS);
    if (n > 2 * PERMITS)
        CHECK_EQ(atomic_load(&c.peak), PERMITS);
}

/* ---- AB-15, timeouts ---- */

static void ab_15_aborted_acquirer_lets_smaller_ones_through(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(2);
    struct acquirer many, one;
    (void)env;
    acquirer_start(&many, &s, 5);
    acquirer_start(&one, &s, 1);
    CHECK_EQ(weft_abort(many.task), 0);
    CHECK_EQ(test_join_kind(many.task), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(many.watched.cancels, 1);
    CHECK_EQ(acquirer_result(&one), 0);
    CHECK_EQ(weft_semaphore_available(&s), 1);
}

static void ab_15_permits_assigned_to_an_aborted_task_are_passed_on(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(0);
    struct acquirer first, second;
    acquirer_start(&first, &s, 3);
    acquirer_start(&second, &s, 2);
    weft_semaphore_release(&s, 3);
    CHECK_EQ(weft_abort(first.task), 0); /* with one worker: before it has run */
    enum weft_outcome_kind kind = test_join_kind(first.task);
    if (env->flavour != TEST_MT4)
        CHECK_EQ(kind, WEFT_OUTCOME_CANCELLED);
    if (atomic_load(&first.has_it))
        weft_semaphore_release(&s, 3);
    CHECK_EQ(acquirer_result(&second), 0);
    CHECK_EQ(weft_semaphore_available(&s), 1);
}

static void *acquire_with_short_timeouts(void *arg)
{
    weft_semaphore *s = arg;
    uint64_t rng = test_seed("semaphore") + weft_self_id();
    for (int i = 0; i < 200; i++) {
        size_t n = 1 + test_random(&rng) % 3;
        int rc = 0;
        weft_permit p;
        WEFT_TIMEOUT(test_random(&rng) % 30 * WEFT_US)
            rc = weft_permit_acquire(s, n, &p);
        if (rc == -ECANCELED)
            break;
        if (rc < 0)
            continue;
        WEFT_PERMIT_GUARD(&p);
        if (test_random(&rng) % 4 == 0)
            (void)weft_yield(); /* or aborted */
    }
    return NULL;
}

static void aborts_and_timeouts_lose_no_permit(struct test_env *env)
{
    weft_semaphore s = WEFT_SEMAPHORE_INIT(4);
    (void)env;
    for (unsigned round = 0; round < test_scaled(20); round++) {
        weft_task *t[8];
        for (int i = 0; i < 8; i++)
            t[i] = SPAWN(acquire_with_short_timeouts, &s);
        for (int i = 1; i < 8; i += 2) {
            CHECK_EQ(weft_yield(), 0);
            CHECK_EQ(weft_abort(t[i]), 0);
        }
        for (int i = 0; i < 8; i++)
            (void)test_join_kind(t[i]);
        CHECK_EQ(weft_semaphore_available(&s), 4);
    }
}

/* A child says that it is done through a semaphore in its parent's frame. */
static void *release_one(void *arg)
{
    weft_semaphore_release(arg, 1);
    return NULL;
}

static void *close_it(void *arg)
{
    weft_semaphore_close(arg);
    return NULL;
}

static void memory_may_be_freed_by_who_acquired(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(1000); i++) {
        weft_semaphore *s = calloc(1, sizeof(*s)); /* zeroed memory is one without permits */
        CHECK(s != NULL);
        CHECK_EQ(weft_spawn(i % 2 ? release_one : close_it, s, NULL), 0);
        if (i % 3 == 0)
            CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(weft_semaphore_acquire(s), i % 2 ? 0 : -EPIPE);
        free(s);
    }
}

static void *acquire_and_unmap(void *arg)
{
    EXPECT_EQ(weft_semaphore_blocking_acquire(arg), 0);
    EXPECT_EQ(munmap(arg, sizeof(weft_semaphore)), 0);
    return NULL;
}

/* In a mapping of its own, so that a touch after the end is a fault. */
static void memory_may_go_with_permits_left_over(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(500); i++) {
        weft_semaphore *s =
            mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        pthread_t thread;
        CHECK(s != MAP_FAILED);
        CHECK_EQ(pthread_create(&thread, NULL, acquire_and_unmap, s), 0);
        usleep(i % 4 * 100); /* it waits by then, or not yet */
        weft_semaphore_release(s, 2);
        pthread_join(thread, NULL);
    }
}

TEST_MAIN(IN_TASK(se_01_release_wakes_in_order),
          IN_TASK(se_01_many_wait_for_all_and_block_smaller_ones),
          IN_TASK(se_01_none_is_had_at_once), IN_TASK(se_01_one_release_serves_several),
          IN_TASK(se_02_more_than_the_maximum_is_misuse),
          IN_TASK(se_02_the_maximum_through_a_waiter),
          IN_TASK(se_02_more_than_the_maximum_beside_a_waiter),
          IN_TASK(se_03_forgotten_permits_are_gone_for_good), IN_TASK(se_03_forget_beside_a_waiter),
          IN_TASK(se_04_split_and_merge_keep_totals), IN_TASK(se_04_permits_move_into_tasks),
          IN_TASK(se_05_close_fails_those_who_wait_and_who_come),
          IN_TASK(se_06_blocking_acquire_is_misuse_in_a_task),
          PLAIN(se_06_blocking_acquire_on_threads),
          IN_TASK(se_06_blocking_acquire_in_a_blocking_job),
          IN_TASK(se_07_a_thousand_tasks_over_five_permits),
          IN_TASK(ab_15_aborted_acquirer_lets_smaller_ones_through),
          IN_TASK(ab_15_permits_assigned_to_an_aborted_task_are_passed_on),
          IN_TASK(aborts_and_timeouts_lose_no_permit), IN_TASK(memory_may_be_freed_by_who_acquired),
          PLAIN(memory_may_go_with_permits_left_over))
