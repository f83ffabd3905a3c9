/* Fairness of the scheduler: SC of BEHAVIOURS. What a line asks is that something ends at all,
 * under a load that never does. */
#include "harness.h"
#include "sync.h"

#include <weft/io.h>
#include <weft/net.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The load does not end by itself: who starves waits for ever. */
#define LONG_MS 20000

static atomic_bool stop;
static atomic_long rounds;

static void *yield_for_ever(void *arg)
{
    while (!atomic_load(&stop) && weft_yield() == 0)
        atomic_fetch_add(&rounds, 1);
    return arg;
}

#define BUSY 100
static weft_task *busy[BUSY];

static void start_busy(weft_task_fn fn, int n)
{
    atomic_store(&stop, false);
    atomic_store(&rounds, 0);
    for (int i = 0; i < n; i++)
        busy[i] = SPAWN(fn, NULL);
}

static void stop_busy(int n)
{
    atomic_store(&stop, true);
    for (int i = 0; i < n; i++)
        (void)test_join_value(busy[i]);
}

/* ---- SC-01, SC-02, SC-06 ---- */

static void *yield_some(void *arg)
{
    for (int i = 0; i < 50; i++)
        CHECK_EQ(weft_yield(), 0);
    return arg;
}

static void sc_01_body_completes_beside_an_endless_yielder(struct test_env *env)
{
    start_busy(yield_for_ever, 1);
    CHECK(yield_some(env) == env);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    stop_busy(1);
}

static void sc_02_task_completes_beside_an_endless_yielder(struct test_env *env)
{
    start_busy(yield_for_ever, 1);
    CHECK(test_join_value(SPAWN(yield_some, env)) == env);
    stop_busy(1);
}

static void sc_03_endless_yielders_do_not_starve_timers(struct test_env *env)
{
    (void)env;
    start_busy(yield_for_ever, BUSY);
    for (int i = 0; i < 20; i++) {
        uint64_t start = weft_now();
        CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
        CHECK(test_elapsed_ms(start) < LONG_MS);
    }
    stop_busy(BUSY);
}

static void *echo_bytes(void *arg)
{
    weft_tcp *conn;
    char byte;
    CHECK_EQ(weft_tcp_accept(arg, &conn), 0);
    while (weft_tcp_read(conn, &byte, 1) == 1)
        CHECK_EQ(weft_tcp_write(conn, &byte, 1), 1);
    CHECK_EQ(weft_tcp_close(conn), 0);
    return NULL;
}

/* Sends bytes to and fro, one at a time, beside whatever else goes on. */
static void exchange_bytes(void)
{
    weft_tcp_listener *listener;
    weft_tcp *conn;
    weft_addr addr;
    char text[WEFT_ADDR_TEXT_MAX], byte = 'x';
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &listener), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(listener, &addr), 0);
    (void)weft_addr_format(&addr, text, sizeof(text)); /* it fits */
    weft_task *server = SPAWN(echo_bytes, listener);
    CHECK_EQ(weft_tcp_connect(text, &conn), 0);
    for (int i = 0; i < 50; i++) {
        uint64_t start = weft_now();
        CHECK_EQ(weft_tcp_write(conn, &byte, 1), 1);
        CHECK_EQ(weft_tcp_read(conn, &byte, 1), 1);
        CHECK(test_elapsed_ms(start) < LONG_MS);
    }
    CHECK_EQ(weft_tcp_close(conn), 0);
    (void)test_join_value(server);
    CHECK_EQ(weft_tcp_listener_close(listener), 0);
}

static void sc_03_endless_yielders_do_not_starve_sockets(struct test_env *env)
{
    (void)env;
    start_busy(yield_for_ever, BUSY);
    exchange_bytes();
    stop_busy(BUSY);
}

struct rewaker {
    weft_future future;
};

