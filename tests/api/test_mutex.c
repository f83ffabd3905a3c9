/* ctest: parallel */
/* The mutex: MX of BEHAVIOURS, and AB-15 for it. */
#include "harness.h"
#include "sync.h"
#include "watched.h"

#include <weft/cancel.h>
#include <weft/mutex.h>
#include <weft/panic.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- tasks that lock, and stay until they are let go ---- */

#define LOCKERS 4

struct scene {
    weft_mutex mutex;
    atomic_int inside; /* tasks that hold the mutex */
    atomic_int order[LOCKERS], count;
    struct gate go;
};

struct locker {
    struct scene *scene;
    int number;
    weft_mutex_lock_future future;
    struct watched watched;
    atomic_bool has_it;
    struct gate leave;
    weft_task *task;
};

static void scene_init(struct scene *s)
{
    memset(s, 0, sizeof(*s));
}

static void *lock_and_stay(void *arg)
{
    struct locker *l = arg;
    int rc = weft_await(&l->watched.future);
    if (rc < 0)
        return (void *)(intptr_t)rc;
    EXPECT_EQ(atomic_fetch_add(&l->scene->inside, 1), 0);
    atomic_store(&l->scene->order[atomic_fetch_add(&l->scene->count, 1)], l->number);
    atomic_store(&l->has_it, true);
    (void)gate_wait(&l->leave); /* or aborted */
    atomic_fetch_sub(&l->scene->inside, 1);
    weft_mutex_unlock(&l->scene->mutex);
    return NULL;
}

/* Starts a task, and returns when it stands in the queue. */
static void locker_start(struct locker *l, struct scene *s, int number)
{
    memset(l, 0, sizeof(*l));
    l->scene = s;
    l->number = number;
    gate_init(&l->leave);
    weft_mutex_lock_future_init(&l->future, &s->mutex);
    watched_init(&l->watched, &l->future.future);
    l->task = SPAWN(lock_and_stay, l);
    CHECK_SOON(watched_waits(&l->watched));
}

static void locker_end(struct locker *l)
{
    gate_open(&l->leave);
    (void)test_join_value(l->task);
    gate_fini(&l->leave);
}

/* ---- MX-01 ---- */

static void mx_01_unlock_hands_over_in_order(struct test_env *env)
{
    struct scene s;
    struct locker l[LOCKERS];
    (void)env;
    scene_init(&s);
    CHECK_EQ(weft_mutex_lock(&s.mutex), 0);
    for (int i = 0; i < LOCKERS; i++)
        locker_start(&l[i], &s, i);
    CHECK_EQ(atomic_load(&s.count), 0);
    weft_mutex_unlock(&s.mutex);
    for (int i = 0; i < LOCKERS; i++) {
        CHECK_SOON(atomic_load(&l[i].has_it));
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
        CHECK_EQ(atomic_load(&s.count), i + 1); /* exactly one has been woken to it */
        CHECK_EQ(atomic_load(&s.order[i]), i);
        locker_end(&l[i]);
    }
    CHECK(!weft_mutex_is_locked(&s.mutex));
}

static void mx_01_nobody_passes_a_waiter(struct test_env *env)
{
    struct scene s;
    struct locker first, second;
    (void)env;
    scene_init(&s);
    CHECK_EQ(weft_mutex_lock(&s.mutex), 0);
    locker_start(&first, &s, 0);
    weft_mutex_unlock(&s.mutex);
    /* It is the first one's, whether that has run or not. */
    CHECK_EQ(weft_mutex_try_lock(&s.mutex), -EAGAIN);
    locker_start(&second, &s, 1);
    locker_end(&first);
    locker_end(&second);
    CHECK_EQ(weft_mutex_try_lock(&s.mutex), 0);
    weft_mutex_unlock(&s.mutex);
}

/* ---- MX-02 ---- */

struct holder {
    weft_mutex *mutex;
    atomic_bool has_it;
    int how; /* 0 error return, 1 unwound, 2 panics, 3 times out */
};

