/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The shutdown of a whole runtime, under every schedule: its workers, its monitor, the threads of
 * its pool and the stacks of its tasks are the real ones, made by weft_runtime_create(); it has no
 * driver. Whatever else happens to the runtime in that moment, each task comes to its end once, all
 * threads end, and all memory comes back, with nobody touching it afterwards.
 */
#include "model.h"

#include "runtime/runtime_internal.h"
#include "sched/halt.h"
#include "sys/table.h"

#include <weft/weft.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- a runtime ---- */

#define STACKS 2

static weft_config config;
static weft_runtime *rt;
static weft_handle *handle; /* of whoever else uses it */
static weft_task *task;
static weft_waker *waker; /* of the task */
static uint64_t begun_ns, drained_ns;
static int args_dropped, results_dropped, ran;
static weft__a32 flag;
static weft_outcome outcome;
static int shutdown_rc, block_rc;
static bool is_in_run; /* or the last one was given up in its middle */

/* Stacks are the process's, and are put into the cache of a worker before the run: in the same
 * order for each run. */
static void give_stacks(struct weft__worker *w)
{
    struct weft__stack *s[STACKS];
    for (int i = 0; i < STACKS; i++)
        MODEL_CHECK(weft__stack_get(NULL, WEFT__STACK_DEFAULT, &s[i]) == 0);
    for (int i = 0; i < STACKS; i++)
        for (int k = i + 1; k < STACKS; k++)
            if (s[k] < s[i]) {
                struct weft__stack *lower = s[k];
                s[k] = s[i];
                s[i] = lower;
            }
    for (int i = 0; i < STACKS; i++)
        weft__stack_put(&w->stacks, s[i]);
}

/* One stays out, so that the slab of the others is not given back at the end of each run. */
static void renew_stacks(void)
{
    struct weft__stack *s[STACKS + 1];
    weft__stack_pool_forget();
    for (int i = 0; i <= STACKS; i++)
        MODEL_CHECK(weft__stack_get(NULL, WEFT__STACK_DEFAULT, &s[i]) == 0);
    for (int i = 0; i < STACKS; i++)
        weft__stack_put(NULL, s[i]);
}

/* A thread has one already. */
static int fake_sigaltstack(const stack_t *set, stack_t *ret)
{
    (void)set;
    if (ret)
        ret->ss_flags = 0;
    return 0;
}

/* The first thread that is joined is so after the last task has ended. */
static int (*join_really)(pthread_t thread, void **ret);
static int join_and_look(pthread_t thread, void **ret)
{
    if (drained_ns == 0)
        drained_ns = weft__sys_now_ns();
    return join_really(thread, ret);
}

static void init_with(enum weft_flavor flavor, unsigned workers)
{
    weft__sys_table.sigaltstack = fake_sigaltstack;
    if (weft__sys_table.pthread_join != join_and_look) {
        join_really = weft__sys_table.pthread_join;
        weft__sys_table.pthread_join = join_and_look;
    }
    if (is_in_run) {
        renew_stacks();
        weft__runtime_list_forget();
    }
    is_in_run = true;
    args_dropped = results_dropped = ran = 0;
    shutdown_rc = 1;
    task = NULL;
    waker = NULL;
    begun_ns = weft__sys_now_ns();
    drained_ns = 0;
    weft_config c = config;
    c.flavor = flavor;
    c.workers = workers;
    MODEL_CHECK(weft_runtime_create(&c, &rt) == 0);
    handle = weft_runtime_handle(rt);
    for (unsigned i = 0; i < workers; i++)
        give_stacks(weft__sched_worker(&rt->sched, i));
    model_name(rt, sizeof *rt, "runtime");
    model_name(weft__sched_worker(&rt->sched, 0), sizeof(struct weft__worker), "worker0");
    if (workers > 1)
        model_name(weft__sched_worker(&rt->sched, 1), sizeof(struct weft__worker), "worker1");
}
static void init_one_worker(void)
{
    init_with(WEFT_FLAVOR_MULTI_THREAD, 1);
}
static void init_current_thread(void)
{
    init_with(WEFT_FLAVOR_CURRENT_THREAD, 1);
}

/* ---- what its tasks are made of ---- */

static void drop_arg(void *arg)
{
    MODEL_CHECK(arg == &args_dropped);
    args_dropped++;
}
static void drop_result(void *result)
{
    MODEL_CHECK(result == &results_dropped);
    results_dropped++;
}

static void *return_at_once(void *arg)
{
    MODEL_CHECK(arg == &args_dropped);
    ran++;
    return &results_dropped;
}

static int flag_poll(weft_future *f, weft_waker *w)
{
    (void)f, (void)w;
    return weft__a32_load_relaxed(&flag) ? 0 : WEFT_PENDING;
}
static void flag_cancel(weft_future *f)
{
    (void)f;
}
static const weft_future_ops flag_ops = {flag_poll, flag_cancel, "flag"};

