/* Building and driving runtimes: RT of BEHAVIOURS. */
#include "harness.h"
#include "sync.h"

#include <weft/io.h>
#include <weft/net.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- RT-01, RT-02 ---- */

/* A function of its own wherever it is called: the line in the log names a place in it. */
static __attribute__((noinline)) void expect_refused(const weft_config *c, const char *setting)
{
    weft_runtime *rt = NULL;
    char line[400];
    test_log_clear();
    EXPECT_EQ(weft_runtime_create(c, &rt), -EINVAL);
    EXPECT(rt == NULL);
    CHECK(test_log_find("(called from ", line, sizeof(line)));
    const char *place = strrchr(line, ' ') + 1; /* "[0x...])", or "0x...)" without its object */
    uintptr_t caller = (uintptr_t)strtoull(place + (*place == '['), NULL, 16);
    EXPECT(caller - (uintptr_t)expect_refused < 4096);
    if (test_log_count("weft_runtime_create") != 1 || test_log_count(setting) != 1)
        test_record(__FILE__, __LINE__, "no single line names weft_runtime_create and %s", setting);
}

#define REFUSED(setting, ...)                                                                      \
    do {                                                                                           \
        weft_config c_;                                                                            \
        weft_config_init(&c_);                                                                     \
        c_.setting = __VA_ARGS__;                                                                  \
        expect_refused(&c_, #setting);                                                             \
    } while (0)

static void rt_01_bad_settings_are_refused(struct test_env *env)
{
    (void)env;
    REFUSED(flavor, (enum weft_flavor)7);
    REFUSED(name, "");
    REFUSED(name, "  \t");
    REFUSED(workers, 0);
    REFUSED(workers, 1025);
    REFUSED(blocking_threads_max, 0);
    REFUSED(blocking_threads_max, 65537);
    REFUSED(stack_bytes, 0);
    REFUSED(stack_bytes, ((size_t)1 << 30) + 1);
    REFUSED(budget, 0);
    REFUSED(budget, 65536);
    REFUSED(event_interval, 0);
    REFUSED(global_queue_interval, 0);
    REFUSED(stuck_after_ns, WEFT_MS - 1);
    REFUSED(extra_workers_max, 1025);
    REFUSED(unhandled_panic, (enum weft_unhandled_panic)9);
    weft_config c;
    weft_config_init(&c);
    c.reserved[3] = 1;
    expect_refused(&c, "reserved");
}

static void rt_01_weft_run_refuses_them_too(struct test_env *env)
{
    weft_config c;
    (void)env;
    weft_config_init(&c);
    c.workers = 0;
    CHECK_EQ(weft_run_with(&c, NULL, NULL), -EINVAL);
    CHECK(test_log_count("weft_run") + test_log_count("weft_runtime_create") >= 1);
}

static void environment_overrides_defaults(struct test_env *env)
{
    weft_config c;
    (void)env;
    setenv("WEFT_WORKERS", "3", 1);
    setenv("WEFT_BLOCKING_THREADS", "7", 1);
    setenv("WEFT_STACK_BYTES", "131072", 1);
    setenv("WEFT_BUDGET", "50", 1);
    setenv("WEFT_STUCK_MS", "40", 1);
    weft_config_init(&c);
    EXPECT_EQ(c.workers, 3);
    EXPECT_EQ(c.blocking_threads_max, 7);
    EXPECT_EQ(c.stack_bytes, 131072);
    EXPECT_EQ(c.budget, 50);
    EXPECT_EQ(c.stuck_after_ns, 40 * WEFT_MS);
    EXPECT_EQ(test_log_count("WEFT_"), 0);
    unsetenv("WEFT_WORKERS");
    unsetenv("WEFT_BLOCKING_THREADS");
    unsetenv("WEFT_STACK_BYTES");
    unsetenv("WEFT_BUDGET");
    unsetenv("WEFT_STUCK_MS");
}

static void bad_environment_is_reported_and_ignored(struct test_env *env)
{
    static const char *const names[] = {"WEFT_WORKERS", "WEFT_BLOCKING_THREADS", "WEFT_STACK_BYTES",
                                        "WEFT_BUDGET", "WEFT_STUCK_MS"};
    static const char *const values[] = {"", "x", "-1", "3x", "0", "99999999999999999999999", " "};
    weft_config defaults;
    (void)env;
    weft_config_init(&defaults);
    for (size_t n = 0; n < sizeof(names) / sizeof(*names); n++) {
        for (size_t v = 0; v < sizeof(values) / sizeof(*values); v++) {
            weft_config c;
            setenv(names[n], values[v], 1);
            test_log_clear();
            weft_config_init(&c);
            if (c.workers != defaults.workers || c.budget != defaults.budget ||
                c.blocking_threads_max != defaults.blocking_threads_max ||
                c.stack_bytes != defaults.stack_bytes ||
                c.stuck_after_ns != defaults.stuck_after_ns)
                test_record(__FILE__, __LINE__, "%s=%s is not ignored", names[n], values[v]);
            if (values[v][0] != '\0' && test_log_count(names[n]) != 1)
                test_record(__FILE__, __LINE__, "%s=%s is not reported", names[n], values[v]);
            unsetenv(names[n]);
        }
    }
}

static void *spawn_and_join_many(void *arg)
{
    weft_task *t[200];
    for (int i = 0; i < 200; i++)
        t[i] = SPAWN(test_noop, arg);
    for (int i = 0; i < 200; i++)
        CHECK(test_join_value(t[i]) == arg);
    return arg;
}

static void rt_02_extreme_but_valid_settings_work(struct test_env *env)
{
    (void)env;
    for (int i = 0; i < 8; i++) {
        weft_config c;
        weft_runtime *rt;
        test_config(&c, TEST_MT4);
        if (i == 0)
            c.global_queue_interval = 1;
        else if (i == 1)
            c.event_interval = 1;
        else if (i == 2)
            c.event_interval = c.global_queue_interval = 1000000;
        else if (i == 3)
            c.budget = 1;
        else if (i == 4)
            c.budget = 65535;
        else if (i == 5)
            c.disable_next_slot = true;
        else if (i == 6)
            c.workers = 32;
        else
            c.stack_bytes = 1; /* rounded up */
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        CHECK(test_block_on(rt, spawn_and_join_many, rt) == rt);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
}

/* ---- RT-03 ---- */

static void *do_without_time_and_io(void *arg)
{
    weft_tcp_listener *l;
    weft_tcp *conn;
    weft_timer t;
    test_log_clear();
    CHECK_EQ(weft_sleep(WEFT_MS), -EPERM);
    EXPECT_LOGGED("enable_time");
    CHECK_EQ(weft_timer_init(&t, 0), -EPERM);
    EXPECT_LOGGED("enable_time");
    weft_timer_fini(&t);
    WEFT_TIMEOUT(WEFT_SEC)
        EXPECT_LOGGED("enable_time");
    WEFT_TIMEOUT(WEFT_NEVER)
        EXPECT_EQ(test_log_count(""), 0);
    weft_timeout scope;
    weft_timeout_enter_until(&scope, weft_now());
    EXPECT_LOGGED("weft_timeout_enter_until");
    weft_timeout_leave(&scope);
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), -EPERM);
    EXPECT_LOGGED("enable_io");
    CHECK_EQ(weft_tcp_connect("127.0.0.1:1", &conn), -EPERM);
    EXPECT_LOGGED("enable_io");
    CHECK_EQ(weft_yield(), 0);
    return spawn_and_join_many(arg);
}

