#include "sched/runq.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The queue never looks into a task; any distinct non-null pointer will do. */
static struct weft__task *fake_task(uintptr_t number)
{
    return (struct weft__task *)((number + 1) << 4);
}

static uintptr_t number_of(const struct weft__task *task)
{
    return ((uintptr_t)task >> 4) - 1;
}

static struct weft__runq queue, other;

/* As a queue is after `at` pushes and pops. */
static void start_at(struct weft__runq *q, uint32_t at)
{
    weft__runq_init(q);
    weft__a32_store_relaxed(&q->head, at);
    weft__a32_store_relaxed(&q->tail, at);
}

/* Pushes the fake tasks first, first + 1, ... */
static void push_numbers(struct weft__runq *q, uintptr_t first, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_true(weft__runq_push(q, fake_task(first + i)));
        if (i % 16 == 0)
            weft__runq_check(q);
    }
    weft__runq_check(q);
}

static void expect_numbers(struct weft__runq *q, uintptr_t first, unsigned count)
{
    assert_int_equal(weft__runq_len(q), count);
    assert_int_equal(weft__runq_len_seq_cst(q), count);
    for (unsigned i = 0; i < count; i++)
        assert_ptr_equal(weft__runq_pop(q), fake_task(first + i));
    assert_null(weft__runq_pop(q));
    weft__runq_check(q);
}

static int init_both(void **state)
{
    (void)state;
    weft__runq_init(&queue);
    weft__runq_init(&other);
    return 0;
}

static void empty_queue_pops_null(void **state)
{
    (void)state;
    assert_null(weft__runq_pop(&queue));
    assert_int_equal(weft__runq_len(&queue), 0);
    assert_int_equal(weft__runq_len_seq_cst(&queue), 0);
}

static void tasks_come_out_in_the_order_they_went_in(void **state)
{
    (void)state;
    push_numbers(&queue, 0, 5);
    assert_true(weft__runq_push_seq_cst(&queue, fake_task(5)));
    assert_int_not_equal(weft__runq_len_seq_cst(&queue), 0);
    expect_numbers(&queue, 0, 6);
}

static void peeking_sees_what_will_be_popped(void **state)
{
    (void)state;
    start_at(&queue, UINT32_MAX - 1); /* across the wrap */
    assert_null(weft__runq_peek(&queue, 0));
    push_numbers(&queue, 1, 3);
    assert_ptr_equal(weft__runq_peek(&queue, 0), fake_task(1));
    assert_ptr_equal(weft__runq_peek(&queue, 2), fake_task(3));
    assert_null(weft__runq_peek(&queue, 3));
    expect_numbers(&queue, 1, 3);
}

static void full_queue_refuses_and_keeps_what_it_has(void **state)
{
    (void)state;
    push_numbers(&queue, 0, WEFT__RUNQ_CAP);
    assert_false(weft__runq_push(&queue, fake_task(9000)));
    assert_false(weft__runq_push_seq_cst(&queue, fake_task(9000)));
    expect_numbers(&queue, 0, WEFT__RUNQ_CAP);
}

/* Counters wrap at 2^32; start just short of it so that the wrap happens mid-test. */
static void counters_wrap_without_losing_tasks(void **state)
{
    (void)state;
    for (uint32_t before = 0; before <= WEFT__RUNQ_CAP; before++) {
        start_at(&queue, UINT32_MAX - before);
        push_numbers(&queue, 0, WEFT__RUNQ_CAP);
        assert_false(weft__runq_push(&queue, fake_task(900)));
        assert_int_equal(weft__runq_len(&queue), WEFT__RUNQ_CAP);
        assert_int_not_equal(weft__runq_len_seq_cst(&queue), 0);
        expect_numbers(&queue, 0, WEFT__RUNQ_CAP);
    }
}

