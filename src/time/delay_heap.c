#include "time/delay_heap.h"

#include "base/base.h"
#include "sys/sys.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define CHILDREN 4
/* Positions of children are computed in 32 bits. */
#define CAP_MAX (UINT32_MAX / (2 * CHILDREN))
/* Items may be of any type: a drop function gets them where they lie. */
#define ITEM_ALIGN _Alignof(max_align_t)

/* Where the items begin in a block: behind the nodes and the slots. */
static size_t items_offset(size_t cap, size_t slot_count)
{
    size_t used =
        cap * sizeof(struct weft__delay_node) + slot_count * sizeof(struct weft__delay_slot);
    return (used + ITEM_ALIGN - 1) / ITEM_ALIGN * ITEM_ALIGN;
}

static bool is_before(const struct weft__delay_node *a, const struct weft__delay_node *b)
{
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->order < b->order;
}

static void *item_at(const struct weft__delay_heap *h, uint32_t place)
{
    return h->items + place * h->item_bytes;
}

static void put(struct weft__delay_heap *h, uint32_t pos, struct weft__delay_node n)
{
    h->nodes[pos] = n;
    h->slots[n.slot].pos = pos;
}

/* n moves towards the root from the gap at pos. */
static void sift_up(struct weft__delay_heap *h, uint32_t pos, struct weft__delay_node n)
{
    while (pos > 0) {
        uint32_t parent = (pos - 1) / CHILDREN;
        if (!is_before(&n, &h->nodes[parent]))
            break;
        put(h, pos, h->nodes[parent]);
        pos = parent;
    }
    put(h, pos, n);
}

static uint32_t earliest_child(const struct weft__delay_heap *h, uint32_t pos)
{
    uint32_t first = pos * CHILDREN + 1;
    if (first >= h->len)
        return 0;
    uint32_t end = h->len - first < CHILDREN ? h->len : first + CHILDREN;
    uint32_t best = first;
    for (uint32_t c = first + 1; c < end; c++)
        if (is_before(&h->nodes[c], &h->nodes[best]))
            best = c;
    return best;
}

static void sift_down(struct weft__delay_heap *h, uint32_t pos, struct weft__delay_node n)
{
    uint32_t child;
    while ((child = earliest_child(h, pos)) != 0 && is_before(&h->nodes[child], &n)) {
        put(h, pos, h->nodes[child]);
        pos = child;
    }
    put(h, pos, n);
}

/* n goes into the gap at pos, or wherever it belongs. */
static void sift(struct weft__delay_heap *h, uint32_t pos, struct weft__delay_node n)
{
    if (pos > 0 && is_before(&n, &h->nodes[(pos - 1) / CHILDREN]))
        sift_up(h, pos, n);
    else
        sift_down(h, pos, n);
}

/* ---- memory ---- */

void weft__delay_heap_init(struct weft__delay_heap *h, size_t item_bytes)
{
    *h = (struct weft__delay_heap){.item_bytes = item_bytes};
}

int weft__delay_block_create(size_t item_bytes, size_t cap, size_t slot_count,
                             struct weft__delay_block *ret_block)
{
    size_t items, bytes;
    if (cap > CAP_MAX || slot_count > CAP_MAX || __builtin_mul_overflow(cap, item_bytes, &items) ||
        __builtin_add_overflow(items, items_offset(cap, slot_count), &bytes))
        return -ENOMEM;
    void *memory = bytes ? weft__malloc(bytes) : NULL;
    if (bytes && memory == NULL)
        return -ENOMEM;
    *ret_block = (struct weft__delay_block){memory, (uint32_t)cap, (uint32_t)slot_count};
    return 0;
}

uint32_t weft__delay_heap_slots_in_use(const struct weft__delay_heap *h)
{
    uint32_t count = h->block.slot_count;
    while (count > 0 && h->slots[count - 1].id == 0)
        count--;
    return count;
}

static void use_block(struct weft__delay_heap *h, struct weft__delay_block block)
{
    h->block = block;
    h->nodes = block.memory;
    h->slots = NULL;
    h->items = NULL;
    if (block.memory == NULL)
        return;
    h->slots = (struct weft__delay_slot *)(void *)(h->nodes + block.cap);
    h->items = (char *)block.memory + items_offset(block.cap, block.slot_count);
}

/* The lowest is used first: the end is what compact gives back. */
static void link_free_slots(struct weft__delay_heap *h)
{
    h->free_slot = 0;
    for (uint32_t i = h->block.slot_count; i-- > 0;)
        if (h->slots[i].id == 0) {
            h->slots[i].pos = h->free_slot;
            h->free_slot = i;
        }
}

