#include "sched/lanes.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#define ITEMS 32

static struct weft__lanes lanes;
static struct weft__qnode items[ITEMS];

static int init_lanes(void **state)
{
    (void)state;
    weft__lanes_init(&lanes, false);
    return 0;
}

static size_t push(unsigned lane, int item)
{
    items[item].next = &items[0]; /* stale, as in a task that was queued before */
    size_t len = weft__lanes_push(&lanes, lane, &items[item]);
    weft__lanes_check(&lanes);
    return len;
}

static int pop(unsigned lane)
{
    struct weft__qnode *node = weft__lanes_pop(&lanes, lane);
    weft__lanes_check(&lanes);
    return node ? (int)(node - items) : -1;
}

static void empty_lanes_pop_nothing(void **state)
{
    (void)state;
    for (unsigned lane = 0; lane < WEFT__LANES; lane++)
        assert_int_equal(pop(lane), -1);
    assert_int_equal(weft__lanes_ready(&lanes), 0);
    assert_true(weft__lanes_are_empty_seq_cst(&lanes));
}

static void each_lane_keeps_its_order(void **state)
{
    (void)state;
    for (int i = 0; i < 15; i++)
        assert_int_equal(push((unsigned)i % 3, i), i / 3 + 1);
    assert_false(weft__lanes_are_empty_seq_cst(&lanes));
    assert_int_equal(weft__lanes_ready(&lanes), 7);
    for (unsigned lane = 0; lane < 3; lane++) {
        for (int i = 0; i < 5; i++) {
            assert_int_equal(weft__lanes_len(&lanes, lane), 5 - i);
            assert_int_equal(pop(lane), i * 3 + (int)lane);
        }
        assert_int_equal(weft__lanes_ready(&lanes) & 1u << lane, 0);
    }
    assert_true(weft__lanes_are_empty_seq_cst(&lanes));
}

static void random_use_loses_nothing(void **state)
{
    (void)state;
    int lane_of[ITEMS], queued = 0;
    for (int i = 0; i < ITEMS; i++)
        lane_of[i] = -1;
    srand(1);
    for (int round = 0; round < 10000; round++) {
        int item = rand() % ITEMS;
        unsigned lane = (unsigned)rand() % WEFT__LANES;
        if (lane_of[item] < 0) {
            push(lane, item);
            lane_of[item] = (int)lane;
            queued++;
        } else if ((item = pop(lane)) >= 0) {
            assert_int_equal(lane_of[item], lane);
            lane_of[item] = -1;
            queued--;
        }
        assert_int_equal(weft__lanes_are_empty_seq_cst(&lanes), queued == 0);
    }
}

static void an_owner_that_always_looks_can_still_sleep(void **state)
{
    (void)state;
    weft__lanes_init(&lanes, true);
    assert_int_not_equal(weft__lanes_look(&lanes), 0);
    assert_int_equal(weft__lanes_ready(&lanes), 0);
    assert_true(weft__lanes_are_empty_seq_cst(&lanes));
    assert_int_equal(push(1, 3), 1);
    assert_false(weft__lanes_are_empty_seq_cst(&lanes));
    assert_int_equal(pop(1), 3);
    assert_int_not_equal(weft__lanes_look(&lanes), 0);
    assert_int_equal(weft__lanes_ready(&lanes), 0);
    assert_true(weft__lanes_are_empty_seq_cst(&lanes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(empty_lanes_pop_nothing, init_lanes),
        cmocka_unit_test_setup(each_lane_keeps_its_order, init_lanes),
        cmocka_unit_test_setup(random_use_loses_nothing, init_lanes),
        cmocka_unit_test_setup(an_owner_that_always_looks_can_still_sleep, init_lanes),
    };
    return cmocka_run_group_tests_name("lanes", tests, NULL, NULL);
}
