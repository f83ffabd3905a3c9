/* Descriptors: AF and IO of BEHAVIOURS. */
#include "harness.h"
#include "socks.h"

#include <weft/io.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/ip.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void sockets(int fd[2])
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
}

static weft_fd *open_owned(int fd)
{
    weft_fd *w = NULL;
    CHECK_EQ(weft_fd_open(fd, WEFT_FD_OWNED, &w), 0);
    return w;
}

/* What is ready, as soon as something is. */
static unsigned ready_soon(weft_fd *w, unsigned interest)
{
    weft_fd_ready ready;
    CHECK_EQ(weft_fd_wait(w, interest, &ready), 0);
    return ready.bits;
}

/* Nothing is, nor will be in the next few milliseconds. */
static bool stays_unready(weft_fd *w, unsigned interest)
{
    int rc = 0;
    WEFT_TIMEOUT(5 * WEFT_MS)
        rc = weft_fd_wait(w, interest, NULL);
    return rc == -ETIMEDOUT;
}

/* ---- AF-01 ---- */

static void af_01_a_fresh_socket_is_writable_only(struct test_env *env)
{
    (void)env;
    int fd[2];
    sockets(fd);
    weft_fd *w = open_owned(fd[0]);
    CHECK_EQ(ready_soon(w, WEFT_READY_WRITE), WEFT_READY_WRITE);
    CHECK(stays_unready(w, WEFT_READY_READ));
    CHECK_EQ(weft_fd_try_wait(w, WEFT_READY_READ, NULL), -EAGAIN);
    weft_fd_close(w);
    close(fd[1]);
}

static void af_01_any_descriptor_that_can_be_polled(struct test_env *env)
{
    (void)env;
    int pipes[2];
    char c;
    uint64_t count = 3;
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    weft_fd *r = open_owned(pipes[0]), *w = open_owned(pipes[1]);
    CHECK_EQ(weft_fd_write(w, "p", 1), 1);
    CHECK_EQ(weft_fd_read(r, &c, 1), 1);
    CHECK_EQ(c, 'p');
    weft_fd_close(w);
    CHECK_EQ(weft_fd_read(r, &c, 1), 0);
    weft_fd_close(r);

    weft_fd *e = open_owned(eventfd(0, EFD_CLOEXEC));
    CHECK_EQ(weft_fd_write(e, &count, sizeof(count)), 8);
    count = 0;
    CHECK_EQ(weft_fd_read(e, &count, sizeof(count)), 8);
    CHECK_EQ(count, 3);
    weft_fd_close(e);

    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec in_2_ms = {.it_value = {.tv_nsec = 2000000}};
    weft_fd *t = open_owned(fd);
    CHECK_EQ(timerfd_settime(fd, 0, &in_2_ms, NULL), 0);
    CHECK_EQ(weft_fd_read(t, &count, sizeof(count)), 8);
    CHECK_EQ(count, 1);
    weft_fd_close(t);
}

/* ---- AF-02 ---- */

static ssize_t call_read(int fd, void *arg)
{
    ssize_t n = read(fd, arg, 4);
    return n < 0 ? -errno : n;
}

static ssize_t call_nothing(int fd, void *arg)
{
    (void)fd;
    return *(int *)arg;
}

