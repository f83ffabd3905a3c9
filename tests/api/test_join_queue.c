/* ctest: parallel */
/* Join queues: JQ of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"

#include <weft/join_queue.h>
#include <weft/local.h>
#include <weft/select.h>

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

static weft_join_queue *queue_create(void)
{
    weft_join_queue *q;
    CHECK_EQ(weft_join_queue_create(&q), 0);
    return q;
}

static void *return_arg(void *arg)
{
    return arg;
}

static void *wait_at_gate(void *arg)
{
    return gate_wait(arg) == 0 ? arg : NULL;
}

/* A member that waits until it is aborted, and whose cleanup takes time. */
struct slow {
    atomic_int started, cleaned;
};

static void *clean_up_slowly(void *arg)
{
    struct slow *s = arg;
    atomic_fetch_add(&s->started, 1);
    EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    WEFT_SHIELD
        EXPECT_EQ(weft_sleep(2 * WEFT_MS), 0);
    atomic_fetch_add(&s->cleaned, 1);
    return NULL;
}

/* ---- JQ-01 ---- */

static void jq_01_in_the_order_of_spawning(struct test_env *env)
{
    (void)env;
    enum { N = 20 };
    struct gate g[N];
    weft_outcome o;
    weft_join_queue *q = queue_create();
    CHECK_EQ(weft_join_queue_join_next(q, &o), -ENOENT);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            gate_init(&g[i]);
            CHECK_EQ(weft_join_queue_spawn(q, wait_at_gate, &g[i], NULL), 0);
        }
        CHECK_EQ(weft_join_queue_len(q), N);
        for (int i = N; i-- > 0;) /* they end in the reverse order */
            gate_open(&g[i]);
        for (int i = 0; i < N; i++) {
            CHECK_EQ(weft_join_queue_join_next(q, &o), 0);
            CHECK(o.value == &g[i]);
        }
        CHECK_EQ(weft_join_queue_join_next(q, &o), -ENOENT);
        for (int i = 0; i < N; i++)
            gate_fini(&g[i]);
    }
    weft_join_queue_destroy(q);
}

/* ---- JQ-02, JQ-03 ---- */

/* A future that counts how often what it wraps is polled. */
struct counted {
    weft_future future;
    weft_join_queue_join_next_future next;
    atomic_int polls;
};

static int poll_counted(weft_future *f, weft_waker *waker)
{
    struct counted *c = (struct counted *)f;
    int rc = c->next.future.ops->poll(&c->next.future, waker);
    atomic_fetch_add(&c->polls, 1); /* who sees it sees a waker that is registered */
    return rc;
}

static void cancel_counted(weft_future *f)
{
    struct counted *c = (struct counted *)f;
    c->next.future.ops->cancel(&c->next.future);
}

static const weft_future_ops counted_ops = {poll_counted, cancel_counted, "counted"};

struct waiting {
    weft_join_queue *q;
    struct counted counted;
    weft_outcome o;
    int rc;
};

static void *await_counted(void *arg)
{
    struct waiting *w = arg;
    w->rc = weft_await(&w->counted.future);
    return NULL;
}

static void jq_02_who_waits_is_not_woken_by_those_behind(struct test_env *env)
{
    (void)env;
    struct gate g[3];
    struct waiting w = {.q = queue_create(), .rc = 1};
    for (int i = 0; i < 3; i++) {
        gate_init(&g[i]);
        CHECK_EQ(weft_join_queue_spawn(w.q, wait_at_gate, &g[i], NULL), 0);
    }
    w.counted.future.ops = &counted_ops;
    weft_join_queue_join_next_future_init(&w.counted.next, w.q, &w.o);
    weft_task *t = SPAWN(await_counted, &w);
    CHECK_SOON(atomic_load(&w.counted.polls) == 1);
    gate_open(&g[2]);
    gate_open(&g[1]);
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
    CHECK_EQ(atomic_load(&w.counted.polls), 1);
    gate_open(&g[0]);
    (void)test_join_value(t);
    CHECK_EQ(w.rc, 0);
    CHECK(w.o.value == &g[0]);
    CHECK_EQ(atomic_load(&w.counted.polls), 2);
    CHECK_EQ(weft_join_queue_len(w.q), 2);
    weft_join_queue_destroy(w.q);
    for (int i = 0; i < 3; i++)
        gate_fini(&g[i]);
}

