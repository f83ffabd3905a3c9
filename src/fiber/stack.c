/*
 * Stacks: slabs, the pool, the caches.
 *
 * A slot is [guard | usable bytes of its class | top page]. With the default 64 KiB and guards of
 * as much, slots lie 33 pages apart: an odd number, so that neighbours do not meet in the same sets
 * of the TLB, as they would with a power of two. In the top page stands the header, lowered by a
 * colour that depends on the slot, so that the hot lines of many stacks do not meet in the same
 * sets of the cache.
 *
 * Nothing is touched before it is needed: a slab is reserved address space, its slots are opened in
 * order, each by installing its guard and writing its header.
 */
#include "fiber/stack.h"

#include "fiber/valgrind.h"
#include "sys/lock.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#ifdef WEFT__ASAN
#include <sanitizer/asan_interface.h>
#endif
#ifdef WEFT__TSAN
void __tsan_destroy_fiber(void *fiber);
void __tsan_acquire(void *addr);
#endif

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define CLASS_SHIFT 14 /* the smallest class: 16 KiB */
_Static_assert((size_t)1 << (CLASS_SHIFT + WEFT__STACK_CLASSES - 1) == WEFT__STACK_MAX, "classes");

/* Frames of code built without stack probes may be larger than a page and jump over the guard:
 * libc's own are below 16 KiB. A page would save 0.06 us and 120 bytes of page table. */
#define GUARD_BYTES ((size_t)64 << 10)

/* 32 colours of a line each use half a page at most, and leave the other half of it to the
 * frames. */
#define COLOURS 32
#define COLOUR_BYTES 64
#define HEADER_BYTES 128
_Static_assert(sizeof(struct weft__stack) <= HEADER_BYTES, "the header fits its place");
_Static_assert(offsetof(struct weft__stack, cxa) <= WEFT__CACHE_LINE,
               "the first line is the hot one");

/* The first slab of a class is small, so that a program with few tasks maps little; each further
 * one doubles the class. 256 slabs of 16,384 make 4 million default stacks. */
#define SLAB_SLOTS_FIRST 32
#define SLAB_SLOTS_MAX 16384
#define SLAB_BYTES_FIRST ((size_t)64 << 20)
#define SLAB_BYTES_MAX ((size_t)1 << (sizeof(size_t) == 8 ? 32 : 26))
#define SLAB_SLOTS_LOCKED 8 /* under mlockall: every slot mapped is memory taken */
#define SLABS_MAX 8192

/* A cache keeps at most this many stacks of a class, and at most this many bytes: stacks in a cache
 * keep all pages that they ever touched. */
#define CACHE_COUNT_MAX 64
#define CACHE_BYTES_MAX ((size_t)4 << 20)
#define OPEN_BATCH_MAX 16

/*
 * Did the fiber go deep? Asking the kernel is out of the question (mincore or a madvise in vain:
 * 600 ns a stack). So words of magic stand at the bottom of the lowest page that may stay, and are
 * looked at when the stack leaves a cache for the pool: a chain of frames that passed them has
 * overwritten some. Broken, they move one page down (up to KEPT_PAGES_MAX) and what lies below is
 * given back, so stacks of tasks that all use two pages cost one madvise each and then none. A
 * frame with a large unused array can step over them; those pages stay until the pool is trimmed.
 */
#define CANARY UINT64_C(0x57ac4c01d9a9e5e5)
#define CANARY_WORDS 8
#define KEPT_PAGES_MAX 4

/* An entry of the table. Entries are never freed, so the fault handler may read any at any time. */
struct slab {
    /* Written under pool.lock, read by all. base: address of the mapping, 0 for an unused entry;
     * geometry: class_index << 32 | slot_count. */
    weft__a64 base;
    weft__a64 geometry;

    /* Guarded by pool.lock. Each slab keeps its own list, so that finding the slabs that are free
     * looks at slabs, not at a million stacks. */
    uint32_t opened;           /* slots below have a guard and are, or will be, handed out */
    uint32_t pooled;           /* length of the list */
    struct weft__stack *head;  /* the last one put first */
    struct slab *next;         /* in the class's list while pooled > 0 */
    bool retiring;             /* belongs to one weft__stack_pool_trim, which unmaps it */
    struct slab *next_retired; /* that one's alone */
};

