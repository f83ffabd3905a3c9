/* The blocking pool and block_in_place: BP and BI of BEHAVIOURS; ids: ID. */
#include "harness.h"
#include "sync.h"

#include <weft/select.h>
#include <weft/join_all.h>
#include <weft/net.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static weft_task *spawn_job(weft_task_fn fn, void *arg)
{
    weft_task *t;
    CHECK_EQ(weft_spawn_blocking(fn, arg, &t), 0);
    return t;
}

static void metrics(weft_metrics *m)
{
    CHECK_EQ(weft_metrics_get(NULL, m), 0);
}

/* A runtime with settings of its own, for bodies that need one. */
static void on_runtime(enum test_flavour flavour, unsigned threads, uint64_t keep_alive_ns,
                       weft_task_fn body, void *arg)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, flavour);
    c.blocking_threads_max = threads;
    c.blocking_keep_alive_ns = keep_alive_ns;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    (void)test_block_on(rt, body, arg);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

/* ---- BP-01, BP-02 ---- */

/* Not pthread_self(): a thread that is made when another has ended often gets its pthread_t. */
static void *thread_of_job(void *arg)
{
    *(long *)arg = syscall(SYS_gettid);
    return arg;
}

static void bp_01_value_comes_through_join_and_threads_are_reused(struct test_env *env)
{
    long thread[100];
    int different = 0;
    (void)env;
    for (int i = 0; i < 100; i++) {
        CHECK(test_join_value(spawn_job(thread_of_job, &thread[i])) == &thread[i]);
        bool is_new = true;
        for (int j = 0; j < i; j++)
            is_new &= thread[i] != thread[j];
        different += is_new;
    }
    CHECK(different < 50); /* most find the thread of the one before idle */
}

static void *panicking_job(void *arg)
{
    (void)arg;
    weft_panic("the job fails");
}

