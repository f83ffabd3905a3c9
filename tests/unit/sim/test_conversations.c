/*
 * Conversations at random: the two ends of a connection send, receive, shut, close and reset in any
 * order, on Linux and in a simulation. Each call must return the same, and what epoll reports in
 * the simulation Linux must report as well, at the same moment: an edge that only the simulation
 * gives would hide that somebody waits for one in vain. (Linux gives a few more, when the end that
 * one has sent is acknowledged.)
 */
#include "harness.h"

#include "sys/sys.h"

#include <weft/sim.h>
#include <weft/time.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CALLS_MAX 16
#define TRIES 8 /* on a busy machine the loopback may take its time */

enum call { SEND, RECV, PEEK, SHUTDOWN, ERROR_OF, PEER_OF, CLOSE, RESET, CALL_KINDS };

static const char *const call_names[] = {"send",     "recv",        "peek",  "shutdown",
                                         "SO_ERROR", "getpeername", "close", "reset"};

struct record {
    int count;
    struct {
        enum call call;
        int side, arg;
        long rc;
        uint32_t events[2];
    } at[CALLS_MAX];
};

static uint64_t settle_ns; /* that Linux is given to deliver */

static void settle(void)
{
    if (weft_sim_is_running()) {
        EXPECT_EQ(weft_sleep(20 * WEFT_MS), 0);
        return;
    }
    struct timespec ts = {.tv_nsec = (long)settle_ns};
    (void)nanosleep(&ts, NULL);
}

