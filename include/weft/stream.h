/*
 * Streams: one interface to whatever carries bytes both ways, and what can be done with any of
 * them: copying, exact reads, complete writes, buffered reading by lines.
 *
 * A weft_stream is a small table of functions and whatever is behind it. weft_tcp_stream() and
 * weft_fd_stream() give those of a connection and of a descriptor; one of your own (TLS, a
 * decompressor, a test double) embeds a weft_stream as a member and fills in its ops, as with
 * futures.
 *
 * The stream of a connection or descriptor lives as long as its handle is open. Ask the handle for
 * it when it is needed: a pointer that is kept past the close is not recognised as such once the
 * next connection or descriptor has taken the place. Closing the handle while a function below is
 * inside a call, or a reader or writer object is in use, is allowed: these stay with the one that
 * they were given, and return -EBADF from then on, until the runtime that it was made in and its
 * other handles are gone.
 *
 * What every function below has in common:
 *   Context:  those that read or write may suspend, as weft_await(); the others may be called
 *             anywhere.
 *   Threads:  one task may read a stream while another writes it. Two readers, or two writers,
 *             each get whole calls of the stream, in no particular order. A reader or writer
 *             object belongs to one task at a time.
 *   Errors:   what the stream's own functions return: for sockets -ECONNRESET, -EPIPE, ...; and
 *             from each wait
 *             -ECANCELED  the task was aborted
 *             -ETIMEDOUT  a timeout scope around the call expired
 *             -ESHUTDOWN  the runtime that the stream belongs to is shut down
 *             -EBADF      the stream was closed during the call, or before it, see above
 *             -EPERM      nothing here can wait, see weft_await()
 *             -EINVAL     a NULL stream, or NULL bytes with a length
 *   Counts:   *ret_len of the loops and buffers is up to date throughout: a cleanup sees how far a
 *             call came that a panic of the stream, or an abort that unwinds, has ended.
 *   Budget:   each call on a connection or descriptor costs some, see weft_consume_budget(). Of a
 *             stream of your own each read and write that is made by a loop, a reader or a writer
 *             object or a copy does, so that one that never waits lets others have their turn, and
 *             hears of aborts; weft_stream_read() and its like only hand the call on.
 */
#ifndef WEFT_STREAM_H
#define WEFT_STREAM_H

#include <weft/base.h>

#include <sys/types.h>
#include <sys/uio.h>

WEFT_BEGIN_DECLS

typedef struct weft_stream weft_stream;

/*
 * What a stream can do. A function that is NULL does not exist: readv and writev are then made of
 * read and write, the others return -ENOTSUP.
 */
typedef struct weft_stream_ops {
    /* Some bytes, at least one, waiting for them; 0 at the end, or when len is 0. Safe to
     * cancel. */
    ssize_t (*read)(weft_stream *s, void *buf, size_t len);
    /* Takes some bytes, at least one, waiting for room; 0 only when len is 0. Safe to cancel. */
    ssize_t (*write)(weft_stream *s, const void *buf, size_t len);
    ssize_t (*readv)(weft_stream *s, const struct iovec *iov, int count);
    ssize_t (*writev)(weft_stream *s, const struct iovec *iov, int count);
    /* Hands on what write() kept back. NULL: nothing is kept back. */
    int (*flush)(weft_stream *s);
    /* Ends the writing side, so that the peer reads an end. Again: 0. */
    int (*shutdown)(weft_stream *s);
    /* Gives the stream up. */
    void (*close)(weft_stream *s);
    /* Waits until read() may have something, without a buffer, which a copy then need not keep
     * while nothing comes. 0 or an error. May be NULL. */
    int (*wait_readable)(weft_stream *s);
} weft_stream_ops;

struct weft_stream {
    const weft_stream_ops *ops;
};

/*
 * Reads some bytes: at least one, at most len.
 *
 * Returns their number; 0 at the end of the stream, or when len is 0; or an error, see above.
 * Cancellation: safe, nothing was taken from the stream.
 */
WEFT_API WEFT_MUST_CHECK ssize_t weft_stream_read(weft_stream *s, void *buf, size_t len);

/* Writes some bytes: at least one, at most len. Returns their number, or an error. Cancellation:
 * safe, nothing was written. */
WEFT_API WEFT_MUST_CHECK ssize_t weft_stream_write(weft_stream *s, const void *buf, size_t len);

