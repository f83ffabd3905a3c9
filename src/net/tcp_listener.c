/*
 * TCP listeners.
 *
 * When accept() fails because descriptors or memory ran out, the connection stays in the kernel's
 * queue and its edge has been consumed: epoll would not report it again. So the listener stays
 * ready, and a timer tries again. A connection that was accepted and then finds no memory for its
 * source, or no room in epoll, is kept with the listener, as if it were in that queue still: the
 * next try is its, whoever makes it.
 */
#include "io/epoll.h"
#include "net/addr.h"
#include "net/lookup.h"
#include "net/tcp.h"
#include "task/task.h"
#include "time/timers.h"

#include <weft/time.h>

#include <errno.h>
#include <string.h>

#define BACKLOG_DEFAULT 1024
#define RETRY_MIN_NS (10 * WEFT_MS)
#define RETRY_MAX_NS (500 * WEFT_MS)

/* ---- listening ---- */

static int set_up(int fd, const weft_tcp_listen_options *o, const weft_addr *addr)
{
    int rc = 0;
    if (!o->no_reuseaddr)
        rc = weft__sock_set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && o->reuseport)
        rc = weft__sock_set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    /* Always, since the default is the system's (net.ipv6.bindv6only). */
    if (rc == 0 && addr->sa.any.sa_family == AF_INET6)
        rc = weft__sock_set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, o->v6only);
    if (rc == 0 && o->bind_device != NULL)
        rc = weft__sock_bind_device(fd, o->bind_device);
    if (rc == 0)
        rc = weft__sys_bind(fd, &addr->sa.any, addr->len);
    if (rc == 0)
        rc = weft__sys_listen(fd, o->backlog == 0 ? BACKLOG_DEFAULT : o->backlog);
    return rc;
}

static int listen_one(const weft_tcp_listen_options *o, const weft_addr *addr, const char *call,
                      const void *caller, weft_tcp_listener **ret)
{
    int fd = weft__sys_socket(addr->sa.any.sa_family, SOCK_STREAM, 0);
    if (fd < 0)
        return fd;
    struct weft__source *s;
    int rc = set_up(fd, o, addr);
    if (rc == 0)
        rc = weft__source_open(call, caller, fd, WEFT__SOURCE_TCP_LISTENER,
                               WEFT__SOURCE_BARE_TCP |
                                   (o->report_exhaustion ? WEFT__SOURCE_REPORT_EXHAUSTION : 0),
                               NULL, &s);
    if (rc < 0) {
        (void)weft__sys_close(fd); /* nothing was in it */
        return rc;
    }
    *ret = weft__source_handle(s);
    return 0;
}

static const weft_tcp_listen_options *or_defaults(const weft_tcp_listen_options *o)
{
    static const weft_tcp_listen_options defaults;
    return o != NULL ? o : &defaults;
}

/* Before anything is looked up, or bound: once, not for each address of a name. */
static int begin(const char *call, const void *caller)
{
    struct weft__driver *driver;
    return weft__source_driver(call, caller, &driver);
}

static int listen_text(const weft_tcp_listen_options *options, const char *addr, const char *call,
                       const void *caller, weft_tcp_listener **ret)
{
    if (ret == NULL || or_defaults(options)->backlog < 0)
        return weft__misuse(call, -EINVAL, "a negative backlog, or no place for the result",
                            caller);
    int rc = begin(call, caller);
    if (rc < 0)
        return rc;
    weft_addr addrs[WEFT__LOOKUP_MAX];
    int count = weft__lookup(call, caller, addr, addrs, WEFT__LOOKUP_MAX);
    rc = count;
    for (int i = 0; i < count; i++) {
        rc = listen_one(or_defaults(options), &addrs[i], call, caller, ret);
        if (rc == 0)
            break;
    }
    return rc;
}

int weft_tcp_listen(const char *addr, weft_tcp_listener **ret_listener)
{
    return listen_text(NULL, addr, "weft_tcp_listen", WEFT__CALLER, ret_listener);
}

int weft_tcp_listen_with(const weft_tcp_listen_options *options, const char *addr,
                         weft_tcp_listener **ret_listener)
{
    return listen_text(options, addr, "weft_tcp_listen_with", WEFT__CALLER, ret_listener);
}

int weft_tcp_listen_addr(const weft_tcp_listen_options *options, const weft_addr *addr,
                         weft_tcp_listener **ret_listener)
{
    if (addr == NULL || ret_listener == NULL || or_defaults(options)->backlog < 0)
        return weft__misuse("weft_tcp_listen_addr", -EINVAL,
                            "no address, a negative backlog, or no place for the result",
                            WEFT__CALLER);
    int rc = begin("weft_tcp_listen_addr", WEFT__CALLER);
    if (rc < 0)
        return rc;
    return listen_one(or_defaults(options), addr, "weft_tcp_listen_addr", WEFT__CALLER,
                      ret_listener);
}

