/*
 * Watch: a counted value that is replaced, never changed. watch.c has the value, its senders and
 * receivers, watch_wait.c what they wait for.
 *
 * Two locks. That of the ends guards the fields, for a few instructions. `writing` is held by the
 * one sender that makes a new value, also while the user's function changes its copy: two that
 * changed copies of one value at the same time would undo each other's change. It is taken before
 * the other, and receivers never take it.
 */
#ifndef WEFT_SYNC_WATCH_H
#define WEFT_SYNC_WATCH_H

#include "sync/ends.h"
#include "sync/value.h"

#include <weft/watch.h>

struct weft__watch_node {
    struct weft__watch_node *next; /* in the list of free ones */
    size_t refs;                   /* being the value; borrows. Under the lock */
    _Alignas(WEFT__VALUE_ALIGN) char value[];
};

/* The channel; all handles of senders are this pointer. */
struct weft_watch_sender {
    struct weft__ends ends; /* borrows hold references too */
    struct weft__value_type type;

    struct weft__lock writing;
    /* the context of the thread that holds `writing` while it calls a function of the user's;
     * written by that thread, and only compared by others */
    weft__aptr writer;

    /* Under the lock of the ends. */
    uint64_t version; /* from 1: one less is always unseen */
    struct weft__watch_node *current;
    struct weft__watch_node *free;
};

struct weft_watch_receiver {
    weft_watch_sender *ch;
    uint64_t seen; /* version; by the owner */
};

/* NULL for NULL. */
static inline struct weft__ends *weft__watch_ends(const weft_watch_sender *ch)
{
    return (struct weft__ends *)(uintptr_t)ch;
}
_Static_assert(offsetof(struct weft_watch_sender, ends) == 0, "a channel begins with its ends");

/* Under the lock. */
static inline struct weft__watch_node *weft__watch_pin(weft_watch_sender *ch)
{
    ch->current->refs++;
    return ch->current;
}

/* Without the lock: gives a pin up, and destroys the value with the last. */
void weft__watch_unpin(weft_watch_sender *ch, struct weft__watch_node *n);

/* False for values that can only be borrowed. */
static inline bool weft__watch_can_copy(const weft_watch_sender *ch)
{
    return ch->type.clone || ch->type.drop == NULL;
}

#endif
