/*
 * The mutex inside, for the condition variable too.
 *
 * One word says whether it is locked and whether somebody waits (QUEUED). Without QUEUED locking
 * is one compare-exchange, from 0 to LOCKED, and unlocking one subtraction, which is cheaper and
 * tells in the same step whether there is more to do. QUEUED is set by an exchange on LOCKED,
 * under the lock: an unlock that came in between has made that fail. With QUEUED nobody takes the
 * mutex out of the word: it belongs to the holder of the lock, but for the unlocker's subtraction.
 * So there is no store on one side and look on the other, and no wake-up to lose.
 *
 *   0                 free
 *   LOCKED            the queue is empty
 *   LOCKED | QUEUED   it is not, whoever holds the lock apart
 *   QUEUED            the holder has let go, and is about to hand over under the lock
 *   more              unlocked without having been locked; put right under the lock, and until then
 *                     locked and QUEUED to the others
 *
 * The mutex is never free while somebody waits, so nobody can take it past the first.
 *
 * Nothing is touched after the step that may let another free the mutex: an unlock under the lock
 * that finds the queue empty lets go of the lock first and unlocks then. Of who was handed the
 * mutex the wait queue takes care.
 */
#ifndef WEFT_SYNC_MUTEX_H
#define WEFT_SYNC_MUTEX_H

#include "task/waitq.h"

#include <weft/mutex.h>

#include <errno.h>

#define WEFT__MUTEX_LOCKED 1u
#define WEFT__MUTEX_QUEUED 2u

struct weft__mutex {
    weft__a32 word;
    struct weft__lock lock;
    struct weft__waitq waiters; /* of weft__mutex_wait; under the lock */
};
_Static_assert(sizeof(struct weft__mutex) <= sizeof(weft_mutex), "weft_mutex is too small");

struct weft__mutex_wait {
    weft_future future;
    struct weft__mutex *mutex;
    struct weft__waiter waiter;
};
_Static_assert(sizeof(struct weft__mutex_wait) <= sizeof(weft_mutex_lock_future),
               "weft_mutex_lock_future is too small");

static inline struct weft__mutex *weft__mutex_of(const weft_mutex *m)
{
    return (struct weft__mutex *)(uintptr_t)m;
}

static inline bool weft__mutex_try(struct weft__mutex *m)
{
    uint32_t free = 0;
    /* acquire pairs with the release of the unlocker */
    return weft__a32_cas_acquire(&m->word, &free, WEFT__MUTEX_LOCKED);
}

void weft__mutex_wait_init(struct weft__mutex_wait *w, struct weft__mutex *m);
/* False: it was not locked, and is not. */
bool weft__mutex_release(struct weft__mutex *m);

#endif
