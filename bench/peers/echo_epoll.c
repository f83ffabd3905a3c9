/*
 * The least that an echo server over epoll does: the floor below the others.
 *
 *   echo-epoll tcp_echo <threads> <port>
 *
 * Level-triggered, one recv() and one send() a message, no state a connection but for the bytes
 * that a socket did not take. Several threads share the port (SO_REUSEPORT), each with an epoll of
 * its own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS 65536
#define BUF_BYTES 16384
#define EVENTS 512

#define CHECK(cond) ((cond) ? (void)0 : fail(__LINE__, #cond))
static void fail(int line, const char *cond)
{
    fprintf(stderr, "echo_epoll.c:%d: failed: %s (%s)\n", line, cond, strerror(errno));
    exit(1);
}

/* By descriptor: what a socket did not take. Rarely used. */
static struct unsent {
    char *bytes; /* NULL: nothing */
    size_t len, sent;
} unsent[FDS];

static int port;

static int listen_on_port(void)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0);
    CHECK(bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0);
    CHECK(listen(fd, 1024) == 0);
    return fd;
}

static void watch(int epoll, int op, int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    CHECK(epoll_ctl(epoll, op, fd, &e) == 0);
}

static void accept_all(int epoll, int listener)
{
    int one = 1;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        CHECK(fd < FDS);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN);
    }
}

static void drop(int fd)
{
    free(unsent[fd].bytes);
    unsent[fd].bytes = NULL;
    close(fd);
}

static void send_rest(int epoll, int fd)
{
    struct unsent *u = &unsent[fd];
    ssize_t n = send(fd, u->bytes + u->sent, u->len - u->sent, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN)
            drop(fd);
        return;
    }
    u->sent += (size_t)n;
    if (u->sent < u->len)
        return;
    free(u->bytes);
    u->bytes = NULL;
    watch(epoll, EPOLL_CTL_MOD, fd, EPOLLIN);
}

static void echo(int epoll, int fd, char *buf)
{
    ssize_t len = recv(fd, buf, BUF_BYTES, 0);
    if (len <= 0) {
        if (len == 0 || errno != EAGAIN)
            drop(fd);
        return;
    }
    ssize_t sent = send(fd, buf, (size_t)len, MSG_NOSIGNAL);
    if (sent == len)
        return;
    if (sent < 0 && errno != EAGAIN) {
        drop(fd);
        return;
    }
    struct unsent *u = &unsent[fd];
    size_t done = sent < 0 ? 0 : (size_t)sent;
    *u = (struct unsent){malloc((size_t)len - done), (size_t)len - done, 0};
    CHECK(u->bytes != NULL);
    memcpy(u->bytes, buf + done, u->len);
    watch(epoll, EPOLL_CTL_MOD, fd, EPOLLOUT);
}

static void *serve(void *arg)
{
    static __thread char buf[BUF_BYTES];
    struct epoll_event events[EVENTS];
    int listener = listen_on_port(), epoll = epoll_create1(EPOLL_CLOEXEC);
    CHECK(epoll >= 0);
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(epoll, listener);
            else if (unsent[fd].bytes)
                send_rest(epoll, fd);
            else
                echo(epoll, fd, buf);
        }
    }
    return arg;
}

int main(int argc, char **argv)
{
    if (argc != 4 || strcmp(argv[1], "tcp_echo") != 0) {
        fprintf(stderr, "usage: echo-epoll tcp_echo <threads> <port>\n");
        return 3;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    port = atoi(argv[3]);
    for (int i = 1; i < atoi(argv[2]); i++) {
        pthread_t t;
        CHECK(pthread_create(&t, NULL, serve, NULL) == 0);
    }
    (void)serve(NULL);
    return 1;
}
