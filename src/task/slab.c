#include "task/slab.h"

#include "task/state.h"

#include <errno.h>

/* In the explorer a walk takes a step for each slot. */
#ifdef WEFT_MODEL
#define CHUNK_BYTES_MIN (8 * sizeof(struct weft__task))
#else
#define CHUNK_BYTES_MIN ((size_t)64 << 10)
#endif
#define CHUNK_BYTES_MAX ((size_t)4 << 20)

_Static_assert(sizeof(struct weft__task) % 64 == 0,
               "handles keep a generation in the low six bits");

static struct weft__task *task_of(struct weft__qnode *n)
{
    return WEFT__CONTAINER_OF(n, struct weft__task, qnode);
}

int weft__slab_create(struct weft__core *core, void (*free_core)(struct weft__core *core),
                      struct weft__slab **ret)
{
    struct weft__slab *s = weft__calloc(1, sizeof *s);
    if (s == NULL)
        return -ENOMEM;
    s->core = core;
    s->free_core = free_core;
    weft__lock_claim(&s->lock);
    *ret = s;
    return 0;
}

static void destroy(struct weft__slab *s)
{
    struct weft__core *core = s->core;
    void (*free_core)(struct weft__core *) = s->free_core;
    uint32_t count = weft__a32_load_relaxed(&s->chunk_count);
    for (uint32_t i = 0; i < count; i++)
        weft__sys_unmap(weft__aptr_load_relaxed(&s->chunk[i].first), s->chunk[i].bytes);
    weft__free(s);
    free_core(core);
}

void weft__slab_close(struct weft__slab *s)
{
    weft__lock_acquire(&s->lock);
    s->is_closing = true;
    bool is_empty = s->free_count == s->slot_count;
    weft__lock_release(&s->lock);
    if (is_empty)
        destroy(s);
}

/* Adds a chunk to the shared list. Each is twice the last, so that a small program maps little and
 * a million tasks take few mappings. */
static bool grow(struct weft__slab *s)
{
    uint32_t i = weft__a32_load_relaxed(&s->chunk_count);
    if (i == WEFT__SLAB_CHUNKS_MAX)
        return false;
    size_t bytes = i < 6 ? CHUNK_BYTES_MIN << i : CHUNK_BYTES_MAX;
    void *mem;
    if (weft__sys_map(bytes, weft__sys_page_size(), &mem) < 0)
        return false;
    size_t count = bytes / sizeof(struct weft__task);
    struct weft__task *first = mem;
    s->fresh = first;
    s->fresh_end = first + count;
    s->free_count += count;
    s->slot_count += count;
    s->chunk[i].bytes = bytes;
    /* release publishes the chunk's fields to walkers, who read the count with acquire */
    weft__aptr_store_relaxed(&s->chunk[i].first, first);
    weft__a32_store_release(&s->chunk_count, i + 1);
    return true;
}

/* Under the lock. */
static struct weft__task *take_shared(struct weft__slab *s)
{
    struct weft__task *t;
    if (s->free != NULL) {
        t = task_of(s->free);
        s->free = s->free->next;
    } else {
        if (s->fresh == s->fresh_end && !grow(s))
            return NULL;
        t = s->fresh++;
        /* relaxed: what a walk must find was taken in what happens before it */
        uint32_t last = weft__a32_load_relaxed(&s->chunk_count) - 1;
        weft__a32_store_relaxed(&s->chunk[last].used,
                                weft__a32_load_relaxed(&s->chunk[last].used) + 1);
    }
    s->free_count--;
    return t;
}

static void refill(struct weft__slab *s, struct weft__slab_cache *cache)
{
    weft__lock_acquire(&s->lock);
    for (unsigned i = 0; i < WEFT__SLAB_BATCH; i++) {
        struct weft__task *t = take_shared(s);
        if (t == NULL)
            break;
        t->qnode.next = cache->free;
        cache->free = &t->qnode;
        cache->count++;
    }
    weft__lock_release(&s->lock);
}

struct weft__task *weft__slab_alloc_shared(struct weft__slab *s, struct weft__slab_cache *cache)
{
    if (cache == NULL) {
        weft__lock_acquire(&s->lock);
        struct weft__task *t = take_shared(s);
        weft__lock_release(&s->lock);
        return t;
    }
    refill(s, cache);
    return cache->free != NULL ? weft__slab_take(cache) : NULL;
}

static void give_back(struct weft__slab *s, struct weft__qnode *head, struct weft__qnode *tail,
                      size_t count)
{
    if (WEFT__UNLIKELY(weft__core_is_ancestral(s->core)))
        return; /* a forked child leaves them where they lie: the lock may be held for ever */
    weft__lock_acquire(&s->lock);
    tail->next = s->free;
    s->free = head;
    s->free_count += count;
    bool is_last = s->is_closing && s->free_count == s->slot_count;
    weft__lock_release(&s->lock);
    if (is_last)
        destroy(s);
}

void weft__slab_free_shared(struct weft__slab *s, struct weft__task *t)
{
    give_back(s, &t->qnode, &t->qnode, 1);
}

void weft__slab_spill(struct weft__slab *s, struct weft__slab_cache *cache)
{
    /* Half go back, so that a worker which only ends tasks feeds one which only spawns. */
    struct weft__qnode *head = cache->free, *tail = head;
    for (unsigned i = 1; i < WEFT__SLAB_CACHED_MAX / 2; i++)
        tail = tail->next;
    cache->free = tail->next;
    cache->count -= WEFT__SLAB_CACHED_MAX / 2;
    give_back(s, head, tail, WEFT__SLAB_CACHED_MAX / 2);
}

void weft__slab_flush(struct weft__slab *s, struct weft__slab_cache *cache)
{
    struct weft__qnode *head = cache->free, *tail = head;
    if (head == NULL)
        return;
    while (tail->next)
        tail = tail->next;
    size_t count = cache->count;
    cache->free = NULL;
    cache->count = 0;
    give_back(s, head, tail, count);
}

struct weft__task *weft__task_try_ref(struct weft__task *t)
{
    uint64_t s = weft__a64_load_relaxed(&t->state);
    do {
        if ((s & WEFT__TASK_REFS_MASK) == 0)
            return NULL;
        /* acquire pairs with the release that published the task: its fields are readable */
    } while (!weft__a64_cas_weak_acquire(&t->state, &s, s + WEFT__TASK_REF));
    return t;
}

size_t weft__slab_walk(struct weft__slab *s, void (*fn)(struct weft__task *t, void *arg), void *arg)
{
    size_t found = 0;
    uint32_t chunks = weft__a32_load_acquire(&s->chunk_count);
    for (uint32_t i = 0; i < chunks; i++) {
        struct weft__task *first = weft__aptr_load_relaxed(&s->chunk[i].first);
        /* The others have no pages yet. */
        uint32_t used = weft__a32_load_relaxed(&s->chunk[i].used);
        for (uint32_t k = 0; k < used; k++) {
            struct weft__task *t = weft__task_try_ref(&first[k]);
            if (t == NULL)
                continue;
            fn(t, arg);
            found++;
            weft__task_unref(t);
        }
    }
    return found;
}

void weft__core_unref(struct weft__core *core)
{
    /* A forked child leaves an ancestor's where it lies: locks in there may be held for ever. */
    if (weft__a64_sub_acq_rel(&core->refs, 1) == 1 && !weft__core_is_ancestral(core))
        weft__slab_close(core->slab);
}
