/*
 * Panics and cleanups: how a task ends early without taking the process along.
 *
 * weft_panic() ends the task, not the process. Cleanups registered with WEFT_DEFER run last to
 * first on the task's own stack, then the stack is given up. Whoever joins the task gets the panic
 * as a value, may take its payload once, and may raise it again. Only what was registered runs:
 * ordinary frames are not unwound, C++ destructors below are not called.
 */
#ifndef WEFT_PANIC_H
#define WEFT_PANIC_H

#include <weft/base.h>

WEFT_BEGIN_DECLS

/* What a panic left behind. Made by the runtime, handed out by a join, owned by who holds it. */
typedef struct weft_panic_info weft_panic_info;

/*
 * Ends the calling task with a formatted message (up to 511 bytes are kept).
 *
 * Does not return. Context: tasks, bodies of weft_block_on() and blocking jobs. Elsewhere there is
 * no boundary to catch it: the message is reported and the process aborts. A panic inside a cleanup
 * that a panic runs replaces nothing: it is reported, and the next cleanup runs. Without memory for
 * its record a panic says only that; a payload is dropped then.
 */
#define weft_panic(...) weft__panic_at(WEFT_SITE, __VA_ARGS__)

/* Panics unless cond holds; in every build. */
#define weft_assert(cond)                                                                          \
    (__builtin_expect(!!(cond), 1) ? (void)0                                                       \
                                   : weft__panic_at(WEFT_SITE, "assertion failed: %s", #cond))

/*
 * Panics with a payload for the joiner.
 *
 *   payload   taken; any pointer
 *   drop      called once with payload unless it is taken by weft_panic_take_payload(); may be NULL
 */
#define weft_panic_payload(payload, drop) weft__panic_payload_at(WEFT_SITE, (payload), (drop))

/* Panics again with what another task left; info is taken. Does not return. Context: as
 * weft_panic(). */
WEFT_API __attribute__((noreturn)) void weft_panic_resume(weft_panic_info *info);

/* The functions below never suspend and may be called from any thread, for one info by one at a
 * time. */

/* The message; "" for a panic with a payload, and for NULL. Lives as long as info. */
WEFT_API const char *weft_panic_message(const weft_panic_info *info);
/* Where it was raised; the file is "?" for one without memory for its record. Static storage. NULL
 * for NULL. */
WEFT_API const weft_site *weft_panic_site(const weft_panic_info *info);
/* Which task panicked; 0 for the body of weft_block_on(). */
WEFT_API uint64_t weft_panic_task_id(const weft_panic_info *info);
/* Return addresses from the call of weft_panic() outwards; *ret_frames lives as long as info; NULL:
 * not wanted. Returns their number: 0 where libc has no backtrace(), as musl. */
WEFT_API size_t weft_panic_backtrace(const weft_panic_info *info, void *const **ret_frames);
/*
 * Takes the payload. 0, and *ret_payload is the caller's, without its drop function; -ENOENT when
 * there is none or it was taken before; -EINVAL when info is NULL (the outcome was no panic), or
 * ret_payload is (logged).
 */
WEFT_API WEFT_MUST_CHECK int weft_panic_take_payload(weft_panic_info *info, void **ret_payload);
/* Frees info, and drops a payload nobody took. NULL does nothing. */
WEFT_API void weft_panic_free(weft_panic_info *info);

/* True while the calling task runs its cleanups because it panicked. Any thread; never suspends. */
WEFT_API bool weft_self_is_panicking(void);

/* ---- cleanups ---- */

typedef struct weft_cleanup {
    struct weft_cleanup *below;
    void (*fn)(void *arg);
    void *arg;
} weft_cleanup;

/*
 * Calls f(a) when the enclosing block is left: normally, by return, break or goto; and when the
 * task panics or is unwound by an abort, in which case handlers run last to first with aborts and
 * deadlines held back. A handler may wait. It may panic: that is reported (the join then says
 * panicked), and the next handler runs. A handler's record is popped before it is called.
 *
 * Context: anywhere; outside a task a panic ends the process, so there the handler runs on normal
 * exits only. Leaving the block by longjmp is a bug that the next exit reports; see
 * weft_cleanup_rewind().
 */
#define WEFT_DEFER(f, a) WEFT__DEFER(f, a, WEFT__CAT(weft__d_, __COUNTER__))
#define WEFT__DEFER(f, a, n)                                                                       \
    struct weft_cleanup n __attribute__((cleanup(weft__cleanup_leave))) = {0, (f), (a)};           \
    weft__cleanup_enter(&n)

/* Where the stack of cleanups stands now, for a later rewind. */
WEFT_API weft_cleanup *weft_cleanup_mark(void);
/* For code that must longjmp out of blocks with WEFT_DEFER: call it right before the longjmp, with
 * a mark taken beside the setjmp. Runs the handlers registered since, last to first. The blocks
 * skipped must not be left normally afterwards. */
WEFT_API void weft_cleanup_rewind(weft_cleanup *mark);

/* Behind the macros. */
WEFT_API void weft__cleanup_enter(weft_cleanup *c);
WEFT_API void weft__cleanup_leave(weft_cleanup *c);
WEFT_API __attribute__((noreturn)) void weft__panic_at(const weft_site *site, const char *fmt, ...)
    WEFT_PRINTF(2, 3);
WEFT_API __attribute__((noreturn)) void weft__panic_payload_at(const weft_site *site, void *payload,
                                                               void (*drop)(void *payload));

WEFT_END_DECLS

#endif
