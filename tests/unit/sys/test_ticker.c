/*
 * The clock between two readings of it: what is learnt of the counter, what a mistake is, and that
 * time neither falls behind nor jumps.
 */
#include "sys/ticker.h"

#include "sys/sys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define START_NS UINT64_C(1000000000000)
#define START_TICKS UINT64_C(77777)

/* A counter of so many ticks in 1,000 ns, and its clock. */
static uint64_t ticks_at(uint64_t ns, uint64_t rate)
{
    return START_TICKS + (ns - START_NS) * rate / 1000;
}

static void learn_at(struct weft__ticker *k, uint64_t ns, uint64_t rate)
{
    weft__ticker_learn(k, ticks_at(ns, rate), ns);
}

/* As weft__ticker_now() would, without the slack; 0: it would ask the clock. */
static uint64_t counted(const struct weft__ticker *k, uint64_t ns, uint64_t rate)
{
    uint64_t since = ticks_at(ns, rate) - k->ticks;
    return since < k->span ? weft__ticker_count(k, since) : 0;
}

static struct weft__ticker learnt(uint64_t rate)
{
    struct weft__ticker k = {0};
    learn_at(&k, START_NS, rate);
    learn_at(&k, START_NS + 2 * WEFT_MS, rate);
    assert_true(k.span != 0);
    return k;
}

static void the_rate_is_learnt(void **state)
{
    (void)state;
    static const uint64_t rates[] = {24, 1000, 2445, 5200};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        struct weft__ticker k = learnt(rates[i]);
        for (uint64_t passed = 0; passed < 1900 * WEFT_US; passed += 77777) {
            uint64_t ns = START_NS + 2 * WEFT_MS + passed;
            uint64_t says = counted(&k, ns, rates[i]);
            assert_in_range(says, ns - 100, ns + 1);
        }
    }
}

static void nothing_is_counted_before(void **state)
{
    (void)state;
    struct weft__ticker k = {0};
    assert_int_equal(counted(&k, START_NS, 1000), 0);
    learn_at(&k, START_NS, 1000);
    assert_int_equal(counted(&k, START_NS + 1, 1000), 0);
    /* too soon to tell, and what comes later is measured from the first */
    learn_at(&k, START_NS + 1000, 1000);
    assert_int_equal(counted(&k, START_NS + 2000, 1000), 0);
    assert_true(k.ns == START_NS);
}

static void it_ends_after_two_milliseconds(void **state)
{
    (void)state;
    struct weft__ticker k = learnt(2000);
    uint64_t last = START_NS + 2 * WEFT_MS;
    assert_true(counted(&k, last + 1990 * WEFT_US, 2000) != 0);
    assert_int_equal(counted(&k, last + 2010 * WEFT_US, 2000), 0);
    /* a counter that was set back */
    assert_int_equal(counted(&k, START_NS, 2000), 0);
}

static void a_pause_teaches_nothing(void **state)
{
    (void)state;
    struct weft__ticker k = learnt(2000);
    uint64_t scale = k.scale;
    /* The machine slept for ten seconds, and the counter with it. */
    uint64_t ns = START_NS + 10 * WEFT_SEC;
    weft__ticker_learn(&k, k.ticks + 10, ns);
    assert_true(k.scale == scale);
    assert_int_equal(k.mistakes, 0);
    assert_true(k.shown_ns == ns);
    assert_true(weft__ticker_count(&k, 2000000) - ns <= WEFT_MS);
}

static void another_rate_is_a_mistake(void **state)
{
    (void)state;
    struct weft__ticker k = learnt(2000);
    uint64_t ns = k.ns + 2 * WEFT_MS;
    weft__ticker_learn(&k, k.ticks + 2 * 2000000 * 3, ns);
    assert_int_equal(k.mistakes, 1);
    assert_int_equal(k.span, 0);
    assert_true(k.shown_ns == ns);
    /* and is what is known from the next reading on */
    weft__ticker_learn(&k, k.ticks + 2 * 2000000 * 3, ns + 2 * WEFT_MS);
    assert_int_equal(k.mistakes, 1);
    assert_true(k.span != 0);
}

