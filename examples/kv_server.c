/*
 * kv_server [host:port [connections idle_ms request_ms stop_ms]]: a key-value store that talks in
 * lines. docs/guide.md builds it step by step.
 *
 *     SET key value    OK
 *     GET key          VALUE value, or NONE
 *     WAIT key         VALUE value, once somebody has set it
 *     CRASH            fails, to show that the server does not
 *
 * SIGTERM and Ctrl-C stop it: nobody is accepted any more, connections end after the request that
 * they are in, and those that take longer than stop_ms are aborted. `kill -USR1` shows who does
 * what.
 */
#include <weft/weft.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define LINE_MAX_BYTES 512
#define KEY_MAX_BYTES 64

/* ---- the store ---- */

struct entry {
    struct entry *next;
    char key[KEY_MAX_BYTES];
    char value[LINE_MAX_BYTES];
};

static weft_mutex store_lock = WEFT_MUTEX_INIT;
static weft_cond store_changed = WEFT_COND_INIT;
static struct entry *store; /* under store_lock; a list is enough here */

static struct entry *find(const char *key)
{
    struct entry *e = store;
    while (e != NULL && strcmp(e->key, key) != 0)
        e = e->next;
    return e;
}

static int store_set(const char *key, const char *value)
{
    int rc = weft_mutex_lock(&store_lock);
    if (rc < 0)
        return rc;
    WEFT_LOCK_GUARD(&store_lock);
    struct entry *e = find(key);
    if (e == NULL) {
        e = calloc(1, sizeof *e);
        if (e == NULL)
            return -ENOMEM;
        e->next = store;
        store = e;
        (void)snprintf(e->key, sizeof e->key, "%s", key);
    }
    (void)snprintf(e->value, sizeof e->value, "%s", value);
    weft_cond_broadcast(&store_changed);
    return 0;
}

/* -ENOENT: there is none, and nobody wants to wait for it. */
static int store_get(const char *key, bool waits, char value[LINE_MAX_BYTES])
{
    int rc = weft_mutex_lock(&store_lock);
    if (rc < 0)
        return rc;
    WEFT_LOCK_GUARD(&store_lock);
    struct entry *e;
    while ((e = find(key)) == NULL) {
        if (!waits)
            return -ENOENT;
        rc = weft_cond_wait(&store_changed, &store_lock);
        if (rc < 0)
            return rc; /* -ETIMEDOUT, -ECANCELED; the lock is ours again */
    }
    memcpy(value, e->value, sizeof e->value);
    return 0;
}

static void store_free(void)
{
    for (struct entry *e; (e = store) != NULL;) {
        store = e->next;
        free(e);
    }
}

/* ---- the server ---- */

struct server {
    weft_tcp_listener *listener;
    weft_semaphore slots;        /* a permit for each connection */
    weft_cancel_token *stopping; /* cancelled by SIGTERM */
    uint64_t idle_ns;            /* between two requests */
    uint64_t request_ns;         /* for one request, and for taking its answer */
    uint64_t stop_ns;            /* for all that is under way when the server stops */
    unsigned accepted;
};

struct connection {
    struct server *server;
    unsigned number;
    weft_permit slot;
    weft_tcp *tcp;
    weft_bufreader *in;
    weft_bufwriter *out;
};

static void connection_close(void *arg)
{
    struct connection *c = arg;
    weft_bufwriter_destroy(c->out);
    weft_bufreader_destroy(c->in);
    weft_tcp_close(c->tcp);
    weft_permit_release(&c->slot);
}

/* ---- a request ---- */

static int get(struct connection *c, const char *key, bool waits)
{
    char value[LINE_MAX_BYTES];
    int rc = store_get(key, waits, value);
    if (rc == -ENOENT)
        return weft_bufwriter_printf(c->out, "NONE\n");
    return rc < 0 ? rc : weft_bufwriter_printf(c->out, "VALUE %s\n", value);
}

/* Puts the answer into c->out, whole or not at all. */
static int answer(struct connection *c, const char *line)
{
    char verb[8] = "", key[KEY_MAX_BYTES] = "";
    int at = 0;
    int count = sscanf(line, "%7s %63s %n", verb, key, &at);
    if (count == 2 && strcmp(verb, "GET") == 0)
        return get(c, key, false);
    if (count == 2 && strcmp(verb, "WAIT") == 0)
        return get(c, key, true);
    if (count == 2 && strcmp(verb, "SET") == 0) {
        int rc = store_set(key, line + at);
        return rc < 0 ? rc : weft_bufwriter_printf(c->out, "OK\n");
    }
    if (strcmp(verb, "CRASH") == 0)
        weft_panic("connection %u asked for it", c->number);
    return weft_bufwriter_printf(c->out, "ERROR what?\n");
}

static int serve_request(struct connection *c, const char *line)
{
    int rc = 0;
    WEFT_TIMEOUT(c->server->request_ns)
        rc = answer(c, line);
    if (rc == -ETIMEDOUT)
        rc = weft_bufwriter_printf(c->out, "ERROR timed out\n");
    if (rc < 0)
        return rc;
    WEFT_TIMEOUT(c->server->request_ns) /* who does not read is no reason to wait for ever */
        rc = weft_bufwriter_flush(c->out);
    return rc;
}

/* ---- a connection ---- */

/* 1 with a line; 0: the client has hung up; -ETIMEDOUT: it is silent; -ECANCELED: the server
 * stops. */
static int next_request(struct connection *c, const char **ret_line)
{
    int rc = 0;
    size_t len;
    WEFT_CANCEL_SCOPE(c->server->stopping)
        WEFT_TIMEOUT(c->server->idle_ns)
            rc = weft_bufreader_read_line(c->in, ret_line, &len);
    return rc;
}

