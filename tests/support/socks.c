#include "socks.h"

#include "harness.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

weft_tcp_listener *socks_listen(uint16_t *ret_port)
{
    weft_tcp_listener *l = NULL;
    weft_addr addr;
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    *ret_port = weft_addr_port(&addr);
    return l;
}

int socks_raw(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    return fd;
}

void socks_raw_connect_to(int fd, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
}

int socks_raw_connect(uint16_t port)
{
    int fd = socks_raw();
    socks_raw_connect_to(fd, port);
    return fd;
}

void socks_pair(weft_tcp **ret_a, weft_tcp **ret_b)
{
    uint16_t port;
    char text[32];
    weft_tcp_listener *l = socks_listen(&port);
    snprintf(text, sizeof(text), "127.0.0.1:%u", port);
    CHECK_EQ(weft_tcp_connect(text, ret_a), 0);
    CHECK_EQ(weft_tcp_accept(l, ret_b), 0);
    weft_tcp_listener_close(l);
}

void socks_raw_pair(weft_tcp **ret_conn, int *ret_fd)
{
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    *ret_fd = socks_raw_connect(port);
    CHECK_EQ(weft_tcp_accept(l, ret_conn), 0);
    weft_tcp_listener_close(l);
}

void socks_raw_reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    close(fd);
}

void socks_raw_write(int fd, const void *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = send(fd, (const char *)buf + done, len - done, MSG_NOSIGNAL);
        CHECK(n > 0);
        done += (size_t)n;
    }
}

void socks_raw_read(int fd, void *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = recv(fd, (char *)buf + done, len - done, 0);
        CHECK(n > 0);
        done += (size_t)n;
    }
}

bool socks_is_waiting(weft_handle *h, const char *what, int count)
{
    char *text = test_dump(h);
    int found = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
        found++;
    free(text);
    return found >= count;
}
