/* Streams and what is built on them: IU of BEHAVIOURS, as far as it has come to C. */
#include "harness.h"
#include "socks.h"
#include "sync.h"

#include <weft/io.h>
#include <weft/stream.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- a stream that does as it is told ---- */

struct script {
    weft_stream stream;
    const char *input; /* what reads give, */
    size_t piece;      /* this much a time, */
    int error_at_end;  /* and then this, or 0: the end */
    char *output;
    size_t written, write_piece; /* a write takes at most this much; 0: nothing at all */
    size_t fail_after;           /* bytes written until writes fail with -EPIPE; 0: never */
    int reads, writes, flushes, shutdowns, closes;
};

static struct script *script_of(weft_stream *s)
{
    return (struct script *)((char *)s - offsetof(struct script, stream));
}

static ssize_t script_read(weft_stream *s, void *buf, size_t len)
{
    struct script *c = script_of(s);
    size_t n = strlen(c->input);
    c->reads++;
    if (n == 0)
        return c->error_at_end;
    n = n < len ? n : len;
    n = c->piece && c->piece < n ? c->piece : n;
    memcpy(buf, c->input, n);
    c->input += n;
    return (ssize_t)n;
}

static ssize_t script_write(weft_stream *s, const void *buf, size_t len)
{
    struct script *c = script_of(s);
    c->writes++;
    if (c->fail_after && c->written >= c->fail_after)
        return -EPIPE;
    size_t n = len < c->write_piece ? len : c->write_piece;
    memcpy(c->output + c->written, buf, n);
    c->written += n;
    return (ssize_t)n;
}

static int script_flush(weft_stream *s)
{
    script_of(s)->flushes++;
    return 0;
}

static int script_shutdown(weft_stream *s)
{
    script_of(s)->shutdowns++;
    return 0;
}

static void script_close(weft_stream *s)
{
    script_of(s)->closes++;
}

static const weft_stream_ops script_ops = {
    .read = script_read,
    .write = script_write,
    .flush = script_flush,
    .shutdown = script_shutdown,
    .close = script_close,
};

static char script_output[100000];

static struct script script(const char *input, size_t piece)
{
    memset(script_output, 0, sizeof(script_output));
    return (struct script){
        .stream = {&script_ops},
        .input = input,
        .piece = piece,
        .output = script_output,
        .write_piece = SIZE_MAX,
    };
}

/* ---- IU-01 ---- */

static void iu_01_read_exact(struct test_env *env)
{
    (void)env;
    struct script s = script("abcdefgh", 3);
    char buf[16] = "";
    size_t len = 99;
    CHECK_EQ(weft_read_exact(&s.stream, buf, 5, &len), 0);
    CHECK(len == 5 && memcmp(buf, "abcde", 5) == 0);
    CHECK_EQ(weft_read_exact(&s.stream, buf, 5, &len), -ENODATA); /* three were left */
    CHECK(len == 3 && memcmp(buf, "fgh", 3) == 0);
    CHECK_EQ(weft_read_exact(&s.stream, buf, 0, &len), 0);
    CHECK_EQ(len, 0);
    s = script("ab", 1);
    s.error_at_end = -ECONNRESET;
    CHECK_EQ(weft_read_exact(&s.stream, buf, 5, &len), -ECONNRESET);
    CHECK_EQ(len, 2);
    CHECK_EQ(weft_read_exact(&s.stream, buf, 1, NULL), -ECONNRESET);
    CHECK_EQ(weft_read_exact(NULL, buf, 1, &len), -EINVAL);
    CHECK_EQ(weft_read_exact(&s.stream, NULL, 1, &len), -EINVAL);
}

