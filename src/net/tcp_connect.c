/*
 * Connecting.
 *
 * The descriptor is registered after connect() has begun: a socket that never tried reports a
 * hang-up, which is not news worth remembering.
 */
#include "net/addr.h"
#include "net/lookup.h"
#include "net/tcp.h"
#include "task/task.h"
#include "task/timeout.h"

#include <errno.h>

static int set_up(int fd, const weft_tcp_connect_options *o)
{
    int rc = 0;
    if (o->reuseaddr)
        rc = weft__sock_set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && o->reuseport)
        rc = weft__sock_set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0 && o->send_buffer_bytes != 0)
        rc = weft__sock_set_int(fd, SOL_SOCKET, SO_SNDBUF, o->send_buffer_bytes);
    if (rc == 0 && o->recv_buffer_bytes != 0)
        rc = weft__sock_set_int(fd, SOL_SOCKET, SO_RCVBUF, o->recv_buffer_bytes);
    if (rc == 0 && o->bind_device != NULL)
        rc = weft__sock_bind_device(fd, o->bind_device);
    if (rc == 0 && o->local != NULL)
        rc = weft__sys_bind(fd, &o->local->sa.any, o->local->len);
    return rc;
}

/* Whether the attempt is over: 1 connected, 0 not yet, or why it failed. */
static int check(int fd)
{
    int error;
    socklen_t len = sizeof(error);
    int rc = weft__sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (rc < 0)
        return rc;
    if (error != 0)
        return -error;
    weft_addr peer = {.len = sizeof(peer.sa)};
    rc = weft__sys_getpeername(fd, &peer.sa.any, &peer.len);
    return rc == 0 ? 1 : rc == -ENOTCONN ? 0 : rc;
}

static void close_unfinished(void *arg)
{
    void **handle = arg;
    if (*handle != NULL)
        (void)weft__source_close(*handle); /* nobody else knows it */
}

static int wait_connected(struct weft__source *s)
{
    void *unfinished = weft__source_handle(s);
    WEFT_DEFER(close_unfinished, &unfinished);
    uint32_t generation;
    int rc = weft__source_hold(s, unfinished, &generation);
    while (rc == 0) {
        uint64_t seen = weft__source_ready(s, WEFT__OUT);
        if (seen & WEFT__READY_SHUTDOWN)
            rc = -ESHUTDOWN;
        else if (seen & (WEFT__READY_WRITE | WEFT__READY_WRITE_CLOSED))
            rc = check(s->fd);
        if (rc != 0) {
            weft__source_unhold(s);
            break;
        }
        weft__source_would_block(s, WEFT__OUT, seen);
        rc = weft__source_wait(s, generation, WEFT__READY_WRITE);
    }
    if (rc < 0)
        return rc;
    unfinished = NULL;
    return 0;
}

/* Nobody listens there, and the system chose that very port for us: TCP connects the socket to
 * itself, which takes the port from whoever is going to listen. */
static bool is_connected_to_itself(int fd, const weft_tcp_connect_options *o, const weft_addr *addr)
{
    if (o->local != NULL && weft_addr_port(o->local) != 0)
        return false; /* it was asked for */
    weft_addr here = {.len = sizeof(here.sa)};
    weft_addr there = here;
    return weft__sys_getsockname(fd, &here.sa.any, &here.len) == 0 &&
           weft_addr_port(&here) == weft_addr_port(addr) &&
           weft__sys_getpeername(fd, &there.sa.any, &there.len) == 0 &&
           weft_addr_is_equal(&here, &there);
}

/* Without a word to itself, so that the port is free at once. */
static void reset(struct weft__source *s)
{
    const struct linger at_once = {.l_onoff = 1};
    /* Refused: the port is free in a minute. */
    (void)weft__sys_setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    (void)weft__source_close(weft__source_handle(s)); /* nobody else knows it */
}

