/*
 * Addresses: parsing and formatting. Pure, but for the name of an interface in a scope.
 */
#include "net/addr.h"

#include "base/base.h"
#include "sys/sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

static int parse_port(const char *text, uint16_t *ret)
{
    uint32_t port = 0;
    int digits = 0;
    for (; *text >= '0' && *text <= '9' && digits < 6; text++, digits++)
        port = port * 10 + (uint32_t)(*text - '0');
    if (*text != '\0' || digits == 0 || digits > 5 || port > UINT16_MAX)
        return -EINVAL;
    *ret = (uint16_t)port;
    return 0;
}

int weft__addr_split(const char *text, char ret_host[static WEFT__HOST_MAX + 1], uint16_t *ret_port,
                     bool *ret_bracketed)
{
    if (text == NULL)
        return -EINVAL;
    const char *host = text;
    const char *end;
    bool bracketed = text[0] == '[';
    if (bracketed) {
        host++;
        end = strchr(host, ']');
        if (end == NULL || end[1] != ':')
            return -EINVAL;
    } else {
        end = strchr(host, ':');
        if (end == NULL)
            return -EINVAL;
    }
    size_t len = (size_t)(end - host);
    if (len > WEFT__HOST_MAX || (bracketed && len == 0))
        return -EINVAL;
    uint16_t port;
    int rc = parse_port(end + (bracketed ? 2 : 1), &port); /* refuses a second colon too */
    if (rc < 0)
        return rc;
    memcpy(ret_host, host, len);
    ret_host[len] = '\0';
    *ret_port = port;
    *ret_bracketed = bracketed;
    return 0;
}

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

