/* Shutting down at every stage: SH of BEHAVIOURS. The lines on sockets are with the socket
 * tests. */
#include "harness.h"
#include "sync.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_int started, cleaned, dropped;

static void reset_counts(void)
{
    atomic_store(&started, 0);
    atomic_store(&cleaned, 0);
    atomic_store(&dropped, 0);
}

static void count(void *counter)
{
    atomic_fetch_add((atomic_int *)counter, 1);
}

static void count_dropped(void *arg)
{
    (void)arg;
    atomic_fetch_add(&dropped, 1);
}

static void *wait_for_the_end(void *gate)
{
    WEFT_DEFER(count, &cleaned);
    count(&started);
    if (gate != NULL)
        EXPECT_EQ(gate_wait(gate), -ECANCELED);
    else
        EXPECT_EQ(weft_sleep(WEFT_NEVER), -ECANCELED);
    return NULL;
}

static void *yield_to_the_end(void *arg)
{
    int rc;
    WEFT_DEFER(count, &cleaned);
    count(&started);
    do
        rc = weft_yield();
    while (rc == 0);
    EXPECT_EQ(rc, -ECANCELED);
    return arg;
}

/* ---- SH-01, SH-12 ---- */

static void *see_started(void *count)
{
    CHECK_SOON(atomic_load(&started) == *(int *)count);
    return NULL;
}

static void sh_01_every_task_is_cancelled_and_cleans_up(struct test_env *env)
{
    enum { N = 60 };
    int half = N / 2;
    weft_task *t[N];
    struct gate gate;
    weft_spawn_options o = {.runtime = env->handle, .drop_arg = count_dropped};
    reset_counts();
    gate_init(&gate);
    for (int i = 0; i < N; i++) {
        if (i == half) /* these are idle or busy; of the others, on CT, none starts */
            (void)test_block_on(env->rt, see_started, &half);
        CHECK_EQ(weft_spawn_with(&o, i % 3 == 2 ? yield_to_the_end : wait_for_the_end,
                                 i % 3 == 0 ? &gate : NULL, &t[i]),
                 0);
    }
    test_shutdown(env);
    CHECK(atomic_load(&started) >= half);
    CHECK_EQ(atomic_load(&cleaned), atomic_load(&started));
    CHECK_EQ(atomic_load(&dropped), N - atomic_load(&started));
    for (int i = 0; i < N; i++)
        CHECK_EQ(test_join_kind_polling(t[i]), WEFT_OUTCOME_CANCELLED);
    gate_fini(&gate);
}

static void sh_12_join_handles_resolve_as_cancelled(struct test_env *env)
{
    sh_01_every_task_is_cancelled_and_cleans_up(env);
}

/* Shutdown comes at any moment of a task's life. */
static void *short_life(void *arg)
{
    WEFT_DEFER(count, &cleaned);
    count(&started);
    for (uintptr_t i = 0; i < (uintptr_t)arg % 4; i++)
        if (weft_yield() < 0 || weft_sleep((uintptr_t)arg % 3 * 100 * WEFT_US) < 0)
            break;
    return NULL;
}

static void *spawn_without_end(void *arg)
{
    struct test_env *env = arg;
    weft_spawn_options o = {.runtime = env->handle, .drop_arg = count_dropped};
    for (uintptr_t i = 0; i < 3000; i++)
        EXPECT_EQ(weft_spawn_with(&o, short_life, (void *)i, NULL), 0);
    return NULL;
}

static void sh_01_shutdown_races_with_spawns(struct test_env *env)
{
    pthread_t thread[2];
    reset_counts();
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, spawn_without_end, env), 0);
    for (int i = 0; i < 2; i++)
        test_pause();
    test_shutdown(env);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(atomic_load(&started) + atomic_load(&dropped), 6000);
    CHECK_EQ(atomic_load(&cleaned), atomic_load(&started));
}

/* ---- SH-02, SH-11 ---- */

struct seen {
    weft_handle *expected;
    atomic_int sees_context, spawned_joins_cancelled;
};

static void look_around(void *arg)
{
    struct seen *s = arg;
    weft_handle *h;
    weft_task *t;
    EXPECT_EQ(weft_handle_current(&h), 0);
    if (weft_handle_runtime_id(h) == weft_handle_runtime_id(s->expected))
        atomic_fetch_add(&s->sees_context, 1);
    weft_handle_unref(h);
    EXPECT(weft_self_id() != 0);
    EXPECT_EQ(weft_spawn(test_noop, NULL, &t), 0);
    weft_outcome o;
    EXPECT_EQ(weft_try_join(t, &o), 0); /* at once, no waiting */
    if (o.kind == WEFT_OUTCOME_CANCELLED)
        atomic_fetch_add(&s->spawned_joins_cancelled, 1);
    weft_outcome_fini(&o);
}

