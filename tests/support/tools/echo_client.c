/*
 * A client for echo servers, which checks every byte. It shares no code with weft, on purpose: one
 * thread, epoll, libc. Loopback only.
 *
 * Each connection sends a stream of pseudo-random bytes that is a function of the seed, the
 * connection and the offset alone, so what comes back is verified without being remembered. A round
 * is a random number of bytes sent and received again; sending and receiving overlap. After its
 * rounds the connection is half-closed and must see EOF, and not one byte more. A given share of
 * the connections is reset at a random moment instead.
 *
 * All connections are open at the same time: none is closed before the last one has had its first
 * answer (--no-hold: as soon as each is done).
 *
 * The last line of output:
 *   connections=N ok=N reset=N failed=N bytes=N seconds=S min_requests=N median_requests=N
 *   max_requests=N p50_us=N p99_us=N corrupt=N peak=N
 * requests: rounds a connection completed, among those that ended ok; peak: the most connections
 * that were open and answered at one moment.
 *
 * Exit: 0 all as it should be; 1 a failure (with --tolerate-failures: a corrupt byte); 2 bad usage,
 * or this machine does not allow so many descriptors; 3 not done within --timeout.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_TIMEOUT = 3 };

/* Fewer than the ephemeral ports of one source address: 32768 to 60999 by default. */
enum { PORTS_PER_SOURCE = 28000, EVENTS_MAX = 1024, BUFFER_BYTES = 65536 };

static struct options {
    struct in_addr host;
    uint16_t port;
    uint32_t connections;
    uint64_t bytes_max;
    uint64_t rounds;
    uint64_t seed;
    uint64_t duration_ns; /* 0: by rounds */
    double reset_percent;
    double rate; /* connections opened a second; 0: as fast as it goes */
    uint32_t window;
    unsigned timeout_s;
    bool pieces, busy, no_hold, tolerate, latency;
} opt;

enum state {
    STATE_UNBORN,
    STATE_CONNECTING,
    STATE_TALKING,
    STATE_HOLDING,  /* all rounds done, waiting until everybody has been answered */
    STATE_DRAINING, /* half-closed, waiting for EOF */
    STATE_OVER,
    STATE_COUNT,
};
static const char *const state_name[STATE_COUNT] = {
    "unborn", "connecting", "talking", "holding", "draining", "over",
};
enum result { RESULT_NONE, RESULT_OK, RESULT_RESET, RESULT_FAILED };

struct connection {
    int fd;
    uint8_t state, result;
    bool is_answered; /* its first round is complete */
    bool will_reset;
    bool reset_on_receive; /* counts bytes received, not sent */
    uint32_t interest;     /* what epoll was told */
    uint64_t random;       /* state of this connection's choices */
    uint64_t key;          /* of its byte stream */
    uint64_t sent, received;
    uint64_t target; /* where the current round ends */
    uint64_t rounds_done;
    uint64_t reset_round, reset_at;
    uint64_t requests;
    uint64_t round_start_ns;
};

static struct connection *conns;
static int epfd;
static unsigned char buffer[BUFFER_BYTES];

static uint64_t start_ns;
static uint64_t now_ns; /* as of the last batch of events */
static uint32_t opened_count, over_count, unanswered_count, settled_count;
static uint32_t live_count, live_peak; /* answered and open */
static uint32_t ok_count, reset_count, failed_count, corrupt_count;
static uint64_t bytes_verified;
static unsigned source_index; /* 0: the kernel's choice, else 127.0.0.(1 + index) */

/* Once everybody has been answered (or has failed), the phase that is measured begins. */
static bool is_released;
static uint64_t release_ns;

/* Latencies in us, 16 buckets to a power of two: within 6 %. */
enum { SUB_BITS = 4, BUCKETS = 64 << SUB_BITS };
static uint64_t histogram[BUCKETS];
static uint64_t latency_count, latency_sum_ns, latency_max_ns;

