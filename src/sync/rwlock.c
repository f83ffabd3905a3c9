/*
 * A read-write lock is a semaphore: a reader takes one permit, a writer all of them. So order,
 * fairness and cancellation are the semaphore's, and a downgrade gives all permits but one back.
 */
#include "sync/semaphore.h"

#include <weft/rwlock.h>

struct rwlock {
    struct weft__sem sem;
    uint32_t readers_max;
};
_Static_assert(sizeof(struct rwlock) <= sizeof(weft_rwlock), "weft_rwlock is too small");
_Static_assert(offsetof(struct rwlock, readers_max) == offsetof(weft_rwlock, readers_max),
               "weft_rwlock.readers_max is read here");

struct rwlock_future {
    weft_future future;
    struct weft__sem_wait wait;
};
_Static_assert(sizeof(struct rwlock_future) <= sizeof(weft_rwlock_future),
               "weft_rwlock_future is too small");

static inline struct weft__sem *sem_of(const weft_rwlock *l)
{
    return (struct weft__sem *)(uintptr_t)l;
}

/* What a writer takes. */
static inline uint64_t all_of(const weft_rwlock *l)
{
    return l->readers_max ? l->readers_max : WEFT_RWLOCK_READERS_MAX;
}

/* A word of zero is a lock that nobody has. */
static inline struct weft__sem_limits limits_of(const weft_rwlock *l)
{
    return (struct weft__sem_limits){.base = all_of(l), .max = all_of(l)};
}

/* ---- waiting ---- */

static int lock_poll(weft_future *f, weft_waker *waker)
{
    return weft__sem_poll(&WEFT__CONTAINER_OF(f, struct rwlock_future, future)->wait, waker);
}

static void lock_cancel(weft_future *f)
{
    weft__sem_cancel(&WEFT__CONTAINER_OF(f, struct rwlock_future, future)->wait);
}

static const weft_future_ops read_ops = {lock_poll, lock_cancel, "rwlock (to read)"};
static const weft_future_ops write_ops = {lock_poll, lock_cancel, "rwlock (to write)"};

static void future_init(struct rwlock_future *f, weft_rwlock *l, const weft_future_ops *ops)
{
    f->future.ops = ops;
    weft__sem_wait_init(&f->wait, sem_of(l), ops == &read_ops ? 1 : all_of(l), limits_of(l));
}

static WEFT__NOINLINE int lock_slow(weft_rwlock *l, const weft_future_ops *ops)
{
    struct rwlock_future f;
    future_init(&f, l, ops);
    return weft__wait_for(&f.future);
}

static int blocking_lock(const char *call, weft_rwlock *l, const weft_future_ops *ops,
                         const void *caller)
{
    int rc = weft__blocking_begin(call, caller);
    if (rc < 0)
        return rc;
    struct rwlock_future f;
    future_init(&f, l, ops);
    rc = weft__sem_try(sem_of(l), f.wait.count, f.wait.limits);
    return rc == 0 ? 0 : weft__wait_blocking(call, &f.future, caller);
}

int weft_rwlock_read(weft_rwlock *l)
{
    int rc = weft__wait_begin("weft_rwlock_read", WEFT__CALLER);
    if (rc < 0)
        return rc;
    return WEFT__LIKELY(weft_rwlock_try_read(l) == 0) ? 0 : lock_slow(l, &read_ops);
}

int weft_rwlock_write(weft_rwlock *l)
{
    int rc = weft__wait_begin("weft_rwlock_write", WEFT__CALLER);
    if (rc < 0)
        return rc;
    return WEFT__LIKELY(weft_rwlock_try_write(l) == 0) ? 0 : lock_slow(l, &write_ops);
}

int weft_rwlock_try_read(weft_rwlock *l)
{
    return weft__sem_try(sem_of(l), 1, limits_of(l));
}

int weft_rwlock_try_write(weft_rwlock *l)
{
    return weft__sem_try(sem_of(l), all_of(l), limits_of(l));
}

