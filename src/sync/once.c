/*
 * EMPTY, BUSY (somebody has the turn), SET. All changes are made under the lock; SET is looked at
 * without. Only while it is BUSY somebody waits; a turn that ends without a value is handed to the
 * first, and the cell stays BUSY.
 */
#include "task/waitq.h"

#include <weft/once.h>
#include <weft/panic.h>

#include <errno.h>

enum { EMPTY, BUSY, SET };

/* Results of a waiter. */
enum { HAS_VALUE = WEFT__WAITER_ENDED, HAS_TURN };

struct once {
    weft__a32 state; /* written under the lock, read by all */
    struct weft__lock lock;
    struct weft__waitq waiters; /* under the lock */
    void *value;                /* under the lock before SET; read by all after */
};
_Static_assert(sizeof(struct once) <= sizeof(weft_once), "weft_once is too small");

struct turn {
    weft_future future;
    struct once *once;
    struct weft__waiter waiter;
};
_Static_assert(sizeof(struct turn) <= sizeof(weft_once_turn_future),
               "weft_once_turn_future is too small");

static inline struct once *once_of(weft_once *o)
{
    return (struct once *)o;
}

static inline bool is_set(struct once *o)
{
    /* acquire pairs with the release in put: the value is readable */
    return weft__a32_load_acquire(&o->state) == SET;
}

void weft_once_init(weft_once *o)
{
    *o = (weft_once)WEFT_ONCE_INIT;
}

/* ---- whose turn it is ---- */

static int turn_poll(weft_future *f, weft_waker *waker)
{
    struct turn *t = WEFT__CONTAINER_OF(f, struct turn, future);
    struct once *o = t->once;
    uint32_t result = weft__waiter_result(&t->waiter);
    if (result)
        return result == HAS_TURN;
    int rc = WEFT_PENDING;
    weft__lock_acquire(&o->lock);
    uint32_t state = weft__a32_load_relaxed(&o->state); /* written under the lock */
    if (weft__waiter_is_idle(&t->waiter) && state != BUSY) {
        if (state == EMPTY)
            weft__a32_store_relaxed(&o->state, BUSY); /* without the lock only SET is looked for */
        rc = state == EMPTY;
    } else if (!weft__waiter_must_wait(&o->waiters, &t->waiter, waker)) {
        rc = weft__waiter_result(&t->waiter) == HAS_TURN;
    }
    weft__lock_release(&o->lock);
    return rc;
}

/* Under the lock: a turn has ended without a value. */
static void pass_turn(struct once *o, struct weft__wake_list *woken)
{
    if (o->waiters.first)
        weft__waitq_end(&o->waiters, o->waiters.first, HAS_TURN, woken);
    else
        weft__a32_store_relaxed(&o->state, EMPTY); /* without the lock only SET is looked for */
}

static void turn_cancel(weft_future *f)
{
    struct turn *t = WEFT__CONTAINER_OF(f, struct turn, future);
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&t->once->lock);
    if (!weft__waitq_leave(&t->once->waiters, &t->waiter) &&
        weft__waiter_result(&t->waiter) == HAS_TURN)
        pass_turn(t->once, &woken);
    weft__waiter_init(&t->waiter); /* a second cancel finds nothing to pass on */
    weft__lock_release(&t->once->lock);
    weft__wake_list_flush(&woken);
}

static const weft_future_ops turn_ops = {turn_poll, turn_cancel, "once cell"};

void weft_once_turn_future_init(weft_once_turn_future *f, weft_once *o)
{
    struct turn *t = (struct turn *)f;
    t->future.ops = &turn_ops;
    t->once = once_of(o);
    weft__waiter_init(&t->waiter);
}

int weft_once_abandon(weft_once *once)
{
    struct once *o = once_of(once);
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&o->lock);
    bool is_busy = weft__a32_load_relaxed(&o->state) == BUSY;
    if (is_busy)
        pass_turn(o, &woken);
    weft__lock_release(&o->lock);
    weft__wake_list_flush(&woken);
    if (!is_busy)
        return weft__misuse("weft_once_abandon", -EPERM, "it is nobody's turn", WEFT__CALLER);
    return 0;
}

/* ---- the value ---- */

