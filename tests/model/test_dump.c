/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * Who looks at the stack of a parked task, as a dump does, against all that may befall the task
 * meanwhile: wakes, aborts, its end, another dump. The task must not run while it is looked at, no
 * wake may be lost, and it must not be queued twice.
 */
#include "subject.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- looking ---- */

static int looks; /* that are going on */

static void look_at_stack(struct weft__task *t)
{
    MODEL_CHECK(!is_running[index_of(t)] && !is_queued[index_of(t)]);
    MODEL_CHECK(looks == 0); /* two at a time would both park it */
    looks++;
    WEFT__MODEL_READ(&saved_context[index_of(t)]);
    model_step("looks at the stack");
    MODEL_CHECK(!is_running[index_of(t)] && !is_queued[index_of(t)]);
    WEFT__MODEL_READ(&saved_context[index_of(t)]);
    looks--;
}

static void dump_one(struct weft__task *t, void *arg)
{
    (void)arg;
    if (!weft__task_hold_parked(t))
        return;
    look_at_stack(t);
    weft__task_let_go(t);
}
static void dump(void)
{
    (void)weft__slab_walk(&slab, dump_one, NULL);
}

/* ---- seeded ---- */

static void look_without_holding(void)
{
    if (weft__a64_load_acquire(&subject->state) & WEFT__TASK_PARKED)
        WEFT__MODEL_READ(&saved_context[index_of(subject)]);
}

static void hold_without_order(void)
{
    uint64_t s = weft__a64_load_relaxed(&subject->state);
    if (!(s & WEFT__TASK_PARKED) ||
        !weft__a64_cas_relaxed(&subject->state, &s, s & ~WEFT__TASK_PARKED))
        return;
    look_at_stack(subject);
    weft__task_let_go(subject);
}

/* Does not look whether a wake came meanwhile. */
static void park_blindly(void)
{
    if (!weft__task_hold_parked(subject))
        return;
    look_at_stack(subject);
    weft__a64_or_release(&subject->state, WEFT__TASK_PARKED);
}

/* Finds that a wake came, and leaves it to the waker to queue the task. */
static void let_go_in_silence(void)
{
    if (!weft__task_hold_parked(subject))
        return;
    look_at_stack(subject);
    (void)!weft__task_confirm_parked(subject);
}

/* Queues the task in any case: "it looks again, and parks". */
static void let_go_queued(void)
{
    if (!weft__task_hold_parked(subject))
        return;
    look_at_stack(subject);
    (void)!weft__task_confirm_parked(subject);
    weft__task_schedule(subject);
}

/* ---- the programs ---- */

static void init_one_wake(void)
{
    init_wake_once();
    looks = 0;
}
static void init_two_wakes(void)
{
    init_wake_twice();
    looks = 0;
}
static void init_one_wake_with_reference(void)
{
    init_one_wake();
    (void)weft_waker_ref(subject_waker);
}
static void init_at_once(void)
{
    spawn_subject(return_at_once);
    looks = 0;
    subject_rc = 0;
}

static void detach_subject(void)
{
    weft_task_detach(handle);
}
static void result_is_dropped(void)
{
    MODEL_CHECK(results_dropped == 1 && args_dropped == 0);
    all_is_free();
}

/* X(program, MODEL_PASSED or how it fails, init, check, the threads beside the task) */
#define PROGRAMS(X)                                                                                \
    X(a_wake, MODEL_PASSED, init_one_wake, ended_well, dump, set_flag_and_wake)                    \
    X(two_wakes, MODEL_PASSED, init_two_wakes, ended_well, dump, set_flag_and_wake,                \
      set_flag_and_wake)                                                                           \
    X(a_wake_that_releases, MODEL_PASSED, init_one_wake_with_reference, ended_well, dump,          \
      set_flag_and_wake_unref)                                                                     \
    X(an_abort, MODEL_PASSED, init_one_wake, ended_cancelled_or_well, dump,                        \
      abort_subject_for_a_reason)                                                                  \
    X(an_abort_and_a_wake, MODEL_PASSED, init_one_wake, ended_cancelled_or_well, dump,             \
      abort_subject, set_flag_and_wake)                                                            \
    X(its_end, MODEL_PASSED, init_at_once, result_is_dropped, dump, detach_subject)                \
    X(a_wake_and_its_end, MODEL_PASSED, init_one_wake_with_reference, result_is_dropped, dump,     \
      set_flag_and_wake_unref, detach_subject)                                                     \
    X(another_dump, MODEL_PASSED, init_one_wake, ended_well, dump, dump, set_flag_and_wake)        \
    X(not_held, MODEL_RACE, init_one_wake, ended_well, look_without_holding, set_flag_and_wake)    \
    X(held_without_order, MODEL_RACE, init_one_wake, ended_well, hold_without_order,               \
      set_flag_and_wake)                                                                           \
    X(parked_blindly, MODEL_DEADLOCK, init_one_wake, ended_well, park_blindly, set_flag_and_wake)  \
    X(let_go_in_silence, MODEL_DEADLOCK, init_one_wake, ended_well, let_go_in_silence,             \
      set_flag_and_wake)                                                                           \
    X(let_go_queued, MODEL_CHECK_FAILED, init_one_wake, ended_well, let_go_queued,                 \
      set_flag_and_wake)

#define DEFINE(program, how, begin, end, ...)                                                      \
    static void dump_against_##program(void **state)                                               \
    {                                                                                              \
        (void)state;                                                                               \
        static const struct model m = {.name = "dump: " #program,                                  \
                                       .init = begin,                                              \
                                       .thread = {subject_thread, __VA_ARGS__},                    \
                                       .check = end};                                              \
        if (how == MODEL_PASSED)                                                                   \
            model_passes(&m);                                                                      \
        else                                                                                       \
            model_fails(&m, how);                                                                  \
    }
PROGRAMS(DEFINE)

#define TEST(program, ...) cmocka_unit_test(dump_against_##program),

int main(void)
{
    const struct CMUnitTest tests[] = {PROGRAMS(TEST)};
    return cmocka_run_group_tests_name("model dump", tests, NULL, NULL);
}
