/*
 * The server under load: an echo server over the public headers that a script directs through its
 * standard input, one command a line, each answered by one line of "key=value" pairs.
 *
 *   up [flavor=mt|ct] [workers=N] [body=copy|loop|halves|mix|defer] [grace_ns=N] [abort=PERCENT]
 *      [abort_ms=MS] [run=0|1]
 *           starts a runtime that serves 127.0.0.1. So many percent of the connection tasks are
 *           aborted, each at a random moment within abort_ms: before it ran, by a task, by a
 *           thread. run=1: inside weft_run_with()
 *   stats   what there is now
 *   block ms=MS [tasks=N]    tasks that block their threads, all at once
 *   down [timeout_ns=N]      run=0: weft_runtime_shutdown() with that timeout; run=1: weft_stop()
 *   quit
 *
 * The command loop stands outside of every runtime, so that what a runtime leaves can be counted.
 */
#include <weft/weft.h>

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK(cond) ((cond) ? (void)0 : fail(__LINE__, #cond))

static __attribute__((noreturn)) void fail(int line, const char *what)
{
    fprintf(stderr, "load_server: line %d: %s does not hold\n", line, what);
    abort();
}

enum body { BODY_COPY, BODY_LOOP, BODY_HALVES, BODY_MIX, BODY_DEFER };
static const char *const body_name[] = {"copy", "loop", "halves", "mix", "defer"};

struct server {
    weft_config config;
    bool in_run;
    enum body body;
    unsigned abort_percent;
    uint64_t abort_within_ns;
    weft_runtime *rt; /* in_run: NULL */
    weft_handle *handle;
    pthread_t driver; /* in_run, and for a current_thread runtime */
    bool has_driver;
    weft_tcp_listener *listener;
    weft_addr addr;
    _Atomic int is_up; /* 1: listening; negative: the error */
    int run_rc;
};

static struct server server;
static _Atomic uint64_t connections, accepted, spawn_failures, aborts_asked, ended_by_abort, unrun;

static uint64_t random_next(void)
{
    static _Atomic uint64_t state = 1;
    uint64_t z = atomic_fetch_add(&state, UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void sleep_thread(uint64_t ns)
{
    struct timespec ts = {(time_t)(ns / WEFT_SEC), (long)(ns % WEFT_SEC)};
    while (nanosleep(&ts, &ts) < 0)
        continue;
}

/* ---- aborts ---- */

/* Handles that a thread outside of every runtime aborts at moments of its own. */
enum { VICTIMS_MAX = 4096 };
static struct {
    pthread_mutex_t lock;
    weft_abort_handle *handle[VICTIMS_MAX];
    unsigned count;
} victims = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool victim_put(weft_abort_handle *h)
{
    pthread_mutex_lock(&victims.lock);
    bool fits = victims.count < VICTIMS_MAX;
    if (fits)
        victims.handle[victims.count++] = h;
    pthread_mutex_unlock(&victims.lock);
    return fits;
}

static void abort_and_drop(void *arg)
{
    weft_abort_handle_abort(arg);
    weft_abort_handle_unref(arg);
}

static bool abort_a_victim(void)
{
    weft_abort_handle *h = NULL;
    pthread_mutex_lock(&victims.lock);
    if (victims.count > 0) {
        unsigned i = (unsigned)(random_next() % victims.count);
        h = victims.handle[i];
        victims.handle[i] = victims.handle[--victims.count];
    }
    pthread_mutex_unlock(&victims.lock);
    if (h == NULL)
        return false;
    abort_and_drop(h);
    return true;
}

static _Atomic bool is_quitting;
static pthread_t abort_thread;
static bool has_abort_thread;

static void *abort_victims(void *arg)
{
    (void)arg;
    while (!is_quitting) {
        sleep_thread(random_next() % (2 * WEFT_MS));
        for (uint64_t n = random_next() % 8; n > 0 && abort_a_victim(); n--)
            continue;
    }
    return NULL;
}

static void *abort_later(void *arg)
{
    WEFT_DEFER(abort_and_drop, arg);
    (void)weft_sleep(random_next() % server.abort_within_ns); /* aborted itself: earlier, then */
    return NULL;
}

static void drop_handle(void *arg)
{
    weft_abort_handle_unref(arg);
}

static void start_aborting(void)
{
    if (has_abort_thread)
        return;
    has_abort_thread = true;
    CHECK(pthread_create(&abort_thread, NULL, abort_victims, NULL) == 0);
}

/* Takes h. */
static void arrange_abort(weft_abort_handle *h)
{
    static const weft_spawn_options options = {.drop_arg = drop_handle};
    CHECK(h != NULL);
    atomic_fetch_add(&aborts_asked, 1);
    unsigned how = (unsigned)(random_next() % 8);
    if (how >= 4 && weft_spawn_with(&options, abort_later, h, NULL) == 0)
        return;
    if (how >= 1 && victim_put(h))
        return;
    abort_and_drop(h);
}

/* ---- connections ---- */

static int serve_loop(weft_tcp *conn)
{
    char buf[4096];
    ssize_t n;
    while ((n = weft_tcp_read(conn, buf, sizeof(buf))) > 0) {
        int rc = weft_write_all(weft_tcp_stream(conn), buf, (size_t)n, NULL);
        if (rc < 0)
            return rc;
    }
    return (int)n;
}

static int write_all(weft_tcp_writer *writer, const char *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = weft_tcp_writer_write(writer, buf, len);
        if (n < 0)
            return (int)n;
        buf += n;
        len -= (size_t)n;
    }
    return 0;
}

static int serve_halves(weft_tcp *conn)
{
    weft_tcp_reader *reader;
    weft_tcp_writer *writer;
    char buf[2048];
    ssize_t n;
    CHECK(weft_tcp_split(conn, &reader, &writer) == 0);
    while ((n = weft_tcp_reader_read(reader, buf, sizeof(buf))) > 0) {
        int rc = write_all(writer, buf, (size_t)n);
        if (rc < 0) {
            n = rc;
            break;
        }
    }
    CHECK(weft_tcp_reader_close(reader) == 0);
    CHECK(weft_tcp_writer_close(writer) == 0); /* the peer sees the end */
    return (int)n;
}

static void *serve(void *arg)
{
    weft_tcp *conn = arg;
    enum body body = server.body == BODY_MIX ? (enum body)(random_next() % 3) : server.body;
    int rc;
    if (body == BODY_HALVES) {
        rc = serve_halves(conn);
    } else {
        rc = body == BODY_LOOP ? serve_loop(conn)
                               : weft_copy(weft_tcp_stream(conn), weft_tcp_stream(conn), NULL);
        CHECK(weft_tcp_close(conn) == 0);
    }
    if (rc == -ECANCELED)
        atomic_fetch_add(&ended_by_abort, 1);
    atomic_fetch_sub(&connections, 1);
    return NULL;
}

static void end_connection(void *arg)
{
    CHECK(weft_tcp_close(arg) == 0);
    atomic_fetch_sub(&connections, 1);
}

/* For tasks that may be unwound: what must be done is registered. */
static void *serve_deferring(void *arg)
{
    weft_tcp *conn = arg;
    WEFT_DEFER(end_connection, conn);
    (void)weft_copy(weft_tcp_stream(conn), weft_tcp_stream(conn),
                    NULL); /* until EOF, error, abort */
    return NULL;
}

/* The task was aborted before it ran. */
static void drop_connection(void *arg)
{
    CHECK(weft_tcp_close(arg) == 0);
    atomic_fetch_add(&unrun, 1);
    atomic_fetch_sub(&connections, 1);
}

static void start_connection(weft_tcp *conn)
{
    static const weft_spawn_options options = {.name = "connection", .drop_arg = drop_connection};
    bool is_victim = random_next() % 100 < server.abort_percent;
    weft_task *task;
    atomic_fetch_add(&connections, 1);
    atomic_fetch_add(&accepted, 1);
    if (weft_spawn_with(&options, server.body == BODY_DEFER ? serve_deferring : serve, conn,
                        is_victim ? &task : NULL) < 0) {
        atomic_fetch_add(&spawn_failures, 1);
        atomic_fetch_sub(&connections, 1);
        CHECK(weft_tcp_close(conn) == 0);
        return;
    }
    if (is_victim) {
        arrange_abort(weft_task_abort_handle(task));
        weft_task_detach(task);
    }
}

static void close_listener(void *arg)
{
    CHECK(weft_tcp_listener_close(arg) == 0);
}

static void *accept_all(void *arg)
{
    weft_tcp_listener *listener = arg;
    weft_tcp *conn;
    int rc;
    WEFT_DEFER(close_listener, listener);
    while ((rc = weft_tcp_accept(listener, &conn)) == 0 || rc == -ENOMEM)
        if (rc == 0)
            start_connection(conn);
        else if (weft_sleep(10 * WEFT_MS) < 0)
            break;
    return NULL;
}

/* In a task, or inside weft_enter(). */
static void listen_and_serve(void)
{
    const weft_tcp_listen_options listening = {.backlog = 4096};
    int rc = weft_tcp_listen_with(&listening, "127.0.0.1:0", &server.listener);
    if (rc == 0) {
        const weft_spawn_options options = {.name = "accept", .drop_arg = close_listener};
        CHECK(weft_tcp_listener_local_addr(server.listener, &server.addr) == 0);
        CHECK(weft_spawn_with(&options, accept_all, server.listener, NULL) == 0);
    }
    atomic_store(&server.is_up, rc < 0 ? rc : 1);
}

static int run_main(void *arg)
{
    (void)arg;
    CHECK(weft_handle_current(&server.handle) == 0);
    listen_and_serve();
    return 0;
}

static void *run_driver(void *arg)
{
    (void)arg;
    server.run_rc = weft_run_with(&server.config, run_main, NULL);
    return NULL;
}

static void *wait_until_shutdown(void *arg)
{
    while (weft_sleep(WEFT_NEVER) == 0)
        continue;
    return arg;
}

static void *drive_current_thread(void *arg)
{
    (void)arg;
    /* -ESHUTDOWN when the shutdown was faster. */
    int rc = weft_block_on(server.rt, wait_until_shutdown, NULL, NULL);
    CHECK(rc == 0 || rc == -ESHUTDOWN);
    return NULL;
}

/* ---- commands ---- */

/* The value of "key=" among the words of the line, or NULL; its end is left where it was. */
static const char *option(const char *line, const char *key)
{
    size_t len = strlen(key);
    for (const char *at = line; (at = strstr(at, key)) != NULL; at += len)
        if (at > line && at[-1] == ' ' && at[len] == '=')
            return at + len + 1;
    return NULL;
}

static uint64_t number(const char *line, const char *key, uint64_t otherwise)
{
    const char *text = option(line, key);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void command_up(const char *line)
{
    weft_config_init(&server.config);
    const char *flavor = option(line, "flavor"), *body = option(line, "body");
    bool is_multi = flavor == NULL || strncmp(flavor, "mt", 2) == 0;
    server.config.flavor = is_multi ? WEFT_FLAVOR_MULTI_THREAD : WEFT_FLAVOR_CURRENT_THREAD;
    server.config.workers = is_multi ? (unsigned)number(line, "workers", server.config.workers) : 1;
    server.body = BODY_COPY;
    for (int i = 0; body != NULL && i <= BODY_DEFER; i++)
        if (strncmp(body, body_name[i], strlen(body_name[i])) == 0)
            server.body = (enum body)i;
    /* The others would leave their connections open if they were unwound, as they are when a busy
     * machine takes longer than the grace to run them all. */
    server.config.shutdown_grace_ns = number(
        line, "grace_ns", server.body == BODY_DEFER ? server.config.shutdown_grace_ns : WEFT_NEVER);
    server.abort_percent = (unsigned)number(line, "abort", 0);
    server.abort_within_ns = number(line, "abort_ms", 1000) * WEFT_MS;
    if (server.abort_percent > 0)
        start_aborting();
    server.in_run = number(line, "run", 0) != 0;
    atomic_store(&server.is_up, 0);

    server.has_driver = server.in_run || !is_multi;
    if (server.in_run) {
        server.rt = NULL;
        CHECK(pthread_create(&server.driver, NULL, run_driver, NULL) == 0);
    } else {
        weft_enter_guard guard;
        int rc = weft_runtime_create(&server.config, &server.rt);
        if (rc < 0) {
            printf("error=%d\n", rc);
            return;
        }
        server.handle = weft_runtime_handle(server.rt);
        CHECK(weft_enter(server.handle, &guard) == 0);
        listen_and_serve();
        CHECK(weft_leave(&guard) == 0);
        if (!is_multi)
            CHECK(pthread_create(&server.driver, NULL, drive_current_thread, NULL) == 0);
    }
    while (atomic_load(&server.is_up) == 0)
        sleep_thread(WEFT_MS / 10);
    printf("port=%u error=%d\n", weft_addr_port(&server.addr),
           server.is_up < 0 ? (int)server.is_up : 0);
}

static size_t heap_bytes(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return 0;
#endif
#endif
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void command_stats(void)
{
    weft_metrics m = {0};
    (void)malloc_trim(0); /* what is resident is in use */
    if (server.handle != NULL)
        CHECK(weft_metrics_get(server.handle, &m) == 0);
    printf("connections=%" PRIu64 " accepted=%" PRIu64 " spawn_failures=%" PRIu64
           " aborts_asked=%" PRIu64 " ended_by_abort=%" PRIu64 " unrun=%" PRIu64,
           connections, accepted, spawn_failures, aborts_asked, ended_by_abort, unrun);
    printf(" alive=%" PRIu64 " spawned=%" PRIu64 " polls=%" PRIu64 " forced_yields=%" PRIu64
           " overflows=%" PRIu64 " steals=%" PRIu64 " parks=%" PRIu64 " sources=%" PRIu64
           " io_events=%" PRIu64 " workers_extra=%u stuck_reports=%" PRIu64 " heap=%zu\n",
           m.alive_tasks, m.spawned_tasks, m.polls, m.forced_yields, m.overflows, m.steals, m.parks,
           m.fds_registered - m.fds_deregistered, m.io_events, m.workers_extra, m.stuck_reports,
           heap_bytes());
}

static void *block_thread(void *arg)
{
    sleep_thread((uint64_t)(uintptr_t)arg * WEFT_MS);
    return NULL;
}

static void command_block(const char *line)
{
    const weft_spawn_options options = {.runtime = server.handle, .name = "sticking"};
    uint64_t tasks = number(line, "tasks", 1);
    for (uint64_t i = 0; i < tasks; i++)
        CHECK(weft_spawn_with(&options, block_thread, (void *)(uintptr_t)number(line, "ms", 1000),
                              NULL) == 0);
    printf("tasks=%" PRIu64 "\n", tasks);
}

static void *stop(void *arg)
{
    CHECK(weft_stop() == 0);
    return arg;
}

static void command_down(const char *line)
{
    const weft_spawn_options options = {.runtime = server.handle, .name = "stop"};
    uint64_t timeout_ns = number(line, "timeout_ns", WEFT_NEVER);
    uint64_t start_ns = weft_now();
    int rc = 0;
    if (server.in_run)
        CHECK(weft_spawn_with(&options, stop, NULL, NULL) == 0);
    else
        rc = weft_runtime_shutdown(server.rt, timeout_ns);
    if (server.has_driver)
        CHECK(pthread_join(server.driver, NULL) == 0);
    uint64_t took_ns = weft_now() - start_ns;
    if (server.in_run)
        rc = server.run_rc;
    weft_handle_unref(server.handle);
    server.handle = NULL;
    while (abort_a_victim()) /* harmless after the end; and what they keep alive goes */
        continue;
    printf("rc=%d took_us=%" PRIu64 "\n", rc, took_ns / WEFT_US);
}

int main(void)
{
    char line[256];
    while (fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "up", 2) == 0)
            command_up(line);
        else if (strncmp(line, "stats", 5) == 0)
            command_stats();
        else if (strncmp(line, "block", 5) == 0)
            command_block(line);
        else if (strncmp(line, "down", 4) == 0)
            command_down(line);
        else if (strncmp(line, "quit", 4) == 0)
            break;
        else
            fail(__LINE__, line);
        fflush(stdout);
    }
    is_quitting = true;
    if (has_abort_thread)
        CHECK(pthread_join(abort_thread, NULL) == 0);
    return 0;
}
