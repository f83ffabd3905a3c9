/*
 * Sources: opening and closing, delivery of events, the wait. See source.h for who keeps what
 * alive.
 *
 * Wakers are collected under a source's lock, each with a reference, and woken after it is
 * released: a wake may run code that closes this very source. Lock order: a source's lock is never
 * held while the driver's is taken.
 */
#include "io/source.h"

#include "io/epoll.h"
#include "task/task.h"

#include <errno.h>

#define WATCHED (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET)

/* ---- waking ---- */

/* As many as a delivery wakes between two holds of the lock. Almost always there is one waiter, or
 * two. */
#define BATCH 16

struct wake_batch {
    weft_waker *waker[BATCH];
    int count;
};

/* Lock held. Takes w out of the queue and tells it how. After the store of the state w may be gone:
 * its task may be running for another reason. */
static void collect(struct wake_batch *b, struct weft__io_wait *w, uint32_t state, int result)
{
    weft_waker *waker = w->waker;
    weft__waker_hold(waker);
    b->waker[b->count++] = waker;
    weft__list_remove(&w->node);
    w->result = result;
    /* release pairs with the acquire in poll and cancel: the node is ours no more. */
    weft__a32_store_release(&w->state, state);
}

static void wake(struct wake_batch *b)
{
    for (int i = 0; i < b->count; i++)
        weft__waker_wake_release(b->waker[i]);
    b->count = 0;
}

/* Ends all waits with `result`. Each keeps its pin until its task has looked. */
static void end_waiters(struct weft__source *s, int result)
{
    struct wake_batch b = {.count = 0};
    bool more;
    do {
        weft__lock_acquire(&s->lock);
        struct weft__node *n;
        while (b.count < BATCH && (n = s->waiters.next) != &s->waiters)
            collect(&b, WEFT__CONTAINER_OF(n, struct weft__io_wait, node), WEFT__IO_WAIT_ENDED,
                    result);
        more = !weft__list_is_empty(&s->waiters);
        weft__lock_release(&s->lock);
        wake(&b);
    } while (more);
}

/* ---- readiness ---- */

static uint64_t ready_bits(const struct weft__source *s, uint32_t interest)
{
    uint64_t in = weft__source_ready(s, WEFT__IN);
    uint64_t out = weft__source_ready(s, WEFT__OUT);
    return (in & (weft__ready_mask(WEFT__IN, interest) | WEFT__READY_SHUTDOWN)) |
           (out & (weft__ready_mask(WEFT__OUT, interest) | WEFT__READY_SHUTDOWN));
}

/* An edge: the bits are set and the tick advances. */
static void set_ready(weft__a64 *word, uint64_t bits)
{
    uint64_t old = weft__a64_load_relaxed(word);
    /* relaxed: see weft__source_ready; waiters look again under the lock that the caller has */
    while (!weft__a64_cas_weak_relaxed(word, &old, (old | bits) + WEFT__READY_TICK))
        continue;
}

static bool try_hold(struct weft__source *s, uint32_t generation)
{
    uint64_t state = weft__a64_load_relaxed(&s->state);
    do {
        if (weft__source_generation(state) != generation || (uint32_t)state == 0)
            return false;
        /* acquire as in weft__source_hold */
    } while (!weft__a64_cas_weak_acquire(&s->state, &state, state + 1));
    return true;
}

static bool edge_meets(const struct weft__io_wait *w, uint64_t in, uint64_t out)
{
    return (in & weft__ready_mask(WEFT__IN, w->interest)) != 0 ||
           (out & weft__ready_mask(WEFT__OUT, w->interest)) != 0;
}

/* Takes the first waiter whom the edge concerns, unless *left have been taken, and adds it to b.
 * False when there is none, or the source is being closed, which ends all waits. The lock is
 * held. */
static bool collect_next(struct weft__source *s, uint32_t generation, uint64_t in, uint64_t out,
                         size_t *left, struct wake_batch *b)
{
    for (struct weft__node *n = s->waiters.next; n != &s->waiters && *left > 0; n = n->next) {
        struct weft__io_wait *w = WEFT__CONTAINER_OF(n, struct weft__io_wait, node);
        if (!edge_meets(w, in, out))
            continue;
        if (!try_hold(s, generation))
            return false;
        s->pins--;
        --*left;
        collect(b, w, WEFT__IO_WAIT_WOKEN, 0);
        return true;
    }
    return false;
}

