/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The monitor's sleep against a worker that wakes up and against its own end, and what it reads of
 * a worker that is in a task.
 */
#include "../../src/sched/monitor.c"

#include "base/model.h"
#include "workers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- asleep, or awake with the workers ---- */

static bool has_slept;

static void init_sleep(void)
{
    init_with(1);
    weft__a32_store_relaxed(&weft__sched_worker(&sched, 0)->has_no_thread, 0);
    has_slept = false;
}
static bool monitor_is_awake(void *arg)
{
    (void)arg;
    return has_slept;
}
static void *wait_for_monitor(void *arg)
{
    (void)arg;
    model_wait(monitor_is_awake, NULL, "the monitor to wake up");
    weft__a32_store_seq_cst(&sched.stop, 1);
    return NULL;
}
static void spawn_stuck(void)
{
    tasks[0].fn = wait_for_monitor;
    spawn(0);
}
static void sleep_once(void)
{
    sleep_unless_awake(&sched);
    has_slept = true;
}

static void the_monitor_is_awake_while_a_worker_is(void **state)
{
    (void)state;
    static const struct model m = {.name = "monitor: asleep while a worker wakes up",
                                   .init = init_sleep,
                                   .thread = {worker_0, spawn_stuck, sleep_once},
                                   .check = all_ran};
    model_passes(&m);
}

/* The same for a worker that comes back into service for a task that is pinned to it. */
static void init_dormant(void)
{
    init_substitute();
    has_slept = false;
}
static void spawn_pinned(void)
{
    uint32_t route = WEFT__ROUTE_PINNED | 1u << WEFT__ROUTE_HOME_SHIFT;
    weft__a32_store_relaxed(&tasks[0].route, route);
    tasks[0].fn = wait_for_monitor;
    spawn(0);
}

static void the_monitor_is_awake_while_an_extra_worker_is(void **state)
{
    (void)state;
    static const struct model m = {.name = "monitor: asleep while a worker leaves dormancy",
                                   .init = init_dormant,
                                   .thread = {worker_1, spawn_pinned, sleep_once},
                                   .check = all_ran};
    model_passes(&m);
}

/* The worker that stuck has come back: the substitute is not needed any more. */
static void init_relieved(void)
{
    init_substitute();
    weft__a32_store_relaxed(&sched.monitor_stuck, 1);
}
static void look_and_relieve(void)
{
    (void)look_at_all(&sched);
    model_wait(is_out_of_service, NULL, "the substitute to leave service");
    stop_all();
}

static void the_monitor_relieves_a_substitute(void **state)
{
    (void)state;
    static const struct model m = {.name = "monitor: a substitute is relieved",
                                   .init = init_relieved,
                                   .thread = {worker_1, look_and_relieve},
                                   .check = all_ran};
    model_passes(&m);
}

static void start_and_stop(void)
{
    MODEL_CHECK(weft__monitor_start(&sched) == 0);
    weft__a32_store_seq_cst(&sched.stop, 1);
    weft__monitor_stop(&sched);
}
static void init_alone(void)
{
    init_with(1);
}

static void the_monitor_hears_of_the_end(void **state)
{
    (void)state;
    static const struct model m = {.name = "monitor: starts and stops",
                                   .init = init_alone,
                                   .thread = {start_and_stop},
                                   .check = all_ran};
    model_passes(&m);
}

/* ---- what it reads of a worker ---- */

static uint64_t first_tick;

static void init_in_first(void)
{
    init_with(1);
    struct weft__worker *w = weft__sched_worker(&sched, 0);
    w->ctx = weft__ctx_get();
    for (int i = 0; i < 2; i++)
        weft__a64_store_relaxed(&tasks[i].state, 2 * WEFT__TASK_REF);
    begin_run(w, &tasks[0]);
    first_tick = weft__a64_load_relaxed(&w->tick);
    w->ctx->current = NULL;
}
static void begin_second(void)
{
    begin_run(weft__sched_worker(&sched, 0), &tasks[1]);
    weft__sched_worker(&sched, 0)->ctx->current = NULL;
}
static void name_the_first(void)
{
    struct weft__task *t = stuck_task(weft__sched_worker(&sched, 0), first_tick);
    MODEL_CHECK(t == NULL || t == &tasks[0]);
    if (t)
        weft__task_unref(t);
}

static void the_task_that_sticks_is_named(void **state)
{
    (void)state;
    static const struct model m = {.name = "monitor: names a task as the next one begins",
                                   .init = init_in_first,
                                   .thread = {begin_second, name_the_first},
                                   .check = all_ran};
    model_passes(&m);
}