/* Puts a value into a cell that is in the state `from`. Returns the state it was in. */
static uint32_t put(struct once *o, void *value, uint32_t from)
{
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&o->lock);
    uint32_t state = weft__a32_load_relaxed(&o->state);
    if (state == from) {
        o->value = value;
        /* release pairs with the acquire in is_set */
        weft__a32_store_release(&o->state, SET);
        weft__waitq_end_all(&o->waiters, HAS_VALUE, &woken);
    }
    weft__lock_release(&o->lock);
    weft__wake_list_flush(&woken);
    return state;
}

int weft_once_complete(weft_once *o, void *value)
{
    if (put(once_of(o), value, BUSY) != BUSY)
        return weft__misuse("weft_once_complete", -EPERM, "it is nobody's turn", WEFT__CALLER);
    return 0;
}

int weft_once_set(weft_once *o, void *value)
{
    switch (put(once_of(o), value, EMPTY)) {
    case EMPTY:
        return 0;
    case BUSY:
        return -EBUSY;
    default:
        return -EEXIST;
    }
}

static inline int read_value(struct once *o, void **ret_value)
{
    if (!is_set(o))
        return -EAGAIN;
    *ret_value = o->value;
    return 0;
}

int weft_once_try_get(weft_once *o, void **ret_value)
{
    if (ret_value == NULL)
        return weft__misuse("weft_once_try_get", -EINVAL, "ret_value is NULL", WEFT__CALLER);
    return read_value(once_of(o), ret_value);
}

int weft_once_take(weft_once *once, void **ret_value)
{
    if (ret_value == NULL)
        return weft__misuse("weft_once_take", -EINVAL, "ret_value is NULL", WEFT__CALLER);
    struct once *o = once_of(once);
    if (!is_set(o))
        return -EAGAIN;
    weft__lock_settle(&o->lock); /* who put it in may still be on its way out */
    *ret_value = o->value;
    weft__a32_store_relaxed(&o->state, EMPTY); /* nobody else uses it */
    return 0;
}

void weft_once_fini(weft_once *o, void (*drop)(void *value))
{
    void *value;
    if (weft_once_take(o, &value) == 0 && drop)
        drop(value);
}

/* ---- get or init ---- */

struct making {
    weft_once *once;
    bool is_done;
};

/* A cleanup: of an initialiser that failed, panicked or was unwound. */
static void end_turn(void *arg)
{
    struct making *m = arg;
    if (!m->is_done)
        (void)weft_once_abandon(m->once); /* it is our turn */
}

static int make(weft_once *o, weft_once_fn init, void *arg, void **ret_value)
{
    struct making m = {o, false};
    void *value = NULL;
    WEFT_DEFER(end_turn, &m);
    int rc = init(arg, &value);
    if (rc != 0)
        return rc;
    m.is_done = true;
    (void)weft_once_complete(o, value); /* it is our turn */
    *ret_value = value;
    return 0;
}

int weft_once_get_or_init(weft_once *o, weft_once_fn init, void *arg, void **ret_value)
{
    if (ret_value == NULL || init == NULL)
        return weft__misuse("weft_once_get_or_init", -EINVAL, "init or ret_value is NULL",
                            WEFT__CALLER);
    int rc = weft__wait_begin("weft_once_get_or_init", WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (WEFT__LIKELY(read_value(once_of(o), ret_value) == 0))
        return 0;
    weft_once_turn_future f;
    weft_once_turn_future_init(&f, o);
    rc = weft__wait_for(&f.future);
    if (rc == 1)
        return make(o, init, arg, ret_value);
    return rc < 0 ? rc : read_value(once_of(o), ret_value);
}

int weft_once_blocking_get_or_init(weft_once *o, weft_once_fn init, void *arg, void **ret_value)
{
    if (ret_value == NULL || init == NULL)
        return weft__misuse("weft_once_blocking_get_or_init", -EINVAL, "init or ret_value is NULL",
                            WEFT__CALLER);
    int rc = weft__blocking_begin("weft_once_blocking_get_or_init", WEFT__CALLER);
    if (rc < 0 || read_value(once_of(o), ret_value) == 0)
        return rc;
    weft_once_turn_future f;
    weft_once_turn_future_init(&f, o);
    rc = weft__wait_blocking("weft_once_blocking_get_or_init", &f.future, WEFT__CALLER);
    if (rc == 1)
        return make(o, init, arg, ret_value);
    return rc < 0 ? rc : read_value(once_of(o), ret_value);
}
