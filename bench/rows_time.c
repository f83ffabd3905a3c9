/*
 * Timeouts, sleeping, how late timers fire.
 */
#include "bench.h"

#include <stdlib.h>

/* ---- timeout scopes ---- */

static int poll_ready(weft_future *f, weft_waker *waker)
{
    (void)f;
    (void)waker;
    return 0;
}

static void cancel_nothing(weft_future *f)
{
    (void)f;
}

/* A scope around a wait that is ready: no timer is armed. */
static long timeout_ready(long n)
{
    static const weft_future_ops ops = {poll_ready, cancel_nothing, "ready"};
    uint64_t count = 0;
    for (long i = 0; i < n; i++) {
        weft_future ready = {&ops};
        int rc = -1;
        WEFT_TIMEOUT(5 * WEFT_SEC)
            rc = weft_await(&ready);
        BENCH_CHECK(rc == 0);
        count++;
    }
    bench_check_equal(count, (uint64_t)n);
    return n;
}

struct pending_once {
    weft_future future;
    bool was_polled;
};

static int poll_pending_once(weft_future *f, weft_waker *waker)
{
    struct pending_once *p = (struct pending_once *)f;
    if (p->was_polled)
        return 0;
    p->was_polled = true;
    weft_waker_wake(waker);
    return WEFT_PENDING;
}

/* A scope around a wait that suspends once: its timer is armed and disarmed. */
static long timeout_yield(long n)
{
    static const weft_future_ops ops = {poll_pending_once, cancel_nothing, "pending once"};
    uint64_t count = 0;
    for (long i = 0; i < n; i++) {
        struct pending_once p = {{&ops}, false};
        int rc = -1;
        WEFT_TIMEOUT(5 * WEFT_SEC)
            rc = weft_await(&p.future);
        BENCH_CHECK(rc == 0);
        count++;
    }
    bench_check_equal(count, (uint64_t)n);
    return n;
}

/* ---- many sleepers ---- */

struct sleepers {
    long n;
    bool are_polled;
    double spawn_ns; /* result: to spawn one */
};

static void *sleep_for(void *arg)
{
    BENCH_CHECK(weft_sleep((uint64_t)(uintptr_t)arg) == 0);
    return NULL;
}

/* The same without a stack. */
struct sleep_future {
    weft_future future;
    uint64_t duration_ns;
    bool is_begun;
    weft_timer timer;
};

static int poll_sleep(weft_future *f, weft_waker *waker)
{
    struct sleep_future *s = (struct sleep_future *)f;
    if (!s->is_begun) {
        BENCH_CHECK(weft_timer_init(&s->timer, weft_now() + s->duration_ns) == 0);
        s->is_begun = true;
    }
    int rc = weft_future_poll(&s->timer.future, waker);
    if (rc != WEFT_PENDING)
        weft_timer_fini(&s->timer);
    return rc;
}

static void cancel_sleep(weft_future *f)
{
    weft_timer_fini(&((struct sleep_future *)f)->timer);
}

static const weft_future_ops sleep_ops = {poll_sleep, cancel_sleep, "sleep"};

static void join_sleepers(weft_task **t, size_t n)
{
    uint64_t count = 0;
    for (size_t i = 0; i < n; i++) {
        weft_outcome o;
        BENCH_CHECK(weft_join(t[i], &o) == 0);
        count += o.kind == WEFT_OUTCOME_VALUE;
    }
    bench_check_equal(count, n);
}

static void *spawn_sleepers(void *arg)
{
    struct sleepers *s = arg;
    size_t n = (size_t)s->n;
    weft_task **t = malloc(n * sizeof *t);
    struct sleep_future *futures = s->are_polled ? calloc(n, sizeof *futures) : NULL;
    BENCH_CHECK(t != NULL && (futures != NULL || !s->are_polled));
    uint64_t random = BENCH_SEED;
    double start = bench_wall_ns();
    for (size_t i = 0; i < n; i++) {
        uint64_t duration_ns = bench_random(&random) % 1000000 * WEFT_US;
        if (futures) {
            futures[i].future.ops = &sleep_ops;
            futures[i].duration_ns = duration_ns;
            BENCH_CHECK(weft_spawn_future(NULL, &futures[i].future, &t[i]) == 0);
        } else {
            BENCH_CHECK(weft_spawn(sleep_for, (void *)(uintptr_t)duration_ns, &t[i]) == 0);
        }
    }
    s->spawn_ns = (bench_wall_ns() - start) / (double)n;
    join_sleepers(t, n);
    free(futures);
    free(t);
    return NULL;
}

/* n tasks that sleep up to a second: processor time for each, and the most memory in use. */
static void sleepers(const struct bench_row *row, const char *threads, long n, bool are_polled)
{
    weft_runtime *rt = bench_runtime(threads);
    struct sleepers s = {.n = n, .are_polled = are_polled};
    double cpu = bench_cpu_ns(), wall = bench_wall_ns();
    (void)bench_in_task(rt, spawn_sleepers, &s);
    wall = bench_wall_ns() - wall;
    cpu = (bench_cpu_ns() - cpu) / (double)n;
    char extra[160];
    snprintf(extra, sizeof extra, "cpu_ns=%.1f wall_ms=%.1f spawn_ns=%.1f hwm_bytes_per_task=%.1f",
             cpu, wall / 1e6, s.spawn_ns, bench_status_bytes("VmHWM") / (double)n);
    bench_report(row, threads, n, n, &cpu, 1, extra);
    BENCH_CHECK(weft_runtime_destroy(rt) == 0);
}

