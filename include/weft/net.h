/*
 * The network: addresses, name lookup, TCP.
 *
 * A weft_tcp is a connection, a weft_tcp_listener accepts them. Both own their descriptor; the
 * runtime in which they were made watches it, and their functions may be used in any runtime.
 *
 * What the functions have in common, unless they say otherwise:
 *   Handles:   NULL gives -EINVAL, one that was closed -EBADF (unless its slot has been used again
 *              127 times since, or the runtime that it was made in and its other handles are gone),
 *              both with a line in the log. Closing while other tasks are inside calls is allowed:
 *              calls that wait return -EBADF at once, the others finish. Nothing else closes one:
 *              not the end of the task that has it, aborted or not (WEFT_DEFER does), nor that of
 *              its runtime.
 *   Waits:     what "may suspend" returns, besides its own errors,
 *                -ECANCELED  the calling task was aborted
 *                -ETIMEDOUT  a timeout scope around the call expired
 *                -ESHUTDOWN  the runtime that the handle belongs to is shut down
 *                -EPERM      nothing here can wait, see weft_await()
 *              Each call costs budget, ready or not, so a busy connection lets others have their
 *              turn.
 *   Threads:   any number of tasks on any threads may use a handle at the same time. One may read
 *              while another writes; two that read, or write, take turns by calls.
 *   Fork:      in a forked child a handle of its parent's cannot be waited for: -EPERM with a line
 *              in the log. What need not wait acts on the connection, which both share: bytes,
 *              shutdown, options. Closing, and taking the descriptor out, concern the child's copy
 *              alone.
 *   Options:   getters and setters never suspend, may be called from any thread, and return 0 or an
 *              errno of getsockopt(2) or setsockopt(2).
 */
#ifndef WEFT_NET_H
#define WEFT_NET_H

#include <weft/base.h>
#include <weft/io.h>
#include <weft/select.h>
#include <weft/stream.h>

#include <netinet/in.h>
#include <sys/socket.h>

WEFT_BEGIN_DECLS

/* ---- addresses ---- */

/* An IPv4 or IPv6 address with a port. A plain value: copy it. */
typedef struct weft_addr {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } sa;
    socklen_t len; /* of what is used of sa */
} weft_addr;

#define WEFT_ADDR_TEXT_MAX 80 /* room for any address as text, with its NUL */

/*
 * Parses a numeric address with a port: "127.0.0.1:8080", "[::1]:80", "[fe80::1%eth0]:80" or
 * "[fe80::1%2]:80" (an interface by name, or by index if it is all digits), or ":80", which is any
 * IPv4 address of this machine ("[::]:80" is any of either kind). Nothing is looked up.
 *
 * Returns 0, or -EINVAL for anything else: names, spaces, missing or signed ports, ports above
 * 65535, IPv6 without brackets; -ENODEV when there is no such interface; -EMFILE, -ENFILE, -ENOMEM,
 * -ENOBUFS when the system cannot be asked for one by its name. Any thread; never suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_addr_parse(const char *text, weft_addr *ret_addr);
/* From the four bytes of an IPv4 address, or the sixteen of an IPv6 one, as on the wire: "ip,
 * port". 0; -EINVAL for other lengths. */
WEFT_API WEFT_MUST_CHECK int weft_addr_from_ip(const void *ip, size_t ip_bytes, uint16_t port,
                                               weft_addr *ret_addr);
/* 0; -EAFNOSUPPORT for other families, -EINVAL for one that is too short. */
WEFT_API WEFT_MUST_CHECK int weft_addr_from_sockaddr(const struct sockaddr *sa, socklen_t len,
                                                     weft_addr *ret_addr);
/* Writes it as weft_addr_parse() reads it; "(no address)" for NULL and for other families. Returns
 * the length that was needed, as snprintf does; WEFT_ADDR_TEXT_MAX always suffices. */