static void iu_01_read_to_end(struct test_env *env)
{
    (void)env;
    char *big = malloc(50001);
    char *buf = NULL;
    size_t len = 0, cap = 0;
    memset(big, 'b', 50000);
    big[50000] = '\0';
    struct script s = script(big, 777);
    CHECK_EQ(weft_read_to_end(&s.stream, SIZE_MAX, &buf, &len, &cap), 0);
    CHECK(len == 50000 && memcmp(buf, big, len) == 0);
    s = script("more", 0); /* appended */
    CHECK_EQ(weft_read_to_end(&s.stream, SIZE_MAX, &buf, &len, &cap), 0);
    CHECK(len == 50004 && memcmp(buf + 50000, "more", 4) == 0);
    free(buf);

    buf = malloc(4); /* large enough: it stays */
    len = 0;
    cap = 4;
    char *same = buf;
    s = script("four", 0);
    CHECK_EQ(weft_read_to_end(&s.stream, SIZE_MAX, &buf, &len, &cap), 0);
    CHECK(len == 4 && cap == 4 && buf == same);
    s = script("five", 0);
    CHECK_EQ(weft_read_to_end(&s.stream, 6, &buf, &len, &cap), -EMSGSIZE);
    CHECK(len == 6 && memcmp(buf, "fourfi", 6) == 0); /* partial data is kept */
    s = script("", 0);
    s.error_at_end = -EIO;
    CHECK_EQ(weft_read_to_end(&s.stream, 100, &buf, &len, &cap), -EIO);
    CHECK_EQ(len, 6);
    free(buf);
    free(big);
}

/* ---- IU-02 ---- */

static void expect_line(weft_bufreader *r, const char *want)
{
    const char *line;
    size_t len;
    CHECK_EQ(weft_bufreader_read_line(r, &line, &len), 1);
    CHECK_EQ(len, strlen(want));
    CHECK(strcmp(line, want) == 0); /* and there is a NUL */
}

static void iu_02_lines(struct test_env *env)
{
    (void)env;
    for (size_t piece = 1; piece < 9; piece++) {
        struct script s = script("one\ntwo\r\n\n\r\nth\rree\r\r\nlast", piece);
        weft_bufreader *r;
        const char *line;
        size_t len;
        CHECK_EQ(weft_bufreader_create(&s.stream, 16, &r), 0);
        expect_line(r, "one");
        expect_line(r, "two");
        expect_line(r, "");
        expect_line(r, "");
        expect_line(r, "th\rree\r");
        expect_line(r, "last"); /* without a newline */
        CHECK_EQ(weft_bufreader_read_line(r, &line, &len), 0);
        CHECK_EQ(weft_bufreader_read_line(r, &line, &len), 0);
        weft_bufreader_destroy(r);
    }
}

static void iu_02_read_until(struct test_env *env)
{
    (void)env;
    struct script s = script("a;bb;;tail", 2);
    weft_bufreader *r;
    const char *data;
    size_t len;
    CHECK_EQ(weft_bufreader_create(&s.stream, 8, &r), 0);
    static const char *const pieces[] = {"a;", "bb;", ";", "tail"};
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(weft_bufreader_read_until(r, ';', &data, &len), 1);
        CHECK(len == strlen(pieces[i]) && memcmp(data, pieces[i], len) == 0);
    }
    CHECK_EQ(weft_bufreader_read_until(r, ';', &data, &len), 0);
    weft_bufreader_destroy(r);
}

static void iu_02_a_line_too_long_and_errors_keep_the_data(struct test_env *env)
{
    (void)env;
    struct script s = script("12345678", 3);
    weft_bufreader *r;
    const char *data;
    char buf[16];
    size_t len;
    CHECK_EQ(weft_bufreader_create(&s.stream, 6, &r), 0);
    CHECK_EQ(weft_bufreader_read_line(r, &data, &len), -EMSGSIZE);
    CHECK_EQ(weft_bufreader_read_line(r, &data, &len), -EMSGSIZE);
    CHECK_EQ(weft_bufreader_read_exact(r, buf, 8, &len), 0);
    CHECK(memcmp(buf, "12345678", 8) == 0);
    weft_bufreader_destroy(r);

    s = script("par", 0);
    s.error_at_end = -ECONNRESET;
    CHECK_EQ(weft_bufreader_create(&s.stream, 0, &r), 0);
    CHECK_EQ(weft_bufreader_read_line(r, &data, &len), -ECONNRESET);
    s.input = "tial\n"; /* the call may be made again */
    expect_line(r, "partial");
    weft_bufreader_destroy(r);
    weft_bufreader_destroy(NULL);
}

struct line_reader {
    weft_bufreader *r;
    atomic_int rc;
};

static void *read_a_line(void *arg)
{
    struct line_reader *l = arg;
    const char *line;
    size_t len;
    atomic_store(&l->rc, weft_bufreader_read_line(l->r, &line, &len));
    return NULL;
}