/* The same into and from several buffers, in one call where the stream can; else the first that is
 * not empty is used.
 * -EINVAL when count is not 0 to 1024. */
WEFT_API WEFT_MUST_CHECK ssize_t weft_stream_readv(weft_stream *s, const struct iovec *iov,
                                                   int count);
WEFT_API WEFT_MUST_CHECK ssize_t weft_stream_writev(weft_stream *s, const struct iovec *iov,
                                                    int count);

/* Hands on what the stream kept back. 0 or an error. Cancellation: partial; flush again. */
WEFT_API WEFT_MUST_CHECK int weft_stream_flush(weft_stream *s);

/* Ends the writing side. 0, -ENOTSUP, or an error. Again: 0. */
WEFT_API int weft_stream_shutdown(weft_stream *s);

/* Closes what is behind the stream, which is then gone. NULL does nothing. Any thread. */
WEFT_API void weft_stream_close(weft_stream *s);

/*
 * Reads until buf is full.
 *
 *   ret_len   may be NULL. How many bytes were read; written in every case, so that nothing is lost
 *
 * Returns 0 when buf is full; -ENODATA when the stream ended before; or an error.
 * Cancellation: partial. *ret_len bytes are in buf; go on after them.
 */
WEFT_API WEFT_MUST_CHECK int weft_read_exact(weft_stream *s, void *buf, size_t len,
                                             size_t *ret_len);

/*
 * Reads to the end of the stream into a growing block.
 *
 *   max       refuses more than this many bytes
 *   buf       in and out: NULL, or a block from malloc() of *cap bytes of which *len are in use.
 *             New bytes come after those, and it is grown when it is full and the stream has not
 *             ended
 *
 * Returns 0 at the end; -EMSGSIZE when there is more than max, one byte of which is lost; -ENOMEM;
 * or an error. The block is the caller's in every case. After -ENOMEM nothing is lost, and the call
 * may be made again.
 * Cancellation: partial, all that was read is in the block.
 */
WEFT_API WEFT_MUST_CHECK int weft_read_to_end(weft_stream *s, size_t max, char **buf, size_t *len,
                                              size_t *cap);

/*
 * Writes all of buf.
 *
 *   ret_len   may be NULL. How many bytes were written; written in every case
 *
 * Returns 0; -EIO when the stream takes nothing; or an error.
 * Cancellation: partial, *ret_len says how much.
 */
WEFT_API WEFT_MUST_CHECK int weft_write_all(weft_stream *s, const void *buf, size_t len,
                                            size_t *ret_len);

/* The same from several buffers. iov is used up: it is advanced past what was written. -EINVAL when
 * count is not 0 to 1024. */
WEFT_API WEFT_MUST_CHECK int weft_writev_all(weft_stream *s, struct iovec *iov, int count,
                                             size_t *ret_len);

/*
 * Copies `from` to `to` until `from` ends. The two may be one and the same stream, which then
 * echoes. What was written is flushed whenever nothing more is there to read. Neither is shut down
 * or closed.
 *
 *   ret_bytes   may be NULL. How many bytes were written; written in every case
 *
 * Returns 0 at the end of `from`; -ENOMEM; -EIO when `to` takes nothing; or an error of either.
 * Cancellation: partial. Up to 16 KiB may have been read and not been written.
 */
WEFT_API int weft_copy(weft_stream *from, weft_stream *to, uint64_t *ret_bytes);

/*
 * Copies both ways at once: as a proxy does. The end of one side is passed on by shutting the
 * other's writing side down, and the call returns when both have ended. An error in one direction
 * ends the other.
 *
 *   ret_a_to_b, ret_b_to_a   may be NULL. Bytes written each way; written in every case but -EINVAL
 *
 * Returns 0; -ENOMEM; or the first error; -EOWNERDEAD when a stream of your own has panicked, which
 * is reported on the log.
 * Cancellation: partial, as weft_copy(). Two tasks do the work; none is left when the call returns.
 */
WEFT_API WEFT_MUST_CHECK int weft_copy_bidirectional(weft_stream *a, weft_stream *b,
                                                     uint64_t *ret_a_to_b, uint64_t *ret_b_to_a);

/* ---- buffered reading ---- */

typedef struct weft_bufreader weft_bufreader;

/*
 * Creates a reader over a stream, which stays the caller's and must outlive it.
 *
 *   capacity   of the buffer in bytes, hence the longest line; at most 1 GiB; 0: 8192
 *
 * Returns 0, -ENOMEM or -EINVAL.
 */
