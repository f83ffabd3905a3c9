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
          PLAIN(bad_settings_are_refused))
