#include "time/wheel.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SLOT_NS (UINT64_C(1) << WEFT__WHEEL_SHIFT)

static struct weft__wheel wheel; /* 9 KiB: too much for a frame */

static uint64_t monotonic_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * WEFT_SEC + (uint64_t)ts.tv_nsec;
}

/* splitmix64; S. Vigna, public domain. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t random_seed(const char *test)
{
    const char *fixed = getenv("WEFT_TEST_SEED");
    uint64_t seed = fixed != NULL ? strtoull(fixed, NULL, 0) : monotonic_ns();
    print_message("%s: WEFT_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

/* Any magnitude is as likely as any other, so that every level is used. */
static uint64_t random_magnitude(uint64_t *state)
{
    uint64_t value = random_next(state);
    return value >> random_next(state) % 64;
}

static struct weft__wheel_entry *take(uint64_t now_ns)
{
    struct weft__wheel_entry *e = weft__wheel_take_due(&wheel, now_ns);
    weft__wheel_check(&wheel);
    return e;
}

/* Asserts that e is the next entry taken, at its deadline and not one nanosecond before. */
static void expect_exact(struct weft__wheel_entry *e)
{
    assert_null(take(e->deadline_ns - 1));
    assert_true(weft__wheel_next_deadline(&wheel) <= e->deadline_ns);
    assert_ptr_equal(take(e->deadline_ns), e);
    assert_false(weft__wheel_entry_is_linked(e));
}

static void empty_wheel_has_nothing_due(void **state)
{
    (void)state;
    weft__wheel_init(&wheel, 0);
    assert_true(weft__wheel_next_deadline(&wheel) == WEFT_NEVER);
    assert_null(take(0));
    assert_null(take(5 * WEFT_SEC));
    assert_null(take(UINT64_MAX));
    assert_true(weft__wheel_next_deadline(&wheel) == WEFT_NEVER);
}

static void deadline_in_the_past_or_now_is_due_at_once(void **state)
{
    (void)state;
    struct weft__wheel_entry past, present;
    weft__wheel_entry_init(&past);
    weft__wheel_entry_init(&present);
    weft__wheel_init(&wheel, 1000000);
    weft__wheel_insert(&wheel, &past, 3);
    weft__wheel_insert(&wheel, &present, 1000000);
    assert_int_equal(wheel.count, 2);
    assert_true(weft__wheel_next_deadline(&wheel) == 1000000);
    assert_ptr_equal(take(1000000), &past);
    assert_ptr_equal(take(1000000), &present);
    assert_null(take(1000000));
}

static void fires_at_the_exact_nanosecond_across_level_boundaries(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift <= 48; shift++) { /* some of them where a level begins */
        uint64_t span = SLOT_NS << shift;
        for (uint64_t start = 0; start <= 3; start++) {
            for (int64_t off = -2; off <= 2; off++) {
                /* The first slot of the level, its last one, and one that a carry reaches. */
                const uint64_t slots[] = {1, 2, 63, 1023};
                for (size_t i = 0; i < (shift <= 44 ? 4 : 3); i++) {
                    struct weft__wheel_entry e;
                    weft__wheel_entry_init(&e);
                    weft__wheel_init(&wheel, span - 2 + start);
                    weft__wheel_insert(&wheel, &e, span * slots[i] + (uint64_t)off + 8);
                    weft__wheel_check(&wheel);
                    expect_exact(&e);
                    assert_int_equal(wheel.count, 0);
                }
            }
        }
    }
}

static void entries_of_one_slot_fire_each_at_its_own_time(void **state)
{
    (void)state;
    struct weft__wheel_entry e[8];
    weft__wheel_init(&wheel, 77 * SLOT_NS);
    for (size_t i = 0; i < 8; i++) {
        weft__wheel_entry_init(&e[i]);
        weft__wheel_insert(&wheel, &e[i], 77 * SLOT_NS + 100 - 10 * i);
    }
    for (size_t i = 8; i-- > 0;) {
        assert_true(weft__wheel_next_deadline(&wheel) == e[i].deadline_ns);
        expect_exact(&e[i]);
    }
}

