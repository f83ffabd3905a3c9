/*
 *   weft-bench                        all rows with 1 and with 2 workers: below a minute
 *   weft-bench <row> <threads> <n>    one row: n operations; threads: workers, or ct
 *   weft-bench --scale                what an operation costs with 10 tasks and with a million, on
 *                                     one core and on all; needs some 6 GB
 *   weft-bench --list                 the rows; tools/check-instructions counts those marked *
 *
 * A line is `row weft threads n median min max key=value...`, in nanoseconds for one operation.
 * After one warm-up the row is repeated REPS times (environment; 7). ops is what one repetition
 * did: n, rounded down to whole batches; cpu_ns is processor time of the whole process for one
 * operation, cores that time over the wall time. The programs of bench/peers/ print the same line.
 */
#include "bench.h"

#include <errno.h>
#include <stdbool.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REPS_MAX 99

static const struct bench_row *const tables[] =
    {
        bench_rows_task,  bench_rows_priority, bench_rows_time,     bench_rows_locks,
        bench_rows_chan,  bench_rows_select,   bench_rows_blocking, bench_rows_memory,
        bench_rows_scale, /* last: --scale prints them apart */
};
#define TABLES (sizeof tables / sizeof *tables)

#define SCALE_TASKS_MAX 1000000

void bench_fail(const char *file, int line, const char *cond)
{
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, cond);
    _exit(1);
}

/* ---- what rows use ---- */

static uint64_t wrong; /* by how much results are taken to be */

void bench_check_equal(uint64_t is, uint64_t must_be)
{
    if (is != must_be + wrong) {
        fprintf(stderr, "wrong result: %" PRIu64 " instead of %" PRIu64 "\n", is, must_be + wrong);
        _exit(1);
    }
}

weft_runtime *bench_runtime_with_slack(const char *threads, uint64_t timer_slack_ns)
{
    weft_config config;
    weft_config_init(&config);
    config.timer_slack_ns = timer_slack_ns;
    if (strcmp(threads, "ct") == 0) {
        config.flavor = WEFT_FLAVOR_CURRENT_THREAD;
        config.workers = 1;
    } else {
        config.workers = (unsigned)strtoul(threads, NULL, 10);
    }
    weft_runtime *rt;
    BENCH_CHECK(weft_runtime_create(&config, &rt) == 0);
    return rt;
}

weft_runtime *bench_runtime(const char *threads)
{
    return bench_runtime_with_slack(threads, 0);
}

int bench_reps(void)
{
    const char *text = getenv("REPS");
    int reps = text ? atoi(text) : 7;
    return reps < 1 ? 1 : reps > REPS_MAX ? REPS_MAX : reps;
}

static double clock_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

double bench_wall_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

double bench_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

double bench_status_bytes(const char *key)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long kib = 0;
    size_t len = strlen(key);
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, len) == 0 && line[len] == ':')
            kib = atol(line + len + 1);
    if (f)
        fclose(f);
    return (double)kib * 1024;
}

uint64_t bench_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 20;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bench_report(const struct bench_row *row, const char *threads, long n, long ops, double *v,
                  int count, const char *extra)
{
    qsort(v, (size_t)count, sizeof *v, compare_doubles);
    printf("%s weft %s %ld %.1f %.1f %.1f ops=%ld %s\n", row->name, threads, n, v[count / 2], v[0],
           v[count - 1], ops, extra);
    fflush(stdout);
}

struct call {
    weft_task_fn body;
    void *arg, *value;
};

static void *spawn_and_join(void *arg)
{
    struct call *c = arg;
    weft_task *t;
    weft_outcome o;
    BENCH_CHECK(weft_spawn(c->body, c->arg, &t) == 0);
    BENCH_CHECK(weft_join(t, &o) == 0);
    BENCH_CHECK(o.kind == WEFT_OUTCOME_VALUE);
    c->value = o.value;
    return NULL;
}

void *bench_in_task(weft_runtime *rt, weft_task_fn body, void *arg)
{
    struct call c = {body, arg, NULL};
    BENCH_CHECK(weft_block_on(rt, spawn_and_join, &c, NULL) == 0);
    return c.value;
}

/* ---- one row ---- */

struct run {
    const struct bench_row *row;
    long n;
    bool is_warm_up;
    long done;
    double wall_ns;
};

static void *run_op(void *arg)
{
    struct run *r = arg;
    if (!r->is_warm_up)
        bench_count_toggle();
    double start = bench_wall_ns();
    r->done = r->row->op(r->n);
    r->wall_ns = bench_wall_ns() - start;
    if (!r->is_warm_up)
        bench_count_toggle();
    return NULL;
}

static void run_row(const struct bench_row *row, const char *threads, long n)
{
    if (row->whole) {
        row->whole(row, threads, n);
        return;
    }
    weft_runtime *rt = bench_runtime(threads);
    int reps = bench_reps();
    double v[REPS_MAX], cpu = 0, wall = 0;
    struct run r = {.row = row, .n = n};
    for (int rep = -1; rep < reps; rep++) {
        if (rep == 0) {
            cpu = bench_cpu_ns();
            wall = bench_wall_ns();
        }
        r.is_warm_up = rep < 0;
        (void)bench_in_task(rt, run_op, &r);
        BENCH_CHECK(r.done > 0);
        if (rep >= 0)
            v[rep] = r.wall_ns / (double)r.done;
    }
    cpu = bench_cpu_ns() - cpu;
    wall = bench_wall_ns() - wall;
    char extra[96];
    snprintf(extra, sizeof extra, "cpu_ns=%.1f cores=%.2f", cpu / (double)r.done / reps,
             cpu / wall);
    bench_report(row, threads, n, r.done, v, reps, extra);
    BENCH_CHECK(weft_runtime_destroy(rt) == 0);
}

