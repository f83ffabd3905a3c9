/* ctest: parallel */
/* Streams that lack functions, fail or panic, and buffers at their limits: IU of BEHAVIOURS. */
#include "harness.h"

#include <weft/stream.h>

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFUSED(name, call)                                                                        \
    do {                                                                                           \
        test_log_clear();                                                                          \
        EXPECT_EQ(call, -EINVAL);                                                                  \
        EXPECT_LOGGED(name);                                                                       \
    } while (0)

/* Gives and takes one byte a time: `left` of them are there, and then `end` comes. */
struct drip {
    weft_stream stream;
    size_t left, taken;
    ssize_t end;
    int flush_rc, shutdown_rc;
    bool panics;
};

static ssize_t drip_read(weft_stream *s, void *buf, size_t len)
{
    struct drip *d = (struct drip *)s;
    if (d->panics)
        weft_panic("a stream that panics");
    if (d->left == 0 || len == 0)
        return len == 0 ? 0 : d->end;
    d->left--;
    *(char *)buf = 'd';
    return 1;
}

static ssize_t drip_write(weft_stream *s, const void *buf, size_t len)
{
    struct drip *d = (struct drip *)s;
    (void)buf;
    if (d->end < 0)
        return d->end;
    d->taken += len > 0;
    return len > 0;
}

static int drip_flush(weft_stream *s)
{
    return ((struct drip *)s)->flush_rc;
}

static int drip_shutdown(weft_stream *s)
{
    return ((struct drip *)s)->shutdown_rc;
}

static int drip_wait(weft_stream *s)
{
    (void)s;
    return 0;
}

static const weft_stream_ops drip_ops = {
    .read = drip_read, .write = drip_write, .flush = drip_flush, .shutdown = drip_shutdown};
static const weft_stream_ops read_ops = {.read = drip_read, .wait_readable = drip_wait};
static const weft_stream_ops write_ops = {.write = drip_write};

static struct drip drip(size_t left)
{
    return (struct drip){.stream = {&drip_ops}, .left = left};
}

static void what_a_stream_lacks_is_not_supported(struct test_env *env)
{
    (void)env;
    char c[2] = "";
    struct iovec iov[2] = {{c, 0}, {c, 2}};
    struct drip r = {.stream = {&read_ops}, .left = 1}, w = {.stream = {&write_ops}};
    EXPECT_EQ(weft_stream_write(&r.stream, c, 1), -ENOTSUP);
    EXPECT_EQ(weft_stream_writev(&r.stream, iov, 2), -ENOTSUP);
    EXPECT_EQ(weft_stream_shutdown(&r.stream), -ENOTSUP);
    EXPECT_EQ(weft_stream_flush(&r.stream), 0); /* nothing to flush */
    EXPECT_EQ(weft_stream_read(&w.stream, c, 1), -ENOTSUP);
    EXPECT_EQ(weft_stream_readv(&w.stream, iov, 2), -ENOTSUP);
    weft_stream_close(&w.stream); /* nothing to close */

    /* Vectors go by the plain function, with the first buffer that has room. */
    EXPECT_EQ(weft_stream_readv(&r.stream, iov, 2), 1);
    EXPECT_EQ(weft_stream_writev(&w.stream, iov, 2), 1);
    EXPECT_EQ(weft_stream_readv(&r.stream, iov, 1), 0); /* none has */
    EXPECT_EQ(weft_stream_writev(&w.stream, NULL, 0), 0);
    size_t len = 9;
    struct iovec both[2] = {{c, 2}, {c, 1}};
    EXPECT_EQ(weft_writev_all(&w.stream, both, 2, &len), 0);
    EXPECT_EQ(len, 3);
    EXPECT_EQ(w.taken, 4);
}

