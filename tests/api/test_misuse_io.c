/* ctest: parallel */
/* Bad input to descriptors, connections, listeners and addresses: each misuse returns its
 * documented error and logs one line that names the call, and the handles stay good. */
#include "harness.h"
#include "socks.h"

#include <weft/io.h>
#include <weft/net.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAILS(name, rc, call)                                                                      \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT_EQ(call, rc);                                                                       \
        EXPECT_LOGGED(name ": ");                                                                  \
    } while (0)
#define REFUSED(name, call) FAILS(name, -EINVAL, call)

static ssize_t call_nothing(int fd, void *arg)
{
    (void)fd;
    return *(ssize_t *)arg;
}

static void descriptors(struct test_env *env)
{
    (void)env;
    int fd[2], number = -7;
    char c;
    weft_fd *w = NULL;
    weft_fd_ready ready;
    ssize_t result = 5;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
    REFUSED("weft_fd_open", weft_fd_open(fd[0], WEFT_FD_OWNED, NULL));
    REFUSED("weft_fd_open", weft_fd_open(fd[0], 0x100, &w));
    EXPECT(w == NULL);
    CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_OWNED, &w), 0);
    REFUSED("weft_fd_release", weft_fd_release(NULL, &number));
    REFUSED("weft_fd_release", weft_fd_release(w, NULL));
    REFUSED("weft_fd_try_wait", weft_fd_try_wait(w, 0, NULL));
    REFUSED("weft_fd_try_wait", weft_fd_try_wait(w, WEFT_READY_READ_CLOSED, NULL));
    REFUSED("weft_fd_try_wait", weft_fd_try_wait(NULL, WEFT_READY_READ, NULL));
    REFUSED("weft_fd_try_io", weft_fd_try_io(w, WEFT_READY_READ, NULL, NULL));
    REFUSED("weft_fd_try_io", weft_fd_try_io(w, 0, call_nothing, &result));
    REFUSED("weft_fd_try_io", weft_fd_try_io(NULL, WEFT_READY_READ, call_nothing, &result));
    REFUSED("weft_fd_io", weft_fd_io(w, 0, call_nothing, &result));
    REFUSED("weft_fd_io", weft_fd_io(NULL, WEFT_READY_READ, call_nothing, &result));
    REFUSED("weft_fd_write", weft_fd_write(w, NULL, 3));
    REFUSED("weft_fd_clear", weft_fd_clear(NULL, &ready, WEFT_READY_READ));

    /* It is still good. */
    EXPECT_EQ(weft_fd_read(w, NULL, 0), 0);
    EXPECT_EQ(weft_fd_write(w, NULL, 0), 0);
    EXPECT_EQ(weft_fd_io(w, WEFT_READY_WRITE, call_nothing, &result), 5);
    EXPECT_EQ(weft_fd_try_io(w, WEFT_READY_WRITE, call_nothing, &result), 5);
    EXPECT_EQ(weft_fd_number(w), fd[0]);

    CHECK_EQ(weft_fd_close(w), 0);
    EXPECT_EQ(weft_fd_close(NULL), 0);
    FAILS("weft_fd_close", -EBADF, weft_fd_close(w));
    FAILS("weft_fd_release", -EBADF, weft_fd_release(w, &number));
    FAILS("weft_fd_wait", -EBADF, weft_fd_wait(w, WEFT_READY_READ, NULL));
    FAILS("weft_fd_try_wait", -EBADF, weft_fd_try_wait(w, WEFT_READY_READ, NULL));
    FAILS("weft_fd_clear", -EBADF, weft_fd_clear(w, &ready, WEFT_READY_READ));
    FAILS("weft_fd_try_io", -EBADF, weft_fd_try_io(w, WEFT_READY_READ, call_nothing, &result));
    FAILS("weft_fd_io", -EBADF, weft_fd_io(w, WEFT_READY_READ, call_nothing, &result));
    FAILS("weft_fd_read", -EBADF, weft_fd_read(w, &c, 1));
    test_log_clear();
    weft_stream *stream = weft_fd_stream(w); /* one that says so at each call */
    EXPECT_LOGGED("weft_fd_stream");
    EXPECT_EQ(weft_stream_read(stream, &c, 1), -EBADF);
    EXPECT_EQ(weft_stream_write(stream, &c, 1), -EBADF);
    EXPECT_EQ(weft_stream_shutdown(stream), -EBADF);
    EXPECT_EQ(number, -7);
    close(fd[1]);
}

