#include "time/wheel.h"

#include <string.h>

#define DIGIT_BITS 6
#define SLOT_COUNT 64
#define WIDE WEFT__WHEEL_WIDE
#define WIDE_EXTRA (WEFT__WHEEL_WIDE_BITS - DIGIT_BITS) /* bits, in the levels above */

_Static_assert(WEFT__WHEEL_SHIFT + DIGIT_BITS * WEFT__WHEEL_LEVELS + WIDE_EXTRA >= 64,
               "the digits of a deadline cover a uint64_t");

/* What an entry's `level` says when it is in none of the slots. */
#define LEVEL_DUE WEFT__WHEEL_LEVELS
#define LEVEL_NEVER (WEFT__WHEEL_LEVELS + 1)

/* The most entries that are looked at in a slot above level 0 to answer next_deadline. A wheel with
 * few timers then names the exact deadline, and its thread is not woken once a level only to spread
 * entries out; with more in a slot that wake-up is cheap beside what they cost anyway. */
#define PEEK_MAX 16

static unsigned level_shift(unsigned level)
{
    return WEFT__WHEEL_SHIFT + DIGIT_BITS * level + (level > WIDE ? WIDE_EXTRA : 0);
}

static unsigned slot_at(unsigned level, uint64_t t_ns)
{
    unsigned count = level == WIDE ? WEFT__WHEEL_WIDE_SLOTS : SLOT_COUNT;
    return (unsigned)(t_ns >> level_shift(level)) % count;
}

/* The level of the highest digit in which the two differ. What differs only below the digits,
 * within a slot of level 0, belongs to level 0. */
static unsigned level_between(uint64_t now_ns, uint64_t deadline_ns)
{
    uint64_t differ = (now_ns ^ deadline_ns) >> WEFT__WHEEL_SHIFT;
    unsigned bit = differ == 0 ? 0 : 63 - (unsigned)__builtin_clzll(differ);
    if (bit < DIGIT_BITS * (WIDE + 1))
        return bit / DIGIT_BITS;
    return bit < DIGIT_BITS * (WIDE + 1) + WIDE_EXTRA ? WIDE : (bit - WIDE_EXTRA) / DIGIT_BITS;
}

static struct weft__node *head_of(const struct weft__wheel *w, unsigned level, unsigned slot)
{
    unsigned before = SLOT_COUNT * level;
    if (level > WIDE)
        before += WEFT__WHEEL_WIDE_SLOTS - SLOT_COUNT;
    return (struct weft__node *)&w->slot[before + slot];
}

static bool is_occupied(const struct weft__wheel *w, unsigned level, unsigned slot)
{
    const uint64_t *word = level == WIDE ? &w->wide[slot / 64] : &w->occupied[level];
    return *word >> slot % 64 & 1;
}

static void mark_occupied(struct weft__wheel *w, unsigned level, unsigned slot)
{
    if (level == WIDE) {
        w->wide[slot / 64] |= UINT64_C(1) << slot % 64;
        slot /= 64;
    }
    w->occupied[level] |= UINT64_C(1) << slot;
}

static void mark_empty(struct weft__wheel *w, unsigned level, unsigned slot)
{
    if (level == WIDE) {
        w->wide[slot / 64] &= ~(UINT64_C(1) << slot % 64);
        slot /= 64;
        if (w->wide[slot] != 0)
            return;
    }
    w->occupied[level] &= ~(UINT64_C(1) << slot);
}

/* When a slot has something to do on account of one entry: at the deadline in level 0, above it at
 * the start of the slot. */
static uint64_t event_ns(unsigned level, uint64_t deadline_ns)
{
    return level == 0 ? deadline_ns : deadline_ns >> level_shift(level) << level_shift(level);
}

static struct weft__wheel_entry *entry_of(struct weft__node *n)
{
    return WEFT__CONTAINER_OF(n, struct weft__wheel_entry, node);
}

static const struct weft__wheel_entry *entry_of_const(const struct weft__node *n)
{
    return WEFT__CONTAINER_OF(n, const struct weft__wheel_entry, node);
}

