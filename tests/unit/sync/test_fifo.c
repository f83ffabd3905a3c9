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

/* With the oldest value at places that make it wrap, and not; a queue below the floor stays. */
static void what_a_burst_took_is_given_back(void **state)
{
    (void)state;
    for (size_t first = 0; first < 4 * WEFT__FIFO_KEPT; first += 700) {
        struct weft__fifo f;
        assert_int_equal(weft__fifo_init(&f, sizeof(int), 16), 0);
        int in = 0, out = 0;
        while (f.size < 8 * WEFT__FIFO_KEPT)
            push(&f, in++);
        for (size_t i = 0; i < first; i++) {
            push(&f, in++);
            assert_int_equal(pop(&f), out++);
        }
        size_t size = f.size;
        while (f.count > 0) {
            assert_int_equal(pop(&f), out++);
            assert_true(f.count <= f.size && f.size <= size);
            size = f.size;
        }
        assert_int_equal(f.size, WEFT__FIFO_KEPT);
        char *slots = f.slots;
        for (size_t i = 0; i < WEFT__FIFO_KEPT; i++)
            push(&f, in++);
        while (f.count > 0)
            assert_int_equal(pop(&f), out++);
        assert_ptr_equal(f.slots, slots);
        weft__fifo_fini(&f);
    }
}

/* Between a quarter and the whole the ring stays: a value that comes and goes moves nothing. */
static void at_a_size_that_changes_it_does_not_go_to_and_fro(void **state)
{
    (void)state;
    struct weft__fifo f;
    assert_int_equal(weft__fifo_init(&f, sizeof(int), 16), 0);
    for (size_t i = 0; i <= 4 * WEFT__FIFO_KEPT; i++)
        push(&f, 0);
    assert_int_equal(f.size, 8 * WEFT__FIFO_KEPT);
    while (f.count > 2 * WEFT__FIFO_KEPT)
        (void)pop(&f);
    assert_int_equal(f.size, 4 * WEFT__FIFO_KEPT);
    char *slots = f.slots;
    for (int i = 0; i < 100; i++) {
        push(&f, 0);
        (void)pop(&f);
        (void)pop(&f);
        push(&f, 0);
    }
    assert_ptr_equal(f.slots, slots);
    weft__fifo_fini(&f);
}

static void a_bounded_ring_stays_as_it_is(void **state)
{
    (void)state;
    struct weft__fifo f;
    size_t size = 4 * WEFT__FIFO_KEPT;
    assert_int_equal(weft__fifo_init(&f, sizeof(int), size), 0);
    char *slots = f.slots;
    for (size_t i = 0; i < size; i++)
        push(&f, 0);
    while (f.count > 0)
        (void)pop(&f);
    assert_ptr_equal(f.slots, slots);
    weft__fifo_fini(&f);
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
        cmocka_unit_test(what_a_burst_took_is_given_back),
        cmocka_unit_test(at_a_size_that_changes_it_does_not_go_to_and_fro),
        cmocka_unit_test(a_bounded_ring_stays_as_it_is),
        cmocka_unit_test(values_without_bytes_are_counted),
        cmocka_unit_test(what_does_not_fit_the_address_space),
    };
    return cmocka_run_group_tests_name("fifo", tests, NULL, NULL);
}
