/*
 * What one operation costs with few tasks and with very many: n is the number of tasks here, and
 * each row does about OPS operations whatever n is. `weft-bench --scale` prints them side by side.
 */
#include "bench.h"

#include <stdatomic.h>
#include <stdlib.h>

#define OPS 2000000

static long rounds_of(long n)
{
    return n < OPS / 2 ? OPS / n : 2;
}

struct scale {
    long n, rounds;
    long ops;  /* results */
    double ns; /* for one operation */
};

/* Repeats run(struct scale *) in a task; reports the median. */
static void measure(const struct bench_row *row, const char *threads, long n, weft_task_fn run)
{
    weft_runtime *rt = bench_runtime(threads);
    struct scale s = {.n = n, .rounds = rounds_of(n)};
    double v[100], cpu = 0, wall = 0;
    int reps = bench_reps();
    for (int rep = -1; rep < reps; rep++) {
        if (rep == 0) {
            cpu = bench_cpu_ns();
            wall = bench_wall_ns();
        }
        (void)bench_in_task(rt, run, &s);
        if (rep >= 0)
            v[rep] = s.ns;
    }
    cpu = bench_cpu_ns() - cpu;
    wall = bench_wall_ns() - wall;
    char extra[96];
    snprintf(extra, sizeof extra, "cpu_ns=%.1f cores=%.2f", cpu / (double)s.ops / reps, cpu / wall);
    bench_report(row, threads, n, s.ops, v, reps, extra);
    BENCH_CHECK(weft_runtime_destroy(rt) == 0);
}

static void *counted(size_t count, size_t bytes)
{
    void *p = calloc(count, bytes);
    BENCH_CHECK(p != NULL);
    return p;
}

static uintptr_t join(weft_task *t)
{
    weft_outcome o;
    BENCH_CHECK(weft_join(t, &o) == 0 && o.kind == WEFT_OUTCOME_VALUE);
    return (uintptr_t)o.value;
}

/* ---- spawning n, joining them all ---- */

static void *nothing(void *arg)
{
    return arg;
}

static void *spawn_and_join(void *arg)
{
    struct scale *s = arg;
    weft_task **t = counted((size_t)s->n, sizeof(*t));
    uint64_t sum = 0;
    double start = bench_wall_ns();
    for (long r = 0; r < s->rounds; r++) {
        for (long i = 0; i < s->n; i++)
            BENCH_CHECK(weft_spawn(nothing, (void *)i, &t[i]) == 0);
        for (long i = 0; i < s->n; i++)
            sum += join(t[i]);
    }
    s->ops = s->n * s->rounds;
    s->ns = (bench_wall_ns() - start) / (double)s->ops;
    bench_check_equal(sum, (uint64_t)s->rounds * bench_sum_below(s->n));
    free(t);
    return NULL;
}

static void scale_spawn(const struct bench_row *row, const char *threads, long n)
{
    measure(row, threads, n, spawn_and_join);
}

/* ---- n tasks that yield ---- */

struct yielders {
    struct scale *s;
    weft_notify start;
    atomic_long waiting, ops;
};

static void *yield_when_told(void *arg)
{
    struct yielders *y = arg;
    weft_notify_wait_future f;
    weft_notify_wait_future_init(&f, &y->start); /* from here on no start is missed */
    atomic_fetch_add(&y->waiting, 1);
    BENCH_CHECK(weft_await(&f.future) == 0);
    for (long r = 0; r < y->s->rounds; r++)
        BENCH_CHECK(weft_yield() == 0);
    atomic_fetch_add_explicit(&y->ops, y->s->rounds + 1, memory_order_relaxed); /* and the wake */
    return NULL;
}

static void *yield_all(void *arg)
{
    struct scale *s = arg;
    struct yielders y = {.s = s, .start = WEFT_NOTIFY_INIT};
    weft_task **t = counted((size_t)s->n, sizeof(*t));
    for (long i = 0; i < s->n; i++)
        BENCH_CHECK(weft_spawn(yield_when_told, &y, &t[i]) == 0);
    while (atomic_load(&y.waiting) < s->n)
        BENCH_CHECK(weft_yield() == 0);
    double start = bench_wall_ns();
    weft_notify_waiters(&y.start);
    for (long i = 0; i < s->n; i++)
        (void)join(t[i]);
    s->ops = s->n * (s->rounds + 1);
    s->ns = (bench_wall_ns() - start) / (double)s->ops;
    bench_check_equal((uint64_t)atomic_load(&y.ops), (uint64_t)s->ops);
    free(t);
    return NULL;
}

static void scale_yield(const struct bench_row *row, const char *threads, long n)
{
    measure(row, threads, n, yield_all);
}

/* ---- a token that goes round n tasks that wait ---- */

struct ring;

struct stop {
    struct ring *ring;
    weft_semaphore turn;
};

struct ring {
    struct scale *s;
    struct stop *stop;
    atomic_long hops;
};

static void *pass_on(void *arg)
{
    struct stop *me = arg;
    struct ring *ring = me->ring;
    struct stop *next = me + 1 < ring->stop + ring->s->n ? me + 1 : ring->stop;
    for (long r = 0; r < ring->s->rounds; r++) {
        BENCH_CHECK(weft_semaphore_acquire(&me->turn) == 0);
        atomic_fetch_add_explicit(&ring->hops, 1, memory_order_relaxed);
        weft_semaphore_release(&next->turn, 1);
    }
    return NULL;
}

static void *go_round(void *arg)
{
    struct scale *s = arg;
    struct ring ring = {.s = s, .stop = counted((size_t)s->n, sizeof(struct stop))};
    weft_task **t = counted((size_t)s->n, sizeof(*t));
    for (long i = 0; i < s->n; i++) {
        ring.stop[i].ring = &ring;
        BENCH_CHECK(weft_semaphore_init(&ring.stop[i].turn, 0) == 0);
        BENCH_CHECK(weft_spawn(pass_on, &ring.stop[i], &t[i]) == 0);
    }
    BENCH_CHECK(weft_sleep(20 * WEFT_MS) == 0); /* they wait by then, or soon */
    double start = bench_wall_ns();
    weft_semaphore_release(&ring.stop[0].turn, 1);
    for (long i = 0; i < s->n; i++)
        (void)join(t[i]);
    s->ops = s->n * s->rounds;
    s->ns = (bench_wall_ns() - start) / (double)s->ops;
    bench_check_equal((uint64_t)atomic_load(&ring.hops), (uint64_t)s->ops);
    free(t);
    free(ring.stop);
    return NULL;
}

static void scale_ring(const struct bench_row *row, const char *threads, long n)
{
    measure(row, threads, n, go_round);
}

const struct bench_row bench_rows_scale[] = {
    {.name = "scale_spawn", .n = 10000, .whole = scale_spawn},
    {.name = "scale_yield", .n = 10000, .whole = scale_yield},
    {.name = "scale_ring", .n = 10000, .whole = scale_ring},
    {.name = NULL},
};