static void equal_deadlines_fire_in_the_order_of_insertion(void **state)
{
    (void)state;
    struct weft__wheel_entry e[6];
    const uint64_t deadline_ns = 123456789;
    weft__wheel_init(&wheel, 0);
    for (size_t i = 0; i < 6; i++) {
        weft__wheel_entry_init(&e[i]);
        weft__wheel_insert(&wheel, &e[i], deadline_ns);
        /* Ever nearer, so that each one starts in a lower level than the one before. */
        assert_null(take(deadline_ns - (deadline_ns >> 4 * (i + 1))));
    }
    for (size_t i = 0; i < 6; i++)
        assert_ptr_equal(take(deadline_ns), &e[i]);
    assert_null(take(deadline_ns));
}

static void a_jump_yields_entries_in_the_order_of_their_slots(void **state)
{
    (void)state;
    struct weft__wheel_entry e[40];
    weft__wheel_init(&wheel, 5);
    for (size_t i = 0; i < 40; i++) {
        weft__wheel_entry_init(&e[i]);
        size_t place = i * 17 % 40; /* any order but the final one */
        weft__wheel_insert(&wheel, &e[i], 5 + (SLOT_NS << place % 40));
    }
    uint64_t last_ns = 0;
    for (size_t i = 0; i < 40; i++) {
        struct weft__wheel_entry *taken = take(UINT64_MAX);
        assert_non_null(taken);
        assert_true(taken->deadline_ns > last_ns);
        last_ns = taken->deadline_ns;
    }
    assert_null(take(UINT64_MAX));
}

static void removed_entry_never_fires(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift < 64; shift++) {
        struct weft__wheel_entry gone, stays;
        weft__wheel_entry_init(&gone);
        weft__wheel_entry_init(&stays);
        weft__wheel_init(&wheel, 0);
        weft__wheel_insert(&wheel, &gone, UINT64_C(1) << shift);
        weft__wheel_insert(&wheel, &stays, (UINT64_C(1) << shift) + 1);
        weft__wheel_remove(&wheel, &gone);
        weft__wheel_check(&wheel);
        assert_int_equal(wheel.count, 1);
        assert_false(weft__wheel_entry_is_linked(&gone));
        weft__wheel_remove(&wheel, &gone); /* again: nothing */
        assert_int_equal(wheel.count, 1);
        expect_exact(&stays);
        assert_null(take(UINT64_MAX));
    }
}

static void removing_the_last_entry_clears_its_bit(void **state)
{
    (void)state;
    struct weft__wheel_entry e;
    weft__wheel_entry_init(&e);
    weft__wheel_init(&wheel, 0);
    for (unsigned shift = 0; shift < 64; shift++) {
        weft__wheel_insert(&wheel, &e, UINT64_C(1) << shift);
        weft__wheel_remove(&wheel, &e);
        for (unsigned level = 0; level < WEFT__WHEEL_LEVELS; level++)
            assert_true(wheel.occupied[level] == 0);
        assert_true(weft__wheel_next_deadline(&wheel) == WEFT_NEVER);
    }
}

static void entry_removed_while_due_is_not_taken(void **state)
{
    (void)state;
    struct weft__wheel_entry first, second;
    weft__wheel_entry_init(&first);
    weft__wheel_entry_init(&second);
    weft__wheel_init(&wheel, 0);
    weft__wheel_insert(&wheel, &first, 40);
    weft__wheel_insert(&wheel, &second, 41);
    assert_ptr_equal(take(50), &first); /* second has left its slot and waits in the due list */
    weft__wheel_remove(&wheel, &second);
    assert_null(take(50));
    assert_int_equal(wheel.count, 0);
}

static void entry_may_be_inserted_again_from_within_the_loop(void **state)
{
    (void)state;
    struct weft__wheel_entry e;
    weft__wheel_entry_init(&e);
    weft__wheel_init(&wheel, 0);
    weft__wheel_insert(&wheel, &e, 10 * WEFT_MS);
    unsigned fired_count = 0;
    /* A periodic timer that was late: it catches up, each period once. */
    while (take(WEFT_SEC) != NULL) {
        fired_count++;
        weft__wheel_insert(&wheel, &e, e.deadline_ns + 10 * WEFT_MS);
    }
    assert_int_equal(fired_count, 100);
    assert_true(wheel.now_ns == WEFT_SEC);
    assert_true(weft__wheel_entry_is_linked(&e));
}

