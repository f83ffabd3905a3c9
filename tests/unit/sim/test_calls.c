/*
 * The calls of the simulated kernel: each is made on Linux first, then in a simulation, then on
 * Linux once more in a process that has simulated, and must answer the same.
 */
#include "harness.h"

#include "sim/world.h"
#include "sys/sys.h"
#include "sys/table.h"

#include <weft/sim.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* ---- both worlds ---- */

static int run_calls(void *arg)
{
    void (*calls)(void) = *(void (**)(void))arg;
    calls();
    return 0;
}

static void in_a_simulation(void (*calls)(void))
{
    weft_sim_config c;
    weft_sim_result r;
    weft_sim_config_init(&c, 5);
    CHECK_EQ(weft_sim_run(&c, run_calls, &calls, &r), 0);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    EXPECT_EQ(r.rc, 0);
    EXPECT_EQ(r.fds_left, 0);
}

static void in_both_worlds(void (*calls)(void))
{
    calls();
    in_a_simulation(calls);
    calls();
}

/* For what the network has to do. */
static void let_pass(uint64_t ns)
{
    if (weft_sim_is_running()) {
        EXPECT_EQ(weft_sleep(ns), 0);
        return;
    }
    struct timespec ts = {.tv_sec = (time_t)(ns / WEFT_SEC), .tv_nsec = (long)(ns % WEFT_SEC)};
    (void)nanosleep(&ts, NULL);
}

/* The first answer that is not -EAGAIN, or that after a second. */
#define SOON(call)                                                                                 \
    __extension__({                                                                                \
        long soon_rc = (call);                                                                     \
        for (int tries = 0; soon_rc == -EAGAIN && tries < 500; tries++) {                          \
            let_pass(2 * WEFT_MS);                                                                 \
            soon_rc = (call);                                                                      \
        }                                                                                          \
        soon_rc;                                                                                   \
    })

static struct sockaddr_in loopback(unsigned port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return in;
}

static int bind_to(int fd, unsigned port)
{
    struct sockaddr_in in = loopback(port);
    return weft__sys_bind(fd, (struct sockaddr *)&in, sizeof(in));
}

static unsigned port_of(int fd)
{
    struct sockaddr_in in = {0};
    socklen_t len = sizeof(in);
    EXPECT_EQ(weft__sys_getsockname(fd, (struct sockaddr *)&in, &len), 0);
    return ntohs(in.sin_port);
}

static int connect_to(int fd, unsigned port)
{
    struct sockaddr_in in = loopback(port);
    return weft__sys_connect(fd, (struct sockaddr *)&in, sizeof(in));
}

static int tcp_socket(void)
{
    int fd = weft__sys_socket(AF_INET, SOCK_STREAM, 0);
    EXPECT(fd >= 0);
    return fd;
}

static int listen_somewhere(int backlog)
{
    int l = tcp_socket();
    EXPECT_EQ(bind_to(l, 0), 0);
    EXPECT_EQ(weft__sys_listen(l, backlog), 0);
    return l;
}

/* A connection; ret[0] is the client's end. */
static void connect_pair(int ret[2])
{
    int l = listen_somewhere(8);
    ret[0] = tcp_socket();
    int rc = connect_to(ret[0], port_of(l));
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    ret[1] = (int)SOON(weft__sys_accept(l, NULL, NULL));
    EXPECT(ret[1] >= 0);
    EXPECT_EQ(weft__sys_close(l), 0);
}

static void close_both(const int fd[2])
{
    EXPECT_EQ(weft__sys_close(fd[0]), 0);
    EXPECT_EQ(weft__sys_close(fd[1]), 0);
}

static void reset(int fd)
{
    struct linger now = {1, 0};
    EXPECT_EQ(weft__sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    EXPECT_EQ(weft__sys_close(fd), 0);
    let_pass(10 * WEFT_MS);
}

static int error_of(int fd)
{
    int error = -1;
    socklen_t len = sizeof(error);
    EXPECT_EQ(weft__sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
    return error;
}

/* Every call that takes a socket, on what is none: they all say `rc`. */
static void expect_all(int fd, int rc)
{
    struct sockaddr_in in = loopback(80);
    struct sockaddr *addr = (struct sockaddr *)&in;
    socklen_t len = sizeof(in);
    int value = 1;
    EXPECT_EQ(weft__sys_bind(fd, addr, len), rc);
    EXPECT_EQ(weft__sys_listen(fd, 1), rc);
    EXPECT_EQ(weft__sys_accept(fd, NULL, NULL), rc);
    EXPECT_EQ(weft__sys_connect(fd, addr, len), rc);
    EXPECT_EQ(weft__sys_shutdown(fd, SHUT_WR), rc);
    EXPECT_EQ(weft__sys_getsockname(fd, addr, &len), rc);
    EXPECT_EQ(weft__sys_getpeername(fd, addr, &len), rc);
    EXPECT_EQ(weft__sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof(value)), rc);
    len = sizeof(value);
    EXPECT_EQ(weft__sys_getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, &len), rc);
}

/* ---- descriptors ---- */

static void use_closed_ones(void)
{
    struct epoll_event e;
    char c = 0;
    int ep = weft__sys_epoll_create(), fd = weft__sys_eventfd_create();
    EXPECT(ep >= 0 && fd >= 0);
    EXPECT_EQ(weft__sys_close(fd), 0);
    EXPECT_EQ(weft__sys_close(fd), -EBADF);
    expect_all(fd, -EBADF);
    EXPECT_EQ(weft__sys_read(fd, &c, 1), -EBADF);
    EXPECT_EQ(weft__sys_write(fd, &c, 1), -EBADF);
    EXPECT_EQ(weft__sys_recv(fd, &c, 1, 0), -EBADF);
    EXPECT_EQ(weft__sys_send(fd, &c, 1, 0), -EBADF);
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 0), -EBADF);
    EXPECT_EQ(weft__sys_epoll_ctl(fd, EPOLL_CTL_ADD, ep, EPOLLIN, 0), -EBADF);
    EXPECT_EQ(weft__sys_epoll_wait(fd, &e, 1, 0), -EBADF);
    EXPECT_EQ(weft__sys_epoll_wait(fd, &e, 1, WEFT_MS), -EBADF);
    EXPECT_EQ(weft__sys_close(ep), 0);
}

