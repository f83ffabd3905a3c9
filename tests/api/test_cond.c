/* ctest: parallel */
/* The condition variable: however a wait ends, the mutex is held after it. */
#include "harness.h"
#include "sync.h"

#include <weft/cond.h>
#include <weft/panic.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- a queue of numbers ---- */

#define CAP 4

struct queue {
    weft_mutex lock;
    weft_cond has_room, has_items;
    long item[CAP];
    unsigned count, head; /* under the lock */
    atomic_int waiting;   /* tasks inside weft_cond_wait(), or about to be */
};

static int queue_push(struct queue *q, long item)
{
    int rc = weft_mutex_lock(&q->lock);
    if (rc < 0)
        return rc;
    WEFT_LOCK_GUARD(&q->lock);
    while (q->count == CAP)
        if ((rc = weft_cond_wait(&q->has_room, &q->lock)) < 0)
            return rc;
    q->item[(q->head + q->count++) % CAP] = item;
    weft_cond_signal(&q->has_items);
    return 0;
}

static int queue_pop(struct queue *q, long *ret_item)
{
    int rc = weft_mutex_lock(&q->lock);
    if (rc < 0)
        return rc;
    WEFT_LOCK_GUARD(&q->lock);
    while (q->count == 0)
        if ((rc = weft_cond_wait(&q->has_items, &q->lock)) < 0)
            return rc;
    *ret_item = q->item[q->head];
    q->head = (q->head + 1) % CAP;
    q->count--;
    weft_cond_signal(&q->has_room);
    return 0;
}

#define ENDS 3

struct flow {
    struct queue q;
    long each;
    atomic_long sum;
};

static void *push_numbers(void *arg)
{
    struct flow *f = arg;
    for (long i = 1; i <= f->each; i++)
        EXPECT_EQ(queue_push(&f->q, i), 0);
    return NULL;
}

static void *pop_numbers(void *arg)
{
    struct flow *f = arg;
    for (long i = 1; i <= f->each; i++) {
        long item = 0;
        EXPECT_EQ(queue_pop(&f->q, &item), 0);
        atomic_fetch_add(&f->sum, item);
    }
    return NULL;
}

