/* ctest: not-under=thread,memcheck,aarch64 (a fork of a process with threads) */
/* The process around the runtimes: fork, exec, and exit() while workers run. See test_fork.c
 * too. */
#include "harness.h"
#include "program.h"
#include "socks.h"

#include <weft/cancel.h>
#include <weft/io.h>
#include <weft/local.h>
#include <weft/mpsc.h>
#include <weft/mutex.h>
#include <weft/net.h>
#include <weft/semaphore.h>

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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
    CHECK_EQ(program_status(pid), 0);
    CHECK(test_block_on(env->rt, test_noop, env) == env); /* the parent's is none the worse */
}

static weft_mutex is_free, is_locked;
static weft_semaphore no_permits = WEFT_SEMAPHORE_INIT(0);
static weft_mpsc_receiver *nothing_comes;
static weft_fd *nothing_to_read;

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
    char c;
    void *elem;
    if (weft_semaphore_acquire(&no_permits) != -EPERM)
        return 5;
    if (weft_mpsc_recv(nothing_comes, &elem) != -EPERM)
        return 6;
    if (weft_fd_read(nothing_to_read, &c, 1) != -EPERM)
        return 7;
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
    int fds[2];
    weft_mpsc_sender *tx;
    CHECK_EQ(weft_mutex_lock(&is_locked), 0);
    CHECK_EQ(weft_mpsc_create(sizeof(void *), 1, NULL, &tx, &nothing_comes), 0);
    CHECK_EQ(pipe(fds), 0);
    CHECK_EQ(weft_fd_open(fds[0], 0, &nothing_to_read), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(wait_in_child(true));
    CHECK_EQ(program_status(pid), 0);
    pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        _exit(wait_in_child(false));
    CHECK_EQ(program_status(pid), 0);
    CHECK_EQ(weft_sleep(WEFT_MS), 0); /* the parent goes on */
    weft_fd_close(nothing_to_read);
    close(fds[0]);
    close(fds[1]);
    weft_mpsc_receiver_unref(nothing_comes);
    weft_mpsc_sender_unref(tx);
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
        CHECK_EQ(program_run("exit while workers run", NULL), 0);
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
        CHECK_EQ(program_run("exit in a task", NULL), 7);
}

/* ---- exit() on a thread whose worker waits for it, as it were ---- */

static uint64_t exit_began_ns;

/* A handler that runs after the workers were halted: a halt that waits for the thread that exits
 * waits for a second before it gives up. */
static void say_how_long(void)
{
    _exit(weft_now() - exit_began_ns < 950 * WEFT_MS ? 7 : 8);
}

static void *exit_and_measure(void *arg)
{
    exit_began_ns = weft_now();
    return exit_inside(arg);
}

static void *exit_in_place(void *arg)
{
    return weft_block_in_place(exit_and_measure, arg, NULL) == 0 ? arg : NULL;
}

static void *exit_in_a_set(void *arg)
{
    weft_local_set *set;
    if (weft_local_set_create(NULL, &set) != 0)
        return NULL;
    return weft_local_set_run_until(set, exit_and_measure, arg, NULL) == 0 ? arg : NULL;
}

static void *exit_in_a_local_task(void *arg)
{
    weft_local_set *set;
    if (weft_local_set_create(NULL, &set) != 0 ||
        weft_spawn_local_on(set, exit_and_measure, arg, NULL) != 0)
        return NULL;
    return weft_local_set_wait(set) == 0 ? arg : NULL;
}

static void *exit_driven_in_place(void *arg)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, TEST_CT);
    if (weft_runtime_create(&c, &rt) != 0)
        return NULL;
    return weft_block_on(rt, exit_and_measure, arg, NULL) == 0 ? arg : NULL;
}

static void *exit_driving_in_place(void *arg)
{
    return weft_block_in_place(exit_driven_in_place, arg, NULL) == 0 ? arg : NULL;
}

static int exit_quickly_from(weft_task_fn body)
{
    weft_config c;
    weft_runtime *rt;
    if (atexit(say_how_long) != 0)
        return 1;
    test_config(&c, TEST_MT4);
    if (weft_runtime_create(&c, &rt) != 0)
        return 1;
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options o = {.runtime = h, .pinned = true};
    if (weft_spawn_with(&o, body, NULL, NULL) < 0)
        return 2;
    for (;;)
        pause();
}

static int exit_from_a_call_in_place(void)
{
    return exit_quickly_from(exit_in_place);
}

static int exit_from_a_set(void)
{
    return exit_quickly_from(exit_in_a_set);
}

static int exit_from_a_local_task(void)
{
    return exit_quickly_from(exit_in_a_local_task);
}

