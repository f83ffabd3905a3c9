/* ctest: parallel */
/* Closing what a loop of the library works on, between two of its calls: it ends with -EBADF, and
 * leaves alone who has the slot next. */
#include "harness.h"
#include "socks.h"
#include "sync.h"

#include <weft/io.h>
#include <weft/net.h>
#include <weft/stream.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A stream that stops in its first call, until it may go on. */
struct stopper {
    weft_stream stream;
    atomic_int inside; /* calls that have stopped */
    struct gate go_on;
    int reads;
    char got[64];
    size_t got_len;
};

static void stop(struct stopper *s)
{
    atomic_fetch_add(&s->inside, 1);
    WEFT_SHIELD /* a half of a copy both ways that ends aborts the other */
        EXPECT_EQ(gate_wait(&s->go_on), 0);
}

static ssize_t stopper_read(weft_stream *stream, void *buf, size_t len)
{
    struct stopper *s = (struct stopper *)stream;
    stop(s);
    *(char *)buf = 'x';
    return len > 0 && s->reads++ == 0; /* one byte, then the end */
}

static ssize_t stopper_write(weft_stream *stream, const void *buf, size_t len)
{
    struct stopper *s = (struct stopper *)stream;
    stop(s);
    if (len > sizeof(s->got) - s->got_len)
        len = sizeof(s->got) - s->got_len;
    memcpy(s->got + s->got_len, buf, len);
    s->got_len += len;
    return (ssize_t)len;
}

static const weft_stream_ops stopper_ops = {.read = stopper_read, .write = stopper_write};

/* A connection, and who is accepted into its slot. */
struct scene {
    weft_tcp_listener *listener;
    weft_tcp *conn, *next;
    int peer, next_peer;
    uint16_t port;
    struct stopper stopper;
    uint64_t bytes;
    int rc;
};

static void open_scene(struct scene *s)
{
    memset(s, 0, sizeof(*s));
    s->stopper.stream.ops = &stopper_ops;
    gate_init(&s->stopper.go_on);
    s->listener = socks_listen(&s->port);
    s->peer = socks_raw_connect(s->port);
    CHECK_EQ(weft_tcp_accept(s->listener, &s->conn), 0);
    test_log_clear();
}

/* The connection goes, another takes its place, and its peer sends its secret and no more. */
static void close_and_accept(struct scene *s)
{
    weft_stream *stream = weft_tcp_stream(s->conn);
    CHECK_EQ(weft_tcp_close(s->conn), 0);
    s->next_peer = socks_raw_connect(s->port);
    CHECK_EQ(weft_tcp_accept(s->listener, &s->next), 0);
    EXPECT(weft_tcp_stream(s->next) == stream); /* the same slot */
    socks_raw_write(s->next_peer, "secret", 6);
    CHECK_EQ(shutdown(s->next_peer, SHUT_WR), 0);
}

/* Nothing was taken from the next owner, or written to it, nor was it shut down; and closing was no
 * misuse. */
static void close_scene(struct scene *s)
{
    char buf[16];
    CHECK_EQ(weft_read_exact(weft_tcp_stream(s->next), buf, 6, NULL), 0);
    CHECK(memcmp(buf, "secret", 6) == 0);
    CHECK_EQ(weft_tcp_write(s->next, "own", 3), 3);
    EXPECT_EQ(weft_tcp_close(s->next), 0);
    socks_raw_read(s->next_peer, buf, 3);
    CHECK(memcmp(buf, "own", 3) == 0);
    CHECK_EQ(recv(s->next_peer, buf, sizeof(buf), 0), 0);
    EXPECT_EQ(test_log_count("closed before"), 0);
    close(s->peer);
    close(s->next_peer);
    weft_tcp_listener_close(s->listener);
    gate_fini(&s->stopper.go_on);
}

/* ---- copies ---- */

static void *copy_from(void *arg)
{
    struct scene *s = arg;
    s->rc = weft_copy(weft_tcp_stream(s->conn), &s->stopper.stream, &s->bytes);
    return NULL;
}

