/* ctest: not-under=memcheck,aarch64 (one thread on stacks of its own: the same schedules
 * anywhere) */
/*
 * The blocking pool under every schedule: jobs against threads that come, idle, time out and end,
 * and against close. Each job runs once or is cancelled once, and no thread is left.
 */
#include "model.h"

#include "blocking/pool.h"
#include "task/slab.h"
#include "task/spawn.h"
#include "task/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define JOBS 3 /* at most */

static struct weft__core core;
static struct weft__slab slab;
static struct weft__task slots[JOBS];
static struct weft__pool pool;
static weft__a32 outside;
static int ran[JOBS], cancelled[JOBS];
static unsigned ended;
static weft__a32 is_submitted;
static unsigned first_to_meet; /* this job and those after it wait until all of them run */

static bool admit(struct weft__core *c)
{
    (void)c;
    return true;
}
static void ended_outside(struct weft__core *c)
{
    (void)c;
    ended++;
}
/* Jobs are made before the run: spawning draws ids from blocks, which would make runs differ. */
static struct weft__task *jobs[JOBS];
static unsigned job_count;
static int submit_blocking(struct weft__core *c, struct weft__task *t)
{
    (void)c;
    jobs[job_count++] = t;
    return 0;
}
static const struct weft__core_ops ops = {
    .admit = admit, .ended_outside = ended_outside, .submit_blocking = submit_blocking};

static bool have_met(void *arg)
{
    (void)arg;
    for (unsigned i = first_to_meet; i < job_count; i++)
        if (!ran[i])
            return false;
    return true;
}
static void *job(void *arg)
{
    unsigned i = (unsigned)(uintptr_t)arg;
    MODEL_CHECK(ran[i] == 0);
    ran[i] = 1;
    if (i >= first_to_meet)
        model_wait(have_met, NULL, "the others to run");
    return NULL;
}
static void drop_arg(void *arg)
{
    int i = (int)(intptr_t)arg;
    MODEL_CHECK(cancelled[i] == 0);
    cancelled[i] = 1;
}
static void init_with(unsigned n, unsigned threads_max, bool may_linger)
{
    static const weft_site site = {"model", "model", 1};
    static const weft_spawn_options o = {.drop_arg = drop_arg};
    memset(&core, 0, sizeof core);
    memset(&slab, 0, sizeof slab);
    memset(slots, 0, sizeof slots);
    memset(ran, 0, sizeof ran);
    memset(cancelled, 0, sizeof cancelled);
    ended = 0;
    first_to_meet = n;
    weft__a32_store_relaxed(&outside, 0);
    weft__a32_store_relaxed(&is_submitted, 0);
    core.ops = &ops;
    core.slab = &slab;
    weft__a64_store_relaxed(&core.refs, 1);
    slab.core = &core;
    slab.fresh = slots;
    slab.fresh_end = slots + n;
    slab.free_count = slab.slot_count = n;
    weft__aptr_store_relaxed(&slab.chunk[0].first, slots);
    weft__a32_store_relaxed(&slab.chunk_count, 1);
    weft__pool_init(&pool, &core, threads_max, WEFT_MS, may_linger, &outside);
    model_name(&pool, sizeof pool, "pool");
    model_name(slots, sizeof slots, "jobs");
    job_count = 0;
    for (unsigned i = 0; i < n; i++)
        MODEL_CHECK(weft__task_spawn(&core, WEFT__TASK_BLOCKING, &o, job, (void *)(uintptr_t)i,
                                     NULL, &site) == 0);
}
static void init(unsigned threads_max)
{
    init_with(2, threads_max, false);
}
static void init_one_thread(void)
{
    init(1);
}
static void init_two_threads(void)
{
    init(2);
}
static void init_jobs_meet(void)
{
    init(2);
    first_to_meet = 0;
}
static void init_last_two_meet(void)
{
    init_with(3, 2, false);
    first_to_meet = 1;
}
static void init_three_jobs(void)
{
    init_with(3, 2, false);
}

static void init_one_lingers(void)
{
    init_with(2, 1, true);
}
static void init_two_linger(void)
{
    init_with(2, 2, true);
}

static void submit(unsigned i)
{
    MODEL_CHECK(weft__pool_submit(&pool, jobs[i]) == 0);
    (void)weft__a32_add_seq_cst(&is_submitted, 1);
}
static bool all_submitted(void *arg)
{
    (void)arg;
    return atomic_load_explicit(&is_submitted.v, memory_order_relaxed) == job_count;
}

static void submit_0(void)
{
    submit(0);
}
static void submit_1(void)
{
    submit(1);
}
static void submit_all(void)
{
    for (unsigned i = 0; i < job_count; i++)
        submit(i);
}
static void close_and_join(void)
{
    weft__pool_close(&pool);
    weft__pool_join(&pool);
}
static bool all_ended(void *arg)
{
    (void)arg;
    return ended == job_count;
}
/* Closes when all have run: a job that no thread takes is a deadlock. */
static void close_after_all(void)
{
    model_wait(all_submitted, NULL, "all to be submitted");
    model_wait(all_ended, NULL, "all to end");
    close_and_join();
}

static void each_came_to_an_end(void)
{
    for (unsigned i = 0; i < job_count; i++)
        MODEL_CHECK(ran[i] + cancelled[i] == 1);
    MODEL_CHECK(ended == job_count);
    MODEL_CHECK(pool.thread_count == 0 && pool.idle_count == 0 && pool.queued == 0);
    MODEL_CHECK(pool.coming == 0 && pool.stands_by == NULL);
    MODEL_CHECK(pool.ended == NULL); /* and no block is left: each thread was joined */
    MODEL_CHECK(weft__a32_load_relaxed(&outside) == 0);
    MODEL_CHECK(slab.free_count == job_count);
    MODEL_CHECK(weft__a64_load_relaxed(&core.refs) == 1);
}
static void all_ran(void)
{
    each_came_to_an_end();
    for (unsigned i = 0; i < job_count; i++)
        MODEL_CHECK(ran[i]);
}

