/* Handles, entering, block_on from other threads: HB of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"

#include <weft/cancel.h>
#include <weft/net.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* ---- HB-01 ---- */

static void *current_runtime_id(void *arg)
{
    weft_handle *h;
    (void)arg;
    CHECK_EQ(weft_handle_current(&h), 0);
    uint64_t id = weft_handle_runtime_id(h);
    weft_handle_unref(h);
    return (void *)(uintptr_t)id;
}

static uint64_t entered_id(void)
{
    return (uint64_t)(uintptr_t)current_runtime_id(NULL);
}

static void hb_01_guards_nest(struct test_env *env)
{
    weft_runtime *other = test_runtime_create(env->flavour);
    weft_handle *h = weft_runtime_handle(other);
    uint64_t id = weft_handle_runtime_id(env->handle), other_id = weft_handle_runtime_id(h);
    weft_enter_guard a, b, c;
    CHECK_EQ(weft_enter(env->handle, &a), 0);
    CHECK_EQ(entered_id(), id);
    CHECK_EQ(weft_enter(h, &b), 0);
    CHECK_EQ(entered_id(), other_id);
    CHECK_EQ(weft_enter(h, &c), 0); /* the same again */
    CHECK_EQ(weft_leave(&c), 0);
    CHECK_EQ(entered_id(), other_id);
    CHECK_EQ(weft_leave(&b), 0);
    CHECK_EQ(entered_id(), id);
    CHECK_EQ(weft_leave(&a), 0);
    weft_handle *none;
    CHECK_EQ(weft_handle_try_current(&none), -EPERM);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    weft_handle_unref(h);
}

static void hb_01_guards_left_in_the_wrong_order(struct test_env *env)
{
    weft_runtime *other = test_runtime_create(env->flavour);
    weft_handle *h = weft_runtime_handle(other), *none;
    weft_enter_guard a, b;
    CHECK_EQ(weft_enter(env->handle, &a), 0);
    CHECK_EQ(weft_enter(h, &b), 0);
    test_log_clear();
    CHECK_EQ(weft_leave(&a), -EINVAL);
    EXPECT_LOGGED("weft_leave");
    CHECK_EQ(weft_handle_try_current(&none), -EPERM); /* both are left */
    CHECK_EQ(weft_enter(h, &a), 0);                   /* and the thread may enter again */
    CHECK_EQ(entered_id(), weft_handle_runtime_id(h));
    CHECK_EQ(weft_leave(&a), 0);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    weft_handle_unref(h);
}

/* It would stand inside itself. */
static void a_guard_is_entered_once_at_a_time(struct test_env *env)
{
    weft_enter_guard a, b;
    weft_handle *none;
    CHECK_EQ(weft_enter(env->handle, &a), 0);
    CHECK_EQ(weft_enter(env->handle, &b), 0);
    test_log_clear();
    CHECK_EQ(weft_enter(env->handle, &b), -EINVAL);
    EXPECT_LOGGED("weft_enter: ");
    CHECK_EQ(weft_enter(env->handle, &a), -EINVAL);
    EXPECT_LOGGED("weft_enter: ");
    CHECK_EQ(weft_leave(&b), 0);
    CHECK_EQ(weft_leave(&b), -EINVAL);
    CHECK_EQ(weft_leave(&a), 0);
    CHECK_EQ(weft_handle_try_current(&none), -EPERM);
    CHECK_EQ(weft_enter(env->handle, &a), 0); /* now it may again */
    CHECK_EQ(weft_leave(&a), 0);
}

static void hb_01_enter_inside_a_task_is_misuse(struct test_env *env)
{
    weft_enter_guard g;
    test_log_clear();
    CHECK_EQ(weft_enter(env->handle, &g), -EPERM);
    EXPECT_LOGGED("weft_enter");
}

/* A thread that is a body may; then it is where it was before. */
static void *leave_what_the_thread_is_in(void *guard)
{
    int rc = weft_leave(guard);
    return (void *)(intptr_t)rc;
}