static void *wait_for_flag(void *arg)
{
    weft_future f = {.ops = &flag_ops};
    MODEL_CHECK(arg == &args_dropped);
    ran++;
    int rc = weft_await(&f);
    MODEL_CHECK(rc == 0 || rc == -ECANCELED);
    return &results_dropped;
}

static void spawn(weft_task_fn fn, bool is_blocking)
{
    weft_spawn_options o = {.drop_arg = drop_arg, .drop_result = drop_result, .runtime = handle};
    int rc = is_blocking ? weft_spawn_blocking_with(&o, fn, &args_dropped, &task)
                         : weft_spawn_with(&o, fn, &args_dropped, &task);
    MODEL_CHECK(rc == 0);
}

static void shut_down(void)
{
    shutdown_rc = weft_runtime_shutdown(rt, WEFT_NEVER);
}

/* ---- checks ---- */

/* Nobody had to run out of patience: a wake that is lost would show as time that passes. */
static void is_down(void)
{
    is_in_run = false;
    MODEL_CHECK(shutdown_rc == 0);
    MODEL_CHECK((drained_ns ? drained_ns : weft__sys_now_ns()) == begun_ns);
}
static void task_was_joined(void)
{
    is_down();
    MODEL_CHECK(ran + args_dropped == 1);
    MODEL_CHECK(ran == (outcome.kind == WEFT_OUTCOME_VALUE));
    MODEL_CHECK(results_dropped == 0);
}
/* The task has dropped one or the other. */
static void task_was_detached(void)
{
    is_down();
    MODEL_CHECK(args_dropped == !ran && results_dropped == ran);
}

/* ---- who uses the runtime meanwhile ---- */

static void spawn_and_join(void)
{
    weft_enter_guard g;
    spawn(return_at_once, false);
    MODEL_CHECK(weft_enter(handle, &g) == 0);
    MODEL_CHECK(weft_join(task, &outcome) == 0);
    MODEL_CHECK(weft_leave(&g) == 0);
    weft_handle_unref(handle);
}
static void spawn_and_detach(void)
{
    spawn(return_at_once, false);
    weft_task_detach(task);
    weft_handle_unref(handle);
}
static void submit_and_detach(void)
{
    spawn(return_at_once, true);
    weft_task_detach(task);
    weft_handle_unref(handle);
}

static void init_two_workers_and_task(void)
{
    init_with(WEFT_FLAVOR_MULTI_THREAD, 2);
    spawn_and_detach();
}

static void a_task_is_spawned_meanwhile(void **state)
{
    (void)state;
    static const struct model join = {.name = "shutdown: a task is spawned and joined",
                                      .init = init_one_worker,
                                      .bound_less = 1,
                                      .stale_less = 2,
                                      .thread = {shut_down, spawn_and_join},
                                      .check = task_was_joined};
    static const struct model detach = {.name = "shutdown: a task is spawned and detached",
                                        .init = init_one_worker,
                                        .bound_less = 1,
                                        .thread = {shut_down, spawn_and_detach},
                                        .check = task_was_detached};
    static const struct model driven = {.name = "shutdown, driving: a task is spawned and joined",
                                        .init = init_current_thread,
                                        .thread = {shut_down, spawn_and_join},
                                        .check = task_was_joined};
    static const struct model two = {.name = "shutdown of two workers with a task",
                                     .init = init_two_workers_and_task,
                                     .bound_less = 1,
                                     .stale_less = 2,
                                     .thread = {shut_down},
                                     .check = task_was_detached};
    model_passes(&join);
    model_passes(&detach);
    model_passes(&two);
    model_passes(&driven);
}

static void a_job_is_submitted_meanwhile(void **state)
{
    (void)state;
    static const struct model m = {.name = "shutdown: a job is submitted",
                                   .init = init_one_worker,
                                   .bound_less = 1,
                                   .stale_less = 2,
                                   .thread = {shut_down, submit_and_detach},
                                   .check = task_was_detached};
    static const struct model driven = {.name = "shutdown, driving: a job is submitted",
                                        .init = init_current_thread,
                                        .thread = {shut_down, submit_and_detach},
                                        .check = task_was_detached};
    model_passes(&m);
    model_passes(&driven);
}

/* ---- a task that waits is woken ---- */