struct class_pool {
    struct slab *available; /* slabs with stacks in their lists; taken from the first */
    size_t slot_count;      /* in all slabs of the class */
    size_t opened;
    uint32_t growing; /* index of the slab with slots that are not open yet, plus 1; 0: none */
};

static struct slab slabs[SLABS_MAX];
static weft__a32 slabs_used; /* entries from here on were never used; written under pool.lock */

static struct {
    struct weft__lock lock;
    enum { GUARD_UNKNOWN, GUARD_BY_ADVICE, GUARD_BY_PROTECTION } guard_method; /* lock */
    struct class_pool of_class[WEFT__STACK_CLASSES];                           /* lock */
} pool;

/* ---- sizes ---- */

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) & ~(to - 1);
}

size_t weft__stack_min(void)
{
#if defined(WEFT__ASAN) || defined(WEFT__TSAN)
    return (size_t)256 << 10;
#else
    size_t page = weft__sys_page_size();
    size_t frame = getauxval(AT_MINSIGSTKSZ); /* 0 from kernels that do not say */
    return round_up((frame < 2048 ? 2048 : frame) + page, page);
#endif
}

static size_t at_least_min(size_t usable)
{
#if !defined(WEFT__ASAN) && !defined(WEFT__TSAN)
    if (usable >= WEFT__STACK_DEFAULT)
        return usable; /* no processor needs more: do not look it up each time */
#endif
    size_t min = weft__stack_min();
    return usable < min ? min : usable;
}

static uint32_t class_of_size(size_t usable)
{
    if (usable <= (size_t)1 << CLASS_SHIFT)
        return 0;
    return (uint32_t)(64 - __builtin_clzll((usable - 1) >> CLASS_SHIFT));
}

static size_t class_bytes(uint32_t class_index)
{
    return (size_t)1 << (CLASS_SHIFT + class_index);
}

static size_t guard_bytes(void)
{
    return round_up(GUARD_BYTES, weft__sys_page_size());
}

static size_t slot_bytes(uint32_t class_index)
{
    size_t page = weft__sys_page_size();
    return guard_bytes() + round_up(class_bytes(class_index), page) + page;
}

static uint32_t cache_cap(uint32_t class_index)
{
    size_t by_bytes = CACHE_BYTES_MAX >> (CLASS_SHIFT + class_index);
    return by_bytes < CACHE_COUNT_MAX ? (uint32_t)by_bytes : CACHE_COUNT_MAX;
}

/* ---- one slot ---- */

static struct weft__stack *header_of(char *slot_base, size_t bytes, uint32_t slot)
{
    return (struct weft__stack *)(slot_base + bytes - HEADER_BYTES -
                                  (size_t)(slot % COLOURS) * COLOUR_BYTES);
}

/* End of the slot, page-aligned: the header stands in the page below. */
static char *slot_end(const struct weft__stack *s)
{
    return (char *)round_up((size_t)s->hi, weft__sys_page_size());
}

static uint64_t *canary_of(const struct weft__stack *s)
{
    return (uint64_t *)(slot_end(s) - s->kept_pages * weft__sys_page_size());
}

static void canary_set(const struct weft__stack *s)
{
    uint64_t *words = canary_of(s);
    for (int i = 0; i < CANARY_WORDS; i++)
        words[i] = CANARY;
}

static bool canary_is_whole(const struct weft__stack *s)
{
    const uint64_t *words = canary_of(s);
    uint64_t differ = 0;
    for (int i = 0; i < CANARY_WORDS; i++)
        differ |= words[i] ^ CANARY;
    return differ == 0;
}

/* Keeps the `pages` top pages and gives the others back. */
static void give_pages_back(struct weft__stack *s, uint32_t pages)
{
    s->kept_pages = pages;
    char *end = slot_end(s) - pages * weft__sys_page_size();
    /* Refused for locked memory; it stays then. */
    if (end > s->lo)
        (void)weft__sys_advise(s->lo, (size_t)(end - s->lo), MADV_DONTNEED);
    canary_set(s);
}

