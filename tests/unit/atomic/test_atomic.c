/*
 * The shim: that each wrapper does what its name says, on one thread.
 */
#include "atomic/atomic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void loads_see_stores_of_every_order(void **state)
{
    (void)state;
    weft__a64 a = {0};
    weft__a64_store_relaxed(&a, 1);
    assert_true(weft__a64_load_relaxed(&a) == 1);
    weft__a64_store_release(&a, UINT64_MAX);
    assert_true(weft__a64_load_acquire(&a) == UINT64_MAX);
    weft__a64_store_seq_cst(&a, 3);
    assert_true(weft__a64_load_seq_cst(&a) == 3);
}

static void arithmetic_returns_the_value_before(void **state)
{
    (void)state;
    weft__a32 a = {0};
    weft__a32_store_relaxed(&a, UINT32_MAX);
    assert_int_equal(weft__a32_add_acq_rel(&a, 2), UINT32_MAX);
    assert_int_equal(weft__a32_sub_release(&a, 1), 1);
    assert_int_equal(weft__a32_or_relaxed(&a, 6), 0);
    assert_int_equal(weft__a32_and_seq_cst(&a, 3), 6);
    assert_int_equal(weft__a32_swap_acquire(&a, 9), 2);
    assert_int_equal(weft__a32_load_relaxed(&a), 9);
}

static void compare_exchange_reloads_what_it_found(void **state)
{
    (void)state;
    weft__a32 a = {7};
    uint32_t expected = 5;
    assert_false(weft__a32_cas_acq_rel(&a, &expected, 1));
    assert_int_equal(expected, 7);
    assert_true(weft__a32_cas_acq_rel(&a, &expected, 1));
    assert_int_equal(weft__a32_load_relaxed(&a), 1);
}

static void pointers_are_exchanged(void **state)
{
    int x, y;
    (void)state;
    weft__aptr a = {&x};
    assert_ptr_equal(weft__aptr_swap_seq_cst(&a, &y), &x);
    void *expected = &y;
    while (!weft__aptr_cas_weak_release(&a, &expected, NULL))
        assert_ptr_equal(expected, &y); /* the weak form may fail for nothing */
    assert_null(weft__aptr_load_acquire(&a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_see_stores_of_every_order),
        cmocka_unit_test(arithmetic_returns_the_value_before),
        cmocka_unit_test(compare_exchange_reloads_what_it_found),
        cmocka_unit_test(pointers_are_exchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
