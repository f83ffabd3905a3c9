/* TCP connections and listeners: TC of BEHAVIOURS. */
#include "harness.h"
#include "socks.h"

#include <weft/io.h>
#include <weft/net.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- TC-01 ---- */

/* One round trip over a listener: both ends agree on the addresses, whichever form they were given
 * in. */
static void check_agreement(weft_tcp_listener *l, weft_tcp *client)
{
    weft_tcp *server;
    weft_addr peer, a, b;
    char c = 0;
    CHECK_EQ(weft_tcp_accept_from(l, &server, &peer), 0);
    CHECK_EQ(weft_tcp_local_addr(client, &a), 0);
    CHECK(weft_addr_is_equal(&a, &peer));
    CHECK_EQ(weft_tcp_peer_addr(server, &b), 0);
    CHECK(weft_addr_is_equal(&a, &b));
    CHECK_EQ(weft_tcp_peer_addr(client, &a), 0);
    CHECK_EQ(weft_tcp_local_addr(server, &b), 0);
    CHECK(weft_addr_is_equal(&a, &b));
    CHECK_EQ(weft_tcp_write(client, "x", 1), 1);
    CHECK_EQ(weft_tcp_read(server, &c, 1), 1);
    CHECK_EQ(c, 'x');
    CHECK_EQ(weft_tcp_close(client), 0);
    CHECK_EQ(weft_tcp_close(server), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

static uint16_t port_of(weft_tcp_listener *l)
{
    weft_addr addr;
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    CHECK(weft_addr_port(&addr) != 0); /* port 0 has become a real one */
    return weft_addr_port(&addr);
}

static void listen_and_connect(const char *listen, const char *connect_format)
{
    weft_tcp_listener *l;
    weft_tcp *client;
    char text[WEFT_ADDR_TEXT_MAX];
    CHECK_EQ(weft_tcp_listen(listen, &l), 0);
    snprintf(text, sizeof(text), connect_format, port_of(l));
    CHECK_EQ(weft_tcp_connect(text, &client), 0);
    check_agreement(l, client);
}

static bool has_v6(void)
{
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    if (fd < 0)
        return false;
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool ok = bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    close(fd);
    return ok;
}

static void tc_01_all_forms_of_address(struct test_env *env)
{
    (void)env;
    listen_and_connect("127.0.0.1:0", "127.0.0.1:%u"); /* by string */
    listen_and_connect(":0", "127.0.0.1:%u");
    listen_and_connect("localhost:0", "localhost:%u"); /* by name */
    if (has_v6()) {
        listen_and_connect("[::1]:0", "[::1]:%u");
        listen_and_connect("[::]:0", "[::1]:%u");
    }

    const unsigned char loopback[4] = {127, 0, 0, 1}; /* by ip and port, by address */
    weft_addr addr;
    weft_tcp_listener *l;
    weft_tcp *client;
    CHECK_EQ(weft_addr_from_ip(loopback, 4, 0, &addr), 0);
    CHECK_EQ(weft_tcp_listen_addr(NULL, &addr, &l), 0);
    weft_addr_set_port(&addr, port_of(l));
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &client), 0);
    check_agreement(l, client);
}

static void tc_01_dual_stack_takes_v4_unless_v6only(struct test_env *env)
{
    (void)env;
    if (!has_v6())
        return;
    listen_and_connect("[::]:0", "[::ffff:127.0.0.1]:%u");
    weft_tcp_listener *l;
    weft_tcp *client;
    char text[32];
    CHECK_EQ(weft_tcp_listen_with(&(weft_tcp_listen_options){.v6only = true}, "[::]:0", &l), 0);
    snprintf(text, sizeof(text), "127.0.0.1:%u", port_of(l));
    CHECK_EQ(weft_tcp_connect(text, &client), -ECONNREFUSED);
    weft_tcp_listener_close(l);
}

