#include "sync/mutex.h"

#include "task/await.h"

/* ---- waiting for it ---- */

/* Under the lock, by one who is not queued yet: takes the mutex, or says that there is a queue to
 * stand in. */
static bool take_or_announce(struct weft__mutex *m)
{
    uint32_t word = weft__a32_load_relaxed(&m->word);
    for (;;) {
        if (word == 0) {
            /* acquire as in weft__mutex_try */
            if (weft__a32_cas_weak_acquire(&m->word, &word, WEFT__MUTEX_LOCKED))
                return true;
        } else if ((word & WEFT__MUTEX_QUEUED) ||
                   weft__a32_cas_weak_relaxed(&m->word, &word, word | WEFT__MUTEX_QUEUED)) {
            /* relaxed: who finds the bit looks at the queue under the lock */
            return false;
        }
    }
}

/* For the first time. False: it has the mutex. */
static inline bool lock_or_queue(struct weft__mutex_wait *w, weft_waker *waker)
{
    struct weft__mutex *m = w->mutex;
    weft__lock_acquire(&m->lock);
    bool must_wait = !take_or_announce(m);
    if (must_wait)
        weft__waitq_push_back(&m->waiters, &w->waiter, waker);
    weft__lock_release(&m->lock);
    return must_wait;
}

static int wait_poll(weft_future *f, weft_waker *waker)
{
    struct weft__mutex_wait *w = WEFT__CONTAINER_OF(f, struct weft__mutex_wait, future);
    struct weft__mutex *m = w->mutex;
    if (weft__waiter_result(&w->waiter))
        return 0;
    if (weft__waiter_is_idle(&w->waiter)) /* nobody else knows it yet */
        return lock_or_queue(w, waker) ? WEFT_PENDING : 0;
    weft__lock_acquire(&m->lock);
    bool must_wait = weft__waiter_must_wait(&m->waiters, &w->waiter, waker);
    weft__lock_release(&m->lock);
    return must_wait ? WEFT_PENDING : 0;
}

static void wait_cancel(weft_future *f)
{
    struct weft__mutex_wait *w = WEFT__CONTAINER_OF(f, struct weft__mutex_wait, future);
    struct weft__mutex *m = w->mutex;
    weft__lock_acquire(&m->lock);
    if (weft__waitq_leave(&m->waiters, &w->waiter) && weft__waitq_is_empty(&m->waiters)) {
        uint32_t word = WEFT__MUTEX_LOCKED | WEFT__MUTEX_QUEUED;
        /* relaxed: it was locked, and still is. When the exchange fails, the holder has let go and
         * is about to find nobody. */
        (void)weft__a32_cas_relaxed(&m->word, &word, WEFT__MUTEX_LOCKED);
    }
    bool has_mutex = weft__waiter_result(&w->waiter) != 0; /* it had been handed over */
    weft__waiter_init(&w->waiter); /* a second cancel finds nothing to give back */
    weft__lock_release(&m->lock);
    if (has_mutex)
        (void)weft__mutex_release(m);
}

static const weft_future_ops wait_ops = {wait_poll, wait_cancel, "mutex"};

void weft__mutex_wait_init(struct weft__mutex_wait *w, struct weft__mutex *m)
{
    w->future.ops = &wait_ops;
    w->mutex = m;
    weft__waiter_init(&w->waiter);
}

/* ---- letting go ---- */

/* Under the lock. */
static uint32_t locked_word(const struct weft__mutex *m)
{
    return weft__waitq_is_empty(&m->waiters) ? WEFT__MUTEX_LOCKED
                                             : WEFT__MUTEX_LOCKED | WEFT__MUTEX_QUEUED;
}

