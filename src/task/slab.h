/*
 * Slab: where the tasks of one runtime live, and the registry of them.
 *
 * Task memory is type-stable: a slot is reused for tasks only, and given back to the kernel with
 * the runtime. So a reference may be tried for on any slot at any time (weft__task_try_ref), and
 * walking the slots is the registry: spawn and end pay nothing for it. Workers allocate from a
 * cache of their own; caches trade batches with the shared list, under the lock.
 */
#ifndef WEFT_TASK_SLAB_H
#define WEFT_TASK_SLAB_H

#include "sys/lock.h"
#include "task/task.h"

/* The model explorer needs few. */
#ifdef WEFT_MODEL
#define WEFT__SLAB_CHUNKS_MAX 2
#define WEFT__SLAB_BATCH 2
#else
#define WEFT__SLAB_CHUNKS_MAX 4096
#define WEFT__SLAB_BATCH 64
#endif
#define WEFT__SLAB_CACHED_MAX (4 * WEFT__SLAB_BATCH)

struct weft__slab {
    struct weft__lock lock;
    struct weft__qnode *free; /* under lock */
    /* under lock: slots of the last chunk never used: not linked, since linking would touch their
     * pages */
    struct weft__task *fresh, *fresh_end;
    size_t free_count; /* under lock; the fresh ones included */
    size_t slot_count; /* under lock */
    bool is_closing;   /* under lock: the last slot to come back frees everything */
    void (*free_core)(struct weft__core *core);
    struct weft__core *core;
    weft__a32 chunk_count; /* written under lock, read by walkers */
    struct {
        weft__aptr first; /* first slot */
        weft__a32 used;   /* slots that were ever taken; written under lock, read by walkers */
        size_t bytes;
    } chunk[WEFT__SLAB_CHUNKS_MAX];
};

/* Of one worker; touched by its thread alone. */
struct weft__slab_cache {
    struct weft__qnode *free;
    unsigned count;
};

/* -ENOMEM. */
int weft__slab_create(struct weft__core *core, void (*free_core)(struct weft__core *core),
                      struct weft__slab **ret);
/* Nobody allocates any more and all caches were flushed. Calls free_core, now or when the last slot
 * comes back. */
void weft__slab_close(struct weft__slab *s);

/* What the two below do with a cache that is empty, or full, or without one. */
struct weft__task *weft__slab_alloc_shared(struct weft__slab *s, struct weft__slab_cache *cache);
void weft__slab_free_shared(struct weft__slab *s, struct weft__task *t);
void weft__slab_spill(struct weft__slab *s, struct weft__slab_cache *cache);

/* From a cache that is not empty. */
static inline struct weft__task *weft__slab_take(struct weft__slab_cache *cache)
{
    struct weft__task *t = WEFT__CONTAINER_OF(cache->free, struct weft__task, qnode);
    cache->free = cache->free->next;
    cache->count--;
    return t;
}
/* A slot with state 0; NULL when out of memory. cache NULL: from the shared list. */
static inline struct weft__task *weft__slab_alloc(struct weft__slab *s,
                                                  struct weft__slab_cache *cache)
{
    if (WEFT__UNLIKELY(cache == NULL || cache->free == NULL))
        return weft__slab_alloc_shared(s, cache);
    return weft__slab_take(cache);
}
static inline void weft__slab_free(struct weft__slab *s, struct weft__slab_cache *cache,
                                   struct weft__task *t)
{
    if (WEFT__UNLIKELY(cache == NULL)) {
        weft__slab_free_shared(s, t);
        return;
    }
    t->qnode.next = cache->free;
    cache->free = &t->qnode;
    if (WEFT__UNLIKELY(++cache->count == WEFT__SLAB_CACHED_MAX))
        weft__slab_spill(s, cache);
}
void weft__slab_flush(struct weft__slab *s, struct weft__slab_cache *cache);

/* Calls fn for each live task, with a reference held around the call. Tasks spawned meanwhile may
 * be missed. Returns how many. */
size_t weft__slab_walk(struct weft__slab *s, void (*fn)(struct weft__task *t, void *arg),
                       void *arg);
/* Takes a reference if the slot holds a task (which may be done); NULL when it is free. */
struct weft__task *weft__task_try_ref(struct weft__task *t);

#endif
