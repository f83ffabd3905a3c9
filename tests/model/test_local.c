/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * A local set and who drives it, under every schedule: the real ticks, the real parking and the
 * real wakes from elsewhere. Only the switch to a task's stack is left out: a task is run by a
 * function that the worker's loop calls. A task that the driver never gets to shows as a deadlock.
 */
#include "../../src/sched/worker.c"

/* The loop of the ticks is ours, see run_ready(). */
#define weft__worker_run run_ready
static bool run_ready(struct weft__worker *w, uint32_t runs);
#include "../../src/sched/local.c"
#undef weft__worker_run

#include "model.h"

#include "sys/table.h"
#include "task/spawn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HOME 7

/* ---- a set, its tasks, and a runtime of one task for drivers that are no thread ---- */

static struct weft__local *set;
static bool is_freed;
static struct weft__task *task[2]; /* local ones */
static bool ran[2];
static struct weft__task *driver; /* of the thread at home */
static struct weft__slab *slab;
static struct weft__a32 driver_flag; /* what the driver waits for itself */

static struct weft__sched outside; /* the runtime of the fibers */
static struct weft__task fiber[2]; /* its tasks, which drive */
static bool is_queued[2];

static bool run_ready(struct weft__worker *w, uint32_t runs)
{
    struct weft__task *t;
    (void)runs;
    w->until_events = 61;
    w->until_global = 31;
    while ((t = weft__worker_pick(w)) != NULL || (t = weft__worker_take_global(w)) != NULL) {
        int i = t == task[1];
        struct weft__locals locals = {0};
        MODEL_CHECK(!ran[i]);
        begin_run(w, t);
        t->locals = &locals;
        ran[i] = true;
        weft__task_complete_unstarted(t);
        end_run(w);
        count_ended();
    }
    return false;
}

static void free_core(struct weft__core *core)
{
    is_freed = true;
    weft__free(weft__sched_worker(weft__sched_of(core), 0));
    weft__free(set);
}

static const struct weft__core_ops ops = {.enqueue = weft__local_enqueue,
                                          .timers_here = weft__local_timers_here,
                                          .timers_rearmed = weft__local_timers_rearmed,
                                          .ended_outside = weft__sched_ended_outside,
                                          .admit = weft__sched_admit,
                                          .start = weft__sched_start};

/* A local task that is parked, as one that waits for a channel. */
static struct weft__task *spawn_parked(void)
{
    struct weft__task *t = weft__thread_task_create(&set->sched.core, WEFT__TASK_FUTURE);
    MODEL_CHECK(t != NULL && weft__sched_admit(&set->sched.core));
    MODEL_CHECK(weft__task_confirm_parked(t));
    weft__task_ref(t); /* the model's own */
    return t;
}

static void init(void)
{
    set = weft__aligned_alloc(WEFT__CACHE_LINE, sizeof *set);
    MODEL_CHECK(set != NULL);
    memset(set, 0, sizeof *set);
    memset(&outside, 0, sizeof outside);
    memset(fiber, 0, sizeof fiber);
    memset(is_queued, 0, sizeof is_queued);
    memset(ran, 0, sizeof ran);
    is_freed = false;
    weft__a32_store_relaxed(&driver_flag, 0);
    struct weft__sched *s = &set->sched;
    s->core.ops = &ops;
    s->core.home = HOME;
    s->core.budget = 128;
    s->core.has_time = true;
    s->core.process = weft__sys_process();
    weft__a64_store_relaxed(&s->core.refs, 1);
    s->worker_count = 1;
    s->has_slot = true;
    s->seed = 1;
    weft__inject_init(&s->inject);
    weft__lanes_init(&s->lanes, false);
    weft__clock_init(&s->core.clock, false);
    weft__lock_init(&set->lock);
    weft__list_init(&set->drivers);
    MODEL_CHECK(weft__slab_create(&s->core, free_core, &s->core.slab) == 0);
    slab = s->core.slab;
    MODEL_CHECK(weft__worker_create(s, 0, false) == 0);
    driver = weft__thread_task_create(&s->core, WEFT__TASK_BODY);
    task[0] = spawn_parked();
    task[1] = spawn_parked();
    model_name(set, sizeof *set, "set");
    model_name(driver, sizeof *driver, "driver");
    model_name(task[0], sizeof *task[0], "task0");
    model_name(task[1], sizeof *task[1], "task1");
    model_name(weft__sched_worker(s, 0), sizeof(struct weft__worker), "worker");
}

