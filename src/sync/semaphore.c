#include "sync/semaphore.h"

#include "task/await.h"

#include <weft/semaphore.h>

_Static_assert(sizeof(struct weft__sem) <= sizeof(weft_semaphore), "weft_semaphore is too small");
_Static_assert(offsetof(struct weft__sem, word) == offsetof(weft_semaphore, word),
               "WEFT_SEMAPHORE_INIT sets the word");

#define CLOSED_BY (WEFT__WAITER_ENDED + 1) /* result of a waiter; ENDED: it has its permits */

/* ---- the core ---- */

bool weft__sem_is_closed(struct weft__sem *s)
{
    /* acquire pairs with the exchange in weft_semaphore_close: what was done before it is seen, and
     * that the lock is held. mutation: a lock's word is never read late in a model. */
    if (!(weft__a64_load_acquire(&s->word) & WEFT__SEM_CLOSED))
        return false;
    weft__lock_settle(&s->lock);
    return true;
}

static bool has_room(uint64_t word, uint64_t count, struct weft__sem_limits l)
{
    return count <= l.max && weft__sem_permits(word, l) <= l.max - count;
}

static uint64_t count_of(const struct weft__waiter *w)
{
    return WEFT__CONTAINER_OF(w, const struct weft__sem_wait, waiter)->count;
}

/* Under the lock, with QUEUED: serves those who wait, from the permits in the word and `count`
 * more. */
static void serve(struct weft__sem *s, uint64_t count, struct weft__sem_limits l,
                  struct weft__wake_list *woken)
{
    /* acquire pairs with the releases that brought the permits: who is served sees them through
     * us */
    uint64_t left = weft__sem_permits(weft__a64_load_acquire(&s->word), l) + count;
    struct weft__waiter *w = s->waiters.first;
    for (; w && count_of(w) <= left; w = w->next)
        left -= count_of(w);
    /* Before anybody is served, since the last one may free the semaphore: as long as it waits,
     * nobody may. release as in weft__sem_release */
    weft__a64_store_release(&s->word,
                            (left - l.base) << WEFT__SEM_SHIFT | (w ? WEFT__SEM_QUEUED : 0));
    while (s->waiters.first != w)
        weft__waitq_end(&s->waiters, s->waiters.first, WEFT__WAITER_ENDED, woken);
}

bool weft__sem_release_slow(struct weft__sem *s, uint64_t count, struct weft__sem_limits l)
{
    uint64_t word = weft__a64_load_relaxed(&s->word);
    while (has_room(word, count, l)) {
        if (!(word & WEFT__SEM_QUEUED)) {
            /* release as in weft__sem_release */
            if (weft__a64_cas_weak_release(&s->word, &word, word + (count << WEFT__SEM_SHIFT)))
                return true;
            continue;
        }
        struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
        weft__lock_acquire(&s->lock);
        word = weft__a64_load_relaxed(&s->word); /* with QUEUED it is ours */
        bool is_brought = (word & WEFT__SEM_QUEUED) && has_room(word, count, l);
        if (is_brought)
            serve(s, count, l, &woken);
        weft__lock_release(&s->lock);
        weft__wake_list_flush(&woken);
        if (is_brought)
            return true; /* without a look at s, which may be gone */
    }
    return false;
}

/* Under the lock, by one who is not queued yet: takes the permits, 0; -EPIPE; or says that there is
 * a queue to stand in, WEFT_PENDING. */
static int take_or_announce(struct weft__sem *s, uint64_t count, struct weft__sem_limits l)
{
    uint64_t word = weft__a64_load_relaxed(&s->word);
    for (;;) {
        if (word & WEFT__SEM_CLOSED)
            return -EPIPE;
        if (word & WEFT__SEM_QUEUED)
            return WEFT_PENDING;
        if (weft__sem_permits(word, l) >= count) {
            /* acquire as in weft__sem_try */
            if (weft__a64_cas_weak_acquire(&s->word, &word, word - (count << WEFT__SEM_SHIFT)))
                return 0;
        } else if (weft__a64_cas_weak_relaxed(&s->word, &word, word | WEFT__SEM_QUEUED)) {
            /* relaxed: who finds the bit looks at the queue under the lock */
            return WEFT_PENDING;
        }
    }
}

static int result_of(const struct weft__sem_wait *w)
{
    switch (weft__waiter_result(&w->waiter)) {
    case 0:
        return WEFT_PENDING;
    case CLOSED_BY:
        return -EPIPE;
    default:
        return 0;
    }
}

/* For the first time. 0, -EPIPE or WEFT_PENDING. */
static inline int take_or_queue(struct weft__sem_wait *w, weft_waker *waker)
{
    struct weft__sem *s = w->sem;
    weft__lock_acquire(&s->lock);
    int rc = take_or_announce(s, w->count, w->limits);
    if (rc == WEFT_PENDING)
        weft__waitq_push_back(&s->waiters, &w->waiter, waker);
    weft__lock_release(&s->lock);
    return rc;
}

