/*
 * What is waited for on a watch channel: a version, a value that fits, the end of the receivers. A
 * wake means no more than "look again".
 */
#include "sync/watch.h"

#include "task/panic.h"

#include <errno.h>

/* A value that changes faster than the predicate can be called must not keep the worker. */
#define LOOKS_MAX 16
/* No errno: those may come from a clone function. */
#define CHANGED_AGAIN 1

/* ---- a version ---- */

struct changed_wait {
    weft_watch_receiver *rx; /* NULL: misuse, reported when it was initialised */
    struct weft__waiter waiter;
};

_Static_assert(sizeof(struct changed_wait) <= sizeof(((weft_watch_changed_future *)0)->opaque),
               "weft_watch_changed_future.opaque is too small");

/* Under the lock. */
static int take_change(weft_watch_receiver *rx)
{
    weft_watch_sender *ch = rx->ch;
    if (rx->seen == ch->version)
        return ch->ends.sender_count ? -EAGAIN : -EPIPE;
    rx->seen = ch->version;
    return 0;
}

static struct changed_wait *changed_wait_of(weft_future *f)
{
    return (void *)WEFT__CONTAINER_OF(f, weft_watch_changed_future, future)->opaque;
}

static int changed_poll(weft_future *f, weft_waker *waker)
{
    struct changed_wait *c = changed_wait_of(f);
    if (c->rx == NULL)
        return -EINVAL;
    weft_watch_sender *ch = c->rx->ch;
    if (weft__ends_are_inherited(&ch->ends, f->ops->name, NULL))
        return -EPERM;
    weft__lock_acquire(&ch->ends.lock);
    int rc = take_change(c->rx);
    if (rc == -EAGAIN) {
        weft__waitq_wait(&ch->ends.waiting, &c->waiter, waker);
        rc = WEFT_PENDING;
    } else {
        (void)weft__waitq_leave(&ch->ends.waiting, &c->waiter); /* it may not have been queued */
    }
    weft__lock_release(&ch->ends.lock);
    return rc;
}

static void changed_cancel(weft_future *f)
{
    struct changed_wait *c = changed_wait_of(f);
    if (c->rx == NULL)
        return; /* misuse, and not polled */
    weft_watch_sender *ch = c->rx->ch;
    if (weft__ends_are_ancestors(&ch->ends))
        return; /* nobody goes through the queue */
    weft__lock_acquire(&ch->ends.lock);
    (void)weft__waitq_leave(&ch->ends.waiting,
                            &c->waiter); /* or it has been woken: nothing is owed */
    weft__lock_release(&ch->ends.lock);
}

static const weft_future_ops changed_ops = {changed_poll, changed_cancel, "watch changed"};

void weft_watch_changed_future_init(weft_watch_changed_future *f, weft_watch_receiver *rx)
{
    if (rx == NULL)
        (void)weft__misuse("weft_watch_changed_future_init", -EINVAL, "rx is NULL",
                           WEFT__CALLER); /* said by the poll */
    f->future.ops = &changed_ops;
    struct changed_wait *c = changed_wait_of(&f->future);
    c->rx = rx;
    weft__waiter_init(&c->waiter);
}

