/*
 * The smallest echo server that is right, by hand on epoll: what the clients of this directory are
 * tested against, so that a failure of theirs is not taken for one of weft's. Shares no code with
 * it.
 *
 * usage: echo_epoll_server [--port P] [--break how]
 *   prints "port=N" and serves 127.0.0.1 until it is killed. `how` makes it a bad server, to show
 *   that a client notices: "flip" alters one byte in a million, "drop" loses one, "extra" sends one
 *   too many before EOF, "close" closes after 100,000 bytes, "mute" never answers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 16384, EVENTS_MAX = 512, BREAK_BYTES = 100000, BREAK_EVERY = 1000000 };

struct connection {
    int fd;
    bool has_eof;
    size_t begin, end; /* what of buf is not sent yet */
    uint64_t total;
    unsigned char *buf; /* only while something is in it */
};

static int epfd;
static const char *broken = "";
static uint64_t bytes_total;

static void fail(const char *what)
{
    fprintf(stderr, "echo_epoll_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(struct connection *c, int op, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = c};
    if (epoll_ctl(epfd, op, c->fd, &ev) < 0)
        fail("epoll_ctl");
}

static void drop(struct connection *c)
{
    close(c->fd);
    free(c->buf);
    free(c);
}

/* Applies the fault asked for to the n bytes at buf; returns how many are left. */
static size_t spoil(unsigned char *buf, size_t n)
{
    uint64_t before = bytes_total / BREAK_EVERY;
    bytes_total += n;
    if (bytes_total / BREAK_EVERY == before)
        return n;
    if (strcmp(broken, "flip") == 0)
        buf[n / 2] ^= 0x10;
    else if (strcmp(broken, "drop") == 0)
        n--;
    return n;
}

/* True while the connection lives; *ret_again when there may be more to do. */
static bool echo_once(struct connection *c, bool *ret_again)
{
    *ret_again = false;
    if (c->begin == c->end && !c->has_eof) {
        static unsigned char shared[BUFFER_BYTES];
        ssize_t n = recv(c->fd, shared, sizeof(shared), 0);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        c->has_eof = n == 0;
        c->total += (uint64_t)n;
        if (n == 0 && strcmp(broken, "extra") == 0)
            shared[n++] = 'x';
        size_t len = spoil(shared, (size_t)n);
        if (strcmp(broken, "close") == 0 && c->total > BREAK_BYTES)
            return false;
        if (strcmp(broken, "mute") == 0)
            len = 0;
        size_t done = 0;
        while (done < len) {
            ssize_t sent = send(c->fd, shared + done, len - done, MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR)
                continue;
            if (sent < 0 && errno != EAGAIN)
                return false;
            if (sent < 0)
                break;
            done += (size_t)sent;
        }
        if (done < len) {
            c->buf = malloc(len - done);
            if (c->buf == NULL)
                return false;
            memcpy(c->buf, shared + done, len - done);
            c->begin = 0;
            c->end = len - done;
            watch(c, EPOLL_CTL_MOD, EPOLLOUT);
            return true;
        }
        *ret_again = n == BUFFER_BYTES;
        return !c->has_eof;
    }
    while (c->begin < c->end) {
        ssize_t sent = send(c->fd, c->buf + c->begin, c->end - c->begin, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        c->begin += (size_t)sent;
    }
    free(c->buf);
    c->buf = NULL;
    c->begin = c->end = 0;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    return !c->has_eof;
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN)
                return;
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            if (errno == EMFILE || errno == ENFILE) {
                usleep(1000); /* level-triggered: the listener is reported again */
                return;
            }
            fail("accept4");
        }
        int one = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* else only slower */
        struct connection *c = calloc(1, sizeof(*c));
        if (c == NULL)
            fail("calloc");
        c->fd = fd;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(int argc, char **argv)
{
    uint16_t port = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--port") == 0 && i + 1 < argc)
            port = (uint16_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--break") == 0 && i + 1 < argc)
            broken = argv[++i];
        else
            return fprintf(stderr, "usage: echo_epoll_server [--port P] [--break how]\n"), 2;
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* then it serves fewer */
    }

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t len = sizeof(addr);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(listener, (struct sockaddr *)&addr, len) < 0 || listen(listener, 4096) < 0 ||
        getsockname(listener, (struct sockaddr *)&addr, &len) < 0)
        fail("listen");
    epfd = epoll_create1(EPOLL_CLOEXEC);
    if (epfd < 0)
        fail("epoll_create1");
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &ev) < 0)
        fail("epoll_ctl");
    printf("port=%u\n", ntohs(addr.sin_port));
    fflush(stdout);

    for (;;) {
        static struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(epfd, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL) {
                accept_all(listener);
                continue;
            }
            bool again, lives;
            while ((lives = echo_once(c, &again)) && again)
                continue;
            if (!lives)
                drop(c);
        }
    }
}
