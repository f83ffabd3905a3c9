/*
 * Barriers: n tasks wait for each other, all go on together, and the barrier is ready for the next
 * round.
 */
#ifndef WEFT_BARRIER_H
#define WEFT_BARRIER_H

#include <weft/base.h>
#include <weft/future.h>

WEFT_BEGIN_DECLS

/* In the caller's memory; needs no fini, and stays until all have come back from their waits. */
typedef struct weft_barrier {
    uint32_t n, arrived;
    void *opaque[3];
} weft_barrier;

/* A barrier for n tasks, a constant. With 0 or 1 nobody ever waits. */
#define WEFT_BARRIER_INIT(n)                                                                       \
    {                                                                                              \
        UINT32_C(1) * (n), 0,                                                                      \
        {                                                                                          \
            NULL, NULL, NULL                                                                       \
        }                                                                                          \
    }

/* The same for memory of any content, when nobody uses it. Never suspends. */
WEFT_API void weft_barrier_init(weft_barrier *b, uint32_t n);

/*
 * Arrives, and suspends the calling task until n have.
 *
 * Returns 1 in exactly one of the n, the last to arrive, which is the leader of the round; 0 in the
 * others. Otherwise the caller has not arrived, and it is
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ECANCELED  the calling task was aborted
 *   -EPERM      nothing here can wait (reported), see weft_await()
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Threads:       any.
 * Cancellation:  safe: the arrival is taken back. If the round was complete already, it stays so.
 */
WEFT_API WEFT_MUST_CHECK int weft_barrier_wait(weft_barrier *b);

/* Arrives if that completes the round: 1; or -EAGAIN. Any thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_barrier_try_wait(weft_barrier *b);

/* weft_barrier_wait() for plain threads and blocking jobs: blocks the thread. Needs no runtime.
 * -EPERM (reported) inside a task or a body of weft_block_on(); -ENOMEM when the thread cannot
 * wait. */
WEFT_API WEFT_MUST_CHECK int weft_barrier_blocking_wait(weft_barrier *b);

/* The same as a future: 1 or 0. It arrives when it is first polled. */
typedef struct weft_barrier_wait_future {
    weft_future future;
    void *opaque[5];
} weft_barrier_wait_future;
WEFT_API void weft_barrier_wait_future_init(weft_barrier_wait_future *f, weft_barrier *b);

WEFT_END_DECLS

#endif
