/* Addresses and look-ups: SK-02 of BEHAVIOURS, and input that does not parse. */
#include "harness.h"
#include "socks.h"

#include <weft/net.h>

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static void sk_02_a_literal_is_itself(struct test_env *env)
{
    (void)env;
    static const char *const literals[] = {"127.0.0.1:80", "0.0.0.0:0", "255.255.255.255:65535",
                                           "[::1]:443", "[2001:db8::5]:1"};
    for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) {
        weft_addr a[2];
        char text[WEFT_ADDR_TEXT_MAX];
        CHECK_EQ(weft_lookup(literals[i], a, 2), 1);
        CHECK(weft_addr_format(&a[0], text, sizeof(text)) < WEFT_ADDR_TEXT_MAX);
        CHECK(strcmp(text, literals[i]) == 0);
    }
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(env->handle, &m), 0);
    CHECK_EQ(m.blocking_threads, 0); /* nobody was asked */
}

static void sk_02_a_name_is_looked_up_off_the_workers(struct test_env *env)
{
    weft_addr a[8];
    int count = weft_lookup("localhost:7777", a, 8);
    CHECK(count >= 1);
    for (int i = 0; i < count; i++)
        CHECK_EQ(weft_addr_port(&a[i]), 7777);
    weft_metrics m;
    CHECK_EQ(weft_metrics_get(env->handle, &m), 0);
    CHECK_EQ(m.blocking_threads, 1);
    CHECK_EQ(weft_lookup("localhost:7777", a, 1), 1); /* no more than there is room for */
    int rc = weft_lookup("no-such-name.invalid:1", a, 8);
    CHECK(rc == -ENOENT || rc == -EHOSTUNREACH);
}

static void sk_02_what_does_not_parse_is_refused(struct test_env *env)
{
    (void)env;
    static const char *const bad[] = {"",
                                      ":",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:-1",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:80 ",
                                      "::1:80",
                                      "[::1]80",
                                      "[127.0.0.1]:80",
                                      "[localhost]:80",
                                      "a b:80",
                                      "a..b:80",
                                      "host:http",
                                      "1.2.3.4:5:6"};
    weft_addr a;
    weft_tcp *conn;
    weft_tcp_listener *l;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        test_log_clear();
        CHECK_EQ(weft_lookup(bad[i], &a, 1), -EINVAL);
        EXPECT_LOGGED("weft_lookup");
        CHECK_EQ(weft_tcp_connect(bad[i], &conn), -EINVAL);
        EXPECT_LOGGED("weft_tcp_connect");
        CHECK_EQ(weft_tcp_listen(bad[i], &l), -EINVAL);
        EXPECT_LOGGED("weft_tcp_listen");
    }
    CHECK_EQ(weft_lookup("[fe80::1%no-such-if]:1", &a, 1), -ENODEV);
    CHECK_EQ(weft_tcp_connect("[fe80::1%no-such-if]:1", &conn), -ENODEV);
    CHECK_EQ(weft_tcp_listen("[fe80::1%no-such-if]:1", &l), -ENODEV);
    CHECK_EQ(weft_lookup(NULL, &a, 1), -EINVAL);
    CHECK_EQ(weft_lookup("127.0.0.1:1", NULL, 1), -EINVAL);
    CHECK_EQ(weft_tcp_connect(NULL, &conn), -EINVAL);
    CHECK_EQ(weft_tcp_connect("127.0.0.1:1", NULL), -EINVAL);
    CHECK_EQ(weft_tcp_listen(NULL, &l), -EINVAL);
    CHECK_EQ(weft_tcp_listen("127.0.0.1:1", NULL), -EINVAL);
    CHECK_EQ(weft_tcp_listen_with(&(weft_tcp_listen_options){.backlog = -1}, "127.0.0.1:0", &l),
             -EINVAL);
    CHECK_EQ(weft_tcp_listen_with(&(weft_tcp_listen_options){.bind_device = "no-such-if"},
                                  "127.0.0.1:0", &l) < 0,
             true);
}

static void *look_up(void *arg)
{
    weft_addr a;
    (void)arg;
    return (void *)(intptr_t)weft_lookup("localhost:1", &a, 1);
}

/* A pool of one thread, and that one busy: the look-up is aborted before it starts. */
static void *block_until(void *arg)
{
    while (!atomic_load((atomic_bool *)arg))
        test_pause();
    return NULL;
}

static void sk_02_an_aborted_look_up_leaves_nothing(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(200); i++) { /* at random points of its course */
        weft_task *t = SPAWN(look_up, NULL);
        if (i % 3 != 0)
            (void)weft_yield();
        if (i % 3 == 2)
            (void)weft_sleep(i * WEFT_US);
        weft_abort(t);
        weft_outcome o;
        CHECK_EQ(weft_join(t, &o), 0);
        if (o.kind == WEFT_OUTCOME_VALUE)
            CHECK((intptr_t)o.value == 1 || (intptr_t)o.value == -ECANCELED);
        weft_outcome_fini(&o);
    }
    WEFT_TIMEOUT(WEFT_US) {
        weft_addr a;
        int rc = weft_lookup("localhost:1", &a, 1);
        CHECK(rc == 1 || rc == -ETIMEDOUT);
    }
}

static void sk_02_a_look_up_that_never_starts(struct test_env *env)
{
    (void)env;
    weft_config c;
    weft_runtime *rt;
    weft_config_init(&c);
    c.workers = 1;
    c.blocking_threads_max = 1;
    CHECK_EQ(weft_runtime_create(&c, &rt), 0);
    weft_handle *h = weft_runtime_handle(rt);
    atomic_bool go = false;
    weft_spawn_options o = {.runtime = h};
    weft_task *blocker;
    CHECK_EQ(weft_spawn_blocking_with(&o, block_until, &go, &blocker), 0);
    weft_task *t = SPAWN_ON(h, look_up, NULL);
    CHECK_SOON(socks_is_waiting(h, "join", 1));
    CHECK_EQ(weft_abort(t), 0);
    CHECK_EQ(test_join_kind_polling(t), WEFT_OUTCOME_CANCELLED);
    atomic_store(&go, true);
    weft_task_detach(blocker);
    weft_handle_unref(h);
    CHECK_EQ(weft_runtime_destroy(rt), 0);
}

TEST_MAIN(IN_TASK(sk_02_a_literal_is_itself), IN_TASK(sk_02_a_name_is_looked_up_off_the_workers),
          IN_TASK(sk_02_what_does_not_parse_is_refused),
          IN_TASK(sk_02_an_aborted_look_up_leaves_nothing),
          PLAIN(sk_02_a_look_up_that_never_starts))
