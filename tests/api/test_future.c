/* The future protocol as a user sees it: leaf futures of one's own, polled tasks beside fibers. */
#include "harness.h"
#include "sync.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- a leaf future of our own, in each place that can wait ---- */

static void *send_from_thread(void *tx)
{
    oneshot_send(tx, "hello");
    return NULL;
}

static void receive_from_thread(void)
{
    struct oneshot o;
    pthread_t thread;
    void *v = NULL;
    oneshot_init(&o);
    CHECK_EQ(pthread_create(&thread, NULL, send_from_thread, &o), 0);
    CHECK_EQ(oneshot_recv(&o, &v), 0);
    CHECK(v != NULL && strcmp(v, "hello") == 0);
    pthread_join(thread, NULL);
    oneshot_fini(&o);
}

static void leaf_future_wakes_a_task(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 50; i++)
        receive_from_thread();
}

static void leaf_future_wakes_a_body(struct test_env *env)
{
    leaf_future_wakes_a_task(env);
}

static void leaf_future_wakes_a_thread(struct test_env *env)
{
    weft_enter_guard g;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    for (int i = 0; i < 50; i++)
        receive_from_thread();
    CHECK_EQ(weft_leave(&g), 0);
}

static void *receive_in_job(void *arg)
{
    for (int i = 0; i < 50; i++)
        receive_from_thread();
    return arg;
}

static void leaf_future_wakes_a_blocking_job(struct test_env *env)
{
    weft_task *t;
    CHECK_EQ(weft_spawn_blocking(receive_in_job, env, &t), 0);
    CHECK(test_join_value(t) == env);
}

/* ---- the contract of poll and cancel ---- */

struct probe {
    weft_future future;
    atomic_int polls, cancels, drops;
    int ready_at; /* the poll that is ready; 0: never */
    int result;
    bool wakes_itself;
    struct gate polled;
};

static int poll_probe(weft_future *f, weft_waker *waker)
{
    struct probe *p = (struct probe *)f;
    EXPECT_EQ(atomic_load(&p->cancels), 0);
    int n = atomic_fetch_add(&p->polls, 1) + 1;
    gate_open(&p->polled);
    if (p->wakes_itself)
        weft_waker_wake(waker);
    return n == p->ready_at ? p->result : WEFT_PENDING;
}

static void cancel_probe(weft_future *f)
{
    atomic_fetch_add(&((struct probe *)f)->cancels, 1);
}

static const weft_future_ops probe_ops = {poll_probe, cancel_probe, "probe"};

static void probe_init(struct probe *p, int ready_at, int result, bool wakes_itself)
{
    memset(p, 0, sizeof(*p));
    p->future.ops = &probe_ops;
    p->ready_at = ready_at;
    p->result = result;
    p->wakes_itself = wakes_itself;
    gate_init(&p->polled);
}

static void ready_future_is_polled_once(struct test_env *env)
{
    struct probe p;
    (void)env;
    probe_init(&p, 1, 5, false);
    CHECK_EQ(weft_await(&p.future), 5);
    CHECK_EQ(atomic_load(&p.polls), 1);
    CHECK_EQ(atomic_load(&p.cancels), 0);
    gate_fini(&p.polled);
    probe_init(&p, 1, -EILSEQ, false);
    CHECK_EQ(weft_await(&p.future), -EILSEQ); /* errors pass through */
    gate_fini(&p.polled);
}

/* The waker is woken while poll() still runs: it must not be lost. */
static void wake_inside_poll_is_not_lost(struct test_env *env)
{
    struct probe p;
    (void)env;
    for (int i = 1; i < 300; i++) {
        probe_init(&p, i, i, true);
        CHECK_EQ(weft_await(&p.future), i);
        CHECK_EQ(atomic_load(&p.polls), i);
        gate_fini(&p.polled);
    }
}

static void timed_out_future_is_cancelled_once(struct test_env *env)
{
    struct probe p;
    int rc = 0;
    (void)env;
    probe_init(&p, 0, 0, false);
    WEFT_TIMEOUT(2 * WEFT_MS)
        rc = weft_await(&p.future);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(atomic_load(&p.cancels), 1);
    gate_fini(&p.polled);
}

static void *await_probe(void *arg)
{
    struct probe *p = arg;
    EXPECT_EQ(weft_await(&p->future), -ECANCELED);
    return NULL;
}