static __attribute__((noreturn, format(printf, 2, 3))) void die(int status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("echo_client: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(status);
}

static uint64_t clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- randomness: splitmix64 (S. Vigna, public domain) ---- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t random_next(uint64_t *state)
{
    return mix(*state += UINT64_C(0x9e3779b97f4a7c15));
}

/* 1 to max, each magnitude as likely as any other, and max itself now and then. */
static uint64_t random_size(uint64_t *state, uint64_t max)
{
    uint64_t r = random_next(state);
    if (r % 16 == 0)
        return max;
    unsigned bits = 64 - (unsigned)__builtin_clzll(max);
    uint64_t size = random_next(state) & (((uint64_t)2 << (r >> 8) % bits) - 1);
    return size == 0 || size > max ? 1 + random_next(state) % max : size;
}

static uint64_t stream_word(const struct connection *c, uint64_t word)
{
    return mix(c->key + word * UINT64_C(0x9e3779b97f4a7c15));
}

static void stream_fill(const struct connection *c, uint64_t offset, unsigned char *to, size_t len)
{
    size_t i = 0;
    while (i < len) {
        uint64_t at = offset + i;
        uint64_t word = stream_word(c, at / 8) >> 8 * (at % 8);
        size_t n = 8 - at % 8;
        for (size_t k = 0; k < n && i < len; k++, i++, word >>= 8)
            to[i] = (unsigned char)word;
    }
}

/* The offset within `from` of the first byte that differs, or len. */
static size_t stream_compare(const struct connection *c, uint64_t offset, const unsigned char *from,
                             size_t len)
{
    size_t i = 0;
    while (i < len) {
        uint64_t at = offset + i;
        uint64_t word = stream_word(c, at / 8) >> 8 * (at % 8);
        size_t n = 8 - at % 8;
        for (size_t k = 0; k < n && i < len; k++, i++, word >>= 8)
            if (from[i] != (unsigned char)word)
                return i;
    }
    return len;
}

/* ---- latencies ---- */

static unsigned bucket_of(uint64_t us)
{
    if (us < 1u << SUB_BITS)
        return (unsigned)us;
    unsigned power = 63 - (unsigned)__builtin_clzll(us);
    return ((power - SUB_BITS + 1) << SUB_BITS) +
           (unsigned)(us >> (power - SUB_BITS) & ((1u << SUB_BITS) - 1));
}

static uint64_t bucket_start(unsigned bucket)
{
    if (bucket < 1u << SUB_BITS)
        return bucket;
    unsigned shift = (bucket >> SUB_BITS) - 1;
    return ((uint64_t)(1u << SUB_BITS) + (bucket & ((1u << SUB_BITS) - 1))) << shift;
}

static void record_latency(uint64_t ns)
{
    histogram[bucket_of(ns / 1000)]++;
    latency_count++;
    latency_sum_ns += ns;
    if (ns > latency_max_ns)
        latency_max_ns = ns;
}

static uint64_t percentile_us(double part)
{
    uint64_t rank = (uint64_t)(part * (double)latency_count), seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > rank)
            return bucket_start(i);
    }
    return latency_max_ns / 1000;
}

/* ---- the life of a connection ---- */

static uint32_t index_of(const struct connection *c)
{
    return (uint32_t)(c - conns);
}

static void settle(struct connection *c)
{
    if (c->is_answered)
        return;
    c->is_answered = true;
    unanswered_count--;
    settled_count++;
}

static void end(struct connection *c, enum result result)
{
    if (c->is_answered)
        live_count--;
    settle(c);
    close(c->fd);
    c->fd = -1;
    c->state = STATE_OVER;
    c->result = (uint8_t)result;
    over_count++;
    ok_count += result == RESULT_OK;
    reset_count += result == RESULT_RESET;
    failed_count += result == RESULT_FAILED;
}