static void mistakes_in_a_row_end_it(void **state)
{
    (void)state;
    struct weft__ticker k = learnt(2000);
    for (int i = 0; i < 4 * WEFT__TICKER_MISTAKES_MAX; i++) {
        uint64_t rate = i % 4 < 2 ? 3000 : 2000;
        weft__ticker_learn(&k, k.ticks + rate * 2000, k.ns + 2 * WEFT_MS);
    }
    assert_int_equal(k.mistakes, WEFT__TICKER_MISTAKES_MAX);
    assert_int_equal(k.span, 0);
    uint64_t before_ns = weft__sys_now_ns();
    assert_true(weft__ticker_now(&k) >= before_ns);
    assert_int_equal(k.span, 0);
}

static void mistakes_far_apart_do_not(void **state)
{
    (void)state;
    struct weft__ticker k = learnt(2000);
    uint64_t rate = 2000;
    for (int mistake = 0; mistake < 2 * WEFT__TICKER_MISTAKES_MAX; mistake++) {
        rate = 5000 - rate;
        for (int i = 0; i < WEFT__TICKER_RIGHT + 2; i++)
            weft__ticker_learn(&k, k.ticks + rate * 2000, k.ns + 2 * WEFT_MS);
        assert_int_equal(k.mistakes, 1);
        assert_true(k.span != 0);
    }
}

/* Nothing is counted on after it, until the next reading. */
static void a_reading_that_took_long_is_a_mistake(void **state)
{
    (void)state;
    struct weft__ticker k = learnt(2000);
    uint64_t ns = k.ns + 2 * WEFT_MS;
    weft__ticker_mistake(&k);
    assert_int_equal(counted(&k, k.ns + 1000, 2000), 0);
    learn_at(&k, ns, 2000);
    assert_in_range(counted(&k, ns + 1000, 2000), ns + 900, ns + 1001);
    for (int i = 1; i < WEFT__TICKER_MISTAKES_MAX; i++)
        weft__ticker_mistake(&k);
    learn_at(&k, ns + 2 * WEFT_MS, 2000);
    assert_int_equal(k.span, 0);
}

/* What was counted too far is kept, if it is little, and given up if it is much. */
static void it_stands_still_rather_than_go_back(void **state)
{
    (void)state;
    struct weft__ticker k = learnt(2000);
    uint64_t ns = k.ns + 2 * WEFT_MS, ticks = k.ticks + 4000000;
    uint64_t said = weft__ticker_count(&k, ticks + 1000 - k.ticks); /* 500 ns ahead */
    weft__ticker_learn(&k, ticks + 1000, ns);
    assert_true(k.ns == ns && k.shown_ns == said && said > ns);
    said = weft__ticker_count(&k, 4000000 + 3000); /* 1,500 and more */
    weft__ticker_learn(&k, k.ticks + 4000000 + 3000, k.ns + 2 * WEFT_MS);
    assert_true(said > k.ns + WEFT__TICKER_AHEAD_NS && k.shown_ns == k.ns);
}

/* Against the clock itself, if this processor has a counter. */
static void it_is_the_clock_or_a_little_later(void **state)
{
    (void)state;
    struct weft__ticker k = {0};
    uint64_t end_ns = weft__sys_now_ns() + 50 * WEFT_MS, last_ns = 0, now_ns;
    do {
        uint64_t before_ns = weft__sys_now_ns();
        now_ns = weft__ticker_now(&k);
        uint64_t after_ns = weft__sys_now_ns();
        assert_true(now_ns >= before_ns);
        assert_true(now_ns <= after_ns + 3 * WEFT_US);
        assert_true(now_ns >= last_ns || last_ns - now_ns < WEFT__TICKER_SLACK_NS);
        last_ns = now_ns;
    } while (now_ns < end_ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rate_is_learnt),
        cmocka_unit_test(nothing_is_counted_before),
        cmocka_unit_test(it_ends_after_two_milliseconds),
        cmocka_unit_test(a_pause_teaches_nothing),
        cmocka_unit_test(another_rate_is_a_mistake),
        cmocka_unit_test(mistakes_in_a_row_end_it),
        cmocka_unit_test(mistakes_far_apart_do_not),
        cmocka_unit_test(a_reading_that_took_long_is_a_mistake),
        cmocka_unit_test(it_stands_still_rather_than_go_back),
        cmocka_unit_test(it_is_the_clock_or_a_little_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