static void *hold_with_guard(void *arg)
{
    struct holder *h = arg;
    EXPECT_EQ(weft_mutex_lock(h->mutex), 0);
    WEFT_LOCK_GUARD(h->mutex);
    atomic_store(&h->has_it, true);
    if (h->how == 2)
        weft_panic("inside");
    if (h->how == 3) {
        WEFT_TIMEOUT(WEFT_MS)
            EXPECT_EQ(weft_sleep(100 * WEFT_SEC), -ETIMEDOUT);
        return NULL;
    }
    EXPECT_EQ(weft_sleep(100 * WEFT_SEC), -ECANCELED);
    EXPECT(h->how == 0);
    return NULL;
}

static void holder_that_ends(int how, enum weft_outcome_kind expected)
{
    weft_mutex m = WEFT_MUTEX_INIT;
    struct holder h = {.mutex = &m, .how = how};
    weft_spawn_options o = {.on_abort = how == 1 ? WEFT_ON_ABORT_UNWIND : WEFT_ON_ABORT_RETURN};
    weft_task *t;
    CHECK_EQ(weft_spawn_with(&o, hold_with_guard, &h, &t), 0);
    CHECK_SOON(atomic_load(&h.has_it));
    if (how < 2)
        CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), expected);
    CHECK(!weft_mutex_is_locked(&m));
    CHECK_EQ(weft_mutex_lock(&m), 0);
    weft_mutex_unlock(&m);
}

static void mx_02_holder_that_is_aborted_unlocks(struct test_env *env)
{
    (void)env;
    holder_that_ends(0, WEFT_OUTCOME_CANCELLED);
    holder_that_ends(1, WEFT_OUTCOME_CANCELLED);
    holder_that_ends(3, WEFT_OUTCOME_VALUE);
}

static void mx_02_waiter_that_times_out_leaves(struct test_env *env)
{
    struct scene s;
    struct locker l;
    int rc = 0;
    (void)env;
    scene_init(&s);
    CHECK_EQ(weft_mutex_lock(&s.mutex), 0);
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_mutex_lock(&s.mutex);
    CHECK_EQ(rc, -ETIMEDOUT);
    locker_start(&l, &s, 0); /* stands first now */
    weft_mutex_unlock(&s.mutex);
    locker_end(&l);
    CHECK_EQ(atomic_load(&s.count), 1);
    CHECK(!weft_mutex_is_locked(&s.mutex));
}

static void mx_02_waiter_in_any_place_may_leave(struct test_env *env)
{
    (void)env;
    for (int leaver = 0; leaver < 3; leaver++) {
        struct scene s;
        struct locker l[3];
        scene_init(&s);
        CHECK_EQ(weft_mutex_lock(&s.mutex), 0);
        for (int i = 0; i < 3; i++)
            locker_start(&l[i], &s, i);
        CHECK_EQ(weft_abort(l[leaver].task), 0);
        CHECK_EQ(test_join_kind(l[leaver].task), WEFT_OUTCOME_CANCELLED);
        CHECK_EQ(l[leaver].watched.cancels, 1);
        gate_fini(&l[leaver].leave);
        weft_mutex_unlock(&s.mutex);
        for (int i = 0; i < 3; i++)
            if (i != leaver)
                locker_end(&l[i]);
        CHECK_EQ(atomic_load(&s.count), 2);
        CHECK(!weft_mutex_is_locked(&s.mutex));
    }
}

/* On one thread the waiter cannot run between the hand-over and the abort. */
static void ab_15_mutex_handed_to_an_aborted_task_is_passed_on(struct test_env *env)
{
    for (int with_second = 0; with_second < 2; with_second++) {
        struct scene s;
        struct locker first, second;
        scene_init(&s);
        CHECK_EQ(weft_mutex_lock(&s.mutex), 0);
        locker_start(&first, &s, 0);
        if (with_second)
            locker_start(&second, &s, 1);
        weft_mutex_unlock(&s.mutex);
        CHECK_EQ(weft_abort(first.task), 0);
        CHECK_EQ(test_join_kind(first.task), WEFT_OUTCOME_CANCELLED);
        gate_fini(&first.leave);
        if (env->flavour != TEST_MT4)
            CHECK(!atomic_load(&first.has_it));
        if (with_second) {
            CHECK_SOON(atomic_load(&second.has_it));
            locker_end(&second);
        }
        CHECK(!weft_mutex_is_locked(&s.mutex));
    }
}

