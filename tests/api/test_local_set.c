/* ctest: parallel */
/*
 * Local sets: where their tasks run, who drives them, what wakes them, how they end.
 */
#include "harness.h"
#include "local.h"
#include "socks.h"
#include "sync.h"

#include <weft/local.h>
#include <weft/net.h>
#include <weft/panic.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* ---- where tasks run ---- */

struct home {
    pthread_t thread;
    unsigned depth;
    atomic_uint ran;
};

static void *deep(void *arg)
{
    struct home *h = arg;
    EXPECT(is_on(h->thread));
    atomic_fetch_add(&h->ran, 1);
    if (h->depth-- > 0) {
        CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(test_join_value(spawn_local(deep, h)), h);
    }
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    EXPECT(is_on(h->thread));
    return h;
}

static void *deep_body(void *arg)
{
    return test_join_value(spawn_local(deep, arg));
}

static void ls_01_local_tasks_stay_on_the_driving_thread(struct test_env *env)
{
    (void)env;
    struct home h = {.thread = pthread_self(), .depth = 10};
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, deep_body, &h), &h);
    EXPECT_EQ(atomic_load(&h.ran), 11);
    set_destroy(set);
}

static void *where_am_i(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weft_worker_index();
}

static void *spawn_plainly(void *arg)
{
    struct test_env *env = arg;
    weft_handle *here;
    CHECK_EQ(weft_handle_current(&here), 0);
    EXPECT_EQ(weft_handle_runtime_id(here), weft_handle_runtime_id(env->handle));
    weft_handle_unref(here);
    EXPECT_EQ(weft_worker_index(), env->flavour == TEST_CT ? 0 : -1);
    EXPECT((intptr_t)test_join_value(SPAWN(where_am_i, NULL)) >= 0);
    /* In the other task a local spawn would be misuse: it belongs to no set. */
    return NULL;
}

static void *spawn_plainly_body(void *arg)
{
    return test_join_value(spawn_local(spawn_plainly, arg));
}

static void ls_01_other_spawns_go_to_the_workers(struct test_env *env)
{
    weft_local_set *set = set_create();
    run_until(set, spawn_plainly_body, env);
    set_destroy(set);
}

/* ---- driving ---- */

static void *spawn_chain(void *arg)
{
    unsigned *left = arg;
    CHECK_EQ(weft_yield(), 0);
    if (--*left > 0)
        CHECK_EQ(weft_spawn_local(spawn_chain, left, NULL), 0);
    return NULL;
}

static void ls_02_wait_ends_with_the_last_task(struct test_env *env)
{
    (void)env;
    unsigned left[3] = {1, 20, 300};
    weft_local_set *set = set_create();
    EXPECT_EQ(weft_local_set_wait(set), 0); /* no task: at once */
    for (int i = 0; i < 3; i++)
        CHECK_EQ(weft_spawn_local_on(set, spawn_chain, &left[i], NULL), 0);
    EXPECT_EQ(weft_local_set_alive(set), 3);
    EXPECT_EQ(weft_local_set_wait(set), 0);
    EXPECT_EQ(weft_local_set_alive(set), 0);
    EXPECT_EQ(left[0] + left[1] + left[2], 0);
    set_destroy(set);
}

static void *wait_on_gate(void *arg)
{
    return (void *)(intptr_t)gate_wait(arg);
}

static void *open_gate(void *arg)
{
    gate_open(arg);
    return NULL;
}

static void ls_03_others_remain_and_go_on_at_the_next_drive(struct test_env *env)
{
    (void)env;
    struct gate gate;
    gate_init(&gate);
    weft_local_set *set = set_create();
    weft_task *t = spawn_on(set, wait_on_gate, &gate);
    EXPECT_EQ(run_until(set, yield_twice, set), set);
    EXPECT(!weft_task_is_finished(t));
    gate_open(&gate);
    CHECK_EQ(weft_yield(), 0);
    EXPECT(!weft_task_is_finished(t)); /* woken, but nobody drives */
    EXPECT_EQ(run_until(set, join_body, t), NULL);
    set_destroy(set);
    gate_fini(&gate);
}

static void *count_up(void *arg)
{
    atomic_fetch_add((atomic_uint *)arg, 1);
    return arg;
}