static void bp_02_panic_in_a_job_is_joined_as_panic(struct test_env *env)
{
    weft_outcome o;
    CHECK_EQ(weft_join(spawn_job(panicking_job, NULL), &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    CHECK_EQ(strcmp(weft_panic_message(o.panic), "the job fails"), 0);
    weft_outcome_fini(&o);
    CHECK(test_join_value(spawn_job(test_noop, env)) == env); /* the thread is none the worse */
}

/* ---- BP-03, BP-08 ---- */

struct crowd {
    atomic_int inside, most, done;
    atomic_bool may_leave;
};

static void *enter_crowd(void *arg)
{
    struct crowd *c = arg;
    int n = atomic_fetch_add(&c->inside, 1) + 1;
    for (int most = atomic_load(&c->most); n > most;)
        if (atomic_compare_exchange_weak(&c->most, &most, n))
            break;
    CHECK_SOON(atomic_load(&c->may_leave));
    atomic_fetch_sub(&c->inside, 1);
    atomic_fetch_add(&c->done, 1);
    return NULL;
}

static void *fill_the_pool(void *arg)
{
    struct crowd *c = arg;
    weft_metrics m;
    weft_task *t[10];
    for (int i = 0; i < 10; i++)
        t[i] = spawn_job(enter_crowd, c);
    CHECK_SOON(atomic_load(&c->inside) == 3);
    metrics(&m);
    CHECK_EQ(m.blocking_threads, 3);
    CHECK_EQ(m.blocking_queue_depth, 7);
    atomic_store(&c->may_leave, true);
    for (int i = 0; i < 10; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(atomic_load(&c->done), 10);
    CHECK_EQ(atomic_load(&c->most), 3);
    return NULL;
}

static void bp_03_pool_grows_to_its_maximum(struct test_env *env)
{
    struct crowd c = {.inside = 0};
    (void)env;
    on_runtime(TEST_MT1, 3, WEFT_SEC, fill_the_pool, &c);
}

/* All of them run at once, or none gets past the others: with threads to start, then with idle
 * ones, and in between with some of each. */
static void *meet_in_numbers(void *arg)
{
    enum { MOST = 40 };
    (void)arg;
    for (int n = 10; n <= MOST; n += 10)
        for (int round = 0; round < 3; round++) {
            struct crowd c = {.inside = 0};
            weft_task *t[MOST];
            for (int i = 0; i < n; i++)
                t[i] = spawn_job(enter_crowd, &c);
            CHECK_SOON(atomic_load(&c.inside) == n);
            atomic_store(&c.may_leave, true);
            for (int i = 0; i < n; i++)
                (void)test_join_value(t[i]);
        }
    return NULL;
}

static void bp_03_a_burst_of_jobs_runs_all_at_once(struct test_env *env)
{
    (void)env;
    on_runtime(TEST_MT1, 40, WEFT_SEC, meet_in_numbers, NULL);
}

static void *wait_for_threads_to_end(void *arg)
{
    weft_metrics m;
    weft_task *t[5];
    for (int i = 0; i < 5; i++)
        t[i] = spawn_job(test_noop, arg);
    for (int i = 0; i < 5; i++)
        (void)test_join_value(t[i]);
    CHECK_SOON((metrics(&m), m.blocking_threads == 0));
    CHECK(test_join_value(spawn_job(test_noop, arg)) == arg); /* and it grows again */
    return NULL;
}

static void bp_03_idle_threads_end_after_the_keep_alive(struct test_env *env)
{
    for (int flavour = TEST_CT; flavour <= TEST_MT4; flavour++)
        on_runtime((enum test_flavour)flavour, 8, 5 * WEFT_MS, wait_for_threads_to_end, env);
}

static void *one_after_the_other(void *arg)
{
    struct crowd c = {.may_leave = true};
    weft_task *t[50];
    (void)arg;
    for (int i = 0; i < 50; i++)
        t[i] = spawn_job(enter_crowd, &c);
    for (int i = 0; i < 50; i++)
        (void)test_join_value(t[i]);
    CHECK_EQ(atomic_load(&c.most), 1);
    CHECK_EQ(atomic_load(&c.done), 50);
    return NULL;
}

static void bp_08_jobs_at_the_cap_run_once_a_thread_is_free(struct test_env *env)
{
    (void)env;
    on_runtime(TEST_MT4, 1, WEFT_SEC, one_after_the_other, NULL);
}

/* ---- BP-04 ---- */

/* Each job is submitted as the thread of the one before turns idle, or ends: the keep-alive is
 * that short. */
static void *submit_at_the_edge(void *arg)
{
    unsigned n = test_scaled(3000);
    for (unsigned i = 0; i < n; i++) {
        CHECK(test_join_value(spawn_job(test_noop, arg)) == arg);
        for (volatile unsigned spin = 0; spin < i % 300; spin++)
            ;
    }
    return NULL;
}

static void bp_04_no_job_is_stranded(struct test_env *env)
{
    on_runtime(TEST_MT1, 1, 20 * WEFT_US, submit_at_the_edge, env);
    on_runtime(TEST_MT4, 2, 20 * WEFT_US, submit_at_the_edge, env);
    on_runtime(TEST_CT, 2, WEFT_NEVER, submit_at_the_edge, env);
}

/* Jobs that take no time, so that few threads are sent for; then one that waits for the next. */
#define SHORT_JOBS 200

static void *await_next_job(void *has_run)
{
    while (!atomic_load((atomic_bool *)has_run))
        test_pause();
    return NULL;
}

static void *next_job(void *has_run)
{
    atomic_store((atomic_bool *)has_run, true);
    return NULL;
}

static void *block_after_a_burst(void *arg)
{
    (void)arg;
    unsigned n = test_scaled(200);
    for (unsigned i = 0; i < n; i++) {
        weft_task *t[SHORT_JOBS + 2];
        atomic_bool has_run = false;
        for (int j = 0; j < SHORT_JOBS; j++)
            t[j] = spawn_job(test_noop, NULL);
        t[SHORT_JOBS] = spawn_job(await_next_job, &has_run);
        t[SHORT_JOBS + 1] = spawn_job(next_job, &has_run);
        for (int j = 0; j < SHORT_JOBS + 2; j++)
            (void)test_join_value(t[j]);
    }
    return NULL;
}

static void a_job_behind_one_that_blocks_all_of_a_sudden_runs(struct test_env *env)
{
    (void)env;
    on_runtime(TEST_MT1, 2, WEFT_SEC, block_after_a_burst, NULL);
    on_runtime(TEST_MT4, 8, WEFT_SEC, block_after_a_burst, NULL);
    on_runtime(TEST_CT, 3, WEFT_SEC, block_after_a_burst, NULL);
}

/* ---- BP-05 ---- */

static void *write_byte(void *conn)
{
    CHECK_EQ(weft_tcp_write(conn, "x", 1), 1);
    return NULL;
}

static void use_sockets(struct test_env *env)
{
    weft_tcp_listener *l;
    weft_tcp *here, *there;
    weft_addr addr;
    weft_metrics before, after;
    char byte = 0;
    CHECK_EQ(weft_metrics_get(env->handle, &before), 0);
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &here), 0);
    CHECK_EQ(weft_tcp_accept(l, &there), 0);
    CHECK_EQ(weft_metrics_get(env->handle, &after), 0);
    CHECK_EQ(after.fds_registered - before.fds_registered, 3);
    weft_task *t = SPAWN(write_byte, there);
    CHECK_EQ(weft_tcp_read(here, &byte, 1), 1);
    CHECK_EQ(byte, 'x');
    (void)test_join_value(t);
    CHECK_EQ(weft_tcp_close(here), 0);
    CHECK_EQ(weft_tcp_close(there), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

static void *use_the_runtime(void *arg)
{
    struct test_env *env = arg;
    weft_handle *h;
    uint64_t start = weft_now();
    CHECK_EQ(weft_handle_current(&h), 0);
    CHECK_EQ(weft_handle_runtime_id(h), weft_handle_runtime_id(env->handle));
    weft_handle_unref(h);
    CHECK_EQ(weft_sleep(3 * WEFT_MS), 0);
    CHECK(weft_now() - start >= 3 * WEFT_MS);
    CHECK(test_join_value(SPAWN(test_noop, env)) == env);
    int rc = 0;
    WEFT_TIMEOUT(2 * WEFT_MS)
        rc = weft_sleep(WEFT_NEVER);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(weft_yield(), 0);
    use_sockets(env);
    return env;
}

static void bp_05_jobs_use_the_runtime_they_belong_to(struct test_env *env)
{
    CHECK(test_join_value(spawn_job(use_the_runtime, env)) == env);
}

/* ---- BP-07 ---- */

static atomic_int ran, dropped;

static void *count_run(void *arg)
{
    atomic_fetch_add(&ran, 1);
    return arg;
}

static void count_drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&dropped, 1);
}

static void *submit_many(void *arg)
{
    struct test_env *env = arg;
    weft_spawn_options o = {.runtime = env->handle, .drop_arg = count_drop};
    for (int i = 0; i < 2000; i++)
        EXPECT_EQ(weft_spawn_blocking_with(&o, count_run, NULL, NULL), 0);
    return NULL;
}

static void bp_07_job_racing_with_shutdown_runs_or_is_cancelled(struct test_env *env)
{
    pthread_t thread;
    atomic_store(&ran, 0);
    atomic_store(&dropped, 0);
    CHECK_EQ(pthread_create(&thread, NULL, submit_many, env), 0);
    test_pause();
    test_shutdown(env);
    pthread_join(thread, NULL);
    CHECK_EQ(atomic_load(&ran) + atomic_load(&dropped), 2000);
}

static void *job_with_options(void *arg)
{
    CHECK_EQ(strcmp(weft_self_name(), "worker bee"), 0);
    return (void *)(uintptr_t)(*(int *)arg);
}

static void job_takes_name_and_copied_argument(struct test_env *env)
{
    int value = 5;
    weft_spawn_options o = {.name = "worker bee", .arg_bytes = sizeof(value)};
    weft_task *t;
    (void)env;
    CHECK_EQ(weft_spawn_blocking_with(&o, job_with_options, &value, &t), 0);
    value = 6;
    CHECK_EQ(strcmp(weft_task_name(t), "worker bee"), 0);
    CHECK_EQ((uintptr_t)test_join_value(t), 5);
}

/* ---- BI ---- */

struct in_place {
    atomic_int inside;
    atomic_bool may_leave;
};

static void *stay(void *arg)
{
    struct in_place *p = arg;
    atomic_fetch_add(&p->inside, 1);
    CHECK_SOON(atomic_load(&p->may_leave));
    return p;
}

static void *stay_in_place(void *arg)
{
    void *v = NULL;
    CHECK_EQ(weft_block_in_place(stay, arg, &v), 0);
    CHECK(v == arg);
    CHECK_EQ(weft_yield(), 0); /* goes on as a task */
    return NULL;
}

static void bi_01_other_tasks_run_while_every_worker_is_in_place(struct test_env *env)
{
    static weft_task *t[1000];
    struct in_place p = {.inside = 0};
    weft_task *blocked[5];
    int n = (int)test_workers(env) + 1;
    for (int i = 0; i < n; i++)
        blocked[i] = SPAWN(stay_in_place, &p);
    CHECK_SOON(atomic_load(&p.inside) == n);
    for (int i = 0; i < 1000; i++)
        t[i] = SPAWN(test_noop, &p);
    for (int i = 0; i < 1000; i++)
        CHECK(test_join_value(t[i]) == &p);
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    atomic_store(&p.may_leave, true);
    for (int i = 0; i < n; i++)
        (void)test_join_value(blocked[i]);
}

static void *nested_in_place(void *arg)
{
    void *v = NULL;
    CHECK_EQ(weft_block_in_place(test_noop, arg, &v), 0);
    return v;
}

static void bi_02_nests_and_works_where_it_has_nothing_to_do(struct test_env *env)
{
    void *v = NULL;
    weft_outcome o;
    CHECK_EQ(weft_block_in_place(nested_in_place, env, &v), 0); /* outside any runtime */
    CHECK(v == env);
    CHECK_EQ(weft_block_on(env->rt, nested_in_place, env, &o), 0); /* in a body */
    CHECK(o.kind == WEFT_OUTCOME_VALUE && o.value == env);
    weft_outcome_fini(&o);
}

static void bi_02_nests_in_a_task_and_in_a_job(struct test_env *env)
{
    void *v = NULL;
    CHECK_EQ(weft_block_in_place(nested_in_place, env, &v), 0);
    CHECK(v == env);
    CHECK(test_join_value(spawn_job(nested_in_place, env)) == env);
}

static void bi_02_on_a_current_thread_runtime_it_is_misuse(struct test_env *env)
{
    void *v = env;
    test_log_clear();
    CHECK_EQ(weft_block_in_place(test_noop, NULL, &v), -EPERM);
    EXPECT_LOGGED("weft_block_in_place");
    CHECK(v == env);
}

static void *enter_and_forget(void *h)
{
    weft_enter_guard gone;
    CHECK_EQ(weft_enter(h, &gone), 0);
    return h;
}

static void *destroy_runtime(void *rt)
{
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    return NULL;
}

static void a_guard_forgotten_in_place_is_reported(struct test_env *env)
{
    weft_runtime *other = test_runtime_create(env->flavour);
    weft_handle *h = weft_runtime_handle(other), *here;
    test_log_clear();
    CHECK_EQ(weft_block_in_place(enter_and_forget, h, NULL), 0);
    EXPECT_LOGGED("fn has not left the runtime that it entered");
    CHECK_EQ(weft_handle_current(&here), 0);
    EXPECT_EQ(weft_handle_runtime_id(here), weft_handle_runtime_id(env->handle));
    weft_handle_unref(here);
    CHECK_EQ(weft_block_in_place(nested_in_place, env, NULL), 0);
    CHECK_EQ(weft_block_in_place(destroy_runtime, other, NULL), 0);
    weft_handle_unref(h); /* the reference that was left behind */
    weft_handle_unref(h);
}

static void *sleep_a_little(void *arg)
{
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    return arg;
}

static void *block_on_again(void *arg)
{
    struct test_env *env = arg;
    weft_outcome o;
    weft_runtime *rt = test_runtime_create(TEST_CT);
    CHECK(test_block_on(rt, sleep_a_little, arg) == arg);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK_EQ(weft_handle_block_on(env->handle, sleep_a_little, arg, &o), 0);
    CHECK(o.value == arg);
    weft_outcome_fini(&o);
    return arg;
}

static void bi_03_block_on_inside_then_yield_afterwards(struct test_env *env)
{
    void *v = NULL;
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(weft_block_in_place(block_on_again, env, &v), 0);
        CHECK(v == env);
        CHECK_EQ(weft_yield(), 0);
    }
}

