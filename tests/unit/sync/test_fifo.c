/*
 * The ring of values that can grow.
 */
#include "sync/fifo.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void push(struct weft__fifo *f, int v)
{
    assert_int_equal(weft__fifo_reserve(f), 0);
    weft__fifo_push(f, &v);
}

static int pop(struct weft__fifo *f)
{
    int v;
    weft__fifo_pop(f, &v);
    return v;
}

static void values_come_out_in_order_round_the_end(void **state)
{
    (void)state;
    struct weft__fifo f;
    assert_int_equal(weft__fifo_init(&f, sizeof(int), 3), 0);
    int in = 0, out = 0;
    for (int round = 0; round < 10; round++) {
        while (f.count < 3)
            push(&f, in++);
        for (size_t i = 0; i < f.count; i++)
            assert_int_equal(*(int *)weft__fifo_at(&f, i), out + (int)i);
        assert_int_equal(pop(&f), out++);
        assert_int_equal(pop(&f), out++);
    }
    assert_int_equal(f.size, 3); /* has not grown */
    weft__fifo_fini(&f);
}

/* From each place where the oldest value can be. */
static void growing_keeps_the_order(void **state)
{
    (void)state;
    for (int first = 0; first < 4; first++) {
        struct weft__fifo f;
        assert_int_equal(weft__fifo_init(&f, sizeof(int), 4), 0);
        for (int i = 0; i < first; i++) {
            push(&f, -1);
            (void)pop(&f);
        }
        for (int i = 0; i < 9; i++)
            push(&f, i);
        assert_int_equal(f.size, 16);
        for (int i = 0; i < 9; i++)
            assert_int_equal(pop(&f), i);
        assert_int_equal(f.count, 0);
        weft__fifo_fini(&f);
    }
}

static void values_without_bytes_are_counted(void **state)
{
    (void)state;
    struct weft__fifo f;
    assert_int_equal(weft__fifo_init(&f, 0, 2), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(weft__fifo_reserve(&f), 0);
        weft__fifo_push(&f, NULL);
    }
    for (int i = 0; i < 5; i++)
        weft__fifo_pop(&f, NULL);
    assert_int_equal(f.count, 0);
    weft__fifo_fini(&f);
}

static void what_does_not_fit_the_address_space(void **state)
{
    (void)state;
    struct weft__fifo f;
    assert_int_equal(weft__fifo_init(&f, 16, SIZE_MAX / 8), -ENOMEM);
    assert_int_equal(weft__fifo_init(&f, SIZE_MAX, 1), -ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_out_in_order_round_the_end),
        cmocka_unit_test(growing_keeps_the_order),
        cmocka_unit_test(values_without_bytes_are_counted),
        cmocka_unit_test(what_does_not_fit_the_address_space),
    };
    return cmocka_run_group_tests_name("fifo", tests, NULL, NULL);
}