static void a_thread_that_times_out_leaves_no_job_behind(void **state)
{
    (void)state;
    static const struct model m = {.name = "pool: one thread, two jobs, keep-alive runs out",
                                   .init = init_one_thread,
                                   .thread = {submit_all, close_after_all},
                                   .check = all_ran,
                                   .time_races = true};
    model_passes(&m);
}

/* It is taken while it looks at its word, or when it has just gone to sleep, or has timed out. */
static void a_thread_that_lingers_leaves_no_job_behind(void **state)
{
    (void)state;
    static const struct model m = {.name = "pool: one thread that lingers, two jobs",
                                   .init = init_one_lingers,
                                   .thread = {submit_all, close_after_all},
                                   .check = all_ran,
                                   .time_races = true};
    model_passes(&m);
    static const struct model two = {.name = "pool: two threads, one of which lingers",
                                     .init = init_two_linger,
                                     .bound_less = 1,
                                     .thread = {submit_0, submit_1, close_after_all},
                                     .check = all_ran,
                                     .time_races = true};
    model_passes(&two);
}

static void two_submitters_and_two_threads(void **state)
{
    (void)state;
    static const struct model m = {.name = "pool: two threads, two submitters",
                                   .init = init_two_threads,
                                   .bound_less = 1,
                                   .thread = {submit_0, submit_1, close_after_all},
                                   .check = all_ran,
                                   .time_races = true};
    model_passes(&m);
}

/* The second thread stands by, as the first job has ended before it comes; and the first thread
 * gets no further. */
static void who_stands_by_takes_over(void **state)
{
    (void)state;
    static const struct model m = {.name = "pool: a thread stands by, two jobs wait for each other",
                                   .init = init_last_two_meet,
                                   .bound_less = 1,
                                   .thread = {submit_all, close_after_all},
                                   .check = all_ran,
                                   .time_races = true};
    model_passes(&m);
}

static void who_stands_by_hears_of_a_close(void **state)
{
    (void)state;
    static const struct model m = {.name = "pool: a thread stands by, and close",
                                   .init = init_three_jobs,
                                   .bound_less = 1,
                                   .thread = {submit_all, close_and_join},
                                   .check = each_came_to_an_end,
                                   .time_races = true};
    model_passes(&m);
}

static void a_close_runs_or_cancels_each_job(void **state)
{
    (void)state;
    static const struct model m = {.name = "pool: close against submit",
                                   .init = init_two_threads,
                                   .thread = {submit_0, submit_1, close_and_join},
                                   .check = each_came_to_an_end};
    model_passes(&m);
}

/* One submitter sends for one thread at a time: the other one comes by itself, or by the first. */
static void jobs_that_wait_for_each_other_both_run(void **state)
{
    (void)state;
    static const struct model m = {.name = "pool: two jobs that wait for each other",
                                   .init = init_jobs_meet,
                                   .thread = {submit_all, close_after_all},
                                   .check = all_ran};
    model_passes(&m);
}

/* Seeded: idle threads in a counter beside the queue. One that has timed out is still counted, so
 * the submitter starts none, and its job waits for one that is not coming. */
static weft__a32 jobs_queued, idle_threads, wake_word, jobs_done;
static void counter_init(void)
{
    weft__a32_store_relaxed(&jobs_queued, 0);
    weft__a32_store_relaxed(&idle_threads, 1);
    weft__a32_store_relaxed(&wake_word, 0);
    weft__a32_store_relaxed(&jobs_done, 0);
}
static void counted_thread(void)
{
    (void)weft__sys_futex_wait(&wake_word, 0, weft__sys_now_ns() + WEFT_MS);
    (void)weft__a32_sub_seq_cst(&idle_threads, 1); /* too late: after it has stopped waiting */
    if (weft__a32_swap_seq_cst(&jobs_queued, 0) != 0)
        (void)weft__a32_add_seq_cst(&jobs_done, 1);
}
static void counted_submit(void)
{
    if (weft__a32_load_seq_cst(&idle_threads) == 0) {
        (void)weft__a32_add_seq_cst(&jobs_done, 1); /* a thread of its own */
        return;
    }
    (void)weft__a32_add_seq_cst(&jobs_queued, 1);
    weft__a32_store_seq_cst(&wake_word, 1);
    weft__sys_futex_wake(&wake_word, 1);
}
static void counted_done(void)
{
    MODEL_CHECK(weft__a32_load_relaxed(&jobs_done) == 1);
}

static void a_counter_beside_the_queue_is_found(void **state)
{
    (void)state;
    static const struct model m = {.name = "pool: idle threads counted beside the queue",
                                   .init = counter_init,
                                   .thread = {counted_thread, counted_submit},
                                   .check = counted_done,
                                   .time_races = true};
    model_fails(&m, MODEL_CHECK_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_that_times_out_leaves_no_job_behind),
        cmocka_unit_test(a_thread_that_lingers_leaves_no_job_behind),
        cmocka_unit_test(two_submitters_and_two_threads),
        cmocka_unit_test(jobs_that_wait_for_each_other_both_run),
        cmocka_unit_test(who_stands_by_takes_over),
        cmocka_unit_test(who_stands_by_hears_of_a_close),
        cmocka_unit_test(a_close_runs_or_cancels_each_job),
        cmocka_unit_test(a_counter_beside_the_queue_is_found),
    };
    return cmocka_run_group_tests_name("model pool", tests, NULL, NULL);
}
