/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The explorer against a structure that is known to be hard: the work-stealing deque of Chase and
 * Lev, which is no part of weft. As it should be it passes; with each of the mistakes that people
 * have made in it, it fails.
 *
 * Source: D. Chase, Y. Lev, "Dynamic circular work-stealing deque", SPAA 2005; the orders are those
 * of N. M. Le, A. Pop, A. Cohen, F. Zappa Nardelli, "Correct and efficient work-stealing for weak
 * memory models", PPoPP 2013, with seq_cst operations in place of fences.
 */
#include "model.h"

#include "atomic/atomic.h"
#include "base/base.h"
#include "base/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CAP 2u
#define ITEMS 6
#define EMPTY NULL

static enum bug {
    NONE,
    PUSH_RELAXED,        /* the item is not published */
    PUSH_WITHOUT_LOOK,   /* over what is in the ring */
    POP_RELEASE,         /* bottom moves behind the look at top */
    POP_ACQUIRE,         /* the look at top is an old one */
    POP_LOOKS_FIRST,     /* at top, then moves bottom */
    POP_WITHOUT_CONTEST, /* takes the last one as any other */
    POP_LEAVES_BOTTOM,   /* does not put it back when there was nothing */
    STEAL_ACQUIRE,       /* the look at bottom is an old one */
    STEAL_RELAXED,       /* the same, and what was published is not seen */
    STEAL_BOTTOM_FIRST,  /* looks at bottom, then at top */
    STEAL_BY_STORE,      /* two thieves win */
    STEAL_READS_LATE,    /* the slot, after it has won */
} bug;

struct item {
    int number;
};

static struct item items[ITEMS];
static int pushed, seen[ITEMS];
static weft__a32 top, bottom; /* moved by all; by the owner */
static weft__aptr slot[CAP];

/* ---- the deque ---- */

static bool push(struct item *x)
{
    uint32_t b = weft__a32_load_relaxed(&bottom);
    uint32_t t = weft__a32_load_acquire(&top);
    if (b - t >= CAP && bug != PUSH_WITHOUT_LOOK)
        return false;
    weft__aptr_store_relaxed(&slot[b % CAP], x);
    if (bug == PUSH_RELAXED)
        weft__a32_store_relaxed(&bottom, b + 1);
    else
        weft__a32_store_release(&bottom, b + 1);
    return true;
}

/* Announces that the newest one is the owner's, then looks whether a thief wants it. */
static uint32_t announce(uint32_t b)
{
    if (bug == POP_LOOKS_FIRST) {
        uint32_t t = weft__a32_load_seq_cst(&top);
        weft__a32_store_seq_cst(&bottom, b);
        return t;
    }
    if (bug == POP_RELEASE)
        weft__a32_store_release(&bottom, b);
    else
        weft__a32_store_seq_cst(&bottom, b);
    return bug == POP_ACQUIRE ? weft__a32_load_acquire(&top) : weft__a32_load_seq_cst(&top);
}

static struct item *pop(void)
{
    uint32_t b = weft__a32_load_relaxed(&bottom) - 1;
    uint32_t t = announce(b);
    if ((int32_t)(b - t) < 0) {
        if (bug != POP_LEAVES_BOTTOM)
            weft__a32_store_relaxed(&bottom, b + 1);
        return EMPTY;
    }
    struct item *x = weft__aptr_load_relaxed(&slot[b % CAP]);
    if (b != t || bug == POP_WITHOUT_CONTEST)
        return x;
    /* the last one, which a thief may want as well */
    if (!weft__a32_cas_seq_cst(&top, &t, t + 1))
        x = EMPTY;
    weft__a32_store_relaxed(&bottom, b + 1);
    return x;
}

static uint32_t look_at_bottom(void)
{
    return bug == STEAL_ACQUIRE   ? weft__a32_load_acquire(&bottom)
           : bug == STEAL_RELAXED ? weft__a32_load_relaxed(&bottom)
                                  : weft__a32_load_seq_cst(&bottom);
}

static bool win(uint32_t t)
{
    if (bug != STEAL_BY_STORE)
        return weft__a32_cas_seq_cst(&top, &t, t + 1);
    weft__a32_store_seq_cst(&top, t + 1);
    return true;
}

static struct item *steal(void)
{
    uint32_t b = bug == STEAL_BOTTOM_FIRST ? look_at_bottom() : 0;
    uint32_t t = weft__a32_load_seq_cst(&top);
    if (bug != STEAL_BOTTOM_FIRST)
        b = look_at_bottom();
    if ((int32_t)(b - t) <= 0)
        return EMPTY;
    if (bug == STEAL_READS_LATE)
        return win(t) ? weft__aptr_load_relaxed(&slot[t % CAP]) : EMPTY;
    struct item *x = weft__aptr_load_relaxed(&slot[t % CAP]);
    return win(t) ? x : EMPTY;
}

/* ---- who uses it ---- */

static void see(struct item *x)
{
    if (x == EMPTY)
        return;
    WEFT__MODEL_READ(&x->number);
    MODEL_CHECK(x->number >= 0 && x->number < ITEMS);
    MODEL_CHECK(seen[x->number] == 0);
    seen[x->number] = 1;
}

static void push_next(void)
{
    WEFT__MODEL_WRITE(&items[pushed].number);
    items[pushed].number = pushed;
    if (push(&items[pushed]))
        pushed++;
}