static void *copy_to(void *arg)
{
    struct scene *s = arg;
    s->rc = weft_copy(&s->stopper.stream, weft_tcp_stream(s->conn), &s->bytes);
    return NULL;
}

static void *copy_both_ways(void *arg)
{
    struct scene *s = arg;
    s->rc = weft_copy_bidirectional(weft_tcp_stream(s->conn), &s->stopper.stream, &s->bytes, NULL);
    return NULL;
}

/* `ways` calls of the stopper are then under way, and none on the connection. */
static void copy_while_it_is_closed(weft_task_fn copy, int ways, size_t want, bool ends_at_once)
{
    struct scene s;
    open_scene(&s);
    s.stopper.reads = ends_at_once;
    socks_raw_write(s.peer, "first", 5);
    weft_task *task = SPAWN(copy, &s);
    CHECK_SOON(atomic_load(&s.stopper.inside) == ways);
    close_and_accept(&s);
    gate_open(&s.stopper.go_on);
    test_join_value(task);
    EXPECT_EQ(s.rc, -EBADF);
    EXPECT(s.bytes <= want && s.stopper.got_len <= want);
    EXPECT(memcmp(s.stopper.got, "first", s.stopper.got_len) == 0);
    close_scene(&s);
}

static void a_copy_from_what_is_closed_meanwhile(struct test_env *env)
{
    (void)env;
    copy_while_it_is_closed(copy_from, 1, 5, false);
}

static void a_copy_to_what_is_closed_meanwhile(struct test_env *env)
{
    (void)env;
    copy_while_it_is_closed(copy_to, 1, 0, false);
}

static void a_copy_both_ways_with_what_is_closed_meanwhile(struct test_env *env)
{
    (void)env;
    copy_while_it_is_closed(copy_both_ways, 2, 5, false);
    copy_while_it_is_closed(copy_both_ways, 2, 5, true); /* an end to pass on, to nobody */
}

/* The same of a descriptor, for an end to pass on. */
struct fd_scene {
    weft_fd *wfd;
    struct stopper stopper;
    int rc;
};

static void *copy_both_ways_with_a_descriptor(void *arg)
{
    struct fd_scene *s = arg;
    s->rc = weft_copy_bidirectional(weft_fd_stream(s->wfd), &s->stopper.stream, NULL, NULL);
    return NULL;
}

static void an_end_is_not_passed_on_to_the_next_descriptor(struct test_env *env)
{
    (void)env;
    int first[2], next[2];
    char buf[8];
    struct fd_scene s = {.stopper = {.stream = {&stopper_ops}, .reads = 1}};
    gate_init(&s.stopper.go_on);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, first), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, next), 0);
    CHECK_EQ(weft_fd_open(first[0], WEFT_FD_OWNED, &s.wfd), 0);
    weft_stream *stream = weft_fd_stream(s.wfd);
    socks_raw_write(first[1], "x", 1);
    weft_task *task = SPAWN(copy_both_ways_with_a_descriptor, &s);
    CHECK_SOON(atomic_load(&s.stopper.inside) == 2);
    CHECK_EQ(weft_fd_close(s.wfd), 0);
    CHECK_EQ(weft_fd_open(next[0], WEFT_FD_OWNED, &s.wfd), 0);
    EXPECT(weft_fd_stream(s.wfd) == stream); /* the same slot */
    gate_open(&s.stopper.go_on);
    test_join_value(task);
    EXPECT_EQ(s.rc, -EBADF);
    CHECK_EQ(weft_fd_write(s.wfd, "own", 3), 3);
    socks_raw_read(next[1], buf, 3);
    CHECK_EQ(weft_fd_close(s.wfd), 0);
    close(first[1]);
    close(next[1]);
    gate_fini(&s.stopper.go_on);
}

/* ---- buffers ---- */