static void ls_04_spawned_before_runs_when_driven(struct test_env *env)
{
    (void)env;
    atomic_uint ran = 0;
    weft_local_set *set = set_create();
    weft_task *t = spawn_on(set, count_up, &ran);
    CHECK_EQ(weft_yield(), 0);
    EXPECT_EQ(atomic_load(&ran), 0);
    EXPECT_EQ(run_until(set, join_body, t), &ran);
    EXPECT_EQ(atomic_load(&ran), 1);
    set_destroy(set);
}

/* Opens the gate of a set that is parked, later. */
static void *open_from_thread(void *arg)
{
    usleep(20000);
    gate_open(arg);
    return NULL;
}

static void *parked_body(void *arg)
{
    struct gate *gate = arg;
    weft_task *inner = spawn_local(wait_on_gate, gate);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, open_from_thread, gate), 0);
    EXPECT_EQ(test_join_value(inner), NULL);
    pthread_join(thread, NULL);
    return gate;
}

static void ls_04_a_wake_from_another_thread_wakes_a_parked_set(struct test_env *env)
{
    (void)env;
    struct gate gate;
    gate_init(&gate);
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, parked_body, &gate), &gate);
    set_destroy(set);
    gate_fini(&gate);
}

struct late {
    weft_local_set *set;
    struct gate gate;
    uint64_t delay_ns;
};

static void *spawn_late(void *arg)
{
    struct late *l = arg;
    CHECK_EQ(weft_sleep(l->delay_ns), 0);
    CHECK_EQ(weft_spawn_local_on(l->set, open_gate, &l->gate, NULL), 0);
    return NULL;
}

/* Another task on the home thread spawns while the driver is parked. */
static void ls_04_a_spawn_from_outside_wakes_a_parked_set(struct test_env *env)
{
    (void)env;
    struct late l = {.set = set_create(), .delay_ns = 10 * WEFT_MS};
    gate_init(&l.gate);
    weft_task *t = SPAWN(spawn_late, &l);
    EXPECT_EQ(run_until(l.set, wait_on_gate, &l.gate), NULL);
    EXPECT_EQ(test_join_value(t), NULL);
    set_destroy(l.set);
    gate_fini(&l.gate);
}

static void *tell_thread(void *arg)
{
    pthread_t *ret = arg;
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
    *ret = pthread_self();
    return ret;
}

struct remote_join {
    weft_task *task;
    pthread_t joiner, runner;
};

static void *join_remotely(void *arg)
{
    struct remote_join *r = arg;
    r->joiner = pthread_self();
    EXPECT_EQ(test_join_value(r->task), &r->runner);
    return arg;
}

static void ls_05_a_task_elsewhere_joins(struct test_env *env)
{
    pthread_t home = pthread_self();
    struct remote_join r = {0};
    weft_local_set *set = set_create();
    r.task = spawn_on(set, tell_thread, &r.runner);
    weft_task *joiner = SPAWN(join_remotely, &r);
    EXPECT_EQ(run_until(set, join_body, joiner), &r);
    EXPECT(pthread_equal(r.runner, home));
    if (env->flavour != TEST_CT)
        EXPECT(!pthread_equal(r.joiner, home));
    set_destroy(set);
}

/* ---- the end of a set ---- */

static void *wake_late(void *waker)
{
    weft_waker_wake_unref(waker);
    return NULL;
}

static void ls_06_release_cancels_and_cleans_up_at_home(struct test_env *env)
{
    (void)env;
    struct cleaned c = {.thread = pthread_self()};
    weft_local_set *set = set_create();
    weft_task *t = spawn_on(set, wait_for_ever, &c);
    weft_task *unstarted;
    run_until(set, yield_twice, NULL);
    unstarted = spawn_on(set, test_noop, NULL);
    CHECK(c.waker != NULL);
    set_destroy(set);
    EXPECT_EQ(c.cleanups, 1);
    EXPECT_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    EXPECT_EQ(test_join_kind(unstarted), WEFT_OUTCOME_CANCELLED);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, wake_late, c.waker), 0);
    pthread_join(thread, NULL);
}

/* Wakes keep arriving from another thread while the set ends. */
struct storm {
    weft_waker *waker;
    atomic_bool stop;
};

static void *wake_all_the_time(void *arg)
{
    struct storm *s = arg;
    while (!atomic_load(&s->stop))
        weft_waker_wake(s->waker);
    weft_waker_unref(s->waker);
    return NULL;
}