static bool earliest_slot(const struct weft__wheel *w, unsigned *ret_level, unsigned *ret_slot)
{
    for (unsigned level = 0; level < WEFT__WHEEL_LEVELS; level++) {
        if (w->occupied[level] == 0)
            continue;
        *ret_level = level;
        unsigned slot = (unsigned)__builtin_ctzll(w->occupied[level]);
        *ret_slot = level == WIDE ? 64 * slot + (unsigned)__builtin_ctzll(w->wide[slot]) : slot;
        return true;
    }
    return false;
}

/* None is earlier than bound_ns. */
static uint64_t earliest_from(const struct weft__node *head, uint64_t bound_ns)
{
    uint64_t earliest_ns = WEFT_NEVER;
    for (const struct weft__node *n = head->next; n != head && earliest_ns > bound_ns; n = n->next)
        if (entry_of_const(n)->deadline_ns < earliest_ns)
            earliest_ns = entry_of_const(n)->deadline_ns;
    return earliest_ns;
}

static uint64_t earliest_in(const struct weft__node *head)
{
    return earliest_from(head, 0);
}

/* The earliest deadline of a slot above level 0, or its start when that would take too long. */
static uint64_t peek_into(const struct weft__node *head, uint64_t start_ns)
{
    uint64_t earliest_ns = WEFT_NEVER;
    unsigned seen = 0;
    for (const struct weft__node *n = head->next; n != head; n = n->next) {
        if (++seen > PEEK_MAX)
            return start_ns;
        if (entry_of_const(n)->deadline_ns < earliest_ns)
            earliest_ns = entry_of_const(n)->deadline_ns;
    }
    return earliest_ns;
}

static void refresh_next(struct weft__wheel *w)
{
    unsigned level, slot;
    w->next_is_exact = true;
    if (!earliest_slot(w, &level, &slot)) {
        w->next_ns = w->wake_ns = WEFT_NEVER;
        return;
    }
    const struct weft__node *head = head_of(w, level, slot);
    if (level == 0) {
        w->next_ns = w->wake_ns = earliest_in(head);
        return;
    }
    w->next_ns = event_ns(level, entry_of_const(head->next)->deadline_ns);
    w->wake_ns = peek_into(head, w->next_ns);
}

static void link_due(struct weft__wheel *w, struct weft__wheel_entry *e)
{
    if (weft__list_is_empty(&w->due) || e->deadline_ns < w->due_ns)
        w->due_ns = e->deadline_ns;
    e->level = LEVEL_DUE;
    weft__list_push_back(&w->due, &e->node);
}

/* Puts an unlinked entry where its deadline belongs as seen from now_ns. */
static void link_entry(struct weft__wheel *w, struct weft__wheel_entry *e)
{
    if (e->deadline_ns <= w->now_ns) {
        link_due(w, e);
        return;
    }
    unsigned level = level_between(w->now_ns, e->deadline_ns);
    unsigned slot = slot_at(level, e->deadline_ns);
    e->level = (uint8_t)level;
    e->slot = (uint16_t)slot;
    struct weft__node *head = head_of(w, level, slot);
    if (!is_occupied(w, level, slot)) {
        weft__list_init(head);
        mark_occupied(w, level, slot);
    }
    weft__list_push_back(head, &e->node);
}

/* Empties the slot into `to`, in order. */
static void empty_slot(struct weft__wheel *w, unsigned level, unsigned slot, struct weft__node *to)
{
    weft__list_splice_back(to, head_of(w, level, slot));
    mark_empty(w, level, slot);
}

/* Moves what is due of a level-0 slot that has begun, and time as far as that allows. */
static void take_slot(struct weft__wheel *w, unsigned slot, uint64_t now_ns)
{
    struct weft__node entries;
    weft__list_init(&entries);
    empty_slot(w, 0, slot, &entries);

    uint64_t last_ns =
        entry_of(entries.next)->deadline_ns | ((UINT64_C(1) << WEFT__WHEEL_SHIFT) - 1);
    /* Not beyond the slot, though now_ns may be years later: the slots that follow are taken one by
     * one, and an entry that is inserted meanwhile for one of them still falls into its place. */
    w->now_ns = now_ns < last_ns ? now_ns : last_ns;
    for (struct weft__node *n; (n = weft__list_pop_front(&entries)) != NULL;)
        link_entry(w, entry_of(n)); /* due, or back into the same slot */
}