static void *body_that_blocks_in_place(void *arg)
{
    void *v = NULL;
    CHECK_EQ(weft_block_in_place(test_noop, arg, &v), 0);
    return v;
}

static void *block_on_in_place(void *arg)
{
    weft_outcome o;
    weft_handle *h;
    CHECK_EQ(weft_handle_current(&h), 0);
    CHECK_EQ(weft_handle_block_on(h, body_that_blocks_in_place, arg, &o), 0);
    weft_handle_unref(h);
    CHECK(o.kind == WEFT_OUTCOME_VALUE);
    return o.value;
}

static void *nest_three_deep(void *arg)
{
    void *v = NULL;
    CHECK_EQ(weft_block_in_place(block_on_in_place, arg, &v), 0);
    CHECK(v == arg);
    return NULL;
}

static void *nest_in_tasks(void *arg)
{
    weft_task *t[4];
    for (int i = 0; i < 4; i++)
        t[i] = SPAWN(nest_three_deep, arg);
    for (int i = 0; i < 4; i++)
        (void)test_join_value(t[i]);
    return NULL;
}

static void bi_04_nesting_with_one_blocking_thread_does_not_deadlock(struct test_env *env)
{
    on_runtime(TEST_MT1, 1, WEFT_SEC, nest_in_tasks, env);
    on_runtime(TEST_MT4, 1, WEFT_SEC, nest_in_tasks, env);
}

