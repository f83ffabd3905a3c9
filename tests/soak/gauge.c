#include "soak.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

/* How much of each may be left that nobody lost: malloc keeps small blocks in a cache of the
 * thread, whose count as used; the kernel merges neighbouring mappings or does not. */
#define HEAP_SLACK_BYTES ((size_t)128 << 10)
#define RSS_SLACK_BYTES ((size_t)8 << 20)
#define MAPPINGS_SLACK 8
#define WAIT_MAX_NS WEFT_SEC

/* ---- what the process holds ---- */

static unsigned count_entries(const char *path)
{
    unsigned n = 0;
    DIR *d = opendir(path);
    if (d == NULL)
        return 0;
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static unsigned count_lines(const char *path)
{
    char buf[4096];
    unsigned n = 0;
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    while ((got = read(fd, buf, sizeof buf)) > 0)
        for (ssize_t i = 0; i < got; i++)
            n += buf[i] == '\n';
    close(fd);
    return n;
}

static size_t resident_bytes(void)
{
    char buf[128];
    unsigned long size = 0, resident = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, buf, sizeof buf - 1);
    close(fd);
    buf[n > 0 ? n : 0] = '\0';
    if (sscanf(buf, "%lu %lu", &size, &resident) != 2)
        return 0;
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t heap_bytes(void)
{
#ifdef __GLIBC__
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
#else
    return 0; /* not told */
#endif
}

void soak_gauge_read(struct soak_gauge *g)
{
    g->heap_bytes = heap_bytes();
    g->rss_bytes = resident_bytes();
    g->descriptors = count_entries("/proc/self/fd");
    g->mappings = count_lines("/proc/self/maps");
    g->threads = count_entries("/proc/self/task");
}

/* A joined thread is on the kernel's list for a moment longer. */
void soak_gauge_read_at_rest(struct soak_gauge *g, unsigned threads)
{
    uint64_t end_ns = weft_now() + 10 * WEFT_SEC;
    struct timespec ts = {.tv_nsec = WEFT_MS};
    while (count_entries("/proc/self/task") > threads && weft_now() < end_ns)
        (void)nanosleep(&ts, NULL); /* about as long will do */
    soak_gauge_read(g);
}

static bool is_back(const char *what, size_t before, size_t after, size_t slack)
{
    if (after <= before + slack)
        return true;
    soak_violated("%s: %zu before, %zu after", what, before, after);
    return false;
}

bool soak_gauge_is_back(const struct soak_gauge *before, const struct soak_gauge *after)
{
    bool heap = is_back("bytes of heap", before->heap_bytes, after->heap_bytes, HEAP_SLACK_BYTES);
    bool rss = is_back("resident bytes", before->rss_bytes, after->rss_bytes, RSS_SLACK_BYTES);
    bool fds = is_back("descriptors", before->descriptors, after->descriptors, 0);
    bool maps = is_back("mappings", before->mappings, after->mappings, MAPPINGS_SLACK);
    bool threads = is_back("threads", before->threads, after->threads, 0);
    return heap && rss && fds && maps && threads;
}

/* ---- how late a plain thread is ---- */

#define LATE_SLOTS 8 /* of half a second each */

static struct {
    pthread_t thread;
    atomic_bool stop;
    atomic_ulong late_ns[LATE_SLOTS];
    atomic_uint slot;
} ticks;

static void note_max(atomic_ulong *max, uint64_t ns)
{
    unsigned long seen = atomic_load(max);
    while (ns > seen && !atomic_compare_exchange_weak(max, &seen, ns))
        ;
}

static void *tick(void *arg)
{
    (void)arg;
    uint64_t slot_ends_ns = weft_now();
    while (!atomic_load(&ticks.stop)) {
        uint64_t due_ns = weft_now() + 10 * WEFT_MS;
        struct timespec ts = {.tv_nsec = 10 * WEFT_MS};
        (void)nanosleep(&ts, NULL); /* nobody interrupts it */
        uint64_t now_ns = weft_now();
        if (now_ns >= slot_ends_ns) {
            unsigned next = (atomic_load(&ticks.slot) + 1) % LATE_SLOTS;
            atomic_store(&ticks.late_ns[next], 0);
            atomic_store(&ticks.slot, next);
            slot_ends_ns = now_ns + WEFT_SEC / 2;
        }
        note_max(&ticks.late_ns[atomic_load(&ticks.slot)], now_ns > due_ns ? now_ns - due_ns : 0);
    }
    return NULL;
}

void soak_clock_start(void)
{
    atomic_store(&ticks.stop, false);
    if (pthread_create(&ticks.thread, NULL, tick, NULL) != 0)
        soak_violated("no thread for the clock");
}

void soak_clock_stop(void)
{
    atomic_store(&ticks.stop, true);
    pthread_join(ticks.thread, NULL);
}

uint64_t soak_clock_late_ns(void)
{
    uint64_t max = 0;
    for (unsigned i = 0; i < LATE_SLOTS; i++) {
        uint64_t late = atomic_load(&ticks.late_ns[i]);
        max = late > max ? late : max;
    }
    return max;
}

/* ---- how long tasks wait ---- */

static atomic_ulong waited_max_ns;

void soak_waited(uint64_t latency_ns, const char *what)
{
    note_max(&waited_max_ns, latency_ns);
    if (latency_ns <= WAIT_MAX_NS)
        return;
    uint64_t late_ns = soak_clock_late_ns();
    if (latency_ns > WAIT_MAX_NS + late_ns)
        soak_violated("%s: a runnable task waited for %llu ms; a plain thread was %llu ms late",
                      what, (unsigned long long)(latency_ns / WEFT_MS),
                      (unsigned long long)(late_ns / WEFT_MS));
}

uint64_t soak_waited_max_take(void)
{
    return atomic_exchange(&waited_max_ns, 0);
}

static void *note_start(void *arg)
{
    soak_waited(weft_now() - *(const uint64_t *)arg, "spawn to run");
    return NULL;
}

void *soak_probe(void *arg)
{
    (void)arg;
    for (;;) {
        uint64_t due_ns = weft_now() + 20 * WEFT_MS;
        if (weft_sleep_until(due_ns) < 0)
            return NULL;
        soak_waited(weft_now() - due_ns, "timer to run");
        uint64_t yielded_ns = weft_now();
        if (weft_yield() < 0)
            return NULL;
        soak_waited(weft_now() - yielded_ns, "yield to run");
        uint64_t spawned_ns = weft_now();
        weft_spawn_options o = {.arg_bytes = sizeof spawned_ns};
        EXPECT(weft_spawn_with(&o, note_start, &spawned_ns, NULL) == 0);
    }
}