static void ls_06_wakes_during_release_are_harmless(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(50); i++) {
        struct cleaned c = {.thread = pthread_self()};
        weft_local_set *set = set_create();
        CHECK_EQ(weft_spawn_local_on(set, wait_for_ever, &c, NULL), 0);
        run_until(set, yield_twice, NULL);
        struct storm s = {.waker = c.waker};
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, wake_all_the_time, &s), 0);
        set_destroy(set);
        EXPECT_EQ(c.cleanups, 1);
        atomic_store(&s.stop, true);
        pthread_join(thread, NULL);
    }
}

struct pair {
    struct oneshot to_other;
    bool sent, got;
};

static void *send_in_cleanup(void *arg)
{
    struct pair *p = arg;
    EXPECT_EQ(test_forever(NULL), NULL);
    oneshot_send(&p->to_other, p);
    p->sent = true;
    return NULL;
}

static void *receive_in_cleanup(void *arg)
{
    struct pair *p = arg;
    EXPECT_EQ(test_forever(NULL), NULL);
    void *value = NULL;
    WEFT_SHIELD
        p->got = oneshot_recv(&p->to_other, &value) == 0 && value == p;
    return NULL;
}

static void ls_07_cleanup_that_wakes_another_ones(struct test_env *env)
{
    (void)env;
    for (int order = 0; order < 2; order++) {
        struct pair p = {0};
        oneshot_init(&p.to_other);
        weft_local_set *set = set_create();
        CHECK_EQ(weft_spawn_local_on(set, order ? send_in_cleanup : receive_in_cleanup, &p, NULL),
                 0);
        CHECK_EQ(weft_spawn_local_on(set, order ? receive_in_cleanup : send_in_cleanup, &p, NULL),
                 0);
        run_until(set, yield_twice, NULL);
        set_destroy(set);
        EXPECT(p.sent && p.got);
        oneshot_fini(&p.to_other);
    }
}

/* A cleanup that waits for a task of the runtime, which goes on meanwhile. */
static void *sleep_then_open(void *arg)
{
    CHECK_EQ(weft_sleep(10 * WEFT_MS), 0);
    gate_open(arg);
    return NULL;
}

static void *wait_in_cleanup(void *arg)
{
    EXPECT_EQ(test_forever(NULL), NULL);
    WEFT_SHIELD
        EXPECT_EQ(gate_wait(arg), 0);
    return NULL;
}

static void ls_07_release_waits_for_cleanup_that_waits(struct test_env *env)
{
    (void)env;
    struct gate gate;
    gate_init(&gate);
    weft_local_set *set = set_create();
    weft_task *t = spawn_on(set, wait_in_cleanup, &gate);
    run_until(set, yield_twice, NULL);
    weft_task *opener = SPAWN(sleep_then_open, &gate);
    set_destroy(set);
    EXPECT_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    EXPECT_EQ(test_join_value(opener), NULL);
    gate_fini(&gate);
}

static void *spin_aborted(void *arg)
{
    unsigned *unwound = arg;
    for (;;)
        if (weft_sleep(WEFT_MS) == -ECANCELED)
            *unwound = 1; /* and goes on: only unwinding ends it */
    return NULL;
}

static void ls_06_a_task_that_ignores_it_is_unwound(struct test_env *env)
{
    (void)env;
    unsigned seen = 0;
    weft_local_set_config c;
    weft_local_set_config_init(&c);
    c.shutdown_grace_ns = 20 * WEFT_MS;
    weft_local_set *set;
    CHECK_EQ(weft_local_set_create(&c, &set), 0);
    weft_task *t = spawn_on(set, spin_aborted, &seen);
    run_until(set, yield_twice, NULL);
    set_destroy(set);
    EXPECT_EQ(seen, 1);
    EXPECT_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
}

/* ---- wakes from elsewhere ---- */

#define WAKES 500

struct many {
    struct gate gates[WAKES];
    atomic_uint done;
};

static void *many_wait(void *arg)
{
    struct many *m = arg;
    unsigned i = atomic_fetch_add(&m->done, 1);
    CHECK_EQ(gate_wait(&m->gates[i]), 0);
    return NULL;
}

static void *open_all(void *arg)
{
    struct many *m = arg;
    for (unsigned i = 0; i < WAKES; i++)
        gate_open(&m->gates[i]);
    return NULL;
}