static void *set_flag(void *flag)
{
    atomic_store((atomic_bool *)flag, true);
    return NULL;
}

static void *await_flag_on_thread(void *flag)
{
    CHECK_SOON(atomic_load((atomic_bool *)flag));
    return NULL;
}

static void bi_05_task_in_the_next_slot_runs_during_the_block(struct test_env *env)
{
    void *unused;
    (void)env;
    for (int i = 0; i < 20; i++) {
        atomic_bool flag = false;
        weft_task *t = SPAWN(set_flag, &flag); /* in the slot of this worker, if anywhere */
        CHECK_EQ(weft_block_in_place(await_flag_on_thread, &flag, &unused), 0);
        (void)test_join_value(t);
    }
}

static void *look_at_ids(void *arg)
{
    uint64_t outer = *(uint64_t *)arg;
    CHECK_EQ(weft_self_id(), outer);
    weft_runtime *rt = test_runtime_create(TEST_CT);
    (void)test_block_on(rt, test_noop, NULL);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK_EQ(weft_self_id(), outer);
    return NULL;
}

static void bi_06_task_id_is_the_outer_one_again(struct test_env *env)
{
    uint64_t id = weft_self_id();
    void *unused;
    (void)env;
    CHECK_EQ(weft_block_in_place(look_at_ids, &id, &unused), 0);
    CHECK_EQ(weft_self_id(), id);
}

