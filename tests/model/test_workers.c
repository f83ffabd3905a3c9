/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * Workers that search, sleep and are woken, under every schedule.
 */
#include "driver.h"

/* for the seat in the driver */
#include "../../src/sched/monitor.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- spawned from outside ---- */

static void spawn_one_outside(void)
{
    spawn(0);
    wait_and_stop();
}
static void spawn_two_outside(void)
{
    spawn(0);
    spawn(1);
    wait_and_stop();
}

static void one_worker_hears_of_a_task(void **state)
{
    (void)state;
    static const struct model m = {.name = "one worker, two tasks from outside",
                                   .init = init_one_worker,
                                   .thread = {worker_0, spawn_two_outside},
                                   .check = all_ran};
    model_passes(&m);
}

static void two_workers_hear_of_a_task(void **state)
{
    (void)state;
    static const struct model m = {.name = "two workers, a task from outside",
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, spawn_one_outside},
                                   .check = all_ran};
    model_passes(&m);
}

static void two_workers_hear_of_two_tasks(void **state)
{
    (void)state;
    static const struct model m = {.name = "two workers, two tasks from outside",
                                   .bound_less = 1,
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, spawn_two_outside},
                                   .check = all_ran};
    model_passes(&m);
}

/* Seeded: looks for sleepers first and queues the task then. */
static void enqueue_in_wrong_order(void)
{
    MODEL_CHECK(weft__sched_admit(&sched.core));
    expected++;
    weft__sched_wake_one(&sched);
    MODEL_CHECK(weft__inject_push(&sched.inject, &tasks[0]));
    wait_and_stop();
}

static void an_enqueue_that_looks_first_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "enqueue looks for sleepers first",
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, enqueue_in_wrong_order},
                                   .check = all_ran};
    model_fails(&m, MODEL_DEADLOCK);
}

/* Seeded: stops without waking those who sleep. */
static void stop_silently(void)
{
    weft__a32_store_seq_cst(&sched.stop, 1);
}

static void a_silent_stop_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "stop wakes nobody",
                                   .init = init_one_worker,
                                   .thread = {worker_0, stop_silently},
                                   .check = all_ran};
    model_fails(&m, MODEL_DEADLOCK);
}

/* ---- spawned by a task ---- */

static void *spawn_children(void *arg)
{
    (void)arg;
    spawn(1); /* to the slot, and on to the queue with the next one */
    spawn(2);
    spawn(3);
    return NULL;
}
static void spawn_parent(void)
{
    tasks[0].fn = spawn_children;
    spawn(0);
    wait_and_stop();
}

static void children_are_shared_out(void **state)
{
    (void)state;
    static const struct model m = {.name = "two workers, a task that spawns three",
                                   .bound_less = 1,
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, spawn_parent},
                                   .check = all_ran};
    model_passes(&m);
}

/* ---- a stuck worker ---- */

static weft__a32 has_begun; /* the first task is about to block */

static void init_blocker(void)
{
    init_with(WORKERS);
    weft__a32_store_relaxed(&has_begun, 0);
}
static bool child_ran(void *arg)
{
    (void)arg;
    return ran[1] == 1;
}
static void *spawn_and_block(void *arg)
{
    (void)arg;
    spawn(1); /* lies in the slot, which is the worker's own */
    weft__a32_store_seq_cst(&has_begun, 1);
    model_wait(child_ran, NULL, "the child to run");
    return NULL;
}
static void spawn_blocker(void)
{
    tasks[0].fn = spawn_and_block;
    spawn(0);
    wait_and_stop();
}
static bool blocker_has_begun(void *arg)
{
    (void)arg;
    return atomic_load_explicit(&has_begun.v, memory_order_relaxed);
}
/* What the monitor does when it has seen a worker in the same task twice. */
static void open_slot(void)
{
    model_wait(blocker_has_begun, NULL, "a stuck task");
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct weft__worker *w = weft__sched_worker(&sched, i);
        if (weft__aptr_load_relaxed(&w->running) == &tasks[0]) {
            weft__a32_store_seq_cst(&w->slot_is_open, 1);
            weft__sched_wake_one(&sched);
        }
    }
}

static void the_slot_of_a_stuck_worker_is_emptied(void **state)
{
    (void)state;
    static const struct model m = {.name = "slot of a stuck worker",
                                   .bound_less = 1,
                                   .init = init_blocker,
                                   .thread = {worker_0, worker_1, spawn_blocker, open_slot},
                                   .check = all_ran};
    model_passes(&m);
}

/* ---- the seat in the driver ---- */

static void init_driver(void)
{
    init_driver_with(WORKERS);
}
static void init_driver_alone(void)
{
    init_driver_with(1);
}
/* The monitor, for a worker that does not get to it. */
static void poll_once(void)
{
    poll_in_passing(&sched);
}
/* Seeded: lets go of the seat and tells nobody. */
static void poll_and_tell_nobody(void)
{
    if (weft__a32_swap_seq_cst(&sched.polling, 1) != 0)
        return;
    (void)weft__driver_poll(sched.core.driver, 0, WEFT__RUNQ_CAP);
    weft__a32_store_seq_cst(&sched.polling, 0);
}

static void somebody_sits_in_the_driver(void **state)
{
    (void)state;
    static const struct model m = {.name = "driver: two workers and an event",
                                   .bound_less = 1,
                                   .init = init_driver,
                                   .thread = {worker_0, worker_1, send_event},
                                   .check = driver_is_left};
    model_passes(&m);
}

