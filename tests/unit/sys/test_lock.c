/*
 * The lock for threads.
 */
#include "sys/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define THREADS 4
#define ROUNDS 20000

static struct weft__lock lock;
static int counter; /* guarded by lock */

static void *add_rounds(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        weft__lock_acquire(&lock);
        counter++;
        weft__lock_release(&lock);
    }
    return NULL;
}

static void one_thread_at_a_time(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_rounds, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(counter, THREADS * ROUNDS);
    assert_int_equal(weft__a32_load_relaxed(&lock.word), 0);
}

static void *hold_for_a_while(void *arg)
{
    pthread_barrier_t *barrier = arg;
    weft__lock_acquire(&lock);
    pthread_barrier_wait(barrier);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* far beyond the spinning */
    counter = 1;
    weft__lock_release(&lock);
    return NULL;
}

static void a_waiter_sleeps_and_is_woken(void **state)
{
    (void)state;
    pthread_barrier_t barrier;
    pthread_t thread;
    counter = 0;
    weft__lock_init(&lock);
    pthread_barrier_init(&barrier, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, hold_for_a_while, &barrier), 0);
    pthread_barrier_wait(&barrier);
    weft__lock_acquire(&lock);
    int seen = counter;
    weft__lock_release(&lock);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&barrier);
    assert_int_equal(seen, 1);
}

static void try_fails_while_held(void **state)
{
    (void)state;
    struct weft__lock l;
    weft__lock_init(&l);
    assert_true(weft__lock_try_acquire(&l));
    assert_false(weft__lock_try_acquire(&l));
    weft__lock_release(&l);
    assert_true(weft__lock_try_acquire(&l));
    weft__lock_release(&l);
}

static void debug_builds_count_what_a_thread_holds(void **state)
{
    (void)state;
#ifdef NDEBUG
    skip();
#else
    struct weft__lock a, b;
    weft__lock_init(&a);
    weft__lock_init(&b);
    assert_int_equal(weft__lock_held_count(), 0);
    weft__lock_acquire(&a);
    assert_true(weft__lock_try_acquire(&b));
    assert_false(weft__lock_try_acquire(&b));
    assert_int_equal(weft__lock_held_count(), 2);
    weft__lock_release(&a);
    weft__lock_release(&b);
    assert_int_equal(weft__lock_held_count(), 0);
#endif
}

#ifndef NDEBUG

static struct weft__lock of_parent, of_nobody;

static void take_of_parent(void)
{
    weft__lock_acquire(&of_parent);
}

static void try_of_parent(void)
{
    (void)weft__lock_try_acquire(&of_parent); /* in vain as well: it does not return */
}

static void take_of_parent_anew(void)
{
    (void)weft__sys_fork_guard_init(NULL);
    weft__lock_acquire(&of_parent);
}

static void take_of_nobody(void)
{
    weft__lock_acquire(&of_nobody);
    weft__lock_release(&of_nobody);
}

static void take_own(void)
{
    weft__lock_init(&of_parent);
    weft__lock_acquire(&of_parent);
    weft__lock_release(&of_parent);
}

static void take_in_grandchild(void)
{
    take_own();
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(10); /* a hang is a failure */
        weft__lock_acquire(&of_parent);
        _exit(1);
    }
    int status;
    _exit(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) ? WTERMSIG(status) : 99);
}

/* How a child ends that does this, 256 and above for a signal; what it wrote to stderr is in text.
 */
static int end_of_child(void (*take)(void), char *text, size_t cap)
{
    int out[2], status;
    size_t len = 0;
    ssize_t n;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)alarm(10); /* a hang is a failure */
        (void)dup2(out[1], STDERR_FILENO);
        take();
        _exit(0);
    }
    close(out[1]);
    while ((n = read(out[0], text + len, cap - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

#endif

/* Whether somebody holds it or not. */
static void a_forked_child_aborts_that_takes_a_lock_of_its_parents(void **state)
{
    (void)state;
#ifdef NDEBUG
    skip();
#else
    char text[16 * 1024];
    (void)weft__sys_fork_guard_init(NULL);
    weft__lock_init(&of_parent);
    for (int is_held = 0; is_held < 2; is_held++) {
        static void (*const takes[])(void) = {take_of_parent, try_of_parent, take_of_parent_anew};
        if (is_held)
            weft__lock_acquire(&of_parent);
        for (size_t i = 0; i < sizeof takes / sizeof takes[0]; i++) {
            assert_int_equal(end_of_child(takes[i], text, sizeof text), 256 + SIGABRT);
            assert_non_null(strstr(text, "a forked child takes a lock of its parent's"));
            assert_non_null(strstr(text, "test_unit_sys_lock+0x")); /* and from where */
        }
    }
    weft__lock_release(&of_parent);
    assert_int_equal(end_of_child(take_in_grandchild, text, sizeof text), SIGABRT);
#endif
}

static void a_forked_child_takes_locks_of_its_own_and_of_nobody(void **state)
{
    (void)state;
#ifdef NDEBUG
    skip();
#else
    char text[1024];
    (void)weft__sys_fork_guard_init(NULL);
    weft__lock_init(&of_parent);
    assert_int_equal(end_of_child(take_of_nobody, text, sizeof text), 0);
    assert_int_equal(end_of_child(take_own, text, sizeof text), 0);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_at_a_time),
        cmocka_unit_test(a_waiter_sleeps_and_is_woken),
        cmocka_unit_test(try_fails_while_held),
        cmocka_unit_test(debug_builds_count_what_a_thread_holds),
        cmocka_unit_test(a_forked_child_aborts_that_takes_a_lock_of_its_parents),
        cmocka_unit_test(a_forked_child_takes_locks_of_its_own_and_of_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