static void af_02_readable_until_it_would_block(struct test_env *env)
{
    (void)env;
    int fd[2];
    char buf[4];
    int result;
    sockets(fd);
    weft_fd *w = open_owned(fd[0]);
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_READ, call_read, buf), -EAGAIN);
    CHECK_EQ(write(fd[1], "12345678", 8), 8);
    weft_fd_ready ready;
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_READ, &ready), 0);
    CHECK_EQ(ready.bits, WEFT_READY_READ);
    /* Keeping it is doing nothing. */
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_READ, &ready), 0);
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_READ, call_read, buf), 4);
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_READ, call_read, buf), 4);
    /* Results and errors other than would-block keep it, too. */
    result = -EIO;
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_READ, call_nothing, &result), -EIO);
    result = 0;
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_READ, call_nothing, &result), 0);
    CHECK_EQ(weft_fd_try_wait(w, WEFT_READY_READ, &ready), 0);
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_READ, call_read, buf), -EAGAIN); /* this clears it */
    CHECK_EQ(weft_fd_try_wait(w, WEFT_READY_READ, &ready), -EAGAIN);

    CHECK_EQ(write(fd[1], "12", 2), 2);
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_READ, &ready), 0);
    CHECK_EQ(weft_fd_clear(w, &ready, WEFT_READY_READ), 0); /* by hand, though there is data */
    CHECK(stays_unready(w, WEFT_READY_READ));

    /* A new edge after the snapshot is not cleared with it. */
    CHECK_EQ(write(fd[1], "3", 1), 1);
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_READ, &ready), 0);
    weft_fd_ready old = ready;
    CHECK_EQ(write(fd[1], "4", 1), 1);
    do { /* until that edge has come */
        CHECK_EQ(weft_yield(), 0);
        CHECK_EQ(weft_fd_try_wait(w, WEFT_READY_READ, &ready), 0);
    } while (memcmp(ready.seen, old.seen, sizeof(old.seen)) == 0);
    CHECK_EQ(weft_fd_clear(w, &old, WEFT_READY_READ), 0);
    CHECK_EQ(weft_fd_try_wait(w, WEFT_READY_READ, &ready), 0);
    weft_fd_close(w);
    close(fd[1]);
}

static void *wait_with_io(void *arg)
{
    char buf[4];
    return (void *)(intptr_t)weft_fd_io(arg, WEFT_READY_READ, call_read, buf);
}

static void af_02_io_waits_until_the_call_succeeds(struct test_env *env)
{
    int fd[2];
    sockets(fd);
    weft_fd *w = open_owned(fd[0]);
    weft_task *t = SPAWN(wait_with_io, w);
    CHECK_SOON(socks_is_waiting(env->handle, "readable descriptor", 1));
    CHECK_EQ(write(fd[1], "abc", 3), 3);
    CHECK_EQ((intptr_t)test_join_value(t), 3);
    weft_fd_close(w);
    close(fd[1]);
}

static ssize_t panic_in_call(int fd, void *arg)
{
    (void)fd;
    (void)arg;
    weft_panic("in the call");
}

static void *io_that_panics(void *arg)
{
    return (void *)(intptr_t)weft_fd_io(arg, WEFT_READY_WRITE, panic_in_call, NULL);
}

static void *try_io_that_panics(void *arg)
{
    return (void *)(intptr_t)weft_fd_try_io(arg, WEFT_READY_WRITE, panic_in_call, NULL);
}

/* The descriptor is nobody's afterwards: it can be released, and closed. */
static void af_02_a_panic_in_the_call_gives_the_descriptor_back(struct test_env *env)
{
    int fd[2], released;
    (void)env;
    sockets(fd);
    weft_fd *w = open_owned(fd[0]);
    CHECK_EQ(test_join_kind(SPAWN(io_that_panics, w)), WEFT_OUTCOME_PANICKED);
    CHECK_EQ(test_join_kind(SPAWN(try_io_that_panics, w)), WEFT_OUTCOME_PANICKED);
    CHECK_EQ(weft_fd_release(w, &released), 0);
    CHECK_EQ(released, fd[0]);
    w = open_owned(fd[0]);
    CHECK_EQ(test_join_kind(SPAWN(io_that_panics, w)), WEFT_OUTCOME_PANICKED);
    CHECK_EQ(weft_fd_close(w), 0);
    EXPECT(fcntl(fd[0], F_GETFD) < 0 && errno == EBADF);
    close(fd[1]);
    test_log_clear();
}

/* ---- AF-03 ---- */

static void fill(int fd)
{
    static const char zeros[65536];
    while (write(fd, zeros, sizeof(zeros)) > 0)
        continue;
}