static void tc_01_a_port_in_use(struct test_env *env)
{
    (void)env;
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    weft_tcp_listener *second;
    char text[32];
    snprintf(text, sizeof(text), "127.0.0.1:%u", port);
    CHECK_EQ(weft_tcp_listen(text, &second), -EADDRINUSE);
    weft_tcp_listener_close(l);
    CHECK_EQ(weft_tcp_listen(text, &second), 0); /* free at once */
    weft_tcp_listener_close(second);
}

/* ---- TC-02 ---- */

static void tc_02_connect_returns_the_last_error(struct test_env *env)
{
    (void)env;
    uint16_t port;
    weft_tcp *conn;
    char text[32];
    weft_tcp_listener_close(socks_listen(&port)); /* nobody listens there any more */
    snprintf(text, sizeof(text), "localhost:%u", port);
    CHECK_EQ(weft_tcp_connect(text, &conn), -ECONNREFUSED);
    CHECK_EQ(weft_tcp_connect("name-that-does-not-exist.invalid:80", &conn) < 0, true);
}

/* "localhost" is ::1 and 127.0.0.1 where the resolver knows both: one listens, the other
 * refuses. */
static void tc_02_connect_tries_each_address(struct test_env *env)
{
    (void)env;
    weft_addr addrs[8];
    char text[32];
    int count = weft_lookup("localhost:1", addrs, 8);
    CHECK(count >= 1);
    for (int i = 0; i < count; i++) {
        weft_tcp_listener *l;
        weft_tcp *client;
        weft_addr_set_port(&addrs[i], 0);
        int rc = weft_tcp_listen_addr(NULL, &addrs[i], &l);
        if (rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT)
            continue; /* no IPv6 on this machine */
        CHECK_EQ(rc, 0);
        snprintf(text, sizeof(text), "localhost:%u", port_of(l));
        CHECK_EQ(weft_tcp_connect(text, &client), 0);
        check_agreement(l, client);
    }
}

/* ---- TC-03 ---- */

#define ACCEPTORS 50

struct acceptors {
    weft_tcp_listener *l;
    atomic_int accepted;
};

static void *accept_until_closed(void *arg)
{
    struct acceptors *a = arg;
    weft_tcp *conn;
    int rc;
    while ((rc = weft_tcp_accept(a->l, &conn)) == 0) {
        atomic_fetch_add(&a->accepted, 1);
        weft_tcp_close(conn);
    }
    EXPECT_EQ(rc, -EBADF);
    return NULL;
}

