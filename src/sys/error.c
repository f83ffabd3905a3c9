/*
 * The one way to read errno.
 */
#include "sys/error.h"

#include "base/base.h"

#include <errno.h>

WEFT__NOINLINE WEFT__NO_TSAN int weft__sys_error(void)
{
    int error = -errno;
    __asm__ volatile("" : "+r"(error)); /* keeps two calls two */
    return error;
}

WEFT__NOINLINE WEFT__NO_TSAN void weft__sys_error_restore(int error)
{
    errno = -error;
}
