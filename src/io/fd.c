/*
 * weft_fd: any descriptor that can be polled.
 */
#include "io/source.h"
#include "task/task.h"

#include <weft/io.h>
#include <weft/task.h>

#include <string.h>
#include <sys/socket.h>

#define INTERESTS (WEFT_READY_READ | WEFT_READY_WRITE | WEFT_READY_PRIORITY | WEFT_READY_ERROR)

_Static_assert(WEFT_READY_READ == WEFT__READY_READ && WEFT_READY_WRITE == WEFT__READY_WRITE &&
                   WEFT_READY_PRIORITY == WEFT__READY_PRIORITY &&
                   WEFT_READY_ERROR == WEFT__READY_ERROR &&
                   WEFT_READY_READ_CLOSED == WEFT__READY_READ_CLOSED &&
                   WEFT_READY_WRITE_CLOSED == WEFT__READY_WRITE_CLOSED,
               "the public bits are those of the readiness words");

static const struct weft__source_ops fd_ops;

static bool interest_is_valid(unsigned interest)
{
    return interest != 0 && (interest & ~(unsigned)INTERESTS) == 0;
}

static bool is_stream_socket(int fd)
{
    int type;
    socklen_t len = sizeof(type);
    return weft__sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

int weft_fd_open(int fd, unsigned flags, weft_fd **ret_fd)
{
    if (ret_fd == NULL || (flags & ~(unsigned)(WEFT_FD_OWNED | WEFT_FD_KEEP_BLOCKING)) != 0)
        return weft__misuse("weft_fd_open", -EINVAL, "unknown flags, or no place for the result",
                            WEFT__CALLER);
    uint32_t source_flags = (flags & WEFT_FD_OWNED ? 0 : WEFT__SOURCE_BORROWED) |
                            (is_stream_socket(fd) ? WEFT__SOURCE_STREAM_SOCKET : 0);
    struct weft__source *s;
    int rc;
    if (flags & WEFT_FD_KEEP_BLOCKING)
        rc = weft__source_open("weft_fd_open", WEFT__CALLER, fd, WEFT__SOURCE_FD, source_flags,
                               &fd_ops, &s);
    else
        rc = weft__source_adopt("weft_fd_open", WEFT__CALLER, fd, WEFT__SOURCE_FD, source_flags,
                                &fd_ops, &s);
    if (rc < 0)
        return rc;
    *ret_fd = weft__source_handle(s);
    return 0;
}

int weft_fd_close(weft_fd *wfd)
{
    if (wfd == NULL)
        return 0;
    int rc = weft__source_close(wfd);
    if (rc < 0)
        return weft__misuse("weft_fd_close", rc, "the handle was closed before", WEFT__CALLER);
    return 0;
}

int weft_fd_release(weft_fd *wfd, int *ret_fd)
{
    if (wfd == NULL || ret_fd == NULL)
        return weft__misuse("weft_fd_release", -EINVAL,
                            "the handle is NULL, or no place for the result", WEFT__CALLER);
    int rc = weft__source_release_fd(wfd, ret_fd);
    if (rc == -EBADF)
        return weft__misuse("weft_fd_release", rc, "the handle was closed before", WEFT__CALLER);
    return rc;
}

int weft_fd_number(weft_fd *wfd)
{
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(wfd, "weft_fd_number", WEFT__CALLER, &s, &generation);
    if (rc < 0)
        return rc;
    int fd = s->fd;
    weft__source_unhold(s);
    return fd;
}

/* ---- readiness ---- */

/* What is ready of the interest, with what was seen. 0 when nothing is. */
static int snapshot(const struct weft__source *s, unsigned interest, weft_fd_ready *ret)
{
    uint64_t in = weft__source_ready(s, WEFT__IN);
    uint64_t out = weft__source_ready(s, WEFT__OUT);
    if ((in | out) & WEFT__READY_SHUTDOWN)
        return -ESHUTDOWN;
    uint64_t bits =
        (in & weft__ready_mask(WEFT__IN, interest)) | (out & weft__ready_mask(WEFT__OUT, interest));
    *ret = (weft_fd_ready){.bits = (unsigned)bits, .seen = {in, out}};
    return (int)bits;
}

/* The hold is given up. */
static int wait_held(struct weft__source *s, uint32_t generation, unsigned interest,
                     weft_fd_ready *ret_ready)
{
    int rc;
    weft_fd_ready ready;
    while ((rc = snapshot(s, interest, &ready)) == 0) {
        rc = weft__source_wait(s, generation, interest);
        if (rc < 0)
            return rc;
    }
    weft__source_unhold(s);
    if (rc < 0)
        return rc;
    if (ret_ready != NULL)
        *ret_ready = ready;
    return 0;
}

int weft_fd_wait(weft_fd *wfd, unsigned interest, weft_fd_ready *ret_ready)
{
    if (!interest_is_valid(interest))
        return weft__misuse("weft_fd_wait", -EINVAL, "no such interest", WEFT__CALLER);
    int rc = weft__wait_begin("weft_fd_wait", WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct weft__source *s;
    uint32_t generation;
    rc = weft__source_enter(wfd, "weft_fd_wait", WEFT__CALLER, &s, &generation);
    return rc < 0 ? rc : wait_held(s, generation, interest, ret_ready);
}

int weft_fd_try_wait(weft_fd *wfd, unsigned interest, weft_fd_ready *ret_ready)
{
    if (!interest_is_valid(interest))
        return weft__misuse("weft_fd_try_wait", -EINVAL, "no such interest", WEFT__CALLER);
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(wfd, "weft_fd_try_wait", WEFT__CALLER, &s, &generation);
    if (rc < 0)
        return rc;
    weft_fd_ready ready;
    rc = snapshot(s, interest, &ready);
    weft__source_unhold(s);
    if (rc <= 0)
        return rc == 0 ? -EAGAIN : rc;
    if (ret_ready != NULL)
        *ret_ready = ready;
    return 0;
}

int weft_fd_clear(weft_fd *wfd, const weft_fd_ready *ready, unsigned bits)
{
    if (ready == NULL)
        return weft__misuse("weft_fd_clear", -EINVAL, "no snapshot", WEFT__CALLER);
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(wfd, "weft_fd_clear", WEFT__CALLER, &s, &generation);
    if (rc < 0)
        return rc;
    uint64_t in = bits & (WEFT__READY_READ | WEFT__READY_PRIORITY | WEFT__READY_ERROR);
    uint64_t out = bits & WEFT__READY_WRITE;
    if (in != 0)
        weft__source_clear(s, WEFT__IN, ready->seen[WEFT__IN], in);
    if (out != 0)
        weft__source_clear(s, WEFT__OUT, ready->seen[WEFT__OUT], out);
    weft__source_unhold(s);
    return 0;
}

/* ---- calls ---- */

/* After a call for the interest would have blocked. */
static void forget(struct weft__source *s, unsigned interest, const weft_fd_ready *ready)
{
    if (interest == WEFT_READY_WRITE)
        weft__source_would_block(s, WEFT__OUT, ready->seen[WEFT__OUT]);
    else if (interest == WEFT_READY_READ)
        weft__source_would_block(s, WEFT__IN, ready->seen[WEFT__IN]);
    else if (interest == WEFT_READY_PRIORITY)
        weft__source_clear(s, WEFT__IN, ready->seen[WEFT__IN],
                           WEFT__READY_PRIORITY | WEFT__READY_READ_CLOSED);
    else
        weft__source_clear(s, WEFT__IN, ready->seen[WEFT__IN], interest);
}

static bool interest_is_single(unsigned interest)
{
    return interest_is_valid(interest) && (interest & (interest - 1)) == 0;
}

struct held_call {
    struct weft__source *source;
    bool has_returned;
};

static void unhold_unwound(void *arg)
{
    struct held_call *c = arg;
    if (!c->has_returned)
        weft__source_unhold(c->source);
}

/* A panic in the user's call, and an abort that unwinds it, give the hold up too. */
static ssize_t call_holding(struct weft__source *s, weft_fd_call call, void *arg)
{
    struct held_call c = {.source = s};
    WEFT_DEFER(unhold_unwound, &c);
    ssize_t n = call(s->fd, arg);
    c.has_returned = true;
    return n;
}

ssize_t weft_fd_try_io(weft_fd *wfd, unsigned interest, weft_fd_call call, void *arg)
{
    if (!interest_is_single(interest) || call == NULL)
        return weft__misuse("weft_fd_try_io", -EINVAL, "no call, or not one interest",
                            WEFT__CALLER);
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(wfd, "weft_fd_try_io", WEFT__CALLER, &s, &generation);
    if (rc < 0)
        return rc;
    weft_fd_ready ready;
    ssize_t n = snapshot(s, interest, &ready);
    if (n > 0) {
        n = call_holding(s, call, arg);
        if (n == -EAGAIN)
            forget(s, interest, &ready);
    } else if (n == 0) {
        n = -EAGAIN;
    }
    weft__source_unhold(s);
    return n;
}

ssize_t weft_fd_io(weft_fd *wfd, unsigned interest, weft_fd_call call, void *arg)
{
    if (!interest_is_single(interest) || call == NULL)
        return weft__misuse("weft_fd_io", -EINVAL, "no call, or not one interest", WEFT__CALLER);
    int rc = weft__wait_begin("weft_fd_io", WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct weft__source *s;
    uint32_t generation;
    rc = weft__source_enter(wfd, "weft_fd_io", WEFT__CALLER, &s, &generation);
    if (rc < 0)
        return rc;
    ssize_t n;
    for (;;) {
        weft_fd_ready ready;
        n = snapshot(s, interest, &ready);
        if (n < 0)
            break;
        if (n > 0) {
            n = call_holding(s, call, arg);
            if (n != -EAGAIN)
                break;
            forget(s, interest, &ready);
        }
        rc = weft__source_wait(s, generation, interest);
        if (rc < 0)
            return rc;
    }
    weft__source_unhold(s);
    return n;
}

struct transfer {
    void *buf; /* a source of bytes is not written to */
    size_t len;
};

static ssize_t call_read(int fd, void *arg)
{
    struct transfer *t = arg;
    return weft__sys_read(fd, t->buf, t->len);
}

static ssize_t call_write(int fd, void *arg)
{
    struct transfer *t = arg;
    return weft__sys_write(fd, t->buf, t->len);
}

/* Not write(), which raises SIGPIPE. Of sockets of other types it does not, or marks the end of a
 * record. */
static ssize_t call_send(int fd, void *arg)
{
    struct transfer *t = arg;
    return weft__sys_send(fd, t->buf, t->len, 0);
}

static weft__io_call writes(const struct weft__source *s)
{
    return weft__source_has_flag(s, WEFT__SOURCE_STREAM_SOCKET) ? call_send : call_write;
}

/* The hold is given up. */
static ssize_t transfer_held(struct weft__source *s, uint32_t generation, enum weft__direction dir,
                             struct transfer *t)
{
    if (t->len == 0) {
        weft__source_unhold(s);
        return 0;
    }
    /* Short results say nothing here: a terminal reads lines, a pipe may be in packet mode. */
    return weft__source_io(s, generation, dir, dir == WEFT__IN ? call_read : writes(s), t, 0);
}

static ssize_t transfer(weft_fd *wfd, enum weft__direction dir, struct transfer *t,
                        const char *name, const void *caller)
{
    if (t->buf == NULL && t->len > 0)
        return weft__misuse(name, -EINVAL, "the buffer is NULL", caller);
    int rc = weft__wait_begin(name, caller);
    if (rc < 0)
        return rc;
    struct weft__source *s;
    uint32_t generation;
    rc = weft__source_enter(wfd, name, caller, &s, &generation);
    return rc < 0 ? rc : transfer_held(s, generation, dir, t);
}

ssize_t weft_fd_read(weft_fd *wfd, void *buf, size_t len)
{
    struct transfer t = {buf, len};
    return transfer(wfd, WEFT__IN, &t, "weft_fd_read", WEFT__CALLER);
}

ssize_t weft_fd_write(weft_fd *wfd, const void *buf, size_t len)
{
    struct transfer t = {(void *)(uintptr_t)buf, len};
    return transfer(wfd, WEFT__OUT, &t, "weft_fd_write", WEFT__CALLER);
}

/* ---- as a stream ---- */

static void *handle_of(weft_stream *stream)
{
    return weft__source_handle(WEFT__CONTAINER_OF(stream, struct weft__source, stream));
}

static ssize_t stream_read(weft_stream *s, void *buf, size_t len)
{
    return weft_fd_read(handle_of(s), buf, len);
}

static ssize_t stream_write(weft_stream *s, const void *buf, size_t len)
{
    return weft_fd_write(handle_of(s), buf, len);
}

/* The hold is given up. */
static int shut_down_held(struct weft__source *s)
{
    int rc = weft__sys_shutdown(s->fd, SHUT_WR);
    weft__source_unhold(s);
    /* Not connected any more: nothing is left to shut down, as with TCP. */
    return rc == -ENOTSOCK ? -ENOTSUP : rc == -ENOTCONN ? 0 : rc;
}

static int stream_shutdown(weft_stream *stream)
{
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(handle_of(stream), "weft_stream_shutdown", WEFT__CALLER, &s,
                                &generation);
    return rc < 0 ? rc : shut_down_held(s);
}

static void stream_close(weft_stream *s)
{
    (void)weft_fd_close(handle_of(s)); /* a spent handle has been logged */
}

static int stream_wait_readable(weft_stream *s)
{
    return weft_fd_wait(handle_of(s), WEFT_READY_READ, NULL);
}

/* By reference. */

static int enter_again(const struct weft__source_ref *r, const char *name)
{
    int rc = weft__wait_begin(name, NULL);
    return rc < 0 ? rc : weft__source_rehold(r->source, r->generation);
}

static ssize_t ref_read(const struct weft__source_ref *r, void *buf, size_t len)
{
    struct transfer t = {buf, len};
    int rc = enter_again(r, "weft_stream_read");
    return rc < 0 ? rc : transfer_held(r->source, r->generation, WEFT__IN, &t);
}

static ssize_t ref_try_read(const struct weft__source_ref *r, void *buf, size_t len)
{
    struct transfer t = {buf, len};
    int rc = enter_again(r, "weft_stream_read");
    return rc < 0 ? rc : weft__source_try_io(r->source, WEFT__IN, call_read, &t, 0);
}

static ssize_t ref_write(const struct weft__source_ref *r, const void *buf, size_t len)
{
    struct transfer t = {(void *)(uintptr_t)buf, len};
    int rc = enter_again(r, "weft_stream_write");
    return rc < 0 ? rc : transfer_held(r->source, r->generation, WEFT__OUT, &t);
}

static int ref_shutdown(const struct weft__source_ref *r)
{
    int rc = weft__source_rehold(r->source, r->generation);
    return rc < 0 ? rc : shut_down_held(r->source);
}

static int ref_wait_readable(const struct weft__source_ref *r)
{
    int rc = enter_again(r, "weft_stream_read");
    return rc < 0 ? rc : wait_held(r->source, r->generation, WEFT_READY_READ, NULL);
}

static const struct weft__source_ops fd_ops = {
    .stream =
        {
            .read = stream_read,
            .write = stream_write,
            .shutdown = stream_shutdown,
            .close = stream_close,
            .wait_readable = stream_wait_readable,
        },
    .read = ref_read,
    .write = ref_write,
    .try_read = ref_try_read,
    .wait_readable = ref_wait_readable,
    .shutdown = ref_shutdown,
};

weft_stream *weft_fd_stream(weft_fd *wfd)
{
    struct weft__source *s;
    uint32_t generation;
    if (weft__source_enter(wfd, "weft_fd_stream", WEFT__CALLER, &s, &generation) < 0)
        return weft__stream_closed();
    weft_stream *stream = &s->stream;
    weft__source_unhold(s);
    return stream;
}

/* ---- as a future ---- */

static struct weft__io_wait *inner(weft_fd_wait_future *f)
{
    _Static_assert(sizeof(struct weft__io_wait) <= sizeof(f->opaque),
                   "the wait fits the public struct");
    return (struct weft__io_wait *)(void *)f->opaque;
}

static int future_poll(weft_future *future, weft_waker *waker)
{
    weft_fd_wait_future *f = WEFT__CONTAINER_OF(future, weft_fd_wait_future, future);
    struct weft__io_wait *w = inner(f);
    for (;;) {
        int rc = w->future.ops->poll(&w->future, waker);
        if (rc < 0)
            return rc; /* WEFT_PENDING too */
        rc = snapshot(w->source, w->interest, &f->ready);
        w->held = false;
        weft__source_unhold(w->source);
        if (rc != 0)
            return rc;
        /* another task cleared it between the two looks */
    }
}

static void future_cancel(weft_future *future)
{
    weft__io_wait_abandon(inner(WEFT__CONTAINER_OF(future, weft_fd_wait_future, future)));
}

static int future_poll_invalid(weft_future *future, weft_waker *waker)
{
    (void)future;
    (void)waker;
    return -EINVAL;
}

static int future_poll_closed(weft_future *future, weft_waker *waker)
{
    (void)future;
    (void)waker;
    return -EBADF;
}

static void future_cancel_invalid(weft_future *future)
{
    (void)future;
}

static const weft_future_ops future_ops = {future_poll, future_cancel, "descriptor"};
static const weft_future_ops invalid_ops = {future_poll_invalid, future_cancel_invalid,
                                            "descriptor"};
static const weft_future_ops closed_ops = {future_poll_closed, future_cancel_invalid, "descriptor"};

void weft_fd_wait_future_init(weft_fd_wait_future *f, weft_fd *wfd, unsigned interest)
{
    memset(f, 0, sizeof(*f));
    f->future.ops = &invalid_ops;
    if (!interest_is_valid(interest)) {
        (void)weft__misuse("weft_fd_wait_future_init", -EINVAL, "no such interest", WEFT__CALLER);
        return;
    }
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(wfd, "weft_fd_wait_future_init", WEFT__CALLER, &s, &generation);
    if (rc < 0) {
        if (rc == -EBADF)
            f->future.ops = &closed_ops;
        return;
    }
    weft__io_wait_init(inner(f), s, generation, interest);
    weft__source_unhold(s);
    f->future.ops = &future_ops;
}

static int start_wait(weft_case *c)
{
    weft_fd_wait_future_init(weft_case_storage(c), c->arg[0].ptr, (unsigned)c->arg[1].u64);
    return 0;
}

weft_case weft_case_fd(weft_fd *wfd, unsigned interest)
{
    _Static_assert(sizeof(weft_fd_wait_future) <= WEFT_CASE_BYTES, "it fits");
    weft_case c = weft_case_make(start_wait, wfd, NULL);
    c.arg[1].u64 = interest;
    return c;
}