static void use_what_is_no_socket(void)
{
    uint64_t count = 0;
    int ep = weft__sys_epoll_create(), fd = weft__sys_eventfd_create();
    expect_all(fd, -ENOTSOCK);
    EXPECT_EQ(weft__sys_read(fd, &count, sizeof(count)), -EAGAIN);
    count = 1;
    EXPECT_EQ(weft__sys_write(fd, &count, sizeof(count)), sizeof(count));
    EXPECT_EQ(weft__sys_write(fd, &count, sizeof(count)), sizeof(count));
    EXPECT_EQ(weft__sys_read(fd, &count, sizeof(count)), sizeof(count));
    EXPECT_EQ(count, 2);
    EXPECT_EQ(weft__sys_read(ep, &count, sizeof(count)), -EINVAL);
    EXPECT_EQ(weft__sys_write(ep, &count, sizeof(count)), -EINVAL);
    EXPECT_EQ(weft__sys_close(fd), 0);
    EXPECT_EQ(weft__sys_close(ep), 0);
}

static uint32_t events_of(int ep)
{
    struct epoll_event e = {0};
    int n = weft__sys_epoll_wait(ep, &e, 1, 0);
    EXPECT(n == 0 || (n == 1 && e.data.u64 == 7));
    return n == 1 ? e.events : 0;
}

static void watch(void)
{
    uint64_t one = 1;
    int ep = weft__sys_epoll_create(), fd = weft__sys_eventfd_create();
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_DEL, fd, 0, 0), -ENOENT);
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN, 7), -ENOENT);
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 7), 0);
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 7), -EEXIST);
    EXPECT_EQ(events_of(ep), 0);
    EXPECT_EQ(weft__sys_write(fd, &one, sizeof(one)), sizeof(one));
    EXPECT_EQ(events_of(ep), EPOLLIN);
    EXPECT_EQ(events_of(ep), 0); /* the edge is gone, though what it told of is there */
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLOUT | EPOLLET, 7), 0);
    EXPECT_EQ(events_of(ep), EPOLLOUT); /* and looked at again */
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_DEL, fd, 0, 0), 0);
    EXPECT_EQ(weft__sys_write(fd, &one, sizeof(one)), sizeof(one));
    EXPECT_EQ(events_of(ep), 0);

    /* An edge of what was read before anybody looked is no event. */
    EXPECT_EQ(weft__sys_read(fd, &one, sizeof(one)), sizeof(one));
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 7), 0);
    EXPECT_EQ(weft__sys_write(fd, &one, sizeof(one)), sizeof(one));
    EXPECT_EQ(weft__sys_read(fd, &one, sizeof(one)), sizeof(one));
    EXPECT_EQ(events_of(ep), 0);

    /* Whoever goes first, the other is the better for it. */
    EXPECT_EQ(weft__sys_close(ep), 0);
    ep = weft__sys_epoll_create();
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 7), 0);
    EXPECT_EQ(weft__sys_close(fd), 0);
    EXPECT_EQ(events_of(ep), 0);
    EXPECT_EQ(weft__sys_close(ep), 0);
}

static void wait_in_vain(void)
{
    struct epoll_event e;
    int ep = weft__sys_epoll_create();
    uint64_t began_ns = weft__sys_now_ns();
    EXPECT_EQ(weft__sys_epoll_wait(ep, &e, 1, 20 * WEFT_MS), 0);
    EXPECT(weft__sys_now_ns() - began_ns >= 19 * WEFT_MS); /* a thousandth early */
    EXPECT_EQ(weft__sys_close(ep), 0);
}

/* ---- sockets ---- */

static void bind_and_listen(void)
{
    struct sockaddr_in in = loopback(0);
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    char c = 0;
    int fd = tcp_socket(), other = tcp_socket();
    EXPECT_EQ(weft__sys_bind(fd, (struct sockaddr *)&in, 200), -EINVAL);
    EXPECT_EQ(weft__sys_bind(fd, (struct sockaddr *)&in6, sizeof(in6)), -EAFNOSUPPORT);
    EXPECT_EQ(weft__sys_connect(fd, (struct sockaddr *)&in, 200), -EINVAL);
    EXPECT_EQ(weft__sys_connect(fd, (struct sockaddr *)&in6, sizeof(in6)), -EAFNOSUPPORT);
    EXPECT_EQ(weft__sys_accept(fd, NULL, NULL), -EINVAL);
    EXPECT_EQ(weft__sys_recv(fd, &c, 1, 0), -ENOTCONN);
    EXPECT_EQ(weft__sys_send(fd, &c, 1, 0), -EPIPE);
    EXPECT_EQ(weft__sys_getpeername(fd, (struct sockaddr *)&in, &(socklen_t){sizeof(in)}),
              -ENOTCONN);
    EXPECT_EQ(error_of(fd), 0);
    EXPECT_EQ(bind_to(fd, 0), 0);
    EXPECT_EQ(bind_to(fd, 0), -EINVAL); /* again */
    unsigned port = port_of(fd);
    EXPECT(port != 0);
    EXPECT_EQ(bind_to(other, port), -EADDRINUSE);
    EXPECT_EQ(weft__sys_listen(fd, 0), 0);
    EXPECT_EQ(weft__sys_listen(fd, 5), 0); /* another length of the queue */
    EXPECT_EQ(weft__sys_accept(fd, NULL, NULL), -EAGAIN);
    EXPECT_EQ(connect_to(fd, port), -EISCONN);
    EXPECT_EQ(weft__sys_recv(fd, &c, 1, 0), -ENOTCONN);
    EXPECT_EQ(weft__sys_send(fd, &c, 1, 0), -EPIPE);
    EXPECT_EQ(weft__sys_shutdown(other, SHUT_WR), -ENOTCONN);
    EXPECT_EQ(weft__sys_close(other), 0);
    EXPECT_EQ(weft__sys_close(fd), 0);
}

static int reusing_socket(int name)
{
    int fd = tcp_socket(), on = 1;
    EXPECT_EQ(weft__sys_setsockopt(fd, SOL_SOCKET, name, &on, sizeof(on)), 0);
    return fd;
}

