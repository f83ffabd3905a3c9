/*
 * The intrusive list.
 */
#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int id;
    struct weft__node node;
};

static void assert_ids(const struct weft__node *head, const int *ids, size_t count)
{
    const struct weft__node *n = head->next;
    for (size_t i = 0; i < count; i++, n = n->next) {
        assert_ptr_not_equal(n, head);
        assert_int_equal(WEFT__CONTAINER_OF(n, struct item, node)->id, ids[i]);
        assert_ptr_equal(n->next->prev, n);
    }
    assert_ptr_equal(n, head);
}
#define ASSERT_IDS(head, ...)                                                                      \
    assert_ids(head, (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static void pushes_keep_order(void **state)
{
    (void)state;
    struct weft__node head;
    struct item items[3] = {{.id = 1}, {.id = 2}, {.id = 3}};
    weft__list_init(&head);
    weft__list_push_back(&head, &items[1].node);
    weft__list_push_back(&head, &items[2].node);
    weft__list_push_front(&head, &items[0].node);
    ASSERT_IDS(&head, 1, 2, 3);
}

static void pop_takes_the_front_and_ends_with_null(void **state)
{
    (void)state;
    struct weft__node head;
    struct item items[2] = {{.id = 1}, {.id = 2}};
    weft__list_init(&head);
    weft__list_push_back(&head, &items[0].node);
    weft__list_push_back(&head, &items[1].node);
    assert_ptr_equal(weft__list_pop_front(&head), &items[0].node);
    assert_ptr_equal(weft__list_pop_front(&head), &items[1].node);
    assert_null(weft__list_pop_front(&head));
}

static void remove_is_idempotent(void **state)
{
    (void)state;
    struct weft__node head;
    struct item items[3] = {{.id = 1}, {.id = 2}, {.id = 3}};
    weft__list_init(&head);
    for (int i = 0; i < 3; i++)
        weft__list_push_back(&head, &items[i].node);
    weft__list_remove(&items[1].node);
    weft__list_remove(&items[1].node);
    assert_true(weft__list_is_empty(&items[1].node));
    ASSERT_IDS(&head, 1, 3);
}

static void splice_moves_everything_to_the_end(void **state)
{
    (void)state;
    struct weft__node to, from;
    struct item items[4] = {{.id = 1}, {.id = 2}, {.id = 3}, {.id = 4}};
    weft__list_init(&to);
    weft__list_init(&from);
    weft__list_push_back(&to, &items[0].node);
    for (int i = 1; i < 4; i++)
        weft__list_push_back(&from, &items[i].node);
    weft__list_splice_back(&to, &from);
    ASSERT_IDS(&to, 1, 2, 3, 4);
    assert_true(weft__list_is_empty(&from));
}

static void splice_of_and_into_an_empty_list(void **state)
{
    (void)state;
    struct weft__node to, from;
    struct item item = {.id = 1};
    weft__list_init(&to);
    weft__list_init(&from);
    weft__list_splice_back(&to, &from);
    assert_true(weft__list_is_empty(&to));
    weft__list_push_back(&from, &item.node);
    weft__list_splice_back(&to, &from);
    ASSERT_IDS(&to, 1);
    assert_true(weft__list_is_empty(&from));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushes_keep_order),
        cmocka_unit_test(pop_takes_the_front_and_ends_with_null),
        cmocka_unit_test(remove_is_idempotent),
        cmocka_unit_test(splice_moves_everything_to_the_end),
        cmocka_unit_test(splice_of_and_into_an_empty_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