void weft__source_deliver(struct weft__source *s, uint32_t generation, uint64_t in, uint64_t out)
{
    struct wake_batch b = {.count = 0};
    weft__lock_acquire(&s->lock);
    /* A descriptor that was closed may still have had an event in the batch, and one that lives on
     * in a forked child or in a duplicate goes on reporting. */
    if (weft__source_generation(weft__a64_load_acquire(&s->state)) != generation) {
        weft__lock_release(&s->lock);
        return;
    }
    if (in != 0)
        set_ready(&s->ready[WEFT__IN], in);
    if (out != 0)
        set_ready(&s->ready[WEFT__OUT], out);
    /* All who wait now, whatever those who were woken first make of the readiness. Who queues again
     * meanwhile comes in behind them; the count, each waiter has a pin, keeps this from going round
     * for ever. */
    size_t left = s->pins;
    while (collect_next(s, generation, in, out, &left, &b)) {
        if (b.count < BATCH)
            continue;
        weft__lock_release(&s->lock);
        wake(&b);
        weft__lock_acquire(&s->lock);
    }
    weft__lock_release(&s->lock);
    wake(&b);
}

void weft__source_shutdown(struct weft__source *s)
{
    weft__lock_acquire(&s->lock);
    set_ready(&s->ready[WEFT__IN], WEFT__READY_SHUTDOWN);
    set_ready(&s->ready[WEFT__OUT], WEFT__READY_SHUTDOWN);
    weft__lock_release(&s->lock);
    end_waiters(s, -ESHUTDOWN);
}

/* ---- opening and closing ---- */

int weft__source_open_on(struct weft__driver *d, int fd, enum weft__source_kind kind,
                         uint32_t flags, const weft_stream_ops *stream_ops,
                         struct weft__source **ret)
{
    if (fd < 0)
        return -EBADF;
    struct weft__source *s = weft__driver_slot_take(d);
    if (s == NULL)
        return -ENOMEM;
    weft__lock_acquire(&s->lock);
    s->fd = fd;
    s->kind = kind;
    weft__a32_store_relaxed(&s->flags, flags); /* published as the word below */
    s->stream.ops = stream_ops;
    s->is_finished = false;
    weft__a32_store_relaxed(&s->in_exhaustion, 0);
    bool is_shut = weft__a32_load_seq_cst(&d->is_shut) != 0;
    uint64_t word = is_shut                   ? WEFT__READY_SHUTDOWN
                    : kind == WEFT__SOURCE_FD ? 0
                                              : WEFT__READY_UNKNOWN;
    /* relaxed: published with the handle, and by the state below */
    weft__a64_store_relaxed(&s->ready[WEFT__IN], word);
    weft__a64_store_relaxed(&s->ready[WEFT__OUT], word);
    uint64_t generation = weft__source_generation(weft__a64_load_relaxed(&s->state));
    /* release pairs with the acquire of holds, and with the poller's. */
    weft__a64_store_release(&s->state, generation << 32 | 1);
    weft__lock_release(&s->lock);

    int rc = is_shut ? -ESHUTDOWN
                     : weft__sys_epoll_ctl(d->epfd, EPOLL_CTL_ADD, fd, WATCHED,
                                           generation << 32 | s->index);
    if (rc < 0) {
        weft__lock_acquire(&s->lock);
        s->fd = -1;
        s->is_finished = true;
        /* The next generation, as after any other use. */
        weft__a64_store_release(&s->state, (generation + 1) << 32);
        weft__lock_release(&s->lock);
        weft__driver_slot_put(s);
        return rc;
    }
    weft__a64_add_relaxed(&d->registered, 1);
    *ret = s;
    return 0;
}

int weft__source_open(const char *call, const void *caller, int fd, enum weft__source_kind kind,
                      uint32_t flags, const weft_stream_ops *stream_ops, struct weft__source **ret)
{
    struct weft__core *core = weft__core_current();
    if (core == NULL)
        return weft__misuse(call, -EPERM, "called outside a runtime", caller);
    if (core->driver == NULL)
        return weft__misuse(call, -EPERM, "I/O is switched off in this runtime (enable_io)",
                            caller);
    return weft__source_open_on(core->driver, fd, kind, flags, stream_ops, ret);
}