static void aborted_future_is_cancelled_once(struct test_env *env)
{
    struct probe p;
    (void)env;
    probe_init(&p, 0, 0, false);
    weft_task *t = SPAWN(await_probe, &p);
    CHECK_EQ(gate_wait(&p.polled), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&p.cancels), 1);
    gate_fini(&p.polled);
}

/* ---- composites ---- */

/* Both of two: pending until each is ready; counts how often it was polled. */
struct both {
    weft_future future;
    weft_future *child[2];
    bool done[2], pending[2];
    int sum;
};

static int poll_both(weft_future *f, weft_waker *waker)
{
    struct both *b = (struct both *)f;
    for (int i = 0; i < 2; i++) {
        if (b->done[i])
            continue;
        int rc = weft_future_poll(b->child[i], waker);
        b->pending[i] = rc == WEFT_PENDING;
        if (rc == WEFT_PENDING)
            continue;
        b->done[i] = true;
        b->sum += rc;
    }
    return b->done[0] && b->done[1] ? b->sum : WEFT_PENDING;
}

static void cancel_both(weft_future *f)
{
    struct both *b = (struct both *)f;
    for (int i = 0; i < 2; i++)
        if (b->pending[i])
            weft_future_cancel(b->child[i]);
}

static const weft_future_ops both_ops = {poll_both, cancel_both, "both"};

static void composite_waits_for_timer_and_join(struct test_env *env)
{
    weft_timer timer;
    weft_join_future join;
    weft_outcome o;
    weft_task *t = SPAWN(test_noop, env);
    CHECK_EQ(weft_timer_init(&timer, weft_now() + 3 * WEFT_MS), 0);
    weft_join_future_init(&join, t);
    struct both b = {.future = {&both_ops}, .child = {&timer.future, &join.future}};
    CHECK_EQ(weft_await(&b.future), 0);
    CHECK(weft_timer_is_elapsed(&timer));
    CHECK_EQ(weft_try_join(t, &o), 0);
    CHECK(o.value == env);
    weft_timer_fini(&timer);
}

static void composite_is_cancelled_with_its_parts(struct test_env *env)
{
    struct probe p;
    weft_timer timer;
    int rc = 0;
    (void)env;
    probe_init(&p, 0, 0, false);
    CHECK_EQ(weft_timer_init(&timer, WEFT_NEVER), 0);
    struct both b = {.future = {&both_ops}, .child = {&timer.future, &p.future}};
    WEFT_TIMEOUT(2 * WEFT_MS)
        rc = weft_await(&b.future);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(atomic_load(&p.cancels), 1);
    weft_timer_fini(&timer);
    gate_fini(&p.polled);
}

/* ---- polled tasks ---- */

static void drop_probe(void *arg)
{
    struct probe *p = arg;
    atomic_fetch_add(&p->drops, 1);
}

static weft_task *spawn_probe(struct test_env *env, struct probe *p)
{
    weft_spawn_options o = {.drop_arg = drop_probe, .name = "probe", .runtime = env->handle};
    weft_task *t;
    CHECK_EQ(weft_spawn_future(&o, &p->future, &t), 0);
    return t;
}

static void polled_task_joins_like_a_fiber(struct test_env *env)
{
    struct probe p;
    weft_outcome o;
    probe_init(&p, 3, 21, true);
    weft_task *t = spawn_probe(env, &p);
    uint64_t id = weft_task_id(t);
    CHECK(id != 0);
    CHECK_EQ(strcmp(weft_task_name(t), "probe"), 0);
    CHECK(strstr(weft_task_site(t)->file, "test_future.c") != NULL);
    CHECK_EQ(weft_join(t, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_VALUE);
    CHECK_EQ((intptr_t)o.value, 21);
    CHECK_EQ(o.task_id, id);
    CHECK_EQ(atomic_load(&p.polls), 3);
    CHECK_EQ(atomic_load(&p.cancels), 0);
    CHECK_EQ(atomic_load(&p.drops), 1);
    gate_fini(&p.polled);
}

static void polled_task_is_aborted_while_it_waits(struct test_env *env)
{
    struct probe p;
    probe_init(&p, 0, 0, false);
    weft_task *t = spawn_probe(env, &p);
    CHECK_EQ(gate_wait(&p.polled), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&p.polls), 1);
    CHECK_EQ(atomic_load(&p.cancels), 1);
    CHECK_EQ(atomic_load(&p.drops), 1);
    gate_fini(&p.polled);
}

static void *kind_of(void *task)
{
    return (void *)(uintptr_t)test_join_kind(task);
}