static void af_03_directions_are_independent(struct test_env *env)
{
    (void)env;
    int fd[2];
    char buf[4];
    sockets(fd);
    weft_fd *w = open_owned(fd[0]);
    CHECK_EQ(write(fd[1], "x", 1), 1);
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_READ, NULL), 0);
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_WRITE, NULL), 0);
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_READ, call_read, buf), 1);
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_READ, call_read, buf), -EAGAIN);
    CHECK_EQ(weft_fd_try_wait(w, WEFT_READY_WRITE, NULL), 0); /* untouched */
    fill(fd[0]);
    int would_block = -EAGAIN;
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_WRITE, call_nothing, &would_block), -EAGAIN);
    CHECK_EQ(write(fd[1], "y", 1), 1);
    CHECK_EQ(ready_soon(w, WEFT_READY_READ | WEFT_READY_WRITE), WEFT_READY_READ);
    weft_fd_close(w);
    close(fd[1]);
}

static void *wait_readable(void *arg)
{
    weft_fd_ready ready = {.bits = 0};
    int rc = weft_fd_wait(arg, WEFT_READY_READ, &ready);
    return (void *)(intptr_t)(rc < 0 ? rc : (int)ready.bits);
}

static void af_03_all_waiters_wake(struct test_env *env)
{
    int fd[2];
    weft_task *task[40]; /* more than the driver collects at once */
    sockets(fd);
    weft_fd *w = open_owned(fd[0]);
    for (int i = 0; i < 40; i++)
        task[i] = SPAWN(wait_readable, w);
    CHECK_SOON(socks_is_waiting(env->handle, "readable descriptor", 40));
    CHECK_EQ(write(fd[1], "x", 1), 1);
    for (int i = 0; i < 40; i++)
        CHECK_EQ((intptr_t)test_join_value(task[i]), WEFT_READY_READ);
    weft_fd_close(w);
    close(fd[1]);
}

/* ---- AF-04, AF-05, AF-08 ---- */

static bool fd_is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void af_04_owned_and_borrowed(struct test_env *env)
{
    (void)env;
    int fd[2], same;
    weft_fd *w, *again;
    sockets(fd);
    CHECK_EQ(weft_fd_open(fd[0], 0, &w), 0);
    CHECK_EQ(weft_fd_number(w), fd[0]);
    CHECK_EQ(weft_fd_open(fd[0], 0, &again), -EEXIST);
    CHECK_EQ(weft_fd_close(w), 0);
    CHECK(fd_is_open(fd[0])); /* borrowed */
    CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_OWNED, &w), 0);
    CHECK_EQ(weft_fd_release(w, &same), 0);
    CHECK_EQ(same, fd[0]);
    CHECK(fd_is_open(fd[0])); /* given back */
    w = open_owned(fd[0]);    /* again: and it works */
    CHECK_EQ(ready_soon(w, WEFT_READY_WRITE), WEFT_READY_WRITE);
    CHECK_EQ(weft_fd_close(w), 0);
    CHECK(!fd_is_open(fd[0])); /* owned */
    test_log_clear();
    CHECK_EQ(weft_fd_close(w), -EBADF);
    EXPECT_LOGGED("weft_fd_close");
    CHECK_EQ(weft_fd_close(NULL), 0);
    close(fd[1]);
}

struct replaced {
    weft_fd *old, *next;
    int spare[2]; /* takes the number of the descriptor that was closed */
};

/* Ends the handle and the descriptor, whose number is another's at once. */
static ssize_t replace_it(int fd, void *arg)
{
    struct replaced *r = arg;
    EXPECT_EQ(weft_fd_close(r->old), 0);
    EXPECT_EQ(dup2(r->spare[0], fd), fd);
    EXPECT_EQ(weft_fd_open(fd, 0, &r->next), 0);
    return 1;
}

/* A borrowed descriptor is its owner's again once its handle is closed, also if a call on it is
 * under way: who has the number next is not affected by the end of that. */