/* SO_REUSEADDR shares an address among those that do not listen, SO_REUSEPORT among all that have
 * it. */
static void share_addresses(void)
{
    int a = reusing_socket(SO_REUSEADDR), b = reusing_socket(SO_REUSEADDR),
        c = reusing_socket(SO_REUSEADDR), plain = tcp_socket();
    EXPECT_EQ(bind_to(a, 0), 0);
    unsigned port = port_of(a);
    EXPECT_EQ(bind_to(b, port), 0);
    EXPECT_EQ(bind_to(plain, port), -EADDRINUSE);
    EXPECT_EQ(weft__sys_listen(a, 1), 0);
    EXPECT_EQ(bind_to(c, port), -EADDRINUSE);
    EXPECT_EQ(weft__sys_listen(b, 1), -EADDRINUSE); /* bound while a did not listen yet */
    EXPECT_EQ(weft__sys_close(a), 0);
    EXPECT_EQ(weft__sys_listen(b, 1), 0);
    EXPECT_EQ(weft__sys_close(b), 0);
    EXPECT_EQ(weft__sys_close(c), 0);

    a = reusing_socket(SO_REUSEPORT), b = reusing_socket(SO_REUSEPORT);
    EXPECT_EQ(bind_to(a, 0), 0);
    port = port_of(a);
    EXPECT_EQ(weft__sys_listen(a, 1), 0);
    EXPECT_EQ(bind_to(plain, port), -EADDRINUSE);
    EXPECT_EQ(bind_to(b, port), 0);
    EXPECT_EQ(weft__sys_close(a), 0);
    EXPECT_EQ(weft__sys_close(b), 0);
    EXPECT_EQ(bind_to(plain, port), 0); /* all have gone */
    EXPECT_EQ(weft__sys_close(plain), 0);
}

/* From an address that is shared each peer is connected to once. */
static void connect_from_one_address(void)
{
    int l[2], fd[3];
    for (int i = 0; i < 2; i++)
        l[i] = listen_somewhere(8);
    for (int i = 0; i < 3; i++)
        fd[i] = reusing_socket(SO_REUSEADDR);
    EXPECT_EQ(bind_to(fd[0], 0), 0);
    for (int i = 1; i < 3; i++)
        EXPECT_EQ(bind_to(fd[i], port_of(fd[0])), 0);
    int rc = connect_to(fd[0], port_of(l[0]));
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    EXPECT_EQ(connect_to(fd[1], port_of(l[0])), -EADDRNOTAVAIL);
    rc = connect_to(fd[2], port_of(l[1]));
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    let_pass(10 * WEFT_MS);
    EXPECT_EQ(connect_to(fd[1], port_of(l[0])), -EADDRNOTAVAIL);
    reset(fd[0]);
    rc = connect_to(fd[1], port_of(l[0]));
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    close_both(fd + 1);
    close_both(l);
}

static void keep_options(void)
{
    struct linger linger = {1, 5};
    int fd = tcp_socket(), value = 1;
    char small = 1;
    socklen_t len = 2;
    EXPECT_EQ(weft__sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &small, 1), -EINVAL);
    EXPECT_EQ(weft__sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(int)), -EINVAL);
    EXPECT_EQ(weft__sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, 0), -EINVAL);
    EXPECT_EQ(weft__sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof(value)), 0);
    value = 0;
    EXPECT_EQ(weft__sys_getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, &len), 0);
    EXPECT_EQ(len, 2); /* as much as there is room for */
    EXPECT_EQ(value, 1);
    EXPECT_EQ(weft__sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    linger = (struct linger){0, 0};
    len = sizeof(linger);
    EXPECT_EQ(weft__sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len), 0);
    EXPECT_EQ(linger.l_onoff, 1);
    EXPECT_EQ(linger.l_linger, 5);
    /* One that was never set; one that is shorter than the room for it. */
    value = 7;
    len = 2;
    EXPECT_EQ(weft__sys_getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &len), 0);
    EXPECT_EQ(len, 2);
    EXPECT_EQ(value, 0);
    uint64_t wide = 0;
    len = sizeof(wide);
    EXPECT_EQ(weft__sys_getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &wide, &len), 0);
    EXPECT_EQ(len, sizeof(int));
    /* The same number means another thing at another level. */
    len = sizeof(value);
    EXPECT_EQ(weft__sys_getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
    EXPECT_EQ(value, 0);
    EXPECT_EQ(weft__sys_close(fd), 0);
}

/* ---- connections ---- */

static void tell_addresses(void)
{
    struct sockaddr_in in = {0};
    struct sockaddr *addr = (struct sockaddr *)&in;
    socklen_t len = sizeof(in);
    int l = listen_somewhere(8), a = tcp_socket();
    unsigned port = port_of(l);
    int rc = connect_to(a, port);
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    int b = (int)SOON(weft__sys_accept(l, addr, &len));
    EXPECT(b >= 0);
    EXPECT_EQ(len, sizeof(in));
    EXPECT_EQ(in.sin_port, htons((uint16_t)port_of(a)));
    EXPECT_EQ(weft__sys_getpeername(a, addr, &len), 0);
    EXPECT_EQ(in.sin_port, htons((uint16_t)port));
    EXPECT_EQ(port_of(b), port);
    EXPECT_EQ(in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));

    /* Cut off where there is no room for more, and how long it is. */
    memset(&in, 0xff, sizeof(in));
    len = 4;
    EXPECT_EQ(weft__sys_getpeername(a, addr, &len), 0);
    EXPECT_EQ(len, sizeof(in));
    EXPECT_EQ(in.sin_port, htons((uint16_t)port));
    EXPECT_EQ(in.sin_addr.s_addr, 0xffffffff);

    EXPECT_EQ(bind_to(b, 0), -EINVAL);
    EXPECT_EQ(weft__sys_listen(b, 1), -EINVAL);
    EXPECT_EQ(connect_to(b, port), -EISCONN);
    EXPECT_EQ(weft__sys_accept(b, NULL, NULL), -EINVAL);
    close_both((int[]){a, b});
    EXPECT_EQ(weft__sys_close(l), 0);
}

