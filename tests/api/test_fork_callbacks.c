/* ctest: parallel not-under=address,thread,memcheck,aarch64 (a fork of a process with threads) */
/* Forked children of functions that weft calls and that are no bodies: in place, polls, hooks, what
 * copies and drops, functions of the log. A child that returns from one is ended. */
#include "fork_common.h"
#include "harness.h"
#include "program.h"

#include <weft/local.h>
#include <weft/notify.h>
#include <weft/task_local.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- children of what is no body ---- */

/* One place is forked in for each program, once: where tasks of the parent are queued behind it. */
static atomic_int fork_count, child_status;
static pid_t parent_pid;

static void fork_once(void)
{
    if (atomic_fetch_add(&fork_count, 1) != 0)
        return;
    pid_t pid = fork();
    if (pid == 0)
        (void)alarm(20); /* a hang is a failure */
    else
        atomic_store(&child_status, program_status(pid));
}

static void *stay_in_the_parent(void *arg)
{
    if (getpid() != parent_pid)
        _exit(40);
    return arg;
}

static void *call_fork_once(void *arg)
{
    fork_once();
    return arg;
}

static void drop_and_fork(void *arg)
{
    (void)arg;
    fork_once();
}

static void *end_with_value(void *arg)
{
    _exit(arg ? 41 : 42); /* it was called */
}

/* A call in place would start a thread for the tasks that are queued. */
static void *call_in_place_in_a_child(void *arg)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(20); /* a hang is a failure */
        _exit(weft_block_in_place(end_with_value, arg, NULL) == -EPERM ? EXIT_FAILURE : 43);
    }
    atomic_store(&child_status, program_status(pid));
    return arg;
}

static int poll_and_fork(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    fork_once();
    return 0;
}

static const weft_future_ops forking_ops = {
    .poll = poll_and_fork, .cancel = never_cancelled, .name = "forking"};

static int never_ready(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    return WEFT_PENDING;
}

static void cancel_and_fork(weft_future *f)
{
    (void)f;
    fork_once();
}

static const weft_future_ops forking_at_the_end_ops = {
    .poll = never_ready, .cancel = cancel_and_fork, .name = "forking at the end"};

static void queue_tasks(void)
{
    for (int i = 0; i < 8; i++)
        CHECK_EQ(weft_spawn(stay_in_the_parent, NULL, NULL), 0);
}

static void *fork_in_place(void *arg)
{
    queue_tasks();
    CHECK_EQ(weft_block_in_place(call_fork_once, arg, NULL), 0);
    return arg;
}

static void *fork_in_a_set(void *arg)
{
    weft_local_set *set;
    CHECK_EQ(weft_local_set_create(NULL, &set), 0);
    CHECK_EQ(weft_local_set_run_until(set, call_fork_once, arg, NULL), 0);
    CHECK_EQ(weft_local_set_destroy(set), 0);
    return arg;
}

static void *fork_in_a_set_in_place(void *arg)
{
    queue_tasks();
    CHECK_EQ(weft_block_in_place(fork_in_a_set, arg, NULL), 0);
    return arg;
}

static void *fork_in_a_poll(void *arg)
{
    weft_future f = {.ops = &forking_ops};
    weft_task *t;
    CHECK_EQ(weft_spawn_future(NULL, &f, &t), 0);
    queue_tasks();
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_VALUE);
    return arg;
}

static int pending_in_the_child(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    fork_once();
    return getpid() == parent_pid ? 0 : WEFT_PENDING;
}

static void *fork_in_a_poll_of_a_wait(void *arg)
{
    static const weft_future_ops ops = {
        .poll = pending_in_the_child, .cancel = never_cancelled, .name = "forking"};
    weft_future f = {.ops = &ops};
    CHECK_EQ(weft_await(&f), 0);
    if (getpid() != parent_pid)
        _exit(48);
    return arg;
}

static void *fork_in_a_poll_of_a_jobs_wait(void *arg)
{
    weft_task *t;
    CHECK_EQ(weft_spawn_blocking(fork_in_a_poll_of_a_wait, NULL, &t), 0);
    (void)test_join_value(t);
    return arg;
}

static void *fork_in_a_cancellation(void *arg)
{
    weft_future f = {.ops = &forking_at_the_end_ops};
    weft_task *t;
    while (atomic_load(&fork_count) == 0) { /* it may be aborted before it was polled */
        CHECK_EQ(weft_spawn_future(NULL, &f, &t), 0);
        CHECK_EQ(weft_sleep(WEFT_MS), 0);
        queue_tasks();
        CHECK_EQ(weft_abort(t), 0);
        CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    }
    return arg;
}

