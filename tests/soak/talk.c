#include "soak.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- mpsc ---- */

struct producer {
    uint64_t seed;
    weft_mpsc_sender *tx;
    bool reserves; /* bounded channels only have slots to reserve */
};

static int produce(void *arg)
{
    struct producer *p = arg;
    int rc = 0;
    for (uint64_t n = soak_below(&p->seed, 40); rc == 0 && n > 0; n--) {
        void *value = soak_value_make(n);
        if (p->reserves && soak_below(&p->seed, 4) == 0) {
            weft_mpsc_permit permit;
            rc = weft_mpsc_reserve(p->tx, &permit);
            if (rc == 0 && soak_below(&p->seed, 4) == 0)
                weft_mpsc_permit_release(&permit);
            else if (rc == 0 && (rc = weft_mpsc_permit_send(&permit, &value)) == 0)
                value = NULL;
        } else if ((rc = weft_mpsc_send(p->tx, &value)) == 0) {
            value = NULL;
        }
        soak_value_free(value);
    }
    EXPECT(soak_is_usual(rc) || rc == -EPIPE);
    weft_mpsc_sender_unref(p->tx);
    return 0;
}

/* Of one that is aborted before it runs. */
static void drop_producer(void *arg)
{
    weft_mpsc_sender_unref(((struct producer *)arg)->tx);
}

static int go(weft_scope *s, int (*fn)(void *arg), void *arg, void (*drop)(void *arg))
{
    weft_spawn_options o = {.drop_arg = drop};
    int rc = weft_scope_go_with(s, &o, fn, arg);
    if (rc < 0)
        drop(arg);
    return rc;
}

static int consume(weft_mpsc_receiver *rx, uint64_t *seed)
{
    void *value[4];
    for (;;) {
        int rc =
            soak_below(seed, 2) ? weft_mpsc_recv(rx, value) : weft_mpsc_recv_many(rx, value, 4);
        if (rc < 0)
            return rc;
        for (int i = 0; i < (rc ? rc : 1); i++)
            soak_value_free(value[i]);
        if (soak_below(seed, 100) == 0)
            return 0; /* with values in the channel */
    }
}

int soak_play_mpsc(uint64_t *seed)
{
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    bool bounded = soak_below(seed, 4) != 0;
    size_t capacity = 1 + soak_below(seed, 8);
    int rc = bounded ? weft_mpsc_create(sizeof(void *), capacity, soak_value_drop, &tx, &rx)
                     : weft_mpsc_create_unbounded(sizeof(void *), soak_value_drop, &tx, &rx);
    EXPECT(rc == 0);
    struct producer producer[3];
    WEFT_SCOPE_INTO(s, &rc) {
        for (int i = 0; i < 3; i++) {
            producer[i] = (struct producer){soak_random(seed), weft_mpsc_sender_ref(tx), bounded};
            (void)go(s, produce, &producer[i], drop_producer); /* leaving the scope tells */
        }
        weft_mpsc_sender_unref(tx);
        int end = 0;
        WEFT_TIMEOUT(soak_below(seed, 50 * WEFT_MS))
            end = consume(rx, seed);
        EXPECT(soak_is_usual(end) || end == -EPIPE);
        weft_mpsc_receiver_unref(rx);
    }
    return rc;
}

/* ---- broadcast ---- */

static int copy_value(void *to, const void *from)
{
    *(void **)to = soak_value_make(soak_value_content(*(void *const *)from));
    return 0;
}

static void drop_receiver(void *arg)
{
    weft_broadcast_receiver_destroy(arg);
}

static int listen_in(void *arg)
{
    weft_broadcast_receiver *rx = arg;
    void *value;
    uint64_t lost;
    int rc;
    while ((rc = weft_broadcast_recv(rx, &value, &lost)) == 0 || rc == -EOVERFLOW)
        if (rc == 0)
            soak_value_free(value);
    EXPECT(soak_is_usual(rc) || rc == -EPIPE);
    weft_broadcast_receiver_destroy(rx);
    return 0;
}

int soak_play_broadcast(uint64_t *seed)
{
    weft_broadcast_options o = {
        .capacity = 4, .elem_bytes = sizeof(void *), .clone = copy_value, .drop = soak_value_drop};
    weft_broadcast_sender *tx;
    weft_broadcast_receiver *rx;
    int rc = weft_broadcast_create(&o, &tx, &rx);
    EXPECT(rc == 0);
    WEFT_SCOPE_INTO(s, &rc) {
        for (int i = 0; i < 3; i++) {
            weft_broadcast_receiver *another;
            if (weft_broadcast_subscribe(tx, &another) == 0)
                (void)go(s, listen_in, another, drop_receiver); /* leaving the scope tells */
        }
        weft_broadcast_receiver_destroy(rx);
        int end = 0;
        for (uint64_t n = soak_below(seed, 20); end == 0 && n > 0; n--) {
            void *value = soak_value_make(n);
            if (weft_broadcast_send(tx, &value) < 0)
                soak_value_free(value); /* they have all gone */
            end = soak_below(seed, 2) ? weft_yield() : weft_sleep(soak_below(seed, WEFT_MS));
        }
        weft_broadcast_sender_unref(tx);
    }
    return rc;
}