static void never_does_not_fire(void **state)
{
    (void)state;
    struct weft__wheel_entry never, last;
    weft__wheel_entry_init(&never);
    weft__wheel_entry_init(&last);
    weft__wheel_init(&wheel, 99);
    weft__wheel_insert(&wheel, &never, WEFT_NEVER);
    weft__wheel_check(&wheel);
    assert_true(weft__wheel_next_deadline(&wheel) == WEFT_NEVER);
    weft__wheel_insert(&wheel, &last, UINT64_MAX - 1);
    expect_exact(&last);
    assert_null(take(UINT64_MAX));
    assert_true(weft__wheel_entry_is_linked(&never));
    weft__wheel_remove(&wheel, &never);
    assert_int_equal(wheel.count, 0);
}

static void take_any_yields_everything_however_far(void **state)
{
    (void)state;
    static struct weft__wheel_entry e[66];
    weft__wheel_init(&wheel, 1000);
    for (unsigned i = 0; i < 66; i++) {
        weft__wheel_entry_init(&e[i]);
        weft__wheel_insert(&wheel, &e[i], i < 64 ? UINT64_C(1) << i : WEFT_NEVER);
    }
    for (unsigned left = 66; left > 0; left--) {
        assert_int_equal(wheel.count, left);
        assert_non_null(weft__wheel_take_any(&wheel));
        weft__wheel_check(&wheel);
    }
    assert_null(weft__wheel_take_any(&wheel));
    assert_true(wheel.now_ns == 1000);
}

static void the_end_of_time_neither_wraps_nor_fires_early(void **state)
{
    (void)state;
    static struct weft__wheel_entry e[70];
    weft__wheel_init(&wheel, UINT64_MAX - 5000);
    for (size_t i = 0; i < 70; i++) {
        weft__wheel_entry_init(&e[i]);
        weft__wheel_insert(&wheel, &e[i], UINT64_MAX - 1 - i * 50);
    }
    weft__wheel_check(&wheel);
    for (size_t i = 70; i-- > 0;)
        expect_exact(&e[i]);
    assert_null(take(UINT64_MAX));
    weft__wheel_insert(&wheel, &e[0], UINT64_MAX - 1);
    assert_ptr_equal(take(UINT64_MAX), &e[0]);
}

static void time_never_goes_backwards(void **state)
{
    (void)state;
    struct weft__wheel_entry e;
    weft__wheel_entry_init(&e);
    weft__wheel_init(&wheel, 0);
    assert_null(take(WEFT_SEC));
    assert_null(take(3));
    assert_true(wheel.now_ns == WEFT_SEC);
    weft__wheel_insert(&wheel, &e, WEFT_SEC - 1);
    assert_ptr_equal(take(4), &e);
}

static void few_timers_name_their_exact_deadline_however_far(void **state)
{
    (void)state;
    struct weft__wheel_entry near, far;
    weft__wheel_entry_init(&near);
    weft__wheel_entry_init(&far);
    weft__wheel_init(&wheel, 12345);
    weft__wheel_insert(&wheel, &far, 3600 * WEFT_SEC + 7);
    assert_true(weft__wheel_next_deadline(&wheel) == 3600 * WEFT_SEC + 7);
    weft__wheel_insert(&wheel, &near, 3600 * WEFT_SEC + 3);
    assert_true(weft__wheel_next_deadline(&wheel) == 3600 * WEFT_SEC + 3);
    weft__wheel_remove(&wheel, &near);
    assert_true(weft__wheel_next_deadline(&wheel) == 3600 * WEFT_SEC + 7);
}

