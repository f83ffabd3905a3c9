/*
 * Read-write locks for tasks: many readers, or one writer.
 *
 * First come, first served, so writers do not starve: once a writer waits, readers that come later
 * wait behind it. A task that already reads must therefore not read again: if a writer came in
 * between, it waits for itself.
 *
 *     static weft_rwlock table = WEFT_RWLOCK_INIT;
 *
 *     int rc = weft_rwlock_read(&table);
 *     if (rc < 0)
 *         return rc;
 *     WEFT_READ_GUARD(&table);
 *     ... let go when the block is left, also by a panic or an unwinding abort ...
 *
 * A lock does not know who holds it: it may be let go by another task than took it. A panic does
 * not poison it. Who gets the lock may free its memory after letting it go, as with a mutex.
 */
#ifndef WEFT_RWLOCK_H
#define WEFT_RWLOCK_H

#include <weft/base.h>
#include <weft/future.h>
#include <weft/panic.h>
#include <weft/select.h>

WEFT_BEGIN_DECLS

/* In the caller's memory; needs no fini. Zeroed memory is a free lock. */
typedef struct weft_rwlock {
    uint64_t word;
    void *opaque[3];
    uint32_t readers_max; /* 0: WEFT_RWLOCK_READERS_MAX */
} weft_rwlock;

/* The most readers at a time; further ones wait. */
#define WEFT_RWLOCK_READERS_MAX (UINT32_MAX >> 3)

#define WEFT_RWLOCK_INIT                                                                           \
    {                                                                                              \
        0, {NULL, NULL, NULL}, 0                                                                   \
    }

/* The same for memory of any content, when nobody uses the lock. Never suspends. */
WEFT_API void weft_rwlock_init(weft_rwlock *l);
/*
 * With a limit to how many may read at a time: 1 to WEFT_RWLOCK_READERS_MAX.
 *
 * Returns 0; -EINVAL (reported, l untouched) for another limit. Never suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_rwlock_init_with(weft_rwlock *l, uint32_t readers_max);

/*
 * Takes the lock for reading, or for writing, suspending the calling task until that is possible
 * and everybody who came before has been served.
 *
 * Returns 0 with the lock taken. Otherwise it is not the caller's, and it is
 *   -ETIMEDOUT  a timeout scope around the call expired
 *   -ECANCELED  the calling task was aborted
 *   -EPERM      nothing here can wait (reported), see weft_await()
 *
 * Context:       as weft_await(); may suspend, and may resume on another thread.
 * Threads:       any.
 * Cancellation:  safe; the place in the queue is lost. A writer that gives up lets through the
 *                readers behind it.
 */
WEFT_API WEFT_MUST_CHECK int weft_rwlock_read(weft_rwlock *l);
WEFT_API WEFT_MUST_CHECK int weft_rwlock_write(weft_rwlock *l);

/* The same without waiting: -EAGAIN when it is not possible at once, also because somebody waits.
 * Any thread; never suspends. */
WEFT_API WEFT_MUST_CHECK int weft_rwlock_try_read(weft_rwlock *l);
WEFT_API WEFT_MUST_CHECK int weft_rwlock_try_write(weft_rwlock *l);

/*
 * The same for plain threads and blocking jobs: blocks the thread. Needs no runtime.
 *
 * Returns 0; -EPERM (reported, not taken) inside a task or a body of weft_block_on(), also when the
 * lock is free; -ENOMEM when the thread cannot wait; in a runtime, not taken either, for a timeout
 * scope or a token around the call -ETIMEDOUT, -ECANCELED, -ESHUTDOWN as weft_await().
 */
WEFT_API WEFT_MUST_CHECK int weft_rwlock_blocking_read(weft_rwlock *l);
WEFT_API WEFT_MUST_CHECK int weft_rwlock_blocking_write(weft_rwlock *l);

/* The same as futures: 0. The order is that of the first polls. Cancelled, they do not hold the
 * lock. */
typedef struct weft_rwlock_future {
    weft_future future;
    uint64_t words[3];
    void *opaque[5];
} weft_rwlock_future;
WEFT_API void weft_rwlock_read_future_init(weft_rwlock_future *f, weft_rwlock *l);
WEFT_API void weft_rwlock_write_future_init(weft_rwlock_future *f, weft_rwlock *l);
/* The same as a case of a select. */
WEFT_API weft_case weft_case_rwlock_read(weft_rwlock *l);
WEFT_API weft_case weft_case_rwlock_write(weft_rwlock *l);

/* Lets go, and wakes those who can go on now. Letting go of more than was taken is reported, and
 * does nothing. Any thread or task; never suspends. */
WEFT_API void weft_rwlock_read_unlock(weft_rwlock *l);
WEFT_API void weft_rwlock_write_unlock(weft_rwlock *l);

/*
 * A writer becomes a reader, with no moment in between in which somebody else could write. Readers
 * that wait, up to the first writer, go on. By who writes, on any thread; never suspends. On a lock
 * that nobody writes: reported, and nothing happens. (Where as many read as may, it is not found
 * out.)
 */
WEFT_API void weft_rwlock_downgrade(weft_rwlock *l);
/*
 * The same if may(arg) says so, which is called with the lock still held for writing.
 *
 * Returns 0 when the caller reads now; -EAGAIN when may() was false and the caller still writes, as
 * it does when may() panics; -EPERM (reported, may not called) when nobody writes; -EINVAL
 * (reported) when may is NULL.
 */
WEFT_API WEFT_MUST_CHECK int weft_rwlock_try_downgrade(weft_rwlock *l, bool (*may)(void *arg),
                                                       void *arg);

/*
 * The only reader becomes a writer, with nobody in between.
 *
 * Returns 0 when the caller writes now; -EAGAIN when others read, or somebody waits: the caller
 * still reads. (Waiting for it could not end well: two readers that do would wait for each other.)
 * By who reads, on any thread; never suspends.
 */
WEFT_API WEFT_MUST_CHECK int weft_rwlock_try_upgrade(weft_rwlock *l);

/* Lets go of l, which the caller has taken, when the enclosing block is left, also when the task
 * panics or is unwound; see WEFT_DEFER. */
#define WEFT_READ_GUARD(l) WEFT_DEFER(weft__rwlock_read_guard, (l))
#define WEFT_WRITE_GUARD(l) WEFT_DEFER(weft__rwlock_write_guard, (l))

/* Behind the macros. */
WEFT_API void weft__rwlock_read_guard(void *rwlock);
WEFT_API void weft__rwlock_write_guard(void *rwlock);

WEFT_END_DECLS

#endif
