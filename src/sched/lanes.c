#include "sched/lanes.h"

void weft__lanes_init(struct weft__lanes *l, bool is_always)
{
    weft__lock_init(&l->lock);
    weft__a32_store_relaxed(&l->ready, is_always ? WEFT__LANES_ALWAYS : 0);
    for (unsigned i = 0; i < WEFT__LANES; i++) {
        l->lane[i].first = l->lane[i].last = NULL;
        weft__a64_store_relaxed(&l->lane[i].len, 0);
    }
}

size_t weft__lanes_push(struct weft__lanes *l, unsigned lane, struct weft__qnode *node)
{
    WEFT_DEBUG_ASSERT(lane < WEFT__LANES);
    node->next = NULL;
    weft__lock_acquire(&l->lock);
    if (l->lane[lane].first == NULL)
        l->lane[lane].first = node;
    else
        l->lane[lane].last->next = node;
    l->lane[lane].last = node;
    size_t len = weft__a64_load_relaxed(&l->lane[lane].len) + 1;
    weft__a64_store_relaxed(&l->lane[lane].len, len);
    /* seq_cst, also when the bit is there already: pairs with are_empty_seq_cst. Store the task,
     * then look for the idle; announce idleness, then look for tasks. */
    weft__a32_store_seq_cst(&l->ready, weft__a32_load_relaxed(&l->ready) | 1u << lane);
    weft__lock_release(&l->lock);
    return len;
}

struct weft__qnode *weft__lanes_pop(struct weft__lanes *l, unsigned lane)
{
    WEFT_DEBUG_ASSERT(lane < WEFT__LANES);
    if (!(weft__lanes_ready(l) & 1u << lane))
        return NULL;
    weft__lock_acquire(&l->lock);
    struct weft__qnode *node = l->lane[lane].first;
    if (node != NULL) {
        l->lane[lane].first = node->next;
        weft__a64_store_relaxed(&l->lane[lane].len, weft__a64_load_relaxed(&l->lane[lane].len) - 1);
        /* relaxed: a reader that misses it looks in vain. It cannot hide a push that came after,
         * because the lock orders the two stores. */
        if (node->next == NULL)
            weft__a32_store_relaxed(&l->ready, weft__a32_load_relaxed(&l->ready) & ~(1u << lane));
    }
    weft__lock_release(&l->lock);
    return node;
}

void weft__lanes_check(struct weft__lanes *l)
{
    weft__lock_acquire(&l->lock);
    for (unsigned i = 0; i < WEFT__LANES; i++) {
        size_t count = 0;
        for (const struct weft__qnode *n = l->lane[i].first; n != NULL; n = n->next) {
            count++;
            WEFT_ASSERT(n->next != NULL || n == l->lane[i].last);
        }
        WEFT_ASSERT(count == weft__lanes_len(l, i));
        WEFT_ASSERT((count != 0) == ((weft__lanes_ready(l) & 1u << i) != 0));
    }
    weft__lock_release(&l->lock);
}