static void iu_02_abort_keeps_what_was_read(struct test_env *env)
{
    weft_tcp *conn;
    int fd;
    struct line_reader l = {.rc = 1};
    socks_raw_pair(&conn, &fd);
    CHECK_EQ(weft_bufreader_create(weft_tcp_stream(conn), 0, &l.r), 0);
    socks_raw_write(fd, "half a ", 7);
    weft_task *t = SPAWN(read_a_line, &l);
    CHECK_SOON(socks_is_waiting(env->handle, "readable descriptor", 1));
    CHECK_EQ(weft_abort(t), 0);
    test_join_kind(t);
    CHECK_EQ(atomic_load(&l.rc), -ECANCELED);
    socks_raw_write(fd, "line\n", 5);
    expect_line(l.r, "half a line");
    weft_bufreader_destroy(l.r);
    weft_tcp_close(conn);
    close(fd);
}

/* ---- IU-04 ---- */

static void iu_04_write_all(struct test_env *env)
{
    (void)env;
    struct script s = script("", 0);
    size_t len;
    s.write_piece = 3;
    CHECK_EQ(weft_write_all(&s.stream, "0123456789", 10, &len), 0);
    CHECK(len == 10 && s.writes == 4 && memcmp(s.output, "0123456789", 10) == 0);
    s.write_piece = 0;
    CHECK_EQ(weft_write_all(&s.stream, "x", 1, &len), -EIO); /* nothing is taken */
    CHECK_EQ(len, 0);
    s.write_piece = 2;
    s.fail_after = 14;
    CHECK_EQ(weft_write_all(&s.stream, "abcdef", 6, &len), -EPIPE);
    CHECK_EQ(len, 4); /* exactly as far as it came */
    CHECK_EQ(weft_write_all(&s.stream, NULL, 0, &len), 0);
    CHECK_EQ(weft_write_all(&s.stream, NULL, 1, &len), -EINVAL);
}

static void iu_04_vectors(struct test_env *env)
{
    (void)env;
    struct script s = script("", 0); /* has no writev: made of writes */
    char a[] = "ab", b[] = "", c[] = "cdefg";
    struct iovec iov[4] = {{NULL, 0}, {a, 2}, {b, 0}, {c, 5}};
    size_t len;
    s.write_piece = 2;
    CHECK_EQ(weft_writev_all(&s.stream, iov, 4, &len), 0);
    CHECK(len == 7 && memcmp(s.output, "abcdefg", 7) == 0);

    s.fail_after = 10;
    iov[0] = (struct iovec){a, 2};
    iov[1] = (struct iovec){c, 5};
    CHECK_EQ(weft_writev_all(&s.stream, iov, 2, &len), -EPIPE);
    CHECK_EQ(len, 4);
    CHECK(iov[0].iov_len == 0 && iov[1].iov_len == 3 && iov[1].iov_base == c + 2); /* advanced */

    /* In one call where the stream can. */
    weft_tcp *conn;
    int fd;
    char got[8];
    socks_raw_pair(&conn, &fd);
    iov[0] = (struct iovec){a, 2};
    iov[1] = (struct iovec){c, 5};
    CHECK_EQ(weft_stream_writev(weft_tcp_stream(conn), iov, 2), 7);
    socks_raw_read(fd, got, 7);
    CHECK(memcmp(got, "abcdefg", 7) == 0);
    socks_raw_write(fd, "1234567", 7);
    char x[3], y[9];
    struct iovec in[2] = {{x, 3}, {y, 9}};
    CHECK_EQ(weft_tcp_ready(conn, WEFT_READY_READ, NULL), 0);
    CHECK_EQ(weft_stream_readv(weft_tcp_stream(conn), in, 2), 7);
    CHECK(memcmp(x, "123", 3) == 0 && memcmp(y, "4567", 4) == 0);
    CHECK_EQ(weft_stream_writev(weft_tcp_stream(conn), iov, -1), -EINVAL);
    CHECK_EQ(weft_stream_writev(weft_tcp_stream(conn), NULL, 1), -EINVAL);
    weft_tcp_close(conn);
    close(fd);
}

/* ---- IU-05 ---- */