static void bounded_queue_of_two_conditions(struct test_env *env)
{
    struct flow f;
    weft_task *t[2 * ENDS];
    (void)env;
    memset(&f, 0, sizeof(f)); /* zeroed memory will do */
    f.each = test_scaled(1000);
    for (int i = 0; i < 2 * ENDS; i++)
        t[i] = SPAWN(i % 2 ? push_numbers : pop_numbers, &f);
    for (int i = 0; i < 2 * ENDS; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(atomic_load(&f.sum), ENDS * f.each * (f.each + 1) / 2);
    CHECK_EQ(f.q.count, 0);
    CHECK(!weft_mutex_is_locked(&f.q.lock));
}

/* ---- one waiter ---- */

struct scene {
    weft_mutex m;
    weft_cond c;
    bool flag;           /* under m */
    atomic_int waiting;  /* counted under m, before the wait */
    atomic_int returned; /* waits that came back, m held */
    int last_rc;
    atomic_int cleanups;
};

static void *wait_for_flag(void *arg)
{
    struct scene *s = arg;
    int rc = 0;
    EXPECT_EQ(weft_mutex_lock(&s->m), 0);
    WEFT_LOCK_GUARD(&s->m);
    atomic_fetch_add(&s->waiting, 1);
    while (!s->flag && rc == 0)
        rc = weft_cond_wait(&s->c, &s->m);
    EXPECT(weft_mutex_is_locked(&s->m));
    atomic_fetch_add(&s->returned, 1);
    s->last_rc = rc;
    return NULL;
}

/* Returns once n tasks wait, with the mutex held. */
static void lock_when_waiting(struct scene *s, int n)
{
    CHECK_SOON(atomic_load(&s->waiting) == n);
    CHECK_EQ(weft_mutex_lock(&s->m), 0); /* they let go of it in the wait only */
}

static void signal_wakes_one_broadcast_all(struct test_env *env)
{
    struct scene s = {.m = WEFT_MUTEX_INIT, .c = WEFT_COND_INIT};
    weft_task *t[4];
    (void)env;
    weft_cond_signal(&s.c); /* nobody waits: forgotten */
    weft_cond_broadcast(&s.c);
    for (int i = 0; i < 4; i++)
        t[i] = SPAWN(wait_for_flag, &s);
    lock_when_waiting(&s, 4);
    s.flag = true;
    weft_cond_signal(&s.c);
    weft_mutex_unlock(&s.m);
    CHECK_SOON(atomic_load(&s.returned) == 1);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(atomic_load(&s.returned), 1);
    weft_cond_broadcast(&s.c); /* without the mutex, too */
    for (int i = 0; i < 4; i++)
        (void)test_join_value(t[i]);
    CHECK(!weft_mutex_is_locked(&s.m));
}

static void aborted_wait_holds_the_mutex(struct test_env *env)
{
    struct scene s = {.m = WEFT_MUTEX_INIT, .c = WEFT_COND_INIT};
    (void)env;
    weft_task *t = SPAWN(wait_for_flag, &s);
    lock_when_waiting(&s, 1);
    CHECK_EQ(weft_abort(t), 0);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(atomic_load(&s.returned), 0); /* it waits for the mutex, abort or not */
    weft_mutex_unlock(&s.m);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(s.last_rc, -ECANCELED);
    CHECK(!weft_mutex_is_locked(&s.m));
}

static void see_mutex_held(void *arg)
{
    struct scene *s = arg;
    EXPECT(weft_mutex_is_locked(&s->m));
    EXPECT(!s->flag); /* set only by who gets the mutex after us */
    atomic_fetch_add(&s->cleanups, 1);
}

static void *wait_until_unwound(void *arg)
{
    struct scene *s = arg;
    EXPECT_EQ(weft_mutex_lock(&s->m), 0);
    WEFT_LOCK_GUARD(&s->m);
    WEFT_DEFER(see_mutex_held, s);
    atomic_fetch_add(&s->waiting, 1);
    int rc = weft_cond_wait(&s->c, &s->m);
    EXPECT_EQ(rc, 12345); /* it does not return */
    return NULL;
}

static void unwinding_abort_holds_the_mutex_in_its_cleanups(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(100); i++) {
        struct scene s = {.m = WEFT_MUTEX_INIT, .c = WEFT_COND_INIT};
        static const weft_spawn_options unwind = {.on_abort = WEFT_ON_ABORT_UNWIND};
        weft_task *t;
        CHECK_EQ(weft_spawn_with(&unwind, wait_until_unwound, &s, &t), 0);
        lock_when_waiting(&s, 1);
        if (i % 2)
            weft_cond_signal(&s.c);
        CHECK_EQ(weft_abort(t), 0);
        CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(atomic_load(&s.cleanups), 0); /* the mutex is ours */
        weft_mutex_unlock(&s.m);
        CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
        CHECK_EQ(atomic_load(&s.cleanups), 1);
        CHECK(!weft_mutex_is_locked(&s.m));
    }
}

static void timed_out_wait_holds_the_mutex(struct test_env *env)
{
    struct scene s = {.m = WEFT_MUTEX_INIT, .c = WEFT_COND_INIT};
    int rc = 0;
    (void)env;
    CHECK_EQ(weft_mutex_lock(&s.m), 0);
    WEFT_TIMEOUT(2 * WEFT_MS)
        rc = weft_cond_wait(&s.c, &s.m);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(weft_mutex_try_lock(&s.m), -EAGAIN);
    weft_mutex_unlock(&s.m);
}

static void signal_of_an_aborted_task_goes_to_the_next(struct test_env *env)
{
    struct scene s = {.m = WEFT_MUTEX_INIT, .c = WEFT_COND_INIT};
    (void)env;
    weft_task *first = SPAWN(wait_for_flag, &s);
    lock_when_waiting(&s, 1);
    weft_mutex_unlock(&s.m);
    weft_task *second = SPAWN(wait_for_flag, &s);
    lock_when_waiting(&s, 2);
    s.flag = true;
    weft_cond_signal(&s.c);         /* the first one's, */
    CHECK_EQ(weft_abort(first), 0); /* which does not get the mutex before */
    weft_mutex_unlock(&s.m);
    (void)test_join_kind(first);
    (void)test_join_value(second); /* would wait for ever */
    CHECK(!weft_mutex_is_locked(&s.m));
}