static void rt_03_time_and_io_switched_off(struct test_env *env)
{
    (void)env;
    for (int flavour = TEST_CT; flavour <= TEST_MT4; flavour++) {
        weft_config c;
        weft_runtime *rt;
        test_config(&c, (enum test_flavour)flavour);
        c.enable_time = false;
        c.enable_io = false;
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        CHECK(test_block_on(rt, do_without_time_and_io, rt) == rt);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
}

/* ---- RT-04 ---- */

static void *current_id(void *ret_id)
{
    weft_handle *h;
    CHECK_EQ(weft_handle_current(&h), 0);
    *(uint64_t *)ret_id = weft_handle_runtime_id(h);
    weft_handle_unref(h);
    return NULL;
}

static void rt_04_ids_and_names(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    uint64_t inside = 0;
    test_config(&c, env->flavour);
    c.name = "seamstress";
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    weft_handle *a = weft_runtime_handle(rt), *b = weft_runtime_handle(rt);
    CHECK_EQ(weft_handle_runtime_id(a), weft_handle_runtime_id(b));
    CHECK(weft_handle_runtime_id(a) != weft_handle_runtime_id(env->handle));
    CHECK_EQ(strcmp(weft_handle_runtime_name(a), "seamstress"), 0);
    CHECK_EQ(strcmp(weft_handle_runtime_name(env->handle), "weft"), 0); /* the default */
    (void)test_block_on(rt, current_id, &inside);
    CHECK_EQ(inside, weft_handle_runtime_id(a));
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK_EQ(strcmp(weft_handle_runtime_name(a), "seamstress"), 0);
    weft_handle_unref(a);
    weft_handle_unref(b);
    weft_handle_unref(NULL);
}

/* ---- RT-05 to RT-07: hooks ---- */

struct hooks {
    atomic_int started, stopped, parked, unparked;
    struct gate gate;
    weft_handle *handle;
    atomic_int spawned;
    atomic_bool active;
};

static void on_start(void *arg)
{
    atomic_fetch_add(&((struct hooks *)arg)->started, 1);
}

static void on_stop(void *arg)
{
    atomic_fetch_add(&((struct hooks *)arg)->stopped, 1);
}

static void on_park(void *arg)
{
    atomic_fetch_add(&((struct hooks *)arg)->parked, 1);
}

static void on_unpark(void *arg)
{
    atomic_fetch_add(&((struct hooks *)arg)->unparked, 1);
}

static void *sleep_a_little(void *arg)
{
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
    return arg;
}

static void rt_05_start_and_stop_hooks_match(struct test_env *env)
{
    (void)env;
    for (unsigned workers = 1; workers <= 4; workers += 3) {
        struct hooks h = {.started = 0};
        weft_config c;
        weft_runtime *rt;
        test_config(&c, workers == 4 ? TEST_MT4 : TEST_MT1);
        c.on_thread_start = on_start;
        c.on_thread_stop = on_stop;
        c.on_thread_park = on_park;
        c.on_thread_unpark = on_unpark;
        c.hook_arg = &h;
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        (void)test_block_on(rt, sleep_a_little, NULL);
        CHECK_SOON(atomic_load(&h.parked) > 0);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
        CHECK(atomic_load(&h.started) >= (int)workers); /* more if any was held up */
        CHECK_EQ(atomic_load(&h.stopped), atomic_load(&h.started));
        CHECK_EQ(atomic_load(&h.parked), atomic_load(&h.unparked));
    }
}

static void *open_gate(void *arg)
{
    struct hooks *h = arg;
    gate_open(&h->gate);
    return NULL;
}

/* Spawns a task the first time the worker wants to sleep, after the body waits for it. */
static void spawn_on_park(void *arg)
{
    struct hooks *h = arg;
    weft_spawn_options o = {.runtime = h->handle};
    if (!atomic_load(&h->active) || atomic_fetch_add(&h->spawned, 1) != 0)
        return;
    EXPECT_EQ(weft_spawn_with(&o, open_gate, h, NULL), 0);
}

static void wake_on_park(void *arg)
{
    struct hooks *h = arg;
    if (atomic_load(&h->active))
        gate_open(&h->gate);
}

/* It must not; what it does besides counts. */
static void yield_on_park(void *arg)
{
    struct hooks *h = arg;
    if (!atomic_load(&h->active))
        return;
    EXPECT_EQ(weft_yield(), -EPERM);
    gate_open(&h->gate);
}

static void *wait_for_hook(void *arg)
{
    struct hooks *h = arg;
    atomic_store(&h->active, true);
    WEFT_TIMEOUT(20 * WEFT_SEC) /* nothing but the hook can wake us */
        CHECK_EQ(gate_wait(&h->gate), 0);
    return NULL;
}

static void *wait_for_hook_in_task(void *arg)
{
    return test_join_value(SPAWN(wait_for_hook, arg));
}

static void rt_06_park_hook_that_makes_work_is_noticed(struct test_env *env)
{
    (void)env;
    static void (*const hook[])(void *) = {spawn_on_park, wake_on_park, yield_on_park};
    for (int flavour = TEST_CT; flavour <= TEST_MT1; flavour++) {
        for (size_t how = 0; how < sizeof(hook) / sizeof(hook[0]); how++) {
            struct hooks h = {.started = 0};
            weft_config c;
            weft_runtime *rt;
            gate_init(&h.gate);
            test_config(&c, (enum test_flavour)flavour);
            c.on_thread_park = hook[how];
            c.hook_arg = &h;
            CHECK_EQ(weft_runtime_create(&c, &rt), 0);
            h.handle = weft_runtime_handle(rt);
            (void)test_block_on(rt, wait_for_hook_in_task, &h);
            CHECK_EQ(weft_runtime_destroy(rt), 0);
            weft_handle_unref(h.handle);
            gate_fini(&h.gate);
            CHECK_EQ(test_log_took("weft_yield: a hook must not wait") > 0,
                     hook[how] == yield_on_park);
        }
    }
}

/* ---- RT-07 ---- */

struct self_waker {
    weft_future future;
    atomic_bool done;
    _Atomic(weft_waker *) waker;
    atomic_int polls;
};

static struct self_waker always_woken;

static int poll_self_waker(weft_future *f, weft_waker *waker)
{
    struct self_waker *s = (struct self_waker *)f;
    atomic_fetch_add(&s->polls, 1);
    if (atomic_load(&s->waker) == NULL)
        atomic_store(&s->waker, weft_waker_ref(waker));
    return atomic_load(&s->done) ? 0 : WEFT_PENDING;
}

static void cancel_self_waker(weft_future *f)
{
    (void)f;
}

static const weft_future_ops self_waker_ops = {poll_self_waker, cancel_self_waker, "self waker"};

static void wake_body_on_park(void *arg)
{
    weft_waker *w = atomic_load(&always_woken.waker);
    (void)arg;
    if (w != NULL)
        weft_waker_wake(w);
}

static void *finish_after_timer(void *arg)
{
    CHECK_EQ(weft_sleep(10 * WEFT_MS), 0);
    CHECK_SOON(atomic_load(&always_woken.waker) != NULL); /* the body's thread may be held up */
    atomic_store(&always_woken.done, true);
    weft_waker_wake(atomic_load(&always_woken.waker));
    return arg;
}

static void *await_self_waker(void *arg)
{
    CHECK_EQ(weft_spawn(finish_after_timer, NULL, NULL), 0);
    CHECK_EQ(weft_await(&always_woken.future), 0);
    return arg;
}

static void rt_07_park_hook_that_always_wakes_does_not_stop_timers(struct test_env *env)
{
    (void)env;
    for (int flavour = TEST_CT; flavour <= TEST_MT1; flavour++) {
        weft_config c;
        weft_runtime *rt;
        always_woken = (struct self_waker){.future = {&self_waker_ops}};
        test_config(&c, (enum test_flavour)flavour);
        c.on_thread_park = wake_body_on_park;
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        (void)test_block_on(rt, await_self_waker, NULL);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
        weft_waker_unref(atomic_load(&always_woken.waker));
    }
}

/* ---- RT-08, RT-09 ---- */

static void *open_from_thread(void *gate)
{
    gate_open(gate);
    return NULL;
}

static void *wait_at(void *gate)
{
    CHECK_EQ(gate_wait(gate), 0);
    return gate;
}

static void rt_08_body_without_waits_and_body_ended_by_a_thread(struct test_env *env)
{
    CHECK(test_block_on(env->rt, test_noop, env) == env);
    for (int i = 0; i < 50; i++) {
        struct gate g;
        pthread_t thread;
        gate_init(&g);
        CHECK_EQ(pthread_create(&thread, NULL, open_from_thread, &g), 0);
        CHECK(test_block_on(env->rt, wait_at, &g) == &g);
        pthread_join(thread, NULL);
        gate_fini(&g);
    }
    CHECK_EQ(weft_block_on(env->rt, test_noop, NULL, NULL), 0);
}

static int return_zero(void *arg)
{
    (void)arg;
    return 0;
}

static void rt_09_nested_block_on_is_misuse_in_a_body(struct test_env *env)
{
    weft_outcome o = {.task_id = 77};
    test_log_clear();
    CHECK_EQ(weft_block_on(env->rt, test_noop, NULL, &o), -EPERM);
    EXPECT_LOGGED("weft_block_on");
    CHECK_EQ(o.task_id, 77); /* left alone */
    CHECK_EQ(weft_handle_block_on(env->handle, test_noop, NULL, &o), -EPERM);
    EXPECT_LOGGED("weft_handle_block_on");
    test_log_clear();
    CHECK_EQ(weft_run(return_zero, NULL), -EPERM);
    CHECK(test_log_count("weft_run") + test_log_count("weft_block_on") == 1);
}

static void rt_09_nested_block_on_is_misuse_in_a_task(struct test_env *env)
{
    rt_09_nested_block_on_is_misuse_in_a_body(env);
}

/* ---- RT-10 ---- */

static void *create_inside(void *ret)
{
    CHECK_EQ(weft_runtime_create(NULL, ret), 0);
    return NULL;
}

static void rt_10_runtime_made_inside_is_used_after(struct test_env *env)
{
    weft_runtime *made = NULL;
    (void)test_block_on(env->rt, create_inside, &made);
    CHECK(test_block_on(made, test_noop, env) == env);
    CHECK_EQ(weft_runtime_destroy(made), 0);
}

static void rt_10_release_inside_is_misuse(struct test_env *env)
{
    int fds = test_count_fds();
    weft_runtime *other = test_runtime_create(env->flavour);
    test_log_clear();
    CHECK_EQ(weft_runtime_destroy(other), -EPERM);
    EXPECT_LOGGED("weft_runtime_destroy");
    CHECK_EQ(weft_runtime_shutdown(other, WEFT_SEC), -EPERM);
    EXPECT_LOGGED("weft_runtime_shutdown");
    int rc = weft_runtime_shutdown(other, 0); /* in the background: allowed */
    CHECK(rc == 0 || rc == -ETIMEDOUT);
    CHECK_SOON(test_count_fds() == fds); /* it is gone */
}

/* ---- RT-11 ---- */

struct pair {
    struct chan *in, *out;
};

static void *echo_pair(void *arg)
{
    struct pair *p = arg;
    void *v;
    while (chan_recv(p->in, &v) == 0)
        CHECK_EQ(chan_send(p->out, v), 0);
    return NULL;
}

static void *ping_pair(void *arg)
{
    struct pair *p = arg;
    for (uintptr_t i = 0; i < 500; i++) {
        void *v;
        CHECK_EQ(chan_send(p->out, (void *)i), 0);
        CHECK_EQ(chan_recv(p->in, &v), 0);
        CHECK_EQ((uintptr_t)v, i);
    }
    chan_close(p->out);
    return NULL;
}

static void rt_11_two_runtimes_exchange_messages(struct test_env *env)
{
    struct chan a, b;
    struct pair here = {&a, &b}, there = {&b, &a};
    weft_runtime *other = test_runtime_create(TEST_MT1);
    weft_handle *h = weft_runtime_handle(other);
    chan_init(&a, 1);
    chan_init(&b, 1);
    weft_task *t = SPAWN_ON(h, echo_pair, &there);
    (void)test_block_on(env->rt, ping_pair, &here);
    CHECK_EQ(test_join_kind_polling(t), WEFT_OUTCOME_VALUE);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    weft_handle_unref(h);
    chan_fini(&a);
    chan_fini(&b);
}

/* ---- RT-12 ---- */

struct driver {
    weft_runtime *rt;
    uint64_t duration_ns;
    int rounds;
};

static void *sleep_for(void *arg)
{
    uint64_t d = *(uint64_t *)arg, start = weft_now();
    CHECK_EQ(weft_sleep(d), 0);
    CHECK(weft_now() - start >= d);
    return NULL;
}

static void *drive(void *arg)
{
    struct driver *d = arg;
    for (int i = 0; i < d->rounds; i++)
        (void)test_block_on(d->rt, sleep_for, &d->duration_ns);
    return NULL;
}

static void rt_12_someone_always_drives(struct test_env *env)
{
    enum { N = 4 };
    struct driver d[N];
    pthread_t thread[N];
    for (int i = 0; i < N;
         i++) { /* the one with the shortest sleep leaves first, again and again */
        d[i] = (struct driver){env->rt, (uint64_t)(i + 1) * WEFT_MS, 40 / (i + 1)};
        CHECK_EQ(pthread_create(&thread[i], NULL, drive, &d[i]), 0);
    }
    for (int i = 0; i < N; i++)
        pthread_join(thread[i], NULL);
    CHECK(test_block_on(env->rt, test_noop, env) == env);
}

struct reader {
    weft_runtime *rt;
    int fd[2];
    int bytes;
};

static void *read_bytes(void *arg)
{
    struct reader *r = arg;
    weft_fd *in;
    char byte;
    CHECK_EQ(weft_fd_open(r->fd[0], WEFT_FD_OWNED, &in), 0);
    for (int i = 0; i < r->bytes; i++)
        CHECK_EQ(weft_fd_read(in, &byte, 1), 1);
    CHECK_EQ(weft_fd_close(in), 0);
    return NULL;
}

static void *drive_reads(void *arg)
{
    struct reader *r = arg;
    (void)test_block_on(r->rt, read_bytes, r);
    return NULL;
}

/* The ones leave while the others have bytes to come, until one is left. */
static void rt_12_someone_always_drives_io(struct test_env *env)
{
    enum { N = 4, BYTES = 20 };
    struct reader r[N];
    pthread_t thread[N];
    for (int i = 0; i < N; i++) {
        r[i] = (struct reader){.rt = env->rt, .bytes = BYTES * (i + 1)};
        CHECK_EQ(pipe2(r[i].fd, O_CLOEXEC), 0);
        CHECK_EQ(pthread_create(&thread[i], NULL, drive_reads, &r[i]), 0);
    }
    for (int n = 0; n < BYTES * N; n++) {
        for (int i = n / BYTES; i < N; i++)
            CHECK_EQ(write(r[i].fd[1], "x", 1), 1);
        test_pause();
    }
    for (int i = 0; i < N; i++) {
        pthread_join(thread[i], NULL);
        CHECK_EQ(close(r[i].fd[1]), 0);
    }
}

/* ---- RT-13 ---- */

static pthread_key_t rt_key;

static void destroy_at_exit(void *rt)
{
    EXPECT_EQ(weft_runtime_destroy(rt), 0);
}

static void *keep_runtime_until_exit(void *arg)
{
    weft_runtime *rt = test_runtime_create(*(enum test_flavour *)arg);
    EXPECT_EQ(pthread_setspecific(rt_key, rt), 0);
    (void)test_block_on(rt, spawn_and_join_many, rt);
    weft_handle *h = weft_runtime_handle(rt);
    weft_task_detach(SPAWN_ON(h, test_forever, NULL));
    weft_handle_unref(h);
    return NULL;
}

static void rt_13_runtime_destroyed_at_thread_exit(struct test_env *env)
{
    (void)env;
    CHECK_EQ(pthread_key_create(&rt_key, destroy_at_exit), 0);
    for (enum test_flavour f = TEST_CT; f <= TEST_MT4; f++) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, keep_runtime_until_exit, &f), 0);
        pthread_join(thread, NULL);
    }
    CHECK_EQ(pthread_key_delete(rt_key), 0);
}

