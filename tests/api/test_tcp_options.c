/* Socket options: SK-01 of BEHAVIOURS. */
#include "harness.h"
#include "socks.h"

#include <weft/net.h>

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* By its own name: a getter and a setter that agree may be another option's. */
static int option(weft_tcp *conn, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    CHECK_EQ(weft_tcp_getsockopt(conn, level, name, &value, &len), 0);
    return value;
}

static void sk_01_options_round_trip(struct test_env *env)
{
    (void)env;
    weft_tcp *a, *b;
    bool on;
    int value, twice;
    uint64_t linger;
    socks_pair(&a, &b);

    for (int want = 1; want >= 0; want--) {
        CHECK_EQ(weft_tcp_set_nodelay(a, want), 0);
        CHECK_EQ(weft_tcp_nodelay(a, &on), 0);
        CHECK_EQ(on, want);
        CHECK_EQ(option(a, IPPROTO_TCP, TCP_NODELAY), want);
        CHECK_EQ(weft_tcp_set_quickack(a, want), 0);
        CHECK_EQ(weft_tcp_quickack(a, &on), 0);
        CHECK_EQ(on, want);
        CHECK_EQ(option(a, IPPROTO_TCP, TCP_QUICKACK), want);
        CHECK_EQ(weft_tcp_set_keepalive(a, want, 0, 0, 0), 0);
        CHECK_EQ(weft_tcp_keepalive(a, &on), 0);
        CHECK_EQ(on, want);
        CHECK_EQ(option(a, SOL_SOCKET, SO_KEEPALIVE), want);
    }

    CHECK_EQ(weft_tcp_set_keepalive(a, true, 1500 * WEFT_MS, 7 * WEFT_SEC, 3), 0);
    CHECK_EQ(option(a, IPPROTO_TCP, TCP_KEEPIDLE), 2); /* rounded up */
    CHECK_EQ(option(a, IPPROTO_TCP, TCP_KEEPINTVL), 7);
    CHECK_EQ(option(a, IPPROTO_TCP, TCP_KEEPCNT), 3);

    value = 9;
    CHECK_EQ(weft_tcp_setsockopt(a, IPPROTO_TCP, TCP_KEEPCNT, &value, sizeof(value)), 0);
    CHECK_EQ(option(a, IPPROTO_TCP, TCP_KEEPCNT), 9);

    CHECK_EQ(weft_tcp_set_send_buffer(a, 20000), 0); /* the kernel doubles */
    CHECK_EQ(weft_tcp_send_buffer(a, &twice), 0);
    CHECK_EQ(twice, 40000);
    CHECK_EQ(option(a, SOL_SOCKET, SO_SNDBUF), 40000);
    CHECK_EQ(weft_tcp_set_recv_buffer(a, 30000), 0);
    CHECK_EQ(weft_tcp_recv_buffer(a, &twice), 0);
    CHECK_EQ(twice, 60000);
    CHECK_EQ(option(a, SOL_SOCKET, SO_RCVBUF), 60000);

    CHECK_EQ(weft_tcp_linger(a, &linger), 0);
    CHECK(linger == WEFT_NEVER);
    CHECK_EQ(weft_tcp_set_linger(a, 5 * WEFT_SEC), 0);
    CHECK_EQ(weft_tcp_linger(a, &linger), 0);
    CHECK_EQ(linger, 5 * WEFT_SEC);
    CHECK_EQ(weft_tcp_set_linger(a, 1), 0);
    CHECK_EQ(weft_tcp_linger(a, &linger), 0);
    CHECK_EQ(linger, WEFT_SEC); /* rounded up: 0 would reset the connection */
    CHECK_EQ(weft_tcp_set_linger(a, WEFT_NEVER), 0);
    CHECK_EQ(weft_tcp_linger(a, &linger), 0);
    CHECK(linger == WEFT_NEVER);

    CHECK_EQ(weft_tcp_set_tos(a, 0x10), 0);
    CHECK_EQ(weft_tcp_tos(a, &value), 0);
    CHECK_EQ(value, 0x10);
    CHECK_EQ(option(a, IPPROTO_IP, IP_TOS), 0x10);

    weft_tcp_close(a);
    weft_tcp_close(b);
}

