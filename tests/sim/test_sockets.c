/*
 * Sockets of the simulation: what connections and listeners ask of a kernel is answered as Linux
 * answers it, so that a server that runs here runs there.
 */
/* ctest: parallel */
#include "harness.h"

#include <weft/weft.h>

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

/* Inside a simulation a check that fails ends it, with the line in `why`. */
#define SIM_EQ(a, b)                                                                               \
    do {                                                                                           \
        if (!weft_sim_check((a) == (b)))                                                           \
            return 1;                                                                              \
    } while (0)

static void run(int (*body)(void *arg))
{
    weft_sim_config c;
    weft_sim_result r;
    weft_sim_config_init(&c, 3);
    CHECK_EQ(weft_sim_run(&c, body, NULL, &r), 0);
    if (r.end != WEFT_SIM_DONE || r.rc != 0 || r.fds_left != 0)
        test_record(__FILE__, __LINE__, "end %d, rc %d, %u descriptors: %s", (int)r.end, r.rc,
                    r.fds_left, r.why);
}

/* Both ends of a connection to addr. */
static int pair(const char *addr, weft_tcp **ret_a, weft_tcp **ret_b, weft_tcp_listener **ret_l)
{
    weft_addr at;
    char text[WEFT_ADDR_TEXT_MAX];
    SIM_EQ(weft_tcp_listen(addr, ret_l), 0);
    SIM_EQ(weft_tcp_listener_local_addr(*ret_l, &at), 0);
    SIM_EQ(weft_addr_format(&at, text, sizeof(text)) > 0, true);
    SIM_EQ(weft_tcp_connect(text, ret_a), 0);
    SIM_EQ(weft_tcp_accept(*ret_l, ret_b), 0);
    return 0;
}

static int bind_addresses(void *arg)
{
    (void)arg;
    weft_tcp_listener *l, *other = NULL;
    weft_tcp_listen_options shared = {.reuseport = true}, alone = {.no_reuseaddr = true};
    SIM_EQ(weft_tcp_listen("10.0.0.1:80", &l), 0);
    SIM_EQ(weft_tcp_listen("10.0.0.1:80", &other), -EADDRINUSE);
    SIM_EQ(weft_tcp_listen_with(&shared, "10.0.0.1:80", &other), -EADDRINUSE); /* one alone */
    SIM_EQ(weft_tcp_listen("0.0.0.0:80", &other), -EADDRINUSE);                /* it is in there */
    SIM_EQ(weft_tcp_listen("10.0.0.2:80", &other), 0);                         /* another one */
    SIM_EQ(weft_tcp_listener_close(other), 0);
    SIM_EQ(weft_tcp_listener_close(l), 0);
    SIM_EQ(weft_tcp_listen_with(&alone, "0.0.0.0:81", &l), 0);
    SIM_EQ(weft_tcp_listen("10.0.0.1:81", &other), -EADDRINUSE);
    SIM_EQ(weft_tcp_listener_close(l), 0);
    SIM_EQ(weft_tcp_listen_with(&shared, "10.0.0.1:80", &l), 0);
    SIM_EQ(weft_tcp_listen_with(&shared, "10.0.0.1:80", &other), 0);
    SIM_EQ(weft_tcp_listener_close(l), 0);
    SIM_EQ(weft_tcp_listener_close(other), 0);
    return 0;
}

