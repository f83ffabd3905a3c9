/* ctest: parallel not-under=address,thread,memcheck,aarch64 (a fork of a process with threads) */
/* Forked children: what they are refused, how they end, and that a runtime of their own works. */
#include "harness.h"
#include "program.h"
#include "socks.h"

#include <weft/cancel.h>
#include <weft/iter.h>
#include <weft/local.h>
#include <weft/net.h>
#include <weft/notify.h>
#include <weft/scope.h>
#include <weft/task_local.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what a new runtime must be able to do ---- */

static void *echo_once(void *arg)
{
    weft_tcp *conn;
    char c;
    if (weft_tcp_accept(arg, &conn) < 0)
        return NULL;
    if (weft_tcp_read(conn, &c, 1) != 1 || weft_tcp_write(conn, &c, 1) != 1)
        c = 0; /* the other side notices */
    weft_tcp_close(conn);
    return NULL;
}

static void *give_back(void *arg)
{
    return arg;
}

/* Timers, tasks, jobs and sockets. */
static int use_all(void *arg)
{
    weft_tcp_listener *l;
    weft_tcp *conn;
    weft_addr addr;
    weft_task *server, *job;
    weft_outcome o;
    char c = 'w';
    (void)arg;
    if (weft_sleep(WEFT_MS) != 0 || weft_tcp_listen("127.0.0.1:0", &l) != 0 ||
        weft_tcp_listener_local_addr(l, &addr) != 0 || weft_spawn(echo_once, l, &server) != 0 ||
        weft_tcp_connect_addr(NULL, &addr, &conn) != 0)
        return 11;
    if (weft_tcp_write(conn, &c, 1) != 1 || weft_tcp_read(conn, &c, 1) != 1 || c != 'w')
        return 12;
    weft_tcp_close(conn);
    if (weft_join(server, &o) != 0 || weft_tcp_listener_close(l) != 0)
        return 13;
    if (weft_spawn_blocking(give_back, &c, &job) != 0 || weft_join(job, &o) != 0 || o.value != &c)
        return 14;
    return 0;
}

static int use_new_runtimes(void)
{
    weft_config c;
    for (int f = TEST_CT; f <= TEST_MT4; f++) {
        test_config(&c, (enum test_flavour)f);
        int rc = weft_run_with(&c, use_all, NULL);
        if (rc != 0)
            return rc < 0 ? 10 : rc;
    }
    return 0;
}

static weft_runtime *create(enum test_flavour flavour)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, flavour);
    if (weft_runtime_create(&c, &rt) != 0)
        _exit(90);
    return rt;
}

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

