/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * Trees of cancellation tokens under every schedule: cancel against waiting, leaving, making
 * children and giving tokens up.
 */
#include "../../src/task/cancel_token.c"

#include "model.h"
#include "waits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static weft_cancel_token *root, *middle, *leaf;
static int before_cancel; /* plain: published by the cancel */
static bool has_waited;

static void init(void)
{
    waits_init();
    before_cancel = 0;
    has_waited = false;
    leaf = NULL;
    MODEL_CHECK(weft_cancel_token_create(&root) == 0);
    MODEL_CHECK(weft_cancel_token_child(root, &middle) == 0);
    model_name(root, sizeof *root, "root");
    model_name(middle, sizeof *middle, "middle");
    model_name(root->tree, sizeof *root->tree, "tree");
}

static void init_three(void)
{
    init();
    MODEL_CHECK(weft_cancel_token_child(middle, &leaf) == 0);
    model_name(leaf, sizeof *leaf, "leaf");
}

static void cancel_root(void)
{
    before_cancel = 1;
    weft_cancel_token_cancel(root);
}

static void cancel_and_give_root_up(void)
{
    cancel_root();
    weft_cancel_token_unref(root);
}

static void wait_for_middle(void)
{
    weft_cancel_token_future f;
    weft_cancel_token_future_init(&f, middle);
    MODEL_CHECK(waits_await(&f.future) == 0);
    MODEL_CHECK(before_cancel == 1);
    has_waited = true;
    weft_cancel_token_unref(middle); /* may be the last touch of the tree */
}

static void wait_for_leaf(void)
{
    weft_cancel_token_future f;
    weft_cancel_token_future_init(&f, leaf);
    MODEL_CHECK(waits_await(&f.future) == 0);
    has_waited = true;
    weft_cancel_token_unref(leaf);
}

static void look_at_middle_and_leave(void)
{
    weft_cancel_token_future f;
    weft_cancel_token_future_init_owned(&f, middle);
    weft_cancel_token_unref(middle);
    int rc = waits_try_once(&f.future);
    MODEL_CHECK(rc == 0 || rc == -ECANCELED);
    has_waited = true;
}

static void make_a_child(void)
{
    MODEL_CHECK(weft_cancel_token_child(middle, &leaf) == 0);
    weft_cancel_token_unref(middle);
}

static void give_middle_up(void)
{
    weft_cancel_token_unref(middle);
}

static void waited(void)
{
    waits_check();
    MODEL_CHECK(has_waited);
}

/* Whatever came first, the child is cancelled once both have passed. */
static void child_is_cancelled(void)
{
    waits_check();
    MODEL_CHECK(weft_cancel_token_is_cancelled(leaf));
    weft_cancel_token_unref(leaf);
    weft_cancel_token_unref(root);
}

#define CANCEL_MODEL(function, ...)                                                                \
    static void function(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {.name = "cancel: " #function, __VA_ARGS__};                 \
        model_passes(&m);                                                                          \
    }

CANCEL_MODEL(a_wait_ends_and_may_free_the_tree, .init = init,
             .thread = {cancel_and_give_root_up, wait_for_middle}, .check = waited)
CANCEL_MODEL(a_wait_is_left_at_any_moment, .init = init,
             .thread = {cancel_and_give_root_up, look_at_middle_and_leave}, .check = waited)
CANCEL_MODEL(a_child_made_meanwhile_is_cancelled, .init = init,
             .thread = {cancel_root, make_a_child}, .check = child_is_cancelled)
CANCEL_MODEL(the_one_between_goes_meanwhile, .init = init_three,
             .thread = {cancel_and_give_root_up, give_middle_up, wait_for_leaf}, .check = waited)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_ends_and_may_free_the_tree),
        cmocka_unit_test(a_wait_is_left_at_any_moment),
        cmocka_unit_test(a_child_made_meanwhile_is_cancelled),
        cmocka_unit_test(the_one_between_goes_meanwhile),
    };
    return cmocka_run_group_tests_name("model cancel", tests, NULL, NULL);
}