static void polled_task_is_aborted_before_it_ran(struct test_env *env)
{
    struct probe p;
    probe_init(&p, 1, 0, false);
    weft_task *t = spawn_probe(env, &p); /* nobody drives the runtime yet */
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ((uintptr_t)test_block_on(env->rt, kind_of, t), WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&p.polls), 0);
    CHECK_EQ(atomic_load(&p.cancels), 0); /* never polled: never cancelled */
    CHECK_EQ(atomic_load(&p.drops), 1);
    gate_fini(&p.polled);
}

static void polled_task_is_aborted_after_it_ended(struct test_env *env)
{
    struct probe p;
    probe_init(&p, 1, 3, false);
    weft_task *t = spawn_probe(env, &p);
    CHECK_SOON(weft_task_is_finished(t));
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ((intptr_t)test_join_value(t), 3);
    CHECK_EQ(atomic_load(&p.cancels), 0);
    CHECK_EQ(atomic_load(&p.drops), 1);
    gate_fini(&p.polled);
}

static void polled_task_is_aborted_at_random(struct test_env *env)
{
    int cancelled = 0;
    for (int i = 0; i < 300; i++) {
        struct probe p;
        probe_init(&p, i % 5 + 1, 9, true);
        weft_task *t = spawn_probe(env, &p);
        for (int j = i % 7; j > 0; j--)
            CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(weft_abort(t), 0);
        bool was_cancelled = test_join_kind(t) == WEFT_OUTCOME_CANCELLED;
        cancelled += was_cancelled;
        CHECK_EQ(atomic_load(&p.drops), 1);
        CHECK_EQ(atomic_load(&p.cancels), was_cancelled && atomic_load(&p.polls) > 0);
        gate_fini(&p.polled);
    }
    CHECK(cancelled > 0);
}

static void polled_task_of_a_dead_runtime(struct test_env *env)
{
    struct probe p[2];
    weft_task *t[2];
    probe_init(&p[0], 0, 0, false);
    probe_init(&p[1], 0, 0, false);
    t[0] = spawn_probe(env, &p[0]);
    if (env->flavour != TEST_CT)
        CHECK_SOON(atomic_load(&p[0].polls) == 1);
    test_shutdown(env);
    t[1] = spawn_probe(env, &p[1]);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(test_join_kind_polling(t[i]), WEFT_OUTCOME_CANCELLED);
        CHECK_EQ(atomic_load(&p[i].drops), 1);
        CHECK_EQ(atomic_load(&p[i].cancels), atomic_load(&p[i].polls));
        gate_fini(&p[i].polled);
    }
}

/* A future that is copied into the task: small and large. */
struct copied {
    weft_future future;
    atomic_int *drops;
    int left;
    char ballast[200];
};