int weft__sem_poll(struct weft__sem_wait *w, weft_waker *waker)
{
    struct weft__sem *s = w->sem;
    int rc = result_of(w);
    if (rc != WEFT_PENDING)
        return rc;
    if (weft__waiter_is_idle(&w->waiter)) /* nobody else knows it yet */
        return take_or_queue(w, waker);
    weft__lock_acquire(&s->lock);
    bool must_wait = weft__waiter_must_wait(&s->waiters, &w->waiter, waker);
    weft__lock_release(&s->lock);
    return must_wait ? WEFT_PENDING : result_of(w);
}

void weft__sem_cancel(struct weft__sem_wait *w)
{
    struct weft__sem *s = w->sem;
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&s->lock);
    if (weft__waitq_leave(&s->waiters, &w->waiter))
        serve(s, 0, w->limits, &woken); /* those behind may need less */
    bool has_permits = weft__waiter_result(&w->waiter) == WEFT__WAITER_ENDED;
    weft__waiter_init(&w->waiter); /* a second cancel finds nothing to give back */
    weft__lock_release(&s->lock);
    weft__wake_list_flush(&woken);
    if (has_permits) /* they were the semaphore's: there is room */
        (void)weft__sem_release(s, w->count, w->limits);
}

/* ---- the public semaphore ---- */

struct acquire_future {
    weft_future future;
    struct weft__sem_wait wait;
};
_Static_assert(sizeof(struct acquire_future) <= sizeof(weft_semaphore_acquire_future),
               "weft_semaphore_acquire_future is too small");

static const struct weft__sem_limits limits = {.base = 0, .max = WEFT_SEMAPHORE_MAX};

static inline struct weft__sem *sem_of(const weft_semaphore *s)
{
    return (struct weft__sem *)(uintptr_t)s;
}

/* 0, -EAGAIN, -EPIPE. No permits at all are nobody's turn: they are had past those who wait. */
static inline int try_some(weft_semaphore *s, size_t n)
{
    if (WEFT__UNLIKELY(n == 0))
        return weft__sem_is_closed(sem_of(s)) ? -EPIPE : 0;
    return weft__sem_try(sem_of(s), n, limits);
}

static int acquire_poll(weft_future *f, weft_waker *waker)
{
    struct acquire_future *a = WEFT__CONTAINER_OF(f, struct acquire_future, future);
    if (WEFT__UNLIKELY(a->wait.count > WEFT_SEMAPHORE_MAX))
        return -EINVAL; /* reported when it was initialised */
    if (WEFT__UNLIKELY(a->wait.count == 0))
        return weft__sem_is_closed(a->wait.sem) ? -EPIPE : 0; /* as try_some() */
    return weft__sem_poll(&a->wait, waker);
}

static void acquire_cancel(weft_future *f)
{
    weft__sem_cancel(&WEFT__CONTAINER_OF(f, struct acquire_future, future)->wait);
}

static const weft_future_ops acquire_ops = {acquire_poll, acquire_cancel, "semaphore"};

static void acquire_init(struct acquire_future *f, weft_semaphore *s, size_t n)
{
    f->future.ops = &acquire_ops;
    weft__sem_wait_init(&f->wait, sem_of(s), n, limits);
}

static const char too_many[] = "more permits than WEFT_SEMAPHORE_MAX";

int weft_semaphore_init(weft_semaphore *s, size_t permits)
{
    if (permits > WEFT_SEMAPHORE_MAX)
        return weft__misuse("weft_semaphore_init", -EINVAL, too_many, WEFT__CALLER);
    *s = (weft_semaphore)WEFT_SEMAPHORE_INIT(permits);
    return 0;
}

/* As weft__wait_for() the future, but what happens nearly always it does by itself: the permits are
 * handed over. */
static WEFT__NOINLINE int acquire_slow(weft_semaphore *s, size_t n)
{
    struct weft__task *self = weft__task_current();
    struct acquire_future f;
    acquire_init(&f, s, n);
    if (WEFT__UNLIKELY(!weft__waits_by_itself(self)))
        return weft__wait_for(&f.future);
    int rc = take_or_queue(&f.wait, weft__task_waker(self));
    if (rc != WEFT_PENDING)
        return rc;
    int why = weft__wait_pending(self, &acquire_ops);
    if (WEFT__UNLIKELY(why != 0)) {
        weft__sem_cancel(&f.wait);
        return weft__wait_stopped(self, why);
    }
    rc = result_of(&f.wait);
    return WEFT__LIKELY(rc != WEFT_PENDING) ? rc : weft__wait_for(&f.future);
}

static inline int acquire(const char *call, weft_semaphore *s, size_t n, const void *caller)
{
    int rc = weft__wait_begin(call, caller);
    if (rc < 0)
        return rc;
    if (WEFT__UNLIKELY(n > WEFT_SEMAPHORE_MAX))
        return weft__misuse(call, -EINVAL, too_many, caller);
    rc = try_some(s, n);
    return WEFT__LIKELY(rc != -EAGAIN) ? rc : weft__stay_for(acquire_slow(s, n));
}

