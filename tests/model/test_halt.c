/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * Workers that stand still while the process exits: who waits for them sees what their tasks have
 * done, no task runs until they are let go, and what was done meanwhile is seen by the next task.
 */
#include "workers.h"

#include "base/model.h"
#include "model_internal.h"
#include "sched/halt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* The thread of an extra worker is one of the model's. */
static weft__a32 is_added;

static int add_thread(struct weft__thread *t, const char *name, void *(*fn)(void *), void *arg)
{
    (void)t;
    (void)name;
    (void)fn;
    (void)arg;
    weft__a32_store_release(&is_added, 1); /* as the system does */
    return 0;
}
#define weft__sys_thread_start add_thread
#include "../../src/sched/monitor.c"
#undef weft__sys_thread_start

static bool all_stand_still;
static int data;           /* of the program: for its tasks, and for the destructors at its exit */
static uint64_t halted_ns; /* when */

static void *use_data(void *arg)
{
    (void)arg;
    MODEL_CHECK(!all_stand_still);
    WEFT__MODEL_WRITE(&data);
    return NULL;
}

static void begin_halt(uint32_t workers)
{
    for (uint32_t i = 0; i < workers; i++)
        weft__a32_store_relaxed(&weft__sched_worker(&sched, i)->has_no_thread, 0);
    for (int i = 0; i < TASKS; i++)
        tasks[i].fn = use_data;
    all_stand_still = false;
    halted_ns = weft__sys_now_ns();
    model_name(&data, sizeof data, "data");
}
static void init_halt_one(void)
{
    init_with(1);
    begin_halt(1);
}
static void init_halt_two(void)
{
    init_with(2);
    begin_halt(2);
}

/* What a destructor does that exit() runs. */
static void destroy_static_objects(void)
{
    all_stand_still = true;
    WEFT__MODEL_WRITE(&data);
    model_step("a destructor");
    all_stand_still = false;
}

static void halt_and_wait(void)
{
    uint64_t now_ns = weft__sys_now_ns();
    weft__sched_halt(&sched);
    (void)weft__sched_halt_wait(&sched, 0, WEFT_SEC, 2 * WEFT_SEC); /* all stand still */
    /* Nobody had to run out of patience. */
    MODEL_CHECK(weft__sys_now_ns() < now_ns + 50 * WEFT_MS);
}
/* Shuts down in a destructor of its own. */
static void exit_with_a_task(void)
{
    spawn(0);
    halt_and_wait();
    destroy_static_objects();
    weft__sched_resume(&sched);
    wait_and_stop();
}
/* Nobody lets the workers go: after some time they do it themselves. */
static void exit_and_forget(void)
{
    spawn(0);
    halt_and_wait();
    wait_and_stop();
}

static void all_ran_in_time(void)
{
    MODEL_CHECK(weft__sys_now_ns() < halted_ns + 50 * WEFT_MS);
    MODEL_CHECK(weft__a32_load_relaxed(&sched.halted) == 0);
    all_ran();
}
static void all_ran_after_a_while(void)
{
    MODEL_CHECK(weft__a32_load_relaxed(&sched.halted) == 0);
    all_ran();
}

static void nothing_runs_while_all_stand_still(void **state)
{
    (void)state;
    static const struct model m = {.name = "halt: a task is spawned, and the process exits",
                                   .init = init_halt_one,
                                   .thread = {worker_0, exit_with_a_task},
                                   .check = all_ran_in_time};
    model_passes(&m);
}

static void two_workers_stand_still(void **state)
{
    (void)state;
    static const struct model m = {.name = "halt: two workers",
                                   .bound_less = 1,
                                   .init = init_halt_two,
                                   .thread = {worker_0, worker_1, exit_with_a_task},
                                   .check = all_ran_in_time};
    model_passes(&m);
}

/* Worker 1 is not needed: it goes out of service, or halts where it looks whether it is needed
 * after all. Only who halts counts, and not for worker 0, which is in a task. */
static int data_of_0, data_of_1;

static void init_halt_substitute(void)
{
    init_substitute();
    begin_halt(2);
    model_name(&data_of_0, sizeof data_of_0, "data_of_0");
    model_name(&data_of_1, sizeof data_of_1, "data_of_1");
}
static bool is_asked_to_stop(void *arg)
{
    (void)arg;
    return atomic_load_explicit(&sched.stop.v, memory_order_relaxed) != WEFT__STOP_NOT;
}
static void be_in_a_task(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 0);
    WEFT__MODEL_WRITE(&data_of_0);
    do
        model_wait(is_asked_to_stop, NULL, "the exit, or the end");
    while (!is_stopped(w));
}
static void be_superfluous(void)
{
    WEFT__MODEL_WRITE(&data_of_1);
    worker_1();
}
static void exit_and_stop(void)
{
    halt_and_wait();
    WEFT__MODEL_WRITE(&data_of_0);
    WEFT__MODEL_WRITE(&data_of_1);
    weft__sched_resume(&sched);
    stop_all();
}

static void an_extra_worker_stands_still_for_itself_alone(void **state)
{
    (void)state;
    static const struct model m = {.name = "halt: an extra worker leaves service",
                                   .init = init_halt_substitute,
                                   .thread = {be_in_a_task, be_superfluous, exit_and_stop},
                                   .check = all_ran_in_time};
    model_passes(&m);
}

/* An extra worker is made, and its thread runs, while the process begins to exit: it stands still,
 * or is never there. */