static void tear_down(void)
{
    struct weft__worker *w = weft__sched_worker(&set->sched, 0);
    weft__timers_close(&w->timers);
    weft__slab_flush(slab, &w->tasks);
    weft__thread_task_destroy(driver);
    weft__core_unref(&set->sched.core);
}

static struct weft__ctx *be_home(void)
{
    struct weft__ctx *c = weft__ctx_get();
    c->thread = HOME;
    return c;
}

/* References that were taken for waking were given back: the driver has its own left. */
static void check_driver(void)
{
    MODEL_CHECK(weft__aptr_load_relaxed(&set->sleeper) == NULL);
    MODEL_CHECK((weft__a64_load_relaxed(&driver->state) & WEFT__TASK_REFS_MASK) == WEFT__TASK_REF);
}

static void all_ended(void)
{
    check_driver();
    MODEL_CHECK(weft__sched_is_quiescent(&set->sched));
    tear_down();
    MODEL_CHECK(!is_freed); /* the model's references to the tasks */
    weft__task_unref(task[0]);
    weft__task_unref(task[1]);
    MODEL_CHECK(is_freed);
}

/* ---- a thread drives, others wake ---- */

static void begin(struct weft__driving *d, struct weft__locals *l, bool waits_for_end)
{
    driver->locals = l;
    be_home()->current = driver;
    weft__local_begin(d, set, driver, waits_for_end);
}

static void end(struct weft__driving *d)
{
    weft__local_end(d);
    weft__ctx_get()->current = NULL;
}

/* As weft_local_set_wait(). */
static void drive_to_the_end(void)
{
    struct weft__locals l = {0};
    struct weft__driving d;
    begin(&d, &l, true);
    while (!weft__sched_is_quiescent(&set->sched)) {
        weft__local_park_until(driver, WEFT_NEVER);
        weft__task_clear_notified(driver);
    }
    end(&d);
}

static void wake_0(void)
{
    weft_waker_wake(weft__task_waker(task[0]));
}
static void wake_1(void)
{
    weft_waker_wake(weft__task_waker(task[1]));
}
static void wake_both(void)
{
    wake_0();
    wake_1();
}
static void abort_1(void)
{
    if (weft__task_set_aborted(task[1], WEFT__TASK_ABORT))
        weft__task_schedule(task[1]);
}

static void wakes_reach_a_parking_driver(void **state)
{
    (void)state;
    static const struct model one = {.name = "local: two wakes of one thread",
                                     .init = init,
                                     .thread = {drive_to_the_end, wake_both},
                                     .check = all_ended};
    static const struct model two = {.name = "local: a wake and an abort",
                                     .init = init,
                                     .thread = {drive_to_the_end, wake_0, abort_1},
                                     .check = all_ended};
    model_passes(&one);
    model_passes(&two);
}

/* The driver waits for something itself, which comes beside a wake of the set. */
static void drive_until_flag(void)
{
    struct weft__locals l = {0};
    struct weft__driving d;
    begin(&d, &l, false);
    while (weft__a32_load_acquire(&driver_flag) == 0) {
        weft__local_park_until(driver, WEFT_NEVER);
        weft__task_clear_notified(driver);
    }
    end(&d);
    drive_to_the_end();
}

static void set_flag_and_wake(void)
{
    weft__a32_store_release(&driver_flag, 1);
    weft_waker_wake(weft__task_waker(driver));
}

static void its_own_wake_is_not_lost_among_them(void **state)
{
    (void)state;
    static const struct model m = {.name = "local: the driver's own wake",
                                   .init = init,
                                   .thread = {drive_until_flag, wake_both, set_flag_and_wake},
                                   .check = all_ended};
    model_passes(&m);
}

/* A deadline passes at any moment: the thread takes itself out of its sleep, or finds that somebody
 * was faster. */
static void drive_with_deadlines(void)
{
    struct weft__locals l = {0};
    struct weft__driving d;
    begin(&d, &l, true);
    for (int i = 0; i < 2 && !weft__sched_is_quiescent(&set->sched); i++) {
        weft__local_park_until(driver, weft__sys_now_ns() + WEFT_MS);
        weft__task_clear_notified(driver);
    }
    end(&d);
    drive_to_the_end();
}

