/* TCP when things go wrong: descriptors run out, peers reset, tasks are aborted, handles are closed
 * under others, runtimes end. SH-06, SH-07 and SH-14 of BEHAVIOURS, and "What it must
 * withstand". */
#include "harness.h"
#include "socks.h"

#include <weft/io.h>
#include <weft/iter.h>
#include <weft/net.h>
#include <weft/select.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- descriptors run out ---- */

static struct rlimit saved_limit;

/* No descriptor can be opened from here on, whatever others close. Undone by restore_limit(). */
static void exhaust_fds(void)
{
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &saved_limit), 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = saved_limit.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
}

/* The same, with a connection to port that comes when there is none any more. */
static int connect_and_exhaust_fds(uint16_t port)
{
    int fd = socks_raw();
    exhaust_fds();
    socks_raw_connect_to(fd, port);
    return fd;
}

/* Valgrind keeps the limit itself: it accepts, closes the connection, and then says EMFILE. */
static bool limit_is_the_kernels(void)
{
    return !test_is_under("memcheck");
}

static void restore_limit(void)
{
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &saved_limit), 0);
}

struct acceptor {
    weft_tcp_listener *l;
    weft_tcp *conn;
    atomic_int rc; /* 1: not yet */
};

static void *accept_once(void *arg)
{
    struct acceptor *a = arg;
    weft_tcp *conn = NULL;
    int rc = weft_tcp_accept(a->l, &conn);
    a->conn = conn;
    atomic_store(&a->rc, rc);
    return NULL;
}

static void accept_goes_on_when_descriptors_come_back(struct test_env *env)
{
    if (!limit_is_the_kernels())
        return;
    struct acceptor a = {.rc = 1};
    uint16_t port;
    a.l = socks_listen(&port);
    weft_task *t = SPAWN(accept_once, &a);
    CHECK_SOON(socks_is_waiting(env->handle, "incoming connection", 1));
    test_log_clear();
    int fd = connect_and_exhaust_fds(port);
    CHECK_SOON(test_log_count("EMFILE") > 0);
    CHECK_EQ(weft_sleep(60 * WEFT_MS), 0);
    CHECK_EQ(atomic_load(&a.rc), 1); /* tried, several times, and still at it */
    CHECK_EQ(test_log_count("EMFILE"), 1);
    restore_limit();
    test_join_value(t);
    CHECK_EQ(atomic_load(&a.rc), 0);
    CHECK_EQ(test_log_count("EMFILE"), 1); /* one line an episode */
    weft_tcp_close(a.conn);
    close(fd);
    weft_tcp_listener_close(a.l);
}

