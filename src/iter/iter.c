#include "iter/iter.h"

#include "task/await.h"
#include "task/cancel.h"
#include "task/panic.h"
#include "task/task.h"

#include <weft/task.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- iterators that could not be made ---- */

static int no_memory_poll(weft_iter *it, void *item, weft_waker *waker)
{
    (void)it, (void)item, (void)waker;
    return -ENOMEM;
}

static int invalid_poll(weft_iter *it, void *item, weft_waker *waker)
{
    (void)it, (void)item, (void)waker;
    return -EINVAL;
}

static void do_nothing(weft_iter *it)
{
    (void)it;
}

weft_iter *weft__iter_no_memory(void)
{
    static const weft_iter_ops ops = {no_memory_poll, do_nothing, do_nothing};
    static weft_iter it = {.ops = &ops};
    return &it;
}

weft_iter *weft__iter_invalid(void)
{
    static const weft_iter_ops ops = {invalid_poll, do_nothing, do_nothing};
    static weft_iter it = {.ops = &ops};
    return &it;
}

weft_iter *weft__iter_misuse(const char *call, const char *why, weft_iter *a, weft_iter *b,
                             const void *caller)
{
    weft_iter_destroy(a);
    weft_iter_destroy(b);
    (void)weft__misuse(call, -EINVAL, why, caller);
    return weft__iter_invalid();
}

static bool is_broken(const weft_iter *it)
{
    return it == weft__iter_no_memory() || it == weft__iter_invalid();
}

weft_iter *weft__iter_mismatch(const char *call, weft_iter *a, weft_iter *b, const void *caller)
{
    if (a && b && (is_broken(a) || is_broken(b))) {
        weft_iter *broken = is_broken(a) ? a : b;
        weft_iter_destroy(is_broken(a) ? b : a);
        return broken;
    }
    if (a && a == b)
        return weft__iter_misuse(call, "one iterator is given twice", a, NULL, caller);
    if (a && b && a->item_bytes == b->item_bytes && a->drop == b->drop)
        return NULL;
    return weft__iter_misuse(call,
                             "an argument is NULL, or items differ in size, or in what destroys "
                             "them",
                             a, b, caller);
}

/* ---- adapters ---- */

void *weft__iter_adapter_create(size_t bytes, const weft_iter_ops *ops, weft_iter *inner,
                                weft_iter **ret_instead)
{
    struct weft__iter_adapter *a = is_broken(inner) ? NULL : weft__calloc(1, bytes);
    if (a == NULL) {
        *ret_instead = is_broken(inner) ? inner : weft__iter_no_memory();
        weft_iter_destroy(inner);
        return NULL;
    }
    a->iter = (weft_iter){ops, inner->item_bytes, inner->drop};
    a->inner = inner;
    return a;
}

void weft__iter_adapter_cancel(weft_iter *it)
{
    weft_iter_cancel(((struct weft__iter_adapter *)it)->inner);
}

void weft__iter_adapter_destroy(weft_iter *it)
{
    weft_iter_destroy(((struct weft__iter_adapter *)it)->inner);
    weft__free(it);
}

bool weft__iter_call(void (*call)(void *arg), void *arg)
{
    weft_panic_info *panic = weft__call_contained(call, arg);
    if (panic == NULL)
        return true;
    weft__panic_report(panic, "in a function of an iterator");
    weft_panic_free(panic);
    return false;
}

void weft__iter_cancel_at_unwind(void *it)
{
    ((weft_iter *)it)->ops->cancel(it);
}

/* ---- polling ---- */

void weft_iter_destroy(weft_iter *it)
{
    if (it == NULL)
        return;
    it->ops->cancel(it);
    it->ops->destroy(it);
}

void weft_iter_cancel(weft_iter *it)
{
    if (!weft__is_null("weft_iter_cancel", it, WEFT__CALLER))
        it->ops->cancel(it);
}

