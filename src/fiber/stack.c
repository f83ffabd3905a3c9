/*
 * The pool of stacks, and the caches in front of it.
 *
 * Nothing is touched before it is needed: a slab is reserved address space, its slots are opened in
 * order, each by installing its guard and writing its header (slabs.c, slot.c).
 */
#include "fiber/stack.h"

#include "fiber/slabs.h"
#include "fiber/slot.h"
#include "sys/lock.h"

#include <errno.h>
#include <string.h>

/* A cache keeps at most this many stacks of a class, and at most this many bytes: stacks in a cache
 * keep all pages that they ever touched. */
#define CACHE_COUNT_MAX 64
#define CACHE_BYTES_MAX ((size_t)4 << 20)
#define OPEN_BATCH_MAX 16

static struct {
    struct weft__lock lock;
    struct weft__stack_class of_class[WEFT__STACK_CLASSES]; /* lock */
} pool;

/* ---- sizes ---- */

static size_t at_least_min(size_t usable)
{
#if !defined(WEFT__ASAN) && !defined(WEFT__TSAN)
    if (usable >= WEFT__STACK_DEFAULT)
        return usable; /* no processor needs more: do not look it up each time */
#endif
    size_t min = weft__stack_min();
    return usable < min ? min : usable;
}

static uint32_t cache_cap(uint32_t class_index)
{
    size_t by_bytes = CACHE_BYTES_MAX >> (WEFT__SLOT_CLASS_SHIFT + class_index);
    return by_bytes < CACHE_COUNT_MAX ? (uint32_t)by_bytes : CACHE_COUNT_MAX;
}

/* ---- the pool ---- */

/* Under pool.lock. Takes up to `want` stacks that were put back, as a chain; NULL: there are
 * none. */
static struct weft__stack *pool_take_listed(struct weft__stack_class *p, uint32_t want)
{
    struct weft__stack *first = NULL, **link = &first;
    for (uint32_t i = 0; i < want && p->available != NULL; i++) {
        struct weft__stack_slab *slab = p->available;
        *link = slab->head;
        link = &slab->head->next;
        slab->head = *link;
        if (--slab->pooled == 0)
            p->available = slab->next;
    }
    *link = NULL;
    return first;
}

/* Under pool.lock. Puts `count` stacks of the slab, chained from head to tail, in front. */
static void pool_give_listed(struct weft__stack_class *p, struct weft__stack_slab *slab,
                             struct weft__stack *head, struct weft__stack *tail, uint32_t count)
{
    tail->next = slab->head;
    slab->head = head;
    if (slab->pooled == 0) {
        slab->next = p->available;
        p->available = slab;
    }
    slab->pooled += count;
}

/* Takes up to `want` stacks, as a chain. */
static int pool_take(uint32_t class_index, uint32_t want, struct weft__stack **ret_head)
{
    struct weft__stack_class *p = &pool.of_class[class_index];
    struct weft__slots_opened range = {0};
    int rc = 0;

    weft__lock_acquire(&pool.lock);
    struct weft__stack *head = pool_take_listed(p, want);
    if (head == NULL) {
        /* A program with four tasks opens one slot at a time, one with thousands sixteen. */
        size_t batch = p->opened / 4 + 1;
        if (batch > OPEN_BATCH_MAX)
            batch = OPEN_BATCH_MAX;
        rc = weft__slab_open_slots(p, class_index, batch < want ? (uint32_t)batch : want, &range);
    }
    weft__lock_release(&pool.lock);
    if (rc < 0)
        return rc;
    if (head == NULL)
        head = weft__slab_write_headers(class_index, &range);
    *ret_head = head;
    return 0;
}

/* Puts back a chain of stacks of one class, of any slabs. */
static void pool_give(uint32_t class_index, struct weft__stack *head)
{
    struct weft__stack_class *p = &pool.of_class[class_index];
    weft__lock_acquire(&pool.lock);
    while (head != NULL) {
        struct weft__stack *s = head;
        head = s->next;
        pool_give_listed(p, &weft__stack_slabs[s->slab], s, s, 1);
    }
    weft__lock_release(&pool.lock);
}