static void capacity_minus_one_leaves_one_slot(void **state)
{
    (void)state;
    start_at(&queue, UINT32_MAX - 2);
    push_numbers(&queue, 0, WEFT__RUNQ_CAP - 1);
    assert_true(weft__runq_push(&queue, fake_task(WEFT__RUNQ_CAP - 1)));
    assert_false(weft__runq_push(&queue, fake_task(900)));
    expect_numbers(&queue, 0, WEFT__RUNQ_CAP);
}

static void thief_takes_the_older_half_rounded_up(void **state)
{
    (void)state;
    for (unsigned count = 1; count <= WEFT__RUNQ_CAP; count++) {
        start_at(&queue, UINT32_MAX - 1);
        start_at(&other, UINT32_MAX - 7);
        push_numbers(&queue, 0, count);
        struct weft__task *first = NULL;
        unsigned half = count - count / 2;
        assert_int_equal(weft__runq_steal_half(&queue, &other, &first), half);
        assert_ptr_equal(first, fake_task(0));
        weft__runq_check(&other);
        expect_numbers(&other, 1, half - 1);
        expect_numbers(&queue, half, count - half);
    }
}

static void thief_leaves_an_empty_queue_and_its_result_alone(void **state)
{
    (void)state;
    struct weft__task *first = fake_task(77);
    assert_int_equal(weft__runq_steal_half(&queue, &other, &first), 0);
    assert_ptr_equal(first, fake_task(77));
    assert_int_equal(weft__runq_len(&other), 0);
}

static void thief_takes_no_more_than_it_has_room_for(void **state)
{
    (void)state;
    for (unsigned room = 0; room < WEFT__RUNQ_CAP / 2; room++) {
        start_at(&queue, UINT32_MAX - 1);
        start_at(&other, UINT32_MAX - 7);
        unsigned count = WEFT__RUNQ_CAP / 2;
        unsigned half = WEFT__RUNQ_CAP / 4;
        push_numbers(&queue, 0, count);
        push_numbers(&other, 1000, WEFT__RUNQ_CAP - room);
        /* The one that is returned needs none. */
        unsigned expected = half < room + 1 ? half : room + 1;
        struct weft__task *first;
        assert_int_equal(weft__runq_steal_half(&queue, &other, &first), expected);
        assert_ptr_equal(first, fake_task(0));
        weft__runq_check(&other);
        assert_int_equal(weft__runq_len(&other), WEFT__RUNQ_CAP - room + expected - 1);
        assert_ptr_equal(weft__runq_pop(&other), fake_task(1000));
        expect_numbers(&queue, expected, count - expected);
    }
}

static void stolen_tasks_queue_behind_what_the_thief_has(void **state)
{
    (void)state;
    push_numbers(&queue, 0, 4);
    push_numbers(&other, 50, 1);
    struct weft__task *first;
    assert_int_equal(weft__runq_steal_half(&queue, &other, &first), 2);
    assert_ptr_equal(weft__runq_pop(&other), fake_task(50));
    assert_ptr_equal(weft__runq_pop(&other), fake_task(1));
}

static void who_has_no_queue_takes_the_oldest_of_another(void **state)
{
    (void)state;
    static struct weft__task *tasks[WEFT__RUNQ_CAP];
    for (unsigned max = 1; max <= WEFT__RUNQ_CAP; max++) {
        start_at(&queue, UINT32_MAX - 1);
        assert_int_equal(weft__runq_steal_some(&queue, tasks, max), 0);
        push_numbers(&queue, 0, WEFT__RUNQ_CAP / 2);
        unsigned expected = max < WEFT__RUNQ_CAP / 2 ? max : WEFT__RUNQ_CAP / 2;
        assert_int_equal(weft__runq_steal_some(&queue, tasks, max), expected);
        for (unsigned i = 0; i < expected; i++)
            assert_ptr_equal(tasks[i], fake_task(i));
        expect_numbers(&queue, expected, WEFT__RUNQ_CAP / 2 - expected);
    }
}