/* ---- MX-03 ---- */

static void mx_03_try_lock_fails_when_held(struct test_env *env)
{
    weft_mutex m;
    (void)env;
    memset(&m, 0xa5, sizeof(m));
    weft_mutex_init(&m);
    CHECK_EQ(weft_mutex_try_lock(&m), 0);
    CHECK(weft_mutex_is_locked(&m));
    CHECK_EQ(weft_mutex_try_lock(&m), -EAGAIN);
    weft_mutex_unlock(&m);
    CHECK_EQ(weft_mutex_try_lock(&m), 0);
    weft_mutex_unlock(&m);
    weft_mutex_unlock(&m);
    EXPECT_LOGGED("weft_mutex_unlock");
    CHECK_EQ(weft_mutex_try_lock(&m), 0); /* and nothing has happened to it */
    weft_mutex_unlock(&m);
}

static void *unlock_for_another(void *arg)
{
    EXPECT_EQ(weft_yield(), 0);
    weft_mutex_unlock(arg);
    return NULL;
}

static void *lock_and_end(void *arg)
{
    EXPECT_EQ(weft_mutex_lock(arg), 0);
    return arg;
}

static void mx_03_lock_outlives_the_task_that_took_it(struct test_env *env)
{
    weft_mutex m = WEFT_MUTEX_INIT;
    (void)env;
    weft_task *t = SPAWN(lock_and_end, &m);
    (void)test_join_value(t);
    CHECK_EQ(weft_mutex_try_lock(&m), -EAGAIN);
    t = SPAWN(unlock_for_another, &m);
    CHECK_EQ(weft_mutex_lock(&m), 0);
    (void)test_join_value(t);
    weft_mutex_unlock(&m);
}

static void mx_03_panic_unlocks_and_does_not_poison(struct test_env *env)
{
    (void)env;
    holder_that_ends(2, WEFT_OUTCOME_PANICKED);
}

/* ---- MX-04 ---- */

#define ADDERS 8

struct sum {
    weft_mutex mutex;
    long value;
    bool yields;
    unsigned rounds;
};

static void *add_often(void *arg)
{
    struct sum *s = arg;
    for (unsigned i = 0; i < s->rounds; i++) {
        EXPECT_EQ(weft_mutex_lock(&s->mutex), 0);
        WEFT_LOCK_GUARD(&s->mutex);
        long value = s->value;
        if (s->yields)
            EXPECT_EQ(weft_yield(), 0);
        s->value = value + 1;
    }
    return NULL;
}

static void add_in_tasks(bool yields)
{
    struct sum s = {.mutex = WEFT_MUTEX_INIT, .yields = yields, .rounds = test_scaled(2000)};
    weft_task *t[ADDERS];
    for (int i = 0; i < ADDERS; i++)
        t[i] = SPAWN(add_often, &s);
    for (int i = 0; i < ADDERS; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(s.value, (long)s.rounds * ADDERS);
    CHECK(!weft_mutex_is_locked(&s.mutex));
}

static void mx_04_held_across_waits(struct test_env *env)
{
    (void)env;
    add_in_tasks(true);
    add_in_tasks(false);
}

static void mx_04_released_on_another_worker(struct test_env *env)
{
    (void)env;
    struct scene s;
    struct locker l;
    scene_init(&s);
    for (int i = 0; i < 5; i++) {
        atomic_store(&s.count, 0);
        CHECK_EQ(weft_mutex_lock(&s.mutex), 0);
        locker_start(&l, &s, 0);
        test_move();
        CHECK(!atomic_load(&l.has_it));
        CHECK_EQ(weft_mutex_try_lock(&s.mutex), -EAGAIN);
        weft_mutex_unlock(&s.mutex);
        CHECK_SOON(atomic_load(&l.has_it));
        locker_end(&l);
        CHECK(!weft_mutex_is_locked(&s.mutex));
    }
}

/* ---- MX-05 ---- */

static void mx_05_blocking_lock_is_misuse_in_a_task(struct test_env *env)
{
    weft_mutex m = WEFT_MUTEX_INIT;
    (void)env;
    CHECK_EQ(weft_mutex_blocking_lock(&m), -EPERM);
    EXPECT_LOGGED("weft_mutex_blocking_lock");
    CHECK(!weft_mutex_is_locked(&m));
}

static void *add_on_a_thread(void *arg)
{
    struct sum *s = arg;
    for (unsigned i = 0; i < s->rounds; i++) {
        EXPECT_EQ(weft_mutex_blocking_lock(&s->mutex), 0);
        s->value++;
        weft_mutex_unlock(&s->mutex);
    }
    return NULL;
}

static void blocking_lock_on_threads_without_a_runtime(struct test_env *env)
{
    struct sum s = {.mutex = WEFT_MUTEX_INIT, .rounds = test_scaled(2000)};
    pthread_t thread[4];
    (void)env;
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, add_on_a_thread, &s), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(s.value, 4L * s.rounds);
}

