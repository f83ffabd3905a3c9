/*
 * Adapters that group and that go by time. Each has one timer, which is registered with the waker
 * only while a poll is pending, as everything inside an iterator.
 */
#include "iter/iter.h"
#include "time/timers.h"

#include <weft/time.h>

#include <errno.h>
#include <string.h>

/* ---- a timer that begins with the first poll, which knows the runtime ---- */

struct alarm {
    const char *call; /* that made the iterator, for the log */
    weft_timer timer;
    bool is_made, is_set, is_pending;
};

static int alarm_set(struct alarm *a, uint64_t duration_ns)
{
    /* On the clock that the timer goes by, also when a plain thread asks. */
    uint64_t now_ns = a->is_made ? weft__timer_now(&a->timer) : weft_now();
    uint64_t deadline_ns = weft__add_sat(now_ns, duration_ns);
    if (!a->is_made) {
        int rc = weft__timer_begin(a->call, &a->timer, deadline_ns, NULL);
        if (rc < 0)
            return rc;
        a->is_made = true;
    } else {
        weft_timer_reset(&a->timer, deadline_ns);
    }
    a->is_set = true;
    return 0;
}

static void alarm_cancel(struct alarm *a)
{
    if (a->is_pending)
        weft_future_cancel(&a->timer.future);
    a->is_pending = false;
}

static void alarm_clear(struct alarm *a)
{
    alarm_cancel(a);
    a->is_set = false;
}

/* 0 once it has gone off, which clears it; WEFT_PENDING; an error, after which its time passes all
 * the same, and it may be asked again. It is set. */
static int alarm_poll(struct alarm *a, weft_waker *waker)
{
    int rc = a->timer.future.ops->poll(&a->timer.future, waker);
    a->is_pending = rc == WEFT_PENDING;
    if (rc == 0)
        a->is_set = false;
    return rc;
}

static void alarm_fini(struct alarm *a)
{
    alarm_clear(a);
    if (a->is_made)
        weft_timer_fini(&a->timer);
}

/* ---- chunks ---- */

struct chunks {
    struct weft__iter_adapter a;
    size_t max;
    uint64_t duration_ns; /* WEFT_NEVER: groups wait until they are full */
    struct alarm alarm;
    char *items; /* the group that is being made; NULL: none is */
    size_t count;
    size_t inner_bytes;
    int after; /* 0 or an error that comes after the group; 1: nothing */
};

static void chunk_drop(void *item)
{
    weft_chunk_fini(item);
}

void weft_chunk_fini(weft_chunk *c)
{
    if (c == NULL)
        return;
    struct weft__value_type type = {c->item_bytes, NULL, c->drop};
    for (size_t i = 0; i < c->count; i++)
        weft__value_drop(&type, (char *)c->items + i * c->item_bytes);
    weft__free(c->items);
    c->items = NULL;
    c->count = 0;
}

static int begin_group(struct chunks *c)
{
    size_t bytes;
    if (__builtin_mul_overflow(c->max, c->inner_bytes, &bytes))
        return -ENOMEM;
    c->items = weft__malloc(bytes ? bytes : 1);
    return c->items ? 0 : -ENOMEM;
}

static int hand_out(struct chunks *c, weft_chunk *out)
{
    *out = (weft_chunk){c->items, c->count, c->inner_bytes, c->a.inner->drop};
    c->items = NULL;
    c->count = 0;
    alarm_clear(&c->alarm);
    return 1;
}

/* Fills the group: 1 when it is full, or what comes instead. */
static int fill_further(struct chunks *c, weft_waker *waker)
{
    while (c->count < c->max) {
        char *at = c->items + c->count * c->inner_bytes;
        int rc = weft_iter_poll_next(c->a.inner, at, waker);
        if (rc != 1)
            return rc;
        if (c->count++ == 0 && c->duration_ns != WEFT_NEVER) {
            rc = alarm_set(&c->alarm, c->duration_ns);
            if (rc < 0)
                return rc;
        }
    }
    return 1;
}

