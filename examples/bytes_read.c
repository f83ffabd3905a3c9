/*
 * bytes_read [host:port]: a server that counts what it reads. Connection tasks send their byte
 * counts through a channel of 1,024 to one background task, which prints and resets the sum at each
 * tick of an interval, and ends when all senders are gone. Ends on Ctrl-C, after the last count is
 * printed.
 */
#include <weft/weft.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

static void count_until_closed(weft_mpsc_receiver *rx, weft_interval *each_second)
{
    size_t len = 0, total = 0;
    weft_case c[] = {weft_case_mpsc_recv(rx, &len), weft_case_tick(each_second, NULL)};
    for (bool is_open = true; is_open;)
        switch (weft_select(c, 2)) {
        case 0:
            if (c[0].rc == 0)
                total += len;
            else
                is_open = false; /* all senders gone: -EPIPE */
            break;
        case 1:
            printf("bytes read = %zu\n", total);
            fflush(stdout);
            total = 0;
            break;
        default:
            is_open = false; /* aborted */
        }
    printf("bytes read = %zu, all senders are gone\n", total);
}

static void *count(void *arg)
{
    weft_mpsc_receiver *rx = arg;
    weft_interval each_second;
    if (weft_interval_init(&each_second, WEFT_SEC) == 0) {
        count_until_closed(rx, &each_second);
        weft_interval_fini(&each_second);
    }
    weft_mpsc_receiver_unref(rx);
    return NULL;
}

struct connection {
    weft_tcp *conn;
    weft_mpsc_sender *tx;
};

static void connection_close(void *arg)
{
    struct connection *c = arg;
    weft_tcp_close(c->conn);
    weft_mpsc_sender_unref(c->tx);
}

static void *serve(void *arg)
{
    struct connection *c = arg;
    char buf[4096];
    for (ssize_t n; (n = weft_tcp_read(c->conn, buf, sizeof buf)) > 0;) {
        size_t len = (size_t)n;
        if (weft_mpsc_send(c->tx, &len) < 0)
            break;
    }
    connection_close(c);
    return NULL;
}

struct server {
    weft_tcp_listener *listener;
    weft_mpsc_sender *tx;
};

/* Connections are children of a scope: when this task is aborted, so are they. */
static void *accept_all(void *arg)
{
    const struct server *server = arg;
    const weft_spawn_options options = {.arg_bytes = sizeof(struct connection),
                                        .drop_arg = connection_close};
    WEFT_SCOPE(s)
        for (weft_tcp *conn; weft_tcp_accept(server->listener, &conn) == 0;) {
            struct connection c = {conn, weft_mpsc_sender_ref(server->tx)};
            if (weft_scope_spawn_with(s, &options, serve, &c) < 0)
                connection_close(&c);
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

static int serve_until_signal(struct args *args, struct server *server, weft_mpsc_receiver *rx)
{
    weft_task *counter, *accepter;
    int rc = weft_spawn(count, rx, &counter);
    if (rc < 0) {
        weft_mpsc_receiver_unref(rx);
        weft_mpsc_sender_unref(server->tx);
        return rc;
    }
    rc = weft_spawn(accept_all, server, &accepter);
    if (rc == 0) {
        rc = wait_for_signal(&args->signals);
        (void)weft_abort(accepter); /* and with it its connections */
        int joined = 0;
        WEFT_SHIELD
            joined = weft_join(accepter, NULL);
        rc = rc < 0 ? rc : joined;
    }
    /* The last one. Here and not in accept_all(), which never runs if it is aborted first. */
    weft_mpsc_sender_unref(server->tx);
    WEFT_SHIELD /* the counter ends by itself: nobody can send any more */
        if (weft_join(counter, NULL) < 0)
            puts("the counter is lost");
    return rc;
}

static int run(void *arg)
{
    struct args *args = arg;
    struct server server;
    weft_mpsc_receiver *rx;
    weft_addr addr;
    char text[WEFT_ADDR_TEXT_MAX] = "";
    int rc = weft_tcp_listen(args->address, &server.listener);
    if (rc < 0) {
        fprintf(stderr, "bytes_read: %s: %s\n", args->address, strerror(-rc));
        return rc;
    }
    if (weft_tcp_listener_local_addr(server.listener, &addr) == 0)
        weft_addr_format(&addr, text, sizeof text);
    printf("listening on %s\n", text);
    fflush(stdout);
    rc = weft_mpsc_create(sizeof(size_t), 1024, NULL, &server.tx, &rx);
    if (rc == 0)
        rc = serve_until_signal(args, &server, rx);
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
    return weft_run(run, &args) < 0;
}
