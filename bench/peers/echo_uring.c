/*
 * An echo server over io_uring by hand: multishot accept, multishot receive into a ring of provided
 * buffers, sends out of the buffer received into.
 *
 *   echo-uring tcp_echo <threads> <port>
 *
 * Several threads share the port (SO_REUSEPORT), each with a ring of its own. A connection has one
 * send in flight, so that sends stay in order; what arrives meanwhile waits in a list of buffers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define NOT_THERE 3 /* exit status, as that of a program without such a row */
#define BUFS 4096
#define BUF_BYTES 8192
#define FDS 65536

#define CHECK(cond) ((cond) ? (void)0 : fail(__LINE__, #cond))
static void fail(int line, const char *cond)
{
    fprintf(stderr, "echo_uring.c:%d: failed: %s (%s)\n", line, cond, strerror(errno));
    exit(1);
}

enum op { ACCEPT, RECV, SEND };

/* Buffers to be sent, in a list; the first is being sent. */
struct conn {
    int first, last; /* -1: none */
    bool is_closing; /* once the list is empty */
};

struct server {
    struct io_uring ring;
    struct io_uring_buf_ring *free_bufs;
    char *bufs;
    int next[BUFS]; /* in the list of a connection */
    int len[BUFS];
    struct conn *conns; /* by descriptor */
    int listener;
};

static int port;

static uint64_t tag(enum op op, int fd, unsigned buf)
{
    return (uint64_t)op << 56 | (uint64_t)buf << 32 | (uint32_t)fd;
}

static struct io_uring_sqe *next_sqe(struct server *s)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
    if (!sqe) {
        io_uring_submit(&s->ring);
        sqe = io_uring_get_sqe(&s->ring);
    }
    CHECK(sqe != NULL);
    return sqe;
}

static void arm_accept(struct server *s)
{
    struct io_uring_sqe *sqe = next_sqe(s);
    io_uring_prep_multishot_accept(sqe, s->listener, NULL, NULL, 0);
    sqe->user_data = tag(ACCEPT, s->listener, 0);
}

static void arm_recv(struct server *s, int fd)
{
    struct io_uring_sqe *sqe = next_sqe(s);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    sqe->user_data = tag(RECV, fd, 0);
}

static void give_back(struct server *s, unsigned buf)
{
    io_uring_buf_ring_add(s->free_bufs, s->bufs + (size_t)buf * BUF_BYTES, BUF_BYTES,
                          (unsigned short)buf, io_uring_buf_ring_mask(BUFS), 0);
    io_uring_buf_ring_advance(s->free_bufs, 1);
}

static void start(struct server *s)
{
    int one = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(setsockopt(s->listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0);
    CHECK(bind(s->listener, (struct sockaddr *)&addr, sizeof addr) == 0);
    CHECK(listen(s->listener, 1024) == 0);

    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
                                     .cq_entries = 8192};
    int rc = io_uring_queue_init_params(2048, &s->ring, &params);
    if (rc < 0) {
        fprintf(stderr, "echo-uring: this machine has no such io_uring: %s\n", strerror(-rc));
        exit(NOT_THERE);
    }
    s->free_bufs = mmap(NULL, BUFS * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
                        MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    s->bufs = mmap(NULL, (size_t)BUFS * BUF_BYTES, PROT_READ | PROT_WRITE,
                   MAP_ANONYMOUS | MAP_PRIVATE | MAP_POPULATE, -1, 0);
    s->conns = calloc(FDS, sizeof *s->conns);
    CHECK(s->free_bufs != MAP_FAILED && s->bufs != MAP_FAILED && s->conns != NULL);
    io_uring_buf_ring_init(s->free_bufs);
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)s->free_bufs, .ring_entries = BUFS, .bgid = 0};
    CHECK(io_uring_register_buf_ring(&s->ring, &reg, 0) == 0);
    for (unsigned i = 0; i < BUFS; i++)
        give_back(s, i);
    arm_accept(s);
}

static void on_accept(struct server *s, const struct io_uring_cqe *cqe)
{
    int one = 1;
    if (cqe->res >= 0) {
        CHECK(cqe->res < FDS);
        s->conns[cqe->res] = (struct conn){-1, -1, false};
        setsockopt(cqe->res, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        arm_recv(s, cqe->res);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        arm_accept(s);
}

static void send_first(struct server *s, int fd)
{
    int buf = s->conns[fd].first;
    struct io_uring_sqe *sqe = next_sqe(s);
    io_uring_prep_send(sqe, fd, s->bufs + (size_t)buf * BUF_BYTES, (size_t)s->len[buf],
                       MSG_WAITALL | MSG_NOSIGNAL);
    sqe->user_data = tag(SEND, fd, (unsigned)buf);
}

static void on_recv(struct server *s, const struct io_uring_cqe *cqe, int fd)
{
    struct conn *c = &s->conns[fd];
    if (cqe->res > 0) {
        int buf = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        s->len[buf] = cqe->res;
        s->next[buf] = -1;
        if (c->first >= 0) {
            s->next[c->last] = buf;
            c->last = buf;
        } else {
            c->first = c->last = buf;
            send_first(s, fd);
        }
        if (!(cqe->flags & IORING_CQE_F_MORE))
            arm_recv(s, fd);
    } else if (cqe->res == -ENOBUFS) {
        arm_recv(s, fd);
    } else if (c->first >= 0) {
        c->is_closing = true;
    } else {
        close(fd);
    }
}

static void on_sent(struct server *s, int fd, unsigned buf)
{
    struct conn *c = &s->conns[fd];
    c->first = s->next[buf];
    give_back(s, buf);
    if (c->first >= 0)
        send_first(s, fd);
    else if (c->is_closing)
        close(fd);
}

static void *serve(void *arg)
{
    static __thread struct server s;
    start(&s);
    for (;;) {
        int rc = io_uring_submit_and_wait(&s.ring, 1);
        CHECK(rc >= 0 || rc == -EINTR || rc == -EBUSY || rc == -EAGAIN);
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        io_uring_for_each_cqe(&s.ring, head, cqe)
        {
            enum op op = (enum op)(cqe->user_data >> 56);
            seen++;
            if (op == ACCEPT)
                on_accept(&s, cqe);
            else if (op == RECV)
                on_recv(&s, cqe, (int)(uint32_t)cqe->user_data);
            else
                on_sent(&s, (int)(uint32_t)cqe->user_data,
                        (unsigned)(cqe->user_data >> 32) & 0xffff);
        }
        io_uring_cq_advance(&s.ring, seen);
    }
    return arg;
}

int main(int argc, char **argv)
{
    if (argc != 4 || strcmp(argv[1], "tcp_echo") != 0) {
        fprintf(stderr, "usage: echo-uring tcp_echo <threads> <port>\n");
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