static const struct bench_row *find_row(const char *name)
{
    for (size_t i = 0; i < TABLES; i++)
        for (const struct bench_row *row = tables[i]; row->name; row++)
            if (strcmp(row->name, name) == 0)
                return row;
    fprintf(stderr, "there is no row '%s'; --list names them\n", name);
    exit(2);
}

/* ---- all rows ---- */

/* In a process of its own, so that none finds the memory or the threads of another. Returns its
 * exit status, and its line. */
static int run_apart(const struct bench_row *row, const char *threads, const char *n, char *line,
                     size_t cap)
{
    int fds[2];
    BENCH_CHECK(pipe(fds) == 0);
    pid_t pid = fork();
    BENCH_CHECK(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], 1);
        close(fds[0]);
        close(fds[1]);
        execl("/proc/self/exe", "weft-bench", row->name, threads, n, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    FILE *f = fdopen(fds[0], "r");
    BENCH_CHECK(f != NULL);
    if (fgets(line, (int)cap, f) == NULL)
        line[0] = '\0';
    fclose(f);
    int status;
    BENCH_CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct result {
    double median, min, max;
    char extra[256];
};

static bool run_line(const struct bench_row *row, const char *threads, long tasks,
                     struct result *ret)
{
    char line[512], n[24];
    snprintf(n, sizeof n, "%ld", tasks);
    ret->extra[0] = '\0';
    int status = run_apart(row, threads, n, line, sizeof line);
    if (status == 0 && sscanf(line, "%*s weft %*s %*s %lf %lf %lf %255[^\n]", &ret->median,
                              &ret->min, &ret->max, ret->extra) >= 3)
        return true;
    printf("%-22s %7s failed with status %d\n", row->name, threads, status);
    return false;
}

static int run_all(void)
{
    int failed = 0;
    printf("%-22s %7s %9s %10s %10s %10s  (ns for one operation)\n", "row", "threads", "n",
           "median", "min", "max");
    for (size_t i = 0; i < TABLES - 1; i++)
        for (const struct bench_row *row = tables[i]; row->name; row++)
            for (int threads = 1; threads <= 2; threads++) {
                const char *text = threads == 1 ? "1" : "2";
                struct result r;
                if (!run_line(row, text, row->n, &r)) {
                    failed = 1;
                    continue;
                }
                printf("%-22s %7s %9ld %10.1f %10.1f %10.1f  %s\n", row->name, text, row->n,
                       r.median, r.min, r.max, r.extra);
                fflush(stdout);
            }
    return failed;
}

/* ---- from few tasks to many, from one core to all ---- */

static int run_scale(void)
{
    int failed = 0;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    printf("%-16s %7s", "ns, by tasks", "threads");
    for (long tasks = 10; tasks <= SCALE_TASKS_MAX; tasks *= 10)
        printf(" %9ld", tasks);
    printf("\n");
    for (const struct bench_row *row = bench_rows_scale; row->name; row++)
        /* 1, 2, 4, ... and all */
        for (long threads = 1, last = 0; threads > last;
             last = threads, threads = threads * 2 < cores ? threads * 2 : cores) {
            char text[24];
            snprintf(text, sizeof text, "%ld", threads);
            printf("%-16s %7ld", row->name, threads);
            for (long tasks = 10; tasks <= SCALE_TASKS_MAX; tasks *= 10) {
                struct result r;
                fflush(stdout);
                if (run_line(row, text, tasks, &r))
                    printf(" %9.1f", r.median);
                else
                    failed = 1;
            }
            printf("\n");
        }
    return failed;
}

static int list(void)
{
    for (size_t i = 0; i < TABLES; i++)
        for (const struct bench_row *row = tables[i]; row->name; row++)
            printf("%s%s\n", row->name, row->is_micro ? " *" : "");
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: weft-bench [<row> <threads>|ct <n> | --scale | --list]\n");
    return 2;
}

/* More than 0, or the program ends. */
static long number(const char *text)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno != 0 || *end != '\0' || n <= 0) {
        fprintf(stderr, "'%s' is no number above 0\n", text);
        exit(2);
    }
    return n;
}

/* A task that spawns a million others keeps its worker for so long that the log says so. */
static void print_errors(enum weft_log_level level, const char *line, void *arg)
{
    (void)arg;
    if (level == WEFT_LOG_ERROR)
        fprintf(stderr, "weft: %s\n", line);
}

int main(int argc, char **argv)
{
    weft_log_set(print_errors, NULL);
    wrong = getenv("BENCH_WRONG") != NULL;
    if (argc == 1)
        return run_all();
    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return list();
    if (argc == 2 && strcmp(argv[1], "--scale") == 0)
        return run_scale();
    if (argc != 4)
        return usage();
    if (strcmp(argv[2], "ct") != 0)
        (void)number(argv[2]);
    run_row(find_row(argv[1]), argv[2], number(argv[3]));
    return 0;
}
