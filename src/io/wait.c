/*
 * The wait for a source to be ready, as a future. See source.h for holds and pins, and source.c for
 * the side that wakes.
 */
#include "io/source.h"

#include "io/epoll.h"
#include "task/await.h"

#include <errno.h>

/* ---- pins ---- */

/* In a forked child the slot of an ancestor's source is never used again, pinned or not, and the
 * lock may be a thread's that is not here. */

void weft__source_pin(struct weft__source *s)
{
    if (WEFT__UNLIKELY(weft__source_is_ancestral(s)))
        return;
    weft__lock_acquire(&s->lock);
    s->pins++;
    weft__lock_release(&s->lock);
}

void weft__source_unpin(struct weft__source *s)
{
    if (WEFT__UNLIKELY(weft__source_is_ancestral(s)))
        return;
    weft__lock_acquire(&s->lock);
    bool last = --s->pins == 0 && s->is_finished;
    weft__lock_release(&s->lock);
    if (last)
        weft__driver_slot_put(s);
}

/* ---- the wait ---- */

static void drop_hold(struct weft__io_wait *w)
{
    if (!w->held)
        return;
    w->held = false;
    weft__source_unhold(w->source);
}

/* The deadlock check of the waiter's runtime counts the sources of its own driver. */
static void note_runtime(const struct weft__source *s, weft_waker *waker)
{
    struct weft__core *waits = weft__task_of_waker(waker)->core;
    if (WEFT__UNLIKELY(waits != NULL && waits->driver != s->driver))
        weft__a32_store_relaxed(&waits->waits_elsewhere, 1); /* for what lasts */
}

static bool is_closed(const struct weft__source *s, uint32_t generation)
{
    /* relaxed: who closes has not been at the waiters yet, or unlocked after it had closed */
    return weft__source_generation(weft__a64_load_relaxed(&s->state)) != generation;
}

/* The lock is held, and w not queued. PENDING, or bits, or -EBADF. */
static int queue(struct weft__io_wait *w, weft_waker *waker)
{
    struct weft__source *s = w->source;
    if (is_closed(s, w->generation))
        return -EBADF;
    uint64_t bits = weft__source_ready_to(s, w->interest);
    if (bits != 0)
        return (int)bits;
    note_runtime(s, waker);
    w->waker = waker;
    weft__list_push_back(&s->waiters, &w->node);
    s->pins++;
    weft__a32_store_relaxed(&w->state, WEFT__IO_WAIT_QUEUED); /* read by others under the lock */
    return WEFT_PENDING;
}

/* Polled again while queued: woken by something else, or with another waker. The lock is held, and
 * w queued. */
static int poll_queued(struct weft__io_wait *w, weft_waker *waker)
{
    struct weft__source *s = w->source;
    uint64_t bits = weft__source_ready_to(s, w->interest);
    /* Not held: it is being closed, and that ends this wait in a moment. */
    if (bits == 0 || weft__source_rehold(s, w->generation) < 0) {
        w->waker = waker;
        return WEFT_PENDING;
    }
    w->held = true;
    weft__list_remove(&w->node);
    s->pins--;                                             /* the hold keeps the slot */
    weft__a32_store_relaxed(&w->state, WEFT__IO_WAIT_NEW); /* ours alone from here on */
    return (int)bits;
}

/* Nobody would ever wake it. */
static WEFT__COLD int refuse_ancestral(void)
{
    return weft__misuse(
        "a wait for a descriptor", -EPERM,
        "it belongs to the parent of this forked child; take it out and open it anew",
        WEFT__CALLER);
}

static int wait_poll(weft_future *f, weft_waker *waker)
{
    struct weft__io_wait *w = WEFT__CONTAINER_OF(f, struct weft__io_wait, future);
    struct weft__source *s = w->source;
    int rc;

    uint32_t state = weft__a32_load_acquire(&w->state); /* pairs with collect */
    if (state == WEFT__IO_WAIT_QUEUED) {
        if (WEFT__UNLIKELY(weft__source_is_ancestral(s))) {
            weft__a32_store_relaxed(&w->state, WEFT__IO_WAIT_NEW); /* as in abandon */
            return refuse_ancestral();
        }
        weft__lock_acquire(&s->lock); /* our pin keeps s */
        state = weft__a32_load_relaxed(&w->state);
        rc = state == WEFT__IO_WAIT_QUEUED ? poll_queued(w, waker) : 0;
        weft__lock_release(&s->lock);
        if (state == WEFT__IO_WAIT_QUEUED)
            goto done;
    }
    if (state == WEFT__IO_WAIT_ENDED) {
        weft__a32_store_relaxed(&w->state, WEFT__IO_WAIT_NEW);
        rc = w->result;
        weft__source_unpin(s);
        return rc;
    }
    if (state == WEFT__IO_WAIT_WOKEN) {
        weft__a32_store_relaxed(&w->state, WEFT__IO_WAIT_NEW);
        w->held = true;
    }
    if (!w->held && !(w->held = weft__source_rehold(s, w->generation) == 0))
        return -EBADF;
    /* Woken first, and closed before the task came to run: goes on, but with what our hold keeps. A
     * borrowed descriptor it does not keep, and its number may be a stranger's. */
    if (WEFT__UNLIKELY(is_closed(s, w->generation)) &&
        weft__source_has_flag(s, WEFT__SOURCE_BORROWED)) {
        drop_hold(w);
        return -EBADF;
    }
    rc = (int)weft__source_ready_to(s, w->interest);
    if (rc == 0 && WEFT__UNLIKELY(weft__source_is_ancestral(s)))
        rc = refuse_ancestral();
    if (rc == 0) { /* not yet, or another waiter was faster */
        weft__lock_acquire(&s->lock);
        rc = queue(w, waker);
        weft__lock_release(&s->lock);
        if (rc == WEFT_PENDING)
            drop_hold(w); /* the pin keeps the slot, and a close need not wait for us */
    }
done:
    if (rc > 0 && (rc & (int)WEFT__READY_SHUTDOWN))
        rc = -ESHUTDOWN;
    if (rc < 0 && rc != WEFT_PENDING)
        drop_hold(w);
    return rc;
}

