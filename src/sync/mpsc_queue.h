/*
 * The elements of an mpsc channel: a queue that writers fill under a lock and one reader empties
 * without it.
 *
 * Positions count up for ever. tail is the next to be written, by whoever holds the lock; head the
 * next to be read, by the reader alone. The reader takes [head, tail) as a batch: one acquire load
 * of tail makes all of it readable, so its usual step touches nothing that writers write.
 *
 * A bounded queue is a ring of a power of two of slots. An unbounded one is a chain of blocks of
 * 32; a block that was read to its end goes to the writers' free list, under the lock. In both,
 * position p lies at base + (p & mask) * elem_bytes, where base is that of the ring, or of the
 * block that the side is in.
 */
#ifndef WEFT_SYNC_MPSC_QUEUE_H
#define WEFT_SYNC_MPSC_QUEUE_H

#include "base/base.h"
#include "base/model.h"
#include "sys/lock.h"

#include <stdalign.h>
#include <string.h>

#ifdef WEFT_MODEL
#define WEFT__MPSC_BLOCK 2
#else
#define WEFT__MPSC_BLOCK 32
#endif
/* Blocks kept for writers: 1,024 elements. A queue that once was longer gives the rest back. */
#define WEFT__MPSC_FREE_MAX 32

struct weft__mpsc_block {
    struct weft__mpsc_block *next; /* in the chain: by the writer, before tail passes the block */
    alignas(max_align_t) char slots[];
};

struct weft__mpsc_queue {
    /* Fixed. */
    size_t elem_bytes;
    uint64_t mask;
    char *ring;       /* NULL: blocks */
    uint32_t process; /* that made it, as weft__sys_process() */

    /* The writers' side. */
    struct weft__lock lock WEFT__ALIGNED(WEFT__CACHE_LINE); /* the channel keeps more under it */
    unsigned free_count;                                    /* under lock */
    weft__a64 tail;                       /* written under lock, read by the reader */
    uint64_t head_seen;                   /* under lock: head, as last looked at */
    char *write_base;                     /* under lock */
    struct weft__mpsc_block *write_block; /* under lock; the chain's last */
    struct weft__mpsc_block *free;        /* under lock */

    /* The reader's side. */
    weft__a64 head WEFT__ALIGNED(WEFT__CACHE_LINE); /* bounded: by the reader; read by writers */
    uint64_t next;                                  /* the reader's own head */
    uint64_t batch_end;                             /* the tail as the reader last saw it */
    char *read_base;
    struct weft__mpsc_block *read_block; /* the chain's first */
};

/* capacity 0: unbounded. -ENOMEM, and nothing is left. */
int weft__mpsc_queue_init(struct weft__mpsc_queue *q, size_t elem_bytes, size_t capacity);
/* The elements are gone. */
void weft__mpsc_queue_fini(struct weft__mpsc_queue *q);

static inline void weft__mpsc_copy(const struct weft__mpsc_queue *q, void *to, const void *from,
                                   size_t count)
{
    /* Pointers and counters are most of what is sent: spare them the call. */
    if (WEFT__LIKELY(count == 1 && q->elem_bytes == sizeof(uint64_t)))
        memcpy(to, from, sizeof(uint64_t));
    else if (q->elem_bytes)
        memcpy(to, from, count * q->elem_bytes);
}

/* ---- writers, under the lock ---- */

/* Unbounded: the next push needs a block, and none is free. */
static inline bool weft__mpsc_queue_wants_block(const struct weft__mpsc_queue *q)
{
    uint64_t tail = weft__a64_load_relaxed(&q->tail); /* written under the lock */
    return q->ring == NULL && (tail & q->mask) == 0 && tail != 0 && q->free == NULL;
}
/* Without the lock: NULL when out of memory. */
struct weft__mpsc_block *weft__mpsc_block_create(const struct weft__mpsc_queue *q);
/* Goes on in a free block. */
void weft__mpsc_queue_next_block(struct weft__mpsc_queue *q);

/* There is room; an unbounded queue does not want a block. */
static inline void weft__mpsc_queue_push(struct weft__mpsc_queue *q, const void *elem)
{
    uint64_t tail = weft__a64_load_relaxed(&q->tail); /* written under the lock */
    if (q->ring == NULL && (tail & q->mask) == 0 && tail != 0)
        weft__mpsc_queue_next_block(q);
    char *slot = q->write_base + (tail & q->mask) * q->elem_bytes;
    WEFT__MODEL_WRITE_BYTES(slot, q->elem_bytes);
    weft__mpsc_copy(q, slot, elem, 1);
    /* release publishes the element, and a block that was chained, to the reader's acquire. */
    weft__a64_store_release(&q->tail, tail + 1);
}

/* The same for a word to a ring, which is most of what is sent. */
static inline void weft__mpsc_queue_push_word(struct weft__mpsc_queue *q, const void *word)
{
    uint64_t tail = weft__a64_load_relaxed(&q->tail); /* written under the lock */
    char *slot = q->write_base + (tail & q->mask) * sizeof(uint64_t);
    WEFT__MODEL_WRITE_BYTES(slot, sizeof(uint64_t));
    memcpy(slot, word, sizeof(uint64_t));
    weft__a64_store_release(&q->tail, tail + 1); /* as in push */
}

/* ---- the reader ---- */

/* True when there is something to read. */
static inline bool weft__mpsc_queue_look(struct weft__mpsc_queue *q)
{
    if (q->next != q->batch_end)
        return true;
    /* acquire pairs with the release in push: all elements below are readable. */
    q->batch_end = weft__a64_load_acquire(&q->tail);
    return q->next != q->batch_end;
}

/* Unbounded: the block is read to its end, and another one begun. */
void weft__mpsc_queue_leave_block(struct weft__mpsc_queue *q);

/* The oldest of the elements that look() has seen; where it lies. It lies there until the reader
 * says that it is done(). */
static inline char *weft__mpsc_queue_slot(const struct weft__mpsc_queue *q)
{
    char *slot = q->read_base + (q->next & q->mask) * q->elem_bytes;
    WEFT__MODEL_READ_BYTES(slot, q->elem_bytes);
    return slot;
}
static inline char *weft__mpsc_queue_first(struct weft__mpsc_queue *q)
{
    if (q->ring == NULL && (q->next & q->mask) == 0 && q->next != 0)
        weft__mpsc_queue_leave_block(q);
    return weft__mpsc_queue_slot(q);
}

/* Up to limit of them, likewise; fewer at the end of the ring or of a block. */
static inline char *weft__mpsc_queue_peek(struct weft__mpsc_queue *q, size_t limit,
                                          size_t *ret_count)
{
    uint64_t next = q->next, count = q->batch_end - next, to_edge = q->mask + 1 - (next & q->mask);
    if (count > to_edge)
        count = to_edge;
    *ret_count = count < limit ? (size_t)count : limit;
    char *slot = weft__mpsc_queue_first(q);
    WEFT__MODEL_READ_BYTES(slot, *ret_count * q->elem_bytes);
    return slot;
}

/* A bounded queue may overwrite the elements below `next`. seq_cst: see the top of mpsc.h. */
static inline void weft__mpsc_queue_done(struct weft__mpsc_queue *q, size_t count)
{
    q->next += count;
    if (q->ring)
        weft__a64_store_seq_cst(&q->head, q->next);
}

#endif