static int set_options(void *arg)
{
    (void)arg;
    weft_tcp *a, *b;
    weft_tcp_listener *l;
    bool on = true;
    int value = 0, error = 1;
    uint64_t linger = 0;
    socklen_t len = sizeof(value);
    SIM_EQ(pair("10.0.0.1:80", &a, &b, &l), 0);
    SIM_EQ(weft_tcp_nodelay(a, &on), 0);
    SIM_EQ(on, false);
    SIM_EQ(weft_tcp_set_nodelay(a, true), 0);
    SIM_EQ(weft_tcp_set_nodelay(a, true), 0); /* in place of what was set */
    SIM_EQ(weft_tcp_nodelay(a, &on), 0);
    SIM_EQ(on, true);
    SIM_EQ(weft_tcp_nodelay(b, &on), 0); /* the other's is its own */
    SIM_EQ(on, false);
    SIM_EQ(weft_tcp_set_keepalive(a, true, WEFT_SEC, 2 * WEFT_SEC, 3), 0);
    SIM_EQ(weft_tcp_getsockopt(a, IPPROTO_TCP, TCP_KEEPCNT, &value, &len), 0);
    SIM_EQ(value, 3);
    SIM_EQ(weft_tcp_set_send_buffer(a, 20000), 0);
    SIM_EQ(weft_tcp_send_buffer(a, &value), 0);
    SIM_EQ(value, 40000); /* the kernel doubles */
    SIM_EQ(weft_tcp_set_recv_buffer(a, 30000), 0);
    SIM_EQ(weft_tcp_recv_buffer(a, &value), 0);
    SIM_EQ(value, 60000);
    SIM_EQ(weft_tcp_linger(a, &linger), 0);
    SIM_EQ(linger, WEFT_NEVER);
    SIM_EQ(weft_tcp_set_linger(a, 5 * WEFT_SEC), 0);
    SIM_EQ(weft_tcp_linger(a, &linger), 0);
    SIM_EQ(linger, 5 * WEFT_SEC);
    SIM_EQ(weft_tcp_take_error(a, &error), 0);
    SIM_EQ(error, 0);
    SIM_EQ(weft_tcp_getsockopt(a, SOL_SOCKET, SO_TYPE, &value, &len), 0);
    SIM_EQ(value, SOCK_STREAM);
    SIM_EQ(weft_tcp_getsockopt(a, SOL_SOCKET, SO_ACCEPTCONN, &value, &len), 0);
    SIM_EQ(value, 0);
    SIM_EQ(weft_tcp_listener_getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &value, &len), 0);
    SIM_EQ(value, 1);
    SIM_EQ(weft_tcp_close(a), 0);
    SIM_EQ(weft_tcp_close(b), 0);
    SIM_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

