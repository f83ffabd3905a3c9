/*
 * chat [host:port]: a chat server. Each line that a client writes goes to all others through a
 * broadcast channel. Try it with two or three `nc 127.0.0.1 8080`. Who reads too slowly loses
 * lines, and is told how many. Ends on Ctrl-C.
 */
#include <weft/weft.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

#define KEPT 64
#define LINE_MAX_BYTES 256

struct line {
    unsigned from; /* client; 0: the server */
    char text[LINE_MAX_BYTES];
};

struct client {
    weft_tcp *conn;
    weft_broadcast_sender *tx;
    unsigned number;
};

static void client_close(void *arg)
{
    struct client *c = arg;
    weft_tcp_close(c->conn);
    weft_broadcast_sender_unref(c->tx);
}

static void say(struct client *c, unsigned from, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct client *c, unsigned from, const char *fmt, ...)
{
    struct line l = {.from = from};
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(l.text, sizeof l.text, fmt, ap);
    va_end(ap);
    if (weft_broadcast_send(c->tx, &l) < 0)
        return; /* nobody listens */
}

/* What others say, to the client. */
struct listener {
    struct client *client;
    weft_broadcast_receiver *rx;
};

static int write_lines(void *arg)
{
    struct listener *to = arg;
    struct line l;
    uint64_t lost;
    int rc;
    for (;;) {
        char out[LINE_MAX_BYTES + 32];
        int n;
        rc = weft_broadcast_recv(to->rx, &l, &lost);
        if (rc == 0 && l.from == to->client->number)
            continue; /* its own */
        if (rc == 0 && l.from)
            n = snprintf(out, sizeof out, "%u: %s\n", l.from, l.text);
        else if (rc == 0)
            n = snprintf(out, sizeof out, "* %s\n", l.text);
        else if (rc == -EOVERFLOW)
            n = snprintf(out, sizeof out, "* %" PRIu64 " lines lost\n", lost);
        else
            return rc;
        rc = weft_write_all(weft_tcp_stream(to->client->conn), out, (size_t)n, NULL);
        if (rc < 0)
            return rc;
    }
}

/* What the client says, to the others. */
static int read_lines(struct client *c)
{
    weft_bufreader *r;
    int rc = weft_bufreader_create(weft_tcp_stream(c->conn), LINE_MAX_BYTES, &r);
    if (rc < 0)
        return rc;
    const char *line;
    size_t len;
    while ((rc = weft_bufreader_read_line(r, &line, &len)) > 0)
        say(c, c->number, "%s", line);
    weft_bufreader_destroy(r);
    return rc;
}

static void *serve(void *arg)
{
    struct client *c = arg;
    struct listener l = {.client = c};
    if (weft_broadcast_subscribe(c->tx, &l.rx) == 0) {
        say(c, 0, "%u joins", c->number);
        int rc = 0;
        WEFT_SCOPE_INTO(s, &rc) { /* both ends at once; leaving aborts the writer */
            weft_scope_go(s, write_lines, &l);
            (void)read_lines(c);
            weft_scope_cancel(s);
        }
        say(c, 0, "%u leaves", c->number);
        weft_broadcast_receiver_destroy(l.rx);
    }
    client_close(c);
    return NULL;
}

struct server {
    weft_tcp_listener *listener;
    weft_broadcast_sender *tx;
};

static void *accept_all(void *arg)
{
    const struct server *server = arg;
    const weft_spawn_options options = {.arg_bytes = sizeof(struct client),
                                        .drop_arg = client_close};
    unsigned number = 0;
    WEFT_SCOPE(s)
        for (weft_tcp *conn; weft_tcp_accept(server->listener, &conn) == 0;) {
            struct client c = {conn, weft_broadcast_sender_ref(server->tx), ++number};
            if (weft_scope_spawn_with(s, &options, serve, &c) < 0)
                client_close(&c);
        }
    return NULL;
}

static int wait_for_signal(const sigset_t *signals)
{
    struct signalfd_siginfo info;
    weft_fd *wfd;
    int rc = weft_fd_open(signalfd(-1, signals, SFD_CLOEXEC), WEFT_FD_OWNED, &wfd);
    if (rc < 0)
        return rc;
    ssize_t n = weft_fd_read(wfd, &info, sizeof info);
    weft_fd_close(wfd);
    return n < 0 ? (int)n : 0;
}

struct args {
    const char *address;
    sigset_t signals;
};

static int chat(void *arg)
{
    struct args *args = arg;
    struct server server;
    weft_addr addr;
    char text[WEFT_ADDR_TEXT_MAX] = "";
    const weft_broadcast_options options = {.capacity = KEPT, .elem_bytes = sizeof(struct line)};
    int rc = weft_tcp_listen(args->address, &server.listener);
    if (rc < 0) {
        fprintf(stderr, "chat: %s: %s\n", args->address, strerror(-rc));
        return rc;
    }
    if (weft_tcp_listener_local_addr(server.listener, &addr) == 0)
        weft_addr_format(&addr, text, sizeof text);
    printf("listening on %s\n", text);
    fflush(stdout);
    rc = weft_broadcast_create(&options, &server.tx, NULL);
    if (rc == 0) {
        weft_task *accepter;
        rc = weft_spawn(accept_all, &server, &accepter);
        if (rc == 0) {
            rc = wait_for_signal(&args->signals);
            (void)weft_abort(accepter);
            int joined = 0;
            WEFT_SHIELD /* also when this task is aborted itself */
                joined = weft_join(accepter, NULL);
            rc = rc < 0 ? rc : joined;
        }
        weft_broadcast_sender_unref(server.tx);
    }
    weft_tcp_listener_close(server.listener);
    return rc;
}

int main(int argc, char **argv)
{
    struct args args = {.address = argc > 1 ? argv[1] : "127.0.0.1:8080"};
    sigemptyset(&args.signals);
    sigaddset(&args.signals, SIGINT);
    sigaddset(&args.signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &args.signals, NULL);
    return weft_run(chat, &args) < 0;
}