static void spawn_waiting(enum weft_flavor flavor)
{
    init_with(flavor, 1);
    weft__a32_store_relaxed(&flag, 0);
    model_name(&flag, sizeof flag, "flag");
    spawn(wait_for_flag, false);
    waker = weft_waker_ref(weft__task_waker(weft__task_address(task)));
    weft_task_detach(task);
    weft_handle_unref(handle);
}
static void init_waiting(void)
{
    spawn_waiting(WEFT_FLAVOR_MULTI_THREAD);
}
static void init_waiting_driven(void)
{
    spawn_waiting(WEFT_FLAVOR_CURRENT_THREAD);
}
/* It may have ended long ago: what it was goes with the last waker. */
static void set_flag_and_wake(void)
{
    weft__a32_store_relaxed(&flag, 1);
    weft_waker_wake_unref(waker);
}

static void a_waiting_task_is_woken_meanwhile(void **state)
{
    (void)state;
    static const struct model m = {.name = "shutdown: a waiting task is woken",
                                   .init = init_waiting,
                                   .bound_less = 1,
                                   .stale_less = 2,
                                   .thread = {shut_down, set_flag_and_wake},
                                   .check = task_was_detached};
    static const struct model driven = {.name = "shutdown, driving: a waiting task is woken",
                                        .init = init_waiting_driven,
                                        .thread = {shut_down, set_flag_and_wake},
                                        .check = task_was_detached};
    model_passes(&m);
    model_passes(&driven);
}

/* ---- by a task of its own; the rest is another thread's ---- */

static void *shut_down_from_inside(void *arg)
{
    MODEL_CHECK(arg == &args_dropped);
    ran++;
    MODEL_CHECK(weft_runtime_shutdown(rt, 0) == -ETIMEDOUT);
    shutdown_rc = 0;
    return &results_dropped;
}
static void init_own_end(void)
{
    init_one_worker();
    spawn(shut_down_from_inside, false);
}
static void give_up_handles(void)
{
    weft_handle_unref(handle);
    weft_task_detach(task);
}

static void a_task_shuts_its_runtime_down(void **state)
{
    (void)state;
    static const struct model m = {.name = "shutdown by a task, and the last handle",
                                   .init = init_own_end,
                                   .bound_less = 1,
                                   .thread = {give_up_handles},
                                   .check = task_was_detached};
    model_passes(&m);
}

/* ---- a thread blocks on it ---- */

static void init_flag(void)
{
    init_one_worker();
    weft__a32_store_relaxed(&flag, 0);
    model_name(&flag, sizeof flag, "flag");
}
static void init_flag_driven(void)
{
    init_current_thread();
    weft__a32_store_relaxed(&flag, 0);
    model_name(&flag, sizeof flag, "flag");
}
static void block_on_it(void)
{
    block_rc = weft_handle_block_on(handle, wait_for_flag, &args_dropped, &outcome);
    weft_handle_unref(handle);
}
/* Drives it, in turns with who shuts it down: that one looks every few milliseconds. */
static void drive_it(void)
{
    block_rc = weft_block_on(rt, wait_for_flag, &args_dropped, &outcome);
    weft_handle_unref(handle);
}
static void driver_was_aborted(void)
{
    is_in_run = false;
    MODEL_CHECK(shutdown_rc == 0);
    MODEL_CHECK(block_rc == 0 || (!ran && block_rc == -ESHUTDOWN));
    MODEL_CHECK(block_rc != 0 || outcome.kind == WEFT_OUTCOME_CANCELLED);
}
static void body_was_aborted(void)
{
    is_down();
    MODEL_CHECK(block_rc == (ran ? 0 : -ESHUTDOWN));
    MODEL_CHECK(!ran || outcome.kind == WEFT_OUTCOME_CANCELLED);
}

static void a_thread_blocks_on_it_meanwhile(void **state)
{
    (void)state;
    static const struct model m = {.name = "shutdown: a thread blocks on the runtime",
                                   .init = init_flag,
                                   .bound_less = 1,
                                   .thread = {shut_down, block_on_it},
                                   .check = body_was_aborted};
    static const struct model driven = {.name = "shutdown, driving: a thread drives the runtime",
                                        .init = init_flag_driven,
                                        .thread = {shut_down, drive_it},
                                        .check = driver_was_aborted};
    model_passes(&m);
    model_passes(&driven);
}

/* ---- a thread sleeps in it ---- */

static void sleep_inside(void)
{
    weft_enter_guard g;
    MODEL_CHECK(weft_enter(handle, &g) == 0);
    block_rc = weft_sleep(WEFT_SEC);
    MODEL_CHECK(weft_leave(&g) == 0);
    weft_handle_unref(handle);
}
static void sleep_was_ended(void)
{
    is_down();
    MODEL_CHECK(block_rc == -ESHUTDOWN);
}