static void exhaustion_is_reported_when_asked_for(struct test_env *env)
{
    if (!limit_is_the_kernels())
        return;
    (void)env;
    weft_tcp_listener *l;
    weft_tcp *conn;
    weft_addr addr;
    CHECK_EQ(weft_tcp_listen_with(&(weft_tcp_listen_options){.report_exhaustion = true},
                                  "127.0.0.1:0", &l),
             0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    int fd = socks_raw_connect(weft_addr_port(&addr));
    CHECK_EQ(weft_tcp_accept(l, &conn), 0);
    weft_tcp_close(conn);
    close(fd);
    fd = connect_and_exhaust_fds(weft_addr_port(&addr));
    int rc = weft_tcp_accept(l, &conn);
    int again = weft_tcp_accept(l, &conn); /* the edge is not lost: at once, and not a hang */
    int tried = weft_tcp_try_accept(l, &conn);
    restore_limit();
    CHECK_EQ(rc, -EMFILE);
    CHECK_EQ(again, -EMFILE);
    CHECK_EQ(tried, -EMFILE);
    CHECK_EQ(weft_tcp_accept(l, &conn), 0);
    weft_tcp_close(conn);
    close(fd);
    weft_tcp_listener_close(l);
}

/* Without time nobody can try again later: the error comes out, of every form of accept. */
static void *accept_without_time(void *arg)
{
    weft_tcp_listener *l;
    weft_tcp *conn;
    weft_addr addr;
    weft_tcp_accept_future f;
    (void)arg;
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    test_log_clear();
    int fd = connect_and_exhaust_fds(weft_addr_port(&addr));
    int rc = weft_tcp_accept(l, &conn);
    weft_tcp_accept_future_init(&f, l, &conn);
    int future_rc = weft_await(&f.future);
    restore_limit();
    EXPECT_EQ(rc, -EMFILE);
    EXPECT_EQ(future_rc, -EMFILE);
    EXPECT_EQ(test_log_count("weft_"), 0); /* nobody misused anything, nor is anything tried */
    CHECK_EQ(weft_tcp_accept(l, &conn), 0);
    weft_tcp_close(conn);
    close(fd);
    weft_tcp_listener_close(l);
    return NULL;
}

static void exhaustion_is_reported_where_time_is_off(struct test_env *env)
{
    weft_config c;
    weft_runtime *rt;
    if (!limit_is_the_kernels())
        return;
    test_config(&c, env->flavour);
    c.enable_time = false;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    test_block_on(rt, accept_without_time, NULL);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

static void a_sleeping_accept_can_be_aborted_and_closed(struct test_env *env)
{
    if (!limit_is_the_kernels())
        return;
    (void)env;
    struct acceptor a = {.rc = 1};
    uint16_t port;
    a.l = socks_listen(&port);
    int fd = connect_and_exhaust_fds(port);
    weft_task *t = SPAWN(accept_once, &a);
    CHECK_SOON(test_log_count("EMFILE") == 1);
    CHECK_EQ(weft_abort(t), 0);
    weft_outcome o;
    CHECK_EQ(weft_join(t, &o), 0);
    weft_outcome_fini(&o);
    CHECK_EQ(atomic_load(&a.rc), -ECANCELED);

    atomic_store(&a.rc, 1);
    t = SPAWN(accept_once, &a);
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0); /* it sleeps as well by now, or will find the handle
                                           * closed */
    weft_tcp_listener_close(a.l);
    test_join_value(t);
    CHECK_EQ(atomic_load(&a.rc), -EBADF);
    restore_limit();
    close(fd);
}

/* How accept is waited for: as a call, a case of a select, an iterator. */
static int select_accept(weft_tcp_listener *l, weft_tcp **ret_conn)
{
    weft_case c[] = {weft_case_tcp_accept(l, ret_conn), weft_case_sleep(20 * WEFT_SEC)};
    int rc = weft_select(c, 2);
    return rc == 0 ? c[0].rc : rc == 1 ? -ETIME : rc;
}

static int iterate_accept(weft_tcp_listener *l, weft_tcp **ret_conn)
{
    weft_iter *it = weft_iter_accept(l);
    int rc = weft_iter_next(it, ret_conn);
    weft_iter_destroy(it);
    return rc == 1 ? 0 : rc;
}

struct other_acceptor {
    struct acceptor a;
    int (*accept)(weft_tcp_listener *l, weft_tcp **ret_conn);
};

static void *accept_otherwise(void *arg)
{
    struct other_acceptor *o = arg;
    weft_tcp *conn = NULL;
    int rc = o->accept(o->a.l, &conn);
    o->a.conn = conn;
    atomic_store(&o->a.rc, rc);
    return NULL;
}

static int (*const other_accepts[])(weft_tcp_listener *l, weft_tcp **ret_conn) = {select_accept,
                                                                                  iterate_accept};

static void cases_and_iterators_go_on_when_descriptors_come_back(struct test_env *env)
{
    if (!limit_is_the_kernels())
        return;
    (void)env;
    for (int i = 0; i < 2; i++) {
        struct other_acceptor o = {.a = {.rc = 1}, .accept = other_accepts[i]};
        uint16_t port;
        o.a.l = socks_listen(&port);
        weft_task *t = SPAWN(accept_otherwise, &o);
        CHECK_EQ(weft_sleep(5 * WEFT_MS), 0); /* it has begun, likely */
        test_log_clear();
        int fd = connect_and_exhaust_fds(port);
        CHECK_SOON(test_log_count("EMFILE") > 0);
        CHECK_EQ(weft_sleep(60 * WEFT_MS), 0);
        CHECK_EQ(atomic_load(&o.a.rc), 1); /* tried, several times, and still at it */
        CHECK_EQ(test_log_count("EMFILE"), 1);
        restore_limit();
        test_join_value(t);
        CHECK_EQ(atomic_load(&o.a.rc), 0);
        weft_tcp_close(o.a.conn);
        close(fd);
        weft_tcp_listener_close(o.a.l);
    }
}

static void cases_and_iterators_report_exhaustion_when_asked_to(struct test_env *env)
{
    if (!limit_is_the_kernels())
        return;
    (void)env;
    for (int i = 0; i < 2; i++) {
        weft_tcp_listener *l;
        weft_tcp *conn;
        weft_addr addr;
        CHECK_EQ(weft_tcp_listen_with(&(weft_tcp_listen_options){.report_exhaustion = true},
                                      "127.0.0.1:0", &l),
                 0);
        CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
        int fd = connect_and_exhaust_fds(weft_addr_port(&addr));
        int rc = other_accepts[i](l, &conn);
        restore_limit();
        CHECK_EQ(rc, -EMFILE);
        CHECK_EQ(other_accepts[i](l, &conn), 0);
        weft_tcp_close(conn);
        close(fd);
        weft_tcp_listener_close(l);
    }
}

static void a_case_that_backs_off_can_be_aborted_and_closed(struct test_env *env)
{
    if (!limit_is_the_kernels())
        return;
    (void)env;
    for (int i = 0; i < 2; i++) {
        struct other_acceptor o = {.a = {.rc = 1}, .accept = other_accepts[i]};
        uint16_t port;
        o.a.l = socks_listen(&port);
        test_log_clear();
        int fd = connect_and_exhaust_fds(port);
        weft_task *t = SPAWN(accept_otherwise, &o);
        CHECK_SOON(test_log_count("EMFILE") == 1);
        CHECK_EQ(weft_abort(t), 0);
        CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
        CHECK_EQ(atomic_load(&o.a.rc), -ECANCELED);

        atomic_store(&o.a.rc, 1);
        t = SPAWN(accept_otherwise, &o);
        CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
        weft_tcp_listener_close(o.a.l);
        test_join_value(t);
        CHECK_EQ(atomic_load(&o.a.rc), -EBADF);
        restore_limit();
        close(fd);
    }
}

static void connect_and_listen_without_descriptors(struct test_env *env)
{
    (void)env;
    uint16_t port;
    char text[32];
    weft_tcp *conn;
    weft_tcp_listener *l = socks_listen(&port), *second;
    snprintf(text, sizeof(text), "127.0.0.1:%u", port);
    weft_addr addr;
    exhaust_fds();
    int rc = weft_tcp_connect(text, &conn);
    int listen_rc = weft_tcp_listen("127.0.0.1:0", &second);
    int parse_rc = weft_addr_parse("[fe80::1%lo]:80", &addr); /* the kernel is asked by a socket */
    int scoped_rc = weft_tcp_listen("[fe80::1%lo]:0", &second);
    restore_limit();
    CHECK_EQ(rc, -EMFILE);
    CHECK_EQ(listen_rc, -EMFILE);
    CHECK_EQ(parse_rc, -EMFILE);
    CHECK_EQ(scoped_rc, -EMFILE);
    CHECK_EQ(weft_addr_parse("[fe80::1%lo]:80", &addr), 0);
    CHECK_EQ(weft_addr_parse("[fe80::1%nosuch]:80", &addr), -ENODEV);
    weft_tcp_listener_close(l);
}

/* ---- peers that reset ---- */

static void a_reset_ends_reads_and_writes(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd;
    char c;
    socks_raw_pair(&conn, &fd);
    socks_raw_reset(fd);
    CHECK_EQ(weft_tcp_read(conn, &c, 1), -ECONNRESET);
    CHECK_EQ(weft_tcp_read(conn, &c, 1), 0); /* reported once, then the end */
    CHECK_EQ(weft_tcp_write(conn, &c, 1), -EPIPE);
    weft_tcp_close(conn);
}

static void *read_one(void *arg)
{
    char c;
    return (void *)(intptr_t)weft_tcp_read(arg, &c, 1);
}

static void *write_much(void *arg)
{
    static char zeros[65536];
    ssize_t n;
    while ((n = weft_tcp_write(arg, zeros, sizeof(zeros))) > 0)
        continue;
    return (void *)(intptr_t)n;
}

static void a_reset_wakes_both_directions(struct test_env *env)
{
    weft_tcp *conn;
    int fd;
    socks_raw_pair(&conn, &fd);
    weft_task *writer = SPAWN(write_much, conn);
    CHECK_SOON(socks_is_waiting(env->handle, "writable descriptor", 1));
    weft_task *reader = SPAWN(read_one, conn);
    CHECK_SOON(socks_is_waiting(env->handle, "readable descriptor", 1));
    socks_raw_reset(fd);
    intptr_t r = (intptr_t)test_join_value(reader);
    intptr_t w = (intptr_t)test_join_value(writer);
    CHECK(r == -ECONNRESET || r == 0); /* one of the two gets the error */
    CHECK(w == -ECONNRESET || w == -EPIPE);
    weft_tcp_close(conn);
}

static void a_connection_reset_before_accept_is_harmless(struct test_env *env)
{
    (void)env;
    uint16_t port;
    char c;
    weft_tcp *conn;
    weft_tcp_listener *l = socks_listen(&port);
    socks_raw_reset(socks_raw_connect(port));
    int fd = socks_raw_connect(port);
    socks_raw_write(fd, "x", 1);
    ssize_t n;
    do {
        CHECK_EQ(weft_tcp_accept(l, &conn), 0);
        n = weft_tcp_read(conn, &c, 1);
        weft_tcp_close(conn);
    } while (n == -ECONNRESET);
    CHECK_EQ(n, 1);
    close(fd);
    weft_tcp_listener_close(l);
}

/* ---- abort at every wait ---- */

struct victim {
    weft_tcp_listener *l;
    weft_tcp *conn;
    int what;
    uint16_t port;
};

static void close_conn(void *arg)
{
    weft_tcp_close(*(weft_tcp **)arg);
}

/* Everything it owns is registered, so that it may be unwound. */
static void *wait_for_one_thing(void *arg)
{
    struct victim *v = arg;
    weft_tcp *conn = NULL;
    char buf[8192] = "";
    struct iovec iov = {buf, sizeof(buf)};
    char text[32];
    WEFT_DEFER(close_conn, &conn);
    ssize_t n = 0;
    switch (v->what) {
    case 0:
        n = weft_tcp_accept(v->l, &conn);
        break;
    case 1:
        n = weft_tcp_read(v->conn, buf, sizeof(buf));
        break;
    case 2:
        while ((n = weft_tcp_write(v->conn, buf, sizeof(buf))) > 0)
            continue;
        break;
    case 3:
        n = weft_tcp_peek(v->conn, buf, sizeof(buf));
        break;
    case 4:
        n = weft_copy(weft_tcp_stream(v->conn), weft_tcp_stream(v->conn), NULL);
        break;
    case 5:
        n = weft_tcp_ready(v->conn, WEFT_READY_READ, NULL);
        break;
    case 6: /* to an address that does not answer: TEST-NET-1, or no route at all */
        n = weft_tcp_connect("192.0.2.1:9", &conn);
        break;
    case 7:
        n = weft_copy_bidirectional(weft_tcp_stream(v->conn), weft_tcp_stream(v->conn), NULL, NULL);
        break;
    case 8:
        n = weft_tcp_readv(v->conn, &iov, 1);
        break;
    default:
        snprintf(text, sizeof(text), "localhost:%u", v->port);
        n = weft_tcp_connect(text, &conn);
        break;
    }
    return (void *)(intptr_t)n;
}

#define WAITS 10

static void drain(int fd)
{
    static char sink[65536]; /* too much for the stack of a task */
    while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
        continue;
}

static void abort_at_every_wait(enum weft_on_abort on_abort)
{
    struct victim v = {.l = NULL};
    int fd;
    v.l = socks_listen(&v.port);
    socks_raw_pair(&v.conn, &fd);
    uint64_t seed = test_seed("abort_at_every_wait");
    for (unsigned i = 0; i < test_scaled(40) * WAITS; i++) {
        weft_task *t;
        weft_spawn_options o = {.on_abort = on_abort};
        v.what = (int)(i % WAITS);
        CHECK_EQ(weft_spawn_with(&o, wait_for_one_thing, &v, &t), 0);
        switch (test_random(&seed) % 4) {
        case 0:
            break; /* before it has run, maybe */
        case 1:
            (void)weft_yield();
            break;
        default:
            (void)weft_sleep(test_random(&seed) % (400 * WEFT_US));
            break;
        }
        CHECK_EQ(weft_abort(t), 0);
        weft_outcome outcome;
        CHECK_EQ(weft_join(t, &outcome), 0); /* it ends: no wait holds it */
        CHECK(outcome.kind != WEFT_OUTCOME_PANICKED);
        weft_outcome_fini(&outcome);
        if (v.what == 2) /* empty the pipe that it filled */
            drain(fd);
    }
    /* The connection has survived it all. */
    char c = 0;
    while (weft_tcp_try_read(v.conn, &c, 1) > 0)
        continue;
    socks_raw_write(fd, "!", 1);
    CHECK_EQ(weft_tcp_read(v.conn, &c, 1), 1);
    CHECK_EQ(c, '!');
    close(fd);
    weft_tcp_close(v.conn);
    weft_tcp_listener_close(v.l);
    /* Look-ups that were left to themselves end, too. */
    weft_metrics m;
    do {
        CHECK_EQ(weft_metrics_get(NULL, &m), 0);
        (void)weft_sleep(WEFT_MS);
    } while (m.blocking_threads != m.blocking_threads_idle);
    CHECK_EQ(m.fds_registered, m.fds_deregistered);
}

static void aborts_at_every_wait_leave_nothing(struct test_env *env)
{
    (void)env;
    abort_at_every_wait(WEFT_ON_ABORT_RETURN);
}

static void unwinding_at_every_wait_leaves_nothing(struct test_env *env)
{
    (void)env;
    abort_at_every_wait(WEFT_ON_ABORT_UNWIND);
}

static void timeouts_leave_the_connection_usable(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd;
    char c;
    socks_raw_pair(&conn, &fd);
    for (unsigned i = 0; i < test_scaled(100); i++) {
        ssize_t n = 0;
        WEFT_TIMEOUT(50 * WEFT_US)
            n = weft_tcp_read(conn, &c, 1);
        CHECK_EQ(n, -ETIMEDOUT);
    }
    socks_raw_write(fd, "t", 1);
    CHECK_EQ(weft_tcp_read(conn, &c, 1), 1);
    close(fd);
    weft_tcp_close(conn);
}

/* ---- closing under others ---- */

static void closing_wakes_who_waits(struct test_env *env)
{
    weft_tcp *conn;
    int fd;
    char c;
    weft_task *task[21];
    socks_raw_pair(&conn, &fd);
    for (int i = 0; i < 20; i++)
        task[i] = SPAWN(read_one, conn);
    task[20] = SPAWN(write_much, conn);
    CHECK_SOON(socks_is_waiting(env->handle, "readable descriptor", 20) &&
               socks_is_waiting(env->handle, "writable descriptor", 1));
    CHECK_EQ(weft_tcp_close(conn), 0);
    for (int i = 0; i < 21; i++)
        CHECK_EQ((intptr_t)test_join_value(task[i]), -EBADF);
    char big[4096];
    while (recv(fd, big, sizeof(big), 0) > 0) /* what was written still arrives, then the end */
        continue;
    CHECK_EQ(recv(fd, &c, 1, 0), 0);
    close(fd);
}

static void a_closed_handle_is_found_out(struct test_env *env)
{
    (void)env;
    weft_tcp *conn, *other;
    weft_tcp_listener *l;
    uint16_t port;
    int fd, other_fd;
    char c;
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_tcp_close(conn), 0);
    close(fd);
    socks_raw_pair(&other, &other_fd); /* likely in the same slot, and with the same number */
    test_log_clear();
    CHECK_EQ(weft_tcp_close(conn), -EBADF);
    EXPECT_LOGGED("weft_tcp_close");
    CHECK_EQ(weft_tcp_read(conn, &c, 1), -EBADF);
    EXPECT_LOGGED("weft_tcp_read");
    CHECK_EQ(weft_stream_read(weft_tcp_stream(conn), &c, 1), -EBADF);
    CHECK_EQ(weft_copy(weft_tcp_stream(conn), weft_tcp_stream(other), NULL), -EBADF);
    socks_raw_write(other_fd, "o", 1); /* the other one has not noticed */
    CHECK_EQ(weft_tcp_read(other, &c, 1), 1);
    weft_tcp_close(other);
    close(other_fd);

    l = socks_listen(&port);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    CHECK_EQ(weft_tcp_listener_close(l), -EBADF);
    CHECK_EQ(weft_tcp_accept(l, &conn), -EBADF);
}

