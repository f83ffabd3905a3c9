/* Connections and descriptors while calls fail. */
#include "scene.h"

#include <weft/io.h>
#include <weft/net.h>
#include <weft/scope.h>
#include <weft/stream.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Accept waits for as long as memory or watches are wanting, which is for good in some runs. */
#define LIMIT_NS (4 * WEFT_SEC)

/* ---- a server that echoes ---- */

static void close_conn(void *arg)
{
    EXPECT_EQ(weft_tcp_close(arg), 0);
}

static void *echo(void *arg)
{
    weft_tcp *conn = arg;
    int rc = weft_copy(weft_tcp_stream(conn), weft_tcp_stream(conn), NULL);
    /* Where the fault has cut the scene short the runtime goes down meanwhile. */
    if (rc != -ECANCELED || !faults_was_reached())
        (void)CAME_OVER(rc, 0);
    EXPECT_EQ(weft_tcp_close(conn), 0);
    return NULL;
}

struct server {
    weft_tcp_listener *l;
    bool has_run;
};

/* Without a server nobody accepts, and who has connected would wait for ever. */
static void close_unserved(void *arg)
{
    struct server *s = arg;
    s->has_run = true;
    EXPECT_EQ(weft_tcp_listener_close(s->l), 0);
}

/* Until it is aborted, or nothing more can be accepted. */
static void *serve(void *arg)
{
    struct server *s = arg;
    weft_tcp_listener *l = s->l;
    weft_tcp *conn;
    weft_spawn_options o = {.drop_arg = close_conn};
    int rc;
    s->has_run = true;
    while ((rc = weft_tcp_accept(l, &conn)) == 0)
        if (!CAME(weft_spawn_with(&o, echo, conn, NULL), 0))
            weft_tcp_close(conn);
    EXPECT(rc == -ECANCELED || faults_explain(rc));
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
    return NULL;
}

static void set_options(weft_tcp *conn)
{
    bool on;
    uint64_t linger_ns;
    weft_addr addr;
    (void)CAME(weft_tcp_set_nodelay(conn, true), 0);
    if (CAME(weft_tcp_nodelay(conn, &on), 0) && !faults_was_reached())
        EXPECT(on);
    (void)CAME(weft_tcp_linger(conn, &linger_ns), 0);
    (void)CAME(weft_tcp_local_addr(conn, &addr), 0);
    (void)CAME(weft_tcp_peer_addr(conn, &addr), 0);
}

/* Everything comes back, or an error. */
static void talk_to(const char *addr)
{
    static const char text[] = "one line\nand another\n";
    static char block[3000];
    weft_tcp *conn;
    weft_bufreader *r = NULL;
    weft_bufwriter *w = NULL;
    const char *line;
    size_t len;
    char c;
    if (!CAME_OVER(weft_tcp_connect(addr, &conn), 0))
        return;
    set_options(conn);
    weft_stream *s = weft_tcp_stream(conn);
    if (!CAME(weft_bufreader_create(s, 64, &r), 0) || !CAME(weft_bufwriter_create(s, 64, &w), 0))
        goto out;
    if (!CAME_OVER(weft_bufwriter_printf(w, "%s", text), 0) ||
        !CAME_OVER(weft_bufwriter_flush(w), 0))
        goto out;
    for (const char *rest = text; *rest != '\0'; rest = strchr(rest, '\n') + 1) {
        int rc = weft_bufreader_read_line(r, &line, &len);
        if (!CAME_OVER(rc, 1))
            goto out;
        EXPECT(len == (size_t)(strchr(rest, '\n') - rest) && memcmp(line, rest, len) == 0);
    }
    struct iovec iov[2] = {{(void *)(uintptr_t)text, 10}, {block, sizeof(block)}};
    if (!CAME_OVER(weft_writev_all(s, iov, 2, NULL), 0))
        goto out;
    if (!CAME_OVER(weft_bufreader_read_exact(r, block, sizeof(block), &len), 0))
        goto out;
    (void)CAME(weft_tcp_shutdown(conn, SHUT_WR), 0);
    ssize_t n;
    while ((n = weft_bufreader_read(r, block, sizeof(block))) > 0)
        continue;
    (void)CAME_OVER(n, 0);
    memset(block, 0, sizeof(block));
    if (n == 0)
        (void)CAME_OVER(weft_tcp_try_read(conn, &c, 1), 0); /* and it stays so */
out:
    weft_bufreader_destroy(r);
    weft_bufwriter_destroy(w);
    EXPECT_EQ(weft_tcp_close(conn), 0);
}

static void *run_server(void *arg)
{
    struct server s = {.has_run = false};
    weft_spawn_options o = {.drop_arg = close_unserved};
    weft_addr addr;
    weft_task *server;
    char text[WEFT_ADDR_TEXT_MAX];
    (void)arg;
    if (!CAME(weft_tcp_listen("127.0.0.1:0", &s.l), 0))
        return NULL;
    if (!CAME(weft_tcp_listener_local_addr(s.l, &addr), 0) ||
        !CAME(weft_spawn_with(&o, serve, &s, &server), 0)) {
        EXPECT_EQ(weft_tcp_listener_close(s.l), 0);
        return NULL;
    }
    (void)weft_addr_format(&addr, text, sizeof(text)); /* it fits */
    bool is_served = true;
    for (int i = 0; i < 3 && is_served; i++)
        WEFT_TIMEOUT_AS(limit, LIMIT_NS) {
            talk_to(text);
            is_served = !weft_timeout_is_expired(&limit);
        }
    EXPECT_EQ(weft_abort(server), 0);
    (void)test_join_kind(server);
    EXPECT(s.has_run);
    return NULL;
}

