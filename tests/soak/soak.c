#include "soak.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PLAYS_AT_ONCE 40
#define EPISODE_MAX_NS (5 * WEFT_SEC)
#define HANG_S 90     /* beyond its episode's end */
#define CPU_SHARE 0.8 /* of one core */

struct soak_account soak;

static atomic_ulong failures;

/* ---- checks, random numbers ---- */

void soak_violated(const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (atomic_fetch_add(&failures, 1) < 20) /* the first say it all */
        (void)fprintf(stderr, "soak: VIOLATED: %s\n", text);
}

void soak_failed(const char *file, int line, const char *what)
{
    soak_violated("%s:%d: %s", file, line, what);
}

/* splitmix64; S. Vigna, public domain. */
uint64_t soak_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Panics that nobody joins and tasks that stick are part of the play. Anything else is not. */
static void count_line(enum weft_log_level level, const char *line, void *arg)
{
    static const char *const usual[] = {"as it happens", "is stuck for"};
    (void)level, (void)arg;
    atomic_fetch_add(&soak.log_lines, 1);
    if (line[0] == ' ')
        return; /* belongs to the line before: which task it is, and where it stands */
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
        if (strstr(line, usual[i]))
            return;
    soak_violated("the log: %s", line);
}

/* ---- the runtimes ---- */

struct stage {
    const char *name;
    enum weft_flavor flavor;
    bool measures; /* every task's wait, which makes every run take the path with hooks */
    weft_runtime *rt;
    weft_handle *handle;
    unsigned long episodes;
};

static struct stage stages[] = {
    {.name = "multi_thread", .flavor = WEFT_FLAVOR_MULTI_THREAD},
    {.name = "current_thread", .flavor = WEFT_FLAVOR_CURRENT_THREAD},
    {.name = "multi_thread, measured", .flavor = WEFT_FLAVOR_MULTI_THREAD, .measures = true},
    {.name = "current_thread, measured", .flavor = WEFT_FLAVOR_CURRENT_THREAD, .measures = true},
};
#define STAGES (sizeof stages / sizeof stages[0])

static void run_begins(const weft_task_meta *task, void *arg)
{
    (void)arg;
    if (task->latency_ns != WEFT_NEVER)
        soak_waited(task->latency_ns, task->site->func);
}

static void stage_build(struct stage *s)
{
    weft_config c;
    weft_config_init(&c);
    c.name = s->name;
    c.flavor = s->flavor;
    c.workers = 2;
    c.blocking_threads_max = 8;
    c.blocking_keep_alive_ns = WEFT_SEC;
    c.measure_latency = s->measures;
    c.on_task_run_begin = s->measures ? run_begins : NULL;
    int rc = weft_runtime_create(&c, &s->rt);
    if (rc < 0) {
        (void)fprintf(stderr, "soak: no runtime: %s\n", strerror(-rc));
        exit(2);
    }
    s->handle = weft_runtime_handle(s->rt);
}

static void stage_tear_down(struct stage *s)
{
    EXPECT(weft_runtime_destroy(s->rt) == 0);
    weft_handle_unref(s->handle);
}

/* ---- episodes ---- */

struct episode {
    struct stage *stage;
    uint64_t seed;
    uint64_t end_ns;
};

struct play_arg {
    uint64_t seed;
    const struct soak_play *play;
};

static void *run_play(void *arg)
{
    struct play_arg a = *(struct play_arg *)arg;
    int rc = a.play->fn(&a.seed);
    EXPECT(soak_is_usual(rc));
    atomic_fetch_add(&soak.plays, 1);
    return NULL;
}

static const struct soak_play *choose(uint64_t *seed, bool has_workers)
{
    unsigned total = 0;
    for (size_t i = 0; i < soak_play_count; i++)
        total += soak_plays[i].weight;
    for (;;) {
        uint64_t at = soak_below(seed, total);
        const struct soak_play *p = soak_plays;
        for (; at >= p->weight; p++)
            at -= p->weight;
        if (has_workers || !p->is_for_workers)
            return p;
    }
}

static double cpu_seconds(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts); /* always there on Linux */
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void *spin_for_too_long(void *arg)
{
    uint64_t end_ns = weft_now() + 2 * WEFT_SEC;
    while (weft_now() < end_ns)
        ;
    return arg;
}

