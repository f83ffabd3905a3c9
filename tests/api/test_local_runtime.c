/* ctest: parallel */
/*
 * The local runtime: a current_thread runtime that belongs to one thread.
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
#include <unistd.h>

static weft_runtime *local_runtime(void)
{
    weft_config c;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_LOCAL;
    weft_runtime *rt;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    return rt;
}

static void *where(void *arg)
{
    EXPECT(is_on(*(pthread_t *)arg));
    EXPECT_EQ(weft_worker_index(), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    EXPECT(is_on(*(pthread_t *)arg));
    return arg;
}

static void *join_value(void *task)
{
    return test_join_value(task);
}

static void *read_byte(void *conn)
{
    char c = 0;
    EXPECT_EQ(weft_tcp_read(conn, &c, 1), 1);
    return (void *)(intptr_t)c;
}

static void *everything(void *arg)
{
    weft_task *t;
    CHECK_EQ(weft_spawn_local(where, arg, &t), 0);
    EXPECT(weft_task_id(t) != 0);
    EXPECT_EQ(test_join_value(t), arg);
    EXPECT_EQ(test_join_value(SPAWN(where, arg)), arg);
    weft_tcp *conn;
    int fd;
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_spawn_local(read_byte, conn, &t), 0);
    socks_raw_write(fd, "x", 1);
    EXPECT_EQ((intptr_t)test_join_value(t), 'x');
    close(fd);
    CHECK_EQ(weft_tcp_close(conn), 0);
    return arg;
}

static void rt_16_a_third_flavour_bound_to_its_thread(struct test_env *env)
{
    (void)env;
    pthread_t here = pthread_self();
    weft_runtime *rt = local_runtime();
    EXPECT_EQ(test_block_on(rt, everything, &here), &here);
    weft_metrics m;
    weft_handle *h = weft_runtime_handle(rt);
    EXPECT_EQ(weft_metrics_get(h, &m), 0);
    EXPECT_EQ(m.workers, 1);
    EXPECT_EQ(m.alive_tasks, 0);
    weft_handle_unref(h);
    EXPECT_EQ(weft_runtime_destroy(rt), 0);
}

static int run_main(void *arg)
{
    weft_task *t;
    CHECK_EQ(weft_spawn_local(where, arg, &t), 0);
    EXPECT_EQ(test_join_value(t), arg);
    /* Not joined: weft_run waits for it. */
    CHECK_EQ(weft_spawn_local(where, arg, NULL), 0);
    return 7;
}

static void rt_16_weft_run_on_it(struct test_env *env)
{
    (void)env;
    pthread_t here = pthread_self();
    weft_config c;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_LOCAL;
    EXPECT_EQ(weft_run_with(&c, run_main, &here), 7);
}

/* ---- where spawn_local is legal ---- */

static void lr_01_from_body_handle_guard_and_runtime(struct test_env *env)
{
    (void)env;
    pthread_t here = pthread_self();
    weft_runtime *rt = local_runtime();
    weft_handle *h = weft_runtime_handle(rt);
    weft_task *by_handle, *by_guard;
    weft_enter_guard g;
    /* body: rt_16; handle: */
    weft_spawn_options o = {.runtime = h};
    CHECK_EQ(weft_spawn_local_with(&o, where, &here, &by_handle), 0);
    /* guard: */
    CHECK_EQ(weft_enter(h, &g), 0);
    CHECK_EQ(weft_spawn_local(where, &here, &by_guard), 0);
    CHECK_EQ(weft_leave(&g), 0);
    EXPECT_EQ(weft_spawn_local(where, &here, NULL), -EPERM);
    EXPECT_LOGGED("weft_spawn_local: ");
    EXPECT_EQ(test_block_on(rt, join_value, by_handle), &here);
    EXPECT_EQ(test_block_on(rt, join_value, by_guard), &here);
    weft_handle_unref(h);
    EXPECT_EQ(weft_runtime_destroy(rt), 0);
}

