/*
 * Circular doubly linked intrusive list. The head is a node too, so no operation has a special case
 * for the ends. A node that is in no list points at itself, which makes remove idempotent.
 */
#ifndef WEFT_BASE_LIST_H
#define WEFT_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct weft__node {
    struct weft__node *next, *prev;
};

/* A link of a singly linked queue. Here and not beside its queue, since a task embeds one and the
 * queue is a layer above. */
struct weft__qnode {
    struct weft__qnode *next;
};

#define WEFT__CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void weft__list_init(struct weft__node *n)
{
    n->next = n->prev = n;
}

/* True for an empty head, and for a node that is in no list. */
static inline bool weft__list_is_empty(const struct weft__node *n)
{
    return n->next == n;
}

static inline void weft__list_push_back(struct weft__node *head, struct weft__node *n)
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}

static inline void weft__list_push_front(struct weft__node *head, struct weft__node *n)
{
    weft__list_push_back(head->next, n);
}

static inline void weft__list_remove(struct weft__node *n)
{
    n->next->prev = n->prev;
    n->prev->next = n->next;
    weft__list_init(n);
}

/* NULL when empty. */
static inline struct weft__node *weft__list_pop_front(struct weft__node *head)
{
    struct weft__node *n = head->next;
    if (n == head)
        return NULL;
    weft__list_remove(n);
    return n;
}

/* Moves every node of `from` to the end of `to`; `from` is empty afterwards. */
static inline void weft__list_splice_back(struct weft__node *to, struct weft__node *from)
{
    if (weft__list_is_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    weft__list_init(from);
}

#endif
