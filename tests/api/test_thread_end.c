/* ctest: parallel not-under=address,thread,memcheck,aarch64 (threads that are ended from
 * outside) */
/* Threads that end, or are told to, while they run tasks; jumps out of frames. */
#include "harness.h"
#include "program.h"

#include <weft/net.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static weft_runtime *create(enum test_flavour flavour)
{
    weft_config c;
    weft_runtime *rt;
    test_config(&c, flavour);
    if (weft_runtime_create(&c, &rt) != 0)
        _exit(90);
    return rt;
}

/* ---- pthread_cancel ---- */

static void *cancel_own_thread(void *arg)
{
    if (pthread_cancel(pthread_self()) != 0)
        return NULL;
    pthread_testcancel(); /* and every call below is a point of cancellation */
    char c;
    int ends[2];
    if (pipe(ends) != 0 || write(ends[1], "x", 1) != 1 || read(ends[0], &c, 1) != 1)
        return NULL;
    close(ends[0]);
    close(ends[1]);
    return weft_sleep(WEFT_MS) == 0 ? arg : NULL;
}

static void *cancel_all_workers(void *arg)
{
    for (int i = 0; i < 20; i++)
        CHECK(test_join_value(SPAWN(cancel_own_thread, arg)) == arg);
    weft_task *job;
    CHECK_EQ(weft_spawn_blocking(cancel_own_thread, arg, &job), 0);
    CHECK(test_join_value(job) == arg);
    return arg;
}

static void threads_of_weft_are_not_cancelled(struct test_env *env)
{
    (void)cancel_all_workers(env);
}

struct blocker {
    weft_runtime *rt;
    atomic_bool began, ended;
};

static void *block_in_body(void *arg)
{
    struct blocker *b = arg;
    atomic_store(&b->began, true);
    pthread_testcancel();
    for (int i = 0; i < 20; i++) {
        (void)usleep(1000); /* a point of cancellation */
        if (weft_sleep(WEFT_MS) != 0)
            return NULL;
    }
    atomic_store(&b->ended, true);
    return NULL;
}

static void *block_on(void *arg)
{
    struct blocker *b = arg;
    EXPECT_EQ(weft_block_on(b->rt, block_in_body, b, NULL), 0);
    pthread_testcancel();
    return NULL; /* not reached */
}

/* What was asked for meanwhile happens afterwards, and the runtime is none the worse. */
static void a_thread_is_cancelled_after_weft_block_on(struct test_env *env)
{
    struct blocker b = {.rt = env->rt};
    pthread_t thread;
    void *value;
    CHECK_EQ(pthread_create(&thread, NULL, block_on, &b), 0);
    CHECK_SOON(atomic_load(&b.began));
    CHECK_EQ(pthread_cancel(thread), 0);
    CHECK_EQ(pthread_join(thread, &value), 0);
    CHECK(value == PTHREAD_CANCELED);
    CHECK(atomic_load(&b.ended));
    CHECK(test_block_on(env->rt, test_noop, env) == env);
}

/* ---- pthread_exit ---- */

static void *exit_thread(void *arg)
{
    pthread_exit(arg);
}

static int exit_in(enum test_flavour flavour, bool in_body, bool in_job)
{
    weft_runtime *rt = create(flavour);
    if (in_body)
        return weft_block_on(rt, exit_thread, NULL, NULL);
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options o = {.runtime = h, .name = "quitter"};
    int rc = in_job ? weft_spawn_blocking_with(&o, exit_thread, NULL, NULL)
                    : weft_spawn_with(&o, exit_thread, NULL, NULL);
    return rc ? rc : weft_block_on(rt, test_forever, NULL, NULL);
}

static int exit_in_a_task_ct(void)
{
    return exit_in(TEST_CT, false, false);
}

static int exit_in_a_task_mt(void)
{
    return exit_in(TEST_MT4, false, false);
}

static int exit_in_a_body_ct(void)
{
    return exit_in(TEST_CT, true, false);
}

static int exit_in_a_body_mt(void)
{
    return exit_in(TEST_MT4, true, false);
}

static int exit_in_a_job(void)
{
    return exit_in(TEST_MT4, false, true);
}

static void *exit_in_place(void *arg)
{
    CHECK_EQ(weft_block_in_place(exit_thread, arg, NULL), 0);
    return arg;
}