/* The innermost guard counts, of a set or of a runtime. */
static void lr_01_the_innermost_guard_counts(struct test_env *env)
{
    (void)env;
    pthread_t here = pthread_self();
    weft_runtime *rt = local_runtime();
    weft_handle *h = weft_runtime_handle(rt);
    weft_local_set *set;
    CHECK_EQ(weft_local_set_create(NULL, &set), 0);
    weft_enter_guard outer, inner;
    weft_metrics m;
    CHECK_EQ(weft_local_set_enter(set, &outer), 0);
    CHECK_EQ(weft_enter(h, &inner), 0);
    CHECK_EQ(weft_spawn_local(where, &here, NULL), 0);
    EXPECT_EQ(weft_local_set_alive(set), 0);
    CHECK_EQ(weft_leave(&inner), 0);
    CHECK_EQ(weft_spawn_local(where, &here, NULL), 0);
    EXPECT_EQ(weft_local_set_alive(set), 1);
    EXPECT_EQ(weft_metrics_get(h, &m), 0);
    EXPECT_EQ(m.alive_tasks, 1);
    CHECK_EQ(weft_leave(&outer), 0);
    EXPECT_EQ(weft_local_set_destroy(set), 0);
    weft_handle_unref(h);
    EXPECT_EQ(weft_runtime_destroy(rt), 0);
}

struct elsewhere {
    weft_runtime *rt;
    weft_handle *handle;
    pthread_t home;
    weft_task *task;
};

static void *use_elsewhere(void *arg)
{
    struct elsewhere *e = arg;
    weft_enter_guard g;
    CHECK_EQ(weft_enter(e->handle, &g), 0);
    EXPECT_EQ(weft_spawn_local(where, &e->home, NULL), -EPERM);
    EXPECT_LOGGED("weft_spawn_local: ");
    CHECK_EQ(weft_spawn(where, &e->home, &e->task), 0);
    CHECK_EQ(weft_leave(&g), 0);
    weft_spawn_options o = {.runtime = e->handle};
    EXPECT_EQ(weft_spawn_local_with(&o, where, &e->home, NULL), -EPERM);
    EXPECT_LOGGED("at home on another thread");
    EXPECT_EQ(weft_block_on(e->rt, test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("weft_block_on: ");
    EXPECT_EQ(weft_runtime_shutdown(e->rt, 0), -EPERM);
    EXPECT_LOGGED("weft_runtime_shutdown: ");
    EXPECT_EQ(weft_runtime_destroy(e->rt), -EPERM);
    EXPECT_LOGGED("weft_runtime_destroy: ");
    return NULL;
}

static void *spawn_in_job(void *arg)
{
    struct elsewhere *e = arg;
    EXPECT_EQ(weft_spawn_local(where, &e->home, NULL), -EPERM);
    EXPECT_LOGGED("weft_spawn_local: ");
    EXPECT_EQ(test_join_value(SPAWN(where, &e->home)), &e->home);
    return NULL;
}

static void *in_body(void *arg)
{
    struct elsewhere *e = arg;
    weft_task *job;
    CHECK_EQ(weft_spawn_blocking(spawn_in_job, e, &job), 0);
    EXPECT_EQ(test_join_value(job), NULL);
    EXPECT_EQ(weft_runtime_shutdown(e->rt, 0), -EPERM); /* inside its own body */
    EXPECT_LOGGED("weft_runtime_shutdown: ");
    return NULL;
}

static void lr_02_from_another_thread_only_plain_spawns(struct test_env *env)
{
    (void)env;
    struct elsewhere e = {.rt = local_runtime(), .home = pthread_self()};
    e.handle = weft_runtime_handle(e.rt);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, use_elsewhere, &e), 0);
    pthread_join(thread, NULL);
    EXPECT_EQ(test_block_on(e.rt, join_value, e.task), &e.home);
    EXPECT_EQ(test_block_on(e.rt, in_body, &e), NULL);
    weft_handle_unref(e.handle);
    EXPECT_EQ(weft_runtime_destroy(e.rt), 0);
}

