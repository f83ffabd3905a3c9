/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * What each memory order of sleeping and waking is for, one small program an order: without it some
 * schedule of the program fails. docs/design/mutation.md.
 */
#include "driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static bool both_ran(void *arg)
{
    (void)arg;
    return ran[0] && ran[1];
}
static void *stop_after(void *arg)
{
    (void)arg;
    weft__a32_store_seq_cst(&sched.stop, 1);
    return NULL;
}

/* ---- who pushes and relies on a searcher ---- */

/* One of them finds nobody to claim, and counts itself out again as a searcher that there never
 * was; the other one pushes meanwhile and relies on it. */
static void spawn_first(void)
{
    spawn(0);
}
static void spawn_second_and_stop(void)
{
    spawn(1);
    model_wait(both_ran, NULL, "both to run");
    stop_all();
}

static void of_two_spawners_one_wakes_the_worker(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: one worker, two spawners",
                                   .init = init_one_worker,
                                   .thread = {worker_0, spawn_first, spawn_second_and_stop},
                                   .check = all_ran};
    model_passes(&m);
}

/* The worker that is woken for the first task was counted as a searcher when the second one came:
 * it wakes the next worker when it finds the first. */
static bool second_ran(void *arg)
{
    (void)arg;
    return ran[1];
}
static void *wait_for_second(void *arg)
{
    (void)arg;
    model_wait(second_ran, NULL, "the second task to run");
    return NULL;
}
static void spawn_urgent_pair(void)
{
    tasks[0].fn = wait_for_second;
    for (int i = 0; i < 2; i++) {
        weft__a32_store_relaxed(&tasks[i].route, WEFT__CLASS_URGENT);
        spawn(i);
    }
    wait_and_stop();
}

static void a_searcher_wakes_the_next(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: a task that waits for the next one",
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, spawn_urgent_pair},
                                   .check = all_ran};
    model_passes(&m);
}

/* ---- a ring from which another one steals ---- */

static bool first_ran(void *arg)
{
    (void)arg;
    return ran[0];
}
/* Worker 0, in a task that wakes two others and does not come to an end. */
static void push_two(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 0);
    for (int i = 0; i < 2; i++)
        weft__worker_push(w, &tasks[i]);
    model_wait(first_ran, NULL, "the first task to be stolen");
    struct weft__task *t = weft__runq_pop(&w->runq);
    if (t != NULL) { /* else that has been stolen as well */
        MODEL_CHECK(t == &tasks[1]);
        ran[1] = 1;
        weft__a64_add_seq_cst(&sched.outer_ended, 1);
    }
    stop_all();
}
static void init_push_two(void)
{
    init_with(WORKERS);
    expected = 2;
    weft__a64_store_relaxed(&sched.outer_spawned, 2);
}

static void a_full_ring_is_seen_before_sleeping(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: two tasks in the ring of another worker",
                                   .init = init_push_two,
                                   .thread = {push_two, worker_1},
                                   .check = all_ran};
    model_passes(&m);
}

/* ---- the slot of a stuck worker ---- */

static int slot_word;
static struct weft__worker *thief;

static void *read_slot_word(void *arg)
{
    WEFT__MODEL_READ(&slot_word);
    return stop_after(arg);
}
static void init_slot(void)
{
    init_with(WORKERS);
    expected = 1;
    weft__a64_store_relaxed(&sched.outer_spawned, 1);
    tasks[0].fn = read_slot_word;
    thief = weft__sched_worker(&sched, 1);
}
/* As worker 0, from a task. */
static void put_into_slot(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 0);
    struct weft__ctx *c = weft__ctx_get();
    c->worker = w;
    c->core = &sched.core;
    c->current = &tasks[1];
    WEFT__MODEL_WRITE(&slot_word);
    weft__sched_enqueue(&sched.core, &tasks[0]);
    c->current = NULL;
    c->worker = NULL;
}
/* What the monitor does when it has seen the worker in the same task twice, and each time after. */
static void open_slot(void)
{
    weft__a32_store_seq_cst(&weft__sched_worker(&sched, 0)->slot_is_open, 1);
    weft__sched_wake_one(&sched);
}
static bool is_asleep_or_ran(void *arg)
{
    (void)arg;
    return ran[0] ||
           atomic_load_explicit(&thief->sleep.v, memory_order_relaxed) == WEFT__SLEEPS_ON_FUTEX;
}
static void put_and_open(void)
{
    put_into_slot();
    open_slot();
}
static void open_and_put(void)
{
    open_slot();
    put_into_slot();
    model_wait(is_asleep_or_ran, NULL, "the other worker");
    weft__sched_wake_one(&sched);
}

