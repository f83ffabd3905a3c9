/*
 * Sockets for tests: pairs of connections, and peers that are plain descriptors.
 */
#ifndef WEFT_TESTS_SOCKS_H
#define WEFT_TESTS_SOCKS_H

#include <weft/net.h>
#include <weft/runtime.h>

WEFT_BEGIN_DECLS

/* A listener on a free port of 127.0.0.1. */
weft_tcp_listener *socks_listen(uint16_t *ret_port);
/* A connection between two handles of this runtime; in a task. */
void socks_pair(weft_tcp **ret_a, weft_tcp **ret_b);
/* One whose other end is a plain blocking descriptor; in a task. */
void socks_raw_pair(weft_tcp **ret_conn, int *ret_fd);
/* A plain blocking socket; connecting it to a port of 127.0.0.1; and both. */
int socks_raw(void);
void socks_raw_connect_to(int fd, uint16_t port);
int socks_raw_connect(uint16_t port);
/* Closes a plain descriptor with a reset. */
void socks_raw_reset(int fd);
/* Writes or reads exactly len bytes of a plain blocking descriptor. */
void socks_raw_write(int fd, const void *buf, size_t len);
void socks_raw_read(int fd, void *buf, size_t len);
/* True when `task`'s runtime has this many tasks that wait in `what`, by the dump. */
bool socks_is_waiting(weft_handle *h, const char *what, int count);

WEFT_END_DECLS

#endif
