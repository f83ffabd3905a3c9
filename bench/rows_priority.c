/*
 * Priorities under overload: what one turn costs, and which share of the turns each class has.
 */
#include "bench.h"

#include <stdatomic.h>

#define TASKS_EACH 10
#define CLASSES 3
#define COMPUTE_NS (20 * WEFT_US)

static const enum weft_priority classes[CLASSES] = {WEFT_PRIORITY_URGENT, WEFT_PRIORITY_NORMAL,
                                                    WEFT_PRIORITY_BACKGROUND};

struct crowd {
    _Alignas(64) atomic_long turns[CLASSES];
    _Alignas(64) atomic_bool is_over;
    bool computes;
    long n;
    double wall_ns;
    long first[CLASSES], share[CLASSES]; /* turns before what is measured; and those measured */
};

struct member {
    struct crowd *crowd;
    int class;
};

static void *take_turns(void *arg)
{
    struct member m = *(struct member *)arg;
    while (!atomic_load_explicit(&m.crowd->is_over, memory_order_relaxed)) {
        if (m.crowd->computes)
            for (uint64_t end = weft_now() + COMPUTE_NS; weft_now() < end;)
                ;
        atomic_fetch_add_explicit(&m.crowd->turns[m.class], 1, memory_order_relaxed);
        BENCH_CHECK(weft_yield() == 0);
    }
    return NULL;
}

static long sum_turns(struct crowd *c, long *by_class)
{
    long sum = 0;
    for (int i = 0; i < CLASSES; i++)
        sum += by_class[i] = atomic_load(&c->turns[i]);
    return sum;
}

/* All are always ready: more than any number of workers gets done. */
static void *overload(void *arg)
{
    struct crowd *c = arg;
    weft_task *tasks[CLASSES * TASKS_EACH];
    for (int i = 0; i < CLASSES * TASKS_EACH; i++) {
        struct member m = {c, i % CLASSES};
        weft_spawn_options options = {.priority = classes[i % CLASSES], .arg_bytes = sizeof m};
        BENCH_CHECK(weft_spawn_with(&options, take_turns, &m, &tasks[i]) == 0);
    }
    BENCH_CHECK(weft_sleep(20 * WEFT_MS) == 0);
    long before = sum_turns(c, c->first), done;
    double start = bench_wall_ns();
    do {
        BENCH_CHECK(weft_sleep(5 * WEFT_MS) == 0);
        done = sum_turns(c, c->share) - before;
    } while (done < c->n);
    c->wall_ns = (bench_wall_ns() - start) / (double)done;
    for (int i = 0; i < CLASSES; i++)
        c->share[i] -= c->first[i];
    c->n = done;
    atomic_store(&c->is_over, true);
    for (int i = 0; i < CLASSES * TASKS_EACH; i++)
        BENCH_CHECK(weft_join(tasks[i], NULL) == 0);
    return NULL;
}

static void measure(const struct bench_row *row, const char *threads, long n, bool computes)
{
    int reps = bench_reps();
    double v[99], share[CLASSES] = {0};
    for (int rep = 0; rep < reps; rep++) {
        struct crowd crowd = {.computes = computes, .n = n};
        weft_runtime *rt = bench_runtime(threads);
        (void)bench_in_task(rt, overload, &crowd);
        BENCH_CHECK(weft_runtime_destroy(rt) == 0);
        v[rep] = crowd.wall_ns;
        for (int i = 0; i < CLASSES; i++)
            share[i] += 100.0 * (double)crowd.share[i] / (double)crowd.n / reps;
    }
    char extra[96];
    snprintf(extra, sizeof extra, "urgent=%.1f%% normal=%.1f%% background=%.1f%%", share[0],
             share[1], share[2]);
    bench_report(row, threads, n, n, v, reps, extra);
}

/* 10 tasks of each class that only yield. */
static void classes_yield(const struct bench_row *row, const char *threads, long n)
{
    measure(row, threads, n, false);
}

/* 10 tasks of each class that compute for 20 us a turn. */
static void classes_compute(const struct bench_row *row, const char *threads, long n)
{
    measure(row, threads, n, true);
}

const struct bench_row bench_rows_priority[] = {
    {.name = "classes_yield", .n = 200000, .whole = classes_yield},
    {.name = "classes_compute", .n = 4000, .whole = classes_compute},
    {.name = NULL},
};
