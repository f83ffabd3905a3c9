/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The members of a join set against their ends, under every schedule: joining, leaving, giving up,
 * destroying. The source is included: members are bare tasks that complete, as executors complete
 * them, and the group is freed as soon as it may be, which the explorer checks every access
 * against.
 */
#include "../../src/sync/members.c"

#include "model.h"
#include "waits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define MEMBERS 2

static struct weft__members *g;
static struct weft__core core;
static struct weft__task task[MEMBERS];
static struct weft__member *member[MEMBERS];
static int taken[MEMBERS], found_empty, tried;
static bool has_ended[MEMBERS];

static void init_task(int i)
{
    static const char *const names[MEMBERS] = {"member0", "member1"};
    memset(&task[i], 0, sizeof task[i]);
    task[i].core = &core;
    weft__aptr_store_relaxed(&task[i].join_waker, weft__end_hook_tagged(&member[i]->hook));
    /* one reference more than a task has, so that it is not freed */
    weft__a64_store_relaxed(&task[i].state,
                            3 * WEFT__TASK_REF | WEFT__TASK_HANDLE | WEFT__TASK_JOINED);
    model_name(&task[i], sizeof task[i], names[i]);
}

static void init_new(int count)
{
    waits_init();
    memset(&core, 0, sizeof core);
    g = weft__malloc(sizeof *g);
    MODEL_CHECK(g != NULL);
    weft__members_init(g, sizeof(struct weft__member));
    model_name(g, sizeof *g, "group");
    found_empty = tried = 0;
    for (int i = 0; i < MEMBERS; i++) {
        has_ended[i] = false;
        taken[i] = 0;
        member[i] = NULL;
        if (i >= count)
            continue;
        member[i] = weft__member_create(g);
        MODEL_CHECK(member[i] != NULL);
        init_task(i);
    }
}

static void settle_member(int i)
{
    settle(member[i], weft__task_handle(&task[i]), &core);
}

static void init_one(void)
{
    init_new(1);
    settle_member(0);
}

static void init_two(void)
{
    init_new(2);
    settle_member(0);
    settle_member(1);
}

/* One is still being spawned. */
static void init_spawning(void)
{
    init_new(1);
}

/* ---- what they do ---- */

static void end(int i, enum weft_outcome_kind kind)
{
    task[i].outcome = (uint8_t)kind;
    has_ended[i] = true;
    weft_waker *joiner;
    while (!weft__task_set_done(&task[i], &joiner))
        task[i].outcome = WEFT__OUTCOME_TAKEN; /* given up: it drops its outcome itself */
    weft__task_tell_joiner(&task[i], joiner);
}

static void end_first(void)
{
    end(0, WEFT_OUTCOME_VALUE);
}

static void end_second(void)
{
    end(1, WEFT_OUTCOME_VALUE);
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
    end(1, WEFT_OUTCOME_CANCELLED);
}

struct next {
    weft_future future;
    struct weft__waiter waiter;
};

static void note_taken(struct weft__member *m)
{
    weft_task *handle = m->task;
    struct weft__task *t = weft__task_address(handle);
    MODEL_CHECK(has_ended[t - task]);
    taken[t - task]++;
    weft__member_put(m);
    MODEL_CHECK(weft_try_join(handle, NULL) == 0);
}

static int next_poll(weft_future *f, weft_waker *waker)
{
    struct next *n = WEFT__CONTAINER_OF(f, struct next, future);
    int rc;
    struct weft__member *m = weft__members_poll_take(g, &n->waiter, waker, &rc);
    if (m == NULL)
        return rc;
    note_taken(m);
    return 0;
}

static void next_cancel(weft_future *f)
{
    weft__members_leave(g, &WEFT__CONTAINER_OF(f, struct next, future)->waiter);
}