static void an_open_slot_is_seen_before_sleeping(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: the slot of a worker that sticks",
                                   .init = init_slot,
                                   .thread = {put_and_open, worker_1},
                                   .check = all_ran};
    model_passes(&m);
    static const struct model late = {.name = "idle: the open slot is filled",
                                      .init = init_slot,
                                      .thread = {open_and_put, worker_1},
                                      .check = all_ran};
    model_passes(&late);
}

/* ---- who lingers ---- */

static void init_lingers(uint32_t workers)
{
    init_with(workers);
    sched.core.processors = 3;
    weft__a64_store_relaxed(&sched.remote_schedules, 1);
}
static void init_one_lingers(void)
{
    init_lingers(1);
}
static void init_two_linger(void)
{
    init_lingers(2);
}
static void init_neither_lingers_yet(void)
{
    init_lingers(2);
    sched.luck.skips = 2;
}
static void spawn_one_and_stop(void)
{
    spawn(0);
    wait_and_stop();
}
static void nobody_lingers(void)
{
    all_ran();
    MODEL_CHECK(weft__a32_load_relaxed(&sched.is_lingering) == 0);
}

/* It finds the task in its moment, or as it goes to sleep after it, or is woken. */
static void who_lingers_misses_nothing(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: a worker that lingers",
                                   .init = init_one_lingers,
                                   .thread = {worker_0, spawn_one_and_stop},
                                   .check = nobody_lingers};
    model_passes(&m);
    static const struct model two = {.name = "idle: a worker that lingers, and one that sleeps",
                                     .init = init_two_linger,
                                     .bound_less = 1,
                                     .thread = {worker_0, worker_1, spawn_one_and_stop},
                                     .check = nobody_lingers};
    model_passes(&two);
    static const struct model later = {.name = "idle: two workers that do not linger this time",
                                       .init = init_neither_lingers_yet,
                                       .thread = {worker_0, worker_1, spawn_one_and_stop},
                                       .bound_less = 1,
                                       .check = nobody_lingers};
    model_passes(&later);
}

/* ---- timers of threads that are no workers ---- */

static struct weft__timer timer;

static void init_timer(void)
{
    init_with(1);
    expected = 1;
    weft__a64_store_relaxed(&sched.outer_spawned, 1);
    tasks[0].fn = stop_after;
    weft__a64_store_relaxed(&tasks[0].state, WEFT__TASK_PARKED | WEFT__TASK_REF);
    weft__timer_init(&timer);
}
static const struct weft__core_ops timer_ops = {.enqueue = weft__sched_enqueue,
                                                .timers_here = weft__sched_timers_here,
                                                .timers_rearmed = weft__sched_timers_rearmed};
static void arm_outside(void)
{
    sched.core.ops = &timer_ops;
    weft__timer_arm_here(&sched.core, &timer, weft__clock_now(&sched.core.clock) + 10,
                         weft__task_waker(&tasks[0]));
}

static void a_timer_armed_outside_is_seen_before_sleeping(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: a timer armed from outside",
                                   .init = init_timer,
                                   .thread = {worker_0, arm_outside},
                                   .check = all_ran};
    model_passes(&m);
}

/* Worker 1 stands in for a stuck one, and leaves service while a task that ran there sleeps. */
static void arm_and_leave(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 1);
    struct weft__ctx *c = weft__ctx_get();
    w->ctx = c;
    c->worker = w;
    c->core = &sched.core;
    weft__timer_arm_here(&sched.core, &timer, weft__clock_now(&sched.core.clock) + 10,
                         weft__task_waker(&tasks[0]));
    MODEL_CHECK(weft__a64_load_relaxed(&w->timers.count) == 0);
    be_dormant(w, is_stopped, w);
    c->worker = NULL;
}
static void *stop_and_wake_extra(void *arg)
{
    (void)stop_after(arg);
    weft__sched_wake_worker(weft__sched_worker(&sched, 1));
    return NULL;
}
static void init_extra_timer(void)
{
    init_timer();
    sched.core.ops = &timer_ops;
    sched.extra_max = 1;
    MODEL_CHECK(weft__worker_create(&sched, 1, true) == 0);
    tasks[0].fn = stop_and_wake_extra;
}

static void a_timer_of_an_extra_worker_is_seen_to_by_others(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: an extra worker leaves a timer behind",
                                   .init = init_extra_timer,
                                   .thread = {worker_0, arm_and_leave},
                                   .check = all_ran};
    model_passes(&m);
}

/* ---- workers that are made meanwhile ---- */

