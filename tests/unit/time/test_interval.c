#include "time/interval.h"

#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NEXT(how, scheduled, now, period)                                                          \
    weft__interval_next_tick(WEFT_MISSED_TICK_##how, (scheduled), (now), (period))

static void on_time_all_behave_alike(void **state)
{
    (void)state;
    for (int how = WEFT_MISSED_TICK_BURST; how <= WEFT_MISSED_TICK_SKIP; how++) {
        enum weft_missed_tick missed = (enum weft_missed_tick)how;
        assert_int_equal(weft__interval_next_tick(missed, 1000, 1000, 300), 1300);
        assert_int_equal(weft__interval_next_tick(missed, 1000, 1149, 300), 1300);
        assert_int_equal(weft__interval_next_tick(missed, 0, 0, 1), 1);
        assert_true(weft__interval_next_tick(missed, 5, 5, WEFT_NEVER) == WEFT_NEVER);
        assert_true(weft__interval_next_tick(missed, 0, 0, WEFT_NEVER - 1) == WEFT_NEVER - 1);
    }
}

static void burst_stays_on_the_grid(void **state)
{
    (void)state;
    assert_int_equal(NEXT(BURST, 1000, 99999, 300), 1300);
    assert_true(NEXT(BURST, WEFT_NEVER - 10, WEFT_NEVER - 1, 11) == WEFT_NEVER);
}

static void delay_moves_the_grid_of_a_late_tick(void **state)
{
    (void)state;
    assert_int_equal(NEXT(DELAY, 1000, 1150, 300), 1450); /* half a period */
    assert_int_equal(NEXT(DELAY, 1000, 1151, 301), 1452);
    assert_int_equal(NEXT(DELAY, 1000, 99999, 300), 100299);
    assert_int_equal(NEXT(DELAY, 0, 5 * WEFT_MS - 1, WEFT_SEC), WEFT_SEC);
    assert_int_equal(NEXT(DELAY, 0, 5 * WEFT_MS, WEFT_SEC), WEFT_SEC + 5 * WEFT_MS);
    assert_int_equal(NEXT(DELAY, 7, 8, 1), 9);
    assert_true(NEXT(DELAY, 1, WEFT_NEVER - 1, 2) == WEFT_NEVER);
}

static void skip_takes_the_next_on_the_grid(void **state)
{
    (void)state;
    assert_int_equal(NEXT(SKIP, 1000, 1299, 300), 1300);
    assert_int_equal(NEXT(SKIP, 1000, 1300, 300), 1600); /* that one is missed, too */
    assert_int_equal(NEXT(SKIP, 1000, 1301, 300), 1600);
    assert_int_equal(NEXT(SKIP, 1000, 1000 + 300 * 1000 + 1, 300), 1000 + 300 * 1001);
    assert_true(NEXT(SKIP, 0, WEFT_NEVER - 1, 1) == WEFT_NEVER);
    assert_true(NEXT(SKIP, 0, WEFT_NEVER - 1, WEFT_NEVER / 2 + 1) == WEFT_NEVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_time_all_behave_alike),
        cmocka_unit_test(burst_stays_on_the_grid),
        cmocka_unit_test(delay_moves_the_grid_of_a_late_tick),
        cmocka_unit_test(skip_takes_the_next_on_the_grid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
