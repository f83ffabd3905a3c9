#include "sched/inject.h"

void weft__inject_init(struct weft__inject *q)
{
    weft__lock_init(&q->lock);
    q->front = q->back = (struct weft__bunch){.count = 0};
    q->full_first = q->full_last = NULL;
    q->is_closed = false;
    weft__a64_store_relaxed(&q->len, 0);
}

/* ---- full bunches ---- */

/* Nobody needs a task's result as long as it is queued. */
static void **word_in(struct weft__qnode *node)
{
    return &WEFT__CONTAINER_OF(node, struct weft__task, qnode)->result.value;
}

static void put_full(struct weft__inject *q, const struct weft__bunch *b)
{
    *word_in(b->last) = (void *)(uintptr_t)b->count;
    *word_in(b->first) = b->last; /* itself, where it is the only one */
    if (q->full_first == NULL)
        q->full_first = b->first;
    else
        q->full_last->next = b->first;
    q->full_last = b->last;
}

static struct weft__bunch full_bunch(struct weft__qnode *first)
{
    struct weft__bunch b = {.first = first, .last = *word_in(first), .count = 1};
    if (b.last != first)
        b.count = (size_t)(uintptr_t)*word_in(b.last);
    return b;
}

static struct weft__bunch take_full(struct weft__inject *q)
{
    struct weft__bunch b = full_bunch(q->full_first);
    q->full_first = b.last == q->full_last ? NULL : b.last->next;
    return b;
}

/* ---- both ends; under the lock ---- */

static void add(struct weft__bunch *to, const struct weft__bunch *b)
{
    if (to->count == 0)
        to->first = b->first;
    else
        to->last->next = b->first;
    to->last = b->last;
    to->count += b->count;
}

static void append(struct weft__inject *q, struct weft__task *first, struct weft__task *last,
                   size_t count)
{
    const struct weft__bunch b = {&first->qnode, &last->qnode, count};
    if (q->back.count + count > WEFT__BUNCH) {
        put_full(q, &q->back);
        q->back.count = 0;
    }
    add(&q->back, &b);
}

/* False: there is nothing. */
static bool fill_front(struct weft__inject *q)
{
    if (q->front.count == 0) {
        if (q->full_first != NULL) {
            q->front = take_full(q);
        } else {
            q->front = q->back;
            q->back.count = 0;
        }
    }
    return q->front.count != 0;
}

/* Of the front, which has more. */
static struct weft__bunch count_off(struct weft__inject *q, size_t count)
{
    struct weft__bunch b = {.first = q->front.first, .last = q->front.first, .count = count};
    for (size_t i = 1; i < count; i++)
        b.last = b.last->next;
    q->front.first = b.last->next;
    q->front.count -= count;
    return b;
}

/*
 * Less than a quarter of a bunch. Then the queue is short: a burst from outside for one, which is
 * to go to as many workers as there are. A task that the first has beyond its share is one that the
 * next does not find, and the last in a ring waits for the one that runs there, as nobody is woken
 * for it: eight workers had three tasks from outside running after 31 us, and after 2.5 ms when the
 * first took them all.
 */
static bool is_few(size_t count)
{
    return 4 * count < WEFT__BUNCH;
}

/* Of the front: all of it, unless that is more than max, or than the few that are wanted. */
static struct weft__bunch take_front(struct weft__inject *q, size_t want, size_t max)
{
    size_t count = q->front.count;
    if (count > max || (count > want && is_few(want)))
        return count_off(q, want);
    struct weft__bunch b = q->front;
    q->front.count = 0;
    return b;
}

/* ---- what others see ---- */

bool weft__inject_push(struct weft__inject *q, struct weft__task *task)
{
    return weft__inject_push_many(q, &task, 1);
}

bool weft__inject_push_many(struct weft__inject *q, struct weft__task *const *tasks, size_t count)
{
    WEFT_DEBUG_ASSERT(count > 0);
    for (size_t i = 0; i + 1 < count; i++)
        tasks[i]->qnode.next = &tasks[i + 1]->qnode;
    weft__lock_acquire(&q->lock);
    bool is_open = !q->is_closed;
    if (is_open) {
        for (size_t i = 0; i < count; i += WEFT__BUNCH) {
            size_t n = count - i < WEFT__BUNCH ? count - i : WEFT__BUNCH;
            append(q, tasks[i], tasks[i + n - 1], n);
        }
        /* The load is of our own making, all stores are under the lock. The store is seq_cst and
         * pairs with is_empty_seq_cst: store the task, then look for the idle; announce idleness,
         * then look for tasks. Who reads it pops under the lock, which orders the list itself. */
        weft__a64_store_seq_cst(&q->len, weft__a64_load_relaxed(&q->len) + count);
    }
    weft__lock_release(&q->lock);
    return is_open;
}

struct weft__task *weft__inject_pop(struct weft__inject *q)
{
    struct weft__task *task;
    return weft__inject_pop_many(q, 1, 1, &task) == 1 ? task : NULL;
}

size_t weft__inject_pop_many(struct weft__inject *q, size_t want, size_t max,
                             struct weft__task **ret_first)
{
    WEFT_DEBUG_ASSERT(want <= max);
    /* Workers come by every few tasks and mostly find nothing: no lock for that. relaxed: a push
     * missed by a hair is found next time round, or by the look before sleeping, which is
     * seq_cst. */
    if (weft__a64_load_relaxed(&q->len) == 0)
        return 0;

    struct weft__bunch all = {.count = 0};
    weft__lock_acquire(&q->lock);
    while (all.count < want && fill_front(q)) {
        struct weft__bunch more = take_front(q, want - all.count, max - all.count);
        add(&all, &more);
    }
    /* relaxed: a reader that misses it sees a queue that is longer than it is, and looks in vain.
     * It cannot hide a push that came after, because the lock orders the two stores. */
    weft__a64_store_relaxed(&q->len, weft__a64_load_relaxed(&q->len) - all.count);
    weft__lock_release(&q->lock);
    if (all.count != 0)
        *ret_first = WEFT__CONTAINER_OF(all.first, struct weft__task, qnode);
    return all.count;
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
    return weft__a64_load_seq_cst(&q->len) == 0; /* pairs with the store in push_many */
}

static void check_bunch(const struct weft__bunch *b)
{
    const struct weft__qnode *node = b->first;
    for (size_t i = 1; i < b->count; i++)
        node = node->next;
    WEFT_ASSERT(b->count == 0 || node == b->last);
    WEFT_ASSERT(b->count <= WEFT__BUNCH);
}

void weft__inject_check(struct weft__inject *q)
{
    weft__lock_acquire(&q->lock);
    check_bunch(&q->front);
    check_bunch(&q->back);
    size_t count = q->front.count + q->back.count;
    for (struct weft__qnode *first = q->full_first; first != NULL;) {
        struct weft__bunch b = full_bunch(first);
        check_bunch(&b);
        count += b.count;
        first = b.last == q->full_last ? NULL : b.last->next;
    }
    WEFT_ASSERT(count == weft__a64_load_relaxed(&q->len));
    weft__lock_release(&q->lock);
}