/* Each interest is cleared by itself; a call that would block clears the one it is for. */
static void readiness_is_cleared_by_interest(struct test_env *env)
{
    (void)env;
    int fd[2];
    weft_fd *w;
    weft_fd_ready ready;
    ssize_t blocks = -EAGAIN;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
    CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_OWNED, &w), 0);
    socks_raw_write(fd[1], "x", 1);
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_READ, NULL), 0);
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_WRITE, &ready), 0);
    CHECK_EQ(weft_fd_clear(w, &ready, 0), 0); /* nothing */
    CHECK_EQ(weft_fd_try_wait(w, WEFT_READY_READ | WEFT_READY_WRITE, &ready), 0);
    CHECK_EQ(ready.bits, WEFT_READY_READ | WEFT_READY_WRITE);
    CHECK_EQ(weft_fd_clear(w, &ready, WEFT_READY_WRITE), 0);
    CHECK_EQ(weft_fd_try_wait(w, WEFT_READY_WRITE, NULL), -EAGAIN);
    CHECK_EQ(weft_fd_try_wait(w, WEFT_READY_READ, &ready), 0);
    CHECK_EQ(weft_fd_clear(w, &ready, WEFT_READY_READ), 0);
    CHECK_EQ(weft_fd_try_wait(w, WEFT_READY_READ, NULL), -EAGAIN);
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_READ, call_nothing, &blocks), -EAGAIN);

    socks_raw_write(fd[1], "y", 1); /* an edge */
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_READ, NULL), 0);
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_READ, call_nothing, &blocks), -EAGAIN);
    CHECK_EQ(weft_fd_try_wait(w, WEFT_READY_READ, NULL), -EAGAIN);

    close(fd[1]); /* also the end of what could be urgent */
    CHECK_EQ(weft_fd_wait(w, WEFT_READY_PRIORITY, &ready), 0);
    CHECK_EQ(weft_fd_try_io(w, WEFT_READY_PRIORITY, call_nothing, &blocks), -EAGAIN);
    CHECK_EQ(weft_fd_close(w), 0);
}

