/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The lock of src/sys/lock.c itself, over the model's futex. The other models have one that does
 * not spin. Here the functions of lock.c take the place of theirs.
 */
#include "../../src/sys/lock.c"

#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* The word is explored like any other. */
void weft__model_lock_word(struct weft__lock *l)
{
    (void)l;
}

static struct weft__lock lock;
static bool is_inside;
static int entered;

static void init(void)
{
    weft__lock_init(&lock);
    is_inside = false;
    entered = 0;
    model_name(&lock, sizeof lock, "lock");
}

static void section(void)
{
    MODEL_CHECK(!is_inside);
    WEFT__MODEL_WRITE(&is_inside);
    is_inside = true;
    model_step("inside");
    is_inside = false;
    entered++;
}

static void enter(void)
{
    weft__lock_acquire(&lock);
    section();
    weft__lock_release(&lock);
}

static void enter_twice(void)
{
    enter();
    enter();
}

static void try_to_enter(void)
{
    if (!weft__lock_try_acquire(&lock)) {
        entered++;
        return;
    }
    section();
    weft__lock_release(&lock);
}

static void all_entered(void)
{
    MODEL_CHECK(entered == 4);
    MODEL_CHECK(weft__a32_load_relaxed(&lock.word) == 0);
}

/* Seeded: a release that wakes nobody. */
static void enter_and_wake_nobody(void)
{
    weft__lock_acquire(&lock);
    section();
    weft__lock_count_add(-1);
    weft__a32_store_release(&lock.word, 0);
}

static void one_at_a_time_and_none_left_behind(void **state)
{
    (void)state;
    static const struct model m = {.name = "lock: three threads",
                                   .init = init,
                                   .thread = {enter_twice, enter, enter},
                                   .check = all_entered};
    model_passes(&m);
}

static void try_acquire_beside_others(void **state)
{
    (void)state;
    static const struct model m = {.name = "lock: try_acquire",
                                   .init = init,
                                   .thread = {enter_twice, try_to_enter, enter},
                                   .check = all_entered};
    model_passes(&m);
}

static void a_release_without_a_wake_is_found(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "lock: no wake", .init = init, .thread = {enter_and_wake_nobody, enter}};
    model_fails(&m, MODEL_DEADLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_at_a_time_and_none_left_behind),
        cmocka_unit_test(try_acquire_beside_others),
        cmocka_unit_test(a_release_without_a_wake_is_found),
    };
    return cmocka_run_group_tests_name("model lock", tests, NULL, NULL);
}
