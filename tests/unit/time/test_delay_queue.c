/* Delay queues while memory runs out: every allocation fails once. */
#include "time/delay_queue.h"

#include "sys/table.h"

#include <weft/runtime.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static long until_failure; /* allocations that still succeed; below 0: all do */
static bool has_failed;

static bool must_fail(void)
{
    if (until_failure < 0 || until_failure-- != 0)
        return false;
    has_failed = true;
    return true;
}

static void *failing_malloc(size_t bytes)
{
    return must_fail() ? NULL : malloc(bytes);
}

static void *failing_calloc(size_t n, size_t bytes)
{
    return must_fail() ? NULL : calloc(n, bytes);
}

static int made, dropped;

static void drop(void *item)
{
    (void)item;
    dropped++;
}

/* Runs on a current_thread runtime: no other thread uses the table. */
static void *scene(void *arg)
{
    weft_delay_queue *q = NULL;
    (void)arg;
    int rc = weft_delay_queue_create(sizeof(int), drop, &q);
    if (rc < 0) {
        assert_int_equal(rc, -ENOMEM);
        assert_null(q);
        return NULL;
    }
    weft_delay_key first = {0};
    for (int i = 0; i < 40; i++) {
        weft_delay_key key = {0};
        rc = weft_delay_queue_insert(q, &i, (uint64_t)(i + 1) * WEFT_SEC, &key);
        assert_true(rc == 0 || rc == -ENOMEM);
        assert_int_equal(key.id != 0, rc == 0);
        made += rc == 0;
        if (rc == 0 && first.id == 0)
            first = key;
        weft__delay_heap_check(&q->heap);
    }
    assert_true(weft_delay_queue_len(q) == (size_t)made);
    rc = weft_delay_queue_reserve(q, 1000);
    assert_true(rc == 0 ? weft_delay_queue_capacity(q) >= (size_t)made + 1000 : rc == -ENOMEM);
    rc = weft_delay_queue_compact(q);
    assert_true(rc == 0 ? weft_delay_queue_capacity(q) == (size_t)made : rc == -ENOMEM);
    assert_int_equal(weft_delay_queue_reserve(q, SIZE_MAX), -ENOMEM);
    weft__delay_heap_check(&q->heap);
    int item;
    assert_int_equal(weft_delay_queue_remove(q, first, &item), 0);
    made--;
    weft_delay_queue_unref(q);
    assert_int_equal(made, dropped);
    return NULL;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    weft_config c;
    weft_runtime *rt;
    struct weft__sys_table saved = weft__sys_table;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
    assert_int_equal(weft_runtime_create(&c, &rt), 0);
    weft_handle *h = weft_runtime_handle(rt);
    weft_enter_guard g;
    assert_int_equal(weft_enter(h, &g), 0);
    weft__sys_table.malloc = failing_malloc;
    weft__sys_table.calloc = failing_calloc;
    long n = 0;
    do {
        made = dropped = 0;
        has_failed = false;
        until_failure = n++;
        (void)scene(NULL);
        until_failure = -1;
    } while (has_failed);
    assert_true(n > 5);
    weft__sys_table = saved;
    assert_int_equal(weft_leave(&g), 0);
    weft_handle_unref(h);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

static long allocations;

static void *counting_malloc(size_t bytes)
{
    allocations++;
    return malloc(bytes);
}

static void *counting_calloc(size_t n, size_t bytes)
{
    allocations++;
    return calloc(n, bytes);
}

static void *counting_aligned_alloc(size_t alignment, size_t bytes)
{
    allocations++;
    return aligned_alloc(alignment, bytes);
}

static void *steady_state(void *arg)
{
    weft_delay_queue *q = arg;
    for (int round = 0; round < 100; round++) {
        weft_delay_key key[8];
        int item;
        for (int i = 0; i < 8; i++)
            assert_int_equal(weft_delay_queue_insert(q, &i, (uint64_t)i * WEFT_US, &key[i]), 0);
        assert_int_equal(weft_delay_queue_reset(q, key[3], 0), 0);
        assert_int_equal(weft_delay_queue_remove(q, key[7], &item), 0);
        for (int i = 0; i < 7; i++)
            assert_int_equal(weft_delay_queue_next(q, &item, NULL), 0); /* some of them wait */
    }
    return NULL;
}

static void nothing_is_allocated_while_capacity_lasts(void **state)
{
    (void)state;
    weft_config c;
    weft_runtime *rt;
    weft_delay_queue *q;
    weft_enter_guard g;
    struct weft__sys_table saved = weft__sys_table;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
    c.start_paused = true;
    assert_int_equal(weft_runtime_create(&c, &rt), 0);
    weft_handle *h = weft_runtime_handle(rt);
    assert_int_equal(weft_enter(h, &g), 0);
    assert_int_equal(weft_delay_queue_create(sizeof(int), NULL, &q), 0);
    assert_int_equal(weft_leave(&g), 0);
    assert_int_equal(weft_block_on(rt, steady_state, q, NULL), 0); /* warms up */
    weft__sys_table.malloc = counting_malloc;
    weft__sys_table.calloc = counting_calloc;
    weft__sys_table.aligned_alloc = counting_aligned_alloc;
    assert_int_equal(weft_block_on(rt, steady_state, q, NULL), 0);
    weft__sys_table = saved;
    assert_int_equal(allocations, 0);
    weft_delay_queue_unref(q);
    weft_handle_unref(h);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(nothing_is_allocated_while_capacity_lasts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
