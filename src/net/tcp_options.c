/*
 * Socket options and addresses of connections and listeners.
 */
#include "net/tcp.h"

#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <string.h>

#define ULP_NAME_MAX 16 /* the kernel's TCP_ULP_NAME_MAX */

int weft__sock_bind_device(int fd, const char *name)
{
    size_t len = strlen(name);
    if (len >= IFNAMSIZ)
        return -EINVAL;
    return weft__sys_setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)len + 1);
}

uint32_t weft__sock_bare_tcp(int fd)
{
    int protocol;
    socklen_t len = sizeof(protocol);
    int rc = weft__sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len);
    if (rc < 0 || protocol != IPPROTO_TCP)
        return 0;
    char ulp[ULP_NAME_MAX];
    len = sizeof(ulp);
    rc = weft__sys_getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len);
    return rc == 0 && len == 0 ? WEFT__SOURCE_BARE_TCP : 0; /* in doubt, a call more */
}

/* ---- on any handle ---- */

static int get_any(void *handle, const char *call, const void *caller, int level, int name,
                   void *value, socklen_t *len)
{
    if (value == NULL || len == NULL)
        return weft__misuse(call, -EINVAL, "no place for the result", caller);
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(handle, call, caller, &s, &generation);
    if (rc < 0)
        return rc;
    rc = weft__sys_getsockopt(s->fd, level, name, value, len);
    weft__source_unhold(s);
    return rc;
}

static int set_any(void *handle, const char *call, const void *caller, int level, int name,
                   const void *value, socklen_t len)
{
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(handle, call, caller, &s, &generation);
    if (rc < 0)
        return rc;
    if (level == IPPROTO_TCP && name == TCP_ULP)
        /* relaxed: before the call, which orders it for those that meet the ULP. A ULP is never
         * taken off again; one that is refused costs the saving of calls. */
        (void)weft__a32_and_relaxed(&s->flags, ~WEFT__SOURCE_BARE_TCP);
    rc = weft__sys_setsockopt(s->fd, level, name, value, len);
    weft__source_unhold(s);
    return rc;
}

static int get_addr(void *handle, const char *call, const void *caller,
                    int (*get)(int fd, struct sockaddr *addr, socklen_t *len), weft_addr *ret)
{
    if (ret == NULL)
        return weft__misuse(call, -EINVAL, "no place for the result", caller);
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(handle, call, caller, &s, &generation);
    if (rc < 0)
        return rc;
    weft_addr a = {.len = sizeof(a.sa)};
    rc = get(s->fd, &a.sa.any, &a.len);
    weft__source_unhold(s);
    /* Adopted descriptors may be of another family. */
    return rc < 0 ? rc : weft_addr_from_sockaddr(&a.sa.any, a.len, ret);
}

int weft_tcp_getsockopt(weft_tcp *conn, int level, int name, void *value, socklen_t *len)
{
    return get_any(conn, "weft_tcp_getsockopt", WEFT__CALLER, level, name, value, len);
}

int weft_tcp_setsockopt(weft_tcp *conn, int level, int name, const void *value, socklen_t len)
{
    return set_any(conn, "weft_tcp_setsockopt", WEFT__CALLER, level, name, value, len);
}

int weft_tcp_listener_getsockopt(weft_tcp_listener *l, int level, int name, void *value,
                                 socklen_t *len)
{
    return get_any(l, "weft_tcp_listener_getsockopt", WEFT__CALLER, level, name, value, len);
}

int weft_tcp_listener_setsockopt(weft_tcp_listener *l, int level, int name, const void *value,
                                 socklen_t len)
{
    return set_any(l, "weft_tcp_listener_setsockopt", WEFT__CALLER, level, name, value, len);
}

int weft_tcp_local_addr(weft_tcp *conn, weft_addr *ret_addr)
{
    return get_addr(conn, "weft_tcp_local_addr", WEFT__CALLER, weft__sys_getsockname, ret_addr);
}

int weft_tcp_peer_addr(weft_tcp *conn, weft_addr *ret_addr)
{
    return get_addr(conn, "weft_tcp_peer_addr", WEFT__CALLER, weft__sys_getpeername, ret_addr);
}

int weft_tcp_listener_local_addr(weft_tcp_listener *l, weft_addr *ret_addr)
{
    return get_addr(l, "weft_tcp_listener_local_addr", WEFT__CALLER, weft__sys_getsockname,
                    ret_addr);
}

/* ---- numbers and switches ---- */

static int get_int(weft_tcp *conn, const char *call, const void *caller, int level, int name,
                   int *ret)
{
    int value;
    socklen_t len = sizeof(value);
    int rc = get_any(conn, call, caller, level, name, ret == NULL ? NULL : &value, &len);
    if (rc == 0)
        *ret = value;
    return rc;
}

static int get_bool(weft_tcp *conn, const char *call, const void *caller, int level, int name,
                    bool *ret)
{
    int value;
    socklen_t len = sizeof(value);
    int rc = get_any(conn, call, caller, level, name, ret == NULL ? NULL : &value, &len);
    if (rc == 0)
        *ret = value != 0;
    return rc;
}

static int set_int(weft_tcp *conn, const char *call, const void *caller, int level, int name,
                   int value)
{
    return set_any(conn, call, caller, level, name, &value, sizeof(value));
}