/* A client that is bound to a port alone; options that a connection has from its listener. */
static void speak_and_inherit(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr *addr = (struct sockaddr *)&in;
    socklen_t len = sizeof(in);
    int l = listen_somewhere(8), a = tcp_socket(), on = 1;
    EXPECT_EQ(weft__sys_setsockopt(l, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    EXPECT_EQ(weft__sys_setsockopt(l, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)), 0);
    EXPECT_EQ(weft__sys_bind(a, addr, len), 0);
    unsigned port = port_of(a);
    int rc = connect_to(a, port_of(l));
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    int b = (int)SOON(weft__sys_accept(l, addr, &len));
    EXPECT_EQ(ntohs(in.sin_port), port);
    EXPECT_EQ(in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    EXPECT_EQ(weft__sys_getsockname(a, addr, &len), 0);
    EXPECT_EQ(ntohs(in.sin_port), port);
    EXPECT_EQ(in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    on = 0;
    len = sizeof(on);
    EXPECT_EQ(weft__sys_getsockopt(b, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    EXPECT(on != 0);
    on = 0;
    EXPECT_EQ(weft__sys_getsockopt(b, SOL_SOCKET, SO_KEEPALIVE, &on, &len), 0);
    EXPECT(on != 0);
    EXPECT_EQ(weft__sys_getsockopt(a, SOL_SOCKET, SO_SNDBUF, &on, &len), 0);
    EXPECT(on > 1000);
    close_both((int[]){a, b});
    EXPECT_EQ(weft__sys_close(l), 0);
}

static int any_ipv6_socket(int is_v6only)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    int fd = weft__sys_socket(AF_INET6, SOCK_STREAM, 0);
    if (fd < 0)
        return fd; /* a machine without IPv6 */
    EXPECT_EQ(weft__sys_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &is_v6only, sizeof(is_v6only)),
              0);
    int rc = weft__sys_bind(fd, (struct sockaddr *)&in6, sizeof(in6));
    if (rc == 0)
        rc = weft__sys_listen(fd, 8);
    if (rc == 0)
        return fd;
    EXPECT_EQ(weft__sys_close(fd), 0);
    return rc;
}

/* To the port that an IPv6 socket has, of all addresses of IPv4. */
static int bind_to_port_of(int ipv6, int fd)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    socklen_t len = sizeof(in6);
    EXPECT_EQ(weft__sys_getsockname(ipv6, (struct sockaddr *)&in6, &len), 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = in6.sin6_port};
    return weft__sys_bind(fd, (struct sockaddr *)&in, sizeof(in));
}

static void listen_for_both(void)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    socklen_t len = sizeof(in6);
    static const unsigned char mapped[16] = {[10] = 0xff, 0xff, 127, 0, 0, 1};
    int l = any_ipv6_socket(0);
    if (l < 0)
        return;
    EXPECT_EQ(weft__sys_getsockname(l, (struct sockaddr *)&in6, &len), 0);
    unsigned port = ntohs(in6.sin6_port);
    int a = tcp_socket(), other = tcp_socket();
    EXPECT_EQ(bind_to_port_of(l, other), -EADDRINUSE);
    EXPECT_EQ(bind_to(other, port), -EADDRINUSE);
    int rc = connect_to(a, port);
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    int b = (int)SOON(weft__sys_accept(l, (struct sockaddr *)&in6, &len));
    EXPECT_EQ(len, sizeof(in6));
    EXPECT_EQ(in6.sin6_family, AF_INET6);
    EXPECT_EQ(memcmp(&in6.sin6_addr, mapped, sizeof(mapped)), 0);
    EXPECT_EQ(ntohs(in6.sin6_port), port_of(a));
    EXPECT_EQ(weft__sys_getpeername(b, (struct sockaddr *)&in6, &len), 0);
    EXPECT_EQ(memcmp(&in6.sin6_addr, mapped, sizeof(mapped)), 0);
    EXPECT_EQ(weft__sys_getsockname(b, (struct sockaddr *)&in6, &len), 0);
    EXPECT_EQ(memcmp(&in6.sin6_addr, mapped, sizeof(mapped)), 0);
    EXPECT_EQ(ntohs(in6.sin6_port), port);
    close_both((int[]){a, b});
    EXPECT_EQ(weft__sys_close(l), 0);

    l = weft__sys_socket(AF_INET6, SOCK_STREAM, 0);
    EXPECT_EQ(weft__sys_setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int)), 0);
    in6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
    memcpy(&in6.sin6_addr, mapped, sizeof(mapped));
    EXPECT_EQ(weft__sys_bind(l, (struct sockaddr *)&in6, sizeof(in6)), -EINVAL);
    EXPECT_EQ(weft__sys_close(l), 0);

    l = any_ipv6_socket(1);
    rc = bind_to_port_of(l, other);
    /* On Linux others have ports as well, for a minute after the end of a connection, too. */
    for (int tries = 0; rc == -EADDRINUSE && !weft_sim_is_running() && tries < 1000; tries++) {
        EXPECT_EQ(weft__sys_close(l), 0);
        l = any_ipv6_socket(1);
        rc = bind_to_port_of(l, other);
    }
    EXPECT_EQ(rc, 0);
    EXPECT_EQ(weft__sys_close(other), 0);
    EXPECT_EQ(weft__sys_close(l), 0);
}