static void server(enum test_flavour flavour)
{
    scene_may_keep(32); /* buffers of weft_copy(), one a slot of its cache */
    scene_in_runtime(flavour, run_server, NULL);
}
SCENE(server)

/* ---- one block to its end ---- */

struct sending {
    weft_tcp *conn;
    size_t bytes;
};

static void close_unsent(void *arg)
{
    close_conn(((struct sending *)arg)->conn);
}

static void *send_all(void *arg)
{
    struct sending *s = arg;
    char *block = calloc(1, s->bytes);
    CHECK(block != NULL);
    (void)CAME_OVER(weft_write_all(weft_tcp_stream(s->conn), block, s->bytes, NULL), 0);
    free(block);
    EXPECT_EQ(weft_tcp_close(s->conn), 0);
    return NULL;
}

static void receive_all(weft_tcp_listener *l, size_t bytes)
{
    struct sending s = {.bytes = bytes};
    weft_addr addr;
    weft_tcp *conn;
    weft_task *t = NULL;
    weft_spawn_options o = {.drop_arg = close_unsent};
    if (!CAME(weft_tcp_listener_local_addr(l, &addr), 0) ||
        !CAME(weft_tcp_connect_addr(NULL, &addr, &s.conn), 0))
        return;
    int accepted = 0;
    WEFT_TIMEOUT(LIMIT_NS)
        accepted = weft_tcp_accept(l, &conn);
    if (!CAME_OVER(accepted, 0)) {
        EXPECT_EQ(weft_tcp_close(s.conn), 0);
        return;
    }
    if (!CAME(weft_spawn_with(&o, send_all, &s, &t), 0))
        EXPECT_EQ(weft_tcp_close(s.conn), 0);
    char *buf = NULL;
    size_t len = 0, cap = 0;
    int rc = weft_read_to_end(weft_tcp_stream(conn), SIZE_MAX, &buf, &len, &cap);
    if (CAME_OVER(rc, 0) && !faults_was_reached())
        EXPECT_EQ(len, bytes);
    scene_free(buf);
    EXPECT_EQ(weft_tcp_close(conn), 0);
    if (t != NULL)
        scene_join(t);
}

static void *transfer(void *arg)
{
    weft_tcp_listener *l;
    (void)arg;
    if (!CAME(weft_tcp_listen("127.0.0.1:0", &l), 0))
        return NULL;
    receive_all(l, 1 << 20);
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
    return NULL;
}

static void block_of_bytes(enum test_flavour flavour)
{
    scene_may_keep(0);
    scene_in_runtime(flavour, transfer, NULL);
}
SCENE(block_of_bytes)

/* ---- descriptors of ours ---- */

static void close_fd(void *arg)
{
    EXPECT_EQ(weft_fd_close(arg), 0);
}

static void *write_pings(void *arg)
{
    for (int i = 0; i < 20; i++) {
        ssize_t n = weft_fd_write(arg, "ping", 4);
        if (!CAME_OVER(faults_was_reached() && n > 0 ? 4 : n, 4)) /* some of it */
            break;
    }
    EXPECT_EQ(weft_fd_close(arg), 0);
    return NULL;
}

static void *read_pings(void *arg)
{
    int fd[2];
    weft_fd *r, *w;
    weft_task *t;
    weft_spawn_options o = {.drop_arg = close_fd};
    (void)arg;
    CHECK_EQ(pipe2(fd, O_CLOEXEC), 0);
    if (!CAME(weft_fd_open(fd[0], 0, &r), 0))
        goto out;
    if (!CAME(weft_fd_open(fd[1], WEFT_FD_OWNED, &w), 0))
        goto out_r;
    fd[1] = -1;
    if (!CAME(weft_spawn_with(&o, write_pings, w, &t), 0)) {
        EXPECT_EQ(weft_fd_close(w), 0);
        goto out_r;
    }
    char buf[7];
    ssize_t n;
    int rc = weft_fd_wait(r, WEFT_READY_READ, NULL);
    (void)CAME(rc, 0);
    while ((n = weft_fd_read(r, buf, sizeof(buf))) > 0)
        continue;
    (void)CAME(n, 0);
    EXPECT_EQ(weft_fd_close(r), 0);
    close(fd[0]); /* so that who still writes hears of it */
    fd[0] = -1;
    scene_join(t);
    goto out;
out_r:
    EXPECT_EQ(weft_fd_close(r), 0);
out:
    for (int i = 0; i < 2; i++)
        if (fd[i] >= 0)
            close(fd[i]);
    return NULL;
}

static void pipes(enum test_flavour flavour)
{
    signal(SIGPIPE, SIG_IGN);
    scene_in_runtime(flavour, read_pings, NULL);
}
SCENE(pipes)

SCENE_MAIN(SCENE_TESTS(server), SCENE_TESTS(block_of_bytes), SCENE_TESTS(pipes))