static void bad_arguments_are_refused(struct test_env *env)
{
    (void)env;
    char c = 0, *block = NULL;
    size_t len = 0, cap = 0, done = 9;
    struct drip d = drip(1);
    weft_stream *s = &d.stream, none = {NULL};
    struct iovec iov = {&c, 1};
    REFUSED("weft_stream_read", weft_stream_read(NULL, &c, 1));
    REFUSED("weft_stream_read", weft_stream_read(&none, &c, 1));
    REFUSED("weft_stream_write", weft_stream_write(s, NULL, 1));
    REFUSED("weft_stream_readv", weft_stream_readv(NULL, &iov, 1));
    REFUSED("weft_stream_readv", weft_stream_readv(&none, &iov, 1));
    REFUSED("weft_stream_readv", weft_stream_readv(s, &iov, -1));
    REFUSED("weft_stream_writev", weft_stream_writev(s, &iov, IOV_MAX + 1));
    REFUSED("weft_stream_writev", weft_stream_writev(s, NULL, 1));
    struct iovec hole[3] = {{&c, 1}, {NULL, 0}, {NULL, 1}};
    REFUSED("weft_stream_readv", weft_stream_readv(s, hole, 3));
    REFUSED("weft_stream_writev", weft_stream_writev(s, hole, 3));
    REFUSED("weft_writev_all", weft_writev_all(s, hole, 3, &done));
    EXPECT_EQ(done, 0);
    EXPECT_EQ(hole[0].iov_len, 1);
    REFUSED("weft_stream_flush", weft_stream_flush(NULL));
    REFUSED("weft_stream_shutdown", weft_stream_shutdown(&none));
    weft_stream_close(NULL);
    weft_stream_close(&none);
    REFUSED("weft_read_exact", weft_read_exact(s, NULL, 1, &done));
    EXPECT_EQ(done, 0);
    REFUSED("weft_write_all", weft_write_all(NULL, &c, 1, &done));
    REFUSED("weft_writev_all", weft_writev_all(s, NULL, 1, &done));
    REFUSED("weft_read_to_end", weft_read_to_end(NULL, 9, &block, &len, &cap));
    REFUSED("weft_read_to_end", weft_read_to_end(&none, 9, &block, &len, &cap));
    REFUSED("weft_read_to_end", weft_read_to_end(s, 9, NULL, &len, &cap));
    REFUSED("weft_read_to_end", weft_read_to_end(s, 9, &block, NULL, &cap));
    REFUSED("weft_read_to_end", weft_read_to_end(s, 9, &block, &len, NULL));
    cap = 4; /* of no block */
    REFUSED("weft_read_to_end", weft_read_to_end(s, 9, &block, &len, &cap));
    block = &c;
    len = 5; /* more than there is */
    REFUSED("weft_read_to_end", weft_read_to_end(s, 9, &block, &len, &cap));
    REFUSED("weft_copy", weft_copy(NULL, s, NULL));
    REFUSED("weft_copy", weft_copy(s, &none, NULL));
    REFUSED("weft_copy_bidirectional", weft_copy_bidirectional(NULL, s, NULL, NULL));
    REFUSED("weft_copy_bidirectional", weft_copy_bidirectional(s, &none, NULL, NULL));
    EXPECT(d.left == 1 && d.taken == 0);
}

