#include "sched/runq.h"

/*
 * Why reading a slot before winning it is safe. All writes to head are compare-exchanges that add
 * to it, so they form one chain. The owner overwrites the slot of index i only after it has seen a
 * head above i; then the link of the chain that starts at or below i exists already, a second
 * compare-exchange from there fails, and whatever was read from the slot is dropped. Success thus
 * means that no slot from the old head on had been overwritten when it was read, whatever the
 * orders; these are needed for what is *in* the tasks, and for a reader that is done against a
 * writer that comes after, and stand at each operation.
 */

static uint32_t half_rounded_up(uint32_t count)
{
    return count - count / 2;
}

void weft__runq_init(struct weft__runq *q)
{
    weft__a32_store_relaxed(&q->head, 0);
    weft__a32_store_relaxed(&q->tail, 0);
    for (unsigned i = 0; i < WEFT__RUNQ_CAP; i++)
        weft__aptr_store_relaxed(&q->slot[i], NULL);
}

void weft__runq_bring_forward(struct weft__runq *q, uint32_t n)
{
    /* all relaxed: our own stores, and no other thread looks at slots */
    uint32_t head = weft__a32_load_relaxed(&q->head);
    WEFT_DEBUG_ASSERT(n < weft__runq_between(head, weft__a32_load_relaxed(&q->tail)));
    weft__aptr *first = &q->slot[head & WEFT__RUNQ_MASK];
    weft__aptr *other = &q->slot[(head + n) & WEFT__RUNQ_MASK];
    void *task = weft__aptr_load_relaxed(first);
    weft__aptr_store_relaxed(first, weft__aptr_load_relaxed(other));
    weft__aptr_store_relaxed(other, task);
}

unsigned weft__runq_steal_half(struct weft__runq *from, struct weft__runq *to,
                               struct weft__task **ret_first)
{
    WEFT_DEBUG_ASSERT(from != to);
    uint32_t to_tail = weft__a32_load_relaxed(&to->tail); /* our own last store */
    uint32_t to_room = weft__runq_room(to, to_tail);      /* can only grow under us */

    for (;;) {
        /* acquire, and before tail: tail is then not behind head, and their difference not
         * negative. Pairs with the release of whoever moved head. mutation: a negative difference
         * is more than CAP, and the loop goes round. */
        uint32_t head = weft__a32_load_acquire(&from->head);
        /* acquire pairs with the release of tail in push: the slots, and what is in the tasks. */
        uint32_t count = weft__runq_between(head, weft__a32_load_acquire(&from->tail));
        if (count == 0)
            return 0;
        if (count > WEFT__RUNQ_CAP)
            continue; /* head has moved on since it was read */
        uint32_t take = half_rounded_up(count);
        if (take > to_room + 1)
            take = to_room + 1; /* the first one needs no slot */

        struct weft__task *first = weft__aptr_load_relaxed(&from->slot[head & WEFT__RUNQ_MASK]);
        /* Straight into the free slots of `to`, where nobody looks as long as tail is not moved: if
         * the exchange fails they stay free. */
        for (uint32_t i = 1; i < take; i++) {
            struct weft__task *task =
                weft__aptr_load_relaxed(&from->slot[(head + i) & WEFT__RUNQ_MASK]);
            weft__aptr_store_relaxed(&to->slot[(to_tail + i - 1) & WEFT__RUNQ_MASK], task);
        }
        /* release pairs with the acquire in weft__runq_room(): we are done reading before `from`'s
         * owner may write these slots again. Failure loads both counters anew. mutation: loads that
         * come before a store, which the explorer never lets change places. */
        if (!weft__a32_cas_release(&from->head, &head, head + take))
            continue;

        /* seq_cst, not release: a thief that finds more than it needs looks for idle workers next,
         * as after push_seq_cst. Beside a steal the difference does not show. mutation: what could
         * be missed is a helper, not a task: this thief runs them all by itself. */
        if (take > 1)
            weft__a32_store_seq_cst(&to->tail, to_tail + take - 1);
        *ret_first = first;
        return take;
    }
}

unsigned weft__runq_steal_some(struct weft__runq *from, struct weft__task **tasks, unsigned max)
{
    for (;;) {
        /* both acquire, and in this order, as in steal_half. mutation: likewise */
        uint32_t head = weft__a32_load_acquire(&from->head);
        uint32_t count = weft__runq_between(head, weft__a32_load_acquire(&from->tail));
        if (count == 0)
            return 0;
        if (count > WEFT__RUNQ_CAP)
            continue; /* head has moved on since it was read */
        uint32_t take = count < max ? count : max;
        for (uint32_t i = 0; i < take; i++)
            tasks[i] = weft__aptr_load_relaxed(&from->slot[(head + i) & WEFT__RUNQ_MASK]);
        /* release: as in steal_half. mutation: likewise */
        if (weft__a32_cas_release(&from->head, &head, head + take))
            return take;
    }
}

unsigned weft__runq_take_half(struct weft__runq *q, struct weft__task **tasks, unsigned max)
{
    uint32_t tail = weft__a32_load_relaxed(&q->tail); /* our own last store */
    uint32_t head = weft__a32_load_relaxed(&q->head); /* only a guess, as in pop */
    while (max != 0 && head != tail) {
        uint32_t take = half_rounded_up(weft__runq_between(head, tail));
        if (take > max)
            take = max;
        for (uint32_t i = 0; i < take; i++)
            tasks[i] = weft__aptr_load_relaxed(&q->slot[(head + i) & WEFT__RUNQ_MASK]);
        /* release: as in pop. mutation: as in steal_half, where a tail behind head is noticed. */
        if (weft__a32_cas_weak_release(&q->head, &head, head + take))
            return take;
    }
    return 0;
}

unsigned weft__runq_len_seq_cst(const struct weft__runq *q)
{
    /* head first. Then tail is not behind it, and 0 means that the queue was empty when tail was
     * read: head had not passed tail then and cannot be behind what was read before. A head that
     * has moved on since makes the queue look fuller than it is, which costs the caller one more
     * search; so does one that is old, hence acquire is enough. seq_cst on tail pairs with the
     * stores of tail in push_seq_cst and steal_half. */
    uint32_t head = weft__a32_load_acquire(&q->head);
    uint32_t count = weft__runq_between(head, weft__a32_load_seq_cst(&q->tail));
    return count <= WEFT__RUNQ_CAP ? count : WEFT__RUNQ_CAP;
}

void weft__runq_check(const struct weft__runq *q)
{
    /* mutation: for tests, while nobody else works on the queue */
    uint32_t head = weft__a32_load_acquire(&q->head);
    /* mutation: as above */
    uint32_t count = weft__runq_between(head, weft__a32_load_acquire(&q->tail));
    WEFT_ASSERT(count <= WEFT__RUNQ_CAP);
    for (uint32_t i = 0; i < count; i++) {
        const void *task = weft__aptr_load_relaxed(&q->slot[(head + i) & WEFT__RUNQ_MASK]);
        WEFT_ASSERT(task != NULL);
        for (uint32_t j = 0; j < i; j++)
            WEFT_ASSERT(weft__aptr_load_relaxed(&q->slot[(head + j) & WEFT__RUNQ_MASK]) != task);
    }
}
