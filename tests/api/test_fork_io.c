/* ctest: parallel not-under=address,thread,memcheck,aarch64 (a fork of a process with threads) */
/* Forked children and the descriptors of their parent: what they may open, close and wait for. */
#include "fork_common.h"
#include "harness.h"
#include "program.h"
#include "socks.h"

#include <weft/future.h>
#include <weft/io.h>
#include <weft/net.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_bool over; /* what other threads do meanwhile */

/* ---- what is opened ---- */

/* What it opened there would be in the epoll instance that both share, behind locks that may be
 * held for ever. */
static void *fork_and_open(void *arg)
{
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port), *other;
    weft_tcp *conn;
    weft_fd *wfd;
    int ends[2];
    int fd = socks_raw_connect(port);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(20); /* a hang is a failure */
        _exit(weft_fd_open(ends[0], 0, &wfd) != -EPERM               ? 40
              : weft_tcp_from_fd(fd, &conn) != -EPERM                ? 41
              : weft_tcp_listen("127.0.0.1:0", &other) != -EPERM     ? 42
              : weft_tcp_listener_from_fd(fd, &other) != -EPROTOTYPE ? 43
              : weft_tcp_try_accept(l, &conn) != -EPERM              ? 44
                                                                     : 0);
    }
    *(int *)arg = program_status(pid);
    CHECK_EQ(weft_tcp_try_accept(l, &conn), 0); /* who is in the queue has stayed there */
    CHECK_EQ(weft_tcp_close(conn), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    close(fd);
    close(ends[0]);
    close(ends[1]);
    return arg;
}

static int child_that_opens(void)
{
    return expect_everywhere(fork_and_open, 0);
}

static void a_child_opens_nothing_in_a_runtime_of_its_parents(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("child that opens", NULL), 0);
}

/* ---- the parent's sockets ---- */

static void *read_one(void *arg)
{
    char c;
    ssize_t n = 0;
    WEFT_TIMEOUT(10 * WEFT_SEC)
        n = weft_tcp_read(arg, &c, 1);
    return n == 1 ? arg : NULL;
}

static int wait_for_the_parents(void *arg)
{
    char c;
    return (int)weft_tcp_read(arg, &c, 1);
}

static void *close_in_child(void *arg)
{
    bool starts_anew = arg != NULL;
    weft_tcp_listener *l;
    weft_tcp *near, *far;
    weft_addr addr;
    char c = 'x';
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &near), 0);
    CHECK_EQ(weft_tcp_accept(l, &far), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(20); /* a hang is a failure */
        if (starts_anew && use_new_runtimes() != 0)
            _exit(1);
        if (starts_anew && weft_run(wait_for_the_parents, near) != -EPERM)
            _exit(2);
        int fds = test_count_fds();
        /* Of a copy that is shared: the parent's goes on. */
        _exit(weft_tcp_close(near) != 0 ? 3 : test_count_fds() != fds - 1 ? 4 : 0);
    }
    CHECK_EQ(program_status(pid), 0);
    weft_task *reader = SPAWN(read_one, near);
    CHECK_SOON(test_waits(NULL, reader)); /* for an edge */
    CHECK_EQ(weft_tcp_write(far, &c, 1), 1);
    CHECK(test_join_value(reader) == near);
    CHECK_EQ(weft_tcp_close(near), 0);
    CHECK_EQ(weft_tcp_close(far), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    return arg;
}

static int close_of_the_parents(void)
{
    for (int f = TEST_CT; f <= TEST_MT4; f++) {
        weft_runtime *rt = create((enum test_flavour)f);
        if (weft_block_on(rt, close_in_child, NULL, NULL) != 0 ||
            weft_block_on(rt, close_in_child, rt, NULL) != 0 || weft_runtime_destroy(rt) != 0)
            return 1;
    }
    return test_has_failed();
}

static void a_child_that_closes_a_connection_leaves_it_to_the_parent(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("close of the parent's", NULL), 0);
}