static void *look_around_at_the_end(void *arg)
{
    WEFT_DEFER(look_around, arg);
    count(&started);
    (void)weft_sleep(WEFT_NEVER); /* cancelled or unwound */
    look_around(arg);
    return NULL;
}

static void *spawn_three_and_wait(void *arg)
{
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_spawn(look_around_at_the_end, arg, NULL), 0);
    CHECK_SOON(atomic_load(&started) == 3);
    return NULL;
}

static void sh_02_cleanup_sees_the_runtime(struct test_env *env)
{
    struct seen s = {.expected = env->handle};
    reset_counts();
    (void)test_block_on(env->rt, spawn_three_and_wait, &s);
    test_shutdown(env);
    CHECK_EQ(atomic_load(&s.sees_context), 6);
}

static void sh_11_spawn_during_shutdown_is_cancelled(struct test_env *env)
{
    struct seen s = {.expected = env->handle};
    reset_counts();
    (void)test_block_on(env->rt, spawn_three_and_wait, &s);
    test_shutdown(env);
    CHECK_EQ(atomic_load(&s.spawned_joins_cancelled), 6);
}

/* ---- SH-03, SH-04 ---- */

struct chain {
    struct gate *mine, *next; /* which one opens as it leaves */
    struct oneshot *out;
};

static void open_next(void *arg)
{
    struct chain *c = arg;
    gate_open(c->next);
    oneshot_send(c->out, c);
}

static void *open_next_at_the_end(void *arg)
{
    struct chain *c = arg;
    WEFT_DEFER(open_next, c);
    count(&started);
    (void)gate_wait(c->mine); /* cancelled, or opened by a neighbour's cleanup */
    return NULL;
}

#define RING 6

struct ring {
    struct gate gate[RING];
    struct oneshot out[RING];
    struct chain chain[RING];
    bool panics;
};

static void *start_ring(void *arg)
{
    struct ring *r = arg;
    for (int i = 0; i < RING; i++) {
        gate_init(&r->gate[i]);
        oneshot_init(&r->out[i]);
    }
    for (int i = 0; i < RING; i++) {
        r->chain[i] = (struct chain){&r->gate[i], &r->gate[(i + 1) % RING], &r->out[i]};
        CHECK_EQ(weft_spawn(open_next_at_the_end, &r->chain[i], NULL), 0);
    }
    CHECK_SOON(atomic_load(&started) == RING);
    if (r->panics)
        weft_panic("out of block_on");
    return NULL;
}

static void end_ring(struct ring *r)
{
    for (int i = 0; i < RING; i++) {
        CHECK(gate_is_open(&r->gate[i]));
        gate_fini(&r->gate[i]);
        oneshot_fini(&r->out[i]);
    }
}

static void sh_03_cleanup_wakes_other_dying_tasks(struct test_env *env)
{
    struct ring r = {.panics = false};
    reset_counts();
    (void)test_block_on(env->rt, start_ring, &r);
    test_shutdown(env);
    end_ring(&r);
}