static __attribute__((format(printf, 2, 3))) void end_failed(struct connection *c, const char *fmt,
                                                             ...)
{
    enum { SHOWN_MAX = 5 };
    if (failed_count < SHOWN_MAX) {
        va_list args;
        va_start(args, fmt);
        fprintf(stderr,
                "echo_client: connection %" PRIu32 " (%s, sent %" PRIu64 ", received %" PRIu64
                " of %" PRIu64 "): ",
                index_of(c), state_name[c->state], c->sent, c->received, c->target);
        vfprintf(stderr, fmt, args);
        fputc('\n', stderr);
        va_end(args);
    } else if (failed_count == SHOWN_MAX) {
        fprintf(stderr, "echo_client: further failures are only counted\n");
    }
    end(c, RESULT_FAILED);
}

static void end_corrupt(struct connection *c, uint64_t offset, const char *what)
{
    corrupt_count++;
    end_failed(c, "corrupt at offset %" PRIu64 ": %s", offset, what);
}

static void end_reset(struct connection *c)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    if (setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) < 0)
        die(EXIT_USAGE, "SO_LINGER: %s", strerror(errno));
    end(c, RESULT_RESET);
}

static bool is_over(const struct connection *c)
{
    return c->state == STATE_OVER;
}

static bool reset_is_due(const struct connection *c)
{
    if (!c->will_reset || c->state != STATE_TALKING || c->rounds_done < c->reset_round)
        return false;
    return (c->reset_on_receive ? c->received : c->sent) >= c->reset_at;
}

static void start_round(struct connection *c)
{
    c->state = STATE_TALKING;
    uint64_t size = opt.busy ? opt.bytes_max : random_size(&c->random, opt.bytes_max);
    if (c->will_reset && c->rounds_done == c->reset_round)
        c->reset_at = c->target + random_next(&c->random) % (size + 1);
    c->target += size;
    c->round_start_ns = clock_ns();
}

static void half_close(struct connection *c)
{
    c->state = STATE_DRAINING;
    if (shutdown(c->fd, SHUT_WR) < 0)
        end_failed(c, "shutdown: %s", strerror(errno));
}

static bool time_is_up(void)
{
    return is_released && now_ns - release_ns >= opt.duration_ns;
}

static void next_after_round(struct connection *c)
{
    if (opt.busy && !is_released)
        c->state = STATE_HOLDING;
    else if (opt.duration_ns != 0 ? !time_is_up() : c->rounds_done < opt.rounds)
        start_round(c);
    else if (!is_released)
        c->state = STATE_HOLDING;
    else
        half_close(c);
}

static void round_done(struct connection *c)
{
    c->rounds_done++;
    if (!c->is_answered) {
        settle(c);
        if (++live_count > live_peak)
            live_peak = live_count;
    }
    /* In busy mode only what falls into the time measured: the first answers of all come before it,
     * the last ones after. */
    if (!opt.busy || (is_released && !time_is_up())) {
        c->requests++;
        record_latency(clock_ns() - c->round_start_ns);
    }
    next_after_round(c);
}

static void write_some(struct connection *c)
{
    unsigned pieces = opt.pieces ? 1 + (unsigned)(random_next(&c->random) % 3) : 8;
    while (pieces-- > 0 && c->sent < c->target) {
        uint64_t len = c->target - c->sent;
        if (len > sizeof(buffer))
            len = sizeof(buffer);
        if (opt.pieces)
            len = random_size(&c->random, len);
        /* Up to the byte after which this connection is to die. */
        if (c->will_reset && !c->reset_on_receive && c->rounds_done == c->reset_round &&
            c->reset_at > c->sent && c->reset_at - c->sent < len)
            len = c->reset_at - c->sent;
        stream_fill(c, c->sent, buffer, len);
        ssize_t n = send(c->fd, buffer, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR)
                return;
            end_failed(c, "send: %s", strerror(errno));
            return;
        }
        c->sent += (uint64_t)n;
        if (reset_is_due(c)) {
            end_reset(c);
            return;
        }
        if ((uint64_t)n < len)
            return;
    }
}

