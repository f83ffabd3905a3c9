/*
 * The table of slabs: mappings of many equal slots, reserved as address space and opened in order.
 *
 * Process-wide, as the pool (stack.c), whose lock guards all that changes it; the fault handler
 * reads it without one.
 */
#ifndef WEFT_FIBER_SLABS_H
#define WEFT_FIBER_SLABS_H

#include "atomic/atomic.h"
#include "fiber/stack.h"

#define WEFT__STACK_SLABS_MAX 8192

/* An entry of the table. Entries are never freed, so the fault handler may read any at any time. */
struct weft__stack_slab {
    /* Written under the lock of the pool, read by all. base: address of the mapping, 0 for an
     * unused entry; geometry: class_index << 32 | slot_count. */
    weft__a64 base;
    weft__a64 geometry;

    /* Under the lock. Each slab keeps its own list, so that finding the slabs that are free looks
     * at slabs, not at a million stacks. */
    uint32_t opened;               /* slots below have a guard and are, or will be, handed out */
    uint32_t pooled;               /* length of the list */
    struct weft__stack *head;      /* the last one put first */
    struct weft__stack_slab *next; /* in the class's list while pooled > 0 */
    bool retiring;                 /* belongs to one weft__stack_pool_trim, which unmaps it */
    struct weft__stack_slab *next_retired; /* that one's alone */
};

/* One class of the pool; under the lock. */
struct weft__stack_class {
    struct weft__stack_slab *available; /* slabs with stacks in their lists; taken from the first */
    size_t slot_count;                  /* in all slabs of the class */
    size_t opened;
    uint32_t growing; /* index of the slab with slots that are not open yet, plus 1; 0: none */
};

extern struct weft__stack_slab weft__stack_slabs[WEFT__STACK_SLABS_MAX];
/* Entries from here on were never used; written under the lock of the pool. */
extern weft__a32 weft__stack_slabs_used;

/* Slots that were opened, next to each other. */
struct weft__slots_opened {
    uint32_t slab, first, count;
    char *base;
};

/* Opens up to `want` slots of one slab, under the lock: their guards stand, their headers are still
 * to be written, which touches a page each and is done without the lock. -ENOMEM. */
int weft__slab_open_slots(struct weft__stack_class *p, uint32_t class_index, uint32_t want,
                          struct weft__slots_opened *ret);
/* Writes them, and chains the stacks. */
struct weft__stack *weft__slab_write_headers(uint32_t class_index,
                                             const struct weft__slots_opened *r);
/* Of a slab that is retiring, by who retires it, without the lock. */
void weft__slab_unmap(struct weft__stack_slab *slab);

#endif
