/*
 * What the peers in C and C++ share: clocks, the check of a result, the repetition and the line of
 * a row, as weft-bench has them.
 */
#ifndef WEFT_BENCH_PEERS_PEER_H
#define WEFT_BENCH_PEERS_PEER_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Exit status of a program that has no such row. */
#define PEER_NO_ROW 3

static inline double peer_clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline double peer_wall_ns(void)
{
    return peer_clock_ns(CLOCK_MONOTONIC);
}

static inline double peer_cpu_ns(void)
{
    return peer_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* A value of /proc/self/status in bytes. */
static inline double peer_status_bytes(const char *key)
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

/* xorshift64: the same numbers as in weft-bench. */
#define PEER_SEED UINT64_C(0x9E3779B97F4A7C15)
static inline uint64_t peer_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 20;
}

/* BENCH_WRONG makes it fail always: tools/bench-peers sees by it that a row checks its result. */
static inline void peer_check_equal(uint64_t is, uint64_t must_be)
{
    must_be += getenv("BENCH_WRONG") != NULL;
    if (is == must_be)
        return;
    fprintf(stderr, "wrong result: %" PRIu64 " instead of %" PRIu64 "\n", is, must_be);
    _Exit(1);
}

/* 0 + 1 + ... + (n - 1) */
static inline uint64_t peer_sum_below(long n)
{
    return (uint64_t)n * (uint64_t)(n - 1) / 2;
}

static inline int peer_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct peer_run {
    const char *row, *peer, *threads;
    long n;
};

static inline void peer_report(const struct peer_run *r, long ops, double *v, int count,
                               const char *extra)
{
    qsort(v, (size_t)count, sizeof *v, peer_compare);
    printf("%s %s %s %ld %.1f %.1f %.1f ops=%ld %s\n", r->row, r->peer, r->threads, r->n,
           v[count / 2], v[0], v[count - 1], ops, extra);
    fflush(stdout);
}

/* One warm-up, and REPS repetitions of op(n), which returns how many operations it did. */
static inline void peer_repeat(const struct peer_run *r, long (*op)(long n))
{
    const char *text = getenv("REPS");
    int reps = text ? atoi(text) : 7;
    reps = reps < 1 ? 1 : reps > 99 ? 99 : reps;
    double v[99];
    long ops = op(r->n);
    double cpu = peer_cpu_ns(), wall = peer_wall_ns();
    for (int rep = 0; rep < reps; rep++) {
        double start = peer_wall_ns();
        ops = op(r->n);
        v[rep] = (peer_wall_ns() - start) / (double)ops;
    }
    cpu = peer_cpu_ns() - cpu;
    wall = peer_wall_ns() - wall;
    char extra[96];
    snprintf(extra, sizeof extra, "cpu_ns=%.1f cores=%.2f", cpu / (double)ops / reps, cpu / wall);
    peer_report(r, ops, v, reps, extra);
}

/* Sets n; exits on arguments that are not `<row> <threads> <n>`. */
static inline struct peer_run peer_arguments(const char *peer, int argc, char **argv)
{
    struct peer_run r = {NULL, peer, NULL, 0};
    if (argc == 4) {
        r.row = argv[1];
        r.threads = argv[2];
        r.n = atol(argv[3]);
    }
    if (r.n <= 0 || atoi(r.threads) <= 0) {
        fprintf(stderr, "usage: %s <row> <threads> <n>\n", argv[0]);
        exit(2);
    }
    return r;
}

static inline int peer_no_row(const struct peer_run *r)
{
    fprintf(stderr, "there is no row '%s' for %s with %s threads\n", r->row, r->peer, r->threads);
    return PEER_NO_ROW;
}

#endif