static void a_body_leaves_what_its_thread_has_entered(struct test_env *env)
{
    weft_runtime *other = test_runtime_create(env->flavour);
    weft_handle *h = weft_runtime_handle(other), *none;
    weft_enter_guard g;
    weft_outcome o;
    CHECK_EQ(weft_enter(h, &g), 0);
    CHECK_EQ(weft_handle_block_on(env->handle, leave_what_the_thread_is_in, &g, &o), 0);
    CHECK_EQ((intptr_t)o.value, 0);
    CHECK_EQ(weft_handle_try_current(&none), -EPERM);
    weft_handle_unref(h);
    CHECK_EQ(weft_runtime_destroy(other), 0);
}

static void a_task_does_not_leave_what_its_driver_has_entered(struct test_env *env)
{
    weft_enter_guard g;
    weft_outcome o;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    test_log_clear();
    CHECK_EQ(weft_block_on(env->rt, leave_what_the_thread_is_in, &g, &o), 0);
    CHECK_EQ((intptr_t)o.value, -EPERM);
    EXPECT_LOGGED("weft_leave");
    CHECK_EQ(weft_leave(&g), 0);
}

/* ---- HB-02 ---- */

static void *use_channel_job_and_listener(void *arg)
{
    struct chan c;
    void *v;
    weft_task *t;
    chan_init(&c, 1);
    CHECK_EQ(chan_send(&c, arg), 0);
    CHECK_EQ(chan_recv(&c, &v), 0);
    CHECK_EQ(weft_spawn_blocking(test_noop, v, &t), 0);
    v = test_join_value(t);
    chan_fini(&c);
    weft_tcp_listener
        *l; /* made here; to accept on a current_thread runtime somebody must drive it */
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    return v;
}

static void *handle_block_on_from_thread(void *arg)
{
    struct test_env *env = arg;
    weft_outcome o;
    for (int i = 0; i < 20; i++) {
        EXPECT_EQ(weft_handle_block_on(env->handle, use_channel_job_and_listener, env, &o), 0);
        EXPECT_EQ(o.kind, WEFT_OUTCOME_VALUE);
        EXPECT(o.value == env);
        weft_outcome_fini(&o);
    }
    return NULL;
}

static void hb_02_handle_block_on_from_plain_threads(struct test_env *env)
{
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, handle_block_on_from_thread, env), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
}

static void hb_02_handle_block_on_after_shutdown(struct test_env *env)
{
    weft_outcome o;
    test_shutdown(env);
    CHECK_EQ(weft_handle_block_on(env->handle, test_noop, NULL, &o), -ESHUTDOWN);
    CHECK(weft_error_is_shutdown(weft_handle_block_on(env->handle, test_noop, NULL, &o)));
}

/* ---- HB-03 ---- */

static void *sleep_a_little(void *arg)
{
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
    return arg;
}

struct undriven {
    weft_handle *handle;
    atomic_bool done;
};

static void *join_it(void *task)
{
    return test_join_value(task);
}

static void *block_on_undriven(void *arg)
{
    struct undriven *u = arg;
    weft_outcome o;
    weft_task *t = SPAWN_ON(u->handle, sleep_a_little, arg);
    EXPECT_EQ(weft_handle_block_on(u->handle, join_it, t, &o), 0);
    EXPECT(o.value == arg);
    weft_outcome_fini(&o);
    atomic_store(&u->done, true);
    return NULL;
}

static void *wait_until_done(void *arg)
{
    struct undriven *u = arg;
    CHECK_SOON(atomic_load(&u->done));
    return NULL;
}

static void hb_03_handle_block_on_does_not_drive(struct test_env *env)
{
    struct undriven u = {.handle = env->handle};
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, block_on_undriven, &u), 0);
    for (int i = 0; i < 50; i++)
        test_pause();
    CHECK(!atomic_load(&u.done)); /* nobody drives */
    (void)test_block_on(env->rt, wait_until_done, &u);
    pthread_join(thread, NULL);
}

