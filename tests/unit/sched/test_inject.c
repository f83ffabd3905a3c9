#include "sched/inject.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

struct item {
    struct weft__task task;
    uint32_t number;
};

static struct weft__inject queue;
#define ITEMS (5 * WEFT__BUNCH)
static struct item items[ITEMS];

static int init_queue(void **state)
{
    (void)state;
    weft__inject_init(&queue);
    for (uint32_t i = 0; i < ITEMS; i++)
        items[i].number = i;
    return 0;
}

static struct item *item_of(struct weft__task *task)
{
    return (struct item *)((char *)task - offsetof(struct item, task));
}

static void push_item(struct item *item)
{
    assert_true(weft__inject_push(&queue, &item->task));
    weft__inject_check(&queue);
}

static void expect_item(const struct item *item)
{
    struct weft__task *task = weft__inject_pop(&queue);
    weft__inject_check(&queue);
    assert_non_null(task);
    assert_ptr_equal(item_of(task), item);
}

static bool push_many(size_t first, size_t count)
{
    struct weft__task *tasks[ITEMS];
    for (size_t i = 0; i < count; i++) {
        tasks[i] = &items[first + i].task;
        tasks[i]->qnode.next = &items[0].task.qnode; /* stale, as of one queued before */
        tasks[i]->result.value = &queue;
    }
    bool pushed = weft__inject_push_many(&queue, tasks, count);
    weft__inject_check(&queue);
    return pushed;
}

/* They are `count`, from items[first] on. */
static void expect_many(size_t want, size_t max, size_t first, size_t count)
{
    struct weft__task *task;
    assert_int_equal(weft__inject_pop_many(&queue, want, max, &task), count);
    weft__inject_check(&queue);
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(item_of(task), &items[first + i]);
        if (i + 1 < count)
            task = weft__inject_next(task);
    }
}

static void empty_queue_pops_nothing(void **state)
{
    (void)state;
    struct weft__task *task;
    assert_null(weft__inject_pop(&queue));
    assert_int_equal(weft__inject_pop_many(&queue, 4, 4, &task), 0);
    assert_int_equal(weft__inject_len(&queue), 0);
    assert_true(weft__inject_is_empty_seq_cst(&queue));
}

static void tasks_come_out_in_the_order_they_went_in(void **state)
{
    (void)state;
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 5; i++)
            push_item(&items[i]);
        assert_int_equal(weft__inject_len(&queue), 5);
        assert_false(weft__inject_is_empty_seq_cst(&queue));
        for (size_t i = 0; i < 5; i++)
            expect_item(&items[i]);
        assert_null(weft__inject_pop(&queue));
    }
}

static void many_and_single_ones_keep_one_order(void **state)
{
    (void)state;
    assert_true(push_many(0, 3));
    push_item(&items[3]);
    assert_true(push_many(4, 1));
    assert_true(push_many(5, 4));
    assert_int_equal(weft__inject_len(&queue), 9);
    for (size_t i = 0; i < 9; i++)
        expect_item(&items[i]);
    assert_true(weft__inject_is_empty_seq_cst(&queue));
}

static void pop_many_takes_at_most_what_there_is_room_for(void **state)
{
    (void)state;
    assert_true(push_many(0, 6));
    expect_many(0, 0, 0, 0);
    expect_many(4, 4, 0, 4);
    assert_int_equal(weft__inject_len(&queue), 2);
    expect_many(8, 8, 4, 2);
}

static void a_bunch_is_taken_whole_where_not_few_are_wanted(void **state)
{
    (void)state;
    assert_true(push_many(0, 3 * WEFT__BUNCH));
    expect_many(WEFT__BUNCH / 4, WEFT__BUNCH, 0, WEFT__BUNCH);
    expect_many(2, WEFT__BUNCH, WEFT__BUNCH, 2);
    expect_many(WEFT__BUNCH - 4, WEFT__BUNCH - 4, WEFT__BUNCH + 2, WEFT__BUNCH - 4);
    expect_many(3, 4, 2 * WEFT__BUNCH - 2, 2 + 1); /* what is left of one, and of the next */
    expect_many(WEFT__BUNCH, 4 * WEFT__BUNCH, 2 * WEFT__BUNCH + 1, WEFT__BUNCH - 1);
    assert_true(weft__inject_is_empty_seq_cst(&queue));
}