#define INT_OPTION(getter, setter, level, option)                                                  \
    int getter(weft_tcp *conn, int *ret)                                                           \
    {                                                                                              \
        return get_int(conn, #getter, WEFT__CALLER, level, option, ret);                           \
    }                                                                                              \
    int setter(weft_tcp *conn, int value)                                                          \
    {                                                                                              \
        return set_int(conn, #setter, WEFT__CALLER, level, option, value);                         \
    }
#define BOOL_OPTION(getter, setter, level, option)                                                 \
    int getter(weft_tcp *conn, bool *ret_on)                                                       \
    {                                                                                              \
        return get_bool(conn, #getter, WEFT__CALLER, level, option, ret_on);                       \
    }                                                                                              \
    int setter(weft_tcp *conn, bool on)                                                            \
    {                                                                                              \
        return set_int(conn, #setter, WEFT__CALLER, level, option, on);                            \
    }

BOOL_OPTION(weft_tcp_nodelay, weft_tcp_set_nodelay, IPPROTO_TCP, TCP_NODELAY)
BOOL_OPTION(weft_tcp_quickack, weft_tcp_set_quickack, IPPROTO_TCP, TCP_QUICKACK)
INT_OPTION(weft_tcp_send_buffer, weft_tcp_set_send_buffer, SOL_SOCKET, SO_SNDBUF)
INT_OPTION(weft_tcp_recv_buffer, weft_tcp_set_recv_buffer, SOL_SOCKET, SO_RCVBUF)
INT_OPTION(weft_tcp_tos, weft_tcp_set_tos, IPPROTO_IP, IP_TOS)
INT_OPTION(weft_tcp_tclass, weft_tcp_set_tclass, IPPROTO_IPV6, IPV6_TCLASS)

int weft_tcp_take_error(weft_tcp *conn, int *ret_error)
{
    static const char call[] = "weft_tcp_take_error";
    if (ret_error == NULL)
        return weft__misuse(call, -EINVAL, "no place for the result", WEFT__CALLER);
    struct weft__source *s;
    uint32_t generation;
    int rc = weft__source_enter(conn, call, WEFT__CALLER, &s, &generation);
    if (rc < 0)
        return rc;
    int error;
    socklen_t len = sizeof(error);
    uint64_t seen = weft__source_ready(s, WEFT__IN); /* before: a new error is a new edge */
    rc = weft__sys_getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (rc == 0) {
        weft__source_clear(s, WEFT__IN, seen, WEFT__READY_ERROR);
        *ret_error = -error;
    }
    weft__source_unhold(s);
    return rc;
}

/* Whole seconds, rounded up. */
static int seconds(uint64_t ns)
{
    uint64_t s = ns / WEFT_SEC + (ns % WEFT_SEC != 0);
    return s > INT_MAX ? INT_MAX : (int)s;
}

int weft_tcp_keepalive(weft_tcp *conn, bool *ret_on)
{
    return get_bool(conn, "weft_tcp_keepalive", WEFT__CALLER, SOL_SOCKET, SO_KEEPALIVE, ret_on);
}

int weft_tcp_set_keepalive(weft_tcp *conn, bool on, uint64_t idle_ns, uint64_t interval_ns,
                           unsigned count)
{
    static const char call[] = "weft_tcp_set_keepalive";
    const void *caller = WEFT__CALLER;
    int rc = set_int(conn, call, caller, SOL_SOCKET, SO_KEEPALIVE, on);
    if (rc == 0 && idle_ns != 0)
        rc = set_int(conn, call, caller, IPPROTO_TCP, TCP_KEEPIDLE, seconds(idle_ns));
    if (rc == 0 && interval_ns != 0)
        rc = set_int(conn, call, caller, IPPROTO_TCP, TCP_KEEPINTVL, seconds(interval_ns));
    if (rc == 0 && count != 0)
        rc = set_int(conn, call, caller, IPPROTO_TCP, TCP_KEEPCNT,
                     count > INT_MAX ? INT_MAX : (int)count);
    return rc;
}

int weft_tcp_linger(weft_tcp *conn, uint64_t *ret_linger_ns)
{
    struct linger value;
    socklen_t len = sizeof(value);
    int rc = get_any(conn, "weft_tcp_linger", WEFT__CALLER, SOL_SOCKET, SO_LINGER,
                     ret_linger_ns == NULL ? NULL : &value, &len);
    if (rc == 0)
        *ret_linger_ns = value.l_onoff ? (uint64_t)value.l_linger * WEFT_SEC : WEFT_NEVER;
    return rc;
}

int weft_tcp_set_linger(weft_tcp *conn, uint64_t linger_ns)
{
    struct linger value = {.l_onoff = 0};
    if (linger_ns != WEFT_NEVER)
        value = (struct linger){.l_onoff = 1, .l_linger = seconds(linger_ns)};
    return set_any(conn, "weft_tcp_set_linger", WEFT__CALLER, SOL_SOCKET, SO_LINGER, &value,
                   sizeof(value));
}

int weft_tcp_bind_device(weft_tcp *conn, char *buf, size_t cap)
{
    char name[IFNAMSIZ] = "";
    socklen_t len = sizeof(name);
    int rc = get_any(conn, "weft_tcp_bind_device", WEFT__CALLER, SOL_SOCKET, SO_BINDTODEVICE, name,
                     &len);
    if (rc < 0)
        return rc;
    size_t used = strnlen(name, len);
    if (buf == NULL || cap <= used)
        return weft__misuse("weft_tcp_bind_device", -EINVAL, "the name does not fit", WEFT__CALLER);
    memcpy(buf, name, used);
    buf[used] = '\0';
    return 0;
}

int weft_tcp_set_bind_device(weft_tcp *conn, const char *name)
{
    if (name == NULL || strlen(name) >= IFNAMSIZ)
        return weft__misuse("weft_tcp_set_bind_device", -EINVAL, "no name of an interface",
                            WEFT__CALLER);
    return set_any(conn, "weft_tcp_set_bind_device", WEFT__CALLER, SOL_SOCKET, SO_BINDTODEVICE,
                   name, (socklen_t)strlen(name) + 1);
}
