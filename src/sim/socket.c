/*
 * Sockets of the simulation: the calls that programs make. What crosses between the two ends of a
 * connection is wire.c's.
 *
 * A read or write that moves fewer bytes than asked for says, on Linux, that the queue is empty or
 * full, and that an edge will come: weft relies on it. So where the seed makes one short, the rest
 * is hidden, or the room closed, until a moment later.
 */
#include "sim/world.h"

#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <string.h>

/* Of Linux. */
#define QUEUE_MAX 4096                 /* net.core.somaxconn */
#define BUFFER_MAX ((unsigned)4 << 20) /* net.core.wmem_max, rmem_max */
#define SNDBUF_MIN 4608                /* SOCK_MIN_SNDBUF */
#define RCVBUF_MIN 2304                /* SOCK_MIN_RCVBUF */
#define KEEPALIVE_SECONDS_MAX 32767
#define KEEPALIVE_COUNT_MAX 127

static struct weft__sim_side *side_of(const struct weft__sim_file *f)
{
    return f->conn == NULL ? NULL : &f->conn->side[f->side];
}

static bool is_socket(const struct weft__sim_file *f)
{
    return f != NULL && f->kind >= WEFT__SIM_SOCKET;
}

/* ---- making, binding ---- */

int weft__sim_socket(int domain, int type)
{
    struct weft__sim *s = weft__sim_here();
    struct weft__sim_file *f;
    weft__sim_point(s);
    if (domain != AF_INET && domain != AF_INET6)
        return -EAFNOSUPPORT;
    if ((type & 0xf) != SOCK_STREAM)
        return -EPROTONOSUPPORT;
    int rc = weft__sim_file_create(s, WEFT__SIM_SOCKET, &f);
    if (rc < 0)
        return rc;
    f->family = domain;
    return f->fd;
}

static void set_addr(struct sockaddr_storage *to, socklen_t *to_len, const struct sockaddr *addr,
                     socklen_t len)
{
    memset(to, 0, sizeof(*to));
    memcpy(to, addr, len);
    *to_len = len;
}

static void set_port(struct sockaddr_storage *addr, unsigned port)
{
    if (addr->ss_family == AF_INET)
        ((struct sockaddr_in *)addr)->sin_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in6 *)addr)->sin6_port = htons((uint16_t)port);
}

static const struct weft__sim_option *find_option(const struct weft__sim_file *f, int level,
                                                  int name)
{
    const struct weft__sim_option *o = f->options;
    while (o != NULL && (o->level != level || o->name != name))
        o = o->next;
    return o;
}

static bool is_on(const struct weft__sim_file *f, int level, int name)
{
    const struct weft__sim_option *o = find_option(f, level, name);
    int value = 0;
    if (o != NULL)
        memcpy(&value, o->value, sizeof(value));
    return value != 0;
}

bool weft__sim_is_v6only(const struct weft__sim_file *f)
{
    return is_on(f, IPPROTO_IPV6, IPV6_V6ONLY);
}

/* A connection that was accepted, and is lost or over: its port is its listener's alone. */
static bool has_left(const struct weft__sim_file *f)
{
    return f->conn != NULL && f->side == 1 &&
           (f->conn->side[1].is_dead || weft__sim_conn_is_over(f->conn, 1));
}