/* Of a half too: what the child gives up is its copy, and not the parent's direction. */
static void *close_halves_in_child(void *arg)
{
    weft_tcp_listener *l;
    weft_tcp *near, *far;
    weft_tcp_reader *reader;
    weft_tcp_writer *writer;
    weft_addr addr;
    char c = 'x';
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &near), 0);
    CHECK_EQ(weft_tcp_accept(l, &far), 0);
    CHECK_EQ(weft_tcp_split(near, &reader, &writer), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd, listening;
        (void)alarm(20); /* a hang is a failure */
        if (weft_tcp_close(near) != -EBUSY || weft_tcp_into_fd(near, &fd) != -EBUSY)
            _exit(1);
        if (weft_tcp_writer_close(writer) != 0 || weft_tcp_writer_close(writer) != -EBADF ||
            weft_tcp_reader_close(reader) != 0 || weft_tcp_reader_close(reader) != -EBADF)
            _exit(2);
        if (weft_tcp_listener_into_fd(l, &listening) != 0 || fcntl(listening, F_GETFD) == -1)
            _exit(3);
        _exit(weft_tcp_into_fd(far, &fd) != 0 || write(fd, &c, 1) != 1 || close(fd) != 0);
    }
    CHECK_EQ(program_status(pid), 0);
    CHECK_EQ(weft_tcp_reader_read(reader, &c, 1), 1); /* the child's */
    CHECK_EQ(weft_tcp_writer_write(writer, &c, 1), 1);
    CHECK_EQ(weft_tcp_read(far, &c, 1), 1);
    CHECK_EQ(weft_tcp_try_read(far, &c, 1), -EAGAIN); /* no end */
    CHECK_EQ(weft_tcp_writer_close(writer), 0);
    CHECK_EQ(weft_tcp_read(far, &c, 1), 0);
    CHECK_EQ(weft_tcp_reader_close(reader), 0);
    CHECK_EQ(weft_tcp_close(far), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    return arg;
}

static int halves_of_the_parents(void)
{
    weft_runtime *rt = create(TEST_MT1);
    if (weft_block_on(rt, close_halves_in_child, NULL, NULL) != 0 || weft_runtime_destroy(rt) != 0)
        return 1;
    return test_has_failed();
}

static void a_child_that_closes_a_half_leaves_it_to_the_parent(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("halves of the parent's", NULL), 0);
}

/* A future that is polled once and left as it is then. */
struct left {
    weft_future future;
    weft_future *inner;
};

static int poll_and_leave(weft_future *f, weft_waker *waker)
{
    CHECK_EQ(weft_future_poll(((struct left *)(void *)f)->inner, waker), WEFT_PENDING);
    return 0;
}

static const weft_future_ops leaving_ops = {
    .poll = poll_and_leave, .cancel = never_cancelled, .name = "left"};

static void leave_pending(weft_future *inner)
{
    struct left once = {.future = {.ops = &leaving_ops}, .inner = inner};
    CHECK_EQ(weft_await(&once.future), 0);
}

static int await_the_parents(void *future)
{
    return weft_await(future);
}

/* In the child: what awaiting it comes to in a runtime of its own. */
static int fork_and_await(weft_future *f)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(20); /* a hang is a failure */
        _exit(-weft_run(await_the_parents, f));
    }
    int rc = program_status(pid);
    weft_future_cancel(f);
    return rc;
}

static void *leave_a_wait(void *arg)
{
    weft_fd_wait_future f;
    weft_fd *wfd;
    int ends[2];
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQ(weft_fd_open(ends[0], 0, &wfd), 0);
    weft_fd_wait_future_init(&f, wfd, WEFT_READY_READ);
    leave_pending(&f.future);
    CHECK_EQ(fork_and_await(&f.future), EPERM); /* nobody would ever wake it */
    CHECK_EQ(weft_fd_close(wfd), 0);
    close(ends[0]);
    close(ends[1]);
    return arg;
}

/* Backing off for want of descriptors, it goes by a timer of the parent's. */
static void *leave_an_accept(void *arg)
{
    weft_tcp_accept_future f;
    weft_tcp *conn;
    struct rlimit limit;
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    int fd = socks_raw_connect(port);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rlimit lower = {.rlim_cur = 0, .rlim_max = limit.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &lower), 0);
    weft_tcp_accept_future_init(&f, l, &conn);
    leave_pending(&f.future);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(fork_and_await(&f.future), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    close(fd);
    return arg;
}

