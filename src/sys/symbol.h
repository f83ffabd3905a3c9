/*
 * What the loader knows of a code address, and how it is written. For names.c and symbol.c.
 */
#ifndef WEFT_SYS_SYMBOL_H
#define WEFT_SYS_SYMBOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct weft__symbol {
    uintptr_t pc;       /* a return address */
    const char *object; /* the last part of its path; NULL: it lies in none */
    uintptr_t bias;     /* in memory minus in the object's file */
    const char *name;   /* of the function; NULL: not known */
    uintptr_t start;    /* of the function */
};

/* Whether the loader knows its name. */
bool weft__symbol_look(struct weft__symbol *s, const void *return_address);
/* As weft__sys_symbol(). A name that is too long is cut, so that the place in the object stands
 * behind it. */
size_t weft__symbol_print(const struct weft__symbol *s, char *buf, size_t cap);

#endif