static void iu_05_the_buffer(struct test_env *env)
{
    (void)env;
    struct script s = script("abcdefghijklmnopqrstuvwxyz", 0);
    weft_bufreader *r;
    const char *data;
    char buf[32];
    CHECK_EQ(weft_bufreader_create(&s.stream, 8, &r), 0);
    CHECK_EQ(weft_bufreader_read(r, buf, 2), 2);
    CHECK_EQ(s.reads, 1);
    CHECK_EQ(weft_bufreader_fill(r, &data), 6); /* no more than the capacity was read */
    CHECK(memcmp(data, "cdefgh", 6) == 0);
    weft_bufreader_consume(r, 1);
    CHECK_EQ(weft_bufreader_read(r, buf, 20), 5); /* what is there, without another read */
    CHECK_EQ(s.reads, 1);
    CHECK_EQ(weft_bufreader_read(r, buf, 10), 10); /* big: straight from the stream */
    CHECK(memcmp(buf, "ijklmnopqr", 10) == 0);
    CHECK_EQ(s.reads, 2);
    CHECK_EQ(weft_bufreader_peek(r, 3, &data), 8);
    CHECK_EQ(weft_bufreader_peek(r, 9, &data), -EMSGSIZE);
    weft_bufreader_consume(r, 100); /* takes what is there */
    CHECK_EQ(weft_bufreader_fill(r, &data), 0);
    CHECK_EQ(weft_bufreader_read(r, buf, 1), 0);
    weft_bufreader_destroy(r);
    CHECK_EQ(weft_bufreader_create(NULL, 0, &r), -EINVAL);
    CHECK_EQ(weft_bufreader_create(&s.stream, SIZE_MAX, &r), -EINVAL);
    CHECK_EQ(weft_bufreader_read(NULL, buf, 1), -EINVAL);

    s = script("abcdefgh", 3); /* peek goes on reading */
    CHECK_EQ(weft_bufreader_create(&s.stream, 8, &r), 0);
    CHECK_EQ(weft_bufreader_peek(r, 5, &data), 6);
    CHECK(memcmp(data, "abcdef", 6) == 0);
    CHECK_EQ(weft_bufreader_peek(r, 8, &data), 8);
    weft_bufreader_consume(r, 6);
    CHECK_EQ(weft_bufreader_peek(r, 8, &data), 2); /* the end */
    weft_bufreader_destroy(r);
}

/* ---- IU-06 ---- */

static void iu_06_buffered_writer(struct test_env *env)
{
    (void)env;
    struct script s = script("", 0);
    weft_bufwriter *w;
    size_t len;
    CHECK_EQ(weft_bufwriter_create(&s.stream, 8, &w), 0);
    CHECK_EQ(weft_bufwriter_write(w, "abc", 3, &len), 0);
    CHECK_EQ(weft_bufwriter_printf(w, "%d", 42), 0);
    CHECK(s.writes == 0 && weft_bufwriter_pending(w) == 5 && len == 3);
    CHECK_EQ(weft_bufwriter_write(w, "defgh", 5, NULL), 0); /* fills it, writes it, goes on */
    CHECK_EQ(weft_bufwriter_flush(w), 0);
    CHECK_EQ(s.flushes, 1);
    CHECK(s.written == 10 && memcmp(s.output, "abc42defgh", 10) == 0);
    int writes = s.writes;
    CHECK_EQ(weft_bufwriter_write(w, "01234567", 8, NULL), 0); /* big: straight through */
    CHECK(s.writes == writes + 1 && weft_bufwriter_pending(w) == 0);
    CHECK_EQ(weft_bufwriter_printf(w, "%s", "ninebytes"), -EMSGSIZE);
    CHECK_EQ(weft_bufwriter_write(w, "xyz", 3, NULL), 0);
    CHECK_EQ(weft_bufwriter_printf(w, "%s", "8 bytes."), 0); /* after writing what is in the way */
    CHECK_EQ(weft_bufwriter_pending(w), 8);

    s.write_piece = 3;
    s.fail_after = s.written + 6;
    CHECK_EQ(weft_bufwriter_flush(w), -EPIPE);
    CHECK_EQ(weft_bufwriter_pending(w), 2); /* the rest is kept */
    s.fail_after = 0;
    CHECK_EQ(weft_bufwriter_flush(w), 0);
    CHECK(s.written == 29 && memcmp(s.output, "abc42defgh01234567xyz8 bytes.", 29) == 0);
    weft_bufwriter_destroy(w);
    weft_bufwriter_destroy(NULL);
    CHECK_EQ(weft_bufwriter_create(NULL, 0, &w), -EINVAL);
    CHECK_EQ(weft_bufwriter_write(NULL, "", 0, NULL), -EINVAL);
}

