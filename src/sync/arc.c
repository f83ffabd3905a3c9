/*
 * Counted boxes. The strong references hold one weak one together, so the memory goes with the last
 * of either kind.
 */
#include "atomic/atomic.h"
#include "base/base.h"
#include "base/list.h"
#include "sys/sys.h"

#include <weft/arc.h>
#include <weft/panic.h>

#include <stdalign.h>

/* More references than memory could hold: counting on would wrap round, and free what is in use. */
#define COUNT_MAX (UINT64_MAX / 2)

struct box {
    weft__a64 strong;
    weft__a64 weak; /* and one for all the strong ones */
    void (*drop)(void *value);
    alignas(max_align_t) char value[];
};

static struct box *box_of(const void *value)
{
    return WEFT__CONTAINER_OF((char *)(uintptr_t)value, struct box, value);
}

void *weft_arc_create(size_t bytes, void (*drop)(void *value))
{
    if (bytes > SIZE_MAX - sizeof(struct box))
        return NULL;
    struct box *b = weft__calloc(1, sizeof *b + bytes);
    if (b == NULL)
        return NULL;
    weft__a64_store_relaxed(&b->strong, 1);
    weft__a64_store_relaxed(&b->weak, 1);
    b->drop = drop;
    return b->value;
}

void *weft_arc_ref(void *value)
{
    if (value == NULL)
        return NULL;
    uint64_t before = weft__a64_add_relaxed(&box_of(value)->strong, 1); /* the caller's keeps it */
    WEFT_ASSERT(before > 0 && before < COUNT_MAX);
    return value;
}

static void weak_unref(void *box)
{
    struct box *b = box;
    /* acq_rel: who frees comes after what all others did */
    if (weft__a64_sub_acq_rel(&b->weak, 1) == 1)
        weft__free(b);
}

void weft_arc_unref(void *value)
{
    if (value == NULL)
        return;
    struct box *b = box_of(value);
    /* acq_rel: release what this holder did with the value, acquire what the others did */
    uint64_t before = weft__a64_sub_acq_rel(&b->strong, 1);
    WEFT_ASSERT(before > 0); /* given up more often than taken */
    if (before > 1)
        return;
    if (b->drop == NULL) {
        weak_unref(b);
        return;
    }
    WEFT_DEFER(weak_unref, b); /* also when drop panics */
    b->drop(value);
}

size_t weft_arc_count(const void *value)
{
    /* acquire pairs with the release of unref: who finds itself alone may write what others read */
    return value ? (size_t)weft__a64_load_acquire(&box_of(value)->strong) : 0;
}

weft_arc_weak *weft_arc_downgrade(void *value)
{
    return value ? weft_arc_weak_ref((weft_arc_weak *)box_of(value)) : NULL;
}

void *weft_arc_upgrade(weft_arc_weak *weak)
{
    struct box *b = (struct box *)weak;
    if (b == NULL)
        return NULL;
    uint64_t count = weft__a64_load_relaxed(&b->strong);
    do {
        if (count == 0)
            return NULL;
        WEFT_ASSERT(count < COUNT_MAX);
        /* relaxed: nothing is read on the strength of the count that the weak reference did not
         * bring along. */
    } while (!weft__a64_cas_weak_relaxed(&b->strong, &count, count + 1));
    return b->value;
}

weft_arc_weak *weft_arc_weak_ref(weft_arc_weak *weak)
{
    struct box *b = (struct box *)weak;
    if (b) {
        uint64_t before = weft__a64_add_relaxed(&b->weak, 1); /* the caller's keeps it alive */
        WEFT_ASSERT(before > 0 && before < COUNT_MAX);
    }
    return weak;
}

void weft_arc_weak_unref(weft_arc_weak *weak)
{
    if (weak)
        weak_unref(weak);
}
