/*
 * Finding the addresses of a name.
 */
#ifndef WEFT_NET_LOOKUP_H
#define WEFT_NET_LOOKUP_H

#include <weft/net.h>

#define WEFT__LOOKUP_MAX 16 /* addresses of a name that are tried */

/* weft_lookup() on behalf of `call`. */
int weft__lookup(const char *call, const void *caller, const char *text, weft_addr *addrs,
                 size_t cap);

#endif
