/* ctest: parallel */
/* Notify: NO of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"
#include "watched.h"

#include <weft/notify.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct waiter {
    weft_notify_wait_future future;
    struct watched watched;
    atomic_bool is_notified;
    weft_task *task;
};

static void *wait_and_end(void *arg)
{
    struct waiter *w = arg;
    if (weft_await(&w->watched.future) == 0)
        atomic_store(&w->is_notified, true);
    return NULL;
}

/* Starts a task, and returns when it stands in the queue. */
static void waiter_start(struct waiter *w, weft_notify *n)
{
    memset(w, 0, sizeof(*w));
    weft_notify_wait_future_init(&w->future, n);
    watched_init(&w->watched, &w->future.future);
    w->task = SPAWN(wait_and_end, w);
    CHECK_SOON(watched_waits(&w->watched));
}

static void waiter_end(struct waiter *w)
{
    (void)test_join_value(w->task);
    CHECK(atomic_load(&w->is_notified));
}

static void waiter_abort(struct waiter *w)
{
    CHECK_EQ(weft_abort(w->task), 0);
    CHECK_EQ(test_join_kind(w->task), WEFT_OUTCOME_CANCELLED);
}

static void let_others_run(void)
{
    for (int i = 0; i < 20; i++)
        CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
}

/* ---- NO-01 ---- */

static void no_01_one_notification_is_remembered(struct test_env *env)
{
    weft_notify n;
    int rc = 0;
    (void)env;
    memset(&n, 0xa5, sizeof(n));
    weft_notify_init(&n);
    CHECK_EQ(weft_notify_try_wait(&n), -EAGAIN);
    weft_notify_one(&n);
    weft_notify_one(&n);
    CHECK_EQ(weft_notify_wait(&n), 0);
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_notify_wait(&n);
    CHECK_EQ(rc, -ETIMEDOUT);
    weft_notify_last(&n);
    CHECK_EQ(weft_notify_try_wait(&n), 0);
    CHECK_EQ(weft_notify_try_wait(&n), -EAGAIN);
}

/* ---- NO-02 ---- */

static void no_02_oldest_newest_all(struct test_env *env)
{
    weft_notify n = WEFT_NOTIFY_INIT;
    struct waiter w[5];
    (void)env;
    for (int i = 0; i < 5; i++)
        waiter_start(&w[i], &n);
    weft_notify_one(&n);
    waiter_end(&w[0]);
    weft_notify_last(&n);
    waiter_end(&w[4]);
    let_others_run();
    for (int i = 1; i < 4; i++)
        CHECK(!atomic_load(&w[i].is_notified));
    weft_notify_waiters(&n);
    for (int i = 1; i < 4; i++)
        waiter_end(&w[i]);
    CHECK_EQ(weft_notify_try_wait(&n), -EAGAIN); /* nothing is stored */
    weft_notify_waiters(&n);
    CHECK_EQ(weft_notify_try_wait(&n), -EAGAIN);
}

/* ---- NO-03 ---- */

/* On one thread: the victim is notified, and aborted before it runs. */
static void abandon(void (*notify)(weft_notify *n), int victim, int heir)
{
    weft_notify n = WEFT_NOTIFY_INIT;
    struct waiter w[3];
    int other = 3 - victim - heir;
    for (int i = 0; i < 3; i++)
        waiter_start(&w[i], &n);
    notify(&n);
    waiter_abort(&w[victim]);
    CHECK(!atomic_load(&w[victim].is_notified));
    waiter_end(&w[heir]);
    let_others_run();
    CHECK(!atomic_load(&w[other].is_notified));
    weft_notify_waiters(&n);
    waiter_end(&w[other]);
}

static void no_03_abandoned_notification_goes_on_in_its_order(struct test_env *env)
{
    (void)env;
    abandon(weft_notify_one, 0, 1);
    abandon(weft_notify_last, 2, 1);
}