/* Of spawned tasks; the body of a weft_block_on() is none. */
static void count_run(const weft_task_meta *task, void *arg)
{
    (void)task;
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void *connect_to_a_crowd(void *arg)
{
    atomic_int *runs = arg; /* of the acceptors, which are all tasks there are */
    struct acceptors a = {.l = NULL};
    uint16_t port;
    weft_task *task[ACCEPTORS];
    a.l = socks_listen(&port);
    for (int i = 0; i < ACCEPTORS; i++)
        task[i] = SPAWN(accept_until_closed, &a);
    /* Each is parked: none takes the connection, or its wake, in a run that began before. */
    for (int i = 0; i < ACCEPTORS; i++)
        CHECK_SOON(test_waits(NULL, task[i]));
    int before = atomic_load(runs);
    int fd = socks_raw_connect(port);
    CHECK_SOON(atomic_load(runs) >= before + ACCEPTORS);
    CHECK_SOON(atomic_load(&a.accepted) == 1);
    close(fd);

    /* And none is lost when many come. */
    for (int i = 0; i < 20; i++)
        close(socks_raw_connect(port));
    CHECK_SOON(atomic_load(&a.accepted) == 21);
    weft_tcp_listener_close(a.l); /* ends their waits: -EBADF */
    for (int i = 0; i < ACCEPTORS; i++)
        test_join_value(task[i]);
    return NULL;
}

static void tc_03_a_connection_wakes_all_who_accept(struct test_env *env)
{
    atomic_int runs = 0;
    weft_config config;
    weft_runtime *rt;
    test_config(&config, env->flavour);
    config.on_task_run_begin = count_run;
    config.hook_arg = &runs;
    CHECK_EQ(weft_runtime_create(&config, &rt), 0);
    test_block_on(rt, connect_to_a_crowd, &runs);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

static void tc_03_an_idle_listener_is_left_alone(struct test_env *env)
{
    struct acceptors a = {.l = NULL};
    uint16_t port;
    a.l = socks_listen(&port);
    weft_task *task = SPAWN(accept_until_closed, &a);
    CHECK_SOON(socks_is_waiting(env->handle, "incoming connection", 1));
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(env->handle, &m), 0);
    uint64_t events = m.io_events;
    CHECK_EQ(weft_sleep(30 * WEFT_MS), 0);
    CHECK_EQ(weft_metrics_get(env->handle, &m), 0);
    CHECK_EQ(m.io_events, events);
    weft_tcp_listener_close(a.l);
    test_join_value(task);
}

/* ---- TC-04 ---- */

#define SPLIT_BYTES 300000

static unsigned char byte_at(size_t offset)
{
    return (unsigned char)(offset * 31 + offset / 251);
}

static void *send_stream(void *arg)
{
    weft_tcp_writer *w = arg;
    unsigned char buf[1000];
    for (size_t done = 0; done < SPLIT_BYTES;) {
        for (size_t i = 0; i < sizeof(buf); i++)
            buf[i] = byte_at(done + i);
        size_t len = SPLIT_BYTES - done < sizeof(buf) ? SPLIT_BYTES - done : sizeof(buf);
        ssize_t n = weft_tcp_writer_write(w, buf, len);
        CHECK(n > 0);
        done += (size_t)n;
    }
    EXPECT_EQ(weft_tcp_writer_close(w), 0); /* the peer reads an end, though we may still be
                                             * reading */
    return NULL;
}

static void *receive_stream(void *arg)
{
    weft_tcp_reader *r = arg;
    unsigned char buf[700];
    size_t done = 0;
    ssize_t n;
    while ((n = weft_tcp_reader_read(r, buf, sizeof(buf))) > 0)
        for (ssize_t i = 0; i < n; i++)
            CHECK_EQ(buf[i], byte_at(done++));
    CHECK_EQ(n, 0);
    CHECK_EQ(done, SPLIT_BYTES);
    EXPECT_EQ(weft_tcp_reader_close(r), 0);
    return NULL;
}

static void tc_04_halves_in_two_tasks(struct test_env *env)
{
    (void)env;
    weft_tcp *end[2];
    weft_task *task[4];
    socks_pair(&end[0], &end[1]);
    for (int i = 0; i < 2; i++) {
        weft_tcp_reader *r;
        weft_tcp_writer *w;
        CHECK_EQ(weft_tcp_split(end[i], &r, &w), 0);
        task[i * 2] = SPAWN(receive_stream, r);
        task[i * 2 + 1] = SPAWN(send_stream, w);
    }
    for (int i = 0; i < 4; i++)
        test_join_value(task[i]);
}

static void tc_04_only_mates_reunite(struct test_env *env)
{
    (void)env;
    weft_tcp *a, *b, *whole;
    weft_tcp_reader *ra, *rb;
    weft_tcp_writer *wa, *wb;
    char c;
    socks_pair(&a, &b);
    CHECK_EQ(weft_tcp_split(a, &ra, &wa), 0);
    CHECK_EQ(weft_tcp_split(b, &rb, &wb), 0);
    test_log_clear();
    CHECK_EQ(weft_tcp_reunite(ra, wb, &whole), -EINVAL);
    EXPECT_LOGGED("weft_tcp_reunite");
    CHECK_EQ(weft_tcp_split(a, &ra, &wa), -EBUSY);
    CHECK_EQ(weft_tcp_close(a), -EBUSY);
    int fd;
    CHECK_EQ(weft_tcp_into_fd(a, &fd), -EBUSY);
    CHECK_EQ(weft_tcp_reunite(ra, wa, &whole), 0);
    CHECK_EQ(weft_tcp_write(whole, "y", 1), 1); /* as good as before */
    CHECK_EQ(weft_tcp_reader_read(rb, &c, 1), 1);
    CHECK_EQ(weft_tcp_close(whole), 0);
    CHECK_EQ(weft_tcp_reader_close(rb), 0);
    CHECK_EQ(weft_tcp_reader_close(rb), -EBADF);
    CHECK_EQ(weft_tcp_reunite(rb, wb, &whole), -EBADF);
    CHECK_EQ(weft_tcp_writer_close(wb), 0);
    CHECK_EQ(weft_tcp_writer_close(wb), -EBADF);
}

static void tc_04_a_half_that_was_given_up_is_closed(struct test_env *env)
{
    (void)env;
    weft_tcp *a, *b, *whole;
    weft_tcp_reader *ra, *rb;
    weft_tcp_writer *wa, *wb;
    char c = 'x';
    socks_pair(&a, &b);
    CHECK_EQ(weft_tcp_split(a, &ra, &wa), 0);
    CHECK_EQ(weft_tcp_split(b, &rb, &wb), 0);
    CHECK_EQ(weft_tcp_writer_write(wa, &c, 1), 1);
    CHECK_EQ(weft_tcp_reader_close(rb), 0);
    test_log_clear();
    EXPECT_EQ(weft_tcp_reader_read(rb, &c, 1), -EBADF);
    EXPECT_LOGGED("weft_tcp_reader_read");
    CHECK_EQ(weft_tcp_writer_write(wb, &c, 1), 1); /* the other one is as good as ever */
    CHECK_EQ(weft_tcp_reader_read(ra, &c, 1), 1);
    CHECK_EQ(weft_tcp_writer_close(wa), 0);
    EXPECT_EQ(weft_tcp_writer_write(wa, &c, 1), -EBADF);
    EXPECT_LOGGED("weft_tcp_writer_write");
    CHECK_EQ(weft_tcp_reader_close(ra), 0);
    EXPECT_EQ(weft_tcp_reader_read(ra, &c, 1), -EBADF);
    CHECK_EQ(weft_tcp_writer_close(wb), 0);

    /* Those that were put together are no halves any more. */
    socks_pair(&a, &b);
    CHECK_EQ(weft_tcp_split(a, &ra, &wa), 0);
    CHECK_EQ(weft_tcp_reunite(ra, wa, &whole), 0);
    EXPECT_EQ(weft_tcp_writer_write(wa, &c, 1), -EBADF);
    CHECK_EQ(weft_tcp_close(whole), 0);
    CHECK_EQ(weft_tcp_close(b), 0);
}

static void *read_to_end(void *arg)
{
    char buf[16];
    EXPECT_EQ(weft_tcp_reader_read(arg, buf, sizeof(buf)), 4);
    EXPECT_EQ(weft_tcp_reader_read(arg, buf, sizeof(buf)), 0);
    weft_tcp_reader_close(arg);
    return NULL;
}

static void tc_04_releasing_the_writer_while_the_reader_reads(struct test_env *env)
{
    weft_tcp *conn;
    weft_tcp_reader *r;
    weft_tcp_writer *w;
    int fd;
    char c;
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_tcp_split(conn, &r, &w), 0);
    weft_task *task = SPAWN(read_to_end, r);
    CHECK_SOON(socks_is_waiting(env->handle, "readable descriptor", 1));
    CHECK_EQ(weft_tcp_writer_close(w), 0);
    CHECK_EQ(recv(fd, &c, 1, 0), 0); /* the peer sees the end of our side ... */
    socks_raw_write(fd, "more", 4);  /* ... and its own is still open */
    close(fd);
    test_join_value(task);
}