/* Fills an empty cache with up to `want` stacks, at least one. */
static int refill(struct weft__stack_cache *c, uint32_t class_index, uint32_t want)
{
    struct weft__stack *head;
    int rc = pool_take(class_index, want, &head);
    if (rc < 0)
        return rc;
    c->of_class[class_index].head = head;
    for (uint32_t n = 0; head != NULL; head = head->next)
        c->of_class[class_index].count = ++n;
    return 0;
}

/* Moves the `count` coldest stacks of a class from the cache to the pool. */
static void spill(struct weft__stack_cache *c, uint32_t class_index, uint32_t count)
{
    uint32_t stay = c->of_class[class_index].count - count;
    struct weft__stack **link = &c->of_class[class_index].head;
    for (uint32_t i = 0; i < stay; i++)
        link = &(*link)->next;
    struct weft__stack *head = *link;
    *link = NULL;
    c->of_class[class_index].count = stay;
    for (struct weft__stack *s = head; s != NULL; s = s->next)
        weft__slot_give_deep_pages_back(s);
    pool_give(class_index, head);
}

/* ---- what others call ---- */

void weft__stack_cache_init(struct weft__stack_cache *c)
{
    memset(c, 0, sizeof(*c));
}

void weft__stack_cache_fini(struct weft__stack_cache *c)
{
    for (uint32_t i = 0; i < WEFT__STACK_CLASSES; i++)
        if (c->of_class[i].count > 0)
            spill(c, i, c->of_class[i].count);
}

int weft__stack_get(struct weft__stack_cache *c, size_t usable, struct weft__stack **ret)
{
    if (WEFT__UNLIKELY(usable > WEFT__STACK_MAX))
        return -EINVAL;
    uint32_t class_index = weft__slot_class(at_least_min(usable));
    uint32_t cap = c == NULL ? 0 : cache_cap(class_index);
    if (WEFT__LIKELY(cap != 0)) {
        if (WEFT__UNLIKELY(c->of_class[class_index].head == NULL)) {
            int rc = refill(c, class_index, cap / 2 + 1);
            if (rc < 0)
                return rc;
        }
        struct weft__stack *s = c->of_class[class_index].head;
        c->of_class[class_index].head = s->next;
        c->of_class[class_index].count--;
        *ret = s;
        return 0;
    }
    return pool_take(class_index, 1, ret);
}

void weft__stack_put(struct weft__stack_cache *c, struct weft__stack *s)
{
    s->owner = NULL;
    weft__slot_left(s);
    uint32_t class_index = s->class_index;
    uint32_t cap = c == NULL ? 0 : cache_cap(class_index);
    if (WEFT__LIKELY(cap != 0)) {
        s->next = c->of_class[class_index].head;
        c->of_class[class_index].head = s;
        /* Half, not one: else a worker that ends more tasks than it starts would take the lock for
         * each from here on. */
        if (WEFT__UNLIKELY(++c->of_class[class_index].count > cap))
            spill(c, class_index, cap / 2 + 1);
        return;
    }
    s->next = NULL;
    weft__slot_give_deep_pages_back(s);
    pool_give(class_index, s);
}

/* ---- giving back ---- */

/* Under pool.lock. Takes slabs that are wholly pooled away. They are the caller's. */
static struct weft__stack_slab *retire_free_slabs(void)
{
    struct weft__stack_slab *retired = NULL;
    uint32_t used = weft__a32_load_relaxed(&weft__stack_slabs_used);
    for (uint32_t i = 0; i < used; i++) {
        struct weft__stack_slab *slab = &weft__stack_slabs[i];
        if (weft__a64_load_relaxed(&slab->base) == 0 || slab->retiring ||
            slab->pooled != slab->opened)
            continue;
        uint64_t geometry = weft__a64_load_relaxed(&slab->geometry);
        struct weft__stack_class *p = &pool.of_class[geometry >> 32];
        slab->retiring = true;
        slab->next_retired = retired;
        retired = slab;
        p->slot_count -= (uint32_t)geometry;
        p->opened -= slab->opened;
        if (p->growing == i + 1)
            p->growing = 0;
    }
    for (uint32_t i = 0; i < WEFT__STACK_CLASSES; i++) {
        for (struct weft__stack_slab **link = &pool.of_class[i].available; *link != NULL;) {
            if ((*link)->retiring)
                *link = (*link)->next;
            else
                link = &(*link)->next;
        }
    }
    return retired;
}