static void no_03_abandoned_without_others_it_is_remembered(struct test_env *env)
{
    weft_notify n = WEFT_NOTIFY_INIT;
    weft_notify_wait_future f;
    (void)env;
    weft_notify_wait_future_init(&f, &n);
    CHECK(!weft_notify_wait_future_enable(&f));
    weft_notify_one(&n);
    weft_future_cancel(&f.future);
    CHECK_EQ(weft_notify_try_wait(&n), 0);
    weft_notify_wait_future_init(&f, &n);
    CHECK(!weft_notify_wait_future_enable(&f));
    weft_notify_waiters(&n);
    weft_future_cancel(&f.future); /* given to all: not to be passed on */
    CHECK_EQ(weft_notify_try_wait(&n), -EAGAIN);
}

static void aborted_waiter_leaves_the_queue(struct test_env *env)
{
    weft_notify n = WEFT_NOTIFY_INIT;
    struct waiter a, b;
    (void)env;
    waiter_start(&a, &n);
    waiter_start(&b, &n);
    waiter_abort(&a);
    weft_notify_one(&n);
    waiter_end(&b);
    waiter_start(&a, &n);
    waiter_abort(&a);
    weft_notify_one(&n); /* nobody waits: remembered */
    CHECK_EQ(weft_notify_wait(&n), 0);
}

/* ---- NO-04 ---- */

static void no_04_counts_for_all_from_its_init(struct test_env *env)
{
    weft_notify n = WEFT_NOTIFY_INIT;
    weft_notify_wait_future before, after;
    int rc = 0;
    (void)env;
    weft_notify_wait_future_init(&before, &n);
    weft_notify_waiters(&n);
    weft_notify_wait_future_init(&after, &n);
    CHECK_EQ(weft_await(&before.future), 0);
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_await(&after.future);
    CHECK_EQ(rc, -ETIMEDOUT);
}

static void no_04_enable_registers_for_one(struct test_env *env)
{
    weft_notify n = WEFT_NOTIFY_INIT;
    weft_notify_wait_future first, second, third;
    (void)env;
    weft_notify_wait_future_init(&first, &n);
    weft_notify_wait_future_init(&second, &n);
    CHECK(!weft_notify_wait_future_enable(&second));
    CHECK(!weft_notify_wait_future_enable(&first));
    weft_notify_one(&n);
    CHECK_EQ(weft_notify_try_wait(&n), -EAGAIN); /* it has a taker */
    CHECK_EQ(weft_await(&second.future), 0);
    weft_notify_one(&n);
    CHECK(weft_notify_wait_future_enable(&first)); /* says that it has been notified */
    CHECK_EQ(weft_await(&first.future), 0);
    weft_notify_one(&n);
    weft_notify_wait_future_init(&third, &n);
    CHECK(weft_notify_wait_future_enable(&third)); /* takes what is remembered */
    CHECK_EQ(weft_notify_try_wait(&n), -EAGAIN);
    CHECK_EQ(weft_await(&third.future), 0);
}

struct enabled {
    weft_notify *n;
    bool is_notified;
    atomic_bool is_ready;
};

/* It was in the queue before the wait that an abort refuses. */
static void *enable_and_be_aborted(void *arg)
{
    struct enabled *e = arg;
    weft_notify_wait_future f;
    weft_notify_wait_future_init(&f, e->n);
    EXPECT(!weft_notify_wait_future_enable(&f));
    if (e->is_notified)
        weft_notify_one(e->n);
    atomic_store(&e->is_ready, true);
    while (weft_yield() == 0) {
    }
    EXPECT_EQ(weft_await(&f.future), -ECANCELED);
    weft_future_cancel(&f.future);
    weft_future_cancel(&f.future); /* does nothing */
    memset(&f, 0x5a, sizeof f);
    return NULL;
}

static void no_04_enabled_and_aborted(struct test_env *env)
{
    (void)env;
    for (int is_notified = 0; is_notified < 2; is_notified++) {
        weft_notify n = WEFT_NOTIFY_INIT;
        struct enabled e = {.n = &n, .is_notified = is_notified};
        struct waiter next, last;
        weft_task *t = SPAWN(enable_and_be_aborted, &e);
        CHECK_SOON(atomic_load(&e.is_ready));
        waiter_start(&next, &n);
        waiter_start(&last, &n);
        CHECK_EQ(weft_abort(t), 0);
        (void)test_join_kind(t);
        if (!is_notified)
            weft_notify_one(&n); /* is not given to who has gone */
        waiter_end(&next);
        let_others_run();
        CHECK(!atomic_load(&last.is_notified)); /* was passed on once */
        weft_notify_one(&n);
        waiter_end(&last);
    }
}