static void lr_03_a_plain_runtime_has_no_local_tasks(struct test_env *env)
{
    EXPECT_EQ(weft_spawn_local(test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("weft_spawn_local: ");
    weft_spawn_options o = {.runtime = env->handle};
    EXPECT_EQ(weft_spawn_local_with(&o, test_noop, NULL, NULL), -EPERM);
    EXPECT_LOGGED("no local runtime");
}

/* ---- shutting down ---- */

static void *ignore_aborts(void *arg)
{
    struct gate *gate = arg;
    WEFT_SHIELD
        EXPECT_EQ(gate_wait(gate), 0);
    return NULL;
}

static void *yield_once(void *arg)
{
    CHECK_EQ(weft_yield(), 0);
    return arg;
}

static void after_a_timeout_shutdown_goes_on_when_called_again(struct test_env *env)
{
    (void)env;
    struct gate gate;
    gate_init(&gate);
    weft_runtime *rt = local_runtime();
    weft_handle *h = weft_runtime_handle(rt);
    weft_task *t = SPAWN_ON(h, ignore_aborts, &gate);
    EXPECT_EQ(test_block_on(rt, yield_once, rt), rt);
    EXPECT_EQ(weft_runtime_shutdown(rt, 5 * WEFT_MS), -ETIMEDOUT);
    EXPECT(!weft_task_is_finished(t));
    gate_open(&gate);
    EXPECT_EQ(weft_runtime_shutdown(rt, WEFT_NEVER), 0);
    EXPECT_EQ(test_join_kind_polling(t), WEFT_OUTCOME_VALUE);
    weft_handle_unref(h);
    gate_fini(&gate);
}

/* However short the single calls are. */
static void the_grace_of_a_shutdown_goes_on_when_called_again(struct test_env *env)
{
    (void)env;
    struct gate never;
    weft_config c;
    weft_runtime *rt;
    gate_init(&never);
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_LOCAL;
    c.shutdown_grace_ns = 50 * WEFT_MS;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    weft_handle *h = weft_runtime_handle(rt);
    weft_task *t = SPAWN_ON(h, ignore_aborts, &never);
    EXPECT_EQ(test_block_on(rt, yield_once, rt), rt);
    int rc, calls = 0;
    do
        rc = weft_runtime_shutdown(rt, 5 * WEFT_MS);
    while (rc == -ETIMEDOUT && ++calls < 1000);
    EXPECT_EQ(rc, 0);
    EXPECT_LOGGED("unwinds the tasks that have not ended");
    if (rc == 0)
        EXPECT_EQ(test_join_kind_polling(t), WEFT_OUTCOME_CANCELLED);
    weft_handle_unref(h);
    gate_fini(&never);
}

static void *panic_now(void *arg)
{
    (void)arg;
    weft_panic("local trouble");
}

static void *detach(void *task)
{
    weft_task_detach(task);
    return NULL;
}

/* The policy on panics holds wherever the handle is given up. */
static void a_panic_that_nobody_joins_shuts_it_down(struct test_env *env)
{
    (void)env;
    weft_config c;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_LOCAL;
    c.unhandled_panic = WEFT_UNHANDLED_PANIC_SHUTDOWN;
    weft_runtime *rt;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    weft_handle *h = weft_runtime_handle(rt);
    weft_task *t = SPAWN_ON(h, panic_now, NULL);
    EXPECT_EQ(test_block_on(rt, yield_once, rt), rt);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, detach, t), 0);
    pthread_join(thread, NULL);
    EXPECT_EQ(weft_block_on(rt, yield_once, rt, NULL), -ESHUTDOWN);
    EXPECT_EQ(weft_runtime_destroy(rt), 0);
    weft_handle_unref(h);
    test_log_clear();
}

TEST_MAIN(PLAIN(rt_16_a_third_flavour_bound_to_its_thread), PLAIN(rt_16_weft_run_on_it),
          PLAIN(lr_01_from_body_handle_guard_and_runtime), PLAIN(lr_01_the_innermost_guard_counts),
          PLAIN(lr_02_from_another_thread_only_plain_spawns),
          IN_BODY(lr_03_a_plain_runtime_has_no_local_tasks),
          IN_TASK(lr_03_a_plain_runtime_has_no_local_tasks),
          PLAIN(a_panic_that_nobody_joins_shuts_it_down),
          PLAIN(after_a_timeout_shutdown_goes_on_when_called_again),
          PLAIN(the_grace_of_a_shutdown_goes_on_when_called_again))
