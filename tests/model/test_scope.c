/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * A scope against the ends of its children, under every schedule. The source is included: the
 * children are bare tasks that complete, as executors complete them, and the scope is freed as soon
 * as its owner may leave, which the explorer checks every access against.
 */
#include "../../src/sync/scope.c"
#include "../../src/sync/scope_child.c"

#include "model.h"
#include "waits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define CHILDREN 2

static struct weft__scope *s;
static struct weft__core core;
static struct weft__task task[CHILDREN];
static struct weft__scope_child *child[CHILDREN];
static bool has_ended[CHILDREN];
static int turn_rc, owner_error;

static void init_task(int i)
{
    static const char *const names[CHILDREN] = {"child0", "child1"};
    memset(&task[i], 0, sizeof task[i]);
    task[i].core = &core;
    weft__aptr_store_relaxed(&task[i].join_waker, weft__end_hook_tagged(&child[i]->hook));
    /* one reference more than a task has, so that it is not freed */
    weft__a64_store_relaxed(&task[i].state,
                            3 * WEFT__TASK_REF | WEFT__TASK_HANDLE | WEFT__TASK_JOINED);
    model_name(&task[i], sizeof task[i], names[i]);
}

static void init_scope(size_t at_most, int count)
{
    waits_init();
    s = weft__calloc(1, sizeof *s);
    MODEL_CHECK(s != NULL);
    model_name(s, sizeof *s, "scope");
    weft__list_init(&s->children);
    weft__list_init(&s->free);
    s->at_most = at_most;
    s->is_open = true;
    turn_rc = 1;
    owner_error = 0;
    for (int i = 0; i < CHILDREN; i++) {
        has_ended[i] = false;
        child[i] = NULL;
        if (i >= count)
            continue;
        s->live++;
        child[i] = child_take(s);
        child[i]->hook.fn = child_ended;
        init_task(i);
    }
}

/* Both are known to the scope. */
static void init_two(void)
{
    init_scope(SIZE_MAX, 2);
    child_settle(s, child[0], &task[0]);
    child_settle(s, child[1], &task[1]);
}

static int fails(void *arg)
{
    (void)arg;
    return -EIO;
}

static void init_two_one_fails(void)
{
    init_two();
    child[0]->go = fails;
}

/* The first is still being spawned. */
static void init_one_new(void)
{
    init_scope(SIZE_MAX, 1);
}

static void init_full(void)
{
    init_scope(1, 1);
    child_settle(s, child[0], &task[0]);
}

/* ---- what they do ---- */

static void end(int i, int rc)
{
    task[i].outcome = WEFT_OUTCOME_VALUE;
    task[i].result.value = (void *)(intptr_t)rc;
    has_ended[i] = true;
    weft_waker *joiner;
    MODEL_CHECK(weft__task_set_done(&task[i], &joiner));
    weft__task_tell_joiner(&task[i], joiner);
}

static void end_first(void)
{
    end(0, 0);
}

static void end_first_failing(void)
{
    end(0, -EIO);
}

static void end_second(void)
{
    end(1, 0);
}

/* Waits until it is aborted, as a body that sleeps for ever does. */
static bool is_aborted(void *arg)
{
    /* the memory itself: weft__a64_load would be a step */
    return *(volatile uint64_t *)&((struct weft__task *)arg)->state & WEFT__TASK_ABORT;
}

static void end_second_when_aborted(void)
{
    model_wait(is_aborted, &task[1], "abort");
    end(1, 0);
}

static void settle_first(void)
{
    child_settle(s, child[0], &task[0]);
}

static void owner_leaves(void)
{
    struct idle_wait w = {.future = {&idle_ops}, .scope = s};
    MODEL_CHECK(waits_await(&w.future) == 0);
    MODEL_CHECK(s->live == 0);
    owner_error = s->error;
    weft__scope_free_children(s);
    weft__free(s);
}

static void owner_spawns_and_leaves(void)
{
    settle_first();
    owner_leaves();
}

static void owner_cancels_and_leaves(void)
{
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&s->lock);
    weft__scope_cancel_locked(s, &wakes);
    weft__lock_release(&s->lock);
    weft__wake_list_flush(&wakes);
    owner_leaves();
}

