/* ctest: parallel not-under=address,thread,memcheck,aarch64 (a fork of a process with threads) */
/* Forked children: what they are refused, how they end, and that a runtime of their own works.
 * Forks in functions that are no bodies are in test_fork_callbacks.c, descriptors in
 * test_fork_io.c. */
#include "fork_common.h"
#include "harness.h"
#include "program.h"

#include <weft/cancel.h>
#include <weft/iter.h>
#include <weft/local.h>
#include <weft/scope.h>
#include <weft/select.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_bool over; /* what other threads do meanwhile */

/* ---- children of a thread ---- */

static int child_of_a_thread(void)
{
    weft_runtime *rt = create(TEST_MT4);
    weft_handle *h = weft_runtime_handle(rt);
    weft_local_set *set;
    if (weft_local_set_create(NULL, &set) != 0)
        return 22;
    pid_t pid = fork();
    if (pid == 0) {
        weft_metrics m;
        weft_spawn_options o = {.runtime = h};
        weft_task *t;
        if (weft_metrics_get(h, &m) != -EPERM || weft_dump(h, STDERR_FILENO) != -EPERM ||
            weft_local_set_dump(set, STDERR_FILENO) != -EPERM ||
            weft_spawn_with(&o, give_back, NULL, &t) != -EPERM)
            _exit(20);
        int rc = use_new_runtimes();
        /* With one of its own it is still told from it. */
        _exit(rc ? rc : weft_metrics_get(h, &m) == -EPERM ? 0 : 21);
    }
    int rc = program_status(pid);
    weft_handle_unref(h);
    return rc ? rc : weft_local_set_destroy(set) ? 23 : weft_runtime_destroy(rt);
}

static void a_child_is_refused_the_parents_runtime_and_starts_its_own(struct test_env *env)
{
    (void)env;
    const char *said;
    CHECK_EQ(program_run("child of a thread", &said), 0);
    CHECK(strstr(said, "weft_metrics_get: this is a forked child"));
}

static void *sleep_in_set(void *arg)
{
    return weft_sleep(WEFT_MS) == 0 ? arg : NULL;
}

/* It has waited as a thread of the parent's runtime before, or would as the first thing. */
static int child_of_an_entered_thread(void)
{
    weft_runtime *rt = create(TEST_MT4);
    weft_handle *h = weft_runtime_handle(rt);
    weft_enter_guard g;
    if (weft_enter(h, &g) != 0)
        return 40;
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            weft_local_set *set;
            weft_outcome o;
            if (weft_sleep(WEFT_MS) != -EPERM || weft_yield() != -EPERM ||
                weft_consume_budget() != -EPERM)
                _exit(41);
            if (weft_local_set_create(NULL, &set) != 0 ||
                weft_local_set_run_until(set, sleep_in_set, &o, &o) != 0 || o.value != &o ||
                weft_local_set_destroy(set) != 0)
                _exit(42);
            _exit(weft_leave(&g) == 0 ? use_new_runtimes() : 43);
        }
        int rc = program_status(pid);
        if (rc != 0)
            return rc;
        if (weft_sleep(WEFT_MS) != 0)
            return 44;
    }
    weft_leave(&g);
    weft_handle_unref(h);
    return weft_runtime_destroy(rt);
}

static void a_child_of_an_entered_thread_does_not_wait_there(struct test_env *env)
{
    (void)env;
    const char *said;
    CHECK_EQ(program_run("child of an entered thread", &said), 0);
    CHECK(strstr(said, "weft_sleep: this is a forked child"));
}

/* What it dumps are its own runtimes. */
static int dump_in_a_child(void)
{
    char said[4096] = "";
    size_t len = 0;
    ssize_t n;
    int ends[2];
    weft_config c;
    weft_runtime *rt;
    test_config(&c, TEST_CT);
    c.name = "the child's";
    (void)alarm(20); /* a hang is a failure */
    if (pipe2(ends, O_CLOEXEC) < 0 || weft_dump_on_signal(SIGUSR2, ends[1]) != 0 ||
        weft_runtime_create(&c, &rt) != 0 || raise(SIGUSR2) != 0)
        return 23;
    while (strstr(said, "the child's") == NULL &&
           (n = read(ends[0], said + len, sizeof said - 1 - len)) > 0)
        len += (size_t)n;
    if (strstr(said, "the child's") == NULL || strstr(said, "the parent's") != NULL)
        return 27;
    return weft_runtime_destroy(rt) ? 28 : 0;
}