static int poll_rewaker(weft_future *f, weft_waker *waker)
{
    (void)f;
    if (atomic_load(&stop))
        return 0;
    atomic_fetch_add(&rounds, 1);
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

static void cancel_rewaker(weft_future *f)
{
    (void)f;
}

static const weft_future_ops rewaker_ops = {poll_rewaker, cancel_rewaker, "rewaker"};

static void start_rewakers(int n)
{
    static struct rewaker r[BUSY];
    atomic_store(&stop, false);
    atomic_store(&rounds, 0);
    for (int i = 0; i < n; i++) {
        r[i].future.ops = &rewaker_ops;
        CHECK_EQ(weft_spawn_future(NULL, &r[i].future, &busy[i]), 0);
    }
}

static void sc_03_tasks_that_rewake_themselves_do_not_starve_sockets(struct test_env *env)
{
    (void)env;
    start_rewakers(BUSY);
    exchange_bytes();
    stop_busy(BUSY);
}

static void sc_06_task_that_rewakes_itself_does_not_starve_timers(struct test_env *env)
{
    (void)env;
    start_rewakers(4);
    uint64_t start = weft_now();
    CHECK_EQ(weft_sleep(10 * WEFT_MS), 0);
    CHECK(test_elapsed_ms(start) < LONG_MS);
    CHECK_SOON(atomic_load(&rounds) > 0);
    stop_busy(4);
}

/* ---- SC-04 ---- */

#define PAIRS 100

struct pair {
    struct chan to, from;
};

static struct pair pairs[PAIRS];

static void *pong(void *arg)
{
    struct pair *p = arg;
    void *v;
    while (chan_recv(&p->to, &v) == 0)
        if (chan_send(&p->from, v) < 0)
            break;
    chan_close(&p->from);
    return NULL;
}

static void *ping(void *arg)
{
    struct pair *p = arg;
    void *v;
    while (!atomic_load(&stop))
        if (chan_send(&p->to, p) < 0 || chan_recv(&p->from, &v) < 0)
            break;
    chan_close(&p->to);
    return NULL;
}

static void *yield_five_times(void *arg)
{
    for (int i = 0; i < 5; i++)
        CHECK_EQ(weft_yield(), 0);
    return arg;
}

static void sc_04_ping_pong_does_not_starve_a_newcomer(struct test_env *env)
{
    static weft_task *t[2 * PAIRS];
    atomic_store(&stop, false);
    for (int i = 0; i < PAIRS; i++) {
        chan_init(&pairs[i].to, 1);
        chan_init(&pairs[i].from, 1);
        t[2 * i] = SPAWN(pong, &pairs[i]);
        t[2 * i + 1] = SPAWN(ping, &pairs[i]);
    }
    for (int i = 0; i < 10; i++) {
        uint64_t start = weft_now();
        CHECK(test_join_value(SPAWN(yield_five_times, env)) == env);
        CHECK(test_elapsed_ms(start) < LONG_MS);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2 * PAIRS; i++)
        (void)test_join_value(t[i]);
    for (int i = 0; i < PAIRS; i++) {
        chan_fini(&pairs[i].to);
        chan_fini(&pairs[i].from);
    }
}

/* ---- SC-05 ---- */

static struct gate last_gate;

static void *spawn_successor(void *arg)
{
    atomic_fetch_add(&rounds, 1);
    if (atomic_load(&stop))
        gate_open(&last_gate);
    else
        CHECK_EQ(weft_spawn(spawn_successor, arg, NULL), 0);
    return NULL;
}

static void sc_05_endless_chain_of_spawns_starves_nobody(struct test_env *env)
{
    gate_init(&last_gate);
    atomic_store(&stop, false);
    atomic_store(&rounds, 0);
    CHECK_EQ(weft_spawn(spawn_successor, NULL, NULL), 0);
    CHECK(yield_some(env) == env);
    CHECK(test_join_value(SPAWN(yield_some, env)) == env);
    uint64_t start = weft_now();
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    CHECK(test_elapsed_ms(start) < LONG_MS);
    CHECK_SOON(atomic_load(&rounds) > 10);
    atomic_store(&stop, true);
    CHECK_EQ(gate_wait(&last_gate), 0);
    gate_fini(&last_gate);
}

/* ---- SC-07, SC-08 ---- */

static void *set_flag(void *flag)
{
    atomic_store((atomic_bool *)flag, true);
    return NULL;
}

/* A bug in user code, on purpose: blocks its thread until its own child has run. */
static void *block_thread_for_child(void *arg)
{
    atomic_bool ran = false;
    weft_task *t = SPAWN(set_flag, &ran);
    (void)arg;
    uint64_t start = weft_now();
    while (!atomic_load(&ran)) {
        usleep(100);
        CHECK(test_elapsed_ms(start) < LONG_MS);
    }
    (void)test_join_value(t);
    return NULL;
}

static void *spawn_blocker(void *arg)
{
    return test_join_value(SPAWN(block_thread_for_child, arg));
}

static void sc_07_child_of_a_task_that_blocks_its_thread_runs(struct test_env *env)
{
    (void)env;
    for (int slot = 0; slot < 2; slot++) {
        for (int flavour = TEST_MT1; flavour <= TEST_MT4; flavour++) {
            weft_config c;
            weft_runtime *rt;
            test_config(&c, (enum test_flavour)flavour);
            c.disable_next_slot = slot == 0;
            CHECK_EQ(weft_runtime_create(&c, &rt), 0);
            for (int i = 0; i < 5; i++)
                (void)test_block_on(rt, spawn_blocker, NULL);
            CHECK_EQ(weft_runtime_destroy(rt), 0);
        }
    }
}

#define CHILDREN 20

static void *count_child(void *count)
{
    atomic_fetch_add((atomic_int *)count, 1);
    return NULL;
}

/* Likewise, of children that lie in its worker's queue. */
static void *block_thread_for_children(void *arg)
{
    atomic_int ran = 0;
    weft_task *t[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        t[i] = SPAWN(count_child, &ran);
    uint64_t start = weft_now();
    while (atomic_load(&ran) < CHILDREN) {
        usleep(100);
        CHECK(test_elapsed_ms(start) < LONG_MS);
    }
    for (int i = 0; i < CHILDREN; i++)
        (void)test_join_value(t[i]);
    return arg;
}

/* Beside workers that are never idle, and so never look what others have. */
static void sc_07_children_run_beside_endless_yielders(struct test_env *env)
{
    (void)env;
    start_busy(yield_for_ever, 16);
    for (int i = 0; i < 3; i++)
        (void)test_join_value(SPAWN(block_thread_for_children, NULL));
    stop_busy(16);
}

static atomic_bool timer_fired;

static void *sleep_then_set(void *arg)
{
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
    atomic_store(&timer_fired, true);
    return arg;
}

/* The same with a timer: what wakes the sleeper is the driver, on whatever thread that is. */
static void *block_thread_for_timer(void *arg)
{
    weft_task *t = SPAWN(sleep_then_set, arg);
    CHECK_EQ(weft_sleep(WEFT_MS),
             0); /* the sleeper has started, and its timer lies with this worker */
    uint64_t start = weft_now();
    while (!atomic_load(&timer_fired)) {
        usleep(100);
        CHECK(test_elapsed_ms(start) < LONG_MS);
    }
    (void)test_join_value(t);
    return NULL;
}

static void sc_08_blocked_worker_does_not_keep_the_driver(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 5; i++) {
        atomic_store(&timer_fired, false);
        (void)test_join_value(SPAWN(block_thread_for_timer, NULL));
    }
}

static atomic_bool byte_was_read;

static void *read_then_set(void *in)
{
    char byte;
    CHECK_EQ(weft_fd_read(in, &byte, 1), 1);
    atomic_store(&byte_was_read, true);
    return NULL;
}

/* And with a descriptor, that turns readable while its worker is held up. */
static void *block_thread_for_byte(void *arg)
{
    int fd[2];
    weft_fd *in;
    CHECK_EQ(pipe2(fd, O_CLOEXEC), 0);
    CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_OWNED, &in), 0);
    weft_task *t = SPAWN(read_then_set, in);
    CHECK_SOON(test_waits(NULL, t));
    uint64_t start = weft_now();
    CHECK_EQ(write(fd[1], "x", 1), 1);
    while (!atomic_load(&byte_was_read)) {
        usleep(100);
        CHECK(test_elapsed_ms(start) < LONG_MS);
    }
    (void)test_join_value(t);
    CHECK_EQ(weft_fd_close(in), 0);
    CHECK_EQ(close(fd[1]), 0);
    return arg;
}