static void sk_01_zero_linger_resets(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd;
    char c;
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_tcp_set_linger(conn, 0), 0);
    CHECK_EQ(weft_tcp_close(conn), 0);
    CHECK_EQ(recv(fd, &c, 1, 0), -1); /* ECONNRESET, and not an end */
    close(fd);
}

static void sk_01_tclass(struct test_env *env)
{
    (void)env;
    weft_tcp_listener *l;
    weft_addr addr;
    weft_tcp *conn;
    int value;
    int rc = weft_tcp_listen("[::1]:0", &l);
    if (rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT) {
        printf("there is no IPv6 here\n");
        return;
    }
    CHECK_EQ(rc, 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &conn), 0);
    CHECK_EQ(weft_tcp_set_tclass(conn, 0x20), 0);
    CHECK_EQ(weft_tcp_tclass(conn, &value), 0);
    CHECK_EQ(value, 0x20);
    CHECK_EQ(option(conn, IPPROTO_IPV6, IPV6_TCLASS), 0x20);
    weft_tcp_close(conn);
    weft_tcp_listener_close(l);
}

/* qemu-user sets SO_BINDTODEVICE but cannot read it back; kernels can. */
static bool device_can_be_read_back(void)
{
    char name[16];
    socklen_t len = sizeof(name);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0 &&
              getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len) == 0;
    close(fd);
    if (!ok)
        printf("the name of a device is not read back here\n");
    return ok;
}

static void sk_01_bind_device(struct test_env *env)
{
    (void)env;
    weft_tcp *a, *b;
    char name[16];
    socks_pair(&a, &b);
    CHECK_EQ(weft_tcp_bind_device(a, name, sizeof(name)), 0);
    CHECK(name[0] == '\0');
    int rc = weft_tcp_set_bind_device(a, "lo");
    if (rc != -EPERM) { /* without CAP_NET_RAW on old kernels */
        CHECK_EQ(rc, 0);
        if (device_can_be_read_back()) {
            CHECK_EQ(weft_tcp_bind_device(a, name, sizeof(name)), 0);
            CHECK(strcmp(name, "lo") == 0);
        }
        CHECK_EQ(weft_tcp_bind_device(a, name, 2), -EINVAL);
    }
    CHECK_EQ(weft_tcp_set_bind_device(a, "a-name-that-is-too-long"), -EINVAL);
    CHECK_EQ(weft_tcp_set_bind_device(a, NULL), -EINVAL);
    weft_tcp_close(a);
    weft_tcp_close(b);
}

static int listener_option(weft_tcp_listener *l, int name)
{
    int value;
    socklen_t len = sizeof(value);
    CHECK_EQ(weft_tcp_listener_getsockopt(l, SOL_SOCKET, name, &value, &len), 0);
    return value;
}

static void sk_01_reuse(struct test_env *env)
{
    (void)env;
    weft_tcp_listener *a, *b;
    weft_addr addr;
    char text[WEFT_ADDR_TEXT_MAX];
    const weft_tcp_listen_options reuse = {.reuseport = true, .backlog = 7};
    CHECK_EQ(weft_tcp_listen_with(&reuse, "127.0.0.1:0", &a), 0);
    CHECK_EQ(listener_option(a, SO_REUSEADDR), 1);
    CHECK_EQ(listener_option(a, SO_REUSEPORT), 1);
    CHECK_EQ(weft_tcp_listener_local_addr(a, &addr), 0);
    weft_addr_format(&addr, text, sizeof(text));
    CHECK_EQ(weft_tcp_listen_with(&reuse, text, &b), 0); /* two on one port */
    weft_tcp_listener_close(b);
    weft_tcp_listener_close(a);

    const weft_tcp_listen_options none = {.no_reuseaddr = true};
    CHECK_EQ(weft_tcp_listen_with(&none, "127.0.0.1:0", &a), 0);
    CHECK_EQ(listener_option(a, SO_REUSEADDR), 0);
    CHECK_EQ(listener_option(a, SO_REUSEPORT), 0);
    int one = 1;
    CHECK_EQ(weft_tcp_listener_setsockopt(a, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)), 0);
    CHECK_EQ(listener_option(a, SO_KEEPALIVE), 1);
    weft_tcp_listener_close(a);
}