static int start_changed(weft_case *c)
{
    weft_watch_changed_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_watch_changed(weft_watch_receiver *rx)
{
    return weft_case_make(start_changed, rx, NULL);
}

static int try_changed(weft_watch_receiver *rx)
{
    if (weft__ends_are_inherited(&rx->ch->ends, "weft_watch_changed", NULL))
        return -EPERM;
    weft__lock_acquire(&rx->ch->ends.lock);
    int rc = take_change(rx);
    weft__lock_release(&rx->ch->ends.lock);
    return rc;
}

int weft_watch_try_changed(weft_watch_receiver *rx)
{
    if (rx == NULL)
        return weft__misuse("weft_watch_try_changed", -EINVAL, "rx is NULL", WEFT__CALLER);
    return try_changed(rx);
}

int weft_watch_changed(weft_watch_receiver *rx)
{
    if (rx == NULL)
        return weft__misuse("weft_watch_changed", -EINVAL, "rx is NULL", WEFT__CALLER);
    int rc = weft__wait_begin("weft_watch_changed", WEFT__CALLER);
    if (rc < 0)
        return rc;
    rc = try_changed(rx);
    if (rc != -EAGAIN)
        return rc;
    weft_watch_changed_future f;
    weft_watch_changed_future_init(&f, rx);
    return weft__wait_for(&f.future);
}

int weft_watch_blocking_changed(weft_watch_receiver *rx)
{
    if (rx == NULL)
        return weft__misuse("weft_watch_blocking_changed", -EINVAL, "rx is NULL", WEFT__CALLER);
    weft_watch_changed_future f;
    weft_watch_changed_future_init(&f, rx);
    return weft__wait_blocking("weft_watch_blocking_changed", &f.future, WEFT__CALLER);
}

int weft_watch_has_changed(weft_watch_receiver *rx)
{
    if (rx == NULL)
        return weft__misuse("weft_watch_has_changed", -EINVAL, "rx is NULL", WEFT__CALLER);
    if (weft__ends_are_inherited(&rx->ch->ends, "weft_watch_has_changed", WEFT__CALLER))
        return -EPERM;
    weft__lock_acquire(&rx->ch->ends.lock);
    int rc = rx->ch->ends.sender_count == 0 ? -EPIPE : rx->seen != rx->ch->version;
    weft__lock_release(&rx->ch->ends.lock);
    return rc;
}

static void mark(const char *call, weft_watch_receiver *rx, uint64_t behind, const void *caller)
{
    if (rx == NULL) {
        (void)weft__misuse(call, -EINVAL, "rx is NULL", caller);
        return;
    }
    if (weft__ends_are_inherited(&rx->ch->ends, call, caller))
        return;
    weft__lock_acquire(&rx->ch->ends.lock);
    rx->seen = rx->ch->version - behind;
    weft__lock_release(&rx->ch->ends.lock);
}

void weft_watch_mark_changed(weft_watch_receiver *rx)
{
    mark("weft_watch_mark_changed", rx, 1, WEFT__CALLER);
}

void weft_watch_mark_unchanged(weft_watch_receiver *rx)
{
    mark("weft_watch_mark_unchanged", rx, 0, WEFT__CALLER);
}

/* ---- a value that fits ---- */

struct fit_wait {
    weft_watch_receiver *rx; /* NULL: as above */
    weft_watch_pred pred;
    void *arg;
    void *ret_value; /* NULL: not wanted */
    struct weft__waiter waiter;
};

_Static_assert(sizeof(struct fit_wait) <= sizeof(((weft_watch_wait_for_future *)0)->opaque),
               "weft_watch_wait_for_future.opaque is too small");

static struct fit_wait *fit_wait_of(weft_future *f)
{
    return (void *)WEFT__CONTAINER_OF(f, weft_watch_wait_for_future, future)->opaque;
}

struct pred_call {
    const struct fit_wait *w;
    const void *value;
    bool fits;
};

static void call_pred(void *arg)
{
    struct pred_call *p = arg;
    WEFT_NO_WAIT
        p->fits = p->w->pred(p->value, p->w->arg);
}

/* Without the lock. 1 when the value fits, and has been copied; 0; a negative errno. */
static int value_fits(const struct fit_wait *w, const void *value)
{
    struct pred_call p = {w, value, false};
    weft_panic_info *panic = weft__call_contained(call_pred, &p);
    if (panic) {
        weft__panic_report(panic, "in the predicate of weft_watch_wait_for");
        weft_panic_free(panic);
        return -EOWNERDEAD;
    }
    if (!p.fits)
        return 0;
    int rc = w->ret_value ? weft__value_clone(&w->rx->ch->type, w->ret_value, value) : 0;
    return rc < 0 ? rc : 1;
}

/*
 * Shows the predicate the value, and each newer one that comes meanwhile. Returns with the lock
 * held, so that what does not fit can be waited on before it changes: 0 when it fits; -EAGAIN when
 * it does not; CHANGED_AGAIN after enough looks; or an error.
 */
static int look_until_it_fits(struct fit_wait *w)
{
    weft_watch_sender *ch = w->rx->ch;
    weft__lock_acquire(&ch->ends.lock);
    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        struct weft__watch_node *n = weft__watch_pin(ch);
        uint64_t version = ch->version;
        weft__lock_release(&ch->ends.lock);
        int rc = value_fits(w, n->value);
        weft__watch_unpin(ch, n);
        w->rx->seen = version;
        weft__lock_acquire(&ch->ends.lock);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        if (ch->version == version)
            return ch->ends.sender_count ? -EAGAIN : -EPIPE;
    }
    return CHANGED_AGAIN;
}

static int fit_poll(weft_future *f, weft_waker *waker)
{
    struct fit_wait *w = fit_wait_of(f);
    if (w->rx == NULL)
        return -EINVAL;
    weft_watch_sender *ch = w->rx->ch;
    if (weft__ends_are_inherited(&ch->ends, f->ops->name, NULL))
        return -EPERM;
    int rc = look_until_it_fits(w);
    bool is_pending = rc == -EAGAIN || rc == CHANGED_AGAIN;
    if (is_pending)
        weft__waitq_wait(&ch->ends.waiting, &w->waiter, waker);
    else
        (void)weft__waitq_leave(&ch->ends.waiting, &w->waiter); /* it may not have been queued */
    weft__lock_release(&ch->ends.lock);
    if (rc == CHANGED_AGAIN)
        weft_waker_wake(waker);
    return is_pending ? WEFT_PENDING : rc;
}

static void fit_cancel(weft_future *f)
{
    struct fit_wait *w = fit_wait_of(f);
    if (w->rx == NULL)
        return; /* misuse, and not polled */
    weft_watch_sender *ch = w->rx->ch;
    if (weft__ends_are_ancestors(&ch->ends))
        return; /* nobody goes through the queue */
    weft__lock_acquire(&ch->ends.lock);
    (void)weft__waitq_leave(&ch->ends.waiting,
                            &w->waiter); /* or it has been woken: nothing is owed */
    weft__lock_release(&ch->ends.lock);
}

