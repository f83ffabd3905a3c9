/*
 * A value, and whether it is there. It is put in under the lock, and looked at without; who finds
 * it so may free the cell, and therefore waits for the lock to be let go (weft__lock_settle()).
 */
#include "task/waitq.h"

#include <weft/set_once.h>

#include <errno.h>

struct cell {
    weft__a32 is_set; /* written under the lock, read by all */
    struct weft__lock lock;
    struct weft__waitq waiters; /* under the lock */
    void *value;                /* under the lock before it is set; read by all after */
};
_Static_assert(sizeof(struct cell) <= sizeof(weft_set_once), "weft_set_once is too small");

struct wait {
    weft_future future;
    struct cell *cell;
    struct weft__waiter waiter;
};
_Static_assert(sizeof(struct wait) <= sizeof(weft_set_once_wait_future),
               "weft_set_once_wait_future is too small");

static inline struct cell *cell_of(weft_set_once *s)
{
    return (struct cell *)s;
}

void weft_set_once_init(weft_set_once *s)
{
    *s = (weft_set_once)WEFT_SET_ONCE_INIT;
}

int weft_set_once_set(weft_set_once *s, void *value)
{
    struct cell *c = cell_of(s);
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&c->lock);
    bool was_set = weft__a32_load_relaxed(&c->is_set); /* written under the lock */
    if (!was_set) {
        c->value = value;
        /* release pairs with the acquire in read_value. mutation: the lock orders the
         * two in a model, where its word is never read late. */
        weft__a32_store_release(&c->is_set, 1);
        weft__waitq_end_all(&c->waiters, WEFT__WAITER_ENDED, &woken);
    }
    weft__lock_release(&c->lock);
    weft__wake_list_flush(&woken);
    return was_set ? -EEXIST : 0;
}

static int read_value(struct cell *c, void **ret_value)
{
    /* acquire pairs with the release in weft_set_once_set: the value is readable. mutation: as
     * there. */
    if (!weft__a32_load_acquire(&c->is_set))
        return -EAGAIN;
    weft__lock_settle(&c->lock);
    *ret_value = c->value;
    return 0;
}

int weft_set_once_try_wait(weft_set_once *s, void **ret_value)
{
    if (ret_value == NULL)
        return weft__misuse("weft_set_once_try_wait", -EINVAL, "ret_value is NULL", WEFT__CALLER);
    return read_value(cell_of(s), ret_value);
}

int weft_set_once_take(weft_set_once *s, void **ret_value)
{
    if (ret_value == NULL)
        return weft__misuse("weft_set_once_take", -EINVAL, "ret_value is NULL", WEFT__CALLER);
    int rc = read_value(cell_of(s), ret_value);
    if (rc == 0)
        weft__a32_store_relaxed(&cell_of(s)->is_set, 0); /* nobody else uses it */
    return rc;
}

void weft_set_once_fini(weft_set_once *s, void (*drop)(void *value))
{
    void *value;
    if (weft_set_once_take(s, &value) == 0 && drop)
        drop(value);
}

/* ---- waiting ---- */

static int wait_poll(weft_future *f, weft_waker *waker)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    struct cell *c = w->cell;
    if (weft__waiter_result(&w->waiter))
        return 0;
    weft__lock_acquire(&c->lock);
    /* is_set is written under the lock */
    bool must_wait = !weft__a32_load_relaxed(&c->is_set) &&
                     weft__waiter_must_wait(&c->waiters, &w->waiter, waker);
    weft__lock_release(&c->lock);
    return must_wait ? WEFT_PENDING : 0;
}

static void wait_cancel(weft_future *f)
{
    struct wait *w = WEFT__CONTAINER_OF(f, struct wait, future);
    weft__lock_acquire(&w->cell->lock);
    (void)weft__waitq_leave(&w->cell->waiters, &w->waiter); /* nothing was assigned that is lost */
    weft__lock_release(&w->cell->lock);
}

static const weft_future_ops wait_ops = {wait_poll, wait_cancel, "set-once cell"};

void weft_set_once_wait_future_init(weft_set_once_wait_future *f, weft_set_once *s)
{
    struct wait *w = (struct wait *)f;
    w->future.ops = &wait_ops;
    w->cell = cell_of(s);
    weft__waiter_init(&w->waiter);
}

int weft_set_once_wait(weft_set_once *s, void **ret_value)
{
    if (ret_value == NULL)
        return weft__misuse("weft_set_once_wait", -EINVAL, "ret_value is NULL", WEFT__CALLER);
    int rc = weft__wait_begin("weft_set_once_wait", WEFT__CALLER);
    if (rc < 0 || read_value(cell_of(s), ret_value) == 0)
        return rc;
    weft_set_once_wait_future f;
    weft_set_once_wait_future_init(&f, s);
    rc = weft__wait_for(&f.future);
    return rc < 0 ? rc : read_value(cell_of(s), ret_value);
}

int weft_set_once_blocking_wait(weft_set_once *s, void **ret_value)
{
    if (ret_value == NULL)
        return weft__misuse("weft_set_once_blocking_wait", -EINVAL, "ret_value is NULL",
                            WEFT__CALLER);
    int rc = weft__blocking_begin("weft_set_once_blocking_wait", WEFT__CALLER);
    if (rc < 0 || read_value(cell_of(s), ret_value) == 0)
        return rc;
    weft_set_once_wait_future f;
    weft_set_once_wait_future_init(&f, s);
    rc = weft__wait_blocking("weft_set_once_blocking_wait", &f.future, WEFT__CALLER);
    return rc < 0 ? rc : read_value(cell_of(s), ret_value);
}

static int start_wait(weft_case *c)
{
    weft_set_once_wait_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_set_once_wait(weft_set_once *s)
{
    return weft_case_make(start_wait, s, NULL);
}
