/* ctest: not-under=thread,memcheck,aarch64 (a fork of a process with threads) */
/* The process around the runtimes: fork, and exit() while workers run. */
#include "harness.h"

#include <weft/cancel.h>
#include <weft/mutex.h>

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The exit status of a child, or 256 + the signal that killed it. */
static int status_of(pid_t pid)
{
    int status;
    CHECK(pid > 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* Runs this program anew, for what a process does only once: see main(). */
static int in_program(char *what)
{
    char *argv[] = {"test_process", "child", what, NULL};
    pid_t pid;
    CHECK_EQ(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ), 0);
    return status_of(pid);
}

static void use_the_parents_runtime(struct test_env *env)
{
    alarm(30); /* a hang is a failure */
    weft_outcome o;
    if (weft_block_on(env->rt, test_noop, NULL, &o) != -EPERM)
        _exit(1);
    if (weft_handle_block_on(env->handle, test_noop, NULL, &o) != -EPERM)
        _exit(2);
    if (weft_runtime_shutdown(env->rt, WEFT_NEVER) != -EPERM)
        _exit(3);
    _exit(0); /* its destructors are the parent's business */
}

static void runtime_of_the_parent_is_refused_in_a_child(struct test_env *env)
{
    CHECK(test_block_on(env->rt, test_noop, env) == env);
    pid_t pid = fork();
    if (pid == 0)
        use_the_parents_runtime(env);
    CHECK_EQ(status_of(pid), 0);
    CHECK(test_block_on(env->rt, test_noop, env) == env); /* the parent's is none the worse */
}

static weft_mutex is_free, is_locked;

/* By a task, in a child: nothing that may wait goes on, and nothing else runs. */
static int wait_in_child(bool has_handlers)
{
    alarm(30); /* a hang is a failure */
    if (weft_yield() != -EPERM)
        return 1;
    if (weft_sleep(WEFT_MS) != -EPERM)
        return 2;
    if (weft_mutex_lock(&is_locked) != -EPERM)
        return 3;
    for (int i = 0; i < 1000; i++) {
        int rc = weft_mutex_lock(&is_free);
        if (rc == 0 && !has_handlers) /* for a while */
            weft_mutex_unlock(&is_free);
        else if (rc != -EPERM)
            return 4;
    }
    return 0;
}

static void *fork_inside(void *arg)
{
    CHECK_EQ(weft_mutex_lock(&is_locked), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(wait_in_child(true));
    CHECK_EQ(status_of(pid), 0);
    pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        _exit(wait_in_child(false));
    CHECK_EQ(status_of(pid), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0); /* the parent goes on */
    weft_mutex_unlock(&is_locked);
    return arg;
}

static void *fork_among_others(void *arg)
{
    weft_task *others[4];
    for (int i = 0; i < 4; i++)
        others[i] = SPAWN(test_forever, NULL);
    CHECK(test_join_value(SPAWN(fork_inside, arg)) == arg);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(weft_abort(others[i]), 0);
        CHECK_EQ(test_join_kind(others[i]), WEFT_OUTCOME_CANCELLED);
    }
    return fork_inside(arg);
}

static void a_task_that_goes_on_in_a_child_cannot_wait(struct test_env *env)
{
    CHECK(test_block_on(env->rt, fork_among_others, env) == env);
}

static void *yield_for_ever(void *arg)
{
    while (weft_yield() == 0)
        ;
    return arg;
}

static void *spawn_for_ever(void *arg)
{
    while (weft_spawn(test_noop, arg, NULL) == 0 && weft_yield() == 0)
        ;
    return arg;
}

/* A bug in user code, and a common one: exit() while everything runs. */
static int exit_while_workers_run(void)
{
    static const weft_task_fn body[] = {yield_for_ever, spawn_for_ever, test_forever};
    weft_config c;
    weft_runtime *rt;
    test_config(&c, TEST_MT4);
    if (weft_runtime_create(&c, &rt) != 0)
        return 1;
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options o = {.runtime = h};
    for (int i = 0; i < 9; i++)
        if (weft_spawn_with(&o, body[i % 3], NULL, NULL) < 0)
            return 2;
    usleep(3000); /* into the middle of it, wherever that is */
    return 0;
}

static void exit_with_running_workers_is_survived(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(40); i++)
        CHECK_EQ(in_program("exit while workers run"), 0);
}

static void *exit_inside(void *arg)
{
    (void)arg;
    exit(7);
}

static int exit_in_a_task(void)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, TEST_MT4);
    if (weft_runtime_create(&c, &rt) != 0)
        return 1;
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options o = {.runtime = h};
    if (weft_spawn_with(&o, yield_for_ever, NULL, NULL) < 0 ||
        weft_spawn_with(&o, exit_inside, NULL, NULL) < 0)
        return 2;
    for (;;)
        pause();
}

static void exit_called_by_a_task_ends_the_process(struct test_env *env)
{
    (void)env;
    for (unsigned i = 0; i < test_scaled(20); i++)
        CHECK_EQ(in_program("exit in a task"), 7);
}

/* A timer, or a token, has a pointer into a frame that is gone. */
static void *forget_armed_scopes(void *kind)
{
    weft_timeout t;
    weft_cancel_scope s;
    weft_cancel_token *token;
    CHECK_EQ(weft_cancel_token_create(&token), 0);
    if (strcmp(kind, "timeout") == 0)
        weft_timeout_enter(&t, WEFT_SEC);
    else
        weft_cancel_scope_enter(&s, token);
    CHECK_EQ(weft_sleep(WEFT_MS), 0);
    return NULL;
}

static int forget_armed_scope(char *kind)
{
    weft_runtime *rt;
    weft_outcome o;
    weft_config c;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
    if (weft_runtime_create(&c, &rt) < 0)
        return 1;
    return weft_block_on(rt, forget_armed_scopes, kind, &o) < 0 ? 2 : 3;
}

static void a_scope_forgotten_under_a_wait_ends_the_process(struct test_env *env)
{
    (void)env;
    CHECK_EQ(in_program("timeout"), 256 + SIGABRT);
    CHECK_EQ(in_program("cancel scope"), 256 + SIGABRT);
}

static const struct CMUnitTest tests[] = {
    ON_MAIN(runtime_of_the_parent_is_refused_in_a_child),
    ON_MAIN(a_task_that_goes_on_in_a_child_cannot_wait),
    PLAIN(exit_with_running_workers_is_survived),
    PLAIN(exit_called_by_a_task_ends_the_process),
    PLAIN(a_scope_forgotten_under_a_wait_ends_the_process),
};

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "child") == 0) {
        alarm(30); /* a hang is a failure */
        if (strcmp(argv[2], "timeout") == 0 || strcmp(argv[2], "cancel scope") == 0)
            return forget_armed_scope(argv[2]);
        return strcmp(argv[2], "exit in a task") == 0 ? exit_in_a_task() : exit_while_workers_run();
    }
    return test_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