/* ---- accepting ---- */

struct accepted {
    struct weft__source *source; /* the listener */
    uint32_t generation;
    const char *call; /* of the user's, for the log */
    const void *caller;
    struct weft__driver *driver; /* of the runtime that the caller is in at that moment */
    weft_addr peer;
    struct weft__source *conn; /* the result */
};

/* Errors of a connection that is gone already, and by Linux those of the network under it: the next
 * one may be well. */
static bool is_of_the_connection(int rc)
{
    switch (-rc) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

static bool is_exhaustion(ssize_t rc)
{
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOBUFS || rc == -ENOMEM || rc == -ENOSPC;
}

/* Keeps a connection that found no place, for the next try. False when it may not be. */
static bool keep(struct accepted *a, int fd)
{
    struct weft__source *s = a->source;
    if (weft__source_is_ancestral(s)) /* its lock may be held for ever */
        return false;
    /* Room for one is enough but for tasks that accept at the same moment on several workers. */
    uint32_t none = 0;
    if (!weft__a32_cas_acq_rel(&s->kept_fd, &none, (uint32_t)fd + 1)) /* see take_kept */
        return false;
    /* As an edge: others may have found the kernel's queue empty meanwhile. */
    weft__source_deliver(s, a->generation, WEFT__READY_READ, 0);
    return true;
}

/* The connection that was kept; negative: there is none. */
static int take_kept(struct accepted *a)
{
    struct weft__source *s = a->source;
    if (weft__source_is_ancestral(s))
        return -EAGAIN; /* the parent will take it */
    /* acq_rel pairs with itself and with keep(): who finds nothing here has loaded the readiness
     * before the edge of what is kept later, and will not clear that. */
    uint32_t kept = weft__a32_swap_acq_rel(&s->kept_fd, 0);
    if (kept == 0)
        return -EAGAIN;
    int fd = (int)(kept - 1);
    a->peer = (weft_addr){.len = sizeof(a->peer.sa)};
    int rc = weft__sys_getpeername(fd, &a->peer.sa.any, &a->peer.len);
    if (rc == 0)
        return fd;
    (void)weft__sys_close(fd); /* reset meanwhile: to be skipped, as in the kernel's queue */
    return rc;
}

static int take_queued(struct accepted *a, int listening_fd)
{
    int rc;
    do {
        a->peer = (weft_addr){.len = sizeof(a->peer.sa)};
        rc = weft__sys_accept(listening_fd, &a->peer.sa.any, &a->peer.len);
    } while (is_of_the_connection(rc)); /* ends: each took one off the queue */
    /* An episode of exhaustion ends when nobody is left in the queue. Ended by the first success, a
     * server at its limit would log each time somebody hangs up. */
    if (rc == -EAGAIN && weft__a32_load_relaxed(&a->source->in_exhaustion))
        weft__a32_store_relaxed(&a->source->in_exhaustion, 0);
    return rc;
}

/* 0, with the connection in arg. */
static ssize_t call_accept(int fd, void *arg)
{
    struct accepted *a = arg;
    /* Before the call: where there is none the connection stays in the queue. And each time: a
     * local task may have been taken to another runtime while it waited. */
    int rc = weft__source_driver(a->call, a->caller, &a->driver);
    if (rc < 0)
        return rc;
    int conn = take_kept(a);
    if (conn < 0)
        conn = take_queued(a, fd);
    if (conn < 0)
        return conn;
    /* After the call: a ULP of the listener is its connections' too. */
    uint32_t flags = weft__a32_load_relaxed(&a->source->flags) & WEFT__SOURCE_BARE_TCP;
    rc = weft__source_open_on(a->driver, conn, WEFT__SOURCE_TCP, flags, &weft__tcp_ops, &a->conn);
    if (rc < 0 && !(is_exhaustion(rc) && keep(a, conn)))
        (void)weft__sys_close(conn); /* the peer sees a reset or an end */
    return rc;
}

static const char *exhaustion_text(ssize_t rc)
{
    switch (-rc) {
    case EMFILE:
        return "the process has no descriptors left (EMFILE)";
    case ENFILE:
        return "the system has no descriptors left (ENFILE)";
    case ENOSPC:
        return "epoll may watch no more descriptors (ENOSPC, fs.epoll.max_user_watches)";
    default:
        return "there is no memory left (ENOBUFS, ENOMEM)";
    }
}

static void unpin(void *arg)
{
    weft__source_unpin(arg);
}

static void log_exhaustion(struct weft__source *s, ssize_t why)
{
    if (weft__a32_swap_relaxed(&s->in_exhaustion, 1) == 0)
        weft__log(WEFT_LOG_WARN, "weft_tcp_accept: %s; trying again until it succeeds",
                  exhaustion_text(why));
}

/* The caller asked for the error, or no timer can be armed for it: time is switched off. */
static bool reports_exhaustion(const struct weft__source *s)
{
    return weft__source_has_flag(s, WEFT__SOURCE_REPORT_EXHAUSTION) ||
           !weft__core_waiting()->has_time;
}

static uint64_t next_retry_ns(uint64_t sleep_ns)
{
    return sleep_ns * 2 < RETRY_MAX_NS ? sleep_ns * 2 : RETRY_MAX_NS;
}

/* Sleeps, without keeping the listener open meanwhile. The hold is handed over, and back with 0. */
static int back_off(struct weft__source *s, uint32_t generation, ssize_t why, uint64_t sleep_ns)
{
    log_exhaustion(s, why);
    weft__source_pin(s);
    weft__source_unhold(s);
    WEFT_DEFER(unpin, s);
    int rc = weft_sleep(sleep_ns);
    if (rc == 0)
        rc = weft__source_rehold(s, generation);
    return rc;
}

static int accept_one(weft_tcp_listener *l, weft_tcp **ret_conn, weft_addr *ret_peer,
                      const char *call, const void *caller)
{
    if (ret_conn == NULL)
        return weft__misuse(call, -EINVAL, "no place for the result", caller);
    int rc = weft__wait_begin(call, caller);
    if (rc < 0)
        return rc;
    struct accepted a = {.call = call, .caller = caller};
    rc = weft__source_driver(call, caller, &a.driver); /* not only once somebody connects */
    if (rc < 0)
        return rc;
    struct weft__source *s;
    uint32_t generation;
    rc = weft__source_enter(l, call, caller, &s, &generation);
    if (rc < 0)
        return rc;
    a.source = s;
    a.generation = generation;
    uint64_t sleep_ns = RETRY_MIN_NS;
    ssize_t n;
    for (;;) {
        bool held;
        n = weft__source_io_held(s, generation, WEFT__IN, call_accept, &a, 0, &held);
        if (!held)
            return (int)n;
        if (!is_exhaustion(n) || reports_exhaustion(s))
            break;
        rc = back_off(s, generation, n, sleep_ns);
        if (rc < 0)
            return rc;
        sleep_ns = next_retry_ns(sleep_ns);
    }
    weft__source_unhold(s);
    if (n < 0)
        return (int)n;
    *ret_conn = weft__source_handle(a.conn);
    /* Adopted listeners may be of another family, whose addresses do not even fit. */
    if (ret_peer != NULL && weft_addr_from_sockaddr(&a.peer.sa.any, a.peer.len, ret_peer) < 0)
        *ret_peer = (weft_addr){.len = 0};
    return 0;
}

int weft_tcp_accept(weft_tcp_listener *l, weft_tcp **ret_conn)
{
    return accept_one(l, ret_conn, NULL, "weft_tcp_accept", WEFT__CALLER);
}

int weft_tcp_accept_from(weft_tcp_listener *l, weft_tcp **ret_conn, weft_addr *ret_peer)
{
    return accept_one(l, ret_conn, ret_peer, "weft_tcp_accept_from", WEFT__CALLER);
}

/* One try, on a listener that the caller holds. ret_is_exhausted: it failed for want of descriptors
 * or memory, and the connection is in the kernel's queue still, or kept. */
static int try_held(struct weft__source *s, uint32_t generation, weft_tcp **ret_conn,
                    const char *call, const void *caller, bool *ret_is_exhausted)
{
    struct accepted a = {.source = s, .generation = generation, .call = call, .caller = caller};
    *ret_is_exhausted = false;
    int rc = weft__source_driver(call, caller, &a.driver);
    if (rc < 0)
        return rc;
    ssize_t n = weft__source_try_io_held(s, WEFT__IN, call_accept, &a, 0);
    *ret_is_exhausted = is_exhaustion(n);
    if (n < 0)
        return (int)n;
    *ret_conn = weft__source_handle(a.conn);
    return 0;
}

int weft_tcp_try_accept(weft_tcp_listener *l, weft_tcp **ret_conn)
{
    static const char call[] = "weft_tcp_try_accept";
    const void *caller = WEFT__CALLER;
    if (ret_conn == NULL)
        return weft__misuse(call, -EINVAL, "no place for the result", caller);
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(l, call, caller, &s, &generation);
    if (rc < 0)
        return rc;
    bool is_exhausted;
    rc = try_held(s, generation, ret_conn, call, caller, &is_exhausted);
    weft__source_unhold(s);
    return rc;
}

/* ---- accepting as a future ---- */

static const char future_call[] = "weft_tcp_accept_future";

enum accept_step {
    ACCEPT_TRIES,    /* by the handle */
    ACCEPT_REFERS,   /* by the source that it was told */
    ACCEPT_WAITS,    /* for the listener to be ready */
    ACCEPT_BACKS_OFF /* descriptors or memory ran out; the slot of the listener is pinned */
};

struct accept_wait {
    weft_future future;
    weft_tcp_listener *listener;
    weft_tcp **ret_conn;
    union {
        struct weft__io_wait ready; /* of ACCEPT_WAITS */
        struct weft__timer timer;   /* of ACCEPT_BACKS_OFF */
    } on;
    struct weft__source *source;
    uint32_t generation;
    uint32_t step; /* enum accept_step */
    uint64_t sleep_ns;
};
_Static_assert(sizeof(struct accept_wait) <= sizeof(weft_tcp_accept_future) &&
                   sizeof(weft_tcp_accept_future) <= WEFT_CASE_BYTES,
               "weft_tcp_accept_future.opaque");

static void begin_back_off(struct accept_wait *a, weft_waker *waker)
{
    weft__source_pin(a->source);
    weft__timer_init(&a->on.timer);
    weft__timer_arm_here(weft__core_waiting(), &a->on.timer,
                         weft__add_sat(weft__now(), a->sleep_ns), waker);
    a->sleep_ns = next_retry_ns(a->sleep_ns);
    a->step = ACCEPT_BACKS_OFF;
}

/* After a try in vain. The hold is handed over. 0: poll what it waits for now. */
static int begin_wait(struct accept_wait *a, weft_waker *waker, int why, bool is_exhausted)
{
    if (!is_exhausted) {
        weft__io_wait_init(&a->on.ready, a->source, a->generation, WEFT__READY_READ);
        a->on.ready.held = true;
        a->step = ACCEPT_WAITS;
        return 0;
    }
    int rc = why;
    if (!reports_exhaustion(a->source)) {
        log_exhaustion(a->source, why);
        begin_back_off(a, waker);
        rc = 0;
    }
    weft__source_unhold(a->source);
    return rc;
}

/* This and the next: with 0 the caller has a hold. */
static int poll_ready(struct accept_wait *a, weft_waker *waker)
{
    int rc = a->on.ready.future.ops->poll(&a->on.ready.future, waker);
    if (rc == WEFT_PENDING)
        return rc;
    a->step = ACCEPT_TRIES;
    if (rc < 0)
        return rc;
    a->on.ready.held = false;
    return 0;
}

static int poll_back_off(struct accept_wait *a, weft_waker *waker)
{
    if (WEFT__UNLIKELY(weft__source_is_ancestral(a->source))) {
        a->step = ACCEPT_TRIES; /* a forked child: the timer is its parent's */
        return weft__source_rehold(a->source, a->generation);
    }
    weft__timer_set_waker(&a->on.timer, waker);
    enum weft__timer_fired fired = weft__timer_fired(&a->on.timer);
    if (fired == WEFT__TIMER_WAITS)
        return WEFT_PENDING;
    a->step = ACCEPT_TRIES;
    int rc = weft__source_rehold(a->source, a->generation);
    weft__source_unpin(a->source);
    if (rc == 0 && fired == WEFT__TIMER_CLOSED) {
        weft__source_unhold(a->source);
        rc = -ESHUTDOWN;
    }
    return rc;
}

/* This likewise. Only the first look at the handle logs that it was closed: later that is no
 * misuse. */
static int take_hold(struct accept_wait *a, weft_waker *waker)
{
    switch (a->step) {
    case ACCEPT_REFERS:
        return weft__source_rehold(a->source, a->generation);
    case ACCEPT_WAITS:
        return poll_ready(a, waker);
    case ACCEPT_BACKS_OFF:
        return poll_back_off(a, waker);
    default:
        return weft__source_enter(a->listener, future_call, WEFT__CALLER, &a->source,
                                  &a->generation);
    }
}

/* Tries; where that would block it waits for readiness, or for better times, and tries again. */
static int accept_poll(weft_future *f, weft_waker *waker)
{
    struct accept_wait *a = WEFT__CONTAINER_OF(f, struct accept_wait, future);
    for (;;) {
        int rc = take_hold(a, waker);
        if (rc < 0)
            return rc; /* WEFT_PENDING too */
        bool is_exhausted;
        rc = try_held(a->source, a->generation, a->ret_conn, future_call, WEFT__CALLER,
                      &is_exhausted);
        if (rc != -EAGAIN && !is_exhausted) {
            weft__source_unhold(a->source);
            return rc;
        }
        rc = begin_wait(a, waker, rc, is_exhausted);
        if (rc < 0)
            return rc;
    }
}

static void accept_cancel(weft_future *f)
{
    struct accept_wait *a = WEFT__CONTAINER_OF(f, struct accept_wait, future);
    if (a->step == ACCEPT_WAITS) {
        weft__io_wait_abandon(&a->on.ready);
    } else if (a->step == ACCEPT_BACKS_OFF && !weft__source_is_ancestral(a->source)) {
        weft__timer_disarm(&a->on.timer);
        weft__source_unpin(a->source);
    }
    a->step = ACCEPT_TRIES;
}

static int invalid_poll(weft_future *f, weft_waker *waker)
{
    (void)f;
    (void)waker;
    return -EINVAL;
}

static const weft_future_ops accept_ops = {accept_poll, accept_cancel, "tcp accept"};
static const weft_future_ops invalid_ops = {invalid_poll, accept_cancel, "tcp accept"};

void weft_tcp_accept_future_init(weft_tcp_accept_future *f, weft_tcp_listener *l,
                                 weft_tcp **ret_conn)
{
    struct accept_wait *a = (struct accept_wait *)(void *)f;
    a->future.ops = ret_conn != NULL ? &accept_ops : &invalid_ops;
    if (ret_conn == NULL)
        (void)weft__misuse("weft_tcp_accept_future_init", -EINVAL, "no place for the result",
                           WEFT__CALLER);
    a->listener = l;
    a->ret_conn = ret_conn;
    a->step = ACCEPT_TRIES;
    a->sleep_ns = RETRY_MIN_NS;
}

void weft__tcp_accept_future_init_by(weft_tcp_accept_future *f,
                                     const struct weft__source_ref *listener, weft_tcp **ret_conn)
{
    weft_tcp_accept_future_init(f, NULL, ret_conn);
    struct accept_wait *a = (struct accept_wait *)(void *)f;
    a->source = listener->source;
    a->generation = listener->generation;
    a->step = ACCEPT_REFERS;
}

static int start_accept(weft_case *c)
{
    weft_tcp_accept_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr);
    return 0;
}

