/* ctest: parallel */
/* Accepting where it is refused, or over: no connection is lost, and nobody is blamed for what is
 * allowed. */
#include "harness.h"
#include "socks.h"

#include <weft/local.h>
#include <weft/net.h>
#include <weft/select.h>

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

/* ---- where a connection could not be kept ---- */

/* Every form of accept says so, once each, and takes nothing. */
static void expect_refusals(weft_tcp_listener *l, const char *why)
{
    weft_tcp *conn;
    weft_tcp_accept_future f;
    test_log_clear();
    EXPECT_EQ(weft_tcp_try_accept(l, &conn), -EPERM);
    EXPECT_LOGGED(why);
    EXPECT_EQ(weft_tcp_accept(l, &conn), -EPERM);
    EXPECT_EQ(test_log_count("weft_tcp_accept:"), 1);
    test_log_clear();
    weft_tcp_accept_future_init(&f, l, &conn);
    EXPECT_EQ(weft_await(&f.future), -EPERM);
    test_log_clear();
}

static void *try_outside(void *l)
{
    expect_refusals(l, "weft_tcp_try_accept: called outside a runtime");
    return NULL;
}

static void *try_without_io(void *l)
{
    weft_tcp *conn;
    expect_refusals(l, "weft_tcp_try_accept: I/O is switched off");
    weft_case c[] = {weft_case_tcp_accept(l, &conn)};
    EXPECT_EQ(weft_select(c, 1), 0);
    EXPECT_EQ(c[0].rc, -EPERM);
    return NULL;
}

static void *run_without_io(void *l)
{
    weft_runtime *rt;
    weft_config c;
    test_config(&c, TEST_MT1);
    c.enable_io = false;
    EXPECT_EQ(weft_runtime_create(&c, &rt), 0);
    test_block_on(rt, try_without_io, l);
    EXPECT_EQ(weft_runtime_destroy(rt), 0);
    return NULL;
}

