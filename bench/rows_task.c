/*
 * Spawning, joining, switching between tasks, waking.
 */
#include "bench.h"

#include <stdatomic.h>
#include <stdlib.h>

#define BATCH 10000 /* tasks alive at a time in the spawn_many rows */
#define DEPTH 1000  /* length of a chain, and number of pairs in ping_pong */

static void *identity(void *arg)
{
    return arg;
}

static void spawn(weft_task_fn fn, void *arg, weft_task **ret_task)
{
    BENCH_CHECK(weft_spawn(fn, arg, ret_task) == 0);
}

static uintptr_t join(weft_task *task)
{
    weft_outcome o;
    BENCH_CHECK(weft_join(task, &o) == 0);
    BENCH_CHECK(o.kind == WEFT_OUTCOME_VALUE);
    return (uintptr_t)o.value;
}

/* Spawn a task that does nothing, and join it. */
static long spawn_join_seq(long n)
{
    uintptr_t sum = 0;
    for (long i = 0; i < n; i++) {
        weft_task *t;
        spawn(identity, (void *)i, &t);
        sum += join(t);
    }
    bench_check_equal(sum, bench_sum_below(n));
    return n;
}

/* ---- many at once ---- */

struct countdown {
    atomic_long left;
    struct bench_oneshot done;
};

static void countdown_init(struct countdown *c, long count)
{
    atomic_init(&c->left, count);
    bench_oneshot_init(&c->done);
}

static void countdown_step(struct countdown *c)
{
    /* acq_rel: what all did comes before the send */
    if (atomic_fetch_sub_explicit(&c->left, 1, memory_order_acq_rel) == 1)
        bench_oneshot_send(&c->done);
}

static void countdown_wait(struct countdown *c)
{
    BENCH_CHECK(weft_await(&c->done.future) == 0);
}

static void *count_me(void *arg)
{
    countdown_step(arg);
    return NULL;
}

/* Detached tasks from one task; the last to end signals. */
static long spawn_many(long n)
{
    long batch = n < BATCH ? n : BATCH;
    long rounds = n / batch;
    for (long r = 0; r < rounds; r++) {
        struct countdown c;
        countdown_init(&c, batch);
        for (long i = 0; i < batch; i++)
            spawn(count_me, &c, NULL);
        countdown_wait(&c);
        bench_check_equal((uint64_t)atomic_load(&c.left), 0);
    }
    return rounds * batch;
}

/* Many from one task, which keeps the handles and joins them all. */
static long spawn_many_join(long n)
{
    long batch = n < BATCH ? n : BATCH;
    long rounds = n / batch;
    weft_task **t = malloc((size_t)batch * sizeof *t);
    BENCH_CHECK(t != NULL);
    uintptr_t sum = 0;
    for (long r = 0; r < rounds; r++) {
        for (long i = 0; i < batch; i++)
            spawn(identity, (void *)i, &t[i]);
        for (long i = 0; i < batch; i++)
            sum += join(t[i]);
    }
    bench_check_equal(sum, (uint64_t)rounds * bench_sum_below(batch));
    free(t);
    return rounds * batch;
}

/* Measures what a thread that is no worker does: op(rt, n), which returns how many operations it
 * did. */
static void outside(const struct bench_row *row, const char *threads, long n,
                    long (*op)(weft_runtime *rt, long n))
{
    weft_runtime *rt = bench_runtime(threads);
    double v[100], cpu = 0, wall = 0;
    long ops = 0;
    int reps = bench_reps();
    for (int rep = -1; rep < reps; rep++) {
        if (rep == 0) {
            cpu = bench_cpu_ns();
            wall = bench_wall_ns();
        }
        double start = bench_wall_ns();
        ops = op(rt, n);
        if (rep >= 0)
            v[rep] = (bench_wall_ns() - start) / (double)ops;
    }
    cpu = bench_cpu_ns() - cpu;
    wall = bench_wall_ns() - wall;
    char extra[96];
    snprintf(extra, sizeof extra, "cpu_ns=%.1f cores=%.2f", cpu / (double)ops / (double)reps,
             cpu / wall);
    bench_report(row, threads, n, ops, v, reps, extra);
    BENCH_CHECK(weft_runtime_destroy(rt) == 0);
}

static weft_task *remote_task[BATCH];

static void *join_all(void *arg)
{
    uintptr_t sum = 0;
    for (long i = 0; i < (long)arg; i++)
        sum += join(remote_task[i]);
    bench_check_equal(sum, bench_sum_below((long)arg));
    return NULL;
}

static long spawn_and_join_outside(weft_runtime *rt, long n)
{
    weft_spawn_options options = {.runtime = weft_runtime_handle(rt)};
    long batch = n < BATCH ? n : BATCH, rounds = n / batch;
    for (long r = 0; r < rounds; r++) {
        for (long i = 0; i < batch; i++)
            BENCH_CHECK(weft_spawn_with(&options, identity, (void *)i, &remote_task[i]) == 0);
        BENCH_CHECK(weft_block_on(rt, join_all, (void *)batch, NULL) == 0);
    }
    weft_handle_unref(options.runtime);
    return rounds * batch;
}

