/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The state word of a task, under every schedule: the real transitions, the real join, abort,
 * detach and completion.
 */
#include "subject.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <weft/base.h>

static weft_abort_handle *abort_handle;

/* ---- wake ---- */

static void a_wake_is_not_lost(void **state)
{
    (void)state;
    static const struct model m = {.name = "wake against park",
                                   .init = init_wake_once,
                                   .thread = {subject_thread, set_flag_and_wake},
                                   .check = ended_well};
    model_passes(&m);
}

static void two_wakes_queue_once_each_park(void **state)
{
    (void)state;
    static const struct model m = {.name = "two wakers against park",
                                   .init = init_wake_twice,
                                   .thread = {subject_thread, set_flag_and_wake, set_flag_and_wake},
                                   .check = ended_well};
    model_passes(&m);
}

static void init_wakers_with_references(void)
{
    init_wake_twice();
    (void)weft_waker_ref(subject_waker);
    (void)weft_waker_ref(subject_waker);
}

static void wakes_give_their_references_up(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "two wakers that release against park",
        .init = init_wakers_with_references,
        .thread = {subject_thread, set_flag_and_wake_unref, set_flag_and_wake_unref},
        .check = ended_well};
    model_passes(&m);
}

/* Seeded: a waker that looks at the word and stores, in place of one exchange. */
static void wake_in_two_steps(void)
{
    weft__a32_add_relaxed(&flags, 1);
    uint64_t s = weft__a64_load_acquire(&subject->state);
    if (s & WEFT__TASK_DONE)
        return;
    if (s & WEFT__TASK_PARKED) {
        weft__a64_and_acq_rel(&subject->state, ~WEFT__TASK_PARKED);
        weft__task_schedule(subject);
    } else {
        weft__a64_or_acq_rel(&subject->state, WEFT__TASK_NOTIFIED);
    }
}

static void wake_in_two_steps_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "wake in two steps",
                                   .init = init_wake_once,
                                   .thread = {subject_thread, wake_in_two_steps},
                                   .check = ended_well};
    model_fails(&m, MODEL_DEADLOCK);
}

/* Seeded: two wakers that both find PARKED both queue the task. */
static void wake_without_winning(void)
{
    weft__a32_add_relaxed(&flags, 1);
    if (weft__a64_load_acquire(&subject->state) & WEFT__TASK_PARKED) {
        weft__a64_and_acq_rel(&subject->state, ~WEFT__TASK_PARKED);
        weft__task_schedule(subject);
    } else {
        weft_waker_wake(subject_waker);
    }
}

static void queued_twice_is_found(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "wake without winning",
        .init = init_wake_twice,
        .thread = {subject_thread, wake_without_winning, wake_without_winning},
        .check = ended_well};
    model_fails(&m, MODEL_CHECK_FAILED);
}

/* ---- abort ---- */

static void init_never_woken(void)
{
    spawn_subject(wait_for_flags);
    wanted = 1;
}

static void an_abort_ends_the_wait(void **state)
{
    (void)state;
    static const struct model m = {.name = "abort against park",
                                   .init = init_never_woken,
                                   .thread = {subject_thread, abort_subject_for_a_reason},
                                   .check = ended_cancelled_or_well};
    model_passes(&m);
}

static void abort_and_wake_queue_once(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "abort and wake against park",
        .init = init_never_woken,
        .thread = {subject_thread, abort_subject_for_a_reason, set_flag_and_wake},
        .check = ended_cancelled_or_well};
    model_passes(&m);
}

static void init_at_once(void)
{
    spawn_subject(return_at_once);
    subject_rc = 0;
}

static void an_abort_may_meet_the_end(void **state)
{
    (void)state;
    static const struct model m = {.name = "two aborts against completion",
                                   .init = init_at_once,
                                   .thread = {subject_thread, abort_subject, abort_subject},
                                   .check = ended_cancelled_or_well};
    model_passes(&m);
}

/* ---- join ---- */

static void join_on_a_thread(void)
{
    struct weft__ctx *c = weft__ctx_get();
    c->core = &core;
    weft_outcome o;
    MODEL_CHECK(weft_join(handle, &o) == 0);
    MODEL_CHECK(o.kind != WEFT_OUTCOME_VALUE || o.value == &results_dropped);
    weft__thread_task_drop(c);
}

static void dropped_at_most_once(void)
{
    MODEL_CHECK(args_dropped + results_dropped <= 1);
    all_is_free();
}

static void a_thread_that_joins_is_woken(void **state)
{
    (void)state;
    static const struct model m = {.name = "join on a thread against completion",
                                   .init = init_at_once,
                                   .thread = {subject_thread, join_on_a_thread},
                                   .check = all_is_free};
    model_passes(&m);
}

