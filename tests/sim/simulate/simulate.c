/*
 * weft-simulate: random programs in random worlds, one a seed.
 *
 *     weft-simulate COUNT [FIRST]          seeds FIRST (1) to FIRST + COUNT - 1
 *         -j N      in so many processes at a time
 *         -d        in this process: for a debugger
 *         -v        log lines of weft go to stderr, and the result of each seed to stdout
 *
 * Seeds run in children, so that one that crashes or hangs is told like any other. A seed that
 * fails is printed with the command that runs it again; every eighth is run twice, and must take
 * the same steps. Exit status 1 when one failed, or was not run.
 */
#include "program.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FAILURES_MAX 20
#define HANGS_AFTER_S 60
#define REPLAY_EVERY 8

struct progress {
    volatile uint64_t seed; /* that the child is at */
    volatile uint64_t steps, segments, tasks, bytes;
    volatile uint64_t ran;   /* seeds, to their end or to that of their process */
    volatile int failed;     /* in this child */
    volatile bool has_ended; /* the child has come to the end of its seeds */
};

static const char *program;
static bool is_verbose;

static void swallow(enum weft_log_level level, const char *line, void *arg)
{
    (void)level, (void)line, (void)arg;
}

static void report(uint64_t seed, const char *why)
{
    printf("seed %" PRIu64 " failed: %s\n    %s 1 %" PRIu64 " -d -v\n", seed, why, program, seed);
    (void)fflush(stdout);
}

/* True when all held. */
static bool run_seed(uint64_t seed, struct progress *p)
{
    weft_sim_result first, again;
    char why[256];
    p->seed = seed;
    if (!program_run(seed, &first, why, sizeof(why))) {
        report(seed, why);
        return false;
    }
    p->steps += first.steps;
    p->segments += first.segments;
    p->bytes += first.bytes;
    p->tasks += first.spawned;
    if (is_verbose)
        printf("seed %" PRIu64 ": hash %016" PRIx64 ", %" PRIu64 " turns, %" PRIu64
               " tasks, %" PRIu64 " ms, %" PRIu64 " segments, %" PRIu64 " resets\n",
               seed, first.trace_hash, first.steps, first.spawned, first.time_ns / WEFT_MS,
               first.segments, first.resets);
    if (seed % REPLAY_EVERY != 0)
        return true;
    if (!program_run(seed, &again, why, sizeof(why))) {
        report(seed, why);
        return false;
    }
    if (again.trace_hash != first.trace_hash)
        report(seed, "a second run took other steps");
    return again.trace_hash == first.trace_hash;
}

/* Seeds from *seed on, in steps; how many failed. */
static int run_seeds(uint64_t from, uint64_t end, uint64_t step, struct progress *p)
{
    p->failed = 0;
    p->has_ended = false;
    for (uint64_t seed = from; seed < end && p->failed < FAILURES_MAX; seed += step) {
        (void)alarm(HANGS_AFTER_S);
        bool holds = run_seed(seed, p);
        p->ran++;
        p->failed += !holds;
    }
    p->has_ended = true;
    return p->failed;
}

/* In a child, again after each crash; how many failed. */
static int run_guarded(uint64_t from, uint64_t end, uint64_t step, struct progress *p)
{
    int failed = 0;
    while (from < end && failed < FAILURES_MAX) {
        int status;
        p->seed = from;
        p->failed = 0;
        p->has_ended = false;
        pid_t child = fork();
        if (child < 0) {
            perror("fork");
            return failed + 1;
        }
        if (child == 0)
            exit(run_seeds(from, end, step, p));
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            continue;
        /* Sanitizers end a process with a status of their own, which says nothing of seeds. */
        if (p->has_ended && WIFEXITED(status) && WEXITSTATUS(status) == p->failed)
            return failed + p->failed;
        failed += p->failed;
        p->ran += !p->has_ended;
        char why[64];
        (void)snprintf(why, sizeof(why), "%s%s %d", p->has_ended ? "after the last one, " : "",
                       WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hangs: signal"
                       : WIFSIGNALED(status)                              ? "signal"
                                                                          : "exit status",
                       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        report(p->seed, why);
        failed++;
        from = p->seed + step;
    }
    return failed;
}

static uint64_t number(const char *text)
{
    char *end;
    errno = *text >= '0' && *text <= '9' ? 0 : EINVAL;
    uint64_t n = strtoull(text, &end, 10);
    if (*text == '\0' || *end != '\0' || errno != 0) {
        (void)fprintf(stderr, "%s: \"%s\" is no number\n", program, text);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    uint64_t numbers[2] = {0, 1}, jobs = 1;
    int given = 0;
    bool is_direct = false;
    program = argv[0];
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-d") == 0)
            is_direct = true;
        else if (strcmp(argv[i], "-v") == 0)
            is_verbose = true;
        else if (strcmp(argv[i], "-j") == 0 && i + 1 < argc)
            jobs = number(argv[++i]);
        else if (given < 2)
            numbers[given++] = number(argv[i]);
        else
            numbers[0] = 0;
    }
    if (numbers[0] == 0 || numbers[0] > UINT64_MAX - numbers[1] || jobs == 0) {
        (void)fprintf(stderr, "usage: %s COUNT [FIRST] [-j N] [-d] [-v]\n", program);
        return 2;
    }
    if (!is_verbose)
        weft_log_set(swallow, NULL);
    uint64_t from = numbers[1], end = from + numbers[0];
    struct progress *p =
        mmap(NULL, jobs * sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    struct timespec began, ended;
    (void)clock_gettime(CLOCK_MONOTONIC, &began);
    int failed = 0;
    if (is_direct) {
        failed = run_seeds(from, end, 1, p);
    } else {
        (void)fflush(stdout);
        for (uint64_t k = 0; k < jobs; k++) {
            pid_t guard = fork();
            if (guard == 0)
                exit(run_guarded(from + k, end, jobs, &p[k]) != 0);
            failed += guard < 0;
        }
        for (int status; wait(&status) > 0;)
            failed += status != 0;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &ended);
    double s =
        (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9;
    struct progress sum = {0};
    for (uint64_t k = 0; k < jobs; k++) {
        sum.steps += p[k].steps;
        sum.tasks += p[k].tasks;
        sum.segments += p[k].segments;
        sum.bytes += p[k].bytes;
        sum.ran += p[k].ran;
    }
    failed += sum.ran != numbers[0];
    printf("%" PRIu64 " of %" PRIu64 " seeds from %" PRIu64 " on: %s; %.0f a second, %" PRIu64
           " tasks, %" PRIu64 " turns of threads, %" PRIu64 " segments, %" PRIu64 " bytes\n",
           sum.ran, numbers[0], from, failed ? "FAILED" : "all held", (double)sum.ran / s,
           sum.tasks, sum.steps, sum.segments, sum.bytes);
    return failed != 0;
}
