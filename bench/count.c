#include "bench.h"

#if defined(__has_include)
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#endif
#endif
#ifndef CALLGRIND_TOGGLE_COLLECT
#define CALLGRIND_TOGGLE_COLLECT ((void)0)
#endif

/* The state that this toggles is the calling thread's: what other threads do meanwhile is left
 * out. */
void bench_count_toggle(void)
{
    CALLGRIND_TOGGLE_COLLECT;
}
