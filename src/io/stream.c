/*
 * Streams: checks in front of the table of functions, and the loops over it.
 */
#include "io/stream.h"

#include "base/base.h"
#include "sys/sys.h"
#include "task/task.h"

#include <weft/panic.h>
#include <weft/stream.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

/* The least block that read_to_end makes. */
#define GROW_MIN 4096

static ssize_t closed_read(weft_stream *s, void *buf, size_t len)
{
    (void)s;
    (void)buf;
    (void)len;
    return -EBADF;
}

static ssize_t closed_write(weft_stream *s, const void *buf, size_t len)
{
    (void)s;
    (void)buf;
    (void)len;
    return -EBADF;
}

static int closed_flush_or_shutdown(weft_stream *s)
{
    (void)s;
    return -EBADF;
}

static const weft_stream_ops closed_ops = {
    .read = closed_read,
    .write = closed_write,
    .flush = closed_flush_or_shutdown,
    .shutdown = closed_flush_or_shutdown,
};

weft_stream *weft__stream_closed(void)
{
    static weft_stream closed = {&closed_ops}; /* never written to */
    return &closed;
}

/* The functions are looked up once a call: those of a stream that was kept past its close change
 * when the next source takes the slot, and what one kind has another lacks. */

static bool args_are_bad(const weft_stream *s, const void *buf, size_t len)
{
    return s == NULL || s->ops == NULL || (buf == NULL && len > 0);
}

#define REPORT_BAD_ARGS(name)                                                                      \
    weft__misuse(name, -EINVAL, "no stream, or a NULL buffer with a length", WEFT__CALLER)

ssize_t weft_stream_read(weft_stream *s, void *buf, size_t len)
{
    if (args_are_bad(s, buf, len))
        return REPORT_BAD_ARGS("weft_stream_read");
    const weft_stream_ops *ops = s->ops;
    return ops->read != NULL ? ops->read(s, buf, len) : -ENOTSUP;
}

ssize_t weft_stream_write(weft_stream *s, const void *buf, size_t len)
{
    if (args_are_bad(s, buf, len))
        return REPORT_BAD_ARGS("weft_stream_write");
    const weft_stream_ops *ops = s->ops;
    return ops->write != NULL ? ops->write(s, buf, len) : -ENOTSUP;
}

static bool vector_is_bad(const weft_stream *s, const struct iovec *iov, int count)
{
    if (s == NULL || s->ops == NULL || count < 0 || count > IOV_MAX || (iov == NULL && count > 0))
        return true;
    for (int i = 0; i < count; i++)
        if (iov[i].iov_base == NULL && iov[i].iov_len > 0)
            return true;
    return false;
}

/* The first buffer that has room; none: an empty one. */
static struct iovec first_not_empty(const struct iovec *iov, int count)
{
    for (int i = 0; i < count; i++)
        if (iov[i].iov_len > 0)
            return iov[i];
    return (struct iovec){NULL, 0};
}

ssize_t weft_stream_readv(weft_stream *s, const struct iovec *iov, int count)
{
    if (vector_is_bad(s, iov, count))
        return REPORT_BAD_ARGS("weft_stream_readv");
    const weft_stream_ops *ops = s->ops;
    if (ops->readv != NULL)
        return ops->readv(s, iov, count);
    struct iovec one = first_not_empty(iov, count);
    return ops->read != NULL ? ops->read(s, one.iov_base, one.iov_len) : -ENOTSUP;
}

ssize_t weft_stream_writev(weft_stream *s, const struct iovec *iov, int count)
{
    if (vector_is_bad(s, iov, count))
        return REPORT_BAD_ARGS("weft_stream_writev");
    const weft_stream_ops *ops = s->ops;
    if (ops->writev != NULL)
        return ops->writev(s, iov, count);
    struct iovec one = first_not_empty(iov, count);
    return ops->write != NULL ? ops->write(s, one.iov_base, one.iov_len) : -ENOTSUP;
}

int weft_stream_flush(weft_stream *s)
{
    if (args_are_bad(s, NULL, 0))
        return REPORT_BAD_ARGS("weft_stream_flush");
    const weft_stream_ops *ops = s->ops;
    if (ops->flush != NULL)
        return ops->flush(s);
    struct weft__source_ref r;
    bool is_source = weft__source_ops_of(s) != NULL;
    /* Which keeps nothing back, but may be closed. */
    return is_source && !weft__source_refer(WEFT__CONTAINER_OF(s, struct weft__source, stream), &r)
               ? -EBADF
               : 0;
}

