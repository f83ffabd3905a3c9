/*
 * The load on an echo server: one thread over epoll, a message in flight on each connection.
 *
 *   echo-load <port> <connections> <bytes> <seconds> <warm-up seconds> <pid of the server>
 *
 * Every byte of every echo is compared. Messages are windows into one block of random bytes, which
 * differ between connections and from one message to the next, so an echo that is another's, late
 * or cut is seen. Prints one line of key=value: requests, rps, latency at p50, p99, p99.9 and its
 * maximum, processor time of the server for a request (cpu_us), the share of a core that this
 * program used (load: at 1 it is the limit), and the requests of the connections that had fewest
 * and most. Exits with 1 when an echo is wrong or a connection is lost.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WINDOWS 4096 /* offsets at which a message may start */
#define EVENTS 256
#define BUF_BYTES 65536

#define FAIL(...) (fprintf(stderr, "echo-load: " __VA_ARGS__), fputc('\n', stderr), exit(1))

struct conn {
    int fd;
    uint32_t sent, got;
    uint32_t window;
    uint64_t start_ns, requests;
};

static struct conn *conns;
static long conn_count;
static uint32_t msg_bytes;
static char *block;
static bool is_measuring;
static uint64_t done, latency_max_ns;

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- a histogram: 64 buckets for each power of two, so within 1.6 % ---- */

#define SUB 64
static uint64_t histogram[SUB * 64];

static unsigned bucket_of(uint64_t ns)
{
    if (ns < SUB)
        return (unsigned)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - 6;
    return (shift + 1) * SUB + (unsigned)(ns >> shift & (SUB - 1));
}

static double middle_of(unsigned bucket)
{
    if (bucket < SUB)
        return bucket;
    unsigned shift = bucket / SUB - 1;
    return (double)((uint64_t)(SUB + bucket % SUB) << shift) + (double)(UINT64_C(1) << shift) / 2;
}

static double percentile_us(double share)
{
    uint64_t rank = (uint64_t)((double)done * share), sum = 0;
    for (unsigned i = 0; i < SUB * 64; i++)
        if ((sum += histogram[i]) > rank)
            return (middle_of(i) < (double)latency_max_ns ? middle_of(i) : (double)latency_max_ns) /
                   1e3;
    return 0;
}

/* ---- connections ---- */

static void raise_file_limit(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* The server may still be starting: tries for 10 s. */
static int connect_to(int port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int tries = 0; tries < 1000; tries++) {
        int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            FAIL("socket: %s", strerror(errno));
        if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            fcntl(fd, F_SETFL, O_NONBLOCK);
            return fd;
        }
        close(fd);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    FAIL("nobody listens on port %d", port);
}

static const char *message(const struct conn *c)
{
    return block + c->window;
}