int weft__source_adopt(const char *call, const void *caller, int fd, enum weft__source_kind kind,
                       uint32_t flags, const weft_stream_ops *stream_ops, struct weft__source **ret)
{
    int was_nonblocking = weft__sys_is_nonblocking(fd);
    if (was_nonblocking < 0)
        return was_nonblocking;
    struct weft__source *s;
    int rc = weft__source_open(call, caller, fd, kind, flags, stream_ops, &s);
    if (rc < 0)
        return rc;
    rc = was_nonblocking ? 0 : weft__sys_set_nonblocking(fd);
    if (rc < 0) {
        int same;
        (void)weft__source_release_fd(weft__source_handle(s), &same); /* nobody knows it yet */
        return rc;
    }
    *ret = s;
    return 0;
}

bool weft__source_is_ancestral(const struct weft__source *s)
{
    return weft__sys_is_forked_child() || s->driver->fork_generation != weft__sys_fork_generation();
}

/* Takes fd out of epoll. False when it was not in there: somebody closed it, and the number may be
 * a stranger's. */
static bool deregister(struct weft__source *s, int fd)
{
    struct weft__driver *d = s->driver;
    int rc = weft__sys_epoll_ctl(d->epfd, EPOLL_CTL_DEL, fd, 0, 0);
    /* release: see weft__driver_source_count */
    weft__a64_add_release(&d->deregistered, 1);
    if (rc == 0)
        return true;
    weft__log(WEFT_LOG_ERROR, "descriptor %d was closed while weft owned it", fd);
    return false;
}

/*
 * In a forked child: closes its copy of an ancestor's descriptor. Of the source nothing else is
 * looked at. Its lock and the driver's may be held for ever, by threads that are not here; holds
 * and pins count their calls and tasks; the waiters are in their run queues; and the registration
 * is the parent's too, since both share one epoll instance. So the slot is never used again.
 */
static void close_copy(struct weft__source *s)
{
    int fd = s->fd;
    s->fd = -1;
    if (fd >= 0 && !weft__source_has_flag(s, WEFT__SOURCE_BORROWED))
        (void)weft__sys_close(fd); /* the connection is the parent's still */
}

void weft__source_finish(struct weft__source *s)
{
    if (WEFT__UNLIKELY(weft__source_is_ancestral(s))) {
        close_copy(s);
        return;
    }
    /* No lock: with the last hold gone nobody else looks at fd or flags. */
    int fd = s->fd;
    if (fd >= 0) {
        s->fd = -1;
        if (deregister(s, fd) && !weft__source_has_flag(s, WEFT__SOURCE_BORROWED))
            (void)weft__sys_close(fd); /* what was written is the kernel's to deliver */
    }
    weft__lock_acquire(&s->lock);
    s->is_finished = true;
    bool last = s->pins == 0;
    weft__lock_release(&s->lock);
    if (last)
        weft__driver_slot_put(s);
}

/* The handle is good for nothing from here on. -EBADF: it was so before. */
static int spend(struct weft__source *s, const void *handle)
{
    uintptr_t tag = (uintptr_t)handle & WEFT__SOURCE_TAG_MASK;
    uint64_t state = weft__a64_load_relaxed(&s->state);
    uint64_t next;
    do {
        uint64_t generation = weft__source_generation(state);
        if ((generation & WEFT__SOURCE_TAG_MASK) != tag || (uint32_t)state == 0)
            return -EBADF;
        next = (uint64_t)(uint32_t)(generation + 1) << 32 | (uint32_t)state;
        /* acq_rel: who queues after this, under the lock, sees the new generation. */
    } while (!weft__a64_cas_weak_acq_rel(&s->state, &state, next));
    return 0;
}

int weft__source_close(void *handle)
{
    struct weft__source *s = weft__source_of(handle);
    int rc = spend(s, handle);
    if (rc < 0)
        return rc;
    if (WEFT__UNLIKELY(weft__source_is_ancestral(s))) {
        close_copy(s);
        return 0;
    }
    end_waiters(s, -EBADF);
    weft__source_unhold(s); /* the owner's */
    return 0;
}

