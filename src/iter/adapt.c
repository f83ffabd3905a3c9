/*
 * Adapters over one iterator, and chain. A loop that may go through many items in one poll polls
 * with the budget, so that it yields.
 */
#include "iter/iter.h"

#include <weft/task.h>

#include <errno.h>
#include <string.h>

#define TAKE_NULL(call) weft__iter_misuse(call, "an argument is NULL", it, NULL, WEFT__CALLER)

/* ---- map, filter_map ---- */

struct map {
    struct weft__iter_adapter a;
    void (*fn)(void *out, void *in, void *arg);
    bool (*fn_if)(void *out, void *in, void *arg); /* or this one */
    void *arg;
    _Alignas(max_align_t) char in[];
};

struct map_call {
    struct map *m;
    void *out;
    bool is_wanted;
};

static void call_map(void *arg)
{
    struct map_call *c = arg;
    struct map *m = c->m;
    WEFT_NO_WAIT {
        if (m->fn)
            m->fn(c->out, m->in, m->arg);
        else
            c->is_wanted = m->fn_if(c->out, m->in, m->arg);
    }
}

static int map_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct map *m = (struct map *)it;
    struct map_call c = {m, item, true};
    int rc = weft__iter_poll(m->a.inner, m->in, waker);
    while (rc == 1) {
        if (!weft__iter_call(call_map, &c))
            return -EOWNERDEAD;
        if (c.is_wanted)
            break;
        rc = weft_iter_poll_next(m->a.inner, m->in, waker);
    }
    return rc;
}

static const weft_iter_ops map_ops = {map_poll, weft__iter_adapter_cancel,
                                      weft__iter_adapter_destroy};

static weft_iter *map(weft_iter *it, size_t out_bytes, void (*drop)(void *out),
                      const struct map *how)
{
    weft_iter *instead;
    struct map *m = weft__iter_adapter_create(sizeof *m + it->item_bytes, &map_ops, it, &instead);
    if (m == NULL)
        return instead;
    m->a.iter.item_bytes = out_bytes;
    m->a.iter.drop = drop;
    m->fn = how->fn;
    m->fn_if = how->fn_if;
    m->arg = how->arg;
    return &m->a.iter;
}

weft_iter *weft_iter_map(weft_iter *it, size_t out_bytes, void (*drop)(void *out),
                         void (*fn)(void *out, void *in, void *arg), void *arg)
{
    if (it == NULL || fn == NULL)
        return TAKE_NULL("weft_iter_map");
    return map(it, out_bytes, drop, &(struct map){.fn = fn, .arg = arg});
}

weft_iter *weft_iter_filter_map(weft_iter *it, size_t out_bytes, void (*drop)(void *out),
                                bool (*fn)(void *out, void *in, void *arg), void *arg)
{
    if (it == NULL || fn == NULL)
        return TAKE_NULL("weft_iter_filter_map");
    return map(it, out_bytes, drop, &(struct map){.fn_if = fn, .arg = arg});
}

/* ---- filter, take_while ---- */

struct filter {
    struct weft__iter_adapter a;
    bool (*pred)(const void *item, void *arg);
    void *arg;
    bool has_ended; /* take_while */
};

struct pred_call {
    const struct filter *f;
    const void *item;
    bool fits;
};

static void call_pred(void *arg)
{
    struct pred_call *c = arg;
    WEFT_NO_WAIT
        c->fits = c->f->pred(c->item, c->f->arg);
}

/* 1 when the item fits; else it is destroyed: 0, or -EOWNERDEAD. */
static int keep_or_drop(const struct filter *f, void *item)
{
    struct pred_call c = {f, item, false};
    int rc = weft__iter_call(call_pred, &c) ? c.fits : -EOWNERDEAD;
    if (rc != 1)
        weft__iter_drop_item(&f->a.iter, item);
    return rc;
}

static int filter_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct filter *f = (struct filter *)it;
    int rc = weft__iter_poll(f->a.inner, item, waker);
    while (rc == 1) {
        rc = keep_or_drop(f, item);
        if (rc != 0)
            break;
        rc = weft_iter_poll_next(f->a.inner, item, waker);
    }
    return rc;
}

static int take_while_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct filter *f = (struct filter *)it;
    if (f->has_ended)
        return 0;
    int rc = weft__iter_poll(f->a.inner, item, waker);
    if (rc == 1)
        rc = keep_or_drop(f, item);
    f->has_ended = rc == 0;
    return rc;
}

static weft_iter *filter(weft_iter *it, const weft_iter_ops *ops,
                         bool (*pred)(const void *item, void *arg), void *arg)
{
    weft_iter *instead;
    struct filter *f = weft__iter_adapter_create(sizeof *f, ops, it, &instead);
    if (f == NULL)
        return instead;
    f->pred = pred;
    f->arg = arg;
    return &f->a.iter;
}

weft_iter *weft_iter_filter(weft_iter *it, bool (*pred)(const void *item, void *arg), void *arg)
{
    static const weft_iter_ops ops = {filter_poll, weft__iter_adapter_cancel,
                                      weft__iter_adapter_destroy};
    if (it == NULL || pred == NULL)
        return TAKE_NULL("weft_iter_filter");
    return filter(it, &ops, pred, arg);
}

weft_iter *weft_iter_take_while(weft_iter *it, bool (*pred)(const void *item, void *arg), void *arg)
{
    static const weft_iter_ops ops = {take_while_poll, weft__iter_adapter_cancel,
                                      weft__iter_adapter_destroy};
    if (it == NULL || pred == NULL)
        return TAKE_NULL("weft_iter_take_while");
    return filter(it, &ops, pred, arg);
}

/* ---- take, skip ---- */

struct counted {
    struct weft__iter_adapter a;
    size_t left;
};

