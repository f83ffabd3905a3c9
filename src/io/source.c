/*
 * Sources: opening and closing, delivery of events. See source.h for who keeps what alive, and
 * wait.c for who waits.
 *
 * Tasks are claimed under a source's lock and queued after it is released: one on another core
 * would find it held. Lock order: a source's lock is never held while the driver's is taken.
 */
#include "io/source.h"

#include "io/epoll.h"
#include "task/waitq.h"

#include <errno.h>

#define WATCHED (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET)

/* ---- waking ---- */

/* As many as a delivery wakes between two holds of the lock. Almost always there is one waiter, or
 * two. */
#define BATCH 16

struct wake_batch {
    struct weft__wake_list tasks;
    int count;
};

/* Lock held. Takes w out of the queue and tells it how. The order is that of waitq.h: the task is
 * claimed first, as w, and the task, may be gone after the store of the state. Who finds no state
 * yet looks again under the lock before it waits on. */
static void collect(struct wake_batch *b, struct weft__io_wait *w, uint32_t state, int result)
{
    weft__list_remove(&w->node);
    b->count++;
    (void)weft__wake_list_claim(&b->tasks, w->waker); /* or it will look by itself */
    w->result = result;
    /* release pairs with the acquire in poll and cancel: the node is ours no more. */
    weft__a32_store_release(&w->state, state);
}

static void wake(struct wake_batch *b)
{
    weft__wake_list_flush(&b->tasks);
    b->count = 0;
}

