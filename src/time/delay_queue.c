/*
 * Delay queues, what is in them. Waiting is in delay_next.c.
 */
#include "time/delay_queue.h"

#include "task/panic.h"

#include <errno.h>

#define CAP_FIRST 8

static int null_queue(const char *call, const void *caller)
{
    return weft__misuse(call, -EINVAL, "the queue is NULL", caller);
}

/* 0; -EINVAL; -EPERM in a forked child, whose parent has made q. */
static int check(const char *call, const weft_delay_queue *q, const void *caller)
{
    if (q == NULL)
        return null_queue(call, caller);
    return weft__is_inherited(call, q->core->process, caller) ? -EPERM : 0;
}

/* ---- life ---- */

int weft_delay_queue_create(size_t item_bytes, void (*drop)(void *item),
                            weft_delay_queue **ret_queue)
{
    if (ret_queue == NULL)
        return weft__misuse("weft_delay_queue_create", -EINVAL, "ret_queue is NULL", WEFT__CALLER);
    struct weft__core *core = weft__core_waiting();
    if (core == NULL)
        return weft__misuse("weft_delay_queue_create", -EPERM, "the caller is in no runtime",
                            WEFT__CALLER);
    int rc = weft__time_is_on("weft_delay_queue_create", core, WEFT__CALLER);
    if (rc < 0)
        return rc;
    if (item_bytes > INT32_MAX)
        return weft__misuse("weft_delay_queue_create", -EINVAL, "items are too large",
                            WEFT__CALLER);
    weft_delay_queue *q = weft__calloc(1, sizeof *q);
    if (q == NULL)
        return -ENOMEM;
    weft__a64_store_relaxed(&q->refs, 1);
    weft__core_ref(core);
    q->core = core;
    q->item_bytes = item_bytes;
    q->drop = drop;
    weft__lock_init(&q->lock);
    weft__delay_heap_init(&q->heap, item_bytes);
    weft__timer_init(&q->timer);
    *ret_queue = q;
    return 0;
}

weft_delay_queue *weft_delay_queue_ref(weft_delay_queue *q)
{
    if (weft__is_null("weft_delay_queue_ref", q, WEFT__CALLER))
        return NULL;
    weft__a64_add_relaxed(&q->refs, 1); /* the caller's own keeps it alive */
    return q;
}

/* Without the lock, and nobody else has the heap. A panic in one goes no further than that. */
static void drop_items(weft_delay_queue *q, struct weft__delay_heap *h)
{
    for (uint32_t i = 0; i < h->len && q->drop; i++) {
        void *item = h->items + h->nodes[i].item * h->item_bytes;
        weft_panic_info *info = weft__call_contained(q->drop, item);
        if (info == NULL)
            continue;
        weft__panic_report(info, "in the drop function of a delay queue");
        weft_panic_free(info);
    }
}

void weft_delay_queue_unref(weft_delay_queue *q)
{
    /* acq_rel: the last one sees all that the others did */
    if (q == NULL || weft__a64_sub_acq_rel(&q->refs, 1) != 1)
        return;
    if (weft__core_is_ancestral(q->core))
        return;                                     /* a forked child leaves its copy as it is */
    WEFT_ASSERT(weft__waitq_is_empty(&q->waiters)); /* who waits has borrowed a reference */
    weft__timer_disarm(&q->timer);
    drop_items(q, &q->heap);
    weft__free(q->heap.block.memory);
    weft__core_unref(q->core);
    weft__free(q);
}

/* ---- taking ---- */

int weft__delay_queue_take(weft_delay_queue *q, uint64_t now_ns, void *ret_item,
                           weft_delay_entry *ret_entry)
{
    const struct weft__delay_node *first = weft__delay_heap_first(&q->heap);
    if (first == NULL)
        return -ENODATA;
    if (first->deadline_ns > now_ns)
        return -EAGAIN;
    if (ret_entry)
        *ret_entry = weft__delay_heap_entry(&q->heap, first);
    weft__delay_heap_remove(&q->heap, first, ret_item);
    return 0;
}