WEFT_API int weft_addr_format(const weft_addr *addr, char *buf, size_t cap);
WEFT_API uint16_t weft_addr_port(const weft_addr *addr);
WEFT_API void weft_addr_set_port(weft_addr *addr, uint16_t port);
/* Same family, address, port and scope. */
WEFT_API bool weft_addr_is_equal(const weft_addr *a, const weft_addr *b);

/*
 * Finds the addresses of "host:port". A numeric address is itself, without a look-up; names go to
 * getaddrinfo(), on a thread of the blocking pool.
 *
 *   addrs     room for cap addresses
 *
 * Returns how many were stored, at least 1; or
 *   -EINVAL        text does not parse: see weft_addr_parse(); a name has up to 253 bytes of
 *                  letters, digits, '-', '_' and '.'. Or there is no room
 *   -ENODEV        a numeric address names an interface that does not exist
 *   -ENOENT        no such name, or it has no addresses
 *   -EHOSTUNREACH  no name server answers; try again later
 *   -EMFILE, -ENFILE, -ENOMEM, -ENOBUFS   descriptors or memory ran out
 *   -EIO           the resolver failed otherwise
 * May suspend, unless text is numeric. Cancellation: safe; a look-up that has begun ends on its own
 * and leaves nothing. A blocking job that calls it waits for a job: see weft_spawn_blocking().
 */
WEFT_API WEFT_MUST_CHECK int weft_lookup(const char *text, weft_addr *addrs, size_t cap);

/* ---- listening ---- */

typedef struct weft_tcp weft_tcp;
typedef struct weft_tcp_listener weft_tcp_listener;

/* Zero is the default of each. */
typedef struct weft_tcp_listen_options {
    int backlog;             /* connections that wait to be accepted; 0: 1024. The kernel caps it
                                 * (net.core.somaxconn) */
    bool no_reuseaddr;       /* default: SO_REUSEADDR is set, so that a restarted server gets its
                                 * port at once */
    bool reuseport;          /* several listeners share the port, and the kernel spreads
                                 * connections */
    bool v6only;             /* [::] takes IPv6 alone; default: IPv4 too */
    bool report_exhaustion;  /* see weft_tcp_accept() */
    const char *bind_device; /* SO_BINDTODEVICE; NULL: none */
    uint32_t reserved[8];    /* zero */
} weft_tcp_listen_options;

/*
 * Listens for connections.
 *
 *   addr      "host:port", see weft_lookup(); each address of a name is tried until one succeeds.
 *             Port 0: any that is free, see weft_tcp_listener_local_addr()
 *   options   may be NULL
 *
 * Returns 0, or the last error:
 *   -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EAFNOSUPPORT, -ENODEV, ...   of bind(2) and its like
 *   -EMFILE, -ENFILE, -ENOMEM, -ENOBUFS   descriptors or memory ran out
 *   -ENOSPC   fs.epoll.max_user_watches
 *   an error of weft_lookup()
 *   -EINVAL   a negative backlog, or a NULL argument
 *   -EPERM    outside a runtime, or I/O is switched off
 *   -ESHUTDOWN   the runtime is shut down
 * Context: tasks, threads inside weft_enter(), blocking jobs. Suspends only to look a name up.
 */
WEFT_API WEFT_MUST_CHECK int weft_tcp_listen(const char *addr, weft_tcp_listener **ret_listener);
WEFT_API WEFT_MUST_CHECK int weft_tcp_listen_with(const weft_tcp_listen_options *options,
                                                  const char *addr,
                                                  weft_tcp_listener **ret_listener);
WEFT_API WEFT_MUST_CHECK int weft_tcp_listen_addr(const weft_tcp_listen_options *options,
                                                  const weft_addr *addr,
                                                  weft_tcp_listener **ret_listener);