static void sh_04_shutdown_after_a_panic_out_of_block_on(struct test_env *env)
{
    struct ring r = {.panics = true};
    weft_outcome o;
    reset_counts();
    CHECK_EQ(weft_block_on(env->rt, start_ring, &r, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    weft_outcome_fini(&o);
    test_shutdown(env);
    end_ring(&r);
}

/* ---- SH-05 ---- */

#define SENDERS 10000

static struct oneshot *senders;
static atomic_bool fire;

static void *fire_senders(void *arg)
{
    (void)arg;
    while (!atomic_load(&fire))
        ;
    for (int i = 0; i < SENDERS; i++)
        oneshot_send(&senders[i], senders);
    return NULL;
}

static void *receive_one(void *rx)
{
    void *v;
    count(&started);
    int rc = oneshot_recv(rx, &v);
    EXPECT(rc == 0 || rc == -ECANCELED);
    count(&cleaned);
    return NULL;
}

static void sh_05_wakes_from_threads_during_shutdown(struct test_env *env)
{
    int n = (int)test_scaled(SENDERS);
    pthread_t thread;
    reset_counts();
    atomic_store(&fire, false);
    senders = calloc(SENDERS, sizeof(*senders));
    CHECK(senders != NULL);
    for (int i = 0; i < SENDERS; i++)
        oneshot_init(&senders[i]);
    weft_spawn_options o = {.runtime = env->handle, .drop_arg = count_dropped};
    for (int i = 0; i < n; i++)
        CHECK_EQ(weft_spawn_with(&o, receive_one, &senders[i], NULL), 0);
    if (env->flavour != TEST_CT)
        CHECK_SOON(atomic_load(&started) == n);
    CHECK_EQ(pthread_create(&thread, NULL, fire_senders, NULL), 0);
    atomic_store(&fire, true);
    test_shutdown(env);
    pthread_join(thread, NULL);
    CHECK_EQ(atomic_load(&cleaned) + atomic_load(&dropped), n);
    for (int i = 0; i < SENDERS; i++)
        oneshot_fini(&senders[i]);
    free(senders);
}

/* ---- SH-07: the predicate ---- */

static void sh_07_predicate_rejects_look_alikes(struct test_env *env)
{
    (void)env;
    CHECK(weft_error_is_shutdown(-ESHUTDOWN));
    for (int e = -200; e <= 200; e++)
        CHECK(weft_error_is_shutdown(e) == (e == -ESHUTDOWN));
}

/* ---- SH-08, SH-09, SH-10 ---- */

struct job {
    atomic_bool has_started, may_end;
    atomic_bool has_ended;
};

static void *job_until_told(void *arg)
{
    struct job *j = arg;
    atomic_store(&j->has_started, true);
    while (!atomic_load(&j->may_end))
        test_pause();
    atomic_store(&j->has_ended, true);
    return NULL;
}

static void start_job(struct test_env *env, struct job *j)
{
    weft_spawn_options o = {.runtime = env->handle};
    memset(j, 0, sizeof(*j));
    CHECK_EQ(weft_spawn_blocking_with(&o, job_until_told, j, NULL), 0);
    CHECK_SOON(atomic_load(&j->has_started));
}

static void sh_08_timeout_is_kept_though_a_job_never_ends(struct test_env *env)
{
    static struct job j;
    for (int i = 0; i < 2; i++) {
        uint64_t timeout_ms = i == 0 ? 0 : 100;
        weft_runtime *rt = i == 0 ? test_runtime_create(env->flavour) : env->rt;
        struct test_env e = {.handle = weft_runtime_handle(rt)};
        start_job(&e, &j);
        uint64_t start = weft_now();
        CHECK_EQ(weft_runtime_shutdown(rt, timeout_ms * WEFT_MS), -ETIMEDOUT);
        CHECK(test_elapsed_ms(start) >= timeout_ms);
        CHECK(test_elapsed_ms(start) < 20000); /* and not for ever, as the job goes on */
        CHECK(!atomic_load(&j.has_ended));
        atomic_store(&j.may_end, true);
        CHECK_SOON(atomic_load(&j.has_ended));
        weft_handle_unref(e.handle);
    }
    env->rt = NULL;
    weft_handle_unref(env->handle);
    env->handle = NULL;
    CHECK_SOON(test_count_fds() == env->fds_before);
}

static void *use_the_pool(void *arg)
{
    weft_task *t[8];
    for (int i = 0; i < 8; i++)
        CHECK_EQ(weft_spawn_blocking(test_noop, arg, &t[i]), 0);
    for (int i = 0; i < 8; i++)
        (void)test_join_value(t[i]);
    return arg;
}

static void sh_09_huge_timeout_does_not_wait_for_idle_threads(struct test_env *env)
{
    (void)test_block_on(env->rt, use_the_pool, NULL); /* leaves idle threads: 10 s keep-alive */
    uint64_t start = weft_now();
    CHECK_EQ(weft_runtime_shutdown(env->rt, WEFT_NEVER - 1), 0);
    env->rt = NULL;
    CHECK(test_elapsed_ms(start) < 9000);
}

struct ending {
    struct job job;
    weft_handle *handle;
};

/* A thread: lets the job go on once the runtime is on its way down. */
static void *end_job_in_shutdown(void *arg)
{
    struct ending *e = arg;
    CHECK_SOON(weft_handle_block_on(e->handle, test_noop, NULL, NULL) == -ESHUTDOWN);
    for (int i = 0; i < 20; i++)
        test_pause(); /* whoever does not wait for the job is through by now */
    atomic_store(&e->job.may_end, true);
    return NULL;
}

static void sh_10_release_waits_for_jobs_that_have_started(struct test_env *env)
{
    struct ending e = {.handle = env->handle};
    pthread_t thread;
    start_job(env, &e.job);
    CHECK_EQ(pthread_create(&thread, NULL, end_job_in_shutdown, &e), 0);
    test_shutdown(env);
    CHECK(atomic_load(&e.job.has_ended));
    pthread_join(thread, NULL);
}

/* A thread: lets the job that holds the only thread of the pool go on when those behind it are
 * gone. */
static void *end_job_after_the_others(void *job)
{
    CHECK_SOON(atomic_load(&dropped) == 5);
    atomic_store(&((struct job *)job)->may_end, true);
    return NULL;
}

static void sh_10_queued_jobs_are_dropped(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    struct job j;
    pthread_t thread;
    weft_task *queued[5];
    reset_counts();
    test_config(&c, env->flavour);
    c.blocking_threads_max = 1;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    struct test_env e = {.handle = weft_runtime_handle(rt)};
    start_job(&e, &j);
    weft_spawn_options o = {.runtime = e.handle, .drop_arg = count_dropped};
    for (int i = 0; i < 5; i++)
        CHECK_EQ(weft_spawn_blocking_with(&o, test_noop, NULL, &queued[i]), 0);
    CHECK_EQ(pthread_create(&thread, NULL, end_job_after_the_others, &j), 0);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK_EQ(atomic_load(&dropped), 5);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(test_join_kind_polling(queued[i]), WEFT_OUTCOME_CANCELLED);
    pthread_join(thread, NULL);
    weft_handle_unref(e.handle);
}

/* ---- SH-13 ---- */

static void *block_in_place_until_told(void *arg)
{
    void *unused;
    CHECK_EQ(weft_block_in_place(job_until_told, arg, &unused), 0);
    return NULL;
}

static void release_job(void *arg)
{
    atomic_store(&((struct job *)arg)->may_end, true);
}

static void *release_job_at_the_end(void *arg)
{
    WEFT_DEFER(release_job, arg);
    count(&started);
    return test_forever(NULL);
}

static void sh_13_task_in_place_does_not_hold_up_the_others(struct test_env *env)
{
    struct job j = {.has_started = false};
    reset_counts();
    weft_task_detach(SPAWN_ON(env->handle, release_job_at_the_end, &j));
    CHECK_SOON(atomic_load(&started) == 1);
    weft_task_detach(SPAWN_ON(env->handle, block_in_place_until_told, &j));
    CHECK_SOON(atomic_load(&j.has_started));
    test_shutdown(env); /* aborts the first, whose cleanup lets the second go on */
    CHECK(atomic_load(&j.has_ended));
}

/* ---- DESIGN 6: first -ECANCELED, after the grace period unwinding ---- */

static void *never_give_up(void *arg)
{
    WEFT_DEFER(count, &cleaned);
    count(&started);
    for (;;)
        (void)weft_sleep(WEFT_NEVER); /* the bug under test: the error is not looked at */
    return arg;
}

static void *shielded_for_ever(void *arg)
{
    WEFT_DEFER(count, &cleaned);
    count(&started);
    WEFT_SHIELD(void)
        weft_sleep(WEFT_NEVER);
    return arg;
}

static void *start_stubborn_tasks(void *arg)
{
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weft_spawn(never_give_up, NULL, NULL), 0);
        CHECK_EQ(weft_spawn(shielded_for_ever, NULL, NULL), 0);
    }
    CHECK_SOON(atomic_load(&started) == 4);
    return arg;
}