/* Ends all waits with `result`. Each keeps its pin until its task has looked. */
static void end_waiters(struct weft__source *s, int result)
{
    struct wake_batch b = {WEFT__WAKE_LIST_INIT, 0};
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

/* An edge: the bits are set and the tick advances. */
static void set_ready(weft__a64 *word, uint64_t bits)
{
    uint64_t old = weft__a64_load_relaxed(word);
    /* relaxed: see weft__source_ready; waiters look again under the lock that the caller has */
    while (!weft__a64_cas_weak_relaxed(word, &old, (old | bits) + WEFT__READY_TICK))
        continue;
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
        if (weft__source_rehold(s, generation) < 0)
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
    struct wake_batch b = {WEFT__WAKE_LIST_INIT, 0};
    weft__lock_acquire(&s->lock);
    /* A descriptor that was closed may still have had an event in the batch, and one that lives on
     * in a forked child or in a duplicate goes on reporting. relaxed: slots are opened under the
     * lock. */
    if (weft__source_generation(weft__a64_load_relaxed(&s->state)) != generation) {
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

/* ---- the kinds, as streams ---- */

/* By kind; NULL until the first is opened, then as they are. relaxed: who has a stream was given it
 * after its open, and what it points to is constant. */
static weft__aptr ops_by_kind[WEFT__SOURCE_KINDS];

static void note_ops(enum weft__source_kind kind, const struct weft__source_ops *ops)
{
    if (weft__aptr_load_relaxed(&ops_by_kind[kind]) == NULL) /* so that opens share no line */
        weft__aptr_store_relaxed(&ops_by_kind[kind], (void *)(uintptr_t)ops);
}

const struct weft__source_ops *weft__source_ops_of(const weft_stream *s)
{
    for (int kind = 0; kind < WEFT__SOURCE_KINDS; kind++) {
        const struct weft__source_ops *ops = weft__aptr_load_relaxed(&ops_by_kind[kind]);
        if (ops != NULL && &ops->stream == s->ops)
            return ops;
    }
    return NULL;
}

/* Who has kept a stream past the close may be looking: he finds functions in every slot, those of a
 * closed stream where a listener is; and nothing is written where the next source is of the same
 * kind. */
static void set_stream_ops(struct weft__source *s, const struct weft__source_ops *ops)
{
    const weft_stream_ops *stream_ops = ops != NULL ? &ops->stream : weft__stream_closed()->ops;
    if (s->stream.ops != stream_ops)
        s->stream.ops = stream_ops;
}

/* ---- opening and closing ---- */

int weft__source_open_on(struct weft__driver *d, int fd, enum weft__source_kind kind,
                         uint32_t flags, const struct weft__source_ops *ops,
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
    set_stream_ops(s, ops);
    note_ops(kind, ops);
    s->is_finished = false;
    weft__a32_store_relaxed(&s->in_exhaustion, 0);
    weft__a32_store_relaxed(&s->kept_fd, 0);
    /* relaxed: see weft__driver_shutdown */
    bool is_shut = weft__a32_load_relaxed(&d->is_shut) != 0;
    uint64_t word = is_shut                   ? WEFT__READY_SHUTDOWN
                    : kind == WEFT__SOURCE_FD ? 0
                                              : WEFT__READY_UNKNOWN;
    /* relaxed: published with the handle, and by the state below */
    weft__a64_store_relaxed(&s->ready[WEFT__IN], word);
    weft__a64_store_relaxed(&s->ready[WEFT__OUT], word);
    uint64_t generation = weft__source_generation(weft__a64_load_relaxed(&s->state));
    /* release pairs with the acquire of holds, and with the poller's. */
    weft__a64_store_release(&s->state, generation << 32 | WEFT__SOURCE_OPEN | 1);
    weft__lock_release(&s->lock);

    int rc = is_shut ? -ESHUTDOWN
                     : weft__sys_epoll_ctl(d->epfd, EPOLL_CTL_ADD, fd, WATCHED,
                                           generation << 32 | s->index);
    if (rc < 0) {
        weft__lock_acquire(&s->lock);
        s->fd = -1;
        s->is_finished = true;
        /* The next generation, as after any other use. relaxed: nobody reads on who sees it. */
        weft__a64_store_relaxed(&s->state, (generation + 1) << 32);
        weft__lock_release(&s->lock);
        weft__driver_slot_put(s);
        return rc;
    }
    weft__a64_add_relaxed(&d->registered, 1);
    *ret = s;
    return 0;
}

int weft__source_driver(const char *call, const void *caller, struct weft__driver **ret)
{
    struct weft__core *core = weft__core_current();
    if (core == NULL)
        return weft__misuse(call, -EPERM, "called outside a runtime", caller);
    /* Its locks may be held for ever, and what is put into epoll here would be delivered there. */
    if (WEFT__UNLIKELY(weft__core_is_ancestral(core)))
        return weft__misuse(call, -EPERM, "this is a forked child; start a runtime of its own",
                            caller);
    if (core->driver == NULL)
        return weft__misuse(call, -EPERM, "I/O is switched off in this runtime (enable_io)",
                            caller);
    *ret = core->driver;
    return 0;
}

int weft__source_open(const char *call, const void *caller, int fd, enum weft__source_kind kind,
                      uint32_t flags, const struct weft__source_ops *ops, struct weft__source **ret)
{
    struct weft__driver *d;
    int rc = weft__source_driver(call, caller, &d);
    return rc < 0 ? rc : weft__source_open_on(d, fd, kind, flags, ops, ret);
}

int weft__source_adopt(const char *call, const void *caller, int fd, enum weft__source_kind kind,
                       uint32_t flags, const struct weft__source_ops *ops,
                       struct weft__source **ret)
{
    int was_nonblocking = weft__sys_is_nonblocking(fd);
    if (was_nonblocking < 0)
        return was_nonblocking;
    struct weft__source *s;
    int rc = weft__source_open(call, caller, fd, kind, flags, ops, &s);
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
    return s->driver->process != weft__sys_process();
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

/* A connection of a listener's that nobody was given. Nobody else uses the source any more. */
static void close_kept(struct weft__source *s)
{
    uint32_t kept = weft__a32_load_relaxed(&s->kept_fd);
    weft__a32_store_relaxed(&s->kept_fd, 0);
    if (kept != 0)
        (void)weft__sys_close((int)(kept - 1)); /* the peer sees an end */
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
    close_kept(s);
}

void weft__source_finish(struct weft__source *s)
{
    if (WEFT__UNLIKELY(weft__source_is_ancestral(s))) {
        close_copy(s);
        return;
    }
    /* No lock: with the last hold gone nobody else looks at fd or flags. */
    int fd = s->fd;
    s->fd = -1;
    /* A borrowed one was deregistered when it was closed. */
    if (fd >= 0 && !weft__source_has_flag(s, WEFT__SOURCE_BORROWED) && deregister(s, fd))
        (void)weft__sys_close(fd); /* what was written is the kernel's to deliver */
    close_kept(s);
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
        if ((generation & WEFT__SOURCE_TAG_MASK) != tag || (state & WEFT__SOURCE_OPEN) == 0)
            return -EBADF;
        next = (uint64_t)(uint32_t)(generation + 1) << 32 | (uint32_t)(state & ~WEFT__SOURCE_OPEN);
        /* relaxed: who sees it reads nothing else; who queues has been before end_waiters() under
         * the lock, or sees it; and the owner's hold orders the end. */
    } while (!weft__a64_cas_weak_relaxed(&s->state, &state, next));
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
    /* At once, whoever is inside a call: a borrowed descriptor is the user's again from here on,
     * who may close it and register what has its number next. */
    if (weft__source_has_flag(s, WEFT__SOURCE_BORROWED))
        (void)deregister(s, s->fd); /* closed behind our back: that has been logged */
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
    close_kept(s);
    return 0;
}

int weft__source_release_fd(void *handle, int *ret_fd)
{
    struct weft__source *s = weft__source_of(handle);
    if (WEFT__UNLIKELY(weft__source_is_ancestral(s)))
        return release_copy(s, handle, ret_fd);
    uintptr_t tag = (uintptr_t)handle & WEFT__SOURCE_TAG_MASK;
    weft__lock_acquire(&s->lock);
    uint64_t state = weft__a64_load_relaxed(&s->state);
    uint64_t generation = weft__source_generation(state);
    int rc = 0;
    if ((generation & WEFT__SOURCE_TAG_MASK) != tag || (state & WEFT__SOURCE_OPEN) == 0)
        rc = -EBADF;
    /* Who is about to queue, or to split, has a hold. acquire pairs with weft__source_unhold: the
     * last use of fd is over. */
    else if (s->pins > 0 || weft__source_has_flag(s, WEFT__SOURCE_SPLIT) ||
             (uint32_t)state != (WEFT__SOURCE_OPEN | 1) ||
             !weft__a64_cas_acquire(&s->state, &state,
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
