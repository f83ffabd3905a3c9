#include "task/waitq.h"

#include "task/spawn.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

/* ---- tasks that wait nowhere: parked or not, and counted when they are scheduled ---- */

#define TASKS 4

static struct weft__core core;
static struct weft__task task[TASKS];
static int scheduled[TASKS], order[TASKS], count;

static void enqueue(struct weft__core *c, struct weft__task *t)
{
    assert_ptr_equal(c, &core);
    t->qnode.next = &t->qnode; /* the link is the run queue's now */
    scheduled[t - task]++;
    order[count++] = (int)(t - task);
}

static const struct weft__core_ops ops = {.enqueue = enqueue};

static int set_up(void **state)
{
    (void)state;
    memset(&core, 0, sizeof core);
    memset(task, 0, sizeof task);
    memset(scheduled, 0, sizeof scheduled);
    count = 0;
    core.ops = &ops;
    for (int i = 0; i < TASKS; i++) {
        task[i].core = &core;
        task[i].kind = WEFT__TASK_FIBER;
        weft__a64_store_relaxed(&task[i].state, WEFT__TASK_REF | WEFT__TASK_PARKED);
    }
    return 0;
}

static weft_waker *waker(int i)
{
    return weft__task_waker(&task[i]);
}

/* Walks the queue both ways; returns its length. */
static int check_queue(const struct weft__waitq *q)
{
    int n = 0;
    const struct weft__waiter *before = NULL;
    for (const struct weft__waiter *w = q->first; w; before = w, w = w->next, n++) {
        assert_ptr_equal(w->prev, before);
        assert_true(weft__waiter_is_queued(w));
    }
    assert_ptr_equal(q->last, before);
    assert_int_equal(weft__waitq_is_empty(q), n == 0);
    return n;
}

/* ---- the queue ---- */

static void zeroed_memory_is_an_empty_queue_and_an_idle_waiter(void **state)
{
    (void)state;
    struct weft__waitq q;
    struct weft__waiter w;
    memset(&q, 0, sizeof q);
    memset(&w, 0, sizeof w);
    assert_int_equal(check_queue(&q), 0);
    assert_true(weft__waiter_is_idle(&w));
    assert_int_equal(weft__waiter_result(&w), 0);
    assert_false(weft__waitq_leave(&q, &w));
}

static void ends_are_in_order(void **state)
{
    (void)state;
    struct weft__waitq q = {0};
    struct weft__waiter w[TASKS];
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    static const int expected[TASKS] = {2, 0, 1, 3};
    for (int i = 0; i < TASKS; i++)
        weft__waiter_init(&w[i]);
    weft__waitq_push_back(&q, &w[0], waker(0));
    weft__waitq_push_back(&q, &w[1], waker(1));
    weft__waitq_insert(&q, &w[2], &w[0], waker(2));
    weft__waitq_insert(&q, &w[3], NULL, waker(3));
    assert_int_equal(check_queue(&q), TASKS);
    weft__waitq_end(&q, q.first, WEFT__WAITER_ENDED, &woken);
    assert_int_equal(check_queue(&q), 3);
    weft__waitq_end_all(&q, WEFT__WAITER_ENDED + 1, &woken);
    assert_int_equal(check_queue(&q), 0);
    assert_int_equal(count, 0); /* nobody runs before the flush */
    weft__wake_list_flush(&woken);
    assert_int_equal(count, TASKS);
    assert_memory_equal(order, expected, sizeof expected);
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(scheduled[i], 1);
        assert_int_equal(weft__waiter_result(&w[i]), WEFT__WAITER_ENDED + (i != 2));
    }
    weft__wake_list_flush(&woken); /* it is empty now */
    assert_int_equal(count, TASKS);
}

static void leaves_from_any_place(void **state)
{
    (void)state;
    for (int leaver = 0; leaver < 3; leaver++) {
        struct weft__waitq q = {0};
        struct weft__waiter w[3];
        for (int i = 0; i < 3; i++) {
            weft__waiter_init(&w[i]);
            weft__waitq_push_back(&q, &w[i], waker(i));
        }
        assert_true(weft__waitq_leave(&q, &w[leaver]));
        assert_false(weft__waitq_leave(&q, &w[leaver]));
        assert_true(weft__waiter_is_idle(&w[leaver]));
        assert_int_equal(check_queue(&q), 2);
        weft__waitq_push_back(&q, &w[leaver], waker(leaver)); /* and comes again, as the last */
        assert_int_equal(check_queue(&q), 3);
        assert_ptr_equal(q.last, &w[leaver]);
        for (int i = 0; i < 3; i++)
            assert_true(weft__waitq_leave(&q, &w[i]));
        assert_int_equal(check_queue(&q), 0);
    }
    assert_int_equal(count, 0);
}

