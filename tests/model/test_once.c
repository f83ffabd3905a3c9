/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * Once cells, set-once cells, wait groups and barriers under every schedule: an initialiser that
 * fails against one who waits, a turn given to one who gives up, a value or the last done against
 * one who waits and then frees the object.
 */
#include "model.h"
#include "waits.h"

#include "base/model.h"
#include "sys/sys.h"

#include <weft/barrier.h>
#include <weft/once.h>
#include <weft/set_once.h>
#include <weft/wait_group.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

static int value; /* written before it is published */

static void make_value(void)
{
    WEFT__MODEL_WRITE(&value);
    value = 42;
}

static void see_value(const void *p)
{
    MODEL_CHECK(p == &value);
    WEFT__MODEL_READ(&value);
    MODEL_CHECK(value == 42);
}

/* ---- once cells ---- */

static weft_once once;
static int made; /* by whose turn it is */

static void init_turn(void)
{
    waits_init();
    weft_once_init(&once);
    model_name(&once, sizeof once, "once");
    value = made = 0;
    weft_once_turn_future f;
    weft_once_turn_future_init(&f, &once);
    MODEL_CHECK(f.future.ops->poll(&f.future, waits_waker()) == 1);
}

static void fail_to_make(void)
{
    MODEL_CHECK(weft_once_abandon(&once) == 0);
}

static void complete(void)
{
    make_value();
    made++;
    MODEL_CHECK(weft_once_complete(&once, &value) == 0);
}

static void get_or_make(void)
{
    weft_once_turn_future f;
    weft_once_turn_future_init(&f, &once);
    if (waits_await(&f.future) == 1)
        complete();
    void *p = NULL;
    MODEL_CHECK(weft_once_try_get(&once, &p) == 0);
    see_value(p);
}

static void look_only(void)
{
    void *p = NULL;
    if (weft_once_try_get(&once, &p) == 0)
        see_value(p);
}

static void want_or_give_up(void)
{
    weft_once_turn_future f;
    weft_once_turn_future_init(&f, &once);
    if (waits_try_once(&f.future) == 1)
        MODEL_CHECK(weft_once_abandon(&once) == 0);
}

static void made_once(void)
{
    void *p = NULL;
    waits_check();
    MODEL_CHECK(made == 1);
    MODEL_CHECK(weft_once_take(&once, &p) == 0);
    see_value(p);
}

static void initialiser_against_who_waits(void **state)
{
    (void)state;
    static const struct model fails = {.name = "once: initialiser fails against who waits",
                                       .init = init_turn,
                                       .thread = {fail_to_make, get_or_make},
                                       .check = made_once};
    model_passes(&fails);
    static const struct model two = {.name = "once: initialiser fails, two wait",
                                     .init = init_turn,
                                     .thread = {fail_to_make, get_or_make, get_or_make},
                                     .check = made_once,
                                     .stale_less = 1};
    model_passes(&two);
    static const struct model done = {.name = "once: value against who waits and who looks",
                                      .init = init_turn,
                                      .thread = {complete, get_or_make, look_only},
                                      .check = made_once,
                                      .stale_less = 1};
    model_passes(&done);
    static const struct model gives_up = {.name = "once: turn given to who gives up",
                                          .init = init_turn,
                                          .thread = {fail_to_make, want_or_give_up, get_or_make},
                                          .check = made_once,
                                          .stale_less = 1};
    model_passes(&gives_up);
}

/* ---- set-once cells ---- */

static weft_set_once *cell;
static int sets;

static void init_cell(void)
{
    waits_init();
    cell = weft__calloc(1, sizeof *cell);
    MODEL_CHECK(cell != NULL);
    model_name(cell, sizeof *cell, "cell");
    value = sets = 0;
}

static void set(void)
{
    make_value();
    MODEL_CHECK(weft_set_once_set(cell, &value) == 0);
}

static void wait_for_value_and_free(void)
{
    void *p = NULL;
    weft_set_once_wait_future f;
    weft_set_once_wait_future_init(&f, cell);
    if (weft_set_once_try_wait(cell, &p) < 0) {
        MODEL_CHECK(waits_await(&f.future) == 0);
        MODEL_CHECK(weft_set_once_try_wait(cell, &p) == 0);
    }
    see_value(p);
    weft__free(cell);
}