static void init_halt_addition(void)
{
    init_with(1);
    sched.extra_max = 1;
    halted_ns = weft__sys_now_ns();
    weft__a32_store_relaxed(&is_added, 0);
    model_name(&data_of_1, sizeof data_of_1, "data_of_1");
}
static void add_extra(void)
{
    weft__a32_add_seq_cst(&sched.in_place, 1);
    weft__sched_add_worker(&sched);
}
static bool is_added_or_over(void *arg)
{
    (void)arg;
    return atomic_load_explicit(&is_added.v, memory_order_relaxed) ||
           atomic_load_explicit(&sched.stop.v, memory_order_relaxed) == WEFT__STOP_FOR_GOOD;
}
static void be_added(void)
{
    model_wait(is_added_or_over, NULL, "a thread, or the end");
    if (!weft__a32_load_acquire(&is_added))
        return;
    struct weft__worker *w = weft__sched_worker(&sched, 1);
    if (is_stopped(w))
        return;
    WEFT__MODEL_WRITE(&data_of_1);
    do
        model_wait(is_asked_to_stop, NULL, "the exit, or the end");
    while (!is_stopped(w));
}
static void exit_beside_an_addition(void)
{
    halt_and_wait();
    WEFT__MODEL_WRITE(&data_of_1);
    weft__sched_resume(&sched);
    stop_all();
}

static void an_extra_worker_that_is_added_stands_still(void **state)
{
    (void)state;
    static const struct model m = {.name = "halt: an extra worker is added",
                                   .init = init_halt_addition,
                                   .thread = {add_extra, be_added, exit_beside_an_addition},
                                   .check = all_ran_in_time};
    model_passes(&m);
}

static void who_is_not_let_go_goes_on(void **state)
{
    (void)state;
    static const struct model m = {.name = "halt: nobody lets them go",
                                   .init = init_halt_one,
                                   .thread = {worker_0, exit_and_forget},
                                   .check = all_ran_after_a_while};
    model_passes(&m);
}

/* A machine that is held up for longer than there is patience: so was the worker that is waited
 * for. */
static void exit_meanwhile(void)
{
    spawn(0);
    weft__sched_halt(&sched);
    (void)weft__sched_halt_wait(&sched, 0, WEFT_SEC, 2 * WEFT_SEC); /* all stand still */
    destroy_static_objects();
    weft__sched_resume(&sched);
    wait_and_stop();
}
static void be_held_up(void)
{
    model_step("all are held up");
    model__clock_set(weft__sys_now_ns() + 5 * WEFT_SEC / 2);
}
static void a_machine_that_is_held_up_takes_no_patience(void **state)
{
    (void)state;
    static const struct model m = {.name = "halt: the machine is held up",
                                   .init = init_halt_one,
                                   .thread = {worker_0, exit_meanwhile, be_held_up},
                                   .check = all_ran_after_a_while};
    model_passes(&m);
}

/* Another thread shuts the runtime down in this moment. */
static void halt_only(void)
{
    weft__sched_halt(&sched);
}
static void shut_down(void)
{
    weft__sched_resume(&sched);
    weft__sched_stop(&sched);
    weft__sched_wake_all(&sched);
}
static void a_stop_ends_a_halt(void **state)
{
    (void)state;
    static const struct model m = {.name = "halt: against the end of the runtime",
                                   .init = init_halt_one,
                                   .thread = {worker_0, halt_only, shut_down},
                                   .check = all_ran_in_time};
    model_passes(&m);
}

/* Seeded: says so, and wakes nobody. Who sleeps is not counted. */
static void halt_silently(void)
{
    weft__a32_store_seq_cst(&sched.stop, WEFT__STOP_HALT);
    uint64_t now_ns = weft__sys_now_ns();
    (void)weft__sched_halt_wait(&sched, 0, WEFT_SEC, 2 * WEFT_SEC); /* all stand still */
    MODEL_CHECK(weft__sys_now_ns() < now_ns + 50 * WEFT_MS);
    weft__sched_resume(&sched);
    wait_and_stop();
}
static void a_silent_halt_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "halt: wakes nobody",
                                   .init = init_halt_one,
                                   .thread = {worker_0, halt_silently},
                                   .check = all_ran_in_time};
    model_fails(&m, MODEL_LIVELOCK);
}

/* Seeded: does not wait for those who are in a task. */
static void exit_at_once(void)
{
    spawn(0);
    weft__sched_halt(&sched);
    destroy_static_objects();
    weft__sched_resume(&sched);
    wait_and_stop();
}
static void an_exit_that_does_not_wait_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "halt: nobody waits",
                                   .init = init_halt_one,
                                   .thread = {worker_0, exit_at_once},
                                   .check = all_ran_in_time};
    model_fails(&m, MODEL_RACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_runs_while_all_stand_still),
        cmocka_unit_test(two_workers_stand_still),
        cmocka_unit_test(an_extra_worker_stands_still_for_itself_alone),
        cmocka_unit_test(an_extra_worker_that_is_added_stands_still),
        cmocka_unit_test(who_is_not_let_go_goes_on),
        cmocka_unit_test(a_machine_that_is_held_up_takes_no_patience),
        cmocka_unit_test(a_stop_ends_a_halt),
        cmocka_unit_test(a_silent_halt_is_found),
        cmocka_unit_test(an_exit_that_does_not_wait_is_found),
    };
    return cmocka_run_group_tests_name("model halt", tests, NULL, NULL);
}