static int talk(struct connection *c)
{
    const char *line;
    int rc = weft_bufreader_create(weft_tcp_stream(c->tcp), LINE_MAX_BYTES, &c->in);
    if (rc == 0)
        rc = weft_bufwriter_create(weft_tcp_stream(c->tcp), 2 * LINE_MAX_BYTES, &c->out);
    if (rc < 0)
        return rc;
    while ((rc = next_request(c, &line)) > 0) {
        rc = serve_request(c, line);
        if (rc < 0)
            break;
    }
    return rc;
}

static void *serve_connection(void *arg)
{
    struct connection *c = arg;
    WEFT_DEFER(connection_close, c); /* also when it panics */
    int rc = talk(c);
    if (rc < 0)
        fprintf(stderr, "connection %u: %s\n", c->number, strerror(-rc));
    return NULL;
}

/* ---- accepting ---- */

static int accept_one(struct server *server, weft_scope *connections)
{
    const weft_spawn_options options = {
        .name = "connection", .arg_bytes = sizeof(struct connection), .drop_arg = connection_close};
    struct connection c = {.server = server};
    int rc = weft_permit_acquire(&server->slots, 1, &c.slot);
    if (rc < 0)
        return rc;
    rc = weft_tcp_accept(server->listener, &c.tcp);
    if (rc < 0) {
        weft_permit_release(&c.slot);
        return rc;
    }
    c.number = ++server->accepted;
    if (weft_scope_spawn_with(connections, &options, serve_connection, &c) < 0)
        connection_close(&c); /* no memory for one: the others go on */
    return 0;
}

static int accept_all(struct server *server, weft_scope *connections)
{
    int rc = 0;
    WEFT_CANCEL_SCOPE(server->stopping)
        while (rc == 0)
            rc = accept_one(server, connections);
    return rc == -ECANCELED ? 0 : rc;
}

/* ---- stopping ---- */

/* Waits for SIGINT or SIGTERM, which main() has blocked. */
static int wait_for_signal(void)
{
    struct signalfd_siginfo info;
    sigset_t signals;
    weft_fd *wfd;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    int rc = weft_fd_open(signalfd(-1, &signals, SFD_CLOEXEC), WEFT_FD_OWNED, &wfd);
    if (rc < 0)
        return rc;
    ssize_t n = weft_fd_read(wfd, &info, sizeof info);
    weft_fd_close(wfd);
    return n < 0 ? (int)n : 0;
}

static void *stop_on_signal(void *arg)
{
    struct server *server = arg;
    WEFT_CANCEL_SCOPE(server->stopping) /* it may stop for another reason */
        if (wait_for_signal() == 0)
            puts("stopping");
    weft_cancel_token_cancel(server->stopping);
    return NULL;
}

static void wait_for_connections(struct server *server, weft_scope *connections)
{
    int rc = 0;
    WEFT_TIMEOUT(server->stop_ns)
        rc = weft_scope_wait(connections);
    if (rc != -ETIMEDOUT)
        return;
    fprintf(stderr, "%zu connections do not end:\n", weft_scope_len(connections));
    weft_dump(NULL, STDERR_FILENO);
    weft_scope_cancel(connections); /* aborts them; leaving the scope waits for their cleanup */
}

static int serve(struct server *server)
{
    const weft_scope_options options = {.keeps_going = true}; /* whatever becomes of one of them */
    int rc = 0, worst;
    WEFT_SCOPE_WITH(connections, &options, &worst) {
        weft_scope_spawn(connections, stop_on_signal, server);
        rc = accept_all(server, connections);
        weft_tcp_listener_close(server->listener);
        weft_cancel_token_cancel(server->stopping);
        wait_for_connections(server, connections);
    }
    return rc;
}

/* ---- the program ---- */

static int listen_on(struct server *server, const char *address)
{
    char text[WEFT_ADDR_TEXT_MAX] = "";
    weft_addr addr;
    int rc = weft_tcp_listen(address, &server->listener);
    if (rc < 0) {
        fprintf(stderr, "kv_server: %s: %s\n", address, strerror(-rc));
        return rc;
    }
    if (weft_tcp_listener_local_addr(server->listener, &addr) == 0)
        weft_addr_format(&addr, text, sizeof text);
    printf("listening on %s\n", text);
    return 0;
}

struct args {
    int count;
    char **text;
};

static uint64_t number(const struct args *a, int index, uint64_t otherwise)
{
    return index < a->count ? strtoull(a->text[index], NULL, 10) : otherwise;
}

static int kv_server(void *arg)
{
    const struct args *a = arg;
    struct server server = {.idle_ns = number(a, 3, 60000) * WEFT_MS,
                            .request_ns = number(a, 4, 5000) * WEFT_MS,
                            .stop_ns = number(a, 5, 10000) * WEFT_MS};
    int rc = weft_semaphore_init(&server.slots, number(a, 2, 1000));
    if (rc == 0)
        rc = weft_cancel_token_create(&server.stopping);
    if (rc < 0)
        return rc;
    rc = listen_on(&server, a->count > 1 ? a->text[1] : "127.0.0.1:8080");
    if (rc == 0) {
        rc = serve(&server);
        printf("stopped: %u connections\n", server.accepted);
    }
    weft_cancel_token_unref(server.stopping);
    store_free();
    return rc;
}

int main(int argc, char **argv)
{
    struct args args = {argc, argv};
    sigset_t signals;
    setlinebuf(stdout);
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* before the runtime: its threads inherit it */
    if (weft_dump_on_signal(SIGUSR1, STDERR_FILENO) < 0)
        fputs("kv_server: no dump on SIGUSR1\n", stderr);
    return weft_run(kv_server, &args) < 0;
}
