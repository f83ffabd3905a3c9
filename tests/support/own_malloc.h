/*
 * Takes the allocator's place in the one source of a test that includes this: counts what is
 * allocated and alive, and makes the allocation of choice fail.
 *
 * The test says `not-under=address,thread,memcheck,musl`: there malloc is not glibc's.
 */
#ifndef WEFT_TESTS_OWN_MALLOC_H
#define WEFT_TESTS_OWN_MALLOC_H

#include "harness.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>

/* glibc's own names behind the ones we replace. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static atomic_long until_failure = -1; /* allocations that still succeed; below 0: all do */
static atomic_bool has_failed;         /* one was made to fail */
static atomic_long alive, calls;

static bool must_fail(void)
{
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    if (atomic_load(&until_failure) < 0 || atomic_fetch_sub(&until_failure, 1) != 0)
        return false;
    atomic_store(&has_failed, true);
    errno = ENOMEM;
    return true;
}

static void *counted(void *p)
{
    atomic_fetch_add(&alive, p != NULL);
    return p;
}

void *malloc(size_t n)
{
    return must_fail() ? NULL : counted(__libc_malloc(n));
}

void *calloc(size_t n, size_t size)
{
    return must_fail() ? NULL : counted(__libc_calloc(n, size));
}

void *realloc(void *p, size_t n)
{
    void *q = must_fail() ? NULL : __libc_realloc(p, n);
    atomic_fetch_add(&alive, p == NULL && q != NULL);
    return q;
}

void *aligned_alloc(size_t align, size_t n)
{
    return must_fail() ? NULL : counted(__libc_memalign(align, n));
}

int posix_memalign(void **ret, size_t align, size_t n)
{
    *ret = aligned_alloc(align, n);
    return *ret ? 0 : ENOMEM;
}

void free(void *p)
{
    atomic_fetch_sub(&alive, p != NULL);
    __libc_free(p);
}

/* Warms up, then counts over some windows, of which one must be free of calls: a machine that is
 * held up elsewhere may make the monitor add a worker, once. */
__attribute__((unused)) static void expect_no_malloc(const char *what, void (*step)(void *arg),
                                                     void *arg)
{
    long fewest = LONG_MAX;
    unsigned rounds = test_scaled(1000);
    for (unsigned i = 0; i < rounds / 2; i++)
        step(arg);
    for (int window = 0; window < 5 && fewest > 0; window++) {
        long before = atomic_load(&calls);
        for (unsigned i = 0; i < rounds; i++)
            step(arg);
        long n = atomic_load(&calls) - before;
        fewest = n < fewest ? n : fewest;
    }
    if (fewest != 0)
        test_record(__FILE__, __LINE__, "%s: %ld calls of malloc", what, fewest);
}

/* After a round before, that took what is kept for good. One of a few must leave nothing behind,
 * not each: see above, and such a worker stays. */
__attribute__((unused)) static void expect_nothing_left(const char *what, void (*round)(void))
{
    long left = LONG_MAX;
    for (int i = 0; i < 5 && left > 0 && !test_has_failed(); i++) {
        long before = atomic_load(&alive);
        round();
        left = atomic_load(&alive) - before;
        for (uint64_t end = weft_now() + 2 * WEFT_SEC; left > 0 && weft_now() < end;) {
            test_pause(); /* workers give back what they have run */
            left = atomic_load(&alive) - before;
        }
    }
    if (left > 0)
        test_record(__FILE__, __LINE__, "%s: %ld blocks are left each time", what, left);
}

#endif
