/*
 * Mutex and semaphore: alone, and with eight tasks that want them.
 */
#include "bench.h"

#include <stdatomic.h>

#define TASKS 8

struct shared {
    weft_mutex mutex;
    weft_semaphore semaphore;
    long each;
    uint64_t count; /* under the mutex */
    atomic_long acquired;
};

/* Eight tasks run body(shared) at the same time. */
static void in_tasks(struct shared *s, weft_task_fn body)
{
    weft_task *t[TASKS];
    for (int i = 0; i < TASKS; i++)
        BENCH_CHECK(weft_spawn(body, s, &t[i]) == 0);
    for (int i = 0; i < TASKS; i++)
        BENCH_CHECK(weft_join(t[i], NULL) == 0);
}

static long with_mutex(long n, weft_task_fn body)
{
    struct shared s = {.mutex = WEFT_MUTEX_INIT, .each = n / TASKS};
    in_tasks(&s, body);
    bench_check_equal(s.count, (uint64_t)s.each * TASKS);
    return s.each * TASKS;
}

static long mutex_uncontended(long n)
{
    weft_mutex m = WEFT_MUTEX_INIT;
    volatile uint64_t count = 0;
    for (long i = 0; i < n; i++) {
        BENCH_CHECK(weft_mutex_lock(&m) == 0);
        count = count + 1;
        weft_mutex_unlock(&m);
    }
    bench_check_equal(count, (uint64_t)n);
    return n;
}

static void *count_up(void *arg)
{
    struct shared *s = arg;
    for (long i = 0; i < s->each; i++) {
        BENCH_CHECK(weft_mutex_lock(&s->mutex) == 0);
        s->count++;
        weft_mutex_unlock(&s->mutex);
    }
    return NULL;
}

/* A counter under a mutex. */
static long mutex_contended(long n)
{
    return with_mutex(n, count_up);
}

static void *count_up_and_yield(void *arg)
{
    struct shared *s = arg;
    for (long i = 0; i < s->each; i++) {
        BENCH_CHECK(weft_mutex_lock(&s->mutex) == 0);
        s->count++;
        BENCH_CHECK(weft_yield() == 0);
        weft_mutex_unlock(&s->mutex);
    }
    return NULL;
}

/* A yield inside the section, so that the others queue. */
static long mutex_yield(long n)
{
    return with_mutex(n, count_up_and_yield);
}

static void *take_permits(void *arg)
{
    struct shared *s = arg;
    long i = 0;
    for (; i < s->each; i++) {
        BENCH_CHECK(weft_semaphore_acquire(&s->semaphore) == 0);
        weft_semaphore_release(&s->semaphore, 1);
    }
    atomic_fetch_add(&s->acquired, i);
    return NULL;
}

static long with_semaphore(long n, size_t permits)
{
    struct shared s = {.each = n / TASKS};
    BENCH_CHECK(weft_semaphore_init(&s.semaphore, permits) == 0);
    in_tasks(&s, take_permits);
    bench_check_equal((uint64_t)s.acquired, (uint64_t)s.each * TASKS);
    bench_check_equal(weft_semaphore_available(&s.semaphore), permits);
    return s.each * TASKS;
}

/* One permit, and four. */
static long sem_contended(long n)
{
    return with_semaphore(n, 1);
}

static long sem4_contended(long n)
{
    return with_semaphore(n, 4);
}

const struct bench_row bench_rows_locks[] = {
    {.name = "mutex_uncontended", .n = 2000000, .is_micro = true, .op = mutex_uncontended},
    {.name = "mutex_contended", .n = 1000000, .is_micro = true, .op = mutex_contended},
    {.name = "mutex_yield", .n = 500000, .is_micro = true, .op = mutex_yield},
    {.name = "sem_contended", .n = 1000000, .is_micro = true, .op = sem_contended},
    {.name = "sem4_contended", .n = 1000000, .is_micro = true, .op = sem4_contended},
    {.name = NULL},
};