static int take_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct counted *c = (struct counted *)it;
    if (c->left == 0)
        return 0;
    int rc = weft__iter_poll(c->a.inner, item, waker);
    if (rc == 0)
        c->left = 0;
    else
        c->left -= rc == 1;
    return rc;
}

static int skip_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct counted *c = (struct counted *)it;
    int rc = weft__iter_poll(c->a.inner, item, waker);
    while (rc == 1 && c->left > 0) {
        c->left--;
        weft__iter_drop_item(it, item);
        rc = weft_iter_poll_next(c->a.inner, item, waker);
    }
    return rc;
}

static weft_iter *counted(weft_iter *it, const weft_iter_ops *ops, size_t n)
{
    weft_iter *instead;
    struct counted *c = weft__iter_adapter_create(sizeof *c, ops, it, &instead);
    if (c == NULL)
        return instead;
    c->left = n;
    return &c->a.iter;
}

weft_iter *weft_iter_take(weft_iter *it, size_t n)
{
    static const weft_iter_ops ops = {take_poll, weft__iter_adapter_cancel,
                                      weft__iter_adapter_destroy};
    return it ? counted(it, &ops, n) : TAKE_NULL("weft_iter_take");
}

weft_iter *weft_iter_skip(weft_iter *it, size_t n)
{
    static const weft_iter_ops ops = {skip_poll, weft__iter_adapter_cancel,
                                      weft__iter_adapter_destroy};
    return it ? counted(it, &ops, n) : TAKE_NULL("weft_iter_skip");
}

/* ---- fuse ---- */

static int fuse_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct counted *c = (struct counted *)it; /* left: 1 until it has ended */
    if (c->left == 0)
        return 0;
    int rc = weft__iter_poll(c->a.inner, item, waker);
    if (rc == 0)
        c->left = 0;
    return rc;
}

weft_iter *weft_iter_fuse(weft_iter *it)
{
    static const weft_iter_ops ops = {fuse_poll, weft__iter_adapter_cancel,
                                      weft__iter_adapter_destroy};
    return it ? counted(it, &ops, 1) : TAKE_NULL("weft_iter_fuse");
}

/* ---- chain ---- */

struct chain {
    struct weft__iter_adapter a; /* inner: the first */
    weft_iter *then;             /* owned */
    bool first_has_ended;        /* it is not destroyed yet: that may wait */
};

static int chain_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct chain *c = (struct chain *)it;
    int rc = c->first_has_ended ? 0 : weft__iter_poll(c->a.inner, item, waker);
    if (rc != 0)
        return rc;
    c->first_has_ended = true;
    return weft__iter_poll(c->then, item, waker);
}

static void chain_cancel(weft_iter *it)
{
    struct chain *c = (struct chain *)it;
    weft_iter_cancel(c->first_has_ended ? c->then : c->a.inner);
}

static void chain_destroy(weft_iter *it)
{
    weft_iter_destroy(((struct chain *)it)->then);
    weft__iter_adapter_destroy(it);
}

weft_iter *weft_iter_chain(weft_iter *a, weft_iter *b)
{
    static const weft_iter_ops ops = {chain_poll, chain_cancel, chain_destroy};
    weft_iter *mismatch = weft__iter_mismatch("weft_iter_chain", a, b, WEFT__CALLER);
    if (mismatch)
        return mismatch;
    weft_iter *instead;
    struct chain *c = weft__iter_adapter_create(sizeof *c, &ops, a, &instead);
    if (c == NULL) {
        weft_iter_destroy(b);
        return instead;
    }
    c->then = b;
    return &c->a.iter;
}

/* ---- peekable ---- */

struct peekable {
    struct weft__iter_adapter a;
    int peeked; /* what comes next: 1 with an item, 0; WEFT_PENDING: not known */
    _Alignas(max_align_t) char item[];
};

static int peekable_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct peekable *p = (struct peekable *)it;
    int rc = p->peeked;
    if (rc == WEFT_PENDING)
        return weft__iter_poll(p->a.inner, item, waker);
    p->peeked = WEFT_PENDING;
    if (rc == 1 && it->item_bytes)
        memcpy(item, p->item, it->item_bytes);
    return rc;
}

static void peekable_destroy(weft_iter *it)
{
    struct peekable *p = (struct peekable *)it;
    if (p->peeked == 1)
        weft__iter_drop_item(it, p->item);
    weft__iter_adapter_destroy(it);
}

static const weft_iter_ops peekable_ops = {peekable_poll, weft__iter_adapter_cancel,
                                           peekable_destroy};

weft_iter *weft_iter_peekable(weft_iter *it)
{
    if (it == NULL)
        return TAKE_NULL("weft_iter_peekable");
    weft_iter *instead;
    struct peekable *p =
        weft__iter_adapter_create(sizeof *p + it->item_bytes, &peekable_ops, it, &instead);
    if (p == NULL)
        return instead;
    p->peeked = WEFT_PENDING;
    return &p->a.iter;
}

int weft_iter_peek(weft_iter *it, const void **ret_item)
{
    if (it == weft__iter_no_memory())
        return -ENOMEM;
    if (it == NULL || ret_item == NULL || it->ops != &peekable_ops)
        return weft__misuse("weft_iter_peek", -EINVAL, "not an iterator of weft_iter_peekable()",
                            WEFT__CALLER);
    struct peekable *p = (struct peekable *)it;
    int rc = p->peeked;
    if (rc == WEFT_PENDING) {
        rc = weft__iter_next("weft_iter_peek", p->a.inner, p->item, WEFT__CALLER);
        /* An error of the wait is not what comes next. */
        if (rc >= 0)
            p->peeked = rc;
    }
    if (rc == 1)
        *ret_item = p->item;
    return rc;
}