static void *many_body(void *arg)
{
    struct many *m = arg;
    weft_task *tasks[WAKES];
    for (unsigned i = 0; i < WAKES; i++)
        tasks[i] = spawn_local(many_wait, m);
    while (atomic_load(&m->done) < WAKES)
        CHECK_EQ(weft_yield(), 0);
    /* No tick in between: the body does not wait. */
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, open_all, m), 0);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < WAKES; i++)
        EXPECT_EQ(test_join_value(tasks[i]), NULL);
    return m;
}

static void ls_08_500_wakes_between_ticks_are_served(struct test_env *env)
{
    (void)env;
    static struct many m;
    atomic_store(&m.done, 0);
    for (unsigned i = 0; i < WAKES; i++)
        gate_init(&m.gates[i]);
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, many_body, &m), &m);
    set_destroy(set);
    for (unsigned i = 0; i < WAKES; i++)
        gate_fini(&m.gates[i]);
}

/* ---- without a runtime ---- */

static void *spawn_nowhere(void *arg)
{
    EXPECT_EQ(weft_spawn(test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("weft_spawn: ");
    weft_handle *h;
    EXPECT_EQ(weft_handle_try_current(&h), -EPERM);
    return arg;
}

static void ls_09_entering_permits_spawns_before_any_runtime(struct test_env *env)
{
    (void)env;
    weft_local_set *set = set_create();
    weft_enter_guard g;
    atomic_uint ran = 0;
    EXPECT_EQ(weft_spawn_local(count_up, &ran, NULL), -EPERM);
    EXPECT_LOGGED("weft_spawn_local: ");
    CHECK_EQ(weft_local_set_enter(set, &g), 0);
    CHECK_EQ(weft_spawn_local(count_up, &ran, NULL), 0);
    EXPECT_EQ(weft_local_set_destroy(set), -EPERM);
    EXPECT_LOGGED("the set is entered");
    CHECK_EQ(weft_leave(&g), 0);
    EXPECT_EQ(weft_spawn_local(count_up, &ran, NULL), -EPERM);
    test_log_clear();
    EXPECT_EQ(atomic_load(&ran), 0);
    /* Nor is one needed for driving. */
    EXPECT_EQ(run_until(set, nap_body, set), set);
    EXPECT_EQ(atomic_load(&ran), 1);
    EXPECT_EQ(run_until(set, spawn_nowhere, set), set);
    CHECK_EQ(weft_spawn_local_on(set, spawn_nowhere, set, NULL), 0);
    EXPECT_EQ(weft_local_set_wait(set), 0);
    set_destroy(set);
}

static void ls_09_a_set_survives_the_runtimes_that_drive_it(struct test_env *env)
{
    (void)env;
    struct gate gate;
    gate_init(&gate);
    weft_local_set *set = set_create();
    weft_task *t = spawn_on(set, wait_on_gate, &gate);
    static const enum test_flavour flavours[] = {TEST_CT, TEST_MT1, TEST_MT4};
    for (int i = 0; i < 3; i++) {
        weft_runtime *rt = test_runtime_create(flavours[i]);
        weft_handle *h = weft_runtime_handle(rt);
        weft_enter_guard g;
        CHECK_EQ(weft_enter(h, &g), 0);
        EXPECT_EQ(run_until(set, yield_twice, &gate), &gate);
        CHECK_EQ(weft_leave(&g), 0);
        weft_handle_unref(h);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
    gate_open(&gate);
    EXPECT_EQ(run_until(set, join_body, t), NULL);
    set_destroy(set);
    gate_fini(&gate);
}

/* ---- timers, sockets, blocking jobs ---- */

static void *echo_once(void *arg)
{
    weft_tcp *conn = arg;
    char buf[8];
    ssize_t n = weft_tcp_read(conn, buf, sizeof buf);
    EXPECT_EQ(n, 5);
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    EXPECT_EQ(weft_tcp_write(conn, buf, (size_t)n), n);
    return NULL;
}

static void *sockets(void *arg)
{
    weft_tcp *conn;
    int fd;
    char buf[8];
    socks_raw_pair(&conn, &fd);
    weft_task *t = spawn_local(echo_once, conn);
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0); /* it waits for the socket */
    socks_raw_write(fd, "hello", 5);
    EXPECT_EQ(test_join_value(t), NULL);
    socks_raw_read(fd, buf, 5);
    EXPECT(memcmp(buf, "hello", 5) == 0);
    close(fd);
    CHECK_EQ(weft_tcp_close(conn), 0);
    return arg;
}

static void *sockets_body(void *arg)
{
    return test_join_value(spawn_local(sockets, arg));
}

static void ls_10_timers_and_sockets_work(struct test_env *env)
{
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, sockets_body, env), env);
    EXPECT_EQ(run_until(set, nap_body, env), env);
    set_destroy(set);
}