static void connections(struct test_env *env)
{
    (void)env;
    weft_tcp *a, *b, *other = NULL;
    weft_tcp_reader *r;
    weft_tcp_writer *w;
    int fd = -7, error;
    char c, name[IFNAMSIZ];
    socklen_t len = sizeof(error);
    socks_pair(&a, &b);
    REFUSED("weft_tcp_connect", weft_tcp_connect("127.0.0.1:1", NULL));
    REFUSED("weft_tcp_connect_with", weft_tcp_connect_with(NULL, "127.0.0.1:1", NULL));
    REFUSED("weft_tcp_connect_addr", weft_tcp_connect_addr(NULL, NULL, &other));
    weft_addr addr;
    CHECK_EQ(weft_tcp_peer_addr(a, &addr), 0);
    REFUSED("weft_tcp_connect_addr", weft_tcp_connect_addr(NULL, &addr, NULL));
    REFUSED("weft_tcp_connect", weft_tcp_connect("no colon", &other));
    REFUSED("weft_tcp_from_fd", weft_tcp_from_fd(0, NULL));
    EXPECT_EQ(weft_tcp_from_fd(-1, &other), -EBADF);
    REFUSED("weft_tcp_into_fd", weft_tcp_into_fd(a, NULL));
    REFUSED("weft_tcp_into_fd", weft_tcp_into_fd(NULL, &fd));
    REFUSED("weft_tcp_split", weft_tcp_split(a, NULL, &w));
    REFUSED("weft_tcp_split", weft_tcp_split(a, &r, NULL));
    REFUSED("weft_tcp_split", weft_tcp_split(NULL, &r, &w));
    REFUSED("weft_tcp_reunite", weft_tcp_reunite(NULL, NULL, &other));
    REFUSED("weft_tcp_getsockopt", weft_tcp_getsockopt(a, SOL_SOCKET, SO_ERROR, &error, NULL));
    REFUSED("weft_tcp_getsockopt", weft_tcp_getsockopt(NULL, SOL_SOCKET, SO_ERROR, &error, &len));
    REFUSED("weft_tcp_peer_addr", weft_tcp_peer_addr(NULL, &addr));
    REFUSED("weft_tcp_take_error", weft_tcp_take_error(a, NULL));
    REFUSED("weft_tcp_tos", weft_tcp_tos(a, NULL));
    REFUSED("weft_tcp_bind_device", weft_tcp_bind_device(a, NULL, 16));
    REFUSED("weft_tcp_bind_device", weft_tcp_bind_device(a, name, 0));
    REFUSED("weft_tcp_bind_device", weft_tcp_bind_device(NULL, name, sizeof(name)));
    REFUSED("weft_tcp_set_bind_device", weft_tcp_set_bind_device(a, NULL));
    REFUSED("weft_tcp_read", weft_tcp_read(a, NULL, 1));
    struct iovec iov[2] = {{&c, SSIZE_MAX}, {&c, 1}};
    REFUSED("weft_tcp_readv", weft_tcp_readv(a, iov, 2)); /* more than a result can say */
    iov[0].iov_len = SIZE_MAX;
    REFUSED("weft_tcp_writev", weft_tcp_writev(a, iov, 1));
    REFUSED("weft_tcp_writev", weft_tcp_writev(a, iov, -1));
    REFUSED("weft_tcp_writev", weft_tcp_writev(a, iov, IOV_MAX + 1));
    REFUSED("weft_tcp_writev", weft_tcp_writev(a, NULL, 1));
    EXPECT(other == NULL && fd == -7);

    CHECK_EQ(weft_tcp_split(a, &r, &w), 0);
    FAILS("weft_tcp_split", -EBUSY, weft_tcp_split(a, &r, &w));
    FAILS("weft_tcp_close", -EBUSY, weft_tcp_close(a));
    EXPECT_EQ(weft_tcp_into_fd(a, &fd), -EBUSY);
    REFUSED("weft_tcp_reader_read", weft_tcp_reader_read(r, NULL, 1));
    REFUSED("weft_tcp_reader_read", weft_tcp_reader_read(NULL, &c, 1));
    REFUSED("weft_tcp_writer_write", weft_tcp_writer_write(w, NULL, 1));
    REFUSED("weft_tcp_writer_write", weft_tcp_writer_write(NULL, "c", 1));
    REFUSED("weft_tcp_reunite", weft_tcp_reunite(r, w, NULL));
    REFUSED("weft_tcp_reunite", weft_tcp_reunite(r, (weft_tcp_writer *)b, &other));
    CHECK_EQ(weft_tcp_reader_close(r), 0);
    EXPECT_EQ(weft_tcp_reader_close(NULL), 0);
    EXPECT_EQ(weft_tcp_writer_close(NULL), 0);
    FAILS("weft_tcp_reader_close", -EBADF, weft_tcp_reader_close(r));
    FAILS("weft_tcp_reunite", -EBADF, weft_tcp_reunite(r, w, &other));
    CHECK_EQ(weft_tcp_writer_close(w), 0);
    FAILS("weft_tcp_writer_close", -EBADF, weft_tcp_writer_close(w));

    CHECK_EQ(weft_tcp_close(b), 0);
    EXPECT_EQ(weft_tcp_close(NULL), 0);
    FAILS("weft_tcp_close", -EBADF, weft_tcp_close(b));
    FAILS("weft_tcp_into_fd", -EBADF, weft_tcp_into_fd(b, &fd));
    FAILS("weft_tcp_split", -EBADF, weft_tcp_split(b, &r, &w));
    FAILS("weft_tcp_set_linger", -EBADF, weft_tcp_set_linger(b, 0));
    FAILS("weft_tcp_set_keepalive", -EBADF, weft_tcp_set_keepalive(b, true, 1, 1, 1));
    FAILS("weft_tcp_local_addr", -EBADF, weft_tcp_local_addr(b, &addr));
    FAILS("weft_tcp_read", -EBADF, weft_tcp_read(b, &c, 1));
    EXPECT(other == NULL && fd == -7);
}