/* ---- TC-05 ---- */

static void tc_05_peek_leaves_the_data(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd;
    char a[16] = "", b[16] = "", c[16] = "";
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_tcp_try_peek(conn, a, sizeof(a)), -EAGAIN);
    socks_raw_write(fd, "peeked", 6);
    CHECK_EQ(weft_tcp_peek(conn, a, sizeof(a)), 6);
    CHECK_EQ(weft_tcp_peek(conn, b, sizeof(b)), 6);
    CHECK_EQ(weft_tcp_try_peek(conn, c, 3), 3);
    CHECK_EQ(weft_tcp_read(conn, c, sizeof(c)), 6);
    CHECK(memcmp(a, "peeked", 6) == 0 && memcmp(a, b, 6) == 0 && memcmp(a, c, 6) == 0);
    close(fd);
    CHECK_EQ(weft_tcp_peek(conn, a, sizeof(a)), 0);
    CHECK_EQ(weft_tcp_read(conn, a, sizeof(a)), 0);
    weft_tcp_close(conn);
}

/* ---- TC-06 ---- */

static void tc_06_shutdown_gives_the_peer_an_end(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd;
    char buf[8];
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_tcp_write(conn, "bye", 3), 3);
    CHECK_EQ(weft_tcp_shutdown(conn, SHUT_WR), 0);
    CHECK_EQ(weft_tcp_shutdown(conn, SHUT_WR), 0); /* again: fine */
    CHECK_EQ(weft_tcp_write(conn, "x", 1), -EPIPE);
    socks_raw_read(fd, buf, 3);
    CHECK_EQ(recv(fd, buf, 1, 0), 0);
    socks_raw_write(fd, "ok", 2); /* the other direction goes on */
    CHECK_EQ(weft_tcp_read(conn, buf, sizeof(buf)), 2);
    CHECK_EQ(weft_tcp_shutdown(conn, 77), -EINVAL);
    close(fd);
    weft_tcp_close(conn);
}

