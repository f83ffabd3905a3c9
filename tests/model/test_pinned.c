/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * Tasks in lanes, under every schedule: urgent ones, which any worker may run, and pinned ones,
 * which one worker must hear of, sleeping or dormant.
 */
#include "workers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define PINNED_TO(index) (WEFT__ROUTE_PINNED | (uint32_t)(index) << WEFT__ROUTE_HOME_SHIFT)

static void route(int i, uint32_t route)
{
    weft__a32_store_relaxed(&tasks[i].route, route);
}

static void *check_home(void *arg)
{
    const struct weft__ctx *c = weft__ctx_now();
    (void)arg;
    MODEL_CHECK(weft__task_is_pinned(c->current));
    MODEL_CHECK(weft__a32_load_relaxed(&c->current->route) >> WEFT__ROUTE_HOME_SHIFT ==
                c->worker->index);
    return NULL;
}

static void spawn_pinned(int i, uint32_t route_of_it)
{
    tasks[i].fn = check_home;
    route(i, route_of_it);
    spawn(i);
}

/* ---- pinned ---- */

static void pin_to_the_only_one(void)
{
    spawn_pinned(0, PINNED_TO(0));
    wait_and_stop();
}

static void the_only_worker_hears_of_a_pinned_task(void **state)
{
    (void)state;
    static const struct model m = {.name = "one worker, a task pinned to it",
                                   .init = init_one_worker,
                                   .thread = {worker_0, pin_to_the_only_one},
                                   .check = all_ran};
    model_passes(&m);
}

static void pin_from_outside(void)
{
    spawn_pinned(0, PINNED_TO(1));
    wait_and_stop();
}

static void its_worker_hears_of_a_pinned_task(void **state)
{
    (void)state;
    static const struct model m = {.name = "two workers, a task pinned to one",
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, pin_from_outside},
                                   .check = all_ran};
    model_passes(&m);
}

static void *spawn_pinned_child(void *arg)
{
    (void)arg;
    spawn_pinned(1, PINNED_TO(1 - weft__ctx_now()->worker->index));
    return NULL;
}
static void pin_by_a_task(void)
{
    tasks[0].fn = spawn_pinned_child;
    spawn(0);
    wait_and_stop();
}

static void a_task_wakes_one_pinned_elsewhere(void **state)
{
    (void)state;
    static const struct model m = {.name = "a task wakes one pinned to the other worker",
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, pin_by_a_task},
                                   .check = all_ran};
    model_passes(&m);
}

/* Born pinned: whoever is first keeps it. */
static void spawn_born_pinned(void)
{
    spawn_pinned(0, WEFT__ROUTE_PINNED_BORN);
    wait_and_stop();
}

static void whoever_is_first_keeps_a_task_born_pinned(void **state)
{
    (void)state;
    static const struct model m = {.name = "two workers, a task born pinned",
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, spawn_born_pinned},
                                   .check = all_ran};
    model_passes(&m);
}

/* Seeded: wakes a worker, not that one. */
static void wake_anyone(void)
{
    MODEL_CHECK(weft__sched_admit(&sched.core));
    expected++;
    (void)weft__lanes_push(&weft__sched_worker(&sched, 1)->pinned, 0, &tasks[0].qnode);
    weft__sched_wake_one(&sched);
    wait_and_stop();
}

static void waking_anyone_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "a pinned task wakes anyone",
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, wake_anyone},
                                   .check = all_ran};
    model_fails(&m, MODEL_DEADLOCK);
}

/* Seeded: wakes the worker, and queues the task then. */
static void wake_and_push(void)
{
    struct weft__worker *home = weft__sched_worker(&sched, 1);
    MODEL_CHECK(weft__sched_admit(&sched.core));
    expected++;
    weft__sched_wake_worker(home);
    (void)weft__lanes_push(&home->pinned, 0, &tasks[0].qnode);
    wait_and_stop();
}

static void waking_first_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "a worker is woken before its pinned task is there",
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, wake_and_push},
                                   .check = all_ran};
    model_fails(&m, MODEL_DEADLOCK);
}

/* ---- a dormant worker ---- */