/* Somebody has the address in a way that keeps others from it. */
static bool is_taken(struct weft__sim *s, const struct weft__sim_file *by,
                     const struct sockaddr_storage *addr)
{
    struct weft__sim_ip ip = weft__sim_ip_of((const struct sockaddr *)addr);
    unsigned port = weft__sim_port_of((const struct sockaddr *)addr);
    for (unsigned i = 0; i < s->file_count; i++) {
        const struct weft__sim_file *f = s->files[i];
        if (!is_socket(f) || f == by || !f->is_bound || has_left(f) ||
            weft__sim_port_of((const struct sockaddr *)&f->addr) != port)
            continue;
        struct weft__sim_ip other = weft__sim_ip_of((const struct sockaddr *)&f->addr);
        bool meets = weft__sim_ip_covers(&ip, weft__sim_is_v6only(by), &other) ||
                     weft__sim_ip_covers(&other, weft__sim_is_v6only(f), &ip);
        bool both_port = is_on(f, SOL_SOCKET, SO_REUSEPORT) && is_on(by, SOL_SOCKET, SO_REUSEPORT);
        bool both_addr = f->kind != WEFT__SIM_LISTENER && is_on(f, SOL_SOCKET, SO_REUSEADDR) &&
                         is_on(by, SOL_SOCKET, SO_REUSEADDR);
        if (meets && !both_port && !both_addr)
            return true;
    }
    return false;
}

static int take_port(struct weft__sim *s, struct weft__sim_file *f, struct sockaddr_storage *addr)
{
    for (unsigned tries = 0; tries < s->port_count; tries++) {
        set_port(addr, 32768 + s->port_next++ % s->port_count);
        if (!is_taken(s, f, addr))
            return 0;
    }
    return -EADDRINUSE;
}

int weft__sim_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    struct weft__sim *s = weft__sim_here();
    weft__sim_point(s);
    struct weft__sim_file *f = weft__sim_file_of(s, fd);
    if (!is_socket(f))
        return f == NULL ? -EBADF : -ENOTSOCK;
    if (len > sizeof(f->addr))
        return -EINVAL;
    if (addr->sa_family != f->family)
        return -EAFNOSUPPORT;
    if (f->is_bound || f->kind == WEFT__SIM_TCP)
        return -EINVAL;
    struct weft__sim_ip ip = weft__sim_ip_of(addr);
    if (weft__sim_is_v6only(f) && weft__sim_ip_is_v4(&ip))
        return -EINVAL;
    struct sockaddr_storage to;
    socklen_t to_len;
    set_addr(&to, &to_len, addr, len);
    if (weft__sim_port_of(addr) == 0) {
        int rc = take_port(s, f, &to);
        if (rc < 0)
            return rc;
    } else if (is_taken(s, f, &to)) {
        return -EADDRINUSE;
    }
    f->addr = to;
    f->addr_len = to_len;
    f->is_bound = true;
    return 0;
}

int weft__sim_listen(int fd, int backlog)
{
    struct weft__sim *s = weft__sim_here();
    weft__sim_point(s);
    struct weft__sim_file *f = weft__sim_file_of(s, fd);
    if (!is_socket(f))
        return f == NULL ? -EBADF : -ENOTSOCK;
    if (f->kind == WEFT__SIM_TCP || !f->is_bound)
        return -EINVAL;
    /* Of several that shared the address while nobody listened, the first. */
    if (f->kind != WEFT__SIM_LISTENER && is_taken(s, f, &f->addr))
        return -EADDRINUSE;
    f->kind = WEFT__SIM_LISTENER;
    f->backlog = (unsigned)backlog < QUEUE_MAX ? (unsigned)backlog : QUEUE_MAX;
    return 0;
}

/* ---- connecting ---- */

static void set_ip(struct sockaddr_storage *addr, socklen_t *len, int family,
                   const struct weft__sim_ip *ip)
{
    memset(addr, 0, sizeof(*addr));
    addr->ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        memcpy(&((struct sockaddr_in *)addr)->sin_addr, ip->byte + 12, 4);
        *len = sizeof(struct sockaddr_in);
    } else {
        memcpy(&((struct sockaddr_in6 *)addr)->sin6_addr, ip->byte, 16);
        *len = sizeof(struct sockaddr_in6);
    }
}

