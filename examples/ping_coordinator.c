/*
 * One task owns a transport; others ask it. A request goes through a channel and carries a oneshot
 * for its reply, so nobody but the coordinator ever touches the transport, and no lock is needed.
 *
 * The transport here is one TCP connection to an echo server in the same program.
 */
#include <weft/weft.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define ASKERS 5
#define PINGS 3

struct request {
    uint64_t sent_ns;
    weft_oneshot_sender *reply; /* of the round-trip time in ns */
};

/* The channel may be given up with requests in it: then who asked learns of it. */
static void drop_request(void *elem)
{
    weft_oneshot_sender_destroy(((struct request *)elem)->reply);
}

static int ping(weft_tcp *conn, uint64_t *ret_ns)
{
    char out[] = "ping", in[sizeof out];
    uint64_t start = weft_now();
    int rc = weft_write_all(weft_tcp_stream(conn), out, sizeof out, NULL);
    if (rc == 0)
        rc = weft_read_exact(weft_tcp_stream(conn), in, sizeof in, NULL);
    if (rc < 0)
        return rc;
    if (memcmp(in, out, sizeof out) != 0)
        return -EBADMSG;
    *ret_ns = weft_now() - start;
    return 0;
}

struct coordinator {
    weft_tcp *conn;
    weft_mpsc_receiver *rx;
};

static int coordinate(void *arg)
{
    struct coordinator *c = arg;
    struct request r;
    int rc;
    while ((rc = weft_mpsc_recv(c->rx, &r)) == 0) {
        uint64_t ns;
        rc = ping(c->conn, &ns);
        if (rc < 0) {
            weft_oneshot_sender_destroy(r.reply);
            return rc;
        }
        (void)weft_oneshot_send(r.reply, &ns); /* who asked may have left */
    }
    if (rc != -EPIPE)
        return rc;
    return weft_tcp_shutdown(c->conn, SHUT_WR); /* all askers are gone; the echo ends too */
}

struct asker {
    int index;
    weft_mpsc_sender *tx;
};

static int ask(struct asker *a, uint64_t *ret_ns)
{
    struct request r = {.sent_ns = weft_now()};
    weft_oneshot_receiver *rx;
    int rc = weft_oneshot_create(sizeof *ret_ns, NULL, &r.reply, &rx);
    if (rc < 0)
        return rc;
    rc = weft_mpsc_send(a->tx, &r);
    if (rc < 0)
        weft_oneshot_sender_destroy(r.reply); /* not sent, so still ours */
    else
        rc = weft_oneshot_recv(rx, ret_ns);
    weft_oneshot_receiver_destroy(rx);
    return rc;
}

static int ask_often(void *arg)
{
    struct asker *a = arg;
    int rc = 0;
    for (int i = 1; i <= PINGS && rc == 0; i++) {
        uint64_t ns;
        rc = ask(a, &ns);
        if (rc == 0)
            printf("task %d, ping %d: %" PRIu64 " us\n", a->index, i, ns / WEFT_US);
    }
    weft_mpsc_sender_unref(a->tx);
    return rc;
}

/* The other end of the transport. */
static void *echo_one(void *arg)
{
    weft_tcp *conn;
    if (weft_tcp_accept(arg, &conn) == 0) {
        (void)weft_copy(weft_tcp_stream(conn), weft_tcp_stream(conn), NULL);
        weft_tcp_close(conn);
    }
    return NULL;
}

static int run_tasks(weft_tcp_listener *l, weft_tcp *conn)
{
    weft_mpsc_sender *tx;
    struct coordinator c = {.conn = conn};
    struct asker asker[ASKERS];
    int rc = weft_mpsc_create(sizeof(struct request), 8, drop_request, &tx, &c.rx);
    if (rc < 0)
        return rc;
    WEFT_SCOPE_INTO(s, &rc) {
        weft_scope_spawn(s, echo_one, l);
        weft_scope_go(s, coordinate, &c);
        for (int i = 0; i < ASKERS; i++) {
            asker[i] = (struct asker){i + 1, weft_mpsc_sender_ref(tx)};
            if (weft_scope_go(s, ask_often, &asker[i]) < 0)
                weft_mpsc_sender_unref(asker[i].tx);
        }
        weft_mpsc_sender_unref(tx); /* the askers have theirs */
    }
    weft_mpsc_receiver_unref(c.rx);
    return rc;
}

static int run(void *arg)
{
    (void)arg;
    weft_tcp_listener *l;
    weft_addr addr;
    weft_tcp *conn = NULL;
    int rc = weft_tcp_listen("127.0.0.1:0", &l);
    if (rc < 0)
        return rc;
    rc = weft_tcp_listener_local_addr(l, &addr);
    if (rc == 0)
        rc = weft_tcp_connect_addr(NULL, &addr, &conn);
    if (rc == 0)
        rc = run_tasks(l, conn);
    weft_tcp_close(conn);
    weft_tcp_listener_close(l);
    if (rc < 0)
        fprintf(stderr, "ping_coordinator: %s\n", strerror(-rc));
    else
        puts("all answered");
    return rc;
}

int main(void)
{
    return weft_run(run, NULL) < 0;
}