static void send_and_shut(void)
{
    int fd[2];
    char text[8] = "";
    connect_pair(fd);
    EXPECT_EQ(weft__sys_recv(fd[1], text, 1, 0), -EAGAIN);
    EXPECT_EQ(weft__sys_send(fd[0], text, 0, 0), 0);
    struct iovec out[] = {{"ab", 2}, {text, 0}, {"cde", 3}};
    EXPECT_EQ(weft__sys_writev(fd[0], out, 3), 5);
    EXPECT_EQ(SOON(weft__sys_recv(fd[1], text, 2, MSG_PEEK)), 2);
    EXPECT_EQ(weft__sys_recv(fd[1], text, 0, 0), 0);
    struct iovec in[] = {{text, 1}, {text + 1, 3}, {text + 4, 4}};
    struct msghdr msg = {.msg_iov = in, .msg_iovlen = 3};
    EXPECT_EQ(weft__sys_recvmsg(fd[1], &msg, 0), 5);
    EXPECT_EQ(memcmp(text, "abcde", 5), 0);
    msg = (struct msghdr){.msg_iov = out, .msg_iovlen = 3};
    EXPECT_EQ(weft__sys_sendmsg(fd[1], &msg, 0), 5);
    EXPECT_EQ(SOON(weft__sys_readv(fd[0], in, 3)), 5);

    EXPECT_EQ(weft__sys_shutdown(fd[0], SHUT_RD), 0);
    EXPECT_EQ(weft__sys_recv(fd[0], text, 1, 0), 0);
    EXPECT_EQ(weft__sys_send(fd[0], "x", 1, 0), 1); /* the other direction goes on */
    EXPECT_EQ(SOON(weft__sys_recv(fd[1], text, 8, 0)), 1);
    EXPECT_EQ(weft__sys_shutdown(fd[0], SHUT_RDWR), 0);
    EXPECT_EQ(SOON(weft__sys_recv(fd[1], text, 8, 0)), 0);
    EXPECT_EQ(weft__sys_send(fd[0], "x", 1, 0), -EPIPE);
    EXPECT_EQ(weft__sys_shutdown(fd[1], SHUT_RD), 0);
    EXPECT_EQ(weft__sys_shutdown(fd[1], SHUT_WR), 0);
    close_both(fd);
}

static const uint32_t all_bits = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR;

static void report_states(void)
{
    int ep = weft__sys_epoll_create(), fd = tcp_socket(), pair[2];
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd, all_bits | EPOLLET, 7), 0);
    EXPECT_EQ(events_of(ep), EPOLLOUT | EPOLLHUP); /* not connected */
    EXPECT_EQ(weft__sys_close(fd), 0);
    fd = listen_somewhere(1);
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd, all_bits | EPOLLET, 7), 0);
    EXPECT_EQ(events_of(ep), 0);
    EXPECT_EQ(weft__sys_close(fd), 0);

    connect_pair(pair);
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, pair[1], all_bits | EPOLLET, 7), 0);
    EXPECT_EQ(events_of(ep), EPOLLOUT);
    EXPECT_EQ(weft__sys_send(pair[0], "x", 1, 0), 1);
    let_pass(10 * WEFT_MS);
    EXPECT_EQ(events_of(ep), EPOLLIN | EPOLLOUT);
    EXPECT_EQ(weft__sys_shutdown(pair[0], SHUT_WR), 0);
    let_pass(10 * WEFT_MS);
    EXPECT_EQ(events_of(ep), EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    EXPECT_EQ(weft__sys_shutdown(pair[1], SHUT_WR), 0);
    EXPECT_EQ(events_of(ep), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP);
    close_both(pair);

    /* What nobody will read any more is over as well. */
    connect_pair(pair);
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, pair[1], all_bits | EPOLLET, 7), 0);
    EXPECT_EQ(events_of(ep), EPOLLOUT);
    EXPECT_EQ(weft__sys_shutdown(pair[1], SHUT_RD), 0);
    EXPECT_EQ(events_of(ep), EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    EXPECT_EQ(weft__sys_shutdown(pair[1], SHUT_WR), 0);
    EXPECT_EQ(events_of(ep), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP);
    EXPECT_EQ(weft__sys_close(ep), 0);
    close_both(pair);
}

static void lose_connections(void)
{
    int fd[2], ep = weft__sys_epoll_create();
    char c;
    struct sockaddr_in in;
    socklen_t len = sizeof(in);
    connect_pair(fd);
    reset(fd[0]);
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd[1], all_bits | EPOLLET, 7), 0);
    EXPECT_EQ(events_of(ep), all_bits);
    EXPECT_EQ(error_of(fd[1]), ECONNRESET);
    EXPECT_EQ(error_of(fd[1]), 0); /* told once */
    EXPECT_EQ(weft__sys_recv(fd[1], &c, 1, 0), 0);
    EXPECT_EQ(weft__sys_send(fd[1], &c, 1, 0), -EPIPE);
    EXPECT_EQ(weft__sys_shutdown(fd[1], SHUT_WR), -ENOTCONN);
    EXPECT_EQ(weft__sys_getpeername(fd[1], (struct sockaddr *)&in, &len), -ENOTCONN);
    EXPECT_EQ(weft__sys_close(fd[1]), 0);

    connect_pair(fd);
    reset(fd[0]);
    EXPECT_EQ(weft__sys_recv(fd[1], &c, 1, 0), -ECONNRESET);
    EXPECT_EQ(weft__sys_close(fd[1]), 0);

    connect_pair(fd);
    reset(fd[1]);
    EXPECT_EQ(weft__sys_send(fd[0], &c, 1, 0), -ECONNRESET);
    EXPECT_EQ(weft__sys_close(fd[0]), 0);

    /* After an end in good order it is a broken pipe. */
    connect_pair(fd);
    EXPECT_EQ(weft__sys_shutdown(fd[0], SHUT_WR), 0);
    EXPECT_EQ(SOON(weft__sys_recv(fd[1], &c, 1, 0)), 0);
    reset(fd[0]);
    EXPECT_EQ(error_of(fd[1]), EPIPE);
    EXPECT_EQ(weft__sys_close(fd[1]), 0);

    /* So is what arrives at a socket that was closed. */
    connect_pair(fd);
    EXPECT_EQ(weft__sys_close(fd[0]), 0);
    EXPECT_EQ(SOON(weft__sys_recv(fd[1], &c, 1, 0)), 0);
    EXPECT_EQ(weft__sys_send(fd[1], "x", 1, 0), 1);
    let_pass(10 * WEFT_MS);
    EXPECT_EQ(weft__sys_send(fd[1], "x", 1, 0), -EPIPE);
    EXPECT_EQ(weft__sys_close(fd[1]), 0);

    /* A listener that goes resets those that it had not accepted. */
    int l = listen_somewhere(8);
    fd[0] = tcp_socket();
    int rc = connect_to(fd[0], port_of(l));
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    let_pass(10 * WEFT_MS);
    EXPECT_EQ(weft__sys_close(l), 0);
    let_pass(10 * WEFT_MS);
    EXPECT_EQ(weft__sys_recv(fd[0], &c, 1, 0), -ECONNRESET);
    EXPECT_EQ(weft__sys_close(fd[0]), 0);
    EXPECT_EQ(weft__sys_close(ep), 0);
}