static void a_reader_of_what_was_closed(struct test_env *env)
{
    (void)env;
    struct scene s;
    weft_bufreader *r;
    const char *line;
    size_t len;
    open_scene(&s);
    CHECK_EQ(weft_bufreader_create(weft_tcp_stream(s.conn), 0, &r), 0);
    socks_raw_write(s.peer, "one\ntwo", 7);
    CHECK_EQ(weft_bufreader_read_line(r, &line, &len), 1);
    close_and_accept(&s);
    EXPECT_EQ(weft_bufreader_read_line(r, &line, &len), -EBADF);
    EXPECT_EQ(weft_bufreader_peek(r, 8, &line), -EBADF);
    EXPECT_EQ(weft_bufreader_fill(r, &line), 3); /* what had come is still there */
    weft_bufreader_destroy(r);
    close_scene(&s);
}

static void a_writer_to_what_was_closed(struct test_env *env)
{
    (void)env;
    struct scene s;
    weft_bufwriter *w;
    open_scene(&s);
    CHECK_EQ(weft_bufwriter_create(weft_tcp_stream(s.conn), 16, &w), 0);
    CHECK_EQ(weft_bufwriter_printf(w, "mine"), 0);
    close_and_accept(&s);
    EXPECT_EQ(weft_bufwriter_flush(w), -EBADF);
    EXPECT_EQ(weft_bufwriter_pending(w), 4);
    EXPECT_EQ(weft_bufwriter_write(w, "more than there is room for", 27, NULL), -EBADF);
    weft_bufwriter_destroy(w);
    close_scene(&s);
}

/* Also when nothing is left to write. */
static void flushing_what_was_closed(struct test_env *env)
{
    (void)env;
    struct scene s;
    weft_bufwriter *w;
    open_scene(&s);
    CHECK_EQ(weft_bufwriter_create(weft_tcp_stream(s.conn), 16, &w), 0);
    CHECK_EQ(weft_bufwriter_flush(w), 0);
    close_and_accept(&s);
    EXPECT_EQ(weft_bufwriter_flush(w), -EBADF);
    weft_bufwriter_destroy(w);
    close_scene(&s);
}

static void closed_streams_flush_nothing(struct test_env *env)
{
    (void)env;
    weft_tcp *a, *b;
    int fd[2];
    weft_fd *wfd;
    socks_pair(&a, &b);
    CHECK_EQ(pipe2(fd, O_NONBLOCK | O_CLOEXEC), 0);
    CHECK_EQ(weft_fd_open(fd[1], WEFT_FD_OWNED, &wfd), 0);
    weft_stream *stream[2] = {weft_tcp_stream(a), weft_fd_stream(wfd)};
    for (int i = 0; i < 2; i++)
        CHECK_EQ(weft_stream_flush(stream[i]), 0);
    CHECK_EQ(weft_tcp_close(a), 0);
    CHECK_EQ(weft_fd_close(wfd), 0);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(weft_stream_flush(stream[i]), -EBADF);
    EXPECT_EQ(weft_stream_flush(weft_tcp_stream(a)), -EBADF);
    EXPECT_EQ(weft_stream_flush(weft_fd_stream(NULL)), -EBADF);
    CHECK_EQ(weft_tcp_close(b), 0);
    close(fd[0]);
    test_log_clear();
}

/* ---- loops over a descriptor, which yield when their budget is used up ---- */

#define PACKETS 250

struct pipes {
    weft_fd *fd, *next;
    int write_end, next_write_end;
};

/* A pipe of packets, each of one byte: so many reads. */
static void open_pipe(char byte, weft_fd **ret_fd, int *ret_write_end)
{
    int fd[2];
    CHECK_EQ(pipe2(fd, O_DIRECT | O_CLOEXEC), 0);
    CHECK(fcntl(fd[1], F_SETPIPE_SZ, 1 << 20) > 0); /* a page a packet */
    CHECK_EQ(fcntl(fd[1], F_SETFL, O_DIRECT | O_NONBLOCK), 0);
    for (int i = 0; i < PACKETS; i++)
        CHECK_EQ(write(fd[1], &byte, 1), 1);
    CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_OWNED, ret_fd), 0);
    *ret_write_end = fd[1];
}

static void *replace_pipe(void *arg)
{
    struct pipes *p = arg;
    EXPECT_EQ(weft_fd_close(p->fd), 0);
    open_pipe('2', &p->next, &p->next_write_end);
    close(p->next_write_end);
    return NULL;
}