/* Spawned from a thread that is no worker. */
static void spawn_many_remote(const struct bench_row *row, const char *threads, long n)
{
    outside(row, threads, n, spawn_and_join_outside);
}

static void *join_each(void *arg)
{
    (void)spawn_join_seq((long)arg);
    return NULL;
}

static long join_each_outside(weft_runtime *rt, long n)
{
    BENCH_CHECK(weft_block_on(rt, join_each, (void *)n, NULL) == 0);
    return n;
}

/* Spawned and joined by the body of weft_block_on(), which runs on the thread that called it. */
static void block_on_join(const struct bench_row *row, const char *threads, long n)
{
    outside(row, threads, n, join_each_outside);
}

struct chain {
    struct bench_oneshot done;
    long depth; /* result: of the last link */
};

struct link {
    struct chain *chain;
    long left, depth;
};

static void *add_link(void *arg)
{
    struct link *l = arg;
    if (l->left == 0) {
        l->chain->depth = l->depth;
        bench_oneshot_send(&l->chain->done);
        return NULL;
    }
    struct link next = {l->chain, l->left - 1, l->depth + 1};
    static const weft_spawn_options copied = {.arg_bytes = sizeof next};
    BENCH_CHECK(weft_spawn_with(&copied, add_link, &next, NULL) == 0);
    return NULL;
}

/* Each task spawns the next one and ends; the argument is copied into the task. */
static long chained_spawn(long n)
{
    long depth = n < DEPTH ? n : DEPTH;
    long rounds = n / depth;
    for (long r = 0; r < rounds; r++) {
        struct chain c = {.depth = 0};
        bench_oneshot_init(&c.done);
        struct link first = {&c, depth, 0};
        (void)add_link(&first);
        BENCH_CHECK(weft_await(&c.done.future) == 0);
        bench_check_equal((uint64_t)c.depth, (uint64_t)depth);
    }
    return rounds * depth;
}

/* ---- switching ---- */

static void *yield_often(void *arg)
{
    uintptr_t count = 0;
    for (; count < (uintptr_t)arg; count++)
        BENCH_CHECK(weft_yield() == 0);
    return (void *)count;
}

static long yields(long n, int tasks)
{
    weft_task *t[200];
    long each = n / tasks;
    for (int i = 0; i < tasks; i++)
        spawn(yield_often, (void *)each, &t[i]);
    uint64_t sum = 0;
    for (int i = 0; i < tasks; i++)
        sum += join(t[i]);
    bench_check_equal(sum, (uint64_t)(each * tasks));
    return each * tasks;
}

/* 200 tasks that yield. */
static long yield_many(long n)
{
    return yields(n, 200);
}

/* Two tasks that yield to each other. */
static long ctx_switch(long n)
{
    return yields(n, 2);
}

/* ---- waking ---- */

struct pair {
    struct bench_oneshot there, back;
};

static void *answer(void *arg)
{
    struct pair *p = arg;
    BENCH_CHECK(weft_await(&p->there.future) == 0);
    bench_oneshot_send(&p->back);
    return NULL;
}

/* Spawns a partner, sends to it, waits for its answer. */
static void *ask(void *arg)
{
    struct pair p;
    bench_oneshot_init(&p.there);
    bench_oneshot_init(&p.back);
    spawn(answer, &p, NULL);
    bench_oneshot_send(&p.there);
    BENCH_CHECK(weft_await(&p.back.future) == 0);
    countdown_step(arg);
    return NULL;
}

struct asking {
    struct countdown *c;
    long count;
};

static void *ask_often(void *arg)
{
    const struct asking *a = arg;
    struct countdown *c = a->c;
    for (long i = a->count; i > 0; i--)
        spawn(ask, c, NULL);
    return NULL;
}

/* Pairs of tasks that exchange a oneshot each way; as many pairs at a time as a task can spawn. */
static long ping_pong(long n)
{
    long pairs = n < DEPTH ? n : DEPTH;
    long rounds = n / pairs;
    for (long r = 0; r < rounds; r++) {
        struct countdown c;
        countdown_init(&c, pairs);
        struct asking a = {&c, pairs};
        spawn(ask_often, &a, NULL);
        countdown_wait(&c);
        bench_check_equal((uint64_t)atomic_load(&c.left), 0);
    }
    return rounds * pairs;
}

const struct bench_row bench_rows_task[] = {
    {.name = "spawn_join_seq", .n = 500000, .is_micro = true, .op = spawn_join_seq},
    {.name = "spawn_many", .n = 200000, .is_micro = true, .op = spawn_many},
    {.name = "spawn_many_join", .n = 200000, .is_micro = true, .op = spawn_many_join},
    {.name = "spawn_many_remote", .n = 100000, .whole = spawn_many_remote},
    {.name = "block_on_join", .n = 20000, .whole = block_on_join},
    {.name = "chained_spawn", .n = 200000, .is_micro = true, .op = chained_spawn},
    {.name = "yield_many", .n = 1000000, .is_micro = true, .op = yield_many},
    {.name = "ctx_switch", .n = 1000000, .is_micro = true, .op = ctx_switch},
    {.name = "ping_pong", .n = 50000, .is_micro = true, .op = ping_pong},
    {.name = NULL},
};
