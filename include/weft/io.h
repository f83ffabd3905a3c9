/*
 * Descriptors: readiness of, and bytes to and from, whatever can be polled: pipes, sockets of other
 * libraries, eventfd, signalfd, timerfd, inotify, terminals, devices.
 *
 * A weft_fd registers a descriptor with the runtime of its creator; its functions may then be used
 * in any runtime. Readiness is remembered from one edge to the next: a direction stays ready until
 * a call on the descriptor would have blocked, or until it is cleared by hand. So the pattern is:
 * make the system call; when it says EAGAIN, clear and wait. weft_fd_io() and weft_fd_try_io() do
 * that.
 *
 * Common to all functions: a handle that was closed gives -EBADF (found with high probability: its
 * slot must have been used again 127 times since to be mistaken; not after the runtime that it was
 * made in and its other handles are gone), NULL gives -EINVAL, both with a line in the log. Closing
 * while another task waits ends that wait with -EBADF. Nothing else closes one, not the end of its
 * runtime either.
 *
 * In a forked child what its parent has registered cannot be waited for: -EPERM with a line in the
 * log. What need not wait acts on the open file, which both share. Closing and releasing concern
 * the child's descriptor alone.
 */
#ifndef WEFT_IO_H
#define WEFT_IO_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>
#include <weft/stream.h>

WEFT_BEGIN_DECLS

typedef struct weft_fd weft_fd;

/* What to wait for, and what is ready. The first four are interests; all six are results. */
enum weft_ready {
    WEFT_READY_READ = 0x01,
    WEFT_READY_WRITE = 0x02,
    WEFT_READY_PRIORITY = 0x04,     /* urgent data of a socket, POLLPRI in general */
    WEFT_READY_ERROR = 0x08,        /* an error is pending, or the error queue has something
                                     * (IP_RECVERR, timestamps) */
    WEFT_READY_READ_CLOSED = 0x10,  /* the peer will send no more; a result of waits to read, and
                                     * for urgent data */
    WEFT_READY_WRITE_CLOSED = 0x20, /* nothing can be sent any more; a result of waits to write */
};

/* A snapshot of readiness: clearing with it spares an edge that came after it was taken. */
typedef struct weft_fd_ready {
    unsigned bits; /* enum weft_ready */
    uint64_t seen[2];
} weft_fd_ready;

enum weft_fd_flags {
    WEFT_FD_OWNED = 1,         /* weft_fd_close() closes the descriptor; default: it is only given
                                * up */
    WEFT_FD_KEEP_BLOCKING = 2, /* do not set O_NONBLOCK: for waits alone. Default: it is set, for
                                * all who share the open file */
};

/*
 * Registers a descriptor with the runtime of the caller.
 *
 *   fd      borrowed, or taken with WEFT_FD_OWNED, until weft_fd_close() or weft_fd_release(). It
 *           must not be closed before that, and not be registered twice in one runtime at a time
 *   flags   enum weft_fd_flags
 *
 * Returns 0, or fd is still the caller's and it is
 *   -EPERM     the caller is in no runtime, or I/O is switched off there (both logged); or fd is a
 *              regular file, a directory or a device like /dev/null, which cannot be waited for:
 *              use weft_spawn_blocking()
 *   -EBADF     fd is not open
 *   -EEXIST    fd is registered in this runtime
 *   -EINVAL    unknown flags, or ret_fd is NULL
 *   -ELOOP     fd is an epoll instance over others, too many in a row
 *   -ENOMEM, -ENOSPC (fs.epoll.max_user_watches), -ESHUTDOWN
 *
 * Context: tasks, threads inside weft_enter(), blocking jobs. Never suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_fd_open(int fd, unsigned flags, weft_fd **ret_fd);

/* Deregisters, and closes the descriptor if it is owned, once the calls that are under way on other
 * threads have returned. Waiting tasks get -EBADF. NULL does nothing. 0, or -EBADF for a spent
 * handle. Any thread; never suspends.
 * A borrowed descriptor is the caller's again at once, and may be closed or registered anew; but
 * calls that are under way on other threads may use its number until they return. */
WEFT_API int weft_fd_close(weft_fd *wfd);

/* Deregisters and gives the descriptor back, owned or not; it stays non-blocking. 0; -EBADF,
 * -EINVAL; -EBUSY while another task is inside a call on it, and then nothing has changed. Any
 * thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_fd_release(weft_fd *wfd, int *ret_fd);

/* The number, still owned by wfd: for system calls of your own. -EBADF, -EINVAL. */
WEFT_API int weft_fd_number(weft_fd *wfd);