/* Time reaches the start of a slot above level 0: its entries go to the levels below. */
static void spread_slot(struct weft__wheel *w, unsigned level, unsigned slot)
{
    struct weft__node entries;
    weft__list_init(&entries);
    empty_slot(w, level, slot, &entries);

    w->now_ns = event_ns(level, entry_of(entries.next)->deadline_ns);
    for (struct weft__node *n; (n = weft__list_pop_front(&entries)) != NULL;)
        link_entry(w, entry_of(n));
}

void weft__wheel_init(struct weft__wheel *w, uint64_t now_ns)
{
    w->now_ns = now_ns;
    w->count = 0;
    w->next_ns = w->wake_ns = WEFT_NEVER;
    w->next_is_exact = true;
    w->due_ns = 0;
    weft__list_init(&w->due);
    weft__list_init(&w->never);
    memset(w->occupied, 0, sizeof w->occupied);
    memset(w->wide, 0, sizeof w->wide);
}

void weft__wheel_entry_init(struct weft__wheel_entry *e)
{
    weft__list_init(&e->node);
    e->deadline_ns = WEFT_NEVER;
    e->level = 0;
    e->slot = 0;
}

void weft__wheel_insert(struct weft__wheel *w, struct weft__wheel_entry *e, uint64_t deadline_ns)
{
    WEFT_DEBUG_ASSERT(!weft__wheel_entry_is_linked(e));
    e->deadline_ns = deadline_ns;
    w->count++;
    if (deadline_ns == WEFT_NEVER) {
        e->level = LEVEL_NEVER;
        weft__list_push_back(&w->never, &e->node);
        return;
    }
    link_entry(w, e);
    if (e->level == LEVEL_DUE)
        return;

    /* next_ns, exact or not, is a lower bound for all the others. */
    uint64_t at_ns = event_ns(e->level, deadline_ns);
    if (at_ns < w->next_ns) {
        w->next_ns = at_ns;
        w->wake_ns = deadline_ns;
        w->next_is_exact = true;
    } else if (at_ns == w->next_ns && deadline_ns < w->wake_ns) {
        w->wake_ns = deadline_ns;
    }
}

void weft__wheel_remove(struct weft__wheel *w, struct weft__wheel_entry *e)
{
    if (!weft__wheel_entry_is_linked(e))
        return;
    weft__list_remove(&e->node);
    w->count--;
    if (e->level >= WEFT__WHEEL_LEVELS)
        return;
    bool was_last = weft__list_is_empty(head_of(w, e->level, e->slot));
    if (was_last)
        mark_empty(w, e->level, e->slot);
    if (event_ns(e->level, e->deadline_ns) == w->next_ns &&
        (was_last || e->deadline_ns == w->wake_ns))
        w->next_is_exact = false;
}

struct weft__wheel_entry *weft__wheel_take_due(struct weft__wheel *w, uint64_t now_ns)
{
    for (;;) {
        struct weft__node *n = weft__list_pop_front(&w->due);
        if (n != NULL) {
            w->count--;
            return entry_of(n);
        }
        if (now_ns < w->next_ns)
            break; /* the usual case, two comparisons */
        if (!w->next_is_exact) {
            refresh_next(w);
            continue;
        }
        unsigned level, slot;
        if (!earliest_slot(w, &level, &slot))
            break;
        if (level == 0)
            take_slot(w, slot, now_ns);
        else
            spread_slot(w, level, slot);
        w->next_is_exact = false; /* next_ns remains a bound; the next event is found when needed */
    }
    /* No slot begins up to here, so no digit that any entry was linked by changes its meaning. */
    if (now_ns > w->now_ns)
        w->now_ns = now_ns;
    return NULL;
}