static int exit_in_a_call_in_place(void)
{
    weft_runtime *rt = create(TEST_MT4);
    weft_handle *h = weft_runtime_handle(rt);
    weft_spawn_options o = {.runtime = h, .name = "quitter"};
    int rc = weft_spawn_with(&o, exit_in_place, NULL, NULL);
    return rc ? rc : weft_block_on(rt, test_forever, NULL, NULL);
}

static void expect_death(const char *program, const char *message)
{
    const char *said;
    EXPECT_EQ(program_run(program, &said), 256 + SIGABRT);
    if (strstr(said, message) == NULL)
        test_record(__FILE__, __LINE__, "%s said: %s", program, said);
}

static void pthread_exit_in_a_task_names_the_task(struct test_env *env)
{
    (void)env;
    expect_death("exit in a task, ct", "\"quitter\", spawned at ");
    expect_death("exit in a task, mt", "\"quitter\", spawned at ");
    expect_death("exit in a job", "\"quitter\", spawned at ");
    expect_death("exit in place", "\"quitter\", spawned at ");
    expect_death("exit in a body, ct", "has ended its thread (pthread_exit or pthread_cancel)");
    expect_death("exit in a body, mt", "has ended its thread (pthread_exit or pthread_cancel)");
}

/* A thread that used weft, and does nothing of it when it ends. */
static void *use_and_exit(void *arg)
{
    EXPECT_EQ(weft_block_on(arg, test_noop, NULL, NULL), 0);
    pthread_exit(arg);
}

static void pthread_exit_after_weft_block_on_is_fine(struct test_env *env)
{
    pthread_t thread;
    void *value;
    CHECK_EQ(pthread_create(&thread, NULL, use_and_exit, env->rt), 0);
    CHECK_EQ(pthread_join(thread, &value), 0);
    CHECK(value == env->rt);
}

/* ---- longjmp ---- */

static int deep(jmp_buf env, int depth)
{
    if (depth > 0)
        return deep(env, depth - 1) + 1;
    if (weft_yield() != 0)
        return 0;
    longjmp(env, 7);
}

/* Within the frames of one task, waits between or not, on whatever thread it is by then. */
static void longjmp_within_a_task(struct test_env *test)
{
    (void)test;
    for (volatile int i = 0; i < 50; i++) {
        jmp_buf env;
        int rc = setjmp(env);
        if (rc == 0) {
            CHECK_EQ(weft_sleep(10 * WEFT_US), 0);
            (void)deep(env, 5); /* does not return */
        }
        CHECK_EQ(rc, 7);
        CHECK_EQ(weft_yield(), 0);
    }
}

#ifndef NDEBUG
static jmp_buf outside;

static void *jump_out(void *arg)
{
    longjmp(outside, 1);
    return arg;
}

/* The frames of weft_block_on() are gone, and the thread still counts as a task's. */
static int jump_out_of_a_task(void)
{
    weft_runtime *rt = create(TEST_CT);
    if (setjmp(outside) == 0)
        return weft_block_on(rt, jump_out, NULL, NULL);
    return weft_sleep(WEFT_MS);
}
#endif

/* Undefined; a debug build of weft finds out at the next switch. */
static void longjmp_out_of_a_task_is_found_by_debug_builds(struct test_env *env)
{
    (void)env;
#ifndef NDEBUG
    expect_death("jump out of a task", "fiber_stands_on(from)");
#else
    skip();
#endif
}

static const struct program programs[] = {
    {"exit in a task, ct", exit_in_a_task_ct},  {"exit in a task, mt", exit_in_a_task_mt},
    {"exit in a body, ct", exit_in_a_body_ct},  {"exit in a body, mt", exit_in_a_body_mt},
    {"exit in a job", exit_in_a_job},           {"exit in place", exit_in_a_call_in_place},
#ifndef NDEBUG
    {"jump out of a task", jump_out_of_a_task},
#endif
};

static const struct CMUnitTest tests[] = {
    IN_TASK_ON(threads_of_weft_are_not_cancelled, TEST_MT4),
    ON_MAIN(a_thread_is_cancelled_after_weft_block_on),
    PLAIN(pthread_exit_in_a_task_names_the_task),
    ON_MAIN(pthread_exit_after_weft_block_on_is_fine),
    IN_TASK(longjmp_within_a_task),
    PLAIN(longjmp_out_of_a_task_is_found_by_debug_builds),
};

int main(int argc, char **argv)
{
    program_main(argc, argv, programs, sizeof programs / sizeof programs[0]);
    return test_main(tests, sizeof tests / sizeof tests[0], argc, argv);
}