int weft__delay_queue_check_ret(const char *call, const weft_delay_queue *q, const void *ret_item,
                                const void *caller)
{
    if (q == NULL)
        return null_queue(call, caller);
    if (ret_item == NULL && q->drop && q->item_bytes)
        return weft__misuse(call, -EINVAL, "ret_item is NULL, and items have to be destroyed",
                            caller);
    return check(call, q, caller);
}

/* ---- changing what is in it ---- */

/* Locks, and remembers the earliest deadline; unlocks, and tells the leader when it is another one.
 * */
struct change {
    weft_delay_queue *queue;
    weft_delay_key first;
    uint64_t deadline_ns, now_ns;
    struct weft__wake_list woken;
};

static weft_delay_entry earliest(const weft_delay_queue *q)
{
    const struct weft__delay_node *n = weft__delay_heap_first(&q->heap);
    return n ? weft__delay_heap_entry(&q->heap, n) : (weft_delay_entry){{0, 0}, WEFT_NEVER};
}

static struct change change_begin(weft_delay_queue *q)
{
    struct change c = {
        .queue = q, .now_ns = weft__delay_queue_now(q), .woken = WEFT__WAKE_LIST_INIT};
    weft__lock_acquire(&q->lock);
    weft_delay_entry e = earliest(q);
    c.first = e.key;
    c.deadline_ns = e.deadline_ns;
    return c;
}

static void change_end(struct change *c)
{
    weft_delay_queue *q = c->queue;
    /* Not the deadline alone: the last item may have gone that had none. */
    weft_delay_entry e = earliest(q);
    if (e.deadline_ns != c->deadline_ns || e.key.id != c->first.id)
        weft__delay_queue_refresh(q, c->now_ns, &c->woken);
    weft__lock_release(&q->lock);
    weft__wake_list_flush(&c->woken);
}

/* Makes the heap hold `cap` items, in a block made without the lock. Locked before and after. */
static int grow(weft_delay_queue *q, size_t cap, struct weft__delay_block *ret_old)
{
    size_t slots = q->heap.block.slot_count > cap ? q->heap.block.slot_count : cap;
    weft__lock_release(&q->lock);
    weft__free(ret_old->memory); /* of a round before */
    int rc = weft__delay_block_create(q->item_bytes, cap, slots, ret_old);
    if (rc < 0)
        *ret_old = (struct weft__delay_block){0};
    weft__lock_acquire(&q->lock);
    if (rc == 0 && ret_old->cap > q->heap.block.cap)
        (void)weft__delay_heap_swap_block(&q->heap, ret_old); /* too small: the caller looks */
    return rc;
}

static int insert_at(const char *call, weft_delay_queue *q, const void *item, uint64_t deadline_ns,
                     weft_delay_key *ret_key, const void *caller)
{
    if (item == NULL && q->item_bytes)
        return weft__misuse(call, -EINVAL, "the item is NULL", caller);
    struct weft__delay_block old = {0};
    struct change c = change_begin(q);
    int rc = 0;
    while (rc == 0 && !weft__delay_heap_has_room(&q->heap)) {
        size_t cap = q->heap.block.cap;
        rc = grow(q, cap ? 2 * cap : CAP_FIRST, &old);
    }
    if (rc == 0) {
        weft_delay_key key = weft__delay_heap_insert(&q->heap, deadline_ns, item);
        if (ret_key)
            *ret_key = key;
    }
    change_end(&c);
    weft__free(old.memory);
    return rc;
}

int weft_delay_queue_insert(weft_delay_queue *q, const void *item, uint64_t delay_ns,
                            weft_delay_key *ret_key)
{
    static const char call[] = "weft_delay_queue_insert";
    int rc = check(call, q, WEFT__CALLER);
    if (rc < 0)
        return rc;
    return insert_at(call, q, item, weft__add_sat(weft__delay_queue_now(q), delay_ns), ret_key,
                     WEFT__CALLER);
}