static void sc_08_blocked_worker_does_not_keep_descriptors(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 5; i++) {
        atomic_store(&byte_was_read, false);
        (void)test_join_value(SPAWN(block_thread_for_byte, NULL));
    }
}

/* ---- SC-09, SC-12 ---- */

#define MANY 20000

static atomic_uchar runs[MANY];

static void *run_once(void *arg)
{
    atomic_fetch_add(&runs[(uintptr_t)arg], 1);
    return NULL;
}

static void spawn_many(unsigned first, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        CHECK_EQ(weft_spawn(run_once, (void *)(uintptr_t)(first + i), NULL), 0);
}

static unsigned count_runs(unsigned n)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += atomic_load(&runs[i]);
    return sum;
}

static void sc_09_local_queue_overflows_and_all_run(struct test_env *env)
{
    weft_metrics m;
    memset(runs, 0, sizeof(runs));
    spawn_many(0, 2000); /* more than any local queue holds */
    CHECK_SOON(count_runs(2000) == 2000);
    for (int i = 0; i < 2000; i++)
        CHECK_EQ(atomic_load(&runs[i]), 1);
    CHECK_EQ(weft_metrics_get(env->handle, &m), 0);
    if (env->flavour == TEST_MT1)
        CHECK(m.overflows > 0);
}

static void *spawn_a_batch(void *first)
{
    spawn_many((unsigned)(uintptr_t)first, 1000);
    return NULL;
}