static void jq_03_try_join_next_leaves_a_waiter_alone(struct test_env *env)
{
    (void)env;
    struct gate g;
    weft_outcome other;
    struct waiting w = {.q = queue_create(), .rc = 1};
    gate_init(&g);
    CHECK_EQ(weft_join_queue_spawn(w.q, wait_at_gate, &g, NULL), 0);
    w.counted.future.ops = &counted_ops;
    weft_join_queue_join_next_future_init(&w.counted.next, w.q, &w.o);
    weft_task *t = SPAWN(await_counted, &w);
    CHECK_SOON(atomic_load(&w.counted.polls) == 1);
    CHECK_SOON(test_waits(NULL, t));
    uint64_t before = test_forced_yields(env);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(weft_join_queue_try_join_next(w.q, &other), -EAGAIN);
    CHECK_EQ(test_forced_yields(env), before);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    CHECK_EQ(atomic_load(&w.counted.polls), 1); /* neither woken */
    gate_open(&g);
    (void)test_join_value(t); /* nor forgotten */
    CHECK_EQ(w.rc, 0);
    CHECK(w.o.value == &g);
    CHECK_EQ(weft_join_queue_try_join_next(w.q, &other), -ENOENT);
    weft_join_queue_destroy(w.q);
    gate_fini(&g);
}

static void jq_03_only_join_next_spends_budget(struct test_env *env)
{
    enum { N = 1000 };
    weft_join_queue *q = queue_create();
    for (int half = 0; half < 2; half++) {
        int n = 0;
        weft_abort_handle *h[N];
        for (int i = 0; i < N; i++)
            CHECK_EQ(weft_join_queue_spawn(q, test_noop, NULL, &h[i]), 0);
        for (int i = 0; i < N; i++) {
            CHECK_SOON(weft_abort_handle_is_finished(h[i]));
            weft_abort_handle_unref(h[i]);
        }
        uint64_t before = test_forced_yields(env);
        while ((half ? weft_join_queue_try_join_next(q, NULL)
                     : weft_join_queue_join_next(q, NULL)) == 0)
            n++;
        CHECK_EQ(n, N);
        CHECK_EQ(test_forced_yields(env) > before, half == 0);
    }
    weft_join_queue_destroy(q);
}

/* ---- JQ-04 ---- */

static void jq_04_join_all_in_the_order_of_spawning(struct test_env *env)
{
    (void)env;
    enum { N = 12 };
    struct gate g[N];
    void *values[N];
    weft_join_queue *q = queue_create();
    CHECK_EQ(weft_join_queue_join_all(q, values, 0), 0);
    for (int i = 0; i < N; i++) {
        gate_init(&g[i]);
        CHECK_EQ(weft_join_queue_spawn(q, wait_at_gate, &g[i], NULL), 0);
    }
    for (int i = N; i-- > 0;)
        gate_open(&g[i]);
    CHECK_EQ(weft_join_queue_join_all(q, values, N - 1), -ENOSPC);
    CHECK_EQ(weft_join_queue_join_all(q, values, N), N);
    for (int i = 0; i < N; i++) {
        CHECK(values[i] == &g[i]);
        gate_fini(&g[i]);
    }
    weft_join_queue_destroy(q);
}

static void *panic_now(void *arg)
{
    (void)arg;
    weft_panic("a member");
}

static void destroy_queue(void *q)
{
    weft_join_queue_destroy(q);
}

static void *join_all_of(void *q)
{
    WEFT_DEFER(destroy_queue, q);
    (void)!weft_join_queue_join_all(q, NULL, 0);
    EXPECT(false);
    return NULL;
}