static void *sleep_for_ever(void *arg)
{
    for (;;)
        pause();
    return arg;
}

/* What a bug of weft's would do, at each end of an episode. */
static void break_a_promise(void)
{
    pthread_t thread;
    switch (soak.broken) {
    case SOAK_BREAK_NOTHING:
        break;
    case SOAK_BREAK_MEMORY: {
        char *volatile lost = malloc((size_t)256 << 10);
        if (lost)
            memset(lost, 1, (size_t)256 << 10);
        break;
    }
    case SOAK_BREAK_DESCRIPTORS:
        EXPECT(dup(STDERR_FILENO) >= 0);
        break;
    case SOAK_BREAK_MAPPINGS: /* of two kinds in turn, which the kernel cannot merge */
        for (int i = 0; i < 8; i++)
            EXPECT(mmap(NULL, 4096, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                        0) != MAP_FAILED);
        break;
    case SOAK_BREAK_THREADS:
        EXPECT(pthread_create(&thread, NULL, sleep_for_ever, NULL) == 0);
        break;
    case SOAK_BREAK_LATENCY:
        EXPECT(weft_spawn(spin_for_too_long, NULL, NULL) == 0);
        break;
    case SOAK_BREAK_VALUES:
        atomic_fetch_add(&soak.values_made, 1);
        break;
    }
}

static void count_outcome(const weft_outcome *o)
{
    atomic_fetch_add(&soak.aborted, o->kind == WEFT_OUTCOME_CANCELLED);
    atomic_fetch_add(&soak.panicked, o->kind == WEFT_OUTCOME_PANICKED);
}

/* Half of the episodes end by aborting what is left. */
static void drain(weft_join_set *set, bool by_abort)
{
    weft_outcome o;
    int rc;
    if (by_abort)
        weft_join_set_abort_all(set);
    while ((rc = weft_join_set_join_next(set, &o)) == 0) {
        count_outcome(&o);
        weft_outcome_fini(&o);
    }
    EXPECT(rc == -ENOENT);
}

static void join_aborted(weft_task *task)
{
    weft_outcome o;
    EXPECT(weft_abort(task) == 0);
    EXPECT(weft_join(task, &o) == 0);
    weft_outcome_fini(&o);
}

static void play_until(weft_join_set *set, struct episode *e)
{
    weft_abort_handle *recent[16] = {NULL};
    bool has_workers = e->stage->flavor == WEFT_FLAVOR_MULTI_THREAD;
    double cpu_before = cpu_seconds();
    uint64_t began_ns = weft_now();
    while (weft_now() < e->end_ns) {
        if (weft_join_set_len(set) < PLAYS_AT_ONCE) {
            struct play_arg a = {soak_random(&e->seed), choose(&e->seed, has_workers)};
            weft_spawn_options o = {.name = a.play->name, .arg_bytes = sizeof a};
            weft_abort_handle **slot = &recent[soak_below(&e->seed, 16)];
            if (*slot && soak_below(&e->seed, 3) == 0)
                weft_abort_handle_abort(*slot);
            weft_abort_handle_unref(*slot);
            EXPECT(weft_join_set_spawn_with(set, &o, run_play, &a, slot) == 0);
            continue;
        }
        weft_outcome o;
        int rc = 0;
        WEFT_TIMEOUT(50 * WEFT_MS)
            rc = weft_join_set_join_next(set, &o);
        if (rc == 0) {
            count_outcome(&o);
            weft_outcome_fini(&o);
        }
        double wall = (double)(weft_now() - began_ns) * 1e-9;
        while (cpu_seconds() - cpu_before > CPU_SHARE * wall && weft_sleep(5 * WEFT_MS) == 0)
            wall = (double)(weft_now() - began_ns) * 1e-9;
    }
    for (int i = 0; i < 16; i++)
        weft_abort_handle_unref(recent[i]);
}