static void a_join_beside_wakes(void **state)
{
    (void)state;
    static const struct model m = {.name = "join and two wakes against completion",
                                   .init = init_wakers_with_references,
                                   .thread = {subject_thread, join_on_a_thread,
                                              set_flag_and_wake_unref, set_flag_and_wake_unref},
                                   .check = dropped_at_most_once};
    model_passes(&m);
}

/* Nobody else wakes it. */
static void init_aborted_and_joined(void)
{
    init_never_woken();
    abort_handle = weft_task_abort_handle(handle);
}
static void abort_handle_unref(void)
{
    weft_abort_handle_abort(abort_handle);
    weft_abort_handle_unref(abort_handle);
}
static void join_cancelled(void)
{
    struct weft__ctx *c = weft__ctx_get();
    c->core = &core;
    weft_outcome o;
    MODEL_CHECK(weft_join(handle, &o) == 0);
    MODEL_CHECK(o.kind == WEFT_OUTCOME_CANCELLED);
    MODEL_CHECK(args_dropped + results_dropped == 1);
    weft__thread_task_drop(c);
}

static void a_join_beside_an_abort(void **state)
{
    (void)state;
    static const struct model m = {.name = "join and abort handle against completion",
                                   .init = init_aborted_and_joined,
                                   .thread = {subject_thread, join_cancelled, abort_handle_unref},
                                   .check = all_is_free};
    model_passes(&m);
}

static struct weft__task *joiner;

static void *join_in_a_task(void *arg)
{
    (void)arg;
    weft_outcome o;
    MODEL_CHECK(weft_join(handle, &o) == 0);
    MODEL_CHECK(o.kind == WEFT_OUTCOME_VALUE && o.value == &results_dropped);
    return NULL;
}

static void init_with_joiner(void)
{
    init_at_once();
    MODEL_CHECK(weft__task_spawn(&core, WEFT__TASK_FIBER, NULL, join_in_a_task, NULL, NULL, NULL) ==
                0);
    joiner = &slots[1];
}
static void joiner_thread(void)
{
    run_task(joiner);
}

static void a_task_that_joins_is_woken(void **state)
{
    (void)state;
    static const struct model m = {.name = "join in a task against completion",
                                   .init = init_with_joiner,
                                   .thread = {subject_thread, joiner_thread},
                                   .check = all_is_free};
    model_passes(&m);
}

/* A joiner leaves (a timeout, a lost select) and comes back with another waker. */
static struct weft__task *first_waker, *second_waker;

static void init_two_wakers(void)
{
    init_at_once();
    first_waker = weft__thread_task_create(&core, WEFT__TASK_THREAD);
    second_waker = weft__thread_task_create(&core, WEFT__TASK_THREAD);
    MODEL_CHECK(first_waker && second_waker);
}

static void join_leave_and_come_back_by(void (*clear_joiner)(struct weft__task *t))
{
    if (weft__task_set_joiner(subject, weft__task_waker(first_waker))) {
        clear_joiner(subject);
        if (weft__task_set_joiner(subject, weft__task_waker(second_waker)))
            weft__task_park_thread(second_waker);
    }
    MODEL_CHECK(weft__a64_load_acquire(&subject->state) & WEFT__TASK_DONE);
    weft__outcome_drop(subject);
    weft__task_drop_handle(subject);
    weft__thread_task_destroy(first_waker);
    weft__thread_task_destroy(second_waker);
}

static void join_leave_and_come_back(void)
{
    join_leave_and_come_back_by(weft__task_clear_joiner);
}

static void a_joiner_may_come_back_with_another_waker(void **state)
{
    (void)state;
    static const struct model m = {.name = "joiner comes back with another waker",
                                   .init = init_two_wakers,
                                   .thread = {subject_thread, join_leave_and_come_back},
                                   .check = dropped_at_most_once};
    model_passes(&m);
}

/* A joiner that is polled again, with another waker. */
static void join_with_one_waker_then_another(void)
{
    if (weft__task_set_joiner(subject, weft__task_waker(first_waker)) &&
        weft__task_set_joiner(subject, weft__task_waker(second_waker)))
        weft__task_park_thread(second_waker);
    MODEL_CHECK(weft__a64_load_relaxed(&subject->state) & WEFT__TASK_DONE);
    weft__outcome_drop(subject);
    weft__task_drop_handle(subject);
    weft__thread_task_destroy(first_waker);
    weft__thread_task_destroy(second_waker);
}

static void a_joiner_may_change_its_waker(void **state)
{
    (void)state;
    static const struct model m = {.name = "joiner changes its waker",
                                   .init = init_two_wakers,
                                   .thread = {subject_thread, join_with_one_waker_then_another},
                                   .check = dropped_at_most_once};
    model_passes(&m);
}