int weft_stream_shutdown(weft_stream *s)
{
    if (args_are_bad(s, NULL, 0))
        return REPORT_BAD_ARGS("weft_stream_shutdown");
    const weft_stream_ops *ops = s->ops;
    return ops->shutdown != NULL ? ops->shutdown(s) : -ENOTSUP;
}

void weft_stream_close(weft_stream *s)
{
    const weft_stream_ops *ops = s != NULL ? s->ops : NULL;
    if (ops != NULL && ops->close != NULL)
        ops->close(s);
}

/* ---- what a stream stands for ---- */

struct weft__stream_target weft__stream_resolve(weft_stream *s)
{
    const struct weft__source_ops *ops = weft__source_ops_of(s);
    if (ops == NULL) /* in the slot of a listener it will be another's: the one of closed handles */
        return (struct weft__stream_target){.stream =
                                                s->ops == &closed_ops ? weft__stream_closed() : s};
    struct weft__stream_target t = {.ops = ops};
    if (!weft__source_refer(WEFT__CONTAINER_OF(s, struct weft__source, stream), &t.ref))
        return (struct weft__stream_target){.stream = weft__stream_closed()};
    return t;
}

/* What reads or writes a source sees to this by itself. A stream of the user's need never wait, nor
 * see that the task was aborted. Where nothing may wait nobody can be let run, and a stream that
 * does not wait may be read all the same. */
static int let_others_run(void)
{
    struct weft__task *t = weft__wait_task();
    if (t == NULL || t->kind == WEFT__TASK_FUTURE || t->locals->no_wait_depth ||
        weft__core_is_ancestral(t->core))
        return 0;
    return weft__wait_begin("a loop over a stream", NULL);
}

ssize_t weft__target_read(const struct weft__stream_target *t, void *buf, size_t len)
{
    if (t->ops != NULL)
        return t->ops->read(&t->ref, buf, len);
    int rc = let_others_run();
    return rc < 0 ? rc : weft_stream_read(t->stream, buf, len);
}

ssize_t weft__target_write(const struct weft__stream_target *t, const void *buf, size_t len)
{
    if (t->ops != NULL)
        return t->ops->write(&t->ref, buf, len);
    int rc = let_others_run();
    return rc < 0 ? rc : weft_stream_write(t->stream, buf, len);
}

ssize_t weft__target_writev(const struct weft__stream_target *t, const struct iovec *iov, int count)
{
    if (t->ops == NULL) {
        int rc = let_others_run();
        return rc < 0 ? rc : weft_stream_writev(t->stream, iov, count);
    }
    if (t->ops->writev != NULL)
        return t->ops->writev(&t->ref, iov, count);
    struct iovec one = first_not_empty(iov, count);
    return t->ops->write(&t->ref, one.iov_base, one.iov_len);
}

int weft__target_flush(const struct weft__stream_target *t)
{
    /* A source keeps nothing back. */
    return t->ops != NULL ? weft__source_check(&t->ref) : weft_stream_flush(t->stream);
}

int weft__target_shutdown(const struct weft__stream_target *t)
{
    return t->ops != NULL ? t->ops->shutdown(&t->ref) : weft_stream_shutdown(t->stream);
}

bool weft__target_can_wait(const struct weft__stream_target *t)
{
    return t->ops != NULL || t->stream->ops->wait_readable != NULL;
}

int weft__target_wait_readable(const struct weft__stream_target *t)
{
    return t->ops != NULL ? t->ops->wait_readable(&t->ref)
                          : t->stream->ops->wait_readable(t->stream);
}

ssize_t weft__target_read_ready(const struct weft__stream_target *t, void *buf, size_t len)
{
    return t->ops != NULL ? t->ops->try_read(&t->ref, buf, len) : weft__target_read(t, buf, len);
}

/* ---- loops ---- */

int weft_read_exact(weft_stream *s, void *buf, size_t len, size_t *ret_len)
{
    size_t unwanted;
    size_t *done = weft__stream_count(ret_len, &unwanted);
    ssize_t n = 1;
    if (args_are_bad(s, buf, len)) {
        n = REPORT_BAD_ARGS("weft_read_exact");
    } else {
        struct weft__stream_target t = weft__stream_resolve(s);
        while (*done < len && (n = weft__target_read(&t, (char *)buf + *done, len - *done)) > 0)
            *done += (size_t)n;
    }
    return n > 0 ? 0 : n == 0 ? -ENODATA : (int)n;
}