/* After a subtraction that did not leave 0. False: it was not locked. */
static WEFT__NOINLINE bool hand_over(struct weft__mutex *m)
{
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    bool was_locked = true;
    for (;;) {
        weft__lock_acquire(&m->lock);
        struct weft__waiter *first = m->waiters.first;
        if (weft__a32_load_relaxed(&m->word) > (WEFT__MUTEX_LOCKED | WEFT__MUTEX_QUEUED))
            was_locked = false;
        if (first)
            weft__waitq_end(&m->waiters, first, WEFT__WAITER_ENDED, &woken);
        if (first || was_locked)
            /* relaxed: what the next holder sees of ours, it sees through its waiter */
            weft__a32_store_relaxed(&m->word, locked_word(m));
        else
            /* an exchange: the next one goes on seeing the section of the last holder */
            (void)weft__a32_swap_relaxed(&m->word, 0);
        weft__lock_release(&m->lock);
        if (first || !was_locked)
            break;
        /* Who waited has left. Once the word is 0 the mutex may be gone, so not under its lock.
         * release as in weft__mutex_release */
        uint32_t locked = WEFT__MUTEX_LOCKED;
        if (weft__a32_cas_release(&m->word, &locked, 0))
            break;
    }
    weft__wake_list_flush(&woken);
    return was_locked;
}

bool weft__mutex_release(struct weft__mutex *m)
{
    /* release pairs with the acquire in weft__mutex_try: the section is seen by the next */
    uint32_t word = weft__a32_sub_release(&m->word, WEFT__MUTEX_LOCKED);
    return WEFT__LIKELY(word == WEFT__MUTEX_LOCKED) || hand_over(m);
}

/* ---- the public mutex ---- */

void weft_mutex_init(weft_mutex *m)
{
    *m = (weft_mutex)WEFT_MUTEX_INIT;
}

/* As weft__wait_for() the future, but what happens nearly always it does by itself: the mutex is
 * handed over. */
static WEFT__NOINLINE int lock_slow(struct weft__mutex *m)
{
    struct weft__task *self = weft__task_current();
    struct weft__mutex_wait w;
    weft__mutex_wait_init(&w, m);
    if (WEFT__UNLIKELY(!weft__waits_by_itself(self)))
        return weft__wait_for(&w.future);
    if (!lock_or_queue(&w, weft__task_waker(self)))
        return 0;
    int why = weft__wait_pending(self, &wait_ops);
    if (WEFT__UNLIKELY(why != 0)) {
        wait_cancel(&w.future);
        return weft__wait_stopped(self, why);
    }
    return WEFT__LIKELY(weft__waiter_result(&w.waiter)) ? 0 : weft__wait_for(&w.future);
}

int weft_mutex_lock(weft_mutex *mutex)
{
    int rc = weft__wait_begin("weft_mutex_lock", WEFT__CALLER);
    if (WEFT__UNLIKELY(rc < 0))
        return rc;
    struct weft__mutex *m = weft__mutex_of(mutex);
    return WEFT__LIKELY(weft__mutex_try(m)) ? 0 : weft__stay_for(lock_slow(m));
}

int weft_mutex_try_lock(weft_mutex *m)
{
    return weft__mutex_try(weft__mutex_of(m)) ? 0 : -EAGAIN;
}

int weft_mutex_blocking_lock(weft_mutex *mutex)
{
    int rc = weft__blocking_begin("weft_mutex_blocking_lock", WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct weft__mutex *m = weft__mutex_of(mutex);
    if (weft__mutex_try(m))
        return 0;
    struct weft__mutex_wait w;
    weft__mutex_wait_init(&w, m);
    return weft__wait_blocking("weft_mutex_blocking_lock", &w.future, WEFT__CALLER);
}

void weft_mutex_lock_future_init(weft_mutex_lock_future *f, weft_mutex *m)
{
    weft__mutex_wait_init((struct weft__mutex_wait *)f, weft__mutex_of(m));
}

void weft_mutex_unlock(weft_mutex *m)
{
    if (WEFT__UNLIKELY(!weft__mutex_release(weft__mutex_of(m))))
        (void)weft__misuse("weft_mutex_unlock", -EPERM, "the mutex is not locked", WEFT__CALLER);
}

bool weft_mutex_is_locked(const weft_mutex *m)
{
    return weft__a32_load_relaxed(&weft__mutex_of(m)->word) != 0; /* nothing follows from it */
}

void weft__mutex_guard(void *mutex)
{
    weft_mutex_unlock(mutex);
}

static int start_lock(weft_case *c)
{
    weft_mutex_lock_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_mutex_lock(weft_mutex *m)
{
    return weft_case_make(start_lock, m, NULL);
}