static void init_room_for_one(void)
{
    init_with(1);
    sched.extra_max = 1;
}
static void make_one(void)
{
    weft__lock_acquire(&sched.lock);
    MODEL_CHECK(weft__worker_create(&sched, 1, true) == 0);
    weft__lock_release(&sched.lock);
}
static void look_at_all_workers(void)
{
    MODEL_CHECK(!weft__sched_has_work(&sched));
}
static void a_worker_that_is_counted_is_there(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: a worker is made",
                                   .init = init_room_for_one,
                                   .thread = {make_one, look_at_all_workers},
                                   .check = all_ran};
    model_passes(&m);
}

/* ---- the seat in the driver, against a worker that goes out of service ---- */

static void init_extra(void)
{
    init_driver_with(WORKERS);
    weft__sched_worker(&sched, 1)->is_extra = true;
    sched.worker_count = 1;
    weft__a32_store_relaxed(&sched.monitor_stuck, 0);
}
/* Worker 1 has polled in passing and is not needed any more. */
static void look_and_leave(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 1);
    (void)weft__worker_look(w);
    be_dormant(w, is_stopped, w);
}
/* The same, out of a sleep in the driver. */
static void sleep_and_leave(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 1);
    weft__worker_sleep(w, is_stopped, w);
    stop_searching(w, false);
    be_dormant(w, is_stopped, w);
}
static void nothing_to_do(void)
{
    weft__sched_wake_extras(&sched);
}
static void the_seat_is_not_left_empty(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: an extra worker polls and leaves service",
                                   .init = init_extra,
                                   .thread = {worker_0, look_and_leave, send_event},
                                   .check = driver_is_left};
    model_passes(&m);
    static const struct model late = {
        .name = "idle: an extra worker wakes and leaves service",
        .bound_less = 1,
        .init = init_extra,
        .thread = {worker_0, sleep_and_leave, send_event, nothing_to_do},
        .check = driver_is_left};
    model_passes(&late);
}

/* ---- what the driver keeps for who polls: from one to the next ---- */

static bool has_slept;

static void init_signalled(void)
{
    init_driver_with(WORKERS);
    is_signalled = true;
    has_slept = false;
}
static void look_once(void)
{
    (void)weft__worker_look(weft__sched_worker(&sched, 0));
}
static bool never(void *arg)
{
    (void)arg;
    return false;
}
static void sleep_once(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 1);
    weft__worker_sleep(w, never, NULL);
    stop_searching(w, false);
    has_slept = true;
}
static bool sleeps_or_has_slept(void *arg)
{
    const struct weft__worker *w = arg;
    return has_slept || atomic_load_explicit(&w->sleep.v, memory_order_relaxed) != WEFT__AWAKE;
}
/* Nothing of what the one who looks has done happens before. */
static void wake_who_sleeps(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 1);
    model_wait(sleeps_or_has_slept, w, "the worker to sleep");
    is_signalled = true;
    weft__sched_wake_worker(w);
}
static void who_sits_down_sees_what_was_left_there(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: one looks at the driver, one sleeps in it",
                                   .init = init_signalled,
                                   .thread = {look_once, sleep_once, wake_who_sleeps},
                                   .check = driver_is_left};
    model_passes(&m);
}

/* ---- a substitute that is on its way out of service when it is needed again ---- */

static bool task_ran(void *arg)
{
    (void)arg;
    return ran[0];
}
/* As weft_block_in_place() on worker 0; what it waits for is to run elsewhere. */
static void block_in_place(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 0);
    weft__a32_store_seq_cst(&w->in_place, 1);
    weft__a32_add_seq_cst(&sched.in_place, 1);
    weft__sched_add_worker(&sched);
    spawn(0);
    model_wait(task_ran, NULL, "the task to run elsewhere");
    stop_all();
}
static void a_substitute_stays_when_it_is_needed_again(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: a substitute, and blocking in place",
                                   .init = init_substitute,
                                   .thread = {worker_1, block_in_place},
                                   .check = all_ran};
    model_passes(&m);
}

/* ---- a substitute that is relieved ---- */

static void init_relieved(void)
{
    init_substitute();
    weft__a32_store_relaxed(&sched.in_place, 1);
}
static void init_relieved_lingers(void)
{
    init_relieved();
    sched.core.processors = 3;
    weft__a64_store_relaxed(&sched.remote_schedules, 1);
}
/* As the end of weft_block_in_place(). */
static void come_back(void)
{
    weft__a32_sub_seq_cst(&sched.in_place, 1);
    weft__sched_wake_extras(&sched);
    model_wait(is_out_of_service, NULL, "the substitute to leave service");
    stop_all();
}