static void *panic_in_place(void *arg)
{
    void *unused;
    CHECK_EQ(weft_block_in_place(panicking_job, arg, &unused), 0);
    return NULL;
}

static void panic_inside_block_in_place_ends_the_task(struct test_env *env)
{
    for (int i = 0; i < 5; i++)
        CHECK_EQ(test_join_kind(SPAWN(panic_in_place, NULL)), WEFT_OUTCOME_PANICKED);
    CHECK(test_join_value(SPAWN(test_noop, env)) == env);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
}

/* Though it is raised on a thread that counts as a plain one meanwhile. */
static void a_panic_in_place_names_its_task(struct test_env *env)
{
    weft_spawn_options options = {.name = "in place"};
    weft_outcome o;
    weft_task *t;
    CHECK_EQ(weft_spawn_with(&options, panic_in_place, env, &t), 0);
    uint64_t id = weft_task_id(t);
    CHECK_EQ(weft_join(t, &o), 0);
    CHECK_EQ(o.kind, WEFT_OUTCOME_PANICKED);
    EXPECT_EQ(weft_panic_task_id(o.panic), id);
    weft_outcome_fini(&o);
    test_log_clear();
    CHECK_EQ(weft_spawn_with(&options, panic_in_place, env, NULL), 0);
    CHECK_SOON(test_log_took("\"in place\""));
}

static void *end_own_runtime(void *arg)
{
    struct test_env *env = arg;
    test_log_clear();
    EXPECT_EQ(weft_runtime_shutdown(env->rt, WEFT_SEC), -EPERM);
    EXPECT_LOGGED("weft_runtime_shutdown");
    EXPECT_EQ(weft_runtime_destroy(env->rt), -EPERM);
    EXPECT_LOGGED("weft_runtime_destroy");
    weft_runtime *other = test_runtime_create(TEST_MT1);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    return arg;
}

