/*
 * The simulated kernel is one that keeps Linux's promises: the same calls on real and on simulated
 * sockets give the same results.
 */
#include "harness.h"

#include <weft/weft.h>

#include <errno.h>
#include <string.h>

#define NOTES_MAX 128

struct notes {
    int count;
    const char *what[NOTES_MAX];
    long value[NOTES_MAX];
};

static struct notes *notes;

static void note(const char *what, long value)
{
    CHECK(notes->count < NOTES_MAX);
    notes->what[notes->count] = what;
    notes->value[notes->count++] = value;
}
#define NOTE(expr) note(#expr, (long)(expr))

/* What was sent has arrived by then, in both worlds. */
static void settle(void)
{
    CHECK_EQ(weft_sleep(20 * WEFT_MS), 0);
}

struct ends {
    weft_tcp_listener *l;
    weft_addr addr;
    weft_tcp *a, *b; /* who connected, and who accepted */
};

static struct ends ends_open(void)
{
    struct ends e;
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &e.l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(e.l, &e.addr), 0);
    CHECK_EQ(weft_tcp_connect_addr(NULL, &e.addr, &e.a), 0);
    CHECK_EQ(weft_tcp_accept(e.l, &e.b), 0);
    return e;
}

static void ends_close(struct ends *e)
{
    (void)weft_tcp_close(e->a);
    (void)weft_tcp_close(e->b);
    (void)weft_tcp_listener_close(e->l);
}

static void use_bytes(void)
{
    char buf[16] = "";
    struct iovec iov[2] = {{buf, 2}, {buf + 2, 9}};
    unsigned bits = 0;
    struct ends e = ends_open();
    NOTE(weft_tcp_try_read(e.b, buf, sizeof(buf)));
    NOTE(weft_tcp_write(e.a, "hello", 5));
    NOTE(weft_tcp_peek(e.b, buf, sizeof(buf)));
    NOTE(weft_tcp_read(e.b, buf, 2));
    NOTE(weft_tcp_readv(e.b, iov, 2));
    NOTE(memcmp(buf, "llo", 3));
    NOTE(weft_tcp_try_peek(e.b, buf, sizeof(buf)));
    NOTE(weft_tcp_writev(e.b, iov, 2));
    settle();
    NOTE(weft_tcp_ready(e.a, WEFT_READY_READ, &bits));
    NOTE(bits);
    NOTE(weft_tcp_read(e.a, buf, 0));
    NOTE(weft_tcp_read(e.a, buf, sizeof(buf)));
    ends_close(&e);
}

static void close_halves(void)
{
    char buf[16];
    unsigned bits = 0;
    struct ends e = ends_open();
    NOTE(weft_tcp_write(e.a, "ask", 3));
    NOTE(weft_tcp_shutdown(e.a, SHUT_WR));
    NOTE(weft_tcp_shutdown(e.a, SHUT_WR));
    NOTE(weft_tcp_write(e.a, "more", 4));
    NOTE(weft_tcp_read(e.b, buf, sizeof(buf)));
    NOTE(weft_tcp_read(e.b, buf, sizeof(buf)));
    settle();
    NOTE(weft_tcp_ready(e.b, WEFT_READY_READ, &bits));
    NOTE(bits);
    NOTE(weft_tcp_write(e.b, "answer", 6));
    NOTE(weft_tcp_read(e.a, buf, sizeof(buf)));
    NOTE(weft_tcp_shutdown(e.b, SHUT_RDWR));
    NOTE(weft_tcp_read(e.a, buf, sizeof(buf)));
    NOTE(weft_tcp_read(e.b, buf, sizeof(buf)));
    ends_close(&e);
}

static void leave_bytes_unread(void)
{
    char buf[16];
    struct ends e = ends_open();
    NOTE(weft_tcp_write(e.b, "abc", 3));
    NOTE(weft_tcp_write(e.a, "unread", 6));
    settle();
    NOTE(weft_tcp_close(e.b)); /* resets */
    e.b = NULL;
    settle();
    NOTE(weft_tcp_read(e.a, buf, 2));
    NOTE(weft_tcp_read(e.a, buf, sizeof(buf)));
    NOTE(weft_tcp_read(e.a, buf, sizeof(buf)));
    NOTE(weft_tcp_read(e.a, buf, sizeof(buf)));
    NOTE(weft_tcp_write(e.a, "late", 4));
    weft_addr addr;
    NOTE(weft_tcp_peer_addr(e.a, &addr));
    NOTE(weft_tcp_shutdown(e.a, SHUT_WR));
    ends_close(&e);
}