static int dumps_on_signals(void)
{
    weft_runtime *rt = create(TEST_MT1);
    if (weft_dump_on_signal(SIGUSR1, STDERR_FILENO) != 0 ||
        weft_dump_on_signal(SIGUSR2, STDERR_FILENO) != -EBUSY)
        return 22;
    pid_t pid = fork();
    if (pid == 0) /* what is on is the parent's */
        _exit(weft_dump_on_signal(SIGUSR2, STDERR_FILENO) != 0   ? 23
              : weft_dump_on_signal(SIGUSR1, STDERR_FILENO) == 0 ? 24
              : weft_dump_on_signal(SIGUSR2, -1) != 0            ? 25
                                                                 : 0);
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

enum where { IN_A_BODY, IN_A_TASK, IN_A_JOB, PLACES };

/* Runs fn(arg) to its end there. */
static bool run_in(weft_runtime *rt, enum where where, weft_task_fn fn, void *arg)
{
    if (where == IN_A_BODY)
        return weft_block_on(rt, fn, arg, NULL) == 0;
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options opts = {.runtime = h, .name = "forker"};
    weft_task *t;
    weft_outcome o;
    int rc = where == IN_A_TASK ? weft_spawn_with(&opts, fn, arg, &t)
                                : weft_spawn_blocking_with(&opts, fn, arg, &t);
    weft_handle_unref(h);
    if (rc < 0)
        return false;
    while ((rc = weft_try_join(t, &o)) == -EAGAIN)
        if (weft_block_on(rt, test_noop, NULL, NULL) != 0) /* somebody must drive */
            return false;
    return rc == 0;
}

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

/* A child forked in each place on each runtime ends with this status. */
static int expect_everywhere(weft_task_fn fn, int status)
{
    for (int f = TEST_CT; f <= TEST_MT4; f++) {
        weft_runtime *rt = create((enum test_flavour)f);
        for (int where = IN_A_BODY; where < PLACES; where++) {
            int got = -1;
            if (!run_in(rt, (enum where)where, fn, &got))
                return 30;
            if (got != status)
                return got == 0 ? 31 : got;
        }
        if (weft_runtime_destroy(rt) != 0)
            return 32;
    }
    return 0;
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

/* What it opened there would be in the epoll instance that both share, behind locks that may be
 * held for ever. */
static void *fork_and_open(void *arg)
{
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port), *other;
    weft_tcp *conn;
    weft_fd *wfd;
    int ends[2];
    int fd = socks_raw_connect(port);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(20); /* a hang is a failure */
        _exit(weft_fd_open(ends[0], 0, &wfd) != -EPERM               ? 40
              : weft_tcp_from_fd(fd, &conn) != -EPERM                ? 41
              : weft_tcp_listen("127.0.0.1:0", &other) != -EPERM     ? 42
              : weft_tcp_listener_from_fd(fd, &other) != -EPROTOTYPE ? 43
              : weft_tcp_try_accept(l, &conn) != -EPERM              ? 44
                                                                     : 0);
    }
    *(int *)arg = program_status(pid);
    CHECK_EQ(weft_tcp_try_accept(l, &conn), 0); /* who is in the queue has stayed there */
    CHECK_EQ(weft_tcp_close(conn), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    close(fd);
    close(ends[0]);
    close(ends[1]);
    return arg;
}

static int child_that_opens(void)
{
    return expect_everywhere(fork_and_open, 0);
}

static void a_child_opens_nothing_in_a_runtime_of_its_parents(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("child that opens", NULL), 0);
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

static unsigned count_of(const char *text, const char *part)
{
    unsigned n = 0;
    for (; (text = strstr(text, part)) != NULL; text++)
        n++;
    return n;
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

static void never_cancelled(weft_future *f)
{
    (void)f;
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
        EXPECT_EQ(count_of(said, "a forked child has returned from"), places[i].runtimes);
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
        EXPECT_EQ(count_of(said, "a forked child has returned from"), 1);
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

/* ---- the parent's sockets ---- */

static void *read_one(void *arg)
{
    char c;
    ssize_t n = 0;
    WEFT_TIMEOUT(10 * WEFT_SEC)
        n = weft_tcp_read(arg, &c, 1);
    return n == 1 ? arg : NULL;
}

static int wait_for_the_parents(void *arg)
{
    char c;
    return (int)weft_tcp_read(arg, &c, 1);
}

static void *close_in_child(void *arg)
{
    bool starts_anew = arg != NULL;
    weft_tcp_listener *l;
    weft_tcp *near, *far;
    weft_addr addr;
    char c = 'x';
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &near), 0);
    CHECK_EQ(weft_tcp_accept(l, &far), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(20); /* a hang is a failure */
        if (starts_anew && use_new_runtimes() != 0)
            _exit(1);
        if (starts_anew && weft_run(wait_for_the_parents, near) != -EPERM)
            _exit(2);
        (void)weft_tcp_close(near); /* of a copy that is shared: the parent's goes on */
        _exit(0);
    }
    CHECK_EQ(program_status(pid), 0);
    weft_task *reader = SPAWN(read_one, near);
    CHECK_SOON(test_waits(NULL, reader)); /* for an edge */
    CHECK_EQ(weft_tcp_write(far, &c, 1), 1);
    CHECK(test_join_value(reader) == near);
    CHECK_EQ(weft_tcp_close(near), 0);
    CHECK_EQ(weft_tcp_close(far), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    return arg;
}

static int close_of_the_parents(void)
{
    for (int f = TEST_CT; f <= TEST_MT4; f++) {
        weft_runtime *rt = create((enum test_flavour)f);
        if (weft_block_on(rt, close_in_child, NULL, NULL) != 0 ||
            weft_block_on(rt, close_in_child, rt, NULL) != 0 || weft_runtime_destroy(rt) != 0)
            return 1;
    }
    return test_has_failed();
}

static void a_child_that_closes_a_connection_leaves_it_to_the_parent(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("close of the parent's", NULL), 0);
}

/* Of a half too: what the child gives up is its copy, and not the parent's direction. */
static void *close_halves_in_child(void *arg)
{
    weft_tcp_listener *l;
    weft_tcp *near, *far;
    weft_tcp_reader *reader;
    weft_tcp_writer *writer;
    weft_addr addr;
    char c = 'x';
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    CHECK_EQ(weft_tcp_listener_local_addr(l, &addr), 0);
    CHECK_EQ(weft_tcp_connect_addr(NULL, &addr, &near), 0);
    CHECK_EQ(weft_tcp_accept(l, &far), 0);
    CHECK_EQ(weft_tcp_split(near, &reader, &writer), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd, listening;
        (void)alarm(20); /* a hang is a failure */
        if (weft_tcp_close(near) != -EBUSY || weft_tcp_into_fd(near, &fd) != -EBUSY)
            _exit(1);
        if (weft_tcp_writer_close(writer) != 0 || weft_tcp_writer_close(writer) != -EBADF ||
            weft_tcp_reader_close(reader) != 0 || weft_tcp_reader_close(reader) != -EBADF)
            _exit(2);
        if (weft_tcp_listener_into_fd(l, &listening) != 0 || fcntl(listening, F_GETFD) == -1)
            _exit(3);
        _exit(weft_tcp_into_fd(far, &fd) != 0 || write(fd, &c, 1) != 1 || close(fd) != 0);
    }
    CHECK_EQ(program_status(pid), 0);
    CHECK_EQ(weft_tcp_reader_read(reader, &c, 1), 1); /* the child's */
    CHECK_EQ(weft_tcp_writer_write(writer, &c, 1), 1);
    CHECK_EQ(weft_tcp_read(far, &c, 1), 1);
    CHECK_EQ(weft_tcp_try_read(far, &c, 1), -EAGAIN); /* no end */
    CHECK_EQ(weft_tcp_writer_close(writer), 0);
    CHECK_EQ(weft_tcp_read(far, &c, 1), 0);
    CHECK_EQ(weft_tcp_reader_close(reader), 0);
    CHECK_EQ(weft_tcp_close(far), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    return arg;
}

static int halves_of_the_parents(void)
{
    weft_runtime *rt = create(TEST_MT1);
    if (weft_block_on(rt, close_halves_in_child, NULL, NULL) != 0 || weft_runtime_destroy(rt) != 0)
        return 1;
    return test_has_failed();
}

static void a_child_that_closes_a_half_leaves_it_to_the_parent(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("halves of the parent's", NULL), 0);
}

/* A future that is polled once and left as it is then. */
struct left {
    weft_future future;
    weft_future *inner;
};

static int poll_and_leave(weft_future *f, weft_waker *waker)
{
    CHECK_EQ(weft_future_poll(((struct left *)(void *)f)->inner, waker), WEFT_PENDING);
    return 0;
}

static const weft_future_ops leaving_ops = {
    .poll = poll_and_leave, .cancel = never_cancelled, .name = "left"};

static void leave_pending(weft_future *inner)
{
    struct left once = {.future = {.ops = &leaving_ops}, .inner = inner};
    CHECK_EQ(weft_await(&once.future), 0);
}

static int await_the_parents(void *future)
{
    return weft_await(future);
}

/* In the child: what awaiting it comes to in a runtime of its own. */
static int fork_and_await(weft_future *f)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(20); /* a hang is a failure */
        _exit(-weft_run(await_the_parents, f));
    }
    int rc = program_status(pid);
    weft_future_cancel(f);
    return rc;
}