static void *copy_and_fork(void *value)
{
    fork_once();
    return value;
}

static void *fork_in_a_copy(void *arg)
{
    static const weft_task_local key = {.inherit = WEFT_INHERIT_COPY, .copy = copy_and_fork};
    weft_task *t = NULL;
    int rc = -1;
    WEFT_TASK_LOCAL(&key, arg)
        rc = weft_spawn(stay_in_the_parent, arg, &t);
    if (getpid() != parent_pid) {
        if (rc != -EPERM)
            _exit(44);
        return arg; /* and is told so */
    }
    CHECK_EQ(rc, 0);
    CHECK(test_join_value(t) == arg);
    return arg;
}

/* With a runtime of its own it has left the parent's. */
static void drop_fork_and_start(void *arg)
{
    weft_runtime *rt;
    drop_and_fork(arg);
    if (getpid() == parent_pid)
        return;
    if (weft_runtime_create(NULL, &rt) != 0 || weft_runtime_destroy(rt) != 0)
        _exit(44);
}

static void *fork_in_a_drop_with(void (*drop)(void *arg), void *arg)
{
    weft_spawn_options o = {.drop_arg = drop};
    while (atomic_load(&fork_count) == 0) { /* another worker may run it before it is aborted */
        weft_task *t;
        CHECK_EQ(weft_spawn_with(&o, give_back, arg, &t), 0);
        weft_abort(t);
        queue_tasks();
        (void)test_join_kind(t);
    }
    return arg;
}

static void *fork_in_a_drop(void *arg)
{
    return fork_in_a_drop_with(drop_and_fork, arg);
}

static void *fork_and_start_in_a_drop(void *arg)
{
    return fork_in_a_drop_with(drop_fork_and_start, arg);
}

static void *fork_in_a_drop_of_a_job(void *arg)
{
    weft_spawn_options o = {.drop_result = drop_and_fork};
    weft_task *t;
    CHECK_EQ(weft_spawn_blocking_with(&o, give_back, arg, NULL), 0);
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(weft_spawn_blocking(stay_in_the_parent, arg, &t), 0);
        (void)test_join_value(t);
    }
    return arg;
}

static void *spawn_local_tasks(void *arg)
{
    weft_spawn_options o = {.drop_arg = drop_and_fork};
    weft_task *t;
    CHECK_EQ(weft_spawn_local_with(&o, give_back, arg, &t), 0);
    weft_abort(t);
    for (int i = 0; i < 100; i++) /* for more than one round */
        CHECK_EQ(weft_spawn_local(stay_in_the_parent, arg, NULL), 0);
    CHECK_EQ(test_join_kind(t), WEFT_OUTCOME_CANCELLED);
    return arg;
}

static void *fork_in_a_drop_of_a_local_task(void *arg)
{
    weft_local_set *set;
    CHECK_EQ(weft_local_set_create(NULL, &set), 0);
    CHECK_EQ(weft_local_set_run_until(set, spawn_local_tasks, arg, NULL), 0);
    CHECK_EQ(weft_local_set_wait(set), 0);
    CHECK_EQ(weft_local_set_destroy(set), 0);
    return arg;
}

static void fork_in_a_hook(const weft_task_meta *task, void *arg)
{
    (void)arg;
    if (strcmp(task->name, "marked") == 0)
        fork_once();
}

static void *run_marked(void *arg)
{
    weft_spawn_options o = {.name = "marked"};
    weft_task *t;
    CHECK_EQ(weft_spawn_with(&o, stay_in_the_parent, arg, &t), 0);
    queue_tasks();
    CHECK(test_join_value(t) == arg);
    return arg;
}

static int fork_within(weft_task_fn fn, enum test_flavour first, enum test_flavour last,
                       bool is_hooked)
{
    parent_pid = getpid();
    for (int f = (int)first; f <= (int)last; f++) {
        weft_config c;
        weft_runtime *rt;
        test_config(&c, (enum test_flavour)f);
        c.blocking_threads_max = 1;
        if (is_hooked)
            c.on_task_run_begin = fork_in_a_hook;
        atomic_store(&fork_count, 0);
        atomic_store(&child_status, -1);
        if (weft_runtime_create(&c, &rt) != 0 || !run_in(rt, IN_A_TASK, fn, rt) ||
            weft_runtime_destroy(rt) != 0 || test_has_failed())
            return 30;
        if (atomic_load(&child_status) != EXIT_FAILURE)
            return atomic_load(&child_status) == 0 ? 31 : atomic_load(&child_status);
    }
    return 0;
}