static void tc_06_shutdown_after_a_reset(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd;
    char c;
    socks_raw_pair(&conn, &fd);
    socks_raw_reset(fd);
    CHECK_EQ(weft_tcp_read(conn, &c, 1), -ECONNRESET);
    int rc = weft_tcp_shutdown(conn, SHUT_WR);
    CHECK(rc == 0 || rc == -ECONNRESET);
    weft_tcp_close(conn);
}

/* ---- TC-07 ---- */

/* What is ready, as soon as something is. */
static unsigned ready_soon(weft_tcp *conn, unsigned interest)
{
    unsigned bits;
    CHECK_EQ(weft_tcp_ready(conn, interest, &bits), 0);
    return bits;
}

/* Nothing is, nor will be in the next few milliseconds. */
static bool stays_unready(weft_tcp *conn, unsigned interest)
{
    int rc = 0;
    WEFT_TIMEOUT(5 * WEFT_MS)
        rc = weft_tcp_ready(conn, interest, NULL);
    return rc == -ETIMEDOUT;
}

static void tc_07_try_forms_would_block(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd;
    char buf[8];
    char more[8];
    struct iovec iov[2] = {{buf, 2}, {more, 6}};
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_tcp_try_read(conn, buf, sizeof(buf)), -EAGAIN);
    CHECK_EQ(weft_tcp_try_readv(conn, iov, 2), -EAGAIN);
    CHECK(stays_unready(conn, WEFT_READY_READ));
    CHECK_EQ(ready_soon(conn, WEFT_READY_WRITE), WEFT_READY_WRITE);
    socks_raw_write(fd, "abcdef", 6);
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_READ, NULL), 0);
    CHECK_EQ(weft_tcp_try_readv(conn, iov, 2), 6);
    CHECK(memcmp(buf, "ab", 2) == 0 && memcmp(more, "cdef", 4) == 0);
    CHECK(stays_unready(conn, WEFT_READY_READ)); /* the short read said that there is no more */

    CHECK_EQ(weft_tcp_try_writev(conn, (struct iovec[]){{"12", 2}, {"345", 3}}, 2), 5);
    socks_raw_read(fd, buf, 5);
    CHECK(memcmp(buf, "12345", 5) == 0);

    /* Until the peer's window and our buffer are full. */
    char *big = calloc(1, 1 << 20);
    ssize_t n;
    size_t sent = 0;
    do { /* what is on its way may still make room */
        while ((n = weft_tcp_try_write(conn, big, 1 << 20)) > 0)
            sent += (size_t)n;
        CHECK_EQ(n, -EAGAIN);
    } while (!stays_unready(conn, WEFT_READY_WRITE));
    while (sent > 0) {
        size_t part = sent < 1 << 20 ? sent : 1 << 20;
        socks_raw_read(fd, big, part);
        sent -= part;
    }
    free(big);
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_WRITE, NULL), 0);
    CHECK_EQ(weft_tcp_try_write(conn, "x", 1), 1);
    close(fd);
    weft_tcp_close(conn);
}