static void value_against_who_waits(void **state)
{
    (void)state;
    static const struct model m = {.name = "set-once: freed by who waited",
                                   .init = init_cell,
                                   .thread = {set, wait_for_value_and_free},
                                   .check = waits_check};
    model_passes(&m);
}

/* ---- wait groups ---- */

static weft_wait_group *group;
static int part[2];

static void init_group(void)
{
    waits_init();
    group = weft__calloc(1, sizeof *group);
    MODEL_CHECK(group != NULL);
    model_name(group, sizeof *group, "group");
    MODEL_CHECK(weft_wait_group_add(group, 2) == 0);
    part[0] = part[1] = 0;
}

static void do_part(void)
{
    int *mine = &part[model_self()];
    WEFT__MODEL_WRITE(mine);
    *mine = 1;
    weft_wait_group_done(group);
}

static void see_parts(void)
{
    WEFT__MODEL_READ(&part);
    MODEL_CHECK(part[0] == 1 && part[1] == 1);
}

static void wait_for_group_and_free(void)
{
    weft_wait_group_wait_future f;
    weft_wait_group_wait_future_init(&f, group);
    MODEL_CHECK(weft_wait_group_try_wait(group) == 0 || waits_await(&f.future) == 0);
    see_parts();
    weft__free(group);
}

static void wait_for_group_or_give_up(void)
{
    weft_wait_group_wait_future f;
    weft_wait_group_wait_future_init(&f, group);
    if (waits_try_once(&f.future) == 0)
        see_parts();
}

static void group_is_empty(void)
{
    waits_check();
    MODEL_CHECK(weft_wait_group_try_wait(group) == 0);
    weft__free(group);
}

static void last_done_against_who_waits(void **state)
{
    (void)state;
    static const struct model memory = {.name = "wait group: freed by who waited",
                                        .init = init_group,
                                        .thread = {do_part, do_part, wait_for_group_and_free},
                                        .check = waits_check,
                                        .stale_less = 1};
    model_passes(&memory);
    static const struct model leaves = {.name = "wait group: who waits gives up",
                                        .init = init_group,
                                        .thread = {do_part, do_part, wait_for_group_or_give_up},
                                        .check = group_is_empty,
                                        .stale_less = 1};
    model_passes(&leaves);
}

/* ---- barriers ---- */

static weft_barrier barrier;
static int leaders; /* by the leader, before it goes on */

static void init_barrier(void)
{
    waits_init();
    weft_barrier_init(&barrier, 2);
    model_name(&barrier, sizeof barrier, "barrier");
    part[0] = part[1] = 0;
    leaders = 0;
}

static int arrive(void)
{
    weft_barrier_wait_future f;
    weft_barrier_wait_future_init(&f, &barrier);
    return waits_await(&f.future);
}

static void work_then_arrive(void)
{
    int *mine = &part[model_self()];
    WEFT__MODEL_WRITE(mine);
    *mine = 1;
    if (arrive() == 1)
        leaders++;
    see_parts();
    if (arrive() == 1)
        leaders++;
}

static void two_leaders(void)
{
    waits_check();
    MODEL_CHECK(leaders == 2);
}

static void arrivals(void **state)
{
    (void)state;
    static const struct model rounds = {.name = "barrier: two rounds",
                                        .init = init_barrier,
                                        .thread = {work_then_arrive, work_then_arrive},
                                        .check = two_leaders};
    model_passes(&rounds);
}

/* ---- seeded: a last done under the lock, whose waiter does not wait for the lock ---- */

static void free_at_zero(void)
{
    weft_wait_group_wait_future f;
    weft_wait_group_wait_future_init(&f, group);
    if (f.future.ops->poll(&f.future, waits_waker()) == WEFT_PENDING)
        while (weft_wait_group_count(group) != 0)
            model_give_way();
    weft__free(group);
}

static void do_both_parts(void)
{
    weft_wait_group_done(group);
    weft_wait_group_done(group);
}

static void a_free_under_the_lock_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "wait group: freed without waiting for the lock",
                                   .init = init_group,
                                   .thread = {do_both_parts, free_at_zero}};
    model_fails(&m, MODEL_RACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initialiser_against_who_waits),  cmocka_unit_test(value_against_who_waits),
        cmocka_unit_test(last_done_against_who_waits),    cmocka_unit_test(arrivals),
        cmocka_unit_test(a_free_under_the_lock_is_found),
    };
    return cmocka_run_group_tests_name("model once", tests, NULL, NULL);
}