/* ---- RT-14 ---- */

static void *worker_index(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weft_worker_index();
}

static void *worker_index_of_job(void *arg)
{
    weft_task *t;
    CHECK_EQ(weft_spawn_blocking(worker_index, arg, &t), 0);
    return test_join_value(t);
}

static void *worker_index_of_task(void *arg)
{
    return test_join_value(SPAWN(worker_index, arg));
}

static void rt_14_worker_index(struct test_env *env)
{
    CHECK_EQ(weft_worker_index(), -1);
    intptr_t body = (intptr_t)test_block_on(env->rt, worker_index, NULL);
    intptr_t job = (intptr_t)test_block_on(env->rt, worker_index_of_job, NULL);
    CHECK_EQ(body, env->flavour == TEST_CT ? 0 : -1);
    CHECK_EQ(job, -1);
    for (int i = 0; i < 50; i++) {
        intptr_t task = (intptr_t)test_block_on(env->rt, worker_index_of_task, NULL);
        CHECK(task >= 0);
        if (env->flavour == TEST_CT)
            CHECK_EQ(task, 0);
        else /* above the configured ones: a worker added because one was held up */
            CHECK(task < (intptr_t)test_workers(env) + 64);
    }
}

/* ---- RT-15 ---- */

struct order {
    unsigned char text[400];
    atomic_int len;
};