static int check(const char *call, const weft_iter *it, const void *item, const void *caller)
{
    if (it == NULL || (item == NULL && it->item_bytes))
        return weft__misuse(call, -EINVAL, "an argument is NULL", caller);
    return 0;
}

static int next_poll(weft_future *f, weft_waker *waker)
{
    weft_iter_next_future *n = WEFT__CONTAINER_OF(f, weft_iter_next_future, future);
    int rc = n->it ? weft__iter_poll(n->it, n->item, waker) : -EINVAL;
    n->is_pending = rc == WEFT_PENDING;
    return rc;
}

static void next_cancel(weft_future *f)
{
    weft_iter_next_future *n = WEFT__CONTAINER_OF(f, weft_iter_next_future, future);
    if (n->is_pending) /* else, if the iterator is pending, another one waits */
        weft_iter_cancel(n->it);
    n->is_pending = false;
}

static const weft_future_ops next_ops = {next_poll, next_cancel, "next item"};

/* it: NULL for misuse, which the poll says. */
static void next_init(weft_iter_next_future *f, weft_iter *it, void *item)
{
    f->future.ops = &next_ops;
    f->it = it;
    f->item = item;
    f->is_pending = false;
}

void weft_iter_next_future_init(weft_iter_next_future *f, weft_iter *it, void *item)
{
    int rc = check("weft_iter_next_future_init", it, item, WEFT__CALLER);
    next_init(f, rc < 0 ? NULL : it, item);
}

static int start_next(weft_case *c)
{
    weft_iter_next_future_init(weft_case_storage(c), c->arg[0].ptr, c->arg[1].ptr);
    return 0;
}

weft_case weft_case_iter_next(weft_iter *it, void *item)
{
    return weft_case_make(start_next, it, item);
}

/* Items that adapters look at in one poll of what has no budget: a thread, which then looks whether
 * it is too late, or has been aborted; and a task inside WEFT_UNCONSTRAINED. */
#define FREE_LOOKS 1024

/* That task is not to yield, unless its wait is to end. */
static bool is_to_end(struct weft__task *t)
{
    const struct weft__locals *l = t->locals;
    /* relaxed, and an error of the drive: a hint, the wait looks itself */
    if (weft__abort_is_due(t, weft__a64_load_relaxed(&t->state)) || weft__drive_error(t) < 0)
        return true;
    if (l->timeout && l->timeout->deadline_ns <= weft__clock_now(&t->core->clock))
        return true;
    return l->cancel && weft__cancel_check_now(t);
}

static WEFT__NOINLINE bool must_come_back_slow(struct weft__locals *l, struct weft__task *budgeted,
                                               weft_waker *waker)
{
    if (l->looks_left) /* a try, which has a measure of its own */
        return false;
    if (++l->looks % FREE_LOOKS != 0 || (budgeted && !is_to_end(budgeted)))
        return false;
    weft_waker_wake(waker);
    return true;
}

static bool must_come_back(struct weft__locals *l, weft_waker *waker)
{
    struct weft__task *t = weft__task_current();
    bool has_budget = t && t->kind <= WEFT__TASK_FUTURE;
    if (WEFT__LIKELY(has_budget && !l->unconstrained_depth))
        return false;
    return must_come_back_slow(l, has_budget ? t : NULL, waker);
}

