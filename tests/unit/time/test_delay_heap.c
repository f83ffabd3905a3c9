#include "time/delay_heap.h"

#include "base/base.h"
#include "sys/sys.h"
#include "sys/table.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define POOL 300

struct item {
    uint32_t who;
    char rest[9]; /* an odd size */
};

/* What should be in the heap, in the order in which it should come out. */
static struct model {
    weft_delay_key key;
    uint64_t deadline_ns;
    uint32_t who;
} sorted[POOL];
static size_t count;

static struct weft__delay_heap heap;

static uint64_t random_next(uint64_t *state)
{
    /* splitmix64; S. Vigna, public domain. */
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static struct item item_of(uint32_t who)
{
    struct item i = {.who = who};
    memset(i.rest, (int)(who % 251), sizeof i.rest);
    return i;
}

static void expect_item(const struct item *i, uint32_t who)
{
    struct item expected = item_of(who);
    assert_int_equal(i->who, who);
    assert_memory_equal(i->rest, expected.rest, sizeof expected.rest);
}

static void model_add(struct model m)
{
    size_t at = count++;
    /* Behind its equals. */
    for (; at > 0 && sorted[at - 1].deadline_ns > m.deadline_ns; at--)
        sorted[at] = sorted[at - 1];
    sorted[at] = m;
}

static struct model model_remove(size_t at)
{
    struct model m = sorted[at];
    memmove(&sorted[at], &sorted[at + 1], (--count - at) * sizeof *sorted);
    return m;
}

static bool use_block(size_t cap, size_t slot_count)
{
    struct weft__delay_block block;
    assert_int_equal(weft__delay_block_create(sizeof(struct item), cap, slot_count, &block), 0);
    bool fits = weft__delay_heap_swap_block(&heap, &block);
    weft__free(block.memory);
    return fits;
}

static void compare(void)
{
    weft__delay_heap_check(&heap);
    assert_int_equal(heap.len, count);
    const struct weft__delay_node *first = weft__delay_heap_first(&heap);
    assert_int_equal(first == NULL, count == 0);
    if (first) {
        weft_delay_entry e = weft__delay_heap_entry(&heap, first);
        assert_int_equal(e.key.id, sorted[0].key.id);
        assert_true(e.deadline_ns == sorted[0].deadline_ns);
    }
}

static int setup(void **state)
{
    (void)state;
    weft__delay_heap_init(&heap, sizeof(struct item));
    count = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    weft__free(heap.block.memory);
    return 0;
}

static void add(uint32_t who, uint64_t deadline_ns)
{
    struct item i = item_of(who);
    if (!weft__delay_heap_has_room(&heap)) {
        size_t cap = heap.block.cap ? 2 * (size_t)heap.block.cap : 1;
        size_t slots = cap > heap.block.slot_count ? cap : heap.block.slot_count;
        assert_true(use_block(cap, slots));
    }
    model_add((struct model){weft__delay_heap_insert(&heap, deadline_ns, &i), deadline_ns, who});
}

static void take_at(size_t at)
{
    struct item i;
    struct model m = model_remove(at);
    const struct weft__delay_node *n = weft__delay_heap_find(&heap, m.key);
    assert_non_null(n);
    assert_true(n->deadline_ns == m.deadline_ns);
    weft__delay_heap_remove(&heap, n, &i);
    expect_item(&i, m.who);
    assert_null(weft__delay_heap_find(&heap, m.key));
}

static void an_empty_heap_has_nothing(void **state)
{
    (void)state;
    assert_null(weft__delay_heap_first(&heap));
    assert_null(weft__delay_heap_find(&heap, (weft_delay_key){0, 0}));
    assert_null(weft__delay_heap_find(&heap, (weft_delay_key){1, 0}));
    assert_false(weft__delay_heap_has_room(&heap));
    weft__delay_heap_check(&heap);
}

static void equal_deadlines_come_out_as_they_went_in(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 100; i++)
        add(i, i % 3);
    for (uint32_t i = 0; i < 100; i++) {
        compare();
        take_at(0);
    }
    compare();
}

static void a_reset_is_a_new_place_in_the_order(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10; i++)
        add(i, 5);
    struct model m = model_remove(0);
    weft__delay_heap_reset(&heap, weft__delay_heap_find(&heap, m.key), 5);
    model_add(m);
    compare();
    assert_int_equal(sorted[9].who, 0);
    while (count > 0)
        take_at(0);
}

/* The old key's slot is used again, many times. */
static void a_spent_key_names_nothing(void **state)
{
    (void)state;
    weft_delay_key spent[50];
    for (uint32_t i = 0; i < 50; i++) {
        add(i, i);
        spent[i] = sorted[0].key;
        take_at(0);
        if (i % 10 == 9)
            assert_true(use_block(0, 0)); /* as compact does */
        add(i, 99);
        for (uint32_t j = 0; j <= i; j++)
            assert_null(weft__delay_heap_find(&heap, spent[j]));
        take_at(0);
    }
    assert_null(weft__delay_heap_find(&heap, (weft_delay_key){spent[3].id, 77}));
}