void weft__io_wait_abandon(struct weft__io_wait *w)
{
    struct weft__source *s = w->source;
    uint32_t state = weft__a32_load_acquire(&w->state); /* pairs with collect */
    if (state == WEFT__IO_WAIT_QUEUED && WEFT__UNLIKELY(weft__source_is_ancestral(s))) {
        /* The lock may be a thread's that is not here, and nobody goes through the list. */
        weft__a32_store_relaxed(&w->state, WEFT__IO_WAIT_NEW);
        return;
    }
    if (state == WEFT__IO_WAIT_QUEUED) {
        weft__lock_acquire(&s->lock);
        state = weft__a32_load_relaxed(&w->state);
        if (state == WEFT__IO_WAIT_QUEUED) {
            weft__list_remove(&w->node);
            state = WEFT__IO_WAIT_ENDED; /* the pin is left, as there */
        }
        weft__lock_release(&s->lock);
    }
    weft__a32_store_relaxed(&w->state, WEFT__IO_WAIT_NEW);
    if (state == WEFT__IO_WAIT_ENDED)
        weft__source_unpin(s);
    else if (state == WEFT__IO_WAIT_WOKEN)
        w->held = true;
    drop_hold(w);
}

static void wait_cancel(weft_future *f)
{
    weft__io_wait_abandon(WEFT__CONTAINER_OF(f, struct weft__io_wait, future));
}

static const weft_future_ops wait_ops = {wait_poll, wait_cancel, "descriptor"};
static const weft_future_ops wait_read_ops = {wait_poll, wait_cancel, "readable descriptor"};
static const weft_future_ops wait_write_ops = {wait_poll, wait_cancel, "writable descriptor"};
static const weft_future_ops wait_accept_ops = {wait_poll, wait_cancel, "incoming connection"};

void weft__io_wait_init(struct weft__io_wait *w, struct weft__source *source, uint32_t generation,
                        uint32_t interest)
{
    const weft_future_ops *ops = &wait_ops;
    if (source->kind == WEFT__SOURCE_TCP_LISTENER)
        ops = &wait_accept_ops;
    else if (interest == WEFT__READY_READ)
        ops = &wait_read_ops;
    else if (interest == WEFT__READY_WRITE)
        ops = &wait_write_ops;
    w->future.ops = ops;
    w->source = source;
    weft__list_init(&w->node);
    w->waker = NULL;
    w->generation = generation;
    w->interest = interest;
    weft__a32_store_relaxed(&w->state, WEFT__IO_WAIT_NEW);
    w->result = 0;
    w->held = false;
}

/* It is not over yet, or not as usual; a thread waits, or a child is refused. */
static WEFT__COLD int wait_as_future(struct weft__io_wait *w)
{
    int rc = weft__wait_for(&w->future);
    if (rc > 0)
        return 0;             /* the hold is the caller's again */
    weft__io_wait_abandon(w); /* refused: it has not been polled */
    return rc;
}

static WEFT__COLD int wait_stopped(struct weft__io_wait *w, struct weft__task *self, int why)
{
    weft__io_wait_abandon(w);
    return weft__wait_stopped(self, why);
}

static bool is_ready(uint64_t bits)
{
    return bits != 0 && (bits & WEFT__READY_SHUTDOWN) == 0;
}

/* As weft__wait_for() the future, but what happens nearly always it does by itself: nothing is
 * ready, an edge comes, and it is what the caller waits for. */
int weft__source_wait(struct weft__source *s, uint32_t generation, uint32_t interest)
{
    struct weft__task *self = weft__task_current();
    struct weft__io_wait w;
    weft__io_wait_init(&w, s, generation, interest);
    w.held = true;
    if (WEFT__UNLIKELY(!weft__waits_by_itself(self) || weft__source_is_ancestral(s)))
        return wait_as_future(&w);
    weft__lock_acquire(&s->lock);
    int rc = queue(&w, weft__task_waker(self));
    weft__lock_release(&s->lock);
    if (WEFT__UNLIKELY(rc != WEFT_PENDING))
        return wait_as_future(&w);
    drop_hold(&w); /* as in wait_poll() */
    int why = weft__wait_pending(self, w.future.ops);
    if (WEFT__UNLIKELY(why != 0))
        return wait_stopped(&w, self, why);
    /* acquire pairs with collect */
    if (WEFT__UNLIKELY(weft__a32_load_acquire(&w.state) != WEFT__IO_WAIT_WOKEN ||
                       is_closed(s, generation) || !is_ready(weft__source_ready_to(s, interest))))
        return wait_as_future(&w);
    return 0; /* with the hold that the wake has taken */
}