/* ---- NO-05 ---- */

struct flag {
    weft_notify changed;
    bool is_set;
};

static void *set_flag(void *arg)
{
    struct flag *f = arg;
    f->is_set = true;
    weft_notify_waiters(&f->changed);
    return NULL;
}

/* Where one task runs at a time, nothing comes between a look and the call: nor when the call has
 * to yield first, since the budget is used up. */
static void who_yields_in_the_wait_is_notified_too(struct test_env *env)
{
    bool has_yielded = false;
    for (int used = 0; !has_yielded && used < 1000; used++) {
        struct flag f = {.changed = WEFT_NOTIFY_INIT};
        int rc = -1;
        CHECK_EQ(weft_yield(), 0); /* with a full budget */
        for (int i = 0; i < used; i++)
            CHECK_EQ(weft_consume_budget(), 0);
        weft_task *t = SPAWN(set_flag, &f);
        uint64_t yields = test_forced_yields(env);
        WEFT_TIMEOUT(WEFT_SEC)
            rc = weft_notify_wait(&f.changed);
        CHECK_EQ(rc, 0);
        CHECK(f.is_set);
        has_yielded = test_forced_yields(env) != yields;
        (void)test_join_value(t);
    }
    CHECK(has_yielded);
}

static void no_05_all_then_one(struct test_env *env)
{
    weft_notify n = WEFT_NOTIFY_INIT;
    weft_notify_wait_future old;
    struct waiter queued;
    (void)env;
    weft_notify_wait_future_init(&old, &n);
    waiter_start(&queued, &n);
    weft_notify_waiters(&n);
    weft_notify_one(&n);
    CHECK_EQ(weft_await(&old.future), 0);
    waiter_end(&queued);
    CHECK_EQ(weft_notify_try_wait(&n), 0); /* theirs was the former: this one is left */
    CHECK_EQ(weft_notify_try_wait(&n), -EAGAIN);
}

/* ---- NO-06 ---- */

struct relay {
    weft_future future;
    weft_notify *n;
    weft_notify_wait_future wait;
};

static int relay_poll(weft_future *f, weft_waker *waker)
{
    struct relay *r = (struct relay *)f;
    int rc = weft_future_poll(&r->wait.future, waker);
    if (rc == 0)
        weft_notify_one(r->n);
    return rc;
}

static void relay_cancel(weft_future *f)
{
    weft_future_cancel(&((struct relay *)f)->wait.future);
}

static const weft_future_ops relay_ops = {relay_poll, relay_cancel, "relay"};

static void no_06_who_is_woken_may_notify(struct test_env *env)
{
    weft_notify n = WEFT_NOTIFY_INIT;
    static struct relay r[50];
    weft_task *t[50];
    (void)env;
    for (int i = 0; i < 50; i++) {
        r[i] = (struct relay){.future = {&relay_ops}, .n = &n};
        weft_notify_wait_future_init(&r[i].wait, &n);
        CHECK_EQ(weft_spawn_future(NULL, &r[i].future, &t[i]), 0);
    }
    let_others_run();
    weft_notify_one(&n);
    for (int i = 0; i < 50; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(weft_notify_try_wait(&n), 0);
}

/* ---- NO-07 ---- */

static void no_07_the_last_to_wait_is_woken(struct test_env *env)
{
    weft_notify n = WEFT_NOTIFY_INIT;
    struct waiter w;
    (void)env;
    memset(&w, 0, sizeof(w));
    weft_notify_wait_future_init(&w.future, &n);
    watched_init(&w.watched, &w.future.future);
    CHECK(!weft_notify_wait_future_enable(&w.future)); /* by us, */
    w.task = SPAWN(wait_and_end, &w);                  /* then waited for by another task */
    CHECK_SOON(watched_waits(&w.watched));
    CHECK(!weft_notify_wait_future_enable(&w.future)); /* changes nothing */
    weft_notify_one(&n);
    waiter_end(&w);
}

/* ---- threads, memory ---- */

static void *notify_when_waited(void *arg)
{
    for (int i = 0; i < 100; i++)
        weft_notify_one(arg);
    return NULL;
}

static void blocking_wait_on_threads(struct test_env *env)
{
    weft_notify n = WEFT_NOTIFY_INIT;
    pthread_t thread;
    (void)env;
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(pthread_create(&thread, NULL, notify_when_waited, &n), 0);
        CHECK_EQ(weft_notify_blocking_wait(&n), 0);
        pthread_join(thread, NULL);
        int rc = weft_notify_try_wait(&n); /* perhaps one is left */
        CHECK(rc == 0 || rc == -EAGAIN);
    }
}