static void init_extra(void)
{
    init_with(2);
    sched.worker_count = 1;
    weft__sched_worker(&sched, 1)->is_extra = true;
}

static void dormant_1(void)
{
    struct weft__worker *w = weft__sched_worker(&sched, 1);
    struct weft__ctx *c = weft__ctx_get();
    w->ctx = c;
    c->worker = w;
    c->core = &sched.core;
    w->until_events = sched.event_interval;
    w->until_global = sched.global_interval;
    while (!is_stopped(w)) {
        struct weft__task *t = find(w);
        if (t)
            run_body(w, t);
        else
            be_dormant(w, is_stopped, w);
    }
    stop_searching(w, false);
}

static void extra_is_left(void)
{
    sched.worker_count = 2; /* all_ran() looks at so many */
    all_ran();
}

static void a_dormant_worker_hears_of_its_task(void **state)
{
    (void)state;
    static const struct model m = {.name = "a task pinned to a dormant worker",
                                   .init = init_extra,
                                   .thread = {worker_0, dormant_1, pin_from_outside},
                                   .check = extra_is_left};
    model_passes(&m);
}

/* Seeded: thinks of those that sleep only. */
static void push_to_dormant(void)
{
    MODEL_CHECK(weft__sched_admit(&sched.core));
    expected++;
    (void)weft__lanes_push(&weft__sched_worker(&sched, 1)->pinned, 0, &tasks[0].qnode);
    (void)weft__sched_claim_one(&sched);
    wait_and_stop();
}

static void forgetting_the_dormant_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "a task pinned to a dormant worker, which is not told",
                                   .init = init_extra,
                                   .thread = {worker_0, dormant_1, push_to_dormant},
                                   .check = extra_is_left};
    model_fails(&m, MODEL_DEADLOCK);
}

/* ---- classes ---- */

static void urgent_from_outside(void)
{
    route(0, WEFT__CLASS_URGENT);
    route(1, WEFT__CLASS_BACKGROUND);
    spawn(0);
    spawn(1);
    wait_and_stop();
}

static void workers_hear_of_classes(void **state)
{
    (void)state;
    static const struct model m = {.name = "two workers, an urgent task and one in the background",
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, urgent_from_outside},
                                   .check = all_ran};
    model_passes(&m);
}

static void *spawn_classes(void *arg)
{
    (void)arg;
    route(1, WEFT__CLASS_BACKGROUND);
    spawn(1); /* wakes nobody: this worker is awake */
    return NULL;
}
static void classes_by_a_task(void)
{
    tasks[0].fn = spawn_classes;
    spawn(0);
    wait_and_stop();
}

static void a_task_in_the_background_is_reached(void **state)
{
    (void)state;
    static const struct model m = {.name = "a task spawns one in the background",
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, classes_by_a_task},
                                   .check = all_ran};
    model_passes(&m);
}

/* Seeded: queues an urgent task from outside and tells nobody. */
static void push_in_silence(void)
{
    MODEL_CHECK(weft__sched_admit(&sched.core));
    expected++;
    (void)weft__lanes_push(&sched.lanes, WEFT__CLASS_URGENT, &tasks[0].qnode);
    wait_and_stop();
}

static void a_silent_push_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "an urgent task is queued in silence",
                                   .init = init_two_workers,
                                   .thread = {worker_0, worker_1, push_in_silence},
                                   .check = all_ran};
    model_fails(&m, MODEL_DEADLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_only_worker_hears_of_a_pinned_task),
        cmocka_unit_test(its_worker_hears_of_a_pinned_task),
        cmocka_unit_test(a_task_wakes_one_pinned_elsewhere),
        cmocka_unit_test(whoever_is_first_keeps_a_task_born_pinned),
        cmocka_unit_test(waking_anyone_is_found),
        cmocka_unit_test(waking_first_is_found),
        cmocka_unit_test(a_dormant_worker_hears_of_its_task),
        cmocka_unit_test(forgetting_the_dormant_is_found),
        cmocka_unit_test(workers_hear_of_classes),
        cmocka_unit_test(a_task_in_the_background_is_reached),
        cmocka_unit_test(a_silent_push_is_found),
    };
    return cmocka_run_group_tests_name("model pinned", tests, NULL, NULL);
}
