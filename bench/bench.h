/*
 * The benchmark program: a table of rows, one harness that repeats and reports them.
 *
 * Only public headers of weft are used: a row is something a user could write. A row either is a
 * function that one task runs and that the harness repeats (op), or measures and reports by itself,
 * once a process (whole).
 */
#ifndef WEFT_BENCH_BENCH_H
#define WEFT_BENCH_BENCH_H

#include <weft/weft.h>

#include <stdio.h>

struct bench_row {
    const char *name;
    long n;        /* operations in the table of all rows */
    bool is_micro; /* tools/check-instructions counts it */
    /* Runs n operations inside a task, all over when it returns. Returns how many it did, which may
     * be n rounded down to whole batches. */
    long (*op)(long n);
    /* Instead: measures and reports. */
    void (*whole)(const struct bench_row *row, const char *threads, long n);
};

/* Rows, by file; each table ends with a row without a name. */
extern const struct bench_row bench_rows_task[];
extern const struct bench_row bench_rows_priority[];
extern const struct bench_row bench_rows_time[];
extern const struct bench_row bench_rows_locks[];
extern const struct bench_row bench_rows_chan[];
extern const struct bench_row bench_rows_select[];
extern const struct bench_row bench_rows_blocking[];
extern const struct bench_row bench_rows_memory[];
extern const struct bench_row bench_rows_scale[]; /* not in the table of all rows */

/* A failed call ends the program: a benchmark must not time errors. */
#define BENCH_CHECK(cond) ((cond) ? (void)0 : bench_fail(__FILE__, __LINE__, #cond))
__attribute__((noreturn)) void bench_fail(const char *file, int line, const char *cond);

/* What a row came to, and what it must be: at least once in each row. BENCH_WRONG in the
 * environment makes every such check fail: tools/bench-peers sees by it that a row has one. */
void bench_check_equal(uint64_t is, uint64_t must_be);
/* 0 + 1 + ... + (n - 1) */
static inline uint64_t bench_sum_below(long n)
{
    return (uint64_t)n * (uint64_t)(n - 1) / 2;
}

/* The runtime that `threads` names: "ct" (current_thread), or a number of workers. */
weft_runtime *bench_runtime(const char *threads);
weft_runtime *bench_runtime_with_slack(const char *threads, uint64_t timer_slack_ns);
/* Repetitions that are measured: REPS in the environment, 7. */
int bench_reps(void);

/* Runs body(arg) in a task of rt, on a worker, and waits for its end. Returns its value. */
void *bench_in_task(weft_runtime *rt, weft_task_fn body, void *arg);

/* Nanoseconds: monotonic, and of processor time of the whole process. */
double bench_wall_ns(void);
double bench_cpu_ns(void);
/* A value of /proc/self/status in bytes: "VmRSS", "VmHWM". */
double bench_status_bytes(const char *key);
/* xorshift64: the same numbers in each run. */
uint64_t bench_random(uint64_t *state);
#define BENCH_SEED UINT64_C(0x9E3779B97F4A7C15)

/* Prints `row weft threads n median min max ops=ops extra`; sorts v. ops: done in each
 * repetition. */
void bench_report(const struct bench_row *row, const char *threads, long n, long ops, double *v,
                  int count, const char *extra);

/* Before and after what tools/check-instructions counts, under callgrind. */
void bench_count_toggle(void);

/*
 * A value passed once from one task to another: the least that can be built on the public protocol
 * of futures. Sending is the last touch of it, so it may live in the frame of the receiver.
 */
struct bench_oneshot {
    weft_future future; /* weft_await() it: 0 once sent */
    _Atomic(uintptr_t) word;
};
void bench_oneshot_init(struct bench_oneshot *o);
void bench_oneshot_send(struct bench_oneshot *o);

#endif