static void buffers_refuse_bad_arguments(struct test_env *env)
{
    (void)env;
    struct drip d = drip(1);
    weft_bufreader *r = NULL;
    weft_bufwriter *w = NULL;
    const char *data;
    size_t len = 9;
    char c = 0;
    REFUSED("weft_bufreader_create", weft_bufreader_create(NULL, 0, &r));
    REFUSED("weft_bufreader_create", weft_bufreader_create(&d.stream, 0, NULL));
    REFUSED("weft_bufreader_create", weft_bufreader_create(&d.stream, SIZE_MAX, &r));
    REFUSED("weft_bufwriter_create", weft_bufwriter_create(NULL, 0, &w));
    REFUSED("weft_bufwriter_create", weft_bufwriter_create(&d.stream, 0, NULL));
    REFUSED("weft_bufwriter_create", weft_bufwriter_create(&d.stream, SIZE_MAX, &w));
    EXPECT(r == NULL && w == NULL);
    CHECK_EQ(weft_bufreader_create(&d.stream, 0, &r), 0);
    CHECK_EQ(weft_bufwriter_create(&d.stream, 0, &w), 0);
    REFUSED("weft_bufreader_read", weft_bufreader_read(NULL, &c, 1));
    REFUSED("weft_bufreader_read", weft_bufreader_read(r, NULL, 1));
    REFUSED("weft_bufreader_read_exact", weft_bufreader_read_exact(NULL, &c, 1, &len));
    EXPECT_EQ(len, 0);
    REFUSED("weft_bufreader_read_exact", weft_bufreader_read_exact(r, NULL, 1, NULL));
    REFUSED("weft_bufreader_fill", weft_bufreader_fill(NULL, &data));
    REFUSED("weft_bufreader_fill", weft_bufreader_fill(r, NULL));
    REFUSED("weft_bufreader_peek", weft_bufreader_peek(NULL, 1, &data));
    REFUSED("weft_bufreader_peek", weft_bufreader_peek(r, 1, NULL));
    REFUSED("weft_bufreader_read_until", weft_bufreader_read_until(NULL, 'x', &data, &len));
    REFUSED("weft_bufreader_read_until", weft_bufreader_read_until(r, 'x', NULL, &len));
    REFUSED("weft_bufreader_read_until", weft_bufreader_read_until(r, 'x', &data, NULL));
    REFUSED("weft_bufreader_read_line", weft_bufreader_read_line(NULL, &data, &len));
    REFUSED("weft_bufreader_read_line", weft_bufreader_read_line(r, NULL, &len));
    REFUSED("weft_bufreader_read_line", weft_bufreader_read_line(r, &data, NULL));
    REFUSED("weft_bufwriter_write", weft_bufwriter_write(NULL, &c, 1, &len));
    REFUSED("weft_bufwriter_write", weft_bufwriter_write(w, NULL, 1, NULL));
    REFUSED("weft_bufwriter_printf", weft_bufwriter_printf(NULL, "x"));
    REFUSED("weft_bufwriter_flush", weft_bufwriter_flush(NULL));
    test_log_clear();
    weft_bufreader_consume(NULL, 1);
    weft_bufreader_destroy(NULL);
    weft_bufwriter_destroy(NULL);
    EXPECT_EQ(weft_bufwriter_pending(NULL), 0);
    EXPECT_EQ(test_log_count(""), 0);
    EXPECT_EQ(d.left, 1); /* nothing was read */
    EXPECT_EQ(d.taken, 0);
    weft_bufreader_destroy(r);
    weft_bufwriter_destroy(w);
}

static void a_buffer_reads_exactly_past_itself(struct test_env *env)
{
    (void)env;
    struct drip d = drip(5);
    weft_bufreader *r;
    char c[8];
    const char *data;
    size_t len;
    CHECK_EQ(weft_bufreader_create(&d.stream, 2, &r), 0);
    EXPECT_EQ(weft_bufreader_read(r, c, 0), 0);
    EXPECT_EQ(weft_bufreader_peek(r, 3, &data), -EMSGSIZE);
    EXPECT_EQ(weft_bufreader_peek(r, 2, &data), 2);
    EXPECT_EQ(weft_bufreader_read_exact(r, c, 4, NULL), 0);
    EXPECT_EQ(weft_bufreader_read_exact(r, c, 4, &len), -ENODATA);
    EXPECT_EQ(len, 1);
    d.left = 3; /* the end is an end for good, whatever the stream says next */
    EXPECT_EQ(weft_bufreader_read(r, c, 8), 0);
    EXPECT_EQ(weft_bufreader_read(r, c, 1), 0);
    EXPECT_EQ(weft_bufreader_peek(r, 1, &data), 0);
    weft_bufreader_destroy(r);

    d = drip(1);
    d.end = -EIO;
    CHECK_EQ(weft_bufreader_create(&d.stream, 4, &r), 0);
    EXPECT_EQ(weft_bufreader_peek(r, 2, &data), -EIO);
    EXPECT_EQ(weft_bufreader_read_exact(r, c, 2, &len), -EIO);
    EXPECT_EQ(len, 1); /* what had come before the error */
    weft_bufreader_destroy(r);
}

static void a_writer_keeps_what_a_failing_stream_does_not_take(struct test_env *env)
{
    (void)env;
    struct drip d = drip(0);
    weft_bufwriter *w;
    CHECK_EQ(weft_bufwriter_create(&d.stream, 4, &w), 0);
    EXPECT_EQ(weft_bufwriter_printf(w, "abc"), 0);
    d.end = -EIO;
    EXPECT_EQ(weft_bufwriter_printf(w, "de"), -EIO); /* no room, and none to be made */
    EXPECT_EQ(weft_bufwriter_pending(w), 3);
    EXPECT_EQ(weft_bufwriter_printf(w, "abcde"), -EMSGSIZE); /* in no buffer of this size */
    EXPECT_EQ(weft_bufwriter_flush(w), -EIO);
    d.end = 0;
    EXPECT_EQ(weft_bufwriter_printf(w, "de"), 0);
    EXPECT_EQ(weft_bufwriter_flush(w), 0);
    EXPECT_EQ(d.taken, 5);
    d.flush_rc = -EPIPE;
    EXPECT_EQ(weft_bufwriter_flush(w), -EPIPE);
    weft_bufwriter_destroy(w);
}

