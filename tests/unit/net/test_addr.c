#include "net/addr.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

static void good_addresses_come_back_as_they_were(void **state)
{
    (void)state;
    static const struct {
        const char *text, *formatted;
        int family;
        unsigned port;
    } good[] = {
        {"127.0.0.1:8080", NULL, AF_INET, 8080},
        {"0.0.0.0:0", NULL, AF_INET, 0},
        {"255.255.255.255:65535", NULL, AF_INET, 65535},
        {"10.0.0.1:00080", "10.0.0.1:80", AF_INET, 80},
        {":80", "0.0.0.0:80", AF_INET, 80},
        {"[::1]:80", NULL, AF_INET6, 80},
        {"[::]:1", NULL, AF_INET6, 1},
        {"[2001:DB8:0:0:0:0:0:1]:443", "[2001:db8::1]:443", AF_INET6, 443},
        {"[::ffff:1.2.3.4]:5", NULL, AF_INET6, 5},
        {"[fe80::1%lo]:9", NULL, AF_INET6, 9},
        {"[fe80::1%1]:9", "[fe80::1%lo]:9", AF_INET6, 9},
        {"[fe80::1%4294967295]:9", NULL, AF_INET6, 9}, /* an interface that has gone */
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        weft_addr a;
        char text[WEFT_ADDR_TEXT_MAX];
        print_message("%s\n", good[i].text);
        assert_int_equal(weft_addr_parse(good[i].text, &a), 0);
        assert_int_equal(a.sa.any.sa_family, good[i].family);
        assert_int_equal(weft_addr_port(&a), good[i].port);
        int len = weft_addr_format(&a, text, sizeof(text));
        assert_string_equal(text, good[i].formatted ? good[i].formatted : good[i].text);
        assert_int_equal(len, strlen(text));
        weft_addr again;
        assert_int_equal(weft_addr_parse(text, &again), 0);
        assert_true(weft_addr_is_equal(&a, &again));
    }
}

static void bad_addresses_are_refused_and_nothing_is_written(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        ":",
        "::",
        "80",
        "127.0.0.1",
        "127.0.0.1:",
        ":x",
        ":-1",
        ":+1",
        ": 1",
        ":1 ",
        " :1",
        ":65536",
        ":000001",
        ":99999999999999999999",
        "127.0.0.1:0x50",
        "127.0.0:1",
        "127.0.0.1.5:1",
        "256.0.0.1:1",
        "01.2.3.4:1",
        "1.2.3.4:1\n",
        "localhost:1",
        "::1:80",
        "[::1]",
        "[::1]:",
        "[::1]80",
        "[]:80",
        "[::1:80",
        "::1]:80",
        "[127.0.0.1]:80",
        "[[::1]]:80",
        "[::1]:80:80",
        "[:::1]:1",
        "[12345::]:1",
        "1.2.3.4:5:6",
        "[::1] :1",
        "[no-address%no-such-if]:1",
        "[127.0.0.1%no-such-if]:1",
        "[%0]:1",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        weft_addr a, before;
        memset(&a, 0x5a, sizeof(a));
        before = a;
        print_message("\"%s\"\n", bad[i]);
        assert_int_equal(weft_addr_parse(bad[i], &a), -EINVAL);
        assert_memory_equal(&a, &before, sizeof(a));
    }
    weft_addr a;
    assert_int_equal(weft_addr_parse(NULL, &a), -EINVAL);
    assert_int_equal(weft_addr_parse(":1", NULL), -EINVAL);
    assert_int_equal(weft_addr_parse("[fe80::1%no-such-if]:1", &a), -ENODEV);
    assert_int_equal(weft_addr_parse("[fe80::1%]:1", &a), -ENODEV);
    assert_int_equal(weft_addr_parse("[fe80::1%0]:1", &a), -ENODEV);
    assert_int_equal(weft_addr_parse("[fe80::1%4294967296]:1", &a), -ENODEV);
    assert_int_equal(weft_addr_parse("[fe80::1%12345678901234567890]:1", &a), -ENODEV);
    /* No interface has a colon in its name; the kernel leaves out what comes after one. */
    assert_int_equal(weft_addr_parse("[fe80::1%lo:]:1", &a), -ENODEV);
    assert_int_equal(weft_addr_parse("[fe80::1%lo:80]:1", &a), -ENODEV);
}

static void a_host_of_any_length_is_taken_or_refused_whole(void **state)
{
    (void)state;
    char text[600];
    for (size_t len = 0; len < 500; len++) {
        char host[WEFT__HOST_MAX + 1];
        uint16_t port = 7;
        bool bracketed;
        memset(text, 'h', len);
        strcpy(text + len, ":80");
        int rc = weft__addr_split(text, host, &port, &bracketed);
        assert_int_equal(rc, len <= WEFT__HOST_MAX ? 0 : -EINVAL);
        if (rc == 0) {
            assert_int_equal(strlen(host), len);
            assert_int_equal(port, 80);
            assert_false(bracketed);
        } else {
            assert_int_equal(port, 7);
        }
    }
}