static int peek_and_shut(void *arg)
{
    (void)arg;
    weft_tcp *a, *b;
    weft_tcp_listener *l;
    char text[16] = "";
    SIM_EQ(pair("[::1]:80", &a, &b, &l), 0);
    SIM_EQ(weft_tcp_write(a, "hello", 5), 5);
    SIM_EQ(weft_tcp_peek(b, text, 3), 3);
    SIM_EQ(memcmp(text, "hel", 3), 0);
    struct iovec in[3] = {{text, 2}, {text + 2, 0}, {text + 2, 10}};
    SIM_EQ(weft_tcp_readv(b, in, 3), 5); /* all is still there */
    SIM_EQ(memcmp(text, "hello", 5), 0);
    SIM_EQ(weft_tcp_try_read(b, text, 1), -EAGAIN);
    SIM_EQ(weft_tcp_shutdown(a, SHUT_WR), 0);
    SIM_EQ(weft_tcp_shutdown(a, SHUT_WR), 0); /* again */
    SIM_EQ(weft_tcp_write(a, "x", 1), -EPIPE);
    SIM_EQ(weft_tcp_read(b, text, 1), 0);
    SIM_EQ(weft_tcp_write(b, "back", 4), 4);
    SIM_EQ(weft_tcp_read(a, text, 4), 4);
    SIM_EQ(weft_tcp_shutdown(a, SHUT_RD), 0);
    SIM_EQ(weft_tcp_read(a, text, 4), 0);
    SIM_EQ(weft_tcp_shutdown(b, SHUT_RDWR), 0);
    SIM_EQ(weft_tcp_close(a), 0);
    SIM_EQ(weft_tcp_close(b), 0);
    SIM_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

/* A linger of zero resets, as does what is left unread. */
static int reset_by_close(void *arg)
{
    (void)arg;
    weft_tcp *a, *b;
    weft_tcp_listener *l;
    char c;
    SIM_EQ(pair("10.0.0.1:80", &a, &b, &l), 0);
    SIM_EQ(weft_tcp_set_linger(a, 0), 0);
    SIM_EQ(weft_tcp_close(a), 0);
    SIM_EQ(weft_tcp_read(b, &c, 1), -ECONNRESET);
    SIM_EQ(weft_tcp_close(b), 0);
    SIM_EQ(weft_tcp_connect("10.0.0.9:80", &a), -ECONNREFUSED); /* nobody listens */
    SIM_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

static void addresses_are_bound_as_on_linux(struct test_env *env)
{
    (void)env;
    run(bind_addresses);
}

static void options_round_trip(struct test_env *env)
{
    (void)env;
    run(set_options);
}

static void peeking_and_shutting_down(struct test_env *env)
{
    (void)env;
    run(peek_and_shut);
}

static void a_linger_of_zero_resets(struct test_env *env)
{
    (void)env;
    run(reset_by_close);
}

/* The address of a connection as text, its port left out. */
static const char *host_of(weft_tcp *conn, int (*get)(weft_tcp *conn, weft_addr *ret))
{
    static char text[WEFT_ADDR_TEXT_MAX];
    weft_addr addr;
    if (get(conn, &addr) < 0 || weft_addr_format(&addr, text, sizeof(text)) < 0)
        return "?";
    *strrchr(text, ':') = '\0';
    return text;
}

/* [::] takes IPv4 too, unless told otherwise. */
static int listen_on_both(void *arg)
{
    (void)arg;
    weft_tcp *a, *b;
    weft_tcp_listener *l, *other;
    weft_tcp_listen_options v6only = {.v6only = true};
    SIM_EQ(pair("[::]:80", &a, &b, &l), 0);
    SIM_EQ(weft_tcp_close(a), 0);
    SIM_EQ(weft_tcp_close(b), 0);
    SIM_EQ(weft_tcp_connect("127.0.0.1:80", &a), 0);
    SIM_EQ(weft_tcp_accept(l, &b), 0);
    SIM_EQ(strcmp(host_of(a, weft_tcp_peer_addr), "127.0.0.1"), 0);
    SIM_EQ(strcmp(host_of(b, weft_tcp_peer_addr), "[::ffff:127.0.0.1]"), 0);
    SIM_EQ(strcmp(host_of(b, weft_tcp_local_addr), "[::ffff:127.0.0.1]"), 0);
    SIM_EQ(weft_tcp_listen("0.0.0.0:80", &other), -EADDRINUSE);
    SIM_EQ(weft_tcp_listen("10.0.0.5:80", &other), -EADDRINUSE);
    SIM_EQ(weft_tcp_close(a), 0);
    SIM_EQ(weft_tcp_close(b), 0);
    SIM_EQ(weft_tcp_listener_close(l), 0);

    SIM_EQ(weft_tcp_listen_with(&v6only, "[::]:80", &l), 0);
    SIM_EQ(weft_tcp_connect("127.0.0.1:80", &a), -ECONNREFUSED);
    SIM_EQ(weft_tcp_listen("0.0.0.0:80", &other), 0);
    SIM_EQ(weft_tcp_connect("127.0.0.1:80", &a), 0);
    SIM_EQ(weft_tcp_accept(other, &b), 0);
    SIM_EQ(weft_tcp_close(a), 0);
    SIM_EQ(weft_tcp_close(b), 0);
    SIM_EQ(weft_tcp_listener_close(l), 0);
    SIM_EQ(weft_tcp_listener_close(other), 0);
    return 0;
}

/* Who binds to a port alone speaks from the address that leads there. */
static int connect_from_a_port(void *arg)
{
    (void)arg;
    weft_addr local, remote;
    weft_tcp_connect_options o = {.local = &local};
    weft_tcp *conn;
    weft_tcp_listener *l;
    SIM_EQ(weft_tcp_listen("10.0.0.9:80", &l), 0);
    SIM_EQ(weft_addr_parse("0.0.0.0:5000", &local), 0);
    SIM_EQ(weft_addr_parse("10.0.0.9:80", &remote), 0);
    SIM_EQ(weft_tcp_connect_addr(&o, &remote, &conn), 0);
    SIM_EQ(strcmp(host_of(conn, weft_tcp_local_addr), "10.0.0.1"), 0);
    SIM_EQ(weft_tcp_local_addr(conn, &local), 0);
    SIM_EQ(weft_addr_port(&local), 5000);
    SIM_EQ(weft_sim_reset("10.0.0.1", NULL), 0);
    char c;
    SIM_EQ(weft_tcp_read(conn, &c, 1), -ECONNRESET);
    SIM_EQ(weft_tcp_close(conn), 0);
    SIM_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

static int inherit_options(void *arg)
{
    (void)arg;
    weft_tcp *a, *b;
    weft_tcp_listener *l;
    bool on = false;
    int value = 1;
    char name[16];
    SIM_EQ(weft_tcp_listen("10.0.0.1:80", &l), 0);
    SIM_EQ(weft_tcp_listener_setsockopt(l, IPPROTO_TCP, TCP_NODELAY, &value, sizeof(value)), 0);
    SIM_EQ(weft_tcp_connect("10.0.0.1:80", &a), 0);
    SIM_EQ(weft_tcp_accept(l, &b), 0);
    SIM_EQ(weft_tcp_nodelay(b, &on), 0);
    SIM_EQ(on, true);
    SIM_EQ(weft_tcp_set_nodelay(b, false), 0); /* its own from now on */
    SIM_EQ(weft_tcp_listener_getsockopt(l, IPPROTO_TCP, TCP_NODELAY, &value,
                                        &(socklen_t){sizeof(value)}),
           0);
    SIM_EQ(value, 1);
    /* Buffers have a size before anybody sets it. */
    SIM_EQ(weft_tcp_send_buffer(a, &value), 0);
    SIM_EQ(value, 65536);
    SIM_EQ(weft_tcp_recv_buffer(a, &value), 0);
    SIM_EQ(value, 65536);
    /* Names are shorter than numbers. */
    SIM_EQ(weft_tcp_set_bind_device(a, "lo"), 0);
    SIM_EQ(weft_tcp_bind_device(a, name, sizeof(name)), 0);
    SIM_EQ(strcmp(name, "lo"), 0);
    SIM_EQ(weft_tcp_set_bind_device(a, ""), 0);
    SIM_EQ(weft_tcp_bind_device(a, name, sizeof(name)), 0);
    SIM_EQ(strcmp(name, ""), 0);
    SIM_EQ(weft_tcp_close(a), 0);
    SIM_EQ(weft_tcp_close(b), 0);
    SIM_EQ(weft_tcp_listener_close(l), 0);
    return 0;
}

static void any_ipv6_address_is_any_ipv4_one_too(struct test_env *env)
{
    (void)env;
    run(listen_on_both);
}

static void a_port_without_an_address_gets_one(struct test_env *env)
{
    (void)env;
    run(connect_from_a_port);
}

static void connections_have_the_options_of_their_listener(struct test_env *env)
{
    (void)env;
    run(inherit_options);
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void bad_settings_are_refused(struct test_env *env)
{
    (void)env;
    weft_sim_config c;
    weft_sim_result r;
#define REFUSED(setting, value)                                                                    \
    do {                                                                                           \
        weft_sim_config_init(&c, 1);                                                               \
        c.setting = (value);                                                                       \
        test_log_clear();                                                                          \
        EXPECT_EQ(weft_sim_run(&c, nothing, NULL, &r), -EINVAL);                                   \
        EXPECT_LOGGED("weft_sim_run");                                                             \
    } while (0)
    REFUSED(workers, 65);
    REFUSED(latency_max_ns, 3601 * WEFT_SEC);
    REFUSED(stall_max_ns, 3601 * WEFT_SEC);
    REFUSED(send_bytes, 0);
    REFUSED(recv_bytes, 0);
    REFUSED(accept_exhaust_ppm, 1000000);
    REFUSED(reserved[2], 1);
}

TEST_MAIN(PLAIN(addresses_are_bound_as_on_linux), PLAIN(options_round_trip),
          PLAIN(peeking_and_shutting_down), PLAIN(a_linger_of_zero_resets),
          PLAIN(any_ipv6_address_is_any_ipv4_one_too), PLAIN(a_port_without_an_address_gets_one),
          PLAIN(connections_have_the_options_of_their_listener), PLAIN(bad_settings_are_refused))