/* What an episode has left in the runtime: nothing. */
static void check_calm(uint64_t alive_before)
{
    weft_metrics m = {0};
    uint64_t end_ns = weft_now() + 20 * WEFT_SEC;
    do {
        EXPECT(weft_sleep(WEFT_MS) == 0);
        EXPECT(weft_metrics_get(NULL, &m) == 0);
    } while (m.alive_tasks > alive_before && weft_now() < end_ns);
    if (m.alive_tasks > alive_before)
        soak_violated("%llu tasks are left", (unsigned long long)(m.alive_tasks - alive_before));
    if (m.fds_registered != m.fds_deregistered)
        soak_violated("descriptors registered: %llu, deregistered: %llu",
                      (unsigned long long)m.fds_registered, (unsigned long long)m.fds_deregistered);
    unsigned long made = atomic_load(&soak.values_made), freed = atomic_load(&soak.values_freed);
    if (made != freed)
        soak_violated("values: %lu made, %lu freed", made, freed);
    unsigned long open = atomic_load(&soak.conns_open), closed = atomic_load(&soak.conns_closed);
    if (open != closed)
        soak_violated("connections: %lu opened, %lu closed", open, closed);
}

static void *run_episode(void *arg)
{
    struct episode *e = arg;
    weft_join_set *set;
    weft_task *server = NULL, *probe = NULL;
    weft_metrics m = {0};
    EXPECT(weft_metrics_get(NULL, &m) == 0);
    EXPECT(soak_server_start(&server) == 0);
    EXPECT(weft_spawn(soak_probe, NULL, &probe) == 0);
    EXPECT(weft_join_set_create(&set) == 0);
    play_until(set, e);
    break_a_promise();
    drain(set, soak_below(&e->seed, 2));
    weft_join_set_destroy(set);
    join_aborted(probe);
    join_aborted(server);
    check_calm(m.alive_tasks);
    return NULL;
}

/* ---- a hang is a failure ---- */

static struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const struct episode *episode; /* lock; NULL: nothing runs */
    bool stop;                     /* lock */
} guard = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *watch_for_hangs(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&guard.lock);
    while (!guard.stop) {
        struct timespec until;
        (void)clock_gettime(CLOCK_REALTIME, &until); /* always there on Linux */
        until.tv_sec++;
        (void)pthread_cond_timedwait(&guard.changed, &guard.lock, &until);
        const struct episode *e = guard.episode;
        if (e && weft_now() > e->end_ns + HANG_S * WEFT_SEC) {
            (void)fprintf(stderr, "soak: VIOLATED: %s hangs; its tasks:\n", e->stage->name);
            (void)weft_dump(e->stage->handle, STDERR_FILENO); /* all we have */
            abort();
        }
    }
    pthread_mutex_unlock(&guard.lock);
    return NULL;
}

static void guard_set(const struct episode *e, bool stop)
{
    pthread_mutex_lock(&guard.lock);
    guard.episode = e;
    guard.stop = stop;
    pthread_cond_signal(&guard.changed);
    pthread_mutex_unlock(&guard.lock);
}

static void play_episode(struct stage *s, uint64_t seed, uint64_t length_ns)
{
    struct episode e = {s, seed, weft_now() + length_ns};
    weft_outcome o = {0};
    guard_set(&e, false);
    EXPECT(weft_block_on(s->rt, run_episode, &e, &o) == 0);
    EXPECT(o.kind == WEFT_OUTCOME_VALUE);
    weft_outcome_fini(&o);
    guard_set(NULL, false);
    s->episodes++;
}

/* ---- the whole ---- */

static void print_line(const char *what, uint64_t began_ns, const struct soak_gauge *g)
{
    (void)printf(
        "%s%5llu s: %lu plays, %lu aborted, %lu panicked; %lu values, %lu selects, %lu timeouts, "
        "%lu jobs; %lu connections, %lu MiB, %lu half closed, %lu reset; longest wait %.1f ms "
        "(machine %.1f ms); heap %.2f MiB, resident %.1f MiB, %u descriptors, %u mappings, "
        "%u threads; %lu log lines, %lu violations\n",
        what, (unsigned long long)((weft_now() - began_ns) / WEFT_SEC), soak.plays, soak.aborted,
        soak.panicked, soak.values_made, soak.selects, soak.timeouts, soak.jobs,
        soak.conns_open / 2, soak.bytes >> 20, soak.half_closes, soak.resets,
        (double)soak_waited_max_take() * 1e-6, (double)soak_clock_late_ns() * 1e-6,
        (double)g->heap_bytes / (1 << 20), (double)g->rss_bytes / (1 << 20), g->descriptors,
        g->mappings, g->threads, soak.log_lines, failures);
    (void)fflush(stdout);
}