static void tasks_that_will_not_end_are_unwound_after_the_grace(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    reset_counts();
    test_config(&c, env->flavour);
    c.shutdown_grace_ns = 50 * WEFT_MS;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    (void)test_block_on(rt, start_stubborn_tasks, NULL);
    uint64_t start = weft_now();
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK(weft_now() - start >= 50 * WEFT_MS);
    CHECK_EQ(atomic_load(&cleaned), 4);
    CHECK_EQ(test_log_count("the grace of its shutdown: 4"), 1);
}

static void *compute_until_told(void *arg)
{
    struct job *j = arg;
    atomic_store(&j->has_started, true);
    while (!atomic_load(&j->may_end))
        ;
    atomic_store(&j->has_ended, true);
    return NULL;
}

static void shutdown_leaves_a_computing_task_behind_in_time(struct test_env *env)
{
    struct job j = {.has_started = false};
    weft_task_detach(SPAWN_ON(env->handle, compute_until_told, &j));
    CHECK_SOON(atomic_load(&j.has_started));
    uint64_t start = weft_now();
    CHECK_EQ(weft_runtime_shutdown(env->rt, 50 * WEFT_MS), -ETIMEDOUT);
    env->rt = NULL;
    CHECK(test_elapsed_ms(start) < 20000); /* and not for ever, as the task goes on */
    atomic_store(&j.may_end, true);
    CHECK_SOON(atomic_load(&j.has_ended));
    weft_handle_unref(env->handle);
    env->handle = NULL;
    CHECK_SOON(test_count_fds() == env->fds_before);
}