static void *join_caller(void *arg)
{
    _Atomic(weft_task *) *self = arg;
    CHECK_SOON(atomic_load(self) != NULL); /* by another worker, while the first is held up */
    test_log_clear();
    EXPECT_EQ(weft_join(atomic_load(self), NULL), -EDEADLK);
    EXPECT_LOGGED("weft_join: a task joins itself");
    weft_task *caller = atomic_load(self);
    EXPECT_EQ(weft_join_all(&caller, 1, NULL), -EDEADLK);
    EXPECT_LOGGED("weft_join_all: a task joins itself");
    EXPECT_EQ(weft_race(&caller, 1, NULL), -EDEADLK);
    EXPECT_LOGGED("weft_race: a task joins itself");
    return arg;
}

static void *join_caller_by_futures(void *arg)
{
    _Atomic(weft_task *) *self = arg;
    weft_join_future j;
    weft_join_all_future all;
    CHECK_SOON(atomic_load(self) != NULL);
    test_log_clear();
    weft_join_future_init(&j, atomic_load(self));
    EXPECT_EQ(weft_await(&j.future), -EDEADLK);
    EXPECT_LOGGED("weft_join: a task joins itself");
    weft_task *caller = atomic_load(self);
    weft_join_all_future_init(&all, &caller, 1, NULL);
    EXPECT_EQ(weft_await(&all.future), -EDEADLK);
    EXPECT_LOGGED("weft_join_all: a task joins itself");
    return arg;
}

struct bystander {
    weft_task *caller, *waits;
};

static void *join_from_beside(void *arg)
{
    struct bystander *b = arg;
    return (void *)(intptr_t)weft_join(b->caller, NULL);
}

static void *spawn_beside(void *arg)
{
    struct bystander *b = arg;
    CHECK_EQ(weft_spawn(join_from_beside, b, &b->waits), 0);
    CHECK_EQ(weft_yield(), 0); /* it waits */
    return arg;
}

struct driven {
    struct bystander by;
    weft_runtime *rt;
};

static void *drive_in_place(void *arg)
{
    struct driven *d = arg;
    CHECK_EQ(weft_block_on(d->rt, spawn_beside, &d->by, NULL), 0);
    return arg;
}

static void *call_drive_in_place(void *arg)
{
    void *v;
    CHECK_EQ(weft_block_in_place(drive_in_place, arg, &v), 0);
    return v;
}

static void *join_beside(void *arg)
{
    struct bystander *b = arg;
    return test_join_value(b->waits);
}

/* A task of another runtime, driven in place, may wait for the caller, which goes on first. */
static void a_task_driven_in_place_waits_for_who_drives(struct test_env *env)
{
    struct driven d = {.rt = test_runtime_create(TEST_CT)};
    weft_spawn_options o = {.runtime = env->handle};
    CHECK_EQ(weft_spawn_with(&o, call_drive_in_place, &d, &d.by.caller), 0);
    CHECK_SOON(weft_task_is_finished(d.by.caller));
    EXPECT(test_block_on(d.rt, join_beside, &d.by) == NULL); /* its weft_join() has said 0 */
    CHECK_EQ(weft_runtime_destroy(d.rt), 0);
}

static void *call_join_in_place(void *arg)
{
    void *v;
    CHECK_EQ(weft_block_in_place(join_caller, arg, &v), 0);
    CHECK_EQ(weft_block_in_place(join_caller_by_futures, arg, &v), 0);
    return v;
}

static void a_task_does_not_join_itself_in_place(struct test_env *env)
{
    weft_task *t;
    _Atomic(weft_task *) self = NULL;
    weft_spawn_options o = {.runtime = env->handle};
    CHECK_EQ(weft_spawn_with(&o, call_join_in_place, &self, &t), 0);
    atomic_store(&self, t);
    CHECK(test_join_value(t) == &self);
}

static void *await_caller(void *arg)
{
    _Atomic(weft_task *) *self = arg;
    CHECK_SOON(atomic_load(self) != NULL);
    weft_join_future f;
    weft_join_future_init(&f, atomic_load(self));
    test_log_clear();
    WEFT_TIMEOUT(20 * WEFT_SEC)
        EXPECT_EQ(weft_await(&f.future), -EDEADLK);
    EXPECT_LOGGED("weft_join: a task joins itself");
    weft_case c = weft_case_join(atomic_load(self));
    WEFT_TIMEOUT(20 * WEFT_SEC)
        EXPECT_EQ(weft_select(&c, 1), 0);
    EXPECT_EQ(c.rc, -EDEADLK);
    return arg;
}