static void sc_12_stealing_neither_loses_nor_doubles(struct test_env *env)
{
    weft_task *t[MANY / 1000];
    (void)env;
    for (int round = 0; round < 5; round++) {
        memset(runs, 0, sizeof(runs));
        for (uintptr_t i = 0; i < MANY / 1000; i++)
            t[i] = SPAWN(spawn_a_batch, (void *)(i * 1000));
        for (int i = 0; i < MANY / 1000; i++)
            (void)test_join_value(t[i]);
        CHECK_SOON(count_runs(MANY) >= MANY);
        for (int i = 0; i < MANY; i++)
            CHECK_EQ(atomic_load(&runs[i]), 1);
    }
}

/* ---- SC-11 ---- */

#define STAGES 200
#define TRACKS 50
#define MESSAGES 20

struct stage {
    struct chan *in, *out;
};

static void *run_stage(void *arg)
{
    struct stage *s = arg;
    void *v;
    while (chan_recv(s->in, &v) == 0)
        CHECK_EQ(chan_send(s->out, (void *)((uintptr_t)v + 1)), 0);
    chan_close(s->out);
    return NULL;
}

static void *feed(void *arg)
{
    for (uintptr_t i = 0; i < MESSAGES; i++)
        CHECK_EQ(chan_send(arg, (void *)(i * 1000)), 0);
    chan_close(arg);
    return NULL;
}

static void *drain(void *arg)
{
    void *v;
    for (uintptr_t i = 0; i < MESSAGES; i++) {
        CHECK_EQ(chan_recv(arg, &v), 0);
        CHECK_EQ((uintptr_t)v, i * 1000 + STAGES);
    }
    CHECK_EQ(chan_recv(arg, &v), -EPIPE);
    return NULL;
}

static void sc_11_long_chains_over_bounded_channels_finish(struct test_env *env)
{
    unsigned tracks = test_scaled(TRACKS);
    struct chan *c = calloc((STAGES + 1) * TRACKS, sizeof(*c));
    weft_task *drains[TRACKS];
    weft_metrics before, after;
    (void)env;
    CHECK(c != NULL);
    CHECK_EQ(weft_metrics_get(NULL, &before), 0);
    for (unsigned track = 0; track < tracks; track++) {
        struct chan *row = &c[track * (STAGES + 1)];
        for (int i = 0; i <= STAGES; i++)
            chan_init(&row[i], 1 + (unsigned)i % 3);
        for (int i = 0; i < STAGES; i++) {
            struct stage s = {&row[i], &row[i + 1]};
            weft_spawn_options o = {.arg_bytes = sizeof(s)};
            CHECK_EQ(weft_spawn_with(&o, run_stage, &s, NULL), 0);
        }
        CHECK_EQ(weft_spawn(feed, &row[0], NULL), 0);
        drains[track] = SPAWN(drain, &row[STAGES]);
    }
    for (unsigned track = 0; track < tracks; track++)
        (void)test_join_value(drains[track]);
    /* The last stage may still stand in its close. */
    CHECK_SOON(
        (CHECK_EQ(weft_metrics_get(NULL, &after), 0), after.alive_tasks == before.alive_tasks));
    for (unsigned i = 0; i < (STAGES + 1) * tracks; i++)
        chan_fini(&c[i]);
    free(c);
}

TEST_MAIN(IN_BODY(sc_01_body_completes_beside_an_endless_yielder),
          IN_TASK(sc_02_task_completes_beside_an_endless_yielder),
          IN_TASK(sc_03_endless_yielders_do_not_starve_timers),
          IN_TASK(sc_03_endless_yielders_do_not_starve_sockets),
          IN_TASK(sc_03_tasks_that_rewake_themselves_do_not_starve_sockets),
          IN_TASK(sc_04_ping_pong_does_not_starve_a_newcomer),
          IN_TASK(sc_05_endless_chain_of_spawns_starves_nobody),
          IN_TASK(sc_06_task_that_rewakes_itself_does_not_starve_timers),
          PLAIN(sc_07_child_of_a_task_that_blocks_its_thread_runs),
          IN_TASK_ON(sc_07_children_run_beside_endless_yielders, TEST_MT4),
          IN_TASK_ON(sc_08_blocked_worker_does_not_keep_the_driver, TEST_MT4),
          IN_TASK_ON(sc_08_blocked_worker_does_not_keep_descriptors, TEST_MT1),
          IN_TASK(sc_09_local_queue_overflows_and_all_run),
          IN_TASK(sc_11_long_chains_over_bounded_channels_finish),
          IN_TASK(sc_12_stealing_neither_loses_nor_doubles))