/* Called on the way from a cache to the pool. */
static void give_deep_pages_back(struct weft__stack *s)
{
    if (WEFT__LIKELY(canary_is_whole(s)))
        return;
    size_t page = weft__sys_page_size();
    uint32_t pages = s->kept_pages;
    if (pages < KEPT_PAGES_MAX && slot_end(s) - (pages + 1) * page >= s->lo)
        pages++;
    give_pages_back(s, pages);
}

static struct weft__stack *write_header(uint32_t slab, uint32_t slot, uint32_t class_index,
                                        char *slot_base)
{
    size_t bytes = slot_bytes(class_index);
    struct weft__stack *s = header_of(slot_base, bytes, slot);
    /* The memory is fresh from the kernel: all zero. */
    s->class_index = class_index;
    s->slab = slab;
    s->slot = slot;
    s->kept_pages = 1;
    s->hi = (char *)s;
    s->lo = slot_base + guard_bytes();
    canary_set(s);
#ifdef WEFT__VALGRIND
    s->valgrind_id = VALGRIND_STACK_REGISTER(s->lo, slot_base + bytes - 1);
#endif
    return s;
}

#ifdef WEFT__TSAN
/* A fiber that ends leaves frames without returning; they stay on the call stack that TSan keeps
 * for it, which overflows after some thousand fibers. Nor should two tasks count as one thread
 * because they had the same stack. So each fiber gets its own where that is cheap: 9 us with clang,
 * 330 us with gcc. */
#ifdef __clang__
#define TSAN_USES_MAX 1
#else
#define TSAN_USES_MAX 100
#endif

static void drop_tsan_fiber(struct weft__stack *s)
{
    if (s->tsan_fiber != NULL)
        __tsan_destroy_fiber(s->tsan_fiber);
    s->tsan_fiber = NULL;
    s->tsan_uses = 0;
}
#endif

/* Before the memory of a slot goes. */
static void forget_slot(struct weft__stack *s)
{
    (void)s;
#ifdef WEFT__TSAN
    drop_tsan_fiber(s);
#endif
#ifdef WEFT__VALGRIND
    VALGRIND_STACK_DEREGISTER(s->valgrind_id);
#endif
}

/* ---- slabs; all under pool.lock ---- */

/* Every page of the process is made resident as soon as it is mapped. */
static bool memory_is_locked(void)
{
    void *page;
    if (weft__sys_map(weft__sys_page_size(), weft__sys_page_size(), &page) < 0)
        return true; /* short of something: be modest */
    bool locked = weft__sys_is_resident(page);
    weft__sys_unmap(page, weft__sys_page_size());
    return locked;
}

static size_t next_slab_slots(const struct class_pool *p, uint32_t class_index)
{
    size_t limit = p->slot_count == 0 ? SLAB_BYTES_FIRST : SLAB_BYTES_MAX;
    size_t slots = p->slot_count;
    if (slots < SLAB_SLOTS_FIRST)
        slots = SLAB_SLOTS_FIRST;
    if (slots > SLAB_SLOTS_MAX)
        slots = SLAB_SLOTS_MAX;
    if (slots > limit / slot_bytes(class_index))
        slots = limit / slot_bytes(class_index);
    if (slots > SLAB_SLOTS_LOCKED && memory_is_locked())
        slots = SLAB_SLOTS_LOCKED;
    return slots == 0 ? 1 : slots;
}

/* An unused entry of the table, -1 when it is full. */
static int find_entry(void)
{
    uint32_t used = weft__a32_load_relaxed(&slabs_used);
    for (uint32_t i = 0; i < used; i++)
        if (weft__a64_load_relaxed(&slabs[i].base) == 0 && !slabs[i].retiring)
            return (int)i;
    return used < SLABS_MAX ? (int)used : -1;
}