/* Between episodes the runtimes hold what they keep warm; that must not grow for ever. */
static void check_growth(const struct soak_gauge *early, const struct soak_gauge *late)
{
    size_t slack = (size_t)1 << 20;
    if (late->heap_bytes > early->heap_bytes + slack)
        soak_violated("heap between episodes: %zu bytes early, %zu late", early->heap_bytes,
                      late->heap_bytes);
    if (late->descriptors > early->descriptors)
        soak_violated("descriptors between episodes: %u early, %u late", early->descriptors,
                      late->descriptors);
}

static void play_all(const char *what, uint64_t seed, uint64_t length_ns, uint64_t began_ns)
{
    uint64_t end_ns = began_ns + length_ns, line_ns = began_ns + 60 * WEFT_SEC;
    uint64_t episode_ns = length_ns / (2 * STAGES);
    if (episode_ns > EPISODE_MAX_NS)
        episode_ns = EPISODE_MAX_NS;
    struct soak_gauge early = {0}, g;
    for (size_t i = 0; i < STAGES; i++)
        stage_build(&stages[i]);
    for (unsigned long n = 0; n < STAGES || weft_now() < end_ns; n++) {
        play_episode(&stages[n % STAGES], soak_random(&seed), episode_ns);
        soak_gauge_read(&g);
        if (n == STAGES - 1)
            early = g;
        if (weft_now() >= line_ns) {
            print_line(what, began_ns, &g);
            line_ns += 60 * WEFT_SEC;
        }
    }
    check_growth(&early, &g);
    for (size_t i = 0; i < STAGES; i++)
        stage_tear_down(&stages[i]);
    print_line(what, began_ns, &g);
}

static enum soak_break parse_break(const char *name)
{
    static const char *const names[] = {"nothing", "memory",  "descriptors", "mappings",
                                        "threads", "latency", "values"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum soak_break)i;
    (void)fprintf(stderr, "soak: break what? %s\n", name);
    exit(2);
}

/* Threads come and go: with their stacks given back at once, and memory from one arena, what the
 * process holds afterwards is comparable to what it held before. glibc reads this at start. */
static void restart_with_tunables(char **argv)
{
    if (getenv("GLIBC_TUNABLES"))
        return;
    (void)setenv("GLIBC_TUNABLES", "glibc.pthread.stack_cache_size=0:glibc.malloc.arena_max=1", 1);
    (void)execv("/proc/self/exe", argv); /* fails without /proc: then less is comparable */
}

int main(int argc, char **argv)
{
    restart_with_tunables(argv);
    uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 60;
    uint64_t seed =
        argc > 2 && strtoull(argv[2], NULL, 0) ? strtoull(argv[2], NULL, 0) : weft_now();
    enum soak_break to_break = argc > 3 ? parse_break(argv[3]) : SOAK_BREAK_NOTHING;
    (void)printf("soak: %llu s, seed %llu\n", (unsigned long long)seconds,
                 (unsigned long long)seed);
    (void)fflush(stdout);
    weft_log_set(count_line, NULL);
    if (pthread_create(&guard.thread, NULL, watch_for_hangs, NULL) != 0)
        return 2;
    soak_clock_start();

    /* Libraries, caches and the first stacks: what the process takes once. */
    uint64_t warm_up_seed = seed;
    play_all("warm-up ", soak_random(&warm_up_seed), 4 * WEFT_SEC, weft_now());
    struct soak_gauge before, after;
    soak_gauge_read_at_rest(&before, 3); /* this one, the guard, and the clock */
    soak.broken = to_break;
    play_all("", seed, seconds * WEFT_SEC, weft_now());
    soak_gauge_read_at_rest(&after, 3);
    bool is_back = soak_gauge_is_back(&before, &after);

    soak_clock_stop();
    guard_set(NULL, true);
    pthread_join(guard.thread, NULL);
    unsigned long failed = atomic_load(&failures);
    (void)printf("soak: before: heap %zu, resident %zu, %u descriptors, %u mappings, %u threads\n"
                 "soak: after:  heap %zu, resident %zu, %u descriptors, %u mappings, %u threads\n"
                 "soak: %s\n",
                 before.heap_bytes, before.rss_bytes, before.descriptors, before.mappings,
                 before.threads, after.heap_bytes, after.rss_bytes, after.descriptors,
                 after.mappings, after.threads,
                 is_back && failed == 0 ? "all is as it was" : "FAILED");
    return failed == 0 ? 0 : 1;
}