/* ---- what a server may meet, and a calm test does not ---- */

static void shut_in_odd_ways(void)
{
    int fd[2];
    connect_pair(fd);
    EXPECT_EQ(weft__sys_shutdown(fd[0], 7), -EINVAL);
    EXPECT_EQ(weft__sys_shutdown(fd[0], -1), -EINVAL);
    EXPECT_EQ(weft__sys_send(fd[0], "x", 1, 0), 1); /* nothing was shut */
    close_both(fd);
}

/* To 0.0.0.0: what a listener tells as its own address. */
static void connect_to_any(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr *addr = (struct sockaddr *)&in;
    socklen_t len = sizeof(in);
    int l = listen_somewhere(8), a = tcp_socket();
    in.sin_port = htons((uint16_t)port_of(l));
    int rc = weft__sys_connect(a, addr, len);
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    int b = (int)SOON(weft__sys_accept(l, addr, &len));
    EXPECT(b >= 0);
    EXPECT_EQ(in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    EXPECT_EQ(weft__sys_getpeername(a, addr, &len), 0);
    EXPECT_EQ(in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    close_both((int[]){a, b});

    /* From an address of its own it is that one. */
    EXPECT_EQ(weft__sys_close(l), 0);
    l = tcp_socket();
    in = (struct sockaddr_in){.sin_family = AF_INET};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    EXPECT_EQ(weft__sys_bind(l, addr, len), 0);
    EXPECT_EQ(weft__sys_listen(l, 8), 0);
    a = tcp_socket();
    EXPECT_EQ(weft__sys_bind(a, addr, len), 0);
    in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(l))};
    rc = weft__sys_connect(a, addr, len);
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    b = (int)SOON(weft__sys_accept(l, NULL, NULL));
    EXPECT(b >= 0);
    close_both((int[]){a, b});
    EXPECT_EQ(weft__sys_close(l), 0);
}

/* The port of a listener that has gone, while its connections live on. */
static void bind_beside_connections(void)
{
    int l = listen_somewhere(8), a = tcp_socket(), plain = tcp_socket(),
        reusing = reusing_socket(SO_REUSEADDR);
    unsigned port = port_of(l);
    int rc = connect_to(a, port);
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    int b = (int)SOON(weft__sys_accept(l, NULL, NULL));
    EXPECT(b >= 0);
    EXPECT_EQ(weft__sys_close(l), 0);
    EXPECT_EQ(bind_to(plain, port), -EADDRINUSE);
    EXPECT_EQ(bind_to(reusing, port), -EADDRINUSE); /* the listener had not said so */
    reset(a);
    EXPECT_EQ(bind_to(plain, port), 0); /* lost, though not closed */
    EXPECT_EQ(weft__sys_close(b), 0);
    EXPECT_EQ(weft__sys_close(plain), 0);
    EXPECT_EQ(weft__sys_close(reusing), 0);

    /* What servers do. */
    l = reusing_socket(SO_REUSEADDR);
    EXPECT_EQ(bind_to(l, 0), 0);
    EXPECT_EQ(weft__sys_listen(l, 8), 0);
    port = port_of(l);
    a = tcp_socket();
    rc = connect_to(a, port);
    EXPECT(rc == 0 || rc == -EINPROGRESS);
    b = (int)SOON(weft__sys_accept(l, NULL, NULL));
    EXPECT(b >= 0);
    EXPECT_EQ(weft__sys_close(l), 0);
    l = reusing_socket(SO_REUSEADDR);
    EXPECT_EQ(bind_to(l, port), 0);
    EXPECT_EQ(weft__sys_listen(l, 8), 0);
    close_both((int[]){a, b});
    EXPECT_EQ(weft__sys_close(l), 0);
}

/* One more than the backlog waits to be accepted; who comes then is not connected before one has
 * been. */
static void fill_the_backlog(void)
{
    struct sockaddr_in in;
    socklen_t len = sizeof(in);
    int l = listen_somewhere(1), fd[4];
    for (int i = 0; i < 4; i++) {
        fd[i] = tcp_socket();
        int rc = connect_to(fd[i], port_of(l));
        EXPECT(rc == 0 || rc == -EINPROGRESS);
        let_pass(10 * WEFT_MS);
        EXPECT_EQ(weft__sys_getpeername(fd[i], (struct sockaddr *)&in, &len),
                  i < 2 ? 0 : -ENOTCONN);
    }
    for (int i = 0; i < 4; i++) {
        int b = i < 2 ? weft__sys_accept(l, NULL, NULL) : -EAGAIN;
        for (int tries = 0; b == -EAGAIN && tries < 50; tries++) {
            let_pass(100 * WEFT_MS);
            b = weft__sys_accept(l, NULL, NULL);
        }
        EXPECT(b >= 0);
        EXPECT_EQ(weft__sys_close(b), 0);
    }
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(weft__sys_close(fd[i]), 0);
    EXPECT_EQ(weft__sys_close(l), 0);
}

static int set_int(int fd, int level, int name, int value)
{
    return weft__sys_setsockopt(fd, level, name, &value, sizeof(value));
}