/* ---- the future form ---- */

static void future_has_the_mutex_or_not(struct test_env *env)
{
    struct scene s = {.m = WEFT_MUTEX_INIT, .c = WEFT_COND_INIT};
    weft_cond_wait_future f;
    int rc = 0;
    (void)env;
    memset(&s.c, 0xa5, sizeof(s.c));
    weft_cond_init(&s.c);
    CHECK_EQ(weft_mutex_lock(&s.m), 0);
    weft_cond_wait_future_init(&f, &s.c, &s.m);
    CHECK(weft_mutex_is_locked(&s.m)); /* until it is polled */
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_await(&f.future);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK(!weft_mutex_is_locked(&s.m)); /* a cancel cannot wait */
    CHECK_EQ(weft_mutex_lock(&s.m), 0);
    weft_task *t = SPAWN(wait_for_flag, &s);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_yield(), 0);
    weft_cond_wait_future_init(&f, &s.c, &s.m);
    s.flag = true;
    /* Its poll lets the task in, which sees the flag and ends without waiting. */
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_await(&f.future);
    (void)test_join_value(t);
    CHECK(!weft_mutex_is_locked(&s.m));
}

/* ---- threads, misuse ---- */

static void *wait_on_a_thread(void *arg)
{
    struct scene *s = arg;
    EXPECT_EQ(weft_mutex_blocking_lock(&s->m), 0);
    atomic_fetch_add(&s->waiting, 1);
    while (!s->flag)
        EXPECT_EQ(weft_cond_blocking_wait(&s->c, &s->m), 0);
    atomic_fetch_add(&s->returned, 1);
    weft_mutex_unlock(&s->m);
    return NULL;
}

static void blocking_wait_on_threads(struct test_env *env)
{
    struct scene s = {.m = WEFT_MUTEX_INIT, .c = WEFT_COND_INIT};
    pthread_t thread[3];
    (void)env;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, wait_on_a_thread, &s), 0);
    CHECK_SOON(atomic_load(&s.waiting) == 3);
    CHECK_EQ(weft_mutex_blocking_lock(&s.m), 0);
    s.flag = true;
    weft_cond_broadcast(&s.c);
    weft_mutex_unlock(&s.m);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(atomic_load(&s.returned), 3);
}

static void blocking_wait_in_a_blocking_job(struct test_env *env)
{
    struct scene s = {.m = WEFT_MUTEX_INIT, .c = WEFT_COND_INIT};
    weft_task *t;
    (void)env;
    CHECK_EQ(weft_spawn_blocking(wait_on_a_thread, &s, &t), 0);
    lock_when_waiting(&s, 1);
    s.flag = true;
    weft_cond_signal(&s.c);
    weft_mutex_unlock(&s.m);
    (void)test_join_value(t);
}

/* A deadline ends the wait of a thread too, and the mutex is held then. */
static void blocking_wait_times_out_with_the_mutex(struct test_env *env)
{
    struct scene s = {.m = WEFT_MUTEX_INIT, .c = WEFT_COND_INIT};
    weft_enter_guard g;
    int rc = 0;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    CHECK_EQ(weft_mutex_blocking_lock(&s.m), 0);
    if (env->flavour != TEST_CT) { /* nobody drives its timers */
        WEFT_TIMEOUT(2 * WEFT_MS)
            rc = weft_cond_blocking_wait(&s.c, &s.m);
        CHECK_EQ(rc, -ETIMEDOUT);
        CHECK_EQ(weft_mutex_try_lock(&s.m), -EAGAIN);
    }
    weft_mutex_unlock(&s.m);
    CHECK_EQ(weft_leave(&g), 0);
}

