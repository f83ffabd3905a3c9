/*
 * The lock for threads.
 */
#include "sys/lock.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_at_a_time),
        cmocka_unit_test(a_waiter_sleeps_and_is_woken),
        cmocka_unit_test(try_fails_while_held),
        cmocka_unit_test(debug_builds_count_what_a_thread_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