weft_case weft_case_tcp_accept(weft_tcp_listener *l, weft_tcp **ret_conn)
{
    return weft_case_make(start_accept, l, ret_conn);
}

/* ---- the rest ---- */

int weft_tcp_listener_close(weft_tcp_listener *l)
{
    if (l == NULL)
        return 0;
    int rc = weft__source_close(l);
    if (rc < 0)
        return weft__misuse("weft_tcp_listener_close", rc, "the handle was closed before",
                            WEFT__CALLER);
    return 0;
}

int weft_tcp_listener_from_fd(int fd, weft_tcp_listener **ret_listener)
{
    if (ret_listener == NULL)
        return weft__misuse("weft_tcp_listener_from_fd", -EINVAL, "no place for the result",
                            WEFT__CALLER);
    int type, is_listening;
    socklen_t len = sizeof(type);
    int rc = weft__sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
    len = sizeof(is_listening);
    if (rc == 0)
        rc = weft__sys_getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len);
    if (rc < 0)
        return rc;
    if (type != SOCK_STREAM || !is_listening)
        return -EPROTOTYPE;
    struct weft__source *s;
    rc = weft__source_adopt("weft_tcp_listener_from_fd", WEFT__CALLER, fd,
                            WEFT__SOURCE_TCP_LISTENER, weft__sock_bare_tcp(fd), NULL, &s);
    if (rc < 0)
        return rc;
    *ret_listener = weft__source_handle(s);
    return 0;
}

int weft_tcp_listener_into_fd(weft_tcp_listener *l, int *ret_fd)
{
    if (l == NULL || ret_fd == NULL)
        return weft__misuse("weft_tcp_listener_into_fd", -EINVAL,
                            "the handle is NULL, or no place for the result", WEFT__CALLER);
    int rc = weft__source_release_fd(l, ret_fd);
    if (rc == -EBADF)
        return weft__misuse("weft_tcp_listener_into_fd", rc, "the handle was closed before",
                            WEFT__CALLER);
    return rc;
}