static void accept_bytes(struct connection *c, size_t len)
{
    if (c->received + len > c->sent) {
        end_corrupt(c, c->sent, "more came back than was sent");
        return;
    }
    size_t same = stream_compare(c, c->received, buffer, len);
    if (same != len) {
        end_corrupt(c, c->received + same, "a byte differs");
        return;
    }
    c->received += len;
    bytes_verified += len;
    if (reset_is_due(c))
        end_reset(c);
    else if (c->state == STATE_TALKING && c->received == c->target)
        round_done(c);
}

static void read_some(struct connection *c)
{
    unsigned pieces = opt.pieces ? 1 + (unsigned)(random_next(&c->random) % 3) : 8;
    while (pieces-- > 0 && !is_over(c)) {
        size_t len = opt.pieces ? (size_t)random_size(&c->random, sizeof(buffer)) : sizeof(buffer);
        ssize_t n = recv(c->fd, buffer, len, MSG_DONTWAIT);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                end_failed(c, "recv: %s", strerror(errno));
            return;
        }
        if (n == 0) {
            if (c->state == STATE_DRAINING && c->received == c->target)
                end(c, RESULT_OK);
            else
                end_failed(c, "closed too early");
            return;
        }
        accept_bytes(c, (size_t)n);
        if ((size_t)n < len)
            return;
    }
}

static void update_interest(struct connection *c)
{
    if (is_over(c))
        return;
    bool has_to_send = c->state == STATE_TALKING && c->sent < c->target;
    uint32_t want = EPOLLIN | (c->state == STATE_CONNECTING || has_to_send ? EPOLLOUT : 0u);
    if (want == c->interest)
        return;
    struct epoll_event ev = {.events = want, .data.u32 = index_of(c)};
    if (epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &ev) < 0)
        die(EXIT_USAGE, "epoll_ctl: %s", strerror(errno));
    c->interest = want;
}

static void connected(struct connection *c)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error != 0) {
        end_failed(c, "connect: %s", strerror(error));
        return;
    }
    start_round(c);
    if (reset_is_due(c))
        end_reset(c);
    else
        write_some(c);
}

static void handle(struct connection *c, uint32_t events)
{
    if (c->state == STATE_CONNECTING) {
        connected(c);
    } else {
        if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            read_some(c);
        if (c->state == STATE_TALKING && c->sent < c->target)
            write_some(c);
    }
    update_interest(c);
}

/* 0, or the error of connect. */
static int try_connect(struct connection *c)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die(EXIT_USAGE, "socket: %s", strerror(errno));
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* else only slower */
    if (source_index > 0) {
        struct sockaddr_in from = {
            .sin_family = AF_INET,
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK + source_index),
        };
        (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
        if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0)
            die(EXIT_USAGE, "bind to a loopback address: %s", strerror(errno));
    }
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons(opt.port),
        .sin_addr = opt.host,
    };
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS) {
        int error = errno;
        close(fd);
        return error;
    }
    c->fd = fd;
    return 0;
}

static void open_one(struct connection *c)
{
    uint32_t index = index_of(c);
    c->fd = -1;
    c->random = mix(opt.seed + index) ^ UINT64_C(0x5bf03635a4d1f3c1);
    c->key = random_next(&c->random);
    c->will_reset = (double)(random_next(&c->random) % 10000) < opt.reset_percent * 100;
    c->reset_on_receive = random_next(&c->random) % 2;
    c->reset_round = random_next(&c->random) % (opt.rounds == 0 ? 1 : opt.rounds);
    opened_count++;
    unanswered_count++;
    if (source_index < index / PORTS_PER_SOURCE)
        source_index = index / PORTS_PER_SOURCE;

    int error = try_connect(c);
    /* The ports of this address are in use, maybe by connections of an earlier run in TIME_WAIT. */
    while (error == EADDRNOTAVAIL && source_index < 200) {
        source_index++;
        error = try_connect(c);
    }
    if (error != 0) {
        end_failed(c, "connect: %s", strerror(error));
        return;
    }
    c->state = STATE_CONNECTING;
    c->interest = EPOLLIN | EPOLLOUT;
    struct epoll_event ev = {.events = c->interest, .data.u32 = index};
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &ev) < 0)
        die(EXIT_USAGE, "epoll_ctl: %s", strerror(errno));
}