static void init_new_thread(void)
{
    init_with(1);
    weft__a32_store_relaxed(&weft__sched_worker(&sched, 0)->has_no_thread, 0);
}
/* As weft__worker_thread(), up to its first task. */
static void begin_first(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 0);
    w->ctx = weft__ctx_get();
    WEFT__MODEL_WRITE(&w->cpu_clock);
    w->cpu_clock = weft__sys_thread_cpu_clock();
    begin_run(w, &tasks[0]);
    w->ctx->current = NULL;
}
static void look_twice(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 0);
    struct finding f = {.is_awake = false};
    look_at(&sched, w, LOOK_NS, &f);
    look_at(&sched, w, 2 * LOOK_NS, &f);
    MODEL_CHECK(f.is_awake);
}

static void the_clock_of_a_thread_in_a_task_is_known(void **state)
{
    (void)state;
    static const struct model m = {.name = "monitor: looks at a worker that begins its first task",
                                   .init = init_new_thread,
                                   .thread = {begin_first, look_twice},
                                   .check = all_ran};
    model_passes(&m);
}

/* ---- what it does for one that sticks ---- */

static void *stop_after(void *arg)
{
    (void)arg;
    weft__a32_store_seq_cst(&sched.stop, 1);
    return NULL;
}
/* Worker 0 is in task 1, and has put task 0 into its slot. */
static void init_stuck(void)
{
    init_with(WORKERS);
    struct weft__worker *w = weft__sched_worker(&sched, 0);
    weft__a32_store_relaxed(&w->has_no_thread, 0);
    w->ctx = weft__ctx_get();
    begin_run(w, &tasks[1]);
    w->ctx->current = NULL;
    weft__aptr_store_relaxed(&w->slot, &tasks[0]);
    tasks[0].fn = stop_after;
    expected = 1;
    weft__a64_store_relaxed(&sched.outer_spawned, 1);
    sched.stuck_after_ns = WEFT_SEC;
}

static void the_slot_of_a_worker_that_sticks_is_opened(void **state)
{
    (void)state;
    static const struct model m = {.name = "monitor: opens the slot of a worker that sticks",
                                   .init = init_stuck,
                                   .thread = {worker_1, look_twice},
                                   .check = all_ran};
    model_passes(&m);
}

/* It sticks for long, and nobody is asleep; or somebody is about to be, and takes it by himself. */
static void init_stuck_with_queue(void)
{
    init_stuck();
    struct weft__worker *w = weft__sched_worker(&sched, 0);
    weft__aptr_store_relaxed(&w->slot, NULL);
    MODEL_CHECK(weft__runq_push(&w->runq, &tasks[0]));
    w->seen_tick = weft__a64_load_relaxed(&w->tick);
    w->seen_in_task = w->seen_stuck = w->was_reported = true;
    sched.stuck_after_ns = 0;
}

static void the_queue_of_a_worker_that_sticks_is_handed_over(void **state)
{
    (void)state;
    static const struct model m = {.name = "monitor: hands the queue of a worker that sticks over",
                                   .init = init_stuck_with_queue,
                                   .thread = {worker_1, look_twice},
                                   .check = all_ran};
    model_passes(&m);
}

/* It sticks for long, and its substitute is on its way out of service. */
static void init_stuck_for_long(void)
{
    init_stuck();
    struct weft__worker *w = weft__sched_worker(&sched, 1);
    weft__aptr_store_relaxed(&weft__sched_worker(&sched, 0)->slot, NULL);
    weft__a32_store_relaxed(&w->has_no_thread, 0);
    weft__a64_store_relaxed(&sched.outer_spawned, 0);
    expected = 0;
    w->is_extra = true;
    sched.worker_count = 1;
    sched.stuck_after_ns = 0;
}
static void look_twice_and_spawn(void)
{
    weft__sched_worker(&sched, 0)->was_reported = true;
    look_twice();
    spawn(0);
}

static void a_worker_that_sticks_for_long_has_a_substitute(void **state)
{
    (void)state;
    static const struct model m = {.name = "monitor: a substitute for a worker that sticks",
                                   .init = init_stuck_for_long,
                                   .thread = {worker_1, look_twice_and_spawn},
                                   .check = all_ran};
    model_passes(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_monitor_is_awake_while_a_worker_is),
        cmocka_unit_test(the_monitor_is_awake_while_an_extra_worker_is),
        cmocka_unit_test(the_monitor_relieves_a_substitute),
        cmocka_unit_test(the_monitor_hears_of_the_end),
        cmocka_unit_test(the_task_that_sticks_is_named),
        cmocka_unit_test(the_clock_of_a_thread_in_a_task_is_known),
        cmocka_unit_test(the_queue_of_a_worker_that_sticks_is_handed_over),
        cmocka_unit_test(the_slot_of_a_worker_that_sticks_is_opened),
        cmocka_unit_test(a_worker_that_sticks_for_long_has_a_substitute),
    };
    return cmocka_run_group_tests_name("model monitor", tests, NULL, NULL);
}
