/*
 * Semaphores: a number of permits that tasks and threads take and give back.
 *
 * Strictly first come, first served: who waits for many permits holds up those behind it that want
 * few, and nobody takes a permit past a waiter, the try_ forms included.
 *
 * The number can be handled by hand, acquire and release, or as a value: a weft_permit says whose
 * permits it holds and how many, and may be moved into a task, split, merged, kept in a struct.
 *
 *     static weft_semaphore slots = WEFT_SEMAPHORE_INIT(100);
 *
 *     weft_permit p;
 *     if (weft_permit_acquire(&slots, 1, &p) == 0) {
 *         WEFT_PERMIT_GUARD(&p);
 *         ... at most 100 at a time get here ...
 *     }
 *
 * Any task or thread may call anything here at any time, and release what another one acquired. Who
 * acquires a permit, or is told that the semaphore is closed, may free its memory if it knows that
 * nobody else will use it: the release, or the close, that let it go on does not touch it
 * afterwards.
 */
#ifndef WEFT_SEMAPHORE_H
#define WEFT_SEMAPHORE_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/panic.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

/* In the caller's memory; needs no fini. Zeroed memory is a semaphore without permits. */
typedef struct weft_semaphore {
    uint64_t word;
    void *opaque[3];
} weft_semaphore;

/* The most permits a semaphore can have. */
#define WEFT_SEMAPHORE_MAX (SIZE_MAX >> 3)

/* A semaphore with n permits, a constant of at most WEFT_SEMAPHORE_MAX. */
#define WEFT_SEMAPHORE_INIT(n)                                                                     \
    {                                                                                              \
        UINT64_C(4) * (n),                                                                         \
        {                                                                                          \
            NULL, NULL, NULL                                                                       \
        }                                                                                          \
    }

/*
 * The same for memory of any content, when nobody uses the semaphore.
 *
 * Returns 0; -EINVAL (reported, s untouched) when permits is above WEFT_SEMAPHORE_MAX. Never
 * suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_semaphore_init(weft_semaphore *s, size_t permits);

/* ---- permits by number ---- */

/*
 * Takes one permit, or n at once, suspending the calling task until they are there and everybody
 * who came before has been served.
 *
 *   n         0 asks only whether the semaphore is closed, and never waits
 *
 * Returns 0 with the permits taken. Otherwise none was, and it is
 *   -EPIPE      closed by weft_semaphore_close(), before the call or during it
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ECANCELED  the calling task was aborted
 *   -EINVAL     n is above WEFT_SEMAPHORE_MAX (reported)
 *   -EPERM      nothing here can wait (reported), see weft_await()
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Threads:       any.
 * Cancellation:  safe; the place in the queue is lost. Permits already assigned go to the next.
 */
WEFT_API WEFT_MUST_CHECK int weft_semaphore_acquire(weft_semaphore *s);
WEFT_API WEFT_MUST_CHECK int weft_semaphore_acquire_many(weft_semaphore *s, size_t n);

/* The same without waiting: -EAGAIN when there are too few permits, or somebody waits. Any thread;
 * never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_semaphore_try_acquire(weft_semaphore *s);
WEFT_API WEFT_MUST_CHECK int weft_semaphore_try_acquire_many(weft_semaphore *s, size_t n);

/*
 * The same for plain threads and blocking jobs: blocks the thread. Needs no runtime.
 *
 * Returns as weft_semaphore_acquire_many(), and -EPERM (reported, nothing taken) inside a task or a
 * body of weft_block_on(), also when permits are there; -ENOMEM when the thread cannot wait.
 */
WEFT_API WEFT_MUST_CHECK int weft_semaphore_blocking_acquire(weft_semaphore *s);
WEFT_API WEFT_MUST_CHECK int weft_semaphore_blocking_acquire_many(weft_semaphore *s, size_t n);

/* The same as a future: 0, -EPIPE or -EINVAL (reported by the init). Cancelled, it holds no permit.
 * */