static void a_poll_in_passing_leaves_the_seat_to_a_worker(void **state)
{
    (void)state;
    static const struct model m = {.name = "driver: a poll by the monitor, and an event",
                                   .bound_less = 1,
                                   .init = init_driver,
                                   .thread = {worker_0, worker_1, send_event, poll_once},
                                   .check = driver_is_left};
    model_passes(&m);
}

/* Two preemptions: the worker finds the seat taken; the poller lets go, and looks for sleepers,
 * before the worker has announced that it is one. */
static void the_only_worker_finds_the_seat_taken(void **state)
{
    (void)state;
    static const struct model m = {.name = "driver: one worker, a poll by the monitor, an event",
                                   .init = init_driver_alone,
                                   .thread = {worker_0, send_event, poll_once},
                                   .check = driver_is_left};
    model_passes(&m);
}

static void a_seat_given_up_in_silence_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "driver: a poll that tells nobody",
                                   .init = init_driver,
                                   .thread = {worker_0, worker_1, send_event, poll_and_tell_nobody},
                                   .check = driver_is_left};
    model_fails(&m, MODEL_DEADLOCK);
}

/* ---- a paused clock waits for blocking jobs: its jump against the end of the last one ---- */

static struct weft__timer clock_timer;
static uint64_t clock_timer_ns;
static int jobs_over;

static void unreachable_yield(struct weft__task *self)
{
    (void)self;
    MODEL_CHECK(!"nothing yields here");
}
static const struct weft__core_ops paused_ops = {.enqueue = weft__sched_enqueue,
                                                 .yield = unreachable_yield};

/* The task that the timer wakes. */
static void *after_the_jump(void *arg)
{
    (void)arg;
    MODEL_CHECK(jobs_over == 1);
    MODEL_CHECK(weft__clock_now(&sched.core.clock) == clock_timer_ns);
    weft__a32_store_seq_cst(&sched.stop, 1);
    return NULL;
}

static void init_clock(bool is_paused)
{
    init_with(1);
    sched.is_multi = false;
    sched.core.ops = &paused_ops;
    weft__clock_init(&sched.core.clock, is_paused);
    clock_timer_ns = weft__clock_now(&sched.core.clock) + 10;
    jobs_over = 0;
    weft__a32_store_relaxed(&sched.jobs, 1);
    weft__a64_store_relaxed(&sched.outer_spawned, 2); /* the job and the task */
    expected = 1;
    tasks[0].fn = after_the_jump;
    weft__a64_store_relaxed(&tasks[0].state, WEFT__TASK_PARKED | WEFT__TASK_REF);
    weft__timer_init(&clock_timer);
    (void)weft__timer_arm(&weft__sched_worker(&sched, 0)->timers, &clock_timer, clock_timer_ns,
                          weft__task_waker(&tasks[0]));
}

static void init_paused(void)
{
    init_clock(true);
}
static void init_running(void)
{
    init_clock(false);
}

/* Stops the clock, and has nothing to do then. */
static void pausing_worker(void)
{
    MODEL_CHECK(weft__clock_pause(&sched.core.clock));
    worker_0();
}

static void job_ends(void)
{
    jobs_over = 1;
    weft__a32_sub_seq_cst(&sched.jobs, 1);
    weft__sched_ended_outside(&sched.core);
}

static void the_clock_jumps_after_the_last_job(void **state)
{
    (void)state;
    static const struct model m = {.name = "paused clock: a job ends",
                                   .init = init_paused,
                                   .thread = {worker_0, job_ends},
                                   .check = all_ran};
    model_passes(&m);
    static const struct model late = {.name = "paused clock: a job ends as it is paused",
                                      .init = init_running,
                                      .thread = {pausing_worker, job_ends},
                                      .check = all_ran};
    model_passes(&late);
}

/* Seeded: looks for the sleeper first, and uncounts the job then. */
static void job_ends_in_wrong_order(void)
{
    jobs_over = 1;
    weft__sched_ended_outside(&sched.core);
    weft__a32_sub_seq_cst(&sched.jobs, 1);
}

static void a_job_that_uncounts_itself_too_late_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "paused clock: a job uncounts itself too late",
                                   .init = init_paused,
                                   .thread = {worker_0, job_ends_in_wrong_order},
                                   .check = all_ran};
    model_fails(&m, MODEL_DEADLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_worker_hears_of_a_task),
        cmocka_unit_test(two_workers_hear_of_a_task),
        cmocka_unit_test(two_workers_hear_of_two_tasks),
        cmocka_unit_test(an_enqueue_that_looks_first_is_found),
        cmocka_unit_test(a_silent_stop_is_found),
        cmocka_unit_test(children_are_shared_out),
        cmocka_unit_test(the_slot_of_a_stuck_worker_is_emptied),
        cmocka_unit_test(somebody_sits_in_the_driver),
        cmocka_unit_test(a_poll_in_passing_leaves_the_seat_to_a_worker),
        cmocka_unit_test(the_only_worker_finds_the_seat_taken),
        cmocka_unit_test(a_seat_given_up_in_silence_is_found),
        cmocka_unit_test(the_clock_jumps_after_the_last_job),
        cmocka_unit_test(a_job_that_uncounts_itself_too_late_is_found),
    };
    return cmocka_run_group_tests_name("model workers", tests, NULL, NULL);
}