static int grow_class(struct class_pool *p, uint32_t class_index)
{
    int index = find_entry();
    if (index < 0)
        return -ENOMEM;
    size_t slots = next_slab_slots(p, class_index);
    void *base;
    /* Address space may be limited: then a smaller slab is better than none. */
    while (weft__sys_map(slots * slot_bytes(class_index), weft__sys_page_size(), &base) < 0) {
        if (slots == 1)
            return -ENOMEM;
        slots /= 2;
    }
    /* A huge page would make a stack cost 2 MiB. Guards keep the range out of them by themselves,
     * but only once installed, and not those made by protection. Kernels without huge pages
     * refuse. */
    (void)weft__sys_advise(base, slots * slot_bytes(class_index), MADV_NOHUGEPAGE);

    struct slab *slab = &slabs[index];
    slab->opened = slab->pooled = 0;
    slab->head = NULL;
    weft__a64_store_relaxed(&slab->geometry, (uint64_t)class_index << 32 | slots);
    /* release, last: a fault handler that sees the base sees the geometry of this slab. */
    weft__a64_store_release(&slab->base, (uintptr_t)base);
    if ((uint32_t)index == weft__a32_load_relaxed(&slabs_used))
        weft__a32_store_release(&slabs_used, (uint32_t)index + 1);
    p->slot_count += slots;
    p->growing = (uint32_t)index + 1;
    return 0;
}

static int install_guard(char *lo)
{
    if (pool.guard_method == GUARD_UNKNOWN)
        pool.guard_method = weft__sys_guard_works() ? GUARD_BY_ADVICE : GUARD_BY_PROTECTION;
    if (pool.guard_method == GUARD_BY_ADVICE && weft__sys_guard(lo, guard_bytes()) == 0)
        return 0;
    /* Each protected range is two mappings more: the kernel's limit allows 32,000 of them. */
    return weft__sys_protect_none(lo, guard_bytes());
}

struct opened_range {
    uint32_t slab, first, count;
    char *base;
};

/* Opens up to `want` slots of one slab: their guards stand, their headers are still to be written,
 * which touches a page each and is done without the lock. */
static int open_slots(uint32_t class_index, uint32_t want, struct opened_range *ret)
{
    struct class_pool *p = &pool.of_class[class_index];
    if (p->growing == 0) {
        int rc = grow_class(p, class_index);
        if (rc < 0)
            return rc;
    }
    uint32_t index = p->growing - 1;
    struct slab *slab = &slabs[index];
    uint32_t slots = (uint32_t)weft__a64_load_relaxed(&slab->geometry);
    char *base = (char *)weft__a64_load_relaxed(&slab->base);

    *ret = (struct opened_range){.slab = index, .first = slab->opened, .base = base};
    while (ret->count < want && slab->opened < slots) {
        if (install_guard(base + slab->opened * slot_bytes(class_index)) < 0)
            break;
        slab->opened++;
        ret->count++;
    }
    p->opened += ret->count;
    if (slab->opened == slots)
        p->growing = 0;
    return ret->count > 0 ? 0 : -ENOMEM;
}

static struct weft__stack *write_headers(uint32_t class_index, const struct opened_range *r)
{
    struct weft__stack *head = NULL;
    for (uint32_t i = r->count; i-- > 0;) {
        uint32_t slot = r->first + i;
        char *slot_base = r->base + slot * slot_bytes(class_index);
        struct weft__stack *s = write_header(r->slab, slot, class_index, slot_base);
        s->next = head;
        head = s;
    }
    return head;
}

/* ---- the pool ---- */

/* Under pool.lock. Takes up to `want` stacks that were put back, as a chain; NULL: there are
 * none. */