static void a_borrowed_number_is_free_once_closed(struct test_env *env)
{
    (void)env;
    struct replaced r;
    int fd[2];
    sockets(fd);
    sockets(r.spare);
    CHECK_EQ(weft_fd_open(fd[0], 0, &r.old), 0);
    CHECK_EQ(ready_soon(r.old, WEFT_READY_WRITE), WEFT_READY_WRITE);
    test_log_clear();
    CHECK_EQ(weft_fd_try_io(r.old, WEFT_READY_WRITE, replace_it, &r), 1);
    CHECK_EQ(test_log_count("was closed"), 0);
    CHECK_EQ(write(r.spare[1], "x", 1), 1);
    WEFT_TIMEOUT(5 * WEFT_SEC)
        EXPECT_EQ(weft_fd_wait(r.next, WEFT_READY_READ, NULL), 0);
    CHECK_EQ(weft_fd_close(r.next), 0);
    close(fd[0]);
    close(fd[1]);
    close(r.spare[0]);
    close(r.spare[1]);
}

struct taken_over {
    weft_fd *pipe, *bell;
    int pipe_end, spare_end;
    ssize_t read;
};

static void *read_borrowed(void *arg)
{
    struct taken_over *t = arg;
    char byte;
    t->read = weft_fd_read(t->pipe, &byte, 1);
    return NULL;
}

static void *take_over(void *arg)
{
    struct taken_over *t = arg;
    CHECK_EQ(weft_fd_wait(t->bell, WEFT_READY_READ, NULL), 0);
    CHECK_EQ(weft_fd_close(t->pipe), 0);
    CHECK_EQ(dup2(t->spare_end, t->pipe_end), t->pipe_end);
    return NULL;
}

/* A task that was woken, and has not run, before the handle was closed does not go on with it: what
 * it would read is another's. */
static void a_woken_reader_leaves_a_borrowed_number_alone(struct test_env *env)
{
    (void)env;
    struct taken_over t;
    int fd[2], spare[2];
    char byte = 0;
    CHECK_EQ(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQ(pipe2(spare, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQ(write(spare[1], "s", 1), 1);
    int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    t.bell = open_owned(bell);
    CHECK_EQ(weft_fd_open(fd[0], 0, &t.pipe), 0);
    t.pipe_end = fd[0];
    t.spare_end = spare[0];
    weft_task *reader = SPAWN(read_borrowed, &t), *closer = SPAWN(take_over, &t);
    CHECK_SOON(test_waits(NULL, reader) && test_waits(NULL, closer));
    CHECK_EQ(eventfd_write(bell, 1), 0); /* reported first, and both in one look */
    CHECK_EQ(write(fd[1], "x", 1), 1);
    (void)test_join_value(closer);
    (void)test_join_value(reader);
    EXPECT_EQ(t.read, -EBADF);
    EXPECT_EQ(read(spare[0], &byte, 1), 1);
    CHECK_EQ(weft_fd_close(t.bell), 0);
    for (int i = 0; i < 2; i++) {
        close(fd[i]);
        close(spare[i]);
    }
}

/* ---- signals ---- */

/* Of a socket whose peer is gone, as of a connection. */
static void writing_to_a_socket_raises_no_signal(struct test_env *env)
{
    (void)env;
    int fd[2];
    sigset_t pipe_signal, before, pending;
    sockets(fd);
    weft_fd *w = open_owned(fd[0]);
    close(fd[1]);
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &pipe_signal, &before), 0);
    ssize_t direct = -1, by_stream = -1;
    WEFT_UNCONSTRAINED {
        direct = weft_fd_write(w, "x", 1);
        by_stream = weft_write_all(weft_fd_stream(w), "x", 1, NULL);
    }
    sigpending(&pending);
    bool raised = sigismember(&pending, SIGPIPE);
    if (raised)
        (void)sigtimedwait(&pipe_signal, NULL, &(struct timespec){0});
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    CHECK_EQ(direct, -EPIPE);
    CHECK_EQ(by_stream, -EPIPE);
    CHECK(!raised);
    CHECK_EQ(weft_fd_close(w), 0);
}

static void af_04_blocking_mode(struct test_env *env)
{
    (void)env;
    int fd[2];
    weft_fd *w;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_KEEP_BLOCKING, &w), 0);
    CHECK_EQ(fcntl(fd[0], F_GETFL) & O_NONBLOCK, 0);
    weft_fd_close(w);
    CHECK_EQ(weft_fd_open(fd[0], 0, &w), 0);
    CHECK(fcntl(fd[0], F_GETFL) & O_NONBLOCK);
    weft_fd_close(w);
    close(fd[0]);
    close(fd[1]);
}

