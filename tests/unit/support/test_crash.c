/* ctest: not-under=address,thread,memcheck,aarch64 (they report crashes their way) */
/*
 * A test that crashes in a thread of its own is killed by the signal: see tests/support/always.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int *volatile nowhere;

static void *crash(void *arg)
{
    *nowhere = 1;
    return arg;
}

static void crash_in_a_thread(void **state)
{
    (void)state;
    pthread_t thread;
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0}); /* no more than a nicety */
    (void)pthread_create(&thread, NULL, crash, NULL);
    (void)pthread_join(thread, NULL);
}

static void a_crash_in_any_thread_kills_the_test(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct CMUnitTest tests[] = {cmocka_unit_test(crash_in_a_thread)};
        (void)alarm(30); /* a hang is a failure */
        _exit(cmocka_run_group_tests(tests, NULL, NULL));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void ignored(int signo)
{
    (void)signo;
}

static void handlers_of_the_program_are_set(void **state)
{
    (void)state;
    assert_true(signal(SIGUSR1, ignored) == SIG_DFL);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_true(signal(SIGUSR1, SIG_IGN) == ignored);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_true(signal(SIGUSR1, SIG_DFL) == SIG_IGN);
    assert_true(signal(-1, SIG_DFL) == SIG_ERR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_in_any_thread_kills_the_test),
        cmocka_unit_test(handlers_of_the_program_are_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