/* The host's own address on the way to another one. */
static struct weft__sim_ip near_ip(const struct weft__sim_ip *to)
{
    struct weft__sim_ip ip = {.byte = {[15] = 1}};
    if (weft__sim_ip_is_v4(to)) {
        ip.byte[10] = ip.byte[11] = 0xff;
        ip.byte[12] = to->byte[12] == 127 ? 127 : 10;
    } else if (memcmp(to, &in6addr_loopback, sizeof(*to)) != 0) {
        ip.byte[0] = 0xfd;
    }
    return ip;
}

/* Where a socket speaks from that was not bound, or to a port alone. */
static int bind_near(struct weft__sim *s, struct weft__sim_file *f, const struct sockaddr *to)
{
    struct weft__sim_ip remote = weft__sim_ip_of(to), near = near_ip(&remote);
    if (f->is_bound) {
        struct weft__sim_ip own = weft__sim_ip_of((const struct sockaddr *)&f->addr);
        unsigned port = weft__sim_port_of((const struct sockaddr *)&f->addr);
        if (weft__sim_ip_is_any(&own)) {
            set_ip(&f->addr, &f->addr_len, f->family, &near);
            set_port(&f->addr, port);
        }
        return 0;
    }
    set_ip(&f->addr, &f->addr_len, f->family, &near);
    f->is_bound = take_port(s, f, &f->addr) == 0;
    return f->is_bound ? 0 : -EADDRNOTAVAIL;
}

static bool is_at(const struct weft__sim_side *side, const struct sockaddr_storage *addr)
{
    struct weft__sim_ip ip = weft__sim_ip_of((const struct sockaddr *)addr);
    return memcmp(&side->ip, &ip, sizeof(ip)) == 0 &&
           weft__sim_port_of((const struct sockaddr *)&side->addr) ==
               weft__sim_port_of((const struct sockaddr *)addr);
}

/* Somebody who shares the address `from` has the connection already. */
static bool is_connected(const struct weft__sim *s, const struct sockaddr_storage *from,
                         const struct sockaddr_storage *to)
{
    for (const struct weft__node *n = s->conns.next; n != &s->conns; n = n->next) {
        const struct weft__sim_conn *c = WEFT__CONTAINER_OF(n, struct weft__sim_conn, node);
        for (unsigned i = 0; i < 2; i++)
            if (c->side[i].is_open && !c->side[i].is_dead && !weft__sim_conn_is_over(c, i) &&
                is_at(&c->side[i], from) && is_at(&c->side[1 - i], to))
                return true;
    }
    return false;
}

/* Who connects to no address in particular gets to itself: IPv4 to the address that it is bound to,
 * if it is, else to the loopback, as with IPv6. */
static void set_peer(struct sockaddr_storage *to, socklen_t *to_len, const struct sockaddr *addr,
                     socklen_t len, const struct weft__sim_file *f)
{
    struct weft__sim_ip ip = weft__sim_ip_of(addr);
    set_addr(to, to_len, addr, len);
    if (!weft__sim_ip_is_any(&ip))
        return;
    if (!weft__sim_ip_is_v4(&ip)) {
        memcpy(&ip, &in6addr_loopback, sizeof(ip));
    } else {
        const uint32_t loopback = htonl(INADDR_LOOPBACK);
        struct weft__sim_ip own = weft__sim_ip_of((const struct sockaddr *)&f->addr);
        if (f->is_bound && weft__sim_ip_is_v4(&own) && !weft__sim_ip_is_any(&own))
            ip = own;
        else
            memcpy(ip.byte + 12, &loopback, sizeof(loopback));
    }
    set_ip(to, to_len, f->family, &ip);
    set_port(to, weft__sim_port_of(addr));
}