/* More than the kernel counts is as much as it can count. */
static void options_are_cut_to_what_the_kernel_takes(struct test_env *env)
{
    (void)env;
    weft_tcp *a, *b;
    uint64_t linger;
    int count;
    socklen_t len = sizeof(count);
    socks_pair(&a, &b);
    CHECK_EQ(weft_tcp_set_linger(a, WEFT_NEVER - 1), 0);
    CHECK_EQ(weft_tcp_linger(a, &linger), 0);
    CHECK(linger > 1000000 * WEFT_SEC);
    /* Refused by the kernel, and what comes after it is not tried. */
    CHECK_EQ(weft_tcp_set_keepalive(a, true, WEFT_NEVER, WEFT_SEC, 5), -EINVAL);
    CHECK_EQ(weft_tcp_set_keepalive(a, true, WEFT_SEC, WEFT_NEVER, 5), -EINVAL);
    CHECK_EQ(weft_tcp_set_keepalive(a, true, WEFT_SEC, WEFT_SEC, UINT_MAX), -EINVAL);
    CHECK_EQ(weft_tcp_getsockopt(a, IPPROTO_TCP, TCP_KEEPCNT, &count, &len), 0);
    CHECK(count != 5);
    CHECK_EQ(weft_tcp_close(a), 0);
    CHECK_EQ(weft_tcp_close(b), 0);
}

static void listeners(struct test_env *env)
{
    (void)env;
    weft_tcp_listener *l = NULL;
    weft_tcp_listen_options o = {.backlog = -1};
    weft_tcp *conn = NULL;
    weft_addr addr;
    int fd = -7, pipes[2];
    CHECK_EQ(weft_addr_parse("127.0.0.1:0", &addr), 0);
    REFUSED("weft_tcp_listen", weft_tcp_listen("127.0.0.1:0", NULL));
    REFUSED("weft_tcp_listen_with", weft_tcp_listen_with(&o, "127.0.0.1:0", &l));
    REFUSED("weft_tcp_listen_addr", weft_tcp_listen_addr(&o, &addr, &l));
    REFUSED("weft_tcp_listen_addr", weft_tcp_listen_addr(NULL, NULL, &l));
    REFUSED("weft_tcp_listen_addr", weft_tcp_listen_addr(NULL, &addr, NULL));
    REFUSED("weft_tcp_listener_from_fd", weft_tcp_listener_from_fd(0, NULL));
    EXPECT_EQ(weft_tcp_listener_from_fd(-1, &l), -EBADF);
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    EXPECT_EQ(weft_tcp_listener_from_fd(pipes[0], &l), -ENOTSOCK);
    close(pipes[0]);
    close(pipes[1]);
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(weft_tcp_listener_from_fd(s, &l), -EPROTOTYPE); /* it does not listen */
    close(s);
    o = (weft_tcp_listen_options){.bind_device = "a name that no interface can have"};
    EXPECT_EQ(weft_tcp_listen_addr(&o, &addr, &l), -EINVAL);
    EXPECT(l == NULL);

    CHECK_EQ(weft_tcp_listen_addr(NULL, &addr, &l), 0);
    REFUSED("weft_tcp_accept", weft_tcp_accept(l, NULL));
    REFUSED("weft_tcp_accept", weft_tcp_accept(NULL, &conn));
    REFUSED("weft_tcp_try_accept", weft_tcp_try_accept(l, NULL));
    REFUSED("weft_tcp_try_accept", weft_tcp_try_accept(NULL, &conn));
    REFUSED("weft_tcp_listener_into_fd", weft_tcp_listener_into_fd(NULL, &fd));
    REFUSED("weft_tcp_listener_into_fd", weft_tcp_listener_into_fd(l, NULL));
    REFUSED("weft_tcp_listener_local_addr", weft_tcp_listener_local_addr(l, NULL));
    EXPECT_EQ(weft_tcp_try_accept(l, &conn), -EAGAIN); /* it is still good */
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    EXPECT_EQ(weft_tcp_listener_close(NULL), 0);
    FAILS("weft_tcp_listener_close", -EBADF, weft_tcp_listener_close(l));
    FAILS("weft_tcp_accept", -EBADF, weft_tcp_accept(l, &conn));
    FAILS("weft_tcp_try_accept", -EBADF, weft_tcp_try_accept(l, &conn));
    FAILS("weft_tcp_listener_into_fd", -EBADF, weft_tcp_listener_into_fd(l, &fd));
    EXPECT(conn == NULL && fd == -7);
}