static void *is_misuse_in_place(void *arg)
{
    void *value;
    EXPECT_EQ(weft_block_in_place(test_noop, NULL, &value), -EPERM);
    EXPECT_LOGGED("weft_block_in_place: ");
    return arg;
}

static void block_in_cleanup(void *arg)
{
    (void)is_misuse_in_place(arg);
}

static void *block_in_place_everywhere(void *arg)
{
    WEFT_DEFER(block_in_cleanup, arg);
    (void)is_misuse_in_place(arg);
    EXPECT_EQ(test_join_value(spawn_local(is_misuse_in_place, arg)), arg);
    return arg;
}

static void ls_11_block_in_place_is_misuse(struct test_env *env)
{
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, block_in_place_everywhere, env), env);
    set_destroy(set);
    if (env->flavour != TEST_CT)
        EXPECT_EQ(weft_block_in_place(test_noop, NULL, NULL), 0); /* outside it is none */
}

static void *id_of_job(void *arg)
{
    struct home *h = arg;
    EXPECT(!is_on(h->thread));
    EXPECT(weft_self_id() != 0);
    return (void *)(uintptr_t)weft_self_id();
}

static void *use_the_pool(void *arg)
{
    struct home *h = arg;
    uint64_t own = weft_self_id();
    weft_task *job;
    CHECK_EQ(weft_spawn_blocking(id_of_job, h, &job), 0);
    uint64_t id = weft_task_id(job);
    EXPECT_EQ((uintptr_t)test_join_value(job), id);
    EXPECT(is_on(h->thread));
    EXPECT_EQ(weft_self_id(), own);
    EXPECT(own != id && own != 0);
    return h;
}

static void *use_the_pool_body(void *arg)
{
    return test_join_value(spawn_local(use_the_pool, arg));
}

static void ls_12_blocking_jobs_run_elsewhere(struct test_env *env)
{
    (void)env;
    struct home h = {.thread = pthread_self()};
    weft_local_set *set = set_create();
    EXPECT_EQ(run_until(set, use_the_pool_body, &h), &h);
    weft_spawn_options o = {.local_set = set};
    EXPECT_EQ(weft_spawn_blocking_with(&o, test_noop, NULL, NULL), -EINVAL);
    EXPECT_LOGGED("weft_spawn_blocking: ");
    set_destroy(set);
}

static void id_03_local_tasks_and_jobs_have_ids(struct test_env *env)
{
    ls_12_blocking_jobs_run_elsewhere(env);
}

/* ---- sets inside sets ---- */

static void *own_id(void *arg)
{
    uint64_t *ret = arg;
    *ret = weft_self_id();
    CHECK_EQ(weft_yield(), 0);
    EXPECT_EQ(*ret, weft_self_id());
    return ret;
}

static void *inner_body(void *arg)
{
    uint64_t before = weft_self_try_id(), inner = 0;
    EXPECT_EQ(before, *(uint64_t *)arg);
    weft_task *t = spawn_local(own_id, &inner);
    uint64_t id = weft_task_id(t);
    EXPECT_EQ(test_join_value(t), &inner);
    EXPECT_EQ(inner, id);
    EXPECT(inner != before);
    EXPECT_EQ(weft_self_try_id(), before);
    return arg;
}

static void *outer_task(void *arg)
{
    weft_local_set *inner = set_create();
    uint64_t id = weft_self_id();
    EXPECT_EQ(run_until(inner, inner_body, &id), &id);
    EXPECT_EQ(weft_self_id(), id);
    set_destroy(inner);
    EXPECT_EQ(weft_self_id(), id);
    return arg;
}

static void *outer_body(void *arg)
{
    /* Both sets are driven: the task of the outer one ends while the body drives the inner one. */
    weft_task *t = spawn_local(own_id, &(uint64_t){0});
    weft_local_set *inner = set_create();
    EXPECT_EQ(run_until(inner, join_body, t) != NULL, true);
    set_destroy(inner);
    return test_join_value(spawn_local(outer_task, arg));
}

