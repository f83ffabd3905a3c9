/*
 * Iterators over channels, intervals and arrays: each is the future of one item, made anew for
 * each.
 */
#include "iter/iter.h"
#include "sync/broadcast.h"
#include "sync/mpsc.h"
#include "sync/queue.h"
#include "sync/watch.h"

#include <errno.h>
#include <string.h>

struct source {
    weft_iter iter;
    bool is_pending; /* the future has been polled, and is registered */
    union {
        weft_future future; /* each of the others begins with one */
        weft_mpsc_recv_future mpsc;
        weft_queue_recv_future queue;
        weft_broadcast_recv_future broadcast;
        weft_watch_changed_future watch;
        weft_interval_tick_future tick;
    } f;
    union {
        weft_mpsc_receiver *mpsc;
        weft_queue *queue;
        weft_broadcast_receiver *broadcast;
        weft_watch_receiver *watch;
        weft_interval *interval;
    } from;
    void *item;     /* where the future puts it */
    uint64_t lost;  /* broadcast */
    bool has_begun; /* watch: the value that was there has come */
};

static void source_cancel(weft_iter *it)
{
    struct source *s = (struct source *)it;
    if (s->is_pending)
        weft_future_cancel(&s->f.future);
    s->is_pending = false;
}

static void source_destroy(weft_iter *it)
{
    weft__free(it);
}

static struct source *source_create(const weft_iter_ops *ops, const struct weft__value_type *type)
{
    struct source *s = weft__calloc(1, sizeof *s);
    if (s)
        s->iter = (weft_iter){ops, type->bytes, type->drop};
    return s;
}

/* Whether the future is to be made: there is none, or it is of another wait, one that a select has
 * left pending, say, with a place of its own for the item. */
static bool must_begin(struct source *s, void *item)
{
    if (s->item != item)
        source_cancel(&s->iter);
    s->item = item;
    return !s->is_pending;
}

static int source_poll(struct source *s, weft_waker *waker)
{
    int rc = s->f.future.ops->poll(&s->f.future, waker);
    s->is_pending = rc == WEFT_PENDING;
    return rc;
}

/* What a receive says, as an iterator says it. */
static int item_or_end(int rc)
{
    return rc == 0 ? 1 : rc == -EPIPE ? 0 : rc;
}

#define NO_SOURCE(call)                                                                            \
    weft__iter_misuse(call, "what it reads from is NULL", NULL, NULL, WEFT__CALLER)

/* ---- mpsc ---- */

static int mpsc_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct source *s = (struct source *)it;
    if (must_begin(s, item))
        weft_mpsc_recv_future_init(&s->f.mpsc, s->from.mpsc, item);
    return item_or_end(source_poll(s, waker));
}

weft_iter *weft_iter_mpsc(weft_mpsc_receiver *rx)
{
    static const weft_iter_ops ops = {mpsc_poll, source_cancel, source_destroy};
    if (rx == NULL)
        return NO_SOURCE("weft_iter_mpsc");
    struct source *s = source_create(&ops, &weft__mpsc_of_rx(rx)->type);
    if (s == NULL)
        return weft__iter_no_memory();
    s->from.mpsc = rx;
    return &s->iter;
}

/* ---- queue ---- */

static int queue_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct source *s = (struct source *)it;
    if (must_begin(s, item))
        weft_queue_recv_future_init(&s->f.queue, s->from.queue, item);
    return item_or_end(source_poll(s, waker));
}

weft_iter *weft_iter_queue(weft_queue *q)
{
    static const weft_iter_ops ops = {queue_poll, source_cancel, source_destroy};
    if (q == NULL)
        return NO_SOURCE("weft_iter_queue");
    struct source *s = source_create(&ops, weft__queue_type(q));
    if (s == NULL)
        return weft__iter_no_memory();
    s->from.queue = q;
    return &s->iter;
}

/* ---- broadcast ---- */