static void *wait_for_thread(void *arg)
{
    pthread_join(*(pthread_t *)arg, NULL);
    return NULL;
}

static void blocking_lock_beside_tasks(struct test_env *env)
{
    struct sum s = {.mutex = WEFT_MUTEX_INIT, .yields = true, .rounds = test_scaled(500)};
    pthread_t thread[2];
    weft_task *t[5];
    (void)env;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, add_on_a_thread, &s), 0);
    for (int i = 0; i < 3; i++)
        t[i] = SPAWN(add_often, &s);
    CHECK_EQ(weft_spawn_blocking(add_on_a_thread, &s, &t[3]), 0);
    for (int i = 0; i < 4; i++)
        (void)test_join_value(t[i]);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weft_spawn_blocking(wait_for_thread, &thread[i], &t[4]), 0);
        (void)test_join_value(t[4]);
    }
    CHECK_EQ(s.value, 6L * s.rounds);
}

struct under_token {
    weft_mutex *m;
    weft_cancel_token *token;
    atomic_int has_begun;
    int rc;
};

static void *lock_under_a_token(void *arg)
{
    struct under_token *u = arg;
    WEFT_CANCEL_SCOPE(u->token) {
        atomic_store(&u->has_begun, 1);
        u->rc = weft_mutex_blocking_lock(u->m);
    }
    return NULL;
}

static void a_token_ends_a_blocking_lock(struct test_env *env)
{
    (void)env;
    weft_mutex m = WEFT_MUTEX_INIT;
    struct under_token u = {.m = &m};
    weft_task *t;
    CHECK_EQ(weft_cancel_token_create(&u.token), 0);
    CHECK_EQ(weft_mutex_lock(&m), 0);
    CHECK_EQ(weft_spawn_blocking(lock_under_a_token, &u, &t), 0);
    CHECK_SOON(atomic_load(&u.has_begun));
    weft_cancel_token_cancel(u.token);
    (void)test_join_value(t);
    CHECK_EQ(u.rc, -ECANCELED);
    weft_mutex_unlock(&m);
    CHECK(!weft_mutex_is_locked(&m));
    weft_cancel_token_unref(u.token);
}

static void lock_outside_a_runtime_is_misuse(struct test_env *env)
{
    weft_mutex m = WEFT_MUTEX_INIT;
    (void)env;
    CHECK_EQ(weft_mutex_lock(&m), -EPERM);
    EXPECT_LOGGED("weft_mutex_lock");
    CHECK_EQ(weft_mutex_try_lock(&m), 0);
    weft_mutex_unlock(&m);
}

/* ---- under everything at once ---- */

struct chaos {
    weft_mutex mutex;
    uint64_t seed;
    atomic_int inside;
    atomic_long locked;
    unsigned rounds;
};