static void null_handles(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    weft_tcp_reader *r;
    weft_tcp_writer *w;
    char c;
    int fd;
    CHECK_EQ(weft_tcp_close(NULL), 0);
    CHECK_EQ(weft_tcp_listener_close(NULL), 0);
    CHECK_EQ(weft_tcp_reader_close(NULL), 0);
    CHECK_EQ(weft_tcp_writer_close(NULL), 0);
    test_log_clear();
    CHECK_EQ(weft_tcp_read(NULL, &c, 1), -EINVAL);
    EXPECT_LOGGED("weft_tcp_read");
    CHECK_EQ(weft_tcp_write(NULL, &c, 1), -EINVAL);
    EXPECT_LOGGED("weft_tcp_write");
    CHECK_EQ(weft_tcp_accept(NULL, &conn), -EINVAL);
    EXPECT_LOGGED("weft_tcp_accept");
    CHECK_EQ(weft_tcp_split(NULL, &r, &w), -EINVAL);
    CHECK_EQ(weft_tcp_reunite(NULL, NULL, &conn), -EINVAL);
    CHECK_EQ(weft_tcp_into_fd(NULL, &fd), -EINVAL);
    CHECK_EQ(weft_tcp_shutdown(NULL, SHUT_WR), -EINVAL);
    CHECK_EQ(weft_tcp_ready(NULL, WEFT_READY_READ, NULL), -EINVAL);
    CHECK_EQ(weft_stream_read(weft_tcp_stream(NULL), &c, 1), -EBADF);
    CHECK(weft_tcp_of_reader(NULL) == NULL && weft_tcp_of_writer(NULL) == NULL);

    socks_raw_pair(&conn, &fd);
    c = 'h';
    CHECK_EQ(weft_tcp_read(conn, NULL, 1), -EINVAL);
    CHECK_EQ(weft_tcp_read(conn, NULL, 0), 0);
    CHECK_EQ(weft_tcp_write(conn, NULL, 0), 0);
    CHECK_EQ(weft_tcp_readv(conn, NULL, 0), 0);
    CHECK_EQ(weft_tcp_readv(conn, NULL, 1), -EINVAL);
    CHECK_EQ(weft_tcp_writev(conn, &(struct iovec){&c, 1}, -1), -EINVAL);
    CHECK_EQ(weft_tcp_writev(conn, &(struct iovec){&c, SIZE_MAX}, 1), -EINVAL);
    struct iovec hole[3] = {{&c, 1}, {NULL, 0}, {NULL, 1}};
    CHECK_EQ(weft_tcp_readv(conn, hole, 3), -EINVAL);
    CHECK_EQ(weft_tcp_try_readv(conn, hole, 3), -EINVAL);
    CHECK_EQ(weft_tcp_writev(conn, hole, 3), -EINVAL);
    CHECK_EQ(weft_tcp_try_writev(conn, hole, 3), -EINVAL);
    CHECK_EQ(weft_tcp_writev(conn, hole, 2), 1); /* without length NULL will do */
    CHECK_EQ(weft_tcp_ready(conn, 0, NULL), -EINVAL);
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_READ_CLOSED, NULL), -EINVAL);
    weft_tcp_close(conn);
    close(fd);
}

