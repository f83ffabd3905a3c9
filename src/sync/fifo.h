/*
 * A ring of values that can grow. Pure data structure: no locks, no functions of the user's.
 *
 * It doubles when it is full. When three quarters are empty it halves, down to what it began with
 * or to WEFT__FIFO_KEPT slots. So a queue that fills and drains again and again allocates nothing
 * as long as it stays below that, and above it only once in as many steps as there are values; and
 * what a burst took is given back.
 */
#ifndef WEFT_SYNC_FIFO_H
#define WEFT_SYNC_FIFO_H

#include "base/base.h"

#define WEFT__FIFO_KEPT ((size_t)1024)

struct weft__fifo {
    char *slots;
    size_t elem_bytes;
    size_t size;  /* slots there are */
    size_t kept;  /* the fewest it shrinks to */
    size_t first; /* index of the oldest value */
    size_t count;
};

/* With room for `size` values. 0 or -ENOMEM. */
WEFT_MUST_CHECK int weft__fifo_init(struct weft__fifo *f, size_t elem_bytes, size_t size);
/* The values are the caller's to destroy before. */
void weft__fifo_fini(struct weft__fifo *f);

/* Makes room for one more value, doubling the ring when it is full. 0 or -ENOMEM. */
WEFT_MUST_CHECK int weft__fifo_reserve(struct weft__fifo *f);
/* There is room: fewer than `size` values, or reserved. */
void weft__fifo_push(struct weft__fifo *f, const void *value);
/* There is a value. Gives memory back if it can. */
void weft__fifo_pop(struct weft__fifo *f, void *value);
/* Where the value lies that is `i` after the oldest; i is below the count. */
void *weft__fifo_at(const struct weft__fifo *f, size_t i);

#endif