static void a_crowded_slot_names_its_start_until_it_is_empty(void **state)
{
    (void)state;
    static struct weft__wheel_entry e[40];
    weft__wheel_init(&wheel, 0);
    for (unsigned i = 0; i < 40; i++) {
        weft__wheel_entry_init(&e[i]);
        weft__wheel_insert(&wheel, &e[i], (SLOT_NS << 24) + 5000 - i);
    }
    weft__wheel_remove(&wheel,
                       &e[39]); /* the one that decided; the others are too many to look at */
    assert_true(weft__wheel_next_deadline(&wheel) == SLOT_NS << 24);
    for (unsigned i = 0; i < 39; i++) {
        weft__wheel_remove(&wheel, &e[i]);
        weft__wheel_check(&wheel);
    }
    assert_true(weft__wheel_next_deadline(&wheel) == WEFT_NEVER);
}

/* Sleeping until next_deadline again and again must end, and soon: one step a level at most, beside
 * the entry itself. */
static void sleeping_until_next_deadline_reaches_every_entry(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    static struct weft__wheel_entry e[COUNT];
    uint64_t seed = random_seed(__func__), now_ns = 1;
    weft__wheel_init(&wheel, now_ns);
    for (size_t i = 0; i < COUNT; i++) {
        weft__wheel_entry_init(&e[i]);
        weft__wheel_insert(&wheel, &e[i], random_magnitude(&seed));
    }
    unsigned steps = 0;
    while (weft__wheel_next_deadline(&wheel) != WEFT_NEVER) {
        now_ns = weft__wheel_next_deadline(&wheel);
        while (take(now_ns) != NULL)
            continue;
        steps++;
    }
    assert_int_equal(wheel.count, 0);
    assert_in_range(steps, 1, COUNT * WEFT__WHEEL_LEVELS);
}

/* One entry per hour of a century, taken in one jump: what is empty between them must cost nothing.
 * Slot by slot it would be 3e12 steps. */
static void jump_of_a_century_skips_what_is_empty(void **state)
{
    (void)state;
    enum { COUNT = 100 * 365 * 24 };
    struct weft__wheel_entry *e = test_calloc(COUNT, sizeof(*e));
    const uint64_t hour_ns = 3600 * WEFT_SEC;
    weft__wheel_init(&wheel, 0);
    for (size_t i = 0; i < COUNT; i++) {
        weft__wheel_entry_init(&e[i]);
        weft__wheel_insert(&wheel, &e[i], (i + 1) * hour_ns);
    }
    for (size_t i = 0; i < COUNT; i++)
        assert_ptr_equal(weft__wheel_take_due(&wheel, (COUNT + 1) * hour_ns), &e[i]);
    assert_null(take((COUNT + 1) * hour_ns));
    test_free(e);
}

/* ---- against a sorted list ---- */

enum { MODEL_MAX = 4096 };

/* An entry is due at its deadline, or when it was inserted if that was later. */
struct model_entry {
    struct weft__wheel_entry entry;
    uint64_t key_ns;
};

static struct model_entry pool[MODEL_MAX];
static struct model_entry *sorted[MODEL_MAX]; /* by key_ns, then by insertion */
static size_t sorted_count;

static void model_insert(struct model_entry *m, uint64_t now_ns, uint64_t deadline_ns)
{
    m->key_ns = deadline_ns > now_ns ? deadline_ns : now_ns;
    size_t at = sorted_count++;
    for (; at > 0 && sorted[at - 1]->key_ns > m->key_ns; at--)
        sorted[at] = sorted[at - 1];
    sorted[at] = m;
    weft__wheel_insert(&wheel, &m->entry, deadline_ns);
}

static size_t model_find(const struct model_entry *m)
{
    for (size_t i = 0; i < sorted_count; i++)
        if (sorted[i] == m)
            return i;
    fail_msg("the wheel returned an entry that is not in it");
    return 0;
}

static void model_forget(size_t at)
{
    sorted_count--;
    for (; at < sorted_count; at++)
        sorted[at] = sorted[at + 1];
}

/* WEFT_NEVER is as late as can be in the list too, and is never reached. */
static void drain_and_compare(uint64_t now_ns, size_t stop_after)
{
    for (size_t i = 0; i < stop_after; i++) {
        struct weft__wheel_entry *e = weft__wheel_take_due(&wheel, now_ns);
        if (e == NULL) {
            assert_true(wheel.now_ns == now_ns);
            if (sorted_count > 0 && sorted[0]->key_ns != WEFT_NEVER)
                assert_true(sorted[0]->key_ns > now_ns);
            return;
        }
        struct model_entry *m = WEFT__CONTAINER_OF(e, struct model_entry, entry);
        assert_true(m->key_ns <= now_ns);
        size_t at = model_find(m);
        assert_true(m->key_ns / SLOT_NS == sorted[0]->key_ns / SLOT_NS);
        if (at > 0)
            assert_true(sorted[at - 1]->key_ns < m->key_ns);
        model_forget(at);
    }
}