/*
 * Accepts a connection.
 *
 * Returns 0 with the connection, or an error of the wait. Connections that the peer gave up before
 * they were accepted are skipped. When descriptors, memory or epoll's watches run out (EMFILE,
 * ENFILE, ENOBUFS, ENOMEM; ENOSPC: fs.epoll.max_user_watches) the listener tries again every 10 to
 * 500 ms, with one line in the log, until it succeeds; or, with options.report_exhaustion and where
 * time is switched off, the error is returned: try again later. The connection waits meanwhile, in
 * the kernel's queue, or in the listener if the want was met after it had left that; it is closed
 * with the listener if nobody has accepted it by then. (Tasks that meet ENOMEM or ENOSPC on one
 * listener at the same moment, on several workers, may lose all but one of theirs.)
 * -EPERM outside a runtime, or with I/O switched off (both logged): it stays in the queue.
 *
 * May suspend. Cancellation: safe: no connection is lost, the next accept gets it.
 * Threads: each connection goes to one caller. All that wait are woken for each connection, so one
 * task that accepts and spawns is cheaper than many that accept.
 */
WEFT_API WEFT_MUST_CHECK int weft_tcp_accept(weft_tcp_listener *l, weft_tcp **ret_conn);
/* And says who it is: all zero for a peer without an IP address, which only adopted listeners
 * have. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_accept_from(weft_tcp_listener *l, weft_tcp **ret_conn,
                                                  weft_addr *ret_peer);
/* Without waiting: -EAGAIN when there is none; exhaustion is returned always. Any thread of a
 * runtime; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_try_accept(weft_tcp_listener *l, weft_tcp **ret_conn);
/* weft_tcp_accept() as a future, and as a case of a select: on exhaustion it stays pending and
 * tries again by itself, likewise. l and ret_conn are borrowed until it has completed or was
 * cancelled; a connection is accepted by a poll that returns 0, and by nothing else. */
typedef struct weft_tcp_accept_future {
    weft_future future;
    void *opaque[13];
} weft_tcp_accept_future;
WEFT_API void weft_tcp_accept_future_init(weft_tcp_accept_future *f, weft_tcp_listener *l,
                                          weft_tcp **ret_conn);
WEFT_API weft_case weft_case_tcp_accept(weft_tcp_listener *l, weft_tcp **ret_conn);

WEFT_API WEFT_MUST_CHECK int weft_tcp_listener_local_addr(weft_tcp_listener *l,
                                                          weft_addr *ret_addr);
/* Closes it: tasks that wait in accept get -EBADF, those that wait to try again for want of
 * descriptors within half a second. NULL does nothing. 0, or -EBADF. Any thread; never suspends. */
WEFT_API int weft_tcp_listener_close(weft_tcp_listener *l);
/* Adopts a listening stream socket; taken when 0 is returned. Errors and context as
 * weft_tcp_from_fd(), and -EPROTOTYPE when it does not listen. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_listener_from_fd(int fd, weft_tcp_listener **ret_listener);
/* As weft_tcp_into_fd(). Connections in the kernel's queue stay there; one that was accepted before
 * and kept, for want of descriptors or memory, is closed: it has no other place. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_listener_into_fd(weft_tcp_listener *l, int *ret_fd);
WEFT_API WEFT_MUST_CHECK int weft_tcp_listener_getsockopt(weft_tcp_listener *l, int level, int name,
                                                          void *value, socklen_t *len);
WEFT_API WEFT_MUST_CHECK int weft_tcp_listener_setsockopt(weft_tcp_listener *l, int level, int name,
                                                          const void *value, socklen_t len);

/* ---- connecting ---- */

/* Zero is the default of each. */
typedef struct weft_tcp_connect_options {
    const weft_addr *local;    /* bound before connecting; NULL: the system chooses */
    bool reuseaddr, reuseport; /* for the local address */
    int send_buffer_bytes, recv_buffer_bytes; /* set before connecting, where they size the window;
                                               * 0: the system's */
    const char *bind_device;                  /* SO_BINDTODEVICE; NULL: none */
    uint32_t reserved[8];                     /* zero */
} weft_tcp_connect_options;