/* ---- select ---- */

struct late {
    uint64_t delay_ns;
    weft_oneshot_sender *tx;
};

static void drop_late(void *arg)
{
    weft_oneshot_sender_destroy(((struct late *)arg)->tx);
}

static int send_late(void *arg)
{
    struct late *l = arg;
    int rc = weft_sleep(l->delay_ns);
    void *value = soak_value_make(l->delay_ns);
    if (rc < 0) {
        soak_value_free(value);
        weft_oneshot_sender_destroy(l->tx);
    } else if (weft_oneshot_send(l->tx, &value) < 0) {
        soak_value_free(value);
    }
    return 0;
}

/* Whatever comes first of a value, its end, a tick and a deadline. */
static int select_some(weft_mpsc_receiver *rx, weft_oneshot_receiver *once, uint64_t *seed)
{
    weft_interval every;
    EXPECT(weft_interval_init(&every, WEFT_MS) == 0);
    int rc = 0;
    bool has_once = true;
    for (uint64_t n = 2 + soak_below(seed, 20); n > 0; n--) {
        void *value = NULL, *last = NULL;
        weft_case c[] = {
            weft_case_ok(weft_case_mpsc_recv(rx, &value)),
            weft_case_if(has_once, weft_case_oneshot_recv(once, &last)),
            weft_case_tick(&every, NULL),
            weft_case_sleep(soak_below(seed, 2 * WEFT_MS)),
        };
        rc = soak_below(seed, 2) ? weft_select(c, 4) : weft_select_biased(c, 4);
        atomic_fetch_add(&soak.selects, 1);
        if (rc < 0)
            break;
        if (rc == 0)
            soak_value_free(value);
        if (rc == 1) {
            has_once = false;
            if (c[1].rc == 0)
                soak_value_free(last);
        }
    }
    weft_interval_fini(&every);
    EXPECT(soak_is_usual(rc));
    return rc;
}

int soak_play_select(uint64_t *seed)
{
    weft_mpsc_sender *tx;
    weft_mpsc_receiver *rx;
    weft_oneshot_sender *once_tx;
    weft_oneshot_receiver *once;
    int rc = weft_mpsc_create(sizeof(void *), 2, soak_value_drop, &tx, &rx);
    EXPECT(rc == 0);
    rc = weft_oneshot_create(sizeof(void *), soak_value_drop, &once_tx, &once);
    EXPECT(rc == 0);
    struct producer producer = {soak_random(seed), tx, true};
    struct late late = {soak_below(seed, 10 * WEFT_MS), once_tx};
    WEFT_SCOPE_INTO(s, &rc) {
        (void)go(s, produce, &producer, drop_producer); /* leaving the scope tells */
        (void)go(s, send_late, &late, drop_late);
        (void)select_some(rx, once, seed); /* an abort is told by the scope */
        weft_mpsc_receiver_unref(rx);
        weft_oneshot_receiver_destroy(once);
    }
    return rc;
}

/* ---- TCP ---- */

#define CHUNK 4096

static weft_addr server_addr; /* written before a client runs */

static bool is_usual_of_tcp(long rc)
{
    return soak_is_usual(rc) || rc == -ECONNRESET || rc == -EPIPE || rc == -ECONNREFUSED ||
           rc == -EADDRNOTAVAIL || rc == -ENOTCONN;
}

static void close_conn(void *arg)
{
    if (arg == NULL)
        return;
    EXPECT(weft_tcp_close(arg) == 0);
    atomic_fetch_add(&soak.conns_closed, 1);
}

static void reset(weft_tcp *conn)
{
    EXPECT(weft_tcp_set_linger(conn, 0) == 0); /* close() then sends a reset */
    atomic_fetch_add(&soak.resets, 1);
}

static int answer(void *arg)
{
    weft_tcp *conn = arg;
    char buf[CHUNK];
    uint64_t seed = weft_self_id();
    ssize_t n;
    int rc = 0;
    while (rc == 0 && (n = weft_tcp_read(conn, buf, sizeof buf)) > 0) {
        if (soak_below(&seed, 200) == 0) {
            reset(conn);
            break;
        }
        rc = weft_write_all(weft_tcp_stream(conn), buf, (size_t)n, NULL);
    }
    EXPECT(is_usual_of_tcp(rc));
    close_conn(conn);
    return 0;
}

