/*
 * errno for code that runs in tasks. Opt in: include this header after <errno.h>, last of all.
 *
 * A task may resume on another thread after any wait, but compilers assume that a function stays on
 * one, and keep the address of errno in a register. This header makes errno ask for its address
 * each time. weft's own functions return negative errors and need none of it.
 */
#ifndef WEFT_ERRNO_H
#define WEFT_ERRNO_H

#include <weft/base.h>

#include <errno.h>

WEFT_BEGIN_DECLS

/* The address of the calling thread's errno, now. Any thread; never suspends. */
WEFT_API int *weft_errno_location(void);

WEFT_END_DECLS

#undef errno
#define errno (*weft_errno_location())

#endif