/* ---- results ---- */

/* A task that is not parked may see the result while its ender still holds the lock. */
static void result_of_a_running_task_is_believed_under_the_lock_only(void **state)
{
    (void)state;
    struct weft__waitq q = {0};
    struct weft__waiter w;
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__waiter_init(&w);
    weft__a64_store_relaxed(&task[0].state, WEFT__TASK_REF);
    weft__waitq_push_back(&q, &w, waker(0));
    weft__waitq_end(&q, &w, WEFT__WAITER_ENDED, &woken);
    assert_null(woken.first);
    assert_true(weft__a64_load_relaxed(&task[0].state) & WEFT__TASK_NOTIFIED);
    assert_int_equal(weft__waiter_result(&w), 0);
    assert_false(weft__waiter_must_wait(&q, &w, waker(0))); /* it came through the lock */
    assert_int_equal(weft__waiter_result(&w), WEFT__WAITER_ENDED);
    assert_false(weft__waitq_leave(&q, &w));
    assert_int_equal(weft__waiter_result(&w), WEFT__WAITER_ENDED);
}

static void cancel_finds_what_was_given(void **state)
{
    (void)state;
    struct weft__waitq q = {0};
    struct weft__waiter w;
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__waiter_init(&w);
    weft__a64_store_relaxed(&task[0].state, WEFT__TASK_REF);
    weft__waitq_push_back(&q, &w, waker(0));
    weft__waitq_end(&q, &w, WEFT__WAITER_ENDED + 5, &woken);
    assert_false(weft__waitq_leave(&q, &w)); /* under the lock, too */
    assert_int_equal(weft__waiter_result(&w), WEFT__WAITER_ENDED + 5);
}

static void the_latest_waker_is_woken(void **state)
{
    (void)state;
    struct weft__waitq q = {0};
    struct weft__waiter w;
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__waiter_init(&w);
    assert_true(weft__waiter_must_wait(&q, &w, waker(0)));
    assert_true(weft__waiter_must_wait(&q, &w, waker(1)));
    assert_int_equal(check_queue(&q), 1);
    weft__waitq_end(&q, &w, WEFT__WAITER_ENDED, &woken);
    weft__wake_list_flush(&woken);
    assert_int_equal(scheduled[0], 0);
    assert_int_equal(scheduled[1], 1);
}

static void queued_before_anybody_waits(void **state)
{
    (void)state;
    struct weft__waitq q = {0};
    struct weft__waiter w;
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__waiter_init(&w);
    assert_true(weft__waiter_must_wait(&q, &w, NULL));
    weft__waitq_end(&q, &w, WEFT__WAITER_ENDED, &woken);
    weft__wake_list_flush(&woken);
    assert_int_equal(count, 0);
    assert_false(weft__waiter_must_wait(&q, &w, waker(0)));
    assert_int_equal(weft__waiter_result(&w), WEFT__WAITER_ENDED);
}

static void a_task_that_has_ended_is_left_alone(void **state)
{
    (void)state;
    struct weft__wake_list woken = WEFT__WAKE_LIST_INIT;
    weft__a64_store_relaxed(&task[0].state, WEFT__TASK_REF | WEFT__TASK_DONE);
    assert_false(weft__wake_list_claim(&woken, waker(0)));
    assert_null(woken.first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_memory_is_an_empty_queue_and_an_idle_waiter),
        cmocka_unit_test_setup(ends_are_in_order, set_up),
        cmocka_unit_test_setup(leaves_from_any_place, set_up),
        cmocka_unit_test_setup(result_of_a_running_task_is_believed_under_the_lock_only, set_up),
        cmocka_unit_test_setup(cancel_finds_what_was_given, set_up),
        cmocka_unit_test_setup(the_latest_waker_is_woken, set_up),
        cmocka_unit_test_setup(queued_before_anybody_waits, set_up),
        cmocka_unit_test_setup(a_task_that_has_ended_is_left_alone, set_up),
    };
    return cmocka_run_group_tests_name("waitq", tests, NULL, NULL);
}