static void *lock_with_short_timeouts(void *arg)
{
    struct chaos *c = arg;
    uint64_t rng = c->seed + weft_self_id();
    for (unsigned i = 0; i < c->rounds; i++) {
        int rc = 0;
        WEFT_TIMEOUT(test_random(&rng) % 30 * WEFT_US)
            rc = weft_mutex_lock(&c->mutex);
        if (rc == -ECANCELED)
            break;
        if (rc < 0)
            continue;
        WEFT_LOCK_GUARD(&c->mutex);
        atomic_fetch_add(&c->locked, 1);
        EXPECT_EQ(atomic_fetch_add(&c->inside, 1), 0);
        if (test_random(&rng) % 4 == 0)
            (void)weft_yield(); /* or aborted */
        atomic_fetch_sub(&c->inside, 1);
    }
    return NULL;
}

static void aborts_and_timeouts_leave_the_lock_free(struct test_env *env)
{
    struct chaos c = {.mutex = WEFT_MUTEX_INIT, .rounds = 300};
    (void)env;
    c.seed = test_seed("mutex");
    uint64_t rng = c.seed | 1;
    for (unsigned round = 0; round < test_scaled(20); round++) {
        weft_task *t[ADDERS];
        for (int i = 0; i < ADDERS; i++)
            t[i] = SPAWN(lock_with_short_timeouts, &c);
        for (int i = 0; i < ADDERS; i++) {
            if (test_random(&rng) % 2)
                CHECK_EQ(weft_yield(), 0);
            if (i % 2)
                CHECK_EQ(weft_abort(t[i]), 0);
        }
        for (int i = 0; i < ADDERS; i++)
            (void)test_join_kind(t[i]);
        CHECK(!weft_mutex_is_locked(&c.mutex));
    }
    CHECK(atomic_load(&c.locked) > 0);
}

/* The usual pattern of counted objects: the last to let go frees, having been handed the lock by
 * one that may still be inside the unlock. */
struct counted {
    weft_mutex mutex;
    int refs;
};

static void *drop_reference(void *arg)
{
    struct counted *c = arg;
    EXPECT_EQ(weft_mutex_lock(&c->mutex), 0);
    bool is_last = --c->refs == 0;
    weft_mutex_unlock(&c->mutex);
    if (is_last)
        free(c);
    return NULL;
}

static void memory_may_be_freed_after_the_last_unlock(struct test_env *env)
{
    (void)env;
    for (unsigned round = 0; round < test_scaled(500); round++) {
        struct counted *c = calloc(1, sizeof(*c)); /* zeroed memory is an unlocked mutex */
        weft_task *t[4];
        CHECK(c != NULL);
        c->refs = 4;
        for (int i = 0; i < 4; i++)
            t[i] = SPAWN(drop_reference, c);
        for (int i = 0; i < 4; i++)
            (void)test_join_value(t[i]);
    }
}

TEST_MAIN(IN_TASK(mx_01_unlock_hands_over_in_order), IN_TASK(mx_01_nobody_passes_a_waiter),
          IN_TASK(mx_02_holder_that_is_aborted_unlocks),
          IN_TASK(mx_02_waiter_that_times_out_leaves), IN_TASK(mx_02_waiter_in_any_place_may_leave),
          IN_TASK(ab_15_mutex_handed_to_an_aborted_task_is_passed_on),
          IN_TASK(mx_03_try_lock_fails_when_held),
          IN_BODY(mx_03_lock_outlives_the_task_that_took_it),
          IN_TASK(mx_03_panic_unlocks_and_does_not_poison), IN_BODY(mx_04_held_across_waits),
          IN_TASK_ON(mx_04_released_on_another_worker, TEST_MT4),
          IN_TASK(mx_05_blocking_lock_is_misuse_in_a_task),
          IN_BODY(mx_05_blocking_lock_is_misuse_in_a_task),
          PLAIN(blocking_lock_on_threads_without_a_runtime), IN_TASK(blocking_lock_beside_tasks),
          IN_TASK(a_token_ends_a_blocking_lock), PLAIN(lock_outside_a_runtime_is_misuse),
          IN_TASK(aborts_and_timeouts_leave_the_lock_free),
          IN_TASK(memory_may_be_freed_after_the_last_unlock))
