/*
 * One slot of a slab: [guard | usable bytes of its class | top page].
 *
 * With the default 64 KiB and guards of as much, slots lie 33 pages apart: an odd number, so that
 * neighbours do not meet in the same sets of the TLB, as they would with a power of two. In the top
 * page stands the header, lowered by a colour that depends on the slot, so that the hot lines of
 * many stacks do not meet in the same sets of the cache.
 */
#ifndef WEFT_FIBER_SLOT_H
#define WEFT_FIBER_SLOT_H

#include "fiber/stack.h"
#include "fiber/valgrind.h"

/* ---- sizes ---- */

#define WEFT__SLOT_CLASS_SHIFT 14 /* the smallest class: 16 KiB */
_Static_assert((size_t)1 << (WEFT__SLOT_CLASS_SHIFT + WEFT__STACK_CLASSES - 1) == WEFT__STACK_MAX,
               "classes");

/* The class for so many usable bytes, at most WEFT__STACK_MAX; and how many it has. */
static inline uint32_t weft__slot_class(size_t usable)
{
    if (usable <= (size_t)1 << WEFT__SLOT_CLASS_SHIFT)
        return 0;
    return (uint32_t)(64 - __builtin_clzll((usable - 1) >> WEFT__SLOT_CLASS_SHIFT));
}
static inline size_t weft__slot_class_bytes(uint32_t class_index)
{
    return (size_t)1 << (WEFT__SLOT_CLASS_SHIFT + class_index);
}
size_t weft__slot_guard_bytes(void);
/* Of the whole slot. */
size_t weft__slot_bytes(uint32_t class_index);

/* ---- the slot ---- */

/* Where the header stands, in the slot of so many bytes that begins at slot_base. */
struct weft__stack *weft__slot_header(char *slot_base, size_t bytes, uint32_t slot);
/* Writes it. The guard stands. */
struct weft__stack *weft__slot_open(uint32_t slab, uint32_t slot, uint32_t class_index,
                                    char *slot_base);
/* Before the memory of a slot goes. */
void weft__slot_forget(struct weft__stack *s);

/* Keeps the `pages` top pages and gives the others back to the kernel. */
void weft__slot_give_pages_back(struct weft__stack *s, uint32_t pages);
/* On the way from a cache to the pool: gives back what a fiber that went deep has touched. */
void weft__slot_give_deep_pages_back(struct weft__stack *s);

/* To sanitizers and valgrind: nobody runs on it any more. */
void weft__slot_tell_left(struct weft__stack *s);
static inline void weft__slot_left(struct weft__stack *s)
{
#if defined(WEFT__ASAN) || defined(WEFT__TSAN)
    weft__slot_tell_left(s);
#else
    if (WEFT__UNLIKELY(weft__on_valgrind()))
        weft__slot_tell_left(s);
#endif
}

#endif