static void connections_that_cannot_be_kept_stay_in_the_queue(struct test_env *env)
{
    (void)env;
    uint16_t port;
    char byte = 'q', got = 0;
    weft_tcp *conn;
    pthread_t thread;
    weft_tcp_listener *l = socks_listen(&port);
    int fd = socks_raw_connect(port);
    socks_raw_write(fd, &byte, 1);
    CHECK_EQ(pthread_create(&thread, NULL, try_outside, l), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(pthread_create(&thread, NULL, run_without_io, l), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weft_tcp_accept(l, &conn), 0);
    CHECK_EQ(weft_tcp_read(conn, &got, 1), 1);
    CHECK_EQ(got, byte);
    weft_tcp_close(conn);
    close(fd);
    weft_tcp_listener_close(l);
}

/* ---- misuse ---- */

static void a_future_without_a_place_for_the_connection(struct test_env *env)
{
    (void)env;
    uint16_t port;
    weft_tcp *conn;
    weft_tcp_accept_future f;
    weft_tcp_listener *l = socks_listen(&port);
    int fd = socks_raw_connect(port);
    test_log_clear();
    weft_tcp_accept_future_init(&f, l, NULL);
    EXPECT_LOGGED("weft_tcp_accept_future_init");
    CHECK_EQ(weft_await(&f.future), -EINVAL);
    weft_case c[] = {weft_case_tcp_accept(l, NULL)};
    CHECK_EQ(weft_select(c, 1), 0);
    CHECK_EQ(c[0].rc, -EINVAL);
    CHECK_EQ(weft_tcp_accept(l, &conn), 0); /* it is there still */
    weft_tcp_close(conn);
    close(fd);
    weft_tcp_listener_close(l);
}

/* ---- closing ---- */

/* An accept whose listener is closed after it was woken and before it looks. */
struct closed_between {
    weft_future future;
    weft_tcp_accept_future accept;
    weft_tcp_listener *l;
    uint16_t port;
    int fd;
    int polls;
};

static int closed_between_poll(weft_future *f, weft_waker *waker)
{
    struct closed_between *c = (struct closed_between *)f;
    if (++c->polls == 2)
        EXPECT_EQ(weft_tcp_listener_close(c->l), 0);
    int rc = c->accept.future.ops->poll(&c->accept.future, waker);
    if (c->polls == 1)
        c->fd = socks_raw_connect(c->port); /* wakes it */
    return rc;
}

static void closed_between_cancel(weft_future *f)
{
    struct closed_between *c = (struct closed_between *)f;
    c->accept.future.ops->cancel(&c->accept.future);
}

static void closing_between_two_polls_is_no_misuse(struct test_env *env)
{
    (void)env;
    static const weft_future_ops ops = {closed_between_poll, closed_between_cancel, "test"};
    struct closed_between c = {.future = {&ops}};
    weft_tcp *conn = NULL;
    c.l = socks_listen(&c.port);
    test_log_clear();
    weft_tcp_accept_future_init(&c.accept, c.l, &conn);
    int rc = weft_await(&c.future);
    EXPECT(rc == 0 || rc == -EBADF);
    EXPECT_EQ(c.polls, 2);
    EXPECT_EQ(test_log_count("weft_tcp_accept"), 0);
    if (rc == 0)
        weft_tcp_close(conn);
    close(c.fd);
    /* Closed before the first poll it is, as ever. */
    weft_tcp_accept_future_init(&c.accept, c.l, &conn);
    EXPECT_EQ(weft_await(&c.accept.future), -EBADF);
    EXPECT_LOGGED("weft_tcp_accept_future: the handle was closed before");
}

/* ---- in another runtime than the one it began to wait in ---- */

struct moved {
    weft_local_set *set;
    weft_tcp_listener *listener;
    weft_task *task;
    uint16_t port;
    weft_runtime *first, *second;
};

static void *accept_and_read(void *arg)
{
    struct moved *m = arg;
    weft_tcp *conn;
    char c;
    if (weft_tcp_accept(m->listener, &conn) < 0)
        return NULL;
    ssize_t n = weft_tcp_read(conn, &c, 1);
    weft_tcp_close(conn);
    return n == 1 && c == 'x' ? m : NULL;
}

static void *begin_to_accept(void *arg)
{
    struct moved *m = arg;
    CHECK_EQ(weft_spawn_local(accept_and_read, m, &m->task), 0);
    CHECK_EQ(weft_sleep(10 * WEFT_MS), 0); /* so that it waits */
    return NULL;
}

static void *connect_and_join(void *arg)
{
    struct moved *m = arg;
    int fd = socks_raw_connect(m->port);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK(test_join_value(m->task) == m);
    close(fd);
    return NULL;
}

static void *listen_here(void *arg)
{
    struct moved *m = arg;
    m->listener = socks_listen(&m->port);
    return NULL;
}

static void *drive_first(void *arg)
{
    struct moved *m = arg;
    weft_outcome o;
    CHECK_EQ(weft_local_set_run_until(m->set, begin_to_accept, m, &o), 0);
    return NULL;
}

static void *drive_second(void *arg)
{
    struct moved *m = arg;
    weft_outcome o;
    CHECK_EQ(weft_local_set_run_until(m->set, connect_and_join, m, &o), 0);
    weft_tcp_listener_close(m->listener);
    return NULL;
}

static void a_local_task_accepts_in_the_runtime_that_drives_it_now(struct test_env *env)
{
    (void)env;
    struct moved m = {.first = test_runtime_create(TEST_MT1),
                      .second = test_runtime_create(TEST_MT1)};
    CHECK_EQ(weft_local_set_create(NULL, &m.set), 0);
    CHECK_EQ(weft_block_on(m.second, listen_here, &m, NULL), 0);
    CHECK_EQ(weft_block_on(m.first, drive_first, &m, NULL), 0);
    CHECK_EQ(weft_runtime_destroy(m.first), 0);
    CHECK_EQ(weft_block_on(m.second, drive_second, &m, NULL), 0);
    CHECK_EQ(weft_local_set_destroy(m.set), 0);
    CHECK_EQ(weft_runtime_destroy(m.second), 0);
}

TEST_MAIN(IN_TASK(connections_that_cannot_be_kept_stay_in_the_queue),
          IN_TASK(a_future_without_a_place_for_the_connection),
          IN_TASK(closing_between_two_polls_is_no_misuse),
          PLAIN(a_local_task_accepts_in_the_runtime_that_drives_it_now))
