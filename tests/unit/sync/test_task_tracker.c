/* What the word of a tracker says: its count and its references share it. */
#include "atomic/atomic.h"

#include <weft/weft.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define FULL (UINT64_C(1) << 30)

/* The word that says "one token, two references": the rest of a new tracker is pointers, zero, or
 * small. */
static weft__a64 *word_of(weft_task_tracker *t)
{
    weft__a64 *words = (weft__a64 *)(void *)t;
    const uint64_t wanted = (UINT64_C(2) << 32) + 2;
    for (int i = 0; i < 8; i++)
        if (weft__a64_load_relaxed(words + i) == wanted)
            return words + i;
    return NULL;
}

static void *nothing(void *arg)
{
    return arg;
}

static int rc_plain, rc_abort;

static void *spawn_twice(void *tracker)
{
    weft_abort_handle *abort_handle = NULL;
    rc_plain = weft_task_tracker_spawn(tracker, nothing, NULL, NULL);
    rc_abort = weft_task_tracker_spawn(tracker, nothing, NULL, &abort_handle);
    weft_abort_handle_unref(abort_handle);
    return NULL;
}

static void a_full_tracker_counts_no_more(void **state)
{
    (void)state;
    weft_runtime *rt;
    weft_task_tracker *t;
    assert_int_equal(weft_runtime_create(NULL, &rt), 0);
    assert_int_equal(weft_task_tracker_create(&t), 0);
    weft_task_tracker_acquire(t);
    weft__a64 *word = word_of(t);
    assert_non_null(word);
    const uint64_t more = (FULL - 1) * ((UINT64_C(1) << 32) + 2);
    weft__a64_add_relaxed(word, more);
    uint64_t full = weft__a64_load_relaxed(word);

    weft_task_tracker_acquire(t);
    assert_int_equal(weft_task_tracker_len(t), FULL);
    assert_int_equal(weft_block_on(rt, spawn_twice, t, NULL), 0);
    assert_int_equal(rc_plain, -EOVERFLOW);
    assert_int_equal(rc_abort, -EOVERFLOW);
    assert_int_equal(weft__a64_load_relaxed(word), full);

    weft__a64_sub_relaxed(word, more);
    assert_int_equal(weft_block_on(rt, spawn_twice, t, NULL), 0);
    assert_int_equal(rc_plain, 0);
    assert_int_equal(rc_abort, 0);
    weft_task_tracker_release(t);
    (void)weft_task_tracker_close(t);
    assert_int_equal(weft_task_tracker_blocking_wait(t), 0);
    weft_task_tracker_unref(t);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

static void *give_a_wait_up_twice(void *tracker)
{
    weft_task_tracker_wait_future f;
    weft_task_tracker_wait_future_init(&f, tracker);
    weft_case c = weft_case_future(&f.future);
    assert_int_equal(weft_try_select(&c, 1), -EAGAIN);
    weft_task_tracker_release(tracker);
    assert_true(weft_task_tracker_close(tracker)); /* ends the wait */
    weft_future_cancel(&f.future);
    weft_future_cancel(&f.future);
    return NULL;
}

static void a_wait_that_is_cancelled_twice_gives_one_reference_up(void **state)
{
    (void)state;
    weft_runtime *rt;
    weft_task_tracker *t;
    assert_int_equal(weft_runtime_create(NULL, &rt), 0);
    assert_int_equal(weft_task_tracker_create(&t), 0);
    weft_task_tracker_acquire(t);
    weft__a64 *word = word_of(t);
    assert_non_null(word);
    (void)weft_task_tracker_ref(t); /* so that it stays in any case */
    assert_int_equal(weft_block_on(rt, give_a_wait_up_twice, t, NULL), 0);
    assert_int_equal(weft__a64_load_relaxed(word) >> 32, 2);
    weft_task_tracker_unref(t);
    weft_task_tracker_unref(t);
    assert_int_equal(weft_runtime_destroy(rt), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_that_is_cancelled_twice_gives_one_reference_up),
        cmocka_unit_test(a_full_tracker_counts_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