static void *leave_a_wait(void *arg)
{
    weft_fd_wait_future f;
    weft_fd *wfd;
    int ends[2];
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQ(weft_fd_open(ends[0], 0, &wfd), 0);
    weft_fd_wait_future_init(&f, wfd, WEFT_READY_READ);
    leave_pending(&f.future);
    CHECK_EQ(fork_and_await(&f.future), EPERM); /* nobody would ever wake it */
    CHECK_EQ(weft_fd_close(wfd), 0);
    close(ends[0]);
    close(ends[1]);
    return arg;
}

/* Backing off for want of descriptors, it goes by a timer of the parent's. */
static void *leave_an_accept(void *arg)
{
    weft_tcp_accept_future f;
    weft_tcp *conn;
    struct rlimit limit;
    uint16_t port;
    weft_tcp_listener *l = socks_listen(&port);
    int fd = socks_raw_connect(port);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rlimit lower = {.rlim_cur = 0, .rlim_max = limit.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &lower), 0);
    weft_tcp_accept_future_init(&f, l, &conn);
    leave_pending(&f.future);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(fork_and_await(&f.future), 0);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
    close(fd);
    return arg;
}

static int waits_of_the_parents(void)
{
    weft_runtime *rt = create(TEST_MT1);
    if (weft_block_on(rt, leave_a_wait, NULL, NULL) != 0 ||
        weft_block_on(rt, leave_an_accept, NULL, NULL) != 0 || weft_runtime_destroy(rt) != 0)
        return 1;
    return test_has_failed();
}

