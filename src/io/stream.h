/*
 * What a stream stands for, told once by whoever works on it over several calls.
 *
 * The stream of a socket or descriptor lies in the slot of its source, and stands for whoever has
 * the slot. A loop that was given one must not go on with the slot's next owner when it is closed
 * between two calls. So it looks once which source that is, and goes by that, generation and all,
 * from there on: after a close every call is -EBADF, without a line in the log, since closing what
 * others work on is allowed. No hold is kept meanwhile, and no operation is added to a call.
 */
#ifndef WEFT_IO_STREAM_H
#define WEFT_IO_STREAM_H

#include "io/source.h"

#include <weft/stream.h>

/* Where a call counts what it has moved, from 0: in *ret_len, if the caller wants to know, so that
 * his cleanups do when a stream panics in the middle, or an abort unwinds it. */
static inline size_t *weft__stream_count(size_t *ret_len, size_t *otherwise)
{
    size_t *len = ret_len != NULL ? ret_len : otherwise;
    *len = 0;
    return len;
}

struct weft__stream_target {
    weft_stream *stream;                /* a user's, or the one of closed handles; else NULL, */
    const struct weft__source_ops *ops; /* ... and these are a source's, namely of */
    struct weft__source_ref ref;
};

/* `s` must have ops. */
struct weft__stream_target weft__stream_resolve(weft_stream *s);

/* As the functions of weft/stream.h. */
ssize_t weft__target_read(const struct weft__stream_target *t, void *buf, size_t len);
ssize_t weft__target_write(const struct weft__stream_target *t, const void *buf, size_t len);
ssize_t weft__target_writev(const struct weft__stream_target *t, const struct iovec *iov,
                            int count);
/* Adds what is written to *len, at once. */
int weft__target_write_all(const struct weft__stream_target *t, const void *buf, size_t bytes,
                           size_t *len);
int weft__target_flush(const struct weft__stream_target *t);
int weft__target_shutdown(const struct weft__stream_target *t);

/* Whether it has wait_readable(), and that. */
bool weft__target_can_wait(const struct weft__stream_target *t);
int weft__target_wait_readable(const struct weft__stream_target *t);
/* Reads what is there: of a source -EAGAIN when that is nothing, which the above then waits for. Of
 * a user's stream nobody can tell, and it is a plain read. */
ssize_t weft__target_read_ready(const struct weft__stream_target *t, void *buf, size_t len);

#endif