/* The same, also when the timer waits. */
static int fill(struct chunks *c, weft_waker *waker)
{
    if (!c->alarm.is_pending)
        return fill_further(c, waker);
    weft_cleanup guard;
    struct weft__locals *l = weft__iter_guard_enter(&guard, &c->a.iter);
    int rc = fill_further(c, waker);
    weft__iter_guard_leave(&guard, l);
    return rc;
}

/* The same, and 1 as well once it has taken long enough. */
static int fill_in_time(struct chunks *c, weft_waker *waker)
{
    int rc = fill(c, waker);
    if (rc != WEFT_PENDING || !c->alarm.is_set)
        return rc;
    rc = alarm_poll(&c->alarm, waker);
    if (rc == WEFT_PENDING)
        return rc;
    weft_iter_cancel(c->a.inner); /* the group goes out */
    return rc == 0 ? 1 : rc;
}

static int chunks_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct chunks *c = (struct chunks *)it;
    if (c->after <= 0) {
        int rc = c->after;
        if (rc < 0)
            c->after = 1; /* an end stays */
        return rc;
    }
    if (c->items == NULL && begin_group(c) < 0)
        return -ENOMEM;
    int rc = fill_in_time(c, waker);
    if (rc == WEFT_PENDING)
        return rc;
    if (rc == 1)
        return hand_out(c, item);
    if (rc == 0)
        c->after = 0;
    if (c->count == 0) {
        alarm_clear(&c->alarm);
        return rc;
    }
    c->after = rc;
    return hand_out(c, item);
}

static void chunks_cancel(weft_iter *it)
{
    struct chunks *c = (struct chunks *)it;
    alarm_cancel(&c->alarm);
    weft_iter_cancel(c->a.inner);
}

static void chunks_destroy(weft_iter *it)
{
    struct chunks *c = (struct chunks *)it;
    weft_chunk rest = {c->items, c->count, c->inner_bytes, c->a.inner->drop};
    weft_chunk_fini(&rest);
    alarm_fini(&c->alarm);
    weft__iter_adapter_destroy(it);
}

static weft_iter *chunks(weft_iter *it, size_t max, uint64_t duration_ns)
{
    static const weft_iter_ops ops = {chunks_poll, chunks_cancel, chunks_destroy};
    weft_iter *instead;
    struct chunks *c = weft__iter_adapter_create(sizeof *c, &ops, it, &instead);
    if (c == NULL)
        return instead;
    c->max = max;
    c->duration_ns = duration_ns;
    c->inner_bytes = it->item_bytes;
    c->after = 1;
    c->alarm.call = "weft_iter_chunks_timeout";
    c->a.iter.item_bytes = sizeof(weft_chunk);
    c->a.iter.drop = chunk_drop;
    return &c->a.iter;
}

weft_iter *weft_iter_chunks(weft_iter *it, size_t max)
{
    if (it == NULL || max == 0)
        return weft__iter_misuse("weft_iter_chunks", "no iterator, or groups of 0", it, NULL,
                                 WEFT__CALLER);
    return chunks(it, max, WEFT_NEVER);
}

weft_iter *weft_iter_chunks_timeout(weft_iter *it, size_t max, uint64_t duration_ns)
{
    if (it == NULL || max == 0 || duration_ns == 0)
        return weft__iter_misuse("weft_iter_chunks_timeout",
                                 "no iterator, groups of 0, or a duration of 0", it, NULL,
                                 WEFT__CALLER);
    return chunks(it, max, duration_ns);
}

/* ---- throttle, timeout ---- */

struct timed {
    struct weft__iter_adapter a;
    uint64_t duration_ns;
    struct alarm alarm;
    bool is_stalled; /* timeout: has been said, and nothing has come since */
    bool repeats;
};

