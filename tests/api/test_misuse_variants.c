/* ctest: parallel */
/* The blocking, trying and counting forms of calls are checked as their plain forms are: each
 * misuse returns its documented error, once in the log, and what they were given is as it was. */
#include "harness.h"
#include "local.h"
#include "socks.h"

#include <weft/weft.h>

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define SAYS(error, name, call)                                                                    \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT_EQ(call, error);                                                                    \
        EXPECT_LOGGED(name ": ");                                                                  \
    } while (0)
#define REFUSED(name, call) SAYS(-EINVAL, name, call)

static void channels(struct test_env *env)
{
    (void)env;
    weft_mpsc_sender *tx, *unbounded;
    weft_mpsc_receiver *rx, *other;
    weft_mpsc_permit permit;
    int v = 0;
    CHECK_EQ(weft_mpsc_create(sizeof(int), 2, NULL, &tx, &rx), 0);
    CHECK_EQ(weft_mpsc_create_unbounded(sizeof(int), NULL, &unbounded, &other), 0);
    REFUSED("weft_mpsc_blocking_recv", weft_mpsc_blocking_recv(NULL, &v));
    REFUSED("weft_mpsc_blocking_recv", weft_mpsc_blocking_recv(rx, NULL));
    REFUSED("weft_mpsc_try_recv_many", weft_mpsc_try_recv_many(NULL, &v, 1));
    REFUSED("weft_mpsc_blocking_recv_many", weft_mpsc_blocking_recv_many(NULL, &v, 1));
    REFUSED("weft_mpsc_blocking_send", weft_mpsc_blocking_send(NULL, &v));
    REFUSED("weft_mpsc_blocking_send", weft_mpsc_blocking_send(tx, NULL));
    REFUSED("weft_mpsc_try_reserve_many", weft_mpsc_try_reserve_many(NULL, 1, &permit));
    REFUSED("weft_mpsc_try_reserve_many", weft_mpsc_try_reserve_many(tx, 1, NULL));
    REFUSED("weft_mpsc_try_reserve_many", weft_mpsc_try_reserve_many(tx, 3, &permit));
    REFUSED("weft_mpsc_try_reserve_many", weft_mpsc_try_reserve_many(unbounded, 1, &permit));
    REFUSED("weft_broadcast_blocking_closed", weft_broadcast_blocking_closed(NULL));
    REFUSED("weft_watch_blocking_closed", weft_watch_blocking_closed(NULL));
    EXPECT_EQ(weft_mpsc_try_recv(rx, &v), -EAGAIN); /* nothing of all that was sent */
    weft_mpsc_sender_unref(tx);
    weft_mpsc_sender_unref(unbounded);
    weft_mpsc_receiver_unref(rx);
    weft_mpsc_receiver_unref(other);
}

static void selects(struct test_env *env)
{
    (void)env;
    static const weft_future_ops none = {.name = "nothing"};
    weft_future broken[] = {{.ops = NULL}, {.ops = &none}};
    REFUSED("weft_blocking_select", weft_blocking_select(NULL, 1));
    REFUSED("weft_try_select", weft_try_select(NULL, 1));
    REFUSED("weft_try_select_biased", weft_try_select_biased(NULL, 1));
    weft_case cases[] = {weft_case_future(NULL)};
    REFUSED("weft_blocking_select", weft_blocking_select(cases, 1));
    for (int i = 0; i < 2; i++) {
        cases[0] = weft_case_future(&broken[i]);
        REFUSED("weft_try_select", weft_try_select(cases, 1));
    }
}

/* A composite says so when it is first waited for. */
static void composites(struct test_env *env)
{
    (void)env;
    weft_select_future s;
    weft_await_all_future a;
    weft_select_future_init(&s, NULL, 2);
    REFUSED("weft_select", weft_await(&s.future));
    weft_await_all_future_init(&a, 0, NULL, 2);
    REFUSED("weft_await_all", weft_await(&a.future));
}

