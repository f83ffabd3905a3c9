/*
 * Addresses as text.
 */
#ifndef WEFT_NET_ADDR_H
#define WEFT_NET_ADDR_H

#include <weft/net.h>

#define WEFT__HOST_MAX 253 /* bytes of a name in the DNS */

/*
 * Takes "host:port" apart. *ret_host is empty for ":port"; *ret_bracketed tells "[host]:port",
 * whose host must be an IPv6 address.
 * -EINVAL unless the port is 1 to 5 digits up to 65535, and the host has no colon outside brackets.
 */
int weft__addr_split(const char *text, char ret_host[static WEFT__HOST_MAX + 1], uint16_t *ret_port,
                     bool *ret_bracketed);

/* True for 1 to 253 bytes of letters, digits, '-', '_' and '.', without an empty label except for
 * one dot at the end. */
bool weft__addr_name_is_valid(const char *name);

#endif
