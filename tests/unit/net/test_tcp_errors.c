/* ctest: not-under=thread (the table of calls changes while threads of the pool read other
 * entries) */
/*
 * Errors of the calls under connections and listeners: which are passed on, which are tried again,
 * and that no descriptor is left behind, which the harness counts.
 */
#include "harness.h"
#include "socks.h"

#include "sys/table.h"

#include <weft/net.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct weft__sys_table real;

/* The errors that a call gives in turn, before it is the real one. Only the task calls it. */
static int errors[16], error_count, error_at, calls;

static bool fails_now(void)
{
    calls++;
    if (error_at == error_count)
        return false;
    errno = errors[error_at++];
    return true;
}

#define ERRORS(...)                                                                                \
    give_errors((int[]){__VA_ARGS__}, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)))
static void give_errors(const int *list, int count)
{
    real = weft__sys_table;
    memcpy(errors, list, (size_t)count * sizeof(int));
    error_count = count;
    error_at = calls = 0;
}

static void back_to_normal(void)
{
    weft__sys_table = real;
}

static int failing_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    return fails_now() ? -1 : real.accept4(fd, addr, len, flags);
}

static int failing_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    return fails_now() ? -1 : real.connect(fd, addr, len);
}

static int failing_socket(int domain, int type, int protocol)
{
    return fails_now() ? -1 : real.socket(domain, type, protocol);
}

static int failing_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    return fails_now() ? -1 : real.setsockopt(fd, level, name, value, len);
}

static int failing_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    return fails_now() ? -1 : real.getsockopt(fd, level, name, value, len);
}

static int failing_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    return fails_now() ? -1 : real.getpeername(fd, addr, len);
}

static int failing_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    return fails_now() ? -1 : real.epoll_ctl(epfd, op, fd, event);
}

/* ---- accepting ---- */

static void errors_of_a_connection_are_passed_over(struct test_env *env)
{
    (void)env;
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    weft_tcp *conn;
    int fd = socks_raw_connect(port);
    ERRORS(ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH,
           ENETUNREACH);
    weft__sys_table.accept4 = failing_accept4;
    CHECK_EQ(weft_tcp_accept(l, &conn), 0); /* the one behind them */
    back_to_normal();
    CHECK_EQ(calls, 9);
    CHECK_EQ(weft_tcp_close(conn), 0);
    close(fd);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

/* Whatever it is that is exhausted: said once, and tried again until there is enough. */
static void accepting_waits_for_what_is_exhausted(struct test_env *env)
{
    static const struct {
        int error;
        const char *said;
    } all[] = {{EMFILE, "EMFILE"}, {ENFILE, "ENFILE"}, {ENOBUFS, "ENOBUFS"}, {ENOMEM, "ENOMEM"}};
    (void)env;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        uint16_t port;
        weft_tcp_listener *l = socks_listen(&port);
        weft_tcp *conn = NULL;
        int fd = socks_raw_connect(port);
        int e = all[i].error;
        test_log_clear();
        ERRORS(e, e, e);
        weft__sys_table.accept4 = failing_accept4;
        CHECK_EQ(weft_tcp_accept(l, &conn), 0);
        back_to_normal();
        CHECK_EQ(calls, 4);
        EXPECT_LOGGED(all[i].said);
        CHECK_EQ(weft_tcp_close(conn), 0);

        /* As a future, which backs off by a timer of its own. */
        close(fd);
        fd = socks_raw_connect(port);
        weft_tcp_accept_future f;
        weft_tcp_accept_future_init(&f, l, &conn);
        ERRORS(e, e, e);
        weft__sys_table.accept4 = failing_accept4;
        CHECK_EQ(weft_await(&f.future), 0);
        back_to_normal();
        CHECK_EQ(calls, 4);
        CHECK_EQ(weft_tcp_close(conn), 0);
        close(fd);
        CHECK_EQ(weft_tcp_listener_close(l), 0);
    }
}