static int exit_from_another_runtime(void)
{
    return exit_quickly_from(exit_driving_in_place);
}

static void exit_does_not_wait_for_the_thread_that_calls_it(struct test_env *env)
{
    static const char *const names[] = {"exit from a call in place", "exit from a set",
                                        "exit from a local task", "exit from another runtime"};
    (void)env;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int status = 8;
        for (int tries = 0; status == 8 && tries < 5; tries++) /* others may have had the CPUs */
            status = program_run(names[i], NULL);
        if (status != 7)
            print_message("%s\n", names[i]);
        EXPECT_EQ(status, 7);
    }
}

/* ---- a call in place that begins while the workers are halted ---- */

static weft_runtime *halted_rt;
static atomic_bool has_begun, is_halted, is_in_place, may_return;

static void *wait_for_the_other_task(void *arg)
{
    atomic_store(&is_in_place, true);
    while (!atomic_load(&may_return))
        usleep(1000);
    return arg;
}

/* On the only worker. */
static void *block_when_halted(void *arg)
{
    atomic_store(&has_begun, true);
    while (!atomic_load(&is_halted))
        usleep(1000);
    return weft_block_in_place(wait_for_the_other_task, arg, NULL) == 0 ? arg : NULL;
}

static void *let_return(void *arg)
{
    atomic_store(&may_return, weft_sleep(WEFT_NEVER) == -ECANCELED);
    return arg;
}

/* As the destructor of a static object would. */
static void destroy_the_halted(void)
{
    (void)alarm(8); /* a hang is a failure */
    atomic_store(&is_halted, true);
    while (!atomic_load(&is_in_place))
        usleep(1000);
    _exit(weft_runtime_destroy(halted_rt) == 0 ? 7 : 9);
}

static int block_in_place_when_halted(void)
{
    weft_config c;
    if (atexit(destroy_the_halted) != 0)
        return 1;
    test_config(&c, TEST_MT1);
    if (weft_runtime_create(&c, &halted_rt) != 0)
        return 1;
    weft_spawn_options o = {.runtime = weft_runtime_handle(halted_rt)};
    if (weft_spawn_with(&o, let_return, NULL, NULL) < 0 ||
        weft_spawn_with(&o, block_when_halted, NULL, NULL) < 0)
        return 2;
    while (!atomic_load(&has_begun))
        usleep(100);
    exit(3);
}

static void a_call_in_place_while_halted_gets_its_substitute_later(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("block in place when halted", NULL), 7);
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

static int forget_armed_scope(const char *kind)
{
    weft_runtime *rt;
    weft_outcome o;
    weft_config c;
    weft_config_init(&c);
    c.flavor = WEFT_FLAVOR_CURRENT_THREAD;
    if (weft_runtime_create(&c, &rt) < 0)
        return 1;
    return weft_block_on(rt, forget_armed_scopes, (void *)kind, &o) < 0 ? 2 : 3;
}

static int forget_timeout(void)
{
    return forget_armed_scope("timeout");
}

static int forget_cancel_scope(void)
{
    return forget_armed_scope("cancel scope");
}

static void a_scope_forgotten_under_a_wait_ends_the_process(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("timeout", NULL), 256 + SIGABRT);
    CHECK_EQ(program_run("cancel scope", NULL), 256 + SIGABRT);
}

/* ---- exec ---- */

#define TERM_IS_BLOCKED 16

/* What a new program finds: its descriptors beyond stdio, and whether SIGTERM would reach it. */
static int look_around(void)
{
    sigset_t mask;
    if (sigprocmask(SIG_SETMASK, NULL, &mask) != 0)
        return 99;
    return test_count_fds() - 3 + (sigismember(&mask, SIGTERM) ? TERM_IS_BLOCKED : 0);
}

static char *const look_around_argv[] = {"test_process", "child", "look around", NULL};

/* ---- wakers that nobody gives up ---- */

static int hoard_wakers(weft_future *f, weft_waker *waker)
{
    (void)f;
    for (int i = 0; i < 1 << 24; i++) /* with the last one the count would stand at nothing */
        (void)weft_waker_ref(waker);
    return 0;
}

static void drop_nothing(weft_future *f)
{
    (void)f;
}

static int hoard(void *arg)
{
    static const weft_future_ops ops = {hoard_wakers, drop_nothing, "hoard"};
    weft_future f = {.ops = &ops};
    (void)arg;
    return weft_await(&f);
}

static int hoard_in_a_runtime(void)
{
    return weft_run(hoard, NULL);
}

