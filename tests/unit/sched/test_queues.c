/*
 * Between the ring of a worker and the global queue: how much goes over, and in which order.
 */
#include "sched/queues.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#define TASKS 1024

static struct weft__sched sched;
static struct weft__worker worker;
static struct weft__task tasks[TASKS];

static int init(void **state)
{
    (void)state;
    memset(&sched, 0, sizeof sched);
    memset(&worker, 0, sizeof worker);
    sched.worker_count = 1;
    worker.sched = &sched;
    weft__inject_init(&sched.inject);
    weft__runq_init(&worker.runq);
    return 0;
}

/* The next `count` tasks, from tasks[*next] on. */
static void into_global(size_t *next, size_t count)
{
    for (; count > 0; count--)
        assert_true(weft__inject_push(&sched.inject, &tasks[(*next)++]));
}

static void into_ring(size_t *next, size_t count)
{
    for (; count > 0; count--)
        assert_true(weft__runq_push(&worker.runq, &tasks[(*next)++]));
}

/* So many are there, and come out from tasks[first] on. */
static void ring_has(size_t first, size_t count)
{
    assert_int_equal(weft__runq_len(&worker.runq), count);
    for (size_t i = 0; i < count; i++)
        assert_ptr_equal(weft__runq_pop(&worker.runq), &tasks[first + i]);
}

static void global_has(size_t first, size_t count)
{
    weft__inject_check(&sched.inject);
    assert_int_equal(weft__inject_len(&sched.inject), count);
    for (size_t i = 0; i < count; i++)
        assert_ptr_equal(weft__inject_pop(&sched.inject), &tasks[first + i]);
}

static void of_a_short_queue_a_worker_takes_its_share(void **state)
{
    (void)state;
    size_t next = 0;
    sched.worker_count = 4;
    assert_null(weft__worker_take_global(&worker));
    into_global(&next, 3);
    assert_ptr_equal(weft__worker_take_global(&worker), &tasks[0]);
    ring_has(0, 0);
    into_global(&next, 6);
    assert_ptr_equal(weft__worker_take_global(&worker), &tasks[1]);
    ring_has(2, 2);
    global_has(4, 5);
}

static void of_a_long_queue_it_takes_a_batch(void **state)
{
    (void)state;
    size_t next = 0, taken = 0;
    into_global(&next, 600);
    sched.worker_count = 4;
    while (taken + 300 < next) {
        assert_ptr_equal(weft__worker_take_global(&worker), &tasks[taken]);
        size_t count = 1 + weft__runq_len(&worker.runq);
        assert_in_range(count, 64, 64 + WEFT__BUNCH - 1);
        ring_has(taken + 1, count - 1);
        taken += count;
    }
    global_has(taken, next - taken);
}

/* Else what it takes would overflow the ring, which sends it back, behind all that wait. */
static void it_takes_no_more_than_half_of_the_room(void **state)
{
    for (size_t room = 0; room <= WEFT__RUNQ_CAP; room++) {
        size_t next = 0, used = WEFT__RUNQ_CAP - room;
        (void)init(state);
        into_ring(&next, used);
        into_global(&next, 300);
        assert_ptr_equal(weft__worker_take_global(&worker), &tasks[used]);
        size_t more = weft__runq_len(&worker.runq) - used;
        assert_in_range(more, room / 2 < 63 ? room / 2 : 63, room / 2);
        for (size_t i = 0; i < used; i++)
            assert_ptr_equal(weft__runq_pop(&worker.runq), &tasks[i]);
        ring_has(used + 1, more);
        global_has(used + 1 + more, 299 - more);
    }
}

static void a_full_ring_gives_the_older_half_and_the_task(void **state)
{
    (void)state;
    size_t next = 0;
    into_ring(&next, WEFT__RUNQ_CAP);
    weft__worker_push(&worker, &tasks[next]);
    assert_int_equal(weft__a64_load_relaxed(&worker.overflows), 1);
    ring_has(WEFT__RUNQ_CAP / 2, WEFT__RUNQ_CAP / 2);
    for (size_t i = 0; i < WEFT__RUNQ_CAP / 2; i++)
        assert_ptr_equal(weft__inject_pop(&sched.inject), &tasks[i]);
    global_has(next, 1);
}

static void all_is_spilled_in_the_order_in_which_it_would_have_run(void **state)
{
    (void)state;
    size_t next = 0;
    weft__worker_spill_all(&worker);
    global_has(0, 0);
    weft__aptr_store_relaxed(&worker.slot, &tasks[next++]);
    into_ring(&next, 200);
    weft__worker_spill_all(&worker);
    assert_null(weft__aptr_load_relaxed(&worker.slot));
    ring_has(0, 0);
    global_has(0, 201);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(of_a_short_queue_a_worker_takes_its_share, init),
        cmocka_unit_test_setup(of_a_long_queue_it_takes_a_batch, init),
        cmocka_unit_test_setup(it_takes_no_more_than_half_of_the_room, init),
        cmocka_unit_test_setup(a_full_ring_gives_the_older_half_and_the_task, init),
        cmocka_unit_test_setup(all_is_spilled_in_the_order_in_which_it_would_have_run, init),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