/* Seeded: who leaves keeps the wake to itself. */
static void next_cancel_selfish(weft_future *f)
{
    struct next *n = WEFT__CONTAINER_OF(f, struct next, future);
    weft__lock_acquire(&g->lock);
    (void)weft__waitq_leave(&g->next, &n->waiter);
    weft__lock_release(&g->lock);
}

static int join_next_with(int (*await)(weft_future *), void (*cancel)(weft_future *))
{
    const weft_future_ops ops = {next_poll, cancel, "join next"};
    struct next n = {.future = {&ops}};
    return await(&n.future);
}

static void join_until_empty(void)
{
    int rc;
    while ((rc = join_next_with(waits_await, next_cancel)) == 0)
        ;
    MODEL_CHECK(rc == -ENOENT);
    found_empty++;
}

static void join_or_leave(void)
{
    int rc = join_next_with(waits_try_once, next_cancel);
    MODEL_CHECK(rc == 0 || rc == -ENOENT || rc == -ECANCELED);
    tried++;
}

static void join_or_leave_selfishly(void)
{
    (void)join_next_with(waits_try_once, next_cancel_selfish);
    tried++;
}

static void settle_and_join(void)
{
    settle_member(0);
    join_until_empty();
}

static void wait_for_ends(bool or_failed)
{
    struct end_wait w = {.future = {&end_ops}, .group = g, .or_failed = or_failed};
    MODEL_CHECK(waits_await(&w.future) == 0);
}

static void destroy(void)
{
    weft__members_abort_all(g);
    wait_for_ends(false);
    MODEL_CHECK(has_ended[0] && (member[1] == NULL || has_ended[1]));
    weft__members_detach_all(g);
    weft__members_release(g);
}

static void detach_and_release(void)
{
    weft__members_detach_all(g);
    weft__members_release(g);
}

/* As a join map whose key is used again, and which is then destroyed. */
static void replace_and_destroy(void)
{
    weft__member_give_up(member[1], true);
    destroy();
}

static void wait_for_a_failure(void)
{
    wait_for_ends(true);
    struct weft__member *m = weft__members_take_failed(g);
    MODEL_CHECK(m == NULL || m->has_failed);
    if (m)
        note_taken(m);
    destroy();
}

static void end_first_failing(void)
{
    end(0, WEFT_OUTCOME_PANICKED);
}

/* Seeded: the owner looks at those that run, and forgets those that were replaced. */
static bool none_runs(void *arg)
{
    (void)arg;
    return weft__list_is_empty(&g->running);
}

static void replace_and_forget(void)
{
    weft__member_give_up(member[1], true);
    weft__members_abort_all(g);
    model_wait(none_runs, NULL, "none to run");
    MODEL_CHECK(has_ended[0] && has_ended[1]);
    weft__members_detach_all(g);
    weft__members_release(g);
}

/* One member spawns another while the set is being ended. */
static void init_spawning_second(void)
{
    init_new(2);
    settle_member(0);
}

static void spawn_second_and_end(void)
{
    settle_member(1);
    end(0, WEFT_OUTCOME_VALUE);
}

/* As weft__members_shutdown(). */
static void shut_down(void)
{
    begin_to_end(g);
    do {
        wait_for_ends(false);
        detach(g, true);
    } while (weft__members_len(g) > 0);
    stop_ending(g);
    MODEL_CHECK(has_ended[0] && has_ended[1]);
    weft__members_release(g);
}

/* Where it cannot wait. */
static void destroy_and_go(void)
{
    weft__members_abort_all(g);
    weft__members_release(g);
}

/* Seeded: aborts those that it finds. */
static void shut_down_at_a_glance(void)
{
    weft__members_abort_all(g);
    wait_for_ends(false);
    weft__members_release(g);
}

/* ---- what must hold ---- */

static void tasks_are_free(void)
{
    waits_check();
    for (int i = 0; i < MEMBERS; i++)
        if (member[i]) /* the task's own reference and its handle's are gone */
            MODEL_CHECK((weft__a64_load_relaxed(&task[i].state) & WEFT__TASK_REFS_MASK) ==
                        WEFT__TASK_REF);
}