int weft__sim_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    struct weft__sim *s = weft__sim_here();
    weft__sim_point(s);
    struct weft__sim_file *f = weft__sim_file_of(s, fd);
    if (!is_socket(f))
        return f == NULL ? -EBADF : -ENOTSOCK;
    if (len > sizeof(f->addr))
        return -EINVAL;
    if (addr->sa_family != f->family)
        return -EAFNOSUPPORT;
    if (f->kind != WEFT__SIM_SOCKET)
        return -EISCONN;
    struct sockaddr_storage to;
    socklen_t to_len;
    set_peer(&to, &to_len, addr, len, f);
    bool was_bound = f->is_bound; /* else nobody else has the port */
    int rc = bind_near(s, f, (const struct sockaddr *)&to);
    if (rc < 0)
        return rc;
    if (was_bound && is_connected(s, &f->addr, &to))
        return -EADDRNOTAVAIL;
    struct weft__sim_conn *c = weft__sim_conn_create(s);
    if (c == NULL)
        return -ENOMEM;
    struct weft__sim_side *client = &c->side[0], *server = &c->side[1];
    client->addr = f->addr;
    client->addr_len = f->addr_len;
    server->addr = to;
    server->addr_len = to_len;
    client->ip = weft__sim_ip_of((const struct sockaddr *)&client->addr);
    server->ip = weft__sim_ip_of((const struct sockaddr *)&to);
    client->sock = f;
    f->conn = c;
    f->side = 0;
    f->kind = WEFT__SIM_TCP;
    rc = weft__sim_send(s, c, 0, WEFT__SIM_SYN, NULL, 0);
    return rc < 0 ? rc : -EINPROGRESS;
}

/* ---- accepting ---- */

static struct weft__sim_conn *take_queued(struct weft__sim_file *listener)
{
    struct weft__sim_conn *c = listener->queue;
    listener->queue = c->next;
    listener->queue_len--;
    return c;
}

static int give_addr(struct sockaddr *addr, socklen_t *len, const struct sockaddr_storage *from,
                     socklen_t from_len)
{
    if (addr == NULL || len == NULL)
        return 0;
    memcpy(addr, from, *len < from_len ? *len : from_len);
    *len = from_len;
    return 0;
}

/* An address of the connection as a socket of this family sees it: IPv4 through an IPv6 one is
 * mapped. */
static void see_addr(struct sockaddr_storage *ret, socklen_t *ret_len, int family,
                     const struct weft__sim_side *side)
{
    *ret = side->addr;
    *ret_len = side->addr_len;
    if (side->addr.ss_family == family)
        return;
    set_ip(ret, ret_len, family, &side->ip);
    set_port(ret, weft__sim_port_of((const struct sockaddr *)&side->addr));
}

/* What a listener has set its connections have from the beginning. */
static int copy_options(struct weft__sim_file *to, const struct weft__sim_file *from)
{
    for (const struct weft__sim_option *o = from->options; o != NULL; o = o->next) {
        struct weft__sim_option *copy = weft__malloc(sizeof(*copy));
        if (copy == NULL)
            return -ENOMEM;
        *copy = *o;
        copy->next = to->options;
        to->options = copy;
    }
    return 0;
}

int weft__sim_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    static const int exhausted[] = {-EMFILE, -ENFILE, -ENOMEM, -ENOBUFS};
    struct weft__sim *s = weft__sim_here();
    weft__sim_point(s);
    struct weft__sim_file *l = weft__sim_file_of(s, fd), *f;
    if (!is_socket(l))
        return l == NULL ? -EBADF : -ENOTSOCK;
    if (l->kind != WEFT__SIM_LISTENER)
        return -EINVAL;
    if (l->queue == NULL)
        return -EAGAIN;
    if (weft__sim_chance(s, s->config.accept_exhaust_ppm)) {
        s->result.accept_errors++;
        return exhausted[weft__sim_below(s, 4)];
    }
    if (weft__sim_chance(s, s->config.accept_abort_ppm)) {
        s->result.accept_errors++;
        weft__sim_side_close(s, take_queued(l), 1, true);
        return -ECONNABORTED;
    }
    int rc = weft__sim_file_create(s, WEFT__SIM_TCP, &f);
    if (rc < 0)
        return rc;
    rc = copy_options(f, l);
    if (rc < 0) {
        weft__sim_file_destroy(s, f);
        return rc;
    }
    struct weft__sim_conn *c = take_queued(l);
    struct sockaddr_storage peer;
    socklen_t peer_len;
    f->family = l->family;
    f->conn = c;
    f->side = 1;
    see_addr(&f->addr, &f->addr_len, f->family, &c->side[1]);
    f->is_bound = true;
    c->side[1].sock = f;
    see_addr(&peer, &peer_len, f->family, &c->side[0]);
    (void)give_addr(addr, len, &peer, peer_len);
    return f->fd;
}