static int child_of_a_call_in_place(void)
{
    return fork_within(fork_in_place, TEST_MT1, TEST_MT4, false);
}

static int child_that_calls_in_place(void)
{
    return fork_within(call_in_place_in_a_child, TEST_MT1, TEST_MT4, false);
}

static int child_of_a_poll(void)
{
    return fork_within(fork_in_a_poll, TEST_CT, TEST_MT4, false);
}

static int child_of_a_poll_of_a_wait(void)
{
    return fork_within(fork_in_a_poll_of_a_wait, TEST_CT, TEST_MT4, false);
}

static int child_of_a_poll_of_a_jobs_wait(void)
{
    return fork_within(fork_in_a_poll_of_a_jobs_wait, TEST_CT, TEST_MT4, false);
}

static int child_of_a_cancellation(void)
{
    return fork_within(fork_in_a_cancellation, TEST_CT, TEST_MT4, false);
}

static int child_of_a_copy(void)
{
    return fork_within(fork_in_a_copy, TEST_CT, TEST_MT4, false);
}

static int child_of_a_set_in_place(void)
{
    return fork_within(fork_in_a_set_in_place, TEST_MT1, TEST_MT4, false);
}

static int child_that_starts_a_runtime_in_a_drop(void)
{
    return fork_within(fork_and_start_in_a_drop, TEST_CT, TEST_MT4, false);
}

static int child_of_a_drop(void)
{
    return fork_within(fork_in_a_drop, TEST_CT, TEST_MT4, false);
}

static int child_of_a_drop_of_a_job(void)
{
    return fork_within(fork_in_a_drop_of_a_job, TEST_CT, TEST_MT4, false);
}

static int child_of_a_drop_of_a_local_task(void)
{
    return fork_within(fork_in_a_drop_of_a_local_task, TEST_CT, TEST_CT, false);
}

static int child_of_a_hook(void)
{
    return fork_within(run_marked, TEST_CT, TEST_MT4, true);
}

static void a_child_does_not_call_in_place(struct test_env *env)
{
    const char *said;
    (void)env;
    CHECK_EQ(program_run("child that calls in place", &said), 0);
    CHECK_EQ(count_of(said, "weft_block_in_place: this is a forked child"), 2);
}

static void a_child_of_what_is_no_body_runs_no_task_of_the_parent(struct test_env *env)
{
    static const struct {
        const char *name;
        unsigned runtimes;
    } places[] = {{"child of a call in place", 2},
                  {"child of a set in place", 2},
                  {"child that starts a runtime in a drop", 3},
                  {"child of a poll", 3},
                  {"child of a poll of a wait", 3},
                  {"child of a poll of a job's wait", 3},
                  {"child of a cancellation", 3},
                  {"child of a copy", 3},
                  {"child of a drop", 3},
                  {"child of a drop of a job", 3},
                  {"child of a drop of a local task", 1},
                  {"child of a hook", 3}};
    (void)env;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *said;
        int status = program_run(places[i].name, &said);
        if (status != 0)
            print_message("%s: %d\n%s\n", places[i].name, status, said);
        EXPECT_EQ(status, 0);
        expect_returned(said, places[i].runtimes);
    }
}

/* ---- children of the log ---- */

static atomic_bool over; /* what other threads do meanwhile */

static void fork_when_it_says(enum weft_log_level level, const char *line, void *what)
{
    (void)level;
    /* The child's own lines tell how it ends. */
    if (getpid() != parent_pid)
        (void)!write(STDERR_FILENO, line, strlen(line));
    else if (strstr(line, what))
        fork_once();
}

static int expect_child_of_log(void)
{
    int status;
    while ((status = atomic_load(&child_status)) == -1)
        usleep(1000);
    weft_log_set(NULL, NULL);
    return status == EXIT_FAILURE ? 0 : status ? status : 31;
}

static void *stick(void *arg)
{
    while (atomic_load(&child_status) == -1)
        usleep(1000); /* the fault that is reported */
    return arg;
}

