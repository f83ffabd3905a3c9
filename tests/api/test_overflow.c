/* ctest: parallel not-under=address,thread,memcheck,aarch64 (unit.fiber.overflow knows what they
 * do) */
/* A task that overflows its stack ends the process with a line that names the task. */
#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weft/local.h>

__attribute__((noinline)) static int recurse(volatile char *above, int depth)
{
    volatile char frame[512];
    frame[0] = above ? above[0] : (char)depth; /* a frame each: this is no loop */
    int below = depth < 0 ? 0 : recurse(frame, depth + (frame[0] != 99));
    return below + frame[0];
}

static void *overflow(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)recurse(NULL, 1);
}

static volatile int *volatile stray = (volatile int *)0x10;

static void *write_stray(void *arg)
{
    *stray = 1;
    return arg;
}

struct victim {
    weft_task_fn fn;
    const char *name; /* NULL: a task without */
    enum test_flavour flavour;
    bool is_in_set;               /* a task of a local set, not of a runtime */
    bool has_former;              /* the thread has driven a set that goes in the body */
    weft_local_set *set, *former; /* made by die() */
};

static void *spawn_victim(void *arg)
{
    const struct victim *v = arg;
    weft_spawn_options o = {.name = v->name, .local_set = v->set};
    weft_task *t;
    CHECK_EQ(weft_local_set_destroy(v->former), 0);
    CHECK_EQ(weft_spawn_with(&o, v->fn, NULL, &t), 0);
    return test_join_value(t);
}

/* In a child: does not come back. */
static void die(struct victim *v)
{
    weft_outcome o;
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0}); /* no more than a nicety */
    alarm(30);
    (void)signal(SIGSEGV, SIG_DFL); /* cmocka has its own, to which weft's would hand on */
    (void)signal(SIGBUS, SIG_DFL);
    if (v->has_former) {
        CHECK_EQ(weft_local_set_create(NULL, &v->former), 0);
        CHECK_EQ(weft_local_set_wait(v->former), 0);
    }
    if (v->is_in_set) {
        CHECK_EQ(weft_local_set_create(NULL, &v->set), 0);
        (void)!weft_local_set_run_until(v->set, spawn_victim, v, &o);
    } else {
        weft_runtime *rt = test_runtime_create(v->flavour);
        (void)!weft_block_on(rt, spawn_victim, v, &o);
    }
    _exit(1);
}

/* What the child wrote to stderr; it died of the fault. */
static void run_child(struct victim *v, char *text, size_t cap)
{
    int fd[2], status;
    size_t len = 0;
    CHECK_EQ(pipe(fd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(fd[1], STDERR_FILENO);
        die(v);
    }
    CHECK(pid > 0);
    close(fd[1]);
    for (ssize_t n; len < cap - 1 && (n = read(fd[0], text + len, cap - 1 - len)) > 0;)
        len += (size_t)n;
    text[len] = '\0';
    close(fd[0]);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS);
}

static void expect_death(struct victim *v, const char *what)
{
    char text[16384];
    run_child(v, text, sizeof(text));
    if (strstr(text, what) == NULL || strstr(text, "test_overflow.c") == NULL ||
        (v->name != NULL && strstr(text, v->name) == NULL))
        test_record(__FILE__, __LINE__, "no %s of %s in: %s", what, v->name ? v->name : "a task",
                    text);
}

static void expect_named(weft_task_fn fn, const char *name, enum test_flavour flavour,
                         const char *what)
{
    struct victim v = {.fn = fn, .name = name, .flavour = flavour};
    expect_death(&v, what);
}

static void an_overflow_names_the_task(struct test_env *env)
{
    (void)env;
    expect_named(overflow, "deep diver", TEST_CT, "overflow");
    expect_named(overflow, "deep diver", TEST_MT4, "overflow");
    expect_named(overflow, NULL, TEST_MT1, "overflow");
}

static void a_stray_write_names_the_task(struct test_env *env)
{
    (void)env;
    expect_named(write_stray, "scribbler", TEST_MT1, "0x10");
}

static void an_overflow_in_a_local_set_names_the_task(struct test_env *env)
{
    (void)env;
    struct victim v = {.fn = overflow, .name = "deep diver", .is_in_set = true};
    expect_death(&v, "overflow");
}

/* The first of all on a thread that needs a signal stack makes it, and others use it. */
static void an_overflow_is_named_when_an_earlier_local_set_is_gone(struct test_env *env)
{
    (void)env;
    struct victim v = {.fn = overflow, .name = "deep diver", .has_former = true};
    v.flavour = TEST_CT;
    expect_death(&v, "overflow");
    v.is_in_set = true;
    expect_death(&v, "overflow");
}

TEST_MAIN(PLAIN(an_overflow_names_the_task), PLAIN(a_stray_write_names_the_task),
          PLAIN(an_overflow_in_a_local_set_names_the_task),
          PLAIN(an_overflow_is_named_when_an_earlier_local_set_is_gone))