/* ---- HB-04, HB-05 ---- */

static atomic_int drops;

static void count_drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&drops, 1);
}

static void hb_04_blocking_job_after_shutdown_joins_cancelled(struct test_env *env)
{
    weft_spawn_options o = {.runtime = env->handle, .drop_arg = count_drop};
    weft_outcome out;
    weft_task *t;
    test_shutdown(env);
    atomic_store(&drops, 0);
    CHECK_EQ(weft_spawn_blocking_with(&o, test_noop, NULL, &t), 0);
    CHECK_EQ(weft_try_join(t, &out), 0);
    CHECK_EQ(out.kind, WEFT_OUTCOME_CANCELLED);
    CHECK_EQ(atomic_load(&drops), 1);
    weft_outcome_fini(&out);
}

static void drop_handle(void *h)
{
    weft_handle_unref(h);
    count_drop(NULL);
}

/* What is spawned owns the handle that it is spawned on, and the last one. */
static void a_spawn_after_shutdown_gives_up_the_last_handle(struct test_env *env)
{
    for (int kind = 0; kind < 3; kind++) {
        weft_runtime *rt = test_runtime_create(env->flavour);
        weft_handle *h = weft_runtime_handle(rt);
        weft_spawn_options o = {.runtime = h, .drop_arg = drop_handle};
        weft_task *t;
        CHECK_EQ(weft_runtime_destroy(rt), 0);
        atomic_store(&drops, 0);
        CHECK_EQ(kind == 0   ? weft_spawn_with(&o, test_noop, h, NULL)
                 : kind == 1 ? weft_spawn_blocking_with(&o, test_noop, h, NULL)
                             : weft_spawn_with(&o, test_noop, h, &t),
                 0);
        CHECK_EQ(atomic_load(&drops), 1);
        if (kind == 2)
            CHECK_EQ(test_join_kind_polling(t), WEFT_OUTCOME_CANCELLED);
    }
}

struct job {
    atomic_bool has_started, may_end;
};

static void *job_until_told(void *arg)
{
    struct job *j = arg;
    atomic_store(&j->has_started, true);
    while (!atomic_load(&j->may_end))
        test_pause();
    return j;
}

static void hb_05_job_that_started_before_shutdown_is_joined(struct test_env *env)
{
    struct job j = {.has_started = false};
    weft_spawn_options o = {.runtime = env->handle};
    weft_outcome out;
    weft_task *t;
    CHECK_EQ(weft_spawn_blocking_with(&o, job_until_told, &j, &t), 0);
    CHECK_SOON(atomic_load(&j.has_started));
    CHECK_EQ(weft_runtime_shutdown(env->rt, 0), -ETIMEDOUT); /* goes on by itself */
    env->rt = NULL;
    CHECK_EQ(weft_try_join(t, &out), -EAGAIN);
    atomic_store(&j.may_end, true);
    int rc = 0;
    CHECK_SOON((rc = weft_try_join(t, &out)) != -EAGAIN);
    CHECK_EQ(rc, 0);
    CHECK_EQ(out.kind, WEFT_OUTCOME_VALUE);
    CHECK(out.value == &j);
    weft_outcome_fini(&out);
    weft_handle_unref(env->handle); /* the last of it is freed by its own threads */
    env->handle = NULL;
    CHECK_SOON(test_count_fds() == env->fds_before);
}

/* ---- HB-06 ---- */

struct sleeper {
    weft_handle *handle;
    atomic_bool sleeps;
    int rc;
};

static void *sleep_entered(void *arg)
{
    struct sleeper *s = arg;
    weft_enter_guard g;
    EXPECT_EQ(weft_enter(s->handle, &g), 0);
    atomic_store(&s->sleeps, true);
    s->rc = weft_sleep(WEFT_NEVER);
    EXPECT_EQ(weft_leave(&g), 0);
    return NULL;
}