static void af_05_what_cannot_be_polled_is_given_back(struct test_env *env)
{
    (void)env;
    weft_fd *w;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK_EQ(weft_fd_open(fd, WEFT_FD_OWNED, &w), -EPERM);
    CHECK(fd_is_open(fd)); /* still ours, and as it was */
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    close(fd);
    CHECK_EQ(weft_fd_open(fd, WEFT_FD_OWNED, &w), -EBADF);
    CHECK_EQ(weft_fd_open(-1, 0, &w), -EBADF);
    CHECK_EQ(weft_fd_open(0, 0x80, &w), -EINVAL);
    CHECK_EQ(weft_fd_open(0, 0, NULL), -EINVAL);
}

static void af_05_outside_a_runtime(struct test_env *env)
{
    (void)env;
    int fd[2];
    weft_fd *w;
    CHECK_EQ(pipe(fd), 0);
    test_log_clear();
    CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_OWNED, &w), -EPERM);
    EXPECT_LOGGED("weft_fd_open");
    CHECK(fd_is_open(fd[0]));
    close(fd[0]);
    close(fd[1]);
}

static void af_08_closed_behind_our_back(struct test_env *env)
{
    (void)env;
    int fd[2];
    sockets(fd);
    weft_fd *w = open_owned(fd[0]);
    close(fd[0]);
    int stranger = dup(fd[1]); /* takes the number */
    CHECK_EQ(stranger, fd[0]);
    test_log_clear();
    CHECK_EQ(weft_fd_close(w), 0);
    CHECK_EQ(test_log_count("was closed"), 1);
    CHECK(fd_is_open(stranger)); /* not ours to close */
    close(stranger);
    close(fd[1]);
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(NULL, &m), 0);
    CHECK_EQ(m.fds_registered, m.fds_deregistered);
}

/* ---- AF-06 ---- */

static void af_06_urgent_data(struct test_env *env)
{
    weft_tcp *conn;
    int fd, mine;
    char c;
    (void)env;
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_tcp_into_fd(conn, &mine), 0);
    weft_fd *w = open_owned(mine);
    CHECK(stays_unready(w, WEFT_READY_PRIORITY));
    CHECK_EQ(send(fd, "!", 1, MSG_OOB), 1);
    weft_fd_ready ready;
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_PRIORITY, &ready), 0);
    CHECK_EQ(ready.bits, WEFT_READY_PRIORITY);
    CHECK_EQ(recv(mine, &c, 1, MSG_OOB), 1);
    CHECK_EQ(c, '!');
    CHECK_EQ(weft_fd_clear(w, &ready, WEFT_READY_PRIORITY), 0);
    CHECK(stays_unready(w, WEFT_READY_PRIORITY));
    weft_fd_close(w);
    close(fd);
}

static ssize_t call_error_queue(int fd, void *arg)
{
    char control[512];
    char data[64];
    struct iovec iov = {data, sizeof(data)};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    (void)arg;
    ssize_t n = recvmsg(fd, &msg, MSG_ERRQUEUE);
    return n < 0 ? -errno : n;
}

static void *wait_error_queue(void *arg)
{
    return (void *)(intptr_t)weft_fd_io(arg, WEFT_READY_ERROR, call_error_queue, NULL);
}