static void deque_init(uint32_t at, int full)
{
    memset(seen, 0, sizeof seen);
    memset(items, -1, sizeof items);
    pushed = 0;
    weft__a32_store_relaxed(&top, at);
    weft__a32_store_relaxed(&bottom, at);
    for (unsigned i = 0; i < CAP; i++)
        weft__aptr_store_relaxed(&slot[i], EMPTY);
    model_name(&top, sizeof top, "top");
    model_name(&bottom, sizeof bottom, "bottom");
    model_name(slot, sizeof slot, "slot");
    model_name(items, sizeof items, "item");
    for (int i = 0; i < full; i++)
        push_next();
}

static void init_empty(void)
{
    deque_init(7, 0);
}
static void init_full(void)
{
    deque_init(7, CAP);
}
static void init_full_at_wrap(void)
{
    deque_init(UINT32_MAX, CAP);
}

static void nothing_is_lost(void)
{
    struct item *x;
    while ((x = pop()) != EMPTY)
        see(x);
    for (int i = 0; i < ITEMS; i++)
        MODEL_CHECK(seen[i] == (i < pushed));
}

static void owner_pushes(void)
{
    push_next();
    push_next();
}
static void owner_pops(void)
{
    see(pop());
}
static void owner_pops_twice(void)
{
    see(pop());
    see(pop());
}
static void owner_pops_and_pushes(void)
{
    see(pop());
    push_next();
    push_next();
    see(pop());
}
static void owner_finds_nothing(void)
{
    see(pop());
    push_next();
    MODEL_CHECK(pushed == 1);
}
static void owner_uses_slots_again(void)
{
    push_next();
    push_next();
    see(pop());
}
static void thief(void)
{
    see(steal());
}
static void thief_twice(void)
{
    see(steal());
    see(steal());
}

/* X(program, bug, init, owner, thief, another one): NONE must pass, all others must fail */
#define PROGRAMS(X)                                                                                \
    X(pushes_against_two_thieves, NONE, init_empty, owner_pushes, thief, thief)                    \
    X(pops_against_a_thief, NONE, init_full, owner_pops_twice, thief_twice, NULL)                  \
    X(pops_against_two_thieves, NONE, init_full, owner_pops_twice, thief, thief)                   \
    X(pops_and_pushes_against_two_thieves, NONE, init_full, owner_pops_and_pushes, thief, thief)   \
    X(slots_used_again, NONE, init_full, owner_uses_slots_again, thief_twice, NULL)                \
    X(counters_that_wrap, NONE, init_full_at_wrap, owner_pops_and_pushes, thief_twice, NULL)       \
    X(push_relaxed, PUSH_RELAXED, init_empty, owner_pushes, thief, NULL)                           \
    X(push_without_a_look, PUSH_WITHOUT_LOOK, init_full, owner_pushes, NULL, NULL)                 \
    X(pop_release, POP_RELEASE, init_full, owner_pops, thief_twice, NULL)                          \
    X(pop_acquire, POP_ACQUIRE, init_full, owner_pops, thief_twice, NULL)                          \
    X(pop_looks_first, POP_LOOKS_FIRST, init_full, owner_pops, thief_twice, NULL)                  \
    X(pop_without_contest, POP_WITHOUT_CONTEST, init_full, owner_pops_twice, thief, NULL)          \
    X(pop_leaves_bottom, POP_LEAVES_BOTTOM, init_empty, owner_finds_nothing, NULL, NULL)           \
    X(steal_acquire, STEAL_ACQUIRE, init_full, owner_pops, thief_twice, NULL)                      \
    X(steal_relaxed, STEAL_RELAXED, init_empty, owner_pushes, thief, NULL)                         \
    X(steal_bottom_first, STEAL_BOTTOM_FIRST, init_full, owner_pops, thief, thief)                 \
    X(steal_by_store, STEAL_BY_STORE, init_full, owner_pops, thief, thief)                         \
    X(steal_reads_late, STEAL_READS_LATE, init_full, owner_uses_slots_again, thief, NULL)

/* What is not published, or is used again too early, races before anything else goes wrong. */
static enum model_failure how_it_shows(enum bug seeded)
{
    return seeded == PUSH_RELAXED || seeded == STEAL_RELAXED || seeded == STEAL_READS_LATE
               ? MODEL_RACE
               : MODEL_CHECK_FAILED;
}

#define DEFINE(program, seeded, init_with, owner, one, other)                                      \
    static void init_##program(void)                                                               \
    {                                                                                              \
        bug = seeded;                                                                              \
        init_with();                                                                               \
    }                                                                                              \
    static void program(void **state)                                                              \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {.name = "deque: " #program,                                 \
                                       .init = init_##program,                                     \
                                       .thread = {owner, one, other},                              \
                                       .check = nothing_is_lost};                                  \
        if (seeded == NONE)                                                                        \
            model_passes(&m);                                                                      \
        else                                                                                       \
            model_fails(&m, how_it_shows(seeded));                                                 \
    }
PROGRAMS(DEFINE)

#define TEST(program, ...) cmocka_unit_test(program),

int main(void)
{
    const struct CMUnitTest tests[] = {PROGRAMS(TEST)};
    return cmocka_run_group_tests_name("model deque", tests, NULL, NULL);
}
