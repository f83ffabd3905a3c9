#include "fiber/slabs.h"

#include "fiber/slot.h"
#include "fiber/valgrind.h"

#include <errno.h>
#include <sys/mman.h>

/* The first slab of a class is small, so that a program with few tasks maps little; each further
 * one doubles the class. 256 slabs of 16,384 make 4 million default stacks. */
#define SLAB_SLOTS_FIRST 32
#define SLAB_SLOTS_MAX 16384
#define SLAB_BYTES_FIRST ((size_t)64 << 20)
#define SLAB_BYTES_MAX ((size_t)1 << (sizeof(size_t) == 8 ? 32 : 26))
#define SLAB_SLOTS_LOCKED 8 /* under mlockall: every slot mapped is memory taken */

struct weft__stack_slab weft__stack_slabs[WEFT__STACK_SLABS_MAX];
weft__a32 weft__stack_slabs_used;

/* under the lock of the pool */
static enum { GUARD_UNKNOWN, GUARD_BY_ADVICE, GUARD_BY_PROTECTION } guard_method;

/* ---- growing; all under the lock of the pool ---- */

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

static size_t next_slab_slots(const struct weft__stack_class *p, uint32_t class_index)
{
    size_t limit = p->slot_count == 0 ? SLAB_BYTES_FIRST : SLAB_BYTES_MAX;
    size_t slots = p->slot_count;
    if (slots < SLAB_SLOTS_FIRST)
        slots = SLAB_SLOTS_FIRST;
    if (slots > SLAB_SLOTS_MAX)
        slots = SLAB_SLOTS_MAX;
    if (slots > limit / weft__slot_bytes(class_index))
        slots = limit / weft__slot_bytes(class_index);
    if (slots > SLAB_SLOTS_LOCKED && memory_is_locked())
        slots = SLAB_SLOTS_LOCKED;
    return slots == 0 ? 1 : slots;
}

/* An unused entry of the table, -1 when it is full. */
static int find_entry(void)
{
    uint32_t used = weft__a32_load_relaxed(&weft__stack_slabs_used);
    for (uint32_t i = 0; i < used; i++)
        if (weft__a64_load_relaxed(&weft__stack_slabs[i].base) == 0 &&
            !weft__stack_slabs[i].retiring)
            return (int)i;
    return used < WEFT__STACK_SLABS_MAX ? (int)used : -1;
}

static int grow_class(struct weft__stack_class *p, uint32_t class_index)
{
    int index = find_entry();
    if (index < 0)
        return -ENOMEM;
    size_t slots = next_slab_slots(p, class_index);
    void *base;
    /* Address space may be limited: then a smaller slab is better than none. */
    while (weft__sys_map(slots * weft__slot_bytes(class_index), weft__sys_page_size(), &base) < 0) {
        if (slots == 1)
            return -ENOMEM;
        slots /= 2;
    }
    /* A huge page would make a stack cost 2 MiB. Guards keep the range out of them by themselves,
     * but only once installed, and not those made by protection. Kernels without huge pages
     * refuse. */
    (void)weft__sys_advise(base, slots * weft__slot_bytes(class_index), MADV_NOHUGEPAGE);

    struct weft__stack_slab *slab = &weft__stack_slabs[index];
    slab->opened = slab->pooled = 0;
    slab->head = NULL;
    weft__a64_store_relaxed(&slab->geometry, (uint64_t)class_index << 32 | slots);
    /* release, last: a fault handler that sees the base sees the geometry of this slab. */
    weft__a64_store_release(&slab->base, (uintptr_t)base);
    if ((uint32_t)index == weft__a32_load_relaxed(&weft__stack_slabs_used))
        weft__a32_store_release(&weft__stack_slabs_used, (uint32_t)index + 1);
    p->slot_count += slots;
    p->growing = (uint32_t)index + 1;
    return 0;
}

static int install_guard(char *lo)
{
    if (guard_method == GUARD_UNKNOWN)
        guard_method = weft__sys_guard_works() ? GUARD_BY_ADVICE : GUARD_BY_PROTECTION;
    if (guard_method == GUARD_BY_ADVICE && weft__sys_guard(lo, weft__slot_guard_bytes()) == 0)
        return 0;
    /* Each protected range is two mappings more: the kernel's limit allows 32,000 of them. */
    return weft__sys_protect_none(lo, weft__slot_guard_bytes());
}

