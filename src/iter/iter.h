/*
 * Iterators: what their files share.
 */
#ifndef WEFT_ITER_ITER_H
#define WEFT_ITER_ITER_H

#include "base/base.h"
#include "base/list.h"
#include "sync/value.h"
#include "sys/sys.h"
#include "task/panic.h"

#include <weft/iter.h>

/* Iterators that say -ENOMEM or -EINVAL for ever; they are not freed. */
weft_iter *weft__iter_no_memory(void);
weft_iter *weft__iter_invalid(void);

/* For adapters over two whose items must be of one size and destroyed alike: NULL, or what to
 * return in their place: one of them, when it could not be made, or -EINVAL with a line in the log.
 */
weft_iter *weft__iter_mismatch(const char *call, weft_iter *a, weft_iter *b, const void *caller);

/* Without the budget: for one poll inside another. */
static inline int weft__iter_poll(weft_iter *it, void *item, weft_waker *waker)
{
    return it->ops->poll_next(it, item, waker);
}

/* weft_iter_next() for the public function `call`. */
WEFT_MUST_CHECK int weft__iter_next(const char *call, weft_iter *it, void *item,
                                    const void *caller);

static inline void weft__iter_drop_item(const weft_iter *it, void *item)
{
    struct weft__value_type type = {it->item_bytes, NULL, it->drop};
    weft__value_drop(&type, item);
}

/*
 * Calls a function of the user's in a poll. False: it panicked, which has been reported; the poll
 * says
 * -EOWNERDEAD in place of an item. The panic must not go on: other iterators that are polled beside
 * this one may have registered the waker of the task that it would end.
 */
WEFT_MUST_CHECK bool weft__iter_call(void (*call)(void *arg), void *arg);

void weft__iter_cancel_at_unwind(void *it);

/*
 * A poll of an iterator of the user's may panic, and the frame of who polls be given up: what an
 * adapter has registered beside it must not outlive that. So while it polls one of several things,
 * cancelling it is a cleanup; as weft__cases_guard_enter().
 */
static inline struct weft__locals *weft__iter_guard_enter(weft_cleanup *c, weft_iter *it)
{
    struct weft__locals *l = weft__locals_now();
    c->below = l->cleanups;
    c->fn = weft__iter_cancel_at_unwind;
    c->arg = it;
    l->cleanups = c;
    return l;
}

/* l: what enter has returned; polls do not suspend. */
static inline void weft__iter_guard_leave(const weft_cleanup *c, struct weft__locals *l)
{
    l->cleanups = c->below;
}

/* An adapter with one iterator inside: they embed it as their first member. */
struct weft__iter_adapter {
    weft_iter iter;
    weft_iter *inner; /* owned */
};

/*
 * A zeroed block for an adapter over `inner`, which is taken. Its items are those of inner until
 * the caller says otherwise. NULL without memory, and when inner could not be made: then
 * *ret_instead is to be returned.
 */
void *weft__iter_adapter_create(size_t bytes, const weft_iter_ops *ops, weft_iter *inner,
                                weft_iter **ret_instead);
/* ops of adapters that have nothing else to cancel or to free. */
void weft__iter_adapter_cancel(weft_iter *it);
void weft__iter_adapter_destroy(weft_iter *it);

/* Reports misuse, and destroys what was to be taken. */
weft_iter *weft__iter_misuse(const char *call, const char *why, weft_iter *a, weft_iter *b,
                             const void *caller);

#endif
