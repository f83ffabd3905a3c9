#include "sync/mpsc_queue.h"

#include <errno.h>

static size_t ring_slots(size_t capacity)
{
    size_t slots = 1;
    while (slots < capacity)
        slots *= 2;
    return slots;
}

struct weft__mpsc_block *weft__mpsc_block_create(const struct weft__mpsc_queue *q)
{
    size_t bytes;
    if (__builtin_mul_overflow(q->elem_bytes, (size_t)WEFT__MPSC_BLOCK, &bytes) ||
        __builtin_add_overflow(bytes, sizeof(struct weft__mpsc_block), &bytes))
        return NULL;
    struct weft__mpsc_block *b = weft__malloc(bytes);
    if (b)
        b->next = NULL;
    return b;
}

int weft__mpsc_queue_init(struct weft__mpsc_queue *q, size_t elem_bytes, size_t capacity)
{
    memset(q, 0, sizeof *q);
    q->elem_bytes = elem_bytes;
    weft__lock_init(&q->lock);
    q->process = weft__sys_process();
    if (capacity == 0) {
        q->mask = WEFT__MPSC_BLOCK - 1;
        q->read_block = q->write_block = weft__mpsc_block_create(q);
        if (q->read_block == NULL)
            return -ENOMEM;
        q->read_base = q->write_base = q->read_block->slots;
        return 0;
    }
    size_t slots = ring_slots(capacity), bytes;
    if (__builtin_mul_overflow(slots, elem_bytes, &bytes))
        return -ENOMEM;
    q->mask = slots - 1;
    q->ring = weft__malloc(bytes ? bytes : 1);
    if (q->ring == NULL)
        return -ENOMEM;
    q->read_base = q->write_base = q->ring;
    return 0;
}

static void free_chain(struct weft__mpsc_block *b)
{
    while (b) {
        struct weft__mpsc_block *next = b->next;
        weft__free(b);
        b = next;
    }
}

void weft__mpsc_queue_fini(struct weft__mpsc_queue *q)
{
    weft__free(q->ring);
    free_chain(q->read_block);
    free_chain(q->free);
}

void weft__mpsc_queue_next_block(struct weft__mpsc_queue *q)
{
    struct weft__mpsc_block *b = q->free;
    q->free = b->next;
    q->free_count--;
    b->next = NULL;
    WEFT__MODEL_WRITE(&q->write_block->next);
    q->write_block->next = b;
    q->write_block = b;
    q->write_base = b->slots;
}

void weft__mpsc_queue_leave_block(struct weft__mpsc_queue *q)
{
    struct weft__mpsc_block *b = q->read_block;
    WEFT__MODEL_READ(&b->next);
    q->read_block = b->next; /* chained before the tail that the reader has seen */
    q->read_base = q->read_block->slots;
    if (weft__sys_is_ancestor(q->process))
        return; /* nobody writes any more */
    weft__lock_acquire(&q->lock);
    bool is_kept = q->free_count < WEFT__MPSC_FREE_MAX;
    if (is_kept) {
        b->next = q->free;
        q->free = b;
        q->free_count++;
    }
    weft__lock_release(&q->lock);
    if (!is_kept)
        weft__free(b);
}