static void sk_01_bind_before_connect(struct test_env *env)
{
    (void)env;
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    weft_tcp_listener *probe;
    weft_addr local, seen;
    weft_tcp *client, *server;
    int value;
    /* A port that was free a moment ago. */
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &probe), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(probe, &local), 0);
    weft_tcp_listener_close(probe);

    const weft_tcp_connect_options o = {
        .local = &local,
        .reuseaddr = true,
        .reuseport = true,
        .send_buffer_bytes = 30000,
        .recv_buffer_bytes = 40000,
    };
    char text[32];
    snprintf(text, sizeof(text), "127.0.0.1:%u", port);
    CHECK_EQ(weft_tcp_connect_with(&o, text, &client), 0);
    CHECK_EQ(weft_tcp_accept_from(l, &server, &seen), 0);
    CHECK(weft_addr_is_equal(&seen, &local));
    CHECK_EQ(option(client, SOL_SOCKET, SO_REUSEADDR), 1);
    CHECK_EQ(option(client, SOL_SOCKET, SO_REUSEPORT), 1);
    CHECK_EQ(weft_tcp_send_buffer(client, &value), 0);
    CHECK_EQ(value, 60000);
    CHECK_EQ(weft_tcp_recv_buffer(client, &value), 0);
    CHECK_EQ(value, 80000);
    /* An address that is not ours. */
    CHECK_EQ(weft_addr_parse("192.0.2.1:0", &local), 0);
    weft_tcp *none;
    CHECK_EQ(weft_tcp_connect_with(&o, text, &none), -EADDRNOTAVAIL);
    weft_tcp_close(client);
    weft_tcp_close(server);
    weft_tcp_listener_close(l);
}

static void sk_01_errors(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd, error = 1;
    char c;
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_tcp_take_error(conn, &error), 0);
    CHECK_EQ(error, 0);
    socks_raw_reset(fd);
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_READ, NULL), 0);
    CHECK_EQ(weft_tcp_take_error(conn, &error), 0);
    CHECK_EQ(error, -ECONNRESET);
    CHECK_EQ(weft_tcp_read(conn, &c, 1), 0); /* taken */

    int value;
    socklen_t len = sizeof(value);
    CHECK_EQ(weft_tcp_getsockopt(conn, SOL_SOCKET, 9999, &value, &len), -ENOPROTOOPT);
    CHECK_EQ(weft_tcp_getsockopt(conn, SOL_SOCKET, SO_TYPE, NULL, &len), -EINVAL);
    CHECK_EQ(weft_tcp_nodelay(conn, NULL), -EINVAL);
    CHECK_EQ(weft_tcp_linger(conn, NULL), -EINVAL);
    CHECK_EQ(weft_tcp_local_addr(conn, NULL), -EINVAL);
    CHECK_EQ(weft_tcp_nodelay(NULL, &(bool){false}), -EINVAL);
    weft_tcp_close(conn);
    CHECK_EQ(weft_tcp_set_nodelay(conn, true), -EBADF);
}

TEST_MAIN(IN_TASK(sk_01_options_round_trip), IN_TASK(sk_01_zero_linger_resets),
          IN_TASK(sk_01_tclass), IN_TASK(sk_01_bind_device), IN_TASK(sk_01_reuse),
          IN_TASK(sk_01_bind_before_connect), IN_TASK(sk_01_errors))