/* Nobody is left to say when the time of a scope has passed. */
struct scoped {
    weft_handle *handle;
    struct gate never;
    atomic_bool waits;
    int rc, rc_again;
    bool is_expired;
};

static void *wait_in_a_scope(void *arg)
{
    struct scoped *s = arg;
    weft_enter_guard g;
    EXPECT_EQ(weft_enter(s->handle, &g), 0);
    WEFT_TIMEOUT_AS(t, 1000 * WEFT_SEC) {
        atomic_store(&s->waits, true);
        s->rc = gate_wait(&s->never);
        s->rc_again = gate_wait(&s->never);
        s->is_expired = weft_timeout_is_expired(&t);
    }
    EXPECT_EQ(weft_leave(&g), 0);
    return NULL;
}

static void hb_06_a_deadline_on_a_dead_runtime_has_not_passed(struct test_env *env)
{
    struct scoped s = {.handle = env->handle};
    pthread_t thread;
    gate_init(&s.never);
    CHECK_EQ(pthread_create(&thread, NULL, wait_in_a_scope, &s), 0);
    CHECK_SOON(atomic_load(&s.waits));
    for (int i = 0; i < 10; i++)
        test_pause();
    test_shutdown(env);
    pthread_join(thread, NULL);
    EXPECT_EQ(s.rc, -ESHUTDOWN);
    EXPECT_EQ(s.rc_again, -ESHUTDOWN);
    EXPECT(!s.is_expired);
    gate_fini(&s.never);
}

static void hb_06_sleep_on_a_dead_runtime_fails(struct test_env *env)
{
    struct sleeper s = {.handle = env->handle};
    weft_enter_guard g;
    weft_timer before, after;
    pthread_t thread;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    CHECK_EQ(weft_timer_init(&before, weft_now() + WEFT_SEC * 100), 0);
    CHECK_EQ(weft_leave(&g), 0);
    CHECK_EQ(pthread_create(&thread, NULL, sleep_entered, &s), 0);
    CHECK_SOON(atomic_load(&s.sleeps));
    for (int i = 0; i < 10; i++)
        test_pause();
    test_shutdown(env);
    pthread_join(thread, NULL);
    CHECK_EQ(s.rc, -ESHUTDOWN); /* the one that slept */

    CHECK_EQ(weft_enter(env->handle, &g), 0);
    CHECK_EQ(weft_await(&before.future), -ESHUTDOWN); /* the one made before */
    CHECK(!weft_timer_is_elapsed(&before));
    CHECK_EQ(weft_sleep(WEFT_MS), -ESHUTDOWN); /* and one made afterwards */
    CHECK_EQ(weft_timer_init(&after, 0), -ESHUTDOWN);
    CHECK_EQ(weft_leave(&g), 0);
    weft_timer_fini(&before);
}

/* ---- HB-07 ---- */

struct eager {
    weft_future future;
    int polls;
};

/* Wakes itself while it is polled: the wake is pending when the thread goes to sleep. */
static int poll_eager(weft_future *f, weft_waker *waker)
{
    struct eager *e = (struct eager *)f;
    weft_waker_wake(waker);
    weft_waker_wake(waker);
    return ++e->polls == 100 ? 1 : WEFT_PENDING;
}

static void cancel_eager(weft_future *f)
{
    (void)f;
}

static const weft_future_ops eager_ops = {poll_eager, cancel_eager, "eager"};

static void *await_eager(void *arg)
{
    struct eager e = {.future = {&eager_ops}};
    CHECK_EQ(weft_await(&e.future), 1);
    CHECK_EQ(weft_sleep(WEFT_MS), 0); /* what is left of the wakes does not cut this short */
    return arg;
}