/* ---- bytes ---- */

static size_t visible(const struct weft__sim_side *side)
{
    return side->rx_len - side->hidden;
}

static int take_error(struct weft__sim_side *side)
{
    int error = side->error;
    side->error = 0;
    return -error;
}

static void copy_out(const struct weft__sim_side *side, const struct iovec *iov, int count,
                     size_t len)
{
    size_t at = side->rx_at;
    for (int i = 0; i < count && len > 0; i++) {
        char *to = iov[i].iov_base;
        for (size_t k = 0; k < iov[i].iov_len && len > 0; k++, len--) {
            to[k] = side->rx[at];
            at = at + 1 == side->rx_cap ? 0 : at + 1;
        }
    }
}

static ssize_t tcp_read(struct weft__sim *s, struct weft__sim_file *f, const struct iovec *iov,
                        int count, size_t len, int flags)
{
    struct weft__sim_side *side = side_of(f);
    if (!f->conn->is_established && !side->is_dead)
        return -EAGAIN;
    size_t n = visible(side);
    if (n == 0) {
        bool is_all = side->rx_len == 0;
        if (side->has_fin && is_all)
            return 0;
        if (side->error != 0)
            return take_error(side);
        return side->is_dead || (side->is_read_shut && is_all) ? 0 : -EAGAIN;
    }
    if (n > len)
        n = len;
    bool is_peek = flags & MSG_PEEK;
    bool is_short = n > 1 && weft__sim_chance(s, s->config.short_ppm);
    if (is_short)
        n = 1 + weft__sim_below(s, n - 1);
    copy_out(side, iov, count, n);
    if (is_peek)
        return (ssize_t)n;
    side->rx_at = (side->rx_at + n) % side->rx_cap;
    side->rx_len -= n;
    if (is_short && side->rx_len > 0) {
        side->hidden = side->rx_len;
        int rc = weft__sim_plan(s, f->conn, f->side, WEFT__SIM_SHOW);
        if (rc < 0)
            side->hidden = 0;
    }
    weft__sim_side_drained(s, f->conn, f->side);
    return (ssize_t)n;
}

static size_t room_of(const struct weft__sim_side *side)
{
    return side->is_blocked || side->in_flight >= side->tx_cap ? 0 : side->tx_cap - side->in_flight;
}

/* Sends the first n bytes, in pieces. */
static int send_pieces(struct weft__sim *s, struct weft__sim_file *f, const struct iovec *iov,
                       int count, size_t n)
{
    for (int i = 0; i < count && n > 0; i++) {
        const char *from = iov[i].iov_base;
        size_t left = iov[i].iov_len < n ? iov[i].iov_len : n;
        n -= left;
        while (left > 0) {
            size_t piece = left;
            if (piece > 1 && weft__sim_chance(s, s->config.short_ppm))
                piece = 1 + weft__sim_below(s, piece - 1);
            int rc = weft__sim_send(s, f->conn, f->side, WEFT__SIM_DATA, from, piece);
            if (rc < 0)
                return rc;
            from += piece;
            left -= piece;
        }
    }
    return 0;
}

