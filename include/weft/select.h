/*
 * Select: waits for the first of several things.
 *
 *     weft_case c[] = {weft_case_join(worker), weft_case_sleep(5 * WEFT_SEC)};
 *     switch (weft_select(c, 2)) {
 *     case 0: ... the worker has ended; c[0].rc is 0
 *     case 1: ... five seconds have passed
 *     default: ... -ECANCELED and the like
 *     }
 *
 * A case holds a future by value, and starts it anew in each select: when another case wins, it is
 * cancelled before the select returns, and what it had borrowed is free. So an array of cases may
 * be used again and again. Or a case refers to a future of the caller's (weft_case_future()): then
 * a loser stays pending, with all its progress, and the next select goes on with it.
 *
 * Which case wins when several are ready is left to chance, so that none starves; the _biased forms
 * take the first in the order of the array.
 *
 * Source: select! of Tokio, for the meaning of preconditions, patterns and else.
 */
#ifndef WEFT_SELECT_H
#define WEFT_SELECT_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/task.h>
#include <weft/time.h>

WEFT_BEGIN_DECLS

/* What a future held by value may take up. */
#define WEFT_CASE_BYTES 128

typedef struct weft_case weft_case;

union weft_case_arg {
    void *ptr;
    size_t size;
    uint64_t u64;
};

/*
 * One of the things a select waits for. Made by one of the functions below, in the caller's memory;
 * it may be moved while no select uses it, unless a future inside is pending.
 *
 * To be read after a select:
 *   rc         what the future returned when it was ready. The case that won has it, and so have
 *              cases whose result did not match. WEFT_PENDING: it did not complete.
 * To be set before one:
 *   disabled   the precondition does not hold: the case is left alone, see weft_case_if()
 */
struct weft_case {
    int rc;
    bool disabled;
    uint8_t kind, filter, state;
    bool (*matches)(int rc, void *arg);
    void *matches_arg;
    int (*start)(weft_case *c);
    union weft_case_arg arg[4]; /* for start */
    char storage[WEFT_CASE_BYTES] __attribute__((aligned(16)));
};

/* ---- making cases; none of these suspends, and all may be called anywhere ---- */

/*
 * A future of the caller's, borrowed as long as the case is used. It is polled as any other, but
 * not cancelled: neither when another case wins, nor when the task is aborted. Then c.rc is
 * WEFT_PENDING, and the future may be registered with what it waits for: what that assigns to it
 * meanwhile (a permit, a slot, a turn) nobody else gets until it is polled or cancelled. Before its
 * memory goes, and before the task ends, it is to be selected or awaited again until it completes,
 * or given to weft_case_cancel() (in a WEFT_DEFER, if the task may panic or be unwound). Where
 * no task, job or body waits (a thread inside weft_enter(), weft_block_in_place(), or no runtime),
 * by this same case, or a copy in its place: it refers to what the thread waited as, and so to the
 * runtime, until then. Once it has completed, further selects leave the case alone, and its memory
 * may go.
 */
WEFT_API weft_case weft_case_future(weft_future *f);

/*
 * A future by value, of a type of the caller's: in each select `start` makes it in
 * weft_case_storage(c) with the weft_future as its first member, from c->arg. It returns 0, or a
 * negative errno that is the case's result. The future is polled, then cancelled unless it
 * completed.
 */
WEFT_API weft_case weft_case_make(int (*start)(weft_case *c), void *arg0, void *arg1);
static inline void *weft_case_storage(weft_case *c)
{
    return c->storage;
}

/* When every other case is disabled, or had a result that does not match, this one wins. At most
 * one in a select. */
WEFT_API weft_case weft_case_else(void);

/* A select as a case of another: rc is the index of the case that won in there, or its error. The
 * cases inside are borrowed. */
WEFT_API weft_case weft_case_select(weft_case *cases, size_t count);
WEFT_API weft_case weft_case_select_biased(weft_case *cases, size_t count);

/* Tasks and time as cases. Those of other things are declared with them: weft_case_mpsc_recv() in
 * <weft/mpsc.h>, weft_case_fd() in <weft/io.h>, ... */

