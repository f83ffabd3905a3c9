/* Priorities: how often a class has its turn, who inherits, and that nothing starves. */
#include "harness.h"
#include "sync.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NORMAL, URGENT, BACKGROUND, CLASSES };
static const enum weft_priority priority_of[CLASSES] = {WEFT_PRIORITY_NORMAL, WEFT_PRIORITY_URGENT,
                                                        WEFT_PRIORITY_BACKGROUND};

static weft_task *spawn_as(enum weft_priority priority, weft_task_fn fn, void *arg)
{
    weft_spawn_options options = {.priority = priority};
    weft_task *task;
    CHECK_EQ(weft_spawn_with(&options, fn, arg, &task), 0);
    return task;
}

/* ---- shares under overload ---- */

static atomic_bool stop;
static atomic_long turns[CLASSES];
static unsigned compute_us;

static void compute(void)
{
    for (uint64_t end = weft_now() + compute_us * WEFT_US; compute_us && weft_now() < end;)
        ;
}

static void *take_turns(void *arg)
{
    atomic_long *mine = arg;
    while (!atomic_load(&stop)) {
        compute();
        atomic_fetch_add_explicit(mine, 1, memory_order_relaxed);
        CHECK_EQ(weft_yield(), 0);
    }
    return NULL;
}

#define TURNS_LEAST 1600 /* fewer say little of shares of 12, 3 and 1 in 16 */

/* In per mille of all turns while `counts` tasks of each class are always ready. */
static void measure(const unsigned counts[CLASSES], unsigned ms, long share[CLASSES])
{
    weft_task *tasks[64];
    unsigned n = 0;
    long before[CLASSES], sum;
    atomic_store(&stop, false);
    for (int c = 0; c < CLASSES; c++) {
        atomic_store(&turns[c], 0);
        for (unsigned i = 0; i < counts[c]; i++)
            tasks[n++] = spawn_as(priority_of[c], take_turns, &turns[c]);
    }
    CHECK_EQ(weft_sleep(5 * WEFT_MS), 0);
    for (int c = 0; c < CLASSES; c++)
        before[c] = atomic_load(&turns[c]);
    do {
        CHECK_EQ(weft_sleep(ms * WEFT_MS), 0);
        sum = 0;
        for (int c = 0; c < CLASSES; c++) {
            share[c] = atomic_load(&turns[c]) - before[c];
            sum += share[c];
        }
    } while (sum < TURNS_LEAST);
    atomic_store(&stop, true);
    while (n > 0)
        (void)test_join_value(tasks[--n]);
    for (int c = 0; c < CLASSES; c++)
        share[c] = share[c] * 1000 / sum;
}

static bool are_as_meant(struct test_env *env, const char *what, const unsigned counts[CLASSES])
{
    long share[CLASSES];
    measure(counts, 100, share);
    print_message("%s, %u workers: urgent %ld, normal %ld, background %ld per mille\n", what,
                  test_workers(env), share[URGENT], share[NORMAL], share[BACKGROUND]);
    /* 750, 188 and 63 are meant; with workers that lose their CPU the sums are rough. */
    return share[URGENT] > 500 && share[URGENT] < 900 && share[NORMAL] > 70 &&
           share[NORMAL] < 400 && share[BACKGROUND] > 15 && share[BACKGROUND] < 200;
}

/* The best of some rounds: a worker may have lost its CPU for all of one, with what it held. */
static void expect_shares(struct test_env *env, const char *what, const unsigned counts[CLASSES],
                          unsigned us)
{
    bool are = false;
    compute_us = us;
    for (int round = 0; round < 5 && !are; round++)
        are = are_as_meant(env, what, counts);
    EXPECT(are);
}

static void each_class_keeps_its_share_of_yielding_tasks(struct test_env *env)
{
    expect_shares(env, "10 yielding tasks a class", (const unsigned[CLASSES]){10, 10, 10}, 0);
}

static void each_class_keeps_its_share_of_computing_tasks(struct test_env *env)
{
    expect_shares(env, "10 computing tasks a class", (const unsigned[CLASSES]){10, 10, 10}, 50);
}

/* In per mille; the best of some rounds, as one in which an extra worker helped says nothing. */
static bool has_share(int class, long least, long most, const unsigned counts[CLASSES])
{
    long share[CLASSES] = {0};
    bool has = false;
    for (int round = 0; round < 5 && !has; round++) {
        measure(counts, 50, share);
        has = share[class] > least && share[class] < most;
    }
    return has;
}