WEFT_API WEFT_MUST_CHECK int weft_bufreader_create(weft_stream *s, size_t capacity,
                                                   weft_bufreader **ret_reader);
/* Bytes that are buffered are lost. NULL does nothing. */
WEFT_API void weft_bufreader_destroy(weft_bufreader *r);

/* As weft_stream_read(). What is buffered comes first; with nothing buffered, a read of at least
 * the capacity goes straight to the stream. One that has ended is not asked again, by any call. */
WEFT_API WEFT_MUST_CHECK ssize_t weft_bufreader_read(weft_bufreader *r, void *buf, size_t len);

/* As weft_read_exact(). */
WEFT_API WEFT_MUST_CHECK int weft_bufreader_read_exact(weft_bufreader *r, void *buf, size_t len,
                                                       size_t *ret_len);

/*
 * Shows what is buffered, reading once when nothing is.
 *
 *   ret_data   borrowed until the next call on r
 *
 * Returns how many bytes there are; 0 at the end; or an error. Take them with
 * weft_bufreader_consume().
 * Cancellation: safe.
 */
WEFT_API WEFT_MUST_CHECK ssize_t weft_bufreader_fill(weft_bufreader *r, const char **ret_data);
/* Takes n of the bytes that are buffered; more than those takes them all. */
WEFT_API void weft_bufreader_consume(weft_bufreader *r, size_t n);

/* The same, but reads until at least n bytes are there or the stream ends: then fewer are returned.
 * -EMSGSIZE when n is above the capacity. Cancellation: safe, what was read stays buffered. */
WEFT_API WEFT_MUST_CHECK ssize_t weft_bufreader_peek(weft_bufreader *r, size_t n,
                                                     const char **ret_data);

/*
 * Takes everything up to and including the next delimiter.
 *
 *   ret_data   borrowed until the next call on r
 *   ret_len    its length. What comes after the last delimiter is a piece of its own, without one
 *
 * Returns 1 with a piece; 0 at the end; -EMSGSIZE when the buffer is full without a delimiter; or
 * an error. With an error nothing is taken: what was read stays buffered, and the call may be made
 * again.
 * Cancellation: safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_bufreader_read_until(weft_bufreader *r, char delimiter,
                                                       const char **ret_data, size_t *ret_len);

/* The same for lines: "\n" or "\r\n" at the end is not part of *ret_line, which has a NUL after its
 * last byte. */
WEFT_API WEFT_MUST_CHECK int weft_bufreader_read_line(weft_bufreader *r, const char **ret_line,
                                                      size_t *ret_len);

/* ---- buffered writing ---- */

typedef struct weft_bufwriter weft_bufwriter;

/* Creates a writer over a stream, which stays the caller's and must outlive it. capacity: at
 * most 1 GiB; 0: 8192. 0, -ENOMEM or -EINVAL. */
WEFT_API WEFT_MUST_CHECK int weft_bufwriter_create(weft_stream *s, size_t capacity,
                                                   weft_bufwriter **ret_writer);
/* Does not flush: what is still buffered is lost. NULL does nothing. */
WEFT_API void weft_bufwriter_destroy(weft_bufwriter *w);

/*
 * Writes all of buf, through the buffer; at least a capacity goes straight to the stream once the
 * buffer is empty.
 *
 * Returns 0 or an error. Then weft_bufwriter_pending() tells what is still buffered.
 * Cancellation: partial. *ret_len (may be NULL) says how many bytes of buf were buffered or
 * written.
 */
WEFT_API WEFT_MUST_CHECK int weft_bufwriter_write(weft_bufwriter *w, const void *buf, size_t len,
                                                  size_t *ret_len);
/* printf into the buffer; what is formatted must fit into the capacity, else -EMSGSIZE. 0 or an
 * error; then nothing of it was buffered. */
WEFT_API WEFT_MUST_CHECK int weft_bufwriter_printf(weft_bufwriter *w, const char *fmt, ...)
    WEFT_PRINTF(2, 3);
/* Writes what is buffered and flushes the stream. 0 or an error. Cancellation: partial; what was
 * not written stays buffered, flush again. */
WEFT_API WEFT_MUST_CHECK int weft_bufwriter_flush(weft_bufwriter *w);
WEFT_API size_t weft_bufwriter_pending(const weft_bufwriter *w);

WEFT_END_DECLS

#endif