/*
 * Connects.
 *
 *   addr      "host:port", see weft_lookup(). The addresses of a name are tried one after the other
 *   options   may be NULL
 *
 * Returns 0, or the error of the last address tried: -ECONNREFUSED, -EHOSTUNREACH, -ENETUNREACH,
 * -ETIMEDOUT (the system's, after minutes; put WEFT_TIMEOUT around the call for your own),
 * -EADDRNOTAVAIL, -EMFILE, ...; an error of weft_lookup(); or one of the wait. -ECONNREFUSED also
 * where TCP would make a connection to itself, since nobody listens and the system happens to
 * choose the port that is connected to. With options.local that names this port it is made.
 * May suspend. Cancellation: safe, the attempt is given up and nothing is left.
 */
WEFT_API WEFT_MUST_CHECK int weft_tcp_connect(const char *addr, weft_tcp **ret_conn);
WEFT_API WEFT_MUST_CHECK int weft_tcp_connect_with(const weft_tcp_connect_options *options,
                                                   const char *addr, weft_tcp **ret_conn);
WEFT_API WEFT_MUST_CHECK int weft_tcp_connect_addr(const weft_tcp_connect_options *options,
                                                   const weft_addr *addr, weft_tcp **ret_conn);

/* Closes the connection: tasks that wait on it get -EBADF, what was written is still delivered,
 * unless linger says otherwise, or the peer has sent bytes that were not read: then the kernel
 * resets the connection, and what the peer has not received yet is lost. To be sure shut the
 * writing side down and read to the end first. NULL does nothing. 0, or -EBADF; -EBUSY for one that
 * was split: its halves close it. Any thread; never suspends. */
WEFT_API int weft_tcp_close(weft_tcp *conn);

/* ---- bytes ---- */

/*
 * Reads what is there, at least one byte and at most len, waiting for it.
 *
 * Returns the number of bytes; 0 when the peer has ended its side, or len is 0; or
 *   -ECONNRESET, -ETIMEDOUT (keepalive, also without a scope), ...   the connection is broken
 * The system tells why a connection broke once, to whichever call comes first: when a write, in
 * another task maybe, was told, a read returns 0, though the peer did not end its side.
 * May suspend. Cancellation: safe, nothing was read.
 */
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_read(weft_tcp *conn, void *buf, size_t len);
/* Into several buffers, 0 to 1024, in order. -EINVAL for others, and for one at NULL that has a
 * length. */
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_readv(weft_tcp *conn, const struct iovec *iov, int count);
/* The same bytes are read again by the next read or peek. */
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_peek(weft_tcp *conn, void *buf, size_t len);

/*
 * Writes what fits, at least one byte and at most len, waiting for room. weft_write_all() writes
 * everything.
 *
 * Returns the number of bytes; 0 only when len is 0; or
 *   -EPIPE, -ECONNRESET, ...   the connection is broken, or its writing side was shut down. No
 *                              signal is raised
 * May suspend. Cancellation: safe, nothing was written.
 */
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_write(weft_tcp *conn, const void *buf, size_t len);
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_writev(weft_tcp *conn, const struct iovec *iov,
                                                 int count);

/* The same without waiting: -EAGAIN when they would, and then the direction is not ready any more.
 * Any thread; never suspend, cost no budget. */
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_try_read(weft_tcp *conn, void *buf, size_t len);
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_try_readv(weft_tcp *conn, const struct iovec *iov,
                                                    int count);
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_try_peek(weft_tcp *conn, void *buf, size_t len);
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_try_write(weft_tcp *conn, const void *buf, size_t len);
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_try_writev(weft_tcp *conn, const struct iovec *iov,
                                                     int count);