static int dumps_on_signals(void)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, TEST_MT1);
    c.name = "the parent's";
    if (weft_runtime_create(&c, &rt) != 0 || weft_dump_on_signal(SIGUSR1, STDERR_FILENO) != 0 ||
        weft_dump_on_signal(SIGUSR2, STDERR_FILENO) != -EBUSY)
        return 22;
    pid_t pid = fork();
    if (pid == 0) { /* what is on is the parent's */
        int rc = dump_in_a_child();
        _exit(rc                                                 ? rc
              : weft_dump_on_signal(SIGUSR1, STDERR_FILENO) == 0 ? 24
              : weft_dump_on_signal(SIGUSR2, -1) != 0            ? 25
                                                                 : 0);
    }
    int rc = program_status(pid);
    if (weft_dump_on_signal(SIGUSR1, -1) != 0)
        return 26;
    return rc ? rc : weft_runtime_destroy(rt);
}

static void a_child_asks_for_its_own_dumps(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("dumps on signals", NULL), 0);
}

/* ---- children of a task ---- */

static void *fork_and_start_anew(void *arg)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(use_new_runtimes());
    *(int *)arg = program_status(pid);
    return arg;
}

static void *fork_and_return(void *arg)
{
    pid_t pid = fork();
    if (pid != 0)
        *(int *)arg = program_status(pid);
    return arg;
}

static void *fork_and_return_out_of_a_scope(void *arg)
{
    WEFT_SCOPE(s) {
        if (weft_scope_spawn(s, test_forever, NULL) != 0)
            return arg;
        pid_t pid = fork();
        if (pid == 0) {
            (void)alarm(20); /* a hang is a failure */
            if (weft_scope_wait(s) != -EPERM || weft_scope_spawn(s, test_forever, NULL) != -EPERM)
                _exit(45);
            return arg;
        }
        *(int *)arg = program_status(pid);
        weft_scope_cancel(s);
    }
    return arg;
}

static void *fork_and_panic_out_of_a_scope(void *arg)
{
    WEFT_SCOPE(s) {
        if (weft_scope_spawn(s, test_forever, NULL) != 0)
            return arg;
        pid_t pid = fork();
        if (pid == 0) {
            (void)alarm(20);
            weft_panic("in the child");
        }
        *(int *)arg = program_status(pid);
        weft_scope_cancel(s);
    }
    return arg;
}

/* In a task that it has left by then. */
static void *fork_and_start_in_a_scope(void *arg)
{
    pid_t pid = -1;
    int left = 0;
    WEFT_SCOPE_INTO(s, &left) {
        if (weft_scope_spawn(s, test_forever, NULL) != 0)
            return arg;
        pid = fork();
        if (pid == 0) {
            (void)alarm(20);
            if (use_new_runtimes() != 0)
                _exit(46);
        } else {
            *(int *)arg = program_status(pid);
            weft_scope_cancel(s);
        }
    }
    if (pid == 0)
        _exit(left == -EPERM && weft_cleanup_mark() == NULL ? 0 : 47);
    return arg;
}

static void *fork_and_panic(void *arg)
{
    pid_t pid = fork();
    if (pid == 0)
        weft_panic("in the child");
    *(int *)arg = program_status(pid);
    return arg;
}

static int child_of_a_task(void)
{
    return expect_everywhere(fork_and_start_anew, 0);
}

static void a_child_of_a_task_starts_a_runtime_of_its_own(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("child of a task", NULL), 0);
}

static int child_that_returns(void)
{
    return expect_everywhere(fork_and_return, EXIT_FAILURE);
}

static int child_that_returns_out_of_a_scope(void)
{
    weft_log_set(NULL, NULL);
    int rc = expect_everywhere(fork_and_return_out_of_a_scope, EXIT_FAILURE);
    return rc ? rc : expect_everywhere(fork_and_panic_out_of_a_scope, EXIT_FAILURE);
}

static int child_that_starts_a_runtime_in_a_scope(void)
{
    return expect_everywhere(fork_and_start_in_a_scope, 0);
}

