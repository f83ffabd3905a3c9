/*
 * The network of a random program: a server that echoes, clients on several hosts, and somebody who
 * pulls cables.
 */
#include "shared.h"

#include <stdio.h>

#define HOSTS 3

static void close_conn(void *arg)
{
    weft_tcp **conn = arg;
    if (*conn != NULL)
        (void)weft_tcp_close(*conn);
}

static void *echo(void *arg)
{
    weft_tcp *conn = arg;
    WEFT_DEFER(close_conn, &conn);
    (void)weft_copy(weft_tcp_stream(conn), weft_tcp_stream(conn), NULL);
    return NULL;
}

void *serve(void *arg)
{
    int rc = 0;
    (void)arg;
    WEFT_SCOPE(s) {
        for (weft_tcp *conn; (rc = weft_tcp_accept(shared.listener, &conn)) == 0;)
            if (weft_scope_spawn(s, echo, conn) < 0)
                (void)weft_tcp_close(conn);
    }
    return (void *)(intptr_t)rc;
}

/* What byte i of a conversation is. */
static unsigned char byte_of(uint64_t salt, size_t i)
{
    return (unsigned char)((salt >> i % 8 * 8) + i);
}

struct words {
    weft_tcp *conn;
    uint64_t salt;
    size_t len;
    bool is_broken; /* say() was told so; whoever reads is then told of an end, as on Linux */
};

static int say(void *arg)
{
    struct words *w = arg;
    unsigned char buf[64];
    for (size_t at = 0; at < w->len;) {
        size_t n = w->len - at < sizeof(buf) ? w->len - at : sizeof(buf);
        for (size_t i = 0; i < n; i++)
            buf[i] = byte_of(w->salt, at + i);
        int rc = weft_write_all(weft_tcp_stream(w->conn), buf, n, NULL);
        if (rc < 0) {
            w->is_broken = true;
            return rc;
        }
        at += n;
    }
    return weft_tcp_shutdown(w->conn, SHUT_WR);
}

/* What comes back is what was said, in order, up to a loss. */
static int listen_to(void *arg)
{
    struct words *w = arg;
    unsigned char buf[50];
    size_t at = 0;
    ssize_t n;
    while ((n = weft_tcp_read(w->conn, buf, sizeof(buf))) > 0)
        for (ssize_t i = 0; i < n; i++, at++)
            if (at >= w->len || buf[i] != byte_of(w->salt, at)) {
                weft_sim_fail("byte %zu of %zu came back as another one", at, w->len);
                return -EIO;
            }
    if (n == 0 && at < w->len && !w->is_broken)
        weft_sim_fail("the end came after %zu of %zu bytes", at, w->len);
    return (int)n;
}

static int connect_from_a_host(struct dice *d, weft_tcp **ret)
{
    char text[32];
    weft_addr local, remote;
    weft_tcp_connect_options o = {.local = &local};
    (void)snprintf(text, sizeof(text), "10.0.0.%u:0", (unsigned)roll(d, HOSTS) + 2);
    int rc = weft_addr_parse(text, &local);
    if (rc == 0)
        rc = weft_addr_parse("10.0.0.1:" PORT, &remote);
    return rc < 0 ? rc : weft_tcp_connect_addr(&o, &remote, ret);
}

static bool is_network_error(int rc)
{
    switch (-rc) {
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case ETIMEDOUT:
    case ENOTCONN:
        return true;
    default:
        return false;
    }
}

int talk(struct dice *d)
{
    weft_tcp *conn = NULL;
    WEFT_DEFER(close_conn, &conn);
    int rc = connect_from_a_host(d, &conn);
    if (rc < 0)
        return is_network_error(rc) ? 0 : rc;
    struct words w = {conn, roll(d, UINT64_MAX), roll(d, 400), false};
    /* Both at once: between them there is less room than they may have to say. */
    weft_panic_info *panic = NULL;
    weft_scope s;
    rc = weft_scope_enter(&s, NULL);
    if (rc < 0)
        return rc;
    (void)weft_scope_go(&s, say, &w);       /* what fails, leaving says */
    (void)weft_scope_go(&s, listen_to, &w); /* likewise */
    rc = weft_scope_leave(&s, &panic);
    return is_network_error(rc) ? 0 : rc;
}

static void heal(void *host)
{
    (void)weft_sim_heal(host, NULL); /* it was cut */
}

int disturb(struct dice *d)
{
    char host[32];
    (void)snprintf(host, sizeof(host), "10.0.0.%u", (unsigned)roll(d, HOSTS) + 2);
    if (roll(d, 3) == 0)
        return weft_sim_reset(host, NULL);
    int rc = weft_sim_cut(host, NULL);
    if (rc < 0)
        return rc;
    WEFT_DEFER(heal, host);
    return weft_sleep(roll(d, 300 * WEFT_MS));
}