static void hb_07_a_wake_of_its_own_does_not_hang_the_thread(struct test_env *env)
{
    weft_outcome o;
    weft_enter_guard g;
    CHECK(test_block_on(env->rt, await_eager, env) == env);
    if (env->flavour == TEST_CT)
        return; /* timers would need a driver */
    CHECK_EQ(weft_handle_block_on(env->handle, await_eager, env, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_VALUE);
    weft_outcome_fini(&o);
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    (void)await_eager(env);
    CHECK_EQ(weft_leave(&g), 0);
}

struct visitor {
    weft_future future;
    weft_handle *visited;
    _Atomic(weft_waker *) waker;
    int polls;
};

/* Waits for a thread, and is in a runtime for a moment meanwhile. */
static int poll_visitor(weft_future *f, weft_waker *waker)
{
    struct visitor *v = (struct visitor *)f;
    weft_enter_guard g;
    if (v->polls++ > 0)
        return 7;
    atomic_store(&v->waker, weft_waker_ref(waker));
    EXPECT_EQ(weft_enter(v->visited, &g), 0);
    EXPECT_EQ(weft_leave(&g), 0);
    return WEFT_PENDING;
}

static const weft_future_ops visitor_ops = {poll_visitor, cancel_eager, "visitor"};

static void *wake_visitor(void *arg)
{
    struct visitor *v = arg;
    CHECK_SOON(atomic_load(&v->waker) != NULL);
    weft_waker_wake_unref(atomic_load(&v->waker));
    return NULL;
}

static void an_entered_thread_visits_a_runtime_while_it_waits(struct test_env *env)
{
    weft_runtime *other = test_runtime_create(env->flavour);
    weft_handle *h = weft_runtime_handle(other);
    weft_enter_guard g;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    for (int i = 0; i < 2; i++) {
        struct visitor v = {.future = {&visitor_ops}, .visited = i ? h : env->handle};
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, wake_visitor, &v), 0);
        EXPECT_EQ(weft_await(&v.future), 7);
        pthread_join(thread, NULL);
    }
    CHECK_EQ(weft_leave(&g), 0);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    weft_handle_unref(h);
}

/* A loop that does nothing but that ends by what is around it. */
static void a_yield_of_an_entered_thread_looks_at_its_scopes(struct test_env *env)
{
    weft_enter_guard g;
    weft_cancel_token *token;
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    weft_cancel_token_cancel(token);
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    CHECK_EQ(weft_yield(), 0);
    for (int yields = 0; yields < 2; yields++) {
        uint64_t end_ns = weft_now() + 10 * WEFT_SEC;
        int rc = 0;
        WEFT_TIMEOUT(WEFT_MS) {
            while (rc == 0 && weft_now() < end_ns)
                rc = yields ? weft_yield() : weft_consume_budget();
        }
        EXPECT_EQ(rc, -ETIMEDOUT);
        WEFT_CANCEL_SCOPE(token)
            EXPECT_EQ(yields ? weft_yield() : weft_consume_budget(), -ECANCELED);
    }
    WEFT_NO_WAIT
        EXPECT_EQ(weft_yield(), -EPERM);
    EXPECT_LOGGED("weft_yield: a wait inside WEFT_NO_WAIT");
    CHECK_EQ(weft_leave(&g), 0);
    weft_cancel_token_unref(token);
}

/* ---- HB-08 ---- */

static void hb_08_current_handle_outside_is_misuse(struct test_env *env)
{
    weft_handle *h = (weft_handle *)env;
    test_log_clear();
    CHECK_EQ(weft_handle_try_current(&h), -EPERM);
    CHECK_EQ(test_log_count(""), 0); /* the try form says nothing */
    CHECK_EQ(weft_handle_current(&h), -EPERM);
    EXPECT_LOGGED("weft_handle_current");
    CHECK(h == (weft_handle *)env); /* left alone */
}

static void hb_08_current_handle_inside(struct test_env *env)
{
    weft_handle *h;
    CHECK_EQ(weft_handle_current(&h), 0);
    CHECK_EQ(weft_handle_runtime_id(h), weft_handle_runtime_id(env->handle));
    weft_handle_unref(h);
    CHECK_EQ(weft_handle_try_current(&h), 0);
    CHECK(weft_handle_ref(h) == h);
    weft_handle_unref(h);
    weft_handle_unref(h);
    weft_task *t;
    CHECK_EQ(weft_spawn_blocking(current_runtime_id, NULL, &t), 0);
    CHECK_EQ((uintptr_t)test_join_value(t), weft_handle_runtime_id(env->handle));
}