static int child_that_panics(void)
{
    weft_runtime *rt = create(TEST_MT4);
    int got = -1;
    if (!run_in(rt, IN_A_TASK, fork_and_panic, &got))
        return 30;
    return weft_runtime_destroy(rt) ? 32 : got == EXIT_FAILURE ? 0 : 31;
}

static void a_child_leaves_scopes_to_the_parent(struct test_env *env)
{
    (void)env;
    const char *said;
    CHECK_EQ(program_run("child that returns out of a scope", &said), 0);
    CHECK_EQ(count_of(said, "a forked child has returned from"), 18);
    CHECK_EQ(program_run("child that starts a runtime in a scope", NULL), 0);
}

static void a_child_that_returns_from_a_task_ends_with_an_error(struct test_env *env)
{
    (void)env;
    const char *said;
    CHECK_EQ(program_run("child that returns", &said), 0);
    CHECK_EQ(count_of(said, "a forked child has returned from"), 9);
    CHECK_EQ(count_of(said, "\"forker\" of its parent"), 6);
    CHECK_EQ(program_run("child that panics", &said), 0);
    CHECK_EQ(count_of(said, "panic in a forked child"), 1);
}

/* ---- outside of runtimes ---- */

static int ready_at_once(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    return 0;
}

static const weft_future_ops ready_ops = {
    .poll = ready_at_once, .cancel = never_cancelled, .name = "ready"};

static void *wait_on_threads(void *arg)
{
    weft_future f = {.ops = &ready_ops};
    while (!atomic_load(&over)) {
        weft_case c = weft_case_future(&f);
        if (weft_blocking_select(&c, 1) != 0)
            abort();
    }
    return arg;
}

static long resident_kib(void)
{
    long pages = -1, kib = sysconf(_SC_PAGESIZE) / 1024;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL)
        return -1;
    if (fscanf(f, "%*d %ld", &pages) != 1)
        pages = -1;
    (void)fclose(f);
    return pages * kib;
}

static int wait_often(void)
{
    long before = resident_kib();
    (void)alarm(20); /* a hang is a failure */
    weft_future f = {.ops = &ready_ops};
    for (int i = 0; i < 50000; i++) {
        weft_case c = weft_case_future(&f);
        if (weft_blocking_select(&c, 1) != 0)
            return 70;
    }
    return resident_kib() - before > 4096 ? 71 : 0;
}

static int waits_outside_of_runtimes(void)
{
    weft_runtime *rt = create(TEST_CT); /* so that children are told */
    pthread_t waiter;
    int rc = 0;
    if (pthread_create(&waiter, NULL, wait_on_threads, NULL) != 0)
        return 60;
    for (unsigned i = 0; rc == 0 && i < test_scaled(20); i++) {
        usleep(100 * (i % 7));
        pid_t pid = fork();
        if (pid == 0)
            _exit(wait_often());
        rc = program_status(pid);
    }
    atomic_store(&over, true);
    pthread_join(waiter, NULL);
    return rc ? rc > 255 ? 61 : rc : weft_runtime_destroy(rt) ? 62 : 0;
}

static void a_child_waits_on_threads_and_keeps_nothing(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("waits outside of runtimes", NULL), 0);
}

/* ---- in the middle of everything ---- */

/* Takes every lock there is: stacks, runtimes, dumps, waits outside of runtimes. */
static void *be_busy(void *arg)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)arg;
    while (!atomic_load(&over)) {
        weft_runtime *rt = create(TEST_MT1);
        weft_handle *h = weft_runtime_handle(rt);
        weft_spawn_options o = {.runtime = h, .stack_bytes = 1 << 20};
        for (int i = 0; i < 50; i++)
            if (weft_spawn_with(&o, test_forever, NULL, NULL) != 0)
                abort();
        (void)weft_dump(h, null); /* however many there are */
        weft_handle_unref(h);
        if (weft_runtime_destroy(rt) != 0)
            abort();
    }
    close(null);
    return NULL;
}