static void ls_13_nested_sets_restore_ids(struct test_env *env)
{
    weft_local_set *set = set_create();
    uint64_t id = weft_self_try_id();
    EXPECT_EQ(run_until(set, outer_body, env), env);
    EXPECT_EQ(weft_self_try_id(), id);
    set_destroy(set);
}

/* ---- in a thread-local ---- */

static pthread_key_t key;
static unsigned tls_destroyed;

static void destroy_in_tls(void *arg)
{
    EXPECT_EQ(weft_local_set_destroy(arg), 0);
    tls_destroyed++;
}

struct tls {
    struct cleaned c;
    bool with_runtime;
};

static void *tls_drive(void *arg)
{
    return run_until(pthread_getspecific(key), yield_twice, arg);
}

static void *tls_thread(void *arg)
{
    struct tls *tls = arg;
    tls->c.thread = pthread_self();
    CHECK_EQ(pthread_setspecific(key, set_create()), 0);
    CHECK_EQ(weft_spawn_local_on(pthread_getspecific(key), wait_for_ever, &tls->c, NULL), 0);
    if (tls->with_runtime) {
        weft_runtime *rt = test_runtime_create(TEST_CT);
        EXPECT_EQ(test_block_on(rt, tls_drive, arg), arg);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    } else {
        EXPECT_EQ(tls_drive(arg), arg);
    }
    return NULL;
}

static void ls_14_a_set_in_a_thread_local_dies_with_its_thread(struct test_env *env)
{
    (void)env;
    CHECK_EQ(pthread_key_create(&key, destroy_in_tls), 0);
    tls_destroyed = 0;
    for (int i = 0; i < 2; i++) {
        struct tls tls = {.with_runtime = i};
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, tls_thread, &tls), 0);
        pthread_join(thread, NULL);
        EXPECT_EQ(tls_destroyed, i + 1);
        EXPECT_EQ(tls.c.cleanups, 1);
        weft_waker_wake_unref(tls.c.waker);
    }
    pthread_key_delete(key);
}

TEST_MAIN(IN_BODY(ls_01_local_tasks_stay_on_the_driving_thread),
          IN_BODY(ls_01_other_spawns_go_to_the_workers),
          IN_BODY(ls_02_wait_ends_with_the_last_task), PLAIN(ls_02_wait_ends_with_the_last_task),
          IN_BODY(ls_03_others_remain_and_go_on_at_the_next_drive),
          IN_BODY(ls_04_spawned_before_runs_when_driven),
          IN_BODY(ls_04_a_wake_from_another_thread_wakes_a_parked_set),
          PLAIN(ls_04_a_wake_from_another_thread_wakes_a_parked_set),
          IN_BODY_ON(ls_04_a_spawn_from_outside_wakes_a_parked_set, TEST_CT),
          IN_BODY(ls_05_a_task_elsewhere_joins),
          IN_BODY(ls_06_release_cancels_and_cleans_up_at_home),
          IN_BODY(ls_06_wakes_during_release_are_harmless),
          PLAIN(ls_06_wakes_during_release_are_harmless),
          IN_BODY(ls_06_a_task_that_ignores_it_is_unwound),
          IN_BODY(ls_07_cleanup_that_wakes_another_ones),
          PLAIN(ls_07_cleanup_that_wakes_another_ones),
          IN_BODY(ls_07_release_waits_for_cleanup_that_waits),
          IN_BODY(ls_08_500_wakes_between_ticks_are_served),
          PLAIN(ls_08_500_wakes_between_ticks_are_served),
          PLAIN(ls_09_entering_permits_spawns_before_any_runtime),
          PLAIN(ls_09_a_set_survives_the_runtimes_that_drive_it),
          IN_BODY(ls_10_timers_and_sockets_work), IN_BODY(ls_11_block_in_place_is_misuse),
          IN_BODY(ls_12_blocking_jobs_run_elsewhere), IN_BODY(id_03_local_tasks_and_jobs_have_ids),
          IN_BODY(ls_13_nested_sets_restore_ids), PLAIN(ls_13_nested_sets_restore_ids),
          IN_TASK_ON(ls_13_nested_sets_restore_ids, TEST_CT),
          PLAIN(ls_14_a_set_in_a_thread_local_dies_with_its_thread))