static void af_06_error_queue(struct test_env *env)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof(a);
    int one = 1;
    /* A port that nobody has. */
    int probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(probe, (struct sockaddr *)&a, sizeof(a)), 0);
    CHECK_EQ(getsockname(probe, (struct sockaddr *)&a, &len), 0);
    close(probe);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK_EQ(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &one, sizeof(one)), 0);
    weft_fd *w = open_owned(fd);
    weft_task *t = SPAWN(wait_error_queue, w);
    CHECK_SOON(socks_is_waiting(env->handle, "descriptor", 1));
    CHECK_EQ(sendto(fd, "lost", 4, 0, (struct sockaddr *)&a, sizeof(a)), 4);
    CHECK_EQ((intptr_t)test_join_value(t), 4); /* the datagram that was refused */
    CHECK(stays_unready(w, WEFT_READY_PRIORITY));
    weft_fd_close(w);
}

/* ---- AF-07 ---- */

struct ending {
    weft_fd *w[8];
    int peer[8];
    atomic_int waiting;
};

static void *wait_until_the_end(void *arg)
{
    struct ending *e = arg;
    int i = atomic_fetch_add(&e->waiting, 1);
    weft_fd_ready ready = {.bits = 0};
    int rc = weft_fd_wait(e->w[i], WEFT_READY_READ, &ready);
    EXPECT(rc == -ECANCELED || rc == -ESHUTDOWN || rc == 0);
    rc = weft_fd_clear(e->w[i], &ready, WEFT_READY_READ); /* afterwards: safe */
    EXPECT_EQ(rc, 0);
    return NULL;
}

static void *open_all(void *arg)
{
    struct ending *e = arg;
    for (int i = 0; i < 8; i++) {
        int fd[2];
        sockets(fd);
        e->w[i] = open_owned(fd[0]);
        e->peer[i] = fd[1];
    }
    for (int i = 0; i < 8; i++)
        weft_task_detach(SPAWN(wait_until_the_end, e));
    while (atomic_load(&e->waiting) < 8)
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
    return NULL;
}

static void *poke(void *arg)
{
    struct ending *e = arg;
    for (int i = 0; i < 8; i++)
        EXPECT_EQ(write(e->peer[i], "x", 1), 1);
    return NULL;
}

static void af_07_the_end_of_the_runtime_wakes_all(struct test_env *env)
{
    struct ending e = {.waiting = 0};
    pthread_t thread;
    test_block_on(env->rt, open_all, &e);
    CHECK_EQ(pthread_create(&thread, NULL, poke, &e), 0); /* while data is arriving */
    test_shutdown(env);
    pthread_join(thread, NULL);
    for (int i = 0; i < 8; i++) {
        weft_fd_ready ready = {.bits = 0};
        CHECK_EQ(weft_fd_try_wait(e.w[i], WEFT_READY_READ, &ready), -ESHUTDOWN);
        CHECK_EQ(weft_fd_clear(e.w[i], &ready, WEFT_READY_READ), 0);
        CHECK_EQ(weft_fd_close(e.w[i]), 0);
        close(e.peer[i]);
    }
}

/* ---- IO-01 ---- */

struct self_closing {
    weft_fd *w;
    weft_future future;
    weft_fd_wait_future wait;
    atomic_int result, polls;
};

/* A polled task that closes the descriptor whose event woke it, from the worker that delivered the
 * event. */
static int poll_and_close(weft_future *f, weft_waker *waker)
{
    struct self_closing *s =
        (struct self_closing *)((char *)f - offsetof(struct self_closing, future));
    int rc = weft_future_poll(&s->wait.future, waker);
    atomic_fetch_add(&s->polls, 1);
    if (rc == WEFT_PENDING)
        return rc;
    EXPECT_EQ(weft_fd_close(s->w), 0);
    atomic_store(&s->result, rc);
    return 0;
}