static void a_future_without_the_mutex_is_misuse(struct test_env *env)
{
    struct scene s = {.m = WEFT_MUTEX_INIT, .c = WEFT_COND_INIT};
    weft_cond_wait_future f;
    int rc = 0;
    (void)env;
    weft_cond_wait_future_init(&f, &s.c, &s.m);
    WEFT_TIMEOUT(100 * WEFT_MS)
        rc = weft_await(&f.future);
    CHECK_EQ(rc, -EPERM);
    EXPECT_LOGGED("weft_cond_wait");
    CHECK_EQ(weft_mutex_try_lock(&s.m), 0); /* and nobody waits for it */
    weft_cond_signal(&s.c);
    weft_mutex_unlock(&s.m);
}

static void misuse_leaves_the_mutex_alone(struct test_env *env)
{
    struct scene s = {.m = WEFT_MUTEX_INIT, .c = WEFT_COND_INIT};
    (void)env;
    CHECK_EQ(weft_cond_wait(&s.c, &s.m), -EPERM);
    EXPECT_LOGGED("weft_cond_wait");
    CHECK(!weft_mutex_is_locked(&s.m));
    CHECK_EQ(weft_cond_blocking_wait(&s.c, &s.m), -EPERM);
    EXPECT_LOGGED("weft_cond_blocking_wait");
    CHECK_EQ(weft_mutex_lock(&s.m), 0);
    CHECK_EQ(weft_cond_blocking_wait(&s.c, &s.m), -EPERM);
    EXPECT_LOGGED("weft_cond_blocking_wait");
    CHECK(weft_mutex_is_locked(&s.m));
    WEFT_NO_WAIT
        CHECK_EQ(weft_cond_wait(&s.c, &s.m), -EPERM);
    EXPECT_LOGGED("weft_cond_wait");
    CHECK(weft_mutex_is_locked(&s.m));
    weft_mutex_unlock(&s.m);
}

/* ---- under everything at once ---- */

static void *push_and_pop_with_short_timeouts(void *arg)
{
    struct flow *f = arg;
    uint64_t rng = test_seed("cond") + weft_self_id();
    for (int i = 0; i < 200; i++) {
        long item = 1;
        bool pushes = test_random(&rng) % 2;
        int rc = 0;
        WEFT_TIMEOUT(test_random(&rng) % 50 * WEFT_US)
            rc = pushes ? queue_push(&f->q, item) : queue_pop(&f->q, &item);
        if (rc == -ECANCELED)
            break;
        if (rc == 0)
            atomic_fetch_add(&f->sum, pushes ? 1 : -1);
    }
    return NULL;
}

static void aborts_and_timeouts_leave_it_whole(struct test_env *env)
{
    struct flow f;
    (void)env;
    memset(&f, 0, sizeof(f));
    for (unsigned round = 0; round < test_scaled(10); round++) {
        weft_task *t[6];
        for (int i = 0; i < 6; i++)
            t[i] = SPAWN(push_and_pop_with_short_timeouts, &f);
        for (int i = 1; i < 6; i += 2) {
            CHECK_EQ(weft_yield(), 0);
            CHECK_EQ(weft_abort(t[i]), 0);
        }
        for (int i = 0; i < 6; i++)
            (void)test_join_kind(t[i]);
        CHECK(!weft_mutex_is_locked(&f.q.lock));
        CHECK_EQ(atomic_load(&f.sum), f.q.count);
    }
}

TEST_MAIN(IN_TASK(bounded_queue_of_two_conditions), IN_TASK(signal_wakes_one_broadcast_all),
          IN_TASK(aborted_wait_holds_the_mutex),
          IN_TASK(unwinding_abort_holds_the_mutex_in_its_cleanups),
          IN_TASK(timed_out_wait_holds_the_mutex), IN_BODY(timed_out_wait_holds_the_mutex),
          IN_TASK(signal_of_an_aborted_task_goes_to_the_next), IN_TASK(future_has_the_mutex_or_not),
          PLAIN(blocking_wait_on_threads), IN_TASK(blocking_wait_in_a_blocking_job),
          ON_MAIN(blocking_wait_times_out_with_the_mutex), IN_TASK(misuse_leaves_the_mutex_alone),
          IN_TASK(a_future_without_the_mutex_is_misuse),
          IN_TASK(aborts_and_timeouts_leave_it_whole))
