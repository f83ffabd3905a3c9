/*
 * echo [host:port]: an echo server, one task per connection. Once a second it prints what it does,
 * and it ends on Ctrl-C: tasks in the middle of a wait get -ECANCELED, close their connections and
 * return.
 */
#include <weft/weft.h>

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

static _Atomic uint64_t open_now, accepted, echoed_bytes;

/* One task per connection. */
static void *serve(void *arg)
{
    weft_tcp *conn = arg;
    weft_stream *stream = weft_tcp_stream(conn);
    char buf[4096];
    ssize_t n;
    open_now++;
    while ((n = weft_tcp_read(conn, buf, sizeof(buf))) > 0) {
        if (weft_write_all(stream, buf, (size_t)n, NULL) < 0)
            break;
        echoed_bytes += (uint64_t)n;
    }
    weft_tcp_close(conn);
    open_now--;
    return NULL;
}

static void *accept_all(void *arg)
{
    weft_tcp_listener *l = arg;
    for (weft_tcp *conn; weft_tcp_accept(l, &conn) == 0;) {
        accepted++;
        if (weft_spawn(serve, conn, NULL) < 0) /* NULL: detached */
            weft_tcp_close(conn);
    }
    return NULL;
}

static void *report(void *arg)
{
    (void)arg;
    uint64_t next = weft_now();
    weft_metrics m;
    while (weft_sleep_until(next += WEFT_SEC) == 0 && weft_metrics_get(NULL, &m) == 0) {
        printf("connections %" PRIu64 " (%" PRIu64 " in all)  bytes %" PRIu64 "  tasks %" PRIu64
               "\n",
               open_now, accepted, echoed_bytes, m.alive_tasks);
        fflush(stdout);
    }
    return NULL;
}

/* Suspends until SIGINT or SIGTERM arrives, which main() has blocked. */
static int wait_for_signal(const sigset_t *signals)
{
    struct signalfd_siginfo info;
    weft_fd *wfd;
    int fd = signalfd(-1, signals, SFD_CLOEXEC);
    int rc = weft_fd_open(fd, WEFT_FD_OWNED, &wfd);
    if (rc < 0)
        return rc;
    ssize_t n = weft_fd_read(wfd, &info, sizeof(info));
    weft_fd_close(wfd);
    return n < 0 ? (int)n : 0;
}

struct args {
    const char *address;
    sigset_t signals;
};

static int echo(void *arg)
{
    struct args *args = arg;
    weft_tcp_listener *l;
    weft_addr addr;
    char text[WEFT_ADDR_TEXT_MAX] = "";
    int rc = weft_tcp_listen(args->address, &l);
    if (rc < 0) {
        fprintf(stderr, "echo: %s: %s\n", args->address, strerror(-rc));
        return rc;
    }
    if (weft_tcp_listener_local_addr(l, &addr) == 0)
        weft_addr_format(&addr, text, sizeof(text));
    printf("listening on %s\n", text);
    fflush(stdout);

    rc = weft_spawn(report, NULL, NULL);
    if (rc == 0)
        rc = weft_spawn(accept_all, l, NULL);
    if (rc == 0)
        rc = wait_for_signal(&args->signals);
    weft_tcp_listener_close(l);
    weft_stop(); /* every task is aborted; weft_run() waits until they have cleaned up */
    return rc;
}

int main(int argc, char **argv)
{
    struct args args = {.address = argc > 1 ? argv[1] : "127.0.0.1:8080"};
    sigemptyset(&args.signals);
    sigaddset(&args.signals, SIGINT);
    sigaddset(&args.signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &args.signals, NULL);

    int rc = weft_run(echo, &args);
    printf("stopped: %" PRIu64 " connections, %" PRIu64 " bytes, %" PRIu64 " still open\n",
           accepted, echoed_bytes, open_now);
    return rc < 0;
}