/* Seeded: a joiner that takes its waker back and leaves no mark. The completer has read join_waker
 * before its exchange, which succeeds also when the word is what it was, but with another waker
 * behind it. */
static void clear_joiner_without_mark(struct weft__task *t)
{
    uint64_t s = weft__a64_load_acquire(&t->state);
    do {
        if (!(s & WEFT__TASK_JOINED))
            return;
    } while (!weft__a64_cas_weak_acq_rel(&t->state, &s, s & ~WEFT__TASK_JOINED));
    weft__task_unref(weft__task_of_waker(weft__aptr_load_relaxed(&t->join_waker)));
}

static void leave_without_mark_and_come_back(void)
{
    join_leave_and_come_back_by(clear_joiner_without_mark);
}

static void a_joiner_that_leaves_no_mark_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "a joiner takes its waker back and leaves no mark",
                                   .init = init_two_wakers,
                                   .thread = {subject_thread, leave_without_mark_and_come_back},
                                   .check = all_is_free};
    /* the joiner sleeps for ever, or the reference of a waker is given up twice */
    model_fails(&m, MODEL_DEADLOCK);
}

/* The second time there is a mark already, and the word is what it was. */
static void leave_twice_and_come_back(void)
{
    if (weft__task_set_joiner(subject, weft__task_waker(first_waker)))
        weft__task_clear_joiner(subject);
    join_leave_and_come_back_by(weft__task_clear_joiner);
}

static void a_joiner_may_come_back_twice(void **state)
{
    (void)state;
    static const struct model m = {.name = "joiner comes back twice",
                                   .init = init_two_wakers,
                                   .thread = {subject_thread, leave_twice_and_come_back},
                                   .check = dropped_at_most_once};
    model_passes(&m);
}

/* ---- asked whether it has ended ---- */

static bool was_joined;

static void *leave_a_note(void *arg)
{
    (void)arg;
    WEFT__MODEL_WRITE(&reason);
    return &results_dropped;
}
static void init_with_note(void)
{
    spawn_subject(leave_a_note);
    subject_rc = 0;
    was_joined = false;
}
static void init_with_note_and_abort_handle(void)
{
    init_with_note();
    abort_handle = weft_task_abort_handle(handle);
}
static void try_to_join(void)
{
    weft_outcome o;
    was_joined = weft_try_join(handle, &o) == 0;
    MODEL_CHECK(!was_joined || o.value == &results_dropped);
}
static void ask_the_handle(void)
{
    if (weft_task_is_finished(handle))
        WEFT__MODEL_READ(&reason);
}
static void ask_the_abort_handle(void)
{
    if (weft_abort_handle_is_finished(abort_handle))
        WEFT__MODEL_READ(&reason);
    weft_abort_handle_unref(abort_handle);
}
static void ended_joined_or_not(void)
{
    if (!was_joined)
        weft_task_detach(handle);
    all_is_free();
}

static void who_finds_it_ended_sees_what_it_did(void **state)
{
    (void)state;
    static const struct model join = {.name = "try_join against completion",
                                      .init = init_with_note,
                                      .thread = {subject_thread, try_to_join},
                                      .check = ended_joined_or_not};
    static const struct model ask = {.name = "is_finished against completion",
                                     .init = init_with_note,
                                     .thread = {subject_thread, ask_the_handle},
                                     .check = ended_joined_or_not};
    static const struct model ask_abort = {.name = "is_finished of an abort handle",
                                           .init = init_with_note_and_abort_handle,
                                           .thread = {subject_thread, ask_the_abort_handle},
                                           .check = ended_joined_or_not};
    model_passes(&join);
    model_passes(&ask);
    model_passes(&ask_abort);
}

/* ---- the handle, and references of every kind ---- */

static void detach(void)
{
    weft_task_detach(handle);
}

static void result_dropped_once(void)
{
    MODEL_CHECK(results_dropped == 1 && args_dropped == 0);
    all_is_free();
}

static void a_detached_result_is_dropped_once(void **state)
{
    (void)state;
    static const struct model m = {.name = "detach against completion",
                                   .init = init_at_once,
                                   .thread = {subject_thread, detach},
                                   .check = result_dropped_once};
    model_passes(&m);
}

static void abort_and_detach(void)
{
    weft_task_abort_detach(handle);
}

static void dropped_once(void)
{
    MODEL_CHECK(args_dropped + results_dropped == 1);
    all_is_free();
}

static void an_aborted_and_detached_task_drops_one_thing(void **state)
{
    (void)state;
    static const struct model m = {.name = "abort and detach against park",
                                   .init = init_never_woken,
                                   .thread = {subject_thread, abort_and_detach},
                                   .check = dropped_once};
    model_passes(&m);
}