static void tc_07_read_closed_is_reported(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd;
    char c;
    unsigned bits;
    socks_raw_pair(&conn, &fd);
    socks_raw_write(fd, "z", 1);
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_READ, &bits), 0);
    CHECK_EQ(bits, WEFT_READY_READ); /* no false alarm */
    CHECK_EQ(weft_tcp_read(conn, &c, 1), 1);
    CHECK_EQ(weft_tcp_try_read(conn, &c, 1), -EAGAIN);
    shutdown(fd, SHUT_WR);
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_READ, &bits), 0);
    CHECK(bits & WEFT_READY_READ_CLOSED);
    CHECK_EQ(weft_tcp_read(conn, &c, 1), 0);
    CHECK_EQ(weft_tcp_write(conn, "x", 1), 1); /* only their side is closed */
    close(fd);
    weft_tcp_close(conn);
}

/* ---- TC-08 ---- */

static void tc_08_exact_reads_leave_it_readable(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd;
    char buf[4];
    socks_raw_pair(&conn, &fd);
    socks_raw_write(fd, "1234", 4);
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_READ, NULL), 0);
    CHECK_EQ(weft_tcp_read(conn, buf, 4), 4); /* exact: says nothing about what is left */
    CHECK(ready_soon(conn, WEFT_READY_READ) & WEFT_READY_READ);
    CHECK_EQ(weft_tcp_try_read(conn, buf, 4), -EAGAIN);
    CHECK(stays_unready(conn, WEFT_READY_READ));
    close(fd);
    unsigned bits;
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_READ, &bits), 0);
    CHECK(bits & WEFT_READY_READ_CLOSED);
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_WRITE, &bits), 0);
    weft_tcp_close(conn);
}

/* Both directions of many connections, where each read is short and each wait really waits. */
static void tc_08_no_edge_is_lost(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd;
    char buf[64];
    socks_raw_pair(&conn, &fd);
    for (unsigned i = 0; i < test_scaled(2000); i++) {
        size_t len = i % 7 + 1;
        socks_raw_write(fd, "abcdefg", len);
        size_t got = 0;
        while (got < len) {
            ssize_t n = weft_tcp_read(conn, buf, sizeof(buf));
            CHECK(n > 0);
            got += (size_t)n;
        }
        CHECK_EQ(got, len);
        CHECK_EQ(weft_tcp_write(conn, buf, 1), 1);
        socks_raw_read(fd, buf, 1);
    }
    close(fd);
    weft_tcp_close(conn);
}

/* A read stops short at the urgent mark, though there is more behind it. */
static void tc_08_urgent_data_does_not_hide_what_follows(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd;
    char buf[64];
    socks_raw_pair(&conn, &fd);
    socks_raw_write(fd, "ab", 2);
    CHECK_EQ(send(fd, "!", 1, MSG_OOB), 1);
    socks_raw_write(fd, "cd", 2);
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_PRIORITY, NULL), 0);
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
    CHECK_EQ(weft_tcp_read(conn, buf, sizeof(buf)), 2);
    CHECK(memcmp(buf, "ab", 2) == 0);
    CHECK_EQ(weft_tcp_read(conn, buf, sizeof(buf)), 2);
    CHECK(memcmp(buf, "cd", 2) == 0);
    close(fd);
    weft_tcp_close(conn);
}

/* How often a wait for it returns, three times at most, until one does not for a while. */
static int times_ready(weft_tcp *conn, unsigned interest)
{
    int rc = 0, times = 0;
    while (times < 3) {
        WEFT_TIMEOUT(20 * WEFT_MS)
            rc = weft_tcp_ready(conn, interest, NULL);
        if (rc == -ETIMEDOUT)
            break;
        CHECK_EQ(rc, 0);
        times++;
    }
    return times;
}