static int poll_ready(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    return 0;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static void local_futures(struct test_env *env)
{
    (void)env;
    static const weft_future_ops none = {.name = "nothing"}, no_cancel = {.poll = poll_ready},
                                 no_poll = {.cancel = cancel_nothing};
    weft_future f[] = {{.ops = NULL}, {.ops = &none}, {.ops = &no_cancel}, {.ops = &no_poll}};
    weft_local_set *set = set_create();
    weft_task *task = NULL;
    weft_spawn_options o = {.local_set = set};
    REFUSED("weft_spawn_local_future", weft_spawn_local_future(&o, NULL, &task));
    for (int i = 0; i < 4; i++)
        REFUSED("weft_spawn_local_future", weft_spawn_local_future(&o, &f[i], &task));
    EXPECT(task == NULL);
    set_destroy(set);
}

static int make_nothing(void *arg, void **ret_value)
{
    *ret_value = arg;
    return 0;
}

/* What blocks a thread is not for tasks, whether it would have to wait or not. */
static void blocking_in_a_task(struct test_env *env)
{
    (void)env;
    static weft_once once;
    static weft_set_once set_once;
    weft_case cases[] = {weft_case_sleep(0)};
    void *value = NULL;
    SAYS(-EPERM, "weft_once_blocking_get_or_init",
         weft_once_blocking_get_or_init(&once, make_nothing, NULL, &value));
    SAYS(-EPERM, "weft_set_once_blocking_wait", weft_set_once_blocking_wait(&set_once, &value));
    SAYS(-EPERM, "weft_blocking_select", weft_blocking_select(cases, 1));
    EXPECT(value == NULL);
}

static ssize_t call_nothing(int fd, void *arg)
{
    (void)fd, (void)arg;
    return 0;
}

struct handles {
    weft_fd *fd;
    weft_tcp_listener *listener;
};

static void *open_handles(void *arg)
{
    struct handles *h = arg;
    uint16_t port;
    int fd[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
    CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_OWNED, &h->fd), 0);
    h->listener = socks_listen(&port);
    CHECK_EQ(close(fd[1]), 0);
    return NULL;
}

/* What suspends is not for threads that run no task. */
static void suspending_outside_tasks(struct test_env *env)
{
    struct handles h;
    weft_tcp *conn;
    CHECK(test_block_on(env->rt, open_handles, &h) == NULL);
    SAYS(-EPERM, "weft_fd_wait", weft_fd_wait(h.fd, WEFT_READY_READ, NULL));
    SAYS(-EPERM, "weft_fd_io", weft_fd_io(h.fd, WEFT_READY_READ, call_nothing, NULL));
    SAYS(-EPERM, "weft_tcp_accept", weft_tcp_accept(h.listener, &conn));
    CHECK_EQ(weft_fd_close(h.fd), 0);
    CHECK_EQ(weft_tcp_listener_close(h.listener), 0);
}

static void *want_time(void *arg)
{
    weft_sleep_future f;
    weft_delay_queue *q = NULL;
    (void)arg;
    weft_sleep_future_init(&f, 1);
    SAYS(-EPERM, "weft_sleep_future", weft_await(&f.future));
    SAYS(-EPERM, "weft_delay_queue_create", weft_delay_queue_create(sizeof(int), NULL, &q));
    EXPECT(q == NULL);
    return NULL;
}