static int get_int(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    EXPECT_EQ(weft__sys_getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void refuse_options(void)
{
    int fd = tcp_socket();
    EXPECT_EQ(get_int(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
    EXPECT_EQ(get_int(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    EXPECT_EQ(set_int(fd, SOL_SOCKET, SO_TYPE, SOCK_STREAM), -ENOPROTOOPT);
    EXPECT_EQ(set_int(fd, SOL_SOCKET, SO_ERROR, 0), -ENOPROTOOPT);
    EXPECT_EQ(set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, 8), -ENOPROTOOPT);
    EXPECT_EQ(set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 0), -EINVAL);
    EXPECT_EQ(set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 32768), -EINVAL);
    EXPECT_EQ(set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, 32768), -EINVAL);
    EXPECT_EQ(set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 128), -EINVAL);
    EXPECT_EQ(set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 127), 0);
    EXPECT_EQ(weft__sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, NULL, sizeof(int)), -EFAULT);
    /* Buffers are as large as may be, and hold something. */
    EXPECT_EQ(set_int(fd, SOL_SOCKET, SO_SNDBUF, INT_MAX), 0);
    int most = get_int(fd, SOL_SOCKET, SO_SNDBUF);
    EXPECT(most > 100000 && most < INT_MAX);
    EXPECT_EQ(set_int(fd, SOL_SOCKET, SO_RCVBUF, -1), 0);
    most = get_int(fd, SOL_SOCKET, SO_RCVBUF);
    EXPECT(most > 100000 && most < INT_MAX);
    EXPECT_EQ(set_int(fd, SOL_SOCKET, SO_SNDBUF, 0), 0);
    EXPECT(get_int(fd, SOL_SOCKET, SO_SNDBUF) > 1000);
    EXPECT_EQ(set_int(fd, SOL_SOCKET, SO_RCVBUF, 0), 0);
    EXPECT(get_int(fd, SOL_SOCKET, SO_RCVBUF) > 1000);
    EXPECT_EQ(weft__sys_close(fd), 0);
}

/* ---- threads ---- */

static void *end_at_once(void *arg)
{
    *(int *)arg += 1;
    return NULL;
}

static void start_and_join(void)
{
    struct weft__thread t;
    int ran = 0;
    EXPECT_EQ(weft__sys_thread_start(&t, "joined", end_at_once, &ran), 0);
    weft__sys_thread_join(&t);
    EXPECT_EQ(ran, 1);
}

static void draw(void)
{
    char bytes[12] = "";
    uint64_t slack_ns;
    EXPECT(weft__sys_random() != weft__sys_random());
    EXPECT_EQ(weft__sys_table.getrandom(bytes, 11, 0), 11); /* no multiple of anything */
    EXPECT_EQ(bytes[11], 0);
    EXPECT_EQ(weft__sys_timer_slack_get(&slack_ns), 0);
    weft__a32 word = {0};
    EXPECT_EQ(weft__sys_futex_wait(&word, 1, WEFT_NEVER), -EAGAIN);
    EXPECT_EQ(weft__sys_futex_wait(&word, 0, weft__sys_now_ns()), -ETIMEDOUT);
    uint64_t until_ns = weft__sys_now_ns() + WEFT_MS;
    while (weft__sys_futex_wait(&word, 0, until_ns) == 0)
        continue;
    EXPECT(weft__sys_now_ns() >= until_ns);
    weft__sys_futex_wake(&word, 1); /* nobody */
}

#define BOTH(name, calls)                                                                          \
    static void name(struct test_env *env)                                                         \
    {                                                                                              \
        (void)env;                                                                                 \
        in_both_worlds(calls);                                                                     \
    }

BOTH(closed_descriptors_are_refused, use_closed_ones)
BOTH(what_is_no_socket_is_told_from_one, use_what_is_no_socket)
BOTH(an_edge_is_reported_once, watch)
BOTH(a_wait_without_events_takes_its_time, wait_in_vain)
BOTH(sockets_bind_and_listen, bind_and_listen)
BOTH(addresses_are_shared_by_those_who_say_so, share_addresses)
BOTH(each_connection_is_made_once, connect_from_one_address)
BOTH(options_are_kept, keep_options)
BOTH(both_ends_know_both_addresses, tell_addresses)
BOTH(a_client_and_a_connection_have_what_they_were_not_given, speak_and_inherit)
BOTH(any_ipv6_address_is_any_ipv4_one_too, listen_for_both)
BOTH(bytes_pass_until_a_side_is_shut, send_and_shut)
BOTH(epoll_reports_what_a_socket_is, report_states)
BOTH(lost_connections_say_so, lose_connections)
BOTH(what_shutdown_does_not_know_it_refuses, shut_in_odd_ways)
BOTH(any_address_is_the_own_one, connect_to_any)
BOTH(connections_keep_the_port_of_their_listener, bind_beside_connections)
BOTH(a_full_queue_keeps_clients_waiting, fill_the_backlog)
BOTH(options_are_refused_as_on_linux, refuse_options)
BOTH(threads_are_joined, start_and_join)
BOTH(futexes_and_random_numbers, draw)

/* ---- what only a simulation refuses ---- */

static void ask_too_much(void)
{
    int real = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), ep = weft__sys_epoll_create(),
        other = weft__sys_epoll_create(), fd = weft__sys_eventfd_create();
    EXPECT_EQ(weft__sys_socket(AF_UNIX, SOCK_STREAM, 0), -EAFNOSUPPORT);
    EXPECT_EQ(weft__sys_socket(AF_INET, SOCK_DGRAM, 0), -EPROTONOSUPPORT);
    /* What a real one reports would come from outside. */
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, real, EPOLLIN, 0), -EPERM);
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 0), 0);
    EXPECT_EQ(weft__sys_epoll_ctl(other, EPOLL_CTL_ADD, fd, EPOLLIN, 0), -EPERM); /* one at most */
    EXPECT_EQ(weft__sys_epoll_ctl(other, EPOLL_CTL_DEL, fd, 0, 0), -ENOENT);
    int s = weft__sys_socket(AF_INET6, SOCK_STREAM, 0);
    EXPECT_EQ(weft__sys_listen(s, 1), -EINVAL); /* not bound */
    int value[64] = {0};
    EXPECT_EQ(weft__sys_setsockopt(s, SOL_SOCKET, SO_RCVBUF, value, sizeof(value)), -EINVAL);
    EXPECT_EQ(weft__sys_close(s), 0);
    EXPECT_EQ(weft__sys_close(fd), 0);
    EXPECT_EQ(weft__sys_close(ep), 0);
    EXPECT_EQ(weft__sys_close(other), 0);
    EXPECT_EQ(weft__sys_close(real), 0);
}

static void limits_are_told(struct test_env *env)
{
    (void)env;
    in_a_simulation(ask_too_much);
}