/*
 * Readers in endless loops, connections closed under them, and descriptor numbers in constant
 * reuse. A read that used a number after its connection was closed would take a byte of a
 * neighbour, and the byte would be missed there.
 */
static void *read_until_closed(void *arg)
{
    weft_tcp *conn = arg;
    char buf[16];
    ssize_t n;
    while ((n = weft_tcp_read(conn, buf, sizeof(buf))) > 0)
        for (ssize_t i = 0; i < n; i++)
            CHECK_EQ(buf[i], 'k');
    CHECK_EQ(n, -EBADF);
    return NULL;
}

static void descriptor_numbers_are_not_confused(struct test_env *env)
{
    (void)env;
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    for (unsigned i = 0; i < test_scaled(300); i++) {
        weft_tcp *mine, *keep;
        char buf[4];
        int fd = socks_raw_connect(port);
        CHECK_EQ(weft_tcp_accept(l, &mine), 0);
        weft_task *t = SPAWN(read_until_closed, mine);
        socks_raw_write(fd, "k", 1);
        if (i % 2 == 0)
            (void)weft_yield();
        else
            (void)weft_sleep(20 * WEFT_US);
        weft_tcp_close(mine);
        int fd2 = socks_raw_connect(port); /* takes the number, or not yet */
        CHECK_EQ(weft_tcp_accept(l, &keep), 0);
        socks_raw_write(fd2, "mine", 4);
        size_t got = 0;
        while (got < 4) {
            ssize_t n = weft_tcp_read(keep, buf + got, 4 - got);
            CHECK(n > 0);
            got += (size_t)n;
        }
        CHECK(memcmp(buf, "mine", 4) == 0);
        test_join_value(t);
        weft_tcp_close(keep);
        close(fd);
        close(fd2);
    }
    weft_tcp_listener_close(l);
}