static void a_deadline_races_with_wakes(void **state)
{
    (void)state;
    static const struct model m = {.name = "local: a sleep with a deadline",
                                   .init = init,
                                   .thread = {drive_with_deadlines, wake_both},
                                   .check = all_ended,
                                   .time_races = true};
    model_passes(&m);
}

/* Seeded: looks at the queue first and announces itself then. */
static void park_in_wrong_order(void)
{
    struct weft__locals l = {0};
    struct weft__driving d;
    begin(&d, &l, true);
    while (!weft__sched_is_quiescent(&set->sched)) {
        (void)tick_all(driver);
        if (weft__sched_is_quiescent(&set->sched))
            break;
        bool has_work = weft__sched_has_work(&set->sched);
        start_listening(set, driver);
        if (!has_work)
            park_plainly(driver, WEFT_NEVER);
        stop_listening(set, driver);
        weft__task_clear_notified(driver);
    }
    end(&d);
}

static void a_driver_that_looks_first_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "local: looks, then announces",
                                   .init = init,
                                   .thread = {park_in_wrong_order, wake_both},
                                   .check = all_ended};
    model_fails(&m, MODEL_DEADLOCK);
}

/* ---- the end of the set ---- */

/* As weft_local_set_destroy(), and the memory goes with it. */
static void destroy(void)
{
    struct weft__locals l = {0};
    struct weft__driving d;
    begin(&d, &l, true);
    weft__local_abort_all(set, WEFT__TASK_ABORT);
    while (!weft__sched_is_quiescent(&set->sched)) {
        weft__task_clear_notified(driver);
        weft__local_park_until(driver, WEFT_NEVER);
    }
    end(&d);
    /* Not check_driver(): who has taken the sleeper to wake it may not have done so yet, and holds
     * it. A reference that is lost keeps the core, which is_gone() sees. */
    MODEL_CHECK(weft__aptr_load_relaxed(&set->sleeper) == NULL);
    tear_down();
    weft__task_unref(task[1]);
}

static void wake_and_release(void)
{
    weft__waker_wake_release(weft__task_waker(task[0]));
}

static void is_gone(void)
{
    MODEL_CHECK(is_freed);
}

static void a_wake_may_come_while_the_set_ends(void **state)
{
    (void)state;
    static const struct model m = {.name = "local: a wake and the end of the set",
                                   .init = init,
                                   .thread = {destroy, wake_and_release},
                                   .check = is_gone};
    model_passes(&m);
}

/* Seeded: an enqueue that does not hold the set. */
static void enqueue_without_hold(void)
{
    struct weft__local *l = set;
    if (!weft__task_set_notified_release(task[0], WEFT__TASK_REF))
        return;
    MODEL_CHECK(weft__inject_push(&l->sched.inject, task[0]));
    ring(l);
}

static void an_enqueue_without_a_hold_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "local: no hold on the set",
                                   .init = init,
                                   .thread = {destroy, enqueue_without_hold},
                                   .check = is_gone};
    model_fails(&m, MODEL_RACE); /* used, and freed without that being before */
}

/* ---- two fibers drive; the second one stops ---- */

static bool fiber_is_queued(void *arg)
{
    return is_queued[(struct weft__task *)arg - fiber];
}

static void fiber_enqueue(struct weft__core *core, struct weft__task *t)
{
    (void)core;
    MODEL_CHECK(!is_queued[t - fiber]);
    is_queued[t - fiber] = true;
}

static void (*second_fiber)(void);

/* What runs on the thread while a fiber is parked: the second one, to its end. */
static void fiber_park(struct weft__task *self)
{
    if (!weft__task_confirm_parked(self))
        return;
    void (*next)(void) = self == &fiber[0] ? second_fiber : NULL;
    if (next) {
        second_fiber = NULL;
        next();
    }
    model_wait(fiber_is_queued, self, "to be woken");
    is_queued[self - fiber] = false;
    weft__ctx_get()->current = self;
}

static const struct weft__core_ops fiber_ops = {.enqueue = fiber_enqueue, .park = fiber_park};

