/*
 * Names of code addresses, those included that the loader does not know: of functions that are
 * static or hidden, by the symbol tables of the program's and the libraries' files (elf.h).
 *
 * What was read of them is kept for a while, for a report of many lines, and not for the process:
 * libraries come and go, and the files stay open. A file that was replaced since it was loaded says
 * nothing.
 *
 * Not for signal handlers.
 */
#ifndef WEFT_SYS_NAMES_H
#define WEFT_SYS_NAMES_H

#include <stddef.h>

/* All zero: nothing read yet. Of one thread at a time. */
struct weft__names {
    struct weft__files *files; /* NULL: none needed so far, or no memory */
};

/* As weft__sys_symbol(). */
size_t weft__names_symbol(struct weft__names *n, const void *return_address, char *buf, size_t cap);
/* All zero again. */
void weft__names_forget(struct weft__names *n);

#endif