static void jq_04_a_panic_of_a_member_panics_in_the_caller(struct test_env *env)
{
    (void)env;
    struct slow slow = {0};
    weft_outcome o;
    weft_join_queue *q = queue_create();
    CHECK_EQ(weft_join_queue_spawn(q, return_arg, NULL, NULL), 0);
    CHECK_EQ(weft_join_queue_spawn(q, panic_now, NULL, NULL), 0);
    CHECK_EQ(weft_join_queue_spawn(q, clean_up_slowly, &slow, NULL), 0);
    CHECK_SOON(atomic_load(&slow.started) == 1);
    weft_task *t = SPAWN(join_all_of, q);
    CHECK_EQ(weft_join(t, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    CHECK(strstr(weft_panic_message(o.panic), "a member"));
    CHECK_EQ(atomic_load(&slow.cleaned), 1);
    weft_outcome_fini(&o);
}

static void jq_04_shutdown_and_destroy_wait(struct test_env *env)
{
    (void)env;
    struct slow slow = {0};
    weft_join_queue *q = queue_create();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_join_queue_spawn(q, clean_up_slowly, &slow, NULL), 0);
    CHECK_SOON(atomic_load(&slow.started) == 3);
    CHECK_EQ(weft_join_queue_shutdown(q), 0);
    CHECK_EQ(atomic_load(&slow.cleaned), 3);
    CHECK_EQ(weft_join_queue_len(q), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_join_queue_spawn(q, clean_up_slowly, &slow, NULL), 0);
    CHECK_SOON(atomic_load(&slow.started) == 6);
    weft_join_queue_destroy(q);
    CHECK_EQ(atomic_load(&slow.cleaned), 6);
    weft_join_queue_destroy(NULL);
}

/* ---- further ---- */

static void *join_two_local(void *q)
{
    int value;
    weft_outcome o;
    CHECK_EQ(weft_join_queue_spawn_local(q, NULL, return_arg, &value, NULL), 0);
    CHECK_EQ(weft_join_queue_join_next(q, &o), 0);
    CHECK(o.value == q);
    CHECK_EQ(weft_join_queue_join_next(q, &o), 0);
    CHECK(o.value == &value);
    return NULL;
}

static void local_tasks_are_members(struct test_env *env)
{
    (void)env;
    weft_local_set *local;
    weft_join_queue *q = queue_create();
    CHECK_EQ(weft_local_set_create(NULL, &local), 0);
    weft_spawn_options options = {.local_set = local};
    CHECK_EQ(weft_join_queue_spawn_local(q, NULL, test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("weft_join_queue_spawn");
    CHECK_EQ(weft_join_queue_spawn_local(q, &options, return_arg, q, NULL), 0);
    CHECK_EQ(weft_local_set_run_until(local, join_two_local, q, NULL), 0);
    CHECK_EQ(weft_join_queue_spawn_local(q, &options, test_forever, NULL, NULL), 0);
    CHECK_EQ(weft_join_queue_spawn(q, test_forever, NULL, NULL), 0);
    weft_join_queue_destroy(q); /* does not wait for what nobody drives */
    CHECK_EQ(weft_local_set_wait(local), 0);
    CHECK_EQ(weft_local_set_destroy(local), 0);
}

struct step {
    weft_future future;
    bool was_polled;
};

static int poll_step(weft_future *f, weft_waker *waker)
{
    struct step *s = (struct step *)f;
    if (s->was_polled)
        return 77;
    s->was_polled = true;
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

static void cancel_step(weft_future *f)
{
    (void)f;
}

static void futures_and_selects(struct test_env *env)
{
    (void)env;
    static const weft_future_ops ops = {poll_step, cancel_step, "step"};
    struct step step = {{&ops}, false};
    struct gate g;
    weft_outcome o;
    weft_join_queue *q = queue_create();
    gate_init(&g);
    CHECK_EQ(weft_join_queue_spawn(q, wait_at_gate, &g, NULL), 0);
    CHECK_EQ(weft_join_queue_spawn_future(q, NULL, &step.future, NULL), 0);
    weft_case c[] = {weft_case_join_queue_join_next(q, &o), weft_case_sleep(WEFT_MS)};
    CHECK_EQ(weft_select(c, 2), 1); /* the second has ended, or may have: not the first */
    gate_open(&g);
    c[1] = weft_case_sleep(20 * WEFT_SEC);
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(c[0].rc, 0);
    CHECK(o.value == &g);
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ((intptr_t)o.value, 77);
    CHECK_EQ(weft_select(c, 2), 0);
    CHECK_EQ(c[0].rc, -ENOENT);
    weft_join_queue_destroy(q);
    gate_fini(&g);
}

static void abort_and_detach(struct test_env *env)
{
    (void)env;
    struct gate g;
    weft_abort_handle *h;
    weft_outcome o;
    int rc = 0;
    weft_join_queue *q = queue_create();
    gate_init(&g);
    CHECK_EQ(weft_join_queue_spawn(q, test_forever, NULL, &h), 0);
    CHECK_EQ(weft_join_queue_spawn(q, test_forever, NULL, NULL), 0);
    WEFT_TIMEOUT(WEFT_MS)
        rc = weft_join_queue_join_next(q, &o);
    CHECK_EQ(rc, -ETIMEDOUT);
    weft_abort_handle_abort(h);
    CHECK_EQ(weft_join_queue_join_next(q, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(o.task_id, weft_abort_handle_id(h));
    weft_join_queue_abort_all(q);
    CHECK_EQ(weft_join_queue_len(q), 1);
    CHECK_EQ(weft_join_queue_join_next(q, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(weft_join_queue_spawn(q, wait_at_gate, &g, NULL), 0);
    weft_join_queue_detach_all(q);
    CHECK_EQ(weft_join_queue_len(q), 0);
    weft_join_queue_destroy(q);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    gate_open(&g);
    CHECK_SOON(sema_waiters(&g.sema) == 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    gate_fini(&g);
    weft_abort_handle_unref(h);
}

struct member {
    weft_join_queue *q;
    struct gate done;
};

static void *join_all_of_own_queue(void *arg)
{
    struct member *m = arg;
    WEFT_TIMEOUT(20 * WEFT_SEC) {
        EXPECT_EQ(weft_join_queue_join_all(m->q, NULL, 0), -EDEADLK);
        EXPECT_LOGGED("weft_join_queue_join_all: a task of the queue joins itself");
        EXPECT_EQ(weft_join_queue_join_next(m->q, NULL), 0);
        EXPECT_EQ(weft_join_queue_join_next(m->q, NULL), -EDEADLK);
        EXPECT_LOGGED("weft_join: a task joins itself");
    }
    gate_open(&m->done);
    return NULL;
}

static void misuse_by_a_member(struct test_env *env)
{
    (void)env;
    struct member m = {.q = queue_create()};
    gate_init(&m.done);
    CHECK_EQ(weft_join_queue_spawn(m.q, return_arg, NULL, NULL), 0);
    CHECK_EQ(weft_join_queue_spawn(m.q, join_all_of_own_queue, &m, NULL), 0);
    CHECK_EQ(gate_wait(&m.done), 0);
    CHECK_EQ(weft_join_queue_len(m.q), 1);
    CHECK_EQ(weft_join_queue_join_all(m.q, NULL, 0), 1);
    weft_join_queue_destroy(m.q);
    gate_fini(&m.done);
}

static void a_plain_thread_joins(struct test_env *env)
{
    weft_spawn_options options = {.runtime = env->handle};
    weft_join_queue *q = queue_create();
    CHECK_EQ(weft_join_queue_spawn_blocking(q, &options, return_arg, NULL, NULL), 0);
    CHECK_EQ(weft_join_queue_spawn_with(q, &options, return_arg, NULL, NULL), 0);
    CHECK_EQ(weft_join_queue_blocking_join_next(q, NULL), 0);
    CHECK_EQ(weft_join_queue_blocking_join_next(q, NULL), 0);
    CHECK_EQ(weft_join_queue_blocking_join_next(q, NULL), -ENOENT);
    CHECK_EQ(weft_join_queue_spawn(q, NULL, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_join_queue_spawn");
    weft_join_queue_destroy(q);
}

TEST_MAIN(IN_TASK(jq_01_in_the_order_of_spawning),
          IN_TASK(jq_02_who_waits_is_not_woken_by_those_behind),
          IN_TASK(jq_03_try_join_next_leaves_a_waiter_alone),
          IN_TASK(jq_03_only_join_next_spends_budget),
          IN_TASK(jq_04_join_all_in_the_order_of_spawning),
          IN_TASK(jq_04_a_panic_of_a_member_panics_in_the_caller),
          IN_BODY(jq_04_shutdown_and_destroy_wait), IN_TASK(abort_and_detach),
          IN_TASK(futures_and_selects), IN_TASK_ON(local_tasks_are_members, TEST_CT),
          IN_TASK(misuse_by_a_member), ON_MAIN_ON(a_plain_thread_joins, TEST_MT1))
