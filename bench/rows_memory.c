/*
 * What an idle task costs in memory.
 */
#include "bench.h"

#include <errno.h>
#include <stdatomic.h>

struct idlers {
    long n;
    bool are_polled;
    atomic_long parked;
    double rss_bytes, spawn_ns, parked_ns; /* results, for one task */
};

/* Never ready; counts its first poll, which comes right before its task parks. */
struct never {
    weft_future future;
    atomic_long *parked;
    bool was_polled;
};

static int poll_never(weft_future *f, weft_waker *waker)
{
    struct never *never = (struct never *)f;
    (void)waker; /* abort wakes the task without one */
    if (!never->was_polled)
        atomic_fetch_add_explicit(never->parked, 1, memory_order_relaxed);
    never->was_polled = true;
    return WEFT_PENDING;
}

static void cancel_never(weft_future *f)
{
    (void)f;
}

static const weft_future_ops never_ops = {poll_never, cancel_never, "nothing"};

static void *wait_forever(void *arg)
{
    struct never never = {{&never_ops}, arg, false};
    BENCH_CHECK(weft_await(&never.future) == -ECANCELED);
    return NULL;
}

static void *spawn_idlers(void *arg)
{
    struct idlers *s = arg;
    double rss = bench_status_bytes("VmRSS"), start = bench_wall_ns();
    for (long i = 0; i < s->n; i++) {
        int rc;
        if (s->are_polled) {
            struct never never = {{&never_ops}, &s->parked, false};
            static const weft_spawn_options copied = {.arg_bytes = sizeof never};
            rc = weft_spawn_future(&copied, &never.future, NULL);
        } else {
            rc = weft_spawn(wait_forever, &s->parked, NULL);
        }
        BENCH_CHECK(rc == 0);
    }
    s->spawn_ns = (bench_wall_ns() - start) / (double)s->n;
    while (atomic_load_explicit(&s->parked, memory_order_relaxed) < s->n)
        BENCH_CHECK(weft_yield() == 0);
    s->parked_ns = (bench_wall_ns() - start) / (double)s->n;
    BENCH_CHECK(weft_sleep(50 * WEFT_MS) == 0); /* the last one has switched away by then */
    bench_check_equal((uint64_t)atomic_load(&s->parked), (uint64_t)s->n);
    s->rss_bytes = (bench_status_bytes("VmRSS") - rss) / (double)s->n;
    return NULL;
}

static void *nothing(void *arg)
{
    return arg;
}

/* n tasks that wait; then the runtime is shut down, which aborts them all. */
static void idlers(const struct bench_row *row, const char *threads, long n, bool are_polled)
{
    weft_runtime *rt = bench_runtime(threads);
    struct idlers s = {.n = n, .are_polled = are_polled};
    (void)bench_in_task(rt, nothing, NULL);
    double cpu = bench_cpu_ns();
    (void)bench_in_task(rt, spawn_idlers, &s);
    cpu = (bench_cpu_ns() - cpu) / (double)n;
    double start = bench_wall_ns();
    BENCH_CHECK(weft_runtime_destroy(rt) == 0);
    double end_ns = (bench_wall_ns() - start) / (double)n;
    char extra[160];
    snprintf(extra, sizeof extra,
             "rss_bytes_per_task=%.1f spawn_ns=%.1f cpu_ns=%.1f shutdown_ns=%.1f", s.rss_bytes,
             s.spawn_ns, cpu, end_ns);
    bench_report(row, threads, n, n, &s.parked_ns, 1, extra);
}

static void idle_mem(const struct bench_row *row, const char *threads, long n)
{
    idlers(row, threads, n, false);
}

static void idle_mem_polled(const struct bench_row *row, const char *threads, long n)
{
    idlers(row, threads, n, true);
}

const struct bench_row bench_rows_memory[] = {
    {.name = "idle_mem", .n = 100000, .whole = idle_mem},
    {.name = "idle_mem_polled", .n = 1000000, .whole = idle_mem_polled},
    {.name = NULL},
};