static void a_listener_may_report_it_instead(struct test_env *env)
{
    static const int all[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    (void)env;
    weft_tcp_listen_options o = {.report_exhaustion = true};
    weft_tcp_listener *l;
    weft_tcp *conn = NULL;
    weft_addr addr;
    CHECK_EQ(weft_tcp_listen_with(&o, "127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    int fd = socks_raw_connect(weft_addr_port(&addr));
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        ERRORS(all[i]);
        weft__sys_table.accept4 = failing_accept4;
        CHECK_EQ(weft_tcp_accept(l, &conn), -all[i]);
        back_to_normal();
        CHECK(conn == NULL);
    }
    CHECK_EQ(weft_tcp_accept(l, &conn), 0); /* it is still in the queue */
    CHECK_EQ(weft_tcp_close(conn), 0);
    close(fd);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

/* ---- connections that were accepted and find no place ---- */

static void peer_sees_an_end(int fd)
{
    char c;
    CHECK(read(fd, &c, 1) <= 0);
    close(fd);
}

/* That it is this connection, and that it works. */
static void close_after_a_byte(weft_tcp *conn, int fd)
{
    char sent = 'k', got = 0;
    CHECK_EQ(write(fd, &sent, 1), 1);
    CHECK_EQ(weft_tcp_read(conn, &got, 1), 1);
    CHECK_EQ(got, sent);
    CHECK_EQ(weft_tcp_close(conn), 0);
    close(fd);
}

static int await_accept(weft_tcp_listener *l, weft_tcp **ret_conn)
{
    weft_tcp_accept_future f;
    weft_tcp_accept_future_init(&f, l, ret_conn);
    return weft_await(&f.future);
}

static int (*const accepts[])(weft_tcp_listener *l, weft_tcp **ret_conn) = {weft_tcp_accept,
                                                                            await_accept};

/* The same want as where the kernel says it, waited out in the same way. */
static void a_connection_that_cannot_be_registered_is_waited_out(struct test_env *env)
{
    static const struct {
        int error;
        const char *said;
    } all[] = {{ENOSPC, "max_user_watches"}, {ENOMEM, "ENOMEM"}};
    (void)env;
    for (size_t i = 0; i < 4; i++) {
        uint16_t port;
        weft_tcp_listener *l = socks_listen(&port);
        weft_tcp *conn = NULL;
        int fd = socks_raw_connect(port);
        int e = all[i / 2].error;
        test_log_clear();
        ERRORS(e, e, e);
        weft__sys_table.epoll_ctl = failing_epoll_ctl;
        int rc = accepts[i % 2](l, &conn);
        back_to_normal();
        CHECK_EQ(rc, 0);
        CHECK_EQ(calls, 4);
        CHECK_EQ(test_log_count(all[i / 2].said), 1); /* one line an episode */
        close_after_a_byte(conn, fd);
        CHECK_EQ(weft_tcp_listener_close(l), 0);
    }
}

static void one_that_cannot_be_registered_may_be_reported_and_is_kept(struct test_env *env)
{
    (void)env;
    weft_tcp_listen_options o = {.report_exhaustion = true};
    weft_tcp_listener *l;
    weft_tcp *conn = NULL;
    weft_addr addr, peer, local = {.len = sizeof(local.sa)};
    CHECK_EQ(weft_tcp_listen_with(&o, "127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    int fd = socks_raw_connect(weft_addr_port(&addr));
    ERRORS(ENOSPC, ENOMEM, ENOSPC, ENOMEM);
    weft__sys_table.epoll_ctl = failing_epoll_ctl;
    CHECK_EQ(weft_tcp_accept(l, &conn), -ENOSPC);
    CHECK_EQ(weft_tcp_try_accept(l, &conn), -ENOMEM);
    CHECK_EQ(await_accept(l, &conn), -ENOSPC);
    CHECK_EQ(weft_tcp_accept(l, &conn), -ENOMEM);
    CHECK(conn == NULL);
    CHECK_EQ(weft_tcp_accept_from(l, &conn, &peer), 0);
    back_to_normal();
    CHECK_EQ(getsockname(fd, &local.sa.any, &local.len), 0);
    CHECK(weft_addr_is_equal(&peer, &local));
    close_after_a_byte(conn, fd);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

/* Who gave up while it was tried again loses nothing: the next accept gets it. */
static void giving_up_leaves_it_to_the_next_accept(struct test_env *env)
{
    (void)env;
    for (size_t i = 0; i < 2; i++) {
        uint16_t port;
        weft_tcp_listener *l = socks_listen(&port);
        weft_tcp *conn = NULL;
        int rc = 0;
        int fd = socks_raw_connect(port);
        ERRORS(ENOSPC, ENOSPC, ENOSPC, ENOSPC, ENOSPC, ENOSPC, ENOSPC, ENOSPC);
        weft__sys_table.epoll_ctl = failing_epoll_ctl;
        WEFT_TIMEOUT(25 * WEFT_MS)
            rc = accepts[i](l, &conn);
        back_to_normal();
        CHECK_EQ(rc, -ETIMEDOUT);
        CHECK(calls > 0);
        CHECK(conn == NULL);
        CHECK_EQ(accepts[i](l, &conn), 0);
        close_after_a_byte(conn, fd);
        CHECK_EQ(weft_tcp_listener_close(l), 0);
    }
}

static weft_tcp_listener *listener_with_one_kept(int *ret_fd)
{
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    weft_tcp *conn = NULL;
    *ret_fd = socks_raw_connect(port);
    ERRORS(ENOSPC);
    weft__sys_table.epoll_ctl = failing_epoll_ctl;
    CHECK_EQ(weft_tcp_try_accept(l, &conn), -ENOSPC);
    back_to_normal();
    return l;
}

static void what_is_kept_ends_with_the_listener(struct test_env *env)
{
    (void)env;
    int fd, listening;
    weft_tcp_listener *l = listener_with_one_kept(&fd);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    peer_sees_an_end(fd);
    l = listener_with_one_kept(&fd);
    CHECK_EQ(weft_tcp_listener_into_fd(l, &listening), 0);
    peer_sees_an_end(fd);
    close(listening);
}

static void a_forked_child_closes_its_copy_alone(struct test_env *env)
{
    (void)env;
    int fd, status;
    weft_tcp *conn;
    weft_tcp_listener *l = listener_with_one_kept(&fd);
    pid_t child = fork();
    if (child == 0)
        _exit(weft_tcp_listener_close(l) == 0 && weft_tcp_try_accept(l, &conn) == -EBADF ? 0 : 1);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(weft_tcp_accept(l, &conn), 0);
    close_after_a_byte(conn, fd);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

/* As with those that are reset in the kernel's queue. */
static void one_that_is_reset_meanwhile_is_skipped(struct test_env *env)
{
    (void)env;
    int fd;
    weft_addr addr;
    weft_tcp *conn;
    weft_tcp_listener *l = listener_with_one_kept(&fd);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    socks_raw_reset(fd);
    fd = socks_raw_connect(weft_addr_port(&addr));
    CHECK_EQ(weft_tcp_accept(l, &conn), 0);
    close_after_a_byte(conn, fd);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

static weft_tcp_listener *tried_inside;

/* While the first connection is refused another accept meets the same. */
static int refusing_two(int epfd, int op, int fd, struct epoll_event *event)
{
    weft_tcp *conn;
    if (!fails_now())
        return real.epoll_ctl(epfd, op, fd, event);
    if (calls == 1)
        CHECK_EQ(weft_tcp_try_accept(tried_inside, &conn), -ENOSPC);
    errno = ENOSPC;
    return -1;
}

/* There is room for one: a second is closed. */
static void of_two_at_once_one_is_kept(struct test_env *env)
{
    (void)env;
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    weft_tcp *conn = NULL;
    int first = socks_raw_connect(port), second = socks_raw_connect(port);
    tried_inside = l;
    ERRORS(ENOSPC, ENOSPC);
    weft__sys_table.epoll_ctl = refusing_two;
    CHECK_EQ(weft_tcp_try_accept(l, &conn), -ENOSPC);
    back_to_normal();
    CHECK_EQ(calls, 2);
    peer_sees_an_end(first);
    CHECK_EQ(weft_tcp_accept(l, &conn), 0);
    close_after_a_byte(conn, second);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

static atomic_uint adds;

static int refusing_every_third(int epfd, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_ADD && atomic_fetch_add(&adds, 1) % 3 == 0) {
        errno = ENOSPC;
        return -1;
    }
    return real.epoll_ctl(epfd, op, fd, event);
}

static void *accept_and_close(void *arg)
{
    weft_tcp *conn;
    int rc;
    while ((rc = weft_tcp_accept(arg, &conn)) == 0)
        CHECK_EQ(weft_tcp_close(conn), 0);
    CHECK_EQ(rc, -ECANCELED);
    return NULL;
}

/* What one of them keeps another may take, and what nobody tries any more is not left lying. */
static void many_who_accept_leave_none_behind(struct test_env *env)
{
    (void)env;
    weft_task *t[4];
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    ERRORS(0);
    weft__sys_table.epoll_ctl = refusing_every_third;
    for (int i = 0; i < 4; i++)
        t[i] = SPAWN(accept_and_close, l);
    for (int i = 0; i < 40; i++) {
        int fds[3];
        for (int k = 0; k < 3; k++)
            fds[k] = socks_raw_connect(port);
        if (i % 10 == 5) { /* one may have had it in hand */
            CHECK_EQ(weft_abort(t[i / 10]), 0);
            (void)test_join_kind(t[i / 10]);
            t[i / 10] = SPAWN(accept_and_close, l);
        }
        for (int k = 0; k < 3; k++)
            peer_sees_an_end(fds[k]); /* and does not wait for ever */
    }
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(weft_abort(t[i]), 0);
        (void)test_join_kind(t[i]);
    }
    back_to_normal();
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

/* ---- listening ---- */

static void listening_fails_at_each_option(struct test_env *env)
{
    (void)env;
    weft_addr addr;
    weft_tcp_listener *l = NULL;
    weft_tcp_listen_options o = {.reuseport = true};
    CHECK_EQ(weft_addr_parse("127.0.0.1:0", &addr), 0);
    ERRORS(EPERM); /* the first: SO_REUSEADDR */
    weft__sys_table.setsockopt = failing_setsockopt;
    CHECK_EQ(weft_tcp_listen_addr(&o, &addr, &l), -EPERM);
    CHECK_EQ(calls, 1); /* and no other */
    o.no_reuseaddr = true;
    error_at = calls = 0;
    CHECK_EQ(weft_tcp_listen_addr(&o, &addr, &l), -EPERM); /* SO_REUSEPORT */
    CHECK_EQ(calls, 1);
    back_to_normal();
    ERRORS(EMFILE);
    weft__sys_table.socket = failing_socket;
    CHECK_EQ(weft_tcp_listen_addr(&o, &addr, &l), -EMFILE);
    back_to_normal();
    ERRORS(ENOMEM);
    weft__sys_table.epoll_ctl = failing_epoll_ctl;
    CHECK_EQ(weft_tcp_listen_addr(&o, &addr, &l), -ENOMEM);
    back_to_normal();
    CHECK(l == NULL);
}

/* ---- connecting ---- */

static int connect_at_once(int fd, const struct sockaddr *addr, socklen_t len)
{
    int flags = fcntl(fd, F_GETFL);
    (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK); /* it is a socket */
    int rc = real.connect(fd, addr, len);
    int error = errno;
    (void)fcntl(fd, F_SETFL, flags);
    errno = error;
    return rc;
}

static void connecting(struct test_env *env)
{
    (void)env;
    uint16_t port;
    weft_addr addr;
    weft_tcp *conn = NULL, *peer;
    int rc = 0;
    weft_tcp_listener *l = socks_listen(&port);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);

    /* -EAGAIN is for try_ forms alone: here it means that no port is left. */
    ERRORS(EAGAIN);
    weft__sys_table.connect = failing_connect;
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &conn), -EADDRNOTAVAIL);
    back_to_normal();

    ERRORS(ENOSPC);
    weft__sys_table.epoll_ctl = failing_epoll_ctl;
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &conn), -ENOSPC);
    back_to_normal();

    /* What says how it went fails itself. */
    ERRORS(ENOBUFS);
    weft__sys_table.getsockopt = failing_getsockopt;
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &conn), -ENOBUFS);
    back_to_normal();
    ERRORS(ENOBUFS);
    weft__sys_table.getpeername = failing_getpeername;
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &conn), -ENOBUFS);
    back_to_normal();

    /* Woken, and not connected: the wait goes on. */
    calls = 0;
    for (uint64_t ms = 30; calls == 0 && ms < 20000; ms *= 4) { /* some may pass before it comes */
        ERRORS(ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN);
        weft__sys_table.getpeername = failing_getpeername;
        WEFT_TIMEOUT(ms *WEFT_MS)
            rc = weft_tcp_connect_addr(NULL, &addr, &conn);
        back_to_normal();
        CHECK_EQ(rc, -ETIMEDOUT);
        CHECK(conn == NULL);
    }
    CHECK(calls > 0);

    ERRORS(0);
    error_count = 0;
    weft__sys_table.connect = connect_at_once;
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &conn), 0);
    back_to_normal();
    do { /* those that failed wait in the queue as well */
        CHECK_EQ(weft_tcp_accept(l, &peer), 0);
        CHECK_EQ(weft_tcp_close(peer), 0);
    } while (weft_tcp_try_accept(l, &peer) == 0 && weft_tcp_close(peer) == 0);
    CHECK_EQ(weft_tcp_close(conn), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

/* As when the system happens to choose the port that is connected to. */
static int connect_from_there(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (real.bind(fd, addr, len) < 0)
        return -1;
    return real.connect(fd, addr, len);
}

/* Where nobody listens TCP lets a socket connect to itself, if its port is that one. */
static void nobody_is_connected_to_himself(struct test_env *env)
{
    (void)env;
    static const char *const all[] = {"127.0.0.1:0", "[::1]:0"};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        weft_tcp_listener *l;
        weft_tcp *conn = NULL;
        weft_addr addr, peer;
        CHECK_EQ(weft_tcp_listen(all[i], &l), 0);
        CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
        CHECK_EQ(weft_tcp_listener_close(l), 0);
        ERRORS(0);
        weft__sys_table.connect = connect_from_there;
        int rc = weft_tcp_connect_addr(NULL, &addr, &conn);
        back_to_normal();
        EXPECT_EQ(rc, -ECONNREFUSED);
        CHECK(conn == NULL);
        /* The port is free at once, also for who does not ask for reuse. */
        CHECK_EQ(weft_tcp_listen_addr(&(weft_tcp_listen_options){.no_reuseaddr = true}, &addr, &l),
                 0);
        CHECK_EQ(weft_tcp_listener_close(l), 0);
        /* Who asks for it is. */
        const weft_tcp_connect_options itself = {.reuseaddr = true, .local = &addr};
        CHECK_EQ(weft_tcp_connect_addr(&itself, &addr, &conn), 0);
        CHECK_EQ(weft_tcp_peer_addr(conn, &peer), 0);
        CHECK(weft_addr_is_equal(&peer, &addr));
        CHECK_EQ(weft_tcp_close(conn), 0);
    }
}