/* Under pool.lock. Takes the whole list of a slab. */
static struct weft__stack *take_all_of_slab(struct weft__stack_slab *slab, uint32_t *ret_count)
{
    if (weft__a64_load_relaxed(&slab->base) == 0 || slab->retiring || slab->pooled == 0)
        return NULL;
    struct weft__stack_class *p = &pool.of_class[weft__a64_load_relaxed(&slab->geometry) >> 32];
    struct weft__stack_slab **link = &p->available;
    while (*link != slab)
        link = &(*link)->next;
    *link = slab->next;
    struct weft__stack *head = slab->head;
    *ret_count = slab->pooled;
    slab->head = NULL;
    slab->pooled = 0;
    return head;
}

/* Gives the pages of all pooled stacks back that have their header not in them. */
static void empty_pooled_stacks(void)
{
    uint32_t used = weft__a32_load_acquire(&weft__stack_slabs_used);
    for (uint32_t i = 0; i < used; i++) {
        struct weft__stack *tail = NULL;
        uint32_t count = 0;
        weft__lock_acquire(&pool.lock);
        struct weft__stack *head = take_all_of_slab(&weft__stack_slabs[i], &count);
        weft__lock_release(&pool.lock);
        if (head == NULL)
            continue;
        for (struct weft__stack *s = head; s != NULL; s = s->next) {
            weft__slot_give_pages_back(s, 1);
            tail = s;
        }
        weft__lock_acquire(&pool.lock);
        pool_give_listed(&pool.of_class[head->class_index], &weft__stack_slabs[i], head, tail,
                         count);
        weft__lock_release(&pool.lock);
    }
}

void weft__stack_pool_forget(void)
{
    weft__lock_init(&pool.lock);
    memset(pool.of_class, 0, sizeof(pool.of_class));
    /* The entries stay, in use for ever: so the fault handler knows the stack that we may stand
     * on. */
    uint32_t used = weft__a32_load_relaxed(&weft__stack_slabs_used);
    for (uint32_t i = 0; i < used; i++) {
        weft__stack_slabs[i].head = NULL;
        weft__stack_slabs[i].pooled = 0;
        weft__stack_slabs[i].retiring =
            weft__a64_load_relaxed(&weft__stack_slabs[i].base) != 0; /* for good */
    }
}

void weft__stack_pool_trim(void)
{
    weft__lock_acquire(&pool.lock);
    struct weft__stack_slab *retired = retire_free_slabs();
    weft__lock_release(&pool.lock);

    /* The system calls are made without the lock: other runtimes go on meanwhile. */
    while (retired != NULL) {
        struct weft__stack_slab *slab = retired;
        retired = slab->next_retired;
        weft__slab_unmap(slab);
        weft__lock_acquire(&pool.lock);
        slab->retiring = false; /* the entry may be used again */
        weft__lock_release(&pool.lock);
    }

    empty_pooled_stacks();
}

void weft__stack_stats(struct weft__stack_stats *ret)
{
    memset(ret, 0, sizeof(*ret));
    weft__lock_acquire(&pool.lock);
    uint32_t used = weft__a32_load_relaxed(&weft__stack_slabs_used);
    for (uint32_t i = 0; i < used; i++) {
        if (weft__a64_load_relaxed(&weft__stack_slabs[i].base) == 0 ||
            weft__stack_slabs[i].retiring)
            continue;
        uint64_t geometry = weft__a64_load_relaxed(&weft__stack_slabs[i].geometry);
        ret->slabs++;
        ret->mapped_bytes += (uint32_t)geometry * weft__slot_bytes((uint32_t)(geometry >> 32));
        ret->opened += weft__stack_slabs[i].opened;
        ret->pooled += weft__stack_slabs[i].pooled;
    }
    weft__lock_release(&pool.lock);
}