/*
 * Waits until the connection is ready for one of the interests (the first four of enum weft_ready),
 * at once if it is.
 *
 *   ret_bits   may be NULL: what is ready
 *
 * Returns 0; -EINVAL for no interest; or an error of the wait. Readiness is a hint: a call may
 * still find nothing, which ends it for reads and for writes. WEFT_READY_ERROR stays until
 * weft_tcp_take_error() has looked; WEFT_READY_PRIORITY until the stream has been read past the
 * urgent data and this was told once more, and with SO_OOBINLINE each arrival is told once.
 * May suspend. Cancellation: safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_tcp_ready(weft_tcp *conn, unsigned interest, unsigned *ret_bits);

/* how: SHUT_RD, SHUT_WR or SHUT_RDWR. After SHUT_WR the peer reads the end. 0, also again
 * and after a reset; -ECONNRESET, -EINVAL. Any thread; never suspends. */
WEFT_API int weft_tcp_shutdown(weft_tcp *conn, int how);

/* The connection as a stream, borrowed from it for as long as it is open. A NULL or closed handle
 * gives a stream whose every call returns -EBADF. Never suspends. */
WEFT_API weft_stream *weft_tcp_stream(weft_tcp *conn);

/* ---- halves ---- */

/*
 * A connection needs no splitting to be read by one task and written by another: both may use the
 * weft_tcp, as long as one of them closes it when both are done. Halves are for tasks that each own
 * theirs: releasing the writing half shuts the writing side down, also while the other task is
 * reading, and the connection is closed with the second one.
 */
typedef struct weft_tcp_reader weft_tcp_reader;
typedef struct weft_tcp_writer weft_tcp_writer;

/* conn is taken, and stands for both halves from now on only in weft_tcp_of_reader() and its like.
 * 0; -EBUSY when it was split before; -EBADF,
 * -EINVAL. Never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_split(weft_tcp *conn, weft_tcp_reader **ret_reader,
                                            weft_tcp_writer **ret_writer);
/* Puts two halves together again. 0, both are taken; -EINVAL when they are not of one connection,
 * and nothing has changed; -EBADF. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_reunite(weft_tcp_reader *reader, weft_tcp_writer *writer,
                                              weft_tcp **ret_conn);
/* Gives a half up. Calls on it that other tasks are in go on, for as long as the connection does.
 * NULL does nothing. 0, or -EBADF when it was given up before. Any thread; never suspends. */
WEFT_API int weft_tcp_reader_close(weft_tcp_reader *reader);
WEFT_API int weft_tcp_writer_close(weft_tcp_writer *writer);
/* The connection, borrowed for as long as the half lives: for reads, for writes, for options. NULL
 * for NULL. */
WEFT_API weft_tcp *weft_tcp_of_reader(weft_tcp_reader *reader);
WEFT_API weft_tcp *weft_tcp_of_writer(weft_tcp_writer *writer);
/* weft_tcp_read() and weft_tcp_write() on the halves. -EBADF for a half that was given up, also
 * while the other one lives. */
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_reader_read(weft_tcp_reader *reader, void *buf,
                                                      size_t len);
WEFT_API WEFT_MUST_CHECK ssize_t weft_tcp_writer_write(weft_tcp_writer *writer, const void *buf,
                                                       size_t len);

/* ---- to and from plain descriptors ---- */

/*
 * Adopts a connected stream socket.
 *
 *   fd   taken when 0 is returned, else the caller's. It is made non-blocking, which all who share
 *        the open socket notice
 *
 * Returns 0; -EPERM outside a runtime, or with I/O switched off (both logged); -ENOTSOCK, -EBADF;
 * -EPROTOTYPE when it is no stream socket; -EEXIST when it is registered already; -ENOMEM, -ENOSPC,
 * -ESHUTDOWN.
 * Context: tasks, threads inside weft_enter(), blocking jobs. Never suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_tcp_from_fd(int fd, weft_tcp **ret_conn);
/* Gives the descriptor back, still non-blocking; the connection handle is spent. 0; -EBUSY while
 * another task is inside a call on it, or when it was split, and then nothing has changed; -EBADF,
 * -EINVAL. Any thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_into_fd(weft_tcp *conn, int *ret_fd);

/* ---- options ---- */

