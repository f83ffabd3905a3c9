/*
 * The semaphore inside: what weft_semaphore and weft_rwlock are made of.
 *
 * One word holds the permits that nobody has, counted from a base, whether somebody waits (QUEUED)
 * and whether it is closed. Without QUEUED whoever wants permits, or brings some, changes the word
 * by one compare-exchange. With it, nobody does: permits are taken and brought under the lock, for
 * those who wait in the queue. QUEUED is set by a compare-exchange, under the lock, by one who
 * found too few permits: a release that came in between has changed the word, and is seen. So
 * nothing is stored on one side and looked for on the other, and there is no wake-up to lose.
 *
 *   QUEUED     as long as the queue is not empty, whoever holds the lock apart
 *   CLOSED     the queue is empty, and stays so
 *
 * Nothing is touched after the step that may let another free the semaphore: permits that are left
 * over are in the word before those who are served are told, and as long as one of them waits
 * nobody may free it. Of who was handed permits the wait queue takes care; who finds CLOSED without
 * having waited waits for the lock to be let go (weft__lock_settle()).
 */
#ifndef WEFT_SYNC_SEMAPHORE_H
#define WEFT_SYNC_SEMAPHORE_H

#include "task/waitq.h"

#include <errno.h>

#define WEFT__SEM_QUEUED UINT64_C(1)
#define WEFT__SEM_CLOSED UINT64_C(2)
#define WEFT__SEM_SHIFT 2

/* How many permits there are, as the object means it: constants of its kind, or fields of it. */
struct weft__sem_limits {
    uint64_t base; /* permits of a word of zero: so that zeroed memory is a lock that is free */
    uint64_t max;
};

struct weft__sem {
    weft__a64 word; /* (permits - base) << SHIFT, CLOSED, QUEUED */
    struct weft__lock lock;
    struct weft__waitq waiters; /* of weft__sem_wait; under the lock */
};

/* One who waits for `count` permits. Its memory is that of a future. */
struct weft__sem_wait {
    struct weft__sem *sem;
    uint64_t count;
    struct weft__sem_limits limits;
    struct weft__waiter waiter;
};

static inline uint64_t weft__sem_permits(uint64_t word, struct weft__sem_limits l)
{
    return (uint64_t)((int64_t)word >> WEFT__SEM_SHIFT) + l.base;
}

/* True: who closed it does not touch it any more. */
WEFT__COLD bool weft__sem_is_closed(struct weft__sem *s);

/* 0, -EAGAIN, -EPIPE. */
static inline int weft__sem_try(struct weft__sem *s, uint64_t count, struct weft__sem_limits l)
{
    uint64_t word = weft__a64_load_relaxed(&s->word);
    do {
        if (WEFT__UNLIKELY(word & WEFT__SEM_CLOSED))
            return weft__sem_is_closed(s) ? -EPIPE : -EAGAIN; /* it is, and stays so */
        if ((word & WEFT__SEM_QUEUED) || weft__sem_permits(word, l) < count)
            return -EAGAIN;
        /* acquire pairs with the release of who gave the permits back */
    } while (!weft__a64_cas_weak_acquire(&s->word, &word, word - (count << WEFT__SEM_SHIFT)));
    return 0;
}

static inline void weft__sem_wait_init(struct weft__sem_wait *w, struct weft__sem *s,
                                       uint64_t count, struct weft__sem_limits l)
{
    w->sem = s;
    w->count = count;
    w->limits = l;
    weft__waiter_init(&w->waiter);
}

/* As a future's: 0, -EPIPE, or WEFT_PENDING. */
int weft__sem_poll(struct weft__sem_wait *w, weft_waker *waker);
/* As a future's. */
void weft__sem_cancel(struct weft__sem_wait *w);
bool weft__sem_release_slow(struct weft__sem *s, uint64_t count, struct weft__sem_limits l);

/* Brings permits. False: there would be more than max; none was added. */
static inline bool weft__sem_release(struct weft__sem *s, uint64_t count, struct weft__sem_limits l)
{
    uint64_t word = weft__a64_load_relaxed(&s->word);
    if (WEFT__LIKELY(
            !(word & WEFT__SEM_QUEUED) && weft__sem_permits(word, l) <= l.max - count &&
            /* release pairs with the acquire in weft__sem_try and in serve */
            weft__a64_cas_weak_release(&s->word, &word, word + (count << WEFT__SEM_SHIFT))))
        return true;
    return weft__sem_release_slow(s, count, l);
}

#endif