/* A class counts, not how many tasks it has: also the one task that is never in a queue when the
 * next one is chosen. */
static void one_task_of_a_class_has_its_share(struct test_env *env)
{
    if (test_workers(env) > 1)
        return; /* each of four workers runs one */
    compute_us = 0;
    EXPECT(has_share(URGENT, 600, 1000, (const unsigned[CLASSES]){10, 1, 0})); /* 13 of 16 */
    EXPECT(has_share(NORMAL, 70, 400, (const unsigned[CLASSES]){1, 10, 10}));
    EXPECT(has_share(BACKGROUND, 15, 200, (const unsigned[CLASSES]){10, 0, 1}));
}

/* What waits in the background gets its turn however many urgent tasks there are, and timers and
 * the global queue are served too. */
static void *nap(void *arg)
{
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    return arg;
}

static void nothing_starves_beside_urgent_tasks(struct test_env *env)
{
    weft_task *busy[20];
    compute_us = 0;
    atomic_store(&stop, false);
    for (int i = 0; i < 20; i++)
        busy[i] = spawn_as(WEFT_PRIORITY_URGENT, take_turns, &turns[URGENT]);
    for (int i = 0; i < 20; i++) {
        uint64_t start = weft_now();
        weft_task *quiet = spawn_as(priority_of[i % CLASSES], nap, env);
        CHECK(test_join_value(quiet) == env);
        EXPECT(test_elapsed_ms(start) < 20000); /* who starves waits for ever */
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 20; i++)
        (void)test_join_value(busy[i]);
}

/* ---- latency ---- */

static atomic_long turn_count; /* of the tasks that crowd the runtime */

static void *crowd(void *arg)
{
    while (!atomic_load(&stop)) {
        atomic_fetch_add(&turn_count, 1);
        CHECK_EQ(weft_yield(), 0);
    }
    return arg;
}

struct late {
    struct sema sema;
    atomic_long woken_at, worst;
};
#define WAKES 10

static void *be_woken(void *arg)
{
    struct late *l = arg;
    for (int i = 0; i < WAKES; i++) {
        CHECK_EQ(sema_acquire(&l->sema), 0);
        long waited = atomic_load(&turn_count) - atomic_load(&l->woken_at);
        if (waited > atomic_load(&l->worst))
            atomic_store(&l->worst, waited);
        atomic_store(&l->woken_at, -1);
    }
    return NULL;
}

static long worst_wait(enum weft_priority priority)
{
    struct late l = {.woken_at = 0};
    sema_init(&l.sema, 0);
    weft_task *task = spawn_as(priority, be_woken, &l);
    for (int i = 0; i < WAKES; i++) {
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
        atomic_store(&l.woken_at, atomic_load(&turn_count));
        sema_release(&l.sema);
        CHECK_SOON(atomic_load(&l.woken_at) == -1);
    }
    (void)test_join_value(task);
    sema_fini(&l.sema);
    return atomic_load(&l.worst);
}

static void urgent_tasks_pass_a_crowd(struct test_env *env)
{
    weft_task *busy[200];
    if (test_workers(env) > 1)
        return; /* turns of four workers say nothing of one task's wait */
    atomic_store(&stop, false);
    for (int i = 0; i < 200; i++)
        busy[i] = SPAWN(crowd, NULL);
    CHECK_EQ(weft_yield(), 0);
    long worst = worst_wait(WEFT_PRIORITY_URGENT);
    /* The best of some rounds, as above: an extra worker goes on while the other is held up. */
    for (int round = 0; round < 5 && worst >= 100; round++)
        worst = worst_wait(WEFT_PRIORITY_URGENT);
    EXPECT(worst < 100);
    atomic_store(&stop, true);
    for (int i = 0; i < 200; i++)
        (void)test_join_value(busy[i]);
}

/* ---- inheriting ---- */

static void *report(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)weft_self_priority();
}

static enum weft_priority seen_by(weft_task *task)
{
    return (enum weft_priority)(intptr_t)test_join_value(task);
}

static enum weft_priority of_child(void)
{
    return seen_by(SPAWN(report, NULL));
}