int weft_rwlock_blocking_read(weft_rwlock *l)
{
    return blocking_lock("weft_rwlock_blocking_read", l, &read_ops, WEFT__CALLER);
}

int weft_rwlock_blocking_write(weft_rwlock *l)
{
    return blocking_lock("weft_rwlock_blocking_write", l, &write_ops, WEFT__CALLER);
}

void weft_rwlock_read_future_init(weft_rwlock_future *f, weft_rwlock *l)
{
    future_init((struct rwlock_future *)f, l, &read_ops);
}

void weft_rwlock_write_future_init(weft_rwlock_future *f, weft_rwlock *l)
{
    future_init((struct rwlock_future *)f, l, &write_ops);
}

/* ---- letting go, changing sides ---- */

void weft_rwlock_init(weft_rwlock *l)
{
    *l = (weft_rwlock)WEFT_RWLOCK_INIT;
}

int weft_rwlock_init_with(weft_rwlock *l, uint32_t readers_max)
{
    if (readers_max == 0 || readers_max > WEFT_RWLOCK_READERS_MAX)
        return weft__misuse("weft_rwlock_init_with", -EINVAL,
                            "readers_max must be 1 to WEFT_RWLOCK_READERS_MAX", WEFT__CALLER);
    *l = (weft_rwlock){.readers_max = readers_max};
    return 0;
}

static void unlock(const char *call, weft_rwlock *l, uint64_t count, const void *caller)
{
    /* reported, and there is no more to do */
    if (WEFT__UNLIKELY(!weft__sem_release(sem_of(l), count, limits_of(l))))
        (void)weft__misuse(call, -EPERM, "the lock is not held so", caller);
}

void weft_rwlock_read_unlock(weft_rwlock *l)
{
    unlock("weft_rwlock_read_unlock", l, 1, WEFT__CALLER);
}

void weft_rwlock_write_unlock(weft_rwlock *l)
{
    unlock("weft_rwlock_write_unlock", l, all_of(l), WEFT__CALLER);
}

/* By the writer. Nobody else can have a permit, and none is left, so without the lock: nobody
 * changes that but the caller. What a downgrade gives back would fit beside many readers too, so
 * releasing it does not find out. */
static int check_written(const char *call, const weft_rwlock *l, const void *caller)
{
    uint64_t word = weft__a64_load_relaxed(&sem_of(l)->word);
    if (WEFT__LIKELY(weft__sem_permits(word, limits_of(l)) == 0))
        return 0;
    return weft__misuse(call, -EPERM, "nobody writes", caller);
}

void weft_rwlock_downgrade(weft_rwlock *l)
{
    /* With one reader at most, nothing is left to give back. */
    if (check_written("weft_rwlock_downgrade", l, WEFT__CALLER) == 0)
        unlock("weft_rwlock_downgrade", l, all_of(l) - 1, WEFT__CALLER);
}

int weft_rwlock_try_downgrade(weft_rwlock *l, bool (*may)(void *arg), void *arg)
{
    if (may == NULL)
        return weft__misuse("weft_rwlock_try_downgrade", -EINVAL, "may is NULL", WEFT__CALLER);
    int rc = check_written("weft_rwlock_try_downgrade", l, WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (!may(arg))
        return -EAGAIN;
    unlock("weft_rwlock_try_downgrade", l, all_of(l) - 1, WEFT__CALLER);
    return 0;
}

int weft_rwlock_try_upgrade(weft_rwlock *l)
{
    return weft__sem_try(sem_of(l), all_of(l) - 1, limits_of(l));
}

void weft__rwlock_read_guard(void *rwlock)
{
    weft_rwlock_read_unlock(rwlock);
}

void weft__rwlock_write_guard(void *rwlock)
{
    weft_rwlock_write_unlock(rwlock);
}

static int start_read(weft_case *c)
{
    weft_rwlock_read_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_rwlock_read(weft_rwlock *l)
{
    return weft_case_make(start_read, l, NULL);
}

static int start_write(weft_case *c)
{
    weft_rwlock_write_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_rwlock_write(weft_rwlock *l)
{
    return weft_case_make(start_write, l, NULL);
}