static void time_that_is_switched_off(struct test_env *env)
{
    (void)env;
    weft_config c;
    weft_runtime *rt;
    test_config(&c, TEST_CT);
    c.enable_time = false;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    CHECK(test_block_on(rt, want_time, NULL) == NULL);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

/* ---- scopes ---- */

/* Outside all runtimes: the block runs, and what it asks of the scope is refused. */
static void scopes_where_nothing_can_wait(struct test_env *env)
{
    (void)env;
    int rc = 0, ran = 0;
    test_log_clear();
    WEFT_SCOPE_INTO(s, &rc) {
        EXPECT_LOGGED("weft_scope_enter");
        EXPECT(weft_scope_spawn(s, test_noop, NULL) < 0);
        SAYS(-EINVAL, "weft_scope_wait", weft_scope_wait(s));
        weft_scope_cancel(s); /* nothing */
        ran++;
    }
    EXPECT_EQ(rc, -EPERM);
    WEFT_SCOPE(s) {
        weft_scope_cancel(s);
        ran++;
    }
    EXPECT_EQ(ran, 2);
    test_log_clear();
}

/* ---- hooks ---- */

static struct {
    weft_mpsc_receiver *rx;
    weft_local_set *set;
    int calls, rc_recv, rc_drive;
} hook;

static void wait_in_hook(const weft_task_meta *task, void *arg)
{
    int v;
    weft_outcome o;
    (void)task, (void)arg;
    hook.calls++;
    hook.rc_recv = weft_mpsc_blocking_recv(hook.rx, &v);
    hook.rc_drive = weft_local_set_run_until(hook.set, test_noop, NULL, &o);
}

static void *spawn_and_join(void *arg)
{
    EXPECT_EQ(test_join_kind(SPAWN(test_noop, arg)), WEFT_OUTCOME_VALUE);
    return NULL;
}

static void waits_in_hooks(struct test_env *env)
{
    (void)env;
    weft_config c;
    weft_runtime *rt;
    weft_mpsc_sender *tx;
    hook.set = set_create();
    hook.calls = 0;
    CHECK_EQ(weft_mpsc_create(sizeof(int), 1, NULL, &tx, &hook.rx), 0);
    test_config(&c, TEST_CT);
    c.on_task_spawn = wait_in_hook;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    test_log_clear();
    CHECK(test_block_on(rt, spawn_and_join, NULL) == NULL);
    EXPECT(hook.calls >= 1);
    EXPECT_EQ(hook.rc_recv, -EPERM);
    EXPECT_EQ(hook.rc_drive, -EPERM);
    EXPECT_EQ(test_log_took("a hook must not wait"), 2 * hook.calls);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    set_destroy(hook.set);
    weft_mpsc_sender_unref(tx);
    weft_mpsc_receiver_unref(hook.rx);
}

/* ---- who may drive a local set ---- */

static int drive_in_poll(weft_future *f, weft_waker *waker)
{
    weft_outcome o;
    (void)f, (void)waker;
    SAYS(-EPERM, "weft_local_set_run_until",
         weft_local_set_run_until(hook.set, test_noop, NULL, &o));
    return 0;
}

static void *join_driving_future(void *arg)
{
    static const weft_future_ops ops = {drive_in_poll, cancel_nothing, "driving"};
    static weft_future f = {&ops};
    weft_task *task;
    CHECK_EQ(weft_spawn_future(NULL, &f, &task), 0);
    EXPECT_EQ(test_join_kind(task), WEFT_OUTCOME_VALUE);
    return arg;
}

static void a_set_driven_in_a_poll(struct test_env *env)
{
    hook.set = set_create();
    CHECK(test_block_on(env->rt, join_driving_future, NULL) == NULL);
    set_destroy(hook.set);
}

/* At home where it was made, by a task that is free to move by now. */
static void a_set_driven_by_a_task_that_may_move(struct test_env *env)
{
    weft_outcome o;
    (void)env;
    weft_pin();
    weft_local_set *set = set_create();
    CHECK_EQ(weft_unpin(), 0);
    SAYS(-EPERM, "weft_local_set_run_until", weft_local_set_run_until(set, test_noop, NULL, &o));
    weft_pin();
    set_destroy(set);
    CHECK_EQ(weft_unpin(), 0);
}

TEST_MAIN(PLAIN(channels), PLAIN(selects), IN_TASK(composites), PLAIN(local_futures),
          IN_TASK(blocking_in_a_task), ON_MAIN(suspending_outside_tasks),
          PLAIN(time_that_is_switched_off), PLAIN(scopes_where_nothing_can_wait),
          PLAIN(waits_in_hooks), ON_MAIN_ON(a_set_driven_in_a_poll, TEST_CT),
          IN_TASK_ON(a_set_driven_by_a_task_that_may_move, TEST_MT1))
