/*
 * The world of a simulation at its edges: what a link does that is cut at each moment of a
 * connection, what is lost when memory is, how it ends early.
 */
#include "harness.h"

#include "sim/world.h"
#include "sys/table.h"

#include <weft/io.h>
#include <weft/net.h>
#include <weft/notify.h>
#include <weft/sim.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define MS WEFT_MS
#define DELAY (100 * WEFT_MS) /* of each segment, one way */
#define SYN_LIMIT (127 * WEFT_SEC)
#define DATA_LIMIT (924 * WEFT_SEC)

static weft_sim_result simulate(const weft_sim_config *c, int (*body)(void *arg))
{
    weft_sim_result r;
    CHECK_EQ(weft_sim_run(c, body, NULL, &r), 0);
    return r;
}

/* Every segment takes DELAY; a check that fails inside is recorded. */
static weft_sim_result simulate_slow(int (*body)(void *arg))
{
    weft_sim_config c;
    weft_sim_config_init(&c, 11);
    c.latency_min_ns = c.latency_max_ns = DELAY;
    c.time_max_ns = 24 * 3600 * WEFT_SEC;
    weft_sim_result r = simulate(&c, body);
    EXPECT_EQ(r.end, WEFT_SIM_DONE);
    EXPECT_EQ(r.rc, 0);
    EXPECT_EQ(r.fds_left, 0);
    return r;
}

/* ---- a link that is cut ---- */

struct attempt {
    const char *to;
    weft_tcp *conn;
    int rc;
    uint64_t took_ns;
};

static void *attempt(void *arg)
{
    struct attempt *a = arg;
    uint64_t began_ns = weft_now();
    a->rc = weft_tcp_connect(a->to, &a->conn);
    a->took_ns = weft_now() - began_ns;
    return NULL;
}

/* Cuts everything `after_ns` from when a connect began; how that connect ended. */
static struct attempt connect_and_cut(const char *to, uint64_t after_ns)
{
    struct attempt a = {.to = to};
    weft_task *task = SPAWN(attempt, &a);
    EXPECT_EQ(weft_sleep(after_ns), 0);
    EXPECT_EQ(weft_sim_cut(NULL, NULL), 0);
    EXPECT_EQ(test_join_kind(task), WEFT_OUTCOME_VALUE);
    EXPECT_EQ(weft_sim_heal(NULL, NULL), 0);
    return a;
}