/* It hears of it asleep, or looks for itself when it has announced that it sleeps. */
static void a_substitute_leaves_when_it_is_not_needed(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: a substitute is relieved",
                                   .init = init_relieved,
                                   .thread = {worker_1, come_back},
                                   .check = all_ran};
    model_passes(&m);
    static const struct model lingers = {.name = "idle: a substitute that lingers is relieved",
                                         .init = init_relieved_lingers,
                                         .thread = {worker_1, come_back},
                                         .check = all_ran};
    model_passes(&lingers);
}

/* ---- the end of all tasks ---- */

static void init_two_alive(void)
{
    init_with(WORKERS);
    weft__a64_store_relaxed(&sched.outer_spawned, 2);
}
static void end_one_on(uint32_t index)
{
    struct weft__ctx *c = weft__ctx_get();
    c->worker = weft__sched_worker(&sched, index);
    count_ended();
    c->worker = NULL;
    weft__sched_check_quiescent(&sched);
}
static void end_one_on_0(void)
{
    end_one_on(0);
}
static void end_one_on_1(void)
{
    end_one_on(1);
}
static void wait_for_the_end(void)
{
    MODEL_CHECK(weft__sched_wait_quiescent(&sched, WEFT_NEVER));
}

static void the_last_end_is_heard_of(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: two tasks end, one thread waits for that",
                                   .init = init_two_alive,
                                   .thread = {end_one_on_0, end_one_on_1, wait_for_the_end},
                                   .check = all_ran};
    model_passes(&m);
}

/* A task spawns another one, which lives on, and ends. */
static void init_one_alive(void)
{
    init_with(1);
    weft__a64_store_relaxed(&sched.outer_spawned, 1);
}
static void spawn_and_end(void)
{
    struct weft__ctx *c = weft__ctx_get();
    c->worker = weft__sched_worker(&sched, 0);
    MODEL_CHECK(weft__sched_admit(&sched.core));
    count_ended();
    c->worker = NULL;
}
static void is_not_quiescent(void)
{
    MODEL_CHECK(!weft__sched_is_quiescent(&sched));
}
static void one_is_alive(void)
{
    MODEL_CHECK(weft__sched_alive(&sched) == 1);
    weft__free(weft__sched_worker(&sched, 0));
}

static void who_was_spawned_before_an_end_is_counted(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: a task spawns one and ends",
                                   .init = init_one_alive,
                                   .thread = {spawn_and_end, is_not_quiescent},
                                   .check = one_is_alive};
    model_passes(&m);
}

/* A task that is admitted is seen by who ends the runtime, or not admitted. */
static bool is_admitted, was_quiescent;

static void init_admission(void)
{
    init_with(1);
    is_admitted = was_quiescent = false;
}
static void admit(void)
{
    is_admitted = weft__sched_admit(&sched.core);
}
static void stop_admitting(void)
{
    uint32_t running = WEFT__PHASE_RUNNING;
    (void)weft__a32_cas_seq_cst(&sched.core.phase, &running, WEFT__PHASE_STOPPING);
    was_quiescent = weft__sched_is_quiescent(&sched);
}
static void not_both(void)
{
    MODEL_CHECK(!is_admitted || !was_quiescent);
    weft__free(weft__sched_worker(&sched, 0));
}

static void who_is_admitted_is_counted(void **state)
{
    (void)state;
    static const struct model m = {.name = "idle: a task is admitted as the runtime stops",
                                   .init = init_admission,
                                   .thread = {admit, stop_admitting},
                                   .check = not_both};
    model_passes(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_two_spawners_one_wakes_the_worker),
        cmocka_unit_test(a_searcher_wakes_the_next),
        cmocka_unit_test(a_full_ring_is_seen_before_sleeping),
        cmocka_unit_test(an_open_slot_is_seen_before_sleeping),
        cmocka_unit_test(who_lingers_misses_nothing),
        cmocka_unit_test(a_timer_armed_outside_is_seen_before_sleeping),
        cmocka_unit_test(a_timer_of_an_extra_worker_is_seen_to_by_others),
        cmocka_unit_test(a_worker_that_is_counted_is_there),
        cmocka_unit_test(the_seat_is_not_left_empty),
        cmocka_unit_test(who_sits_down_sees_what_was_left_there),
        cmocka_unit_test(a_substitute_stays_when_it_is_needed_again),
        cmocka_unit_test(a_substitute_leaves_when_it_is_not_needed),
        cmocka_unit_test(the_last_end_is_heard_of),
        cmocka_unit_test(who_was_spawned_before_an_end_is_counted),
        cmocka_unit_test(who_is_admitted_is_counted),
    };
    return cmocka_run_group_tests_name("model idle", tests, NULL, NULL);
}
