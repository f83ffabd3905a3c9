/*
 * TCP connections: bytes, readiness, halves.
 *
 * A weft_tcp is a source (src/io/source.h) without anything of its own: no allocation a connection,
 * and a handle that was closed is found out.
 */
#include "net/tcp.h"

#include "task/task.h"

#include <errno.h>
#include <limits.h>

/* The kernel moves less than 2 GiB a call; asked for more, a full result would look short. */
#define LEN_MAX ((size_t)1 << 30)

#define INTERESTS (WEFT_READY_READ | WEFT_READY_WRITE | WEFT_READY_PRIORITY | WEFT_READY_ERROR)

/* ---- system calls ---- */

struct bytes {
    void *buf; /* sends do not write to it */
    size_t len;
    const struct iovec *iov;
    int count;
};

static ssize_t call_recv(int fd, void *arg)
{
    struct bytes *b = arg;
    return weft__sys_recv(fd, b->buf, b->len, 0);
}

static ssize_t call_peek(int fd, void *arg)
{
    struct bytes *b = arg;
    return weft__sys_recv(fd, b->buf, b->len, MSG_PEEK);
}

static ssize_t call_send(int fd, void *arg)
{
    struct bytes *b = arg;
    return weft__sys_send(fd, b->buf, b->len, 0);
}

static ssize_t call_readv(int fd, void *arg)
{
    struct bytes *b = arg;
    return weft__sys_readv(fd, b->iov, b->count);
}

static ssize_t call_writev(int fd, void *arg)
{
    struct bytes *b = arg;
    /* Not writev(), which raises SIGPIPE. */
    const struct msghdr msg = {
        .msg_iov = (struct iovec *)(uintptr_t)b->iov,
        .msg_iovlen = (size_t)b->count,
    };
    return weft__sys_sendmsg(fd, &msg, 0);
}

/* ---- operations ---- */

/* Bytes asked for. 0 for an empty vector, -EINVAL for a bad one. */
static ssize_t vector_len(const struct iovec *iov, int count)
{
    if (count < 0 || count > IOV_MAX || (iov == NULL && count > 0))
        return -EINVAL;
    size_t len = 0;
    for (int i = 0; i < count; i++)
        /* NULL: stopped by it in the middle, a write would look short for want of room. */
        if ((iov[i].iov_base == NULL && iov[i].iov_len > 0) || iov[i].iov_len > SSIZE_MAX ||
            (len += iov[i].iov_len) > SSIZE_MAX)
            return -EINVAL;
    return (ssize_t)len;
}

static inline __attribute__((always_inline)) ssize_t operate_held(const struct weft__source_ref *r,
                                                                  enum weft__direction dir,
                                                                  weft__io_call call,
                                                                  struct bytes *b, ssize_t len,
                                                                  size_t want, bool may_wait)
{
    if (WEFT__UNLIKELY(len == 0)) {
        weft__source_unhold(r->source);
        return 0;
    }
    if (may_wait)
        return weft__source_io(r->source, r->generation, dir, call, b, want);
    return weft__source_try_io(r->source, dir, call, b, want);
}

/*
 * The way of every operation, inlined into each, so that the call is a direct one.
 *
 *   len     bytes asked for; negative: the arguments were bad
 *   want    as in weft__source_io
 */
static inline __attribute__((always_inline)) ssize_t operate(
    weft_tcp *conn, enum weft__direction dir, weft__io_call call, struct bytes *b, ssize_t len,
    size_t want, bool may_wait, const char *name, const void *caller)
{
    if (WEFT__UNLIKELY(len < 0))
        return weft__misuse(name, -EINVAL, "bad buffers", caller);
    if (may_wait) {
        int rc = weft__wait_begin(name, caller);
        if (WEFT__UNLIKELY(rc < 0))
            return rc;
    }
    struct weft__source_ref r;
    int rc = weft__source_enter(conn, name, caller, &r.source, &r.generation);
    if (WEFT__UNLIKELY(rc < 0))
        return rc;
    return operate_held(&r, dir, call, b, len, want, may_wait);
}

/* The same by reference: one that was open. */
static inline __attribute__((always_inline)) ssize_t operate_again(
    const struct weft__source_ref *r, enum weft__direction dir, weft__io_call call, struct bytes *b,
    ssize_t len, size_t want, bool may_wait, const char *name)
{
    if (WEFT__UNLIKELY(len < 0))
        return weft__misuse(name, -EINVAL, "bad buffers", NULL);
    int rc = weft__wait_begin(name, NULL);
    if (WEFT__UNLIKELY(rc < 0))
        return rc;
    rc = weft__source_rehold(r->source, r->generation);
    if (WEFT__UNLIKELY(rc < 0))
        return rc;
    return operate_held(r, dir, call, b, len, want, may_wait);
}

