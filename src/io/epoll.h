/*
 * The driver's inside, shared by the table of sources (source.c) and the poller (epoll.c).
 */
#ifndef WEFT_IO_EPOLL_H
#define WEFT_IO_EPOLL_H

#include "io/source.h"

#define WEFT__IO_EVENTS_MAX 256

/* Chunk k holds FIRST << k slots, so 26 of them make any index of 32 bits, and none ever moves. */
#define WEFT__IO_CHUNK_FIRST 64u
#define WEFT__IO_CHUNKS 26

struct weft__driver {
    int epfd;               /* closed with the last reference */
    uint32_t process;       /* that made it, as weft__sys_process() */
    int wake_fd;            /* eventfd; closed by destroy */
    weft__a32 wake_pending; /* 1: the eventfd is signalled, and no poll has seen it; by all */
    weft__a32 is_shut;      /* written by shutdown, read under the locks of sources */
    weft__a64 registered, deregistered; /* added to by all */
    weft__a64 events;                   /* written by the poller */

    struct weft__lock lock;
    struct weft__source *free;          /* under lock; last freed first */
    uint32_t slot_count;                /* slots made; under lock */
    uint32_t slots_used;                /* under lock */
    bool is_destroyed;                  /* by destroy: the last slot to go frees the driver; under
                                     * lock */
    weft__aptr chunks[WEFT__IO_CHUNKS]; /* written once each under lock, read by all */

    struct epoll_event batch[WEFT__IO_EVENTS_MAX]; /* by the one caller of poll; too big for a
                                                    * frame */
};

/* The slot with this index; it must have been made. */
struct weft__source *weft__driver_slot(const struct weft__driver *d, uint32_t index);
/* A free slot, with the generation that its next source will have. NULL: out of memory. */
struct weft__source *weft__driver_slot_take(struct weft__driver *d);
/* Gives it back; frees a destroyed driver when it was the last. */
void weft__driver_slot_put(struct weft__source *s);
/* Frees the driver when nothing refers to it any more. */
void weft__driver_free(struct weft__driver *d);

/* Sets bits, as an edge, and wakes whoever they concern. Events of earlier sources in the slot are
 * dropped. */
void weft__source_deliver(struct weft__source *s, uint32_t generation, uint64_t in, uint64_t out);
/* Ends every wait, now and later, with -ESHUTDOWN. The driver's is_shut is set already. */
void weft__source_shutdown(struct weft__source *s);

#endif