static int try_acquire(const char *call, weft_semaphore *s, size_t n, const void *caller)
{
    if (WEFT__UNLIKELY(n > WEFT_SEMAPHORE_MAX))
        return weft__misuse(call, -EINVAL, too_many, caller);
    return try_some(s, n);
}

static int blocking_acquire(const char *call, weft_semaphore *s, size_t n, const void *caller)
{
    int rc = weft__blocking_begin(call, caller);
    if (rc < 0)
        return rc;
    rc = try_acquire(call, s, n, caller);
    if (rc != -EAGAIN)
        return rc;
    struct acquire_future f;
    acquire_init(&f, s, n);
    return weft__wait_blocking(call, &f.future, caller);
}

int weft_semaphore_acquire(weft_semaphore *s)
{
    return acquire("weft_semaphore_acquire", s, 1, WEFT__CALLER);
}

int weft_semaphore_acquire_many(weft_semaphore *s, size_t n)
{
    return acquire("weft_semaphore_acquire_many", s, n, WEFT__CALLER);
}

int weft_semaphore_try_acquire(weft_semaphore *s)
{
    return weft__sem_try(sem_of(s), 1, limits);
}

int weft_semaphore_try_acquire_many(weft_semaphore *s, size_t n)
{
    return try_acquire("weft_semaphore_try_acquire_many", s, n, WEFT__CALLER);
}

int weft_semaphore_blocking_acquire(weft_semaphore *s)
{
    return blocking_acquire("weft_semaphore_blocking_acquire", s, 1, WEFT__CALLER);
}

int weft_semaphore_blocking_acquire_many(weft_semaphore *s, size_t n)
{
    return blocking_acquire("weft_semaphore_blocking_acquire_many", s, n, WEFT__CALLER);
}

void weft_semaphore_acquire_future_init(weft_semaphore_acquire_future *f, weft_semaphore *s,
                                        size_t n)
{
    if (WEFT__UNLIKELY(n > WEFT_SEMAPHORE_MAX))
        (void)weft__misuse("weft_semaphore_acquire_future_init", -EINVAL, too_many,
                           WEFT__CALLER); /* returned by the poll */
    acquire_init((struct acquire_future *)f, s, n);
}

static int add(const char *call, weft_semaphore *s, size_t n, const void *caller)
{
    if (n > WEFT_SEMAPHORE_MAX || !weft__sem_release(sem_of(s), n, limits))
        return weft__misuse(call, -EINVAL, too_many, caller);
    return 0;
}

void weft_semaphore_release(weft_semaphore *s, size_t n)
{
    (void)add("weft_semaphore_release", s, n,
              WEFT__CALLER); /* reported, and there is no more to do */
}

int weft_semaphore_add_permits(weft_semaphore *s, size_t n)
{
    return add("weft_semaphore_add_permits", s, n, WEFT__CALLER);
}

size_t weft_semaphore_forget_permits(weft_semaphore *s, size_t n)
{
    struct weft__sem *sem = sem_of(s);
    size_t taken;
    /* Under the lock: with QUEUED the word is its holder's. */
    weft__lock_acquire(&sem->lock);
    uint64_t word = weft__a64_load_relaxed(&sem->word);
    do {
        uint64_t permits = weft__sem_permits(word, limits);
        taken = permits < n ? (size_t)permits : n;
        /* acquire: what those did who gave the permits back comes before what follows here */
    } while (!weft__a64_cas_weak_acquire(&sem->word, &word,
                                         word - ((uint64_t)taken << WEFT__SEM_SHIFT)));
    weft__lock_release(&sem->lock);
    return taken;
}

size_t weft_semaphore_available(const weft_semaphore *s)
{
    /* acquire: who sees the permits sees what was done before they were given back */
    return (size_t)weft__sem_permits(weft__a64_load_acquire(&sem_of(s)->word), limits);
}

void weft_semaphore_close(weft_semaphore *s)
{
    struct weft__sem *sem = sem_of(s);
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&sem->lock);
    uint64_t word = weft__a64_load_relaxed(&sem->word);
    /* release pairs with the acquire in weft__sem_is_closed. An exchange, since without QUEUED
     * others change the word too. mutation: as in weft__sem_is_closed. */
    while (!weft__a64_cas_weak_release(&sem->word, &word,
                                       (word | WEFT__SEM_CLOSED) & ~WEFT__SEM_QUEUED)) {
    }
    weft__waitq_end_all(&sem->waiters, CLOSED_BY, &woken);
    weft__lock_release(&sem->lock);
    weft__wake_list_flush(&woken);
}

bool weft_semaphore_is_closed(const weft_semaphore *s)
{
    return weft__sem_is_closed(sem_of(s));
}

static int start_acquire(weft_case *c)
{
    weft_semaphore_acquire_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].size);
    return 0;
}

weft_case weft_case_semaphore_acquire(weft_semaphore *s, size_t n)
{
    weft_case c = weft_case_make(start_acquire, s, NULL);
    c.arg[1].size = n;
    return c;
}
