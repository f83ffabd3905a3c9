/*
 * TCP: what its files share.
 */
#ifndef WEFT_NET_TCP_H
#define WEFT_NET_TCP_H

#include "io/source.h"

#include <weft/net.h>

extern const struct weft__source_ops weft__tcp_ops;

/* weft_tcp_accept_future_init() by whoever goes on with one listener over several calls: -EBADF,
 * without a line in the log, once that is closed. */
void weft__tcp_accept_future_init_by(weft_tcp_accept_future *f,
                                     const struct weft__source_ref *listener, weft_tcp **ret_conn);

/* Sets an int option of a descriptor. */
static inline int weft__sock_set_int(int fd, int level, int name, int value)
{
    return weft__sys_setsockopt(fd, level, name, &value, sizeof(value));
}
/* WEFT__SOURCE_BARE_TCP, if that is what a descriptor from outside is, or 0. */
uint32_t weft__sock_bare_tcp(int fd);
/* Binds to an interface by name. -EINVAL for one that is too long. */
int weft__sock_bind_device(int fd, const char *name);

#endif