static int fork_in_the_middle(void)
{
    pthread_t busy[3];
    int rc = 0;
    weft_log_set(NULL, NULL);
    for (int i = 0; i < 3; i++)
        if (pthread_create(&busy[i], NULL, be_busy, NULL) != 0)
            return 60;
    for (unsigned i = 0; rc == 0 && i < test_scaled(60); i++) {
        usleep(300 * (i % 7));
        pid_t pid = fork();
        if (pid == 0) {
            (void)alarm(20); /* a hang is a failure */
            _exit(use_new_runtimes());
        }
        rc = program_status(pid);
    }
    atomic_store(&over, true);
    for (int i = 0; i < 3; i++)
        pthread_join(busy[i], NULL);
    return rc > 255 ? 61 : rc;
}

static void a_runtime_starts_in_a_child_forked_in_the_middle_of_everything(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("fork in the middle", NULL), 0);
}

static void *create_and_destroy(void *arg)
{
    if (weft_runtime_destroy(create(TEST_CT)) != 0)
        abort();
    return arg;
}

/* What the process does once, at its first runtime, loads libraries. */
static int fork_at_the_first_runtime(void)
{
    pthread_t creators[2];
    for (int i = 0; i < 2; i++)
        if (pthread_create(&creators[i], NULL, create_and_destroy, NULL) != 0)
            return 60;
    usleep((useconds_t)(getpid() % 8) * 50);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(20); /* a hang is a failure */
        _exit(use_new_runtimes());
    }
    int rc = program_status(pid);
    for (int i = 0; i < 2; i++)
        pthread_join(creators[i], NULL);
    return rc > 255 ? 61 : rc;
}

static void a_runtime_starts_in_a_child_forked_while_the_first_one_starts(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(30); i++)
        CHECK_EQ(program_run("fork at the first runtime", NULL), 0);
}

/* ---- in a storm of tokens ---- */

static weft_cancel_token *storm_token;

/* Has the lock of the tokens most of the time. */
static void *make_tokens(void *arg)
{
    while (!atomic_load(&over)) {
        weft_cancel_token *child;
        if (weft_cancel_token_child(storm_token, &child) != 0)
            abort();
        weft_cancel_token_unref(child);
    }
    return arg;
}

/* The child leaves whatever it was forked in. */
static void *fork_in_scopes(void *arg)
{
    int *status = arg;
    weft_task *other;
    if (weft_spawn(test_forever, NULL, &other) != 0)
        return NULL;
    WEFT_ABORT_ON_RELEASE(other_guard, other);
    WEFT_CANCEL_ON_RELEASE(guard, storm_token);
    for (unsigned i = 0; *status == EXIT_FAILURE && i < test_scaled(100); i++) {
        pid_t pid = -1;
        WEFT_CANCEL_SCOPE(storm_token) {
            if (weft_sleep(WEFT_US) != 0) /* shows the scope to the token */
                return NULL;
            pid = fork();
            if (pid == 0) {
                (void)alarm(10); /* a hang is a failure */
                return arg;
            }
        }
        *status = program_status(pid);
    }
    (void)weft_cancel_guard_disarm(&guard);
    return arg;
}

static int fork_in_a_storm_of_tokens(void)
{
    weft_runtime *rt = create(TEST_MT4);
    pthread_t busy[2];
    int status = EXIT_FAILURE;
    weft_log_set(NULL, NULL);
    if (weft_cancel_token_create(&storm_token) != 0)
        return 60;
    for (int i = 0; i < 2; i++)
        if (pthread_create(&busy[i], NULL, make_tokens, NULL) != 0)
            return 61;
    if (!run_in(rt, IN_A_TASK, fork_in_scopes, &status))
        return 62;
    atomic_store(&over, true);
    for (int i = 0; i < 2; i++)
        pthread_join(busy[i], NULL);
    if (weft_cancel_token_is_cancelled(storm_token) || weft_runtime_destroy(rt) != 0)
        return 63;
    weft_cancel_token_unref(storm_token);
    return status == EXIT_FAILURE ? 0 : status > 255 ? 64 : 65;
}

static void a_child_leaves_scopes_and_guards_forked_in_a_storm_of_their_tokens(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("fork in a storm of tokens", NULL), 0);
}

/* ---- daemons ---- */

/* In the daemon: tells through a pipe how it went. */
static void daemonize(int report)
{
    pid_t pid = fork();
    if (pid < 0)
        _exit(70);
    if (pid > 0)
        _exit(0); /* the first child; its parent waits for it */
    if (setsid() < 0)
        _exit(71);
    pid = fork();
    if (pid != 0)
        _exit(pid < 0);
    (void)alarm(20); /* a hang is a failure */
    int rc = use_new_runtimes();
    _exit(write(report, &rc, sizeof rc) == sizeof rc ? 0 : 72);
}