static void a_thread_sleeps_in_it_meanwhile(void **state)
{
    (void)state;
    static const struct model m = {.name = "shutdown: a thread sleeps in the runtime",
                                   .init = init_one_worker,
                                   .bound_less = 1,
                                   .stale_less = 2,
                                   .thread = {shut_down, sleep_inside},
                                   .check = sleep_was_ended};
    static const struct model driven = {.name = "shutdown, driving: a thread sleeps in the runtime",
                                        .init = init_current_thread,
                                        .thread = {shut_down, sleep_inside},
                                        .check = sleep_was_ended};
    model_passes(&m);
    model_passes(&driven);
}

/* ---- the process exits ---- */

/* As the handler of exit(), which waits then. */
static void halt_all(void)
{
    struct weft__core *core;
    for (uint64_t id = 0; (core = weft__runtime_after(id)) != NULL; weft__core_unref(core)) {
        id = core->id;
        weft__sched_halt(weft__sched_of(core));
    }
}
static void init_no_handle(void)
{
    init_one_worker();
    weft_handle_unref(handle);
}

static void the_process_exits_meanwhile(void **state)
{
    (void)state;
    static const struct model m = {.name = "shutdown: the process exits",
                                   .init = init_no_handle,
                                   .bound_less = 1,
                                   .thread = {shut_down, halt_all},
                                   .check = is_down};
    model_passes(&m);
}

/* ---- seeded ---- */

/* To be changed for the run. */
static struct weft__core_ops *core_ops(void)
{
    static struct weft__core_ops ops;
    ops = *rt->sched.core.ops;
    rt->sched.core.ops = &ops;
    return &ops;
}

/* Looks at the phase first and counts the task then: all may be shut down in between. */
static bool admit_too_late(struct weft__core *core)
{
    bool is_running = weft__a32_load_seq_cst(&core->phase) == WEFT__PHASE_RUNNING;
    weft__a64_add_seq_cst(&weft__sched_of(core)->outer_spawned, 1);
    return is_running;
}
static void init_late_admission(void)
{
    init_current_thread();
    core_ops()->admit = admit_too_late;
}
static void a_task_that_is_counted_too_late_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "shutdown: a task is counted too late",
                                   .init = init_late_admission,
                                   .thread = {shut_down, spawn_and_detach},
                                   .check = task_was_detached};
    model_fails(&m, MODEL_CHECK_FAILED);
}

/* Counts the end of a job, and tells nobody: who waits for the last one notices when he looks the
 * next time. */
static void end_silently(struct weft__core *core)
{
    weft__a64_add_seq_cst(&weft__sched_of(core)->outer_ended, 1);
}
static void init_silent_ends(void)
{
    init_one_worker();
    core_ops()->ended_outside = end_silently;
}
static void a_job_that_ends_in_silence_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "shutdown: a job ends and tells nobody",
                                   .init = init_silent_ends,
                                   .thread = {shut_down, submit_and_detach},
                                   .check = task_was_detached};
    model_fails(&m, MODEL_CHECK_FAILED);
}

static int join_nobody(pthread_t thread, void **ret)
{
    (void)thread, (void)ret;
    return 0;
}
static void init_without_joins(void)
{
    init_own_end();
    weft__sys_table.pthread_join = join_nobody;
}
static void a_shutdown_that_joins_no_thread_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "shutdown: joins no thread",
                                   .init = init_without_joins,
                                   .thread = {give_up_handles},
                                   .check = task_was_detached};
    model_fails(&m, MODEL_RACE);
}

/* Who sleeps too late is told so, in thousands of runs. */
static void say_nothing(enum weft_log_level level, const char *line, void *arg)
{
    (void)level, (void)line, (void)arg;
}

/* What a process does once. */
static int set_up(void **state)
{
    (void)state;
    weft_log_set(say_nothing, NULL);
    MODEL_CHECK(weft__runtime_prepare("test", NULL) == 0);
    weft_config_init(&config);
    config.enable_io = false;
    config.blocking_threads_max = 1;
    config.seed = 1;
    config.detect_deadlock = false;
    renew_stacks();
    return 0;
}
static int tear_down(void **state)
{
    (void)state;
    weft__runtime_list_forget(); /* exit() walks it */
    weft_log_set(NULL, NULL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_is_spawned_meanwhile),
        cmocka_unit_test(a_job_is_submitted_meanwhile),
        cmocka_unit_test(a_waiting_task_is_woken_meanwhile),
        cmocka_unit_test(a_task_shuts_its_runtime_down),
        cmocka_unit_test(a_thread_blocks_on_it_meanwhile),
        cmocka_unit_test(a_thread_sleeps_in_it_meanwhile),
        cmocka_unit_test(the_process_exits_meanwhile),
        cmocka_unit_test(a_task_that_is_counted_too_late_is_found),
        cmocka_unit_test(a_job_that_ends_in_silence_is_found),
        cmocka_unit_test(a_shutdown_that_joins_no_thread_is_found),
    };
    return cmocka_run_group_tests_name("model shutdown", tests, set_up, tear_down);
}