static int release_copy(struct weft__source *s, const void *handle, int *ret_fd)
{
    if (weft__source_has_flag(s, WEFT__SOURCE_SPLIT))
        return -EBUSY;
    int rc = spend(s, handle);
    if (rc < 0)
        return rc;
    *ret_fd = s->fd;
    s->fd = -1;
    return 0;
}

int weft__source_release_fd(void *handle, int *ret_fd)
{
    struct weft__source *s = weft__source_of(handle);
    if (WEFT__UNLIKELY(weft__source_is_ancestral(s)))
        return release_copy(s, handle, ret_fd);
    uintptr_t tag = (uintptr_t)handle & WEFT__SOURCE_TAG_MASK;
    weft__lock_acquire(&s->lock);
    uint64_t state = weft__a64_load_acquire(&s->state);
    uint64_t generation = weft__source_generation(state);
    int rc = 0;
    if ((generation & WEFT__SOURCE_TAG_MASK) != tag || (uint32_t)state == 0)
        rc = -EBADF;
    /* Who is about to queue, or to split, has a hold. acq_rel as in spend. */
    else if (s->pins > 0 || weft__source_has_flag(s, WEFT__SOURCE_SPLIT) || (uint32_t)state != 1 ||
             !weft__a64_cas_acq_rel(&s->state, &state,
                                    (uint64_t)(uint32_t)(generation + 1) << 32 | 1))
        rc = -EBUSY;
    weft__lock_release(&s->lock);
    if (rc < 0)
        return rc;
    int fd = s->fd;
    s->fd = -1;              /* nobody else holds it */
    (void)deregister(s, fd); /* closed behind our back: the caller's business from now on */
    weft__source_unhold(s);
    *ret_fd = fd;
    return 0;
}

/* ---- waiting ---- */

void weft__source_pin(struct weft__source *s)
{
    weft__lock_acquire(&s->lock);
    s->pins++;
    weft__lock_release(&s->lock);
}

int weft__source_rehold(struct weft__source *s, uint32_t generation)
{
    return try_hold(s, generation) ? 0 : -EBADF;
}

void weft__source_unpin(struct weft__source *s)
{
    weft__lock_acquire(&s->lock);
    bool last = --s->pins == 0 && s->is_finished;
    weft__lock_release(&s->lock);
    if (last)
        weft__driver_slot_put(s);
}

static void drop_hold(struct weft__io_wait *w)
{
    if (!w->held)
        return;
    w->held = false;
    weft__source_unhold(w->source);
}

/* The lock is held, and w not queued. PENDING, or bits, or -EBADF. */
static int queue(struct weft__io_wait *w, weft_waker *waker)
{
    struct weft__source *s = w->source;
    if (weft__source_generation(weft__a64_load_acquire(&s->state)) != w->generation)
        return -EBADF;
    uint64_t bits = ready_bits(s, w->interest);
    if (bits != 0)
        return (int)bits;
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
    uint64_t bits = ready_bits(s, w->interest);
    /* Not held: it is being closed, and that ends this wait in a moment. */
    if (bits == 0 || !try_hold(s, w->generation)) {
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
        weft__lock_acquire(&s->lock); /* our pin keeps s */
        state = weft__a32_load_acquire(&w->state);
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
    if (!w->held && !(w->held = try_hold(s, w->generation)))
        return -EBADF;
    rc = (int)ready_bits(s, w->interest);
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
    if (state == WEFT__IO_WAIT_QUEUED) {
        weft__lock_acquire(&s->lock);
        state = weft__a32_load_acquire(&w->state);
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

static void abandon_unwound(void *arg)
{
    weft__io_wait_abandon(arg);
}

int weft__source_wait(struct weft__source *s, uint32_t generation, uint32_t interest)
{
    struct weft__io_wait w;
    weft__io_wait_init(&w, s, generation, interest);
    w.held = true;
    int rc;
    {
        /* An abort that unwinds, before the first poll or after, does not come back here. */
        WEFT_DEFER(abandon_unwound, &w);
        rc = weft__wait_for(&w.future);
        if (rc > 0)
            w.held = false; /* the caller's again */
    }
    return rc > 0 ? 0 : rc;
}