/* ---- IU-07 ---- */

static void iu_07_copy(struct test_env *env)
{
    (void)env;
    struct script from = script("the quick brown fox", 5), to = script("", 0);
    uint64_t bytes = 0;
    to.write_piece = 2;
    CHECK_EQ(weft_copy(&from.stream, &to.stream, &bytes), 0);
    CHECK(bytes == 19 && to.written == 19 && memcmp(to.output, "the quick brown fox", 19) == 0);
    CHECK(to.flushes >= 1); /* before it asks for more */

    from = script("0123456789", 4);
    to.write_piece = 3;
    to.fail_after = to.written + 6;
    CHECK_EQ(weft_copy(&from.stream, &to.stream, &bytes), -EPIPE);
    CHECK_EQ(bytes, 7);
    from.input = "";
    from.error_at_end = -ECONNRESET;
    CHECK_EQ(weft_copy(&from.stream, &to.stream, &bytes), -ECONNRESET);
    CHECK_EQ(bytes, 0);
    CHECK_EQ(weft_copy(NULL, &to.stream, &bytes), -EINVAL);
    CHECK_EQ(weft_copy(&from.stream, NULL, NULL), -EINVAL);
}

#define ECHO_BYTES 200000

static void *echo(void *arg)
{
    uint64_t bytes;
    EXPECT_EQ(weft_copy(weft_tcp_stream(arg), weft_tcp_stream(arg), &bytes), 0);
    EXPECT_EQ(bytes, ECHO_BYTES);
    weft_tcp_close(arg);
    return NULL;
}

static void *write_bytes(void *arg)
{
    char *all = malloc(ECHO_BYTES);
    for (size_t i = 0; i < ECHO_BYTES; i++)
        all[i] = (char)(i * 7 + i / 256);
    EXPECT_EQ(weft_write_all(weft_tcp_stream(arg), all, ECHO_BYTES, NULL), 0);
    free(all);
    EXPECT_EQ(weft_tcp_shutdown(arg, SHUT_WR), 0);
    return NULL;
}

static void read_bytes(weft_tcp *conn)
{
    char *all = malloc(ECHO_BYTES);
    char c;
    CHECK_EQ(weft_read_exact(weft_tcp_stream(conn), all, ECHO_BYTES, NULL), 0);
    for (size_t i = 0; i < ECHO_BYTES; i++)
        CHECK(all[i] == (char)(i * 7 + i / 256));
    CHECK_EQ(weft_tcp_read(conn, &c, 1), 0);
    free(all);
}

static void iu_07_echo(struct test_env *env)
{
    (void)env;
    weft_tcp *a, *b;
    socks_pair(&a, &b);
    weft_task *server = SPAWN(echo, b);
    weft_task *writer = SPAWN(write_bytes, a);
    read_bytes(a);
    test_join_value(writer);
    test_join_value(server);
    weft_tcp_close(a);
}

struct proxy {
    weft_tcp *left, *right;
    uint64_t to_right, to_left;
    atomic_int rc;
};

static void *run_proxy(void *arg)
{
    struct proxy *p = arg;
    int rc = weft_copy_bidirectional(weft_tcp_stream(p->left), weft_tcp_stream(p->right),
                                     &p->to_right, &p->to_left);
    atomic_store(&p->rc, rc);
    weft_tcp_close(p->left);
    weft_tcp_close(p->right);
    return NULL;
}