static int cut_while_connecting(void *arg)
{
    (void)arg;
    weft_tcp_listener *l;
    weft_tcp *conn;
    int rc = 0;
    EXPECT_EQ(weft_tcp_listen("127.0.0.1:80", &l), 0);
    /* The SYN is on its way, the answer to it, the answer that nobody listens. */
    struct attempt a = connect_and_cut("127.0.0.1:80", DELAY / 2);
    EXPECT_EQ(a.rc, -ETIMEDOUT);
    EXPECT(a.took_ns >= SYN_LIMIT && a.took_ns < SYN_LIMIT + 2 * WEFT_SEC);
    a = connect_and_cut("127.0.0.1:80", DELAY + DELAY / 2);
    EXPECT_EQ(a.rc, -ETIMEDOUT);
    EXPECT(a.took_ns >= SYN_LIMIT && a.took_ns < SYN_LIMIT + 2 * WEFT_SEC);
    a = connect_and_cut("127.0.0.1:81", DELAY + DELAY / 2);
    EXPECT_EQ(a.rc, -ETIMEDOUT);

    /* The last part of the handshake: the client takes itself for connected, and the listener
     * never hears of it. */
    a = (struct attempt){.to = "127.0.0.1:80"};
    weft_task *task = SPAWN(attempt, &a);
    EXPECT_EQ(weft_sleep(2 * DELAY + DELAY / 2), 0);
    EXPECT_EQ(weft_sim_cut(NULL, NULL), 0);
    EXPECT_EQ(test_join_kind(task), WEFT_OUTCOME_VALUE);
    EXPECT_EQ(a.rc, 0);
    WEFT_TIMEOUT(2 * DATA_LIMIT) {
        rc = weft_tcp_accept(l, &conn);
    }
    EXPECT_EQ(rc, -ETIMEDOUT);
    EXPECT_EQ(weft_sim_heal(NULL, NULL), 0);
    EXPECT_EQ(weft_tcp_write(a.conn, "x", 1), 1);
    char c;
    EXPECT_EQ(weft_tcp_read(a.conn, &c, 1), -ECONNRESET);
    EXPECT_EQ(weft_tcp_close(a.conn), 0);
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

static void a_cut_meets_each_part_of_a_handshake(struct test_env *env)
{
    (void)env;
    EXPECT_EQ(simulate_slow(cut_while_connecting).held, 4);
}

static void connect_pair(weft_tcp_listener *l, weft_tcp **ret_a, weft_tcp **ret_b)
{
    weft_addr addr;
    char text[WEFT_ADDR_TEXT_MAX];
    EXPECT_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    EXPECT(weft_addr_format(&addr, text, sizeof(text)) > 0);
    EXPECT_EQ(weft_tcp_connect(text, ret_a), 0);
    EXPECT_EQ(weft_tcp_accept(l, ret_b), 0);
}

static int read_one(weft_tcp *conn, uint64_t timeout_ns)
{
    char c = 0;
    int rc = 0;
    WEFT_TIMEOUT(timeout_ns) {
        rc = (int)weft_tcp_read(conn, &c, 1);
    }
    return rc == 1 ? c : rc;
}

static int cut_while_talking(void *arg)
{
    (void)arg;
    weft_tcp_listener *l;
    weft_tcp *a, *b;
    EXPECT_EQ(weft_tcp_listen("127.0.0.1:80", &l), 0);

    /* The bytes have arrived, the acknowledgement has not: the sender gives up. */
    connect_pair(l, &a, &b);
    EXPECT_EQ(weft_tcp_write(a, "x", 1), 1);
    EXPECT_EQ(weft_sleep(DELAY + DELAY / 2), 0);
    EXPECT_EQ(weft_sim_cut(NULL, NULL), 0);
    EXPECT_EQ(read_one(b, WEFT_SEC), 'x');
    uint64_t began_ns = weft_now();
    EXPECT_EQ(read_one(a, 2 * DATA_LIMIT), -ETIMEDOUT);
    EXPECT(weft_now() - began_ns < DATA_LIMIT + WEFT_SEC); /* not the scope's */
    EXPECT_EQ(weft_sim_heal(NULL, NULL), 0);
    EXPECT_EQ(weft_tcp_write(b, "y", 1), 1); /* to one that has given up */
    EXPECT_EQ(read_one(b, WEFT_SEC), -ECONNRESET);
    EXPECT_EQ(weft_tcp_close(a), 0);
    EXPECT_EQ(weft_tcp_close(b), 0);

    /* The end of what one side has to say. */
    connect_pair(l, &a, &b);
    EXPECT_EQ(weft_sim_cut(NULL, NULL), 0);
    EXPECT_EQ(weft_tcp_shutdown(a, SHUT_WR), 0);
    began_ns = weft_now();
    EXPECT_EQ(read_one(a, 2 * DATA_LIMIT), -ETIMEDOUT);
    EXPECT(weft_now() - began_ns < DATA_LIMIT + WEFT_SEC);
    EXPECT_EQ(weft_sim_heal(NULL, NULL), 0);
    EXPECT_EQ(weft_tcp_close(a), 0);
    EXPECT_EQ(weft_tcp_close(b), 0);

    /* A reset that never comes is found out by the next who sends. */
    connect_pair(l, &a, &b);
    EXPECT_EQ(weft_sim_cut(NULL, NULL), 0);
    EXPECT_EQ(weft_tcp_set_linger(b, 0), 0);
    EXPECT_EQ(weft_tcp_close(b), 0);
    began_ns = weft_now();
    EXPECT_EQ(read_one(a, 2 * DATA_LIMIT), -ETIMEDOUT);
    EXPECT(weft_now() - began_ns >= 2 * DATA_LIMIT); /* the scope's */
    EXPECT_EQ(weft_sim_heal(NULL, NULL), 0);
    EXPECT_EQ(weft_tcp_write(a, "x", 1), 1);
    EXPECT_EQ(read_one(a, WEFT_SEC), -ECONNRESET);
    EXPECT_EQ(weft_tcp_close(a), 0);
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

/* Who gives up on what was sent first sends nothing more: bytes behind a gap are nobody's. */
static int give_up_in_the_middle(void *arg)
{
    (void)arg;
    weft_tcp_listener *l;
    weft_tcp *a, *b;
    EXPECT_EQ(weft_tcp_listen("127.0.0.1:80", &l), 0);
    connect_pair(l, &a, &b);
    EXPECT_EQ(weft_sim_cut(NULL, NULL), 0);
    EXPECT_EQ(weft_tcp_write(a, "1", 1), 1);
    EXPECT_EQ(weft_sleep(DATA_LIMIT / 2), 0);
    EXPECT_EQ(weft_tcp_write(a, "2", 1), 1);
    EXPECT_EQ(read_one(a, DATA_LIMIT), -ETIMEDOUT); /* "1" was never answered */
    EXPECT_EQ(weft_sim_heal(NULL, NULL), 0);
    EXPECT_EQ(read_one(b, DATA_LIMIT), -ETIMEDOUT); /* the scope's: not "2" */
    EXPECT_EQ(weft_tcp_close(a), 0);
    EXPECT_EQ(weft_tcp_close(b), 0);
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

static void bytes_behind_a_gap_never_arrive(struct test_env *env)
{
    (void)env;
    (void)simulate_slow(give_up_in_the_middle);
}

static void a_cut_meets_each_kind_of_segment(struct test_env *env)
{
    (void)env;
    EXPECT_EQ(simulate_slow(cut_while_talking).held, 3);
}

static int connect_from(const char *from, const char *to, weft_tcp **ret)
{
    weft_addr local, remote;
    weft_tcp_connect_options o = {.local = &local};
    if (weft_addr_parse(from, &local) < 0 || weft_addr_parse(to, &remote) < 0)
        return -EINVAL;
    return weft_tcp_connect_addr(&o, &remote, ret);
}

/* Two connections, held by a cut each: healing one lets its bytes through, in the order in which
 * they were sent, whether the cut had met them already or not. */
static int heal_one_of_two(void *arg)
{
    (void)arg;
    weft_tcp_listener *l;
    weft_tcp *a, *b, *a_peer, *b_peer;
    EXPECT_EQ(weft_sim_cut("fd00::2", "no address"), -EINVAL);
    EXPECT_EQ(weft_sim_cut("no address", NULL), -EINVAL);
    EXPECT_EQ(weft_tcp_listen("[::]:80", &l), 0);
    EXPECT_EQ(connect_from("[fd00::2]:0", "[fd00::9]:80", &a), 0);
    EXPECT_EQ(weft_tcp_accept(l, &a_peer), 0);
    EXPECT_EQ(connect_from("[fd00::3]:0", "[fd00::9]:80", &b), 0);
    EXPECT_EQ(weft_tcp_accept(l, &b_peer), 0);
    EXPECT_EQ(weft_sim_cut("fd00::2", "fd00::9"), 0);
    EXPECT_EQ(weft_sim_cut("fd00::3", "fd00::9"), 0);
    EXPECT_EQ(weft_tcp_write(a, "1", 1), 1);
    EXPECT_EQ(weft_tcp_write(b, "3", 1), 1);
    EXPECT_EQ(weft_sleep(DELAY + DELAY / 2), 0); /* both are held */
    EXPECT_EQ(weft_tcp_write(a, "2", 1), 1);     /* this one is on its way */
    EXPECT_EQ(weft_sim_heal("fd00::2", "fd00::9"), 0);
    EXPECT_EQ(read_one(a_peer, WEFT_SEC), '1');
    EXPECT_EQ(read_one(a_peer, WEFT_SEC), '2');
    EXPECT_EQ(read_one(b_peer, WEFT_SEC), -ETIMEDOUT);
    EXPECT_EQ(weft_sim_reset("fd00::2", NULL), 0); /* not the other */
    EXPECT_EQ(read_one(a, WEFT_SEC), -ECONNRESET);
    EXPECT_EQ(weft_sim_heal("fd00::3", "fd00::9"), 0);
    EXPECT_EQ(read_one(b_peer, WEFT_SEC), '3');
    EXPECT_EQ(weft_sim_cut("fd00::9", "fd00::3"), 0); /* stays to the end */
    EXPECT_EQ(weft_tcp_close(a), 0);
    EXPECT_EQ(weft_tcp_close(b), 0);
    EXPECT_EQ(weft_tcp_close(a_peer), 0);
    EXPECT_EQ(weft_tcp_close(b_peer), 0);
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

static void cuts_are_healed_one_by_one(struct test_env *env)
{
    (void)env;
    (void)simulate_slow(heal_one_of_two);
}

/* ---- handshakes that come to nothing ---- */

static int raw_connect(unsigned port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = weft__sys_socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(weft__sys_connect(fd, (struct sockaddr *)&in, sizeof(in)), -EINPROGRESS);
    return fd;
}

static int raw_listen(unsigned port, int backlog)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = weft__sys_socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(weft__sys_bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    EXPECT_EQ(weft__sys_listen(fd, backlog), 0);
    return fd;
}

static int leave_early(void *arg)
{
    (void)arg;
    char c;
    int l = raw_listen(80, 8);
    /* Gone before the SYN arrives, and before the answer does. */
    EXPECT_EQ(weft__sys_close(raw_connect(80)), 0);
    EXPECT_EQ(weft_sleep(WEFT_SEC), 0);
    int fd = raw_connect(80);
    EXPECT_EQ(weft_sleep(DELAY + DELAY / 2), 0);
    EXPECT_EQ(weft__sys_recv(fd, &c, 1, 0), -EAGAIN);
    EXPECT_EQ(weft__sys_send(fd, &c, 1, 0), -EAGAIN);
    EXPECT_EQ(weft__sys_close(fd), 0);
    EXPECT_EQ(weft_sleep(WEFT_SEC), 0);
    EXPECT_EQ(weft__sys_accept(l, NULL, NULL), -EAGAIN);

    /* The listener goes while the last part is on its way. */
    fd = raw_connect(80);
    EXPECT_EQ(weft_sleep(2 * DELAY + DELAY / 2), 0);
    EXPECT_EQ(weft__sys_close(l), 0);
    EXPECT_EQ(weft__sys_recv(fd, &c, 1, 0), -EAGAIN);
    EXPECT_EQ(weft_sleep(WEFT_SEC), 0);
    EXPECT_EQ(weft__sys_recv(fd, &c, 1, 0), -ECONNRESET);
    EXPECT_EQ(weft__sys_close(fd), 0);
    return 0;
}

static void either_side_may_leave_during_the_handshake(struct test_env *env)
{
    (void)env;
    EXPECT_EQ(simulate_slow(leave_early).connections, 1);
}

static int fill_the_queue(void *arg)
{
    (void)arg;
    int l = raw_listen(80, 0), fd[2] = {raw_connect(80), raw_connect(80)}; /* room for one */
    EXPECT_EQ(weft_sleep(3 * WEFT_SEC), 0);
    int first = weft__sys_accept(l, NULL, NULL);
    EXPECT(first >= 0);
    EXPECT_EQ(weft__sys_accept(l, NULL, NULL), -EAGAIN); /* it had no room */
    EXPECT_EQ(weft_sleep(3 * WEFT_SEC), 0);
    int second = weft__sys_accept(l, NULL, NULL); /* it tried again */
    EXPECT(second >= 0);
    EXPECT_EQ(weft__sys_close(first), 0);
    EXPECT_EQ(weft__sys_close(second), 0);
    EXPECT_EQ(weft__sys_close(fd[0]), 0);
    EXPECT_EQ(weft__sys_close(fd[1]), 0);
    EXPECT_EQ(weft__sys_close(l), 0);
    return 0;
}

static void a_full_queue_is_tried_again(struct test_env *env)
{
    (void)env;
    EXPECT_EQ(simulate_slow(fill_the_queue).connections, 2);
}

/* Nobody accepts: the clients that found no room are told so, as long as a SYN is tried. */
static int overfill_the_queue(void *arg)
{
    (void)arg;
    struct attempt a[4];
    weft_task *task[4];
    weft_tcp_listener *l;
    weft_tcp_listen_options o = {.backlog = 1};
    EXPECT_EQ(weft_tcp_listen_with(&o, "127.0.0.1:80", &l), 0);
    for (int i = 0; i < 4; i++) {
        a[i] = (struct attempt){.to = "127.0.0.1:80"};
        task[i] = SPAWN(attempt, &a[i]);
        EXPECT_EQ(weft_sleep(WEFT_SEC / 2), 0);
    }
    for (int i = 0; i < 4; i++) {
        EXPECT_EQ(test_join_kind(task[i]), WEFT_OUTCOME_VALUE);
        EXPECT_EQ(a[i].rc, i < 2 ? 0 : -ETIMEDOUT);
        EXPECT(i < 2 || (a[i].took_ns >= SYN_LIMIT && a[i].took_ns < SYN_LIMIT + WEFT_SEC));
        if (a[i].rc == 0)
            EXPECT_EQ(weft_tcp_close(a[i].conn), 0);
    }
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

/* Two whose SYNs found room for one: the other is not told, and forgotten after a minute. */
static int race_for_the_queue(void *arg)
{
    (void)arg;
    char c;
    int l = raw_listen(80, 0), fd[2] = {raw_connect(80), raw_connect(80)};
    EXPECT_EQ(weft_sleep(70 * WEFT_SEC), 0);
    int first = weft__sys_accept(l, NULL, NULL);
    EXPECT(first >= 0);
    EXPECT_EQ(weft_sleep(WEFT_SEC), 0);
    EXPECT_EQ(weft__sys_accept(l, NULL, NULL), -EAGAIN);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(weft__sys_send(fd[i], "x", 1, 0), 1);
    EXPECT_EQ(weft_sleep(WEFT_SEC), 0);
    EXPECT_EQ(weft__sys_recv(fd[0], &c, 1, 0) + weft__sys_recv(fd[1], &c, 1, 0),
              -EAGAIN - ECONNRESET); /* either of them */
    EXPECT_EQ(weft__sys_close(first), 0);
    EXPECT_EQ(weft__sys_close(fd[0]), 0);
    EXPECT_EQ(weft__sys_close(fd[1]), 0);
    EXPECT_EQ(weft__sys_close(l), 0);
    return 0;
}

static void clients_of_a_full_queue_give_up(struct test_env *env)
{
    (void)env;
    EXPECT_EQ(simulate_slow(overfill_the_queue).connections, 2);
    EXPECT_EQ(simulate_slow(race_for_the_queue).connections, 2);
}

/* ---- who is connected to ---- */

static int choose_listeners(void *arg)
{
    (void)arg;
    weft_tcp_listen_options shared = {.reuseport = true};
    weft_tcp_listener *l[5];
    weft_tcp *conn[40], *peer;
    int counts[2] = {0, 0};
    EXPECT_EQ(weft_tcp_listen_with(&shared, "0.0.0.0:80", &l[0]), 0);
    EXPECT_EQ(weft_tcp_listen_with(&shared, "0.0.0.0:80", &l[1]), 0);
    EXPECT_EQ(weft_tcp_listen("[::1:2:3]:80", &l[2]), 0); /* not for any address */
    EXPECT_EQ(weft_tcp_listen("[::1]:81", &l[3]), 0);
    EXPECT_EQ(weft_tcp_listen("[::1:2:4]:80", &l[4]), 0);
    EXPECT_EQ(weft_tcp_connect("[::1]:80", &conn[0]), -ECONNREFUSED);
    EXPECT_EQ(weft_tcp_connect("127.0.0.1:81", &conn[0]), -ECONNREFUSED);
    EXPECT_EQ(weft_tcp_connect("[::1:2:3]:80", &conn[0]), 0);
    EXPECT_EQ(weft_tcp_accept(l[2], &peer), 0);
    EXPECT_EQ(weft_tcp_close(peer), 0);
    EXPECT_EQ(weft_tcp_close(conn[0]), 0);
    for (int i = 0; i < 40; i++)
        EXPECT_EQ(weft_tcp_connect("10.0.0.7:80", &conn[i]), 0);
    EXPECT_EQ(weft_sleep(WEFT_SEC), 0);
    for (int i = 0; i < 2; i++)
        while (weft_tcp_try_accept(l[i], &peer) == 0) {
            counts[i]++;
            EXPECT_EQ(weft_tcp_close(peer), 0);
        }
    EXPECT_EQ(counts[0] + counts[1], 40);
    EXPECT(counts[0] > 5 && counts[1] > 5);
    for (int i = 0; i < 40; i++)
        EXPECT_EQ(weft_tcp_close(conn[i]), 0);
    for (int i = 0; i < 5; i++)
        EXPECT_EQ(weft_tcp_listener_close(l[i]), 0);
    return 0;
}

static void listeners_share_what_comes_to_their_address(struct test_env *env)
{
    (void)env;
    (void)simulate_slow(choose_listeners);
}

/* ---- ports, descriptors and threads ---- */

static int take_all_ports(void *arg)
{
    (void)arg;
    weft_tcp_listener *l;
    weft_tcp *conn[3];
    struct sockaddr_in in = {.sin_family = AF_INET};
    EXPECT_EQ(weft_tcp_listen("10.0.0.9:80", &l), 0);
    weft__sim_here()->port_count = 3;
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(weft_tcp_connect("10.0.0.9:80", &conn[i]), 0);
    EXPECT_EQ(weft_tcp_connect("10.0.0.9:80", &conn[0]), -EADDRNOTAVAIL);
    int fd = weft__sys_socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(weft__sys_bind(fd, (struct sockaddr *)&in, sizeof(in)), -EADDRINUSE);
    EXPECT_EQ(weft__sys_close(fd), 0);
    EXPECT_EQ(weft_tcp_close(conn[1]), 0);
    EXPECT_EQ(weft_tcp_connect("10.0.0.9:80", &conn[1]), 0);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(weft_tcp_close(conn[i]), 0);
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

static void ports_run_out(struct test_env *env)
{
    (void)env;
    (void)simulate_slow(take_all_ports);
}

static int open_all(void *arg)
{
    (void)arg;
    static int fd[70000];
    int count = 0, rc = 0;
    while (count < 70000 && (rc = weft__sys_eventfd_create()) >= 0)
        fd[count++] = rc;
    EXPECT_EQ(rc, -EMFILE);
    EXPECT_EQ(weft__sys_epoll_create(), -EMFILE);
    EXPECT_EQ(weft__sys_socket(AF_INET, SOCK_STREAM, 0), -EMFILE);
    EXPECT(count > 65000 && count <= 65536);
    /* The lowest that is free is the next one. */
    EXPECT_EQ(weft__sys_close(fd[500]), 0);
    EXPECT_EQ(weft__sys_close(fd[20]), 0);
    EXPECT_EQ(weft__sys_eventfd_create(), fd[20]);
    EXPECT_EQ(weft__sys_eventfd_create(), fd[500]);
    for (int i = 0; i < count; i++)
        EXPECT_EQ(weft__sys_close(fd[i]), 0);
    return 0;
}

static void descriptors_run_out(struct test_env *env)
{
    (void)env;
    (void)simulate_slow(open_all);
}

static void *nap(void *arg)
{
    weft_sim_compute(WEFT_SEC);
    return arg;
}

static unsigned long napping, joining;

static void *join_napping(void *arg)
{
    *(int *)arg = weft__sim_thread_join(napping);
    return NULL;
}

static int detach_what_is_joined(void *arg)
{
    (void)arg;
    int rc = 1;
    EXPECT_EQ(weft__sim_thread_create(nap, NULL, &napping), 0);
    EXPECT_EQ(weft__sim_thread_create(join_napping, &rc, &joining), 0);
    EXPECT_EQ(weft_sleep(10 * MS), 0);
    EXPECT_EQ(weft__sim_thread_join(napping), -EINVAL); /* another one does */
    EXPECT_EQ(weft__sim_thread_detach(napping), 0);
    EXPECT_EQ(weft__sim_thread_join(joining), 0);
    EXPECT_EQ(rc, -EINVAL); /* it was gone by then */
    return 0;
}

static void a_thread_that_is_detached_cannot_be_waited_for(struct test_env *env)
{
    (void)env;
    (void)simulate_slow(detach_what_is_joined);
}

/* ---- one at a time, and ends that come early ---- */

static int noop(void *arg)
{
    (void)arg;
    return 0;
}

static void *simulate_too(void *arg)
{
    weft_sim_config c;
    weft_sim_result r;
    weft_sim_config_init(&c, 1);
    *(int *)arg = weft_sim_run(&c, noop, NULL, &r);
    return NULL;
}

static int start_another(void *arg)
{
    (void)arg;
    pthread_t thread; /* a real one */
    int rc = 0;
    EXPECT_EQ(pthread_create(&thread, NULL, simulate_too, &rc), 0);
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    EXPECT_EQ(rc, -EBUSY);
    EXPECT_LOGGED("another thread simulates");
    return 0;
}

static void two_threads_cannot_simulate_at_once(struct test_env *env)
{
    (void)env;
    (void)simulate_slow(start_another);
}

static int fail_after_the_end(void *arg)
{
    (void)arg;
    weft_sim_fail("first");
    weft_sim_fail("second");
    EXPECT_EQ(weft_sleep(WEFT_SEC), -ECANCELED);
    weft_sim_fail("third");
    return 0;
}

static void limits_may_be_reached_before_anything_runs(struct test_env *env)
{
    weft_sim_config c;
    (void)env;
    weft_sim_config_init(&c, 1);
    c.steps_max = 0; /* before there is a runtime */
    EXPECT_EQ(simulate(&c, noop).end, WEFT_SIM_STEP_LIMIT);
    c.steps_max = 10000;
    EXPECT_EQ(simulate(&c, noop).end, WEFT_SIM_DONE);
    weft_sim_result r = simulate(&c, fail_after_the_end);
    EXPECT_EQ(r.end, WEFT_SIM_FAILED);
    EXPECT_EQ(strcmp(r.why, "first"), 0);
}

static int wait_with_a_socket(void *arg)
{
    weft_notify n = {0};
    weft_tcp_listener *l;
    (void)arg;
    EXPECT_EQ(weft_tcp_listen("127.0.0.1:80", &l), 0);
    EXPECT_EQ(weft_notify_wait(&n), -ECANCELED);
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

/* The runtime cannot tell: somebody might connect. The world knows. */
static void a_deadlock_with_open_sockets_is_told(struct test_env *env)
{
    weft_sim_config c;
    (void)env;
    weft_sim_config_init(&c, 1);
    EXPECT_EQ(simulate(&c, wait_with_a_socket).end, WEFT_SIM_DEADLOCK);
    EXPECT(test_log_took("nothing is under way that could wake one") >= 1);
    test_log_clear();
}

/* ---- memory ---- */

static struct weft__sys_table real;
static long until_failure = -1, alive;
static bool has_failed;

static bool fails_now(void)
{
    if (until_failure < 0 || until_failure-- != 0)
        return false;
    has_failed = true;
    errno = ENOMEM;
    return true;
}

static void *counted(void *p)
{
    alive += p != NULL;
    return p;
}

static void *failing_malloc(size_t bytes)
{
    return fails_now() ? NULL : counted(real.malloc(bytes));
}

static void *failing_calloc(size_t count, size_t bytes)
{
    return fails_now() ? NULL : counted(real.calloc(count, bytes));
}

static void *failing_aligned_alloc(size_t alignment, size_t bytes)
{
    return fails_now() ? NULL : counted(real.aligned_alloc(alignment, bytes));
}

static void counting_free(void *p)
{
    alive -= p != NULL;
    real.free(p);
}

static void *serve_one(void *arg)
{
    weft_tcp *conn = arg;
    char buf[64];
    ssize_t n;
    while ((n = weft_tcp_read(conn, buf, sizeof(buf))) > 0)
        if (weft_write_all(weft_tcp_stream(conn), buf, (size_t)n, NULL) < 0)
            break;
    (void)weft_tcp_close(conn); /* it may be lost already */
    return NULL;
}

static void *serve(void *arg)
{
    weft_tcp_listener *l = arg;
    for (weft_tcp *conn; weft_tcp_accept(l, &conn) == 0;)
        if (weft_spawn(serve_one, conn, NULL) < 0)
            (void)weft_tcp_close(conn);
    return NULL;
}

#define MESSAGE 300

/* An echo, or the error that kept it from being one. */
static int say(const char *to)
{
    weft_tcp *conn;
    char out[MESSAGE], in[MESSAGE] = "";
    memset(out, 'm', sizeof(out));
    int rc = weft_tcp_connect(to, &conn);
    if (rc < 0)
        return rc;
    (void)weft_tcp_set_send_buffer(conn, 4096); /* an option needs memory too */
    rc = weft_write_all(weft_tcp_stream(conn), out, MESSAGE, NULL);
    if (rc == 0)
        rc = weft_tcp_shutdown(conn, SHUT_WR);
    if (rc == 0)
        rc = weft_read_exact(weft_tcp_stream(conn), in, MESSAGE, NULL);
    if (rc == 0)
        EXPECT_EQ(memcmp(in, out, MESSAGE), 0);
    (void)weft_tcp_close(conn);
    return rc;
}

static int talk(void *arg)
{
    weft_tcp_listener *l;
    weft_task *server;
    (void)arg;
    int rc = weft_tcp_listen("127.0.0.1:80", &l);
    if (rc < 0)
        return rc;
    rc = weft_spawn(serve, l, &server);
    if (rc < 0) {
        (void)weft_tcp_listener_close(l);
        return rc;
    }
    for (int i = 0; i < 3; i++) {
        int cut = weft_sim_cut("127.0.0.1", NULL), said = 0;
        EXPECT(cut == 0 || (cut == -ENOMEM && has_failed));
        if (cut == 0)
            EXPECT_EQ(weft_sim_heal("127.0.0.1", NULL), 0);
        WEFT_TIMEOUT(3600 * WEFT_SEC) {
            said = say("127.0.0.1:80");
        }
        if (said < 0)
            rc = said;
    }
    /* Raw, since weft opens none after its start. */
    int fd = weft__sys_eventfd_create(), ep = weft__sys_epoll_create();
    EXPECT((fd >= 0 && ep >= 0) || has_failed);
    if (fd >= 0)
        EXPECT_EQ(weft__sys_close(fd), 0);
    if (ep >= 0)
        EXPECT_EQ(weft__sys_close(ep), 0);
    weft_outcome o;
    EXPECT_EQ(weft_tcp_listener_close(l), 0);
    int joined = weft_join(server, &o);
    EXPECT(joined == 0 || has_failed);
    if (joined == 0)
        weft_outcome_fini(&o);
    return rc;
}

/* One run with the n-th allocation failing; whether it had so many. */
static bool talk_without(long n)
{
    weft_sim_config c;
    weft_sim_result r = {0};
    weft_sim_config_init(&c, 21);
    c.time_max_ns = 48 * 3600 * WEFT_SEC;
    c.send_bytes = 200;
    c.recv_bytes = 40; /* much of it waits for room */
    c.short_ppm = 300000;
    long before = alive;
    has_failed = false;
    until_failure = n;
    int rc = weft_sim_run(&c, talk, NULL, &r);
    until_failure = -1;
    bool fits = rc == 0 ? r.end == WEFT_SIM_DONE && (has_failed || r.rc == 0)
                        : has_failed && (rc == -ENOMEM || rc == -EAGAIN);
    if (!fits || alive != before || r.fds_left != 0)
        test_record(__FILE__, __LINE__, "allocation %ld: %d, end %d, %d; %ld blocks, %u sockets", n,
                    rc, (int)r.end, r.rc, alive - before, r.fds_left);
    return has_failed;
}

/* Whoever has no memory is told, or its connection is lost; nothing hangs or leaks, and what
 * arrives is what was sent. */
static void without_memory_connections_are_lost(struct test_env *env)
{
    (void)env;
    real = weft__sys_table;
    weft__sys_table.malloc = failing_malloc;
    weft__sys_table.calloc = failing_calloc;
    weft__sys_table.aligned_alloc = failing_aligned_alloc;
    weft__sys_table.free = counting_free;
    (void)talk_without(-1); /* what stays for good is there */
    long step = test_scaled(100) == 100 ? 1 : 17, n = 0;
    while (talk_without(n) && n < 5000)
        n += step;
    EXPECT(n > 100 && n < 5000);
    (void)talk_without(-1);
    weft__sys_table.malloc = real.malloc;
    weft__sys_table.calloc = real.calloc;
    weft__sys_table.aligned_alloc = real.aligned_alloc;
    weft__sys_table.free = real.free;
    test_log_clear();
}

TEST_MAIN(PLAIN(a_cut_meets_each_part_of_a_handshake), PLAIN(a_cut_meets_each_kind_of_segment),
          PLAIN(bytes_behind_a_gap_never_arrive), PLAIN(cuts_are_healed_one_by_one),
          PLAIN(clients_of_a_full_queue_give_up), PLAIN(either_side_may_leave_during_the_handshake),
          PLAIN(a_full_queue_is_tried_again), PLAIN(listeners_share_what_comes_to_their_address),
          PLAIN(ports_run_out), PLAIN(descriptors_run_out),
          PLAIN(a_thread_that_is_detached_cannot_be_waited_for),
          PLAIN(two_threads_cannot_simulate_at_once),
          PLAIN(limits_may_be_reached_before_anything_runs),
          PLAIN(a_deadlock_with_open_sockets_is_told), PLAIN(without_memory_connections_are_lost))