static void copy_reports_what_fails(struct test_env *env)
{
    (void)env;
    uint64_t bytes = 9, back = 9;
    struct drip from = drip(3), to = drip(0);
    EXPECT_EQ(weft_copy(&from.stream, &to.stream, &bytes), 0);
    EXPECT_EQ(bytes, 3);
    EXPECT_EQ(to.taken, 3);
    from = drip(3);
    to.flush_rc = -EPIPE;
    EXPECT_EQ(weft_copy(&from.stream, &to.stream, &bytes), -EPIPE);
    EXPECT_EQ(bytes, 1); /* written, though not handed on */
    from = drip(3);
    to = drip(0);
    to.end = -EIO;
    EXPECT_EQ(weft_copy(&from.stream, &to.stream, &bytes), -EIO);
    EXPECT_EQ(bytes, 0);

    /* Both ways: a side that cannot be shut down is no failure; another error is. */
    struct drip a = drip(2), b = drip(1);
    a.shutdown_rc = -ENOTCONN;
    b.shutdown_rc = -ENOTSUP;
    EXPECT_EQ(weft_copy_bidirectional(&a.stream, &b.stream, &bytes, &back), 0);
    EXPECT_EQ(bytes, 2);
    EXPECT_EQ(back, 1);
    a = drip(0);
    b = drip(0);
    b.shutdown_rc = -EIO;
    EXPECT_EQ(weft_copy_bidirectional(&a.stream, &b.stream, NULL, NULL), -EIO);
    a = drip(0);
    a.panics = true;
    b = drip(0);
    test_log_clear();
    EXPECT_EQ(weft_copy_bidirectional(&a.stream, &b.stream, NULL, NULL), -EOWNERDEAD);
    EXPECT_LOGGED("a stream that panics");
}

/* ---- copying both ways where that is refused, or ended ---- */

static void copy_both_ways_needs_a_caller_who_can_wait(struct test_env *env)
{
    (void)env;
    uint64_t there = 9, back = 9;
    struct drip a = drip(1), b = drip(1);
    int rc = 0;
    test_log_clear();
    WEFT_NO_WAIT
        rc = weft_copy_bidirectional(&a.stream, &b.stream, &there, &back);
    EXPECT_EQ(rc, -EPERM);
    EXPECT_LOGGED("weft_copy_bidirectional");
    EXPECT(there == 0 && back == 0);
    for (int i = 0; i < 5; i++)
        test_pause();
    EXPECT(a.left == 1 && b.left == 1); /* nothing was begun */
}

static atomic_int slow_reads, slow_ends;
static atomic_bool copier_has_ended;

static void end_slowly(void *arg)
{
    (void)arg;
    usleep(20000);
    EXPECT(!atomic_load(&copier_has_ended)); /* its frame is in use */
    atomic_fetch_add(&slow_ends, 1);
}

static ssize_t read_under_a_shield(weft_stream *s, void *buf, size_t len)
{
    (void)s;
    (void)buf;
    (void)len;
    WEFT_DEFER(end_slowly, NULL);
    atomic_fetch_add(&slow_reads, 1);
    WEFT_SHIELD(void)
        weft_sleep(WEFT_NEVER); /* a shutdown that has lost its patience unwinds it */
    return 0;
}

static const weft_stream_ops slow_ops = {.read = read_under_a_shield, .write = drip_write};

static void note_the_end(void *arg)
{
    (void)arg;
    atomic_store(&copier_has_ended, true);
}

static void *copy_both_ways(void *arg)
{
    WEFT_DEFER(note_the_end, NULL);
    struct drip a = {.stream = {&slow_ops}}, b = {.stream = {&slow_ops}};
    (void)!weft_copy_bidirectional(&a.stream, &b.stream, NULL, NULL); /* is unwound */
    return arg;
}