/*
 * Anything at any time: tasks share a few connections and read, write, peek, wait, split, replace
 * and close them, with handles that others may just have closed.
 */
#define ENDS 8

static _Atomic(weft_tcp *) ends[ENDS];
static atomic_bool chaos_has_failed;

/* Takes an end out, so that only one task gives it up. */
static weft_tcp *take_end(uint64_t *seed)
{
    return atomic_exchange(&ends[test_random(seed) % ENDS], NULL);
}

static void put_end(uint64_t *seed, weft_tcp *conn)
{
    weft_tcp *old = atomic_exchange(&ends[test_random(seed) % ENDS], conn);
    EXPECT_EQ(weft_tcp_close(old), 0);
}

static void replace_some(uint64_t *seed)
{
    weft_tcp *a = NULL, *b = NULL;
    weft_tcp_reader *r;
    weft_tcp_writer *w;
    int fd;
    switch (test_random(seed) % 4) {
    case 0: /* a new pair */
        socks_pair(&a, &b);
        put_end(seed, a);
        put_end(seed, b);
        break;
    case 1:
        EXPECT_EQ(weft_tcp_close(take_end(seed)), 0);
        break;
    case 2: /* out of its handle and into another */
        a = take_end(seed);
        if (a == NULL)
            break;
        if (weft_tcp_into_fd(a, &fd) == 0) /* or -EBUSY: it is in use */
            CHECK_EQ(weft_tcp_from_fd(fd, &a), 0);
        put_end(seed, a);
        break;
    default:
        a = take_end(seed);
        if (a == NULL)
            break;
        CHECK_EQ(weft_tcp_split(a, &r, &w), 0);
        if (test_random(seed) % 2 == 0) {
            CHECK_EQ(weft_tcp_reunite(r, w, &a), 0);
            put_end(seed, a);
        } else {
            EXPECT_EQ(weft_tcp_writer_close(w), 0);
            EXPECT_EQ(weft_tcp_reader_close(r), 0);
        }
        break;
    }
}