static void *check_children(void *arg)
{
    enum weft_priority mine = weft_self_priority();
    CHECK_EQ(of_child(), mine);
    for (int c = 0; c < CLASSES; c++) {
        weft_task *asked = spawn_as(priority_of[c], report, NULL);
        CHECK_EQ(weft_task_priority(asked), priority_of[c]);
        CHECK_EQ(seen_by(asked), priority_of[c]);
        CHECK_EQ(weft_self_set_priority(priority_of[c]), 0);
        CHECK_EQ(weft_self_priority(), priority_of[c]);
        CHECK_EQ(of_child(), priority_of[c]);
        CHECK_EQ(weft_yield(), 0);
    }
    return arg;
}

static void children_inherit_unless_told_otherwise(struct test_env *env)
{
    EXPECT_EQ(weft_self_priority(), WEFT_PRIORITY_NORMAL);
    EXPECT_EQ(of_child(), WEFT_PRIORITY_NORMAL);
    for (int c = 0; c < CLASSES; c++)
        CHECK(test_join_value(spawn_as(priority_of[c], check_children, env)) == env);
}

static void *spawn_in_job(void *arg)
{
    CHECK_EQ(weft_self_priority(), WEFT_PRIORITY_URGENT);
    CHECK_EQ(of_child(), WEFT_PRIORITY_URGENT);
    return arg;
}

static void *spawn_job(void *arg)
{
    weft_task *job;
    CHECK_EQ(weft_spawn_blocking(spawn_in_job, arg, &job), 0);
    return test_join_value(job);
}

static void blocking_jobs_pass_the_priority_on(struct test_env *env)
{
    CHECK(test_join_value(spawn_as(WEFT_PRIORITY_URGENT, spawn_job, env)) == env);
}

static void *spawn_in_place(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)of_child();
}

static void *block_in_place(void *arg)
{
    void *value = NULL;
    (void)arg;
    CHECK_EQ(weft_block_in_place(spawn_in_place, NULL, &value), 0);
    return value;
}

static void children_of_a_block_in_place_inherit(struct test_env *env)
{
    (void)env;
    CHECK_EQ(seen_by(spawn_as(WEFT_PRIORITY_BACKGROUND, block_in_place, NULL)),
             WEFT_PRIORITY_BACKGROUND);
}

static int poll_once(weft_future *f, weft_waker *waker)
{
    static atomic_int polls;
    (void)f;
    EXPECT_EQ(weft_self_priority(), WEFT_PRIORITY_BACKGROUND);
    if (atomic_fetch_add(&polls, 1) % 2 == 1)
        return 0;
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

static void polled_tasks_have_a_priority_as_well(struct test_env *env)
{
    static const weft_future_ops ops = {poll_once, cancel_nothing, "poll once"};
    weft_spawn_options options = {.priority = WEFT_PRIORITY_BACKGROUND};
    weft_future future = {&ops};
    weft_metrics before, after;
    weft_task *task;
    CHECK_EQ(weft_metrics_get(env->handle, &before), 0);
    CHECK_EQ(weft_spawn_future(&options, &future, &task), 0);
    CHECK_EQ(test_join_kind(task), WEFT_OUTCOME_VALUE);
    CHECK_EQ(weft_metrics_get(env->handle, &after), 0);
    EXPECT_EQ(after.background_polls - before.background_polls, 2);
    EXPECT_EQ(after.urgent_polls, before.urgent_polls);
}

/* ---- from outside ---- */

static void *change_it(void *arg)
{
    CHECK_EQ(weft_task_set_priority(arg, WEFT_PRIORITY_URGENT), 0);
    return NULL;
}

static void *wait_and_report(void *arg)
{
    CHECK_EQ(gate_wait(arg), 0);
    CHECK_EQ(weft_yield(), 0);
    return report(NULL);
}

static void a_thread_changes_a_task_that_waits(struct test_env *env)
{
    struct gate gate;
    pthread_t thread;
    char path[] = "/tmp/weft-dump-XXXXXX", text[4096];
    gate_init(&gate);
    weft_task *task = spawn_as(WEFT_PRIORITY_BACKGROUND, wait_and_report, &gate);
    CHECK_EQ(weft_task_priority(task), WEFT_PRIORITY_BACKGROUND);
    CHECK_EQ(pthread_create(&thread, NULL, change_it, task), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(weft_task_priority(task), WEFT_PRIORITY_URGENT);

    int fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK(weft_dump(env->handle, fd) > 0);
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    CHECK(n > 0);
    text[n] = '\0';
    EXPECT(strstr(text, "(fiber, urgent)") != NULL);
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(unlink(path), 0);

    gate_open(&gate);
    CHECK_EQ(seen_by(task), WEFT_PRIORITY_URGENT);
    gate_fini(&gate);
}

static void *spawn_outside(void *arg)
{
    for (int i = 0; i < 90; i++) {
        weft_spawn_options options = {.priority = priority_of[i % CLASSES], .runtime = arg};
        weft_task *task;
        CHECK_EQ(weft_spawn_with(&options, report, NULL, &task), 0);
        CHECK_EQ(weft_task_priority(task), priority_of[i % CLASSES]);
        weft_task_detach(task);
    }
    return NULL;
}

static void threads_spawn_on_a_runtime_that_sleeps(struct test_env *env)
{
    pthread_t thread;
    weft_metrics m;
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(pthread_create(&thread, NULL, spawn_outside, env->handle), 0);
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    CHECK_SOON(weft_metrics_get(env->handle, &m) == 0 && m.alive_tasks <= 1 &&
               m.urgent_queue_depth == 0 && m.background_queue_depth == 0);
}

/* ---- shutdown and misuse ---- */

static atomic_int dropped;

static void count_drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&dropped, 1);
}