/*
 * Waits until the descriptor is ready for one of the interests.
 *
 *   interest    one or more of the first four of enum weft_ready
 *   ret_ready   may be NULL
 *
 * Returns 0 when something is ready, at once if it already was. Otherwise
 *   -ECANCELED, -ETIMEDOUT, -EPERM   as weft_await()
 *   -ESHUTDOWN   the runtime in which wfd was opened is shut down
 *   -EBADF       wfd was closed, before the call or during it
 *   -EINVAL      NULL, or no interest
 *
 * Context:       as weft_await(). May suspend, and resume on another thread.
 * Threads:       any number of tasks may wait for the same direction; an edge wakes them all.
 * Cancellation:  safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_fd_wait(weft_fd *wfd, unsigned interest,
                                          weft_fd_ready *ret_ready);

/* What is ready now, as far as the runtime has looked: of a descriptor that was just opened nothing
 * is known yet. 0, -EAGAIN when nothing of the interest is, -ESHUTDOWN, -EBADF, -EINVAL. Any
 * thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_fd_try_wait(weft_fd *wfd, unsigned interest,
                                              weft_fd_ready *ret_ready);

/*
 * Forgets readiness, after a call of your own that would have blocked: the next wait waits for a
 * new edge. Edges since the snapshot are kept. Only bits of `bits` are cleared; closed sides stay.
 *
 * Returns 0, -EBADF or -EINVAL. Any thread; never suspends.
 */
WEFT_API int weft_fd_clear(weft_fd *wfd, const weft_fd_ready *ready, unsigned bits);

/* A system call on the descriptor: returns its result, or a negative errno, -EAGAIN when it would
 * block. It must not suspend. A panic in it goes on in the caller. */
typedef ssize_t (*weft_fd_call)(int fd, void *arg);

/*
 * Makes the call if the descriptor is ready for the interest (one of the first four of enum
 * weft_ready), as weft_fd_try_wait() has it, and forgets that readiness when the call would block.
 *
 * Returns what the call returned; -EAGAIN without calling when nothing is ready; -ESHUTDOWN,
 * -EBADF, -EINVAL. Any thread; never suspends.
 */
WEFT_API WEFT_MUST_CHECK ssize_t weft_fd_try_io(weft_fd *wfd, unsigned interest, weft_fd_call call,
                                                void *arg);

/*
 * Makes the call, waiting and making it again as long as it would block.
 *
 * Returns what the call returned, or an error of weft_fd_wait(). Context and threads as there.
 * Cancellation: safe: an abort returns before the call, or not at all.
 */
WEFT_API WEFT_MUST_CHECK ssize_t weft_fd_io(weft_fd *wfd, unsigned interest, weft_fd_call call,
                                            void *arg);

/*
 * Reads and writes some bytes: read(2) and write(2) that suspend. A write to a pipe without a
 * reader raises SIGPIPE in the thread, as write(2) does. The threads of a multi_thread runtime
 * block it, and the call returns -EPIPE; on threads of yours ignore the signal. A write to a stream
 * socket whose peer is gone returns -EPIPE and raises none.
 *
 * Returns the number of bytes; 0 at the end of the file, or when len is 0; an errno of read(2) or
 * write(2); or an error of weft_fd_wait(). Context and threads as there.
 * Cancellation: safe: nothing was read or written.
 */
WEFT_API WEFT_MUST_CHECK ssize_t weft_fd_read(weft_fd *wfd, void *buf, size_t len);
WEFT_API WEFT_MUST_CHECK ssize_t weft_fd_write(weft_fd *wfd, const void *buf, size_t len);

/* The descriptor as a stream, borrowed from wfd for as long as it is open. The writing side of a
 * socket can be shut down, and of nothing else (-ENOTSUP). A NULL or closed handle gives a stream
 * whose every call returns -EBADF. */
WEFT_API weft_stream *weft_fd_stream(weft_fd *wfd);

/*
 * The wait of weft_fd_wait() as a future, for polled tasks and composites. Its result is the bits
 * that are ready, above 0; or -EBADF, -ESHUTDOWN,
 * -EINVAL. In the caller's memory; may be polled again after it was ready, to wait again.
 * Cancelling leaves nothing behind.
 */
typedef struct weft_fd_wait_future {
    weft_future future;
    weft_fd_ready ready; /* the snapshot, once ready */
    void *opaque[12];
} weft_fd_wait_future;
/* wfd must stay open until the first poll. Never suspends. */
WEFT_API void weft_fd_wait_future_init(weft_fd_wait_future *f, weft_fd *wfd, unsigned interest);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_fd(weft_fd *wfd, unsigned interest);

WEFT_END_DECLS

#endif