static ssize_t tcp_write(struct weft__sim *s, struct weft__sim_file *f, const struct iovec *iov,
                         int count, size_t len)
{
    struct weft__sim_side *side = side_of(f);
    if (side->error != 0)
        return take_error(side);
    if (side->is_dead || side->is_write_shut)
        return -EPIPE;
    size_t n = f->conn->is_established ? room_of(side) : 0;
    side->wants_room = n < len;
    if (n == 0)
        return -EAGAIN;
    if (n > len)
        n = len;
    if (n > 1 && weft__sim_chance(s, s->config.short_ppm)) {
        n = 1 + weft__sim_below(s, n - 1);
        int rc = weft__sim_plan(s, f->conn, f->side, WEFT__SIM_ROOM);
        if (rc < 0)
            return rc;
        side->is_blocked = true;
    }
    int rc = send_pieces(s, f, iov, count, n);
    return rc < 0 ? rc : (ssize_t)n;
}

static size_t sum_of(const struct iovec *iov, int count)
{
    size_t len = 0;
    for (int i = 0; i < count; i++)
        len += iov[i].iov_len;
    return len;
}

ssize_t weft__sim_read(int fd, const struct iovec *iov, int count, int flags)
{
    struct weft__sim *s = weft__sim_here();
    weft__sim_point(s);
    struct weft__sim_file *f = weft__sim_file_of(s, fd);
    if (f == NULL)
        return -EBADF;
    size_t len = sum_of(iov, count);
    if (f->kind == WEFT__SIM_EVENTFD) {
        if (f->count == 0)
            return -EAGAIN;
        memcpy(iov[0].iov_base, &f->count, sizeof(f->count));
        f->count = 0;
        return sizeof(f->count);
    }
    if (f->kind != WEFT__SIM_TCP)
        return is_socket(f) ? -ENOTCONN : -EINVAL;
    return len == 0 ? 0 : tcp_read(s, f, iov, count, len, flags);
}

ssize_t weft__sim_write(int fd, const struct iovec *iov, int count)
{
    struct weft__sim *s = weft__sim_here();
    weft__sim_point(s);
    struct weft__sim_file *f = weft__sim_file_of(s, fd);
    if (f == NULL)
        return -EBADF;
    size_t len = sum_of(iov, count);
    if (f->kind == WEFT__SIM_EVENTFD) {
        f->count++;
        weft__sim_file_edge(s, f);
        return sizeof(f->count);
    }
    if (f->kind != WEFT__SIM_TCP)
        return is_socket(f) ? -EPIPE : -EINVAL;
    return len == 0 ? 0 : tcp_write(s, f, iov, count, len);
}

/* ---- ending ---- */

int weft__sim_shutdown(int fd, int how)
{
    struct weft__sim *s = weft__sim_here();
    weft__sim_point(s);
    struct weft__sim_file *f = weft__sim_file_of(s, fd);
    if (!is_socket(f))
        return f == NULL ? -EBADF : -ENOTSOCK;
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
        return -EINVAL;
    struct weft__sim_side *side = side_of(f);
    if (side == NULL)
        return -ENOTCONN;
    if (side->is_dead || !f->conn->is_established || weft__sim_conn_is_over(f->conn, f->side)) {
        weft__sim_file_edge(s, f);
        return -ENOTCONN;
    }
    if (how == SHUT_RD || how == SHUT_RDWR)
        side->is_read_shut = true;
    if ((how == SHUT_WR || how == SHUT_RDWR) && !side->is_write_shut) {
        int rc = weft__sim_send(s, f->conn, f->side, WEFT__SIM_FIN, NULL, 0);
        if (rc < 0)
            return rc;
        side->is_write_shut = true;
    }
    weft__sim_file_edge(s, f);
    return 0;
}