static void begin_fiber(int i, struct weft__driving *d, struct weft__locals *l,
                        struct weft__stack *stack)
{
    l->stack = stack;
    fiber[i].locals = l;
    be_home()->current = &fiber[i];
    weft__local_begin(d, set, &fiber[i], i == 0);
}

/* Waits for what set_flag_and_wake_fiber() does, and stops driving. */
static void drive_second(void)
{
    struct weft__locals l = {0};
    struct weft__stack stack = {0};
    struct weft__driving d;
    begin_fiber(1, &d, &l, &stack);
    while (weft__a32_load_acquire(&driver_flag) == 0) {
        weft__local_park_until(&fiber[1], WEFT_NEVER);
        weft__task_clear_notified(&fiber[1]);
    }
    weft__local_end(&d);
}

static void drive_first(void)
{
    struct weft__locals l = {0};
    struct weft__stack stack = {0};
    struct weft__driving d;
    begin_fiber(0, &d, &l, &stack);
    while (!weft__sched_is_quiescent(&set->sched)) {
        weft__local_park_until(&fiber[0], WEFT_NEVER);
        weft__task_clear_notified(&fiber[0]);
    }
    weft__local_end(&d);
}

static void set_flag_and_wake_fiber(void)
{
    weft__a32_store_release(&driver_flag, 1);
    weft_waker_wake(
        weft__task_waker(&fiber[1])); /* it may not have begun: then it finds the flag */
}

static void init_fibers(void)
{
    init();
    outside.core.ops = &fiber_ops;
    weft__clock_init(&outside.core.clock, false);
    second_fiber = drive_second;
    /* Before anybody may wake them. */
    for (int i = 0; i < 2; i++) {
        fiber[i].core = &outside.core;
        fiber[i].kind = WEFT__TASK_FIBER;
        fiber[i].budget = UINT16_MAX; /* it never has to yield */
        weft__a64_store_relaxed(&fiber[i].state, WEFT__TASK_REF);
    }
    model_name(fiber, sizeof fiber, "fibers");
}

static void fibers_ended(void)
{
    for (int i = 0; i < 2; i++)
        MODEL_CHECK((weft__a64_load_relaxed(&fiber[i].state) & WEFT__TASK_REFS_MASK) ==
                    WEFT__TASK_REF);
    all_ended();
}

static void a_driver_that_stops_leaves_the_set_to_another(void **state)
{
    (void)state;
    static const struct model m = {.name = "local: one of two drivers stops",
                                   .init = init_fibers,
                                   .thread = {drive_first, wake_both, set_flag_and_wake_fiber},
                                   .check = fibers_ended};
    model_passes(&m);
}

/* Seeded: it stops and tells nobody. */
static void drive_second_and_say_nothing(void)
{
    struct weft__locals l = {0};
    struct weft__stack stack = {0};
    struct weft__driving d;
    begin_fiber(1, &d, &l, &stack);
    while (weft__a32_load_acquire(&driver_flag) == 0) {
        weft__local_park_until(&fiber[1], WEFT_NEVER);
        weft__task_clear_notified(&fiber[1]);
    }
    weft__lock_acquire(&set->lock);
    weft__list_remove(&d.node);
    weft__lock_release(&set->lock);
    weft__core_unref(&set->sched.core);
}

static void init_fibers_silent(void)
{
    init_fibers();
    second_fiber = drive_second_and_say_nothing;
}

static void a_driver_that_stops_silently_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "local: stops silently",
                                   .init = init_fibers_silent,
                                   .thread = {drive_first, wake_both, set_flag_and_wake_fiber},
                                   .check = fibers_ended};
    model_fails(&m, MODEL_DEADLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wakes_reach_a_parking_driver),
        cmocka_unit_test(its_own_wake_is_not_lost_among_them),
        cmocka_unit_test(a_deadline_races_with_wakes),
        cmocka_unit_test(a_driver_that_looks_first_is_found),
        cmocka_unit_test(a_wake_may_come_while_the_set_ends),
        cmocka_unit_test(an_enqueue_without_a_hold_is_found),
        cmocka_unit_test(a_driver_that_stops_leaves_the_set_to_another),
        cmocka_unit_test(a_driver_that_stops_silently_is_found),
    };
    return cmocka_run_group_tests_name("model local", tests, NULL, NULL);
}
