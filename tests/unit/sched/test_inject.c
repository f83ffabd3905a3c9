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
    struct weft__qnode node;
    uint32_t number, producer;
};

static struct weft__inject queue;
static struct item items[32];

static int init_queue(void **state)
{
    (void)state;
    weft__inject_init(&queue);
    for (uint32_t i = 0; i < 32; i++)
        items[i].number = i;
    return 0;
}

static struct item *item_of(struct weft__qnode *node)
{
    return (struct item *)((char *)node - offsetof(struct item, node));
}

static void push_item(struct item *item)
{
    assert_true(weft__inject_push(&queue, &item->node));
    weft__inject_check(&queue);
}

static void expect_item(const struct item *item)
{
    struct weft__qnode *node = weft__inject_pop(&queue);
    weft__inject_check(&queue);
    assert_non_null(node);
    assert_ptr_equal(item_of(node), item);
}

/* Links items[first] to items[first + count - 1]. */
static bool push_chain(size_t first, size_t count)
{
    for (size_t i = first; i + 1 < first + count; i++)
        items[i].node.next = &items[i + 1].node;
    items[first + count - 1].node.next =
        &items[0].node; /* stale, as in a task that was queued before */
    bool pushed =
        weft__inject_push_chain(&queue, &items[first].node, &items[first + count - 1].node, count);
    weft__inject_check(&queue);
    return pushed;
}

static void empty_queue_pops_nothing(void **state)
{
    (void)state;
    struct weft__qnode *nodes[4];
    assert_null(weft__inject_pop(&queue));
    assert_int_equal(weft__inject_pop_many(&queue, nodes, 4), 0);
    assert_int_equal(weft__inject_len(&queue), 0);
    assert_true(weft__inject_is_empty_seq_cst(&queue));
}

static void nodes_come_out_in_the_order_they_went_in(void **state)
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

static void chains_and_single_nodes_keep_one_order(void **state)
{
    (void)state;
    assert_true(push_chain(0, 3));
    push_item(&items[3]);
    assert_true(push_chain(4, 1));
    assert_true(push_chain(5, 4));
    assert_int_equal(weft__inject_len(&queue), 9);
    for (size_t i = 0; i < 9; i++)
        expect_item(&items[i]);
    assert_true(weft__inject_is_empty_seq_cst(&queue));
}

static void pop_many_takes_at_most_what_was_asked(void **state)
{
    (void)state;
    struct weft__qnode *nodes[8] = {NULL};
    assert_true(push_chain(0, 6));
    assert_int_equal(weft__inject_pop_many(&queue, nodes, 0), 0);
    assert_int_equal(weft__inject_pop_many(&queue, nodes, 4), 4);
    for (size_t i = 0; i < 4; i++)
        assert_ptr_equal(nodes[i], &items[i].node);
    assert_null(nodes[4]);
    assert_int_equal(weft__inject_len(&queue), 2);
    assert_int_equal(weft__inject_pop_many(&queue, nodes, 8), 2);
    assert_ptr_equal(nodes[1], &items[5].node);
    weft__inject_check(&queue);
}

static void closed_queue_refuses_pushes_and_drains(void **state)
{
    (void)state;
    push_item(&items[0]);
    assert_true(weft__inject_close(&queue));
    assert_false(weft__inject_close(&queue));
    assert_false(weft__inject_push(&queue, &items[1].node));
    assert_false(push_chain(2, 3));
    assert_int_equal(weft__inject_len(&queue), 1);
    expect_item(&items[0]);
    assert_null(weft__inject_pop(&queue));
    assert_false(weft__inject_push(&queue, &items[1].node));
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
        uint32_t count = 1 + i % 5;
        if (count > s->per_producer - i)
            count = s->per_producer - i;
        for (uint32_t k = i; k < i + count; k++) {
            mine[k].number = k;
            mine[k].node.next = k + 1 < i + count ? &mine[k + 1].node : NULL;
        }
        if (!weft__inject_push_chain(&s->queue, &mine[i].node, &mine[i + count - 1].node, count))
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
        struct weft__qnode *nodes[7];
        size_t count = weft__inject_pop_many(&s->queue, nodes, 7);
        for (size_t i = 0; i < count; i++) {
            struct item *item = item_of(nodes[i]);
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
    s->per_producer = under != NULL && under[0] != '\0' ? 20000 : 200000;
    uint32_t total = PRODUCER_COUNT * s->per_producer;
    s->items = test_calloc(total, sizeof(s->items[0]));
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
    test_free(s->items);
    test_free(s->seen);
    return seen_count;
}

static void every_node_is_popped_once(void **state)
{
    (void)state;
    uint32_t seen_count = run_stress(false);
    assert_int_equal(seen_count, PRODUCER_COUNT * stress.per_producer);
}

static void each_node_is_popped_or_refused_when_closed_midway(void **state)
{
    (void)state;
    run_stress(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(empty_queue_pops_nothing, init_queue),
        cmocka_unit_test_setup(nodes_come_out_in_the_order_they_went_in, init_queue),
        cmocka_unit_test_setup(chains_and_single_nodes_keep_one_order, init_queue),
        cmocka_unit_test_setup(pop_many_takes_at_most_what_was_asked, init_queue),
        cmocka_unit_test_setup(closed_queue_refuses_pushes_and_drains, init_queue),
        cmocka_unit_test(every_node_is_popped_once),
        cmocka_unit_test(each_node_is_popped_or_refused_when_closed_midway),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
