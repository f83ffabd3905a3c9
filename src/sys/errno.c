/*
 * errno for tasks, see <weft/errno.h>.
 */
#include <weft/errno.h>

#include "base/base.h"

#undef errno
#define errno (*__errno_location())

/* Out of line, and with a barrier: __errno_location() is declared constant, so inlined into a task
 * two calls of it would be one. */
WEFT__NOINLINE int *weft_errno_location(void)
{
    int *location = &errno;
    __asm__ volatile("" : "+r"(location)); /* keeps two calls two */
    return location;
}