static void a_child_that_awaits_what_its_parent_awaited_does_not_hang(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("waits of the parent's", NULL), 0);
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

/* ---- in a storm of edges ---- */

enum { STORM_WAITERS = 30 };

static weft_tcp *storm[2]; /* both ends of one connection */
static weft_tcp_listener *storm_listener;
static atomic_bool is_storming;

/* Each edge wakes all that wait, so that the connection's lock is held for long. */
static void *wait_on(void *arg)
{
    char c;
    (void)arg;
    while (!atomic_load(&over) && weft_tcp_read(storm[1], &c, 1) > 0)
        continue;
    return NULL;
}

static void *make_edges(void *arg)
{
    weft_task *waiter[STORM_WAITERS];
    weft_outcome o;
    weft_addr addr;
    if (weft_tcp_listen("127.0.0.1:0", &storm_listener) != 0 ||
        weft_tcp_listener_local_addr(storm_listener, &addr) != 0 ||
        weft_tcp_connect_addr(NULL, &addr, &storm[0]) != 0 ||
        weft_tcp_accept(storm_listener, &storm[1]) != 0)
        abort();
    for (int i = 0; i < STORM_WAITERS; i++)
        if (weft_spawn(wait_on, NULL, &waiter[i]) != 0)
            abort();
    atomic_store(&is_storming, true);
    while (!atomic_load(&over))
        if (weft_tcp_write(storm[0], "x", 1) != 1)
            abort();
    if (weft_tcp_shutdown(storm[0], SHUT_WR) != 0)
        abort();
    for (int i = 0; i < STORM_WAITERS; i++)
        if (weft_join(waiter[i], &o) != 0)
            abort();
    return arg;
}

static void *run_storm(void *arg)
{
    return weft_block_on(arg, make_edges, NULL, NULL) == 0 ? arg : NULL;
}