static void iu_07_both_ways(struct test_env *env)
{
    (void)env;
    struct proxy p = {.rc = 1};
    weft_tcp *client, *server;
    socks_pair(&client, &p.left);
    socks_pair(&p.right, &server);
    weft_task *proxy = SPAWN(run_proxy, &p);
    weft_task *echoer = SPAWN(echo, server);
    weft_task *writer = SPAWN(write_bytes, client);
    read_bytes(client); /* the half-close went through, and its answer came back */
    test_join_value(writer);
    test_join_value(echoer);
    test_join_value(proxy);
    CHECK_EQ(atomic_load(&p.rc), 0);
    CHECK(p.to_right == ECHO_BYTES && p.to_left == ECHO_BYTES);
    weft_tcp_close(client);
}

static void iu_07_a_stalled_side_does_not_stop_the_other(struct test_env *env)
{
    struct proxy p = {.rc = 1};
    int left, right;
    char c, *big = calloc(1, 1 << 20);
    socks_raw_pair(&p.left, &left);
    socks_raw_pair(&p.right, &right);
    weft_task *proxy = SPAWN(run_proxy, &p);
    fcntl(left, F_SETFL, O_NONBLOCK);
    /* Nobody reads on the right: until no more is taken, also when the proxy is slow to run. */
    for (int quiet = 0; quiet < 20; quiet++) {
        while (send(left, big, 1 << 20, MSG_NOSIGNAL) > 0)
            quiet = 0;
        CHECK_EQ(weft_sleep(2 * WEFT_MS), 0);
    }
    CHECK_SOON(socks_is_waiting(env->handle, "writable descriptor", 1));
    socks_raw_write(right, "!", 1);
    for (int i = 0; recv(left, &c, 1, 0) != 1; i++) {
        CHECK(i < 5000);
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
    }
    CHECK_EQ(c, '!');
    /* An error in one direction ends the other. */
    socks_raw_reset(right);
    test_join_value(proxy);
    CHECK(atomic_load(&p.rc) == -ECONNRESET || atomic_load(&p.rc) == -EPIPE);
    CHECK(p.to_left == 1);
    close(left);
    free(big);
}

static ssize_t wait_for_ever(weft_stream *s, void *buf, size_t len)
{
    (void)s, (void)buf, (void)len;
    return weft_sleep(WEFT_NEVER);
}

/* The other one would go on for ever: nothing comes there, and no end. */
static void iu_07_an_error_one_way_ends_the_other(struct test_env *env)
{
    static const weft_stream_ops silent_ops = {.read = wait_for_ever, .write = script_write};
    (void)env;
    weft_tcp *conn;
    int fd, rc = 0;
    uint64_t there, back;
    socks_raw_pair(&conn, &fd);
    struct script s = script("ab", 0);
    s.error_at_end = -EIO;
    WEFT_TIMEOUT(10 * WEFT_SEC)
        rc = weft_copy_bidirectional(weft_tcp_stream(conn), &s.stream, &there, &back);
    CHECK_EQ(rc, -EIO);
    CHECK(there == 0 && back == 2);

    s = script("", 0);
    s.stream.ops = &silent_ops;
    s.write_piece = s.fail_after = 1;
    socks_raw_write(fd, "xy", 2);
    WEFT_TIMEOUT(10 * WEFT_SEC)
        rc = weft_copy_bidirectional(weft_tcp_stream(conn), &s.stream, &there, &back);
    CHECK_EQ(rc, -EPIPE);
    CHECK(there == 1 && back == 0);
    weft_tcp_close(conn);
    close(fd);
}

static void iu_07_abort_takes_both_directions_along(struct test_env *env)
{
    for (int unwind = 0; unwind < 2; unwind++) {
        struct proxy p = {.rc = 1};
        int left, right;
        weft_task *t;
        weft_spawn_options o = {.on_abort = unwind ? WEFT_ON_ABORT_UNWIND : WEFT_ON_ABORT_RETURN};
        socks_raw_pair(&p.left, &left);
        socks_raw_pair(&p.right, &right);
        CHECK_EQ(weft_spawn_with(&o, run_proxy, &p, &t), 0);
        CHECK_SOON(socks_is_waiting(env->handle, "readable descriptor", 2));
        CHECK_EQ(weft_abort(t), 0);
        test_join_kind(t);
        CHECK(!socks_is_waiting(env->handle, "readable descriptor", 1)); /* none is left */
        if (unwind) {
            weft_tcp_close(p.left);
            weft_tcp_close(p.right);
        } else {
            CHECK_EQ(atomic_load(&p.rc), -ECANCELED);
        }
        close(left);
        close(right);
    }
}