static ssize_t use_one(uint64_t *seed, weft_tcp *conn)
{
    char buf[256] = "";
    switch (test_random(seed) % 6) {
    case 0:
        return weft_tcp_read(conn, buf, sizeof(buf));
    case 1:
        return weft_tcp_write(conn, buf, test_random(seed) % sizeof(buf));
    case 2:
        return weft_tcp_peek(conn, buf, sizeof(buf));
    case 3:
        return weft_tcp_ready(conn, WEFT_READY_READ | WEFT_READY_WRITE, NULL);
    case 4:
        return weft_tcp_try_read(conn, buf, sizeof(buf));
    default:
        return weft_tcp_shutdown(conn, SHUT_WR);
    }
}

static bool is_expected(ssize_t n)
{
    return n >= 0 || n == -EBADF || n == -ETIMEDOUT || n == -ECONNRESET || n == -EPIPE ||
           n == -EAGAIN || n == -ECANCELED;
}

static void *make_chaos(void *arg)
{
    uint64_t seed = (uintptr_t)arg;
    for (unsigned i = 0; i < test_scaled(400); i++) {
        if (test_random(&seed) % 8 == 0)
            WEFT_SHIELD
                replace_some(&seed);
        weft_tcp *conn = atomic_load(&ends[test_random(&seed) % ENDS]);
        if (conn == NULL)
            continue;
        ssize_t n = 0;
        WEFT_TIMEOUT(test_random(&seed) % (300 * WEFT_US))
            n = use_one(&seed, conn);
        if (n == -ECANCELED)
            break;
        if (!is_expected(n) && !atomic_exchange(&chaos_has_failed, true))
            test_record(__FILE__, __LINE__, "an operation returned %zd", n);
    }
    return NULL;
}