int weft_iter_poll_next(weft_iter *it, void *item, weft_waker *waker)
{
    int rc = check("weft_iter_poll_next", it, item, WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (must_come_back(weft__locals_now(), waker))
        return WEFT_PENDING;
    weft_iter_next_future f;
    next_init(&f, it, item);
    return weft_future_poll(&f.future, waker); /* the budget, or what a try has, is charged there */
}

int weft__iter_next(const char *call, weft_iter *it, void *item, const void *caller)
{
    int rc = check(call, it, item, caller);
    if (rc == 0)
        rc = weft__wait_begin(call, caller);
    if (rc < 0)
        return rc;
    weft_iter_next_future f;
    next_init(&f, it, item);
    return weft__wait_for(&f.future);
}

int weft_iter_next(weft_iter *it, void *item)
{
    return weft__iter_next("weft_iter_next", it, item, WEFT__CALLER);
}

int weft_iter_try_next(weft_iter *it, void *item)
{
    int rc = check("weft_iter_try_next", it, item, WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct weft__task *t = weft__wait_task();
    if (t == NULL)
        return weft__wait_refused("weft_iter_try_next", WEFT__CALLER);
    /* What adapters have dropped stays dropped, so tries get on. */
    uint32_t outer = weft__try_begin(t->locals);
    rc = weft__iter_poll(it, item, weft__task_waker(t));
    weft__try_end(t->locals, outer);
    if (rc != WEFT_PENDING)
        return rc;
    weft_iter_cancel(it);
    return -EAGAIN;
}

int weft_iter_blocking_next(weft_iter *it, void *item)
{
    int rc = check("weft_iter_blocking_next", it, item, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_iter_next_future f;
    next_init(&f, it, item);
    return weft__wait_blocking("weft_iter_blocking_next", &f.future, WEFT__CALLER);
}

/* ---- all that is left: an abort that unwinds, or a panic, leaves these by their cleanups ---- */

/* A place for an item of any size: small ones on the stack. */
#define SMALL_ITEM 256

static void free_memory(void *p)
{
    weft__free(p);
}

int weft_iter_for_each(weft_iter *it, int (*fn)(void *item, void *arg), void *arg)
{
    if (it == NULL || fn == NULL)
        return weft__misuse("weft_iter_for_each", -EINVAL, "an argument is NULL", WEFT__CALLER);
    _Alignas(max_align_t) char small[SMALL_ITEM];
    bool is_small = it->item_bytes <= sizeof small;
    void *large = is_small ? NULL : weft__malloc(it->item_bytes), *item = is_small ? small : large;
    if (item == NULL)
        return -ENOMEM;
    WEFT_DEFER(free_memory, large);
    int rc;
    while ((rc = weft__iter_next("weft_iter_for_each", it, item, WEFT__CALLER)) == 1)
        if ((rc = fn(item, arg)) != 0)
            break;
    return rc;
}

struct collection {
    struct weft__value_type type;
    char *items; /* the user's in the end, so it is from malloc() */
    size_t count, cap;
};

/* Room for one more. */
static int grow(struct collection *c)
{
    if (c->count < c->cap)
        return 0;
    size_t bytes, wanted = c->cap ? 2 * c->cap : 8;
    if (__builtin_mul_overflow(wanted, c->type.bytes ? c->type.bytes : 1, &bytes))
        return -ENOMEM;
    char *p = realloc(c->items, bytes);
    if (p == NULL)
        return -ENOMEM;
    c->items = p;
    c->cap = wanted;
    return 0;
}

/* What the caller has not been given. */
static void drop_collection(void *arg)
{
    struct collection *c = arg;
    for (size_t i = 0; i < c->count; i++)
        weft__value_drop(&c->type, c->items + i * c->type.bytes);
    free(c->items);
}

int weft_iter_collect(weft_iter *it, void **ret_items, size_t *ret_count)
{
    if (ret_items)
        *ret_items = NULL;
    if (ret_count)
        *ret_count = 0;
    if (it == NULL || ret_items == NULL || ret_count == NULL)
        return weft__misuse("weft_iter_collect", -EINVAL, "an argument is NULL", WEFT__CALLER);
    struct collection c = {.type = {it->item_bytes, NULL, it->drop}};
    WEFT_DEFER(drop_collection, &c);
    int rc;
    /* Room first: an item that came is kept. */
    while ((rc = grow(&c)) == 0 &&
           (rc = weft__iter_next("weft_iter_collect", it, c.items + c.count * it->item_bytes,
                                 WEFT__CALLER)) == 1)
        c.count++;
    if (c.count == 0) {
        free(c.items); /* room for nothing */
        c.items = NULL;
    }
    *ret_items = c.items;
    *ret_count = c.count;
    c = (struct collection){.count = 0}; /* the caller's now */
    return rc;
}