static void copy_both_ways_ends_its_tasks_before_it_is_unwound(struct test_env *env)
{
    (void)env;
    weft_config c;
    weft_runtime *rt;
    weft_handle *h;
    atomic_store(&slow_reads, 0);
    atomic_store(&slow_ends, 0);
    atomic_store(&copier_has_ended, false);
    weft_config_init(&c);
    c.workers = 2;
    c.shutdown_grace_ns = 20 * WEFT_MS;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    h = weft_runtime_handle(rt);
    weft_task_detach(test_spawn(h, copy_both_ways, NULL, WEFT_SITE));
    CHECK_SOON(atomic_load(&slow_reads) == 2);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
    CHECK_EQ(atomic_load(&slow_ends), 2);
    CHECK(atomic_load(&copier_has_ended));
    weft_handle_unref(h);
}

/* ---- CO-07: streams in memory, which never wait ---- */

struct zeros {
    weft_stream stream;
    uint64_t began, taken;
};

/* Without end; but not for ever, if nobody stops it. */
static ssize_t zeros_read(weft_stream *s, void *buf, size_t len)
{
    memset(buf, 0, len);
    return weft_now() - ((struct zeros *)s)->began < 10 * WEFT_SEC ? (ssize_t)len : 0;
}

static ssize_t zeros_write(weft_stream *s, const void *buf, size_t len)
{
    (void)buf;
    ((struct zeros *)s)->taken += len;
    return (ssize_t)len;
}

static const weft_stream_ops zeros_ops = {.read = zeros_read, .write = zeros_write};

static void *note_the_turn(void *arg)
{
    atomic_store((atomic_bool *)arg, true);
    return NULL;
}

enum loop { READ_EXACT, READ_TO_END, WRITE_ALL, WRITEV_ALL, READ_BUFFERED, WRITE_BUFFERED, LOOPS };

/* Some bytes through one of the functions that go over a stream. */
static int loop_once(enum loop loop, weft_stream *s, weft_bufreader *r, weft_bufwriter *w)
{
    char bytes[64] = "", *buf = NULL;
    struct iovec iov = {bytes, sizeof(bytes)};
    size_t len = 0, cap = 0;
    int rc;
    switch (loop) {
    case READ_EXACT:
        return weft_read_exact(s, bytes, sizeof(bytes), NULL);
    case READ_TO_END:
        rc = weft_read_to_end(s, 100, &buf, &len, &cap);
        free(buf);
        return rc == -EMSGSIZE ? 0 : rc;
    case WRITE_ALL:
        return weft_write_all(s, bytes, sizeof(bytes), NULL);
    case WRITEV_ALL:
        return weft_writev_all(s, &iov, 1, NULL);
    case READ_BUFFERED:
        return weft_bufreader_read_exact(r, bytes, sizeof(bytes), NULL);
    default:
        return weft_bufwriter_write(w, bytes, sizeof(bytes), NULL);
    }
}

/* A loop over calls that never wait: it ends when a sibling has had its turn. */
static void loops_in_memory_let_a_sibling_run(struct test_env *env)
{
    (void)env;
    struct zeros zeros = {.stream = {&zeros_ops}, .began = weft_now()};
    weft_bufreader *r;
    weft_bufwriter *w;
    CHECK_EQ(weft_bufreader_create(&zeros.stream, 16, &r), 0);
    CHECK_EQ(weft_bufwriter_create(&zeros.stream, 16, &w), 0);
    for (enum loop loop = READ_EXACT; loop < LOOPS; loop++) {
        atomic_bool has_run = false;
        weft_task *sibling = SPAWN(note_the_turn, (void *)&has_run);
        for (int i = 0; i < 10000 && !atomic_load(&has_run); i++)
            EXPECT_EQ(loop_once(loop, &zeros.stream, r, w), 0);
        EXPECT(atomic_load(&has_run));
        test_join_value(sibling);
    }
    weft_bufreader_destroy(r);
    weft_bufwriter_destroy(w);
}

static void *loop_until_aborted(void *arg)
{
    struct zeros zeros = {.stream = {&zeros_ops}, .began = weft_now()};
    int rc = 0;
    (void)arg;
    while (rc == 0)
        rc = loop_once(READ_EXACT, &zeros.stream, NULL, NULL);
    return (void *)(intptr_t)rc;
}

