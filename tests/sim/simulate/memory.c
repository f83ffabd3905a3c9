/*
 * The allocator of the program, which counts what is alive: a run must give everything back.
 *
 * Only with glibc, whose own functions have a second name, and without a sanitizer, which brings an
 * allocator (and its own search for leaks).
 */
#include "shared.h"

#if defined(__has_feature)
#define HAS_SANITIZER (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#else
#define HAS_SANITIZER 0
#endif

#if defined(__GLIBC__) && !HAS_SANITIZER

#include <malloc.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static long alive;

long memory_alive(void)
{
    return __atomic_load_n(&alive, __ATOMIC_RELAXED);
}

/* But for the buffers of weft_copy(), of which the process keeps a few. */
static bool counts(void *p)
{
    return p != NULL && malloc_usable_size(p) / 1024 != 16;
}

static void *counted(void *p)
{
    __atomic_fetch_add(&alive, counts(p), __ATOMIC_RELAXED);
    return p;
}

void *malloc(size_t bytes)
{
    return counted(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes)
{
    return counted(__libc_calloc(count, bytes));
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return counted(__libc_memalign(alignment, bytes));
}

void free(void *p)
{
    __atomic_fetch_sub(&alive, counts(p), __ATOMIC_RELAXED);
    __libc_free(p);
}

#else

long memory_alive(void)
{
    return 0;
}

#endif
