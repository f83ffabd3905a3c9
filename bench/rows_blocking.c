/*
 * The blocking pool.
 */
#include "bench.h"

#define IN_FLIGHT 64

static void *identity(void *arg)
{
    return arg;
}

static void start(long value, weft_task **ret_task)
{
    BENCH_CHECK(weft_spawn_blocking(identity, (void *)value, ret_task) == 0);
}

static uint64_t finish(weft_task *task)
{
    weft_outcome o;
    BENCH_CHECK(weft_join(task, &o) == 0);
    BENCH_CHECK(o.kind == WEFT_OUTCOME_VALUE);
    return (uintptr_t)o.value;
}

/* One job at a time, there and back. */
static long spawn_blocking(long n)
{
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        weft_task *t;
        start(i, &t);
        sum += finish(t);
    }
    bench_check_equal(sum, bench_sum_below(n));
    return n;
}

/* Many in flight. */
static long spawn_blocking_batch(long n)
{
    long rounds = n / IN_FLIGHT;
    uint64_t sum = 0;
    for (long r = 0; r < rounds; r++) {
        weft_task *t[IN_FLIGHT];
        for (long i = 0; i < IN_FLIGHT; i++)
            start(i, &t[i]);
        for (long i = 0; i < IN_FLIGHT; i++)
            sum += finish(t[i]);
    }
    bench_check_equal(sum, (uint64_t)rounds * bench_sum_below(IN_FLIGHT));
    return rounds * IN_FLIGHT;
}

const struct bench_row bench_rows_blocking[] = {
    {.name = "spawn_blocking", .n = 10000, .op = spawn_blocking},
    {.name = "spawn_blocking_batch", .n = 64000, .op = spawn_blocking_batch},
    {.name = NULL},
};