static void loops_in_memory_hear_of_an_abort(struct test_env *env)
{
    (void)env;
    weft_task *task = SPAWN(loop_until_aborted, NULL);
    CHECK_EQ(weft_yield(), 0);
    CHECK_EQ(weft_abort(task), 0);
    EXPECT_EQ(test_join_kind(task), WEFT_OUTCOME_CANCELLED);
}

/* Nobody can be let run there; what never waits is no wait. */
static void memory_is_read_where_nothing_may_wait(struct test_env *env)
{
    (void)env;
    struct zeros zeros = {.stream = {&zeros_ops}, .began = weft_now()};
    WEFT_NO_WAIT
        for (int i = 0; i < 1000; i++)
            EXPECT_EQ(loop_once(READ_EXACT, &zeros.stream, NULL, NULL), 0);
}

static void co_07_copying_in_memory_lets_a_sibling_run(struct test_env *env)
{
    (void)env;
    for (int both_ways = 0; both_ways < 2; both_ways++) {
        atomic_bool had_a_turn = false;
        weft_task *sibling = SPAWN(note_the_turn, &had_a_turn);
        /* Held up for so long we may find the deadline passed at the first look. */
        for (int round = 0; round < 20 && !atomic_load(&had_a_turn); round++) {
            struct zeros a = {.stream = {&zeros_ops}, .began = weft_now()}, b = a;
            uint64_t there = 0, back = 0;
            int rc = 0;
            WEFT_TIMEOUT(5 * WEFT_MS)
                rc = both_ways ? weft_copy_bidirectional(&a.stream, &b.stream, &there, &back)
                               : weft_copy(&a.stream, &b.stream, &there);
            EXPECT_EQ(rc, -ETIMEDOUT);
            EXPECT(there == b.taken && back == a.taken); /* nothing was lost on the way */
        }
        EXPECT(atomic_load(&had_a_turn));
        (void)test_join_value(sibling);
    }
}

/* ---- a writer goes on where it was ended ---- */

struct halting {
    weft_stream stream;
    char got[16];
    size_t count;
    atomic_bool waits;
    bool panics, goes_on;
};

/* Takes two bytes, and does not come back from the next call. */
static ssize_t halting_write(weft_stream *s, const void *buf, size_t len)
{
    struct halting *h = (struct halting *)s;
    if (h->count > 0 && !h->goes_on) {
        if (h->panics)
            weft_panic("a sink that panics");
        atomic_store(&h->waits, true);
        int rc = weft_sleep(WEFT_NEVER);
        return rc < 0 ? rc : -EIO;
    }
    len = len < 2 ? len : 2;
    memcpy(h->got + h->count, buf, len);
    h->count += len;
    return (ssize_t)len;
}

static const weft_stream_ops halting_ops = {.write = halting_write};

struct writing {
    struct halting sink;
    weft_bufwriter *w;
};

static void write_the_rest(void *arg)
{
    struct writing *w = arg;
    w->sink.goes_on = true;
    EXPECT_EQ(weft_bufwriter_flush(w->w), 0);
    weft_bufwriter_destroy(w->w);
}

static void *write_with_a_cleanup(void *arg)
{
    struct writing *w = arg;
    EXPECT_EQ(weft_bufwriter_create(&w->sink.stream, 8, &w->w), 0);
    WEFT_DEFER(write_the_rest, w);
    EXPECT_EQ(weft_bufwriter_printf(w->w, "abcdef"), 0);
    (void)!weft_bufwriter_flush(w->w); /* does not return */
    EXPECT(false);
    return NULL;
}

static void what_has_been_written_is_not_written_again(struct test_env *env)
{
    const weft_spawn_options unwind = {.on_abort = WEFT_ON_ABORT_UNWIND};
    (void)env;
    for (int panics = 0; panics < 2; panics++) {
        struct writing w = {.sink = {.stream = {&halting_ops}, .panics = panics}};
        weft_task *t;
        CHECK_EQ(weft_spawn_with(&unwind, write_with_a_cleanup, &w, &t), 0);
        if (!panics) {
            CHECK_SOON(atomic_load(&w.sink.waits));
            CHECK_EQ(weft_abort(t), 0);
        }
        CHECK_EQ(test_join_kind(t), panics ? WEFT_OUTCOME_PANICKED : WEFT_OUTCOME_CANCELLED);
        if (strcmp(w.sink.got, "abcdef") != 0)
            test_record(__FILE__, __LINE__, "\"%s\" was written", w.sink.got);
    }
}

