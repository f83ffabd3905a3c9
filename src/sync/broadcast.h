/*
 * Broadcast: a ring of positions, each with a counted item, under one lock. broadcast.c has the
 * ring, its senders and receivers, broadcast_wait.c what they wait for.
 *
 * Positions count up for ever; position p lies in slot p & mask. The tail is the next to be sent;
 * a receiver knows the next it will read. What lies more than the capacity behind the tail has been
 * overwritten, so a receiver finds out how much it has lost by a subtraction.
 *
 * An item is in a node, and a slot points at it. The node counts how many receivers have still to
 * read it (`unread`): the last one empties the slot. Receivers read in order; but one that leaves
 * gives up what it has not read a few items at a time, and others send and read meanwhile, so that
 * there may be gaps between the slots in use.
 *
 * Clone and drop functions are the user's and run without the lock. So a node is counted as well
 * (`refs`: its slot, and each receiver that is cloning it): a sender that overwrites an item while
 * it is cloned takes the node out of the slot, and the receiver that ends last destroys it. The
 * sender takes another node meanwhile: there are two to spare, and more are made when more are
 * needed at once than ever before. In steady state nothing is allocated. Nodes lie in one block
 * with the channel and are not touched before they are needed: a channel of great capacity takes
 * address space, and memory for the items that were ever kept at once.
 */
#ifndef WEFT_SYNC_BROADCAST_H
#define WEFT_SYNC_BROADCAST_H

#include "sync/ends.h"
#include "sync/value.h"

#include <weft/broadcast.h>

struct weft__broadcast_node {
    struct weft__broadcast_node *next; /* in a list of free or dead ones */
    size_t unread; /* receivers that have still to read it, while it is in a slot */
    size_t refs;   /* its slot, and receivers that are cloning it */
    _Alignas(WEFT__VALUE_ALIGN) char value[];
};

struct weft__broadcast_extra {
    struct weft__broadcast_extra *next;
    _Alignas(WEFT__VALUE_ALIGN) char node[];
};

/* The channel; all handles of senders are this pointer. */
struct weft_broadcast_sender {
    struct weft__ends ends;
    /* Fixed. */
    struct weft__value_type type;
    size_t capacity; /* a power of two */
    size_t node_bytes;

    /* Under the lock of the ends, which guards `next` of the receivers as well. */
    uint64_t tail; /* the position sent next */
    size_t kept;   /* slots in use */
    struct weft__broadcast_node *free;
    char *fresh, *fresh_end;             /* nodes made with the channel that were never used */
    struct weft__broadcast_extra *extra; /* nodes allocated later than the channel */
    struct weft__broadcast_node *slot[];
};

struct weft_broadcast_receiver {
    weft_broadcast_sender *ch;
    uint64_t next; /* the position read next; under the lock */
};

/* NULL for NULL. */
static inline struct weft__ends *weft__broadcast_ends(const weft_broadcast_sender *ch)
{
    return (struct weft__ends *)(uintptr_t)ch;
}
_Static_assert(offsetof(struct weft_broadcast_sender, ends) == 0, "a channel begins with its ends");

/* All of these under the lock. */

static inline struct weft__broadcast_node **weft__broadcast_slot(weft_broadcast_sender *ch,
                                                                 uint64_t position)
{
    return &ch->slot[position & (ch->capacity - 1)];
}

/* The oldest position that is not overwritten. */
static inline uint64_t weft__broadcast_oldest(const weft_broadcast_sender *ch)
{
    return ch->tail > ch->capacity ? ch->tail - ch->capacity : 0;
}

/* One receiver needs this position no more. Nodes with values to destroy go to *dead. */
void weft__broadcast_mark_read(weft_broadcast_sender *ch, uint64_t position,
                               struct weft__broadcast_node **dead);
/* Gives a reference to a node up. Likewise. */
void weft__broadcast_unref_node(weft_broadcast_sender *ch, struct weft__broadcast_node *n,
                                struct weft__broadcast_node **dead);

/* Without the lock: destroys what is in the list, and frees the nodes for others. */
void weft__broadcast_bury(weft_broadcast_sender *ch, struct weft__broadcast_node *dead);

#endif
