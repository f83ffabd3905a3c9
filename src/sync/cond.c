/*
 * The wait is one future of two steps: to be signalled, then to have the mutex again. What an abort
 * or a deadline does in either is the future's cancel; that the caller has the mutex in the end is
 * seen to by a cleanup, which an unwinding abort runs before those of the caller.
 */
#include "sync/mutex.h"

#include <weft/cond.h>

struct cond {
    struct weft__lock lock;
    /* Written under the lock; read without it, by who signals: a waiter that it has to see counted
     * itself before it unlocked the mutex. */
    weft__a32 waiting;
    struct weft__waitq waiters; /* under the lock */
};
_Static_assert(sizeof(struct cond) <= sizeof(weft_cond), "weft_cond is too small");

/* Results of a waiter. */
enum { BY_SIGNAL = WEFT__WAITER_ENDED, BY_BROADCAST };

enum step {
    STEP_NONE, /* not polled: the caller has the mutex */
    STEP_SIGNAL,
    STEP_MUTEX,
    STEP_HAS_MUTEX,
    STEP_CANCELLED,
};

struct wait {
    weft_future future;
    struct cond *cond;
    struct weft__waiter waiter;
    struct weft__mutex_wait mutex;
    enum step step;
};
_Static_assert(sizeof(struct wait) <= sizeof(weft_cond_wait_future),
               "weft_cond_wait_future is too small");

static inline struct cond *cond_of(weft_cond *c)
{
    return (struct cond *)c;
}

/* ---- signalling ---- */

void weft_cond_init(weft_cond *c)
{
    *c = (weft_cond)WEFT_COND_INIT;
}

/* Under the lock. */
static void count_waiting(struct cond *c, int delta)
{
    /* relaxed: see the field */
    uint32_t waiting = weft__a32_load_relaxed(&c->waiting);
    weft__a32_store_relaxed(&c->waiting, waiting + (uint32_t)delta);
}

static WEFT__NOINLINE void wake_waiters(struct cond *c, uint32_t how)
{
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&c->lock);
    while (c->waiters.first) {
        weft__waitq_end(&c->waiters, c->waiters.first, how, &woken);
        count_waiting(c, -1);
        if (how == BY_SIGNAL)
            break;
    }
    weft__lock_release(&c->lock);
    weft__wake_list_flush(&woken);
}

void weft_cond_signal(weft_cond *c)
{
    if (weft__a32_load_relaxed(&cond_of(c)->waiting) != 0) /* see the field */
        wake_waiters(cond_of(c), BY_SIGNAL);
}

void weft_cond_broadcast(weft_cond *c)
{
    if (weft__a32_load_relaxed(&cond_of(c)->waiting) != 0) /* see the field */
        wake_waiters(cond_of(c), BY_BROADCAST);
}

/* ---- waiting ---- */

static int check_locked(const char *call, const struct weft__mutex *m, const void *caller)
{
    /* relaxed: if the caller has locked it, it sees that */
    if (WEFT__LIKELY(weft__a32_load_relaxed(&m->word) != 0))
        return 0;
    return weft__misuse(call, -EPERM, "the mutex is not locked", caller);
}

/* The first poll: the caller is in the queue before anybody can have the mutex and signal. */
static void begin(struct wait *w, weft_waker *waker)
{
    struct cond *c = w->cond;
    weft__lock_acquire(&c->lock);
    weft__waitq_push_back(&c->waiters, &w->waiter, waker);
    count_waiting(c, 1);
    weft__lock_release(&c->lock);
    w->step = STEP_SIGNAL;
    (void)weft__mutex_release(w->mutex.mutex);
}

static bool is_signalled(struct wait *w, weft_waker *waker)
{
    struct cond *c = w->cond;
    if (weft__waiter_result(&w->waiter))
        return true;
    weft__lock_acquire(&c->lock);
    bool must_wait = weft__waiter_must_wait(&c->waiters, &w->waiter, waker);
    weft__lock_release(&c->lock);
    return !must_wait;
}

static int wait_poll(weft_future *f, weft_waker *waker)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    if (w->step == STEP_NONE) {
        int rc = check_locked("weft_cond_wait", w->mutex.mutex, NULL);
        if (rc < 0)
            return rc;
        begin(w, waker);
        return WEFT_PENDING;
    }
    if (w->step == STEP_SIGNAL) {
        if (!is_signalled(w, waker))
            return WEFT_PENDING;
        w->step = STEP_MUTEX;
    }
    int rc = w->mutex.future.ops->poll(&w->mutex.future, waker);
    if (rc == 0)
        w->step = STEP_HAS_MUTEX;
    return rc;
}

static void wait_cancel(weft_future *f)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    struct cond *c = w->cond;
    if (w->step == STEP_MUTEX)
        w->mutex.future.ops->cancel(&w->mutex.future);
    w->step = STEP_CANCELLED;
    weft__lock_acquire(&c->lock);
    if (weft__waitq_leave(&c->waiters, &w->waiter))
        count_waiting(c, -1);
    uint32_t result = weft__waiter_result(&w->waiter);
    weft__waiter_init(&w->waiter); /* a second cancel finds nothing to pass on */
    weft__lock_release(&c->lock);
    /* Who gives up must not have used up the signal that another one needs. */
    if (result == BY_SIGNAL)
        weft_cond_signal((weft_cond *)c);
}

static const weft_future_ops wait_ops = {wait_poll, wait_cancel, "condition variable"};

static void wait_init(struct wait *w, weft_cond *c, weft_mutex *m)
{
    w->future.ops = &wait_ops;
    w->cond = cond_of(c);
    weft__waiter_init(&w->waiter);
    weft__mutex_wait_init(&w->mutex, weft__mutex_of(m));
    w->step = STEP_NONE;
}

void weft_cond_wait_future_init(weft_cond_wait_future *f, weft_cond *c, weft_mutex *m)
{
    wait_init((struct wait *)f, c, m);
}

/* A cleanup, run in every case. An abort that is unwinding, or comes now, waits for it. */
static void take_mutex_back(void *arg)
{
    struct wait *w = arg;
    if (w->step == STEP_NONE || w->step == STEP_HAS_MUTEX || weft__mutex_try(w->mutex.mutex))
        return;
    weft__mutex_wait_init(&w->mutex, w->mutex.mutex);
    int rc = weft__wait_for_held(&w->mutex.future);
    WEFT_ASSERT(rc == 0); /* the caller has waited, so it can; and a mutex knows no errors */
}

int weft_cond_wait(weft_cond *c, weft_mutex *m)
{
    int rc = check_locked("weft_cond_wait", weft__mutex_of(m), WEFT__CALLER);
    if (rc == 0)
        rc = weft__wait_begin("weft_cond_wait", WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct wait w;
    wait_init(&w, c, m);
    WEFT_DEFER(take_mutex_back, &w);
    return weft__wait_for(&w.future);
}

int weft_cond_blocking_wait(weft_cond *c, weft_mutex *m)
{
    int rc = check_locked("weft_cond_blocking_wait", weft__mutex_of(m), WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct wait w;
    wait_init(&w, c, m);
    rc = weft__wait_blocking("weft_cond_blocking_wait", &w.future, WEFT__CALLER);
    /* Ended before its time only by a deadline, in a runtime, where a thread that has waited can
     * wait again. */
    take_mutex_back(&w);
    return rc;
}