/* -ENOTCONN for the peer of a connection that was reset, or has ended on both sides; -EAFNOSUPPORT
 * for an adopted socket of another family. The latter also of weft_tcp_listener_local_addr(). */
WEFT_API WEFT_MUST_CHECK int weft_tcp_local_addr(weft_tcp *conn, weft_addr *ret_addr);
WEFT_API WEFT_MUST_CHECK int weft_tcp_peer_addr(weft_tcp *conn, weft_addr *ret_addr);
/* Takes the pending error: *ret_error is 0 or a negative errno. WEFT_READY_ERROR is over. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_take_error(weft_tcp *conn, int *ret_error);

/* TCP_NODELAY: small writes go out at once. Off unless set, as the system has it. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_nodelay(weft_tcp *conn, bool *ret_on);
WEFT_API int weft_tcp_set_nodelay(weft_tcp *conn, bool on);
/* SO_KEEPALIVE, off unless set. idle, interval (whole seconds, in ns; rounded up) and count may be
 * 0: unchanged. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_keepalive(weft_tcp *conn, bool *ret_on);
WEFT_API int weft_tcp_set_keepalive(weft_tcp *conn, bool on, uint64_t idle_ns, uint64_t interval_ns,
                                    unsigned count);
/* SO_LINGER: how long close() may go on sending, in ns, whole seconds, rounded up. WEFT_NEVER: off,
 * the default: the kernel goes on by itself. 0: close resets the connection. A lingering close
 * blocks its thread; weft closes on workers: prefer 0 or WEFT_NEVER. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_linger(weft_tcp *conn, uint64_t *ret_linger_ns);
WEFT_API int weft_tcp_set_linger(weft_tcp *conn, uint64_t linger_ns);
/* SO_SNDBUF, SO_RCVBUF in bytes; the kernel doubles what is set. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_send_buffer(weft_tcp *conn, int *ret_bytes);
WEFT_API int weft_tcp_set_send_buffer(weft_tcp *conn, int bytes);
WEFT_API WEFT_MUST_CHECK int weft_tcp_recv_buffer(weft_tcp *conn, int *ret_bytes);
WEFT_API int weft_tcp_set_recv_buffer(weft_tcp *conn, int bytes);
/* IP_TOS, of IPv4 connections. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_tos(weft_tcp *conn, int *ret_tos);
WEFT_API int weft_tcp_set_tos(weft_tcp *conn, int tos);
/* IPV6_TCLASS, of IPv6 connections. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_tclass(weft_tcp *conn, int *ret_tclass);
WEFT_API int weft_tcp_set_tclass(weft_tcp *conn, int tclass);
/* TCP_QUICKACK: acknowledge at once; the kernel may turn it off again. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_quickack(weft_tcp *conn, bool *ret_on);
WEFT_API int weft_tcp_set_quickack(weft_tcp *conn, bool on);
/* SO_BINDTODEVICE: the name of an interface; "" for none. buf has room for at least 16 bytes
 * (IFNAMSIZ). */
WEFT_API WEFT_MUST_CHECK int weft_tcp_bind_device(weft_tcp *conn, char *buf, size_t cap);
WEFT_API int weft_tcp_set_bind_device(weft_tcp *conn, const char *name);
/* Any other. */
WEFT_API WEFT_MUST_CHECK int weft_tcp_getsockopt(weft_tcp *conn, int level, int name, void *value,
                                                 socklen_t *len);
WEFT_API WEFT_MUST_CHECK int weft_tcp_setsockopt(weft_tcp *conn, int level, int name,
                                                 const void *value, socklen_t len);

WEFT_END_DECLS

#endif
