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

static void finish(weft_task *task, long value)
{
    weft_outcome o;
    BENCH_CHECK(weft_join(task, &o) == 0);
    BENCH_CHECK(o.kind == WEFT_OUTCOME_VALUE && o.value == (void *)value);
}

/* One job at a time, there and back. */
static long spawn_blocking(long n)
{
    for (long i = 0; i < n; i++) {
        weft_task *t;
        start(i, &t);
        finish(t, i);
    }
    return n;
}

/* Many in flight. */
static long spawn_blocking_batch(long n)
{
    long rounds = n / IN_FLIGHT;
    for (long r = 0; r < rounds; r++) {
        weft_task *t[IN_FLIGHT];
        for (long i = 0; i < IN_FLIGHT; i++)
            start(i, &t[i]);
        for (long i = 0; i < IN_FLIGHT; i++)
            finish(t[i], i);
    }
    return rounds * IN_FLIGHT;
}

const struct bench_row bench_rows_blocking[] = {
    {.name = "spawn_blocking", .n = 10000, .op = spawn_blocking},
    {.name = "spawn_blocking_batch", .n = 64000, .op = spawn_blocking_batch},
    {.name = NULL},
};
