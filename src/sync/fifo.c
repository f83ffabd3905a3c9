#include "sync/fifo.h"

#include "sys/sys.h"

#include <errno.h>
#include <string.h>

/* NULL when out of memory, or when so much does not fit the address space. One byte at least, so
 * that values without bytes need no case of their own. */
static char *slots_create(size_t count, size_t elem_bytes)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, elem_bytes, &bytes) || bytes > PTRDIFF_MAX)
        return NULL;
    return weft__malloc(bytes ? bytes : 1);
}

static char *slot_at(const struct weft__fifo *f, size_t index)
{
    return f->slots + index * f->elem_bytes;
}

void *weft__fifo_at(const struct weft__fifo *f, size_t i)
{
    size_t index = f->first + i;
    return slot_at(f, index < f->size ? index : index - f->size);
}

int weft__fifo_init(struct weft__fifo *f, size_t elem_bytes, size_t size)
{
    f->slots = slots_create(size, elem_bytes);
    f->elem_bytes = elem_bytes;
    f->size = size;
    f->kept = size > WEFT__FIFO_KEPT ? size : WEFT__FIFO_KEPT;
    f->first = f->count = 0;
    return f->slots ? 0 : -ENOMEM;
}

void weft__fifo_fini(struct weft__fifo *f)
{
    weft__free(f->slots);
    f->slots = NULL;
}

/* Moves the values to a ring of another size, which holds them. -ENOMEM: they stay. */
static int move_to(struct weft__fifo *f, size_t size)
{
    char *slots = slots_create(size, f->elem_bytes);
    if (slots == NULL)
        return -ENOMEM;
    size_t to_end = f->size - f->first;
    size_t first_part = f->count < to_end ? f->count : to_end;
    memcpy(slots, slot_at(f, f->first), first_part * f->elem_bytes);
    memcpy(slots + first_part * f->elem_bytes, f->slots, (f->count - first_part) * f->elem_bytes);
    weft__free(f->slots);
    f->slots = slots;
    f->size = size;
    f->first = 0;
    return 0;
}

int weft__fifo_reserve(struct weft__fifo *f)
{
    if (f->count < f->size)
        return 0;
    size_t size;
    if (__builtin_mul_overflow(f->size, 2, &size))
        return -ENOMEM;
    return move_to(f, size);
}

void weft__fifo_push(struct weft__fifo *f, const void *value)
{
    WEFT_DEBUG_ASSERT(f->count < f->size);
    if (f->elem_bytes)
        memcpy(weft__fifo_at(f, f->count), value, f->elem_bytes);
    f->count++;
}

void weft__fifo_pop(struct weft__fifo *f, void *value)
{
    WEFT_DEBUG_ASSERT(f->count > 0);
    if (f->elem_bytes)
        memcpy(value, slot_at(f, f->first), f->elem_bytes);
    f->first = f->first + 1 < f->size ? f->first + 1 : 0;
    f->count--;
    if (WEFT__UNLIKELY(f->size > f->kept && f->count == f->size / 4))
        (void)move_to(f, f->size / 2); /* without memory it stays as large as it is */
}
