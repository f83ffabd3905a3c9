/*
 * Lingering: when it is tried, and what a moment is.
 */
#include "sys/linger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>

#include <cmocka.h>

/* How many sleeps pass until the next moment. */
static unsigned sleeps_until_due(struct weft__linger *l)
{
    unsigned sleeps = 0;
    while (!weft__linger_is_due(l))
        sleeps++;
    return sleeps;
}

static void moments_in_vain_become_rare(void **state)
{
    (void)state;
    static const unsigned expected[] = {0, 1, 3, 7, 15, 31, 63, 63, 63};
    struct weft__linger l = {0};
    assert_true(weft__linger_is_due(&l)); /* the first sleep of all */
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        weft__linger_learn(&l, true);
        assert_int_equal(sleeps_until_due(&l), expected[i]);
    }
}

static void one_that_was_not_in_vain_ends_that(void **state)
{
    (void)state;
    struct weft__linger l = {0};
    for (int i = 0; i < 10; i++)
        weft__linger_learn(&l, true);
    weft__linger_learn(&l, false);
    assert_int_equal(sleeps_until_due(&l), 0);
    weft__linger_learn(&l, true);
    assert_int_equal(sleeps_until_due(&l), 0); /* one in vain is no reason yet */
    weft__linger_learn(&l, true);
    assert_int_equal(sleeps_until_due(&l), 1);
}

static weft__a32 shared;

static bool has_changed(void *arg)
{
    int *looks = arg;
    ++*looks;
    return weft__a32_load_relaxed(&shared) != 0;
}

static void a_moment_passes(void **state)
{
    (void)state;
    int looks = 0;
    weft__a32_store_relaxed(&shared, 0);
    uint64_t began_ns = weft__sys_now_ns();
    assert_false(weft__linger(has_changed, &looks));
    uint64_t took_ns = weft__sys_now_ns() - began_ns;
    /* it may lose its processor meanwhile */
    assert_in_range(took_ns, WEFT__LINGER_NS, 5000000000);
    assert_true(looks > 0);
    looks = 0;
    weft__a32_store_relaxed(&shared, 1);
    assert_true(weft__linger(has_changed, &looks));
    assert_int_equal(looks, 1);
}

static void *change(void *arg)
{
    (void)arg;
    weft__a32_store_relaxed(&shared, 1);
    return NULL;
}

static void a_change_by_another_thread_is_seen(void **state)
{
    (void)state;
    pthread_t thread;
    int looks = 0;
    weft__a32_store_relaxed(&shared, 0);
    assert_int_equal(pthread_create(&thread, NULL, change, NULL), 0);
    while (!weft__linger(has_changed, &looks))
        ;
    assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_in_vain_become_rare),
        cmocka_unit_test(one_that_was_not_in_vain_ends_that),
        cmocka_unit_test(a_moment_passes),
        cmocka_unit_test(a_change_by_another_thread_is_seen),
    };
    return cmocka_run_group_tests_name("linger", tests, NULL, NULL);
}