typedef struct weft_semaphore_acquire_future {
    weft_future future;
    uint64_t words[3];
    void *opaque[5];
} weft_semaphore_acquire_future;
WEFT_API void weft_semaphore_acquire_future_init(weft_semaphore_acquire_future *f,
                                                 weft_semaphore *s, size_t n);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_semaphore_acquire(weft_semaphore *s, size_t n);

/*
 * Gives n permits back, and hands them to those who wait, in their order. A permit that was not
 * taken before is a new one. More than WEFT_SEMAPHORE_MAX in all is misuse: reported, and nothing
 * is added. Any thread; never suspends.
 */
WEFT_API void weft_semaphore_release(weft_semaphore *s, size_t n);

/* The same for permits that are new: 0, or -EINVAL (reported, none added) when there would be more
 * than WEFT_SEMAPHORE_MAX. Also on a closed semaphore. Any thread; never suspends. */
WEFT_API int weft_semaphore_add_permits(weft_semaphore *s, size_t n);

/* Removes up to n permits for good, of those that nobody holds. Returns how many. Also on a closed
 * semaphore. Any thread; never suspends. */
WEFT_API size_t weft_semaphore_forget_permits(weft_semaphore *s, size_t n);

/* Permits that nobody holds, at this moment; they may be less than the first waiter needs. Any
 * thread. */
WEFT_API size_t weft_semaphore_available(const weft_semaphore *s);

/* From now on nobody acquires: those who wait and who come get -EPIPE. Permits that are held stay
 * so and may be given back. Idempotent. Any thread; never suspends. */
WEFT_API void weft_semaphore_close(weft_semaphore *s);
WEFT_API bool weft_semaphore_is_closed(const weft_semaphore *s);

/* ---- permits as values ---- */

/*
 * Permits held. A plain value: it may be copied to where it will be released, but then only one of
 * the copies counts. Without permits (count 0) there is nothing to release.
 */
typedef struct weft_permit {
    weft_semaphore *semaphore;
    size_t count;
} weft_permit;

/* As weft_semaphore_acquire_many() and its forms; *ret_permit is written when they return 0.
 * -EINVAL also when ret_permit is NULL (reported). */
WEFT_API WEFT_MUST_CHECK int weft_permit_acquire(weft_semaphore *s, size_t n,
                                                 weft_permit *ret_permit);
WEFT_API WEFT_MUST_CHECK int weft_permit_try_acquire(weft_semaphore *s, size_t n,
                                                     weft_permit *ret_permit);
WEFT_API WEFT_MUST_CHECK int weft_permit_blocking_acquire(weft_semaphore *s, size_t n,
                                                          weft_permit *ret_permit);

/* What follows is by the owner of the permit, on any thread, and never suspends. */

/*
 * Moves n of p's permits into *ret_part.
 *
 * Returns 0; -EINVAL, with p as it was and *ret_part not written, when p holds fewer; also
 * when p or ret_part is NULL (reported).
 */
WEFT_API WEFT_MUST_CHECK int weft_permit_split(weft_permit *p, size_t n, weft_permit *ret_part);

/*
 * Moves all permits of `from` into p; from is empty afterwards. An empty p takes any.
 *
 * Returns 0; -EINVAL (reported), with both as they were, when they are of different semaphores, or
 * one is NULL.
 */
WEFT_API int weft_permit_merge(weft_permit *p, weft_permit *from);

/* Gives the permits back; p is empty afterwards. NULL does nothing. */
WEFT_API void weft_permit_release(weft_permit *p);

/* Empties p without giving the permits back: the semaphore has fewer for good. NULL is reported. */
WEFT_API void weft_permit_forget(weft_permit *p);

/* Releases *p when the enclosing block is left, also when the task panics or is unwound; see
 * WEFT_DEFER. What is split off, forgotten or moved away (set its count to 0) is not released. */
#define WEFT_PERMIT_GUARD(p) WEFT_DEFER(weft__permit_guard, (p))

/* Behind the macro. */
WEFT_API void weft__permit_guard(void *permit);

WEFT_END_DECLS

#endif