static void joined_once(void)
{
    MODEL_CHECK(g->len == 0 && g->failed == 0 && g->refs == 1);
    MODEL_CHECK(weft__waitq_is_empty(&g->next));
    for (int i = 0; i < MEMBERS; i++)
        MODEL_CHECK(taken[i] == (member[i] != NULL));
    weft__members_release(g);
    tasks_are_free();
}

#define MODEL(function, ...)                                                                       \
    static void function(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {.name = "join set: " #function, __VA_ARGS__};               \
        model_passes(&m);                                                                          \
    }

MODEL(each_is_joined_once, .init = init_two, .thread = {join_until_empty, end_first, end_second},
      .check = joined_once)
MODEL(two_join_one, .init = init_one, .thread = {join_until_empty, join_until_empty, end_first},
      .check = joined_once)
MODEL(who_leaves_passes_the_wake_on, .init = init_one,
      .thread = {join_or_leave, join_until_empty, end_first}, .check = joined_once)
MODEL(an_end_before_the_spawner_goes_on, .init = init_spawning,
      .thread = {settle_and_join, end_first}, .check = joined_once)
MODEL(destroying_waits_for_all, .init = init_two,
      .thread = {destroy, end_first, end_second_when_aborted}, .check = tasks_are_free)
MODEL(the_last_member_frees, .init = init_two,
      .thread = {detach_and_release, end_first, end_second}, .check = tasks_are_free)
MODEL(a_replaced_one_is_waited_for, .init = init_two,
      .thread = {replace_and_destroy, end_first, end_second_when_aborted}, .check = tasks_are_free)
MODEL(a_failure_ends_the_wait, .init = init_two,
      .thread = {wait_for_a_failure, end_first_failing, end_second_when_aborted},
      .check = tasks_are_free)

MODEL(what_is_spawned_meanwhile_ends, .init = init_spawning_second,
      .thread = {shut_down, spawn_second_and_end, end_second_when_aborted}, .check = tasks_are_free)
MODEL(what_is_spawned_into_nothing_ends, .init = init_spawning_second,
      .thread = {destroy_and_go, spawn_second_and_end, end_second_when_aborted},
      .check = tasks_are_free)

static void missing_who_is_spawned_meanwhile_is_found(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "join set: glancing",
        .init = init_spawning_second,
        .thread = {shut_down_at_a_glance, spawn_second_and_end, end_second_when_aborted},
        .check = tasks_are_free};
    model_fails(&m, MODEL_DEADLOCK);
}

static void keeping_the_wake_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "join set: selfish",
                                   .init = init_one,
                                   .thread = {join_or_leave_selfishly, join_until_empty, end_first},
                                   .check = joined_once};
    model_fails(&m, MODEL_DEADLOCK);
}

static void forgetting_the_replaced_is_found(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "join set: forgetful",
        .init = init_two,
        .thread = {replace_and_forget, end_first, end_second_when_aborted},
        .check = tasks_are_free};
    model_fails(&m, MODEL_CHECK_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_joined_once),
        cmocka_unit_test(two_join_one),
        cmocka_unit_test(who_leaves_passes_the_wake_on),
        cmocka_unit_test(an_end_before_the_spawner_goes_on),
        cmocka_unit_test(destroying_waits_for_all),
        cmocka_unit_test(the_last_member_frees),
        cmocka_unit_test(a_replaced_one_is_waited_for),
        cmocka_unit_test(a_failure_ends_the_wait),
        cmocka_unit_test(what_is_spawned_meanwhile_ends),
        cmocka_unit_test(what_is_spawned_into_nothing_ends),
        cmocka_unit_test(missing_who_is_spawned_meanwhile_is_found),
        cmocka_unit_test(keeping_the_wake_is_found),
        cmocka_unit_test(forgetting_the_replaced_is_found),
    };
    return cmocka_run_group_tests_name("model join set", tests, NULL, NULL);
}
