/* ctest: parallel */
/* Sockets from outside as weft_tcp and weft_tcp_listener: what is no TCP works as well, or is
 * refused. */
#include "harness.h"
#include "socks.h"

#include <weft/net.h>

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- unix sockets ---- */

/* Sends a byte, and a descriptor with it. */
static void send_descriptor(int to, char byte)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = ""};
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &to, sizeof(to)); /* any will do */
    CHECK_EQ(sendmsg(to, &msg, 0), 1);
}

/* A read ends at a message that brought a descriptor, with more behind it: the next one must not
 * wait for an edge. */
static void read_past_a_descriptor(weft_tcp *conn, int peer)
{
    char buf[16];
    ssize_t n = 0;
    send_descriptor(peer, 'a');
    socks_raw_write(peer, "b", 1);
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_READ, NULL), 0); /* the edges have come */
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
    CHECK_EQ(weft_tcp_read(conn, buf, sizeof(buf)), 1);
    WEFT_TIMEOUT(10 * WEFT_SEC)
        n = weft_tcp_read(conn, buf, sizeof(buf));
    CHECK_EQ(n, 1);
    CHECK_EQ(buf[0], 'b');
    send_descriptor(peer, 'c');
    socks_raw_write(peer, "d", 1);
    CHECK_SOON(weft_tcp_try_read(conn, buf, sizeof(buf)) == 1);
    CHECK_EQ(weft_tcp_try_read(conn, buf, sizeof(buf)), 1);
    CHECK_EQ(buf[0], 'd');
}

static void descriptors_that_come_along_hold_up_no_bytes(struct test_env *env)
{
    (void)env;
    int fd[2];
    weft_tcp *conn;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    CHECK_EQ(weft_tcp_from_fd(fd[0], &conn), 0);
    read_past_a_descriptor(conn, fd[1]);
    weft_tcp_close(conn);
    close(fd[1]);
}

/* A listening unix socket with a name that the system chooses. */
static int unix_listener(int type, struct sockaddr_un *ret_addr, socklen_t *ret_len)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    *ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    CHECK_EQ(bind(fd, (struct sockaddr *)ret_addr, sizeof(ret_addr->sun_family)), 0);
    CHECK_EQ(listen(fd, 8), 0);
    *ret_len = sizeof(*ret_addr);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)ret_addr, ret_len), 0);
    return fd;
}

static void nor_on_connections_that_were_accepted(struct test_env *env)
{
    (void)env;
    struct sockaddr_un addr;
    socklen_t len;
    weft_tcp_listener *l;
    weft_tcp *conn;
    CHECK_EQ(weft_tcp_listener_from_fd(unix_listener(SOCK_STREAM, &addr, &len), &l), 0);
    int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(connect(peer, (struct sockaddr *)&addr, len), 0);
    CHECK_EQ(weft_tcp_accept(l, &conn), 0);
    read_past_a_descriptor(conn, peer);
    weft_tcp_close(conn);
    close(peer);
    weft_tcp_listener_close(l);
}

/* Their peers have addresses that no weft_addr holds: with a name as long as it may be, or none. */
static void peers_of_other_families_have_no_address(struct test_env *env)
{
    (void)env;
    struct sockaddr_un addr, name = {.sun_family = AF_UNIX};
    socklen_t len;
    weft_tcp_listener *l;
    CHECK_EQ(weft_tcp_listener_from_fd(unix_listener(SOCK_STREAM, &addr, &len), &l), 0);
    /* In no directory, and longer than an address of IP. */
    (void)snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "weft-%d", (int)getpid());
    for (int named = 0; named < 2; named++) {
        weft_tcp *conn, *other;
        weft_addr peer;
        char text[WEFT_ADDR_TEXT_MAX];
        memset(&peer, 0xff, sizeof(peer));
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (named)
            CHECK_EQ(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
        CHECK_EQ(connect(fd, (struct sockaddr *)&addr, len), 0);
        CHECK_EQ(weft_tcp_accept_from(l, &conn, &peer), 0);
        CHECK_EQ(peer.len, 0);
        CHECK_EQ(peer.sa.any.sa_family, 0);
        (void)weft_addr_format(&peer, text, sizeof(text));
        CHECK_EQ(strcmp(text, "(no address)"), 0);
        CHECK_EQ(weft_tcp_connect_addr(NULL, &peer, &other), -EAFNOSUPPORT);
        weft_tcp_close(conn);
        close(fd);
    }
    weft_tcp_listener_close(l);
}

static void what_is_no_stream_is_refused(struct test_env *env)
{
    (void)env;
    struct sockaddr_un addr;
    socklen_t len;
    weft_tcp_listener *l;
    weft_tcp *conn;
    int pair[2];
    int fd = unix_listener(SOCK_SEQPACKET, &addr, &len);
    CHECK_EQ(weft_tcp_listener_from_fd(fd, &l), -EPROTOTYPE);
    CHECK_EQ(close(fd), 0); /* ours still */
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(weft_tcp_listener_from_fd(fd, &l), -EPROTOTYPE); /* it does not listen */
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_EQ(weft_tcp_from_fd(pair[0], &conn), -EPROTOTYPE);
    CHECK_EQ(close(pair[0]), 0);
    close(pair[1]);
}

/* ---- TCP ---- */

/* What the call after a short read finds, before the driver has been asked for events. A peer's
 * byte lies there, but of bare TCP the short read was believed, and its edge is still to come. */
static ssize_t try_after_short(weft_tcp *conn, int peer)
{
    char buf[16];
    socks_raw_write(peer, "a", 1);
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_READ, NULL), 0);
    CHECK_EQ(weft_tcp_read(conn, buf, sizeof(buf)), 1);
    socks_raw_write(peer, "b", 1);
    ssize_t n = weft_tcp_try_read(conn, buf, sizeof(buf));
    if (n == -EAGAIN)
        CHECK_EQ(weft_tcp_read(conn, buf, sizeof(buf)), 1);
    return n;
}

/* On the one thread, so that nobody polls between two calls. */
static void a_short_read_of_tcp_saves_the_call_that_would_block(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int peer, fd;
    socks_raw_pair(&conn, &peer);
    CHECK_EQ(try_after_short(conn, peer), -EAGAIN); /* accepted, or connected */
    CHECK_EQ(weft_tcp_into_fd(conn, &fd), 0);
    CHECK_EQ(weft_tcp_from_fd(fd, &conn), 0);
    CHECK_EQ(try_after_short(conn, peer), -EAGAIN);
    /* From here on what reads it may not be TCP any more, whether the kernel has such a thing or
     * not. */
    CHECK(weft_tcp_setsockopt(conn, IPPROTO_TCP, TCP_ULP, "no such ulp", 11) < 0);
    CHECK_EQ(try_after_short(conn, peer), 1);
    weft_tcp_close(conn);
    close(peer);
}

TEST_MAIN(IN_TASK(descriptors_that_come_along_hold_up_no_bytes),
          IN_TASK(nor_on_connections_that_were_accepted),
          IN_TASK(peers_of_other_families_have_no_address), IN_TASK(what_is_no_stream_is_refused),
          IN_TASK_ON(a_short_read_of_tcp_saves_the_call_that_would_block, TEST_CT))