static const weft_future_ops fit_ops = {fit_poll, fit_cancel, "watch value"};

static int check_fit(const char *call, const weft_watch_receiver *rx, weft_watch_pred pred,
                     const void *ret_value, const void *caller)
{
    if (rx == NULL || pred == NULL)
        return weft__misuse(call, -EINVAL, "an argument is NULL", caller);
    if (ret_value && !weft__watch_can_copy(rx->ch))
        return weft__misuse(call, -EINVAL, "the values have drop and no clone: borrow them",
                            caller);
    return 0;
}

void weft_watch_wait_for_future_init(weft_watch_wait_for_future *f, weft_watch_receiver *rx,
                                     weft_watch_pred pred, void *arg, void *ret_value)
{
    int rc = check_fit("weft_watch_wait_for_future_init", rx, pred, ret_value, WEFT__CALLER);
    f->future.ops = &fit_ops;
    struct fit_wait *w = fit_wait_of(&f->future);
    w->rx = rc < 0 ? NULL : rx;
    w->pred = pred;
    w->arg = arg;
    w->ret_value = ret_value;
    weft__waiter_init(&w->waiter);
}

static int start_fit(weft_case *c)
{
    weft_watch_wait_for_future_init(weft_case_storage(c), c->arg[0].ptr,
                                    (weft_watch_pred)(uintptr_t)c->arg[1].ptr, c->arg[2].ptr,
                                    c->arg[3].ptr);
    return 0;
}

weft_case weft_case_watch_wait_for(weft_watch_receiver *rx, weft_watch_pred pred, void *arg,
                                   void *ret_value)
{
    weft_case c = weft_case_make(start_fit, rx, (void *)(uintptr_t)pred);
    c.arg[2].ptr = arg;
    c.arg[3].ptr = ret_value;
    return c;
}

int weft_watch_try_wait_for(weft_watch_receiver *rx, weft_watch_pred pred, void *arg,
                            void *ret_value)
{
    int rc = check_fit("weft_watch_try_wait_for", rx, pred, ret_value, WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (weft__ends_are_inherited(&rx->ch->ends, "weft_watch_try_wait_for", WEFT__CALLER))
        return -EPERM;
    struct fit_wait w = {.rx = rx, .pred = pred, .arg = arg, .ret_value = ret_value};
    rc = look_until_it_fits(&w);
    weft__lock_release(&rx->ch->ends.lock);
    return rc == CHANGED_AGAIN ? -EAGAIN : rc;
}

int weft_watch_wait_for(weft_watch_receiver *rx, weft_watch_pred pred, void *arg, void *ret_value)
{
    int rc = check_fit("weft_watch_wait_for", rx, pred, ret_value, WEFT__CALLER);
    if (rc == 0)
        rc = weft__wait_begin("weft_watch_wait_for", WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_watch_wait_for_future f;
    weft_watch_wait_for_future_init(&f, rx, pred, arg, ret_value);
    return weft__wait_for(&f.future);
}

int weft_watch_blocking_wait_for(weft_watch_receiver *rx, weft_watch_pred pred, void *arg,
                                 void *ret_value)
{
    int rc = check_fit("weft_watch_blocking_wait_for", rx, pred, ret_value, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft_watch_wait_for_future f;
    weft_watch_wait_for_future_init(&f, rx, pred, arg, ret_value);
    return weft__wait_blocking("weft_watch_blocking_wait_for", &f.future, WEFT__CALLER);
}

/* ---- waiting for no receiver ---- */

_Static_assert(sizeof(struct weft__ends_closed) <= sizeof(weft_watch_closed_future),
               "weft_watch_closed_future is too small");

static const weft_future_ops closed_ops = {weft__ends_closed_poll, weft__ends_closed_cancel,
                                           "watch closed"};

void weft_watch_closed_future_init(weft_watch_closed_future *f, weft_watch_sender *tx)
{
    weft__ends_closed_init((struct weft__ends_closed *)f, &closed_ops, weft__watch_ends(tx),
                           "weft_watch_closed_future_init", WEFT__CALLER);
}

static int start_closed(weft_case *c)
{
    weft_watch_closed_future_init(weft_case_storage(c), c->arg[0].ptr);
    return 0;
}

weft_case weft_case_watch_closed(weft_watch_sender *tx)
{
    return weft_case_make(start_closed, tx, NULL);
}

int weft_watch_closed(weft_watch_sender *tx)
{
    return weft__ends_wait_closed(&closed_ops, weft__watch_ends(tx), "weft_watch_closed",
                                  WEFT__CALLER);
}

int weft_watch_blocking_closed(weft_watch_sender *tx)
{
    return weft__ends_blocking_wait_closed(&closed_ops, weft__watch_ends(tx),
                                           "weft_watch_blocking_closed", WEFT__CALLER);
}