/* ---- a body of block_on, and threads, at shutdown ---- */

struct blocked {
    weft_runtime *rt;
    struct gate never;
    atomic_bool waits;
    int rc;
    enum weft_outcome_kind kind;
};

static void *wait_in_body(void *arg)
{
    struct blocked *b = arg;
    atomic_store(&b->waits, true);
    b->rc = gate_wait(&b->never);
    return NULL;
}

static void *block_on_for_ever(void *arg)
{
    struct blocked *b = arg;
    weft_outcome o;
    EXPECT_EQ(weft_block_on(b->rt, wait_in_body, b, &o), 0);
    b->kind = o.kind;
    weft_outcome_fini(&o);
    return NULL;
}

static void shutdown_ends_a_block_on_in_another_thread(struct test_env *env)
{
    struct blocked b = {.rt = env->rt};
    pthread_t thread;
    gate_init(&b.never);
    CHECK_EQ(pthread_create(&thread, NULL, block_on_for_ever, &b), 0);
    CHECK_SOON(atomic_load(&b.waits));
    test_shutdown(env);
    pthread_join(thread, NULL);
    CHECK_EQ(b.rc, -ECANCELED);
    CHECK_EQ(b.kind, WEFT_OUTCOME_CANCELLED);
    gate_fini(&b.never);
}

/* It finds the runtime down, or is aborted: never neither. */
static void *wait_for_gate(void *gate)
{
    return (void *)(intptr_t)gate_wait(gate);
}

struct late {
    weft_handle *handle;
    struct gate never;
};

static void *block_on_late(void *arg)
{
    struct late *l = arg;
    weft_outcome o;
    int rc = weft_handle_block_on(l->handle, wait_for_gate, &l->never, &o);
    EXPECT(rc == -ESHUTDOWN || (rc == 0 && o.kind == WEFT_OUTCOME_CANCELLED));
    if (rc == 0)
        weft_outcome_fini(&o);
    return NULL;
}

static void shutdown_races_with_block_on(struct test_env *env)
{
    struct late l;
    pthread_t thread;
    gate_init(&l.never);
    for (int i = 0; i < (int)test_scaled(100); i++) {
        weft_runtime *rt = test_runtime_create(env->flavour);
        l.handle = weft_runtime_handle(rt);
        CHECK_EQ(pthread_create(&thread, NULL, block_on_late, &l), 0);
        if (i % 2)
            sched_yield();
        CHECK_EQ(weft_runtime_destroy(rt), 0);
        pthread_join(thread, NULL);
        weft_handle_unref(l.handle);
    }
    gate_fini(&l.never);
}

static void null_runtime(struct test_env *env)
{
    (void)env;
    CHECK_EQ(weft_runtime_destroy(NULL), 0);
    test_log_clear();
    CHECK_EQ(weft_runtime_shutdown(NULL, 0), -EINVAL);
    EXPECT_LOGGED("weft_runtime_shutdown");
}

TEST_MAIN(ON_MAIN(sh_01_every_task_is_cancelled_and_cleans_up),
          ON_MAIN(sh_01_shutdown_races_with_spawns), ON_MAIN(sh_02_cleanup_sees_the_runtime),
          ON_MAIN(sh_03_cleanup_wakes_other_dying_tasks),
          ON_MAIN(sh_04_shutdown_after_a_panic_out_of_block_on),
          ON_MAIN(sh_05_wakes_from_threads_during_shutdown),
          PLAIN(sh_07_predicate_rejects_look_alikes),
          ON_MAIN(sh_08_timeout_is_kept_though_a_job_never_ends),
          ON_MAIN(sh_09_huge_timeout_does_not_wait_for_idle_threads),
          ON_MAIN(sh_10_release_waits_for_jobs_that_have_started),
          ON_MAIN(sh_10_queued_jobs_are_dropped), ON_MAIN(sh_11_spawn_during_shutdown_is_cancelled),
          ON_MAIN(sh_12_join_handles_resolve_as_cancelled),
          ON_MAIN_ON(sh_13_task_in_place_does_not_hold_up_the_others, TEST_MT1),
          ON_MAIN(tasks_that_will_not_end_are_unwound_after_the_grace),
          ON_MAIN_ON(shutdown_leaves_a_computing_task_behind_in_time, TEST_MT4),
          ON_MAIN(shutdown_ends_a_block_on_in_another_thread),
          ON_MAIN(shutdown_races_with_block_on), PLAIN(null_runtime))