/* Told as long as it is there, and then it is waited for again. */
static void urgent_data_is_over_once_read_past(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd, on = 1;
    char buf[64];
    socks_raw_pair(&conn, &fd);
    for (int i = 0; i < 2; i++) {
        socks_raw_write(fd, "ab", 2);
        CHECK_EQ(send(fd, "!", 1, MSG_OOB), 1);
        socks_raw_write(fd, "cd", 2);
        EXPECT_EQ(times_ready(conn, WEFT_READY_PRIORITY), 3);
        CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
        CHECK_EQ(weft_tcp_read(conn, buf, sizeof(buf)), 2);
        CHECK_EQ(weft_tcp_read(conn, buf, sizeof(buf)), 2);
        EXPECT(times_ready(conn, WEFT_READY_PRIORITY) <= 1);
    }
    /* In the stream: told once for each arrival, of which there may be one yet, and its mark hides
     * nothing. */
    CHECK_EQ(weft_tcp_setsockopt(conn, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)), 0);
    socks_raw_write(fd, "ab", 2);
    CHECK_EQ(send(fd, "!", 1, MSG_OOB), 1);
    socks_raw_write(fd, "cd", 2);
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
    int times = times_ready(conn, WEFT_READY_PRIORITY);
    EXPECT(times == 1 || times == 2);
    CHECK_EQ(weft_tcp_read(conn, buf, sizeof(buf)), 2);
    for (int got = 0; got < 3;) {
        ssize_t n = weft_tcp_read(conn, buf + got, sizeof(buf) - (size_t)got);
        CHECK(n > 0);
        got += (int)n;
    }
    CHECK(memcmp(buf, "!cd", 3) == 0);
    close(fd);
    weft_tcp_close(conn);
}

static void an_error_is_over_once_it_was_taken(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    int fd, error;
    const struct linger at_once = {.l_onoff = 1};
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
    close(fd);
    EXPECT_EQ(times_ready(conn, WEFT_READY_ERROR), 3);
    CHECK_EQ(weft_tcp_take_error(conn, &error), 0);
    EXPECT_EQ(error, -ECONNRESET);
    EXPECT_EQ(times_ready(conn, WEFT_READY_ERROR), 0);
    EXPECT_EQ(times_ready(conn, WEFT_READY_READ), 3);
    weft_tcp_close(conn);
}

/* ---- TC-09 ---- */

static void tc_09_to_and_from_a_descriptor(struct test_env *env)
{
    (void)env;
    weft_tcp *a, *b, *again;
    int fd;
    char c;
    socks_pair(&a, &b);
    CHECK_EQ(weft_tcp_into_fd(a, &fd), 0);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK); /* it stays so */
    test_log_clear();
    CHECK_EQ(weft_tcp_write(a, "x", 1), -EBADF); /* the handle is spent */
    EXPECT_LOGGED("weft_tcp_write");
    CHECK_EQ(weft_tcp_from_fd(fd, &again), 0);
    CHECK_EQ(weft_tcp_write(again, "x", 1), 1);
    CHECK_EQ(weft_tcp_read(b, &c, 1), 1);
    weft_tcp_close(again);
    weft_tcp_close(b);
}