static uint64_t random_deadline(uint64_t *seed, uint64_t now_ns)
{
    switch (random_next(seed) % 8) {
    case 0: /* shortly before a boundary of some level, or on it, or after it */
        return (weft__add_sat(now_ns, random_magnitude(seed)) &
                ~((SLOT_NS << 6 * (random_next(seed) % 9)) - 1)) +
               random_next(seed) % 5 - 2;
    case 1: /* the same as another one */
        if (sorted_count > 0)
            return sorted[random_next(seed) % sorted_count]->entry.deadline_ns;
        return now_ns;
    case 2:
        return now_ns - random_magnitude(seed) % (now_ns + 1);
    case 3:
        return random_next(seed) % 16 == 0 ? UINT64_MAX - random_next(seed) % 3 : now_ns + 1;
    case 4:
        return weft__add_sat(now_ns, random_next(seed) % (4 * SLOT_NS));
    default:
        return weft__add_sat(now_ns, random_magnitude(seed));
    }
}

static uint64_t random_later(uint64_t *seed, uint64_t now_ns, unsigned slowness)
{
    uint64_t next_ns = weft__wheel_next_deadline(&wheel);
    switch (random_next(seed) % 6) {
    case 0:
        return now_ns;
    case 1: /* on time */
        return next_ns == WEFT_NEVER ? now_ns : next_ns;
    case 2: /* just too soon */
        return next_ns == WEFT_NEVER || next_ns <= now_ns ? now_ns : next_ns - 1;
    case 3:
        return weft__add_sat(now_ns, random_next(seed) % (100 * SLOT_NS));
    default:
        return weft__add_sat(now_ns, random_magnitude(seed) >> slowness);
    }
}

static uint64_t model_earliest(void)
{
    uint64_t earliest_ns = WEFT_NEVER;
    for (size_t i = 0; i < sorted_count; i++)
        if (sorted[i]->entry.deadline_ns < earliest_ns)
            earliest_ns = sorted[i]->entry.deadline_ns;
    return earliest_ns;
}

static void run_against_the_model(uint64_t *seed, size_t pool_count, size_t steps, bool check_each)
{
    uint64_t now_ns = random_magnitude(seed);
    /* Some runs reach the end of time soon, others crawl through the lower levels. */
    unsigned slowness = (unsigned)(random_next(seed) % 56);
    weft__wheel_init(&wheel, now_ns);
    sorted_count = 0;
    for (size_t i = 0; i < pool_count; i++)
        weft__wheel_entry_init(&pool[i].entry);

    for (size_t step = 0; step < steps; step++) {
        struct model_entry *m = &pool[random_next(seed) % pool_count];
        uint64_t what = random_next(seed) % 16;
        if (what < 12) {
            if (weft__wheel_entry_is_linked(&m->entry)) {
                model_forget(model_find(m));
                weft__wheel_remove(&wheel, &m->entry);
            }
            if (what < 9)
                model_insert(m, now_ns, random_deadline(seed, now_ns));
        } else {
            now_ns = random_later(seed, now_ns, slowness);
            if (now_ns == WEFT_NEVER)
                now_ns--; /* what was due since then would tie with what never is */
            drain_and_compare(now_ns, SIZE_MAX);
        }
        assert_int_equal(wheel.count, sorted_count);
        uint64_t next_ns = weft__wheel_next_deadline(&wheel);
        assert_true(sorted_count == 0 ? next_ns == WEFT_NEVER : next_ns <= sorted[0]->key_ns);
        if (check_each) {
            weft__wheel_check(&wheel);
            assert_true(weft__wheel_earliest(&wheel) == model_earliest());
        }
    }
    weft__wheel_check(&wheel);
    drain_and_compare(UINT64_MAX, SIZE_MAX);
    for (size_t i = 0; i < sorted_count; i++)
        assert_true(sorted[i]->entry.deadline_ns == WEFT_NEVER);
}