int weft_delay_queue_insert_at(weft_delay_queue *q, const void *item, uint64_t deadline_ns,
                               weft_delay_key *ret_key)
{
    static const char call[] = "weft_delay_queue_insert_at";
    int rc = check(call, q, WEFT__CALLER);
    if (rc < 0)
        return rc;
    return insert_at(call, q, item, deadline_ns, ret_key, WEFT__CALLER);
}

static int try_remove(weft_delay_queue *q, weft_delay_key key, void *ret_item)
{
    struct change c = change_begin(q);
    const struct weft__delay_node *n = weft__delay_heap_find(&q->heap, key);
    if (n)
        weft__delay_heap_remove(&q->heap, n, ret_item);
    change_end(&c);
    return n ? 0 : -ENOENT;
}

static int unknown(const char *call, const void *caller)
{
    return weft__misuse(call, -ENOENT, "the key names no item: it was taken, or never was", caller);
}

int weft_delay_queue_remove(weft_delay_queue *q, weft_delay_key key, void *ret_item)
{
    int rc = weft__delay_queue_check_ret("weft_delay_queue_remove", q, ret_item, WEFT__CALLER);
    if (rc == 0 && try_remove(q, key, ret_item) < 0)
        rc = unknown("weft_delay_queue_remove", WEFT__CALLER);
    return rc;
}

int weft_delay_queue_try_remove(weft_delay_queue *q, weft_delay_key key, void *ret_item)
{
    int rc = weft__delay_queue_check_ret("weft_delay_queue_try_remove", q, ret_item, WEFT__CALLER);
    return rc < 0 ? rc : try_remove(q, key, ret_item);
}

static int try_reset_at(weft_delay_queue *q, weft_delay_key key, uint64_t deadline_ns)
{
    struct change c = change_begin(q);
    const struct weft__delay_node *n = weft__delay_heap_find(&q->heap, key);
    if (n)
        weft__delay_heap_reset(&q->heap, n, deadline_ns);
    change_end(&c);
    return n ? 0 : -ENOENT;
}

int weft_delay_queue_try_reset_at(weft_delay_queue *q, weft_delay_key key, uint64_t deadline_ns)
{
    int rc = check("weft_delay_queue_try_reset_at", q, WEFT__CALLER);
    return rc < 0 ? rc : try_reset_at(q, key, deadline_ns);
}

int weft_delay_queue_reset_at(weft_delay_queue *q, weft_delay_key key, uint64_t deadline_ns)
{
    static const char call[] = "weft_delay_queue_reset_at";
    int rc = check(call, q, WEFT__CALLER);
    if (rc < 0)
        return rc;
    rc = try_reset_at(q, key, deadline_ns);
    return rc < 0 ? unknown(call, WEFT__CALLER) : 0;
}

int weft_delay_queue_reset(weft_delay_queue *q, weft_delay_key key, uint64_t delay_ns)
{
    static const char call[] = "weft_delay_queue_reset";
    int rc = check(call, q, WEFT__CALLER);
    if (rc < 0)
        return rc;
    rc = try_reset_at(q, key, weft__add_sat(weft__delay_queue_now(q), delay_ns));
    return rc < 0 ? unknown(call, WEFT__CALLER) : 0;
}

int weft_delay_queue_try_next(weft_delay_queue *q, void *ret_item, weft_delay_entry *ret_entry)
{
    int rc = weft__delay_queue_check_ret("weft_delay_queue_try_next", q, ret_item, WEFT__CALLER);
    if (rc < 0)
        return rc;
    struct change c = change_begin(q);
    rc = weft__delay_queue_take(q, c.now_ns, ret_item, ret_entry);
    change_end(&c);
    return rc;
}