/* The end of a task; rc is 0, and weft_join() returns at once. The handle stays the caller's. */
WEFT_API weft_case weft_case_join(weft_task *task);
/* rc is 0 once duration_ns have passed since the select began, or weft_now() has reached
 * deadline_ns;
 * -EPERM, -ESHUTDOWN as weft_sleep(). */
WEFT_API weft_case weft_case_sleep(uint64_t duration_ns);
WEFT_API weft_case weft_case_sleep_until(uint64_t deadline_ns);

/* ---- changing cases ---- */

/* The case, disabled unless cond: what it holds is never started. For selects in a loop set
 * c.disabled. */
static inline weft_case weft_case_if(bool cond, weft_case c)
{
    c.disabled = !cond;
    return c;
}

/*
 * The case, for certain results only: one that does not match disables the case for the rest of the
 * select, which waits on for the others. What came with such a result is lost, unless the predicate
 * sees to it. It is called in poll(): it must not suspend. It may disable other cases.
 */
static inline weft_case weft_case_matching(weft_case c, bool (*matches)(int rc, void *arg),
                                           void *arg)
{
    c.filter = 2;
    c.matches = matches;
    c.matches_arg = arg;
    return c;
}
/* The same for results that are no errors. */
static inline weft_case weft_case_ok(weft_case c)
{
    c.filter = 1;
    return c;
}

/* Cancels the caller's future of a case that is pending. Of one whose poll has panicked it lets go
 * of what the case refers to; else it does nothing. NULL is reported. Never suspends. */
WEFT_API void weft_case_cancel(weft_case *c);

/* ---- waiting ---- */

/*
 * Waits until one of the cases is ready.
 *
 *   cases, count   borrowed; as many as desired. All futures in it are the calling task's
 *
 * Returns the index of the case that won, whose result is in its rc. Otherwise none did, and it is
 *   -ECANCELED  the task was aborted, or a token around the call cancelled
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ENOENT     every case is disabled, or had a result that does not match, and there is none of
 *               weft_case_else() (logged)
 *   -EINVAL     cases is NULL, or holds a future without operations (logged)
 *   -EPERM, -ENOMEM   as weft_await()
 *
 * Context:       as weft_await(). May suspend. Spends the task's budget: a loop over ready cases
 *                yields.
 * Cancellation:  as safe as the futures: those held by value are cancelled, those of the caller's
 *                stay.
 */
WEFT_API WEFT_MUST_CHECK int weft_select(weft_case *cases, size_t count);
/* The same, but of several ready cases the first wins. */
WEFT_API WEFT_MUST_CHECK int weft_select_biased(weft_case *cases, size_t count);

/* The same without waiting: -EAGAIN when no case is ready yet; or when what is polled inside has
 * made 16,384 steps that are charged to a budget (see weft_future_poll()) without being ready: try
 * again, with weft_yield() in between. Spends no budget. Futures of the caller's that were not
 * ready stay pending. Context: as weft_select(), also inside a polled future. Never
 * suspends. */
WEFT_API WEFT_MUST_CHECK int weft_try_select(weft_case *cases, size_t count);
WEFT_API WEFT_MUST_CHECK int weft_try_select_biased(weft_case *cases, size_t count);

/* The same on a plain thread, in a runtime or in none: -EPERM in a task (logged), -ENOMEM. */
WEFT_API WEFT_MUST_CHECK int weft_blocking_select(weft_case *cases, size_t count);

/* A select as a future, for composites. Its result is that of weft_select(). Cases are borrowed
 * until it has completed or was cancelled. */
typedef struct weft_select_future {
    weft_future future;
    weft_case *cases;
    size_t count;
    const void *caller;
    bool is_biased, is_begun, was_pending;
} weft_select_future;
WEFT_API void weft_select_future_init(weft_select_future *f, weft_case *cases, size_t count);
WEFT_API void weft_select_future_init_biased(weft_select_future *f, weft_case *cases, size_t count);

WEFT_END_DECLS

#endif