static void cancel_it(weft_future *f)
{
    struct self_closing *s =
        (struct self_closing *)((char *)f - offsetof(struct self_closing, future));
    weft_future_cancel(&s->wait.future);
    weft_fd_close(s->w);
}

static const weft_future_ops self_closing_ops = {poll_and_close, cancel_it, "self-closing"};

static void io_01_a_task_that_ends_by_the_wake(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(200); i++) {
        struct self_closing s = {.future = {&self_closing_ops}};
        int fd[2];
        weft_task *t;
        sockets(fd);
        s.w = open_owned(fd[0]);
        weft_fd_wait_future_init(&s.wait, s.w, WEFT_READY_READ);
        CHECK_EQ(weft_spawn_future(NULL, &s.future, &t), 0);
        if (i % 2 == 0)
            CHECK_SOON(atomic_load(&s.polls) > 0);
        CHECK_EQ(write(fd[1], "x", 1), 1);
        if (i % 3 == 0)
            weft_abort(t);
        weft_outcome o;
        CHECK_EQ(weft_join(t, &o), 0);
        if (o.kind == WEFT_OUTCOME_VALUE)
            CHECK_EQ(atomic_load(&s.result), WEFT_READY_READ);
        weft_outcome_fini(&o);
        if (atomic_load(&s.polls) == 0) /* aborted before it ran: neither polled nor cancelled */
            CHECK_EQ(weft_fd_close(s.w), 0);
        close(fd[1]);
    }
}

/* ---- IO-02 ---- */

static void *count_run(void *arg)
{
    struct weft_fd_wait_future *f = arg;
    return (void *)(intptr_t)weft_await(&f->future);
}

/* Two tasks poll one future in turn: the latest is the one that is woken. Two futures: both are. */
struct latest {
    weft_fd_wait_future *wait;
    weft_future future;
    atomic_int polls;
    atomic_bool done;
};

static int poll_latest(weft_future *f, weft_waker *waker)
{
    struct latest *l = (struct latest *)((char *)f - offsetof(struct latest, future));
    int rc = atomic_load(&l->done) ? 0 : weft_future_poll(&l->wait->future, waker);
    atomic_fetch_add(&l->polls, 1); /* it waits: what comes from now on wakes it */
    return rc;
}

static void cancel_nothing(weft_future *f)
{
    (void)f; /* the future belongs to the test */
}

static const weft_future_ops latest_ops = {poll_latest, cancel_nothing, "latest"};

static void io_02_polling_keeps_the_latest_waiter(struct test_env *env)
{
    int fd[2];
    weft_fd_wait_future wait;
    struct latest first = {.wait = &wait, .future = {&latest_ops}};
    struct latest second = {.wait = &wait, .future = {&latest_ops}};
    weft_task *t1, *t2;
    (void)env;
    sockets(fd);
    weft_fd *w = open_owned(fd[0]);
    weft_fd_wait_future_init(&wait, w, WEFT_READY_READ);
    CHECK_EQ(weft_spawn_future(NULL, &first.future, &t1), 0);
    CHECK_SOON(atomic_load(&first.polls) == 1);
    CHECK_EQ(weft_spawn_future(NULL, &second.future, &t2), 0);
    CHECK_SOON(atomic_load(&second.polls) == 1);
    CHECK_EQ(write(fd[1], "x", 1), 1);
    test_join_value(t2);
    CHECK_EQ(atomic_load(&second.polls), 2);
    CHECK_EQ(atomic_load(&first.polls), 1); /* forgotten */
    CHECK_EQ(weft_abort(t1), 0);
    test_join_kind(t1);
    weft_fd_close(w);
    close(fd[1]);
}