static void connect_pair(int fd[2])
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t len = sizeof(in);
    int one = 1, l = weft__sys_socket(AF_INET, SOCK_STREAM, 0);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(weft__sys_bind(l, (struct sockaddr *)&in, len), 0);
    CHECK_EQ(weft__sys_listen(l, 1), 0);
    CHECK_EQ(weft__sys_getsockname(l, (struct sockaddr *)&in, &len), 0);
    fd[0] = weft__sys_socket(AF_INET, SOCK_STREAM, 0);
    int rc = weft__sys_connect(fd[0], (struct sockaddr *)&in, len);
    CHECK(rc == 0 || rc == -EINPROGRESS);
    for (int i = 0; i < 1000; i++) {
        settle();
        fd[1] = weft__sys_accept(l, NULL, NULL);
        if (fd[1] != -EAGAIN)
            break;
    }
    CHECK(fd[1] >= 0);
    for (int side = 0; side < 2; side++) /* else small writes wait for acknowledgements */
        CHECK_EQ(weft__sys_setsockopt(fd[side], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
    CHECK_EQ(weft__sys_close(l), 0);
}

static long make_call(enum call call, int *fd, int arg)
{
    static char bytes[64];
    struct linger now = {1, 0};
    struct sockaddr_in in;
    socklen_t len = sizeof(in), int_len = sizeof(int);
    long rc;
    int error = -1;
    switch (call) {
    case SEND:
        return weft__sys_send(*fd, bytes, (size_t)arg, 0);
    case RECV:
        return weft__sys_recv(*fd, bytes, (size_t)arg, 0);
    case PEEK:
        return weft__sys_recv(*fd, bytes, (size_t)arg, MSG_PEEK);
    case SHUTDOWN:
        return weft__sys_shutdown(*fd, arg % 3);
    case ERROR_OF:
        rc = weft__sys_getsockopt(*fd, SOL_SOCKET, SO_ERROR, &error, &int_len);
        return rc < 0 ? rc : error;
    case PEER_OF:
        return weft__sys_getpeername(*fd, (struct sockaddr *)&in, &len);
    case RESET:
        EXPECT_EQ(weft__sys_setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
        break;
    default:
        break;
    }
    rc = weft__sys_close(*fd);
    *fd = -1;
    return rc;
}

static void look(int ep, uint32_t events[2])
{
    struct epoll_event e[2];
    events[0] = events[1] = 0;
    int n = weft__sys_epoll_wait(ep, e, 2, 0);
    for (int i = 0; i < n; i++)
        events[e[i].data.u64] = e[i].events;
}

static enum call draw_call(uint64_t *rng)
{
    static const enum call often[] = {SEND, SEND, RECV, RECV, RECV, PEEK, SHUTDOWN, SHUTDOWN};
    uint64_t at = test_random(rng) % (8 + CALL_KINDS);
    return at < 8 ? often[at] : (enum call)(at - 8);
}

static void converse(uint64_t seed, struct record *r)
{
    uint64_t rng = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    int fd[2], ep = weft__sys_epoll_create();
    connect_pair(fd);
    for (uint64_t side = 0; side < 2; side++)
        EXPECT_EQ(weft__sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd[side],
                                      EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, side),
                  0);
    uint32_t first[2];
    look(ep, first);
    int calls = 3 + (int)(test_random(&rng) % (CALLS_MAX - 2));
    for (r->count = 0; r->count < calls && (fd[0] >= 0 || fd[1] >= 0); r->count++) {
        int side = (int)(test_random(&rng) % 2);
        if (fd[side] < 0)
            side = 1 - side;
        r->at[r->count].side = side;
        r->at[r->count].call = draw_call(&rng);
        r->at[r->count].arg = 1 + (int)(test_random(&rng) % 60);
        r->at[r->count].rc = make_call(r->at[r->count].call, &fd[side], r->at[r->count].arg);
        settle();
        look(ep, r->at[r->count].events);
    }
    for (int side = 0; side < 2; side++)
        if (fd[side] >= 0)
            EXPECT_EQ(weft__sys_close(fd[side]), 0);
    EXPECT_EQ(weft__sys_close(ep), 0);
}

struct job {
    uint64_t seed;
    struct record *record;
};

static int converse_inside(void *arg)
{
    struct job *job = arg;
    converse(job->seed, job->record);
    return 0;
}

static void converse_in_a_simulation(uint64_t seed, struct record *r)
{
    struct job job = {seed, r};
    weft_sim_config c;
    weft_sim_result result;
    weft_sim_config_init(&c, seed);
    CHECK_EQ(weft_sim_run(&c, converse_inside, &job, &result), 0);
    EXPECT_EQ(result.end, WEFT_SIM_DONE);
    EXPECT_EQ(result.fds_left, 0);
}

/* The first call that differs; -1: none. */
static int differs(const struct record *linux_did, const struct record *simulated)
{
    for (int i = 0; i < simulated->count; i++) {
        if (i == linux_did->count || linux_did->at[i].rc != simulated->at[i].rc)
            return i;
        for (int side = 0; side < 2; side++) {
            uint32_t events = simulated->at[i].events[side];
            if (events != 0 && events != linux_did->at[i].events[side])
                return i;
        }
    }
    return linux_did->count == simulated->count ? -1 : simulated->count;
}

static void print(const char *where, const struct record *r, int last)
{
    printf("  %s:\n", where);
    for (int i = 0; i <= last && i < r->count; i++)
        printf("    %d %s(%d) = %ld, events %x and %x\n", r->at[i].side, call_names[r->at[i].call],
               r->at[i].arg, r->at[i].rc, r->at[i].events[0], r->at[i].events[1]);
}

static void compare(uint64_t seed)
{
    struct record simulated = {0}, on_linux = {0};
    converse_in_a_simulation(seed, &simulated);
    int at = 0;
    settle_ns = 50 * WEFT_US;
    for (int tries = 0; at >= 0 && tries < TRIES; tries++, settle_ns *= 3) {
        converse(seed, &on_linux);
        at = differs(&on_linux, &simulated);
    }
    if (at < 0)
        return;
    test_record(__FILE__, __LINE__, "conversation %llu differs at its call %d",
                (unsigned long long)seed, at);
    print("Linux", &on_linux, at);
    print("simulated", &simulated, at);
}

static void conversations_go_as_on_linux(struct test_env *env)
{
    (void)env;
    for (uint64_t seed = 1; seed <= test_scaled(400); seed++)
        compare(seed);
}

TEST_MAIN(PLAIN(conversations_go_as_on_linux))
