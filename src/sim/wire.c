/*
 * The network of the simulation: what goes from one end of a connection to the other, when it
 * arrives, and what becomes of it.
 *
 * Everything that will happen is an event in a heap, by time. In each direction of a connection
 * segments arrive in the order in which they were sent, as TCP makes it look: one that is "lost"
 * holds up those behind it for as long as a retransmission takes. A reset alone does not wait for
 * what was sent before it. A cut link holds everything, until it is healed or the sender gives up.
 */
#include "sim/world.h"

#include <errno.h>
#include <string.h>

#define RETRANSMIT_NS (200 * WEFT_MS)
#define SYN_RETRY_NS WEFT_SEC           /* twice as long each time */
#define SYN_RETRIES 6                   /* net.ipv4.tcp_syn_retries */
#define SYN_ACK_RETRIES 5               /* net.ipv4.tcp_synack_retries */
#define SYN_TIMEOUT_NS (127 * WEFT_SEC) /* what SYN_RETRIES take, and the wait after them */
#define TIMEOUT_NS (924 * WEFT_SEC)     /* fifteen */
#define MOMENT_MAX_NS (2 * WEFT_MS)

enum { TRACE_SENT = 16, TRACE_EVENT, TRACE_BYTES };

/* ---- addresses ---- */

struct weft__sim_ip weft__sim_ip_of(const struct sockaddr *addr)
{
    struct weft__sim_ip ip = {.byte = {[10] = 0xff, [11] = 0xff}};
    if (addr->sa_family == AF_INET)
        memcpy(ip.byte + 12, &((const struct sockaddr_in *)(const void *)addr)->sin_addr, 4);
    else
        memcpy(ip.byte, &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr, 16);
    return ip;
}

static bool are_zero(const unsigned char *byte, int count)
{
    for (int i = 0; i < count; i++)
        if (byte[i] != 0)
            return false;
    return true;
}

bool weft__sim_ip_is_v4(const struct weft__sim_ip *ip)
{
    return are_zero(ip->byte, 10) && ip->byte[10] == 0xff && ip->byte[11] == 0xff;
}

bool weft__sim_ip_is_any(const struct weft__sim_ip *ip)
{
    return are_zero(ip->byte, 16) || (weft__sim_ip_is_v4(ip) && are_zero(ip->byte + 12, 4));
}

bool weft__sim_ip_covers(const struct weft__sim_ip *at, bool is_v6only,
                         const struct weft__sim_ip *ip)
{
    if (memcmp(at, ip, sizeof(*at)) == 0)
        return true;
    if (!weft__sim_ip_is_any(at))
        return false;
    return weft__sim_ip_is_v4(at) ? weft__sim_ip_is_v4(ip) : !is_v6only || !weft__sim_ip_is_v4(ip);
}

unsigned weft__sim_port_of(const struct sockaddr *addr)
{
    return ntohs(addr->sa_family == AF_INET
                     ? ((const struct sockaddr_in *)(const void *)addr)->sin_port
                     : ((const struct sockaddr_in6 *)(const void *)addr)->sin6_port);
}

/* How closely it is the one that listens for ip; 0: not at all. */
static int fit(const struct weft__sim_file *f, const struct weft__sim_ip *ip, unsigned port)
{
    if (f == NULL || f->kind != WEFT__SIM_LISTENER)
        return 0;
    const struct sockaddr *own = (const struct sockaddr *)&f->addr;
    struct weft__sim_ip at = weft__sim_ip_of(own);
    if (weft__sim_port_of(own) != port || !weft__sim_ip_covers(&at, weft__sim_is_v6only(f), ip))
        return 0;
    return memcmp(&at, ip, sizeof(at)) == 0 ? 3 : weft__sim_ip_is_v4(&at) ? 2 : 1;
}

struct weft__sim_file *weft__sim_listener_of(struct weft__sim *s, const struct sockaddr *addr)
{
    struct weft__sim_ip ip = weft__sim_ip_of(addr);
    struct weft__sim_file *found = NULL;
    uint64_t count = 0;
    int best = 1;
    for (unsigned i = 0; i < s->file_count; i++) {
        int how = fit(s->files[i], &ip, weft__sim_port_of(addr));
        if (how < best)
            continue;
        if (how > best)
            count = 0;
        best = how;
        if (weft__sim_below(s, ++count) == 0) /* each of several is as likely */
            found = s->files[i];
    }
    return found;
}

