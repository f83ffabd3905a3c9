/*
 * Copying streams.
 *
 * The buffer is 16 KiB, more than a task's stack should carry, and held only while there is
 * something in it: a stream that can say that it is readable is waited for without one, so that ten
 * thousand idle connections do not keep 160 MB. A handful of free buffers is kept, and steady
 * copying allocates nothing.
 */
#include "base/base.h"
#include "io/stream.h"
#include "sys/sys.h"
#include "task/panic.h"
#include "task/task.h"

#include <weft/panic.h>
#include <weft/stream.h>
#include <weft/task.h>

#include <errno.h>

#define BUFFER_BYTES ((size_t)16 << 10)
#define CACHE_SLOTS 32u

/* Free buffers. A thread looks where its context's address leads it, so that threads do not share a
 * slot, and mostly a line, unless by chance. Exchanged by all. */
static weft__aptr cache[CACHE_SLOTS];

static weft__aptr *cache_slot(void)
{
    uintptr_t mine = (uintptr_t)weft__ctx_now() >> 6;
    return &cache[(mine ^ mine >> 5 ^ mine >> 10) % CACHE_SLOTS];
}

static void *buffer_take(void)
{
    weft__aptr *slot = cache_slot();
    /* acquire pairs with the release in give: the former user is done with the bytes. */
    void *b = weft__aptr_load_relaxed(slot) ? weft__aptr_swap_acquire(slot, NULL) : NULL;
    return b != NULL ? b : weft__malloc(BUFFER_BYTES);
}

static void buffer_give(void *b)
{
    if (b == NULL)
        return;
    void *empty = NULL;
    if (!weft__aptr_cas_release(cache_slot(), &empty, b))
        weft__free(b);
}

/* Only so that checkers of leaks have nothing to say: everything else has ended. */
__attribute__((destructor)) static void cache_free(void)
{
    for (unsigned i = 0; i < CACHE_SLOTS; i++)
        weft__free(weft__aptr_swap_acquire(&cache[i], NULL));
}

/* ---- one way ---- */

struct copy {
    struct weft__stream_target from, to;
    uint64_t bytes; /* written */
    bool is_dirty;  /* written to since the last flush */
    char *buffer;   /* NULL when none is held */
};

static void drop_buffer(void *arg)
{
    struct copy *c = arg;
    buffer_give(c->buffer);
    c->buffer = NULL;
}

/* Before a wait for more: hands on what was written, and gives up the buffer. */
static int wait_for_more(struct copy *c)
{
    if (c->is_dirty) {
        int rc = weft__target_flush(&c->to);
        if (rc < 0)
            return rc;
    }
    c->is_dirty = false;
    if (!weft__target_can_wait(&c->from))
        return 0; /* read() will wait, with the buffer */
    drop_buffer(c);
    return weft__target_wait_readable(&c->from);
}

static int copy_all(struct copy *c)
{
    for (;;) {
        int rc = wait_for_more(c);
        if (rc < 0)
            return rc;
        if (c->buffer == NULL && (c->buffer = buffer_take()) == NULL)
            return -ENOMEM;
        ssize_t n = weft__target_read_ready(&c->from, c->buffer, BUFFER_BYTES);
        if (n == -EAGAIN && c->from.ops != NULL)
            continue; /* readiness was a hint. Cleared now, it is waited for without the buffer */
        if (n <= 0)
            return (int)n;
        size_t written = 0;
        rc = weft__target_write_all(&c->to, c->buffer, (size_t)n, &written);
        c->bytes += written;
        c->is_dirty = true;
        if (rc < 0)
            return rc;
    }
}

static bool stream_is_bad(const weft_stream *s)
{
    return s == NULL || s->ops == NULL;
}

int weft_copy(weft_stream *from, weft_stream *to, uint64_t *ret_bytes)
{
    struct copy c = {.bytes = 0};
    int rc;
    if (stream_is_bad(from) || stream_is_bad(to)) {
        rc = weft__misuse("weft_copy", -EINVAL, "no stream", WEFT__CALLER);
    } else {
        c.from = weft__stream_resolve(from);
        c.to = weft__stream_resolve(to);
        WEFT_DEFER(drop_buffer, &c);
        rc = copy_all(&c);
    }
    if (ret_bytes != NULL)
        *ret_bytes = c.bytes;
    return rc;
}

/* ---- both ways ---- */

struct half {
    struct copy copy;
    weft_task *task; /* NULL when it has been joined */
    weft_join_future join;
    bool is_pending; /* join was polled and is registered */
    bool has_begun;
    int rc;
};

static void *run_half(void *arg)
{
    struct half *h = arg;
    h->has_begun = true;
    WEFT_DEFER(drop_buffer, &h->copy);
    h->rc = copy_all(&h->copy);
    if (h->rc == 0) {
        h->rc = weft__target_shutdown(&h->copy.to);
        /* Nothing to pass on, or nobody to pass it on to. */
        if (h->rc == -ENOTSUP || h->rc == -ENOTCONN)
            h->rc = 0;
    }
    return NULL;
}