/* Else one worker would take a burst from outside away from those that were woken for it. */
static void of_a_short_queue_no_more_is_taken_than_wanted(void **state)
{
    (void)state;
    assert_true(push_many(0, 7));
    for (size_t i = 0; i < 3; i++)
        expect_many(1, WEFT__BUNCH, i, 1);
    expect_many(3, WEFT__BUNCH, 3, 3);
    expect_many(2, WEFT__BUNCH, 6, 1);
    assert_true(push_many(0, WEFT__BUNCH));
    expect_many(WEFT__BUNCH / 4 - 1, WEFT__BUNCH, 0, WEFT__BUNCH / 4 - 1);
    expect_many(WEFT__BUNCH / 4, WEFT__BUNCH, WEFT__BUNCH / 4 - 1, 3 * WEFT__BUNCH / 4 + 1);
}

/* Pushes and pops of all sizes, against a plain count of what went in and came out. */
static void bunches_of_all_sizes_keep_one_order(void **state)
{
    (void)state;
    size_t in = 0, out = 0;
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t n = (seed >> 33) % 8 ? (seed >> 40) % 5 + 1 : (seed >> 40) % (2 * WEFT__BUNCH) + 1;
        if (seed >> 63) {
            if (in - out + n > ITEMS)
                continue;
            struct weft__task *tasks[2 * WEFT__BUNCH];
            for (size_t i = 0; i < n; i++)
                tasks[i] = &items[in++ % ITEMS].task;
            assert_true(weft__inject_push_many(&queue, tasks, n));
        } else {
            size_t max = n + (seed >> 50) % WEFT__BUNCH;
            struct weft__task *task;
            size_t count = weft__inject_pop_many(&queue, n, max, &task);
            assert_in_range(count, n < in - out ? n : in - out, max);
            for (size_t i = 0; i < count; i++) {
                assert_ptr_equal(item_of(task), &items[out++ % ITEMS]);
                if (i + 1 < count)
                    task = weft__inject_next(task);
            }
        }
        weft__inject_check(&queue);
        assert_int_equal(weft__inject_len(&queue), in - out);
    }
}

static void closed_queue_refuses_pushes_and_drains(void **state)
{
    (void)state;
    push_item(&items[0]);
    assert_true(weft__inject_close(&queue));
    assert_false(weft__inject_close(&queue));
    assert_false(weft__inject_push(&queue, &items[1].task));
    assert_false(push_many(2, 3));
    assert_int_equal(weft__inject_len(&queue), 1);
    expect_item(&items[0]);
    assert_null(weft__inject_pop(&queue));
    assert_false(weft__inject_push(&queue, &items[1].task));
}

/* ---- several threads ---- */

enum { PRODUCER_COUNT = 2, CONSUMER_COUNT = 2 };

struct stress {
    struct weft__inject queue;
    uint32_t per_producer;
    struct item *items; /* PRODUCER_COUNT * per_producer */
    weft__a32 *seen;
    weft__a32 refused_count;
    weft__a32 producers_left;
};

static struct stress stress;

static void *produce(void *arg)
{
    struct stress *s = &stress;
    struct item *mine = arg;
    for (uint32_t i = 0; i < s->per_producer;) {
        struct weft__task *tasks[5];
        uint32_t count = 1 + i % 5;
        if (count > s->per_producer - i)
            count = s->per_producer - i;
        for (uint32_t k = 0; k < count; k++) {
            mine[i + k].number = i + k;
            tasks[k] = &mine[i + k].task;
        }
        if (!weft__inject_push_many(&s->queue, tasks, count))
            weft__a32_add_relaxed(&s->refused_count, count);
        i += count;
    }
    weft__a32_sub_release(&s->producers_left, 1);
    return NULL;
}