static int throttle_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct timed *t = (struct timed *)it;
    int rc = 0;
    if (!t->alarm.is_made) {
        /* Before there is an item, which an error would lose. */
        rc = alarm_set(&t->alarm, 0);
        alarm_clear(&t->alarm);
    } else if (t->alarm.is_set) {
        rc = alarm_poll(&t->alarm, waker);
    }
    if (rc != 0)
        return rc;
    rc = weft__iter_poll(t->a.inner, item, waker);
    if (rc == 1)
        (void)alarm_set(&t->alarm, t->duration_ns); /* once made, it can be set */
    return rc;
}

/* While the timer waits. */
static int poll_guarded(struct timed *t, void *item, weft_waker *waker)
{
    weft_cleanup guard;
    struct weft__locals *l = weft__iter_guard_enter(&guard, &t->a.iter);
    int rc = weft__iter_poll(t->a.inner, item, waker);
    weft__iter_guard_leave(&guard, l);
    return rc;
}

static int timeout_poll(weft_iter *it, void *item, weft_waker *waker)
{
    struct timed *t = (struct timed *)it;
    int rc = t->alarm.is_pending ? poll_guarded(t, item, waker)
                                 : weft__iter_poll(t->a.inner, item, waker);
    if (rc != WEFT_PENDING) {
        alarm_clear(&t->alarm);
        t->is_stalled = false;
        return rc;
    }
    if (t->is_stalled && !t->repeats)
        return rc;
    rc = t->alarm.is_set ? 0 : alarm_set(&t->alarm, t->duration_ns);
    if (rc == 0)
        rc = alarm_poll(&t->alarm, waker);
    if (rc == WEFT_PENDING)
        return rc;
    weft_iter_cancel(t->a.inner);
    if (rc < 0)
        return rc;
    t->is_stalled = true;
    return -ETIME;
}

static void timed_cancel(weft_iter *it)
{
    struct timed *t = (struct timed *)it;
    alarm_cancel(&t->alarm);
    weft_iter_cancel(t->a.inner);
}

static void timed_destroy(weft_iter *it)
{
    alarm_fini(&((struct timed *)it)->alarm);
    weft__iter_adapter_destroy(it);
}

static const weft_iter_ops throttle_ops = {throttle_poll, timed_cancel, timed_destroy};
static const weft_iter_ops timeout_ops = {timeout_poll, timed_cancel, timed_destroy};

static weft_iter *timed(const char *call, weft_iter *it, const weft_iter_ops *ops,
                        uint64_t duration_ns, bool repeats)
{
    weft_iter *instead;
    struct timed *t = weft__iter_adapter_create(sizeof *t, ops, it, &instead);
    if (t == NULL)
        return instead;
    t->alarm.call = call;
    t->duration_ns = duration_ns;
    t->repeats = repeats;
    return &t->a.iter;
}

weft_iter *weft_iter_throttle(weft_iter *it, uint64_t period_ns)
{
    if (it == NULL)
        return weft__iter_misuse("weft_iter_throttle", "no iterator", NULL, NULL, WEFT__CALLER);
    return timed("weft_iter_throttle", it, &throttle_ops, period_ns, false);
}

weft_iter *weft_iter_timeout(weft_iter *it, uint64_t duration_ns)
{
    if (it == NULL)
        return weft__iter_misuse("weft_iter_timeout", "no iterator", NULL, NULL, WEFT__CALLER);
    return timed("weft_iter_timeout", it, &timeout_ops, duration_ns, false);
}

weft_iter *weft_iter_timeout_repeating(weft_iter *it, uint64_t duration_ns)
{
    if (it == NULL || duration_ns == 0)
        return weft__iter_misuse("weft_iter_timeout_repeating", "no iterator, or a duration of 0",
                                 it, NULL, WEFT__CALLER);
    return timed("weft_iter_timeout_repeating", it, &timeout_ops, duration_ns, true);
}
