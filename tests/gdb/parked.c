/*
 * What tests/gdb/test_gdb.py looks at: tasks parked at known depths, one of each kind that the
 * commands tell apart. Calls stop_here() when all of them wait; then, if the environment says so,
 * abort().
 */
#include <weft/weft.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT __attribute__((noinline))
#define NO_TAIL_CALL __asm__ volatile("" ::: "memory")

static weft_notify never = WEFT_NOTIFY_INIT, soon = WEFT_NOTIFY_INIT;

static KEPT int third(int depth)
{
    int rc = weft_notify_wait(&never);
    NO_TAIL_CALL;
    return rc + depth;
}

static KEPT int second(int depth)
{
    int rc = third(depth + 1);
    NO_TAIL_CALL;
    return rc + depth;
}

static void *first(void *arg)
{
    int rc = second((int)(intptr_t)arg);
    NO_TAIL_CALL;
    return (void *)(intptr_t)rc;
}

static KEPT void *sleeper(void *arg)
{
    (void)weft_sleep(WEFT_NEVER); /* ends with the process */
    NO_TAIL_CALL;
    return arg;
}

/* Functions of the program's may be called as weft's are. */
static KEPT int weft__of_mine(void)
{
    int rc = weft_notify_wait(&never);
    NO_TAIL_CALL;
    return rc;
}

static KEPT int weft_of_mine(void *arg, void **ret_value)
{
    int rc = weft__of_mine();
    *ret_value = arg;
    return rc;
}

/* Waits in a function that weft calls. */
static KEPT void *initialiser(void *arg)
{
    static weft_once once = WEFT_ONCE_INIT;
    int rc = weft_once_get_or_init(&once, weft_of_mine, arg, &arg);
    NO_TAIL_CALL;
    return rc < 0 ? NULL : arg;
}

/* Woken, and not yet on: the one worker has run() to do. */
static KEPT void *waker_upper(void *arg)
{
    if (weft_notify_wait(&soon) < 0)
        return NULL;
    NO_TAIL_CALL;
    return arg;
}

static int pend(weft_future *f, weft_waker *waker)
{
    (void)f, (void)waker;
    return WEFT_PENDING;
}

static void cancel(weft_future *f)
{
    (void)f;
}

/* By what a dump says of them. */
static KEPT uint64_t count_waiting(void)
{
    static char text[1 << 16];
    weft_dump_options o = {.without_traces = true};
    uint64_t count = 0;
    FILE *f = tmpfile();
    if (f == NULL || weft_dump_with(NULL, fileno(f), &o) < 0)
        exit(1); /* not abort(), which is for run() alone */
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    for (const char *p = text; (p = strstr(p, ") waits")) != NULL; p++)
        count++;
    return count;
}

/* Where the debugger stops. */
static KEPT void stop_here(uint64_t parked)
{
    printf("%llu wait\n", (unsigned long long)parked);
    NO_TAIL_CALL;
}

static int run(void *arg)
{
    static const weft_future_ops ops = {pend, cancel, "a future of the test"};
    static weft_future future = {&ops};
    uint64_t count = *(uint64_t *)arg;
    for (uint64_t i = 0; i < count; i++) {
        weft_spawn_options o = {.name = i == 0 ? "the first" : NULL};
        if (weft_spawn_with(&o, first, (void *)(intptr_t)(100 + i), NULL) < 0)
            return 1;
    }
    weft_spawn_options named = {.name = "sleeper", .priority = WEFT_PRIORITY_BACKGROUND};
    if (weft_spawn_with(&named, sleeper, NULL, NULL) < 0 ||
        weft_spawn_future(NULL, &future, NULL) < 0)
        return 1;
    named = (weft_spawn_options){.name = "initialiser"};
    if (weft_spawn_with(&named, initialiser, NULL, NULL) < 0)
        return 1;
    named = (weft_spawn_options){.name = "runnable"};
    if (weft_spawn_with(&named, waker_upper, NULL, NULL) < 0)
        return 1;
    while (count_waiting() < count + 4)
        if (weft_sleep(WEFT_MS) < 0)
            return 1;
    weft_notify_one(&soon);
    stop_here(count);
    if (getenv("PARKED_ABORTS") != NULL)
        abort();
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 3;
    weft_config config;
    weft_config_init(&config);
    config.shutdown_grace_ns = 0;
    config.workers = 1;
    return weft_run_with(&config, run, &count);
}