static inline ssize_t checked_len(const void *buf, size_t len)
{
    return buf == NULL && len > 0 ? -EINVAL : (ssize_t)(len < LEN_MAX ? len : LEN_MAX);
}

#define FLAT(name, type, dir, call, may_wait, want)                                                \
    ssize_t name(weft_tcp *conn, type buf, size_t len)                                             \
    {                                                                                              \
        ssize_t n = checked_len(buf, len);                                                         \
        struct bytes b = {.buf = (void *)(uintptr_t)buf, .len = (size_t)n};                        \
        return operate(conn, dir, call, &b, n, want, may_wait, #name, WEFT__CALLER);               \
    }
/* Sums above 2 GiB come back short without meaning anything. */
static inline size_t vector_want(ssize_t n)
{
    return n > (ssize_t)LEN_MAX ? 0 : (size_t)n;
}

#define VECTOR(name, dir, call, may_wait)                                                          \
    ssize_t name(weft_tcp *conn, const struct iovec *iov, int count)                               \
    {                                                                                              \
        ssize_t n = vector_len(iov, count);                                                        \
        struct bytes b = {.iov = iov, .count = count};                                             \
        return operate(conn, dir, call, &b, n, vector_want(n), may_wait, #name, WEFT__CALLER);     \
    }

FLAT(weft_tcp_read, void *, WEFT__IN, call_recv, true, b.len)
FLAT(weft_tcp_try_read, void *, WEFT__IN, call_recv, false, b.len)
FLAT(weft_tcp_peek, void *, WEFT__IN, call_peek, true, 0) /* the bytes stay: nothing is known */
FLAT(weft_tcp_try_peek, void *, WEFT__IN, call_peek, false, 0)
FLAT(weft_tcp_write, const void *, WEFT__OUT, call_send, true, b.len)
FLAT(weft_tcp_try_write, const void *, WEFT__OUT, call_send, false, b.len)
VECTOR(weft_tcp_readv, WEFT__IN, call_readv, true)
VECTOR(weft_tcp_try_readv, WEFT__IN, call_readv, false)
VECTOR(weft_tcp_writev, WEFT__OUT, call_writev, true)
VECTOR(weft_tcp_try_writev, WEFT__OUT, call_writev, false)

/* Urgent data that has been told of: reading past it takes it, which nothing reports. Where it
 * stands in the stream (SO_OOBINLINE) the kernel does not say, and it is told once. */
static void forget_urgent_if_gone(struct weft__source *s, uint64_t seen)
{
    char c;
    /* Its mark may still stop reads short. relaxed: before the call, as for a ULP (set_any()). */
    (void)weft__a32_and_relaxed(&s->flags, ~WEFT__SOURCE_BARE_TCP);
    if (weft__sys_recv(s->fd, &c, 1, MSG_OOB | MSG_PEEK) < 1)
        weft__source_clear(s, WEFT__IN, seen, WEFT__READY_PRIORITY);
}

/* The hold is given up. */
static int wait_held(struct weft__source *s, uint32_t generation, unsigned interest,
                     unsigned *ret_bits)
{
    int rc = 0;
    uint64_t bits, in;
    for (;;) {
        in = weft__source_ready(s, WEFT__IN);
        uint64_t out = weft__source_ready(s, WEFT__OUT);
        bits = (in & weft__ready_mask(WEFT__IN, interest)) |
               (out & weft__ready_mask(WEFT__OUT, interest));
        if (WEFT__UNLIKELY(((in | out) & WEFT__READY_SHUTDOWN) != 0))
            rc = -ESHUTDOWN;
        if (bits != 0 || rc < 0)
            break;
        rc = weft__source_wait(s, generation, interest);
        if (rc < 0)
            return rc;
    }
    if (WEFT__UNLIKELY((bits & WEFT__READY_PRIORITY) != 0))
        forget_urgent_if_gone(s, in);
    weft__source_unhold(s);
    if (rc == 0 && ret_bits != NULL)
        *ret_bits = (unsigned)bits;
    return rc;
}

int weft_tcp_ready(weft_tcp *conn, unsigned interest, unsigned *ret_bits)
{
    if (interest == 0 || (interest & ~(unsigned)INTERESTS) != 0)
        return weft__misuse("weft_tcp_ready", -EINVAL, "no such interest", WEFT__CALLER);
    int rc = weft__wait_begin("weft_tcp_ready", WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct weft__source *s;
    uint32_t generation;
    rc = weft__source_enter(conn, "weft_tcp_ready", WEFT__CALLER, &s, &generation);
    return rc < 0 ? rc : wait_held(s, generation, interest, ret_bits);
}

/* The hold is given up. */
static int shut_down_held(struct weft__source *s, int how)
{
    int rc = weft__sys_shutdown(s->fd, how);
    weft__source_unhold(s);
    return rc == -ENOTCONN ? 0 : rc; /* the peer has reset it: nothing is left to shut down */
}

int weft_tcp_shutdown(weft_tcp *conn, int how)
{
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(conn, "weft_tcp_shutdown", WEFT__CALLER, &s, &generation);
    return rc < 0 ? rc : shut_down_held(s, how);
}

/* ---- as a stream ---- */

static weft_tcp *tcp_of(weft_stream *stream)
{
    return weft__source_handle(WEFT__CONTAINER_OF(stream, struct weft__source, stream));
}

static ssize_t stream_read(weft_stream *s, void *buf, size_t len)
{
    return weft_tcp_read(tcp_of(s), buf, len);
}

static ssize_t stream_write(weft_stream *s, const void *buf, size_t len)
{
    return weft_tcp_write(tcp_of(s), buf, len);
}

static ssize_t stream_readv(weft_stream *s, const struct iovec *iov, int count)
{
    return weft_tcp_readv(tcp_of(s), iov, count);
}

static ssize_t stream_writev(weft_stream *s, const struct iovec *iov, int count)
{
    return weft_tcp_writev(tcp_of(s), iov, count);
}

static int stream_shutdown(weft_stream *s)
{
    return weft_tcp_shutdown(tcp_of(s), SHUT_WR);
}

static void stream_close(weft_stream *s)
{
    (void)weft_tcp_close(tcp_of(s)); /* misuse has been logged */
}

/* Bytes may be there before the first event says so: not asked for here, but by the read, which is
 * what UNKNOWN stands for. */
static bool may_be_readable(const struct weft__source *s)
{
    return (weft__source_ready(s, WEFT__IN) & WEFT__READY_UNKNOWN) != 0;
}

static int stream_wait_readable(weft_stream *s)
{
    if (may_be_readable(WEFT__CONTAINER_OF(s, struct weft__source, stream)))
        return 0;
    return weft_tcp_ready(tcp_of(s), WEFT_READY_READ, NULL);
}

/* By reference. */

static ssize_t ref_read(const struct weft__source_ref *r, void *buf, size_t len)
{
    ssize_t n = checked_len(buf, len);
    struct bytes b = {.buf = buf, .len = (size_t)n};
    return operate_again(r, WEFT__IN, call_recv, &b, n, b.len, true, "weft_stream_read");
}

static ssize_t ref_try_read(const struct weft__source_ref *r, void *buf, size_t len)
{
    ssize_t n = checked_len(buf, len);
    struct bytes b = {.buf = buf, .len = (size_t)n};
    return operate_again(r, WEFT__IN, call_recv, &b, n, b.len, false, "weft_stream_read");
}

static ssize_t ref_write(const struct weft__source_ref *r, const void *buf, size_t len)
{
    ssize_t n = checked_len(buf, len);
    struct bytes b = {.buf = (void *)(uintptr_t)buf, .len = (size_t)n};
    return operate_again(r, WEFT__OUT, call_send, &b, n, b.len, true, "weft_stream_write");
}

static ssize_t ref_writev(const struct weft__source_ref *r, const struct iovec *iov, int count)
{
    ssize_t n = vector_len(iov, count);
    struct bytes b = {.iov = iov, .count = count};
    return operate_again(r, WEFT__OUT, call_writev, &b, n, vector_want(n), true,
                         "weft_stream_writev");
}

static int ref_shutdown(const struct weft__source_ref *r)
{
    int rc = weft__source_rehold(r->source, r->generation);
    return rc < 0 ? rc : shut_down_held(r->source, SHUT_WR);
}

/* Of a slot that is somebody else's by now the read finds out. */
static int ref_wait_readable(const struct weft__source_ref *r)
{
    if (may_be_readable(r->source))
        return 0;
    int rc = weft__wait_begin("weft_stream_read", NULL);
    if (rc == 0)
        rc = weft__source_rehold(r->source, r->generation);
    return rc < 0 ? rc : wait_held(r->source, r->generation, WEFT_READY_READ, NULL);
}

const struct weft__source_ops weft__tcp_ops = {
    .stream =
        {
            .read = stream_read,
            .write = stream_write,
            .readv = stream_readv,
            .writev = stream_writev,
            .shutdown = stream_shutdown,
            .close = stream_close,
            .wait_readable = stream_wait_readable,
        },
    .read = ref_read,
    .write = ref_write,
    .try_read = ref_try_read,
    .wait_readable = ref_wait_readable,
    .shutdown = ref_shutdown,
    .writev = ref_writev,
};

weft_stream *weft_tcp_stream(weft_tcp *conn)
{
    struct weft__source *s;
    uint32_t generation;
    if (weft__source_enter(conn, "weft_tcp_stream", WEFT__CALLER, &s, &generation) < 0)
        return weft__stream_closed();
    weft_stream *stream = &s->stream;
    weft__source_unhold(s);
    return stream;
}

/* ---- life ---- */

int weft_tcp_close(weft_tcp *conn)
{
    if (conn == NULL)
        return 0;
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(conn, "weft_tcp_close", WEFT__CALLER, &s, &generation);
    if (rc < 0)
        return rc;
    bool is_split = weft__source_has_flag(s, WEFT__SOURCE_SPLIT);
    rc = is_split ? -EBUSY : weft__source_close(conn);
    weft__source_unhold(s);
    if (rc < 0)
        return weft__misuse("weft_tcp_close", rc,
                            is_split ? "the connection was split: its halves close it"
                                     : "the handle was closed before",
                            WEFT__CALLER);
    return 0;
}

int weft_tcp_from_fd(int fd, weft_tcp **ret_conn)
{
    if (ret_conn == NULL)
        return weft__misuse("weft_tcp_from_fd", -EINVAL, "no place for the result", WEFT__CALLER);
    int type;
    socklen_t len = sizeof(type);
    int rc = weft__sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
    if (rc < 0)
        return rc;
    if (type != SOCK_STREAM)
        return -EPROTOTYPE;
    struct weft__source *s;
    rc = weft__source_adopt("weft_tcp_from_fd", WEFT__CALLER, fd, WEFT__SOURCE_TCP,
                            weft__sock_bare_tcp(fd), &weft__tcp_ops, &s);
    if (rc < 0)
        return rc;
    *ret_conn = weft__source_handle(s);
    return 0;
}

int weft_tcp_into_fd(weft_tcp *conn, int *ret_fd)
{
    if (conn == NULL || ret_fd == NULL)
        return weft__misuse("weft_tcp_into_fd", -EINVAL,
                            "the handle is NULL, or no place for the result", WEFT__CALLER);
    int rc = weft__source_release_fd(conn, ret_fd); /* -EBUSY for halves too */
    if (rc == -EBADF)
        return weft__misuse("weft_tcp_into_fd", rc, "the handle was closed before", WEFT__CALLER);
    return rc;
}

/* ---- halves: the same handle, and two flags ---- */

#define HALVES (WEFT__SOURCE_READ_HALF | WEFT__SOURCE_WRITE_HALF)

int weft_tcp_split(weft_tcp *conn, weft_tcp_reader **ret_reader, weft_tcp_writer **ret_writer)
{
    if (ret_reader == NULL || ret_writer == NULL)
        return weft__misuse("weft_tcp_split", -EINVAL, "no place for the results", WEFT__CALLER);
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(conn, "weft_tcp_split", WEFT__CALLER, &s, &generation);
    if (rc < 0)
        return rc;
    /* Against another split, and weft_tcp_into_fd(). A forked child is alone with its copies, and
     * could find the lock held for ever. */
    bool locks = !weft__source_is_ancestral(s);
    if (locks)
        weft__lock_acquire(&s->lock);
    if (weft__source_has_flag(s, WEFT__SOURCE_SPLIT))
        rc = -EBUSY;
    else
        weft__a32_or_relaxed(&s->flags, WEFT__SOURCE_SPLIT | HALVES);
    if (locks)
        weft__lock_release(&s->lock);
    weft__source_unhold(s);
    if (rc < 0)
        return weft__misuse("weft_tcp_split", rc, "the connection was split before", WEFT__CALLER);
    *ret_reader = (weft_tcp_reader *)conn;
    *ret_writer = (weft_tcp_writer *)conn;
    return 0;
}

int weft_tcp_reunite(weft_tcp_reader *reader, weft_tcp_writer *writer, weft_tcp **ret_conn)
{
    if (ret_conn == NULL || (void *)reader != (void *)writer)
        return weft__misuse("weft_tcp_reunite", -EINVAL,
                            "the halves are not of one connection, or no place for the result",
                            WEFT__CALLER);
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(reader, "weft_tcp_reunite", WEFT__CALLER, &s, &generation);
    if (rc < 0)
        return rc;
    uint32_t flags = weft__a32_load_relaxed(&s->flags);
    do {
        if ((flags & HALVES) != HALVES)
            rc = -EBADF;
        /* relaxed: as in close_half */
    } while (rc == 0 && !weft__a32_cas_weak_relaxed(&s->flags, &flags,
                                                    flags & ~(WEFT__SOURCE_SPLIT | HALVES)));
    weft__source_unhold(s);
    if (rc < 0)
        return weft__misuse("weft_tcp_reunite", rc, "a half was closed before", WEFT__CALLER);
    *ret_conn = (weft_tcp *)reader;
    return 0;
}

/* Gives one half up; the connection goes with the other. */
static int close_half(void *handle, uint32_t half, const char *name, const void *caller)
{
    if (handle == NULL)
        return 0;
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(handle, name, caller, &s, &generation);
    if (rc < 0)
        return rc;
    /* No lock: a forked child that closes could find it held for ever. relaxed: that uses of the
     * other half are over before the descriptor goes is for the holds to see to. */
    uint32_t flags = weft__a32_and_relaxed(&s->flags, ~half);
    if (!(flags & half))
        rc = -EBADF;
    bool last = rc == 0 && (flags & HALVES) == half;
    if (last)
        (void)weft__source_close(handle); /* open: we hold it, and nobody else was the last */
    else if (rc == 0 && half == WEFT__SOURCE_WRITE_HALF && !weft__source_is_ancestral(s))
        /* Reset meanwhile: the reader will see. In a forked child it would end the parent's. */
        (void)weft__sys_shutdown(s->fd, SHUT_WR);
    weft__source_unhold(s);
    if (rc < 0)
        return weft__misuse(name, rc, "the half was closed before", caller);
    return 0;
}

int weft_tcp_reader_close(weft_tcp_reader *reader)
{
    return close_half(reader, WEFT__SOURCE_READ_HALF, "weft_tcp_reader_close", WEFT__CALLER);
}

int weft_tcp_writer_close(weft_tcp_writer *writer)
{
    return close_half(writer, WEFT__SOURCE_WRITE_HALF, "weft_tcp_writer_close", WEFT__CALLER);
}

weft_tcp *weft_tcp_of_reader(weft_tcp_reader *reader)
{
    return (weft_tcp *)reader;
}

weft_tcp *weft_tcp_of_writer(weft_tcp_writer *writer)
{
    return (weft_tcp *)writer;
}

/* The connection does not tell, which lives on with the other half. Looked at without a hold: of a
 * slot that is another's by now the handle tells. */
static int check_half(void *handle, uint32_t half, const char *name, const void *caller)
{
    if (handle == NULL || weft__source_has_flag(weft__source_of(handle), half))
        return 0;
    return weft__misuse(name, -EBADF, "the half was closed before", caller);
}

ssize_t weft_tcp_reader_read(weft_tcp_reader *reader, void *buf, size_t len)
{
    static const char call[] = "weft_tcp_reader_read";
    int rc = check_half(reader, WEFT__SOURCE_READ_HALF, call, WEFT__CALLER);
    if (rc < 0)
        return rc;
    ssize_t n = checked_len(buf, len);
    struct bytes b = {.buf = buf, .len = (size_t)n};
    return operate((weft_tcp *)reader, WEFT__IN, call_recv, &b, n, b.len, true, call, WEFT__CALLER);
}

ssize_t weft_tcp_writer_write(weft_tcp_writer *writer, const void *buf, size_t len)
{
    static const char call[] = "weft_tcp_writer_write";
    int rc = check_half(writer, WEFT__SOURCE_WRITE_HALF, call, WEFT__CALLER);
    if (rc < 0)
        return rc;
    ssize_t n = checked_len(buf, len);
    struct bytes b = {.buf = (void *)(uintptr_t)buf, .len = (size_t)n};
    return operate((weft_tcp *)writer, WEFT__OUT, call_send, &b, n, b.len, true, call,
                   WEFT__CALLER);
}
