#include "time/slack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint64_t random_next(uint64_t *state)
{
    /* splitmix64; S. Vigna, public domain. */
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void without_slack_it_is_the_deadline(void **state)
{
    (void)state;
    assert_int_equal(weft__slack_deadline(0, 0), 0);
    assert_int_equal(weft__slack_deadline(12345, 0), 12345);
    assert_int_equal(weft__slack_deadline(0, 1000), 0);
    assert_true(weft__slack_deadline(WEFT_NEVER, 1000) == WEFT_NEVER);
}

static void it_lies_in_the_window(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 100000; i++) {
        uint64_t deadline_ns = random_next(&seed) >> random_next(&seed) % 64;
        uint64_t slack_ns = random_next(&seed) >> random_next(&seed) % 64;
        uint64_t at_ns = weft__slack_deadline(deadline_ns, slack_ns);
        assert_true(at_ns >= deadline_ns);
        assert_true(at_ns - deadline_ns <= slack_ns);
        assert_true(at_ns != WEFT_NEVER || deadline_ns == WEFT_NEVER);
    }
    assert_true(weft__slack_deadline(WEFT_NEVER - 1, 5) == WEFT_NEVER - 1);
    assert_true(weft__slack_deadline(1, WEFT_NEVER) != WEFT_NEVER);
}

/* No number in the window has more zeros at its end: what others choose who can. */
static void it_is_the_roundest_of_the_window(void **state)
{
    (void)state;
    for (uint64_t deadline_ns = 1; deadline_ns < 300; deadline_ns++)
        for (uint64_t slack_ns = 0; slack_ns < 100; slack_ns++) {
            uint64_t at_ns = weft__slack_deadline(deadline_ns, slack_ns);
            for (uint64_t t = deadline_ns; t <= deadline_ns + slack_ns; t++)
                assert_true(__builtin_ctzll(at_ns) >= __builtin_ctzll(t));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_slack_it_is_the_deadline),
        cmocka_unit_test(it_lies_in_the_window),
        cmocka_unit_test(it_is_the_roundest_of_the_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