static void *consume(void *arg)
{
    struct stress *s = &stress;
    (void)arg;
    uint32_t next_number[PRODUCER_COUNT] = {0};
    for (;;) {
        bool was_last = weft__a32_load_acquire(&s->producers_left) == 0;
        struct weft__task *task;
        size_t count = weft__inject_pop_many(&s->queue, 7, 70, &task);
        for (size_t i = 0; i < count; i++) {
            struct item *item = item_of(task);
            if (i + 1 < count)
                task = weft__inject_next(task);
            size_t index = (size_t)(item - s->items);
            size_t producer = index / s->per_producer;
            /* One consumer sees the items of one producer in their order. */
            WEFT_ASSERT(item->number >= next_number[producer]);
            next_number[producer] = item->number + 1;
            weft__a32_add_relaxed(&s->seen[index], 1);
        }
        if (count == 0) {
            if (was_last)
                return NULL;
            sched_yield();
        }
    }
}

/* Returns how many of the items were seen by the end. */
static uint32_t run_stress(bool close_midway)
{
    struct stress *s = &stress;
    const char *under = getenv("WEFT_TEST_UNDER");
    s->per_producer = under != NULL && under[0] != '\0' ? 10000 : 50000;
    uint32_t total = PRODUCER_COUNT * s->per_producer;
    /* Tasks begin with a line. */
    s->items = aligned_alloc(WEFT__CACHE_LINE, total * sizeof(s->items[0]));
    assert_non_null(s->items);
    s->seen = test_calloc(total, sizeof(s->seen[0]));
    weft__inject_init(&s->queue);
    weft__a32_store_relaxed(&s->refused_count, 0);
    weft__a32_store_relaxed(&s->producers_left, PRODUCER_COUNT);

    pthread_t producer[PRODUCER_COUNT], consumer[CONSUMER_COUNT];
    for (size_t i = 0; i < CONSUMER_COUNT; i++)
        assert_int_equal(pthread_create(&consumer[i], NULL, consume, NULL), 0);
    for (size_t i = 0; i < PRODUCER_COUNT; i++)
        assert_int_equal(
            pthread_create(&producer[i], NULL, produce, &s->items[i * s->per_producer]), 0);
    if (close_midway)
        assert_true(weft__inject_close(&s->queue));
    for (size_t i = 0; i < PRODUCER_COUNT; i++)
        assert_int_equal(pthread_join(producer[i], NULL), 0);
    for (size_t i = 0; i < CONSUMER_COUNT; i++)
        assert_int_equal(pthread_join(consumer[i], NULL), 0);

    weft__inject_check(&s->queue);
    assert_true(weft__inject_is_empty_seq_cst(&s->queue));
    uint32_t seen_count = 0;
    for (uint32_t i = 0; i < total; i++) {
        assert_in_range(weft__a32_load_relaxed(&s->seen[i]), 0, 1);
        seen_count += weft__a32_load_relaxed(&s->seen[i]);
    }
    assert_int_equal(seen_count + weft__a32_load_relaxed(&s->refused_count), total);
    free(s->items);
    test_free(s->seen);
    return seen_count;
}

static void every_task_is_popped_once(void **state)
{
    (void)state;
    uint32_t seen_count = run_stress(false);
    assert_int_equal(seen_count, PRODUCER_COUNT * stress.per_producer);
}

static void each_task_is_popped_or_refused_when_closed_midway(void **state)
{
    (void)state;
    run_stress(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(empty_queue_pops_nothing, init_queue),
        cmocka_unit_test_setup(tasks_come_out_in_the_order_they_went_in, init_queue),
        cmocka_unit_test_setup(many_and_single_ones_keep_one_order, init_queue),
        cmocka_unit_test_setup(pop_many_takes_at_most_what_there_is_room_for, init_queue),
        cmocka_unit_test_setup(a_bunch_is_taken_whole_where_not_few_are_wanted, init_queue),
        cmocka_unit_test_setup(of_a_short_queue_no_more_is_taken_than_wanted, init_queue),
        cmocka_unit_test_setup(bunches_of_all_sizes_keep_one_order, init_queue),
        cmocka_unit_test_setup(closed_queue_refuses_pushes_and_drains, init_queue),
        cmocka_unit_test(every_task_is_popped_once),
        cmocka_unit_test(each_task_is_popped_or_refused_when_closed_midway),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