static void tc_09_a_blocking_descriptor_is_made_nonblocking(struct test_env *env)
{
    (void)env;
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    int fd = socks_raw_connect(port);
    weft_tcp *server, *client;
    CHECK_EQ(weft_tcp_accept(l, &server), 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    CHECK_EQ(weft_tcp_from_fd(fd, &client), 0);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    char c;
    CHECK_EQ(weft_tcp_try_read(client, &c, 1), -EAGAIN);
    weft_tcp_close(client);
    weft_tcp_close(server);

    /* Not connections: refused, and left as they were. */
    int pipes[2];
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(weft_tcp_from_fd(pipes[0], &client), -ENOTSOCK);
    CHECK_EQ(close(pipes[0]), 0);
    close(pipes[1]);
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK_EQ(weft_tcp_from_fd(udp, &client), -EPROTOTYPE);
    CHECK_EQ(fcntl(udp, F_GETFL) & O_NONBLOCK, 0);
    CHECK_EQ(close(udp), 0);
    CHECK_EQ(weft_tcp_from_fd(-1, &client), -EBADF);

    /* A listener likewise. */
    weft_tcp_listener *again;
    CHECK_EQ(weft_tcp_listener_into_fd(l, &fd), 0);
    CHECK_EQ(weft_tcp_listener_from_fd(fd, &again), 0);
    int raw = socks_raw_connect(port);
    CHECK_EQ(weft_tcp_accept(again, &server), 0);
    CHECK_EQ(weft_tcp_listener_from_fd(raw, &l), -EPROTOTYPE);
    weft_tcp_close(server);
    weft_tcp_listener_close(again);
    CHECK_EQ(close(raw), 0);
}

static void *wait_to_read(void *arg)
{
    char c;
    return (void *)(intptr_t)weft_tcp_read(arg, &c, 1);
}

static void tc_09_no_descriptor_while_somebody_waits(struct test_env *env)
{
    weft_tcp *a, *b;
    int fd;
    socks_pair(&a, &b);
    weft_task *task = SPAWN(wait_to_read, a);
    CHECK_SOON(socks_is_waiting(env->handle, "readable descriptor", 1));
    CHECK_EQ(weft_tcp_into_fd(a, &fd), -EBUSY);
    CHECK_EQ(weft_tcp_write(b, "x", 1), 1);
    CHECK_EQ((intptr_t)test_join_value(task), 1);
    CHECK_EQ(weft_tcp_into_fd(a, &fd), 0);
    close(fd);
    weft_tcp_close(b);
}

static void tc_09_outside_a_runtime_is_misuse(struct test_env *env)
{
    (void)env;
    weft_tcp *conn;
    weft_tcp_listener *l;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    test_log_clear();
    CHECK_EQ(weft_tcp_from_fd(fd, &conn), -EPERM);
    EXPECT_LOGGED("weft_tcp_from_fd");
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0); /* untouched */
    close(fd);
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), -EPERM);
    EXPECT_LOGGED("weft_tcp_listen");
    CHECK_EQ(weft_tcp_connect("127.0.0.1:1", &conn), -EPERM);
    EXPECT_LOGGED("weft_tcp_connect");
}

TEST_MAIN(IN_TASK(tc_01_all_forms_of_address), IN_TASK(tc_01_dual_stack_takes_v4_unless_v6only),
          IN_TASK(tc_01_a_port_in_use), IN_TASK(tc_02_connect_returns_the_last_error),
          IN_TASK(tc_02_connect_tries_each_address),
          ON_MAIN(tc_03_a_connection_wakes_all_who_accept),
          IN_TASK(tc_03_an_idle_listener_is_left_alone), IN_TASK(tc_04_halves_in_two_tasks),
          IN_TASK(tc_04_only_mates_reunite), IN_TASK(tc_04_a_half_that_was_given_up_is_closed),
          IN_TASK(tc_04_releasing_the_writer_while_the_reader_reads),
          IN_TASK(tc_05_peek_leaves_the_data), IN_TASK(tc_06_shutdown_gives_the_peer_an_end),
          IN_TASK(tc_06_shutdown_after_a_reset), IN_TASK(tc_07_try_forms_would_block),
          IN_TASK(tc_07_read_closed_is_reported), IN_TASK(tc_08_exact_reads_leave_it_readable),
          IN_TASK(tc_08_no_edge_is_lost), IN_TASK(tc_08_urgent_data_does_not_hide_what_follows),
          IN_TASK(urgent_data_is_over_once_read_past), IN_TASK(an_error_is_over_once_it_was_taken),
          IN_TASK(tc_09_to_and_from_a_descriptor),
          IN_TASK(tc_09_a_blocking_descriptor_is_made_nonblocking),
          IN_TASK(tc_09_no_descriptor_while_somebody_waits),
          PLAIN(tc_09_outside_a_runtime_is_misuse))