static struct weft__stack *pool_take_listed(struct class_pool *p, uint32_t want)
{
    struct weft__stack *first = NULL, **link = &first;
    for (uint32_t i = 0; i < want && p->available != NULL; i++) {
        struct slab *slab = p->available;
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
static void pool_give_listed(struct class_pool *p, struct slab *slab, struct weft__stack *head,
                             struct weft__stack *tail, uint32_t count)
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
    struct class_pool *p = &pool.of_class[class_index];
    struct opened_range range = {0};
    int rc = 0;

    weft__lock_acquire(&pool.lock);
    struct weft__stack *head = pool_take_listed(p, want);
    if (head == NULL) {
        /* A program with four tasks opens one slot at a time, one with thousands sixteen. */
        size_t batch = p->opened / 4 + 1;
        if (batch > OPEN_BATCH_MAX)
            batch = OPEN_BATCH_MAX;
        rc = open_slots(class_index, batch < want ? (uint32_t)batch : want, &range);
    }
    weft__lock_release(&pool.lock);
    if (rc < 0)
        return rc;
    if (head == NULL)
        head = write_headers(class_index, &range);
    *ret_head = head;
    return 0;
}

/* Puts back a chain of stacks of one class, of any slabs. */
static void pool_give(uint32_t class_index, struct weft__stack *head)
{
    struct class_pool *p = &pool.of_class[class_index];
    weft__lock_acquire(&pool.lock);
    while (head != NULL) {
        struct weft__stack *s = head;
        head = s->next;
        pool_give_listed(p, &slabs[s->slab], s, s, 1);
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
        give_deep_pages_back(s);
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
    uint32_t class_index = class_of_size(at_least_min(usable));
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
#ifdef WEFT__TSAN
    __tsan_acquire(s); /* from weft__fiber_switch_final */
    if (s->tsan_uses >= TSAN_USES_MAX)
        drop_tsan_fiber(s);
#endif
#ifdef WEFT__ASAN
    /* Frames that were left without returning have their red zones poisoned still. */
    __asan_unpoison_memory_region(s->lo, (size_t)(slot_end(s) - s->lo));
#endif
#ifdef WEFT__VALGRIND
    /* What is below the last stack pointer counts as gone; the next fiber starts at the top. */
    if (WEFT__UNLIKELY(weft__on_valgrind())) {
        (void)VALGRIND_MAKE_MEM_UNDEFINED(s->lo, (size_t)(s->hi - s->lo));
        (void)VALGRIND_MAKE_MEM_DEFINED(canary_of(s), CANARY_WORDS * sizeof(uint64_t));
    }
#endif
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
    give_deep_pages_back(s);
    pool_give(class_index, s);
}

/* ---- giving back ---- */

/* Under pool.lock. Takes slabs that are wholly pooled away. They are the caller's. */
static struct slab *retire_free_slabs(void)
{
    struct slab *retired = NULL;
    uint32_t used = weft__a32_load_relaxed(&slabs_used);
    for (uint32_t i = 0; i < used; i++) {
        struct slab *slab = &slabs[i];
        if (weft__a64_load_relaxed(&slab->base) == 0 || slab->retiring ||
            slab->pooled != slab->opened)
            continue;
        uint64_t geometry = weft__a64_load_relaxed(&slab->geometry);
        struct class_pool *p = &pool.of_class[geometry >> 32];
        slab->retiring = true;
        slab->next_retired = retired;
        retired = slab;
        p->slot_count -= (uint32_t)geometry;
        p->opened -= slab->opened;
        if (p->growing == i + 1)
            p->growing = 0;
    }
    for (uint32_t i = 0; i < WEFT__STACK_CLASSES; i++) {
        for (struct slab **link = &pool.of_class[i].available; *link != NULL;) {
            if ((*link)->retiring)
                *link = (*link)->next;
            else
                link = &(*link)->next;
        }
    }
    return retired;
}

/* Under pool.lock. Takes the whole list of a slab. */
static struct weft__stack *take_all_of_slab(struct slab *slab, uint32_t *ret_count)
{
    if (weft__a64_load_relaxed(&slab->base) == 0 || slab->retiring || slab->pooled == 0)
        return NULL;
    struct class_pool *p = &pool.of_class[weft__a64_load_relaxed(&slab->geometry) >> 32];
    struct slab **link = &p->available;
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
    uint32_t used = weft__a32_load_acquire(&slabs_used);
    for (uint32_t i = 0; i < used; i++) {
        struct weft__stack *tail = NULL;
        uint32_t count = 0;
        weft__lock_acquire(&pool.lock);
        struct weft__stack *head = take_all_of_slab(&slabs[i], &count);
        weft__lock_release(&pool.lock);
        if (head == NULL)
            continue;
        for (struct weft__stack *s = head; s != NULL; s = s->next) {
            give_pages_back(s, 1);
            tail = s;
        }
        weft__lock_acquire(&pool.lock);
        pool_give_listed(&pool.of_class[head->class_index], &slabs[i], head, tail, count);
        weft__lock_release(&pool.lock);
    }
}

static bool must_forget_slots(void)
{
#if defined(WEFT__TSAN)
    return true;
#else
    return weft__on_valgrind();
#endif
}

static void unmap_slab(struct slab *slab)
{
    char *base = (char *)weft__a64_load_relaxed(&slab->base);
    uint64_t geometry = weft__a64_load_relaxed(&slab->geometry);
    size_t bytes = slot_bytes((uint32_t)(geometry >> 32));
    if (must_forget_slots())
        for (uint32_t i = 0; i < slab->opened; i++)
            forget_slot(header_of(base + i * bytes, bytes, i));
    /* First out of the table, so that no fault handler follows it to memory that is gone. */
    weft__a64_store_seq_cst(&slab->base, 0);
    weft__sys_unmap(base, (uint32_t)geometry * bytes);
}

void weft__stack_pool_forget(void)
{
    weft__lock_init(&pool.lock);
    memset(pool.of_class, 0, sizeof(pool.of_class));
    /* The entries stay, in use for ever: so the fault handler knows the stack that we may stand
     * on. */
    uint32_t used = weft__a32_load_relaxed(&slabs_used);
    for (uint32_t i = 0; i < used; i++) {
        slabs[i].head = NULL;
        slabs[i].pooled = 0;
        slabs[i].retiring = weft__a64_load_relaxed(&slabs[i].base) != 0; /* for good */
    }
}

void weft__stack_pool_trim(void)
{
    weft__lock_acquire(&pool.lock);
    struct slab *retired = retire_free_slabs();
    weft__lock_release(&pool.lock);

    /* The system calls are made without the lock: other runtimes go on meanwhile. */
    while (retired != NULL) {
        struct slab *slab = retired;
        retired = slab->next_retired;
        unmap_slab(slab);
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
    uint32_t used = weft__a32_load_relaxed(&slabs_used);
    for (uint32_t i = 0; i < used; i++) {
        if (weft__a64_load_relaxed(&slabs[i].base) == 0 || slabs[i].retiring)
            continue;
        uint64_t geometry = weft__a64_load_relaxed(&slabs[i].geometry);
        ret->slabs++;
        ret->mapped_bytes += (uint32_t)geometry * slot_bytes((uint32_t)(geometry >> 32));
        ret->opened += slabs[i].opened;
        ret->pooled += slabs[i].pooled;
    }
    weft__lock_release(&pool.lock);
}

/* ---- for the fault handler ---- */

/* The slot that holds an address. */
struct place {
    char *base; /* of the slot; NULL: the address is foreign */
    uint32_t slab, slot, class_index;
};

static struct place find_place(uintptr_t address)
{
    uint32_t used = weft__a32_load_acquire(&slabs_used);
    for (uint32_t i = 0; i < used; i++) {
        /* acquire pairs with grow_class: the geometry is that of this base, or of a later slab,
         * which the second look at the base finds out. */
        uint64_t base = weft__a64_load_acquire(&slabs[i].base);
        if (base == 0 || address < base)
            continue;
        uint64_t geometry = weft__a64_load_acquire(&slabs[i].geometry);
        uint32_t class_index = (uint32_t)(geometry >> 32);
        uint64_t slot = (address - base) / slot_bytes(class_index);
        if (slot < (uint32_t)geometry && weft__a64_load_relaxed(&slabs[i].base) == base)
            return (struct place){.base = (char *)(uintptr_t)base + slot * slot_bytes(class_index),
                                  .slab = i,
                                  .slot = (uint32_t)slot,
                                  .class_index = class_index};
    }
    return (struct place){.base = NULL};
}

struct weft__stack *weft__stack_of_address(const void *addr, bool *ret_guard)
{
    struct place at = find_place((uintptr_t)addr);
    if (at.base == NULL)
        return NULL;
    struct weft__stack *s = header_of(at.base, slot_bytes(at.class_index), at.slot);
    if (s->lo == NULL)
        return NULL; /* never opened: a stray pointer */
    *ret_guard = (uintptr_t)addr < (uintptr_t)at.base + guard_bytes();
    return s;
}

size_t weft__stack_bytes(const struct weft__stack *s)
{
    struct place at = find_place((uintptr_t)s);
    return at.base == NULL ? 0 : (uintptr_t)s - ((uintptr_t)at.base + guard_bytes());
}

bool weft__stack_is_intact(const struct weft__stack *s)
{
    struct place at = find_place((uintptr_t)s);
    return at.base != NULL && s->lo == at.base + guard_bytes() && s->hi == (const char *)s &&
           s->slab == at.slab && s->slot == at.slot && s->class_index == at.class_index;
}
