/*
 * Base: what every other header of weft needs. Visibility, units of time, source sites, the log.
 *
 * Source of borrowed algorithms: none.
 */
#ifndef WEFT_BASE_H
#define WEFT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEFT_VERSION_MAJOR 0
#define WEFT_VERSION_MINOR 1
#define WEFT_VERSION_PATCH 0

#ifdef __cplusplus
#define WEFT_BEGIN_DECLS extern "C" {
#define WEFT_END_DECLS }
#else
#define WEFT_BEGIN_DECLS
#define WEFT_END_DECLS
#endif

#define WEFT__CAT(a, b) WEFT__CAT2(a, b)
#define WEFT__CAT2(a, b) a##b
#ifdef __cplusplus
#define WEFT__ZERO                                                                                 \
    {                                                                                              \
    }
#else
#define WEFT__ZERO                                                                                 \
    {                                                                                              \
        0                                                                                          \
    }
#endif

/* At the start of a block that is a loop of one round. It is so already: this is for compilers to
 * see that the round is made, and not to warn of what is set inside and read afterwards. */
#define WEFT__BLOCK_RUNS(s) ((s)->left = false)

#define WEFT_API __attribute__((visibility("default")))
#define WEFT_MUST_CHECK __attribute__((warn_unused_result))
#define WEFT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Durations and points in time are nanoseconds in a uint64_t. Points are on the runtime's
 * monotonic clock, see weft_now(). */
#define WEFT_NS UINT64_C(1)
#define WEFT_US (1000 * WEFT_NS)
#define WEFT_MS (1000 * WEFT_US)
#define WEFT_SEC (1000 * WEFT_MS)
#define WEFT_NEVER UINT64_MAX /* a duration or a deadline that never comes */

WEFT_BEGIN_DECLS

/* A place in the source: where a task was spawned, where it panicked. Always static storage. */
typedef struct weft_site {
    const char *file;
    const char *func;
    int line;
} weft_site;

/* Yields a pointer to a static record of the place where the macro stands. */
#define WEFT_SITE                                                                                  \
    __extension__({                                                                                \
        static const weft_site weft__site_here = {__FILE__, __func__, __LINE__};                   \
        &weft__site_here;                                                                          \
    })

/* Returns the version of the library that is linked, as "major.minor.patch"; static storage. Any
 * thread; never suspends. */
WEFT_API const char *weft_version(void);

enum weft_log_level {
    WEFT_LOG_ERROR, /* misuse, a fault, a panic, no memory for a stack: what must be mended */
    WEFT_LOG_WARN,  /* a task that sticks, a suspected deadlock, no descriptors to accept with */
    WEFT_LOG_INFO,
};

/*
 * Receives one log line, without its newline; one in a name or a message of yours is a space in it.
 * It may be called from any thread, also from the monitor while a task is stuck, so it must not
 * wait and must not call weft.
 */
typedef void (*weft_log_fn)(enum weft_log_level level, const char *line, void *arg);

/*
 * Replaces where log lines go; NULL restores stderr. Each line of the default sink starts "weft: ".
 *
 * Context:  any thread, never suspends. Process-wide. The former sink may still be called by a
 *           thread that was logging at that moment.
 */
WEFT_API void weft_log_set(weft_log_fn fn, void *arg);

WEFT_END_DECLS

#endif