struct step_arg {
    struct order *order;
    unsigned char letter;
};

static void *yield_and_note(void *arg)
{
    struct step_arg *s = arg;
    for (int i = 0; i < s->letter % 5 + 2; i++) {
        s->order->text[atomic_fetch_add(&s->order->len, 1)] = s->letter;
        CHECK_EQ(weft_yield(), 0);
    }
    return NULL;
}

static void *run_steps(void *arg)
{
    weft_task *t[60];
    for (unsigned char i = 0; i < 60; i++) {
        struct step_arg s = {arg, i};
        weft_spawn_options o = {.arg_bytes = sizeof(s)};
        CHECK_EQ(weft_spawn_with(&o, yield_and_note, &s, &t[i]), 0);
    }
    for (int i = 0; i < 60; i++)
        (void)test_join_value(t[i]);
    return NULL;
}

static void rt_15_same_seed_same_order(struct test_env *env)
{
    static struct order order[2];
    (void)env;
    for (int i = 0; i < 2; i++) {
        weft_config c;
        weft_runtime *rt;
        test_config(&c, TEST_CT);
        c.seed = 12345;
        atomic_store(&order[i].len, 0);
        CHECK_EQ(weft_runtime_create(&c, &rt), 0);
        (void)test_block_on(rt, run_steps, &order[i]);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
    CHECK_EQ(atomic_load(&order[0].len), atomic_load(&order[1].len));
    CHECK_EQ(memcmp(order[0].text, order[1].text, (size_t)atomic_load(&order[0].len)), 0);
}

/* ---- runtimes come and go ---- */

static void thousand_runtimes(struct test_env *env)
{
    unsigned n = test_scaled(1000);
    (void)env;
    for (unsigned i = 0; i < n; i++) {
        weft_runtime *rt = test_runtime_create(i % 3 == 0   ? TEST_CT
                                               : i % 3 == 1 ? TEST_MT1
                                                            : TEST_MT4);
        weft_handle *h = weft_runtime_handle(rt);
        if (i % 2 == 0)
            weft_task_detach(SPAWN_ON(h, test_forever, NULL));
        if (i % 5 == 0)
            (void)test_block_on(rt, sleep_for, &(uint64_t){WEFT_US});
        weft_handle_unref(h);
        CHECK_EQ(weft_runtime_destroy(rt), 0);
    }
}

static int count_and_return(void *arg)
{
    return ++*(int *)arg;
}

static void weft_run_works_again_and_again(struct test_env *env)
{
    int n = 0;
    (void)env;
    for (int i = 1; i <= 20; i++)
        CHECK_EQ(weft_run(count_and_return, &n), i);
}

/* A loop of its own that drives the runtime for a moment now and then. */
static void timers_fire_between_short_bodies(struct test_env *env)
{
    uint64_t ns = WEFT_MS;
    weft_task *t = SPAWN_ON(env->handle, sleep_for, &ns);
    for (uint64_t end = weft_now() + 20 * WEFT_SEC; !weft_task_is_finished(t);) {
        CHECK(weft_now() < end);
        (void)test_block_on(env->rt, test_noop, NULL);
    }
    CHECK_EQ(test_join_kind_polling(t), WEFT_OUTCOME_VALUE);
}

static int stop_it(void *arg)
{
    CHECK_EQ(weft_spawn(test_forever, NULL, NULL), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    CHECK_EQ(weft_stop(), 0);
    CHECK_EQ(weft_sleep(WEFT_SEC), -ECANCELED);
    return arg != NULL;
}

static void weft_stop_ends_weft_run(struct test_env *env)
{
    weft_config c;
    for (int flavour = TEST_CT; flavour <= TEST_MT4; flavour++) {
        test_config(&c, (enum test_flavour)flavour);
        CHECK_EQ(weft_run_with(&c, stop_it, env), -ECANCELED);
    }
    test_log_clear();
    CHECK_EQ(weft_stop(), -EPERM);
    EXPECT_LOGGED("weft_stop");
}

TEST_MAIN(PLAIN(rt_01_bad_settings_are_refused), PLAIN(rt_01_weft_run_refuses_them_too),
          PLAIN(environment_overrides_defaults), PLAIN(bad_environment_is_reported_and_ignored),
          PLAIN(rt_02_extreme_but_valid_settings_work), PLAIN(rt_03_time_and_io_switched_off),
          ON_MAIN(rt_04_ids_and_names), PLAIN(rt_05_start_and_stop_hooks_match),
          PLAIN(rt_06_park_hook_that_makes_work_is_noticed),
          PLAIN(rt_07_park_hook_that_always_wakes_does_not_stop_timers),
          ON_MAIN(rt_08_body_without_waits_and_body_ended_by_a_thread),
          IN_BODY(rt_09_nested_block_on_is_misuse_in_a_body),
          IN_TASK(rt_09_nested_block_on_is_misuse_in_a_task),
          ON_MAIN(rt_10_runtime_made_inside_is_used_after), IN_TASK(rt_10_release_inside_is_misuse),
          ON_MAIN(rt_11_two_runtimes_exchange_messages), ON_MAIN(rt_12_someone_always_drives),
          ON_MAIN(rt_12_someone_always_drives_io), PLAIN(rt_13_runtime_destroyed_at_thread_exit),
          ON_MAIN(rt_14_worker_index), PLAIN(rt_15_same_seed_same_order), PLAIN(thousand_runtimes),
          ON_MAIN(timers_fire_between_short_bodies), PLAIN(weft_run_works_again_and_again),
          PLAIN(weft_stop_ends_weft_run))
