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
#include <string.h>
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

/* A connection that cannot be registered is closed: its peer sees an end. */
static void an_accepted_connection_that_cannot_be_registered(struct test_env *env)
{
    (void)env;
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    weft_tcp *conn = NULL;
    char c;
    int fd = socks_raw_connect(port);
    ERRORS(ENOSPC);
    weft__sys_table.epoll_ctl = failing_epoll_ctl;
    CHECK_EQ(weft_tcp_accept(l, &conn), -ENOSPC);
    back_to_normal();
    CHECK(conn == NULL);
    CHECK(read(fd, &c, 1) <= 0);
    close(fd);
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
          IN_TASK_ON(an_accepted_connection_that_cannot_be_registered, TEST_CT),
          IN_TASK_ON(listening_fails_at_each_option, TEST_CT), IN_TASK_ON(connecting, TEST_CT),
          IN_TASK_ON(nobody_is_connected_to_himself, TEST_CT),
          IN_TASK_ON(errors_that_no_other_address_would_mend, TEST_CT))