void weft__sim_socket_close(struct weft__sim *s, struct weft__sim_file *f)
{
    while (f->queue != NULL)
        weft__sim_side_close(s, take_queued(f), 1, true);
    if (f->conn != NULL) {
        struct linger linger = {0};
        const struct weft__sim_option *o = find_option(f, SOL_SOCKET, SO_LINGER);
        if (o != NULL)
            memcpy(&linger, o->value, sizeof(linger));
        bool resets = linger.l_onoff && linger.l_linger == 0;
        f->conn->side[f->side].sock = NULL;
        weft__sim_side_close(s, f->conn, f->side, resets);
        f->conn = NULL;
    }
    weft__sim_socket_free(f);
}

void weft__sim_socket_free(struct weft__sim_file *f)
{
    while (f->options != NULL) {
        struct weft__sim_option *o = f->options;
        f->options = o->next;
        weft__free(o);
    }
}

/* ---- what it looks like ---- */

uint32_t weft__sim_socket_poll(const struct weft__sim_file *f)
{
    struct weft__sim_side *side = side_of(f);
    if (f->kind == WEFT__SIM_LISTENER)
        return f->queue != NULL ? EPOLLIN : 0;
    if (side == NULL)
        return f->kind == WEFT__SIM_SOCKET ? EPOLLOUT | EPOLLHUP : 0;
    uint32_t bits = 0;
    if (side->error != 0)
        bits |= EPOLLERR;
    if (side->is_dead)
        return bits | EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP;
    if (!f->conn->is_established)
        return bits;
    bool is_ended = (side->has_fin && side->rx_len == 0) || side->is_read_shut;
    if (visible(side) > 0 || is_ended)
        bits |= EPOLLIN;
    if (side->has_fin || side->is_read_shut)
        bits |= EPOLLRDHUP;
    if ((side->has_fin || side->is_read_shut) && side->is_write_shut)
        bits |= EPOLLHUP;
    side->wants_room |= room_of(side) == 0;
    if (room_of(side) > 0 || side->is_write_shut)
        bits |= EPOLLOUT;
    return bits;
}

int weft__sim_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
    struct weft__sim_file *f = weft__sim_file_of(weft__sim_here(), fd);
    if (!is_socket(f))
        return f == NULL ? -EBADF : -ENOTSOCK;
    return give_addr(addr, len, &f->addr, f->addr_len);
}

int weft__sim_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    struct weft__sim_file *f = weft__sim_file_of(weft__sim_here(), fd);
    if (!is_socket(f))
        return f == NULL ? -EBADF : -ENOTSOCK;
    if (f->conn == NULL || !f->conn->is_established || side_of(f)->is_dead ||
        weft__sim_conn_is_over(f->conn, f->side))
        return -ENOTCONN;
    struct sockaddr_storage peer;
    socklen_t peer_len;
    see_addr(&peer, &peer_len, f->family, &f->conn->side[1 - f->side]);
    return give_addr(addr, len, &peer, peer_len);
}

/* ---- options: kept, and given back ---- */

static socklen_t shortest_option(int level, int name)
{
    if (level != SOL_SOCKET)
        return 1;
    return name == SO_LINGER         ? sizeof(struct linger)
           : name == SO_BINDTODEVICE ? 0 /* a name */
                                     : sizeof(int);
}

/* As Linux has it: more than may be is what may be, and all is doubled. */
static int buffer_of(int name, int asked)
{
    unsigned bytes = (unsigned)asked < BUFFER_MAX ? (unsigned)asked : BUFFER_MAX;
    unsigned least = name == SO_SNDBUF ? SNDBUF_MIN : RCVBUF_MIN;
    return (int)(2 * bytes > least ? 2 * bytes : least);
}