static int connect_one(const weft_tcp_connect_options *o, const weft_addr *addr, const char *call,
                       const void *caller, weft_tcp **ret)
{
    int fd = weft__sys_socket(addr->sa.any.sa_family, SOCK_STREAM, 0);
    if (fd < 0)
        return fd;
    struct weft__source *s;
    int rc = set_up(fd, o);
    bool in_progress = false;
    if (rc == 0) {
        rc = weft__sys_connect(fd, &addr->sa.any, addr->len);
        in_progress = rc == -EINPROGRESS;
        if (rc == -EAGAIN) /* no local port is left; only try_ calls return -EAGAIN */
            rc = -EADDRNOTAVAIL;
    }
    if (rc >= 0 || in_progress)
        rc = weft__source_open(call, caller, fd, WEFT__SOURCE_TCP, WEFT__SOURCE_BARE_TCP,
                               &weft__tcp_ops, &s);
    if (rc < 0) {
        (void)weft__sys_close(fd); /* nothing was sent */
        return rc;
    }
    if (in_progress)
        rc = wait_connected(s);
    if (rc < 0)
        return rc;
    if (is_connected_to_itself(s->fd, o, addr)) {
        reset(s);
        return -ECONNREFUSED;
    }
    *ret = weft__source_handle(s);
    return 0;
}

static const weft_tcp_connect_options *or_defaults(const weft_tcp_connect_options *o)
{
    static const weft_tcp_connect_options defaults;
    return o != NULL ? o : &defaults;
}

/* Errors that another address would meet as well. Not EPERM: filters of the system refuse a family,
 * or an address, by it; that this runtime has no I/O was asked before. */
static bool is_final(int rc)
{
    return rc == -ECANCELED || rc == -ESHUTDOWN || rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM;
}

/* Whether a scope of the caller's, and not the system, is what timed out. */
static bool scope_has_expired(void)
{
    struct weft__task *t = weft__wait_task();
    return t != NULL && t->locals->timeout != NULL && weft__timeout_check_now(t);
}

/* Before anything is looked up, or sent. */
static int begin(const char *call, const void *caller)
{
    struct weft__driver *driver;
    int rc = weft__wait_begin(call, caller);
    return rc < 0 ? rc : weft__source_driver(call, caller, &driver);
}

static int connect_text(const weft_tcp_connect_options *options, const char *addr, const char *call,
                        const void *caller, weft_tcp **ret)
{
    if (ret == NULL)
        return weft__misuse(call, -EINVAL, "no place for the result", caller);
    int rc = begin(call, caller);
    if (rc < 0)
        return rc;
    weft_addr addrs[WEFT__LOOKUP_MAX];
    int count = weft__lookup(call, caller, addr, addrs, WEFT__LOOKUP_MAX);
    rc = count;
    for (int i = 0; i < count; i++) {
        rc = connect_one(or_defaults(options), &addrs[i], call, caller, ret);
        if (rc == 0 || is_final(rc))
            break;
        /* Later attempts would fail at their first wait, but some fail before it, otherwise. */
        if (rc == -ETIMEDOUT && scope_has_expired())
            break;
    }
    return rc;
}

int weft_tcp_connect(const char *addr, weft_tcp **ret_conn)
{
    return connect_text(NULL, addr, "weft_tcp_connect", WEFT__CALLER, ret_conn);
}

int weft_tcp_connect_with(const weft_tcp_connect_options *options, const char *addr,
                          weft_tcp **ret_conn)
{
    return connect_text(options, addr, "weft_tcp_connect_with", WEFT__CALLER, ret_conn);
}

int weft_tcp_connect_addr(const weft_tcp_connect_options *options, const weft_addr *addr,
                          weft_tcp **ret_conn)
{
    if (addr == NULL || ret_conn == NULL)
        return weft__misuse("weft_tcp_connect_addr", -EINVAL,
                            "no address, or no place for the result", WEFT__CALLER);
    int rc = begin("weft_tcp_connect_addr", WEFT__CALLER);
    if (rc < 0)
        return rc;
    return connect_one(or_defaults(options), addr, "weft_tcp_connect_addr", WEFT__CALLER, ret_conn);
}