/* What each call has moved before its stream does not come back, as a cleanup sees it. */
struct moving {
    struct halting sink;
    weft_bufreader *r;
    weft_bufwriter *w;
    int call;
    size_t moved;
};

static ssize_t halting_read(weft_stream *s, void *buf, size_t len)
{
    memset(buf, 'h', len);
    return halting_write(s, buf, len);
}

static const weft_stream_ops halting_both_ops = {.read = halting_read, .write = halting_write};

static void expect_two_moved(void *arg)
{
    struct moving *m = arg;
    EXPECT_EQ(m->sink.count, 2);
    EXPECT_EQ(m->moved, 2);
    weft_bufreader_destroy(m->r);
    weft_bufwriter_destroy(m->w);
}

static void *move_with_a_cleanup(void *arg)
{
    struct moving *m = arg;
    weft_stream *s = &m->sink.stream;
    char buf[6] = "abcde";
    struct iovec iov[2] = {{buf, 3}, {buf + 3, 3}};
    CHECK_EQ(weft_bufreader_create(s, 2, &m->r), 0);
    CHECK_EQ(weft_bufwriter_create(s, 2, &m->w), 0);
    WEFT_DEFER(expect_two_moved, m);
    switch (m->call) {
    case 0:
        return (void *)(intptr_t)weft_read_exact(s, buf, sizeof(buf), &m->moved);
    case 1:
        return (void *)(intptr_t)weft_write_all(s, buf, sizeof(buf), &m->moved);
    case 2:
        return (void *)(intptr_t)weft_writev_all(s, iov, 2, &m->moved);
    case 3:
        return (void *)(intptr_t)weft_bufreader_read_exact(m->r, buf, sizeof(buf), &m->moved);
    default:
        return (void *)(intptr_t)weft_bufwriter_write(m->w, buf, sizeof(buf), &m->moved);
    }
}

static void a_cleanup_sees_how_much_was_moved(struct test_env *env)
{
    const weft_spawn_options unwind = {.on_abort = WEFT_ON_ABORT_UNWIND};
    (void)env;
    for (int i = 0; i < 10; i++) {
        bool panics = i >= 5;
        struct moving m = {
            .sink = {.stream = {&halting_both_ops}, .panics = panics}, .call = i % 5, .moved = 99};
        weft_task *t;
        CHECK_EQ(weft_spawn_with(&unwind, move_with_a_cleanup, &m, &t), 0);
        if (!panics) {
            CHECK_SOON(atomic_load(&m.sink.waits));
            CHECK_EQ(weft_abort(t), 0);
        }
        CHECK_EQ(test_join_kind(t), panics ? WEFT_OUTCOME_PANICKED : WEFT_OUTCOME_CANCELLED);
    }
}

TEST_MAIN(PLAIN(what_a_stream_lacks_is_not_supported),
          IN_TASK_ON(bad_arguments_are_refused, TEST_MT1), PLAIN(buffers_refuse_bad_arguments),
          PLAIN(a_buffer_reads_exactly_past_itself),
          PLAIN(a_writer_keeps_what_a_failing_stream_does_not_take),
          IN_TASK_ON(co_07_copying_in_memory_lets_a_sibling_run, TEST_CT),
          IN_BODY_ON(co_07_copying_in_memory_lets_a_sibling_run, TEST_CT),
          IN_TASK_ON(loops_in_memory_let_a_sibling_run, TEST_CT),
          IN_TASK_ON(loops_in_memory_hear_of_an_abort, TEST_CT),
          IN_TASK(memory_is_read_where_nothing_may_wait),
          IN_TASK(what_has_been_written_is_not_written_again),
          IN_TASK(a_cleanup_sees_how_much_was_moved), IN_TASK(copy_reports_what_fails),
          IN_TASK(copy_both_ways_needs_a_caller_who_can_wait),
          PLAIN(copy_both_ways_ends_its_tasks_before_it_is_unwound))