/* Waits until one of the tasks that are left has ended. */
struct either {
    weft_future future;
    struct half *half; /* two of them */
};

static int either_poll(weft_future *f, weft_waker *waker)
{
    struct either *e = WEFT__CONTAINER_OF(f, struct either, future);
    bool ended = false;
    for (int i = 0; i < 2; i++) {
        struct half *h = &e->half[i];
        if (h->task == NULL)
            continue;
        int rc = weft_future_poll(&h->join.future, waker);
        h->is_pending = rc == WEFT_PENDING;
        ended |= !h->is_pending;
    }
    return ended ? 0 : WEFT_PENDING;
}

static void either_cancel(weft_future *f)
{
    struct either *e = WEFT__CONTAINER_OF(f, struct either, future);
    for (int i = 0; i < 2; i++)
        if (e->half[i].task != NULL && e->half[i].is_pending) {
            e->half[i].is_pending = false;
            weft_future_cancel(&e->half[i].join.future);
        }
}

static const weft_future_ops either_ops = {either_poll, either_cancel, "copy in both directions"};

/* What ended a task of ours before it had a result. */
static int error_of(const struct half *h, const weft_outcome *o)
{
    if (o->kind == WEFT_OUTCOME_PANICKED)
        weft__panic_report(o->panic, "in a copy in both directions");
    /* Not begun, and not for a shutdown: there was no memory for its stack. What has aborted it was
     * ordered before its end, hence before the join. */
    if (o->kind == WEFT_OUTCOME_CANCELLED && !h->has_begun &&
        weft__a32_load_relaxed(&weft__core_current()->phase) == WEFT__PHASE_RUNNING)
        return -ENOMEM;
    return weft_outcome_error(o);
}

/* Takes the outcome of a task that has ended. True when it was there to take. */
static bool collect(struct half *h)
{
    weft_outcome o;
    if (h->task == NULL || weft_try_join(h->task, &o) < 0)
        return false;
    h->task = NULL;
    if (o.kind != WEFT_OUTCOME_VALUE && h->rc == 0)
        h->rc = error_of(h, &o);
    weft_outcome_fini(&o);
    return true;
}

/* On every way out: no task is left that uses the caller's frame. Whatever else is asked of the
 * caller meanwhile is held back: a shutdown that unwinds it through a shield unwinds the tasks as
 * well, and they go on with their cleanups. A join that is pending goes on here. */
static void end_halves(void *arg)
{
    struct half *half = arg;
    for (int i = 0; i < 2; i++)
        if (half[i].task != NULL)
            (void)weft_abort(half[i].task); /* ended already: no harm */
    for (int i = 0; i < 2; i++)
        if (half[i].task != NULL && weft__wait_for_held(&half[i].join.future) == 0)
            (void)collect(&half[i]); /* else: a forked child, in which they do not run */
}

static int run_both(struct half *half, const void *caller)
{
    /* Before anything is spawned that could not be waited for. */
    int rc = weft__wait_begin("weft_copy_bidirectional", caller);
    if (rc < 0)
        return rc;
    WEFT_DEFER(end_halves, half);
    for (int i = 0; i < 2; i++) {
        rc = weft_spawn(run_half, &half[i], &half[i].task);
        if (rc < 0)
            return rc;
        weft_join_future_init(&half[i].join, half[i].task);
    }
    struct either e = {.future = {&either_ops}, .half = half};
    while (half[0].task != NULL || half[1].task != NULL) {
        rc = weft_await(&e.future);
        if (rc < 0)
            return rc;
        for (int i = 0; i < 2; i++)
            if (half[i].task != NULL && !half[i].is_pending && collect(&half[i]) && half[i].rc < 0)
                return half[i].rc;
    }
    return 0;
}

int weft_copy_bidirectional(weft_stream *a, weft_stream *b, uint64_t *ret_a_to_b,
                            uint64_t *ret_b_to_a)
{
    if (stream_is_bad(a) || stream_is_bad(b))
        return weft__misuse("weft_copy_bidirectional", -EINVAL, "no stream", WEFT__CALLER);
    struct weft__stream_target a_end = weft__stream_resolve(a), b_end = weft__stream_resolve(b);
    struct half half[2] = {
        {.copy = {.from = a_end, .to = b_end}},
        {.copy = {.from = b_end, .to = a_end}},
    };
    int rc = run_both(half, WEFT__CALLER);
    if (ret_a_to_b != NULL)
        *ret_a_to_b = half[0].copy.bytes;
    if (ret_b_to_a != NULL)
        *ret_b_to_a = half[1].copy.bytes;
    return rc;
}
