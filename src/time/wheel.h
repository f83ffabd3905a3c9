/*
 * Timer wheel: hierarchical, intrusive, O(1) insert and remove, nanosecond deadlines, never early.
 *
 * Pure: no clock, no lock, no threads; the caller has them. A level has 64 slots, one of them more;
 * a slot of level 0 spans 2^WEFT__WHEEL_SHIFT ns, one of the next level all that level 0 spans, and
 * so on, so that the last one holds the top bits of a uint64_t. Entries keep their exact deadline:
 * those of one slot are taken each at its own time, and never before it.
 *
 * An entry is linked where its deadline first differs from now_ns: at the level of the highest
 * differing digit, in the slot that digit names. So all entries of a level are later than all those
 * of the levels below, a digit never wraps round, and the earliest slot is the lowest bit of the
 * lowest level that has any. docs/design/timers.md says more.
 *
 * Source: G. Varghese, T. Lauck, "Hashed and Hierarchical Timing Wheels" (1987).
 */
#ifndef WEFT_TIME_WHEEL_H
#define WEFT_TIME_WHEEL_H

#include "base/base.h"
#include "base/list.h"

#define WEFT__WHEEL_SHIFT 10 /* 1.02 us a slot of level 0 */
#define WEFT__WHEEL_LEVELS 9

/* The third level, of slots of 4.2 ms, is wider: 4.3 s. A sleep that ends in them goes into its
 * slot at once, where of 64 slots one in a second would first go into one of 268 ms, of which a
 * program with a million sleepers has a quarter of a million to spread out, cold, at once. */
#define WEFT__WHEEL_WIDE 2
#ifdef WEFT_MODEL
#define WEFT__WHEEL_WIDE_BITS 6
#else
#define WEFT__WHEEL_WIDE_BITS 10
#endif
#define WEFT__WHEEL_WIDE_SLOTS (1u << WEFT__WHEEL_WIDE_BITS)
#define WEFT__WHEEL_SLOTS (64 * (WEFT__WHEEL_LEVELS - 1) + WEFT__WHEEL_WIDE_SLOTS)

struct weft__wheel_entry {
    struct weft__node node; /* empty when not in a wheel */
    uint64_t deadline_ns;
    uint8_t level; /* where it is linked; keeps the occupancy bits exact on removal */
    uint16_t slot;
};

struct weft__wheel {
    uint64_t now_ns;                       /* everything due up to this time is out of the slots */
    size_t count;                          /* entries linked, wherever */
    uint64_t occupied[WEFT__WHEEL_LEVELS]; /* bit s of level l: its slot s is not empty */
    /* of the wide level, whose own bit s says that word s is not 0 */
    uint64_t wide[WEFT__WHEEL_WIDE_SLOTS / 64];

    /* No slot has anything to do before next_ns. While next_is_exact, at next_ns one has: the
     * earliest deadline of level 0, or the start of the earliest slot above it; and wake_ns is what
     * next_deadline answers on behalf of the slots. Removing the entry that decided makes them
     * inexact, which costs nothing; finding the next one waits until asked. */
    uint64_t next_ns, wake_ns;
    bool next_is_exact;

    struct weft__node due;   /* out of the slots and not yet taken, or inserted at or before now */
    uint64_t due_ns;         /* none of due is earlier */
    struct weft__node never; /* deadline WEFT_NEVER: counted, removable, never taken */
    struct weft__node slot[WEFT__WHEEL_SLOTS]; /* by level; each valid while it is occupied */
};

void weft__wheel_init(struct weft__wheel *w, uint64_t now_ns);
void weft__wheel_entry_init(struct weft__wheel_entry *e);
static inline bool weft__wheel_entry_is_linked(const struct weft__wheel_entry *e)
{
    return !weft__list_is_empty(&e->node);
}

/* e must not be linked. A deadline at or before now is due at once. A deadline of WEFT_NEVER may be
 * inserted; it never fires. O(1). */
void weft__wheel_insert(struct weft__wheel *w, struct weft__wheel_entry *e, uint64_t deadline_ns);

/* Does nothing when e is not linked. O(1). */
void weft__wheel_remove(struct weft__wheel *w, struct weft__wheel_entry *e);

/*
 * Moves time towards now_ns (never backwards), and unlinks and returns one entry with
 * deadline_ns <= now_ns; NULL when none is left. Call it until it returns NULL: only then is time
 * at now_ns. Inserting and removing in between is fine.
 *
 * Order: by slot of level 0; within a slot any order, save that entries of equal deadline come in
 * the order in which they were inserted. Empty slots cost nothing, however far the jump.
 */
struct weft__wheel_entry *weft__wheel_take_due(struct weft__wheel *w, uint64_t now_ns);

/* Unlinks and returns any entry, due or not, those of WEFT_NEVER included; NULL when there is none.
 * For shutting down: time stays where it is. */
struct weft__wheel_entry *weft__wheel_take_any(struct weft__wheel *w);

/*
 * Returns a time at which take_due has something to do; WEFT_NEVER when there is none. It is
 *   now_ns                  when an entry is due already
 *   the earliest deadline   when that entry is in level 0 (less than 65 us away), or shares its
 *   slot
 *                           with few others
 *   a time before that      otherwise: the start of the slot, where take_due spreads its entries
 *   out
 * so never later than the earliest deadline that is still ahead, and calling take_due at the time
 * returned always makes progress. O(1) unless the entry that decided was taken or removed.
 */
uint64_t weft__wheel_next_deadline(struct weft__wheel *w);

/* The earliest deadline, exactly; WEFT_NEVER when there is none. Walks one slot, however many are
 * in it, but of those that are due no more than it must: for a clock that stands still meanwhile,
 * and a crowd of timers that are due at one moment. */
uint64_t weft__wheel_earliest(struct weft__wheel *w);

/* Walks everything and asserts the invariants; for tests. */
void weft__wheel_check(const struct weft__wheel *w);

#endif