void weft_delay_queue_clear(weft_delay_queue *q)
{
    if (weft__is_null("weft_delay_queue_clear", q, WEFT__CALLER) ||
        weft__is_inherited("weft_delay_queue_clear", q->core->process, WEFT__CALLER))
        return;
    struct change c = change_begin(q);
    struct weft__delay_heap full = q->heap;
    weft__delay_heap_init(&q->heap, q->item_bytes);
    q->heap.last_id = full.last_id; /* spent keys stay spent */
    change_end(&c);
    drop_items(q, &full);
    /* The capacity comes back, also beneath what has been put in meanwhile. */
    weft__lock_acquire(&q->lock);
    if (q->heap.block.cap < full.block.cap)
        (void)weft__delay_heap_swap_block(&q->heap, &full.block); /* else it keeps what it has */
    weft__lock_release(&q->lock);
    weft__free(full.block.memory);
}

/* ---- asking ---- */

int weft_delay_queue_peek(weft_delay_queue *q, weft_delay_entry *ret_entry)
{
    if (q == NULL || ret_entry == NULL)
        return weft__misuse("weft_delay_queue_peek", -EINVAL, "the queue or ret_entry is NULL",
                            WEFT__CALLER);
    int rc = check("weft_delay_queue_peek", q, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft__lock_acquire(&q->lock);
    const struct weft__delay_node *n = weft__delay_heap_first(&q->heap);
    if (n)
        *ret_entry = weft__delay_heap_entry(&q->heap, n);
    weft__lock_release(&q->lock);
    return n ? 0 : -ENODATA;
}

int weft_delay_queue_deadline(weft_delay_queue *q, weft_delay_key key, uint64_t *ret_deadline_ns)
{
    if (q == NULL || ret_deadline_ns == NULL)
        return weft__misuse("weft_delay_queue_deadline", -EINVAL,
                            "the queue or ret_deadline_ns is NULL", WEFT__CALLER);
    int rc = check("weft_delay_queue_deadline", q, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft__lock_acquire(&q->lock);
    const struct weft__delay_node *n = weft__delay_heap_find(&q->heap, key);
    if (n)
        *ret_deadline_ns = n->deadline_ns;
    weft__lock_release(&q->lock);
    return n ? 0 : -ENOENT;
}

size_t weft_delay_queue_len(weft_delay_queue *q)
{
    if (weft__is_null("weft_delay_queue_len", q, WEFT__CALLER) || weft__core_is_ancestral(q->core))
        return 0;
    weft__lock_acquire(&q->lock);
    size_t len = q->heap.len;
    weft__lock_release(&q->lock);
    return len;
}

size_t weft_delay_queue_capacity(weft_delay_queue *q)
{
    if (weft__is_null("weft_delay_queue_capacity", q, WEFT__CALLER) ||
        weft__core_is_ancestral(q->core))
        return 0;
    weft__lock_acquire(&q->lock);
    size_t cap = q->heap.block.cap;
    weft__lock_release(&q->lock);
    return cap;
}

int weft_delay_queue_reserve(weft_delay_queue *q, size_t additional)
{
    struct weft__delay_block old = {0};
    int rc = check("weft_delay_queue_reserve", q, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft__lock_acquire(&q->lock);
    while (rc == 0 && q->heap.block.cap - q->heap.len < additional)
        rc = grow(q, weft__add_sat(q->heap.len, additional), &old);
    weft__lock_release(&q->lock);
    weft__free(old.memory);
    return rc;
}

int weft_delay_queue_compact(weft_delay_queue *q)
{
    struct weft__delay_block block;
    int rc = check("weft_delay_queue_compact", q, WEFT__CALLER);
    if (rc < 0)
        return rc;
    weft__lock_acquire(&q->lock);
    size_t cap = q->heap.len, slots = weft__delay_heap_slots_in_use(&q->heap);
    bool is_useful = cap < q->heap.block.cap;
    weft__lock_release(&q->lock);
    if (!is_useful)
        return 0;
    rc = weft__delay_block_create(q->item_bytes, cap, slots > cap ? slots : cap, &block);
    if (rc < 0)
        return rc;
    weft__lock_acquire(&q->lock);
    if (cap < q->heap.block.cap)
        (void)weft__delay_heap_swap_block(&q->heap, &block); /* it has grown again: let it be */
    weft__lock_release(&q->lock);
    weft__free(block.memory);
    return 0;
}