static void loops_over_what_is_closed_meanwhile(struct test_env *env)
{
    (void)env;
    test_log_clear();
    for (int to_end = 0; to_end < 2; to_end++) {
        struct pipes p;
        char *buf = NULL;
        size_t len = 0, cap = 0;
        int rc;
        open_pipe('1', &p.fd, &p.write_end);
        CHECK_EQ(weft_fd_wait(p.fd, WEFT_READY_READ, NULL), 0); /* no read will */
        weft_task *task = SPAWN(replace_pipe, &p);              /* runs when this one yields */
        if (to_end) {
            rc = weft_read_to_end(weft_fd_stream(p.fd), SIZE_MAX, &buf, &len, &cap);
        } else {
            buf = malloc(PACKETS);
            rc = weft_read_exact(weft_fd_stream(p.fd), buf, PACKETS, &len);
        }
        test_join_value(task);
        EXPECT_EQ(rc, -EBADF);
        EXPECT(len > 0 && len < PACKETS && memchr(buf, '2', len) == NULL);
        EXPECT_EQ(weft_fd_close(p.next), 0);
        close(p.write_end);
        free(buf);
    }
    EXPECT_EQ(test_log_count("closed before"), 0);
}

/* ---- streams of one's own, made of functions of others ---- */

static ssize_t read_upper(weft_stream *s, void *buf, size_t len)
{
    (void)s;
    memset(buf, 'U', len);
    return (ssize_t)len;
}

static void a_stream_with_borrowed_functions_is_the_users(struct test_env *env)
{
    (void)env;
    weft_tcp *a, *b;
    char buf[4];
    socks_pair(&a, &b);
    weft_stream_ops ops = *weft_tcp_stream(a)->ops;
    ops.read = read_upper;
    weft_stream own = {&ops};
    EXPECT_EQ(weft_read_exact(&own, buf, 4, NULL), 0);
    EXPECT(memcmp(buf, "UUUU", 4) == 0);
    weft_tcp_close(a);
    weft_tcp_close(b);
}

/* ---- while a call is still inside ---- */

struct window {
    weft_fd *wfd;
    weft_stream *stream;
    weft_bufreader *reader;
};

static ssize_t close_from_inside(int fd, void *arg)
{
    struct window *w = arg;
    char c;
    CHECK_EQ(weft_fd_close(w->wfd), 0);
    /* It is closed, although the call keeps the descriptor: a second close takes nothing away. */
    weft_stream_close(w->stream);
    EXPECT(fcntl(fd, F_GETFD) >= 0);
    EXPECT_EQ(weft_stream_read(w->stream, &c, 1), -EBADF);
    CHECK_EQ(weft_bufreader_create(w->stream, 0, &w->reader), 0);
    return 7;
}

static void a_stream_closed_under_a_call_is_nobodys(struct test_env *env)
{
    int fd[2], next[2];
    struct window w;
    char buf[8];
    (void)env;
    CHECK_EQ(pipe2(fd, O_NONBLOCK | O_CLOEXEC), 0);
    CHECK_EQ(pipe2(next, O_NONBLOCK | O_CLOEXEC), 0);
    CHECK_EQ(weft_fd_open(fd[1], WEFT_FD_OWNED, &w.wfd), 0);
    w.stream = weft_fd_stream(w.wfd);
    CHECK_EQ(weft_fd_io(w.wfd, WEFT_READY_WRITE, close_from_inside, &w), 7);
    EXPECT(fcntl(fd[1], F_GETFD) < 0 && errno == EBADF);
    CHECK_EQ(weft_fd_open(next[0], WEFT_FD_OWNED, &w.wfd), 0);
    EXPECT(weft_fd_stream(w.wfd) == w.stream); /* the same slot */
    CHECK_EQ(write(next[1], "secret", 6), 6);
    EXPECT_EQ(weft_bufreader_read(w.reader, buf, sizeof(buf)), -EBADF);
    weft_bufreader_destroy(w.reader);
    CHECK_EQ(weft_fd_close(w.wfd), 0);
    close(fd[0]);
    close(next[1]);
    test_log_clear();
}