/* Seeded: the owner believes the waiter without the lock. */
static int careless_poll(weft_future *f, weft_waker *waker)
{
    struct idle_wait *w = WEFT__CONTAINER_OF(f, struct idle_wait, future);
    if (weft__a32_load_acquire(&w->waiter.state) >= WEFT__WAITER_ENDED)
        return 0;
    return idle_poll(f, waker);
}

static void owner_leaves_carelessly(void)
{
    static const weft_future_ops ops = {careless_poll, idle_cancel, "careless"};
    struct idle_wait w = {.future = {&ops}, .scope = s};
    (void)waits_await(&w.future);
    weft__scope_free_children(s);
    weft__free(s);
}

static void wait_for_turn(bool once)
{
    static const weft_future_ops ops = {turn_poll, turn_cancel, "turn"};
    struct turn_wait w = {.future = {&ops}, .scope = s};
    turn_rc = once ? waits_try_once(&w.future) : waits_await(&w.future);
    if (turn_rc != 0)
        return;
    struct weft__wake_list wakes = WEFT__WAKE_LIST_INIT;
    weft__lock_acquire(&s->lock);
    leave_locked(s, &wakes); /* what was spawned ended at once */
    weft__lock_release(&s->lock);
    weft__wake_list_flush(&wakes);
}

static void take_a_turn(void)
{
    wait_for_turn(false);
}

static void take_a_turn_or_leave(void)
{
    wait_for_turn(true);
}

/* ---- what must hold ---- */

static void all_ended(void)
{
    waits_check();
    MODEL_CHECK(has_ended[0] && (child[1] == NULL || has_ended[1]));
    for (int i = 0; i < CHILDREN; i++)
        if (child[i])
            /* the task's own reference and its handle's are gone */
            MODEL_CHECK((weft__a64_load_relaxed(&task[i].state) & WEFT__TASK_REFS_MASK) ==
                        WEFT__TASK_REF);
}

static void failed(void)
{
    all_ended();
    MODEL_CHECK(owner_error == -EIO);
}

static void turns_done(void)
{
    waits_check();
    MODEL_CHECK(s->live == 0 && weft__waitq_is_empty(&s->turn));
    weft__scope_free_children(s);
    weft__free(s);
}

/* ---- the programs ---- */

#define SCOPE_MODEL(function, ...)                                                                 \
    static void function(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {.name = "scope: " #function, __VA_ARGS__};                  \
        model_passes(&m);                                                                          \
    }

SCOPE_MODEL(leaves_after_the_last_child, .init = init_two,
            .thread = {owner_leaves, end_first, end_second}, .check = all_ended)
SCOPE_MODEL(a_failure_aborts_the_sibling, .init = init_two_one_fails,
            .thread = {owner_leaves, end_first_failing, end_second_when_aborted}, .check = failed)
SCOPE_MODEL(a_cancel_reaches_children_or_they_have_ended, .init = init_two,
            .thread = {owner_cancels_and_leaves, end_first, end_second_when_aborted},
            .check = all_ended)
SCOPE_MODEL(a_child_ends_before_it_is_known, .init = init_one_new,
            .thread = {owner_spawns_and_leaves, end_first}, .check = all_ended)
SCOPE_MODEL(turns_are_handed_on, .init = init_full, .thread = {take_a_turn, end_first, take_a_turn},
            .check = turns_done)
SCOPE_MODEL(who_leaves_hands_the_turn_on, .init = init_full,
            .thread = {take_a_turn_or_leave, end_first, take_a_turn}, .check = turns_done)

static void believing_the_waiter_without_the_lock_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "scope: careless",
                                   .init = init_two,
                                   .thread = {owner_leaves_carelessly, end_first, end_second}};
    model_fails(&m, MODEL_RACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_after_the_last_child),
        cmocka_unit_test(a_failure_aborts_the_sibling),
        cmocka_unit_test(a_cancel_reaches_children_or_they_have_ended),
        cmocka_unit_test(a_child_ends_before_it_is_known),
        cmocka_unit_test(turns_are_handed_on),
        cmocka_unit_test(who_leaves_hands_the_turn_on),
        cmocka_unit_test(believing_the_waiter_without_the_lock_is_found),
    };
    return cmocka_run_group_tests_name("model scope", tests, NULL, NULL);
}