/* By the monitor, of a task that sticks. */
static int child_of_a_report(void)
{
    weft_config c;
    weft_runtime *rt;
    parent_pid = getpid();
    atomic_store(&child_status, -1);
    weft_log_set(fork_when_it_says, "is stuck for");
    test_config(&c, TEST_MT1);
    c.stuck_after_ns = WEFT_MS;
    if (weft_runtime_create(&c, &rt) != 0 || !run_in(rt, IN_A_TASK, stick, NULL))
        return 30;
    int rc = expect_child_of_log();
    return rc ? rc : weft_runtime_destroy(rt);
}

static void *wait_for_nobody(void *arg)
{
    static weft_notify never;
    CHECK_EQ(weft_notify_wait(&never), -ECANCELED);
    return arg;
}

static void *block_for_ever(void *rt)
{
    return weft_block_on(rt, wait_for_nobody, NULL, NULL) == 0 ? rt : NULL;
}

/* By who drives, of a deadlock. */
static int child_of_a_report_of_a_deadlock(void)
{
    weft_runtime *rt = create(TEST_CT);
    pthread_t thread;
    parent_pid = getpid();
    atomic_store(&child_status, -1);
    weft_log_set(fork_when_it_says, "deadlock: ");
    if (pthread_create(&thread, NULL, block_for_ever, rt) != 0)
        return 30;
    int rc = expect_child_of_log();
    if (rc == 0)
        rc = weft_runtime_destroy(rt);
    if (rc == 0)
        pthread_join(thread, NULL);
    return rc;
}

static void a_child_that_returns_from_a_function_of_the_log_ends(struct test_env *env)
{
    static const char *const names[] = {"child of a report", "child of a report of a deadlock"};
    (void)env;
    for (size_t i = 0; i < 2; i++) {
        const char *said;
        int status = program_run(names[i], &said);
        if (status != 0)
            print_message("%s: %d\n%s\n", names[i], status, said);
        EXPECT_EQ(status, 0);
        expect_returned(said, 1);
    }
}

static void *replace_the_log(void *arg)
{
    while (!atomic_load(&over))
        weft_log_set(NULL, arg);
    return NULL;
}

static int fork_while_the_log_is_replaced(void)
{
    pthread_t busy;
    int rc = 0;
    if (pthread_create(&busy, NULL, replace_the_log, NULL) != 0)
        return 60;
    for (unsigned i = 0; rc == 0 && i < test_scaled(100); i++) {
        pid_t pid = fork();
        if (pid == 0) {
            (void)alarm(20); /* a hang is a failure */
            weft_log_set(NULL, NULL);
            weft_log_set(fork_when_it_says, "nothing");
            _exit(0);
        }
        rc = program_status(pid);
    }
    atomic_store(&over, true);
    pthread_join(busy, NULL);
    return rc > 255 ? 61 : rc;
}

static void a_child_replaces_the_log_forked_while_it_is_replaced(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("fork while the log is replaced", NULL), 0);
}

static const struct program programs[] = {
    {"child of a call in place", child_of_a_call_in_place},
    {"child that calls in place", child_that_calls_in_place},
    {"child of a set in place", child_of_a_set_in_place},
    {"child that starts a runtime in a drop", child_that_starts_a_runtime_in_a_drop},
    {"child of a poll", child_of_a_poll},
    {"child of a poll of a wait", child_of_a_poll_of_a_wait},
    {"child of a poll of a job's wait", child_of_a_poll_of_a_jobs_wait},
    {"child of a cancellation", child_of_a_cancellation},
    {"child of a copy", child_of_a_copy},
    {"child of a drop", child_of_a_drop},
    {"child of a drop of a job", child_of_a_drop_of_a_job},
    {"child of a drop of a local task", child_of_a_drop_of_a_local_task},
    {"child of a hook", child_of_a_hook},
    {"child of a report", child_of_a_report},
    {"child of a report of a deadlock", child_of_a_report_of_a_deadlock},
    {"fork while the log is replaced", fork_while_the_log_is_replaced},
};

static const struct CMUnitTest tests[] = {
    PLAIN(a_child_does_not_call_in_place),
    PLAIN(a_child_of_what_is_no_body_runs_no_task_of_the_parent),
    PLAIN(a_child_that_returns_from_a_function_of_the_log_ends),
    PLAIN(a_child_replaces_the_log_forked_while_it_is_replaced),
};

int main(int argc, char **argv)
{
    program_main(argc, argv, programs, sizeof programs / sizeof programs[0]);
    return test_main(tests, sizeof tests / sizeof tests[0], argc, argv);
}