static void more_wakers_than_can_be_counted_end_the_process(struct test_env *env)
{
    (void)env;
    CHECK_EQ(program_run("hoard wakers", NULL), 256 + SIGABRT);
}

/* What our own descriptors, of weft and not, add to that: nothing. */
static weft_tcp_listener *open_a_socket(void)
{
    weft_tcp_listener *l;
    CHECK_EQ(weft_tcp_listen("127.0.0.1:0", &l), 0);
    return l;
}

static void *exec_in_a_task(void *arg)
{
    weft_tcp *connected, *accepted;
    (void)open_a_socket(); /* no more than that they are open */
    socks_pair(&connected, &accepted);
    (void)execv("/proc/self/exe", look_around_argv);
    return arg;
}

static int exec_it(enum test_flavour flavour)
{
    weft_config c;
    weft_runtime *rt;
    weft_outcome o;
    test_config(&c, flavour);
    if (weft_runtime_create(&c, &rt) != 0)
        return 1;
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options on_it = {.runtime = h};
    if (weft_spawn_with(&on_it, exec_in_a_task, NULL, NULL) < 0 ||
        weft_block_on(rt, test_forever, NULL, &o) != 0)
        return 2;
    return 3;
}

static int exec_on_the_program_s_thread(void)
{
    return exec_it(TEST_CT);
}

static int exec_on_a_worker(void)
{
    return exec_it(TEST_MT4);
}

static void exec_in_a_task_leaves_nothing_but_the_signal_mask(struct test_env *env)
{
    int plain = program_run("look around", NULL); /* some are inherited from who runs us */
    (void)env;
    CHECK_EQ(program_run("exec on the program's thread", NULL), plain);
    CHECK_EQ(program_run("exec on a worker", NULL), plain + TERM_IS_BLOCKED);
}

static pid_t spawn_with_mask(const sigset_t *mask)
{
    posix_spawnattr_t attr;
    pid_t pid = -1;
    CHECK_EQ(posix_spawnattr_init(&attr), 0);
    if (mask) {
        CHECK_EQ(posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK), 0);
        CHECK_EQ(posix_spawnattr_setsigmask(&attr, mask), 0);
    }
    CHECK_EQ(posix_spawn(&pid, "/proc/self/exe", NULL, &attr, look_around_argv, environ), 0);
    CHECK_EQ(posix_spawnattr_destroy(&attr), 0);
    return pid;
}

/* The way to start programs: while others run, and with the mask one wants. */
static void a_task_starts_programs_by_posix_spawn(struct test_env *env)
{
    sigset_t none;
    (void)env;
    weft_tcp_listener *l = open_a_socket();
    sigemptyset(&none);
    int plain = program_status(spawn_with_mask(&none));
    CHECK(plain >= 0 && plain < TERM_IS_BLOCKED);
    CHECK_EQ(program_status(spawn_with_mask(NULL)), plain + TERM_IS_BLOCKED);
    CHECK_EQ(weft_tcp_listener_close(l), 0);
}

static const struct program programs[] = {
    {"exit while workers run", exit_while_workers_run},
    {"exit in a task", exit_in_a_task},
    {"exit from a call in place", exit_from_a_call_in_place},
    {"exit from a set", exit_from_a_set},
    {"exit from a local task", exit_from_a_local_task},
    {"exit from another runtime", exit_from_another_runtime},
    {"block in place when halted", block_in_place_when_halted},
    {"timeout", forget_timeout},
    {"cancel scope", forget_cancel_scope},
    {"hoard wakers", hoard_in_a_runtime},
    {"look around", look_around},
    {"exec on the program's thread", exec_on_the_program_s_thread},
    {"exec on a worker", exec_on_a_worker},
};

static const struct CMUnitTest tests[] = {
    ON_MAIN(runtime_of_the_parent_is_refused_in_a_child),
    ON_MAIN(a_task_that_goes_on_in_a_child_cannot_wait),
    PLAIN(exit_with_running_workers_is_survived),
    PLAIN(exit_called_by_a_task_ends_the_process),
    PLAIN(exit_does_not_wait_for_the_thread_that_calls_it),
    PLAIN(a_call_in_place_while_halted_gets_its_substitute_later),
    PLAIN(a_scope_forgotten_under_a_wait_ends_the_process),
    PLAIN(more_wakers_than_can_be_counted_end_the_process),
    PLAIN(exec_in_a_task_leaves_nothing_but_the_signal_mask),
    IN_TASK_ON(a_task_starts_programs_by_posix_spawn, TEST_MT4),
};

int main(int argc, char **argv)
{
    program_main(argc, argv, programs, sizeof programs / sizeof programs[0]);
    return test_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