static void timers(const struct bench_row *row, const char *threads, long n)
{
    sleepers(row, threads, n, false);
}

static void timers_polled(const struct bench_row *row, const char *threads, long n)
{
    sleepers(row, threads, n, true);
}

/* ---- lateness ---- */

static void *sleep_and_measure(void *arg)
{
    uint64_t *ns = arg; /* in: how long to sleep; out: how much too long it was */
    uint64_t deadline_ns = weft_now() + *ns;
    BENCH_CHECK(weft_sleep_until(deadline_ns) == 0);
    uint64_t now_ns = weft_now();
    BENCH_CHECK(now_ns >= deadline_ns);
    *ns = now_ns - deadline_ns;
    return NULL;
}

static void *spawn_late(void *arg)
{
    struct sleepers *s = arg;
    size_t n = (size_t)s->n;
    weft_task **t = malloc(n * sizeof *t);
    uint64_t *ns = malloc(n * sizeof *ns);
    BENCH_CHECK(t != NULL && ns != NULL);
    uint64_t random = BENCH_SEED;
    for (size_t i = 0; i < n; i++) {
        ns[i] = (1000 + bench_random(&random) % 99000) * WEFT_US;
        BENCH_CHECK(weft_spawn(sleep_and_measure, &ns[i], &t[i]) == 0);
    }
    join_sleepers(t, n);
    free(t);
    return ns;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* n tasks that sleep 1 to 100 ms: how late do they wake? */
static void measure_lateness(const struct bench_row *row, const char *threads, long n,
                             uint64_t timer_slack_ns)
{
    weft_runtime *rt = bench_runtime_with_slack(threads, timer_slack_ns);
    struct sleepers s = {.n = n};
    uint64_t *late = bench_in_task(rt, spawn_late, &s);
    qsort(late, (size_t)n, sizeof *late, compare_u64);
    double v[3] = {(double)late[0], (double)late[n / 2], (double)late[n - 1]};
    char extra[128];
    snprintf(extra, sizeof extra, "p50_us=%.1f p99_us=%.1f max_us=%.1f", v[1] / 1e3,
             (double)late[n * 99 / 100] / 1e3, v[2] / 1e3);
    bench_report(row, threads, n, n, v, 3, extra);
    free(late);
    BENCH_CHECK(weft_runtime_destroy(rt) == 0);
}

static void lateness(const struct bench_row *row, const char *threads, long n)
{
    measure_lateness(row, threads, n, 0);
}

static void lateness_precise(const struct bench_row *row, const char *threads, long n)
{
    measure_lateness(row, threads, n, 1);
}

/* ---- delay queues ---- */

/* An item put in, put off and taken back, in a queue that holds 1,000 others. */
static long delay_queue_reset(long n)
{
    weft_delay_queue *q;
    weft_delay_key key;
    uint64_t random = BENCH_SEED, item = 0;
    BENCH_CHECK(weft_delay_queue_create(sizeof item, NULL, &q) == 0);
    for (int i = 0; i < 1000; i++)
        BENCH_CHECK(weft_delay_queue_insert(q, &item, WEFT_SEC + bench_random(&random) % WEFT_SEC,
                                            NULL) == 0);
    for (long i = 0; i < n; i++) {
        BENCH_CHECK(weft_delay_queue_insert(q, &item, WEFT_SEC + bench_random(&random) % WEFT_SEC,
                                            &key) == 0);
        BENCH_CHECK(weft_delay_queue_reset(q, key, 2 * WEFT_SEC) == 0);
        BENCH_CHECK(weft_delay_queue_remove(q, key, &item) == 0);
    }
    weft_delay_queue_unref(q);
    return n;
}

/* Taking items that are due, out of up to 1,000. */
static long delay_queue_next(long n)
{
    weft_delay_queue *q;
    uint64_t random = BENCH_SEED, item = 0;
    BENCH_CHECK(weft_delay_queue_create(sizeof item, NULL, &q) == 0);
    long done = 0;
    while (done < n) {
        for (int i = 0; i < 1000; i++)
            BENCH_CHECK(
                weft_delay_queue_insert_at(q, &item, bench_random(&random) % WEFT_SEC, NULL) == 0);
        for (int i = 0; i < 1000; i++, done++)
            BENCH_CHECK(weft_delay_queue_next(q, &item, NULL) == 0);
    }
    weft_delay_queue_unref(q);
    return done;
}

const struct bench_row bench_rows_time[] = {
    {.name = "timeout_ready", .n = 500000, .is_micro = true, .op = timeout_ready},
    {.name = "timeout_yield", .n = 300000, .is_micro = true, .op = timeout_yield},
    {.name = "timers", .n = 100000, .whole = timers},
    {.name = "timers_polled", .n = 100000, .whole = timers_polled},
    {.name = "delay_queue_reset", .n = 200000, .op = delay_queue_reset},
    {.name = "delay_queue_next", .n = 200000, .op = delay_queue_next},
    {.name = "lateness", .n = 2000, .whole = lateness},
    {.name = "lateness_precise", .n = 2000, .whole = lateness_precise},
    {.name = NULL},
};
