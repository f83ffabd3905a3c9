/* ctest: not-under=memcheck (where no thread is asked: see fiber/valgrind.h) */
/*
 * The call chain of a thread, asked for by a signal: answers, refusals, silence, and signals that
 * nobody asked for.
 */
#include "fiber/trace.h"
#include "sys/sys.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SOON (20 * WEFT_SEC)

struct asked {
    pthread_t thread;
    int id;                 /* written by the thread, before ready */
    int ready, awake, over; /* flags, atomic; awake: it has slept */
    bool blocks;            /* the signal */
    bool sleeps;
};

static void *be_asked(void *arg)
{
    struct asked *a = arg;
    sigset_t urgent;
    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    pthread_sigmask(a->blocks ? SIG_BLOCK : SIG_UNBLOCK, &urgent, NULL);
    a->id = weft__sys_thread_id();
    __atomic_store_n(&a->ready, 1, __ATOMIC_RELEASE);
    if (a->sleeps)
        assert_int_equal(usleep(300000), 0);
    __atomic_store_n(&a->awake, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&a->over, __ATOMIC_ACQUIRE))
        sched_yield();
    return NULL;
}

static void start(struct asked *a)
{
    assert_int_equal(pthread_create(&a->thread, NULL, be_asked, a), 0);
    while (!__atomic_load_n(&a->ready, __ATOMIC_ACQUIRE))
        usleep(1000);
}

static void stop(struct asked *a)
{
    __atomic_store_n(&a->over, 1, __ATOMIC_RELEASE);
    pthread_join(a->thread, NULL);
}

static void a_thread_answers(void **state)
{
    (void)state;
    struct asked a = {.blocks = false};
    struct weft__trace t;
    weft__trace_init();
    start(&a);
    for (int i = 0; i < 3; i++)
        assert_int_equal(weft__thread_trace(a.id, SOON, &t), 0);
    assert_true(t.count <= WEFT__TRACE_FRAMES);
    stop(&a);
}

/* False: we were held up for as long as it slept. */
static bool is_let_sleep(void)
{
    struct asked a = {.sleeps = true};
    struct weft__trace t;
    start(&a);
    while (!weft__sys_thread_is_asleep(a.id) && !__atomic_load_n(&a.awake, __ATOMIC_ACQUIRE))
        sched_yield();
    int rc = weft__thread_trace(a.id, SOON, &t);
    bool is_late = __atomic_load_n(&a.awake, __ATOMIC_ACQUIRE);
    stop(&a);
    if (is_late)
        return false;
    assert_int_equal(rc, -EINTR);
    assert_int_equal(t.count, 1);
    assert_non_null(t.frame[0]);
    return true;
}

static void one_that_sleeps_is_let_sleep(void **state)
{
    (void)state;
    const char *under = getenv("WEFT_TEST_UNDER");
    if (under != NULL && strcmp(under, "aarch64") == 0)
        skip(); /* the emulator's calls are what the kernel tells */
    int round = 0;
    while (!is_let_sleep())
        assert_true(++round < 20);
}

static void one_that_blocks_the_signal_is_given_up(void **state)
{
    (void)state;
    struct asked a = {.blocks = true}, b = {.blocks = false};
    struct weft__trace t;
    start(&a);
    start(&b);
    uint64_t began_ns = weft__sys_now_ns();
    assert_int_equal(weft__thread_trace(a.id, 20 * WEFT_MS, &t), -ETIMEDOUT);
    assert_true(weft__sys_now_ns() - began_ns >= 20 * WEFT_MS);
    assert_int_equal(t.count, 0);
    assert_int_equal(weft__thread_trace(b.id, SOON, &t), 0); /* the next is not held up */
    stop(&a);
    stop(&b);
}

static void one_that_has_ended_is_told(void **state)
{
    (void)state;
    struct weft__trace t;
    assert_int_equal(weft__thread_trace(INT32_MAX, SOON, &t), -ESRCH);
    assert_int_equal(t.count, 0);
}

/* The signal is one of the program's as well: sockets with urgent data send it. */
static void a_signal_that_nobody_asked_for_is_no_answer(void **state)
{
    (void)state;
    struct asked a = {.blocks = false};
    struct weft__trace t;
    start(&a);
    assert_int_equal(weft__thread_trace(a.id, SOON, &t), 0);
    weft__sys_signal_unblock(SIGURG);
    assert_int_equal(raise(SIGURG), 0); /* no request */
    assert_int_equal(pthread_kill(a.thread, SIGURG), 0);
    assert_int_equal(weft__thread_trace(a.id, SOON, &t), 0);
    stop(&a);
}

static void of_the_programs(int signo)
{
    (void)signo;
}

static void a_program_that_has_the_signal_keeps_it(void **state)
{
    (void)state;
    struct weft__trace t;
    struct sigaction before, now, own = {.sa_handler = of_the_programs};
    sigset_t urgent, blocked;
    assert_int_equal(sigaction(SIGURG, &own, &before), 0);
    assert_int_equal(weft__thread_trace(weft__sys_thread_id(), SOON, &t), -EBUSY);
    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    pthread_sigmask(SIG_BLOCK, &urgent, NULL);
    weft__thread_trace_allow(); /* not ours to unblock */
    pthread_sigmask(SIG_UNBLOCK, &urgent, &blocked);
    assert_true(sigismember(&blocked, SIGURG));
    assert_int_equal(sigaction(SIGURG, &before, &now), 0);
    assert_true(now.sa_handler == of_the_programs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_answers),
        cmocka_unit_test(one_that_sleeps_is_let_sleep),
        cmocka_unit_test(one_that_blocks_the_signal_is_given_up),
        cmocka_unit_test(one_that_has_ended_is_told),
        cmocka_unit_test(a_signal_that_nobody_asked_for_is_no_answer),
        cmocka_unit_test(a_program_that_has_the_signal_keeps_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
