/*
 * Fibers: starting them, and telling others of every switch.
 */
#include "fiber/fiber.h"

#include "sys/lock.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#ifdef WEFT__ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef WEFT__TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
/* With this flag a switch orders nothing, so that two tasks that only happened to share a worker
 * still race. The library's own plain accesses are then not watched (cmake/WeftLibrary.cmake). */
#ifdef WEFT_TSAN_NO_SYNC
#define TSAN_FLAGS 1u
#else
#define TSAN_FLAGS 0u
#endif
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#endif

/* Defined by the run-times of the tools, which are in every program that was built for one. */
void __asan_init(void) __attribute__((weak));
void __tsan_init(void) __attribute__((weak));

const char *weft__fiber_untold_tool(void)
{
#ifndef WEFT__ASAN
    if (__asan_init != NULL)
        return "AddressSanitizer";
#endif
#if !defined(WEFT__TSAN) && !defined(WEFT_MODEL)
    if (__tsan_init != NULL)
        return "ThreadSanitizer";
#endif
    return NULL;
}

int weft__fiber_check_cpu(void)
{
#if defined(__x86_64__)
    uint64_t ssp = 0;
    /* Does nothing on a processor without shadow stacks, and with them switched off. */
    __asm__ volatile("rdsspq %0" : "+r"(ssp));
    /* coverage: needs a kernel and a processor that have them on */
    if (ssp != 0)
        return -ENOTSUP;
#endif
    return 0;
}

void weft__fiber_init(struct weft__stack *s, void (*entry)(void *), void *arg)
{
    s->cxa[0] = s->cxa[1] = NULL;
    s->asan_fake = NULL;
#ifdef WEFT__TSAN
    if (s->tsan_fiber == NULL)
        s->tsan_fiber = __tsan_create_fiber(0);
    s->tsan_uses++;
#endif
    s->sp = weft__fiber_prepare(s->hi, entry, arg);
#ifdef WEFT__TSAN
    __tsan_release(s); /* to weft__fiber_entered */
#endif
}

static __thread const struct weft__stack *stands_on;

void weft__fiber_stand_on(const struct weft__stack *fiber)
{
    stands_on = fiber;
}

void weft__fiber_adopt_thread(struct weft__stack *s)
{
    if (stands_on != NULL) {
        weft__fiber_adopt_fiber(s, stands_on);
        return;
    }
    memset(s, 0, sizeof(*s));
#ifdef WEFT__ASAN
    /* ASan alone wants to know where the stack lies. Asking is dear on the main thread. */
    pthread_attr_t attr;
    void *lo = NULL;
    size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        pthread_attr_getstack(&attr, &lo, &bytes);
        pthread_attr_destroy(&attr);
    }
    s->lo = lo;
    s->hi = s->lo + bytes;
#endif
#ifdef WEFT__TSAN
    s->tsan_fiber = __tsan_get_current_fiber();
#endif
}

void weft__fiber_adopt_fiber(struct weft__stack *s, const struct weft__stack *fiber)
{
    memset(s, 0, sizeof(*s));
    s->lo = fiber->lo;
    s->hi = fiber->hi;
    s->tsan_fiber = fiber->tsan_fiber;
}

void weft__fiber_unadopt_thread(struct weft__stack *s)
{
    memset(s, 0, sizeof(*s)); /* a switch to it faults at once */
}

/* The caught exceptions belong to the thread in libstdc++ and libc++ and to the fiber in truth: two
 * fibers parked in `catch` blocks would swap them. */
WEFT__NO_TSAN static inline void switch_cxa(struct weft__stack *from, const struct weft__stack *to)
{
    if (__cxa_get_globals == NULL)
        return;
    void **globals = __cxa_get_globals(); /* the list of caught exceptions, and a count */
    for (int i = 0; i < 2; i++) {
        from->cxa[i] = globals[i];
        globals[i] = to->cxa[i];
    }
}

/* Not when somebody jumped out of a task with longjmp(), or into another one. Known of stacks from
 * the pool, whose headers stand at their tops. */
__attribute__((unused)) static bool fiber_stands_on(const struct weft__stack *s)
{
    const char *here = __builtin_frame_address(0);
    return s->hi != (const char *)s || (here > s->lo && here < s->hi);
}

#ifdef WEFT_TSAN_NO_SYNC
__attribute__((no_sanitize_thread))
#endif
void weft__fiber_switch_told(struct weft__stack *from, struct weft__stack *to)
{
    /* A lock of ours held across a switch lets a second fiber of the thread in, or is released by
     * another thread. */
    WEFT_DEBUG_ASSERT(weft__lock_held_count() == 0);
    WEFT_DEBUG_ASSERT(from != to);
    WEFT_DEBUG_ASSERT(fiber_stands_on(from));
    WEFT_DEBUG_ASSERT(to->sp != NULL);
    switch_cxa(from, to);
#ifdef WEFT__ASAN
    __sanitizer_start_switch_fiber(&from->asan_fake, to->lo, (size_t)(to->hi - to->lo));
#endif
#ifdef WEFT__TSAN
    /* In this function, not in a helper of its own: clang 14 crashes there. */
    __tsan_switch_to_fiber(to->tsan_fiber, TSAN_FLAGS);
#endif
    weft__fiber_swap(&from->sp, &to->sp);
#ifdef WEFT__ASAN
    __sanitizer_finish_switch_fiber(from->asan_fake, NULL, NULL);
#endif
}

#ifdef WEFT_TSAN_NO_SYNC
__attribute__((no_sanitize_thread))
#endif
void weft__fiber_switch_final_told(struct weft__stack *from, struct weft__stack *to)
{
    WEFT_DEBUG_ASSERT(weft__lock_held_count() == 0);
    WEFT_DEBUG_ASSERT(from != to);
    switch_cxa(from, to);
#ifdef WEFT__ASAN
    __sanitizer_start_switch_fiber(NULL, to->lo, (size_t)(to->hi - to->lo));
#endif
#ifdef WEFT__TSAN
    /* Whatever else the switch orders or does not: the memory of the stack passes from this fiber
     * to whoever puts it back, and from there to the next one. */
    __tsan_release(from);
    __tsan_switch_to_fiber(to->tsan_fiber, TSAN_FLAGS);
#endif
    weft__fiber_swap(&from->sp, &to->sp);
    __builtin_trap(); /* somebody resumed a fiber that had ended */
}

void weft__fiber_entered(struct weft__stack *self)
{
#ifdef WEFT__ASAN
    __sanitizer_finish_switch_fiber(self->asan_fake, NULL, NULL);
#endif
#ifdef WEFT__TSAN
    __tsan_acquire(self);
#endif
    (void)self;
}