static void drop_block(void *arg)
{
    weft__free(*(char **)arg);
}

/*
 * Reads behind a block that is full, into the larger one that takes its place. That one is there
 * before the stream is asked: a byte that has been read is never lost for want of memory. When
 * nothing comes the block stays, which may have been just large enough.
 */
static ssize_t read_and_grow(const struct weft__stream_target *t, size_t max, char **buf,
                             size_t *len, size_t *cap)
{
    size_t want = *cap < GROW_MIN ? GROW_MIN : *cap > SIZE_MAX / 2 ? SIZE_MAX : *cap * 2;
    if (want > max)
        want = max;
    char *other = weft__malloc(want);
    if (other == NULL)
        return -ENOMEM;
    WEFT_DEFER(drop_block, &other);
    ssize_t n = weft__target_read(t, other + *len, want - *len);
    if (n <= 0)
        return n;
    if (*len > 0)
        memcpy(other, *buf, *len);
    char *old = *buf;
    *buf = other;
    other = old;
    *len += (size_t)n;
    *cap = want;
    return n;
}

int weft_read_to_end(weft_stream *s, size_t max, char **buf, size_t *len, size_t *cap)
{
    if (s == NULL || s->ops == NULL || buf == NULL || len == NULL || cap == NULL ||
        (*buf == NULL && *cap > 0) || *len > *cap)
        return weft__misuse("weft_read_to_end", -EINVAL, "no stream, or no block", WEFT__CALLER);
    struct weft__stream_target t = weft__stream_resolve(s);
    ssize_t n;
    do {
        if (*len >= max) {
            char more;
            n = weft__target_read(&t, &more, 1);
            return n > 0 ? -EMSGSIZE : (int)n;
        }
        size_t room = *cap < max ? *cap - *len : max - *len;
        if (room == 0) {
            n = read_and_grow(&t, max, buf, len, cap);
        } else {
            n = weft__target_read(&t, *buf + *len, room);
            *len += n > 0 ? (size_t)n : 0;
        }
    } while (n > 0);
    return (int)n;
}

int weft__target_write_all(const struct weft__stream_target *t, const void *buf, size_t bytes,
                           size_t *len)
{
    while (bytes > 0) {
        ssize_t n = weft__target_write(t, buf, bytes);
        if (n <= 0)
            return n == 0 ? -EIO : (int)n;
        buf = (const char *)buf + n;
        bytes -= (size_t)n;
        *len += (size_t)n;
    }
    return 0;
}

int weft_write_all(weft_stream *s, const void *buf, size_t len, size_t *ret_len)
{
    size_t unwanted;
    size_t *done = weft__stream_count(ret_len, &unwanted);
    if (args_are_bad(s, buf, len))
        return REPORT_BAD_ARGS("weft_write_all");
    struct weft__stream_target t = weft__stream_resolve(s);
    return weft__target_write_all(&t, buf, len, done);
}

/* Advances past n bytes. Returns how many buffers are used up. */
static int advance(struct iovec *iov, int count, size_t n)
{
    int i = 0;
    while (i < count && n >= iov[i].iov_len) {
        n -= iov[i].iov_len;
        if (iov[i].iov_len > 0) /* else there may be no address */
            iov[i].iov_base = (char *)iov[i].iov_base + iov[i].iov_len;
        iov[i].iov_len = 0;
        i++;
    }
    if (i < count) {
        iov[i].iov_base = (char *)iov[i].iov_base + n;
        iov[i].iov_len -= n;
    }
    return i;
}

int weft_writev_all(weft_stream *s, struct iovec *iov, int count, size_t *ret_len)
{
    size_t unwanted;
    size_t *done = weft__stream_count(ret_len, &unwanted);
    ssize_t n = 1;
    if (vector_is_bad(s, iov, count)) {
        n = REPORT_BAD_ARGS("weft_writev_all");
    } else {
        struct weft__stream_target t = weft__stream_resolve(s);
        int i = advance(iov, count, 0); /* past empty ones */
        while (i < count && (n = weft__target_writev(&t, iov + i, count - i)) > 0) {
            *done += (size_t)n;
            i += advance(iov + i, count - i, (size_t)n);
        }
    }
    return n > 0 ? 0 : n == 0 ? -EIO : (int)n;
}