static void a_block_must_be_large_enough(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 20; i++)
        add(i, i);
    assert_false(use_block(19, 32));
    assert_false(use_block(32, 19));
    for (uint32_t i = 0; i < 19; i++)
        take_at(0);
    /* One is left, and its key needs its slot. */
    uint32_t slots = weft__delay_heap_slots_in_use(&heap);
    assert_int_equal(slots, sorted[0].key.slot + 1);
    assert_false(use_block(1, slots - 1));
    assert_true(use_block(1, slots));
    compare();
    assert_false(weft__delay_heap_has_room(&heap));
    add(20, 3);
    compare();
    take_at(0);
    take_at(0);
    assert_true(use_block(0, 0));
    assert_null(heap.block.memory);
    compare();
}

static void random_operations_agree_with_a_sorted_list(void **state)
{
    (void)state;
    for (uint64_t run = 1; run <= 40; run++) {
        uint64_t seed = run;
        uint64_t spread = UINT64_C(1) << random_next(&seed) % 64;
        for (uint32_t step = 0; step < 1500; step++) {
            uint64_t what = random_next(&seed) % 16, deadline_ns = random_next(&seed) % spread;
            if (what < 7 && count < POOL) {
                add(step, random_next(&seed) % 50 ? deadline_ns : WEFT_NEVER);
            } else if (what < 9 && count > 0) {
                take_at(random_next(&seed) % count);
            } else if (what < 11 && count > 0) {
                take_at(0);
            } else if (what < 14 && count > 0) {
                struct model m = model_remove(random_next(&seed) % count);
                m.deadline_ns = deadline_ns;
                weft__delay_heap_reset(&heap, weft__delay_heap_find(&heap, m.key), deadline_ns);
                model_add(m);
            } else if (random_next(&seed) % 8 == 0) {
                size_t slots = weft__delay_heap_slots_in_use(&heap);
                assert_true(use_block(count, slots > count ? slots : count));
            }
            compare();
        }
        while (count > 0)
            take_at(0);
    }
}

static void items_may_have_no_size(void **state)
{
    (void)state;
    struct weft__delay_heap h;
    struct weft__delay_block block;
    weft__delay_heap_init(&h, 0);
    assert_int_equal(weft__delay_block_create(0, 4, 4, &block), 0);
    assert_true(weft__delay_heap_swap_block(&h, &block));
    weft_delay_key a = weft__delay_heap_insert(&h, 2, NULL);
    (void)weft__delay_heap_insert(&h, 1, NULL);
    weft__delay_heap_check(&h);
    weft__delay_heap_remove(&h, weft__delay_heap_find(&h, a), NULL);
    assert_int_equal(h.len, 1);
    weft__free(h.block.memory);
}

/* A drop function gets them where they lie, and they may be of any type. */
static void items_are_aligned_for_any_type(void **state)
{
    (void)state;
    for (uint32_t cap = 1; cap < 10; cap++) {
        struct weft__delay_heap h;
        struct weft__delay_block block;
        long double item = 1;
        weft__delay_heap_init(&h, sizeof item);
        assert_int_equal(weft__delay_block_create(sizeof item, cap, cap, &block), 0);
        assert_true(weft__delay_heap_swap_block(&h, &block));
        (void)weft__delay_heap_insert(&h, 1, &item);
        assert_int_equal((uintptr_t)h.items % _Alignof(max_align_t), 0);
        weft__free(h.block.memory);
    }
}

static void *no_memory(size_t bytes)
{
    (void)bytes;
    return NULL;
}

static void blocks_that_cannot_be(void **state)
{
    (void)state;
    struct weft__delay_block block;
    assert_int_equal(weft__delay_block_create(1, SIZE_MAX, 1, &block), -ENOMEM);
    assert_int_equal(weft__delay_block_create(1, 1, UINT32_MAX, &block), -ENOMEM);
    assert_int_equal(weft__delay_block_create(SIZE_MAX / 2, 3, 3, &block), -ENOMEM);
    void *(*real)(size_t) = weft__sys_table.malloc;
    weft__sys_table.malloc = no_memory;
    assert_int_equal(weft__delay_block_create(8, 8, 8, &block), -ENOMEM);
    assert_int_equal(weft__delay_block_create(8, 0, 0, &block), 0);
    weft__sys_table.malloc = real;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_heap_has_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(equal_deadlines_come_out_as_they_went_in, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reset_is_a_new_place_in_the_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_spent_key_names_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_block_must_be_large_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(random_operations_agree_with_a_sorted_list, setup,
                                        teardown),
        cmocka_unit_test(items_may_have_no_size),
        cmocka_unit_test(items_are_aligned_for_any_type),
        cmocka_unit_test(blocks_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