/* An interface with a name that is too long is refused before the kernel is asked, and so is a
 * buffer of a size that it does not take; the descriptor is closed, as the harness counts. */
static void connecting_with_options_that_do_not_go(struct test_env *env)
{
    (void)env;
    weft_addr addr, local;
    weft_tcp *conn = NULL;
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    weft_tcp_connect_options o = {.bind_device = "a name that no interface can have"};
    EXPECT_EQ(weft_tcp_connect_addr(&o, &addr, &conn), -EINVAL);
    CHECK_EQ(weft_addr_parse("192.0.2.1:0", &local), 0); /* for documentation: nobody has it */
    o = (weft_tcp_connect_options){.local = &local, .reuseaddr = true, .reuseport = true};
    EXPECT_EQ(weft_tcp_connect_addr(&o, &addr, &conn), -EADDRNOTAVAIL);
    EXPECT(conn == NULL);
    o = (weft_tcp_connect_options){.reuseport = true};
    CHECK_EQ(weft_tcp_connect_addr(&o, &addr, &conn), 0);
    weft_tcp_close(conn);
    weft_tcp_listener_close(l);
}

static void addresses(struct test_env *env)
{
    (void)env;
    weft_addr a, b;
    char text[WEFT_ADDR_TEXT_MAX];
    struct sockaddr_storage other = {.ss_family = AF_UNIX};
    EXPECT_EQ(weft_addr_from_ip(NULL, 4, 1, &a), -EINVAL);
    EXPECT_EQ(weft_addr_from_ip("\x7f\0\0\1", 4, 1, NULL), -EINVAL);
    EXPECT_EQ(weft_addr_from_ip("\x7f\0\0\1", 5, 1, &a), -EINVAL);
    EXPECT_EQ(weft_addr_from_sockaddr(NULL, sizeof(other), &a), -EINVAL);
    EXPECT_EQ(weft_addr_from_sockaddr((struct sockaddr *)&other, sizeof(other), NULL), -EINVAL);
    EXPECT(weft_addr_from_sockaddr((struct sockaddr *)&other, sizeof(other), &a) < 0);
    CHECK_EQ(weft_addr_parse("[fe80::1]:9", &a), 0);
    b = a;
    EXPECT(weft_addr_is_equal(&a, &b));
    EXPECT(!weft_addr_is_equal(NULL, &b));
    EXPECT(!weft_addr_is_equal(&a, NULL));
    b.sa.v6.sin6_scope_id = 77;
    EXPECT(!weft_addr_is_equal(&a, &b));
    b = a;
    b.sa.v6.sin6_addr.s6_addr[15] = 2;
    EXPECT(!weft_addr_is_equal(&a, &b));
    EXPECT_EQ(weft_addr_port(NULL), 0);
    weft_addr_set_port(NULL, 5);
    /* An interface that has gone is its number. */
    a.sa.v6.sin6_scope_id = 987654321;
    EXPECT_EQ(weft_addr_format(&a, text, sizeof(text)), (int)strlen("[fe80::1%987654321]:9"));
    EXPECT_EQ(strcmp(text, "[fe80::1%987654321]:9"), 0);
    EXPECT(weft_addr_format(NULL, text, sizeof(text)) > 0);
    EXPECT_EQ(strcmp(text, "(no address)"), 0);
    b.sa.any.sa_family = AF_UNIX;
    EXPECT(weft_addr_format(&b, text, sizeof(text)) > 0);
    EXPECT_EQ(strcmp(text, "(no address)"), 0);
    REFUSED("weft_lookup", weft_lookup("127.0.0.1:1", NULL, 1));
    REFUSED("weft_lookup", weft_lookup("127.0.0.1:1", &a, 0));
}

TEST_MAIN(IN_TASK_ON(descriptors, TEST_MT1), IN_TASK(readiness_is_cleared_by_interest),
          IN_TASK_ON(connections, TEST_MT1),
          IN_TASK_ON(options_are_cut_to_what_the_kernel_takes, TEST_MT1),
          IN_TASK_ON(listeners, TEST_MT1),
          IN_TASK_ON(connecting_with_options_that_do_not_go, TEST_MT1),
          IN_TASK_ON(addresses, TEST_MT1))