/* Real descriptors are the kernel's, in a simulation as well. */
static void use_real_ones(void)
{
    struct epoll_event e;
    struct sockaddr_in in = loopback(0);
    socklen_t len = sizeof(in);
    int value = 1;
    char c = 'x', got = 0;
    struct iovec out = {&c, 1}, to = {&got, 1};
    struct msghdr msg = {.msg_iov = &out, .msg_iovlen = 1};
    int fd[2], ep = epoll_create1(EPOLL_CLOEXEC),
               s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    EXPECT_EQ(weft__sys_set_nonblocking(fd[0]), 0);
    EXPECT_EQ(weft__sys_is_nonblocking(fd[0]), 1);
    EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], EPOLLIN, 7), 0);
    EXPECT_EQ(weft__sys_epoll_wait(ep, &e, 1, 0), 0);
    EXPECT_EQ(weft__sys_epoll_wait(ep, &e, 1, WEFT_US), 0);
    EXPECT_EQ(weft__sys_write(fd[1], &c, 1), 1);
    EXPECT_EQ(weft__sys_writev(fd[1], &out, 1), 1);
    EXPECT_EQ(weft__sys_send(fd[1], &c, 1, 0), 1);
    EXPECT_EQ(weft__sys_sendmsg(fd[1], &msg, 0), 1);
    EXPECT_EQ(weft__sys_epoll_wait(ep, &e, 1, 0), 1);
    EXPECT_EQ(weft__sys_read(fd[0], &got, 1), 1);
    EXPECT_EQ(weft__sys_readv(fd[0], &to, 1), 1);
    EXPECT_EQ(weft__sys_recv(fd[0], &got, 1, 0), 1);
    msg.msg_iov = &to;
    EXPECT_EQ(weft__sys_recvmsg(fd[0], &msg, 0), 1);
    EXPECT_EQ(got, 'x');
    EXPECT_EQ(weft__sys_bind(s, (struct sockaddr *)&in, len), 0);
    EXPECT_EQ(weft__sys_listen(s, 1), 0);
    EXPECT_EQ(weft__sys_accept(s, NULL, NULL), -EAGAIN);
    EXPECT_EQ(weft__sys_connect(s, (struct sockaddr *)&in, len), -EISCONN);
    EXPECT_EQ(weft__sys_getsockname(s, (struct sockaddr *)&in, &len), 0);
    EXPECT_EQ(weft__sys_getpeername(s, (struct sockaddr *)&in, &len), -ENOTCONN);
    EXPECT_EQ(weft__sys_setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof(value)), 0);
    len = sizeof(value);
    EXPECT_EQ(weft__sys_getsockopt(s, SOL_SOCKET, SO_ACCEPTCONN, &value, &len), 0);
    EXPECT_EQ(value, 1);
    EXPECT_EQ(weft__sys_shutdown(fd[0], SHUT_WR), 0);
    EXPECT_EQ(weft__sys_close(s), 0);
    EXPECT_EQ(weft__sys_close(ep), 0);
    close_both(fd);
}

static void real_descriptors_stay_real(struct test_env *env)
{
    (void)env;
    in_both_worlds(use_real_ones);
}

/* By the handles of the kernel: weft joins each thread once. */
static void misuse_threads(void)
{
    unsigned long handle, ended;
    int ran = 0;
    EXPECT_EQ(weft__sim_thread_create(end_at_once, &ran, &ended), 0);
    EXPECT_EQ(weft__sim_thread_create(end_at_once, &ran, &handle), 0);
    EXPECT_EQ(weft__sim_thread_detach(handle), 0);
    EXPECT_EQ(weft__sim_thread_detach(handle), -EINVAL);
    EXPECT_EQ(weft__sim_thread_join(handle), -EINVAL);
    EXPECT_EQ(weft__sim_thread_join(1000), -EINVAL);
    EXPECT_EQ(weft__sim_thread_detach(1000), -EINVAL);
    let_pass(WEFT_MS);
    EXPECT_EQ(ran, 2);
    EXPECT_EQ(weft__sim_thread_join(handle), -EINVAL); /* it has ended, and left nothing */
    EXPECT_EQ(weft__sim_thread_detach(ended), 0);
    EXPECT_EQ(weft__sim_thread_join(ended), -EINVAL);
}

static void a_thread_is_joined_or_detached_once(struct test_env *env)
{
    (void)env;
    in_a_simulation(misuse_threads);
}

static void start_many(void)
{
    static struct weft__thread threads[5000];
    int ran = 0, count = 0, rc = 0;
    while (count < 5000 &&
           (rc = weft__sys_thread_start(&threads[count], "one of many", end_at_once, &ran)) == 0)
        count++;
    EXPECT_EQ(rc, -EAGAIN);
    EXPECT(count > 1000);
    for (int i = 0; i < count; i++)
        weft__sys_thread_join(&threads[i]);
    EXPECT_EQ(ran, count);
}

static void there_is_a_limit_of_threads(struct test_env *env)
{
    (void)env;
    in_a_simulation(start_many);
}

TEST_MAIN(PLAIN(closed_descriptors_are_refused), PLAIN(what_is_no_socket_is_told_from_one),
          PLAIN(an_edge_is_reported_once), PLAIN(a_wait_without_events_takes_its_time),
          PLAIN(sockets_bind_and_listen), PLAIN(addresses_are_shared_by_those_who_say_so),
          PLAIN(each_connection_is_made_once), PLAIN(options_are_kept),
          PLAIN(both_ends_know_both_addresses),
          PLAIN(a_client_and_a_connection_have_what_they_were_not_given),
          PLAIN(any_ipv6_address_is_any_ipv4_one_too), PLAIN(bytes_pass_until_a_side_is_shut),
          PLAIN(epoll_reports_what_a_socket_is), PLAIN(lost_connections_say_so),
          PLAIN(what_shutdown_does_not_know_it_refuses), PLAIN(any_address_is_the_own_one),
          PLAIN(connections_keep_the_port_of_their_listener),
          PLAIN(a_full_queue_keeps_clients_waiting), PLAIN(options_are_refused_as_on_linux),
          PLAIN(threads_are_joined), PLAIN(futexes_and_random_numbers), PLAIN(limits_are_told),
          PLAIN(real_descriptors_stay_real), PLAIN(a_thread_is_joined_or_detached_once),
          PLAIN(there_is_a_limit_of_threads))