static void io_02_each_future_is_a_waiter(struct test_env *env)
{
    int fd[2];
    weft_fd_wait_future wait[3];
    weft_task *task[3];
    sockets(fd);
    weft_fd *w = open_owned(fd[0]);
    for (int i = 0; i < 3; i++) {
        weft_fd_wait_future_init(&wait[i], w, WEFT_READY_READ);
        task[i] = SPAWN(count_run, &wait[i]);
    }
    CHECK_SOON(socks_is_waiting(env->handle, "descriptor", 3));
    CHECK_EQ(write(fd[1], "x", 1), 1);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ((intptr_t)test_join_value(task[i]), WEFT_READY_READ);
        CHECK_EQ(wait[i].ready.bits, WEFT_READY_READ);
    }
    weft_fd_wait_future_init(&wait[0], w, 0); /* misuse */
    CHECK_EQ(weft_await(&wait[0].future), -EINVAL);
    weft_fd_close(w);
    weft_fd_wait_future_init(&wait[0], w, WEFT_READY_READ);
    CHECK_EQ(weft_await(&wait[0].future), -EBADF);
    weft_fd_wait_future_init(&wait[0], NULL, WEFT_READY_READ);
    CHECK_EQ(weft_await(&wait[0].future), -EINVAL);
    close(fd[1]);
}

/* ---- misuse ---- */

static void misuse_is_reported(struct test_env *env)
{
    (void)env;
    int fd[2];
    char c;
    sockets(fd);
    weft_fd *w = open_owned(fd[0]);
    test_log_clear();
    CHECK_EQ(weft_fd_wait(w, 0, NULL), -EINVAL);
    EXPECT_LOGGED("weft_fd_wait");
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_READ_CLOSED, NULL), -EINVAL);
    CHECK_EQ(weft_fd_wait(NULL, WEFT_READY_READ, NULL), -EINVAL);
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_READ | WEFT_READY_WRITE, call_read, NULL), -EINVAL);
    CHECK_EQ(weft_fd_io(w, WEFT_READY_READ, NULL, NULL), -EINVAL);
    CHECK_EQ(weft_fd_read(w, NULL, 1), -EINVAL);
    CHECK_EQ(weft_fd_read(NULL, &c, 1), -EINVAL);
    CHECK_EQ(weft_fd_clear(w, NULL, WEFT_READY_READ), -EINVAL);
    CHECK_EQ(weft_fd_number(NULL), -EINVAL);
    WEFT_NO_WAIT {
        test_log_clear();
        CHECK_EQ(weft_fd_read(w, &c, 1), -EPERM);
        EXPECT_LOGGED("weft_fd_read");
    }
    CHECK_EQ(weft_fd_close(w), 0);
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_READ, NULL), -EBADF);
    CHECK_EQ(weft_fd_number(w), -EBADF);
    close(fd[1]);
}

TEST_MAIN(IN_TASK(af_01_a_fresh_socket_is_writable_only),
          IN_TASK(af_01_any_descriptor_that_can_be_polled),
          IN_TASK(af_02_readable_until_it_would_block),
          IN_TASK(af_02_io_waits_until_the_call_succeeds),
          IN_TASK(af_02_a_panic_in_the_call_gives_the_descriptor_back),
          IN_TASK(af_03_directions_are_independent), IN_TASK(af_03_all_waiters_wake),
          IN_TASK(af_04_owned_and_borrowed), IN_TASK(af_04_blocking_mode),
          IN_TASK(a_borrowed_number_is_free_once_closed),
          IN_TASK_ON(a_woken_reader_leaves_a_borrowed_number_alone, TEST_CT),
          IN_TASK(writing_to_a_socket_raises_no_signal),
          IN_TASK(af_05_what_cannot_be_polled_is_given_back), PLAIN(af_05_outside_a_runtime),
          IN_TASK(af_06_urgent_data), IN_TASK(af_06_error_queue),
          ON_MAIN(af_07_the_end_of_the_runtime_wakes_all), IN_TASK(af_08_closed_behind_our_back),
          IN_TASK(io_01_a_task_that_ends_by_the_wake),
          IN_TASK(io_02_polling_keeps_the_latest_waiter), IN_TASK(io_02_each_future_is_a_waiter),
          IN_TASK(misuse_is_reported))