static int daemon_reports(void)
{
    int report[2], rc = 73;
    if (pipe2(report, O_CLOEXEC) < 0)
        return 74;
    pid_t pid = fork();
    if (pid == 0)
        daemonize(report[1]);
    if (program_status(pid) != 0)
        return 75;
    close(report[1]);
    if (read(report[0], &rc, sizeof rc) != sizeof rc)
        return 76;
    close(report[0]);
    return rc;
}

static int daemon_before(void)
{
    return daemon_reports();
}

static int daemon_after(void)
{
    weft_runtime *rt = create(TEST_MT4);
    int rc = daemon_reports();
    return weft_runtime_destroy(rt) ? 77 : rc;
}

static void a_daemon_starts_a_runtime(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("daemon before", NULL), 0);
    CHECK_EQ(program_run("daemon after", NULL), 0);
}

/* ---- generators ---- */

static int emit_for_ever(weft_iter_out *out, void *arg)
{
    int v = 0, rc;
    (void)arg;
    while ((rc = weft_iter_emit(out, &v)) == 0)
        v++;
    return rc;
}

static void *take_an_item(void *it)
{
    int v;
    return weft_iter_next(it, &v) == 1 ? it : NULL;
}

/* It does not run in the child, so there nothing is to be waited for. */
static int generator_of_the_parent(void)
{
    weft_runtime *rt = create(TEST_MT1);
    weft_iter *it = weft_iter_generate(sizeof(int), NULL, emit_for_ever, NULL);
    if (test_block_on(rt, take_an_item, it) != it)
        return 60;
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(20); /* a hang is a failure */
        weft_iter_destroy(it);
        _exit(0);
    }
    int rc = program_status(pid);
    weft_iter_destroy(it);
    return rc ? rc : weft_runtime_destroy(rt);
}

static void a_child_destroys_a_generator_of_the_parent(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("generator of the parent", NULL), 0);
}

static const struct program programs[] = {
    {"child of a thread", child_of_a_thread},
    {"child of an entered thread", child_of_an_entered_thread},
    {"dumps on signals", dumps_on_signals},
    {"child of a task", child_of_a_task},
    {"child that returns", child_that_returns},
    {"child that returns out of a scope", child_that_returns_out_of_a_scope},
    {"child that starts a runtime in a scope", child_that_starts_a_runtime_in_a_scope},
    {"child that panics", child_that_panics},
    {"generator of the parent", generator_of_the_parent},
    {"fork in the middle", fork_in_the_middle},
    {"waits outside of runtimes", waits_outside_of_runtimes},
    {"fork in a storm of tokens", fork_in_a_storm_of_tokens},
    {"fork at the first runtime", fork_at_the_first_runtime},
    {"daemon before", daemon_before},
    {"daemon after", daemon_after},
};

static const struct CMUnitTest tests[] = {
    PLAIN(a_child_is_refused_the_parents_runtime_and_starts_its_own),
    PLAIN(a_child_of_an_entered_thread_does_not_wait_there),
    PLAIN(a_child_asks_for_its_own_dumps),
    PLAIN(a_child_of_a_task_starts_a_runtime_of_its_own),
    PLAIN(a_child_that_returns_from_a_task_ends_with_an_error),
    PLAIN(a_child_leaves_scopes_to_the_parent),
    PLAIN(a_child_destroys_a_generator_of_the_parent),
    PLAIN(a_child_waits_on_threads_and_keeps_nothing),
    PLAIN(a_runtime_starts_in_a_child_forked_in_the_middle_of_everything),
    PLAIN(a_child_leaves_scopes_and_guards_forked_in_a_storm_of_their_tokens),
    PLAIN(a_runtime_starts_in_a_child_forked_while_the_first_one_starts),
    PLAIN(a_daemon_starts_a_runtime),
};

int main(int argc, char **argv)
{
    program_main(argc, argv, programs, sizeof programs / sizeof programs[0]);
    return test_main(tests, sizeof tests / sizeof tests[0], argc, argv);
}