static void write_to_who_has_left(void)
{
    char buf[16];
    int error = 1;
    struct ends e = ends_open();
    NOTE(weft_tcp_close(e.b));
    e.b = NULL;
    settle();
    NOTE(weft_tcp_write(e.a, "one", 3)); /* answered by a reset */
    settle();
    NOTE(weft_tcp_write(e.a, "two", 3));
    NOTE(weft_tcp_write(e.a, "three", 5));
    NOTE(weft_tcp_take_error(e.a, &error));
    NOTE(error);
    NOTE(weft_tcp_read(e.a, buf, sizeof(buf)));
    ends_close(&e);
}

static void linger_for_nothing(void)
{
    char buf[16];
    int error = 1;
    uint64_t linger_ns = 1;
    struct ends e = ends_open();
    NOTE(weft_tcp_set_linger(e.b, 0));
    NOTE(weft_tcp_linger(e.b, &linger_ns));
    NOTE(linger_ns);
    NOTE(weft_tcp_close(e.b));
    e.b = NULL;
    settle();
    NOTE(weft_tcp_take_error(e.a, &error));
    NOTE(error);
    NOTE(weft_tcp_read(e.a, buf, sizeof(buf)));
    NOTE(weft_tcp_write(e.a, "x", 1));
    ends_close(&e);
}

static void use_listeners(void)
{
    char buf[16];
    weft_tcp *c = NULL;
    weft_tcp_listener *second;
    struct ends e = ends_open();
    NOTE(weft_tcp_try_accept(e.l, &c));
    NOTE(weft_tcp_listen_addr(NULL, &e.addr, &second));
    NOTE(weft_tcp_connect_addr(NULL, &e.addr, &c));
    settle();
    NOTE(weft_tcp_listener_close(e.l)); /* with somebody in its queue */
    settle();
    NOTE(weft_tcp_read(c, buf, sizeof(buf)));
    NOTE(weft_tcp_close(c));
    NOTE(weft_tcp_connect_addr(NULL, &e.addr, &c));
    NOTE(weft_tcp_write(e.a, "x", 1)); /* lives on */
    NOTE(weft_tcp_read(e.b, buf, sizeof(buf)));
    e.l = NULL;
    ends_close(&e);
}

static void use_options(void)
{
    bool on = true;
    int bytes = 0;
    struct ends e = ends_open();
    weft_addr local, peer;
    NOTE(weft_tcp_nodelay(e.a, &on));
    NOTE(on);
    NOTE(weft_tcp_set_nodelay(e.a, true));
    NOTE(weft_tcp_nodelay(e.a, &on));
    NOTE(on);
    NOTE(weft_tcp_set_send_buffer(e.a, 10000));
    NOTE(weft_tcp_send_buffer(e.a, &bytes));
    NOTE(bytes);
    NOTE(weft_tcp_local_addr(e.a, &local));
    NOTE(weft_tcp_peer_addr(e.b, &peer));
    NOTE(local.len);
    NOTE(memcmp(&local.sa, &peer.sa, local.len));
    NOTE(weft_tcp_peer_addr(e.a, &peer));
    NOTE(memcmp(&e.addr.sa, &peer.sa, peer.len));
    ends_close(&e);
}

static int use_all(void *arg)
{
    notes = arg;
    use_bytes();
    close_halves();
    leave_bytes_unread();
    write_to_who_has_left();
    linger_for_nothing();
    use_listeners();
    use_options();
    return 0;
}

static void simulated_sockets_do_as_real_ones(struct test_env *env)
{
    static struct notes real, simulated;
    (void)env;
    CHECK_EQ(weft_run(use_all, &real), 0);
    CHECK(real.count > 60);
    for (uint64_t seed = 1; seed <= 5; seed++) {
        weft_sim_config c;
        weft_sim_result r;
        memset(&simulated, 0, sizeof(simulated));
        weft_sim_config_init(&c, seed);
        CHECK_EQ(weft_sim_run(&c, use_all, &simulated, &r), 0);
        EXPECT_EQ(r.rc, 0);
        EXPECT_EQ(r.fds_left, 0);
        EXPECT_EQ(simulated.count, real.count);
        for (int i = 0; i < real.count; i++)
            if (simulated.value[i] != real.value[i])
                test_record(__FILE__, __LINE__, "%s: %ld in earnest, %ld simulated", real.what[i],
                            real.value[i], simulated.value[i]);
    }
}

TEST_MAIN(PLAIN(simulated_sockets_do_as_real_ones))
