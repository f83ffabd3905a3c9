/*
 * Values of users inside channels: how they are copied and destroyed.
 *
 * The functions are the user's, so they are called without locks, and a panic in one ends here.
 */
#ifndef WEFT_SYNC_VALUE_H
#define WEFT_SYNC_VALUE_H

#include "base/base.h"

struct weft__value_type {
    size_t bytes;
    int (*clone)(void *to, const void *from); /* NULL: the bytes are copied */
    void (*drop)(void *value);                /* NULL: nothing to destroy */
};

/* Values may be of any type. */
#define WEFT__VALUE_ALIGN _Alignof(max_align_t)

/* Values may have no bytes, and then no address. */
static inline void weft__value_move(const struct weft__value_type *type, void *to, const void *from)
{
    if (to && from)
        __builtin_memcpy(to, from, type->bytes);
}

/* A copy that is independent of the original. 0; a negative errno of the user's function, -EIO for
 * what is none or means something to the caller; -EOWNERDEAD when it panicked, which has been
 * reported. */
WEFT_MUST_CHECK int weft__value_clone(const struct weft__value_type *type, void *to,
                                      const void *from);

/* Destroys a value; its memory stays. */
void weft__value_drop(const struct weft__value_type *type, void *value);

#endif