static int poll_copied(weft_future *f, weft_waker *waker)
{
    struct copied *c = (struct copied *)f;
    weft_waker_wake(waker);
    return --c->left == 0 ? 77 : WEFT_PENDING;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static void drop_copied(void *arg)
{
    atomic_fetch_add(((struct copied *)arg)->drops, 1);
}

static const weft_future_ops copied_ops = {poll_copied, cancel_nothing, "copied"};

static void polled_future_may_be_copied_into_the_task(struct test_env *env)
{
    atomic_int drops = 0;
    weft_task *t[2];
    (void)env;
    for (int large = 0; large < 2; large++) {
        struct copied c = {.future = {&copied_ops}, .drops = &drops, .left = 4};
        weft_spawn_options o = {
            .drop_arg = drop_copied,
            .arg_bytes = large ? sizeof(c) : offsetof(struct copied, ballast),
        };
        CHECK_EQ(weft_spawn_future(&o, &c.future, &t[large]), 0);
        memset(&c, 0xee, sizeof(c));
    }
    CHECK_EQ((intptr_t)test_join_value(t[0]), 77);
    CHECK_EQ((intptr_t)test_join_value(t[1]), 77);
    CHECK_EQ(atomic_load(&drops), 2);
}

/* A timer, a semaphore and a join handle inside a polled task. */
struct machine {
    weft_future future;
    struct sema_wait wait;
    weft_timer timer;
    int step;
};

static int poll_machine(weft_future *f, weft_waker *waker)
{
    struct machine *m = (struct machine *)f;
    int rc;
    if (m->step == 0) {
        rc = weft_future_poll(&m->wait.future, waker);
        if (rc == WEFT_PENDING)
            return rc;
        EXPECT_EQ(rc, 0);
        EXPECT_EQ(weft_timer_init(&m->timer, weft_now() + 2 * WEFT_MS), 0);
        m->step = 1;
    }
    rc = weft_future_poll(&m->timer.future, waker);
    if (rc == WEFT_PENDING)
        return rc;
    EXPECT_EQ(rc, 0);
    weft_timer_fini(&m->timer);
    sema_release(m->wait.sema);
    return 1;
}

static void cancel_machine(weft_future *f)
{
    struct machine *m = (struct machine *)f;
    if (m->step == 0) {
        weft_future_cancel(&m->wait.future);
    } else {
        weft_future_cancel(&m->timer.future);
        weft_timer_fini(&m->timer);
        sema_release(m->wait.sema);
    }
}

static const weft_future_ops machine_ops = {poll_machine, cancel_machine, "machine"};

static void polled_tasks_use_the_same_waits_as_fibers(struct test_env *env)
{
    enum { N = 50 };
    static struct machine m[N];
    static weft_task *t[N];
    struct sema s;
    (void)env;
    sema_init(&s, 0);
    for (int i = 0; i < N; i++) {
        m[i] = (struct machine){.future = {&machine_ops}};
        sema_wait_init(&m[i].wait, &s);
        CHECK_EQ(weft_spawn_future(NULL, &m[i].future, &t[i]), 0);
    }
    CHECK_SOON(sema_waiters(&s) == N);
    CHECK_EQ(weft_abort(t[10]), 0);
    for (int i = 0; i < 3; i++)
        sema_release(&s);
    for (int i = 0; i < N; i++)
        CHECK_EQ(test_join_kind(t[i]), i == 10 ? WEFT_OUTCOME_CANCELLED : WEFT_OUTCOME_VALUE);
    CHECK_EQ(sema_permits(&s), 3);
    sema_fini(&s);
}

/* poll() stands on the worker's own stack: nothing in it may wait. */
static int poll_that_waits(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    test_log_clear();
    EXPECT_EQ(weft_sleep(WEFT_MS), -EPERM);
    EXPECT_LOGGED("weft_sleep");
    EXPECT_EQ(weft_yield(), -EPERM);
    EXPECT_LOGGED("weft_yield");
    EXPECT_EQ(weft_spawn(test_noop, NULL, NULL), 0); /* but it may spawn */
    return weft_self_id() != 0;
}

static const weft_future_ops waiting_ops = {poll_that_waits, cancel_nothing, "waiting"};

static void wait_inside_poll_is_refused(struct test_env *env)
{
    weft_future f = {&waiting_ops};
    weft_task *t;
    (void)env;
    CHECK_EQ(weft_spawn_future(NULL, &f, &t), 0);
    CHECK_EQ((intptr_t)test_join_value(t), 1);
}

static int poll_that_panics(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    weft_panic("poll fails");
}

static const weft_future_ops panicking_ops = {poll_that_panics, cancel_nothing, "panicking"};

static void panic_inside_poll_is_caught(struct test_env *env)
{
    weft_future f = {&panicking_ops};
    weft_outcome o;
    weft_task *t;
    (void)env;
    CHECK_EQ(weft_spawn_future(NULL, &f, &t), 0);
    CHECK_EQ(weft_join(t, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    CHECK_EQ(strcmp(weft_panic_message(o.panic), "poll fails"), 0);
    weft_outcome_fini(&o);
    CHECK(test_join_value(SPAWN(test_noop, env)) == env);
}

/* ---- wakers ---- */

struct kept {
    weft_future future;
    _Atomic(weft_waker *) waker;
    atomic_bool ready;
};

static int poll_kept(weft_future *f, weft_waker *waker)
{
    struct kept *k = (struct kept *)f;
    if (atomic_load(&k->waker) == NULL)
        atomic_store(&k->waker, weft_waker_ref(waker));
    return atomic_load(&k->ready) ? 0 : WEFT_PENDING;
}

static const weft_future_ops kept_ops = {poll_kept, cancel_nothing, "kept"};

static void *await_kept(void *arg)
{
    struct kept *k = arg;
    EXPECT_EQ(weft_await(&k->future), 0);
    return k;
}

static void waker_outlives_task_and_runtime(struct test_env *env)
{
    struct kept k = {.future = {&kept_ops}, .ready = true};
    weft_task *t = SPAWN_ON(env->handle, await_kept, &k);
    weft_spawn_options o = {.runtime = env->handle};
    struct kept polled = {.future = {&kept_ops}, .ready = true};
    CHECK_EQ(weft_spawn_future(&o, &polled.future, NULL), 0);
    CHECK_EQ((uintptr_t)test_block_on(env->rt, kind_of, t), WEFT_OUTCOME_VALUE);
    CHECK_SOON(atomic_load(&k.waker) != NULL);
    if (env->flavour != TEST_CT)
        CHECK_SOON(atomic_load(&polled.waker) != NULL);
    for (int i = 0; i < 3; i++)
        weft_waker_wake(atomic_load(&k.waker)); /* the task is finished */
    test_shutdown(env);
    weft_waker_wake(atomic_load(&k.waker)); /* its runtime is gone */
    CHECK(weft_waker_ref(atomic_load(&k.waker)) == atomic_load(&k.waker));
    weft_waker_unref(atomic_load(&k.waker));
    weft_waker_wake_unref(atomic_load(&k.waker));
    weft_waker_wake_unref(atomic_load(&polled.waker));
    weft_waker_unref(NULL);
    weft_waker_wake_unref(NULL);
}

static void *wake_many_times(void *arg)
{
    struct kept *k = arg;
    for (int i = 0; i < 2000; i++)
        weft_waker_wake(atomic_load(&k->waker));
    atomic_store(&k->ready, true);
    weft_waker_wake(atomic_load(&k->waker));
    return NULL;
}

static void concurrent_wakes_equal_one(struct test_env *env)
{
    (void)env;
    for (int round = 0; round < 20; round++) {
        struct kept k = {.future = {&kept_ops}};
        pthread_t thread[3];
        weft_task *t = SPAWN(await_kept, &k);
        CHECK_SOON(atomic_load(&k.waker) != NULL);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(pthread_create(&thread[i], NULL, wake_many_times, &k), 0);
        CHECK(test_join_value(t) == &k);
        for (int i = 0; i < 3; i++)
            pthread_join(thread[i], NULL);
        weft_waker_unref(atomic_load(&k.waker));
    }
}

/* ---- the test primitives themselves ---- */

struct relay {
    struct chan *in, *out;
};

static void *relay(void *arg)
{
    struct relay *r = arg;
    void *v;
    while (chan_recv(r->in, &v) == 0)
        CHECK_EQ(chan_send(r->out, v), 0);
    chan_close(r->out);
    return NULL;
}

static void channel_keeps_order_and_drains_after_close(struct test_env *env)
{
    struct chan a, b;
    struct relay r = {&a, &b};
    void *v;
    (void)env;
    chan_init(&a, 3);
    chan_init(&b, 2);
    weft_task *t = SPAWN(relay, &r);
    for (uintptr_t sent = 1, received = 1; received <= 200;) {
        if (sent <= 200 && chan_try_send(&a, (void *)sent) == 0) {
            if (++sent > 200)
                chan_close(&a);
            continue;
        }
        CHECK_EQ(chan_recv(&b, &v), 0);
        CHECK_EQ((uintptr_t)v, received++);
    }
    CHECK_EQ(chan_recv(&b, &v), -EPIPE);
    CHECK_EQ(chan_send(&a, v), -EPIPE);
    (void)test_join_value(t);
    chan_fini(&a);
    chan_fini(&b);
}

TEST_MAIN(IN_TASK(leaf_future_wakes_a_task), IN_BODY(leaf_future_wakes_a_body),
          ON_MAIN(leaf_future_wakes_a_thread), IN_TASK(leaf_future_wakes_a_blocking_job),
          IN_TASK(ready_future_is_polled_once), IN_TASK(wake_inside_poll_is_not_lost),
          IN_TASK(timed_out_future_is_cancelled_once), IN_TASK(aborted_future_is_cancelled_once),
          IN_TASK(composite_waits_for_timer_and_join),
          IN_TASK(composite_is_cancelled_with_its_parts), IN_TASK(polled_task_joins_like_a_fiber),
          IN_TASK(polled_task_is_aborted_while_it_waits),
          ON_MAIN_ON(polled_task_is_aborted_before_it_ran, TEST_CT),
          IN_TASK(polled_task_is_aborted_after_it_ended), IN_TASK(polled_task_is_aborted_at_random),
          ON_MAIN(polled_task_of_a_dead_runtime),
          IN_TASK(polled_future_may_be_copied_into_the_task),
          IN_TASK(polled_tasks_use_the_same_waits_as_fibers), IN_TASK(wait_inside_poll_is_refused),
          IN_TASK(panic_inside_poll_is_caught), ON_MAIN(waker_outlives_task_and_runtime),
          IN_TASK(concurrent_wakes_equal_one), IN_TASK(channel_keeps_order_and_drains_after_close))