static void chaos_on_shared_connections(struct test_env *env)
{
    (void)env;
    weft_task *task[12];
    uint64_t seed = test_seed("chaos_on_shared_connections");
    for (int i = 0; i < ENDS; i += 2) {
        weft_tcp *a, *b;
        socks_pair(&a, &b);
        atomic_store(&ends[i], a);
        atomic_store(&ends[i + 1], b);
    }
    for (int i = 0; i < 12; i++)
        task[i] = SPAWN(make_chaos, (void *)(uintptr_t)(test_random(&seed) >> 1));
    for (int i = 0; i < 12; i += 5) {
        (void)weft_sleep(test_random(&seed) % (5 * WEFT_MS));
        weft_abort(task[i]);
    }
    for (int i = 0; i < 12; i++) {
        weft_outcome o;
        CHECK_EQ(weft_join(task[i], &o), 0);
        CHECK(o.kind != WEFT_OUTCOME_PANICKED);
        weft_outcome_fini(&o);
    }
    for (int i = 0; i < ENDS; i++)
        EXPECT_EQ(weft_tcp_close(atomic_exchange(&ends[i], NULL)), 0);
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(NULL, &m), 0);
    CHECK_EQ(m.fds_registered, m.fds_deregistered);
    test_log_clear(); /* of all the handles that were closed before */
}

/* epoll is shared across a fork: what the child takes out of it, the parent misses. */
static void a_forked_child_that_closes_disturbs_nobody(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd, status;
    char c;
    if (test_is_under("memcheck"))
        return; /* it would check the child for leaks */
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_tcp_try_read(conn, &c, 1), -EAGAIN);
    /* The first event of the connection has been dealt with: a lock that a thread of the parent
     * holds at the fork is held for ever in the child. */
    CHECK_EQ(weft_sleep(10 * WEFT_MS), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(30); /* a hang is a failure */
        _exit(weft_tcp_close(conn) == 0 ? 0 : 1);
    }
    CHECK(pid > 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    socks_raw_write(fd, "p", 1);
    CHECK_EQ(weft_tcp_read(conn, &c, 1), 1);
    weft_tcp_close(conn);
    close(fd);
}

/* ---- the end of the runtime ---- */