static int waits_of_the_parents(void)
{
    weft_runtime *rt = create(TEST_MT1);
    if (weft_block_on(rt, leave_a_wait, NULL, NULL) != 0 ||
        weft_block_on(rt, leave_an_accept, NULL, NULL) != 0 || weft_runtime_destroy(rt) != 0)
        return 1;
    return test_has_failed();
}

static void a_child_that_awaits_what_its_parent_awaited_does_not_hang(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("waits of the parent's", NULL), 0);
}

/* ---- in a storm of edges ---- */

enum { STORM_WAITERS = 30 };

static weft_tcp *storm[2]; /* both ends of one connection */
static weft_tcp_listener *storm_listener;
static atomic_bool is_storming;

/* Each edge wakes all that wait, so that the connection's lock is held for long. */
static void *wait_on(void *arg)
{
    char c;
    (void)arg;
    while (!atomic_load(&over) && weft_tcp_read(storm[1], &c, 1) > 0)
        continue;
    return NULL;
}

static void *make_edges(void *arg)
{
    weft_task *waiter[STORM_WAITERS];
    weft_outcome o;
    weft_addr addr;
    if (weft_tcp_listen("127.0.0.1:0", &storm_listener) != 0 ||
        weft_tcp_listener_local_addr(storm_listener, &addr) != 0 ||
        weft_tcp_connect_addr(NULL, &addr, &storm[0]) != 0 ||
        weft_tcp_accept(storm_listener, &storm[1]) != 0)
        abort();
    for (int i = 0; i < STORM_WAITERS; i++)
        if (weft_spawn(wait_on, NULL, &waiter[i]) != 0)
            abort();
    atomic_store(&is_storming, true);
    while (!atomic_load(&over))
        if (weft_tcp_write(storm[0], "x", 1) != 1)
            abort();
    if (weft_tcp_shutdown(storm[0], SHUT_WR) != 0)
        abort();
    for (int i = 0; i < STORM_WAITERS; i++)
        if (weft_join(waiter[i], &o) != 0)
            abort();
    return arg;
}

static void *run_storm(void *arg)
{
    return weft_block_on(arg, make_edges, NULL, NULL) == 0 ? arg : NULL;
}

static int close_storm_in_child(void)
{
    weft_tcp_reader *reader;
    weft_tcp_writer *writer;
    (void)alarm(20); /* a hang is a failure */
    return weft_tcp_split(storm[1], &reader, &writer) || weft_tcp_writer_close(writer) ||
           weft_tcp_reader_close(reader) || weft_tcp_close(storm[0]) ||
           weft_tcp_listener_close(storm_listener);
}

static int fork_in_a_storm_of_edges(void)
{
    weft_runtime *rt = create(TEST_MT4);
    pthread_t runner;
    int rc = 0;
    if (pthread_create(&runner, NULL, run_storm, rt) != 0)
        return 60;
    while (!atomic_load(&is_storming))
        usleep(1000);
    for (unsigned i = 0; rc == 0 && i < test_scaled(200); i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(close_storm_in_child());
        rc = program_status(pid);
    }
    atomic_store(&over, true);
    pthread_join(runner, NULL);
    return rc ? rc > 255 ? 61 : rc : weft_runtime_destroy(rt) ? 62 : 0;
}

static void a_child_closes_connections_forked_in_a_storm_of_their_edges(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("fork in a storm of edges", NULL), 0);
}

static const struct program programs[] = {
    {"child that opens", child_that_opens},
    {"close of the parent's", close_of_the_parents},
    {"halves of the parent's", halves_of_the_parents},
    {"waits of the parent's", waits_of_the_parents},
    {"fork in a storm of edges", fork_in_a_storm_of_edges},
};

static const struct CMUnitTest tests[] = {
    PLAIN(a_child_opens_nothing_in_a_runtime_of_its_parents),
    PLAIN(a_child_that_closes_a_connection_leaves_it_to_the_parent),
    PLAIN(a_child_that_closes_a_half_leaves_it_to_the_parent),
    PLAIN(a_child_that_awaits_what_its_parent_awaited_does_not_hang),
    PLAIN(a_child_closes_connections_forked_in_a_storm_of_their_edges),
};

int main(int argc, char **argv)
{
    program_main(argc, argv, programs, sizeof programs / sizeof programs[0]);
    return test_main(tests, sizeof tests / sizeof tests[0], argc, argv);
}
