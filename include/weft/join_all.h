/*
 * Waiting for all of several things, or for the first.
 *
 * Of futures: weft_await_all() takes the cases of a select and waits until each has completed;
 * weft_await_all_ok() until one has failed. For the first that completes use weft_select().
 *
 * Of tasks: weft_join_all(); weft_join_all_ok(), which aborts the others when one has failed;
 * weft_race(), which aborts the others when one has ended. All three succeed when every task has
 * ended, so nothing runs on then that points into the caller's frame.
 *
 * In a forked child a task of its parent's does not end: waiting for it returns -EPERM with a line
 * in the log.
 *
 * Source: join!, try_join! and race of Rust's futures crates.
 */
#ifndef WEFT_JOIN_ALL_H
#define WEFT_JOIN_ALL_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/select.h>
#include <weft/task.h>

WEFT_BEGIN_DECLS

/* ---- futures ---- */

enum weft_await_flags {
    /* An error, a result below 0, ends it: what is held by value and has not completed is
     * cancelled. */
    WEFT_AWAIT_OK = 1,
    /* Polls from the first case on each time. Default: from another one each time, so that a case
     * that uses the task's budget up does not starve the others. */
    WEFT_AWAIT_BIASED = 2,
};

/*
 * Waits until all cases have completed, whatever with.
 *
 *   cases, count   borrowed. Disabled ones and weft_case_else() are left out; patterns are not
 *                  looked at
 *
 * Returns 0 with each result in its case's rc; at once when there is nothing to wait for. Otherwise
 *   -ECANCELED, -ETIMEDOUT, -EPERM   as weft_await(). Cases held by value that have not completed
 *                                    are cancelled; rc of those that have is set
 *   -EINVAL                          as weft_select()
 *
 * Context:       as weft_await(). May suspend.
 * Cancellation:  as weft_select().
 */
WEFT_API WEFT_MUST_CHECK int weft_await_all(weft_case *cases, size_t count);
/* The same, or returns the first error, as soon as there is one. */
WEFT_API WEFT_MUST_CHECK int weft_await_all_ok(weft_case *cases, size_t count);
/* The same with flags of enum weft_await_flags; -EINVAL (logged) also for others. */
WEFT_API WEFT_MUST_CHECK int weft_await_all_with(unsigned flags, weft_case *cases, size_t count);

/* The same as a future. */
typedef struct weft_await_all_future {
    weft_future future;
    weft_case *cases;
    size_t count, first;
    unsigned flags;
    bool is_begun;
} weft_await_all_future;
WEFT_API void weft_await_all_future_init(weft_await_all_future *f, unsigned flags, weft_case *cases,
                                         size_t count);

/* ---- tasks ---- */

/*
 * Waits until all tasks have ended.
 *
 *   tasks, count   count handles; given up when the result is 0 or more, the caller's still
 *                  otherwise. One that is there twice gives its outcome in the first place, and
 *                  counts as cancelled, being spent, in the second
 *   ret_outcomes   an array of count; NULL: the outcomes are dropped, see weft_join()
 *
 * Returns the number of tasks that did not end with a value. Otherwise the wait has been given up,
 * the tasks go on, those that were aborted included, and it is
 *   -ECANCELED, -ETIMEDOUT, -EPERM   as weft_await()
 *   -EINVAL     an array or a handle is NULL, or a handle is spent (logged)
 *   -EDEADLK    one of them is the calling task (logged)
 *
 * Context:       as weft_await(). May suspend.
 * Cancellation:  safe; calling again continues.
 */
WEFT_API WEFT_MUST_CHECK int weft_join_all(weft_task *const *tasks, size_t count,
                                           weft_outcome *ret_outcomes);

/* The same, but as soon as one has panicked or was cancelled the others are aborted.
 *
 *   ret_failed   the index of that one; left alone when none did. May be NULL. In a call that
 *                continues one which was given up it may be one that was aborted then */
WEFT_API WEFT_MUST_CHECK int weft_join_all_ok(weft_task *const *tasks, size_t count,
                                              weft_outcome *ret_outcomes, size_t *ret_failed);

/* The same, but as soon as one has ended, in whatever way, the others are aborted. Returns the
 * index of that one instead, or of another in a call that continues one which was given up; -EINVAL
 * also when count is 0. */
WEFT_API WEFT_MUST_CHECK int weft_race(weft_task *const *tasks, size_t count,
                                       weft_outcome *ret_outcomes);

/*
 * The same as a future; its result is that of the function. Handles and arrays are borrowed until
 * it has completed, which gives the handles up, or was cancelled. Handles are not checked before,
 * and a spent one counts as a task that has ended; but the first poll finds the task that waits
 * among them: -EDEADLK, and nothing was done. So it finds a NULL array: -EINVAL.
 */
typedef struct weft_join_all_future {
    weft_future future;
    weft_task *const *tasks;
    size_t count, waits_for, first;
    weft_outcome *ret_outcomes;
    size_t *ret_failed;
    uint8_t mode, phase;
} weft_join_all_future;
WEFT_API void weft_join_all_future_init(weft_join_all_future *f, weft_task *const *tasks,
                                        size_t count, weft_outcome *ret_outcomes);
WEFT_API void weft_join_all_ok_future_init(weft_join_all_future *f, weft_task *const *tasks,
                                           size_t count, weft_outcome *ret_outcomes,
                                           size_t *ret_failed);
WEFT_API void weft_race_future_init(weft_join_all_future *f, weft_task *const *tasks, size_t count,
                                    weft_outcome *ret_outcomes);

WEFT_END_DECLS

#endif