/* ---- streams of other things ---- */

static void a_stream_of_a_pipe(struct test_env *env)
{
    (void)env;
    int fd[2];
    weft_fd *r, *w;
    char buf[8];
    CHECK_EQ(pipe(fd), 0);
    CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_OWNED, &r), 0);
    CHECK_EQ(weft_fd_open(fd[1], WEFT_FD_OWNED, &w), 0);
    CHECK_EQ(weft_write_all(weft_fd_stream(w), "pipe", 4, NULL), 0);
    CHECK_EQ(weft_stream_flush(weft_fd_stream(w)), 0);
    CHECK_EQ(weft_stream_shutdown(weft_fd_stream(w)), -ENOTSUP);
    weft_stream_close(weft_fd_stream(w));
    CHECK_EQ(weft_read_exact(weft_fd_stream(r), buf, 5, NULL), -ENODATA);
    CHECK_EQ(weft_fd_close(w), -EBADF);
    CHECK_EQ(weft_stream_read(weft_fd_stream(w), buf, 1), -EBADF);
    weft_fd_close(r);
    weft_stream_close(NULL);
    CHECK_EQ(weft_stream_read(NULL, buf, 1), -EINVAL);
    CHECK_EQ(weft_stream_write(NULL, buf, 1), -EINVAL);
}

struct ends {
    weft_stream *left, *right;
};

static void *copy_both_ways(void *arg)
{
    struct ends *e = arg;
    /* Here: nobody closes what an error leaves. */
    CHECK_EQ(weft_copy_bidirectional(e->left, e->right, NULL, NULL), 0);
    return NULL;
}

/* The end is passed on to a socket of another kind too: what is behind it need not guess. */
static void iu_07_both_ways_with_a_unix_socket(struct test_env *env)
{
    (void)env;
    struct ends e;
    weft_tcp *client, *left;
    weft_fd *right;
    int fd[2];
    char c = 'x';
    socks_pair(&client, &left);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    CHECK_EQ(weft_fd_open(fd[0], WEFT_FD_OWNED, &right), 0);
    e = (struct ends){weft_tcp_stream(left), weft_fd_stream(right)};
    weft_task *proxy = SPAWN(copy_both_ways, &e);
    CHECK_EQ(weft_tcp_write(client, &c, 1), 1);
    CHECK_EQ(weft_tcp_shutdown(client, SHUT_WR), 0);
    CHECK_SOON(recv(fd[1], &c, 1, MSG_DONTWAIT) == 1);
    CHECK_SOON(recv(fd[1], &c, 1, MSG_DONTWAIT) == 0);
    CHECK_EQ(send(fd[1], &c, 1, 0), 1); /* the other way goes on */
    CHECK_EQ(weft_tcp_read(client, &c, 1), 1);
    close(fd[1]);
    CHECK_EQ(weft_tcp_read(client, &c, 1), 0);
    test_join_value(proxy);
    CHECK_EQ(weft_stream_shutdown(weft_fd_stream(right)), 0); /* again */
    CHECK_EQ(weft_fd_close(right), 0);
    CHECK_EQ(weft_stream_shutdown(weft_fd_stream(right)), -EBADF);
    weft_tcp_close(left);
    weft_tcp_close(client);
}

TEST_MAIN(IN_TASK(iu_01_read_exact), IN_TASK(iu_01_read_to_end), IN_TASK(iu_02_lines),
          IN_TASK(iu_02_read_until), IN_TASK(iu_02_a_line_too_long_and_errors_keep_the_data),
          IN_TASK(iu_02_abort_keeps_what_was_read), IN_TASK(iu_04_write_all),
          IN_TASK(iu_04_vectors), IN_TASK(iu_05_the_buffer), IN_TASK(iu_06_buffered_writer),
          IN_TASK(iu_07_copy), IN_TASK(iu_07_echo), IN_TASK(iu_07_both_ways),
          IN_TASK(iu_07_both_ways_with_a_unix_socket),
          IN_TASK(iu_07_a_stalled_side_does_not_stop_the_other),
          IN_TASK(iu_07_an_error_one_way_ends_the_other),
          IN_TASK(iu_07_abort_takes_both_directions_along), IN_TASK(a_stream_of_a_pipe))
