/*
 * Wait groups: wait until as many things are done as were begun.
 *
 *     weft_wait_group wg = WEFT_WAIT_GROUP_INIT;
 *     for (size_t i = 0; i < n; i++) {
 *         (void)weft_wait_group_add(&wg, 1);
 *         if (weft_spawn(fetch, &jobs[i], NULL) < 0)     // ends with weft_wait_group_done(&wg)
 *             weft_wait_group_done(&wg);
 *     }
 *     rc = weft_wait_group_wait(&wg);
 *
 * What is done need not be a task. (Tasks can be waited for with their results by weft_join(), and
 * tasks that a scope owns are.) When the count reaches zero all who wait go on; then it can be used
 * again. Who has waited may free the group: the last done does not touch it afterwards.
 */
#ifndef WEFT_WAIT_GROUP_H
#define WEFT_WAIT_GROUP_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

/* In the caller's memory; needs no fini. Zeroed memory is a group with nothing to wait for. */
typedef struct weft_wait_group {
    uint64_t word;
    void *opaque[3];
} weft_wait_group;

#define WEFT_WAIT_GROUP_INIT                                                                       \
    {                                                                                              \
        0,                                                                                         \
        {                                                                                          \
            NULL, NULL, NULL                                                                       \
        }                                                                                          \
    }

/* The same for memory of any content, when nobody uses it. Never suspends. */
WEFT_API void weft_wait_group_init(weft_wait_group *wg);

/* n more to wait for. 0; -EINVAL (reported, nothing added) when the count would pass 2^32. To be
 * called before the done that it counts for. Any thread or task; never suspends. */
WEFT_API int weft_wait_group_add(weft_wait_group *wg, size_t n);

/* One is done. Without one that was added: reported, and nothing happens. Any thread or task; never
 * suspends. */
WEFT_API void weft_wait_group_done(weft_wait_group *wg);

/* How many are to be waited for, at this moment. Any thread. */
WEFT_API size_t weft_wait_group_count(const weft_wait_group *wg);

/*
 * Suspends the calling task until the count is zero.
 *
 * Returns 0. Otherwise
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ECANCELED  the calling task was aborted
 *   -EPERM      nothing here can wait (reported), see weft_await()
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Threads:       any number may wait.
 * Cancellation:  safe.
 */
WEFT_API WEFT_MUST_CHECK int weft_wait_group_wait(weft_wait_group *wg);

/* 0 when the count is zero, or -EAGAIN. Any thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_wait_group_try_wait(weft_wait_group *wg);

/* weft_wait_group_wait() for plain threads and blocking jobs: blocks the thread. Needs no runtime.
 * -EPERM (reported) inside a task or a body of weft_block_on(); -ENOMEM when the thread cannot
 * wait. */
WEFT_API WEFT_MUST_CHECK int weft_wait_group_blocking_wait(weft_wait_group *wg);

/* The same as a future: 0. */
typedef struct weft_wait_group_wait_future {
    weft_future future;
    void *opaque[5];
} weft_wait_group_wait_future;
WEFT_API void weft_wait_group_wait_future_init(weft_wait_group_wait_future *f, weft_wait_group *wg);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_wait_group_wait(weft_wait_group *wg);

WEFT_END_DECLS

#endif