/* Not more at a time than a listener's backlog holds: a SYN that is dropped there is sent again a
 * second later only. */
static void open_some(void)
{
    uint32_t allowed = opt.connections;
    if (opt.rate > 0) {
        double by_now = 1 + (double)(now_ns - start_ns) / 1e9 * opt.rate;
        if (by_now < (double)allowed)
            allowed = (uint32_t)by_now;
    }
    while (opened_count < allowed && unanswered_count < opt.window)
        open_one(&conns[opened_count]);
}

static void release_all(void)
{
    is_released = true;
    release_ns = now_ns = clock_ns();
    for (uint32_t i = 0; i < opened_count; i++) {
        struct connection *c = &conns[i];
        if (c->state != STATE_HOLDING)
            continue;
        next_after_round(c);
        if (c->state == STATE_TALKING)
            write_some(c);
        update_interest(c);
    }
}

/* ---- the end ---- */

static __attribute__((noreturn)) void give_up(void)
{
    uint32_t in_state[STATE_COUNT] = {0}, shown = 0;
    for (uint32_t i = 0; i < opt.connections; i++)
        in_state[conns[i].state]++;
    fprintf(stderr, "echo_client: not done after %u s:", opt.timeout_s);
    for (int s = 0; s < STATE_COUNT; s++)
        fprintf(stderr, " %s=%" PRIu32, state_name[s], in_state[s]);
    fprintf(stderr, " answered=%" PRIu32 " ok=%" PRIu32 " reset=%" PRIu32 " failed=%" PRIu32 "\n",
            settled_count, ok_count, reset_count, failed_count);
    for (uint32_t i = 0; i < opt.connections && shown < 8; i++) {
        const struct connection *c = &conns[i];
        if (c->state == STATE_OVER || c->state == STATE_UNBORN)
            continue;
        shown++;
        fprintf(stderr,
                "echo_client:   connection %" PRIu32 ": %s, round %" PRIu64 ", sent %" PRIu64
                ", received %" PRIu64 " of %" PRIu64 ", waiting for%s%s\n",
                i, state_name[c->state], c->rounds_done, c->sent, c->received, c->target,
                c->interest & EPOLLIN ? " input" : "", c->interest & EPOLLOUT ? " output" : "");
    }
    exit(EXIT_TIMEOUT);
}

