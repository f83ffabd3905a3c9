/*
 * The epoll driver: one epoll instance for a runtime.
 *
 * Every descriptor is registered once, edge-triggered, for all it can report, and taken out before
 * it is closed: in steady state a wait costs its share of one epoll_wait() and no epoll_ctl(). A
 * poll in progress is interrupted through an eventfd, edge-triggered as well: each write is an
 * edge, so it need not be read.
 */
#include "io/epoll.h"

#include <errno.h>

/* What the eventfd reports; no source has this index and generation before 2^64 of them. */
#define WAKE_KEY UINT64_MAX

int weft__driver_create(struct weft__driver **ret)
{
    struct weft__driver *d = weft__calloc(1, sizeof(*d));
    if (d == NULL)
        return -ENOMEM;
    weft__lock_init(&d->lock);
    d->process = weft__sys_process();
    int rc = weft__sys_epoll_create();
    if (rc < 0)
        goto err_free;
    d->epfd = rc;
    rc = weft__sys_eventfd_create();
    if (rc < 0)
        goto err_epfd;
    d->wake_fd = rc;
    rc = weft__sys_epoll_ctl(d->epfd, EPOLL_CTL_ADD, d->wake_fd, EPOLLIN | EPOLLET, WAKE_KEY);
    if (rc < 0)
        goto err_wake_fd;
    *ret = d;
    return 0;

err_wake_fd:
    (void)weft__sys_close(d->wake_fd); /* nothing was written to it */
err_epfd:
    (void)weft__sys_close(d->epfd); /* nothing is in it */
err_free:
    weft__free(d);
    return rc;
}

void weft__driver_free(struct weft__driver *d)
{
    (void)weft__sys_close(d->epfd); /* holds no data */
    for (int i = 0; i < WEFT__IO_CHUNKS; i++)
        weft__free(weft__aptr_load_relaxed(&d->chunks[i])); /* we are the last reference */
    weft__free(d);
}

void weft__driver_destroy(struct weft__driver *d)
{
    if (d == NULL)
        return;
    weft__driver_shutdown(d);
    (void)weft__sys_close(d->wake_fd); /* holds no data */
    weft__lock_acquire(&d->lock);
    d->is_destroyed = true;
    bool last = d->slots_used == 0;
    weft__lock_release(&d->lock);
    if (last)
        weft__driver_free(d);
}

static void deliver(struct weft__driver *d, uint64_t key, uint32_t events)
{
    uint64_t in = 0;
    uint64_t out = 0;
    if (events & EPOLLIN)
        in |= WEFT__READY_READ;
    if (events & EPOLLOUT)
        out |= WEFT__READY_WRITE;
    if (events & EPOLLPRI)
        in |= WEFT__READY_PRIORITY;
    if (events & (EPOLLRDHUP | EPOLLHUP))
        in |= WEFT__READY_READ | WEFT__READY_READ_CLOSED;
    if (events & EPOLLHUP)
        out |= WEFT__READY_WRITE | WEFT__READY_WRITE_CLOSED;
    /* Both directions try, since either call may be the one that reports a pending error. */
    if (events & EPOLLERR) {
        in |= WEFT__READY_READ | WEFT__READY_ERROR;
        out |= WEFT__READY_WRITE;
    }
    weft__source_deliver(weft__driver_slot(d, (uint32_t)key), (uint32_t)(key >> 32), in, out);
}

/* Of an event that comes soon the source, of one that comes sooner who waits: in the frame of a
 * fiber, mostly. */
static inline void fetch_ahead(const struct weft__driver *d, int at, int n)
{
#if WEFT__FETCHES_AHEAD
    uint64_t soon = at + 4 < n ? d->batch[at + 4].data.u64 : WAKE_KEY;
    uint64_t sooner = at + 2 < n ? d->batch[at + 2].data.u64 : WAKE_KEY;
    if (soon != WAKE_KEY)
        weft__fetch((uintptr_t)weft__driver_slot(d, (uint32_t)soon), 2);
    if (sooner != WAKE_KEY) {
        const struct weft__source *s = weft__driver_slot(d, (uint32_t)sooner);
        weft__fetch((uintptr_t)weft__guess(&s->waiters.next), 2);
    }
#else
    (void)d, (void)at, (void)n;
#endif
}

/* Nothing is registered, and no wake is to be forgotten: the kernel has nothing to tell. relaxed: a
 * source, or a wake, that comes this moment is as good as one that comes after the look. */
static inline bool has_nothing(const struct weft__driver *d)
{
    return weft__driver_source_count(d) == 0 && weft__a32_load_relaxed(&d->wake_pending) == 0;
}