static void blocking_wait_is_misuse_in_a_task(struct test_env *env)
{
    weft_notify n = WEFT_NOTIFY_INIT;
    (void)env;
    weft_notify_one(&n);
    CHECK_EQ(weft_notify_blocking_wait(&n), -EPERM);
    EXPECT_LOGGED("weft_notify_blocking_wait");
    CHECK_EQ(weft_notify_try_wait(&n), 0);
}

static void *notify_one(void *arg)
{
    weft_notify_one(arg);
    return NULL;
}

static void memory_may_be_freed_by_who_waited(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(1000); i++) {
        weft_notify *n = calloc(1, sizeof(*n)); /* zeroed memory is one without a notification */
        CHECK(n != NULL);
        CHECK_EQ(weft_spawn(notify_one, n, NULL), 0);
        if (i % 2)
            CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(weft_notify_wait(n), 0);
        free(n);
    }
}

/* Each notification is taken by exactly one, whoever is aborted or times out meanwhile. */
struct counts {
    weft_notify n;
    atomic_long taken;
};

static void *take_with_short_timeouts(void *arg)
{
    struct counts *c = arg;
    uint64_t rng = test_seed("notify") + weft_self_id();
    for (int i = 0; i < 200; i++) {
        int rc = 0;
        WEFT_TIMEOUT(test_random(&rng) % 30 * WEFT_US)
            rc = weft_notify_wait(&c->n);
        if (rc == -ECANCELED)
            break;
        if (rc == 0)
            atomic_fetch_add(&c->taken, 1);
    }
    return NULL;
}

static void no_notification_is_lost_or_doubled(struct test_env *env)
{
    struct counts c = {.n = WEFT_NOTIFY_INIT};
    long given = 0;
    (void)env;
    for (unsigned round = 0; round < test_scaled(10); round++) {
        weft_task *t[6];
        for (int i = 0; i < 6; i++)
            t[i] = SPAWN(take_with_short_timeouts, &c);
        for (int i = 0; i < 100; i++) {
            weft_notify_one(&c.n);
            given++;
            /* The next only once this one is taken: two in a row count once. */
            CHECK_SOON(atomic_load(&c.taken) == given || weft_notify_try_wait(&c.n) == 0);
            if (atomic_load(&c.taken) != given)
                given--; /* we took it back */
            if (i % 30 == 10)
                CHECK_EQ(weft_abort(t[i / 30]), 0);
        }
        for (int i = 0; i < 6; i++)
            (void)test_join_kind(t[i]);
        CHECK_EQ(atomic_load(&c.taken), given);
        CHECK_EQ(weft_notify_try_wait(&c.n), -EAGAIN);
    }
}

TEST_MAIN(IN_TASK(no_01_one_notification_is_remembered), IN_TASK(no_02_oldest_newest_all),
          IN_TASK_ON(no_03_abandoned_notification_goes_on_in_its_order, TEST_CT),
          IN_TASK(no_03_abandoned_without_others_it_is_remembered),
          IN_TASK(aborted_waiter_leaves_the_queue), IN_TASK(no_04_counts_for_all_from_its_init),
          IN_TASK(no_04_enable_registers_for_one), IN_TASK(no_04_enabled_and_aborted),
          IN_TASK_ON(who_yields_in_the_wait_is_notified_too, TEST_CT), IN_TASK(no_05_all_then_one),
          IN_TASK(no_06_who_is_woken_may_notify), IN_TASK(no_07_the_last_to_wait_is_woken),
          PLAIN(blocking_wait_on_threads), IN_TASK(blocking_wait_is_misuse_in_a_task),
          IN_TASK(memory_may_be_freed_by_who_waited), IN_TASK(no_notification_is_lost_or_doubled))
