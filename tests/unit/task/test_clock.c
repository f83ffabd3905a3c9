/* The clock of a runtime, over a system clock that the test sets. */
#include "task/clock.h"

#include "sys/table.h"

#include <weft/base.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct weft__sys_table saved_table;
static uint64_t system_ns;

static int fake_clock_gettime(clockid_t clock, struct timespec *ts)
{
    (void)clock;
    ts->tv_sec = (time_t)(system_ns / WEFT_SEC);
    ts->tv_nsec = (long)(system_ns % WEFT_SEC);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    saved_table = weft__sys_table;
    weft__sys_table.clock_gettime = fake_clock_gettime;
    system_ns = 5 * WEFT_SEC;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    weft__sys_table = saved_table;
    return 0;
}

static void is_the_systems_until_it_is_stopped(void **state)
{
    (void)state;
    struct weft__clock c;
    weft__clock_init(&c, false);
    assert_int_equal(weft__clock_now(&c), 5 * WEFT_SEC);
    assert_false(weft__clock_is_paused(&c));
    assert_int_equal(weft__clock_system_time(&c, 7), 7);
    assert_false(weft__clock_resume(&c));
    weft__clock_move(&c, 9 * WEFT_SEC); /* only a paused one is moved */
    assert_int_equal(weft__clock_now(&c), 5 * WEFT_SEC);
}

static void stands_and_moves_forwards_only(void **state)
{
    (void)state;
    struct weft__clock c;
    weft__clock_init(&c, false);
    assert_true(weft__clock_pause(&c));
    assert_false(weft__clock_pause(&c));
    assert_true(weft__clock_is_paused(&c));
    system_ns += WEFT_SEC;
    assert_int_equal(weft__clock_now(&c), 5 * WEFT_SEC);
    weft__clock_move(&c, 5 * WEFT_SEC + 1);
    weft__clock_move(&c, 5 * WEFT_SEC);
    assert_int_equal(weft__clock_now(&c), 5 * WEFT_SEC + 1);
    assert_true(weft__clock_system_time(&c, 6 * WEFT_SEC) == WEFT_NEVER);
}

/* Ahead of the system's clock, and behind it. */
static void goes_on_from_where_it_stood(void **state)
{
    (void)state;
    struct weft__clock c;
    weft__clock_init(&c, false);
    assert_true(weft__clock_pause(&c));
    weft__clock_move(&c, 100 * WEFT_SEC);
    assert_true(weft__clock_resume(&c));
    assert_int_equal(weft__clock_now(&c), 100 * WEFT_SEC);
    system_ns += 3;
    assert_int_equal(weft__clock_now(&c), 100 * WEFT_SEC + 3);
    assert_true(weft__clock_pause(&c));
    system_ns += 1000 * WEFT_SEC;
    assert_int_equal(weft__clock_now(&c), 100 * WEFT_SEC + 3);
    assert_true(weft__clock_resume(&c));
    system_ns += 4;
    assert_int_equal(weft__clock_now(&c), 100 * WEFT_SEC + 7);
}

static void deadlines_are_told_in_the_systems_time(void **state)
{
    (void)state;
    struct weft__clock c;
    weft__clock_init(&c, true);
    assert_int_equal(weft__clock_now(&c), WEFT__CLOCK_START_NS);
    assert_true(weft__clock_resume(&c));
    assert_int_equal(weft__clock_system_time(&c, WEFT__CLOCK_START_NS + WEFT_SEC), 6 * WEFT_SEC);
    assert_int_equal(weft__clock_system_time(&c, WEFT__CLOCK_START_NS), 0); /* has come */
    assert_int_equal(weft__clock_system_time(&c, 3), 0);
    assert_true(weft__clock_system_time(&c, WEFT_NEVER) == WEFT_NEVER);
    assert_true(weft__clock_system_time(&c, WEFT_NEVER - 1) < WEFT_NEVER); /* it runs ahead */
    /* Far behind the system's: no deadline wraps round. */
    system_ns = WEFT_NEVER / 2;
    weft__clock_init(&c, true);
    assert_true(weft__clock_resume(&c));
    assert_true(weft__clock_system_time(&c, WEFT_NEVER - 1) == WEFT_NEVER);
}

/* Two that follow one; the second leaves it, and goes on as it was. */
static void followers_show_what_it_shows(void **state)
{
    (void)state;
    struct weft__clock c, f[2];
    weft__clock_init(&c, false);
    for (int i = 0; i < 2; i++) {
        weft__clock_init(&f[i], false);
        weft__clock_follow(&f[i], &c);
        assert_int_equal(weft__clock_now(&f[i]), 5 * WEFT_SEC);
    }
    assert_true(weft__clock_pause(&c));
    system_ns += WEFT_SEC;
    weft__clock_move(&c, 50 * WEFT_SEC);
    for (int i = 0; i < 2; i++) {
        assert_true(weft__clock_is_paused(&f[i]));
        assert_int_equal(weft__clock_now(&f[i]), 50 * WEFT_SEC);
    }
    weft__clock_leave(&f[0], &c);
    assert_true(weft__clock_resume(&c));
    system_ns += 3;
    assert_int_equal(weft__clock_now(&f[0]), 50 * WEFT_SEC);
    assert_int_equal(weft__clock_now(&f[1]), 50 * WEFT_SEC + 3);
    weft__clock_follow(&f[0], NULL);
    assert_int_equal(weft__clock_now(&f[0]), system_ns);
    weft__clock_leave(&f[1], &c);
    assert_null(c.followers);
    assert_int_equal(weft__clock_now(&f[1]), 50 * WEFT_SEC + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(is_the_systems_until_it_is_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(stands_and_moves_forwards_only, setup, teardown),
        cmocka_unit_test_setup_teardown(goes_on_from_where_it_stood, setup, teardown),
        cmocka_unit_test_setup_teardown(deadlines_are_told_in_the_systems_time, setup, teardown),
        cmocka_unit_test_setup_teardown(followers_show_what_it_shows, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