int weft__driver_poll(struct weft__driver *d, uint64_t timeout_ns, int max_events)
{
    /* Workers look every 61 runs: a fifth of what a yield took was this call. */
    if (timeout_ns == 0 && has_nothing(d))
        return 0;
    if (max_events > WEFT__IO_EVENTS_MAX)
        max_events = WEFT__IO_EVENTS_MAX;
    int n = weft__sys_epoll_wait(d->epfd, d->batch, max_events, timeout_ns);
    int delivered = 0;
    for (int i = 0; i < n; i++) {
        uint64_t key = d->batch[i].data.u64;
        fetch_ahead(d, i, n);
        if (key == WAKE_KEY) {
            /* acquire pairs with the swap in wake: who found 1 there, and so wrote nothing, did so
             * before this, and what he had done before is seen by the scheduler's next look. */
            (void)weft__a32_swap_acquire(&d->wake_pending, 0);
            continue;
        }
        deliver(d, key, d->batch[i].events);
        delivered++;
    }
    if (delivered > 0) /* relaxed: one writer at a time, which the scheduler orders; readers want a
                        * number */
        weft__a64_store_relaxed(&d->events,
                                weft__a64_load_relaxed(&d->events) + (uint64_t)delivered);
    return delivered;
}

void weft__driver_wake(struct weft__driver *d)
{
    if (weft__a32_swap_release(&d->wake_pending, 1) == 0) /* see weft__driver_poll */
        weft__sys_eventfd_signal(d->wake_fd);
}

void weft__driver_shutdown(struct weft__driver *d)
{
    /* relaxed: whoever opens a source looks under the source's lock, which the walk below takes
     * after this store. */
    if (weft__a32_swap_relaxed(&d->is_shut, 1) != 0)
        return;
    weft__lock_acquire(&d->lock);
    uint32_t count = d->slot_count;
    weft__lock_release(&d->lock);
    /* Slots made from now on find is_shut set. Slots do not go away: our caller's reference. */
    for (uint32_t i = 0; i < count; i++)
        weft__source_shutdown(weft__driver_slot(d, i));
}

uint64_t weft__driver_source_count(const struct weft__driver *d)
{
    /* In this order, so that a source that goes in between makes the count too high, not too
     * low. */
    uint64_t deregistered = weft__a64_load_acquire(&d->deregistered);
    return weft__a64_load_relaxed(&d->registered) - deregistered;
}

void weft__driver_stats(const struct weft__driver *d, struct weft__driver_stats *ret)
{
    ret->deregistered = weft__a64_load_acquire(&d->deregistered); /* never above registered */
    ret->registered = weft__a64_load_relaxed(&d->registered);
    ret->events = weft__a64_load_relaxed(&d->events);
}

/* ---- the table of slots ---- */

static uint32_t chunk_of(uint32_t index, uint32_t *ret_offset)
{
    uint32_t k = 31u - (uint32_t)__builtin_clz(index / WEFT__IO_CHUNK_FIRST + 1);
    *ret_offset = index - ((WEFT__IO_CHUNK_FIRST << k) - WEFT__IO_CHUNK_FIRST);
    return k;
}

struct weft__source *weft__driver_slot(const struct weft__driver *d, uint32_t index)
{
    uint32_t offset;
    uint32_t k = chunk_of(index, &offset);
    /* acquire pairs with the release in grow: the slots are initialised. mutation: whoever gets
     * here by an event or a lock has been ordered by that as well */
    struct weft__source *chunk = weft__aptr_load_acquire(&d->chunks[k]);
    return &chunk[offset];
}

/* Makes a chunk of free slots; the lock is held. */
static bool grow(struct weft__driver *d)
{
    uint32_t offset;
    uint32_t k = chunk_of(d->slot_count, &offset);
    if (k >= WEFT__IO_CHUNKS - 1)
        return false;
    uint32_t count = WEFT__IO_CHUNK_FIRST << k;
    struct weft__source *chunk =
        weft__aligned_alloc(WEFT__SOURCE_ALIGN, (size_t)count * sizeof(*chunk));
    if (chunk == NULL)
        return false;
    for (uint32_t i = count; i-- > 0;) { /* so that the lowest comes out first */
        chunk[i] = (struct weft__source){
            .driver = d,
            .index = d->slot_count + i,
            .fd = -1,
            .is_finished = true,
            .next_free = d->free,
        };
        weft__list_init(&chunk[i].waiters);
        weft__lock_claim(&chunk[i].lock);
        d->free = &chunk[i];
    }
    /* release publishes the slots to the poller and to shutdown. mutation: see weft__driver_slot */
    weft__aptr_store_release(&d->chunks[k], chunk);
    d->slot_count += count;
    return true;
}

struct weft__source *weft__driver_slot_take(struct weft__driver *d)
{
    weft__lock_acquire(&d->lock);
    struct weft__source *s = d->free != NULL || grow(d) ? d->free : NULL;
    if (s != NULL) {
        d->free = s->next_free;
        d->slots_used++;
    }
    weft__lock_release(&d->lock);
    return s;
}

void weft__driver_slot_put(struct weft__source *s)
{
    struct weft__driver *d = s->driver;
    weft__lock_acquire(&d->lock);
    s->next_free = d->free;
    d->free = s;
    d->slots_used--;
    bool last = d->slots_used == 0 && d->is_destroyed;
    weft__lock_release(&d->lock);
    if (last)
        weft__driver_free(d);
}
