/*
 * What a delay queue consists of apart from waiting: items with deadlines and keys. Pure: no clock,
 * no lock, no threads; memory comes from the caller.
 *
 * A heap of nodes, ordered by deadline and then by when they were put in; a table of slots, in
 * which a key finds its node; and the items. All in one block of memory, by index, so that a larger
 * block is filled by copying. Nodes carry which item they belong to, and nodes beyond the length
 * carry the free ones: nodes[] is always a permutation of the places for items. A key is a slot and
 * a number that is given once, so one that is spent is found out however often its slot has been
 * used since.
 *
 * A heap of four children a node: half as deep as one of two, and the four lie side by side.
 */
#ifndef WEFT_TIME_DELAY_HEAP_H
#define WEFT_TIME_DELAY_HEAP_H

#include <weft/delay_queue.h>

struct weft__delay_node {
    uint64_t deadline_ns;
    uint64_t order; /* among equal deadlines */
    uint32_t slot;
    uint32_t item; /* its place in items[] */
};

struct weft__delay_slot {
    uint64_t id;  /* of the key; 0: free */
    uint32_t pos; /* in nodes[]; of a free one: the next free slot */
};

struct weft__delay_block {
    void *memory;
    uint32_t cap;        /* nodes and items */
    uint32_t slot_count; /* at least cap; more after a compact that keys prevented */
};

struct weft__delay_heap {
    size_t item_bytes;
    struct weft__delay_block block;
    struct weft__delay_node *nodes;
    struct weft__delay_slot *slots;
    char *items;
    uint32_t len;
    uint32_t free_slot; /* first of the free ones */
    uint64_t last_id;   /* of keys, and of the order */
};

void weft__delay_heap_init(struct weft__delay_heap *h, size_t item_bytes);

/* -ENOMEM, also when it would be more than can be numbered. A cap of 0: no memory. */
int weft__delay_block_create(size_t item_bytes, size_t cap, size_t slot_count,
                             struct weft__delay_block *ret_block);
/* The block goes into h, and the former one comes out, to be freed. False: it is too small, and
 * stays where it is. */
bool weft__delay_heap_swap_block(struct weft__delay_heap *h, struct weft__delay_block *block);
/* Slots that keys in use need. Walks the slots. */
uint32_t weft__delay_heap_slots_in_use(const struct weft__delay_heap *h);

static inline bool weft__delay_heap_has_room(const struct weft__delay_heap *h)
{
    return h->len < h->block.cap;
}
/* With room. */
weft_delay_key weft__delay_heap_insert(struct weft__delay_heap *h, uint64_t deadline_ns,
                                       const void *item);
/* The node of a key; NULL when it names none. */
const struct weft__delay_node *weft__delay_heap_find(const struct weft__delay_heap *h,
                                                     weft_delay_key key);
/* The earliest; NULL when empty. */
static inline const struct weft__delay_node *weft__delay_heap_first(
    const struct weft__delay_heap *h)
{
    return h->len ? &h->nodes[0] : NULL;
}
weft_delay_entry weft__delay_heap_entry(const struct weft__delay_heap *h,
                                        const struct weft__delay_node *n);
/* n is a node of h, and no longer after the call. ret_item may be NULL. */
void weft__delay_heap_remove(struct weft__delay_heap *h, const struct weft__delay_node *n,
                             void *ret_item);
void weft__delay_heap_reset(struct weft__delay_heap *h, const struct weft__delay_node *n,
                            uint64_t deadline_ns);

/* Walks everything and asserts the invariants; for tests. */
void weft__delay_heap_check(const struct weft__delay_heap *h);

#endif