/* Nodes and slots that are in use come from the heap of before; the others are free. */
static void fill_block(struct weft__delay_heap *h, const struct weft__delay_heap *old,
                       uint32_t slots)
{
    WEFT_ASSERT(h->slots != NULL); /* there is memory */
    for (uint32_t i = 0; i < h->block.cap; i++) {
        if (i < h->len) {
            h->nodes[i] = old->nodes[i];
            memcpy(item_at(h, i), item_at(old, old->nodes[i].item), h->item_bytes);
        }
        h->nodes[i].item = i;
    }
    for (uint32_t i = 0; i < h->block.slot_count; i++)
        h->slots[i] = i < slots ? old->slots[i] : (struct weft__delay_slot){0};
    link_free_slots(h);
}

bool weft__delay_heap_swap_block(struct weft__delay_heap *h, struct weft__delay_block *block)
{
    uint32_t slots = weft__delay_heap_slots_in_use(h);
    if (block->cap < h->len || block->slot_count < slots)
        return false;
    struct weft__delay_heap old = *h;
    use_block(h, *block);
    if (block->memory)
        fill_block(h, &old, slots);
    else
        h->free_slot = 0;
    *block = old.block;
    return true;
}

/* ---- items ---- */

weft_delay_key weft__delay_heap_insert(struct weft__delay_heap *h, uint64_t deadline_ns,
                                       const void *item)
{
    WEFT_DEBUG_ASSERT(weft__delay_heap_has_room(h));
    uint32_t slot = h->free_slot; /* there is one, as there are no fewer slots than nodes */
    h->free_slot = h->slots[slot].pos;
    uint64_t id = ++h->last_id;
    h->slots[slot].id = id;
    struct weft__delay_node n = {deadline_ns, id, slot, h->nodes[h->len].item};
    if (h->item_bytes)
        memcpy(item_at(h, n.item), item, h->item_bytes);
    sift_up(h, h->len++, n);
    return (weft_delay_key){id, slot};
}

const struct weft__delay_node *weft__delay_heap_find(const struct weft__delay_heap *h,
                                                     weft_delay_key key)
{
    if (key.id == 0 || key.slot >= h->block.slot_count || h->slots[key.slot].id != key.id)
        return NULL;
    return &h->nodes[h->slots[key.slot].pos];
}

weft_delay_entry weft__delay_heap_entry(const struct weft__delay_heap *h,
                                        const struct weft__delay_node *n)
{
    return (weft_delay_entry){{h->slots[n->slot].id, n->slot}, n->deadline_ns};
}

void weft__delay_heap_remove(struct weft__delay_heap *h, const struct weft__delay_node *n,
                             void *ret_item)
{
    struct weft__delay_node gone = *n;
    uint32_t pos = h->slots[gone.slot].pos;
    if (ret_item && h->item_bytes)
        memcpy(ret_item, item_at(h, gone.item), h->item_bytes);
    h->slots[gone.slot].id = 0;
    h->slots[gone.slot].pos = h->free_slot;
    h->free_slot = gone.slot;
    struct weft__delay_node last = h->nodes[--h->len];
    if (pos != h->len)
        sift(h, pos, last);
    h->nodes[h->len].item = gone.item; /* free now */
}

void weft__delay_heap_reset(struct weft__delay_heap *h, const struct weft__delay_node *n,
                            uint64_t deadline_ns)
{
    struct weft__delay_node moved = *n;
    moved.deadline_ns = deadline_ns;
    moved.order = ++h->last_id;
    sift(h, h->slots[moved.slot].pos, moved);
}

void weft__delay_heap_check(const struct weft__delay_heap *h)
{
    uint32_t used = 0, free = 0;
    WEFT_ASSERT(h->len <= h->block.cap);
    WEFT_ASSERT(h->block.cap <= h->block.slot_count);
    for (uint32_t i = 0; i < h->len; i++) {
        const struct weft__delay_node *n = &h->nodes[i];
        WEFT_ASSERT(i == 0 || is_before(&h->nodes[(i - 1) / CHILDREN], n));
        WEFT_ASSERT(n->slot < h->block.slot_count);
        WEFT_ASSERT(h->slots[n->slot].id != 0);
        WEFT_ASSERT(h->slots[n->slot].pos == i);
    }
    for (uint32_t i = 0; i < h->block.slot_count; i++)
        used += h->slots[i].id != 0;
    WEFT_ASSERT(used == h->len);
    for (uint32_t i = h->free_slot; free < h->block.slot_count - used; i = h->slots[i].pos, free++)
        WEFT_ASSERT(i < h->block.slot_count && h->slots[i].id == 0);
    /* Each place for an item belongs to one node. */
    for (uint32_t i = 0; i < h->block.cap; i++)
        for (uint32_t j = i + 1; j < h->block.cap && h->block.cap <= 64; j++)
            WEFT_ASSERT(h->nodes[i].item != h->nodes[j].item);
}