int weft__slab_open_slots(struct weft__stack_class *p, uint32_t class_index, uint32_t want,
                          struct weft__slots_opened *ret)
{
    if (p->growing == 0) {
        int rc = grow_class(p, class_index);
        if (rc < 0)
            return rc;
    }
    uint32_t index = p->growing - 1;
    struct weft__stack_slab *slab = &weft__stack_slabs[index];
    uint32_t slots = (uint32_t)weft__a64_load_relaxed(&slab->geometry);
    char *base = (char *)weft__a64_load_relaxed(&slab->base);

    *ret = (struct weft__slots_opened){.slab = index, .first = slab->opened, .base = base};
    while (ret->count < want && slab->opened < slots) {
        if (install_guard(base + slab->opened * weft__slot_bytes(class_index)) < 0)
            break;
        slab->opened++;
        ret->count++;
    }
    p->opened += ret->count;
    if (slab->opened == slots)
        p->growing = 0;
    return ret->count > 0 ? 0 : -ENOMEM;
}

struct weft__stack *weft__slab_write_headers(uint32_t class_index,
                                             const struct weft__slots_opened *r)
{
    struct weft__stack *head = NULL;
    for (uint32_t i = r->count; i-- > 0;) {
        uint32_t slot = r->first + i;
        char *slot_base = r->base + slot * weft__slot_bytes(class_index);
        struct weft__stack *s = weft__slot_open(r->slab, slot, class_index, slot_base);
        s->next = head;
        head = s;
    }
    return head;
}

/* ---- the end of a slab ---- */

static bool must_forget_slots(void)
{
#if defined(WEFT__TSAN)
    return true;
#else
    return weft__on_valgrind();
#endif
}

void weft__slab_unmap(struct weft__stack_slab *slab)
{
    char *base = (char *)weft__a64_load_relaxed(&slab->base);
    uint64_t geometry = weft__a64_load_relaxed(&slab->geometry);
    size_t bytes = weft__slot_bytes((uint32_t)(geometry >> 32));
    if (must_forget_slots())
        for (uint32_t i = 0; i < slab->opened; i++)
            weft__slot_forget(weft__slot_header(base + i * bytes, bytes, i));
    /* First out of the table, so that no fault handler follows it to memory that is gone. */
    weft__a64_store_seq_cst(&slab->base, 0);
    weft__sys_unmap(base, (uint32_t)geometry * bytes);
}

/* ---- for the fault handler ---- */

/* The slot that holds an address. */
struct place {
    char *base; /* of the slot; NULL: the address is foreign */
    uint32_t slab, slot, class_index;
};

static struct place find_place(uintptr_t address)
{
    uint32_t used = weft__a32_load_acquire(&weft__stack_slabs_used);
    for (uint32_t i = 0; i < used; i++) {
        /* acquire pairs with grow_class: the geometry is that of this base, or of a later slab,
         * which the second look at the base finds out. */
        uint64_t base = weft__a64_load_acquire(&weft__stack_slabs[i].base);
        if (base == 0 || address < base)
            continue;
        uint64_t geometry = weft__a64_load_acquire(&weft__stack_slabs[i].geometry);
        uint32_t class_index = (uint32_t)(geometry >> 32);
        uint64_t slot = (address - base) / weft__slot_bytes(class_index);
        if (slot < (uint32_t)geometry && weft__a64_load_relaxed(&weft__stack_slabs[i].base) == base)
            return (struct place){.base = (char *)(uintptr_t)base +
                                          slot * weft__slot_bytes(class_index),
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
    struct weft__stack *s = weft__slot_header(at.base, weft__slot_bytes(at.class_index), at.slot);
    if (s->lo == NULL)
        return NULL; /* never opened: a stray pointer */
    *ret_guard = (uintptr_t)addr < (uintptr_t)at.base + weft__slot_guard_bytes();
    return s;
}

size_t weft__stack_bytes(const struct weft__stack *s)
{
    struct place at = find_place((uintptr_t)s);
    return at.base == NULL ? 0 : (uintptr_t)s - ((uintptr_t)at.base + weft__slot_guard_bytes());
}

bool weft__stack_is_intact(const struct weft__stack *s)
{
    struct place at = find_place((uintptr_t)s);
    return at.base != NULL && s->lo == at.base + weft__slot_guard_bytes() &&
           s->hi == (const char *)s && s->slab == at.slab && s->slot == at.slot &&
           s->class_index == at.class_index;
}
