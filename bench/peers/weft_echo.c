/*
 * The echo server of weft: a task a connection, public headers only, the runtime as users get it.
 *
 *   weft-echo tcp_echo <threads>|ct <port>      threads: workers; ct: current_thread
 */
#include <weft/weft.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_BYTES 16384

static void *serve(void *arg)
{
    weft_tcp *conn = arg;
    weft_stream *stream = weft_tcp_stream(conn);
    char *buf = malloc(BUF_BYTES); /* as the others; on the stack it would be too large a frame */
    ssize_t n;
    while (buf && (n = weft_tcp_read(conn, buf, BUF_BYTES)) > 0)
        if (weft_write_all(stream, buf, (size_t)n, NULL) < 0)
            break;
    free(buf);
    weft_tcp_close(conn);
    return NULL;
}

static void *accept_all(void *arg)
{
    weft_tcp_listener *l = arg;
    int rc;
    for (weft_tcp *conn; (rc = weft_tcp_accept(l, &conn)) == 0;)
        if (weft_tcp_set_nodelay(conn, true) < 0 || weft_spawn(serve, conn, NULL) < 0)
            weft_tcp_close(conn);
    fprintf(stderr, "weft-echo: accept: %s\n", strerror(-rc));
    return NULL;
}

/* Accepts in a task: where this runs, on the thread of block_on, is no worker. */
static void *listen_and_wait(void *arg)
{
    weft_tcp_listener *l;
    weft_task *t;
    int rc = weft_tcp_listen(arg, &l);
    if (rc == 0)
        rc = weft_spawn(accept_all, l, &t);
    if (rc == 0)
        rc = weft_join(t, NULL);
    fprintf(stderr, "weft-echo: %s: %s\n", (const char *)arg, strerror(-rc));
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 4 || strcmp(argv[1], "tcp_echo") != 0) {
        fprintf(stderr, "usage: weft-echo tcp_echo <threads>|ct <port>\n");
        return 3;
    }
    weft_config config;
    weft_config_init(&config);
    config.workers = strcmp(argv[2], "ct") == 0 ? 1 : (unsigned)strtoul(argv[2], NULL, 10);
    if (strcmp(argv[2], "ct") == 0)
        config.flavor = WEFT_FLAVOR_CURRENT_THREAD;
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%s", argv[3]);
    weft_runtime *rt;
    int rc = weft_runtime_create(&config, &rt);
    if (rc < 0 || (rc = weft_block_on(rt, listen_and_wait, address, NULL)) < 0)
        fprintf(stderr, "weft-echo: %s\n", strerror(-rc));
    return 1;
}