static int compare_u64(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void report(uint64_t end_ns)
{
    uint64_t *requests = calloc(opt.connections, sizeof(*requests));
    if (requests == NULL)
        die(EXIT_USAGE, "out of memory");
    uint32_t count = 0;
    for (uint32_t i = 0; i < opt.connections; i++)
        if (conns[i].result == RESULT_OK)
            requests[count++] = conns[i].requests;
    qsort(requests, count, sizeof(*requests), compare_u64);

    if (opt.latency)
        printf("latency: count=%" PRIu64 " mean_us=%.1f p50_us=%" PRIu64 " p90_us=%" PRIu64
               " p99_us=%" PRIu64 " p999_us=%" PRIu64 " max_us=%" PRIu64 "\n",
               latency_count,
               latency_count == 0 ? 0 : (double)latency_sum_ns / (double)latency_count / 1000,
               percentile_us(0.5), percentile_us(0.9), percentile_us(0.99), percentile_us(0.999),
               latency_max_ns / 1000);
    printf("connections=%" PRIu32 " ok=%" PRIu32 " reset=%" PRIu32 " failed=%" PRIu32
           " bytes=%" PRIu64 " seconds=%.3f min_requests=%" PRIu64 " median_requests=%" PRIu64
           " max_requests=%" PRIu64 " p50_us=%" PRIu64 " p99_us=%" PRIu64 " corrupt=%" PRIu32
           " peak=%" PRIu32 "\n",
           opt.connections, ok_count, reset_count, failed_count, bytes_verified,
           (double)(end_ns - (opt.busy && is_released ? release_ns : start_ns)) / 1e9,
           count == 0 ? 0 : requests[0], count == 0 ? 0 : requests[count / 2],
           count == 0 ? 0 : requests[count - 1], percentile_us(0.5), percentile_us(0.99),
           corrupt_count, live_peak);
    free(requests);
}

/* ---- options ---- */

static const char usage[] =
    "usage: echo_client --port P [options]\n"
    "  --host A             an address in 127.0.0.0/8 (127.0.0.1)\n"
    "  --connections N      open at the same time (1)\n"
    "  --bytes-max B        most bytes of one round; in busy mode: the size of each (4096; 64)\n"
    "  --rounds R           rounds of each connection (1)\n"
    "  --duration MS        rounds until this much time has passed since all were answered\n"
    "  --seed S             of all random choices (1)\n"
    "  --pieces             send and receive in random pieces\n"
    "  --reset-percent X    so many connections end by RST at a random moment (0)\n"
    "  --rate N             connections opened a second (no limit)\n"
    "  --window N           connections under way to their first answer (128)\n"
    "  --busy               every connection sends the next request when it has its answer\n"
    "  --no-hold            close each connection when it is done\n"
    "  --tolerate-failures  exit 1 for corruption only; implies --no-hold\n"
    "  --report latency     one more line with latencies\n"
    "  --timeout SEC        give up, exit 3 (60)\n";

static uint64_t parse_number(const char *name, const char *text, uint64_t min, uint64_t max)
{
    char *rest;
    errno = 0;
    unsigned long long value = strtoull(text, &rest, 0);
    if (errno != 0 || rest == text || *rest != '\0' || text[0] == '-' || value < min || value > max)
        die(EXIT_USAGE, "--%s: '%s' is not a number from %" PRIu64 " to %" PRIu64, name, text, min,
            max);
    return value;
}

static double parse_decimal(const char *name, const char *text, double max)
{
    char *rest;
    double value = strtod(text, &rest);
    if (rest == text || *rest != '\0' || !(value >= 0 && value <= max))
        die(EXIT_USAGE, "--%s: '%s' is not a number from 0 to %g", name, text, max);
    return value;
}

static void parse_options(int argc, char **argv)
{
    enum {
        HOST = 256,
        PORT,
        CONNECTIONS,
        BYTES_MAX,
        ROUNDS,
        SEED,
        DURATION,
        PIECES,
        RESET,
        RATE,
        WINDOW,
        BUSY,
        NO_HOLD,
        TOLERATE,
        REPORT,
        TIMEOUT,
        HELP
    };
    static const struct option known[] = {
        {"host", required_argument, NULL, HOST},
        {"port", required_argument, NULL, PORT},
        {"connections", required_argument, NULL, CONNECTIONS},
        {"bytes-max", required_argument, NULL, BYTES_MAX},
        {"rounds", required_argument, NULL, ROUNDS},
        {"seed", required_argument, NULL, SEED},
        {"duration", required_argument, NULL, DURATION},
        {"pieces", no_argument, NULL, PIECES},
        {"reset-percent", required_argument, NULL, RESET},
        {"rate", required_argument, NULL, RATE},
        {"window", required_argument, NULL, WINDOW},
        {"busy", no_argument, NULL, BUSY},
        {"no-hold", no_argument, NULL, NO_HOLD},
        {"tolerate-failures", no_argument, NULL, TOLERATE},
        {"report", required_argument, NULL, REPORT},
        {"timeout", required_argument, NULL, TIMEOUT},
        {"help", no_argument, NULL, HELP},
        {0},
    };
    opt.host.s_addr = htonl(INADDR_LOOPBACK);
    opt.connections = 1;
    opt.rounds = 1;
    opt.seed = 1;
    opt.window = 128;
    opt.timeout_s = 60;
    for (int which; (which = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (which) {
        case HOST:
            if (inet_pton(AF_INET, optarg, &opt.host) != 1 || ntohl(opt.host.s_addr) >> 24 != 127)
                die(EXIT_USAGE, "--host: '%s' is not in 127.0.0.0/8", optarg);
            break;
        case PORT:
            opt.port = (uint16_t)parse_number("port", optarg, 1, UINT16_MAX);
            break;
        case CONNECTIONS:
            opt.connections = (uint32_t)parse_number("connections", optarg, 1, 5000000);
            break;
        case BYTES_MAX:
            opt.bytes_max = parse_number("bytes-max", optarg, 1, UINT64_C(1) << 40);
            break;
        case ROUNDS:
            opt.rounds = parse_number("rounds", optarg, 1, UINT64_C(1) << 40);
            break;
        case SEED:
            opt.seed = parse_number("seed", optarg, 0, UINT64_MAX);
            break;
        case DURATION:
            opt.duration_ns = parse_number("duration", optarg, 1, 86400000) * 1000000;
            break;
        case PIECES:
            opt.pieces = true;
            break;
        case RESET:
            opt.reset_percent = parse_decimal("reset-percent", optarg, 100);
            break;
        case RATE:
            opt.rate = parse_decimal("rate", optarg, 1e9);
            break;
        case WINDOW:
            opt.window = (uint32_t)parse_number("window", optarg, 1, UINT32_MAX);
            break;
        case BUSY:
            opt.busy = true;
            break;
        case NO_HOLD:
            opt.no_hold = true;
            break;
        case TOLERATE:
            opt.tolerate = opt.no_hold = true;
            break;
        case REPORT:
            if (strcmp(optarg, "latency") != 0)
                die(EXIT_USAGE, "--report: only 'latency' is known");
            opt.latency = true;
            break;
        case TIMEOUT:
            opt.timeout_s = (unsigned)parse_number("timeout", optarg, 1, 86400);
            break;
        case HELP:
            fputs(usage, stdout);
            exit(EXIT_OK);
        default:
            fputs(usage, stderr);
            exit(EXIT_USAGE);
        }
    }
    if (optind < argc || opt.port == 0) {
        fputs(usage, stderr);
        exit(EXIT_USAGE);
    }
    if (opt.busy && opt.duration_ns == 0)
        die(EXIT_USAGE, "--busy needs --duration");
    if (opt.bytes_max == 0)
        opt.bytes_max = opt.busy ? 64 : 4096;
}

static void allow_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        die(EXIT_USAGE, "getrlimit: %s", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        die(EXIT_USAGE, "setrlimit: %s", strerror(errno));
    if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < (rlim_t)opt.connections + 16)
        die(EXIT_USAGE, "%" PRIu32 " connections, but only %llu descriptors allowed",
            opt.connections, (unsigned long long)limit.rlim_cur);
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    allow_descriptors();
    conns = calloc(opt.connections, sizeof(*conns));
    if (conns == NULL)
        die(EXIT_USAGE, "out of memory");
    epfd = epoll_create1(EPOLL_CLOEXEC);
    if (epfd < 0)
        die(EXIT_USAGE, "epoll_create1: %s", strerror(errno));

    start_ns = now_ns = clock_ns();
    uint64_t deadline_ns = start_ns + (uint64_t)opt.timeout_s * 1000000000u;
    while (over_count < opt.connections) {
        open_some();
        if (!is_released && (opt.no_hold || settled_count == opt.connections))
            release_all();

        static struct epoll_event events[EVENTS_MAX];
        int tick_ms = opt.rate > 0 && opened_count < opt.connections ? 1 : 100;
        int count = epoll_wait(epfd, events, EVENTS_MAX, tick_ms);
        if (count < 0 && errno != EINTR)
            die(EXIT_USAGE, "epoll_wait: %s", strerror(errno));
        now_ns = clock_ns();
        for (int i = 0; i < count; i++) {
            struct connection *c = &conns[events[i].data.u32];
            if (!is_over(c))
                handle(c, events[i].events);
        }
        if (now_ns > deadline_ns)
            give_up();
    }
    report(clock_ns());
    free(conns);
    close(epfd);
    return (opt.tolerate ? corrupt_count : failed_count) == 0 ? EXIT_OK : EXIT_FAILED;
}