/* Why Linux refuses a value; of what weft has a function for. */
static int refuse_option(const struct weft__sim_file *f, int level, int name, const void *value,
                         socklen_t len)
{
    int number = 1; /* of what is shorter nothing is said here */
    if (len >= sizeof(number))
        memcpy(&number, value, sizeof(number));
    if (level == IPPROTO_IPV6 && f->family == AF_INET)
        return -ENOPROTOOPT;
    if (level == SOL_SOCKET && (name == SO_TYPE || name == SO_ACCEPTCONN || name == SO_ERROR ||
                                name == SO_DOMAIN || name == SO_PROTOCOL))
        return -ENOPROTOOPT;
    bool is_time = level == IPPROTO_TCP && (name == TCP_KEEPIDLE || name == TCP_KEEPINTVL);
    bool is_count = level == IPPROTO_TCP && name == TCP_KEEPCNT;
    if ((is_time && (number < 1 || number > KEEPALIVE_SECONDS_MAX)) ||
        (is_count && (number < 1 || number > KEEPALIVE_COUNT_MAX)))
        return -EINVAL;
    return 0;
}

int weft__sim_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    struct weft__sim_file *f = weft__sim_file_of(weft__sim_here(), fd);
    if (!is_socket(f))
        return f == NULL ? -EBADF : -ENOTSOCK;
    if (len > sizeof(f->options->value) || len < shortest_option(level, name))
        return -EINVAL;
    if (value == NULL && len > 0)
        return -EFAULT;
    int rc = refuse_option(f, level, name, value, len);
    if (rc < 0)
        return rc;
    struct weft__sim_option *o = (struct weft__sim_option *)find_option(f, level, name);
    if (o == NULL) {
        o = weft__calloc(1, sizeof(*o));
        if (o == NULL)
            return -ENOMEM;
        o->level = level;
        o->name = name;
        o->next = f->options;
        f->options = o;
    }
    o->len = len;
    memset(o->value, 0, sizeof(o->value));
    if (len > 0)
        memcpy(o->value, value, len);
    if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_RCVBUF)) {
        int bytes;
        memcpy(&bytes, value, sizeof(bytes));
        bytes = buffer_of(name, bytes);
        memcpy(o->value, &bytes, sizeof(bytes));
    }
    return 0;
}

/* What it is as long as nobody has set it. */
static int default_option(const weft_sim_config *c, int level, int name)
{
    size_t bytes = level != SOL_SOCKET ? 0
                   : name == SO_SNDBUF ? c->send_bytes
                   : name == SO_RCVBUF ? c->recv_bytes
                                       : 0;
    return bytes < INT_MAX ? (int)bytes : INT_MAX;
}

static int own_option(struct weft__sim_file *f, int name, int *ret)
{
    struct weft__sim_side *side = side_of(f);
    switch (name) {
    case SO_TYPE:
        *ret = SOCK_STREAM;
        return 0;
    case SO_DOMAIN:
        *ret = f->family;
        return 0;
    case SO_PROTOCOL:
        *ret = IPPROTO_TCP;
        return 0;
    case SO_ACCEPTCONN:
        *ret = f->kind == WEFT__SIM_LISTENER;
        return 0;
    case SO_ERROR:
        *ret = side != NULL ? -take_error(side) : 0;
        return 0;
    default:
        return -ENOENT;
    }
}

int weft__sim_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    struct weft__sim_file *f = weft__sim_file_of(weft__sim_here(), fd);
    if (!is_socket(f))
        return f == NULL ? -EBADF : -ENOTSOCK;
    int own = 0;
    const struct weft__sim_option *o = NULL;
    if (level != SOL_SOCKET || own_option(f, name, &own) < 0) {
        o = find_option(f, level, name);
        own = default_option(&weft__sim_here()->config, level, name);
    }
    socklen_t have = o != NULL                                  ? o->len
                     : name == SO_LINGER && level == SOL_SOCKET ? (socklen_t)sizeof(struct linger)
                                                                : (socklen_t)sizeof(own);
    socklen_t n = have < *len ? have : *len;
    if (o != NULL)
        memcpy(value, o->value, n);
    else {
        memset(value, 0, n);
        memcpy(value, &own, n < sizeof(own) ? n : sizeof(own));
    }
    *len = n;
    return 0;
}
