/*
 * Addresses as text. What is taken for an address getaddrinfo() takes for the same one; what is
 * plainly one is taken; and an address that was written is read again.
 */
#include "fuzz.h"

#include "net/addr.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX 320

/* "127.0.0.1" and nothing shorter, longer, octal or hexadecimal, which getaddrinfo() takes too. */
static bool is_dotted_quad(const char *s)
{
    for (unsigned part = 0; part < 4; part++) {
        unsigned n = 0, digits = 0;
        for (; *s >= '0' && *s <= '9' && digits < 4; s++, digits++)
            n = n * 10 + (unsigned)(*s - '0');
        if (digits == 0 || digits > 3 || n > 255 || (digits > 1 && s[-(int)digits] == '0'))
            return false;
        if (*s++ != (part < 3 ? '.' : '\0'))
            return false;
    }
    return true;
}

/* The reference: "host:port" or "[host]:port" taken apart from the end. False when it is
 * neither. */
static bool split(const char *text, char *ret_host, unsigned *ret_port, bool *ret_bracketed)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        return false;
    size_t digits = strspn(colon + 1, "0123456789");
    if (digits == 0 || digits > 5 || colon[1 + digits] != '\0' ||
        sscanf(colon + 1, "%u", ret_port) != 1 || *ret_port > 65535)
        return false;
    size_t len = (size_t)(colon - text);
    *ret_bracketed = text[0] == '[';
    if (*ret_bracketed) {
        if (len < 3 || text[len - 1] != ']' || memchr(text, ']', len - 1) != NULL)
            return false;
        text++;
        len -= 2;
    } else if (memchr(text, ':', len) != NULL) {
        return false;
    }
    if (len > WEFT__HOST_MAX)
        return false;
    memcpy(ret_host, text, len);
    ret_host[len] = '\0';
    return true;
}

/* What libc makes of a host, without asking anybody. */
static bool libc_address(const char *host, int family, weft_addr *ret)
{
    const struct addrinfo hints = {
        .ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *list;
    if (getaddrinfo(host, NULL, &hints, &list) != 0)
        return false;
    FUZZ_CHECK(weft_addr_from_sockaddr(list->ai_addr, list->ai_addrlen, ret) == 0);
    freeaddrinfo(list);
    return true;
}

static void check_round_trip(const weft_addr *a)
{
    char text[WEFT_ADDR_TEXT_MAX], part[WEFT_ADDR_TEXT_MAX];
    weft_addr again;
    int len = weft_addr_format(a, text, sizeof(text));
    FUZZ_CHECK(len > 0 && (size_t)len == strlen(text));
    FUZZ_CHECK(weft_addr_parse(text, &again) == 0 && weft_addr_is_equal(a, &again));
    FUZZ_CHECK(again.len == a->len && weft_addr_port(&again) == weft_addr_port(a));
    for (size_t cap = 0; cap < (size_t)len; cap += 7) {
        FUZZ_CHECK(weft_addr_format(a, part, cap) == len);
        FUZZ_CHECK(cap == 0 || (strlen(part) == cap - 1 && memcmp(part, text, cap - 1) == 0));
    }
}

static void parse(const char *text)
{
    char host[TEXT_MAX], part[WEFT__HOST_MAX + 1] = "";
    unsigned port = 0;
    uint16_t part_port;
    bool bracketed = false, part_bracketed;
    bool is_form = split(text, host, &port, &bracketed);
    FUZZ_CHECK((weft__addr_split(text, part, &part_port, &part_bracketed) == 0) == is_form);
    if (is_form)
        FUZZ_CHECK(strcmp(host, part) == 0 && port == part_port && bracketed == part_bracketed);

    weft_addr a, b;
    int rc = weft_addr_parse(text, &a);
    FUZZ_CHECK(rc == 0 || rc == -EINVAL || (rc == -ENODEV && is_form && strchr(host, '%')));
    if (rc == 0) {
        FUZZ_CHECK(is_form && weft_addr_port(&a) == port);
        FUZZ_CHECK(a.sa.any.sa_family == (bracketed ? AF_INET6 : AF_INET));
        check_round_trip(&a);
    }
    if (!is_form)
        return;
    if (host[0] == '\0') {
        FUZZ_CHECK(rc == 0 && a.sa.v4.sin_addr.s_addr == htonl(INADDR_ANY));
        return;
    }
    /* libc keeps scopes to some addresses, and takes the interface's name for some. */
    char *percent = strchr(host, '%');
    if (percent != NULL && bracketed)
        *percent = '\0';
    if (libc_address(host, bracketed ? AF_INET6 : AF_INET, &b)) {
        if (bracketed ? percent == NULL : is_dotted_quad(host))
            FUZZ_CHECK(rc == 0);
        weft_addr_set_port(&b, (uint16_t)port);
        if (bracketed && rc == 0)
            b.sa.v6.sin6_scope_id = a.sa.v6.sin6_scope_id;
        FUZZ_CHECK(rc != 0 || weft_addr_is_equal(&a, &b));
    } else {
        FUZZ_CHECK(rc != 0);
    }
    if (rc == 0 && percent != NULL) {
        *percent = '%';
        FUZZ_CHECK(!libc_address(host, AF_INET6, &b) ||
                   b.sa.v6.sin6_scope_id == a.sa.v6.sin6_scope_id);
    }
}

/* As of a name in the DNS, label by label. */
static bool is_name(const char *s)
{
    size_t len = strlen(s);
    if (len == 0 || len > WEFT__HOST_MAX)
        return false;
    while (*s != '\0') {
        size_t label = strcspn(s, ".");
        if (label == 0 || label > 63 ||
            strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") < label)
            return false;
        s += label;
        s += *s == '.';
    }
    return true;
}

static void write_and_read(struct fuzz_in *in)
{
    uint8_t ip[16];
    weft_addr a;
    unsigned kind = fuzz_below(in, 4);
    uint16_t port = (uint16_t)(fuzz_u8(in) << 8 | fuzz_u8(in));
    uint8_t keep = fuzz_u8(in); /* many zeros: they are what is written short */
    for (unsigned i = 0; i < 16; i++)
        ip[i] = keep >> i / 2 & 1 ? fuzz_u8(in) : 0;
    FUZZ_CHECK(weft_addr_from_ip(ip, kind == 0 ? 4 : 16, port, &a) == 0);
    for (unsigned i = 0; kind == 3 && i < 4; i++)
        a.sa.v6.sin6_scope_id = a.sa.v6.sin6_scope_id << 8 | fuzz_u8(in);
    check_round_trip(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char few[] = "0123456789abcdefF::::....[]%/-";
    struct fuzz_in in = fuzz_in(data, size);
    char text[TEXT_MAX];
    size_t len = 0;
    switch (fuzz_below(&in, 4)) {
    case 0:
        write_and_read(&in);
        return 0;
    case 1: /* as they are */
        while (fuzz_more(&in) && len < TEXT_MAX - 1)
            text[len++] = (char)fuzz_u8(&in);
        break;
    default: /* of the bytes that addresses are made of */
        while (fuzz_more(&in) && len < TEXT_MAX - 1)
            text[len++] = few[fuzz_below(&in, sizeof(few) - 1)];
    }
    text[len] = '\0';
    FUZZ_CHECK(weft__addr_name_is_valid(text) == is_name(text));
    parse(text);
    return 0;
}