/* What another address would meet as well ends the search for one. */
static void errors_that_no_other_address_would_mend(struct test_env *env)
{
    static const int all[] = {EMFILE, ENFILE, ENOMEM, EPERM};
    (void)env;
    weft_addr addrs[8];
    weft_tcp *conn = NULL;
    int count = weft_lookup("localhost:9", addrs, 8);
    CHECK(count > 0);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        ERRORS(all[i], all[i], all[i], all[i], all[i], all[i], all[i], all[i]);
        weft__sys_table.socket = failing_socket;
        CHECK_EQ(weft_tcp_connect("localhost:9", &conn), -all[i]);
        back_to_normal();
        CHECK_EQ(calls, 1);
    }
    ERRORS(EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT,
           EAFNOSUPPORT, EAFNOSUPPORT);
    weft__sys_table.socket = failing_socket;
    CHECK_EQ(weft_tcp_connect("localhost:9", &conn), -EAFNOSUPPORT);
    back_to_normal();
    CHECK_EQ(calls, count); /* each was tried */
    CHECK(conn == NULL);
}

TEST_MAIN(IN_TASK_ON(errors_of_a_connection_are_passed_over, TEST_CT),
          IN_TASK_ON(accepting_waits_for_what_is_exhausted, TEST_CT),
          IN_TASK_ON(a_listener_may_report_it_instead, TEST_CT),
          IN_TASK_ON(a_connection_that_cannot_be_registered_is_waited_out, TEST_CT),
          IN_TASK_ON(one_that_cannot_be_registered_may_be_reported_and_is_kept, TEST_CT),
          IN_TASK_ON(giving_up_leaves_it_to_the_next_accept, TEST_CT),
          IN_TASK_ON(what_is_kept_ends_with_the_listener, TEST_CT),
          IN_TASK_ON(a_forked_child_closes_its_copy_alone, TEST_CT),
          IN_TASK_ON(one_that_is_reset_meanwhile_is_skipped, TEST_CT),
          IN_TASK_ON(of_two_at_once_one_is_kept, TEST_CT),
          IN_TASK_ON(many_who_accept_leave_none_behind, TEST_MT4),
          IN_TASK_ON(listening_fails_at_each_option, TEST_CT), IN_TASK_ON(connecting, TEST_CT),
          IN_TASK_ON(nobody_is_connected_to_himself, TEST_CT),
          IN_TASK_ON(errors_that_no_other_address_would_mend, TEST_CT))