static void shutdown_reaches_every_class(struct test_env *env)
{
    weft_task *tasks[30];
    atomic_store(&dropped, 0);
    atomic_store(&stop, false);
    for (int i = 0; i < 30; i++) {
        weft_spawn_options options = {.priority = priority_of[i % CLASSES],
                                      .runtime = env->handle,
                                      .drop_result = count_drop};
        CHECK_EQ(weft_spawn_with(&options, test_forever, env, &tasks[i]), 0);
    }
    test_shutdown(env);
    for (int i = 0; i < 30; i++)
        CHECK_EQ(test_join_kind_polling(tasks[i]), WEFT_OUTCOME_CANCELLED);
}

static void unknown_priorities_are_misuse(struct test_env *env)
{
    weft_spawn_options options = {.priority = (enum weft_priority)4, .runtime = env->handle};
    weft_task *task;
    EXPECT_EQ(weft_spawn_with(&options, test_noop, NULL, &task), -EINVAL);
    EXPECT_LOGGED("weft_spawn");
    EXPECT_EQ(weft_self_set_priority(WEFT_PRIORITY_NORMAL), -EPERM);
    EXPECT_LOGGED("weft_self_set_priority");
    EXPECT_EQ(weft_self_set_priority(WEFT_PRIORITY_INHERIT), -EINVAL);
    EXPECT_LOGGED("weft_self_set_priority");
    EXPECT_EQ(weft_task_set_priority(NULL, WEFT_PRIORITY_URGENT), -EINVAL);
    EXPECT_LOGGED("weft_task_set_priority");
    EXPECT_EQ(weft_self_priority(), WEFT_PRIORITY_NORMAL);
    EXPECT_EQ(weft_task_priority(NULL), WEFT_PRIORITY_NORMAL);
    task = SPAWN_ON(env->handle, test_noop, NULL);
    EXPECT_EQ(weft_task_set_priority(task, WEFT_PRIORITY_INHERIT), -EINVAL);
    EXPECT_LOGGED("weft_task_set_priority");
    EXPECT_EQ(weft_task_set_priority(task, WEFT_PRIORITY_BACKGROUND), 0);
    EXPECT_EQ(weft_task_priority(task), WEFT_PRIORITY_BACKGROUND);
    weft_task_detach(task);
}

TEST_MAIN(IN_TASK(each_class_keeps_its_share_of_yielding_tasks),
          IN_TASK(each_class_keeps_its_share_of_computing_tasks),
          IN_TASK(one_task_of_a_class_has_its_share), IN_TASK(nothing_starves_beside_urgent_tasks),
          IN_TASK(urgent_tasks_pass_a_crowd), IN_BODY(children_inherit_unless_told_otherwise),
          IN_TASK(blocking_jobs_pass_the_priority_on),
          IN_TASK_ON(children_of_a_block_in_place_inherit, TEST_MT4),
          IN_TASK(polled_tasks_have_a_priority_as_well),
          IN_TASK(a_thread_changes_a_task_that_waits),
          IN_BODY(threads_spawn_on_a_runtime_that_sleeps), ON_MAIN(shutdown_reaches_every_class),
          ON_MAIN(unknown_priorities_are_misuse))