static void names(void **state)
{
    (void)state;
    char label[300];
    memset(label, 'a', sizeof(label));
    assert_true(weft__addr_name_is_valid("localhost"));
    assert_true(weft__addr_name_is_valid("a-b.c_d.example."));
    assert_true(weft__addr_name_is_valid("1"));
    assert_false(weft__addr_name_is_valid(""));
    assert_false(weft__addr_name_is_valid("."));
    assert_false(weft__addr_name_is_valid(".a"));
    assert_false(weft__addr_name_is_valid("a..b"));
    assert_false(weft__addr_name_is_valid("a b"));
    assert_false(weft__addr_name_is_valid("a/b"));
    assert_false(weft__addr_name_is_valid("\xc3\xa4"));
    label[63] = '\0';
    assert_true(weft__addr_name_is_valid(label));
    label[63] = 'a';
    label[64] = '\0';
    assert_false(weft__addr_name_is_valid(label));
}

static void from_bytes_and_sockaddr(void **state)
{
    (void)state;
    const unsigned char v4[4] = {192, 0, 2, 1};
    const unsigned char v6[16] = {0x20, 1, 0x0d, 0xb8, [15] = 7};
    weft_addr a, b;
    char text[WEFT_ADDR_TEXT_MAX];
    assert_int_equal(weft_addr_from_ip(v4, 4, 99, &a), 0);
    weft_addr_format(&a, text, sizeof(text));
    assert_string_equal(text, "192.0.2.1:99");
    assert_int_equal(weft_addr_from_ip(v6, 16, 99, &b), 0);
    weft_addr_format(&b, text, sizeof(text));
    assert_string_equal(text, "[2001:db8::7]:99");
    assert_false(weft_addr_is_equal(&a, &b));
    assert_int_equal(weft_addr_from_ip(v4, 5, 99, &a), -EINVAL);
    assert_int_equal(weft_addr_from_ip(NULL, 4, 99, &a), -EINVAL);

    assert_int_equal(weft_addr_from_sockaddr(&b.sa.any, b.len, &a), 0);
    assert_true(weft_addr_is_equal(&a, &b));
    weft_addr_set_port(&a, 100);
    assert_int_equal(weft_addr_port(&a), 100);
    assert_false(weft_addr_is_equal(&a, &b));
    assert_int_equal(weft_addr_from_sockaddr(&b.sa.any, b.len - 1, &a), -EINVAL);
    assert_int_equal(weft_addr_from_sockaddr(&b.sa.any, 1, &a), -EINVAL);
    const struct sockaddr local = {.sa_family = AF_UNIX};
    assert_int_equal(weft_addr_from_sockaddr(&local, sizeof(local), &a), -EAFNOSUPPORT);
}

static void a_sockaddr_in_place(void **state)
{
    (void)state;
    weft_addr a, b;
    assert_int_equal(weft_addr_parse("[2001:db8::7]:99", &a), 0);
    b = a;
    assert_int_equal(weft_addr_from_sockaddr(&a.sa.any, a.len, &a), 0);
    assert_true(weft_addr_is_equal(&a, &b));
}

/* What the interface with index 9 is called; NULL: there is but the loopback. In the place of
 * libc's. */
static const char *interface_9;

#pragma GCC diagnostic push
#ifndef __clang__
#pragma GCC diagnostic ignored "-Warray-parameter" /* glibc says char name[], musl char *name */
#endif
char *if_indextoname(unsigned index, char *name)
{
    if (interface_9 == NULL)
        return index == 1 ? strcpy(name, "lo") : NULL;
    return index == 9 ? strcpy(name, interface_9) : NULL;
}
#pragma GCC diagnostic pop

/* Linux takes any name without a slash, a colon or a space. */
static void interfaces_of_any_name_are_read_as_they_were_written(void **state)
{
    (void)state;
    static const char *const names[] = {"7", "4294967296", "a]", "]:80", "9"};
    weft_addr a, again;
    assert_int_equal(weft_addr_parse("[fe80::1%9]:80", &a), 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char text[WEFT_ADDR_TEXT_MAX];
        interface_9 = names[i];
        weft_addr_format(&a, text, sizeof(text));
        print_message("%s: %s\n", names[i], text);
        assert_int_equal(weft_addr_parse(text, &again), 0);
        assert_true(weft_addr_is_equal(&a, &again));
    }
    interface_9 = NULL;
}

static void formatting_never_writes_past_the_end(void **state)
{
    (void)state;
    weft_addr a;
    assert_int_equal(weft_addr_parse("[2001:db8:1111:2222:3333:4444:5555:6666]:65535", &a), 0);
    int need = weft_addr_format(&a, NULL, 0);
    for (size_t cap = 1; cap < 60; cap++) {
        char buf[64];
        memset(buf, '#', sizeof(buf));
        assert_int_equal(weft_addr_format(&a, buf, cap), need);
        assert_int_equal(buf[cap], '#');
        assert_true(strlen(buf) < cap);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_addresses_come_back_as_they_were),
        cmocka_unit_test(bad_addresses_are_refused_and_nothing_is_written),
        cmocka_unit_test(a_host_of_any_length_is_taken_or_refused_whole),
        cmocka_unit_test(names),
        cmocka_unit_test(from_bytes_and_sockaddr),
        cmocka_unit_test(a_sockaddr_in_place),
        cmocka_unit_test(interfaces_of_any_name_are_read_as_they_were_written),
        cmocka_unit_test(formatting_never_writes_past_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