static bool cut_meets(const struct weft__sim_cut *cut, const struct weft__sim_ip *a,
                      const struct weft__sim_ip *b)
{
    for (int turned = 0; turned < 2; turned++) {
        const struct weft__sim_ip *x = turned ? b : a, *y = turned ? a : b;
        if ((cut->any[0] || memcmp(&cut->ip[0], x, sizeof(*x)) == 0) &&
            (cut->any[1] || memcmp(&cut->ip[1], y, sizeof(*y)) == 0))
            return true;
    }
    return false;
}

static bool is_cut(const struct weft__sim *s, const struct weft__sim_conn *c)
{
    for (const struct weft__sim_cut *cut = s->cuts; cut != NULL; cut = cut->next)
        if (cut_meets(cut, &c->side[0].ip, &c->side[1].ip))
            return true;
    return false;
}

/* ---- the heap ---- */

static bool is_before(const struct weft__sim_event *a, const struct weft__sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void sift_up(struct weft__sim *s, size_t i)
{
    struct weft__sim_event *e = s->heap[i];
    for (; i > 0 && is_before(e, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
}

static void sift_down(struct weft__sim *s, size_t i)
{
    struct weft__sim_event *e = s->heap[i];
    for (size_t child; (child = 2 * i + 1) < s->event_count; i = child) {
        if (child + 1 < s->event_count && is_before(s->heap[child + 1], s->heap[child]))
            child++;
        if (!is_before(s->heap[child], e))
            break;
        s->heap[i] = s->heap[child];
    }
    s->heap[i] = e;
}

static int push(struct weft__sim *s, struct weft__sim_event *e)
{
    if (s->event_count == s->event_cap) {
        size_t cap = s->event_cap ? 2 * s->event_cap : 64;
        struct weft__sim_event **heap = weft__malloc(cap * sizeof(void *));
        if (heap == NULL)
            return -ENOMEM;
        if (s->event_count > 0)
            memcpy(heap, s->heap, s->event_count * sizeof(void *));
        weft__free(s->heap);
        s->heap = heap;
        s->event_cap = cap;
    }
    s->heap[s->event_count] = e;
    sift_up(s, s->event_count++);
    return 0;
}

static struct weft__sim_event *pop(struct weft__sim *s)
{
    struct weft__sim_event *e = s->heap[0];
    s->heap[0] = s->heap[--s->event_count];
    if (s->event_count > 0)
        sift_down(s, 0);
    return e;
}

uint64_t weft__sim_event_next_ns(const struct weft__sim *s)
{
    return s->event_count > 0 ? s->heap[0]->at_ns : WEFT_NEVER;
}

/* ---- connections ---- */

struct weft__sim_conn *weft__sim_conn_create(struct weft__sim *s)
{
    struct weft__sim_conn *c = weft__calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    for (int i = 0; i < 2; i++) {
        c->side[i].rx_cap = s->config.recv_bytes;
        c->side[i].tx_cap = s->config.send_bytes;
    }
    c->side[0].is_open = true;
    weft__list_push_back(&s->conns, &c->node);
    return c;
}

static void free_event(struct weft__sim_event *e)
{
    e->conn->events--;
    weft__free(e);
}

static void free_stalled(struct weft__sim_side *side)
{
    while (side->stalled != NULL) {
        struct weft__sim_event *e = side->stalled;
        side->stalled = e->next;
        free_event(e);
    }
}

static void free_conn(struct weft__sim_conn *c)
{
    weft__list_remove(&c->node);
    for (int i = 0; i < 2; i++) {
        free_stalled(&c->side[i]);
        weft__free(c->side[i].rx);
    }
    weft__free(c);
}

static void free_conn_if_unused(struct weft__sim_conn *c)
{
    /* One that stands in a queue is open on that side. */
    if (!c->side[0].is_open && !c->side[1].is_open && c->events == 0)
        free_conn(c);
}

bool weft__sim_conn_is_over(const struct weft__sim_conn *c, unsigned side)
{
    return c->side[side].has_fin && c->side[side].is_write_shut && c->side[1 - side].has_fin;
}

/* This end learns that the connection is lost. */
static void lose(struct weft__sim *s, struct weft__sim_side *side, int error)
{
    if (side->is_dead || !side->is_open)
        return;
    side->is_dead = true;
    side->error = error;
    side->hidden = 0;
    free_stalled(side);
    weft__sim_file_edge(s, side->sock);
}

/* ---- sending ---- */

static struct weft__sim_event *make(struct weft__sim *s, struct weft__sim_conn *c, unsigned side,
                                    enum weft__sim_event_kind kind, size_t bytes)
{
    struct weft__sim_event *e = weft__malloc(sizeof(*e) + bytes);
    if (e == NULL)
        return NULL;
    *e = (struct weft__sim_event){
        .order = s->event_next++, .kind = kind, .side = side, .conn = c, .len = bytes};
    return e;
}

static int add(struct weft__sim *s, struct weft__sim_event *e)
{
    int rc = push(s, e);
    if (rc < 0)
        weft__free(e);
    else
        e->conn->events++;
    return rc;
}

static uint64_t draw_latency(struct weft__sim *s)
{
    const weft_sim_config *c = &s->config;
    uint64_t ns = c->latency_min_ns + weft__sim_below(s, c->latency_max_ns - c->latency_min_ns + 1);
    if (weft__sim_chance(s, c->loss_ppm)) {
        ns += RETRANSMIT_NS << weft__sim_below(s, 4);
        s->result.lost++;
    }
    return ns;
}

static int send_later(struct weft__sim *s, struct weft__sim_event *e)
{
    struct weft__sim_side *from = &e->conn->side[1 - e->side];
    e->at_ns = s->now_ns + draw_latency(s);
    /* A reset does not wait for what was sent before it: that is not sent again, and lost if it has
     * not arrived by then. */
    if (e->kind != WEFT__SIM_RST && e->at_ns < from->last_ns)
        e->at_ns = from->last_ns;
    if (from->last_ns < e->at_ns)
        from->last_ns = e->at_ns;
    weft__sim_trace(s, TRACE_SENT, e->kind, e->at_ns);
    return add(s, e);
}

/* The connection breaks here: what would have been sent is lost, and both ends will be told. */
static int break_off(struct weft__sim *s, struct weft__sim_conn *c)
{
    c->is_reset_planned = true;
    s->result.resets++;
    int rc = weft__sim_send(s, c, 0, WEFT__SIM_RST, NULL, 0);
    return rc < 0 ? rc : weft__sim_send(s, c, 1, WEFT__SIM_RST, NULL, 0);
}

/* Which bytes they are: FNV-1a. */
static uint64_t digest(const char *bytes, size_t len)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

int weft__sim_send(struct weft__sim *s, struct weft__sim_conn *c, unsigned side,
                   enum weft__sim_event_kind kind, const void *bytes, size_t len)
{
    if (kind == WEFT__SIM_DATA && !c->is_reset_planned &&
        weft__sim_chance(s, s->config.reset_ppm)) {
        int rc = break_off(s, c);
        if (rc < 0)
            return rc;
    }
    if (kind == WEFT__SIM_DATA && c->is_reset_planned) {
        c->side[side].in_flight += len;
        return 0;
    }
    struct weft__sim_event *e = make(s, c, 1 - side, kind, bytes != NULL ? len : 0);
    if (e == NULL)
        return -ENOMEM;
    e->len = len;
    if (bytes != NULL) {
        memcpy(e->bytes, bytes, len);
        weft__sim_trace(s, TRACE_BYTES, len, digest(e->bytes, len));
    }
    int rc = send_later(s, e);
    if (rc == 0 && kind == WEFT__SIM_DATA)
        c->side[side].in_flight += len;
    return rc;
}

int weft__sim_plan(struct weft__sim *s, struct weft__sim_conn *c, unsigned side,
                   enum weft__sim_event_kind kind)
{
    struct weft__sim_event *e = make(s, c, side, kind, 0);
    if (e == NULL)
        return -ENOMEM;
    e->at_ns = s->now_ns + weft__sim_below(s, MOMENT_MAX_NS);
    return add(s, e);
}

/* There was no memory for something that an event does, and nobody to tell. */
static void lose_for_memory(struct weft__sim *s, struct weft__sim_conn *c)
{
    lose(s, &c->side[0], ENOMEM);
    lose(s, &c->side[1], ENOMEM);
}

/* Sends something because of an event. */
static void answer(struct weft__sim *s, struct weft__sim_conn *c, unsigned side,
                   enum weft__sim_event_kind kind, size_t len)
{
    if (weft__sim_send(s, c, side, kind, NULL, len) < 0)
        lose_for_memory(s, c);
}

void weft__sim_side_close(struct weft__sim *s, struct weft__sim_conn *c, unsigned side, bool resets)
{
    struct weft__sim_side *own = &c->side[side];
    bool is_unread = own->rx_len > 0; /* what has stalled waits for room in there */
    own->is_open = false;
    free_stalled(own);
    if (!own->is_dead && c->is_established && !weft__sim_conn_is_over(c, side)) {
        if (resets || is_unread)
            answer(s, c, side, WEFT__SIM_RST, 0);
        else if (!own->is_write_shut)
            answer(s, c, side, WEFT__SIM_FIN, 0);
    }
    free_conn_if_unused(c);
}

/* ---- arriving ---- */

static void stall(struct weft__sim_side *side, struct weft__sim_event *e)
{
    e->next = NULL;
    if (side->stalled == NULL)
        side->stalled = e;
    else
        side->stalled_last->next = e;
    side->stalled_last = e;
    e->conn->events++;
}

/* Bytes that have room; true when those are all. */
static bool store(struct weft__sim *s, struct weft__sim_side *side, struct weft__sim_event *e)
{
    size_t room = side->rx_cap - side->rx_len;
    size_t n = e->len - e->done < room ? e->len - e->done : room;
    for (size_t i = 0; i < n; i++)
        side->rx[(side->rx_at + side->rx_len + i) % side->rx_cap] = e->bytes[e->done + i];
    side->rx_len += n;
    if (side->hidden > 0)
        side->hidden += n;
    e->done += n;
    s->result.bytes += n;
    bool is_all = e->done == e->len;
    if (n > 0) /* last: when there is no memory for it, the connection is lost, and e with it */
        answer(s, e->conn, e->side, WEFT__SIM_ACK, n);
    return is_all;
}

/* True when it is done with, else it waits for room. */
static bool take_in(struct weft__sim *s, struct weft__sim_side *side, struct weft__sim_event *e)
{
    if (e->kind == WEFT__SIM_FIN) {
        side->has_fin = true;
        return true;
    }
    return store(s, side, e);
}

static void arrive_in_order(struct weft__sim *s, struct weft__sim_event *e)
{
    struct weft__sim_side *side = &e->conn->side[e->side];
    if (e->conn->side[1 - e->side].has_given_up)
        return;
    if (side->is_dead || !side->is_open) { /* nobody will read it */
        if (e->kind == WEFT__SIM_DATA)
            answer(s, e->conn, e->side, WEFT__SIM_RST, 0);
        else if (!side->is_open)
            side->has_fin = true; /* which its peer goes by */
        return;
    }
    /* Who has shut both directions wants nothing more: RFC 1122, 4.2.2.13. */
    if (e->kind == WEFT__SIM_DATA && side->is_read_shut && side->is_write_shut) {
        answer(s, e->conn, e->side, WEFT__SIM_RST, 0);
        lose(s, side, ECONNRESET);
        return;
    }
    if (side->rx == NULL && (side->rx = weft__malloc(side->rx_cap)) == NULL) {
        lose_for_memory(s, e->conn);
        return;
    }
    s->result.segments++;
    if (side->stalled == NULL && take_in(s, side, e)) {
        weft__sim_file_edge(s, side->sock);
        return;
    }
    /* A copy in the list of those that wait: the caller frees e. */
    struct weft__sim_event *rest = make(s, e->conn, e->side, e->kind, e->len - e->done);
    if (rest == NULL) {
        lose_for_memory(s, e->conn);
        return;
    }
    memcpy(rest->bytes, e->bytes + e->done, e->len - e->done);
    stall(side, rest);
    weft__sim_file_edge(s, side->sock);
}

void weft__sim_side_drained(struct weft__sim *s, struct weft__sim_conn *c, unsigned index)
{
    struct weft__sim_side *side = &c->side[index];
    bool has_changed = false;
    while (side->stalled != NULL) {
        struct weft__sim_event *e = side->stalled;
        size_t before = side->rx_len;
        bool is_done = take_in(s, side, e);
        if (side->is_dead)
            return; /* out of memory, and e is gone */
        has_changed |= is_done || side->rx_len != before;
        if (!is_done)
            break;
        side->stalled = e->next;
        free_event(e);
    }
    if (has_changed)
        weft__sim_file_edge(s, side->sock);
}

/* The server gives up a connection that nobody has accepted: what comes later is reset. */
static void forget_unaccepted(struct weft__sim_conn *c)
{
    c->side[1].is_open = false;
    free_stalled(&c->side[1]);
}

/* One more than was asked for: what Linux makes of a backlog. */
static bool is_full(const struct weft__sim_file *listener)
{
    return listener->queue_len > listener->backlog;
}

/* For a part of a handshake that found the queue full: false when it was tried often enough, and is
 * over. */
static bool try_later(struct weft__sim *s, struct weft__sim_event *e, unsigned retries)
{
    if (e->tries > retries)
        return false;
    e->at_ns = s->now_ns + (SYN_RETRY_NS << e->tries++);
    return true;
}

/* True: the queue is full, it is tried again. */
static bool arrive_syn(struct weft__sim *s, struct weft__sim_event *e)
{
    struct weft__sim_conn *c = e->conn;
    if (!c->side[0].is_open)
        return false; /* given up */
    const struct weft__sim_file *l =
        weft__sim_listener_of(s, (const struct sockaddr *)&c->side[1].addr);
    if (l == NULL || weft__sim_chance(s, s->config.refuse_ppm)) {
        answer(s, c, 1, WEFT__SIM_REFUSED, 0);
        return false;
    }
    if (!is_full(l)) {
        answer(s, c, 1, WEFT__SIM_SYN_ACK, 0);
        return false;
    }
    if (try_later(s, e, SYN_RETRIES))
        return true;
    lose(s, &c->side[0], ETIMEDOUT);
    return false;
}

static void arrive_syn_ack(struct weft__sim *s, struct weft__sim_conn *c)
{
    if (!c->side[0].is_open)
        return;
    c->is_established = true;
    c->side[1].is_open = true;
    s->result.connections++;
    weft__sim_file_edge(s, c->side[0].sock);
    answer(s, c, 0, WEFT__SIM_HANDSHAKEN, 0);
}

/* The same: the queue has filled since the SYN came. */
static bool arrive_handshaken(struct weft__sim *s, struct weft__sim_event *e)
{
    struct weft__sim_conn *c = e->conn;
    struct weft__sim_file *l = weft__sim_listener_of(s, (const struct sockaddr *)&c->side[1].addr);
    if (l == NULL) {
        forget_unaccepted(c);
        answer(s, c, 1, WEFT__SIM_RST, 0);
        return false;
    }
    if (is_full(l)) {
        if (try_later(s, e, SYN_ACK_RETRIES))
            return true;
        forget_unaccepted(c);
        return false;
    }
    c->next = NULL;
    if (l->queue == NULL)
        l->queue = c;
    else
        l->queue_last->next = c;
    l->queue_last = c;
    l->queue_len++;
    weft__sim_file_edge(s, l);
    return false;
}

/* False: it stays, for another time that has been set. */
static bool happen(struct weft__sim *s, struct weft__sim_event *e)
{
    struct weft__sim_conn *c = e->conn;
    struct weft__sim_side *side = &c->side[e->side];
    switch (e->kind) {
    case WEFT__SIM_SYN:
        return !arrive_syn(s, e);
    case WEFT__SIM_SYN_ACK:
        arrive_syn_ack(s, c);
        return true;
    case WEFT__SIM_HANDSHAKEN:
        return !arrive_handshaken(s, e);
    case WEFT__SIM_REFUSED:
        s->result.refused++;
        lose(s, side, ECONNREFUSED);
        return true;
    case WEFT__SIM_DATA:
    case WEFT__SIM_FIN:
        arrive_in_order(s, e);
        return true;
    case WEFT__SIM_RST:
        if (!weft__sim_conn_is_over(c, e->side))
            lose(s, side, side->has_fin ? EPIPE : ECONNRESET);
        return true;
    case WEFT__SIM_ACK:
        side->in_flight -= e->len;
        if (side->wants_room) /* the kernel tells nobody else */
            weft__sim_file_edge(s, side->sock);
        return true;
    case WEFT__SIM_SHOW:
        side->hidden = 0;
        weft__sim_file_edge(s, side->sock);
        return true;
    case WEFT__SIM_ROOM:
        side->is_blocked = false;
        weft__sim_file_edge(s, side->sock);
        return true;
    }
    return true;
}

static bool is_on_the_wire(const struct weft__sim_event *e)
{
    return e->kind != WEFT__SIM_SHOW && e->kind != WEFT__SIM_ROOM;
}

/* The sender stops sending again what is not answered, whatever of it is under way still: what
 * comes after a part that never arrives is nobody's to read. */
static void abandon(struct weft__sim *s, struct weft__sim_conn *c, unsigned sender)
{
    c->side[sender].has_given_up = true;
    free_stalled(&c->side[1 - sender]);
    lose(s, &c->side[sender], ETIMEDOUT);
}

/* The link stayed cut for so long that who waits for an answer hears of it. */
static void give_up(struct weft__sim *s, const struct weft__sim_event *e)
{
    struct weft__sim_conn *c = e->conn;
    switch (e->kind) {
    case WEFT__SIM_SYN:
    case WEFT__SIM_DATA:
    case WEFT__SIM_FIN:
        abandon(s, c, 1 - e->side);
        break;
    case WEFT__SIM_SYN_ACK:
    case WEFT__SIM_REFUSED:
    case WEFT__SIM_ACK:
        abandon(s, c, e->side);
        break;
    case WEFT__SIM_HANDSHAKEN:
        forget_unaccepted(c);
        break;
    default:
        break;
    }
}

void weft__sim_events_fire(struct weft__sim *s)
{
    while (s->event_count > 0 && s->heap[0]->at_ns <= s->now_ns) {
        struct weft__sim_event *e = pop(s);
        struct weft__sim_conn *c = e->conn;
        bool is_over = true;
        weft__sim_trace(s, TRACE_EVENT, (uint64_t)e->kind << 1 | e->side, e->at_ns);
        if (e->is_held) {
            give_up(s, e);
        } else if (is_on_the_wire(e) && is_cut(s, c)) {
            bool is_connecting = !c->is_established;
            e->is_held = true;
            e->at_ns = s->now_ns + (is_connecting ? SYN_TIMEOUT_NS : TIMEOUT_NS);
            s->result.held++;
            is_over = false;
        } else {
            is_over = happen(s, e);
        }
        if (!is_over) {
            (void)push(s, e); /* there is room: it came from there */
            continue;
        }
        free_event(e);
        free_conn_if_unused(c);
    }
}

/* ---- from outside ---- */

void weft__sim_events_heal(struct weft__sim *s)
{
    uint64_t at_ns = s->now_ns + draw_latency(s);
    for (size_t i = 0; i < s->event_count; i++) {
        struct weft__sim_event *e = s->heap[i];
        if (!e->is_held || is_cut(s, e->conn))
            continue;
        struct weft__sim_side *from = &e->conn->side[1 - e->side];
        e->is_held = false;
        e->at_ns = 0; /* see below */
        if (from->last_ns < at_ns)
            from->last_ns = at_ns;
    }
    /* What was held goes first, and nothing on the same way overtakes it. */
    for (size_t i = 0; i < s->event_count; i++) {
        struct weft__sim_event *held = s->heap[i];
        if (held->at_ns != 0)
            continue;
        for (size_t k = 0; k < s->event_count; k++) {
            struct weft__sim_event *e = s->heap[k];
            if (e->conn == held->conn && e->side == held->side && is_on_the_wire(e) &&
                !e->is_held && e->at_ns < at_ns)
                e->at_ns = at_ns;
        }
    }
    for (size_t i = s->event_count / 2; i-- > 0;)
        sift_down(s, i);
}

void weft__sim_conns_reset(struct weft__sim *s, const struct weft__sim_cut *cut)
{
    for (struct weft__node *n = s->conns.next; n != &s->conns; n = n->next) {
        struct weft__sim_conn *c = WEFT__CONTAINER_OF(n, struct weft__sim_conn, node);
        if (!c->is_established || !cut_meets(cut, &c->side[0].ip, &c->side[1].ip))
            continue;
        s->result.resets++;
        lose(s, &c->side[0], ECONNRESET);
        lose(s, &c->side[1], ECONNRESET);
    }
}

void weft__sim_wire_free(struct weft__sim *s)
{
    while (s->event_count > 0)
        free_event(s->heap[--s->event_count]);
    weft__free(s->heap);
    while (!weft__list_is_empty(&s->conns))
        free_conn(WEFT__CONTAINER_OF(s->conns.next, struct weft__sim_conn, node));
    while (s->cuts != NULL) {
        struct weft__sim_cut *cut = s->cuts;
        s->cuts = cut->next;
        weft__free(cut);
    }
}