static void spilling_takes_the_older_half(void **state)
{
    (void)state;
    static struct weft__task *tasks[WEFT__RUNQ_CAP];
    start_at(&queue, UINT32_MAX - 1);
    push_numbers(&queue, 0, WEFT__RUNQ_CAP);
    assert_int_equal(weft__runq_take_half(&queue, tasks, WEFT__RUNQ_CAP), WEFT__RUNQ_CAP / 2);
    for (unsigned i = 0; i < WEFT__RUNQ_CAP / 2; i++)
        assert_ptr_equal(tasks[i], fake_task(i));
    expect_numbers(&queue, WEFT__RUNQ_CAP / 2, WEFT__RUNQ_CAP / 2);
}

static void spilling_respects_the_room_given(void **state)
{
    (void)state;
    struct weft__task *tasks[3] = {NULL, NULL, fake_task(66)};
    assert_int_equal(weft__runq_take_half(&queue, tasks, 2), 0);
    push_numbers(&queue, 0, 20);
    assert_int_equal(weft__runq_take_half(&queue, tasks, 0), 0);
    assert_int_equal(weft__runq_take_half(&queue, tasks, 2), 2);
    assert_ptr_equal(tasks[2], fake_task(66));
    expect_numbers(&queue, 2, 18);
}

/* ---- several threads ---- */

enum { THIEF_COUNT = 3 };

struct stress {
    struct weft__runq owner_queue;
    struct weft__runq thief_queue[THIEF_COUNT];
    uint32_t item_count;
    uint64_t seed;
    weft__a32 is_done; /* written by the owner after its last push; read by thieves */
    weft__a32 *seen;   /* one per item, incremented by whoever takes it */
    /* Written by the owner before the push, read by who takes the item: not atomic, so that
     * ThreadSanitizer sees whether the queue orders the two. */
    uint32_t *payload;
};

static struct stress stress;