static void *call_await_in_place(void *arg)
{
    void *v;
    CHECK_EQ(weft_block_in_place(await_caller, arg, &v), 0);
    return v;
}

static void a_task_does_not_await_itself_in_place(struct test_env *env)
{
    weft_task *t;
    _Atomic(weft_task *) self = NULL;
    weft_spawn_options o = {.runtime = env->handle};
    CHECK_EQ(weft_spawn_with(&o, call_await_in_place, &self, &t), 0);
    atomic_store(&self, t);
    CHECK(test_join_value(t) == &self);
}

/* It would wait for the task that it stands in. */
static void a_runtime_is_not_ended_by_a_task_of_its_own_in_place(struct test_env *env)
{
    void *v;
    CHECK_EQ(weft_block_in_place(end_own_runtime, env, &v), 0);
    CHECK_EQ(weft_yield(), 0);
}

/* ---- ID ---- */

static void *own_id(void *arg)
{
    uint64_t id = weft_self_id();
    (void)arg;
    CHECK_EQ(weft_self_try_id(), id);
    return (void *)(uintptr_t)id;
}

static void id_01_ids_are_unique_and_seen_alike(struct test_env *env)
{
    enum { N = 200 };
    static weft_task *t[N];
    static uint64_t id[N];
    (void)env;
    for (int i = 0; i < N; i++) {
        t[i] = SPAWN(own_id, NULL);
        id[i] = weft_task_id(t[i]);
        CHECK(id[i] != 0);
        for (int j = 0; j < i; j++)
            CHECK(id[i] != id[j]);
    }
    for (int i = 0; i < N; i++)
        CHECK_EQ((uintptr_t)test_join_value(t[i]), id[i]);
}

static void id_02_no_id_in_block_on(struct test_env *env)
{
    (void)env;
    test_log_clear();
    CHECK_EQ(weft_self_try_id(), 0);
    CHECK_EQ(test_log_count(""), 0);
    CHECK_EQ(weft_self_id(), 0);
    EXPECT_LOGGED("weft_self_id");
}

static void id_02_no_id_outside(struct test_env *env)
{
    id_02_no_id_in_block_on(env);
    CHECK_EQ(strcmp(weft_self_name(), ""), 0);
    CHECK(!weft_self_is_aborted());
    CHECK(!weft_self_is_panicking());
}

static void id_03_jobs_have_ids(struct test_env *env)
{
    (void)env;
    weft_task *t = spawn_job(own_id, NULL);
    uint64_t id = weft_task_id(t);
    CHECK(id != 0);
    CHECK_EQ((uintptr_t)test_join_value(t), id);
}

/* ---- the end of a runtime ---- */

static void *run_four_jobs(void *arg)
{
    weft_task *job[4];
    for (int i = 0; i < 4; i++)
        job[i] = spawn_job(test_noop, NULL);
    for (int i = 0; i < 4; i++)
        (void)test_join_value(job[i]);
    return arg;
}

/* Idle threads must not keep alive what the runtime had, not even for a moment. */
static void idle_threads_are_gone_with_the_runtime(struct test_env *env)
{
    (void)env;
    int before = test_count_fds();
    for (int i = 0; i < 50; i++) {
        on_runtime(TEST_MT1, 4, WEFT_NEVER, run_four_jobs, NULL);
        CHECK_EQ(test_count_fds(), before);
    }
}

static pthread_key_t at_thread_end;
static weft_runtime *ending_rt;
static atomic_int end_rc;

static void destroy_from_within(void *value)
{
    (void)value;
    atomic_store(&end_rc, weft_runtime_destroy(ending_rt));
}

static void *watch_thread_end(void *arg)
{
    CHECK_EQ(pthread_setspecific(at_thread_end, arg), 0);
    return NULL;
}

static void *run_watched_job(void *arg)
{
    (void)test_join_value(spawn_job(watch_thread_end, &at_thread_end));
    CHECK_SOON(atomic_load(&end_rc) != 0);
    return arg;
}