struct weft__wheel_entry *weft__wheel_take_any(struct weft__wheel *w)
{
    struct weft__node *head = &w->due;
    unsigned level, slot;
    if (weft__list_is_empty(head))
        head = earliest_slot(w, &level, &slot) ? head_of(w, level, slot) : &w->never;
    if (weft__list_is_empty(head))
        return NULL;
    struct weft__wheel_entry *e = entry_of(head->next);
    weft__wheel_remove(w, e);
    return e;
}

uint64_t weft__wheel_next_deadline(struct weft__wheel *w)
{
    if (!weft__list_is_empty(&w->due))
        return w->now_ns;
    if (!w->next_is_exact)
        refresh_next(w);
    return w->wake_ns;
}

uint64_t weft__wheel_earliest(struct weft__wheel *w)
{
    unsigned level, slot;
    if (!weft__list_is_empty(&w->due)) { /* none of the slots is earlier than what left them */
        w->due_ns = earliest_from(&w->due, w->due_ns);
        return w->due_ns;
    }
    return earliest_slot(w, &level, &slot) ? earliest_in(head_of(w, level, slot)) : WEFT_NEVER;
}

static size_t check_list(const struct weft__wheel *w, const struct weft__node *head, unsigned level,
                         unsigned slot)
{
    size_t count = 0;
    for (const struct weft__node *n = head->next; n != head; n = n->next, count++) {
        const struct weft__wheel_entry *e = entry_of_const(n);
        WEFT_ASSERT(n->next->prev == n);
        WEFT_ASSERT(n->prev->next == n);
        WEFT_ASSERT(e->level == level);
        if (level == LEVEL_DUE) {
            WEFT_ASSERT(e->deadline_ns <= w->now_ns);
            WEFT_ASSERT(e->deadline_ns >= w->due_ns);
        } else if (level == LEVEL_NEVER) {
            WEFT_ASSERT(e->deadline_ns == WEFT_NEVER);
        } else {
            WEFT_ASSERT(e->deadline_ns != WEFT_NEVER);
            WEFT_ASSERT(e->deadline_ns > w->now_ns);
            WEFT_ASSERT(e->slot == slot);
            WEFT_ASSERT(level_between(w->now_ns, e->deadline_ns) == level);
            WEFT_ASSERT(slot_at(level, e->deadline_ns) == slot);
            WEFT_ASSERT(w->next_ns <= event_ns(level, e->deadline_ns));
        }
    }
    return count;
}

void weft__wheel_check(const struct weft__wheel *w)
{
    size_t count = check_list(w, &w->due, LEVEL_DUE, 0) + check_list(w, &w->never, LEVEL_NEVER, 0);
    for (unsigned level = 0; level < WEFT__WHEEL_LEVELS; level++) {
        unsigned slots = level == WIDE ? WEFT__WHEEL_WIDE_SLOTS : SLOT_COUNT;
        for (unsigned slot = 0; slot < slots; slot++) {
            if (level == WIDE && slot % 64 == 0)
                WEFT_ASSERT((w->wide[slot / 64] != 0) == (w->occupied[level] >> slot / 64 & 1));
            if (!is_occupied(w, level, slot))
                continue;
            size_t here = check_list(w, head_of(w, level, slot), level, slot);
            WEFT_ASSERT(here != 0);
            count += here;
        }
    }
    WEFT_ASSERT(count == w->count);

    if (!w->next_is_exact)
        return;
    unsigned level, slot;
    if (!earliest_slot(w, &level, &slot)) {
        WEFT_ASSERT(w->next_ns == WEFT_NEVER);
        WEFT_ASSERT(w->wake_ns == WEFT_NEVER);
        return;
    }
    uint64_t earliest_ns = earliest_in(head_of(w, level, slot));
    WEFT_ASSERT(w->next_ns == event_ns(level, earliest_ns));
    WEFT_ASSERT(w->wake_ns == w->next_ns || w->wake_ns == earliest_ns);
}