static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t random_seed(const char *test)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    const char *fixed = getenv("WEFT_TEST_SEED");
    uint64_t seed = fixed != NULL ? strtoull(fixed, NULL, 0)
                                  : (uint64_t)ts.tv_sec * WEFT_SEC + (uint64_t)ts.tv_nsec;
    print_message("%s: WEFT_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

static void see(struct stress *s, struct weft__task *task)
{
    uintptr_t item = number_of(task);
    WEFT_ASSERT(item < s->item_count);
    WEFT_ASSERT(s->payload[item] == ~(uint32_t)item);
    weft__a32_add_relaxed(&s->seen[item], 1);
}

static void *steal_until_done(void *arg)
{
    struct weft__runq *mine = arg;
    struct stress *s = &stress;
    uint64_t seed = s->seed + (uint64_t)(mine - s->thief_queue) + 1;
    for (;;) {
        bool was_done = weft__a32_load_acquire(&s->is_done) != 0;
        /* From the owner, or from another thief, whose queue is being filled by stealing. */
        uint64_t pick = random_next(&seed) % (THIEF_COUNT + 3);
        struct weft__runq *from = pick < THIEF_COUNT ? &s->thief_queue[pick] : &s->owner_queue;
        struct weft__task *task;
        unsigned taken = from == mine ? 0 : weft__runq_steal_half(from, mine, &task);
        if (taken > 0)
            see(s, task);
        struct weft__task *some[5];
        unsigned n = pick == THIEF_COUNT ? weft__runq_steal_some(from, some, 5) : 0;
        for (unsigned i = 0; i < n; i++)
            see(s, some[i]);
        unsigned keep = random_next(&seed) % 4 == 0 ? 8 : 0; /* leave some for other thieves */
        while (weft__runq_len(mine) > keep && (task = weft__runq_pop(mine)) != NULL)
            see(s, task);
        if (was_done && taken == 0 && weft__runq_len_seq_cst(&s->owner_queue) == 0) {
            while ((task = weft__runq_pop(mine)) != NULL)
                see(s, task);
            return NULL;
        }
    }
}

static void own_and_push_all(struct stress *s)
{
    struct weft__task *spilled[WEFT__RUNQ_CAP / 2];
    uint64_t seed = s->seed;
    for (uint32_t item = 0; item < s->item_count;) {
        uint64_t burst = random_next(&seed) % (random_next(&seed) % 8 == 0 ? 400 : 8);
        for (uint64_t i = 0; i < burst && item < s->item_count; i++, item++) {
            s->payload[item] = ~item;
            bool pushed = item % 2 == 0 ? weft__runq_push(&s->owner_queue, fake_task(item))
                                        : weft__runq_push_seq_cst(&s->owner_queue, fake_task(item));
            if (pushed)
                continue;
            unsigned count = weft__runq_take_half(&s->owner_queue, spilled, WEFT__RUNQ_CAP / 2);
            for (unsigned k = 0; k < count; k++)
                see(s, spilled[k]);
            see(s, fake_task(item));
        }
        struct weft__task *task;
        for (uint64_t i = random_next(&seed) % 8; i > 0; i--)
            if ((task = weft__runq_pop(&s->owner_queue)) != NULL)
                see(s, task);
    }
    weft__a32_store_release(&s->is_done, 1);
    struct weft__task *task;
    while ((task = weft__runq_pop(&s->owner_queue)) != NULL)
        see(s, task);
}

static void every_task_is_seen_once_by_owner_and_thieves(void **state)
{
    (void)state;
    const char *under = getenv("WEFT_TEST_UNDER");
    bool is_slow = under != NULL && under[0] != '\0';
    struct stress *s = &stress;
    s->seed = random_seed(__func__);
    s->item_count = is_slow ? 200000 : 3000000;
    s->seen = test_calloc(s->item_count, sizeof(s->seen[0]));
    s->payload = test_calloc(s->item_count, sizeof(s->payload[0]));
    weft__a32_store_relaxed(&s->is_done, 0);
    start_at(&s->owner_queue, UINT32_MAX - 5000); /* wraps soon after the start */
    pthread_t thief[THIEF_COUNT];
    for (unsigned i = 0; i < THIEF_COUNT; i++)
        start_at(&s->thief_queue[i], UINT32_MAX - 500);
    for (unsigned i = 0; i < THIEF_COUNT; i++)
        assert_int_equal(pthread_create(&thief[i], NULL, steal_until_done, &s->thief_queue[i]), 0);
    own_and_push_all(s);
    for (unsigned i = 0; i < THIEF_COUNT; i++)
        assert_int_equal(pthread_join(thief[i], NULL), 0);

    for (unsigned i = 0; i < THIEF_COUNT; i++)
        assert_int_equal(weft__runq_len(&s->thief_queue[i]), 0);
    for (uint32_t item = 0; item < s->item_count; item++)
        assert_int_equal(weft__a32_load_relaxed(&s->seen[item]), 1);
    test_free(s->seen);
    test_free(s->payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(empty_queue_pops_null, init_both),
        cmocka_unit_test_setup(tasks_come_out_in_the_order_they_went_in, init_both),
        cmocka_unit_test_setup(peeking_sees_what_will_be_popped, init_both),
        cmocka_unit_test_setup(full_queue_refuses_and_keeps_what_it_has, init_both),
        cmocka_unit_test_setup(counters_wrap_without_losing_tasks, init_both),
        cmocka_unit_test_setup(capacity_minus_one_leaves_one_slot, init_both),
        cmocka_unit_test_setup(thief_takes_the_older_half_rounded_up, init_both),
        cmocka_unit_test_setup(thief_leaves_an_empty_queue_and_its_result_alone, init_both),
        cmocka_unit_test_setup(thief_takes_no_more_than_it_has_room_for, init_both),
        cmocka_unit_test_setup(stolen_tasks_queue_behind_what_the_thief_has, init_both),
        cmocka_unit_test_setup(who_has_no_queue_takes_the_oldest_of_another, init_both),
        cmocka_unit_test_setup(spilling_takes_the_older_half, init_both),
        cmocka_unit_test_setup(spilling_respects_the_room_given, init_both),
        cmocka_unit_test_setup(every_task_is_seen_once_by_owner_and_thieves, init_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
