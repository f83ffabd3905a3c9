#include "sched/inject.h"

void weft__inject_init(struct weft__inject *q)
{
    weft__lock_init(&q->lock);
    q->first = q->last = NULL;
    q->is_closed = false;
    weft__a64_store_relaxed(&q->len, 0);
}

bool weft__inject_push(struct weft__inject *q, struct weft__qnode *node)
{
    return weft__inject_push_chain(q, node, node, 1);
}

bool weft__inject_push_chain(struct weft__inject *q, struct weft__qnode *first,
                             struct weft__qnode *last, size_t count)
{
    WEFT_DEBUG_ASSERT(count > 0);
    last->next = NULL;
    weft__lock_acquire(&q->lock);
    bool is_open = !q->is_closed;
    if (is_open) {
        if (q->first == NULL)
            q->first = first;
        else
            q->last->next = first;
        q->last = last;
        /* The load is of our own making, all stores are under the lock. The store is seq_cst and
         * pairs with is_empty_seq_cst: store the task, then look for the idle; announce idleness,
         * then look for tasks. Who reads it pops under the lock, which orders the list itself. */
        weft__a64_store_seq_cst(&q->len, weft__a64_load_relaxed(&q->len) + count);
    }
    weft__lock_release(&q->lock);
    return is_open;
}

struct weft__qnode *weft__inject_pop(struct weft__inject *q)
{
    struct weft__qnode *node;
    return weft__inject_pop_many(q, &node, 1) == 1 ? node : NULL;
}

size_t weft__inject_pop_many(struct weft__inject *q, struct weft__qnode **nodes, size_t max)
{
    /* Workers come by every few tasks and mostly find nothing: no lock for that. relaxed: a push
     * missed by a hair is found next time round, or by the look before sleeping, which is
     * seq_cst. */
    if (weft__a64_load_relaxed(&q->len) == 0)
        return 0;

    weft__lock_acquire(&q->lock);
    size_t count = 0;
    while (count < max && q->first != NULL) {
        nodes[count++] = q->first;
        q->first = q->first->next;
    }
    /* relaxed: a reader that misses it sees a queue that is longer than it is, and looks in vain.
     * It cannot hide a push that came after, because the lock orders the two stores. */
    weft__a64_store_relaxed(&q->len, weft__a64_load_relaxed(&q->len) - count);
    weft__lock_release(&q->lock);
    return count;
}

bool weft__inject_close(struct weft__inject *q)
{
    weft__lock_acquire(&q->lock);
    bool was_open = !q->is_closed;
    q->is_closed = true;
    weft__lock_release(&q->lock);
    return was_open;
}

size_t weft__inject_len(const struct weft__inject *q)
{
    return weft__a64_load_relaxed(&q->len); /* an estimate: nothing is read on the strength of it */
}

bool weft__inject_is_empty_seq_cst(const struct weft__inject *q)
{
    return weft__a64_load_seq_cst(&q->len) == 0; /* pairs with the store in push_chain */
}

void weft__inject_check(struct weft__inject *q)
{
    weft__lock_acquire(&q->lock);
    size_t count = 0;
    for (const struct weft__qnode *node = q->first; node != NULL; node = node->next) {
        count++;
        WEFT_ASSERT(node->next != NULL || node == q->last);
    }
    WEFT_ASSERT(count == weft__a64_load_relaxed(&q->len));
    weft__lock_release(&q->lock);
}