static void random_operations_agree_with_a_sorted_list(void **state)
{
    (void)state;
    uint64_t seed = random_seed(__func__);
    for (int run = 0; run < 60; run++)
        run_against_the_model(&seed, 1 + random_next(&seed) % 40, 600, true);
}

static void many_random_operations_agree_with_a_sorted_list(void **state)
{
    (void)state;
    /* WEFT_TEST_LONG multiplies the runs, for the nightly one. */
    const char *longer = getenv("WEFT_TEST_LONG");
    unsigned long runs = 4 * (longer != NULL ? strtoul(longer, NULL, 0) : 1);
    uint64_t seed = random_seed(__func__);
    for (unsigned long run = 0; run < runs; run++) {
        run_against_the_model(&seed, MODEL_MAX, 20000, false);
        run_against_the_model(&seed, 1 + random_next(&seed) % 8, 20000, false);
    }
}

/* The loop that takes entries may stop half-way (a budget), and what it runs may insert and remove:
 * nothing is early, nothing is forgotten. */
static void inserting_and_removing_half_way_through_a_jump_is_safe(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    uint64_t seed = random_seed(__func__);
    for (int run = 0; run < 200; run++) {
        uint64_t now_ns = random_magnitude(&seed) >> 1, base_ns = now_ns;
        weft__wheel_init(&wheel, now_ns);
        for (size_t i = 0; i < COUNT; i++)
            weft__wheel_entry_init(&pool[i].entry);
        for (int step = 0; step < 400; step++) {
            struct weft__wheel_entry *e = &pool[random_next(&seed) % COUNT].entry;
            weft__wheel_remove(&wheel, e);
            weft__wheel_insert(&wheel, e, weft__add_sat(base_ns, random_magnitude(&seed)));
            if (step % 8 == 0)
                now_ns = weft__add_sat(now_ns, random_magnitude(&seed) >> 8);
            if (step % 3 == 0) {
                struct weft__wheel_entry *taken = take(now_ns);
                if (taken != NULL)
                    assert_true(taken->deadline_ns <= now_ns);
            }
        }
        while (take(now_ns) != NULL)
            continue;
        for (size_t i = 0; i < COUNT; i++)
            if (weft__wheel_entry_is_linked(&pool[i].entry))
                assert_true(pool[i].entry.deadline_ns > now_ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_wheel_has_nothing_due),
        cmocka_unit_test(deadline_in_the_past_or_now_is_due_at_once),
        cmocka_unit_test(fires_at_the_exact_nanosecond_across_level_boundaries),
        cmocka_unit_test(entries_of_one_slot_fire_each_at_its_own_time),
        cmocka_unit_test(equal_deadlines_fire_in_the_order_of_insertion),
        cmocka_unit_test(a_jump_yields_entries_in_the_order_of_their_slots),
        cmocka_unit_test(removed_entry_never_fires),
        cmocka_unit_test(removing_the_last_entry_clears_its_bit),
        cmocka_unit_test(entry_removed_while_due_is_not_taken),
        cmocka_unit_test(entry_may_be_inserted_again_from_within_the_loop),
        cmocka_unit_test(never_does_not_fire),
        cmocka_unit_test(take_any_yields_everything_however_far),
        cmocka_unit_test(the_end_of_time_neither_wraps_nor_fires_early),
        cmocka_unit_test(time_never_goes_backwards),
        cmocka_unit_test(few_timers_name_their_exact_deadline_however_far),
        cmocka_unit_test(a_crowded_slot_names_its_start_until_it_is_empty),
        cmocka_unit_test(sleeping_until_next_deadline_reaches_every_entry),
        cmocka_unit_test(jump_of_a_century_skips_what_is_empty),
        cmocka_unit_test(random_operations_agree_with_a_sorted_list),
        cmocka_unit_test(many_random_operations_agree_with_a_sorted_list),
        cmocka_unit_test(inserting_and_removing_half_way_through_a_jump_is_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