bool weft__addr_name_is_valid(const char *name)
{
    size_t label = 0;
    size_t len = 0;
    for (; name[len] != '\0'; len++) {
        if (name[len] == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else {
            if (!is_name_byte(name[len]) || ++label > 63)
                return false;
        }
    }
    return len > 0 && len <= WEFT__HOST_MAX;
}

/* The index of "eth0" or "2". -ENODEV; or the kernel could not be asked, for want of a socket. */
static int parse_scope(const char *text, uint32_t *ret)
{
    uint64_t index = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9' && index <= UINT32_MAX; p++)
        index = index * 10 + (uint64_t)(*p - '0');
    if (*p != '\0')
        return weft__sys_interface_index(text, ret);
    if (index == 0 || index > UINT32_MAX)
        return -ENODEV;
    *ret = (uint32_t)index;
    return 0;
}

static int parse_v6(char *host, uint16_t port, weft_addr *ret)
{
    uint32_t scope = 0;
    struct in6_addr ip;
    char *percent = strchr(host, '%');
    if (percent != NULL)
        *percent = '\0';
    if (inet_pton(AF_INET6, host, &ip) != 1)
        return -EINVAL;
    int rc = percent != NULL ? parse_scope(percent + 1, &scope) : 0;
    if (rc < 0)
        return rc;
    *ret = (weft_addr){.len = sizeof(struct sockaddr_in6)};
    ret->sa.v6.sin6_family = AF_INET6;
    ret->sa.v6.sin6_addr = ip;
    ret->sa.v6.sin6_port = htons(port);
    ret->sa.v6.sin6_scope_id = scope;
    return 0;
}

int weft_addr_parse(const char *text, weft_addr *ret_addr)
{
    char host[WEFT__HOST_MAX + 1];
    uint16_t port;
    bool bracketed;
    if (ret_addr == NULL)
        return -EINVAL;
    int rc = weft__addr_split(text, host, &port, &bracketed);
    if (rc < 0)
        return rc;
    if (bracketed)
        return parse_v6(host, port, ret_addr);
    struct in_addr ip = {.s_addr = htonl(INADDR_ANY)};
    if (host[0] != '\0' && inet_pton(AF_INET, host, &ip) != 1)
        return -EINVAL;
    return weft_addr_from_ip(&ip, sizeof(ip), port, ret_addr);
}

int weft_addr_from_ip(const void *ip, size_t ip_bytes, uint16_t port, weft_addr *ret_addr)
{
    if (ip == NULL || ret_addr == NULL)
        return -EINVAL;
    weft_addr a = {.len = 0};
    if (ip_bytes == sizeof(struct in_addr)) {
        a.len = sizeof(a.sa.v4);
        a.sa.v4.sin_family = AF_INET;
        a.sa.v4.sin_port = htons(port);
        memcpy(&a.sa.v4.sin_addr, ip, ip_bytes);
    } else if (ip_bytes == sizeof(struct in6_addr)) {
        a.len = sizeof(a.sa.v6);
        a.sa.v6.sin6_family = AF_INET6;
        a.sa.v6.sin6_port = htons(port);
        memcpy(&a.sa.v6.sin6_addr, ip, ip_bytes);
    } else {
        return -EINVAL;
    }
    *ret_addr = a;
    return 0;
}

int weft_addr_from_sockaddr(const struct sockaddr *sa, socklen_t len, weft_addr *ret_addr)
{
    if (sa == NULL || ret_addr == NULL || len < (socklen_t)sizeof(sa->sa_family))
        return -EINVAL;
    socklen_t need;
    if (sa->sa_family == AF_INET)
        need = sizeof(struct sockaddr_in);
    else if (sa->sa_family == AF_INET6)
        need = sizeof(struct sockaddr_in6);
    else
        return -EAFNOSUPPORT;
    if (len < need)
        return -EINVAL;
    weft_addr a = {.len = need};
    memcpy(&a.sa, sa, need);
    *ret_addr = a; /* only now: sa may lie in it */
    return 0;
}

/* Whether an interface's name is read as one: not as an index, nor as the end of the address. */
static bool scope_is_read_as_name(const char *name)
{
    return name[strspn(name, "0123456789")] != '\0' && strchr(name, ']') == NULL;
}

int weft_addr_format(const weft_addr *addr, char *buf, size_t cap)
{
    char ip[INET6_ADDRSTRLEN];
    if (addr == NULL || (addr->sa.any.sa_family != AF_INET && addr->sa.any.sa_family != AF_INET6))
        return snprintf(buf, cap, "(no address)");
    if (addr->sa.any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &addr->sa.v4.sin_addr, ip, sizeof(ip)); /* ip has room */
        return snprintf(buf, cap, "%s:%u", ip, ntohs(addr->sa.v4.sin_port));
    }
    (void)inet_ntop(AF_INET6, &addr->sa.v6.sin6_addr, ip, sizeof(ip));
    uint32_t scope = addr->sa.v6.sin6_scope_id;
    char name[IF_NAMESIZE];
    if (scope == 0)
        return snprintf(buf, cap, "[%s]:%u", ip, ntohs(addr->sa.v6.sin6_port));
    if (if_indextoname(scope, name) == NULL || !scope_is_read_as_name(name))
        (void)snprintf(name, sizeof(name), "%u", scope); /* gone, or of an odd name */
    return snprintf(buf, cap, "[%s%%%s]:%u", ip, name, ntohs(addr->sa.v6.sin6_port));
}

uint16_t weft_addr_port(const weft_addr *addr)
{
    /* The port lies at the same place in both. */
    return addr == NULL ? 0 : ntohs(addr->sa.v4.sin_port);
}

void weft_addr_set_port(weft_addr *addr, uint16_t port)
{
    if (addr != NULL)
        addr->sa.v4.sin_port = htons(port);
}

_Static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port),
               "one place for the port");

bool weft_addr_is_equal(const weft_addr *a, const weft_addr *b)
{
    if (a == NULL || b == NULL || a->sa.any.sa_family != b->sa.any.sa_family)
        return a == b;
    if (weft_addr_port(a) != weft_addr_port(b))
        return false;
    if (a->sa.any.sa_family == AF_INET)
        return a->sa.v4.sin_addr.s_addr == b->sa.v4.sin_addr.s_addr;
    return memcmp(&a->sa.v6.sin6_addr, &b->sa.v6.sin6_addr, sizeof(struct in6_addr)) == 0 &&
           a->sa.v6.sin6_scope_id == b->sa.v6.sin6_scope_id;
}