/* The runtime would wait for the end of that thread. */
static void a_thread_that_ends_may_not_end_its_runtime(struct test_env *env)
{
    weft_config c;
    (void)env;
    atomic_store(&end_rc, 0);
    CHECK_EQ(pthread_key_create(&at_thread_end, destroy_from_within), 0);
    test_config(&c, TEST_MT1);
    c.blocking_keep_alive_ns = WEFT_MS;
    CHECK_EQ(weft_runtime_create(&c, &ending_rt), 0);
    test_log_clear();
    (void)test_block_on(ending_rt, run_watched_job, NULL);
    CHECK_EQ(atomic_load(&end_rc), -EPERM);
    EXPECT_LOGGED("weft_runtime_destroy");
    CHECK_EQ(weft_runtime_destroy(ending_rt), 0);
    CHECK_EQ(pthread_key_delete(at_thread_end), 0);
}

/* Its workers end when it does, and its end waits for them. */
static void a_worker_that_ends_may_not_end_its_runtime(struct test_env *env)
{
    (void)env;
    atomic_store(&end_rc, 0);
    CHECK_EQ(pthread_key_create(&at_thread_end, destroy_from_within), 0);
    ending_rt = test_runtime_create(TEST_MT1);
    weft_handle *h = weft_runtime_handle(ending_rt);
    weft_task *task = SPAWN_ON(h, watch_thread_end, &at_thread_end);
    CHECK_SOON(weft_task_is_finished(task));
    weft_task_detach(task);
    test_log_clear();
    CHECK_EQ(weft_runtime_destroy(ending_rt), 0);
    EXPECT_EQ(atomic_load(&end_rc), -EPERM);
    EXPECT_LOGGED("weft_runtime_destroy");
    weft_handle_unref(h);
    CHECK_EQ(pthread_key_delete(at_thread_end), 0);
}

TEST_MAIN(IN_TASK(bp_01_value_comes_through_join_and_threads_are_reused),
          IN_TASK(bp_02_panic_in_a_job_is_joined_as_panic), PLAIN(bp_03_pool_grows_to_its_maximum),
          PLAIN(bp_03_a_burst_of_jobs_runs_all_at_once),
          PLAIN(bp_03_idle_threads_end_after_the_keep_alive), PLAIN(bp_04_no_job_is_stranded),
          PLAIN(a_job_behind_one_that_blocks_all_of_a_sudden_runs),
          IN_TASK(bp_05_jobs_use_the_runtime_they_belong_to),
          ON_MAIN(bp_07_job_racing_with_shutdown_runs_or_is_cancelled),
          PLAIN(bp_08_jobs_at_the_cap_run_once_a_thread_is_free),
          IN_TASK(job_takes_name_and_copied_argument),
          IN_TASK_ON(bi_01_other_tasks_run_while_every_worker_is_in_place, TEST_MT4),
          ON_MAIN_ON(bi_02_nests_and_works_where_it_has_nothing_to_do, TEST_MT1),
          IN_TASK_ON(bi_02_nests_in_a_task_and_in_a_job, TEST_MT1),
          IN_TASK_ON(bi_02_on_a_current_thread_runtime_it_is_misuse, TEST_CT),
          IN_TASK_ON(a_guard_forgotten_in_place_is_reported, TEST_MT1),
          IN_TASK_ON(bi_03_block_on_inside_then_yield_afterwards, TEST_MT1),
          PLAIN(bi_04_nesting_with_one_blocking_thread_does_not_deadlock),
          IN_TASK_ON(bi_05_task_in_the_next_slot_runs_during_the_block, TEST_MT1),
          IN_TASK_ON(bi_06_task_id_is_the_outer_one_again, TEST_MT1),
          IN_TASK_ON(a_task_does_not_join_itself_in_place, TEST_MT1),
          IN_TASK_ON(a_task_does_not_await_itself_in_place, TEST_MT1),
          ON_MAIN_ON(a_task_driven_in_place_waits_for_who_drives, TEST_MT1),
          IN_TASK_ON(a_runtime_is_not_ended_by_a_task_of_its_own_in_place, TEST_MT1),
          IN_TASK_ON(panic_inside_block_in_place_ends_the_task, TEST_MT1),
          IN_TASK_ON(a_panic_in_place_names_its_task, TEST_MT1),
          IN_TASK(id_01_ids_are_unique_and_seen_alike), IN_BODY(id_02_no_id_in_block_on),
          PLAIN(id_02_no_id_outside), IN_TASK(id_03_jobs_have_ids),
          PLAIN(idle_threads_are_gone_with_the_runtime),
          PLAIN(a_thread_that_ends_may_not_end_its_runtime),
          PLAIN(a_worker_that_ends_may_not_end_its_runtime))