/* ---- threads inside weft_enter() ---- */

static void entered_thread_spawns_joins_and_waits(struct test_env *env)
{
    weft_enter_guard g;
    CHECK_EQ(weft_enter(env->handle, &g), 0);
    for (int i = 0; i < 50; i++) {
        struct gate gate;
        gate_init(&gate);
        weft_task *t = SPAWN(test_noop, &gate);
        CHECK(test_join_value(t) == &gate);
        CHECK_EQ(weft_yield(), 0);
        gate_fini(&gate);
    }
    CHECK_EQ(weft_self_try_id(), 0);
    CHECK_EQ(weft_leave(&g), 0);
}

/* What a thread waits as changes when it enters or leaves. A deadline and a token around that go on
 * to count. */
static void scopes_outlive_what_the_thread_waits_as(struct test_env *env)
{
    weft_runtime *other = test_runtime_create(env->flavour);
    weft_handle *h = weft_runtime_handle(other);
    weft_enter_guard a, b;
    CHECK_EQ(weft_enter(env->handle, &a), 0);
    for (int waits_inside = 0; waits_inside < 2; waits_inside++) {
        uint64_t begun_ns = weft_now();
        WEFT_TIMEOUT(40 * WEFT_MS) {
            int rc = weft_sleep(WEFT_MS);                             /* arms it */
            EXPECT(rc == 0 || weft_now() - begun_ns >= 40 * WEFT_MS); /* or we were held up */
            CHECK_EQ(weft_enter(h, &b), 0);
            if (waits_inside)
                EXPECT_EQ(weft_sleep(20 * WEFT_SEC), -ETIMEDOUT);
            CHECK_EQ(weft_leave(&b), 0);
            EXPECT_EQ(weft_sleep(20 * WEFT_SEC), -ETIMEDOUT);
        }
        EXPECT(test_elapsed_ms(begun_ns) < 10000);
    }
    CHECK_EQ(weft_leave(&a), 0);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    weft_handle_unref(h);
}

TEST_MAIN(ON_MAIN(hb_01_guards_nest), ON_MAIN(hb_01_guards_left_in_the_wrong_order),
          ON_MAIN(a_guard_is_entered_once_at_a_time), IN_TASK(hb_01_enter_inside_a_task_is_misuse),
          ON_MAIN(a_body_leaves_what_its_thread_has_entered),
          ON_MAIN_ON(a_task_does_not_leave_what_its_driver_has_entered, TEST_CT),
          ON_MAIN(hb_02_handle_block_on_from_plain_threads),
          ON_MAIN(hb_02_handle_block_on_after_shutdown),
          ON_MAIN_ON(hb_03_handle_block_on_does_not_drive, TEST_CT),
          ON_MAIN(hb_04_blocking_job_after_shutdown_joins_cancelled),
          ON_MAIN(a_spawn_after_shutdown_gives_up_the_last_handle),
          ON_MAIN(hb_05_job_that_started_before_shutdown_is_joined),
          ON_MAIN(hb_06_sleep_on_a_dead_runtime_fails),
          ON_MAIN(hb_06_a_deadline_on_a_dead_runtime_has_not_passed),
          ON_MAIN(hb_07_a_wake_of_its_own_does_not_hang_the_thread),
          ON_MAIN(an_entered_thread_visits_a_runtime_while_it_waits),
          ON_MAIN(a_yield_of_an_entered_thread_looks_at_its_scopes),
          PLAIN(hb_08_current_handle_outside_is_misuse), IN_TASK(hb_08_current_handle_inside),
          ON_MAIN_ON(entered_thread_spawns_joins_and_waits, TEST_MT4),
          ON_MAIN_ON(scopes_outlive_what_the_thread_waits_as, TEST_MT4))