static void sh_14_a_socket_outlives_its_runtime(struct test_env *env)
{
    (void)env;
    weft_runtime *other;
    weft_config c;
    weft_config_init(&c);
    c.workers = 1;
    CHECK_EQ(weft_runtime_create(&c, &other), 0);
    weft_handle *h = weft_runtime_handle(other);

    /* Opened there, used here. */
    weft_enter_guard guard;
    weft_tcp_listener *l;
    uint16_t port;
    CHECK_EQ(weft_enter(h, &guard), 0);
    l = socks_listen(&port);
    CHECK_EQ(weft_leave(&guard), 0);

    struct acceptor a = {.l = l, .rc = 1};
    weft_task *t = SPAWN_ON(env->handle, accept_once, &a);
    CHECK_SOON(socks_is_waiting(env->handle, "incoming connection", 1) || env->flavour == TEST_CT);
    weft_handle_unref(h);
    CHECK_EQ(weft_runtime_destroy(other), 0);
    CHECK_EQ(weft_enter(env->handle, &guard), 0);
    if (env->flavour != TEST_CT) { /* somebody drives the runtime: the waiter is woken */
        CHECK_SOON(atomic_load(&a.rc) == -ESHUTDOWN);
        CHECK(weft_error_is_shutdown(atomic_load(&a.rc)));
    }
    weft_task_abort_detach(t);
    weft_tcp *conn;
    CHECK_EQ(weft_tcp_accept(l, &conn), -ESHUTDOWN); /* at once */
    CHECK_EQ(weft_tcp_try_accept(l, &conn), -ESHUTDOWN);
    CHECK_EQ(weft_leave(&guard), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

struct shutdown_reader {
    weft_tcp *conn;
    weft_tcp_listener *l;
    atomic_int first, later, waiting;
};

static void *read_in_shutdown(void *arg)
{
    struct shutdown_reader *s = arg;
    char c;
    atomic_fetch_add(&s->waiting, 1);
    atomic_store(&s->first, (int)weft_tcp_read(s->conn, &c, 1));
    atomic_store(&s->later, (int)weft_tcp_read(s->conn, &c, 1));
    weft_tcp_close(s->conn);
    weft_tcp_listener_close(s->l);
    return NULL;
}

static void *set_up_reader(void *arg)
{
    struct shutdown_reader *s = arg;
    uint16_t port;
    s->l = socks_listen(&port);
    int fd = socks_raw_connect(port);
    CHECK_EQ(weft_tcp_accept(s->l, &s->conn), 0);
    weft_task_detach(SPAWN(read_in_shutdown, s));
    while (atomic_load(&s->waiting) == 0)
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
    CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    return (void *)(intptr_t)fd;
}

static void sh_07_waits_end_with_the_runtime(struct test_env *env)
{
    struct shutdown_reader s = {.first = 1, .later = 1};
    int fd = (int)(intptr_t)test_block_on(env->rt, set_up_reader, &s);
    test_shutdown(env);
    CHECK_EQ(s.first, -ECANCELED); /* of its tasks, as of any abort */
    CHECK_EQ(s.later, -ECANCELED);
    CHECK(!weft_error_is_shutdown(-EPIPE) && !weft_error_is_shutdown(0) &&
          !weft_error_is_shutdown(108));
    close(fd);
}

struct entered_reader {
    weft_handle *handle;
    weft_tcp *conn;
    int fd;
    atomic_bool waits;
    ssize_t first, later;
};

static void *connect_entered(void *arg)
{
    struct entered_reader *r = arg;
    socks_raw_pair(&r->conn, &r->fd);
    return NULL;
}

static void *read_entered(void *arg)
{
    struct entered_reader *r = arg;
    weft_enter_guard g;
    char c;
    EXPECT_EQ(weft_enter(r->handle, &g), 0);
    atomic_store(&r->waits, true);
    r->first = weft_tcp_read(r->conn, &c, 1);
    r->later = weft_tcp_read(r->conn, &c, 1);
    EXPECT_EQ(weft_leave(&g), 0);
    return NULL;
}

/* Nobody aborts a thread: it is told what has ended. */
static void sh_07_threads_are_told_of_the_end(struct test_env *env)
{
    struct entered_reader r = {.handle = env->handle};
    pthread_t thread;
    (void)test_block_on(env->rt, connect_entered, &r);
    CHECK_EQ(pthread_create(&thread, NULL, read_entered, &r), 0);
    CHECK_SOON(atomic_load(&r.waits));
    for (int i = 0; i < 10; i++)
        test_pause();
    test_shutdown(env);
    pthread_join(thread, NULL);
    CHECK_EQ(r.first, -ESHUTDOWN);
    CHECK_EQ(r.later, -ESHUTDOWN);
    CHECK_EQ(weft_tcp_close(r.conn), 0);
    close(r.fd);
}

/* Bytes and connections keep arriving while everything ends. */
static atomic_bool noise_ends;

static void *make_noise(void *arg)
{
    int fd = (int)(intptr_t)arg;
    while (!atomic_load(&noise_ends))
        if (send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EPIPE)
            break;
    return NULL;
}

static void *swallow(void *arg)
{
    char buf[64];
    while (weft_tcp_read(arg, buf, sizeof(buf)) > 0)
        continue;
    weft_tcp_close(arg);
    return NULL;
}

static void close_unread(void *conn)
{
    weft_tcp_close(conn);
}

static void *set_up_noise(void *arg)
{
    /* On a busy machine the reader may not have started when the runtime ends: then it never
     * does. */
    static const weft_spawn_options options = {.drop_arg = close_unread};
    weft_tcp *conn;
    int fd;
    (void)arg;
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_spawn_with(&options, swallow, conn, NULL), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    return (void *)(intptr_t)fd;
}

static void sh_06_readiness_during_shutdown_is_harmless(struct test_env *env)
{
    pthread_t thread[4];
    int fd[4];
    atomic_store(&noise_ends, false);
    for (int i = 0; i < 4; i++) {
        fd[i] = (int)(intptr_t)test_block_on(env->rt, set_up_noise, NULL);
        CHECK_EQ(pthread_create(&thread[i], NULL, make_noise, (void *)(intptr_t)fd[i]), 0);
    }
    test_shutdown(env);
    atomic_store(&noise_ends, true);
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        close(fd[i]);
    }
}

TEST_MAIN(IN_TASK(accept_goes_on_when_descriptors_come_back),
          IN_TASK(cases_and_iterators_go_on_when_descriptors_come_back),
          IN_TASK(cases_and_iterators_report_exhaustion_when_asked_to),
          IN_TASK(a_case_that_backs_off_can_be_aborted_and_closed),
          IN_TASK(exhaustion_is_reported_when_asked_for),
          ON_MAIN(exhaustion_is_reported_where_time_is_off),
          IN_TASK(a_sleeping_accept_can_be_aborted_and_closed),
          IN_TASK(connect_and_listen_without_descriptors), IN_TASK(a_reset_ends_reads_and_writes),
          IN_TASK(a_reset_wakes_both_directions),
          IN_TASK(a_connection_reset_before_accept_is_harmless),
          IN_TASK(aborts_at_every_wait_leave_nothing),
          IN_TASK(unwinding_at_every_wait_leaves_nothing),
          IN_TASK(timeouts_leave_the_connection_usable), IN_TASK(closing_wakes_who_waits),
          IN_TASK(a_closed_handle_is_found_out), IN_TASK(null_handles),
          IN_TASK(descriptor_numbers_are_not_confused), IN_TASK(chaos_on_shared_connections),
          IN_TASK(a_forked_child_that_closes_disturbs_nobody),
          ON_MAIN(sh_14_a_socket_outlives_its_runtime), ON_MAIN(sh_07_waits_end_with_the_runtime),
          ON_MAIN(sh_07_threads_are_told_of_the_end),
          ON_MAIN(sh_06_readiness_during_shutdown_is_harmless))
