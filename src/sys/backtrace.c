/*
 * Backtraces, where libc has them: musl does not.
 */
#include "sys/sys.h"

#if __has_include(<execinfo.h>)

#include <execinfo.h>

size_t weft__sys_backtrace(void **frames, size_t max)
{
    int n = backtrace(frames, (int)max);
    return n > 0 ? (size_t)n : 0;
}

#else

size_t weft__sys_backtrace(void **frames, size_t max)
{
    (void)frames;
    (void)max;
    return 0;
}

#endif