static void send_rest(struct conn *c)
{
    while (c->sent < msg_bytes) {
        ssize_t n = send(c->fd, message(c) + c->sent, msg_bytes - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            FAIL("send: %s", strerror(errno));
        c->sent += (uint32_t)n;
    }
}

static void begin(struct conn *c, uint64_t now_ns)
{
    c->window = (c->window + 1009) % WINDOWS; /* a prime: all windows in turn */
    c->sent = c->got = 0;
    c->start_ns = now_ns;
    send_rest(c);
}

static void finish(struct conn *c)
{
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    if (is_measuring) {
        uint64_t latency_ns = now_ns - c->start_ns;
        histogram[bucket_of(latency_ns)]++;
        if (latency_ns > latency_max_ns)
            latency_max_ns = latency_ns;
        c->requests++;
        done++;
    }
    begin(c, now_ns);
}

/* Edge-triggered: until the echo is whole, after which a later arrival is an edge again. */
static void receive(struct conn *c)
{
    static char buf[BUF_BYTES];
    for (;;) {
        ssize_t n = recv(c->fd, buf, sizeof buf, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            FAIL("recv: %s", strerror(errno));
        if (n == 0)
            FAIL("the server closed a connection");
        if (c->got + (size_t)n > c->sent)
            FAIL("more came back than was sent");
        if (memcmp(buf, message(c) + c->got, (size_t)n) != 0)
            FAIL("a wrong byte came back");
        c->got += (uint32_t)n;
        if (c->got == msg_bytes) {
            finish(c);
            return;
        }
    }
}

/* ---- the run ---- */

/* Returns the time at which measuring ended. */
static uint64_t run(int epoll, double seconds, double warm_up_seconds, clockid_t server,
                    uint64_t *ret_start_ns, uint64_t *ret_server_ns, uint64_t *ret_load_ns)
{
    static struct epoll_event events[EVENTS];
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t start_ns = now_ns + (uint64_t)(warm_up_seconds * 1e9), end_ns = UINT64_MAX;
    for (long i = 0; i < conn_count; i++)
        begin(&conns[i], clock_ns(CLOCK_MONOTONIC));
    while (now_ns < end_ns) {
        int count = epoll_wait(epoll, events, EVENTS, 1000);
        now_ns = clock_ns(CLOCK_MONOTONIC);
        if (!is_measuring && now_ns >= start_ns) {
            is_measuring = true;
            *ret_start_ns = now_ns;
            *ret_server_ns = clock_ns(server);
            *ret_load_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
            end_ns = now_ns + (uint64_t)(seconds * 1e9);
        }
        for (int i = 0; i < count; i++) {
            struct conn *c = events[i].data.ptr;
            send_rest(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(c);
        }
    }
    *ret_server_ns = clock_ns(server) - *ret_server_ns;
    *ret_load_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - *ret_load_ns;
    return now_ns;
}

static void fill_block(void)
{
    uint64_t x = UINT64_C(0x9E3779B97F4A7C15);
    block = malloc(WINDOWS + (size_t)msg_bytes);
    if (!block)
        FAIL("no memory");
    for (size_t i = 0; i < WINDOWS + (size_t)msg_bytes; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        block[i] = (char)(x >> 32);
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr,
                "usage: echo-load <port> <connections> <bytes> <seconds> <warm-up> <pid>\n");
        return 2;
    }
    conn_count = atol(argv[2]);
    msg_bytes = (uint32_t)atol(argv[3]);
    double seconds = atof(argv[4]);
    clockid_t server;
    if (conn_count <= 0 || msg_bytes == 0 || seconds <= 0)
        FAIL("connections, bytes and seconds are numbers above 0");
    if (clock_getcpuclockid((pid_t)atol(argv[6]), &server) != 0)
        FAIL("there is no process %s", argv[6]);
    raise_file_limit();
    fill_block();
    conns = calloc((size_t)conn_count, sizeof *conns);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!conns || epoll < 0)
        FAIL("no memory");
    for (long i = 0; i < conn_count; i++) {
        conns[i].fd = connect_to(atoi(argv[1]));
        conns[i].window = (uint32_t)(i * 7 % WINDOWS);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &conns[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, conns[i].fd, &e) < 0)
            FAIL("epoll_ctl: %s", strerror(errno));
    }

    uint64_t start_ns = 0, server_ns = 0, load_ns = 0;
    uint64_t end_ns = run(epoll, seconds, atof(argv[5]), server, &start_ns, &server_ns, &load_ns);

    uint64_t fewest = UINT64_MAX, most = 0;
    for (long i = 0; i < conn_count; i++) {
        fewest = conns[i].requests < fewest ? conns[i].requests : fewest;
        most = conns[i].requests > most ? conns[i].requests : most;
    }
    if (done == 0)
        FAIL("not one echo came back");
    double wall_ns = (double)(end_ns - start_ns);
    printf("connections=%ld bytes=%u requests=%" PRIu64 " rps=%.0f p50_us=%.1f p99_us=%.1f "
           "p999_us=%.1f max_us=%.1f cpu_us=%.3f cores=%.2f load=%.2f fewest=%" PRIu64
           " most=%" PRIu64 "\n",
           conn_count, msg_bytes, done, (double)done * 1e9 / wall_ns, percentile_us(.5),
           percentile_us(.99), percentile_us(.999), (double)latency_max_ns / 1e3,
           (double)server_ns / 1e3 / (double)done, (double)server_ns / wall_ns,
           (double)load_ns / wall_ns, fewest, most);
    return 0;
}
