/*
 * Base: attributes, assertions, checked arithmetic, the log. Knows nothing of tasks.
 */
#ifndef WEFT_BASE_BASE_H
#define WEFT_BASE_BASE_H

#include "base/model.h"

#include <weft/base.h>

#define WEFT__CACHE_LINE 64
#define WEFT__LIKELY(x) __builtin_expect(!!(x), 1)
#define WEFT__UNLIKELY(x) __builtin_expect(!!(x), 0)
#define WEFT__NOINLINE __attribute__((noinline))
#define WEFT__COLD __attribute__((cold, noinline))
#define WEFT__NORETURN __attribute__((noreturn))
/* For functions that touch what belongs to the thread (thread-locals, errno): two fibers that run
 * on it one after the other do not race, but a TSan that orders nothing at a switch thinks so. */
#define WEFT__NO_TSAN __attribute__((no_sanitize_thread))
#define WEFT__ALIGNED(n) __attribute__((aligned(n)))

#if defined(__SANITIZE_ADDRESS__)
#define WEFT__ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT__ASAN 1
#endif
#endif
#if defined(WEFT_MODEL)
/* what the compiler adds for TSan serves the model explorer */
#elif defined(__SANITIZE_THREAD__)
#define WEFT__TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT__TSAN 1
#endif
#endif

/*
 * What is about to be used is fetched ahead of its use, so that the misses of one task's lines pass
 * while another runs. Looking at what may change or go away meanwhile, to guess an address, is
 * fine: a wrong guess costs a line. Tools that would call it a race, or look at each step, are
 * spared it.
 */
#if defined(WEFT__ASAN) || defined(WEFT__TSAN) || defined(WEFT_MODEL)
#define WEFT__FETCHES_AHEAD 0
#else
#define WEFT__FETCHES_AHEAD 1
#endif

static inline void weft__fetch(uintptr_t address, unsigned lines)
{
    for (unsigned i = 0; i < lines; i++)
        __builtin_prefetch((const void *)(address + (uintptr_t)i * WEFT__CACHE_LINE));
}

/* Catches a mistake of ours after which going on would corrupt a user's data; stays in release
 * builds. One condition, no side effects. */
#define WEFT_ASSERT(cond)                                                                          \
    (WEFT__LIKELY(cond) ? (void)0 : weft__assert_failed(#cond, __FILE__, __LINE__, __func__))
#ifdef NDEBUG
#define WEFT_DEBUG_ASSERT(cond) ((void)sizeof(cond))
#else
#define WEFT_DEBUG_ASSERT(cond) WEFT_ASSERT(cond)
#endif

WEFT__NORETURN WEFT__COLD void weft__assert_failed(const char *cond, const char *file, int line,
                                                   const char *func);

/* Formats one line and hands it to the sink of weft_log_set(). Keeps errno. Uses about 1 KiB of
 * stack and no heap. */
WEFT__COLD void weft__log(enum weft_log_level level, const char *fmt, ...) WEFT_PRINTF(2, 3);

/*
 * Reports misuse of the public function `call` and returns `rc`, so that a check reads
 *     if (t == NULL)
 *         return weft__misuse("weft_join", -EINVAL, "the handle is NULL", WEFT__CALLER);
 * `caller` is the return address of the public function: the line names the object file, the
 * symbol where it has one, and the offset. NULL: it is not known.
 */
#define WEFT__CALLER __builtin_return_address(0)
WEFT__COLD void weft__misuse_report(const char *call, const char *why, const void *caller);
WEFT__COLD void weft__misuse_report_at(const char *call, const char *why, const weft_site *site);

/* Inline, so that compilers and analyzers see which value comes back, and that it is an error. */
static inline int weft__misuse(const char *call, int rc, const char *why, const void *caller)
{
    weft__misuse_report(call, why, caller);
    return rc;
}

/* The same, for calls that know their place in the source. */
static inline int weft__misuse_at(const char *call, int rc, const char *why, const weft_site *site)
{
    weft__misuse_report_at(call, why, site);
    return rc;
}

/* For functions that return no error: true, with a report, when the object they were given is NULL.
 * They then answer as for one that is closed and empty. */
static inline bool weft__is_null(const char *call, const void *object, const void *caller)
{
    if (__builtin_expect(object != NULL, 1))
        return false;
    weft__misuse_report(call, "the object is NULL", caller);
    return true;
}

/* How many characters stand in a buffer of `cap` bytes after snprintf() said n; cap is not 0. What
 * does not fit is cut off. (n is negative for more than INT_MAX characters, of which none is ours.)
 */
static inline size_t weft__printed(int n, size_t cap)
{
    return (size_t)n < cap ? (size_t)n : cap - 1;
}

/* Of a call by which a public function goes on in another one: its result. It is a call then, not a
 * jump, so that the public one stands in the chains of dumps. */
static inline int weft__stay_for(int rc)
{
    __asm__ volatile("" : "+r"(rc));
    return rc;
}

/* Saturating: a deadline beyond the end of time is the end of time, WEFT_NEVER. */
static inline uint64_t weft__add_sat(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

#endif