static int broadcast_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct source *s = (struct source *)it;
    if (must_begin(s, item))
        weft_broadcast_recv_future_init(&s->f.broadcast, s->from.broadcast, item, &s->lost);
    return item_or_end(source_poll(s, waker));
}

static const weft_iter_ops broadcast_ops = {broadcast_poll, source_cancel, source_destroy};

weft_iter *weft_iter_broadcast(weft_broadcast_receiver *rx)
{
    if (rx == NULL)
        return NO_SOURCE("weft_iter_broadcast");
    struct source *s = source_create(&broadcast_ops, &rx->ch->type);
    if (s == NULL)
        return weft__iter_no_memory();
    s->from.broadcast = rx;
    return &s->iter;
}

uint64_t weft_iter_broadcast_lost(const weft_iter *it)
{
    return it && it->ops == &broadcast_ops ? ((const struct source *)it)->lost : 0;
}

/* ---- watch ---- */

static int watch_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct source *s = (struct source *)it;
    int rc = 0;
    if (s->has_begun) {
        if (!s->is_pending)
            weft_watch_changed_future_init(&s->f.watch, s->from.watch);
        rc = source_poll(s, waker);
    }
    if (rc == 0)
        rc = weft_watch_get_and_update(s->from.watch, item);
    /* A version whose copy failed is to come again. */
    if (rc == 0)
        s->has_begun = true;
    else if (rc != WEFT_PENDING && rc != -EPIPE)
        s->has_begun = false;
    return item_or_end(rc);
}

weft_iter *weft_iter_watch(weft_watch_receiver *rx)
{
    static const weft_iter_ops ops = {watch_poll, source_cancel, source_destroy};
    if (rx == NULL)
        return NO_SOURCE("weft_iter_watch");
    if (!weft__watch_can_copy(rx->ch))
        return weft__iter_misuse("weft_iter_watch",
                                 "the values have drop and no clone: they cannot be copied out",
                                 NULL, NULL, WEFT__CALLER);
    struct source *s = source_create(&ops, &rx->ch->type);
    if (s == NULL)
        return weft__iter_no_memory();
    s->from.watch = rx;
    return &s->iter;
}

/* ---- interval ---- */

static int interval_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct source *s = (struct source *)it;
    if (must_begin(s, item))
        weft_interval_tick_future_init(&s->f.tick, s->from.interval, item);
    return item_or_end(source_poll(s, waker));
}

weft_iter *weft_iter_interval(weft_interval *i)
{
    static const weft_iter_ops ops = {interval_poll, source_cancel, source_destroy};
    static const struct weft__value_type type = {.bytes = sizeof(uint64_t)};
    if (i == NULL)
        return NO_SOURCE("weft_iter_interval");
    struct source *s = source_create(&ops, &type);
    if (s == NULL)
        return weft__iter_no_memory();
    s->from.interval = i;
    return &s->iter;
}

/* ---- array ---- */

struct array {
    weft_iter iter;
    const char *next;
    size_t left;
};

static int array_poll(weft_iter *it, void *item, weft_waker *waker)
{
    (void)waker;
    struct array *a = (struct array *)it;
    if (a->left == 0)
        return 0;
    if (it->item_bytes) { /* else the array may be NULL */
        memcpy(item, a->next, it->item_bytes);
        a->next += it->item_bytes;
    }
    a->left--;
    return 1;
}

static void array_cancel(weft_iter *it)
{
    (void)it;
}

weft_iter *weft_iter_array(const void *items, size_t count, size_t item_bytes)
{
    static const weft_iter_ops ops = {array_poll, array_cancel, source_destroy};
    if (items == NULL && count && item_bytes)
        return NO_SOURCE("weft_iter_array");
    struct array *a = weft__malloc(sizeof *a);
    if (a == NULL)
        return weft__iter_no_memory();
    *a = (struct array){{&ops, item_bytes, NULL}, items, count};
    return &a->iter;
}