static void init_all_references(void)
{
    init_at_once();
    abort_handle = weft_task_abort_handle(handle);
    (void)weft_waker_ref(subject_waker);
}
static void waker_ref_and_unref(void)
{
    (void)weft_waker_ref(subject_waker);
    weft_waker_wake_unref(subject_waker);
    weft_waker_unref(subject_waker);
}

static void the_last_reference_frees_once(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "handle, abort handle and waker against completion",
        .init = init_all_references,
        .thread = {subject_thread, detach, abort_handle_unref, waker_ref_and_unref},
        .check = dropped_once};
    model_passes(&m);
}

static void look_at(struct weft__task *t, void *arg)
{
    (void)arg;
    WEFT__MODEL_READ(&t->core);
    WEFT__MODEL_READ(&t->fn);
    MODEL_CHECK(t->core == &core);
    MODEL_CHECK(weft__a64_load_relaxed(&t->state) & WEFT__TASK_REFS_MASK);
}
static void walk(void)
{
    (void)weft__slab_walk(&slab, look_at, NULL);
}

static void a_walk_holds_what_it_looks_at(void **state)
{
    (void)state;
    static const struct model m = {.name = "walk of the registry against free",
                                   .init = init_at_once,
                                   .thread = {subject_thread, detach, walk},
                                   .check = result_dropped_once};
    model_passes(&m);
}

/* The slot of a task that ended is taken by the next one, while a walk stands on it. */
static void end_and_spawn(void)
{
    run_task(subject);
    weft_task_detach(handle);
    MODEL_CHECK(weft__task_spawn(&core, WEFT__TASK_FIBER, NULL, return_at_once, NULL, NULL, NULL) ==
                0);
    for (int i = 0; i < SLOTS; i++)
        if (is_queued[i])
            run_task(&slots[i]);
}

static void a_walk_meets_a_reused_slot(void **state)
{
    (void)state;
    static const struct model m = {.name = "walk of the registry against reuse",
                                   .init = init_at_once,
                                   .thread = {end_and_spawn, walk},
                                   .check = result_dropped_once};
    model_passes(&m);
}

/* ---- thread tasks ---- */

static void init_thread_task(void)
{
    core_init();
    weft__a32_store_relaxed(&flags, 0);
    model_name(&flags, sizeof flags, "flags");
    subject = weft__thread_task_create(&core, WEFT__TASK_BODY);
    subject_waker = weft__task_waker(subject);
    (void)weft_waker_ref(subject_waker);
    (void)weft_waker_ref(subject_waker);
}
static void wait_on_a_thread(void)
{
    for (;;) {
        weft__task_clear_notified(subject);
        if (weft__a32_load_relaxed(&flags) == 2)
            break;
        weft__task_park_thread(subject);
    }
    weft__thread_task_destroy(subject);
}

static void a_thread_is_woken(void **state)
{
    (void)state;
    static const struct model m = {
        .name = "two wakers against a thread that parks",
        .init = init_thread_task,
        .thread = {wait_on_a_thread, set_flag_and_wake_unref, set_flag_and_wake_unref},
        .check = all_is_free};
    model_passes(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wake_is_not_lost),
        cmocka_unit_test(two_wakes_queue_once_each_park),
        cmocka_unit_test(wakes_give_their_references_up),
        cmocka_unit_test(wake_in_two_steps_is_found),
        cmocka_unit_test(queued_twice_is_found),
        cmocka_unit_test(an_abort_ends_the_wait),
        cmocka_unit_test(abort_and_wake_queue_once),
        cmocka_unit_test(an_abort_may_meet_the_end),
        cmocka_unit_test(a_thread_that_joins_is_woken),
        cmocka_unit_test(a_join_beside_wakes),
        cmocka_unit_test(a_join_beside_an_abort),
        cmocka_unit_test(a_task_that_joins_is_woken),
        cmocka_unit_test(a_joiner_may_come_back_with_another_waker),
        cmocka_unit_test(a_joiner_may_change_its_waker),
        cmocka_unit_test(a_joiner_that_leaves_no_mark_is_found),
        cmocka_unit_test(a_joiner_may_come_back_twice),
        cmocka_unit_test(who_finds_it_ended_sees_what_it_did),
        cmocka_unit_test(a_detached_result_is_dropped_once),
        cmocka_unit_test(an_aborted_and_detached_task_drops_one_thing),
        cmocka_unit_test(the_last_reference_frees_once),
        cmocka_unit_test(a_walk_holds_what_it_looks_at),
        cmocka_unit_test(a_walk_meets_a_reused_slot),
        cmocka_unit_test(a_thread_is_woken),
    };
    return cmocka_run_group_tests_name("model state", tests, NULL, NULL);
}