/* The handle's seven bits come round; what a reader was given does not. */
static void a_reader_knows_its_stream_however_often_the_slot_is_used(struct test_env *env)
{
    int fd[2];
    weft_fd *w;
    weft_bufreader *r;
    char buf[8];
    (void)env;
    CHECK_EQ(pipe2(fd, O_NONBLOCK | O_CLOEXEC), 0);
    CHECK_EQ(write(fd[1], "secret", 6), 6);
    CHECK_EQ(weft_fd_open(fd[0], 0, &w), 0);
    weft_stream *stream = weft_fd_stream(w);
    CHECK_EQ(weft_bufreader_create(stream, 0, &r), 0);
    for (int i = 0; i < 128; i++) {
        CHECK_EQ(weft_fd_close(w), 0);
        CHECK_EQ(weft_fd_open(fd[0], 0, &w), 0);
        EXPECT(weft_fd_stream(w) == stream);
        EXPECT_EQ(weft_bufreader_read(r, buf, sizeof(buf)), -EBADF);
    }
    weft_bufreader_destroy(r);
    CHECK_EQ(weft_fd_close(w), 0);
    close(fd[0]);
    close(fd[1]);
}

/* Listeners are no streams, but their slots may have been. */
static void a_stream_whose_slot_a_listener_has_is_closed(struct test_env *env)
{
    int fd[2];
    weft_fd *w;
    weft_tcp_listener *l;
    weft_bufreader *r;
    char buf[8];
    struct iovec iov = {buf, sizeof(buf)};
    (void)env;
    CHECK_EQ(pipe2(fd, O_NONBLOCK | O_CLOEXEC), 0);
    CHECK_EQ(weft_fd_open(fd[0], 0, &w), 0);
    weft_stream *stream = weft_fd_stream(w);
    CHECK_EQ(weft_fd_close(w), 0);
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    EXPECT_EQ(weft_stream_read(stream, buf, sizeof(buf)), -EBADF);
    EXPECT_EQ(weft_stream_writev(stream, &iov, 1), -EBADF);
    EXPECT_EQ(weft_stream_shutdown(stream), -EBADF);
    EXPECT_EQ(weft_write_all(stream, buf, sizeof(buf), NULL), -EBADF);
    CHECK_EQ(weft_bufreader_create(stream, 0, &r), 0);
    weft_stream_close(stream); /* not the listener */
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    CHECK_EQ(weft_fd_open(fd[0], 0, &w), 0);
    EXPECT(weft_fd_stream(w) == stream); /* the same slot */
    CHECK_EQ(write(fd[1], "secret", 6), 6);
    EXPECT_EQ(weft_bufreader_read(r, buf, sizeof(buf)), -EBADF);
    weft_bufreader_destroy(r);
    CHECK_EQ(weft_fd_close(w), 0);
    close(fd[0]);
    close(fd[1]);
}

TEST_MAIN(IN_TASK(a_copy_from_what_is_closed_meanwhile),
          IN_TASK(a_copy_to_what_is_closed_meanwhile),
          IN_TASK(a_copy_both_ways_with_what_is_closed_meanwhile),
          IN_TASK(an_end_is_not_passed_on_to_the_next_descriptor),
          IN_TASK(a_reader_of_what_was_closed), IN_TASK(a_writer_to_what_was_closed),
          IN_TASK(flushing_what_was_closed), IN_TASK(closed_streams_flush_nothing),
          IN_TASK_ON(loops_over_what_is_closed_meanwhile, TEST_CT),
          IN_TASK_ON(a_stream_closed_under_a_call_is_nobodys, TEST_CT),
          IN_TASK_ON(a_reader_knows_its_stream_however_often_the_slot_is_used, TEST_CT),
          IN_TASK_ON(a_stream_whose_slot_a_listener_has_is_closed, TEST_CT),
          IN_TASK(a_stream_with_borrowed_functions_is_the_users))