static int close_storm_in_child(void)
{
    weft_tcp_reader *reader;
    weft_tcp_writer *writer;
    (void)alarm(20); /* a hang is a failure */
    return weft_tcp_split(storm[1], &reader, &writer) || weft_tcp_writer_close(writer) ||
           weft_tcp_reader_close(reader) || weft_tcp_close(storm[0]) ||
           weft_tcp_listener_close(storm_listener);
}

static int fork_in_a_storm_of_edges(void)
{
    weft_runtime *rt = create(TEST_MT4);
    pthread_t runner;
    int rc = 0;
    if (pthread_create(&runner, NULL, run_storm, rt) != 0)
        return 60;
    while (!atomic_load(&is_storming))
        usleep(1000);
    for (unsigned i = 0; rc == 0 && i < test_scaled(200); i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(close_storm_in_child());
        rc = program_status(pid);
    }
    atomic_store(&over, true);
    pthread_join(runner, NULL);
    return rc ? rc > 255 ? 61 : rc : weft_runtime_destroy(rt) ? 62 : 0;
}

static void a_child_closes_connections_forked_in_a_storm_of_their_edges(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("fork in a storm of edges", NULL), 0);
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
    {"dumps on signals", dumps_on_signals},
    {"child of a task", child_of_a_task},
    {"child that opens", child_that_opens},
    {"child that returns", child_that_returns},
    {"child that returns out of a scope", child_that_returns_out_of_a_scope},
    {"child that starts a runtime in a scope", child_that_starts_a_runtime_in_a_scope},
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
    {"child that panics", child_that_panics},
    {"close of the parent's", close_of_the_parents},
    {"halves of the parent's", halves_of_the_parents},
    {"waits of the parent's", waits_of_the_parents},
    {"generator of the parent", generator_of_the_parent},
    {"fork in the middle", fork_in_the_middle},
    {"waits outside of runtimes", waits_outside_of_runtimes},
    {"fork in a storm of edges", fork_in_a_storm_of_edges},
    {"fork in a storm of tokens", fork_in_a_storm_of_tokens},
    {"fork at the first runtime", fork_at_the_first_runtime},
    {"daemon before", daemon_before},
    {"daemon after", daemon_after},
};

static const struct CMUnitTest tests[] = {
    PLAIN(a_child_is_refused_the_parents_runtime_and_starts_its_own),
    PLAIN(a_child_asks_for_its_own_dumps),
    PLAIN(a_child_of_a_task_starts_a_runtime_of_its_own),
    PLAIN(a_child_opens_nothing_in_a_runtime_of_its_parents),
    PLAIN(a_child_that_returns_from_a_task_ends_with_an_error),
    PLAIN(a_child_leaves_scopes_to_the_parent),
    PLAIN(a_child_does_not_call_in_place),
    PLAIN(a_child_of_what_is_no_body_runs_no_task_of_the_parent),
    PLAIN(a_child_that_returns_from_a_function_of_the_log_ends),
    PLAIN(a_child_replaces_the_log_forked_while_it_is_replaced),
    PLAIN(a_child_that_closes_a_connection_leaves_it_to_the_parent),
    PLAIN(a_child_that_closes_a_half_leaves_it_to_the_parent),
    PLAIN(a_child_that_awaits_what_its_parent_awaited_does_not_hang),
    PLAIN(a_child_destroys_a_generator_of_the_parent),
    PLAIN(a_child_waits_on_threads_and_keeps_nothing),
    PLAIN(a_runtime_starts_in_a_child_forked_in_the_middle_of_everything),
    PLAIN(a_child_closes_connections_forked_in_a_storm_of_their_edges),
    PLAIN(a_child_leaves_scopes_and_guards_forked_in_a_storm_of_their_tokens),
    PLAIN(a_runtime_starts_in_a_child_forked_while_the_first_one_starts),
    PLAIN(a_daemon_starts_a_runtime),
};

int main(int argc, char **argv)
{
    program_main(argc, argv, programs, sizeof programs / sizeof programs[0]);
    return test_main(tests, sizeof tests / sizeof tests[0], argc, argv);
}