static void *serve(void *arg)
{
    weft_tcp_listener *l = arg;
    weft_scope_options keep = {.keeps_going = true};
    weft_spawn_options o = {.drop_arg = close_conn};
    int rc = 0, left = 0;
    WEFT_SCOPE_WITH(s, &keep, &left) {
        for (weft_tcp *conn; (rc = weft_tcp_accept(l, &conn)) == 0;) {
            atomic_fetch_add(&soak.conns_open, 1);
            if (weft_scope_go_with(s, &o, answer, conn) < 0)
                close_conn(conn);
        }
        EXPECT(rc == -ECANCELED);
        EXPECT(weft_tcp_listener_close(l) == 0);
    }
    return NULL;
}

static void close_listener(void *arg)
{
    (void)weft_tcp_listener_close(arg); /* of a server that never ran */
}

int soak_server_start(weft_task **ret_task)
{
    weft_tcp_listener *l;
    int rc = weft_tcp_listen("127.0.0.1:0", &l);
    if (rc < 0)
        return rc;
    EXPECT(weft_tcp_listener_local_addr(l, &server_addr) == 0);
    weft_spawn_options o = {.name = "server", .drop_arg = close_listener};
    return weft_spawn_with(&o, serve, l, ret_task);
}

struct talk {
    uint64_t seed;
    weft_tcp *conn;
    size_t total, sent;
    int error; /* of who speaks: the kernel tells an error once, the other side then sees an end */
};

static char pattern(size_t at)
{
    return (char)(at * 131 >> 3);
}

/* Sends all and closes its half. */
static int speak(void *arg)
{
    struct talk *t = arg;
    char buf[CHUNK];
    int rc = 0;
    while (rc == 0 && t->sent < t->total) {
        size_t done = 0, len = 1 + soak_below(&t->seed, sizeof buf);
        if (len > t->total - t->sent)
            len = t->total - t->sent;
        for (size_t i = 0; i < len; i++)
            buf[i] = pattern(t->sent + i);
        rc = weft_write_all(weft_tcp_stream(t->conn), buf, len, &done);
        t->sent += done;
        if (rc == 0 && soak_below(&t->seed, 4) == 0)
            rc = weft_sleep(soak_below(&t->seed, WEFT_MS));
    }
    if (rc == 0) {
        rc = weft_tcp_shutdown(t->conn, SHUT_WR);
        atomic_fetch_add(&soak.half_closes, 1);
    }
    EXPECT(is_usual_of_tcp(rc));
    t->error = rc;
    return 0;
}

/* What comes back is what was sent; all of it, unless something ends the connection before. */
static ssize_t hear(struct talk *t, uint64_t *seed, size_t *ret_heard)
{
    char buf[CHUNK];
    size_t heard = 0;
    ssize_t n;
    while ((n = weft_tcp_read(t->conn, buf, 1 + soak_below(seed, sizeof buf))) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if (buf[i] != pattern(heard + (size_t)i)) {
                soak_violated("a byte was changed on its way");
                break;
            }
        heard += (size_t)n;
        if (soak_below(seed, 300) == 0) {
            reset(t->conn);
            return -ECONNRESET;
        }
    }
    EXPECT(is_usual_of_tcp(n));
    *ret_heard = heard;
    atomic_fetch_add(&soak.bytes, heard);
    return n;
}

int soak_play_tcp(uint64_t *seed)
{
    struct talk t = {.seed = soak_random(seed), .total = soak_below(seed, 64 * 1024)};
    int rc = weft_tcp_connect_addr(NULL, &server_addr, &t.conn);
    EXPECT(is_usual_of_tcp(rc));
    if (rc < 0)
        return rc == -ECANCELED ? rc : 0;
    atomic_fetch_add(&soak.conns_open, 1);
    ssize_t end = -1;
    size_t heard = 0;
    WEFT_SCOPE_INTO(s, &rc) {
        if (weft_scope_go(s, speak, &t) == 0) {
            WEFT_TIMEOUT(WEFT_SEC + soak_below(seed, WEFT_SEC))
                end = hear(&t, seed, &heard);
            if (end < 0)
                weft_scope_cancel(s); /* who speaks may wait for room for ever */
        }
    }
    EXPECT(end < 0 || t.error < 0 || heard == t.total);
    /* Half of them leave no port behind that waits a minute for stragglers. */
    if (soak_below(seed, 2))
        reset(t.conn);
    close_conn(t.conn);
    EXPECT(soak_is_usual(rc));
    return rc;
}
